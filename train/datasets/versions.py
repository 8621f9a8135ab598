"""Versions of a data set: judged and kept once, never changed. Another split, or other cases, is another version."""

from __future__ import annotations

import hashlib
import io
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import pandas as pd

from core.errors import InvalidInput
from core.records import data_sets
from core.records.data_sets import VersionRow
from core.records.database.db import Database
from core.records.people.permissions import Actor, require_permission_now
from core.settings import Settings
from train.datasets.duplicates import Looks, grouped
from train.datasets.leakage import check_leakage
from train.datasets.manifest import Manifest
from train.datasets.near_duplicates import looks_of, parts_of, version_cases, write_pairs
from train.datasets.split import SPLITS, balanced_subset, fold_cases, split_cases, units_of
from train.datasets.staging import Progress

FOLDS_LEAST, FOLDS_MOST = 3, 10
TOGETHER, DROP_FIRST, DROP_SECOND, DROP_BOTH = "keep together", "drop left", "drop right", "drop both"
DECISIONS = (TOGETHER, DROP_FIRST, DROP_SECOND, DROP_BOTH)


@dataclass(frozen=True, slots=True)
class SplitRequest:
    """How to divide the cases anew. folds: 0 for 60/20/20. per_class: 0 for all cases, else so many of each label.

    Raises InvalidInput.
    """

    seed: int = 0
    folds: int = 0
    per_class: int = 0

    def __post_init__(self) -> None:
        if self.folds and not FOLDS_LEAST <= self.folds <= FOLDS_MOST:
            raise InvalidInput(f"There can be {FOLDS_LEAST} to {FOLDS_MOST} folds, or none for 60/20/20.")

    def to_json(self) -> dict[str, Any]:
        """What the version says of its split."""
        words: dict[str, Any] = {"kind": f"{self.folds} folds" if self.folds else "60/20/20", "seed": self.seed}
        words |= {"folds": self.folds} if self.folds else {}
        return words | ({"per_class": self.per_class} if self.per_class else {})


@dataclass(frozen=True, slots=True)
class Judged:
    """A version before it is one. manifest: the CSV that is kept. counts: part -> label -> cases. audit: as JSON."""

    manifest: bytes
    counts: dict[str, dict[str, int]]
    audit: Mapping[str, Any]


def split_anew(
    db: Database, actor: Actor, version_id: int, request: SplitRequest, *, progress: Progress = lambda *_: None
) -> int:
    """The cases of a version (or a balanced subset of them) divided anew, as a new version; its id.

    Raises NotAllowed, NotFound, InvalidInput.
    """
    require_permission_now(db, actor, "manage_data")
    row, cases, looks = _opened(db, actor, version_id, progress)
    if request.per_class:
        drawn = balanced_subset(cases, request.per_class, seed=request.seed)
        looks = looks.chosen(list(cases.index[cases["file"].isin(set(drawn["file"]))]))
        cases = drawn
    split = {**request.to_json(), "from": row.number}
    return _add(db, actor, row, divided(cases, request), looks, split, progress)


def settle_pairs(
    db: Database,
    actor: Actor,
    version_id: int,
    decisions: Mapping[tuple[str, str], str],
    *,
    progress: Progress = lambda *_: None,
) -> int:
    """What was decided on near-duplicates, (first, second) -> one of `DECISIONS`, as a new version; its id.

    Every other case stays where it is. What is kept together lies in one part afterwards: test before validation
    before train, so that nothing that was tested trains. Raises NotAllowed, NotFound, InvalidInput.
    """
    require_permission_now(db, actor, "manage_data")
    if not decisions or set(decisions.values()) - set(DECISIONS):
        raise InvalidInput("Decide at least one pair: keep together, or drop one.")
    row, cases, looks = _opened(db, actor, version_id, progress)
    known = {(cases["file"][pair.first], cases["file"][pair.second]): pair for pair in looks.pairs}
    if set(decisions) - set(known):
        raise InvalidInput("These are no near-duplicates of this version. Reload the page and decide again.")
    dropped = {pair[0] for pair, what in decisions.items() if what in (DROP_FIRST, DROP_BOTH)}
    dropped |= {pair[1] for pair, what in decisions.items() if what in (DROP_SECOND, DROP_BOTH)}
    joined = [known[pair] for pair, what in decisions.items() if what == TOGETHER]
    cases = _in_one_part(cases.assign(group=_groups(cases, [p.first for p in joined], joined)))
    stays = ~cases["file"].isin(dropped)
    looks = looks.chosen(list(cases.index[stays]))
    cases = cases[stays].reset_index(drop=True)
    if cases["label"].nunique() < 2:
        raise InvalidInput("Only one label would be left; a data set needs two labels at least.")
    split = {**row.split, "from": row.number, "together": len(joined), "dropped": len(dropped)}
    return _add(db, actor, row, cases, looks, split, progress)


def divided(cases: pd.DataFrame, request: SplitRequest) -> pd.DataFrame:
    """The cases with a new `split`, or a new `fold`; by patient, group and file, stratified, seeded."""
    cases = cases.drop(columns=[name for name in ("split", "fold") if name in cases])
    if request.folds:
        return cases.assign(fold=fold_cases(cases, request.folds, request.seed).astype(str))
    return cases.assign(split=split_cases(cases, seed=request.seed))


def judged(settings: Settings, cases: pd.DataFrame, looks: Looks) -> Judged:
    """The manifest as it is kept, its counts and what the audit finds."""
    text = io.StringIO()
    cases.to_csv(text, index=False, lineterminator="\n")
    lines = tuple(range(2, len(cases) + 2))
    parted = cases.assign(split=parts_of(cases))
    found = check_leakage(Manifest(parted, data_sets.files_dir(settings), {}, "", lines), looks=looks).to_json()
    return Judged(text.getvalue().encode("utf-8"), found["counts"], found)


def list_pairs(settings: Settings, made: Judged, cases: pd.DataFrame, looks: Looks) -> None:
    """Keep the near-duplicates beside a version that is there, so that nobody has to look for them again."""
    write_pairs(settings, hashlib.sha256(made.manifest).hexdigest(), list(cases["file"]), looks)


def _opened(db: Database, actor: Actor, version_id: int, progress: Progress) -> tuple[VersionRow, pd.DataFrame, Looks]:
    row, cases = version_cases(db, actor, version_id)
    return row, cases, looks_of(db.settings, row.manifest_sha256, cases, progress)


def _add(
    db: Database,
    actor: Actor,
    row: VersionRow,
    cases: pd.DataFrame,
    looks: Looks,
    split: Mapping[str, Any],
    progress: Progress,
) -> int:
    progress("Looking for leaks", 0.9)
    made = judged(db.settings, cases, looks)
    version_id = data_sets.add_version(
        db, actor, row.data_set_id, manifest=made.manifest, split=split, counts=made.counts, found=made.audit
    )
    list_pairs(db.settings, made, cases, looks)
    progress("Done", 1.0)
    return version_id


def _groups(cases: pd.DataFrame, firsts: list[int], joined: list[Any]) -> pd.Series:
    """The groups joined through these pairs; a new group is called by its first file, which no other group is."""
    group = cases["group"].copy() if "group" in cases else pd.Series("", index=cases.index)
    for first in firsts:
        group[first] = group[first] or f"alike-{cases['file'][first].rpartition('/')[2][:16]}"
    return grouped(cases.assign(group=group), joined)


def _in_one_part(cases: pd.DataFrame) -> pd.DataFrame:
    """What belongs together moved into one part: the most held back of a split, the first of folds."""
    column = "split" if "split" in cases else "fold"  # as `parts_of`
    order = {name: place for place, name in enumerate(reversed(SPLITS))} if column == "split" else {}
    part = cases[column].copy()
    for _, members in part.groupby(units_of(cases)):
        if members.nunique() > 1:
            part[members.index] = min(members, key=lambda name: (order.get(name, 9), name))
    return cases.assign(**{column: part})
