"""Reads: the order they are made in, what each person may see when, and that nothing saved ever changes."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from dataclasses import replace
from datetime import date, timedelta
from pathlib import Path
from typing import Any

import pytest
from record_site import CALM, WORRIED, add_person, answer, explanation, picture, sqlite_only
from sqlalchemy import select

from core.errors import AppError, Conflict, InvalidInput
from core.records.audit import trail
from core.records.database import tables
from core.records.database.db import Database, open_database
from core.records.people.permissions import Person
from core.records.reads import predictions, reads, truths
from core.records.reads.reads import Impression
from core.records.reads.rows import BIRADS
from core.records.reads.studies import create_study, delete_study, load_study
from core.records.reads.truths import PATHOLOGIES
from core.settings import Settings
from core.types import Modality

FIRST, FINAL = {"R": CALM}, {"R": WORRIED}


@pytest.fixture
def ann(records: Database) -> Person:
    return add_person(records, "Ann", "radiologist")


@pytest.fixture
def bea(records: Database) -> Person:
    return add_person(records, "Bea", "radiologist")


@pytest.fixture
def ada(records: Database) -> Person:
    return add_person(records, "Ada", "administrator")


@pytest.fixture
def study_id(records: Database, ann: Person) -> str:
    """A study of one image that one model has answered."""
    study_id = create_study(records, ann, display_name="Case 1", images=[picture()])
    stored = load_study(records, ann, study_id).images[0]
    predictions.record_predictions(records, study_id, stored.id, answer(stored.image), explanation())
    return study_id


@pytest.fixture
def concurrent(tmp_path: Path) -> Iterator[Database]:
    db = open_database(Settings(state_dir=tmp_path, reading_mode="concurrent"))
    yield db
    db.close()


def actions(db: Database) -> list[tuple[str, int | None]]:
    """What the audit trail says, oldest first, without what made the study."""
    with db.read() as connection:
        rows = connection.execute(select(tables.audit).order_by(tables.audit.c.id)).all()
    return [(row.action, row.person_id) for row in rows if row.action != "create study"]


def truth(db: Database, person: Person, study_id: str, **changed: Any) -> None:
    values = {"breast": "R", "pathology": "malignant", "happened_on": date(2024, 5, 6), "source": "core biopsy"}
    truths.record_truth(db, person, study_id, **{**values, **changed})


def test_first_read_reveal_final_read_and_truth_in_their_order(
    records: Database, ann: Person, ada: Person, study_id: str
) -> None:
    assert not reads.ai_visible(records, ann, study_id)
    reads.record_first_read(records, ann, study_id, FIRST, "dense\x00 tissue\n\nsecond line ")
    assert not reads.ai_visible(records, ann, study_id)
    reads.reveal(records, ann, study_id)
    assert reads.ai_visible(records, ann, study_id)
    reads.record_final_read(records, ann, study_id, FINAL, "changed my mind")
    truth(records, ada, study_id)

    first, final = reads.reads_of(records, ann, study_id)
    assert (first.kind, first.impressions, first.comment) == ("first", FIRST, "dense tissue\n\nsecond line")
    assert (final.kind, final.impressions, final.person_name) == ("final", FINAL, "Ann")
    assert first.predictions_seen == ()
    (seen,) = final.predictions_seen
    assert (seen["model_id"], seen["weights_sha256"], seen["malignant"]) == ("model", "e" * 64, 0.8)
    assert final.reading_mode == "read_first" and not final.is_amendment
    (known,) = truths.truths_of(records, ann, study_id)
    assert (known.pathology, known.happened_on, known.person_name) == ("malignant", date(2024, 5, 6), "Ada")
    assert actions(records) == [
        ("first read", ann.id), ("reveal", ann.id), ("final read", ann.id), ("enter truth", ada.id)
    ]  # fmt: skip
    assert trail.verify(records).is_intact


def test_an_answer_that_came_after_what_stood_before_the_reader_is_not_said_to_be_known(
    records: Database, ann: Person, study_id: str
) -> None:
    reads.record_first_read(records, ann, study_id, FIRST)
    reads.reveal(records, ann, study_id)
    (before,) = predictions.predictions_of(records, ann, study_id)
    stored = load_study(records, ann, study_id).images[0]
    late = replace(answer(stored.image), model_id="late", weights_sha256="f" * 64)
    predictions.record_predictions(records, study_id, stored.id, late, explanation())
    for seen, models in (([(before[0], before[1].weights_sha256)], {"model"}), ([], set()), (None, {"model", "late"})):
        reads.record_final_read(records, ann, study_id, FINAL, seen=seen)
        newest = reads.reads_of(records, ann, study_id)[-1]
        assert {one["model_id"] for one in newest.predictions_seen} == models


def test_predictions_are_refused_until_they_are_revealed(records: Database, ann: Person, study_id: str) -> None:
    with pytest.raises(Conflict, match="hidden"):
        predictions.predictions_of(records, ann, study_id)
    with pytest.raises(Conflict, match="first impression"):
        reads.reveal(records, ann, study_id)
    reads.record_first_read(records, ann, study_id, FIRST)
    with pytest.raises(Conflict, match="hidden"):
        predictions.predictions_of(records, ann, study_id)
    reads.reveal(records, ann, study_id)

    assert len(predictions.predictions_of(records, ann, study_id)) == 1


def test_one_persons_reveal_shows_nothing_to_another(
    records: Database, ann: Person, bea: Person, study_id: str
) -> None:
    reads.record_first_read(records, ann, study_id, FIRST)
    reads.reveal(records, ann, study_id)

    assert not reads.ai_visible(records, bea, study_id)
    with pytest.raises(Conflict):
        predictions.predictions_of(records, bea, study_id)
    with pytest.raises(Conflict):
        reads.reveal(records, bea, study_id)


@sqlite_only
def test_revealing_twice_is_one_event(records: Database, ann: Person, study_id: str) -> None:
    reads.record_first_read(records, ann, study_id, FIRST)
    reads.reveal(records, ann, study_id)
    reads.reveal(records, ann, study_id)

    assert actions(records) == [("first read", ann.id), ("reveal", ann.id)]


@sqlite_only
def test_a_reveal_on_one_study_reveals_no_other(records: Database, ann: Person, study_id: str) -> None:
    other = create_study(records, ann, display_name="Case 2", images=[picture(2)])
    for one in (study_id, other):
        reads.record_first_read(records, ann, one, FIRST)
    reads.reveal(records, ann, study_id)

    assert not reads.ai_visible(records, ann, other)


def test_a_person_has_one_first_read_of_a_study(records: Database, ann: Person, bea: Person, study_id: str) -> None:
    reads.record_first_read(records, ann, study_id, FIRST)
    with pytest.raises(Conflict, match="saved already"):
        reads.record_first_read(records, ann, study_id, FINAL)
    reads.record_first_read(records, bea, study_id, FINAL)

    assert [read.impressions for read in reads.reads_of(records, ann, study_id)] == [FIRST, FINAL]


def test_of_many_first_reads_at_once_one_is_saved(records: Database, ann: Person, study_id: str) -> None:
    outcomes: list[str] = []

    def save() -> None:
        try:
            reads.record_first_read(records, ann, study_id, FIRST)
            outcomes.append("saved")
        except Conflict:
            outcomes.append("refused")

    threads = [threading.Thread(target=save) for _ in range(5)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(60)

    assert sorted(outcomes) == ["refused"] * 4 + ["saved"]
    assert len(reads.reads_of(records, ann, study_id)) == 1


def test_a_deletion_and_a_final_read_at_once_do_not_both_happen(records: Database, ann: Person) -> None:
    for number in range(5):
        study_id = create_study(records, ann, display_name="x", images=[picture(number)])
        reads.record_first_read(records, ann, study_id, FIRST)
        outcomes: list[str] = []
        gate = threading.Barrier(2)

        def act(name: str, one: str = study_id, gate: threading.Barrier = gate, outcomes: list[str] = outcomes) -> None:
            gate.wait(30)
            try:
                if name == "delete":
                    delete_study(records, ann, one, reason="wrong upload")
                else:
                    reads.record_final_read(records, ann, one, FINAL)
                outcomes.append(name)
            except AppError:
                pass

        threads = [threading.Thread(target=act, args=(name,)) for name in ("delete", "final")]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join(60)
        assert len(outcomes) == 1


@sqlite_only
def test_a_final_read_needs_the_own_first_read(records: Database, ann: Person, bea: Person, study_id: str) -> None:
    reads.record_first_read(records, ann, study_id, FIRST)

    with pytest.raises(Conflict, match="Save your first impression"):
        reads.record_final_read(records, bea, study_id, FINAL)


@sqlite_only
def test_a_final_read_without_the_ai_is_possible_and_says_that_nothing_was_seen(
    records: Database, ann: Person, study_id: str
) -> None:
    reads.record_first_read(records, ann, study_id, FIRST)
    reads.record_final_read(records, ann, study_id, FINAL)

    assert reads.reads_of(records, ann, study_id)[1].predictions_seen == ()


def test_a_later_final_read_is_an_amendment_beside_the_earlier_one(
    records: Database, ann: Person, bea: Person, study_id: str
) -> None:
    for person in (ann, bea):
        reads.record_first_read(records, person, study_id, FIRST)
        reads.record_final_read(records, person, study_id, FIRST)
    reads.record_final_read(records, ann, study_id, FINAL, "amended")

    finals = [read for read in reads.reads_of(records, ann, study_id) if read.kind == "final"]
    assert [(read.person_name, read.is_amendment, read.impressions) for read in finals] == [
        ("Ann", False, FIRST), ("Bea", False, FIRST), ("Ann", True, FINAL)
    ]  # fmt: skip


def test_another_persons_read_is_hidden_until_the_own_first_read(
    records: Database, ann: Person, bea: Person, ada: Person, study_id: str
) -> None:
    reads.record_first_read(records, ann, study_id, FIRST)
    reads.record_final_read(records, ann, study_id, FINAL)

    assert reads.reads_of(records, bea, study_id) == []
    assert len(reads.reads_of(records, ada, study_id)) == 2
    reads.record_first_read(records, bea, study_id, FIRST)
    assert [read.person_name for read in reads.reads_of(records, bea, study_id)] == ["Ann", "Ann", "Bea"]


def test_who_reveals_a_final_study_without_reading_it_cannot_give_a_first_impression(
    records: Database, ann: Person, bea: Person, study_id: str
) -> None:
    reads.record_first_read(records, ann, study_id, FIRST)
    with pytest.raises(Conflict):
        reads.reveal(records, bea, study_id)
    reads.record_final_read(records, ann, study_id, FINAL)
    reads.reveal(records, bea, study_id)

    assert len(predictions.predictions_of(records, bea, study_id)) == 1
    assert len(reads.reads_of(records, bea, study_id)) == 2
    with pytest.raises(Conflict, match="not be a first impression"):
        reads.record_first_read(records, bea, study_id, FIRST)


@sqlite_only
@pytest.mark.parametrize("given", [{}, {"L": CALM}, {"R": CALM, "L": CALM}, {"U": CALM}])
def test_a_read_is_of_exactly_the_breasts_that_the_study_shows(
    records: Database, ann: Person, study_id: str, given: dict[str, Impression]
) -> None:
    with pytest.raises(InvalidInput, match="each breast"):
        reads.record_first_read(records, ann, study_id, given)
    assert reads.reads_of(records, ann, study_id) == []


@sqlite_only
def test_a_read_of_both_breasts_or_of_an_unknown_side(records: Database, ann: Person) -> None:
    both = create_study(records, ann, display_name="x", images=[picture(1, laterality="L"), picture(2)])
    unknown = create_study(records, ann, display_name="y", images=[picture(3, laterality=None)])
    reads.record_first_read(records, ann, both, {"L": CALM, "R": WORRIED})
    reads.record_first_read(records, ann, unknown, {"U": CALM})

    assert reads.reads_of(records, ann, both)[0].impressions == {"R": WORRIED, "L": CALM}
    assert reads.reads_of(records, ann, unknown)[0].impressions == {"U": CALM}


@pytest.mark.parametrize(
    ("birads", "suspicion"), [("4", 5), ("", 5), ("7", 5), ("2", -1), ("2", 101), ("2", 0.5), ("2", float("nan"))]
)
def test_an_impression_that_cannot_be_is_refused(birads: str, suspicion: Any) -> None:
    with pytest.raises(InvalidInput):
        Impression(birads, suspicion)


@pytest.mark.parametrize("birads", BIRADS)
def test_every_category_and_the_ends_of_the_scale_can_be_given(birads: str) -> None:
    assert [Impression(birads, suspicion).suspicion for suspicion in (0, 100)] == [0, 100]


@sqlite_only
def test_a_comment_keeps_what_is_spelled_and_loses_what_only_controls(
    records: Database, ann: Person, study_id: str
) -> None:
    newer = "\U0001fae8 \ue000"  # a face of Unicode 15, which Python 3.11 does not know, and a private character
    given = f"می\u200cشود {newer} a\x00b\u202ec\u2066d"
    reads.record_first_read(records, ann, study_id, FIRST, given)
    assert reads.reads_of(records, ann, study_id)[0].comment == f"می\u200cشود {newer} abcd"


def test_a_comment_that_is_too_long_is_refused_and_nothing_saved(records: Database, ann: Person, study_id: str) -> None:
    with pytest.raises(InvalidInput, match="4001 characters"):
        reads.record_first_read(records, ann, study_id, FIRST, "x" * 4001)
    assert reads.reads_of(records, ann, study_id) == []


def test_a_read_whose_audit_row_fails_is_not_saved(
    records: Database, ann: Person, study_id: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(*_: object, **__: object) -> None:
        raise RuntimeError("the power went away")

    with monkeypatch.context() as broken, pytest.raises(RuntimeError):
        broken.setattr(trail, "record", fail)
        reads.record_first_read(records, ann, study_id, FIRST)

    assert reads.reads_of(records, ann, study_id) == []
    assert load_study(records, ann, study_id).row.state == "new"


def test_concurrent_reading_shows_the_ai_at_once_and_asks_for_no_first_read(concurrent: Database) -> None:
    ann = add_person(concurrent, "Ann", "radiologist")
    bea = add_person(concurrent, "Bea", "radiologist")
    study_id = create_study(concurrent, ann, display_name="x", images=[picture()])
    stored = load_study(concurrent, ann, study_id).images[0]
    predictions.record_predictions(concurrent, study_id, stored.id, answer(stored.image), explanation())

    assert reads.ai_visible(concurrent, ann, study_id)
    assert len(predictions.predictions_of(concurrent, ann, study_id)) == 1
    reads.reveal(concurrent, ann, study_id)  # nothing to reveal, nothing to audit
    reads.record_final_read(concurrent, ann, study_id, FINAL)

    (read,) = reads.reads_of(concurrent, bea, study_id)
    assert read.reading_mode == "concurrent" and len(read.predictions_seen) == 1
    assert actions(concurrent) == [("see answer", ann.id), ("final read", ann.id)]
    with pytest.raises(Conflict, match="final read"):
        reads.record_first_read(concurrent, ann, study_id, FIRST)


def test_what_a_first_read_saw_in_concurrent_mode_is_kept(concurrent: Database) -> None:
    ann = add_person(concurrent, "Ann", "radiologist")
    study_id = create_study(concurrent, ann, display_name="x", images=[picture()])
    stored = load_study(concurrent, ann, study_id).images[0]
    predictions.record_predictions(concurrent, study_id, stored.id, answer(stored.image), explanation())
    reads.record_first_read(concurrent, ann, study_id, FIRST)

    assert [seen["image_id"] for seen in reads.reads_of(concurrent, ann, study_id)[0].predictions_seen] == [stored.id]


def test_the_truth_is_never_told_before_the_final_read(
    records: Database, ann: Person, bea: Person, ada: Person, study_id: str
) -> None:
    truth(records, ada, study_id)
    for person in (ann, ada):
        with pytest.raises(Conflict, match="once its final read is saved"):
            truths.truths_of(records, person, study_id)
    for person in (ann, bea):
        reads.record_first_read(records, person, study_id, FIRST)
    with pytest.raises(Conflict):
        truths.truths_of(records, ann, study_id)
    reads.record_final_read(records, ann, study_id, FINAL)

    assert [known.pathology for known in truths.truths_of(records, ann, study_id)] == ["malignant"]
    assert len(truths.truths_of(records, ada, study_id)) == 1
    with pytest.raises(Conflict, match="your own final read"):
        truths.truths_of(records, bea, study_id)


def test_a_finished_study_with_known_truth_takes_no_new_first_read(
    records: Database, ann: Person, bea: Person, study_id: str
) -> None:
    reads.record_first_read(records, ann, study_id, FIRST)
    reads.record_final_read(records, ann, study_id, FINAL)
    truth(records, ann, study_id)

    with pytest.raises(Conflict, match="closed for new first reads"):
        reads.record_first_read(records, bea, study_id, FIRST)


@sqlite_only
def test_a_correction_of_the_truth_is_one_more_entry(records: Database, ann: Person, study_id: str) -> None:
    reads.record_first_read(records, ann, study_id, FIRST)
    reads.record_final_read(records, ann, study_id, FINAL)
    for pathology in PATHOLOGIES:
        truth(records, ann, study_id, pathology=pathology, source=" pathology\x00 report ")

    known = truths.truths_of(records, ann, study_id)
    assert [entry.pathology for entry in known] == list(PATHOLOGIES)
    assert {entry.source for entry in known} == {"pathology report"}
    assert actions(records).count(("enter truth", ann.id)) == 3


@sqlite_only
@pytest.mark.parametrize(
    ("changed", "words"),
    [
        ({"breast": "L"}, "does not show that breast"),
        ({"pathology": "unclear"}, "The pathology can be"),
        ({"happened_on": date.today() + timedelta(days=3)}, "future"),
        ({"source": " \n "}, "where the result comes from"),
        ({"source": "x" * 201}, "201 characters"),
    ],
)
def test_a_truth_that_cannot_be_is_refused(
    records: Database, ann: Person, study_id: str, changed: dict[str, Any], words: str
) -> None:
    before = actions(records)
    with pytest.raises(InvalidInput, match=words):
        truth(records, ann, study_id, **changed)
    assert actions(records) == before


def test_a_final_read_keeps_the_text_for_the_report_and_the_density_and_its_correction_has_its_own(
    records: Database, ann: Person
) -> None:
    mammogram = create_study(records, ann, display_name="Film", images=[picture(modality=Modality.MAMMOGRAPHY)])
    reads.record_first_read(records, ann, mammogram, {"R": CALM})
    reads.record_final_read(records, ann, mammogram, {"R": CALM}, sentence=" As it is.\x07 ", density="B")
    reads.record_final_read(records, ann, mammogram, {"R": CALM})
    found = [(read.sentence, read.density) for read in reads.reads_of(records, ann, mammogram)]
    assert found == [("", None), ("As it is.", "B"), ("", None)]


@pytest.mark.parametrize(
    ("details", "words"),
    [
        ({"density": "B"}, "this study has none"),
        ({"density": "E"}, "can be A, B, C, D"),
        ({"sentence": "x" * (reads.SENTENCE_LENGTH_MOST + 1)}, "at most 2000 are kept"),
    ],
)
def test_a_density_without_a_mammogram_or_a_text_that_is_too_long_is_refused_and_nothing_saved(
    records: Database, ann: Person, study_id: str, details: dict[str, str], words: str
) -> None:
    reads.record_first_read(records, ann, study_id, FIRST)
    with pytest.raises(InvalidInput, match=words):
        reads.record_final_read(records, ann, study_id, FINAL, **details)
    assert [read.kind for read in reads.reads_of(records, ann, study_id)] == ["first"]
    reads.record_final_read(records, ann, study_id, FINAL, sentence="x" * reads.SENTENCE_LENGTH_MOST)
