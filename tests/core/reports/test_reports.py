"""The report says what was seen, by whom and by what, lets nothing in a name act as markup, and both formats agree."""

from __future__ import annotations

import base64
import io
import re
from collections.abc import Iterator, Sequence
from dataclasses import replace
from datetime import UTC, date, datetime
from html.parser import HTMLParser

import numpy as np
import pytest
from PIL import Image as Raster
from pypdf import PdfReader

from core.models.aggregate import BreastScore
from core.reading.opinions import Opinion, agreement
from core.reports import content
from core.reports.content import (
    Attention,
    Report,
    ReportImage,
    ReportModel,
    ReportRead,
    against_threshold,
    category_text,
    percent,
)
from core.reports.document import Block, Document, Heading, Table, Together
from core.reports.html import build_html
from core.reports.pdf import build_pdf
from core.reports.pictures import PRINT_SIDE_PX, attention_jpeg, picture_jpeg
from core.reports.study import ALL_MODELS, study_document
from core.types import Estimate, Image, Modality, Prediction
from core.version import software

AT = datetime(2026, 3, 4, 5, 6, tzinfo=UTC)
WEIGHTS, OTHERS = "cd" * 32, "ef" * 32
HOSTILE = '<script>alert("x")</script><img src=x onerror=alert(1)>&amp; "quoted"'


def phantom(height: int = 240, width: int = 180, **facts: object) -> Image:
    """A bright disc on the right half, so that mirroring can be seen."""
    rows, columns = np.mgrid[:height, :width]
    disc = (rows - height / 2) ** 2 + (columns - 0.75 * width) ** 2 < (0.15 * width) ** 2
    facts.setdefault("modality", Modality.MAMMOGRAPHY)
    return Image(np.where(disc, 0.9, 0.1).astype(np.float32), sha256="ab" * 32, **facts)


def prediction(model_id: str, malignant: float) -> Prediction:
    samples = tuple(np.linspace(malignant * 0.8, min(1, malignant * 1.2), 41))
    classes = (round(0.9 - malignant, 6), malignant, 0.1)
    return Prediction(
        model_id, WEIGHTS, "ab" * 32, ("benign", "malignant", "normal"), classes, malignant, samples, 0.3, 0.2, "CPU"
    )


def report(**changes: object) -> Report:
    image = phantom(laterality="R", view="CC", warnings=("A name may be burnt into the picture.",))
    heat = np.zeros((240, 180), np.float32)
    heat[100:140, 120:150] = 1
    item = ReportImage(
        "R CC",
        image,
        predictions=(prediction("mammography-fusion", 0.13), prediction("mammography-cnn", 0.42)),
        attention=Attention(heat, "mammography-fusion, fused branches, class malignant"),
    )
    given = Report(
        study_id="0f" * 16,
        study_name="Case twelve",
        images=(item,),
        reads=(
            ReportRead("first", "Dr One", AT, {"R": ("2", 5)}, "read_first"),
            ReportRead("final", "Dr One", AT, {"R": ("4A", 35)}, "read_first", "Biopsy advised."),
        ),
        made_at=AT,
        made_by="Dr Two",
        reading_mode="read_first",
        opinions=(
            Opinion(
                "R",
                BreastScore("R", "mammography-fusion", 0.13, (0.08, 0.2), 0.3, 1, "mean over its images", WEIGHTS),
                (BreastScore("R", "mammography-cnn", 0.42, (0.3, 0.5), 0.3, 1, "mean over its images", OTHERS),),
            ),
        ),
        models=(
            ReportModel(
                "mammography-fusion",
                "Mammography fusion",
                WEIGHTS,
                "30 %, chosen on validation cases.",
                {"AUC, malignant against rest": Estimate(0.81, 0.7, 0.9, 60)},
                "MIAS",
                ("Demonstration only.",),
                ("Leaking split: one patient lies on both sides.",),
            ),
        ),
        site_name="Test site",
    )
    return replace(given, **changes)  # type: ignore[arg-type]


def pdf_text(pdf: bytes) -> str:
    """All words of a PDF, white space made one space (lines break where the page is narrow)."""
    words = " ".join(page.extract_text() for page in PdfReader(io.BytesIO(pdf)).pages)
    return re.sub(r"\s+", " ", words)


class Words(HTMLParser):
    """The words a browser would show, and the elements it would make."""

    def __init__(self) -> None:
        super().__init__()
        self.text: list[str] = []
        self.elements: list[tuple[str, dict[str, str | None]]] = []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.elements.append((tag, dict(attrs)))

    def handle_data(self, data: str) -> None:
        self.text.append(data)


def html_text(html: str) -> tuple[str, list[tuple[str, dict[str, str | None]]]]:
    parser = Words()
    parser.feed(html)
    return re.sub(r"\s+", " ", " ".join(parser.text)), parser.elements


@pytest.mark.parametrize(
    "build", [lambda r: html_text(build_html(study_document(r)))[0], lambda r: pdf_text(build_pdf(study_document(r)))]
)
def test_both_formats_say_who_when_what_and_what_it_must_not_be_used_for(build):
    words = build(report())
    for expected in (
        "Case twelve",
        "Research use only",
        "AI-generated",
        "Dr Two",
        "2026-03-04 05:06 UTC",
        "Dr One",
        "First impression",
        "Final assessment",
        "BI-RADS 2 (benign), suspicion 5 of 100",
        "BI-RADS 4A (low suspicion), suspicion 35 of 100",
        "Biopsy advised.",
        "Read first: the AI's answer was hidden until the first impression was saved.",
        "mammography-fusion",
        "13 %",
        "8.3 % to 20 %",
        "Below the threshold of 30 %",
        "Above the threshold of 30 %",
        "benign 77 %, malignant 13 %, normal 10 %",
        "the models disagree: 1 of 2 above its threshold",
        "lesion outline",
        "A name may be burnt into the picture.",
        WEIGHTS,
        "60 test cases",
        "0.810 (0.700 to 0.900)",
        "Demonstration only.",
        "Leaking split: one patient lies on both sides.",
        "0f" * 16,
        software(),
    ):
        assert expected in words, expected
    assert "Synthetic" not in words


@pytest.mark.parametrize(
    "build", [lambda r: html_text(build_html(study_document(r)))[0], lambda r: pdf_text(build_pdf(study_document(r)))]
)
def test_the_day_of_the_exam_stands_under_the_name_where_it_is_known(build):
    words = build(report(taken_on=date(2025, 3, 4)))
    assert words.index("Taken 2025-03-04") < words.index("SecondRead report ·")
    assert "Taken" not in build(report())


@pytest.mark.parametrize(
    "build", [lambda r: html_text(build_html(study_document(r)))[0], lambda r: pdf_text(build_pdf(study_document(r)))]
)
def test_without_predictions_nothing_is_called_ai_generated(build):
    image = ReportImage("R CC", phantom())
    words = build(report(images=(image,), opinions=(), models=(), reads=(), is_synthetic=True))
    assert "AI-generated" not in words
    assert "No read has been saved." in words
    assert "preliminary" in words
    assert "Synthetic study" in words


def test_markup_in_names_and_comments_is_shown_and_never_obeyed():
    final = ReportRead("final", HOSTILE, AT, {"R": ("1", 0)}, "concurrent", HOSTILE)
    hostile = report(study_name=HOSTILE, reads=(final,), made_by=HOSTILE, site_name=HOSTILE)
    words, elements = html_text(build_html(study_document(hostile)))
    assert words.count('<script>alert("x")</script>') >= 4
    assert not [tag for tag, _ in elements if tag == "script"]
    assert all(attributes["src"].startswith("data:image/jpeg;base64,") for tag, attributes in elements if tag == "img")
    assert not [name for _, attributes in elements for name in attributes if name.startswith("on")]
    assert "<script>alert" in pdf_text(build_pdf(study_document(hostile)))


def test_the_html_asks_the_network_for_nothing_and_forbids_scripts():
    html = build_html(study_document(report()))
    _, elements = html_text(html)
    policy = next(a["content"] for tag, a in elements if a.get("http-equiv") == "Content-Security-Policy")
    assert policy == "default-src 'none'; img-src data:; style-src 'unsafe-inline'"
    assert not [tag for tag, _ in elements if tag in ("link", "script", "iframe", "object")]
    assert "http://" not in html
    assert "https://" not in html
    assert "url(" not in html


def test_the_html_holds_the_picture_and_the_picture_under_its_heat_map():
    _, elements = html_text(build_html(study_document(report())))
    sources = [a["src"] for tag, a in elements if tag == "img"]
    pictures = [np.asarray(Raster.open(io.BytesIO(base64.b64decode(s.partition(",")[2]))), np.float32) for s in sources]
    assert len(pictures) == 2
    plain, painted = pictures
    assert plain.shape == painted.shape == (240, 180, 3)
    inside, outside = np.s_[105:135, 125:145], np.s_[105:135, 20:60]
    assert np.abs(plain[inside] - painted[inside]).mean() > 15
    assert np.abs(plain[outside] - painted[outside]).mean() < 3


def test_a_mirrored_picture_is_mirrored_and_its_label_is_not():
    item = ReportImage("R CC", phantom(), is_mirrored=False)
    upright = np.asarray(Raster.open(io.BytesIO(picture_jpeg(item))).convert("L"), np.float32)
    flipped = np.asarray(
        Raster.open(io.BytesIO(picture_jpeg(replace(item, is_mirrored=True)))).convert("L"), np.float32
    )
    assert upright[120, 135] > 200 > 60 > upright[120, 45]
    assert flipped[120, 45] > 200 > 60 > flipped[120, 135]
    assert np.abs(upright[:35, :80] - flipped[:35, :80]).mean() < 3


def test_pictures_in_print_are_bounded_and_colour_stays_colour():
    large = ReportImage(
        "R MLO", phantom(3000, 1500), attention=Attention(np.ones((3000, 1500), np.float32), "all of it")
    )
    assert max(Raster.open(io.BytesIO(picture_jpeg(large))).size) == PRINT_SIDE_PX
    assert Raster.open(io.BytesIO(attention_jpeg(large))).size == (550, 1100)
    pink = np.full((100, 100, 3), (0.9, 0.4, 0.7), np.float32)
    tile = ReportImage("tile", Image(pink, sha256="00" * 32, modality=Modality.HISTOLOGY))
    red, green, blue = np.asarray(Raster.open(io.BytesIO(picture_jpeg(tile))))[90, 50].tolist()
    assert red > blue > green
    assert attention_jpeg(tile) is None


def test_the_pdf_numbers_its_pages_repeats_the_warning_and_embeds_its_fonts():
    many = report(images=report().images * 4)
    reader = PdfReader(io.BytesIO(build_pdf(study_document(many))))
    total = len(reader.pages)
    assert total >= 3
    for number, page in enumerate(reader.pages, 1):
        words = page.extract_text()
        assert f"page {number} of {total}" in words
        assert "research use only" in words
        for font in page["/Resources"]["/Font"].values():
            descriptor = font.get_object().get("/FontDescriptor")
            assert descriptor is None or "/FontFile2" in descriptor.get_object()
    assert reader.metadata.title == "SecondRead report: Case twelve"


def test_names_in_other_alphabets_are_printed_and_an_unknown_letter_does_not_stop_the_pdf():
    words = pdf_text(build_pdf(study_document(report(study_name="Öztürk Ωμέγα Жанна 漢字\x00\x07"))))
    assert "Öztürk Ωμέγα Жанна" in words
    assert "漢字" in words and "\ufffd" not in words


def test_a_very_long_comment_and_name_still_make_pages():
    final = ReportRead("final", "Dr One", AT, {"R": ("1", 0)}, "read_first", "word " * 3000 + "x" * 3000)
    reader = PdfReader(io.BytesIO(build_pdf(study_document(report(study_name="n" * 400, reads=(final,))))))
    assert len(reader.pages) >= 3


def test_small_and_large_probabilities_are_never_rounded_to_certainty():
    assert percent(0.00004).replace("\u00a0", " ") == "< 0.1 %"
    assert percent(0.031).replace("\u00a0", " ") == "3.1 %"
    assert percent(0.504).replace("\u00a0", " ") == "50 %"
    assert percent(0.99996).replace("\u00a0", " ") == "99.9 %"


def test_a_probability_at_the_threshold_counts_as_above_it():
    assert against_threshold(0.3, 0.3).verdict == "At the threshold of 30\u00a0%, which counts as above it"
    assert against_threshold(0.2999, 0.3).verdict.startswith("Below")


@pytest.mark.parametrize(
    ("malignant", "threshold", "shown"),
    [
        (0.136, 0.144, ("13.6 %", "Below the threshold of 14.4 %")),
        (0.144, 0.136, ("14.4 %", "Above the threshold of 13.6 %")),
        (0.13999, 0.14, ("13.999 %", "Below the threshold of 14.000 %")),
        (0.12, 0.14, ("12 %", "Below the threshold of 14 %")),
        (0.0996, 0.1004, ("9.96 %", "Below the threshold of 10.04 %")),
        (0.0002, 0.0004, ("0.02 %", "Below the threshold of 0.04 %")),
        (0.9996, 0.9999, ("99.96 %", "Below the threshold of 99.99 %")),
        (0.14 - 1e-12, 0.14, ("13.9999999999 %", "Below the threshold of 14.0000000000 %")),
    ],
)
def test_rounding_never_contradicts_the_verdict(malignant: float, threshold: float, shown: tuple[str, str]):
    found = against_threshold(malignant, threshold)
    assert (found.probability.replace("\u00a0", " "), found.verdict.replace("\u00a0", " ")) == shown


@pytest.mark.parametrize("build", [build_html, build_pdf])
def test_a_correction_is_headed_as_one_beside_the_assessment_that_it_corrects(build):
    first = ReportRead("final", "Dr One", AT, {"R": ("4A", 20)}, "read_first", "Biopsy advised.")
    second = ReportRead("final", "Dr One", AT, {"R": ("2", 5)}, "read_first", "A cyst.", is_amendment=True)
    made = build(study_document(report(reads=(first, second))))
    words = " ".join((pdf_text(made) if isinstance(made, bytes) else html_text(made)[0]).split())
    assert words.count("Correction of the final assessment") == 1 and words.count("Final assessment") == 1
    assert "Comment, correction of the final assessment" in words


def test_agreement_says_whether_the_models_are_on_the_same_side():
    assert agreement([(0.5, 0.3)]) == ""
    assert agreement([(0.5, 0.3), (0.4, 0.3)]).startswith("Both models are above")
    assert agreement([(0.1, 0.3), (0.2, 0.3)]).startswith("Both models are below")
    far = agreement([(0.31, 0.3), (0.96, 0.3)])
    assert far.endswith("lie 65 points apart, so no one of them speaks for the others: look at each.")
    assert "look at each" not in agreement([(0.31, 0.3), (0.79, 0.3)])
    assert agreement([(0.1, 0.3)] * 3) == "All 3 models are below their thresholds; their probabilities are the same."
    assert agreement([(0.1, 0.3), (0.5, 0.3)]).startswith("The models disagree: 1 of 2")
    assert "2 of 3 above their thresholds" in agreement([(0.1, 0.3), (0.5, 0.3), (0.6, 0.3)])
    assert agreement([(0.3, 0.3), (0.5, 0.3)]).startswith("Both models are above")


def test_every_birads_category_has_its_meaning():
    assert set(content.BIRADS_MEANING) == {"0", "1", "2", "3", "4A", "4B", "4C", "5", "6"}


def sections(text: str, headings: list[str]) -> list[str]:
    """The text between the headings, with every white space removed: lines break where a page is narrow."""
    bare, parts = re.sub(r"\s", "", text), []
    for heading in [*headings[1:], ""]:
        part, _, bare = bare.partition(re.sub(r"\s", "", heading)) if heading else (bare, "", "")
        parts.append(part)
    return parts


def without_heads(page: str, heads: Sequence[str]) -> str:
    """A printed page without spaces and, where it begins with a table's heads, without those."""
    repeated = next((head for head in heads if page.startswith(head)), "")
    return page.removeprefix(repeated)


def as_printed(heading: Heading) -> str:
    return f"{heading.words} ({heading.mark})" if heading.mark else heading.words


@pytest.mark.parametrize(
    "changes",
    [{}, {"is_synthetic": True, "notes": ("A note.",)}, {"reads": (), "opinions": (), "models": (), "images": ()}],
)
def test_html_and_pdf_say_the_same_section_by_section(changes):
    document = study_document(report(**changes))
    parts = [block for block in flat(document.blocks) if isinstance(block, Heading) and block.level < 3]
    html = html_text(build_html(document).partition("<main>")[2])[0]
    heads = ["".join("".join(block.rows[0]).split()) for block in flat(document.blocks) if isinstance(block, Table)]
    pages = [page.extract_text() for page in PdfReader(io.BytesIO(build_pdf(document))).pages]
    # A table that goes on on the next page begins there with its heads again.
    pdf = "\n".join(
        without_heads("".join(page.split()), heads) if number else page for number, page in enumerate(pages)
    )
    pdf = re.sub(
        r"SecondRead\s*·\s*research\s*use\s*only,\s*not\s*for\s*diagnosis\s*Case\s*twelve\s*·\s*page\s*\d+\s*of\s*\d",
        "",
        pdf,
    )
    of_html = sections(html, [f"{part.words} {part.mark}" for part in parts])
    of_pdf = sections(pdf, [as_printed(part) for part in parts])
    assert len(of_html) == len(parts) and all(of_html)
    for part, ours, theirs in zip(parts, of_html, of_pdf, strict=True):
        assert sorted(ours) == sorted(theirs), part.words


def flat(blocks: Sequence[Block]) -> Iterator[Block]:
    for block in blocks:
        yield from flat(block.blocks) if isinstance(block, Together) else (block,)


@pytest.mark.parametrize("field", ["study_name", "made_by", "site_name"])
def test_half_a_letter_is_printed_as_the_sign_for_none(field: str) -> None:
    document = study_document(report(**{field: "half \ud83d"}))
    assert "half \ufffd" in build_html(document).encode().decode()
    assert build_pdf(document).startswith(b"%PDF-")


LONG = {"long": "word " * 3000, "without a space": "x" * 9000, "of many lines": "a\n" * 400}


@pytest.mark.parametrize("kind", LONG)
def test_text_that_no_page_holds_is_cut_in_print_and_whole_in_html(kind: str) -> None:
    text = LONG[kind]
    given = report()
    model = replace(given.models[0], title=text, threshold_text=text, data=text, limits=(text,), leaks=(text,))
    attention = replace(given.images[0].attention, words=text)
    document = study_document(
        replace(given, made_by=text, models=(model,), images=(replace(given.images[0], attention=attention),))
    )
    words = pdf_text(build_pdf(document))
    assert "Software" in words and "Demonstration" not in words
    assert build_html(document).count(text) == 10, "title (four times), threshold, data, limit, leak, maker, caption"
    assert "(cut in print)" in words or kind == "of many lines"


def headings(document: Document) -> list[str]:
    return [block.words for block in flat(document.blocks) if isinstance(block, Heading) and block.level == 2]


def tables_of(document: Document, first: str) -> list[Sequence[str]]:
    """The rows of the table whose heads begin with these words, without them."""
    (found,) = [block for block in flat(document.blocks) if isinstance(block, Table) and block.rows[0][0] == first]
    return list(found.rows[1:])


def second_read_rows(document: Document) -> list[Sequence[str]]:
    found = [block for block in flat(document.blocks) if isinstance(block, Table)]
    return next(list(block.rows[1:]) for block in found if block.rows[0][:2] == ["Breast", "Model"])


def test_what_a_colleague_needs_comes_first_then_the_models_and_their_limits():
    assert headings(study_document(report())) == [
        "Assessment", "Pictures", "Second read by breast", "The models and their limits",
        "The radiologist's reads in their order", "How this report was made",
    ]  # fmt: skip


def test_the_assessment_is_each_reader_s_last_final_read_with_what_it_recommends():
    reads = (
        ReportRead("first", "Dr One", AT, {"R": ("0", 5)}, "read_first"),
        ReportRead("final", "Dr One", AT, {"R": ("2", 5)}, "read_first", sentence="Withdrawn."),
        ReportRead("final", "Dr Two", AT, {"R": ("3", 9)}, "read_first"),
        ReportRead("final", "Dr One", AT, {"R": ("4B", 35)}, "read_first", "Biopsy.", True, (), "A mass.", "C"),
    )  # fmt: skip
    document = study_document(report(reads=reads))
    assessed = next(block for block in document.blocks if isinstance(block, Table)).rows[1:]
    assert [(row[1], row[2], row[3].split("\n")[0]) for row in assessed] == [
        ("BI-RADS 4B (moderate suspicion), suspicion 35 of 100", "Tissue diagnosis", "Dr One"),
        ("BI-RADS 3 (probably benign), suspicion 9 of 100",
         "Short-interval follow-up (6 months) or continued surveillance", "Dr Two"),
    ]  # fmt: skip
    words = html_text(build_html(document))[0]
    assert "A mass." in words and "Withdrawn." not in words and "Conclusion (Dr One)" in words
    assert "Breast composition (Dr One): C, heterogeneously dense" in words
    assert "Breast composition (Dr Two): not stated." in words
    assert words.index("A mass.") < words.index("Second read by breast") < words.index("First impression")


def test_without_a_final_read_the_first_impression_is_the_assessment():
    first = ReportRead("first", "Dr One", AT, {"R": ("5", 97)}, "read_first")
    document = study_document(report(reads=(first,)))
    assessed = next(block for block in document.blocks if isinstance(block, Table))
    meant = "BI-RADS 5 (highly suggestive of malignancy)"
    assert assessed.rows[1][1] == f"{meant}, suspicion 97 of 100 (preset of 5)"
    assert category_text("5", 96) == f"{meant}, suspicion 96 of 100"
    assert "preliminary" in html_text(build_html(document))[0]


def test_the_lead_stands_first_and_a_weak_model_says_so_at_its_name_and_on_its_row():
    remark = "Weak: AUC 0.700 (95 % interval 0.600 to 0.800) on 60 test cases. Do not lean on it."
    opinion = replace(report().opinions[0], remarks={OTHERS: (remark,)}, weak=frozenset({OTHERS}))
    cnn = ReportModel("mammography-cnn", "Small CNN", OTHERS, "20 %", {}, remarks=(remark,), is_weak=True)
    document = study_document(report(opinions=(opinion,), models=(*report().models, cnn)))
    assert [row[1] for row in second_read_rows(document)] == ["Mammography fusion\nlead", "Small CNN\nweak"]
    assert tables_of(document, "Model")[1] == ["Small CNN\nmammography-cnn", "", "20 %", remark]
    words = html_text(build_html(document))[0]
    assert "models disagree" not in words and "Every model" not in words


def test_models_have_one_row_each_and_what_most_cards_say_stands_once():
    def model(title: str, *limits: str) -> ReportModel:
        return ReportModel(title, title, title * 64, "30 %", {}, limits=limits, threshold_rule="Chosen on validation.")

    models = (model("a", "Shared.", "Most.", "Own."), model("b", "Shared.", "Most."), model("c", "Shared."))
    rows = tables_of(study_document(report(models=models)), "Model")
    assert rows == [
        ["a\na", "", "30 %", "Own."], ["b\nb", "", "30 %", ""], ["c\nc", "", "30 %", ""],
        [ALL_MODELS, "", "Chosen on validation.", "Shared.\nMost. (Not c.)"],
    ]  # fmt: skip
    assert tables_of(study_document(report(models=models[:1])), "Model") == [
        ["a\na", "", "30 %\nChosen on validation.", "Shared.\nMost.\nOwn."]
    ]


def test_one_image_a_breast_is_not_listed_twice_and_several_are_listed_image_by_image():
    lead, other = report().opinions[0].lead, report().opinions[0].others[0]
    said = (prediction("mammography-fusion", 0.13), replace(prediction("mammography-cnn", 0.42), weights_sha256=OTHERS))
    image = replace(report().images[0], predictions=said)
    words = html_text(build_html(study_document(report(images=(image,)))))[0]
    assert "Image by image" not in words and words.count("benign 77 %, malignant 13 %, normal 10 %") == 1
    two = (Opinion("R", replace(lead, n_images=2), (replace(other, n_images=2),)),)
    words = html_text(build_html(study_document(report(images=(image, image), opinions=two))))[0]
    assert "Image by image" in words and words.count("benign 77 %, malignant 13 %, normal 10 %") == 2
    assert "nlike what it learnt from" not in words
    far = replace(image, predictions=(replace(said[0], training_distance=1.001), said[1]))
    words = html_text(build_html(study_document(report(images=(image, far), opinions=two))))[0]
    assert words.count("unlike what it learnt from") == 1
    assert "2 images; " in words and "1 image; " not in words and "image(s)" not in words
    unlike = (Opinion("R", replace(lead, n_images=1, is_unlike_training=True), ()),)
    words = html_text(build_html(study_document(report(images=(image, far), opinions=unlike))))[0]
    assert words.count("Unlike what it learnt from: the picture lies further") == 1 and "1 image; " in words
    assert "nlike its training images:" not in words


def test_a_breast_that_models_of_several_kinds_read_is_named_with_the_kind():
    lead, other = report().opinions[0].scores
    ultrasound, histology = (
        Opinion("R", replace(lead, modality=kind), (replace(other, modality=kind),), modality=kind)
        for kind in (Modality.ULTRASOUND, Modality.HISTOLOGY)
    )

    def named(*opinions: Opinion) -> list[str]:
        return [row[0] for row in second_read_rows(study_document(report(opinions=opinions)))]

    kinds = ["Right breast, ultrasound", "Right breast, histology"]
    assert named(ultrasound, histology) == [kinds[0], kinds[0], kinds[1], kinds[1]]
    said = content.agreements_by_breast([ultrasound, histology])
    assert [sentence.split(":")[0] for sentence in said] == kinds
    assert named(ultrasound) == ["Right breast"] * 2
    assert named(ultrasound, replace(histology, breast="L")) == ["Right breast"] * 2 + ["Left breast"] * 2


def test_the_text_for_the_report_is_made_from_the_assessment_views_and_density():
    images = [phantom(laterality="R", view=view) for view in ("MLO", "CC", "CC")]
    images += [phantom(laterality="L", modality=Modality.ULTRASOUND), phantom(modality=None)]
    views = content.pictures_of_breasts(images)
    assert views == {"R": ("CC", "MLO"), "L": ("ultrasound",), content.SIDE_NOT_STATED: ("image",)}
    assert content.report_sentence({"R": "2", "L": "4A"}, views, "B") == (
        "Breast composition B: scattered areas of fibroglandular density. Right breast (CC, MLO): BI-RADS 2, benign. "
        "Recommended: routine screening. Left breast (ultrasound): BI-RADS 4A, low suspicion. Recommended: tissue "
        "diagnosis."
    )
    assert content.report_sentence({}, views) == ""
