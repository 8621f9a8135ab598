"""A data set that a release came from is evidence and stays; what nothing live or running needs can go."""

from __future__ import annotations

import threading
from pathlib import Path

import pytest
from record_site import add_person
from release_site import (
    MODEL,
    SHIPPED,
    SHIPPED_OUTLINE,
    add_candidate,
    add_outline_network,
    better_outlines,
    candidate,
    promote,
)

from core.errors import AppError, Conflict
from core.models.live import OUTLINE_NETWORK
from core.records import data_sets
from core.records.database import tables
from core.records.database.db import Database
from core.records.people.permissions import Person
from core.records.releases import decisions, outline_check

WHY = "It finds more on the same cases."


@pytest.fixture
def admin(records: Database) -> Person:
    return add_person(records, "Ada", "administrator")


def data_set_of(db: Database, person: Person) -> str:
    (row,) = data_sets.list_versions(db, person)
    return row.data_set_id


def files_of(db: Database) -> list[Path]:
    return [path for path in (db.settings.state_dir / "data_sets").rglob("*") if path.is_file()]


def test_a_data_set_that_a_release_came_from_stays_also_after_the_way_back(records: Database, admin: Person) -> None:
    job_id = add_candidate(records, admin, 1)
    promote(records, admin, job_id, live_sha256=SHIPPED.weights_sha256, reason=WHY)
    before = files_of(records)
    with pytest.raises(Conflict, match=f"{MODEL} was released"):
        data_sets.remove_data_set(records, admin, data_set_of(records, admin))
    new = candidate(records, job_id).weights_sha256
    decisions.roll_back(records, admin, MODEL, SHIPPED.weights_sha256, live_sha256=new, reason=WHY)
    with pytest.raises(Conflict, match="it is the evidence"):
        data_sets.remove_data_set(records, admin, data_set_of(records, admin))
    assert before and files_of(records) == before


def test_a_data_set_goes_whose_trainings_were_never_released_and_their_candidates_stay_candidates(
    records: Database, admin: Person
) -> None:
    job_id = add_candidate(records, admin, 1)
    data_sets.remove_data_set(records, admin, data_set_of(records, admin))
    assert files_of(records) == [] and data_sets.list_versions(records, admin) == []
    with pytest.raises(Conflict, match="was removed"):
        promote(records, admin, job_id, live_sha256=SHIPPED.weights_sha256, reason=WHY)
    assert candidate(records, job_id).has_weights


def trained_outline_network(db: Database, person: Person) -> tuple[int, str]:
    """The number of a training that made an outline network, and the sha256 of its weights."""
    sha256, job_id = add_outline_network(db, "trained", better_outlines), add_candidate(db, person, 1)
    made = {"model_id": OUTLINE_NETWORK, "weights_sha256": sha256, "folder": OUTLINE_NETWORK}
    with db.begin() as connection:
        connection.execute(tables.job.update().where(tables.job.c.id == job_id).values(result=made))
    return job_id, sha256


def promote_outline(db: Database, person: Person, sha256: str) -> None:
    outline_check.promote_outline(
        db, person, sha256, live_sha256=SHIPPED_OUTLINE.weights_sha256, reason=WHY, passed={}
    )  # fmt: skip


def test_a_data_set_that_a_released_outline_network_came_from_stays(records: Database, admin: Person) -> None:
    job_id, sha256 = trained_outline_network(records, admin)
    promote_outline(records, admin, sha256)
    (decision,) = decisions.decisions(records, admin)
    assert decision.job_id == job_id
    with pytest.raises(Conflict, match=f"{OUTLINE_NETWORK} was released"):
        data_sets.remove_data_set(records, admin, data_set_of(records, admin))


def test_a_data_set_stays_whose_outline_network_was_released_before_its_training_was_named(
    records: Database, admin: Person, monkeypatch: pytest.MonkeyPatch
) -> None:
    _, sha256 = trained_outline_network(records, admin)
    earlier = decisions.find_outline_candidate(records.settings, sha256)
    monkeypatch.setattr(decisions, "_outline_candidate", lambda *_: (None, earlier))
    promote_outline(records, admin, sha256)
    with pytest.raises(Conflict, match=f"{OUTLINE_NETWORK} was released"):
        data_sets.remove_data_set(records, admin, data_set_of(records, admin))


def test_an_outline_network_of_a_data_set_that_was_removed_is_not_released(records: Database, admin: Person) -> None:
    _, sha256 = trained_outline_network(records, admin)
    data_sets.remove_data_set(records, admin, data_set_of(records, admin))
    with pytest.raises(Conflict, match="was removed"):
        promote_outline(records, admin, sha256)
    assert decisions.decisions(records, admin) == []


@pytest.mark.parametrize("state", ["queued", "running"])
def test_a_data_set_stays_while_a_training_uses_it(records: Database, admin: Person, state: str) -> None:
    job_id = add_candidate(records, admin, 1)
    with records.begin() as connection:
        connection.execute(tables.job.update().where(tables.job.c.id == job_id).values(state=state))
    with pytest.raises(Conflict, match="not over"):
        data_sets.remove_data_set(records, admin, data_set_of(records, admin))
    assert files_of(records)


def test_promoting_and_removing_at_once_never_leave_a_release_without_its_data(
    records: Database, admin: Person
) -> None:
    for number in range(1, 4):
        job_id = add_candidate(records, admin, number, model_id=f"ultrasound-{number}")
        data_set = next(
            row.data_set_id for row in data_sets.list_versions(records, admin) if row.name.startswith(f"Set {number}-")
        )
        gate, refused = threading.Barrier(2), []

        def attempt(act: object, gate: threading.Barrier = gate, refused: list[str] = refused) -> None:
            gate.wait()
            try:
                act()  # type: ignore[operator]
            except AppError as error:
                refused.append(str(error))

        acts = (
            lambda job_id=job_id: promote(records, admin, job_id, live_sha256=None, reason=WHY),
            lambda data_set=data_set: data_sets.remove_data_set(records, admin, data_set),
        )
        threads = [threading.Thread(target=attempt, args=(act,)) for act in acts]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        released = {decision.job_id for decision in decisions.decisions(records, admin)}
        there = {row.data_set_id for row in data_sets.list_versions(records, admin)}
        assert len(refused) == 1 and (job_id in released) == (data_set in there)
