"""What became of a study, as somebody entered it: pathology, date and source of each breast. Nothing is overwritten."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import date, datetime, timedelta

from sqlalchemy import insert, select

from core.errors import Conflict, InvalidInput
from core.records import audit, tables
from core.records.db import Database
from core.records.permissions import Person, demand
from core.records.reads import breasts_shown, has_read, tidy_text
from core.records.study_rows import find_study

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
    db: Database, person: Person, study_id: str, *, breast: str, pathology: str, happened_on: date, source: str
) -> None:
    """Enter what became of one breast; a correction is one more row. Raises NotAllowed, NotFound, InvalidInput."""
    demand(person, "record_truth")
    if pathology not in PATHOLOGIES:
        raise InvalidInput(f"The pathology can be {', '.join(PATHOLOGIES)}.")
    # A day's grace: west of the server it may be tomorrow already.
    if happened_on > tables.now().date() + timedelta(days=1):
        raise InvalidInput("The date of the result lies in the future.")
    words = tidy_text(source, SOURCE_LENGTH_MOST, "source")
    if not words:
        raise InvalidInput("Say where the result comes from, for example: core biopsy, pathology report.")
    with db.begin() as connection:
        find_study(connection, study_id, is_for_change=True)
        if breast not in breasts_shown(connection, study_id):
            raise InvalidInput("This study does not show that breast.")
        connection.execute(
            insert(tables.truth).values(
                study_id=study_id, breast=breast, pathology=pathology, happened_on=happened_on, source=words,
                person_id=person.id, created_at=tables.now(),
            )
        )  # fmt: skip
        audit.record(connection, person.id, "enter truth", f"study {study_id}", breast=breast)


def truths_of(db: Database, person: Person, study_id: str) -> list[Truth]:
    """What became of the study, oldest entry first. Raises NotAllowed, NotFound; Conflict before the final read.

    Somebody who is in the middle of reading (own first read, no own final one) is not told either.
    """
    demand(person, "see_truth")
    truth, author = tables.truth.c, tables.person.c
    with db.read() as connection:
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
