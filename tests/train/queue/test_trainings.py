"""The queue of trainings: who may ask, who gets a job, and what becomes of one whose worker dies."""

from __future__ import annotations

import threading
from collections.abc import Callable
from dataclasses import replace
from datetime import timedelta

import pytest
from record_site import add_person, sqlite_only
from sqlalchemy import select, update

from core.errors import Conflict, InvalidInput, NotAllowed, NotFound
from core.records import data_sets
from core.records.audit import trail
from core.records.database import tables
from core.records.database.db import Database
from core.records.people.permissions import ROLES, LocalTerminal, Person
from core.records.queue import ATTEMPTS, CANCELLED, DEAD, DONE, FAILED, GO_ON, LOST, QUEUED, RUNNING, STOP, Lease
from core.types import Modality
from pages.parts.training_tables import device_text, outcome_text
from train.queue import duration, trainings, worker
from train.queue.trainings import QUEUE
from train.recipe.request import FitRequest, with_seeds

REQUEST = FitRequest("cnn", Modality.ULTRASOUND, init="random", epochs=3, side=64)


def take(db: Database, worker: str = "w1", machine: str = "m1") -> Lease | None:
    return QUEUE.claim(db, worker=worker, machine=machine)


def taken(db: Database, worker: str = "w1", machine: str = "m1") -> Lease:
    found = take(db, worker, machine)
    assert found is not None
    return found


def let_the_lease_expire(db: Database) -> None:
    with db.begin() as connection:
        connection.execute(update(tables.job).values(lease_until=tables.now() - timedelta(seconds=1)))


def test_a_job_is_waiting_in_the_database_before_anything_runs(records: Database, admin: Person, version: int) -> None:
    job_id = trainings.enqueue(records, admin, REQUEST, version)
    (row,) = trainings.list_jobs(records, admin)
    assert (row.id, row.state, row.request, row.data_set) == (job_id, QUEUED, REQUEST, "Set")
    assert row.created_by_name == "Ada" and row.attempts == 0


def test_starting_and_cancelling_are_in_the_audit_trail_by_name(records: Database, admin: Person, version: int) -> None:
    job_id = trainings.enqueue(records, admin, REQUEST, version)
    trainings.cancel(records, admin, job_id)
    said = [(entry.action, entry.person_name) for entry in trail.entries(records, admin)]
    assert said[:2] == [("cancel training", "Ada"), ("start training", "Ada")]
    assert trail.verify(records).is_intact


ACTIONS: dict[str, Callable[[Database, Person, int], object]] = {
    "enqueue": lambda db, person, version: trainings.enqueue(db, person, REQUEST, version),
    "cancel": lambda db, person, _: trainings.cancel(db, person, 1),
    "list_jobs": lambda db, person, _: trainings.list_jobs(db, person),
    "load_job": lambda db, person, _: trainings.load_job(db, person, 1),
    "epochs_of": lambda db, person, _: trainings.epochs_of(db, person, 1),
    "events_of": lambda db, person, _: trainings.events_of(db, person, 1),
    "log_tail": lambda db, person, _: trainings.log_tail(db, person, 1),
}


@pytest.mark.parametrize("record_settings", ["sqlite"], indirect=True)
@pytest.mark.parametrize("action", ACTIONS)
def test_only_an_administrator_may_do_anything_with_jobs(records: Database, version: int, action: str) -> None:
    for role in set(ROLES) - {"administrator"}:
        with pytest.raises(NotAllowed):
            ACTIONS[action](records, add_person(records, f"{role} {action}", role), version)
    assert trainings.list_jobs(records, LocalTerminal(1)) == []


def test_a_job_for_another_kind_of_picture_or_an_unknown_set_is_refused(
    records: Database, admin: Person, version: int
) -> None:
    with pytest.raises(InvalidInput, match="holds ultrasound"):
        trainings.enqueue(records, admin, FitRequest("cnn", Modality.MAMMOGRAPHY), version)
    with pytest.raises(NotFound):
        trainings.enqueue(records, admin, REQUEST, version + 7)
    with pytest.raises(NotFound):
        trainings.cancel(records, admin, 99)


def test_the_oldest_job_is_taken_first_and_one_machine_trains_one_at_a_time(
    records: Database, admin: Person, version: int
) -> None:
    first, second = (trainings.enqueue(records, admin, REQUEST, version) for _ in range(2))
    held = taken(records)
    assert held.id == first and held.row.request == REQUEST.to_json()
    assert take(records, "w2") is None
    assert taken(records, "w3", "another machine").id == second


def test_of_two_workers_that_ask_at_once_one_gets_the_job(records: Database, admin: Person, version: int) -> None:
    for _ in range(4):
        trainings.enqueue(records, admin, REQUEST, version)
    start, found = threading.Barrier(6), []

    def ask(number: int) -> None:
        start.wait()
        found.append(take(records, f"w{number}", f"m{number % 3}"))

    threads = [threading.Thread(target=ask, args=(number,)) for number in range(6)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    held = [claim for claim in found if claim is not None]
    assert len(held) == 3 and len({claim.id for claim in held}) == 3  # six workers, three machines


def test_two_administrators_who_cancel_at_once_cancel_once(records: Database, admin: Person, version: int) -> None:
    job_id = trainings.enqueue(records, admin, REQUEST, version)
    start, refused = threading.Barrier(2), []

    def cancel() -> None:
        start.wait()
        try:
            trainings.cancel(records, admin, job_id)
        except Conflict as error:
            refused.append(error)

    threads = [threading.Thread(target=cancel) for _ in range(2)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(refused) == 1 and trainings.load_job(records, admin, job_id).state == CANCELLED
    assert [entry.action for entry in trail.entries(records, admin)].count("cancel training") == 1


def test_a_heartbeat_keeps_the_job_and_brings_the_cancel(records: Database, admin: Person, version: int) -> None:
    job_id = trainings.enqueue(records, admin, REQUEST, version)
    held = taken(records)
    let_the_lease_expire(records)
    assert (
        QUEUE.heartbeat(records, held, {"memory_mib": 700, "device": "AMD EPYC, 2 cores", "message": "Trains."})
        == GO_ON
    )
    assert take(records, "w2", "m2") is None  # renewed in time: nobody else gets it
    trainings.cancel(records, admin, job_id)
    row = trainings.load_job(records, admin, job_id)
    assert row.is_stopping and row.state == RUNNING and row.memory_mib == 700
    assert device_text(row).replace("\\", "") == "on m1: AMD EPYC, 2 cores · 700 MiB of memory in use"
    assert QUEUE.heartbeat(records, held) == STOP
    assert QUEUE.finish(records, held, CANCELLED, "Cancelled.")
    assert trainings.load_job(records, admin, job_id).state == CANCELLED
    assert device_text(trainings.load_job(records, admin, job_id)).replace("\\", "") == "on m1: AMD EPYC, 2 cores"


def test_a_job_whose_worker_died_goes_to_the_next_one_and_the_first_cannot_spoil_it(
    records: Database, admin: Person, version: int
) -> None:
    job_id = trainings.enqueue(records, admin, REQUEST, version)
    slow = taken(records)
    let_the_lease_expire(records)
    held = taken(records, "w2")
    assert (held.id, held.attempt) == (job_id, 2)
    assert QUEUE.heartbeat(records, slow) == LOST
    assert trainings.add_epochs(records, slow, "", [{"epoch": 1, "loss": 9.0}]) == 0
    assert not QUEUE.finish(records, slow, FAILED, "Too late.")
    assert trainings.load_job(records, admin, job_id).state == RUNNING
    assert QUEUE.finish(records, held, DONE, "Done.", {"model_id": "m"})
    assert trainings.load_job(records, admin, job_id).result == {"model_id": "m"}


def test_a_job_that_kills_its_worker_three_times_is_dead_and_says_so(
    records: Database, admin: Person, version: int
) -> None:
    job_id = trainings.enqueue(records, admin, REQUEST, version)
    for attempt in range(1, ATTEMPTS + 1):
        assert taken(records, f"w{attempt}").attempt == attempt
        let_the_lease_expire(records)
    assert take(records, "w9") is None
    row = trainings.load_job(records, admin, job_id)
    assert row.state == DEAD and "died 3 times" in row.message
    assert "training dead" in [entry.action for entry in trail.entries(records, admin)]


def test_a_cancelled_job_whose_worker_died_is_not_tried_again(records: Database, admin: Person, version: int) -> None:
    job_id = trainings.enqueue(records, admin, REQUEST, version)
    taken(records)
    trainings.cancel(records, admin, job_id)
    let_the_lease_expire(records)
    assert take(records, "w2") is None
    assert trainings.load_job(records, admin, job_id).state == CANCELLED


def test_a_worker_that_is_told_to_end_hands_the_job_back_without_a_failed_attempt(
    records: Database, admin: Person, version: int
) -> None:
    trainings.enqueue(records, admin, REQUEST, version)
    QUEUE.hand_back(records, taken(records))
    assert taken(records, "w2").attempt == 1


def test_an_epoch_is_kept_once_however_often_it_is_told(records: Database, admin: Person, version: int) -> None:
    job_id = trainings.enqueue(records, admin, REQUEST, version)
    held = taken(records)
    rows = [{"epoch": number, "loss": 1 / number, "seconds": 2.0} for number in (1, 2)]
    assert trainings.add_epochs(records, held, "", rows[:1]) == 1
    assert trainings.add_epochs(records, held, "", rows) == 1
    assert trainings.add_epochs(records, held, "all", rows[:1]) == 1
    retained = trainings.epochs_of(records, admin, job_id)
    assert [(epoch.part, epoch.epoch, epoch.measures["loss"]) for epoch in retained] == [
        ("", 1, 1.0), ("", 2, 0.5), ("all", 1, 1.0),
    ]  # fmt: skip
    assert trainings.seconds_left(trainings.load_job(records, admin, job_id), retained[:2]) == pytest.approx(2.0)


def test_a_removed_data_set_cannot_be_trained_on_and_a_used_one_not_removed(
    records: Database, admin: Person, version: int
) -> None:
    data_set_id = data_sets.load_version(records, admin, version).data_set_id
    trainings.enqueue(records, admin, REQUEST, version)
    with pytest.raises(Conflict, match="is not over"):
        data_sets.remove_data_set(records, admin, data_set_id)
    with records.read() as connection:
        assert connection.execute(select(tables.data_set.c.removed_at)).scalar_one() is None


def test_several_seeds_are_several_trainings_or_none(records: Database, admin: Person, version: int) -> None:
    three = with_seeds(REQUEST, "0, 1,2")
    assert len(trainings.enqueue_all(records, admin, three, version)) == 3
    with pytest.raises(InvalidInput):
        trainings.enqueue_all(records, admin, [REQUEST, replace(REQUEST, modality=Modality.HISTOLOGY)], version)
    assert len(trainings.list_jobs(records, admin)) == 3


def test_the_step_within_an_epoch_counts_until_the_epoch_is_over(
    records: Database, admin: Person, version: int
) -> None:
    job_id = trainings.enqueue(records, admin, REQUEST, version)
    held = taken(records)
    QUEUE.heartbeat(records, held, {"progress": {"part": "", "epoch": 1, "step": 5, "steps": 10}})
    job = trainings.load_job(records, admin, job_id)
    assert trainings.share_done(job, []) == pytest.approx(0.5 / REQUEST.n_epochs)
    trainings.add_epochs(records, held, "", [{"epoch": 1, "loss": 0.5, "seconds": 1.0}])
    assert trainings.share_done(job, trainings.epochs_of(records, admin, job_id)) == pytest.approx(1 / REQUEST.n_epochs)
    QUEUE.finish(records, held, FAILED, "It failed.")
    assert trainings.load_job(records, admin, job_id).progress == {}


def test_a_search_is_a_job_whose_trials_are_seen_also_when_it_is_over(
    records: Database, admin: Person, version: int
) -> None:
    asked = replace(REQUEST, trials=4, refits=2)
    assert asked.runs == 6 and asked.to_command().startswith("python -m train search cnn")
    job_id = trainings.enqueue(records, admin, asked, version)
    tried = [{"number": 1, "settings": ["mixup=0.2"], "state": "pruned", "epochs": 2, "validation_auc": 0.6}]
    held = taken(records)
    QUEUE.heartbeat(records, held, {"progress": {"trials": tried}})
    assert (
        trainings.load_job(records, admin, job_id).trials == tried
        and not trainings.load_job(records, admin, job_id).progress
    )
    QUEUE.finish(records, held, FAILED, "It failed.")
    assert trainings.load_job(records, admin, job_id).trials == tried


@pytest.mark.parametrize("record_settings", ["sqlite"], indirect=True)
def test_a_finished_training_says_what_it_came_to_and_teaches_the_next_estimate(
    records: Database, admin: Person, version: int
) -> None:
    request = replace(REQUEST, seed=3)
    job_id = trainings.enqueue(records, admin, request, version)
    slow = taken(records)
    before = duration.estimate(records, admin, request, 8)
    trainings.add_epochs(records, slow, "", [epoch(1)])
    assert duration.estimate(records, admin, request, 8) == before  # the first epoch is slower than the others
    let_the_lease_expire(records)
    held = taken(records, "w2")
    trainings.add_epochs(records, held, "", [epoch(2), epoch(3)])
    assert QUEUE.finish(records, held, DONE, "Done.")
    job, epochs = trainings.load_job(records, admin, job_id), trainings.epochs_of(records, admin, job_id)
    assert "seed 3 · attempt 2, resumed after 1 of 3 epochs" in outcome_text(job, epochs, None)

    whole = trainings.enqueue(records, admin, request, version)
    held = taken(records)
    trainings.add_epochs(records, held, "", [epoch(1), epoch(2), epoch(3)])
    assert QUEUE.finish(records, held, DONE, "Done.")
    with records.begin() as connection:
        started = tables.now() - timedelta(seconds=117)
        connection.execute(
            update(tables.job).where(tables.job.c.id == whole).values(started_at=started, ended_at=tables.now())
        )
    found = duration.estimate(records, admin, request, 8)
    assert found is not None and found.is_whole and found.source == f"training {whole} on this site"
    assert 60 * found.minutes == pytest.approx(117, abs=1)
    for n_training, seconds in ((12, 1.5 * 9 + 1.5 * 108), (4, 0.5 * 9 + 108)):  # three epochs of 3 s, and the rest
        other = duration.estimate(records, admin, request, n_training)
        assert other is not None and 60 * other.minutes == pytest.approx(seconds, abs=2)
    assert "took 2 minutes" in outcome_text(trainings.load_job(records, admin, whole), [], None)
    elsewhere = replace(request, modality=Modality.MAMMOGRAPHY)
    other = duration.estimate(records, admin, elsewhere, 8)
    assert other is None or "mammography" in other.source  # never another kind of picture's


def epoch(number: int) -> dict[str, float]:
    return {"epoch": number, "loss": 1.0, "seconds": 3.0}


@sqlite_only
def test_what_is_told_of_a_training_is_its_own(records: Database, admin: Person, version: int) -> None:
    bea, _ = (add_person(records, name, "administrator") for name in ("Bea", "Cleo"))
    first, second = (trainings.enqueue(records, who, REQUEST, version) for who in (admin, bea))
    listed = [(row.id, row.created_by_name) for row in trainings.list_jobs(records, admin)]
    assert listed == [(second, "Bea"), (first, "Ada")]
    for job_id in (first, second):
        assert len(trainings.events_of(records, admin, job_id)) == 1  # put into the queue
        held = taken(records, f"w{job_id}", f"m{job_id}")
        trainings.add_epochs(records, held, "", [epoch(1) | {"area": 0.5}])
        QUEUE.finish(records, held, FAILED, f"End of {job_id}.")
    for job_id in (first, second):
        sentences = [event.sentence for event in trainings.events_of(records, admin, job_id)]
        assert sentences and not [one for one in sentences if f"End of {first + second - job_id}" in one]
        (only,) = trainings.epochs_of(records, admin, job_id)
        assert only.measures == {"loss": 1.0, "seconds": 3.0, "area": 0.5}


@sqlite_only
def test_epochs_are_told_of_all_folds_and_of_the_run_on_all(records: Database, admin: Person, version: int) -> None:
    trainings.enqueue(records, admin, replace(REQUEST, epochs=5, folds=3), version)
    assert worker._Progress(records, taken(records), None).total == 5 * 4  # type: ignore[arg-type]


@sqlite_only
def test_of_a_long_log_the_last_lines_are_read(records: Database, admin: Person, version: int) -> None:
    job_id = trainings.enqueue(records, admin, REQUEST, version)
    assert trainings.log_tail(records, admin, job_id) == ""
    log = trainings.folder_of(records.settings, job_id) / "log.txt"
    log.parent.mkdir(parents=True, exist_ok=True)
    log.write_text("first\n" + "x" * trainings.LOG_BYTES + "\nlast\n")
    assert trainings.log_tail(records, admin, job_id).splitlines() == ["x" * (trainings.LOG_BYTES - 6), "last"]
    log.write_text("".join(f"{number}\n" for number in range(40)))
    assert trainings.log_tail(records, admin, job_id).splitlines() == [str(number) for number in range(10, 40)]


def test_what_is_left_is_told_by_the_last_five_epochs_of_a_running_training_and_is_never_below_nothing(
    records: Database, admin: Person, version: int
) -> None:
    job_id = trainings.enqueue(records, admin, REQUEST, version)
    waiting = trainings.load_job(records, admin, job_id)
    taken(records)
    job = trainings.load_job(records, admin, job_id)
    epochs = [trainings.Epoch("", number, 1, {"seconds": 1.0 if number == 1 else 3.0}) for number in range(1, 7)]
    job = replace(job, request=replace(job.request, epochs=8))
    assert trainings.seconds_left(job, epochs) == pytest.approx(6.0)
    assert trainings.seconds_left(job, epochs[:1]) == pytest.approx(7.0)
    three = replace(job, request=replace(job.request, epochs=8, folds=3))
    assert trainings.seconds_left(three, epochs) == pytest.approx(3 * 26)
    for wanted in (6, 5):
        over = replace(job, request=replace(job.request, epochs=wanted))
        assert trainings.seconds_left(over, epochs) == 0
    assert trainings.seconds_left(job, []) is None and trainings.seconds_left(waiting, epochs) is None
    assert trainings.seconds_left(replace(job, result={}), epochs) is None
