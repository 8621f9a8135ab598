"""First impressions saved here, beside the models and what became of the breasts, as a table of scores.

Readers are numbered, not named. A study counts once its final read and its truth are in, which closes it for new first
impressions; whoever is still between first and final read of it is not shown it.
"""

from __future__ import annotations

import csv
import io
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any

from sqlalchemy import Connection, Row, select

from core.models.aggregate import breast_scores
from core.records.database import tables
from core.records.database.db import Database
from core.records.people.permissions import Actor, acting
from core.records.reads import answers_seen
from core.records.reads.reads import has_seen_answer
from core.records.reads.rows import image_score, newest_predictions, patient_key
from core.types import SIDE_NOT_STATED

MALIGNANT = "malignant"
MARKED = "has seen an answer"
"""Of a first impression whose reader had seen the AI's answer about the same picture, in another study or as a model's
test case."""

Weights = tuple[str, str]
"""A model's id and the sha256 of its weights."""


def reader_scores(db: Database, actor: Actor) -> bytes:
    """CSV `case,patient,label,modality,...`: a row a breast whose truth is known, a column a reader (suspicion / 100 of
    the first impression) and a model (its probability). Cells are empty where somebody gave none.

    A breast's score of a model is that of `core.models.aggregate.breast_scores`. Scores of different weights are never
    one column: where a model answered with several, each has its own, named with the weights. A breast whose images
    were answered by different weights has no score of that model.

    First impressions that knew an answer from elsewhere stand in a column of their own, `reader N (has seen an
    answer)`. That the person was given these scores is written down: they have seen an answer about those pictures.

    Of several truths of a breast the last counts; "not biopsied, stable" counts as not malignant. Empty where no breast
    has a truth. Synthetic studies count only in a demonstration. Raises NotAllowed.
    """
    rows: list[_Row] = []
    answered: list[str] = []
    with acting(db.read(), actor, "see_reader_scores") as (connection, person):
        for study in connection.execute(finished(db)).all():
            reads = connection.execute(
                select(tables.read).where(tables.read.c.study_id == study.id).order_by(tables.read.c.id)
            ).all()
            if is_reading(reads, person.id):
                continue
            found = _of_study(connection, study, reads)
            rows += found
            answered += [study.id] if any(row.models for row in found) else []
    answers_seen.record_scores_shown(db, actor, answered)
    if not rows:
        return b""
    columns = names_of_weights(key for row in rows for key in row.models)
    table = [{**row.cells, **{columns[key]: score for key, score in row.models.items()}} for row in rows]
    known = ["case", "patient", "label", "modality"]
    names = sorted({name for row in table for name in row} - set(known))
    out = io.StringIO(newline="")
    writer = csv.DictWriter(out, [*known, *names], restval="", lineterminator="\n")
    writer.writeheader()
    writer.writerows(table)
    return out.getvalue().encode()


@dataclass(frozen=True, slots=True)
class _Row:
    """One breast. cells: what it is and what readers said. models: (model id, weights' sha256) -> score."""

    cells: dict[str, object]
    models: dict[Weights, float]


def names_of_weights(answered_by: Iterable[Weights]) -> dict[Weights, str]:
    """What each is called: the model's id alone, where only these weights of it answered."""
    keys = sorted(set(answered_by))
    answered = Counter(model_id for model_id, _ in keys)
    return {
        (model_id, weights): model_id if answered[model_id] == 1 else f"{model_id} ({weights[:8]})"
        for model_id, weights in keys
    }


def finished(db: Database) -> Any:
    """Selects studies whose final read and truth are known, oldest first; synthetic ones in a demonstration only."""
    study, read, truth = tables.study.c, tables.read.c, tables.truth.c
    final = select(read.id).where(read.study_id == study.id, read.kind == "final").exists()
    known = select(truth.id).where(truth.study_id == study.id).exists()
    query = select(tables.study).where(final, known, study.deleted_at.is_(None)).order_by(study.created_at, study.id)
    return query if db.settings.demo else query.where(study.is_synthetic.is_(False))


def is_reading(reads: Sequence[Row[Any]], person_id: int) -> bool:
    """Whether these reads of a study show that this person is in the middle of it: first read saved, final one not."""
    own = {read.kind for read in reads if read.person_id == person_id}
    return own == {"first"}


def _of_study(connection: Connection, study: Row[Any], reads: Sequence[Row[Any]]) -> list[_Row]:
    truth, image = tables.truth.c, tables.image.c
    truths = {
        row.breast: row.pathology
        for row in connection.execute(
            select(truth.breast, truth.pathology).where(truth.study_id == study.id).order_by(truth.id)
        )
    }
    images = connection.execute(
        select(image.id, image.laterality, image.modality, image.meta).where(image.study_id == study.id)
    )
    shown = {row.id: row for row in images}
    scores = breast_scores(
        image_score(answer, shown[answer.image_id]) for answer in newest_predictions(connection, study.id)
    )
    patient = patient_key(study, "reader scores")
    rows = []
    for breast, pathology in sorted(truths.items()):
        kinds = {row.modality or "" for row in shown.values() if (row.laterality or SIDE_NOT_STATED) == breast}
        cells: dict[str, object] = {
            "case": f"{study.id}-{breast}",
            "patient": f"p{patient}",
            "label": int(pathology == MALIGNANT),
            "modality": "+".join(sorted(kinds)),
        }
        for read in reads:
            if read.kind == "first" and breast in read.impressions:
                marked = f" ({MARKED})" if has_seen_answer(read.predictions_seen) else ""
                cells[f"reader {read.person_id}{marked}"] = read.impressions[breast]["suspicion"] / 100
        own = [score for score in scores if score.breast == breast and score.is_whole]
        rows.append(_Row(cells, {(score.model_id, score.weights_sha256): score.malignant for score in own}))
    return rows
