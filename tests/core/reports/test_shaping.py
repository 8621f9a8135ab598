"""Names and comments in any script are printed as they were written; what no font has is named, and no black box."""

from __future__ import annotations

import random
import unicodedata
from dataclasses import replace
from pathlib import Path

import pypdfium2
import pytest
from bidi import get_display
from reportlab.graphics.shapes import Drawing
from reportlab.pdfgen.canvas import Canvas
from test_reports import AT, html_text, pdf_text, report

from core.reports import content, plots, shaping
from core.reports.content import ReportRead
from core.reports.document import Document, Plots
from core.reports.fonts import FONTS, MISSING_NOTE, font_for, is_simple, printable
from core.reports.html import build_html
from core.reports.pdf import build_pdf
from core.reports.study import study_document

CHINESE = "左侧乳房外上象限见一约12 mm的高密度结节，建议活检（BI-RADS 4C）。"
ARABIC = "كتلة في الثدي الأيسر"
PERSIAN = "توده\u200cای در پستان چپ دیده می\u200cشود"


def words_of(pdf: bytes) -> str:
    """As a reader like Chromium's finds them, in one line."""
    document = pypdfium2.PdfDocument(pdf)
    return " ".join("".join(page.get_textpage().get_text_range() for page in document).split())


def ink(pdf: bytes, page: int = 0) -> float:
    """Share of dark pixels."""
    drawn = pypdfium2.PdfDocument(pdf)[page].render(scale=1).to_numpy()
    return float((drawn.min(axis=-1) < 128).mean())


def printed(comment: str, **changes: object) -> bytes:
    final = ReportRead("final", "د. علي حسن", AT, {"R": ("4A", 35)}, "read_first", comment)
    return build_pdf(study_document(report(reads=(final,), **changes)))


@pytest.mark.parametrize(
    "words", [CHINESE, "繁體：鈣化", "乳がん検診ガイド", ARABIC, "Жанна Ωμέγα", "Nguyễn Thị Hường"]
)
def test_a_program_that_reads_the_pdf_finds_the_words_in_their_order(words: str) -> None:
    found = words_of(printed(words, study_name=words))
    bare, wanted = ("".join(text.split()) for text in (found, words))
    assert bare.count(wanted) >= 2, "in the name and in the comment"
    assert "[U+" not in found and MISSING_NOTE not in found


def test_persian_keeps_the_letters_apart_that_its_spelling_keeps_apart() -> None:
    (run,) = shaping.line_of("می\u200cشود", 10).runs
    joined = shaping.line_of("میشود", 10).runs[0]
    forms = [unicodedata.name(code, "") for code in run.glyphs]
    assert any("YEH FINAL FORM" in form for form in forms), forms
    assert not any("YEH FINAL FORM" in unicodedata.name(code, "") for code in joined.glyphs)
    assert " ".join(PERSIAN.replace("\u200c", " ").split()) in words_of(printed(PERSIAN))


def test_arabic_letters_are_joined_and_stand_from_right_to_left() -> None:
    (run,) = shaping.line_of("كتلة", 10).runs
    assert [unicodedata.name(code) for code in run.glyphs] == [
        "ARABIC LETTER TEH MARBUTA FINAL FORM",
        "ARABIC LETTER LAM MEDIAL FORM",
        "ARABIC LETTER TEH MEDIAL FORM",
        "ARABIC LETTER KAF INITIAL FORM",
    ]
    alone = sum(shaping.line_of(letter, 10).width for letter in "كتلة")
    assert shaping.line_of("كتلة", 10).width < 0.9 * alone
    (ligature,) = shaping.line_of("لا", 10).runs
    assert [unicodedata.name(code) for code in ligature.glyphs] == ["ARABIC LIGATURE LAM WITH ALEF ISOLATED FORM"]


def in_print_order(text: str) -> str:
    """The characters from left to right, as the line places its runs."""
    letters = shaping._letters(text, is_bold=False)
    return "".join(one.character for (one,) in shaping._in_print_order([[letter] for letter in letters]))


def test_mixed_lines_are_ordered_as_the_unicode_algorithm_orders_them() -> None:
    letters = [*"abc", *"סרט", *"كتل", *"12", *"١٢", *" .,-%()[]+:/", "\u0301", "\u064f"]
    generator = random.Random(5)
    for _ in range(3000):
        text = "".join(generator.choice(letters) for _ in range(generator.randint(1, 14))).strip() or "a"
        assert in_print_order(text) == get_display(text), ascii(text)


def test_a_bracket_before_a_number_is_not_turned_away_from_its_words() -> None:
    assert in_print_order("the word (كتلة) 12%") == "the word (ةلتك) 12%"
    assert in_print_order("كتلة (BI-RADS 4A) س") == "س )BI-RADS 4A( ةلتك"


def test_a_name_from_right_to_left_does_not_turn_the_date_beside_it() -> None:
    assert "2026-03-04 05:06 UTC" in words_of(printed("")) and "علي حسن" in words_of(printed(""))
    assert content.named("Dr One") == "Dr One"
    assert in_print_order(f"{content.named('علي')}, 2026-03-04").endswith(", 2026-03-04")
    assert not in_print_order("علي, 2026-03-04").endswith(", 2026-03-04"), "what the marks are for"


def test_a_character_that_no_font_has_is_named_and_a_sentence_says_so() -> None:
    found = words_of(printed("emoji \U0001f469, हि, \ue000, \U0001fae8", study_name="Case \u0e07"))
    for code in ("U+1F469", "U+0939", "U+093F", "U+E000", "U+1FAE8", "U+0E07"):
        assert f"[{code}]" in found, code
    assert MISSING_NOTE in found
    assert MISSING_NOTE not in words_of(printed("Nothing is missing.", study_name="Case"))
    assert "हि" in html_text(build_html(study_document(report(study_name="हि"))))[0]


def test_a_character_beyond_the_first_plane_is_drawn_and_spelled(tmp_path: Path) -> None:
    canvas = Canvas(str(tmp_path / "face.pdf"), pageCompression=0)
    shaping.line_of("a face: 😀", 12).draw(canvas, 20, 20)
    canvas.save()
    content_of_file = (tmp_path / "face.pdf").read_bytes()
    assert b"ActualText <FEFF" in content_of_file and b"D83DDE00" in content_of_file
    assert b"<01> <1F600>" not in content_of_file, "five digits are no character of a ToUnicode table"
    assert "[U+" not in words_of(printed("a face: 😀"))


def test_long_text_without_spaces_fills_lines_and_pages_and_loses_nothing() -> None:
    text = "很长的评论，" * 650
    found = "".join(words_of(printed(text)).split())
    assert found.count("很") == 650 and found.count("，") == 650
    style_lines = [line for line in words_of(printed(text)).split() if line.startswith("，")]
    assert not style_lines, "a comma never begins a line"
    pdf = printed(text)
    assert all(ink(pdf, page) > 0.005 for page in range(len(pypdfium2.PdfDocument(pdf))))


def test_a_line_is_never_wider_than_the_page() -> None:
    for words in (ARABIC * 40, "ש" * 900, CHINESE * 20, "乳腺" * 300 + " " + "x" * 300, f"{ARABIC} " * 60):
        letters = shaping._letters(words, is_bold=False)
        lines = list(shaping._breaks(letters, shaping._advances(letters, 9), 400))
        assert [start for start, _ in lines[1:]] == [end for _, end in lines[:-1]] and lines[-1][1] == len(words)
        assert all(shaping._line(letters[start:end], 9, 0).width <= 401 for start, end in lines)


def test_marks_stand_on_their_letters() -> None:
    (run,) = shaping.line_of("x\u0323", 10).runs
    letter, mark = run.glyphs.__shapeData__
    assert mark.x_offset < 0 or mark.x_advance == 0
    assert run.width == pytest.approx(shaping.line_of("x", 10).width, abs=0.6)
    assert letter.x_advance > 0


def test_names_in_a_plot_are_shaped_in_print_and_given_as_they_are_to_the_browser() -> None:
    names = ("模型甲 (كتلة)", "Model A", "長" * 80)
    drawing = plots.legend(names, width=400)
    assert isinstance(drawing, Drawing)
    document = Document("Plots", [Plots([drawing], "Names")])
    found = words_of(build_pdf(document))
    assert "模型甲" in found and "Model A" in found and "كتلة" in found and "长" not in found
    assert "長" * 12 in found and "…" in found and "長" * 40 not in found


def test_the_footer_has_room_for_its_number_whatever_the_name() -> None:
    for name in ("左乳病例" * 50, "حالة " * 60, "W" * 300):
        assert "page 1 of" in pdf_text(printed("", study_name=name))
        assert shaping.line_of(shaping.shortened(name, 7.5, 200), 7.5).width <= 200


def test_simple_text_stays_with_the_simple_way() -> None:
    assert is_simple("Öztürk Ωμέγα Жанна\n12 %") and not is_simple("e\u0301x") and not is_simple("乳")
    assert printable("a\x00b\u202ec\ufe0f") == "abc"
    arabic = font_for("ك", is_bold=True)
    assert arabic is not None and arabic.fontName == "NotoSansArabic-Bold"


def test_each_block_of_the_html_takes_its_direction_from_its_own_words() -> None:
    final = ReportRead("final", "Dr One", AT, {"R": ("1", 0)}, "read_first", ARABIC)
    words, elements = html_text(build_html(study_document(replace(report(), reads=(final,), study_name=ARABIC))))
    assert words.count(ARABIC) >= 2
    told = {tag for tag, attributes in elements if attributes.get("dir") == "auto"}
    assert {"h1", "h2", "h3", "p", "dt", "dd", "th", "td", "div"} <= told
    assert all("dir" in attributes for tag, attributes in elements if tag in ("h1", "p", "td", "th", "dd"))


def test_the_fonts_come_with_their_licences_and_stay_small() -> None:
    fonts = sorted(FONTS.glob("*.ttf"))
    assert len(fonts) == 5 and sum(font.stat().st_size for font in fonts) < 8_000_000
    for family in ("DejaVu", "NotoSansArabic", "DroidSansFallback"):
        assert (FONTS / f"LICENSE-{family}.txt").stat().st_size > 500
    assert "\ufffd" not in pdf_text(printed(CHINESE))
