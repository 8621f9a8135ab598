"""`python -m core capacity`: what one study costs on this machine, and what that means for many a year.

The study goes the whole way in a site of its own that is thrown away afterwards: files, pictures in the store, a first
read, every live model, a final read, pictures for the browser. Formulas and what they leave out: docs/capacity.md.
"""

from __future__ import annotations

import argparse
import os
import resource
import sys
import tempfile
import time
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from pathlib import Path

from sqlalchemy import event, text

from core.commands.bench_report import load_by_core, write_section
from core.errors import InvalidInput
from core.imaging.intake import read_study
from core.imaging.levels import levels_of
from core.models.cards import live_cards
from core.reading import second_read
from core.reading.new_studies import NewPicture, NewStudy, hinted, save
from core.records.database.db import Database, open_database
from core.records.people import accounts
from core.records.people.permissions import LocalTerminal
from core.records.reads.reads import Impression, record_final_read, record_first_read, reveal
from core.records.reads.studies import StoredStudy, load_study
from core.settings import REPOSITORY, Settings
from core.types import LATERALITIES, SIDE_NOT_STATED

PAGE = REPOSITORY / "docs" / "capacity.md"
N_STUDIES = 4
"""Read one after the other; the first loads the models and is not counted."""
HOURS_A_YEAR = 250 * 10
PEAK = 2.0
"""The busiest hour beside the mean of the working hours."""
USE = 0.6
"""Share of a processor that may be busy in the busiest hour, or whoever waits waits long."""
YEARS = 10
EXAMS_A_YEAR = (10_000, 100_000, 1_000_000, 10_000_000)
STEPS = ("decode and check", "store", "first read", "models", "final read", "pictures for the browser")


@dataclass
class Cost:
    """What one study took. seconds: of processor time (all cores, child processes included) by step of `STEPS`.

    sent_first, sent: bytes to the browser until the first picture of every view is there, and in all. stored: bytes in
    the store; of the database, bytes and transactions that write. memory: greatest resident bytes of this process.
    """

    name: str
    n_files: int
    file_bytes: int
    seconds: dict[str, float] = field(default_factory=lambda: dict.fromkeys(STEPS, 0.0))
    stored: int = 0
    database: float = 0.0
    transactions: float = 0.0
    sent_first: int = 0
    sent: int = 0
    memory: int = 0

    @property
    def total_seconds(self) -> float:
        return sum(self.seconds.values())


def add_options(parser: argparse.ArgumentParser) -> None:
    """Its options."""
    parser.add_argument("files", nargs="+", type=Path, help="the files, or the folder, of one study")
    parser.add_argument("--name", default="the study", help="what kind of study it is, for the table")
    parser.add_argument("--exams-a-year", type=int, action="append", help="instead of ten thousand to ten million")
    parser.add_argument("--write", action="store_true", help="put the figures into docs/capacity.md")


def run(args: argparse.Namespace) -> int:
    """Print what the study cost and what many of them need."""
    load_before = load_by_core()
    cost = measure(args.name, args.files)
    lines = [*cost_lines(cost), "", *growth_lines(cost, args.exams_a_year or EXAMS_A_YEAR)]
    sys.stdout.write("\n".join([*lines, ""]))
    if args.write:
        write_section(f"Measured: {args.name}", lines, load_before=load_before, path=PAGE)
    return 0


def measure(name: str, paths: Sequence[Path]) -> Cost:
    """Take the study through a site of its own, `N_STUDIES` times. Raises InvalidInput for files that are no study."""
    here = Settings.from_environment()
    files = [one for path in paths for one in (sorted(path.rglob("*")) if path.is_dir() else [path]) if one.is_file()]
    cost = Cost(name, len(files), sum(path.stat().st_size for path in files))
    with tempfile.TemporaryDirectory() as folder:
        site = replace(here, state_dir=Path(folder) / "state", database_url="", store_url="", serving="inside")
        db = open_database(site)
        try:
            _read_all(db, files, cost)
        finally:
            db.close()
    cost.memory = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * (1 if sys.platform == "darwin" else 1024)
    return cost


def _read_all(db: Database, files: Sequence[Path], cost: Cost) -> None:
    code = accounts.setup_code(db) or ""
    person = accounts.create_first_administrator(db, code=code, name="Capacity", password=os.urandom(16).hex())
    reader = LocalTerminal(person.id)
    commits: list[int] = []
    event.listen(db.engine, "commit", lambda _connection: commits.append(1))
    before = 0
    for number in range(N_STUDIES):
        one = Cost(cost.name, cost.n_files, cost.file_bytes)
        _read_once(db, reader, files, one, f"Study {number + 1}")
        if number == 0:  # the same pictures again add nothing to the store; loading the models is no cost of a study
            cost.stored = sum(
                path.stat().st_size for path in (db.settings.state_dir / "store").rglob("*") if path.is_file()
            )
            cost.sent_first, cost.sent = one.sent_first, one.sent
            before = _database_bytes(db)
            commits.clear()
            continue
        for step, seconds in one.seconds.items():
            cost.seconds[step] += seconds / (N_STUDIES - 1)
    cost.database = (_database_bytes(db) - before) / (N_STUDIES - 1)
    cost.transactions = len(commits) / (N_STUDIES - 1)


def _read_once(db: Database, reader: LocalTerminal, files: Sequence[Path], cost: Cost, name: str) -> None:
    with _timed(cost, "decode and check"):
        intakes = read_study(files, settings=db.settings, site_key=db.site_key)
    if refused := [one.refused for one in intakes if one.image is None]:
        raise InvalidInput(f"Not every file can be read: {refused[0]}")
    with _timed(cost, "store"):
        pictures = []
        for intake in intakes:
            side, view = hinted(intake.name)
            has_side = intake.image is not None and intake.image.laterality
            pictures.append(NewPicture(intake, None if has_side else side or SIDE_NOT_STATED, view))
        (study_id,) = save(db, reader, [NewStudy(name, tuple(pictures), is_confirmed=True)])
    study = load_study(db, reader, study_id)
    given = dict.fromkeys(_breasts(study), Impression("2", 5))
    with _timed(cost, "first read"):
        record_first_read(db, reader, study_id, given)
    with _timed(cost, "models"):
        work = second_read.unanswered(db.settings, study, [])
        if refusals := second_read.ask(db, study, work, lambda number, card: None):
            raise InvalidInput(next(iter(refusals.values())))
    with _timed(cost, "final read"):
        reveal(db, reader, study_id)
        record_final_read(db, reader, study_id, given)
    with _timed(cost, "pictures for the browser"):
        for stored in study.images:
            levels = levels_of(stored.image.pixels)
            cost.sent_first += len(levels[0].content)
            cost.sent += sum(len(level.content) for level in levels)


def _breasts(study: StoredStudy) -> list[str]:
    found = [stored.image.laterality for stored in study.images if stored.image.laterality in LATERALITIES]
    return list(dict.fromkeys(side for side in found if side)) or [SIDE_NOT_STATED]


@contextmanager
def _timed(cost: Cost, step: str) -> Iterator[None]:
    """Adds the processor time of the block. Decoders are child processes: they count once they have ended."""
    before = _processor_seconds()
    yield
    cost.seconds[step] += _processor_seconds() - before


def _processor_seconds() -> float:
    children = resource.getrusage(resource.RUSAGE_CHILDREN)
    return time.process_time() + children.ru_utime + children.ru_stime


def _database_bytes(db: Database) -> int:
    """Of the pages in use, of an SQLite file."""
    with db.read() as connection:
        pages, free, size = (
            int(connection.execute(text(f"PRAGMA {name}")).scalar_one())
            for name in ("page_count", "freelist_count", "page_size")
        )
    return (pages - free) * size


def cost_lines(cost: Cost) -> list[str]:
    """The table of one study."""
    n_models = len(live_cards(Settings.from_environment()))
    lines = [
        f"{cost.name}: {cost.n_files} files, {_bytes(cost.file_bytes)}; {n_models} live models at this site",
        *(f"  {step:<44}{cost.seconds[step]:9.2f} s of processor" for step in STEPS),
        f"  {'in all':<44}{cost.total_seconds:9.2f} s of processor",
        f"  {'in the store':<44}{_bytes(cost.stored):>14}",
        f"  {'in the database':<44}{_bytes(cost.database):>14}   {cost.transactions:.1f} transactions that write",
        f"  {'sent until every view has its first picture':<44}{_bytes(cost.sent_first):>14}",
        f"  {'sent in all':<44}{_bytes(cost.sent):>14}",
        f"  {'greatest memory of the process':<44}{_bytes(cost.memory):>14}",
    ]
    return lines


def growth_lines(cost: Cost, exams_a_year: Iterable[int]) -> list[str]:
    """What so many exams a year need, by the formulas of docs/capacity.md."""
    columns = ("exams a year", "a busy hour", "cores", f"store, {YEARS} years", "database", "to browsers", "writes")
    lines = ["".join(f"{column:>16}" for column in columns)]
    for n in exams_a_year:
        needs = needed(cost, n)
        row = (
            f"{n:,}", f"{needs.by_hour:,.0f}", f"{needs.cores:.2g}", _bytes(needs.store), _bytes(needs.database),
            f"{needs.megabits:.2g} Mbit/s", f"{needs.writes:.2g}/s",
        )  # fmt: skip
        lines.append("".join(f"{value:>16}" for value in row))
    return lines


@dataclass(frozen=True, slots=True)
class Needs:
    """by_hour: exams in the busiest hour. store, database: bytes after `YEARS`. megabits: a second, to browsers.
    writes: transactions a second. cores: processors like this machine's."""

    by_hour: float
    cores: float
    store: float
    database: float
    megabits: float
    writes: float


def needed(cost: Cost, exams_a_year: int) -> Needs:
    """Everything grows with the number of exams; nothing with the number of those that are stored already."""
    by_hour = exams_a_year / HOURS_A_YEAR * PEAK
    by_second = by_hour / 3600
    return Needs(
        by_hour,
        by_second * cost.total_seconds / USE,
        exams_a_year * YEARS * cost.stored,
        exams_a_year * YEARS * cost.database,
        by_second * cost.sent * 8 / 1e6,
        by_second * cost.transactions,
    )


def _bytes(value: float) -> str:
    for unit in ("B", "kB", "MB", "GB", "TB"):
        if value < 1000:
            return f"{value:.3g} {unit}"
        value /= 1000
    return f"{value:,.1f} PB"
