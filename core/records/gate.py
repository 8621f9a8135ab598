"""The gate: a training's candidate beside the live model on the same test cases, and the promotion that follows.

The live model's scores of the candidate's test cases are those that were computed for it (`train.beside`, kept beside
the candidate), or its own test scores where both were tested on the same cases. What the two were trained on is known
where their data sets were made here; of shipped models it is not, and that is said.
"""

from __future__ import annotations

import csv
import io
import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pandas as pd
from sqlalchemy import Connection, select

from core.errors import InvalidInput, NotFound
from core.evaluation.operating import operating_rows
from core.evaluation.red_lines import Circumstances, RedLine, red_lines
from core.evaluation.side_by_side import CANDIDATE, LIVE, side_by_side
from core.evaluation.workbench import Workbench
from core.models.cards import Card, live_cards, read_test_scores
from core.models.leaks import leaks_of
from core.models.live import candidate_dir
from core.records import data_sets, releases, site_settings, tables
from core.records.data_sets import VersionRow
from core.records.db import Database
from core.records.permissions import Person, demand
from core.settings import Settings

GROUPS = ("source", "view", "laterality", "magnification", "density")
"""Columns of a manifest that subgroups are made of."""


@dataclass(frozen=True, slots=True, eq=False)
class Examination:
    """Everything an administrator decides on.

    live: the model that the candidate would replace; where there is none, another live one of its kind of image, for
    orientation (`is_replaced` is False then), or None. live_sha256: what the candidate would replace, None for nothing.
    n_tested: the candidate's test cases, of which `bench` has those that both scored. is_scored: the live model has
    scores of all of them. speeds: scorer -> seconds an image, where measured. notes: sentences that belong beside.
    """

    job_id: int
    candidate: Card
    live: Card | None
    live_sha256: str | None
    is_replaced: bool
    is_compared: bool
    is_scored: bool
    n_tested: int
    bench: Workbench
    speeds: Mapping[str, Any]
    notes: tuple[str, ...]
    lines: tuple[RedLine, ...]


def beside_dir(db: Database, job_id: int) -> Path:
    """Where other models' scores of a candidate's test cases are kept: `<sha8>.test_scores.csv`, `<sha8>.json`."""
    return candidate_dir(db.settings, job_id) / "beside"


def live_beside(settings: Settings, candidate: Card) -> list[Card]:
    """The live models that a candidate can be compared with: the one it would replace, then others of its kind."""
    same_kind = [
        card
        for card in live_cards(settings)
        if card.modality is candidate.modality and card.weights_sha256 != candidate.weights_sha256
    ]
    return sorted(same_kind, key=lambda card: card.model_id != candidate.model_id)


def examine(db: Database, actor: Person, job_id: int) -> Examination:
    """Compare a training's candidate with what is live now. Raises NotAllowed, NotFound, Conflict, InvalidInput."""
    demand(actor, "manage_releases")
    with db.read() as connection:
        candidate = releases.find_candidate(db, connection, job_id)
        version = _version_of_job(connection, job_id)
    scores = read_test_scores(candidate)
    if scores is None or scores.empty:
        raise NotFound("The candidate comes without the scores of its test cases. Train it anew.")
    live_sha256 = releases.live_now(db, actor, candidate.model_id)
    live = next(iter(live_beside(db.settings, candidate)), None)
    is_replaced = live is not None and live.weights_sha256 == live_sha256
    live_scores, speeds = (None, {}) if live is None else _scores_of_live(db, job_id, live, scores)
    cases = _cases(db, version)
    groups = cases[["case", *(name for name in GROUPS if name in cases)]] if not cases.empty else None
    is_compared = live_scores is not None
    bench = Workbench(side_by_side(candidate, scores, live if is_compared else None, live_scores, groups))
    is_scored = is_compared and bench.cohort.table.n == len(scores)
    seen, notes = _seen(db, bench, candidate, version, live if is_compared else None, live_scores)
    if is_compared and not is_scored:
        notes.append(
            f"Compared on {bench.cohort.table.n} of the candidate's {len(scores)} test cases: the live model has no "
            "scores of the others."
        )
    leaks = list(leaks_of(candidate))
    if not leaks and version.is_leaking:
        leaks.append("as the audit of its data set found")
    margin = site_settings.current(db).sensitivity_margin_percent / 100
    lines = red_lines(bench, Circumstances(tuple(leaks), seen, is_replaced, is_compared), margin=margin)
    return Examination(
        job_id, candidate, live, live_sha256, is_replaced, is_compared, is_scored, len(scores), bench, speeds,
        tuple(notes), lines,
    )  # fmt: skip


def promote(
    db: Database, actor: Person, job_id: int, *, live_sha256: str | None, reason: str, passed: Mapping[str, str]
) -> None:
    """Let a training's candidate answer from the next read on, in place of the live weights of the same model.

    live_sha256: what the actor saw as live, None for nothing. passed: red line -> the written reason to pass it; every
    line that is crossed now needs one. Raises NotAllowed, NotFound, InvalidInput, Conflict, ModelUnavailable.
    """
    demand(actor, "manage_releases")
    found = examine(db, actor, job_id)
    releases.demand_unchanged(found.live_sha256, live_sha256)
    missing = [line for line in found.lines if not passed.get(line.key, "").strip()]
    if missing:
        raise InvalidInput(f"This needs a written reason to be passed: {missing[0].sentence}")
    reasons = {line.key: releases.reason_of(passed[line.key]) for line in found.lines}
    releases.promote(
        db, actor, job_id, live_sha256=live_sha256, reason=reason, passed=reasons, evidence=evidence_of(found)
    )


def evidence_of(found: Examination) -> dict[str, Any]:
    """The numbers that are kept with the decision."""
    table, cohort = found.bench.cohort.table, found.bench.cohort
    kept: dict[str, Any] = {
        "cases": table.n,
        "positives": table.positives,
        "live_sha256": found.live.weights_sha256 if found.live is not None and found.is_compared else None,
        "red_lines": {line.key: line.sentence for line in found.lines},
        "notes": list(found.notes),
    }
    if not table.positives or table.positives == table.n:
        return kept
    for name, result in found.bench.results(cohort.names).items():
        area = result.measures["auc"]
        kept[name] = {"auc": area.value, "auc_low": area.low, "auc_high": area.high}
    for row in operating_rows(table, cohort.thresholds):
        kept[row.name] |= {"sensitivity": row.sensitivity, "specificity": 1 - row.false_positive_rate}
    if found.is_compared:
        (pair,) = found.bench.pairs((CANDIDATE, LIVE))
        kept["auc_difference"] = {"value": pair.difference, "low": pair.low, "high": pair.high, "p": pair.p}
    return kept


def _scores_of_live(
    db: Database, job_id: int, live: Card, scores: pd.DataFrame
) -> tuple[pd.DataFrame | None, Mapping[str, Any]]:
    """The live model's scores of at least one of these cases, and the measured speeds."""
    short = live.weights_sha256[:8]
    path, speeds = beside_dir(db, job_id) / f"{short}.test_scores.csv", beside_dir(db, job_id) / f"{short}.json"
    if path.is_file() and speeds.is_file():
        kept = pd.read_csv(path, dtype={"case": str, "patient": str, "label": str})
        return kept, json.loads(speeds.read_text(encoding="utf-8"))
    own = read_test_scores(live)
    if own is None or not set(own["case"]) & set(scores["case"]):
        return None, {}
    return own, {}


def _seen(
    db: Database,
    bench: Workbench,
    candidate: Card,
    version: VersionRow,
    live: Card | None,
    live_scores: pd.DataFrame | None,
) -> tuple[dict[str, int], list[str]]:
    """How many of the compared cases each model was trained on, by content and by patient; and what is not known."""
    used, notes = set(bench.cohort.table.cases), []
    seen = {}
    if "folds" not in candidate.raw:  # in folds every case was scored by a network that had not seen it
        seen[CANDIDATE] = _shared(_cases(db, version), used, is_whole=False)
    if live is not None and live_scores is not None and not ("folds" in live.raw and "fold" in live_scores):
        trained_on = _version_of_weights(db, live.weights_sha256)
        if trained_on is None:
            notes.append(
                "What the live model was trained on is not kept on this site (it was shipped), so it cannot be told "
                "by content whether it has seen these test cases. Its card names its data."
            )
        else:
            seen[LIVE] = _shared(_cases(db, trained_on), used, is_whole="folds" in live.raw, tested=_cases(db, version))
    return seen, notes


def _shared(cases: pd.DataFrame, used: set[str], *, is_whole: bool, tested: pd.DataFrame | None = None) -> int:
    """How many of `used` were trained or chosen on: the same content, or the same patient.

    is_whole: every case was trained on. tested: where the used cases' patients stand, by default among `cases`.
    """
    if cases.empty:
        return 0
    trained = cases if is_whole or "split" not in cases else cases[cases["split"] != "test"]
    files = set(trained["case"]) & used
    tested = cases if tested is None else tested
    if "patient" not in trained or "patient" not in tested:
        return len(files)
    patients = set(trained["patient"]) - {""}
    of_patients = tested[tested["case"].isin(used) & tested["patient"].isin(patients)]
    return len(files | set(of_patients["case"]))


def _cases(db: Database, version: VersionRow) -> pd.DataFrame:
    """The manifest of a version with its files as `case`; empty where it is gone."""
    path = data_sets.manifest_path(db.settings, version.manifest_sha256)
    if not path.is_file():
        return pd.DataFrame()
    rows = list(csv.DictReader(io.StringIO(path.read_text(encoding="utf-8"))))
    return pd.DataFrame(rows).rename(columns={"file": "case"}).fillna("")


def _version_of_job(connection: Connection, job_id: int) -> VersionRow:
    version_id = connection.execute(select(tables.job.c.version_id).where(tables.job.c.id == job_id)).scalar_one()
    return data_sets.find_version(connection, version_id)


def _version_of_weights(db: Database, weights_sha256: str) -> VersionRow | None:
    with db.read() as connection:
        done = connection.execute(select(tables.job.c.id, tables.job.c.result).where(tables.job.c.state == "done"))
        made = [row.id for row in done if row.result and row.result.get("weights_sha256") == weights_sha256]
        return _version_of_job(connection, made[0]) if made else None
