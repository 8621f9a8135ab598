"""Every HTTP door, asked with every method by everybody, and in every way that a browser would not.

What is right is computed: from the product's table of permissions, and from what each guard promises.
"""

from __future__ import annotations

import hashlib
import socket
import time
import uuid
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, contextmanager, suppress

import httpx
from attack_site import CHIEF, PASSWORD, ROLES, Figures, Site, rooms
from websockets.exceptions import WebSocketException
from websockets.sync.client import ClientConnection, connect

from core.records.people import accounts
from core.records.people.throttle import FAILURES_BEFORE_LOCK
from core.server import connections, guards, routes
from core.server.guards import SESSION_COOKIE
from core.settings import MIB

METHODS = ("GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS", "TRACE", "PROPFIND")
FORMS = ("/login", "/second-factor", "/setup", "/password", "/set-password")
"""Everybody's forms: with nothing right in them, each sends back to its page with a reason."""
ID = "0123456789abcdef" * 2
TIMEOUT = 60.0


class Http:
    """A client of the site: who asks, and where it is counted."""

    def __init__(self, url: str, site: Site, figures: Figures) -> None:
        self.url, self.site, self.figures = url, site, figures
        self.host, self.port = url.removeprefix("http://").split(":")[0], int(url.rsplit(":", 1)[1])
        self.client = httpx.Client(timeout=TIMEOUT, follow_redirects=False)
        self.index = self.client.get(url).text

    def ask(self, door: str, role: str, method: str, path: str, **more: object) -> httpx.Response:
        """One request of this role with the right origin, unless `more` says otherwise; what always holds is judged."""
        headers = {"Origin": self.url, **dict(more.pop("headers", {}))}  # type: ignore[call-overload]
        token = str(more.pop("token", self.site.tokens[role]))
        if token and "Cookie" not in headers:
            headers["Cookie"] = f"{SESSION_COOKIE}={token}"
        self.client.cookies.clear()
        try:
            answer = self.client.request(method, f"{self.url}{path}", headers=headers, **more)  # type: ignore[arg-type]
        except httpx.RemoteProtocolError:
            # A kept connection that the server had closed, for want of room: a browser opens another (RFC 9112, 9.3.1).
            answer = self.client.request(method, f"{self.url}{path}", headers=headers, **more)  # type: ignore[arg-type]
        self.figures.asked(door, role)
        self._judge(answer, f"{role} {method} {path}", role)
        return answer

    def expect(self, door: str, role: str, method: str, path: str, right: Iterable[int], **more: object) -> None:
        """One request whose status is one of `right`."""
        answer = self.ask(door, role, method, path, **more)
        is_page = method in guards.SAFE_METHODS and answer.text == self.index  # Streamlit's, the same for everybody
        if answer.status_code not in set(right) and not (answer.status_code == 200 and (is_page or method == "HEAD")):
            self.figures.wrong.append(f"{role} {method} {path}: {answer.status_code}, not {sorted(set(right))}")

    def raw(self, door: str, content: bytes, *, seconds: float = 15) -> bytes:
        """What comes back for these bytes, whatever they are, until the server closes or says no more."""
        received = b""
        with socket.create_connection((self.host, self.port), timeout=seconds) as sent, suppress(OSError):
            sent.sendall(content)
            while piece := sent.recv(65536):
                received += piece
                if _is_whole(received):
                    break
        self.figures.asked(door, "nobody")
        text = received.decode("utf-8", "replace")
        if received[9:12] >= b"500" or self.site.leaked(text, "nobody"):
            self.figures.wrong.append(f"{content[:80]!r}: {text[:300]}")
        return received

    def _judge(self, answer: httpx.Response, what: str, role: str) -> None:
        if answer.status_code >= 500 and "/readyz" not in what:  # this site has no model, and says so
            self.figures.wrong.append(f"{what}: {answer.status_code} {answer.text[:200]}")
        if answer.headers.get("x-frame-options") != "DENY" or "content-security-policy" not in answer.headers:
            self.figures.wrong.append(f"{what}: without the security headers")
        if leaked := self.site.leaked(answer.text, role):
            self.figures.wrong.append(f"{what}: the answer holds {leaked}")
        if "access-control-allow-origin" in answer.headers and "/_stcore/" not in what:
            self.figures.wrong.append(f"{what}: any site may read the answer")


def every_door(http: Http, *, methods: Iterable[str] = METHODS, roles: Iterable[str] = tuple(ROLES)) -> None:
    """Every door x every method x every role."""
    site = http.site
    for role in roles:
        may_send = site.is_living(role) and (site.may(role, "manage_data") or site.may(role, "create_study"))
        for method in methods:
            changes = method not in guards.SAFE_METHODS
            for path in guards.CLOSED_PATHS + guards.SSO_PATHS:
                http.expect("closed routes", role, method, path, {404})
            right = {404, 405} if site.is_living(role) else {403}
            http.expect("media", role, method, f"/media/{'a' * 56}.png", right)
            http.expect(
                "Streamlit's uploads", role, method, f"/_stcore/upload_file/{ID}/{ID}", _streamlit_upload(site, role)
            )
            http.expect(
                "upload", role, method, f"/upload/{ID}/{ID}", _of_upload(site, role, method, may_send, takes=405)
            )
            if method != "POST":
                http.expect("upload", role, method, "/upload", _of_upload(site, role, method, False, takes=405))
            for path in ("/healthz", "/readyz", "/metrics"):
                read = {200, 503} if path == "/readyz" else {200}
                http.expect("health", role, method, path, read if method in ("GET", "HEAD") else {405})
            for path in (*FORMS, "/logout"):
                if method != "POST":  # a page of Streamlit's, or nothing
                    http.expect("forms", role, method, path, {405} if changes else {200, 404, 405})
            for page, _ in rooms():
                http.expect("pages (HTML)", role, method, f"/{page}", {404, 405} if changes else {200, 405})
        for path in FORMS:
            http.expect("forms", role, "POST", path, {303}, data={"who": CHIEF, "link": "x" * 43, "code": "A-B"})
        _uploads(http, role, may_send)


def _streamlit_upload(site: Site, role: str) -> set[int]:
    return {204, 400, 403, 404, 405} if site.is_living(role) else {403}  # 204: to OPTIONS, which names its methods


def _of_upload(site: Site, role: str, method: str, may_send: bool, *, takes: int) -> set[int]:
    if not site.is_living(role):
        return {403}
    if method == "DELETE" and may_send:
        return {404, takes}  # nothing of theirs has this id
    return {403, 404, takes}


def _uploads(http: Http, role: str, may_send: bool) -> None:
    """One's own file comes and goes; nobody else finds it."""
    together = uuid.uuid4().hex
    answer = http.ask("upload", role, "POST", "/upload", content=b"x" * 100, headers={"X-Together": together})
    if answer.status_code != (201 if may_send else 403):
        http.figures.wrong.append(f"{role} uploads: {answer.status_code}")
    if answer.status_code != 201:
        http.figures.held("uploads refused to who may send none", True)
        return
    item = answer.json()["id"]
    for other in ROLES:
        if other != role:
            right = {404} if http.site.may(other, "create_study") or http.site.may(other, "manage_data") else {403}
            http.expect("upload", other, "DELETE", f"/upload/{together}/{item}", right)
    http.expect("upload", role, "DELETE", f"/upload/{together}/{item}", {204})
    for wrong in ("", "../../x", "A" * 32, "0" * 31, "x" * 10_000):
        http.expect("upload", role, "POST", "/upload", {413}, content=b"x", headers={"X-Together": wrong})
    most = http.site.settings.upload_mib * MIB
    received = _announced(http, role, together, most + 1)
    http.figures.held(
        "files announced larger than any may be", received.startswith(b"HTTP/1.1 413"), received[:200].decode("latin-1")
    )


def _announced(http: Http, role: str, together: str, n_bytes: int) -> bytes:
    """A body announced and not sent: `Expect` asks first."""
    head = (
        f"POST /upload HTTP/1.1\r\nHost: {http.host}:{http.port}\r\nOrigin: {http.url}\r\nX-Together: {together}\r\n"
        f"Cookie: {SESSION_COOKIE}={http.site.tokens[role]}\r\n"
        f"Content-Length: {n_bytes}\r\nExpect: 100-continue\r\n\r\n"
    )
    return http.raw("upload", head.encode())


def hosts_and_origins(http: Http) -> None:
    """Under a foreign name nothing is answered; from a foreign page nothing is changed."""
    own = f"{http.host}:{http.port}"
    for host in ("evil.example", "evil.example:80", f"{own}.evil.example", "localhost@evil.example", "", "[::1", "a b",
                 "localhost:80:80", "127.0.0.1.nip.io", "LOCALHOST.evil", "xn--e1afmkfd"):  # fmt: skip
        for path in ("/", "/healthz", "/media/x.png", "/about"):
            received = http.raw("wrong hosts", f"GET {path} HTTP/1.1\r\nHost: {host}\r\n\r\n".encode())
            http.figures.held(
                "hosts that are not ours", received[9:12] in (b"421", b"400"), f"{host!r} {received[:120]!r}"
            )
    double = f"GET / HTTP/1.1\r\nHost: {own}\r\nHost: evil.example\r\n\r\n".encode()
    http.figures.held("two hosts", http.raw("wrong hosts", double)[9:12] in (b"421", b"400"))
    for origin in ("http://evil.example", "null", "", f"https://{own}", f"http://{own}.evil.example", f"http://{own}/",
                   "http://localhost", f"HTTP://{own.upper()}", f"{http.url}@evil.example", "file://",
                    own):  # fmt: skip
        for role in ("nobody", "reader", "administrator"):
            for path in (*FORMS, "/logout", "/upload", f"/_stcore/upload_file/{ID}/{ID}"):
                http.expect("wrong origins", role, "POST", path, {403}, headers={"Origin": origin}, data={"who": CHIEF})
            http.expect("wrong origins", role, "DELETE", f"/upload/{ID}/{ID}", {403}, headers={"Origin": origin})
            http.figures.held("pages of other sites that post (CSRF)", True)
            http.figures.held("websockets of other sites", not _is_open(http, role, origin), f"{role} {origin}")
    for role in ("reader", "administrator"):  # nothing of that signed anybody out
        http.expect("wrong origins", role, "GET", f"/media/{'a' * 56}", {404})


def _is_open(http: Http, role: str, origin: str) -> bool:
    http.figures.asked("websocket", role)
    try:
        with _connected(http, origin, http.site.tokens[role]):
            return True
    except (WebSocketException, OSError):
        return False


def _connected(http: Http, origin: str, token: str) -> ClientConnection:
    return connect(
        f"ws://{http.host}:{http.port}/_stcore/stream",
        origin=origin or None,
        additional_headers={"Cookie": f"{SESSION_COOKIE}={token}"},
        subprotocols=["streamlit"],
        open_timeout=TIMEOUT,
    )


def bodies(http: Http) -> None:
    """Forms that are too large, of too many fields, half, or none."""
    for role in ("nobody", "administrator"):
        for path in FORMS:
            http.expect("bodies", role, "POST", path, {413}, content=b"who=" + b"x" * (routes.FORM_BYTES + 1))
            many = "&".join(f"f{n}=x" for n in range(routes.FORM_FIELDS + 1))
            http.expect("bodies", role, "POST", path, {400}, content=many.encode())
            for strange in (b"", b"\x00", b"\xff\xfe=\xff", b"who=%00&password=%00", b"%", b"who=" + b"\xf0\x9f" * 50,
                            b"who=a&who=b", b'{"who": "x"}', b"--x\r\nContent-Disposition: form-data"):  # fmt: skip
                http.expect("bodies", role, "POST", path, {303}, content=strange)
            http.figures.held("forms larger than any of ours", True)


def paths(http: Http) -> None:
    """Addresses that lead out of the folders they are in, or that no server should understand."""
    key = http.site.settings.state_dir / "site.key"
    out = ("../" * 12).rstrip("/")
    for tried in (
        f"/{out}{key}", f"/static/{out}/etc/passwd", f"/media/{out}/etc/passwd", "/media/..%2f..%2f..%2fetc%2fpasswd",
        "/%2e%2e/%2e%2e/%2e%2e/etc/passwd", "/..;/..;/etc/passwd", "/static/..%5c..%5c..%5capp.py", "//etc/passwd",
        "/app.py", "/pages/admin/people.py", "/core/settings.py", "/.git/config", "/.env", "/secondread.sqlite3",
        "/static/%00", "/media/%00.png", "/about?study=%00", "/read?study=%00", "/read?study=" + "x" * 30_000,
        "/" + "a" * 8000, "/upload/" + "%2e%2e/" * 8 + "x", f"/upload/{ID}/..%2f{ID}", "/_stcore/upload_file/..%2f/x",
        "/component/x/..%2f..%2f..%2fetc/passwd", "/_stcore/bidi-components/secondread_upload/..%2f..%2fapp.py",
        "/?said=<script>alert(1)</script>", "/invitation?link=" + "%3Cscript%3E", "/\ud83d", "/%f0%28%8c%28",
    ):  # fmt: skip
        line = f"GET {tried} HTTP/1.1\r\nHost: {http.host}:{http.port}\r\nConnection: close\r\n\r\n"
        received = http.raw("path tricks", line.encode("utf-8", "replace"))
        is_file = any(
            mark in received
            for mark in (b"root:x:", b"[core]", b"SQLite format", b"def show_failure", key.read_bytes())
        )
        http.figures.held("addresses that lead elsewhere", not is_file and b"<script>alert" not in received, tried)
    own = f"Host: {http.host}:{http.port}\r\n".encode()
    get, post = b"GET / HTTP/1.1\r\n" + own, b"POST /login HTTP/1.1\r\n" + own
    for odd in (
        b"GET http://evil.example/ HTTP/1.1\r\n" + own + b"\r\n",
        b"CONNECT evil.example:443 HTTP/1.1\r\n" + own + b"\r\n",
        b"OPTIONS * HTTP/1.1\r\n" + own + b"\r\n", b"GET / HTTP/0.9\r\n\r\n",
        b"GET / HTTP/9.9\r\n" + own + b"\r\n", b"\x16\x03\x01\x02\x00", b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n",
        b"GET /\r\n\r\n", b"\r\n" * 100, b"GET / HTTP/1.1\nHost: localhost\n\n",
        get + b"X: " + b"x" * 200_000 + b"\r\n\r\n", get + b"X\x00: y\r\n\r\n",
        get + b"".join(b"X%d: y\r\n" % n for n in range(5000)) + b"\r\n",
        post + b"Content-Length: 5\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\nGET /metrics HTTP/1.1\r\n\r\n",
        post + b"Content-Length: -1\r\n\r\n", post + b"Content-Length: 5\r\nContent-Length: 6\r\n\r\nwho=ab",
        post + b"Content-Length: 99999999999999999999999\r\n\r\nx",
        post + b"Transfer-Encoding: chunked\r\n\r\nZZ\r\n",
    ):  # fmt: skip
        received = http.raw("odd requests", odd)
        http.figures.held("requests that are none", not received or received[9:10] in b"234", repr(received[:100]))


def cookies(http: Http) -> None:
    """Sessions that are made up, stolen from the database, doubled or of somebody else."""
    site, door = http.site, "cookies"
    tokens = [
        "", "x", "0" * 43, "' OR 1=1 --", "%00", "é".encode().decode("latin-1"), "a" * 5000,
        hashlib.sha256(site.tokens["administrator"].encode()).hexdigest(),  # what the database keeps opens nothing
        site.tokens["administrator"][:-1], site.tokens["administrator"] + "x", site.tokens["administrator"].swapcase(),
        site.tokens["disabled"], site.tokens["session ended"], site.link, str(site.people["administrator"].id),
    ]  # fmt: skip
    for token in tokens:
        for name in (SESSION_COOKIE, routes.DEVICE_COOKIE, routes.PENDING_COOKIE, "_streamlit_user"):
            cookie = {"Cookie": f"{name}={token}".encode("latin-1", "replace")}
            http.expect(door, "nobody", "GET", f"/media/{'a' * 56}", {403}, headers=cookie)
            http.expect(door, "nobody", "POST", "/upload", {403}, headers={**cookie, "X-Together": ID}, content=b"x")
            http.figures.held("cookies that open nothing", True)
    living = site.tokens["administrator"]
    for name in (routes.DEVICE_COOKIE, routes.PENDING_COOKIE, "secondread_sessionx", "Secondread_session"):
        http.expect(door, "nobody", "GET", f"/media/{'a' * 56}", {403}, headers={"Cookie": f"{name}={living}"})


def forms(http: Http) -> None:
    """The set-up code, links, codes of a second factor and the callback of single sign-on, guessed and used again."""
    figures = http.figures
    for number in range(12):
        code = f"AAAAA-BBBBB-CCCCC-{number:05d}"
        fields = {"code": code, "who": "Eve", "password": PASSWORD, "repeated": PASSWORD}
        answer = http.ask("set-up code", "nobody", "POST", "/setup", data=fields)
        figures.held(
            "set-ups after the first",
            answer.headers.get("location") == "/?said=exists" and not _signs_in(answer),
            str(answer.headers),
        )
        link = {"link": f"{number:043d}", "password": PASSWORD, "repeated": PASSWORD}
        answer = http.ask("reset links", "nobody", "POST", "/set-password", data=link)
        figures.held(
            "links that were guessed",
            answer.headers.get("location", "").endswith("said=link") and not _signs_in(answer),
            str(answer.headers),
        )
        pending = {"Cookie": f"{routes.PENDING_COOKIE}={number}.{9999999999 + number}.{'a' * 64}"}
        code = {"code": f"{number:06d}"}
        answer = http.ask("second factor", "nobody", "POST", "/second-factor", data=code, headers=pending)
        figures.held(
            "codes without a password", not _signs_in(answer) and answer.status_code == 303, str(answer.headers)
        )
    for query in ("", "?code=x&state=y", "?error=access_denied", "?code=" + "x" * 3000):
        for role in ("nobody", "reader", "administrator"):
            http.expect("single sign-on callback", role, "GET", f"/oauth2callback{query}", {404})
    for role in ("reader", "administrator", "demoted", "disabled", "session ended"):
        fields = {"old": "wrong", "password": PASSWORD + "1", "repeated": PASSWORD + "1"}
        answer = http.ask("password", role, "POST", "/password", data=fields)
        figures.held(
            "passwords changed without the old one",
            answer.status_code == 303 and not _signs_in(answer),
            str(answer.headers),
        )


def metrics(http: Http) -> None:
    """The site's numbers are for this machine, and a proxy is not this machine."""
    for name in ("Forwarded", "X-Forwarded-For", "X-Forwarded-Host", "X-Forwarded-Proto", "X-Real-IP", "Via"):
        for token in ("", "Bearer", "Bearer x", "Basic eDp4", f"Bearer {http.site.tokens['administrator']}"):
            http.expect(
                "health", "nobody", "GET", "/metrics", {403}, headers={name: "127.0.0.1", "Authorization": token}
            )
            http.figures.held("numbers asked for through a proxy", True)


def guessing(http: Http) -> None:
    """Passwords guessed at one address: after so many failures no guess is looked at, whatever address is made up."""
    figures, site = http.figures, http.site
    accounts.enable_person(site.db, site.terminal, site.terminal.person_id)  # other attacks failed at this name, too

    def sign_in(password: str, **headers: str) -> httpx.Response:
        return http.ask("login", "nobody", "POST", "/login", data={"who": CHIEF, "password": password}, headers=headers)

    known = sign_in(PASSWORD)
    device = next(one for one in known.headers.get_list("set-cookie") if one.startswith(routes.DEVICE_COOKIE)).split(
        ";"
    )[0]
    figures.held("the right password", _signs_in(known))
    for number in range(FAILURES_BEFORE_LOCK):
        answer = sign_in(f"guess {number}", **{"X-Forwarded-For": f"198.51.100.{number}"})
        figures.held("guesses at a password", answer.headers["location"] == "/?said=wrong" and not _signs_in(answer))
    locked = sign_in(PASSWORD, **{"X-Forwarded-For": "203.0.113.9", "X-Real-IP": "203.0.113.9"})
    figures.held("the right password behind too many guesses", not _signs_in(locked), str(locked.headers))
    figures.held("a browser that is known, while others guess", _signs_in(sign_in(PASSWORD, Cookie=device)))
    for name in ("Nobody Known", "' OR ''='", "a" * 300, "\u202eChief", "%", "_"):
        answer = http.ask("login", "nobody", "POST", "/login", data={"who": name, "password": PASSWORD})
        figures.held("names that are not known", answer.headers["location"] == "/?said=wrong" and not _signs_in(answer))


def crowds(http: Http, *, is_long: bool) -> None:
    """Sockets that say nothing, half a head, half a form; more of them than one address may have."""
    figures = http.figures
    own = f"Host: {http.host}:{http.port}\r\nOrigin: {http.url}\r\n".encode()
    half = b"POST /login HTTP/1.1\r\n" + own + b"Content-Length: 100\r\n\r\nwho="
    with _held(http, [b"", b"GET / HT", b"GET / HTTP/1.1\r\nX: y\r\n", half], connections.PER_ADDRESS + 60) as sockets:
        began = time.monotonic()
        http.expect("many sockets", "reader", "GET", "/healthz", {200})
        figures.held(
            "whoever has something to say, within 5 s",
            time.monotonic() - began < 5,
            f"{time.monotonic() - began:.1f} s",
        )
        deadline = time.monotonic() + 5  # those that the system still holds for a busy server are not its own yet
        while (n_open := sum(not _is_closed(one) for one in sockets)) > connections.PER_ADDRESS:
            if time.monotonic() > deadline:
                break
            time.sleep(0.1)
        figures.held("sockets of one address beyond its number", n_open <= connections.PER_ADDRESS, str(n_open))
        figures.asked("many sockets", "nobody", len(sockets))
        if is_long:
            deadline = time.monotonic() + connections.BODY_SECONDS + 5
            while any(not _is_closed(one) for one in sockets) and time.monotonic() < deadline:
                time.sleep(0.25)
            figures.held("silent, slow and half requests, closed in time", all(map(_is_closed, sockets)))
    with _held(http, [half], guards.FORMS_AT_ONCE) as sockets:
        time.sleep(0.5)
        statuses = [http.ask("many forms", "nobody", "POST", "/login", data={"who": "x"}).status_code for _ in range(3)]
        figures.held("forms beyond those that one address may have open", set(statuses) == {429}, str(statuses))
    time.sleep(0.5)
    with ThreadPoolExecutor(16) as pool:
        opened = list(pool.map(lambda _: _nobodys_socket(http), range(guards.NOBODYS_SOCKETS + 8)))
    n = sum(one is not None for one in opened)
    figures.held("websockets of nobody beyond their number", n == guards.NOBODYS_SOCKETS, str(n))
    for one in opened:
        if one is not None:
            one.close()


@contextmanager
def _held(http: Http, contents: list[bytes], n: int) -> Iterator[list[socket.socket]]:
    with ExitStack() as stack:
        sockets = []
        for number in range(n):
            one = stack.enter_context(socket.create_connection((http.host, http.port), timeout=5))
            with suppress(OSError):
                one.sendall(contents[number % len(contents)])
            sockets.append(one)
        yield sockets


def _is_closed(one: socket.socket) -> bool:
    one.setblocking(False)
    try:
        while one.recv(1 << 16):  # an answer, before it is closed
            pass
        return True
    except BlockingIOError:
        return False
    except OSError:
        return True


def _nobodys_socket(http: Http) -> ClientConnection | None:
    http.figures.asked("websocket", "nobody")
    try:
        return _connected(http, http.url, "")
    except (WebSocketException, OSError):
        return None


def _signs_in(answer: httpx.Response) -> bool:
    return any(one.startswith(f"{SESSION_COOKIE}=") for one in answer.headers.get_list("set-cookie"))


def _is_whole(received: bytes) -> bool:
    """Whether the head is there and, where it announces one, the body."""
    head, found, body = received.partition(b"\r\n\r\n")
    if not found:
        return False
    for line in head.split(b"\r\n"):
        if line.lower().startswith(b"content-length:"):
            return len(body) >= int(line.partition(b":")[2])
    return b"transfer-encoding: chunked" not in head.lower() or body.endswith(b"0\r\n\r\n")


ATTACKS: tuple[Callable[[Http], None], ...] = (hosts_and_origins, bodies, paths, cookies, forms, metrics, guessing)
