"""Two at once, on both databases: nothing is lost, one of them may be refused, and then with a sentence."""

from __future__ import annotations

import json
import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from datetime import date, timedelta
from typing import Any

import pytest
from record_site import CALM, add_person, answer, explanation, picture
from sqlalchemy import func, select

from core.errors import AppError, Conflict
from core.records import data_sets, site_settings
from core.records.audit import heads, trail
from core.records.database import tables  # fmt: skip
from core.records.database.db import Database
from core.records.people import accounts, sessions
from core.records.people.permissions import Person
from core.records.reads import predictions, reading_leases, reads, retention, studies, truths
from core.records.releases import shadows
from core.types import SIDE_NOT_STATED, Modality
from train.queue import trainings
from train.recipe.request import FitRequest

ROUNDS = 6
"""A race that is open is lost in one of a few rounds, on a machine with two cores."""


@pytest.fixture
def ann(records: Database) -> Person:
    return add_person(records, "Ann", "radiologist", "administrator")


@pytest.fixture
def bea(records: Database) -> Person:
    return add_person(records, "Bea", "radiologist", "administrator")


def at_once(*acts: Callable[[], Any]) -> list[Any]:
    """What each gave back, or the refusal that it raised; anything else it raised goes up."""
    start = threading.Barrier(len(acts))

    def run(act: Callable[[], Any]) -> Any:
        start.wait()
        try:
            return act()
        except AppError as refused:
            return refused

    with ThreadPoolExecutor(len(acts)) as pool:
        return list(pool.map(run, acts))


def refusals(outcomes: list[Any]) -> list[AppError]:
    return [outcome for outcome in outcomes if isinstance(outcome, AppError)]


def new_study(db: Database, person: Person, number: int) -> tuple[str, str]:
    study_id = studies.create_study(db, person, display_name="x", images=[picture(number, laterality=None)])
    return study_id, studies.load_study(db, person, study_id).images[0].id


def count(db: Database, table: Any, *where: Any) -> int:
    with db.read() as connection:
        return int(connection.execute(select(func.count()).select_from(table).where(*where)).scalar_one())


def test_two_corrections_of_an_image_follow_each_other_in_the_trail(
    records: Database, ann: Person, bea: Person
) -> None:
    for number in range(ROUNDS):
        study_id, image_id = new_study(records, ann, number)
        sides = {ann: "R", bea: "L"}
        at_once(
            *(
                lambda who=who, side=side, image_id=image_id: studies.correct_image(
                    records, who, image_id, laterality=side, view=None, modality=Modality.ULTRASOUND
                )
                for who, side in sides.items()
            )
        )
        second, first = trail.entries(records, ann, action="correct image", subject=study_id)
        assert first.detail["after"] == second.detail["before"] and first.detail["before"]["laterality"] is None
        retained = studies.load_study(records, ann, study_id).images[0].image.laterality
        assert retained == second.detail["after"]["laterality"]


def test_a_correction_and_a_first_read_at_once_leave_the_side_that_was_read(
    records: Database, ann: Person, bea: Person
) -> None:
    for number in range(ROUNDS):
        study_id = studies.create_study(records, ann, display_name="x", images=[picture(number)])
        image_id = studies.load_study(records, ann, study_id).images[0].id
        outcomes = at_once(
            lambda study_id=study_id: reads.record_first_read(records, ann, study_id, {"R": CALM}),
            lambda image_id=image_id: studies.correct_image(
                records, bea, image_id, laterality="L", view=None, modality=Modality.ULTRASOUND
            ),
        )
        assert len(refusals(outcomes)) == 1
        shown = studies.load_study(records, ann, study_id).breasts
        assert all(tuple(read.impressions) == shown for read in reads.reads_of(records, ann, study_id))


def test_a_side_and_a_frame_are_not_changed_under_whoever_is_reading(
    records: Database, ann: Person, bea: Person
) -> None:
    study_id, image_id = new_study(records, ann, 1)
    assert reading_leases.hold_study(records, ann, study_id) is None
    side = {"laterality": "R", "view": None, "modality": Modality.ULTRASOUND}
    with pytest.raises(Conflict, match="Ann is reading this study now"):
        studies.correct_image(records, bea, image_id, **side)
    with pytest.raises(Conflict, match="Ann is reading this study now"):
        studies.choose_frame(records, bea, image_id, 1)
    studies.correct_image(records, ann, image_id, **side)
    assert studies.load_study(records, bea, study_id).breasts == ("R",)


def test_a_deletion_and_an_answer_at_once_leave_no_answer_without_its_study(records: Database, ann: Person) -> None:
    for number in range(ROUNDS):
        study_id, image_id = new_study(records, ann, number)
        said = answer(picture(number))
        at_once(
            lambda study_id=study_id: studies.delete_study(records, ann, study_id, reason="wrong upload"),
            lambda study_id=study_id, image_id=image_id, said=said: predictions.record_predictions(
                records, study_id, image_id, said, explanation()
            ),
            lambda study_id=study_id, image_id=image_id, said=said: shadows.record_shadow_answer(
                records, study_id, image_id, said
            ),
        )
        assert count(records, tables.study, tables.study.c.deleted_at.is_(None)) == 0
        assert count(records, tables.prediction) == count(records, tables.shadow_answer) == 0


def test_the_same_answer_kept_by_two_at_once_is_kept_once_with_its_maps(records: Database, ann: Person) -> None:
    study_id, image_id = new_study(records, ann, 1)
    reads.record_first_read(records, ann, study_id, {SIDE_NOT_STATED: CALM})
    reads.reveal(records, ann, study_id)
    for number in range(ROUNDS):
        said = answer(picture(1), model_id=f"model {number}")
        outcomes = at_once(
            *[lambda said=said: predictions.record_predictions(records, study_id, image_id, said, explanation())] * 3,
            *[lambda said=said: shadows.record_shadow_answer(records, study_id, image_id, said)] * 3,
        )
        assert refusals(outcomes) == []
    assert count(records, tables.prediction) == count(records, tables.shadow_answer) == ROUNDS
    assert len(predictions.predictions_of(records, ann, study_id)) == ROUNDS  # raises where a map is missing


def test_truths_and_final_reads_given_at_once_are_all_kept(records: Database, ann: Person, bea: Person) -> None:
    study_id = studies.create_study(records, ann, display_name="x", images=[picture(1)])
    for who in (ann, bea):
        reads.record_first_read(records, who, study_id, {"R": CALM})
    known = {"breast": "R", "pathology": "benign", "happened_on": date(2024, 1, 1), "source": "biopsy"}
    outcomes = at_once(
        *(lambda who=who: truths.record_truth(records, who, study_id, **known) for who in (ann, bea)),  # type: ignore[arg-type]
        *(lambda who=who: reads.record_final_read(records, who, study_id, {"R": CALM}) for who in (ann, bea, ann)),
        *(lambda who=who: reads.reveal(records, who, study_id) for who in (ann, ann)),
    )
    assert refusals(outcomes) == []
    assert count(records, tables.truth) == 2 and len(truths.truths_of(records, ann, study_id)) == 2
    finals = [read for read in reads.reads_of(records, ann, study_id) if read.kind == "final"]
    assert len(finals) == 3 and sum(read.is_amendment for read in finals) == 1
    assert len(trail.entries(records, ann, action="reveal")) == 1


def test_an_opening_in_two_tabs_at_once_is_one_visit(records: Database, ann: Person) -> None:
    for number in range(ROUNDS):
        study_id, _ = new_study(records, ann, number)
        at_once(*[lambda study_id=study_id: studies.record_opening(records, ann, study_id)] * 4)
        assert len(trail.entries(records, ann, action="open study", subject=study_id)) == 1


def add_set(db: Database, person: Person, name: str) -> int:
    retained = [data_sets.store_file(db.settings, b"picture %d" % number, "png") for number in range(2)]
    return data_sets.create_data_set(
        db, person, name=name, modality=Modality.ULTRASOUND,
        manifest=f"file,label\n{retained[0]},benign\n{retained[1]},malignant\n".encode(),
        split={}, counts={"train": {"benign": 1, "malignant": 1}}, found={},
    )  # fmt: skip


def test_of_two_data_sets_with_one_name_one_is_refused_and_versions_are_numbered_on(
    records: Database, ann: Person, bea: Person
) -> None:
    for number in range(ROUNDS):
        outcomes = at_once(*(lambda who=who, name=f"Set {number}": add_set(records, who, name) for who in (ann, bea)))
        (refused,) = refusals(outcomes)
        assert "already" in str(refused)
    version = data_sets.list_versions(records, ann)[0]
    manifest = data_sets.manifest_path(records.settings, version.manifest_sha256).read_bytes()
    more = {"manifest": manifest, "split": {}, "counts": {}, "found": {}}
    outcomes = at_once(
        *(lambda who=who: data_sets.add_version(records, who, version.data_set_id, **more) for who in (ann, bea, ann))  # type: ignore[arg-type]
    )
    assert refusals(outcomes) == []
    numbers = [row.number for row in data_sets.list_versions(records, ann) if row.data_set_id == version.data_set_id]
    assert sorted(numbers) == [1, 2, 3, 4]


def test_a_data_set_is_not_removed_under_a_training_or_a_version_that_begins(
    records: Database, ann: Person, bea: Person
) -> None:
    request = FitRequest("cnn", Modality.ULTRASOUND, init="random", epochs=3, side=64)
    for number in range(ROUNDS):
        version_id = add_set(records, ann, f"Set {number}")
        found = data_sets.load_version(records, ann, version_id)
        outcomes = at_once(
            lambda version_id=version_id: trainings.enqueue(records, ann, request, version_id),
            lambda found=found: data_sets.remove_data_set(records, bea, found.data_set_id),
        )
        assert len(refusals(outcomes)) == 1, outcomes
        is_removed = data_sets.load_version(records, ann, version_id).removed_at is not None
        assert is_removed != bool(count(records, tables.job, tables.job.c.version_id == version_id))


def test_pixels_that_are_due_are_removed_once_by_two_processes(
    records: Database, ann: Person, monkeypatch: pytest.MonkeyPatch
) -> None:
    study_id = studies.create_study(records, ann, display_name="x", images=[picture(1)])
    reads.record_first_read(records, ann, study_id, {"R": CALM})
    reads.record_final_read(records, ann, study_id, {"R": CALM})
    site_settings.choose(records, ann, "keep_pixels_days", 30)
    monkeypatch.setattr(retention, "now", lambda: tables.now() + timedelta(days=31))
    assert sorted(at_once(*[lambda: retention.apply_policy(records)] * 3)) == [0, 0, 1]
    assert len(trail.entries(records, ann, action="remove pixels")) == 1


def test_the_chain_verifies_at_any_moment_while_others_act_and_heads_are_written(
    records: Database, ann: Person
) -> None:
    sessions.start_session(records, ann)
    heads.write_head(records)
    is_over = threading.Event()

    def act() -> None:
        for _ in range(40):
            sessions.start_session(records, ann)
            heads.write_head(records)
        is_over.set()

    def look() -> list[str]:
        found: list[str] = []
        while not is_over.is_set():
            found += heads.verify(records).problems
        return found

    problems, _, _ = at_once(look, act, act)
    assert problems == []
    lines = heads.heads_path(records.settings).read_text().splitlines()
    assert len(lines) == 81 and all(json.loads(line) for line in lines)


def test_two_processes_that_start_at_once_agree_on_one_setup_code(records: Database) -> None:
    codes = at_once(*[lambda: accounts.setup_code(records)] * 4)
    with records.read() as connection:
        retained = select(tables.site.c.value).where(tables.site.c.key == "setup_code_sha256")
        good = connection.execute(retained).scalar_one()
    assert [accounts._digest_of_setup(code) for code in codes].count(good) == 1


def test_what_the_database_refuses_because_of_another_is_a_sentence(records: Database, ann: Person) -> None:
    with pytest.raises(Conflict, match="at the same moment"), records.begin() as connection:
        for _ in range(2):
            connection.execute(tables.site.insert().values(key="twice", value="x"))
    with pytest.raises(Conflict, match="at the same moment"), records.begin() as connection:
        connection.execute(
            tables.truth.insert().values(
                study_id="0" * 32, breast="R", pathology="benign", happened_on=date(2024, 1, 1), source="x",
                person_id=ann.id, created_at=tables.now(),
            )
        )  # fmt: skip
    assert count(records, tables.site, tables.site.c.key == "twice") == 0
