"""What goes between the site and an archive killed in the middle: the listener, and the threads that send results.

The archive is this process. `ListenerRounds` sends views by C-STORE to a `dicom-listen` of its own and kills it; each
object that was answered with success is in a study afterwards. `SendingRounds` reads studies to the end and kills the
process that sends their results by STOW-RS; afterwards the archive has each result, with one content, and was never
handed one that it held.
"""

from __future__ import annotations

import hashlib
import os
import random
import signal
import socket
import threading
import time
from argparse import Namespace
from contextlib import suppress
from dataclasses import dataclass, field
from datetime import timedelta
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from io import BytesIO
from pathlib import Path
from typing import Any

from kill_figures import Figures, drawn_signal, left_in, to_log, until
from made_images import MG, dicom, stored_mammogram
from record_site import AtTerminal, add_person, answer, at_terminal, explanation, picture
from sqlalchemy import Connection, select, update
from warm_server import context, free_port

from core import files
from core.archive import arrivals, listener, sending
from core.archive.archives import ArchiveAddress, change_archive, name_archive
from core.archive.listener import SUCCESS, enqueue_quiet
from core.commands import dicom_listen
from core.imaging.dicom.source import OF_STUDY
from core.records.archives.identity import SourceIdentity, identity_of, record_identity
from core.records.audit import heads
from core.records.database import tables
from core.records.database.db import Database, open_database
from core.records.queue import DONE
from core.records.reads import predictions, reads, studies
from core.records.reads.reads import Impression
from core.settings import Settings

ROOT = "1.2.826.0.1.3680043.8.498"
VIEWS = 4
STUDIES = 2
"""Sent in a round; the listener is killed somewhere in between."""
SECONDS_MOST = 1.5
SLOW_SECONDS = 0.3
"""How long the archive takes for an answer, at most."""
SENT = ("sr", "pdf")
WHO = {"worker": "judge", "machine": "here"}
EXPLICIT = "1.2.840.10008.1.2.1"


class ListenerRounds:
    """Rounds over a site in `folder` that one archive may send to."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.settings = Settings(state_dir=folder / "state")
        _open_site(
            self.settings, ArchiveAddress("pacs", "http://127.0.0.1:9/web", "SENDER", "127.0.0.1", 104, pushes=True)
        )

    def one(self, seed: str, figures: Figures) -> None:
        draw = random.Random(seed)
        port = free_port()
        process = context().Process(target=listen, args=(self.settings, port, self.folder / "listener.log"))
        process.start()
        taken: list[tuple[str, str]] = []
        sender = threading.Thread(target=self._send, args=(port, draw.randrange(10**9), taken))
        if not until(lambda: _listens(port), 60):
            figures.half.append(f"{seed}: the listener did not begin")
        sender.start()
        time.sleep(draw.uniform(0, SECONDS_MOST))
        number = drawn_signal(draw)
        if process.is_alive():
            os.kill(process.pid or 0, number)
            figures.killed("listener", number)
        sender.join(60)
        process.join(90)
        if process.is_alive():
            figures.half.append(f"{seed}: the listener did not end by {number.name}")
            process.kill()
            process.join()
        figures.told("object received", len(taken))
        self._judge(seed, taken, figures)

    def close(self) -> None:
        """Nothing runs between rounds."""

    def _send(self, port: int, number: int, taken: list[tuple[str, str]]) -> None:
        """Views of some studies, one after the other; `taken`: (study, object) of those answered with success."""
        from pydicom import dcmread
        from pynetdicom import AE

        entity = AE(ae_title="SENDER")
        entity.acse_timeout = entity.dimse_timeout = entity.network_timeout = 10
        entity.add_requested_context(MG, [EXPLICIT])
        association = entity.associate("127.0.0.1", port, ae_title=self.settings.ae_title)
        for study in (f"{ROOT}.{number}.{one}" for one in range(STUDIES)):
            for view in range(VIEWS):
                uid = f"{study}.1.{view}"
                with suppress(RuntimeError, ValueError):  # the association ended under it
                    pixels = stored_mammogram(seed=number % 1000 + view)
                    content = dicom(
                        pixels, StudyInstanceUID=study, SeriesInstanceUID=f"{study}.1",
                        SOPClassUID=MG, SOPInstanceUID=uid, PatientID="P-1", ImageLaterality="LR"[view % 2],
                        ViewPosition=("CC", "MLO")[view // 2],
                    )  # fmt: skip
                    status = association.send_c_store(dcmread(BytesIO(content)))
                    if "Status" in status and status.Status == SUCCESS:
                        taken.append((study, uid))
        if association.is_established:
            association.release()

    def _judge(self, seed: str, taken: list[tuple[str, str]], figures: Figures) -> None:
        db = open_database(self.settings)
        try:
            while enqueue_quiet(db, quiet_seconds=0) or _expired(db, tables.arrival):
                while arrivals.process_next(db, **WHO):
                    pass
            figures.half += [f"{seed}: {problem}" for problem in heads.verify(db).problems]
            with db.read() as connection:
                held = {
                    (identity.study["StudyInstanceUID"], one["SOPInstanceUID"])
                    for study_id in connection.execute(select(tables.study.c.id)).scalars()
                    if (identity := identity_of(connection, db.site_key, study_id)) is not None
                    for one in identity.instances.values()
                }
                states = connection.execute(select(tables.arrival.c.state, tables.arrival.c.message)).all()
            figures.lost += [f"{seed}: {uid} was taken" for study, uid in taken if (study, uid) not in held]
            figures.half += [f"{seed}: {row.message}" for row in states if row.state != DONE]
            enqueue_quiet(db, quiet_seconds=0)  # removes what rows that are over had in hand
            files.sweep(self.settings.state_dir)
            figures.left_over += [f"{seed}: {name}" for name in left_in(self.settings.state_dir)]
            pushed = self.settings.state_dir / "pushed"
            figures.left_over += [f"{seed}: {path.name}" for path in (pushed.iterdir() if pushed.is_dir() else ())]
        finally:
            db.close()


@dataclass
class _Archive:
    """stored: bytes by object's number. again: numbers that were handed over although they were here."""

    draw: random.Random
    stored: dict[str, bytes] = field(default_factory=dict)
    again: list[str] = field(default_factory=list)
    is_quick: bool = False
    n_asked: int = 0

    def wait(self) -> None:
        self.n_asked += 1
        if not self.is_quick:
            time.sleep(self.draw.uniform(0, SLOW_SECONDS))


class _Handler(BaseHTTPRequestHandler):
    archive: _Archive

    def log_message(self, *_: object) -> None:
        pass

    def do_GET(self) -> None:
        self.archive.wait()
        found = self.archive.stored.get(self.path.rpartition("/")[2])
        if found is None:
            self._send(404, "text/plain", b"not here")
            return
        body = b"--part\r\nContent-Type: application/dicom\r\n\r\n" + found + b"\r\n--part--\r\n"
        self._send(200, 'multipart/related; type="application/dicom"; boundary=part', body)

    def do_POST(self) -> None:
        from pydicom import dcmread

        body = self.rfile.read(int(self.headers["Content-Length"]))
        if len(body) < int(self.headers["Content-Length"]):
            return  # who sent it was killed
        content = body.partition(b"\r\n\r\n")[2].rpartition(b"\r\n--")[0]
        uid = str(dcmread(BytesIO(content)).SOPInstanceUID)
        if uid in self.archive.stored:
            self.archive.again.append(uid)
        self.archive.stored[uid] = content
        self.archive.wait()
        self._send(200, "application/dicom+json", b"{}")

    def _send(self, status: int, kind: str, body: bytes) -> None:
        with suppress(OSError):  # nobody waits for it any more
            self.send_response(status)
            self.send_header("Content-Type", kind)
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)


class SendingRounds:
    """Rounds over a site in `folder` that sends reports to one archive."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.settings = Settings(state_dir=folder / "state")
        self.archive = _Archive(random.Random(1))
        handler = type("OfTheseRounds", (_Handler,), {"archive": self.archive})
        self.server = ThreadingHTTPServer(("127.0.0.1", 0), handler)
        self.server.daemon_threads = True
        threading.Thread(target=self.server.serve_forever, kwargs={"poll_interval": 0.05}, daemon=True).start()
        url = f"http://127.0.0.1:{self.server.server_address[1]}/web"
        self.person, self.archive_id = _open_site(self.settings, ArchiveAddress("pacs", url, sends=SENT))
        self._move(url)
        self.results: dict[str, bytes] = {}

    def one(self, seed: str, figures: Figures) -> None:
        draw = random.Random(seed)
        db = open_database(self.settings)
        try:
            self.archive.is_quick = False
            process = context().Process(target=send, args=(self.settings, self.folder / "sending.log"))
            process.start()
            self._read_study(db, draw.randrange(10**9))
            n_asked = self.archive.n_asked
            until(lambda: self.archive.n_asked > n_asked, 20)  # it begins to send
            time.sleep(draw.uniform(0, SECONDS_MOST))
            done = self._states(db, DONE)
            number = drawn_signal(draw)
            if process.is_alive():
                os.kill(process.pid or 0, number)
                figures.killed("who sends", number)
            process.join(60)
            if process.is_alive():
                figures.half.append(f"{seed}: who sends did not end by {number.name}")
                process.kill()
                process.join()
            self._judge(db, seed, done, figures)
        finally:
            db.close()

    def close(self) -> None:
        self.server.shutdown()
        self.server.server_close()

    def _move(self, url: str) -> None:
        """An earlier run's archive was at another port, and what it held is gone with it."""
        db = open_database(self.settings)
        change_archive(db, self.person, self.archive_id, ArchiveAddress("pacs", url, sends=SENT))
        self.done_before = self._states(db, DONE)
        db.close()

    def _read_study(self, db: Database, number: int) -> None:
        image, study_uid = picture(number % 480), f"{ROOT}.{number}"
        who = dict.fromkeys(OF_STUDY, "") | {
            "PatientID": "P-1",
            "PatientName": "Made^Up",
            "StudyInstanceUID": study_uid,
        }
        what = {"SOPClassUID": MG, "SOPInstanceUID": f"{study_uid}.1.1", "SeriesInstanceUID": f"{study_uid}.1"}
        identity = SourceIdentity(who, {image.sha256: what | {"Modality": "MG", "Rows": "24", "Columns": "20"}})
        exam = hashlib.sha256(study_uid.encode()).hexdigest()

        def add(connection: Connection, study_id: str) -> None:
            record_identity(
                connection, db.site_key, study_id, archive_id=self.archive_id, exam_hash=exam, identity=identity
            )

        study_id = studies.create_study(db, self.person, display_name="x", images=[image], also=add)
        (stored,) = studies.load_study(db, self.person, study_id).images
        predictions.record_predictions(db, study_id, stored.id, answer(stored.image, malignant=0.4), explanation())
        reads.record_first_read(db, self.person, study_id, {"R": Impression("2", 5)})
        reads.reveal(db, self.person, study_id)
        reads.record_final_read(db, self.person, study_id, {"R": Impression("4A", 40)})

    def _states(self, db: Database, state: str) -> set[int]:
        outbox = tables.outbox.c
        with db.read() as connection:
            return set(connection.execute(select(outbox.id).where(outbox.state == state)).scalars())

    def _judge(self, db: Database, seed: str, done: set[int], figures: Figures) -> None:
        self.archive.is_quick = True
        while sending.send_next(db, **WHO) or _expired(db, tables.outbox):
            pass
        files.sweep(self.settings.state_dir)
        figures.left_over += [f"{seed}: {name}" for name in left_in(self.settings.state_dir)]
        figures.half += [f"{seed}: {problem}" for problem in heads.verify(db).problems]
        with db.read() as connection:
            rows = connection.execute(select(tables.outbox).order_by(tables.outbox.c.id)).all()
        new = [row for row in rows if row.id not in self.done_before]
        figures.lost += [f"{seed}: result {row.id} is {row.state}: {row.message}" for row in rows if row.state != DONE]
        figures.lost += [f"{seed}: result {number} was delivered" for number in done - {row.id for row in rows}]
        figures.lost += [f"{seed}: result {row.id} is not in the archive" for row in new
                         if row.sop_instance_uid not in self.archive.stored]  # fmt: skip
        figures.left_over += [f"{seed}: {uid} was handed over although it was there" for uid in self.archive.again]
        expected = {row.sop_instance_uid for row in new}
        figures.left_over += [f"{seed}: {uid} is nobody's result" for uid in self.archive.stored.keys() - expected]
        changed = [uid for uid, content in self.results.items() if self.archive.stored.get(uid) != content]
        figures.half += [f"{seed}: {uid} has another content than before" for uid in changed]
        figures.told("result delivered", len(expected - self.results.keys()))
        self.results = dict(self.archive.stored)


def listen(settings: Settings, port: int, log: Path) -> None:
    """The whole life of `python -m core dicom-listen`; studies are made by the judge."""
    to_log(log)
    os.environ["SECONDREAD_STATE_DIR"] = str(settings.state_dir)
    listener.SWEEP_SECONDS = 600.0
    dicom_listen.run(Namespace(host="127.0.0.1", port=port))


def send(settings: Settings, log: Path) -> None:
    """What the worker does for archives, until it is told to end."""
    to_log(log)
    sending.LOOK_SECONDS = 0.1
    ended = threading.Event()
    signal.signal(signal.SIGTERM, lambda *_: ended.set())
    db = open_database(settings)
    with files.own_temporary_folder(settings.state_dir), sending.working(db):
        ended.wait()
    db.close()


def _open_site(settings: Settings, address: ArchiveAddress) -> tuple[AtTerminal, int]:
    """The person and the archive of a site, made where they are not there yet."""
    settings.state_dir.mkdir(parents=True, exist_ok=True)
    db = open_database(settings)
    try:
        with db.read() as connection:
            row = connection.exec_driver_sql("SELECT id FROM person").one_or_none()
            named = connection.execute(select(tables.archive.c.id)).scalar_one_or_none()
        person = at_terminal(add_person(db, "Ann")) if row is None else AtTerminal(row.id, "Ann", frozenset())
        archive_id = name_archive(db, person, address) if named is None else named
        heads.write_head(db)
    finally:
        db.close()
    return person, archive_id


def _expired(db: Database, table: Any) -> int:
    """Let the leases of whoever was killed, and the waits between tries, be over; how many rows there are to do."""
    with db.begin() as connection:
        is_open = table.c.state.in_(("queued", "running"))
        is_leased = table.c.lease_until.is_not(None)
        past = tables.now() - timedelta(days=1)
        connection.execute(update(table).where(is_open, is_leased).values(lease_until=past))
        found: int = connection.execute(update(table).where(is_open).values(due_at=None)).rowcount
    return found


def _listens(port: int) -> bool:
    with socket.socket() as probe:
        return probe.connect_ex(("127.0.0.1", port)) == 0
