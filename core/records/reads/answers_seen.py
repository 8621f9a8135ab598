"""Who has been shown an answer of the AI about a picture has seen it in every study that holds the picture.

Otherwise the same pictures saved as a second study would give the answer away: a dummy first impression there, the
answer, and then a first impression of the first study that counts as unaided. The AI stays hidden in every study until
the first read there; a first read whose reader had seen an answer elsewhere is saved with a mark.

The audit trail is where it is kept who has seen what: it cannot be taken back, and it outlives a deleted study.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from sqlalchemy import Connection, select

from core.errors import Conflict, NotFound
from core.imaging.near_duplicates import CANDIDATE_BITS, CORRELATION, hash_distance, long_hash, registered_correlation
from core.imaging.picture import to_grey
from core.models.card_cases import NEAR_DUPLICATE_BITS
from core.records.audit import trail
from core.records.database import tables
from core.records.database.db import Database
from core.records.people.permissions import Actor, Person, require_permission

SHOWN = ("reveal", "see answer", "see reader scores")
"""Acts of the audit trail by which somebody was shown what the AI says of a study."""
_AT_ONCE = 500


@dataclass(frozen=True, slots=True)
class Mark:
    """A picture of a study of which its reader had seen an answer before.

    image_id: in the study that is read. seen_in: the study whose answer was seen. correlation: of the two pictures once
    registered, 1 for equal pixels; None where one of them is here no more and the hashes alone say so.
    """

    image_id: str
    seen_in: str
    correlation: float | None


@dataclass(frozen=True, slots=True)
class SeenBefore:
    """What somebody had seen before a read. studies: all whose answers they have seen, wherever that was."""

    studies: frozenset[str]
    marks: tuple[Mark, ...]


@dataclass(frozen=True, slots=True)
class _Picture:
    """stored: key of its pixels, the same for equal pixels. look: its hash, "" where that is not known."""

    study_id: str
    stored: str
    look: str


def seen_before(db: Database, actor: Actor, study_id: str) -> SeenBefore:
    """Which pictures of the study this person has seen an answer about, in other studies.

    Compares pixels, so it is called before the transaction of the read (`require_unchanged` in it). Raises NotAllowed.
    """
    with db.read() as connection:
        person = require_permission(connection, actor, "record_first_read")
        shown = _studies_shown(connection, person, other_than=study_id)
        if not shown:
            return SeenBefore(frozenset(), ())
        image = tables.image.c
        own = connection.execute(select(image.id, image.stored, image.meta).where(image.study_id == study_id)).all()
        others = [*_pictures_of(connection, list(shown)), *(picture for held in shown.values() for picture in held)]
    marks = [mark for row in own if (mark := _mark(db, row, others)) is not None]
    return SeenBefore(frozenset(shown), tuple(marks))


def require_unchanged(connection: Connection, person: Person, study_id: str, before: SeenBefore) -> None:
    """Raises Conflict where the person was shown another answer since `seen_before` looked, in another window."""
    if frozenset(_studies_shown(connection, person, other_than=study_id)) != before.studies:
        raise Conflict("You were shown an answer of the AI in another window just now. Save your impression again.")


def pictures_for_trail(connection: Connection, study_id: str) -> list[list[str]]:
    """What knows the pictures of a study again once it is deleted: [key of the pixels, hash], for the trail."""
    image = tables.image.c
    rows = connection.execute(select(image.stored, image.meta).where(image.study_id == study_id))
    return [[row.stored, row.meta.get("look", "")] for row in rows]


def record_answer_shown(db: Database, actor: Actor, study_id: str) -> None:
    """Write down, once, that this person was shown the answer of a study that hides nothing (mode "concurrent").

    Raises NotAllowed.
    """
    with db.read() as connection:
        if _was_shown(connection, require_permission(connection, actor, "see_ai"), study_id):
            return
    with db.begin() as connection:
        person = require_permission(connection, actor, "see_ai")
        trail.lock_trail(connection)
        if not _was_shown(connection, person, study_id):
            pictures = pictures_for_trail(connection, study_id)
            trail.record(connection, person.id, "see answer", f"study {study_id}", pictures=pictures)


def record_scores_shown(db: Database, actor: Actor, study_ids: Iterable[str]) -> None:
    """Write down that this person was given the models' scores of these studies, as far as it is new.

    Raises NotAllowed.
    """
    with db.read() as connection:
        person = require_permission(connection, actor, "see_reader_scores")
        wanted = set(study_ids)
        if wanted <= set(_studies_shown(connection, person)):
            return
    with db.begin() as connection:
        person = require_permission(connection, actor, "see_reader_scores")
        trail.lock_trail(connection)
        new = sorted(wanted - set(_studies_shown(connection, person)))
        if new:
            trail.record(connection, person.id, "see reader scores", "reader scores", studies=new)


def look_of(pixels: np.ndarray) -> str:
    """The hash that is kept beside an image; pixels as in `Image`."""
    return long_hash(to_grey(pixels))


def _was_shown(connection: Connection, person: Person, study_id: str) -> bool:
    return study_id in _studies_shown(connection, person)


def _studies_shown(connection: Connection, person: Person, *, other_than: str = "") -> dict[str, list[_Picture]]:
    """Studies whose answers this person was shown, each with the pictures that the trail knows of it."""
    row = tables.audit.c
    rows = connection.execute(
        select(row.action, row.subject, row.detail).where(row.person_id == person.id, row.action.in_(SHOWN))
    )
    found: dict[str, list[_Picture]] = {}
    for act in rows:
        if act.action == "see reader scores":
            for study_id in act.detail["studies"]:
                found.setdefault(study_id, [])
            continue
        study_id = act.subject.removeprefix("study ")
        held = [_Picture(study_id, stored, look) for stored, look in act.detail.get("pictures", ())]
        found.setdefault(study_id, []).extend(held)
    found.pop(other_than, None)
    return found


def _pictures_of(connection: Connection, study_ids: Sequence[str]) -> list[_Picture]:
    image = tables.image.c
    found = []
    for start in range(0, len(study_ids), _AT_ONCE):
        some = study_ids[start : start + _AT_ONCE]
        rows = connection.execute(select(image.study_id, image.stored, image.meta).where(image.study_id.in_(some)))
        found += [_Picture(row.study_id, row.stored, row.meta.get("look", "")) for row in rows]
    return found


def _mark(db: Database, own: Any, others: Sequence[_Picture]) -> Mark | None:
    """The strongest sign that an answer about this image was seen; None where there is none.

    own: a row with the columns id, stored and meta of `image`.
    """
    equal = next((other for other in others if own.stored and other.stored == own.stored), None)
    if equal is not None:
        return Mark(own.id, equal.study_id, 1.0)
    pixels = _pixels(db, own.stored)
    looks = [own.meta.get("look", "")] if pixels is None else [look_of(pixels), look_of(pixels[:, ::-1])]
    found = []
    for other in dict.fromkeys(others):
        theirs = None if other.look else _pixels(db, other.stored)  # kept before there were hashes
        look = other.look if theirs is None else look_of(theirs)
        distances = [hash_distance(mine, look) for mine in looks]
        if min(distances) > CANDIDATE_BITS:
            continue
        theirs = theirs if theirs is not None else _pixels(db, other.stored)
        if pixels is None or theirs is None:
            if min(distances) <= NEAR_DUPLICATE_BITS:
                found.append(Mark(own.id, other.study_id, None))
            continue
        is_mirrored = distances.index(min(distances)) == 1
        correlation = registered_correlation(pixels[:, ::-1] if is_mirrored else pixels, theirs)
        if correlation >= CORRELATION:
            found.append(Mark(own.id, other.study_id, round(min(correlation, 1.0), 4)))
    return max(found, key=lambda mark: mark.correlation or 0, default=None)


def _pixels(db: Database, stored: str) -> np.ndarray | None:
    """None where they were removed, by the site's policy or with their study."""
    try:
        return db.store.pixels(stored) if stored else None
    except NotFound:
        return None
