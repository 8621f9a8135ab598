"""An answer is against the threshold, and under the name, of the card that it was asked by."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
from record_site import answer, explanation

from core.models.cards import Card, read_card
from core.models.prepared import Prepared
from core.serving import inference
from core.serving.desk import Urgency
from core.serving.inference import AtDesk, Computing, Here, Inside
from core.settings import REPOSITORY
from core.types import Image, Modality

IMAGE = Image(np.zeros((300, 400), np.float32), "0" * 64, Modality.ULTRASOUND)


@pytest.fixture
def card(monkeypatch: pytest.MonkeyPatch) -> Card:
    """A network of these weights is in memory, with the card that it was loaded by."""
    found = read_card(REPOSITORY / "weights" / "ultrasound-cnn")

    def said(*_: object) -> tuple[Any, Any]:
        return answer(IMAGE, malignant=0.4), explanation()

    def several(_: object, batch: list[Prepared], __: object) -> list[Any]:
        return [said() for _ in batch]

    monkeypatch.setattr(inference, "load_model", lambda card: SimpleNamespace(read=said))
    monkeypatch.setattr(inference, "compute", several)
    return found


def amended(card: Card) -> Card:
    threshold = card.threshold.model_copy(update={"value": 0.39})
    return card.model_copy(update={"threshold": threshold, "model_id": "renamed"})


def asked(one: AtDesk | Here, card: Card) -> tuple[str, float]:
    prediction, _ = one.read(card, IMAGE, Urgency.READER, lambda place: None)
    return prediction.model_id, prediction.threshold


def test_a_threshold_that_was_amended_counts_also_for_an_answer_that_is_there(card: Card) -> None:
    computing = Computing()
    computing.start()
    try:
        for one in (Here(), Inside(computing)):
            assert asked(one, card) == (card.model_id, card.threshold.value)
            assert asked(one, amended(card)) == ("renamed", 0.39)
    finally:
        computing.end()
