"""What the browser meets before Streamlit: forms, uploads, and the guards around every request."""

from __future__ import annotations

import asyncio
import logging
import os
import re
import subprocess
import sys
import time
from collections.abc import Iterator
from dataclasses import replace
from datetime import datetime, timedelta
from pathlib import Path
from urllib.parse import parse_qsl, urlencode

import numpy as np
import pytest
from asgi_site import application
from record_site import at_terminal
from sqlalchemy import select
from starlette.applications import Starlette
from starlette.testclient import TestClient
from starlette.types import Message
from starlette.websockets import WebSocketDisconnect

from core import files
from core.errors import InvalidInput
from core.imaging.levels import frame_content
from core.imaging.picture import png_of
from core.records.audit import trail
from core.records.database import tables
from core.records.database.db import Database
from core.records.people import accounts, invitations, sessions
from core.records.people.permissions import Person
from core.records.reads.studies import create_study, load_study
from core.server import guards, inbox, routes
from core.server.guards import SESSION_COOKIE, content_security_policy
from core.server.logs import configure_logging
from core.settings import MIB, REPOSITORY, Settings
from core.types import Image, Modality

PASSWORD = "correct horse battery"
TOGETHER = "0123456789abcdef" * 2
ORIGIN = {"Origin": "http://testserver"}
UPLOAD = {**ORIGIN, "X-Together": TOGETHER}


@pytest.fixture
def settings(tmp_path: Path) -> Settings:
    return Settings(state_dir=tmp_path / "state", upload_mib=1, study_mib=2, study_files=3)


@pytest.fixture
def client(db: Database, settings: Settings) -> Iterator[TestClient]:
    with TestClient(application(db, settings), follow_redirects=False) as test_client:
        yield test_client


@pytest.fixture
def anna(db: Database) -> Person:
    code = accounts.setup_code(db)
    assert code is not None
    return at_terminal(accounts.create_first_administrator(db, code=code, name="Anna Berg", password=PASSWORD))


@pytest.fixture
def signed_in(client: TestClient, anna: Person) -> TestClient:
    answer = post(client, "/login", who="Anna Berg", password=PASSWORD)
    assert answer.headers["location"] == "/"
    client.app.state.owners.add("picture", sessions.actor_of(client.cookies[SESSION_COOKIE]), "")
    return client


def post(client: TestClient, path: str, **fields: str):  # type: ignore[no-untyped-def]
    headers = {**ORIGIN, "Content-Type": "application/x-www-form-urlencoded"}
    return client.post(path, content=urlencode(fields), headers=headers)


def stored(settings: Settings) -> list[Path]:
    return [path for path in (settings.state_dir / "inbox").rglob("*") if path.is_file()]


# Forms


def test_setting_up_creates_the_administrator_and_signs_in(db: Database, client: TestClient) -> None:
    code = str(accounts.setup_code(db))
    answer = post(client, "/setup", code=code, who="Anna Berg", password=PASSWORD, repeated=PASSWORD)
    assert (answer.status_code, answer.headers["location"]) == (303, "/")
    assert client.post("/upload", content=b"x", headers=UPLOAD).status_code == 201


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        ({"code": "AAAAA"}, "code"),
        ({"repeated": "something else here"}, "repeat"),
        ({"password": "short", "repeated": "short"}, "short"),
        ({"who": ""}, "name"),
    ],
)
def test_a_refused_set_up_comes_back_with_its_reason(
    db: Database, client: TestClient, change: dict[str, str], reason: str
) -> None:
    fields = {"code": str(accounts.setup_code(db)), "who": "Anna", "password": PASSWORD, "repeated": PASSWORD}
    answer = post(client, "/setup", **{**fields, **change})
    assert answer.headers["location"] == f"/?said={reason}"
    assert "set-cookie" not in answer.headers and accounts.needs_first_administrator(db)


def test_the_cookie_cannot_be_read_by_scripts_or_sent_by_other_sites(client: TestClient, anna: Person) -> None:
    cookie = post(client, "/login", who="Anna Berg", password=PASSWORD).headers["set-cookie"]
    assert "HttpOnly" in cookie and "SameSite=strict" in cookie and "Secure" not in cookie
    token = re.match(rf"{SESSION_COOKIE}=([^;]+);", cookie)
    assert token is not None and len(token[1]) >= 43


def test_behind_tls_the_cookie_is_for_https_only(db: Database, settings: Settings, anna: Person) -> None:
    with TestClient(application(db, replace(settings, cookie_secure=True)), follow_redirects=False) as client:
        fields = urlencode({"who": "Anna Berg", "password": PASSWORD})
        answer = client.post("/login", content=fields, headers={"Origin": "https://testserver"})
        assert "Secure" in answer.headers["set-cookie"]


def test_nobody_who_fails_from_the_same_address_locks_out_a_browser_that_is_known(
    signed_in: TestClient, db: Database, settings: Settings
) -> None:
    post(signed_in, "/logout")
    with TestClient(application(db, settings), follow_redirects=False) as nobody:
        for _ in range(accounts.FAILURES_BEFORE_LOCK + 1):
            post(nobody, "/login", who="Anna Berg", password="wrong password")
        answer = post(nobody, "/login", who="Anna Berg", password=PASSWORD)
        assert answer.headers["location"] == "/?said=wrong"
    assert post(signed_in, "/login", who="Anna Berg", password=PASSWORD).headers["location"] == "/"


def test_the_address_of_an_attempt_is_what_the_trusted_proxy_says(
    db: Database, settings: Settings, anna: Person
) -> None:
    site = replace(settings, trusted_proxies="192.0.2.1")

    def attempt(client_address: str, password: str) -> str:
        headers = {**ORIGIN, "X-Forwarded-For": client_address}
        with TestClient(application(db, site), follow_redirects=False, client=("192.0.2.1", 1)) as client:
            fields = urlencode({"who": "Anna Berg", "password": password})
            return client.post("/login", content=fields, headers=headers).headers["location"]

    for _ in range(accounts.FAILURES_BEFORE_LOCK):
        attempt("198.51.100.7", "wrong password")
    assert attempt("6.6.6.6, 198.51.100.7", PASSWORD) == "/?said=wrong"
    assert attempt("198.51.100.8", PASSWORD) == "/"


def test_the_device_cookie_cannot_be_read_by_scripts_and_opens_nothing(signed_in: TestClient) -> None:
    post(signed_in, "/logout")
    assert set(signed_in.cookies) == {routes.DEVICE_COOKIE}
    assert signed_in.get("/media/picture.png").status_code == 403
    answer = post(signed_in, "/login", who="Anna Berg", password=PASSWORD)
    (cookie,) = (one for one in answer.headers.get_list("set-cookie") if one.startswith(routes.DEVICE_COOKIE))
    assert "HttpOnly" in cookie and "SameSite=strict" in cookie and "~" not in cookie


def test_a_wrong_password_sets_no_cookie_and_puts_no_words_into_the_address(client: TestClient, anna: Person) -> None:
    answer = post(client, "/login", who="Anna Berg", password="<script>")
    assert answer.headers["location"] == "/?said=wrong" and "set-cookie" not in answer.headers


def test_after_signing_out_a_replayed_cookie_is_refused(signed_in: TestClient) -> None:
    token = signed_in.cookies[SESSION_COOKIE]
    assert signed_in.get("/media/picture.png").status_code == 200
    assert post(signed_in, "/logout").headers["location"] == "/"
    signed_in.cookies.clear()
    signed_in.cookies.set(SESSION_COOKIE, token)
    assert signed_in.get("/media/picture.png").status_code == 403
    assert signed_in.post("/upload", content=b"x", headers=UPLOAD).status_code == 403


def test_signing_in_again_ends_the_session_before(signed_in: TestClient, db: Database, settings: Settings) -> None:
    first = signed_in.cookies[SESSION_COOKIE]
    post(signed_in, "/login", who="Anna Berg", password=PASSWORD)
    assert signed_in.cookies[SESSION_COOKIE] != first
    assert sessions.person_of(db, settings, first) is None


def test_a_changed_password_keeps_only_this_browser_signed_in(
    signed_in: TestClient, db: Database, settings: Settings
) -> None:
    elsewhere = accounts.sign_in(db, settings, "Anna Berg", PASSWORD)
    new = "another long sentence"
    answer = post(signed_in, "/password", old=PASSWORD, password=new, repeated=new)
    assert answer.headers["location"] == "/account?said=changed"
    assert sessions.person_of(db, settings, elsewhere) is None
    assert sessions.person_of(db, settings, signed_in.cookies[SESSION_COOKIE]) is not None
    answer = post(signed_in, "/password", old=PASSWORD, password=new, repeated=new)
    assert answer.headers["location"] == "/account?said=old"


def test_a_link_sets_the_password_and_signs_in(client: TestClient, db: Database, anna: Person) -> None:
    _, link = invitations.invite_person(db, anna, name="Ben Okoye", roles=["radiologist"])
    refused = post(client, "/set-password", link=link, password=PASSWORD, repeated="another")
    assert refused.headers["location"] == f"/invitation?link={link}&said=repeat" and not client.cookies
    signed_in = post(client, "/set-password", link=link, password=PASSWORD, repeated=PASSWORD)
    assert signed_in.headers["location"] == "/" and SESSION_COOKIE in client.cookies
    again = post(client, "/set-password", link=link, password=PASSWORD, repeated=PASSWORD)
    assert again.headers["location"].endswith("said=link")


def test_nobody_changes_a_password_without_being_signed_in(client: TestClient, anna: Person) -> None:
    new = "another long sentence"
    assert post(client, "/password", old=PASSWORD, password=new, repeated=new).headers["location"] == "/"
    assert post(client, "/login", who="Anna Berg", password=PASSWORD).headers["location"] == "/"


@pytest.mark.parametrize("path", ["/login", "/setup", "/password"])
def test_a_form_larger_than_any_of_ours_is_refused(client: TestClient, path: str) -> None:
    assert post(client, path, who="x" * 20_000).status_code == 413


@pytest.mark.parametrize("path", ["/login", "/setup", "/password", "/set-password"])
def test_a_form_with_more_fields_than_any_of_ours_is_refused(client: TestClient, path: str) -> None:
    headers = {**ORIGIN, "Content-Type": "application/x-www-form-urlencoded"}
    for n_fields, expected in ((routes.FORM_FIELDS, 303), (routes.FORM_FIELDS + 1, 400)):
        answer = client.post(path, content="&".join(f"f{n}=x" for n in range(n_fields)), headers=headers)
        assert answer.status_code == expected
    assert "more fields" in answer.text


def test_a_form_of_exactly_the_largest_size_is_read(client: TestClient) -> None:
    headers = {**ORIGIN, "Content-Type": "application/x-www-form-urlencoded"}
    body = "who=".ljust(routes.FORM_BYTES, "x")
    assert client.post("/login", content=body, headers=headers).status_code == 303
    assert client.post("/login", content=body + "x", headers=headers).status_code == 413


def asked_by_hand(app: Starlette, messages: list[Message]) -> tuple[int, list[Message]]:
    """POST /login whose body comes as these messages, and then not at all: the status and what was sent."""
    sent: list[Message] = []

    async def run() -> None:
        given = iter(messages)

        async def receive() -> Message:
            for message in given:
                return message
            await asyncio.sleep(60)
            raise AssertionError("nobody waited that long")

        async def send(message: Message) -> None:
            sent.append(message)

        headers = {"host": "testserver", "origin": "http://testserver", "content-length": "100"}
        scope = {
            "type": "http", "method": "POST", "path": "/login", "raw_path": b"/login", "query_string": b"",
            "root_path": "", "scheme": "http", "http_version": "1.1", "client": ("127.0.0.1", 1),
            "server": ("testserver", 80), "headers": [(k.encode(), v.encode()) for k, v in headers.items()],
        }  # fmt: skip
        await app(scope, receive, send)

    asyncio.run(run())
    return sent[0]["status"], sent


def test_half_a_form_is_not_waited_for(db: Database, settings: Settings, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(routes, "FORM_SECONDS", 0.05)
    monkeypatch.setattr(guards, "REST_STALL_SECONDS", 0.05)
    half: Message = {"type": "http.request", "body": b"who=An", "more_body": True}
    status, sent = asked_by_hand(application(db, settings), [half])
    assert status == 408 and (b"connection", b"close") in sent[0]["headers"]


def test_a_browser_that_goes_away_in_a_form_is_no_failure(db: Database, settings: Settings) -> None:
    half: Message = {"type": "http.request", "body": b"who=An", "more_body": True}
    status, _ = asked_by_hand(application(db, settings), [half, {"type": "http.disconnect"}])
    assert status == 499


def test_a_get_does_nothing(signed_in: TestClient) -> None:
    for path in ("/login", "/setup", "/logout", "/password", "/upload"):
        signed_in.get(path)
    assert signed_in.get("/media/picture.png").status_code == 200


# Guards


@pytest.mark.parametrize(
    "headers",
    [{}, {"Origin": "http://evil.example"}, {"Origin": "null"}, {"Origin": "http://testserver.evil.example"}],
)
def test_what_another_site_posts_is_refused(signed_in: TestClient, headers: dict[str, str]) -> None:
    for path in ("/login", "/setup", "/logout", "/password", "/upload", "/_stcore/upload_file/a/b"):
        assert signed_in.post(path, headers=headers).status_code == 403, path
    assert signed_in.delete(f"/upload/{TOGETHER}/{TOGETHER}", headers=headers).status_code == 403
    assert signed_in.get("/media/picture.png").status_code == 200  # still signed in


@pytest.mark.parametrize("origin", [{}, {"Origin": "http://evil.example"}, {"Origin": "null"}])
def test_a_websocket_of_another_origin_is_refused(client: TestClient, origin: dict[str, str]) -> None:
    with pytest.raises(WebSocketDisconnect), client.websocket_connect("/_stcore/stream", headers=origin):
        pass
    with client.websocket_connect("/_stcore/stream", headers=ORIGIN) as socket:
        assert socket.receive_text() == "a page"


@pytest.mark.parametrize("path", ["/", "/about", "/_stcore/metrics", "/media/picture.png", "/upload"])
def test_every_answer_carries_the_security_headers(client: TestClient, path: str) -> None:
    headers = client.get(path).headers
    assert "frame-ancestors 'none'" in headers["content-security-policy"]
    assert headers["x-frame-options"] == "DENY"
    assert headers["x-content-type-options"] == "nosniff"
    assert headers["referrer-policy"] == "same-origin"


def test_scripts_run_only_from_here_or_by_their_hash() -> None:
    policy = content_security_policy("<head><script>window.ready = false</script></head>")
    scripts = next(part for part in policy.split("; ") if part.startswith("script-src"))
    # echo -n 'window.ready = false' | openssl dgst -sha256 -binary | base64
    assert "'sha256-Z7L2T8khoKWK3qtQF/wSktj9xGCtCfem3Y6SPjwBwdU='" in scripts
    assert "unsafe-inline" not in scripts and "unsafe-eval" not in scripts and "http" not in scripts


@pytest.mark.parametrize(
    "path", ["/_stcore/metrics", "/_stcore/agent/mcp", "/_stcore/script-health-check", "/auth/login", "/oauth2callback"]
)
def test_routes_that_nobody_needs_are_closed_to_everybody(signed_in: TestClient, path: str) -> None:
    assert signed_in.get(path).status_code == 404


@pytest.fixture
def elsewhere(db: Database, signed_in: TestClient) -> Iterator[TestClient]:
    """Another browser, of the same person, that knows every address."""
    with TestClient(signed_in.app, follow_redirects=False) as client:
        client.cookies.set(SESSION_COOKIE, accounts.sign_in(db, db.settings, "Anna Berg", PASSWORD))
        yield client


def test_a_file_answers_only_the_session_that_it_was_made_in(signed_in: TestClient, elsewhere: TestClient) -> None:
    owners, mine = signed_in.app.state.owners, sessions.actor_of(signed_in.cookies[SESSION_COOKIE])
    owners.add("report", mine, "export_report")
    for path in ("/media/report.pdf", "/media/report"):
        assert signed_in.get(path).status_code == 200
        for ask in (elsewhere.get, elsewhere.head, elsewhere.options):
            assert ask(path).status_code == 404
    assert signed_in.get("/media/other.pdf").status_code == 404
    owners.add("report", sessions.actor_of(elsewhere.cookies[SESSION_COOKIE]), "export_report")
    assert elsewhere.get("/media/report.pdf").status_code == signed_in.get("/media/report.pdf").status_code == 200
    owners.forget("report")
    assert elsewhere.get("/media/report.pdf").status_code == signed_in.get("/media/report.pdf").status_code == 404


def test_a_file_is_not_handed_out_once_the_role_that_it_was_made_with_is_gone(
    signed_in: TestClient, db: Database, anna: Person
) -> None:
    mine = sessions.actor_of(signed_in.cookies[SESSION_COOKIE])
    signed_in.app.state.owners.add("report", mine, "export_report")
    assert signed_in.get("/media/report.pdf").status_code == 200
    accounts.set_roles(db, anna, anna.id, ["administrator", "researcher"])
    assert signed_in.get("/media/report.pdf").status_code == 404
    assert signed_in.get("/media/picture.png").status_code == 200  # which needs no role
    accounts.set_roles(db, anna, anna.id, ["administrator", "radiologist"])
    assert signed_in.get("/media/report.pdf").status_code == 200


def test_pictures_need_a_session_and_are_not_cached(signed_in: TestClient) -> None:
    answer = signed_in.get("/media/picture.png")
    assert answer.status_code == 200 and answer.headers["cache-control"] == "private, no-store"
    signed_in.cookies.clear()
    for path in ("/media/picture.png", "/_stcore/upload_file/session/file", "/upload"):
        assert signed_in.get(path).status_code == 403


def test_a_frame_of_a_clip_answers_whoever_may_see_the_study_and_is_not_cached(
    signed_in: TestClient, db: Database, anna: Person
) -> None:
    pixels = [np.full((40, 60), level, np.float32) for level in (0.25, 0.5)]
    image = Image(
        pixels[0], "a" * 64, Modality.ULTRASOUND, "tags", laterality="R", n_frames=2,
        frames=tuple(png_of(one) for one in pixels),
    )  # fmt: skip
    study_id = create_study(db, anna, display_name="clip", images=[image])
    [stored_image] = load_study(db, anna, study_id).images
    answer = signed_in.get(f"/frames/{stored_image.id}/1")
    assert answer.status_code == 200 and answer.headers["cache-control"] == "private, no-store"
    assert answer.content == frame_content(pixels[1], stored_image.frames[1])
    assert answer.content[:32].hex() == stored_image.frames[1].removesuffix(".png")
    for path in (f"/frames/{stored_image.id}/2", f"/frames/{'0' * 32}/0"):
        assert signed_in.get(path).status_code == 404
    rex = accounts.create_person(db, anna, name="Rex Sand", password=PASSWORD, roles=["researcher"])
    signed_in.cookies.set(SESSION_COOKIE, sessions.start_session(db, rex))
    assert signed_in.get(f"/frames/{stored_image.id}/1").status_code == 403
    signed_in.cookies.clear()
    assert signed_in.get(f"/frames/{stored_image.id}/1").status_code == 403


@pytest.mark.parametrize(("path", "is_noted"), [(f"/frames/{'0' * 32}/0", False), ("/media/picture.png", True)])
def test_a_clip_that_plays_on_keeps_no_session_awake(
    signed_in: TestClient, db: Database, monkeypatch: pytest.MonkeyPatch, path: str, is_noted: bool
) -> None:
    def seen_at() -> datetime:
        with db.read() as connection:
            seen: datetime = connection.execute(select(tables.session.c.last_seen_at)).scalar_one()
        return seen

    before = seen_at()
    monkeypatch.setattr(sessions, "now", lambda: before + timedelta(seconds=60))
    assert signed_in.get(path).status_code == (200 if is_noted else 404)
    assert seen_at() == (before + timedelta(seconds=60) if is_noted else before)


# Uploads


def test_an_upload_lands_whole_in_the_inbox(signed_in: TestClient, settings: Settings, anna: Person) -> None:
    content = os.urandom(300_000)
    answer = signed_in.post("/upload", content=content, headers=UPLOAD)
    assert answer.status_code == 201
    path = inbox.find_item(settings, anna, together=TOGETHER, item=answer.json()["id"])
    assert path.read_bytes() == content
    assert path.is_relative_to(settings.state_dir / "inbox" / str(anna.id))


@pytest.mark.parametrize("when", ["before", "in the middle"])
def test_no_upload_is_acknowledged_when_the_state_folder_was_moved_away(
    signed_in: TestClient, settings: Settings, tmp_path: Path, when: str
) -> None:
    def move() -> None:
        settings.state_dir.rename(tmp_path / "elsewhere")

    def chunks() -> Iterator[bytes]:
        yield b"x" * 1000
        move()
        yield b"x" * 1000

    if when == "before":
        move()
    answer = signed_in.post("/upload", content=b"x" if when == "before" else chunks(), headers=UPLOAD)
    assert answer.status_code in (409, 503) and "state folder" in answer.text
    assert not settings.state_dir.exists()


def test_nobody_uploads_without_the_role(client: TestClient, db: Database, settings: Settings, anna: Person) -> None:
    assert client.post("/upload", content=b"x", headers=UPLOAD).status_code == 403
    accounts.create_person(db, anna, name="Rosa", password=PASSWORD, roles=["researcher"])
    post(client, "/login", who="Rosa", password=PASSWORD)
    answer = client.post("/upload", content=b"x", headers=UPLOAD)
    assert answer.status_code == 403 and "radiologist" in answer.json()["refused"]
    assert stored(settings) == []


@pytest.mark.parametrize("end", ["signed out", "disabled", "demoted"])
def test_a_file_whose_sender_may_send_no_more_when_it_is_whole_is_not_kept(
    signed_in: TestClient, db: Database, settings: Settings, anna: Person, end: str
) -> None:
    chief = at_terminal(accounts.create_person(db, anna, name="Chief", password=PASSWORD, roles=["administrator"]))

    def chunks() -> Iterator[bytes]:
        yield b"x" * 1000
        if end == "signed out":
            accounts.sign_out_everywhere(db, chief, anna.id)
        elif end == "disabled":
            accounts.disable_person(db, chief, anna.id)
        else:
            accounts.set_roles(db, chief, anna.id, ["researcher"])
        yield b"x" * 1000

    answer = signed_in.post("/upload", content=chunks(), headers=UPLOAD)
    assert answer.status_code == 403
    assert ("radiologist" if end == "demoted" else "not signed in any more") in answer.json()["refused"]
    assert stored(settings) == []


def test_a_file_over_the_limit_is_refused_with_a_sentence_and_leaves_nothing(
    signed_in: TestClient, settings: Settings
) -> None:
    answer = signed_in.post("/upload", content=b"x" * (MIB + 1), headers=UPLOAD)
    assert answer.status_code == 413 and "larger than 1 MiB" in answer.json()["refused"]
    assert stored(settings) == []


def test_a_file_that_hides_its_length_is_cut_off(signed_in: TestClient, settings: Settings) -> None:
    def chunks() -> Iterator[bytes]:
        for _ in range(20):
            yield b"x" * 100_000

    answer = signed_in.post("/upload", content=chunks(), headers=UPLOAD)
    assert answer.status_code == 413 and "larger than 1 MiB" in answer.json()["refused"]
    assert stored(settings) == []


def test_the_files_of_a_study_have_a_limit_together(signed_in: TestClient, settings: Settings) -> None:
    for _ in range(2):
        assert signed_in.post("/upload", content=b"x" * 900_000, headers=UPLOAD).status_code == 201
    answer = signed_in.post("/upload", content=b"x" * 900_000, headers=UPLOAD)
    assert answer.status_code == 413 and "together are larger than 2 MiB" in answer.json()["refused"]
    other = {**UPLOAD, "X-Together": "f" * 32}
    assert signed_in.post("/upload", content=b"x" * 900_000, headers=other).status_code == 201


def test_a_study_has_a_limit_of_files(signed_in: TestClient) -> None:
    for _ in range(3):
        assert signed_in.post("/upload", content=b"x", headers=UPLOAD).status_code == 201
    answer = signed_in.post("/upload", content=b"x", headers=UPLOAD)
    assert answer.status_code == 413 and "at most 3 files" in answer.json()["refused"]


def test_one_person_cannot_fill_the_disk_with_many_studies(signed_in: TestClient) -> None:
    answers = [
        signed_in.post("/upload", content=b"x" * MIB, headers={**UPLOAD, "X-Together": f"{n:032x}"}) for n in range(6)
    ]
    assert [answer.status_code for answer in answers] == [201, 201, 201, 201, 413, 413]
    assert "earlier uploads" in answers[-1].json()["refused"]


def test_what_was_abandoned_an_hour_ago_makes_room(signed_in: TestClient, settings: Settings) -> None:
    for n in range(4):
        signed_in.post("/upload", content=b"x" * MIB, headers={**UPLOAD, "X-Together": f"{n:032x}"})
    long_ago = time.time() - inbox.ABANDONED_SECONDS - 60
    for path in stored(settings):
        os.utime(path.parent, (long_ago, long_ago))
    assert signed_in.post("/upload", content=b"x" * MIB, headers=UPLOAD).status_code == 201
    assert len(stored(settings)) == 1


def test_many_uploads_at_once_share_the_room_of_one_person(
    db: Database, settings: Settings, anna: Person, signed_in: TestClient
) -> None:
    """Each announces 1 MiB and waits until all have begun: four of them fit into the 4 MiB of one person."""
    statuses: list[int] = []

    async def run() -> None:
        app, go_on = application(db, settings), asyncio.Event()
        answered = asyncio.Semaphore(0)

        async def upload(number: int) -> None:
            is_sent = False

            async def receive() -> Message:
                nonlocal is_sent
                await go_on.wait()
                is_last, is_sent = is_sent, True
                return {"type": "http.request", "body": b"" if is_last else b"x" * MIB, "more_body": not is_last}

            async def send(message: Message) -> None:
                if message["type"] == "http.response.start":
                    statuses.append(message["status"])
                    answered.release()

            headers = {
                "host": "testserver", "origin": "http://testserver", "content-length": str(MIB),
                "x-together": f"{number:032x}", "cookie": f"{SESSION_COOKIE}={signed_in.cookies[SESSION_COOKIE]}",
            }  # fmt: skip
            scope = {
                "type": "http", "method": "POST", "path": "/upload", "raw_path": b"/upload", "query_string": b"",
                "root_path": "", "scheme": "http", "http_version": "1.1", "client": ("127.0.0.1", 1),
                "server": ("testserver", 80), "headers": [(k.encode(), v.encode()) for k, v in headers.items()],
            }  # fmt: skip
            await app(scope, receive, send)

        tasks = [asyncio.create_task(upload(number)) for number in range(24)]
        for _ in range(20):
            await asyncio.wait_for(answered.acquire(), 30)
        assert statuses == [413] * 20, "refused before a byte of them was read"
        go_on.set()
        await asyncio.gather(*tasks)

    asyncio.run(run())
    assert statuses[20:] == [201] * 4
    assert sum(path.stat().st_size for path in stored(settings)) == 4 * MIB


def test_a_person_has_a_limit_of_files_in_all_however_small(signed_in: TestClient, settings: Settings) -> None:
    most = inbox.INBOX_STUDIES * settings.study_files
    answers = [
        signed_in.post("/upload", content=b"x", headers={**UPLOAD, "X-Together": f"{n:032x}"}) for n in range(most + 1)
    ]
    assert [answer.status_code for answer in answers] == [201] * most + [413]
    assert "earlier uploads" in answers[-1].json()["refused"]


def test_small_files_count_as_whole_blocks(db: Database, settings: Settings, anna: Person) -> None:
    site = replace(settings, study_files=10_000)
    place = inbox.open_place(site, anna, together=TOGETHER, n_bytes=MIB)
    other = inbox.open_place(site, anna, together=TOGETHER, n_bytes=MIB - inbox.BLOCK_BYTES)
    last = inbox.open_place(site, anna, together=TOGETHER, n_bytes=1)
    with pytest.raises(InvalidInput, match="together are larger"):
        last.reserve(inbox.BLOCK_BYTES + 1)
    with pytest.raises(InvalidInput, match="together are larger"):
        inbox.open_place(site, anna, together=TOGETHER, n_bytes=1)
    for one in (place, other, last):
        one.give_back()
    inbox.open_place(site, anna, together=TOGETHER, n_bytes=1).give_back()
    assert not list((settings.state_dir / "inbox").rglob("data"))


def test_the_inbox_is_not_walked_for_each_upload(signed_in: TestClient, monkeypatch: pytest.MonkeyPatch) -> None:
    assert signed_in.post("/upload", content=b"x", headers=UPLOAD).status_code == 201
    monkeypatch.setattr(inbox, "_measure", lambda *_: pytest.fail("walked"))
    assert signed_in.post("/upload", content=b"x", headers=UPLOAD).status_code == 201


def test_what_a_killed_server_had_half_received_is_gone_at_the_next_start(
    db: Database, settings: Settings, anna: Person
) -> None:
    """It lay there for a day, counted against its owner, and nobody could ever finish it."""
    code = (
        "import os, sys; from pathlib import Path; from core.server import inbox; from core.settings import Settings;"
        "from core.records.people.permissions import Person;"
        f"place = inbox.open_place(Settings(state_dir=Path(sys.argv[1])), Person({anna.id}, '', []),"
        f" together='{TOGETHER}', n_bytes=9); place.path.write_bytes(b'half'); print('there', flush=True);"
        "sys.stdin.read() or os._exit(9)"
    )
    child = subprocess.Popen(
        [sys.executable, "-c", code, str(settings.state_dir)], stdin=subprocess.PIPE, stdout=subprocess.PIPE,
        cwd=REPOSITORY,
    )  # fmt: skip
    assert child.stdin is not None and child.stdout is not None and child.stdout.readline() == b"there\n"
    files.sweep(settings.state_dir)
    inbox.remove_unfinished(settings)
    assert [path.read_bytes() for path in stored(settings)] == [b"half"]  # somebody is still sending it
    child.stdin.close()
    assert child.wait(60) == 9
    files.sweep(settings.state_dir)
    inbox.remove_unfinished(settings)
    assert list((settings.state_dir / "inbox").rglob("*")) == [settings.state_dir / "inbox" / str(anna.id)]


def test_an_upload_is_on_the_disk_before_it_is_acknowledged(
    signed_in: TestClient, settings: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    synced: list[int] = []
    fsync = os.fsync
    monkeypatch.setattr(os, "fsync", lambda descriptor: (synced.append(os.fstat(descriptor).st_ino), fsync(descriptor)))
    assert signed_in.post("/upload", content=b"whole", headers=UPLOAD).status_code == 201
    (path,) = stored(settings)
    assert {path.stat().st_ino, path.parent.stat().st_ino} <= set(synced)


def test_what_a_restart_finds_in_the_inbox_counts(signed_in: TestClient, monkeypatch: pytest.MonkeyPatch) -> None:
    for _ in range(3):
        assert signed_in.post("/upload", content=b"x", headers=UPLOAD).status_code == 201
    monkeypatch.setattr(inbox, "_accounts", {})
    assert signed_in.post("/upload", content=b"x", headers=UPLOAD).status_code == 413


def test_an_upload_that_is_taken_back_gives_its_room_back(signed_in: TestClient) -> None:
    ids = [signed_in.post("/upload", content=b"x", headers=UPLOAD).json()["id"] for _ in range(3)]
    assert signed_in.delete(f"/upload/{TOGETHER}/{ids[0]}", headers=ORIGIN).status_code == 204
    assert signed_in.post("/upload", content=b"x", headers=UPLOAD).status_code == 201


def test_an_empty_file_is_refused(signed_in: TestClient, settings: Settings) -> None:
    assert "empty" in signed_in.post("/upload", content=b"", headers=UPLOAD).json()["refused"]
    assert stored(settings) == []


@pytest.mark.parametrize("together", ["", "../../etc", "0" * 31, "G" * 32])
def test_an_upload_cannot_choose_its_folder(signed_in: TestClient, settings: Settings, together: str) -> None:
    answer = signed_in.post("/upload", content=b"x", headers={**ORIGIN, "X-Together": together})
    assert answer.status_code == 413 and "Reload" in answer.json()["refused"]
    assert stored(settings) == []


def test_a_browser_that_goes_away_leaves_nothing(
    db: Database, settings: Settings, anna: Person, signed_in: TestClient
) -> None:
    async def interrupted() -> None:
        messages = iter(
            [
                {"type": "http.request", "body": b"x" * 1000, "more_body": True},
                {"type": "http.disconnect"},
            ]
        )

        async def receive() -> Message:
            return next(messages)

        async def send(_: Message) -> None:
            pass

        cookie = f"{SESSION_COOKIE}={signed_in.cookies[SESSION_COOKIE]}"
        headers = {"host": "testserver", "origin": "http://testserver", "x-together": TOGETHER, "cookie": cookie}
        scope = {
            "type": "http", "method": "POST", "path": "/upload", "raw_path": b"/upload", "query_string": b"",
            "root_path": "", "scheme": "http", "http_version": "1.1", "client": ("127.0.0.1", 1),
            "server": ("testserver", 80), "headers": [(k.encode(), v.encode()) for k, v in headers.items()],
        }  # fmt: skip
        await application(db, settings)(scope, receive, send)

    asyncio.run(interrupted())
    assert stored(settings) == []


def test_an_upload_is_taken_back_by_whom_it_belongs_to(
    signed_in: TestClient, db: Database, settings: Settings, anna: Person
) -> None:
    item = signed_in.post("/upload", content=b"x", headers=UPLOAD).json()["id"]
    accounts.create_person(db, anna, name="Ben", password=PASSWORD, roles=["radiologist"])
    with TestClient(application(db, settings), follow_redirects=False) as other:
        post(other, "/login", who="Ben", password=PASSWORD)
        assert other.delete(f"/upload/{TOGETHER}/{item}", headers=ORIGIN).status_code == 404
    assert signed_in.delete(f"/upload/{TOGETHER}/{item}", headers=ORIGIN).status_code == 204
    assert stored(settings) == []
    assert signed_in.delete(f"/upload/{TOGETHER}/{item}", headers=ORIGIN).status_code == 404


def test_uploads_that_nobody_used_go_after_a_day(signed_in: TestClient, settings: Settings, anna: Person) -> None:
    item = signed_in.post("/upload", content=b"x", headers=UPLOAD).json()["id"]
    folder = inbox.find_item(settings, anna, together=TOGETHER, item=item).parent
    assert inbox.remove_old(settings) == 0
    yesterday = time.time() - inbox.LIFETIME_SECONDS - 60
    os.utime(folder, (yesterday, yesterday))
    assert inbox.remove_old(settings) == 1
    assert not folder.parent.exists()


def test_uploads_that_nobody_used_go_after_a_day_while_nobody_else_uploads(
    settings: Settings, anna: Person, signed_in: TestClient, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(inbox, "LOOK_SECONDS", 0.05)
    item = signed_in.post("/upload", content=b"x", headers=UPLOAD).json()["id"]
    folder = inbox.find_item(settings, anna, together=TOGETHER, item=item).parent
    with inbox.emptied(settings):
        time.sleep(0.2)
        assert folder.exists()
        yesterday = time.time() - inbox.LIFETIME_SECONDS - 60
        os.utime(folder, (yesterday, yesterday))
        end = time.monotonic() + 20
        while folder.parent.exists() and time.monotonic() < end:
            time.sleep(0.02)
    assert not folder.parent.exists()


def test_no_name_of_a_file_or_person_reaches_the_log(
    signed_in: TestClient, caplog: pytest.LogCaptureFixture, settings: Settings
) -> None:
    caplog.set_level(logging.DEBUG)
    signed_in.post("/upload?name=Doe_Jane.dcm", content=b"x", headers={**UPLOAD, "X-File-Name": "Doe_Jane.dcm"})
    post(signed_in, "/login", who="Anna Berg", password="my wrong password")
    ours = " ".join(record.getMessage() for record in caplog.records if record.name.startswith("core"))
    assert "Received a file of 1 bytes" in ours and "A sign-in was refused" in ours
    for secret in ("Doe", "Anna", "wrong password"):
        assert secret not in ours


def test_the_log_goes_to_a_file_once_however_often_it_is_configured(settings: Settings) -> None:
    root = logging.getLogger()
    before, level = list(root.handlers), root.level
    try:
        configure_logging(settings)
        configure_logging(settings)
        logging.getLogger("core.try").info("one line")
        text = (settings.state_dir / "logs" / "secondread.log").read_text(encoding="utf-8")
        assert text.count("one line") == 1
    finally:
        for handler in [handler for handler in root.handlers if handler not in before]:
            root.removeHandler(handler)
            handler.close()
        root.setLevel(level)


def test_failed_attempts_are_in_the_audit_trail(client: TestClient, db: Database, anna: Person) -> None:
    post(client, "/login", who="Anna Berg", password="wrong password!")
    assert trail.entries(db, anna)[0].action == "sign-in refused"


# Where one goes on after signing in

LINK = {"page": "compare", "choices": "data=BUSI+x&scorers=a%26b&scorers=c&at=0.14&said=wrong"}
ASKED = "/compare?data=BUSI+x&scorers=a%26b&scorers=c&at=0.14"


def test_a_link_opened_while_signed_out_is_where_one_is_after_signing_in(client: TestClient, anna: Person) -> None:
    wrong = post(client, "/login", who="Anna Berg", password="wrong password", **LINK)
    assert wrong.headers["location"] == f"{ASKED}&said=wrong"
    assert post(client, "/login", who="Anna Berg", password=PASSWORD, **LINK).headers["location"] == ASKED


@pytest.mark.parametrize("page", ["", "//evil.example", "evil.example", "/x", "..", "a\r\nb", "A", "a" * 41])
def test_nothing_but_a_page_of_ours_is_gone_on_to(client: TestClient, anna: Person, page: str) -> None:
    answer = post(client, "/login", who="Anna Berg", password=PASSWORD, page=page, choices="at=1")
    assert answer.headers["location"] == "/"


@pytest.mark.parametrize(("length", "query"), [(6000, "?a=" + "b" * 5998), (6001, "")])
def test_a_query_that_no_page_of_ours_makes_is_left_away(
    client: TestClient, anna: Person, length: int, query: str
) -> None:
    choices = "a=" + "b" * (length - 2)
    answer = post(client, "/login", who="Anna Berg", password=PASSWORD, page="compare", choices=choices)
    assert answer.headers["location"] == f"/compare{query}"


def test_with_a_second_factor_one_goes_on_after_the_second_step(
    client: TestClient, anna: Person, db: Database, monkeypatch: pytest.MonkeyPatch
) -> None:
    from core.records.people import second_factor

    def needed(*_: object, **__: object) -> str:
        raise accounts.SecondFactorNeeded("pending")

    monkeypatch.setattr(accounts, "sign_in", needed)
    answer = post(client, "/login", who="Anna Berg", password=PASSWORD, **LINK)
    handed = dict(parse_qsl(answer.headers["location"].partition("?")[2]))
    assert answer.headers["location"].startswith("/second_factor?") and handed["page"] == "compare"
    monkeypatch.setattr(second_factor, "sign_in", lambda *_, **__: sessions.start_session(db, anna))
    assert post(client, "/second-factor", code="123456", **handed).headers["location"] == ASKED
