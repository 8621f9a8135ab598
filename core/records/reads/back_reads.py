"""Back-reads: studies that models read again, or for the first time, without a reader who waits.

A row a study under one lease (`core.records.queue`), so any number of processes on any number of machines share the
work, each study is read once, and what a machine that died had in hand is taken up by another. What the models say
stays with the back-read: it is no second read that anybody saw, and changes nothing in the studies.
"""

from __future__ import annotations

import csv
import io
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import date, datetime, timedelta
from typing import Any

from sqlalchemy import Connection, Row, func, insert, select, update

from core.errors import Conflict, InvalidInput, NotFound
from core.models.cards import Card
from core.records.audit import trail
from core.records.database import tables
from core.records.database.db import Database
from core.records.database.locks import AdvisoryLock, hold
from core.records.people.permissions import Actor, acting
from core.records.queue import CANCELLED, DEAD, DONE, FAILED, OPEN, QUEUED, RUNNING, Lease, Queue
from core.records.reads.rows import find_study, image_of, in_worklist
from core.types import Image

STUDIES = Queue(
    tables.back_read_study, AdvisoryLock.BACK_READS, kind="back-read", subject="back-read study",
    begins="Is being read.", again="Waits to be read again: the process that read it ended.",
    cancelled="Stopped before it was read.", dead="Start it again once it is known why.", is_in_trail=False,
)  # fmt: skip
_INSERT_AT_ONCE = 1000
RATE_SECONDS = 600.0
COLUMNS = (
    "study", "image", "image_sha256", "modality", "laterality", "view", "model_id", "weights_sha256", "malignant",
    "threshold", "unlike_training",
)  # fmt: skip


@dataclass(frozen=True, slots=True)
class BackRead:
    """models: model id -> sha256 of its weights. counts: state of the queue -> studies in it.

    machines: machine -> studies that it is reading now. per_minute: studies that ended in the last `RATE_SECONDS`, or
    since the first one ended where that is less, a minute; None while fewer than two did.
    """

    id: int
    models: Mapping[str, str]
    counts: Mapping[str, int]
    created_by_name: str
    created_at: datetime
    machines: Mapping[str, int]
    per_minute: float | None

    @property
    def n_open(self) -> int:
        """Studies that are still to be read."""
        return sum(self.counts.get(state, 0) for state in OPEN)

    @property
    def seconds_left(self) -> float | None:
        """As long as what is open takes at this rate; None where there is none."""
        return 60 * self.n_open / self.per_minute if self.per_minute and self.n_open else None


def start(
    db: Database,
    actor: Actor,
    cards: Sequence[Card],
    *,
    since: date | None = None,
    until: date | None = None,
    only: Sequence[str] = (),
) -> int:
    """A back-read of every study with pixels, by these models; its number.

    since, until: of the day on which a study was taken, both included; a study whose day is not known is left out where
    one is given. only: ids of studies, in place of all. Raises NotAllowed, InvalidInput where there is no model or no
    study, or one of `only` has no pictures here.
    """
    with acting(db.begin(), actor, "manage_releases") as (connection, person):
        if not cards:
            raise InvalidInput("No model can answer. Name one that has its weights here.")
        models = {card.model_id: card.weights_sha256 for card in cards}
        found = _with_pictures(connection, since, until)
        if only:
            if set(only) - set(_with_pictures(connection, None, None)):
                raise InvalidInput("A study that was chosen has no pictures here any more. Choose again.")
            found = [one for one in found if one in set(only)]
        if not found:
            raise InvalidInput("No study with pictures fits. Choose another range of days.")
        number: int = connection.execute(
            insert(tables.back_read)
            .values(models=models, created_by=person.id, created_at=tables.now())
            .returning(tables.back_read.c.id)
        ).scalar_one()
        rows = [
            {"back_read_id": number, "study_id": one, "state": QUEUED, "message": "Waits to be read.", "attempts": 0}
            for one in found
        ]
        for first in range(0, len(rows), _INSERT_AT_ONCE):
            connection.execute(insert(tables.back_read_study), rows[first : first + _INSERT_AT_ONCE])
        trail.record(
            connection, person.id, "start back-read", f"back-read {number}", models=models, studies=len(found),
            since=since.isoformat() if since else None, until=until.isoformat() if until else None,
            **({"chosen": sorted(only)} if only else {}),
        )  # fmt: skip
    return number


def _with_pictures(connection: Connection, since: date | None, until: date | None) -> list[str]:
    """Ids of the studies that have pixels and were taken on these days, oldest first."""
    study, image = tables.study.c, tables.image.c
    query = select(study.id).where(
        in_worklist(), select(image.id).where(image.study_id == study.id, image.pixels_removed_at.is_(None)).exists()
    )
    query = query.where(study.taken_on >= since) if since else query
    query = query.where(study.taken_on <= until) if until else query
    return list(connection.execute(query.order_by(study.created_at, study.id)).scalars())


def load(db: Database, actor: Actor, number: int) -> BackRead:
    """How far it is. Raises NotAllowed, NotFound."""
    with acting(db.read(), actor, "manage_releases") as (connection, _):
        return _loaded(connection, number)


def newest(db: Database, actor: Actor, limit: int = 20) -> list[BackRead]:
    """The last ones that were started, the newest first. Raises NotAllowed."""
    with acting(db.read(), actor, "manage_releases") as (connection, _):
        rows = connection.execute(select(tables.back_read.c.id).order_by(tables.back_read.c.id.desc()).limit(limit))
        return [_loaded(connection, number) for number in rows.scalars().all()]


def first_open(db: Database) -> int | None:
    """The oldest back-read of which something waits or is being read. For the process that gives it to others."""
    table = tables.back_read_study
    with db.read() as connection:
        found: int | None = connection.execute(
            select(func.min(table.c.back_read_id)).where(table.c.state.in_(OPEN))
        ).scalar_one()
    return found


def stop(db: Database, actor: Actor, number: int) -> int:
    """What waits is not read; what is being read ends by itself in seconds. How many those were that waited.

    Raises NotAllowed, NotFound, Conflict where nothing waits.
    """
    table = tables.back_read_study
    with acting(db.begin(), actor, "manage_releases") as (connection, person):
        hold(connection, AdvisoryLock.BACK_READS)
        _loaded(connection, number)
        stopped = {"state": CANCELLED, "message": STUDIES.cancelled, "ended_at": tables.now()}
        n = connection.execute(
            update(table).where(table.c.back_read_id == number, table.c.state == QUEUED).values(**stopped)
        ).rowcount
        # Of what is being read no more than the end is asked for: it does not go back into the queue with its process.
        running = (table.c.back_read_id == number) & (table.c.state == RUNNING)
        n_running = connection.execute(update(table).where(running).values(cancel_asked_at=tables.now())).rowcount
        if not n and not n_running:
            raise Conflict("Nothing of it waits any more.")
        trail.record(connection, person.id, "stop back-read", f"back-read {number}", studies=n)
    return int(n)


def go_on(db: Database, actor: Actor, number: int) -> int:
    """What was stopped or failed waits again; what was read is not read again. How many. Raises as `stop`."""
    table = tables.back_read_study
    with acting(db.begin(), actor, "manage_releases") as (connection, person):
        hold(connection, AdvisoryLock.BACK_READS)
        _loaded(connection, number)
        again = {"state": QUEUED, "message": "Waits to be read.", "attempts": 0, "ended_at": None}
        again |= {"cancel_asked_at": None}
        n = connection.execute(
            update(table)
            .where(table.c.back_read_id == number, table.c.state.in_((CANCELLED, FAILED, DEAD)))
            .values(**again)
        ).rowcount
        running = (table.c.back_read_id == number) & (table.c.state == RUNNING)
        connection.execute(update(table).where(running).values(cancel_asked_at=None))
        if not n:
            raise Conflict("Nothing of it was stopped or failed.")
        trail.record(connection, person.id, "go on with back-read", f"back-read {number}", studies=n)
    return int(n)


def scores_csv(db: Database, actor: Actor, number: int) -> str:
    """What was said so far, a row an image and model, in the order of the studies. Raises NotAllowed, NotFound."""
    table, content = tables.back_read_study, io.StringIO(newline="")
    writer = csv.DictWriter(content, COLUMNS, lineterminator="\n")
    writer.writeheader()
    with acting(db.begin(), actor, "manage_releases") as (connection, person):
        _loaded(connection, number)
        query = select(table.c.study_id, table.c.result).where(table.c.back_read_id == number, table.c.state == DONE)
        n = 0
        for row in connection.execute(query.order_by(table.c.id)):
            n += 1
            writer.writerows({"study": row.study_id, **answer} for answer in row.result["answers"])
        trail.record(connection, person.id, "export back-read", f"back-read {number}", studies=n)
    return content.getvalue()


def is_open(db: Database, number: int) -> bool:
    """Whether a study of it waits or is being read. Raises NotFound."""
    with db.read() as connection:
        return _loaded(connection, number).n_open > 0


def failures(db: Database, actor: Actor, number: int) -> list[tuple[str, str]]:
    """Study and sentence of each that could not be read. Raises NotAllowed, NotFound."""
    table = tables.back_read_study
    with acting(db.read(), actor, "manage_releases") as (connection, _):
        _loaded(connection, number)
        query = select(table.c.study_id, table.c.message).where(
            table.c.back_read_id == number, table.c.state.in_((FAILED, DEAD))
        )
        return [(row.study_id, row.message) for row in connection.execute(query.order_by(table.c.id))]


def work_of(db: Database, lease: Lease) -> tuple[Mapping[str, str], list[tuple[str, Image]]]:
    """The models that are asked, and the study's images with their ids. For the process that holds the lease.

    Raises NotFound where the study is gone, Conflict where its pictures were removed.
    """
    image = tables.image
    with db.read() as connection:
        models = connection.execute(
            select(tables.back_read.c.models).where(tables.back_read.c.id == lease.row.back_read_id)
        ).scalar_one()
        study = find_study(connection, lease.row.study_id)
        rows = connection.execute(select(image).where(image.c.study_id == study.id).order_by(image.c.position)).all()
    if any(row.pixels_removed_at for row in rows):
        raise Conflict("The pictures of this study were removed.")
    return models, [(row.id, image_of(row, db, study.patient_hash)) for row in rows]


def _loaded(connection: Connection, number: int) -> BackRead:
    table, study = tables.back_read, tables.back_read_study
    row: Row[Any] | None = connection.execute(
        select(table, tables.person.c.name.label("person_name"))
        .join_from(table, tables.person, table.c.created_by == tables.person.c.id)
        .where(table.c.id == number)
    ).one_or_none()
    if row is None:
        raise NotFound(f"There is no back-read {number}.")
    mine = study.c.back_read_id == number
    counts = connection.execute(select(study.c.state, func.count().label("n")).where(mine).group_by(study.c.state))
    machines = connection.execute(
        select(study.c.machine, func.count().label("n")).where(mine, study.c.state == RUNNING).group_by(study.c.machine)
    )
    return BackRead(
        row.id, row.models, {one.state: one.n for one in counts}, row.person_name, row.created_at,
        {one.machine: one.n for one in machines}, _per_minute(connection, number),
    )  # fmt: skip


def _per_minute(connection: Connection, number: int) -> float | None:
    table, now = tables.back_read_study, tables.now()
    n, first, last = connection.execute(
        select(func.count(), func.min(table.c.ended_at), func.max(table.c.ended_at)).where(
            table.c.back_read_id == number, table.c.state.in_((DONE, FAILED)),
            table.c.ended_at > now - timedelta(seconds=RATE_SECONDS),
        )
    ).one()  # fmt: skip
    seconds = (last - first).total_seconds() if n > 1 else 0.0
    return 60 * (n - 1) / seconds if seconds else None
