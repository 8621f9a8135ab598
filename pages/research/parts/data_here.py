"""The files of the data set that models were measured on, where they are on this machine."""

from __future__ import annotations

import streamlit as st

from pages.parts.session import settings
from train.datasets.leakage import find_manifest
from train.datasets.manifest import Manifest


@st.cache_resource(max_entries=8, ttl="10m", show_spinner="Looking for the files of this data set")
def manifest_here(data_sha256: str, name: str) -> Manifest | None:
    """The cases with this hash and where their files lie; None where they are not here.

    name: of the data as cards have it; collections with commas between, which the model may have been trained on alone.
    """
    return find_manifest(settings(), data_sha256, tuple(name.split(", ")))
