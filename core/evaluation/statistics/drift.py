"""How far recent values have moved from reference ones, and whether that is more than chance.

Population stability index: Siddiqi, Credit Risk Scorecards (2006), over the reference's tenths or over categories; 0.25
and more is its customary sign of a large shift. With few cases it is large by chance alone: without any shift it goes
like (1/n + 1/m) times chi-squared with one degree of freedom less than there are bins (Yurdakul & Naranjo, Journal of
Risk Model Validation 14(4), 2020). The alarm line is the larger of the two. Beside it stands the two-sample
Kolmogorov-Smirnov test.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from scipy.stats import chi2, ks_2samp

BINS = 10
PSI_LARGE = 0.25
CHANCE = 0.999
LEAST = 30
"""With fewer values on either side nothing is said but their number."""
_FLOOR = 0.5
"""Added to every count, so that an empty bin does not make the index infinite (half a case, after Jeffreys)."""


@dataclass(frozen=True, slots=True)
class Shift:
    """What became of one quantity. alarm_line: of the index. ks, p: of the Kolmogorov-Smirnov test, None for words.

    All but the counts are None under `LEAST` values on either side.
    """

    n_reference: int
    n_recent: int
    psi: float | None = None
    alarm_line: float | None = None
    ks: float | None = None
    p: float | None = None

    @property
    def is_enough(self) -> bool:
        return self.psi is not None

    @property
    def is_alarm(self) -> bool:
        return self.psi is not None and self.alarm_line is not None and self.psi >= self.alarm_line


def shift_of_numbers(reference: Sequence[float], recent: Sequence[float]) -> Shift:
    """Of measured values, any unit. The bins are the reference's tenths; equal limits become one. A limit that a tenth
    or more of the reference shares is a bin of its own, apart from what lies above it.
    """
    before, after = np.asarray(reference, np.float64), np.asarray(recent, np.float64)
    if min(len(before), len(after)) < LEAST:
        return Shift(len(before), len(after))
    limits = np.unique(np.quantile(before, np.linspace(0, 1, BINS + 1)[1:-1]))
    shared = [one for one in limits if np.mean(before == one) >= 1 / BINS]
    limits = np.unique([*limits, *np.nextafter(shared, np.inf)])
    counts = [np.bincount(np.searchsorted(limits, values, side="right"), minlength=len(limits) + 1)
              for values in (before, after)]  # fmt: skip
    test = ks_2samp(before, after)
    return Shift(len(before), len(after), *_index(counts[0], counts[1]), float(test.statistic), float(test.pvalue))


def shift_of_text(reference: Sequence[str], recent: Sequence[str]) -> Shift:
    """Of categories, for example vendors; one that the reference lacks is a bin like the others."""
    if min(len(reference), len(recent)) < LEAST:
        return Shift(len(reference), len(recent))
    names = sorted({*reference, *recent})
    before, after = Counter(reference), Counter(recent)
    index, line = _index(np.array([before[name] for name in names]), np.array([after[name] for name in names]))
    return Shift(len(reference), len(recent), index, line)


def _index(before: np.ndarray, after: np.ndarray) -> tuple[float, float]:
    """The population stability index of two rows of counts, and its alarm line."""
    n, m, bins = before.sum(), after.sum(), len(before)
    p, q = ((counts + _FLOOR) / (counts.sum() + _FLOOR * bins) for counts in (before, after))
    by_chance = float(chi2.ppf(CHANCE, bins - 1)) * (1 / n + 1 / m) if bins > 1 else 0.0
    return float(np.sum((q - p) * np.log(q / p))), max(PSI_LARGE, float(by_chance))
