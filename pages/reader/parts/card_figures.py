"""The figures of a card: ROC curve with its threshold, and calibration, on the model's own test cases."""

from __future__ import annotations

import plotly.graph_objects as go
import streamlit as st

from core.evaluation.charts.base import Provenance
from core.evaluation.charts.curves import reliability_figure, roc_figure
from core.evaluation.statistics.calibration import reliability
from core.evaluation.statistics.curves import roc_curve
from core.evaluation.statistics.intervals import Bootstrap
from core.models.cards import Card, read_test_scores


def figures(card: Card) -> tuple[go.Figure, go.Figure] | None:
    """(ROC, calibration), or None where the card comes without test scores. Computed once for each weights file."""
    return _figures(card.model_id, card.weights_sha256, card)


# The figures themselves, not copies, which cost more than all the rest of the page: nobody changes what is drawn.
@st.cache_resource(show_spinner="Computing the curves", max_entries=64)
def _figures(model_id: str, weights_sha256: str, _card: Card) -> tuple[go.Figure, go.Figure] | None:
    scores = read_test_scores(_card)
    if scores is None:
        return None
    labels = (scores["label"] == _card.positive).to_numpy().astype(int)
    values, patients = scores[_card.positive].to_numpy(), scores["patient"].to_numpy()
    provenance = Provenance(
        dataset=_card.data.name,
        split="test",
        n=len(scores),
        positives=int(labels.sum()),
        data_sha256=_card.data.sha256,
        weights={model_id: weights_sha256},
    )
    curve = roc_curve(labels, values, Bootstrap(patients, len(scores)))
    roc = roc_figure({model_id: curve}, thresholds={model_id: _card.threshold.value}, provenance=provenance)
    return roc, reliability_figure({model_id: reliability(labels, values, patients)}, provenance=provenance)
