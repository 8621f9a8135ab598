"""The comparison as one file to keep or send."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import UTC, datetime

import streamlit as st

from core.evaluation.comparison import McNemarTest
from core.evaluation.operating import OperatingRow
from core.evaluation.workbench import Workbench
from core.reports.comparison import ComparisonReport, build_comparison_html, build_comparison_pdf
from pages.parts.research_figures import audited
from pages.parts.session import settings, signed_in


def draw_report_buttons(
    bench: Workbench, rows: Sequence[OperatingRow], calls: Mapping[str, Sequence[McNemarTest]], mode: str
) -> None:
    """Two downloads of what is on the screen, made when they are asked for."""
    person = signed_in(is_activity=False)
    report = ComparisonReport(
        bench=bench,
        rows=rows,
        calls=calls,
        mode=mode,
        made_at=datetime.now(UTC),
        made_by=person.name if person else "",
        site_name=settings().site_name,
    )
    kinds = (
        ("HTML", "html", "text/html", lambda: build_comparison_html(report).encode()),
        ("PDF", "pdf", "application/pdf", lambda: build_comparison_pdf(report)),
    )
    with st.container(horizontal=True):
        for name, ending, mime, build in kinds:
            st.download_button(
                f"Comparison as {name}",
                audited(build, data_sha256=bench.cohort.data_sha256, what=f"comparison.{ending}"),
                file_name=f"secondread-comparison.{ending}",
                mime=mime,
                key=f"comparison_{ending}",
                on_click="ignore",
                icon=":material/description:",
            )
