"""`docs/results.md`, written from the cards and their scores: every figure is computed here, nobody types one.

Loads no TensorFlow.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pandas as pd

from core.evaluation.published import PublishedFigure, figures_of, published
from core.evaluation.statistics.comparison import compare_areas
from core.evaluation.statistics.intervals import Bootstrap
from core.models.cards import LEAKING, Card, leaks_of, read_test_scores, shipped_cards
from core.types import Estimate, Modality
from train.publishing.evaluate import measure, scores_elsewhere
from train.recipe.programme import BY_GROUP, BY_IMAGE, LESSON, PROGRAMME

HEAD = """# Results

Written by `python -m train results` from the cards and test scores in `weights/`. Do not edit it.

Every figure is of cases that the network was not trained on, with its 95 % interval in brackets: 2,000 bootstrap draws
of patients, or DeLong's where every patient has one case. AUC is of the positive class (malignant, or idc) against the
rest. ECE is the expected calibration error over 15 bins of equally many cases. "Widened": the draws alone would leave
the figure out of its interval; they lie to one side of it by so much on average. Epoch, calibration and threshold were
chosen on validation cases. What a figure is worth depends on the collection: see the last table.
"""

TITLES = {
    Modality.ULTRASOUND: "Ultrasound",
    Modality.MAMMOGRAPHY: "Mammography",
    Modality.HISTOLOGY: "Histology",
}
Measures = Mapping[str, Estimate]
NOT_RECORDED = "not recorded"
"""Of a published figure whose authors and address nobody wrote down."""


def results_page(weights_dir: Path) -> str:
    """The whole page as Markdown."""
    cards = [card for card in shipped_cards(weights_dir) if read_test_scores(card) is not None]
    measured = {card.model_id: measures_of(card) for card in cards}
    lines = [HEAD]
    for modality, title in TITLES.items():
        own = [card for card in cards if card.modality is modality and card.model_id not in lesson_ids()]
        lines += [f"## {title}", "", *_models(own, measured), ""]
    lines += ["## By hospital, device and breast", "", *parts_table(cards), ""]
    lines += ["## Beside what was published", "", *_published(cards, measured), ""]
    lines += [f"{other.what}: {other.words}.\n" for other in published().without_counterpart]
    lines += ["## On other collections", "", *_elsewhere(cards), ""]
    lines += ["## Two lessons", "", *_lessons({card.model_id: card for card in cards}, measured), ""]
    lines += ["## What figures to believe", "", *_ceilings()]
    return "\n".join(lines).rstrip() + "\n"


def measures_of(card: Card, scores: pd.DataFrame | None = None) -> Measures:
    """Every measure of the card's test scores, or of others that its model gave."""
    table = read_test_scores(card) if scores is None else scores
    return measure(card, table).scorers[0].measures if table is not None else {}


def as_text(estimate: Estimate | None) -> str:
    """ ".930 (.856-.983)"; a dash where there is none."""
    if estimate is None or not np.isfinite(estimate.value):
        return "-"
    widened = "" if estimate.bias is None else f", widened by {_short(abs(estimate.bias))}"
    return f"{_short(estimate.value)} ({_short(estimate.low)}-{_short(estimate.high)}{widened})"


def difference_text(first: Card, second: Card) -> str:
    """The difference of two models' areas on the cases that both scored, with interval and p."""
    scores = {card.model_id: read_test_scores(card) for card in (first, second)}
    one, other = scores[first.model_id], scores[second.model_id]
    if one is None or other is None:
        return ""
    both = one.merge(other, on="case", suffixes=("", "_other"))
    is_positive = (both["label"] == first.positive).to_numpy()
    if len(both) < 2 or is_positive.all() or not is_positive.any():
        return ""
    values = {
        first.model_id: both[first.positive].to_numpy(),
        second.model_id: both[f"{second.positive}_other"].to_numpy(),
    }
    (test,) = compare_areas(is_positive, values, Bootstrap(both["patient"].to_numpy(str), len(both)))
    return (
        f"On the {test.n} cases that both scored, the AUC of {first.model_id} minus that of {second.model_id} is "
        f"{test.difference:+.3f} ({test.low:+.3f} to {test.high:+.3f}, p {test.p:.2g})."
    )


def why(card: Card, figure: PublishedFigure) -> str:
    """One sentence on why our figure and the published one differ."""
    parts = [f"ours is of {card.data.name or 'other data'}, split by {card.data.split_by or 'patient'}"]
    if card.initialisation.startswith("random"):
        parts.append("from random weights")
    if figure.modality not in (card.modality.value, ""):
        parts.append(f"and {card.modality.value} instead of {figure.modality}")
    first = ", ".join(parts)
    return f"{first[0].upper()}{first[1:]}; {figure.reason}."


# ---- tables ------------------------------------------------------------------------------------------------------


def _models(cards: Sequence[Card], measured: Mapping[str, Measures]) -> list[str]:
    """A table for each collection and way of measuring: figures of different cases do not stand under one another."""
    if not cards:
        return ["Not trained yet."]
    by_cases: dict[tuple[str, int], list[Card]] = {}
    for card in cards:
        by_cases.setdefault((card.data.name, card.data.folds or 0), []).append(card)
    return [line for same in by_cases.values() for line in (*_on_one(same, measured), "")][:-1] + _missing(cards)


def _on_one(cards: Sequence[Card], measured: Mapping[str, Measures]) -> list[str]:
    rows = []
    for card in cards:
        own, counts = measured[card.model_id], card.data.cases_in("test")
        rows.append(
            (
                f"`{card.model_id}`{f' **{LEAKING}**' if leaks_of(card) else ''}",
                f"{sum(counts.values())} ({counts.get(card.positive, 0)})",
                as_text(own.get("auc")),
                as_text(own.get("macro_auc")) if len(card.classes) > 2 else "-",
                as_text(own.get("accuracy")),
                _short(own["majority_accuracy"].value),
                as_text(own.get("macro_f1")),
                as_text(own.get("ece")),
                _shipped(card),
            )
        )
    head = ("model", "test cases (positive)", "AUC", "macro-AUC", "accuracy", "majority", "macro-F1", "ECE", "weights")
    data = cards[0].data
    about = f"{data.name}: {data.n} images of {data.patients} patients or groups."
    if data.folds:
        about += f" Measured in {data.folds} folds: each case by a network that was not trained on it."
    return [about, "", *table(head, rows)]


def parts_table(cards: Iterable[Card]) -> list[str]:
    """Parts of a model's own test cases: each hospital and device of several, and breasts instead of their views."""
    rows = []
    for card in cards:
        scores = read_test_scores(card)
        if scores is None:
            continue
        parts = dict(_sources(card, scores))
        if card.modality is Modality.MAMMOGRAPHY and "laterality" in scores:
            breasts = breasts_of(card, scores)
            if len(breasts) < len(scores):
                parts |= {"single views": scores, "breasts: mean of their views": breasts}
        for name, part in parts.items():
            n_positive = int((part["label"] == card.positive).sum())
            own = measures_of(card, part)
            names = ("auc", "sensitivity_at_threshold", "specificity_at_threshold", "ece")
            against = _against_benign(card, part)
            values = (as_text(own.get("auc")), against, *(as_text(own.get(key)) for key in names[1:]))
            rows.append((f"`{card.model_id}`", name, f"{len(part)} ({n_positive})", *values))
    if not rows:
        return ["No model has test cases of several hospitals, or of breasts with several views."]
    head = ("model", "cases", "n (positive)", "AUC", "against benign alone")
    return [
        "Of the cases above, without training or choosing anything anew. Sensitivity and specificity are at the "
        "thresholds of the tables above, the same for every part. "
        f"Parts of fewer than {LEAST_IN_PART} cases are left out.",
        "",
        *table((*head, "sensitivity", "specificity", "ECE"), rows),
    ]


LEAST_IN_PART = 50
"""A device or hospital with fewer test cases has no row: its interval says nothing."""


def _sources(card: Card, scores: pd.DataFrame) -> Iterable[tuple[str, pd.DataFrame]]:
    """(name, rows) of each hospital and of each of its devices, where the test cases are of several."""
    for column in ("source", "device"):
        names = sorted(set(scores[column].dropna()) - {""}) if column in scores else []
        for name in names if len(names) > 1 else ():
            part = scores[scores[column] == name]
            if len(part) >= LEAST_IN_PART and 0 < int((part["label"] == card.positive).sum()) < len(part):
                yield f"{column} {name}", part


def breasts_of(card: Card, scores: pd.DataFrame) -> pd.DataFrame:
    """One row a breast: the mean of its views' calibrated probabilities, positive where one of its views is."""
    is_positive = scores["label"] == card.positive
    marked = scores.assign(rank=is_positive.astype(int)).sort_values("rank", ascending=False, kind="stable")
    how = {**dict.fromkeys(card.classes, "mean"), "case": "first", "label": "first"}
    how |= {"fold": "first"} if "fold" in scores else {}
    return marked.groupby(["patient", "laterality"], sort=True).agg(how).reset_index()


def _against_benign(card: Card, scores: pd.DataFrame) -> str:
    """The AUC without the cases of class "normal", which one collection alone may have; a dash where there are none."""
    rest = scores[scores["label"] != "normal"]
    if len(rest) == len(scores):
        return "-"
    return as_text(measures_of(card, rest).get("auc"))


def _missing(cards: Sequence[Card]) -> list[str]:
    there, modality = {card.model_id for card in cards}, cards[0].modality
    absent = [entry.model_id for entry in PROGRAMME if entry.modality is modality and not entry.suffix]
    names = [f"`{name}`" for name in absent if name not in there]
    return ["", f"Not trained yet: {', '.join(names)}."] if names else []


@dataclass(frozen=True, slots=True)
class PublishedComparison:
    """A model beside one published figure. ours: measure -> estimate. theirs: its claim, as lines. on: its data.
    source: who published it, with year and DOI or address; "" where that is not recorded.

    card: None for a published system whose network has not been trained here.
    """

    card: Card | None
    system: str
    ours: Mapping[str, Estimate]
    theirs: tuple[str, ...]
    on: str
    why: str
    source: str

    @property
    def source_text(self) -> str:
        return self.source or NOT_RECORDED

    @property
    def ours_text(self) -> tuple[str, ...]:
        return tuple(f"{_word(name)} {as_text(one)}" for name, one in self.ours.items())


def lesson_ids() -> set[str]:
    """The models that show what a leaking split does; they are no entries of a comparison."""
    return {f"{Modality.ULTRASOUND.value}-{LESSON}{suffix}" for suffix in (BY_IMAGE, BY_GROUP)}


def compare_with_published(cards: Iterable[Card], measured: Mapping[str, Measures]) -> list[PublishedComparison]:
    """Every model beside the published figures of its network, or beside what is usual on such data."""
    rows = []
    for card in cards:
        if card.model_id in lesson_ids():
            continue
        own = measured[card.model_id]
        figures = figures_of(card.architecture, card.modality.value)
        for figure in figures:
            names = [name for name in figure.measures if name in own] or [name for name in ("auc",) if name in own]
            ours = {name: own[name] for name in names}
            rows.append(
                PublishedComparison(
                    card, card.model_id, ours, _claim(figure), figure.data, why(card, figure), figure.source
                )
            )
        if not figures:
            ours = {name: own[name] for name in ("auc", "accuracy") if name in own}
            usual = next((one for one in published().ceilings if one.modality == card.modality.value), None)
            reason = (
                "No figure of just this network is at hand; beside it stands what others reach, whose splits differ."
            )
            claim, on = ((usual.believable,), usual.data) if usual is not None else (("-",), "-")
            source = usual.source if usual is not None else ""
            rows.append(PublishedComparison(card, card.model_id, ours, claim, on, reason, source))
    return rows


def published_without_model(cards: Iterable[Card]) -> list[PublishedComparison]:
    """The published systems whose network has not been trained here yet."""
    there = {(card.architecture, card.modality.value) for card in cards}
    rows = []
    for figure in published().figures:
        if not any(name in figure.architectures and figure.modality in (kind, "") for name, kind in there):
            reason = f"{figure.reason[0].upper()}{figure.reason[1:]}."
            system = f"{', '.join(figure.architectures)}{', ' * bool(figure.modality)}{figure.modality}"
            rows.append(PublishedComparison(None, system, {}, _claim(figure), figure.data, reason, figure.source))
    return rows


def _claim(figure: PublishedFigure) -> tuple[str, ...]:
    return tuple(f"{_word(name)} {_short(value)}" for name, value in figure.measures.items()) or (figure.words,)


def _published(cards: Iterable[Card], measured: Mapping[str, Measures]) -> list[str]:
    rows = [
        (f"`{row.system}`", "<br>".join(row.ours_text), "<br>".join(row.theirs), row.on, row.source_text, row.why)
        for row in compare_with_published(cards, measured)
    ]
    head = ("model", "ours", "published", "on", "source", "why they differ")
    return table(head, rows) if rows else ["Not trained yet."]


def _elsewhere(cards: Iterable[Card]) -> list[str]:
    rows = []
    for card in cards:
        for path in scores_elsewhere(card):
            scores = pd.read_csv(path, dtype={"case": str, "patient": str, "label": str}, keep_default_na=False)
            found = measures_of(card, scores)
            source = ", ".join(sorted(set(scores["source"]))) if "source" in scores else "unnamed"
            counts = f"{len(scores)} ({int((scores['label'] == card.positive).sum())})"
            names = ("auc", "accuracy_at_threshold", "sensitivity_at_threshold", "patient_score")
            rows.append((f"`{card.model_id}`", source, counts, *(as_text(found.get(name)) for name in names)))
    if not rows:
        return ["No model has been measured on another collection yet (`python -m train evaluate`)."]
    head = ("model", "collection", "cases (positive)", "AUC", "accuracy at the threshold", "sensitivity there")
    return [
        "Nothing was trained or chosen on these. The patient score is the mean over patients of the share of tiles "
        "called rightly (Spanhol et al. 2016).",
        "",
        *table((*head, "patient score"), rows),
    ]


def _lessons(cards: Mapping[str, Card], measured: Mapping[str, Measures]) -> list[str]:
    modality = Modality.ULTRASOUND.value
    by_image, by_group = (cards.get(f"{modality}-{LESSON}{suffix}") for suffix in (BY_IMAGE, BY_GROUP))
    lines = [
        "### The same network, split by image and by group",
        "",
        "The collection holds near-duplicates. Split by image, they lie on both sides, and the network is asked what "
        "it was shown; split by group it is not. Nothing else differs.",
        "",
        *_pair((by_image, by_group), ("by image", "by group"), measured),
        "",
        "### The same network, with and without skips",
        "",
        "Twenty convolutions and five max-poolings, trained alike.",
        "",
    ]
    skips = (cards.get(f"{modality}-residual25"), cards.get(f"{modality}-plain25"))
    return [*lines, *_pair(skips, ("with skips", "without"), measured)]


def _pair(pair: Sequence[Card | None], words: Sequence[str], measured: Mapping[str, Measures]) -> list[str]:
    first, second = pair
    if first is None or second is None:
        return ["Not trained yet."]
    rows = []
    for card, name in ((first, words[0]), (second, words[1])):
        own = measured[card.model_id]
        leaks = sum(leak.n for leak in card.data.leaks or ())
        values = (as_text(own.get(key)) for key in ("auc", "macro_auc", "accuracy", "macro_f1"))
        rows.append((name, f"`{card.model_id}`", str(leaks), *values))
    head = ("", "model", "leaks found", "AUC", "macro-AUC", "accuracy", "macro-F1")
    return [*table(head, rows), "", difference_text(first, second)]


def _ceilings() -> list[str]:
    rows = [(one.data, one.believable, one.leakage or "-") for one in published().ceilings]
    return table(("collection", "believable", "rather a leak"), rows)


def _shipped(card: Card) -> str:
    if card.members:
        return "its members'" if card.has_weights else "its members' are not all here"
    if card.has_weights:
        return "shipped"
    minutes = card.training.minutes
    return "not shipped" if minutes is None else f"not shipped: about {max(1, round(minutes))} min to train"


def table(head: Sequence[str], rows: Iterable[Sequence[str]]) -> list[str]:
    """A Markdown table; a bar inside a cell is escaped."""
    safe = [[cell.replace("|", "\\|").replace("\n", " ") for cell in row] for row in rows]
    return [f"| {' | '.join(head)} |", "|---" * len(head) + "|", *(f"| {' | '.join(row)} |" for row in safe)]


def _word(name: str) -> str:
    return {"auc": "AUC", "macro_auc": "macro-AUC"}.get(name, name.replace("_", " "))


def _short(value: float) -> str:
    text = f"{value:.3f}"
    return text[1:] if text.startswith("0.") else text
