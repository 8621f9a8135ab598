"""What became of a study, as somebody entered it: pathology, date and source of each breast. Nothing is overwritten.

Images of this site's own reads whose truth was entered: what a data set can be made of, by an administrator's act.

The rules are those of `reader_scores`: the final read is saved, nobody is told of a study in the middle of which that
person is, and synthetic studies count in a demonstration only. Of several truths of a breast the last counts.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import date, datetime, timedelta

from sqlalchemy import insert, select

from core.errors import Conflict, InvalidInput
from core.records.audit import trail
from core.records.database import tables
from core.records.database.db import Database
from core.records.people.permissions import Actor, acting
from core.records.reads.reader_scores import finished, is_reading
from core.records.reads.reads import breasts_shown, has_read
from core.records.reads.rows import find_study, unread_of
from core.types import SIDE_NOT_STATED, Modality
from core.wording import tidy_text

PATHOLOGIES = ("benign", "malignant", "not biopsied, stable")
SOURCE_LENGTH_MOST = 200


@dataclass(frozen=True, slots=True)
class Truth:
    """What became of a breast, as somebody entered it. Of several for one breast the last one counts."""

    breast: str
    pathology: str
    happened_on: date
    source: str
    person_id: int
    person_name: str
    created_at: datetime


def record_truth(
    db: Database, actor: Actor, study_id: str, *, breast: str, pathology: str, happened_on: date, source: str
) -> None:
    """Enter what became of one breast; a correction is one more row. Raises NotAllowed, NotFound, InvalidInput."""
    with acting(db.begin(), actor, "record_truth") as (connection, person):
        if pathology not in PATHOLOGIES:
            raise InvalidInput(f"The pathology can be {', '.join(PATHOLOGIES)}.")
        # A day's grace: west of the server it may be tomorrow already.
        if happened_on > tables.now().date() + timedelta(days=1):
            raise InvalidInput("The date of the result lies in the future.")
        words = tidy_text(source, SOURCE_LENGTH_MOST, "source")
        if not words:
            raise InvalidInput("Say where the result comes from, for example: core biopsy, pathology report.")
        find_study(connection, study_id, is_for_change=True)
        if breast not in breasts_shown(connection, study_id):
            raise InvalidInput("This study does not show that breast.")
        connection.execute(
            insert(tables.truth).values(
                study_id=study_id, breast=breast, pathology=pathology, happened_on=happened_on, source=words,
                person_id=person.id, created_at=tables.now(),
            )
        )  # fmt: skip
        trail.record(connection, person.id, "enter truth", f"study {study_id}", breast=breast)


def truths_of(db: Database, actor: Actor, study_id: str) -> list[Truth]:
    """What became of the study, oldest entry first. Raises NotAllowed, NotFound; Conflict before the final read.

    Somebody who is in the middle of reading (own first read, no own final one) is not told either.
    """
    truth, author = tables.truth.c, tables.person.c
    with acting(db.read(), actor, "see_truth") as (connection, person):
        find_study(connection, study_id)
        if not has_read(connection, study_id, "final"):
            raise Conflict("What became of this study is shown once its final read is saved.")
        if has_read(connection, study_id, "first", person) and not has_read(connection, study_id, "final", person):
            raise Conflict("What became of this study is shown once your own final read is saved.")
        rows = connection.execute(
            select(
                truth.breast, truth.pathology, truth.happened_on, truth.source, truth.person_id,
                author.name.label("person_name"), truth.created_at,
            )
            .join_from(tables.truth, tables.person, truth.person_id == author.id)
            .where(truth.study_id == study_id)
            .order_by(truth.id)
        ).all()  # fmt: skip
    return [Truth(**row._mapping) for row in rows]


@dataclass(frozen=True, slots=True)
class KnownImage:
    """One image and what became of its breast. study_id: for the trail. stored: its key in the image store.

    pathology: one of `core.records.reads.truths.PATHOLOGIES`. patient: equal for images of one patient; a keyed hash,
    or the study's id where the patient is not known.
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


def known_images(db: Database, actor: Actor, modality: Modality) -> KnownImages:
    """Every image of this kind that models read and whose breast has a truth. Raises NotAllowed."""
    found: list[KnownImage] = []
    left_out: Counter[str] = Counter()
    with acting(db.read(), actor, "manage_data") as (connection, person):
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
                if unread := unread_of(image.meta, image.laterality):  # what is not read is not learned from
                    left_out[unread] += 1
                    continue
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
