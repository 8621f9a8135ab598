"""What a model's threshold meant on the validation cases it was chosen on. Loads no TensorFlow."""

from __future__ import annotations

from dataclasses import dataclass

import pandas as pd

from core.models.cards import Card


@dataclass(frozen=True, slots=True)
class OperatingPoint:
    """Counts at the threshold. rule: how the threshold was chosen, in the card's words. Counts are 0 where the
    validation scores are not shipped."""

    threshold: float
    positive: str
    rule: str
    positives_above: int = 0
    n_positives: int = 0
    others_above: int = 0
    n_others: int = 0

    @property
    def words(self) -> str:
        """The threshold in one or two sentences, for a person who asks what being above it means."""
        chosen = f"Threshold {100 * self.threshold:.1f}\u00a0%, chosen on validation cases: {self.rule}."
        if not self.n_positives or not self.n_others:
            return chosen
        return (
            f"{chosen} There, {self.positives_above} of {self.n_positives} {self.positive} cases were at or above it, "
            f"and {self.others_above} of {self.n_others} others."
        )


def operating_point(card: Card) -> OperatingPoint:
    """The card's threshold with its counts from `<sha8>.validation_scores.csv` (columns as the test scores')."""
    rule = str(card.raw["threshold"].get("rule", "the rule is not on the card"))
    path = card.folder / f"{card.weights_sha256[:8]}.validation_scores.csv"
    if not path.is_file():
        return OperatingPoint(card.threshold, card.positive, rule)
    scores = pd.read_csv(path, dtype={"label": str})
    is_positive, is_above = scores["label"] == card.positive, scores[card.positive] >= card.threshold
    return OperatingPoint(
        threshold=card.threshold,
        positive=card.positive,
        rule=rule,
        positives_above=int((is_positive & is_above).sum()),
        n_positives=int(is_positive.sum()),
        others_above=int((~is_positive & is_above).sum()),
        n_others=int((~is_positive).sum()),
    )
