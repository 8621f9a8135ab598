"""An archive that is slow, down, refuses, breaks off, or lies: nothing is lost, and nothing sent twice unnoticed."""

from __future__ import annotations

import json
import threading
from collections.abc import Iterator
from dataclasses import dataclass, field, replace
from datetime import timedelta
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from io import BytesIO
from pathlib import Path
from typing import Any

import pytest
from made_images import MG, dicom, stored_mammogram
from pydicom import dcmread
from pydicom.dataelem import DataElement
from pydicom.dataset import Dataset
from record_site import Somebody, add_person, answer, explanation, picture
from sqlalchemy import Connection, select, update

from core.archive import arrivals, dicomweb, sending
from core.archive.archives import Archive, ArchiveAddress, Credentials, credentials_of, name_archive, remove_archive
from core.archive.dicomweb import Criteria, DicomWeb, FoundInstance
from core.errors import ArchiveAway, ArchiveRefused, Conflict, InvalidInput, NotAllowed
from core.imaging.dicom.source import OF_STUDY
from core.records.archives import outbox
from core.records.archives.identity import SourceIdentity, record_identity
from core.records.database import tables
from core.records.database.db import Database, open_database
from core.records.reads import predictions, reads, studies
from core.records.reads.reads import Impression
from core.settings import Settings

WHO = {"worker": "test", "machine": "here"}
STUDY = "1.2.826.0.1.3680043.8.498.99"
SECRET = "SECRET-ID-1"


@dataclass
class Stub:
    """An archive whose behaviour a test chooses. broken: how it answers; "" for rightly. calls: method and path."""

    files: dict[str, bytes] = field(default_factory=dict)
    broken: str = ""
    calls: list[tuple[str, str]] = field(default_factory=list)
    stored: list[bytes] = field(default_factory=list)
    authorization: str = ""
    ended: threading.Event = field(default_factory=threading.Event)
    port: int = 0

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}/web"


class Handler(BaseHTTPRequestHandler):
    stub: Stub

    def log_message(self, *_: object) -> None:
        pass

    def do_GET(self) -> None:
        stub = self.stub
        stub.calls.append(("GET", self.path))
        stub.authorization = self.headers.get("Authorization", "")
        if self._is_broken():
            return
        part = self.path.rpartition("/")[2]
        if self.path.endswith("/instances"):
            rows = [self._row(uid) for uid in stub.files]
            self._send(200, "application/dicom+json", json.dumps(rows).encode())
        elif part in stub.files:
            self._send_file(stub.files[part])
        else:
            self._send(404, "text/plain", b"not here")

    def do_POST(self) -> None:
        stub = self.stub
        stub.calls.append(("POST", self.path))
        length = int(self.headers.get("Content-Length") or 0)
        body = self.rfile.read(length) if length else self._chunks()
        if self._is_broken():
            return
        content = body.partition(b"\r\n\r\n")[2].rpartition(b"\r\n--")[0]
        stub.stored.append(content)
        if stub.broken != "dropped":
            stub.files[str(dcmread(BytesIO(content)).SOPInstanceUID)] = content
        if stub.broken == "500 after storing":
            stub.broken = ""
            self._send(500, "text/plain", b"sorry, SECRET-ID-1")
        else:
            self._send(200, "application/dicom+json", b"{}")

    def _chunks(self) -> bytes:
        found = b""
        while size := int(self.rfile.readline().strip() or b"0", 16):
            found += self.rfile.read(size)
            self.rfile.readline()
        self.rfile.readline()
        return found

    def _is_broken(self) -> bool:
        broken = self.stub.broken
        if broken.isdecimal():
            self._send(int(broken), "text/plain", b"no, SECRET-ID-1")
        elif broken == "closes":
            self.close_connection = True
            self.connection.close()
        elif broken == "slow":
            self.stub.ended.wait(20)
        elif broken == "html":
            self._send(200, "text/html", b"<html>Sign in")
        elif broken == "redirect":
            self.send_response(302)
            self.send_header("Location", "http://127.0.0.1:1/elsewhere")
            self.end_headers()
        else:
            return False
        return True

    @staticmethod
    def _row(uid: str) -> dict[str, Any]:
        return {
            "00080018": {"vr": "UI", "Value": [uid]},
            "0020000E": {"vr": "UI", "Value": [f"{STUDY}.1"]},
            "00080016": {"vr": "UI", "Value": [MG]},
        }

    def _send_file(self, content: bytes) -> None:
        body = b"--part\r\nContent-Type: application/dicom\r\n\r\n" + content + b"\r\n--part--\r\n"
        kind = 'multipart/related; type="application/dicom"; boundary=part'
        if self.stub.broken == "cut in the middle":
            self.send_response(200)
            self.send_header("Content-Type", kind)
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body[: len(body) // 2])
            self.close_connection = True
            return
        self._send(200, kind, body)

    def _send(self, status: int, kind: str, body: bytes) -> None:
        self.send_response(status)
        self.send_header("Content-Type", kind)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)


@pytest.fixture
def stub() -> Iterator[Stub]:
    found = Stub()
    server = ThreadingHTTPServer(("127.0.0.1", 0), type("OfThisTest", (Handler,), {"stub": found}))
    server.daemon_threads = True
    found.port = server.server_address[1]
    threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02}, daemon=True).start()
    yield found
    found.ended.set()
    server.shutdown()
    server.server_close()


@pytest.fixture
def db(tmp_path: Path) -> Iterator[Database]:
    opened = open_database(Settings(state_dir=tmp_path / "state"))
    yield opened
    opened.close()


@pytest.fixture
def ada(db: Database) -> Somebody:
    return add_person(db, "Dr Ada")


@pytest.fixture
def archive_id(db: Database, ada: Somebody, stub: Stub) -> int:
    return name_archive(db, ada, ArchiveAddress("pacs", stub.url, sends=("sr",)))


def web(stub: Stub, credentials: Credentials | None = None) -> DicomWeb:
    return DicomWeb(Archive("pacs", stub.url), credentials, read_seconds=0.3)


def fill(stub: Stub) -> None:
    uid = f"{STUDY}.1.1"
    content = dicom(
        stored_mammogram(), StudyInstanceUID=STUDY, SeriesInstanceUID=f"{STUDY}.1", SOPInstanceUID=uid, StudyID="",
        PatientBirthDate="", PatientSex="", AccessionNumber="", StudyDate="20260102", StudyTime="",
        ReferringPhysicianName="",
    )  # fmt: skip
    stub.files[uid] = content


def asked(db: Database, ada: Somebody, archive_id: int) -> arrivals.ArrivalRow:
    """The row of the newest arrival, after one turn of the worker at which it is due."""
    with db.begin() as connection:
        connection.execute(update(tables.arrival).values(due_at=None))
    arrivals.process_next(db, **WHO)
    return arrivals.recent_arrivals(db, ada)[0]


def read_study(db: Database, ada: Somebody, archive_id: int) -> str:
    """A study as it is once it was fetched, read to the end."""
    image = picture()
    who = dict.fromkeys(OF_STUDY, "") | {"PatientID": SECRET, "PatientName": "Muster", "StudyInstanceUID": STUDY}
    what = {"SOPClassUID": MG, "SOPInstanceUID": f"{STUDY}.1.1", "SeriesInstanceUID": f"{STUDY}.1", "Modality": "MG"}
    identity = SourceIdentity(who, {image.sha256: what | {"Rows": "24", "Columns": "20"}})

    def add(connection: Connection, study_id: str) -> None:
        record_identity(connection, db.site_key, study_id, archive_id=archive_id, exam_hash="f" * 64, identity=identity)

    study_id = studies.create_study(db, ada, display_name="x", images=[image], also=add)
    (stored,) = studies.load_study(db, ada, study_id).images
    predictions.record_predictions(db, study_id, stored.id, answer(stored.image, malignant=0.4), explanation())
    reads.record_first_read(db, ada, study_id, {"R": Impression("2", 5)})
    reads.reveal(db, ada, study_id)
    reads.record_final_read(db, ada, study_id, {"R": Impression("4A", 40)})
    return study_id


def sent(db: Database, ada: Somebody, study_id: str) -> outbox.OutboxRow:
    """The result's row after one turn of the worker at which it is due."""
    with db.begin() as connection:
        connection.execute(update(tables.outbox).values(due_at=None))
    sending.send_next(db, **WHO)
    return outbox.results_of(db, ada, study_id)[0]


@pytest.mark.parametrize(
    ("broken", "error", "sentence"),
    [
        ("500", ArchiveAway, "cannot do this now .HTTP 500"),
        ("429", ArchiveAway, "cannot do this now .HTTP 429"),
        ("401", ArchiveAway, "does not let SecondRead in"),
        ("400", ArchiveRefused, "refused this .HTTP 400"),
        ("closes", ArchiveAway, "closed the connection"),
        ("slow", ArchiveAway, "too slowly"),
        ("html", ArchiveAway, "not DICOMweb"),
        ("redirect", ArchiveAway, "not DICOMweb"),
    ],
)
def test_each_way_to_fail_is_a_sentence_without_an_address(
    stub: Stub, broken: str, error: type[Exception], sentence: str
) -> None:
    fill(stub)
    stub.broken = broken
    for act in (
        lambda: web(stub).instances(STUDY),
        lambda: web(stub).stored(STUDY, f"{STUDY}.1", f"{STUDY}.1.1"),
        lambda: web(stub).search(Criteria(patient_id=SECRET)),
    ):
        with pytest.raises(error, match=sentence) as refused:
            act()
        assert STUDY not in str(refused.value) and SECRET not in str(refused.value)
        assert refused.value.__cause__ is None, "the library's own words name the address"


@pytest.mark.parametrize("broken", ["401", "403", "404", "redirect", "html", "500", "closes"])
def test_what_is_closed_one_step_above_dicomweb_is_no_interface_of_orthanc(stub: Stub, broken: str) -> None:
    stub.broken = broken
    if broken not in ("500", "closes"):
        assert web(stub).is_orthanc() is (False if broken == "404" else None)
        return
    with pytest.raises(ArchiveAway):
        web(stub).is_orthanc()


@pytest.mark.parametrize(("status", "is_closed"), [(401, True), (403, True), (404, False)])
def test_a_study_that_orthanc_does_not_let_us_see_now_is_not_taken_for_one_that_was_removed(
    stub: Stub, monkeypatch: pytest.MonkeyPatch, status: int, is_closed: bool
) -> None:
    own_id = "-".join(["0" * 8] * 5)
    changes = json.dumps({"Changes": [{"ID": own_id, "ChangeType": "StableStudy"}], "Last": 8}).encode()

    def answers(handler: Handler) -> None:
        handler._send(*((200, "text/plain", changes) if "changes" in handler.path else (status, "text/plain", b"no")))

    monkeypatch.setattr(Handler, "do_GET", answers)
    if not is_closed:
        assert web(stub).stable_since(7) == ([], 8)
        return
    with pytest.raises(ArchiveRefused, match="lets SecondRead in"):
        web(stub).stable_since(7)


def test_an_archive_that_is_down_is_a_sentence() -> None:
    gone = DicomWeb(Archive("pacs", "http://127.0.0.1:9"), None, read_seconds=0.3)
    with pytest.raises(ArchiveAway, match="cannot be reached"):
        gone.instances(STUDY)


def test_an_answer_that_drips_has_an_end(stub: Stub, monkeypatch: pytest.MonkeyPatch) -> None:
    fill(stub)
    monkeypatch.setattr(dicomweb, "ANSWER_SECONDS", -1.0)
    with pytest.raises(ArchiveAway, match="too slowly"):
        web(stub).instances(STUDY)


def test_a_file_larger_than_agreed_is_refused_at_the_first_byte_too_many(stub: Stub, tmp_path: Path) -> None:
    fill(stub)
    (uid, content), = stub.files.items()  # fmt: skip
    instance = FoundInstance(f"{STUDY}.1", uid, MG, "MG")
    assert web(stub).fetch(STUDY, instance, tmp_path / "a", most=len(content)) == len(content)
    assert (tmp_path / "a").read_bytes() == content
    with pytest.raises(ArchiveRefused, match="more than"):
        web(stub).fetch(STUDY, instance, tmp_path / "a", most=len(content) - 1)


def test_a_name_that_is_no_uid_never_becomes_an_address(stub: Stub, tmp_path: Path) -> None:
    with pytest.raises(ArchiveRefused, match="DICOM does not permit"):
        web(stub).fetch(STUDY, FoundInstance("../../secret", "1.2", "", ""), tmp_path / "a", most=9)
    assert stub.calls == []


def test_credentials_go_only_over_tls_or_on_this_machine(stub: Stub, db: Database, ada: Somebody) -> None:
    fill(stub)
    web(stub, Credentials("ann", "pass")).instances(STUDY)
    assert stub.authorization == "Basic YW5uOnBhc3M="
    web(stub, Credentials(token="abc")).instances(STUDY)
    assert stub.authorization == "Bearer abc"
    with pytest.raises(ArchiveRefused, match="over TLS alone"):
        DicomWeb(Archive("pacs", "http://pacs.example/web"), Credentials("ann", "pass"))
    assert "pass" not in repr(Credentials("ann", "pass"))


@pytest.mark.parametrize("broken", ["500", "closes", "cut in the middle"])
def test_a_study_that_could_not_be_fetched_waits_and_comes_later_whole(
    db: Database, ada: Somebody, stub: Stub, archive_id: int, broken: str
) -> None:
    fill(stub)
    arrivals.fetch(db, ada, archive_id, STUDY)
    stub.broken = broken
    row = asked(db, ada, archive_id)
    assert row.state == "queued" and row.due_at is not None and row.due_at > tables.now()
    assert studies.list_studies(db, ada) == []
    assert not arrivals.process_next(db, **WHO), "it is not due yet"
    stub.broken = ""
    assert asked(db, ada, archive_id).state == "done"
    assert len(studies.list_studies(db, ada)) == 1
    assert list((db.settings.state_dir / "tmp").glob("*/*")) == []


def test_an_archive_that_stays_away_is_given_up_after_hours_and_can_be_asked_anew(
    db: Database, ada: Somebody, stub: Stub, archive_id: int
) -> None:
    arrivals.fetch(db, ada, archive_id, STUDY)
    stub.broken = "500"
    states = [asked(db, ada, archive_id).state for _ in range(arrivals.TRIES_MOST)]
    assert states == ["queued"] * (arrivals.TRIES_MOST - 1) + ["failed"]
    stub.broken = ""
    fill(stub)
    arrivals.fetch(db, ada, archive_id, STUDY)
    assert asked(db, ada, archive_id).state == "done"


def test_waits_double_up_to_an_hour() -> None:
    waits = [arrivals.wait_seconds(tries) for tries in range(12)]
    assert waits[:4] == [15, 30, 60, 120] and waits[-1] == 3600
    assert arrivals.wait_seconds(10_000) == 3600


def test_an_image_of_another_study_is_refused(db: Database, ada: Somebody, stub: Stub, archive_id: int) -> None:
    fill(stub)
    arrivals.fetch(db, ada, archive_id, f"{STUDY}.2")
    row = asked(db, ada, archive_id)
    assert row.state == "failed" and "another study" in row.message
    assert studies.list_studies(db, ada) == []


def test_who_lost_the_role_meanwhile_gets_no_study(db: Database, ada: Somebody, stub: Stub, archive_id: int) -> None:
    fill(stub)
    arrivals.fetch(db, ada, archive_id, STUDY)
    with db.begin() as connection:
        connection.execute(update(tables.person).values(roles=["researcher"]))
    arrivals.process_next(db, **WHO)
    with db.read() as connection:
        (row,) = connection.execute(select(tables.arrival.c.state, tables.arrival.c.message))
        assert connection.execute(select(tables.study.c.id)).all() == []
    assert row.state == "failed" and "needs the role radiologist" in row.message


@pytest.mark.parametrize("broken", ["500", "401", "closes", "slow"])
def test_a_result_that_was_not_taken_waits_and_is_delivered_once(
    db: Database, ada: Somebody, stub: Stub, archive_id: int, broken: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(dicomweb, "READ_SECONDS", 0.3)
    study_id = read_study(db, ada, archive_id)
    stub.broken = broken
    row = sent(db, ada, study_id)
    assert (row.state, row.tries) == ("queued", 1) and row.due_at is not None
    assert timedelta(0) < row.due_at - tables.now() <= timedelta(seconds=arrivals.FIRST_WAIT_SECONDS)
    assert SECRET not in row.message and STUDY not in row.message
    assert sent(db, ada, study_id).tries == 2
    stub.broken = ""
    assert sent(db, ada, study_id).state == "done"
    assert len(stub.stored) == 1


def test_a_500_after_the_archive_had_it_is_found_out_and_nothing_is_sent_twice(
    db: Database, ada: Somebody, stub: Stub, archive_id: int
) -> None:
    study_id = read_study(db, ada, archive_id)
    stub.broken = "500 after storing"
    assert sent(db, ada, study_id).state == "queued"
    assert sent(db, ada, study_id).state == "done"
    assert len(stub.stored) == 1


def test_an_archive_that_stores_sequences_with_lengths_of_another_kind_holds_the_result(
    db: Database, ada: Somebody, stub: Stub, archive_id: int
) -> None:
    study_id = read_study(db, ada, archive_id)
    stub.broken = "500 after storing"
    assert sent(db, ada, study_id).state == "queued"
    (content,) = stub.stored
    stored = dcmread(BytesIO(content))

    def with_delimiters(_: Dataset, element: DataElement) -> None:
        if element.VR == "SQ":
            element.is_undefined_length = True
            for item in element.value:
                item.is_undefined_length_sequence_item = True

    stored.walk(with_delimiters)
    written = BytesIO()
    stored.save_as(written)
    assert written.getvalue() != content
    stub.files[str(stored.SOPInstanceUID)] = written.getvalue()
    assert sent(db, ada, study_id).state == "done"


def test_a_success_that_the_archive_does_not_show_is_no_delivery(
    db: Database, ada: Somebody, stub: Stub, archive_id: int
) -> None:
    study_id = read_study(db, ada, archive_id)
    stub.broken = "dropped"
    row = sent(db, ada, study_id)
    assert row.state == "queued" and "does not show it yet" in row.message
    stub.broken = ""
    assert sent(db, ada, study_id).state == "done"
    assert len(stub.stored) == 2 and stub.stored[0] == stub.stored[1], "the same bytes under the same number"


@pytest.mark.parametrize("goes_first", ["the older", "the newer"])
@pytest.mark.parametrize("broken", ["500", "500 after storing"])
def test_no_result_comes_after_the_one_that_replaces_it(
    db: Database, ada: Somebody, stub: Stub, archive_id: int, broken: str, goes_first: str
) -> None:
    study_id = read_study(db, ada, archive_id)
    stub.broken = broken
    assert sent(db, ada, study_id).tries == 1
    stub.broken = "500"
    reads.record_final_read(db, ada, study_id, {"R": Impression("5", 95)})
    newer, older = outbox.results_of(db, ada, study_id)
    for first in (older, newer) if goes_first == "the older" else (newer, older):
        stub.broken = ""
        with db.begin() as connection:
            connection.execute(update(tables.outbox).values(due_at=tables.now() + timedelta(hours=1)))
            connection.execute(update(tables.outbox).where(tables.outbox.c.id == first.id).values(due_at=None))
        assert sending.send_next(db, **WHO)
    has_older = broken == "500 after storing"
    newer, older = outbox.results_of(db, ada, study_id)
    assert (older.state, newer.state) == ("done" if has_older else "cancelled", "done"), older.message
    *before, report = [dcmread(BytesIO(content)) for content in stub.stored]
    assert len(before) == has_older and ("PredecessorDocumentsSequence" in report) == has_older
    assert all(one.SOPInstanceUID in str(report) for one in before)


@pytest.mark.parametrize("goes_first", ["the older", "the newer"])
def test_a_result_that_the_archive_took_and_shows_later_is_named_by_the_one_that_replaces_it(
    db: Database, ada: Somebody, stub: Stub, archive_id: int, goes_first: str
) -> None:
    study_id = read_study(db, ada, archive_id)
    stub.broken = "dropped"
    assert "does not show it yet" in sent(db, ada, study_id).message
    stub.broken = ""
    reads.record_final_read(db, ada, study_id, {"R": Impression("5", 95)})
    newer, older = outbox.results_of(db, ada, study_id)
    for first in (older, newer) if goes_first == "the older" else (newer, older):
        with db.begin() as connection:
            connection.execute(update(tables.outbox).values(due_at=tables.now() + timedelta(hours=1)))
            connection.execute(update(tables.outbox).where(tables.outbox.c.id == first.id).values(due_at=None))
        assert sending.send_next(db, **WHO)
    newer, older = outbox.results_of(db, ada, study_id)
    assert (older.state, newer.state) == ("queued", "done"), older.message
    before, report = (dcmread(BytesIO(content)) for content in stub.stored)
    assert before.SOPInstanceUID in str(report.PredecessorDocumentsSequence), "nobody finds the old one alone"
    stub.files[str(before.SOPInstanceUID)] = stub.stored[0]
    with db.begin() as connection:
        connection.execute(update(tables.outbox).values(due_at=None))
    assert sending.send_next(db, **WHO)
    assert outbox.results_of(db, ada, study_id)[1].state == "done" and len(stub.stored) == 2


def test_a_result_waits_while_another_machine_sends_the_one_that_it_replaces(
    db: Database, ada: Somebody, stub: Stub, archive_id: int
) -> None:
    study_id = read_study(db, ada, archive_id)
    reads.record_final_read(db, ada, study_id, {"R": Impression("5", 95)})
    older = outbox.RESULTS.claim(db, worker="another", machine="there")
    assert older is not None
    row = sent(db, ada, study_id)
    assert row.state == "queued" and "follows it" in row.message and stub.stored == []


def test_a_result_that_cannot_be_made_is_failed_with_a_sentence_and_holds_up_no_other(
    db: Database, ada: Somebody, stub: Stub, archive_id: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    def impossible(*_: object) -> None:
        raise ValueError(f"first_mapped_value of {SECRET}")

    study_id = read_study(db, ada, archive_id)
    with monkeypatch.context() as broken:
        broken.setattr(sending, "_object", impossible)
        row = sent(db, ada, study_id)
    assert row.state == "failed" and "cannot be made" in row.message and SECRET not in row.message
    outbox.send_again(db, ada, row.id)
    assert sent(db, ada, study_id).state == "done"


def test_a_result_that_the_archive_refuses_is_failed_and_can_be_sent_again(
    db: Database, ada: Somebody, stub: Stub, archive_id: int
) -> None:
    study_id = read_study(db, ada, archive_id)
    stub.broken = "400"
    row = sent(db, ada, study_id)
    assert row.state == "failed" and "HTTP 400" in row.message
    stub.broken = ""
    outbox.send_again(db, ada, row.id)
    assert sent(db, ada, study_id).state == "done"


def test_credentials_that_cannot_be_read_now_end_neither_a_fetch_nor_a_result(
    db: Database, ada: Somebody, stub: Stub, archive_id: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    study_id = read_study(db, ada, archive_id)
    fill(stub)
    arrivals.fetch(db, ada, archive_id, f"{STUDY}.2")
    with monkeypatch.context() as gone:
        away = replace(db.settings, archive_credentials_file=str(tmp_path / "being written"))
        for module in (arrivals, sending):
            gone.setattr(module, "credentials_of", lambda _, name: credentials_of(away, name))
        row, result = asked(db, ada, archive_id), sent(db, ada, study_id)
    assert row.state == result.state == "queued" and "cannot be read" in row.message + result.message
    assert asked(db, ada, archive_id).state == "failed", "the study that the archive sent is another"
    assert sent(db, ada, study_id).state == "done"


def test_a_full_disk_ends_no_fetch(
    db: Database, ada: Somebody, stub: Stub, archive_id: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(*_: object, **__: object) -> int:
        raise OSError(28, "No space left on device")

    fill(stub)
    arrivals.fetch(db, ada, archive_id, STUDY)
    with monkeypatch.context() as disk:
        disk.setattr(DicomWeb, "fetch", full)
        assert asked(db, ada, archive_id).state == "queued"
    assert asked(db, ada, archive_id).state == "done"


def test_nothing_goes_to_an_archive_that_is_named_no_more(
    db: Database, ada: Somebody, stub: Stub, archive_id: int
) -> None:
    study_id = read_study(db, ada, archive_id)
    remove_archive(db, ada, archive_id)
    stub.calls.clear()
    row = sent(db, ada, study_id)
    assert row.state == "failed" and "not named any more" in row.message
    assert stub.calls == []
    reads.record_final_read(db, ada, study_id, {"R": Impression("2", 40)})
    assert len(outbox.results_of(db, ada, study_id)) == 1


WRONG = (
    (ArchiveAddress("", "http://a/b"), "name"),
    (ArchiveAddress("<b>", "http://a/b"), "name"),
    (ArchiveAddress("a", "ftp://a/b"), "begins with http"),
    (ArchiveAddress("a", "http:///b"), "begins with http"),
    (ArchiveAddress("a", "http://ann:secret@a/b"), "neither a password"),
    (ArchiveAddress("a", "http://a/b?key=secret"), "neither a password"),
    (ArchiveAddress("a", "http://a/b", "AE"), "all of AE title, host and port"),
    (ArchiveAddress("a", "http://a/b", "A" * 17, "h", 104), "AE title has 1 to 16"),
    (ArchiveAddress("a", "http://a/b", "AE", "http://h", 104), "without http"),
    (ArchiveAddress("a", "http://a/b", "AE", "h", 65536), "1 to 65535"),
    (ArchiveAddress("a", "http://a/b", sends=("fax",)), "no result fax"),
    (ArchiveAddress("secured", "http://elsewhere/b"), "without TLS"),
)


def test_an_address_that_cannot_be_right_is_refused_with_what_is_wrong(tmp_path: Path) -> None:
    db = open_database(Settings(state_dir=tmp_path, archive_credentials="secured = ann:secret"))
    ada = add_person(db, "Ada")
    for address, sentence in WRONG:
        with pytest.raises(InvalidInput, match=sentence) as refused:
            name_archive(db, ada, address)
        assert "secret" not in str(refused.value)
    db.close()


def test_archives_are_named_once_and_by_administrators(db: Database, ada: Somebody, archive_id: int) -> None:
    with pytest.raises(Conflict, match="this name"):
        name_archive(db, ada, ArchiveAddress("PACS", "http://a/b"))
    with pytest.raises(NotAllowed):
        name_archive(db, add_person(db, "Rita", "radiologist"), ArchiveAddress("other", "http://a/b"))
