"""How many images a second a back-read reads on 1, 2, … nodes of a Ray cluster on this machine, and with one that is
killed in the middle; --write puts the figures into docs/cluster.md.

python tests/load/back_read_nodes.py --images 2000 --nodes 3 --write
"""

from __future__ import annotations

import argparse
import os
import signal
import sys
import tempfile
import threading
import time
from collections.abc import Sequence
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from pathlib import Path

import numpy as np

sys.path[:0] = [str(Path(__file__).parents[1]), str(Path(__file__).parents[2])]

from ray_cluster import RayCluster, RayNode, ray_cluster  # noqa: E402
from record_site import add_person, picture  # noqa: E402
from release_site import SHIPPED  # noqa: E402
from sqlalchemy import func, select  # noqa: E402

from core.commands.bench_report import load_by_core  # noqa: E402
from core.files import write_whole  # noqa: E402
from core.records.database import tables  # noqa: E402
from core.records.database.db import Database, open_database  # noqa: E402
from core.records.people.permissions import Person  # noqa: E402
from core.records.queue import DONE, RUNNING  # noqa: E402
from core.records.reads import back_reads  # noqa: E402
from core.records.reads.studies import create_study  # noqa: E402
from core.serving import cluster as serving_cluster  # noqa: E402
from core.serving.loops import on_every_node  # noqa: E402
from core.settings import REPOSITORY, Settings  # noqa: E402

SESSION_MINUTES = 600
"""Longer than any run: who asks how far it is does nothing else meanwhile."""
PAGE = REPOSITORY / "docs" / "cluster.md"
BEGIN, END = "<!-- nodes: begin -->", "<!-- nodes: end -->"


@dataclass(frozen=True)
class Row:
    """One back-read. what: of its nodes. load: processes a core in the minute before it began. again: studies that were
    begun more than once. n_wrong: studies without exactly one answer.
    """

    what: str
    load: float
    seconds: float
    images: int
    again: int
    n_wrong: int

    @property
    def rate(self) -> float:
        return self.images / self.seconds


def timed(db: Database, person: Person, what: str, n_images: int, lost: RayNode | None = None) -> Row:
    """From the first answer to the last of a back-read of all studies: what processes need to begin is not counted.

    lost: a node that is killed when half of them are read, with one of them in its hands.
    """
    load = load_by_core() or 0.0
    number = back_reads.start(db, person, [SHIPPED])
    began: list[float] = []
    over: list[float] = []

    def watch() -> None:
        is_killed = lost is None
        while (n_done := back_reads.load(db, person, number).counts.get("done", 0)) < n_images:
            if n_done and not began:
                began.append(time.monotonic())
            if lost is not None and not is_killed and n_done >= n_images // 2:
                is_killed = killed_with_a_study(db, number, lost)
            time.sleep(0.1)
        over.append(time.monotonic())

    watching = threading.Thread(target=watch)
    watching.start()
    arguments = ["-m", "core", "back-read", "work", str(number)]
    on_every_node(db.settings, arguments, lambda: watching.is_alive())
    row = Row(what, load, over[0] - began[0], n_images, *_judged(db, number))
    say(f"{row.what}: {row.rate:.1f} images a second ({row.seconds:.0f} s), {row.again} studies begun again")
    return row


def killed_with_a_study(db: Database, number: int, lost: RayNode) -> bool:
    """Kill the node with a study in its hands; False where it had none at this moment, and lives."""
    table = tables.back_read_study
    pids = set(lost.pids())
    for _ in range(200):
        with db.read() as connection:
            query = select(table.c.worker).where(table.c.back_read_id == number, table.c.state == RUNNING)
            working = [int(worker.split(":")[-2]) for worker in connection.execute(query).scalars()]
            mine = [pid for pid in working if pid in pids]
        if not mine:
            continue
        os.kill(mine[0], signal.SIGSTOP)
        with db.read() as connection:
            is_in_hand = any(f":{mine[0]}:" in worker for worker in connection.execute(query).scalars())
        if is_in_hand:
            lost.kill()
            return True
        os.kill(mine[0], signal.SIGCONT)
    return False


def _judged(db: Database, number: int) -> tuple[int, int]:
    """Studies that were begun more than once, and those that have not exactly one answer."""
    table = tables.back_read_study
    with db.read() as connection:
        mine = table.c.back_read_id == number
        n_again = connection.execute(select(func.count()).where(mine, table.c.attempts > 1)).scalar_one()
        rows = connection.execute(select(table.c.study_id, table.c.state, table.c.result).where(mine)).all()
    answered = {row.study_id for row in rows if row.state == DONE and len(row.result["answers"]) == 1}
    return n_again, len(rows) - len(answered)


def n_alive(db: Database) -> int:
    return sum(node.is_alive and node.cpus > 0 for node in serving_cluster.nodes_of(db.settings))


def node_more(cluster: RayCluster, db: Database) -> RayNode:
    n_before = n_alive(db)
    node = cluster.add_node()
    while n_alive(db) <= n_before:
        time.sleep(1)
    return node


def say(words: str) -> None:
    sys.stdout.write(words + "\n")
    sys.stdout.flush()


def table_of(rows: Sequence[Row], n_cores: int) -> str:
    """The section of docs/cluster.md."""
    first = rows[0]
    lines = [
        f"{first.images} images of 300 x 400 pixels, one model, nodes of one processor each, all on one machine of "
        f"{n_cores} cores; {datetime.now(UTC):%Y-%m-%d}. Others used it "
        "meanwhile where the first row has more than one process a core: then the ratios are doubtful, too.",
        "",
        "| nodes | images a second | of one node | seconds | processes a core in the minute before | begun again "
        "| studies without exactly one answer |",
        "|---|---|---|---|---|---|---|",
    ]
    lines += [
        f"| {row.what} | {row.rate:.1f} | {row.rate / first.rate:.2f} | {row.seconds:.0f} | {row.load:.1f} "
        f"| {row.again} | {row.n_wrong} |"
        for row in rows
    ]
    return "\n".join(lines)


def measured(n_images: int, n_nodes: int) -> list[Row]:
    with tempfile.TemporaryDirectory() as folder, ray_cluster({"SECONDREAD_STATE_DIR": folder}) as cluster:
        os.environ |= cluster.environment
        db = open_database(
            Settings(state_dir=Path(folder), ray_address=cluster.address, session_idle_minutes=SESSION_MINUTES)
        )
        ada = add_person(db, "Ada")
        rng = np.random.default_rng(0)
        for number in range(n_images):
            image = replace(picture(), pixels=rng.random((300, 400), np.float32), sha256=f"{number:064x}")
            create_study(db, ada, display_name="x", images=[image])
        try:
            rows = []
            for number in range(1, n_nodes + 1):
                newest = node_more(cluster, db)
                rows.append(timed(db, ada, str(number), n_images))
            rows.append(timed(db, ada, f"{n_nodes}, one killed in the middle", n_images, lost=newest))
            return rows
        finally:
            serving_cluster.let_go()
            db.close()


def main() -> int:
    """The status is 1 where a study has not exactly one answer."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--images", type=int, default=2000)
    parser.add_argument("--nodes", type=int, default=3)
    parser.add_argument("--write", action="store_true", help="put the table into docs/cluster.md")
    args = parser.parse_args()
    rows = measured(args.images, args.nodes)
    text = table_of(rows, os.cpu_count() or 1)
    say(text)
    if args.write:
        page = PAGE.read_text(encoding="utf-8")
        before, _, rest = page.partition(BEGIN)
        write_whole(PAGE, f"{before}{BEGIN}\n{text}\n{END}{rest.partition(END)[2]}")
    return int(any(row.n_wrong for row in rows))


if __name__ == "__main__":
    sys.exit(main())
