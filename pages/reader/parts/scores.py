"""What the models said, on the screen, once the reader may see it.

One line a breast, by the model that leads; the others are folded under it. Probabilities stand on one scale from 0 to
100 %: value, interval, threshold. One hue, no red, no green.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from html import escape

import streamlit as st

from core.models.aggregate import MAX_RULE, MEAN_RULE, ONE_RULE, BreastScore
from core.models.cards import Card, known_cards, leak_text, leaks_of, remarks_of, spread_text
from core.models.operating_point import operating_point
from core.models.training_distance import UNLIKE, UNLIKE_TEXT
from core.reading import second_read
from core.reading.opinions import Opinion, opinions_of
from core.reading.second_read import Answer
from core.records.reads.studies import StoredImage, StoredStudy
from core.reports.content import (
    AI_GENERATED,
    CLASS_MEANING,
    INTERVAL_NOTE,
    NO_BREAST_NUMBER,
    against_threshold,
    breast_name,
    class_text,
    names_of_breasts,
    percent_range,
    warnings_of,
)
from pages.parts.markdown import plain
from pages.parts.session import database, settings


@dataclass(frozen=True, slots=True)
class Bar:
    """One line of the figure; all but the texts in [0, 1]. remarks: what must be known before leaning on the number.

    by: whose number it is, where `name` is the breast's. notes: what stands under it.
    """

    name: str
    malignant: float
    interval: tuple[float, float]
    threshold: float
    remarks: tuple[str, ...] = ()
    by: str = ""
    notes: tuple[str, ...] = ()


def bars_html(bars: Sequence[Bar]) -> str:
    """The figure as HTML without scripts; every word in it is escaped. It also reads well aloud."""
    lines = "".join(_line(bar) for bar in bars)
    return f'<div role="list" class="sr-bars">{lines}</div>'


def _line(bar: Bar) -> str:
    low, high = bar.interval
    shown = against_threshold(bar.malignant, bar.threshold)
    name = f"{bar.name}, {bar.by}" if bar.by else bar.name
    said = f"{name}: {shown.probability}, 95 % interval {percent_range(bar.interval)}. {shown.verdict}"
    said = " ".join([f"{said}." if bar.remarks or bar.notes else said, *bar.remarks, *bar.notes])
    remarks = "".join(f'<div class="sr-remark">{escape(remark)}</div>' for remark in bar.remarks)
    notes = "".join(f'<div class="sr-soft">{escape(note)}</div>' for note in bar.notes)
    by = f"<span>{escape(bar.by)}</span>" if bar.by else ""
    track = (
        '<div class="sr-track">'
        f'<div class="sr-interval" style="left:{100 * low:.2f}%;width:{max(0.5, 100 * (high - low)):.2f}%"></div>'
        f'<div class="sr-value" style="left:calc({100 * bar.malignant:.2f}% - 2px)"></div>'
        f'<div class="sr-threshold" title="threshold {shown.threshold}" style="left:{100 * bar.threshold:.2f}%"></div>'
        "</div>"
    )
    return (
        f'<div role="listitem" aria-label="{escape(said)}"><div class="sr-ends">'
        f"<span>{escape(bar.name)}</span><span><b>{shown.probability}</b> "
        f'<span class="sr-soft">({percent_range(bar.interval)})</span></span></div>{track}'
        f'<div class="sr-ends sr-soft"><span>{shown.verdict}</span>{by}</div>{notes}{remarks}</div>'
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

    def wait(number: int, card: Card, place: int) -> None:
        """Redrawn while it waits: a reader who has left gives up the place."""
        before = f", {place} {'image' if place == 1 else 'images'} of others first" if place else ""
        bar.progress(number / len(work), f"{plain(card.title)}: answer {number + 1} of {len(work)}{before}")

    _refusals(study).update(second_read.ask(database(), study, work, show, wait))
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
    """Breast by breast the lead's number, the others folded under it. labels: image id -> as hung."""
    names = second_read.titles(settings())
    opinions = opinions_of(settings(), second_read.breast_scores(study, answers))
    with st.container(horizontal=True, vertical_alignment="center", key="sr-second-read"):
        st.markdown(f"**Probability of malignancy** :gray-badge[{AI_GENERATED}]", width="stretch")
        with st.popover("Meaning", icon=":material/help:"), st.container(key="sr-meaning"):
            _show_meaning(opinions, answers, names)
        with st.popover("By image", icon=":material/grid_view:"), st.container(key="sr-by-image"):
            _show_images(study, answers, labels, names)
    _show_leaks(answers)
    if not opinions:
        st.caption(NO_BREAST_NUMBER)
        return
    _show_notes(opinions, names)
    _say_another_first(study, opinions, names)
    breasts = names_of_breasts(opinions)
    columns = st.columns(2) if len(opinions) == 2 else [st.container() for _ in opinions]
    for column, opinion in zip(columns, opinions, strict=True):
        with column.container(gap="small"):
            _show_opinion(opinion, breasts[opinion.breast, opinion.modality], names)


def _show_notes(opinions: Sequence[Opinion], names: Mapping[str, str]) -> None:
    """Above the leads' numbers, each sentence once: what must be known before any of them is leaned on."""
    notes = [note for opinion in opinions for note in opinion.notes]
    remarks = [
        f"{names.get(one.lead.model_id, one.lead.model_id)}: {remark}"
        for one in opinions
        for remark in one.remarks.get(one.lead.weights_sha256, ())
    ]
    shown = "".join(f'<div class="sr-remark">{escape(words)}</div>' for words in dict.fromkeys((*notes, *remarks)))
    if shown:
        st.html(f'<div role="note">{shown}</div>')


def _say_another_first(study: StoredStudy, opinions: Sequence[Opinion], names: Mapping[str, str]) -> None:
    """While the study is open in this tab: whose number stood first when it was first seen, where that has changed.

    An administrator may promote, retire or name a model between two clicks of a reader, who would take the new number
    for the one seen before.
    """
    key = f"first_seen_{study.row.id}"
    if study.is_final_for_me:
        st.session_state.pop(key, None)
        return
    seen: dict[str, tuple[str, str]] = st.session_state.setdefault(key, {})
    for opinion in opinions:
        name, lead = f"{breast_name(opinion.breast)} ({opinion.modality})", opinion.lead
        shown = against_threshold(lead.malignant, lead.threshold).probability
        model_id, number = seen.setdefault(name, (lead.model_id, shown))
        if model_id != lead.model_id:
            st.warning(
                f"{name}: {plain(names.get(lead.model_id, lead.model_id))} stands first now. When you first saw the "
                f"second read it was {plain(names.get(model_id, model_id))}, with {number}: which models answer here "
                "was changed meanwhile, or one answered late.",
                icon=":material/swap_vert:",
            )


def _show_opinion(opinion: Opinion, name: str, names: Mapping[str, str]) -> None:
    lead = opinion.lead
    marks = ", weak" if opinion.is_weak(lead) else ""
    by = f"{names.get(lead.model_id, lead.model_id)}{marks}"
    rule = "" if lead.rule in (ONE_RULE, MEAN_RULE, MAX_RULE) else f"{lead.rule[0].upper()}{lead.rule[1:]}."
    notes = tuple(filter(None, (opinion.agreement, rule)))
    unlike = _unlike(lead)  # the lead's other remarks stand above the breasts, once
    st.html(bars_html([Bar(name, lead.malignant, lead.interval, lead.threshold, unlike, by, notes)]))
    if not opinion.others:
        return
    n = len({score.model_id for score in opinion.others} - {lead.model_id})
    n_weak = opinion.n_weak - opinion.is_weak(lead)
    weak = f", {n_weak} weak" if n_weak else ""
    with st.expander(
        f"{n} other model{'' if n == 1 else 's'}{weak}", key=f"others_{opinion.breast}_{opinion.modality}"
    ):
        bars = [
            Bar(names.get(s.model_id, s.model_id), s.malignant, s.interval, s.threshold,
                (*_unlike(s), *opinion.remarks.get(s.weights_sha256, ())))
            for s in opinion.others
        ]  # fmt: skip
        st.html(bars_html(bars))
        if opinion.why:
            st.caption(_first(opinion, names))
        if n_weak:
            st.caption("Weak models are not counted when the models agree or disagree.")


def _first(opinion: Opinion, names: Mapping[str, str]) -> str:
    return f"{plain(names.get(opinion.lead.model_id, opinion.lead.model_id))} stands first: {opinion.why}."


def _unlike(score: BreastScore) -> tuple[str, ...]:
    return (UNLIKE,) if score.is_unlike_training else ()


def show_not_scored(study: StoredStudy, labels: Mapping[str, str]) -> None:
    """Why no model reads some of the pictures; each reason once, with the pictures it holds for."""
    reasons: dict[str, list[str]] = {}
    for stored in study.images:
        if stored.image.unread:
            reasons.setdefault(stored.image.unread, []).append(labels.get(stored.id, ""))
    for reason, where in reasons.items():
        st.info(f"**{plain(', '.join(where))}**: {plain(reason)}", icon=":material/info:")


def _show_leaks(answers: Sequence[Answer]) -> None:
    """In red, before anything is made of the numbers, what cannot be believed of them."""
    shown = {prediction.weights_sha256 for _, prediction, _ in answers}
    for card in known_cards(settings()):
        if card.weights_sha256 in shown:
            for leak in leaks_of(card):
                st.error(f"{plain(card.title)}: {plain(leak_text(leak))}", icon=":material/warning:")


def _show_meaning(opinions: Sequence[Opinion], answers: Sequence[Answer], names: Mapping[str, str]) -> None:
    """What classes, numbers and thresholds mean, one click away from them."""
    for _, prediction, _ in {prediction.classes: one for one in answers for prediction in [one[1]]}.values():
        meanings = "; ".join(
            f"**{plain(name.replace('_', ' '))}**: {CLASS_MEANING.get(name, 'as the collection it learnt from says')}"
            for name in prediction.classes
        )
        st.markdown(f"{meanings}.")
    scores = [score for opinion in opinions for score in opinion.scores]
    breasts = names_of_breasts(scores)
    rules: dict[str, dict[str, None]] = {}
    for score in scores:
        rules.setdefault(score.rule, {})[breasts[score.breast, score.modality]] = None
    said = [
        *dict.fromkeys(_first(one, names) for one in opinions if one.why),
        "A score above the threshold (dashed) is no diagnosis, and one below it does not rule cancer out.",
        INTERVAL_NOTE,
        UNLIKE_TEXT if any(score.is_unlike_training for score in scores) else "",
        f"A breast's number: {next(iter(rules))}." if len(rules) == 1 else "",
        *(f"Number of {' and '.join(of)}: {plain(rule)}." for rule, of in rules.items() if len(rules) > 1),
    ]
    st.caption(" ".join(filter(None, said)))
    chosen = _show_thresholds(answers)
    weights = {prediction.weights_sha256 for _, prediction, _ in answers}
    spreads = [(card, spread_text(card)) for card in known_cards(settings()) if card.weights_sha256 in weights]
    if told := [f"{plain(card.title)}: {spread[0].lower()}{spread[1:]}." for card, spread in spreads if spread]:
        st.caption(f"No interval covers what a model happened to learn from. {' '.join(told)}")
    devices = sorted({prediction.device for _, prediction, _ in answers})
    seconds = sum(prediction.seconds for _, prediction, _ in answers)
    computed = f"Computed on {', '.join(map(plain, devices))} in {seconds:.1f} s for {len(answers)} answers."
    st.caption(" ".join([*chosen, computed]))


def _show_thresholds(answers: Sequence[Answer]) -> list[str]:
    """A row a model: its threshold and how many validation cases reach it. How each was chosen, every sentence once."""
    shown = {prediction.weights_sha256: prediction for _, prediction, _ in answers}
    rows: list[str] = []
    chosen: list[str] = []
    corrected: list[str] = []
    for card in known_cards(settings()):
        if answer := shown.get(card.weights_sha256):
            point = operating_point(card, answer.threshold, answer.threshold_rule)
            counts = [
                f"{above} of {n}" if point.n_positives and point.n_others else "not known"
                for above, n in (
                    (point.positives_above, point.n_positives),
                    (point.others_above, point.n_others),
                )
            ]
            span = (
                f" ({100 * point.low:.1f} to {100 * point.high:.1f})"
                if point.low is not None and point.high is not None
                else ""
            )
            mark = "\\*" if point.correction else ""
            value = f"{100 * point.threshold:.1f}\u00a0%{mark}{span}"
            rows.append(f"| {' | '.join((plain(card.title), value, *counts))} |")
            chosen.append(point.rule_text)
            if point.correction:
                corrected = ["* Corrected: the page Models says why."]
    if rows:
        head = "| Model | Threshold (if other patients) | Cancers reach it | Others do |\n|---|---|---|---|\n"
        st.markdown(head + "\n".join(rows))
    return [plain(sentence) for sentence in dict.fromkeys([*chosen, *corrected])]


def _show_images(
    study: StoredStudy, answers: Sequence[Answer], labels: Mapping[str, str], names: Mapping[str, str]
) -> None:
    """A row an answer. What is to be kept in mind of it stands behind the numbers that it is about: it is long."""
    site = settings()
    remarks = {card.weights_sha256: remarks_of(site, card) for card in known_cards(site)}
    warnings = {stored.id: warnings_of(stored.image) for stored in study.images}
    of_all = set.intersection(*map(set, warnings.values()))  # they stand under the pictures, and are of no one number
    said = [
        " ".join(
            [
                *[f"{UNLIKE}."] * one.is_unlike_training,
                *(warning for warning in warnings[image_id] if warning not in of_all),
                *remarks.get(one.weights_sha256, ()),
            ]
        )
        for image_id, one, _ in answers
    ]
    rows = [
        {
            "Image": labels.get(image_id, ""),
            "Model": names.get(prediction.model_id, prediction.model_id),
            "Malignant": shown.probability,
            "95 % interval": percent_range(prediction.interval),
            "Threshold": shown.verdict,
            **({"Mind": mind} if any(said) else {}),
            "All classes": class_text(prediction),
            "Seconds": f"{prediction.seconds:.2f}",
        }
        for (image_id, prediction, _), mind in zip(answers, said, strict=True)
        for shown in [against_threshold(prediction.malignant, prediction.threshold)]
    ]
    st.dataframe(rows, hide_index=True)
