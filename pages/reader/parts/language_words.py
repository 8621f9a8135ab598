"""What a language model said of an outlined lesion, beside what was measured in it and what the reader says.

Drawn after the second read was shown, under the measured words and apart from them. Nothing of it can be accepted: it
is no finding, no word of a sentence and part of no number.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import streamlit as st

from core.findings.marks import Mark, lies_over
from core.language.question import UNTOLD, descriptors
from core.language.sent_picture import sha256_of, shown_part
from core.reading.outlines import OutlinedLesion
from core.records.language.answers import LanguageAnswer, language_answers_of, look_for_text
from core.records.people.permissions import SignedIn
from core.records.queue import DONE, OPEN
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
    """The words on one outline; a sentence why there are none; nothing where the model was never asked."""
    with refusals_shown():
        row = _row_on(language_answers_of(database(), person, study.row.id), stored, mark)
        if row is None:
            return
        st.markdown(f"**{UNVERIFIED}** · {plain(row.model)}")
        if row.state in OPEN:
            st.caption(plain(row.message))
            _wait(study.row.id, row.id)
        elif row.state != DONE:
            st.caption(plain(row.message))
            if row.needs_look:
                _ask_to_look(person, row, stored, lesion)
        else:
            _table(person, study, row, lesion, mark, form)


def _row_on(rows: Sequence[LanguageAnswer], stored: StoredImage, mark: Mark) -> LanguageAnswer | None:
    """The row whose outline lies where this one does; of a picture that was not outlined yet, its only row."""
    own = [row for row in rows if row.image_id == stored.id]
    there = [row for row in own if row.described.mark and lies_over(row.described.mark, mark)]
    return next(iter(there), next((row for row in own if row.described.mark is None), None))


def _table(
    person: SignedIn,
    study: StoredStudy,
    row: LanguageAnswer,
    lesion: OutlinedLesion,
    mark: Mark,
    form: impressions.Form | None,
) -> None:
    measured = {one.name: one.word for one in lesion.descriptors if one.word}
    own = _of_reader(person, study, mark, form)
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
    """Of the reader's own mass at this place: as the open form has it, else as it was saved last."""
    if form is not None:
        sketches = [one for one in marking.sketches_in(form.key) if one.type == "mass"]
        return next((one.descriptors for one in sketches if any(lies_over(own, mark) for _, own in one.marks)), {})
    mine = [read for read in reads_of(database(), person, study.row.id) if read.person_id == person.id]
    findings = mine[-1].annotations.findings if mine else ()
    masses = [one for one in findings if one.type == "mass" and one.modality is Modality.ULTRASOUND]
    return next((one.descriptors for one in masses if any(lies_over(own, mark) for own in one.marks)), {})


def _ask_to_look(person: SignedIn, row: LanguageAnswer, stored: StoredImage, lesion: OutlinedLesion) -> None:
    """The part that would be sent, and the reader's word that no text is in it."""
    part = shown_part(stored.image, lesion.outline.mask)
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
