"""Storage commitment, asked of an archive (PS3.4 Annex J): whether it answers for keeping a result.

Asked by N-ACTION; the answer is an N-EVENT-REPORT on the same association or, hours later, on one that the archive asks
for, which `core.archive.listener` takes. An archive that does not offer it is believed by what it shows alone, and the
result says so.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import timedelta
from typing import TYPE_CHECKING, Any

from sqlalchemy import select, update

from core.archive.archives import Archive
from core.archive.association import NotOffered, associated
from core.archive.results.content import uid_of
from core.archive.results.dicom_object import dataset_of, reference
from core.errors import ArchiveAway
from core.records.archives.outbox import RESULTS
from core.records.database import tables
from core.records.database.db import Database
from core.records.queue import LOST, QUEUED, Ended, Lease

if TYPE_CHECKING:
    from pydicom.dataset import Dataset
    from pynetdicom.events import Event

log = logging.getLogger(__name__)

PUSH_MODEL, PUSH_INSTANCE = "1.2.840.10008.1.20.1", "1.2.840.10008.1.20.1.1"
"""Storage Commitment Push Model SOP Class, and its one instance (PS3.4 J.3)."""
TAKEN, ASKED, COMMITTED = "taken", "asked", "committed"
"""What is known of a result beside its state: the archive said that it took it, was asked to answer for it, did."""
ANSWER_SECONDS = 3.0
"""How long an answer is waited for on the association that asked."""
ANSWER_HOURS = 24
"""After which an archive that said nothing is asked again."""
REASONS: Mapping[int, str] = {
    0x0110: "processing failure", 0x0112: "it does not have the object", 0x0119: "another class than the object's",
    0x0122: "it does not take this class", 0x0131: "the number was used before", 0x0213: "no room",
}  # fmt: skip
"""Failure Reason of an object (PS3.3 C.14)."""
DONE, UNKNOWN = 0x0000, 0x0115
"""Statuses of our answer to an N-EVENT-REPORT (PS3.7 10.3.1): taken; a transaction that nobody here began."""


@dataclass(frozen=True, slots=True)
class Report:
    """What an archive said of a transaction. failed: SOP instance UID -> Failure Reason."""

    transaction_uid: str
    committed: frozenset[str]
    failed: Mapping[str, int]


def settled(db: Database, lease: Lease, archive: Archive, dataset: Dataset) -> str:
    """How a result that the archive shows counts as delivered, in a sentence. Raises ArchiveAway as long as it does not
    answer for it, and ArchiveRefused; Ended where the row is not this lease's any more.
    """
    shown = f"Delivered: {archive.name} shows it, with the content that was sent"
    if not archive.commits:
        return f"{shown}."
    row = _row(db, lease.id)
    is_late = row.commitment_asked_at and row.commitment_asked_at < tables.now() - timedelta(hours=ANSWER_HOURS)
    if row.commitment == ASKED and not is_late:
        raise ArchiveAway(_WAITS.format(name=archive.name))
    if row.commitment not in (None, TAKEN, ASKED, COMMITTED):
        note(db, lease, commitment=None)
        raise ArchiveAway(f"{archive.name} does not answer for it: {row.commitment}. It is asked again.")
    if row.commitment != COMMITTED:
        try:
            _ask(db, lease, archive, dataset)
        except NotOffered:
            return f"{shown}. It offers no storage commitment, so nobody answers for it."
        row = _row(db, lease.id)
        if row.commitment != COMMITTED:
            raise ArchiveAway(_WAITS.format(name=archive.name))
    return f"{shown}, and has committed to keep it."


_WAITS = "{name} shows it and was asked to answer for it (storage commitment); its answer is awaited."


def record_report(db: Database, archive_id: int, report: Report) -> bool:
    """Note what an archive answered; False for a transaction that nobody here began with it."""
    outbox = tables.outbox
    with db.begin() as connection:
        query = select(outbox).where(
            outbox.c.commitment_uid == report.transaction_uid, outbox.c.archive_id == archive_id
        )
        row = connection.execute(query.with_for_update()).one_or_none()
        if row is None:
            return False
        if row.sop_instance_uid in report.committed:
            said = COMMITTED
        else:
            reason = report.failed.get(row.sop_instance_uid)
            said = REASONS.get(reason or 0, f"failure reason {reason:04X}" if reason else "it did not name the object")
        values: dict[str, Any] = {"commitment": said}
        if row.state == QUEUED:
            values["due_at"] = tables.now()
        connection.execute(update(outbox).where(outbox.c.id == row.id).values(**values))
    return True


def on_report(event: Event, db: Database, archive_id: int) -> tuple[int, None]:
    """For pynetdicom: an N-EVENT-REPORT of an archive, on an association of ours or its own."""
    try:
        report = read_report(event.event_information)
    except (AttributeError, TypeError, ValueError, KeyError, NotImplementedError):
        return UNKNOWN, None
    return (DONE if record_report(db, archive_id, report) else UNKNOWN), None


def read_report(information: Dataset) -> Report:
    """Raises AttributeError, ValueError and their like for what is no report (PS3.4 J.3.3)."""
    return Report(
        str(information.TransactionUID),
        frozenset(str(one.ReferencedSOPInstanceUID) for one in information.get("ReferencedSOPSequence") or ()),
        {
            str(one.ReferencedSOPInstanceUID): int(one.FailureReason)
            for one in information.get("FailedSOPSequence") or ()
        },
    )


def _ask(db: Database, lease: Lease, archive: Archive, dataset: Dataset) -> None:
    """Raises NotOffered, ArchiveAway, ArchiveRefused."""
    from pynetdicom import evt

    row = lease.row
    transaction = uid_of(db.site_key, "commitment", row.id, row.tries, tables.now().isoformat())
    handlers = [(evt.EVT_N_EVENT_REPORT, on_report, [db, archive.id])]
    with associated(archive, db.settings, PUSH_MODEL, handlers=handlers) as association:
        # Before it is asked: the answer may be here before the response is.
        note(db, lease, commitment=ASKED, commitment_uid=transaction, commitment_asked_at=tables.now())
        references = [(str(dataset.SOPClassUID), str(dataset.SOPInstanceUID))]
        status, _ = association.send_n_action(_request(transaction, references), 1, PUSH_MODEL, PUSH_INSTANCE)
        if status.get("Status") != 0:
            note(db, lease, commitment=None)
            raise ArchiveAway(f"{archive.name} did not take the request to answer for it. It is asked again.")
        until = time.monotonic() + ANSWER_SECONDS
        while time.monotonic() < until and association.is_established and _row(db, lease.id).commitment == ASKED:
            time.sleep(0.1)


def _request(transaction: str, references: Sequence[tuple[str, str]]) -> Dataset:
    return dataset_of(
        TransactionUID=transaction, ReferencedSOPSequence=[reference(sop_class, uid) for sop_class, uid in references]
    )


def _row(db: Database, row_id: int) -> Any:
    outbox = tables.outbox.c
    with db.read() as connection:
        return connection.execute(
            select(outbox.commitment, outbox.commitment_asked_at).where(outbox.id == row_id)
        ).one()


def note(db: Database, lease: Lease, **values: Any) -> None:
    """Write these columns of a result. Raises Ended where the row is not this lease's any more."""
    if RESULTS.heartbeat(db, lease, values) == LOST:
        raise Ended
