"""A result that was not sent is sent again, unless a later read has taken the place of its read."""

from __future__ import annotations

import pytest
from record_site import CALM, WORRIED, add_person, picture
from sqlalchemy import select, update

from core.archive.archives import ArchiveAddress, name_archive
from core.errors import Conflict
from core.records.archives.identity import SourceIdentity, record_identity
from core.records.archives.outbox import send_again
from core.records.database import tables
from core.records.database.db import Database
from core.records.reads import reads
from core.records.reads.studies import create_study


def rows(records: Database) -> list[tuple[int, int, str]]:
    """(id, read, state) of every result, oldest first."""
    outbox = tables.outbox.c
    with records.read() as connection:
        query = select(outbox.id, outbox.read_id, outbox.state).order_by(outbox.id)
        return [(row.id, row.read_id, row.state) for row in connection.execute(query)]


def test_what_a_later_read_replaced_does_not_follow_it_to_the_archive(records: Database) -> None:
    ada = add_person(records, "Ada", "administrator")
    ann, bea = (add_person(records, name, "radiologist") for name in ("Ann", "Bea"))
    archive_id = name_archive(records, ada, ArchiveAddress("pacs", "http://127.0.0.1:9/web", sends=("sr",)))
    image = picture(1, laterality="R")
    study_id = create_study(records, ann, display_name="x", images=[image])
    source = {"StudyInstanceUID": "1.2.3", "SOPInstanceUID": "1.2.3.1", "PatientID": "p"}
    identity = SourceIdentity.from_sources({image.sha256: source})
    with records.begin() as connection:
        record_identity(
            connection, records.site_key, study_id, archive_id=archive_id, exam_hash="e" * 64, identity=identity
        )
    for reader in (ann, bea):
        reads.record_first_read(records, reader, study_id, {"R": CALM})
    first = reads.record_final_read(records, ann, study_id, {"R": CALM})

    def ended(read_id: int, state: str) -> int:
        outbox = tables.outbox
        with records.begin() as connection:
            connection.execute(update(outbox).where(outbox.c.read_id == read_id).values(state=state, message=""))
            return int(connection.execute(select(outbox.c.id).where(outbox.c.read_id == read_id)).scalar_one())

    row_id = ended(first, "failed")
    reads.record_final_read(records, bea, study_id, {"R": CALM})
    send_again(records, ann, row_id)  # another reader's read takes no place
    ended(first, "failed")
    amended = reads.record_final_read(records, ann, study_id, {"R": WORRIED})
    for state in ("failed", "cancelled", "dead"):
        ended(first, state)
        with pytest.raises(Conflict, match="later read of this study replaced"):
            send_again(records, ann, row_id)
        assert (row_id, first, state) in rows(records)
    newest = ended(amended, "failed")
    send_again(records, ann, newest)
    ended(first, "done")
    send_again(records, ann, row_id)  # the archive has it, and the later one refers to it
    assert {state for _, _, state in rows(records)} == {"queued"}
