"""Adding a data set from pictures: a zip from the browser, or a folder on the server."""

from __future__ import annotations

import pandas as pd
import streamlit as st

from core.records import data_sets
from core.records.data_sets import NAME_LENGTH_MOST
from core.records.permissions import Person
from core.server import inbox
from core.types import Modality
from pages.parts.messages import told_plainly
from pages.parts.progress import progress_bar
from pages.parts.research_figures import draw_download
from pages.parts.session import database, settings
from pages.parts.upload import upload_files
from pages.parts.words import plain
from train import collect
from train.collect import Collected


def round_() -> int:
    """In the keys of the forms: after a data set was added, the next form is an empty one."""
    return int(st.session_state.get("n_data_sets_added", 0))


def ask_what(way: str, *, kind: Modality) -> tuple[str, Modality | None, int]:
    """Name, kind of picture and seed of the first split. way: of adding, whose choices are its own."""
    left, middle, right = st.columns([3, 3, 1])
    name = left.text_input("Name", max_chars=NAME_LENGTH_MOST, key=f"{way}_name_{round_()}")
    modality = middle.segmented_control(
        "Kind of picture", list(Modality), default=kind, format_func=str, key=f"{way}_kind_{round_()}"
    )
    seed = right.number_input("Seed of the split", 0, 2**31 - 1, 0, key=f"{way}_seed_{round_()}")
    return name, modality, int(seed)


def add_pictures(person: Person) -> None:
    """The form, and what it does."""
    name, modality, seed = ask_what("pictures", kind=Modality.ULTRASOUND)
    st.caption(
        "One folder a class (benign, malignant, …), masks beside the pictures as name_mask.png; or a manifest.csv with "
        "file,label and, if known, patient, group and split. PNG, JPEG, TIFF and DICOM are read; of DICOM the pixels "
        "are kept and what they show, never who. Names of files and patients are not kept."
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
    is_asked = st.button("Add the data set", type="primary", disabled=not is_ready, key=f"data_set_add_{round_()}")
    if not is_asked or modality is None:
        return
    with told_plainly(), progress_bar() as tell:
        if files:
            found = collect.add_zip(
                database(), person, files[0].path, name=name, modality=modality, seed=seed, progress=tell
            )
            inbox.discard(files)
        else:
            found = collect.add_folder(
                database(), person, folder, name=name, modality=modality, seed=seed, progress=tell
            )
        finish(person, found)


def finish(person: Person, found: Collected) -> None:
    """Remembers what is to be told, shows the new data set, and starts with an empty form."""
    st.session_state.data_set_added = found
    st.session_state.n_data_sets_added = round_() + 1
    row = data_sets.load_version(database(), person, found.version_id)
    st.session_state.data_set_wanted = (row.data_set_id, row.id)
    st.rerun()


def tell_added() -> None:
    """What became of the data set that was added last, until it is closed or another one is added."""
    found: Collected | None = st.session_state.get("data_set_added")
    if found is None:
        return
    st.success("The data set was added." + "".join(f"\n\n{plain(note)}" for note in found.notes))
    if found.refused:
        table = pd.DataFrame(found.refused, columns=["file", "why it was left out"])
        with st.expander(f"The {len(table)} files that were left out", key="data_set_refused"):
            st.dataframe(table, hide_index=True)
            draw_download(lambda: table, name="left-out")
    if st.button("Close this message", key="data_set_told"):
        del st.session_state["data_set_added"]
        st.rerun()
