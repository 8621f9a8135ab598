"""An image of a study as a row, and back. Only named fields and allowed tags are kept."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict
from typing import Any
from uuid import uuid4

import numpy as np
from sqlalchemy import Row

from core.imaging.dicom_tags import KEPT_TAGS
from core.records.db import Database
from core.types import Image, Modality, Window


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
            "tags": {keyword: str(image.tags[keyword]) for keyword in KEPT_TAGS if keyword in image.tags},
            "windows": [asdict(window) for window in image.windows],
            "window_index": image.window_index,
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
    )
