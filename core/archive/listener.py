"""What archives send by DICOM messages (C-STORE, PS3.4 B; C-ECHO, A): a process of its own takes it, and nothing else.

"Success" is answered once the object lies whole on the disk. When nothing more came of an exam for `QUIET_SECONDS`, a
study is made of it by the queue of arrivals, through the door of an upload. Who may send is asked of the database for
each association. What archives answer to our own requests for storage commitment comes here too; nobody is offered it:
SecondRead is no archive, and nobody may delete what it has.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

from core.archive import pushed
from core.archive.archives import Archive, caller_of
from core.archive.arrivals import is_over, require_taken, take_pushed
from core.archive.association import server_context
from core.archive.commitment import PUSH_MODEL, UNKNOWN, on_report
from core.errors import AppError, NotAllowed, UnreadableImage
from core.imaging.dicom.header import NATIVE, TRANSFER_SYNTAXES
from core.imaging.dicom.source import read_source_tags
from core.imaging.dicom.tags import STORAGE_CLASSES
from core.imaging.intake import keyed_hash
from core.periodic import repeated
from core.records import site_settings
from core.records.database.db import Database
from core.settings import MIB

if TYPE_CHECKING:
    from pynetdicom.events import Event

log = logging.getLogger(__name__)

VERIFICATION = "1.2.840.10008.1.1"
ASSOCIATIONS_MOST = 10
QUIET_SECONDS = 30.0
SWEEP_SECONDS = 5.0
TOUCH_SECONDS = 1.0
"""How often it is noted at most that something of an exam is coming."""
PDU_BYTES = 128 * 1024
NETWORK_SECONDS = 60.0
HEADER_ROOM = 16 * MIB
"""Of an association's bytes between two objects, for what is no object."""
ROOM_STUDIES = 100
"""How many studies of the largest size may wait here at once."""
SUCCESS, OUT_OF_RESOURCES, NOT_OF_ITS_CLASS, NOT_UNDERSTOOD, NOT_AUTHORISED = 0x0000, 0xA700, 0xA900, 0xC000, 0x0124
STATUSES = {
    SUCCESS: "the object lies whole on the disk",
    OUT_OF_RESOURCES: "the disk is full, too much waits, or the object is larger than a file may be here",
    NOT_OF_ITS_CLASS: "the data set names another class or object than the message",
    NOT_UNDERSTOOD: "the data set cannot be parsed, or does not name its study, series and object",
    NOT_AUTHORISED: "the sender was taken off the list while the association lasted, or the account of the "
    "administrator who lets it send is disabled or has lost that role",
}
"""Statuses of a C-STORE response (PS3.4 B.2.3) and when each is given."""
_REJECTED = {"calling": (1, 1, 3)}
"""Rejected, permanent, by the service user: calling AE title not recognised (PS3.8 9.3.4)."""


@contextmanager
def listening(db: Database, host: str, port: int) -> Iterator[int]:
    """Takes what allowed archives send until the block ends; the port, also where 0 was asked for. Raises OSError."""
    from pynetdicom import AE, _config, evt

    _config.STORE_RECV_CHUNKED_DATASET = True  # the object goes to a temporary file, not into memory
    entity = AE(ae_title=db.settings.ae_title)
    entity.require_called_aet = True
    entity.maximum_associations = ASSOCIATIONS_MOST
    entity.maximum_pdu_size = PDU_BYTES
    entity.acse_timeout = entity.dimse_timeout = entity.network_timeout = NETWORK_SECONDS
    entity.add_supported_context(VERIFICATION, list(NATIVE))
    entity.add_supported_context(PUSH_MODEL, list(NATIVE), scu_role=False, scp_role=True)  # answers of archives alone
    for sop_class in STORAGE_CLASSES:
        entity.add_supported_context(sop_class, list(TRANSFER_SYNTAXES))
    handlers: list[Any] = [
        (evt.EVT_REQUESTED, _on_requested, [db]), (evt.EVT_C_STORE, _on_store, [db]),
        (evt.EVT_DATA_RECV, _on_data, [db]), (evt.EVT_N_EVENT_REPORT, _on_event_report, [db]),
        (evt.EVT_ABORTED, _on_end), (evt.EVT_CONN_CLOSE, _on_end),
    ]  # fmt: skip
    server: Any = entity.start_server(
        (host, port), block=False, evt_handlers=handlers, ssl_context=server_context(db.settings)
    )
    try:
        with repeated("pushed studies", lambda: enqueue_quiet(db), lambda: SWEEP_SECONDS):
            yield int(server.server_address[1])
    finally:
        server.shutdown()


def enqueue_quiet(db: Database, *, quiet_seconds: float = QUIET_SECONDS) -> int:
    """Have studies made of exams of which nothing more came; of how many. Removes what rows that are over left."""
    n = 0
    for exam in pushed.exams(db.settings.state_dir):
        if exam.row_id is not None:
            if is_over(db, exam.row_id):
                pushed.remove(db.settings.state_dir, exam.exam_hash, exam.row_id)
        elif exam.idle_seconds >= quiet_seconds and exam.paths:
            with exam.paths[0].open("rb") as stream:
                uid = read_source_tags(stream)["StudyInstanceUID"]
            n += take_pushed(db, exam.archive_id, uid) is not None
    return n


def _caller(db: Database, event: Event) -> Archive | None:
    """The archive at the other end; None where none may call."""
    requestor = event.assoc.requestor
    title = requestor.primitive.calling_ae_title if requestor.primitive else requestor.ae_title
    return caller_of(db, str(title).strip(), str(requestor.address))


def _on_requested(event: Event, db: Database) -> None:
    archive = _caller(db, event)
    if archive is None:
        log.warning("An association was refused: no archive of this AE title and address may call")
        event.assoc.acse.send_reject(*_REJECTED["calling"])
        event.assoc.kill()
        return
    role = event.assoc.requestor.role_selection.get(PUSH_MODEL)  # type: ignore[call-overload]
    if not archive.commits or role is None or not role.scp_role:  # who asks it of us, an archive that we are not
        acceptor = event.assoc.acceptor
        acceptor.supported_contexts = [one for one in acceptor.supported_contexts if one.abstract_syntax != PUSH_MODEL]


def _on_event_report(event: Event, db: Database) -> tuple[int, None]:
    archive = _caller(db, event)
    return (UNKNOWN, None) if archive is None else on_report(event, db, archive.id)


def _on_data(event: Event, db: Database) -> None:
    """Ends an association whose message is longer than any object may be; else the exam that it brings is not quiet."""
    assoc: Any = event.assoc
    before = getattr(assoc, "secondread_bytes", 0)
    most = db.settings.upload_mib * MIB + HEADER_ROOM
    assoc.secondread_bytes = before + len(event.data)
    if before <= most < assoc.secondread_bytes:  # once: what still comes after the abort is thrown away
        log.warning("An association was ended: its object is larger than a file may be here")
        assoc.abort()
    now = time.monotonic()
    begun = getattr(assoc.dimse.message, "_data_set_path", None)
    if isinstance(begun, Path) and now - getattr(assoc, "secondread_touched_at", -TOUCH_SECONDS) >= TOUCH_SECONDS:
        assoc.secondread_touched_at = now
        _touch_exam(db, begun)


def _touch_exam(db: Database, begun: Path) -> None:
    """Notes that an object is coming, which may take longer than an exam is waited for. begun: what is here of it."""
    try:
        with begun.open("rb") as stream:
            uid = read_source_tags(stream)["StudyInstanceUID"]
    except (UnreadableImage, OSError):  # not even its UIDs have come, or it is here by now
        return
    pushed.touch(db.settings.state_dir, keyed_hash(uid, db.site_key) or "")


def _on_end(event: Event) -> None:
    """Removes what an association that is over had begun to send, or nobody has looked at: pynetdicom removes the
    temporary file of an object only once it was handled."""
    dimse: Any = event.assoc.dimse
    begun = [getattr(dimse.message, "_data_set_path", None)]
    begun += [getattr(message, "_dataset_path", None) for _, message in [*dimse.msg_queue.queue]]
    for path in begun:
        if isinstance(path, Path):
            path.unlink(missing_ok=True)


def _on_store(event: Event, db: Database) -> int:
    """Status of one object."""
    assoc: Any = event.assoc
    assoc.secondread_bytes = 0
    try:
        return _store(db, event, Path(event.dataset_path))
    except UnreadableImage:
        return NOT_UNDERSTOOD
    except (AppError, OSError):  # a full disk, or a folder that was taken in hand at this moment: send it again
        log.warning("An object was not taken: it could not be written")
        return OUT_OF_RESOURCES


def _store(db: Database, event: Event, file: Path) -> int:
    archive = _caller(db, event)
    if archive is None or not archive.pushes:
        return NOT_AUTHORISED
    try:
        require_taken(db, archive.id)
    except NotAllowed:
        log.warning("An object was not taken: whoever answers for its archive may not let it send any more")
        return NOT_AUTHORISED
    site, state_dir = site_settings.current(db), db.settings.state_dir
    size = file.stat().st_size
    if size > site.upload_mib * MIB or pushed.n_bytes(state_dir) + size > ROOM_STUDIES * site.study_mib * MIB:
        return OUT_OF_RESOURCES
    with file.open("rb") as stream:
        tags = read_source_tags(stream)
    request: Any = event.request
    named = (str(request.AffectedSOPClassUID), str(request.AffectedSOPInstanceUID))
    if named != (tags["SOPClassUID"], tags["SOPInstanceUID"]):
        return NOT_OF_ITS_CLASS
    names = [keyed_hash(tags[key], db.site_key) or "" for key in ("StudyInstanceUID", "SOPInstanceUID")]
    pushed.add(state_dir, names[0], names[1], archive_id=archive.id, file=file)
    return SUCCESS
