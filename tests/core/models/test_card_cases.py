"""The table of a model's cases: what it says of pictures, what it keeps to itself, and making it afterwards."""

from __future__ import annotations

import hashlib
import io
import json
import shutil
from dataclasses import replace
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from made_cards import made_card
from PIL import Image as Raster
from PIL.PngImagePlugin import PngInfo

from core.errors import ModelUnavailable
from core.imaging.intake import read_upload
from core.imaging.near_duplicates import long_hash
from core.models.card_cases import COLUMNS, NEAR_DUPLICATE_BITS, cases_name, measured_cases, read_cases
from core.models.cards import Card, read_card, read_test_scores, shipped_cards
from core.settings import REPOSITORY, Settings
from core.types import Image, Modality
from train.__main__ import main
from train.datasets.manifest import write_manifest
from train.publishing.publish import cases_table, pixels_sha256, trace_of, union

SHIPPED = shipped_cards(REPOSITORY / "weights")


@pytest.fixture(scope="module")
def dataset(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("dataset")
    rng = np.random.default_rng(0)
    rows = []
    for number in range(30):
        label = ("benign", "malignant")[number % 2]
        coarse = Raster.fromarray(rng.integers(0, 200, (6, 8), np.uint8)).resize((64, 48), Raster.Resampling.BICUBIC)
        pixels = np.asarray(coarse).copy()
        pixels[10:20, 10:20] = 250 if label == "malignant" else 5
        Raster.fromarray(pixels).save(folder / f"Mustermann_{number}.png")
        rows.append(
            {"file": f"Mustermann_{number}.png", "label": label, "patient": f"Erika{number}", "manufacturer": "Acme"}
        )
    write_manifest(pd.DataFrame(rows), folder / "manifest.csv")
    return folder


@pytest.fixture(scope="module")
def weights(dataset: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """One small network."""
    out = tmp_path_factory.mktemp("weights")
    words = ["fit", "cnn2", "--modality", "ultrasound", "--data", str(dataset / "manifest.csv"), "--out", str(out)]
    assert main([*words, "--name", "one", "--init", "random", "--epochs", "1", "--side", "32"]) == 0
    return out


def listed(card: Card) -> pd.DataFrame:
    cases = read_cases(card)
    assert cases is not None
    return cases


def file_of(folder: Path, name: str) -> Path:
    (path,) = (folder / name).glob("*.cases.csv")
    return path


@pytest.mark.parametrize(
    "columns", [COLUMNS, COLUMNS[:-1], (*COLUMNS, "more"), ("a", *COLUMNS[1:]), ("z", *COLUMNS[1:])]
)
def test_a_list_with_other_columns_is_not_read(columns: tuple[str, ...], tmp_path: Path) -> None:
    content, sha256 = (",".join(columns) + "\n").encode(), "12345678" + "0" * 56
    card = made_card(tmp_path, weights={"sha256": sha256}, cases={"sha256": hashlib.sha256(content).hexdigest()})
    (tmp_path / cases_name(sha256)).write_bytes(content)
    if columns == COLUMNS:
        assert len(listed(card)) == 0
    else:
        with pytest.raises(ModelUnavailable, match="other columns than this version reads"):
            read_cases(card)


def without_tables(weights: Path, folder: Path) -> Path:
    """A copy of models as they were made before they listed their cases."""
    shutil.copytree(weights, folder)
    for model in (path.parent for path in folder.glob("*/card.json")):
        file_of(folder, model.name).unlink()
        card = json.loads((model / "card.json").read_text())
        del card["cases"]
        (model / "card.json").write_text(json.dumps(card, indent=1) + "\n")
    return folder


def test_a_fitted_model_lists_its_cases_and_nothing_of_a_patient(weights: Path, dataset: Path) -> None:
    card = read_card(weights / "one")
    cases, scores = listed(card), read_test_scores(card)
    assert scores is not None and cases["split"].value_counts().to_dict() == {
        name: sum(labels.values()) for name, labels in card.data.splits.items()
    }
    files = {hashlib.sha256(path.read_bytes()).hexdigest(): path.name for path in dataset.glob("*.png")}
    assert {files[sha256] for sha256 in measured_cases(cases)["sha256"]} == set(scores["case"])
    assert set(cases["width"]) == {64} and set(cases["height"]) == {48} and set(cases["vendor"]) == {"Acme"}
    said = file_of(weights, "one").read_text()
    assert not [word for word in ("Muster", "Erika", "benign", "malignant") if word in said]


def test_members_that_differ_are_listed_as_the_one_that_knows_most_of_the_case() -> None:
    one = pd.DataFrame({"split": ["train", "test"], "sha256": ["a", "b"]}).reindex(columns=COLUMNS, fill_value="")
    other = one.assign(split=["test", "validation"])
    assert union([other, one])["split"].tolist() == ["validation", "train"]
    copies = pd.concat([one, one])
    assert len(union([copies, copies])) == 4  # a data set's own copies are cases, too


def test_the_same_table_is_made_afterwards_from_the_data(weights: Path, dataset: Path, tmp_path: Path) -> None:
    again = without_tables(weights, tmp_path / "weights")
    assert read_cases(read_card(again / "one")) is None
    words = ["cases", "one", "--data", str(dataset), "--weights", str(again)]
    assert main(words) == 0
    assert file_of(again, "one").read_bytes() == file_of(weights, "one").read_bytes()
    assert (again / "one" / "card.json").read_bytes() == (weights / "one" / "card.json").read_bytes()
    before = file_of(again, "one").stat().st_mtime_ns
    assert main(words) == 0
    assert file_of(again, "one").stat().st_mtime_ns == before  # there already


def test_cases_that_are_not_the_models_are_refused(
    weights: Path, dataset: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], caplog: pytest.LogCaptureFixture
) -> None:
    folder = tmp_path / "weights"
    shutil.copytree(weights / "one", folder / "one")
    file_of(folder, "one").unlink()
    scores = next((folder / "one").glob("*.test_scores.csv"))
    table = pd.read_csv(scores)
    table.drop(index=0).to_csv(scores, index=False)  # that case would count as a training case
    words = ["cases", "--weights", str(folder)]
    assert main([*words, "--data", str(dataset)]) == 1
    assert "divided otherwise" in caplog.text and not list((folder / "one").glob("*.cases.csv"))
    assert main([*words, "--data", str(tmp_path)]) == 1
    assert "were not found" in caplog.text
    assert main([*words, "--data", str(tmp_path / "absent")]) == 1
    assert "--data names no folder" in capsys.readouterr().err


def test_a_changed_or_missing_table_is_refused(weights: Path, tmp_path: Path) -> None:
    shutil.copytree(weights / "one", tmp_path / "one")
    path = file_of(tmp_path, "one")
    path.write_text(path.read_text().replace("train", "test", 1))
    with pytest.raises(ModelUnavailable, match="not the one its card names"):
        read_cases(read_card(tmp_path / "one"))
    path.unlink()
    with pytest.raises(ModelUnavailable, match="is missing"):
        read_cases(read_card(tmp_path / "one"))


def test_what_a_picture_shows_has_one_hash_whatever_holds_it(dataset: Path, tmp_path: Path) -> None:
    from train.fitting.squares import read_case

    original = dataset / "Mustermann_0.png"
    pixels = np.asarray(Raster.open(original))
    text = PngInfo()
    text.add_text("Comment", "copied by a converter")
    Raster.fromarray(pixels).save(tmp_path / "text.png", pnginfo=text)
    Raster.fromarray(pixels.astype(np.uint16) * 257).save(tmp_path / "deep.png")
    read = [read_case(path, Modality.ULTRASOUND) for path in (original, tmp_path / "text.png", tmp_path / "deep.png")]
    assert len({image.sha256 for image in read}) == 3 and len({pixels_sha256(image.pixels) for image in read}) == 1
    changed = read[0].pixels.copy()
    changed[0, 0] += 1 / 255
    assert pixels_sha256(changed) != pixels_sha256(read[0].pixels)
    assert trace_of(replace(read[0], pixels=np.full((48, 64), 0.5, np.float32)))["perceptual_hash"] == ""


def distance(one: str, other: str) -> int:
    return (int(one, 16) ^ int(other, 16)).bit_count()


@pytest.mark.parametrize(
    ("folder", "owner"), [("mammography/mias", "patient"), ("ultrasound/busi/malignant", "group")], ids=["mias", "busi"]
)
def test_perceptual_hashes_tell_copies_from_other_patients_pictures(test_data: Path, folder: str, owner: str) -> None:
    hashes, copies = [], []
    manifest = pd.read_csv(test_data / "data" / folder.partition("/")[0] / "manifest.csv", keep_default_na=False)
    files = list(manifest[manifest["file"].str.startswith(f"{folder}/")].drop_duplicates(owner)["file"])
    for file in files[:: max(1, len(files) // 20)]:
        picture = Raster.open(test_data / "data" / file).convert("L")
        out = io.BytesIO()
        picture.resize((int(picture.width * 1.4), int(picture.height * 1.4))).save(out, "JPEG", quality=75)
        for retained, one in ((hashes, picture), (copies, Raster.open(out))):
            retained.append(long_hash(np.asarray(one, np.float32) / 255))
    assert len(hashes) > 10 and all(len(one) == 256 // 4 for one in hashes)
    assert max(distance(*pair) for pair in zip(hashes, copies, strict=True)) <= NEAR_DUPLICATE_BITS // 4
    others = [distance(a, b) for place, a in enumerate(hashes) for b in hashes[place + 1 :]]
    assert min(others) > NEAR_DUPLICATE_BITS


@pytest.mark.real_data("whether the hashes in shipped cards are those of the images that the models were made of")
@pytest.mark.parametrize("card", SHIPPED, ids=lambda card: card.model_id)
def test_every_shipped_model_lists_the_cases_its_numbers_come_from(card: Card, test_data: Path) -> None:
    cases, scores = listed(card), read_test_scores(card)
    assert scores is not None and len(measured_cases(cases)) == len(scores)
    assert len(cases) == card.data.n
    read = [hashlib.sha256((test_data / "data" / case).read_bytes()).hexdigest() for case in scores["case"][:20]]
    assert set(read) <= set(measured_cases(cases)["sha256"])


@pytest.mark.real_data("what a shipped card lists of an image that its model was measured on")
def test_what_is_listed_of_a_picture_is_what_an_upload_of_it_shows(test_data: Path) -> None:
    card = next(card for card in SHIPPED if card.model_id == "ultrasound-cnn")
    scores = read_test_scores(card)
    assert scores is not None
    content = (test_data / "data" / scores["case"][0]).read_bytes()
    (intake,) = read_upload(content, "x.png", settings=Settings(), modality=card.modality)
    image = intake.image
    assert isinstance(image, Image)
    row = listed(card).set_index("sha256").loc[image.sha256]
    assert (row["width"], row["height"]) == (image.width, image.height)
    assert row["brightness"] == pytest.approx(float(image.pixels.mean()), abs=1e-6)
    assert row["pixels_sha256"] == pixels_sha256(image.pixels)


def test_a_table_needs_one_trace_a_case() -> None:
    with pytest.raises(ValueError, match="does not match"):
        cases_table(pd.DataFrame({"split": ["train", "test"]}), [{"sha256": "a"}])
