"""`python -m train split`: a manifest with its split (or folds) written down, so that everyone measures on the same."""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

from train.datasets.manifest import add_rows


def add_options(parser: argparse.ArgumentParser) -> None:
    """Its options."""
    parser.add_argument("--data", required=True, type=Path, metavar="MANIFEST", help="CSV with file,label and more")
    add_rows(parser)
    parser.add_argument("--out", required=True, type=Path, metavar="MANIFEST", help="the manifest to write")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--folds", type=int, metavar="K", help="a column fold (0 to K - 1) instead of split")
    parser.add_argument(
        "--by", metavar="COLUMN", help="keep together what shares this column (default: all that say so)"
    )
    parser.add_argument("--per-class", type=int, metavar="N", help="first draw N cases of every label")
    parser.add_argument(
        "--look-alikes", action="store_true", help="find nearly identical pictures first and keep them together"
    )


def run(args: argparse.Namespace) -> int:
    """Split and write; files of the same content are kept together even where no column says so."""
    from train.datasets.duplicates import grouped, near_duplicate_pairs, sha256_of, traces_of
    from train.datasets.manifest import read_manifest, write_manifest
    from train.datasets.split import balanced_subset, fold_cases, split_cases

    manifest = read_manifest(args.data, root=args.root, where=args.where)
    sys.stderr.writelines(f"{remark}\n" for remark in manifest.remarks)
    cases = manifest.cases
    if args.per_class is not None:
        cases = balanced_subset(cases, args.per_class, seed=args.seed)
    if args.look_alikes:
        traces = traces_of(list(cases["file"]), manifest.root)
        cases = cases.assign(sha256=list(traces.sha256), group=grouped(cases, near_duplicate_pairs(traces)))
    elif "sha256" not in cases:
        cases = cases.assign(sha256=[sha256_of(manifest.root / file) for file in cases["file"]])
    if args.folds is not None:
        cases = cases.assign(fold=fold_cases(cases, args.folds, args.seed, by=args.by))
    else:
        cases = cases.assign(split=split_cases(cases, seed=args.seed, by=args.by))
    write_manifest(cases, args.out)
    column = "split" if args.folds is None else "fold"
    sys.stdout.write(cases.groupby([column, "label"]).size().unstack(fill_value=0).to_string() + "\n")
    return 0
