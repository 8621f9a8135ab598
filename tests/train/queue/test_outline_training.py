"""A training of the outline network that waits in the queue like every other: from its request to a candidate."""

from __future__ import annotations

import argparse
import json
import threading
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from made_lesions import SHAPE, ellipse, picture
from PIL import Image as Raster

from core.commands import parsed
from core.errors import InvalidInput, NotFound
from core.models.live import OUTLINE_NETWORK, candidate_dir, outline_candidate_dir
from core.models.outline_card import read_outline_card, read_outline_cases
from core.records import data_sets
from core.records.database.db import Database
from core.records.people.permissions import Person
from core.records.queue import CANCELLED, DONE, FAILED, QUEUED
from core.records.releases import decisions, outline_check
from core.settings import Settings
from core.types import Modality
from train.__main__ import COMMANDS
from train.queue import duration, trainings
from train.queue.child import LocalExecutor
from train.queue.worker import TrainingWork, Worker
from train.recipe.outline import OutlineConfig, OutlineRequest
from train.recipe.request import FitRequest

REQUEST = OutlineRequest(OutlineConfig(side=64, epochs=2), init="random")


@pytest.fixture
def record_settings(tmp_path: Path) -> Settings:
    """SQLite only: what the two kinds of database do with the queue is tested with the queue."""
    return Settings(state_dir=tmp_path / "state")


def added(db: Database, admin: Person, rows: list[dict[str, str]], name: str = "Lesions", **split: object) -> int:
    """A version of a data set; the files that its rows name are taken from there into the site."""
    kept = [
        {**row, **{one: data_sets.store_file(db.settings, Path(row[one]).read_bytes(), "png")
                   for one in ("file", "mask") if row.get(one)}}
        for row in rows
    ]  # fmt: skip
    table = pd.DataFrame(kept)
    counts = {str(name): part["label"].value_counts().to_dict() for name, part in table.groupby("split")}
    return data_sets.create_data_set(
        db, admin, name=name, modality=Modality.ULTRASOUND, manifest=table.to_csv(index=False).encode(),
        split=split or {"kind": "60/20/20", "seed": 0}, counts=counts, found={"leaking": False},
    )  # fmt: skip


def made_rows(folder: Path, n: int = 20) -> list[dict[str, str]]:
    """Pictures with an ellipse in each but every fifth, which is normal."""
    rows = []
    for number in range(n):
        mask = ellipse(60 + number, 50, (90, 80 + 7 * number)) if number % 5 else np.zeros(SHAPE, bool)
        for name, values in (("", picture(mask, seed=number)), ("_mask", mask)):
            Raster.fromarray(np.round(values * 255.0).astype(np.uint8)).save(folder / f"{number}{name}.png")
        label = "normal" if number % 5 == 0 else ("benign", "malignant")[number % 2]
        rows.append({"file": str(folder / f"{number}.png"), "label": label, "patient": f"p{number}",
                     "mask": str(folder / f"{number}_mask.png") if number % 5 else "", "source": "made",
                     "split": ("train", "train", "train", "validation", "test")[number // 2 % 5]})  # fmt: skip
    return rows


def works(db: Database, **more: object) -> Worker:
    return Worker(db, TrainingWork(db, LocalExecutor(db.settings)), **more)  # type: ignore[arg-type]


def until(condition: Callable[[], object], seconds: float = 240) -> None:
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline, "it did not happen"
        time.sleep(0.05)


def test_a_request_is_what_the_row_and_the_command_line_make_of_it_again(tmp_path: Path) -> None:
    asked = replace(REQUEST, config=replace(REQUEST.config, seed=7))
    assert trainings.request_of(json.loads(json.dumps(asked.to_json()))) == asked
    assert isinstance(trainings.request_of(FitRequest("cnn", Modality.ULTRASOUND).to_json()), FitRequest)
    with pytest.raises(InvalidInput, match="whole numbers"):
        trainings.request_of({**asked.to_json(), "side": "96"})
    elsewhere = replace(
        asked, data=tmp_path / "m.csv", root=tmp_path, where=("source=A|B",), out=tmp_path / "out",
        work=tmp_path / "work", budget_minutes=1.5, also=(tmp_path / "n.csv",), name="ultrasound-outline2",
    )  # fmt: skip
    for one in (asked, elsewhere):
        args = parsed(argparse.ArgumentParser(), "train.commands", COMMANDS, one.to_arguments())
        assert OutlineRequest.from_arguments(vars(args)) == one
    assert "--data DATA/m.csv --also DATA/n.csv --root DATA" in elsewhere.portable().to_command()
    assert str(tmp_path) not in elsewhere.portable().to_command()


def test_only_what_it_can_be_trained_on_gets_into_the_queue(records: Database, admin: Person, tmp_path: Path) -> None:
    rows = made_rows(tmp_path)
    folds = added(records, admin, rows, folds=3, kind="3 folds")
    with pytest.raises(InvalidInput, match="outline network is measured on one split"):
        trainings.enqueue(records, admin, REQUEST, folds)
    other = data_sets.create_data_set(
        records, admin, name="Other", modality=Modality.MAMMOGRAPHY, manifest=b"file,label\n", split={}, counts={},
        found={},
    )  # fmt: skip
    with pytest.raises(InvalidInput, match="holds mammography, and the training is for ultrasound"):
        trainings.enqueue(records, admin, REQUEST, other)
    plain = added(records, admin, [{**row, "mask": ""} for row in rows], "No masks")
    job = trainings.enqueue(records, admin, REQUEST, plain)
    assert works(records).work_once()
    ended = trainings.load_job(records, admin, job)
    assert ended.state == FAILED and ended.message.startswith("No picture of this data set has the outline")


def test_a_training_ends_with_a_candidate_on_releases_that_can_be_promoted(
    records: Database, admin: Person, tmp_path: Path
) -> None:
    job_id = trainings.enqueue(records, admin, REQUEST, added(records, admin, made_rows(tmp_path)))
    assert works(records).work_once()
    job = trainings.load_job(records, admin, job_id)
    assert job.state == DONE and job.message == trainings.CANDIDATE_READY, job.message
    assert job.request == REQUEST and job.device
    epochs = trainings.epochs_of(records, admin, job_id)
    assert [(one.part, one.epoch) for one in epochs] == [("", 1), ("", 2)]
    assert all(0 <= one.measures["validation_dice"] <= 1 for one in epochs)
    assert "validation dice" in trainings.log_tail(records, admin, job_id)
    (card,) = outline_check.outline_candidates(records, admin)
    assert job.result is not None and job.result["weights_sha256"] == card.weights_sha256
    assert card.folder == outline_candidate_dir(records.settings, job_id) / OUTLINE_NETWORK
    assert len(read_outline_cases(card)) == 4 and not candidate_dir(records.settings, job_id).exists()
    assert not (trainings.folder_of(records.settings, job_id) / "work").exists()
    with pytest.raises(NotFound):  # nothing takes it for a model that gives a probability
        decisions.start_shadow(records, admin, job_id, reason="For a test.")
    found = outline_check.examine_outline(records, admin, card.weights_sha256)
    outline_check.promote_outline(
        records, admin, card.weights_sha256, live_sha256=found.live_sha256, reason="Ours.",
        passed={line.key: "For a test." for line in found.lines},
    )  # fmt: skip
    (decision,) = decisions.decisions(records, admin)
    assert (decision.model_id, decision.weights_sha256) == (OUTLINE_NETWORK, card.weights_sha256)
    took = duration.estimate(records, admin, REQUEST, 12)
    assert took is not None and took.source == f"training {job_id} on this site" and took.is_whole


def test_a_cancelled_training_leaves_no_candidate(records: Database, admin: Person, tmp_path: Path) -> None:
    request = replace(REQUEST, config=replace(REQUEST.config, epochs=1000))
    job_id = trainings.enqueue(records, admin, request, added(records, admin, made_rows(tmp_path)))
    thread = threading.Thread(target=works(records).work_once)
    thread.start()
    until(lambda: trainings.epochs_of(records, admin, job_id))
    running = trainings.load_job(records, admin, job_id)
    assert 0 < trainings.share_done(running, trainings.epochs_of(records, admin, job_id)) < 1
    trainings.cancel(records, admin, job_id)
    thread.join(60)
    assert trainings.load_job(records, admin, job_id).state == CANCELLED
    assert outline_check.outline_candidates(records, admin) == []


def test_a_training_that_was_handed_back_goes_on_after_its_last_epoch(
    records: Database, admin: Person, tmp_path: Path
) -> None:
    request = replace(REQUEST, config=replace(REQUEST.config, epochs=12))
    job_id = trainings.enqueue(records, admin, request, added(records, admin, made_rows(tmp_path)))
    told = threading.Event()
    thread = threading.Thread(target=works(records, should_end=told.is_set).work)
    thread.start()
    until(lambda: trainings.epochs_of(records, admin, job_id))
    told.set()
    thread.join(60)
    assert trainings.load_job(records, admin, job_id).state == QUEUED
    before = {one.epoch: one.measures for one in trainings.epochs_of(records, admin, job_id)}
    assert works(records).work_once()
    assert trainings.load_job(records, admin, job_id).state == DONE
    after = trainings.epochs_of(records, admin, job_id)
    assert [one.epoch for one in after] == list(range(1, 13)), "each once"
    assert {one.epoch: one.measures for one in after if one.epoch in before} == before
    assert "going on after epoch" in trainings.log_tail(records, admin, job_id)


@pytest.mark.real_data("that a training from the queue learns to outline real lesions")
def test_it_learns_from_real_pictures(records: Database, admin: Person, test_data: Path) -> None:
    root = test_data / "data"
    listed = pd.read_csv(root / "ultrasound" / "manifest.csv", dtype=str).fillna("")
    busi = listed[(listed["source"] == "BUSI") & (listed["mask"] != "") & (listed["label_conflict_with"] == "")]
    chosen = busi.drop_duplicates("group").sample(60, random_state=0).reset_index(drop=True)
    rows = [
        {"file": str(root / row["file"]), "mask": str(root / row["mask"]), "label": row["label"],
         "group": row["group"], "source": "BUSI", "split": ("train", "train", "train", "validation", "test")[n % 5]}
        for n, row in enumerate(chosen.to_dict("records"))
    ]  # fmt: skip
    request = replace(REQUEST, config=OutlineConfig(side=64, epochs=12))
    job_id = trainings.enqueue(records, admin, request, added(records, admin, rows))
    assert works(records).work_once()
    assert trainings.load_job(records, admin, job_id).state == DONE
    losses = [one.measures["loss"] for one in trainings.epochs_of(records, admin, job_id)]
    assert losses[-1] < 0.9 * losses[0]
    card = read_outline_card(outline_candidate_dir(records.settings, job_id) / OUTLINE_NETWORK)
    assert set(read_outline_cases(card)["label"]) <= {"benign", "malignant"}
