"""The worker and the training in its hands killed: while it starts, trains, evaluates, publishes and is put in place.

Every fifth training is a real one, of a small network on forty made-up pictures; the others are quick, say the same and
leave the same (`stand_in_training`). A round starts a worker, which takes up the job that the round before left, and
kills the worker or its child at a random moment, in some rounds just when the model is being written. Epochs that a
person was shown stay; a job that is done has its whole model; one that is over has nothing else; no child trains for
nobody; the next worker takes the job up as soon as its lease is over.
"""

from __future__ import annotations

import os
import random
import sys
import time
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import made_data_sets
from decode_rounds import children_with
from kill_figures import Figures, drawn_signal, left_in, to_log, until
from record_site import AtTerminal, add_person, at_terminal
from warm_server import context

from core import files
from core.errors import AppError
from core.models.cards import read_card, read_test_scores
from core.models.live import candidate_dir
from core.models.weights import check_shards
from core.records import data_sets
from core.records.audit import heads
from core.records.database.db import Database, open_database
from core.records.queue import DONE, OPEN, OVER, QUEUED
from core.settings import Settings
from core.types import Modality
from train.datasets import ingest
from train.queue import trainings, worker
from train.queue.child import LocalExecutor
from train.recipe.request import FitRequest

REQUEST = FitRequest("cnn", Modality.ULTRASOUND, init="random", epochs=2, side=32, settings=("batch=8",))
PICTURES = 40
LEASE_SECONDS = 2.0
SECONDS_MOST = 4.0
"""How long a worker works before it or its child is killed, at most."""
TAKEN_SECONDS = 60.0
CHILDREN = (b"train.queue.child", b"stand_in_training")
STAND_IN = Path(__file__).with_name("stand_in_training.py")


class WorkerRounds:
    """Rounds over a site in `folder` that has one data set and no live model."""

    def __init__(self, folder: Path) -> None:
        (folder / "weights").mkdir(parents=True, exist_ok=True)
        self.folder = folder
        self.settings = Settings(state_dir=folder / "state", weights_dir=folder / "weights")
        db = open_database(self.settings)
        try:
            with db.read() as connection:
                row = connection.exec_driver_sql("SELECT id FROM person").one_or_none()
            person = at_terminal(add_person(db, "Ann")) if row is None else AtTerminal(row.id, "Ann", frozenset())
            if not data_sets.list_versions(db, person):
                archive = made_data_sets.zipped(folder / "set.zip", made_data_sets.class_folders(PICTURES))
                ingest.add_zip(
                    db, person, archive, name="Set", modality=Modality.ULTRASOUND, seed=0, progress=lambda *_: None
                )
                heads.write_head(db)
            self.person = person
            self.n_epochs = sum(len(job["epochs"]) for job in self._jobs(db).values())
            self.version = data_sets.list_versions(db, person)[0].id
        finally:
            db.close()

    def one(self, seed: str, figures: Figures) -> None:
        draw = random.Random(seed)
        db = open_database(self.settings)
        try:
            before = self._jobs(db)
            if not any(job["state"] in OPEN for job in before.values()):
                trainings.enqueue(db, self.person, replace(REQUEST, seed=draw.randrange(1000)), self.version)
                figures.told("training asked")
            process = context().Process(target=work, args=(self.settings, self.folder / "worker.log"))
            process.start()
            pid = process.pid or 0
            if not self._is_taken(db):
                figures.left_over.append(f"{seed}: the job waits although its worker's lease is over")
            self._wait(db, draw)
            seen = self._jobs(db)
            is_child = draw.random() < 0.5
            children = [child for word in CHILDREN for child in children_with(pid, word)]
            number = drawn_signal(draw)
            target = children[0] if is_child and children else pid
            try:
                os.kill(target, number)
                figures.killed("training" if target != pid else "worker", number)
            except ProcessLookupError:
                pass  # it was faster
            if target != pid:
                self._settle(db)
                number = drawn_signal(draw)
                os.kill(pid, number)
                figures.killed("worker", number)
            process.join(60)
            if process.is_alive():
                figures.half.append(f"{seed}: the worker did not end by {number.name}")
                process.kill()
                process.join()
            if not until(lambda: not any(Path(f"/proc/{child}").exists() for child in children), 30):
                figures.left_over.append(f"{seed}: a training goes on that nobody watches")
            self._judge(db, seed, seen, figures)
        finally:
            db.close()

    def close(self) -> None:
        """Nothing runs between rounds."""

    def _is_taken(self, db: Database) -> bool:
        """Whether some attempt began within the time that a lease and a start take; what ends at once did, too."""
        return until(lambda: QUEUED not in {job["state"] for job in self._jobs(db).values()}, TAKEN_SECONDS)

    def _wait(self, db: Database, draw: random.Random) -> None:
        """Until a random moment; in one of two rounds one within two seconds of the model's folder appearing."""
        if draw.random() < 0.5:
            folders = [trainings.folder_of(self.settings, number) / "out" for number in self._open(db)]
            until(lambda: any(folder.exists() for folder in folders) or not self._open(db), 6 * SECONDS_MOST)
            time.sleep(draw.uniform(0, 2.0))
        else:
            until(lambda: not self._open(db), draw.uniform(0.02, SECONDS_MOST))

    def _settle(self, db: Database) -> None:
        """The worker says what became of a child that was killed."""
        until(lambda: not self._open(db), 10)

    def _open(self, db: Database) -> list[int]:
        return [number for number, job in self._jobs(db).items() if job["state"] in OPEN]

    def _jobs(self, db: Database) -> dict[int, dict[str, Any]]:
        with db.read() as connection:
            rows = connection.exec_driver_sql("SELECT id, state, attempts, result FROM job").mappings().all()
            epochs = connection.exec_driver_sql("SELECT job_id, part, epoch FROM job_epoch").all()
        return {
            row["id"]: {**row, "epochs": {(part, epoch) for job, part, epoch in epochs if job == row["id"]}}
            for row in rows
        }

    def _judge(self, db: Database, seed: str, seen: dict[int, dict[str, Any]], figures: Figures) -> None:
        files.sweep(self.settings.state_dir)  # as every start does
        figures.left_over += [f"{seed}: {name}" for name in left_in(self.settings.state_dir)]
        figures.half += [f"{seed}: {problem}" for problem in heads.verify(db).problems]
        idle = worker.Worker(db, worker.TrainingWork(db, LocalExecutor(self.settings)))
        idle._sweep()  # as the next worker does when nothing waits
        after = self._jobs(db)
        for number, job in seen.items():
            if job["epochs"] - after[number]["epochs"]:
                figures.lost.append(f"{seed}: epochs of job {number}")
            if job["state"] == DONE and (after[number]["state"], after[number]["result"]) != (DONE, job["result"]):
                figures.lost.append(f"{seed}: job {number} was done")
        for number, job in after.items():
            self._judge_job(seed, number, job, figures)
        before_now = {number for number, job in seen.items() if job["state"] == DONE}
        figures.told("training done", len({n for n, job in after.items() if job["state"] == DONE} - before_now))
        n_epochs = sum(len(job["epochs"]) for job in seen.values())
        figures.told("epoch", n_epochs - self.n_epochs)
        self.n_epochs = n_epochs

    def _judge_job(self, seed: str, number: int, job: dict[str, Any], figures: Figures) -> None:
        folder, candidate = trainings.folder_of(self.settings, number), candidate_dir(self.settings, number)
        if job["state"] == DONE:
            try:
                (path,) = candidate.glob("*/card.json")
                card = read_card(path.parent)
                check_shards(card.folder, card.weights_files, card.weights_sha256)
                if read_test_scores(card) is None:
                    figures.half.append(f"{seed}: the model of job {number} has no test scores")
            except (AppError, ValueError) as broken:
                figures.half.append(f"{seed}: the model of job {number}: {broken}")
        elif job["state"] in OVER and candidate.exists():
            figures.left_over.append(f"{seed}: a model of job {number}, which is {job['state']}")
        if job["state"] in OVER:
            figures.left_over += [
                f"{seed}: {path.name} of job {number}, which is {job['state']}"
                for path in folder.iterdir()
                if path.name != "log.txt"
            ]


def work(settings: Settings, log: Path) -> None:
    """The worker's whole life, as `python -m train worker` has it, with a short lease."""
    to_log(log)
    os.environ["SECONDREAD_STATE_DIR"] = str(settings.state_dir)
    worker.LocalExecutor = partial(LocalExecutor, command=(sys.executable, str(STAND_IN)))  # type: ignore[misc]
    worker.run_worker(settings, with_app=False, lease_seconds=LEASE_SECONDS)
