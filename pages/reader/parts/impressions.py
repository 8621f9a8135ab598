"""The form of a first impression or a final assessment: BI-RADS and suspicion for each breast."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from html import escape
from types import MappingProxyType

import streamlit as st

from core.findings.finding import NO_ANNOTATIONS, Annotations, assessment_doubts, description_of
from core.findings.proposals import Proposal
from core.findings.sketches import Sketch, sketches_of
from core.records.people.permissions import SignedIn
from core.records.reads.drafts import DamagedDraft, ReadDraft, draft_of, store_draft
from core.records.reads.reads import Impression, Read
from core.records.reads.rows import BIRADS, DENSITIES
from core.records.reads.studies import StoredStudy
from core.reports.content import (
    BIRADS_MEANING,
    DENSITY_MEANING,
    PRESET_SUSPICION,
    SEEN_ANSWER,
    breast_name,
    pictures_of_breasts,
    report_sentence,
    suspicion_text,
    when,
)
from core.types import LATERALITIES, SIDE_NOT_STATED, Modality
from pages.parts.messages import refusals_shown
from pages.parts.session import database, require
from pages.reader.parts import marking
from pages.reader.parts.marking import Sheet
from pages.reader.parts.pictures import labels_of

_SIDE_LETTERS: Mapping[str, str] = {side: side for side in LATERALITIES}

NOT_WHOLE = "Choose a BI-RADS category for each breast."
NOT_SAVABLE = "A finding cannot be saved as it is: it is said above why."
"""What the button of a form waits for."""


_OF_STUDY = re.compile(r"(?:first|final|marking|refusals|own_reads)_([0-9a-f]{32})")
"""What a form, and what is remembered of it, is called in the tab's state."""


@dataclass(frozen=True, slots=True)
class Form:
    """One form of a read. key: of its widgets. kind: "first" or "final". pictures: breast -> views that it shows, for
    the report's text. has_density: whether the reader is asked for the composition of the breasts. sheet: what it marks
    on. start: id of the read that it begins with, 0 for none. sides: id of each picture -> the breast it is of."""

    key: str
    study_id: str
    kind: str
    breasts: tuple[str, ...]
    sheet: Sheet
    pictures: Mapping[str, Sequence[str]] = field(default_factory=dict)
    has_density: bool = False
    start: int = 0
    sides: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Filled:
    """What a form holds. impressions: None until every breast has a category, and while a finding cannot be saved.
    waits: what the button of the form waits for, None where for nothing.
    """

    impressions: dict[str, Impression] | None
    waits: str | None
    comment: str
    sentence: str = ""
    density: str | None = None
    annotations: Annotations = NO_ANNOTATIONS


def form_of(
    study: StoredStudy,
    kind: str,
    start: Read | None = None,
    proposals: Mapping[str, Proposal] = MappingProxyType({}),
) -> Form:
    """The form of a first impression, or of a final read that begins with the read `start`.

    proposals: of the models, by the ids of their marks, for who may see their answers.
    """
    images = [stored.image for stored in study.images]
    begins = start.id if start else 0
    key = f"first_{study.row.id}" if kind == "first" else f"final_{study.row.id}_{begins}"
    has_density = kind == "final" and any(image.modality is Modality.MAMMOGRAPHY for image in images)
    sheet = marking.sheet_of(study, key, labels_of(study), proposals)
    if start is not None and start.kind == "final":
        sheet = replace(sheet, saved=start.annotations.proposals, begun=_begun(start))
    sides = {stored.id: stored.image.laterality or SIDE_NOT_STATED for stored in study.images}
    return Form(key, study.row.id, kind, study.breasts, sheet, pictures_of_breasts(images), has_density, begins, sides)


def read_form(person: SignedIn, form: Form, *, start: Read | None = None) -> Filled:
    """BI-RADS and suspicion for each breast; of a final read also density, the report's text; the comment.

    What was filled in and not saved comes back from the reader's draft. start: what a form without a draft begins with.
    The slider follows the category until the reader moves it, and the text follows the assessment until it is edited.
    """
    if f"{form.key}_comment" not in st.session_state:  # Streamlit forgets a form while another page is drawn
        _restore(person, form, start)
    _follow_sides(form)
    st.session_state[open_form_key(form.study_id)] = form.key
    if damaged := st.session_state.get(f"{form.key}_damaged"):
        st.warning(damaged, icon=":material/restore_page:")
    annotations, is_new = marking.findings_form(form.sheet)
    st.session_state[f"{open_form_key(form.study_id)}_proposed"] = marking.proposals_drawn(form.sheet)
    if is_new or st.session_state.pop(f"{form.key}_unstored", False):
        _store_draft(form)
    density = _density(form) if form.has_density else None
    given = breast_form(form.key, form.breasts, form)
    waits = NOT_WHOLE if len(given) < len(form.breasts) else NOT_SAVABLE if annotations is None else None
    impressions = given if waits is None else None
    annotations = annotations or NO_ANNOTATIONS
    for doubt in assessment_doubts(annotations.findings, _categories(form)):
        st.caption(f":material/help: {doubt} Is that meant?")
    if form.kind == "first":
        return Filled(impressions, waits, _comment(form), annotations=annotations)
    left, right = st.columns(2, gap="small")
    with left:
        comment = _comment(form)
    with right:
        sentence = _sentence(form, density)
    return Filled(impressions, waits, comment, sentence, density, annotations)


def forget_other_forms(study_id: str) -> None:
    """Take the forms of other studies out of this tab: each comes back from its draft, and a day's work is many."""
    for key in [str(one) for one in st.session_state]:
        found = _OF_STUDY.match(key)
        if found is not None and found.group(1) != study_id:
            del st.session_state[key]


def open_form_key(study_id: str) -> str:
    """Where the page finds the key of the form that is open for the study in this run."""
    return f"marking_{study_id}"


def save_key(form_key: str) -> str:
    """Of the button that saves a form: known before it is drawn, as the click is."""
    return f"{form_key}_save"


def _comment(form: Form) -> str:
    return st.text_area(
        "Comment",
        key=f"{form.key}_comment",
        height=68,
        on_change=_store_draft,
        args=(form,),
    )


def add_to_comment(form: Form, sentence: str) -> None:
    """Append a sentence to the comment and store the draft; for a callback. What is too long is refused when saved."""
    key = f"{form.key}_comment"
    before = str(st.session_state.get(key, "")).rstrip()
    st.session_state[key] = f"{before} {sentence}".strip()
    _store_draft(form)


def _density(form: Form) -> str | None:
    label, choice = st.columns([1, 1.6], vertical_alignment="center", gap="small")
    meanings = "; ".join(f"{name}: {meaning}" for name, meaning in DENSITY_MEANING.items())
    label.caption("Breast composition", help=meanings)
    return choice.segmented_control(
        "Breast composition", DENSITIES, key=f"{form.key}_density", on_change=_store_draft, args=(form,),
        label_visibility="collapsed",
    )  # fmt: skip


def _sentence(form: Form, density: str | None) -> str:
    """The report's text: it follows the assessment until the reader edits it, and then says where they part."""
    state, key, follows = st.session_state, f"{form.key}_sentence", f"{form.key}_follows"
    made = report_sentence(_categories(form), form.pictures, density, _found(form))
    if state[key] == state[follows]:
        state[key] = state[follows] = made
    words = st.text_area("Text for the report", key=key, height=68, on_change=_store_draft, args=(form,))
    if state[follows] != made:
        st.caption(":material/warning: The assessment has changed since you edited this text.")
        st.button("Write it anew", key=f"{form.key}_anew", on_click=_write_anew, args=(form, made))
    return words


def _write_anew(form: Form, made: str) -> None:
    require("record_first_read")
    st.session_state[f"{form.key}_sentence"] = st.session_state[f"{form.key}_follows"] = made
    _store_draft(form)


def _categories(form: Form) -> dict[str, str]:
    """Breast -> BI-RADS, as far as it was chosen."""
    chosen = {breast: st.session_state.get(f"{form.key}_{breast}_birads") for breast in form.breasts}
    return {breast: category for breast, category in chosen.items() if category}


def _found(form: Form) -> list[tuple[str, str]]:
    """(breast, what it is) of each finding, for the report's text."""
    return [(one.breast, description_of(one)) for one in marking.findings_of(form.sheet)]


def _follow_sides(form: Form) -> None:
    """What was said of a breast was said of the pictures that stood as that breast's: where a side was corrected since,
    by whomever, it is asked for anew."""
    state, key, told = st.session_state, f"{form.key}_sides", f"{form.key}_sides_changed"
    if state.get(key, form.sides) != form.sides:
        for breast in form.breasts:
            state[f"{form.key}_{breast}_birads"], state[f"{form.key}_{breast}_suspicion"] = None, 0
        state[told] = state[f"{form.key}_unstored"] = True
    state[key] = form.sides
    if len(_categories(form)) == len(form.breasts):
        state.pop(told, None)
    if not state.get(told):
        return
    st.warning(
        "The side of a picture was corrected since you began. What you had chosen of each breast was chosen of other "
        "pictures and was not saved: choose it anew. Marks and comment are kept.",
        icon=":material/swap_horiz:",
    )


def _begun(start: Read) -> tuple[Sketch, ...]:
    """What a form that begins with a read has on its pictures at first; the ids of the marks are the same each time."""
    return sketches_of(start.annotations, f"read{start.id}")


def _restore(person: SignedIn, form: Form, start: Read | None) -> None:
    state = st.session_state
    try:
        draft = draft_of(database(), person, form.study_id, form.kind)
        if draft and draft.start not in (None, form.start):
            draft = None  # of a form whose reader has saved a read since
        state.pop(f"{form.key}_damaged", None)
    except DamagedDraft as damaged:
        draft, state[f"{form.key}_damaged"] = None, str(damaged)
    begun = start.impressions if start else {}
    for breast in form.breasts:
        given = begun.get(breast)
        birads, suspicion = (given.birads, given.suspicion) if given else (None, 0)
        if draft and breast in draft.breasts:
            birads, suspicion = draft.breasts[breast]
        state[f"{form.key}_{breast}_birads"] = birads
        state[f"{form.key}_{breast}_suspicion"] = suspicion
    is_correction = start is not None and start.kind == "final"
    said = start.comment if start and is_correction else ""
    state[f"{form.key}_comment"] = draft.comment if draft else said
    density = draft.density if draft else start.density if start else None
    state[f"{form.key}_density"] = density
    state[f"{form.key}_sides"] = dict(draft.sides) if draft and draft.sides else form.sides
    saved = _begun(start) if start else ()
    answered = (draft.rejected, draft.proposals) if draft else ((), {})
    marking.begin(form.key, draft.sketches if draft else saved, *answered)
    made = report_sentence(_categories(form), form.pictures, density, _found(form))
    sentence = draft.sentence if draft else start.sentence or None if start and is_correction else None
    state[f"{form.key}_sentence"] = made if sentence is None else sentence
    state[f"{form.key}_follows"] = made


def breast_form(key: str, breasts: Sequence[str], form: Form | None = None) -> dict[str, Impression]:
    """BI-RADS and suspicion of each breast that has a category. key: of the widgets. form: whose draft is stored."""
    given = {}
    for breast in breasts:
        birads, suspicion = _breast(key, breast, form)
        if birads is not None:
            given[breast] = Impression(birads=birads, suspicion=suspicion)
    return given


def _breast(key: str, breast: str, form: Form | None) -> tuple[str | None, int]:
    """form: whose draft is stored at every change."""
    birads_key, suspicion_key = f"{key}_{breast}_birads", f"{key}_{breast}_suspicion"
    name = breast_name(breast)
    birads = st.segmented_control(
        f"{name}: BI-RADS",
        BIRADS,
        key=birads_key,
        on_change=_follow,
        args=(form, birads_key, suspicion_key),
        required=True,
    )
    st.session_state.setdefault(suspicion_key, 0)
    title, scale, meaning = st.columns([0.8, 1.1, 1], vertical_alignment="center", gap="small")
    is_preset = birads is not None and st.session_state[suspicion_key] == PRESET_SUSPICION[birads]
    title.caption("Suspicion (preset)" if is_preset else "Suspicion")
    suspicion = scale.slider(
        f"{name}: suspicion, 0 to 100", 0, 100, label_visibility="collapsed",
        key=suspicion_key, disabled=birads is None, on_change=_store_draft, args=(form,),
    )  # fmt: skip
    meaning.caption(BIRADS_MEANING[birads].capitalize() if birads else "Choose a category")
    return birads, suspicion


def _follow(form: Form | None, birads_key: str, suspicion_key: str) -> None:
    require("record_first_read" if form else "read_in_reader_study")
    birads = st.session_state[birads_key]
    if birads is not None:
        st.session_state[suspicion_key] = PRESET_SUSPICION[birads]
    _store_draft(form)


def _store_draft(form: Form | None) -> None:
    """As soon as anything changes, so that neither another page nor an idle sign-out loses it."""
    person = require("record_first_read" if form else "read_in_reader_study")
    if form is None:
        return
    state = st.session_state
    breasts = {
        breast: (state.get(f"{form.key}_{breast}_birads"), int(state.get(f"{form.key}_{breast}_suspicion") or 0))
        for breast in form.breasts
    }
    with refusals_shown():
        words, made = state.get(f"{form.key}_sentence"), state.get(f"{form.key}_follows")
        draft = ReadDraft(
            breasts,
            str(state.get(f"{form.key}_comment") or ""),
            None if words == made else words,  # it follows the assessment still
            state.get(f"{form.key}_density"),
            marking.sketches_in(form.key),
            marking.rejected_in(form.key),
            form.start,
            form.sides,
            marking.answered_in(form.key),
        )
        store_draft(database(), person, form.study_id, form.kind, draft)


def last_reads(known: Sequence[Read]) -> tuple[Read, ...]:
    """Of each reader the last read. known: the oldest first."""
    return tuple({read.person_id: read for read in known}.values())


def offer_earlier(known: Sequence[Read]) -> None:
    """What readers had said before their last read, one click away: an arbiter has the last ones in sight."""
    last = last_reads(known)
    earlier = [read for read in known if read not in last]
    if earlier:
        with st.popover(f"Earlier reads: {len(earlier)}", icon=":material/history:"):
            for read in earlier:
                show_read(read, whose=read.person_name)


def show_others(known: Sequence[Read]) -> None:
    """Others' last reads; of several each as three lines beside the next, which open into the whole read: whoever
    decides between them has them in sight together with the form."""
    last = last_reads(known)
    if len(last) == 1:
        show_read(last[0], whose=last[0].person_name)
        return
    for begin in range(0, len(last), 2):
        for column, read in zip(st.columns(2, gap="small"), last[begin : begin + 2], strict=False):
            column.html(_folded_html(read))


def _folded_html(read: Read) -> str:
    """A read whose head and categories stand, and whose words stand as far as they fit into a line, until it opens."""
    parts = [
        f"{_SIDE_LETTERS.get(breast, 'Breast')} <b>{given.birads}</b> ({given.suspicion})"
        for breast, given in read.impressions.items()
    ]
    parts += [f"density {read.density}"] if read.density else []
    n = len(read.annotations.findings)
    parts += [f"{n} finding{'s' if n > 1 else ''}"] if n else []
    begin = escape(read.comment or read.sentence or "")
    seen = "".join(f'<p class="sr-read sr-soft">{SEEN_ANSWER[way]}.</p>' for way in read.answers_seen)
    return (
        f'<details class="sr-other"><summary class="sr-read"><b>{escape(read.person_name)}</b>'
        f"<br>{' · '.join(parts)}</summary>{_read_html(read, '')}{seen}</details>"
        f'<p class="sr-read sr-soft sr-begin">{begin}</p>'
    )


def show_read(read: Read, *, whose: str = "") -> None:
    """What was saved, as it will stand in the report. whose: the reader's name, where it is not the one who looks."""
    st.html(_read_html(read, whose))
    for way in read.answers_seen:
        st.caption(f":material/visibility: {SEEN_ANSWER[way]}.")


def _read_html(read: Read, whose: str) -> str:
    final = "decision between the readers" if read.is_decision else "final assessment"
    final = "correction of the final assessment" if read.is_amendment else final
    kind = "first impression" if read.kind == "first" else final
    head = f"<b>{escape(whose)}</b>, {kind}" if whose else f"<b>{kind.capitalize()}</b>"
    lines = [f"{head} · saved {when(read.created_at)}"]
    lines += [
        f"{breast_name(breast)}: <b>BI-RADS {given.birads}</b> ({BIRADS_MEANING[given.birads]}), "
        f"{suspicion_text(given.birads, given.suspicion)}"
        for breast, given in read.impressions.items()
    ]
    if read.density:
        lines.append(f"Breast composition {read.density} ({DENSITY_MEANING[read.density]})")
    for number, finding in enumerate(read.annotations.findings, start=1):
        lines.append(f"{number}. {breast_name(finding.breast)}: {escape(description_of(finding))}")
    if read.annotations.measurements:
        n = len(read.annotations.measurements)
        lines.append(f"{n} measurement{'s' if n > 1 else ''} saved with it")
    words = "".join(f'<p class="sr-read sr-words">{escape(said)}</p>' for said in (read.sentence, read.comment) if said)
    return f'<p class="sr-read">{"<br>".join(lines)}</p>{words}'
