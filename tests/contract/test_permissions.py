"""Who may do what, asked of the table and, with real studies, of the functions that act on them."""

from __future__ import annotations

from collections.abc import Callable
from datetime import date

import pytest
from record_site import CALM, add_person, answer, explanation, picture, sqlite_only, stranger

from core.errors import NotAllowed
from core.records.audit import trail
from core.records.database.db import Database
from core.records.people.permissions import ACTION_TABLE, ACTIONS, ROLES, Person, allowed, require_role_for
from core.records.reads import predictions, reader_scores, reads, studies, truths

Call = Callable[[Database, Person, str, str], object]

GUARDED: tuple[tuple[str, Call], ...] = (
    ("create_study", lambda db, who, _, __: studies.create_study(db, who, display_name="x", images=[picture()])),
    ("see_worklist", lambda db, who, _, __: studies.list_studies(db, who)),
    ("see_worklist", lambda db, who, study, _: studies.load_study(db, who, study)),
    ("see_worklist", lambda db, who, study, _: studies.earlier_studies(db, who, study)),
    (
        "correct_image",
        lambda db, who, _, image: studies.correct_image(
            db, who, image, laterality="L", view=None, modality="ultrasound"
        ),
    ),
    ("delete_study", lambda db, who, study, _: studies.delete_study(db, who, study, reason="wrong upload")),
    ("record_first_read", lambda db, who, study, _: reads.record_first_read(db, who, study, {"R": CALM})),
    ("reveal_ai", lambda db, who, study, _: reads.reveal(db, who, study)),
    ("see_ai", lambda db, who, study, _: predictions.predictions_of(db, who, study)),
    ("record_final_read", lambda db, who, study, _: reads.record_final_read(db, who, study, {"R": CALM})),
    ("see_reads", lambda db, who, study, _: reads.reads_of(db, who, study)),
    (
        "record_truth",
        lambda db, who, study, _: truths.record_truth(
            db, who, study, breast="R", pathology="benign", happened_on=date(2024, 1, 1), source="biopsy"
        ),
    ),
    ("see_truth", lambda db, who, study, _: truths.truths_of(db, who, study)),
    ("export_report", lambda db, who, study, _: reads.record_export(db, who, study, what="pdf")),
    ("see_reader_scores", lambda db, who, _, __: reader_scores.reader_scores(db, who)),
    ("see_audit", lambda db, who, _, __: trail.entries(db, who)),
)


@sqlite_only
@pytest.mark.parametrize(("action", "call"), GUARDED)
def test_who_has_every_role_but_the_needed_ones_is_refused_and_nothing_changes(
    records: Database, action: str, call: Call
) -> None:
    reader = add_person(records, "Reader", "radiologist")
    study_id = studies.create_study(records, reader, display_name="x", images=[picture()])
    image_id = studies.load_study(records, reader, study_id).images[0].id
    others = add_person(records, "Other", *(role for role in ROLES if role not in ACTIONS[action]))
    before = trail.verify(records).n

    with pytest.raises(NotAllowed, match="ask an administrator"):
        call(records, others, study_id, image_id)

    assert trail.verify(records).n == before
    assert studies.load_study(records, reader, study_id).row.state == "new"


@sqlite_only
def test_the_ai_is_never_visible_to_who_may_not_see_it(records: Database) -> None:
    reader = add_person(records, "Reader", "radiologist")
    study_id = studies.create_study(records, reader, display_name="x", images=[picture()])
    image = studies.load_study(records, reader, study_id).images[0]
    predictions.record_predictions(records, study_id, image.id, answer(image.image), explanation())
    reads.record_first_read(records, reader, study_id, {"R": CALM})
    reads.reveal(records, reader, study_id)

    assert reads.ai_visible(records, reader, study_id)
    assert not reads.ai_visible(records, stranger(records, "administrator", "researcher"), study_id)


def test_each_action_has_known_roles_and_a_sentence() -> None:
    assert len(ACTIONS) == len(ACTION_TABLE)
    for action in ACTION_TABLE:
        assert action.roles and set(action.roles) <= set(ROLES), action.name
        assert action.sentence.endswith(".") and action.sentence[0].isupper(), action.name


@pytest.mark.parametrize("action", ["manage_people", "manage_data", "manage_releases", "manage_training", "see_audit"])
def test_only_administrators_run_the_house(action: str) -> None:
    assert [role for role in ROLES if allowed(Person(1, "A", [role]), action)] == ["administrator"]


@pytest.mark.parametrize("action", ["record_first_read", "record_final_read", "reveal_ai", "see_ai", "create_study"])
def test_only_radiologists_read(action: str) -> None:
    assert [role for role in ROLES if allowed(Person(1, "A", [role]), action)] == ["radiologist"]


def test_a_refusal_says_what_was_asked_and_which_role_it_needs() -> None:
    with pytest.raises(NotAllowed) as refused:
        require_role_for(Person(1, "A", ["researcher"]), "record_truth")

    assert "enter what became of a study" in str(refused.value)
    assert "radiologist or administrator" in str(refused.value)


def test_a_person_may_hold_several_roles_or_none() -> None:
    assert allowed(Person(1, "A", ["radiologist", "researcher"]), "compare_models")
    assert not any(allowed(Person(1, "A", []), action) for action in ACTIONS)


def test_an_action_or_a_role_that_is_not_in_the_table_is_a_bug() -> None:
    with pytest.raises(KeyError):
        allowed(Person(1, "A", ROLES), "open_everything")
    with pytest.raises(ValueError, match="root"):
        Person(1, "A", ["root"])
