"""Weights that were decided about, kept in the state folder: put there whole or not at all, and never changed."""

from __future__ import annotations

import errno
import os
import shutil
from pathlib import Path
from uuid import uuid4

from core.errors import Conflict, ModelUnavailable, NotFound
from core.models.card_cases import cases_name
from core.models.cards import Card, read_card
from core.models.live import candidate_dir, release_dir
from core.models.weights import check_shards
from core.settings import Settings

_HALF = "release-"


def candidate_card(settings: Settings, job_id: int, model_id: str, weights_sha256: str) -> Card:
    """The card of a finished training, with the weights that its job names. Raises NotFound."""
    folder = candidate_dir(settings, job_id) / Path(model_id).name
    try:
        card = read_card(folder)
    except ModelUnavailable as error:
        raise NotFound(
            f"The candidate of training {job_id} is missing or damaged. Restore the state folder."
        ) from error
    if card.weights_sha256 != weights_sha256 or not card.has_weights:
        raise NotFound(f"The candidate of training {job_id} has other weights than the training made. Train anew.")
    return card


def keep_release(settings: Settings, card: Card) -> None:
    """Put card, weights and scores of a model where releases lie; nothing happens if they are there.

    A candidate's files are linked (they are never written to again), shipped ones copied. The weights are checked
    against their hash first. Raises ModelUnavailable for damaged weights, Conflict when the disk is full.
    """
    target = release_dir(settings, card.model_id, card.weights_sha256)
    if target.is_dir():
        return
    check_shards(card.folder, card.weights_files, card.weights_sha256)
    half = settings.state_dir / f"{_HALF}{uuid4().hex}"
    short = card.weights_sha256[:8]
    tables = (f"{short}.test_scores.csv", f"{short}.validation_scores.csv", cases_name(card.weights_sha256))
    names = ["card.json", *card.weights_files, *tables]
    try:
        half.mkdir(mode=0o700)
        for name in names:
            if (card.folder / name).is_file():
                _put(card.folder / name, half / name, settings)
        target.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        half.rename(target)
    except OSError as error:
        if error.errno in (errno.ENOSPC, errno.EDQUOT):
            raise Conflict("The disk is full, so nothing was released. Make room and try again.") from error
        raise
    finally:
        shutil.rmtree(half, ignore_errors=True)


def remove_halves(settings: Settings) -> None:
    """What a process left that was killed while it put a release in place. The caller holds the lock of releases."""
    for half in settings.state_dir.glob(f"{_HALF}*"):
        shutil.rmtree(half, ignore_errors=True)


def _put(source: Path, target: Path, settings: Settings) -> None:
    if source.is_relative_to(settings.state_dir):
        try:
            os.link(source, target)
            return
        except OSError:
            pass  # a file system without links
    shutil.copyfile(source, target)
