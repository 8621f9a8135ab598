"""What the tests of releases share: finished trainings whose candidates have weights and scores of their own."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from sqlalchemy import insert, select

from core.models.cards import Card, read_card, read_test_scores
from core.models.live import OUTLINE_NETWORK, candidate_dir, outline_candidates_dir
from core.models.outline_card import FILE, read_outline_card, read_outline_cases
from core.models.training_distance import distance_name
from core.models.weights import read_shards, to_float16, write_shards
from core.records import data_sets
from core.records.database import tables
from core.records.database.db import Database
from core.records.people.permissions import Actor, Person
from core.records.releases import promotion_check
from core.settings import REPOSITORY
from core.types import Modality
from train.publishing.publish import put_cases

MODEL = "ultrasound-cnn"
SHIPPED = read_card(REPOSITORY / "weights" / MODEL)


def add_candidate(
    db: Database,
    actor: Person,
    number: int,
    *,
    model_id: str = MODEL,
    scores: pd.DataFrame | None = None,
    manifest: bytes | None = None,
    fields: Mapping[str, Any] | None = None,
    cases: pd.DataFrame | None = None,
) -> int:
    """A done training that made the shipped small CNN with slightly other weights; its job's number.

    scores: of its test cases, by default those of the shipped one. manifest: of the data set it was trained on. cases:
    its list of them (`core.models.card_cases`), by default none, as in models from before there were lists.
    """
    job_id = _job(db, actor, number, manifest)
    folder = candidate_dir(db.settings, job_id) / model_id
    folder.mkdir(parents=True)
    state = read_shards(SHIPPED.folder, SHIPPED.weights_files, SHIPPED.weights_sha256)
    name = sorted(state)[0]
    state[name] = state[name] + np.float32(number / 100)
    sha256, files = write_shards(to_float16(state), folder)
    raw = SHIPPED.content() | {"model_id": model_id, **(fields or {})}
    raw["weights"] = {**raw["weights"], "sha256": sha256, "files": list(files)}
    distance = distance_name(sha256)
    shutil.copyfile(SHIPPED.folder / raw["training_distance"]["file"], folder / distance)
    raw["training_distance"] = {**raw["training_distance"], "file": distance}
    del raw["cases"]
    if cases is not None:
        raw["cases"] = put_cases(folder, sha256, cases)
    (folder / "card.json").write_text(json.dumps(raw))
    table = scores if scores is not None else read_test_scores(SHIPPED)
    assert table is not None
    table.to_csv(folder / f"{sha256[:8]}.test_scores.csv", index=False)
    with db.begin() as connection:
        result = {"model_id": model_id, "weights_sha256": sha256, "folder": model_id}
        connection.execute(tables.job.update().where(tables.job.c.id == job_id).values(state="done", result=result))
    return job_id


def promote(
    db: Database,
    actor: Actor,
    job_id: int,
    *,
    live_sha256: str | None = SHIPPED.weights_sha256,
    reason: str = "It finds more on the same cases.",
) -> None:
    """Promote as a page does, with a written reason for every check that fails."""
    found = promotion_check.examine(db, actor, job_id)
    passed = {line.key: "For a test." for line in found.lines}
    promotion_check.promote(db, actor, job_id, live_sha256=live_sha256, reason=reason, passed=passed)


def candidate(db: Database, job_id: int) -> Card:
    (folder,) = candidate_dir(db.settings, job_id).glob("*/card.json")
    return read_card(Path(folder).parent)


def _job(db: Database, actor: Person, number: int, manifest: bytes | None) -> int:
    if manifest is None:
        name = data_sets.store_file(db.settings, b"picture %d" % number, "png")
        manifest = f"file,label,patient,split\n{name},benign,p{number},train\n".encode()
    with db.read() as connection:
        names = set(connection.execute(select(tables.data_set.c.name)).scalars())
    version_id = data_sets.create_data_set(
        db, actor, name=f"Set {number}-{len(names)}", modality=Modality.ULTRASOUND, manifest=manifest,
        split={}, counts={"train": {"benign": 1}}, found={"leaking": False},
    )  # fmt: skip
    request = {"architecture": "cnn", "modality": "ultrasound", "init": "random"}
    with db.begin() as connection:
        return int(
            connection.execute(
                insert(tables.job)
                .values(
                    kind="fit", version_id=version_id, request=request, state="running", message="", attempts=1,
                    created_by=actor.id, created_at=tables.now(),
                )
                .returning(tables.job.c.id)
            ).scalar_one()
        )  # fmt: skip


SHIPPED_OUTLINE = read_outline_card(REPOSITORY / "weights" / OUTLINE_NETWORK)
OUTLINE_CASES = read_outline_cases(SHIPPED_OUTLINE)


def add_outline_network(db: Database, name: str, change: Callable[[pd.DataFrame], pd.DataFrame], **card: object) -> str:
    """A trained network in the state folder with the shipped one's test pictures, measured otherwise; its sha256."""
    folder = outline_candidates_dir(db.settings) / name / OUTLINE_NETWORK
    folder.mkdir(parents=True)
    sha256, files = write_shards({"made": np.full(3, sum(map(ord, name)), np.float16)}, folder)
    raw = json.loads((SHIPPED_OUTLINE.folder / FILE).read_text()) | {"cases": f"{sha256[:8]}.outlines.csv", **card}
    raw["weights"] = {**raw["weights"], "sha256": sha256, "files": list(files)}
    (folder / FILE).write_text(json.dumps(raw))
    change(OUTLINE_CASES.copy()).to_csv(folder / raw["cases"], index=False)
    return sha256


def better_outlines(cases: pd.DataFrame) -> pd.DataFrame:
    return cases.assign(dice=(cases["dice"] + 0.05).clip(upper=1), false=0.0)


def worse_outlines(cases: pd.DataFrame) -> pd.DataFrame:
    """It misses the lesion in the first third of the pictures and outlines something in every normal one."""
    missed = np.arange(len(cases)) % 3 == 0
    normal = cases["label"] == "normal"
    return cases.assign(
        dice=cases["dice"].where(~missed, 0.0), found=cases["found"].where(~missed, 0),
        false=cases["false"].where(~normal, 1),
    )  # fmt: skip
