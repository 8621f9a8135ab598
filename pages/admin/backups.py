"""Backups: made now or by the site's schedule, taken home, verified, and restored into a new folder."""

from __future__ import annotations

from collections.abc import Callable

import streamlit as st

from core.records.backup import copies
from core.records.backup.copies import BackupRow
from core.records.people.permissions import SignedIn
from core.reports.content import when
from core.settings import MIB
from core.wording import how_many
from pages.parts.markdown import plain
from pages.parts.messages import refusals_shown
from pages.parts.session import database, require


def at_work(words: str, act: Callable[[Callable[[str], None]], str]) -> None:
    """Does something that takes a while, says how far it is and, in the end, what `act` returns."""
    with refusals_shown(), st.status(f"{words}; leaving this page ends it", expanded=True) as status:
        done = act(lambda sentence: status.update(label=plain(sentence)))
        status.update(label=words, state="complete")
        st.session_state.backup_note = done
        st.rerun()


def make(actor: SignedIn) -> None:
    if st.button("Make a backup now", type="primary", icon=":material/backup:", key="make_backup"):

        def act(report: Callable[[str], None]) -> str:
            summary = copies.make_backup(database(), actor, report)
            files = how_many(summary.n_files, "file")
            return f"A backup of {files} ({summary.n_bytes / MIB:.1f} MiB) was made and verified."

        at_work("Making a backup", act)


def draw(actor: SignedIn, row: BackupRow) -> None:
    way = "by the schedule" if row.is_scheduled else "by hand"
    with st.expander(f"{when(row.made_at)} · {row.n_bytes / MIB:.1f} MiB · {way}", key=f"backup_{row.name}"):
        left, middle, right = st.columns(3)
        left.link_button("Download", f"/backup/{row.name}", icon=":material/download:", width="stretch")
        if middle.button("Verify", key=f"verify_{row.name}", icon=":material/verified:", width="stretch"):

            def act(report: Callable[[str], None]) -> str:
                copies.verify_backup(database(), actor, row.name, report)
                return f"The backup of {when(row.made_at)} is whole: files, database and audit trail verify."

            at_work("Verifying", act)
        with right.popover("Delete", icon=":material/delete:", width="stretch"):
            st.markdown("The file is removed for good.")
            if st.button("Delete it", type="primary", key=f"delete_{row.name}"):
                with refusals_shown():
                    copies.delete_backup(database(), actor, row.name)
                    st.rerun()
        offer_restore(actor, row)


def offer_restore(actor: SignedIn, row: BackupRow) -> None:
    name, button = st.columns([3, 1], vertical_alignment="bottom")
    folder = name.text_input(
        "Restore into the new folder", key=f"folder_{row.name}", max_chars=60,
        placeholder=f"site-{row.made_at:%Y-%m-%d}",
        help="A new folder beside the backups. The site that works now stays as it is.",
    )  # fmt: skip
    waits = None if folder.strip() else "Name the new folder first."
    if button.button("Restore", key=f"restore_{row.name}", disabled=bool(waits), help=waits, width="stretch"):

        def act(report: Callable[[str], None]) -> str:
            path = copies.restore_into(database(), actor, row.name, folder.strip(), report)
            return (
                f"Restored; its audit trail verifies. Start a server on it with SECONDREAD_STATE_DIR={path} (and "
                "without SECONDREAD_DATABASE_URL and SECONDREAD_STORE_URL); everybody signs in anew there."
            )

        at_work("Restoring", act)


def say_schedule() -> None:
    """When the schedule made its last one; loud where it is late or the last try failed."""
    found = copies.schedule(database())
    if not found.days:
        return
    last = f"The last one was made {when(found.last_at)}" if found.last_at else "There is none yet"
    often = "day" if found.days == 1 else f"{found.days} days"
    sentence = f"A backup is made by itself every {often}. {last}{', so one is overdue' if found.is_overdue else ''}."
    if found.failed:
        sentence += f" The last try failed: {plain(found.failed)} It is tried again every hour."
    if found.failed or found.is_overdue:
        st.warning(sentence, icon=":material/warning:")
    else:
        st.caption(sentence)


actor = require("manage_backups")
st.title("Backups", anchor=False)
st.caption(
    "One file holds the database, the pictures, data sets, trained weights and the site's key: whoever has it has all "
    "of it. Keep copies on another machine. How often one is made by itself, and how many stay, stands on the page "
    "Settings."
)
if note := st.session_state.pop("backup_note", None):
    st.success(plain(note), icon=":material/check:")
with refusals_shown(stops=True):
    rows = copies.list_backups(database(), actor)
    say_schedule()
st.caption(f"They lie in {plain(str(copies.backups_dir(database().settings)))} on the server.")
make(actor)
if not rows:
    st.info("There is no backup yet.")
for row in rows:
    draw(actor, row)
