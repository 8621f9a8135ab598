"""What `python -m train fit` was asked for: its configuration, the command to repeat it, whether it is done already.

Loads no TensorFlow.
"""

from __future__ import annotations

import argparse
import json
import shlex
from dataclasses import asdict, fields, replace
from pathlib import Path
from typing import Any

from core.errors import InvalidInput
from core.models.cards import Card, read_card
from core.settings import REPOSITORY
from train.datasets.cases import divided, labelled, split_sha256
from train.datasets.manifest import read_manifest
from train.recipe.config import FitConfig, with_settings
from train.recipe.recipes import in_regime, recipe


def config_of(args: argparse.Namespace) -> FitConfig:
    """The recipe with what the arguments change of it. Raises InvalidInput."""
    config = recipe(args.architecture, args.modality, args.init, args.seed)
    if args.unfreeze is not None:
        config = in_regime(config, args.unfreeze)
    config = with_settings(config, args.set)
    return replace(config, epochs=args.epochs or config.epochs, side=args.side or config.side)


def command_of(args: argparse.Namespace) -> str:
    """The command to run again. Folders of this machine are not repeated: DATA stands for where the files are."""
    root = args.root or args.data.parent
    inside = args.data.resolve().is_relative_to(root.resolve())
    manifest = args.data.resolve().relative_to(root.resolve()).as_posix() if inside else args.data.name
    words = ["python", "-m", "train", "fit", args.architecture, "--modality", args.modality.value]
    words += ["--data", f"DATA/{manifest}", "--root", "DATA"]
    for name in (
        "where",
        "name",
        "init",
        "positive",
        "epochs",
        "side",
        "seed",
        "folds",
        "split_by",
        "split_like",
        "cnn",
        "unfreeze",
        "set",
    ):
        value = getattr(args, name)
        for one in value if isinstance(value, list) else [value] if value else []:
            words += [f"--{name.replace('_', '-')}", str(one)]
    words += ["--backbone", args.backbone.name] if args.backbone else []
    words += ["--allow-leaks"] if args.allow_leaks else []
    return shlex.join(words)


def model_id_of(args: argparse.Namespace) -> str:
    """The model's name: the one that was given, or modality and architecture."""
    return args.name or f"{args.modality.value}-{args.architecture}"


def split_model(args: argparse.Namespace) -> Card | None:
    """The model that `--split-like` names: in the folder that is written to, else among the shipped ones."""
    if args.split_like is None:
        return None
    if args.folds or args.split_by:
        raise InvalidInput("--split-like takes up a split that is there; leave out --folds and --split-by.")
    return model_of_split(args.split_like, args.out)


def model_of_split(model_id: str, *weights: Path) -> Card:
    """The card of a model whose split is to be taken up again, in these folders or among the shipped models."""
    for folder in (*weights, REPOSITORY / "weights"):
        if (folder / model_id / "card.json").is_file():
            return read_card(folder / model_id)
    raise InvalidInput(f"There is no model {model_id!r} whose split could be taken up again.")


def is_done(args: argparse.Namespace) -> bool:
    """Whether that model is in the weights folder, with the same configuration, cases and split.

    Weights that were asked for must be there; a run that a budget ended counts if this budget is no larger.
    """
    folder = args.out / model_id_of(args)
    try:
        card = json.loads((folder / "card.json").read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return False
    files = card.get("weights", {}).get("files", [])
    if not args.no_weights and not (files and all((folder / name).is_file() for name in files)):
        return False
    training = card.get("training", {})
    if training.get("ended_by_budget") and (args.budget_minutes or float("inf")) > training["budget_minutes"]:
        return False
    return _same_config(training, config_of(args)) and _same_data(card.get("data", {}), args)


def _same_config(training: dict[str, Any], config: FitConfig) -> bool:
    # A knob that the card does not know yet stood where it stands by default.
    default = {field.name: field.default for field in fields(FitConfig)}
    return all(training.get(name, default[name]) == value for name, value in asdict(config).items())


def _same_data(data: dict[str, Any], args: argparse.Namespace) -> bool:
    manifest = read_manifest(args.data, root=args.root, where=args.where)
    if data.get("sha256") != manifest.sha256:
        return False
    cases, _, _ = labelled(manifest, args.modality, args.positive)
    cases, _ = divided(cases, seed=args.seed, folds=args.folds, by=args.split_by, like=split_model(args))
    return data.get("split_sha256") == split_sha256(cases)
