"""Which threshold a model's scores are held against, and what it meant on validation cases. Loads no TensorFlow."""

from __future__ import annotations

from dataclasses import dataclass, replace

import pandas as pd

from core.evaluation.statistics.metrics import evaluate_threshold
from core.evaluation.statistics.operating_points import threshold_at_sensitivity
from core.models.cards import Card, case_thresholds, read_test_scores
from core.settings import Settings
from core.types import Estimate, Prediction


@dataclass(frozen=True, slots=True)
class OperatingPoint:
    """Counts at the threshold. rule: how it was chosen, in words. is_of_card: on the card, not by the site.

    Counts are 0 where the validation scores are not shipped.
    """

    threshold: float
    positive: str
    rule: str
    is_of_card: bool = True
    positives_above: int = 0
    n_positives: int = 0
    others_above: int = 0
    n_others: int = 0

    @property
    def text(self) -> str:
        """The threshold in one or two sentences, for a person who asks what being above it means."""
        how = "chosen on validation cases" if self.is_of_card else "by the choice of this site"
        chosen = f"Threshold {100 * self.threshold:.1f}\u00a0%, {how}: {self.rule}."
        if not self.n_positives or not self.n_others:
            return chosen
        where = "There" if self.is_of_card else "On the model's validation cases"
        return (
            f"{chosen} {where}, {self.positives_above} of {self.n_positives} {self.positive} cases were at or above "
            f"it, and {self.others_above} of {self.n_others} others."
        )


def operating_point(card: Card, threshold: float | None = None, rule: str = "") -> OperatingPoint:
    """A threshold with its counts from `<sha8>.validation_scores.csv` (columns as the test scores').

    threshold, rule: what a site had chosen, as a `Prediction` keeps it; without a rule the card's own.
    """
    is_of_card = not rule
    at = card.threshold if threshold is None else threshold
    rule = rule or str(card.raw["threshold"].get("rule", "the rule is not on the card"))
    scores = _validation_scores(card)
    if scores is None:
        return OperatingPoint(at, card.positive, rule, is_of_card)
    is_positive, is_above = scores["label"] == card.positive, scores[card.positive] >= at
    return OperatingPoint(
        threshold=at,
        positive=card.positive,
        rule=rule,
        is_of_card=is_of_card,
        positives_above=int((is_positive & is_above).sum()),
        n_positives=int(is_positive.sum()),
        others_above=int((~is_positive & is_above).sum()),
        n_others=int((~is_positive).sum()),
    )


def site_operating_point(card: Card, site: Settings, own: float | None = None) -> OperatingPoint:
    """The threshold that counts at this site now, by its policy; the card's own where the policy cannot be followed.

    own: the site's own value for these weights, None where an administrator has set none.
    """
    if site.thresholds == "site" and own is not None:
        return operating_point(card, own, "a value that this site has set itself")
    if site.thresholds == "sensitivity":
        scores = _validation_scores(card)
        if scores is not None and (scores["label"] == card.positive).any():
            positive, target = (scores["label"] == card.positive).to_numpy(), site.threshold_sensitivity
            value = threshold_at_sensitivity(positive, scores[card.positive].to_numpy(), target / 100)
            return operating_point(card, value, f"the highest that finds {target} % of the positive validation cases")
    return operating_point(card)


def held_against(prediction: Prediction, point: OperatingPoint) -> Prediction:
    """The same answer, with the threshold that counts here, so that it stays with it whatever is chosen later."""
    return replace(prediction, threshold=point.threshold, threshold_rule="" if point.is_of_card else point.rule)


def measured_at(card: Card, point: OperatingPoint) -> dict[str, Estimate]:
    """Sensitivity, specificity and the like of the model's test scores at this threshold; {} without test scores.

    Keys are those of `evaluate_threshold`. At the card's own, cases of a fold are held against their fold's.
    """
    scores = read_test_scores(card)
    if scores is None:
        return {}
    labels, patients = (scores["label"] == card.positive).to_numpy().astype(int), scores["patient"].to_numpy()
    at = case_thresholds(card, scores) if point.is_of_card else point.threshold
    return evaluate_threshold(labels, scores[card.positive].to_numpy(), at, patients)


def _validation_scores(card: Card) -> pd.DataFrame | None:
    path = card.folder / f"{card.weights_sha256[:8]}.validation_scores.csv"
    return pd.read_csv(path, dtype={"label": str}) if path.is_file() else None
