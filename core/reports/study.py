"""The report of one study, as blocks: what a colleague needs, the models, their limits, how it was made."""

from __future__ import annotations

from collections import Counter
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from typing import Literal

from core.findings.finding import Finding, description_of, measurement_text
from core.findings.marks import Mark
from core.findings.proposals import ANSWERS
from core.imaging.spacing import spacing_statement
from core.models.training_distance import UNLIKE_TEXT
from core.reports import content
from core.reports.content import (
    AI_GENERATED,
    Attention,
    LanguageWords,
    Report,
    ReportImage,
    ReportModel,
    ReportRead,
)
from core.reports.document import (
    RESEARCH_USE,
    Banner,
    Block,
    Document,
    Facts,
    Heading,
    Picture,
    Pictures,
    Table,
    Text,
    Together,
)
from core.reports.pictures import attention_jpeg, marked_jpeg, picture_jpeg
from core.types import SIDE_NOT_STATED, Modality
from core.version import software

_MALIGNANT = ("Probability of malignancy", "95 % interval", "Against the threshold")
ALL_MODELS = "All of them"
UNLIKE = "unlike what it learnt from"


def study_document(report: Report) -> Document:
    """Everything the report says, in the order in which it is read."""
    return Document(report.study_name, list(_blocks(report)))


def _blocks(report: Report) -> Iterator[Block]:
    yield Banner(RESEARCH_USE)
    if report.is_synthetic:
        yield Banner("Synthetic study: the pictures were made by a program and show no patient.")
    yield Heading(report.study_name, level=1)
    state = "final" if report.is_final else "preliminary: no final assessment yet"
    if report.taken_on:
        yield Text(f"Taken {report.taken_on}")
    yield Text(" · ".join(["SecondRead report", *filter(None, [content.named(report.site_name)]), state]), "soft")
    yield from _assessment(report)
    yield from _findings(report)
    yield from _images(report.images)
    if report.has_ai:
        yield from _second_read(report)
    if report.language:
        yield from _language_model(report.language)
    yield from (Text(note, "soft") for note in report.notes)
    if report.models:
        yield from _models(report.models)
    if report.reads:
        yield from _reads(report.reads)
    yield from _provenance(report)


def _assessment(report: Report) -> Iterator[Block]:
    """What the readers say of each breast and what follows from it; a correction in place of what it corrects."""
    yield Heading("Assessment")
    if not report.counted_reads:
        yield Text("No read has been saved.")
        return
    is_decided = len(report.counted_reads) > 1 and report.counted_reads[0].is_decision
    if is_decided:
        decides, *others = (content.named(read.reader) for read in report.counted_reads)
        yield Text(f"{decides} decides between the readers. Decided between: {' and '.join(others)}.")
    rows = [
        [content.breast_name(breast), content.category_text(category, suspicion),
         content.BIRADS_RECOMMENDATION[category],
         "\n".join([content.named(read.reader), content.when(read.at), *_part_of(read, is_decided)])]
        for breast in content.BREAST_NAMES
        for read in report.counted_reads
        for category, suspicion in [read.impressions.get(breast, ("", 0))]
        if category
    ]  # fmt: skip
    yield Table([["Breast", "Assessment", "Recommendation", "Reader"], *rows], [0.16, 0.32, 0.29, 0.23])
    has_mammogram = any(item.image.modality is Modality.MAMMOGRAPHY for item in report.images)
    for read in report.counted_reads:
        of = f" ({content.named(read.reader)})" if len(report.counted_reads) > 1 else ""
        if has_mammogram:
            words = f"{read.density}, {content.DENSITY_MEANING[read.density]}" if read.density else "not stated"
            yield Text(f"Breast composition{of}: {words}.")
        if read.sentence:
            yield Heading(f"Conclusion{of}", level=3)
            yield Text(read.sentence, "comment")
        yield from _comment(read, of)


def _part_of(read: ReportRead, is_decided: bool) -> Iterator[str]:
    """What a read is where a third reader decided."""
    if is_decided:
        yield "decision" if read.is_decision else "decided between"


def _findings(report: Report) -> Iterator[Block]:
    """What the readers found, with the pictures that they marked; measurements after it."""
    for read in report.counted_reads:
        of = f" ({content.named(read.reader)})" if len(report.counted_reads) > 1 else ""
        if read.annotations.findings:
            heading = Heading(f"Findings{of}")
            rows = [
                [str(number), content.breast_name(one.breast), f"{description_of(one)}{_origin_of(one, read)}",
                 _views_of(one.marks, report.images), one.comment]
                for number, one in enumerate(read.annotations.findings, start=1)
            ]  # fmt: skip
            table = Table([["No.", "Breast", "Finding", "Seen in", "Comment"], *rows], [0.06, 0.15, 0.4, 0.15, 0.24])
            yield Together([heading, table])
            yield from _rows(list(_marked(read, report.images)), most_mm=80)
        if read.annotations.measurements:
            yield Heading(f"Measurements{of}", level=3)
            for one in read.annotations.measurements:
                yield Text(f"{_views_of([one.mark], report.images)}: {measurement_text(one)}.")
        proposed = Counter(one.answer for one in read.annotations.proposals)
        if proposed:
            done = ", ".join(f"{n} {answer}" for answer in ANSWERS if (n := proposed[answer]))
            yield Text(f"Places that models proposed to the reader{of} ({AI_GENERATED}): {done}.", "soft")
        for statement in _spacings(read, report.images):
            yield Text(statement, "soft")


def _origin_of(finding: Finding, read: ReportRead) -> str:
    """That the place of a finding is a model's proposal, taken as it was; one that was edited is the reader's."""
    taken = [one.mark for one in read.annotations.proposals if one.answer == "accepted"]
    return f". Proposed by a model ({AI_GENERATED}), accepted" if set(finding.marks) & set(taken) else ""


def _views_of(marks: Sequence[Mark], items: Sequence[ReportImage]) -> str:
    labels = {item.place: item.label for item in items}
    return ", ".join(dict.fromkeys(labels.get((mark.image_sha256, mark.frame), "?") for mark in marks))


def _marked(read: ReportRead, items: Sequence[ReportImage]) -> Iterator[Picture]:
    """Each picture that a finding is marked on, with all the marks on it."""
    for item in items:
        marks = [
            (f"{number} {one.type}", mark)
            for number, one in enumerate(read.annotations.findings, start=1)
            for mark in one.marks
            if (mark.image_sha256, mark.frame) == item.place
        ]
        if marks and not item.removed:
            yield Picture(marked_jpeg(item, marks), f"{item.label}, findings marked by the reader", align=_align(item))


def _spacings(read: ReportRead, items: Sequence[ReportImage]) -> list[str]:
    """What lengths stand on, once for all pictures that say the same."""
    places = {(mark.image_sha256, mark.frame) for mark in read.annotations.marks if mark.kind not in ("point", "angle")}
    said = _by_sentence((spacing_statement(item.image), item.label) for item in items if item.place in places)
    return [f"{', '.join(labels)}: {sentence}" for sentence, labels in said.items()]


def _comment(read: ReportRead, of: str) -> Iterator[Block]:
    if read.comment:
        yield Heading(f"Comment, {content.read_title(read).lower()}{of}", level=3)
        yield Text(read.comment, "comment")


def _images(items: Sequence[ReportImage]) -> Iterator[Block]:
    """The pictures as they hang, two in a row, many smaller ones three."""
    if not items:
        return
    shown = [Picture(picture_jpeg(item), item.label, align=_align(item)) for item in items if not item.removed]
    rows = list(_rows(shown))
    yield Together([Heading("Pictures"), *rows[:1]])
    yield from rows[1:]
    for sentence, labels in _by_sentence((item.removed, item.label) for item in items if item.removed).items():
        yield Text(f"{_labelled(labels, items)}{sentence}")
    told = _by_sentence((warning, item.label) for item in items for warning in content.warnings_of(item.image))
    for sentence, labels in told.items():
        yield Text(f"{_labelled(labels, items)}{sentence}", "soft")


def _rows(pictures: Sequence[Picture], *, most_mm: float = 50) -> Iterator[Pictures]:
    across = 3 if len(pictures) > 4 else 2
    height = most_mm if len(pictures) <= 1 else max(most_mm, 55.0)
    for start in range(0, len(pictures), across):
        yield Pictures(pictures[start : start + across], height)


def _by_sentence(pairs: Iterable[tuple[str, str]]) -> dict[str, list[str]]:
    found: dict[str, list[str]] = {}
    for sentence, label in pairs:
        found.setdefault(sentence, []).append(label)
    return found


def _labelled(labels: Sequence[str], items: Sequence[ReportImage]) -> str:
    return "" if len(labels) == len(items) else f"{', '.join(labels)}: "


def _second_read(report: Report) -> Iterator[Block]:
    """The lead of each breast first; a weak model says so at its name."""
    titles = {model.model_id: model.title for model in report.models}
    yield Heading("Second read by breast", mark=AI_GENERATED)
    notes = (note for opinion in report.opinions for note in opinion.notes)
    leads = {one.lead.weights_sha256: one for one in report.opinions}
    remarks = (
        f"{titles.get(one.lead.model_id, one.lead.model_id)}: {remark}"
        for sha256, one in leads.items()
        for remark in one.remarks.get(sha256, ())
    )
    yield from (Text(words, "alarm") for words in dict.fromkeys((*notes, *remarks)))
    classes = _classes_of_breasts(report)
    names = content.names_of_breasts(report.opinions)
    rows = []
    for opinion in report.opinions:
        for score in opinion.scores:
            shown = content.against_threshold(score.malignant, score.threshold)
            marks = [
                *(["lead"] if score is opinion.lead else []),
                *(["weak"] if opinion.is_weak(score) else []),
                *([UNLIKE] if score.is_unlike_training else []),
            ]
            model = "\n".join([titles.get(score.model_id, score.model_id), *([", ".join(marks)] if marks else [])])
            images = "1 image" if score.n_images == 1 else f"{score.n_images} images"
            origin = classes.get((score.breast, score.weights_sha256), f"{images}; {score.rule}")
            rows.append([
                names[opinion.breast, opinion.modality], model, shown.probability,
                content.percent_range(score.interval), shown.verdict, origin,
            ])  # fmt: skip
    if rows:
        heads = ["Breast", "Model", *_MALIGNANT, "Classes of its image" if classes else "From"]
        yield Table([heads, *rows], [0.12, 0.22, 0.13, 0.15, 0.18, 0.2])
    else:
        yield Text(content.NO_BREAST_NUMBER)
    yield from (Text(sentence) for sentence in content.agreements_by_breast(report.opinions))
    if any(score.is_unlike_training for opinion in report.opinions for score in opinion.scores):
        yield Text(UNLIKE_TEXT)
    yield Text(content.INTERVAL_NOTE, "soft")
    yield from _attention(report.images)
    if not classes:
        yield from _image_by_image(report.images, titles, {model.model_id for model in report.models if model.is_weak})


def _classes_of_breasts(report: Report) -> dict[tuple[str, str], str]:
    """(breast, weights sha256) -> every class with its probability, where each breast's numbers are of one image and no
    other image was answered: then a table image by image would say the same again."""
    answered = [item for item in report.images if item.predictions]
    found = {
        (item.image.laterality or SIDE_NOT_STATED, prediction.weights_sha256): content.class_text(prediction)
        for item in answered
        for prediction in item.predictions
    }
    scores = [score for opinion in report.opinions for score in opinion.scores]
    is_one_each = found.keys() == {(score.breast, score.weights_sha256) for score in scores}
    n = sum(len(item.predictions) for item in answered)
    return found if is_one_each and len(scores) == n and all(score.n_images == 1 for score in scores) else {}


def _attention(items: Sequence[ReportImage]) -> Iterator[Block]:
    """The heat maps; whose they are stands once where all are one model's."""
    shown = [(item, item.attention, jpeg) for item in items if item.attention and (jpeg := attention_jpeg(item))]
    words = {attention.words for _, attention, _ in shown}
    pictures = [
        Picture(jpeg, f"{item.label}, model attention", _map_caption(attention, len(words) > 1), _align(item))
        for item, attention, jpeg in shown
    ]
    if words:
        whose = f": {next(iter(words))}" if len(words) == 1 else ""
        yield Text(f"{content.ATTENTION_CAPTION}{whose} ({AI_GENERATED}).", "soft")
    yield from _rows(pictures, most_mm=38)


def _map_caption(attention: Attention, is_of_several: bool) -> str:
    """Whose map it is, where they are of several models, and that there is nothing on it."""
    whose = attention.words if is_of_several else ""
    return ". ".join(filter(None, [whose, "" if attention.heat.any() else content.EMPTY_MAP]))


def _align(item: ReportImage) -> Literal["left", "center", "right"]:
    """A mammogram's chest wall lies in the middle of the row."""
    if item.image.modality is not Modality.MAMMOGRAPHY or item.image.laterality is None:
        return "center"
    return "right" if item.image.laterality == "R" else "left"


def _image_by_image(items: Sequence[ReportImage], titles: Mapping[str, str], weak: Collection[str]) -> Iterator[Block]:
    rows = []
    for item in items:
        for prediction in item.predictions:
            shown = content.against_threshold(prediction.malignant, prediction.threshold)
            rows.append([
                item.label,
                "\n".join([
                    titles.get(prediction.model_id, prediction.model_id),
                    *(["weak"] if prediction.model_id in weak else []),
                    *([UNLIKE] if prediction.is_unlike_training else []),
                ]),
                shown.probability, content.percent_range(prediction.interval),
                shown.verdict, content.class_text(prediction),
            ])  # fmt: skip
    if rows:
        yield Heading(f"Image by image ({AI_GENERATED})", level=3)
        yield Table([["Image", "Model", *_MALIGNANT, "Classes"], *rows], [0.1, 0.22, 0.13, 0.15, 0.18, 0.22])


def _language_model(said: Sequence[LanguageWords]) -> Iterator[Block]:
    """A part of its own: neither measured, nor a probability, nor a reader's."""
    yield Heading("Words of a language model, unverified", mark=AI_GENERATED)
    yield Text(content.LANGUAGE_NOTE, "soft")
    rows = [
        [
            f"{one.label}, {'drawn by a reader' if one.outline is None else f'outline {one.outline + 1}'}",
            ", ".join(f"{name}: {word}" for name, word in one.words.items()) or "nothing it could tell",
            f"{one.model}{f' ({one.served_model})' if one.served_model else ''}, question {one.prompt_sha256[:8]}",
        ]
        for one in said
    ]
    yield Table([["Lesion", "Words", "By"], *rows], [0.2, 0.55, 0.25])


def _models(models: Sequence[ReportModel]) -> Iterator[Block]:
    """One row a model; what most of their cards say stands once, in a last row that names those it is not true of."""
    yield Heading("The models and their limits")
    yield from (Text(f"{model.title}. {leak}", "alarm") for model in models for leak in model.leaks)
    limits = _of_most({model.title: model.limits for model in models})
    rules = _of_most({model.title: (model.threshold_rule,) for model in models if model.threshold_rule})
    rows = [
        [
            f"{model.title}\n{model.model_id}",
            content.measured(model.headline),
            "\n".join(
                filter(None, (model.threshold_text, "" if model.threshold_rule in rules else model.threshold_rule))
            ),
            "\n".join((*model.remarks, *(limit for limit in model.limits if limit not in limits))),
        ]
        for model in models
    ]
    if limits or rules:
        rows.append([ALL_MODELS, "", "\n".join(rules.values()), "\n".join(limits.values())])
    heads = ["Model", "Measured (95 % interval)", "Threshold", "Limits"]
    yield Table([heads, *rows], [0.17, 0.27, 0.19, 0.37])


def _of_most(said: Mapping[str, Sequence[str]]) -> dict[str, str]:
    """Sentences that more than half of several cards say -> the same with the titles of those that do not."""
    found = {}
    for sentence in dict.fromkeys(one for sentences in said.values() for one in sentences):
        others = [title for title, sentences in said.items() if sentence not in sentences]
        if len(said) > 1 and len(others) < len(said) / 2:
            found[sentence] = f"{sentence} (Not {', '.join(others)}.)" if others else sentence
    return found


def _reads(reads: Sequence[ReportRead]) -> Iterator[Block]:
    """Every read there was, in its order: the first impression, the final assessment, its corrections."""
    yield Heading("The radiologist's reads in their order")
    heads = [f"{content.read_title(read)}\n{content.named(read.reader)}, {content.when(read.at)}" for read in reads]
    rows = [[breast, *cells] for breast, cells in content.reads_by_breast(reads)]
    yield Table([["Breast", *heads], *rows], [0.2, *[0.8 / len(heads)] * len(heads)])
    for read in reads:
        for way in read.answers_seen:
            yield Text(f"{content.read_title(read)}, {content.named(read.reader)}. {content.SEEN_ANSWER[way]}.")
    for read in reads:
        if read not in content.counted(reads):
            title = f"{content.read_title(read)}, {content.named(read.reader)}"
            for number, one in enumerate(read.annotations.findings, start=1):
                yield Text(f"{title}, finding {number}: {content.breast_name(one.breast)}: {description_of(one)}.")
            yield from _comment(read, f" ({content.named(read.reader)})")


def _provenance(report: Report) -> Iterator[Block]:
    yield Heading("How this report was made")
    yield Facts(
        [
            ("Made", f"{content.when(report.made_at)} by {content.named(report.made_by)}"),
            ("Reading mode", content.READING_MODE_WORDS[report.reading_mode]),
            ("Study", report.study_id),
            ("Software", software()),
        ]
    )
    yield from (Text(f"{item.label}: image sha256 {item.image.sha256}", "code") for item in report.images)
    yield from (Text(f"{model.model_id}: weights sha256 {model.weights_sha256}", "code") for model in report.models)
    learnt = _by_sentence((model.data, model.model_id) for model in report.models if model.data)
    yield from (Text(f"Learnt from {data}: {', '.join(ids)}", "code") for data, ids in learnt.items())
    if report.has_ai:
        origin = "come from the models named above and were not verified by a person."
        yield Text(f'Numbers and heat maps marked "{AI_GENERATED}" {origin}', "soft")
