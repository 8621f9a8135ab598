"""The report of one study, as blocks."""

from __future__ import annotations

from collections.abc import Iterator

from core.reports import content
from core.reports.content import AI_GENERATED, Report, ReportImage, ReportModel
from core.reports.document import (
    RESEARCH_USE,
    Banner,
    Block,
    Bullets,
    Document,
    Facts,
    Heading,
    Picture,
    Pictures,
    Table,
    Text,
    Together,
)
from core.reports.pictures import attention_jpeg, picture_jpeg
from core.version import software

_MALIGNANT = ("Probability of malignancy", "95 % interval", "Against the threshold")


def study_document(report: Report) -> Document:
    """Everything the report says, in the order in which it is read."""
    return Document(report.study_name, list(_blocks(report)))


def _blocks(report: Report) -> Iterator[Block]:
    yield Banner(RESEARCH_USE)
    if report.is_synthetic:
        yield Banner("Synthetic study: the pictures were made by a program and show no patient.")
    yield Heading(report.study_name, level=1)
    state = "final" if report.is_final else "preliminary: no final assessment yet"
    yield Text(" · ".join(["SecondRead report", *filter(None, [content.named(report.site_name)]), state]), "soft")
    yield Facts(
        [
            ("Made", f"{content.when(report.made_at)} by {content.named(report.made_by)}"),
            ("Reading mode", content.READING_MODE_WORDS[report.reading_mode]),
            ("Images", str(len(report.images))),
            ("Study", report.study_id),
            ("Software", software()),
        ]
    )
    yield from _reads(report)
    if report.has_ai:
        yield from _scores(report)
    for index, item in enumerate(report.images):
        yield Together([*([Heading("Images")] if index == 0 else []), *_image(item)])
    if report.models:
        yield Heading("The models and their limits")
        for model in report.models:
            yield from _model(model)
    yield from (Text(note, "soft") for note in report.notes)
    origin = (
        f' Numbers and heat maps marked "{AI_GENERATED}" come from the models named above and were not verified by a '
        "person."
    )
    yield Text(RESEARCH_USE + (origin if report.has_ai else ""), "soft")


def _reads(report: Report) -> Iterator[Block]:
    yield Heading("The radiologist's reads")
    if not report.reads:
        yield Text("No read has been saved.")
        return
    heads = [
        f"{content.read_title(read)}\n{content.named(read.reader)}, {content.when(read.at)}" for read in report.reads
    ]
    rows = [[breast, *cells] for breast, cells in content.reads_by_breast(report.reads)]
    yield Table([["Breast", *heads], *rows], [0.2, *[0.8 / len(heads)] * len(heads)])
    for read in report.reads:
        for way in read.answers_seen:
            yield Text(f"{content.read_title(read)}, {content.named(read.reader)}. {content.SEEN_ANSWER[way]}.")
        if read.comment:
            yield Heading(f"Comment, {content.read_title(read).lower()}", level=3)
            yield Text(read.comment, "comment")


def _scores(report: Report) -> Iterator[Block]:
    yield Heading("Second read by breast", mark=AI_GENERATED)
    rows = []
    for score in report.scores:
        shown = content.against_threshold(score.malignant, score.threshold)
        interval = content.percent_range(score.interval)
        origin = f"{score.n_images} image(s); {score.rule}"
        breast = content.breast_name(score.breast)
        rows.append([breast, score.model_id, shown.probability, interval, shown.verdict, origin])
    yield Table([["Breast", "Model", *_MALIGNANT, "From"], *rows], [0.13, 0.2, 0.14, 0.15, 0.18, 0.2])
    yield from (Text(sentence) for sentence in content.agreements_by_breast(report.scores))
    yield Text(content.INTERVAL_NOTE, "soft")


def _image(item: ReportImage) -> Iterator[Block]:
    yield Heading(item.label, level=3)
    if item.removed:
        yield Text(item.removed)
    else:
        yield Pictures(list(_pictures(item)))
    if item.predictions:
        rows = []
        for prediction in item.predictions:
            shown = content.against_threshold(prediction.malignant, prediction.threshold)
            interval, classes = content.percent_range(prediction.interval), content.class_text(prediction)
            rows.append([prediction.model_id, shown.probability, interval, shown.verdict, classes])
        yield Table([[f"Model ({AI_GENERATED})", *_MALIGNANT, "Classes"], *rows], [0.23, 0.14, 0.16, 0.22, 0.25])
    yield from (Text(warning, "soft") for warning in content.warnings_of(item.image))
    yield Text(f"image sha256 {item.image.sha256}", "code")


def _pictures(item: ReportImage) -> Iterator[Picture]:
    yield Picture(picture_jpeg(item), item.label)
    attention = attention_jpeg(item)
    if attention and item.attention:
        caption = f"{content.ATTENTION_CAPTION}: {item.attention.words} ({AI_GENERATED})"
        yield Picture(attention, f"{item.label}, model attention", caption)


def _model(model: ReportModel) -> Iterator[Block]:
    rows = [
        ("Model", model.model_id),
        ("Weights", f"sha256 {model.weights_sha256}"),
        ("Threshold", model.threshold_text),
        *([("Learnt from", model.data)] if model.data else []),
        *((name, content.measured(estimate)) for name, estimate in model.headline.items()),
    ]
    yield Together([Heading(model.title, level=3), Facts(rows)])
    yield from (Text(leak, "alarm") for leak in model.leaks)
    if model.limits:
        yield Bullets(model.limits)
