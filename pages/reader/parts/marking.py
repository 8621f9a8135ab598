"""Findings and measurements in the panel: what was drawn on the pictures is described here and saved with the read."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from types import MappingProxyType
from typing import Any

import streamlit as st

from core.errors import AppError
from core.findings.finding import COMMENT_MOST, Annotations, Finding, location_doubts
from core.findings.lexicon import CLOCK_HOURS, QUADRANTS, TYPES, depths_of, finding_type
from core.findings.marks import NO_PIXELS, Mark, Measured, has_pixels, measured_text, place_text, size_text, sizes
from core.findings.proposals import Proposal, measured_levels
from core.findings.sketches import (
    Place,
    Places,
    Sketch,
    annotations_of,
    answered,
    joined,
    of_type,
    place_of,
    redrawn,
    still_answered,
    without,
)
from core.imaging.hanging import label_on_frame
from core.reading import second_read
from core.records.reads.studies import StoredStudy
from core.reports.content import AI_GENERATED
from core.types import SIDE_NOT_STATED, Image, Modality
from pages.parts.markdown import plain
from pages.parts.messages import refusals_shown
from pages.parts.session import settings
from pages.parts.viewer import Drawn, Marking, marks_drawn

_PROPOSALS = "proposals"
"""Stands for the proposals of the models where else the key of a mark does; no mark is called so."""


@dataclass(frozen=True, slots=True)
class Sheet:
    """The pictures of a study that a form marks on. key: of the form. workplace: of the viewer that shows them.
    proposals: of the models, by the ids of their marks, of a form whose reader may see their answers. saved: those of
    the read that the form corrects, and begun: the sketches that its correction begins with."""

    key: str
    workplace: str
    places: Places = field(default_factory=dict)
    images: Mapping[tuple[str, int], Image] = field(default_factory=dict)
    proposals: Mapping[str, Proposal] = field(default_factory=dict)
    saved: tuple[Proposal, ...] = ()
    begun: tuple[Sketch, ...] = ()


def sheet_of(
    study: StoredStudy, key: str, labels: Mapping[str, str], proposals: Mapping[str, Proposal] = MappingProxyType({})
) -> Sheet:
    images, places = {}, {}
    for stored in study.images:
        image = stored.image
        for frame in {*range(len(stored.frames)), image.frame}:
            images[(image.sha256, frame)] = image  # for the size of a mark, which all frames share
            label = label_on_frame(labels[stored.id], frame)
            places[(image.sha256, frame)] = Place(image.laterality or SIDE_NOT_STATED, image.modality, label)
    return Sheet(key, workplace_key(study.row.id), places, images, proposals)


def workplace_key(study_id: str) -> str:
    """The key of the viewer that shows a study."""
    return f"pictures_{study_id}"


def sketches_in(key: str) -> tuple[Sketch, ...]:
    """What the form holds now."""
    found: tuple[Sketch, ...] = st.session_state.get(f"{key}_sketches", ())
    return found


def is_begun(key: str) -> bool:
    """Whether the form was filled with what it starts with: it is drawn below what is shown beside it."""
    return f"{key}_sketches" in st.session_state


def rejected_in(key: str) -> tuple[str, ...]:
    """Ids of the proposals that the form's reader rejected."""
    found: tuple[str, ...] = st.session_state.get(f"{key}_rejected", ())
    return found


def named_in(key: str) -> frozenset[str]:
    """The ids of all marks that the form holds, and of the proposals that its reader rejected."""
    return frozenset(uid for sketch in sketches_in(key) for uid, _ in sketch.marks) | set(rejected_in(key))


def answered_in(key: str) -> dict[str, Proposal]:
    """The proposals that the form's reader took or rejected, by the ids of their marks, as they were seen."""
    named = named_in(key)
    return {uid: one for uid, one in _seen(key).items() if uid in named}


def _seen(key: str) -> Mapping[str, Proposal]:
    """The proposals that were shown with the form before this run, of whichever model."""
    found: Mapping[str, Proposal] = st.session_state.get(f"{key}_offered", {})
    return found


def begin(
    key: str,
    sketches: Sequence[Sketch],
    rejected: Sequence[str] = (),
    proposals: Mapping[str, Proposal] = MappingProxyType({}),
) -> None:
    """What a form starts with; the browser takes it over. proposals: that the reader answered before."""
    st.session_state[f"{key}_offered"] = {**proposals, **_seen(key)}
    st.session_state[f"{key}_rejected"] = tuple(rejected)
    _set(key, tuple(sketches), is_news=True)


def _set(key: str, sketches: tuple[Sketch, ...], *, is_news: bool = False) -> None:
    """is_news: the browser takes it over, and may still send what it drew before it did."""
    state, known = st.session_state, {uid for sketch in sketches_in(key) for uid, _ in sketch.marks}
    state[f"{key}_sketches"] = sketches
    if is_news:
        revision = state[f"{key}_revision"] = _revision(key) + 1
        new = {uid: revision for sketch in sketches for uid, _ in sketch.marks if uid not in known}
        state[f"{key}_added"] = {**state.get(f"{key}_added", {}), **new}


def _revision(key: str) -> int:
    revision: int = st.session_state.get(f"{key}_revision", 0)
    return revision


def findings_of(sheet: Sheet) -> tuple[Finding, ...]:
    """The findings of the form as they are now, with their sizes; none while something of them cannot be saved."""
    try:
        found = annotations_of(sketches_in(sheet.key), sheet.places).findings
    except AppError:
        return ()
    return tuple(replace(one, sizes=tuple(_size(sheet, mark) for mark in one.marks)) for one in found)


def _size(sheet: Sheet, mark: Mark) -> Measured:
    image = sheet.images[(mark.image_sha256, mark.frame)]
    return sizes(mark, image.spacing_mm, image.pixel_aspect)


def marking_for(key: str) -> Marking:
    """What the viewer is sent while the form is open."""
    sketches = sketches_in(key)
    findings = [sketch for sketch in sketches if sketch.type]
    labels = {uid: f"{n} {one.type}" for n, one in enumerate(findings, start=1) for uid, _ in one.marks}
    drawn = tuple(Drawn(uid, mark, labels.get(uid, "")) for sketch in sketches for uid, mark in sketch.marks)
    return Marking(key, _revision(key), drawn, tuple(labels))


def findings_form(sheet: Sheet) -> tuple[Annotations | None, bool]:
    """The findings of a form, each a button that opens its description under it, beside the picture that it is about;
    whether anything changed in this run.

    None in place of the findings while they cannot be saved; why is said here, so nothing of them is lost.
    """
    before = sketches_in(sheet.key)
    with refusals_shown():
        _take_over(sheet)
    _set(sheet.key, tuple(_from_widgets(sheet, one) for one in sketches_in(sheet.key)))
    sketches = sketches_in(sheet.key)
    has_peaks = any(one.mark.kind == "point" for one in sheet.proposals.values())
    opened = None
    if sketches or has_peaks:
        with st.container(gap="small", key="sr-findings"):
            opened = _opened(sheet, sketches, has_peaks=has_peaks)
            if opened == _PROPOSALS:
                _offer_proposals(sheet)
            for sketch in sketches:
                if sketch.key == opened:
                    _describe(sheet, sketch, sketches)
    try:
        found = annotations_of(sketches_in(sheet.key), sheet.places)
    except AppError as refused:
        st.error(plain(str(refused)), icon=":material/block:")
        return None, sketches_in(sheet.key) != before
    for _uid, mark in (one for sketch in sketches_in(sheet.key) for one in sketch.marks):
        if not has_pixels(mark):
            where = _label(sheet, mark.image_sha256, mark.frame)
            st.error(plain(f"{where}: {NO_PIXELS.format(kind=mark.kind)}"), icon=":material/block:")
    found = replace(found, proposals=_answers(sheet))
    for key, doubt in _doubts(sheet, found).items():
        if key != opened:  # its own form says it beside the place
            st.caption(f":material/help: {doubt}")
    return found, sketches_in(sheet.key) != before


def _answers(sheet: Sheet) -> tuple[Proposal, ...]:
    """The proposals that the reader has seen, with what became of each: of those that are not made any more, because
    another model leads, what was taken or rejected; and none that only this run, which may save the read, has made."""
    offered, sketches, rejected = f"{sheet.key}_offered", sketches_in(sheet.key), rejected_in(sheet.key)
    named = named_in(sheet.key)
    before = _seen(sheet.key)
    known = {**sheet.proposals, **before}
    seen = {uid: one for uid, one in known.items() if uid in before or uid in named}
    st.session_state[offered] = {uid: one for uid, one in known.items() if uid in sheet.proposals or uid in named}
    return (*answered(seen, sketches, rejected), *still_answered(sheet.saved, sheet.begun, sketches))


def _take_over(sheet: Sheet) -> None:
    """What was drawn since the last run; what was removed here meanwhile stays removed, and what was added stays."""
    sent, state = marks_drawn(sheet.workplace, sheet.key), st.session_state
    if sent is None or sent == state.get(f"{sheet.key}_drawn"):
        return
    state[f"{sheet.key}_drawn"] = sent
    revision, drawn = sent
    removed = state.get(f"{sheet.key}_removed", frozenset())
    here = [one for one in drawn if one[0] not in removed and (one[1].image_sha256, one[1].frame) in sheet.places]
    added = {uid for uid, since in state.get(f"{sheet.key}_added", {}).items() if since > revision}
    _set(sheet.key, redrawn(sketches_in(sheet.key), here, added))
    if revision < _revision(sheet.key):  # what the browser has taken over by now is without what it drew
        state[f"{sheet.key}_revision"] += 1


def _open_proposals(sheet: Sheet) -> list[tuple[str, Proposal]]:
    """(id, proposal) of those that the reader has neither taken nor rejected."""
    taken = {uid for sketch in sketches_in(sheet.key) for uid, _ in sketch.marks} | set(rejected_in(sheet.key))
    return [(uid, one) for uid, one in sheet.proposals.items() if uid not in taken]


def _ai_name(sheet: Sheet, uid: str) -> str:
    """ "AI 1" for a peak, numbered over the study; "AI outline 1" for an outline, numbered over its picture."""
    if uid.startswith("outline-"):
        return f"AI outline {int(uid.rpartition('-')[2]) + 1}"
    peaks = [name for name, one in sheet.proposals.items() if one.mark.kind == "point"]
    return f"AI {peaks.index(uid) + 1}"


def answer_to(key: str, uid: str) -> str:
    """What the reader of the form did with a proposal so far: "accepted", "rejected" or "open"."""
    if any(uid == one for sketch in sketches_in(key) for one, _ in sketch.marks):
        return "accepted"
    return "rejected" if uid in rejected_in(key) else "open"


def accept(key: str, sketch: Sketch) -> None:
    """Make a proposal the reader's own, under the id of the proposal; the draft is stored with the form."""
    state, uid = st.session_state, sketch.key
    state[f"{key}_removed"] = state.get(f"{key}_removed", frozenset()) - {uid}
    state[f"{key}_rejected"] = tuple(one for one in rejected_in(key) if one != uid)
    for name in [name for name in state if str(name).startswith(f"{key}_{uid}_")]:
        del state[name]  # widgets of an acceptance that was taken back
    _set(key, (*sketches_in(key), sketch), is_news=True)
    state[f"{key}_unstored"] = True


def reject(key: str, uid: str) -> None:
    """Take a proposal off the pictures; the draft is stored with the form."""
    st.session_state[f"{key}_rejected"] = (*rejected_in(key), uid)
    st.session_state[f"{key}_unstored"] = True


def proposals_drawn(sheet: Sheet) -> tuple[Drawn, ...]:
    """The open proposals as marks that the viewer shows."""
    return tuple(Drawn(uid, one.mark, _ai_name(sheet, uid), True) for uid, one in _open_proposals(sheet))


def _offer_proposals(sheet: Sheet) -> None:
    still = [(uid, one) for uid, one in _open_proposals(sheet) if one.mark.kind == "point"]
    with st.container(key=f"sr-finding-proposals-{sheet.key}"):
        st.caption(f"{AI_GENERATED}: where the leading model looked most. A peak of its heat map is no lesion.")
        titles = second_read.titles(settings())
        for sha256, level in {one.weights_sha256: measured_levels()[one.weights_sha256] for _, one in still}.items():
            model_id = next(one.model_id for _, one in still if one.weights_sha256 == sha256)
            st.caption(plain(f"{titles.get(model_id, model_id)}: {level.text}."))
        for uid, one in still:
            label = _label(sheet, one.mark.image_sha256, one.mark.frame)
            st.markdown(plain(f"{_ai_name(sheet, uid)} · {label} · {place_text(one.mark)}"))
            take, refuse = st.columns(2)
            if take.button("Accept", key=f"{sheet.key}_{uid}_accept", width="stretch"):
                accept(sheet.key, Sketch(((uid, one.mark),)))
                st.rerun()
            if refuse.button("Reject", key=f"{sheet.key}_{uid}_reject", width="stretch"):
                reject(sheet.key, uid)
                st.rerun()


def _opened(sheet: Sheet, sketches: Sequence[Sketch], *, has_peaks: bool) -> str | None:
    """A button for each mark and one for the proposals: the key of what the reader has opened, if anything."""
    titles, number = {}, 0
    for sketch in sketches:
        number += bool(sketch.type)
        titles[sketch.key] = _title(sheet, sketch, number)
    if has_peaks:
        n_open = sum(one.mark.kind == "point" for _, one in _open_proposals(sheet))
        titles[_PROPOSALS] = f":material/filter_center_focus: AI proposals: {n_open} open"
    key = f"{sheet.key}_opened"
    if st.session_state.get(key) not in titles:
        st.session_state[key] = None
    opened: str | None = st.pills(
        "Marks on the pictures", list(titles), format_func=titles.__getitem__, key=key, label_visibility="collapsed"
    )
    return opened


def _doubts(sheet: Sheet, found: Annotations) -> dict[str, str]:
    """Key of a finding -> the doubt about its place."""
    keys = [one.key for one in sketches_in(sheet.key) if one.type]
    doubts = location_doubts(found.findings)
    return {keys[number - 1]: doubts[number] for number in doubts if number <= len(keys)}


def _title(sheet: Sheet, sketch: Sketch, number: int) -> str:
    where = ", ".join(dict.fromkeys(_label(sheet, mark.image_sha256, mark.frame) for _, mark in sketch.marks))
    head = f"{number} {sketch.type}" if sketch.type else f":material/straighten: {sketch.marks[0][1].kind}"
    return f"{head} · {plain(where)}"


def _label(sheet: Sheet, sha256: str, frame: int) -> str:
    return sheet.places[(sha256, frame)].label if (sha256, frame) in sheet.places else "?"


def _field(sheet: Sheet, sketch: Sketch, name: str) -> str:
    return f"{sheet.key}_{sketch.key}_{name}"


def _from_widgets(sheet: Sheet, sketch: Sketch) -> Sketch:
    """The sketch with what its widgets say now; those that were not drawn yet say nothing."""
    state, place = st.session_state, place_of(sketch, sheet.places)
    if place is None:  # its picture may come back, such as another frame of the clip
        return sketch
    modality = place.modality

    def chosen(name: str, otherwise: Any) -> Any:
        return state.get(_field(sheet, sketch, name), otherwise)

    sketch = of_type(sketch, chosen("type", sketch.type), modality)
    known = finding_type(modality, sketch.type) if modality and sketch.type else None
    described = {}
    for one in known.descriptors if known else ():
        value = chosen(one.name, sketch.descriptors.get(one.name))
        if value in one.values:
            described[one.name] = str(value)
    hour = chosen("clock", sketch.clock)
    return replace(
        sketch,
        descriptors=described,
        quadrant=chosen("quadrant", sketch.quadrant) or None,
        clock=hour if isinstance(hour, int) else None,
        depth=chosen("depth", sketch.depth) or None,
        comment=str(chosen("comment", sketch.comment) or ""),
    )


def _choice(
    sheet: Sheet, sketch: Sketch, name: str, options: Sequence[object], value: object, *, unset: str = "not stated"
) -> None:
    key = _field(sheet, sketch, name)
    st.session_state.setdefault(key, value)
    if st.session_state[key] not in options:  # of a type that it was before
        st.session_state[key] = None
    st.selectbox(name[0].upper() + name[1:], options, key=_field(sheet, sketch, name), placeholder=unset, index=None)


def _describe(sheet: Sheet, sketch: Sketch, sketches: Sequence[Sketch]) -> None:
    with st.container(key=f"sr-finding-{sketch.key}"):
        _description_of(sheet, sketch, sketches)


def _description_of(sheet: Sheet, sketch: Sketch, sketches: Sequence[Sketch]) -> None:
    for _, mark in sketch.marks:
        image = sheet.images.get((mark.image_sha256, mark.frame))
        if image is not None:
            found = _size(sheet, mark)
            text = size_text(found) if sketch.type else measured_text(mark, found)
            unit = "" if image.spacing_mm or not text else " (the file states no spacing)"
            st.caption(plain(f"{_label(sheet, mark.image_sha256, mark.frame)}: {text or mark.kind}{unit}"))
    place = place_of(sketch, sheet.places)
    if place and place.modality and sketch.can_be_finding:
        _description(sheet, sketch, place.modality)
        _join(sheet, sketch, sketches)
    if st.button("Remove", key=_field(sheet, sketch, "remove"), icon=":material/delete:"):
        state, removed = st.session_state, frozenset(uid for uid, _ in sketch.marks)
        made = {**sheet.proposals, **_seen(sheet.key)}
        refused = tuple(uid for uid in removed if uid in made)  # taken back is not taken
        state[f"{sheet.key}_rejected"] = (*rejected_in(sheet.key), *refused)
        state[f"{sheet.key}_removed"] = state.get(f"{sheet.key}_removed", frozenset()) | removed
        _set(sheet.key, without(sketches_in(sheet.key), sketch.key), is_news=True)
        st.session_state[f"{sheet.key}_unstored"] = True
        st.rerun()


def _description(sheet: Sheet, sketch: Sketch, modality: Modality) -> None:
    names = [one.name for one in TYPES[modality]]
    _choice(sheet, sketch, "type", names, sketch.type, unset="measurement only")
    known = finding_type(modality, sketch.type) if sketch.type else None
    if known is None:
        return
    descriptors = known.descriptors
    for start in range(0, len(descriptors), 2):
        for column, one in zip(st.columns(2), descriptors[start : start + 2], strict=False):
            with column:
                _choice(sheet, sketch, one.name, one.values, sketch.descriptors.get(one.name))
    if modality is not Modality.HISTOLOGY:
        places: list[tuple[str, Sequence[object], object]] = [
            ("quadrant", QUADRANTS, sketch.quadrant), ("clock", CLOCK_HOURS, sketch.clock),
        ]  # fmt: skip
        if depths := depths_of(modality):
            places.append(("depth", depths, sketch.depth))
        for column, (name, options, value) in zip(st.columns(len(places)), places, strict=True):
            with column:
                _choice(sheet, sketch, name, options, value)
        try:
            doubts = _doubts(sheet, annotations_of(sketches_in(sheet.key), sheet.places))
        except AppError:  # which is said under the form
            doubts = {}
        if sketch.key in doubts:
            st.warning(doubts[sketch.key], icon=":material/help:")
    st.session_state.setdefault(_field(sheet, sketch, "comment"), sketch.comment)
    st.text_input("Comment on it", key=_field(sheet, sketch, "comment"), max_chars=COMMENT_MOST)


def _join(sheet: Sheet, sketch: Sketch, sketches: Sequence[Sketch]) -> None:
    """The same finding in another view is one finding."""
    place = place_of(sketch, sheet.places)
    others = {}
    for other in sketches:
        there = place_of(other, sheet.places)
        if other is not sketch and other.type and place and there and place.breast == there.breast:
            number = [one.key for one in sketches if one.type].index(other.key) + 1
            others[f"{number} {other.type}"] = other.key
    if not others:
        return
    chosen = st.selectbox(
        "Same finding as", list(others), index=None, placeholder="none", key=_field(sheet, sketch, "same")
    )
    if chosen:
        with refusals_shown():
            _set(sheet.key, joined(sketches_in(sheet.key), sketch.key, others[chosen], sheet.places))
            st.session_state[f"{sheet.key}_unstored"] = True
            st.rerun()
