"""What a model's card says, as rows and sentences for the screen and for print."""

from __future__ import annotations

import math
from collections.abc import Mapping

from core.evaluation.statistics.ranked import N_BINS
from core.models.cards import WEAK_AUC, Card
from core.types import Estimate
from pages.parts.markdown import plain

HEADLINE_WORDS: Mapping[str, str] = {
    "auc": "Area under the ROC curve, positive class against the rest",
    "macro_auc": "Area under the ROC curve, mean over classes",
    "sensitivity_at_threshold": "Sensitivity at the threshold",
    "specificity_at_threshold": "Specificity at the threshold",
    "average_precision": "Average precision",
    "ece": f"Expected calibration error, {N_BINS} bins of equally many cases",
    "brier": "Brier score",
    "accuracy": "Accuracy over classes",
    "majority_accuracy": "Accuracy of always naming the most frequent class",
}
"""The measures worth a line, in order, and what people call them. Keys are those of
`core.evaluation.statistics.metrics`."""


def data_text(card: Card) -> str:
    """What the model learnt from, in one sentence."""
    data = card.data
    sizes = ", ".join(f"{sum(counts.values())} {split}" for split, counts in data.splits.items())
    total = f"{data.n} images" if data.n is not None else "an unknown number of images"
    patients = f" of {data.patients} patients or groups" if data.patients is not None else ""
    split_by = f", split by {data.split_by}" if data.split_by else ""
    return f"{data.name or 'unnamed data'}: {total}{patients}{split_by} ({sizes})"


def split_rows(card: Card) -> list[dict[str, str | int]]:
    """One row a split: how many cases of each class."""
    return [
        {"Split": split, **{name: counts.get(name, 0) for name in card.classes}, "All": sum(counts.values())}
        for split, counts in card.data.splits.items()
    ]


def fact_rows(card: Card) -> list[tuple[str, str]]:
    """Name and value, in the order a reader asks: what it reads, what it is, what it came from."""
    fitted = card.calibration
    left_out = ", ".join(f"{count} {reason}" for reason, count in card.data.left_out.items())
    rows = [
        ("Reads", f"{card.modality}; classes {', '.join(card.classes)}; positive class {card.positive}"),
        ("Graph", card.description or card.architecture),
        ("Input", f"{card.side} x {card.columns} pixels; {card.input.preprocessing}"),
        ("Learnt from", data_text(card)),
        ("Left out", left_out or "nothing"),
        ("Started from", card.initialisation or "not stated"),
        ("Training", _training_text(card.training.model_dump(exclude_unset=True))),
        ("Why these settings", card.training.why),
        ("Calibration", f"{fitted.method or 'not stated'}, fitted on {fitted.fitted_on or '?'}"),
        ("Licence of the data", card.data_licence or card.data.licence or "not stated"),
        ("Weights", f"sha256 {card.weights_sha256}, {card.weights.storage}"),
        ("Made", card.created or "not stated"),
    ]
    return [(name, value) for name, value in rows if value]


def _training_text(training: Mapping[str, object]) -> str:
    named = ("epochs", "best_epoch", "batch", "learning_rate", "seed")
    return ", ".join(f"{name.replace('_', ' ')} {training[name]}" for name in named if name in training)


def localisation_rows(card: Card) -> list[dict[str, str | int]]:
    """The pointing game: how often the map's peak lies inside the lesion's outline, beside the image's centre."""
    rows: list[dict[str, str | int]] = []
    for cases, result in card.localisation.items():
        row: dict[str, str | int] = {"Cases": cases, "Number": result.n}
        row |= {f"Map: {branch}": f"{100 * share:.0f} %" for branch, share in result.pointing_game.items()}
        rows.append(row | {"Centre of the image": f"{100 * result.image_centre:.0f} %"})
    return rows


def branch_rows(card: Card) -> list[dict[str, str | int]]:
    """What each branch of a network adds: the AUC without it, and by how much the whole is better."""
    return [
        {
            "Branch": plain(name),
            "AUC without it": _decimals(one.auc_without),
            "The whole is better by": f"{one.adds:+.3f} ({one.low:+.3f} to {one.high:+.3f})",
            "Test cases": one.n,
        }
        for name, one in card.branches.items()
    ]


def headline_text(measured: Mapping[str, Estimate]) -> dict[str, Estimate]:
    """The measures worth a line under the names people call them."""
    return {words: measured[key] for key, words in HEADLINE_WORDS.items() if key in measured}


def measure_rows(measured: Mapping[str, Estimate]) -> list[dict[str, str]]:
    """For a table: what, how much, between which limits, on how many cases."""
    return [
        {
            "Measure": plain(name.replace("_", " ")),
            "Value": _decimals(it.value),
            "95 % interval": _interval(it),
            "Cases": str(it.n),
        }
        for name, it in measured.items()
    ]


def _interval(measured: Estimate) -> str:
    if not measured.n:
        return "not defined"
    widened = f" ({measured.widened_text})" if measured.widened_text else ""
    return f"{_decimals(measured.low)} to {_decimals(measured.high)}{widened}"


def quality_notes(card: Card, measured: Mapping[str, Estimate]) -> list[str]:
    """What a reader of the numbers should be told besides them."""
    notes = []
    area, best = measured.get("auc"), measured.get("majority_accuracy")
    if area is not None and area.low <= WEAK_AUC:
        notes.append(
            "Weak: on these test cases the area under the ROC curve may be as low as "
            f"{area.low:.2f} (0.5 is chance). Do not lean on this model."
        )
    accuracy = measured.get("accuracy")
    if accuracy is not None and best is not None and accuracy.low <= best.value:
        notes.append("Its accuracy is not clearly better than always naming the most frequent class.")
    if area is not None and area.n < 200:
        notes.append(f"Only {area.n} test cases: read the intervals, not the values.")
    return notes


def _decimals(value: float) -> str:
    return "not defined" if math.isnan(value) else f"{value:.3f}"
