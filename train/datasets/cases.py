"""From a manifest to the cases of one training run: labels, split or folds, what the audit says of them, and what they
can be grouped by beside their scores (view, density, size of the lesion).

Loads no TensorFlow.
"""

from __future__ import annotations

import hashlib
import logging
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from PIL import Image as Raster

from core.errors import InvalidInput
from core.evaluation.tables.cells import require_positive_apart
from core.imaging.masks import lesion_grey
from core.models.cards import Card
from core.types import Modality
from train.datasets.leakage import LEAK, Finding, check_leakage, with_split
from train.datasets.manifest import Manifest
from train.datasets.split import SPLITS, fold_cases, split_cases, split_of_model, units_of

log = logging.getLogger(__name__)

_GIVEN = "split"
"""In place of the column that a split was made by: the manifest brought its split."""
UNUSABLE = ("missing files", "unreadable files")
"""Checks of the audit that training cannot go on with."""
LESION_SIZE = "lesion_size"
_NOT_OF_THE_CASE = frozenset(
    {"file", "label", "patient", "patient_key", "group", "exam", "split", "fold", "mask", "note", "licence", "modality"}
)
_MOST_VALUES = 12
_SHARES = {"under 2 % of the picture": 0.02, "2 to 10 % of the picture": 0.1, "over 10 % of the picture": np.inf}


@dataclass(frozen=True, slots=True)
class Prepared:
    """What is trained on.

    cases: the manifest's rows with `label` (one of `classes`), `patient_key` (what the bootstrap draws) and `split`, or
    `fold` (0 to n - 1) where `folds` > 0. leaks: what the audit found, () where the split is clean.
    """

    manifest: Manifest
    cases: pd.DataFrame
    classes: tuple[str, ...]
    positive: str
    folds: int
    split_by: str
    leaks: tuple[Finding, ...]


def prepare(
    manifest: Manifest,
    modality: Modality,
    *,
    positive: str | None = None,
    seed: int = 0,
    folds: int = 0,
    by: str | None = None,
    like: Card | None = None,
    allow_leaks: bool = False,
) -> Prepared:
    """Label, split and audit. The audit judges the split that is trained on, whoever made it.

    by: the one column that keeps cases together when the split is made here (default: all that say so). like: the model
    whose split is taken up again. Raises `InvalidInput` for a split that leaks, unless `allow_leaks`.
    """
    for remark in manifest.remarks:
        log.warning("%s", remark)
    cases, classes, positive = labelled(manifest, modality, positive)
    cases, by = divided(cases, seed=seed, folds=folds, by=by, like=like)
    cases["patient_key"] = patient_keys(cases)
    judged = cases.assign(split=[f"fold {number}" for number in cases["fold"]]) if folds else cases
    findings = check_leakage(replace(manifest, cases=judged)).findings
    unusable = [finding.sentence for finding in findings if finding.check in UNUSABLE]
    if unusable:
        raise InvalidInput(f"{' '.join(unusable)} Mend or leave out these rows; `python -m train audit` names them.")
    leaks = tuple(finding for finding in findings if finding.severity == LEAK)
    if leaks and not allow_leaks:
        raise InvalidInput(
            f"The split leaks, so its numbers would be too good. {' '.join(finding.sentence for finding in leaks)} "
            "Split by patient or group with `python -m train split --look-alikes`, or say --allow-leaks: the card then "
            "tells it for ever."
        )
    _require_every_label(judged, positive)
    words = "the manifest's own split" if leaks and by == _GIVEN else _split_text(cases, by, folds)
    return Prepared(manifest, cases, classes, positive, folds, words, leaks)


def labelled(manifest: Manifest, modality: Modality, positive: str | None) -> tuple[pd.DataFrame, tuple[str, ...], str]:
    """The cases, the classes in the order of the network's answers, and the positive class."""
    cases = manifest.cases.copy()
    labels = sorted(cases["label"].unique())
    if positive is None:
        positive = next((name for name in ("malignant", "idc") if name in labels), None)
    if positive is None or positive not in labels:
        raise InvalidInput(f"Say with --positive which label counts as positive. Labels: {', '.join(labels)}.")
    require_positive_apart(labels, positive)
    if len(labels) < 2:
        raise InvalidInput(f"Training needs at least two classes; the manifest has only {labels[0]}.")
    if modality is Modality.MAMMOGRAPHY and len(labels) > 2:
        # The question of a mammogram is "malignant or not": normal and benign are one answer.
        cases["label"] = np.where(cases["label"] == positive, positive, f"not_{positive}")
        labels = sorted(cases["label"].unique())
    if len(labels) == 2:  # one logit speaks for the second class
        labels = [next(name for name in labels if name != positive), positive]
    return cases, tuple(labels), positive


def data_of(prepared: Prepared) -> dict[str, Any]:
    """What the card says of the data."""
    cases, manifest = prepared.cases, prepared.manifest
    splits = {"test": cases} if prepared.folds else {name: cases[cases["split"] == name] for name in SPLITS}
    return {
        "name": ", ".join(sorted(set(cases["source"]))) if "source" in cases else "unnamed",
        "sha256": manifest.sha256,
        "split_sha256": split_sha256(cases),
        "n": len(cases),
        "splits": {
            name: {label: int(n) for label, n in part["label"].value_counts().items()} for name, part in splits.items()
        },
        **({"folds": prepared.folds} if prepared.folds else {}),
        "patients": int(cases["patient_key"].nunique()),
        "split_by": prepared.split_by,
        "leaks": [{"check": leak.check, "n": leak.n, "sentence": leak.sentence} for leak in prepared.leaks],
        "left_out": {key: int(value) for key, value in manifest.left_out.items() if value},
        "licence": "; ".join(sorted(set(cases["licence"]))) if "licence" in cases else "",
    }


def split_sha256(cases: pd.DataFrame) -> str:
    """Over which case is in which split or fold, in any order of rows: the same division gives the same hash."""
    column = "fold" if "fold" in cases else "split"
    rows = sorted(f"{file}\t{part}" for file, part in zip(cases["file"], cases[column], strict=True))
    return hashlib.sha256("\n".join(rows).encode()).hexdigest()


def fold_splits(cases: pd.DataFrame, fold: int, folds: int) -> pd.Series:
    """ "train", "validation" or "test" for each case in one fold: the next fold validates, the others train."""
    names = {fold: "test", (fold + 1) % folds: "validation"}
    return cases["fold"].map(lambda number: names.get(int(number), "train")).rename("split")


def divided(
    cases: pd.DataFrame, *, seed: int = 0, folds: int = 0, by: str | None = None, like: Card | None = None
) -> tuple[pd.DataFrame, str | None]:
    """The cases with `fold` or `split`, and the column it was made by. Folds that a split is not made of are left out:
    cases with `fold` are taken for those of a model in folds."""
    if folds:
        return cases.assign(fold=_folds(cases, folds, seed, by)), by
    cases = cases.drop(columns="fold", errors="ignore")
    if like is not None:
        return cases.assign(split=split_of_model(cases, like)), None
    return split_for_training(cases, seed, by)


def split_for_training(cases: pd.DataFrame, seed: int, by: str | None = None) -> tuple[pd.DataFrame, str | None]:
    """The cases with a complete `split`, their own or a seeded one, and the column it was made by."""
    named, has_split = with_split(cases)
    if by is None and has_split and named["split"].isin(SPLITS).all():
        cases, by = named, _GIVEN
    else:
        cases = cases.assign(split=split_cases(cases, seed=seed, by=by))
    missing = [name for name in SPLITS if (cases["split"] == name).sum() == 0]
    if missing:
        raise InvalidInput(f"There is no case in: {', '.join(missing)}. More patients are needed.")
    return cases.reset_index(drop=True), by


def _folds(cases: pd.DataFrame, folds: int, seed: int, by: str | None) -> pd.Series:
    if folds < 3:
        raise InvalidInput("--folds must be 3 or more: one part is tested, one validates, the rest train.")
    if by is None and "fold" in cases and set(cases["fold"]) == {str(number) for number in range(folds)}:
        return cases["fold"].astype(int)
    return fold_cases(cases, folds, seed, by=by)


def _require_every_label(cases: pd.DataFrame, positive: str) -> None:
    """Of the test cases only that some are positive and some are not: a rare kind of the others may be missing."""
    for name, part in cases.groupby("split"):
        lacking = set(cases["label"]) - set(part["label"])
        if lacking and (name != "test" or positive in lacking or set(part["label"]) == {positive}):
            raise InvalidInput(f"No case of {', '.join(sorted(lacking))} is in: {name}. More patients are needed.")


def patient_keys(cases: pd.DataFrame) -> pd.Series:
    """A name for each case, equal for those that belong together: the first one's patient, else group, else file."""
    named = pd.Series("", index=cases.index)
    for column in ("patient", "group", "file"):
        if column in cases:
            named = named.where(named != "", cases[column])
    return named.groupby(units_of(cases)).transform("first")


def _split_text(cases: pd.DataFrame, by: str | None, folds: int) -> str:
    if by is None or by == _GIVEN:
        columns = [name for name in ("group", "patient") if name in cases and (cases[name] != "").any()]
        words = "group of near-duplicates" if columns[:1] == ["group"] else columns[0] if columns else "file"
    else:
        words = {"file": "image, whatever it shows", "group": "group of near-duplicates"}.get(by, by)
    return f"{words}, {folds} folds" if folds else words


def with_subgroups(
    scores: pd.DataFrame, cases: pd.DataFrame, root: Path, *, always: Sequence[str] = ()
) -> pd.DataFrame:
    """The scores, one row a `case`, with what the manifest's cases (column `file`) can be grouped by.

    Columns of words with two to twelve different values among these cases, and the size of the lesion where outlines
    are at hand. A column with a value that one patient alone has is left out: it could name that patient, and tables of
    scores leave the house. Columns of numbers are left out: a table of scores would take them for a scorer. always:
    columns that tell something although they hold one value only, such as which collection this is.
    """
    own = cases.drop_duplicates("file").set_index("file").reindex(scores["case"]).fillna("").astype(str)
    found = {
        column: own[column].to_numpy()
        for column in own.columns
        if column not in _NOT_OF_THE_CASE
        and column not in scores
        and _is_grouping(own[column], least=1 if column in always else 2)
        and (column in always or _is_shared(own[column], scores["patient"]))
    }
    if "mask" in own and LESION_SIZE not in scores:
        sizes = [lesion_size(root, mask, label) for mask, label in zip(own["mask"], own["label"], strict=True)]
        if _is_grouping(pd.Series(sizes)):
            found[LESION_SIZE] = np.array(sizes)
    return scores.assign(**found)


def lesion_size(root: Path, masks: str, label: str) -> str:
    """How much of the picture its lesions cover, in words; "none" for a normal picture, "" where nobody drew them.

    masks: files relative to root, with "|" between them. One that cannot be read counts as not drawn.
    """
    covered: np.ndarray | None = None
    for name in filter(None, masks.split("|")):
        try:
            with Raster.open(root / name) as raster:
                mask = np.asarray(lesion_grey(raster)) > 127
        except OSError:
            return ""
        covered = mask if covered is None or covered.shape != mask.shape else covered | mask
    if covered is None or not covered.any():
        return "none" if label == "normal" else ""
    share = float(covered.mean())
    return next(words for words, below in _SHARES.items() if share < below)


def _is_grouping(values: pd.Series, *, least: int = 2) -> bool:
    """Whether values say which group a case belongs to: words, few enough to be counted apart."""
    there = values[values != ""]
    is_number = pd.to_numeric(there, errors="coerce").notna()
    return bool(least <= there.nunique() <= _MOST_VALUES and not is_number.any())


def _is_shared(values: pd.Series, patients: pd.Series) -> bool:
    """Whether every value belongs to two patients or more. Both are in the order of the scores."""
    there = (values != "").to_numpy()
    counts = patients[there].astype(str).groupby(values.to_numpy()[there]).nunique()
    return bool(counts.min() >= 2)
