"""A model that ran silently beside the live one: how far they agree, and which is better where the truth is known."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import pandas as pd
from scipy.stats import ks_2samp, spearmanr

from core.evaluation.statistics.comparison import PairedTest, compare_areas
from core.evaluation.statistics.intervals import Bootstrap


@dataclass(frozen=True, slots=True)
class ShadowComparison:
    """n images of so many studies. median_live, median_shadow: of the scores. correlation: Spearman's.

    ks_p: of the two-sample Kolmogorov-Smirnov test of the score distributions. disagreement: share of images that one
    of them called and the other did not, each at its own threshold. test: area of shadow minus area of live where the
    truth is known, None without both classes. NaN where too little is there.
    """

    n: int
    studies: int
    median_live: float
    median_shadow: float
    correlation: float
    ks_p: float
    disagreement: float
    test: PairedTest | None


def compare_shadow(answers: pd.DataFrame) -> ShadowComparison:
    """answers: columns study, patient, label (1, 0 or NaN), live, shadow, live_called, shadow_called; a row an image.

    Areas are compared over patients.
    """
    n = len(answers)
    if n == 0:
        return ShadowComparison(0, 0, np.nan, np.nan, np.nan, np.nan, np.nan, None)
    live, shadow = answers["live"].to_numpy(np.float64), answers["shadow"].to_numpy(np.float64)
    varies = n > 2 and np.ptp(live) > 0 and np.ptp(shadow) > 0
    return ShadowComparison(
        n=n,
        studies=int(answers["study"].nunique()),
        median_live=float(np.median(live)),
        median_shadow=float(np.median(shadow)),
        correlation=float(spearmanr(live, shadow).statistic) if varies else np.nan,
        ks_p=float(ks_2samp(live, shadow).pvalue),
        disagreement=float((answers["live_called"] != answers["shadow_called"]).mean()),
        test=_areas(answers[answers["label"].notna()]),
    )


def _areas(known: pd.DataFrame) -> PairedTest | None:
    is_positive = known["label"].to_numpy() == 1
    if not 2 <= is_positive.sum() <= len(known) - 2:
        return None
    scores = {name: known[name].to_numpy(np.float64) for name in ("shadow", "live")}
    (test,) = compare_areas(is_positive, scores, Bootstrap(known["patient"].to_numpy(str), len(known)))
    return test
