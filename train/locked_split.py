"""The split that a model was measured in, taken up again, so that the next one is measured on the same test cases.

A model's folder names its test and validation cases beside the weights; every other case trains. Loads no TensorFlow.
"""

from __future__ import annotations

import pandas as pd

from core.errors import InvalidInput
from core.models.cards import Card
from train.split import units_of


def split_of_model(cases: pd.DataFrame, card: Card) -> pd.Series:
    """ "test", "validation" or "train" for each case, as `card`'s model was trained and measured.

    A case that the model has not seen goes where those go that it belongs together with (patient, group, same file), so
    that new pictures of a test patient never train. Raises `InvalidInput` where the manifest lacks cases that the model
    was tested on: numbers of other cases could not be compared.
    """
    listed = {name: _cases_of(card, name) for name in ("test", "validation")}
    missing = listed["test"] - set(cases["file"])
    if missing:
        raise InvalidInput(
            f"The manifest lacks {len(missing)} of the {len(listed['test'])} test cases of {card.model_id}. Give the "
            "data set it was measured on, or make a split of its own."
        )
    units = units_of(cases)
    split = pd.Series("train", index=cases.index, name="split")
    for name in ("validation", "test"):  # a unit that is in both is tested: it must neither train nor choose
        split[units.isin(set(units[cases["file"].isin(listed[name])]))] = name
    return split


def _cases_of(card: Card, name: str) -> set[str]:
    path = card.folder / f"{card.weights_sha256[:8]}.{name}_scores.csv"
    if not path.is_file():
        raise InvalidInput(f"{card.model_id} names no {name} cases ({path.name} is not in its folder).")
    table = pd.read_csv(path, dtype=str, keep_default_na=False)
    if "fold" in table:
        raise InvalidInput(f"{card.model_id} was measured in folds; train with the same --folds and --seed instead.")
    return set(table["case"])
