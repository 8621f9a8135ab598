"""What a study is called where it came from: sealed under the site's key, apart from everything else.

Results need it to point at its images, and to find their way back to an archive. Of uploaded files it names study,
series and objects and nobody; of an archive's the patient too. It is in no other table, in no log and on no page unless
somebody asks for it or the site chose to have it in the worklist, which is recorded; it goes with the pictures when the
site's policy removes them, and with the study.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from datetime import timedelta

from sqlalchemy import Connection, delete, insert, select, update

from core.errors import NotFound
from core.imaging.dicom.source import DISPLAY, OF_INSTANCE, OF_STUDY
from core.imaging.intake import keyed_hash
from core.records import sealed
from core.records.audit import trail
from core.records.database import tables
from core.records.database.db import Database, settings_of, stored_choices
from core.records.people.permissions import Actor, Person, acting
from core.records.queue import OVER
from core.records.reads.rows import find_study, in_worklist, undeleted

PURPOSE = "source identity"
WORKLIST = "worklist"
"""Subject of the audit trail's row that says what somebody was shown in the worklist."""
_IN_WORKLIST: Mapping[str, str] = {"accession number": "AccessionNumber", "name": "PatientName"}
"""What a site can choose (`Settings.worklist_identity`) -> the DICOM keyword; nothing is not in it."""
FAILED_ARRIVAL_DAYS = 30
"""How long a study that could not be fetched can be asked for again from its row."""


@dataclass(frozen=True, slots=True, repr=False)
class SourceIdentity:
    """study: DICOM keyword -> value, patient and study level (`core.imaging.dicom.source.OF_STUDY`), "" for what is not
    known. instances: sha256 of the file -> the same of the object (`OF_INSTANCE`, `DISPLAY`); with StudyInstanceUID,
    because uploaded files of one study may be of several exams. Its `repr` shows nothing.
    """

    study: Mapping[str, str]
    instances: Mapping[str, Mapping[str, str]]

    @classmethod
    def from_sources(cls, sources: Mapping[str, Mapping[str, str]]) -> SourceIdentity:
        """From sha256 of each file -> what it says of itself; the study is that of the first."""
        first = next(iter(sources.values()))
        of_object = ("StudyInstanceUID", *OF_INSTANCE, DISPLAY)
        instances = {sha: {key: found[key] for key in of_object if key in found} for sha, found in sources.items()}
        return cls({key: first.get(key, "") for key in OF_STUDY}, instances)

    @property
    def names_patient(self) -> bool:
        """Whether it says whose study this is; an upload's does not, and its keywords of the patient are empty."""
        return self.study.get("PatientName", "") + self.study.get("PatientID", "") != ""

    @property
    def of_exam(self) -> Mapping[str, Mapping[str, str]]:
        """The instances that are of the study that `study` names: only these can a result of it refer to."""
        uid = self.study["StudyInstanceUID"]
        return {sha: tags for sha, tags in self.instances.items() if tags.get("StudyInstanceUID", uid) == uid}


def record_identity(
    connection: Connection,
    site_key: bytes,
    study_id: str,
    *,
    archive_id: int | None,
    exam_hash: str,
    identity: SourceIdentity,
) -> None:
    """Seal and store it; in the place of what an upload said of itself. archive_id: None for an upload."""
    content = sealed.seal(site_key, PURPOSE, json.dumps(asdict(identity)).encode())
    source = tables.source_identity
    connection.execute(delete(source).where(source.c.study_id == study_id, source.c.archive_id.is_(None)))
    connection.execute(
        insert(source).values(study_id=study_id, archive_id=archive_id, exam_hash=exam_hash, sealed=content)
    )


def record_uploaded(
    site_key: bytes, sources: Mapping[str, Mapping[str, str]], connection: Connection, study_id: str
) -> None:
    """What uploaded files call their study, series and objects (`SourceIdentity.from_sources`); nothing where none
    says it.
    """
    if not sources:
        return
    identity = SourceIdentity.from_sources(sources)
    exam_hash = keyed_hash(identity.study["StudyInstanceUID"], site_key) or ""
    record_identity(connection, site_key, study_id, archive_id=None, exam_hash=exam_hash, identity=identity)


def identity_of(connection: Connection, site_key: bytes, study_id: str) -> SourceIdentity | None:
    """For a process that sends results; None where there is none, or not under this key. People: `show_identity`."""
    source = tables.source_identity.c
    content = connection.execute(select(source.sealed).where(source.study_id == study_id)).scalar_one_or_none()
    return _opened(site_key, content) if content else None


def _opened(site_key: bytes, content: str) -> SourceIdentity | None:
    opened = sealed.unseal(site_key, PURPOSE, content)
    return None if opened is None else SourceIdentity(**json.loads(opened))


def has_identity(db: Database, actor: Actor, study_id: str) -> bool:
    """Whether there is something that `show_identity` would show. Raises NotAllowed, NotFound."""
    source = tables.source_identity.c
    with acting(db.read(), actor, "see_identity") as (connection, _):
        find_study(connection, study_id)
        query = select(source.study_id).where(source.study_id == study_id, source.sealed != "")
        return connection.execute(query).first() is not None


def show_identity(db: Database, actor: Actor, study_id: str) -> SourceIdentity:
    """Who the study is of, recorded in the audit trail. Raises NotAllowed; NotFound also where nothing is known."""
    with acting(db.begin(), actor, "see_identity") as (connection, person):
        find_study(connection, study_id)
        found = identity_of(connection, db.site_key, study_id)
        if found is None:
            raise NotFound("Nothing is known here of where this study came from.")
        trail.record(connection, person.id, "show identity", f"study {study_id}")
    return found


def worklist_identity(db: Database, actor: Actor, study_ids: Sequence[str]) -> dict[str, str]:
    """Study -> what the site chose to have in its row of the worklist; only those of which it is known.

    Nothing of uploaded studies, and where it was removed. One row of the audit trail names the studies of which this
    person was not shown the same since midnight (UTC). The text comes from files: escape it. Raises NotAllowed, and
    Conflict where the row cannot be written.
    """
    with acting(db.read(), actor, "see_identity") as (connection, person):
        found = _of_worklist(connection, db.site_key, person, study_ids)
    if not found.unrecorded:
        return found.texts
    with acting(db.begin(), actor, "see_identity") as (connection, person):
        trail.lock_trail(connection)
        found = _of_worklist(connection, db.site_key, person, study_ids)  # as things are when it is written down
        if found.unrecorded:
            trail.record(connection, person.id, "show identity", WORKLIST, shown=found.choice, studies=found.unrecorded)
    return found.texts


@dataclass(frozen=True, slots=True, repr=False)
class _Found:
    """texts: study -> what is shown of it. unrecorded: those of them whose row of the trail is not yet written."""

    choice: str
    texts: dict[str, str]
    unrecorded: list[str]


def _of_worklist(connection: Connection, site_key: bytes, person: Person, study_ids: Sequence[str]) -> _Found:
    """Opens no seal unless the site chose to have something shown. person: who may see it."""
    chosen = stored_choices(connection).get("worklist_identity", {})
    choice = str(chosen.get("value", settings_of(connection).worklist_identity))
    if choice not in _IN_WORKLIST or not study_ids:
        return _Found(choice, {}, [])
    source = tables.source_identity.c
    rows = connection.execute(
        select(source.study_id, source.sealed)
        .join_from(tables.source_identity, tables.study, source.study_id == tables.study.c.id)
        .where(source.study_id.in_(study_ids), source.archive_id.is_not(None), source.sealed != "", in_worklist())
    )
    texts = {}
    for row in rows:
        known = _opened(site_key, row.sealed)
        value = known.study.get(_IN_WORKLIST[choice], "") if known else ""
        if text := person_name(value) if choice == "name" else value.strip():
            texts[row.study_id] = text
    recorded = _shown_today(connection, person.id, choice) if texts else set()
    return _Found(choice, texts, sorted(texts.keys() - recorded))


def _shown_today(connection: Connection, person_id: int, choice: str) -> set[str]:
    """The studies of which the worklist has shown this to this person since midnight, by the audit trail."""
    audit = tables.audit.c
    midnight = tables.now().replace(hour=0, minute=0, second=0, microsecond=0)
    details = connection.execute(
        select(audit.detail).where(
            audit.subject == WORKLIST, audit.action == "show identity", audit.person_id == person_id,
            audit.at >= midnight,
        )
    )  # fmt: skip
    return {study_id for detail in details.scalars() if detail["shown"] == choice for study_id in detail["studies"]}


def person_name(value: str) -> str:
    """A person's name as it is read: "Muster, Anna". value: of the VR PN (PS3.5 6.2.1), of whose groups (letters,
    ideographs, sounds) the first that says something counts."""
    group = next((one for one in value.split("=") if one.strip("^ ")), "")
    family, *others = (part.strip() for part in group.split("^"))
    return ", ".join(part for part in (family, " ".join(filter(None, others))) if part)


def study_of_exam(connection: Connection, exam_hash: str) -> str | None:
    """The undeleted study that came from an archive as this exam; None where there is none."""
    source = tables.source_identity
    query = (
        select(source.c.study_id)
        .join_from(source, tables.study, source.c.study_id == tables.study.c.id)
        .where(source.c.exam_hash == exam_hash, source.c.archive_id.is_not(None), undeleted())
    )
    return connection.execute(query.limit(1)).scalar_one_or_none()


def remove_identity(connection: Connection, study_id: str) -> None:
    """Forget what the study is called elsewhere, and the results that say it, once none of them is on its way.

    That the exam is here stays known, by its keyed hash: fetched again it is no second study.
    """
    source, outbox = tables.source_identity, tables.outbox
    gone = connection.execute(
        update(source).where(source.c.study_id == study_id, source.c.sealed != "").values(sealed="")
    )
    is_over = outbox.c.ended_at.is_not(None)
    connection.execute(update(outbox).where(outbox.c.study_id == study_id, is_over).values(payload=None))
    if gone.rowcount:
        trail.record(connection, None, "remove identity", f"study {study_id}")


def forget_what_is_over(db: Database) -> None:
    """Remove what names a patient and serves nothing any more: results that are over, of studies whose identity was
    removed while they were on their way, and studies that could not be fetched for `FAILED_ARRIVAL_DAYS`.
    """
    source, outbox, arrival = tables.source_identity, tables.outbox, tables.arrival
    known = select(source.c.study_id).where(source.c.sealed != "")
    since = tables.now() - timedelta(days=FAILED_ARRIVAL_DAYS)
    with db.begin() as connection:
        connection.execute(
            update(outbox)
            .where(outbox.c.state.in_(OVER), outbox.c.payload.is_not(None), outbox.c.study_id.not_in(known))
            .values(payload=None)
        )
        connection.execute(
            update(arrival)
            .where(arrival.c.state.in_(OVER), arrival.c.sealed != "", arrival.c.ended_at < since)
            .values(sealed="")
        )
