"""The process that takes what archives send: what it takes, what it refuses, and what becomes of what came."""

from __future__ import annotations

import os
import resource
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from io import BytesIO
from pathlib import Path
from socket import SHUT_RDWR
from typing import Any

import pytest
from made_images import MG, dicom, stored_mammogram
from pydicom import dcmread
from pynetdicom import AE, _config, evt
from record_site import CALM, Somebody, add_person
from sqlalchemy import insert, update

from core.__main__ import main
from core.archive import arrivals, listener, pushed
from core.archive.archives import ArchiveAddress, change_archive, name_archive
from core.archive.listener import enqueue_quiet, listening
from core.commands import conformance
from core.errors import InvalidInput
from core.imaging.dicom.header import DEFLATED, TRANSFER_SYNTAXES
from core.imaging.dicom.tags import STORAGE_CLASSES
from core.records import site_settings
from core.records.archives import identity
from core.records.database import tables
from core.records.database.db import Database, open_database
from core.records.database.image_store import ImageStore
from core.records.reads import reads, studies
from core.settings import MIB, REPOSITORY, Settings

ROOT = "1.2.826.0.1.3680043.8.498.5"
WHO = {"worker": "test", "machine": "here"}
EXPLICIT = "1.2.840.10008.1.2.1"
ADDRESS = ArchiveAddress("pacs", "http://127.0.0.1:9/web", "SENDER", "127.0.0.1", 104, pushes=True)
COMMITMENT = "1.2.840.10008.1.20.1"


@pytest.fixture
def db(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Database]:
    monkeypatch.setattr(_config, "STORE_RECV_CHUNKED_DATASET", False)  # and as it was for others
    opened = open_database(Settings(state_dir=tmp_path / "state"))
    yield opened
    opened.close()


@pytest.fixture
def ada(db: Database) -> Somebody:
    return add_person(db, "Ada")


@pytest.fixture
def archive_id(db: Database, ada: Somebody) -> int:
    return name_archive(db, ada, ADDRESS)


@pytest.fixture
def port(db: Database, archive_id: int, monkeypatch: pytest.MonkeyPatch) -> Iterator[int]:
    """A listener whose studies are made when the test says so."""
    monkeypatch.setattr(listener, "SWEEP_SECONDS", 600.0)
    with listening(db, "127.0.0.1", 0) as found:
        yield found


def view(number: int = 1, side: str = "R", *, study: int = 1, **tags: object) -> bytes:
    uid = f"{ROOT}.{study}"
    facts = {"PatientID": "P-4711", "StudyInstanceUID": uid, "SeriesInstanceUID": f"{uid}.1", "SOPClassUID": MG,
             "SOPInstanceUID": f"{uid}.1.{number}", "ImageLaterality": side, "ViewPosition": "CC"}  # fmt: skip
    return dicom(stored_mammogram(seed=number), **{**facts, **tags})


@contextmanager
def associated(port: int, *, calling: str = "SENDER", called: str = "SECONDREAD", **contexts: Any) -> Iterator[Any]:
    """An association as an archive asks for it. contexts: see `AE.add_requested_context`."""
    entity = AE(ae_title=calling)
    entity.acse_timeout = entity.dimse_timeout = entity.network_timeout = 10
    for sop_class, syntaxes in contexts.get("asked", {MG: [EXPLICIT]}).items():
        entity.add_requested_context(sop_class, syntaxes)
    association = entity.associate("127.0.0.1", port, ae_title=called)
    yield association
    if association.is_established:
        association.release()


def send(port: int, *files: bytes) -> list[int]:
    """The status of each object."""
    with associated(port) as association:
        assert association.is_established
        return [int(association.send_c_store(dcmread(BytesIO(one))).Status) for one in files]


def made(db: Database, ada: Somebody) -> arrivals.ArrivalRow:
    """The newest arrival, after a quiet time and one turn of the worker."""
    assert enqueue_quiet(db, quiet_seconds=0) == 1
    assert arrivals.process_next(db, **WHO)
    return arrivals.recent_arrivals(db, ada)[0]


def left(db: Database) -> list[Path]:
    return [path for path in (db.settings.state_dir / "pushed").glob("*") if path.is_dir()]


def test_what_an_archive_sends_becomes_one_study_once_nothing_more_comes(
    db: Database, ada: Somebody, port: int, archive_id: int
) -> None:
    assert send(port, view(1, "R"), view(2, "L")) == [0, 0]
    assert send(port, view(2, "L")) == [0], "sent twice"
    assert enqueue_quiet(db, quiet_seconds=30) == 0, "more may come"
    row = made(db, ada)
    assert (row.state, row.message, row.asked_by) == ("done", "2 images.", "push")
    assert row.study_id and identity.show_identity(db, ada, row.study_id).study["PatientID"] == "P-4711"
    assert left(db) == []
    names = "".join(str(path) for path in db.settings.state_dir.rglob("*"))
    assert ROOT not in names and "P-4711" not in names

    assert send(port, view(1, "R"), view(3, "R", ViewPosition="MLO")) == [0, 0]
    row = made(db, ada)
    assert row.message == "It was here already. The archive has 1 more image of it."
    assert row.study_id and studies.load_study(db, ada, row.study_id).n_not_here == 1
    for corrected in (view(1, "L"), view(1, "R", PatientID="another"), view(1, "R", ViewPosition="MLO")):
        assert send(port, corrected, view(2, "L")) == [0, 0]
        row = made(db, ada)
        assert row.message.startswith("It was here already. 1 image of it came again with another patient, side, view")
    assert len(studies.list_studies(db, ada)) == 1 and left(db) == []
    assert studies.load_study(db, ada, row.study_id).n_not_here == 1, "it still is not"


def test_what_this_site_has_made_itself_is_no_image_that_is_missing_here(
    db: Database, ada: Somebody, port: int, archive_id: int
) -> None:
    """An archive that sends on what it stores sends a picture of our results, too."""
    assert send(port, view(1)) == [0]
    study_id = made(db, ada).study_id
    assert study_id is not None
    read_id = reads.record_first_read(db, ada, study_id, {"R": CALM})
    with db.begin() as connection:
        connection.execute(
            insert(tables.outbox).values(
                study_id=study_id, read_id=read_id, archive_id=archive_id, kind="sc", image=1, state="done",
                sop_instance_uid=f"{ROOT}.1.1.2", message="", attempts=1, tries=0, created_at=tables.now(),
            )
        )  # fmt: skip
    for files in ([view(2)], [view(1), view(2)]):
        assert send(port, *files) == [0] * len(files)
        row = made(db, ada)
        assert (row.state, row.message, row.study_id) == ("done", "It was here already.", study_id)
    assert studies.load_study(db, ada, study_id).n_not_here == 0 and left(db) == []


def test_who_may_send_is_asked_of_the_database_for_each_association(
    db: Database, ada: Somebody, port: int, archive_id: int
) -> None:
    for names in ({"calling": "STRANGER"}, {"called": "OTHER"}):
        with associated(port, **names) as association:
            assert association.is_rejected, names
    with associated(port) as open_before:
        change_archive(db, ada, archive_id, replace(ADDRESS, pushes=False))
        assert open_before.send_c_store(dcmread(BytesIO(view()))).Status == listener.NOT_AUTHORISED
    with associated(port) as association:
        assert association.is_rejected
    change_archive(db, ada, archive_id, replace(ADDRESS, host="192.0.2.1"))
    with associated(port) as association:
        assert association.is_rejected, "the AE title of an archive that stands elsewhere"
    assert left(db) == []
    with pytest.raises(InvalidInput, match="AE title and host"):
        change_archive(db, ada, archive_id, ArchiveAddress("pacs", ADDRESS.dicomweb_url, pushes=True))


def test_only_what_is_said_to_be_taken_is_negotiated(port: int) -> None:
    ct, report = "1.2.840.10008.5.1.4.1.1.2", "1.2.840.10008.5.1.4.1.1.88.33"
    asked = {sop_class: list(TRANSFER_SYNTAXES) for sop_class in STORAGE_CLASSES}
    with associated(port, asked=asked | {listener.VERIFICATION: [EXPLICIT]}) as association:
        assert {one.abstract_syntax for one in association.accepted_contexts} == {*asked, listener.VERIFICATION}
        assert association.send_c_echo().Status == 0
    for syntax in TRANSFER_SYNTAXES:
        with associated(port, asked={MG: [syntax], listener.VERIFICATION: [EXPLICIT]}) as association:
            assert len(association.accepted_contexts) == 2, syntax
    refused = {COMMITMENT: [EXPLICIT], ct: [EXPLICIT], report: [EXPLICIT], MG: sorted(DEFLATED)}
    with associated(port, asked=refused | {listener.VERIFICATION: [EXPLICIT]}) as association:
        assert {one.abstract_syntax for one in association.rejected_contexts} == set(refused)


def test_the_conformance_statement_is_what_the_code_goes_by() -> None:
    page = (REPOSITORY / conformance.PAGE).read_text(encoding="utf-8")
    assert page == conformance.statement(), "python -m core conformance"
    assert all(uid in page for uid in (*STORAGE_CLASSES, *TRANSFER_SYNTAXES))
    assert f"N-EVENT-REPORT of Storage Commitment ({COMMITMENT})" in page


def test_more_associations_than_agreed_are_rejected(port: int, monkeypatch: pytest.MonkeyPatch) -> None:
    opened = []
    for _ in range(listener.ASSOCIATIONS_MOST):
        context = associated(port)
        opened.append((context, context.__enter__()))
    assert all(association.is_established for _, association in opened)
    with associated(port) as one_more:
        assert one_more.is_rejected
    for context, _ in opened:
        context.__exit__(None, None, None)


def test_what_cannot_be_taken_has_its_status_and_leaves_nothing(
    db: Database, ada: Somebody, port: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with associated(port) as association:
        unnamed = dcmread(BytesIO(view()))
        del unnamed.StudyInstanceUID
        assert association.send_c_store(unnamed).Status == listener.NOT_UNDERSTOOD
        meta, other = f"{ROOT}.1.1.1".encode(), f"{ROOT}.1.1.7".encode()
        (tmp_path / "other.dcm").write_bytes(view().replace(meta, other, 1))
        monkeypatch.setattr(
            _config, "STORE_SEND_CHUNKED_DATASET", True
        )  # the message is of the file's meta information
        assert association.send_c_store(tmp_path / "other.dcm").Status == listener.NOT_OF_ITS_CLASS
    with monkeypatch.context() as crowded:
        crowded.setattr(listener, "ROOM_STUDIES", 0)
        assert send(port, view()) == [listener.OUT_OF_RESOURCES]

    def full(*_: object, **__: object) -> None:
        raise OSError(28, "No space left on device")

    with monkeypatch.context() as disk:
        disk.setattr(pushed, "add", full)
        assert send(port, view()) == [listener.OUT_OF_RESOURCES]
    assert left(db) == [] and send(port, view()) == [0]


def test_what_is_removed_while_it_is_counted_refuses_no_object(
    db: Database, port: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert send(port, view(study=1), view(study=2)) == [0, 0]
    glob = Path.glob

    def removed_meanwhile(folder: Path, pattern: str) -> Iterator[Path]:
        for path in [*glob(folder, pattern)]:
            shutil.rmtree(path.parent)
            yield path

    def gone(*_: object) -> Iterator[Path]:
        raise FileNotFoundError

    for race in (gone, removed_meanwhile):
        with monkeypatch.context() as removing:
            removing.setattr(Path, "glob", race)
            assert send(port, view(study=3)) == [0], race
    assert len(left(db)) == 1


def test_an_object_larger_than_a_file_may_be_is_not_taken(
    db: Database, ada: Somebody, port: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    site_settings.choose(db, ada, "upload_mib", 1)
    large = dcmread(BytesIO(view()))
    large.ImageComments = "x" * 1000
    large.add_new(0x00091010, "OB", bytes(2 * MIB))
    stored = BytesIO()
    large.save_as(stored)
    assert send(port, stored.getvalue()) == [listener.OUT_OF_RESOURCES]
    monkeypatch.setattr(listener, "HEADER_ROOM", (1 - db.settings.upload_mib) * MIB)
    with associated(port) as association:
        assert association.is_established
        assert "Status" not in association.send_c_store(large), "it is cut off while it comes"
    assert left(db) == []


@pytest.mark.parametrize("is_cut_off", [True, False])
def test_what_an_association_had_begun_to_send_goes_with_it(
    db: Database, port: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, is_cut_off: bool
) -> None:
    begun = tmp_path / "begun"
    begun.mkdir()
    monkeypatch.setattr(tempfile, "tempdir", str(begun))
    large = dcmread(BytesIO(view()))
    large.add_new(0x00091010, "OB", bytes(4 * MIB))
    seen: list[Path] = []
    sent = [0]

    def watched(event: Any) -> None:
        """After the first megabyte: wait until the other side has begun to write it."""
        sent[0] += len(event.data)
        if sent[0] < MIB or seen:
            return
        until = time.monotonic() + 20
        while not seen and time.monotonic() < until:
            seen.extend(begun.glob("*.dcm"))
            time.sleep(0.01)
        if not is_cut_off:
            association.dul.socket.socket.shutdown(SHUT_RDWR)

    if is_cut_off:
        monkeypatch.setattr(listener, "HEADER_ROOM", (2 - db.settings.upload_mib) * MIB)
    with associated(port) as association:
        association.bind(evt.EVT_DATA_SENT, watched)
        assert "Status" not in association.send_c_store(large)
    until = time.monotonic() + 20
    while list(begun.iterdir()):
        assert time.monotonic() < until, "the temporary file stays"
        time.sleep(0.05)
    assert seen and left(db) == []


def test_the_objects_of_an_exam_are_read_in_the_order_in_which_they_came(tmp_path: Path) -> None:
    file = tmp_path / "file"
    file.write_bytes(b"x")
    for moment, name in enumerate(("c", "a", "d", "b")):
        pushed.add(tmp_path, "exam", name, archive_id=1, file=file)
        os.utime(tmp_path / "pushed" / "exam" / f"{name}.dcm", ns=(moment // 2, moment // 2))
    for _ in range(2):
        assert [path.stem for path in pushed.taken(tmp_path, "exam", 7)] == ["a", "c", "b", "d"], (
            "of one moment by name"
        )


def test_an_exam_is_not_quiet_while_an_object_of_it_is_still_coming(
    db: Database, ada: Somebody, port: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(listener, "TOUCH_SECONDS", 0.0)
    assert send(port, view(1, study=1), view(1, study=2)) == [0, 0]
    long_ago = time.time() - 1000
    for folder in left(db):
        os.utime(folder, (long_ago, long_ago))
    large = dcmread(BytesIO(view(2, "L", study=1)))
    large.add_new(0x00291010, "OB", bytes(4 * MIB))
    sent, made_of = [0], []

    def watched(event: Any) -> None:
        """After the first megabyte: what a sweep that comes now makes studies of, once the other side has seen it."""
        sent[0] += len(event.data)
        if sent[0] < MIB or made_of:
            return
        until = time.monotonic() + 5
        while min(exam.idle_seconds for exam in pushed.exams(db.settings.state_dir)) > 500 and time.monotonic() < until:
            time.sleep(0.01)
        made_of.append(enqueue_quiet(db, quiet_seconds=listener.QUIET_SECONDS))

    with associated(port) as association:
        association.bind(evt.EVT_DATA_SENT, watched)
        assert association.send_c_store(large).Status == 0
    assert made_of == [1], "the other one, of which nothing comes"
    assert arrivals.process_next(db, **WHO) and made(db, ada).message == "2 images."
    assert left(db) == []


def test_an_exam_that_cannot_be_read_is_failed_and_leaves_no_file(
    db: Database, ada: Somebody, port: int, archive_id: int
) -> None:
    assert send(port, view(Modality="CT")) == [0]
    row = made(db, ada)
    assert row.state == "failed" and "None of the 1 images could be read" in row.message
    assert left(db) == []


def again(db: Database, ada: Somebody) -> arrivals.ArrivalRow:
    """The newest arrival, after another turn of the worker at which it is due."""
    with db.begin() as connection:
        connection.execute(update(tables.arrival).values(due_at=None))
    assert arrivals.process_next(db, **WHO)
    return arrivals.recent_arrivals(db, ada)[0]


def test_an_exam_waits_with_its_files_while_the_disk_is_full(
    db: Database, ada: Somebody, port: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(*_: object, **__: object) -> None:
        raise OSError(28, "No space left on device")

    assert send(port, view()) == [0]
    for place, turn in ((ImageStore, made), (arrivals.pushed, again)):
        with monkeypatch.context() as disk:
            disk.setattr(place, "put" if place is ImageStore else "taken", full)
            row = turn(db, ada)
        assert row.state == "queued" and "no space left" in row.message and len(left(db)) == 1
    assert again(db, ada).state == "done" and left(db) == []


def test_nothing_is_taken_or_lost_while_nobody_may_answer_for_it(
    db: Database, ada: Somebody, port: int, archive_id: int
) -> None:
    grace = add_person(db, "Grace", "administrator")
    assert send(port, view()) == [0]
    with db.begin() as connection:
        connection.execute(update(tables.person).where(tables.person.c.name == "Ada").values(roles=["radiologist"]))
    row = made(db, ada)
    assert row.state == "queued" and "switches off and on" in row.message and len(left(db)) == 1
    assert send(port, view(study=2)) == [listener.NOT_AUTHORISED] and len(left(db)) == 1
    for pushes in (False, True):
        change_archive(db, grace, archive_id, replace(ADDRESS, pushes=pushes))
    assert again(db, ada).state == "done" and left(db) == []
    assert send(port, view(study=2)) == [0]


def test_what_a_process_that_died_left_is_removed_and_what_waits_stays(db: Database, ada: Somebody, port: int) -> None:
    assert send(port, view()) == [0]
    assert enqueue_quiet(db, quiet_seconds=0) == 1
    assert enqueue_quiet(db, quiet_seconds=0) == 0, "it is in the queue"
    row_id = arrivals.recent_arrivals(db, ada)[0].id
    (folder,) = left(db)
    pushed.taken(db.settings.state_dir, folder.name, row_id)
    assert enqueue_quiet(db, quiet_seconds=0) == 0 and len(left(db)) == 1, "a worker has it in hand"
    with db.begin() as connection:
        connection.execute(update(tables.arrival).values(state="dead", message="It died."))
    enqueue_quiet(db, quiet_seconds=0)
    assert left(db) == []


def test_the_command_listens_says_where_and_ends_when_it_is_told(db: Database, archive_id: int) -> None:
    command = [sys.executable, "-m", "core", "dicom-listen", "--host", "127.0.0.1", "--port", "0"]
    environment = os.environ | {"SECONDREAD_STATE_DIR": str(db.settings.state_dir)}
    with subprocess.Popen(command, cwd=REPOSITORY, env=environment, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        said = process.stdout.readline()
        assert said.startswith("SECONDREAD listens at port "), said
        assert send(int(said.split()[-1].rstrip(".")), view()) == [0]
        process.send_signal(signal.SIGTERM)
        assert process.wait(20) == 0
    assert len(left(db)) == 1
    assert not list((db.settings.state_dir / "tmp").glob("*/*.dcm"))


def test_nothing_listens_where_another_does(db: Database, port: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SECONDREAD_STATE_DIR", str(db.settings.state_dir))
    monkeypatch.setattr(resource, "setrlimit", lambda *_: None)  # it would be of the tests' own process
    monkeypatch.setattr(signal, "signal", lambda *_: None)
    assert main(["dicom-listen", "--host", "127.0.0.1", "--port", str(port)]) == 1
