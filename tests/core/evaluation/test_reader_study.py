"""The whole reader study, 21 scorers and 210 pairs, against its golden values and what is known of it."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from core.commands.metrics import as_json
from core.evaluation.statistics.summary import evaluate_table
from core.evaluation.tables.scores import read_scores


@pytest.fixture(scope="module")
def study(test_data: Path) -> dict:
    table = read_scores(test_data / "data" / "reader_study" / "scores.csv")
    return as_json(evaluate_table(table, with_pairs=True, resamples=300), with_pairs=True)


def test_every_golden_value_is_met(study: dict, test_data: Path):
    golden = json.loads((test_data / "data" / "reader_study" / "golden.json").read_text())
    assert (study["n"], study["positives"]) == (golden["n"], golden["positives"])
    for section in ("scorers", "pairs"):
        for name, measures in golden[section].items():
            for measure, value in measures.items():
                assert study[section][name][measure] == pytest.approx(value, abs=1e-9), (name, measure)


def test_all_readers_and_models_are_found_in_order_and_the_laterality_is_no_scorer(study: dict):
    names = list(study["scorers"])
    assert len(names) == 21 and names[0] == "reader_01" and names[14] == "gmic_top5"
    assert len(study["pairs"]) == 210 and next(iter(study["pairs"])) == "reader_01 vs reader_02"


def test_two_breasts_of_a_patient_are_drawn_together_and_said(study: dict):
    assert study["patients"] == 720
    assert {one["ci_method"] for one in study["scorers"].values()} == {"bootstrap of patients"}


def test_adjusted_p_values_are_never_smaller(study: dict):
    assert all(pair["p_holm"] >= pair["p"] for pair in study["pairs"].values())
    assert study["pairs"]["gmic_top5 vs dmvcnn"]["ci"][0] > 0
