"""Choose or drop files; their bytes travel by `POST /upload` to disk, past Streamlit and past the memory.

Only ids come back to Python. File names stay in this browser session: they may name a patient.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import streamlit as st

from core.errors import NotFound
from core.records.people.permissions import SignedIn
from core.server import inbox
from core.server.inbox import InboxFile
from core.settings import Settings
from pages.parts.session import require, settings

_HERE = Path(__file__).parent
NAME_LENGTH_MOST = 200

_component = st.components.v2.component(
    "secondread_upload",
    html=(_HERE / "upload.html").read_text(encoding="utf-8"),
    css=(_HERE / "upload.css").read_text(encoding="utf-8"),
    js=(_HERE / "upload.js").read_text(encoding="utf-8"),
)


def upload_files(key: str, *, action: str = "create_study", words: str = "") -> list[InboxFile] | None:
    """A drop zone; the files that arrived, or None while there are none or some are still on their way.

    The files lie in the inbox until `core.server.inbox.discard` or for a day. A new `key` starts with an empty zone.
    action: what the person must be allowed to do. words: what may be chosen, in place of the limits of a study.
    """
    person = require(action)
    limits = settings()
    result = _component(
        key=key,
        data={name: getattr(limits, name) for name in ("upload_mib", "study_mib", "study_files")} | {"words": words},
        default={"uploads": None},
        on_uploads_change=lambda: None,  # asks Streamlit to keep `uploads` and to run the page when it changes
    )
    files, n_gone = received(limits, person, result.get("uploads"))
    if n_gone:
        st.warning(f"{n_gone} of the uploaded files are not there any more. Choose them again.")
    return files or None


def received(settings: Settings, person: SignedIn, said: Any) -> tuple[list[InboxFile], int]:
    """The inbox files that the browser speaks of, and how many of them are not there. The browser is not believed."""
    if not isinstance(said, dict) or said.get("is_busy") or not isinstance(said.get("files"), list):
        return [], 0
    found: list[InboxFile] = []
    n_gone = 0
    for file in said["files"][: settings.study_files]:
        try:
            path = inbox.find_item(settings, person, together=str(said.get("together")), item=str(file.get("id")))
        except NotFound:
            n_gone += 1
            continue
        found.append(InboxFile(path, str(file.get("name", ""))[-NAME_LENGTH_MOST:] or "unnamed"))
    return found, n_gone
