"""Studies from an archive: searched, shown to who searched, and fetched by a worker through the door of an upload.

What was fetched twice, or uploaded before, stays one study. Nothing that an archive lists is stored; of a study that is
to be fetched its number waits under the site's key until it is here.
"""

from __future__ import annotations

import logging
import sys
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any

from sqlalchemy import ColumnElement, Connection, Row, Select, and_, func, insert, or_, select, update

from core.archive import pushed
from core.archive.archives import Archive, archive_of, credentials_of
from core.archive.dicomweb import Criteria, DicomWeb, FoundInstance, FoundStudy
from core.errors import (
    AppError,
    ArchiveAway,
    ArchiveRefused,
    Conflict,
    InvalidInput,
    NotAllowed,
    NotSaved,
    SiteFault,
)
from core.files import disk_full_refused, temporary_folder, temporary_parent
from core.imaging.dicom.source import is_uid
from core.imaging.intake import Intake, keyed_hash, read_study
from core.imaging.picture import on_one_scale
from core.reading.new_studies import NewPicture, NewStudy, require_settled
from core.records import sealed, site_settings
from core.records.archives.identity import SourceIdentity, identity_of, record_identity, study_of_exam
from core.records.audit import trail
from core.records.database import tables
from core.records.database.db import Database
from core.records.database.locks import AdvisoryLock, hold
from core.records.people.permissions import Actor, ProcessActor, acting, require_permission
from core.records.queue import DEAD, DONE, FAILED, OPEN, QUEUED, Ended, Held, Lease, Queue
from core.records.reads.rows import in_worklist
from core.records.reads.studies import create_study
from core.settings import MIB, Settings
from core.types import SIDE_NOT_STATED, Image

log = logging.getLogger(__name__)

ARRIVALS = Queue(
    tables.arrival, AdvisoryLock.ARRIVALS, kind="arrival", subject="arrival", begins="Is being fetched.",
    again="Waits to be fetched again: the process that fetched it ended.", cancelled="Cancelled.",
    dead="Fetch it again by hand.", has_result="It is here; the process that fetched it ended before it said more.",
    recorded=("study", "n_images", "n_refused"),
)  # fmt: skip
PURPOSE = "arrival"
BY_READER, BY_RULE, BY_PUSH = "archive", "watch", "push"
"""Who asked for a study, as the process that makes it (`PROCESS_ACTIONS`)."""
TRIES_MOST = 10
"""How often one study is tried for a reader while its archive is away, or something of this site is amiss, over some
hours. What rules ask for and what was sent waits as long as it takes: nobody would look for it."""
FIRST_WAIT_SECONDS, LONGEST_WAIT_SECONDS = 15.0, 3600.0
_SWITCH_ON = (
    "What the archive sends waits until an administrator switches off and on again that it is taken (page Settings)."
)
_NO_PICTURES = ("1.2.840.10008.5.1.4.1.1.88.", "1.2.840.10008.5.1.4.1.1.11.", "1.2.840.10008.5.1.4.1.1.104.",
                "1.2.840.10008.5.1.4.1.1.66", "1.2.840.10008.5.1.4.1.1.481.", "1.2.840.10008.5.1.4.1.1.9.")  # fmt: skip
"""Object classes (PS3.4 B.5) without pictures: reports, presentation states, documents, segmentations, waveforms."""


@dataclass(frozen=True, slots=True)
class ArrivalRow:
    """A study that was or is to be fetched. state: of the queue. study_id: once it is here."""

    id: int
    archive_name: str
    state: str
    message: str
    study_id: str | None
    created_at: datetime
    due_at: datetime | None
    asked_by: str
    can_be_fetched_again: bool


def search(db: Database, actor: Actor, archive_id: int, criteria: Criteria) -> list[FoundStudy]:
    """What the archive lists; shown, not stored. That somebody searched is recorded, not for whom.

    Raises NotAllowed, NotFound; InvalidInput for no criterion at all; ArchiveAway, ArchiveRefused.
    """
    with acting(db.begin(), actor, "query_archive") as (connection, person):
        archive = archive_of(connection, archive_id)
        if not criteria.as_query.keys() - {"ModalitiesInStudy"}:
            raise InvalidInput("Give a day, a patient or an accession number: an archive holds too much to be listed.")
        trail.record(connection, person.id, "query archive", f"archive {archive_id}", asked=sorted(criteria.as_query))
    return DicomWeb(archive, credentials_of(db.settings, archive.name)).search(criteria)


def fetch(db: Database, actor: Actor, archive_id: int, study_uid: str) -> int:
    """Have a study fetched; the id of its row. One that waits or is being fetched already is not asked for twice.

    Raises NotAllowed, NotFound, InvalidInput for what is no StudyInstanceUID.
    """
    arrival = tables.arrival
    with acting(db.begin(), actor, "query_archive") as (connection, person):
        if not is_uid(study_uid):
            raise InvalidInput("The archive names this study in a way that DICOM does not permit.")
        archive_of(connection, archive_id)
        hold(connection, AdvisoryLock.ARRIVALS)
        same = _same_exam(db, study_uid, arrival.c.state.in_(OPEN))
        waiting: int | None = connection.execute(same).scalar_one_or_none()
        if waiting is not None:
            return waiting
        return _enqueue(db, connection, archive_id, study_uid, asked_by=BY_READER, person_id=person.id)


def fetch_by_rule(db: Database, archive_id: int, study_uid: str, person_id: int) -> int | None:
    """The same for a watch whose rules are this person's; None where the study was asked for or came before."""
    with db.begin() as connection:
        if _is_known(db, connection, study_uid):
            return None
        return _enqueue(db, connection, archive_id, study_uid, asked_by=BY_RULE, person_id=person_id)


def _is_known(db: Database, connection: Connection, study_uid: str) -> bool:
    """Whether the study was asked for or came before; nobody else asks for it until the transaction ends."""
    hold(connection, AdvisoryLock.ARRIVALS)
    if connection.execute(_same_exam(db, study_uid)).first() is not None:
        return True
    return study_of_exam(connection, keyed_hash(study_uid, db.site_key) or "") is not None


def fetch_prior(db: Database, row: Row[Any], study_uid: str) -> int | None:
    """The same for an earlier exam of the patient whose study came by this row; who asked for that answers for it."""
    asked_by = BY_RULE if row.asked_by == BY_PUSH else row.asked_by
    with db.begin() as connection:
        if _is_known(db, connection, study_uid):
            return None
        return _enqueue(
            db,
            connection,
            row.archive_id,
            study_uid,
            asked_by=asked_by,
            person_id=row.created_by,
            prior_of=row.study_id,
        )


def take_pushed(db: Database, archive_id: int, study_uid: str) -> int | None:
    """Have a study made of what an archive sent (`core.archive.pushed`); None while the same exam is being fetched."""
    with db.begin() as connection:
        hold(connection, AdvisoryLock.ARRIVALS)
        if connection.execute(_same_exam(db, study_uid, tables.arrival.c.state.in_(OPEN))).first() is not None:
            return None
        person_id = _who_answers(connection, archive_id)
        return _enqueue(db, connection, archive_id, study_uid, asked_by=BY_PUSH, person_id=person_id)


def _who_answers(connection: Connection, archive_id: int) -> int:
    """The person who answers for what an archive sends."""
    archive = tables.archive.c
    query = select(func.coalesce(archive.pushes_by, archive.created_by)).where(archive.id == archive_id)
    person_id: int = connection.execute(query).scalar_one()
    return person_id


def require_taken(db: Database, archive_id: int) -> None:
    """Raises NotAllowed while whoever answers for what an archive sends may not have studies made of it."""
    with db.read() as connection:
        require_permission(connection, ProcessActor(BY_PUSH, _who_answers(connection, archive_id)), "create_study")


def is_over(db: Database, row_id: int) -> bool:
    """Whether nothing is done with a row any more."""
    arrival = tables.arrival.c
    with db.read() as connection:
        state = connection.execute(select(arrival.state).where(arrival.id == row_id)).scalar_one_or_none()
    return state not in OPEN


def fetch_again(db: Database, actor: Actor, row_id: int) -> None:
    """Try a row that failed once more. Raises NotAllowed; Conflict for one that did not fail, or is forgotten."""
    arrival = tables.arrival
    with acting(db.begin(), actor, "query_archive") as (connection, person):
        hold(connection, AdvisoryLock.ARRIVALS)
        row = connection.execute(select(arrival).where(arrival.c.id == row_id).with_for_update()).one_or_none()
        if row is None or row.state not in (FAILED, DEAD) or not row.sealed:
            raise Conflict("This study cannot be fetched again from here. Search for it and fetch it anew.")
        values = {"state": QUEUED, "message": "Waits to be fetched.", "attempts": 0, "tries": 0, "due_at": None}
        values |= {"asked_by": BY_READER, "created_by": person.id, "cancel_asked_at": None, "ended_at": None}
        connection.execute(update(arrival).where(arrival.c.id == row_id).values(**values, result=None))
        trail.record(connection, person.id, "fetch study", f"arrival {row_id}", archive=row.archive_id, again=True)


def _same_exam(db: Database, study_uid: str, *conditions: ColumnElement[bool]) -> Select[int]:
    arrival = tables.arrival
    exam = keyed_hash(study_uid, db.site_key) or ""
    return select(arrival.c.id).where(arrival.c.exam_hash == exam, *conditions).limit(1)


def _enqueue(
    db: Database,
    connection: Connection,
    archive_id: int,
    study_uid: str,
    *,
    asked_by: str,
    person_id: int,
    prior_of: str | None = None,
) -> int:
    arrival = tables.arrival
    values = {"archive_id": archive_id, "exam_hash": keyed_hash(study_uid, db.site_key) or "", "asked_by": asked_by}
    values |= {"sealed": sealed.seal(db.site_key, PURPOSE, study_uid.encode()), "attempts": 0, "tries": 0}
    values |= {"state": QUEUED, "message": "Waits to be fetched.", "created_by": person_id, "created_at": tables.now()}
    values["prior_of"] = prior_of
    row_id: int = connection.execute(insert(arrival).values(**values).returning(arrival.c.id)).scalar_one()
    by_rule = {f"by_{'rule' if asked_by == BY_RULE else 'push'}": True} if asked_by != BY_READER else {}
    by_rule |= {"is_prior": True} if prior_of else {}
    trail.record(connection, person_id, "fetch study", f"arrival {row_id}", archive=archive_id, **by_rule)
    return row_id


def recent_arrivals(db: Database, actor: Actor, *, limit: int = 20) -> list[ArrivalRow]:
    """The newest, of everybody. Raises NotAllowed."""
    with acting(db.read(), actor, "query_archive") as (connection, _):
        arrival, archive = tables.arrival.c, tables.archive.c
        query = (
            select(
                arrival.id, archive.name.label("archive_name"), arrival.state, arrival.message, arrival.study_id,
                arrival.created_at, arrival.due_at, arrival.asked_by,
                and_(arrival.state.in_((FAILED, DEAD)), arrival.sealed != "").label("can_be_fetched_again"),
            )
            .join_from(tables.arrival, tables.archive, arrival.archive_id == archive.id)
            .order_by(arrival.id.desc())
            .limit(limit)
        )  # fmt: skip
        return [ArrivalRow(**row) for row in connection.execute(query).mappings()]


def process_next(db: Database, *, worker: str, machine: str, is_ending: Callable[[], bool] = lambda: False) -> bool:
    """Fetch the next study that is due, whoever asked for it; False when there is none."""
    lease = ARRIVALS.claim(db, worker=worker, machine=machine)
    if lease is None:
        return False
    with ARRIVALS.renewed(db, lease, is_ending=is_ending) as held:
        try:
            with disk_full_refused():
                outcome = _fetched(db, lease, held)
        except Ended:
            ARRIVALS.hand_back(db, lease)
            return False
        except (ArchiveAway, SiteFault, NotSaved) as away:  # nothing that is wrong with this exam
            _try_later(db, lease, str(away))  # where even that is not saved, its lease runs out
            return True
        except AppError as refused:
            ARRIVALS.finish(db, lease, FAILED, str(refused))
            pushed.remove(db.settings.state_dir, lease.row.exam_hash, lease.id)
            return True
    result = {"study": outcome.study_id, "n_images": outcome.n_images, "n_refused": len(outcome.refusals)}
    result |= {"n_bytes": outcome.n_bytes, "n_not_here": outcome.n_not_here}
    _note_study(db, lease, outcome, result)
    ARRIVALS.finish(db, lease, DONE, outcome.sentence, result)
    pushed.remove(db.settings.state_dir, lease.row.exam_hash, lease.id)
    return True


def wait_seconds(tries: int) -> float:
    """How long to wait after so many tries: twice as long each time, up to an hour."""
    return min(FIRST_WAIT_SECONDS * 2.0 ** min(tries, 16), LONGEST_WAIT_SECONDS)


def _try_later(db: Database, lease: Lease, sentence: str) -> None:
    tries = lease.row.tries + 1
    if tries >= TRIES_MOST and lease.row.asked_by == BY_READER:
        ARRIVALS.finish(db, lease, FAILED, f"{sentence} It was tried {tries} times; fetch it again by hand.")
        return
    arrival = tables.arrival
    with db.begin() as connection:
        if ARRIVALS.is_held(connection, lease):
            connection.execute(update(arrival).where(arrival.c.id == lease.id).values(tries=tries))
    due_at = tables.now() + timedelta(seconds=wait_seconds(lease.row.tries))
    ARRIVALS.postpone(db, lease, sentence, due_at)


def _note_study(db: Database, lease: Lease, outcome: _Outcome, result: Mapping[str, Any]) -> None:
    """The row names its study from now on, and no longer what it is called in its archive; so it ends as done, also
    when this process dies. Of a new one earlier exams are looked for."""
    arrival = tables.arrival
    values: dict[str, Any] = {"study_id": outcome.study_id, "sealed": "", "result": dict(result)}
    if outcome.n_images and lease.row.prior_of is None:
        values |= {"priors_due_at": tables.now(), "tries": 0}
    with db.begin() as connection:
        if ARRIVALS.is_held(connection, lease):
            connection.execute(update(arrival).where(arrival.c.id == lease.id).values(**values))


@dataclass(frozen=True, slots=True)
class _Outcome:
    """n_images: of a new study; 0 where it was here. n_not_here: images that the archive has beyond those. n_changed:
    images that came again and say something else. n_bytes: of the files that came."""

    study_id: str
    n_images: int
    refusals: Sequence[str] = ()
    n_not_here: int = 0
    n_changed: int = 0
    n_bytes: int = 0

    @property
    def sentence(self) -> str:
        n, beyond = self.n_images, self.n_not_here
        found = f"{n} {'image' if n == 1 else 'images'}." if n else "It was here already."
        if beyond:
            found += f" The archive has {beyond} more {'image' if beyond == 1 else 'images'} of it."
        if changed := self.n_changed:
            found += (
                f" {changed} {'image' if changed == 1 else 'images'} of it came again with another patient, side, view "
                "or size than is kept here. If the archive is right, delete the study and fetch it again."
            )
        return f"{found} {len(self.refusals)} not read: {self.refusals[0]}" if self.refusals else found


def _fetched(db: Database, lease: Lease, held: Held) -> _Outcome:
    """What became of a row's study."""
    opened = sealed.unseal(db.site_key, PURPOSE, lease.row.sealed)
    if opened is None:
        raise Conflict("This row was written under another key of the site. Fetch the study again.")
    uid = opened.decode()
    with db.read() as connection:
        archive = archive_of(connection, lease.row.archive_id)
        there = study_of_exam(connection, lease.row.exam_hash)
        known = {} if there is None else _images_here(connection, db.site_key, there)
    site = site_settings.current(db)
    if lease.row.asked_by == BY_PUSH:
        paths = pushed.taken(db.settings.state_dir, lease.row.exam_hash, lease.id)
        try:
            return _made(db, lease, held, site, paths, there)
        except NotAllowed as refused:  # the archive was told that it is here, and need not have it any more
            raise SiteFault(f"{refused} {_SWITCH_ON}") from None
    web = DicomWeb(archive, credentials_of(db.settings, archive.name))
    if there is not None:
        beyond = [one for one in _pictures(db, web, uid) if known and one.uid not in known]
        return _Outcome(there, 0, n_not_here=len(beyond))
    with temporary_folder(temporary_parent(db.settings.state_dir)) as folder:
        room = min(site.study_mib * MIB, _room_for_priors(db, archive, lease.row))
        paths = _download(db, web, archive, uid, site, folder, held, room)
        return replace(_made(db, lease, held, site, paths, None), n_bytes=sum(path.stat().st_size for path in paths))


def _made(db: Database, lease: Lease, held: Held, site: Settings, paths: Sequence[Path], there: str | None) -> _Outcome:
    """A study of these files, unless it is here. there: its id where it is known to be."""
    if len(paths) > site.study_files:
        raise ArchiveRefused(f"This study has {len(paths)} images; at most {site.study_files} may come here.")
    found = read_study(paths, settings=site, site_key=db.site_key, with_source=True, with_frames=True)
    held.require()
    own = _own_results(db, [one.source.get("SOPInstanceUID", "") for one in found])
    found = tuple(one for one in found if one.source.get("SOPInstanceUID") not in own)
    intakes, refusals = _of_exam(found, lease.row.exam_hash)
    if own and not found:
        if there:
            return _Outcome(there, 0)
        raise ArchiveRefused("These are results of this site, and its study of the exam is not here any more.")
    if not intakes:
        raise ArchiveRefused(f"None of the {len(paths)} images could be read. The first: {refusals[0]}")
    # Read from the files themselves, in the child process, so that nobody trusts what the archive listed.
    identity = SourceIdentity.from_sources({intake.sha256: intake.source for intake in intakes})
    study_id, is_new = (there, False) if there else _stored(db, lease, intakes, identity)
    if is_new:
        return _Outcome(study_id, len(intakes), refusals)
    with db.read() as connection:
        known = _images_here(connection, db.site_key, study_id)
        patient = connection.execute(select(tables.study.c.patient_hash).where(tables.study.c.id == study_id)).scalar()
    sent = [(one.image, known.get(one.source["SOPInstanceUID"])) for one in intakes if one.image is not None]
    n_changed = sum(row is not None and _differs(image, row, patient) for image, row in sent)
    return _Outcome(study_id, 0, refusals, sum(row is None for _, row in sent) if known else 0, n_changed)


def _differs(image: Image, row: Row[Any], patient_hash: str | None) -> bool:
    """Whether a file says something else now than what is kept of it; a side that a reader has set where the file says
    none stays."""
    size = (image.height, image.width)
    return (
        (image.patient_hash or patient_hash) != patient_hash
        or any(said and said != kept for said, kept in ((image.laterality, row.laterality), (image.view, row.view)))
        or (None not in (row.n_rows, row.n_columns) and size != (row.n_rows, row.n_columns))
    )


def _pictures(db: Database, web: DicomWeb, uid: str) -> list[FoundInstance]:
    """Without the pictures that are results of this site, marks and all."""
    found = [one for one in web.instances(uid) if not one.sop_class.startswith(_NO_PICTURES)]
    own = _own_results(db, [one.uid for one in found])
    return [one for one in found if one.uid not in own]


def _own_results(db: Database, uids: Sequence[str]) -> set[str]:
    """Those of the objects that this site has made: an archive sends on what it was sent."""
    sent = tables.outbox.c.sop_instance_uid
    with db.read() as connection:
        return set(connection.execute(select(sent).where(sent.in_(uids))).scalars())


def _images_here(connection: Connection, site_key: bytes, study_id: str) -> dict[str, Row[Any]]:
    """SOP instance UID -> image of the study; none once they are forgotten."""
    identity = identity_of(connection, site_key, study_id)
    rows = connection.execute(select(tables.image).where(tables.image.c.study_id == study_id)).all()
    instances = identity.instances if identity else {}
    return {instances[row.sha256]["SOPInstanceUID"]: row for row in rows if row.sha256 in instances}


def _room_for_priors(db: Database, archive: Archive, row: Row[Any]) -> int:
    """How many bytes the exam of this row may have by what earlier exams of one patient may have together."""
    if row.prior_of is None:
        return sys.maxsize
    arrival = tables.arrival.c
    query = select(arrival.result).where(arrival.prior_of == row.prior_of, arrival.state == DONE)
    with db.read() as connection:
        used = sum((result or {}).get("n_bytes", 0) for result in connection.execute(query).scalars())
    return max(int(archive.priors_mib * MIB - used), 0)


def _download(
    db: Database, web: DicomWeb, archive: Archive, uid: str, site: Settings, folder: Path, held: Held, room: int
) -> list[Path]:
    """The pictures of the study as files, within what a study may have here. room: bytes of all of them."""
    wanted = _pictures(db, web, uid)
    if not wanted:
        raise ArchiveRefused(f"{archive.name} lists no pictures in this study.")
    if len(wanted) > site.study_files:
        raise ArchiveRefused(f"This study has {len(wanted)} images; at most {site.study_files} may be fetched here.")
    paths = []
    for number, instance in enumerate(wanted):
        held.require()
        paths.append(folder / f"{number:04d}.dcm")
        room -= _fetch_one(web, uid, instance, paths[-1], min(room, site.upload_mib * MIB))
    return paths


def _fetch_one(web: DicomWeb, uid: str, instance: FoundInstance, path: Path, most: int) -> int:
    if most <= 0:
        raise ArchiveRefused("This study is larger than a study may be here. An administrator can raise the limit.")
    return web.fetch(uid, instance, path, most=most)


def _of_exam(intakes: Sequence[Intake], exam_hash: str) -> tuple[list[Intake], list[str]]:
    """The readable pictures of this exam, each once, and the sentences on the others."""
    found: dict[str, Intake] = {}
    refusals = []
    for intake in intakes:
        if intake.image is None:
            refusals.append(intake.refused or "It could not be read.")
        elif not intake.source:
            refusals.append("It does not name its study, series and object, so no result could refer to it.")
        elif intake.image.exam_hash != exam_hash:
            refusals.append("The archive sent an image of another study than it was asked for.")
        elif intake.image.modality is None:
            refusals.append("Nothing says what kind of picture it is. Upload it by hand and choose its kind.")
        else:
            found.setdefault(intake.sha256, intake)
    return list(found.values()), refusals


def _stored(db: Database, lease: Lease, intakes: Sequence[Intake], identity: SourceIdentity) -> tuple[str, bool]:
    """(id, whether it is new): the study of these pictures, with what it is called in its archive."""
    pictures = tuple(
        NewPicture(intake, laterality=None if intake.image and intake.image.laterality else SIDE_NOT_STATED)
        for intake in intakes
    )
    images = on_one_scale([picture.image for picture in pictures])
    kind, day = images[0].modality, images[0].taken_on
    name = f"{str(kind).capitalize()}{f' of {day}' if day else ''}, no. {lease.id}"
    require_settled(NewStudy(name, pictures))
    row = lease.row

    def add_identity(connection: Connection, study_id: str, found: SourceIdentity = identity) -> None:
        record_identity(
            connection, db.site_key, study_id, archive_id=row.archive_id, exam_hash=row.exam_hash, identity=found
        )

    with db.begin() as connection:
        person_id = _who_answers(connection, row.archive_id) if row.asked_by == BY_PUSH else row.created_by
        uploaded = _uploaded_before(connection, db.site_key, row.exam_hash, images, identity)
        if uploaded is not None:
            add_identity(connection, *uploaded)
            return uploaded[0], False
    actor = ProcessActor(row.asked_by, person_id)
    return create_study(db, actor, display_name=name, images=images, also=add_identity), True


def _uploaded_before(
    connection: Connection, site_key: bytes, exam_hash: str, images: Sequence[Image], identity: SourceIdentity
) -> tuple[str, SourceIdentity] | None:
    """The oldest study that somebody uploaded of this exam, and what the images of both are called; None without one.

    It has one of these very files, or one of these objects of this patient, as an archive that changes what it stores
    gives back.
    """
    image, source, study = tables.image.c, tables.source_identity.c, tables.study.c
    from_archive = select(source.study_id).where(source.archive_id.is_not(None))
    has_file = select(image.study_id).where(image.sha256.in_([one.sha256 for one in images]))
    patients = {one.patient_hash for one in images if one.patient_hash}
    of_exam = select(source.study_id).where(source.exam_hash == exam_hash)
    is_of_patient = study.id.in_(of_exam) & study.patient_hash.in_(patients)
    query = (
        select(study.id, study.id.in_(has_file).label("has_file"))
        .where(in_worklist(), study.id.not_in(from_archive), or_(study.id.in_(has_file), is_of_patient))
        .order_by(study.created_at)
    )
    for row in connection.execute(query):
        of_upload = identity_of(connection, site_key, row.id)
        same = {} if of_upload is None else _same_objects(of_upload, identity)
        if row.has_file or same:
            return row.id, SourceIdentity(identity.study, {**same, **identity.instances})
    return None


def _same_objects(uploaded: SourceIdentity, fetched: SourceIdentity) -> dict[str, Mapping[str, str]]:
    """Those of the uploaded instances that are objects of the archive, of the same size: marks lie in its pixels."""
    there = {_object(tags) for tags in fetched.instances.values()}
    return {sha: tags for sha, tags in uploaded.instances.items() if _object(tags) in there}


def _object(tags: Mapping[str, str]) -> tuple[str, ...]:
    return tuple(tags[keyword] for keyword in ("SeriesInstanceUID", "SOPInstanceUID", "SOPClassUID", "Rows", "Columns"))
