"""How long a training will take on this machine, from what earlier ones took. Loads no TensorFlow."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

from core.models.cards import all_cards
from core.records.data_sets import load_version
from core.records.database.db import Database
from core.records.people.permissions import Actor
from train.queue import trainings
from train.recipe.request import FitRequest


@dataclass(frozen=True, slots=True)
class Measured:
    """One training that was timed. seconds: of an epoch (median). pixels: training cases times side squared."""

    architecture: str
    init: str
    seconds: float
    pixels: float
    source: str


@dataclass(frozen=True, slots=True)
class Duration:
    """minutes: at most, for all epochs of all runs, without preparing the cases. source: what it was taken from."""

    minutes: float
    source: str


def estimate(db: Database, actor: Actor, request: FitRequest, n_training: int) -> Duration | None:
    """From the newest job here of the same architecture, else from a shipped card; None where nothing was timed.

    Time grows with cases and with the area of the square. Raises NotAllowed.
    """
    for timed in (*_of_jobs(db, actor), *_of_cards(db)):
        if (timed.architecture, timed.init) == (request.architecture, request.init) and timed.pixels:
            share = n_training * request.n_pixels / timed.pixels
            seconds = timed.seconds * share * request.n_epochs * request.runs
            return Duration(seconds / 60, timed.source)
    return None


def _of_jobs(db: Database, actor: Actor) -> Iterator[Measured]:
    for job in trainings.list_jobs(db, actor, limit=20):
        epochs = trainings.epochs_of(db, actor, job.id)
        if len(epochs) < 2:
            continue
        n_training = load_version(db, actor, job.version_id).n_training
        seconds = sorted(epoch.measures["seconds"] for epoch in epochs)[len(epochs) // 2]
        pixels = n_training * job.request.n_pixels
        yield Measured(job.request.architecture, job.request.init, seconds, pixels, f"training {job.id} on this site")


def _of_cards(db: Database) -> Iterator[Measured]:
    for card in all_cards(db.settings):
        training = card.training
        seconds = sorted(one for row in training.history if (one := row.get("seconds")) is not None)
        n_training = sum(card.data.cases_in("train").values())
        if len(seconds) > 1 and n_training:
            pixels = n_training * card.side * card.columns
            source = f"the card of {card.model_id}, on the machine that made it"
            yield Measured(card.architecture, training.init, seconds[len(seconds) // 2], pixels, source)
