"""Thumbnails of test cases and, of one that was chosen, where two models looked. Only where the files are here."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pandas as pd
import streamlit as st

from core.imaging.intake import read_study
from core.imaging.overlay import paint, to_uint8
from core.imaging.preprocess import heat_map
from core.models.cards import candidate_cards, live_cards
from core.records.data_sets import files_dir
from core.reports.content import AI_GENERATED, ATTENTION_CAPTION
from core.types import Image, Modality
from pages.parts.attention import FUSED
from pages.parts.models import loaded
from pages.parts.session import settings
from pages.parts.words import plain

_MOST, _COLUMNS, _OPACITY = 12, 6, 0.5
_NAME_BYTES_MOST = 200


def draw_pictures(found: pd.DataFrame, chosen: int | None, names: Sequence[str]) -> None:
    """The first cases of the list as thumbnails; the chosen one large, with the heat maps of the models on it."""
    paths = {str(case): path for case in found["case"].head(_MOST) if (path := picture_path(str(case))) is not None}
    if chosen is not None:
        _draw_large(found.iloc[chosen], names)
    if not paths:
        if chosen is None:
            st.info(
                "The pictures of this data set are not on this machine, so scores only. Pictures show here for models "
                "that were trained on a data set which an administrator added to this site.",
                icon=":material/hide_image:",
            )
        return
    st.caption("Choose a row of the table to see its picture large, and where the models looked.")
    pictures = _thumbnails(tuple(paths.values()))
    places = st.columns(_COLUMNS)
    for index, (row, picture) in enumerate(zip(_rows_with(found, paths), pictures, strict=True)):
        with places[index % _COLUMNS]:
            if picture is None:
                st.caption("This file cannot be read any more.")
            else:
                st.image(picture)
            scores = ", ".join(f"{row[name]:.3f}" for name in found.columns if str(name)[:3] in ("A: ", "B: "))
            st.caption(plain(f"{row['label']}; {scores}"))


def picture_path(case: str) -> Path | None:
    """The file of a case among this site's data sets, or None; a case's name never leads out of that folder."""
    if len(case.encode()) > _NAME_BYTES_MOST:  # an uploaded table may call its cases anything
        return None
    folder = files_dir(settings()).resolve()
    path = (folder / case).resolve()
    return path if path.is_relative_to(folder) and path.is_file() else None


def _rows_with(found: pd.DataFrame, paths: dict[str, Path]) -> list[pd.Series]:
    shown = found.head(_MOST)
    return [row for _, row in shown[shown["case"].isin(list(paths))].iterrows()]


@st.cache_data(max_entries=16, ttl="1h", show_spinner="Reading the pictures")
def _thumbnails(paths: tuple[Path, ...]) -> list[np.ndarray | None]:
    """uint8 pictures, their longer side at most 256 pixels; None for one that cannot be read."""
    read = read_study(paths, settings=settings())
    return [None if one.image is None else _small(to_uint8(one.image.pixels)) for one in read]


def _small(pixels: np.ndarray) -> np.ndarray:
    step = max(1, max(pixels.shape[:2]) // 256)
    return pixels[::step, ::step]


@st.cache_resource(max_entries=4, ttl="1h", show_spinner="Reading the picture")
def _picture(path: Path, modality: Modality | None) -> Image | None:
    return read_study([path], settings=settings(), modality=modality)[0].image


def _draw_large(row: pd.Series, names: Sequence[str]) -> None:
    st.subheader(plain(str(row["case"])), anchor=False)
    path = picture_path(str(row["case"]))
    cards = [card for card in (*live_cards(settings()), *candidate_cards(settings())) if card.model_id in names]
    words = f"Label {row['label']}; " + "; ".join(f"{name} {row[name]}" for name in row.index[3:])
    st.caption(plain(words))
    if path is None:
        st.info("The picture of this case is not on this machine; its scores are all there is.")
        return
    modality = cards[0].modality if cards else None
    image = _picture(path, modality)
    if image is None:
        st.warning("This file cannot be read any more.")
        return
    places = st.columns(1 + len(cards))
    places[0].image(to_uint8(image.pixels), caption=f"As it is, label {row['label']}")
    if not cards or not st.toggle("Show where these models looked", key="case_maps"):
        return
    for place, card in zip(places[1:], cards, strict=True):
        with st.spinner(f"Asking {card.title}"):
            prediction, explanation = loaded(card).read(image)
        heat = heat_map(explanation, FUSED, explanation.positive_index)
        place.image(paint(image.pixels, heat, _OPACITY), caption=f"{card.title}, {prediction.malignant:.3f}")
        place.caption(f"{ATTENTION_CAPTION} ({AI_GENERATED})")
