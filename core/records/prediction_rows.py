"""A prediction with its explanation as a row and a file of the store, and back."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

from sqlalchemy import Connection, Row, select

from core.records import tables
from core.records.store import ImageStore
from core.types import Explanation, Fit, Prediction


def newest_predictions(connection: Connection, study_id: str) -> list[Row[Any]]:
    """Of each model the newest answer to each image, in order of the images."""
    kept, image = tables.prediction.c, tables.image.c
    rows = connection.execute(
        select(tables.prediction)
        .join_from(tables.prediction, tables.image, kept.image_id == image.id)
        .where(kept.study_id == study_id)
        .order_by(image.position, kept.model_id, kept.id)
    ).all()
    return list({(row.image_id, row.model_id): row for row in rows}.values())


def as_first_answered(connection: Connection, study_id: str, prediction: Prediction) -> Prediction:
    """The same answer, against the threshold of these weights' first answer in the study where there is one."""
    kept = tables.prediction.c
    first = connection.execute(
        select(kept.payload)
        .where(kept.study_id == study_id, kept.weights_sha256 == prediction.weights_sha256)
        .order_by(kept.id)
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
    )


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
