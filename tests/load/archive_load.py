"""Many studies arriving while people read: nothing lost, nothing twice, memory flat. Orthanc and the server are real.

    python tests/load/archive_load.py --studies 1000

An archive that is watched holds the studies of today, of up to four views; the server looks, fetches and stores them,
as at a site. Meanwhile each reader, as a browser speaks, takes the next study from the worklist and reads it to the
end, in one tab for the whole run, and the reports go back to the archive. Only the networks are replaced. What is
printed is JSON; what is counted so far goes to the terminal at each tenth of the way.
"""

from __future__ import annotations

import argparse
import json
import sys
import tempfile
import threading
import time
from contextlib import ExitStack
from dataclasses import asdict, dataclass, field
from datetime import UTC, date, datetime
from pathlib import Path

import numpy as np

HERE = Path(__file__).resolve().parent
sys.path[:0] = [str(HERE), str(HERE.parent), str(HERE.parent.parent)]

from load_site import LoadSite, Reader, serve_quick_looks, serve_slow_models  # noqa: E402
from made_images import MG, dicom, stored_mammogram  # noqa: E402
from orthanc_site import Orthanc, running_orthanc  # noqa: E402
from page_site import release  # noqa: E402
from record_site import add_person  # noqa: E402
from sqlalchemy import func, select  # noqa: E402
from warm_server import WarmServer, free_port  # noqa: E402

from core.archive.archives import ArchiveAddress, name_archive  # noqa: E402
from core.archive.watching import WatchRules, watch_archive  # noqa: E402
from core.imaging.intake import keyed_hash  # noqa: E402
from core.records.database import tables  # noqa: E402
from core.records.database.db import Database  # noqa: E402

ROOT = "1.2.826.0.1.3680043.8.498.77"
VIEWS = (("L", "CC"), ("R", "CC"), ("L", "MLO"), ("R", "MLO"))
FULL = (3328, 2560)
"""Rows and columns of a detector's own picture, with `--full`."""
PICTURES_MIB = 16
"""Decoded pictures that the server may remember: few, so that a run reaches that bound early and shows what else grows.
With pictures of a detector's own size it is the server's own bound."""
MANY = 50
"""From so many studies on the server looks into its archive as rarely as at a site."""


@dataclass
class Figures:
    """What one run showed. lost: studies of the archive that are not here; twice: exams that are here more than once.

    sizes_mib: resident memory of the server by how many studies had come, from 0. worklist_seconds: how long a reader
    waited for the worklist: median and 95th percentile. refusals: what readers met that is no error: the other one was
    faster.
    """

    began: str = ""
    studies: int = 0
    views: int = 0
    arrived: int = 0
    images: int = 0
    failed: int = 0
    lost: int = 0
    twice: int = 0
    reads: int = 0
    results_delivered: int = 0
    reports_in_archive: int = 0
    seconds: float = 0.0
    sizes_mib: dict[int, float] = field(default_factory=dict)
    worklist_seconds: list[float] = field(default_factory=list)
    refusals: int = 0
    wrong: list[str] = field(default_factory=list)


def fill(orthanc: Orthanc, n: int, n_views: int, *, is_full: bool = False) -> None:
    """`n` studies of today with the first of `VIEWS`, of as many patients, in 12 bits. is_full: in 16, as large as
    `FULL`."""
    today, bits = date.today().strftime("%Y%m%d"), 16 if is_full else 12
    for number in range(1, n + 1):
        uid, left = f"{ROOT}.{number}", stored_mammogram(seed=number, bits=bits)
        if is_full:
            times = [-(-wanted // given) for wanted, given in zip(FULL, left.shape, strict=True)]
            left = left.repeat(times[0], axis=0).repeat(times[1], axis=1)[: FULL[0], : FULL[1]]
        for place, (side, view) in enumerate(VIEWS[:n_views], 1):
            stored = left if side == "L" else left[:, ::-1]
            orthanc.put(
                dicom(
                    np.roll(stored, 4 * place, axis=0), bits=bits,
                    PatientID=f"LOAD-{number}", PatientName=f"Load^{number}",
                    StudyInstanceUID=uid, SeriesInstanceUID=f"{uid}.1", SOPInstanceUID=f"{uid}.1.{place}",
                    StudyDate=today, SOPClassUID=MG, AccessionNumber=str(number), StudyID="1",
                    ReferringPhysicianName="", ImageLaterality=side, ViewPosition=view,
                )
            )  # fmt: skip


def run(
    orthanc: Orthanc,
    folder: Path,
    n: int,
    *,
    n_views: int = 4,
    is_full: bool = False,
    readers: int = 2,
    think_seconds: float = 0.0,
    patience: float = 3600.0,
) -> Figures:
    """Fill the archive, let everything arrive while people read, and count. patience: seconds at most.

    think_seconds: between two clicks of one reader.
    """
    fill(orthanc, n, n_views, is_full=is_full)
    (folder / "weights").mkdir()
    release(folder / "weights", "mammography-cnn")
    credentials = f"pacs = {orthanc.credentials}"
    site = LoadSite(folder, n_people=readers, weights=folder / "weights", archive_credentials=credentials)
    person = add_person(site.db, "Administrator")
    archive = name_archive(site.db, person, ArchiveAddress("pacs", orthanc.web, sends=("sr",)))
    settings: dict[str, object] = {"weights_dir": folder / "weights", "archive_credentials": credentials}
    if not is_full:
        settings["pictures_mib"] = PICTURES_MIB
    target = serve_slow_models if n > MANY else serve_quick_looks
    server = WarmServer(folder / "state", free_port(), folder / "terminal", target=target, **settings)
    figures, waits, ended = Figures(datetime.now(UTC).isoformat(timespec="seconds"), n, n_views), [], threading.Event()
    try:
        server.wait_until_ready()
        began = time.monotonic()
        work = (server.url, ended, waits, figures, think_seconds)
        threads = [threading.Thread(target=_read, args=(token, *work), daemon=True) for token in site.tokens]
        for thread in threads:
            thread.start()
        watch_archive(site.db, person, archive, WatchRules(days=0))
        _follow(site.db, figures, server.process.pid or 0, began + patience)
        ended.set()
        for thread in threads:
            thread.join(120)
        while _open_results(site.db) and time.monotonic() < began + patience:
            time.sleep(0.2)
        figures.seconds = round(time.monotonic() - began, 1)
        _count(site.db, orthanc, figures, waits)
    finally:
        server.process.kill()
        server.process.join()
        site.db.close()
    return figures


def _follow(db: Database, figures: Figures, pid: int, until: float) -> None:
    """Until everything arrived or time is over; memory at the start and at each tenth of it."""
    arrival, mark = tables.arrival.c, 0
    while time.monotonic() < until:
        with db.read() as connection:
            over = connection.execute(
                select(func.count()).where(arrival.state.in_(("done", "failed", "dead")))
            ).scalar_one()
        if over >= mark:
            mark = over + max(1, figures.studies // 10)
            figures.sizes_mib[over] = _size_mib(pid)
            sys.stderr.write(f"{datetime.now(UTC):%H:%M:%S} {over} here, {figures.reads} reads, {_size_mib(pid)} MiB\n")
        if over >= figures.studies:
            return
        time.sleep(1.0 if figures.studies > MANY else 0.1)


def _read(
    token: str, url: str, ended: threading.Event, waits: list[float], figures: Figures, think_seconds: float
) -> None:
    """One reader in one tab: the next of the worklist, to its end, again and again. What went wrong is noted, and the
    reader goes on in a new tab."""
    while not ended.is_set():
        try:
            with Reader(url, token) as reader:
                while not ended.is_set():
                    waits.append(reader.open("worklist"))
                    ended.wait(think_seconds if reader.next_study() else 0.5 + think_seconds)
                    if reader.page.shown == "read":
                        _read_one(reader, figures, think_seconds)
        except Exception as error:  # a client's outermost loop: the other goes on
            figures.wrong.append(f"{type(error).__name__}: {error}"[:3000])
            ended.wait(1)


def _read_one(reader: Reader, figures: Figures, think_seconds: float) -> None:
    if not reader.can_begin():
        figures.refusals += 1
        return
    reader.give_first_impression("exam" if figures.views > 1 else "view")
    time.sleep(think_seconds)
    reader.second_read()
    time.sleep(think_seconds)
    reader.final_read()
    figures.reads += 1


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
        here = list(connection.execute(select(source.exam_hash)).scalars())
        figures.results_delivered = number(select(func.count()).where(outbox.state == "done"))
    figures.twice = len(here) - len(set(here))
    there = {keyed_hash(f"{ROOT}.{one}", db.site_key) for one in range(1, figures.studies + 1)}
    figures.lost = len(there - set(here))
    figures.reports_in_archive = len(orthanc.objects("SR"))
    figures.worklist_seconds = [round(float(np.quantile(waits, share)), 3) for share in (0.5, 0.95)] if waits else []


def _size_mib(pid: int) -> float:
    """Resident memory of a process, without its children."""
    status = Path(f"/proc/{pid}/status").read_text(encoding="ascii")
    return round(int(status.partition("VmRSS:")[2].split()[0]) / 1024, 1)


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--studies", type=int, default=1000)
    parser.add_argument("--views", type=int, default=4, choices=range(1, 5), help="images of each study")
    parser.add_argument("--full", action="store_true", help="16 bits, as large as a detector's own (3328 x 2560)")
    parser.add_argument("--readers", type=int, default=2)
    parser.add_argument("--think-seconds", type=float, default=2.0, help="between two clicks of one reader")
    parser.add_argument("--patience", type=float, default=6 * 3600.0, help="seconds at most")
    args = parser.parse_args()
    with ExitStack() as stack:
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory()))
        (folder / "orthanc").mkdir()
        orthanc = stack.enter_context(running_orthanc(folder / "orthanc"))
        figures = run(
            orthanc, folder, args.studies,
            n_views=args.views, is_full=args.full,
            readers=args.readers, think_seconds=args.think_seconds, patience=args.patience,
        )  # fmt: skip
    sys.stdout.write(json.dumps(asdict(figures), indent=1) + "\n")
    is_whole = figures.arrived == args.studies and not (figures.failed or figures.lost or figures.twice)
    return 0 if is_whole and figures.results_delivered == figures.reads == figures.reports_in_archive else 1


if __name__ == "__main__":
    sys.exit(main())
