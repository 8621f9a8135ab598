"""Studies: what is kept of the images, and the worklist. Nothing of the AI is in anything this module returns.

Of an image only the named fields of `Image` are kept, tags by the allow-list once more. Side, view, kind and the frame
of a clip can be corrected until somebody's first read is saved: impressions are given breast by breast, so from then on
the sides stay.

That somebody opened a study, for the audit trail.
"""

from __future__ import annotations

import logging
import unicodedata
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any
from uuid import uuid4

from sqlalchemy import Connection, Row, Select, delete, func, insert, select, update
from sqlalchemy.exc import SQLAlchemyError

from core.errors import Conflict, InvalidInput, NotAllowed, NotFound
from core.files import undone_by
from core.imaging.near_duplicates import long_hash
from core.imaging.picture import to_grey
from core.records import site_settings
from core.records.archives.identity import remove_identity
from core.records.audit import trail
from core.records.database import image_store, tables
from core.records.database.db import Database
from core.records.people.permissions import Actor, Person, acting, allowed, require_permission_now
from core.records.reads import frames
from core.records.reads.annotations import delete_annotations
from core.records.reads.drafts import drop_draft
from core.records.reads.reading_leases import end_lease, require_free
from core.records.reads.reads import has_read
from core.records.reads.rows import (
    StudyRow,
    breasts_of,
    columns_of,
    find_study,
    image_of,
    images_not_here,
    in_worklist,
    study_rows,
    undeleted,
)
from core.types import LATERALITIES, VIEWS, Image, Modality
from core.wording import tidy_text

log = logging.getLogger(__name__)

NAME_LENGTH_MOST = 80
REASON_LENGTH_MOST = 400


@dataclass(frozen=True, slots=True)
class StoredImage:
    """An image of a stored study. id: what predictions and corrections name.

    pixels_removed_at: when the site's policy removed them; `image` then has one black pixel in their place.
    frames: keys of all frames of a clip or a stack, in their order; empty for a single picture.
    """

    id: str
    image: Image
    pixels_removed_at: datetime | None = None
    frames: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class StoredStudy:
    """A study with its pixels. breasts: "R", "L", `SIDE_NOT_STATED`, as far as an image shows them.

    is_final_for_me: whether whoever loaded it has saved a final read of it.
    n_earlier: how many studies of the same patient were taken before. n_not_here: how many images of its exam, at
    least, an archive has beyond these.
    """

    row: StudyRow
    images: tuple[StoredImage, ...]
    breasts: tuple[str, ...]
    n_earlier: int
    is_final_for_me: bool = False
    n_not_here: int = 0

    @property
    def pixels_removed_at(self) -> datetime | None:
        """When the pictures of the study were removed, None while they are here."""
        return next((stored.pixels_removed_at for stored in self.images if stored.pixels_removed_at), None)


def create_study(
    db: Database,
    actor: Actor,
    *,
    display_name: str,
    images: Sequence[Image],
    is_synthetic: bool = False,
    confirmed: Sequence[str] = (),
    also: Callable[[Connection, str], None] | None = None,
) -> str:
    """Keep images of one patient as a study; its id. The same picture given twice is kept once.

    confirmed: what the tags left open on whose pictures they are and the person confirmed, for the audit trail.
    also: is called with the id in the same transaction, for what must be there together with the study.
    Raises NotAllowed; InvalidInput for no name, no image, too many images, or images of two patients.
    """
    require_permission_now(db, actor, "create_study")
    name = tidy_name(display_name)
    images = list({(image.sha256, image.frame): image for image in images}.values())
    site = site_settings.current(db)
    patient_hash = _patient_of(images, site.study_files)
    blobs = [image_store.pixels_blob(image.pixels) for image in images]
    blobs_of_frames = [frames.frame_blobs(image) for image in images]
    every = [*blobs, *(blob for of_one in blobs_of_frames for blob in of_one)]
    study_id = uuid4().hex
    with undone_by(lambda: delete_files(db, [blob.key for blob in every])):
        for blob in every:
            db.store.put(blob)
        with acting(db.begin(), actor, "create_study") as (connection, person):
            image_store.lock(connection)
            connection.execute(
                insert(tables.study).values(
                    id=study_id,
                    display_name=name,
                    created_by=person.id,
                    created_at=tables.now(),
                    reading_mode=site.reading_mode,
                    patient_hash=patient_hash,
                    taken_on=min((image.taken_on for image in images if image.taken_on), default=None),
                    is_synthetic=is_synthetic,
                )
            )
            for blob in every:
                db.store.put(blob)  # again, now that nobody can remove it as unused
            for position, (image, blob) in enumerate(zip(images, blobs, strict=True)):
                row = columns_of(study_id, position, image, blob.key)
                connection.execute(insert(tables.image).values(**row))
                frames.insert_frames(connection, row["id"], blobs_of_frames[position])
            trail.record(
                connection, person.id, "create study", f"study {study_id}",
                images=[image.sha256 for image in images], is_synthetic=is_synthetic,
                reading_mode=site.reading_mode, **({"confirmed": list(confirmed)} if confirmed else {}),
            )  # fmt: skip
            if also is not None:
                also(connection, study_id)
    return study_id


def list_studies(db: Database, actor: Actor) -> list[StudyRow]:
    """The worklist, newest first: the order tells nothing but when."""
    with acting(db.read(), actor, "see_worklist") as (connection, _):
        return study_rows(connection, in_worklist())


def load_study(db: Database, actor: Actor, study_id: str) -> StoredStudy:
    """A study with its pixels, without anything of the AI. Raises NotAllowed, NotFound."""
    with acting(db.read(), actor, "see_worklist") as (connection, person):
        retained = find_study(connection, study_id)
        is_final_for_me = has_read(connection, study_id, "final", person)
        row = study_rows(connection, tables.study.c.id == study_id)[0]
        found = connection.execute(_images_of(study_id)).all()
        keys = frames.frame_keys(connection, study_id)
        n_earlier = connection.execute(select(func.count()).select_from(_earlier(retained).subquery())).scalar_one()
        n_not_here = images_not_here(connection, study_id)
    images = tuple(
        StoredImage(one.id, image_of(one, db, retained.patient_hash), one.pixels_removed_at, keys.get(one.id, ()))
        for one in found
    )
    breasts = breasts_of(one.laterality for one in found)
    return StoredStudy(row, images, breasts, n_earlier, is_final_for_me, n_not_here)


def earlier_studies(db: Database, actor: Actor, study_id: str) -> list[StudyRow]:
    """Studies of the same patient that were taken before this one, newest first. Raises NotAllowed, NotFound."""
    with acting(db.read(), actor, "see_worklist") as (connection, _):
        retained = find_study(connection, study_id)
        rows = study_rows(connection, tables.study.c.id.in_(_earlier(retained)))
    return sorted(rows, key=lambda row: row.taken_on or row.created_at.date(), reverse=True)


def correct_image(
    db: Database,
    actor: Actor,
    image_id: str,
    *,
    laterality: str | None,
    view: str | None,
    modality: Modality | str | None,
) -> None:
    """Set what the file did not say or said wrongly. Only until anybody's first read of the study is saved.

    Predictions made under the old values are dropped; the models are asked again. Raises NotAllowed, NotFound,
    InvalidInput; Conflict also while somebody else is reading the study.
    """
    image = tables.image
    with acting(db.begin(), actor, "correct_image") as (connection, person):
        wanted = _checked_correction(laterality, view, modality)
        retained = _image_to_change(connection, image_id)
        require_free(connection, retained.study_id, person.id)
        if has_read(connection, retained.study_id):
            raise Conflict(
                "A read of this study is saved already, and its sides and kinds stay as they were read. "
                "If they are wrong, say so in the comment, or upload the study again."
            )
        before = {name: getattr(retained, name) for name in wanted}
        if before == wanted:
            return
        if wanted["modality"] != retained.modality:
            _check_colour(db, retained.stored, wanted["modality"])
            connection.execute(update(image).where(image.c.id == image_id).values(modality_source="reader"))
        connection.execute(update(image).where(image.c.id == image_id).values(**wanted))
        freed = _without_predictions(connection, image_id)
        trail.record(
            connection, person.id, "correct image", f"study {retained.study_id}",
            image=retained.sha256, before=before, after=wanted,
        )  # fmt: skip
    delete_files(db, freed)


def choose_frame(db: Database, actor: Actor, image_id: str, frame: int) -> bool:
    """Make a frame (from 0) the one that the models read; what they said of another is dropped. Whether it is news.

    Only until anybody's first read of the study is saved, as with side and kind: from then on it stays as it was read.

    Raises NotAllowed, NotFound; InvalidInput for a frame that is not here; Conflict once a read of the study is saved,
    and while somebody else is reading it.
    """
    image, wanted = tables.image, tables.image_frame.c
    with acting(db.begin(), actor, "correct_image") as (connection, person):
        retained = _image_to_change(connection, image_id)
        if retained.frame == frame:
            return False
        require_free(connection, retained.study_id, person.id)
        if has_read(connection, retained.study_id):
            raise Conflict("A read of this study is saved already, and the frame that the models read stays as it was.")
        query = select(wanted.stored).where(wanted.image_id == image_id, wanted.frame == frame)
        key = connection.execute(query).scalar_one_or_none()
        if key is None:
            raise InvalidInput(f"This clip has {retained.n_frames} frames; choose one of them.")
        pixels = db.store.pixels(key)
        meta = {**retained.meta, "look": long_hash(to_grey(pixels))}
        values = {"frame": frame, "stored": key, "brightness": float(pixels.mean()), "meta": meta}
        connection.execute(update(image).where(image.c.id == image_id).values(**values))
        freed = _without_predictions(connection, image_id)
        trail.record(
            connection, person.id, "correct image", f"study {retained.study_id}",
            image=retained.sha256, before={"frame": retained.frame}, after={"frame": frame},
        )  # fmt: skip
    delete_files(db, freed)
    return True


def _image_to_change(connection: Connection, image_id: str) -> Row[Any]:
    """The row of an image that nobody else changes until the transaction ends. Raises NotFound."""
    image = tables.image
    here = connection.execute(select(image.c.study_id).where(image.c.id == image_id)).one_or_none()
    if here is None:
        raise NotFound("This image does not exist any more. Reload the page.")
    find_study(connection, here.study_id, is_for_change=True)
    return connection.execute(select(image).where(image.c.id == image_id)).one()


def _without_predictions(connection: Connection, image_id: str) -> list[str]:
    """Drop what models said of an image; the keys of its maps, to be deleted after the transaction."""
    prediction = tables.prediction
    dropped = delete(prediction).where(prediction.c.image_id == image_id).returning(prediction.c.maps)
    return list(connection.execute(dropped).scalars())


def delete_study(db: Database, actor: Actor, study_id: str, *, reason: str) -> None:
    """Remove a wrong upload: pixels, predictions, findings, tags, name and patient hash. An empty row and the audit
    stay.

    reason: for the audit trail. Raises NotFound; InvalidInput without a reason; NotAllowed for whoever neither uploaded
    it nor is an administrator; Conflict once a final read refers to it, or a read of somebody else, whoever asks.
    """
    image, prediction, study = tables.image, tables.prediction, tables.study
    with acting(db.begin(), actor, "delete_study") as (connection, person):
        retained = find_study(connection, study_id, is_for_change=True)
        words = tidy_text(reason, REASON_LENGTH_MOST, "reason")
        if not words:
            raise InvalidInput("Say why the study is deleted; the reason goes into the audit trail.")
        if refusal := _why_not_deleted(connection, person, retained):
            raise refusal
        freed = list(
            connection.execute(
                delete(prediction).where(prediction.c.study_id == study_id).returning(prediction.c.maps)
            ).scalars()
        )
        drop_draft(connection, study_id)
        end_lease(connection, study_id)
        connection.execute(delete(tables.assignment).where(tables.assignment.c.study_id == study_id))
        for table in (tables.shadow_answer, tables.back_read_study, tables.language_answer):
            connection.execute(delete(table).where(table.c.study_id == study_id))
        remove_identity(connection, study_id)
        connection.execute(delete(tables.source_identity).where(tables.source_identity.c.study_id == study_id))
        freed += frames.delete_frames(connection, study_id)
        removed = connection.execute(
            delete(image).where(image.c.study_id == study_id).returning(image.c.stored, image.c.sha256)
        ).all()
        connection.execute(
            update(study)
            .where(study.c.id == study_id)
            .values(deleted_at=tables.now(), deleted_by=person.id, display_name="", patient_hash=None)
        )
        delete_annotations(connection, study_id)  # which the database refuses while the study is there
        trail.record(
            connection, person.id, "delete study", f"study {study_id}",
            images=sorted(row.sha256 for row in removed), reason=words,
        )  # fmt: skip
    delete_files(db, [*freed, *(row.stored for row in removed)])


def may_delete(db: Database, actor: Actor, study_id: str) -> bool:
    """Whether `delete_study` would be done now. Raises NotFound; NotAllowed for whoever sees no studies."""
    with acting(db.read(), actor, "see_worklist") as (connection, person):
        retained = find_study(connection, study_id)
        return allowed(person, "delete_study") and _why_not_deleted(connection, person, retained) is None


def _why_not_deleted(connection: Connection, person: Person, retained: Row[Any]) -> Conflict | NotAllowed | None:
    read = tables.read.c
    if retained.is_reader_study_case:
        return Conflict("This is a case of a reader study: it goes with the design that named it.")
    if has_read(connection, retained.id, "final"):
        return Conflict("A final read of this study is saved, so it stays. Add an amendment to the read instead.")
    of_others = select(read.id).where(read.study_id == retained.id, read.person_id != person.id).limit(1)
    if connection.execute(of_others).first() is not None:
        return Conflict("Somebody else has saved a read of this study, so it stays.")
    if retained.created_by != person.id and "administrator" not in person.roles:
        return NotAllowed("A study is deleted by whoever uploaded it, or by an administrator.")
    return None


def tidy_name(text: str) -> str:
    """A display name: no control, direction or private characters, single spaces, at most `NAME_LENGTH_MOST`."""
    visible = "".join(" " if character.isspace() else character for character in unicodedata.normalize("NFC", text))
    visible = "".join(character for character in visible if unicodedata.category(character)[0] != "C")
    name = " ".join(visible.split())[:NAME_LENGTH_MOST].rstrip()
    if not name:
        raise InvalidInput("Give the study a name that says nothing about the patient.")
    return name


def delete_files(db: Database, keys: Sequence[str]) -> None:
    """Remove files that nothing refers to any more; what cannot be removed now is swept at a later start."""
    if not keys:
        return
    try:
        with db.begin() as connection:
            image_store.delete_unused(connection, db.store, keys)
    except (SQLAlchemyError, OSError, Conflict) as error:
        log.warning("%d files stay in the image store until the next start: %s", len(keys), type(error).__name__)


def _patient_of(images: Sequence[Image], most: int) -> str | None:
    if not images:
        raise InvalidInput("A study needs at least one image.")
    if len(images) > most:
        raise InvalidInput(f"A study has at most {most} images. Remove some, or make two studies.")
    patients = {image.patient_hash for image in images if image.patient_hash}
    if len(patients) > 1:
        raise InvalidInput("These images belong to different patients. Make one study for each patient.")
    return patients.pop() if patients else None


def _earlier(retained: Row[Any]) -> Select[Any]:
    """Ids of undeleted studies of the same patient that were taken before; none where the patient is not known.

    Where not both files say their day, or it is the same, the one that was stored before counts as the earlier.
    """
    study = tables.study.c
    is_undecided = study.taken_on.is_(None) | (study.taken_on == retained.taken_on)
    is_stored_before = study.created_at < retained.created_at
    if retained.taken_on is None:
        is_earlier = is_stored_before
    else:
        is_earlier = (study.taken_on < retained.taken_on) | (is_undecided & is_stored_before)
    return select(study.id).where(
        study.patient_hash.is_not(None),  # a comparison with None asks for all others that are unknown, too
        study.patient_hash == retained.patient_hash,
        is_earlier,
        undeleted(),
    )


def _images_of(study_id: str) -> Select[Any]:
    return select(tables.image).where(tables.image.c.study_id == study_id).order_by(tables.image.c.position)


def _checked_correction(laterality: str | None, view: str | None, modality: Modality | str | None) -> dict[str, Any]:
    if laterality not in (None, *LATERALITIES):
        raise InvalidInput("The side can be R, L or not stated.")
    if view not in (None, *VIEWS):
        raise InvalidInput(f"The view can be {', '.join(VIEWS)} or not stated.")
    if modality is not None and modality not in set(Modality):
        raise InvalidInput(f"The kind of picture can be {', '.join(Modality)}.")
    return {"laterality": laterality, "view": view, "modality": Modality(modality).value if modality else None}


def _check_colour(db: Database, key: str, modality: str | None) -> None:
    """Colour is thrown away on the way in for all but histology, so a stored picture cannot change between the two."""
    is_colour = db.store.pixels(key).ndim == 3
    if modality is not None and is_colour != (modality == Modality.HISTOLOGY):
        raise InvalidInput(
            "Histology is kept in colour and every other kind in grey. Upload the file again and choose its kind there."
        )


ONCE_IN = timedelta(minutes=15)
"""A page is drawn anew at every click; one visit is one row."""


def record_opening(db: Database, actor: Actor, study_id: str) -> None:
    """Writes that this person looks at this study, unless it was written a moment ago. Raises NotAllowed, NotFound."""
    with acting(db.read(), actor, "see_worklist") as (connection, person):
        find_study(connection, study_id)
        if _opened_lately(connection, person, study_id):
            return
    with acting(db.begin(), actor, "see_worklist") as (connection, person):
        trail.lock_trail(connection)
        if not _opened_lately(connection, person, study_id):  # another tab of this person may have been faster
            trail.record(connection, person.id, "open study", f"study {study_id}")


def _opened_lately(connection: Connection, person: Person, study_id: str) -> bool:
    row = tables.audit.c
    recent = (
        select(row.id)
        .where(row.subject == f"study {study_id}", row.action == "open study")
        .where(row.person_id == person.id, row.at >= tables.now() - ONCE_IN)
        .limit(1)
    )
    return connection.execute(recent).first() is not None
