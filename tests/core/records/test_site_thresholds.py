"""A site's own thresholds: of certain weights, by administrators, on record, and kept with every answer."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path

import pytest
from made_cards import changed, made_card
from record_site import add_person, answer, explanation, picture, stranger
from sqlalchemy import select

from core.errors import InvalidInput, NotAllowed
from core.models.cards import Card
from core.models.operating_point import held_against
from core.records import site_settings
from core.records.audit import trail
from core.records.database import tables
from core.records.database.db import Database
from core.records.people.permissions import Person
from core.records.reads import predictions, reads, studies


@pytest.fixture
def ada(records: Database) -> Person:
    return add_person(records, "Ada", "administrator")


@pytest.fixture
def card(tmp_path: Path) -> Card:
    return made_card(tmp_path, weights={"sha256": "e" * 64}, threshold={"value": 0.3, "rule": "a rule"})


def test_it_counts_for_its_weights_while_the_policy_says_so_and_tells_who_set_it(
    records: Database, ada: Person, card: Card
) -> None:
    site_settings.set_own(records, ada, card, 0.55)
    assert site_settings.points_here(records, (card,))["e" * 64].threshold == 0.3
    site_settings.choose(records, ada, "thresholds", "site")
    assert site_settings.points_here(records, (card,))["e" * 64].threshold == 0.55
    retrained = changed(card, weights={"sha256": "f" * 64})
    assert site_settings.points_here(records, (retrained,))["f" * 64].threshold == 0.3
    assert site_settings.own_thresholds(records, ada)["e" * 64].by_name == "Ada"

    site_settings.forget_own(records, ada, card)
    assert site_settings.points_here(records, (card,))["e" * 64].is_of_card
    changes = [dict(entry.detail) for entry in trail.entries(records, ada, action="change threshold")]
    assert [(change["before"], change["after"]) for change in changes] == [(0.55, None), (None, 0.55)]


def test_an_answer_keeps_the_threshold_it_was_given_with(records: Database, ada: Person, card: Card) -> None:
    ann = add_person(records, "Ann", "radiologist")
    site_settings.choose(records, ada, "reading_mode", "concurrent")
    site_settings.choose(records, ada, "thresholds", "site")
    site_settings.set_own(records, ada, card, 0.85)
    study_id = studies.create_study(records, ann, display_name="x", images=[picture()])
    stored = studies.load_study(records, ann, study_id).images[0]
    given = held_against(answer(stored.image), site_settings.points_here(records, (card,))["e" * 64])
    predictions.record_predictions(records, study_id, stored.id, given, explanation())
    reads.reveal(records, ann, study_id)
    site_settings.back_to_default(records, ada, "thresholds")

    _, retained, _ = predictions.predictions_of(records, ann, study_id)[0]
    assert (retained.threshold, retained.threshold_rule) == (0.85, "a value that this site has set itself")
    assert not retained.is_above_threshold  # 0.8, and above the card's


@pytest.mark.parametrize("in_between", [True, False], ids=["policy changed", "policy as it was"])
def test_a_study_has_one_threshold_for_the_same_weights_whatever_is_chosen_between_its_images(
    records: Database, ada: Person, card: Card, in_between: bool
) -> None:
    ann = add_person(records, "Ann", "radiologist")
    site_settings.choose(records, ada, "reading_mode", "concurrent")
    site_settings.choose(records, ada, "thresholds", "site")
    site_settings.set_own(records, ada, card, 0.85)
    study_id = studies.create_study(records, ann, display_name="x", images=[picture(1), picture(2)])
    for number, stored in enumerate(studies.load_study(records, ann, study_id).images):
        if number and in_between:
            site_settings.back_to_default(records, ada, "thresholds")
        given = held_against(answer(stored.image), site_settings.points_here(records, (card,))["e" * 64])
        predictions.record_predictions(records, study_id, stored.id, given, explanation())
    other = replace(answer(stored.image), weights_sha256="f" * 64, threshold=0.2)
    predictions.record_predictions(records, study_id, stored.id, other, explanation())

    with records.read() as connection:
        rows = connection.execute(select(tables.prediction).order_by(tables.prediction.c.id)).all()
    retained = [(row.payload["threshold"], row.payload["threshold_rule"]) for row in rows]
    assert retained == [(0.85, "a value that this site has set itself")] * 2 + [(0.2, "")]


def test_set_by_many_at_once_the_last_one_counts(records: Database, ada: Person, card: Card) -> None:
    with ThreadPoolExecutor(6) as pool:
        list(pool.map(lambda n: site_settings.set_own(records, ada, card, n / 10), range(1, 7)))
        list(pool.map(lambda n: site_settings.choose(records, ada, "upload_mib", n), range(1, 7)))
    last = trail.entries(records, ada, action="change threshold")[0].detail["after"]
    assert site_settings.own_thresholds(records, ada)["e" * 64].value == last
    assert trail.verify(records).n == 12


@pytest.mark.parametrize("value", [0, 1, -0.1, float("nan"), 0.000004, 0.999996])
def test_what_is_no_threshold_is_refused(records: Database, ada: Person, card: Card, value: float) -> None:
    with pytest.raises(InvalidInput, match="between 0 and 100"):
        site_settings.set_own(records, ada, card, value)
    with pytest.raises(NotAllowed):
        site_settings.set_own(records, stranger(records, "radiologist"), card, 0.5)
    assert trail.verify(records).n == 0
