"""The process of a back-read: takes the next study, has the models read it, and says what they said."""

from __future__ import annotations

import logging
import os
import platform
import time
from collections.abc import Callable, Mapping
from typing import Any
from uuid import uuid4

from core.errors import AppError, ModelUnavailable, NotSaved, StateMoved, traceback_of
from core.models.cards import Card, known_cards
from core.reading.second_read import cards_for, read_image
from core.records.database.db import Database
from core.records.queue import DONE, FAILED, LEASE_SECONDS, Ended, Lease
from core.records.reads import back_reads
from core.records.reads.back_reads import STUDIES
from core.serving.desk import Urgency
from core.types import Image

log = logging.getLogger(__name__)

WAIT_SECONDS = 1.0


def read_next(
    db: Database, *, worker: str, lease_seconds: float = LEASE_SECONDS, is_ending: Callable[[], bool] = lambda: False
) -> bool:
    """Read the next study that waits; False when there is none."""
    lease = STUDIES.claim(db, worker=worker, machine=worker[:80], lease_seconds=lease_seconds)
    if lease is None:
        return False
    with STUDIES.renewed(db, lease, seconds=lease_seconds, is_ending=is_ending) as held:
        try:
            answers = _answers(db, lease, held.require)
        except Ended:
            STUDIES.hand_back(db, lease)
        except NotSaved:
            raise  # taken up again once the lease is over
        except AppError as refused:
            STUDIES.finish(db, lease, FAILED, str(refused))
        except Exception as error:  # whatever it is: one study must not end a night's work
            log.error("A study of a back-read failed:\n%s", traceback_of(error))
            STUDIES.finish(db, lease, FAILED, "It stopped with an error that is our fault. The log tells where.")
        else:
            STUDIES.finish(db, lease, DONE, "Read.", {"answers": answers})
    return True


def work_until_done(db: Database, number: int, *, is_ending: Callable[[], bool] = lambda: False) -> int:
    """Read what waits until the back-read has nothing open any more, also what others had in hand and lost.

    A database that does not answer is waited for. How many studies this process took. Raises NotFound, StateMoved.
    """
    worker, n = f"{platform.node()[:50] or 'unnamed'}:{os.getpid()}:{uuid4().hex[:8]}", 0
    while not is_ending():
        try:
            if not back_reads.is_open(db, number):
                break
            if read_next(db, worker=worker, is_ending=is_ending):
                n += 1
                continue
        except StateMoved:
            raise
        except NotSaved as away:
            log.warning("%s", away)
        time.sleep(WAIT_SECONDS)
    return n


def _answers(db: Database, lease: Lease, require: Callable[[], None]) -> list[Mapping[str, Any]]:
    models, images = back_reads.work_of(db, lease)
    cards = _cards(db, models)
    found = []
    for image_id, image in images:
        for card in cards_for(image, cards):
            require()
            found.append(_answer(card, image_id, image))
    return found


def _cards(db: Database, models: Mapping[str, str]) -> list[Card]:
    """The cards with exactly these weights. Raises ModelUnavailable where one is not on this machine."""
    here = {(card.model_id, card.weights_sha256): card for card in known_cards(db.settings) if card.has_weights}
    missing = [model_id for model_id, sha256 in models.items() if (model_id, sha256) not in here]
    if missing:
        raise ModelUnavailable(f"The weights of {missing[0]} that this back-read asks are not on {platform.node()}.")
    return [here[pair] for pair in models.items()]


def _answer(card: Card, image_id: str, image: Image) -> Mapping[str, Any]:
    prediction, _ = read_image(card, image, urgency=Urgency.BACKGROUND)
    return {
        "image": image_id,
        "image_sha256": image.sha256,
        "modality": image.modality.value if image.modality else "",
        "laterality": image.laterality or "",
        "view": image.view or "",
        "model_id": card.model_id,
        "weights_sha256": card.weights_sha256,
        "malignant": round(prediction.malignant, 6),
        "threshold": prediction.threshold,
        "unlike_training": prediction.is_unlike_training,
    }
