"""`python -m core metrics`: every measure of a table of scores, and every pair, without a browser."""

from __future__ import annotations

import argparse
import json
import math
import sys
from pathlib import Path
from typing import Any

from core.errors import InvalidInput
from core.evaluation.statistics.intervals import N_RESAMPLES
from core.evaluation.statistics.metrics import PREVALENCES, predictive_values
from core.evaluation.statistics.ranked import N_BINS
from core.evaluation.statistics.summary import ScorerResult, TableResult, evaluate_table
from core.evaluation.tables.scores import Scale, read_scores

MAX_RESAMPLES = 100_000


def add_options(parser: argparse.ArgumentParser) -> None:
    """Its options."""
    parser.add_argument("scores", type=Path, metavar="SCORES.csv", help="columns case,patient,label, then scorers")
    parser.add_argument("--json", action="store_true", help="print one JSON object")
    parser.add_argument("--pairs", action="store_true", help="compare every pair of scorers (DeLong, Holm)")
    parser.add_argument("--positive", metavar="LABEL", help="the label that counts as positive, if not 0 and 1")
    parser.add_argument("--scorers", metavar="A,B", help="default: columns of numbers between 0 and 1")
    parser.add_argument("--percent", metavar="A,B", help="columns of scores from 0 to 100")
    parser.add_argument("--logits", metavar="A,B", help="columns of log odds")
    parser.add_argument("--threshold", type=float, metavar="T", help="adds the measures at this threshold, for all")
    parser.add_argument("--resamples", type=int, default=N_RESAMPLES, help="bootstrap draws of patients")
    parser.add_argument("--seed", type=int, default=0, help="of the bootstrap")


def run(args: argparse.Namespace) -> int:
    """Print the measures as a table or as JSON; refusals go up as `AppError`."""
    if not 1 <= args.resamples <= MAX_RESAMPLES:
        raise InvalidInput(f"--resamples is {args.resamples}; it must be 1 to {MAX_RESAMPLES:,}.")
    if args.seed < 0:
        raise InvalidInput(f"--seed is {args.seed}; it must be 0 or more.")
    if args.threshold is not None and not 0 <= args.threshold <= 1:
        raise InvalidInput(f"--threshold is {args.threshold:g}; scores lie between 0 and 1.")
    scorers = None if args.scorers is None else _columns(args.scorers, "--scorers")
    scales: dict[str, Scale] = {}
    for option, text, scale in (("--percent", args.percent, Scale.PER_CENT), ("--logits", args.logits, Scale.LOG_ODDS)):
        if text is not None:
            scales |= dict.fromkeys(_columns(text, option), scale)
    table = read_scores(args.scores, positive=args.positive, scorers=scorers, scales=scales)
    result = evaluate_table(
        table, with_pairs=args.pairs, threshold=args.threshold, resamples=args.resamples, seed=args.seed
    )
    if args.json:
        json.dump(as_json(result, with_pairs=args.pairs), sys.stdout, indent=1, allow_nan=False)
        sys.stdout.write("\n")
    else:
        sys.stdout.write("\n".join(as_text(result)) + "\n")
    return 0


def _columns(text: str, option: str) -> list[str]:
    names = [name.strip() for name in text.split(",") if name.strip()]
    if not names:
        raise InvalidInput(f"{option} names no column. Give one or more, separated by commas.")
    return names


def as_json(result: TableResult, *, with_pairs: bool) -> dict[str, Any]:
    """Plain values; a number that does not exist is null.

    `se`, `z`, `p`, `p_holm` and `delong_se` are those of DeLong's own test, which takes cases to be independent; the
    same keys with `_patients` take patients to be, and are what the page shows.
    """
    found: dict[str, Any] = {
        "n": result.n,
        "positives": result.positives,
        "positive": result.positive,
        "patients": result.patients,
        "sha256": result.sha256,
        "resamples": result.resamples,
        "seed": result.seed,
        "warnings": list(result.warnings),
        "left_out": list(result.left_out),
        "scorers": {scorer.name: _scorer_json(scorer) for scorer in result.scorers},
    }
    if with_pairs:
        found["pairs"] = {
            test.name: {
                "difference": _known(test.difference),
                "se": _known(test.by_case.se),
                "z": _known(test.by_case.z),
                "p": _known(test.by_case.p),
                "p_holm": _known(test.by_case.p_holm),
                "se_patients": _known(test.se),
                "z_patients": _known(test.z),
                "p_patients": _known(test.p),
                "p_holm_patients": _known(test.p_holm),
                "ci": [_known(test.low), _known(test.high)],
                "n": test.n,
                "positives": test.positives,
            }
            for test in result.pairs
        }
        for calls in result.calls:
            found["pairs"][f"{calls.first} vs {calls.second}"]["mcnemar"] = {
                "n": calls.n,
                "only_first_right": calls.only_first,
                "only_second_right": calls.only_second,
                "p": calls.p,
                "p_holm": calls.p_holm,
            }
    return found


def _scorer_json(scorer: ScorerResult) -> dict[str, Any]:
    found: dict[str, Any] = {"n": scorer.n, "missing": scorer.missing}
    measures = dict(scorer.measures)
    if "auc" in measures:
        by_delong, by_bootstrap = measures.pop("auc_delong"), measures.pop("auc_bootstrap")
        found |= {
            "positives": scorer.positives,
            "auc": measures["auc"].value,
            "delong_se": _known(scorer.delong_se),
            "delong_se_patients": _known(scorer.delong_se_patients),
            "ci": [measures["auc"].low, measures["auc"].high],
            "ci_method": scorer.area_by,
            "delong_ci": [by_delong.low, by_delong.high],
            "bootstrap_ci": [by_bootstrap.low, by_bootstrap.high],
        }
    found |= {name: _known(estimate.value) for name, estimate in measures.items()}
    # Where the draws alone would have left the value out of its interval, the mean of the draws less the value.
    found["widened"] = {name: estimate.bias for name, estimate in measures.items() if estimate.bias is not None}
    found["intervals"] = {name: [_known(estimate.low), _known(estimate.high)] for name, estimate in measures.items()}
    if "sensitivity_at_threshold" in measures:
        found["restated"] = {f"{prevalence:g}": _restated(scorer, prevalence) for prevalence in PREVALENCES}
    if scorer.matrix is not None:
        found |= {"classes": list(scorer.classes), "confusion_matrix": scorer.matrix.tolist()}
    return found


def _restated(scorer: ScorerResult, prevalence: float) -> dict[str, Any]:
    sensitivity = scorer.measures["sensitivity_at_threshold"]
    specificity = scorer.measures["specificity_at_threshold"]
    values = zip(("ppv", "npv"), predictive_values(sensitivity, specificity, prevalence), strict=True)
    return {
        name: {"value": _known(estimate.value), "ci": [_known(estimate.low), _known(estimate.high)]}
        for name, estimate in values
    }


def _known(value: float) -> float | None:
    return value if math.isfinite(value) else None


def as_text(result: TableResult) -> list[str]:
    """Lines for a terminal: one scorer and measure a line."""
    head = f"{result.n} cases of {result.patients} patients"
    if result.positives is not None:
        head += f", {result.positives} positive ({100 * result.positives / result.n:.1f} %)"
    lines = [
        f"{head}; 95 % intervals, {result.resamples:,} draws of patients, seed {result.seed}",
        f"sha256 {result.sha256}",
        f"ece: expected calibration error over {N_BINS} bins of equally many cases",
        *result.warnings,
    ]
    if result.left_out:
        lines.append("--percent NAME and --logits NAME take such a column as scores.")
    width = max((len(name) for scorer in result.scorers for name in scorer.measures), default=0)
    for scorer in result.scorers:
        lines += ["", f"{scorer.name} ({scorer.n} cases)"]
        for name, estimate in scorer.measures.items():
            shown = f"  {_text(estimate.value)}  {_text(estimate.low)} to {_text(estimate.high)}"
            lines.append(f"  {name:<{width}}{shown}  {estimate.widened_text}".rstrip())
    if result.pairs:
        how = "DeLong" if result.patients == result.n else "DeLong over patients, as Obuchowski 1997"
        lines += ["", f"Difference of areas, first minus second ({how}; p adjusted by Holm over all pairs)"]
    for test in result.pairs:
        if test.why_not:
            lines.append(f"  {test.name}: not compared, {test.why_not}")
            continue
        lines.append(
            f"  {test.name}: {test.difference:+.4f}  ({_text(test.low)} to {_text(test.high)}), se {_text(test.se)}, "
            f"z {test.z:.3f}, p {test.p:.3g}, adjusted {test.p_holm:.3g}, {test.n} cases"
        )
    for calls in result.calls:
        lines.append(
            f"  {calls.first} vs {calls.second}: right alone {calls.only_first} and {calls.only_second} times, "
            f"McNemar p {calls.p:.3g}, adjusted {calls.p_holm:.3g}"
        )
    return lines


def _text(value: float) -> str:
    return "unknown" if math.isnan(value) else f"{value:.4f}"
