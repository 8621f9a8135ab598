"""Which threshold a model's scores are held against, and what it meant on validation cases. Loads no TensorFlow."""

from __future__ import annotations

from dataclasses import dataclass, replace

from core.models.cards import Card, read_validation_scores
from core.types import Modality, Prediction


@dataclass(frozen=True, slots=True)
class OperatingPoint:
    """Counts at the threshold. rule: how it was chosen, in words. is_of_card: on the card, not by the site.

    Counts are 0 where the validation scores are not shipped. low, high: where the thresholds lie that find the rule's
    share of the positive cases on resampled patients; None where that is not known. is_out_of_fold: chosen on the
    cases that the model was tested on, each scored by a network that had not seen it. correction: what was wrong with
    an earlier value of the card, "" where nothing was.
    """

    threshold: float
    positive: str
    rule: str
    is_of_card: bool = True
    positives_above: int = 0
    n_positives: int = 0
    others_above: int = 0
    n_others: int = 0
    is_out_of_fold: bool = False
    low: float | None = None
    high: float | None = None
    correction: str = ""

    @property
    def text(self) -> str:
        """The threshold in one or two sentences, for a person who asks what being above it means."""
        how = f"chosen on {self._cases}" if self.is_of_card else "by the choice of this site"
        span = ""
        if self.low is not None and self.high is not None:
            span = f" ({100 * self.low:.1f} to {100 * self.high:.1f}\u00a0% on resampled patients)"
        corrected = f"; corrected, because {self.correction}" if self.correction else ""
        chosen = f"Threshold {100 * self.threshold:.1f}\u00a0%{span}, {how}: {self.rule}{corrected}."
        if not self.n_positives or not self.n_others:
            return chosen
        where = "There" if self.is_of_card else f"On the model's {self._cases}"
        return (
            f"{chosen} {where}, {self.positives_above} of {self.n_positives} {self.positive} cases were at or above "
            f"it, and {self.others_above} of {self.n_others} others."
        )

    @property
    def _cases(self) -> str:
        return "cases scored out of fold, the test cases" if self.is_out_of_fold else "validation cases"

    @property
    def brief(self) -> str:
        """The threshold and its counts without the rule, for a row of a table."""
        value = f"{100 * self.threshold:.1f}\u00a0%"
        if self.low is not None and self.high is not None:
            value += f" (on resampled patients {100 * self.low:.1f} to {100 * self.high:.1f}\u00a0%)"
        if not self.n_positives or not self.n_others:
            return value
        return (
            f"{value}: {self.positives_above} of {self.n_positives} {self.positive} and "
            f"{self.others_above} of {self.n_others} other {self._cases} were at or above it"
        )

    @property
    def rule_text(self) -> str:
        """How it was chosen, as a sentence."""
        return f"{f'Chosen on {self._cases}' if self.is_of_card else 'By the choice of this site'}: {self.rule}."


OF_SCREENING = " (BCSC sensitivity, Lehman 2017)"
"""How the cards name where a sensitivity comes from: readers of screening mammograms, whom no other kind of picture has
to be measured by."""


def operating_point(card: Card, threshold: float | None = None, rule: str = "") -> OperatingPoint:
    """A threshold with its counts from `<sha8>.validation_scores.csv` (columns as the test scores').

    threshold, rule: what a site had chosen, as a `Prediction` keeps it; without a rule the card's own.
    """
    is_of_card = not rule
    of_card = card.threshold.rule
    if card.modality is not Modality.MAMMOGRAPHY:
        of_card = of_card.replace(OF_SCREENING, "")
    at = card.threshold.value if threshold is None else threshold
    rule = rule or of_card or "the rule is not on the card"
    correction = card.threshold.corrected if is_of_card else ""
    low, high = (card.threshold.low, card.threshold.high) if is_of_card else (None, None)
    scores = read_validation_scores(card)
    if scores is None:
        return OperatingPoint(
            at, card.positive, rule, is_of_card,
            is_out_of_fold=bool(card.data.folds), low=low, high=high, correction=correction,
        )  # fmt: skip
    is_positive, is_above = (scores["label"] == card.positive).to_numpy(), scores[card.positive].to_numpy() >= at
    return OperatingPoint(
        threshold=at,
        positive=card.positive,
        rule=rule,
        is_of_card=is_of_card,
        positives_above=int((is_positive & is_above).sum()),
        n_positives=int(is_positive.sum()),
        others_above=int((~is_positive & is_above).sum()),
        n_others=int((~is_positive).sum()),
        is_out_of_fold=bool(card.data.folds),
        low=low,
        high=high,
        correction=correction,
    )


def held_against(prediction: Prediction, point: OperatingPoint) -> Prediction:
    """The same answer, with the threshold that counts here, so that it stays with it whatever is chosen later."""
    return replace(prediction, threshold=point.threshold, threshold_rule="" if point.is_of_card else point.rule)
