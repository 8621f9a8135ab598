"""A hospital's two workbooks and its pictures: the join as it stands, the key's columns to mend, then a data set."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import streamlit as st

from core.records.people.permissions import Actor
from core.server.inbox import InboxFile
from core.types import Modality
from core.wording import how_many
from pages.admin.data_set_parts.add import ask_what, begin, begun, round_, why_not
from pages.parts.figures import draw_download
from pages.parts.messages import refusals_shown
from pages.parts.progress import progress_bar
from pages.parts.session import database, settings
from pages.parts.upload import upload_files
from train.datasets.hospital import link
from train.datasets.hospital.columns import Headers, KeyColumns, LinkColumns, LinkSheets, SheetNames
from train.datasets.hospital.link import Preview, Sources
from train.queue.imports import WORKBOOKS, ImportRequest

FIRST = "the first that has the path"
BY_COLUMNS, BY_PATH = "File name, date, time and patient", "The path alone"
_WORDS = {"name": "File name", "date": "Date", "time": "Time", "patient": "Patient"}


def add_workbooks(actor: Actor) -> None:
    """The form, the join as it stands, and the way into a data set."""
    name, modality, seed = ask_what("workbooks", kind=Modality.MAMMOGRAPHY)
    st.caption(
        "Rows and pictures are joined by file name, date, time and patient. Of the workbooks only the label is kept "
        "and, for each patient, a hash that only this site can make; the workbooks themselves are removed."
    )
    left, right = st.columns(2)
    with left:
        st.markdown("**datacombined** (a sheet of cancer rows, one of the others)")
        combined = _one_file("link_combined", "One workbook (.xlsx).")
    with right:
        st.markdown("**data_validation_x** (column AbsolutePath)")
        validation = _one_file("link_validation", "One workbook (.xlsx).")
    st.markdown("**Pictures** (PNG, JPEG or WebP in any sub-folders)")
    archive = _one_file("link_images", f"One zip, of at most {settings().upload_mib} MiB.")
    folder = ""
    if settings().data_root:
        folder = st.text_input(
            "Or a folder on the server, below the site's folder for data", key=f"link_folder_{round_()}"
        )
    if combined is None or validation is None or not (archive or folder):
        st.info("Choose both workbooks and the pictures; then the join shows here.")
        return
    with refusals_shown(stops=True):
        sources = Sources(combined.path, validation.path, _images(actor, archive, folder))
        with st.container(key=f"link_where_{round_()}"):
            sheets = _ask_sheets(_sheets(actor, sources))
            if sheets is None:
                st.info("Choose the sheets; then the columns and the join show here.")
                return
            columns = _ask_columns(_headers(actor, sources, sheets), sheets)
        if not columns.is_complete:
            st.info(
                f"Still to choose above: {', '.join(_missing(columns))}. Every row is found by file name, date, time "
                "and patient, so each sheet needs these four columns; data_validation_x needs the path of the picture "
                "as well. A data_validation_x without them can be joined by the path alone, where the patient's number "
                "is one of its folders; any other sheet without one of them is exported again with that column."
            )
            return
        seen = _preview(actor, sources, columns)
    _show(seen)
    is_ready = bool(name) and modality is not None and seen.n_matched > 0
    label = f"Make a data set of {how_many(seen.n_matched, 'picture')}"
    waits_for = why_not(
        {"a name": not name, "a kind of picture": modality is None, "rows that found their picture": not seen.n_matched}
    )
    is_asked = st.button(label, type="primary", disabled=not is_ready, key=f"link_add_{round_()}", help=waits_for)
    if is_asked and modality is not None:
        with refusals_shown():
            request = ImportRequest(WORKBOOKS, name, modality, seed, folder="" if archive else folder, columns=columns)
            files = {"combined": combined.path, "validation": validation.path}
            files |= {"images": sources.images} if archive else {}
            begin(actor, request, files)
            for key in ("link_unpacked", "link_sheets", "link_headers", "link_preview"):
                st.session_state.pop(key, None)
            begun([file for file in (combined, validation, archive) if file is not None])


def _missing(columns: LinkColumns) -> list[str]:
    """The columns that are not chosen yet, by sheet."""
    keys = [("datacombined", columns.combined)]
    keys += [] if columns.is_by_path else [("data_validation_x", columns.validation)]
    missing = [f"{_WORDS[part]} ({where})" for where, key in keys for part in _WORDS if not getattr(key, part)]
    return [*missing, *([] if columns.path else ["Path of the picture (data_validation_x)"])]


def _one_file(key: str, words: str) -> InboxFile | None:
    files = upload_files(f"{key}_{round_()}", action="manage_data", words=words)
    if files and len(files) > 1:
        st.warning("Only one file is needed here: remove the others.")
    return files[0] if files and len(files) == 1 else None


def _images(actor: Actor, archive: InboxFile | None, folder: str) -> Path:
    if archive is None:
        return link.images_below_root(database(), actor, folder)
    held = st.session_state.get("link_unpacked")
    if held is None or held[0] != archive.path or not held[1].is_dir():
        with progress_bar() as report:
            unpacked = link.unpack_images(database(), actor, archive.path, progress=report)
        st.session_state.link_unpacked = held = (archive.path, unpacked)
    return held[1]


def _sheets(actor: Actor, sources: Sources) -> SheetNames:
    of = (sources.combined, sources.validation)
    held = st.session_state.get("link_sheets")
    if held is None or held[0] != of:
        with st.spinner("Reading the names of the sheets"):
            st.session_state.link_sheets = held = (of, link.sheets_in(database(), actor, *of))
    return held[1]


def _headers(actor: Actor, sources: Sources, sheets: LinkSheets) -> Headers:
    of = (sources.combined, sources.validation, sheets)
    held = st.session_state.get("link_headers")
    if held is None or held[0] != of:
        with st.spinner("Reading the names of the columns"):
            st.session_state.link_headers = held = (of, link.columns_in(database(), actor, *of))
    return held[1]


def _preview(actor: Actor, sources: Sources, columns: LinkColumns) -> Preview:
    of = (sources, columns)
    held = st.session_state.get("link_preview")
    if held is None or held[0] != of:
        with st.spinner("Joining the workbooks with the pictures"):
            st.session_state.link_preview = held = (of, link.preview(database(), actor, sources, columns))
    return held[1]


def _ask_sheets(names: SheetNames) -> LinkSheets | None:
    """The sheets of both workbooks; None while one is not chosen."""
    likely = names.likely()
    is_usual = bool(likely.cancer and likely.non_cancer)
    with st.expander("The sheets", expanded=not is_usual, key=f"link_sheets_{round_()}"):
        left, middle, right = st.columns(3)
        with left:
            cancer = _ask_one("Cancer rows (datacombined)", names.combined, likely.cancer, "sheet_cancer")
        with middle:
            non_cancer = _ask_one("Other rows (datacombined)", names.combined, likely.non_cancer, "sheet_non_cancer")
        with right:
            validation = _ask_one("data_validation_x", (FIRST, *names.validation), FIRST, "sheet_validation")
    if not (cancer and non_cancer):
        return None
    return LinkSheets(cancer, non_cancer, "" if validation == FIRST else validation)


def _ask_columns(headers: Headers, sheets: LinkSheets) -> LinkColumns:
    likely = headers.likely()
    usual = likely == LinkColumns()
    with st.expander("The key's columns", expanded=not usual, key=f"link_columns_{round_()}"):
        st.caption("datacombined")
        combined = _ask_key(headers.combined, likely.combined, "combined")
        st.caption("data_validation_x")
        has_path_alone = len(headers.validation) <= len(_WORDS)  # beside the path fewer than the key's four
        way = st.segmented_control(
            "Join by", [BY_COLUMNS, BY_PATH], default=BY_PATH if has_path_alone else BY_COLUMNS, required=True,
            key=f"link_way_{round_()}_{has_path_alone}",
            help="By the path alone: a picture belongs to the row with its file's name whose patient's number is "
            "one of the folders in its path. A folder that is a day (YYYYMMDD) must be the row's.",
        )  # fmt: skip
        is_by_path = way == BY_PATH
        validation = KeyColumns("", "", "", "")
        if not is_by_path:
            validation = _ask_key(headers.validation, likely.validation, "validation")
        path = _ask_one("Path of the picture", headers.validation, likely.path, "validation_path")
    return LinkColumns(combined, validation, path, sheets, is_by_path)


def _ask_key(columns: Sequence[str], likely: KeyColumns, which: str) -> KeyColumns:
    chosen = {}
    for place, (part, words) in zip(st.columns(4), _WORDS.items(), strict=True):
        with place:
            chosen[part] = _ask_one(words, columns, getattr(likely, part), f"{which}_{part}")
    return KeyColumns(**chosen)


def _ask_one(words: str, columns: Sequence[str], likely: str, key: str) -> str:
    index = list(columns).index(likely) if likely in columns else None
    chosen = st.selectbox(words, columns, index=index, placeholder="Choose", key=f"link_{key}_{round_()}")
    return chosen or ""


def _show(seen: Preview) -> None:
    st.markdown("**The join as it stands**")
    for place, (what, part) in zip(st.columns(2), seen.counts.items(), strict=True):
        words = "Cancer" if what == "cancer" else "Non-cancer"
        place.metric(f"{words} rows that found their picture", f"{part['matched']} of {part['rows']}", border=True)
    if seen.unmatched.empty:
        st.success("Every row found its picture.", icon=":material/check:")
        return
    left, right = st.columns([2, 3])
    with left:
        st.markdown(f"**{how_many(len(seen.unmatched), 'row')} without a picture, by reason**")
        reasons = seen.unmatched.value_counts(["sheet", "reason"]).rename("rows").reset_index()
        st.dataframe(reasons, hide_index=True)
    with right:
        st.markdown("**Row by row**")
        st.dataframe(seen.unmatched, hide_index=True, height=260 if len(seen.unmatched) > 6 else "content")
        draw_download(lambda: seen.unmatched, name="unmatched-rows", action="manage_data")
