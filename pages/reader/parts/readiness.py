"""How far the second read is, beside the control that will show it: one line, nothing of what any model says.

Looked at again every few seconds by a fragment of its own, only until it stays as it is.
"""

from __future__ import annotations

from collections.abc import Sequence

import streamlit as st

from core.reading import second_read
from core.reading.second_read import Readiness, Stage, Task
from core.records.reads.studies import StoredStudy
from pages.parts.session import require, settings

LOOK_SECONDS = 2.0


def show_readiness(study: StoredStudy) -> None:
    """Nothing where no model reads the study."""
    tasks = second_read.tasks_of(settings(), study)
    if not tasks:
        return
    found = second_read.readiness(study.row.id, tasks)
    # Streamlit holds what a fragment is called with until the next run: the tasks, never the pixels of the study.
    look = st.fragment(_look, run_every=None if found.is_settled else LOOK_SECONDS)
    look(study.row.id, tasks, found)


def stage_text(found: Readiness) -> str:
    """The line, without its head."""
    return f"place {found.place} in the queue" if found.stage is Stage.QUEUED else found.stage.value


def _look(study_id: str, tasks: Sequence[Task], before: Readiness) -> None:
    """before: as it was when the page was drawn. Once it is settled, one run of the page ends the looking."""
    require("record_first_read", is_activity=False)
    now = second_read.readiness(study_id, tasks)
    st.html(f'<p class="sr-soft sr-ready" role="status">Second read: {stage_text(now)}</p>')
    if now.is_settled and not before.is_settled:
        st.rerun()
