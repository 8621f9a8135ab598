"""Audit: who did what and when, whether the chain holds, and a copy of it for a spreadsheet."""

from __future__ import annotations

import re
from collections.abc import Mapping
from datetime import UTC, datetime, time, timedelta
from typing import Any

import streamlit as st

from core.records.audit import heads, trail
from core.records.audit.trail import KINDS
from core.records.reads import studies
from core.settings import MIB
from pages.parts.messages import refusals_shown
from pages.parts.session import database, may, require

SHOWN_MOST = 500
HASHES_SHOWN = 4
"""So many hashes are shown one by one; of more their number."""
_SHA256 = re.compile("[0-9a-f]{64}")
_CODE = re.compile("[a-z]+(_[a-z]+)+")
"""A value by its name in the records, as "read_first"."""
AS_WRITTEN = ("reason", "file", "what", "folder")
"""Keys whose values somebody wrote, or that name a file."""
DETAIL_WORDS = {
    "protocol_sha256": "protocol", "manifest_sha256": "cases", "weights_sha256": "weights", "bytes": "size",
    "is_double_read": "read by two", "is_amendment": "amendment", "is_synthetic": "made-up pictures",
    "live_sha256": "live before", "lease_until": "held until", "n": "number",
}  # fmt: skip
"""What the keys of details are called on the page; others by their own name."""

actor = require("see_audit")
db = database()


def verdict_of_chain() -> None:
    """Recomputes the chain when asked to: it reads every row there is."""
    if not st.button("Verify the chain", icon=":material/verified:", key="verify_chain"):
        return
    verdict = heads.verify(db)
    if verdict.is_intact:
        st.success(f"Chain verified: {verdict.n} rows, none changed, removed or moved.", icon=":material/check:")
        return
    st.error("The audit trail is not as it was written. Keep a copy of the state folder, and find out why.")
    for problem in verdict.problems[:20]:
        st.text(problem)


def subject_text(subject: str, names: Mapping[str, str]) -> str:
    """A row's subject as it stands there, behind what people call it: "Dense, left (study 3f2a…)"."""
    return f"{names[subject]} ({subject})" if names.get(subject) else subject


def detail_text(detail: Mapping[str, Any]) -> str:
    """What a row keeps beside its subject, in words: "roles: reader, researcher; is double read: yes".

    Of a SHA-256 the first eight digits, of many the number: the file holds them whole.
    """
    return "; ".join(f"{_named(key)}: {_spoken(value, key)}" for key, value in detail.items())


def _named(key: str) -> str:
    return DETAIL_WORDS.get(key) or key.replace("_", " ")


def _spoken(value: object, key: str = "") -> str:
    if key == "bytes" and isinstance(value, int):
        return f"{value / MIB:.1f} MiB"
    if isinstance(value, str) and _SHA256.fullmatch(value):
        return f"{value[:8]}…"
    if isinstance(value, list) and len(value) > HASHES_SHOWN and all(_SHA256.fullmatch(str(one)) for one in value):
        return str(len(value))
    if value is None or value in ("", [], {}):
        return "none"
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, Mapping):
        return ", ".join(f"{_named(str(name))} {_spoken(one, str(name))}" for name, one in value.items())
    if isinstance(value, list | tuple):
        return ", ".join(_spoken(one) for one in value)
    text = f"{value:g}" if isinstance(value, float) else str(value)
    return text.replace("_", " ") if _CODE.fullmatch(text) and key not in AS_WRITTEN else text


st.title("Audit", anchor=False)
verdict_of_chain()
with refusals_shown(stops=True):
    actions, people = trail.actions_and_people(db, actor)
    names = {f"person {person_id}": name for person_id, name in people.items()}
    if may(actor, "see_worklist"):
        names |= {f"study {study.id}": study.display_name for study in studies.list_studies(db, actor)}

columns = st.columns([2, 2, 2, 2, 1, 1], vertical_alignment="bottom")
kind = columns[0].selectbox("Kind of act", list(KINDS), index=None, placeholder="All", key="audit_kind")
offered = [word for word in actions if kind is None or word in KINDS[kind]]
action = columns[1].selectbox("Action", offered, index=None, placeholder="All", key="audit_action")
whose = columns[2].selectbox(
    "Person", list(people), format_func=lambda id: people[id], index=None, placeholder="Everybody", key="audit_person"
)
subject = columns[3].text_input("Subject contains", key="audit_subject", placeholder="study 3f2a…")
from_day = columns[4].date_input("From (UTC)", value=None, key="audit_from", format="YYYY-MM-DD")
until_day = columns[5].date_input("Until (UTC)", value=None, key="audit_until", format="YYYY-MM-DD")
first = datetime.combine(from_day, time(), UTC) if from_day else None
after = datetime.combine(until_day + timedelta(days=1), time(), UTC) if until_day else None
wanted: dict[str, Any] = {
    "kind": kind, "action": action, "since": first, "before": after, "person_id": whose, "subject": subject,
}  # fmt: skip

with refusals_shown(stops=True):
    found = trail.entries(db, actor, **wanted, limit=SHOWN_MOST)
st.dataframe(
    [
        {
            "Number": entry.id,
            "Time (UTC)": entry.at.strftime("%Y-%m-%d %H:%M:%S"),
            "Person": entry.person_name or "nobody signed in",
            "Action": entry.action,
            "Subject": subject_text(entry.subject, names),
            "Detail": detail_text(entry.detail),
        }
        for entry in found
    ],
    hide_index=True,
    width="stretch",
    key="audit_table",
)
if len(found) == SHOWN_MOST:
    st.caption(f"The newest {SHOWN_MOST} are shown; the file holds all that match.")

if st.button("Prepare the file of all that match", icon=":material/table_view:", key="prepare_audit_csv"):
    with refusals_shown(stops=True):
        everything = trail.entries(db, actor, **wanted, limit=None)
        content = trail.export_csv(db, actor, everything)
    st.download_button("Download (CSV)", content, "audit.csv", "text/csv", key="download_audit_csv")
