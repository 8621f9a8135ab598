"""DICOM files in a data set: pixels without names, tags as columns, refusals one by one; and what the page shows."""

from __future__ import annotations

import csv
import io
import zipfile
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from made_images import dicom, mammogram
from PIL import Image as Raster
from record_site import add_person

from core.errors import InvalidInput
from core.imaging.decoded import Limits
from core.imaging.intake import read_study
from core.imaging.raster import read_raster
from core.records import data_sets
from core.records.database.db import Database
from core.records.people.permissions import Person
from core.settings import Settings
from core.types import Modality
from train.datasets import deidentify, ingest, overview
from train.datasets.deidentify import FRAMES_MOST, IngestedPictures, frames_of, store_pixels
from train.datasets.ingest import Ingested

US_MULTI_FRAME = "1.2.840.10008.5.1.4.1.1.3.1"


@pytest.fixture
def record_settings(tmp_path: Path) -> Settings:
    return Settings(state_dir=tmp_path / "state")


@pytest.fixture
def admin(records: Database) -> Person:
    return add_person(records, "Ada", "administrator")


def added(db: Database, person: Person, files: dict[str, Path], archive: Path, modality: Modality) -> Ingested:
    with zipfile.ZipFile(archive, "w") as zipped:
        for name, path in files.items():
            zipped.write(path, name)
    return ingest.add_zip(db, person, archive, name="Set", modality=modality, seed=0, progress=lambda *_: None)


def cases_of(db: Database, person: Person, version_id: int) -> list[dict[str, str]]:
    row = data_sets.load_version(db, person, version_id)
    text = data_sets.checked_manifest(db.settings, row.manifest_sha256).read_text(encoding="utf-8")
    return list(csv.DictReader(io.StringIO(text)))


def test_a_folder_of_dicom_files_becomes_pixels_without_names(
    records: Database, admin: Person, test_data: Path, tmp_path: Path
) -> None:
    zoo = test_data / "data" / "dicom"
    real = sorted((zoo / "us_breast").glob("*.dcm"))
    files = {f"NAME {i}/{('cancer', 'non-cancer')[i % 2]}/{path.name}": path for i, path in enumerate(real)}
    files |= {f"x/cancer/{name}": zoo / "broken" / name for name in ("us_cut_in_half.dcm", "text_renamed.dcm")}
    files["x/cancer/mg.dcm"] = zoo / "mg" / "mg_ge_rmlo_jpegll_sigmoid.dcm"
    found = added(records, admin, files, tmp_path / "a.zip", Modality.ULTRASOUND)

    cases = cases_of(records, admin, found.version_id)
    assert len(cases) == len(real) and {case["label"] for case in cases} == {"malignant", "not_malignant"}
    refused = {name.rpartition("/")[2]: why for name, why in found.refused}
    assert set(refused) == {"us_cut_in_half.dcm", "text_renamed.dcm", "mg.dcm"}
    assert "cut short" in refused["us_cut_in_half.dcm"] and "another kind" in refused["mg.dcm"]
    assert any("burnt into the picture" in note for note in found.notes)
    assert all(case["modality"] == "ultrasound" and len(case["patient"]) == 16 for case in cases)
    assert len({case["patient"] for case in cases}) == 8  # IM4 and IM5 are of one patient, and so in one part
    assert len({(case["patient"], case["split"]) for case in cases}) == 8
    for path in (records.settings.state_dir / "data_sets").rglob("*"):
        assert not path.is_file() or (b"DICM" not in path.read_bytes()[:200] and b"NAME" not in path.read_bytes())

    # What training reads is what a reader sees of the same file.
    seen = read_study(real[:1], settings=Settings(), modality=Modality.ULTRASOUND)[0].image
    assert seen is not None
    retained = data_sets.files_dir(records.settings) / cases[0]["file"]
    with retained.open("rb") as stream:
        again = read_raster(stream, "PNG", limits=Limits.of(Settings())).pixels
    np.testing.assert_allclose(again, seen.pixels, atol=1 / 65535)


def test_the_tags_tell_side_and_view_of_a_mammogram(
    records: Database, admin: Person, test_data: Path, tmp_path: Path
) -> None:
    derived = test_data / "data" / "dicom" / "mg_derived"
    files = {f"{'LR'.index(path.name[6])}/{path.name}": path for path in sorted(derived.glob("*.dcm"))}
    files = {("malignant" if name[0] == "0" else "benign") + name[1:]: path for name, path in files.items()}
    found = added(records, admin, files, tmp_path / "a.zip", Modality.MAMMOGRAPHY)
    cases = cases_of(records, admin, found.version_id)
    assert {(case["label"], case["laterality"]) for case in cases} == {("malignant", "L"), ("benign", "R")}
    assert {case["view"] for case in cases} >= {"CC", "MLO"}
    seen = overview.overview(records, admin, found.version_id)
    assert set(seen.subgroups) >= {"laterality", "view"} and seen.has_patients
    assert int(seen.subgroups["laterality"]["cases"].sum()) == len(cases)
    assert seen.sizes["height"].min() > 1000 and seen.mib > 1


def test_the_frames_of_a_clip_are_kept_evenly_spaced_and_never_parted(
    records: Database, admin: Person, test_data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert frames_of(3) == [0, 1, 2] and frames_of(30)[:2] == [0, 2] and frames_of(30)[-1] == 29
    assert len(set(frames_of(500))) == FRAMES_MOST == 16
    monkeypatch.setattr(deidentify, "FRAMES_MOST", 4)  # each costs a process

    def squares(*shape: int) -> np.ndarray:
        cells = np.random.default_rng(len(files)).integers(20, 220, (*shape, 8, 8)).astype(np.uint8)
        return cells.repeat(12, axis=-2).repeat(12, axis=-1)

    files: dict[str, Path] = {}
    for number in range(16):
        path = tmp_path / f"{number}.png"
        Raster.fromarray(squares()).save(path)
        files[f"{('benign', 'malignant')[number % 2]}/{path.name}"] = path
    (tmp_path / "made.dcm").write_bytes(
        dicom(squares(4), NumberOfFrames=4, Modality="US", SOPClassUID=US_MULTI_FRAME, PatientID=None)
    )
    files["malignant/made.dcm"] = tmp_path / "made.dcm"
    files["malignant/real.dcm"] = test_data / "data" / "dicom" / "us_other" / "us_ybr422_jpeg_30frames.dcm"
    found = added(records, admin, files, tmp_path / "a.zip", Modality.ULTRASOUND)

    words = "2 files have several frames: 8 of their 34 frames were kept, at most 4 of a file and evenly spaced"
    assert any(note.startswith(words) for note in found.notes)
    assert not any("is shown" in note for note in found.notes)
    cases = pd.DataFrame(cases_of(records, admin, found.version_id))
    clips = cases[cases["group"] != ""].groupby("group")
    assert len(cases) == 24 and sorted(clips.size()) == [4, 4]
    assert (clips["split"].nunique() == 1).all()


def test_a_dark_grey_picture_comes_back_as_dark_as_it_was(records: Database) -> None:
    retained = IngestedPictures([])
    for top in (0.01, 0.2, 0.9):
        pixels = np.random.default_rng(0).random((40, 50)).astype(np.float32) * np.float32(top)
        name = store_pixels(records.settings, pixels, retained)
        with (data_sets.files_dir(records.settings) / name).open("rb") as stream:
            kind = "TIFF" if name.endswith("tiff") else "PNG"
            again = read_raster(stream, kind, limits=Limits.of(records.settings)).pixels
        np.testing.assert_allclose(again, pixels, atol=1 / 65535)


def test_the_pictures_of_a_patient_are_kept_on_one_grey_scale_with_square_pixels(
    records: Database, tmp_path: Path
) -> None:
    """What is written anew says how bright and how wide it is; nobody can settle that afterwards."""
    picture = mammogram(120, 90)
    for name, highest in (("a", 935), ("b", 1050), ("c", 1023)):
        values = np.round(picture * highest / picture.max()).astype(np.uint16)
        Raster.fromarray(values).save(tmp_path / f"{name}.tiff")
    (tmp_path / "d.dcm").write_bytes(dicom(np.round(picture * 4095).astype(np.uint16), PixelSpacing=[0.2, 0.1]))
    cases = pd.DataFrame(
        {"file": ["a.tiff", "b.tiff", "c.tiff", "d.dcm"], "label": ["benign", "malignant"] * 2,
         "patient": ["p1", "p1", "p2", ""]}
    )  # fmt: skip
    retained = IngestedPictures([])
    deidentify.ingest_cases(records, cases, tmp_path, retained, modality=Modality.MAMMOGRAPHY, progress=lambda *_: None)
    from train.fitting.squares import read_case  # loads TensorFlow

    files = [data_sets.files_dir(records.settings) / name for name in retained.cases["file"]]
    pixels = [read_case(path, Modality.MAMMOGRAPHY).pixels for path in files]
    assert [float(one.max()) for one in pixels[:3]] == pytest.approx([935 / 4095, 1050 / 4095, 1], abs=1e-3)
    assert pixels[3].shape == (240, 90)


def test_what_no_model_reads_is_not_learned_from(records: Database, tmp_path: Path) -> None:
    values = np.round(mammogram(120, 90) * 4095).astype(np.uint16)
    (tmp_path / "a.dcm").write_bytes(dicom(values))
    (tmp_path / "b.dcm").write_bytes(dicom(values, QualityControlImage="YES"))
    (tmp_path / "c.dcm").write_bytes(dicom(np.ascontiguousarray(values[:, ::-1])))
    cases = pd.DataFrame({"file": ["a.dcm", "b.dcm", "c.dcm"], "label": ["benign", "malignant", "malignant"]})
    retained = IngestedPictures([])
    deidentify.ingest_cases(records, cases, tmp_path, retained, modality=Modality.MAMMOGRAPHY, progress=lambda *_: None)
    assert len(retained.cases) == 2 and [("b.dcm", "phantom" in why) for _, why in retained.refused] == [
        ("b.dcm", True)
    ]


def test_folders_named_after_patients_never_become_labels(
    records: Database, admin: Person, test_data: Path, tmp_path: Path
) -> None:
    picture = next((test_data / "data" / "ultrasound" / "busi" / "benign").glob("*.png"))
    files = {f"Muster {number}/1.png": picture for number in range(21)}
    with pytest.raises(InvalidInput, match="too many to be classes"):
        added(records, admin, files, tmp_path / "a.zip", Modality.ULTRASOUND)


def test_real_ultrasound_is_shown_with_counts_sizes_and_thumbnails(
    records: Database, admin: Person, test_data: Path, tmp_path: Path
) -> None:
    busi = test_data / "data" / "ultrasound" / "busi"
    files = {
        f"{label}/{path.name}": path
        for label in ("benign", "malignant", "normal")
        for path in sorted((busi / label).glob("*.png"))[:12]
    }
    found = added(records, admin, files, tmp_path / "a.zip", Modality.ULTRASOUND)
    seen = overview.overview(records, admin, found.version_id)
    row = data_sets.load_version(records, admin, found.version_id)
    assert int(seen.counts["cases"].sum()) == row.n_cases == len(seen.sizes)
    for _, one in seen.counts.iterrows():
        assert row.counts[one["part"]][one["label"]] == one["cases"]
    with Raster.open(sorted((busi / "benign").glob("*.png"))[0]) as first:
        assert {"width": first.width, "height": first.height}.items() <= seen.sizes.iloc[0].to_dict().items()
    drawn = overview.pictures_of(records, admin, row.id, label="benign", most=5, seed=1)
    assert len(drawn) == 5 and drawn == overview.pictures_of(records, admin, row.id, label="benign", most=5, seed=1)
    small = overview.thumbnail(records.settings, drawn[0][0])
    assert max(small.shape) == overview.THUMBNAIL_SIDE and small.dtype == np.uint8 and small.std() > 5
    with pytest.raises(Exception, match="not there"):
        overview.thumbnail(records.settings, "../../site.key")
