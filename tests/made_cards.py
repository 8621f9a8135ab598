"""Cards that no training made."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from core.models.cards import Card


def made_card(folder: Path, **keys: Any) -> Card:
    """A card of two classes with whatever a test needs to be otherwise; nothing is written."""
    return Card.model_validate(card_content(**keys) | {"folder": folder})


def card_content(**keys: Any) -> dict[str, Any]:
    """The least that `card.json` must hold, and `keys`."""
    return {
        "model_id": "model",
        "title": "Model",
        "architecture": "cnn",
        "modality": "ultrasound",
        "classes": ["benign", "malignant"],
        "positive": "malignant",
        "weights": {"sha256": "e" * 64, "files": []},
        "input": {"side": 32, "channels": 1},
        "calibration": {"slope": 1.0, "biases": [0.0, 0.0], "samples": []},
        "threshold": {"value": 0.5, "rule": "a rule"},
    } | keys


def changed(card: Card, **keys: Any) -> Card:
    """The card with other values under these keys, in the form of `card.json`."""
    return Card.model_validate(card.content() | {"folder": card.folder} | keys)
