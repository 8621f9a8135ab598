"""Multi-reader multi-case analysis against published figures, brute force and simulation."""

from __future__ import annotations

from dataclasses import replace
from itertools import product
from pathlib import Path

import numpy as np
import pytest
from published_ratings import franken, van_dyke
from scipy.stats import f, ncf

from core.errors import InvalidInput
from core.evaluation.statistics import reader_study
from core.evaluation.statistics.intervals import clustered_variance, placements, wilson
from core.evaluation.statistics.reader_study import (
    Components,
    Difference,
    ReaderStudy,
    RoeMetz,
    against_one,
    areas,
    dealt_out,
    delong_covariance,
    difference,
    generalised_estimate,
    jackknife_covariance,
    leave_one_out,
    obuchowski_rockette,
    one_shot,
    partial_areas,
    power,
    pseudovalue_test,
    sensitivities,
    simulate,
    specificities,
    with_holm,
)
from core.evaluation.statistics.reader_study_summary import (
    UNTESTED,
    analyse,
    analyse_seconds,
    f_text,
    not_inferior_sentences,
    odds_sentence,
    one_shot_sentence,
    sentence,
    simulated_power,
    stand_ins,
)
from core.evaluation.tables.scores import read_scores

VAN_DYKE = np.array(
    [
        [0.91964573, 0.85877617, 0.90386473, 0.97310789, 0.82979066],
        [0.94782609, 0.90531401, 0.92173913, 0.99935588, 0.92995169],
    ]
)
"""Areas of Van Dyke et al. 1993: 2 modalities, 5 readers, 114 cases, as RJafroc and MRMCaov print them."""


def made(seed: int = 0, readers: int = 4, positives: int = 12, negatives: int = 15) -> ReaderStudy:
    study = simulate(
        RoeMetz(), readers=readers, positives=positives, negatives=negatives, rng=np.random.default_rng(seed)
    )
    return ReaderStudy(study.modalities, study.readers, study.is_positive, study.scores.round(1))  # with ties


def test_the_mean_squares_of_three_modalities_are_those_of_an_analysis_of_variance() -> None:
    """With independent errors of one variance, so that the components say the mean squares themselves."""
    values, error = np.random.default_rng(0).normal(size=(3, 4)), 0.01
    found = obuchowski_rockette(("a", "b", "c"), values, error * np.eye(12))

    modality, reader = (one.ravel() for one in np.meshgrid(range(3), range(4), indexing="ij"))
    whole, of_modality, of_reader = np.ones((12, 1)), np.eye(3)[modality], np.eye(4)[reader]

    def left_by(*columns: np.ndarray) -> float:
        design = np.hstack(columns)
        return float(((values.ravel() - design @ np.linalg.lstsq(design, values.ravel())[0]) ** 2).sum())

    both = left_by(whole, of_modality, of_reader)
    ms_reader, ms_both = (left_by(whole, of_modality) - both) / 3, both / 6
    assert found.components.modality_reader == pytest.approx(ms_both - error)
    assert found.components.reader == pytest.approx((ms_reader - ms_both) / 3)
    random = found.analyses[0]
    assert random.f == pytest.approx((left_by(whole, of_reader) - both) / 2 / ms_both)


def test_van_dyke_is_analysed_as_published() -> None:
    """The figures that MRMCaov's README prints for its data set VanDyke (jackknife covariances)."""
    error, cov1, cov3 = 0.0008022883, 0.0003466137, 0.0002390284
    cov2 = (0.0004839618, 0.0002041879)
    tensor = np.empty((2, 5, 2, 5))
    for m, r, n, s in product(range(2), range(5), range(2), range(5)):
        tensor[m, r, n, s] = (error if r == s else cov2[m]) if m == n else cov1 if r == s else cov3
    found = obuchowski_rockette(("1", "2"), VAN_DYKE, tensor.reshape(10, 10))
    both = found.analyses[0]
    one = both.differences[0]
    assert (both.f, both.df2, both.p) == pytest.approx((4.456319, 15.25967, 0.05166569), rel=1e-5)
    assert (one.value, one.se, one.t) == pytest.approx((-0.04380032, 0.02074862, -2.110999), rel=1e-5)
    assert (one.low, one.high) == pytest.approx((-0.0879594986, 0.0003588544), abs=1e-7)
    assert found.components.reader == pytest.approx(0.0015349993, rel=1e-5)
    assert found.components.modality_reader == pytest.approx(0.0002004025, rel=1e-4)
    first, second = found.means
    assert (first.value, first.low, first.high) == pytest.approx((0.8970370, 0.8252236, 0.9688505), abs=1e-6)
    assert (first.se, first.df) == pytest.approx((0.03317360, 12.74465), rel=1e-5)
    assert (second.se, second.df) == pytest.approx((0.02156637, 12.71019), rel=1e-5)
    fixed_readers, fixed_cases = found.analyses[1:]
    assert fixed_readers.df2 == np.inf and fixed_cases.df2 == 4
    assert fixed_cases.f == pytest.approx(0.004796171 / 0.0005510306, rel=1e-5)


def test_the_ratings_of_van_dyke_give_the_published_figures() -> None:
    """MRMCaov's README (areas, jackknife covariances) and its section on measures (all reads pooled)."""
    study = van_dyke()
    merit = areas(study)
    assert merit.values == pytest.approx(VAN_DYKE, abs=1e-7)
    found = obuchowski_rockette(study.modalities, merit.values, jackknife_covariance(merit))
    parts = found.components
    assert (parts.error, parts.cov1, parts.cov3) == pytest.approx((0.0008022883, 0.0003466137, 0.0002390284), rel=1e-6)
    assert parts.cov2 == pytest.approx(np.mean([0.0004839618, 0.0002041879]), rel=1e-6)
    both = found.analyses[0]
    assert (both.f, both.df2, both.p) == pytest.approx((4.456319, 15.25967, 0.05166569), rel=1e-6)
    pooled = ReaderStudy(("all",), ("all",), np.tile(study.is_positive, 10), study.scores.reshape(1, 1, -1))
    assert areas(pooled).values[0, 0] == pytest.approx(0.9229791, abs=1e-7)
    assert partial_areas(pooled, (0.7, 1.0)).values[0, 0] == pytest.approx(0.2499923 / 0.3, abs=1e-6)
    assert sensitivities(pooled, 3).values[0, 0] == pytest.approx(0.8711111, abs=1e-7)
    assert specificities(pooled, 3).values[0, 0] == pytest.approx(0.8478261, abs=1e-7)


def test_the_ratings_of_franken_give_the_published_figures() -> None:
    """What OR-DBM MRMC 2.51 (University of Iowa) prints for Franken et al. 1992, jackknife covariances.

    The two modalities differ less than their readers' errors let expect: components come out below 0, which is where
    programs that cut them off part from one another.
    """
    study = franken()
    merit = areas(study)
    assert merit.values[0] == pytest.approx([0.85345997, 0.86499322, 0.85730439, 0.81524197], abs=1e-8)
    assert merit.values[1] == pytest.approx([0.84961556, 0.84350972, 0.84011759, 0.81433740], abs=1e-8)
    found = obuchowski_rockette(study.modalities, merit.values, jackknife_covariance(merit))
    parts = found.components
    assert (parts.error, parts.cov1, parts.cov2, parts.cov3) == pytest.approx(
        (0.00152578, 0.00079168, 0.00048364, 0.00051251), abs=5e-9
    )
    assert (parts.reader, parts.modality_reader) == pytest.approx((0.00003776, -0.00071276), abs=1e-8)
    both, fixed_readers, fixed_cases = found.analyses
    for analysis in (both, fixed_cases):
        assert (analysis.f, analysis.df2, analysis.p) == pytest.approx((4.69, 3.0, 0.1188), abs=5e-3)
        one = analysis.differences[0]
        assert (one.value, one.se, one.low, one.high) == pytest.approx((0.01085, 0.00501, -0.00509, 0.02680), abs=5e-6)
    assert (fixed_readers.f, fixed_readers.p) == pytest.approx((0.32101, 0.5710), abs=5e-5)
    for mean, expected in zip(found.means, [(0.84774989, 0.02440215, 70.12), (0.83689507, 0.02356642, 253.64)],
                              strict=True):  # fmt: skip
        assert (mean.value, mean.se) == pytest.approx(expected[:2], abs=1e-8)
        assert mean.df == pytest.approx(expected[2], abs=0.005)
    assert pseudovalue_test(merit) == pytest.approx((both.f, both.df2, both.p))


def test_a_partial_area_without_ties_varies_as_the_jackknife_says() -> None:
    study = simulate(RoeMetz(), readers=3, positives=60, negatives=60, rng=np.random.default_rng(3))
    without = []
    for place in range(120):
        others = np.arange(120) != place
        smaller = ReaderStudy(study.modalities, study.readers, study.is_positive[others], study.scores[..., others])
        without.append(partial_areas(smaller, (0.5, 0.9)).values.ravel())
    centred = np.array(without) - np.mean(without, axis=0)
    found = delong_covariance(partial_areas(study, (0.5, 0.9)), study.is_positive)
    assert np.diag(found) == pytest.approx(np.diag(119 / 120 * centred.T @ centred), rel=0.1)


def test_a_partial_area_has_the_whole_area_as_its_limit_and_the_jackknifes_covariance() -> None:
    study = van_dyke()
    whole, merit = partial_areas(study, (0.0, 1.0)), areas(study)
    assert whole.of_positives == pytest.approx(merit.of_positives) and whole.of_negatives == pytest.approx(
        merit.of_negatives
    )
    parts = [partial_areas(study, one).values for one in ((0.0, 0.83), (0.83, 1.0))]
    assert 0.83 * parts[0] + 0.17 * parts[1] == pytest.approx(merit.values)

    found = partial_areas(study, (0.83, 1.0))
    assert found.of_negatives is not None and found.of_negatives.mean(axis=-1) == pytest.approx(found.values)
    without = []
    for place in range(114):
        others = np.arange(114) != place
        smaller = ReaderStudy(study.modalities, study.readers, study.is_positive[others], study.scores[..., others])
        without.append(partial_areas(smaller, (0.83, 1.0)).values.ravel())
    centred = np.array(without) - np.mean(without, axis=0)
    jackknife = 113 / 114 * centred.T @ centred
    own = delong_covariance(found, study.is_positive)
    assert np.diag(own) == pytest.approx(np.diag(jackknife), rel=0.12)
    assert own.mean() == pytest.approx(jackknife.mean(), rel=0.08)
    for wrong in ((0.9, 0.8), (-0.1, 1.0), (0.5, 1.1)):
        with pytest.raises(InvalidInput, match="specificities"):
            partial_areas(study, wrong)


def test_groups_that_share_no_case_are_as_many_studies() -> None:
    """Of a split-plot design the mean's variance is that of its independent groups' means."""
    study = dealt_out(made(readers=6, positives=30, negatives=40), 2)
    merit = areas(study)
    covariance = delong_covariance(merit, study.is_positive)
    alone = []
    for group in range(2):
        chosen = np.arange(70) % 2 == group
        part = ReaderStudy(
            study.modalities, study.readers[group::2], study.is_positive[chosen], study.scores[:, group::2][..., chosen]
        )
        own = areas(part)
        assert own.values == pytest.approx(merit.values[:, group::2])
        alone.append(delong_covariance(own, part.is_positive))
    tensor = covariance.reshape(2, 6, 2, 6)
    for group in range(2):
        assert tensor[:, group::2, :, group::2].reshape(6, 6) == pytest.approx(alone[group])
        assert not tensor[:, group::2, :, 1 - group :: 2].any()
    found = obuchowski_rockette(study.modalities, merit.values, covariance, is_crossed=False)
    assert [(one.readers, one.cases) for one in found.analyses] == [("random", "random"), ("fixed", "random")]
    # Of fixed readers: the difference of the means over both groups, each counting one half.
    contrast = np.concatenate([np.full(3, 1 / 3), np.full(3, -1 / 3)])
    expected = sum(contrast @ one @ contrast for one in alone) / 4
    assert found.analyses[1].differences[0].se ** 2 == pytest.approx(expected)


def test_in_a_hybrid_design_readers_of_two_groups_covary_by_the_cases_that_both_read() -> None:
    study = dealt_out(made(readers=6, positives=30, negatives=40), 2, shared=20)
    read = ~np.isnan(study.scores[0])
    assert read.all(axis=0).sum() == 20 and read.any(axis=0).all()
    merit = areas(study)
    tensor = delong_covariance(merit, study.is_positive).reshape(2, 6, 2, 6)
    assert (tensor[:, 0, :, 1] != 0).all() and (np.abs(tensor[0, 0, 0, 1]) < tensor[0, 0, 0, 0]).all()
    found = obuchowski_rockette(study.modalities, merit.values, tensor.reshape(12, 12), is_crossed=False)
    assert [(one.readers, one.cases) for one in found.analyses] == [("random", "random"), ("fixed", "random")]


@pytest.mark.parametrize("shared", [0, 30], ids=["split-plot", "hybrid"])
def test_of_dealt_out_cases_one_study_in_twenty_is_called_different_too(shared: int) -> None:
    rng, runs, called = np.random.default_rng(12), 250, 0
    for _ in range(runs):
        study = dealt_out(simulate(RoeMetz(), readers=6, positives=40, negatives=40, rng=rng), 2, shared)
        merit = areas(study)
        covariance = delong_covariance(merit, study.is_positive)
        found = obuchowski_rockette(study.modalities, merit.values, covariance, is_crossed=False)
        called += found.analyses[0].p < 0.05
    assert abs(called / runs - 0.05) < 3 * np.sqrt(0.05 * 0.95 / runs)


def test_leaving_out_one_case_is_what_counting_again_says() -> None:
    study = made()
    without = leave_one_out(areas(study))
    order = np.concatenate([np.flatnonzero(study.is_positive), np.flatnonzero(~study.is_positive)])
    for place in (0, 5, 14, 26):
        others = np.arange(len(order)) != order[place]
        smaller = ReaderStudy(study.modalities, study.readers, study.is_positive[others], study.scores[..., others])
        assert without[..., place] == pytest.approx(areas(smaller).values)


def test_dbm_and_obuchowski_rockette_agree_with_jackknife_covariances() -> None:
    for seed in range(3):
        study = made(seed)
        for merit in (areas(study), sensitivities(study, 1.0), specificities(study, 1.0)):
            by_or = obuchowski_rockette(study.modalities, merit.values, jackknife_covariance(merit)).analyses[0]
            assert pseudovalue_test(merit) == pytest.approx((by_or.f, by_or.df2, by_or.p))


def test_covariances_over_patients_have_obuchowskis_variance_on_their_diagonal() -> None:
    study = made()
    patients = np.arange(27) % 11
    found = delong_covariance(areas(study), study.is_positive, patients)
    for at, scores in enumerate(study.scores.reshape(8, -1)):
        placed = placements(study.is_positive, scores)
        expected = clustered_variance(placed.of_positives, placed.of_negatives, study.is_positive, patients)
        assert found[at, at] == pytest.approx(expected)
    alone = delong_covariance(areas(study), study.is_positive, np.arange(27))
    assert np.array_equal(alone, delong_covariance(areas(study), study.is_positive))


def brute_moments(scores: np.ndarray, is_positive: np.ndarray) -> list[float]:
    """M1 to M8 by walking over every pair of kernels."""
    kernels = [
        (r, i, j, float(row[i] > row[j]) + 0.5 * float(row[i] == row[j]))
        for r, row in enumerate(scores)
        for i in np.flatnonzero(is_positive)
        for j in np.flatnonzero(~is_positive)
        if not np.isnan(row[[i, j]]).any()
    ]
    sums, counts = np.zeros(8), np.zeros(8)
    for (r, i, j, one), (s, k, m, other) in product(kernels, kernels):
        kind = 4 * (r != s) + {(True, True): 0, (False, True): 1, (True, False): 2, (False, False): 3}[(i == k, j == m)]
        sums[kind] += one * other
        counts[kind] += 1
    return [*(sums / counts)]


@pytest.mark.parametrize("missing", [0, 7])
def test_moments_are_those_of_all_pairs_also_where_reads_are_missing(missing: int) -> None:
    study = made(readers=3, positives=5, negatives=6)
    study.scores.reshape(-1)[np.random.default_rng(1).choice(study.scores.size, missing, replace=False)] = np.nan
    one, moments = one_shot(study, 0), brute_moments(study.scores[0], study.is_positive)
    assert one.moments == pytest.approx(moments)
    # The square of the area less what pairs of kernels give that share nothing: unbiased for its variance.
    assert one.variance == pytest.approx(one.value**2 - moments[7], abs=1e-12)


def test_the_one_shot_variance_is_that_of_many_studies() -> None:
    rng, values, variances = np.random.default_rng(3), [], []
    for _ in range(400):
        one = one_shot(simulate(RoeMetz(), readers=4, positives=20, negatives=20, rng=rng), 0, 1)
        values.append(one.value)
        variances.append(one.variance)
    # The standard error of a variance from 400 normal values is 7 %.
    assert np.mean(variances) == pytest.approx(np.var(values, ddof=1), rel=0.25)


def test_where_nothing_differs_one_in_twenty_studies_says_so() -> None:
    rng, runs, found = np.random.default_rng(11), 400, 0
    for _ in range(runs):
        study = simulate(RoeMetz(), readers=5, positives=25, negatives=25, rng=rng)
        merit = areas(study)
        covariance = delong_covariance(merit, study.is_positive)
        found += obuchowski_rockette(study.modalities, merit.values, covariance).analyses[0].p < 0.05
    assert abs(found / runs - 0.05) < 3 * np.sqrt(0.05 * 0.95 / runs)


@pytest.mark.parametrize(("readers", "ratio"), [(4, 1.0), (7, 1.0), (4, 3.0)])
def test_power_is_that_of_a_noncentral_f_with_the_readers_degrees_of_freedom(readers: int, ratio: float) -> None:
    """Where cases correlate equally within and between modalities, only readers less one remain (Hillis 2011)."""
    parts = Components(reader=0.001, modality_reader=0.0004, error=0.002, cov1=0.001, cov2=0.0008, cov3=0.0008)
    whole = 0.0004 + 0.001 / ratio
    expected = ncf.sf(f.isf(0.05, 1, readers - 1), 1, readers - 1, readers * 0.05**2 / 2 / whole)
    assert power(parts, readers=readers, effect=0.05, case_ratio=ratio) == pytest.approx(expected)


def test_the_formula_of_power_is_met_by_simulated_studies() -> None:
    rng, runs, found, parts = np.random.default_rng(5), 200, 0, []
    effects = []
    for _ in range(runs):
        study = simulate(RoeMetz(), readers=5, positives=40, negatives=40, rng=rng, effect=0.8)
        merit = areas(study)
        result = obuchowski_rockette(study.modalities, merit.values, delong_covariance(merit, study.is_positive))
        found += result.analyses[0].p < 0.05
        parts.append(result.components)
        effects.append(result.analyses[0].differences[0].value)
    mean = type(parts[0])(*(float(np.mean([getattr(one, name) for one in parts])) for name in parts[0].__slots__))
    expected = power(mean, readers=5, effect=float(np.mean(effects)))
    assert 0.2 < expected < 0.95 and abs(found / runs - expected) < 0.12
    assert power(mean, readers=10, effect=0.1) > power(mean, readers=5, effect=0.1)
    assert power(mean, readers=5, effect=0.1, case_ratio=2) > power(mean, readers=5, effect=0.1)


def test_fourteen_readers_against_each_model(test_data: Path) -> None:
    table = read_scores(test_data / "data" / "reader_study" / "scores.csv")
    assert table.is_positive is not None
    names = tuple(name for name in table.scorers if name.startswith("reader_"))
    scores = np.array([table.scorers[name] for name in names])
    study = ReaderStudy(("alone",), names, table.is_positive, scores[None], table.patients)
    tests = with_holm([against_one(m, scores, table.scorers[m], study) for m in ("gmic_top5", "frcnn", "dmvcnn")])
    mean = areas(study).values.mean()
    for test in tests:
        model = placements(table.is_positive, table.scorers[test.second]).auc
        assert test.value == pytest.approx(mean - model) and test.p_holm >= test.p
    assert tests[0].high < 0, "the best model is better than the average reader"


def test_a_model_equal_to_all_readers_differs_by_nothing() -> None:
    study = made(readers=2)
    same = np.array([study.scores[0, 0]] * 2)
    test = against_one("model", same, same[0], study)
    assert (test.value, test.se) == (0, 0) and np.isnan([test.low, test.high, test.t, test.p, test.p_holm]).all()


def test_not_inferior_by_the_margin_needs_the_whole_margin() -> None:
    study = made()
    merit = areas(study)
    one = obuchowski_rockette(study.modalities, merit.values, delong_covariance(merit, study.is_positive))
    test = one.analyses[1].differences[0]
    assert test.df == np.inf
    # At a margin of the lower bound the one-sided p is 2.5 %.
    assert test.low < 0 and test.p_not_inferior(-test.low) == pytest.approx(0.025)
    assert test.p_not_inferior(-test.low + 0.01) < 0.025 < test.p_not_inferior(-test.low - 0.01)
    # The other way round it is about the upper bound.
    assert test.high > 0 and test.turned.p_not_inferior(test.high) == pytest.approx(0.025)
    assert (test.turned.first, test.turned.value, test.turned.t) == (test.second, -test.value, -test.t)
    assert (test.turned.low, test.turned.high) == (-test.high, -test.low)
    for margin in (0.0, 1.0):
        with pytest.raises(InvalidInput, match=r"\.$"):
            test.p_not_inferior(margin)


def of_calls(first: np.ndarray, second: np.ndarray, readers: int) -> ReaderStudy:
    """Half of the cases positive, and every reader with the same scores."""
    scores = np.repeat(np.array([first, second], np.float64)[:, None], readers, axis=1)
    is_positive = np.arange(len(first)) < len(first) // 2
    return ReaderStudy(("first", "second"), tuple("abcdefgh"[:readers]), is_positive, scores)


@pytest.mark.parametrize(
    ("readers", "n", "value", "low"),
    [(2, 2, 0.0, 0.3424), (2, 2, 0.5, 0.3424), (3, 10, 0.0, 0.7225), (7, 33, 0.5, 0.8957)],
)
def test_where_nothing_varies_nothing_is_tested_and_an_area_has_wilsons_interval(
    readers: int, n: int, value: float, low: float
) -> None:
    """Both perfect, or perfect against all ties."""
    perfect = np.arange(2 * n) < n
    study = of_calls(perfect, perfect if value == 0 else np.zeros(2 * n), readers)
    found = analyse(study, margin=0.05)
    area = found["area"]
    for analysis in area["analyses"]:
        one = analysis["differences"][0]
        assert one["value"] == value and one["se"] == 0
        assert np.isnan([analysis[name] for name in ("f", "df2", "p")]).all()
        assert np.isnan([one[name] for name in ("df", "low", "high", "t", "p", "p_holm")]).all()
        assert sentence(Difference(**one)) == f"first minus second: {value:+.4f}; {UNTESTED}"
    assert np.isnan(list(area["not_inferior"].values())).all()
    assert all("is not tested" in said and "shown" not in said for said in not_inferior_sentences(area))
    assert f_text(area["dbm"]).startswith("no F, as the standard error")
    assert [one["variance"] for one in found["one_shot"]] == [0, 0, 0]
    first, second = area["means"]
    assert (first["value"], first["high"]) == (1, 1) and first["low"] == pytest.approx(low, abs=5e-5)
    assert (second["low"], second["high"]) == wilson((1 - value) * n, n)
    assert stand_ins(area).startswith("Mean of first, second: the standard error")


def test_every_cancer_called_by_all_is_a_sensitivity_that_twelve_patients_permit() -> None:
    calls = np.arange(24) < 12
    study = of_calls(calls, calls, 4)
    (one, _) = analyse(study, cut=0.5)["sensitivity"]["means"]
    assert (one["value"], one["high"]) == (1, 1) and one["low"] == pytest.approx(0.7575, abs=5e-5)
    # Three cases of each patient, and the fewer patients of both kinds for an area: 4 with cancer, and 3 with none.
    patients = np.array([*(np.arange(12) // 3), *(4 + np.arange(12) // 4)])
    found = analyse(replace(study, patients=patients), cut=0.5)
    for measure, n in (("area", 3), ("sensitivity", 4), ("specificity", 3)):
        assert found[measure]["means"][0]["low"] == wilson(n, n)[0]
    # Only patients with a read under the modality count.
    unread = study.scores.copy()
    unread[0, :, :5] = np.nan
    first, second = analyse(replace(study, scores=unread), cut=0.5)["sensitivity"]["means"]
    assert (first["low"], second["low"]) == (wilson(7, 7)[0], wilson(12, 12)[0])


@pytest.mark.parametrize("readers", [3, 7])
def test_the_same_reads_under_both_modalities_differ_by_rounding_errors_that_nobody_tests(readers: int) -> None:
    rng = np.random.default_rng(0)
    is_positive = np.arange(200) < 100
    once = rng.random((1, readers, 200)) + 0.4 * is_positive
    study = ReaderStudy(("a", "b"), tuple("abcdefg"[:readers]), is_positive, np.repeat(once, 2, axis=0))
    for by_jackknife in (False, True):
        found = analyse(study, cut=0.7, margin=0.05, by_jackknife=by_jackknife)
        for measure in ("area", "sensitivity", "specificity"):
            assert [one["differences"][0]["se"] for one in found[measure]["analyses"]] == [0, 0, 0]
            assert all(mean["se"] > 0 and mean["df"] > 0 for mean in found[measure]["means"])
    assert np.isnan(found["area"]["dbm"]["p"]) and found["one_shot"][1]["variance"] == 0
    for measure in ("sensitivity_gee", "specificity_gee"):
        assert UNTESTED in odds_sentence(found[measure]) and "nan" not in odds_sentence(found[measure])
    with pytest.raises(InvalidInput, match="Nothing varies"):
        analyse(study, effect=0.05)
    test = against_one("model", np.repeat(once[0, :1], readers, axis=0), once[0, 0], study)
    assert test.se == 0 and np.isnan(test.p)
    # One case that one reader scored otherwise is enough for a test.
    moved = study.scores.copy()
    moved[0, 0, 0] -= 1
    other = replace(study, scores=moved)
    assert all(0 < one["p"] <= 1 for one in analyse(other)["area"]["analyses"])
    assert 0 < analyse(other)["area"]["dbm"]["p"] <= 1 and analyse(other)["one_shot"][1]["variance"] > 0


def test_a_standard_error_just_above_0_tests_and_0_does_not() -> None:
    for df in (5.0, np.inf):
        one = difference("a", "b", 0.01, 1e-12, df)
        assert one.p < 1e-6 and one.low < 0.01 < one.high and one.p_not_inferior(0.05) < 1e-6
        none = difference("a", "b", 0.01, 0.0, df)
        assert np.isnan(
            [none.low, none.high, none.p, none.p_not_inferior(0.05), none.turned.p_not_inferior(0.05)]
        ).all()
    assert reader_study._unless_rounding(1e-12, 1.0) == 0 and reader_study._unless_rounding(1.01e-12, 1.0) == 1.01e-12
    # A test that there is none of counts for nothing where others are adjusted.
    tests = with_holm([difference("a", "b", 0.1, 0.05, np.inf), difference("a", "c", 0.1, 0.0, np.inf)])
    assert tests[0].p_holm == tests[0].p and np.isnan(tests[1].p_holm)


def test_simulated_studies_without_a_test_call_nothing_and_hold_nothing() -> None:
    found = simulated_power(readers=2, positives=2, negatives=2, effect=1.5, runs=60)
    assert 0 < found["untested"] < 60 and found["power"] <= 1 - found["untested"] / 60
    held = found["coverage"] * (60 - found["untested"])
    assert held == pytest.approx(round(held)) and found["coverage_ci"][0] < found["coverage"] <= found["coverage_ci"][1]


def test_mean_seconds_are_tested_with_cases_and_readers_as_random() -> None:
    """With one reader's times copied to another nothing differs between readers: what is left is the paired test."""
    rng = np.random.default_rng(6)
    once = rng.gamma(4, 5, (2, 1, 60)) + np.array([0, 6])[:, None, None]
    study = ReaderStudy(("unaided", "aided"), ("a", "b"), np.ones(60, bool), np.repeat(once, 2, axis=1))
    found = analyse_seconds(study)
    one = found["analyses"][1]["differences"][0]
    change = once[0, 0] - once[1, 0]
    assert one["value"] == pytest.approx(change.mean()) and one["se"] == pytest.approx(np.sqrt(change.var(ddof=1) / 60))
    assert [mean["value"] for mean in found["means"]] == pytest.approx(once.mean(axis=(1, 2)))
    assert found["analyses"][2]["differences"][0]["se"] == 0  # fixed cases: between readers nothing varies
    same = analyse_seconds(replace(study, scores=np.full((2, 2, 60), 12.0)))
    assert np.isnan([one[name] for one in same["means"] for name in ("low", "high")]).all(), "no share"
    few = replace(study, scores=np.where(np.arange(60) < 1, study.scores, np.nan))
    with pytest.raises(InvalidInput):
        analyse_seconds(few)


def test_the_one_shot_estimate_compares_at_most_so_many_pairs(monkeypatch: pytest.MonkeyPatch) -> None:
    study = made()  # 4 readers, 12 positive and 15 negative cases
    monkeypatch.setattr(reader_study, "MAX_KERNELS", 720)
    assert one_shot(study, 0).value == pytest.approx(areas(study).values[0].mean())
    monkeypatch.setattr(reader_study, "MAX_KERNELS", 719)
    with pytest.raises(InvalidInput, match="compares 720 pairs of cases; at most 719 are possible"):
        one_shot(study, 0)


def test_pseudovalues_of_three_modalities_say_what_the_jackknife_covariances_say() -> None:
    one, other = made(1), made(2)
    scores = np.concatenate([one.scores, other.scores[:1]])
    merit = areas(ReaderStudy(("a", "b", "c"), one.readers, one.is_positive, scores))
    both = obuchowski_rockette(("a", "b", "c"), merit.values, jackknife_covariance(merit)).analyses[0]
    assert pseudovalue_test(merit) == pytest.approx((both.f, both.df2, both.p))


def test_a_u_statistic_in_words_has_its_interval_and_a_difference_its_p() -> None:
    one = {"name": "aided", "value": 0.1, "variance": 0.0025, "is_difference": False, "is_one_case_each": True}
    assert one_shot_sentence(one) == "aided: +0.1000 (+0.0020 to +0.1980), se 0.0500"
    assert one_shot_sentence(one | {"is_difference": True}).endswith("se 0.0500, z 2.000, normal, p 0.0455")
    for variance in (0.0, -1e-9):
        said = one_shot_sentence(one | {"is_difference": True, "variance": variance})
        assert said == f"aided: +0.1000; {UNTESTED}"
        assert one_shot_sentence(one | {"variance": variance}).endswith("certainty: no interval")


def test_two_patients_of_a_class_are_enough_for_a_variance_and_one_is_not() -> None:
    labels, scores = np.array([True, True, True, False, False, False]), np.array([0.9, 0.4, 0.7, 0.6, 0.1, 0.5])
    placed = placements(labels, scores)

    def variance(*patients: int) -> float:
        return clustered_variance(placed.of_positives, placed.of_negatives, labels, np.array(patients))

    assert variance(0, 1, 2, 3, 4, 4) > 0 and variance(0, 1, 1, 2, 3, 4) > 0
    assert np.isnan(variance(0, 1, 2, 3, 3, 3)) and np.isnan(variance(0, 0, 0, 1, 2, 3))


def test_what_cannot_be_analysed_is_a_sentence() -> None:
    study = made()
    one_reader = ReaderStudy(study.modalities, study.readers[:1], study.is_positive, study.scores[:, :1])
    with pytest.raises(InvalidInput, match="two readers"):
        obuchowski_rockette(study.modalities, areas(one_reader).values, np.eye(2))
    with pytest.raises(InvalidInput, match="Too few readers"):
        one_shot(one_reader, 0)
    unread = replace(study, scores=np.where(np.arange(2)[:, None, None] == 1, study.scores, np.nan))
    with pytest.raises(InvalidInput, match="no reader with both a positive and a negative case"):
        one_shot(unread, 0)
    few = ReaderStudy(study.modalities, study.readers, study.is_positive[11:], study.scores[..., 11:])
    with pytest.raises(InvalidInput, match="two positive"):
        delong_covariance(areas(few), few.is_positive)
    study.scores[0, 0, 0] = np.nan
    with pytest.raises(InvalidInput, match="Reads are missing"):
        pseudovalue_test(areas(study))
    study.scores[0, 0, 1:12] = np.nan
    with pytest.raises(InvalidInput, match="In 1 combinations"):
        areas(study)
    with pytest.raises(InvalidInput, match="In 1 combinations"):
        sensitivities(study, 1.0)
    study.scores[0, 0, 10:12] = 1.0
    assert np.isfinite(areas(study).values).all()


def test_estimating_equations_count_a_patients_reads_as_one_cluster() -> None:
    """Their estimate is the ratio of the pooled odds; ten copies of each read of a patient teach nothing new."""
    rng = np.random.default_rng(4)
    is_positive = np.arange(60) < 30
    once = rng.random((2, 1, 60)) * 100 + np.where(is_positive, 25, 0) + np.array([10, 0])[:, None, None] * is_positive
    study = ReaderStudy(("aided", "unaided"), tuple("abcdefghij"), is_positive, np.repeat(once, 10, axis=1))
    alone = ReaderStudy(("aided", "unaided"), ("a",), is_positive, once)
    for of_positives in (True, False):
        many, one = (generalised_estimate(each, 50, of_positives=of_positives) for each in (study, alone))
        assert many is not None and one is not None
        is_right = (once[:, 0] >= 50) if of_positives else (once[:, 0] < 50)
        assert many.shares == pytest.approx(is_right[:, is_positive == of_positives].mean(axis=1))
        odds = [share / (1 - share) for share in many.shares]
        assert many.value == pytest.approx(odds[0] / odds[1])
        assert (many.value, many.low, many.high) == pytest.approx((one.value, one.low, one.high), rel=1e-4)
        assert (many.n, one.n) == (600, 60)
    scores = np.repeat(once, 10, axis=1)
    scores[0, 0, :5] = np.nan
    missing = generalised_estimate(replace(study, scores=scores), 50, of_positives=True)
    assert missing is not None and missing.n == 595
    assert generalised_estimate(study, 0, of_positives=True) is None
