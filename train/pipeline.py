"""One training run from its arguments to a published model: cases, split, fit, calibration, measures, card."""

from __future__ import annotations

import argparse
import logging
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from core.errors import InvalidInput
from core.evaluation.metrics import evaluate_binary
from core.models.architectures import Graph
from core.models.calibration import fit_calibration
from core.models.weights import load_state, state_of, to_float16
from core.types import Modality
from train import pretrained
from train.config import FitConfig
from train.data import Manifest, read_manifest
from train.distil import distil_resnet50v2, start_resnet50v2_from
from train.fit import fit, logits_of
from train.measure import choose_threshold, pointing_game, scores_table
from train.network import compiled
from train.publish import Candidate, publish
from train.recipes import recipe
from train.split import split_cases
from train.squares import Squares, load_squares

log = logging.getLogger(__name__)

SPLITS = ("train", "validation", "test")
WEAK_AUC = 0.75
"""A model whose AUC may be lower than this says on its card that it is weak."""


def train_model(args: argparse.Namespace, folder: str | Path) -> Path:
    """Run what `python -m train fit` was asked for; returns the card's path. `folder` is for working files."""
    manifest = read_manifest(args.data, root=args.root, where=args.where)
    config = recipe(args.architecture, args.modality, args.init, args.seed)
    config = replace(config, epochs=args.epochs or config.epochs, side=args.side or config.side)
    cases, classes, positive = _labelled(manifest, args.modality, args.positive)
    cases = _split(cases, args.seed)
    squares = load_squares(
        cases, manifest.root, modality=args.modality, side=config.side, classes=classes, positive=positive
    )
    log.info("%s", pd.crosstab(cases["split"], cases["label"]).to_string())
    fitted = fit(config, squares, start=_start(config, args.backbone), folder=Path(folder))
    # What is measured is what is stored: the float16 values, back in the graph.
    load_state(fitted.graph.model, to_float16(state_of(fitted.graph.model)))
    forward = compiled(fitted.graph.model)
    validation, test = squares.split("validation"), squares.split("test")
    validation_logits, test_logits = logits_of(forward, validation.pixels), logits_of(forward, test.pixels)
    calibration = fit_calibration(validation_logits, validation.labels, validation.cases["patient_key"].tolist())
    validation_scores = scores_table(validation, validation_logits, calibration)
    threshold = choose_threshold(validation.labels == validation.positive, validation_scores[positive].to_numpy())
    test_scores = scores_table(test, test_logits, calibration)
    candidate = Candidate(
        model_id=args.name or f"{args.modality.value}-{args.architecture}",
        config=config,
        classes=classes,
        positive=positive,
        data=_data_of(manifest, cases),
        started_from=fitted.started_from,
        history=fitted.history,
        best_epoch=fitted.best_epoch,
        calibration=calibration,
        threshold=threshold,
        validation_n=len(validation),
        localisation=_localisation(fitted.graph, validation),
        limits=(*_limits(squares, args.modality), *_weakness(test_scores, positive), *args.limit),
        test_scores=test_scores,
        validation_scores=validation_scores,
    )
    return publish(candidate, state_of(fitted.graph.model), args.out)


def _labelled(
    manifest: Manifest, modality: Modality, positive: str | None
) -> tuple[pd.DataFrame, tuple[str, ...], str]:
    cases = manifest.cases.copy()
    labels = sorted(cases["label"].unique())
    if positive is None:
        positive = next((name for name in ("malignant", "idc") if name in labels), None)
    if positive is None or positive not in labels:
        raise InvalidInput(f"Say with --positive which label counts as positive. Labels: {', '.join(labels)}.")
    if len(labels) < 2:
        raise InvalidInput(f"Training needs at least two classes; the manifest has only {labels[0]}.")
    if modality is Modality.MAMMOGRAPHY and len(labels) > 2:
        # The question of a mammogram is "malignant or not": normal and benign are one answer.
        cases["label"] = np.where(cases["label"] == positive, positive, f"not_{positive}")
        labels = sorted(cases["label"].unique())
    if len(labels) == 2:  # one logit speaks for the second class
        labels = [next(name for name in labels if name != positive), positive]
    return cases, tuple(labels), positive


def _split(cases: pd.DataFrame, seed: int) -> pd.DataFrame:
    cases = cases.copy()
    key = next((name for name in ("group", "patient") if name in cases and (cases[name] != "").all()), "file")
    cases["patient_key"] = cases[key]
    if "split" in cases and cases["split"].isin(SPLITS).all():
        shared = cases.groupby("patient_key")["split"].nunique()
        if (shared > 1).any():
            raise InvalidInput(
                f"{int((shared > 1).sum())} patients or groups are in more than one split. Split by patient: leave the "
                "split column out and training makes one."
            )
    else:
        cases["split"] = split_cases(cases, seed=seed)
    missing = [name for name in SPLITS if (cases["split"] == name).sum() == 0]
    if missing:
        raise InvalidInput(f"There is no case in: {', '.join(missing)}. More patients are needed.")
    for name in SPLITS[:2]:
        lacking = set(cases["label"]) - set(cases.loc[cases["split"] == name, "label"])
        if lacking:
            raise InvalidInput(f"The {name} split has no case of: {', '.join(sorted(lacking))}.")
    return cases.reset_index(drop=True)


def _start(config: FitConfig, backbone: Path | None) -> Callable[[Graph], str]:
    def start(graph: Graph) -> str:
        if config.init == "imagenet":
            return pretrained.start_from_imagenet(graph.model, config.architecture)
        if config.init == "offline" and config.architecture == "efficientnet_lite0":
            return pretrained.start_from_efficientnet_lite0(graph.model)
        if config.init == "offline" and config.architecture == "fusion":
            vgg = pretrained.start_vgg16_from_hed(graph.model)
            if backbone is None:
                return f"{vgg}; ResNet50V2 random"
            return f"{vgg}; {start_resnet50v2_from(graph.model, backbone)}"
        return "random"

    return start


def _data_of(manifest: Manifest, cases: pd.DataFrame) -> dict[str, Any]:
    counts = {
        split: {label: int(n) for label, n in cases.loc[cases["split"] == split, "label"].value_counts().items()}
        for split in SPLITS
    }
    sources = sorted(set(cases["source"])) if "source" in cases else []
    licences = sorted(set(cases["licence"])) if "licence" in cases else []
    return {
        "name": ", ".join(sources) or "unnamed",
        "sha256": manifest.sha256,
        "n": len(cases),
        "splits": counts,
        "patients": int(cases["patient_key"].nunique()),
        "split_by": "group of near-duplicates" if "group" in cases else "patient" if "patient" in cases else "file",
        "left_out": {key: int(value) for key, value in manifest.left_out.items() if value},
        "licence": "; ".join(licences),
    }


def _localisation(graph: Graph, validation: Squares) -> dict[str, Any]:
    entries = {}
    for name, only_positive in (("positive class, positive cases", True), ("own class, all lesions", False)):
        result = pointing_game(graph, validation, only_positive=only_positive)
        if result.n:
            entries[name] = {"n": result.n, "pointing_game": result.hits, "image_centre": result.centre}
    return entries


def _limits(squares: Squares, modality: Modality) -> tuple[str, ...]:
    test, train = squares.split("test"), squares.split("train")
    n_positive = int((test.labels == test.positive).sum())
    limits = [
        f"Measured on {len(test)} test cases ({n_positive} {test.classes[test.positive]}) of the same collection; "
        "other scanners and hospitals may differ.",
        f"Trained on {len(train)} cases of a public collection, not on a screening population.",
    ]
    if len(squares) < 300:
        limits.append("Demonstration: the collection is too small for a claim.")
    if modality is Modality.ULTRASOUND:
        limits.append(
            "Doppler colour, callipers and text in the picture may mislead it; it was not trained to see past them."
        )
    if modality is Modality.MAMMOGRAPHY:
        limits.append("Single views; it does not compare breasts, views or earlier studies.")
    return tuple(limits)


def _weakness(test_scores: pd.DataFrame, positive: str) -> tuple[str, ...]:
    labels = (test_scores["label"] == positive).to_numpy().astype(int)
    area = evaluate_binary(labels, test_scores[positive].to_numpy(), patients=test_scores["patient"].to_numpy())["auc"]
    if area.low >= WEAK_AUC:
        return ()
    return (f"Weak: the interval of its AUC on the test cases reaches below {WEAK_AUC:g}. Do not lean on it.",)


def distil(args: argparse.Namespace) -> None:
    """Run what `python -m train distil` was asked for: grey squares of the manifests' training cases, labels unused.

    Validation and test cases (under the same seed as `fit`) are left out.
    """
    parts = []
    for path in args.data:
        manifest = read_manifest(path, root=args.root, where=args.where)
        cases = _split(manifest.cases, args.seed)
        cases = cases[cases["split"] == "train"].assign(label="any", mask="")
        root = manifest.root
        squares = load_squares(cases, root, modality=args.modality, side=args.side, classes=("", "any"), positive="any")
        grey = squares.pixels.astype(np.float32).mean(axis=3, keepdims=True)
        parts.append(grey.astype(np.float16))
    pixels = np.concatenate(parts)
    log.info("%d images", len(pixels))
    distil_resnet50v2(pixels, args.out, steps=args.steps, seed=args.seed)
