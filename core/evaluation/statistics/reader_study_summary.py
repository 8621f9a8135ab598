"""Everything that a reader study permits, as plain values: for the command, the page and its downloads."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Mapping
from typing import Any

import numpy as np
from scipy.stats import norm

from core.errors import InvalidInput
from core.evaluation.statistics.binormal import BinormalFit, fits_of
from core.evaluation.statistics.intervals import Z_95, one_case_each, wilson
from core.evaluation.statistics.reader_study import (
    LEVEL,
    Difference,
    Merit,
    ReaderStudy,
    RoeMetz,
    areas,
    dealt_out,
    delong_covariance,
    generalised_estimate,
    jackknife_covariance,
    means_of_cases,
    obuchowski_rockette,
    one_shot,
    partial_areas,
    power,
    pseudovalue_test,
    sensitivities,
    simulate,
    smaller_classes,
    specificities,
)

MAX_RUNS = 10_000
NOT_CROSSED = (
    "Not every reader read every case: each value is on the reader's own cases, and a covariance of two readers is "
    "estimated from the cases that both read (Hillis 2014). DBM and the analysis of fixed cases are left out."
)
NOT_INDEPENDENT = "takes cases to be independent; here patients have several"
SEVERAL_CASES = (
    f"DBM {NOT_INDEPENDENT}: it is left out, and so are interval and p of the U-statistic for the same reason."
)
NO_ERROR = "the standard error comes out as 0, which would claim certainty"
UNTESTED = f"{NO_ERROR}: neither interval nor test"
MEASURES = ("area", "partial_area", "sensitivity", "specificity")
"""Keys of what `of_merit` gives, as they are shown."""


def analyse(
    study: ReaderStudy,
    *,
    cut: float | None = None,
    margin: float | None = None,
    effect: float | None = None,
    partial: tuple[float, float] | None = None,
    by_jackknife: bool = False,
) -> dict[str, Any]:
    """Everything that the study permits; `note` says what is left out where it is not fully crossed, or where patients
    have several cases, which DBM and the variance of the U-statistic know nothing of.

    partial: two specificities between which the partial area is taken. Where a reader read too little for an area, only
    the U-statistic is computed.
    """
    found: dict[str, Any] = {
        "modalities": list(study.modalities),
        "readers": list(study.readers),
        "positives": int(study.is_positive.sum()),
        "negatives": int((~study.is_positive).sum()),
        "missing_reads": int(np.isnan(study.scores).sum()),
    }
    if effect is not None and not study.fully_crossed:
        raise InvalidInput("Power is computed for fully crossed studies; here reads are missing. Leave the effect out.")
    is_one_case_each = one_case_each(study.patients)
    try:
        merit = areas(study)
    except InvalidInput as refusal:
        if study.fully_crossed or margin is not None or partial is not None:
            raise
        found["note"] = str(refusal)
    else:
        found["area"] = of_merit(study, merit, margin=margin, effect=effect, by_jackknife=by_jackknife)
        if study.fully_crossed and is_one_case_each:
            f, df, p = pseudovalue_test(merit)
            found["area"]["dbm"] = {"f": f, "df1": len(study.modalities) - 1, "df2": df, "p": p}
        elif not study.fully_crossed:
            found["note"] = NOT_CROSSED
        if partial is not None:
            found["partial_area"] = {
                "specificity": list(partial),
                **of_merit(study, partial_areas(study, partial), by_jackknife=by_jackknife),
            }
        if cut is not None:
            found["sensitivity"] = of_merit(study, sensitivities(study, cut), by_jackknife=by_jackknife)
            found["specificity"] = of_merit(study, specificities(study, cut), by_jackknife=by_jackknife)
    if not is_one_case_each:
        found["note"] = " ".join(filter(None, (found.get("note"), SEVERAL_CASES)))
    found["one_shot"] = [{**one, "is_one_case_each": is_one_case_each} for one in _one_shots(study)]
    found["binormal"] = {
        modality: {reader: _fit(one) for reader, one in by_reader.items()}
        for modality, by_reader in fits_of(study).items()
    }
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
    is_share: bool = True,
) -> dict[str, Any]:
    """Values by modality and reader, and the Obuchowski-Rockette analysis of one measure.

    margin: adds, for each pair in both orders, the one-sided p that the first is not worse than the second by it.
    is_share: whether the values lie between 0 and 1.
    """
    covariance = (
        jackknife_covariance(merit) if by_jackknife else delong_covariance(merit, study.is_positive, study.patients)
    )
    result = obuchowski_rockette(
        study.modalities, merit.values, covariance, is_crossed=study.fully_crossed,
        patients=smaller_classes(merit, study.is_positive, study.patients) if is_share else None,
    )  # fmt: skip
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
            f"{each.first} vs {each.second}": each.p_not_inferior(margin)
            for one in result.analyses[0].differences
            for each in (one, one.turned)
        }
    if effect is not None:
        found["power"] = power(result.components, readers=len(study.readers), effect=effect)
    return found


def _fit(one: BinormalFit) -> dict[str, Any]:
    return {
        "a": one.a, "b": one.b, "area": one.area, "log_likelihood": one.log_likelihood, "state": one.state,
        "remark": one.remark,
    }  # fmt: skip


def analyse_seconds(study: ReaderStudy) -> dict[str, Any]:
    """Mean seconds a case under each modality, as `of_merit`. study: seconds as its scores, all cases positive."""
    return of_merit(study, means_of_cases(study), is_share=False)


def _one_shots(study: ReaderStudy) -> list[dict[str, Any]]:
    found = []
    for first in range(len(study.modalities)):
        for second in (None, *range(first + 1, len(study.modalities))):
            one = one_shot(study, first, second)
            name = study.modalities[first] + ("" if second is None else f" vs {study.modalities[second]}")
            found.append({"name": name, "is_difference": second is not None, **dataclasses.asdict(one)})
    return found


def simulated_power(
    *,
    readers: int,
    positives: int,
    negatives: int,
    effect: float,
    runs: int,
    seed: int = 0,
    groups: int = 1,
    shared: int = 0,
) -> dict[str, Any]:
    """Share of simulated studies (Roe & Metz 1997) in which two modalities are called different at 5 %.

    effect: added to the separation of 1.5 under one of them; 0 gives the type I error. groups: readers and cases are
    dealt into so many, each reading its own (split-plot) and the `shared` cases of all (hybrid). coverage: share of the
    studies with a 95 % interval in which that holds the mean difference of all, NaN without any; untested: studies
    whose standard error is 0, which have none and call nothing different. Raises InvalidInput.
    """
    if min(readers, positives, negatives) < 2 or not 1 <= runs <= MAX_RUNS or seed < 0:
        raise InvalidInput(
            f"A simulation needs two or more readers, positive and negative cases, 1 to {MAX_RUNS:,} runs and a seed "
            "of 0 or more."
        )
    if not math.isfinite(effect):
        raise InvalidInput("The effect is a number, as in 0.5.")
    if groups < 1 or (groups > 1 and min(readers, positives, negatives) < 2 * groups):
        raise InvalidInput(f"{groups} groups need two readers, two positive and two negative cases each.")
    if shared and (groups == 1 or not 0 < shared <= positives + negatives - 2 * groups):
        raise InvalidInput("Cases that all groups read are fewer than all cases, and belong to two groups or more.")
    rng, called, differences = np.random.default_rng(seed), 0, []
    for _ in range(runs):
        study = simulate(RoeMetz(), readers=readers, positives=positives, negatives=negatives, rng=rng, effect=effect)
        if groups > 1:
            study = dealt_out(study, groups, shared)
        merit = areas(study)
        covariance = delong_covariance(merit, study.is_positive)
        one = obuchowski_rockette(study.modalities, merit.values, covariance, is_crossed=groups == 1).analyses[0]
        called += one.p < LEVEL
        differences.append(one.differences[0])
    mean = float(np.mean([one.value for one in differences]))
    held = sum(one.low <= (mean if effect else 0.0) <= one.high for one in differences)
    tested = sum(one.se > 0 for one in differences)
    return {
        "runs": runs, "seed": seed, "difference": -mean, "power": called / runs, "ci": list(wilson(called, runs)),
        "coverage": held / tested if tested else math.nan, "coverage_ci": list(wilson(held, tested)),
        "untested": runs - tested,
    }  # fmt: skip


def measure_title(measure: str, found: Mapping[str, Any]) -> str:
    """What a measure is called where it is shown. found: what `analyse` gives of it."""
    if measure == "partial_area":
        low, high = found["specificity"]
        return f"Mean sensitivity at specificities of {low:g} to {high:g} (partial area)"
    return measure.capitalize()


def binormal_rows(found: Mapping[str, Any]) -> list[dict[str, Any]]:
    """A row a reader and modality: the empirical area beside that of the binormal curve, and what to know of it.

    found: what `analyse` gives. Numbers are NaN where there are none.
    """
    rows = []
    for reader in found["readers"]:
        for modality in found["modalities"]:
            fit = found["binormal"][modality][reader]
            empirical = found["area"]["by_reader"][modality][reader] if "area" in found else math.nan
            rows.append(
                {
                    "reader": reader, "modality": modality, "empirical area": empirical, "binormal area": fit["area"],
                    "a": fit["a"], "b": fit["b"], "remark": fit["remark"],
                }
            )  # fmt: skip
    return rows


def df_text(df: float) -> str:
    """Degrees of freedom of a t; empty where nothing is tested."""
    return "" if math.isnan(df) else "normal" if math.isinf(df) else f"{df:.2f}"


def sentence(one: Difference) -> str:
    """A difference in words, with all that a reader of it asks for."""
    if one.se == 0:
        return f"{one.first} minus {one.second}: {one.value:+.4f}; {UNTESTED}"
    by = df_text(one.df) if math.isinf(one.df) else f"df {df_text(one.df)}"
    return (
        f"{one.first} minus {one.second}: {one.value:+.4f} ({one.low:+.4f} to {one.high:+.4f}), se {one.se:.4f}, "
        f"t {one.t:.3f}, {by}, p {one.p:.3g}, adjusted {one.p_holm:.3g}"
    )


def one_shot_sentence(one: Mapping[str, Any]) -> str:
    """A U-statistic in words: estimate, interval, standard error and, of a difference, z and p (normal). Where patients
    have several cases, or the variance is not above 0, the estimate alone, and why."""
    if not one["is_one_case_each"]:
        return f"{one['name']}: {one['value']:+.4f}; its variance {NOT_INDEPENDENT}"
    if not one["variance"] > 0:
        why = UNTESTED if one["is_difference"] else f"{NO_ERROR}: no interval"
        return f"{one['name']}: {one['value']:+.4f}; {why}"
    se = math.sqrt(one["variance"])
    low, high = one["value"] - Z_95 * se, one["value"] + Z_95 * se
    said = f"{one['name']}: {one['value']:+.4f} ({low:+.4f} to {high:+.4f}), se {se:.4f}"
    if not one["is_difference"]:
        return said
    z = one["value"] / se
    return f"{said}, z {z:.3f}, normal, p {2 * norm.sf(abs(z)):.3g}"


def not_inferior_sentences(found: Mapping[str, Any]) -> list[str]:
    """A sentence a pair and order, of which the first is tested; none without a margin. found: what `of_merit` gives.

    Shown at one-sided half of `LEVEL`: the 95 % interval of the difference lies above minus the margin. Not adjusted.
    """
    tested = found.get("not_inferior", {})
    adjusted = f", not adjusted for {len(tested) // 2} pairs" if len(tested) > 2 else ""
    return [
        f'{pair}: "not inferior by the margin" is not tested, as {NO_ERROR}'
        if math.isnan(p)
        else f'{pair}: one-sided p for "not inferior by the margin": {p:.3g}, '
        f"{'shown' if p < LEVEL / 2 else 'not shown'} at {LEVEL / 2:g}{adjusted}"
        for pair, p in tested.items()
    ]


def f_text(one: Mapping[str, Any]) -> str:
    """The test that all modalities are equal: f, df1, df2 and p of `one`."""
    if math.isnan(one["f"]):
        return f"no F, as {NO_ERROR}"
    return f"F({one['df1']:g}, {one['df2']:.2f}) = {one['f']:.3f}, p {one['p']:.3g}"


def stand_ins(found: Mapping[str, Any]) -> str:
    """Which means of one measure have Wilson's interval; empty where none has. found: what `of_merit` gives."""
    names = ", ".join(one["modality"] for one in found["means"] if one["se"] == 0)
    return f"Mean of {names}: {NO_ERROR}; Wilson's interval, by patients, stands in" if names else ""


def moments_text(one: Mapping[str, Any]) -> str:
    """The moments M1 to M8 of a modality's U-statistic; a dash where a kind of pair does not occur."""
    return ", ".join("-" if math.isnan(moment) else f"{moment:.4f}" for moment in one["moments"])


def components_text(found: Mapping[str, Any]) -> str:
    """The components of variance of one measure. found: what `of_merit` gives."""
    return ", ".join(f"{name.replace('_', ' by ')} {value:.3e}" for name, value in found["components"].items())


def odds_sentence(one: Mapping[str, Any] | None) -> str:
    """An `OddsRatio` (its fields) in words; None: that there is none."""
    if one is None:
        return "no odds ratio, as every call under a modality is right, or none"
    first, second = one["shares"]
    interval = f" ({one['low']:.3f} to {one['high']:.3f}), p {one['p']:.3g}"
    tested = f"; {UNTESTED}" if math.isnan(one["p"]) else interval
    return (
        f"{one['first']} {first:.3f}, {one['second']} {second:.3f}, odds ratio {one['value']:.3f}{tested}, "
        f"{one['n']} reads, these readers"
    )
