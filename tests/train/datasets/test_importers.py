"""Every published way of handing on a data set becomes a manifest, on made-up files of the same shape."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from PIL import Image as Raster
from pydicom.dataset import Dataset, FileMetaDataset
from pydicom.uid import ExplicitVRLittleEndian, generate_uid

from core.errors import InvalidInput, NotFound
from core.types import Modality
from train.__main__ import main
from train.datasets.importers import IMPORTERS, import_data
from train.datasets.importers.imported import Imported
from train.datasets.manifest import read_manifest


def picture(path: Path, value: int = 90) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    Raster.fromarray(np.full((40, 50), value, np.uint8)).save(path)


def imported(kind: str, source: Path, tmp_path: Path) -> Imported:
    return import_data(kind, source, tmp_path / "made")


def by_file(result: Imported) -> dict[str, dict[str, str]]:
    return {str(row.pop("file")): row for row in result.cases.to_dict("records")}


@pytest.fixture
def source(tmp_path: Path) -> Path:
    folder = tmp_path / "source"
    folder.mkdir()
    return folder


def test_busi_folders_give_labels_and_all_masks_of_a_picture(source: Path, tmp_path: Path) -> None:
    busi = source / "Dataset_BUSI_with_GT"
    for name in ("benign (10)", "benign (2)", "benign (2)_mask", "benign (2)_mask_1", "benign (2)_mask_2"):
        picture(busi / "benign" / f"{name}.png")
    picture(busi / "Malignant" / "malignant (1).png")
    picture(busi / "normal" / "normal (1)_mask.png")
    result = imported("folders", source, tmp_path)
    rows = by_file(result)
    first = "Dataset_BUSI_with_GT/benign/benign (2)"
    assert rows[f"{first}.png"] == {
        "label": "benign",
        "mask": f"{first}_mask.png|{first}_mask_1.png|{first}_mask_2.png",
    }
    assert rows["Dataset_BUSI_with_GT/Malignant/malignant (1).png"] == {"label": "malignant", "mask": ""}
    assert len(rows) == 3 and result.notes == ("1 masks belong to no picture and were left out.",)


def test_folders_of_splits_become_the_split(source: Path, tmp_path: Path) -> None:
    for split in ("Train", "val", "test"):
        for label in ("benign", "malignant"):
            picture(source / split / label / "deeper" / "1.jpg")
    picture(source / "test" / "stray.jpg")
    result = imported("folders", source, tmp_path)
    rows = by_file(result)
    assert rows["val/benign/deeper/1.jpg"] == {"label": "benign", "split": "validation"}
    assert {row["split"] for row in rows.values()} == {"train", "validation", "test"}
    assert rows["test/stray.jpg"]["label"] == "" and "no label" in result.notes[0]


def test_pictures_without_class_folders_are_refused(source: Path, tmp_path: Path) -> None:
    picture(source / "1.png")
    with pytest.raises(InvalidInput, match="one folder a class"):
        imported("folders", source, tmp_path)


def test_breakhis_names_give_patient_subtype_and_magnification(source: Path, tmp_path: Path) -> None:
    for name in ("SOB_B_A-14-22549AB-40-001", "SOB_B_A-14-22549CD-400-002", "SOB_M_LC-14-12204-100-031", "other"):
        picture(source / "any" / f"{name}.png")
    picture(source / "patches" / "SOB_B_TA_14-21978AB_5.png")
    result = imported("breakhis", source, tmp_path)
    rows = by_file(result)
    first = rows["any/SOB_B_A-14-22549AB-40-001.png"]
    assert first["label"] == "benign" and first["subtype"] == "adenosis" and first["magnification"] == "40X"
    assert first["patient"] == rows["any/SOB_B_A-14-22549CD-400-002.png"]["patient"] == "breakhis_14-22549"
    assert rows["any/SOB_M_LC-14-12204-100-031.png"]["label"] == "malignant"
    assert rows["patches/SOB_B_TA_14-21978AB_5.png"]["magnification"] == ""
    assert result.notes == ("1 pictures have other names and were left out.",)


def test_idc_names_give_patient_place_and_label_and_copies_are_dropped(source: Path, tmp_path: Path) -> None:
    for name in ("10258_idx5_x1001_y551_class1", "10258_10258_idx5_x1001_y551_class1", "9_idx5_x1_y51_class0"):
        picture(source / f"{name}.png")
    result = imported("idc", source, tmp_path)
    assert sorted((row["patient"], row["label"]) for row in by_file(result).values()) == [
        ("idc_10258", "idc"),
        ("idc_9", "non_idc"),
    ]
    assert "twice" in result.notes[0]


def test_names_of_the_real_tiles_give_the_patients_of_their_manifest(test_data: Path, tmp_path: Path) -> None:
    folder = test_data / "data" / "histopathology"
    known = pd.read_csv(folder / "manifest.csv", dtype=str, keep_default_na=False).set_index("file")
    for kind, under in (("breakhis", "breakhis"), ("breakhis", "breakhis_patch224"), ("idc", "idc")):
        rows = by_file(imported(kind, folder / under, tmp_path))
        assert len(rows) > 30
        for file, row in rows.items():
            expected = known.loc[f"histopathology/{under}/{file}"]
            assert (row["label"], row["patient"]) == (expected["label"], expected["patient"])


INFO = """Some words before the list.
mdb001 G CIRC B 535 425 197
mdb002 G CIRC B 522 280 69
mdb003 D NORM
mdb005 F CIRC B 477 133 30
mdb005 F CIRC M 500 168 26
mdb059 F CIRC B *NOTE 3*
mdb212 G CALC M 687 882 3
"""


def test_mias_lines_become_films_with_pairs_of_breasts_as_patients(source: Path, tmp_path: Path) -> None:
    (source / "Info.txt").write_text(INFO)
    for number in (1, 2, 3, 5, 59):
        picture(source / f"mdb{number:03d}.png")
    result = imported("mias", source, tmp_path)
    rows = by_file(result)
    assert {file: row["label"] for file, row in rows.items()} == {
        "mdb001.png": "benign",
        "mdb002.png": "benign",
        "mdb003.png": "normal",
        "mdb005.png": "malignant",
        "mdb059.png": "benign",
    }
    assert rows["mdb001.png"]["patient"] == rows["mdb002.png"]["patient"] != rows["mdb003.png"]["patient"]
    assert (rows["mdb001.png"]["laterality"], rows["mdb002.png"]["laterality"]) == ("R", "L")
    assert rows["mdb001.png"]["lesions_class_sev_x_ytop_r"] == "CIRC:B:535:599:197"
    assert rows["mdb005.png"]["lesions_class_sev_x_ytop_r"] == "CIRC:B:477:891:30|CIRC:M:500:856:26"
    assert result.root == source and result.notes == ("1 films of Info.txt have no picture in the folder.",)


def test_films_in_pgm_become_png_of_the_same_pixels(source: Path, tmp_path: Path) -> None:
    (source / "info.txt").write_text(INFO)
    pixels = np.random.default_rng(0).integers(0, 255, (40, 50), dtype=np.uint8)
    Raster.fromarray(pixels).save(source / "mdb003.pgm")
    result = imported("mias", source, tmp_path)
    assert result.root == tmp_path / "made"
    assert np.array_equal(np.asarray(Raster.open(result.root / result.cases["file"][0])), pixels)
    (source / "info.txt").unlink()
    with pytest.raises(NotFound, match=r"Info\.txt"):
        imported("mias", source, tmp_path)


CBIS_COLUMNS = "patient_id,breast density,left or right breast,image view,abnormality id,pathology,image file path"


def cbis_row(patient: str, pathology: str, folder: str, side: str = "LEFT", number: int = 1) -> str:
    return f'{patient},3,{side},CC,{number},{pathology},"{folder}/1.3.6.1/1.3.6.{patient}/000000.dcm\n"'


def cbis(source: Path) -> None:
    """Ten training patients and one test patient; P_00002 is in both parts, P_00003 has no file."""
    training = [cbis_row("P_00001", "BENIGN_WITHOUT_CALLBACK", "Mass-Training_P_00001_LEFT_CC")]
    training += [cbis_row("P_00001", "MALIGNANT", "Mass-Training_P_00001_LEFT_CC", number=2)]
    training += [
        cbis_row(f"P_{number:05d}", "BENIGN", f"Mass-Training_P_{number:05d}_LEFT_CC") for number in range(2, 11)
    ]
    tested = [cbis_row("P_00002", "MALIGNANT", "Calc-Test_P_00002_RIGHT_CC", "RIGHT")]
    for name, rows in (("mass_case_description_train_set", training), ("calc_case_description_test_set", tested)):
        (source / f"{name}.csv").write_text("\n".join([CBIS_COLUMNS, *rows]) + "\n")
    # As TCIA names files today, with other names than in the lists; one lies exactly where the list says.
    for number in (1, *range(4, 11)):
        picture(source / f"Mass-Training_P_{number:05d}_LEFT_CC" / "study" / "series" / "1-1.png")
    (source / "Mass-Training_P_00002_LEFT_CC/1.3.6.1/1.3.6.P_00002").mkdir(parents=True)
    (source / "Mass-Training_P_00002_LEFT_CC/1.3.6.1/1.3.6.P_00002/000000.dcm").write_bytes(b"")
    picture(source / "jpeg" / "1.3.6.P_00002" / "1-249.jpg")
    (source / "Mass-Training_P_00002_LEFT_CC/1.3.6.1/1.3.6.P_00002/000001.dcm").write_bytes(b"")


def test_cbis_lists_become_one_row_an_image_with_the_worst_label(source: Path, tmp_path: Path) -> None:
    cbis(source)
    rows = by_file(imported("cbis-ddsm", source, tmp_path))
    first = rows["Mass-Training_P_00001_LEFT_CC/study/series/1-1.png"]
    assert first["label"] == "malignant" and first["patient"] == "P_00001"
    assert (first["laterality"], first["view"], first["density_acr"], first["abnormality"]) == ("L", "CC", "3", "mass")


def test_cbis_finds_files_by_path_by_case_folder_and_counts_the_missing(source: Path, tmp_path: Path) -> None:
    cbis(source)
    result = imported("cbis-ddsm", source, tmp_path)
    assert "Mass-Training_P_00002_LEFT_CC/1.3.6.1/1.3.6.P_00002/000000.dcm" in set(result.cases["file"])
    assert "2 images of the lists are not in the folder." in result.notes  # P_00003, and P_00002's test image


def test_cbis_keeps_official_test_patients_whole_and_takes_validation_from_training(
    source: Path, tmp_path: Path
) -> None:
    cbis(source)
    picture(source / "Calc-Test_P_00002_RIGHT_CC" / "study" / "1-1.png")
    result = imported("cbis-ddsm", source, tmp_path)
    split = result.cases.groupby("patient")["split"].agg(set)
    assert split["P_00002"] == {"test"}
    assert "1 patients are in both official parts; all their images are test cases here." in result.notes
    others = [parts for patient, parts in split.items() if patient != "P_00002"]
    assert {"train"} in others and {"validation"} in others and {"test"} not in others


def dicom(path: Path, patient: str, laterality: str = "L") -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    file = Dataset()
    file.file_meta = FileMetaDataset()
    file.file_meta.TransferSyntaxUID = ExplicitVRLittleEndian
    file.file_meta.MediaStorageSOPClassUID = file.SOPClassUID = "1.2.840.10008.5.1.4.1.1.1.2"
    file.file_meta.MediaStorageSOPInstanceUID = file.SOPInstanceUID = generate_uid()
    file.Modality, file.PatientID, file.ImageLaterality, file.ViewPosition = "MG", patient, laterality, "MLO"
    file.Rows, file.Columns, file.BitsAllocated, file.BitsStored, file.HighBit = 64, 64, 16, 12, 11
    file.SamplesPerPixel, file.PixelRepresentation, file.PhotometricInterpretation = 1, 0, "MONOCHROME2"
    file.PixelData = bytes(64 * 64 * 2)
    file.save_as(path, enforce_file_format=True)


def test_dicom_files_are_found_by_content_and_their_patients_are_hashed(source: Path, tmp_path: Path) -> None:
    dicom(source / "Malignant" / "study" / "IM0", "SECRET-17")
    dicom(source / "Malignant" / "study" / "IM1", "SECRET-17", "R")
    dicom(source / "loose.dcm", "SECRET-18")
    picture(source / "Malignant" / "preview.png")
    result = imported("dicom", source, tmp_path)
    rows = by_file(result)
    first = rows["Malignant/study/IM0"]
    assert (first["label"], first["modality"]) == ("malignant", Modality.MAMMOGRAPHY.value)
    assert (first["laterality"], first["view"]) == ("L", "MLO")
    assert rows["Malignant/study/IM1"]["patient"] == first["patient"] != rows["loose.dcm"]["patient"]
    assert len(rows) == 3 and "SECRET" not in result.cases.to_csv()
    assert "1 files have no label" in result.notes[0]


@pytest.mark.parametrize("side", [28, 64])
def test_breastmnist_keeps_its_official_split_and_its_pixels(tmp_path: Path, side: int) -> None:
    rng = np.random.default_rng(0)
    arrays = {}
    for split, n in (("train", 6), ("val", 2), ("test", 3)):
        arrays[f"{split}_images"] = rng.integers(0, 255, (n, side, side), dtype=np.uint8)
        arrays[f"{split}_labels"] = (np.arange(n) % 2)[:, None].astype(np.uint8)
    np.savez(tmp_path / "breastmnist.npz", **arrays)  # type: ignore[arg-type]
    result = imported("breastmnist", tmp_path / "breastmnist.npz", tmp_path)
    assert result.cases["split"].value_counts().to_dict() == {"train": 6, "test": 3, "validation": 2}
    rows = by_file(result)
    assert rows["breastmnist_train_0000.png"]["label"] == "malignant"
    assert rows["breastmnist_train_0001.png"]["label"] == "not_malignant"
    pixels = np.asarray(Raster.open(result.root / "breastmnist_validation_0001.png"))
    step = len(pixels) // side
    assert len(pixels) >= 32 and np.array_equal(pixels[::step, ::step], arrays["val_images"][1])


def test_another_npz_is_refused_and_never_unpickled(tmp_path: Path) -> None:
    np.savez(tmp_path / "other.npz", train_images=np.array([{"a": 1}], dtype=object))
    with pytest.raises(InvalidInput, match="not BreastMNIST"):
        imported("breastmnist", tmp_path / "other.npz", tmp_path)
    (tmp_path / "text.npz").write_text("no archive")
    with pytest.raises(InvalidInput, match="not BreastMNIST"):
        imported("breastmnist", tmp_path / "text.npz", tmp_path)


@pytest.mark.parametrize("kind", [entry.id for entry in IMPORTERS])
def test_a_source_that_is_not_there_or_empty_is_refused_with_a_sentence(
    kind: str, source: Path, tmp_path: Path
) -> None:
    with pytest.raises(NotFound, match="nothing at the source"):
        imported(kind, tmp_path / "nowhere", tmp_path)
    with pytest.raises((NotFound, InvalidInput), match=r"\.$"):
        imported(kind, source, tmp_path)


def test_the_command_writes_a_manifest_that_reads_back(
    source: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    picture(source / "benign" / "benign (1).png")
    picture(source / "benign" / "benign (1)_mask.png")
    picture(source / "malignant" / "malignant (1).png")
    assert main(["import", "folders", str(source), "--out", str(tmp_path / "manifest.csv")]) == 0
    assert "2 images: 1 benign, 1 malignant" in capsys.readouterr().out
    cases = read_manifest(tmp_path / "manifest.csv", root=source).cases
    assert [(source / file).is_file() for file in cases["file"]] == [True, True]
