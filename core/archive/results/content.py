"""What a result says of a final read, gathered from the records, before any form is given to it.

Of the models only what the reader saw when they saved the read: a result never says more than its reader knew.
"""

from __future__ import annotations

import hashlib
import hmac
import json
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any

from sqlalchemy import Connection, Row, select

from core.errors import ModelUnavailable, NotFound, SiteFault
from core.findings.finding import NO_ANNOTATIONS, Finding
from core.findings.proposals import Proposal
from core.imaging.dicom.source import DISPLAY
from core.models.aggregate import BreastScore, breast_scores
from core.models.cards import Card, known_cards, leak_text, leaks_of, remarks_of
from core.models.training_distance import UNLIKE_TEXT
from core.records.archives.identity import SourceIdentity, identity_of
from core.records.archives.outbox import superseded_reads
from core.records.database import tables
from core.records.database.db import Database
from core.records.reads.annotations import annotations_of
from core.records.reads.rows import find_study, image_score
from core.settings import Settings
from core.types import SIDE_NOT_STATED, Modality, is_unlike

NO_CARD = "The card of these weights is no longer here, so what limits them is not said."


@dataclass(frozen=True, slots=True, repr=False)
class ResultImage:
    """An image of the study as its archive knows it. frame: from 0 of `n_frames`. tags: as in `OF_INSTANCE`, with
    `DISPLAY` where it was read. position: in the study, from 0. aspect: as in `core.types.Image`.
    """

    id: str
    sha256: str
    tags: Mapping[str, str]
    breast: str
    modality: Modality | None
    view: str | None
    frame: int
    n_frames: int
    position: int = 0
    aspect: float = 1.0

    @property
    def display(self) -> dict[str, Any]:
        """How its file is shown (`core.imaging.dicom.source.DISPLAY`); empty where that was not stored."""
        found: dict[str, Any] = json.loads(self.tags.get(DISPLAY, "{}"))
        return found


@dataclass(frozen=True, slots=True)
class ImageAnswer:
    """What a model said of one image. malignant, threshold: in [0, 1]. is_unlike_training: as in `Prediction`.
    is_alone: it is no part of its breast's number."""

    image_id: str
    model_id: str
    weights_sha256: str
    malignant: float
    threshold: float
    is_unlike_training: bool = False
    is_alone: bool = False


@dataclass(frozen=True, slots=True, repr=False)
class ResultContent:
    """A final read with what its archive has to know of it.

    reader: the name of who is answerable for it. birads: breast -> category. supersedes: the earlier final reads of the
    study that this one replaces: the same reader's, and both of a double reading for who arbitrates between them;
    preliminary: the reader's first impression, where it is replaced.
    predecessors: series and SOP instance UID of what was sent of those, in the same form. device_uid: of this site's
    SecondRead. findings: the reader's own, with their marks in pixels of the stored frame; a model's proposal only once
    accepted. accepted: the proposals that were taken as they were. is_verified: False for a first impression.
    remarks: weights sha256 -> what stands beside every number of that model, one sentence each.
    """

    read_id: int
    study: Mapping[str, str]
    images: tuple[ResultImage, ...]
    reader: str
    read_at: datetime
    birads: Mapping[str, str]
    density: str | None
    sentence: str
    breasts: tuple[BreastScore, ...]
    answers: tuple[ImageAnswer, ...]
    site_name: str
    device_uid: str
    supersedes: tuple[int, ...] = ()
    preliminary: tuple[int, ...] = ()
    predecessors: tuple[tuple[str, str], ...] = ()
    findings: tuple[Finding, ...] = ()
    accepted: tuple[Proposal, ...] = ()
    is_verified: bool = True
    remarks: Mapping[str, tuple[str, ...]] = field(default_factory=dict)

    def remarks_on(self, score: BreastScore | ImageAnswer) -> tuple[str, ...]:
        """All that is said beside this number: that its picture is unlike what the model learnt from first."""
        unlike = (UNLIKE_TEXT,) if score.is_unlike_training else ()
        return (*unlike, *self.remarks.get(score.weights_sha256, ()))


def uid_of(site_key: bytes, *what: object) -> str:
    """A UID of this site for this thing, the same each time: 2.25 and a number of 128 bits (PS3.5 B.2)."""
    mac = hmac.new(site_key, "\n".join(map(str, ("uid", *what))).encode(), hashlib.sha256)
    return f"2.25.{int.from_bytes(mac.digest()[:16], 'big')}"


def gather(db: Database, read_id: int) -> ResultContent:
    """Raises NotFound where the study, or what it is called in its archive, is not here any more."""
    with db.read() as connection:
        read, person = tables.read, tables.person
        query = (
            select(read, person.c.name.label("reader"))
            .join_from(read, person, read.c.person_id == person.c.id)
            .where(read.c.id == read_id)
        )
        row = connection.execute(query).one()
        find_study(connection, row.study_id)
        identity = identity_of(connection, db.site_key, row.study_id)
        if identity is None:
            raise NotFound("What this study is called in its archive is not here any more, so nothing can be sent.")
        images = _images(connection, row.study_id, identity)
        seen = {one["prediction"] for one in row.predictions_seen if "prediction" in one}
        answers, breasts = _answers(connection, row.study_id, seen)
        replaced = superseded_reads(connection, row)
        marked = annotations_of(connection, [read_id]).get(read_id, NO_ANNOTATIONS)
    return ResultContent(
        read_id=read_id, study=identity.study, images=images, reader=row.reader, read_at=row.created_at,
        birads={breast: given["birads"] for breast, given in row.impressions.items()},
        density=row.density, sentence=row.sentence or "", breasts=breasts, answers=answers,
        site_name=db.settings.site_name, device_uid=uid_of(db.site_key, "device"),
        supersedes=tuple(one for one, kind in replaced.items() if kind == "final"),
        preliminary=tuple(one for one, kind in replaced.items() if kind == "first"), findings=marked.findings,
        accepted=tuple(one for one in marked.proposals if one.answer == "accepted"),
        is_verified=row.kind == "final",
        remarks=_remarks(db.settings, {answer.weights_sha256 for answer in answers}),
    )  # fmt: skip


def _remarks(settings: Settings, answered: Collection[str]) -> dict[str, tuple[str, ...]]:
    """Weights sha256 -> why their numbers are too good, and what else stands beside them, as their cards say it now.

    Raises SiteFault where nobody can say now which models there are.
    """
    try:
        cards = {card.weights_sha256: card for card in known_cards(settings)} if answered else {}
    except ModelUnavailable as unreadable:
        raise SiteFault(str(unreadable)) from None
    return {
        sha256: (*_leaks(cards[sha256]), *remarks_of(settings, cards[sha256])) if sha256 in cards else (NO_CARD,)
        for sha256 in answered
    }


def _leaks(card: Card) -> tuple[str, ...]:
    """Why a model's numbers are too good; that nobody can say, where its scores are damaged: the result is the
    reader's, too, and goes out."""
    try:
        return tuple(map(leak_text, leaks_of(card)))
    except ModelUnavailable as damaged:
        return (str(damaged),)


def _images(connection: Connection, study_id: str, identity: SourceIdentity) -> tuple[ResultImage, ...]:
    image, known = tables.image.c, identity.of_exam
    rows = connection.execute(select(tables.image).where(image.study_id == study_id).order_by(image.position))
    return tuple(
        ResultImage(
            row.id, row.sha256, known[row.sha256], row.laterality or SIDE_NOT_STATED,
            Modality(row.modality) if row.modality else None, row.view, row.frame, row.n_frames, row.position,
            row.spacing_row_mm / row.spacing_column_mm if row.spacing_row_mm else row.meta.get("pixel_aspect", 1.0),
        )
        for row in rows
        if row.sha256 in known
    )  # fmt: skip


def _answers(
    connection: Connection, study_id: str, seen: set[int]
) -> tuple[tuple[ImageAnswer, ...], tuple[BreastScore, ...]]:
    """Of the predictions with these numbers: image by image, and breast by breast as the reader saw them."""
    images = {
        row.id: row for row in connection.execute(select(tables.image).where(tables.image.c.study_id == study_id))
    }
    order = {image_id: row.position for image_id, row in images.items()}
    found: Sequence[Row[Any]] = connection.execute(
        select(tables.prediction).where(tables.prediction.c.study_id == study_id).order_by(tables.prediction.c.id)
    ).all()
    rows = sorted((row for row in found if row.id in seen), key=lambda row: (order[row.image_id], row.model_id))
    scores = [image_score(row, images[row.image_id]) for row in rows]
    answers = tuple(
        ImageAnswer(
            row.image_id, row.model_id, row.weights_sha256, row.payload["malignant"], row.payload["threshold"],
            is_unlike(row.payload.get("training_distance")), score.is_alone,
        )
        for row, score in zip(rows, scores, strict=True)
    )  # fmt: skip
    return answers, tuple(breast_scores(scores))
