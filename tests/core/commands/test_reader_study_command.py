"""`python -m core reader-study`: the tables it reads and writes, what it prints, and how it refuses."""

from __future__ import annotations

import io
import json
import re
from dataclasses import replace
from pathlib import Path

import numpy as np
import openpyxl
import pytest

from core.__main__ import main
from core.errors import InvalidInput
from core.evaluation.statistics.reader_study import RoeMetz, simulate
from core.evaluation.statistics.reader_study_summary import analyse, simulated_power
from core.evaluation.tables import reader_studies
from core.evaluation.tables.reader_studies import INDEPENDENT_ELSEWHERE, read_study, write_imrmc, write_long_table


@pytest.fixture
def table(tmp_path: Path) -> Path:
    study = simulate(RoeMetz(), readers=3, positives=10, negatives=12, rng=np.random.default_rng(0))
    path = tmp_path / "study.csv"
    path.write_text(write_long_table(study))
    return path


def test_what_is_written_is_read_back_the_same(table: Path) -> None:
    first = read_study(table.read_bytes())
    for text in (write_imrmc(first), write_long_table(first)):
        again = read_study(text.encode())
        assert again.remarks == ()
        assert np.array_equal(again.scores, first.scores) and np.array_equal(again.is_positive, first.is_positive)


def test_patients_with_several_cases_are_written_as_numbers_and_read_back() -> None:
    rng = np.random.default_rng(3)
    study = simulate(RoeMetz(), readers=4, positives=60, negatives=60, rng=rng, effect=0.3)
    names = np.array([f"Z{90 - number}" for number in range(30)])[np.arange(120) // 4]
    several = replace(study, patients=names, scores=study.scores + rng.normal(0, 1, 30)[np.arange(120) // 4])
    several.scores[0, 1, 7] = np.nan
    text = write_long_table(several)
    assert text.splitlines()[0] == "reader,treatment,case,truth,rating,patient" and "Z" not in text
    assert {row.split(",")[2]: row.split(",")[5] for row in text.splitlines()[1:]} == {
        str(case + 1): str(case // 4 + 1) for case in range(120)
    }
    again = read_study(text.encode())
    assert again.remarks == () and write_long_table(again) == text
    first, second = analyse(several, cut=1.0), analyse(again, cut=1.0)
    assert second["area"]["analyses"] == [
        one | {"differences": tuple({**each, "first": "1", "second": "2"} for each in one["differences"])}
        for one in first["area"]["analyses"]
    ]
    assert second["note"] == first["note"] and "DBM takes cases to be independent" in second["note"]
    assert not any(one["is_one_case_each"] for one in second["one_shot"]) and "dbm" not in second["area"]
    # Where every patient has one case there is nothing to say.
    for patients in (None, np.arange(120)):
        assert write_long_table(replace(several, patients=patients)).startswith("reader,treatment,case,truth,rating\n")


def test_beside_exports_it_is_said_that_other_programs_take_cases_to_be_independent(
    table: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    for option in ("--imrmc", "--csv", "--xlsx"):
        export = ["reader-study", "analyse", str(table), option, str(table.with_suffix(".out"))]
        assert main(export) == 0 and INDEPENDENT_ELSEWHERE not in capsys.readouterr().out
    rows = table.read_text().splitlines()
    table.write_text("\n".join([f"{rows[0]},patient", *(f"{row},p{int(row.split(',')[2]) // 2}" for row in rows[1:])]))
    for option in ("--imrmc", "--csv", "--xlsx"):
        export = ["reader-study", "analyse", str(table), option, str(table.with_suffix(".out"))]
        assert main(export) == 0 and INDEPENDENT_ELSEWHERE in capsys.readouterr().out
        assert main([*export, "--json"]) == 0
        assert json.loads(capsys.readouterr().out)["remarks"] == [INDEPENDENT_ELSEWHERE]
    assert main(["reader-study", "analyse", str(table)]) == 0 and INDEPENDENT_ELSEWHERE not in capsys.readouterr().out


def test_everything_is_printed_as_json_and_as_text(table: Path, capsys: pytest.CaptureFixture[str]) -> None:
    options = ["--cut", "1", "--margin", ".05", "--effect", ".1", "--imrmc", str(table.with_suffix(".imrmc"))]
    assert main(["reader-study", "analyse", str(table), *options, "--json"]) == 0
    found = json.loads(capsys.readouterr().out)
    analyses = found["area"]["analyses"]
    assert [(one["readers"], one["cases"]) for one in analyses] == [
        ("random", "random"), ("fixed", "random"), ("random", "fixed"),
    ]  # fmt: skip
    assert set(found["area"]["components"]) == {"reader", "modality_reader", "error", "cov1", "cov2", "cov3"}
    assert 0.05 < found["area"]["power"] < 1 and set(found["area"]["not_inferior"]) == {"1 vs 2", "2 vs 1"}
    assert "specificity" in found and len(found["one_shot"][0]["moments"]) == 8
    assert found["area"]["means"][0]["value"] == pytest.approx(found["one_shot"][0]["value"])
    assert analyses[1]["df2"] is None  # infinite
    assert main(["reader-study", "analyse", str(table.with_suffix(".imrmc"))]) == 0
    text = capsys.readouterr().out
    assert "3 readers, 2 modalities, 10 positive and 12 negative cases" in text and "DBM (pseudovalues): F(1, " in text
    assert "  1, 2: empirical 0." in text and set(found["binormal"]["1"]) == {"1", "2", "3"}


def test_where_nothing_varies_the_command_says_why_nothing_is_tested(
    table: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    rows = ["reader,modality,case,truth,score"]
    rows += [f"{reader},{modality},{case},{case % 2},{case % 2}" for reader in "ab" for modality in "xy"
             for case in range(4)]  # fmt: skip
    table.write_text("\n".join(rows))
    options = ["reader-study", "analyse", str(table), "--cut", ".5", "--margin", ".05", "--partial", ".8", "1"]
    assert main(options) == 0
    text = capsys.readouterr().out
    assert "x: 1.0000 (0.3424 to 1.0000)\n" in text and "random readers, random cases: no F, as the" in text
    assert "x minus y: +0.0000; the standard error comes out as 0, which would claim certainty: neither" in text
    assert text.count("Mean of x, y: the standard error") == 4 and "DBM (pseudovalues): no F, as the" in text
    assert 'x vs y: "not inferior by the margin" is not tested' in text and not re.search(r"\b(nan|None)\b", text)
    assert main([*options, "--json"]) == 0
    area = json.loads(capsys.readouterr().out)["area"]
    one = area["analyses"][0]["differences"][0]
    assert (one["value"], one["se"], one["low"], one["p"], area["not_inferior"]["x vs y"]) == (0, 0, None, None, None)
    assert main(["reader-study", "power", "--readers", "2", "--positives", "2", "--negatives", "2", "--effect", "1.5",
                 "--runs", "60"]) == 0  # fmt: skip
    assert "studies: the standard error comes out as 0" in capsys.readouterr().out


def test_with_a_read_missing_what_two_readers_share_counts_and_it_is_said(
    table: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    rows = table.read_text().splitlines()
    table.write_text("\n".join(rows[:5] + rows[6:]))
    assert main(["reader-study", "analyse", str(table), "--json", "--margin", "0.1"]) == 0
    found = json.loads(capsys.readouterr().out)
    assert found["missing_reads"] == 1 and "left out" in found["note"] and "dbm" not in found["area"]
    assert [one["cases"] for one in found["area"]["analyses"]] == ["random", "random"]
    assert all(one["variance"] > 0 for one in found["one_shot"])
    assert main(["reader-study", "analyse", str(table), "--cut", "1"]) == 0
    assert "Sensitivity by estimating equations: 1 " in capsys.readouterr().out
    assert main(["reader-study", "analyse", str(table), "--cut", "-99"]) == 0
    assert "Sensitivity by estimating equations: no odds ratio" in capsys.readouterr().out
    assert main(["reader-study", "analyse", str(table), "--effect", "0.1"]) == 1
    assert "fully crossed" in capsys.readouterr().err
    # A reader without two cases of each kind has no area: only the U-statistic is left.
    table.write_text("\n".join(row for row in rows if not row.startswith("3,1,") or row.startswith("3,1,1,")))
    assert main(["reader-study", "analyse", str(table), "--json"]) == 0
    found = json.loads(capsys.readouterr().out)
    assert "area" not in found and "In 1 combinations" in found["note"]
    assert main(["reader-study", "analyse", str(table)]) == 0
    assert "  1, 1: binormal" in capsys.readouterr().out
    assert main(["reader-study", "analyse", str(table), "--margin", "0.1"]) == 1
    assert "In 1 combinations" in capsys.readouterr().err


def test_a_partial_area_is_printed_with_its_specificities(table: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["reader-study", "analyse", str(table), "--partial", "0.8", "1"]) == 0
    assert "Mean sensitivity at specificities of 0.8 to 1 (partial area)" in capsys.readouterr().out
    assert main(["reader-study", "analyse", str(table), "--partial", "1", "0.8"]) == 1
    assert "two specificities" in capsys.readouterr().err


def test_rjafrocs_workbook_is_read_back_the_same(table: Path, capsys: pytest.CaptureFixture[str]) -> None:
    book = table.with_suffix(".xlsx")
    assert main(["reader-study", "analyse", str(table), "--xlsx", str(book), "--json"]) == 0
    first = json.loads(capsys.readouterr().out)
    assert main(["reader-study", "analyse", str(book), "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["area"]["analyses"] == first["area"]["analyses"]
    sheets = {sheet.title: sheet for sheet in openpyxl.load_workbook(book)}
    truth = list(sheets["TRUTH"].values)
    assert truth[0] == ("CaseID", "LesionID", "Weight", "ReaderID", "ModalityID", "Paradigm")
    assert truth[1][1:] == (0, 0, "1, 2, 3", "1, 2", "ROC") and truth[2][5] == "FCTRL" and truth[-1][1:3] == (1, 1)
    assert sheets["FP"].max_row == 1 + 12 * 6 and sheets["TP"].max_row == 1 + 10 * 6
    rows = table.read_text().splitlines()
    table.write_text("\n".join(rows[:5] + rows[6:]))
    assert main(["reader-study", "analyse", str(table), "--xlsx", str(book)]) == 1
    assert "RJafroc reads studies" in capsys.readouterr().err


def workbook_of(sheets: dict[str, list[tuple[object, ...]]]) -> bytes:
    book = openpyxl.Workbook()
    book.remove(book.active)
    for title, rows in sheets.items():
        sheet = book.create_sheet(title)
        for row in rows:
            sheet.append(row)
    written = io.BytesIO()
    book.save(written)
    return written.getvalue()


def test_the_older_workbook_without_readers_in_its_truth_is_read_too() -> None:
    truth = [("CaseID", "LesionID", "Weight"), (1, 0, 0), (2, 0, 0), (7, 1, 1)]
    false = [("ReaderID", "ModalityID", "CaseID", "NL_Rating"), ("Ann", "film", 1, 2), ("Ann", "film", 2, 3.5)]
    true = [("ReaderID", "ModalityID", "CaseID", "LesionID", "LL_Rating"), ("Ann", "film", 7, 1, 5)]
    study = read_study(workbook_of({"truth": truth, "NL": false, "LL": true}))
    assert (study.modalities, study.readers, study.is_positive.tolist()) == (("film",), ("Ann",), [False, False, True])
    assert study.scores.tolist() == [[[2.0, 3.5, 5.0]]]
    two = [*truth, (7, 2, 0.5)]
    for sheets, says in (
        ({"TRUTH": two, "FP": false, "TP": true}, "Sheet TRUTH, row 5: .*FROC"),
        ({"TRUTH": truth, "FP": [*false, ("Ann", "film", 7, 1)], "TP": true}, "Sheet FP, row 4: .*without disease"),
        ({"TRUTH": truth, "FP": false}, "no sheet TP or LL"),
        ({"TRUTH": truth, "FP": false, "TP": [(*true[0][:4], "Score"), true[1]]}, "no column FP_Rating"),
    ):
        with pytest.raises(InvalidInput, match=says):
            read_study(workbook_of(sheets))
    with pytest.raises(InvalidInput, match="not an Excel workbook"):
        read_study(b"PK and nothing else")


@pytest.mark.parametrize(
    ("content", "says"),
    [
        (b"reader,case,truth,score\n1,1,1,1\n", "no column modality"),
        (b"reader,modality,case,truth,score\n1,1,a,2,1\n", "Row 2: the truth"),
        (b"reader,modality,case,truth,score\n1,1,a,1,high\n", "Row 2: the score"),
        (b"reader,modality,case,truth,score\n,1,a,1,1\n", "Row 2 has no reader"),
        (b"reader,modality,case,truth,score,patient\n1,1,a,1,1,\n", "Row 2 has no patient"),
        (b"reader,modality,case,truth,score,patient\n1,1,a,1,1,NA\n", "Row 2: nobody knows this patient"),
        (b"reader,modality,case,truth,score\n1,1,a,1,1_0\n", "Row 2: the score is not a number"),
        (b"reader,modality,case,truth,score\n1,1,a,1,inf\n", "Row 2: the score"),
        (b"reader,modality,case,truth,score\n1,1,a,1,1\n2,1,a,0,1\n", "Row 3: this case has another truth"),
        (b"reader,modality,case,truth,score\n1,1,a,1,1\n1,1,a,1,2\n", "two scores"),
        (b"reader,modality,case,truth,score\n1,1,a,1\n", "Row 2 has 4 cells"),
        (b"reader,modality,case,truth,score\n", "a header and no cases"),
        (b"reader,modality,case,truth,score\n1,1,a,1,NA\n", "has 0 reads"),
        (b"reader,modality,case,truth,score\n1," + b"x" * 200_000 + b",1,1,1\n", "a cell is far too long"),
        (b"reader,modality,case,truth,score\n1," + b"x" * 1_001 + b",1,1,1\n", "longer than 1,000 letters"),
        (b"BEGIN DATA:\n1,1,1,.5\n", "has no truth"),
        (b"BEGIN DATA:\n1,1,1\n", "Row 2 has 3 cells"),
        (b"\xff\xfe", "not text"),
    ],
)
def test_a_wrong_table_is_refused_with_its_row(content: bytes, says: str) -> None:
    with pytest.raises(InvalidInput, match=says) as refused:
        read_study(content)
    assert str(refused.value).endswith(".")


@pytest.mark.parametrize("effect", ["nan", "inf"])
def test_an_effect_that_is_no_number_is_refused(effect: str, capsys: pytest.CaptureFixture[str]) -> None:
    sizes = ["--readers", "5", "--positives", "20", "--negatives", "20", "--runs", "5"]
    assert main(["reader-study", "power", *sizes, "--effect", effect]) == 1
    assert "The effect is a number" in capsys.readouterr().err


def test_readers_against_models_are_adjusted_over_all_models(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    rng = np.random.default_rng(2)
    rows = ["case,patient,label,r1,r2,model,other"]
    rows += [f"{n},{n},{n % 2},{','.join(f'{x:.3f}' for x in rng.uniform(0, 1, 4))}" for n in range(30)]
    path = tmp_path / "scores.csv"
    path.write_text("\n".join(rows))
    assert main(["reader-study", "against", str(path), "--readers", "r", "--json"]) == 0
    found = json.loads(capsys.readouterr().out)["against"]
    lowest = min(found, key=lambda one: one["p"])
    assert len(found) == 2 and lowest["p_holm"] == pytest.approx(min(1, 2 * lowest["p"]))
    assert main(["reader-study", "against", str(path), "--readers", "x"]) == 1
    assert "readers' prefix" in capsys.readouterr().err


def test_with_jackknife_covariances_the_command_says_what_dbm_says(
    table: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    main(["reader-study", "analyse", str(table), "--jackknife", "--json"])
    area = json.loads(capsys.readouterr().out)["area"]
    assert area["analyses"][0]["p"] == pytest.approx(area["dbm"]["p"])
    rows = table.read_text().splitlines()
    table.write_text("\n".join([rows[0] + ",patient", *(row + ",same" for row in rows[1:])]))
    assert main(["reader-study", "analyse", str(table), "--jackknife"]) == 1
    assert "independent" in capsys.readouterr().err


def test_simulated_power_rises_with_the_effect(capsys: pytest.CaptureFixture[str]) -> None:
    size = ["--readers", "3", "--positives", "20", "--negatives", "20", "--runs", "40"]
    found = []
    for effect in ("0", "2"):
        assert main(["reader-study", "power", *size, "--effect", effect, "--json"]) == 0
        found.append(json.loads(capsys.readouterr().out))
    assert found[0]["coverage"] > 0.8 and found[1]["coverage"] > 0.8
    assert found[0]["power"] < 0.25 < found[1]["power"] and found[1]["difference"] > 0.05
    assert found[1]["ci"][0] <= found[1]["power"] <= found[1]["ci"][1]
    assert main(["reader-study", "power", *size, "--effect", "2", "--groups", "2", "--readers", "4", "--json"]) == 0
    dealt = json.loads(capsys.readouterr().out)
    assert main(["reader-study", "power", *size, "--effect", "2", "--groups", "2", "--readers", "4", "--json",
                 "--shared", "20"]) == 0  # fmt: skip
    shared = json.loads(capsys.readouterr().out)
    assert main(["reader-study", "power", *size, "--effect", "2", "--readers", "4", "--json"]) == 0
    assert dealt["power"] < shared["power"] <= json.loads(capsys.readouterr().out)["power"]
    assert main(["reader-study", "power", *size, "--effect", "0", "--readers", "1"]) == 1
    assert "two or more readers" in capsys.readouterr().err


def test_cases_that_may_be_one_are_said_and_one_reader_in_two_forms_of_letters_is_one(
    table: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    rows = table.read_text().splitlines()
    table.write_text("\n".join(row.replace(",1,2,", ",1,02,") if ",1,2," in row else row for row in rows))
    rows = [
        ",".join([{"1": "re\u0301", "2": "r\u00e9"}.get(row.split(",")[0], "x"), *row.split(",")[1:]]) for row in rows
    ]
    with pytest.raises(InvalidInput, match="A reader has two scores"):
        read_study("\n".join(["reader,treatment,case,truth,rating", *rows[1:]]).encode())
    assert main(["reader-study", "analyse", str(table)]) == 0
    assert "The cases of rows" in capsys.readouterr().out
    assert "differ only in capital letters" in read_study(table.read_bytes()).remarks[0]


def test_two_cases_of_each_group_are_its_own() -> None:
    sizes = {"readers": 4, "positives": 5, "negatives": 5, "effect": 0.5, "runs": 2, "seed": 0}
    for shared in (1, 6):
        assert simulated_power(**sizes, groups=2, shared=shared)["runs"] == 2
    for groups, shared in ((2, 7), (1, 1), (2, -1)):
        with pytest.raises(InvalidInput, match="Cases that all groups read are fewer"):
            simulated_power(**sizes, groups=groups, shared=shared)


def test_the_whole_of_modalities_readers_and_cases_is_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    reads = [(modality, reader, "0", 1.0) for modality in "ab" for reader in "AB"]
    truths = {str(number): number > 0 for number in range(30)}  # 2 x 2 x 30 = 120
    monkeypatch.setattr(reader_studies, "MAX_READS", 12)
    assert reader_studies._study(reads, truths, {}).scores.shape == (2, 2, 30)
    monkeypatch.setattr(reader_studies, "MAX_READS", 11)
    with pytest.raises(InvalidInput, match="too many modalities, readers and cases"):
        reader_studies._study(reads, truths, {})


@pytest.mark.parametrize("column", ["reader", "modality"])
def test_readers_and_modalities_that_may_be_one_are_refused_with_their_rows(column: str) -> None:
    rows = ["A,x,1,0,2", "a,x,1,0,2"] if column == "reader" else ["A,x,1,0,2", "A,X,1,0,2"]
    with pytest.raises(InvalidInput, match=f"Rows 2, 3: names of a {column} differ only in capital"):
        read_study("\n".join(["reader,modality,case,truth,score", *rows]).encode())
    began = ["BEGIN DATA:", "-1,1,0,1", "A,1,x,1", "a,1,x,1" if column == "reader" else "A,1,X,1"]
    with pytest.raises(InvalidInput, match="Rows 3, 4"):
        read_study("\n".join(began).encode())


def test_of_patients_with_several_cases_neither_dbm_nor_the_u_statistics_p_is_printed(
    table: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    head, *rows = table.read_text().splitlines()
    place = head.split(",").index("case")
    with_patients = [f"{row},p{int(row.split(',')[place]) // 2}" for row in rows]
    table.write_text("\n".join([f"{head},patient", *with_patients]))
    assert main(["reader-study", "analyse", str(table), "--margin", "0.5"]) == 0
    text = capsys.readouterr().out
    assert "here patients have several" in text and "DBM (" not in text
    assert not any(", z " in line or "variance 0" in line for line in text.splitlines() if line.startswith("  1 vs 2"))
    assert '"not inferior by the margin": ' in text and ", shown at 0.025" in text
