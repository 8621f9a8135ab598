"""Images of this site's own reads whose truth was entered: what a data set can be made of, by an administrator's act.

The rules are those of `reader_scores`: the final read is saved, nobody is told of a study in the middle of which that
person is, and synthetic studies count in a demonstration only. Of several truths of a breast the last counts.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass

from sqlalchemy import select

from core.records import tables
from core.records.db import Database
from core.records.permissions import Person, demand
from core.records.reader_scores import finished, is_reading
from core.types import SIDE_NOT_STATED, Modality


@dataclass(frozen=True, slots=True)
class KnownImage:
    """One image and what became of its breast. study_id: for the trail. stored: its key in the image store.

    pathology: one of `core.records.truths.PATHOLOGIES`. patient: equal for images of one patient; a keyed hash, or the
    study's id where the patient is not known.
    """

    study_id: str
    stored: str
    pathology: str
    patient: str
    laterality: str
    view: str
    manufacturer: str


@dataclass(frozen=True, slots=True)
class KnownImages:
    """images: by study and position. left_out: sentence -> how many images it is true of."""

    images: tuple[KnownImage, ...]
    left_out: Mapping[str, int]

    @property
    def n_studies(self) -> int:
        return len({image.study_id for image in self.images})


def known_images(db: Database, person: Person, modality: Modality) -> KnownImages:
    """Every image of this kind whose breast has a truth. Raises NotAllowed."""
    demand(person, "manage_data")
    found: list[KnownImage] = []
    left_out: Counter[str] = Counter()
    with db.read() as connection:
        for study in connection.execute(finished(db)).all():
            reads = connection.execute(select(tables.read).where(tables.read.c.study_id == study.id)).all()
            images = connection.execute(
                select(tables.image)
                .where(tables.image.c.study_id == study.id, tables.image.c.modality == modality.value)
                .order_by(tables.image.c.position)
            ).all()
            if is_reading(reads, person.id):
                left_out["You are in the middle of reading the study."] += len(images)
                continue
            truth = tables.truth.c
            truths = connection.execute(
                select(truth.breast, truth.pathology).where(truth.study_id == study.id).order_by(truth.id)
            )
            pathology = {row.breast: row.pathology for row in truths}
            for image in images:
                breast = image.laterality or SIDE_NOT_STATED
                if breast not in pathology:
                    left_out["No truth was entered for the breast that the image shows."] += 1
                    continue
                if image.pixels_removed_at is not None:
                    left_out["Its pixels were removed by the site's policy for keeping pictures."] += 1
                    continue
                tags = image.meta.get("tags", {})
                found.append(
                    KnownImage(
                        study.id,
                        image.stored,
                        pathology[breast],
                        study.patient_hash or study.id,
                        image.laterality or "",
                        image.view or "",
                        str(tags.get("Manufacturer", "")),
                    )
                )
    return KnownImages(tuple(found), left_out)
