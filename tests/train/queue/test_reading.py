"""The worker's part in back-reads: what waits is read by a process of its own, which hands back what it has in hand."""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from record_site import add_person, picture
from release_site import SHIPPED
from test_worker import until

from core.periodic import repeated
from core.records.database.db import Database
from core.records.people.permissions import Person
from core.records.reads import back_reads
from core.records.reads.studies import create_study
from core.settings import REPOSITORY, Settings
from train.queue import reading

READS = f"""
import os, sys, time
from pathlib import Path
sys.path[:0] = [{str(REPOSITORY)!r}, {str(REPOSITORY / "tests")!r}]
from record_site import answer, explanation
from core.__main__ import main
from core.reading import back_read
here = Path(__file__)
def slow(card, image, **_):
    with here.with_name("read.txt").open("a") as file:
        file.write(f"{{os.getpid()}} {{image.sha256}}\\n")
    deadline = time.monotonic() + 3
    while here.with_name("wait").exists() and time.monotonic() < deadline:
        time.sleep(0.05)
    return answer(image, model_id=card.model_id, weights=card.weights_sha256), explanation()
back_read.read_image = slow
back_read.WAIT_SECONDS = 0.1
sys.exit(main(sys.argv[1:]))
"""


@pytest.fixture
def record_settings(tmp_path: Path) -> Settings:
    return Settings(state_dir=tmp_path / "state")


@pytest.fixture
def admin(records: Database) -> Person:
    return add_person(records, "Ada")


@pytest.fixture
def number(records: Database, admin: Person) -> int:
    for one in range(3):
        create_study(records, admin, display_name="x", images=[picture(one)])
    return back_reads.start(records, admin, [SHIPPED])


@pytest.fixture
def script(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, records: Database) -> Path:
    monkeypatch.setenv("SECONDREAD_STATE_DIR", str(records.settings.state_dir))
    path = tmp_path / "reads.py"
    path.write_text(READS)
    return path


@pytest.fixture
def ending(records: Database, script: Path) -> Iterator[threading.Event]:
    """The worker's loop runs until this is set."""
    event = threading.Event()
    with repeated("back-reads", lambda: reading.read_open(records, event.is_set, (str(script),)), lambda: 0.1):
        yield event
        event.set()


def asked(script: Path) -> list[str]:
    path = script.with_name("read.txt")
    return path.read_text().splitlines() if path.exists() else []


def test_what_waits_is_read_once_by_one_process(
    records: Database, admin: Person, number: int, script: Path, ending: threading.Event
) -> None:
    until(lambda: not back_reads.is_open(records, number))
    found = back_reads.load(records, admin, number)
    assert found.counts == {"done": 3} and found.per_minute and found.seconds_left is None
    assert len({line.split()[0] for line in asked(script)}) == 1 and len(asked(script)) == 3
    assert back_reads.first_open(records) is None


def test_a_worker_that_ends_takes_its_process_with_it_and_nothing_is_lost(
    records: Database, admin: Person, number: int, script: Path, ending: threading.Event
) -> None:
    script.with_name("wait").touch()
    until(lambda: asked(script))
    assert back_reads.load(records, admin, number).machines
    ending.set()
    until(lambda: not Path(f"/proc/{asked(script)[0].split()[0]}").exists())
    found = back_reads.load(records, admin, number)
    assert found.n_open >= 2 and sum(found.counts.values()) == 3 and "running" not in found.counts
    assert len(asked(script)) == 1


def test_a_stop_on_the_page_leaves_what_waits(
    records: Database, admin: Person, number: int, script: Path, ending: threading.Event
) -> None:
    script.with_name("wait").touch()
    until(lambda: asked(script))
    assert back_reads.stop(records, admin, number) == 2
    script.with_name("wait").unlink()
    until(lambda: not back_reads.is_open(records, number))
    time.sleep(0.5)
    assert back_reads.load(records, admin, number).counts == {"done": 1, "cancelled": 2} and len(asked(script)) == 1
