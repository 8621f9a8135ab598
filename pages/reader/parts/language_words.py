"""What a language model said of an outlined lesion, beside what was measured in it and what the reader says.

Drawn after the second read was shown, under the measured words and apart from them. On masses that the reader drew it
stands by itself. Nothing of it can be accepted: it is no finding, no word of a sentence and part of no number.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import streamlit as st

from core.findings.finding import Finding
from core.findings.marks import Mark, lies_over, mask_of
from core.language.question import UNTOLD, descriptors
from core.language.sent_picture import sha256_of, shown_part
from core.reading.outlines import OutlinedLesion
from core.records.language.answers import LanguageAnswer, ask_again, language_answers_of, look_for_text
from core.records.people.permissions import SignedIn
from core.records.queue import CANCELLED, DONE, OPEN
from core.records.reads.reads import reads_of
from core.records.reads.studies import StoredImage, StoredStudy
from core.reports.content import AI_GENERATED
from core.types import Modality
from pages.parts.markdown import plain
from pages.parts.messages import refusals_shown
from pages.parts.session import database, require
from pages.reader.parts import impressions, marking

UNVERIFIED = "Language model, unverified"
_LOOK_SECONDS = 3


def draw(
    person: SignedIn,
    study: StoredStudy,
    stored: StoredImage,
    lesion: OutlinedLesion,
    mark: Mark,
    form: impressions.Form | None,
) -> None:
    """The words on one of the network's outlines; a sentence why there are none; nothing where nobody was asked."""
    with refusals_shown():
        rows = [row for row in language_answers_of(database(), person, study.row.id) if not row.is_drawn]
        row = _row_on(rows, stored, mark)
        if row is not None:
            measured = {one.name: one.word for one in lesion.descriptors if one.word}
            _show(person, study, row, Place(stored, mark, lesion.outline.mask, measured), form)


def draw_own(person: SignedIn, study: StoredStudy, labels: Mapping[str, str], form: impressions.Form | None) -> None:
    """The words on the masses that this person drew and saved, as far as they were asked about apart from the network's
    outlines; nothing where there is no such mass."""
    with refusals_shown():
        marks = _own_masses(person, study)
        rows = language_answers_of(database(), person, study.row.id) if marks else []
        images = {stored.id: stored for stored in study.images}
        for mark in marks:
            for row in _rows_on_own(rows, mark):
                stored = images[row.image_id]
                st.markdown(f"Your {mark.kind} on {plain(labels.get(stored.id, 'the image'))}")
                mask = mask_of(row.described.mark or mark, stored.image.height, stored.image.width)
                _show(person, study, row, Place(stored, mark, mask, row.described.measured), form)


@dataclass(frozen=True, slots=True)
class Place:
    """What a row is about, on its image. mask: bool (H, W). measured: descriptor -> word within it."""

    stored: StoredImage
    mark: Mark
    mask: np.ndarray
    measured: Mapping[str, str]


def _row_on(rows: Sequence[LanguageAnswer], stored: StoredImage, mark: Mark) -> LanguageAnswer | None:
    """The row whose outline lies where this one does; of a picture that was not outlined yet, its only row."""
    own = [row for row in rows if row.image_id == stored.id]
    there = [row for row in own if row.described.mark and lies_over(row.described.mark, mark)]
    return next(iter(there), next((row for row in own if row.described.mark is None), None))


def _saved_masses(person: SignedIn, study: StoredStudy) -> list[Finding]:
    """The masses of this person's last read, on ultrasound pictures."""
    mine = [read for read in reads_of(database(), person, study.row.id) if read.person_id == person.id]
    findings = mine[-1].annotations.findings if mine else ()
    return [one for one in findings if one.type == "mass" and one.modality is Modality.ULTRASOUND]


def _own_masses(person: SignedIn, study: StoredStudy) -> list[Mark]:
    """The regions that mark masses in this person's last read, on ultrasound pictures."""
    return [mark for one in _saved_masses(person, study) for mark in one.marks if mark.kind in ("ellipse", "outline")]


def _rows_on_own(rows: Sequence[LanguageAnswer], mark: Mark) -> list[LanguageAnswer]:
    """What was asked at the place of a mass that was drawn, and the mass itself where that was another outline. Nothing
    of one that is the network's outline as it was: that stands with the network's."""
    if any(row.described.mark == mark for row in rows if not row.is_drawn):
        return []
    there = [row for row in rows if row.is_drawn and row.described.mark and lies_over(row.described.mark, mark)]
    asked = [row for row in there if row.state != CANCELLED][-1:]
    is_asked = any(row.described.mark == mark for row in asked)
    waiting = [row for row in there if row.state == CANCELLED and row.described.mark == mark and row.can_ask_again]
    return asked if is_asked else [*asked, *waiting[-1:]]


def _show(
    person: SignedIn, study: StoredStudy, row: LanguageAnswer, place: Place, form: impressions.Form | None
) -> None:
    st.markdown(f"**{UNVERIFIED}** · {plain(row.model)}")
    if row.state == DONE:
        _table(person, study, row, place, form)
        return
    st.caption(plain(row.message))
    if row.state in OPEN:
        _wait(study.row.id, row.id)
    elif row.needs_look and not study.pixels_removed_at:
        _ask_to_look(person, row, place)
    elif row.can_ask_again and st.button(
        "Ask within this outline" if row.state == CANCELLED else "Ask again", key=f"again_{row.id}",
        icon=":material/replay:",
    ):  # fmt: skip
        ask_again(database(), person, row.id)
        st.rerun()


def _table(
    person: SignedIn, study: StoredStudy, row: LanguageAnswer, place: Place, form: impressions.Form | None
) -> None:
    measured = place.measured
    own = _of_reader(person, study, place.mark, form)
    said = row.described.words
    lines = [f"| | Measured | {UNVERIFIED} | Your finding |", "|---|---|---|---|"]
    for one in descriptors():
        word = said.get(one.name, "")
        differs = bool(word) and any(other.get(one.name, word) != word for other in (measured, own))
        shown = f":orange[:material/difference: **{plain(word)}**, differs]" if differs else plain(word) or UNTOLD
        lines.append(f"| {one.name} | {plain(measured.get(one.name, ''))} | {shown} | {plain(own.get(one.name, ''))} |")
    st.markdown("\n".join(lines))
    served = f", answering as {plain(row.described.served_model)}" if row.described.served_model else ""
    st.caption(
        f"{AI_GENERATED} by {plain(row.model)}{served}, question {row.described.prompt_sha256[:8]}. Nobody verified "
        "it; it can be made up. It is part of no number and no finding."
    )


def _of_reader(person: SignedIn, study: StoredStudy, mark: Mark, form: impressions.Form | None) -> Mapping[str, str]:
    """Of the reader's own mass at this place: as the open form has it once it is drawn, else as it was saved last."""
    if form is not None and marking.is_begun(form.key):
        sketches = [one for one in marking.sketches_in(form.key) if one.type == "mass"]
        return next((one.descriptors for one in sketches if any(lies_over(own, mark) for _, own in one.marks)), {})
    masses = _saved_masses(person, study)
    return next((one.descriptors for one in masses if any(lies_over(own, mark) for own in one.marks)), {})


def _ask_to_look(person: SignedIn, row: LanguageAnswer, place: Place) -> None:
    """The part that would be sent, and the reader's word that no text is in it."""
    part = shown_part(place.stored.image, place.mask)
    st.image(part, caption="The part that would be sent")
    if st.button("I see no text in it: send it", key=f"look_{row.id}", icon=":material/outgoing_mail:"):
        look_for_text(database(), person, row.id, sha256_of(part))
        st.rerun()


@st.fragment(run_every=_LOOK_SECONDS)
def _wait(study_id: str, row_id: int) -> None:
    """Draws the page anew once the answer is there."""
    person = require("see_ai", is_activity=False)
    with refusals_shown():
        rows = {row.id: row for row in language_answers_of(database(), person, study_id)}
        if row_id not in rows or rows[row_id].state not in OPEN:
            st.rerun()
