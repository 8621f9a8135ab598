"""Model cards: what a fitted model is, what it was made from and what was measured. Loads no TensorFlow.

A model is a folder `<model_id>/` with `card.json`, the weights' shards and `<sha8>.test_scores.csv`: shipped in
`weights/`, or released by an administrator (`core.models.live`). Every number shown of a model's quality is computed
from that table here and nowhere typed in.

Whether a model's numbers come from a split that leaks: the card says so for ever, and whatever shows them asks here.

Loads no TensorFlow.
"""

from __future__ import annotations

import json
import logging
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace
from functools import lru_cache
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from core.errors import ModelUnavailable
from core.evaluation.statistics.metrics import evaluate_binary, evaluate_classes
from core.models.calibration import Calibration
from core.models.live import read_live, release_dir
from core.settings import Settings
from core.types import Estimate, Modality

log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class Card:
    """One fitted model.

    classes: in the order of the probabilities. positive: the class that counts as positive, reported as malignant.
    side, channels: the square the graph reads. threshold: on the calibrated probability of `positive`.
    raw: all of card.json. folder: where the weights and the test scores lie.
    """

    model_id: str
    title: str
    architecture: str
    modality: Modality
    classes: tuple[str, ...]
    positive: str
    side: int
    channels: int
    weights_sha256: str
    weights_files: tuple[str, ...]
    calibration: Calibration
    threshold: float
    raw: Mapping[str, Any]
    folder: Path

    @property
    def positive_index(self) -> int:
        return self.classes.index(self.positive)

    @property
    def has_weights(self) -> bool:
        """Whether the weights' files are here; a card may be shipped without them. An ensemble has its members'."""
        if self.raw.get("members"):
            try:
                return all(member.has_weights for member in members_of(self))
            except ModelUnavailable:
                return False
        return bool(self.weights_files) and all((self.folder / name).is_file() for name in self.weights_files)


def read_card(folder: Path) -> Card:
    """The card in a model's folder; `ModelUnavailable` says what is wrong with it."""
    try:
        raw = json.loads((folder / "card.json").read_text(encoding="utf-8"))
        calibration = raw["calibration"]
        card = Card(
            model_id=raw["model_id"],
            title=raw["title"],
            architecture=raw["architecture"],
            modality=Modality(raw["modality"]),
            classes=tuple(raw["classes"]),
            positive=raw["positive"],
            side=int(raw["input"]["side"]),
            channels=int(raw["input"]["channels"]),
            weights_sha256=raw["weights"]["sha256"],
            weights_files=tuple(raw["weights"]["files"]),
            calibration=Calibration(
                float(calibration["slope"]),
                tuple(calibration["biases"]),
                tuple(tuple(sample) for sample in calibration["samples"]),
            ),
            threshold=float(raw["threshold"]["value"]),
            raw=raw,
            folder=folder,
        )
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise ModelUnavailable(
            f"The card of the model in {folder.name} cannot be read ({type(error).__name__})."
        ) from error
    if card.model_id != folder.name or card.positive not in card.classes:
        raise ModelUnavailable(f"The card in {folder.name} describes another model or lacks its positive class.")
    return card


def members_of(card: Card) -> tuple[Card, ...]:
    """The models that an ensemble combines; `ModelUnavailable` where one is gone or has other weights by now."""
    found = []
    for named in card.raw.get("members", ()):
        member = read_card(card.folder.parent / Path(named["model_id"]).name)
        if member.weights_sha256 != named["weights_sha256"] or member.raw.get("members"):
            raise ModelUnavailable(
                f"{member.model_id} has other weights than {card.model_id} was made from. Make it anew."
            )
        found.append(member)
    return tuple(found)


def shipped_cards(weights_dir: Path) -> tuple[Card, ...]:
    """Every readable card of a weights folder, by modality and then by id; an unreadable one is logged, left out."""
    return _in_order(_readable(weights_dir.glob("*/card.json")))


def all_cards(settings: Settings) -> tuple[Card, ...]:
    """The models as an administrator left them: the shipped ones with released ones in their place, no retired ones.

    Raises ModelUnavailable where it cannot be told what is live.
    """
    cards = {card.model_id: card for card in shipped_cards(settings.weights_dir)}
    for model_id, weights_sha256 in read_live(settings).chosen.items():
        if weights_sha256 is None:
            cards.pop(model_id, None)
        elif model_id not in cards or cards[model_id].weights_sha256 != weights_sha256:
            cards.pop(model_id, None)  # never other weights than those that were chosen
            cards |= {card.model_id: card for card in _released(settings, model_id, weights_sha256)}
    return _in_order(cards.values())


def candidate_cards(settings: Settings) -> tuple[Card, ...]:
    """What trainings of this site made and nobody has released; each named after its training, to be compared."""
    released = {card.weights_sha256 for card in all_cards(settings)}
    found = _readable((settings.state_dir / "candidates").glob("*/*/card.json"))
    return tuple(
        replace(card, model_id=f"{card.model_id} (training {card.folder.parent.name})")
        for card in _in_order(found)
        if card.weights_sha256 not in released
    )


def known_cards(settings: Settings) -> tuple[Card, ...]:
    """Every card that may have answered: the live ones, then earlier and retired ones. For what was read before."""
    live = all_cards(settings)
    earlier = (
        *shipped_cards(settings.weights_dir),
        *_readable((settings.state_dir / "releases").glob("*/*/card.json")),
    )
    seen = {card.weights_sha256 for card in live}
    return (
        *live,
        *_in_order({card.weights_sha256: card for card in earlier if card.weights_sha256 not in seen}.values()),
    )


def live_cards(settings: Settings) -> tuple[Card, ...]:
    """The models that answer now: those whose weights are here; an ensemble only with the members it was made from."""
    cards = all_cards(settings)
    answering = {(card.model_id, card.weights_sha256) for card in cards if card.has_weights}
    return tuple(
        card
        for card in cards
        if card.has_weights
        and all((named["model_id"], named["weights_sha256"]) in answering for named in card.raw.get("members", ()))
    )


def shadow_cards(settings: Settings) -> tuple[Card, ...]:
    """The models that read new images beside the live ones and are shown to nobody who reads."""
    shadows = read_live(settings).shadows
    found = [card for model_id, sha256 in shadows.items() for card in _released(settings, model_id, sha256)]
    return tuple(card for card in found if card.has_weights)


def live_card(settings: Settings, model_id: str) -> Card:
    """The live model of that id, or a refusal that names the live ones."""
    cards = live_cards(settings)
    for card in cards:
        if card.model_id == model_id:
            return card
    known = ", ".join(card.model_id for card in cards) or "none"
    raise ModelUnavailable(f"There is no live model {model_id!r}. Live models: {known}.")


def read_test_scores(card: Card) -> pd.DataFrame | None:
    """One row a test case: case, patient, label, then a calibrated probability a class; None if the file is absent.

    With folds there is a column `fold` (from 0), and every case has the score of the network that did not train on it.
    """
    path = card.folder / f"{card.weights_sha256[:8]}.test_scores.csv"
    return pd.read_csv(path, dtype={"case": str, "patient": str, "label": str}) if path.is_file() else None


def case_thresholds(card: Card, scores: pd.DataFrame) -> float | np.ndarray:
    """The threshold each case of `scores` is judged at: the card's, or (n,) its own fold's.

    Where a card was measured in folds, a fold's threshold was fixed on that fold's validation cases.
    """
    folds = card.raw.get("folds")
    if not folds or "fold" not in scores:
        return card.threshold
    return np.asarray(folds["thresholds"], np.float64)[scores["fold"].to_numpy(int)]


def retrain_text(card: Card) -> str:
    """What to tell of a model whose weights are not shipped."""
    training = card.raw.get("training", {})
    if "command" not in training:
        return "Trained and measured; its weights are not here, so it answers nothing."
    minutes = max(1, round(float(training.get("minutes", 0))))
    duration = "about a minute" if minutes == 1 else f"about {minutes} minutes"
    return f"Trained and measured; weights not shipped: retrain in {duration} with `{training['command']}`."


def headline(card: Card) -> dict[str, Estimate]:
    """The card's measured numbers, computed from its test scores; empty where there are none.

    Keys are those of `core.evaluation.statistics.metrics`: of the positive class against the rest, and for three
    classes or more also those over all classes.
    """
    return dict(_headline(card.folder, card.weights_sha256))


@lru_cache(maxsize=64)
def _headline(folder: Path, weights_sha256: str) -> tuple[tuple[str, Estimate], ...]:
    card = read_card(folder)
    scores = read_test_scores(card)
    if scores is None or card.weights_sha256 != weights_sha256:
        return ()
    patients = scores["patient"].to_numpy()
    labels = (scores["label"] == card.positive).to_numpy().astype(int)
    estimates = evaluate_binary(
        labels, scores[card.positive].to_numpy(), patients=patients, threshold=case_thresholds(card, scores)
    )
    if len(card.classes) > 2:
        index = scores["label"].map({name: number for number, name in enumerate(card.classes)}).to_numpy()
        probabilities = scores[list(card.classes)].to_numpy()
        estimates = {**evaluate_classes(index, probabilities, card.classes, patients=patients), **estimates}
    return tuple(estimates.items())


def _released(settings: Settings, model_id: str, weights_sha256: str) -> list[Card]:
    path = release_dir(settings, model_id, weights_sha256) / "card.json"
    return [card for card in _readable([path]) if card.weights_sha256 == weights_sha256]


def _readable(paths: Iterable[Path]) -> list[Card]:
    cards = []
    for path in sorted(paths):
        try:
            cards.append(read_card(path.parent))
        except ModelUnavailable as error:
            log.error("%s", error)
    return cards


def _in_order(cards: Iterable[Card]) -> tuple[Card, ...]:
    return tuple(sorted(cards, key=lambda card: (card.modality, _rank(card), card.model_id)))


def _rank(card: Card) -> int:
    # The fusion model is the product's own; the others are there to be compared with it.
    return 0 if card.architecture == "fusion" else 1


LEAKING = "leaking split"
"""What stands, in red, beside every number of such a model."""


def leak_text(leak: str) -> str:
    """What a reader is told of one leak, wherever a probability of such a model stands."""
    return f"{LEAKING[0].upper()}{LEAKING[1:]}: {leak} It has not been tested on patients it never saw."


def leaks_of(card: Card) -> tuple[str, ...]:
    """Why this model's numbers are too good, one sentence each; () where no leak is known.

    What the audit found before the training is on the card. A card that says that single images were split, where a
    patient has several test cases, tells of a leak as well.
    """
    data = card.raw.get("data", {})
    found = [str(leak.get("sentence", "")) for leak in data.get("leaks", ())]
    split_by = str(data.get("split_by", "")).strip().lower().split(",")[0]
    if not found and split_by in ("image", "images", "case", "file"):
        scores = read_test_scores(card)
        if scores is not None and scores["patient"].duplicated().any():
            found.append("It was split by single images: pictures of one patient may lie on both sides.")
    return tuple(found)
