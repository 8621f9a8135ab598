"""First impressions saved here, beside the models and what became of the breasts, as a table of scores.

Readers are numbered, not named. A study counts once its final read and its truth are in, which closes it for new first
impressions; whoever is still between first and final read of it is not shown it.
"""

from __future__ import annotations

import csv
import hashlib
import io
from collections.abc import Iterable, Sequence
from typing import Any

from sqlalchemy import Connection, Row, select

from core.records.database import tables
from core.records.database.db import Database
from core.records.people.permissions import Actor, require_permission
from core.records.reads.rows import newest_predictions
from core.types import SIDE_NOT_STATED, Modality

MALIGNANT = "malignant"


def reader_scores(db: Database, actor: Actor) -> bytes:
    """CSV `case,patient,label,modality,...`: a row a breast whose truth is known, a column a reader (suspicion / 100 of
    the first impression) and a model (its probability). Cells are empty where somebody gave none.

    A breast's score of a model is the mean of its views in mammography and the highest of its images elsewhere; images
    that stand alone (spot views, raw images) are in neither. Of
    several truths of a breast the last counts; "not biopsied, stable" counts as not malignant. Empty where no breast
    has a truth. Synthetic studies count only in a demonstration. Raises NotAllowed.
    """
    rows: list[dict[str, object]] = []
    with db.read() as connection:
        person = require_permission(connection, actor, "see_reader_scores")
        for study in connection.execute(finished(db)).all():
            reads = connection.execute(
                select(tables.read).where(tables.read.c.study_id == study.id).order_by(tables.read.c.id)
            ).all()
            if is_reading(reads, person.id):
                continue
            rows += _of_study(connection, study, reads)
    if not rows:
        return b""
    known = ["case", "patient", "label", "modality"]
    names = sorted({name for row in rows for name in row} - set(known))
    out = io.StringIO(newline="")
    writer = csv.DictWriter(out, [*known, *names], restval="", lineterminator="\n")
    writer.writeheader()
    writer.writerows(rows)
    return out.getvalue().encode()


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


def _of_study(connection: Connection, study: Row[Any], reads: Sequence[Row[Any]]) -> list[dict[str, object]]:
    truth, image = tables.truth.c, tables.image.c
    truths = {
        row.breast: row.pathology
        for row in connection.execute(
            select(truth.breast, truth.pathology).where(truth.study_id == study.id).order_by(truth.id)
        )
    }
    images = connection.execute(
        select(image.id, image.laterality, image.modality, image.meta).where(image.study_id == study.id)
    ).all()
    sides = {row.id: (row.laterality or SIDE_NOT_STATED, row.modality or "") for row in images}
    alone = {row.id for row in images if row.meta.get("is_scored_alone") or row.meta.get("not_scored")}
    # A key of the patient must not leave the records as it is; whoever has the file could join tables by it.
    patient = hashlib.sha256(f"reader scores {study.patient_hash or study.id}".encode()).hexdigest()[:16]
    answers = newest_predictions(connection, study.id)
    rows = []
    for breast, pathology in sorted(truths.items()):
        row: dict[str, object] = {
            "case": f"{study.id}-{breast}",
            "patient": f"p{patient}",
            "label": int(pathology == MALIGNANT),
            "modality": "+".join(sorted({kind for side, kind in sides.values() if side == breast})),
        }
        for read in reads:
            if read.kind == "first" and breast in read.impressions:
                row[f"reader {read.person_id}"] = read.impressions[breast]["suspicion"] / 100
        by_model: dict[str, list[tuple[str, float]]] = {}
        for one in answers:
            side, kind = sides[one.image_id]
            if side == breast and one.image_id not in alone:
                by_model.setdefault(one.model_id, []).append((kind, float(one.payload["malignant"])))
        row |= {name: together(found) for name, found in by_model.items()}
        rows.append(row)
    return rows


def together(found: Iterable[tuple[str, float]]) -> float:
    """One score of the images of a breast, by the rule of `core.models.aggregate`."""
    kinds, scores = zip(*found, strict=True)
    return sum(scores) / len(scores) if kinds[0] == Modality.MAMMOGRAPHY else max(scores)
