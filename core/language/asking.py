"""The language model is asked in the background, one picture after the other, behind everything that readers wait for.

A row of the queue is one outlined lesion. The outline is the network's (`core.reading.outlines`), or a mass that a
reader drew: without an outline nothing is sent.
"""

from __future__ import annotations

import logging
from collections.abc import Callable
from datetime import timedelta
from functools import partial

import numpy as np

from core.demo.phantoms import ultrasound_image
from core.errors import AppError, Conflict, LanguageModelAway, NotSaved, PictureNotSent, traceback_of
from core.findings.marks import Mark, mask_of
from core.findings.outlines import boundary
from core.findings.ultrasound_descriptors import MEASURED_ONLY, Descriptor
from core.language import client
from core.language.question import descriptors, question
from core.language.sent_picture import part_around, sha256_of
from core.models.outline_card import live_outline_card
from core.reading.outlines import OutlinedLesion, is_outlined, measured_within, outlined_lesions
from core.records.database import tables
from core.records.database.db import Database
from core.records.language import answers
from core.records.language.answers import ANSWERS, Asked, Described, enqueue_drawn
from core.records.language.endpoint import endpoint_now, record_test
from core.records.people.permissions import Actor
from core.records.queue import FAILED, Ended, Lease
from core.records.site_settings import current
from core.types import Image

log = logging.getLogger(__name__)

LESIONS_MOST = 3
"""Outlines of one picture that are asked about, the surest first."""
TRIES_MOST = 8
FIRST_WAIT_SECONDS, LONGEST_WAIT_SECONDS = 15.0, 3600.0


def ask_what_is_due(db: Database, *, worker: str, machine: str, is_ending: Callable[[], bool]) -> None:
    """Every picture that is due, until none is or `is_ending` says so."""
    endpoint = endpoint_now(db)
    if endpoint is None or not endpoint.is_permitted:
        return
    answers.enqueue_due(db, endpoint)
    while not is_ending():
        is_asked = ask_next(db, worker=worker, machine=machine, is_ending=is_ending)
        if not is_asked and not enqueue_drawn(db, endpoint):  # which waits for what the network outlines
            return


def ask_next(db: Database, *, worker: str, machine: str, is_ending: Callable[[], bool] = lambda: False) -> bool:
    """Ask about the next outline that is due; False where there is none."""
    lease = ANSWERS.claim(db, worker=worker, machine=machine)
    if lease is None:
        return False
    with ANSWERS.renewed(db, lease, is_ending=is_ending) as held:
        try:
            _ask(db, lease, held.require)
        except Ended:
            ANSWERS.hand_back(db, lease)
            return False
        except NotSaved:
            raise  # taken up again once the lease is over
        except LanguageModelAway as away:
            _try_later(db, lease, away)
        except PictureNotSent as refused:
            ANSWERS.finish(db, lease, FAILED, str(refused), {"needs_look": True} if refused.needs_look else None)
        except AppError as refused:
            ANSWERS.finish(db, lease, FAILED, str(refused))
        except Exception as error:  # whatever it is: one picture must not end the asking
            log.error("A language model was not asked:\n%s", traceback_of(error))
            ANSWERS.finish(db, lease, FAILED, "It stopped with an error that is our fault. The log tells where.")
    return True


def wait_seconds(tries: int, asked: float | None) -> float:
    """How long to wait after so many tries: what the server asks for, or twice as long each time; an hour at most."""
    own = FIRST_WAIT_SECONDS * 2.0 ** min(tries - 1, 16)
    return min(max(own, asked or 0.0), LONGEST_WAIT_SECONDS)


def probe(db: Database, actor: Actor, endpoint_id: int) -> client.Reply:
    """The test of the page Settings: the same question about a picture made in code, which shows nobody.

    Raises NotAllowed, NotFound, LanguageModelAway, LanguageModelRefused, InvalidInput.
    """
    image = ultrasound_image()
    rows, columns = np.indices((image.height, image.width))
    mass = np.hypot((rows - 182) / 58, (columns - 285) / 82) <= 1
    png, asked = part_around(image, mass, is_synthetic=True), question()
    hashes = {"sent_sha256": sha256_of(png), "prompt_sha256": asked.sha256}
    endpoint = record_test(db, actor, endpoint_id, **hashes)
    return client.ask(endpoint, db.settings, asked, png, before_sending=lambda: None)


def _ask(db: Database, lease: Lease, require: Callable[[], None]) -> None:
    it = answers.asked_of(db, lease)
    mark, mask, found = _lesion(db, lease, it)
    names = {one.name for one in descriptors()}
    measured = {one.name: one.word for one in found if one.word and one.name in names and one.name not in MEASURED_ONLY}
    answers.record_outline(db, lease, mark, measured)
    png = part_around(it.image, mask, looked_sha256=it.looked_sha256, is_synthetic=it.is_synthetic)
    asked = question()
    hashes = {"sent_sha256": sha256_of(png), "prompt_sha256": asked.sha256}
    require()
    endpoint = endpoint_now(db)
    if endpoint is None or endpoint.id != it.endpoint_id:
        raise Conflict("Another language model is named now, so this one is not asked any more.")
    permitted = partial(answers.require_still_permitted, db, lease, **hashes)
    reply = client.ask(endpoint, db.settings, asked, png, before_sending=permitted)
    answers.finish_described(
        db, lease, Described(mark, measured, reply.words, reply.served_model, asked.sha256, hashes["sent_sha256"])
    )


def _lesion(db: Database, lease: Lease, it: Asked) -> tuple[Mark, np.ndarray, tuple[Descriptor, ...]]:
    """The outline that a row is about, as a mark and as a mask, bool (H, W), and what is measured within it.

    Raises PictureNotSent.
    """
    image = it.image
    if it.drawn is not None:
        mask = mask_of(it.drawn, image.height, image.width)
        is_on_it = (it.drawn.image_sha256, it.drawn.frame) == (image.sha256, image.frame)
        if not is_on_it or not is_outlined(image) or not mask.any():
            raise PictureNotSent(
                "This mark encloses nothing of the ultrasound picture that the models read, so nothing was sent."
            )
        return it.drawn, mask, measured_within(image, mask)
    lesion = _outlined(db, lease, image, it.number)
    mark = Mark(image.sha256, image.frame, "outline", boundary(lesion.outline.mask))
    return mark, lesion.outline.mask, lesion.descriptors


def _outlined(db: Database, lease: Lease, image: Image, number: int) -> OutlinedLesion:
    """The network's outline with this number. Raises PictureNotSent."""
    card = live_outline_card(current(db))
    if card is None or not is_outlined(image):
        raise PictureNotSent("Nothing outlines lesions in this picture here, so nothing was sent.")
    found = outlined_lesions(card, image)[:LESIONS_MOST]
    if number >= len(found):
        raise PictureNotSent("No lesion is outlined in this picture, so nothing was sent.")
    if number == 0 and len(found) > 1:
        answers.ask_of_others(db, lease, len(found))
    return found[number]


def _try_later(db: Database, lease: Lease, away: LanguageModelAway) -> None:
    tries = answers.count_try(db, lease)
    if tries >= TRIES_MOST:
        ANSWERS.finish(db, lease, FAILED, f"{away} It was asked {tries} times and is not asked any more.")
        return
    due_at = tables.now() + timedelta(seconds=wait_seconds(tries, away.retry_after))
    ANSWERS.postpone(db, lease, f"{away} It is asked again.", due_at)
