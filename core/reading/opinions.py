"""What the models say of each breast, in the order in which it is shown: the lead, then the others.

One place decides it for the page and the report alike. Loads no TensorFlow.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from core.models.aggregate import BreastScore, is_comparable
from core.models.cards import WEAK_AUC, known_cards, remarks_of, weak_texts
from core.models.lead import lead_of
from core.settings import Settings
from core.types import Modality, is_called

ALL_WEAK = (
    f"Every model that answers here is weak: the 95 % interval of its AUC reaches {WEAK_AUC:.2f} or lower. Do not lean "
    "on these numbers."
)

FAR_APART_POINTS = 50
"""Half of the scale between two models' probabilities: more than any interval beside one of them says. Set here, for
want of a figure in the literature."""


@dataclass(frozen=True, slots=True)
class Opinion:
    """The scores of one breast by the models of one modality.

    lead: the number to be read first. others: the rest, weak ones last. remarks: weights sha256 of a model -> what
    stands beside every number of it. weak: weights sha256 of the weak models. notes: what stands above the lead's
    number. modality: None where the images do not say it. why: what made the lead the first, as half a sentence.
    """

    breast: str
    lead: BreastScore
    others: tuple[BreastScore, ...] = ()
    remarks: Mapping[str, tuple[str, ...]] = field(default_factory=dict)
    notes: tuple[str, ...] = ()
    weak: frozenset[str] = frozenset()
    modality: Modality | None = None
    why: str = ""

    @property
    def scores(self) -> tuple[BreastScore, ...]:
        return self.lead, *self.others

    def is_weak(self, score: BreastScore) -> bool:
        return score.weights_sha256 in self.weak

    @property
    def n_weak(self) -> int:
        """How many models are weak, the lead too; a model with several scores counts once."""
        return len({score.model_id for score in self.scores if self.is_weak(score)})

    @property
    def agreement(self) -> str:
        """How far the models agree that are not weak; "" for fewer than two, or where one has several scores.

        A score of a picture unlike what its model learnt from is counted on neither side. Who is left out is said.
        """
        strong = [score for score in self.scores if not self.is_weak(score)]
        if not is_comparable(strong):
            return ""
        counted = [score for score in strong if not score.is_unlike_training]
        found = agreement([(one.malignant, one.threshold) for one in counted])
        left_out = [f"{self.n_weak} weak"] if self.n_weak else []
        if n_unlike := len(strong) - len(counted):
            left_out.append(f"{n_unlike} that learnt from pictures unlike this one")
        return f"{found} Not counted: {' and '.join(left_out)}." if found and left_out else found


def opinions_of(site: Settings, scores: Sequence[BreastScore]) -> list[Opinion]:
    """One opinion for each breast and modality, in the order of `scores` (`core.models.aggregate.breast_scores`)."""
    cards = {card.weights_sha256: card for card in known_cards(site)}
    grouped: dict[tuple[str, Modality | None], list[BreastScore]] = {}
    for score in scores:
        grouped.setdefault((score.breast, score.modality), []).append(score)
    found = []
    for (breast, modality), members in grouped.items():
        lead = lead_of(site, modality, {score.model_id for score in members}) if modality else None
        first = lead.model_id if lead else members[0].model_id
        remarks = {
            score.weights_sha256: remarks_of(site, cards[score.weights_sha256])
            for score in members
            if score.weights_sha256 in cards
        }
        weak = frozenset(sha256 for sha256 in remarks if weak_texts(site, cards[sha256]))
        in_order = sorted(members, key=lambda one: (one.model_id != first, one.weights_sha256 in weak))
        is_all_weak = all(score.weights_sha256 in weak for score in members)
        notes = (lead.note if lead else "", ALL_WEAK if is_all_weak else "")
        found.append(
            Opinion(
                breast,
                in_order[0],
                tuple(in_order[1:]),
                remarks,
                tuple(filter(None, notes)),
                weak,
                modality,
                lead.why if lead else "",
            )
        )
    return found


def agreement(scores: Sequence[tuple[float, float]]) -> str:
    """How far models agree on one breast or image, from (malignant, threshold) of each. Empty for a single model.

    Where they lie far apart it says so, also where all are on one side of their thresholds.
    """
    if len(scores) < 2:
        return ""
    values = [malignant for malignant, _ in scores]
    points = round(100 * (max(values) - min(values)))
    spread = f"their probabilities lie {points} points apart" if points else "their probabilities are the same"
    if points >= FAR_APART_POINTS:
        spread += ", so no one of them speaks for the others: look at each"
    above = sum(is_called(malignant, threshold) for malignant, threshold in scores)
    everyone = "Both" if len(scores) == 2 else f"All {len(scores)}"
    if above == len(scores):
        return f"{everyone} models are above their thresholds; {spread}."
    if above == 0:
        return f"{everyone} models are below their thresholds; {spread}."
    thresholds = "its threshold" if above == 1 else "their thresholds"
    return f"The models disagree: {above} of {len(scores)} above {thresholds}; {spread}."
