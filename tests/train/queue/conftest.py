"""What the tests of the queues begin with: an administrator, a data set and a training that waits."""

from __future__ import annotations

import pytest
from record_site import Somebody, add_person

from core.records import data_sets
from core.records.database.db import Database
from core.types import Modality
from train.queue import trainings
from train.recipe.request import FitRequest


@pytest.fixture
def admin(records: Database) -> Somebody:
    return add_person(records, "Ada", "administrator")


@pytest.fixture
def version(records: Database, admin: Somebody) -> int:
    """A data set of one picture: the queue does not look into it."""
    name = data_sets.store_file(records.settings, b"picture", "png")
    return data_sets.create_data_set(
        records, admin, name="Set", modality=Modality.ULTRASOUND, manifest=f"file,label\n{name},benign\n".encode(),
        split={"kind": "60/20/20", "seed": 0}, counts={"train": {"benign": 4, "malignant": 4}},
        found={"leaking": False},
    )  # fmt: skip


@pytest.fixture
def job_id(records: Database, admin: Somebody, version: int) -> int:
    request = FitRequest("cnn", Modality.ULTRASOUND, init="random", epochs=4, side=64)
    return trainings.enqueue(records, admin, request, version)
