"""What was measured in an ultrasound image, after the second read was shown: a proposed outline and its descriptors.

The outline is drawn only when it is asked for: on a copy in the panel, and dashed on the picture while a form is open.
The reader accepts it as a finding of their own, whose points they can move, or rejects it. The measured words become
part of a read only where the reader accepts them, with the outline or as a sentence in the comment.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace

import streamlit as st

from core.errors import AppError
from core.findings.marks import lies_over
from core.findings.proposals import Proposal
from core.findings.sentence import findings_sentence
from core.findings.sketches import Sketch, of_type, proposal_uid
from core.findings.ultrasound_descriptors import MEASURED_ONLY, Descriptor
from core.imaging.overlay import outlined
from core.models.outline_card import OutlineCard, live_outline_card
from core.reading.outlines import OutlinedLesion, is_outlined, outline_proposals, outlined_lesions
from core.records.people.permissions import SignedIn
from core.records.reads.reads import Read
from core.records.reads.studies import StoredImage, StoredStudy
from core.reports.content import AI_GENERATED
from core.types import Modality
from pages.parts.markdown import plain
from pages.parts.session import require, settings
from pages.reader.parts import impressions, marking

_NUMBERS: Mapping[str, tuple[str, str]] = {
    "shape": ("solidity", "solidity {:.2f}"),
    "orientation": ("width_to_depth", "width to depth {:.2f}"),
    "margin": ("sharp", "{:.0%} of the rim sharp"),
    "echo pattern": ("level", "{:.2f} of the tissue beside"),
    "posterior features": ("behind", "{:.2f} of the tissue beside"),
    "size": ("longest_mm", "{:.1f} mm the longest way"),
}


def offer(
    person: SignedIn, study: StoredStudy, labels: Mapping[str, str], form: impressions.Form | None
) -> dict[str, Proposal]:
    """The outlines that the form's reader is asked about, by the ids of their marks: those of the image that is shown,
    and those that were answered before. form: the final read that is open, None where there is none.

    Nothing for a study without ultrasound, or on a site without an outline network; else a switch, off at first.
    """
    images = [stored for stored in study.images if is_outlined(stored.image)]
    if not images or study.pixels_removed_at:
        return {}
    try:
        card = live_outline_card(settings())
        if card is None:
            return {}
        answered = _answered(card, images, form)
        if not st.toggle("Outline and measure the lesion", key=f"measured_{study.row.id}"):
            return answered
        stored = images[0]
        if len(images) > 1:
            names = {one.id: one for one in images}
            picked = st.selectbox(
                "Image", list(names), format_func=lambda one: labels[one], key=f"measured_{study.row.id}_image"
            )
            stored = names[picked]
        with st.spinner("Outlining and measuring"):
            found = outlined_lesions(card, stored.image)
    except AppError as refused:
        st.info(plain(str(refused)), icon=":material/info:")
        return {}
    st.caption(
        f"Proposed by {plain(card.title)} (weights {card.weights.sha256[:8]}), {AI_GENERATED}; unverified. "
        f"{_quality(card)} Words are measured within the outline, none of them is a model's."
    )
    if not found:
        st.info("No lesion is outlined in this image. That does not mean that there is none.", icon=":material/info:")
        return answered
    proposals = outline_proposals(card, stored.image, found)
    number = _show(stored, found, proposals, form)
    if settings().language_model:
        from pages.reader.parts import language_words  # loaded only where the site wants one

        language_words.draw(person, study, stored, found[number], list(proposals.values())[number].mark, form)
    return {**answered, **proposals} if form is not None else {}


def _answered(card: OutlineCard, images: Sequence[StoredImage], form: impressions.Form | None) -> dict[str, Proposal]:
    """The outlines of those images on which one was accepted or rejected in the form."""
    named = marking.named_in(form.key) if form is not None else frozenset()
    proposals: dict[str, Proposal] = {}
    for stored in images:
        first = proposal_uid("outline", card.weights.sha256, stored.image.sha256, stored.image.frame, 0)
        if any(uid.startswith(first[:-1]) for uid in named):
            proposals |= outline_proposals(card, stored.image, outlined_lesions(card, stored.image))
    return proposals


def _show(
    stored: StoredImage,
    found: Sequence[OutlinedLesion],
    proposals: Mapping[str, Proposal],
    form: impressions.Form | None,
) -> int:
    """One of the outlines with its measured words; its number."""
    number = 0
    if len(found) > 1:
        number = st.segmented_control(
            "Outline", range(len(found)), default=0, required=True, key=f"measured_{stored.id}_outline",
            format_func=lambda one: f"Outline {one + 1}",
        ) or 0  # fmt: skip
    lesion = found[number]
    st.image(outlined(stored.image.pixels, [lesion.outline.mask]), caption="Outline proposal (AI-generated)")
    shown = [one for one in lesion.descriptors if one.name not in MEASURED_ONLY]
    st.markdown(_table(shown))
    if form is None:  # nothing can be accepted any more
        return number
    key = f"measured_{stored.id}_{number}"
    words = [one for one in shown if one.word]
    accepted = st.pills(
        "What you accept", [one.name for one in words], selection_mode="multi", key=f"{key}_accepted",
        format_func=lambda name: next(f"{one.name}: {one.word}" for one in words if one.name == name),
    )  # fmt: skip
    uid = list(proposals)[number]
    _ask(form, uid, proposals[uid], {one.name: one.word for one in words if one.name in accepted})
    made = findings_sentence(one for one in words if one.name in accepted)
    if not made:
        return number
    if st.session_state.get(f"{key}_follows") != made:
        st.session_state[f"{key}_follows"] = st.session_state[f"{key}_sentence"] = made
    st.text_area("Sentence of what you accepted", key=f"{key}_sentence", height=68)
    st.button(
        "Add to my comment", key=f"{key}_add", icon=":material/add:", on_click=_add, args=(form, f"{key}_sentence")
    )
    return number


def _add(form: impressions.Form, key: str) -> None:
    require("record_first_read")
    impressions.add_to_comment(form, str(st.session_state.get(key, "")))


def _ask(form: impressions.Form, uid: str, proposal: Proposal, words: Mapping[str, str]) -> None:
    """Whether the reader takes the outline as a finding, with the words that were accepted, or not."""
    answer = marking.answer_to(form.key, uid)
    accept, reject = st.columns(2)
    accept.button(
        "Accept outline", key=f"{form.key}_{uid}_take", width="stretch", disabled=answer == "accepted",
        on_click=_accept, args=(form, uid, proposal, words),
        help="It becomes a finding of yours: a mass, described by the words that you accepted.",
    )  # fmt: skip
    reject.button(
        "Reject outline", key=f"{form.key}_{uid}_refuse", width="stretch", disabled=answer != "open",
        on_click=_reject, args=(form, uid), help=None if answer == "open" else "It was answered already.",
    )  # fmt: skip
    said = {
        "accepted": "Accepted: it is a finding of the form below. With the tool Outline its line can be dragged, with "
        "Shift all of it.",
        "rejected": "Rejected: it is not on the picture any more.",
        "open": "Dashed on the picture until you accept or reject it."
        + ("" if words else " No word is chosen: accepted, it is a mass without descriptors."),
    }
    st.caption(said[answer])
    if answer == "open" and any(
        lies_over(proposal.mark, mark) for sketch in marking.sketches_in(form.key) for _, mark in sketch.marks
    ):
        st.warning("You have marked this place already: accepted, the outline is a further finding.")


def _accept(form: impressions.Form, uid: str, proposal: Proposal, words: Mapping[str, str]) -> None:
    require("record_first_read")
    sketch = Sketch(((uid, proposal.mark),))
    mass = of_type(sketch, "mass", Modality.ULTRASOUND)
    marking.accept(form.key, of_type(replace(mass, descriptors=words), "mass", Modality.ULTRASOUND))


def _reject(form: impressions.Form, uid: str) -> None:
    require("record_first_read")
    marking.reject(form.key, uid)


def final_form(
    person: SignedIn, study: StoredStudy, known: Sequence[Read], *, is_arbiter: bool
) -> impressions.Form | None:
    """The form of the final read that is open for this person; None where there is none."""
    mine = [read for read in known if read.person_id == person.id]
    is_begun = bool(mine) or is_arbiter or study.row.reading_mode == "concurrent"
    if any(read.kind == "final" for read in mine) or not is_begun:
        return None
    return impressions.form_of(study, "final", mine[0] if mine else None)


def _table(descriptors: Sequence[Descriptor]) -> str:
    lines = ["| Measured | Word (BI-RADS) | Number | Same word if the outline moves |", "|---|---|---|---|"]
    for one in descriptors:
        if one.word:
            name, text = _NUMBERS[one.name]
            lines.append(f"| {one.name} | {one.word} | {text.format(one.values[name])} | {one.certainty:.0%} |")
        else:
            lines.append(f"| {one.name} | not measured | {one.refused} | |")
    return "\n".join(lines)


def _quality(card: OutlineCard) -> str:
    """How far to trust an outline, as the card measured it."""
    own = card.measured.get("own test cases", {})
    said = []
    if "dice" in own:
        said.append(
            f"On {own['dice'].n} test pictures its outlines overlap readers' with a Dice of {own['dice'].value:.2f}."
        )
    if "false_in_normal" in own:
        said.append(
            f"In {own['false_in_normal'].value:.0%} of normal test pictures it outlines something all the same."
        )
    return " ".join(said)
