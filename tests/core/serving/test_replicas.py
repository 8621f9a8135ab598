"""Replicas asked over HTTP, here without Ray: who is answered, what is asked again, what answers where none does."""

from __future__ import annotations

import asyncio
import logging
import shutil
import socket
import tempfile
import threading
import time
from collections.abc import Awaitable, Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import httpx
import numpy as np
import pytest
import uvicorn
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route

from core.errors import InvalidInput, ModelUnavailable
from core.models.cards import Card, read_card
from core.models.loaded import MODELS, load_model
from core.models.prepared import prepared
from core.serving import client, replicas, wire
from core.serving.address import serving_key
from core.serving.desk import Desk, Urgency
from core.serving.inference import AtDesk, Computing, Inside, inference
from core.serving.replica import Replica
from core.serving.replicas import OnReplicas
from core.settings import REPOSITORY, Settings
from core.types import Image, Modality

MODEL, OTHER = "ultrasound-cnn", "ultrasound-efficientnet_lite0"
PIXELS = np.random.default_rng(7).random((300, 400)).astype(np.float32)
IMAGE = Image(PIXELS, "5e" * 32, Modality.ULTRASOUND)
Answering = Callable[[Request], Awaitable[Response]]


@contextmanager
def at_port(answering: Answering, route: str = "/secondread") -> Iterator[str]:
    """The address of a server that answers as Serve's proxy would."""

    async def routes(_: Request) -> Response:
        return JSONResponse({route: "secondread"})

    async def endpoint(request: Request) -> Response:
        return await answering(request)

    app = Starlette(routes=[Route("/-/routes", routes), Route(route, endpoint, methods=["GET", "POST"])])
    server = uvicorn.Server(uvicorn.Config(app, log_level="critical"))
    with socket.socket() as listening:
        listening.bind(("127.0.0.1", 0))
        thread = threading.Thread(target=server.run, kwargs={"sockets": [listening]}, daemon=True)
        thread.start()
        while not server.started:
            time.sleep(0.01)
        yield f"http://127.0.0.1:{listening.getsockname()[1]}"
        server.should_exit = True
        thread.join(10)


@dataclass
class Own:
    """This machine's own service: counts how often it is started, and answers in this process."""

    n_started: int = 0
    asked: list[Urgency] = field(default_factory=list)
    refusal: ModelUnavailable | None = None

    @contextmanager
    def __call__(self) -> Iterator[AtDesk]:
        if self.refusal:
            raise self.refusal
        self.n_started += 1
        computing = Computing()
        computing.start()
        yield Inside(computing)
        computing.end()


@pytest.fixture(autouse=True)
def temporary_folder_of_the_process() -> Iterator[None]:
    """A replica has its process to itself and sends temporary files to the site's folder as long as that lives."""
    before = tempfile.tempdir
    yield
    tempfile.tempdir = before


@pytest.fixture
def site(tmp_path: Path) -> Settings:
    shutil.copytree(REPOSITORY / "weights" / MODEL, tmp_path / "weights" / MODEL)
    return Settings(state_dir=tmp_path / "state", weights_dir=tmp_path / "weights", models_at_start=False)


def at(site: Settings, url: str) -> Settings:
    return replace(site, serving="cluster", serve_url=url)


@contextmanager
def asking(site: Settings, answering: Answering, own: Own | None = None) -> Iterator[OnReplicas]:
    with at_port(answering) as url, OnReplicas(at(site, url), own or Own(refusal=ModelUnavailable("No own."))) as found:
        yield found


def read(one: AtDesk, card: Card, image: Image = IMAGE) -> Any:
    return one.read(card, image, Urgency.READER, lambda place: None)


def sealing(site: Settings, answer: Callable[[dict[str, Any]], wire.Message]) -> Answering:
    """A replica that says what the test wants, with the site's key. answer: of a request's head."""

    async def answering(request: Request) -> Response:
        content = await request.body()
        key = serving_key(site)
        return Response(wire.sealed(key, answer(wire.opened(key, content)[0]), content))

    return answering


def cells(head: dict[str, Any]) -> wire.Message:
    return {"cells": True, "answered_by": head["weights"]}, [np.ones((2, 2), np.float32)]


def test_a_replica_answers_as_this_process_does_and_refuses_with_its_sentence(site: Settings) -> None:
    card = read_card(site.weights_dir / MODEL)
    own, own_where = load_model(card).read(IMAGE)
    with asking(site, Replica(site)) as found:
        said, where = read(found, card)
        assert found.are_there()
        key = found.ahead(card, replace(IMAGE, sha256="6f" * 32))
        until = time.monotonic() + 60
        while not (standing := found.standing([key])) or not standing.n_answered:
            assert time.monotonic() < until
            time.sleep(0.02)
        with pytest.raises(InvalidInput, match="reads ultrasound images"):
            read(found, card, Image(PIXELS, "0" * 64, Modality.HISTOLOGY))
        elsewhere = card.model_copy(update={"folder": REPOSITORY / "weights" / MODEL})
        with pytest.raises(InvalidInput, match="none of this site's folders"):
            read(found, elsewhere, replace(IMAGE, sha256="7a" * 32))
    assert said.probabilities == pytest.approx(own.probabilities, abs=1e-6)
    assert (said.weights_sha256, said.training_distance) == (own.weights_sha256, own.training_distance)
    assert where.fit == own_where.fit and where.maps.keys() == own_where.maps.keys()
    for name, heat in where.maps.items():
        assert np.allclose(heat, own_where.maps[name], atol=1e-5)


def test_who_has_another_key_is_not_answered_and_nothing_of_a_picture_travels_readably(
    site: Settings, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    card = read_card(site.weights_dir / MODEL)
    stranger = replace(site, state_dir=tmp_path / "elsewhere")
    key, other = serving_key(site), serving_key(stranger)
    request = wire.of_request("read", card, prepared(card, IMAGE))
    good = wire.sealed(key, request)
    assert IMAGE.sha256.encode() not in good and request[1][0].tobytes()[:64] not in good
    past = time.time() - wire.OLD_SECONDS - 1
    monkeypatch.setattr(wire.time, "time", lambda: past)
    old = wire.sealed(key, request)
    monkeypatch.undo()
    changed = bytearray(good)
    changed[1000] ^= 1
    with at_port(Replica(site)) as url:
        for content in (wire.sealed(other, request), old, bytes(changed), b"x", b"\0" * 40, good[:-1]):
            refused = httpx.post(f"{url}/secondread", content=content)
            assert refused.status_code == 401 and MODEL not in refused.text
        assert httpx.get(f"{url}/secondread").status_code == 400
        assert httpx.post(f"{url}/secondread", content=iter([good])).status_code == 400, "without its length"
        answered = httpx.post(f"{url}/secondread", content=good)
        assert answered.status_code == 200 and b"prediction" not in answered.content
        assert "prediction" in wire.opened(key, answered.content, good)[0]
        for to in (b"", wire.sealed(key, request)):
            with pytest.raises(wire.BrokenMessage):
                wire.opened(key, answered.content, to)
    assert IMAGE.sha256 not in caplog.text
    with asking(stranger, Replica(site)) as found, pytest.raises(ModelUnavailable, match="No own"):
        read(found, card)


def test_a_body_beyond_the_most_is_not_read(site: Settings, monkeypatch: pytest.MonkeyPatch) -> None:
    card = read_card(site.weights_dir / MODEL)
    good = wire.sealed(serving_key(site), wire.of_request("read", card, prepared(card, IMAGE)))
    with at_port(Replica(site)) as url:
        for most, status in ((len(good), 200), (len(good) - 1, 400)):
            monkeypatch.setattr("core.serving.replica.BODY_BYTES_MOST", most)
            assert httpx.post(f"{url}/secondread", content=good, timeout=60).status_code == status


def test_replicas_answer_only_with_the_weights_that_the_card_names(site: Settings) -> None:
    old = read_card(site.weights_dir / MODEL)
    with asking(site, Replica(site)) as found:
        assert read(found, old)[0].weights_sha256 == old.weights_sha256
        shutil.copytree(REPOSITORY / "weights" / OTHER, site.weights_dir / MODEL, dirs_exist_ok=True)
        text = (site.weights_dir / MODEL / "card.json").read_text()
        (site.weights_dir / MODEL / "card.json").write_text(text.replace(f'"{OTHER}"', f'"{MODEL}"', 1))
        new = read_card(site.weights_dir / MODEL)
        second = replace(IMAGE, sha256="6f" * 32)
        with pytest.raises(ModelUnavailable, match="was replaced at this moment"):
            read(found, old, second)
        said = read(found, new, second)[0]
        assert old.weights_sha256 in MODELS.held, "the replica still has the old one in memory"
        found.forget_all_but(frozenset({new.weights_sha256}))
        read(found, new, replace(IMAGE, sha256="8b" * 32))
        assert old.weights_sha256 not in MODELS.held and new.weights_sha256 in MODELS.held
    assert said.weights_sha256 == new.weights_sha256 != old.weights_sha256
    assert said.probabilities == pytest.approx(load_model(new).read(second)[0].probabilities, abs=1e-6)

    def wrong(head: dict[str, Any]) -> wire.Message:
        return {**cells(head)[0], "answered_by": old.weights_sha256}, cells(head)[1]

    with asking(site, sealing(site, wrong)) as found, pytest.raises(ModelUnavailable, match="other weights"):
        read(found, new)


@pytest.mark.parametrize(("n_broken", "is_answered"), [(1, True), (2, False), (3, False)])
def test_a_request_that_a_replica_breaks_off_is_asked_once_more_and_not_at_this_machine(
    site: Settings, n_broken: int, is_answered: bool
) -> None:
    asked: list[str] = []
    good = sealing(site, cells)

    async def answering(request: Request) -> Response:
        asked.append(request.method)
        return Response(status_code=500) if len(asked) <= n_broken else await good(request)

    card, own = read_card(site.weights_dir / MODEL), Own()
    with asking(site, answering, own) as found:
        if is_answered:
            answer = found._asked(card, prepared(card, IMAGE), Urgency.READER, lambda place: None)
            assert answer.tolist() == [[1, 1], [1, 1]]
        else:
            with pytest.raises(ModelUnavailable, match="Two replicas, one after the other"):
                read(found, card)
    assert len(asked) == 2 and own.n_started == 0


def test_where_no_replica_is_reached_this_machine_answers_and_the_log_says_so_once(
    site: Settings, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    card, own = read_card(site.weights_dir / MODEL), Own()
    images = [replace(IMAGE, sha256=f"{number:064x}") for number in range(4)]
    with socket.socket() as closed:
        closed.bind(("127.0.0.1", 0))
        url = f"http://127.0.0.1:{closed.getsockname()[1]}"
        with caplog.at_level(logging.WARNING), OnReplicas(at(site, url), own) as found:
            assert not found.are_there()
            for image in images[:2]:
                assert read(found, card, image)[0].weights_sha256 == card.weights_sha256
        assert own.n_started == 1 and caplog.text.count("models answer on this machine") == 1
        with (
            OnReplicas(at(site, url), Own(refusal=ModelUnavailable(replicas.AWAY))) as found,
            pytest.raises(ModelUnavailable, match="no room for a service of its own"),
        ):
            read(found, card)
    monkeypatch.setattr(replicas, "AWAY_SECONDS", 0.0)
    away = [404, 401, 503]

    async def answering(request: Request) -> Response:
        return Response(status_code=away.pop()) if away else await sealing(site, cells)(request)

    own = Own()
    with asking(site, answering, own) as found:
        for image in images[:3]:
            assert read(found, card, image)[0].weights_sha256 == card.weights_sha256
        again = found._asked(card, prepared(card, images[3]), Urgency.READER, lambda place: None)
    assert again.tolist() == [[1, 1], [1, 1]] and own.n_started == 1, "the replicas are asked again when they are back"


def test_no_replica_in_time_is_none_at_all(site: Settings, monkeypatch: pytest.MonkeyPatch) -> None:
    """As where the cluster has no room for one: the request waits at the proxy."""
    monkeypatch.setattr(replicas, "ANSWER_SECONDS", 0.3)
    card, own = read_card(site.weights_dir / MODEL), Own()
    asked: list[float] = []

    async def waiting(request: Request) -> Response:
        asked.append(time.monotonic())
        await asyncio.sleep(5)
        return Response()

    with asking(site, waiting, own) as found:
        assert read(found, card)[0].weights_sha256 == card.weights_sha256
        read(found, card, replace(IMAGE, sha256="6f" * 32))
    assert len(asked) == 1 and own.n_started == 1, "not asked again for some time"


def test_a_reader_is_asked_about_while_all_that_is_ahead_is_on_its_way(site: Settings) -> None:
    goes_on = threading.Event()
    seen: list[int] = []

    async def answering(request: Request) -> Response:
        key, content = serving_key(site), await request.body()
        head, _ = wire.opened(key, content)
        seen.append(head["urgency"])
        while head["urgency"] == Urgency.AHEAD and not goes_on.is_set():
            await asyncio.sleep(0.01)
        return Response(wire.sealed(key, cells(head), content))

    card = read_card(site.weights_dir / MODEL)
    with asking(site, answering) as found:
        keys = [found.ahead(card, replace(IMAGE, sha256=f"{n:064x}")) for n in range(1, 21)]
        until = time.monotonic() + 20
        while len(seen) < replicas.THREADS_A_REPLICA // 2:
            assert time.monotonic() < until
            time.sleep(0.01)
        image = prepared(card, IMAGE)
        assert found._asked(card, image, Urgency.READER, lambda place: None).tolist() == [[1, 1], [1, 1]]
        standing = found.standing(keys)
        assert standing is not None and (standing.n_computing, standing.n_answered) == (4, 0)
        goes_on.set()
        while not (standing := found.standing(keys)) or standing.n_answered < len(keys):
            assert time.monotonic() < until
            time.sleep(0.01)
    assert seen[:5] == [Urgency.AHEAD] * 4 + [Urgency.READER]


def test_a_request_that_is_cancelled_leaves_the_replica_s_queue(
    site: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Serve cancels it when whoever asked has gone."""
    replica = Replica(site)
    began, goes_on, computed = threading.Event(), threading.Event(), []

    def answer(card: Any, batch: Any) -> list[Any]:
        began.set()
        assert goes_on.wait(30)
        computed.extend(one.image_sha256 for one in batch)
        return [np.ones((1, 1), np.float32) for _ in batch]

    desk = Desk(answer)
    monkeypatch.setattr(replica._computing, "desk", desk)
    threading.Thread(target=desk.work, args=(iter(()),), daemon=True).start()
    card = read_card(site.weights_dir / MODEL)

    async def scene() -> None:
        def asked(number: int) -> asyncio.Task[wire.Message]:
            image = prepared(card, replace(IMAGE, sha256=f"{number:064x}"))
            head, arrays = wire.of_request("read", card, image, urgency=0, known=[])
            return asyncio.create_task(replica._answered(head, arrays))

        first = asked(1)
        await asyncio.to_thread(began.wait, 30)
        second = asked(2)
        while desk.n_waiting < 1:
            await asyncio.sleep(0.01)
        second.cancel()
        with pytest.raises(asyncio.CancelledError):
            await second
        assert desk.n_waiting == 0
        first.cancel()
        with pytest.raises(asyncio.CancelledError):
            await first
        goes_on.set()  # what is in hand is answered, for whoever asks again
        assert "refused" not in (await asyncio.wait_for(asked(1), 30))[0]

    asyncio.run(scene())
    desk.end()
    assert computed == [f"{1:064x}"]


def test_a_site_that_asks_for_replicas_starts_no_service_unless_none_answers_and_there_is_room(
    site: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    started: list[Settings] = []

    @contextmanager
    def supervised(settings: Settings) -> Iterator[AtDesk]:
        started.append(settings)
        with Own()() as one:
            yield one

    monkeypatch.setattr(client, "supervised", supervised)
    card = read_card(site.weights_dir / MODEL)
    with at_port(sealing(site, cells)) as url:
        settings = at(site, url)
        with client.serving(settings):
            one = inference()
            assert isinstance(one, OnReplicas)
            assert one._asked(card, prepared(card, IMAGE), Urgency.READER, lambda place: None).shape == (2, 2)
    assert not started
    with client.serving(settings):
        for free in (client.PROCESS_BYTES - 1, client.PROCESS_BYTES):
            monkeypatch.setattr(client, "free_bytes", lambda free=free: free)
            if free < client.PROCESS_BYTES:
                with pytest.raises(ModelUnavailable, match="no room"):
                    inference().read(card, IMAGE, Urgency.READER, lambda place: None)
            else:
                inference().read(card, IMAGE, Urgency.READER, lambda place: None)
    assert len(started) == 1


def test_a_command_asks_the_replicas_where_they_are_there_and_else_computes_itself(site: Settings) -> None:
    card = read_card(site.weights_dir / MODEL)
    with at_port(sealing(site, cells)) as url, client.answering(at(site, url)) as by:
        one = inference()
        assert by == "the replicas on the site's cluster" and isinstance(one, OnReplicas)
        assert one._asked(card, prepared(card, IMAGE), Urgency.READER, lambda place: None).shape == (2, 2)
        assert one.n_answers == {"replicas": 1, "own service": 0}
    for route in ("/another",):
        with at_port(sealing(site, cells), route) as url, client.answering(at(site, url)) as by:
            assert by == "this process" and not isinstance(inference(), OnReplicas)
            inference().read(card, IMAGE, Urgency.READER, lambda place: None)
    with client.answering(site) as by:
        assert by == "this process"
