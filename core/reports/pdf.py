"""The report as a paginated A4 PDF, fonts embedded. `core.reports.content` has what it says."""

from __future__ import annotations

import io
from collections.abc import Iterator

from reportlab.lib import colors
from reportlab.lib.units import mm
from reportlab.platypus import (
    Flowable,
    Image,
    KeepTogether,
    Spacer,
    Table,
)

from core.reports import content
from core.reports.blocks import ALARM, SOFT, WIDTH, banner, build_document, facts, heading, paragraph, table, text_style
from core.reports.content import Report, ReportImage, ReportModel
from core.reports.pictures import attention_jpeg, picture_jpeg

_PICTURE_HEIGHT = 88 * mm


def build_pdf(report: Report) -> bytes:
    """The report as PDF bytes. Characters that the font lacks are printed as U+FFFD."""
    return build_document(report.study_name, list(_story(report)))


def _story(report: Report) -> Iterator[Flowable]:
    yield banner(content.RESEARCH_USE)
    if report.is_synthetic:
        yield banner("Synthetic study: the pictures were made by a program and show no patient.")
    yield paragraph(report.study_name, text_style(17, bold=True, before=8, after=2))
    state = "final" if report.is_final else "preliminary: no final assessment yet"
    site = f" · {report.site_name}" if report.site_name else ""
    yield paragraph(f"SecondRead report{site} · {state}", text_style(9, colour=SOFT, after=6))
    yield facts(
        [
            ("Made", f"{content.when(report.made_at)} by {report.made_by}"),
            ("Reading mode", content.READING_MODE_WORDS[report.reading_mode]),
            ("Images", str(len(report.images))),
            ("Study", report.study_id),
        ]
    )
    yield from _reads(report)
    if report.has_ai:
        yield from _scores(report)
    for index, item in enumerate(report.images):
        yield KeepTogether([*(heading("Images") if index == 0 else ()), *_image(item)])
    if report.models:
        yield from heading("The models and their limits")
        for model in report.models:
            yield from _model(model)
    for note in report.notes:
        yield paragraph(note, text_style(8, colour=SOFT))


def _reads(report: Report) -> Iterator[Flowable]:
    yield from heading("The radiologist's reads")
    if not report.reads:
        yield paragraph("No read has been saved.")
        return
    heads = [f"{content.read_title(read)}\n{read.reader}, {content.when(read.at)}" for read in report.reads]
    rows = [[breast, *cells] for breast, cells in content.reads_by_breast(report.reads)]
    share = 0.8 / len(report.reads)
    yield table([["Breast", *heads], *rows], [0.2, *[share] * len(report.reads)])
    for read in report.reads:
        if read.comment:
            yield paragraph(f"Comment, {content.read_title(read).lower()}", text_style(9, bold=True, before=6))
            yield paragraph(read.comment)


def _scores(report: Report) -> Iterator[Flowable]:
    yield from heading(f"Second read by breast ({content.AI_GENERATED})")
    head = ["Breast", "Model", "Malignant", "95 % interval", "Against the threshold", "From"]
    rows = [
        [
            content.breast_name(score.breast),
            score.model_id,
            content.percent(score.malignant),
            content.percent_range(score.interval),
            content.threshold_verdict(score.malignant, score.threshold),
            f"{score.n_images} image(s); {score.rule}",
        ]
        for score in report.scores
    ]
    yield table([head, *rows], [0.14, 0.2, 0.11, 0.17, 0.18, 0.2])
    for sentence in content.agreements_by_breast(report.scores):
        yield paragraph(sentence, text_style(9, before=3))
    yield paragraph(content.INTERVAL_NOTE, text_style(8, colour=SOFT, before=3))


def _image(item: ReportImage) -> list[Flowable]:
    block: list[Flowable] = [paragraph(item.label, text_style(10, bold=True, before=8))]
    block += [paragraph(item.removed, text_style(9))] if item.removed else _pictures(item)
    if item.predictions:
        head = [f"Model ({content.AI_GENERATED})", "Malignant", "95 % interval", "Against the threshold", "Classes"]
        rows = [
            [
                p.model_id,
                content.percent(p.malignant),
                content.percent_range(p.interval),
                content.threshold_verdict(p.malignant, p.threshold),
                content.class_text(p),
            ]
            for p in item.predictions
        ]
        block.append(table([head, *rows], [0.24, 0.11, 0.18, 0.22, 0.25]))
    block += [paragraph(warning, text_style(8, colour=SOFT)) for warning in content.warnings_of(item.image)]
    return [*block, paragraph(f"image sha256 {item.image.sha256}", text_style(7, colour=SOFT))]


def _pictures(item: ReportImage) -> list[Flowable]:
    attention = attention_jpeg(item)
    encoded = [picture_jpeg(item), *([attention] if attention else [])]
    width = WIDTH / len(encoded) - 3 * mm
    pictures = Table(
        [[_fitted(jpeg, width) for jpeg in encoded]],
        colWidths=[WIDTH / len(encoded)] * len(encoded),
        style=[
            ("BACKGROUND", (0, 0), (-1, -1), colors.black),
            ("ALIGN", (0, 0), (-1, -1), "CENTER"),
            ("VALIGN", (0, 0), (-1, -1), "MIDDLE"),
        ],
    )
    if not item.attention:
        return [pictures]
    words = f"Right: {content.ATTENTION_CAPTION.lower()}. {item.attention.words} ({content.AI_GENERATED})"
    return [pictures, paragraph(words, text_style(8, colour=SOFT))]


def _fitted(jpeg: bytes, width: float) -> Image:
    picture = Image(io.BytesIO(jpeg))
    scale = min(width / picture.imageWidth, _PICTURE_HEIGHT / picture.imageHeight)
    picture.drawWidth, picture.drawHeight = picture.imageWidth * scale, picture.imageHeight * scale
    return picture


def _model(model: ReportModel) -> Iterator[Flowable]:
    rows = [
        ("Model", model.model_id),
        ("Weights", f"sha256 {model.weights_sha256}"),
        ("Threshold", model.threshold_text),
        *([("Learnt from", model.data)] if model.data else []),
        *((name, content.measured(estimate)) for name, estimate in model.headline.items()),
    ]
    yield KeepTogether([paragraph(model.title, text_style(10, bold=True, before=6)), facts(rows)])
    for leak in model.leaks:
        yield paragraph(leak, text_style(8.5, bold=True, colour=ALARM))
    for limit in model.limits:
        yield paragraph(f"•  {limit}", text_style(8.5))
    yield Spacer(1, 3)
