"""Kept pictures of data sets, small."""

from __future__ import annotations

import numpy as np
import streamlit as st

from pages.parts.session import settings
from train import overview


@st.cache_data(max_entries=600, ttl="1h", show_spinner=False)
def thumbnail(file: str) -> np.ndarray:
    """A kept picture, small; its name is the hash of its content. Raises NotFound."""
    return overview.thumbnail(settings(), file)
