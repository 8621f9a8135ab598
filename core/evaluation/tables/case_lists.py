"""The cases behind a number: who was missed, who is disputed, where a scorer is unsure or most wrong."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
import pandas as pd

from core.evaluation.statistics.operating_points import Threshold
from core.evaluation.tables.scores import ScoreTable

MISSED, FALSE_ALARMS, DISPUTED, UNSURE, WORST, ALL = (
    "False negatives of A",
    "False positives of A",
    "A and B disagree",
    "Least certain",
    "Highest loss",
    "All cases",
)
LISTS = (MISSED, FALSE_ALARMS, DISPUTED, UNSURE, WORST, ALL)
_CLIP = 1e-6


def list_cases(
    table: ScoreTable,
    a: str,
    b: str | None,
    thresholds: Mapping[str, Threshold],
    kind: str,
    *,
    subgroup: tuple[str, str] | None = None,
) -> pd.DataFrame:
    """Rows `case, patient, label, A, B, A calls, B calls, loss of A` and the subgroup columns, most telling first.

    False negatives and positives: from the worst. Disagreement: A and B call differently (none without B), largest
    difference of scores first. Least certain: the smallest distance of A's score from its threshold. Highest loss: A's
    logarithmic loss. Cases that A has no score for are in no list. subgroup: (column, value) to keep.
    """
    if kind not in LISTS:
        raise ValueError(f"{kind!r} is none of {LISTS}")
    assert table.is_positive is not None
    scores = table.scorers[a]
    calls = scores >= thresholds[a]
    chance = np.clip(scores, _CLIP, 1 - _CLIP)
    loss = -np.where(table.is_positive, np.log(chance), np.log1p(-chance))
    frame = pd.DataFrame({"case": table.cases, "patient": table.patients, "label": table.labels, f"A: {a}": scores})
    other_calls = np.full(table.n, False)
    has_both = np.full(table.n, False)
    if b is not None:
        other = table.scorers[b]
        frame[f"B: {b}"] = other
        other_calls, has_both = other >= thresholds[b], ~np.isnan(other)
    frame["A calls"] = np.where(calls, "positive", "negative")
    if b is not None:
        frame["B calls"] = np.where(has_both, np.where(other_calls, "positive", "negative"), "no score")
    frame["loss of A"] = loss
    retained = ~np.isnan(scores)
    order = -loss
    if kind == MISSED:
        retained &= table.is_positive & ~calls
    elif kind == FALSE_ALARMS:
        retained &= ~table.is_positive & calls
    elif kind == DISPUTED:
        retained &= has_both & (calls != other_calls)
        order = -np.abs(scores - table.scorers[b]) if b is not None else order
    elif kind == UNSURE:
        order = np.abs(scores - thresholds[a])
    elif kind == ALL:
        order = np.arange(table.n, dtype=np.float64)
    for name in table.subgroups.columns:
        frame[str(name)] = table.subgroups[name].to_numpy(object)
    if subgroup is not None:
        retained &= table.subgroups[subgroup[0]].to_numpy(str) == subgroup[1]
    places = np.flatnonzero(retained)
    return frame.iloc[places[np.argsort(order[places], kind="stable")]].reset_index(drop=True)
