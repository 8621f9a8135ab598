"""`python -m train all`: every model of the programme, one after the other; it goes on where it stopped."""

from __future__ import annotations

import argparse
import logging
import subprocess
import sys
import time
from collections.abc import Callable, Sequence
from dataclasses import asdict, fields
from pathlib import Path

from core.errors import AppError, InvalidInput, ModelUnavailable
from core.models.cards import DataOnCard, read_card
from core.settings import REPOSITORY, Settings
from train.commands import options
from train.recipe.programme import (
    PROGRAMME,
    Entry,
    arguments_of,
    backbone_name,
    distil_arguments,
    distilled_on,
    external_arguments,
    manifest_of,
    request_of,
)
from train.recipe.recipes import FitConfig
from train.recipe.request import FitRequest

log = logging.getLogger(__name__)


def add_options(parser: argparse.ArgumentParser) -> None:
    """Its options."""
    parser.add_argument("--data", required=True, type=Path, metavar="DIR", help="holds the three modalities' manifests")
    options.add_weights(parser, "--out")
    parser.add_argument(
        "--backbone", type=Path, metavar="FILE", help="ResNet50V2 for the fusions (default: distilled first, once)"
    )
    parser.add_argument("--budget-minutes", type=float, metavar="M", help="end each model's training after this long")
    parser.add_argument("--only", action="append", default=[], metavar="MODEL_ID", help="these models only")
    parser.add_argument("--list", action="store_true", help="say what would be done, and do nothing")


def run(args: argparse.Namespace) -> int:
    """0 when every model is there, else 1: a model that failed does not keep the others from being trained."""
    args.data, args.out = args.data.resolve(), args.out.resolve()
    if args.backbone is not None:
        args.backbone = args.backbone.resolve()
    if args.budget_minutes is not None and not args.budget_minutes > 0:
        raise InvalidInput("--budget-minutes must be more than 0.")
    unknown = set(args.only) - {entry.model_id for entry in PROGRAMME}
    if unknown:
        known = ", ".join(entry.model_id for entry in PROGRAMME)
        raise InvalidInput(f"No model of the programme is called {sorted(unknown)[0]!r}. Models: {known}.")
    entries = [entry for entry in PROGRAMME if not args.only or entry.model_id in args.only]
    if args.backbone is not None and len({distilled_on(one) for one in entries if one.architecture == "fusion"}) > 1:
        raise InvalidInput(
            "The fusions of the programme start from two backbones, as none is tested on pictures that its own saw. "
            "Name those that --backbone is for with --only, or leave it out: they are distilled first."
        )
    for entry in entries:
        manifest_of(entry, args.data)  # say at once what is missing, not after an hour
    if args.list:
        for entry in entries:
            state = "there" if _is_done(entry, args) else "to do"
            sys.stdout.write(f"{state}  {entry.model_id}  {entry.why}\n")
        return 0
    failed = train_all(entries, args, run_command)
    if failed:
        log.error("failed: %s", ", ".join(failed))
    return 1 if failed else 0


def train_all(entries: Sequence[Entry], args: argparse.Namespace, command: Callable[[Sequence[str]], int]) -> list[str]:
    """The ids of the models that could not be made. `command`: `python -m train` with arguments -> exit status."""
    failed = []
    for number, entry in enumerate(entries, start=1):
        where = f"{number} of {len(entries)} {entry.model_id}"
        try:
            is_there, external = _is_done(entry, args), external_arguments(entry, args.data, args.out)
            if is_there and (external is None or is_measured_elsewhere(args.out / entry.model_id)):
                log.info("%s: there already", where)
                continue
            log.info("%s: begins", where)
            began = time.monotonic()
            backbone, status = _backbone(entry, args), 0
            if not is_there and backbone is not None and not backbone.is_file():
                status = command(distil_arguments(entry, args.data, backbone))
            if not status and not is_there:
                status = command(arguments_of(entry, args.data, args.out, args.budget_minutes, backbone))
            status = status or (command(external) if external else 0)
        except AppError as error:
            log.error("%s: %s", where, error)
            status, began = 1, time.monotonic()
        if status:
            failed.append(entry.model_id)
        took = (time.monotonic() - began) / 60
        log.info("%s: %s after %.1f minutes", where, f"FAILED (status {status})" if status else "done", took)
    return failed


def _backbone(entry: Entry, args: argparse.Namespace) -> Path | None:
    """What a fusion's ResNet50V2 starts from: the file that was given, or that of the pictures it is distilled on."""
    if entry.architecture != "fusion":
        return None
    given: Path | None = args.backbone
    return given or Settings.from_environment().state_dir / backbone_name(entry)


def run_command(arguments: Sequence[str]) -> int:
    """In a process of its own: what one model's training leaves in memory, or how it dies, does not touch the next."""
    return subprocess.run([sys.executable, "-m", "train", *arguments], cwd=REPOSITORY, check=False).returncode


def is_measured_elsewhere(folder: Path) -> bool:
    """Whether scores on another collection lie beside the weights that the card names."""
    from train.publishing.evaluate import scores_elsewhere

    return bool(scores_elsewhere(read_card(folder)))


def _is_done(entry: Entry, args: argparse.Namespace) -> bool:
    from train.publishing.ensembles import is_made

    if entry.members:
        members = [f"{entry.modality.value}-{member}" for member in entry.members]
        return is_made(members, entry.method, args.out, name=entry.model_id)
    return is_done(request_of(entry, args.data, args.out, args.budget_minutes))


def is_done(request: FitRequest) -> bool:
    """Whether that model is in the weights folder, with the same configuration, cases and split.

    Weights that were asked for must be there; a run that a budget ended counts if this budget is no larger.
    """
    folder = request.out / request.model_id
    try:
        card = read_card(folder)
    except ModelUnavailable:
        return False
    if not request.no_weights and not card.has_weights:
        return False
    had = card.training.budget_minutes if card.training.ended_by_budget else None
    if had is not None and (request.budget_minutes or float("inf")) > had:
        return False
    training = card.training.model_dump(exclude_unset=True)
    # A knob that the card does not know yet stood where it stands by default.
    default = {field.name: field.default for field in fields(FitConfig)}
    is_same = all(training.get(name, default[name]) == value for name, value in asdict(request.config).items())
    return is_same and _same_data(card.data, request)


def _same_data(data: DataOnCard, request: FitRequest) -> bool:
    from train.datasets.cases import divided, labelled, split_sha256
    from train.datasets.manifest import joined, read_manifest
    from train.datasets.split import model_of_split

    paths = (request.data, *request.also)
    manifest = joined([read_manifest(path, root=request.root, where=request.where) for path in paths])
    if data.sha256 != manifest.sha256:
        return False
    cases, _, _ = labelled(manifest, request.modality, request.positive or None)
    like = model_of_split(request.split_like, request.out) if request.split_like else None
    by = request.split_by or None
    cases, _ = divided(cases, seed=request.seed, folds=request.folds, by=by, like=like)
    return bool(data.split_sha256 == split_sha256(cases))
