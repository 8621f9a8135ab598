"""`python -m core read`: the JSON, the exit status, the heat maps."""

from __future__ import annotations

import json
import subprocess
import sys
import threading
import zipfile
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from made_cards import made_card
from made_images import dicom, encoded, stored_mammogram, ultrasound
from PIL import Image as Raster

from core.__main__ import main
from core.commands import read
from core.imaging import intake
from core.imaging.intake import Intake
from core.settings import REPOSITORY
from core.types import Image, Modality

ROOT = REPOSITORY


def run(*arguments: str | Path) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "core", "read", *map(str, arguments)],
        cwd=ROOT,
        capture_output=True,
        text=True,
        timeout=180,
        check=False,
    )


@pytest.fixture(scope="module")
def ultrasound_read(test_data: Path, tmp_path_factory: pytest.TempPathFactory) -> tuple[dict, Path, Path]:
    folder = tmp_path_factory.mktemp("heat")
    path = test_data / "data" / "ultrasound" / "busi" / "malignant" / "malignant_1.png"
    if not path.exists():
        path = sorted((test_data / "data" / "ultrasound" / "busi" / "malignant").glob("*.png"))[0]
    done = run(path, "--modality", "ultrasound", "--out", folder)
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout), path, folder


def test_an_ultrasound_image_has_outlines_with_measured_words(ultrasound_read: tuple[dict, Path, Path]) -> None:
    image = ultrasound_read[0]["images"][0]
    assert image["outlines"] and image["outlines_note"] is None
    first = image["outlines"][0]
    row0, row1, column0, column1 = first["box"]
    mask = np.asarray(Raster.open(first["file"])) > 127
    assert mask[row0:row1, column0:column1].sum() == mask.sum() > 0
    assert first["share_of_picture"] == pytest.approx(mask.mean(), abs=1e-5)
    by_name = {one["name"]: one for one in first["descriptors"]}
    assert by_name["size"]["word"] is None and "millimetres" in by_name["size"]["refused"]
    assert by_name["shape"]["word"] in first["sentence"].lower()
    assert {name for name, one in by_name.items() if one["measured_only"]} == {"echogenic rim", "calcifications"}


def test_every_live_model_of_the_modality_answers(ultrasound_read: tuple[dict, Path, Path]) -> None:
    answer, path, _ = ultrasound_read
    (image,) = answer["images"]
    assert image["file"] == str(path) and len(image["sha256"]) == 64 and image["refused"] is None
    assert (image["modality"], image["modality_source"]) == ("ultrasound", "argument")
    models = {prediction["model_id"]: prediction for prediction in image["predictions"]}
    assert "ultrasound-efficientnet_lite0" in models
    for prediction in models.values():
        assert prediction["classes"] == ["benign", "malignant", "normal"]
        assert sum(prediction["probabilities"]) == pytest.approx(1)
        assert prediction["malignant"] == prediction["probabilities"][1]
        assert 0 < prediction["threshold"] < 1 and prediction["seconds"] > 0
        assert prediction["leaks"] == []  # nothing that leaks is shipped
        assert prediction["remarks"] or not prediction["weak"]  # a threshold that misses its promise is a remark, too
    assert (image["lead"], image["lead_note"]) == ("ultrasound-ensemble-two-collections", None)
    assert models["ultrasound-ensemble"]["weak"] is False and models["ultrasound-cnn"]["weak"] is False


def test_a_weak_model_is_said_to_be_weak_beside_its_answer(test_data: Path) -> None:
    path = min((test_data / "data" / "mammography" / "rsna").rglob("*.webp"))
    done = run(path, "--modality", "mammography")
    assert done.returncode == 0, done.stderr
    (image,) = json.loads(done.stdout)["images"]
    (prediction,) = image["predictions"]
    assert prediction["model_id"] == "mammography-ensemble-rsna" and prediction["weak"] is True
    assert any(remark.startswith("Weak: AUC") for remark in prediction["remarks"])


def test_heat_maps_have_the_size_of_the_image(ultrasound_read: tuple[dict, Path, Path]) -> None:
    answer, path, folder = ultrasound_read
    (image,) = answer["images"]
    names = {Path(file).name for file in image["heatmaps"]}
    model = "ultrasound-efficientnet_lite0"
    assert {f"{image['sha256'][:8]}-{model}-{branch}.png" for branch in ("efficientnet_lite0", "fused")} <= names
    for name in names:
        heat = np.asarray(Raster.open(folder / name))
        assert heat.shape == Raster.open(path).size[::-1] and heat.dtype == np.uint8


def test_a_zip_and_a_bad_file_are_one_study(test_data: Path, tmp_path: Path) -> None:
    archive = tmp_path / "study.zip"
    dicom = test_data / "data" / "dicom" / "us_breast" / "uta11_13a7a53c_IM0.dcm"
    with zipfile.ZipFile(archive, "w") as file:
        file.write(dicom, "folder/one.dcm")
    broken = tmp_path / "broken.png"
    broken.write_bytes(b"\x89PNG\r\n\x1a\n" + b"x" * 40)
    done = run(archive, broken, "--model", "ultrasound-efficientnet_lite0")
    assert done.returncode == 0, done.stderr
    by_file = {image["file"]: image for image in json.loads(done.stdout)["images"]}
    good, bad = by_file[f"{archive}/folder/one.dcm"], by_file[str(broken)]
    assert good["lead"] == "ultrasound-efficientnet_lite0" and bad["lead"] is None
    assert good["modality_source"] == "tags" and [p["model_id"] for p in good["predictions"]] == [
        "ultrasound-efficientnet_lite0"
    ]
    assert bad["refused"].endswith(".") and bad["predictions"] == [] and "Traceback" not in done.stderr


def test_a_picture_that_no_model_reads_says_why_and_needs_no_tensorflow(tmp_path: Path) -> None:
    path = tmp_path / "a.dcm"
    path.write_bytes(dicom(stored_mammogram(), QualityControlImage="YES", WindowCenter=2048, WindowWidth=4096))
    done = run(path)
    assert done.returncode == 0, done.stderr
    (image,) = json.loads(done.stdout)["images"]
    assert "phantom" in image["not_scored"] and image["not_scored"] in image["warnings"]
    assert image["predictions"] == [] and image["counts_for_breast"] is False and image["view_modifiers"] == []


def test_all_refused_is_2_and_no_tensorflow_is_needed_for_it(tmp_path: Path) -> None:
    text = tmp_path / "note.dcm"
    text.write_text("not a picture at all\n" * 20)
    done = run(text)
    assert done.returncode == 2
    assert json.loads(done.stdout)["images"][0]["refused"]
    assert "Traceback" not in done.stderr


@pytest.mark.parametrize(
    "arguments", [["--no-such-option"], ["nowhere.dcm"], [".", "--model", "nobody"], [".", "--modality", "mri"]]
)
def test_a_usage_error_or_an_unknown_model_is_1(arguments: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["read", *arguments]) == 1
    written = capsys.readouterr()
    assert written.out == "" and written.err.strip() and "Traceback" not in written.err


def test_an_unknown_setting_is_named(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    monkeypatch.setenv("SECONDREAD_UPLOAD_MB", "4")
    assert main(["read", "."]) == 1 and "SECONDREAD_UPLOAD_MB is not a setting" in capsys.readouterr().err


def test_the_first_image_is_read_while_the_next_is_still_being_decoded(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    paths = [tmp_path / f"{number}.png" for number in range(2)]
    for number, path in enumerate(paths):
        path.write_bytes(encoded(ultrasound(seed=number)))
    is_read = threading.Event()
    decode = intake.decode

    def second_waits(source: Path, *arguments: Any, **options: Any) -> Any:
        assert source == paths[0] or is_read.wait(60), "nothing was read before everything was decoded"
        return decode(source, *arguments, **options)

    def read_image(card: object, image: Image, **options: object) -> tuple[str, str]:
        is_read.set()
        return image.sha256[:8], "where"

    monkeypatch.setattr(intake, "decode", second_waits)
    monkeypatch.setattr(read, "read_image", read_image)
    cards = [made_card(tmp_path, model_id=name) for name in ("first", "second")]
    with read._Asking(cards) as asking:
        found = intake.read_study(
            paths, settings=read.Settings(state_dir=tmp_path), modality=Modality.ULTRASOUND, decoded=asking.decoded
        )
        answers = [asking.answers(number, one.image) for number, one in enumerate(found)]
    assert [[(card, said) for card, said, _ in of_image] for of_image in answers] == [
        [(card, one.sha256[:8]) for card in cards] for one in found
    ]


def test_a_picture_whose_bits_are_a_guess_is_read_once_the_study_has_settled_them(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked: list[float] = []

    def read_image(card: object, image: Image, **options: object) -> tuple[str, str]:
        asked.append(float(image.pixels.max()))
        return "said", "where"

    monkeypatch.setattr(read, "read_image", read_image)
    guessed = Image(np.ones((4, 4), np.float32), "5e" * 32, Modality.ULTRASOUND, guessed_bits=12)
    settled = replace(guessed, pixels=guessed.pixels / 4)
    with read._Asking([made_card(tmp_path)]) as asking:
        asking.decoded(0, Intake("a", "5e" * 32, guessed, None))
        assert len(asking.answers(0, settled)) == 1 and asking.answers(1, None) == []
    assert asked == [0.25]
