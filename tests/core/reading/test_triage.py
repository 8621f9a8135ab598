"""An order by the models: only where the site turned it on, and without a number before the first impression."""

from __future__ import annotations

from dataclasses import replace

import pytest
from record_site import Somebody, add_person, answer, explanation, picture

from core.errors import Conflict, NotAllowed
from core.models.cards import Card, live_cards
from core.models.lead import lead_of
from core.reading import second_read, triage
from core.records import site_settings
from core.records.database.db import Database
from core.records.reads import predictions, studies
from core.types import Explanation, Image, Modality, Prediction


@pytest.fixture
def ada(records: Database) -> Somebody:
    return add_person(records, "Ada", "administrator", "radiologist")


def lead(records: Database) -> Card:
    found = lead_of(records.settings, Modality.ULTRASOUND)
    return next(card for card in live_cards(records.settings) if found and card.model_id == found.model_id)


def study_of(records: Database, ada: Somebody, seed: int) -> str:
    image = replace(picture(seed), laterality="R", modality=Modality.ULTRASOUND)
    return studies.create_study(records, ada, display_name=f"case {seed}", images=[image])


def test_no_model_orders_anything_unless_the_site_turned_it_on(records: Database, ada: Somebody) -> None:
    study_id = study_of(records, ada, 1)
    assert not triage.is_on(site_settings.current(records))
    with pytest.raises(Conflict, match="unless an administrator"):
        triage.urgencies(records, ada, [study_id])
    with pytest.raises(Conflict):
        triage.answer_waiting(records, ada, [study_id])
    site_settings.choose(records, ada, "worklist_triage", "on")
    assert triage.urgencies(records, ada, [study_id]) == {}
    with pytest.raises(NotAllowed):
        triage.urgencies(records, add_person(records, "Rex", "researcher"), [study_id])


def test_leads_read_what_nobody_has_read_and_their_numbers_stay_hidden(
    records: Database, ada: Somebody, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A number at its threshold goes before a higher one that is below its own."""
    ids, numbers = [study_of(records, ada, seed) for seed in (1, 2, 3)], {}
    site_settings.choose(records, ada, "worklist_triage", "on")
    for study_id, number in zip(ids, (0.2, 0.5, 0.45), strict=True):
        [stored] = studies.load_study(records, ada, study_id).images
        numbers[stored.image.sha256] = number
    asked = []

    def read(card: Card, image: Image, point: object, **more: object) -> tuple[Prediction, Explanation]:
        asked.append((card.model_id, image.sha256))
        said = answer(image, model_id=card.model_id, weights=card.weights_sha256, malignant=numbers[image.sha256])
        return replace(said, threshold=0.5), explanation()

    monkeypatch.setattr(second_read, "read_image", read)
    thread = triage.answer_waiting(records, ada, ids)
    assert thread is not None
    thread.join(60)
    assert {model for model, _ in asked} == {lead(records).model_id} and len(asked) == 3
    found = triage.urgencies(records, ada, ids)
    assert [found[study_id] for study_id in ids] == [(False, 0.2), (True, 0.5), (False, 0.45)]
    assert triage.answer_waiting(records, ada, ids) is None, "all have answers"
    assert triage._ONE.acquire(blocking=False), "nobody is kept from going on"
    triage._ONE.release()
    study = studies.load_study(records, ada, ids[0])
    with pytest.raises(Conflict, match="hidden"):
        second_read.answers_of(records, ada, study)
    with pytest.raises(Conflict, match="hidden"):
        predictions.predictions_of(records, ada, ids[0])


def test_what_fails_ahead_of_readers_stops_nobody(
    records: Database, ada: Somebody, monkeypatch: pytest.MonkeyPatch
) -> None:
    study_id = study_of(records, ada, 1)
    site_settings.choose(records, ada, "worklist_triage", "on")

    def read(*_: object, **__: object) -> None:
        raise RuntimeError("no model")

    monkeypatch.setattr(second_read, "read_image", read)
    for _ in range(2):
        thread = triage.answer_waiting(records, ada, [study_id])
        assert thread is not None
        thread.join(60)
    assert triage.urgencies(records, ada, [study_id]) == {}
