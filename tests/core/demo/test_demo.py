"""The demonstration: synthetic pictures that pass the door, people who can sign in."""

from __future__ import annotations

import io
from pathlib import Path

import numpy as np
import pytest
from PIL import Image as Raster
from record_site import signed_in

from core.demo.phantoms import histology_tile, mammogram_exam, ultrasound_image
from core.demo.site import prepare
from core.errors import InvalidSettings
from core.imaging.intake import read_upload
from core.records.database.db import open_database
from core.records.people import accounts
from core.records.people.permissions import LocalTerminal
from core.records.reads.studies import list_studies
from core.settings import Settings
from core.types import Image, Modality

PICTURES = [*mammogram_exam(), ultrasound_image(), histology_tile()]


@pytest.mark.parametrize("image", PICTURES, ids=lambda image: f"{image.modality}-{image.laterality}-{image.view}")
def test_a_phantom_is_taken_for_what_it_shows_at_the_door(image: Image) -> None:
    stream = io.BytesIO()
    Raster.fromarray(np.round(image.pixels * 255).astype(np.uint8)).save(stream, "PNG")
    (intake,) = read_upload(stream.getvalue(), "phantom.png", settings=Settings())
    assert intake.image is not None, intake.refused
    assert intake.image.modality is image.modality


def test_phantoms_say_that_they_are_synthetic() -> None:
    assert all(any("SYNTHETIC" in warning for warning in image.warnings) for image in PICTURES)


def test_the_mass_is_only_in_the_left_breast() -> None:
    views = {(image.laterality, image.view): image.pixels for image in mammogram_exam()}
    assert views["L", "CC"][400:444, 280:320].mean() > 1.3 * views["R", "CC"][:, ::-1][400:444, 280:320].mean()


def test_three_people_and_three_studies_once_and_new_passwords_each_time(tmp_path: Path) -> None:
    settings = Settings(state_dir=tmp_path / "state", demo=True)
    db = open_database(settings)
    first, second = prepare(db), prepare(db)
    assert [person.roles for person in first] == [person.roles for person in second]
    assert len({person.password for person in (*first, *second)}) == 6
    for person in second:
        assert accounts.sign_in(db, settings, person.name, person.password)
    with pytest.raises(accounts.AccountRefused):
        accounts.sign_in(db, settings, first[1].name, first[1].password)
    studies = list_studies(db, LocalTerminal(1))
    assert len(studies) == 3 and all(study.is_synthetic for study in studies)
    assert {modality for study in studies for modality in study.modalities} == set(Modality)
    db.close()


def test_a_real_site_never_becomes_a_demonstration(tmp_path: Path) -> None:
    db = open_database(Settings(state_dir=tmp_path / "state"))
    code = accounts.setup_code(db)
    assert code is not None
    owner = signed_in(
        db, accounts.create_first_administrator(db, code=code, name="Dr Real", password="a long enough password")
    )
    with pytest.raises(InvalidSettings, match="belongs to a real site"):
        prepare(db)
    assert [row.name for row in accounts.list_people(db, owner)] == ["Dr Real"]
    assert list_studies(db, owner) == []
    db.close()
