"""The inference service as a process: it answers, dies in the middle, is asked again, and lets in who knows the key."""

from __future__ import annotations

import json
import os
import shutil
import signal
import stat
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import replace
from multiprocessing import AuthenticationError
from multiprocessing.connection import Client, answer_challenge, deliver_challenge
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from core.errors import InvalidInput, ModelUnavailable
from core.models.cards import members_of, read_card
from core.models.loaded import MODELS, load_model
from core.serving import client
from core.serving.address import reachable, serving_dir
from core.serving.client import Service, running_service, supervised
from core.serving.desk import Urgency
from core.serving.service import warmed
from core.settings import REPOSITORY, Settings
from core.types import Image, Modality

MODEL = "ultrasound-cnn"
PIXELS = np.random.default_rng(7).random((300, 400)).astype(np.float32)
IMAGE = Image(PIXELS, "5e" * 32, Modality.ULTRASOUND)


@pytest.fixture(scope="module")
def settings(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Settings]:
    """A site with one shipped model, its state so deep that a socket's whole path is too long."""
    folder = tmp_path_factory.mktemp("site")
    shutil.copytree(REPOSITORY / "weights" / MODEL, folder / "weights" / MODEL)
    state = folder / ("deep" * 12) / ("deeper" * 12)
    variables = {"SECONDREAD_STATE_DIR": str(state), "SECONDREAD_WEIGHTS_DIR": str(folder / "weights")}
    with pytest.MonkeyPatch.context() as patch:
        for name, value in variables.items():
            patch.setenv(name, value)
        yield Settings.from_environment()


@pytest.fixture(scope="module")
def service(settings: Settings) -> Iterator[Service]:
    with supervised(settings) as found:
        yield found


def killing(service: Service, most: int) -> Callable[[int], None]:
    """Kills the process that listens, at most so often, each time it is told that a read waits."""
    killed: list[int] = []

    def kill(place: int) -> None:
        if len(killed) < most and (serving_dir(service.settings) / service.name).exists():
            for line in Path("/proc").glob("[0-9]*/cmdline"):
                try:
                    is_it = service.name.encode() in line.read_bytes()
                except OSError:
                    continue
                number = int(line.parent.name)
                if is_it and number != os.getpid() and number not in killed:
                    killed.append(number)
                    os.kill(number, signal.SIGKILL)

    return kill


def test_a_service_killed_in_the_middle_of_a_read_is_asked_again_once_and_answers_as_this_process(
    service: Service, settings: Settings
) -> None:
    card = read_card(settings.weights_dir / MODEL)
    with pytest.raises(ModelUnavailable, match="ended twice"):
        service.read(card, IMAGE, Urgency.READER, killing(service, 99))
    said, where = service.read(card, IMAGE, Urgency.READER, killing(service, 1))
    own, own_where = load_model(card).read(IMAGE)
    assert said.probabilities == pytest.approx(own.probabilities, abs=1e-6)
    assert (said.malignant_samples, said.training_distance) == (own.malignant_samples, own.training_distance)
    assert (said.weights_sha256, said.image_sha256, where.fit) == (own.weights_sha256, IMAGE.sha256, own_where.fit)
    assert where.maps.keys() == own_where.maps.keys()
    for name, heat in where.maps.items():
        assert np.allclose(heat, own_where.maps[name], atol=1e-5)


def test_what_a_member_says_is_computed_once_for_itself_and_for_its_ensemble(monkeypatch: pytest.MonkeyPatch) -> None:
    from core.models.inference import LoadedModel
    from core.models.prepared import prepared
    from core.serving.inference import Computing, waited

    ensemble = read_card(REPOSITORY / "weights" / "ultrasound-ensemble-two-collections")
    member, other = members_of(ensemble)
    own = load_model(ensemble).read(IMAGE)[0]
    computed: list[str] = []
    read_prepared = LoadedModel.read_prepared

    def noted(model: LoadedModel, batch: Any) -> Any:
        computed.extend([model.card.model_id] * len(batch))
        return read_prepared(model, batch)

    monkeypatch.setattr(LoadedModel, "read_prepared", noted)
    computing = Computing()
    computing.start()
    try:
        said = {}
        for card in (member, ensemble, other):
            ticket = computing.desk.ask(card, prepared(card, IMAGE))
            said[card.model_id] = waited(computing.desk, ticket, lambda place: None)[0]
    finally:
        computing.end()
    assert computed == [member.model_id, other.model_id]
    assert said[ensemble.model_id].probabilities == pytest.approx(own.probabilities, abs=1e-6)
    assert said[other.model_id].weights_sha256 == other.weights_sha256


def test_many_at_once_answer_as_one_by_one_and_refusals_arrive_with_their_sentence(
    service: Service, settings: Settings
) -> None:
    card = read_card(settings.weights_dir / MODEL)
    images = [Image(np.roll(PIXELS, 40 * n, axis=1), f"{n:064x}", Modality.ULTRASOUND) for n in range(6)]
    found: dict[int, float] = {}

    def ask(number: int) -> None:
        found[number] = service.read(card, images[number], Urgency.READER, lambda place: None)[0].malignant

    readers = [threading.Thread(target=ask, args=(number,)) for number in range(len(images))]
    for reader in readers:
        reader.start()
    for reader in readers:
        reader.join(60)
    alone = [load_model(card).read(image)[0].malignant for image in images]
    assert [found[number] for number in range(len(images))] == pytest.approx(alone, abs=1e-3)
    with pytest.raises(InvalidInput, match="reads ultrasound images"):
        service.read(card, Image(PIXELS, "0" * 64, Modality.HISTOLOGY), Urgency.READER, lambda place: None)
    key = service.ahead(card, images[0])
    until = time.monotonic() + 60
    while (found_there := service.standing([key, "unknown"])) is None or not found_there.n_answered:
        assert time.monotonic() < until
        time.sleep(0.05)
    assert (found_there.n_waiting, found_there.n_computing, found_there.n_before) == (0, 0, 0)
    assert Service(settings, "nobody").standing([key]) is None, "at once, also while it is being started"
    elsewhere = card.model_copy(update={"folder": REPOSITORY / "weights" / MODEL})
    with pytest.raises(InvalidInput, match="none of this site's folders"):
        service.read(elsewhere, IMAGE, Urgency.READER, lambda place: None)


def test_only_who_knows_the_key_is_let_in_and_one_that_sends_nonsense_is_cut_off(
    service: Service, settings: Settings
) -> None:
    folder = serving_dir(settings)
    assert stat.S_IMODE(folder.stat().st_mode) == 0o700
    assert stat.S_IMODE((folder / "key").stat().st_mode) == 0o600
    assert service.is_there()
    found = running_service(settings)
    assert found is not None and found.name == service.name
    with (
        reachable(settings, service.name) as path,
        Client(path, "AF_UNIX") as stranger,
        pytest.raises((AuthenticationError, EOFError)),
    ):
        answer_challenge(stranger, b"another key" * 3)
    key = (folder / "key").read_bytes()
    for nonsense in (b"\x80\x04K\x01.", b"[]", b'{"do": "read", "arrays": [[-1]]}', b'{"do": "stop", "arrays": []}'):
        with reachable(settings, service.name) as path, Client(path, "AF_UNIX") as friend:
            answer_challenge(friend, key)
            deliver_challenge(friend, key)
            friend.send_bytes(nonsense)
            assert friend.poll(30)
            with pytest.raises((EOFError, OSError)):
                friend.recv_bytes()
    assert service.is_there()
    text = (settings.state_dir / "logs" / "serving.log").read_text()
    assert IMAGE.sha256 not in text and "pixels" not in text


def test_a_socket_that_nobody_listens_at_is_no_service_and_is_removed_at_the_next_start(
    settings: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    serving_dir(settings).mkdir(parents=True, exist_ok=True)
    stale = serving_dir(settings) / "0ld.socket"
    stale.touch()
    assert not Service(settings, stale.name, start_seconds=0).is_there()
    monkeypatch.setattr(client, "_started", lambda *_: subprocess.Popen(["cat"], stdin=subprocess.PIPE))
    with supervised(settings):
        assert not stale.exists()


def test_a_connection_that_breaks_off_before_a_request_is_no_attempt_and_is_tried_until_the_start_is_over(
    settings: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    found = object()
    turns = iter([EOFError, ConnectionResetError, EOFError, found])

    def proven(self: Service) -> object:
        turn = next(turns)
        if turn is not found:
            raise turn  # type: ignore[misc]
        return turn

    monkeypatch.setattr(Service, "_proven", proven)
    with pytest.raises(EOFError):
        Service(settings, "x", start_seconds=0)._connection(lambda place: None)
    assert Service(settings, "x", start_seconds=30)._connection(lambda place: None) is found


def test_the_live_models_are_loaded_at_the_start_in_either_kind_of_process_unless_the_site_does_not_want_it(
    settings: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    card = read_card(settings.weights_dir / MODEL)
    assert list(warmed(replace(settings, models_at_start=False))) == []
    assert list(warmed(settings)) == [card.weights_sha256] and card.weights_sha256 in MODELS.held
    MODELS.forget_all_but(frozenset())
    monkeypatch.setattr(client, "INSIDE_SECONDS", 0.2)
    with client.serving(replace(settings, serving="inside")):
        deadline = time.monotonic() + 60
        while card.weights_sha256 not in MODELS.held:
            assert time.monotonic() < deadline
            time.sleep(0.05)


TWO_DEVICES = """
import json, sys, threading
import tensorflow as tf

tf.config.set_logical_device_configuration(
    tf.config.list_physical_devices("CPU")[0], [tf.config.LogicalDeviceConfiguration()] * 2
)
import numpy as np

from core.models.cards import members_of, read_card
from core.models.prepared import DEVICE
from core.models.loaded import MODELS, load_model
from core.models.prepared import prepared
from core.serving import inference
from core.settings import REPOSITORY
from core.types import Image, Modality

card = read_card(REPOSITORY / "weights" / sys.argv[1])
pixels = np.random.default_rng(7).random((300, 400)).astype(np.float32)
images = [Image(np.roll(pixels, 20 * n, axis=1), f"{n:064x}", Modality.ULTRASOUND) for n in range(12)]
computed, both, compute = [], threading.Barrier(2), inference.compute

def noted(card, batch, desk):
    if DEVICE.get() not in computed:
        computed.append(DEVICE.get())
        if len(computed) > 1 or batch[0].image_sha256 != images[0].sha256:
            both.wait(60)  # neither takes everything before the other has begun
    return compute(card, batch, desk)

inference.compute = noted
computing = inference.Computing()
computing.start()
first = inference.waited(computing.desk, computing.desk.ask(card, prepared(card, images[0])), lambda place: None)
computed.clear()
tickets = [computing.desk.ask(card, prepared(card, image)) for image in images[1:]]
answers = [first, *(ticket.answer(120) for ticket in tickets)]
places = set()
for (device, _), entry in MODELS._entries.items():
    places |= {(device, variable.value.device[-5:]) for variable in entry.network.result().graph.model.weights}
print(json.dumps({
    "computed": sorted(computed), "places": sorted(places), "said": [one.malignant for one, _ in answers],
    "alone": [load_model(card).read(image)[0].malignant for image in images],
}))
"""


def test_two_devices_share_the_work_each_with_its_own_network() -> None:
    """Two logical processors stand for two GPUs; a device is divided before TensorFlow first uses it."""
    done = subprocess.run(
        [sys.executable, "-c", TWO_DEVICES, MODEL], cwd=REPOSITORY, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr[-2000:]
    found = json.loads(done.stdout.splitlines()[-1])
    assert found["computed"] == [0, 1]
    assert found["places"] == [[0, "CPU:0"], [1, "CPU:1"]]
    assert found["said"] == pytest.approx(found["alone"], abs=1e-3)
