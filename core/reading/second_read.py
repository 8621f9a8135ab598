"""The second read of a study: which models are asked, against which thresholds, what is kept, and who is shown it.

For pages, the command line and tests alike. Loads no TensorFlow by itself: `core.serving.inference` answers.
"""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field
from enum import Enum
from functools import partial

from core.errors import AppError, ModelUnavailable
from core.findings.marks import Mark
from core.findings.proposals import Proposal, measured_levels, peaks_of
from core.findings.sketches import proposal_uid
from core.imaging.preprocess import heat_map
from core.models.aggregate import BreastScore, per_breast
from core.models.cards import (
    Card,
    candidate_cards,
    known_cards,
    live_cards,
    no_opinion_text,
    shadow_cards,
    withheld_cards,
)
from core.models.lead import lead_of
from core.models.operating_point import OperatingPoint, held_against
from core.models.outline_card import live_outline_card
from core.records.database.db import Database
from core.records.people.permissions import SignedIn
from core.records.reads import predictions
from core.records.reads.studies import StoredImage, StoredStudy
from core.records.releases import shadows
from core.records.site_settings import current, points_here
from core.serving.desk import Urgency
from core.serving.inference import OnWait, inference
from core.settings import Settings
from core.types import Explanation, Image, Modality, Prediction

log = logging.getLogger(__name__)

Answer = tuple[str, Prediction, Explanation]
"""What one model said of the image with this id."""
Work = Sequence[tuple[Card, StoredImage]]
"""Which models are to read which images."""

Task = tuple[str, str, int, str | None, str | None, Modality | None]
"""Weights and image, with all of it that a reader can correct: an answer to what it was before is none."""


@dataclass(slots=True)
class _Ahead:
    """What was asked for ahead of one study: task -> the key of its answer, "" as long as it is being prepared or where
    it was refused. n_begun: threads that prepare."""

    keys: dict[Task, str] = field(default_factory=dict)
    n_begun: int = 0


_AHEAD_MOST = 256
_AHEAD_LOCK = threading.Lock()
_AHEAD: dict[str, _Ahead] = {}
"""Of the last studies that the models were asked about ahead: a page is drawn anew at every click."""
_SHADOWS = threading.Lock()
"""One study after the other: nobody waits for shadow models, and they must not slow down those who read."""


class Stage(Enum):
    """How far the second read of a study is, before anybody may see it."""

    WARMING = "models warming up"
    QUEUED = "place in the queue"
    COMPUTING = "being computed"
    SEALED = "ready"
    ON_REQUEST = "models ready"


@dataclass(frozen=True, slots=True)
class Readiness:
    """place: from 1, in the queue, counted in images; 0 where nothing of others goes before."""

    stage: Stage
    place: int = 0

    @property
    def is_settled(self) -> bool:
        """Whether it stays so until the reader asks."""
        return self.stage in (Stage.SEALED, Stage.ON_REQUEST)


def read_image(
    card: Card,
    image: Image,
    point: OperatingPoint | None = None,
    *,
    urgency: Urgency = Urgency.READER,
    on_wait: OnWait = lambda place: None,
) -> tuple[Prediction, Explanation]:
    """What a model says of an image, against the threshold of `point` (the card's own without one).

    The first call may load the model (seconds). on_wait: is told the place in the queue while others go before. Raises
    ModelUnavailable; InvalidInput for an image of another modality.
    """
    prediction, explanation = inference().read(card, image, urgency, on_wait)
    return (prediction if point is None else held_against(prediction, point)), explanation


def cards_for(image: Image, cards: Iterable[Card]) -> list[Card]:
    """The models among these that read such an image."""
    return [card for card in cards if image.is_read_by(card.modality)]


def unanswered(site: Settings, study: StoredStudy, answers: Sequence[Answer]) -> list[tuple[Card, StoredImage]]:
    """The live models that have not read an image of their modality yet, model by model.

    Once it is final for whoever reads, no model is asked any more: what is shown is what they saw. Neither is one after
    another's final read that saw an answer; one that saw none leaves whoever still reads their second read.
    """
    if study.is_final_for_me or (study.row.state == "final" and answers):
        return []
    answered = {(image_id, prediction.model_id) for image_id, prediction, _ in answers}
    return [
        (card, stored) for card, stored in _work(live_cards(site), study) if (stored.id, card.model_id) not in answered
    ]


def ask(
    db: Database,
    study: StoredStudy,
    work: Work,
    progress: Callable[[int, Card], None],
    on_wait: Callable[[int, Card, int], object] = lambda number, card, place: None,
) -> dict[str, str]:
    """Have each model read each image and keep what it said, against the threshold that counts at this site now.

    progress: is told the number of each answer, from 0, and whose it will be. A model that cannot answer does not keep
    the others from answering: the result is title -> why it could not. on_wait: is told the same while the answer is
    waited for, and how many images of others go before. Shadow models read afterwards by themselves.
    """
    _forget_retired(db)
    refusals: dict[str, str] = {}
    points = points_here(db, tuple({card.weights_sha256: card for card, _ in work}.values()))
    for number, (card, stored) in enumerate(work):
        progress(number, card)
        try:
            prediction, explanation = read_image(
                card, stored.image, points[card.weights_sha256], on_wait=partial(on_wait, number, card)
            )
            predictions.record_predictions(db, study.row.id, stored.id, prediction, explanation, as_read=stored.image)
        except AppError as refused:
            refusals[card.title] = str(refused)
    ask_shadow_models(db, study)
    return refusals


def compute_ahead(db: Database, study: StoredStudy) -> threading.Thread | None:
    """Have the models read while the reader forms a first impression, so that their answers are there once asked for.

    What they say lies in the memory of whatever computes and nowhere else: nothing is recorded or told before `ask`
    asks for it. Each image as it is read now (side, view, frame) once; None where the site does not want it or there is
    nothing to do.
    """
    site = current(db)
    work = unanswered(site, study, []) if site.compute_ahead and not study.pixels_removed_at else []
    with _AHEAD_LOCK:
        ahead = _AHEAD.get(study.row.id, _Ahead())
        work = [one for one in work if _task(*one) not in ahead.keys]
        if not work:
            return None
        _AHEAD[study.row.id] = ahead
        ahead.keys.update({_task(*one): "" for one in work})
        ahead.n_begun += 1
        while len(_AHEAD) > _AHEAD_MOST:
            _AHEAD.pop(next(iter(_AHEAD)))

    def prepare_all() -> None:
        try:
            for card, stored in work:
                ahead.keys[_task(card, stored)] = inference().ahead(card, stored.image)
        except Exception as error:  # a thread's outermost loop; the models are asked again when the reader asks
            log.info("the models were not asked ahead: %s", type(error).__name__)
        finally:
            with _AHEAD_LOCK:
                ahead.n_begun -= 1

    thread = threading.Thread(target=prepare_all, name="ahead", daemon=True)
    thread.start()
    return thread


def tasks_of(site: Settings, study: StoredStudy) -> tuple[Task, ...]:
    """What has to be answered before the second read is there; nothing where no model reads the study."""
    return tuple(_task(card, stored) for card, stored in unanswered(site, study, []))


def readiness(study_id: str, tasks: Sequence[Task]) -> Readiness:
    """How far the second read of a study is, with nothing of what it says. tasks: of `tasks_of`."""
    with _AHEAD_LOCK:
        ahead = _AHEAD.get(study_id, _Ahead())
        keys = [key for task in tasks if (key := ahead.keys.get(task))]
        is_preparing = ahead.n_begun > 0
    found = inference().standing(keys)
    if found is None:
        return Readiness(Stage.WARMING)
    if found.n_answered == len(tasks):
        return Readiness(Stage.SEALED)
    if found.n_waiting and found.n_before and not found.n_computing:
        return Readiness(Stage.QUEUED, found.n_before + 1)
    is_first = found.is_warming and not found.n_answered
    if not is_first and (found.n_waiting or found.n_computing or is_preparing):
        return Readiness(Stage.COMPUTING)
    return Readiness(Stage.WARMING if is_first else Stage.ON_REQUEST)


def ask_shadow_models(db: Database, study: StoredStudy) -> threading.Thread | None:
    """Have the shadow models read the study too, in a thread, without anybody waiting for them or seeing them."""
    work = _work(shadow_cards(current(db)), study)
    if not work:
        return None

    def read_all() -> None:
        for card, stored in work:
            try:
                with _SHADOWS:
                    prediction, _ = read_image(card, stored.image, urgency=Urgency.BACKGROUND)
                shadows.record_shadow_answer(db, study.row.id, stored.id, prediction)
            except Exception as error:  # a thread's outermost loop; a shadow model's failure stops no reader
                log.error("shadow model %s: %s", card.weights_sha256[:8], type(error).__name__, exc_info=error)

    thread = threading.Thread(target=read_all, name="shadow models", daemon=True)
    thread.start()
    return thread


def answers_of(db: Database, person: SignedIn, study: StoredStudy) -> list[Answer]:
    """What the models said of the study: by image, and for each image in the order of the cards.

    Raises Conflict, with a sentence, while the reader may not see it; NotAllowed, NotFound.
    """
    found = predictions.predictions_of(db, person, study.row.id)
    order = {model_id: place for place, model_id in enumerate(titles(current(db)))}
    places = {stored.id: place for place, stored in enumerate(study.images)}
    return sorted(found, key=lambda answer: (places[answer[0]], order.get(answer[1].model_id, len(order))))


def titles(site: Settings) -> dict[str, str]:
    """Model id -> title, for every model that may have answered, in the order of the cards; a live card's counts."""
    found: dict[str, str] = {}
    for card in known_cards(site):
        found.setdefault(card.model_id, card.title)
    return found


def titles_among(site: Settings, study: StoredStudy, answers: Sequence[Answer]) -> dict[str, str]:
    """The same, with the kind of image behind the title of each model that answered where they read several kinds."""
    kinds = {stored.id: stored.image.modality for stored in study.images}
    read = {prediction.model_id: kinds[image_id] for image_id, prediction, _ in answers}
    found = titles(site)
    if len(set(read.values())) < 2:
        return found
    return found | {model_id: f"{found.get(model_id, model_id)}, {kind}" for model_id, kind in read.items()}


def no_opinions(site: Settings, images: Iterable[Image]) -> dict[Modality, str]:
    """The modalities of these images that no model answers for, each with a sentence that says why."""
    live = {card.modality for card in live_cards(site)}
    silent = sorted({image.modality for image in images if image.modality} - live)
    withheld = withheld_cards(site) if silent else ()
    return {modality: no_opinion_text(modality, withheld) for modality in silent}


def leads_of(site: Settings, study: StoredStudy, answers: Sequence[Answer]) -> dict[Modality | None, str]:
    """Modality -> id of the model whose number and heat map stand first, among those that answered its images."""
    answered: dict[Modality, set[str]] = {}
    for stored in study.images:
        if stored.image.modality:
            own = {prediction.model_id for image_id, prediction, _ in answers if image_id == stored.id}
            answered.setdefault(stored.image.modality, set()).update(own)
    found = {modality: lead_of(site, modality, own) for modality, own in answered.items()}
    return {modality: lead.model_id for modality, lead in found.items() if lead}


def breast_scores(study: StoredStudy, answers: Sequence[Answer]) -> list[BreastScore]:
    """The breasts' numbers, as `core.models.aggregate` makes them."""
    said = [[prediction for image_id, prediction, _ in answers if image_id == stored.id] for stored in study.images]
    return per_breast([stored.image for stored in study.images], said)


def explanations_by_image(study: StoredStudy, answers: Sequence[Answer]) -> list[dict[str, Explanation]]:
    """For each image of the study, weights sha256 -> explanation."""
    return [
        {
            prediction.weights_sha256: explanation
            for image_id, prediction, explanation in answers
            if image_id == stored.id
        }
        for stored in study.images
    ]


def _task(card: Card, stored: StoredImage) -> Task:
    image = stored.image
    return card.weights_sha256, stored.id, image.frame, image.laterality, image.view, image.modality


def _work(cards: Iterable[Card], study: StoredStudy) -> list[tuple[Card, StoredImage]]:
    return [(card, stored) for card in cards for stored in study.images if cards_for(stored.image, [card])]


def _forget_retired(db: Database) -> None:
    """Leave no network in memory that nobody can ask any more; a candidate can be asked until its files are removed."""
    site = current(db)
    cards = (*live_cards(site), *shadow_cards(site), *candidate_cards(site))
    members = {named.weights_sha256 for card in cards for named in card.members}
    try:
        outline = live_outline_card(site)
    except ModelUnavailable:
        outline = None
    known = {card.weights_sha256 for card in cards} | members | ({outline.weights_sha256} if outline else set())
    inference().forget_all_but(frozenset(known))


def proposals_of(site: Settings, study: StoredStudy, answers: Sequence[Answer]) -> dict[str, Proposal]:
    """The peaks of each lead's heat map on the images that it calls, in the order of the images, by the ids of their
    marks.

    answers: as `second_read.answers_of` gives them, so only of what the reader may see; without them there are none,
    and none of a model whose level was not measured. Always the same for the same answers.
    """
    leads = leads_of(site, study, answers)
    found: dict[str, Proposal] = {}
    for stored in study.images:
        for image_id, prediction, explanation in answers:
            level = measured_levels().get(prediction.weights_sha256)
            is_lead = prediction.model_id == leads.get(stored.image.modality)
            if image_id != stored.id or not is_lead or level is None or not prediction.is_above_threshold:
                continue
            if stored.pixels_removed_at:
                continue
            heat = heat_map(explanation, "fused", explanation.positive_index)
            sha256, frame, weights = stored.image.sha256, stored.image.frame, prediction.weights_sha256
            for number, peak in enumerate(peaks_of(heat, level.level)):
                mark = Mark(sha256, frame, "point", ((peak.column, peak.row),))
                one = Proposal(mark, prediction.model_id, weights, peak.strength, level.level)
                found[proposal_uid(mark.kind, weights, sha256, frame, number)] = one
    return found
