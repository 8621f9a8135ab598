"""Which model of a modality speaks first, and which ones are too weak to be counted. Loads no TensorFlow."""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass, field

from core.models.cards import Card, leaks_of, live_cards, weak_texts, withheld_cards
from core.models.live import read_live
from core.settings import Settings
from core.types import Modality


@dataclass(frozen=True, slots=True)
class Lead:
    """model_id: whose number stands first. note: why it is not the one that the site named; "" where it is, or where
    the site named none. why: what made it the first; "" where there is no other."""

    model_id: str
    note: str = ""
    why: str = field(default="", compare=False)


def lead_of(settings: Settings, modality: Modality, answered: Collection[str] | None = None) -> Lead | None:
    """Whose number stands first for this modality: the model that the site named, else the default's; None without one.

    answered: ids of the models that have answered, for what was read before or in part; else those that are live. The
    default is an ensemble before a single model, but a model that leaks or is weak only where there is no other; among
    equals the one that was tested on more cases, then the order of the cards.
    """
    live = [card for card in live_cards(settings) if card.modality is modality]
    here = [card for card in live if answered is None or card.model_id in answered]
    others = sorted(set(answered or ()) - {card.model_id for card in here})
    by_default = [card.model_id for card in sorted(here, key=lambda card: _rank(settings, card))] + others
    named = read_live(settings).leads.get(modality.value, "")
    if not by_default:
        return None
    if named in by_default:
        return Lead(named, why="it was named by this site" if len(by_default) > 1 else "")
    why = _why(settings, by_default[0], here) if len(by_default) > 1 else ""
    if not named:
        return Lead(by_default[0], why=why)
    return Lead(by_default[0], f"{named}, which this site named to lead, {_why_not(settings, named, live)}.", why)


def _why(settings: Settings, first: str, here: Collection[Card]) -> str:
    """What put the first of the default order before the next one; "" where nothing of its card did."""
    ranks = sorted((_rank(settings, card), card.model_id == first) for card in here)
    if len(ranks) < 2:
        return ""
    (of_first, _), (of_next, _) = ranks[:2]
    if of_first[0] != of_next[0]:
        return "the others are weak or leak"
    if of_first[1] != of_next[1]:
        return "it is an ensemble"
    kind = "" if of_first[1] else "ensemble "
    return f"it is the {kind or 'model '}that was tested on the most cases" if of_first[2] != of_next[2] else ""


def _why_not(settings: Settings, model_id: str, live: Collection[Card]) -> str:
    if model_id in {card.model_id for card in live}:
        return "has not answered"
    if model_id in {card.model_id for card in withheld_cards(settings)}:
        return "is withheld: see the page Models"
    return "is not live"


def _rank(settings: Settings, card: Card) -> tuple[bool, bool, int]:
    is_doubtful = bool(leaks_of(card)) or bool(weak_texts(settings, card))
    return is_doubtful, not card.members, -card.measured.n if card.measured is not None else 0
