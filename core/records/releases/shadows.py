"""What a model that runs silently says of new images, kept apart from what readers see, and its comparison later."""

from __future__ import annotations

import numpy as np
import pandas as pd
from sqlalchemy import insert, select

from core.errors import NotFound
from core.evaluation.statistics.shadow import ShadowComparison, compare_shadow
from core.records.database import tables
from core.records.database.db import Database
from core.records.people.permissions import Actor, acting, require_permission_now
from core.records.reads.reader_scores import MALIGNANT
from core.records.reads.rows import find_study, newest_predictions, patient_key
from core.types import SIDE_NOT_STATED, Prediction, is_called


def record_shadow_answer(db: Database, study_id: str, image_id: str, prediction: Prediction) -> None:
    """Keep a silent answer; the same weights' answer to the same image once. Raises NotFound where it is gone."""
    table, image = tables.shadow_answer, tables.image.c
    with db.begin() as connection:
        find_study(connection, study_id, is_for_change=True)
        here = select(image.id).where(image.id == image_id, image.study_id == study_id)
        if not connection.execute(here).one_or_none():
            raise NotFound("This image does not exist any more. Reload the page.")
        known = select(table.c.id).where(
            table.c.image_id == image_id,
            table.c.model_id == prediction.model_id,
            table.c.weights_sha256 == prediction.weights_sha256,
        )
        if connection.execute(known).one_or_none() is None:
            values = {"study_id": study_id, "image_id": image_id, "created_at": tables.now()}
            values |= {"model_id": prediction.model_id, "weights_sha256": prediction.weights_sha256}
            values |= {"malignant": float(prediction.malignant), "threshold": float(prediction.threshold)}
            connection.execute(insert(table).values(**values))


def shadow_answers(
    db: Database, actor: Actor, model_id: str, weights_sha256: str, *, reference: str | None = None
) -> pd.DataFrame:
    """A row an image of a finished study that the silent and a live model both read.

    reference: id of the live model, by default the silent one's; only the weights that answered last count, because
    answers of two networks are no answers of one. Columns case, study, patient (hashes; a study whose
    patient is not known is its own), label (1 malignant, 0 not, NaN where the truth is not known), live, shadow
    (scores), live_called, shadow_called. Studies that somebody may still be reading are left out. Raises NotAllowed.
    """
    live_id = model_id if reference is None else reference
    shadow, image, read, truth = tables.shadow_answer.c, tables.image.c, tables.read.c, tables.truth.c
    is_final = select(read.id).where(read.study_id == shadow.study_id, read.kind == "final").exists()
    rows, of_weights = [], {}
    with acting(db.read(), actor, "manage_releases") as (connection, _):
        found = connection.execute(
            select(tables.shadow_answer, image.laterality)
            .join_from(tables.shadow_answer, tables.image, shadow.image_id == image.id)
            .where(shadow.model_id == model_id, shadow.weights_sha256 == weights_sha256, is_final)
            .order_by(shadow.id)
        ).all()
        for study_id in dict.fromkeys(row.study_id for row in found):
            patient = patient_key(find_study(connection, study_id), "shadow answers")
            live = {row.image_id: row for row in newest_predictions(connection, study_id) if row.model_id == live_id}
            known = select(truth.breast, truth.pathology).where(truth.study_id == study_id).order_by(truth.id)
            truths = {row.breast: row.pathology for row in connection.execute(known)}
            for row in found:
                if row.study_id != study_id or row.image_id not in live:
                    continue
                answer = live[row.image_id].payload
                of_weights[live[row.image_id].id] = live[row.image_id].weights_sha256
                pathology = truths.get(row.laterality or SIDE_NOT_STATED)
                rows.append(
                    {
                        "case": row.image_id,
                        "weights": live[row.image_id].weights_sha256,
                        "study": study_id,
                        "patient": patient,
                        "label": np.nan if pathology is None else float(pathology == MALIGNANT),
                        "live": float(answer["malignant"]),
                        "shadow": row.malignant,
                        "live_called": is_called(float(answer["malignant"]), float(answer["threshold"])),
                        "shadow_called": is_called(row.malignant, row.threshold),
                    }
                )
    columns = ["case", "study", "patient", "label", "live", "shadow", "live_called", "shadow_called"]
    newest = of_weights[max(of_weights)] if of_weights else ""
    return pd.DataFrame([row for row in rows if row["weights"] == newest], columns=columns)


def shadow_comparison(
    db: Database, actor: Actor, model_id: str, weights_sha256: str, *, reference: str | None = None
) -> ShadowComparison:
    """What the silent answers say beside the live ones so far. reference: as `shadow_answers`. Raises NotAllowed."""
    require_permission_now(db, actor, "manage_releases")
    return compare_shadow(shadow_answers(db, actor, model_id, weights_sha256, reference=reference))
