"""Data sets: add pictures to train on, see what is in them and what the audit found, split anew, remove."""

from __future__ import annotations

import streamlit as st

from core.records import data_sets
from core.records.data_sets import NAME_LENGTH_MOST, VersionRow
from core.server import inbox
from core.types import Modality
from pages.parts.messages import told_plainly
from pages.parts.session import database, require, settings
from pages.parts.training_words import audit_lines, counts_table, split_words
from pages.parts.upload import upload_files
from pages.parts.words import plain
from train import collect
from train.collect import Collected

actor = require("manage_data")
db = database()


def tell_progress(sentence: str, done: float) -> None:
    """Moves the one bar of this page."""
    bar.progress(min(max(done, 0.0), 1.0), sentence)


def show(row: VersionRow) -> None:
    """One version: its counts by split and label, and the audit."""
    st.caption(
        f"{row.n_cases} pictures, {row.modality} · split: {split_words(row.split)} · used by {row.n_jobs} trainings · "
        f"cases {row.manifest_sha256[:8]}"
    )
    (st.error if row.is_leaking else st.success)(plain(str(row.audit.get("verdict", ""))))
    st.dataframe(counts_table(row.counts), width="content")
    with st.popover("What the audit found"):
        for line in audit_lines(row.audit):
            st.markdown(line)
    columns = st.columns(3, vertical_alignment="bottom")
    seed = columns[0].number_input("Seed", 0, 2**31 - 1, int(row.split.get("seed", 0)) + 1, key=f"seed_{row.id}")
    if columns[1].button("Make a new split (60/20/20)", key=f"split_{row.id}"):
        with told_plainly(), st.spinner("Splitting and auditing"):
            collect.split_anew(db, actor, row.id, seed=int(seed))
            st.rerun()
    if columns[2].button("Remove this data set", key=f"remove_{row.id}", disabled=bool(row.n_jobs)):
        with told_plainly():
            data_sets.remove_data_set(db, actor, row.data_set_id)
            st.rerun()


def finished(found: Collected) -> None:
    """What is told once the data set is there; the form starts empty again."""
    st.session_state.data_set_notes = found.notes
    st.session_state.n_data_sets_added = st.session_state.get("n_data_sets_added", 0) + 1
    st.rerun()


st.title("Data sets", anchor=False)
with told_plainly(stops=True):
    versions = data_sets.list_versions(db, actor)
notes = st.session_state.pop("data_set_notes", None)
if notes is not None:
    st.success("The data set was added." + "".join(f"\n\n{plain(note)}" for note in notes))
if not versions:
    st.info("There is no data set yet. Add one below; then start a training on the page Training.")
for row in versions:
    newest = row.number == max(other.number for other in versions if other.data_set_id == row.data_set_id)
    with st.expander(f"{plain(row.name)}, version {row.number}", expanded=newest, key=f"version_{row.id}"):
        show(row)

st.subheader("Add a data set", anchor=False)
round_ = st.session_state.get("n_data_sets_added", 0)  # in the keys, so that the next form is an empty one
name = st.text_input("Name", max_chars=NAME_LENGTH_MOST, key=f"data_set_name_{round_}")
modality = st.segmented_control(
    "Kind of picture", list(Modality), default=Modality.ULTRASOUND, format_func=str, key=f"data_set_kind_{round_}"
)
seed = int(st.number_input("Seed of the split", 0, 2**31 - 1, 0, key=f"data_set_seed_{round_}"))
st.caption(
    "One folder a class (benign, malignant, …), masks beside the pictures as name_mask.png; or a manifest.csv with "
    "file,label and, if known, patient, group and split. Names of files and patients are not kept."
)
space = st.container()
bar = st.empty()
files = upload_files(f"data_set_zip_{round_}", action="manage_data")
folder = ""
if settings().data_root:
    folder = st.text_input("Or a folder on the server, below the site's folder for data", key=f"data_folder_{round_}")
is_ready = bool(name) and modality is not None and bool(files or folder)
is_asked = st.button("Add the data set", type="primary", disabled=not is_ready, key=f"data_set_add_{round_}")
if is_asked and modality is not None:
    with space, told_plainly():
        if files:
            found = collect.add_zip(
                db, actor, files[0].path, name=name, modality=modality, seed=seed, progress=tell_progress
            )
            inbox.discard(files)
        else:
            found = collect.add_folder(
                db, actor, folder, name=name, modality=modality, seed=seed, progress=tell_progress
            )
        finished(found)
