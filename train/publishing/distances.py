"""The distance from the training images (`core.models.training_distance`) of models that are published already.

Fitted again from their data, and measured on what it is for: pictures of other collections, of another kind, and the
model's own test pictures spoilt in ways that happen. All of it goes the way of a read.
"""

from __future__ import annotations

import logging
from collections.abc import Iterator, Mapping
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import pandas as pd
from sklearn.metrics import roc_auc_score

from core.errors import InvalidInput, NotFound
from core.models.cards import Card, UnlikeOnCard, read_card, read_test_scores
from core.models.loaded import load_model
from core.settings import Settings
from core.types import Image
from train.datasets.leakage import find_manifest
from train.datasets.look import collections_below
from train.datasets.manifest import Manifest
from train.fitting.squares import load_squares, read_case
from train.publishing.backfill import same_cases
from train.publishing.evaluate import graph_of
from train.publishing.pipeline import fitted_distance
from train.publishing.publish import put_training_distance, write_card

if TYPE_CHECKING:
    from core.models.inference import Reader

log = logging.getLogger(__name__)

MOST = 60
"""Pictures of each kind that are measured."""
BLIND, BLIND_BELOW = "It misses many pictures unlike its own", 0.9
"""How the limit begins of a model whose mean AUROC for pictures of another kind is lower than this."""
_CUT, _GRAIN = 0.5, 0.2
"""Of each edge, what a crop leaves; standard deviation of added noise, of the range of grey."""


def measure_distance(folder: Path, data: Path) -> Mapping[str, UnlikeOnCard]:
    """Fit the distance of a published network, measure it and put both beside its weights and on its card.

    data: holds the manifests, itself or in folders below. Raises NotFound where the model's own is not there,
    InvalidInput for an ensemble (it has its members'), a model without weights, or one of too few training images.
    """
    card = read_card(folder)
    if card.members or not card.has_weights:
        raise InvalidInput(f"{card.model_id} has no weights of its own, so there is no distance to measure.")
    settings = replace(Settings.from_environment(), data_root=str(data.resolve()))
    manifest = find_manifest(settings, card.data.sha256, card.data.name.split(", "))
    if manifest is None:
        raise NotFound(f"The cases of {card.model_id} ({card.data.name}) were not found below --data.")
    put = _fitted(card, manifest)
    write_card(folder, {**card.content(), "training_distance": put})
    measured, own_beyond = _measured(read_card(folder), manifest, data)
    told = {name: one.model_dump() for name, one in measured.items()}
    write_card(
        folder,
        {
            **card.content(),
            "training_distance": {**put, "own_beyond": own_beyond, "measured": told},
            "limits": [*(limit for limit in card.limits if not limit.startswith(BLIND)), *blindness(card, measured)],
        },
    )
    return measured


def blindness(card: Card, measured: Mapping[str, UnlikeOnCard]) -> tuple[str, ...]:
    """The limit of a model that does not tell pictures of another kind from its own; () for the others."""
    kinds = [one.auroc for name, one in measured.items() if not name.startswith((f"{card.modality.value}:", "its own"))]
    if not kinds or np.mean(kinds) >= BLIND_BELOW:
        return ()
    return (f"{BLIND} (AUROC {np.mean(kinds):.2f} for pictures of another kind): that it does not warn means little.",)


def _fitted(card: Card, manifest: Manifest) -> dict[str, object]:
    cases = same_cases(card, manifest)
    if "split" not in cases:
        cases = cases.assign(split="", fold=cases["fold"].astype(int))
    # Labels do not matter, and need not be the model's classes.
    squares = load_squares(
        cases.assign(label=card.positive, mask=""), manifest.root,
        modality=card.modality, side=card.side, classes=card.classes, positive=card.positive,
        columns=card.input.columns, chest_wall=card.input.chest_wall, channels=card.channels,
    )  # fmt: skip
    found = fitted_distance(graph_of(card), squares)
    if found is None:
        raise InvalidInput(f"{card.model_id} has too few training images to tell how far another lies from them.")
    return put_training_distance(card.folder, card.weights_sha256, found)


def _measured(card: Card, manifest: Manifest, data: Path) -> tuple[dict[str, UnlikeOnCard], float]:
    model, rng = load_model(card), np.random.default_rng(0)
    files = _some(rng, own_cases(card))
    own_images = [read_case(manifest.root / file, card.modality) for file in files]
    own = _distances(model, own_images)
    found = {}
    for name, images in (*_spoilt(rng, own_images), *_others(rng, card, data, set(manifest.cases["file"]))):
        values = _distances(model, images)
        labels = np.repeat([0, 1], [len(own), len(values)])
        found[name] = UnlikeOnCard(
            auroc=round(float(roc_auc_score(labels, np.concatenate([own, values]))), 4),
            beyond=round(float((values > 1).mean()), 4),
            n=len(values),
        )
        log.info("%s: %s: AUROC %.3f, %.0f %% of %d beyond the level",
                 card.model_id, name, found[name].auroc, 100 * found[name].beyond, len(values))  # fmt: skip
    return found, round(float((own > 1).mean()), 4)


def own_cases(card: Card) -> pd.Series:
    """A published model's own cases that the distance is measured on: its test cases.

    In folds those of the first alone: they gave the level, and the distance was fitted on all the others.
    """
    scores = read_test_scores(card)
    assert scores is not None
    return scores["case"] if "fold" not in scores else scores.loc[scores["fold"] == 0, "case"]


def _distances(model: Reader, images: list[Image]) -> np.ndarray:
    answers = (model.read(replace(image, modality=model.card.modality, not_scored="")) for image in images)
    return np.asarray([prediction.training_distance for prediction, _ in answers], np.float64)


def _spoilt(rng: np.random.Generator, images: list[Image]) -> Iterator[tuple[str, list[Image]]]:
    yield "its own, inverted", [replace(one, pixels=1 - one.pixels) for one in images]
    yield "its own, a quarter cut out", [_cut(rng, one) for one in images]
    yield (
        "its own, with noise",
        [
            replace(one, pixels=np.clip(one.pixels + rng.normal(0, _GRAIN, one.pixels.shape), 0, 1).astype(np.float32))
            for one in images
        ],
    )


def _cut(rng: np.random.Generator, image: Image) -> Image:
    height, width = (max(8, int(_CUT * side)) for side in image.pixels.shape[:2])
    top, left = rng.integers(0, image.height - height + 1), rng.integers(0, image.width - width + 1)
    return replace(image, pixels=image.pixels[top : top + height, left : left + width])


def _others(rng: np.random.Generator, card: Card, data: Path, own: set[str]) -> Iterator[tuple[str, list[Image]]]:
    """Every collection below `data` that the model was not made from, and its own modality's before the others."""
    found = sorted(collections_below(data), key=lambda one: (one.modality is not card.modality, one.name))
    for collection in found:
        files = [file for file in sorted(collection.groups) if file.is_file()]
        if files and not any(file.relative_to(data).as_posix() in own for file in files):
            images = [read_case(file, collection.modality) for file in _some(rng, pd.Series(files, dtype=object))]
            yield f"{collection.modality.value}: {collection.name}", images


def _some(rng: np.random.Generator, values: pd.Series) -> list:  # type: ignore[type-arg]
    chosen = rng.permutation(len(values))[:MOST]
    return [values.iloc[index] for index in sorted(chosen)]
