"""Replicas on a real Ray cluster with Serve: they answer, are killed, become more, and end with their node."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import replace
from pathlib import Path
from typing import Any

import httpx
import numpy as np
import pytest
from PIL import Image as PillowImage
from ray_cluster import RayCluster, RayNode, free_port, ray_cluster

from core.__main__ import main
from core.demo.phantoms import ultrasound_image
from core.errors import Conflict, InvalidSettings, ModelUnavailable
from core.models.cards import read_card
from core.models.loaded import load_model
from core.serving import cluster as serving_cluster
from core.serving import replica
from core.serving.desk import Urgency
from core.serving.inference import AtDesk
from core.serving.replicas import OnReplicas
from core.settings import REPOSITORY, Settings
from core.types import Image, Modality

pytestmark = pytest.mark.filterwarnings("ignore:Using extra keyword arguments on `Field`")  # of Ray
MODEL = "ultrasound-cnn"
GPUS = 0.5
_SECONDS = 90


def until(is_so: Callable[[], Any]) -> Any:
    deadline = time.monotonic() + _SECONDS
    while not (found := is_so()):
        assert time.monotonic() < deadline
        time.sleep(0.1)
    return found


def image(number: int) -> Image:
    pixels = np.random.default_rng(number).random((300, 400)).astype(np.float32)
    return Image(pixels, f"{number:064x}", Modality.ULTRASOUND)


@contextmanager
def no_own() -> Iterator[AtDesk]:
    raise ModelUnavailable("The test wants no own service.")
    yield


def replicas_of(node: RayNode) -> list[int]:
    """Of the replicas' processes on a node."""
    found = []
    for pid in node.pids():
        with suppress(OSError):
            if Path(f"/proc/{pid}/cmdline").read_bytes().startswith(b"ray::ServeReplica:secondread"):
                found.append(pid)
    return found


def has_begun(pid: int) -> bool:
    """Whether a replica has been asked: it loads TensorFlow with its first image."""
    with suppress(OSError):
        return "tensorflow" in Path(f"/proc/{pid}/maps").read_text()
    return False


@pytest.fixture(scope="module")
def cluster(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RayCluster]:
    """A head that does no work, whose nodes load no model by themselves. A process has one driver."""
    variables = {
        "SECONDREAD_STATE_DIR": str(tmp_path_factory.mktemp("site") / "state"),
        "SECONDREAD_MODELS_AT_START": "0",
    }
    with pytest.MonkeyPatch.context() as patch, ray_cluster(variables) as running:
        more = {
            "SECONDREAD_RAY_ADDRESS": running.address,
            "SECONDREAD_SERVING": "cluster",
            "SECONDREAD_SERVE_URL": f"http://127.0.0.2:{free_port()}",
            "SECONDREAD_SERVE_REPLICAS_MOST": "2",
            "SECONDREAD_SERVE_GPUS": str(GPUS),
        }
        for name, value in (running.environment | variables | more).items():
            patch.setenv(name, value)
        patch.setattr(replica, "UP_SECONDS", 1.0)
        yield running
        serving_cluster.let_go()


@pytest.fixture(scope="module")
def node(cluster: RayCluster) -> RayNode:
    """With room for two replicas: two processors and, as Ray counts, one GPU."""
    added = cluster.add_node(cpus=2, gpus=1)
    settings = Settings.from_environment()
    until(lambda: sum(one.gpus for one in serving_cluster.nodes_of(settings) if one.is_alive) == 1)
    return added


@pytest.fixture(scope="module")
def settings(node: RayNode) -> Settings:
    return Settings.from_environment()


@pytest.fixture(scope="module")
def served(settings: Settings) -> Iterator[list[str]]:
    """Kept up as `python -m core cluster serve` does, with what that says."""
    is_over = threading.Event()
    said: list[str] = []

    def keep() -> None:
        try:
            replica.supervised_replicas(settings, lambda: not is_over.is_set(), said.append)
        except Conflict as lost:
            said.append(str(lost))

    thread = threading.Thread(target=keep, daemon=True)
    thread.start()
    until(lambda: f"running, replicas that answer at {settings.serve_url}: 1" in said)
    yield said
    is_over.set()
    thread.join(30)
    assert not thread.is_alive()


@pytest.fixture
def asked(settings: Settings, served: list[str]) -> Iterator[OnReplicas]:
    with OnReplicas(settings, no_own) as found:
        yield found


def read(found: OnReplicas, number: int) -> Any:
    card = read_card(REPOSITORY / "weights" / MODEL)
    return found.read(card, image(number), Urgency.READER, lambda place: None)


def killing(found: OnReplicas, node: RayNode, number: int, most: int) -> Any:
    """Reads an image while so many replicas that have begun with it are killed; what it said, or raised."""
    result: list[Any] = []

    def ask() -> None:
        try:
            result.append(read(found, number)[0])
        except ModelUnavailable as refused:
            result.append(str(refused))

    for pid in replicas_of(node):  # the next one begins with this image, and takes seconds for it
        os.kill(pid, signal.SIGKILL)
    until(lambda: replica.standing_of(found._settings) == ("RUNNING", 1) and not any(map(has_begun, replicas_of(node))))
    thread = threading.Thread(target=ask, daemon=True)
    thread.start()
    killed: list[int] = []
    while thread.is_alive():
        for pid in replicas_of(node):
            if len(killed) < most and pid not in killed and has_begun(pid):
                os.kill(pid, signal.SIGKILL)
                killed.append(pid)
        time.sleep(0.02)
    assert len(killed) == most
    return result[0]


def test_replicas_say_what_this_process_says_and_nothing_to_a_stranger(asked: OnReplicas, settings: Settings) -> None:
    assert asked.are_there()
    said, where = read(asked, 1)
    own, own_where = load_model(read_card(REPOSITORY / "weights" / MODEL)).read(image(1))
    assert said.probabilities == pytest.approx(own.probabilities, abs=1e-6)
    assert (said.training_distance, said.weights_sha256) == (own.training_distance, own.weights_sha256)
    for name, heat in where.maps.items():
        assert np.allclose(heat, own_where.maps[name], atol=1e-5)
    assert httpx.post(f"{settings.serve_url}/secondread", content=b"x" * 100).status_code == 401
    stranger = replace(settings, state_dir=settings.state_dir.with_name("elsewhere"))
    with OnReplicas(stranger, no_own) as other, pytest.raises(ModelUnavailable, match="no own service"):
        read(other, 2)
    taken = next(one for one in serving_cluster.ray_of(settings).nodes() if one["Resources"].get("GPU"))
    left = serving_cluster.ray_of(settings)._private.state.available_resources_per_node()[taken["NodeID"]]
    assert left["GPU"] == 1 - GPUS, "a replica reserves its part of the GPU"


def test_a_replica_killed_in_the_middle_of_a_read_is_followed_by_another_once(asked: OnReplicas, node: RayNode) -> None:
    assert killing(asked, node, 11, 1).image_sha256 == image(11).sha256
    assert "Two replicas, one after the other, ended at this image" in killing(asked, node, 12, 2)
    assert read(asked, 13)[0].image_sha256 == image(13).sha256


def test_the_command_read_is_answered_by_replicas(
    served: list[str], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    PillowImage.fromarray((ultrasound_image().pixels * 255).astype(np.uint8)).save(tmp_path / "one.png")
    arguments = ["--model", MODEL, "--modality", "ultrasound", "--out", str(tmp_path / "out")]
    assert main(["read", str(tmp_path / "one.png"), *arguments]) == 0
    said = json.loads(capsys.readouterr().out)
    (found,) = said["images"]
    assert said["computed_by"] == "the replicas on the site's cluster"
    assert [one["model_id"] for one in found["predictions"]] == [MODEL] and found["heatmaps"]
    assert found["outlines"], "the outline network answers there, too"


def test_there_are_more_replicas_while_more_is_asked_up_to_the_most(
    asked: OnReplicas, node: RayNode, settings: Settings
) -> None:
    is_enough = threading.Event()

    def ask(first: int) -> None:
        number = first
        while not is_enough.is_set():
            read(asked, number)
            number += 1

    readers = [threading.Thread(target=ask, args=(100_000 * n,), daemon=True) for n in range(1, 13)]
    for reader in readers:
        reader.start()
    try:
        until(lambda: replica.standing_of(settings)[1] == 2)
        assert len(replicas_of(node)) == 2
        time.sleep(3)
        assert len(replicas_of(node)) == 2
    finally:
        is_enough.set()
        for reader in readers:
            reader.join(60)


def test_replicas_that_the_cluster_has_forgotten_are_put_back(asked: OnReplicas, settings: Settings) -> None:
    """As after its head was started anew."""
    from ray import serve

    with suppress(TimeoutError):  # it looks whether they are gone, and they may be put back between two looks
        serve.delete(replica.NAME)
    until(lambda: replica.standing_of(settings)[0] == "RUNNING")
    until(asked.are_there)
    assert read(asked, 21)[0].image_sha256 == image(21).sha256


def test_a_replica_lost_with_its_node_is_replaced_on_another(
    cluster: RayCluster, asked: OnReplicas, node: RayNode, settings: Settings
) -> None:
    other = cluster.add_node(cpus=1, gpus=1)
    until(lambda: sum(one.gpus for one in serving_cluster.nodes_of(settings) if one.is_alive) == 2)
    node.kill()
    until(lambda: replicas_of(other))
    found = until(lambda: _read_or_none(asked, 31))
    assert found.image_sha256 == image(31).sha256 and asked.n_answers["own service"] == 0


def _read_or_none(found: OnReplicas, number: int) -> Any:
    with suppress(ModelUnavailable):
        return read(found, number)[0]
    return None


def test_replicas_end_when_they_are_removed_and_need_an_address(
    asked: OnReplicas, served: list[str], settings: Settings
) -> None:
    with pytest.raises(InvalidSettings, match="SECONDREAD_SERVE_URL"):
        replica.deploy(replace(settings, serving="auto", serve_url=""))
    assert asked.are_there()
    done = subprocess.run(
        [sys.executable, "-m", "core", "cluster", "remove"], cwd=REPOSITORY, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr[-2000:]
    until(lambda: not asked.are_there())
    until(lambda: "Ray Serve was ended" in served[-1])
    with pytest.raises(ModelUnavailable, match="no own service"):
        read(asked, 41)
