"""nginx and Caddy with the examples of deploy/, before the real application and a server that tells what it got."""

from __future__ import annotations

import contextlib
import http.client
import json
import re
import socket
import ssl
import subprocess
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest
from proxies import (
    DEPLOY,
    HOST,
    RunningProxy,
    filled,
    free_port,
    make_certificate,
    needed_program,
    running_caddy,
    running_nginx,
)
from running_app import RunningApp, chromium, running_app
from websockets.exceptions import InvalidStatus
from websockets.sync.client import connect
from websockets.typing import Origin, Subprotocol

from core.settings import MIB

PROXIES: dict[str, Callable[[Path, int], AbstractContextManager[RunningProxy]]] = {
    "nginx": running_nginx,
    "caddy": running_caddy,
}
NAME, PASSWORD = "Anna+Berg", "correct+horse+battery"
TOGETHER = "0123456789abcdef" * 2
SENT_ONCE = (
    "content-security-policy",
    "x-frame-options",
    "x-content-type-options",
    "referrer-policy",
    "cross-origin-opener-policy",
    "permissions-policy",
    "strict-transport-security",
)


@pytest.fixture(scope="module")
def app(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RunningApp]:
    state_dir = tmp_path_factory.mktemp("behind") / "state"
    with running_app(
        state_dir, cookie_secure=1, upload_mib=1, study_mib=4, allowed_hosts=HOST, trusted_proxies="127.0.0.1,::1"
    ) as running:
        yield running


@pytest.fixture(scope="module", params=sorted(PROXIES))
def proxy(
    request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory, app: RunningApp
) -> Iterator[RunningProxy]:
    folder = tmp_path_factory.mktemp(request.param)
    with PROXIES[request.param](folder, int(app.url.rpartition(":")[2])) as running:
        yield running


_session: dict[Path, str] = {}


@pytest.fixture
def cookie(proxy: RunningProxy, app: RunningApp) -> str:
    """Of the first administrator, who is set up through the first proxy and signs in through the second."""
    if app.state_dir not in _session:
        fields = f"code={app.setup_code}&who={NAME}&password={PASSWORD}&repeated={PASSWORD}"
        answer, _ = proxy.post("/setup", fields)
        assert answer.getheader("Location") == "/", answer.getheader("Location")
        _session[app.state_dir] = ""
    answer, _ = proxy.post("/login", f"who={NAME}&password={PASSWORD}")
    assert (answer.status, answer.getheader("Location")) == (303, "/")
    return str(answer.getheader("Set-Cookie")).split(";")[0]


class _Echo(BaseHTTPRequestHandler):
    """Answers with the headers that it got."""

    protocol_version = "HTTP/1.1"

    def do_GET(self) -> None:
        said = json.dumps([[name.lower(), value] for name, value in self.headers.items()]).encode()
        self.send_response(200)
        self.send_header("Content-Length", str(len(said)))
        self.end_headers()
        self.wfile.write(said)

    def do_POST(self) -> None:
        if self.headers["Content-Length"]:
            self.rfile.read(int(self.headers["Content-Length"]))
        else:
            while size := int(self.rfile.readline() or b"0", 16):
                self.rfile.read(size + 2)
            self.rfile.readline()
        self.do_GET()

    def handle(self) -> None:
        with contextlib.suppress(BrokenPipeError, ConnectionResetError):  # the proxy ends what is too large
            super().handle()

    def log_message(self, format: str, *args: object) -> None:
        pass


@pytest.fixture(params=sorted(PROXIES))
def before_echo(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[RunningProxy]:
    """A proxy before a server that tells which headers reached it."""
    with ThreadingHTTPServer(("127.0.0.1", 0), _Echo) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        with PROXIES[request.param](tmp_path, server.server_port) as running:
            yield running
        server.shutdown()


# The files as they are


def test_nginx_accepts_the_example_with_nothing_changed_but_its_paths(tmp_path: Path) -> None:
    program = needed_program("nginx", "nginx-light")
    certificate = make_certificate(tmp_path)
    text = filled(
        (DEPLOY / "nginx" / "secondread.conf").read_text(encoding="utf-8"),
        {
            "/etc/ssl/certs/secondread.crt": str(certificate.path),
            "/etc/ssl/private/secondread.key": str(certificate.key),
            "/var/log/nginx": str(tmp_path),
        },
    )
    (tmp_path / "site.conf").write_text(text)
    (tmp_path / "nginx.conf").write_text(
        f"pid {tmp_path}/pid; events {{}}\nhttp {{ access_log off; include {tmp_path}/site.conf; }}"
    )
    done = subprocess.run(
        [program, "-e", "stderr", "-t", "-c", str(tmp_path / "nginx.conf")], capture_output=True, text=True, check=False
    )
    assert done.returncode == 0 and "warn" not in done.stderr, done.stderr


def test_caddy_accepts_the_example_as_it_is(tmp_path: Path) -> None:
    program = needed_program("caddy", "caddy")
    command = [program, "adapt", "--config", str(DEPLOY / "caddy" / "Caddyfile"), "--adapter", "caddyfile"]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0 and '"level":"warn"' not in done.stderr, done.stderr
    site = json.loads(done.stdout)["apps"]["http"]["servers"]["srv0"]
    assert site["listen"] == [":443"] and site["routes"][0]["match"] == [{"host": ["secondread.example"]}]


# In front of the application


def test_the_page_comes_with_each_security_header_once(proxy: RunningProxy) -> None:
    answer, body = proxy.ask("GET", "/")
    assert answer.status == 200 and b'<div id="root">' in body
    names = [name.lower() for name, _ in answer.getheaders()]
    assert {name: names.count(name) for name in SENT_ONCE} == dict.fromkeys(SENT_ONCE, 1)


def test_a_form_of_another_site_is_refused_with_the_same_headers(proxy: RunningProxy) -> None:
    answer, body = proxy.ask("POST", "/login", b"who=x", {"Origin": "https://elsewhere.example"})
    assert answer.status == 403 and b"another site" in body
    names = [name.lower() for name, _ in answer.getheaders()]
    assert {name: names.count(name) for name in SENT_ONCE} == dict.fromkeys(SENT_ONCE, 1)


def test_the_session_cookie_travels_over_tls_only(proxy: RunningProxy, cookie: str) -> None:
    answer, _ = proxy.post("/login", f"who={NAME}&password={PASSWORD}")
    flags = {flag.strip().lower() for flag in str(answer.getheader("Set-Cookie")).split(";")[1:]}
    assert {"secure", "httponly", "samesite=strict", "path=/"} <= flags


def test_the_websocket_of_a_page_opens_and_that_of_another_site_does_not(proxy: RunningProxy, cookie: str) -> None:
    address = f"wss://{HOST}:{proxy.port}/_stcore/stream"

    def opened(origin: str) -> None:
        with connect(
            address,
            sock=socket.create_connection(("127.0.0.1", proxy.port), timeout=30),
            ssl=proxy.context(),
            server_hostname=HOST,
            origin=Origin(origin),
            subprotocols=[Subprotocol("streamlit")],
            additional_headers={"Cookie": cookie},
        ) as stream:
            stream.ping().wait(10)

    opened(proxy.url)
    with pytest.raises(InvalidStatus) as refused:
        opened("https://elsewhere.example")
    assert refused.value.response.status_code == 403


@pytest.mark.browser
def test_a_browser_sees_the_sign_in_page(proxy: RunningProxy, cookie: str) -> None:
    with chromium() as browser:
        page = browser.new_context(ignore_https_errors=True).new_page()
        failures: list[str] = []
        page.on("console", lambda message: failures.append(message.text) if message.type == "error" else None)
        page.goto(proxy.url)
        page.fill("[name=who]", NAME.replace("+", " "))
        page.fill("[name=password]", PASSWORD.replace("+", " "))
        page.click("form[action='/login'] button")
        page.wait_for_selector("text=Sign out")
        assert [text for text in failures if "Content Security Policy" in text or "WebSocket" in text] == []


def test_a_file_as_large_as_the_site_allows_arrives(proxy: RunningProxy, app: RunningApp, cookie: str) -> None:
    answer, body = proxy.ask("POST", "/upload", b"x" * MIB, upload_headers(proxy, cookie))
    assert answer.status == 201, body
    (stored,) = (app.state_dir / "inbox").rglob(f"{json.loads(body)['id']}/data")
    assert stored.stat().st_size == MIB
    answer, _ = proxy.ask(
        "DELETE", f"/upload/{TOGETHER}/{json.loads(body)['id']}", headers=upload_headers(proxy, cookie)
    )
    assert answer.status == 204 and not stored.exists()


def test_a_file_that_is_larger_is_refused_in_the_applications_own_words(
    proxy: RunningProxy, app: RunningApp, cookie: str
) -> None:
    for size in (MIB + 1, 40 * MIB, MIB + 1, 40 * MIB):
        answer, body = proxy.ask("POST", "/upload", b"x" * size, upload_headers(proxy, cookie))
        assert answer.status == 413 and "larger than 1 MiB" in json.loads(body)["refused"]
    assert all(path.stat().st_size <= MIB for path in (app.state_dir / "inbox").rglob("data"))


def test_who_is_not_signed_in_any_more_reads_that_and_not_a_failure_of_the_proxy(proxy: RunningProxy) -> None:
    answer, body = proxy.ask("POST", "/upload", b"x" * 40 * MIB, upload_headers(proxy, "secondread_session=gone"))
    assert answer.status == 403 and body == b"Please sign in first."


def test_no_body_is_taken_that_no_site_allows(proxy: RunningProxy, cookie: str) -> None:
    connection = proxy.connection()
    connection.putrequest("POST", "/upload")
    for name, value in {**upload_headers(proxy, cookie), "Content-Length": str(600 * MIB)}.items():
        connection.putheader(name, value)
    connection.endheaders()
    assert connection.getresponse().status == 413
    connection.close()


def test_a_file_streams_through_before_it_is_whole(proxy: RunningProxy, app: RunningApp, cookie: str) -> None:
    inbox = app.state_dir / "inbox"
    connection = proxy.connection()
    connection.putrequest("POST", "/upload")
    for name, value in {**upload_headers(proxy, cookie), "Content-Length": str(MIB)}.items():
        connection.putheader(name, value)
    connection.endheaders()
    connection.send(b"x" * (MIB // 2))
    deadline = time.monotonic() + 20
    while not any(path.is_file() and path.stat().st_size > MIB // 4 for path in inbox.glob(f"*/{TOGETHER}/*/*")):
        assert time.monotonic() < deadline, "the proxy holds the file back until it is whole"
        time.sleep(0.05)
    connection.send(b"x" * (MIB // 2))
    answer = connection.getresponse()
    assert answer.status == 201
    answer.read()
    connection.close()


def upload_headers(proxy: RunningProxy, cookie: str) -> dict[str, str]:
    return {"Origin": proxy.url, "Cookie": cookie, "X-Together": TOGETHER}


def test_plain_http_is_sent_to_https(proxy: RunningProxy) -> None:
    connection = http.client.HTTPConnection("127.0.0.1", proxy.http_port, timeout=30)
    connection.request("GET", "/models?weights=1", headers={"Host": HOST})
    answer = connection.getresponse()
    assert answer.status == 308
    assert re.fullmatch(rf"https://{HOST}(:\d+)?/models\?weights=1", str(answer.getheader("Location")))
    connection.close()


# In front of a server that tells what it got


def test_who_asks_is_told_by_the_proxy_and_not_by_the_browser(before_echo: RunningProxy) -> None:
    claimed = {"X-Forwarded-For": "10.0.0.1", "X-Forwarded-Proto": "http"}
    _, body = before_echo.ask("GET", "/", headers=claimed)
    got = json.loads(body)
    assert [value for name, value in got if name == "host"] == [f"{HOST}:{before_echo.port}"]
    assert [value for name, value in got if name == "x-forwarded-for"] == ["127.0.0.1"]
    assert [value for name, value in got if name == "x-forwarded-proto"] == ["https"]


def test_each_request_has_a_connection_of_its_own(before_echo: RunningProxy) -> None:
    """The application closes a connection that is quiet; a form that is sent on it at that moment would be lost."""
    _, body = before_echo.ask("GET", "/")
    assert [value for name, value in json.loads(body) if name == "connection"] == ["close"]


@pytest.mark.parametrize("path", ["/metrics", "/metrics/", "/metrics/x", "/%6detrics", "/x/../metrics", "//metrics"])
def test_metrics_are_not_published(before_echo: RunningProxy, path: str) -> None:
    assert before_echo.ask("GET", path)[0].status == 404
    assert before_echo.ask("GET", "/healthz")[0].status == 200


def test_a_form_is_as_large_as_ours_at_most(before_echo: RunningProxy) -> None:
    assert before_echo.post("/set-password", "x" * 16 * 1024)[0].status == 200
    assert before_echo.post("/set-password", "x" * (16 * 1024 + 1))[0].status == 413


def test_a_body_that_does_not_announce_its_size_is_cut_off(before_echo: RunningProxy) -> None:
    connection = before_echo.connection()
    chunks = (b"x" * 1024 for _ in range(17))
    connection.request("POST", "/set-password", chunks, encode_chunked=True)
    assert connection.getresponse().status in (413, 502)  # Caddy 2.6 says 502
    connection.close()


def test_a_table_of_scores_is_as_large_as_the_uploader_allows(before_echo: RunningProxy) -> None:
    with_its_form = 64 * MIB + 1024  # the boundaries of the form around a table of 64 MiB
    assert before_echo.post("/_stcore/upload_file/a/b", "x" * with_its_form)[0].status == 200


def test_another_name_is_not_answered(before_echo: RunningProxy) -> None:
    with pytest.raises(ssl.SSLError):
        before_echo.socket("elsewhere.localhost")


def test_nginx_slows_down_who_guesses_passwords(tmp_path: Path) -> None:
    with ThreadingHTTPServer(("127.0.0.1", 0), _Echo) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        with running_nginx(tmp_path, server.server_port) as proxy:
            states = [proxy.post("/login", "who=x")[0].status for _ in range(30)]
            assert states[:21] == [200] * 21 and set(states[22:]) == {429}
            assert proxy.ask("GET", "/")[0].status == 200
        server.shutdown()


@pytest.mark.parametrize("kind", sorted(PROXIES))
def test_no_log_holds_what_follows_the_question_mark(kind: str, tmp_path: Path) -> None:
    with PROXIES[kind](tmp_path, free_port()) as proxy:  # nobody listens there: every request fails
        secrets = {"Referer": f"{proxy.url}/read?study=one-time-4711", "Cookie": "secondread_session=one-time-4711"}
        assert proxy.ask("GET", "/invitation?link=one-time-4711", headers=secrets)[0].status == 502
        assert proxy.ask("POST", "/upload?link=one-time-4711", b"x", secrets)[0].status in (502, 503)  # Caddy remembers
    logged = "".join(path.read_text(errors="replace") for path in proxy.logs if path.exists())
    assert "/invitation" in logged and "one-time-4711" not in logged
