"""Cases of a reader study from a data set: pictures whose label says what became of them.

Only pictures that no model of that version was trained or chosen on: its test part, or all of it where it is in folds.
Each becomes a study that stands in no worklist, has no name and is read in reader studies alone; its id follows from
its file, so that two reader studies of one picture share it.
"""

from __future__ import annotations

import csv
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import PurePosixPath

from sqlalchemy import Connection, delete, insert, select

from core.errors import Conflict
from core.files import undone_by
from core.imaging.decoded import Limits
from core.imaging.picture import read_picture
from core.records import data_sets
from core.records.data_sets import VersionRow
from core.records.database import image_store, tables
from core.records.database.db import Database
from core.records.people.permissions import Actor, Person, require_permission
from core.records.reader_studies.protocol import StudyCase
from core.records.reads.rows import columns_of
from core.records.reads.studies import delete_files
from core.types import LATERALITIES, SIDE_NOT_STATED, Modality

MALIGNANT_LABELS = ("malignant", "idc", "cancer")
"""Labels that count as malignant without being asked about, the first that a data set has."""


@dataclass(frozen=True, slots=True)
class DataSetAtHand:
    """A version of a data set with pictures that are held back. labels: label -> how many of those."""

    version_id: int
    name: str
    number: int
    labels: Mapping[str, int]

    @property
    def source(self) -> str:
        """What the protocol says of where its cases come from."""
        return f"data set {self.name}, version {self.number}, held-back pictures"


def data_sets_at_hand(db: Database, actor: Actor, modality: Modality) -> list[DataSetAtHand]:
    """Versions of this kind with two labels or more among what is held back. Raises NotAllowed."""
    with db.read() as connection:
        require_permission(connection, actor, "design_reader_study")
    found = []
    for one in data_sets.list_checked(db, actor):
        labels: Counter[str] = Counter()
        for part in _held_back(one):
            labels.update({label: n for label, n in one.counts.get(part, {}).items() if n})
        if one.modality == modality.value and len(labels) > 1:
            found.append(DataSetAtHand(one.id, one.name, one.number, dict(labels)))
    return found


def _held_back(version: VersionRow) -> tuple[str, ...]:
    return tuple(version.counts) if version.folds else ("test",)


def cases_of_version(db: Database, actor: Actor, version_id: int, label: str) -> tuple[StudyCase, ...]:
    """What is held back of a version, a case a picture. label: what counts as malignant.

    Raises NotAllowed, NotFound.
    """
    with db.read() as connection:
        require_permission(connection, actor, "design_reader_study")
        return tuple(case for case, _ in _cases(connection, db, version_id, label))


def _cases(connection: Connection, db: Database, version_id: int, label: str) -> list[tuple[StudyCase, str]]:
    """Each case with its file below the folder of data sets."""
    version = data_sets.find_version(connection, version_id)
    parts = set(_held_back(version))
    path = data_sets.checked_manifest(db.settings, version.manifest_sha256)
    patients: dict[str, int] = {}
    found = []
    with path.open(encoding="utf-8-sig", newline="") as stream:
        for row in csv.DictReader(stream):
            if not version.folds and row.get("split") not in parts:
                continue
            file = row["file"]
            breast = row.get("laterality") or SIDE_NOT_STATED
            breast = breast if breast in LATERALITIES else SIDE_NOT_STATED
            who = row.get("patient") or row.get("group") or file
            case = StudyCase(
                study_id=PurePosixPath(file).stem[:32],
                truth={breast: row["label"] == label},
                patient=patients.setdefault(who, len(patients) + 1),
            )
            found.append((case, file))
    return found


def require_there(
    connection: Connection, db: Database, version_id: int, label: str, wanted: Iterable[StudyCase]
) -> None:
    """Raises Conflict where one of these cases is not in the version, or is there with another truth."""
    known = {case.study_id: case for case, _ in _cases(connection, db, version_id, label)}
    if any(known.get(case.study_id) != case for case in wanted):
        raise Conflict("A case is not in this data set any more. Choose the cases again.")


def store_cases(
    db: Database, actor: Actor, version_id: int, label: str, wanted: Sequence[StudyCase], modality: Modality
) -> None:
    """Make studies of the pictures of these cases, where there are none yet.

    Raises NotAllowed, NotFound, UnreadableImage; Conflict where the disk is full.
    """
    with db.read() as connection:
        require_permission(connection, actor, "design_reader_study")
        files = {case.study_id: file for case, file in _cases(connection, db, version_id, label)}
        study = tables.study.c
        here = set(
            connection.execute(select(study.id).where(study.id.in_([case.study_id for case in wanted]))).scalars()
        )
    folder, limits = data_sets.files_dir(db.settings), Limits.of(db.settings)
    for case in wanted:
        if case.study_id in here:
            continue
        image = read_picture((folder / files[case.study_id]).read_bytes(), modality, limits=limits)
        (breast,) = case.truth
        blob = image_store.pixels_blob(image.pixels)
        columns = columns_of(case.study_id, 0, image, blob.key)
        columns["laterality"] = breast if breast in LATERALITIES else None
        with undone_by(lambda key=blob.key: delete_files(db, [key])):  # type: ignore[misc]
            db.store.put(blob)
            with db.begin() as connection:
                person = require_permission(connection, actor, "design_reader_study")
                image_store.lock(connection)
                db.store.put(blob)  # again, now that nobody can remove it as unused
                _insert(connection, person, case.study_id, columns)


def _insert(connection: Connection, person: Person, study_id: str, columns: Mapping[str, object]) -> None:
    if connection.execute(select(tables.study.c.id).where(tables.study.c.id == study_id)).first():
        return  # somebody else designed a study of the same picture just now
    connection.execute(
        insert(tables.study).values(
            id=study_id, display_name="Case of a reader study", created_by=person.id, created_at=tables.now(),
            reading_mode="read_first", patient_hash=None, taken_on=None, is_synthetic=False, is_reader_study_case=True,
        )
    )  # fmt: skip
    connection.execute(insert(tables.image).values(**columns))


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
    keys = connection.execute(delete(image).where(image.c.study_id.in_(own)).returning(image.c.stored)).scalars().all()
    connection.execute(delete(study).where(study.c.id.in_(own)))
    return list(keys)
