"""The gate of the outline network: a trained one beside the live one on the test pictures of both, and its promotion.

Each was measured on its own test pictures when it was trained, which are of patients that it learnt nothing from. So
on the pictures that are in both tables neither has an advantage. Where they share none, nothing is compared, and that
needs a written reason like every other line that is crossed.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any

from core.evaluation.outline_comparison import OutlineDifference, outline_checks, outline_differences, shared_cases
from core.evaluation.promotion import FailedCheck
from core.models.live import OUTLINE_NETWORK
from core.models.outline_card import OutlineCard, candidate_outline_cards, live_outline_card, read_outline_cases
from core.records import site_settings
from core.records.database.db import Database
from core.records.people.permissions import Actor, require_permission_now
from core.records.releases import decisions


@dataclass(frozen=True, slots=True)
class OutlineExamination:
    """Everything an administrator decides on. live: None where no network outlines. n_tested: the candidate's test
    pictures, of which `differences` are on the n_shared that the live one was tested on, too; on all of them where
    n_shared is 0.
    """

    candidate: OutlineCard
    live: OutlineCard | None
    n_tested: int
    n_shared: int
    differences: tuple[OutlineDifference, ...]
    notes: tuple[str, ...]
    lines: tuple[FailedCheck, ...]

    @property
    def live_sha256(self) -> str | None:
        """What the candidate would replace."""
        return self.live.weights_sha256 if self.live is not None else None


def outline_candidates(db: Database, actor: Actor) -> list[OutlineCard]:
    """The trained outline networks in the state folder that are not live. Raises NotAllowed."""
    require_permission_now(db, actor, "manage_releases")
    live_sha256 = decisions.live_now(db, actor, OUTLINE_NETWORK)
    found = {card.weights_sha256: card for card in candidate_outline_cards(db.settings) if card.has_weights}
    return [card for sha256, card in found.items() if sha256 != live_sha256]


def examine_outline(db: Database, actor: Actor, weights_sha256: str) -> OutlineExamination:
    """Compare a trained outline network with the live one.

    Raises NotAllowed, NotFound, ModelUnavailable; InvalidInput where the two were measured against another truth.
    """
    require_permission_now(db, actor, "manage_releases")
    candidate = decisions.find_outline_candidate(db.settings, weights_sha256)
    live = live_outline_card(db.settings)
    if live is not None and not live.has_weights:
        live = None  # it outlines nothing
    cases, notes = read_outline_cases(candidate), []
    own, other = cases, None
    if live is not None:
        own, other = shared_cases(cases, read_outline_cases(live))
        if len(own) < len(cases):
            notes.append(f"Compared on {len(own)} of the candidate's {len(cases)} test pictures: the live network was "
                         "not tested on the others, or learnt from them.")  # fmt: skip
        if live.data.sha256 != candidate.data.sha256:
            notes.append("The two were trained from different lists of pictures. Which pictures are the same is known "
                         "by their file names alone.")  # fmt: skip
    is_compared = other is not None and len(own) > 0
    if live is not None and not is_compared:
        own, other = cases, None
    found = outline_differences(own, other)
    margin = site_settings.current(db).sensitivity_margin_percent / 100
    lines = outline_checks(
        found, leaks=tuple(leak.sentence for leak in candidate.data.leaks or ()), has_live=live is not None,
        is_compared=is_compared, margin=margin,
    )  # fmt: skip
    return OutlineExamination(candidate, live, len(cases), len(own) if is_compared else 0, found, tuple(notes), lines)


def promote_outline(
    db: Database, actor: Actor, weights_sha256: str, *, live_sha256: str | None, reason: str, passed: Mapping[str, str]
) -> None:
    """Let a trained outline network outline from the next page on, in place of the live one.

    live_sha256: what the actor saw as live, None for nothing. passed: red line -> the written reason to pass it; every
    line that is crossed now needs one. Raises NotAllowed, NotFound, InvalidInput, Conflict, ModelUnavailable.
    """
    require_permission_now(db, actor, "manage_releases")
    found = examine_outline(db, actor, weights_sha256)
    decisions.require_unchanged(found.live_sha256, live_sha256)
    reasons = decisions.reasons_to_pass(found.lines, passed)
    decisions._promote(
        db, actor, weights_sha256, live_sha256=live_sha256, reason=reason, passed=reasons, evidence=_evidence(found)
    )


def _evidence(found: OutlineExamination) -> dict[str, Any]:
    """The numbers that are kept with the decision."""
    numbers = {
        one.key: {
            name: asdict(value)
            for name, value in (("candidate", one.candidate), ("live", one.live), ("difference", one.difference))
            if value is not None
        }
        for one in found.differences
    }
    return {
        "cases": found.n_shared or found.n_tested,
        "compared_with": {"model": OUTLINE_NETWORK, "weights_sha256": found.live_sha256} if found.n_shared else None,
        "measures": numbers,
        "red_lines": {line.key: line.sentence for line in found.lines},
        "notes": list(found.notes),
    }
