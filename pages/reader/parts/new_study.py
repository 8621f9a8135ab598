"""From chosen files to a stored study: read each, say what was refused, let the reader complete what files do not say.

Drafts live in the session until they are saved: nothing of them is in the database before.

Side and view that a file's name suggests, for pictures whose content cannot say: only ever a suggestion.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass, replace

import streamlit as st

from core.errors import InvalidInput
from core.imaging.hanging import hang
from core.imaging.intake import Intake, read_upload
from core.imaging.picture import on_one_scale
from core.records.monitoring.drift import record_intake
from core.records.people.permissions import SignedIn
from core.records.reads.studies import NAME_LENGTH_MOST, create_study
from core.reports.content import warnings_of
from core.server import inbox
from core.server.inbox import InboxFile
from core.types import LATERALITIES, VIEWS, Image, Modality, Window
from pages.parts import viewer
from pages.parts.markdown import SIDE_WORDS, plain
from pages.parts.messages import refusals_shown
from pages.parts.session import database, settings
from pages.parts.upload import upload_files
from pages.parts.viewer import Cell

_HINT = re.compile(r"(?<![A-Za-z])(left|right|l|r)?[ _.\-]?(cc|mlo)?(?![A-Za-z])", re.IGNORECASE)


def hinted(name: str) -> tuple[str | None, str | None]:
    """(laterality, view) from the last part of a name like "exam/L_CC.png", "RMLO.dcm" or "left-mlo 2.png".

    Nothing is suggested where a name says two different sides or views.
    """
    stem = name.replace("\\", "/").rsplit("/", 1)[-1].rsplit(".", 1)[0]
    sides, views = set(), set()
    for side, view in _HINT.findall(stem):
        if side:
            sides.add(side[0].upper())
        if view:
            views.add(view.upper())
    return (sides.pop() if len(sides) == 1 else None), (views.pop() if len(views) == 1 else None)


_DRAFTS = "new_study_drafts"
_READ = "new_study_files_read"
_ROUND = "studies_begun"


@dataclass(frozen=True, slots=True)
class ReadingOptions:
    """How the reader wants one file read, where it can be read in more than one way."""

    modality: Modality | None = None
    frame: int = 0
    window: int | None = None


@dataclass(frozen=True, slots=True)
class Draft:
    """One picture that will be part of the study. found: as the file gave it; its own words win over corrections."""

    file: InboxFile
    found: Intake
    options: ReadingOptions = ReadingOptions()
    laterality: str | None = None
    view: str | None = None

    @property
    def image(self) -> Image:
        """The picture with the reader's corrections. Only for a draft that was not refused."""
        image = self.found.image
        if image is None:
            raise InvalidInput("A refused file has no picture.")
        source = "reader" if self.options.modality and image.modality_source == "argument" else image.modality_source
        return replace(
            image,
            modality_source=source,
            laterality=image.laterality or self.laterality,
            view=image.view or self.view,
        )


def begin_study(person: SignedIn) -> str | None:
    """Choose files, see what was refused, complete what they do not say, name it; the id once it is saved."""
    drafts = choose_files(person)
    show_refusals(drafts)
    complete_drafts(drafts)
    missing = missing_text(drafts)
    if missing:
        st.info(missing, icon=":material/edit:")
    name = st.text_input(
        "Name of the study",
        max_chars=NAME_LENGTH_MOST,
        key="new_name",
        placeholder="For example: Teaching case 12",
        help="Choose a name that says nothing about the patient.",
    )
    space = st.container()  # a refusal stands above the button, where it is seen
    if st.button("Save the study", type="primary", disabled=bool(missing), icon=":material/save:"):
        with space:
            return save(person, name, drafts)
    return None


def choose_files(person: SignedIn) -> list[Draft]:
    """The upload and, once every file has arrived, its drafts. Ends the page while there is nothing to show."""
    st.caption(
        "DICOM, PNG, JPEG, TIFF or WebP, or a zip of them. All files that you choose here become one study of one "
        "patient."
    )
    files = upload_files(f"upload_{st.session_state.get(_ROUND, 0)}")
    if files is None:
        st.stop()
    return read_new_files(person, files)


def read_new_files(person: SignedIn, files: Sequence[InboxFile]) -> list[Draft]:
    """Drafts of all chosen files, read once each; a bar moves while they are read."""
    drafts: list[Draft] = st.session_state.setdefault(_DRAFTS, [])
    done: set[str] = st.session_state.setdefault(_READ, set())
    wanted = {str(file.path) for file in files}
    drafts[:] = [draft for draft in drafts if str(draft.file.path) in wanted]
    waiting = [file for file in files if str(file.path) not in done]
    space = st.empty()  # there in every run, so that what follows never changes its place
    if waiting:
        bar = space.progress(0.0, "Reading the files")
        for number, file in enumerate(waiting):
            bar.progress(number / len(waiting), f"Reading file {number + 1} of {len(waiting)}")
            found = read_upload(file.path, file.name, settings=settings(), site_key=database().site_key)
            n_refused = sum(intake.refused is not None for intake in found)
            record_intake(database(), person, n_read=len(found) - n_refused, n_refused=n_refused)
            drafts.extend(Draft(file, intake) for intake in found)
            done.add(str(file.path))
        bar.empty()
    done &= wanted
    return drafts


def show_refusals(drafts: Sequence[Draft]) -> None:
    """File by file, why it was refused. The others stay."""
    refused = [draft for draft in drafts if draft.found.refused is not None]
    if not refused:
        return
    lines = "\n".join(f"- **{plain(draft.found.name)}**: {plain(draft.found.refused or '')}" for draft in refused)
    count = "1 file was" if len(refused) == 1 else f"{len(refused)} files were"
    retained = len(drafts) - len(refused)
    rest = f" The other {retained} stay." if retained > 1 else " The other one stays." if retained else ""
    st.warning(f"{count} refused.{rest}\n\n{lines}", icon=":material/block:")


def complete_drafts(drafts: list[Draft]) -> None:
    """A row for each picture: how it looks, what its file says, and choices where the file says nothing."""
    read = [position for position, draft in enumerate(drafts) if draft.found.image is not None]
    settled = on_one_scale([drafts[position].image for position in read])  # as the study will have them
    for position, image in zip(read, settled, strict=True):
        with st.container(border=True):
            drafts[position] = _row(drafts[position], image, position)


def _row(draft: Draft, image: Image, position: int) -> Draft:
    key = f"new_{draft.found.sha256[:12]}_{position}"
    picture, words = st.columns([1, 2.2])
    with picture:
        cell = Cell(hang([image]).places[0].label, _thumbnail(image), size=(image.width, image.height))
        viewer.show([cell], key=f"{key}_picture", cell_height=("15rem", "15rem"))
    with words:
        st.markdown(f"**{plain(draft.found.name)}**")
        lines = [f":material/warning: {plain(warning)}" for warning in warnings_of(image)]
        if lines:
            st.caption("  \n".join(lines))
        options = _options(draft, key)
        if options != draft.options:
            draft = _read_again(draft, options)
        return _sides(draft, key)


def _options(draft: Draft, key: str) -> ReadingOptions:
    """What kind of picture, which frame, which window: asked only where the file leaves it open."""
    image, options = draft.image, draft.options
    modality = options.modality
    columns = st.columns(3)
    if image.modality_source == "tags":
        columns[0].markdown(f"Kind: **{image.modality}**, from the file")
    else:
        kinds = list(Modality)
        guess = kinds.index(image.modality) if image.modality else None
        chosen = columns[0].selectbox(
            "Kind of picture", kinds, index=guess, format_func=str, placeholder="Choose", key=f"{key}_kind"
        )
        modality = chosen if chosen != image.modality else options.modality
        if image.modality_source == "pixels":
            columns[0].caption("Guessed from the pixels: please check.")
    frame, window = options.frame, options.window
    if image.n_frames > 1:
        frame = int(columns[1].number_input("Frame", 1, image.n_frames, options.frame + 1, key=f"{key}_frame")) - 1
        columns[1].caption(f"of {image.n_frames}")
    if len(image.windows) > 1:
        window = columns[2].selectbox(
            "Window of the file",
            range(len(image.windows)),
            index=image.window_index or 0,
            format_func=lambda number: _window_text(image.windows[number], number),
            key=f"{key}_window",
        )
        window = options.window if window == image.window_index else window
    return ReadingOptions(modality, frame, window)


def _sides(draft: Draft, key: str) -> Draft:
    found = draft.found.image
    if found is None:
        return draft
    columns = st.columns(3)
    laterality, view = draft.laterality, draft.view
    side_in_name, view_in_name = hinted(draft.found.name)
    if found.laterality:
        columns[0].markdown(f"Side: **{SIDE_WORDS[found.laterality]}**, from the file")
    else:
        laterality = columns[0].segmented_control(
            "Side",
            LATERALITIES,
            default=side_in_name,
            format_func=lambda side: SIDE_WORDS[side],
            key=f"{key}_side",
        )
    if found.modality is Modality.MAMMOGRAPHY:
        if found.view:
            columns[1].markdown(f"View: **{found.view}**, from the file")
        else:
            start = VIEWS.index(view_in_name) if view_in_name else None
            view = columns[1].selectbox("View", VIEWS, index=start, placeholder="not stated", key=f"{key}_view")
    if (side_in_name and not found.laterality) or (view_in_name and not found.view):
        st.caption("Side and view were suggested by the name of the file: please check.")
    return replace(draft, laterality=laterality, view=view)


def _read_again(draft: Draft, options: ReadingOptions) -> Draft:
    """The same file read as wished; where that is refused, the sentence is shown and the draft stays as it was."""
    with st.spinner("Reading the file again"):
        found = read_upload(
            draft.file.path,
            draft.file.name,
            settings=settings(),
            modality=options.modality,
            frame=options.frame,
            window=options.window,
            site_key=database().site_key,
        )
    same = next((intake for intake in found if intake.name == draft.found.name), None)
    if same is None or same.image is None:
        st.error(same.refused if same and same.refused else "The file cannot be read this way.")
        return draft
    return replace(draft, found=same, options=options)


def _window_text(window: Window, number: int) -> str:
    name = window.explanation or f"Window {number + 1}"
    return f"{name} (centre {window.center:g}, width {window.width:g})"


def _thumbnail(image: Image) -> bytes:
    return _thumbnail_of(image.sha256, image.frame, image.window_index, image.is_colour, image.guessed_bits, image)


@st.cache_data(show_spinner=False, max_entries=64, ttl="15m")
def _thumbnail_of(
    sha256: str, frame: int, window: int | None, is_colour: bool, bits: int | None, _image: Image
) -> bytes:
    pixels = (_image.pixels * 255).round().astype("uint8")
    return viewer.jpeg(pixels)


def missing_text(drafts: Sequence[Draft]) -> str:
    """What still keeps the study from being saved, as one sentence; "" when nothing does."""
    good = [draft for draft in drafts if draft.found.image is not None]
    if not good:
        return "None of the files could be read, so there is nothing to save."
    unknown = [draft for draft in good if draft.image.modality is None]
    if unknown:
        return f"Choose the kind of picture of {plain(unknown[0].found.name)}: no model reads it otherwise."
    return ""


def save(person: SignedIn, display_name: str, drafts: Sequence[Draft]) -> str | None:
    """Store the study and empty the inbox; the new study's id, or None where it was refused with a sentence."""
    images = on_one_scale([draft.image for draft in drafts if draft.found.image is not None])
    with refusals_shown():
        study_id = create_study(database(), person, display_name=display_name, images=images)
        inbox.discard([draft.file for draft in drafts])
        forget_drafts()
        return study_id
    return None


def forget_drafts() -> None:
    """Start over, with an empty upload, for the next study."""
    st.session_state[_ROUND] = st.session_state.get(_ROUND, 0) + 1
    for key in [key for key in st.session_state if str(key).startswith("new_")]:
        del st.session_state[key]
