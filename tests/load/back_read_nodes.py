"""How many images a back-read reads in a second on 1, 2, … nodes of a Ray cluster on this machine (docs/cluster.md).

python tests/load/back_read_nodes.py --images 2000 --nodes 3
"""

from __future__ import annotations

import argparse
import os
import sys
import tempfile
import threading
import time
from dataclasses import replace
from pathlib import Path

import numpy as np

sys.path[:0] = [str(Path(__file__).parents[1]), str(Path(__file__).parents[2])]

from ray_cluster import ray_cluster  # noqa: E402
from record_site import add_person, picture  # noqa: E402
from release_site import SHIPPED  # noqa: E402

from core.records.database.db import Database, open_database  # noqa: E402
from core.records.people.permissions import Person  # noqa: E402
from core.records.reads import back_reads  # noqa: E402
from core.records.reads.studies import create_study  # noqa: E402
from core.serving import cluster as serving_cluster  # noqa: E402
from core.serving.loops import on_every_node  # noqa: E402
from core.settings import Settings  # noqa: E402


def seconds_of(db: Database, person: Person, n_images: int) -> float:
    """From the first answer to the last of a back-read of all studies: what processes need to begin is not counted."""
    number = back_reads.start(db, person, [SHIPPED])
    began: list[float] = []
    over: list[float] = []

    def watch() -> None:
        while (n_done := back_reads.load(db, person, number).counts.get("done", 0)) < n_images:
            if n_done and not began:
                began.append(time.monotonic())
            time.sleep(0.1)
        over.append(time.monotonic())

    watching = threading.Thread(target=watch)
    watching.start()
    arguments = ["-m", "core", "back-read", "work", str(number)]
    on_every_node(db.settings, arguments, lambda: watching.is_alive())
    return over[0] - began[0]


def say(words: str) -> None:
    sys.stdout.write(words + "\n")
    sys.stdout.flush()


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--images", type=int, default=2000)
    parser.add_argument("--nodes", type=int, default=3)
    args = parser.parse_args()
    n_cores = os.cpu_count() or 1
    say(f"{n_cores} cores, {os.getloadavg()[0] / n_cores:.1f} processes a core before the run")
    with tempfile.TemporaryDirectory() as folder, ray_cluster({"SECONDREAD_STATE_DIR": folder}) as cluster:
        os.environ |= cluster.environment
        db = open_database(Settings(state_dir=Path(folder), ray_address=cluster.address))
        ada = add_person(db, "Ada")
        rng = np.random.default_rng(0)
        for number in range(args.images):
            image = replace(picture(), pixels=rng.random((300, 400), np.float32), sha256=f"{number:064x}")
            create_study(db, ada, display_name="x", images=[image])
        try:
            for n_nodes in range(1, args.nodes + 1):
                cluster.add_node()
                while sum(node.is_alive and node.cpus for node in serving_cluster.nodes_of(db.settings)) < n_nodes:
                    time.sleep(1)
                seconds = seconds_of(db, ada, args.images)
                say(f"{n_nodes} nodes: {args.images / seconds:.1f} images a second ({seconds:.0f} s)")
        finally:
            serving_cluster.let_go()
            db.close()


if __name__ == "__main__":
    main()
