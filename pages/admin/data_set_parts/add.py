"""Adding a data set from pictures: a zip from the browser, or a folder on the server."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from pathlib import Path

import streamlit as st

from core.records.data_sets import NAME_LENGTH_MOST
from core.records.people.permissions import Actor
from core.server import inbox
from core.server.inbox import InboxFile
from core.types import Modality
from pages.parts.messages import refusals_shown
from pages.parts.session import database, settings
from pages.parts.upload import upload_files
from train.queue import imports
from train.queue.imports import FOLDER, ZIP, ImportRequest

BEGUN = "imports_begun"
"""In the session: numbers of the imports that were begun in it and not yet shown as data sets."""
JUST_BEGUN = "import_just_begun"
"""In the session: an import was begun below, and the page has not said yet that its progress stands above."""


def round_() -> int:
    """In the keys of the forms: after an import has begun, the next form is an empty one."""
    return int(st.session_state.get("n_data_sets_added", 0))


def ask_what(way: str, *, kind: Modality) -> tuple[str, Modality | None, int]:
    """Name, kind of picture and seed of the first split. way: of adding, whose choices are its own."""
    left, middle, right = st.columns([3, 3, 1])
    name = left.text_input("Name", max_chars=NAME_LENGTH_MOST, key=f"{way}_name_{round_()}")
    modality = middle.segmented_control(
        "Kind of picture", list(Modality), default=kind, format_func=str, required=True, key=f"{way}_kind_{round_()}"
    )
    seed = right.number_input("Seed of the split", 0, 2**31 - 1, 0, key=f"{way}_seed_{round_()}")
    return name, modality, int(seed)


def why_not(missing: Mapping[str, bool]) -> str | None:
    """What a greyed button waits for, as its help; None where nothing is missing. missing: words -> whether it is."""
    words = [what for what, is_missing in missing.items() if is_missing]
    return f"Still needed: {', '.join(words)}." if words else None


def add_pictures(actor: Actor) -> None:
    """The form, and what it does."""
    name, modality, seed = ask_what("pictures", kind=Modality.ULTRASOUND)
    st.caption(
        "One folder a class (benign, malignant, …), masks beside the pictures as name_mask.png; or a manifest.csv with "
        "file,label and, if known, patient, group and split. PNG, JPEG, TIFF, WebP and DICOM are read; of DICOM the "
        "pixels are kept and what they show, never who. Names of files and patients do not go into a data set."
    )
    files = upload_files(
        f"data_set_zip_{round_()}", action="manage_data", words=f"One zip, of at most {settings().upload_mib} MiB."
    )
    if files and len(files) > 1:
        st.warning("One zip makes one data set: remove the other files.")
    folder = ""
    if settings().data_root:
        folder = st.text_input(
            "Or a folder on the server, below the site's folder for data", key=f"data_folder_{round_()}"
        )
    is_ready = bool(name) and modality is not None and bool(len(files) == 1 if files else folder)
    is_asked = st.button(
        "Add the data set", type="primary", disabled=not is_ready, key=f"data_set_add_{round_()}",
        help=why_not({
            "a name": not name, "a kind of picture": modality is None, "one zip or a folder": not (files or folder),
            "one zip only": len(files or ()) > 1,
        }),
    )  # fmt: skip
    if not is_asked or modality is None:
        return
    with refusals_shown():
        request = ImportRequest(ZIP if files else FOLDER, name, modality, seed, folder="" if files else folder)
        begin(actor, request, {"archive": files[0].path} if files else {})
        begun(files or ())


def begin(actor: Actor, request: ImportRequest, files: Mapping[str, Path]) -> None:
    """Put the import into the queue; the data set is shown here once it is there. Raises AppError."""
    import_id = imports.enqueue(database(), actor, request, files)
    st.session_state[BEGUN] = {*st.session_state.get(BEGUN, ()), import_id}


def begun(files: Iterable[InboxFile]) -> None:
    """The import has what it needs: the form begins anew, and the page shows how far the import is."""
    inbox.discard(files)
    st.session_state.n_data_sets_added = round_() + 1
    st.session_state[JUST_BEGUN] = True
    st.rerun()
