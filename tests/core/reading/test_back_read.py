"""Back-reads: each study at most once by any number of processes, on after a kill, stopped and gone on with."""

from __future__ import annotations

import csv
import io
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from datetime import date
from functools import partial
from pathlib import Path
from typing import Any

import pytest
from record_site import Somebody, add_person, answer, explanation, picture, stranger
from release_site import MODEL, SHIPPED
from sqlalchemy import select, update

from core.errors import Conflict, DatabaseAway, InvalidInput, NotAllowed, NotFound, NotSaved, StateMoved
from core.reading import back_read
from core.records.audit import trail
from core.records.database import tables  # fmt: skip
from core.records.database.db import Database
from core.records.people.permissions import Actor
from core.records.reads import back_reads
from core.records.reads.back_reads import COLUMNS
from core.records.reads.studies import create_study, delete_study
from core.settings import REPOSITORY, Settings
from core.types import Image

SLOW = """
import os, sys, time
from pathlib import Path
sys.path[:0] = [%r, %r]
from record_site import answer, explanation
from core.records.database.db import open_database
from core.reading import back_read
from core.settings import Settings
def slow(card, image, **_):
    with Path(sys.argv[1]).open("a") as file:
        file.write(f"{os.getpid()} {image.sha256}\\n")
    time.sleep(float(sys.argv[3]))
    return answer(image, model_id=card.model_id, weights=card.weights_sha256), explanation()
back_read.read_image = slow
back_read.WAIT_SECONDS = 0.1
db = open_database(Settings.from_environment())
back_read.work_until_done(db, int(sys.argv[2]))
"""


@pytest.fixture
def record_settings(tmp_path: Path) -> Settings:
    """SQLite: what PostgreSQL does with the same rows is tested with three processes."""
    return Settings(state_dir=tmp_path / "state")


@pytest.fixture
def ada(records: Database) -> Somebody:
    return add_person(records, "Ada")


@pytest.fixture
def asked(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """Sums of the images that a model was asked about; the model is none."""
    found: list[str] = []

    def read(card: Any, image: Image, **_: Any) -> Any:
        found.append(image.sha256)
        return answer(image, model_id=card.model_id, weights=card.weights_sha256, malignant=0.25), explanation()

    monkeypatch.setattr(back_read, "read_image", read)
    monkeypatch.setattr(back_read, "WAIT_SECONDS", 0.05)
    return found


def add_studies(db: Database, actor: Actor, n: int, **fields: Any) -> list[str]:
    return [
        create_study(db, actor, display_name="x", images=[picture(number, **fields)])  # type: ignore[arg-type]
        for number in range(n)
    ]


def test_each_study_is_read_once_and_what_was_said_can_be_had(
    records: Database, ada: Somebody, asked: list[str]
) -> None:
    ids = add_studies(records, ada, 3)
    number = back_reads.start(records, ada, [SHIPPED])
    assert back_read.work_until_done(records, number) == 3
    assert back_read.work_until_done(records, number) == 0 and len(asked) == 3
    rows = list(csv.DictReader(io.StringIO(back_reads.scores_csv(records, ada, number))))
    assert [row["study"] for row in rows] == ids and tuple(rows[0]) == COLUMNS
    assert {(row["model_id"], row["weights_sha256"], row["malignant"]) for row in rows} == {
        (MODEL, SHIPPED.weights_sha256, "0.25")
    }
    with records.read() as connection:  # nothing in the studies changes
        assert not connection.execute(select(tables.prediction.c.id)).all()
    done = [entry.action for entry in trail.entries(records, ada, subject=f"back-read {number}")]
    assert sorted(done) == ["export back-read", "start back-read"]


def test_only_studies_of_the_days_that_still_have_pictures(records: Database, ada: Somebody) -> None:
    for number, day in enumerate((date(2020, 1, 1), date(2020, 1, 2), date(2020, 1, 3), None)):
        create_study(records, ada, display_name="x", images=[picture(number, taken_on=day)])
    first = back_reads.start(records, ada, [SHIPPED], since=date(2020, 1, 2), until=date(2020, 1, 2))
    assert back_reads.load(records, ada, first).counts == {"queued": 1}
    every = back_reads.start(records, ada, [SHIPPED])
    assert back_reads.load(records, ada, every).n_open == 4
    with pytest.raises(InvalidInput, match="No study"):
        back_reads.start(records, ada, [SHIPPED], since=date(2021, 1, 1))
    with pytest.raises(InvalidInput, match="No model"):
        back_reads.start(records, ada, [])


def test_stopped_it_reads_nothing_more_and_goes_on_with_what_is_left(
    records: Database, ada: Somebody, asked: list[str]
) -> None:
    add_studies(records, ada, 3)
    number = back_reads.start(records, ada, [SHIPPED])
    assert back_read.read_next(records, worker="one")
    assert back_reads.stop(records, ada, number) == 2
    assert back_read.work_until_done(records, number) == 0 and len(asked) == 1
    with pytest.raises(Conflict):
        back_reads.stop(records, ada, number)
    assert back_reads.go_on(records, ada, number) == 2
    assert back_read.work_until_done(records, number) == 2 and len(set(asked)) == 3
    with pytest.raises(Conflict):
        back_reads.go_on(records, ada, number)


def test_what_was_in_hand_when_it_was_stopped_does_not_go_back_into_the_queue(
    records: Database, ada: Somebody, asked: list[str]
) -> None:
    add_studies(records, ada, 3)
    number = back_reads.start(records, ada, [SHIPPED])
    lease = back_reads.STUDIES.claim(records, worker="one", machine="one", lease_seconds=30)
    assert lease is not None and back_reads.stop(records, ada, number) == 2
    back_reads.STUDIES.hand_back(records, lease)
    assert back_reads.load(records, ada, number).counts == {"cancelled": 3}
    assert back_reads.go_on(records, ada, number) == 3

    lease = back_reads.STUDIES.claim(records, worker="one", machine="one", lease_seconds=30)
    assert lease is not None and back_reads.stop(records, ada, number) == 2
    assert back_reads.go_on(records, ada, number) == 2, "and the one in hand is wanted again"
    back_reads.STUDIES.hand_back(records, lease)
    assert back_read.work_until_done(records, number) == 3 and len(asked) == 3


def test_cases_of_reader_studies_are_not_read_back(records: Database, ada: Somebody) -> None:
    hidden, shown = add_studies(records, ada, 2)
    with records.begin() as connection:
        of = tables.study.c.id == hidden
        connection.execute(update(tables.study).where(of).values(is_reader_study_case=True))
    back_reads.start(records, ada, [SHIPPED])
    with records.read() as connection:
        assert connection.execute(select(tables.back_read_study.c.study_id)).scalars().all() == [shown]


@pytest.mark.parametrize("error", [DatabaseAway("It does not answer."), NotSaved("It is busy.")])
def test_a_database_that_is_away_or_busy_for_a_moment_is_waited_for_and_fails_no_study(
    records: Database, ada: Somebody, asked: list[str], monkeypatch: pytest.MonkeyPatch, error: Exception
) -> None:
    add_studies(records, ada, 2)
    number = back_reads.start(records, ada, [SHIPPED])
    right, times = back_reads.work_of, iter(range(9))

    def away(db: Database, lease: Any) -> Any:
        if next(times) == 0:
            raise error
        return right(db, lease)

    monkeypatch.setattr(back_reads, "work_of", away)
    monkeypatch.setattr(back_read, "read_next", partial(back_read.read_next, lease_seconds=0.2))
    assert back_read.work_until_done(records, number) == 2 and len(asked) == 2
    assert back_reads.load(records, ada, number).counts == {"done": 2}


def test_another_state_folder_in_its_place_ends_the_work(records: Database, ada: Somebody, asked: list[str]) -> None:
    add_studies(records, ada, 1)
    number = back_reads.start(records, ada, [SHIPPED])
    (records.settings.state_dir / "site.key").write_bytes(b"k" * 32)
    with pytest.raises(StateMoved, match="restart SecondRead"):
        back_read.work_until_done(records, number)
    assert asked == []


def test_what_cannot_be_read_is_said_and_keeps_nothing_else_from_being_read(
    records: Database, ada: Somebody, asked: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    gone, bad, good = add_studies(records, ada, 3)
    number = back_reads.start(records, ada, [SHIPPED])
    delete_study(records, ada, gone, reason="wrong upload")  # goes from the back-read with everything else
    fine = back_read.read_image

    def fails(card: Any, image: Image, **more: Any) -> Any:
        if image.sha256 == picture(1).sha256:
            raise ZeroDivisionError
        return fine(card, image, **more)

    monkeypatch.setattr(back_read, "read_image", fails)
    assert back_read.work_until_done(records, number) == 2
    assert back_reads.load(records, ada, number).counts == {"done": 1, "failed": 1}
    ((study, sentence),) = back_reads.failures(records, ada, number)
    assert study == bad and "our fault" in sentence
    monkeypatch.setattr(back_read, "read_image", fine)
    back_reads.go_on(records, ada, number)
    back_read.work_until_done(records, number)
    assert back_reads.load(records, ada, number).counts == {"done": 2} and good


def test_weights_that_are_not_on_the_machine_are_said(records: Database, ada: Somebody, asked: list[str]) -> None:
    add_studies(records, ada, 1)
    other = SHIPPED.model_copy(update={"weights": SHIPPED.weights.model_copy(update={"sha256": "a" * 64})})
    number = back_reads.start(records, ada, [other])
    back_read.work_until_done(records, number)
    assert "are not on" in back_reads.failures(records, ada, number)[0][1] and not asked


@pytest.mark.parametrize(
    "act",
    [
        lambda db, who: back_reads.start(db, who, [SHIPPED]),
        lambda db, who: back_reads.load(db, who, 1),
        lambda db, who: back_reads.stop(db, who, 1),
        lambda db, who: back_reads.go_on(db, who, 1),
        lambda db, who: back_reads.scores_csv(db, who, 1),
        lambda db, who: back_reads.failures(db, who, 1),
    ],
)
def test_only_administrators_may(records: Database, act: Callable[[Database, Actor], object]) -> None:
    with pytest.raises(NotAllowed):
        act(records, stranger(records, "radiologist", "researcher"))


def test_a_number_that_is_none_is_refused(records: Database, ada: Somebody) -> None:
    with pytest.raises(NotFound):
        back_read.work_until_done(records, 7)
    with pytest.raises(NotFound):
        back_reads.load(records, ada, 7)


def test_a_process_that_is_killed_loses_nothing_and_nothing_is_read_twice(
    records: Database, ada: Somebody, tmp_path: Path
) -> None:
    add_studies(records, ada, 4)
    number = back_reads.start(records, ada, [SHIPPED])
    script, read = tmp_path / "reads.py", tmp_path / "read.txt"
    script.write_text(SLOW % (str(REPOSITORY), str(REPOSITORY / "tests")))
    environment = {**os.environ, "SECONDREAD_STATE_DIR": str(records.settings.state_dir)}

    def started(seconds: float) -> subprocess.Popen[bytes]:
        command = [sys.executable, str(script), str(read), str(number), str(seconds)]
        return subprocess.Popen(command, env=environment, cwd=REPOSITORY)

    first = started(300)
    deadline = time.monotonic() + 240
    while not read.exists() or not read.read_text():
        assert time.monotonic() < deadline
        time.sleep(0.05)
    os.kill(first.pid, signal.SIGKILL)
    first.wait(30)
    in_hand = read.read_text().split()[1]
    _end_leases(records)
    second = started(0)
    assert second.wait(240) == 0
    assert back_reads.load(records, ada, number).counts == {"done": 4}
    sums = [line.split()[1] for line in read.read_text().splitlines()]
    assert sorted(sums) == sorted([in_hand, *(picture(one).sha256 for one in range(4))])  # the one in hand again


def _end_leases(db: Database) -> None:
    """Time passes: what the killed process had in hand is free."""
    with db.begin() as connection:
        long_ago = tables.now().replace(year=2020)
        connection.execute(
            update(tables.back_read_study)
            .where(tables.back_read_study.c.state == "running")
            .values(lease_until=long_ago)
        )


def test_the_command_starts_reads_shows_and_writes_scores(
    records: Database, ada: Somebody, asked: list[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:  # fmt: skip
    from core.__main__ import main

    monkeypatch.setenv("SECONDREAD_STATE_DIR", str(records.settings.state_dir))
    add_studies(records, ada, 2)
    assert main(["back-read", "start", "--by", "Ada", "--model", MODEL]) == 0
    number = capsys.readouterr().out.strip()
    assert main(["back-read", "work", number]) == 0 and "took 2 studies" in capsys.readouterr().out
    assert main(["back-read", "show", number, "--by", "Ada"]) == 0 and "2 done" in capsys.readouterr().out
    assert main(["back-read", "scores", number, "--by", "Ada", "--out", str(tmp_path / "scores.csv")]) == 0
    assert len((tmp_path / "scores.csv").read_text().splitlines()) == 3
    assert main(["back-read", "start", "--by", "Nobody"]) == 1
    assert main(["back-read", "start", "--by", "Ada", "--model", "none"]) == 1
    assert main(["back-read", "work", number, "--cluster"]) == 1
    assert "SECONDREAD_RAY_ADDRESS" in capsys.readouterr().err
