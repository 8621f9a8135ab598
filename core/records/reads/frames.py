"""The frames of clips and stacks: rows beside the image, which shows one of them, and their files in the store."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from sqlalchemy import Connection, Row, Select, delete, insert, select

from core.errors import NotFound
from core.records.database import image_store, tables
from core.records.database.db import Database
from core.records.database.image_store import Blob
from core.records.people.permissions import Actor, acting
from core.records.reads.rows import find_study
from core.types import Image


def frame_blobs(image: Image) -> tuple[Blob, ...]:
    """What is to be stored of the frames of a new image, in their order."""
    return tuple(image_store.png_blob(content) for content in image.frames)


def insert_frames(connection: Connection, image_id: str, blobs: Sequence[Blob]) -> None:
    """In the transaction of their image."""
    if blobs:
        rows = [{"image_id": image_id, "frame": frame, "stored": blob.key} for frame, blob in enumerate(blobs)]
        connection.execute(insert(tables.image_frame), rows)


def delete_frames(connection: Connection, study_id: str) -> list[str]:
    """Take the rows of all frames of a study away; the keys of their files."""
    frame, image = tables.image_frame, tables.image.c
    own = select(image.id).where(image.study_id == study_id)
    return list(connection.execute(delete(frame).where(frame.c.image_id.in_(own)).returning(frame.c.stored)).scalars())


def frame_keys(connection: Connection, study_id: str) -> Mapping[str, tuple[str, ...]]:
    """Image id -> keys of its frames in the image store, in their order, of the images that have any."""
    frame, image = tables.image_frame.c, tables.image.c
    rows = connection.execute(
        select(frame.image_id, frame.stored)
        .join_from(tables.image_frame, tables.image, frame.image_id == image.id)
        .where(image.study_id == study_id)
        .order_by(frame.image_id, frame.frame)
    )
    found: dict[str, list[str]] = {}
    for image_id, key in rows:
        found.setdefault(image_id, []).append(key)
    return {image_id: tuple(keys) for image_id, keys in found.items()}


def rows_of_frames(connection: Connection, study_id: str) -> list[Row[Any]]:
    """The rows of the study's images as they would be with each of their frames, for marks on them."""
    frame, image = tables.image_frame, tables.image
    others = [column for column in image.c if column.name not in ("frame", "stored")]
    query: Select[Any] = (
        select(*others, frame.c.frame, frame.c.stored)
        .join_from(frame, image, frame.c.image_id == image.c.id)
        .where(image.c.study_id == study_id)
    )
    return list(connection.execute(query).all())


def frame_pixels(db: Database, actor: Actor, image_id: str, frame: int) -> tuple[np.ndarray, str]:
    """float32 [0, 1], (H, W) or (H, W, 3), of one frame (from 0), and its key. Raises NotAllowed, NotFound."""
    wanted = tables.image_frame.c
    with acting(db.read(), actor, "see_worklist") as (connection, _):
        row = connection.execute(
            select(wanted.stored, tables.image.c.study_id)
            .join_from(tables.image_frame, tables.image, wanted.image_id == tables.image.c.id)
            .where(wanted.image_id == image_id, wanted.frame == frame)
        ).one_or_none()
        if row is None:
            raise NotFound("This frame does not exist any more. Reload the page.")
        find_study(connection, row.study_id)
    return db.store.pixels(row.stored), row.stored
