"""A reader study on its two pages, without a browser: designed, locked, read by two, closed, analysed."""

from __future__ import annotations

import io
import json
import re
import shutil
from dataclasses import replace
from typing import Any

import numpy as np
import pandas as pd
import pytest
from page_site import PageSite, Tab, release
from PIL import Image as Raster
from record_site import WORRIED, add_person, answer, explanation, finish
from sqlalchemy import select

from core.evaluation.statistics.reader_study import ReaderStudy, RoeMetz, simulate
from core.evaluation.statistics.reader_study_summary import UNTESTED
from core.evaluation.tables.reader_studies import INDEPENDENT_ELSEWHERE, write_long_table
from core.evaluation.tables.scores import safe_csv
from core.models.card_cases import COLUMNS
from core.records import data_sets
from core.records.database import tables
from core.records.reader_studies import data_set_cases, designs, readings
from core.records.reader_studies.data_set_cases import CasesOf
from core.records.reader_studies.designs import ReaderStudyRow
from core.records.reader_studies.protocol import AIDED
from core.records.reads import predictions, reads, studies
from core.records.reads.reads import Impression
from core.types import Modality
from train.publishing.publish import put_cases


def read_case(tab: Tab, birads: str) -> None:
    tab.choose("Right breast: BI-RADS", birads)
    tab.press("Save and go on")


def test_a_reader_study_is_designed_read_and_analysed(
    opened_site: PageSite, tab: Tab, monkeypatch: pytest.MonkeyPatch
) -> None:
    release(opened_site.weights, "ultrasound-fusion")
    cleo = add_person(opened_site.db, "Cleo", "radiologist")
    for number in range(1, 7):
        finish(opened_site.db, cleo, number, "malignant" if number < 3 else "benign", suspicion=WORRIED)
    tab.open("research/reader_studies")
    tab.app.text_input(key="rs_title").input("Does it *help*?")
    tab.app.selectbox(key="rs_modality").set_value("ultrasound")
    tab.settled()
    tab.app.multiselect(key="rs_readers").set_value([opened_site.one.id, opened_site.two.id])
    next(box for box in tab.app.number_input if box.label == "Without (of 4)").set_value(3)
    next(box for box in tab.app.number_input if box.label == "Training cases").set_value(1)
    tab.settled()
    assert "40 % of the cases have cancer" in tab.text
    tab.press("Simulate")
    assert "Mean difference in area" in tab.text
    tab.press("Make the design")
    assert "5 breasts of 5 ultrasound studies, 2 malignant" in tab.text and not tab.has("Close the reading")
    tab.press("Lock the protocol")
    (row,) = designs.list_reader_studies(opened_site.db, opened_site.one)
    assert row.sha256 in tab.text and "0 of 24 reads" in str([bar.proto.text for bar in tab.app.get("progress")])

    first = Tab(opened_site, opened_site.one, monkeypatch).open("reader/study_reading")
    assert "Training case, unaided" in first.text and "Jane Doe" not in first.text
    assert "42" not in first.text and "Probability of malignancy" not in first.text
    read_case(first, "2")
    assert "Training case, aided" in first.text and "Probability of malignancy" in first.text
    read_case(first, "3")
    assert "Read 3, unaided" in first.text
    for reader in (opened_site.one, opened_site.two):
        while (turn := readings.turns(opened_site.db, reader)[0]).task is not None:
            task = turn.task
            readings.begin_task(opened_site.db, reader, turn.id, task)
            if task.modality == AIDED:
                reads.reveal(opened_site.db, reader, task.case.study_id)
            sick = task.case.truth["R"]
            suspicion = (60 if sick else 10) + 3 * task.number % 50 - (20 if reader is opened_site.two else 0)
            readings.save_read(
                opened_site.db, reader, turn.id, task, {"R": Impression("4B", min(max(suspicion, 0), 100))}
            )
    assert "You have read every case" in str([one.value for one in first.settled().app.success])

    again = Tab(opened_site, opened_site.one, monkeypatch).open("research/reader_studies")
    again.press("Close the reading")
    said = again.text
    for expected in (
        "random readers and cases", "U-statistic", "average unaided reader", "DBM", "Seconds a case",
        "Mean seconds a case, random", "Moments M1 to M8", "Sensitivity, random readers", "Specificity, components of",
    ):  # fmt: skip
        assert expected in said, expected
    assert "reads are missing" not in said
    assert "Mean sensitivity at specificities of 0.8 to 1" in str(again.app.dataframe[0].value["Measure"].to_list())
    assert [one.label for one in again.app.get("download_button")][-6:] == [
        "Report (PDF)", "Report (HTML)", "For MRMCaov", "For iMRMC", "For RJafroc", "Reads",
    ]  # fmt: skip


def four_held_back(opened_site: PageSite) -> CasesOf:
    """Pictures of a data set, two of them malignant."""
    rows = []
    for number in range(4):
        out = io.BytesIO()
        Raster.fromarray(np.full((40, 36), 40 * number, np.uint8)).save(out, "PNG")
        file = data_sets.store_file(opened_site.db.settings, out.getvalue(), "png")
        rows.append(f"{file},{('malignant', 'benign')[number % 2]},test\n")
    version_id = data_sets.create_data_set(
        opened_site.db, opened_site.one, name="Lesions", modality=Modality.ULTRASOUND, split={},
        found={"leaking": False}, manifest=("file,label,split\n" + "".join(rows)).encode(),
        counts={"test": {"malignant": 2, "benign": 2}},
    )  # fmt: skip
    return CasesOf(version_id, "malignant")


def test_what_models_have_learnt_of_the_cases_is_said_before_the_lock_and_what_is_told_of_weights_after_it(
    opened_site: PageSite, tab: Tab, monkeypatch: pytest.MonkeyPatch
) -> None:
    from pages.research.parts import reader_study_results as results_page

    db, one, two = opened_site.db, opened_site.one, opened_site.two
    of = four_held_back(opened_site)
    cases = data_set_cases.cases_of_version(db, one, of)
    asked = {"title": "t", "modality": "ultrasound", "readers": (one.id, two.id), "cases": cases, "source": "Lesions"}
    study_id = designs.create_reader_study(db, one, asked, of_data_set=of)
    with db.read() as connection:
        hashes = connection.execute(select(tables.image.c.sha256)).scalars().all()
    listed = pd.DataFrame([{**dict.fromkeys(COLUMNS, ""), "sha256": sha256, "split": "fold 0"} for sha256 in hashes])
    release(opened_site.weights, "ultrasound-cnn", sha256="a" * 64)
    folder = opened_site.weights / "ultrasound-cnn"
    card = json.loads((folder / "card.json").read_text())
    (folder / "card.json").write_text(json.dumps(card | {"cases": put_cases(folder, "a" * 64, listed)}))
    learnt = "ultrasound-cnn was trained or chosen on 4 of the 4 pictures of these cases"
    assert learnt in tab.open("research/reader_studies").text
    tab.press("Lock the protocol")
    assert "have it retired on the page Releases" in tab.text and tab.has("Lock the protocol")

    shutil.rmtree(folder)
    tab.press("Lock the protocol")
    for number, case in enumerate(cases):
        (stored,) = studies.load_study(db, one, case.study_id).images
        for model_id, weights in (("model", "ab"[number >= 3] * 64), ("other", "c" * 64)):
            said = answer(stored.image, model_id=model_id, weights=weights, malignant=(1 + number) / 8)
            predictions.record_predictions(db, case.study_id, stored.id, said, explanation())
    for reader in (one, two):
        while (turn := readings.turns(db, reader)[0]).task is not None:
            task = turn.task
            readings.begin_task(db, reader, turn.id, task)
            if task.modality == AIDED:
                reads.reveal(db, reader, task.case.study_id)
            given = Impression("4B", 20 + task.number)
            readings.save_read(db, reader, turn.id, task, dict.fromkeys(task.case.truth, given))
    designs.close_reader_study(db, one, study_id)
    made: dict[str, Any] = {}
    monkeypatch.setattr(results_page, "draw_downloads", lambda report, reads: made.update(report=report, reads=reads))
    tab.settled()
    expected = [
        "Reads with the answer of model are of 2 sets of weights together and measure none of them alone.",
        "model (aaaaaaaa) answered 3 of 4 breasts and is not compared with the readers.",
        "model (bbbbbbbb) answered 1 of 4 breasts and is not compared with the readers.",
        *(
            f"It cannot be told whether {name} was trained on these cases: its list of cases is missing or cannot be "
            "read." for name in ("model (aaaaaaaa)", "model (bbbbbbbb)", "other")
        ),
    ]  # fmt: skip
    report = made["report"]
    assert report.limits[: len(expected)] == expected and all(words in tab.text for words in expected)
    assert [test.second for test in report.against] == ["other"] and "minus other" in tab.text
    assert [value for name, value in report.design if name.startswith("Index test")] == [
        f"weights sha256 {'a' * 64}, answered 3 of 4 breasts", f"weights sha256 {'b' * 64}, answered 1 of 4 breasts",
        f"weights sha256 {'c' * 64}, answered 4 of 4 breasts",
    ]  # fmt: skip
    assert set(made["reads"]["answered_by"]) == {"", "model aaaaaaaa; other cccccccc", "model bbbbbbbb; other cccccccc"}


def test_of_two_models_a_reader_sees_the_answer_of_the_one_whose_turn_it_is(
    opened_site: PageSite, tab: Tab, monkeypatch: pytest.MonkeyPatch
) -> None:
    titles = {}
    for model_id, sha256 in (("ultrasound-cnn", "ab" * 32), ("ultrasound-fusion", "cd" * 32)):
        release(opened_site.weights, model_id, sha256=sha256)
        file = opened_site.weights / model_id / "card.json"
        titles[model_id] = f"Network ({model_id})"
        file.write_text(json.dumps(json.loads(file.read_text()) | {"title": titles[model_id]}))
    four_held_back(opened_site)
    tab.open("research/reader_studies")
    tab.app.text_input(key="rs_title").input("Which helps more?")
    tab.app.selectbox(key="rs_modality").set_value("ultrasound")
    tab.settled()
    source = tab.app.selectbox(key="rs_source_ultrasound")
    source.set_value(next(one for one in source.options if one.startswith("data set Lesions")))
    tab.settled()
    tab.app.multiselect(key="rs_readers").set_value([opened_site.one.id, opened_site.two.id])
    tab.app.button_group(key="rs_design").set_value("two sessions")
    tab.settled()
    assert "half unaided" in tab.text
    tab.app.button_group(key="rs_compared").set_value("two models")
    tab.settled()
    assert "half with that of model B" in tab.text and "half unaided" not in tab.text
    # A box to choose from shows letters as they are: nothing is escaped there as in Markdown.
    assert set(tab.app.selectbox(key="rs_first").options) == set(titles.values())
    tab.press("Make the design")
    tab.press("Lock the protocol")
    (row,) = designs.list_reader_studies(opened_site.db, opened_site.one)
    assert set(row.protocol.aids) == set(titles)

    reader = Tab(opened_site, opened_site.one, monkeypatch).open("reader/study_reading")
    turn = readings.turns(opened_site.db, opened_site.one)[0]
    (other,) = set(titles) - {turn.aid}
    assert f"Read 1, {turn.task and turn.task.modality}" in reader.text and "Probability of malignancy" in reader.text
    assert titles[str(turn.aid)] in reader.text and titles[other] not in reader.text
    assert "the answer of one model alone" in reader.text and "With the AI's answer" not in reader.text


def two_designs(opened_site: PageSite) -> tuple[ReaderStudyRow, ReaderStudyRow]:
    """The older and the newer, of the same cases."""
    for number, pathology in enumerate(("malignant", "malignant", "benign", "benign"), start=1):
        finish(opened_site.db, opened_site.one, number, pathology, suspicion=WORRIED)
    at_hand = designs.cases_at_hand(opened_site.db, opened_site.one, Modality.ULTRASOUND)
    readers = (opened_site.one.id, opened_site.two.id)
    for title in ("The older", "The newer"):
        asked = {"title": title, "modality": "ultrasound", "cases": at_hand.cases, "readers": readers}
        designs.create_reader_study(opened_site.db, opened_site.one, asked)
    newer, older = designs.list_reader_studies(opened_site.db, opened_site.one)
    assert (older.protocol.title, newer.protocol.title) == ("The older", "The newer")
    return older, newer


def test_a_locked_and_then_closed_study_stays_the_one_that_is_shown(opened_site: PageSite, tab: Tab) -> None:
    older, newer = two_designs(opened_site)
    tab.app.query_params["of"] = named = f"The older ({older.id[:6]})"
    tab.open("research/reader_studies")
    assert named in tab.app.selectbox(key="of").options and "Being designed" in tab.text
    tab.press("Lock the protocol")
    older = designs.load_reader_study(opened_site.db, opened_site.one, older.id)
    assert older.sha256 and older.sha256 in tab.text and tab.app.query_params["of"] == named
    assert "Being read" in tab.text and not tab.has("Lock the protocol")
    tab.app.text_input(key=f"rs_reason_{older.id}").input("Everybody left")
    tab.press("Close the reading")
    assert older.sha256 in tab.text and tab.app.query_params["of"] == named
    states = {row.id: row.state for row in designs.list_reader_studies(opened_site.db, opened_site.one)}
    assert states == {older.id: designs.CLOSED, newer.id: designs.DESIGNED}


def test_where_a_design_was_discarded_no_other_stands(opened_site: PageSite, tab: Tab) -> None:
    older, newer = two_designs(opened_site)
    tab.open("research/reader_studies")
    tab.press("Discard")
    assert [row.id for row in designs.list_reader_studies(opened_site.db, opened_site.one)] == [older.id]
    assert "is not here" in tab.text and not tab.has("Discard") and not tab.has("Lock the protocol")
    assert tab.app.query_params["of"] == f"The newer ({newer.id[:6]})"
    tab.app.selectbox(key="of").set_value(f"The older ({older.id[:6]})")
    tab.settled()
    assert (
        tab.has("Discard") and "is not here" not in tab.text and "Not here" not in tab.app.selectbox(key="of").options
    )


def test_a_table_from_elsewhere_is_analysed_with_its_readers_numbered(opened_site: PageSite, tab: Tab) -> None:
    study = simulate(RoeMetz(), readers=3, positives=12, negatives=14, rng=np.random.default_rng(1))
    table = write_long_table(study).replace("\n2,", "\nDr Grey,")
    tab.open("research/reader_studies")
    tab.app.selectbox[0].set_value("Analyse a table")
    tab.settled()
    tab.app.get("file_uploader")[0].upload("reads.csv", table.encode(), "text/csv")
    tab.settled()
    assert "random readers and cases" in tab.text and "DBM, area: F(1" in tab.text and "Dr Grey" not in tab.text
    assert [one.label for one in tab.app.get("download_button")][-1] == "For RJafroc"
    assert "of such studies" in tab.text
    assert {"empirical area", "binormal area", "remark"} <= set(tab.app.dataframe[-1].value)
    rows = [row for row in table.splitlines() if not row.startswith("Dr Grey,1,") or row.startswith("Dr Grey,1,1,")]
    tab.app.get("file_uploader")[0].set_value(("fewer.csv", "\n".join(rows).encode(), "text/csv"))
    tab.settled()
    assert "In 1 combinations" in tab.text and "DBM, area: F(1" not in tab.text
    assert INDEPENDENT_ELSEWHERE not in tab.text
    several = write_long_table(replace(study, patients=np.arange(26) // 2))
    tab.app.get("file_uploader")[0].set_value(("several.csv", several.encode(), "text/csv"))
    tab.settled()
    assert INDEPENDENT_ELSEWHERE in tab.text and "DBM takes cases to be independent" in tab.text


def test_where_nothing_varies_the_page_and_its_table_say_why_nothing_is_tested(
    opened_site: PageSite, tab: Tab, monkeypatch: pytest.MonkeyPatch
) -> None:
    saved: dict[str, pd.DataFrame] = {}
    monkeypatch.setattr(
        "pages.research.parts.reader_study_results.draw_download",
        lambda table, *, name, action: saved.__setitem__(name, table()),
    )
    is_positive = np.arange(8) < 4
    scores = np.broadcast_to(is_positive * 1.0, (2, 3, 8))
    table = write_long_table(ReaderStudy(("a", "b"), ("one", "two", "three"), is_positive, scores))
    tab.open("research/reader_studies")
    tab.app.selectbox[0].set_value("Analyse a table")
    tab.settled()
    tab.app.get("file_uploader")[0].upload("reads.csv", table.encode(), "text/csv")
    tab.settled()
    tab.app.number_input(key="rs_table_cut").set_value(0.5)
    tab.app.number_input(key="rs_table_margin").set_value(0.05)
    tab.settled()
    assert "1 minus 2: +0.0000; the standard error comes out as 0, which would claim certainty" in tab.text
    assert "is not tested" in tab.text and "DBM, area: no F, as the standard error" in tab.text
    assert not re.search(r"\bnan\b", tab.text)
    lines = safe_csv(saved["reader-study-measures"]).splitlines()
    assert lines[0].endswith(",Difference,Value,Low,High,df,p,p (Holm),Remark") and len(lines) == 1 + 4 * 3
    assert lines[1] == f'Area,random,random,1.0,1.0,1 - 2,0.0,,,,,,"{UNTESTED}"'


def test_an_analysis_is_kept_for_just_these_patients_however_many_they_are() -> None:
    from pages.research.parts.reader_study_results import key_of

    n = 1_200
    made = ReaderStudy(("a", "b"), ("one", "two"), np.arange(n) % 2 == 0, np.zeros((2, 2, n)), np.arange(n).astype(str))
    assert made.patients is not None
    other = made.patients.copy()
    other[600] = "601"  # where a printed array has dots
    again = replace(made, patients=other)
    assert key_of(made) != key_of(again) != key_of(replace(made, patients=None))
    assert key_of(made) == key_of(replace(made, patients=made.patients.copy()))
