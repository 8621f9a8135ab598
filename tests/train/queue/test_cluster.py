"""Trainings on a real Ray cluster on loopback: the same row, log, cancel and resume as here; a node that is killed."""

from __future__ import annotations

import io
import json
import subprocess
import sys
import textwrap
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from dataclasses import replace
from datetime import timedelta
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from made_images import blots
from PIL import Image as PillowImage
from ray_cluster import RayCluster, RayNode, ray_cluster
from record_site import add_person, picture
from release_site import SHIPPED
from sqlalchemy import update
from test_worker import BEGIN, until

from core.__main__ import main
from core.demo.phantoms import ultrasound_image
from core.errors import Conflict, InvalidSettings
from core.models.live import candidate_dir
from core.records import data_sets
from core.records.database import tables
from core.records.database.db import Database, open_database
from core.records.people.permissions import Person
from core.records.queue import CANCELLED, DONE, FAILED, QUEUED, RUNNING
from core.records.reads import back_reads
from core.records.reads.studies import create_study
from core.serving import cluster as serving_cluster
from core.serving.loops import on_every_node
from core.settings import REPOSITORY, Settings
from core.types import Modality
from train.__main__ import main as train
from train.queue import trainings
from train.queue.child import LocalExecutor, NodeLost
from train.queue.cluster import RayExecutor
from train.queue.supervision import machine_name, training_slots
from train.queue.worker import TrainingWork, Worker, executor_of
from train.recipe.request import FitRequest


@pytest.fixture(scope="module")
def state_of_nodes(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """What the environment of the nodes names as the state folder."""
    return tmp_path_factory.mktemp("nodes") / "state"


@pytest.fixture(scope="module")
def cluster(state_of_nodes: Path) -> Iterator[RayCluster]:
    """A head and nothing else; each test that needs a node adds one. One driver for all: a process has one cluster."""
    with pytest.MonkeyPatch.context() as patch, ray_cluster({"SECONDREAD_STATE_DIR": str(state_of_nodes)}) as running:
        for name, value in running.environment.items():
            patch.setenv(name, value)
        yield running
        serving_cluster.let_go()


@pytest.fixture(scope="module")
def node(cluster: RayCluster) -> RayNode:
    added = cluster.add_node()
    settings = Settings(ray_address=cluster.address)
    until(lambda: sum(one.cpus for one in serving_cluster.nodes_of(settings) if one.is_alive) == 1)
    return added


@pytest.fixture
def record_settings(tmp_path: Path, cluster: RayCluster) -> Settings:
    return Settings(
        state_dir=tmp_path / "state", weights_dir=tmp_path / "weights", ray_address=cluster.address, ray_trainings=2
    )


@pytest.fixture
def training(records: Database, tmp_path: Path) -> Callable[[str], RayExecutor]:
    def of(body: str) -> RayExecutor:
        script = tmp_path / "training.py"
        script.write_text(BEGIN + textwrap.dedent(body))
        return RayExecutor(records.settings, fit=(str(script),))

    return of


def blots_data_set(db: Database, admin: Person) -> tuple[int, Path]:
    """60 small pictures, split by patients: the version's id and its manifest."""
    lines = ["file,label,patient,split"]
    for number, (label, pixels) in enumerate(blots(bright=200, dark=60)):
        png = io.BytesIO()
        PillowImage.fromarray(pixels).save(png, "png")
        split = ("train", "train", "train", "validation", "test")[(number // 4) % 5]
        lines.append(f"{data_sets.store_file(db.settings, png.getvalue(), 'png')},{label},p{number // 4},{split}")
    version = data_sets.create_data_set(
        db, admin, name="Blots", modality=Modality.ULTRASOUND, manifest="\n".join([*lines, ""]).encode(),
        split={}, counts={"train": {"benign": 18, "malignant": 18}}, found={"leaking": False},
    )  # fmt: skip
    with db.read() as connection:
        return version, data_sets.checked_manifest(
            db.settings, data_sets.find_version(connection, version).manifest_sha256
        )


def works(db: Database, runs: RayExecutor, lease_seconds: float = 30) -> Worker:
    return Worker(db, TrainingWork(db, runs), machine="place 1", lease_seconds=lease_seconds)


def test_a_training_on_a_node_has_row_log_epochs_and_candidate_as_one_here(
    node: RayNode, records: Database, admin: Person, job_id: int, training: Callable[[str], RayExecutor]
) -> None:
    body = """
    print('hello from', os.getppid())
    (work / "step.json").write_text('{"part": "", "epoch": 1, "step": 1, "steps": 2, "device": "CPU"}')
    [epoch(n) for n in range(1, 5)]; card()
    """
    assert works(records, training(body)).work_once()
    row = trainings.load_job(records, admin, job_id)
    assert row.state == DONE, row.message
    assert (candidate_dir(records.settings, job_id) / "ultrasound-cnn" / "card.json").is_file()
    assert [epoch.epoch for epoch in trainings.epochs_of(records, admin, job_id)] == [1, 2, 3, 4]
    text = trainings.log_tail(records, admin, job_id)
    assert "attempt 1" in text and "hello from" in text
    assert row.device == "CPU on node 127.0.0.3" and row.attempts == 1


def test_a_cancel_ends_it_on_the_node_within_seconds(
    node: RayNode, records: Database, admin: Person, job_id: int, training: Callable[[str], RayExecutor]
) -> None:
    thread = threading.Thread(
        target=works(records, training("print('pid', os.getpid(), flush=True); epoch(1); time.sleep(300)")).work_once
    )
    thread.start()
    until(lambda: trainings.epochs_of(records, admin, job_id))
    until(lambda: trainings.load_job(records, admin, job_id).memory_mib)
    pid = int(trainings.log_tail(records, admin, job_id).split("pid ")[1].split()[0])
    trainings.cancel(records, admin, job_id)
    thread.join(60)
    assert trainings.load_job(records, admin, job_id).state == CANCELLED
    assert not Path(f"/proc/{pid}").exists()


def test_a_failure_on_the_node_is_the_same_sentence(
    node: RayNode, records: Database, admin: Person, job_id: int, training: Callable[[str], RayExecutor]
) -> None:
    works(records, training("sys.exit('The split leaks.')")).work_once()
    row = trainings.load_job(records, admin, job_id)
    assert row.state == FAILED and row.message == "The split leaks."


def test_a_node_that_does_not_see_the_state_folder_is_said(
    node: RayNode,
    records: Database,
    admin: Person,
    job_id: int,
    training: Callable[[str], RayExecutor],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr("train.queue.cluster.REPOSITORY", Path("/nowhere"))
    works(records, training("card()")).work_once()
    row = trainings.load_job(records, admin, job_id)
    assert row.state == FAILED and "does not see the state folder" in row.message


def test_a_study_is_read_on_a_node_and_comes_back_with_its_heat_maps(
    node: RayNode, cluster: RayCluster, tmp_path: Path, monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:  # fmt: skip
    monkeypatch.setenv("SECONDREAD_RAY_ADDRESS", cluster.address)
    (tmp_path / "in").mkdir()
    PillowImage.fromarray((ultrasound_image().pixels * 255).astype(np.uint8)).save(tmp_path / "in" / "one.png")
    arguments = ["--model", "ultrasound-cnn", "--modality", "ultrasound", "--out", str(tmp_path / "out")]
    assert main(["read", "--cluster", str(tmp_path / "in"), *arguments]) == 0
    said = json.loads(capsys.readouterr().out)
    (image,) = said["images"]
    (prediction,) = image["predictions"]
    assert said["computed_by"] == "node 127.0.0.3 of the cluster" and 0 <= prediction["malignant"] <= 1
    assert image["heatmaps"] and all(Path(path).is_file() for path in image["heatmaps"])
    assert main(["read", "--cluster", str(tmp_path / "in"), "--model", "none"]) == 1
    assert "none" in capsys.readouterr().err


def test_a_back_read_goes_on_on_the_other_node_when_one_is_killed_and_reads_nothing_twice(
    cluster: RayCluster, node: RayNode, state_of_nodes: Path, tmp_path: Path
) -> None:
    db = open_database(Settings(state_dir=state_of_nodes, ray_address=cluster.address))
    ada = add_person(db, "Ada")
    for number in range(4):
        create_study(db, ada, display_name="x", images=[picture(number)])
    number = back_reads.start(db, ada, [SHIPPED])
    read = tmp_path / "read.txt"

    def asked() -> list[list[str]]:
        """Process and image of each question to a model."""
        return [line.split() for line in read.read_text().splitlines()]

    other = cluster.add_node()
    until(lambda: sum(one.is_alive for one in serving_cluster.nodes_of(db.settings)) == 3)
    arguments = [str(REPOSITORY / "tests" / "slow_reads.py"), str(read), str(number)]
    with ThreadPoolExecutor(1) as pool:
        loop = pool.submit(on_every_node, db.settings, arguments, lambda: back_reads.is_open(db, number))
        until(lambda: loop.done() or (read.exists() and len(asked()) == 2))  # each node has one in hand, and waits
        assert not loop.done(), loop.result()
        lost = next(pid for pid, _ in asked() if int(pid) in other.pids())
        other.kill()
        with db.begin() as connection:  # as time passes: the lease of what the dead node had in hand is over
            table = tables.back_read_study
            is_lost = table.c.worker.contains(f":{lost}:")
            connection.execute(update(table).where(is_lost).values(lease_until=tables.now() - timedelta(seconds=1)))
        (tmp_path / "go").touch()
        loop.result(120)
    assert back_reads.load(db, ada, number).counts == {"done": 4}
    sums = [image for _, image in asked()]
    assert len(set(sums)) == 4 and len(sums) == 5  # what the dead node had in hand was asked again, nothing else
    db.close()


def test_the_trials_of_a_search_spread_over_nodes_and_are_those_of_one_machine_also_when_one_is_killed(
    cluster: RayCluster, node: RayNode, records: Database, admin: Person, tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:  # fmt: skip
    # As many epochs as a node needs to come and to begin: two are over before it has started.
    request = FitRequest("cnn", Modality.ULTRASOUND, init="random", epochs=100, side=32, trials=6, refits=2)
    version, manifest = blots_data_set(records, admin)
    job_id = trainings.enqueue(records, admin, request, version)
    thread = threading.Thread(target=works(records, RayExecutor(records.settings)).work_once)
    thread.start()
    until(lambda: trainings.load_job(records, admin, job_id).state == RUNNING)
    other = cluster.add_node()  # while the job runs on the first one
    parts = trainings.folder_of(records.settings, job_id) / "work" / "parts"

    def taken() -> dict[str, dict[str, Any]]:
        return {path.stem: json.loads(path.read_text()) for path in parts.glob("*-*.json")}

    def in_the_middle() -> list[str]:
        pids = other.pids()
        return [
            name for name, one in taken().items() if not one.get("is_done") and int(one["by"].split(":")[1]) in pids
        ]

    until(in_the_middle)
    lost = in_the_middle()
    other.kill()
    again: dict[str, int] = {}
    while thread.is_alive():
        with suppress(OSError, ValueError):
            again |= {name: one["taken"] for name, one in taken().items()}
        thread.join(0.05)
    row = trainings.load_job(records, admin, job_id)
    assert row.state == DONE and row.attempts == 1, (row.message, trainings.log_tail(records, admin, job_id))
    assert set(lost) <= {name for name, n_taken in again.items() if n_taken == 2}
    found = json.loads((candidate_dir(records.settings, job_id) / "ultrasound-cnn" / "card.json").read_text())

    alone = replace(
        request, data=manifest, root=data_sets.files_dir(records.settings), out=tmp_path / "alone", work=tmp_path / "w"
    )
    assert train(alone.to_arguments()) == 0
    expected = json.loads((tmp_path / "alone" / "ultrasound-cnn" / "card.json").read_text())
    for what in ("trials", "refits"):
        assert found["training"]["search"][what] == expected["training"]["search"][what]


def test_a_job_waits_while_no_node_has_room_and_goes_on_after_its_last_epoch_when_a_node_is_killed(
    cluster: RayCluster, records: Database, admin: Person, job_id: int, training: Callable[[str], RayExecutor],
    node: RayNode,
) -> None:  # fmt: skip
    """Last in this file: it kills the node of the others."""
    runs = training(
        """
        sys.path.insert(0, os.getcwd())
        from train.queue.child import end_with_parent
        end_with_parent()
        print('pid', os.getpid(), flush=True)
        epoch(done + 1)
        if done == 0:
            time.sleep(300)
        card()
        """
    )
    outcome: list[BaseException] = []

    def first() -> None:
        try:
            works(records, runs, lease_seconds=2).work_once()
        except NodeLost as lost:
            outcome.append(lost)

    thread = threading.Thread(target=first)
    thread.start()
    until(lambda: trainings.epochs_of(records, admin, job_id))
    pid = int(trainings.log_tail(records, admin, job_id).split("pid ")[1].split()[0])
    node.kill_raylet()
    until(lambda: not Path(f"/proc/{pid}").exists())  # nothing trains on that nobody watches
    node.kill()
    thread.join(120)
    assert outcome
    until(lambda: not any(one.is_alive and one.cpus for one in serving_cluster.nodes_of(runs.settings)))

    second = threading.Thread(target=lambda: works(records, runs).work_once())
    time.sleep(2.5)  # the lease is over
    second.start()
    until(lambda: trainings.load_job(records, admin, job_id).attempts == 2)
    until(lambda: trainings.load_job(records, admin, job_id).message == "Waits for a node with room.")
    cluster.add_node()
    second.join(240)
    row = trainings.load_job(records, admin, job_id)
    assert row.state == DONE and row.attempts == 2, row.message
    assert [epoch.epoch for epoch in trainings.epochs_of(records, admin, job_id)] == [1, 2]


def test_an_open_cluster_and_a_wrong_address_are_refused(
    records: Database, job_id: int, admin: Person, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("RAY_AUTH_MODE", "disabled")
    with pytest.raises(InvalidSettings, match="RAY_AUTH_MODE=token"):
        executor_of(records.settings)
    with pytest.raises(InvalidSettings, match="host:port"):
        Settings(ray_address="ray://somewhere")


def test_whoever_has_another_token_is_not_let_in(cluster: RayCluster, tmp_path: Path) -> None:
    script = (
        "from core.settings import Settings as S; from core.serving import cluster as c; c.nodes_of(S(ray_address=%r))"
    )
    (tmp_path / "token").write_text("another-token-that-nobody-knows-here")
    environment = {**cluster.environment, "RAY_AUTH_TOKEN_PATH": str(tmp_path / "token"), "PATH": "/usr/bin:/bin"}
    done = subprocess.run(
        [sys.executable, "-c", script % cluster.address], cwd=REPOSITORY, env=environment, capture_output=True,
        text=True, check=False, timeout=120,
    )  # fmt: skip
    assert done.returncode and "refuses the token" in done.stderr, done.stderr[-2000:]


def test_a_job_stays_in_the_queue_while_the_cluster_is_away(
    records: Database,
    job_id: int,
    admin: Person,
    training: Callable[[str], RayExecutor],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    def away(_settings: Settings) -> None:
        raise Conflict("away")

    with monkeypatch.context() as patch:
        patch.setattr("train.queue.cluster.ray_of", away)  # as where the token is another one
        assert not works(records, training("card()")).work_once()
    nobody = RayExecutor(Settings(state_dir=records.settings.state_dir, ray_address="127.0.0.1:9"))
    assert not works(records, nobody).work_once()
    row = trainings.load_job(records, admin, job_id)
    assert row.state == QUEUED and row.attempts == 0


def test_without_a_cluster_a_worker_has_one_place_here(tmp_path: Path) -> None:
    here = Settings(state_dir=tmp_path)
    assert isinstance(executor_of(here), LocalExecutor) and training_slots(here) == [machine_name()]
    there = Settings(state_dir=tmp_path, ray_address="10.1.0.5:6379", ray_trainings=3)
    assert training_slots(there) == [f"{machine_name()[:60]}, place {number}" for number in (1, 2, 3)]
