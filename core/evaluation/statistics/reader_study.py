"""Multi-reader multi-case studies: does a modality change what readers see, for other readers and other cases?

Obuchowski & Rockette 1995 with the degrees of freedom of Hillis 2007 (Stat Med 26:596); the equivalent analysis of
jackknife pseudovalues by Dorfman, Berbaum & Metz 1992 as in Hillis et al. 2008; the one-shot U-statistic of Gallas 2006
(Acad Radiol 13:353) by its moments M1 to M8, for designs that are not fully crossed, too (Gallas & Brown 2008).
Covariances are DeLong's, over patients where one has several cases (Obuchowski 1997), or the jackknife's. Where readers
read different cases (split-plot designs, missing reads) a covariance comes from the cases that both read and is 0
without any; the averages over all pairs of readers then belong into the same formulas (Hillis 2014, Stat Med 33:330).
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from itertools import combinations

import numpy as np
from scipy.stats import f as f_distribution
from scipy.stats import ncf, norm, t
from statsmodels.genmod.families import Binomial
from statsmodels.genmod.generalized_estimating_equations import GEE

from core.errors import InvalidInput
from core.evaluation.statistics.comparison import holm
from core.evaluation.statistics.intervals import (
    one_case_each,
    patient_indices,
    placements,
    require_both_classes,
    wilson,
)

LEVEL = 0.05
MAX_KERNELS = 50_000_000
"""Readers x positives x negatives of a modality that the U-statistic takes: 400 MB."""
ROUNDING = 1e-12
"""Share of the variances it was computed from below which one is an error of rounding."""


@dataclass(frozen=True, slots=True)
class ReaderStudy:
    """Who scored which case under which modality.

    scores: (modalities, readers, cases), NaN where there is no read; higher is more suspicious. is_positive: (cases,)
    bool. patients: (cases,) or None where every case is a patient of its own. remarks: sentences on cases and patients
    that may be one.
    """

    modalities: tuple[str, ...]
    readers: tuple[str, ...]
    is_positive: np.ndarray
    scores: np.ndarray
    patients: np.ndarray | None = None
    remarks: tuple[str, ...] = ()

    @property
    def fully_crossed(self) -> bool:
        """Whether every reader scored every case under every modality."""
        return not bool(np.isnan(self.scores).any())


@dataclass(frozen=True, slots=True)
class Merit:
    """What is measured of each modality and reader, and what each case adds to it.

    values: (modalities, readers). of_positives (modalities, readers, positives), of_negatives (…, negatives): the
    structural components, whose means are the value, NaN where there is no read; None where a measure does not look at
    that kind of case.
    """

    values: np.ndarray
    of_positives: np.ndarray | None
    of_negatives: np.ndarray | None

    @property
    def is_whole(self) -> bool:
        """Whether no read is missing."""
        return not any(part is not None and np.isnan(part).any() for part in (self.of_positives, self.of_negatives))

    def kinds(self, is_positive: np.ndarray) -> list[tuple[np.ndarray, np.ndarray]]:
        """Components, and (cases,) bool whose they are, of each kind of case that the measure looks at."""
        both = (self.of_positives, is_positive), (self.of_negatives, ~is_positive)
        return [(part, chosen) for part, chosen in both if part is not None]


def areas(study: ReaderStudy) -> Merit:
    """The empirical area under the ROC curve of each modality and reader, on the cases that the reader read."""

    def components(positives: np.ndarray, negatives: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        labels = np.arange(len(positives) + len(negatives)) < len(positives)
        placed = placements(labels, np.concatenate([positives, negatives]))
        return placed.of_positives / len(negatives), placed.of_negatives / len(positives)

    return _by_reader(study, components)


def partial_areas(study: ReaderStudy, specificity: tuple[float, float]) -> Merit:
    """The area under the part of the ROC curve between two specificities, divided by their distance.

    So it is the mean sensitivity there, in [0, 1]. The curve is the empirical one with straight lines across ties
    (Dodd & Pepe 2003, Biometrics 59:614). Components of positives are exact; those of negatives are the derivative of
    the area by the weight of each (the infinitesimal jackknife), so that covariances count that the part of the curve
    is found from the same negatives. From 0 to 1 they are DeLong's.
    """
    low, high = specificity
    if not 0 <= low < high <= 1:
        raise InvalidInput("A partial area lies between two specificities of 0 to 1, the smaller one first.")
    return _by_reader(study, lambda positives, negatives: _partial(positives, negatives, 1 - high, 1 - low))


def _partial(positives: np.ndarray, negatives: np.ndarray, first: float, last: float) -> tuple[np.ndarray, np.ndarray]:
    """Components of the area between the false positive rates `first` and `last`, divided by their distance."""
    width, n = last - first, len(negatives)
    ordered = np.sort(negatives)
    above = 1 - np.searchsorted(ordered, positives, "right") / n
    at_or_above = 1 - np.searchsorted(ordered, positives, "left") / n

    def gained(rate: np.ndarray) -> np.ndarray:  # by a positive that is called from this false positive rate on
        return np.asarray((last - np.clip(rate, first, last)) / width)

    def integral(rate: np.ndarray) -> np.ndarray:  # of `gained` from 0 to rate
        inside = np.clip(rate, first, last)
        return np.asarray(np.minimum(rate, first) + (inside - first) * (gained(inside) + 1) / 2)

    tied = at_or_above > above
    width_of_tie = np.where(tied, at_or_above - above, 1.0)
    of_positives = np.where(tied, (integral(at_or_above) - integral(above)) / width_of_tie, gained(above))
    # How the gain of each positive changes with both ends of its tie; without one, with its rate alone. At a corner of
    # `gained` both sides count one half.
    slope = -((np.sign(above - first) + np.sign(last - above)) / 2).clip(0) / width
    by_above = np.where(tied, (of_positives - gained(above)) / width_of_tie, slope)
    by_at_or_above = np.where(tied, (gained(at_or_above) - of_positives) / width_of_tie, 0.0)
    order = np.argsort(positives, kind="stable")
    below = np.concatenate([[0.0], np.cumsum(by_above[order])])[np.searchsorted(positives[order], negatives, "left")]
    up_to = np.concatenate([[0.0], np.cumsum(by_at_or_above[order])])[
        np.searchsorted(positives[order], negatives, "right")
    ]
    mean_change = (by_above * above + by_at_or_above * at_or_above).sum()
    return of_positives, of_positives.mean() + (below + up_to - mean_change) / len(positives)


def _by_reader(
    study: ReaderStudy, components: Callable[[np.ndarray, np.ndarray], tuple[np.ndarray, np.ndarray]]
) -> Merit:
    """components: of the scores of a reader's positives and negatives, for each of them."""
    require_both_classes(study.is_positive, "A reader study")
    found = [
        np.full((*study.scores.shape[:2], int(kind.sum())), np.nan) for kind in (study.is_positive, ~study.is_positive)
    ]
    for at in np.ndindex(study.scores.shape[:2]):
        parts = [study.scores[at][kind] for kind in (study.is_positive, ~study.is_positive)]
        read = [~np.isnan(part) for part in parts]
        if any(one.sum() < 2 for one in read):
            continue
        for whole, chosen, part in zip(
            found, read, components(*(part[one] for part, one in zip(parts, read, strict=True))), strict=True
        ):
            whole[at][chosen] = part
    return _merit(*found)


def sensitivities(study: ReaderStudy, cut: float) -> Merit:
    """The share of positives scored at or above `cut`."""
    require_both_classes(study.is_positive, "A reader study")
    scores = study.scores[..., study.is_positive]
    return _merit(np.where(np.isnan(scores), np.nan, scores >= cut), None)


def specificities(study: ReaderStudy, cut: float) -> Merit:
    """The share of negatives scored below `cut`."""
    require_both_classes(study.is_positive, "A reader study")
    scores = study.scores[..., ~study.is_positive]
    return _merit(None, np.where(np.isnan(scores), np.nan, scores < cut))


def means_of_cases(study: ReaderStudy) -> Merit:
    """The mean of what each reader has over all cases, whatever their truth (seconds a case)."""
    return _merit(study.scores, None)


def _merit(of_positives: np.ndarray | None, of_negatives: np.ndarray | None) -> Merit:
    """Refuses a reader who read too little of a modality to have a value there."""
    part = of_positives if of_positives is not None else of_negatives
    assert part is not None
    read = [(~np.isnan(one)).sum(axis=-1) for one in (of_positives, of_negatives) if one is not None]
    few = int((np.min(read, axis=0) < 2).sum())
    if few:
        raise InvalidInput(
            f"In {few} combinations of reader and modality fewer than two positive or two negative cases were read. "
            "Obuchowski-Rockette needs two of each; only the U-statistic works without them."
        )
    return Merit(np.nanmean(part, axis=-1), of_positives, of_negatives)


@dataclass(frozen=True, slots=True)
class OddsRatio:
    """Odds of being right under `first` over those under `second`, over all readers; shares: of right calls of each.

    low, high: 95 %; NaN, as p is, where the robust variance is 0: every patient speaks for one ratio. n: reads.
    """

    first: str
    second: str
    shares: tuple[float, float]
    value: float
    low: float
    high: float
    p: float
    n: int


def generalised_estimate(study: ReaderStudy, cut: float, *, of_positives: bool) -> OddsRatio | None:
    """Sensitivity (or specificity) at `cut` of the first two modalities by generalised estimating equations.

    Liang & Zeger 1986: a logistic model of the modality, reads of one patient correlated in whatever way (robust
    variance, independence as working correlation). For these readers; reads may be missing. None where every call, or
    none, under a modality is right: the odds are infinite there.
    """
    chosen = study.is_positive == of_positives
    patients = patient_indices(study.patients, len(study.is_positive))
    scores = study.scores[:2][..., chosen]
    is_read = ~np.isnan(scores)
    right = ((scores >= cut) == of_positives)[is_read].astype(np.float64)
    modality, _, case = np.nonzero(is_read)
    shares = tuple(float(right[modality == one].mean()) if (modality == one).any() else np.nan for one in (0, 1))
    if not all(0 < share < 1 for share in shares):
        return None
    columns = np.column_stack([np.ones(len(right)), modality == 0])
    fitted = GEE(right, columns, groups=patients[chosen][case], family=Binomial()).fit()
    low, high, p = np.nan, np.nan, np.nan
    if _unless_rounding(float(fitted.cov_robust[1, 1]), float(fitted.cov_naive[1, 1])):
        (low, high), p = fitted.conf_int()[1], fitted.pvalues[1]
    return OddsRatio(
        study.modalities[0], study.modalities[1], (shares[0], shares[1]), float(np.exp(fitted.params[1])),
        float(np.exp(low)), float(np.exp(high)), float(p), len(right),
    )  # fmt: skip


def delong_covariance(merit: Merit, is_positive: np.ndarray, patients: np.ndarray | None = None) -> np.ndarray:
    """(m * r, m * r) covariance of the values, modality by modality; cases (or patients) are the samples.

    Of two values whose readers read no case in common it is 0.
    """
    size = merit.values.size
    kinds = [(part.reshape(size, -1), chosen) for part, chosen in merit.kinds(is_positive)]
    is_single = one_case_each(patients)
    patient_of = np.arange(len(is_positive)) if is_single else patient_indices(patients, len(is_positive))
    n_patients, covariance, totals = int(patient_of.max()) + 1, np.zeros((size, size)), []
    for part, chosen in kinds:
        read = ~np.isnan(part)
        samples = np.where(read, part - np.nanmean(part, axis=1, keepdims=True), 0.0) / read.sum(axis=1, keepdims=True)
        if not is_single:
            samples, read = _over_patients(samples, patient_of[chosen], n_patients), _over_patients(
                read.astype(np.float64), patient_of[chosen], n_patients
            ) > 0  # fmt: skip
        shared = read.astype(np.float64) @ read.T
        _require_two(int(shared.diagonal().min()), "cases" if is_single else "patients")
        covariance += samples @ samples.T * np.where(shared > 1, shared / np.maximum(shared - 1, 1), 1)
        totals.append(samples)
    if len(totals) == 2 and not is_single:
        cross = totals[0] @ totals[1].T
        covariance += (cross + cross.T) * n_patients / (n_patients - 1)
    return covariance


def _over_patients(values: np.ndarray, patient_of: np.ndarray, n_patients: int) -> np.ndarray:
    """(size, patients) sums of (size, cases)."""
    totals = np.zeros((n_patients, len(values)))
    np.add.at(totals, patient_of, values.T)
    return totals.T


def _require_two(found: int, what: str) -> None:
    if found < 2:
        raise InvalidInput(f"A reader study needs two positive and two negative {what} or more. Add cases.")


def smaller_classes(merit: Merit, is_positive: np.ndarray, patients: np.ndarray | None = None) -> list[int]:
    """Of each modality the patients with a read of that kind of case of which fewer have one."""
    patient_of = patient_indices(patients, len(is_positive))
    return [
        min(
            len(np.unique(patient_of[chosen][~np.isnan(part[at]).all(axis=0)]))
            for part, chosen in merit.kinds(is_positive)
        )
        for at in range(len(merit.values))
    ]


def leave_one_out(merit: Merit) -> np.ndarray:
    """(m, r, cases) the values without each case, positives first: exact where each is a mean of components.

    Of a partial area it is so to first order. Refuses missing reads.
    """
    if not merit.is_whole:
        raise InvalidInput("Reads are missing. The jackknife and DBM need every reader to score every case.")
    values = merit.values[..., None]
    without = []
    for part in (merit.of_positives, merit.of_negatives):
        if part is not None:
            n = part.shape[-1]
            _require_two(n, "cases")
            without.append((n * values - part) / (n - 1))
    return np.concatenate(without, axis=-1)


def jackknife_covariance(merit: Merit) -> np.ndarray:
    """As `delong_covariance`, from leaving out one case after another; cases are taken to be independent."""
    without = leave_one_out(merit).reshape(merit.values.size, -1)
    n = without.shape[1]
    centred = without - without.mean(axis=1, keepdims=True)
    return np.asarray((n - 1) / n * centred @ centred.T)


@dataclass(frozen=True, slots=True)
class Components:
    """Of the Obuchowski-Rockette model. cov1: same reader, other modality; cov2: other reader, same modality; cov3:
    both differ. reader and modality_reader may come out below 0, as estimates do.
    """

    reader: float
    modality_reader: float
    error: float
    cov1: float
    cov2: float
    cov3: float


@dataclass(frozen=True, slots=True)
class Difference:
    """`first` minus `second`: 95 % interval, t with `df` (infinite: normal), two-sided p and Holm's over all pairs.

    A standard error of 0 would claim certainty: with it all but value and se is NaN.
    """

    first: str
    second: str
    value: float
    se: float
    df: float
    low: float
    high: float
    t: float
    p: float
    p_holm: float

    @property
    def turned(self) -> Difference:
        """`second` minus `first`."""
        return replace(
            self, first=self.second, second=self.first, value=-self.value, low=-self.high, high=-self.low, t=-self.t
        )

    def p_not_inferior(self, margin: float) -> float:
        """One-sided p against "the first is worse than the second by `margin` or more"; NaN with a se of 0."""
        if not 0 < margin < 1:
            raise InvalidInput(f"The margin is {margin:g}; it must lie between 0 and 1.")
        return _upper_p((self.value + margin) / self.se, self.df) if self.se > 0 else float("nan")


@dataclass(frozen=True, slots=True)
class Analysis:
    """readers, cases: "random" or "fixed". f with df1 and df2 is the test that all modalities are equal; f, df2 and p
    are NaN where the standard error is 0.
    """

    readers: str
    cases: str
    f: float
    df1: float
    df2: float
    p: float
    differences: tuple[Difference, ...]


@dataclass(frozen=True, slots=True)
class Means:
    """The reader-averaged value of a modality with its 95 % interval for other readers and other cases.

    With a standard error of 0 df is NaN and the interval is another one, as in `one_modality`.
    """

    modality: str
    value: float
    se: float
    df: float
    low: float
    high: float


@dataclass(frozen=True, slots=True)
class ObuchowskiRockette:
    """All that the model says: components of variance, each modality, and the three kinds of analysis."""

    components: Components
    means: tuple[Means, ...]
    analyses: tuple[Analysis, ...]


def obuchowski_rockette(
    modalities: tuple[str, ...],
    values: np.ndarray,
    covariance: np.ndarray,
    *,
    is_crossed: bool = True,
    patients: Sequence[int] | None = None,
) -> ObuchowskiRockette:
    """values (modalities, readers); covariance (m * r, m * r) of them. Two modalities and two readers at least.

    is_crossed: whether every reader read every case. Where not, "fixed cases" says nothing, because the readers' own
    cases are among what differs between them: that analysis is left out. patients: for each modality, as
    `one_modality` has them.
    """
    m, r = values.shape
    if m < 2 or r < 2:
        raise InvalidInput("A comparison of modalities needs two modalities and two readers or more.")
    tensor = covariance.reshape(m, r, m, r)
    components, ms_t, ms_tr = _components(values, tensor)
    excess, size = max(components.cov2 - components.cov3, 0.0), _size(values, covariance)
    both = _unless_rounding(ms_tr + r * excess, size)
    of_cases = _unless_rounding(components.error - components.cov1 + (r - 1) * excess, size)
    of_readers = _unless_rounding(ms_tr, size)
    ms_df = (m - 1) * (r - 1)
    analyses = [
        _analysis("random", "random", modalities, values, ms_t, both, _satterthwaite(both, ms_tr, ms_df)),
        _analysis("fixed", "random", modalities, values, ms_t, of_cases, np.inf),
    ]
    if is_crossed:
        analyses.append(_analysis("random", "fixed", modalities, values, ms_t, of_readers, float(ms_df)))
    means = tuple(
        one_modality(name, values[at], tensor[at, :, at, :], None if patients is None else patients[at])
        for at, name in enumerate(modalities)
    )
    return ObuchowskiRockette(components, means, tuple(analyses))


def _components(values: np.ndarray, tensor: np.ndarray) -> tuple[Components, float, float]:
    m, r = values.shape
    ms_t, ms_r, ms_tr = _mean_squares(values)
    same_m, same_r = np.eye(m, dtype=bool)[:, None, :, None], np.eye(r, dtype=bool)[None, :, None, :]
    error = float(tensor[np.broadcast_to(same_m & same_r, tensor.shape)].mean())
    cov1 = float(tensor[np.broadcast_to(~same_m & same_r, tensor.shape)].mean())
    cov2 = float(tensor[np.broadcast_to(same_m & ~same_r, tensor.shape)].mean())
    cov3 = float(tensor[np.broadcast_to(~same_m & ~same_r, tensor.shape)].mean())
    of_reader = (ms_r - ms_tr) / m - cov1 + cov3
    of_both = ms_tr - error + cov1 + cov2 - cov3  # by the mean squares' expectations (Hillis et al. 2005), never cut
    return Components(of_reader, of_both, error, cov1, cov2, cov3), ms_t, ms_tr


def _mean_squares(values: np.ndarray) -> tuple[float, float, float]:
    """Of modality, reader and their interaction."""
    m, r = values.shape
    by_modality, by_reader, mean = values.mean(axis=1), values.mean(axis=0), values.mean()
    rest = values - by_modality[:, None] - by_reader[None, :] + mean
    return (
        float(r * ((by_modality - mean) ** 2).sum() / (m - 1)),
        float(m * ((by_reader - mean) ** 2).sum() / (r - 1)),
        float((rest**2).sum() / ((m - 1) * (r - 1))),
    )


def _size(values: np.ndarray, covariance: np.ndarray) -> float:
    """What a variance among these values is compared with by `_unless_rounding`; values that do not vary round, too."""
    return float(np.diagonal(covariance).mean() + ROUNDING * (values**2).mean())


def _unless_rounding(variance: float, size: float) -> float:
    """`variance`; 0 where it is below 0, or only an error of rounding beside variances of this size."""
    return variance if variance > ROUNDING * size else 0.0


def _satterthwaite(whole: float, ms: float, ms_df: float) -> float:
    """Hillis' degrees of freedom: of a sum in which only the mean square `ms` is taken to vary."""
    return float(whole**2 / (ms**2 / ms_df)) if ms > 0 else float("inf")


def _analysis(
    readers: str,
    cases: str,
    modalities: tuple[str, ...],
    values: np.ndarray,
    ms_t: float,
    denominator: float,
    df: float,
) -> Analysis:
    df1, se = float(len(modalities) - 1), float(np.sqrt(denominator * 2 / values.shape[1]))
    f, df, p = _f_test(ms_t, denominator, df1, df)
    means = dict(zip(modalities, values.mean(axis=1), strict=True))
    found = [difference(a, b, float(means[a] - means[b]), se, df) for a, b in combinations(modalities, 2)]
    return Analysis(readers, cases, f, df1, df, p, with_holm(found))


def _f_test(ms: float, denominator: float, df1: float, df2: float) -> tuple[float, float, float]:
    """(F, df2, p); NaN where the denominator is 0, as every difference would be certain."""
    if denominator == 0:
        return float("nan"), float("nan"), float("nan")
    return ms / denominator, df2, float(f_distribution.sf(ms / denominator, df1, min(df2, 1e12)))


def with_holm(found: list[Difference]) -> tuple[Difference, ...]:
    """The same tests, each with its p adjusted over all of them."""
    adjusted = holm([one.p for one in found])
    return tuple(
        Difference(o.first, o.second, o.value, o.se, o.df, o.low, o.high, o.t, o.p, p)
        for o, p in zip(found, adjusted, strict=True)
    )


def difference(first: str, second: str, value: float, se: float, df: float) -> Difference:
    """The test of one difference alone; its p_holm is its p."""
    if se == 0:
        return Difference(first, second, value, se, *(float("nan"),) * 6)
    half, statistic = _quantile(df) * se, value / se
    p = min(1.0, 2 * _upper_p(abs(statistic), df))
    return Difference(first, second, value, se, df, value - half, value + half, statistic, p, p)


def _quantile(df: float) -> float:
    return float(t.ppf(1 - LEVEL / 2, df)) if np.isfinite(df) else float(norm.ppf(1 - LEVEL / 2))


def _upper_p(statistic: float, df: float) -> float:
    return float(t.sf(statistic, df)) if np.isfinite(df) else float(norm.sf(statistic))


def one_modality(modality: str, values: np.ndarray, covariance: np.ndarray, patients: int | None = None) -> Means:
    """The mean of (readers,) values with their (r, r) covariance: Hillis' interval from this modality alone.

    patients: of the smaller class, where the values are shares. With a standard error of 0 Wilson's interval of a share
    among them stands in, as in `delong_interval`; of other values there is none (NaN).
    """
    value, se, df = _mean(values, covariance, _size(values, covariance))
    if se > 0:
        half = _quantile(df) * se
        return Means(modality, value, se, df, value - half, value + half)
    low, high = (float("nan"),) * 2 if patients is None else wilson(float(np.clip(value, 0, 1)) * patients, patients)
    return Means(modality, value, se, float("nan"), low, high)


def _mean(values: np.ndarray, covariance: np.ndarray, size: float) -> tuple[float, float, float]:
    """Mean, standard error and degrees of freedom. size: as of `_unless_rounding`."""
    r, ms = len(values), float(values.var(ddof=1))
    cov2 = float(covariance[~np.eye(r, dtype=bool)].mean())
    whole = _unless_rounding(ms + max(r * cov2, 0.0), size)
    return float(values.mean()), float(np.sqrt(whole / r)), _satterthwaite(whole, ms, r - 1)


def against_one(model: str, readers: np.ndarray, scores: np.ndarray, study: ReaderStudy) -> Difference:
    """The average reader minus a model that reads alone, on the same cases; readers and cases are random.

    readers (readers, cases) and scores (cases,). The differences to the model are a study of one modality, so that
    the model's own uncertainty from the cases is in every covariance (Hillis, Obuchowski & Berbaum 2005).
    """
    joined = np.concatenate([readers, scores[None, :]])[None]
    names = (*study.readers, model)
    merit = areas(ReaderStudy(("alone",), names, study.is_positive, joined, study.patients))
    covariance = delong_covariance(merit, study.is_positive, study.patients)
    contrast = np.hstack([np.eye(len(readers)), -np.ones((len(readers), 1))])
    # What rounds are the areas' own variances: those of differences may all be 0.
    found = _mean(contrast @ merit.values[0], contrast @ covariance @ contrast.T, _size(merit.values, covariance))
    return difference("average reader", model, *found)


def pseudovalue_test(merit: Merit) -> tuple[float, float, float]:
    """(F, denominator's df, p) of Dorfman-Berbaum-Metz, random readers and cases, as Hillis et al. 2008 amend it.

    NaN where the denominator is 0.
    """
    without = leave_one_out(merit)
    m, r, n = without.shape
    y = n * merit.values[..., None] - (n - 1) * without
    mean, a, b, c = y.mean(), y.mean((1, 2)), y.mean((0, 2)), y.mean((0, 1))
    ab, ac, bc = y.mean(2), y.mean(1), y.mean(0)
    ms_t = r * n * ((a - mean) ** 2).sum() / (m - 1)
    ms_tr = n * ((ab - a[:, None] - b + mean) ** 2).sum() / ((m - 1) * (r - 1))
    ms_tc = r * ((ac - a[:, None] - c + mean) ** 2).sum() / ((m - 1) * (n - 1))
    rest = y - ab[..., None] - ac[:, None, :] - bc + a[:, None, None] + b[:, None] + c - mean
    ms_trc = (rest**2).sum() / ((m - 1) * (r - 1) * (n - 1))
    size = n * _size(merit.values, np.diag(y.var(axis=-1, ddof=1).ravel() / n))
    whole = _unless_rounding(float(ms_tr + max(ms_tc - ms_trc, 0.0)), size)
    return _f_test(float(ms_t), whole, m - 1, _satterthwaite(whole, float(ms_tr), (m - 1) * (r - 1)))


@dataclass(frozen=True, slots=True)
class OneShot:
    """A reader-averaged area, or a difference of two: unbiased variance and the moments M1 to M8 (first modality).

    As what is unbiased, the variance may be 0 and less.
    """

    value: float
    variance: float
    moments: tuple[float, ...]


class _Kernels:
    """Of one modality: for each reader, positive and negative whether the pair is ordered, 0 where it was not read."""

    def __init__(self, scores: np.ndarray, is_positive: np.ndarray) -> None:
        high, low = scores[:, is_positive][:, :, None], scores[:, ~is_positive][:, None, :]
        self.read = (~np.isnan(high) & ~np.isnan(low)).astype(np.float64)
        self.ordered = np.where(self.read > 0, (high > low) + 0.5 * (high == low), 0.0)


def _pair_sums(one: np.ndarray, other: np.ndarray) -> np.ndarray:
    """(8,) sums of products over pairs of kernels that share: reader, both cases; reader, negative; reader, positive;
    reader alone; and the same four for two readers. one, other: (readers, positives, negatives).
    """
    r = len(one)
    both = one.reshape(r, -1) @ other.reshape(r, -1).T
    positive, negative = one.sum(2) @ other.sum(2).T, one.sum(1) @ other.sum(1).T
    every = np.outer(one.sum((1, 2)), other.sum((1, 2)))
    parts = (both, negative - both, positive - both, every - positive - negative + both)
    same = [float(np.trace(part)) for part in parts]
    return np.array([*same, *(float(part.sum()) - on for part, on in zip(parts, same, strict=True))])


def one_shot(study: ReaderStudy, first: int, second: int | None = None) -> OneShot:
    """Gallas' estimate for a modality, or for `first` minus `second`; every read pair of cases counts the same.

    Where a kind of pair does not occur in the design its moment is NaN and has no weight. Refuses where two readers who
    share no pair leave M8 unknown. Cases are taken to be independent.
    """
    require_both_classes(study.is_positive, "A reader study")
    size = len(study.readers) * int(study.is_positive.sum()) * int((~study.is_positive).sum())
    if size > MAX_KERNELS:
        raise InvalidInput(
            f"The U-statistic compares {size:,} pairs of cases; at most {MAX_KERNELS:,} are possible here. Analyse "
            "fewer readers or cases."
        )
    chosen = [_Kernels(study.scores[at], study.is_positive) for at in (first, *(() if second is None else (second,)))]
    if any(kernels.read.sum() == 0 for kernels in chosen):
        raise InvalidInput("A modality has no reader with both a positive and a negative case. Leave it out.")
    value = [float(one.ordered.sum() / one.read.sum()) for one in chosen]
    variance, moments = _variance(chosen[0], chosen[0])
    if second is not None:
        variance += _variance(chosen[1], chosen[1])[0] - 2 * _variance(chosen[0], chosen[1])[0]
    if abs(variance) < ROUNDING / 100:  # of eight moments of at most 1
        variance = 0.0
    return OneShot(value[0] if second is None else value[0] - value[1], variance, moments)


def _variance(one: _Kernels, other: _Kernels) -> tuple[float, tuple[float, ...]]:
    """Covariance of two modalities' areas and its moments."""
    counts, sums = _pair_sums(one.read, other.read), _pair_sums(one.ordered, other.ordered)
    known = counts > 0.5
    if not known[7]:
        raise InvalidInput("Too few readers or cases: nothing tells how different readers of different cases agree.")
    moments = np.full(8, np.nan)
    moments[known] = sums[known] / counts[known]
    weights = counts / (one.read.sum() * other.read.sum())
    weights[7] -= 1
    return float((weights[known] * moments[known]).sum()), tuple(float(moment) for moment in moments)


@dataclass(frozen=True, slots=True)
class RoeMetz:
    """Components of variance of the simulation of Roe & Metz 1997; with `error` those that differ by case sum to 1.

    separation: distance of positives from negatives on the scale of the score.
    """

    separation: float = 1.5
    reader: float = 0.0055
    modality_reader: float = 0.0055
    case: float = 0.3
    modality_case: float = 0.3
    reader_case: float = 0.2
    error: float = 0.2


def simulate(
    model: RoeMetz, *, readers: int, positives: int, negatives: int, rng: np.random.Generator, effect: float = 0.0
) -> ReaderStudy:
    """A fully crossed study of two modalities; `effect` is added to the separation under the second."""
    is_positive = np.arange(positives + negatives) < positives
    n = len(is_positive)

    def drawn(variance: float, *shape: int) -> np.ndarray:
        return rng.normal(0, np.sqrt(variance), shape)

    of_reader = np.where(is_positive, drawn(model.reader, 1, readers, 1), drawn(model.reader, 1, readers, 1))
    of_both = np.where(
        is_positive, drawn(model.modality_reader, 2, readers, 1), drawn(model.modality_reader, 2, readers, 1)
    )
    of_cases = (
        drawn(model.case, 1, 1, n) + drawn(model.modality_case, 2, 1, n) + drawn(model.reader_case, 1, readers, n)
    )
    apart = np.array([model.separation, model.separation + effect])[:, None, None] * is_positive
    scores = apart + of_reader + of_both + of_cases + drawn(model.error, 2, readers, n)
    return ReaderStudy(("first", "second"), tuple(str(at + 1) for at in range(readers)), is_positive, scores)


def dealt_out(study: ReaderStudy, groups: int, shared: int = 0) -> ReaderStudy:
    """The same reads, but every group of readers has only its own cases (split-plot).

    shared: so many cases, evenly spaced, every group reads besides (hybrid).
    """
    of_case, of_reader = (np.arange(n) % groups for n in (len(study.is_positive), len(study.readers)))
    is_shared = np.zeros(len(of_case), bool)
    is_shared[[number * len(of_case) // shared for number in range(shared)]] = True
    scores = np.where((of_reader[:, None] == of_case) | is_shared, study.scores, np.nan)
    return replace(study, scores=scores)


def power(found: Components, *, readers: int, effect: float, case_ratio: float = 1.0) -> float:
    """Chance to find a difference of `effect` in area at 5 %, random readers and cases (Hillis et al. 2011).

    case_ratio: cases planned / cases of the pilot study that gave the components (same share of positives).
    """
    if readers < 2 or case_ratio <= 0 or effect == 0:
        raise InvalidInput("Power needs two readers or more, a number of cases above 0 and an effect other than 0.")
    excess = max(found.cov2 - found.cov3, 0.0) / case_ratio
    within = max(found.modality_reader, 0.0) + (found.error - found.cov1) / case_ratio
    whole, ms = within + (readers - 1) * excess, max(within - excess, 0.0)
    if not _unless_rounding(whole, found.error / case_ratio):
        raise InvalidInput("Nothing varies between the modalities that a power could be computed from.")
    df2 = min(_satterthwaite(whole, ms, readers - 1), 1e6)
    shift = readers * effect**2 / 2 / whole
    return float(ncf.sf(f_distribution.ppf(1 - LEVEL, 1, df2), 1, df2, shift))
