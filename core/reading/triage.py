"""The order of the worklist by what models say of studies that nobody has read, at a site that turned it on.

The leading model of each kind of picture reads them in a thread of its own, behind every reader. What it says is stored
as any answer is and stays hidden until the reader asks; only the order is told.
"""

from __future__ import annotations

import logging
import threading
from collections.abc import Mapping, Sequence

from core.models.aggregate import BreastScore
from core.models.cards import Card, live_cards
from core.models.lead import lead_of
from core.records.database.db import Database
from core.records.people.permissions import SignedIn
from core.records.reads import predictions, studies
from core.records.site_settings import current, points_here
from core.serving.desk import Urgency
from core.settings import Settings

log = logging.getLogger(__name__)

TRIAGE_NOTE = "The worklist of this site may be ordered by the models' answers before a first impression is saved."
AT_ONCE = 20
_ONE = threading.Lock()
"""One thread a process: whoever looks at the worklist next goes on with the rest."""


def is_on(site: Settings) -> bool:
    """Whether the site turned it on."""
    return site.worklist_triage == "on"


def urgencies(db: Database, person: SignedIn, study_ids: Sequence[str]) -> Mapping[str, tuple[bool, float]]:
    """Study -> (whether its leading model's number of a breast reaches the threshold, the highest such number), of the
    studies that it has answered. Raises NotAllowed; Conflict where the site did not turn it on."""
    site = current(db)
    found = {}
    for study_id, scores in predictions.scores_for_triage(db, person, study_ids).items():
        own = [score for score in scores if _is_of_lead(site, score, scores)]
        if own:
            found[study_id] = max((score.is_above_threshold, score.malignant) for score in own)
    return found


def answer_waiting(db: Database, person: SignedIn, study_ids: Sequence[str]) -> threading.Thread | None:
    """Have the leads read the first of these studies that they have not read; None where that is done or under way."""
    from core.reading.second_read import cards_for, read_image  # statistics load where models are asked

    known = predictions.scores_for_triage(db, person, study_ids)
    waiting = [study_id for study_id in study_ids if study_id not in known][:AT_ONCE]
    cards = _leads(current(db))
    if not waiting or not cards or not _ONE.acquire(blocking=False):
        return None

    def read_all() -> None:
        try:
            points = points_here(db, tuple(cards))
            for study_id in waiting:
                for stored in studies.load_study(db, person, study_id).images:
                    for card in cards_for(stored.image, cards) if not stored.pixels_removed_at else ():
                        said = read_image(card, stored.image, points[card.weights_sha256], urgency=Urgency.BACKGROUND)
                        predictions.record_predictions(db, study_id, stored.id, *said, as_read=stored.image)
        except Exception as error:  # a thread's outermost loop: what is left stands last in the order
            log.info("the models did not answer ahead of readers: %s", type(error).__name__)
        finally:
            _ONE.release()

    thread = threading.Thread(target=read_all, name="triage", daemon=True)
    thread.start()
    return thread


def _leads(site: Settings) -> list[Card]:
    leads = {lead.model_id for card in live_cards(site) if (lead := lead_of(site, card.modality))}
    return [card for card in live_cards(site) if card.model_id in leads]


def _is_of_lead(site: Settings, score: BreastScore, scores: Sequence[BreastScore]) -> bool:
    if score.modality is None or not score.is_whole:
        return False
    lead = lead_of(site, score.modality, {one.model_id for one in scores if one.modality is score.modality})
    return lead is not None and lead.model_id == score.model_id
