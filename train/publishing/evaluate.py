"""A fitted model judged on a manifest: which cases, what they are called, their scores, and every measure of them."""

from __future__ import annotations

import logging
from collections.abc import Collection, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import pandas as pd

from core.errors import InvalidInput, NotFound
from core.evaluation.statistics.intervals import N_RESAMPLES, Bootstrap, percentile
from core.evaluation.statistics.metrics import evaluate_threshold, majority_accuracy
from core.evaluation.statistics.summary import TableResult, evaluate_table
from core.evaluation.tables.scores import ClassScores, ScoreTable
from core.models.calibration import log_odds
from core.models.card_cases import read_cases
from core.models.cards import Card, case_thresholds, members_of, read_test_scores
from core.models.ensemble import Ensemble
from core.types import Estimate, Modality
from train.datasets.cases import patient_keys, with_subgroups
from train.datasets.duplicates import sha256_of
from train.datasets.leakage import with_split
from train.datasets.manifest import Manifest

if TYPE_CHECKING:
    from core.models.architectures import Graph

log = logging.getLogger(__name__)

POSITIVE_WORDS = frozenset({"malignant", "cancer", "idc", "1"})
NEGATIVE_WORDS = frozenset(
    {"benign", "normal", "no finding", "not_malignant", "non_idc", "non-cancer", "negative", "0"}
)
_TELLING = ("source", "magnification", "view", "laterality")
"""Columns that are kept beside the scores of another data set although they hold one value only."""
IN_FOLDS = "fold"
"""Of a case that a model measured in folds was made from: its weights have learnt from it."""
CHUNK = 256
SAME_SCORE = 5e-3
"""Scores of two machines, or of two number formats, differ less than this."""


@dataclass(frozen=True, slots=True)
class Selection:
    """The cases to judge. is_own: they are the model's own test cases. stored: their scores, where those must do.
    n_seen: how many of them the model has learnt from or was chosen by, or may have."""

    cases: pd.DataFrame
    is_own: bool = False
    stored: pd.DataFrame | None = None
    notes: tuple[str, ...] = ()
    n_seen: int = 0


@dataclass(frozen=True, slots=True)
class Evaluation:
    """result: one scorer, named as the model. scores: one row a case, as a card's test scores are. is_stored: they are
    the card's, and nothing was computed."""

    card: Card
    result: TableResult
    scores: pd.DataFrame
    split: str
    data_sha256: str
    is_own: bool
    notes: tuple[str, ...]
    n_seen: int = 0
    is_stored: bool = False


def evaluate(
    card: Card, manifest: Manifest, *, split: str = "test", labels: Mapping[str, str] | None = None, seed: int = 0
) -> Evaluation:
    """Score the cases of one split and measure. labels: what labels of the manifest are called by the model."""
    selection = select(card, manifest, split)
    called = as_classes(card, selection.cases["label"], labels or {})
    cases = selection.cases.assign(label=called, patient_key=patient_keys(selection.cases))
    scores = selection.stored if selection.stored is not None else score(card, cases, manifest.root)
    if not selection.is_own:
        scores = with_subgroups(scores, cases, manifest.root, always=_TELLING)
    result = measure(card, scores, sha256=manifest.sha256, seed=seed)
    notes = selection.notes if result.scorers[0].classes else (*selection.notes, _binary_only(card, scores))
    is_stored = selection.stored is not None
    return Evaluation(
        card, result, scores, split, manifest.sha256, selection.is_own, notes, selection.n_seen, is_stored
    )


# ---- which cases -------------------------------------------------------------------------------------------------


def select(card: Card, manifest: Manifest, split: str) -> Selection:
    """The cases of that split ("all" for every row), never silently those that the model was trained on.

    A manifest without a split is another data set, all of it measured, unless it holds the model's own test cases: then
    only those are. A model that was measured in folds has seen all its own cases; their out-of-fold scores stand. Own
    cases have the names of those and, where their files are there, the content (`read_cases`).
    """
    stored = read_test_scores(card)
    tested = set() if stored is None else set(stored["case"])
    known = known_splits(card, manifest, tested)
    others = _of_other_content(card, manifest, known)
    known = {file: name for file, name in known.items() if file not in others}
    split_of = manifest.cases["file"].map(known)
    is_own_data = bool(tested) and tested <= set(manifest.cases["file"]) - others
    if stored is not None and "fold" in stored and is_own_data and split in ("test", "all"):
        chosen = manifest.cases[manifest.cases["file"].isin(tested)].reset_index(drop=True)
        note = "These are the model's own cases: each has the score of the fold's network that did not train on it."
        stored = stored.set_index("case").loc[list(chosen["file"])].reset_index()
        notes = (note, *_others_left_out(len(manifest.cases) - len(chosen)))
        return Selection(chosen, is_own=True, stored=stored, notes=notes)
    cases, has_split = with_split(manifest.cases)
    notes_here = _like_named(len(others))
    if split == "all":
        chosen = cases
    elif has_split:
        chosen = cases[cases["split"] == split]
    elif is_own_data:
        chosen = cases[split_of.isin([IN_FOLDS] if card.data.folds else [split])]
        notes_here.append("The manifest has no split and holds the model's own cases: its own split is taken.")
        notes_here += _others_left_out(int(split_of.isna().sum()))
    else:
        chosen = cases
        notes_here.append("The manifest has no split: all its cases are measured.")
    if chosen.empty:
        raise InvalidInput(f"No case of the manifest is in the split {split!r}. Choose another with --split.")
    n_seen = int(chosen["file"].map(known).isin(["train", "validation", IN_FOLDS]).sum())
    if n_seen:
        notes_here.append(f"{n_seen} of these cases were used in training or in choosing: the numbers are too good.")
    is_own = is_own_data and set(chosen["file"]) == tested
    n_seen += int(chosen["file"].isin(others).sum())
    return Selection(chosen.reset_index(drop=True), is_own, notes=tuple(notes_here), n_seen=n_seen)


def known_splits(card: Card, manifest: Manifest, tested: Collection[str]) -> dict[str, str]:
    """file -> "train", "validation" or "test" of those that the model was made from, "fold" where it was measured in
    folds, whose weights have learnt from all of them.

    Told by the file's name in its scores, and by the hash of the file wherever it lies now and whatever it is called.
    """
    files = manifest.cases["file"]
    table, validated = read_cases(card), _validation_cases(card)
    of_hash = {} if table is None else dict(zip(table["sha256"], table["split"], strict=True))
    is_own_data = bool(tested) and set(tested) <= set(files)
    known = {}
    for file in files:
        path = manifest.root / file
        if file in tested or file in validated:
            known[file] = "test" if file in tested else "validation"
        elif of_hash and path.is_file():
            if (digest := sha256_of(path)) in of_hash:
                known[file] = of_hash[digest].partition(" ")[0]
        elif is_own_data:  # nothing else says whether it was trained on
            known[file] = "train"
    if card.data.folds:
        return dict.fromkeys(known, IN_FOLDS)
    return known


def _of_other_content(card: Card, manifest: Manifest, known: Collection[str]) -> set[str]:
    """Those of the known names whose files are there and are none that the model was made from."""
    table = read_cases(card)
    hashes = set() if table is None else {"", *table["sha256"]}
    return {file for file in known if hashes and sha256_of(manifest.root / file) not in hashes}


def _like_named(n: int) -> list[str]:
    said = f"{n} files are called like cases of the model and have other content: it may have learnt from them or not."
    return [said] if n else []


def _others_left_out(n: int) -> list[str]:
    return [f"{n} cases of the manifest are none of the model's own and are left out: measure them alone."] if n else []


def as_classes(card: Card, labels: pd.Series, named: Mapping[str, str]) -> pd.Series:
    """The labels in the model's words; a label that stays outside its classes counts as negative and as no class.

    Two-class models know usual words for their classes ("benign" is "not_malignant" to one, "non_idc" to another).
    """
    strange = [value for value in named.values() if value not in card.classes]
    if strange:
        raise InvalidInput(f"The model has no class {strange[0]!r}. Its classes: {', '.join(card.classes)}.")
    found: dict[str, str] = {}
    for label in sorted(set(labels)):
        word = label.strip().lower()
        if label in named:
            found[label] = named[label]
        elif label in card.classes:
            found[label] = label
        elif word in POSITIVE_WORDS or word == card.reported_as:
            found[label] = card.positive
        elif word in NEGATIVE_WORDS:
            others = [name for name in card.classes if name != card.positive]
            found[label] = others[0] if len(others) == 1 else f"not_{card.positive}"
        else:
            raise InvalidInput(
                f"The model knows no label {label!r}. Its classes: {', '.join(card.classes)}. Say with --label "
                f"{label!r}=CLASS which one it is, or leave such cases out with --where."
            )
    return labels.map(found)


def _validation_cases(card: Card) -> set[str]:
    path = card.folder / f"{card.weights_sha256[:8]}.validation_scores.csv"
    return set(pd.read_csv(path, usecols=["case"], dtype=str)["case"]) if path.is_file() else set()


# ---- scores ------------------------------------------------------------------------------------------------------


def score(card: Card, cases: pd.DataFrame, root: Path) -> pd.DataFrame:
    """case, patient, label, then a calibrated probability a class, computed in float32 from the shipped weights."""
    table = pd.DataFrame({"case": cases["file"], "patient": cases["patient_key"], "label": cases["label"]})
    probabilities = card.calibration.probabilities(_logits(card, cases, root))
    return table.assign(**{name: probabilities[:, index].round(6) for index, name in enumerate(card.classes)})


def _logits(card: Card, cases: pd.DataFrame, root: Path) -> np.ndarray:
    members = members_of(card)
    if members:
        each = [member.calibration.probabilities(_logits(member, cases, root)) for member in members]
        return log_odds(
            Ensemble.from_card(card.ensemble.model_dump() if card.ensemble else {}).probabilities(np.stack(each))
        )
    return _logits_of_network(card, cases, root)


def _logits_of_network(card: Card, cases: pd.DataFrame, root: Path) -> np.ndarray:
    from train.fitting.fit import logits_of
    from train.fitting.network import compiled
    from train.fitting.squares import bits_of_cases, load_squares

    absent = sum(not (root / file).is_file() for file in cases["file"])
    if absent:
        raise NotFound(
            f"{absent} of {len(cases)} files are not there. Check --root, the folder that they are relative to."
        )
    forward = compiled(graph_of(card).model)
    bits = bits_of_cases(cases, root)  # of all of them: a patient's pictures may lie in two chunks
    logits = []
    for begin in range(0, len(cases), CHUNK):
        # Labels do not matter for the answer, and need not be classes of the model.
        part = cases.iloc[begin : begin + CHUNK].assign(label=card.positive, split="", mask="")
        squares = load_squares(
            part, root, modality=card.modality, side=card.side, classes=card.classes, positive=card.positive,
            columns=card.input.columns, chest_wall=card.input.chest_wall, channels=card.channels,
            bits=bits[begin : begin + CHUNK],
        )  # fmt: skip
        logits.append(logits_of(forward, squares.pixels))
        log.info("%d of %d cases scored", min(begin + CHUNK, len(cases)), len(cases))
    return np.concatenate(logits)


def graph_of(card: Card) -> Graph:
    """A published network in float32, as it was trained and not as this machine reads fastest."""
    from core.models.registry import architecture
    from core.models.weights import load_state, read_shards

    outputs = 1 if len(card.classes) == 2 else len(card.classes)
    graph: Graph = architecture(card.architecture).build(
        side=card.side, channels=card.channels, outputs=outputs, columns=card.columns
    )
    load_state(graph.model, read_shards(card.folder, card.weights_files, card.weights_sha256))
    return graph


def difference(card: Card, scores: pd.DataFrame) -> float | None:
    """The largest distance between these scores and the stored ones of the same cases; None where none are stored."""
    stored = read_test_scores(card)
    if stored is None:
        return None
    both = scores.merge(stored, on="case", suffixes=("", "_stored"))
    return float((both[card.positive] - both[f"{card.positive}_stored"]).abs().max())


def scores_path(card: Card, data_sha256: str, split: str) -> Path:
    """Where scores on another data set are kept: beside the card's own, never in their place."""
    part = "" if split == "test" else f"-{split}"
    return card.folder / f"{card.weights_sha256[:8]}.on-{data_sha256[:8]}{part}.test_scores.csv"


def scores_elsewhere(card: Card) -> list[Path]:
    """The files that `scores_path` names, of these weights."""
    return sorted(card.folder.glob(f"{card.weights_sha256[:8]}.on-*.test_scores.csv"))


# ---- measures ----------------------------------------------------------------------------------------------------


def measure(card: Card, scores: pd.DataFrame, *, sha256: str = "", seed: int = 0) -> TableResult:
    """Every measure of `core metrics`, those at the card's threshold, and for tiles the patient score."""
    labels, patients = scores["label"].to_numpy(str), scores["patient"].to_numpy(str)
    probabilities = scores[list(card.classes)].to_numpy(np.float64)
    positive = scores[card.positive].to_numpy(np.float64)
    is_positive = labels == card.positive
    table = ScoreTable(
        cases=scores["case"].to_numpy(str),
        patients=patients,
        labels=labels,
        positive=card.positive,
        is_positive=is_positive,
        scorers={card.model_id: positive},
        # Measures over classes need cases of each class, and no others.
        class_scorers={card.model_id: ClassScores(card.classes, probabilities)}
        if set(labels) == set(card.classes)
        else {},
        sha256=sha256,
    )
    result = evaluate_table(table, seed=seed)
    called = positive >= case_thresholds(card, scores)
    measures = {
        "majority_accuracy": majority_accuracy(is_positive, patients),  # of the classes, where those are measured
        **result.scorers[0].measures,
        **evaluate_threshold(is_positive, positive, case_thresholds(card, scores), patients),
    }
    if card.modality is Modality.HISTOLOGY and len(set(patients)) < len(patients):
        right = probabilities.argmax(axis=1) == card.positive_index
        measures |= patient_scores(scores, right == is_positive, called == is_positive, seed)
    return replace(result, scorers=(replace(result.scorers[0], measures=measures),))


def patient_scores(
    scores: pd.DataFrame, right: np.ndarray, right_at_threshold: np.ndarray, seed: int = 0
) -> dict[str, Estimate]:
    """BreakHis's own measure (Spanhol et al. 2016), for all tiles and for each magnification: see `patient_score`."""
    patients = scores["patient"].to_numpy(str)
    found = {
        "patient_score": patient_score(right, patients, seed),
        "patient_score_at_threshold": patient_score(right_at_threshold, patients, seed),
    }
    if "magnification" in scores:
        magnification = scores["magnification"].to_numpy(str)
        for name in sorted(set(magnification) - {""}):
            chosen = magnification == name
            found[f"patient_score_{name}"] = patient_score(right[chosen], patients[chosen], seed)
    return found


def patient_score(right: np.ndarray, patients: np.ndarray, seed: int = 0) -> Estimate:
    """The mean over patients of the share of a patient's tiles that were called rightly; n counts patients.

    right: (n,) bool. The interval draws patients.
    """
    names, index = np.unique(patients, return_inverse=True)
    shares = np.bincount(index, right) / np.bincount(index)
    samples = [
        (weights * shares[:, None]).sum(0) / weights.sum(0)
        for weights in Bootstrap(None, len(names), resamples=N_RESAMPLES, seed=seed).blocks()
    ]
    return percentile(float(shares.mean()), np.concatenate(samples), len(names))


def _binary_only(card: Card, scores: pd.DataFrame) -> str:
    return (
        f"The cases are labelled {', '.join(sorted(set(scores['label'])))} and the model tells "
        f"{', '.join(card.classes)} apart: measured is {card.positive} against the rest only."
    )
