"""The threshold in words is counted from the validation scores, and says only the rule where they are not shipped."""

from __future__ import annotations

from pathlib import Path

import pytest

from core.models.calibration import Calibration
from core.models.cards import Card
from core.models.operating_point import operating_point
from core.types import Modality

SHA = "12345678" + "0" * 56


@pytest.fixture
def card(tmp_path: Path) -> Card:
    return Card(
        model_id="ultrasound-fusion",
        title="Fusion",
        architecture="fusion",
        modality=Modality.ULTRASOUND,
        classes=("benign", "malignant"),
        positive="malignant",
        side=32,
        channels=1,
        weights_sha256=SHA,
        weights_files=(),
        calibration=Calibration(1.0, (0.0,), ()),
        threshold=0.3,
        raw={"threshold": {"value": 0.3, "rule": "the highest that finds most of the positive cases"}},
        folder=tmp_path,
    )


def test_counts_come_from_the_validation_scores_and_a_score_at_the_threshold_is_above_it(card: Card):
    rows = ["case,patient,label,benign,malignant", "a,1,malignant,0.7,0.3", "b,2,malignant,0.8,0.2"]
    rows += ["c,3,benign,0.1,0.9", "d,4,benign,0.9,0.1", "e,5,benign,0.95,0.05"]
    (card.folder / "12345678.validation_scores.csv").write_text("\n".join(rows))
    point = operating_point(card)
    assert (point.positives_above, point.n_positives, point.others_above, point.n_others) == (1, 2, 1, 3)
    words = point.words.replace("\u00a0", " ")
    assert words.startswith("Threshold 30.0 %, chosen on validation cases: the highest that finds most")
    assert words.endswith("There, 1 of 2 malignant cases were at or above it, and 1 of 3 others.")


def test_without_validation_scores_only_the_rule_is_said(card: Card):
    assert "There," not in operating_point(card).words
    assert "the highest that finds most of the positive cases" in operating_point(card).words
