"""`python -m train all`: the whole table, one model after the other, going on where it stopped."""

from __future__ import annotations

import argparse
import json
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from PIL import Image as Raster

from core.models.registry import ARCHITECTURES
from core.types import Modality
from train.__main__ import main
from train.commands import all as all_command
from train.recipe import programme
from train.recipe.programme import PROGRAMME, Entry, arguments_of, external_arguments, request_of
from train.recipe.request import FitRequest

SMALL = {"side": 32, "epochs": 1, "init": "random"}
BUSI = "source=BUSI"  # said by the entry, so that it is measured on no other collection
QUICK = Entry(Modality.ULTRASOUND, "cnn", "Small enough for a test.", ships_weights=True, options=SMALL, where=BUSI)
OTHER = Entry(Modality.ULTRASOUND, "cnn", "Another seed.", options={**SMALL, "seed": 1}, suffix="-other")


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with the manifests of the programme; the ultrasound one has pictures."""
    folder = tmp_path_factory.mktemp("data")
    rng = np.random.default_rng(3)
    rows = []
    for number in range(40):
        pixels = Raster.fromarray((rng.random((9, 9)) * 255).astype(np.uint8)).resize((40, 40))
        pixels.save(folder / f"{number}.png")
        rows.append({"file": f"{number}.png", "label": ("benign", "malignant")[number % 2], "patient": str(number)})
    for name in ("ultrasound", "mammography", "mammography/rsna", "histopathology", "histopathology/breakhis_100x"):
        (folder / name).mkdir()
        pd.DataFrame(rows).assign(source="BUSI").to_csv(folder / name / "manifest.csv", index=False)
    return folder


def arguments(data: Path, out: Path, **options: object) -> argparse.Namespace:
    return argparse.Namespace(
        **{"data": data, "out": out, "backbone": None, "budget_minutes": None, "only": [], "list": False} | options
    )


def asked(entry: Entry, data: Path, out: Path, **more: object) -> FitRequest:
    return replace(request_of(entry, data, out), **more)


def test_an_entry_of_another_manifest_takes_all_its_rows(data: Path, tmp_path: Path) -> None:
    entry = next(entry for entry in PROGRAMME if entry.manifest)
    request = request_of(entry, data, tmp_path)
    assert request.data == data / "mammography" / "rsna" / "manifest.csv" and request.where == ()
    assert request.config.balance_by == "machine" and request.folds == 5


def test_every_architecture_is_trained_on_ultrasound_and_every_entry_can_be_asked_for(data: Path) -> None:
    trained = {entry.architecture for entry in PROGRAMME if entry.modality is Modality.ULTRASOUND}
    assert trained >= {entry.id for entry in ARCHITECTURES if entry.reads(Modality.ULTRASOUND)}
    assert len({entry.model_id for entry in PROGRAMME}) == len(PROGRAMME)
    for entry in PROGRAMME:
        if entry.members:
            continue
        request = asked(entry, data, data / "weights")
        assert request.no_weights is not entry.ships_weights and request.why
        busi = entry.modality is Modality.ULTRASOUND and not entry.suffix
        assert request.folds == ((4 if entry.ships_weights else 0) if busi else 5)
    for modality in Modality:
        shipped = {entry.architecture for entry in PROGRAMME if entry.modality is modality and entry.ships_weights}
        assert shipped >= {"fusion", "efficientnet_lite0"}


def test_the_cnn_is_trained_before_the_network_that_begins_with_it() -> None:
    order = [entry.model_id for entry in PROGRAMME]
    begins = {entry.model_id: entry.options["cnn"] for entry in PROGRAMME if "cnn" in entry.options}
    assert begins == {"ultrasound-cnn_resnet50": "mammography-cnn"}
    for model_id, cnn in begins.items():
        assert order.index(cnn) < order.index(model_id)


def test_an_ensemble_comes_after_its_members_whose_weights_are_shipped() -> None:
    order = {entry.model_id: number for number, entry in enumerate(PROGRAMME)}
    shipped = {entry.model_id for entry in PROGRAMME if entry.ships_weights}
    ensembles = [entry for entry in PROGRAMME if entry.members]
    assert {entry.modality for entry in ensembles} == set(Modality)
    for entry in ensembles:
        for member in entry.members:
            model_id = f"{entry.modality.value}-{member}"
            assert model_id in shipped and order[model_id] < order[entry.model_id]


def test_models_of_tiles_are_measured_on_another_collection(data: Path) -> None:
    entry = next(entry for entry in PROGRAMME if entry.model_id == "histology-fusion")
    external = external_arguments(entry, data, data / "weights")
    assert external is not None and external[:2] == ["evaluate", "histology-fusion"] and "source=BreakHis" in external
    assert external[external.index("--also") + 1] == str(data / "histopathology/breakhis_100x/manifest.csv")
    breakhis = next(entry for entry in PROGRAMME if entry.model_id == "histology-efficientnet_lite0-breakhis")
    other = external_arguments(breakhis, data, data / "weights")
    assert other is not None and "source=IDC (Cruz-Roa/Janowczyk)" in other and "--also" not in other
    assert other[other.index("--data") + 1] == str(data / "histopathology" / "manifest.csv")


def test_a_model_of_one_hospital_is_measured_on_another_and_a_model_of_both_on_neither(data: Path) -> None:
    of_one, of_both, unshipped = (
        next(entry for entry in PROGRAMME if entry.model_id == f"ultrasound-{name}")
        for name in ("fusion", "efficientnet_lite0-two-collections", "cnn4")
    )
    external = external_arguments(of_one, data, data / "weights")
    assert external is not None and external[external.index("--where") + 1] == "source=BUS-BRA"
    assert external[external.index("--data") + 1] == str(data / "ultrasound/bus_bra/manifest.csv")
    assert "--also" not in external
    assert external_arguments(of_both, data, data / "weights") is None
    assert external_arguments(unshipped, data, data / "weights") is None
    of_screening = next(entry for entry in PROGRAMME if entry.model_id == "mammography-exam-rsna")
    assert external_arguments(of_screening, data, data / "weights") is None


def test_what_is_there_is_not_trained_again_and_a_failure_does_not_stop_the_rest(data: Path, tmp_path: Path) -> None:
    made = []

    def command(words: Sequence[str]) -> int:
        made.append(words[words.index("--name") + 1])
        return main(words) if "-other" not in made[-1] else 7

    args = arguments(data, tmp_path)
    assert all_command.train_all([OTHER, QUICK], args, command) == ["ultrasound-cnn-other"]
    assert made == ["ultrasound-cnn-other", "ultrasound-cnn"]
    assert all_command.train_all([OTHER, QUICK], args, command) == ["ultrasound-cnn-other"]
    assert made[2:] == ["ultrasound-cnn-other"]
    card = json.loads((tmp_path / "ultrasound-cnn" / "card.json").read_text())
    assert card["training"]["why"] == QUICK.why
    assert card["training"]["command"].startswith(
        "python -m train fit cnn --modality ultrasound --data DATA/ultrasound/"
    )


def test_a_backbone_is_distilled_before_the_first_fusion_and_only_once_and_no_fusion_is_tested_on_its_pictures(
    data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("SECONDREAD_STATE_DIR", str(tmp_path / "state"))
    fusions = [entry for entry in PROGRAMME if entry.architecture == "fusion"]
    seen: dict[str, set[str]] = {}
    fitted = []

    def command(words: Sequence[str]) -> int:
        if words[0] == "distil":
            out = Path(words[words.index("--out") + 1])
            assert str(out) not in seen, "distilled once"
            out.parent.mkdir(parents=True, exist_ok=True)
            out.touch()
            seen[str(out)] = {word for word in words if word.endswith("manifest.csv")}
            assert seen[str(out)]
        elif words[0] == "fit":
            fitted.append(words[words.index("--name") + 1])
            learnt_from = {word for word in words if word.endswith("manifest.csv")}
            if "--backbone" not in words:
                assert fitted[-1] == QUICK.model_id
            else:
                assert not seen[words[words.index("--backbone") + 1]] & learnt_from
        return 0

    assert all_command.train_all([QUICK, *fusions], arguments(data, tmp_path), command) == []
    assert fitted == [QUICK.model_id, *(entry.model_id for entry in fusions)] and len(fusions) == 4
    assert len(seen) == 2, "RSNA's mammograms for most, other pictures for the fusion of RSNA"


def test_one_backbone_for_all_fusions_is_refused(
    data: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    words = ["all", "--data", str(data), "--out", str(tmp_path), "--backbone", str(tmp_path / "one"), "--list"]
    assert main(words) == 1 and "two backbones" in capsys.readouterr().err
    only = ["--only", "mammography-fusion-rsna", "--only", "mammography-efficientnet_lite0-rsna"]
    assert main([*words, *only]) == 0
    args = arguments(data, tmp_path, backbone=tmp_path / "one")
    fusion, other = (
        next(entry for entry in PROGRAMME if entry.model_id == f"mammography-{name}-rsna")
        for name in ("fusion", "efficientnet_lite0")
    )
    made: list[str] = []

    def command(words: Sequence[str]) -> int:
        made.append(words[0])
        return 0

    all_command.train_all([other, fusion], args, command)
    assert made == ["fit", "distil", "fit"], "what is no fusion needs no backbone"


def test_another_configuration_other_cases_or_missing_weights_are_trained_anew(data: Path, tmp_path: Path) -> None:
    assert main(arguments_of(QUICK, data, tmp_path)) == 0
    assert all_command.is_done(asked(QUICK, data, tmp_path))
    assert all_command.is_done(asked(QUICK, data, tmp_path, no_weights=True))
    assert not all_command.is_done(asked(QUICK, data, tmp_path, epochs=2))
    assert not all_command.is_done(asked(QUICK, data, tmp_path, seed=1))
    assert not all_command.is_done(asked(QUICK, data, tmp_path, folds=5))
    assert not all_command.is_done(asked(QUICK, data, tmp_path, where=("source=BUSI", "patient=1")))
    assert not all_command.is_done(asked(QUICK, data, tmp_path / "elsewhere"))
    next((tmp_path / "ultrasound-cnn").glob("*-00001.safetensors")).unlink()
    assert not all_command.is_done(asked(QUICK, data, tmp_path))


def test_a_run_that_a_budget_ended_counts_until_the_budget_grows(data: Path, tmp_path: Path) -> None:
    longer = {"epochs": 5, "budget_minutes": 0.0001}
    assert main(asked(QUICK, data, tmp_path, **longer).to_arguments()) == 0
    assert all_command.is_done(asked(QUICK, data, tmp_path, **longer))
    assert not all_command.is_done(asked(QUICK, data, tmp_path, epochs=5, budget_minutes=1.0))
    assert not all_command.is_done(asked(QUICK, data, tmp_path, epochs=5))


def test_the_command_says_by_its_status_whether_all_are_there(
    data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(all_command, "PROGRAMME", (QUICK,))
    monkeypatch.setattr(all_command, "run_command", lambda words: 1)
    words = ["all", "--data", str(data), "--out", str(tmp_path)]
    assert main(words) == 1
    monkeypatch.setattr(all_command, "run_command", lambda words: 0)
    assert main(words) == 0
    assert main([*words, "--list"]) == 0 and "to do  ultrasound-cnn" in capsys.readouterr().out
    assert main([*words, "--only", "nothing"]) == 1
    assert main(["all", "--data", str(tmp_path), "--out", str(tmp_path)]) == 1
    assert "manifest.csv" in capsys.readouterr().err


def test_the_ablation_is_of_the_skips_alone() -> None:
    ablation = [entry for entry in PROGRAMME if entry.architecture in ("plain25", "residual25")]
    ultrasound = [entry for entry in ablation if entry.modality is Modality.ULTRASOUND]
    assert len(ultrasound) == 2 and ultrasound[0].options == ultrasound[1].options
    lessons = [entry for entry in PROGRAMME if entry.suffix in (programme.BY_IMAGE, programme.BY_GROUP)]
    assert lessons[0].options == {**lessons[1].options, "split_by": "file", "allow_leaks": True}
