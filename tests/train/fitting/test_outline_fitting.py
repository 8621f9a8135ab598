"""Fitting the outline network: what it begins from, and when it goes on with the epochs of an earlier run."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pandas as pd

from core.types import Fit
from train.recipe.outline import OutlineConfig

SIDE = 64
CONFIG = OutlineConfig(side=SIDE, epochs=1, batch=2, views=1)


def start(backbone: object) -> str:
    return "random"


def test_a_run_on_other_masks_in_the_same_folder_begins_anew(tmp_path: Path) -> None:
    from train.fitting.outline import OutlineViews, fit_outline, starting_graph
    from train.fitting.squares import Squares

    rng = np.random.default_rng(0)
    masks = np.zeros((4, SIDE, SIDE), np.float16)
    masks[:, 16:48, 16:48] = 1
    squares = Squares(
        rng.random((4, SIDE, SIDE, 1)).astype(np.float16), np.zeros(4, np.int32), ("benign", "malignant"), 1, masks,
        np.ones(4, bool), np.array(["train"] * 2 + ["validation"] * 2),
        (Fit((SIDE, SIDE), (0, SIDE, 0, SIDE), SIDE, 0, 0, SIDE, SIDE),) * 4, pd.DataFrame({"file": list("abcd")}),
    )  # fmt: skip
    _, _, stem = starting_graph(CONFIG, start)

    def history(cases: Squares) -> tuple[dict[str, float], ...]:
        views = OutlineViews(stem, cases, CONFIG, None)
        chosen, validation = np.array([0, 1]), np.array([2, 3])
        return fit_outline(CONFIG, cases, views, chosen, validation, start=start, folder=tmp_path).history

    first = history(squares)
    assert history(squares) == first, "the same run goes on, and nothing is left of it"
    other = masks.copy()
    other[1] = 0
    again = history(replace(squares, masks=other))
    assert len(again) == 1 and again[0]["loss"] != first[0]["loss"]


def test_the_part_that_views_are_made_by_is_the_part_that_is_learnt_behind() -> None:
    from train.fitting.outline import starting_graph

    first, again = (starting_graph(CONFIG, start)[2].get_weights() for _ in range(2))
    assert all(np.array_equal(one, other) for one, other in zip(first, again, strict=True))
