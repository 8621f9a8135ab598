"""What others have published of the networks that are here, to be shown beside our own figures.

The figures stand in `published.json` beside this file. Loads no TensorFlow.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path

_FILE = Path(__file__).with_name("published.json")


@dataclass(frozen=True, slots=True)
class PublishedFigure:
    """One published result.

    architectures: ids it is of. modality: of its data, "" where that is not said. data: in words. measures: named as
    `core.evaluation.statistics.metrics` names them; empty where no number was published, and then `words` says what
    was. reason: why another figure is to be expected here, as part of a sentence.
    """

    architectures: tuple[str, ...]
    modality: str
    data: str
    measures: Mapping[str, float]
    words: str
    reason: str


@dataclass(frozen=True, slots=True)
class Ceiling:
    """How good believable figures on a collection are, and what rather points to a leak ("" where unknown).

    modality: where it is the collection that a modality's models here are most like, else "".
    """

    data: str
    modality: str
    believable: str
    leakage: str


def figures_of(architecture: str, modality: str) -> tuple[PublishedFigure, ...]:
    """The published figures of an architecture, those of the modality first; on other modalities only if there are
    none."""
    own = [figure for figure in published_figures() if architecture in figure.architectures]
    same = [figure for figure in own if figure.modality in (modality, "")]
    return tuple(same or own)


@lru_cache(maxsize=1)
def published_figures() -> tuple[PublishedFigure, ...]:
    """All of them, in the order of the file."""
    return tuple(
        PublishedFigure(
            tuple(entry["architectures"]),
            entry["modality"],
            entry["data"],
            {name: float(value) for name, value in entry["measures"].items()},
            entry.get("words", ""),
            entry["reason"],
        )
        for entry in _content()["figures"]
    )


def ceilings() -> tuple[Ceiling, ...]:
    """What to judge any figure by, ours too."""
    return tuple(
        Ceiling(entry["data"], entry.get("modality", ""), entry["believable"], entry["leakage"])
        for entry in _content()["ceilings"]
    )


def without_counterpart() -> tuple[tuple[str, str], ...]:
    """Published figures that no model here stands against: what they are, and why not."""
    return tuple((entry["what"], entry["words"]) for entry in _content()["without_counterpart"])


def _content() -> dict[str, list[dict]]:  # type: ignore[type-arg]
    return json.loads(_FILE.read_text(encoding="utf-8"))  # type: ignore[no-any-return]
