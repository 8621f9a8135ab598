"""From chosen files to stored studies: read each, say what was refused, show which study each picture goes into.

Whose picture belongs where is decided in `core.reading.new_studies`; the page asks what is open there, and draws no
picture before that. Drafts live in the session until they are saved: nothing of them is in the database before.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

import streamlit as st

from core.errors import InvalidInput
from core.imaging.hanging import Place, Stage, label_of
from core.imaging.intake import bytes_of, read_upload
from core.imaging.picture import on_one_scale
from core.reading import new_studies
from core.reading.new_studies import NewPicture, NewStudy, hinted
from core.records.monitoring.drift import record_intake
from core.records.people.permissions import SignedIn
from core.records.reads.studies import NAME_LENGTH_MOST
from core.reports.content import warnings_of
from core.server import inbox
from core.server.inbox import InboxFile
from core.types import VIEWS, Image, Modality
from pages.parts import viewer
from pages.parts.markdown import SIDE_CHOICES, SIDE_WORDS, plain
from pages.parts.messages import refusals_shown
from pages.parts.session import database, require, settings
from pages.parts.upload import upload_files
from pages.parts.viewer import Picture

THUMBNAIL_SIDE_PX = 1024
"""Longest side of the picture beside a file that is not saved yet; enlarged it fills a screen well enough."""
_DRAFTS = "new_study_drafts"
_READ = "new_study_files_read"
_ROUND = "studies_begun"
_OPENED = "new_studies_opened"
_NEXT = "new_studies_next_draft"
"""The number of the next draft: none is given twice, or what was said of one file would stand at another's."""
_SAVED = "new_studies_saved"
"""How many studies of this upload are stored already: the others keep the numbers that they were shown with."""
_AS_IN_FILE = -1
"""In place of the number of a window: what the file itself asks for, a lookup table before its first window."""


@dataclass(frozen=True, slots=True)
class ReadingOptions:
    """How the reader wants one file read, where it can be read in more than one way."""

    modality: Modality | None = None
    frame: int = 0
    window: int | None = None


@dataclass(frozen=True, slots=True)
class Draft:
    """One file that was read. number: its own among the drafts. study: the study it goes into, from 0, and -1 for a
    refused file. is_moved: somebody put it there."""

    number: int
    file: InboxFile
    picture: NewPicture
    options: ReadingOptions = ReadingOptions()
    study: int = -1
    is_moved: bool = False

    @property
    def name(self) -> str:
        return self.picture.found.name


def begin_studies(person: SignedIn) -> list[str]:
    """Choose files, see what was refused and which studies they make, complete them; the ids once they are saved."""
    drafts = choose_files(person)
    show_refusals(drafts)
    groups = _groups(drafts)
    if not groups:
        st.info("None of the files could be read, so there is nothing to save.", icon=":material/edit:")
    n_read = sum(map(len, groups.values()))
    n_saved = st.session_state.get(_SAVED, 0)
    if len(groups) > 1:
        st.info(f"These {n_read} pictures are {len(groups)} studies. Check what goes where.", icon=":material/folder:")
    base = st.text_input(
        "Name of the study" if n_saved + len(groups) < 2 else "Name of the studies, which are numbered",
        max_chars=NAME_LENGTH_MOST,
        key="new_name",
        placeholder="For example: Teaching case 12",
        help="Choose a name that says nothing about the patient.",
    )
    new: list[NewStudy] = []
    for shown, (number, members) in enumerate(groups.items(), start=n_saved + 1):
        is_next = not any(picture.missing for study in new for picture in study.pictures)
        is_one_of_several = n_saved + len(groups) > 1
        new.append(_study(drafts, members, number, shown if is_one_of_several else 0, base, is_next=is_next))
    missing = _missing_text(new)
    if missing:
        st.info(plain(missing), icon=":material/edit:")
    space = st.container()  # a refusal stands above the button, where it is seen
    words = "Save the study" if len(groups) < 2 else f"Save {len(groups)} studies"
    waits = plain(missing) if missing else None if groups else "Add pictures first."
    if st.button(words, type="primary", disabled=bool(waits), icon=":material/save:", help=waits):
        with space:
            return save(person, new, list(groups.values()), drafts)
    return []


def choose_files(person: SignedIn) -> list[Draft]:
    """The upload and, once every file has arrived, its drafts. Ends the page while there is nothing to show."""
    st.caption(
        "DICOM, PNG, JPEG, TIFF or WebP, or a zip of them. Files of several patients or exams become several studies: "
        "by their tags, else by folders, dates and names. You see which before anything is saved."
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
    before = set(_groups(drafts))
    drafts[:] = [draft for draft in drafts if str(draft.file.path) in wanted]
    for number in before - set(_groups(drafts)):  # or a study of other files, under its number, had its name
        st.session_state.pop(f"new_name_{number}", None)
        st.session_state.get(_OPENED, set()).discard(number)
    if not drafts:  # what comes now has nothing to do with what was stored before
        st.session_state.pop(_SAVED, None)
    waiting = [file for file in files if str(file.path) not in done]
    space = st.empty()  # there in every run, so that what follows never changes its place
    if waiting:
        bar = space.progress(0.0, "Reading the files")
        next_number = st.session_state.get(_NEXT, 0)
        for number, file in enumerate(waiting):
            bar.progress(number / len(waiting), f"Reading file {number + 1} of {len(waiting)}")
            found = read_upload(
                file.path,
                file.name,
                settings=settings(),
                site_key=database().site_key,
                with_source=True,
                with_frames=True,
                taken=sum(bytes_of(image) for draft in drafts if (image := draft.picture.found.image) is not None),
            )
            n_refused = sum(intake.refused is not None for intake in found)
            record_intake(database(), person, n_read=len(found) - n_refused, n_refused=n_refused)
            pictures = (NewPicture(intake, *hinted(intake.name)) for intake in found)
            drafts.extend(Draft(next_number + place, file, picture) for place, picture in enumerate(pictures))
            next_number = st.session_state[_NEXT] = next_number + len(found)
            done.add(str(file.path))
        bar.empty()
        _assign(drafts)
    done &= wanted
    return drafts


def _assign(drafts: list[Draft]) -> None:
    """New drafts go where the rest of what belongs with them is already; what the reader moved stays there."""
    for members in new_studies.propose([draft.picture.found for draft in drafts]):
        known = [drafts[position].study for position in members if drafts[position].study >= 0]
        study = known[0] if known else max(draft.study for draft in drafts) + 1
        for position in members:
            if drafts[position].study < 0:
                drafts[position] = replace(drafts[position], study=study)


def _groups(drafts: Sequence[Draft]) -> Mapping[int, list[int]]:
    """Study -> positions of its drafts, in the order of the studies' numbers."""
    groups: dict[int, list[int]] = {}
    for position, draft in enumerate(drafts):
        if draft.study >= 0:
            groups.setdefault(draft.study, []).append(position)
    return dict(sorted(groups.items()))


def show_refusals(drafts: Sequence[Draft]) -> None:
    """File by file, why it was refused. The others stay."""
    refused = [draft.picture.found for draft in drafts if draft.picture.found.refused is not None]
    if not refused:
        return
    lines = "\n".join(f"- **{plain(found.name)}**: {plain(found.refused or '')}" for found in refused)
    count = "1 file was" if len(refused) == 1 else f"{len(refused)} files were"
    retained = len(drafts) - len(refused)
    rest = f" The other {retained} stay." if retained > 1 else " The other one stays." if retained else ""
    st.warning(f"{count} refused.{rest}\n\n{lines}", icon=":material/block:")


def _study(
    drafts: list[Draft], members: Sequence[int], number: int, shown: int, base: str, *, is_next: bool
) -> NewStudy:
    """One study: what has to be asked of it, then its pictures, which are drawn only once that is answered.

    number: the study's own, by which what is filled in stays with it, whichever others go. shown: its number on the
    page, from 1; 0 where there is only one. is_next: nothing is missing in the studies before. Of several the next that
    waits for a choice opens by itself.
    """
    is_one_of_several = shown > 0
    opened: set[int] = st.session_state.setdefault(_OPENED, set())
    if is_next and number not in opened and any(drafts[position].picture.missing for position in members):
        opened.add(number)
        st.session_state[f"new_open_{number}"] = True
    with st.container(border=is_one_of_several, key=f"new_study_{number}"):
        name = _heading(drafts, members, number, shown, base) if is_one_of_several else base
        is_settled = _ask_whose([drafts[position] for position in members])
        is_open = not is_one_of_several or st.toggle("Pictures and details", key=f"new_open_{number}")
        if is_open:
            _pictures(drafts, members, is_drawn=is_settled)
    return NewStudy(name, tuple(drafts[position].picture for position in members), is_confirmed=is_settled)


def _heading(drafts: Sequence[Draft], members: Sequence[int], number: int, shown: int, base: str) -> str:
    images = [drafts[position].picture.image for position in members]
    taken = sorted({image.taken_on for image in images if image.taken_on})
    by = "their tags" if all(image.exam_hash or image.patient_hash for image in images) else "folder and name"
    if any(drafts[position].is_moved for position in members):
        by = "hand"
    words = [
        "1 picture" if len(images) == 1 else f"{len(images)} pictures",
        f"taken {taken[0]}" if taken else "",
        f"together by {by}" if len(images) > 1 else "",
    ]
    st.markdown(f"**Study {shown}** · {' · '.join(filter(None, words))}")
    st.caption(", ".join(plain(drafts[position].name) for position in members))
    numbered = f"{base.strip()} {shown}" if base.strip() else ""
    own = st.text_input(
        f"Name of study {shown}",
        max_chars=NAME_LENGTH_MOST,
        placeholder=numbered or "A name of its own, if it is to have one",
        key=f"new_name_{number}",
        label_visibility="collapsed",
    )
    return own.strip() or numbered


def _ask_whose(drafts: Sequence[Draft]) -> bool:
    """Whether these can be one study: by their tags, or because the reader says so of exactly these pictures."""
    found = new_studies.doubts([draft.picture.found for draft in drafts])
    if found.refusal:
        st.error(found.refusal, icon=":material/group:")
        return False
    if not found.questions:
        return True
    st.warning(" ".join(found.questions), icon=":material/help:")
    exactly = hashlib.sha256(" ".join(str(draft.number) for draft in drafts).encode()).hexdigest()[:12]
    return st.checkbox("I checked: these pictures show one patient in one exam.", key=f"new_confirmed_{exactly}")


def _pictures(drafts: list[Draft], members: Sequence[int], *, is_drawn: bool) -> None:
    """A row for each picture: how it looks, what its file says, and choices where the file says nothing."""
    settled: Sequence[Image | None] = [None] * len(members)
    if is_drawn:
        settled = on_one_scale([drafts[position].picture.image for position in members])  # as the study will have them
    n_read = sum(draft.study >= 0 for draft in drafts)
    for position, image in zip(members, settled, strict=True):
        with st.container(border=True):
            before = drafts[position].picture.found
            drafts[position] = _row(drafts[position], image, is_movable=n_read > 1)
            if drafts[position].picture.found is not before:
                st.rerun()  # it was read again, and what stands above is drawn of what it was


def _row(draft: Draft, image: Image | None, *, is_movable: bool) -> Draft:
    key = f"new_{draft.number}"
    picture, words = st.columns([1, 2.2])
    with picture:
        if image is None:
            st.caption("Drawn once it is settled whose pictures these are.")
        else:
            label = label_of([image], 0)
            viewer.show(
                [Picture(image, label, label)],
                [Stage("All", (Place(0, label),), 1)],
                key=f"{key}_picture",
                cell_height=("15rem", "15rem"),
                has_tools=False,
                most_side=THUMBNAIL_SIDE_PX,
            )
    with words:
        title, moved = st.columns([2.4, 1], vertical_alignment="center")
        title.markdown(f"**{plain(draft.name)}**")
        lines = [f":material/warning: {plain(warning)}" for warning in warnings_of(draft.picture.image)]
        if lines:
            st.caption("  \n".join(lines))
        options = _options(draft, key)
        if options != draft.options:
            draft = _read_again(draft, options)
        draft = _sides(draft, key)
    if is_movable:
        with moved:
            _offer_studies(draft, f"{key}_study_{draft.study}")
    return draft


def _offer_studies(draft: Draft, key: str) -> None:
    """Into which study the picture goes; one more than there are makes a new one."""
    drafts: list[Draft] = st.session_state[_DRAFTS]
    numbers = list(_groups(drafts))
    choices = [*numbers, max(numbers) + 1]
    first = st.session_state.get(_SAVED, 0) + 1
    st.selectbox(
        "Study",
        choices,
        index=choices.index(draft.study),
        format_func=lambda study: f"Study {numbers.index(study) + first}" if study in numbers else "A new study",
        key=key,
        on_change=_move,
        args=(draft.number, key),
        label_visibility="collapsed",
    )


def _move(number: int, key: str) -> None:
    """Before the page is drawn anew, so that no picture is ever drawn where it does not belong."""
    require("create_study")
    drafts: list[Draft] = st.session_state.get(_DRAFTS, [])
    for position, draft in enumerate(drafts):
        if draft.number == number:
            drafts[position] = replace(draft, study=st.session_state[key], is_moved=True)


def _options(draft: Draft, key: str) -> ReadingOptions:
    """What kind of picture, which frame, which window: asked only where the file leaves it open."""
    image, options = draft.picture.image, draft.options
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
        columns[1].caption(f"of {image.n_frames}, for the models" if image.frames else f"of {image.n_frames}")
    if len(image.windows) > 1:
        # Of a file with a lookup table beside its windows the table counts, unless the reader wants a window.
        chosen_window = columns[2].selectbox(
            "Window of the file",
            [_AS_IN_FILE, *range(len(image.windows))],
            index=0 if window is None else window + 1,
            format_func=lambda number: "As the file says" if number == _AS_IN_FILE else _window_text(image, number),
            key=f"{key}_window",
        )
        window = None if chosen_window == _AS_IN_FILE else chosen_window
    return ReadingOptions(modality, frame, window)


def _sides(draft: Draft, key: str) -> Draft:
    found = draft.picture.found.image
    if found is None:
        return draft
    columns = st.columns(3)
    laterality, view = draft.picture.laterality, draft.picture.view
    side_in_name, view_in_name = hinted(draft.name)
    if found.laterality:
        columns[0].markdown(f"Side: **{SIDE_WORDS[found.laterality]}**, from the file")
    else:
        laterality = columns[0].segmented_control(
            "Side",
            list(SIDE_CHOICES),
            default=laterality,
            format_func=lambda side: SIDE_CHOICES[side],
            key=f"{key}_side",
        )
    if found.modality is Modality.MAMMOGRAPHY:
        if found.view:
            columns[1].markdown(f"View: **{found.view}**, from the file")
        else:
            start = VIEWS.index(view) if view else None
            view = columns[1].selectbox("View", VIEWS, index=start, placeholder="not stated", key=f"{key}_view")
    if (side_in_name and not found.laterality) or (view_in_name and not found.view):
        st.caption("Side and view were suggested by the name of the file: please check.")
    return replace(draft, picture=replace(draft.picture, laterality=laterality, view=view))


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
            with_source=True,
            with_frames=True,
        )
    # Names are cut, so two members of one zip may share theirs.
    sha256 = draft.picture.found.sha256
    same = next((intake for intake in found if (intake.name, intake.sha256) == (draft.name, sha256)), None)
    if same is None or same.image is None:
        st.error(same.refused if same and same.refused else "The file cannot be read this way.")
        return draft
    picture = replace(draft.picture, found=same, is_kind_stated=options.modality is not None)
    return replace(draft, picture=picture, options=options)


def _window_text(image: Image, number: int) -> str:
    window = image.windows[number]
    name = window.explanation or f"Window {number + 1}"
    return f"{name} (centre {window.center:g}, width {window.width:g})"


def _missing_text(new: Sequence[NewStudy]) -> str:
    """What still keeps the studies from being saved, as one sentence; a missing name is said when they are."""
    n_saved = st.session_state.get(_SAVED, 0)
    for shown, study in enumerate(new, start=n_saved + 1):
        try:
            new_studies.require_settled(replace(study, display_name=study.display_name or "without a name yet"))
        except InvalidInput as open_question:
            return f"Study {shown}: {open_question}" if n_saved + len(new) > 1 else str(open_question)
    return ""


def save(person: SignedIn, new: Sequence[NewStudy], groups: Sequence[Sequence[int]], drafts: list[Draft]) -> list[str]:
    """Store the studies and empty the inbox; their ids. A refusal is a sentence, and what was stored is not asked for
    again."""
    members = [{drafts[position].number for position in group} for group in groups]
    saved: list[str] = []
    with refusals_shown():
        try:
            for study_id in new_studies.save(database(), person, new):
                stored = members[len(saved)]
                saved.append(study_id)
                st.session_state[_SAVED] = st.session_state.get(_SAVED, 0) + 1
                files = [draft.file for draft in drafts]
                drafts[:] = [draft for draft in drafts if draft.number not in stored]
                still = {draft.file.path for draft in drafts if draft.study >= 0}
                inbox.discard(file for file in files if file.path not in still)
        finally:
            if len(saved) == len(new):
                forget_drafts()
        return saved
    return []


def forget_drafts() -> None:
    """Start over, with an empty upload, for the next study."""
    st.session_state[_ROUND] = st.session_state.get(_ROUND, 0) + 1
    for key in [key for key in st.session_state if str(key).startswith("new_")]:
        del st.session_state[key]
