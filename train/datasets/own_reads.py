"""This site's own reads as a data set: pixels of the image store, labels from the truths, nobody's name.

Nothing happens by itself: an administrator asks for it, and the trail says who and of how many studies.
"""

from __future__ import annotations

from dataclasses import dataclass

import pandas as pd

from core.errors import InvalidInput, NotFound
from core.records.database.db import Database
from core.records.people.permissions import Actor, require_permission_now
from core.records.reads.truths import KnownImage, KnownImages, known_images
from core.types import Modality
from core.wording import how_many
from train.datasets.deidentify import IngestedPictures, each_once, hashed, store_pixels
from train.datasets.ingest import Ingested, NewDataSet, add_data_set
from train.datasets.staging import Progress

TWO, THREE = "malignant or not", "as entered"
LABELLINGS = (TWO, THREE)
_NAMES = {"not biopsied, stable": "stable"}


@dataclass(frozen=True, slots=True)
class OwnReads:
    """What there is to make a data set of. counts: label -> images."""

    found: KnownImages
    counts: dict[str, int]


def label_of(pathology: str, labelling: str) -> str:
    """The class of a pathology; "not biopsied, stable" counts as not malignant."""
    if labelling == TWO:
        return "malignant" if pathology == "malignant" else "not_malignant"
    return _NAMES.get(pathology, pathology)


def own_reads(db: Database, actor: Actor, modality: Modality, labelling: str) -> OwnReads:
    """Nothing is kept by this. Raises NotAllowed."""
    require_permission_now(db, actor, "manage_data")
    found = known_images(db, actor, modality)
    labels = [label_of(image.pathology, labelling) for image in found.images]
    return OwnReads(found, {label: labels.count(label) for label in sorted(set(labels))})


def add_own_reads(
    db: Database,
    actor: Actor,
    *,
    labelling: str,
    confirmed: bool,
    name: str,
    modality: Modality,
    seed: int,
    progress: Progress,
) -> Ingested:
    """A data set of every study of this kind whose truth is known. confirmed: the person said so, in so many words.

    Raises NotAllowed, InvalidInput, Conflict.
    """
    require_permission_now(db, actor, "manage_data")
    if labelling not in LABELLINGS:
        raise InvalidInput(f"The labels can be: {', '.join(LABELLINGS)}.")
    if not confirmed:
        raise InvalidInput("Confirm first that this site may use these studies for training.")
    found = known_images(db, actor, modality)
    if not found.images:
        raise InvalidInput("No study of this kind has a final read and a truth yet.")
    notes = [f"{how_many(n, 'image')} left out: {sentence}" for sentence, n in found.left_out.items()]

    def put_pictures(retained: IngestedPictures) -> None:
        rows = []
        for number, image in enumerate(found.images):
            progress("Keeping the pictures", number / len(found.images))
            try:
                file = store_pixels(db.settings, db.store.pixels(image.stored), retained)
            except NotFound:
                retained.notes.append("1 image left out: it is missing from the image store.")
                continue
            rows.append({"file": file, **_row(db, image, labelling, modality)})
        retained.cases = each_once(pd.DataFrame(rows).fillna(""), retained.notes)

    origin = f"own reads, {how_many(found.n_studies, 'study', 'studies')}"
    return add_data_set(db, actor, NewDataSet(name, modality, seed, progress), put_pictures, notes=notes, origin=origin)


def _row(db: Database, image: KnownImage, labelling: str, modality: Modality) -> dict[str, str]:
    return {
        "label": label_of(image.pathology, labelling),
        "mask": "",
        "patient": hashed(db.site_key, "patient", image.patient),
        "laterality": image.laterality,
        "view": image.view,
        "modality": modality.value,
        "manufacturer": image.manufacturer,
        "source": "reads of this site",
    }
