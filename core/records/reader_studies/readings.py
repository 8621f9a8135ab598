"""Reading in a reader study: each reader's next case, and what was said of it, which nothing changes afterwards.

A reader sees neither the list of cases, nor a name, nor what became of them, nor how others read. The AI's answer is
shown in aided reads alone; that it was is written down as every other answer shown is, so that a later first read of
the same pictures is marked. A case whose answer the reader had seen before an unaided read is marked in the same way.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any

import numpy as np
from sqlalchemy import Connection, insert, select

from core.errors import Conflict, InvalidInput
from core.evaluation.promotion import Overlap
from core.evaluation.statistics.reader_study import ReaderStudy
from core.models.aggregate import breast_scores
from core.records.audit import trail
from core.records.database import tables
from core.records.database.db import Database
from core.records.people.permissions import Actor, Person, acting, require_permission_now
from core.records.reader_studies.designs import (
    CLOSED,
    READING,
    ReaderStudyRow,
    find_reader_study,
    n_without_pictures,
    reader_study_row,
)
from core.records.reader_studies.learnt_cases import learnt_from, pictures_of
from core.records.reader_studies.protocol import UNAIDED, Protocol, Task, tasks_of
from core.records.reads import answers_seen
from core.records.reads.reader_scores import Weights
from core.records.reads.reads import Impression
from core.records.reads.rows import image_score, newest_predictions

LONGEST_SECONDS = 24 * 3600.0


@dataclass(frozen=True, slots=True)
class Turn:
    """Where a reader stands. task: the next one; None where there is nothing to read now, until `not_before` if that is
    a day. n_done of n_tasks are saved. aid: the only model whose answer belongs to the task; None where every model's
    does."""

    id: str
    title: str
    n_done: int
    n_tasks: int
    task: Task | None
    not_before: datetime | None = None
    aid: str | None = None


def turns(db: Database, actor: Actor) -> list[Turn]:
    """Every reader study that is being read and has this person among its readers. Raises NotAllowed."""
    with acting(db.read(), actor, "read_in_reader_study") as (connection, person):
        study = tables.reader_study.c
        rows = connection.execute(
            select(study.id, study.protocol)
            .where(study.locked_at.is_not(None), study.closed_at.is_(None))
            .order_by(study.locked_at)
        ).all()
        found = []
        for row in rows:
            protocol = Protocol.model_validate(row.protocol)
            if person.id in protocol.readers:
                found.append(_turn(connection, row.id, protocol, person))
    return found


def _turn(connection: Connection, study_id: str, protocol: Protocol, person: Person) -> Turn:
    read = tables.reader_study_read.c
    rows = connection.execute(
        select(read.study_id, read.modality, read.created_at).where(
            read.reader_study_id == study_id, read.person_id == person.id
        )
    ).all()
    done = {(row.study_id, row.modality) for row in rows}
    tasks = tasks_of(protocol, person.id)
    task = next((one for one in tasks if (one.case.study_id, one.modality) not in done), None)
    not_before = None
    if task is not None and task.session == 2 and rows and not _has_begun_again(tasks, done):
        due = max(row.created_at for row in rows) + timedelta(days=protocol.pause_days)
        not_before = due if tables.now() < due else None
    aid = protocol.aid_of(task.modality) if task else None
    return Turn(study_id, protocol.title, len(done), len(tasks), None if not_before else task, not_before, aid)


def _has_begun_again(tasks: tuple[Task, ...], done: set[tuple[str, str]]) -> bool:
    return any(one.session == 2 and (one.case.study_id, one.modality) in done for one in tasks)


def begin_task(db: Database, actor: Actor, reader_study_id: str, task: Task) -> None:
    """Writes down that the reader has the case before them from now on; once more is an interruption.

    Raises NotAllowed, NotFound; Conflict where it is another's turn or pictures of the case were removed.
    """
    with acting(db.begin(), actor, "read_in_reader_study") as (connection, person):
        _require_turn(connection, person, reader_study_id, task)
        connection.execute(
            insert(tables.reader_study_start).values(
                reader_study_id=reader_study_id, person_id=person.id, study_id=task.case.study_id,
                modality=task.modality, started_at=tables.now(),
            )
        )  # fmt: skip


def _require_turn(connection: Connection, person: Person, reader_study_id: str, task: Task) -> Turn:
    row = find_reader_study(connection, reader_study_id, is_for_change=True)
    if row.locked_at is None or row.closed_at is not None:
        raise Conflict("This reader study is not being read. What you had saved is kept.")
    protocol = Protocol.model_validate(row.protocol)
    if person.id not in protocol.readers:
        raise Conflict("You are not a reader of this study.")
    turn = _turn(connection, reader_study_id, protocol, person)
    if turn.task != task:
        raise Conflict("This case was read already, in another window. Reload the page to see the next one.")
    if n_without_pictures(connection, [task.case.study_id]):
        raise Conflict(
            "The pictures of this case were removed by the site's policy, so it cannot be read. Ask whoever designed "
            "this reader study to close it."
        )
    return turn


def save_read(
    db: Database, actor: Actor, reader_study_id: str, task: Task, impressions: Mapping[str, Impression]
) -> None:
    """Save what the reader says of each breast of the case; nothing changes it afterwards.

    Raises NotAllowed, NotFound, InvalidInput; Conflict where it is not the reader's next case or its pictures were
    removed.
    """
    require_permission_now(db, actor, "read_in_reader_study")
    seen = answers_seen.seen_before(db, actor, task.case.study_id) if task.modality == UNAIDED else None
    with acting(db.begin(), actor, "read_in_reader_study") as (connection, person):
        turn = _require_turn(connection, person, reader_study_id, task)
        if set(impressions) != set(task.case.truth):
            raise InvalidInput("Choose a BI-RADS category for each breast.")
        had_seen = answers_seen.was_shown(connection, person, task.case.study_id) or bool(seen and seen.marks)
        start = tables.reader_study_start.c
        begun = connection.execute(
            select(start.started_at)
            .where(
                start.reader_study_id == reader_study_id, start.person_id == person.id,
                start.study_id == task.case.study_id, start.modality == task.modality,
            )
            .order_by(start.id)
        ).scalars().all()  # fmt: skip
        if not begun:
            raise Conflict("This case was not opened by you. Reload the page.")
        seconds = min(max((tables.now() - begun[-1]).total_seconds(), 0.0), LONGEST_SECONDS)
        answers = {} if task.modality == UNAIDED else _answers(connection, task.case.study_id, turn.aid)
        for breast, given in impressions.items():
            connection.execute(
                insert(tables.reader_study_read).values(
                    reader_study_id=reader_study_id, person_id=person.id, study_id=task.case.study_id,
                    modality=task.modality, breast=breast, birads=given.birads, suspicion=given.suspicion,
                    seconds=round(seconds, 1), interruptions=len(begun) - 1, is_training=task.is_training,
                    had_seen_answer=task.modality == UNAIDED and had_seen, answers=answers.get(breast, []),
                    created_at=tables.now(),
                )
            )  # fmt: skip
        trail.record(connection, person.id, "read in reader study", f"reader study {reader_study_id}", task=task.number)


def _answers(connection: Connection, study_id: str, aid: str | None) -> dict[str, list[list[Any]]]:
    """breast -> [model id, weights' sha256, probability], as the reader had them before him. aid: the one model's."""
    image = tables.image.c
    images = {
        row.id: row
        for row in connection.execute(
            select(image.id, image.laterality, image.modality, image.meta).where(image.study_id == study_id)
        )
    }
    found: dict[str, list[list[Any]]] = {}
    answers = [image_score(row, images[row.image_id]) for row in newest_predictions(connection, study_id)]
    for score in breast_scores(answers):
        if score.is_whole and aid in (None, score.model_id):
            found.setdefault(score.breast, []).append([score.model_id, score.weights_sha256, round(score.malignant, 6)])
    return found


# ---- what came of it ----------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Results:
    """The reads of a closed reader study, numbered: no name and no id of a person, a patient or a study.

    table: a row a read and breast; `exam` numbers what was read at once, `case` the breast. study: what the statistics
    take. seconds: the same readers and modalities with the seconds of each exam as scores. models: weights that stood
    before readers -> (cases,) their probability, NaN where they gave none. learnt: what each of them knows of the
    pictures that it answered about, None where that cannot be told. n_marked: unaided reads of an exam by somebody who
    had seen an answer about the pictures before.
    """

    row: ReaderStudyRow
    table: tuple[Mapping[str, Any], ...]
    study: ReaderStudy
    seconds: ReaderStudy
    models: Mapping[Weights, np.ndarray]
    learnt: Mapping[Weights, Overlap | None]
    n_marked: int
    n_missing: int


def results_of(db: Database, actor: Actor, reader_study_id: str) -> Results:
    """Raises NotAllowed, NotFound; Conflict while it is being read: who knows how it stands may end
    it too early."""
    with acting(db.read(), actor, "design_reader_study") as (connection, _):
        row = reader_study_row(connection, reader_study_id)
        if row.state != CLOSED:
            what = "is being read" if row.state == READING else "was not locked"
            raise Conflict(f"This reader study {what}: its results are shown once it is closed.")
        read = tables.reader_study_read.c
        reads = connection.execute(
            select(tables.reader_study_read)
            .where(read.reader_study_id == reader_study_id, read.is_training.is_(False))
            .order_by(read.id)
        ).all()
        pictures = pictures_of(connection, [case.study_id for case in row.protocol.cases])
    protocol = row.protocol
    numbers = {person: number for number, person in enumerate(protocol.readers, start=1)}
    breasts = [(case, breast) for case in protocol.cases for breast in sorted(case.truth)]
    places = {(case.study_id, breast): place for place, (case, breast) in enumerate(breasts)}
    exams = {case.study_id: number for number, case in enumerate(protocol.cases)}
    scores = np.full((2, len(protocol.readers), len(breasts)), np.nan)
    seconds = np.full((2, len(protocol.readers), len(exams)), np.nan)
    models: dict[Weights, np.ndarray] = {}
    table = []
    for one in reads:
        place = places[one.study_id, one.breast]
        case, breast = breasts[place]
        at = protocol.modalities.index(one.modality), numbers[one.person_id] - 1
        scores[*at, place], seconds[*at, exams[one.study_id]] = one.suspicion, one.seconds
        for model_id, sha256, probability in one.answers:
            models.setdefault((model_id, sha256), np.full(len(breasts), np.nan))[place] = probability
        table.append(
            {
                "reader": f"reader {numbers[one.person_id]}", "modality": one.modality,
                "exam": exams[one.study_id] + 1, "case": place + 1,
                "patient": case.patient, "truth": int(case.truth[breast]), "score": one.suspicion,
                "birads": one.birads, "seconds": one.seconds, "interruptions": one.interruptions,
                "had_seen_answer": int(one.had_seen_answer),
                "answered_by": "; ".join(sorted(f"{model_id} {sha256[:8]}" for model_id, sha256, _ in one.answers)),
            }
        )  # fmt: skip
    readers = tuple(f"reader {number}" for number in numbers.values())
    truths, patients = zip(*((case.truth[breast], str(case.patient)) for case, breast in breasts), strict=True)
    study = ReaderStudy(protocol.modalities, readers, np.asarray(truths), scores, np.asarray(patients))
    of_exams = np.asarray([str(case.patient) for case in protocol.cases])
    timed = ReaderStudy(protocol.modalities, readers, np.ones(len(exams), bool), seconds, of_exams)
    n_missing = sum(one.n_tasks - one.n_done for one in row.progress)
    marked = len({(one["reader"], one["modality"], one["exam"]) for one in table if one["had_seen_answer"]})
    in_order = {key: models[key] for key in sorted(models)}
    shown_at = [places.get(one, -1) for one in zip(pictures["study_id"], pictures["breast"], strict=True)]
    learnt = learnt_from(
        db.settings,
        {key: pictures[np.isin(shown_at, np.flatnonzero(~np.isnan(given)))] for key, given in in_order.items()},
    )
    return Results(row, tuple(table), study, timed, in_order, learnt, marked, n_missing)
