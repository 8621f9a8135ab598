"""From a fitted graph to a model a site can use: weights, test scores and, last, the card that switches to them.

The table of a model's cases (`core.models.card_cases`): made while it is trained, or afterwards from its data.

Loads no TensorFlow.
"""

from __future__ import annotations

import hashlib
import json
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from core.files import lock_of, write_whole
from core.imaging.near_duplicates import long_hash
from core.imaging.picture import to_grey
from core.models.calibration import Calibration
from core.models.card_cases import COLUMNS, cases_csv, cases_name, named_on_card
from core.models.cards import CardFile, LocalisationOnCard, thresholds_of
from core.models.registry import Architecture, architecture
from core.models.training_distance import TrainingDistance, distance_name, to_bytes
from core.models.weights import to_float16, write_shards
from core.types import Image, Modality
from core.version import versions
from train.publishing.threshold import fold_areas, measured_on_card, promise_on_card, threshold_interval
from train.recipe.recipes import FitConfig

_KNOWS = {"test": 0, "validation": 1, "train": 2}
"""How much a model knows of a case; what was in folds was trained on in the end."""

LOCK = ".publishing.lock"
"""Beside the folders of the models, which whoever publishes into one cleans."""


def trace_of(image: Image) -> dict[str, Any]:
    """What is kept of one picture; see `COLUMNS`. Its file's bytes are already hashed in `image.sha256`."""
    return {
        "sha256": image.sha256,
        "pixels_sha256": pixels_sha256(image.pixels),
        "perceptual_hash": long_hash(to_grey(image.pixels)),
        "width": image.width,
        "height": image.height,
        "brightness": round(float(image.pixels.mean()), 6),
    }


def pixels_sha256(pixels: np.ndarray) -> str:
    """Of what a picture shows, in steps of 1/65535: the same for a PNG, its copy without text and a 16-bit one.

    pixels: float32 [0, 1], (H, W) or (H, W, 3).
    """
    digest = hashlib.sha256(str(pixels.shape).encode())
    digest.update(np.round(pixels * 65535).astype("<u2").tobytes())
    return digest.hexdigest()


def cases_table(cases: pd.DataFrame, traces: Sequence[Mapping[str, Any]]) -> pd.DataFrame:
    """One row a case. cases: with `split`, or `fold`; traces: of the same cases, in the same order."""
    split = "fold " + cases["fold"].astype(str) if "fold" in cases else cases["split"]
    vendor = cases["manufacturer"] if "manufacturer" in cases else pd.Series("", index=cases.index)
    table = pd.DataFrame(list(traces)).assign(split=split.to_numpy(), vendor=vendor.to_numpy())
    return table[list(COLUMNS)]


def union(tables: Sequence[pd.DataFrame]) -> pd.DataFrame:
    """Every case of an ensemble's members once; where they differ, as the member that knows most of it had it."""
    again = [table.assign(again=table.groupby("sha256").cumcount()) for table in tables]  # a data set's own copies stay
    everything = pd.concat(again, ignore_index=True)
    knows = everything["split"].map(_KNOWS).fillna(max(_KNOWS.values()))
    order = knows.sort_values(ascending=False, kind="stable").index
    retained = everything.loc[order].drop_duplicates(["sha256", "again"]).index
    return everything.loc[sorted(retained), list(COLUMNS)].reset_index(drop=True)


PREPROCESSING = {
    "mammography": "cropped to the breast, scaled to the square, centred on black; intensities scaled in the graph",
    "ultrasound": "black margins cut, scaled to the square, centred on black; intensities scaled in the graph",
    "histology": "scaled to the square, centred on black; intensities scaled in the graph",
}

THRESHOLD_RULE = (
    "the highest that finds 86.9 % of the positive validation cases (BCSC sensitivity, Lehman 2017) on 97.5 % of "
    "bootstrap samples of their patients"
)
PLAIN_RULE = "the highest that finds 86.9 % of the positive validation cases (BCSC sensitivity, Lehman 2017)"
"""That of earlier cards, and still of the models in folds among them: what their folds chose on is not stored."""


@dataclass(frozen=True, slots=True)
class FittedDistance:
    """How far an image lies from the training images, and how many it was fitted on and its level comes from."""

    distance: TrainingDistance
    n_fitted: int
    n_level: int


@dataclass(frozen=True, slots=True)
class Candidate:
    """Everything a card says beside the weights; see `card_of`.

    cases: the table that lies beside the weights. folds: number, thresholds and best epochs of the folds that the test
    scores come from, None where there are none. branches: what each adds (`branch_on_card`). run: minutes (wall),
    command and reason, for `training`. distance: from the training images; None where the weights are not shipped.
    """

    model_id: str
    config: FitConfig
    classes: tuple[str, ...]
    positive: str
    data: Mapping[str, Any]
    started_from: str
    history: tuple[Mapping[str, float], ...]
    best_epoch: int
    calibration: Calibration
    threshold: float
    validation_n: int
    localisation: Mapping[str, LocalisationOnCard]
    limits: tuple[str, ...]
    test_scores: pd.DataFrame
    validation_scores: pd.DataFrame
    cases: pd.DataFrame
    folds: Mapping[str, Any] | None = None
    branches: Mapping[str, Mapping[str, float | int]] = field(default_factory=dict)
    run: Mapping[str, Any] = field(default_factory=dict)
    distance: FittedDistance | None = None


@contextmanager
def publishing(weights_dir: Path) -> Iterator[None]:
    """In the block no other process puts a model into this folder: each removes what is not of its own card."""
    weights_dir.mkdir(parents=True, exist_ok=True)
    with lock_of(weights_dir / LOCK, waits=True):
        yield


def publish(candidate: Candidate, state: Mapping[str, Any], weights_dir: Path, *, with_weights: bool = True) -> Path:
    """Write `weights_dir/<model_id>/`; returns the card's path. Without weights: the card and the scores only.

    The card is replaced last and in one step: until then the model that was there answers, after it the new one. The
    old weights' files are removed only after that. Of two that publish at once one waits.
    """
    with publishing(weights_dir):
        folder = weights_dir / candidate.model_id
        folder.mkdir(parents=True, exist_ok=True)
        if with_weights:
            sha256, files = write_shards(to_float16(dict(state)), folder)
        else:
            with tempfile.TemporaryDirectory() as elsewhere:  # the hash still names what was measured
                sha256, files = write_shards(to_float16(dict(state)), Path(elsewhere))[0], ()
        card = card_of(candidate, sha256, files, sum((folder / name).stat().st_size for name in files))
        if candidate.distance is not None:
            card["training_distance"] = put_training_distance(folder, sha256, candidate.distance)
        return place(folder, card, candidate.test_scores, candidate.validation_scores, candidate.cases)


def place(
    folder: Path,
    card: Mapping[str, Any],
    test_scores: pd.DataFrame,
    validation_scores: pd.DataFrame,
    cases: pd.DataFrame | None,
) -> Path:
    """Put scores, the table of cases (None where it is not known) and, last, the card into a model's folder.

    What belonged to the card before goes after that. The caller holds `publishing`.
    """
    short = card["weights"]["sha256"][:8]
    folder.mkdir(parents=True, exist_ok=True)
    put_test_scores(folder, card["weights"]["sha256"], test_scores)
    _write(folder / f"{short}.validation_scores.csv", validation_scores.to_csv(index=False))
    card = {**card, **judged(card, test_scores, validation_scores)}
    if cases is not None:
        card = {**card, "cases": put_cases(folder, card["weights"]["sha256"], cases)}
    write_card(folder, card)
    retained = {*card["weights"]["files"], card.get("training_distance", {}).get("file")}
    for old in folder.iterdir():
        stale = not old.name.startswith(short) or (old.suffix == ".safetensors" and old.name not in retained)
        if old.name != "card.json" and stale:
            old.unlink()
    return folder / "card.json"


def judged(
    card: Mapping[str, Any], test_scores: pd.DataFrame, validation_scores: pd.DataFrame | None
) -> dict[str, Any]:
    """What a card says that decides whether its model answers, computed from its scores; the keys to be replaced.

    Nothing where the test cases are all positive or all negative. validation_scores: None where they are not kept.
    """
    labels = test_scores["label"].astype(str) == card["positive"]
    if not labels.any() or labels.all():
        return {}
    positive, threshold = card["positive"], dict(card["threshold"])
    found: dict[str, Any] = {"measured": measured_on_card(test_scores, positive)}
    if card.get("folds") and "fold" in test_scores:
        found["folds"] = {**card["folds"], "areas": fold_areas(test_scores, positive)}
    if threshold.get("rule") not in (THRESHOLD_RULE, PLAIN_RULE):
        return found
    if validation_scores is not None:
        is_positive = (validation_scores["label"] == positive).to_numpy()
        threshold["low"], threshold["high"] = threshold_interval(
            is_positive, validation_scores[positive].to_numpy(), validation_scores["patient"].astype(str).to_numpy()
        )
        found["threshold"] = threshold
    own = thresholds_of(card.get("folds", {}).get("thresholds"), threshold["value"], test_scores)
    return {**found, "promise": promise_on_card(test_scores, positive, own)}


def put_test_scores(folder: Path, weights_sha256: str, scores: pd.DataFrame) -> None:
    """Write the scores of a model's test cases in one step."""
    _write(folder / f"{weights_sha256[:8]}.test_scores.csv", scores.to_csv(index=False))


def put_cases(folder: Path, weights_sha256: str, cases: pd.DataFrame) -> dict[str, str]:
    """Write the table of a model's cases; what its card is to say of it."""
    _write(folder / cases_name(weights_sha256), cases_csv(cases))
    return named_on_card(weights_sha256, cases)


def put_training_distance(folder: Path, weights_sha256: str, fitted: FittedDistance) -> dict[str, Any]:
    """Write what is kept of the training images' features; what the card is to say of it."""
    raw = to_bytes(fitted.distance)
    write_whole(folder / distance_name(weights_sha256), raw)
    return {
        "file": distance_name(weights_sha256),
        "sha256": hashlib.sha256(raw).hexdigest(),
        "n_fitted": fitted.n_fitted,
        "n_level": fitted.n_level,
    }


def write_card(folder: Path, card: Mapping[str, Any]) -> None:
    """Replace a folder's card in one step; a pydantic `ValidationError` for one that nobody could read again."""
    _write(folder / "card.json", json.dumps(CardFile.model_validate(card).content(), indent=1) + "\n")


def own_name(model_id: str, modality: str, architecture_id: str) -> str:
    """What tells a model of an architecture from others: that of `x-cnn-by-image` is "by image", of `x-cnn` ""."""
    usual = f"{modality}-{architecture_id}-"
    return model_id.removeprefix(usual).replace("-", " ").strip() if model_id.startswith(usual) else ""


def _title(entry: Architecture, model_id: str, modality: str) -> str:
    own = own_name(model_id, modality, entry.id)
    return f"{entry.title} ({own})" if own else entry.title


def card_of(candidate: Candidate, sha256: str, files: tuple[str, ...], size: int) -> dict[str, Any]:
    """The card as it is stored, without what `place` computes from the test scores."""
    config = candidate.config
    entry = architecture(config.architecture)
    return {
        "model_id": candidate.model_id,
        "title": _title(entry, candidate.model_id, config.modality),
        "architecture": config.architecture,
        "description": entry.description,
        "modality": config.modality,
        "created": datetime.now(UTC).date().isoformat(),
        "software": dict(versions()),
        "classes": list(candidate.classes),
        "positive": candidate.positive,
        "reported_as": "malignant",
        "weights": {
            "sha256": sha256,
            "files": list(files),
            "bytes": size,
            "storage": "safetensors, float16" if files else "not shipped",
        },
        "input": {
            "side": config.side,
            **({"columns": config.columns} if config.columns else {}),
            **({"chest_wall": config.chest_wall} if config.chest_wall else {}),
            "channels": entry.channels(Modality(config.modality)),
            "preprocessing": PREPROCESSING[config.modality]
            + ("; a second plane says the view" if entry.reads_view else ""),
        },
        "data": dict(candidate.data),
        "initialisation": candidate.started_from,
        "training": {
            **asdict(config),
            **candidate.run,
            "best_epoch": candidate.best_epoch,
            "history": [dict(row) for row in candidate.history],
        },
        **({"folds": dict(candidate.folds)} if candidate.folds else {}),
        "seeds": [config.seed],
        "calibration": calibration_on_card(
            candidate.calibration, len(candidate.classes), candidate.validation_n, in_folds=bool(candidate.folds)
        ),
        "threshold": {
            "value": candidate.threshold,
            "rule": THRESHOLD_RULE,
        },
        "localisation": {name: one.model_dump() for name, one in candidate.localisation.items()},
        **({"branches": {name: dict(one) for name, one in candidate.branches.items()}} if candidate.branches else {}),
        "limits": list(candidate.limits),
        "data_licence": candidate.data.get("licence", ""),
    }


def calibration_on_card(
    calibration: Calibration, n_classes: int, validation_n: int, *, in_folds: bool = False
) -> dict[str, Any]:
    """The calibration as a card holds it."""
    fitted_on = f"{validation_n} validation cases"
    return {
        "method": "bias-corrected temperature scaling" if n_classes > 2 else "Platt scaling",
        "fitted_on": f"{fitted_on}, each scored by a fold's network that was not trained on it"
        if in_folds
        else fitted_on,
        "slope": calibration.slope,
        "biases": list(calibration.biases),
        "samples": [list(sample) for sample in calibration.samples],
    }


def _write(path: Path, text: str) -> None:
    write_whole(path, text)
