"""Thumbnails of test cases and, of one that was chosen, where two models looked. Only where the files are here."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pandas as pd
import streamlit as st

from core.evaluation.tables.cohort import Cohort
from core.imaging.intake import read_study
from core.imaging.overlay import paint, to_uint8
from core.imaging.preprocess import heat_map
from core.models.cards import Card, candidate_cards, runnable_cards
from core.reading.second_read import read_image
from core.records.data_sets import files_dir
from core.reports.content import AI_GENERATED, ATTENTION_CAPTION
from core.types import Image, Modality
from pages.parts import address
from pages.parts.attention import FUSED
from pages.parts.markdown import plain
from pages.parts.progress import progress_bar
from pages.parts.session import settings
from pages.research.parts.data_here import manifest_here

_MOST, _OPACITY, _SIDE = 12, 0.5, 256
_COLUMNS, _COLUMNS_WITH_MAPS = 6, 3
_NAME_BYTES_MOST = 200


def draw_pictures(cohort: Cohort, found: pd.DataFrame, chosen: int | None, names: Sequence[str]) -> None:
    """The first cases of the list as thumbnails, the chosen one large; on both, if wished, where the models looked."""
    folders = _folders(cohort)
    shown = found.head(_MOST)
    paths = {str(case): path for case in shown["case"] if (path := picture_path(str(case), folders)) is not None}
    here = {
        card.model_id: card for card in (*runnable_cards(settings()), *candidate_cards(settings())) if card.has_weights
    }
    cards = [here[name] for name in names if name in here]
    with_maps = False
    if cards and (paths or chosen is not None):
        with_maps = address.toggle("Show where these models looked", key="maps")
    if chosen is not None:
        _draw_large(found.iloc[chosen], names, cards if with_maps else [], folders)
    if not paths:
        if chosen is None:
            st.info(
                "The pictures of this data set are not on this machine, so scores only. An administrator adds the data "
                "set (page Data sets), or starts SecondRead with SECONDREAD_DATA_ROOT naming the folder that holds its "
                "manifest.csv.",
                icon=":material/hide_image:",
            )
        return
    st.caption("Choose a row of the table to see its picture large.")
    rows = [row for _, row in shown[shown["case"].isin(list(paths))].iterrows()]
    if with_maps:
        st.caption(
            f"Side by side: {plain(' | '.join(card.title for card in cards))}. {ATTENTION_CAPTION} ({AI_GENERATED})"
        )
        pictures = _maps(list(paths.values()), cards)
    else:
        pictures = _thumbnails(tuple(paths.values()))
    n_columns = _COLUMNS_WITH_MAPS if with_maps else _COLUMNS
    for start in range(0, len(rows), n_columns):
        places = st.columns(n_columns)  # row by row, so that a narrow screen keeps their order
        for place, row, picture in zip(places, rows[start:], pictures[start:], strict=False):
            with place:
                _draw_small(row, picture)


def _draw_small(row: pd.Series, picture: np.ndarray | None) -> None:
    if picture is None:
        st.caption("This file cannot be read any more.")
    else:
        st.image(picture, width="stretch")
    scores = ", ".join(f"{name[0]} {row[name]:.3f}" for name in map(str, row.index) if name[:3] in ("A: ", "B: "))
    st.caption(plain(f"{row['label']}; {scores}"))


def _folders(cohort: Cohort) -> tuple[Path, ...]:
    """Where the cases of a cohort may have their pictures: this site's data sets, and the data set it was made from."""
    manifest = manifest_here(cohort.data_sha256, cohort.dataset.rpartition(", ")[0]) if cohort.weights else None
    return (files_dir(settings()), *([manifest.root] if manifest else []))


def picture_path(case: str, folders: Sequence[Path]) -> Path | None:
    """The file of a case below one of the folders, or None; a case's name never leads out of them."""
    if len(case.encode()) > _NAME_BYTES_MOST:  # an uploaded table may call its cases anything
        return None
    for folder in folders:
        root = folder.resolve()
        path = (root / case).resolve()
        if path.is_relative_to(root) and path.is_file():
            return path
    return None


@st.cache_data(max_entries=16, ttl="1h", show_spinner="Reading the pictures")
def _thumbnails(paths: tuple[Path, ...]) -> list[np.ndarray | None]:
    """uint8 pictures, their longer side about 256 pixels; None for one that cannot be read."""
    read = read_study(paths, settings=settings())
    return [None if one.image is None else _small(to_uint8(one.image.pixels)) for one in read]


def _maps(paths: Sequence[Path], cards: Sequence[Card]) -> list[np.ndarray | None]:
    """For each picture the models' heat maps on it, left to right; None for one that cannot be read."""
    found: list[np.ndarray | None] = []
    with progress_bar() as report:
        for number, path in enumerate(paths):
            report(f"Asking the models about picture {number + 1} of {len(paths)}", number / len(paths))
            maps = [_small_map(path, card.weights_sha256, card) for card in cards]
            readable = [one for one in maps if one is not None]
            found.append(np.hstack(readable) if readable else None)
    return found


@st.cache_data(max_entries=256, ttl="1h", show_spinner=False)
def _small_map(path: Path, weights_sha256: str, _card: Card) -> np.ndarray | None:
    """uint8 (h, w, 3), its longer side about 256 pixels. weights_sha256: what the answer is kept under."""
    image = _picture(path, _card.modality)
    return None if image is None else _small(_painted(image, _card)[0])


def _painted(image: Image, card: Card) -> tuple[np.ndarray, str]:
    """The picture under where a model looked for the positive class, uint8 (H, W, 3), and what to say of it."""
    prediction, explanation = read_image(card, image)
    heat = heat_map(explanation, FUSED, explanation.positive_index)
    nowhere = "" if heat.any() else f"; nothing in the picture spoke for {card.positive}"
    return paint(image.pixels, heat, _OPACITY), f"{card.title}, {prediction.malignant:.3f}{nowhere}"


def _small(pixels: np.ndarray) -> np.ndarray:
    step = max(1, round(max(pixels.shape[:2]) / _SIDE))
    return pixels[::step, ::step]


@st.cache_resource(max_entries=4, ttl="1h", show_spinner=False)
def _picture(path: Path, modality: Modality | None) -> Image | None:
    return read_study([path], settings=settings(), modality=modality)[0].image


def _draw_large(row: pd.Series, names: Sequence[str], cards: Sequence[Card], folders: Sequence[Path]) -> None:
    """One case, and beside it the same picture under where each of the cards' models looked."""
    st.subheader(plain(str(row["case"])), anchor=False)
    scores = [f"{name} {row[key]:.3f}" for key in map(str, row.index) for name in names if key[3:] == name]
    st.caption(plain("; ".join([f"Label {row['label']}", *scores])))
    path = picture_path(str(row["case"]), folders)
    if path is None:
        st.info("The picture of this case is not on this machine; its scores are all there is.")
        return
    with st.spinner("Reading the picture"):
        image = _picture(path, cards[0].modality if cards else None)
    if image is None:
        st.warning("This file cannot be read any more.")
        return
    places = st.columns(max(2, 1 + len(cards)))
    places[0].image(to_uint8(image.pixels), caption=f"As it is, label {row['label']}", width="stretch")
    for place, card in zip(places[1:], cards, strict=False):
        with st.spinner(f"Asking {card.title}"):
            picture, words = _painted(image, card)
        place.image(picture, caption=plain(words), width="stretch")
        place.caption(f"{ATTENTION_CAPTION} ({AI_GENERATED})")
