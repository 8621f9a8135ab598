"""What the drift page looks at: recent images and answers, and those before them, without anything of a patient."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any

from sqlalchemy import Connection, Row, select

from core.records import tables
from core.records.db import Database
from core.records.permissions import Person, demand
from core.records.reader_scores import together
from core.types import SIDE_NOT_STATED, Modality

SUSPICIOUS = ("4A", "4B", "4C", "5", "6")
"""BI-RADS categories that count as the reader's positive call."""
NO_VENDOR = "not stated"


@dataclass(frozen=True, slots=True)
class SeenImage:
    """at: when its study was stored, UTC. megapixels, brightness (mean, 0 to 1): None where they were not kept yet."""

    at: datetime
    modality: str
    vendor: str
    megapixels: float | None
    brightness: float | None


@dataclass(frozen=True, slots=True)
class Answered:
    """One answer of some weights to one image. at: UTC. score: the probability of the positive class."""

    at: datetime
    weights_sha256: str
    score: float


@dataclass(frozen=True, slots=True)
class Call:
    """A reader's first impression of a breast beside one model's. agrees: both are positive, or neither is."""

    at: datetime
    weights_sha256: str
    agrees: bool


@dataclass(frozen=True, slots=True)
class Seen:
    """Everything from `since` on. refused: (day, files read, files refused)."""

    images: tuple[SeenImage, ...]
    answers: tuple[Answered, ...]
    calls: tuple[Call, ...]
    refused: tuple[tuple[datetime, int, int], ...]


def seen(db: Database, person: Person, *, since: timedelta) -> Seen:
    """What came in during the time before now. Synthetic studies count in a demonstration only. Raises NotAllowed."""
    demand(person, "see_drift")
    start = tables.now() - since
    study, image, kept = tables.study.c, tables.image.c, tables.prediction.c
    counts = [study.deleted_at.is_(None), study.created_at >= start]
    if not db.settings.demo:
        counts.append(study.is_synthetic.is_(False))
    with db.read() as connection:
        images = connection.execute(
            select(tables.image, study.created_at).join_from(tables.image, tables.study).where(*counts)
        ).all()
        answers = connection.execute(
            select(
                kept.id, kept.study_id, kept.image_id, kept.weights_sha256, kept.payload, study.created_at,
                image.laterality, image.modality,
            )
            .join_from(tables.prediction, tables.study)
            .join(tables.image, kept.image_id == image.id)
            .where(*counts)
            .order_by(kept.id)
        ).all()  # fmt: skip
        reads = connection.execute(
            select(tables.read.c.study_id, tables.read.c.impressions, study.created_at)
            .join_from(tables.read, tables.study)
            .where(tables.read.c.kind == "first", *counts)
        ).all()
        refused = _refused(connection, start)
    return Seen(
        tuple(_image(row) for row in images),
        tuple(Answered(row.created_at, row.weights_sha256, float(row.payload["malignant"])) for row in answers),
        tuple(_calls(answers, reads)),
        refused,
    )


def _image(row: Row[Any]) -> SeenImage:
    size = row.n_rows * row.n_columns / 1e6 if row.n_rows and row.n_columns else None
    vendor = str(row.meta.get("tags", {}).get("Manufacturer", "")).strip() or NO_VENDOR
    return SeenImage(row.created_at, row.modality or "", vendor, size, row.brightness)


def _calls(answers: Iterable[Any], reads: Iterable[Any]) -> list[Call]:
    """Each reader's first impression against each model's answer about that breast, at the threshold it was given."""
    found: dict[tuple[str, str], dict[str, list[tuple[str, float]]]] = {}
    thresholds: dict[tuple[str, str], float] = {}
    for row in answers:
        key = (row.study_id, row.weights_sha256)
        breast = row.laterality or SIDE_NOT_STATED
        score = (row.modality or Modality.ULTRASOUND.value, float(row.payload["malignant"]))
        found.setdefault(key, {}).setdefault(breast, []).append(score)
        thresholds[key] = float(row.payload["threshold"])
    calls = []
    for read in reads:
        for (study_id, weights), breasts in found.items():
            if study_id == read.study_id:
                calls += [
                    Call(read.created_at, weights, _is_positive(read.impressions, breast) == (together(scores) >= line))
                    for breast, scores in breasts.items()
                    if breast in read.impressions
                    for line in (thresholds[study_id, weights],)
                ]
    return calls


def _is_positive(impressions: Mapping[str, Mapping[str, Any]], breast: str) -> bool:
    return impressions[breast]["birads"] in SUSPICIOUS


def _refused(connection: Connection, start: datetime) -> tuple[tuple[datetime, int, int], ...]:
    row = tables.intake.c
    by_day: dict[datetime, tuple[int, int]] = {}
    for at, n_read, n_refused in connection.execute(select(row.at, row.n_read, row.n_refused).where(row.at >= start)):
        day = at.replace(hour=0, minute=0, second=0, microsecond=0)
        before = by_day.get(day, (0, 0))
        by_day[day] = (before[0] + n_read, before[1] + n_refused)
    return tuple((day, *by_day[day]) for day in sorted(by_day))
