"""Results on their way: made once, handed over until the archive shows that it holds them, and never twice unnoticed.

A result is made from the read it belongs to and stored sealed, so that every try hands over the same bytes under the
same number. Before it is handed over the archive is asked for that number, and afterwards again: an archive may answer
"success" and have dropped it, or answer nothing and have it. What it holds is compared with what was sent.
"""

from __future__ import annotations

import hashlib
import logging
import os
import socket
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from copy import deepcopy
from dataclasses import replace
from datetime import timedelta
from functools import partial
from io import BytesIO
from typing import TYPE_CHECKING, Any

from sqlalchemy import Row, select, update

from core.archive import arrivals, commitment, priors, watching
from core.archive.archives import Archive, archive_of, credentials_of
from core.archive.arrivals import wait_seconds
from core.archive.dicomweb import DicomWeb
from core.archive.results.cad_report import cad_report
from core.archive.results.content import ResultContent, gather, uid_of
from core.errors import AppError, ArchiveAway, ArchiveRefused, Conflict, NotFound, NotSaved, SiteFault, traceback_of
from core.periodic import repeated
from core.records import sealed
from core.records.archives.outbox import MARKS_SENT, RESULTS, is_replaced, says_something, sent_before
from core.records.database import tables
from core.records.database.db import Database
from core.records.queue import CANCELLED, DONE, FAILED, RUNNING, Ended, Lease
from core.records.reads.rows import image_of
from core.types import Image

if TYPE_CHECKING:
    from pydicom.dataset import Dataset

log = logging.getLogger(__name__)

PURPOSE = "result"
LOOK_SECONDS = 5.0
_TAKEN_LATER = "{name} took it, but does not show it yet. It is asked again."
_REPLACED = "The archive does not have it, and a later read of this study replaced it."
_TAKES_BACK = "The archive does not have what this would take back."


class _NotWanted(Exception):
    """What a result would say is overtaken; its text is a sentence on why."""


def send_next(db: Database, *, worker: str, machine: str, is_ending: Callable[[], bool] = lambda: False) -> bool:
    """Send the next result that is due; False when there is none."""
    lease = RESULTS.claim(db, worker=worker, machine=machine)
    if lease is None:
        return False
    with RESULTS.renewed(db, lease, is_ending=is_ending) as held:
        try:
            dataset = _made(db, lease)
            held.require()
            sentence = _deliver(db, lease, dataset)
        except Ended:
            RESULTS.hand_back(db, lease)
            return False
        except _NotWanted as overtaken:
            RESULTS.finish(db, lease, CANCELLED, str(overtaken))
            return True
        except (ArchiveAway, SiteFault, NotSaved) as away:
            _try_later(db, lease, str(away))  # where even that is not saved, its lease runs out
            return True
        except AppError as refused:
            RESULTS.finish(db, lease, FAILED, str(refused))
            return True
    row = lease.row
    result = {"archive": row.archive_id, "kind": row.kind, "read": row.read_id}
    if row.image:
        result["image"] = row.image
    RESULTS.finish(db, lease, DONE, sentence, result)
    return True


def content_sha256(dataset: Dataset) -> str:
    """Of what a result says: everything of it but what an archive may change by its own rules (patient, study, dates of
    storage), in the order of the tags and with lengths of one kind."""
    from pydicom.dataelem import DataElement
    from pydicom.dataset import Dataset
    from pydicom.filebase import DicomBytesIO
    from pydicom.filewriter import write_dataset

    ours = Dataset()
    for keyword in ("SOPClassUID", "SOPInstanceUID", "ContentSequence", "PixelData", "EncapsulatedDocument",
                    "CompletionFlag", "VerificationFlag", "PredecessorDocumentsSequence", "ReferencedInstanceSequence",
                    "RelatedSeriesSequence", "GraphicAnnotationSequence", "SegmentSequence"):  # fmt: skip
        if keyword in dataset:
            ours[keyword] = deepcopy(dataset[keyword])

    def with_length(_: Dataset, element: DataElement) -> None:
        """An archive may store sequences and their items with another kind of length than they came in (PS3.5 7.5)."""
        element.is_undefined_length = False
        for item in element.value if element.VR == "SQ" else ():
            item.is_undefined_length_sequence_item = False

    ours.walk(with_length)
    if "PixelData" in ours:
        ours["PixelData"].VR = "OW"  # an archive that answers in implicit VR cannot say which of the two it is
    buffer = DicomBytesIO()
    buffer.is_little_endian, buffer.is_implicit_VR = True, False
    write_dataset(buffer, ours)
    return hashlib.sha256(buffer.getvalue()).hexdigest()


def _deliver(db: Database, lease: Lease, dataset: Dataset) -> str:
    """How it was delivered, in a sentence. Raises ArchiveAway as long as the archive does not show it, or does not
    answer for it, ArchiveRefused where it never will, _NotWanted where it would come after the result that replaces it.
    """
    archive, web = _archive_of(db, lease.row)
    names = (str(dataset.StudyInstanceUID), str(dataset.SeriesInstanceUID), str(dataset.SOPInstanceUID))
    there = web.stored(*names)
    if there is None:
        with db.read() as connection:
            is_overtaken = is_replaced(connection, lease.row)
        if is_overtaken and lease.row.commitment != commitment.TAKEN:
            raise _NotWanted(_REPLACED)
        if not is_overtaken:
            web.store(dataset)
            commitment.note(db, lease, commitment=commitment.TAKEN)
            there = web.stored(*names)
    if there is None:
        raise ArchiveAway(_TAKEN_LATER.format(name=archive.name))
    if content_sha256(there) != content_sha256(dataset):
        raise ArchiveRefused(
            f"{archive.name} holds another object under the number of this result, and dropped this one. "
            "Tell whoever looks after the archive; an amendment of the read is sent under a number of its own."
        )
    return commitment.settled(db, lease, archive, dataset)


def _archive_of(db: Database, row: Row[Any]) -> tuple[Archive, DicomWeb]:
    with db.read() as connection:
        archive = archive_of(connection, row.archive_id)
    return archive, DicomWeb(archive, credentials_of(db.settings, archive.name))


def _made(db: Database, lease: Lease) -> Dataset:
    """The object of a row, as it was made at the first try."""
    from pydicom import dcmread

    with db.read() as connection:
        outbox = tables.outbox.c
        payload = connection.execute(select(outbox.payload).where(outbox.id == lease.id)).scalar_one()
    if payload is None:
        payload = sealed.seal(db.site_key, PURPOSE, _make(db, lease.row))
        if RESULTS.heartbeat(db, lease, {"payload": payload, "sop_instance_uid": _uid(db, lease.row)}) == "lost":
            raise Ended
    opened = sealed.unseal(db.site_key, PURPOSE, payload)
    if opened is None:
        raise Conflict("This result was written under another key of the site, so it cannot be sent.")
    return dcmread(BytesIO(opened))


def _make(db: Database, row: Row[Any]) -> bytes:
    """The bytes of a result as a DICOM file (PS3.10)."""
    content = gather(db, row.read_id)
    if not content.images:
        raise NotFound("None of the study's images came from the archive, so a result has nothing to refer to.")
    content = replace(content, predecessors=_predecessors(db, row, content))
    whole = BytesIO()
    try:
        dataset = _object(db, row, content)
        dataset.preamble = b"\0" * 128  # without it archives store what they cannot read again
        dataset.save_as(whole, enforce_file_format=True)
    except ValueError as error:  # of highdicom or pydicom, for what the image's own file says
        log.error("Result %s cannot be made:\n%s", row.id, traceback_of(error))
        raise Conflict(
            "This result cannot be made of what the image's file says. Send the read in another form, and tell whoever "
            "looks after SecondRead: the log says where it failed."
        ) from None
    return whole.getvalue()


def _predecessors(db: Database, row: Row[Any], content: ResultContent) -> tuple[tuple[str, str], ...]:
    """Series and SOP instance UID of what the archive has or took of this form of the reads that are replaced. Nothing
    else of them will come any more. Raises ArchiveAway while nobody can say; _NotWanted where nothing is left to say.
    """
    with db.read() as connection:
        before = sent_before(connection, (*content.preliminary, *content.supersedes), row.archive_id, row.kind)
    found = []
    for one in before:
        if one.image != row.image:
            continue
        if one.state == RUNNING:  # on another machine
            raise ArchiveAway("The result of an earlier read is being sent; this one follows it.")
        of = row.kind, one.read_id, one.image
        names = (_number(db, "series", *of), _number(db, "result", *of))
        is_there = one.state == DONE or one.commitment is not None
        if is_there or _archive_of(db, row)[1].has(content.study["StudyInstanceUID"], *names):
            found.append(names)
    with db.read() as connection:
        if not found and not says_something(connection, row):
            raise _NotWanted(_TAKES_BACK)
    return tuple(found)


def _object(db: Database, row: Row[Any], content: ResultContent) -> Dataset:
    """What the row's archive is to get."""
    from core.archive.results.encapsulated_report import encapsulated_report
    from core.archive.results.presentation_state import presentation_state
    from core.archive.results.secondary_capture import secondary_capture
    from core.archive.results.segmentation import segmentation
    from core.archive.results.structured_report import structured_report

    uids = {"series_uid": _number(db, "series", row.kind, row.read_id, row.image), "uid": _uid(db, row)}
    if row.kind == "pdf":
        return encapsulated_report(content, **uids)
    if row.kind == "cad":
        return cad_report(content, **uids)
    if row.kind not in MARKS_SENT:
        return structured_report(content, db.site_key, **uids)
    image = next((one for one in content.images if one.position == row.image - 1), None)
    if image is None:
        raise NotFound("This image did not come from the archive, so what is marked on it has nothing to refer to.")
    if row.kind == "pr":
        return presentation_state(content, image, db.site_key, **uids)
    if row.kind == "seg":
        return segmentation(content, image, db.site_key, **uids)
    return secondary_capture(content, image, _picture(db, image.id), **uids)


def _picture(db: Database, image_id: str) -> Image:
    with db.read() as connection:
        row = connection.execute(select(tables.image).where(tables.image.c.id == image_id)).one()
    if row.pixels_removed_at is not None:
        raise NotFound("The picture was removed by the site's policy before its marks were sent.")
    return image_of(row, db, None)


def _uid(db: Database, row: Row[Any]) -> str:
    return _number(db, "result", row.kind, row.read_id, row.image)


def _number(db: Database, what: str, kind: str, read_id: int, image: int) -> str:
    """The UID of a result, or of the series that it is in. image: as in the table."""
    return uid_of(db.site_key, what, kind, read_id, *([image] if image else []))


def _try_later(db: Database, lease: Lease, sentence: str) -> None:
    outbox = tables.outbox
    with db.begin() as connection:
        if not RESULTS.is_held(connection, lease):
            return
        connection.execute(update(outbox).where(outbox.c.id == lease.id).values(tries=outbox.c.tries + 1))
    RESULTS.postpone(db, lease, sentence, tables.now() + timedelta(seconds=wait_seconds(lease.row.tries)))


@contextmanager
def working(db: Database) -> Iterator[None]:
    """Archives are watched, studies fetched and results sent, each in a thread of its own, until the block ends."""
    ended: list[bool] = []
    machine = socket.gethostname()[:80]

    def work(step: Callable[..., bool], name: str) -> None:
        worker = f"{machine}:{os.getpid()}:{name}"
        while not ended and step(db, worker=worker, machine=machine, is_ending=lambda: bool(ended)):
            pass

    def look() -> None:
        while not ended and watching.look_at_next(db):
            pass

    def look_for_priors() -> None:
        while not ended and priors.look_for_next(db):
            pass

    with (
        repeated("watching archives", look, lambda: LOOK_SECONDS),
        repeated("looking for earlier exams", look_for_priors, lambda: LOOK_SECONDS),
        repeated("fetching from archives", partial(work, arrivals.process_next, "arrivals"), lambda: LOOK_SECONDS),
        repeated("sending to archives", partial(work, send_next, "results"), lambda: LOOK_SECONDS),
    ):
        try:
            yield
        finally:
            ended.append(True)
