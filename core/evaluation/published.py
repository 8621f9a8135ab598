"""What others have published of the networks that are here, to be shown beside our own figures.

The figures stand in `published.json` beside this file. Loads no TensorFlow.
"""

from __future__ import annotations

from collections.abc import Mapping
from functools import lru_cache
from pathlib import Path

from pydantic import BaseModel, ConfigDict

_FILE = Path(__file__).with_name("published.json")


class _Entry(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")


class PublishedFigure(_Entry):
    """One published result.

    architectures: ids it is of. modality: of its data, "" where that is not said. data: in words. measures: named as
    `core.evaluation.statistics.metrics` names them; empty where no number was published, and then `words` says what
    was. source: authors, year and DOI or address; "" where none is recorded. reason: why another figure is to be
    expected here, as part of a sentence.
    """

    architectures: tuple[str, ...]
    modality: str
    data: str
    measures: Mapping[str, float]
    words: str = ""
    source: str = ""
    reason: str


class Ceiling(_Entry):
    """How good believable figures on a collection are, and what rather points to a leak ("" where unknown).

    modality: where it is the collection that a modality's models here are most like, else "". source: who published
    the collection, with year and DOI.
    """

    data: str
    modality: str = ""
    believable: str
    leakage: str
    source: str = ""


class OtherFigure(_Entry):
    """A published figure that no model here stands against: what it is, and why not."""

    what: str
    words: str
    source: str = ""


class Published(_Entry):
    """Everything in `published.json`, in the order of the file. ceilings: what to judge any figure by, ours too."""

    figures: tuple[PublishedFigure, ...]
    ceilings: tuple[Ceiling, ...]
    without_counterpart: tuple[OtherFigure, ...]


@lru_cache(maxsize=1)
def published() -> Published:
    """The file, read once."""
    return Published.model_validate_json(_FILE.read_bytes())


def figures_of(architecture: str, modality: str) -> tuple[PublishedFigure, ...]:
    """The published figures of an architecture, those of the modality first; on other modalities only if there are
    none."""
    own = tuple(figure for figure in published().figures if architecture in figure.architectures)
    return tuple(figure for figure in own if figure.modality in (modality, "")) or own
