"""A hospital's workbooks, and this site's own reads, as data sets: what is joined and kept, and that no name is."""

from __future__ import annotations

import csv
import io
import re
import zipfile
from dataclasses import replace
from datetime import date
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from made_data_sets import hospital
from PIL import Image as Raster
from record_site import CALM, add_person, picture

from core.errors import InvalidInput
from core.records import data_sets
from core.records.audit import trail
from core.records.database.db import Database
from core.records.people.permissions import Person
from core.records.reads import reads, studies, truths
from core.settings import Settings
from core.types import Image, Modality
from train.datasets import own_reads
from train.datasets.hospital import link
from train.datasets.hospital.columns import KeyColumns, LinkColumns, LinkSheets, SheetNames, headers_of
from train.datasets.hospital.link import Sources
from train.datasets.ingest import Ingested


@pytest.fixture
def record_settings(tmp_path: Path) -> Settings:
    (tmp_path / "data").mkdir()
    return Settings(state_dir=tmp_path / "state", data_root=str(tmp_path / "data"))


@pytest.fixture
def admin(records: Database) -> Person:
    return add_person(records, "Ada", *("administrator", "radiologist"))


def added(db: Database, person: Person, sources: Sources, columns: LinkColumns) -> Ingested:
    return link.add_linked(
        db, person, sources, columns, name="Hospital", modality=Modality.MAMMOGRAPHY, seed=0, progress=lambda *_: None
    )


def cases_of(db: Database, person: Person, version_id: int) -> list[dict[str, str]]:
    row = data_sets.load_version(db, person, version_id)
    text = data_sets.checked_manifest(db.settings, row.manifest_sha256).read_text(encoding="utf-8")
    return list(csv.DictReader(io.StringIO(text)))


def test_the_join_is_shown_row_by_row_and_nothing_is_kept(records: Database, admin: Person, tmp_path: Path) -> None:
    sources = hospital(tmp_path / "books", tmp_path / "data" / "jpg")
    columns = link.columns_in(records, admin, sources.combined, sources.validation).likely()
    assert columns == LinkColumns()
    seen = link.preview(records, admin, sources, columns)
    assert seen.counts == {
        "cancer": {"rows": 13, "matched": 11, "unmatched": {"no validation row": 1, "duplicate key": 1}},
        "non_cancer": {"rows": 20, "matched": 19, "unmatched": {"file missing": 1}},
    }
    assert seen.n_matched == 30
    assert [tuple(row) for row in seen.unmatched.itertuples(index=False)] == [
        ("Cancer", 13, "no validation row", ""),
        ("Cancer", 14, "duplicate key", "the same key as row 2"),
        ("Non-Cancer", 21, "file missing", "no file of this name"),
    ]
    assert not (records.settings.state_dir / "data_sets").exists()


def test_linked_rows_become_a_data_set_and_nothing_that_names_a_patient_is_kept(
    records: Database, admin: Person, tmp_path: Path
) -> None:
    sources = hospital(tmp_path / "books", tmp_path / "data" / "jpg")
    found = added(records, admin, sources, LinkColumns())
    cases = cases_of(records, admin, found.version_id)
    assert sorted(case["label"] for case in cases) == ["malignant"] * 11 + ["not_malignant"] * 19
    assert set(cases[0]) <= {"file", "label", "mask", "patient", "group", "source", "split"}
    others = [case for case in cases if case["label"] == "not_malignant"]
    assert len({case["patient"] for case in others}) == 10
    assert len({(case["patient"], case["split"]) for case in cases}) == 21  # no patient is parted
    assert found.notes[:2] == (
        "11 of 13 cancer rows found their picture.",
        "19 of 20 non-cancer rows found their picture.",
    )
    retained = b"".join(
        path.read_bytes() + path.name.encode() for path in records.settings.state_dir.rglob("*") if path.is_file()
    )
    for word in (b"DIT43912", b"77001", b"FILE000", b"Muster", b"20141201", b"N001"):
        # A hash of 64 hexadecimal digits may hold five given ones.
        assert not re.search(rb"(?<![0-9a-f])" + word + rb"(?![0-9a-f])", retained), word
    assert (tmp_path / "data" / "jpg" / "batch0").is_dir()  # a folder of the hospital is left as it is


def test_sheets_of_another_name_can_be_chosen(records: Database, admin: Person, tmp_path: Path) -> None:
    sources = hospital(tmp_path / "books", tmp_path / "data" / "jpg", sheets=("Befund +", "Befund -"))
    names = link.sheets_in(records, admin, sources.combined, sources.validation)
    assert names == SheetNames(("Befund +", "Befund -"), ("Sheet1",)) and names.likely() == LinkSheets("", "")
    with pytest.raises(
        InvalidInput, match=r"no sheet Cancer and no sheet Non-Cancer\. Its sheets: Befund \+, Befund -"
    ):
        link.columns_in(records, admin, sources.combined, sources.validation)
    sheets = LinkSheets("Befund +", "Befund -", "Sheet1")
    columns = replace(
        link.columns_in(records, admin, sources.combined, sources.validation, sheets).likely(), sheets=sheets
    )
    seen = link.preview(records, admin, sources, columns)
    assert seen.n_matched == 30 and set(seen.unmatched["sheet"]) == {"Befund +", "Befund -"}
    with pytest.raises(InvalidInput, match=r"no sheet Patho\. Its sheets: Sheet1"):
        link.preview(records, admin, sources, replace(columns, sheets=LinkSheets("Befund +", "Befund -", "Patho")))
    with pytest.raises(InvalidInput, match="cannot hold both"):
        LinkSheets("Befund +", "Befund +")


def test_columns_of_another_name_can_be_set(records: Database, admin: Person, tmp_path: Path) -> None:
    columns = ("Bilddatei", "Study Day", "Uhrzeit", "Pat Nr")
    sources = hospital(tmp_path / "books", tmp_path / "data" / "jpg", columns, "Windows path")
    headers = headers_of(sources.combined, sources.validation)
    assert headers.combined == columns and headers.validation == (*columns, "Windows path")
    assert headers.likely() == LinkColumns(KeyColumns("", "", "", ""), KeyColumns("", "", "", ""), "Windows path")
    with pytest.raises(InvalidInput, match="key's columns"):
        link.preview(records, admin, sources, headers.likely())
    chosen = LinkColumns(KeyColumns(*columns), KeyColumns(*columns), "Windows path")
    assert link.preview(records, admin, sources, chosen).n_matched == 30
    swapped = KeyColumns(columns[0], columns[2], columns[1], columns[3])
    wrong = link.preview(records, admin, sources, LinkColumns(swapped, KeyColumns(*columns), "Windows path"))
    assert wrong.counts["cancer"]["matched"] == 0


def test_a_zip_of_pictures_is_unpacked_for_the_join_and_gone_after_it(
    records: Database, admin: Person, tmp_path: Path
) -> None:
    sources = hospital(tmp_path / "books", tmp_path / "jpg")
    archive = tmp_path / "jpg.zip"
    with zipfile.ZipFile(archive, "w") as zipped:
        for path in (tmp_path / "jpg").rglob("*.jpg"):
            zipped.write(path, path.relative_to(tmp_path))
    folder = link.unpack_images(records, admin, archive, progress=lambda *_: None)
    assert folder.is_relative_to(records.settings.state_dir)
    unpacked = Sources(sources.combined, sources.validation, folder)
    assert link.preview(records, admin, unpacked, LinkColumns()).n_matched == 30
    added(records, admin, unpacked, LinkColumns())
    assert not folder.exists()


def test_pictures_come_from_below_the_sites_data_root_only(records: Database, admin: Person, tmp_path: Path) -> None:
    assert link.images_below_root(records, admin, ".") == (tmp_path / "data").resolve()
    with pytest.raises(InvalidInput, match="outside"):
        link.images_below_root(records, admin, "..")


# ---- this site's own reads ---------------------------------------------------------------------------------------


def read_study(
    db: Database, person: Person, number: int, known: dict[str, str], *, is_final: bool = True, **fields: Any
) -> str:
    images: list[Image] = []
    for place, side in enumerate(("R", "L")):
        pixels = np.random.default_rng(10 * number + place).random((9, 9)).astype(np.float32)
        big = np.asarray(Raster.fromarray(pixels).resize((64, 64), Raster.Resampling.BICUBIC)).clip(0, 1)
        images.append(
            picture(10 * number + place, pixels=big, laterality=side, modality=Modality.MAMMOGRAPHY, **fields)
        )
    study = studies.create_study(db, person, display_name=f"Muster {number}", images=images)
    reads.record_first_read(db, person, study, {"R": CALM, "L": CALM})
    if is_final:
        reads.reveal(db, person, study)
        reads.record_final_read(db, person, study, {"R": CALM, "L": CALM})
    for breast, pathology in known.items():
        truths.record_truth(
            db, person, study, breast=breast, pathology=pathology, happened_on=date(2024, 1, 1), source="biopsy"
        )
    return study


@pytest.fixture
def site(records: Database, admin: Person) -> Database:
    """Five finished studies of four patients, one without truth of the left breast, and one that is being read."""
    for number in range(5):
        known = {"R": ("benign", "malignant")[number % 2], "L": "not biopsied, stable"}
        read_study(records, admin, number, known, patient_hash=f"{number // 2:064x}")
    read_study(records, admin, 6, {"R": "benign"}, patient_hash="f" * 64)
    read_study(records, admin, 7, {"R": "malignant"}, is_final=False)
    truths.record_truth(
        records, admin, read_study(records, admin, 8, {"R": "benign"}), breast="R", pathology="malignant",
        happened_on=date(2024, 2, 1), source="surgery",
    )  # fmt: skip
    return records


def make(db: Database, person: Person, *, confirmed: bool = True, labelling: str = own_reads.TWO) -> Ingested:
    return own_reads.add_own_reads(
        db, person, labelling=labelling, confirmed=confirmed, name="Own", modality=Modality.MAMMOGRAPHY, seed=0,
        progress=lambda *_: None,
    )  # fmt: skip


def test_own_reads_become_cases_labelled_by_the_truth_of_their_breast(site: Database, admin: Person) -> None:
    there = own_reads.own_reads(site, admin, Modality.MAMMOGRAPHY, own_reads.TWO)
    assert there.counts == {"malignant": 3, "not_malignant": 9} and there.found.n_studies == 7
    assert own_reads.own_reads(site, admin, Modality.MAMMOGRAPHY, own_reads.THREE).counts == {
        "benign": 4, "malignant": 3, "stable": 5,
    }  # fmt: skip
    assert own_reads.own_reads(site, admin, Modality.ULTRASOUND, own_reads.TWO).counts == {}

    found = make(site, admin)
    cases = cases_of(site, admin, found.version_id)
    assert [case["label"] for case in cases].count("malignant") == 3 and len(cases) == 12
    assert all(case["laterality"] == "R" for case in cases if case["label"] == "malignant")
    assert len({case["patient"] for case in cases}) == 5
    assert len({(case["patient"], case["split"]) for case in cases}) == 5
    assert "2 images left out: No truth was entered for the breast that the image shows." in found.notes
    retained = data_sets.manifest_path(
        site.settings, data_sets.load_version(site, admin, found.version_id).manifest_sha256
    ).read_text()
    for study in studies.list_studies(site, admin):
        assert study.id not in retained and study.display_name not in retained
    entry = next(entry for entry in trail.entries(site, admin) if entry.action == "add data set")
    assert entry.detail["origin"] == "own reads, 7 studies"


def test_own_reads_are_used_only_when_an_administrator_says_so(site: Database, admin: Person) -> None:
    with pytest.raises(InvalidInput, match="Confirm first"):
        make(site, admin, confirmed=False)
    assert data_sets.list_versions(site, admin) == []
    assert not any("data set" in entry.action for entry in trail.entries(site, admin))


def test_a_deleted_picture_of_the_store_does_not_lose_the_others(site: Database, admin: Person) -> None:
    there = own_reads.own_reads(site, admin, Modality.MAMMOGRAPHY, own_reads.TWO)
    site.store.remove(there.found.images[0].stored)
    found = make(site, admin)
    assert data_sets.load_version(site, admin, found.version_id).n_cases == 11
    assert any("missing from the image store" in note for note in found.notes)
