"""Studies as a zip without whom they show: DICOM files under pseudonyms, and a manifest of what was done and left out.

Files come from a folder, or anew from the archive of a study, because only pixels are stored here. Each is cleaned in a
child process (`core.imaging.deidentify_process`); one that cannot be cleaned never goes into the zip, and never loses
the others.
"""

from __future__ import annotations

import csv
import hashlib
import io
import json
import zipfile
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from sqlalchemy import select

from core.archive.archives import archive_of, credentials_of
from core.archive.dicomweb import DicomWeb, FoundInstance
from core.errors import InvalidInput, NotFound, UnreadableImage
from core.files import temporary_folder, temporary_parent, whole_file
from core.imaging.decoded import Limits
from core.imaging.deidentify_process import deidentify
from core.imaging.sniff import HEAD_BYTES, kind_of
from core.records import site_settings
from core.records.archives.identity import SourceIdentity, identity_of
from core.records.audit import trail
from core.records.database import tables
from core.records.database.db import Database
from core.records.people.permissions import Actor, acting, require_permission
from core.records.reads.rows import find_study
from core.settings import MIB
from core.version import software

COLUMNS = ("file", "patient", "laterality", "view", "modality", "study", "series", "taken_on", "frames", "burnt_in",
           "burned_in_annotation", "blanked", "methods", "sop_class", "sha256")  # fmt: skip
"""Of manifest.csv; the first are those of a manifest for training (docs/data.md)."""
_MOMENT = (1980, 1, 1, 0, 0, 0)
"""Of every member: when an export was made says nothing of when the exam was, but nobody needs it either."""
BURNT_IN_LIMIT = (
    "In ultrasound, what lies outside the calibrated regions is blanked. Text inside them, and in other pictures, is "
    "not looked for and may still be there: look at each picture before you pass it on."
)
"""What a page, a terminal and a manifest say of text burnt into pixels."""
_NO_DICOM = "This is no DICOM file."
_SAME = "The same object once more."
_UPLOADED = (
    "Of a study that was uploaded only the pixels are stored, not its files. Give the files to "
    "`python -m core deidentify` instead."
)


@dataclass(slots=True)
class Export:
    """What an export became. rows: of the manifest. left_out: sentence -> how many files."""

    rows: list[dict[str, Any]] = field(default_factory=list)
    left_out: Counter[str] = field(default_factory=Counter)

    @property
    def n_patients(self) -> int:
        return len({row["patient"] for row in self.rows})

    @property
    def n_studies(self) -> int:
        return len({row["study"] for row in self.rows})


def write_export(db: Database, files: Iterable[Path], target: Path) -> Export:
    """Clean each file and write the zip, whole or not at all. Raises InvalidInput where nothing is left; Conflict."""
    export, limits = Export(), Limits.of(db.settings)
    instances: set[str] = set()
    with (
        whole_file(target, mode=0o600) as half,
        zipfile.ZipFile(half, "w", zipfile.ZIP_DEFLATED, compresslevel=1) as out,
    ):
        for path in files:
            try:
                with path.open("rb") as stream:
                    if kind_of(stream.read(HEAD_BYTES)) != "DICOM":
                        raise UnreadableImage(_NO_DICOM)
                cleaned = deidentify(path, site_key=db.site_key, limits=limits)
                if cleaned.facts["instance"] in instances:
                    raise UnreadableImage(_SAME)
            except UnreadableImage as refused:
                export.left_out[str(refused)] += 1
                continue
            instances.add(cleaned.facts["instance"])
            _add(out, export, cleaned.facts, cleaned.content)
        if not export.rows:
            raise InvalidInput(f"None of the files could be de-identified. {next(iter(export.left_out), '')}".strip())
        _write(out, "manifest.csv", _manifest(export.rows).encode())
        _write(out, "manifest.json", json.dumps(_facts(export), indent=1).encode())
    return export


def export_study(db: Database, actor: Actor, study_id: str) -> bytes:
    """The zip of a study that came from an archive, its files fetched anew; audited.

    Raises NotAllowed, NotFound; InvalidInput for an uploaded study; ArchiveAway, ArchiveRefused, Conflict.
    """
    with acting(db.read(), actor, "export_deidentified") as (connection, _):
        find_study(connection, study_id)
    with temporary_folder(temporary_parent(db.settings.state_dir)) as folder:
        target = folder / "export.zip"
        export = write_export(db, originals(db, study_id, folder), target)
        with db.begin() as connection:  # asked again: fetching takes its time
            person = require_permission(connection, actor, "export_deidentified")
            find_study(connection, study_id)
            trail.record(
                connection, person.id, "export de-identified", f"study {study_id}",
                files=len(export.rows), left_out=sum(export.left_out.values()),
            )  # fmt: skip
        return target.read_bytes()


def can_export(db: Database, actor: Actor, study_id: str) -> bool:
    """Whether the study's files can be fetched anew. Raises NotAllowed, NotFound."""
    source, archive = tables.source_identity, tables.archive
    with acting(db.read(), actor, "export_deidentified") as (connection, _):
        find_study(connection, study_id)
        query = (
            select(source.c.study_id)
            .join_from(source, archive, source.c.archive_id == archive.c.id)
            .where(source.c.study_id == study_id, source.c.sealed != "", archive.c.removed_at.is_(None))
        )
        return connection.execute(query).first() is not None


def originals(db: Database, study_id: str, folder: Path) -> list[Path]:
    """The files of a study's images from its archive. Raises InvalidInput, NotFound, ArchiveAway, ArchiveRefused."""
    source = tables.source_identity.c
    with db.read() as connection:
        identity = identity_of(connection, db.site_key, study_id)
        archive_id = connection.execute(
            select(source.archive_id).where(source.study_id == study_id)
        ).scalar_one_or_none()
        if identity is None or archive_id is None:
            raise InvalidInput(_UPLOADED)
        archive = archive_of(connection, archive_id)
    web = DicomWeb(archive, credentials_of(db.settings, archive.name))
    room = site_settings.current(db).study_mib * MIB
    paths = []
    for number, instance in enumerate(_instances(identity)):
        paths.append(folder / f"{number:04d}.dcm")
        room -= web.fetch(identity.study["StudyInstanceUID"], instance, paths[-1], most=max(room, 1))
    if not paths:
        raise NotFound("None of the study's images came from the archive.")
    return paths


def _instances(identity: SourceIdentity) -> list[FoundInstance]:
    objects = {tags["SOPInstanceUID"]: tags for tags in identity.instances.values()}  # one may be here as two files
    return [
        FoundInstance(tags["SeriesInstanceUID"], uid, tags["SOPClassUID"], tags["Modality"])
        for uid, tags in objects.items()
    ]


def record_export_at_terminal(db: Database, export: Export, *, by: str) -> None:
    """Audit an export that the server's own terminal made."""
    with db.begin() as connection:
        trail.record(
            connection, None, "export de-identified", f"{export.n_studies} studies", by=by,
            files=len(export.rows), left_out=sum(export.left_out.values()),
        )  # fmt: skip


def _add(out: zipfile.ZipFile, export: Export, facts: dict[str, Any], content: bytes) -> None:
    name = f"{facts['patient']}/{facts['study']}/{facts['instance']}.dcm"
    _write(out, name, content)
    row = {key: facts[key] for key in COLUMNS if key in facts}
    export.rows.append(row | {"file": name, "sha256": hashlib.sha256(content).hexdigest()})


def _write(out: zipfile.ZipFile, name: str, content: bytes) -> None:
    member = zipfile.ZipInfo(name, _MOMENT)
    member.compress_type, member.external_attr = zipfile.ZIP_DEFLATED, 0o600 << 16
    out.writestr(member, content)


def _manifest(rows: Sequence[dict[str, Any]]) -> str:
    text = io.StringIO()
    writer = csv.DictWriter(text, COLUMNS)
    writer.writeheader()
    writer.writerows(rows)
    return text.getvalue()


def _facts(export: Export) -> dict[str, Any]:
    from core.imaging.dicom.confidentiality import PARTLY_DONE  # with pydicom

    return {
        "made_by": software(), "profile": "DICOM PS3.15 Annex E; each file names its methods",
        "dates": "shifted by whole days, all of a patient by as much; times of the day taken out",
        "identifiers": "keyed: the same at this site each time, and nowhere else",
        "burnt_in": BURNT_IN_LIMIT, "partly_done": dict(PARTLY_DONE),
        "patients": export.n_patients, "studies": export.n_studies, "files": len(export.rows),
        "left_out": dict(export.left_out),
    }  # fmt: skip
