"""`python -m train fit`: from a manifest to a model in the weights folder."""

from __future__ import annotations

import argparse
import logging
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path

from core.errors import InvalidInput
from core.files import lock_of
from core.models.registry import ARCHITECTURES, OUTLINE
from core.types import Modality
from train.datasets.manifest import add_rows, require_there
from train.fitting.workers import Workers
from train.recipe.request import INITS, WEIGHTS, FitRequest

log = logging.getLogger(__name__)

_LOCK = "run.lock"


def add_options(parser: argparse.ArgumentParser) -> None:
    """What says which model is trained, on what and how."""
    parser.add_argument("architecture", choices=[*(entry.id for entry in ARCHITECTURES), OUTLINE])
    parser.add_argument("--modality", required=True, type=Modality, choices=list(Modality))
    parser.add_argument("--data", required=True, type=Path, metavar="MANIFEST", help="CSV with file,label and more")
    parser.add_argument(
        "--also", action="append", type=Path, metavar="MANIFEST", help="a further collection, trained on together"
    )
    add_rows(parser)
    parser.add_argument("--name", metavar="MODEL_ID", help="default: <modality>-<architecture>")
    parser.add_argument("--out", type=Path, default=WEIGHTS, help="weights folder (default: weights)")
    parser.add_argument("--init", choices=sorted(INITS), default="offline")
    parser.add_argument(
        "--backbone", type=Path, help="ResNet50V2 made by `python -m train distil` (with --init offline)"
    )
    parser.add_argument("--cnn", metavar="MODEL_ID", help="fitted CNN in --out whose layers begin cnn_resnet50")
    parser.add_argument("--positive", help="the label that counts as positive (default: malignant, else idc)")
    parser.add_argument("--epochs", type=int, help="default: the architecture's recipe")
    parser.add_argument("--side", type=int, help="pixels of the square input (default: the recipe's)")
    parser.add_argument(
        "--unfreeze",
        metavar="N|all",
        help="train the last N blocks of the backbone, or all; 0: features of a frozen one (default: the recipe's)",
    )
    parser.add_argument(
        "--set",
        dest="settings",
        action="append",
        default=[],
        metavar="NAME=VALUE",
        help="another knob of the configuration, such as mixup=0.2 or optimizer=sgd",
    )
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--folds", type=int, default=0, metavar="K", help="measure in K folds, then fit on all cases")
    parser.add_argument(
        "--split-by", metavar="COLUMN", help="make a split that keeps together what shares this column (default: all)"
    )
    parser.add_argument(
        "--split-like",
        metavar="MODEL_ID",
        help="take up the split of this model again, so that both are measured on the same test cases",
    )
    parser.add_argument(
        "--allow-leaks", action="store_true", help="train on a leaking split; the card says so for ever"
    )
    parser.add_argument("--no-weights", action="store_true", help="write the card and the scores only")
    _add_options_of_run(parser)


def _add_options_of_run(parser: argparse.ArgumentParser) -> None:
    """How long and where it runs, and what the card says of that."""
    parser.add_argument("--budget-minutes", type=float, metavar="M", help="end training when this long has gone by")
    parser.add_argument(
        "--work", type=Path, metavar="DIR", help="keep working files there: the same command goes on if it was killed"
    )
    parser.add_argument(
        "--join",
        action="store_true",
        help="take folds or trials of the run that another process began with this --work",
    )
    parser.add_argument(
        "--workers", type=int, metavar="N", help="processes that fit the network together, which TF_CONFIG names"
    )
    parser.add_argument("--why", default="", metavar="SENTENCE", help="why these settings, for the card")
    parser.add_argument(
        "--limit", dest="limits", action="append", default=[], metavar="SENTENCE", help="a limit to print on the card"
    )


def run(args: argparse.Namespace) -> int:
    """Train, calibrate, measure, publish. TensorFlow is loaded here, after the arguments were read."""
    for path in (args.data, *(args.also or ())):
        require_there(path)
    if args.architecture == OUTLINE:
        from train.recipe.outline import OutlineRequest

        outline = OutlineRequest.from_arguments(vars(args))
        from train.publishing.outline import train_outline

        with working_folder(outline.work) as folder:
            log.info("written: %s", train_outline(outline, folder))
        return 0
    request = FitRequest.from_arguments(vars(args))
    workers = Workers.of_environment()
    if args.workers and workers.n != request.workers:
        raise InvalidInput(
            f"TF_CONFIG names {workers.n} workers, and {request.workers} were asked for. The queue sets it where the "
            "site has a cluster; by hand it is set on each machine (docs/cluster.md)."
        )
    request = replace(request, workers=workers.n)
    if workers.n > 1 and request.work is None:
        raise InvalidInput("Several workers share a folder: name it with --work.")
    from train.publishing.pipeline import help_to_train, join_folds, train_model

    if args.join:
        join_folds(request, joined_folder(request))
        return 0
    if workers.rank and request.work is not None:
        with workers.together():
            help_to_train(request, request.work, workers)
        return 0
    with working_folder(request.work) as folder, workers.together():
        card = train_model(request, folder, workers)
    log.info("written: %s", card)
    return 0


def joined_folder(request: FitRequest) -> Path:
    """Of the run that is to be shared. Raises InvalidInput."""
    if request.work is None:
        raise InvalidInput("--join needs the --work of the run that another process began.")
    return request.work


@contextmanager
def working_folder(retained: Path | None) -> Iterator[Path]:
    """The folder that was asked for, which stays, or one that is removed afterwards.

    One process at a time works in it, and the next one waits: the machine of an earlier attempt may be cut off from the
    cluster and still reach the folder.
    """
    if retained is None:
        with tempfile.TemporaryDirectory(prefix="secondread-fit-") as folder:
            yield Path(folder)
        return
    retained.mkdir(parents=True, exist_ok=True)
    with lock_of(retained / _LOCK) as is_ours:
        if not is_ours:
            log.info("Another process works in the folder of --work; waiting until it ends.")
    with lock_of(retained / _LOCK, waits=True):
        yield retained
