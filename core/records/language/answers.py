"""What the site's language model said of outlined lesions: the rows of a queue, and answers once they are there.

A picture is asked about when a read of its study is saved, never before, and only those that were saved since the site
permitted it: within the network's outlines, and within the masses that a reader drew where the network outlined none.
What comes back is sealed like every model's answer: whoever may not see the AI's answer yet may not see it. It is kept
beside what was measured within the same outline and is part of no score.

The masses that readers drew on ultrasound pictures, and which of them a language model is asked about.

Each mark of such a mass gets a row in the queue (`core.records.language.answers`), once the network's outlines of the
study have theirs. It waits to be asked where nothing that was asked about lies there; else it says so, and is asked
about when its reader wants that (`answers.ask_again`).
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from sqlalchemy import Connection, Row, exists, insert, select, update

from core.errors import Conflict, NotFound
from core.findings.finding import MARKS_MOST
from core.findings.marks import Mark, has_pixels, lies_over
from core.records.audit import trail
from core.records.database import tables
from core.records.database.db import Database
from core.records.database.locks import AdvisoryLock, hold
from core.records.language.endpoint import Endpoint, permitted_id, require_permitted
from core.records.people.permissions import Actor, Person, acting
from core.records.queue import CANCELLED, DEAD, DONE, FAILED, OPEN, QUEUED, Lease, Queue
from core.records.reads import answers_seen
from core.records.reads.annotations import annotations_of
from core.records.reads.reads import READ_FIRST, is_ai_visible, studies_with_others_visible
from core.records.reads.rows import find_study, image_of
from core.types import Image, Modality

ENQUEUED_AT_ONCE = 50
DRAWN_FROM = 1000
"""Numbers from here on are of masses that a reader drew (`drawn_number`), those below of the network's outlines."""
AGAIN_MOST = 3
"""How often people can have one outline asked about again."""
_WAITS = "Waits to be asked."

ANSWERS = Queue(
    tables.language_answer, AdvisoryLock.LANGUAGE, kind="language model", subject="language answer",
    begins="Is being asked.", again="Waits to be asked again: the process that asked ended.", cancelled="Cancelled.",
    dead="It is not asked any more.", recorded=("study", "endpoint", "served_model", "prompt_sha256", "sent_sha256"),
)  # fmt: skip


@dataclass(frozen=True, slots=True)
class Asked:
    """What a row of the queue is about. number: of the outline, from 0. drawn: the mark that a reader drew; None of an
    outline of the network. looked_sha256: of the part of the picture in which somebody found no text; "" where nobody
    has looked."""

    study_id: str
    endpoint_id: int
    image: Image
    number: int
    drawn: Mark | None
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
    only once somebody has looked that no text is in the part. can_ask_again: nothing came of it, and it may be asked
    about once more (`ask_again`)."""

    id: int
    image_id: str
    number: int
    model: str
    state: str
    message: str
    needs_look: bool
    can_ask_again: bool
    described: Described

    @property
    def is_drawn(self) -> bool:
        """Whether a reader drew what it is about; else the network outlined it."""
        return self.number >= DRAWN_FROM


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
            insert_row(connection, endpoint.id, one.study_id, one.id, 0)
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
        row.study_id, row.endpoint_id, image_of(stored, db, None), row.number,
        Mark.from_json(row.mark) if row.number >= DRAWN_FROM else None, study.is_synthetic,
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
            insert_row(connection, row.endpoint_id, row.study_id, row.image_id, number)


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
    """The rows of a study, of the endpoint that answered last, in the order of the images and outlines; what a reader
    drew only for whoever may see that reader's reads.

    Raises NotAllowed, NotFound; Conflict while the AI's answer is hidden from this person.
    """
    row, endpoint, image = tables.language_answer, tables.language_endpoint.c, tables.image.c
    with acting(db.read(), actor, "see_ai") as (connection, person):
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
        found = _visible_to(connection, person, study, connection.execute(query).all())
        again = _can_ask_again(connection, db, study_id, found)
    if any(one.words for one in found) and study.reading_mode != READ_FIRST:  # else the reveal is written already
        answers_seen.record_answer_shown(db, actor, study_id)
    newest = {(one.image_id, one.number): one for one in found}
    return [_answer(one, can_ask_again=one.id in again) for one in newest.values()]


def look_for_text(db: Database, actor: Actor, row_id: int, part_sha256: str) -> None:
    """Somebody has looked at the part of the picture that would be sent, and no text is in it: just that one is sent.

    part_sha256: of the part that they were shown. Raises NotAllowed, NotFound; Conflict unless it waits for that.
    """
    table = tables.language_answer
    with acting(db.begin(), actor, "see_ai") as (connection, person):
        row = _row_to_change(connection, row_id)
        study = find_study(connection, row.study_id)
        is_theirs = is_ai_visible(connection, person, study) and _visible_to(connection, person, study, [row])
        if not is_theirs or row.state != FAILED or not _needs_look(row):
            raise Conflict("Nobody has to look at this picture before it is sent.")
        require_permitted(connection, db.settings, row.endpoint_id)
        looked = {"looked_by": person.id, "sent_sha256": part_sha256}
        connection.execute(update(table).where(table.c.id == row_id).values(**_FRESH, **looked))
        trail.record(
            connection,
            person.id,
            "look for text",
            f"study {row.study_id}",
            image=row.image_id,
            outline=row.number,
            part_sha256=part_sha256,
        )


def ask_again(db: Database, actor: Actor, row_id: int) -> None:
    """Have a lesion asked about once more of which nothing came, or within an outline that was not asked about because
    another one lies there. Raises NotAllowed, NotFound; Conflict unless that is so, or once people asked `AGAIN_MOST`
    times.
    """
    table = tables.language_answer
    with acting(db.begin(), actor, "see_ai") as (connection, person):
        row = _row_to_change(connection, row_id)
        study = find_study(connection, row.study_id)
        if not is_ai_visible(connection, person, study) or not _visible_to(connection, person, study, [row]):
            raise Conflict("The AI's answer is hidden until your first impression is saved and you ask for it.")
        require_permitted(connection, db.settings, row.endpoint_id)
        if row.id not in _can_ask_again(connection, db, row.study_id, [row]):
            raise Conflict("This lesion is not asked about again: it is asked about now, or it was asked too often.")
        connection.execute(update(table).where(table.c.id == row_id).values(**_FRESH))
        trail.record(
            connection, person.id, "ask again", f"study {row.study_id}", image=row.image_id, outline=row.number
        )


def _row_to_change(connection: Connection, row_id: int) -> Row[Any]:
    row = connection.execute(
        select(tables.language_answer).where(tables.language_answer.c.id == row_id).with_for_update()
    ).one_or_none()
    if row is None:
        raise NotFound("This picture is not asked about any more. Reload the page.")
    return row


def compared(db: Database, actor: Actor) -> list[Compared]:
    """Every lesion that a language model described, of studies with a final read. Raises NotAllowed."""
    row, endpoint, study = tables.language_answer, tables.language_endpoint.c, tables.study.c
    read = tables.read.c
    with acting(db.read(), actor, "compare_models") as (connection, _):
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
    for one in _each_lesion_once(found):
        if one.words:
            mark = Mark.from_json(one.mark)
            said = {kind: _said_there(words.get((one.study_id, kind), []), mark) for kind in ("first", "final")}
            made.append(
                Compared(one.model, one.patient_hash or one.study_id, dict(one.measured or {}), dict(one.words), **said)
            )
    return made


def _each_lesion_once(rows: Sequence[Row[Any]]) -> Iterable[Row[Any]]:
    """Without those in whose place the same model described a lesion later, within an outline that a reader drew."""
    latest: list[tuple[Row[Any], Mark]] = []
    for row in reversed(rows):
        mark = Mark.from_json(row.mark)
        is_known = any(
            (row.image_id, row.endpoint_id) == (one.image_id, one.endpoint_id)
            and max(row.number, one.number) >= DRAWN_FROM
            and lies_over(mark, other)
            for one, other in latest
            if one.words
        )
        if not is_known:
            latest.append((row, mark))
    return [row for row, _ in reversed(latest)]


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


_FRESH: Mapping[str, Any] = {
    "state": QUEUED, "message": _WAITS, "attempts": 0, "tries": 0, "due_at": None, "ended_at": None, "result": None,
}  # fmt: skip


def drawn_number(finding_id: int, place: int) -> int:
    """The number of a mass that a reader drew, by one of its finding's marks. place: of the mark, from 0."""
    return DRAWN_FROM + finding_id * MARKS_MOST + place


def drawn_finding(number: int) -> int:
    """The id of the finding that a row with this number is about."""
    return (number - DRAWN_FROM) // MARKS_MOST


def insert_row(
    connection: Connection, endpoint_id: int, study_id: str, image_id: str, number: int, **more: Any
) -> None:
    """A row that waits to be asked, unless `more`, which are columns, says otherwise."""
    values: dict[str, Any] = {"endpoint_id": endpoint_id, "study_id": study_id, "image_id": image_id}
    values |= {"number": number, "state": QUEUED, "message": _WAITS, "attempts": 0, "tries": 0, **more}
    connection.execute(insert(tables.language_answer).values(**values, created_at=tables.now()))


def _visible_to(connection: Connection, person: Person, study: Row[Any], rows: Sequence[Row[Any]]) -> list[Row[Any]]:
    """Those that tell this person of no read that they may not see."""
    drawn = {drawn_finding(row.number) for row in rows if row.number >= DRAWN_FROM}
    if not drawn or study.id in studies_with_others_visible(connection, person, [study]):
        return list(rows)
    finding, read = tables.finding.c, tables.read.c
    query = (
        select(finding.id)
        .join_from(tables.finding, tables.read, finding.read_id == read.id)
        .where(finding.id.in_(drawn), read.person_id == person.id)
    )
    own = set(connection.execute(query).scalars())
    return [row for row in rows if row.number < DRAWN_FROM or drawn_finding(row.number) in own]


def _can_ask_again(connection: Connection, db: Database, study_id: str, rows: Iterable[Row[Any]]) -> Collection[int]:
    """Ids of the rows that may be asked about once more."""
    permitted = permitted_id(connection, db.settings)
    audit = tables.audit.c
    query = select(audit.detail).where(audit.action == "ask again", audit.subject == f"study {study_id}")
    asked = [(one["image"], one["outline"]) for one in connection.execute(query).scalars()]
    return {
        row.id
        for row in rows
        if row.endpoint_id == permitted and row.state in (FAILED, CANCELLED, DEAD) and not _needs_look(row)
        and asked.count((row.image_id, row.number)) < AGAIN_MOST
    }  # fmt: skip


def _write(db: Database, lease: Lease, values: Mapping[str, Any]) -> bool:
    table = tables.language_answer
    with db.begin() as connection:
        is_held = ANSWERS.is_held(connection, lease)
        if is_held:
            connection.execute(update(table).where(table.c.id == lease.id).values(**values))
    return is_held


def _needs_look(row: Row[Any]) -> bool:
    return bool((row.result or {}).get("needs_look"))


def _answer(row: Row[Any], *, can_ask_again: bool) -> LanguageAnswer:
    described = Described(
        Mark.from_json(row.mark) if row.mark else None, dict(row.measured or {}), dict(row.words or {}),
        row.served_model or "", row.prompt_sha256 or "", row.sent_sha256 or "",
    )  # fmt: skip
    return LanguageAnswer(
        row.id, row.image_id, row.number, row.model, row.state, row.message, _needs_look(row), can_ask_again, described
    )


NO_REGION = "A point, or a mark on another frame than the models read, is not asked about."
THERE_ALREADY = "This lesion was asked about within another outline."


def enqueue_drawn(db: Database, endpoint: Endpoint) -> int:
    """Rows for the masses that readers drew since this was permitted; how many of them wait to be asked."""
    if endpoint.permitted_at is None:
        return 0
    query = _without_row(endpoint)
    with db.read() as connection:
        if connection.execute(query.limit(1)).first() is None:
            return 0
    n_waiting = 0
    with db.begin() as connection:
        hold(connection, AdvisoryLock.LANGUAGE)
        require_permitted(connection, db.settings, endpoint.id)
        for finding in connection.execute(query).all():
            for values in _rows_of(connection, endpoint.id, finding):
                insert_row(connection, endpoint.id, finding.study_id, **values)
                n_waiting += values["state"] == QUEUED
    return n_waiting


def _without_row(endpoint: Endpoint) -> Any:
    """The masses of reads since the permission whose first mark has no row yet, of studies whose network's outlines
    were all looked at: until then nobody knows what lies where."""
    read, study, row, image = tables.read.c, tables.study.c, tables.language_answer.c, tables.image.c
    finding: Any = tables.finding.c
    has_row = exists().where(row.endpoint_id == endpoint.id, row.number == drawn_number(finding.id, 0))
    of_network = (row.endpoint_id == endpoint.id, row.number < DRAWN_FROM)
    is_awaited = exists().where(row.study_id == study.id, *of_network, row.state.in_(OPEN), row.tries == 0)
    is_due = exists().where(
        image.study_id == study.id, image.modality == Modality.ULTRASOUND.value, image.pixels_removed_at.is_(None),
        ~exists().where(row.image_id == image.id, *of_network),
    )  # fmt: skip
    return (
        select(tables.finding, read.person_id)
        .join_from(tables.finding, tables.read, finding.read_id == read.id)
        .join(tables.study, finding.study_id == study.id)
        .where(
            finding.type == "mass", finding.detail["modality"].as_string() == Modality.ULTRASOUND.value,
            read.created_at >= endpoint.permitted_at, study.deleted_at.is_(None),
            study.is_reader_study_case.is_(False), ~has_row, ~is_awaited, ~is_due,
        )
        .order_by(finding.id)
        .limit(ENQUEUED_AT_ONCE)
    )  # fmt: skip


def _rows_of(connection: Connection, endpoint_id: int, finding: Row[Any]) -> Iterator[Mapping[str, Any]]:
    """The columns of a row for each mark of a mass. The first has one in any case: it says that the mass was seen."""
    image = tables.image
    images = connection.execute(select(image).where(image.c.study_id == finding.study_id)).all()
    by_file = {(one.sha256, one.frame): one.id for one in images}
    any_of_file = {one.sha256: one.id for one in images}
    for place, stored in enumerate(finding.marks):
        mark = Mark.from_json(stored)
        image_id = by_file.get((mark.image_sha256, mark.frame))
        is_region = mark.kind in ("ellipse", "outline") and has_pixels(mark) and image_id is not None
        if not is_region and place > 0:
            continue
        image_id = image_id or any_of_file.get(mark.image_sha256, images[0].id)
        values = {"image_id": image_id, "number": drawn_number(finding.id, place), "mark": mark.to_json()}
        if is_region and not _is_there_already(connection, endpoint_id, image_id, finding, mark):
            yield {**values, "state": QUEUED}
        else:
            message = THERE_ALREADY if is_region else NO_REGION
            yield {**values, "state": CANCELLED, "message": message, "ended_at": tables.now()}


def _is_there_already(connection: Connection, endpoint_id: int, image_id: str, drawn: Row[Any], mark: Mark) -> bool:
    """Whether an outline of the network, or one that the same person drew, lies there and was asked about. Of another
    reader's it must not be said: who forms an impression of their own does not learn where others saw something."""
    row, finding, read = tables.language_answer.c, tables.finding.c, tables.read.c
    of_person = (
        select(finding.id)
        .join_from(tables.finding, tables.read, finding.read_id == read.id)
        .where(finding.study_id == drawn.study_id, read.person_id == drawn.person_id)
    )
    own = set(connection.execute(of_person).scalars())
    query = select(row.number, row.mark).where(
        row.endpoint_id == endpoint_id, row.image_id == image_id, row.state != CANCELLED
    )
    return any(
        stored is not None
        and (number < DRAWN_FROM or drawn_finding(number) in own)
        and lies_over(Mark.from_json(stored), mark)
        for number, stored in connection.execute(query)
    )
