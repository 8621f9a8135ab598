"""What Compare has to show for an address, computed from the address alone: no page, no session, no widget.

The address is read here anew, with the defaults that the guide promises. Areas, counts and shares come from numpy and
scikit-learn; intervals, which follow from the patients that are drawn, from a comparison that is made anew.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any
from urllib.parse import parse_qs, urlsplit

import numpy as np
from sklearn.metrics import brier_score_loss, roc_auc_score

from core.evaluation.cache import ComparisonCache
from core.evaluation.statistics.metrics import PREVALENCES
from core.evaluation.statistics.operating_points import operating_rows
from core.evaluation.tables.cohort import CardGroup, Cohort, cohort_of_cards, group_cards
from core.models.cards import all_cards
from core.settings import Settings
from core.types import Estimate
from pages.parts.tables import UNDEFINED

MODES = ("One score", "Same specificity", "Each its own")
TABS = ("Pairs", "Calibration", "Decision curve", "Subgroups", "Classes", "Hybrid", "Seeds", "Training")
MEASURES = ("auc", "sensitivity_at_threshold", "specificity_at_threshold")
AT_POINT = tuple(f"{key}_at_threshold" for key in ("sensitivity", "specificity", "ppv", "npv", "accuracy"))
MOST_BANDS = 6
FIXED = (
    "average_precision", "sensitivity_at_specificity_889", "specificity_at_sensitivity_869", "brier", "ece",
)  # fmt: skip
Cells = list[list[str]]


class Asked:
    """An address, read: the last value of a name, or all of them."""

    def __init__(self, url: str) -> None:
        self._query = parse_qs(urlsplit(url).query, keep_blank_values=True)

    def one(self, key: str, options: Sequence[str], default: str | None = None) -> str:
        value = self._query.get(key, [""])[-1]
        return value if value in options else default or options[0]

    def several(self, key: str, options: Sequence[str], default: Sequence[str]) -> tuple[str, ...]:
        asked = self._query.get(key)
        found = tuple(name for name in options if asked is not None and name in asked)
        return found if found or asked == [""] else tuple(default)

    def number(self, key: str, default: float, step: float) -> float:
        value = float(self._query.get(key, [default])[-1])
        return round(round(value / step) * step, 9)

    def truth(self, key: str, default: bool) -> bool:
        return {"true": True, "false": False}.get(self._query.get(key, [""])[-1], default)


class Comparisons:
    """The data sets that come with the product; each one's comparison is made once."""

    def __init__(self) -> None:
        self.groups: dict[str, CardGroup] = {one.key: one for one in group_cards(tuple(all_cards(Settings())))}
        self._made: dict[str, ComparisonCache] = {}

    def of(self, data: str) -> ComparisonCache:
        if data not in self._made:
            cohort = cohort_of_cards(self.groups[data])
            assert cohort is not None
            self._made[data] = ComparisonCache(cohort)
        return self._made[data]

    def shown_for(self, url: str) -> dict[str, Any]:
        """What stands on the page, part by part; only what is there with these choices."""
        asked = Asked(url)
        data = asked.one("data", list(self.groups))
        numbers = self.of(data)
        every = numbers.cohort.names
        names = asked.several("scorers", every, every[:4])
        found: dict[str, Any] = {"data": data, "scorers": list(names)}
        if not names:
            return found | {"measures": [], "matrices": [], "tab": None}
        thresholds, control, said = _thresholds(asked, numbers, names)
        found |= {"mode": asked.one("mode", MODES), "control": control, "said": said}
        found |= _curves(asked, numbers, names, thresholds)
        rows = [_at(numbers.cohort, name, thresholds[name]) for name in names]
        found["measures"] = _measures(numbers, names, thresholds, rows)
        found["matrices"] = [
            [name, *(str(row[count]) for count in ("tp", "fn", "fp", "tn")), _threshold(thresholds[name])]
            for name, row in zip(names, rows, strict=True)
        ]
        every_measure = [[name, key] for name in names for key in (*numbers.results([name])[name].measures, *AT_POINT)]
        chosen = asked.several("measures", list(dict.fromkeys(key for _, key in every_measure)), MEASURES)
        found["sorted"] = [row for row in every_measure if row[1] in chosen]
        found["prevalences"] = _prevalences(asked, names, rows)
        tab = asked.one("show", TABS)
        return found | {"tab": tab, "part": PARTS[tab](asked, numbers, names)}


def _thresholds(asked: Asked, numbers: ComparisonCache, names: Sequence[str]) -> tuple[dict[str, Any], str | None, str]:
    """Scorer -> threshold; what the slider stands at, None where there is none; how the page puts it."""
    own = numbers.cohort.thresholds
    mode = asked.one("mode", MODES)
    if mode == "Each its own":
        return {name: own[name] for name in names}, None, "each model's own threshold, fixed on validation cases"
    if mode == "Same specificity":
        least = asked.number("specificity", 0.889, 0.001)
        found = {}
        for name in names:
            labels, scores = _known(numbers.cohort, name)
            points = [math.inf, *np.unique(scores)[::-1]]
            found[name] = [at for at in points if (scores[~labels] < at).mean() >= least - 1e-12][-1]
        return found, f"{least:g}", f"specificity of at least {least:.3f} on these cases"
    usual = float(np.median([float(np.median(own[name])) for name in names]))
    at = asked.number("at", usual, 0.005)
    return dict.fromkeys(names, at), f"{at:g}", f"positive at or above a score of {at:.3f}"


def _known(cohort: Cohort, name: str) -> tuple[np.ndarray, np.ndarray]:
    scores = cohort.table.scorers[name]
    known = ~np.isnan(scores)
    assert cohort.table.is_positive is not None
    return cohort.table.is_positive[known], scores[known]


def _at(cohort: Cohort, name: str, threshold: Any) -> dict[str, float]:
    labels, scores = _known(cohort, name)
    own = threshold[~np.isnan(cohort.table.scorers[name])] if isinstance(threshold, np.ndarray) else threshold
    called = scores >= own
    return {
        "tp": int((called & labels).sum()), "fn": int((~called & labels).sum()),
        "fp": int((called & ~labels).sum()), "tn": int((~called & ~labels).sum()),
    }  # fmt: skip


def _share(count: float, of: float) -> float:
    return count / of if of else math.nan


def _shares(row: Mapping[str, float]) -> dict[str, float]:
    return {
        "sensitivity": _share(row["tp"], row["tp"] + row["fn"]),
        "specificity": _share(row["tn"], row["tn"] + row["fp"]),
        "ppv": _share(row["tp"], row["tp"] + row["fp"]), "npv": _share(row["tn"], row["tn"] + row["fn"]),
    }  # fmt: skip


def _threshold(threshold: Any) -> str:
    values = np.unique(threshold)
    if len(values) > 1:
        return "each fold's own"
    return "above every score" if math.isinf(values[0]) else f"{values[0]:.4g}"


def _text(one: Estimate, value: float | None = None, *, key: str = "") -> str:
    """A cell: value and interval. value: computed elsewhere, which must be the same. key: of a share."""
    if value is not None:
        assert one.value == value or abs(one.value - value) < 1e-9 or (math.isnan(one.value) and math.isnan(value))
    if math.isnan(one.value):
        return f"n/a {UNDEFINED.get(key, 'not defined')}"
    bias = "" if one.bias is None else f" widened: draws lean {one.bias:+.3f}"
    return f"{one.value:.3f} {one.low:.3f} to {one.high:.3f}{bias}"


def _measures(
    numbers: ComparisonCache, names: Sequence[str], thresholds: Mapping[str, Any], rows: Sequence[Mapping[str, float]]
) -> Cells:
    results = numbers.results(names)
    shares = {row.name: row.shares for row in operating_rows(numbers.cohort.table, thresholds)}
    found = []
    for name, row in zip(names, rows, strict=True):
        labels, scores = _known(numbers.cohort, name)
        measured = results[name].measures
        own = {"brier": brier_score_loss(labels, scores)}
        found.append(
            [
                name, f"{len(labels)} {labels.sum()} positive", _text(measured["auc"], roc_auc_score(labels, scores)),
                _threshold(thresholds[name]),
                *(_text(shares[name][f"{key}_at_threshold"], value, key=key) for key, value in _shares(row).items()),
                *(_text(measured[key], own.get(key)) for key in FIXED),
            ]
        )  # fmt: skip
    return found


def _curves(
    asked: Asked, numbers: ComparisonCache, names: Sequence[str], thresholds: Mapping[str, Any]
) -> dict[str, Any]:
    """The figure above: whose curves and points are drawn where, whether with bands and their mean."""
    drawn, has_mean = tuple(names), False
    if len(names) > MOST_BANDS:
        drawn = asked.several("drawn", names, names) or tuple(names)
        has_mean = asked.truth("mean", True)
    bands = asked.truth("bands", len(drawn) <= MOST_BANDS)
    points = {}
    for name in drawn:
        share = _shares(_at(numbers.cohort, name, thresholds[name]))
        points[name] = [f"{1 - share['specificity']:.6f}", f"{share['sensitivity']:.6f}"]
    return {
        "bands": [bands, len(drawn) if bands else 0], "points": points,
        "mean": f"mean of {len(names)}" if has_mean else None, "picture": asked.one("picture", ("PNG", "SVG")),
    }  # fmt: skip


def _prevalences(asked: Asked, names: Sequence[str], rows: Sequence[Mapping[str, float]]) -> Cells:
    chosen = asked.number("prevalence", 10.0, 0.01) / 100
    found = []
    for name, row in zip(names, rows, strict=True):
        share, cells = _shares(row), [name]
        for of in dict.fromkeys([*PREVALENCES, chosen]):
            right, wrong = of * share["sensitivity"], (1 - of) * (1 - share["specificity"])
            ppv = _share(right, right + wrong)
            right, wrong = (1 - of) * share["specificity"], of * (1 - share["sensitivity"])
            cells += [_share_text(ppv), _share_text(_share(right, right + wrong))]
        found.append(cells)
    return found


def _share_text(value: float) -> str:
    return "n/a" if math.isnan(value) else f"{value:.3f}"


# ---- the tabs ----------------------------------------------------------------------------------------------------


def _pairs(asked: Asked, numbers: ComparisonCache, names: Sequence[str]) -> Cells:
    found = []
    for one in numbers.pairs(names):
        labels, first = _known(numbers.cohort, one.first)
        _, second = _known(numbers.cohort, one.second)
        if len(first) == len(second) == one.n:
            assert abs(roc_auc_score(labels, first) - roc_auc_score(labels, second) - one.difference) < 1e-9
        found.append([f"{one.first} vs {one.second}", str(one.n), f"{one.difference:+.4f}", f"{one.z:.3f}"])
    return found


def _calibration(asked: Asked, numbers: ComparisonCache, names: Sequence[str]) -> Cells:
    return [[name, f"{brier_score_loss(*_known(numbers.cohort, name)):.4f}"] for name in names]


def _decisions(asked: Asked, numbers: ComparisonCache, names: Sequence[str]) -> Cells:
    return [list(names)]


def _subgroups(asked: Asked, numbers: ComparisonCache, names: Sequence[str]) -> Cells:
    columns = [str(name) for name in numbers.cohort.table.subgroups.columns]
    if not columns:
        return []
    column, name = asked.one("by", columns), asked.one("of", names)
    groups = numbers.subgroups(column, name)
    return [
        [column, name],
        *([f"{column}: {one.value} (n {one.n}, {one.positives} positive)", _share_text(one.auc.value)]
          for one in groups if one.auc is not None),
    ]  # fmt: skip


def _classes(asked: Asked, numbers: ComparisonCache, names: Sequence[str]) -> Cells:
    table, found = numbers.cohort.table, []
    first: tuple[str, ...] | None = None
    for name in names:
        of = table.class_scorers.get(name)
        if of is None or (first is not None and of.classes != first):
            continue
        first = of.classes
        known = ~np.isnan(of.probabilities).any(axis=1)
        said = np.asarray(of.classes)[of.probabilities[known].argmax(axis=1)]
        found.append([name, f"{(said == table.labels[known]).mean():.3f}"])
    return found


def _hybrid(asked: Asked, numbers: ComparisonCache, names: Sequence[str]) -> Cells:
    if len(names) < 2:
        return []
    first = asked.one("first", names)
    second = asked.one("second", [name for name in names if name != first])
    table = numbers.cohort.table
    assert table.is_positive is not None
    both = (table.scorers[first] + table.scorers[second]) / 2
    known = ~np.isnan(both)
    area = roc_auc_score(table.is_positive[known], both[known])
    areas = [roc_auc_score(*_known(numbers.cohort, name)) for name in (first, second)]
    shown = zip((first, second, "mean of both"), (*areas, area), strict=True)
    return [[first, second], *([name, f"{value:.3f}"] for name, value in shown)]


def _seeds(asked: Asked, numbers: ComparisonCache, names: Sequence[str]) -> Cells:
    return []  # no model comes with runs of several seeds


def _training(asked: Asked, numbers: ComparisonCache, names: Sequence[str]) -> Cells:
    return [[name for name in names if numbers.cohort.runs[name].history]]


PARTS = dict(
    zip(
        TABS, (_pairs, _calibration, _decisions, _subgroups, _classes, _hybrid, _seeds, _training), strict=True
    )
)  # fmt: skip
