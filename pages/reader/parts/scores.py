"""What the models said, on the screen, once the reader may see it.

Probabilities side by side on one scale from 0 to 100 %: value, interval, threshold. One hue, no red, no green.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from html import escape

import streamlit as st

from core.models.aggregate import BreastScore
from core.models.cards import Card, known_cards, leak_text, leaks_of, remarks_of
from core.models.operating_point import operating_point
from core.models.training_distance import UNLIKE_TEXT
from core.reading import second_read
from core.reading.second_read import Answer
from core.records.reads.studies import StoredImage, StoredStudy
from core.reports.content import (
    AI_GENERATED,
    INTERVAL_NOTE,
    against_threshold,
    agreement_of,
    breast_name,
    class_text,
    percent_range,
)
from pages.parts.markdown import plain
from pages.parts.session import database, settings


@dataclass(frozen=True, slots=True)
class Bar:
    """One line of the figure; all but the texts in [0, 1]. remarks: what must be known before leaning on the number."""

    name: str
    malignant: float
    interval: tuple[float, float]
    threshold: float
    remarks: tuple[str, ...] = ()


def bars_html(bars: Sequence[Bar]) -> str:
    """The figure as HTML without scripts; every word in it is escaped. It also reads well aloud."""
    lines = "".join(_line(bar) for bar in bars)
    return f'<div role="list" style="display:grid;gap:.8rem;margin:.25rem 0;font-size:.95rem">{lines}</div>'


def _line(bar: Bar) -> str:
    low, high = bar.interval
    shown = against_threshold(bar.malignant, bar.threshold)
    said = f"{bar.name}: {shown.probability}, 95 % interval {percent_range(bar.interval)}. {shown.verdict}"
    said = " ".join([f"{said}." if bar.remarks else said, *bar.remarks])
    remarks = "".join(
        f'<div style="font-size:.87rem;margin-top:.25rem;color:#ffd479">{escape(remark)}</div>'
        for remark in bar.remarks
    )
    track = (
        '<div style="position:relative;height:.75rem;margin-top:.2rem;background:#20262b;border-radius:2px">'
        f'<div style="position:absolute;top:0;bottom:0;left:{100 * low:.2f}%;width:{max(0.5, 100 * (high - low)):.2f}%;'
        'background:#5f7f8f"></div>'
        f'<div style="position:absolute;top:-.1rem;bottom:-.1rem;left:calc({100 * bar.malignant:.2f}% - 2px);width:4px;'
        'background:#e8f1f5"></div>'
        f'<div title="threshold {shown.threshold}" style="position:absolute;top:-.3rem;bottom:-.3rem;'
        f'left:{100 * bar.threshold:.2f}%;border-left:2px dashed #ffd479"></div></div>'
    )
    return (
        f'<div role="listitem" aria-label="{escape(said)}">'
        '<div style="display:flex;justify-content:space-between;gap:1rem">'
        f"<span>{escape(bar.name)}</span><span><b>{shown.probability}</b> "
        f'<span style="opacity:.7">({percent_range(bar.interval)})</span></span></div>{track}'
        f'<div style="opacity:.7;font-size:.87rem;margin-top:.25rem">{shown.verdict}</div>{remarks}</div>'
    )


def unasked(study: StoredStudy, answers: Sequence[Answer]) -> list[tuple[Card, StoredImage]]:
    """What the live models have not answered yet; a model that has just refused is not asked again by itself."""
    found = second_read.unanswered(settings(), study, answers)
    return [(card, stored) for card, stored in found if card.title not in _refusals(study)]


def ask(study: StoredStudy, work: Sequence[tuple[Card, StoredImage]]) -> None:
    """Have the models answer while a bar moves; `show_refusals` says why one could not."""
    bar = st.progress(0.0, "Starting the models")

    def show(number: int, card: Card) -> None:
        bar.progress(number / len(work), f"{plain(card.title)}: answer {number + 1} of {len(work)}")

    _refusals(study).update(second_read.ask(database(), study, work, show))
    bar.empty()


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


def show_scores(study: StoredStudy, answers: Sequence[Answer], labels: Mapping[str, str]) -> None:
    """Breast by breast, then the thresholds in words, then image by image. labels: image id -> as hung."""
    names = second_read.titles(settings())
    scores = second_read.breast_scores(study, answers)
    remarks = _remarks(answers)
    st.markdown(f"**Probability of malignancy** :gray-badge[{AI_GENERATED}]")
    if answers and not scores:
        st.caption("None of these pictures is a full view that counts for a breast's number; each has its own score.")
    for breast in dict.fromkeys(score.breast for score in scores):
        _show_breast([score for score in scores if score.breast == breast], names, remarks)
    st.caption(f"{INTERVAL_NOTE} The dashed line is the model's threshold.")
    _show_leaks(answers)
    _show_thresholds(answers)
    with st.expander("Image by image", icon=":material/grid_view:"):
        _show_images(answers, labels, names, remarks)
    _show_timing(answers)


def show_not_scored(study: StoredStudy, labels: Mapping[str, str]) -> None:
    """Why no model reads some of the pictures; each reason once, with the pictures it holds for."""
    reasons: dict[str, list[str]] = {}
    for stored in study.images:
        if stored.image.not_scored:
            reasons.setdefault(stored.image.not_scored, []).append(labels.get(stored.id, ""))
    for reason, where in reasons.items():
        st.info(f"**{plain(', '.join(where))}**: {plain(reason)}", icon=":material/info:")


def _remarks(answers: Sequence[Answer]) -> dict[str, tuple[str, ...]]:
    """Id of a weak model among those that answered -> what is said beside its numbers."""
    shown = {prediction.weights_sha256: prediction.model_id for _, prediction, _ in answers}
    site = settings()
    return {
        shown[card.weights_sha256]: remarks_of(site, card) for card in known_cards(site) if card.weights_sha256 in shown
    }


def _show_breast(
    scores: Sequence[BreastScore], names: Mapping[str, str], remarks: Mapping[str, tuple[str, ...]]
) -> None:
    st.markdown(f"**{breast_name(scores[0].breast)}**")
    bars = [
        Bar(
            names.get(s.model_id, s.model_id),
            s.malignant,
            s.interval,
            s.threshold,
            (*((UNLIKE_TEXT,) if s.is_unlike_training else ()), *remarks.get(s.model_id, ())),
        )
        for s in scores
    ]
    st.html(bars_html(bars))
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


def _show_images(
    answers: Sequence[Answer],
    labels: Mapping[str, str],
    names: Mapping[str, str],
    remarks: Mapping[str, tuple[str, ...]],
) -> None:
    rows = [
        {
            "Image": labels.get(image_id, ""),
            "Model": names.get(prediction.model_id, prediction.model_id),
            "Malignant": shown.probability,
            **({"Mind": " ".join(remarks.get(prediction.model_id, ()))} if any(remarks.values()) else {}),
            "95 % interval": percent_range(prediction.interval),
            "Threshold": shown.verdict,
            "All classes": class_text(prediction),
            "Seconds": f"{prediction.seconds:.2f}",
        }
        for image_id, prediction, _ in answers
        for shown in [against_threshold(prediction.malignant, prediction.threshold)]
    ]
    st.dataframe(rows, hide_index=True)


def _show_timing(answers: Sequence[Answer]) -> None:
    devices = sorted({prediction.device for _, prediction, _ in answers})
    seconds = sum(prediction.seconds for _, prediction, _ in answers)
    st.caption(f"Computed on {', '.join(map(plain, devices))} in {seconds:.1f} s for {len(answers)} answers.")
