"""The web server killed while people upload, save studies and save reads through its real doors.

One server stays up between rounds. A round: one person sends files by `POST /upload`, another makes a study of an
uploaded picture and saves a first impression, both as a browser does; the server is killed at a random moment and
started again. What it answered must be there: the bytes of each upload that was answered 201, each study whose page was
opened, each first impression that the page shows as saved.
"""

from __future__ import annotations

import hashlib
import random
import re
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import suppress
from pathlib import Path

import httpx
from kill_figures import Figures, drawn_signal, left_in
from made_images import encoded, ultrasound
from page_socket import PageSocket
from record_site import Somebody, add_person, at_terminal
from warm_server import WarmServer, free_port
from websockets.exceptions import WebSocketException

from core.errors import NotFound
from core.records.audit import heads
from core.records.database.db import Database, open_database
from core.records.people import sessions
from core.records.reads import reads, studies
from core.server import inbox
from core.server.guards import SESSION_COOKIE
from core.settings import Settings

SECONDS_MOST = 5.0
"""How long people work before the server is killed, at most."""
UPLOAD_BYTES_MOST = 3_000_000
CHUNK_BYTES = 64 * 1024
UPLOADS_MOST = 12
GONE = (httpx.HTTPError, WebSocketException, OSError, TimeoutError, EOFError)
"""How a client meets a server that was killed."""


class Client:
    """Somebody at a browser. tell: writes down what the server acknowledged, as (kind, what)."""

    def __init__(self, url: str, token: str, seed: str, tell: Callable[[str, str], None]) -> None:
        self.url, self.tell, self.draw = url, tell, random.Random(seed)
        self.cookies = {SESSION_COOKIE: token}
        self.http = httpx.Client(base_url=url, cookies=self.cookies, headers={"Origin": url}, timeout=30)

    def upload(self, content: bytes) -> tuple[str, str]:
        """(together, item) of a file that the server says it has."""
        together = f"{self.draw.getrandbits(128):032x}"
        pauses = self.draw.choice((0.0, 0.0, 0.02))
        headers = {"X-Together": together, "Content-Length": str(len(content))}
        answer = self.http.post("/upload", content=_pieces(content, pauses), headers=headers)
        if answer.status_code != 201:
            raise AssertionError(f"an upload was answered {answer.status_code}: {answer.text[:300]}")
        return together, answer.json()["id"]

    def send_files(self) -> None:
        for _ in range(UPLOADS_MOST):
            content = self.draw.randbytes(self.draw.randrange(1, UPLOAD_BYTES_MOST))
            together, item = self.upload(content)
            self.tell("upload", f"{together}/{item}/{hashlib.sha256(content).hexdigest()}")

    def read_studies(self) -> None:
        while True:
            together, item = self.upload(encoded(ultrasound(96, 128, seed=self.draw.randrange(1 << 30))))
            with PageSocket(self.url, self.cookies) as page:
                page.open("read")
                zone = next(page.of_kind("bidi_component")).id
                chosen = {"together": together, "files": [{"id": item, "name": "L.png"}]}
                page.act({zone: {"uploads": chosen}})
                page.act({page.widget("text_input", "Name of the study"): f"Case {item[:6]}"})
                page.act(press=page.widget("button", "Save the study"))
                study = re.fullmatch(r"study=([0-9a-f]{32})", page.query)
                if study is None:
                    raise AssertionError(f"no study was saved: {page.text[-600:]}")
                self.tell("study", study[1])
                page.act({page.widget("button_group", "Left breast: BI-RADS"): ["2"]})
                page.act(press=page.widget("button", "Save first impression"))
                if "Show second read" not in page.text:
                    raise AssertionError(f"no impression was saved: {page.text[-600:]}")
                self.tell("first read", study[1])


class ServerRounds:
    """Rounds over a site in `folder`, with a server that stays up until its own round kills it."""

    def __init__(self, folder: Path) -> None:
        (folder / "weights").mkdir(parents=True, exist_ok=True)
        self.folder = folder
        self.settings = Settings(state_dir=folder / "state", weights_dir=folder / "weights")
        db = open_database(self.settings)
        try:
            self.people = [_person(db, name) for name in ("Ann", "Ben")]
        finally:
            db.close()
        self.port = free_port()
        self.server = self._started()

    def one(self, seed: str, figures: Figures) -> None:
        draw = random.Random(seed)
        told: list[tuple[str, str]] = []
        wrong: list[str] = []
        db = open_database(self.settings)
        try:
            tokens = [sessions.start_session(db, person) for person in self.people]
        finally:
            db.close()
        clients = [
            Client(self.server.url, token, f"{seed}-{number}", lambda kind, what: told.append((kind, what)))
            for number, token in enumerate(tokens)
        ]
        work = (clients[0].send_files, clients[1].read_studies)
        threads = [threading.Thread(target=_until_gone, args=(act, wrong)) for act in work]
        for thread in threads:
            thread.start()
        if draw.random() < 0.5:  # while a study's page is open, whatever the machine needs until then
            awaited = draw.choice(("study", "first read"))
            _until(lambda: any(kind == awaited for kind, _ in told) or bool(wrong), 4 * SECONDS_MOST)
            time.sleep(draw.uniform(0, SECONDS_MOST / 5))
        else:
            time.sleep(draw.uniform(0.05, SECONDS_MOST))
        number = drawn_signal(draw)
        if not self.server.kill(number):
            figures.half.append(f"{seed}: the server did not end by {number.name}")
        for thread in threads:
            thread.join()
        figures.killed("server", number)
        figures.half += [f"{seed}: {sentence}" for sentence in wrong]
        for kind, _ in told:
            figures.told(f"{kind} (browser)")
        self.server = self._started()
        self._judge(seed, told, figures)

    def close(self) -> None:
        self.server.process.kill()
        self.server.process.join()

    def _started(self) -> WarmServer:
        server = WarmServer(
            self.settings.state_dir, self.port, self.folder / "terminal.log", weights_dir=self.settings.weights_dir
        )
        server.wait_until_ready()
        return server

    def _judge(self, seed: str, told: list[tuple[str, str]], figures: Figures) -> None:
        figures.left_over += [f"{seed}: {name}" for name in left_in(self.settings.state_dir)]
        figures.left_over += [f"{seed}: {path}" for path in half_uploads(self.settings)]
        db = open_database(self.settings)
        try:
            figures.half += [f"{seed}: {problem}" for problem in heads.verify(db).problems]
            for kind, what in told:
                if not self._is_there(db, kind, what):
                    figures.lost.append(f"{seed}: {kind} {what[:32]}")
            for person in self.people:
                _forget_uploads(self.settings, person)
        finally:
            db.close()

    def _is_there(self, db: Database, kind: str, what: str) -> bool:
        sender, reader = map(at_terminal, self.people)  # whose own sessions may be over
        try:
            if kind == "upload":
                together, item, sha256 = what.split("/")
                path = inbox.find_item(self.settings, sender, together=together, item=item)
                return hashlib.sha256(path.read_bytes()).hexdigest() == sha256
            if kind == "study":
                return len(studies.load_study(db, reader, what).images) == 1
            return {read.kind for read in reads.reads_of(db, reader, what)} == {"first"}
        except NotFound:
            return False


def half_uploads(settings: Settings) -> list[str]:
    """What lies in the inbox and is no whole file: bytes of an upload that was cut off, or its empty folder."""
    folder = settings.state_dir / "inbox"
    items = [path for path in folder.glob("*/*/*") if path.is_dir()]
    return [str(item.relative_to(folder)) for item in items if [path.name for path in item.iterdir()] != ["data"]]


def _pieces(content: bytes, pause: float) -> Iterator[bytes]:
    for at in range(0, len(content), CHUNK_BYTES):
        yield content[at : at + CHUNK_BYTES]
        time.sleep(pause)


def _until(is_so: Callable[[], bool], seconds: float) -> None:
    deadline = time.monotonic() + seconds
    while not is_so() and time.monotonic() < deadline:
        time.sleep(0.02)


def _until_gone(act: Callable[[], None], wrong: list[str]) -> None:
    """Works until the server is gone; whatever else happens is a fault, too."""
    try:
        act()
    except GONE:
        return
    except (AssertionError, KeyError, StopIteration) as error:
        wrong.append(f"{type(error).__name__}: {error}"[:1500])


def _forget_uploads(settings: Settings, person: Somebody) -> None:
    """So that no round finds the person's room full."""
    folder = settings.state_dir / "inbox" / str(person.id)
    with suppress(FileNotFoundError):
        inbox.discard(inbox.InboxFile(path, "") for path in list(folder.glob("*/*/data")))


def _person(db: Database, name: str) -> Somebody:
    """The site's person of this name, made where it is new."""
    with db.read() as connection:
        row = connection.exec_driver_sql(f"SELECT id FROM person WHERE name = '{name}'").one_or_none()
    return add_person(db, name) if row is None else Somebody("", row.id, name, frozenset())
