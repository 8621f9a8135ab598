"""Cards: what is read, what is refused in one sentence, and what stays on them."""

from __future__ import annotations

import json
import os
import re
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from made_cards import card_content, made_card

from core.commands.models import CARD_SCHEMA, card_schema
from core.errors import ModelUnavailable
from core.models.cards import case_thresholds, read_card, read_test_scores, read_validation_scores, shipped_cards
from core.settings import REPOSITORY

SHIPPED = shipped_cards(REPOSITORY / "weights")


def put(weights: Path, model_id: str, text: str) -> Path:
    folder = weights / model_id
    folder.mkdir()
    (folder / "card.json").write_text(text, encoding="utf-8")
    return folder


def test_the_schema_in_the_documents_is_that_of_the_code() -> None:
    assert CARD_SCHEMA.read_text(encoding="utf-8") == card_schema(), "run: python -m core models --card-schema"


@pytest.mark.parametrize("card", SHIPPED, ids=lambda card: card.model_id)
def test_a_shipped_card_is_read_whole_and_written_as_it_was(card: Any) -> None:
    assert card.content() == json.loads((card.folder / "card.json").read_text(encoding="utf-8"))


def test_keys_of_a_later_version_are_kept_wherever_they_stand(tmp_path: Path) -> None:
    content = card_content(new=[1, {"deep": None}], data={"name": "x", "later": 2}, folder="not a path of ours")
    card = read_card(put(tmp_path, "model", json.dumps(content)))
    assert card.folder == tmp_path / "model"
    assert card.content() == {name: value for name, value in content.items() if name != "folder"}


def test_a_card_of_the_first_version_needs_no_more_than_what_reading_needs(tmp_path: Path) -> None:
    card = read_card(put(tmp_path, "model", json.dumps(card_content())))
    assert (card.limits, card.members, card.data.leaks, card.training.history) == ((), (), None, ())
    assert card.threshold.value == 0.5 and not card.has_weights


DAMAGED: dict[str, str] = {
    "nested": "[" * 100_000,
    "nested under a key": json.dumps(card_content())[:-1] + ', "x": ' + "[" * 100_000 + "]" * 100_000 + "}",
    "no JSON": "{",
    "a list": "[]",
    "a word": '"card"',
    "empty": "",
    "other type": json.dumps(card_content(classes="benign")),
    "list for a mapping": json.dumps(card_content(data=[1])),
    "text for a number": json.dumps(card_content(input={"side": "wide", "channels": 1})),
    "no side": json.dumps(card_content(input={"side": 0, "channels": 1})),
    "no threshold": json.dumps(card_content(threshold={"rule": "x"})),
    "threshold not a number": json.dumps(card_content(threshold={"value": float("nan")})),
    "calibration of three classes": json.dumps(
        card_content(calibration={"slope": 1, "biases": [0, 0, 0], "samples": []})
    ),
    "samples of one class": json.dumps(card_content(calibration={"slope": 1, "biases": [0, 0], "samples": [[1, 0]]})),
    "positive is no class": json.dumps(card_content(positive="cyst")),
    "another model": json.dumps(card_content(model_id="other")),
    "other kind of image": json.dumps(card_content(modality="dental")),
    "endless training": json.dumps(card_content(training={"minutes": float("inf")})),
    "weights that are no numbers": json.dumps(card_content(ensemble={"method": "mean", "weights": [float("nan")]})),
    "no hash": json.dumps(card_content(weights={"sha256": "../x", "files": []})),
}


@pytest.mark.parametrize("damage", DAMAGED)
def test_a_damaged_card_is_refused_in_one_sentence_and_the_others_stay(damage: str, tmp_path: Path) -> None:
    put(tmp_path, "whole", json.dumps(card_content(model_id="whole")))
    folder = put(tmp_path, "model", DAMAGED[damage])
    with pytest.raises(ModelUnavailable) as refused:
        read_card(folder)
    assert re.fullmatch(r"The card (of the model )?in model [^\n]{5,200}\.", str(refused.value)), str(refused.value)
    assert [card.model_id for card in shipped_cards(tmp_path)] == ["whole"]


def test_bytes_that_are_no_text_and_a_missing_card_are_refused_too(tmp_path: Path) -> None:
    folder = put(tmp_path, "model", "")
    (folder / "card.json").write_bytes(b"\xff\xfe{}")
    for one in (folder, tmp_path / "nothing"):
        with pytest.raises(ModelUnavailable, match="cannot be read"):
            read_card(one)


def test_a_card_is_validated_once_and_anew_when_its_bytes_change_whatever_the_date_says(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    text = json.dumps(card_content(model_id="a", title="Model"))
    path = put(tmp_path, "a", text) / "card.json"
    date = path.stat().st_mtime_ns
    first = read_card(path.parent)
    assert read_card(path.parent) is first
    changed = text.replace(f'"{first.title}"', f'"{first.title[::-1]}"')
    assert changed != text
    path.write_text(changed, encoding="utf-8")
    os.utime(path, ns=(date, date))
    assert read_card(path.parent).title == first.title[::-1]
    path.write_text("{", encoding="utf-8")
    with pytest.raises(ModelUnavailable):
        read_card(path.parent)


def test_what_is_wrong_is_named_by_its_place_and_not_by_its_content(tmp_path: Path) -> None:
    content = card_content(input={"side": "secret", "channels": 1})
    with pytest.raises(ModelUnavailable, match=r"input\.side: ") as refused:
        read_card(put(tmp_path, "model", json.dumps(content)))
    assert "secret" not in str(refused.value)


def test_a_case_of_a_fold_is_judged_at_the_threshold_of_its_fold(tmp_path: Path) -> None:
    import pandas as pd

    folds = {"n": 2, "thresholds": [0.2, 0.7]}
    scores = pd.DataFrame({"case": ["a", "b", "c"], "fold": [1, 0, 1]})
    assert list(case_thresholds(made_card(tmp_path, folds=folds), scores)) == [0.7, 0.2, 0.7]  # type: ignore[arg-type]
    assert case_thresholds(made_card(tmp_path, folds=folds), scores.drop(columns="fold")) == 0.5
    assert case_thresholds(made_card(tmp_path), scores) == 0.5


HEADER = "case,patient,label,benign,malignant"
SCORES: dict[str, tuple[bytes, str]] = {
    "empty": (b"", "EmptyDataError"),
    "no text": (b"\xff\xfe\0", "UnicodeDecodeError"),
    "rows of different length": (f"{HEADER}\na,1,benign,.9,.1\nb,1,benign,.9,.1,7,7\n".encode(), "ParserError"),
    "no patient": (b"case,label,benign,malignant\na,benign,.9,.1\n", "no column patient"),
    "a class missing": (b"case,patient,label,benign\na,1,benign,.9\n", "no column malignant"),
    "words for numbers": (f"{HEADER}\na,1,benign,much,.1\n".encode(), "a probability is no number"),
    "a case twice": (f"{HEADER}\na,1,benign,.9,.1\na,1,benign,.8,.2\n".encode(), "a case is missing or named twice"),
    "a case without a name": (f"{HEADER}\n,1,benign,.9,.1\n".encode(), "a case is missing or named twice"),
    "a third fold of two": (f"{HEADER},fold\na,1,benign,.9,.1,2\n".encode(), "a fold that the card does not know"),
}


@pytest.mark.parametrize("which", ["test", "validation"])
@pytest.mark.parametrize("damage", SCORES)
def test_a_damaged_table_of_scores_is_refused_in_one_sentence(damage: str, which: str, tmp_path: Path) -> None:
    content, why = SCORES[damage]
    card = read_card(put(tmp_path, "model", json.dumps(card_content(folds={"n": 2, "thresholds": [0.4, 0.5]}))))
    (card.folder / f"{card.weights_sha256[:8]}.{which}_scores.csv").write_bytes(content)
    with pytest.raises(ModelUnavailable) as refused:
        (read_test_scores if which == "test" else read_validation_scores)(card)
    assert str(refused.value).startswith(f"The {which} scores of model cannot be read ({why}). Restore")


def test_a_table_of_scores_is_taken_apart_once_and_what_a_caller_changes_in_it_stays_its_own(tmp_path: Path) -> None:
    card = read_card(put(tmp_path, "model", json.dumps(card_content())))
    path = card.folder / f"{card.weights_sha256[:8]}.test_scores.csv"
    path.write_text(f"{HEADER}\na,1,benign,.9,.1\n", encoding="utf-8")
    date = path.stat().st_mtime_ns
    first, second = read_test_scores(card), read_test_scores(card)
    assert first is not None and second is not None
    assert np.shares_memory(first["malignant"].to_numpy(), second["malignant"].to_numpy())
    first.loc[0, "malignant"] = 0.7
    first["own"] = 1
    again = read_test_scores(card)
    assert again is not None and list(again["malignant"]) == [0.1] and "own" not in again
    path.write_text(f"{HEADER}\na,1,benign,.8,.2\n", encoding="utf-8")
    os.utime(path, ns=(date, date))
    changed = read_test_scores(card)
    assert changed is not None and list(changed["malignant"]) == [0.2]
