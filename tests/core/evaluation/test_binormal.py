"""Binormal ROC curves by maximum likelihood: published fits, recovery of what was simulated, and what has no fit."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from published_ratings import van_dyke
from scipy.special import ndtr

from core.evaluation.statistics import binormal
from core.evaluation.statistics.binormal import (
    DEGENERATE,
    FITTED,
    MOST_CATEGORIES,
    NOT_CONVERGED,
    TOO_FEW,
    fit_binormal,
    fits_of,
)
from core.evaluation.statistics.reader_study_summary import analyse, binormal_rows

VAN_DYKE_FITS = {
    "1": ((1.70, 0.537), (1.40, 0.561), (1.74, 0.635), (1.93, 0.202), (1.06, 0.464)),
    "2": ((1.85, 0.503), (1.66, 0.447), (1.62, 0.488), None, (1.73, 0.422)),
}
"""a and b of each modality and reader as MRMCaov's user guide prints them; one is degenerate there (a of 1.8e308)."""


def test_the_ratings_of_van_dyke_have_the_published_curves() -> None:
    found = fits_of(van_dyke())
    for modality, expected in VAN_DYKE_FITS.items():
        for fit, parameters in zip(found[modality].values(), expected, strict=True):
            if parameters is None:
                assert fit.state == DEGENERATE and np.isnan([fit.a, fit.b, fit.area]).all()
            else:
                assert fit.state == FITTED
                assert (fit.a, fit.b) == pytest.approx(parameters, abs=0.0051) and fit.b == pytest.approx(
                    parameters[1], abs=0.00051
                )
    assert [found[one]["1"].area for one in "12"] == pytest.approx([0.93316085, 0.9508185], abs=1e-6)


@pytest.mark.parametrize(
    ("positives", "negatives", "expected"),
    [
        # Hanley & McNeil 1982, table 1, as Stata's manual of `rocfit` fits it: a, b, area, log likelihood.
        ((3, 2, 2, 11, 33), (33, 6, 6, 11, 2), (1.656782, 0.713002, 0.911331, -123.64855)),
        # The worked example of Chakraborty's book on observer performance: the area of ROCFIT.
        ((5, 6, 5, 12, 22), (30, 19, 8, 2, 1), (None, None, 0.8704519, None)),
    ],
)
def test_published_tables_of_ratings_have_their_published_fit(
    positives: tuple[int, ...], negatives: tuple[int, ...], expected: tuple[float | None, ...]
) -> None:
    ratings = np.arange(1, 6, dtype=float)
    fit = fit_binormal(np.repeat(ratings, positives), np.repeat(ratings, negatives))
    for value, published in zip((fit.a, fit.b, fit.area, fit.log_likelihood), expected, strict=True):
        assert published is None or value == pytest.approx(published, abs=1e-5)
    assert fit.sensitivity(np.array([0.0, 0.5, 1.0])) == pytest.approx([0, ndtr(fit.a), 1])


@pytest.mark.parametrize("n", [MOST_CATEGORIES, MOST_CATEGORIES + 1, 200])
def test_more_categories_than_are_fitted_become_as_many_of_about_the_same_share(n: int) -> None:
    counts = binormal._categories(np.arange(float(n)), np.arange(float(n)))
    assert counts.shape == (2, MOST_CATEGORIES) and counts.sum(axis=1).tolist() == [n, n]
    assert counts.max() - counts.min() <= (1 if n != MOST_CATEGORIES else 0)


def test_what_was_simulated_is_found_again_whatever_the_scale() -> None:
    a, b, rng = 1.5, 0.7, np.random.default_rng(8)
    drawn = [(rng.normal(a / b, 1 / b, 150), rng.normal(0, 1, 200)) for _ in range(60)]
    fits = [fit_binormal(*one) for one in drawn]
    assert {fit.state for fit in fits} == {FITTED} and len(np.unique(drawn[0][1])) > MOST_CATEGORIES
    for name, truth in (("a", a), ("b", b), ("area", ndtr(a / np.hypot(1, b)))):
        values = [getattr(fit, name) for fit in fits]
        assert abs(np.mean(values) - truth) < 3.5 * np.std(values) / np.sqrt(len(values)), name
    stretched = fit_binormal(np.exp(drawn[0][0]), np.exp(drawn[0][1]))
    assert stretched == fits[0]
    turned = fit_binormal(-drawn[0][1], -drawn[0][0])
    assert turned.area == pytest.approx(fits[0].area, abs=0.005)


@pytest.mark.parametrize(
    ("positives", "negatives", "state"),
    [
        ([5, 5, 4], [1, 1, 2], DEGENERATE),  # nothing overlaps
        ([5, 5, 1], [1, 1, 1], DEGENERATE),  # no negative is ever called before all are
        ([3, 3, 3], [3, 3, 3], DEGENERATE),  # one category
        ([5, 5], [1, np.nan, np.nan], TOO_FEW),
    ],
)
def test_what_has_no_curve_is_said(positives: list[float], negatives: list[float], state: str) -> None:
    fit = fit_binormal(np.array(positives, float), np.array(negatives, float))
    assert fit.state == state and np.isnan(fit.area)


def test_a_search_that_ends_early_is_no_fit(monkeypatch: pytest.MonkeyPatch) -> None:
    from core.evaluation.statistics import binormal

    minimize = binormal.minimize
    monkeypatch.setattr(
        binormal, "minimize", lambda *args, **given: minimize(*args, **given | {"options": {"maxiter": 1}})
    )
    study = van_dyke()
    fit = fit_binormal(study.scores[0, 0][study.is_positive], study.scores[0, 0][~study.is_positive])
    assert fit.state == NOT_CONVERGED and np.isnan(fit.area)


def test_a_row_a_reader_and_modality_says_both_areas_or_why_there_is_one() -> None:
    rows = {(row["reader"], row["modality"]): row for row in binormal_rows(analyse(van_dyke()))}
    assert len(rows) == 10
    first, degenerate = rows["1", "1"], rows["4", "2"]
    assert (first["empirical area"], first["binormal area"]) == pytest.approx((0.91964573, 0.93316085), abs=1e-6)
    assert degenerate["empirical area"] == pytest.approx(0.99935588) and np.isnan(degenerate["binormal area"])
    assert "degenerate: " in degenerate["remark"]
    assert first["remark"] == ""
    rng = np.random.default_rng(1)
    hooked = fit_binormal(rng.normal(0.5 / 0.25, 4, 400), rng.normal(0, 1, 400))
    assert hooked.has_hook and not fits_of(van_dyke())["1"]["1"].has_hook


def test_missing_reads_are_left_out_of_a_curve() -> None:
    study = van_dyke()
    scores = study.scores.copy()
    scores[0, 0, ::5] = np.nan
    some = fits_of(replace(study, scores=scores))["1"]["1"]
    kept = np.arange(114) % 5 != 0
    assert some == fit_binormal(
        study.scores[0, 0][kept & study.is_positive], study.scores[0, 0][kept & ~study.is_positive]
    )
