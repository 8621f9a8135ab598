"""The gate: a training's candidate beside the live model on the same test cases, and the promotion that follows.

The live model's scores of the candidate's test cases are those that were computed for it
(`train.publishing.score_live`, kept beside the candidate), or its own test scores where both were tested on the same
cases; those of folds come first, because its weights have learnt from these cases. What the two were trained on is
known from their lists of cases and from this site's data sets (`core.records.releases.promotion_check`); what is not
known is said.

Which of the compared test cases each model has seen, as far as its list of cases and this site's data sets tell.

A list (`core.models.card_cases`) tells the same picture and nearly the same one; patients are known only for what was
trained here, because lists name none.
"""

from __future__ import annotations

import csv
import io
import json
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import Any

import pandas as pd
from sqlalchemy import Connection, select

from core.errors import Conflict, ModelUnavailable, NotFound
from core.evaluation.cache import ComparisonCache
from core.evaluation.promotion import (
    CANDIDATE,
    LIVE,
    Circumstances,
    FailedCheck,
    Overlap,
    failed_checks,
    overlap,
    side_by_side,
)
from core.evaluation.statistics.operating_points import operating_rows
from core.models.card_cases import NEAR_DUPLICATE_BITS, read_cases
from core.models.cards import Card, leaks_of, promise_text, read_test_scores, runnable_cards
from core.models.live import candidate_dir
from core.records import data_sets, site_settings
from core.records.data_sets import VersionRow
from core.records.database import tables
from core.records.database.db import Database
from core.records.people.permissions import Actor, acting, require_permission_now
from core.records.releases import decisions
from core.settings import Settings
from core.types import Estimate

GROUPS = ("source", "view", "laterality", "magnification", "density")
"""Columns of a manifest that subgroups are made of."""


@dataclass(frozen=True, slots=True, eq=False)
class Examination:
    """Everything an administrator decides on.

    live: the model that the candidate would replace; where there is none, the live one of its kind of image that was
    chosen to stand beside it (`is_replaced` is False then), or None. live_sha256: what the candidate would replace,
    None for nothing. n_tested: the candidate's test cases, of which `bench` has those that both scored. is_scored: the
    live model has scores of all of them. speeds: scorer -> seconds an image, where measured. seen: scorer -> which of
    the compared cases its model was trained on, None where that cannot be told. notes: sentences that belong beside.
    """

    job_id: int
    candidate: Card
    live: Card | None
    live_sha256: str | None
    is_replaced: bool
    is_compared: bool
    is_scored: bool
    n_tested: int
    numbers: ComparisonCache
    speeds: Mapping[str, Any]
    seen: Mapping[str, Overlap | None]
    notes: tuple[str, ...]
    lines: tuple[FailedCheck, ...]


def reference_dir(db: Database, job_id: int) -> Path:
    """Where other models' scores of a candidate's test cases are kept: `<sha8>.test_scores.csv`, `<sha8>.json`."""
    return candidate_dir(db.settings, job_id) / "beside"


def reference_models(settings: Settings, candidate: Card) -> list[Card]:
    """The live models that a candidate can be compared with: the one it would replace, then others of its kind."""
    same_kind = [
        card
        for card in runnable_cards(settings)
        if card.modality is candidate.modality and card.weights_sha256 != candidate.weights_sha256
    ]
    return sorted(same_kind, key=lambda card: card.model_id != candidate.model_id)


def reference_choices(db: Database, actor: Actor, job_id: int) -> list[Card]:
    """The live models to choose from where a candidate would replace none. Raises NotAllowed, NotFound, Conflict."""
    with acting(db.read(), actor, "manage_releases") as (connection, _):
        candidate = decisions.find_candidate(db, connection, job_id)
    others = reference_models(db.settings, candidate)
    is_new = decisions.live_now(db, actor, candidate.model_id) is None
    return [card for card in others if card.model_id != candidate.model_id] if is_new else []


def examine(db: Database, actor: Actor, job_id: int, *, reference: str | None = None) -> Examination:
    """Compare a training's candidate with what is live now.

    beside: sha256 of the live weights to stand beside it, one of `reference_choices`; None for the first. A candidate
    that would replace live weights is compared with those. Raises NotAllowed, NotFound, Conflict, InvalidInput.
    """
    with acting(db.read(), actor, "manage_releases") as (connection, _):
        candidate = decisions.find_candidate(db, connection, job_id)
        version = version_of_job(connection, job_id)
    scores = read_test_scores(candidate)
    if scores is None or scores.empty:
        raise NotFound("The candidate comes without the scores of its test cases. Train it anew.")
    live_sha256 = decisions.live_now(db, actor, candidate.model_id)
    live = _chosen(reference_models(db.settings, candidate), live_sha256, reference)
    is_replaced = live is not None and live.weights_sha256 == live_sha256
    live_scores, speeds = (None, {}) if live is None else _scores_of_live(db, job_id, live, scores)
    cases = cases_of(db, version)
    groups = cases[["case", *(name for name in GROUPS if name in cases)]] if not cases.empty else None
    is_compared = live_scores is not None
    numbers = ComparisonCache(side_by_side(candidate, scores, live if is_compared else None, live_scores, groups))
    is_scored = is_compared and numbers.cohort.table.n == len(scores)
    other = (
        Party(LIVE, live, live_scores, version_of_weights(db, live.weights_sha256))
        if live is not None and live_scores is not None
        else None
    )
    seen, notes = seen_by(db, numbers.cohort.table.cases.tolist(), Party(CANDIDATE, candidate, scores, version), other)
    if is_compared and not is_scored:
        notes.append(
            f"Compared on {numbers.cohort.table.n} of the candidate's {len(scores)} test cases: the live model has no "
            "scores of the others."
        )
    leaks = list(leaks_of(candidate))
    if not leaks and version.is_leaking:
        leaks.append("as the audit of its data set found")
    margin = site_settings.current(db).sensitivity_margin_percent / 100
    area = candidate.measured
    measured = Estimate(area.auc, area.low, area.high, area.n) if area is not None else None
    circumstances = Circumstances(
        tuple(leaks), seen, is_replaced, is_compared, measured, live is not None, promise_text(candidate)
    )
    lines = failed_checks(numbers, circumstances, margin=margin)
    return Examination(
        job_id, candidate, live, live_sha256, is_replaced, is_compared, is_scored, len(scores), numbers, speeds,
        seen, tuple(notes), lines,
    )  # fmt: skip


def promote(
    db: Database,
    actor: Actor,
    job_id: int,
    *,
    live_sha256: str | None,
    reason: str,
    passed: Mapping[str, str],
    reference: str | None = None,
) -> None:
    """Let a training's candidate answer from the next read on, in place of the live weights of the same model.

    live_sha256: what the actor saw as live, None for nothing. passed: red line -> the written reason to pass it; every
    line that is crossed now needs one. beside: as `examine`, what the actor saw beside it. Raises NotAllowed, NotFound,
    InvalidInput, Conflict, ModelUnavailable.
    """
    require_permission_now(db, actor, "manage_releases")
    found = examine(db, actor, job_id, reference=reference)
    decisions.require_unchanged(found.live_sha256, live_sha256)
    reasons = decisions.reasons_to_pass(found.lines, passed)
    decisions._promote(
        db, actor, job_id, live_sha256=live_sha256, reason=reason, passed=reasons, evidence=evidence_of(found)
    )


def evidence_of(found: Examination) -> dict[str, Any]:
    """The numbers that are kept with the decision."""
    table, cohort = found.numbers.cohort.table, found.numbers.cohort
    retained: dict[str, Any] = {
        "cases": table.n,
        "positives": table.positives,
        "compared_with": {"model": found.live.model_id, "weights_sha256": found.live.weights_sha256}
        if found.live is not None and found.is_compared
        else None,
        "seen": {name: one.text if one is not None else None for name, one in found.seen.items()},
        "red_lines": {line.key: line.sentence for line in found.lines},
        "notes": list(found.notes),
    }
    if not table.positives or table.positives == table.n:
        return retained
    for name, result in found.numbers.results(cohort.names).items():
        area = result.measures["auc"]
        retained[name] = {"auc": area.value, "auc_low": area.low, "auc_high": area.high}
    for row in operating_rows(table, cohort.thresholds):
        retained[row.name] |= {"sensitivity": row.sensitivity, "specificity": 1 - row.false_positive_rate}
    if found.is_compared:
        (pair,) = found.numbers.pairs((CANDIDATE, LIVE))
        retained["auc_difference"] = {"value": pair.difference, "low": pair.low, "high": pair.high, "p": pair.p}
    return retained


def _chosen(others: list[Card], live_sha256: str | None, reference: str | None) -> Card | None:
    own = [card for card in others if card.weights_sha256 == live_sha256]
    if own or reference is None:
        if own and reference not in (None, live_sha256):
            raise Conflict("This candidate is compared with the live model that it would replace. Compare again.")
        return next(iter([*own, *others]), None)
    found = [card for card in others if card.weights_sha256 == reference]
    if not found:
        raise Conflict("The model that stood beside it has other weights by now. Look again, and compare again.")
    return found[0]


def _scores_of_live(
    db: Database, job_id: int, live: Card, scores: pd.DataFrame
) -> tuple[pd.DataFrame | None, Mapping[str, Any]]:
    """The live model's scores of at least one of these cases, and the measured speeds.

    A model that was measured in folds has learnt from all its cases in the end: where its own scores cover these, each
    by the network that had not seen the case, they stand before what its weights say of them.
    """
    short = live.weights_sha256[:8]
    path, told = reference_dir(db, job_id) / f"{short}.test_scores.csv", reference_dir(db, job_id) / f"{short}.json"
    is_computed = path.is_file() and told.is_file()
    speeds = json.loads(told.read_text(encoding="utf-8")) if is_computed else {}
    own = read_test_scores(live)
    if own is not None and "fold" in own and set(scores["case"]) <= set(own["case"]):
        return own, speeds
    if is_computed:
        return pd.read_csv(path, dtype={"case": str, "patient": str, "label": str}), speeds
    if own is None or not set(own["case"]) & set(scores["case"]):
        return None, {}
    return own, {}


_SHA256 = re.compile(r"[0-9a-f]{64}")


@dataclass(frozen=True, slots=True)
class Party:
    """One of the two models. name: "candidate" or "live". scores: of the compared cases. version: of the data set it
    was trained on here, else None."""

    name: str
    card: Card
    scores: pd.DataFrame
    version: VersionRow | None


def seen_by(
    db: Database, used: Sequence[str], candidate: Party, live: Party | None
) -> tuple[dict[str, Overlap | None], list[str]]:
    """For each model what it has seen of the cases `used`, None where that cannot be told; and what is not known."""
    notes: list[str] = []
    lists = {party.name: _listed(party, notes) for party in (candidate, live) if party is not None}
    tested = _tested(db, used, candidate, lists[candidate.name])
    if (tested["sha256"] == "").any():
        notes.append(
            f"{int((tested['sha256'] == '').sum())} of the {len(tested)} test cases do not lie in this site's store of "
            "data sets, so it cannot be told who has seen them."
        )
    found: dict[str, Overlap | None] = {}
    for party in (candidate, live):
        if party is not None:
            known = _known(db, party, lists[party.name], notes)
            is_told = known is not None and bool((tested["sha256"] != "").any())
            found[party.name] = _compared(tested, known, party) if is_told and known is not None else None
    return found, notes


def cases_of(db: Database, version: VersionRow | None) -> pd.DataFrame:
    """The manifest of a version with its files as `case`; empty where it is gone."""
    path = data_sets.manifest_path(db.settings, version.manifest_sha256) if version is not None else None
    if path is None or not path.is_file():
        return pd.DataFrame()
    rows = list(csv.DictReader(io.StringIO(path.read_text(encoding="utf-8"))))
    return pd.DataFrame(rows).rename(columns={"file": "case"}).fillna("")


def version_of_job(connection: Connection, job_id: int) -> VersionRow:
    """What a training was on, also where its data set was removed since."""
    version_id = connection.execute(select(tables.job.c.version_id).where(tables.job.c.id == job_id)).scalar_one()
    return data_sets.find_version(connection, version_id)


def version_of_weights(db: Database, weights_sha256: str) -> VersionRow | None:
    """What these weights were trained on, None where that was not here."""
    with db.read() as connection:
        done = connection.execute(select(tables.job.c.id, tables.job.c.result).where(tables.job.c.state == "done"))
        made = [row.id for row in done if row.result and row.result.get("weights_sha256") == weights_sha256]
        return version_of_job(connection, made[0]) if made else None


def _listed(party: Party, notes: list[str]) -> pd.DataFrame | None:
    try:
        return read_cases(party.card)
    except ModelUnavailable as damaged:
        notes.append(str(damaged))
        return None


def _tested(db: Database, used: Sequence[str], candidate: Party, listed: pd.DataFrame | None) -> pd.DataFrame:
    """A row a compared case, by `case`: its hashes, "" where unknown, and its patient."""
    table = pd.DataFrame({"case": list(used), "sha256": [_sha256(case) for case in used]})
    if listed is not None:
        table = table.merge(
            listed.drop_duplicates("sha256")[["sha256", "pixels_sha256", "perceptual_hash"]], on="sha256", how="left"
        )
    manifest = cases_of(db, candidate.version)
    if "patient" in manifest:
        table = table.merge(manifest[["case", "patient"]], on="case", how="left")
    return table.fillna("")


def _known(db: Database, party: Party, listed: pd.DataFrame | None, notes: list[str]) -> pd.DataFrame | None:
    """Every case the model was made from, with its `split`; None where there is neither a list nor a data set."""
    manifest = cases_of(db, party.version)
    if listed is None and manifest.empty:
        notes.append(
            f"It cannot be told whether the {party.name} model has seen these test cases: its folder does not list "
            "what it was trained on, and it was not trained here. The command python -m train cases makes the list "
            "from its data."
        )
        return None
    if listed is None:
        notes.append(
            f"The {party.name} model was made before models listed their cases: what it has seen is told by file and "
            "by patient, not by near-duplicates."
        )
        split = "fold " + manifest["fold"] if "fold" in manifest else manifest.get("split", "")
        return manifest.assign(sha256=manifest["case"].map(_sha256), split=split)
    if manifest.empty:
        notes.append(
            f"The {party.name} model's list of cases names no patients, so it cannot be told whether it has seen other "
            "pictures of the same ones."
        )
        return listed
    patients = manifest["patient"] if "patient" in manifest else [""] * len(manifest)
    by_file = dict(zip(manifest["case"].map(_sha256), patients, strict=True))
    return listed.assign(patient=listed["sha256"].map(by_file).fillna(""))


def _compared(tested: pd.DataFrame, known: pd.DataFrame, party: Party) -> Overlap:
    if "fold" in party.scores:  # each case was scored by the network of its fold, which had not seen that part
        fold = dict(zip(party.scores["case"], party.scores["fold"], strict=True))
        part = tested["case"].map(fold).map(lambda number: f"fold {number}")
        return overlap(tested.assign(part=part), known.assign(part=known["split"]), alike_bits=NEAR_DUPLICATE_BITS)
    return overlap(tested, known[known["split"] != "test"], alike_bits=NEAR_DUPLICATE_BITS)


def _sha256(case: str) -> str:
    """Files in the store are called by the hash of their bytes; "" for another name."""
    stem = PurePosixPath(case).stem
    return stem if _SHA256.fullmatch(stem) else ""
