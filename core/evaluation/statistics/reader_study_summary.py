"""Everything that a reader study permits, as plain values: for the command, the page and its downloads."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Mapping
from typing import Any

import numpy as np

from core.errors import InvalidInput
from core.evaluation.statistics.intervals import wilson
from core.evaluation.statistics.reader_study import (
    LEVEL,
    Difference,
    Merit,
    ReaderStudy,
    RoeMetz,
    areas,
    delong_covariance,
    generalised_estimate,
    jackknife_covariance,
    obuchowski_rockette,
    one_shot,
    power,
    pseudovalue_test,
    sensitivities,
    simulate,
    specificities,
)

MAX_RUNS = 10_000


def analyse(
    study: ReaderStudy,
    *,
    cut: float | None = None,
    margin: float | None = None,
    effect: float | None = None,
    by_jackknife: bool = False,
) -> dict[str, Any]:
    """Everything that the study permits. With missing reads that is the U-statistic alone, and `note` says so."""
    found: dict[str, Any] = {
        "modalities": list(study.modalities),
        "readers": list(study.readers),
        "positives": int(study.is_positive.sum()),
        "negatives": int((~study.is_positive).sum()),
        "missing_reads": int(np.isnan(study.scores).sum()),
    }
    if study.fully_crossed:
        merit = areas(study)
        found["area"] = of_merit(study, merit, margin=margin, effect=effect, by_jackknife=by_jackknife)
        f, df, p = pseudovalue_test(merit)
        found["area"]["dbm"] = {"f": f, "df1": len(study.modalities) - 1, "df2": df, "p": p}
        if cut is not None:
            found["sensitivity"] = of_merit(study, sensitivities(study, cut), by_jackknife=by_jackknife)
            found["specificity"] = of_merit(study, specificities(study, cut), by_jackknife=by_jackknife)
    elif margin is not None or effect is not None:
        raise InvalidInput(
            f"{found['missing_reads']} reads are missing: only the U-statistic and, at a cut, estimating equations can "
            "be computed, without a margin or power. Leave these options out, or complete the reads."
        )
    else:
        found["note"] = "Reads are missing: Obuchowski-Rockette and DBM are left out, the U-statistic needs no others."
    found["one_shot"] = _one_shots(study)
    if cut is not None and len(study.modalities) > 1:
        for name, of_positives in (("sensitivity_gee", True), ("specificity_gee", False)):
            one = generalised_estimate(study, cut, of_positives=of_positives)
            found[name] = None if one is None else dataclasses.asdict(one)
    return found


def of_merit(
    study: ReaderStudy,
    merit: Merit,
    *,
    margin: float | None = None,
    effect: float | None = None,
    by_jackknife: bool = False,
) -> dict[str, Any]:
    """Values by modality and reader, and the Obuchowski-Rockette analysis of one measure."""
    covariance = (
        jackknife_covariance(merit) if by_jackknife else delong_covariance(merit, study.is_positive, study.patients)
    )
    result = obuchowski_rockette(study.modalities, merit.values, covariance)
    found: dict[str, Any] = {
        "by_reader": {
            modality: dict(zip(study.readers, map(float, values), strict=True))
            for modality, values in zip(study.modalities, merit.values, strict=True)
        },
        "components": dataclasses.asdict(result.components),
        "means": [dataclasses.asdict(one) for one in result.means],
        "analyses": [dataclasses.asdict(one) for one in result.analyses],
    }
    if margin is not None:
        found["not_inferior"] = {
            f"{one.first} vs {one.second}": one.p_not_inferior(margin) for one in result.analyses[0].differences
        }
    if effect is not None:
        found["power"] = power(result.components, readers=len(study.readers), effect=effect)
    return found


def _one_shots(study: ReaderStudy) -> list[dict[str, Any]]:
    found = []
    for first in range(len(study.modalities)):
        for second in (None, *range(first + 1, len(study.modalities))):
            one = one_shot(study, first, second)
            name = study.modalities[first] + ("" if second is None else f" vs {study.modalities[second]}")
            found.append({"name": name, **dataclasses.asdict(one)})
    return found


def simulated_power(
    *, readers: int, positives: int, negatives: int, effect: float, runs: int, seed: int = 0
) -> dict[str, Any]:
    """Share of simulated studies (Roe & Metz 1997) in which two modalities are called different at 5 %.

    effect: added to the separation of 1.5 under one of them; 0 gives the type I error. Raises InvalidInput.
    """
    if min(readers, positives, negatives) < 2 or not 1 <= runs <= MAX_RUNS or seed < 0:
        raise InvalidInput(
            f"A simulation needs two or more readers, positive and negative cases, 1 to {MAX_RUNS:,} runs and a seed "
            "of 0 or more."
        )
    if not math.isfinite(effect):
        raise InvalidInput("The effect is a number, as in 0.5.")
    rng, called, differences = np.random.default_rng(seed), 0, []
    for _ in range(runs):
        study = simulate(RoeMetz(), readers=readers, positives=positives, negatives=negatives, rng=rng, effect=effect)
        merit = areas(study)
        covariance = delong_covariance(merit, study.is_positive)
        one = obuchowski_rockette(study.modalities, merit.values, covariance).analyses[0]
        called += one.p < LEVEL
        differences.append(one.differences[0].value)
    low, high = wilson(called, runs)
    return {
        "runs": runs, "seed": seed, "difference": -float(np.mean(differences)), "power": called / runs,
        "ci": [low, high],
    }  # fmt: skip


def sentence(one: Difference) -> str:
    """A difference in words, with all that a reader of it asks for."""
    by = "normal" if math.isinf(one.df) else f"df {one.df:.2f}"
    return (
        f"{one.first} minus {one.second}: {one.value:+.4f} ({one.low:+.4f} to {one.high:+.4f}), se {one.se:.4f}, "
        f"t {one.t:.3f}, {by}, p {one.p:.3g}, adjusted {one.p_holm:.3g}"
    )


def odds_sentence(one: Mapping[str, Any]) -> str:
    """An `OddsRatio` (its fields) in words."""
    first, second = one["shares"]
    return (
        f"{one['first']} {first:.3f}, {one['second']} {second:.3f}, odds ratio {one['value']:.3f} ({one['low']:.3f} to "
        f"{one['high']:.3f}), p {one['p']:.3g}, {one['n']} reads, these readers"
    )
