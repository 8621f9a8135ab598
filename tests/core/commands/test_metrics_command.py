"""`python -m core metrics`: what it prints, and how it refuses."""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
from pathlib import Path

import pytest

from core.__main__ import COMMANDS
from core.commands import parsed
from core.errors import AppError
from core.settings import REPOSITORY

TABLE = """case,patient,label,a,b,site
1,1,benign,.1,.3,x
2,1,malignant,.9,.2,x
3,2,benign,.3,.1,y
4,3,malignant,.8,,y
5,4,benign,.2,.4,y
6,5,malignant,.4,.5,x
"""


def run(*arguments: str) -> int:
    args = parsed(argparse.ArgumentParser(), "core.commands", COMMANDS, ["metrics", *arguments])
    return int(args.run(args))


@pytest.fixture
def table(tmp_path: Path) -> str:
    path = tmp_path / "scores.csv"
    path.write_text(TABLE)
    return str(path)


def test_json_has_every_measure_with_its_interval(table: str, capsys: pytest.CaptureFixture[str]):
    assert run(table, "--json", "--pairs", "--positive", "malignant", "--threshold", "0.35", "--resamples", "50") == 0
    found = json.loads(capsys.readouterr().out)
    assert (found["n"], found["positives"], found["positive"], found["patients"]) == (6, 3, "malignant", 5)
    assert list(found["scorers"]) == ["a", "b"]
    one = found["scorers"]["a"]
    assert one["auc"] == 1 and one["delong_se"] == 0 and one["ci"][0] < 1
    assert set(one["intervals"]) >= {"auc", "brier", "ece", "sensitivity_at_threshold"}
    assert one["sensitivity_at_threshold"] == 1
    assert one["restated"]["0.005"]["ppv"]["value"] == 1
    pair = found["pairs"]["a vs b"]
    assert pair["n"] == 5 and set(pair) >= {"difference", "se", "z", "p", "p_holm", "ci", "mcnemar"}
    assert found["scorers"]["b"]["missing"] == 1 and "b has no score for 1" in found["warnings"][0]


def test_two_scorers_that_share_no_case_are_named_and_the_others_compared(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
):
    path = tmp_path / "apart.csv"
    lines = []
    for n in range(40):
        score = f"{(n * 7 % 40) / 40:.3f}"
        early, late = (score, "") if n < 20 else ("", score)
        lines.append(f"{n},{n},{int(n % 3 == 0)},{early},{late},{(n * 11 % 40) / 40}")
    path.write_text("\n".join(["case,patient,label,early,late,every", *lines]))
    assert run(str(path), "--pairs", "--resamples", "20", "--threshold", ".5") == 0
    text = capsys.readouterr().out
    assert "early vs late: not compared, they share no case" in text and "early vs every: +" in text.replace("-0", "+0")
    assert run(str(path), "--pairs", "--json", "--resamples", "20") == 0
    pairs = json.loads(capsys.readouterr().out)["pairs"]
    assert pairs["early vs late"]["difference"] is None and pairs["early vs late"]["n"] == 0
    assert pairs["late vs every"]["p_holm"] is not None


def test_eight_rows_of_a_patient_are_one_patient_in_the_paired_tests(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
):
    found = []
    for rows in (1, 8):
        lines = ["case,patient,label,a,b,percent"]
        for number in range(40):
            a, b = (number * 7 % 40) / 80 + 0.4 * (number < 15), (number * 11 % 40) / 40
            lines += [f"{number}-{row},{number},{int(number < 15)},{a},{b},{100 * a}" for row in range(rows)]
        path = tmp_path / f"{rows}.csv"
        path.write_text("\n".join(lines))
        assert (
            run(str(path), "--json", "--pairs", "--threshold", ".5", "--resamples", "50", "--percent", "percent") == 0
        )
        found.append(json.loads(capsys.readouterr().out))
        run(str(path), "--pairs", "--resamples", "20")
        text = capsys.readouterr().out
        assert ("over patients" in text) == (rows == 8)
        assert "'percent' was not taken as scores" in text and "--percent NAME" in text
    one, eight = (result["pairs"]["a vs b"] for result in found)
    assert (one["n"], eight["n"]) == (40, 320) and eight["p_patients"] == pytest.approx(one["p"])
    assert one["p_patients"] == one["p"] and eight["p"] < one["p"] / 100
    for key in ("se", "z", "p_holm"):
        assert eight[f"{key}_patients"] == pytest.approx(one[key])
    alone, repeated = (result["scorers"]["a"] for result in found)
    assert repeated["delong_se_patients"] == pytest.approx(alone["delong_se"]) and alone["delong_se_patients"] > 0
    assert not [words for words in found[0]["warnings"] if "several cases" in words]
    assert [words for words in found[1]["warnings"] if "several cases" in words]
    assert found[0]["scorers"]["percent"]["auc"] == found[0]["scorers"]["a"]["auc"]
    assert found[0]["left_out"] == []


def test_without_pairs_there_are_none_and_scorers_can_be_chosen(table: str, capsys: pytest.CaptureFixture[str]):
    run(table, "--json", "--positive", "malignant", "--scorers", "b", "--resamples", "20")
    found = json.loads(capsys.readouterr().out)
    assert "pairs" not in found and list(found["scorers"]) == ["b"]


def test_text_is_readable(table: str, capsys: pytest.CaptureFixture[str]):
    run(table, "--pairs", "--positive", "malignant", "--resamples", "20")
    text = capsys.readouterr().out
    assert "6 cases of 5 patients, 3 positive (50.0 %)" in text
    assert "auc " in text and "a vs b: +" in text


@pytest.mark.parametrize(
    "options",
    [
        (),
        ("--positive", "cancer"),
        ("--positive", "malignant", "--scorers", ","),
        ("--positive", "malignant", "--scorers", "c"),
        ("--positive", "malignant", "--threshold", "2"),
        ("--positive", "malignant", "--resamples", "0"),
        ("--positive", "malignant", "--seed", "-1"),
        ("--positive", "malignant", "--percent", ","),
        ("--positive", "malignant", "--logits", "c"),
    ],
)
def test_what_cannot_be_done_is_a_sentence(table: str, options: tuple[str, ...]):
    with pytest.raises(AppError, match=r"\.$"):
        run(table, *options)


def test_a_reader_that_has_seen_enough_gets_no_traceback(table: str) -> None:
    words = [sys.executable, "-m", "core", "metrics", table, "--json", "--positive", "malignant", "--resamples", "20"]
    process = subprocess.Popen(words, cwd=REPOSITORY, stdout=subprocess.PIPE, stderr=subprocess.PIPE)
    assert process.stdout is not None and process.stderr is not None
    process.stdout.close()  # as `| head` does
    errors = process.stderr.read().decode()
    assert process.wait() == 1 and "Traceback" not in errors and "BrokenPipe" not in errors, errors
