"""An ensemble of published models: combined from their scores alone, and published like any other model.

What is fitted is fitted on validation scores; the test scores are only combined. Loads no TensorFlow.
"""

from __future__ import annotations

import hashlib
import json
import time
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pandas as pd

from core.errors import InvalidInput, ModelUnavailable
from core.evaluation.tables.scores import BOOKKEEPING, KEYS
from core.models.calibration import Calibration, fit_calibration, log_odds
from core.models.card_cases import read_cases
from core.models.cards import Card, read_card, read_test_scores, read_validation_scores
from core.models.ensemble import Ensemble, Method, Tables, fit_ensemble, known_to_fold, out_of_fold, require_disjoint
from core.version import versions
from train.publishing.publish import THRESHOLD_RULE, calibration_on_card, own_name, place, publishing, union
from train.publishing.threshold import choose_threshold, map_limits, weakness

WORDS: Mapping[str, str] = {"soft": "soft voting", "weighted": "weighted voting", "stacking": "stacking"}


def make_ensemble(
    members: Sequence[str], method: Method, weights_dir: Path, *, name: str, why: str = "", seed: int = 0
) -> Path:
    """Combine published models of one modality, split and classes; returns the card's path. Raises InvalidInput."""
    began = time.monotonic()
    if name in members:
        raise InvalidInput(f"{name} is one of the members, which an ensemble does not replace. Give it another name.")
    cards = [read_card(weights_dir / member) for member in members]
    _require_equal_settings(cards)
    first = cards[0]
    validation = {card.model_id: _scores(card, "validation") for card in cards}
    test = {card.model_id: _scores(card, "test") for card in cards}
    if first.folds:
        ensemble, tested, thresholds = _in_folds(method, validation, test, first, seed)
    else:
        require_disjoint(validation, test)
        ensemble = fit_ensemble(method, validation, first.classes, seed=seed)
        tested, thresholds = ensemble.combine(test), []
    validated = ensemble.combine(validation)
    calibration = _calibration(validated, first)
    validated = _calibrated(validated, calibration, first)
    if not thresholds:
        tested = _calibrated(tested, calibration, first)
    card = _card(first, cards, ensemble, calibration, _threshold(validated, first), name)
    card["limits"] = [*_limits(first, cards, leading(cards, ensemble.weights)), *weakness(tested, first.positive)]
    card["training"] = {
        "minutes": round((time.monotonic() - began) / 60, 1),
        "command": f"python -m train ensemble {' '.join(members)} --method {method} --name {name}",
        "why": why,
        "method": method,
        "seed": seed,
    }
    if thresholds:
        card["folds"] = {"n": len(thresholds), "thresholds": thresholds}
    tested = _grouped_as(next(iter(test.values())), tested, first.classes)
    with publishing(weights_dir):
        return place(weights_dir / name, card, tested, validated, cases_of_members(cards))


def _grouped_as(member: pd.DataFrame, tested: pd.DataFrame, classes: Sequence[str]) -> pd.DataFrame:
    """The ensemble's scores with what a member's can be grouped by."""
    known = member.set_index("case")
    added = [name for name in known if name not in tested and name not in (*KEYS, *BOOKKEEPING, *classes)]
    return tested.assign(**{name: known[name].reindex(tested["case"]).to_numpy() for name in added})


def cases_of_members(cards: Sequence[Card]) -> pd.DataFrame | None:
    """The table of an ensemble's cases; None where a member has none. Raises ModelUnavailable for a damaged one."""
    tables = [read_cases(card) for card in cards]
    return None if any(table is None for table in tables) else union([table for table in tables if table is not None])


def _in_folds(
    method: Method, validation: Tables, test: Tables, card: Card, seed: int
) -> tuple[Ensemble, pd.DataFrame, list[float]]:
    """Each fold combined, calibrated and given a threshold by the validation scores of all patients but its own."""
    ensemble, tested = out_of_fold(method, validation, test, card.classes, seed=seed)
    pieces, thresholds = [], []
    for fold in sorted(set(tested["fold"])):
        known = known_to_fold(validation, test, fold)
        validated = fit_ensemble(method, known, card.classes, seed=seed).combine(known)
        calibration = _calibration(validated, card)
        thresholds.append(_threshold(_calibrated(validated, calibration, card), card))
        pieces.append(_calibrated(tested[tested["fold"] == fold], calibration, card))
    return ensemble, pd.concat(pieces, ignore_index=True), thresholds


def _calibration(table: pd.DataFrame, card: Card) -> Calibration:
    labels = table["label"].map({name: index for index, name in enumerate(card.classes)}).to_numpy(int)
    logits = log_odds(table[list(card.classes)].to_numpy())
    return fit_calibration(logits, labels, table["patient"].astype(str).tolist())


def _calibrated(table: pd.DataFrame, calibration: Calibration, card: Card) -> pd.DataFrame:
    probabilities = calibration.probabilities(log_odds(table[list(card.classes)].to_numpy()))
    return table.assign(**{name: probabilities[:, index].round(6) for index, name in enumerate(card.classes)})


def _threshold(table: pd.DataFrame, card: Card) -> float:
    return choose_threshold(
        (table["label"] == card.positive).to_numpy(),
        table[card.positive].to_numpy(),
        table["patient"].astype(str).to_numpy(),
    )


def _scores(card: Card, which: str) -> pd.DataFrame:
    table = read_test_scores(card) if which == "test" else read_validation_scores(card)
    if table is None:
        raise ModelUnavailable(f"{card.model_id} has no {which} scores beside its card, so it cannot be combined.")
    return table


def _require_equal_settings(cards: Sequence[Card]) -> None:
    first = cards[0]
    for card in cards[1:]:
        if (card.modality, card.classes, card.positive) != (first.modality, first.classes, first.positive):
            raise InvalidInput(f"{card.model_id} and {first.model_id} do not tell the same classes apart.")
    if any(card.architecture == "ensemble" for card in cards):
        raise InvalidInput("An ensemble cannot be a member of an ensemble. Name its members instead.")


def leading(cards: Sequence[Card], weights: Sequence[float]) -> Card:
    """The member whose maps are shown: that with the greatest weight, the first where none has one."""
    return cards[list(weights).index(max(weights))] if weights else cards[0]


def _limits(first: Card, cards: Sequence[Card], leading: Card) -> list[str]:
    limits = ["It is no better than the sum of its members' limits: read their cards, too."]
    if any(card.data.leaks for card in cards):
        limits.insert(0, "The split of its members leaks. Its numbers are too good and say nothing of new patients.")
    shared = [limit for limit in first.limits if not limit.startswith("Weak")]
    limits += [limit for limit in shared if all(limit in card.limits for card in cards)]
    return list(dict.fromkeys([*limits, *map_limits(leading.localisation)]))


def _leaks(cards: Sequence[Card]) -> dict[str, Any]:
    """`data.leaks` of an ensemble: every leak of a member once; {} where none is known to leak."""
    found = {leak.sentence: leak for card in cards for leak in card.data.leaks or ()}
    return {"leaks": [leak.model_dump(mode="json", exclude_unset=True) for leak in found.values()]} if found else {}


def ensemble_title(model_id: str, modality: str, n_members: int, method: str) -> str:
    """ "Ensemble of 2 (weighted voting)", with what tells it from others after a comma."""
    own = own_name(model_id, modality, "ensemble")
    return f"Ensemble of {n_members} ({WORDS[method]}{f', {own}' if own else ''})"


def _card(
    first: Card, cards: Sequence[Card], ensemble: Ensemble, calibration: Calibration, threshold: float, name: str
) -> dict[str, Any]:
    members = [{"model_id": card.model_id, "weights_sha256": card.weights_sha256} for card in cards]
    description = ensemble.on_card()
    identity = json.dumps([members, description, calibration.slope, list(calibration.biases)], sort_keys=True)
    words = WORDS[ensemble.method]
    return {
        "model_id": name,
        "title": ensemble_title(name, first.modality.value, len(cards), ensemble.method),
        "architecture": "ensemble",
        "description": f"{words.capitalize()} over {', '.join(card.title for card in cards)}.",
        "modality": first.modality.value,
        "created": datetime.now(UTC).date().isoformat(),
        "software": dict(versions()),
        "classes": list(first.classes),
        "positive": first.positive,
        "reported_as": first.reported_as,
        "weights": {
            "sha256": hashlib.sha256(identity.encode()).hexdigest(),
            "files": [],
            "bytes": 0,
            "storage": "those of its members",
        },
        "members": members,
        "ensemble": description,
        "input": {
            "side": max(card.side for card in cards),
            "channels": first.channels,
            "preprocessing": "each member's own",
        },
        "data": first.data.model_dump(mode="json", exclude_unset=True) | _leaks(cards),
        "initialisation": f"fitted models: {', '.join(card.model_id for card in cards)}",
        "seeds": sorted({seed for card in cards for seed in card.seeds}),
        "calibration": calibration_on_card(calibration, len(first.classes), ensemble.validation_n),
        "threshold": {"value": threshold, "rule": THRESHOLD_RULE},
        "localisation": leading(cards, ensemble.weights).content().get("localisation", {}),
        "data_licence": first.data_licence,
    }


def is_made(members: Sequence[str], method: Method, weights_dir: Path, *, name: str) -> bool:
    """Whether that ensemble is there, of these members as they are now."""
    try:
        card = read_card(weights_dir / name)
        hashes = [read_card(weights_dir / member).weights_sha256 for member in members]
    except ModelUnavailable:
        return False
    made_of = [(member.model_id, member.weights_sha256) for member in card.members]
    same_method = card.ensemble is not None and card.ensemble.method == method
    return same_method and made_of == list(zip(members, hashes, strict=True))
