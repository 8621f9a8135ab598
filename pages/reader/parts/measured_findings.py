"""What was measured in an ultrasound image, after the second read was shown: a proposed outline and its descriptors.

The outline is drawn on a copy in the panel and only when it is asked for; the pictures stay bare. The measured words
become part of a read only where the reader accepts them and adds the sentence to the comment.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import streamlit as st

from core.errors import AppError
from core.findings.sentence import findings_sentence
from core.findings.ultrasound_descriptors import MEASURED_ONLY, Descriptor
from core.imaging.overlay import outlined
from core.models.outline_card import OutlineCard
from core.reading.outlines import OutlinedLesion, is_outlined, outline_card, outlined_lesions
from core.records.people.permissions import SignedIn
from core.records.reads.reads import COMMENT_LENGTH_MOST, Read
from core.records.reads.studies import StoredImage, StoredStudy
from core.reports.content import AI_GENERATED
from pages.parts.markdown import plain
from pages.parts.session import require, settings
from pages.reader.parts import impressions

_NUMBERS: Mapping[str, tuple[str, str]] = {
    "shape": ("solidity", "solidity {:.2f}"),
    "orientation": ("width_to_depth", "width to depth {:.2f}"),
    "margin": ("sharp", "{:.0%} of the rim sharp"),
    "echo pattern": ("level", "{:.2f} of the tissue beside"),
    "posterior features": ("behind", "{:.2f} of the tissue beside"),
    "size": ("longest_mm", "{:.1f} mm the longest way"),
}


def offer(person: SignedIn, study: StoredStudy, labels: Mapping[str, str], known: Sequence[Read]) -> None:
    """Nothing for a study without ultrasound, or on a site without an outline network; else a switch, off at first."""
    images = [stored for stored in study.images if is_outlined(stored.image)]
    if not images or study.pixels_removed_at:
        return
    try:
        card = outline_card(settings())
        if card is None or not st.toggle("Outline and measure the lesion", key=f"measured_{study.row.id}"):
            return
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
        return
    st.caption(
        f"Proposed by {plain(card.title)} (weights {card.weights.sha256[:8]}), {AI_GENERATED}; unverified. "
        f"{_quality(card)} Words are measured within the outline, none of them is a model's."
    )
    if not found:
        st.info("No lesion is outlined in this image. That does not mean that there is none.", icon=":material/info:")
        return
    _show(stored, found, _final_form(person, study, known))


def _show(stored: StoredImage, found: Sequence[OutlinedLesion], form: impressions.Form | None) -> None:
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
    key = f"measured_{stored.id}_{number}"
    words = [one for one in shown if one.word]
    accepted = st.pills(
        "What you accept", [one.name for one in words], selection_mode="multi", key=f"{key}_accepted",
        format_func=lambda name: next(f"{one.name}: {one.word}" for one in words if one.name == name),
    )  # fmt: skip
    made = findings_sentence(one for one in words if one.name in accepted)
    if not made:
        return
    if st.session_state.get(f"{key}_follows") != made:
        st.session_state[f"{key}_follows"] = st.session_state[f"{key}_sentence"] = made
    st.text_area("Sentence of what you accepted", key=f"{key}_sentence", height=68, max_chars=COMMENT_LENGTH_MOST)
    if form is not None:
        st.button(
            "Add to my comment", key=f"{key}_add", icon=":material/add:", on_click=_add, args=(form, f"{key}_sentence")
        )


def _add(form: impressions.Form, key: str) -> None:
    require("record_first_read")
    impressions.add_to_comment(form, str(st.session_state.get(key, "")))


def _final_form(person: SignedIn, study: StoredStudy, known: Sequence[Read]) -> impressions.Form | None:
    """The form of the final read that is open for this person; None where there is none."""
    mine = [read for read in known if read.person_id == person.id]
    if any(read.kind == "final" for read in mine) or not (mine or study.row.reading_mode == "concurrent"):
        return None
    return impressions.form_of(study, "final", mine[0] if mine else None)


def _table(descriptors: Sequence[Descriptor]) -> str:
    lines = ["| Measured | Word (BI-RADS) | Number | Sure |", "|---|---|---|---|"]
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
