"""How long a training will take on this machine, from what earlier ones took. Loads no TensorFlow."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

from core.models.cards import Card, all_cards
from core.models.outline_card import OutlineCard, shipped_outline_cards
from core.models.registry import OUTLINE
from core.records.data_sets import load_version
from core.records.database.db import Database
from core.records.people.permissions import Actor
from core.records.queue import DONE
from core.types import Modality
from train.queue import trainings
from train.recipe.outline import Request


@dataclass(frozen=True, slots=True)
class Measured:
    """One training that was timed. seconds: of an epoch (median). pixels: training cases times side squared.

    other_seconds: what it took besides its epochs (reading the cases, scoring, publishing); None where that is not
    known.
    """

    architecture: str
    modality: Modality
    init: str
    seconds: float
    pixels: float
    source: str
    other_seconds: float | None = None


@dataclass(frozen=True, slots=True)
class Duration:
    """minutes: at most, for all epochs of all runs, and for the rest where it is known. source: what it was taken from.

    is_whole: the time before and after the epochs is in it.
    """

    minutes: float
    source: str
    is_whole: bool


def estimate(db: Database, actor: Actor, request: Request, n_training: int) -> Duration | None:
    """From the newest job here of the same architecture and kind of image, else from such a card; None where nothing
    was timed.

    What a training takes besides its epochs is learnt from this site's jobs, from another architecture's where this one
    was never trained here. Time grows with cases and with the area of the square. Raises NotAllowed.
    """
    here = list(_of_jobs(db, actor))
    for timed in (*here, *_of_cards(db)):
        same = (timed.architecture, timed.modality, timed.init)
        if same != (request.architecture, request.modality, request.init) or not timed.pixels:
            continue
        n_pixels = n_training * request.n_pixels
        seconds = timed.seconds * n_pixels / timed.pixels * request.n_epochs * request.runs
        rest = next((one for one in (timed, *here) if one.other_seconds is not None and one.pixels), None)
        if rest is not None and rest.other_seconds is not None:
            seconds += rest.other_seconds * max(1.0, n_pixels / rest.pixels)
        return Duration(seconds / 60, timed.source, rest is not None)
    return None


def _of_jobs(db: Database, actor: Actor) -> Iterator[Measured]:
    for job in trainings.list_jobs(db, actor, limit=20):
        epochs = trainings.epochs_of(db, actor, job.id)
        if len(epochs) < 2:
            continue
        n_training = load_version(db, actor, job.version_id).n_training
        seconds = sorted(epoch.measures["seconds"] for epoch in epochs)[len(epochs) // 2]
        pixels = n_training * job.request.n_pixels
        request, other = job.request, None
        if job.state == DONE and job.attempts == 1 and job.started_at and job.ended_at:
            whole = (job.ended_at - job.started_at).total_seconds()
            other = max(0.0, whole - sum(epoch.measures["seconds"] for epoch in epochs))
        source = f"training {job.id} on this site"
        yield Measured(request.architecture, request.modality, request.init, seconds, pixels, source, other)


def _of_cards(db: Database) -> Iterator[Measured]:
    shapes: list[tuple[Card | OutlineCard, str, int]] = [
        (card, card.architecture, card.side * card.columns) for card in all_cards(db.settings)
    ]
    shapes += [(card, OUTLINE, card.input.side**2) for card in shipped_outline_cards(db.settings)]
    for card, architecture, n_pixels in shapes:
        training = card.training
        seconds = sorted(one for row in training.history if (one := row.get("seconds")) is not None)
        n_training = sum(card.data.cases_in("train").values())
        if isinstance(card, Card) and card.data.folds:  # its epochs are those of the fit on all cases
            n_training = card.data.n or 0
        if len(seconds) > 1 and n_training:
            pixels = n_training * n_pixels
            source = f"the card of {card.model_id}, on the machine that made it"
            middle = seconds[len(seconds) // 2]
            yield Measured(architecture, card.modality, training.init, middle, pixels, source)
