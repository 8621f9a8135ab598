"""A table of a page as a file: no cell starts a formula in a spreadsheet."""

from __future__ import annotations

from collections.abc import Callable

import pandas as pd
import streamlit as st

from core.evaluation.scores import safe_csv


def offer_table(table: Callable[[], pd.DataFrame], *, name: str) -> None:
    """A button that makes and saves a table that is no measurement (those say what they are of and are audited)."""
    st.download_button(
        "CSV",
        lambda: safe_csv(table()).encode(),
        file_name=f"secondread-{name}.csv",
        mime="text/csv",
        key=f"csv_{name}",
        on_click="ignore",
        icon=":material/download:",
        help=f"This table ({name.replace('-', ' ')}) as a file",
    )
