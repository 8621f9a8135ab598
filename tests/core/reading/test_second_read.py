"""The second read of a study as page, command and tests call it: who is asked, against what, what is kept."""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import replace

import numpy as np
import pytest
from record_site import CALM, add_person, answer, explanation, picture, sqlite_only
from release_site import MODEL, SHIPPED, add_candidate, candidate, promote
from sqlalchemy import func, select

from core.errors import Conflict, ModelUnavailable
from core.models import loaded
from core.models.cards import Card, live_cards
from core.models.loaded import LoadedModels
from core.models.prepared import Prepared
from core.reading import second_read
from core.reading.second_read import Readiness, Stage
from core.records import site_settings
from core.records.database import tables
from core.records.database.db import Database
from core.records.people.permissions import Person
from core.records.reads import reads, studies
from core.records.reads.studies import StoredStudy
from core.records.releases import decisions
from core.serving import inference
from core.serving.desk import Desk, Standing
from core.types import Explanation, Image, Modality, Prediction

BROKEN = "ultrasound-fusion"


class Reader:
    """Answers 0.8 to every image, with the weights and the threshold of its card."""

    n_bytes = 1

    def __init__(self, card: Card) -> None:
        if card.model_id == BROKEN:
            raise ModelUnavailable("The weights are damaged. Fetch them again.")
        self.card = card

    def read(self, image: Image) -> tuple[Prediction, Explanation]:
        said = answer(image, model_id=self.card.model_id, weights=self.card.weights_sha256)
        return replace(said, threshold=self.card.threshold), explanation()


@pytest.fixture
def admin(records: Database, monkeypatch: pytest.MonkeyPatch) -> Person:
    monkeypatch.setattr(inference, "load_model", Reader)
    return add_person(records, "Ada", "administrator", "radiologist")


def begun(db: Database, person: Person, *images: Image) -> StoredStudy:
    study_id = studies.create_study(db, person, display_name="x", images=images)
    reads.record_first_read(db, person, study_id, {"R": CALM})
    reads.reveal(db, person, study_id)
    return studies.load_study(db, person, study_id)


def quietly(number: int, card: Card) -> None:
    """No bar."""


@sqlite_only
def test_live_models_of_the_modality_answer_once_and_one_that_cannot_keeps_nobody_from_it(
    records: Database, admin: Person
) -> None:
    study = begun(records, admin, picture(1), picture(2))
    live = [card for card in live_cards(records.settings) if card.modality is Modality.ULTRASOUND]
    work = second_read.unanswered(records.settings, study, [])
    assert [(card.model_id, stored.id) for card, stored in work] == [
        (card.model_id, stored.id) for card in live for stored in study.images
    ]
    told: list[tuple[int, str]] = []
    refusals = second_read.ask(records, study, work, lambda number, card: told.append((number, card.model_id)))
    assert list(refusals.values()) == ["The weights are damaged. Fetch them again."]
    assert told == [(number, card.model_id) for number, (card, _) in enumerate(work)]
    answers = second_read.answers_of(records, admin, study)
    able = [card.model_id for card in live if card.model_id != BROKEN]
    assert [(image_id, said.model_id) for image_id, said, _ in answers] == [
        (stored.id, model_id) for stored in study.images for model_id in able
    ]
    left = second_read.unanswered(records.settings, study, answers)
    assert {card.model_id for card, _ in left} == {BROKEN} and len(left) == 2
    reads.record_final_read(records, admin, study.row.id, {"R": CALM}, "")
    assert second_read.unanswered(records.settings, studies.load_study(records, admin, study.row.id), answers) == []


@sqlite_only
def test_answers_are_held_against_the_threshold_that_the_site_chose(records: Database, admin: Person) -> None:
    study = begun(records, admin, picture(1))
    site_settings.choose(records, admin, "thresholds", "sensitivity")
    work = [(card, stored) for card, stored in second_read.unanswered(records.settings, study, []) if card == SHIPPED]
    second_read.ask(records, study, work, quietly)
    ((_, said, _),) = second_read.answers_of(records, admin, study)
    point = site_settings.points_here(records, (SHIPPED,))[SHIPPED.weights_sha256]
    assert (said.threshold, said.threshold_rule) == (point.threshold, point.rule) and said.threshold_rule
    assert second_read.read_image(SHIPPED, picture(1))[0].threshold == SHIPPED.threshold.value


@sqlite_only
def test_a_modality_without_a_live_model_is_named_and_asks_nobody(records: Database, admin: Person) -> None:
    for card in live_cards(records.settings):
        if card.modality is Modality.HISTOLOGY:
            decisions.retire(records, admin, card.model_id, live_sha256=card.weights_sha256, reason="x")
    study = begun(records, admin, picture(1), picture(2, modality=Modality.HISTOLOGY), picture(3, modality=None))
    silent = second_read.no_opinions(records.settings, [stored.image for stored in study.images])
    # One that was measured on BreakHis is left, which may be no better than chance.
    assert (
        list(silent) == [Modality.HISTOLOGY]
        and "the 1 model here may be no better than chance (AUC 0.69, " in (silent[Modality.HISTOLOGY])
    )
    work = second_read.unanswered(records.settings, study, [])
    assert {stored.id for _, stored in work} == {study.images[0].id}


@sqlite_only
def test_a_promotion_between_two_images_leaves_a_breast_with_two_scores_and_forgets_the_old_model(
    records: Database, admin: Person, monkeypatch: pytest.MonkeyPatch
) -> None:
    models = LoadedModels(Reader)  # type: ignore[arg-type]
    monkeypatch.setattr(loaded, "MODELS", models)
    monkeypatch.setattr(inference, "MODELS", models)
    monkeypatch.setattr(inference, "load_model", loaded.load_model)
    study = begun(records, admin, picture(1), picture(2))

    def ask_about(position: int) -> None:
        found = second_read.unanswered(records.settings, study, second_read.answers_of(records, admin, study))
        work = [(card, stored) for card, stored in found if card.model_id == MODEL and stored == study.images[position]]
        assert second_read.ask(records, study, work, quietly) == {}

    ask_about(0)
    assert models.held == (SHIPPED.weights_sha256,)
    job_id = add_candidate(records, admin, 1)
    promote(records, admin, job_id)
    new = candidate(records, job_id).weights_sha256
    ask_about(1)
    assert models.held == (new,)
    found = second_read.breast_scores(study, second_read.answers_of(records, admin, study))
    assert [(score.weights_sha256, score.n_images, score.is_whole) for score in found] == [
        (SHIPPED.weights_sha256, 1, False), (new, 1, False),
    ]  # fmt: skip


@pytest.mark.parametrize("kind", [None, Modality.MAMMOGRAPHY])
def test_only_models_of_the_images_own_kind_read_it(kind: Modality | None) -> None:
    image = Image(np.zeros((4, 4), np.float32), "a" * 64, kind)
    assert second_read.cards_for(image, [SHIPPED]) == []
    assert second_read.cards_for(replace(image, modality=Modality.ULTRASOUND), [SHIPPED]) == [SHIPPED]


@pytest.mark.parametrize(
    ("found", "expected"),
    [
        (None, Readiness(Stage.WARMING)),
        (Standing(is_warming=True), Readiness(Stage.WARMING)),
        (Standing(n_computing=1, n_waiting=1, is_warming=True), Readiness(Stage.WARMING)),
        (Standing(n_waiting=2, n_before=3, is_warming=True), Readiness(Stage.QUEUED, 4)),
        (Standing(n_waiting=1, n_computing=1, n_before=2), Readiness(Stage.COMPUTING)),
        (Standing(n_answered=1, n_waiting=1, is_warming=True), Readiness(Stage.COMPUTING)),
        (Standing(n_answered=1), Readiness(Stage.ON_REQUEST)),
        (Standing(n_answered=2, is_warming=True), Readiness(Stage.SEALED)),
        (Standing(), Readiness(Stage.ON_REQUEST)),
    ],
)
def test_how_far_the_second_read_is(
    monkeypatch: pytest.MonkeyPatch, found: Standing | None, expected: Readiness
) -> None:
    monkeypatch.setattr(inference.Here, "standing", lambda self, keys: found)
    tasks = [("w", name, 0, None, None, None) for name in ("one", "two")]
    assert second_read.readiness("a study", tasks) == expected


@sqlite_only
def test_what_is_computed_ahead_is_sealed_until_the_reader_asks_and_then_there_at_once(
    records: Database, admin: Person, monkeypatch: pytest.MonkeyPatch
) -> None:
    computed: list[str] = []

    def compute(card: Card, batch: Sequence[Prepared], _: Desk) -> list[tuple[Prediction, Explanation]]:
        for one in batch:
            computed.append(f"{card.model_id} {one.image_sha256[:8]}")
        said = answer(picture(1), model_id=card.model_id, weights=card.weights_sha256)
        return [(replace(said, image_sha256=one.image_sha256), explanation()) for one in batch]

    monkeypatch.setattr(inference, "compute", compute)
    study_id = studies.create_study(records, admin, display_name="x", images=[picture(1), picture(2)])
    study = studies.load_study(records, admin, study_id)
    tasks = second_read.tasks_of(records.settings, study)
    assert second_read.readiness(study_id, tasks) == Readiness(Stage.ON_REQUEST), (
        "of commands, which compute on request"
    )
    with inference.inside():
        site_settings.choose(records, admin, "compute_ahead", False)
        assert second_read.compute_ahead(records, study) is None, "a site may not want it"
        site_settings.back_to_default(records, admin, "compute_ahead")
        with records.read() as connection:
            before = connection.execute(select(func.count()).select_from(tables.audit)).scalar_one()
        thread = second_read.compute_ahead(records, study)
        assert thread is not None
        thread.join(30)
        work = second_read.unanswered(records.settings, study, [])
        deadline = time.monotonic() + 30
        while not (now := second_read.readiness(study_id, tasks)).is_settled and time.monotonic() < deadline:
            time.sleep(0.01)
        assert now == Readiness(Stage.SEALED) and len(computed) == len(work) == len(tasks)
        assert second_read.compute_ahead(records, study) is None, "once as it is read"
        other = replace(study, images=(replace(study.images[0], image=replace(picture(1), laterality="L")),))
        other_tasks = second_read.tasks_of(records.settings, other)
        assert second_read.readiness(study_id, other_tasks).stage is Stage.ON_REQUEST, "no answer to another side"
        with records.read() as connection:
            assert connection.execute(select(func.count()).select_from(tables.audit)).scalar_one() == before
            assert connection.execute(select(tables.prediction)).all() == [], "no page, export or command has a row"
        with pytest.raises(Conflict):
            second_read.answers_of(records, admin, study)
        reads.record_first_read(records, admin, study_id, {"R": CALM})
        reads.reveal(records, admin, study_id)
        assert second_read.ask(records, study, work, quietly) == {}
        assert len(second_read.answers_of(records, admin, study)) == len(work) == len(computed), "none twice"
