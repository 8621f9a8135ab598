"""Do two scorers say the same of the same cases, whoever is right?"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import combinations

import numpy as np
from scipy.stats import rankdata

from core.evaluation.statistics.intervals import Bootstrap, percentile, share
from core.types import Estimate


@dataclass(frozen=True, slots=True)
class Agreement:
    """Over the `n` cases that both scored; each scorer's calls are made at its own threshold.

    spearman: rank correlation of the scores, NaN where one scorer gives every case the same. kappa: Cohen's, of
    the calls; NaN where both call all cases alike. disagreement: share of cases called differently. only_first: cases
    that only the first called positive.
    """

    first: str
    second: str
    n: int
    spearman: float
    kappa: float
    disagreement: Estimate
    only_first: int
    only_second: int


def agreement(
    scorers: Mapping[str, np.ndarray], thresholds: Mapping[str, float], patients: np.ndarray | None = None
) -> tuple[Agreement, ...]:
    """Every pair in the order of the scorers. scores (n,), NaN where a scorer has none."""
    found = []
    for first, second in combinations(scorers, 2):
        both = ~np.isnan(scorers[first]) & ~np.isnan(scorers[second])
        one, other = scorers[first][both], scorers[second][both]
        calls, other_calls = one >= thresholds[first], other >= thresholds[second]
        found.append(
            Agreement(
                first=first,
                second=second,
                n=int(both.sum()),
                spearman=correlation(rankdata(one), rankdata(other)) if both.any() else float("nan"),
                kappa=cohen_kappa(calls, other_calls),
                disagreement=share(calls != other_calls, None if patients is None else np.asarray(patients)[both]),
                only_first=int((calls & ~other_calls).sum()),
                only_second=int((~calls & other_calls).sum()),
            )
        )
    return tuple(found)


def correlation(one: np.ndarray, other: np.ndarray) -> float:
    """Pearson's; NaN for fewer than two cases or a constant."""
    if len(one) < 2 or np.ptp(one) == 0 or np.ptp(other) == 0:
        return float("nan")
    return float(np.corrcoef(one, other)[0, 1])


def cohen_kappa(one: np.ndarray, other: np.ndarray) -> float:
    """Agreement of two sets of yes/no calls beyond chance (Cohen 1960); NaN where chance alone would agree fully."""
    if len(one) == 0:
        return float("nan")
    agreed = float((one == other).mean())
    chance = one.mean() * other.mean() + (1 - one.mean()) * (1 - other.mean())
    return float((agreed - chance) / (1 - chance)) if chance < 1 else float("nan")


def weighted_kappa(
    one: np.ndarray, other: np.ndarray, categories: int, bootstrap: Bootstrap, *, is_ordered: bool = True
) -> Estimate:
    """Agreement of two ordered categories beyond chance, with quadratic weights (Cohen 1968), over patients; of
    categories without an order every disagreement weighs the same (Cohen 1960).

    one, other: (n,) category from 0; bootstrap: of the same n cases. NaN where one category takes all of both.
    """
    pairs = np.zeros((len(one), categories**2), np.float32)
    pairs[np.arange(len(one)), np.asarray(one) * categories + np.asarray(other)] = 1
    places = np.arange(categories)
    apart = places[:, None] - places[None, :]
    cost = (apart**2 if is_ordered else apart != 0).astype(np.float64)

    def kappa(counts: np.ndarray) -> np.ndarray:
        tables = counts.T.reshape(-1, categories, categories) / counts.sum(0)[:, None, None]
        by_chance = tables.sum(2)[:, :, None] * tables.sum(1)[:, None, :]
        expected = (by_chance * cost).sum((1, 2))
        observed = (tables * cost).sum((1, 2))
        return np.where(expected > 0, 1 - observed / np.where(expected > 0, expected, 1), np.nan)

    value = float(kappa(pairs.sum(0)[:, None].astype(np.float64))[0])
    samples = np.concatenate([kappa((pairs.T @ weights).astype(np.float64)) for weights in bootstrap.blocks()])
    return percentile(value, samples, len(one))


@dataclass(frozen=True, slots=True)
class DescriptorAgreement:
    """How far two describe the same lesions by the same words, over the `n` lesions that both described.

    kappa: Cohen's, without order between words; NaN where both always use one word, and of a single patient. agreed:
    share with the same word. n_patients: of the lesions; the intervals draw patients.
    """

    descriptor: str
    first: str
    second: str
    n: int
    n_patients: int
    kappa: Estimate
    agreed: Estimate


def descriptor_agreement(
    described: Mapping[str, Sequence[Mapping[str, str]]], words: Mapping[str, Sequence[str]], patients: Sequence[str]
) -> tuple[DescriptorAgreement, ...]:
    """Every pair of those who describe, for each descriptor on which both have a word for a lesion.

    described: who -> of each lesion, in one order, descriptor -> word. words: descriptor -> the words that there are;
    others count as none. patients: of each lesion.
    """
    found = []
    for descriptor, known in words.items():
        places = {word: place for place, word in enumerate(known)}
        said = {
            who: np.array([places.get(lesion.get(descriptor, ""), -1) for lesion in lesions], int)
            for who, lesions in described.items()
        }
        for first, second in combinations(described, 2):
            both = (said[first] >= 0) & (said[second] >= 0)
            if not both.any():
                continue
            one, other, whose = said[first][both], said[second][both], np.asarray(patients)[both]
            agreed, n_patients = share(one == other, whose), len(np.unique(whose))
            kappa = _nominal_kappa(one, other, len(known), whose, agreed)
            found.append(DescriptorAgreement(descriptor, first, second, len(one), n_patients, kappa, agreed))
    return tuple(found)


def _nominal_kappa(
    one: np.ndarray, other: np.ndarray, categories: int, patients: np.ndarray, agreed: Estimate
) -> Estimate:
    """Kappa without order. Where all lesions agree every draw does, which says nothing of how sure that is: the lower
    end of the share's interval stands in. Of a single patient there is none: no draw could be another."""
    if len(np.unique(patients)) < 2:
        return Estimate(float("nan"), float("nan"), float("nan"), len(one))
    kappa = weighted_kappa(one, other, categories, Bootstrap(patients, len(one)), is_ordered=False)
    if agreed.value < 1 or np.isnan(kappa.value):
        return kappa
    counts = np.bincount(one, minlength=categories) / len(one)
    chance = float((counts**2).sum())
    return Estimate(1.0, (agreed.low - chance) / (1 - chance), 1.0, len(one))
