"""What the site's language model said of outlined lesions: the rows of a queue, and answers once they are there.

A picture is asked about when a read of its study is saved, never before, and only those that were saved since the site
permitted it. What comes back is sealed like every model's answer: whoever may not see the AI's answer yet may not see
it. It is kept beside what was measured within the same outline and is part of no score.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from sqlalchemy import Connection, Row, exists, insert, select, update

from core.errors import Conflict, NotFound
from core.findings.marks import Mark, lies_over
from core.records.audit import trail
from core.records.database import tables
from core.records.database.db import Database
from core.records.database.locks import AdvisoryLock, hold
from core.records.language.endpoint import Endpoint, require_permitted
from core.records.people.permissions import Actor, require_permission
from core.records.queue import DONE, FAILED, QUEUED, Lease, Queue
from core.records.reads import answers_seen
from core.records.reads.annotations import annotations_of
from core.records.reads.reads import READ_FIRST, is_ai_visible
from core.records.reads.rows import find_study, image_of
from core.types import Image, Modality

ENQUEUED_AT_ONCE = 50
_WAITS = "Waits to be asked."

ANSWERS = Queue(
    tables.language_answer, AdvisoryLock.LANGUAGE, kind="language model", subject="language answer",
    begins="Is being asked.", again="Waits to be asked again: the process that asked ended.", cancelled="Cancelled.",
    dead="It is not asked any more.", recorded=("study", "endpoint", "served_model", "prompt_sha256", "sent_sha256"),
)  # fmt: skip


@dataclass(frozen=True, slots=True)
class Asked:
    """What a row of the queue is about. number: of the outline, from 0. looked_sha256: of the part of the picture in
    which somebody found no text; "" where nobody has looked."""

    study_id: str
    endpoint_id: int
    image: Image
    number: int
    is_synthetic: bool
    looked_sha256: str


@dataclass(frozen=True, slots=True)
class Described:
    """What a model said of one outline, beside what was measured in it. measured, words: descriptor -> word.

    served_model: as the server calls it; "" where it does not say. prompt_sha256: of the question.
    """

    mark: Mark | None = None
    measured: Mapping[str, str] = field(default_factory=dict)
    words: Mapping[str, str] = field(default_factory=dict)
    served_model: str = ""
    prompt_sha256: str = ""
    sent_sha256: str = ""


@dataclass(frozen=True, slots=True)
class LanguageAnswer:
    """One row. model: as the site named it. state: of the queue; message: its sentence. needs_look: the picture goes
    only once somebody has looked that no text is in the part."""

    id: int
    image_id: str
    number: int
    model: str
    state: str
    message: str
    needs_look: bool
    described: Described


@dataclass(frozen=True, slots=True)
class Compared:
    """One outlined lesion described by several: descriptor -> word of each, as far as there is one.

    patient: the same for all lesions of a patient, and nobody's name. first, final: the reader's, in the first and in
    the last read of the study that describe a finding at that place.
    """

    model: str
    patient: str
    measured: Mapping[str, str]
    language_model: Mapping[str, str]
    first: Mapping[str, str]
    final: Mapping[str, str]


def enqueue_due(db: Database, endpoint: Endpoint) -> int:
    """Rows for the ultrasound images of studies that were read since this was permitted; how many are new."""
    if endpoint.permitted_at is None:
        return 0
    image, study, read, row = tables.image.c, tables.study.c, tables.read.c, tables.language_answer
    is_read = exists().where(read.study_id == study.id, read.created_at >= endpoint.permitted_at)
    is_asked = exists().where(row.c.image_id == image.id, row.c.endpoint_id == endpoint.id)
    query = (
        select(image.id, image.study_id)
        .join_from(tables.image, tables.study, image.study_id == study.id)
        .where(
            image.modality == Modality.ULTRASOUND.value, image.pixels_removed_at.is_(None),
            study.deleted_at.is_(None), study.is_reader_study_case.is_(False), is_read, ~is_asked,
        )
        .order_by(image.study_id, image.position)
        .limit(ENQUEUED_AT_ONCE)
    )  # fmt: skip
    with db.read() as connection:
        if connection.execute(query.limit(1)).first() is None:
            return 0
    with db.begin() as connection:
        hold(connection, AdvisoryLock.LANGUAGE)
        require_permitted(connection, db.settings, endpoint.id)
        found = connection.execute(query).all()
        for one in found:
            _insert(connection, endpoint.id, one.study_id, one.id, 0)
    return len(found)


def asked_of(db: Database, lease: Lease) -> Asked:
    """What a row is about, with the picture. Raises NotFound where study or picture are here no more."""
    row = lease.row
    with db.read() as connection:
        study = find_study(connection, row.study_id)
        stored = connection.execute(select(tables.image).where(tables.image.c.id == row.image_id)).one_or_none()
    if stored is None or stored.pixels_removed_at is not None:
        raise NotFound("The picture is here no more.")
    return Asked(
        row.study_id, row.endpoint_id, image_of(stored, db, None), row.number, study.is_synthetic,
        (row.sent_sha256 or "") if row.looked_by is not None else "",
    )  # fmt: skip


def ask_of_others(db: Database, lease: Lease, n_outlines: int) -> None:
    """Rows for the further outlines of a picture, beside the first."""
    row = lease.row
    with db.begin() as connection:
        hold(connection, AdvisoryLock.LANGUAGE)
        if not ANSWERS.is_held(connection, lease):
            return
        table = tables.language_answer
        query = select(table.c.number).where(table.c.image_id == row.image_id, table.c.endpoint_id == row.endpoint_id)
        known = set(connection.execute(query).scalars())
        for number in sorted(set(range(n_outlines)) - known):
            _insert(connection, row.endpoint_id, row.study_id, row.image_id, number)


def require_still_permitted(db: Database, lease: Lease, *, sent_sha256: str, prompt_sha256: str) -> Endpoint:
    """Right before a picture goes: that it may at this moment, and the trail's row. Raises NotAllowed, Conflict."""
    row = lease.row
    with db.begin() as connection:
        hold(connection, AdvisoryLock.LANGUAGE)
        endpoint = require_permitted(connection, db.settings, row.endpoint_id)
        find_study(connection, row.study_id)
        if not ANSWERS.is_held(connection, lease):
            raise Conflict("Another process asks this already.")
        trail.record(
            connection, None, "ask language model", f"study {row.study_id}", image=row.image_id, outline=row.number,
            endpoint=endpoint.id, model=endpoint.model, host=endpoint.host, permitted_by=endpoint.permitted_by,
            sent_sha256=sent_sha256, prompt_sha256=prompt_sha256, looked_by=row.looked_by,
        )  # fmt: skip
    return endpoint


def record_outline(db: Database, lease: Lease, mark: Mark, measured: Mapping[str, str]) -> None:
    """What the question will be about: it is there also where nothing is sent."""
    _write(db, lease, {"mark": mark.to_json(), "measured": dict(measured)})


def finish_described(db: Database, lease: Lease, described: Described) -> None:
    """The answer is there: what was said, by whom and to which question."""
    values = {
        "words": dict(described.words), "served_model": described.served_model,
        "prompt_sha256": described.prompt_sha256, "sent_sha256": described.sent_sha256,
    }  # fmt: skip
    if _write(db, lease, values):
        result = {"study": lease.row.study_id, "endpoint": lease.row.endpoint_id, **values}
        ANSWERS.finish(db, lease, DONE, "Answered.", {key: one for key, one in result.items() if key != "words"})


def count_try(db: Database, lease: Lease) -> int:
    """How often it did not answer, this time included."""
    _write(db, lease, {"tries": lease.row.tries + 1})
    return int(lease.row.tries) + 1


def language_answers_of(db: Database, actor: Actor, study_id: str) -> list[LanguageAnswer]:
    """The rows of a study, of the endpoint that answered last, in the order of the images and outlines.

    Raises NotAllowed, NotFound; Conflict while the AI's answer is hidden from this person.
    """
    row, endpoint, image = tables.language_answer, tables.language_endpoint.c, tables.image.c
    with db.read() as connection:
        person = require_permission(connection, actor, "see_ai")
        study = find_study(connection, study_id)
        if not is_ai_visible(connection, person, study):
            raise Conflict("The AI's answer is hidden until your first impression is saved and you ask for it.")
        query = (
            select(row, endpoint.model)
            .join_from(row, tables.language_endpoint, row.c.endpoint_id == endpoint.id)
            .join(tables.image, row.c.image_id == image.id)
            .where(row.c.study_id == study_id)
            .order_by(image.position, row.c.number, row.c.id)
        )
        found = connection.execute(query).all()
    if any(one.words for one in found) and study.reading_mode != READ_FIRST:  # else the reveal is written already
        answers_seen.record_answer_shown(db, actor, study_id)
    newest = {(one.image_id, one.number): one for one in found}
    return [_answer(one) for one in newest.values()]


def look_for_text(db: Database, actor: Actor, row_id: int, part_sha256: str) -> None:
    """Somebody has looked at the part of the picture that would be sent, and no text is in it: just that one is sent.

    part_sha256: of the part that they were shown. Raises NotAllowed, NotFound; Conflict unless it waits for that.
    """
    table = tables.language_answer
    with db.begin() as connection:
        person = require_permission(connection, actor, "see_ai")
        row = connection.execute(select(table).where(table.c.id == row_id).with_for_update()).one_or_none()
        if row is None:
            raise NotFound("This picture is not asked about any more. Reload the page.")
        study = find_study(connection, row.study_id)
        if not is_ai_visible(connection, person, study) or row.state != FAILED or not _needs_look(row):
            raise Conflict("Nobody has to look at this picture before it is sent.")
        require_permitted(connection, db.settings, row.endpoint_id)
        fresh = {"state": QUEUED, "message": _WAITS, "attempts": 0, "tries": 0, "ended_at": None, "result": None}
        fresh |= {"looked_by": person.id, "sent_sha256": part_sha256}
        connection.execute(update(table).where(table.c.id == row_id).values(**fresh))
        trail.record(
            connection,
            person.id,
            "look for text",
            f"study {row.study_id}",
            image=row.image_id,
            outline=row.number,
            part_sha256=part_sha256,
        )


def compared(db: Database, actor: Actor) -> list[Compared]:
    """Every lesion that a language model described, of studies with a final read. Raises NotAllowed."""
    row, endpoint, study = tables.language_answer, tables.language_endpoint.c, tables.study.c
    read = tables.read.c
    with db.read() as connection:
        require_permission(connection, actor, "compare_models")
        query = (
            select(row, endpoint.model, study.patient_hash)
            .join_from(row, tables.language_endpoint, row.c.endpoint_id == endpoint.id)
            .join(tables.study, row.c.study_id == study.id)
            .where(
                row.c.state == DONE, row.c.mark.is_not(None), study.deleted_at.is_(None),
                exists().where(read.study_id == study.id, read.kind == "final"),
            )
            .order_by(row.c.id)
        )  # fmt: skip
        found = connection.execute(query).all()
        words = _of_readers(connection, sorted({one.study_id for one in found}))
    made = []
    for one in found:
        if one.words:
            mark = Mark.from_json(one.mark)
            said = {kind: _said_there(words.get((one.study_id, kind), []), mark) for kind in ("first", "final")}
            made.append(
                Compared(one.model, one.patient_hash or one.study_id, dict(one.measured or {}), dict(one.words), **said)
            )
    return made


def _of_readers(
    connection: Connection, study_ids: list[str]
) -> dict[tuple[str, str], list[tuple[Mark, Mapping[str, str]]]]:
    """(study, kind of read) -> marks of masses with their words, the newest read last."""
    read = tables.read.c
    query = select(read.id, read.study_id, read.kind).where(read.study_id.in_(study_ids)).order_by(read.id)
    rows = connection.execute(query).all()
    annotations = annotations_of(connection, [row.id for row in rows])
    words: dict[tuple[str, str], list[tuple[Mark, Mapping[str, str]]]] = {}
    for row in rows:
        for finding in annotations[row.id].findings if row.id in annotations else ():
            if finding.type == "mass" and finding.modality is Modality.ULTRASOUND and finding.descriptors:
                place = words.setdefault((row.study_id, row.kind), [])
                place += [(mark, finding.descriptors) for mark in finding.marks]
    return words


def _said_there(said: list[tuple[Mark, Mapping[str, str]]], mark: Mark) -> Mapping[str, str]:
    """The words of the last finding that lies over a mark."""
    return next((dict(words) for own, words in reversed(said) if lies_over(own, mark)), {})


def _insert(connection: Connection, endpoint_id: int, study_id: str, image_id: str, number: int) -> None:
    values: dict[str, Any] = {"endpoint_id": endpoint_id, "study_id": study_id, "image_id": image_id}
    values |= {"number": number, "state": QUEUED, "message": _WAITS, "attempts": 0, "tries": 0}
    connection.execute(insert(tables.language_answer).values(**values, created_at=tables.now()))


def _write(db: Database, lease: Lease, values: Mapping[str, Any]) -> bool:
    table = tables.language_answer
    with db.begin() as connection:
        is_held = ANSWERS.is_held(connection, lease)
        if is_held:
            connection.execute(update(table).where(table.c.id == lease.id).values(**values))
    return is_held


def _needs_look(row: Row[Any]) -> bool:
    return bool((row.result or {}).get("needs_look"))


def _answer(row: Row[Any]) -> LanguageAnswer:
    described = Described(
        Mark.from_json(row.mark) if row.mark else None, dict(row.measured or {}), dict(row.words or {}),
        row.served_model or "", row.prompt_sha256 or "", row.sent_sha256 or "",
    )  # fmt: skip
    return LanguageAnswer(
        row.id, row.image_id, row.number, row.model, row.state, row.message, _needs_look(row), described
    )
