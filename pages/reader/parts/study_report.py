"""The report of a stored study: gathered from the records and the cards, and offered for download."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import replace
from datetime import UTC, datetime

import streamlit as st

from core.archive.results.diagnostic_report import export_diagnostic_report
from core.evaluation.tables.of_cards import headline, is_at_folds_own, measured_at
from core.imaging.hanging import hang, label_on_frame
from core.imaging.preprocess import heat_map
from core.models.cards import WEAK, known_cards, leak_text, leaks_of, remarks_of, weak_texts
from core.models.operating_point import operating_point
from core.reading import second_read, triage
from core.reading.opinions import opinions_of
from core.reading.second_read import Answer
from core.reading.triage import TRIAGE_NOTE
from core.records.archives.identity import has_identity
from core.records.people.permissions import SignedIn
from core.records.reads.frames import frame_pixels
from core.records.reads.reads import Read, ai_visible, reads_of, record_export
from core.records.reads.studies import StoredStudy, load_study
from core.reports.content import (
    Attention,
    LanguageWords,
    Report,
    ReportImage,
    ReportModel,
    ReportRead,
    not_here_text,
    removed_text,
)
from core.reports.html import build_html
from core.reports.pdf import build_pdf
from core.reports.study import study_document
from core.settings import Settings
from pages.parts.attention import default_choice
from pages.parts.card_rows import data_text
from pages.parts.session import database, deferred, require, settings

_MEASURES = {"auc": "AUC", "sensitivity_at_threshold": "sensitivity", "specificity_at_threshold": "specificity"}
"""What a row of the report's table of models says was measured; the page Models has the rest."""


def gather(
    person: SignedIn, study: StoredStudy, answers: Sequence[Answer], retained: Sequence[Read], site: Settings
) -> Report:
    """Everything the report says. answers: empty while the reader may not see them. kept: reads, oldest first."""
    return Report(
        study_id=study.row.id,
        study_name=study.row.display_name,
        images=tuple(_images(person, study, answers, retained, site)),
        reads=tuple(_read(read) for read in retained),
        made_at=datetime.now(UTC),
        made_by=person.name,
        reading_mode=study.row.reading_mode,
        opinions=tuple(opinions_of(site, second_read.breast_scores(study, answers))),
        models=tuple(_models(answers, site)),
        site_name=site.site_name,
        is_synthetic=study.row.is_synthetic,
        notes=(*_not_here(study), *_unanswered(study, answers, site)),
        language=tuple(_language(person, study, site)),
        taken_on=study.row.taken_on,
    )


def _not_here(study: StoredStudy) -> Iterator[str]:
    if study.n_not_here:
        yield not_here_text(study.n_not_here)


def offer(actor: SignedIn, study: StoredStudy) -> None:
    """Two downloads, made when they are clicked of what holds then, which may be long after the page was drawn. The
    file's name says the study's id, never its display name."""
    require("export_report")
    site, db = settings(), database()

    def made(what: str) -> bytes:
        now = load_study(db, actor, study.row.id)
        answers = second_read.answers_of(db, actor, now) if ai_visible(db, actor, now.row.id) else []
        document = study_document(gather(actor, now, answers, reads_of(db, actor, now.row.id), site))
        written = build_pdf(document) if what == "pdf" else build_html(document).encode()
        record_export(db, actor, study.row.id, what=what)
        return written

    name = f"secondread-{study.row.id[:8]}"
    with st.container(horizontal=True):
        st.download_button(
            "Report as PDF", deferred("export_report", lambda _: made("pdf")), f"{name}.pdf",
            "application/pdf", on_click="ignore", icon=":material/picture_as_pdf:", key="report_pdf",
        )  # fmt: skip
        st.download_button(
            "Report as HTML", deferred("export_report", lambda _: made("html")), f"{name}.html",
            "text/html", on_click="ignore", icon=":material/code:", key="report_html",
        )  # fmt: skip
        if has_identity(db, actor, study.row.id):
            st.download_button(
                "FHIR", deferred("export_report", lambda _: export_diagnostic_report(db, actor, study.row.id)),
                f"{name}.json", "application/fhir+json", on_click="ignore", icon=":material/data_object:",
                key="report_fhir", help="A DiagnosticReport (R4) with what the study is called where it came from, and "
                "whose it is if that is an archive: that you see it is recorded.",
            )  # fmt: skip


def _images(
    actor: SignedIn, study: StoredStudy, answers: Sequence[Answer], retained: Sequence[Read], site: Settings
) -> Iterator[ReportImage]:
    """In hanging order, each under the attention of the lead, or of the first model that read it; behind a clip its
    other frames that are marked or measured on."""
    marked = {(mark.image_sha256, mark.frame) for read in retained for mark in read.annotations.marks}
    leads, titles = second_read.leads_of(site, study, answers), second_read.titles(site)
    for place in hang([stored.image for stored in study.images]).places:
        if place.index is None:
            continue
        stored = study.images[place.index]
        own = [(prediction, explanation) for image_id, prediction, explanation in answers if image_id == stored.id]
        own.sort(key=lambda answer: answer[0].model_id != leads.get(stored.image.modality))
        attention = None
        removed = removed_text(stored.pixels_removed_at) if stored.pixels_removed_at else ""
        if own and not removed:
            choice = default_choice(*own[0], titles)
            attention = Attention(heat_map(own[0][1], choice.branch, choice.class_index), choice.text)
        predictions = tuple(prediction for prediction, _ in own)
        yield ReportImage(place.label, stored.image, place.is_mirrored, predictions, attention, removed)
        for frame in range(len(stored.frames)):
            if (stored.image.sha256, frame) in marked and frame != stored.image.frame:
                pixels, _ = frame_pixels(database(), actor, stored.id, frame)
                image = replace(stored.image, pixels=pixels, frame=frame)
                yield ReportImage(label_on_frame(place.label, frame), image, place.is_mirrored, (), None, removed)


def _read(read: Read) -> ReportRead:
    impressions = {breast: (given.birads, given.suspicion) for breast, given in read.impressions.items()}
    return ReportRead(
        read.kind, read.person_name, read.created_at, impressions, read.reading_mode, read.comment, read.is_amendment,
        answers_seen=read.answers_seen, sentence=read.sentence, density=read.density, annotations=read.annotations,
        is_decision=read.is_decision,
    )  # fmt: skip


def _unanswered(study: StoredStudy, answers: Sequence[Answer], site: Settings) -> list[str]:
    """Why no model answers for some of the pictures; whether models may have had a part before the first impression."""
    answered = {image_id for image_id, _, _ in answers}
    unread = [stored.image for stored in study.images if stored.id not in answered]
    sorted_by_models = [TRIAGE_NOTE] if triage.is_on(site) else []
    return [*second_read.no_opinions(site, unread).values(), *sorted_by_models]


def _language(person: SignedIn, study: StoredStudy, site: Settings) -> Iterator[LanguageWords]:
    """The language model's words, where the site wants them in reports and this person may see the AI's answer."""
    if not (site.language_model and site.language_model_in_report and ai_visible(database(), person, study.row.id)):
        return
    from core.records.language.answers import language_answers_of  # loaded only where the site wants one

    labels = {
        study.images[place.index].id: place.label
        for place in hang([stored.image for stored in study.images]).places
        if place.index is not None
    }
    for one in language_answers_of(database(), person, study.row.id):
        if one.described.prompt_sha256:
            said = one.described
            yield LanguageWords(
                labels.get(one.image_id, ""),
                None if one.is_drawn else one.number,
                one.model,
                said.served_model,
                said.prompt_sha256,
                said.words,
            )


def _models(answers: Sequence[Answer], site: Settings) -> Iterator[ReportModel]:
    """The cards of the weights that answered; of weights that are here no more, only what the answer says of them."""
    cards = {card.weights_sha256: card for card in known_cards(site)}
    for prediction in {prediction.weights_sha256: prediction for _, prediction, _ in answers}.values():
        card = cards.get(prediction.weights_sha256)
        if card is None:
            yield ReportModel(
                prediction.model_id, prediction.model_id, prediction.weights_sha256,
                f"Threshold {100 * prediction.threshold:.1f} %; the card of these weights is no longer here.", {},
            )  # fmt: skip
            continue
        point = operating_point(card, prediction.threshold, prediction.threshold_rule)
        measured = {**headline(card), **measured_at(card, point)}  # the calls at the threshold that stands beside them
        of_folds = " at each fold's own threshold" if is_at_folds_own(card, point) else ""
        remarks, is_weak = remarks_of(site, card), bool(weak_texts(site, card))
        yield ReportModel(
            card.model_id,
            card.title,
            card.weights_sha256,
            point.brief,
            {
                f"{words}{of_folds if key.endswith('_at_threshold') else ''}": measured[key]
                for key, words in _MEASURES.items()
                if key in measured
            },
            data_text(card),
            tuple(limit for limit in card.limits if not (is_weak and limit.startswith(WEAK))),
            tuple(map(leak_text, leaks_of(card))),
            remarks,
            point.rule_text,
            is_weak,
        )
