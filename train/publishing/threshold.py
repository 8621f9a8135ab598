"""What is chosen on validation scores, and what a card must own up to. Loads no TensorFlow."""

from __future__ import annotations

import numpy as np
import pandas as pd

from core.evaluation.statistics.metrics import evaluate_binary
from core.evaluation.statistics.operating_points import threshold_at_sensitivity

SENSITIVITY_TARGET = 0.869
"""Sensitivity of US screening radiologists in the BCSC (Lehman et al. 2017): what the threshold aims at."""

WEAK_AUC = 0.75
"""A model whose AUC may be lower than this says on its card that it is weak."""


def choose_threshold(positive: np.ndarray, scores: np.ndarray) -> float:
    """The highest threshold that still finds `SENSITIVITY_TARGET` of the positive validation cases."""
    return threshold_at_sensitivity(positive, scores, SENSITIVITY_TARGET)


def weakness(test_scores: pd.DataFrame, positive: str) -> tuple[str, ...]:
    """The limit of a model whose area under the ROC curve may be low; () for the others."""
    labels = (test_scores["label"] == positive).to_numpy().astype(int)
    area = evaluate_binary(labels, test_scores[positive].to_numpy(), patients=test_scores["patient"].to_numpy())["auc"]
    if area.low >= WEAK_AUC:
        return ()
    return (f"Weak: the interval of its AUC on the test cases reaches below {WEAK_AUC:g}. Do not lean on it.",)
