"""Two outline networks on the same test pictures: how well each outlines, by how much they differ, and what of that
must not be passed unthinkingly before one takes the other's place.

From the tables of cases beside their cards (`core.models.outline_card.read_outline_cases`), a row a picture.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import pandas as pd

from core.errors import InvalidInput
from core.evaluation.promotion import FEWEST, FailedCheck
from core.evaluation.statistics.intervals import Bootstrap, percentile
from core.types import Estimate


@dataclass(frozen=True, slots=True)
class Measure:
    """A mean over pictures, or a share: the sum of a column over the sum of `of` (None: over the pictures).

    is_positive: of the column whether it is above 0, not how much. normal: over normal pictures; else those with a
    lesion. sign: 1 where more is better, -1 where less is. has_margin: a loss of more than the site's margin counts.
    """

    title: str
    column: str
    of: str | None = None
    is_positive: bool = False
    normal: bool = False
    sign: int = 1
    has_margin: bool = True


MEASURES: Mapping[str, Measure] = {
    "dice": Measure("Dice", "dice", has_margin=False),
    "found": Measure("share of lesions found", "found", of="lesions"),
    "false in abnormal": Measure(
        "share of pictures with a lesion and a false outline", "false", is_positive=True, sign=-1
    ),
    "false in normal": Measure(
        "share of normal pictures with an outline", "false", is_positive=True, normal=True, sign=-1
    ),
}


@dataclass(frozen=True, slots=True)
class OutlineDifference:
    """One of `MEASURES` on the pictures that both outlined. candidate, live, difference (candidate less live): with
    95 % intervals over patients, of the same draws; n: pictures. live, difference: None where the candidate stands
    alone."""

    key: str
    candidate: Estimate
    live: Estimate | None
    difference: Estimate | None

    @property
    def title(self) -> str:
        return MEASURES[self.key].title


def shared_cases(candidate: pd.DataFrame, live: pd.DataFrame) -> tuple[pd.DataFrame, pd.DataFrame]:
    """The rows of both tables for the pictures that are in both, in one order.

    Raises InvalidInput where they disagree about a picture: its class, or how many lesions it has.
    """
    both = [case for case in candidate["case"] if case in set(live["case"])]
    one, other = (table.set_index("case").loc[both].reset_index() for table in (candidate, live))
    differ = (one["label"] != other["label"]) | (one["lesions"] != other["lesions"])
    if differ.any():
        raise InvalidInput(
            f"The two networks were measured against another truth in {int(differ.sum())} of {len(both)} shared test "
            "pictures, so they cannot be compared on them."
        )
    return one, other


def outline_differences(candidate: pd.DataFrame, live: pd.DataFrame | None) -> tuple[OutlineDifference, ...]:
    """Every measure that there are pictures for. Rows as `shared_cases` gives them; live: None for none."""
    found = []
    for key, measure in MEASURES.items():
        is_meant = (candidate["lesions"] == 0) if measure.normal else (candidate["lesions"] > 0)
        if measure.normal:
            is_meant &= candidate["label"] == "normal"
        if is_meant.any():
            found.append(_difference(key, measure, candidate[is_meant], None if live is None else live[is_meant]))
    return tuple(found)


def _difference(key: str, measure: Measure, candidate: pd.DataFrame, live: pd.DataFrame | None) -> OutlineDifference:
    of = np.ones(len(candidate)) if measure.of is None else candidate[measure.of].to_numpy(float)
    sums = [_column(table, measure) for table in (candidate, live) if table is not None]
    patients = candidate["patient"].where(candidate["patient"] != "", candidate["case"]).to_numpy()
    drawn: list[list[np.ndarray]] = [[] for _ in sums]
    for weights in Bootstrap(patients, len(candidate)).blocks():
        total = of @ weights
        for values, blocks in zip(sums, drawn, strict=True):
            blocks.append(values @ weights / np.where(total > 0, total, np.nan))
    of_each = [np.concatenate(one) for one in drawn]
    means = [float(one.sum() / of.sum()) for one in sums]
    n = len(candidate)
    estimates = [percentile(mean, one, n) for mean, one in zip(means, of_each, strict=True)]
    if live is None:
        return OutlineDifference(key, estimates[0], None, None)
    difference = percentile(means[0] - means[1], of_each[0] - of_each[1], n)
    return OutlineDifference(key, estimates[0], estimates[1], difference)


def _column(table: pd.DataFrame, measure: Measure) -> np.ndarray:
    values: np.ndarray = table[measure.column].fillna(0).to_numpy(float)
    return (values > 0).astype(float) if measure.is_positive else values


def outline_checks(
    found: Sequence[OutlineDifference], *, leaks: Sequence[str], has_live: bool, is_compared: bool, margin: float
) -> tuple[FailedCheck, ...]:
    """Every line that the candidate crosses. leaks: of its split, as its card says. margin: of shares, as a share."""
    lines = []
    if has_live and not is_compared:
        lines.append(
            FailedCheck("not compared", "It was not compared with the live network: they share no test picture.")
        )
    if leaks:
        lines.append(FailedCheck("leak", f"The candidate's split leaks ({'; '.join(leaks)}): its numbers flatter it."))
    lines += [line for one in found if (line := _worse(one, margin)) is not None]
    n_lesions = next((one.candidate.n for one in found if one.key == "dice"), 0)
    if n_lesions < FEWEST:
        lines.append(
            FailedCheck(
                "too small",
                f"{n_lesions} of the test pictures have a lesion; below {FEWEST} no claim rests on them.",
            )
        )
    if not any(one.key == "false in normal" for one in found):
        lines.append(
            FailedCheck(
                "no normal pictures",
                "None of these test pictures is normal, so how often it outlines something where there is nothing is "
                "not known.",
            )
        )
    return tuple(lines)


def _worse(one: OutlineDifference, margin: float) -> FailedCheck | None:
    if one.live is None or one.difference is None:
        return None
    measure = MEASURES[one.key]
    gain = measure.sign * one.difference.value
    is_clear = (one.difference.high < 0) if measure.sign > 0 else (one.difference.low > 0)
    if not is_clear and not (measure.has_margin and -gain > margin + 1e-9):
        return None
    how = "clearly " if is_clear else ""
    beyond = "" if is_clear else f" That is more than the margin of {100 * margin:.0f} percentage points."
    return FailedCheck(
        one.key,
        f"Its {measure.title} is {how}worse: {one.candidate.value:.3f}, that of the live network "
        f"{one.live.value:.3f}; difference {one.difference.value:+.3f} (95 % interval {one.difference.low:+.3f} to "
        f"{one.difference.high:+.3f}, {one.difference.n} pictures).{beyond}",
    )
