"""The short run of `make fuzz`, always with the same inputs: every parser ends in a value or in a sentence."""

from __future__ import annotations

import csv
import io
import json
import random
from pathlib import Path
from typing import Any

import fuzz_rounds
import made_hostile_files
import pytest
import report_target
import targets
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st
from made_hostile_files import mutated
from targets import Fault, Target, judged

from core.errors import AppError, InvalidInput
from core.evaluation.tables.scores import safe_csv, starts_formula
from core.imaging.zip_members import members
from train.datasets.hospital.keys import key_of

RUNS = {"child": 2, "intake": 25, "reports": 6, "DICOM": 60, "routes": 60, "pictures": 60, "workbooks": 60}
"""Of the targets that take long; the others have 100."""
TARGETS = targets.all_targets()
quick = settings(
    max_examples=40, derandomize=True, database=None, deadline=None, suppress_health_check=list(HealthCheck)
)
text = st.text(st.characters(exclude_categories=()), max_size=60)


@pytest.mark.parametrize("name", TARGETS)
def test_mutated_inputs_end_in_a_value_or_a_sentence(name: str) -> None:
    target, draw = TARGETS[name], random.Random(name)
    seeds = target.seeds()
    n_taken = sum(judged(target, mutated(draw.choice(seeds), draw)) for _ in range(RUNS.get(name, 100)))
    assert n_taken, "nothing reached the parser's end"


@pytest.mark.parametrize("name", [name for name in TARGETS if name not in ("child", "intake", "pictures", "DICOM")])
def test_the_seeds_themselves_are_judged(name: str) -> None:
    for seed in TARGETS[name].seeds():
        judged(TARGETS[name], seed)


cell = st.one_of(
    text, st.none(), st.booleans(), st.integers(), st.floats(), st.dates(), st.times(), st.datetimes(), st.timedeltas(),
    st.from_regex(r"[0-9]{1,8}([.:/-][0-9]{1,4}){0,2}([Ee]-?[0-9]{1,3})?"),
)  # fmt: skip


@quick
@given(cell, cell, cell, cell)
@example("²", "³", "²", "²")
@example("1", "9" * 5000, ".5E999", "9" * 5000)
def test_any_four_cells_are_a_key(name: object, date: object, time: object, patient: object) -> None:
    key = key_of(name, date, time, patient)
    assert key.is_complete == all((key.name, key.date, key.time, key.patient))
    assert isinstance(hash(key.loose), int)


@quick
@given(st.lists(st.lists(text, min_size=4, max_size=4), min_size=2, max_size=6))
def test_any_cells_of_a_table_are_scores_or_refused_and_start_no_formula(rows: list[list[str]]) -> None:
    quoted = ['"' + one.replace('"', '""') + '"' for row in rows for one in row]
    lines = [",".join(quoted[at : at + 4]) for at in range(0, len(quoted), 4)]
    data = "\n".join(["case,patient,label,s", *lines]).encode("utf-8", "replace")
    judged(TARGETS["scores"], data)


@quick
@given(text)
def test_no_text_of_a_table_is_a_formula_in_a_spreadsheet(word: str) -> None:
    import pandas as pd

    written = safe_csv(pd.DataFrame({"a": [word], "b": ["x"]}, dtype=object))
    rows = list(csv.reader(io.StringIO(written, newline="")))
    shown = rows[1][0]
    assert not starts_formula(shown) and len(rows) == 2
    assert shown.removeprefix("'") == word.replace("\r\n", "\n").replace("\r", "\n").removeprefix("'")


json_value: Any = st.recursive(
    st.one_of(st.none(), st.booleans(), st.integers(), st.floats(), st.text(max_size=8)),
    lambda inner: st.one_of(st.lists(inner, max_size=3), st.dictionaries(st.text(max_size=8), inner, max_size=3)),
    max_leaves=6,
)


@quick
@given(st.sampled_from(sorted(json.loads(targets.card_seeds()[1]))), json_value)
def test_a_card_with_any_value_under_any_key_is_read_or_refused(key: str, value: object) -> None:
    judged(TARGETS["cards"], json.dumps(json.loads(targets.card_seeds()[1]) | {key: value}).encode())


@quick
@given(st.lists(st.text(st.characters(exclude_categories=("Cs",)), min_size=1, max_size=300), min_size=1, max_size=5))
def test_any_name_in_a_zip_is_a_place_below_the_folder(names: list[str]) -> None:
    try:
        found = list(members(made_hostile_files.zip_of(dict.fromkeys(names, b"x")), settings=targets.SETTINGS))
    except AppError:
        return
    for member in found:
        assert member.path.parts and not member.path.is_absolute() and ".." not in member.path.parts
        assert all(len(part.encode("utf-8", "replace")) <= 255 for part in member.path.parts)


@pytest.mark.parametrize("name", ["//b.png", "\\\\server\\b.png", "/b.png", "///b.png"])
def test_a_member_below_any_root_is_refused_and_has_a_place_below_the_folder(name: str) -> None:
    (member,) = members(made_hostile_files.zip_of({name: b"x"}), settings=targets.SETTINGS)
    assert member.data is None and "points outside the zip" in str(member.refused)
    assert not member.path.is_absolute() and member.path.name == "b.png"


@pytest.mark.parametrize("words", ["病" * 3000, "\ud800\x00" * 900, "W" * 5000, "مريض\n" * 300])
def test_words_that_fill_pages_or_are_no_letters_are_printed(words: str) -> None:
    report_target.built([words] * report_target.FIELDS)


@settings(quick, max_examples=6)
@given(st.lists(text, min_size=report_target.FIELDS, max_size=report_target.FIELDS))
def test_any_text_is_a_report_in_both_formats(texts: list[str]) -> None:
    report_target.built(texts)


header = st.tuples(
    st.sampled_from([b"host", b"origin", b"cookie", b"content-length", b"x-forwarded-for", b"authorization"]),
    st.binary(max_size=40).map(lambda value: value.replace(b"\r", b"").replace(b"\n", b"")),
)  # fmt: skip


@quick
@given(
    st.sampled_from([b"GET", b"POST", b"DELETE", b"HEAD", b"WS", b"PUT"]),
    st.sampled_from([b"/login", b"/upload", b"/upload/a/b", b"/metrics", b"/media/a.png", b"/setup", b"/password"]),
    st.binary(max_size=20), st.lists(header, max_size=4), st.binary(max_size=60),
)  # fmt: skip
def test_any_request_is_answered(method: bytes, path: bytes, query: bytes, headers: list[Any], body: bytes) -> None:
    own = [
        (b"host", b"localhost:8501"),
        (b"origin", b"http://localhost:8501"),
        (b"cookie", b"secondread_session=@SESSION@"),
    ]
    sent = dict([*own, *headers])
    lines = [method + b" " + path + b"?" + query.replace(b" ", b""), *(b": ".join(one) for one in sent.items())]
    judged(TARGETS["routes"], b"\r\n".join([*lines, b"", body]))


# The harness itself


def refusing(error: Exception) -> Target:
    def act(_: bytes) -> None:
        raise error

    return Target("made", 1, act, lambda: [b""])


def test_what_counts_as_a_fault() -> None:
    assert judged(Target("made", 1, lambda _: None, lambda: [b""]), b"") is True
    assert judged(refusing(InvalidInput("This file is empty. Choose another.")), b"") is False
    for error in (InvalidInput("column np.str_('x')."), InvalidInput(""), InvalidInput("no end"), KeyError("x")):
        with pytest.raises((Fault, KeyError)):
            judged(refusing(error), b"")


def test_a_patient_in_the_log_is_a_fault() -> None:
    import logging

    target = Target("made", 1, lambda _: logging.getLogger("core").error("of %s", targets.PATIENT), lambda: [b""])
    with pytest.raises(Fault, match="log names the patient"):
        judged(target, b"")


def test_faults_are_counted_by_place_and_kept_with_their_input(tmp_path: Path) -> None:
    (tmp_path / "faults").mkdir()
    tried = fuzz_rounds.Tried(tmp_path, "keys", 3)
    tried.target = refusing(ZeroDivisionError())
    for data in (b"a", b"b", b"c"):
        tried.try_one(data)
    assert (tmp_path / "made.count").read_text() == "3"
    assert len((tmp_path / "made.told").read_text().splitlines()) == 1
    assert next((tmp_path / "faults").glob("made-*[0-9a-f]")).read_bytes() == b"a"
    own = fuzz_rounds.Figures(runs=4)
    fuzz_rounds._take_over(tmp_path / "made.count", own)
    fuzz_rounds._take_over(tmp_path / "made.count", own)
    assert own.runs == 7, "counted once"


def test_a_whole_run_is_a_million_inputs_in_the_parsers() -> None:
    runs = {name: target.runs for name, target in TARGETS.items()}
    inside = {name: n for name, n in runs.items() if name not in fuzz_rounds.UNGUIDED}
    assert sum(inside.values()) >= 10**6 and min(inside.values()) >= 10**4 and runs["child"] >= 10**3
