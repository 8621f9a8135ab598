"""Many studies arriving while people read: nothing lost, nothing twice, memory flat. Orthanc is real, readers threads.

    python tests/load/archive_load.py --studies 1000

An archive that is watched holds the studies of today; this process looks, fetches and stores them, as the server does.
Meanwhile each reader takes the next study from the worklist and reads it to the end, and the reports go back to the
archive. What is printed is JSON.
"""

from __future__ import annotations

import argparse
import json
import sys
import tempfile
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field
from datetime import date
from pathlib import Path

import numpy as np

sys.path[:0] = [str(Path(__file__).resolve().parents[1]), str(Path(__file__).resolve().parents[2])]

from made_images import MG, dicom, stored_mammogram  # noqa: E402
from orthanc_site import Orthanc, running_orthanc  # noqa: E402
from record_site import Somebody, add_person, answer, explanation  # noqa: E402
from sqlalchemy import func, select  # noqa: E402

from core.archive import sending, watching  # noqa: E402
from core.archive.archives import ArchiveAddress, name_archive  # noqa: E402
from core.archive.watching import WatchRules, watch_archive  # noqa: E402
from core.errors import Conflict  # noqa: E402
from core.records.database import tables  # noqa: E402
from core.records.database.db import Database, open_database  # noqa: E402
from core.records.reads import predictions, reads, studies  # noqa: E402
from core.records.reads.reads import Impression  # noqa: E402
from core.records.reads.worklist import next_study, worklist  # noqa: E402
from core.settings import Settings  # noqa: E402

ROOT = "1.2.826.0.1.3680043.8.498.77"


@dataclass
class Figures:
    """What one run showed. sizes_mib: resident memory at the end of each fifth of the arrivals. worklist_seconds: how
    long a reader waited for the worklist: median and 95th percentile."""

    studies: int = 0
    arrived: int = 0
    images: int = 0
    failed: int = 0
    exams_twice: int = 0
    reads: int = 0
    results_delivered: int = 0
    reports_in_archive: int = 0
    seconds: float = 0.0
    sizes_mib: list[float] = field(default_factory=list)
    worklist_seconds: list[float] = field(default_factory=list)
    refusals: list[str] = field(default_factory=list)


def fill(orthanc: Orthanc, n: int) -> None:
    """`n` studies of today with one view each, of as many patients."""
    today = date.today().strftime("%Y%m%d")
    for number in range(1, n + 1):
        uid = f"{ROOT}.{number}"
        stored = stored_mammogram(seed=number)
        orthanc.put(
            dicom(
                stored, PatientID=f"LOAD-{number}", PatientName=f"Load^{number}", StudyInstanceUID=uid,
                SeriesInstanceUID=f"{uid}.1", SOPInstanceUID=f"{uid}.1.1", StudyDate=today, SOPClassUID=MG,
                AccessionNumber=str(number), StudyID="1", ReferringPhysicianName="",
            )
        )  # fmt: skip


def run(orthanc: Orthanc, state_dir: Path, n: int, *, readers: int = 2, patience: float = 3600.0) -> Figures:
    """Fill the archive, let everything arrive while people read, and count. patience: seconds at most."""
    fill(orthanc, n)
    settings = Settings(state_dir=state_dir, archive_credentials=f"pacs = {orthanc.credentials}")
    db = open_database(settings)
    figures, waits = Figures(studies=n), []
    try:
        people = [add_person(db, f"Reader {number}") for number in range(readers)]
        archive = name_archive(db, people[0], ArchiveAddress("pacs", orthanc.web, sends=("sr",)))
        watch_archive(db, people[0], archive, WatchRules(days=0))
        began, ended = time.monotonic(), threading.Event()
        with _quick_looks(), sending.working(db):
            threads = [
                threading.Thread(target=_read, args=(db, person, ended, waits, figures), daemon=True)
                for person in people
            ]
            for thread in threads:
                thread.start()
            _watch(db, figures, n, began + patience)
            ended.set()
            for thread in threads:
                thread.join(120)
            while _open_results(db) and time.monotonic() < began + patience:
                time.sleep(0.2)
        figures.seconds = round(time.monotonic() - began, 1)
        _count(db, orthanc, figures, waits)
    finally:
        db.close()
    return figures


def _watch(db: Database, figures: Figures, n: int, until: float) -> None:
    """Until everything arrived or time is over; memory at each fifth of it."""
    arrival = tables.arrival.c
    while time.monotonic() < until:
        with db.read() as connection:
            over = connection.execute(
                select(func.count()).where(arrival.state.in_(("done", "failed", "dead")))
            ).scalar_one()
        if over * 5 >= n * (len(figures.sizes_mib) + 1):
            figures.sizes_mib.append(_size_mib())
        if over >= n:
            return
        time.sleep(1.0 if n > 50 else 0.1)


def _read(db: Database, person: Somebody, ended: threading.Event, waits: list[float], figures: Figures) -> None:
    """One reader: the next of the worklist, to its end, again and again."""
    while not ended.is_set():
        began = time.monotonic()
        following = next_study(worklist(db, person))
        waits.append(time.monotonic() - began)
        if following is None:
            ended.wait(0.2)
            continue
        try:
            _read_one(db, person, following.study.id)
            figures.reads += 1
        except Conflict as refused:  # the other reader was faster
            figures.refusals.append(str(refused))


def _read_one(db: Database, person: Somebody, study_id: str) -> None:
    study = studies.load_study(db, person, study_id)
    given = {breast: Impression("2", 5) for breast in study.breasts}
    reads.record_first_read(db, person, study_id, given)
    for stored in study.images:
        predictions.record_predictions(db, study_id, stored.id, answer(stored.image), explanation())
    reads.reveal(db, person, study_id)
    reads.record_final_read(db, person, study_id, given)


def _open_results(db: Database) -> bool:
    with db.read() as connection:
        waiting = select(tables.outbox.c.id).where(tables.outbox.c.state.in_(("queued", "running")))
        return connection.execute(waiting.limit(1)).first() is not None


def _count(db: Database, orthanc: Orthanc, figures: Figures, waits: list[float]) -> None:
    arrival, source, outbox = tables.arrival.c, tables.source_identity.c, tables.outbox.c
    with db.read() as connection:

        def number(query: object) -> int:
            return int(connection.execute(query).scalar_one())  # type: ignore[call-overload]

        figures.arrived = number(select(func.count()).select_from(tables.study))
        figures.images = number(select(func.count()).select_from(tables.image))
        figures.failed = number(select(func.count()).where(arrival.state != "done"))
        figures.exams_twice = number(select(func.count(source.study_id) - func.count(source.exam_hash.distinct())))
        figures.results_delivered = number(select(func.count()).where(outbox.state == "done"))
    figures.reports_in_archive = len(orthanc.objects("SR"))
    figures.worklist_seconds = [round(float(np.quantile(waits, share)), 3) for share in (0.5, 0.95)] if waits else []


@contextmanager
def _quick_looks() -> Iterator[None]:
    """The watch looks every second and not every minute: the archive is full from the start."""
    before = watching.WATCH_SECONDS, sending.LOOK_SECONDS
    watching.WATCH_SECONDS, sending.LOOK_SECONDS = 1.0, 0.2
    try:
        yield
    finally:
        watching.WATCH_SECONDS, sending.LOOK_SECONDS = before


def _size_mib() -> float:
    """Resident memory of this process."""
    status = Path("/proc/self/status").read_text(encoding="ascii")
    return round(int(status.partition("VmRSS:")[2].split()[0]) / 1024, 1)


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--studies", type=int, default=1000)
    parser.add_argument("--readers", type=int, default=2)
    parser.add_argument("--patience", type=float, default=6 * 3600.0, help="seconds at most")
    args = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder, running_orthanc(Path(folder)) as orthanc:
        figures = run(orthanc, Path(folder) / "state", args.studies, readers=args.readers, patience=args.patience)
    sys.stdout.write(json.dumps(asdict(figures), indent=1) + "\n")
    is_whole = figures.arrived == args.studies and not figures.failed and not figures.exams_twice
    return 0 if is_whole and figures.results_delivered == figures.reads == figures.reports_in_archive else 1


if __name__ == "__main__":
    sys.exit(main())
