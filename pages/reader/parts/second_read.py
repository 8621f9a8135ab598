"""The second read: what the models say, once the reader may see it.

Probabilities side by side on one scale from 0 to 100 %: value, interval, threshold. One hue, no red, no green.
"""

from __future__ import annotations

import logging
import threading
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from html import escape

import streamlit as st

from core.errors import AppError
from core.models.aggregate import BreastScore, per_breast
from core.models.cards import Card, known_cards, leak_text, leaks_of, live_cards, shadow_cards
from core.models.operating_point import held_against, operating_point
from core.records.people.permissions import SignedIn
from core.records.reads import predictions
from core.records.reads.studies import StoredImage, StoredStudy
from core.records.releases import shadows
from core.records.site_settings import points_here
from core.reports.content import (
    AI_GENERATED,
    INTERVAL_NOTE,
    agreement_of,
    breast_name,
    class_text,
    percent,
    percent_range,
    threshold_verdict,
)
from core.types import Explanation, Modality, Prediction
from pages.parts.markdown import plain
from pages.parts.models import loaded
from pages.parts.session import database, settings

log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class Bar:
    """One line of the figure; all but the name in [0, 1]."""

    name: str
    malignant: float
    interval: tuple[float, float]
    threshold: float


def bars_html(bars: Sequence[Bar]) -> str:
    """The figure as HTML without scripts; every word in it is escaped. It also reads well aloud."""
    lines = "".join(_line(bar) for bar in bars)
    return f'<div role="list" style="display:grid;gap:.8rem;margin:.25rem 0;font-size:.95rem">{lines}</div>'


def _line(bar: Bar) -> str:
    low, high = bar.interval
    verdict = threshold_verdict(bar.malignant, bar.threshold)
    said = f"{bar.name}: {percent(bar.malignant)}, 95 % interval {percent_range(bar.interval)}. {verdict}"
    track = (
        '<div style="position:relative;height:.75rem;margin-top:.2rem;background:#20262b;border-radius:2px">'
        f'<div style="position:absolute;top:0;bottom:0;left:{100 * low:.2f}%;width:{max(0.5, 100 * (high - low)):.2f}%;'
        'background:#5f7f8f"></div>'
        f'<div style="position:absolute;top:-.1rem;bottom:-.1rem;left:calc({100 * bar.malignant:.2f}% - 2px);width:4px;'
        'background:#e8f1f5"></div>'
        f'<div title="threshold {percent(bar.threshold)}" style="position:absolute;top:-.3rem;bottom:-.3rem;'
        f'left:{100 * bar.threshold:.2f}%;border-left:2px dashed #ffd479"></div></div>'
    )
    return (
        f'<div role="listitem" aria-label="{escape(said)}">'
        '<div style="display:flex;justify-content:space-between;gap:1rem">'
        f"<span>{escape(bar.name)}</span><span><b>{percent(bar.malignant)}</b> "
        f'<span style="opacity:.7">({percent_range(bar.interval)})</span></span></div>{track}'
        f'<div style="opacity:.7;font-size:.87rem;margin-top:.25rem">{verdict}</div></div>'
    )


Answer = tuple[str, Prediction, Explanation]


def answers_of(person: SignedIn, study: StoredStudy) -> list[Answer]:
    """What the models said of the study: by image, and for each image in the order of the cards.

    Refused with a sentence while the reader may not see it.
    """
    found = predictions.predictions_of(database(), person, study.row.id)
    order = {model_id: place for place, model_id in enumerate(titles())}
    places = {stored.id: place for place, stored in enumerate(study.images)}
    return sorted(found, key=lambda answer: (places[answer[0]], order.get(answer[1].model_id, len(order))))


def unasked(study: StoredStudy, found: Sequence[Answer]) -> list[tuple[Card, StoredImage]]:
    """The live models that have not read an image of their modality yet, model by model.

    Once a study is final no model is asked any more: what is shown is what the readers saw. A model that has just
    refused is not asked again by itself.
    """
    if study.row.state == "final":
        return []
    answered = {(image_id, prediction.model_id) for image_id, prediction, _ in found}
    return [
        (card, stored)
        for card in live_cards(settings())
        for stored in study.images
        if stored.image.is_read_by(card.modality)
        and (stored.id, card.model_id) not in answered
        and card.title not in _refusals(study)
    ]


def ask(study: StoredStudy, work: Sequence[tuple[Card, StoredImage]]) -> None:
    """Have each model read each image and keep what it said; a bar moves meanwhile.

    A model that cannot answer does not keep the others from answering; `show_refusals` says why it could not.
    """
    bar = st.progress(0.0, "Starting the models")
    points = points_here(database(), tuple({card.weights_sha256: card for card, _ in work}.values()))
    for number, (card, stored) in enumerate(work):
        bar.progress(number / len(work), f"{plain(card.title)}: answer {number + 1} of {len(work)}")
        try:
            prediction, explanation = loaded(card).read(stored.image)
            held = held_against(prediction, points[card.weights_sha256])
            predictions.record_predictions(database(), study.row.id, stored.id, held, explanation)
        except AppError as refused:
            _refusals(study)[card.title] = str(refused)
    bar.empty()
    ask_shadow_models(study)


def ask_shadow_models(study: StoredStudy) -> None:
    """Have the models that run silently read the study too, without anybody waiting for them or seeing them."""
    work = [
        (card, stored)
        for card in shadow_cards(settings())
        for stored in study.images
        if stored.image.is_read_by(card.modality)
    ]
    if not work:
        return
    db = database()

    def read_all() -> None:
        from core.models.inference import load_model

        for card, stored in work:
            try:
                prediction, _ = load_model(card).read(stored.image)
                shadows.record_shadow_answer(db, study.row.id, stored.id, prediction)
            except Exception as error:  # a thread's outermost loop; a silent model's failure is nobody's business here
                log.error("silent model %s: %s", card.weights_sha256[:8], type(error).__name__, exc_info=error)

    threading.Thread(target=read_all, name="silent models", daemon=True).start()


def show_refusals(study: StoredStudy) -> None:
    """The sentences of the models that could not answer, and a way to ask them again."""
    refusals = _refusals(study)
    for title, sentence in refusals.items():
        st.error(f"{plain(title)}: {plain(sentence)}", icon=":material/block:")
    if refusals and st.button("Ask again", icon=":material/refresh:"):
        refusals.clear()
        st.rerun()


def _refusals(study: StoredStudy) -> dict[str, str]:
    """Title of a model that refused -> its sentence, for this tab and study."""
    retained: dict[str, str] = st.session_state.setdefault(f"refusals_{study.row.id}", {})
    return retained


def without_model(study: StoredStudy) -> list[Modality]:
    """The study's modalities that no model has been released for."""
    live = {card.modality for card in live_cards(settings())}
    kinds = {stored.image.modality for stored in study.images if stored.image.modality}
    return sorted(kinds - live)


def titles() -> dict[str, str]:
    """Model id -> title, for every model that may have answered, in the order of the cards; a live card's counts."""
    found: dict[str, str] = {}
    for card in known_cards(settings()):
        found.setdefault(card.model_id, card.title)
    return found


def breast_scores(study: StoredStudy, answers: Sequence[Answer]) -> list[BreastScore]:
    by_image = predictions_by_image(answers)
    images = [stored.image for stored in study.images]
    return per_breast(images, [by_image.get(stored.id, []) for stored in study.images])


def predictions_by_image(answers: Sequence[Answer]) -> dict[str, list[Prediction]]:
    grouped: dict[str, list[Prediction]] = {}
    for image_id, prediction, _ in answers:
        grouped.setdefault(image_id, []).append(prediction)
    return grouped


def show_scores(study: StoredStudy, answers: Sequence[Answer], labels: Mapping[str, str]) -> None:
    """Breast by breast, then the thresholds in words, then image by image. labels: image id -> as hung."""
    names = titles()
    scores = breast_scores(study, answers)
    st.markdown(f"**Probability of malignancy** :gray-badge[{AI_GENERATED}]")
    if answers and not scores:
        st.caption("None of these pictures is a full view that counts for a breast's number; each has its own score.")
    for breast in dict.fromkeys(score.breast for score in scores):
        _show_breast([score for score in scores if score.breast == breast], names)
    st.caption(f"{INTERVAL_NOTE} The dashed line is the model's threshold.")
    _show_leaks(answers)
    _show_thresholds(answers)
    with st.expander("Image by image", icon=":material/grid_view:"):
        _show_images(answers, labels, names)
    _show_timing(answers)


def show_not_scored(study: StoredStudy, labels: Mapping[str, str]) -> None:
    """Why no model reads some of the pictures; each reason once, with the pictures it holds for."""
    reasons: dict[str, list[str]] = {}
    for stored in study.images:
        if stored.image.not_scored:
            reasons.setdefault(stored.image.not_scored, []).append(labels.get(stored.id, ""))
    for reason, where in reasons.items():
        st.info(f"**{plain(', '.join(where))}**: {plain(reason)}", icon=":material/info:")


def _show_breast(scores: Sequence[BreastScore], names: Mapping[str, str]) -> None:
    st.markdown(f"**{breast_name(scores[0].breast)}**")
    st.html(bars_html([Bar(names.get(s.model_id, s.model_id), s.malignant, s.interval, s.threshold) for s in scores]))
    words = agreement_of(scores)
    if words:
        st.markdown(words)
    for rule in dict.fromkeys(score.rule for score in scores):
        st.caption(f"{rule[0].upper()}{rule[1:]}.")


def _show_leaks(answers: Sequence[Answer]) -> None:
    """In red, before anything is made of the numbers, what cannot be believed of them."""
    shown = {prediction.weights_sha256 for _, prediction, _ in answers}
    for card in known_cards(settings()):
        if card.weights_sha256 in shown:
            for leak in leaks_of(card):
                st.error(f"{plain(card.title)}: {plain(leak_text(leak))}", icon=":material/warning:")


def _show_thresholds(answers: Sequence[Answer]) -> None:
    shown = {prediction.weights_sha256: prediction for _, prediction, _ in answers}
    with st.expander("What the thresholds mean", icon=":material/help:"):
        for card in known_cards(settings()):
            if answer := shown.get(card.weights_sha256):
                point = operating_point(card, answer.threshold, answer.threshold_rule)
                st.markdown(f"**{plain(card.title)}**: {plain(point.text)}")
        st.caption("A score above the threshold is no diagnosis, and one below it does not rule cancer out.")


def _show_images(answers: Sequence[Answer], labels: Mapping[str, str], names: Mapping[str, str]) -> None:
    rows = [
        {
            "Image": labels.get(image_id, ""),
            "Model": names.get(prediction.model_id, prediction.model_id),
            "Malignant": percent(prediction.malignant),
            "95 % interval": f"{percent(prediction.interval[0])} to {percent(prediction.interval[1])}",
            "Threshold": threshold_verdict(prediction.malignant, prediction.threshold),
            "All classes": class_text(prediction),
            "Seconds": f"{prediction.seconds:.2f}",
        }
        for image_id, prediction, _ in answers
    ]
    st.dataframe(rows, hide_index=True)


def _show_timing(answers: Sequence[Answer]) -> None:
    devices = sorted({prediction.device for _, prediction, _ in answers})
    seconds = sum(prediction.seconds for _, prediction, _ in answers)
    st.caption(f"Computed on {', '.join(map(plain, devices))} in {seconds:.1f} s for {len(answers)} answers.")


def explanations_by_image(study: StoredStudy, answers: Sequence[Answer]) -> list[dict[str, Explanation]]:
    """For each image of the study, weights sha256 -> explanation."""
    return [
        {
            prediction.weights_sha256: explanation
            for image_id, prediction, explanation in answers
            if image_id == stored.id
        }
        for stored in study.images
    ]
