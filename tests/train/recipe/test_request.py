"""A training's request: one type for the form, the command line and the row, with one set of refusals."""

from __future__ import annotations

import argparse
import shlex
from collections.abc import Sequence
from dataclasses import FrozenInstanceError, fields, replace
from pathlib import Path

import pytest

from core.commands import parsed
from core.errors import InvalidInput
from core.types import Modality
from train.__main__ import COMMANDS
from train.recipe.request import FitRequest, with_seeds

REQUEST = FitRequest("cnn", Modality.ULTRASOUND, init="random", epochs=3, side=64)
EVERYTHING = FitRequest(
    "fusion",
    Modality.HISTOLOGY,
    epochs=3,
    side=64,
    seed=2,
    name="mine",
    positive="idc",
    why="To see whether it's read back.",
    unfreeze="2",
    settings=("mixup=0.2", "optimizer=sgd"),
    where=("source=A b", "view=CC"),
    split_like="histology-cnn4",
    backbone=Path("b.safetensors"),
    also=(Path("further.csv"), Path("more.csv")),
    allow_leaks=True,
    no_weights=True,
    budget_minutes=2.5,
    limits=("It is small.", "It is old."),
    data=Path("d/m.csv"),
    root=Path("d"),
    out=Path("w"),
    work=Path("k"),
)


def read(words: Sequence[str]) -> FitRequest:
    """As the commands read their arguments."""
    return FitRequest.from_arguments(vars(parsed(argparse.ArgumentParser(), "train.commands", COMMANDS, words)))


@pytest.mark.parametrize(
    "wrong",
    [
        {"architecture": "vit"},
        {"architecture": "exam"},  # of the views of a mammogram
        {"side": 8},
        {"epochs": 0},
        {"folds": 2},
        {"name": "../x"},
        {"init": "magic"},
        {"trials": -1},
        {"trials": 3, "folds": 5},
        {"trials": 3, "refits": 0},
        {"unfreeze": "1"},
        {"unfreeze": "many"},
        {"settings": ("mixup=99",)},
    ],
)
def test_a_request_that_cannot_run_is_refused_with_a_sentence(wrong: dict[str, object]) -> None:
    with pytest.raises(InvalidInput):
        FitRequest(**({"architecture": "cnn", "modality": Modality.ULTRASOUND} | wrong))  # type: ignore[arg-type]


def test_the_page_shows_the_command_that_does_the_same() -> None:
    assert replace(REQUEST, data=Path("M.csv"), root=Path("DATA")).to_command() == (
        "python -m train fit cnn --modality ultrasound --data M.csv --root DATA --init random --seed 0 "
        "--epochs 3 --side 64"
    )


def test_the_regime_and_other_settings_reach_the_command_and_come_back_from_the_row() -> None:
    asked = FitRequest("vgg16_gap", Modality.ULTRASOUND, unfreeze="2", settings=("mixup=0.2", "optimizer=sgd"))
    command = asked.to_command()
    assert "--unfreeze 2" in command and "--set mixup=0.2 --set optimizer=sgd" in command
    assert FitRequest.from_json(asked.to_json()) == asked
    assert (asked.config.frozen, asked.config.unfreeze, asked.config.mixup) == ("blocks", 2, 0.2)
    old = {name: value for name, value in asked.to_json().items() if name not in ("unfreeze", "settings")}
    assert FitRequest.from_json(old) == FitRequest("vgg16_gap", Modality.ULTRASOUND)


@pytest.mark.parametrize(
    "asked",
    [
        REQUEST,
        EVERYTHING,
        replace(EVERYTHING, split_like="", folds=5),
        replace(EVERYTHING, trials=4, refits=2),
        FitRequest("cnn_resnet50", Modality.ULTRASOUND, cnn="ultrasound-cnn", split_by="group"),
        replace(REQUEST, workers=2),
    ],
)
def test_what_the_command_line_prints_it_reads_back(asked: FitRequest) -> None:
    assert read(asked.to_arguments()) == asked
    assert read(shlex.split(asked.to_command())[3:]) == asked


def test_every_field_can_be_said_on_the_command_line() -> None:
    said = {**vars(EVERYTHING), "folds": 5, "split_by": "group", "cnn": "x", "init": "random", "trials": 1, "refits": 1}
    said |= {"workers": 2}
    assert not [field.name for field in fields(FitRequest) if said[field.name] == field.default]
    words = replace(EVERYTHING, split_like="", split_by="group", folds=3).to_arguments()
    assert {"--split-by", "--folds", "--backbone", "--limit", "--work"} <= set(words)


def test_the_card_keeps_the_request_without_folders_of_this_machine_and_it_can_be_read_back(tmp_path: Path) -> None:
    asked = replace(
        EVERYTHING, data=tmp_path / "d" / "us" / "m.csv", root=tmp_path / "d", backbone=tmp_path / "b.safetensors"
    )
    on_card = asked.portable().to_command()
    assert str(tmp_path) not in on_card and "--out" not in on_card and "--work" not in on_card
    back = read(shlex.split(on_card)[3:])
    assert back == asked.portable() and back.config == asked.config
    assert (back.data, back.root, back.backbone) == (Path("DATA/us/m.csv"), Path("DATA"), Path("b.safetensors"))
    assert replace(asked, root=None).portable().data == Path("DATA/m.csv")


def test_a_row_keeps_what_was_asked_but_not_where_it_lies() -> None:
    row = EVERYTHING.to_json()
    assert not {"data", "also", "root", "out", "work"} & set(row)
    places = ("data", "also", "root", "out", "work")
    nowhere = {field.name: field.default for field in fields(FitRequest) if field.name in places}
    assert FitRequest.from_json(row) == replace(EVERYTHING, **nowhere)


def test_a_row_of_version_0_1_0_is_read_and_a_row_of_the_form_looks_the_same_still() -> None:
    row = {
        "architecture": "vgg16_gap", "modality": "mammography", "init": "offline", "epochs": None, "side": 96,
        "seed": 3, "folds": 0, "name": "", "positive": "", "why": "A try.", "unfreeze": "0",
        "settings": ["mixup=0.2"], "trials": 12, "refits": 3,
    }  # fmt: skip
    asked = FitRequest.from_json(row)
    assert asked == FitRequest(
        "vgg16_gap", Modality.MAMMOGRAPHY, side=96, seed=3, why="A try.", unfreeze="0", settings=("mixup=0.2",),
        trials=12,
    )  # fmt: skip
    assert asked.to_json() == row


def test_a_row_keeps_several_workers_and_one_of_one_worker_looks_the_same_still() -> None:
    asked = replace(REQUEST, workers=3)
    assert FitRequest.from_json(asked.to_json()) == asked and "--workers 3" in asked.to_command()
    assert "workers" not in REQUEST.to_json() and "--workers" not in REQUEST.to_command()


def test_a_row_that_was_damaged_is_refused_with_a_sentence() -> None:
    for wrong in ({"epochs": "many"}, {"modality": "x-ray"}, {"settings": 3}):
        with pytest.raises(InvalidInput, match=f"cannot be read: {next(iter(wrong))}"):
            FitRequest.from_json({**REQUEST.to_json(), **wrong})


def test_a_request_never_changes() -> None:
    with pytest.raises(FrozenInstanceError):
        REQUEST.seed = 1  # type: ignore[misc]


@pytest.mark.parametrize(
    ("field", "right", "wrong"),
    [
        ("epochs", 1, 0),
        ("side", 32, 31),
        ("folds", 3, 2),
        ("folds", 100, 101),
        ("seed", 0, -1),
        ("trials", 200, 201),
        ("refits", 10, 11),
        ("why", "x" * 500, "x" * 501),
        ("name", "x" * 100, "x" * 101),
        ("budget_minutes", 0.001, 0.0),
        ("workers", REQUEST.config.batch, REQUEST.config.batch + 1),
        ("workers", 1, 0),
    ],
)
def test_numbers_are_refused_just_beyond_their_bounds(field: str, right: object, wrong: object) -> None:
    assert getattr(replace(REQUEST, **{field: right}), field) == right
    with pytest.raises(InvalidInput):
        replace(REQUEST, **{field: wrong})


@pytest.mark.parametrize(
    ("wrong", "sentence"),
    [
        ({"backbone": Path("b")}, "--backbone goes with"),
        ({"cnn": "ultrasound-cnn"}, "--cnn names a fitted CNN"),
        ({"split_like": "../x"}, "--split-like names a model"),
        ({"split_like": "x", "folds": 3}, "leave out --folds"),
        ({"split_like": "x", "split_by": "patient"}, "leave out --folds and --split-by"),
        ({"why": "--out"}, "may not begin with '-'"),
        ({"workers": 2, "folds": 3}, "leave out folds and trials"),
        ({"workers": 2, "trials": 3}, "leave out folds and trials"),
    ],
)
def test_options_that_do_not_go_together_are_refused(wrong: dict[str, object], sentence: str) -> None:
    with pytest.raises(InvalidInput, match=sentence):
        replace(REQUEST, **wrong)


def test_several_seeds_are_several_requests() -> None:
    assert with_seeds(REQUEST, "7") == [replace(REQUEST, seed=7)]
    three = with_seeds(REQUEST, "0, 1,2")
    assert [one.seed for one in three] == [0, 1, 2]
    assert [one.model_id for one in three] == [f"ultrasound-cnn-seed{seed}" for seed in range(3)]
    for words in ("", "1,,2", "a", "1, 1", "-1", "²", ",".join(map(str, range(11)))):
        with pytest.raises(InvalidInput, match=r"[Ss]eeds"):
            with_seeds(REQUEST, words)
