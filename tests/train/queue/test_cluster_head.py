"""The head of a Ray cluster is killed while a training runs on a node, with and without a Redis server behind it."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import textwrap
from pathlib import Path

import pytest
from ray_cluster import ray_cluster
from record_site import Somebody
from test_worker import BEGIN, until

from core.records.database.db import Database
from core.records.queue import DONE, QUEUED
from core.settings import REPOSITORY, Settings
from train.queue import trainings

WORKERS = "127.0.0.9"
"""The address of the node that the worker talks to."""
WORKS = """
import sys
sys.path.insert(0, sys.argv[1])
import ray
init = ray.init
ray.init = lambda **given: init(_node_ip_address=sys.argv[3], **given)  # by itself it takes the head of this machine
from core.records.database.db import open_database
from core.settings import Settings
from train.queue.cluster import RayExecutor
from train.queue.worker import TrainingWork, Worker
db = open_database(Settings.from_environment())
Worker(db, TrainingWork(db, RayExecutor(db.settings, fit=(sys.argv[2],))), lease_seconds=5).work()
"""
TRAINS = """
sys.path.insert(0, os.getcwd())
from train.queue.child import end_with_parent
end_with_parent()
print("pid", os.getpid(), flush=True)
for number in range(done + 1, 4):
    while not Path(__file__).with_name(f"go-{number}").exists():
        time.sleep(0.05)
    epoch(number)
card()
"""
GIVES_UP_SECONDS = "15"
"""After which nodes and workers believe that a head is gone for good; Ray's own is 60."""


@pytest.fixture
def record_settings(tmp_path: Path) -> Settings:
    return Settings(state_dir=tmp_path / "state", weights_dir=tmp_path / "weights")


def working(db: Database, environment: dict[str, str], script: Path) -> subprocess.Popen[bytes]:
    """A worker in a process of its own: Ray ends the process that it has lost its head in."""
    with (script.parent / "worker.txt").open("ab") as words:
        return subprocess.Popen(
            [sys.executable, "-c", WORKS, str(REPOSITORY), str(script), WORKERS],
            env={**os.environ, **environment, "SECONDREAD_STATE_DIR": str(db.settings.state_dir)},
            stdout=words, stderr=words,
        )  # fmt: skip


@pytest.mark.parametrize("has_redis", [True, False])
def test_a_training_goes_on_after_the_head_was_killed(
    records: Database, admin: Somebody, version: int, job_id: int, tmp_path: Path, has_redis: bool
) -> None:
    if has_redis and shutil.which("redis-server") is None:
        pytest.skip("there is no redis-server on this machine")
    request = trainings.load_job(records, admin, job_id).request
    script = tmp_path / "training.py"
    script.write_text(BEGIN + textwrap.dedent(TRAINS))
    patience = {} if has_redis else {"RAY_gcs_rpc_server_reconnect_timeout_s": GIVES_UP_SECONDS}

    def epochs() -> list[int]:
        return [epoch.epoch for epoch in trainings.epochs_of(records, admin, job_id)]

    with ray_cluster({"SECONDREAD_STATE_DIR": str(records.settings.state_dir), **patience}, has_redis=has_redis) as of:
        head, nodes = of.head, [of.add_node(0, WORKERS), of.add_node(1)]
        given = {**of.environment, **patience, "SECONDREAD_RAY_ADDRESS": of.address}
        worker = working(records, given, script)
        try:
            (tmp_path / "go-1").touch()
            alive = [worker, head.process, *(node.process for node in nodes)]
            until(lambda: epochs() == [1] or any(process.poll() is not None for process in alive))
            words = [tmp_path / "worker.txt", *(node.log for node in (head, *nodes))]
            assert epochs() == [1], [path.read_text()[-2000:] for path in words]
            head.kill()
            if has_redis:
                (tmp_path / "go-2").touch()
                until(lambda: epochs() == [1, 2])  # the node and the worker need no head for what they have in hand
                second = trainings.enqueue(records, admin, request, version)
            else:
                worker.wait(120)
                pid = int(trainings.log_tail(records, admin, job_id).split("pid ")[1].split()[0])
                until(lambda: not Path(f"/proc/{pid}").exists())
            of.start_head()
            (tmp_path / "go-2").touch()
            (tmp_path / "go-3").touch()
            if not has_redis:  # the nodes of the lost head are of no cluster
                for node in nodes:
                    node.kill()
                of.add_node(0, WORKERS)
                of.add_node(1)
                worker = working(records, given, script)  # as the application does
            until(lambda: not trainings.load_job(records, admin, job_id).is_open)
            row = trainings.load_job(records, admin, job_id)
            assert row.state == DONE and epochs() == [1, 2, 3], (
                row.message,
                trainings.log_tail(records, admin, job_id),
            )
            assert row.attempts == (1 if has_redis else 2)
            if has_redis:
                until(lambda: trainings.load_job(records, admin, second).state not in (QUEUED, "running"))
                assert trainings.load_job(records, admin, second).state == DONE
        finally:
            worker.kill()
            worker.wait(30)


def test_a_training_and_what_waits_go_on_after_redis_was_killed_and_started_again(
    records: Database, admin: Somebody, version: int, job_id: int, tmp_path: Path
) -> None:
    if shutil.which("redis-server") is None:
        pytest.skip("there is no redis-server on this machine")
    request = trainings.load_job(records, admin, job_id).request
    script = tmp_path / "training.py"
    script.write_text(BEGIN + textwrap.dedent(TRAINS))

    def epochs() -> list[int]:
        return [epoch.epoch for epoch in trainings.epochs_of(records, admin, job_id)]

    with ray_cluster({"SECONDREAD_STATE_DIR": str(records.settings.state_dir)}, has_redis=True) as of:
        nodes = [of.add_node(0, WORKERS), of.add_node(1)]
        worker = working(records, {**of.environment, "SECONDREAD_RAY_ADDRESS": of.address}, script)
        try:
            (tmp_path / "go-1").touch()
            until(lambda: epochs() == [1] or worker.poll() is not None)
            of.kill_redis()
            (tmp_path / "go-2").touch()
            until(lambda: epochs() == [1, 2])  # nobody needs Redis for what is in hand
            until(lambda: of.head.process.poll() is not None)  # a head without its Redis ends itself
            of.head.kill()
            of.start_redis_again()
            of.start_head()
            (tmp_path / "go-3").touch()
            until(lambda: not trainings.load_job(records, admin, job_id).is_open)
            row = trainings.load_job(records, admin, job_id)
            assert row.state == DONE and row.attempts == 1 and epochs() == [1, 2, 3], row.message
            second = trainings.enqueue(records, admin, request, version)
            until(lambda: not trainings.load_job(records, admin, second).is_open)
            assert trainings.load_job(records, admin, second).state == DONE
            assert worker.poll() is None and all(node.process.poll() is None for node in nodes)
        finally:
            worker.kill()
            worker.wait(30)
