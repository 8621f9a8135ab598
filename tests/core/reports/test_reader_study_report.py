"""The report of a reader study: the order of STARD, the numbers of the analysis, and nobody's name."""

from __future__ import annotations

import io
import re
from dataclasses import replace
from datetime import UTC, datetime

import numpy as np
from pypdf import PdfReader

from core.evaluation.statistics.reader_study import Difference, RoeMetz, dealt_out, simulate
from core.evaluation.statistics.reader_study_summary import analyse
from core.reports.document import Heading, Table
from core.reports.html import build_html
from core.reports.pdf import build_pdf
from core.reports.reader_study import ReaderStudyReport, reader_study_document
from core.reports.reader_study import _conclusion as conclusion_of

STUDY = simulate(RoeMetz(), readers=4, positives=16, negatives=20, rng=np.random.default_rng(2), effect=1.5)


def report(**changes: object) -> ReaderStudyReport:
    given = ReaderStudyReport(
        title="Does it <help>?", study=STUDY, summary=analyse(STUDY, cut=1.0, margin=0.05, partial=(0.8, 1.0)),
        made_at=datetime(2026, 3, 4, tzinfo=UTC), made_by="Dr Two", question="Is <b>aided</b> better?", cut=1.0,
        margin=0.05, design=[("Readers", "4 readers, fully crossed")], registration=[("Protocol", "sha256 abcd")],
        times=[["reader 1", "unaided", "12.5", "14.0", "36"]], limits=["5 reads are missing."],
    )  # fmt: skip
    return replace(given, **changes)  # type: ignore[arg-type]


def test_the_parts_come_in_the_order_of_stard_and_both_formats_say_the_same() -> None:
    document = reader_study_document(report())
    headings = [block.words for block in document.blocks if isinstance(block, Heading) and block.level == 2]
    assert headings == ["Summary", "Introduction", "Methods", "Results", "Limits", "Other information"]
    html = build_html(document)
    text = " ".join("\n".join(page.extract_text() for page in PdfReader(io.BytesIO(build_pdf(document))).pages).split())
    one = report().summary["area"]["analyses"][0]["differences"][0]
    for expected in (f"{one['value']:+.4f}", "Mean sensitivity at specificities of 0.8 to 1", "12.5", "sha256 abcd",
                     "5 reads are missing.", "Binormal area",
                     "not inferior in area by a margin of 0.05", "score of 1 on"):  # fmt: skip
        assert expected in html and expected in text, expected
    assert "Is &lt;b&gt;aided&lt;/b&gt; better?" in html and "Is <b>aided</b> better?" in text


def test_the_table_of_readers_holds_every_readers_value_and_their_mean() -> None:
    found = report().summary["area"]
    table = next(block for block in reader_study_document(report()).blocks if isinstance(block, Table))
    assert table.rows[0] == ["Reader", "first", "second"] and len(table.rows) == 6
    for row, name in zip(table.rows[1:5], STUDY.readers, strict=True):
        assert row == [name, *(f"{found['by_reader'][one][name]:.3f}" for one in STUDY.modalities)]
    assert table.rows[-1][1].startswith(f"{found['means'][0]['value']:.3f}")


def test_the_summary_says_which_way_a_clear_difference_goes_and_that_another_is_none() -> None:
    assert "larger under second than first" in build_html(reader_study_document(report()))
    same = simulate(RoeMetz(), readers=4, positives=16, negatives=20, rng=np.random.default_rng(2))
    html = build_html(reader_study_document(report(study=same, summary=analyse(same))))
    assert "does not show a difference between first and second" in html


def test_where_nothing_varies_the_report_says_why_nothing_is_tested() -> None:
    perfect = replace(STUDY, scores=np.broadcast_to(STUDY.is_positive * 1.0, STUDY.scores.shape))
    document = reader_study_document(report(study=perfect, summary=analyse(perfect, cut=0.5, margin=0.05)))
    html = build_html(document)
    text = " ".join("\n".join(page.extract_text() for page in PdfReader(io.BytesIO(build_pdf(document))).pages).split())
    for said in (html, text):
        assert "first minus second: +0.0000; the standard error comes out as 0, which would claim" in said
        assert "neither a difference between first and second nor that there is none" in said
        assert "is not tested" in said and "DBM (jackknife pseudovalues): no F, as the standard error" in said
        assert "Fixed readers, random cases: first minus second" in said and "by patients, stands in" in said
        assert "0.806 to 1.000" in said and not re.search(r"\b(nan|inf|None)\b|\+0.0000 to", said)
    table = [block for block in document.blocks if isinstance(block, Table)][1]
    assert [row[3:] for row in table.rows[1:]] == [["", "0", "", "", "", ""]] * 3


def test_not_inferior_is_shown_or_not_at_one_half_of_the_level() -> None:
    study = simulate(RoeMetz(), readers=4, positives=16, negatives=20, rng=np.random.default_rng(2))
    low = analyse(study)["area"]["analyses"][0]["differences"][0]["low"]
    assert low < 0
    for margin, expected in ((-low + 0.001, ", shown at 0.025."), (-low - 0.001, ", not shown at 0.025.")):
        summary = analyse(study, margin=margin)
        html = build_html(reader_study_document(report(study=study, summary=summary)))
        p = summary["area"]["not_inferior"]["first vs second"]
        assert f"first vs second: one-sided p for &#34;not inferior by the margin&#34;: {p:.3g}{expected}" in html
    assert "the first is not inferior" not in html


def test_of_several_pairs_a_difference_is_one_where_p_adjusted_by_holm_says_so() -> None:
    one = Difference("a", "b", value=0.1, se=0.04, df=12, low=0.01, high=0.19, t=2.3, p=0.04, p_holm=0.04)
    assert conclusion_of(one, 1) == (
        "The interval leaves out 0: for readers and cases like these the area is larger under a than b."
    )
    assert "0.0400: for readers and cases like these the area is larger under a than b." in conclusion_of(one, 3)
    for p in (0.05, 0.12):
        said = conclusion_of(replace(one, p_holm=p), 3)
        assert f"adjusted over 3 pairs is {p:.4f}: together the pairs do not show a difference between a and b" in said


def test_where_patients_have_several_cases_nothing_is_said_that_takes_cases_to_be_independent() -> None:
    several = replace(STUDY, patients=np.arange(36) // 2)
    document = reader_study_document(report(study=several, summary=analyse(several)))
    html = build_html(document)
    text = " ".join("\n".join(page.extract_text() for page in PdfReader(io.BytesIO(build_pdf(document))).pages).split())
    for said in (html, text):
        assert "its variance takes cases to be independent; here patients have several" in said
        assert "DBM takes cases to be independent" in said and "DBM (jackknife" not in said and "normal, p" not in said
    assert "dbm" in analyse(STUDY)["area"] and "dbm" not in analyse(several)["area"]
    alone = replace(STUDY, patients=np.arange(36))
    assert analyse(alone)["area"]["dbm"] == analyse(STUDY)["area"]["dbm"]


def test_a_study_in_groups_and_one_without_areas_say_so() -> None:
    split = dealt_out(STUDY, 2)
    html = build_html(reader_study_document(report(study=split, summary=analyse(split))))
    assert "not every reader read every case" in html and "Hillis 2014" in html and "DBM (" not in html
    few = replace(STUDY, scores=STUDY.scores.copy())
    few.scores[0, 0, 1:] = np.nan
    html = build_html(reader_study_document(report(study=few, summary=analyse(few))))
    assert "In 1 combinations" in html and "U-statistic, area, first" in html
