"""`python -m core reader-study`: a multi-reader multi-case study analysed, or readers against models."""

from __future__ import annotations

import argparse
import dataclasses
import json
import math
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

from core.errors import InvalidInput
from core.evaluation.statistics.intervals import one_case_each
from core.evaluation.statistics.reader_study import Difference, ReaderStudy, against_one, with_holm
from core.evaluation.statistics.reader_study_summary import (
    MEASURES,
    UNTESTED,
    analyse,
    binormal_rows,
    f_text,
    measure_title,
    not_inferior_sentences,
    odds_sentence,
    one_shot_sentence,
    sentence,
    simulated_power,
    stand_ins,
)
from core.evaluation.tables.reader_studies import INDEPENDENT_ELSEWHERE, read_study, write_imrmc, write_long_table
from core.evaluation.tables.rjafroc import write_workbook
from core.evaluation.tables.scores import read_scores
from core.wording import how_many


def add_options(parser: argparse.ArgumentParser) -> None:
    """Its two actions and their options."""
    actions = parser.add_subparsers(required=True, metavar="ACTION", dest="action")
    analyse = actions.add_parser("analyse", help="compare modalities: Obuchowski-Rockette, DBM, U-statistic")
    analyse.add_argument(
        "table", type=Path, metavar="TABLE", help="reader,modality,case,truth,score, *.imrmc or *.xlsx"
    )
    analyse.add_argument("--cut", type=float, metavar="S", help="adds sensitivity and specificity at this score")
    analyse.add_argument("--margin", type=float, metavar="M", help="adds one-sided p of non-inferiority in area")
    analyse.add_argument("--effect", type=float, metavar="D", help="adds the power to find this difference in area")
    analyse.add_argument(
        "--partial", type=float, nargs=2, metavar=("LOW", "HIGH"), help="adds the partial area between specificities"
    )
    analyse.add_argument("--jackknife", action="store_true", help="covariances by jackknife instead of DeLong's")
    analyse.add_argument("--imrmc", type=Path, metavar="FILE", help="also write the study as iMRMC reads it")
    analyse.add_argument("--csv", type=Path, metavar="FILE", help="also write the study as MRMCaov reads it")
    analyse.add_argument("--xlsx", type=Path, metavar="FILE", help="also write the study as RJafroc reads it")
    analyse.add_argument("--json", action="store_true", help="print one JSON object")
    against = actions.add_parser("against", help="the average reader against each model that reads alone")
    against.add_argument("table", type=Path, metavar="SCORES.csv", help="columns case,patient,label, then scorers")
    against.add_argument("--readers", required=True, metavar="PREFIX", help="readers' columns begin so; others: models")
    against.add_argument("--json", action="store_true", help="print one JSON object")
    planned = actions.add_parser("power", help="power of a planned study, by simulation (Roe & Metz 1997)")
    planned.add_argument("--readers", type=int, required=True)
    planned.add_argument("--positives", type=int, required=True)
    planned.add_argument("--negatives", type=int, required=True)
    planned.add_argument("--effect", type=float, required=True, help="added to the separation of 1.5; 0: type I error")
    planned.add_argument("--runs", type=int, default=500, help="simulated studies")
    planned.add_argument("--seed", type=int, default=0)
    planned.add_argument("--groups", type=int, default=1, help="readers and cases are dealt into so many (split-plot)")
    planned.add_argument("--shared", type=int, default=0, help="so many cases every group reads besides (hybrid)")
    planned.add_argument("--json", action="store_true", help="print one JSON object")


def run(args: argparse.Namespace) -> int:
    """Print the analysis; refusals go up as `AppError`."""
    found = {"against": _against, "analyse": _analysed, "power": _simulated}[args.action](args)
    if args.json:
        json.dump(_plain(found), sys.stdout, indent=1, allow_nan=False)
        sys.stdout.write("\n")
    else:
        sys.stdout.write("\n".join(_lines(found)) + "\n")
    return 0


def _analysed(args: argparse.Namespace) -> dict[str, Any]:
    try:
        study = read_study(args.table.read_bytes())
    except OSError as error:
        raise InvalidInput(f"The table cannot be read: {error.strerror}. Check its path.") from error
    if args.jackknife and not one_case_each(study.patients):
        raise InvalidInput("The jackknife takes cases to be independent; here a patient has several. Leave it out.")
    found = analyse(
        study, cut=args.cut, margin=args.margin, effect=args.effect, by_jackknife=args.jackknife,
        partial=None if args.partial is None else (args.partial[0], args.partial[1]),
    )  # fmt: skip
    found["remarks"] = list(study.remarks)
    exports: tuple[tuple[Path | None, Callable[[], bytes]], ...] = (
        (args.imrmc, lambda: write_imrmc(study).encode()), (args.csv, lambda: write_long_table(study).encode()),
        (args.xlsx, lambda: write_workbook(study)),
    )  # fmt: skip
    if any(path for path, _ in exports) and not one_case_each(study.patients):
        found["remarks"].append(INDEPENDENT_ELSEWHERE)
    for path, made in exports:
        if path is not None:
            try:
                path.write_bytes(made())
            except OSError as error:
                raise InvalidInput(f"The export cannot be written: {error.strerror}. Choose another place.") from error
    return found


def _against(args: argparse.Namespace) -> dict[str, Any]:
    table = read_scores(args.table)
    readers = tuple(name for name in table.scorers if name.startswith(args.readers))
    models = [name for name in table.scorers if name not in readers]
    if table.is_positive is None or len(readers) < 2 or not models:
        raise InvalidInput(
            "The table needs labels 0 and 1, two or more columns that begin with the readers' prefix, and a model's."
        )
    scores = np.array([table.scorers[name] for name in readers])
    study = ReaderStudy(("alone",), readers, table.is_positive, scores[None], table.patients)
    tests = with_holm([against_one(model, scores, table.scorers[model], study) for model in models])
    return {"readers": list(readers), "against": [dataclasses.asdict(one) for one in tests]}


def _simulated(args: argparse.Namespace) -> dict[str, Any]:
    return simulated_power(
        readers=args.readers, positives=args.positives, negatives=args.negatives, effect=args.effect,
        runs=args.runs, seed=args.seed, groups=args.groups, shared=args.shared,
    )  # fmt: skip


def _plain(value: Any) -> Any:
    """For JSON: a number that does not exist, or is infinite, is null."""
    if isinstance(value, dict):
        return {key: _plain(one) for key, one in value.items()}
    if isinstance(value, list | tuple):
        return [_plain(one) for one in value]
    return None if isinstance(value, float) and not math.isfinite(value) else value


def _lines(found: dict[str, Any]) -> list[str]:
    if "runs" in found:
        low, high = found["coverage_ci"]
        held = f"{found['coverage']:.3f} of the intervals hold the difference ({low:.3f} to {high:.3f})"
        return [
            f"{found['runs']} simulated studies, seed {found['seed']}: mean difference in area "
            f"{found['difference']:+.4f}, power {found['power']:.3f} ({found['ci'][0]:.3f} to {found['ci'][1]:.3f})"
            + ("" if math.isnan(found["coverage"]) else f", {held}"),
            *([f"{how_many(found['untested'], 'study', 'studies')}: {UNTESTED}"] if found["untested"] else []),
        ]
    if "against" in found:
        return [
            f"{len(found['readers'])} readers, random readers and cases (Obuchowski-Rockette, Hillis)",
            *(f"  {sentence(Difference(**one))}" for one in found["against"]),
        ]
    lines = [
        f"{len(found['readers'])} readers, {len(found['modalities'])} modalities, {found['positives']} positive and "
        f"{found['negatives']} negative cases, {found['missing_reads']} reads missing"
    ]
    lines += [*([found["note"]] if "note" in found else []), *found.get("remarks", [])]
    for measure in MEASURES:
        if measure in found:
            lines += ["", measure_title(measure, found[measure]), *_lines_of_merit(found[measure])]
    for measure in ("sensitivity", "specificity"):
        if f"{measure}_gee" in found:
            lines.append(f"{measure.capitalize()} by estimating equations: {odds_sentence(found[f'{measure}_gee'])}")
    lines += ["", "One-shot U-statistic (Gallas 2006), area"]
    for one in found["one_shot"]:
        variance = f", variance {one['variance']:.3e}" if one["is_one_case_each"] else ""
        lines.append(f"  {one_shot_sentence(one)}{variance}")
    lines += ["", "Area under each reader's binormal curve (Dorfman & Alf 1969), beside the empirical one"]
    for row in binormal_rows(found):
        fitted = f"{row['binormal area']:.4f}, a {row['a']:.3f}, b {row['b']:.3f}"
        said = ", ".join(one for one in ("" if math.isnan(row["a"]) else fitted, row["remark"]) if one)
        empirical = "" if math.isnan(row["empirical area"]) else f"empirical {row['empirical area']:.4f}, "
        lines.append(f"  {row['reader']}, {row['modality']}: {empirical}binormal {said}")
    return lines


def _lines_of_merit(found: dict[str, Any]) -> list[str]:
    lines = [
        f"  {one['modality']}: {one['value']:.4f} ({one['low']:.4f} to {one['high']:.4f})"
        + (f", df {one['df']:.2f}" if one["se"] > 0 else "")
        for one in found["means"]
    ]
    lines += [f"  {said}" for said in [stand_ins(found)] if said]
    lines.append("  components: " + ", ".join(f"{name} {value:.3e}" for name, value in found["components"].items()))
    for one in found["analyses"]:
        lines.append(f"  {one['readers']} readers, {one['cases']} cases: {f_text(one)}")
        lines += [f"    {sentence(Difference(**difference))}" for difference in one["differences"]]
    if "dbm" in found:
        lines.append(f"  DBM (pseudovalues): {f_text(found['dbm'])}")
    lines += [f"  {said}" for said in not_inferior_sentences(found)]
    if "power" in found:
        lines.append(f"  power at this size: {found['power']:.3f}")
    return lines
