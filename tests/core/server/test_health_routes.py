"""Who may ask how the server is, and what it answers."""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import nullcontext
from pathlib import Path

import pytest
from starlette.applications import Starlette
from starlette.testclient import TestClient

from core.records.database.db import Database, open_database
from core.records.monitoring import health
from core.records.monitoring.health import Part
from core.server import health as routes
from core.server.health import health_routes
from core.serving.inference import answered_by
from core.serving.replicas import OnReplicas
from core.settings import Settings

TOKEN = "a token of this site"


@pytest.fixture
def db(tmp_path: Path) -> Iterator[Database]:
    database = open_database(Settings(state_dir=tmp_path / "state"))
    yield database
    database.close()


def client(db: Database, peer: str = "127.0.0.1", token: str = "") -> TestClient:
    app = Starlette(routes=health_routes(lambda: db, Settings(state_dir=db.settings.state_dir, metrics_token=token)))
    return TestClient(app, client=(peer, 1))


def test_alive_needs_no_database() -> None:
    def broken() -> Database:
        raise AssertionError("was asked for")

    app = Starlette(routes=health_routes(broken, Settings()))
    answer = TestClient(app, client=("198.51.100.7", 1)).get("/healthz")
    assert (answer.status_code, answer.text) == (200, "alive")


def test_what_is_missing_is_said_with_503(db: Database, monkeypatch: pytest.MonkeyPatch) -> None:
    parts = (Part("database", ""), Part("disk", "Less than 512 MiB are free."))
    monkeypatch.setattr(health, "readiness", lambda _: parts)
    answer = client(db, "198.51.100.7").get("/readyz")
    assert answer.status_code == 503
    assert answer.json() == {"ready": False, "database": "works", "disk": "Less than 512 MiB are free."}
    monkeypatch.setattr(health, "readiness", lambda _: parts[:1])
    answer = client(db).get("/readyz")
    assert answer.status_code == 200 and answer.json() == {"ready": True, "database": "works"}


def test_a_site_that_does_not_answer_in_time_is_not_ready(db: Database, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(routes, "ANSWER_SECONDS", 0.05)
    monkeypatch.setattr(health, "readiness", lambda _: time.sleep(0.5))
    answer = client(db).get("/readyz")
    assert answer.status_code == 503 and "within" in answer.json()["database"]


def test_many_questions_look_once(db: Database, monkeypatch: pytest.MonkeyPatch) -> None:
    looks: list[int] = []
    monkeypatch.setattr(health, "readiness", lambda _: looks.append(1) or ())
    with client(db) as asking:
        for _ in range(5):
            asking.get("/readyz")
    assert len(looks) == 1


def test_the_numbers_are_for_this_machine_without_a_proxy_or_for_the_token(db: Database) -> None:
    def status(peer: str, **headers: str) -> int:
        return client(db, peer, TOKEN).get("/metrics", headers=headers).status_code

    assert status("127.0.0.1") == status("::1") == 200
    for header in routes.PROXY_HEADERS:
        assert status("127.0.0.1", **{header: "x"}) == 403, header
    assert status("198.51.100.7") == 403
    assert status("198.51.100.7", Authorization=f"Bearer {TOKEN}") == 200
    assert status("198.51.100.7", Authorization=f"Bearer {TOKEN}x") == 403
    assert status("198.51.100.7", Authorization=f"Basic {TOKEN}") == 403
    assert status("127.0.0.1", **{"X-Forwarded-For": "x", "Authorization": f"bearer {TOKEN}"}) == 200


def test_without_a_token_no_empty_token_opens_it(db: Database) -> None:
    asking = client(db, "198.51.100.7")
    for given in ("Bearer", "Bearer ", "bearer x"):
        assert asking.get("/metrics", headers={"Authorization": given}).status_code == 403


def test_the_numbers_are_prometheus_text(db: Database) -> None:
    answer = client(db).get("/metrics")
    assert answer.headers["content-type"].startswith("text/plain; version=0.0.4")
    assert "# TYPE secondread_free_disk_bytes gauge" in answer.text


def test_whether_replicas_are_there_is_said_and_counted_where_a_site_has_them(
    db: Database, monkeypatch: pytest.MonkeyPatch
) -> None:
    """This machine does their work while they are not, so the site is ready in any case."""
    monkeypatch.setattr(health, "readiness", lambda _: (Part("database", ""),))
    settings = Settings(state_dir=db.settings.state_dir, serving="cluster", serve_url="http://127.0.0.1:9")
    with OnReplicas(settings, nullcontext) as replicas, answered_by(replicas):  # type: ignore[arg-type]
        replicas.n_answers["own service"] = 3
        for are_there, said, reached in ((False, "models answer on this machine", 0), (True, "works", 1)):
            if are_there:
                monkeypatch.setattr(replicas, "are_there", lambda: True)
            answer = client(db).get("/readyz")
            assert answer.status_code == 200 and answer.json()["ready"] and said in answer.json()["replicas"]
            lines = client(db).get("/metrics").text.splitlines()
            assert f"secondread_replicas_reached {reached}" in lines
            assert 'secondread_answers_total{by="own service"} 3' in lines
            assert 'secondread_answers_total{by="replicas"} 0' in lines
    assert "replicas" not in client(db).get("/readyz").json()
    assert "replicas" not in client(db).get("/metrics").text
