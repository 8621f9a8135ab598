"""A candidate that runs silently: decided, recorded apart, compared later, and never where a reader could see it."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pandas as pd
import pytest
from record_site import CALM, add_person, answer, explanation, finish, picture, sqlite_only
from release_site import MODEL, SHIPPED, add_candidate, candidate, promote
from sklearn.metrics import roc_auc_score
from sqlalchemy import func, select

from core.errors import Conflict, InvalidInput, NotAllowed, NotFound
from core.evaluation.statistics.shadow import compare_shadow
from core.models.cards import live_cards, shadow_cards
from core.reading import second_read
from core.records.audit import trail
from core.records.database import tables
from core.records.database.db import Database
from core.records.people.permissions import Person
from core.records.reads import predictions, reads, studies
from core.records.releases import decisions, shadows
from core.serving import inference
from core.types import Image, Modality, Prediction


@pytest.fixture
def admin(records: Database) -> Person:
    return add_person(records, "Ada", "administrator", "radiologist")


def is_silent(db: Database) -> list[tuple[str, str]]:
    return [(card.model_id, card.weights_sha256) for card in shadow_cards(db.settings)]


def test_a_candidate_runs_silently_until_somebody_ends_it_and_the_live_model_stays(
    records: Database, admin: Person
) -> None:
    job_id = add_candidate(records, admin, 1)
    made = candidate(records, job_id).weights_sha256
    before = [card.weights_sha256 for card in live_cards(records.settings)]
    with pytest.raises(InvalidInput, match="Write down why"):
        decisions.start_shadow(records, admin, job_id, reason=" ")
    decisions.start_shadow(records, admin, job_id, reason="Look first.")
    assert is_silent(records) == [(MODEL, made)]
    assert [card.weights_sha256 for card in live_cards(records.settings)] == before
    assert decisions.live_now(records, admin, MODEL) == SHIPPED.weights_sha256
    with pytest.raises(Conflict, match="silently already"):
        decisions.start_shadow(records, admin, job_id, reason="Again.")
    decisions.end_shadow(records, admin, MODEL, made, reason="Seen enough.")
    assert is_silent(records) == []
    with pytest.raises(Conflict, match="do not run silently any more"):
        decisions.end_shadow(records, admin, MODEL, made, reason="Again.")
    actions = [entry.action for entry in trail.entries(records, admin)]
    assert actions[:2] == ["end shadow model", "shadow model"] and trail.verify(records).is_intact


def test_a_promoted_candidate_runs_silently_no_more(records: Database, admin: Person) -> None:
    job_id = add_candidate(records, admin, 1)
    decisions.start_shadow(records, admin, job_id, reason="Look first.")
    promote(records, admin, job_id, live_sha256=SHIPPED.weights_sha256, reason="Better.")
    assert is_silent(records) == []
    with pytest.raises(Conflict, match="live already"):
        decisions.start_shadow(records, admin, job_id, reason="Again.")


@sqlite_only
def test_only_an_administrator_decides_and_compares(records: Database, admin: Person) -> None:
    other = add_person(records, "Otto", "radiologist", "researcher")
    for act in (
        lambda: decisions.start_shadow(records, other, 1, reason="x"),
        lambda: decisions.end_shadow(records, other, MODEL, "a" * 64, reason="x"),
        lambda: shadows.shadow_answers(records, other, MODEL, "a" * 64),
        lambda: shadows.shadow_comparison(records, other, MODEL, "a" * 64),
    ):
        with pytest.raises(NotAllowed):
            act()


def test_silent_answers_are_kept_once_and_apart_and_go_with_a_deleted_study(records: Database, admin: Person) -> None:
    image = picture(1)
    study = studies.create_study(records, admin, display_name="x", images=[image])
    (stored,) = studies.load_study(records, admin, study).images
    said = answer(image, weights="f" * 64, malignant=0.6)
    for _ in range(2):
        shadows.record_shadow_answer(records, study, stored.id, said)
    with pytest.raises(NotFound):
        shadows.record_shadow_answer(records, study, "0" * 32, said)
    reads.record_first_read(records, admin, study, {"R": CALM})
    reads.reveal(records, admin, study)
    assert predictions.predictions_of(records, admin, study) == []  # nothing of it where a reader looks

    def retained() -> int:
        with records.read() as connection:
            return int(connection.execute(select(func.count()).select_from(tables.shadow_answer)).scalar_one())

    assert retained() == 1
    studies.delete_study(records, admin, study, reason="wrong upload")
    assert retained() == 0


@sqlite_only
def test_images_of_final_studies_that_both_read_are_compared(records: Database, admin: Person) -> None:
    expected = {}
    for number, pathology in enumerate(("malignant", "benign", None), start=1):
        study = finish(records, admin, number, pathology, suspicion=CALM)
        (stored,) = studies.load_study(records, admin, study).images
        said = replace(answer(stored.image, weights="f" * 64, malignant=0.15 * number), threshold=0.3)
        shadows.record_shadow_answer(records, study, stored.id, said)
        expected[stored.id] = (0.15 * number, pathology)  # the second is exactly at the threshold
    table = shadows.shadow_answers(records, admin, "model", "f" * 64)
    assert len(table) == 2  # the third is not final: somebody may still be reading it
    for row in table.itertuples():
        score, pathology = expected[row.case]
        assert row.shadow == pytest.approx(score) and row.live == 0.25
        assert row.label == (pathology == "malignant") and row.shadow_called == (score >= 0.3)
    found = shadows.shadow_comparison(records, admin, "model", "f" * 64)
    assert (found.n, found.studies, found.test) == (2, 2, None)
    assert shadows.shadow_comparison(records, admin, "model", "a" * 64).n == 0
    with records.begin() as connection:  # as if it ran under a name that nothing live has
        connection.execute(tables.shadow_answer.update().values(model_id="ours"))
    assert shadows.shadow_comparison(records, admin, "ours", "f" * 64).n == 0
    assert shadows.shadow_comparison(records, admin, "ours", "f" * 64, reference="model").n == 2


@sqlite_only
def test_a_silent_model_is_compared_with_one_network_the_one_that_answered_last(
    records: Database, admin: Person
) -> None:
    """A promotion halfway gives the live model other weights; two networks are not one scorer."""
    for number, weights in enumerate(("b" * 64, "b" * 64, "c" * 64), start=1):
        image = picture(number)
        study = studies.create_study(records, admin, display_name="x", images=[image])
        (stored,) = studies.load_study(records, admin, study).images
        said = answer(image, weights=weights, malignant=0.1 * number)
        predictions.record_predictions(records, study, stored.id, said, explanation())
        shadows.record_shadow_answer(records, study, stored.id, answer(image, weights="f" * 64))
        reads.record_first_read(records, admin, study, {"R": CALM})
        reads.record_final_read(records, admin, study, {"R": CALM}, "")
    assert shadows.shadow_answers(records, admin, "model", "f" * 64)["live"].tolist() == pytest.approx([0.3])


@sqlite_only
def test_studies_of_one_patient_are_one_patient_and_two_studies(records: Database, admin: Person) -> None:
    for number, patient in enumerate(("a" * 64, "a" * 64, None, None), start=1):
        image = picture(number, patient_hash=patient)
        study = studies.create_study(records, admin, display_name="x", images=[image])
        (stored,) = studies.load_study(records, admin, study).images
        predictions.record_predictions(records, study, stored.id, answer(image), explanation())
        shadows.record_shadow_answer(records, study, stored.id, answer(image, weights="f" * 64))
        reads.record_first_read(records, admin, study, {"R": CALM})
        reads.record_final_read(records, admin, study, {"R": CALM}, "")
    table = shadows.shadow_answers(records, admin, "model", "f" * 64)
    assert (table["study"].nunique(), table["patient"].nunique()) == (4, 3)
    assert table["patient"][0] == table["patient"][1] and not set(table["patient"]) & {"a" * 64, *table["study"]}
    assert shadows.shadow_comparison(records, admin, "model", "f" * 64).studies == 4


@pytest.mark.parametrize(("malignant", "is_called"), [(0.5, True), (0.4999, False)])
@sqlite_only
def test_a_score_at_its_threshold_is_called_of_the_live_and_of_the_shadow_model(
    records: Database, admin: Person, malignant: float, is_called: bool
) -> None:
    image = picture(1)
    study = studies.create_study(records, admin, display_name="x", images=[image])
    (stored,) = studies.load_study(records, admin, study).images
    said = answer(image, malignant=malignant)  # against a threshold of 0.5
    predictions.record_predictions(records, study, stored.id, said, explanation())
    shadows.record_shadow_answer(records, study, stored.id, replace(said, weights_sha256="f" * 64))
    reads.record_first_read(records, admin, study, {"R": CALM})
    reads.record_final_read(records, admin, study, {"R": CALM}, "")
    (row,) = shadows.shadow_answers(records, admin, "model", "f" * 64).itertuples()
    assert (row.live_called, row.shadow_called) == (is_called, is_called)


def test_areas_are_compared_where_the_truth_is_known() -> None:
    rng = np.random.default_rng(0)
    labels = np.repeat([1.0, 0.0, np.nan], [20, 30, 10])
    live = rng.random(60)
    shadow = np.clip(live + 0.4 * (labels == 1) + rng.normal(0, 0.05, 60), 0, 1)
    table = pd.DataFrame(
        {
            "study": np.arange(60).astype(str),
            "patient": np.arange(60).astype(str),
            "label": labels,
            "live": live,
            "shadow": shadow,
        }
    )
    found = compare_shadow(table.assign(live_called=live > 0.5, shadow_called=shadow > 0.5))
    known = ~np.isnan(labels)
    wanted = roc_auc_score(labels[known], shadow[known]) - roc_auc_score(labels[known], live[known])
    assert found.test is not None and found.test.n == 50
    assert found.test.difference == pytest.approx(wanted)
    assert found.disagreement == pytest.approx(((live > 0.5) != (shadow > 0.5)).mean())
    assert found.correlation > 0.5 and found.median_shadow > found.median_live


@sqlite_only
def test_a_silent_model_reads_after_the_live_ones_and_its_failure_is_only_logged(
    records: Database, admin: Person, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    image = picture(1, modality=Modality.ULTRASOUND)
    study = studies.create_study(records, admin, display_name="x", images=[image])
    decisions.start_shadow(records, admin, add_candidate(records, admin, 1), reason="Look first.")
    (card,) = shadow_cards(records.settings)

    class ShadowGraph:
        is_broken = True

        def read(self, seen: Image) -> tuple[Prediction, None]:
            if self.is_broken:
                raise RuntimeError("broken")
            return answer(seen, model_id=card.model_id, weights=card.weights_sha256, malignant=0.4), None

    model = ShadowGraph()
    monkeypatch.setattr(inference, "load_model", lambda _: model)
    for is_broken in (True, False):
        model.is_broken = is_broken
        thread = second_read.ask_shadow_models(records, studies.load_study(records, admin, study))
        assert thread is not None
        thread.join(60)
    assert f"shadow model {card.weights_sha256[:8]}: RuntimeError" in caplog.text
    with records.read() as connection:
        (row,) = connection.execute(select(tables.shadow_answer)).all()
    assert (row.study_id, row.model_id, row.malignant) == (study, MODEL, pytest.approx(0.4))
