"""Studies as rows: the lines of the worklist, and the row that an act is about."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from sqlalchemy import Connection, Row, exists, select

from core.errors import NotFound
from core.records import tables
from core.types import LATERALITIES, SIDE_NOT_STATED, Modality

STATES = ("new", "first read saved", "final")


@dataclass(frozen=True, slots=True)
class StudyRow:
    """One line of the worklist. modalities: in order of the images, each once. state: one of `STATES`."""

    id: str
    display_name: str
    modalities: tuple[Modality, ...]
    state: str
    created_at: datetime
    created_by_name: str
    n_images: int
    is_synthetic: bool
    reading_mode: str


def breasts_of(lateralities: Iterable[str | None]) -> tuple[str, ...]:
    """The breasts that are assessed: those that an image shows, right before left; else one, side not stated."""
    shown = set(lateralities)
    return tuple(side for side in LATERALITIES if side in shown) or (SIDE_NOT_STATED,)


def find_study(connection: Connection, study_id: str, *, is_for_change: bool = False) -> Row[Any]:
    """The row of a study that is not deleted. is_for_change: others who change it wait until the transaction ends.

    Raises NotFound.
    """
    query = select(tables.study).where(tables.study.c.id == study_id, undeleted())
    row = connection.execute(query.with_for_update() if is_for_change else query).one_or_none()
    if row is None:
        raise NotFound("This study does not exist, or it was deleted. Go back to the worklist.")
    return row


def study_rows(connection: Connection, where: Any) -> list[StudyRow]:
    """Those that are not deleted and satisfy the condition, newest first."""
    study, person, image = tables.study.c, tables.person.c, tables.image.c
    rows = connection.execute(
        select(tables.study, person.name.label("author"), _read_exists("first"), _read_exists("final"))
        .join_from(tables.study, tables.person, study.created_by == person.id)
        .where(where, undeleted())
        .order_by(study.created_at.desc(), study.id)
    ).all()
    kinds: dict[str, list[str | None]] = {}
    pictures = select(image.study_id, image.modality).join(tables.study).where(where).order_by(image.position)
    for study_id, modality in connection.execute(pictures):
        kinds.setdefault(study_id, []).append(modality)
    return [
        StudyRow(
            id=row.id,
            display_name=row.display_name,
            modalities=tuple(dict.fromkeys(Modality(kind) for kind in kinds.get(row.id, []) if kind)),
            state=STATES[2] if row.has_final else STATES[1] if row.has_first else STATES[0],
            created_at=row.created_at,
            created_by_name=row.author,
            n_images=len(kinds.get(row.id, [])),
            is_synthetic=row.is_synthetic,
            reading_mode=row.reading_mode,
        )
        for row in rows
    ]


def undeleted() -> Any:
    """The condition that a study is not deleted."""
    return tables.study.c.deleted_at.is_(None)


def _read_exists(kind: str) -> Any:
    read = tables.read.c
    return exists().where(read.study_id == tables.study.c.id, read.kind == kind).label(f"has_{kind}")
