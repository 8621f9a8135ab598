"""What models say of the images of a study: kept once, and told to whoever may see it."""

from __future__ import annotations

from collections.abc import Sequence

from sqlalchemy import insert, select

from core.errors import Conflict, NotFound
from core.files import undone_by
from core.models.aggregate import BreastScore, breast_scores
from core.records import site_settings
from core.records.database import image_store, tables
from core.records.database.db import Database
from core.records.people.permissions import Actor, acting, require_permission_now
from core.records.reads import answers_seen
from core.records.reads.reads import READ_FIRST, is_ai_visible
from core.records.reads.rows import (
    as_first_answered,
    explanation_of,
    find_study,
    image_score,
    newest_predictions,
    payload_of,
    prediction_of,
)
from core.records.reads.studies import delete_files
from core.types import Explanation, Image, Prediction


def record_predictions(
    db: Database,
    study_id: str,
    image_id: str,
    prediction: Prediction,
    explanation: Explanation,
    *,
    as_read: Image | None = None,
) -> None:
    """Keep what one model says of one image. The same weights' answer to the same image is kept once.

    In one study the same weights are held against one threshold, that of their first answer, whatever the site has
    chosen since: a breast's number comes from several images and has one threshold.

    as_read: the image that the model read. Raises NotFound if study or image are gone meanwhile, Conflict if its frame,
    side, view or kind was changed.
    """
    blob = image_store.maps_blob(explanation.maps)
    retained, image = tables.prediction.c, tables.image.c
    with undone_by(lambda: delete_files(db, [blob.key])):
        db.store.put(blob)
        with db.begin() as connection:
            find_study(connection, study_id, is_for_change=True)
            image_store.lock(connection)
            here = connection.execute(
                select(image.frame, image.laterality, image.view, image.modality).where(
                    image.id == image_id, image.study_id == study_id
                )
            ).one_or_none()
            if here is None:
                raise NotFound("This image does not exist any more. Reload the page.")
            if as_read is not None and tuple(here) != (
                as_read.frame, as_read.laterality, as_read.view, as_read.modality and as_read.modality.value
            ):  # fmt: skip
                raise Conflict("The image's frame, side, view or kind was changed meanwhile. Reload the page.")
            is_there = connection.execute(
                select(retained.id).where(
                    retained.image_id == image_id,
                    retained.model_id == prediction.model_id,
                    retained.weights_sha256 == prediction.weights_sha256,
                )
            ).one_or_none()
            if is_there is None:
                db.store.put(blob)  # again, now that nobody can remove it as unused
                connection.execute(
                    insert(tables.prediction).values(
                        study_id=study_id,
                        image_id=image_id,
                        model_id=prediction.model_id,
                        weights_sha256=prediction.weights_sha256,
                        created_at=tables.now(),
                        payload=payload_of(as_first_answered(connection, study_id, prediction), explanation),
                        maps=blob.key,
                    )
                )
    if is_there is not None:
        delete_files(db, [blob.key])


def scores_for_triage(db: Database, actor: Actor, study_ids: Sequence[str]) -> dict[str, list[BreastScore]]:
    """Study -> what models say of its breasts, of the studies that any has answered, for their order alone.

    Raises NotAllowed; Conflict where the site has not turned the order by models on.
    """
    require_permission_now(db, actor, "see_ai")
    if site_settings.current(db).worklist_triage != "on":
        raise Conflict("No model has a part in the order of the worklist, unless an administrator turns that on.")
    image = tables.image.c
    found = {}
    with db.read() as connection:
        for study_id in study_ids:
            rows = newest_predictions(connection, study_id)
            if rows:
                query = select(image.id, image.laterality, image.modality, image.meta)
                shown = {row.id: row for row in connection.execute(query.where(image.study_id == study_id))}
                found[study_id] = breast_scores(image_score(row, shown[row.image_id]) for row in rows)
    return found


def predictions_of(db: Database, actor: Actor, study_id: str) -> list[tuple[str, Prediction, Explanation]]:
    """(image id, prediction, explanation), in order of the images; of each model the newest answer.

    Raises NotAllowed, NotFound; Conflict while the AI's answer is hidden from this person.
    """
    with acting(db.read(), actor, "see_ai") as (connection, person):
        study = find_study(connection, study_id)
        if not is_ai_visible(connection, person, study):
            raise Conflict("The AI's answer is hidden until your first impression is saved and you ask for it.")
        rows = newest_predictions(connection, study_id)
    if rows and study.reading_mode != READ_FIRST:  # else the reveal is written down already
        answers_seen.record_answer_shown(db, actor, study_id)
    return [(row.image_id, prediction_of(row), explanation_of(row, db.store)) for row in rows]
