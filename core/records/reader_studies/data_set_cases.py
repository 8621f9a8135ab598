"""Cases of a reader study from a data set: pictures, or whole exams, whose labels say what became of them.

The test part of a version, or all of it where it is in folds. That does not keep them from models: weights that were
measured in folds are fitted on all of them afterwards, and others may know a test part from elsewhere. The models that
would answer are asked before a reader study is locked (`learnt_cases`).

Each case becomes a study that stands in no worklist, has no name and is read in reader studies alone; its id follows
from its files, so that two reader studies of one picture or exam share it.

A data set does not say which pictures were taken on one day. An exam is all that is held back of one patient; a data
set with a column `exam` parts a patient's exams by it.
"""

from __future__ import annotations

import csv
import hashlib
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import PurePosixPath

from sqlalchemy import Connection, delete, insert, select

from core.errors import Conflict
from core.evaluation.tables.cells import require_positive_apart
from core.files import undone_by
from core.imaging.decoded import Limits
from core.imaging.picture import read_picture
from core.records import data_sets
from core.records.data_sets import VersionRow
from core.records.database import image_store, tables
from core.records.database.db import Database
from core.records.people.permissions import Actor, Person, acting, require_permission_now
from core.records.queue import RUNNING
from core.records.reader_studies.protocol import StudyCase
from core.records.reads.rows import columns_of
from core.records.reads.studies import delete_files
from core.types import LATERALITIES, SIDE_NOT_STATED, VIEWS, Modality

MALIGNANT_LABELS = ("malignant", "idc", "cancer")
"""Labels that count as malignant without being asked about, the first that a data set has."""


MOST_PICTURES = 40
"""Of one exam. More are frames of clips, or a patient of many exams that nothing tells apart."""


@dataclass(frozen=True, slots=True)
class CasesOf:
    """What of a data set is read: a version, the label that counts as malignant, and whether a case is a whole exam."""

    version_id: int
    label: str
    is_by_exam: bool = False


@dataclass(frozen=True, slots=True)
class _Picture:
    """One row of a manifest. file: below the folder of data sets. view: one of `VIEWS` or None."""

    file: str
    breast: str
    view: str | None


@dataclass(frozen=True, slots=True)
class DataSetAtHand:
    """A version of a data set with pictures that are held back, or in folds. labels: label -> how many of those."""

    version_id: int
    name: str
    number: int
    labels: Mapping[str, int]
    is_in_folds: bool = False

    @property
    def source(self) -> str:
        """What the protocol says of where its cases come from."""
        which = "all pictures, in folds" if self.is_in_folds else "held-back pictures"
        return f"data set {self.name}, version {self.number}, {which}"


def data_sets_at_hand(db: Database, actor: Actor, modality: Modality) -> list[DataSetAtHand]:
    """Versions of this kind with two labels or more among what is held back. Raises NotAllowed."""
    require_permission_now(db, actor, "design_reader_study")
    found = []
    for one in data_sets.list_checked(db, actor):
        labels: Counter[str] = Counter()
        for part in _held_back(one):
            labels.update({label: n for label, n in one.counts.get(part, {}).items() if n})
        if one.modality == modality.value and len(labels) > 1:
            found.append(DataSetAtHand(one.id, one.name, one.number, dict(labels), bool(one.folds)))
    return found


def _held_back(version: VersionRow) -> tuple[str, ...]:
    return tuple(version.counts) if version.folds else ("test",)


def cases_of_version(db: Database, actor: Actor, asked: CasesOf) -> tuple[StudyCase, ...]:
    """What is held back of a version, a case a picture or an exam. Raises NotAllowed, NotFound, and InvalidInput where
    another label names the malignant one and would count as benign."""
    with acting(db.read(), actor, "design_reader_study") as (connection, _):
        counts = data_sets.find_version(connection, asked.version_id).counts
        require_positive_apart({label for part in counts.values() for label in part}, asked.label)
        return tuple(case for case, _ in _cases(connection, db, asked))


def _cases(connection: Connection, db: Database, asked: CasesOf) -> list[tuple[StudyCase, list[_Picture]]]:
    """Each case with its pictures, in the order of the manifest; exams in the order of their first picture.

    A breast of an exam is malignant where one of its pictures is. An exam of more than `MOST_PICTURES` is no case.
    """
    version = data_sets.find_version(connection, asked.version_id)
    parts = set(_held_back(version))
    path = data_sets.checked_manifest(db.settings, version.manifest_sha256)
    patients: dict[str, int] = {}
    exams: dict[tuple[int, str], list[tuple[_Picture, bool]]] = {}
    with path.open(encoding="utf-8-sig", newline="") as stream:
        for row in csv.DictReader(stream):
            if not version.folds and row.get("split") not in parts:
                continue
            breast = row.get("laterality") or SIDE_NOT_STATED
            breast = breast if breast in LATERALITIES else SIDE_NOT_STATED
            view = row.get("view") or None
            picture = _Picture(row["file"], breast, view if view in VIEWS else None)
            who = row.get("patient") or row.get("group") or picture.file
            patient = patients.setdefault(who, len(patients) + 1)
            exam = row.get("exam", "") if asked.is_by_exam else picture.file
            exams.setdefault((patient, exam), []).append((picture, row["label"] == asked.label))
    found = []
    for (patient, _), labelled in exams.items():
        if len(labelled) > MOST_PICTURES:
            continue
        pictures = [picture for picture, _ in labelled]
        truth = {
            breast: any(is_malignant for picture, is_malignant in labelled if picture.breast == breast)
            for breast in sorted({picture.breast for picture in pictures})
        }
        found.append((StudyCase(study_id=_study_id(pictures, asked), truth=truth, patient=patient), pictures))
    return found


def _study_id(pictures: Sequence[_Picture], asked: CasesOf) -> str:
    """A picture's own hash; of an exam that of all that it shows, so that a side corrected later makes another case."""
    if not asked.is_by_exam:
        return PurePosixPath(pictures[0].file).stem[:32]
    shown = sorted(f"{one.file} {one.breast} {one.view}" for one in pictures)
    return hashlib.sha256("\n".join(["exam", *shown]).encode()).hexdigest()[:32]


def require_there(connection: Connection, db: Database, asked: CasesOf, wanted: Iterable[StudyCase]) -> None:
    """Raises Conflict where one of these cases is not in the version, or is there with another truth."""
    known = {case.study_id: case for case, _ in _cases(connection, db, asked)}
    if any(known.get(case.study_id) != case for case in wanted):
        raise Conflict("A case is not in this data set any more. Choose the cases again.")


def store_cases(db: Database, actor: Actor, asked: CasesOf, wanted: Sequence[StudyCase], modality: Modality) -> None:
    """Make studies of the pictures of these cases, where there are none yet.

    Raises NotAllowed, NotFound, UnreadableImage; Conflict where the disk is full.
    """
    with acting(db.read(), actor, "design_reader_study") as (connection, _):
        pictures = {case.study_id: shown for case, shown in _cases(connection, db, asked)}
        study = tables.study.c
        here = set(
            connection.execute(select(study.id).where(study.id.in_([case.study_id for case in wanted]))).scalars()
        )
    for case in wanted:
        if case.study_id not in here and case.study_id in pictures:
            _store_case(db, actor, case.study_id, pictures[case.study_id], modality)


def _store_case(db: Database, actor: Actor, study_id: str, pictures: Sequence[_Picture], modality: Modality) -> None:
    """All pictures of a case, or none."""
    folder, limits = data_sets.files_dir(db.settings), Limits.of(db.settings)
    blobs, columns = [], []
    for position, one in enumerate(pictures):
        read = read_picture((folder / one.file).read_bytes(), modality, limits=limits)
        image = replace(read, laterality=one.breast if one.breast in LATERALITIES else None, view=one.view)
        blob = image_store.pixels_blob(image.pixels)
        blobs.append(blob)
        columns.append(columns_of(study_id, position, image, blob.key))
    with undone_by(lambda: delete_files(db, [blob.key for blob in blobs])):
        for blob in blobs:
            db.store.put(blob)
        with acting(db.begin(), actor, "design_reader_study") as (connection, person):
            image_store.lock(connection)
            for blob in blobs:
                db.store.put(blob)  # again, now that nobody can remove it as unused
            _insert(connection, person, study_id, columns)


def _insert(connection: Connection, person: Person, study_id: str, columns: Sequence[Mapping[str, object]]) -> None:
    if connection.execute(select(tables.study.c.id).where(tables.study.c.id == study_id)).first():
        return  # somebody else designed a study of the same case just now
    connection.execute(
        insert(tables.study).values(
            id=study_id, display_name="Case of a reader study", created_by=person.id, created_at=tables.now(),
            reading_mode="read_first", patient_hash=None, taken_on=None, is_synthetic=False, is_reader_study_case=True,
        )
    )  # fmt: skip
    for values in columns:
        connection.execute(insert(tables.image).values(**values))


def drop_cases(connection: Connection, study_ids: Sequence[str]) -> list[str]:
    """Remove those of these cases that no reader study names; the keys of their files, for `delete_files`.

    Call it once the reader study that named them is gone. Nobody has read them: a locked study stays.
    """
    named = {
        case["study_id"]
        for protocol in connection.execute(select(tables.reader_study.c.protocol)).scalars()
        for case in (*protocol["cases"], *protocol["training"])
    }
    study, image = tables.study, tables.image
    going = [one for one in study_ids if one not in named]
    own = (
        connection.execute(select(study.c.id).where(study.c.id.in_(going), study.c.is_reader_study_case))
        .scalars()
        .all()
    )
    table = tables.back_read_study  # a back-read of an earlier version took such cases, too
    connection.execute(delete(table).where(table.c.study_id.in_(own), table.c.state != RUNNING))
    keys = connection.execute(delete(image).where(image.c.study_id.in_(own)).returning(image.c.stored)).scalars().all()
    connection.execute(delete(study).where(study.c.id.in_(own)))
    return list(keys)
