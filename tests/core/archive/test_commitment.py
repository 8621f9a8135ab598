"""Storage commitment: a result counts as delivered once its archive answers for it, as Orthanc does by messages."""

from __future__ import annotations

import time
from typing import Any

import pytest
from orthanc_site import AE_TITLE, Orthanc
from pydicom.dataset import Dataset
from pynetdicom import AE, _config, build_role, evt
from record_site import Somebody
from sqlalchemy import update
from test_archive_round_trip import STUDY, fetched, put_exam, read_to_the_end

from core.archive import commitment, listener, probe, sending
from core.archive.archives import ArchiveAddress, change_archive, name_archive
from core.archive.commitment import PUSH_INSTANCE, PUSH_MODEL, Report, record_report
from core.archive.listener import listening
from core.errors import InvalidInput
from core.records.archives import outbox
from core.records.database import tables
from core.records.database.db import Database

WHO = {"worker": "test", "machine": "here"}


@pytest.fixture
def db(db: Database, monkeypatch: pytest.MonkeyPatch) -> Database:
    monkeypatch.setattr(_config, "STORE_RECV_CHUNKED_DATASET", False)  # and as it was for others
    monkeypatch.setattr(commitment, "ANSWER_SECONDS", 0.2)
    return db


@pytest.fixture
def archive_id(db: Database, ada: Somebody, orthanc: Orthanc) -> int:
    return name_archive(db, ada, address(orthanc))


def address(orthanc: Orthanc, **more: Any) -> ArchiveAddress:
    facts: dict[str, Any] = {"port": orthanc.port, "sends": ("sr",), "commits": True}
    return ArchiveAddress("pacs", orthanc.web, AE_TITLE, "127.0.0.1", **{**facts, **more})


@pytest.fixture
def sent(db: Database, ada: Somebody, archive_id: int, orthanc: Orthanc) -> str:
    """A study whose final read was handed over and asked about; its id."""
    put_exam(orthanc)
    study_id = fetched(db, ada, archive_id)
    read_to_the_end(db, ada, study_id)
    return study_id


def row_of(db: Database, ada: Somebody, study_id: str) -> outbox.OutboxRow:
    (row,) = outbox.results_of(db, ada, study_id)
    return row


def stored(db: Database) -> Any:
    with db.read() as connection:
        return connection.execute(tables.outbox.select()).one()


def test_a_result_is_delivered_once_the_archive_has_committed_to_it(
    db: Database, ada: Somebody, sent: str, orthanc: Orthanc
) -> None:
    with listening(db, "127.0.0.1", orthanc.answers_at):
        assert sending.send_next(db, **WHO)
        assert len(orthanc.objects("SR")) == 1
        until = time.monotonic() + 20
        while stored(db).commitment == commitment.ASKED and time.monotonic() < until:
            time.sleep(0.1)
    assert stored(db).commitment == commitment.COMMITTED
    if row_of(db, ada, sent).state == "queued":  # the answer came on an association of its own
        assert stored(db).due_at <= tables.now(), "nobody waits once it has answered"
        assert sending.send_next(db, **WHO)
    row = row_of(db, ada, sent)
    assert row.state == "done" and row.message.endswith("and has committed to keep it."), row
    assert len(orthanc.objects("SR")) == 1


def test_it_waits_while_nothing_is_answered_and_is_not_asked_at_each_look(
    db: Database, ada: Somebody, archive_id: int, sent: str, orthanc: Orthanc
) -> None:
    assert sending.send_next(db, **WHO)
    row, first = row_of(db, ada, sent), stored(db)
    assert row.state == "queued" and "its answer is awaited" in row.message
    _due_now(db)
    assert sending.send_next(db, **WHO)
    assert stored(db).commitment_uid == first.commitment_uid, "asked once a day"
    uid = first.sop_instance_uid
    strange = Report("2.25.1", frozenset({uid}), {})
    assert not record_report(db, archive_id, strange), "a transaction of nobody"
    assert not record_report(db, archive_id + 1, Report(first.commitment_uid, frozenset({uid}), {})), "another archive"
    assert record_report(db, archive_id, Report(first.commitment_uid, frozenset(), {uid: 0x0112}))
    assert sending.send_next(db, **WHO)
    row = row_of(db, ada, sent)
    assert row.state == "queued" and "it does not have the object" in row.message
    _due_now(db)
    assert sending.send_next(db, **WHO)
    assert stored(db).commitment_uid != first.commitment_uid, "asked anew after a refusal"
    assert record_report(db, archive_id, Report(stored(db).commitment_uid, frozenset(), {}))
    assert stored(db).commitment == "it did not name the object"
    assert len(orthanc.objects("SR")) == 1


def test_an_archive_that_does_not_offer_it_is_believed_by_what_it_shows_and_that_is_said(
    db: Database, ada: Somebody, archive_id: int, sent: str, orthanc: Orthanc
) -> None:
    entity = AE(ae_title=AE_TITLE)
    entity.add_supported_context(probe.VERIFICATION)
    server = entity.start_server(("127.0.0.1", 0), block=False)
    try:
        change_archive(db, ada, archive_id, address(orthanc, port=server.server_address[1]))
        assert sending.send_next(db, **WHO)
        found = {one.service: one for one in probe.probe_archive(db, ada, archive_id)}
    finally:
        server.shutdown()
    row = row_of(db, ada, sent)
    assert row.state == "done" and "offers no storage commitment" in row.message
    assert found["Commitment"].works is False and "does not offer it" in found["Commitment"].sentence
    change_archive(db, ada, archive_id, address(orthanc))
    found = {one.service: one for one in probe.probe_archive(db, ada, archive_id)}
    assert found["Commitment"].works is True and "dicom-listen" in found["Commitment"].sentence


def test_an_archive_that_is_down_or_refuses_the_request_delays_and_loses_nothing(
    db: Database, ada: Somebody, archive_id: int, sent: str, orthanc: Orthanc
) -> None:
    change_archive(db, ada, archive_id, address(orthanc, port=1))
    assert sending.send_next(db, **WHO)
    row = row_of(db, ada, sent)
    assert row.state == "queued" and "does not answer at its host and port" in row.message
    assert stored(db).commitment == commitment.TAKEN

    entity = AE(ae_title=AE_TITLE)
    entity.add_supported_context(PUSH_MODEL)
    server = entity.start_server(
        ("127.0.0.1", 0), block=False, evt_handlers=[(evt.EVT_N_ACTION, lambda _: (0x0110, None))]
    )
    try:
        change_archive(db, ada, archive_id, address(orthanc, port=server.server_address[1]))
        _due_now(db)
        assert sending.send_next(db, **WHO)
    finally:
        server.shutdown()
    row = row_of(db, ada, sent)
    assert row.state == "queued" and "did not take the request" in row.message and stored(db).commitment is None


def test_an_archive_that_answers_on_the_same_association_is_heard(
    db: Database, ada: Somebody, archive_id: int, sent: str, orthanc: Orthanc, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(commitment, "ANSWER_SECONDS", 10.0)

    def act(event: evt.Event) -> tuple[int, None]:
        asked.append(event.action_information)
        return 0, None

    def answer(event: evt.Event) -> None:
        if asked and event.message.__class__.__name__ == "N_ACTION_RSP":
            event.assoc.send_n_event_report(_answer_to(asked.pop()), 1, PUSH_MODEL, PUSH_INSTANCE)

    asked: list[Dataset] = []
    entity = AE(ae_title=AE_TITLE)
    entity.add_supported_context(PUSH_MODEL)
    handlers: list[Any] = [(evt.EVT_N_ACTION, act), (evt.EVT_DIMSE_SENT, answer)]
    server = entity.start_server(("127.0.0.1", 0), block=False, evt_handlers=handlers)
    try:
        change_archive(db, ada, archive_id, address(orthanc, port=server.server_address[1]))
        assert sending.send_next(db, **WHO)
    finally:
        server.shutdown()
    assert row_of(db, ada, sent).state == "done"


def _answer_to(request: Dataset) -> Dataset:
    answer = Dataset()
    answer.TransactionUID, answer.ReferencedSOPSequence = request.TransactionUID, request.ReferencedSOPSequence
    return answer


def test_only_an_archive_that_is_asked_may_answer_and_nobody_may_ask_it_of_us(
    db: Database, ada: Somebody, archive_id: int, orthanc: Orthanc
) -> None:
    report = Dataset()
    report.TransactionUID, report.ReferencedSOPSequence = "2.25.1", []

    def answered(port: int) -> int | None:
        entity = AE(ae_title=AE_TITLE)
        entity.add_requested_context(PUSH_MODEL)
        entity.acse_timeout = entity.dimse_timeout = 10
        role = build_role(PUSH_MODEL, scp_role=True)
        found = entity.associate("127.0.0.1", port, ae_title="SECONDREAD", ext_neg=[role])
        if not found.is_established:
            return None
        status, _ = found.send_n_event_report(report, 1, PUSH_MODEL, PUSH_INSTANCE)
        found.release()
        return int(status.Status)

    with listening(db, "127.0.0.1", 0) as port:
        assert answered(port) == commitment.UNKNOWN
        entity = AE(ae_title=AE_TITLE)
        entity.add_requested_context(PUSH_MODEL)
        asking = entity.associate("127.0.0.1", port, ae_title="SECONDREAD")
        assert not asking.is_established and len(asking.rejected_contexts) == 1
        change_archive(db, ada, archive_id, address(orthanc, commits=False, pushes=True))
        assert answered(port) is None, "the class is not offered to it"
        change_archive(db, ada, archive_id, address(orthanc, commits=True))
        sending_to_us = AE(ae_title=AE_TITLE)
        sending_to_us.add_requested_context(listener.STORAGE_CLASSES[0])
        found = sending_to_us.associate("127.0.0.1", port, ae_title="SECONDREAD")
        assert found.is_established
        thing = Dataset()
        thing.SOPClassUID, thing.SOPInstanceUID = listener.STORAGE_CLASSES[0], f"{STUDY}.1.1"
        thing.ensure_file_meta()
        thing.file_meta.TransferSyntaxUID = "1.2.840.10008.1.2"
        assert found.send_c_store(thing).Status == listener.NOT_AUTHORISED, "who commits does not send by that"
        found.release()
    with pytest.raises(InvalidInput, match="AE title, host and port"):
        change_archive(db, ada, archive_id, ArchiveAddress("pacs", orthanc.web, commits=True))


def _due_now(db: Database) -> None:
    with db.begin() as connection:
        connection.execute(update(tables.outbox).values(due_at=None))
