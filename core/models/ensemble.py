"""Several fitted models as one: soft voting, weighted voting, stacking. Loads no TensorFlow.

What is learned (weights, coefficients) is learned from the members' validation scores; the functions that learn are
never given others. Tables are those beside the models' weights (`<sha8>.validation_scores.csv` and `…test_scores.csv`):
one row a case with case, patient, label and a probability a class; in several folds also fold.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal, get_args

import numpy as np
import pandas as pd
from sklearn.linear_model import LogisticRegression
from sklearn.model_selection import StratifiedGroupKFold

from core.errors import InvalidInput

Method = Literal["soft", "weighted", "stacking"]
METHODS: tuple[str, ...] = get_args(Method)

Tables = Mapping[str, pd.DataFrame]
"""Model id -> its scores."""

_SMALLEST = 1e-6
"""Probabilities are kept this far from 0 and 1 where their logarithm is taken."""
_STRENGTHS = (0.001, 0.01, 0.1, 1.0)
"""Inverse L2 strengths that stacking chooses from, the most regularised first."""


@dataclass(frozen=True, slots=True)
class Ensemble:
    """A fitted combination; plain numbers, so that a card can hold them.

    members: model ids, in the order of every array here. classes: in the order of the probabilities.
    weights: one a member, >= 0, sum 1 ("soft" and "weighted"; empty for "stacking").
    coefficients: (classes, members x classes) and intercepts (classes,) of the softmax over the members' centred
        log-probabilities ("stacking"; empty otherwise). validation_n: how many cases it was fitted on.
    """

    method: Method
    members: tuple[str, ...]
    classes: tuple[str, ...]
    weights: tuple[float, ...] = ()
    coefficients: tuple[tuple[float, ...], ...] = ()
    intercepts: tuple[float, ...] = ()
    validation_n: int = 0

    def probabilities(self, stack: np.ndarray) -> np.ndarray:
        """(members, n, classes) probabilities -> (n, classes), rows summing to 1."""
        stack = np.asarray(stack, np.float64)
        if stack.ndim != 3 or stack.shape[0] != len(self.members) or stack.shape[2] != len(self.classes):
            raise InvalidInput(
                f"The ensemble combines {len(self.members)} models of {len(self.classes)} classes; it was given "
                f"an array of shape {stack.shape}."
            )
        if self.method == "stacking":
            values = _features(stack) @ np.asarray(self.coefficients).T + np.asarray(self.intercepts)
            exponents = np.exp(values - values.max(1, keepdims=True))
            return np.asarray(exponents / exponents.sum(1, keepdims=True))
        return np.asarray(np.einsum("m,mnc->nc", np.asarray(self.weights), stack))

    def combine(self, tables: Tables) -> pd.DataFrame:
        """The members' tables as one of the same form; labels are carried along and change nothing."""
        aligned = _aligned(tables, self.members, self.classes)
        given = aligned.frame.copy()
        given[list(self.classes)] = self.probabilities(aligned.stack).round(6)
        return given

    def on_card(self) -> dict[str, Any]:
        """What `from_card` reads again."""
        return {
            "method": self.method,
            "members": list(self.members),
            "classes": list(self.classes),
            "weights": list(self.weights),
            "coefficients": [list(row) for row in self.coefficients],
            "intercepts": list(self.intercepts),
            "validation_n": self.validation_n,
        }

    @classmethod
    def from_card(cls, raw: Mapping[str, Any]) -> Ensemble:
        """The ensemble that `on_card` described; `InvalidInput` where it cannot be one."""
        try:
            ensemble = cls(
                method=raw["method"],
                members=tuple(raw["members"]),
                classes=tuple(raw["classes"]),
                weights=tuple(float(value) for value in raw["weights"]),
                coefficients=tuple(tuple(float(value) for value in row) for row in raw["coefficients"]),
                intercepts=tuple(float(value) for value in raw["intercepts"]),
                validation_n=int(raw["validation_n"]),
            )
            _require(ensemble.method, ensemble.members, ensemble.classes)
            ensemble.probabilities(np.full((len(ensemble.members), 1, len(ensemble.classes)), 1 / len(raw["classes"])))
        except (KeyError, TypeError, ValueError) as error:
            raise InvalidInput(f"The card does not describe an ensemble ({type(error).__name__}).") from error
        return ensemble


def fit_ensemble(method: Method, validation: Tables, classes: Sequence[str], *, seed: int = 0) -> Ensemble:
    """Fit on the members' validation scores, which must be of the same cases; the members are the keys, in order."""
    members, names = tuple(validation), tuple(classes)
    _require(method, members, names)
    aligned = _aligned(validation, members, names)
    labels = aligned.label_indices(names)
    if method == "soft":
        equal = tuple(1 / len(members) for _ in members)
        return Ensemble(method, members, names, weights=equal, validation_n=len(labels))
    if method == "weighted":
        weights = tuple(float(value) for value in simplex_weights(aligned.stack, labels))
        return Ensemble(method, members, names, weights=weights, validation_n=len(labels))
    coefficients, intercepts = _stacked(aligned.stack, labels, aligned.patients, seed)
    return Ensemble(
        method,
        members,
        names,
        coefficients=tuple(tuple(float(value) for value in row) for row in coefficients),
        intercepts=tuple(float(value) for value in intercepts),
        validation_n=len(labels),
    )


def simplex_weights(stack: np.ndarray, labels: np.ndarray, *, steps: int = 5000) -> np.ndarray:
    """Weights >= 0 with sum 1 that minimise the log loss of the weighted mean of probabilities.

    stack: (members, n, classes); labels: (n,) class indices. The loss is convex in the weights, and
    expectation-maximisation for the shares of a mixture (Dempster, Laird & Rubin 1977) lowers it at every step.
    """
    given = np.maximum(stack[:, np.arange(len(labels)), labels], _SMALLEST)  # (members, n): of each case's own class
    weights = np.full(len(stack), 1 / len(stack))
    for _ in range(steps):
        shares = weights[:, None] * given
        updated = (shares / shares.sum(0)).mean(1)
        change, weights = np.abs(updated - weights).max(), updated
        if change < 1e-10:
            break
    return np.asarray(weights / weights.sum())


def out_of_fold(
    method: Method, validation: Tables, test: Tables, classes: Sequence[str], *, seed: int = 0
) -> tuple[Ensemble, pd.DataFrame]:
    """For models measured in folds: each fold's test cases combined by what the others' validation scores taught.

    Every table has a column fold. Returns the ensemble fitted on all validation cases, to be used from now on, and the
    test scores.
    """
    for table in (*validation.values(), *test.values()):
        if "fold" not in table:
            raise InvalidInput("Scores measured in folds have a column fold; one of the tables has none.")
    folds = {frozenset(table["fold"]) for table in (*validation.values(), *test.values())}
    if len(folds) > 1:
        raise InvalidInput("The models were not measured in the same folds.")
    pieces = []
    for fold in sorted(folds.pop()):
        held = {name: table[table["fold"] == fold] for name, table in test.items()}
        pieces.append(fit_ensemble(method, known_to_fold(validation, test, fold), classes, seed=seed).combine(held))
    return fit_ensemble(method, validation, classes, seed=seed), pd.concat(pieces, ignore_index=True)


def known_to_fold(validation: Tables, test: Tables, fold: int) -> Tables:
    """The validation scores of all folds but for the patients that are tested in this one."""
    tested = set().union(*(set(table.loc[table["fold"] == fold, "patient"].astype(str)) for table in test.values()))
    known = {name: table[~table["patient"].astype(str).isin(tested)] for name, table in validation.items()}
    if any(table.empty for table in known.values()):
        raise InvalidInput(
            f"All patients with validation scores are tested in fold {fold}: the ensemble would be measured on what it "
            "was fitted on. Combine models that were measured in the same folds."
        )
    return known


def require_disjoint(validation: Tables, test: Tables) -> None:
    """Refuse where a patient's cases are among those to fit on and among those to measure on."""
    fitted = set().union(*(set(table["patient"].astype(str)) for table in validation.values()))
    measured = set().union(*(set(table["patient"].astype(str)) for table in test.values()))
    shared = len(fitted & measured)
    if shared:
        raise InvalidInput(
            f"{shared} patients are among the validation cases and the test cases: the ensemble would be measured on "
            "what it was fitted on. Combine models that were trained with the same split."
        )


@dataclass(frozen=True, slots=True, eq=False)
class _Aligned:
    """The members' tables, row by row the same cases.

    frame: case, patient, label, and fold where all have it. stack: (members, n, classes) probabilities.
    """

    frame: pd.DataFrame
    stack: np.ndarray

    @property
    def patients(self) -> np.ndarray:
        return np.asarray(self.frame["patient"].astype(str))

    def label_indices(self, classes: Sequence[str]) -> np.ndarray:
        indices = self.frame["label"].astype(str).map({name: number for number, name in enumerate(classes)})
        missing = set(classes) - set(self.frame["label"].astype(str))
        if indices.isna().any() or missing:
            raise InvalidInput(
                "An ensemble is fitted on validation cases of just the models' classes, each at least once: "
                f"{', '.join(classes)}."
            )
        return np.asarray(indices, int)


def _aligned(tables: Tables, members: Sequence[str], classes: Sequence[str]) -> _Aligned:
    absent = [name for name in members if name not in tables]
    if absent:
        raise InvalidInput(f"The ensemble lacks the scores of: {', '.join(absent)}.")
    retained = ["case", "patient", "label"]
    first = tables[members[0]]
    for name in members:
        lacking = [column for column in (*retained, *classes) if column not in tables[name]]
        if lacking:
            raise InvalidInput(f"The scores of {name} have no column: {', '.join(lacking)}.")
    keys = retained + (["fold"] if all("fold" in tables[name] for name in members) else [])
    by = [key for key in keys if key in ("case", "fold")]
    frame = first[keys].reset_index(drop=True)
    planes = []
    for name in members:
        table = tables[name]
        joined = frame.merge(table, on=by, how="left", suffixes=("", "_of_member"), validate=None)
        same = len(joined) == len(frame) == len(table) and not joined[list(classes)].isna().any(axis=None)
        if not same or table.duplicated(by).any():
            raise InvalidInput(
                f"{name} was not scored on the same cases as {members[0]}, each once. Combine models that were trained "
                "with the same split."
            )
        if (joined["label"].astype(str) != joined["label_of_member"].astype(str)).any():
            raise InvalidInput(f"{name} and {members[0]} were trained with different labels for the same cases.")
        plane = joined[list(classes)].to_numpy(np.float64)
        if not np.isfinite(plane).all() or plane.min() < 0 or np.abs(plane.sum(1) - 1).max() > 1e-3:
            raise InvalidInput(f"The scores of {name} are not probabilities: each from 0 to 1, together 1 a case.")
        planes.append(plane / plane.sum(1, keepdims=True))
    return _Aligned(frame, np.stack(planes))


def _stacked(stack: np.ndarray, labels: np.ndarray, patients: np.ndarray, seed: int) -> tuple[np.ndarray, np.ndarray]:
    """Multinomial logistic regression with L2 (Wolpert 1992): coefficients (classes, features), intercepts (classes,).

    Its strength is the one with the lowest log loss in folds by patient within these cases; the strongest where there
    are too few patients for folds.
    """
    features = _features(stack)
    smallest = min(len(set(patients[labels == label])) for label in np.unique(labels))
    losses = np.zeros(len(_STRENGTHS))
    if smallest >= 2:
        folds = StratifiedGroupKFold(n_splits=min(5, smallest), shuffle=True, random_state=seed)
        for fitted, held in folds.split(features, labels, patients):
            if len(np.unique(labels[fitted])) == stack.shape[2]:
                losses += [_log_loss(features, labels, fitted, held, strength) for strength in _STRENGTHS]
    return _as_softmax(_regression(features, labels, _STRENGTHS[int(losses.argmin())]))


def _log_loss(features: np.ndarray, labels: np.ndarray, fitted: np.ndarray, held: np.ndarray, strength: float) -> float:
    probabilities = _regression(features[fitted], labels[fitted], strength).predict_proba(features[held])
    return float(-np.log(np.maximum(probabilities[np.arange(len(held)), labels[held]], _SMALLEST)).sum())


def _regression(features: np.ndarray, labels: np.ndarray, strength: float) -> LogisticRegression:
    return LogisticRegression(C=strength, solver="newton-cholesky", tol=1e-8).fit(features, labels)


def _as_softmax(model: LogisticRegression) -> tuple[np.ndarray, np.ndarray]:
    coefficients, intercepts = model.coef_, model.intercept_
    if len(coefficients) == 1:  # two classes: the logit of the second against the first
        return np.concatenate([-coefficients, coefficients]) / 2, np.concatenate([-intercepts, intercepts]) / 2
    return coefficients, intercepts


def _features(stack: np.ndarray) -> np.ndarray:
    """(members, n, classes) probabilities -> (n, members x classes): their logarithms, a member's centred on 0.

    These are the members' logits, up to what a softmax does not see.
    """
    logs = np.log(np.maximum(stack, _SMALLEST))
    centred = logs - logs.mean(2, keepdims=True)
    return np.asarray(centred.transpose(1, 0, 2).reshape(stack.shape[1], -1))


def _require(method: str, members: Sequence[str], classes: Sequence[str]) -> None:
    if method not in METHODS:
        raise InvalidInput(f"There is no ensemble method {method!r}. Known methods: {', '.join(METHODS)}.")
    if len(members) < 2 or len(set(members)) < len(members):
        raise InvalidInput("An ensemble combines two models or more, each once.")
    if len(classes) < 2:
        raise InvalidInput("An ensemble tells at least two classes apart.")
