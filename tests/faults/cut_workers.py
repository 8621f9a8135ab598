"""Two nodes that fit one network together are cut off from each other, and from nobody else (docs/cluster.md).

    python tests/faults/cut_workers.py        # as root; some minutes

A real fit on a real Ray cluster whose nodes are network namespaces: all end, and the next attempt goes on after the
last epoch.
"""

from __future__ import annotations

import os
import sys
import tempfile
import time
from pathlib import Path

HERE = Path(__file__).resolve().parent
sys.path[:0] = [str(HERE.parent / "train" / "queue"), str(HERE.parent), str(HERE.parent.parent)]

from namespaces import Network, network  # noqa: E402
from ray_cluster import RayCluster, ray_cluster  # noqa: E402
from record_site import add_person  # noqa: E402
from test_cluster import blots_data_set  # noqa: E402
from test_cluster_workers import TRAINED, begun  # noqa: E402
from test_worker import until  # noqa: E402

from core.records.database.db import Database, open_database  # noqa: E402
from core.records.queue import DONE  # noqa: E402
from core.serving import cluster as serving_cluster  # noqa: E402
from core.settings import Settings  # noqa: E402
from train.queue import trainings  # noqa: E402
from train.queue.cluster import RayExecutor  # noqa: E402


def say(words: str) -> None:
    sys.stdout.write(words + "\n")
    sys.stdout.flush()


def round_of(cables: Network, cluster: RayCluster, db: Database) -> bool:
    """Whether it was as it should be."""
    admin = add_person(db, "Ada", "administrator")
    version, _ = blots_data_set(db, admin)
    runs = RayExecutor(db.settings)
    job = trainings.enqueue(db, admin, TRAINED, version)
    one, other = cables.add(), cables.add()

    def epochs() -> list[int]:
        return [epoch.epoch for epoch in trainings.epochs_of(db, admin, job)]

    cluster.add_node(1, one)
    cluster.add_node(1, other)
    thread = begun(db, runs)
    until(lambda: epochs() or not thread.is_alive())
    cables.cut_between(one, other)
    cut_at, had = time.monotonic(), epochs()
    thread.join(600)
    row = trainings.load_job(db, admin, job)
    say(f"cut after epoch {had[-1] if had else 0}: the workers ended within {time.monotonic() - cut_at:.0f} s")
    say(f"the job is {row.state}: {trainings.log_tail(db, admin, job, lines=1)}")
    cables.heal_between(one, other)
    until(lambda: begun(db, runs).join() or not trainings.load_job(db, admin, job).is_open)
    row = trainings.load_job(db, admin, job)
    say(f"{row.state} in attempt {row.attempts} with {len(epochs())} of {TRAINED.epochs} epochs. {row.message}")
    return row.state == DONE and row.attempts == 2 and epochs() == list(range(1, TRAINED.n_epochs + 1))


def main() -> int:
    with network() as cables, tempfile.TemporaryDirectory() as folder:
        state_dir = Path(folder) / "state"
        with ray_cluster({"SECONDREAD_STATE_DIR": str(state_dir)}, network=cables) as cluster:
            os.environ |= cluster.environment
            db = open_database(
                Settings(state_dir=state_dir, weights_dir=Path(folder) / "weights", ray_address=cluster.address)
            )
            try:
                return int(not round_of(cables, cluster, db))
            finally:
                serving_cluster.let_go()
                db.close()


if __name__ == "__main__":
    sys.exit(main())
