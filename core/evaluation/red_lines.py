"""What must not be passed unthinkingly: findings of a comparison that need a written reason before a promotion."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from core.evaluation.operating import operating_rows
from core.evaluation.overlap import Overlap
from core.evaluation.side_by_side import CANDIDATE, LIVE
from core.evaluation.workbench import Workbench

FEWEST = 20
"""Cases of each class below which a test set is too small to say anything."""
_BOTH = (CANDIDATE, LIVE)


@dataclass(frozen=True, slots=True)
class RedLine:
    """key: under which a reason is kept. sentence: what was found, with its numbers."""

    key: str
    sentence: str


@dataclass(frozen=True, slots=True)
class Circumstances:
    """What is known beside the scores.

    leaks: of the candidate's split, as its card or its data set's audit says. seen: whose training ("candidate",
    "live") -> which of the compared cases it has seen, None where that cannot be told. is_replaced: the live model
    is the one that the candidate would replace. is_compared: both scored the same cases.
    """

    leaks: tuple[str, ...]
    seen: Mapping[str, Overlap | None]
    is_replaced: bool
    is_compared: bool


def red_lines(bench: Workbench, found: Circumstances, *, margin: float) -> tuple[RedLine, ...]:
    """Every line that the candidate crosses. margin: of sensitivity, as a share."""
    table = bench.cohort.table
    lines = []
    if found.is_replaced and not found.is_compared:
        lines.append(
            RedLine("not compared", "It was not compared with the live model: they have no scores of the same cases.")
        )
    if found.is_replaced and found.is_compared:
        lines += _worse(bench, margin)
    if found.leaks:
        lines.append(
            RedLine("leak", f"The candidate's split leaks ({'; '.join(found.leaks)}): its numbers flatter it.")
        )
    for name in _BOTH:
        seen = found.seen.get(name)
        if seen is not None and seen.n:
            lines.append(
                RedLine(
                    f"seen by {name}",
                    f"{seen.n} of the {seen.of} test cases are known to the {name} model from its training "
                    f"({seen.kinds}): its numbers are too good.",
                )
            )
    positives = table.positives or 0
    if min(positives, table.n - positives) < FEWEST:
        lines.append(
            RedLine(
                "too small",
                f"The test cases are {positives} positive and {table.n - positives} other ones; below {FEWEST} of each "
                "no claim rests on them.",
            )
        )
    return tuple(lines)


def _worse(bench: Workbench, margin: float) -> list[RedLine]:
    table, thresholds = bench.cohort.table, bench.cohort.thresholds
    if not table.positives or table.positives == table.n:
        return [RedLine("not compared", "The shared test cases are all of one class, so nothing can be compared.")]
    lines = []
    rows = {row.name: row for row in operating_rows(table, {name: thresholds[name] for name in _BOTH})}
    new, old = rows[CANDIDATE].sensitivity, rows[LIVE].sensitivity
    if old - new > margin + 1e-9:
        lines.append(
            RedLine(
                "sensitivity",
                f"Its sensitivity at its threshold is {new:.3f}, that of the live model {old:.3f}: "
                f"{100 * (old - new):.1f} percentage points less, and the margin is {100 * margin:.0f}.",
            )
        )
    (pair,) = bench.pairs(_BOTH)
    if pair.high < 0:
        lines.append(
            RedLine(
                "area",
                f"Its area under the ROC curve is clearly lower: by {-pair.difference:.3f} "
                f"(95 % interval {-pair.high:.3f} to {-pair.low:.3f}).",
            )
        )
    return lines
