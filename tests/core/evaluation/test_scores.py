"""What a table of scores may hold, and the sentence for everything else."""

from __future__ import annotations

import csv
import io
import time
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from core.errors import AppError, InvalidInput, NotFound
from core.evaluation.statistics.summary import evaluate_table
from core.evaluation.tables import scores
from core.evaluation.tables.scores import (
    MAX_COLUMNS,
    MAX_LETTERS,
    MAX_ROWS,
    Commas,
    LeftOut,
    Scale,
    left_out_columns,
    read_scores,
    safe_csv,
)

GOOD = """case,patient,label,model,other,density,size,fold
a,p1,0,0.1,0,b,12,0
b,p1,1,0.9,1,c,40,1
c,p2,0,,0.25,b,17,2
d,p3,1,0.4,NA,,90,3
"""


def read(text: str, **options: object) -> object:
    return read_scores(text.encode(), **options)  # type: ignore[arg-type]


def test_columns_of_numbers_between_0_and_1_are_scorers_and_the_rest_are_subgroups():
    table = read_scores(GOOD.encode())
    assert list(table.scorers) == ["model", "other"]
    assert list(table.subgroups.columns) == ["density", "size", "fold"]
    assert (table.n, table.positives, table.positive) == (4, 2, "1")
    assert np.array_equal(table.scorers["model"], [0.1, 0.9, np.nan, 0.4], equal_nan=True)
    assert np.isnan(table.scorers["other"][3])


def test_named_scorers_keep_the_order_they_were_named_in():
    assert list(read_scores(GOOD.encode(), scorers=["other", "model"]).scorers) == ["other", "model"]
    with pytest.raises(InvalidInput, match="no column of scores 'third'"):
        read(GOOD, scorers=["third"])
    with pytest.raises(InvalidInput, match="row 2, column 'size', lies outside 0 to 1"):
        read(GOOD, scorers=["size"])


def test_many_columns_are_compared_in_no_time():
    names = ",".join(f"m{number}" for number in range(MAX_COLUMNS - 3))
    began = time.process_time()
    with pytest.raises(InvalidInput, match="no cases"):
        read(f"case,patient,label,{names}\n")
    assert time.process_time() - began < 0.5


def test_class_names_need_the_positive_one():
    text = GOOD.replace(",0,0.1", ",benign,0.1").replace(",1,0.9", ",malignant,0.9")
    text = text.replace("p2,0", "p2,benign").replace("p3,1", "p3,malignant")
    assert list(read_scores(text.encode(), positive="malignant").is_positive) == [False, True, False, True]
    with pytest.raises(InvalidInput, match="say which label counts as positive"):
        read(text)
    with pytest.raises(InvalidInput, match=r"No case is labelled 'cancer'\. The labels are: benign, malignant"):
        read(text, positive="cancer")


THREE = """case,patient,label,net:benign,net:malignant,net:normal,reader
a,1,benign,.7,.2,.1,.3
b,2,malignant,.2,.7,.1,.9
c,3,normal,.1,.1,.8,0
d,4,normal,.2,.6,.2,.2
"""


def test_columns_model_class_are_one_scorer():
    table = read_scores(THREE.encode(), positive="malignant")
    assert list(table.scorers) == ["net", "reader"]
    assert list(table.scorers["net"]) == [0.2, 0.7, 0.1, 0.6]
    assert table.class_scorers["net"].classes == ("benign", "malignant", "normal")
    result = evaluate_table(table, resamples=50)
    assert result.scorers[0].matrix is not None and result.scorers[0].matrix.tolist() == [
        [1, 0, 0],
        [0, 1, 0],
        [0, 1, 1],
    ]
    assert result.scorers[0].measures["accuracy"].value == 0.75
    assert "macro_auc" not in result.scorers[1].measures
    only = evaluate_table(read_scores(THREE.encode(), scorers=["net"]), resamples=50)
    assert only.positives is None and "auc" not in only.scorers[0].measures


@pytest.mark.parametrize("other", ["Malignant", "MALIGNANT", "\uff4dalignant"])
def test_labels_that_differ_only_in_spelling_are_refused_and_never_count_as_negative(other: str):
    text = f"case,patient,label,m\na,1,benign,.1\nb,2,malignant,.9\nc,3,{other},.8\n"
    with pytest.raises(InvalidInput, match=f"'malignant' .row 3. and '{other}' .row 4. differ only in how"):
        read_scores(text.encode(), positive="malignant")


def test_columns_of_classes_find_their_labels_in_any_spelling():
    table = read_scores(THREE.replace("net:malignant", "net:Malignant").encode(), positive="malignant")
    assert list(table.scorers) == ["net", "reader"] and list(table.scorers["net"]) == [0.2, 0.7, 0.1, 0.6]
    twice = "case,patient,label,net:no,net:yes,net:YES\na,1,no,.9,.1,.2\nb,2,yes,.1,.8,.3\n"
    with pytest.raises(InvalidInput, match="Two columns of net are of one class"):
        read(twice, positive="yes")


OTHER_SCALES = """case,patient,label,p,percent,sign,logit,comma,age,bird
a,1,0,.1,10,10 %,-2.2,"0,1",150,x
b,2,1,.9,90,90%,2.2,"0,9",140,y
c,3,0,.2,20,20 %,-1.4,"0,2",130,x
d,4,1,.7,NA,,0.8,"0,7",,y
"""


def test_a_scorer_on_another_scale_is_named_with_what_is_right():
    table = read_scores(OTHER_SCALES.encode())
    assert list(table.scorers) == ["p"]
    assert [(one.name, one.low, one.high, one.scale) for one in table.left_out] == [
        ("percent", 10, 90, Scale.PER_CENT), ("sign", 10, 90, Scale.PER_CENT), ("logit", -2.2, 2.2, Scale.LOG_ODDS),
        ("comma", 0.1, 0.9, None), ("age", 130, 150, None),
    ]  # fmt: skip
    assert table.left_out == left_out_columns(OTHER_SCALES.encode())
    said = " ".join(evaluate_table(table, resamples=20).warnings)
    for words in ("'percent'", "in per cent, say so", "in log odds, say so", "with commas. Write them with points"):
        assert words in said, words
    with pytest.raises(InvalidInput, match=r"No column holds scores.*'percent' was not taken as scores"):
        read(OTHER_SCALES.replace(",p,", ",p_,").replace(",.1,", ",x,").replace(",.9,", ",x,").replace(",.2,", ",x,"))


def test_what_is_said_to_be_per_cent_or_log_odds_is_a_scorer():
    scales = {"percent": Scale.PER_CENT, "sign": Scale.PER_CENT, "logit": Scale.LOG_ODDS}
    table = read_scores(OTHER_SCALES.encode(), scales=scales)
    assert list(table.scorers) == ["p", "percent", "sign", "logit"]
    assert np.allclose(table.scorers["percent"], [0.1, 0.9, 0.2, np.nan], equal_nan=True)
    assert np.array_equal(table.scorers["percent"], table.scorers["sign"], equal_nan=True)
    assert np.allclose(table.scorers["logit"], 1 / (1 + np.exp([2.2, -2.2, 1.4, -0.8])))
    assert table.sha256 != read_scores(OTHER_SCALES.encode()).sha256
    with pytest.raises(InvalidInput, match="column 'age', lies outside 0 to 1"):
        read(OTHER_SCALES, scales={"age": Scale.PER_CENT})
    with pytest.raises(InvalidInput, match="no column of scores 'nobody' to take as per cent"):
        read(OTHER_SCALES, scales={"nobody": Scale.PER_CENT})


def test_a_model_with_classes_in_per_cent_is_one_scorer():
    text = "case,patient,label,net:no,net:yes\na,1,no,90,10\nb,2,yes,20,80\nc,3,no,60,40\n"
    assert left_out_columns(text.encode()) == (LeftOut("net", 10, 90, Scale.PER_CENT),)
    for name in ("net", "net:yes"):
        table = read_scores(text.encode(), positive="yes", scales={name: Scale.PER_CENT})
        assert list(table.scorers) == ["net"] and list(table.scorers["net"]) == [0.1, 0.8, 0.4]


def test_no_sentence_shows_how_a_text_is_stored():
    text = "case,patient,label,benign,malignant\na,1,benign,.7,2\nb,2,malignant,.2,.7\nc,3,benign,.2,.1\n"
    for options in ({}, {"positive": "malignant"}, {"positive": "cancer"}, {"scorers": ["x"]}):
        with pytest.raises(AppError) as refusal:
            read(text, **options)
        assert "np." not in str(refusal.value), str(refusal.value)
    table = read_scores(text.replace(",2\n", ",.3\n").encode(), positive="malignant")
    assert all(type(name) is str for name in (*table.scorers, *table.class_scorers["malignant"].classes))


def test_columns_named_as_the_labels_are_one_scorer_as_in_a_shipped_table():
    text = THREE.replace("net:", "").replace(",reader", "").replace(",.3\n", "\n").replace(",.9\n", "\n")
    text = text.replace(",.8,0\n", ",.8\n").replace(",.2,.2\n", ",.2\n")
    table = read_scores(text.encode(), positive="malignant")
    assert list(table.scorers) == ["malignant"] and list(table.class_scorers) == ["malignant"]


def test_cases_missing_for_one_model_are_said_and_left_out_of_its_measures():
    result = evaluate_table(read_scores(GOOD.encode()), resamples=50)
    assert [(one.n, one.missing) for one in result.scorers] == [(3, 1), (3, 1)]
    assert "model has no score for 1" in result.warnings[0]


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (("label,", "truth,"), "column 'label' is missing"),
        (("patient,", "person,"), "column 'patient' is missing"),
        (("case,", "id,"), "column 'case' is missing"),
        (("0.9", "1.9"), "row 3, column 'model', lies outside 0 to 1"),
        (("0.9", "high"), "row 3, column 'model', is not a number"),
        (("0.9", "nan"), "row 3, column 'model', is not a number"),
        (("0.9", "inf"), "row 3, column 'model', lies outside"),
        (("\nb,", "\na,"), "Rows 2 and 3 name the same case"),
        (("\nb,", "\n,"), "Row 3 has no case"),
        (("p2,0", "p2,"), "Row 4 has no label"),
        (("p2,0", "p2,2"), "label in row 4 is a number other than 0 and 1"),
        (("\nb,", "\n=HYPERLINK(1),"), "case in row 3 begins like a spreadsheet's formula"),
        (("model", "=cmd"), "name of column 4 begins like a spreadsheet's formula"),
        (("other", "model"), "Two columns are named 'model'"),
        (("other", ""), "Column 5 has no name"),
        ((",12,0", ",12"), "Row 2 has 7 cells and the header 8"),
        (("a,p1", 'a,"p1'), "quotes do not match"),
    ],
)
def test_a_bad_table_is_refused_with_a_sentence_that_names_the_place(change: tuple[str, str], words: str):
    with pytest.raises(InvalidInput, match=words) as refusal:
        read(GOOD.replace(change[0], change[1], 1))
    assert "HYPERLINK" not in str(refusal.value) and "high" not in str(refusal.value)


@pytest.mark.parametrize(
    ("data", "words"),
    [
        (b"", "no header"),
        (b"case,patient,label,model\n", "no cases"),
        (b"case;patient;label\n1;1;1\n", "not separated by commas"),
        (b"PK\x03\x04\x00\xff\xfe", "not UTF-8"),
        (b"PK\x03\x04\x00", "not text"),
        (b"case,patient,label,m\na,1,1,.5\nb,2,1,.6\n", "All 2 cases have the same label"),
        (b"case,patient,label,m\na,1,1,.5\n", "one case only. Measures need positive and negative cases"),
        (b"case,patient,label,age\na,1,1,50\nb,2,0,60\n", "No column holds scores"),
        (b"case,patient,label,m\n" + b"1,1,1,.5\n" * (MAX_ROWS + 2), "more than 100,000 rows"),
        (b"case,patient,label," + b",".join(b"m%d" % n for n in range(MAX_COLUMNS)) + b"\n", "more than 5,000 columns"),
        (b"case,patient,label,m\n1,1,1,.5\n2," + b"x" * (MAX_LETTERS + 1) + b",0,.5\n", "row 3 is longer than 1,000"),
        (b"case,patient,label,m\n" + b"x" * 200_000 + b",1,1,.5\n", "far too long"),
    ],
)
def test_a_file_that_is_no_table_of_scores_is_refused(data: bytes, words: str):
    with pytest.raises(InvalidInput, match=words):
        read_scores(data)


def test_a_file_that_is_not_there_is_a_refusal(tmp_path: Path):
    with pytest.raises(NotFound):
        read_scores(tmp_path / "none.csv")


def test_a_scorer_without_both_classes_is_named():
    text = "case,patient,label,m,k\na,1,1,.5,\nb,2,0,.6,.1\nc,3,0,.6,.2\n"
    with pytest.raises(AppError, match="'k' scored are not of both classes"):
        evaluate_table(read_scores(text.encode()), resamples=20)


def test_blank_lines_a_byte_order_mark_and_windows_line_ends_do_no_harm():
    text = "\ufeff" + GOOD.replace("\n", "\r\n") + "\r\n,,,,,,,\r\n"
    assert read_scores(text.encode()).n == 4


def test_a_carriage_return_in_a_cell_begins_no_row_and_so_no_formula():
    table = pd.DataFrame({"a": ["x\r=1+1", "y\r\n=2+2"], "b\r=3+3": ["1", "2"]})
    rows = list(csv.reader(io.StringIO(safe_csv(table), newline="")))
    assert rows == [["a", "b\n=3+3"], ["x\n=1+1", "1"], ["y\n=2+2", "2"]]


def test_a_download_opens_again_and_starts_no_formula():
    table = pd.DataFrame({"name": ["=1+1", "+a", "-0.5", "plain", "@x"], "=head": [-0.5, 1, 2, 3, 4]})
    text = safe_csv(table)
    again = pd.read_csv(io.StringIO(text))
    assert list(again["name"]) == ["'=1+1", "'+a", "-0.5", "plain", "'@x"]
    assert list(again.columns) == ["name", "'=head"] and again["'=head"][0] == -0.5


SCORED = "case,patient,label,{}\na,1,{},{}\nb,2,{},{}\nc,3,{},{}\nd,4,{},{}\n"


def _scored(labels: tuple[str, ...], cells: tuple[str, ...], name: str = "m") -> str:
    return SCORED.format(name, *(value for pair in zip(labels, cells, strict=True) for value in pair))


FOUR = ("0.9", "0.1", "0.8", "0.2")


@pytest.mark.parametrize("unseen", ["\u200b", "\ufeff", "\u200e", "\u00ad"])
def test_a_letter_that_nobody_sees_makes_no_second_class_out_of_cancers(unseen):
    with pytest.raises(InvalidInput, match=r"row 2.*row 4.*only in how they are spelled"):
        read(_scored(("malignant", "benign", f"malig{unseen}nant", "benign"), FOUR), positive="malignant")


@pytest.mark.parametrize("word", ["NA", "nan", "N/A", "null", "#N/A"])
@pytest.mark.parametrize(("yes", "no"), [("1", "0"), ("malignant", "benign")])
def test_a_case_of_which_nothing_is_known_is_no_negative_one(word, yes, no):
    with pytest.raises(InvalidInput, match="label in row 4 says that nothing is known"):
        read(_scored((yes, no, word, no), FOUR), positive=yes)


def test_labels_are_numbers_or_words_and_not_both():
    with pytest.raises(InvalidInput, match="label in row 4 is a word, and others are 0 and 1"):
        read(_scored(("1", "0", "TRUE", "0"), FOUR), positive="1")


@pytest.mark.parametrize("name", ["net:benign", "benign", "Net: Benign"])
def test_a_probability_of_the_negative_label_is_not_taken_for_one_of_the_positive(name):
    text = f"case,patient,label,{name},net2\na,1,malignant,0.1,0.9\nb,2,benign,0.9,0.2\n"
    table = read(text, positive="malignant")
    assert list(table.scorers) == ["net2"]
    assert [str(one) for one in table.left_out] == [
        f"The column {name!r} was not taken as scores of the positive label: by its name they are those of 'benign'."
    ]


def test_columns_of_labels_that_are_numbers_are_found_however_the_numbers_are_written():
    table = read("case,patient,label,a:0.0,a:1.0\n1,1,0.0,.9,.1\n2,2,1.0,.2,.8\n")
    assert {name: values.tolist() for name, values in table.scorers.items()} == {"a": [0.1, 0.8]}


@pytest.mark.parametrize("bad", ["nan", "<0.01", "#DIV/0!", "1 000"])
def test_a_column_of_scores_most_of_which_are_unreadable_does_not_vanish_without_a_sentence(bad):
    table = read(_scored(("1", "0", "1", "0"), (f"{bad},0.9", f"{bad},0.1", "0.5,0.8", "0.4,0.2"), "net,other"))
    assert list(table.scorers) == ["other"]
    assert ["2 of its cells are no number" in str(one) for one in table.left_out] == [True]


def test_a_column_with_some_decimal_commas_is_not_offered_as_per_cent():
    cells = ('"0,1",0.9', "0.9,0.1", '"0,8",0.8', "0.2,0.2")
    (left_out,) = read(_scored(("1", "0", "1", "0"), cells, "net,other")).left_out
    assert (left_out.scale, left_out.commas) == (None, Commas.DECIMALS)


def test_log_odds_carry_no_sign_of_per_cent():
    with pytest.raises(InvalidInput, match="row 2, column 'm', is not a number"):
        read(_scored(("1", "0", "1", "0"), ("10%", "-1", "2", "-3")), scales={"m": Scale.LOG_ODDS})


def test_one_case_in_two_forms_of_a_letter_is_one_case():
    with pytest.raises(InvalidInput, match="Rows 2 and 3 name the same case"):
        read("case,patient,label,m\n\u00e9,1,0,.1\ne\u0301,1,0,.1\nb,2,1,.9\n")


@pytest.mark.parametrize(
    "other", ["MALIGN", "malig.", "Malignancy", "cancerous", "malginant", "malignant?", "positive"]
)
def test_two_labels_that_may_mean_the_same_class_are_refused_with_their_rows(other):
    with pytest.raises(InvalidInput, match=r"'MALIGNANT' \(row 2\) and .* \(row 4\) may mean the same class"):
        read(_scored(("MALIGNANT", "benign", other, "benign"), FOUR), positive="MALIGNANT")


@pytest.mark.parametrize(
    ("labels", "positive", "words"),
    [
        (("malignant", "benign", "malignant mass", "normal"), "malignant", r"'malignant mass' \(row 4\) names the pos"),
        (("malignant", "benign", "suspected cancer", "normal"), "malignant", "would count as negative"),
        (("malignant", "benign", "1", "normal"), "malignant", "label in row 4 is 0 or 1, and others are words"),
    ],
)
def test_a_label_that_hides_positive_cases_never_counts_as_negative(labels, positive, words):
    with pytest.raises(InvalidInput, match=words):
        read(_scored(labels, FOUR), positive=positive)


@pytest.mark.parametrize(
    ("labels", "positive"),
    [
        (("MALIGNANT", "BENIGN", "BENIGN_WITHOUT_CALLBACK", "BENIGN"), "MALIGNANT"),
        (("malignant", "not_malignant", "benign", "cancer-free"), "malignant"),
        (("ductal carcinoma", "lobular carcinoma", "typical", "atypical"), "ductal carcinoma"),
        (("4A", "4B", "grade I", "grade II"), "4B"),
        (("her2+", "her2-", "abnormal", "normal"), "her2+"),
        (("M", "F", "M", "F"), "M"),
    ],
)
def test_classes_that_are_different_stay_so(labels, positive):
    assert read(_scored(labels, FOUR), positive=positive).positives >= 1


@pytest.mark.parametrize("cell", ["", "NA", "nan", "-", "\u200b"])
def test_a_column_without_any_value_is_said_and_a_model_of_such_columns_once(cell):
    rows = "".join(f"{case},{case},{label},.{case},{cell},{cell},{cell}\n" for case, label in enumerate("0101"))
    table = read(f"case,patient,label,m,other,net:0,net:1\n{rows}")
    assert [(one.name, one.is_empty) for one in table.left_out] == [("other", True), ("net", True)]
    assert "'other' was not taken as scores: it holds no value in any row" in str(table.left_out[0])
    assert left_out_columns(f"case,patient,label,m,other,net:0,net:1\n{rows}".encode()) == table.left_out


@pytest.mark.parametrize(
    ("cells", "commas", "low", "high"),
    [
        (('"1,000"', '"2,500"', "3", '"4,000"'), Commas.EITHER, 3, 4000),
        (('"1,000"', '"2,500.5"', "3", '"4,000"'), Commas.THOUSANDS, 3, 4000),
        (('"1,000"', '"2,500,000"', "3", '"4,000"'), Commas.THOUSANDS, 3, 2_500_000),
        (('"1,000"', '"2,5"', "3", '"4,000"'), Commas.DECIMALS, 1, 4),
        (('"0,125"', '"0,900"', "3", '"1.000,5"'), Commas.DECIMALS, 0.125, 1000.5),
    ],
)
def test_commas_are_called_decimals_only_where_they_can_be_nothing_else(cells, commas, low, high):
    (found,) = read(
        _scored(("1", "0", "1", "0"), tuple(f"{cell},0.{n}" for n, cell in enumerate(cells)), "x,m")
    ).left_out
    assert (found.commas, found.scale, found.low, found.high) == (commas, None, low, high)
    said = {"either": "may part thousands or begin decimals", "thousands": "part thousands", "decimals": "with points"}
    assert said[commas] in str(found)


def test_names_that_may_be_one_patient_or_case_are_counted_apart_and_that_is_said():
    rows = "a,P01,0,.1\nA,p1,1,.2\nb,3,0,.3\nc,3.0,1,.4\nd,1.05,0,.5\ne,1.5,1,.6\n"
    table = read(f"case,patient,label,m\n{rows}")
    assert len(set(table.patients)) == 6 and len(set(table.cases)) == 6
    said = " ".join(evaluate_table(table, resamples=20).warnings)
    assert "The patients of rows 2, 3; 4, 5 differ only in capital letters, blanks, hyphens or leading zeros" in said
    assert "cases of rows" not in said, "the same rows are not named twice"
    (cases,) = read("case,patient,label,m\n01,p,0,.1\n1,p,1,.2\nx,q,1,.2\n").remarks
    assert cases.startswith("The cases of rows 2, 3 differ")
    assert read(GOOD).remarks == ()


@pytest.mark.parametrize(
    "form", ["re\u0301my1", "R\u00e9my1".lower() + "\u00a0", "r\u00e9my\uff11", "r\u00e9\u200bmy1"]
)
def test_one_patient_in_two_forms_of_letters_is_one_patient(form):
    table = read(f"case,patient,label,m\na,r\u00e9my1,0,.1\nb,{form},1,.2\nc,{form},1,.3\nd,q,1,.3\n")
    assert set(table.patients) == {"r\u00e9my1", "q"} and table.remarks == ()


def test_a_scorer_that_is_named_for_another_label_is_refused_where_it_was_asked_for():
    text = "case,patient,label,a:benign,a:malignant,p_benign\nx,1,malignant,.1,.9,.1\ny,2,benign,.9,.1,.9\n"
    for name in ("a:benign", "p_benign"):
        with pytest.raises(InvalidInput, match=f"'{name}' holds by its name the scores of 'benign', and 'malignant'"):
            read(text, positive="malignant", scorers=[name])
    assert list(read(text, positive="malignant", scorers=["a:malignant", "a"]).scorers) == ["a:malignant", "a"]
    assert [one.name for one in read(text, positive="malignant").left_out] == ["p_benign"]


@pytest.mark.parametrize(
    ("name", "is_scorer"),
    [("normal", False), ("net_not_malignant", False), ("P(benign)", False), ("not_cancer", False),
     ("malignant", True), ("model_0", True), ("b", True), ("normalised", True), ("benign vs malignant", True),
     ("no_mixup", True)],
)  # fmt: skip
def test_a_column_named_for_the_healthy_is_no_score_of_illness(name, is_scorer):
    labels = ("1", "0", "1", "0") if "malignant" not in name else ("malignant", "benign", "malignant", "benign")
    table = read(_scored(labels, tuple(f"{cell},{cell}" for cell in FOUR), f"{name},m"), positive=labels[0])
    assert (name in table.scorers) is is_scorer


@pytest.mark.parametrize("word", ["unknown", "pending", "?", "n.a.", "#VALUE!", "Indeterminate"])
def test_a_case_of_which_nobody_knows_yet_is_no_negative_one(word):
    with pytest.raises(InvalidInput, match="label in row 4 says that nothing is known"):
        read(_scored(("malignant", "benign", word, "normal"), FOUR), positive="malignant")


@pytest.mark.parametrize(
    ("labels", "positive"),
    [
        (("BIRADS 5", "BIRADS 2", "BI-RADS 5", "benign"), "BIRADS 5"),
        (("tumor", "none", "tumour", "none"), "tumor"),
        (("malignant", "benign", "DCIS", "benign"), "malignant"),
        (("malignant", "benign", "\u60aa\u6027", "\u826f\u6027"), "malignant"),
    ],
)
def test_words_of_the_field_and_of_other_languages_hide_no_cancer(labels, positive):
    with pytest.raises(InvalidInput, match=r"may mean the same class|would count as negative"):
        read(_scored(labels, FOUR), positive=positive)


@pytest.mark.parametrize(
    "cells", [("\u22121", "\u22122", "1", "2"), ("0;5", "0;4", "0;3", "0;2"), ("0\u00b75", "0\u00b74", "1", "0"),
              ("'0.5", "'0.4", "~0.3", "(0.2)"), ("1 000", "2'000", "3 000", "4 000"), ("NULL", "NULL", "NULL", "1")]
)  # fmt: skip
def test_numbers_that_no_program_reads_do_not_vanish_without_a_sentence(cells):
    table = read(_scored(("1", "0", "1", "0"), tuple(f"{cell},0.{n}" for n, cell in enumerate(cells)), "x,m"))
    assert ["of its cells are no number" in str(one) for one in table.left_out] == [True]


def test_groups_of_dates_ages_and_words_are_no_scores_and_nothing_is_said_of_them():
    cells = ("2020-01-02,40-49,dense,12x30", "2020-01-03,50-59,fatty,10x12", "x,y,z,w", "2020-01-04,40-49,dense,1x2")
    table = read(_scored(("1", "0", "1", "0"), tuple(f"{cell},0.{n}" for n, cell in enumerate(cells)), "day,age,d,s,m"))
    assert table.left_out == () and list(table.subgroups.columns) == ["day", "age", "d", "s"]


def test_whole_numbers_among_words_are_grades_and_0_is_one_of_them():
    cells = ("none,0.1", "0,0.2", "slight,0.3", "strong,0.4")
    assert read(_scored(("1", "0", "1", "0"), cells, "grade,m")).left_out == ()
    one_fraction = ("none,0.1", "0.5,0.2", "slight,0.3", "strong,0.4")
    assert [one.name for one in read(_scored(("1", "0", "1", "0"), one_fraction, "grade,m")).left_out] == ["grade"]


def test_per_cent_with_and_without_its_sign_is_never_guessed():
    text = _scored(("1", "0", "1", "0"), ("10%,.1", "0.2,.2", "30%,.3", "0,.4"), "x,m")
    (left_out,) = read(text).left_out
    assert left_out.scale is None and "a sign of per cent and others none" in str(left_out)
    with pytest.raises(InvalidInput, match="'x' have a sign of per cent and others none"):
        read(text, scales={"x": Scale.PER_CENT})


@pytest.mark.parametrize("patient", ["NA", "nan", "Unknown", "?"])
def test_patients_of_whom_nobody_knows_who_they_are_are_not_one(patient):
    with pytest.raises(InvalidInput, match="patient in row 3 says that nobody knows who it is"):
        read(f"case,patient,label,m\na,1,1,.5\nb,{patient},0,.1\nc,{patient},0,.2\n")


def test_two_columns_of_one_name_in_two_forms_of_letters_are_refused():
    with pytest.raises(InvalidInput, match="Two columns are named"):
        read("case,patient,label,r\u00e9,re\u0301\na,1,1,.5,.5\nb,2,0,.1,.1\n")


def test_a_file_larger_than_the_bound_is_refused_with_the_bound_before_it_is_read(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(scores, "MAX_BYTES", 3 << 20)
    words = r"^The file is larger than 3 MB\. Keep the columns that are needed\.$"
    for extra, match in ((0, "a cell is far too long"), (1, words)):
        data = b"a" * ((3 << 20) + extra)
        with pytest.raises(InvalidInput, match=match):
            scores.read_scores(data)
        (tmp_path / "large.csv").write_bytes(data)
        with pytest.raises(InvalidInput, match=match):
            scores.read_scores(tmp_path / "large.csv")


def test_a_table_of_one_patient_is_refused_and_one_of_two_is_not():
    rows = [f"{number},{{}},{number % 2},0.{number}" for number in range(1, 9)]
    with pytest.raises(InvalidInput, match="All 2 cases are of one patient"):
        read("\n".join(["case,patient,label,a", *(row.format(7) for row in rows[:2])]))
    with pytest.raises(InvalidInput, match="All 8 cases are of one patient"):
        read("\n".join(["case,patient,label,a", *(row.format(7) for row in rows)]))
    two = read("\n".join(["case,patient,label,a", *(row.format(number // 5) for number, row in enumerate(rows))]))
    assert set(two.patients) == {"0", "1"}
