"""The network between machines is cut while a training or a back-read runs, and healed again.

Machines are network namespaces (`namespaces`); the state folder is one that all reach at any time, which is the hard
case: who is cut off from the cluster or from PostgreSQL could still write.
"""

from __future__ import annotations

import os
import subprocess
import sys
import textwrap
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import suppress
from dataclasses import replace
from pathlib import Path

import pytest
from namespaces import Network, network, started
from ray_cluster import ray_cluster
from record_site import PostgresServer, Somebody, add_person, find_postgres, picture
from release_site import SHIPPED
from sqlalchemy import select
from test_cluster import works
from test_worker import BEGIN, until

from core.records.database import tables
from core.records.database.db import BUSY_SECONDS, Database
from core.records.queue import DONE
from core.records.reads import back_reads
from core.records.reads.studies import create_study
from core.serving import cluster as serving_cluster
from core.serving.loops import ENDS_WITH_PARENT
from core.settings import REPOSITORY, Settings
from train.queue import trainings
from train.queue.child import NodeLost
from train.queue.cluster import RayExecutor

LEASE_SECONDS = 3.0
TRAINS = """
sys.path.insert(0, os.getcwd())
from train.commands.fit import working_folder
from train.queue.child import end_with_parent
end_with_parent()
here = Path(__file__).parent
def wrote():
    with (here / "wrote.txt").open("a") as file:
        file.write(f"{os.getpid()}\\n")
(here / f"began-{os.getpid()}").touch()
with working_folder(work):
    done = len(lines.read_text().splitlines()) if lines.exists() else 0
    for number in range(done + 1, 4):
        epoch(number)
        wrote()
        while number == 1 and not (here / "go").exists():
            wrote()
            time.sleep(0.1)
    card()
"""
WORKS = """
import sys
sys.path.insert(0, sys.argv[1])
from core.records.database.db import open_database
from core.settings import Settings
from train.queue.child import LocalExecutor
from train.queue.worker import TrainingWork, Worker
db = open_database(Settings.from_environment())
work = TrainingWork(db, LocalExecutor(db.settings, (sys.executable, sys.argv[2])))
Worker(db, work, lease_seconds=float(sys.argv[3]), machine=sys.argv[4]).work()
"""
HOLDS = """
import sys, time
from pathlib import Path
sys.path.insert(0, sys.argv[1])
from sqlalchemy import text
from core.errors import DatabaseAway
from core.records.database import db as db_file
from core.records.database.locks import AdvisoryLock, hold
from core.settings import Settings
db_file.BUSY_SECONDS = 3
db = db_file.open_database(Settings.from_environment())
go = Path(sys.argv[2])
for name in ("first", "second"):
    try:
        with db.begin() as connection:
            hold(connection, AdvisoryLock.QUEUE)
            print("held", flush=True)
            while not go.with_name(name).exists():
                time.sleep(0.05)
            print("got", connection.execute(text("SELECT 7")).scalar_one(), flush=True)
    except DatabaseAway as away:
        print("away:", away, flush=True)
        while not go.with_name("healed").exists():
            time.sleep(0.05)
"""


@pytest.fixture(scope="module")
def cables() -> Iterator[Network]:
    with network() as made:
        yield made


@pytest.fixture(scope="module")
def far_postgres(cables: Network) -> Iterator[PostgresServer]:
    server = find_postgres(cables.here)
    if isinstance(server, str):
        pytest.skip(server)
    yield server
    server.stop()


@pytest.fixture
def record_settings(tmp_path: Path, far_postgres: PostgresServer) -> Settings:
    return Settings(
        state_dir=tmp_path / "state", weights_dir=tmp_path / "weights", database_url=far_postgres.database_with_tables()
    )


@pytest.fixture
def script(tmp_path: Path) -> Path:
    path = tmp_path / "training.py"
    path.write_text(BEGIN + textwrap.dedent(TRAINS))
    return path


def environment_of(settings: Settings) -> dict[str, str]:
    return {
        **os.environ, "SECONDREAD_STATE_DIR": str(settings.state_dir),
        "SECONDREAD_DATABASE_URL": settings.database_url, "PYTHONUNBUFFERED": "1",
    }  # fmt: skip


def program(cables: Network, machine: str, settings: Settings, *arguments: str) -> subprocess.Popen[bytes]:
    """A Python program on this machine, which ends with the test."""
    words = settings.state_dir.with_name(f"words-{machine}.txt").open("ab")
    with words:
        return started(
            cables, machine, [sys.executable, "-c", ENDS_WITH_PARENT, *arguments], cwd=REPOSITORY,
            env=environment_of(settings), stdin=subprocess.DEVNULL, stdout=words, stderr=words,
        )  # fmt: skip


def writers(script: Path) -> list[str]:
    """Process of each write into the working folder, one after the other; those in a row count once."""
    with suppress(OSError):
        pids = script.with_name("wrote.txt").read_text().split()
        return [pid for number, pid in enumerate(pids) if number == 0 or pids[number - 1] != pid]
    return []


def epochs(db: Database, admin: Somebody, job_id: int) -> list[int]:
    return [epoch.epoch for epoch in trainings.epochs_of(db, admin, job_id)]


def test_a_node_that_is_cut_off_and_still_reaches_the_share_never_trains_at_the_same_time_as_the_next(
    cables: Network, records: Database, admin: Somebody, job_id: int, script: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    impatient = {
        "RAY_health_check_period_ms": "1000", "RAY_health_check_timeout_ms": "1000",
        "RAY_gcs_rpc_server_reconnect_timeout_s": "30", "RAY_grpc_client_keepalive_time_ms": "5000",
        "RAY_grpc_client_keepalive_timeout_ms": "5000", "SECONDREAD_STATE_DIR": str(records.settings.state_dir),
    }  # fmt: skip
    first, second = cables.add(), cables.add()
    with ray_cluster(impatient, network=cables) as cluster:
        for name, value in cluster.environment.items():
            monkeypatch.setenv(name, value)
        there = replace(records.settings, ray_address=cluster.address)
        runs = RayExecutor(there, fit=(str(script),))
        lost: list[float] = []

        def take() -> None:
            try:
                works(records, runs, LEASE_SECONDS).work_once()
            except NodeLost:
                lost.append(time.monotonic())

        try:
            cluster.add_node(1, first)
            thread = threading.Thread(target=take, daemon=True)
            thread.start()
            until(lambda: epochs(records, admin, job_id) == [1])
            cables.cut(first)
            time.sleep(2)  # shorter than anybody's patience: nothing is lost
            cables.heal(first)
            time.sleep(4)
            assert not lost and thread.is_alive() and len(writers(script)) == 1

            cluster.add_node(1, second)
            cables.cut(first)
            thread.join(90)
            assert lost and len(writers(script)) == 1
            until(lambda: take_again(take) and len(list(script.parent.glob("began-*"))) == 2)
            assert len(writers(script)) == 1  # the second one waits for the first
            until(lambda: len(writers(script)) == 2)  # the node has given up, and ended what it ran
            script.with_name("go").touch()
            until(lambda: not trainings.load_job(records, admin, job_id).is_open)
            row = trainings.load_job(records, admin, job_id)
            assert row.state == DONE and row.attempts == 2, row.message
            assert len(writers(script)) == 2 and epochs(records, admin, job_id) == [1, 2, 3]
        finally:
            cables.heal(first)
            script.with_name("go").touch()
            serving_cluster.let_go()


_TAKING: list[threading.Thread] = []


def take_again(take: Callable[[], None]) -> bool:
    """One worker that looks for a row as long as it finds none; True."""
    if not _TAKING or not _TAKING[-1].is_alive():
        _TAKING.append(threading.Thread(target=take, daemon=True))
        _TAKING[-1].start()
    return True


def test_a_worker_that_is_cut_off_from_postgres_loses_its_job_to_one_attempt_at_a_time(
    cables: Network, records: Database, admin: Somebody, job_id: int, script: Path
) -> None:
    far = cables.add()
    arguments = ["-c", WORKS, str(REPOSITORY), str(script), str(LEASE_SECONDS)]
    first = program(cables, far, records.settings, *arguments, "far")
    processes = [first]
    try:
        until(lambda: epochs(records, admin, job_id) == [1])
        cables.cut(far)
        processes.append(program(cables, cables.here, records.settings, *arguments, "near"))
        until(lambda: trainings.load_job(records, admin, job_id).attempts == 2)
        until(lambda: len(list(script.parent.glob("began-*"))) == 2)
        time.sleep(2)
        assert len(writers(script)) == 1  # the far one goes on, and the near one waits for it
        cables.heal(far)
        until(lambda: len(writers(script)) == 2)  # the far one was told that the job is not its own any more
        script.with_name("go").touch()
        until(lambda: not trainings.load_job(records, admin, job_id).is_open)
        row = trainings.load_job(records, admin, job_id)
        assert row.state == DONE and row.attempts == 2 and row.machine == "near", row.message
        assert len(writers(script)) == 2 and epochs(records, admin, job_id) == [1, 2, 3]
        assert first.poll() is None  # and takes the next one
        second = trainings.enqueue(records, admin, row.request, row.version_id)
        until(lambda: trainings.load_job(records, admin, second).state == DONE)
    finally:
        cables.heal(far)
        for process in processes:
            process.kill()
            process.wait(30)


def test_a_back_read_goes_on_without_a_machine_that_is_cut_off_and_with_it_afterwards_each_study_once(
    cables: Network, records: Database, admin: Somebody, tmp_path: Path
) -> None:
    ada = add_person(records, "Ada Two")
    for number in range(6):
        create_study(records, ada, display_name="x", images=[picture(number)])
    number = back_reads.start(records, admin, [SHIPPED])
    read = tmp_path / "read.txt"
    machines = [cables.add(), cables.add()]

    def asked() -> list[list[str]]:
        """Machine and image of each question to a model."""
        return [line.split() for line in read.read_text().splitlines()] if read.exists() else []

    arguments = [str(REPOSITORY / "tests" / "slow_reads.py"), str(read), str(number), str(LEASE_SECONDS)]
    processes = [program(cables, machine, records.settings, *arguments, machine) for machine in machines]
    table = tables.back_read_study

    def rows() -> list[tuple[str, int]]:
        with records.read() as connection:
            query = select(table.c.state, table.c.attempts).where(table.c.back_read_id == number)
            return [(row.state, row.attempts) for row in connection.execute(query.order_by(table.c.id))]

    lost, near = machines
    try:
        until(lambda: len(asked()) == 2)  # each has one in hand, and waits
        cables.cut(lost)
        time.sleep(LEASE_SECONDS + 1)
        (tmp_path / "go").touch()  # the one that is cut off has its answer now, and nobody to give it to
        until(lambda: not back_reads.is_open(records, number) or processes[1].poll() is not None)
        assert back_reads.load(records, admin, number).counts == {"done": 6}
        said = back_reads.scores_csv(records, admin, number)
        cables.heal(lost)
        for process in processes:
            assert process.wait(120) == 0, (tmp_path / f"words-{lost}.txt").read_text()[-2000:]
        assert sorted(rows()) == [(DONE, 1)] * 5 + [(DONE, 2)]
        assert back_reads.scores_csv(records, admin, number) == said  # nothing was added or replaced
        sums = [image for _, image in asked()]
        assert len(sums) == 7 and len(set(sums)) == 6
        assert [machine for machine, _ in asked()].count(near) == 6
    finally:
        cables.heal(lost)
        for process in processes:
            process.kill()
            process.wait(30)


def test_a_machine_that_is_cut_off_in_a_transaction_holds_no_lock_for_hours_and_knows_that_it_was_cut_off(
    cables: Network, records: Database, admin: Somebody, job_id: int, tmp_path: Path
) -> None:
    far = cables.add()
    holder = program(cables, far, records.settings, "-c", HOLDS, str(REPOSITORY), str(tmp_path / "go"))
    path = tmp_path / f"words-{far}.txt"

    def words() -> list[str]:
        return path.read_text().splitlines()

    try:
        until(lambda: "held" in words() or holder.poll() is not None)
        assert holder.poll() is None, words()
        cables.cut(far)
        began = time.monotonic()
        lease = trainings.QUEUE.claim(records, worker="near", machine="near")  # waits for the lock
        assert lease is not None and lease.id == job_id and 1 < time.monotonic() - began < BUSY_SECONDS
        (tmp_path / "first").touch()
        until(lambda: words()[-1].startswith("away: The database"))
        cables.heal(far)
        (tmp_path / "healed").touch()
        (tmp_path / "second").touch()
        until(lambda: words()[-1] == "got 7" or holder.poll() is not None)
        assert words()[-1] == "got 7", words()
    finally:
        cables.heal(far)
        holder.kill()
        holder.wait(30)
