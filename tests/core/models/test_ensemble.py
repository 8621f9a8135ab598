"""Several models as one: what is learned, from what, and what is refused."""

from __future__ import annotations

import json
from collections.abc import Sequence

import numpy as np
import pandas as pd
import pytest
from scipy.optimize import minimize

from core.errors import InvalidInput
from core.models.ensemble import (
    METHODS,
    Ensemble,
    fit_ensemble,
    known_to_fold,
    out_of_fold,
    require_disjoint,
    simplex_weights,
)

CLASSES = ("benign", "malignant", "normal")


def scores(
    skill: float, *, n: int = 150, seed: int = 0, first: int = 0, classes: Sequence[str] = CLASSES, noise: int = 1
) -> pd.DataFrame:
    """A table of n cases, the same for the same seed; `noise` draws the model, `skill` how much it knows."""
    labels = np.random.default_rng(seed).integers(0, len(classes), n)
    logits = np.random.default_rng((seed, noise)).normal(0, 1, (n, len(classes)))
    logits[np.arange(n), labels] += skill
    values = np.exp(logits) / np.exp(logits).sum(1, keepdims=True)
    table = pd.DataFrame({"case": [f"{first + i}.png" for i in range(n)]})
    table["patient"] = [f"p{first + i // 2}" for i in range(n)]
    table["label"] = [classes[label] for label in labels]
    table[list(classes)] = values.round(6)
    return table


def members(seed: int, first: int = 0, classes: Sequence[str] = CLASSES) -> dict[str, pd.DataFrame]:
    skills = {"good": 2.5, "fair": 1.5, "blind": 0.0}
    return {
        name: scores(skill, seed=seed, first=first, classes=classes, noise=number)
        for number, (name, skill) in enumerate(skills.items())
    }


def log_loss(table: pd.DataFrame, classes: Sequence[str] = CLASSES) -> float:
    own = table[list(classes)].to_numpy()[np.arange(len(table)), [list(classes).index(name) for name in table["label"]]]
    return float(-np.log(np.maximum(own, 1e-6)).mean())


@pytest.mark.parametrize("classes", [CLASSES, ("benign", "malignant")])
@pytest.mark.parametrize("method", METHODS)
def test_every_method_gives_a_table_like_its_members(method: str, classes: tuple[str, ...]) -> None:
    validation, test = members(0, classes=classes), members(1, first=1000, classes=classes)
    combined = fit_ensemble(method, validation, classes).combine(test)  # type: ignore[arg-type]
    assert list(combined.columns) == list(test["good"].columns)
    np.testing.assert_allclose(combined[list(classes)].sum(axis=1), 1, atol=1e-5)
    assert (combined["case"] == test["good"]["case"]).all()
    beaten = "blind" if method == "soft" else "fair"  # an equal voice for all lets a blind model spoil much
    assert log_loss(combined, classes) < log_loss(test[beaten], classes)


def test_a_probability_of_exactly_0_is_one_and_one_below_is_none() -> None:
    tables = members(0)
    for lowest, rest in ((0.0, 0.0), (-1e-6, 1e-6)):
        for table in tables.values():
            table.loc[0, list(CLASSES)] = [1.0, lowest, rest]
        if lowest == 0:
            assert fit_ensemble("soft", tables, CLASSES).combine(tables).loc[0, "benign"] == 1
        else:
            with pytest.raises(InvalidInput, match="are not probabilities"):
                fit_ensemble("soft", tables, CLASSES)


def test_soft_voting_is_the_mean() -> None:
    test = members(1)
    combined = fit_ensemble("soft", members(0), CLASSES).combine(test)
    mean = np.mean([table[list(CLASSES)] for table in test.values()], axis=0)
    np.testing.assert_allclose(combined[list(CLASSES)], mean, atol=2e-6)


def test_weights_lie_on_the_simplex_and_a_blind_model_gets_next_to_nothing() -> None:
    ensemble = fit_ensemble("weighted", members(0), CLASSES)
    assert min(ensemble.weights) >= 0 and sum(ensemble.weights) == pytest.approx(1)
    assert ensemble.weights[0] > ensemble.weights[1] > ensemble.weights[2]
    assert ensemble.weights[2] < 0.05


def test_weights_are_those_that_a_general_optimiser_finds() -> None:
    tables = {"a": scores(2.0, noise=1), "b": scores(1.8, noise=2), "c": scores(1.0, noise=3)}
    labels = np.asarray([CLASSES.index(name) for name in tables["a"]["label"]])
    stack = np.stack([table[list(CLASSES)].to_numpy() for table in tables.values()])
    own = stack[:, np.arange(len(labels)), labels]
    found = minimize(
        lambda weights: -np.log(weights @ own).mean(),
        np.full(3, 1 / 3),
        bounds=[(0, 1)] * 3,
        constraints={"type": "eq", "fun": lambda weights: weights.sum() - 1},
        method="SLSQP",
        options={"ftol": 1e-12},
    )
    np.testing.assert_allclose(simplex_weights(stack, labels), found.x, atol=1e-3)


@pytest.mark.parametrize("classes", [CLASSES, ("benign", "malignant")])
def test_stacking_says_of_the_cases_it_learnt_from_each_class_as_often_as_it_is(classes: tuple[str, ...]) -> None:
    """As the maximum likelihood does wherever the intercepts are not held back."""
    validation = {
        name: table[(table["label"] != "benign") | (table.index % 4 == 0)]
        for name, table in members(0, classes=classes).items()
    }
    combined = fit_ensemble("stacking", validation, classes).combine(validation)
    shares = validation["good"]["label"].value_counts(normalize=True)
    assert dict(combined[list(classes)].mean()) == pytest.approx(dict(shares), abs=1e-4)


def test_stacking_learns_to_read_a_model_that_says_the_opposite() -> None:
    def inverted(table: pd.DataFrame) -> pd.DataFrame:
        return table.assign(benign=table["malignant"], malignant=table["benign"])

    classes = ("benign", "malignant")
    validation = {name: inverted(table) for name, table in members(0, classes=classes).items() if name != "blind"}
    test = {name: inverted(table) for name, table in members(1, first=1000, classes=classes).items() if name != "blind"}
    stacked = fit_ensemble("stacking", validation, classes).combine(test)
    soft = fit_ensemble("soft", validation, classes).combine(test)
    assert log_loss(stacked, classes) < 0.5 < 1.0 < log_loss(soft, classes)


@pytest.mark.parametrize("method", METHODS)
def test_labels_of_the_test_cases_change_nothing(method: str) -> None:
    validation, test = members(0), members(1, first=1000)
    ensemble = fit_ensemble(method, validation, CLASSES)  # type: ignore[arg-type]
    honest = ensemble.combine(test)
    wrong = np.random.default_rng(7).permutation(test["good"]["label"].to_numpy())
    scrambled = ensemble.combine({name: table.assign(label=wrong) for name, table in test.items()})
    pd.testing.assert_frame_equal(honest[list(CLASSES)], scrambled[list(CLASSES)])
    unlabelled = ensemble.combine({name: table.assign(label="") for name, table in test.items()})
    pd.testing.assert_frame_equal(honest[list(CLASSES)], unlabelled[list(CLASSES)])


def test_in_folds_no_fold_is_combined_by_what_its_own_test_cases_say() -> None:
    validation = {name: table.assign(fold=np.arange(len(table)) // 2 % 2) for name, table in members(0).items()}
    test = {name: table.assign(fold=1 - table["fold"]) for name, table in validation.items()}
    ensemble, combined = out_of_fold("stacking", validation, test, CLASSES)
    assert len(combined) == 150 and ensemble.validation_n == 150 and "fold" in combined
    changed = {name: table.copy() for name, table in validation.items()}
    wrong = np.random.default_rng(3).permutation(150)
    for table in changed.values():  # only fold 1's validation cases, which are fold 0's test cases
        labels = table["label"].to_numpy()
        table["label"] = np.where(table["fold"] == 1, labels[wrong], labels)
    _, again = out_of_fold("stacking", changed, test, CLASSES)
    first, second = (table[table["fold"] == 0][list(CLASSES)] for table in (combined, again))
    pd.testing.assert_frame_equal(first, second)
    others = [table[table["fold"] == 1][list(CLASSES)].to_numpy() for table in (combined, again)]
    assert not np.allclose(*others)


def test_a_fold_learns_from_every_validation_score_but_those_of_its_own_patients() -> None:
    validation = {name: table.assign(fold=np.arange(len(table)) // 2 % 2) for name, table in members(0).items()}
    test = {name: table.assign(fold=1 - table["fold"]) for name, table in validation.items()}
    for fold in (0, 1):
        known = known_to_fold(validation, test, fold)
        for name, table in known.items():
            tested = set(test[name].loc[test[name]["fold"] == fold, "patient"])
            assert set(table["patient"]) == set(test[name]["patient"]) - tested and len(table)


def test_a_fold_whose_validation_cases_are_its_test_cases_is_refused() -> None:
    tables = {name: table.assign(fold=0) for name, table in members(0).items()}
    with pytest.raises(InvalidInput, match="measured on what it was fitted on"):
        out_of_fold("weighted", tables, tables, CLASSES)
    require_disjoint(members(0), members(1, first=1000))


def test_rows_may_come_in_any_order() -> None:
    validation, test = members(0), members(1, first=1000)
    shuffled = {name: table.sample(frac=1, random_state=number) for number, (name, table) in enumerate(test.items())}
    shuffled = {"good": test["good"], **{name: table for name, table in shuffled.items() if name != "good"}}
    ensemble = fit_ensemble("weighted", validation, CLASSES)
    pd.testing.assert_frame_equal(ensemble.combine(test), ensemble.combine(shuffled))


@pytest.mark.parametrize("method", METHODS)
def test_a_card_holds_all_there_is_to_know(method: str) -> None:
    ensemble = fit_ensemble(method, members(0), CLASSES)  # type: ignore[arg-type]
    again = Ensemble.from_card(json.loads(json.dumps(ensemble.on_card())))
    assert again == ensemble
    with pytest.raises(InvalidInput):
        Ensemble.from_card({**ensemble.on_card(), "members": ["good", "fair"]})
    with pytest.raises(InvalidInput, match="does not describe"):
        Ensemble.from_card({"method": method})


def test_tables_that_do_not_belong_together_are_refused() -> None:
    tables = members(0)
    ensemble = fit_ensemble("soft", tables, CLASSES)
    with pytest.raises(InvalidInput, match="lacks the scores of: fair"):
        ensemble.combine({name: table for name, table in tables.items() if name != "fair"})
    with pytest.raises(InvalidInput, match="same cases"):
        ensemble.combine({**tables, "fair": tables["fair"].head(100)})
    with pytest.raises(InvalidInput, match="same cases"):
        ensemble.combine({**tables, "fair": pd.concat([tables["fair"], tables["fair"].head(1)])})
    with pytest.raises(InvalidInput, match="different labels"):
        ensemble.combine({**tables, "fair": tables["fair"].assign(label="benign")})
    with pytest.raises(InvalidInput, match="not probabilities"):
        ensemble.combine({**tables, "fair": tables["fair"].assign(benign=3.0)})
    with pytest.raises(InvalidInput, match="no column: normal"):
        ensemble.combine({**tables, "fair": tables["fair"].drop(columns="normal")})
    with pytest.raises(InvalidInput, match="two models or more"):
        fit_ensemble("soft", {"good": tables["good"]}, CLASSES)
    with pytest.raises(InvalidInput, match="at least once"):
        fit_ensemble("weighted", {name: t[t["label"] != "normal"] for name, t in tables.items()}, CLASSES)
    with pytest.raises(InvalidInput, match="no ensemble method"):
        fit_ensemble("loud", tables, CLASSES)  # type: ignore[arg-type]
