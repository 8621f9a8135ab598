"""Whether a model's numbers come from a split that leaks: the card says so for ever, and whatever shows them asks here.

Loads no TensorFlow.
"""

from __future__ import annotations

from core.models.cards import Card, read_test_scores

LEAKING = "leaking split"
"""What stands, in red, beside every number of such a model."""


def leak_words(leak: str) -> str:
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
