"""Results on their way to archives: a row for each read, kind, archive and image, written with the read it comes from.

The row is what a result is now. It is done only when the archive has shown that it holds the same content; what an
archive does not take now waits and is tried again, for as long as it takes.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from sqlalchemy import Connection, Row, Select, insert, or_, select, update

from core.errors import Conflict, NotFound
from core.findings.finding import NO_ANNOTATIONS, Annotations
from core.findings.marks import SHOWING
from core.records.audit import trail
from core.records.database import tables
from core.records.database.db import Database
from core.records.database.locks import AdvisoryLock, hold
from core.records.people.permissions import Actor, acting
from core.records.queue import CANCELLED, DONE, FAILED, OPEN, QUEUED, RUNNING, Queue
from core.records.reads.annotations import annotations_of
from core.records.reads.reading_leases import is_double_read
from core.records.reads.rows import arbiters_of, find_study
from core.types import Modality

RESULT_KINDS: Mapping[str, str] = {
    "sr": "Structured report (TID 1500)", "pdf": "Report as PDF", "sc": "Marked pictures (secondary capture)",
    "pr": "Marks over the pictures (presentation state)", "seg": "Outlines (segmentation)",
    "cad": "Accepted marks of models (mammography CAD)",
}  # fmt: skip
"""What can be sent, with its name on screen."""
MARKS_SENT: Mapping[str, tuple[str, ...]] = {"sc": SHOWING, "pr": SHOWING, "seg": ("outline",)}
"""Kinds that are an object for each image, with the kinds of mark of findings that one is made for. The others are one
object for the whole read."""
REPLACED = "The final read came before it was sent."

RESULTS = Queue(
    tables.outbox, AdvisoryLock.RESULTS, kind="result", subject="result", begins="Is being sent.",
    again="Waits to be sent again: the process that sent it ended.", cancelled="Cancelled.",
    dead="Send it again by hand.", recorded=("archive", "kind", "read", "image"),
)  # fmt: skip


@dataclass(frozen=True, slots=True)
class OutboxRow:
    """One result. state: of the queue. tries: how often the archive did not take it. due_at: when it is tried again.

    image: number of the image that it is of, from 1; 0 for the whole read. read_kind: "final", or "first" for what is
    sent unverified.
    """

    id: int
    study_id: str
    archive_name: str
    kind: str
    image: int
    read_kind: str
    state: str
    message: str
    tries: int
    created_at: datetime
    due_at: datetime | None
    ended_at: datetime | None


def enqueue_results(connection: Connection, study_id: str, read_id: int) -> int:
    """Put what the study's archive gets of this read into the outbox, in the transaction of the read; how many.

    None for a study that came from no archive, or whose archive takes no results or is named no more. A first
    impression goes only where the site sends preliminary results, and none of a double reading, whose second reader
    would find it in the archive. What waits of a first impression is not sent any more once the final read is saved.
    """
    read = connection.execute(select(tables.read).where(tables.read.c.id == read_id)).one()
    supersedes = [*superseded_reads(connection, read)]
    if read.kind == "final":
        _withdraw(connection, supersedes)
    elif is_double_read(connection, study_id):
        return 0
    source, archive = tables.source_identity, tables.archive
    query = (
        select(archive.c.id, archive.c.sends, archive.c.sends_preliminary)
        .join_from(source, archive, source.c.archive_id == archive.c.id)
        .where(source.c.study_id == study_id, archive.c.removed_at.is_(None))
    )
    row = connection.execute(query).one_or_none()
    if row is None:
        return 0
    chosen = row.sends if read.kind == "final" else row.sends_preliminary
    n = 0
    for kind in (kind for kind in RESULT_KINDS if kind in chosen):
        for number in _images_of(connection, read, supersedes, kind, row.id):
            values = {"study_id": study_id, "read_id": read_id, "archive_id": row.id, "kind": kind, "image": number}
            values |= {"state": QUEUED, "message": "Waits to be sent.", "attempts": 0, "tries": 0}
            connection.execute(insert(tables.outbox).values(**values, sop_instance_uid="", created_at=tables.now()))
            n += 1
    return n


def superseded_reads(connection: Connection, read: Row[Any]) -> dict[int, str]:
    """Id -> kind of the earlier reads of the study that a read replaces, oldest first: the same reader's, and all final
    ones for who arbitrates between them. read: a row of the table."""
    reads = tables.read.c
    is_own = reads.person_id == read.person_id
    is_arbiter = read.person_id in arbiters_of(connection, read.study_id)
    is_replaced = or_(is_own, reads.kind == "final") if is_arbiter else is_own
    earlier = select(reads.id, reads.kind).where(reads.study_id == read.study_id, reads.id < read.id, is_replaced)
    return {row.id: row.kind for row in connection.execute(earlier.order_by(reads.id))}


def sent_before(connection: Connection, supersedes: Sequence[int], archive_id: int, kind: str) -> list[Row[Any]]:
    """The results of this form that went, or go, of those reads, oldest first: read_id, image, state, commitment."""
    outbox = tables.outbox.c
    query = select(outbox.read_id, outbox.image, outbox.state, outbox.commitment).where(
        outbox.read_id.in_(supersedes), outbox.archive_id == archive_id, outbox.kind == kind,
        outbox.state.not_in((FAILED, CANCELLED)),
    )  # fmt: skip
    return [*connection.execute(query.order_by(outbox.id))]


def _withdraw(connection: Connection, supersedes: Sequence[int]) -> None:
    """Preliminary results that were not tried are not sent any more. Of the others the archive is asked first, when it
    is their turn."""
    outbox, read = tables.outbox, tables.read.c
    preliminary = select(read.id).where(read.id.in_(supersedes), read.kind == "first")
    hold(connection, AdvisoryLock.RESULTS)
    connection.execute(
        update(outbox)
        .where(outbox.c.read_id.in_(preliminary), outbox.c.state == QUEUED, outbox.c.payload.is_(None))
        .values(state=CANCELLED, message=REPLACED, ended_at=tables.now(), due_at=None)
    )


def _images_of(
    connection: Connection, read: Row[Any], supersedes: Sequence[int], kind: str, archive_id: int
) -> list[int]:
    """Numbers of the images that an object of this kind is made for: those with a mark, and those that had one in an
    object that this read replaces, so that what is taken back is replaced too."""
    before = {row.image for row in sent_before(connection, supersedes, archive_id, kind)}
    return sorted(_own_images(connection, read, kind) | before)


def says_something(connection: Connection, row: Row[Any]) -> bool:
    """Whether a result has something to say of its own, and is not there to take back alone. row: of the table."""
    read = connection.execute(select(tables.read).where(tables.read.c.id == row.read_id)).one()
    return row.image in _own_images(connection, read, row.kind)


def _own_images(connection: Connection, read: Row[Any], kind: str) -> set[int]:
    """Numbers of the images that the read itself has something for in an object of this kind."""
    if kind not in (*MARKS_SENT, "cad"):
        return {0}
    annotations = annotations_of(connection, [read.id]).get(read.id, NO_ANNOTATIONS)
    if kind == "cad":
        return {0} if _accepted_on_mammograms(connection, read, annotations) else set()
    image = tables.image.c
    positions = {
        (row.sha256, row.frame): row.position
        for row in connection.execute(select(tables.image).where(image.study_id == read.study_id))
    }
    marks = [mark for finding in annotations.findings for mark in finding.marks if mark.kind in MARKS_SENT[kind]]
    shown = ((mark.image_sha256, mark.frame) for mark in marks)
    return {positions[one] + 1 for one in shown if one in positions}  # marks on other frames go in report and SR


def _accepted_on_mammograms(connection: Connection, read: Row[Any], annotations: Annotations) -> bool:
    """Whether a model's proposal was taken as it was in a mammogram."""
    image = tables.image.c
    of_breast = select(image.sha256).where(
        image.study_id == read.study_id, image.modality == Modality.MAMMOGRAPHY.value
    )
    mammograms = set(connection.execute(of_breast).scalars())
    return any(one.answer == "accepted" and one.mark.image_sha256 in mammograms for one in annotations.proposals)


def results_of(db: Database, actor: Actor, study_id: str) -> list[OutboxRow]:
    """What of the study went or goes to its archive, newest first. Raises NotAllowed, NotFound."""
    with acting(db.read(), actor, "send_result") as (connection, _):
        find_study(connection, study_id)
        rows = connection.execute(_rows().where(tables.outbox.c.study_id == study_id)).mappings().all()
    return [OutboxRow(**row) for row in rows]


def recent_results(db: Database, actor: Actor, *, limit: int = 50) -> list[OutboxRow]:
    """The newest results of the site, those on their way first. Raises NotAllowed."""
    with acting(db.read(), actor, "send_result") as (connection, _):
        is_open = tables.outbox.c.state.in_(OPEN)
        waiting = connection.execute(_rows().where(is_open).limit(limit)).mappings().all()
        others = connection.execute(_rows().where(~is_open).limit(limit)).mappings().all()
    return [OutboxRow(**row) for row in [*waiting, *others][:limit]]


def send_again(db: Database, actor: Actor, row_id: int) -> None:
    """Try it now, whatever became of it before: the same object under the same number, so that an archive that holds
    it already does not get another. Raises NotAllowed, NotFound; Conflict while it is being sent.
    """
    outbox = tables.outbox
    with acting(db.begin(), actor, "send_result") as (connection, person):
        hold(connection, AdvisoryLock.RESULTS)
        row = connection.execute(select(outbox).where(outbox.c.id == row_id).with_for_update()).one_or_none()
        if row is None:
            raise NotFound("There is no such result. Reload the page.")
        if row.state == RUNNING:
            raise Conflict("This result is being sent already.")
        if row.state != DONE and is_replaced(connection, row):
            raise Conflict("A later read of this study replaced this one. Send the results of that one again instead.")
        fresh = {"state": QUEUED, "message": "Waits to be sent.", "attempts": 0, "tries": 0, "due_at": None}
        fresh |= {"cancel_asked_at": None, "ended_at": None, "result": None}
        fresh |= {"commitment": None, "commitment_uid": None}  # whatever was said of it before, it is asked anew
        connection.execute(update(outbox).where(outbox.c.id == row_id).values(**fresh))
        trail.record(connection, person.id, "send again", f"result {row_id}", study=row.study_id, state=row.state)


def is_replaced(connection: Connection, row: Row[Any]) -> bool:
    """Whether a later read takes the place of a result's read: no result of the later one refers to this, so that an
    archive which gets it now would take it for the newest."""
    reads = tables.read.c
    later = select(tables.read).where(reads.study_id == row.study_id, reads.id > row.read_id)
    return any(row.read_id in superseded_reads(connection, one) for one in connection.execute(later).all())


def end_with_restore(connection: Connection) -> tuple[list[str], int]:
    """A restored site sends nothing to an archive and fetches nothing by rules before an administrator says so there:
    it may be a copy on another machine, beside the site that goes on. (names of the archives that were used so, how
    many results waited)."""
    archive, outbox, arrival = tables.archive, tables.outbox, tables.arrival
    by_rule = (arrival.c.asked_by != "archive") & arrival.c.state.in_(OPEN)  # not asked for by a person
    coming = set(connection.execute(select(arrival.c.archive_id).where(by_rule)).scalars())
    said = "The site was restored from a backup before this was fetched. Fetch it again if it is wanted here."
    connection.execute(update(arrival).where(by_rule).values(state=CANCELLED, message=said, ended_at=tables.now()))
    connection.execute(update(arrival).values(priors_due_at=None))
    names = []
    for row in connection.execute(select(archive).where(archive.c.removed_at.is_(None)).order_by(archive.c.name)).all():
        if not (row.sends or row.sends_preliminary or row.watch or row.id in coming):
            continue
        names.append(row.name)
        nothing: dict[str, Any] = {"sends": [], "sends_preliminary": [], "watch": None}
        others = {"watch_by": None, "watch_state": None, "looked_at": None}
        connection.execute(update(archive).where(archive.c.id == row.id).values(**nothing, **others))
        before = {name: getattr(row, name) for name in nothing}
        trail.record(
            connection, None, "change archive", f"archive {row.id}", before=before, after=nothing, by="restore"
        )
    said = "The site was restored from a backup before this was sent. Send it again if the archive does not have it."
    ended = {"state": CANCELLED, "message": said, "due_at": None, "ended_at": tables.now()}
    stopped = connection.execute(update(outbox).where(outbox.c.state.in_(OPEN)).values(**ended))
    return names, stopped.rowcount


def _rows() -> Select[tuple[object, ...]]:
    outbox, archive = tables.outbox.c, tables.archive.c
    return (
        select(
            outbox.id, outbox.study_id, archive.name.label("archive_name"), outbox.kind, outbox.image,
            tables.read.c.kind.label("read_kind"), outbox.state, outbox.message, outbox.tries, outbox.created_at,
            outbox.due_at, outbox.ended_at,
        )
        .join_from(tables.outbox, tables.archive, outbox.archive_id == archive.id)
        .join(tables.read, outbox.read_id == tables.read.c.id)
        .order_by(outbox.id.desc())
    )  # fmt: skip
