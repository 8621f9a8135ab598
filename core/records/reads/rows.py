"""A prediction with its explanation as a row and a file of the store, and back.

Studies as rows: the lines of the worklist, and the row that an act is about.

An image of a study as a row, and back. Only named fields and allowed tags are kept.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Mapping
from dataclasses import asdict, dataclass, replace
from datetime import date, datetime
from typing import Any
from uuid import uuid4

import numpy as np
from sqlalchemy import Connection, Row, exists, select

from core.errors import NotFound
from core.imaging.dicom.tags import ALLOWED_TAGS
from core.imaging.near_duplicates import long_hash
from core.imaging.picture import to_grey
from core.models.aggregate import ImageScore
from core.records.database import tables
from core.records.database.db import Database
from core.records.database.image_store import ImageStore
from core.records.queue import DONE
from core.types import LATERALITIES, NEEDS_SIDE, SIDE_NOT_STATED, Explanation, Fit, Image, Modality, Prediction, Window

BIRADS = ("0", "1", "2", "3", "4A", "4B", "4C", "5", "6")
DENSITIES = ("A", "B", "C", "D")
"""Composition of the breast (ACR BI-RADS Atlas, 5th edition): almost entirely fatty to extremely dense."""
STATES = ("new", "first read saved", "final")


@dataclass(frozen=True, slots=True)
class StudyRow:
    """One line of the worklist. modalities: in order of the images, each once. state: one of `STATES`.

    taken_on: the day of the exam where the files say it.
    """

    id: str
    display_name: str
    modalities: tuple[Modality, ...]
    state: str
    created_at: datetime
    created_by_name: str
    n_images: int
    is_synthetic: bool
    reading_mode: str
    taken_on: date | None = None
    created_by: int = 0


def breasts_of(lateralities: Iterable[str | None]) -> tuple[str, ...]:
    """What is assessed: the breasts that an image shows, right before left, then what images without a side show, so
    that nothing is answered by a model that no reader can assess."""
    shown = {laterality or SIDE_NOT_STATED for laterality in lateralities} or {SIDE_NOT_STATED}
    return tuple(side for side in (*LATERALITIES, SIDE_NOT_STATED) if side in shown)


def find_study(connection: Connection, study_id: str, *, is_for_change: bool = False) -> Row[Any]:
    """The row of a study that is not deleted. is_for_change: others who change it wait until the transaction ends.

    Raises NotFound.
    """
    query = select(tables.study).where(tables.study.c.id == study_id, undeleted())
    row = connection.execute(query.with_for_update() if is_for_change else query).one_or_none()
    if row is None:
        raise NotFound("This study does not exist, or it was deleted. Go back to the worklist.")
    return row


def images_not_here(connection: Connection, study_id: str) -> int:
    """How many images of the study's exam, at least, an archive has listed or sent that are not in the study: they came
    later, or could not be read. 0 for an upload."""
    source, arrival = tables.source_identity.c, tables.arrival.c
    exam = select(source.exam_hash).where(source.study_id == study_id)
    query = select(arrival.result).where(
        arrival.exam_hash.in_(exam), arrival.study_id == study_id, arrival.state == DONE, arrival.result.is_not(None)
    )
    counts = (row.get("n_not_here", 0) + row.get("n_refused", 0) for row in connection.execute(query).scalars() if row)
    return max(counts, default=0)  # not their sum: it may be the same ones each time


def arbiters_of(connection: Connection, study_id: str) -> set[int]:
    """Ids of the people who decide between the two readers of a study."""
    audit = tables.audit.c
    query = select(audit.person_id).where(audit.subject == f"study {study_id}", audit.action == "arbitrate")
    return {person_id for person_id in connection.execute(query).scalars() if person_id is not None}


def patient_key(study: Row[Any], purpose: str) -> str:
    """A key of a study's patient for a table that leaves the records, of the study where the patient is not known. It
    joins no tables of different purposes, nor with the records, which a key of theirs would. study: a row of `study`.
    """
    return hashlib.sha256(f"{purpose} {study.patient_hash or study.id}".encode()).hexdigest()[:16]


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
            taken_on=row.taken_on,
            created_by=row.created_by,
        )
        for row in rows
    ]


def undeleted() -> Any:
    """The condition that a study is not deleted."""
    return tables.study.c.deleted_at.is_(None)


def in_worklist() -> Any:
    """The condition that a study is not deleted, and no case of reader studies alone."""
    return undeleted() & tables.study.c.is_reader_study_case.is_(False)


def _read_exists(kind: str) -> Any:
    read = tables.read.c
    return exists().where(read.study_id == tables.study.c.id, read.kind == kind).label(f"has_{kind}")


def columns_of(study_id: str, position: int, image: Image, key: str) -> dict[str, Any]:
    """The columns of a new row, with an id of its own. key: of the pixels in the image store."""
    row_mm, column_mm = image.spacing_mm or (None, None)
    return {
        "id": uuid4().hex,
        "study_id": study_id,
        "position": position,
        "sha256": image.sha256,
        "stored": key,
        "modality": image.modality.value if image.modality else None,
        "modality_source": image.modality_source,
        "laterality": image.laterality,
        "view": image.view,
        "spacing_row_mm": row_mm,
        "spacing_column_mm": column_mm,
        "frame": image.frame,
        "n_frames": image.n_frames,
        "n_rows": image.height,
        "n_columns": image.width,
        "brightness": float(image.pixels.mean()),
        "meta": {
            "notes": list(image.notes),
            "warnings": list(image.warnings),
            "tags": {keyword: str(image.tags[keyword]) for keyword in ALLOWED_TAGS if keyword in image.tags},
            "windows": [asdict(window) for window in image.windows],
            "window_index": image.window_index,
            "pixel_aspect": image.pixel_aspect,
            "view_modifiers": list(image.view_modifiers),
            "not_scored": image.not_scored,
            "is_scored_alone": image.is_scored_alone,
            "guessed_bits": image.guessed_bits,
            "needs_side": image.needs_side,
            "colour_share": image.colour_share,
            "regions": [list(region) for region in image.regions],
            "exam_hash": image.exam_hash,
            "taken_on": image.taken_on.isoformat() if image.taken_on else None,
            "look": long_hash(to_grey(image.pixels)),
        },
    }


def image_of(row: Row[Any], db: Database, patient_hash: str | None) -> Image:
    """With its pixels, or one black one in their place where they were removed."""
    meta: Mapping[str, Any] = row.meta
    return Image(
        pixels=db.store.pixels(row.stored) if row.pixels_removed_at is None else np.zeros((1, 1), np.float32),
        sha256=row.sha256,
        modality=Modality(row.modality) if row.modality else None,
        modality_source=row.modality_source,
        laterality=row.laterality,
        view=row.view,
        spacing_mm=None if row.spacing_row_mm is None else (row.spacing_row_mm, row.spacing_column_mm),
        frame=row.frame,
        n_frames=row.n_frames,
        windows=tuple(Window(**window) for window in meta["windows"]),
        window_index=meta["window_index"],
        notes=tuple(meta["notes"]),
        warnings=tuple(meta["warnings"]),
        tags=dict(meta["tags"]),
        patient_hash=patient_hash,
        pixel_aspect=meta.get("pixel_aspect", 1.0),  # images of versions before lack these
        view_modifiers=tuple(meta.get("view_modifiers", ())),
        not_scored=meta.get("not_scored", ""),
        is_scored_alone=meta.get("is_scored_alone", False),
        guessed_bits=meta.get("guessed_bits"),
        needs_side=meta.get("needs_side", False),
        colour_share=meta.get("colour_share", 0.0),
        regions=tuple(tuple(region) for region in meta.get("regions", ())),
        exam_hash=meta.get("exam_hash"),
        taken_on=date.fromisoformat(meta["taken_on"]) if meta.get("taken_on") else None,
    )


def newest_predictions(connection: Connection, study_id: str) -> list[Row[Any]]:
    """Of each model the newest answer to each image, in order of the images."""
    retained, image = tables.prediction.c, tables.image.c
    rows = connection.execute(
        select(tables.prediction)
        .join_from(tables.prediction, tables.image, retained.image_id == image.id)
        .where(retained.study_id == study_id)
        .order_by(image.position, retained.model_id, retained.id)
    ).all()
    return list({(row.image_id, row.model_id): row for row in rows}.values())


def as_first_answered(connection: Connection, study_id: str, prediction: Prediction) -> Prediction:
    """The same answer, against the threshold of these weights' first answer in the study where there is one."""
    retained = tables.prediction.c
    first = connection.execute(
        select(retained.payload)
        .where(retained.study_id == study_id, retained.weights_sha256 == prediction.weights_sha256)
        .order_by(retained.id)
        .limit(1)
    ).scalar_one_or_none()
    if first is None:
        return prediction
    return replace(prediction, threshold=first["threshold"], threshold_rule=first.get("threshold_rule", ""))


def payload_of(prediction: Prediction, explanation: Explanation) -> dict[str, Any]:
    """What has no column of its own, as plain JSON values (NumPy's numbers are not)."""
    fit = explanation.fit
    return {
        "image_sha256": prediction.image_sha256,
        "classes": list(prediction.classes),
        "probabilities": [float(value) for value in prediction.probabilities],
        "malignant": float(prediction.malignant),
        "malignant_samples": [float(value) for value in prediction.malignant_samples],
        "threshold": float(prediction.threshold),
        "threshold_rule": prediction.threshold_rule,
        "training_distance": prediction.training_distance,
        "seconds": float(prediction.seconds),
        "device": prediction.device,
        "positive_index": int(explanation.positive_index),
        "fit": {
            "image_shape": [int(value) for value in fit.image_shape],
            "box": [int(value) for value in fit.box],
            "side": int(fit.side),
            "top": int(fit.top),
            "left": int(fit.left),
            "height": int(fit.height),
            "width": int(fit.width),
            "columns": int(fit.columns),
            "is_mirrored": bool(fit.is_mirrored),
        },
    }


def prediction_of(row: Row[Any]) -> Prediction:
    payload: Mapping[str, Any] = row.payload
    return Prediction(
        model_id=row.model_id,
        weights_sha256=row.weights_sha256,
        image_sha256=payload["image_sha256"],
        classes=tuple(payload["classes"]),
        probabilities=tuple(payload["probabilities"]),
        malignant=payload["malignant"],
        malignant_samples=tuple(payload["malignant_samples"]),
        threshold=payload["threshold"],
        seconds=payload["seconds"],
        device=payload["device"],
        threshold_rule=payload.get("threshold_rule", ""),
        training_distance=payload.get("training_distance"),
    )


def image_score(answer: Any, image: Any) -> ImageScore:
    """What a stored answer means for its breast. answer, image: rows of `prediction` and `image`, or what has their
    columns model_id, weights_sha256, payload and laterality, modality, meta."""
    payload: Mapping[str, Any] = answer.payload
    return ImageScore(
        breast=image.laterality or SIDE_NOT_STATED,
        modality=Modality(image.modality) if image.modality else None,
        model_id=answer.model_id,
        weights_sha256=answer.weights_sha256,
        malignant=float(payload["malignant"]),
        threshold=float(payload["threshold"]),
        samples=tuple(payload["malignant_samples"]),
        training_distance=payload.get("training_distance"),
        is_alone=is_alone(image.meta, image.laterality),
    )


def is_alone(meta: Mapping[str, Any], laterality: str | None) -> bool:
    """As `core.models.aggregate.counts_for_breast` says it of the image, the other way round."""
    return bool(meta.get("is_scored_alone") or unread_of(meta, laterality))


def unread_of(meta: Mapping[str, Any], laterality: str | None) -> str:
    """As `Image.unread` says it: why no model reads the image as it is now, "" where models do."""
    is_open = meta.get("needs_side") and laterality is None
    return str(meta.get("not_scored") or (NEEDS_SIDE if is_open else ""))


def explanation_of(row: Row[Any], store: ImageStore) -> Explanation:
    """Raises NotFound when the file with the maps is gone or damaged."""
    payload: Mapping[str, Any] = row.payload
    fit = {**payload["fit"], "image_shape": tuple(payload["fit"]["image_shape"]), "box": tuple(payload["fit"]["box"])}
    return Explanation(
        classes=tuple(payload["classes"]),
        positive_index=payload["positive_index"],
        maps=store.maps(row.maps),
        fit=Fit(**fit),
    )
