"""The split of a model that is there can be taken up again by the next."""

from __future__ import annotations

import shutil
from pathlib import Path

import pandas as pd
import pytest
from made_cards import changed

from core.errors import InvalidInput
from core.models.cards import Card, shipped_cards
from core.settings import REPOSITORY
from train.datasets.split import model_of_split, split_of_model


@pytest.fixture
def card(tmp_path: Path) -> Card:
    any_card = shipped_cards(REPOSITORY / "weights")[0]
    card = changed(any_card, folder=tmp_path, weights={"sha256": "ab" * 32}, model_id="ultrasound-first")
    write(card, "test", ["a.png", "b.png"])
    write(card, "validation", ["c.png"])
    return card


def write(card: Card, name: str, cases: list[str], **columns: list[int]) -> None:
    table = pd.DataFrame({"case": cases, "patient": cases, "label": "benign", **columns})
    table.to_csv(card.folder / f"{card.weights_sha256[:8]}.{name}_scores.csv", index=False)


def cases(**groups: str) -> pd.DataFrame:
    return pd.DataFrame({"file": [f"{name}.png" for name in groups], "group": list(groups.values()), "label": "benign"})


def test_test_and_validation_cases_stay_what_they_were_and_the_others_train(card: Card) -> None:
    table = cases(d="4", c="3", b="2", a="1")
    assert split_of_model(table, card).tolist() == ["train", "validation", "test", "test"]


def test_a_new_picture_of_a_test_patient_does_not_train(card: Card) -> None:
    table = cases(a="1", b="2", c="3", new="1", other="3", free="9")
    assert split_of_model(table, card).tolist() == ["test", "test", "validation", "test", "validation", "train"]


def test_a_patient_in_both_lists_is_tested(card: Card) -> None:
    assert split_of_model(cases(a="1", b="2", c="1"), card).tolist() == ["test", "test", "test"]


def test_other_test_cases_cannot_stand_in_for_missing_ones(card: Card) -> None:
    with pytest.raises(InvalidInput, match="lacks 1 of the 2 test cases"):
        split_of_model(cases(a="1", c="3", d="4"), card)


def test_scores_of_folds_are_no_split(card: Card) -> None:
    write(card, "test", ["a.png", "b.png"], fold=[0, 1])
    with pytest.raises(InvalidInput, match="--folds"):
        split_of_model(cases(a="1", b="2", c="3"), card)


def test_a_model_whose_split_is_taken_up_is_looked_for_in_the_own_folders_and_among_the_shipped(
    card: Card, tmp_path: Path
) -> None:
    shipped = shipped_cards(REPOSITORY / "weights")[0]
    assert model_of_split(shipped.folder.name, tmp_path).folder == REPOSITORY / "weights" / shipped.folder.name
    own = tmp_path / "own" / shipped.folder.name
    shutil.copytree(shipped.folder, own, ignore=shutil.ignore_patterns("*.npz", "*.safetensors", "*.h5", "*.bin"))
    assert model_of_split(shipped.folder.name, tmp_path, own.parent).folder == own
    (own / "card.json").unlink()
    assert model_of_split(shipped.folder.name, own.parent).folder == shipped.folder
    with pytest.raises(InvalidInput, match="no model 'absent'"):
        model_of_split("absent", tmp_path)
