"""Which pictures of a reader study's cases the models that answer about them were trained or chosen on.

Weights that were measured in folds have learnt from every case of their data set in the end, and models from elsewhere
may know a test part, so a model's own list of cases is asked (`core.models.card_cases`): by the file and by what it
shows. Lists name no patients.
"""

from __future__ import annotations

import logging
from collections.abc import Iterable, Mapping

import pandas as pd
from sqlalchemy import Connection, select

from core.errors import ModelUnavailable
from core.evaluation.promotion import Overlap
from core.evaluation.tables.own_cases import known_to
from core.models.cards import Card, known_cards, live_cards
from core.records.database import tables
from core.records.database.db import Database
from core.records.reader_studies.protocol import Protocol
from core.records.reads.reader_scores import Weights, names_of_weights
from core.records.reads.rows import newest_predictions
from core.settings import Settings
from core.types import SIDE_NOT_STATED
from core.wording import how_many

log = logging.getLogger(__name__)


def pictures_of(connection: Connection, study_ids: Iterable[str]) -> pd.DataFrame:
    """A row a picture of these studies, by its id: study_id, breast, sha256, perceptual_hash."""
    image = tables.image.c
    rows = connection.execute(
        select(image.id, image.study_id, image.laterality, image.sha256, image.meta).where(
            image.study_id.in_(list(study_ids))
        )
    ).all()
    columns = {
        "study_id": [row.study_id for row in rows],
        "breast": [row.laterality or SIDE_NOT_STATED for row in rows],
        "sha256": [row.sha256 for row in rows],
        "perceptual_hash": [row.meta.get("look", "") for row in rows],  # images of versions before lack it
    }
    return pd.DataFrame(columns, index=[row.id for row in rows], dtype=str)


def learnt_from(settings: Settings, answered: Mapping[Weights, pd.DataFrame]) -> dict[Weights, Overlap | None]:
    """What weights know of the pictures that they answer about; None where it cannot be told.

    answered: of each its rows of `pictures_of`.
    """
    try:
        cards = {card.weights_sha256: card for card in known_cards(settings)} if answered else {}
    except ModelUnavailable as unreadable:  # what is live; nothing that was read depends on it
        log.warning("What models have learnt from is not known: %s", unreadable)
        cards = {}
    return {key: _known(cards.get(key[1]), pictures) for key, pictures in answered.items()}


def _known(card: Card | None, pictures: pd.DataFrame) -> Overlap | None:
    try:
        return None if card is None else known_to(card, pictures)
    except ModelUnavailable as damaged:
        log.warning("What a model has learnt from is not known: %s", damaged)
        return None


def learnt_by_answering(connection: Connection, db: Database, protocol: Protocol) -> dict[Weights, Overlap | None]:
    """`learnt_from` of the weights that a study read by this protocol would show: those that have answered about its
    cases and, where a model has not and will be asked, the live ones. Raises ModelUnavailable where these are unknown.
    """
    live = [card for card in live_cards(db.settings) if card.modality == protocol.modality]
    case_ids = [case.study_id for case in (*protocol.cases, *protocol.training)]
    study = tables.study.c
    of_data_set = set(
        connection.execute(select(study.id).where(study.id.in_(case_ids), study.is_reader_study_case)).scalars()
    )
    pictures = pictures_of(connection, case_ids)
    found: dict[Weights, list[str]] = {}
    for study_id, own in pictures.groupby("study_id"):
        answers = {
            (row.image_id, row.model_id): row.weights_sha256 for row in newest_predictions(connection, str(study_id))
        }
        if study_id in of_data_set or not answers:  # else it was read to the end, and no model is asked any more
            now = {(image_id, card.model_id): card.weights_sha256 for image_id in own.index for card in live}
            answers = now | answers
        for (image_id, model_id), weights_sha256 in answers.items():
            if not protocol.aids or model_id in protocol.aids:
                found.setdefault((model_id, weights_sha256), []).append(image_id)
    return learnt_from(db.settings, {key: pictures.loc[image_ids] for key, image_ids in sorted(found.items())})


def learnt_sentences(learnt: Mapping[Weights, Overlap | None]) -> list[str]:
    """One of each weights that were trained or chosen on pictures which they answer about."""
    names = names_of_weights(learnt)
    return [
        f"{names[key]} was trained or chosen on {seen.n} of the {how_many(seen.of, 'picture')} of these cases that it "
        f"answers about ({seen.kinds}): its answers, and reads with them, look better than on other cases."
        for key, seen in learnt.items()
        if seen is not None and seen.n
    ]


def unlisted_sentences(learnt: Mapping[Weights, Overlap | None]) -> list[str]:
    """One of each weights of which it cannot be told."""
    names = names_of_weights(learnt)
    return [
        f"It cannot be told whether {names[key]} was trained on these cases: its list of cases is missing or cannot "
        "be read."
        for key, seen in learnt.items()
        if seen is None
    ]
