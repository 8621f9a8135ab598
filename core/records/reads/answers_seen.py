"""Who has been shown an answer of the AI about a picture has seen it in every study that holds the picture.

Otherwise the same pictures saved as a second study would give the answer away: a dummy first impression there, the
answer, and then a first impression of the first study that counts as unaided. The AI stays hidden in every study until
the first read there; a first read whose reader had seen an answer elsewhere is saved with a mark.

Scores of a model's test cases that somebody was given count as well: the table of its cases knows their pictures by
hash. Where a model was removed with its table, its test cases are not known again.

The audit trail is where it is kept who has seen what: it cannot be taken back, and it outlives a deleted study.

Pictures that an earlier version stored have no hash until `hashing` has come to them, a few at a time. Until then they
are known again where the pixels are equal; of those whose answer a reader has seen, the newest are hashed when the
reader saves a first read, `HASHED_AT_ONCE` at most, and the audit trail says of that read how many were left.
"""

from __future__ import annotations

import logging
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
from sqlalchemy import ColumnElement, Connection, select, update

from core.errors import Conflict, ModelUnavailable, NotFound
from core.imaging.near_duplicates import CANDIDATE_BITS, CORRELATION, hash_distance, long_hash, registered_correlation
from core.imaging.picture import to_grey
from core.models.card_cases import NEAR_DUPLICATE_BITS, measured_cases, read_cases
from core.models.cards import candidate_cards, known_cards
from core.periodic import repeated
from core.records.audit import trail
from core.records.database import tables
from core.records.database.db import Database
from core.records.people.permissions import Actor, Person, acting, require_permission

log = logging.getLogger(__name__)

SHOWN = ("reveal", "see answer", "see reader scores")
"""Acts of the audit trail by which somebody was shown what the AI says of a study."""
CASES_SHOWN = "see case scores"
"""The act by which somebody was shown what a model says of its test cases."""
HASHED_AT_ONCE = 40
"""Pictures without a hash that a reader who saves a first read waits for: about two seconds."""
_CASE_BITS = 30
"""Of 256 in which the hash of a test case may differ: what copies differ in at most (`NEAR_DUPLICATE_BITS`). It decides
alone and against hundreds of pictures at once, so it is stricter than where both pictures are at hand."""
_BATCH, _SOON_SECONDS, _LOOK_SECONDS = 50, 5, 3600
_AT_ONCE = 500


@dataclass(frozen=True, slots=True)
class Mark:
    """A picture of a study of which its reader had seen an answer before.

    image_id: in the study that is read. seen_in: the study whose answer was seen, or the sha256 of the weights among
    whose test cases the picture is. correlation: of the two pictures once registered, 1 for equal pixels; None where
    one of them is here no more, or never was, and the hashes alone say so. way: what seen_in names.
    """

    image_id: str
    seen_in: str
    correlation: float | None
    way: Literal["study", "test case"] = "study"


@dataclass(frozen=True, slots=True)
class SeenBefore:
    """What somebody had seen before a read. shown: all studies whose answers they have seen, wherever that was, and the
    sha256 of weights whose test cases' scores they have seen. n_not_compared: pictures of those studies that have no
    hash yet."""

    shown: frozenset[str]
    marks: tuple[Mark, ...]
    n_not_compared: int = 0


@dataclass(frozen=True, slots=True)
class _Picture:
    """stored: key of its pixels, the same for equal pixels. look: its hash, "" for a picture of one grey and for one
    that is gone, None where nobody has made it yet."""

    study_id: str
    stored: str
    look: str | None


def seen_before(db: Database, actor: Actor, study_id: str) -> SeenBefore:
    """Which pictures of the study this person has seen an answer about, in other studies or as test cases.

    Compares pixels, so it is called before the transaction of the read (`require_unchanged` in it). Raises NotAllowed.
    """
    with acting(db.read(), actor, "record_first_read") as (connection, person):
        shown = _studies_shown(connection, person, other_than=study_id)
        weights = _weights_shown(connection, person)
    if not shown and not weights:
        return SeenBefore(frozenset(), ())
    _hash_pictures(db, tables.image.c.study_id == study_id, most=_AT_ONCE)
    hash_newest(db, list(shown))
    with db.read() as connection:
        image = tables.image.c
        own = connection.execute(select(image.id, image.stored, image.meta).where(image.study_id == study_id)).all()
        others = [*_pictures_of(connection, list(shown)), *(picture for held in shown.values() for picture in held)]
    cases = _test_cases(db, weights)
    marks = [mark for row in own if (mark := _mark(db, row, others) or _mark_of_case(db, row, cases)) is not None]
    n_left = len({picture.stored for picture in others if picture.look is None and picture.stored})
    return SeenBefore(frozenset(shown) | weights, tuple(marks), n_left)


def require_unchanged(connection: Connection, person: Person, study_id: str, before: SeenBefore) -> None:
    """Raises Conflict where the person was shown another answer since `seen_before` looked, in another window."""
    shown = frozenset(_studies_shown(connection, person, other_than=study_id)) | _weights_shown(connection, person)
    if shown != before.shown:
        raise Conflict("You were shown an answer of the AI in another window just now. Save your impression again.")


def record_case_scores_shown(db: Database, actor: Actor, weights: Mapping[str, str]) -> None:
    """Write down, once a model, that this person was given what models say of their test cases, one by one.

    weights: model -> sha256 of its weights. Raises NotAllowed.
    """
    with acting(db.read(), actor, "see_cases") as (connection, person):
        wanted = {sha256: name for name, sha256 in weights.items()}
        if set(wanted) <= _weights_shown(connection, person):
            return
    with acting(db.begin(), actor, "see_cases") as (connection, person):
        trail.lock_trail(connection)
        for sha256 in sorted(set(wanted) - _weights_shown(connection, person)):
            trail.record(connection, person.id, CASES_SHOWN, f"model {wanted[sha256]}"[:80], weights_sha256=sha256)


def hash_newest(db: Database, study_ids: Sequence[str]) -> None:
    """Hashes the newest pictures of these studies that have no hash, as many as somebody can wait for."""
    left = HASHED_AT_ONCE
    for start in range(0, len(study_ids), _AT_ONCE):
        if left > 0:
            left -= _hash_pictures(db, tables.image.c.study_id.in_(study_ids[start : start + _AT_ONCE]), most=left)


@contextmanager
def hashing(db: Database) -> Iterator[None]:
    """Gives the pictures that earlier versions stored their hash, a few at a time until the block ends.

    Several processes may do so at once: each writes the same.
    """
    seconds = _LOOK_SECONDS

    def turn() -> None:
        nonlocal seconds
        seconds = _LOOK_SECONDS
        n = _hash_pictures(db, tables.image.c.stored != "", most=_BATCH)
        if n:
            log.info("%d pictures that an earlier version stored have their hash now", n)
        seconds = _SOON_SECONDS if n == _BATCH else _LOOK_SECONDS

    with repeated("picture hashes", turn, lambda: seconds):
        yield


def _hash_pictures(db: Database, which: ColumnElement[bool], *, most: int) -> int:
    """Hashes pictures that have none, the newest first; how many. One whose pixels are gone or damaged gets ""."""
    image = tables.image.c
    is_unhashed = image.meta["look"].as_string().is_(None)
    query = select(image.id, image.stored).join(tables.study, tables.study.c.id == image.study_id)
    newest = tables.study.c.created_at.desc()
    with db.read() as connection:
        rows = connection.execute(
            query.where(which, image.stored != "", is_unhashed).order_by(newest, image.id).limit(most)
        ).all()
    for row in rows:
        pixels = _pixels(db, row.stored)
        look = "" if pixels is None else look_of(pixels)
        with db.begin() as connection:
            meta = connection.execute(select(image.meta).where(image.id == row.id).with_for_update()).scalar()
            if meta is not None:
                changed = {**meta, "look": look}
                connection.execute(update(tables.image).where(image.id == row.id).values(meta=changed))
    return len(rows)


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
        if was_shown(connection, require_permission(connection, actor, "see_ai"), study_id):
            return
    hash_newest(db, [study_id])
    with acting(db.begin(), actor, "see_ai") as (connection, person):
        trail.lock_trail(connection)
        if not was_shown(connection, person, study_id):
            pictures = pictures_for_trail(connection, study_id)
            trail.record(connection, person.id, "see answer", f"study {study_id}", pictures=pictures)


def record_scores_shown(db: Database, actor: Actor, study_ids: Iterable[str]) -> None:
    """Write down that this person was given the models' scores of these studies, as far as it is new.

    Raises NotAllowed.
    """
    with acting(db.read(), actor, "see_reader_scores") as (connection, person):
        wanted = set(study_ids)
        if wanted <= set(_studies_shown(connection, person)):
            return
    with acting(db.begin(), actor, "see_reader_scores") as (connection, person):
        trail.lock_trail(connection)
        new = sorted(wanted - set(_studies_shown(connection, person)))
        if new:
            trail.record(connection, person.id, "see reader scores", "reader scores", studies=new)


def look_of(pixels: np.ndarray) -> str:
    """The hash that is kept beside an image; pixels as in `Image`."""
    return long_hash(to_grey(pixels))


def was_shown(connection: Connection, person: Person, study_id: str) -> bool:
    """Whether this person was shown the AI's answer on just this study."""
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
        found += [_Picture(row.study_id, row.stored, row.meta.get("look")) for row in rows]
    return found


def _mark(db: Database, own: Any, others: Sequence[_Picture]) -> Mark | None:
    """The strongest sign that an answer about this image was seen; None where there is none.

    own: a row with the columns id, stored and meta of `image`.
    """
    equal = next((other for other in others if own.stored and other.stored == own.stored), None)
    if equal is not None:
        return Mark(own.id, equal.study_id, 1.0)
    pixels = _pixels(db, own.stored)
    looks = _looks(own, pixels)
    found = []
    for other in dict.fromkeys(others):
        distances = [hash_distance(mine, other.look or "") for mine in looks]
        if min(distances) > CANDIDATE_BITS:
            continue
        theirs = _pixels(db, other.stored)
        if pixels is None or theirs is None:
            if min(distances) <= NEAR_DUPLICATE_BITS:
                found.append(Mark(own.id, other.study_id, None))
            continue
        is_mirrored = distances.index(min(distances)) == 1
        correlation = registered_correlation(pixels[:, ::-1] if is_mirrored else pixels, theirs)
        if correlation >= CORRELATION:
            found.append(Mark(own.id, other.study_id, round(min(correlation, 1.0), 4)))
    return max(found, key=lambda mark: mark.correlation or 0, default=None)


def _looks(own: Any, pixels: np.ndarray | None) -> list[str]:
    """The hashes of an image as it is and mirrored; the first alone where its pixels are gone."""
    return [own.meta.get("look", "")] if pixels is None else [look_of(pixels), look_of(pixels[:, ::-1])]


def _weights_shown(connection: Connection, person: Person) -> frozenset[str]:
    """sha256 of the weights whose test cases' scores this person was shown."""
    row = tables.audit.c
    query = select(row.detail).where(row.person_id == person.id, row.action == CASES_SHOWN)
    return frozenset(detail["weights_sha256"] for detail in connection.execute(query).scalars())


def _test_cases(db: Database, weights: frozenset[str]) -> dict[str, list[str]]:
    """sha256 of weights -> hashes of the pictures that they were measured on, as far as their tables are here."""
    found: dict[str, list[str]] = {}
    cards = (*known_cards(db.settings), *candidate_cards(db.settings)) if weights else ()
    for card in cards:
        if card.weights_sha256 not in weights or card.weights_sha256 in found:
            continue
        try:
            cases = read_cases(card)
        except ModelUnavailable as error:
            log.warning("The test cases that a reader has seen scores of are not known: %s", error)
            continue
        if cases is not None:
            found[card.weights_sha256] = list(measured_cases(cases)["perceptual_hash"])
    return found


def _mark_of_case(db: Database, own: Any, cases: Mapping[str, Sequence[str]]) -> Mark | None:
    """Where this image is among the test cases by its hash. The pictures themselves are not kept here."""
    if not cases:
        return None
    looks = _looks(own, _pixels(db, own.stored))
    for weights_sha256, hashes in cases.items():
        if any(hash_distance(mine, other) <= _CASE_BITS for other in hashes for mine in looks):
            return Mark(own.id, weights_sha256, None, "test case")
    return None


def _pixels(db: Database, stored: str) -> np.ndarray | None:
    """None where they were removed, by the site's policy or with their study."""
    try:
        return db.store.pixels(stored) if stored else None
    except NotFound:
        return None
