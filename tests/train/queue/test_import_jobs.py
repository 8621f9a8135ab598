"""Imports in the queue: they outlive pages, servers and workers, and end whole or not at all, with a sentence."""

from __future__ import annotations

import logging
import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from dataclasses import replace
from datetime import timedelta
from pathlib import Path

import pytest
from made_data_sets import class_folders, hospital, zipped
from record_site import add_person, at_terminal, sqlite_only
from sqlalchemy import select, update

from core.errors import Conflict, InvalidInput, NotAllowed, NotFound
from core.records import data_sets, queue
from core.records.audit import trail
from core.records.database import tables
from core.records.database.db import Database
from core.records.people.permissions import Person
from core.records.queue import ATTEMPTS, CANCELLED, DEAD, DONE, FAILED, QUEUED, RUNNING, Lease
from core.settings import REPOSITORY, Settings
from core.types import Modality
from train.datasets import ingest, own_reads
from train.datasets.hospital.columns import KeyColumns, LinkColumns, LinkSheets
from train.queue import imports
from train.queue.imports import QUEUE, READS, WORKBOOKS, ZIP, ImportRequest, ImportWork
from train.queue.worker import Worker

REQUEST = ImportRequest(ZIP, "Set", Modality.ULTRASOUND, seed=3)


@pytest.fixture
def archive(records: Database, tmp_path: Path) -> Path:
    """A zip as an upload leaves it; one of its 21 files is no picture."""
    path = records.settings.state_dir / "inbox" / "1" / "upload" / "data"
    path.parent.mkdir(parents=True)
    return zipped(path, class_folders() | {"set/benign/Muster text.png": b"hello"})


@pytest.fixture
def telling() -> threading.Lock:
    """Whoever holds it keeps a `slow` import from telling how far it is, and so from hearing that it is to end."""
    return threading.Lock()


@pytest.fixture
def slow(monkeypatch: pytest.MonkeyPatch, telling: threading.Lock) -> threading.Event:
    """Once its pictures are kept an import goes on telling that it looks at them, until this is set."""
    monkeypatch.setattr(queue, "HEARTBEAT_SECONDS", 0.02)
    go_on, look_at = threading.Event(), ingest.look_at

    def wait(settings: Settings, cases: object, progress: Callable[[str, float], None]) -> object:
        while not go_on.wait(0.01):
            with telling:
                progress("Looking at every picture", 0.5)
        return look_at(settings, cases, progress)  # type: ignore[arg-type]

    monkeypatch.setattr(ingest, "look_at", wait)
    return go_on


def imports_of(db: Database, **more: Callable[[], bool]) -> Worker:
    return Worker(db, ImportWork(db), **more)  # type: ignore[arg-type]


def until(condition: Callable[[], object]) -> None:
    deadline = time.monotonic() + 120
    while not condition():
        assert time.monotonic() < deadline, "it did not happen"
        time.sleep(0.02)


def state_of(db: Database, import_id: int) -> tuple[str, str, int]:
    table = tables.data_import.c
    with db.read() as connection:
        query = select(table.state, table.message, table.attempts).where(table.id == import_id)
        return tuple(connection.execute(query).one())  # type: ignore[return-value]


def assert_nothing_stored(db: Database, import_id: int) -> None:
    folder = db.settings.state_dir / "data_sets"
    assert not [path for path in folder.rglob("*") if path.is_file()] and not list((folder / "arriving").glob("*"))
    assert not list(imports.folder_of(db.settings, import_id).glob("*"))
    with db.read() as connection:
        assert not connection.execute(select(tables.data_set)).all()


def test_an_upload_becomes_a_data_set_and_what_was_left_out_is_told_to_who_added_it_alone(
    records: Database, admin: Person, archive: Path
) -> None:
    other = add_person(records, "Bo", "administrator")
    import_id = imports.enqueue(records, admin, REQUEST, {"archive": archive})
    assert not archive.exists()  # it is the import's now, however long it waits
    (row,) = imports.list_imports(records, admin)
    assert (row.state, row.message, row.is_open) == (QUEUED, "Waits for a worker.", True)
    assert (row.done, row.created_by_name) == (0, "Ada")
    worker = imports_of(records)
    assert worker.work_once() and not worker.work_once()

    (row,) = imports.list_imports(records, admin)
    assert (row.state, row.message) == (DONE, "The data set was added.") and row.version_id is not None
    assert "1 picture left out" in row.notes[0]
    version = data_sets.load_version(records, admin, row.version_id)
    assert (version.name, version.n_cases, version.split) == ("Set", 20, {"kind": "60/20/20", "seed": 3})
    folder = imports.folder_of(records.settings, import_id)
    assert [path.name for path in folder.iterdir()] == ["left_out.json"]
    ((name, why),) = imports.left_out(records, admin, row)
    assert name == "set/benign/Muster text.png" and "no picture" in why
    assert imports.left_out(records, other, row) == []
    imports.close(records, other, import_id)
    assert imports.list_imports(records, admin) == [] and not folder.exists()
    words = [entry.action for entry in trail.entries(records, admin)]
    assert words == ["import done", "add data set", "start import"]


@sqlite_only
def test_a_cancel_in_the_middle_leaves_everything_as_it_was(
    records: Database, admin: Person, archive: Path, slow: threading.Event, telling: threading.Lock
) -> None:
    import_id = imports.enqueue(records, admin, REQUEST, {"archive": archive})
    thread = threading.Thread(target=imports_of(records).work_once)
    thread.start()
    until(lambda: state_of(records, import_id)[1] == "Looking at every picture")
    assert len(list(data_sets.files_dir(records.settings).glob("*/*"))) == 20
    with telling:
        imports.cancel(records, admin, import_id)
        with pytest.raises(Conflict, match="being cancelled already"):
            imports.cancel(records, admin, import_id)
    thread.join(60)
    assert not thread.is_alive()
    assert state_of(records, import_id)[:2] == (CANCELLED, "Cancelled; nothing was added.")
    assert_nothing_stored(records, import_id)


@sqlite_only
def test_a_cancel_takes_the_files_of_what_waits_and_leaves_them_to_the_worker_of_what_runs(
    records: Database, admin: Person, archive: Path
) -> None:
    import_id = imports.enqueue(records, admin, REQUEST, {"archive": archive})
    folder = imports.folder_of(records.settings, import_id)
    assert list(folder.iterdir())
    imports.cancel(records, admin, import_id)
    assert not folder.exists()
    running = imports.enqueue(records, admin, replace(REQUEST, name="Second"), {})
    imports.folder_of(records.settings, running).mkdir(parents=True, exist_ok=True)
    assert QUEUE.claim(records, worker="w", machine="m") is not None
    imports.cancel(records, admin, running)
    assert imports.folder_of(records.settings, running).exists()


def test_a_cancel_that_comes_when_the_data_set_is_there_does_not_deny_it(
    records: Database, admin: Person, archive: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(queue, "HEARTBEAT_SECONDS", 0.02)
    import_id = imports.enqueue(records, admin, REQUEST, {"archive": archive})
    listed = ingest.list_pairs

    def late(*given: object) -> None:
        imports.cancel(records, admin, import_id)
        time.sleep(0.5)
        listed(*given)  # type: ignore[arg-type]

    monkeypatch.setattr(ingest, "list_pairs", late)
    imports_of(records).work_once()
    assert state_of(records, import_id)[:2] == (DONE, "The data set was added.")


@sqlite_only
@pytest.mark.parametrize(
    ("error", "sentence"),
    [
        (InvalidInput("All pictures have the same label."), "All pictures have the same label."),
        (
            OSError(28, "No space left on device", "/state/Anna Muster.png"),
            "The disk is full. Make room in the state folder and start the import anew. Nothing was added.",
        ),
        (ValueError("Anna Muster.png"), "an error that is our fault. The log tells where. Nothing was added."),
    ],
)
def test_a_failure_in_the_middle_leaves_everything_as_it_was_and_says_a_sentence(
    records: Database,
    admin: Person,
    archive: Path,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
    error: Exception,
    sentence: str,
) -> None:
    def fail(*_: object) -> object:
        raise error

    monkeypatch.setattr(ingest, "look_at", fail)  # its pictures are kept by then
    import_id = imports.enqueue(records, admin, REQUEST, {"archive": archive})
    with caplog.at_level(logging.DEBUG):
        imports_of(records).work_once()
    state, message, _ = state_of(records, import_id)
    assert state == FAILED and sentence in message and "Muster" not in message + caplog.text
    assert ("in add_zip" in caplog.text and "in fail\n" in caplog.text) == isinstance(error, ValueError)
    assert_nothing_stored(records, import_id)
    assert trail.entries(records, admin)[0].action == "import failed"


KILLED = """
import os, signal, sys
from pathlib import Path
from core.records.database.db import open_database
from core.settings import Settings
from train.datasets import ingest
from train.queue.imports import ImportWork
from train.queue.worker import Worker

moment = sys.argv[2]
name = {"before": "look_at", "after": "list_pairs"}[moment]  # the row of the data set is written between these
setattr(ingest, name, lambda *given: os.kill(os.getpid(), signal.SIGKILL))
db = open_database(Settings(state_dir=Path(sys.argv[1])))
Worker(db, ImportWork(db), lease_seconds=0.1).work_once()
"""


@sqlite_only
@pytest.mark.parametrize(("moment", "n_before"), [("before", 0), ("after", 1)])
def test_an_import_whose_worker_is_killed_is_made_once_by_the_next(
    records: Database, admin: Person, archive: Path, moment: str, n_before: int
) -> None:
    import_id = imports.enqueue(records, admin, REQUEST, {"archive": archive})
    words = [sys.executable, "-c", KILLED, str(records.settings.state_dir), moment]
    done = subprocess.run(words, cwd=REPOSITORY, check=False, capture_output=True)
    assert done.returncode == -signal.SIGKILL, done.stderr
    assert state_of(records, import_id)[0] == RUNNING
    assert len(data_sets.list_versions(records, admin)) == n_before
    time.sleep(0.2)  # its lease
    assert imports_of(records).work_once()
    assert state_of(records, import_id) == (DONE, "The data set was added.", 2)
    (version,) = data_sets.list_versions(records, admin)
    assert version.n_cases == 20 and len(list(data_sets.files_dir(records.settings).glob("??/*.png"))) == 20


def test_two_workers_that_ask_at_once_do_not_get_the_same_import_and_a_dead_one_is_buried(
    records: Database, admin: Person
) -> None:
    import_id = imports.enqueue(records, admin, REQUEST, {})
    for _ in range(ATTEMPTS):
        assert QUEUE.claim(records, worker="w", machine="m", lease_seconds=-1) is not None
    assert QUEUE.claim(records, worker="w", machine="m") is None
    state, message, attempts = state_of(records, import_id)
    assert (state, attempts) == (DEAD, 3) and "died 3 times" in message
    second = imports.enqueue(records, admin, replace(REQUEST, name="Second"), {})
    claims: list[object] = []
    barrier = threading.Barrier(4)

    def race(number: int) -> None:
        barrier.wait()
        claims.append(QUEUE.claim(records, worker=f"w{number}", machine=f"m{number}"))

    threads = [threading.Thread(target=race, args=(number,)) for number in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    (held,) = [one for one in claims if one is not None]
    assert isinstance(held, Lease) and held.id == second


@sqlite_only
def test_a_worker_that_is_told_to_end_hands_the_import_back(
    records: Database, admin: Person, archive: Path, slow: threading.Event
) -> None:
    import_id = imports.enqueue(records, admin, REQUEST, {"archive": archive})
    told = threading.Event()
    thread = threading.Thread(target=imports_of(records, should_end=told.is_set).work)
    thread.start()
    until(lambda: state_of(records, import_id)[1] == "Looking at every picture")
    told.set()
    thread.join(60)
    assert not thread.is_alive()
    assert state_of(records, import_id) == (QUEUED, "Waits: its worker was stopped.", 0)
    slow.set()
    assert imports_of(records).work_once() and state_of(records, import_id)[0] == DONE


@sqlite_only
def test_a_worker_that_lost_its_import_adds_nothing(
    records: Database, admin: Person, archive: Path, slow: threading.Event
) -> None:
    import_id = imports.enqueue(records, admin, REQUEST, {"archive": archive})
    thread = threading.Thread(target=imports_of(records).work_once)
    thread.start()
    until(lambda: state_of(records, import_id)[1] == "Looking at every picture")
    with records.begin() as connection:
        connection.execute(update(tables.data_import).values(worker="another", attempts=2))
    thread.join(60)
    assert not thread.is_alive() and state_of(records, import_id)[0] == RUNNING  # the other worker's
    assert data_sets.list_versions(records, admin) == []
    assert (imports.folder_of(records.settings, import_id) / "archive").is_file()


@sqlite_only
def test_what_is_refused_at_the_door_leaves_the_upload_where_it_is(
    records: Database, admin: Person, archive: Path, tmp_path: Path
) -> None:
    second = tmp_path / "second"
    second.write_bytes(b"zip")
    import_id = imports.enqueue(records, admin, REQUEST, {"archive": archive})
    with pytest.raises(Conflict, match="is being imported already"):
        imports.enqueue(records, admin, REQUEST, {"archive": second})
    with pytest.raises(InvalidInput, match="Confirm first"):
        imports.enqueue(records, admin, ImportRequest(READS, "Own", Modality.ULTRASOUND), {})
    with pytest.raises(InvalidInput, match="names no folder for data"):
        imports.enqueue(records, admin, replace(REQUEST, name="F", folder="there"), {})
    with pytest.raises(FileNotFoundError):  # the second of two files is gone: the first one goes back
        files = {"combined": second, "validation": tmp_path / "gone"}
        imports.enqueue(records, admin, replace(REQUEST, name="Other"), files)
    assert second.read_bytes() == b"zip" and [row.id for row in imports.list_imports(records, admin)] == [import_id]
    imports.cancel(records, admin, import_id)
    assert state_of(records, import_id)[0] == CANCELLED and not imports_of(records).work_once()
    assert_nothing_stored(records, import_id)


@sqlite_only
def test_an_import_whose_files_or_whose_person_are_gone_says_so(
    records: Database, admin: Person, archive: Path
) -> None:
    first = imports.enqueue(records, admin, REQUEST, {"archive": archive})
    (imports.folder_of(records.settings, first) / "archive").unlink()
    imports_of(records).work_once()
    assert "Upload them again" in state_of(records, first)[1]
    for values, words in (
        ({"roles": ["researcher"]}, "needs the role administrator"),
        ({"disabled": True}, "disabled"),
    ):
        again = imports.enqueue(records, at_terminal(admin), REQUEST, {"archive": zipped(archive, class_folders())})
        with records.begin() as connection:
            connection.execute(update(tables.person).values(**values))
        imports_of(records).work_once()
        state, message, _ = state_of(records, again)
        assert state == FAILED and words in message
        assert_nothing_stored(records, again)


@sqlite_only
def test_workbooks_with_sheets_of_their_own_are_imported_from_the_folder_they_were_unpacked_into(
    records: Database, admin: Person, tmp_path: Path
) -> None:
    arriving = records.settings.state_dir / "data_sets" / "arriving" / "0"
    sources = hospital(tmp_path / "books", arriving, sheets=("Ja", "Nein"))
    columns = LinkColumns(KeyColumns(), KeyColumns(), "AbsolutePath", LinkSheets("Ja", "Nein", "Sheet1"))
    request = ImportRequest(WORKBOOKS, "Hospital", Modality.MAMMOGRAPHY, columns=columns)
    assert ImportRequest.from_json(request.to_json()) == request
    files = {"combined": sources.combined, "validation": sources.validation, "images": arriving}
    import_id = imports.enqueue(records, admin, request, files)
    imports_of(records).work_once()
    (row,) = imports.list_imports(records, admin)
    assert row.state == DONE and row.notes[0] == "11 of 13 cancer rows found their picture."
    assert not list(imports.folder_of(records.settings, import_id).glob("*"))
    for path in records.settings.state_dir.rglob("*"):
        assert not path.is_file() or b"DIT43912" not in path.read_bytes()


@sqlite_only
def test_own_reads_are_imported_in_the_name_of_who_confirmed_them(
    records: Database, admin: Person, monkeypatch: pytest.MonkeyPatch
) -> None:
    request = ImportRequest(READS, "Own", Modality.ULTRASOUND, labelling=own_reads.TWO, is_confirmed=True)
    import_id = imports.enqueue(records, admin, request, {})
    imports_of(records).work_once()
    assert state_of(records, import_id)[:2] == (
        FAILED, "No study of this kind has a final read and a truth yet.",
    )  # fmt: skip


@sqlite_only
def test_names_of_files_that_were_left_out_are_forgotten_after_a_day(
    records: Database, admin: Person, archive: Path
) -> None:
    import_id = imports.enqueue(records, admin, REQUEST, {"archive": archive})
    imports_of(records).work_once()
    folder = imports.folder_of(records.settings, import_id)
    assert not imports_of(records).work_once()  # idle, it tidies up
    assert (folder / "left_out.json").is_file()
    with records.begin() as connection:
        connection.execute(update(tables.data_import).values(ended_at=tables.now() - timedelta(hours=25)))
    assert not imports_of(records).work_once()
    assert not folder.exists() and imports.list_imports(records, admin) == []


ACTIONS: dict[str, Callable[[Database, Person, int], object]] = {
    "enqueue": lambda db, who, _: imports.enqueue(db, who, replace(REQUEST, name="Other"), {}),
    "cancel": imports.cancel,
    "list_imports": lambda db, who, _: imports.list_imports(db, who),
    "load_import": imports.load_import,
    "close": imports.close,
}


@sqlite_only
@pytest.mark.parametrize("action", ACTIONS)
def test_only_an_administrator_imports(records: Database, admin: Person, action: str) -> None:
    import_id = imports.enqueue(records, admin, REQUEST, {})
    other = add_person(records, "Rita", "researcher", "radiologist")
    with pytest.raises(NotAllowed):
        ACTIONS[action](records, other, import_id)
    with pytest.raises(NotAllowed):
        imports.left_out(records, other, imports.load_import(records, admin, import_id))
    assert [row.state for row in imports.list_imports(records, admin)] == [QUEUED]
    if action != "enqueue" and action != "list_imports":
        with pytest.raises(NotFound):
            ACTIONS[action](records, admin, 999)


def test_the_worker_process_takes_imports_too(tmp_path: Path) -> None:
    """As the application starts it: trainings in the main thread, imports beside them; SIGTERM ends both."""
    from core.records.database.db import open_database

    db = open_database(Settings(state_dir=tmp_path / "state"))
    ada = add_person(db, "Ada", "administrator")
    import_id = imports.enqueue(db, ada, REQUEST, {"archive": zipped(tmp_path / "a", class_folders())})
    process = subprocess.Popen(
        [sys.executable, "-m", "train", "worker"],
        cwd=REPOSITORY, env={**os.environ, "SECONDREAD_STATE_DIR": str(tmp_path / "state")},
    )  # fmt: skip
    try:
        until(lambda: state_of(db, import_id)[0] == DONE)
        process.terminate()
        assert process.wait(60) == 0
    finally:
        process.kill()
        db.close()
