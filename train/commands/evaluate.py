"""`python -m train evaluate`: a fitted model on any manifest, with every measure and its interval."""

from __future__ import annotations

import argparse
import json
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

from core.errors import InvalidInput
from core.files import write_whole
from core.settings import Settings
from train.datasets.manifest import add_rows

if TYPE_CHECKING:
    from train.publishing.evaluate import Evaluation


def add_options(parser: argparse.ArgumentParser) -> None:
    """Its options."""
    parser.add_argument("model", metavar="MODEL_ID")
    parser.add_argument("--data", required=True, type=Path, metavar="MANIFEST", help="CSV with file,label and more")
    parser.add_argument(
        "--also", action="append", default=[], type=Path, metavar="MANIFEST", help="more cases, measured together"
    )
    add_rows(parser)
    parser.add_argument(
        "--split",
        choices=["train", "validation", "test", "all"],
        default="test",
        help="without a split in the manifest all cases are measured, or of the model's own data its own test cases",
    )
    parser.add_argument(
        "--label", action="append", default=[], metavar="LABEL=CLASS", help="what the model calls a label"
    )
    parser.add_argument("--weights", type=Path, metavar="DIR", help="weights folder (default: the site's)")
    parser.add_argument("--out", type=Path, metavar="CSV", help="where the scores go (default: beside the card)")
    parser.add_argument("--seed", type=int, default=0, help="of the bootstrap (2,000 draws of patients)")
    parser.add_argument("--json", action="store_true", help="print one JSON object instead of the table")


def run(args: argparse.Namespace) -> int:
    """Evaluate, keep the scores, print."""
    from core.models.cards import read_card
    from train.datasets.manifest import joined, read_manifest
    from train.publishing.evaluate import evaluate

    labels = {}
    for pair in args.label:
        label, equals, name = pair.rpartition("=")
        if not equals or not label:
            raise InvalidInput("--label needs LABEL=CLASS, for example --label benign=not_malignant.")
        labels[label] = name
    weights_dir = args.weights or Settings.from_environment().weights_dir
    if Path(args.model).name != args.model:
        raise InvalidInput("MODEL_ID is the name of a model, not a path. Say with --weights where it lies.")
    card = read_card(weights_dir / args.model)
    manifest = joined(
        [read_manifest(path, root=args.root, where=args.where, allow_synonyms=True) for path in (args.data, *args.also)]
    )
    done = evaluate(card, manifest, split=args.split, labels=labels, seed=args.seed)
    notes = [*done.notes, _write_scores(done, args.out)]
    if args.json:
        json.dump(as_json(done, notes), sys.stdout, indent=1, allow_nan=False)
        sys.stdout.write("\n")
    else:
        sys.stdout.write("\n".join(as_text(done, notes)) + "\n")
    return 0


def as_json(done: Evaluation, notes: list[str]) -> dict[str, Any]:
    """What `python -m core metrics --json` gives for one scorer, whose measures are also at the top."""
    from core.commands.metrics import as_json as of_table

    found = of_table(done.result, with_pairs=False)
    return {
        "model_id": done.card.model_id,
        "weights_sha256": done.card.weights_sha256,
        "data_sha256": done.data_sha256,
        "split": done.split,
        "threshold": done.card.threshold.value,
        "notes": notes,
        **found,
        **found["scorers"][done.card.model_id],
    }


def as_text(done: Evaluation, notes: list[str]) -> list[str]:
    """Lines for a terminal."""
    from core.commands.metrics import as_text as of_table

    lines = [
        f"{done.card.model_id}, split {done.split}, threshold {done.card.threshold.value:g}",
        *of_table(done.result),
    ]
    matrix, classes = done.result.scorers[0].matrix, done.result.scorers[0].classes
    if matrix is not None:
        width = max(map(len, classes))
        lines += ["", f"Rows: true class; columns: the most probable one ({', '.join(classes)})"]
        lines += [
            f"  {name:<{width}}  " + "  ".join(f"{int(n):5d}" for n in row)
            for name, row in zip(classes, matrix, strict=True)
        ]
    return [*lines, "", *notes]


def _write_scores(done: Evaluation, out: Path | None) -> str:
    """Write the scores and say where. The card's own test scores are never replaced."""
    from train.publishing.evaluate import SAME_SCORE, difference, scores_path

    own = done.card.folder / f"{done.card.weights_sha256[:8]}.test_scores.csv"
    if out is None and done.is_stored:
        return "These are the out-of-fold scores of the card; they were not computed anew."
    if out is None and done.is_own and own.is_file():
        distance = difference(done.card, done.scores)
        if distance is not None and distance <= SAME_SCORE:
            return f"The card's own test scores are reproduced (largest difference {distance:.4f}) and stay."
        return f"CAUTION: these scores differ from the card's own by up to {distance:.4f}; the card's stay. See --out."
    if out is None and done.n_seen:
        return "These scores are not kept beside the card, as those of another collection are. See --out."
    path = out or (own if done.is_own else scores_path(done.card, done.data_sha256, done.split))
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        write_whole(path, done.scores.to_csv(index=False))
    except OSError as error:
        raise InvalidInput(
            f"The scores cannot be written ({type(error).__name__}). Say with --out where to."
        ) from error
    return f"Scores written to {path.name}" + (" beside the card." if out is None else ".")
