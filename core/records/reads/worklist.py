"""The worklist of one reader: where each study stands for them and for others, whose it is, and what is next.

State is the reader's: that another has finished a study finishes nothing of one's own. Nothing of the AI is in anything
this module returns, not even in an order, and nothing of another's read that its reader may not see yet.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from sqlalchemy import Connection, insert, select, update

from core.errors import Conflict, InvalidInput
from core.records.audit import trail
from core.records.database import tables
from core.records.database.db import Database
from core.records.people.permissions import ACTIONS, Actor, Person, acting, allowed
from core.records.reads import reading_leases
from core.records.reads.reads import disagreement_of, has_read, studies_with_others_visible, to_arbitrate
from core.records.reads.rows import STATES, StudyRow, find_study, in_worklist, study_rows


@dataclass(frozen=True, slots=True)
class WorklistRow:
    """A study as one reader finds it.

    my_state: one of `STATES`, of this reader's own reads; of who reads nothing, the study's. others: name -> state of
    everybody else who read it. disagreement: breast -> the categories of its readers where they ask for different
    things; empty while this reader may not see others' reads. assigned_to: a name or "". held_by: who else is reading
    it now, or "". has_draft: this reader filled in something that is not saved. is_mine: assigned to this reader, read
    by them, or uploaded by them and assigned to nobody else. is_open: there is something for this reader to do.
    """

    study: StudyRow
    my_state: str
    others: Mapping[str, str]
    disagreement: Mapping[str, tuple[str, ...]]
    assigned_to: str = ""
    held_by: str = ""
    has_draft: bool = False
    is_double_read: bool = False
    needs_arbitration: bool = False
    is_mine: bool = False
    is_open: bool = False


@dataclass(frozen=True, slots=True)
class Open:
    """How many studies wait for a reader: not begun by anybody, begun by them, to be arbitrated by them."""

    n_new: int
    n_begun: int
    n_to_arbitrate: int


def worklist(db: Database, actor: Actor, *, search: str = "") -> list[WorklistRow]:
    """Every study, newest first. search: part of the name, any case. Raises NotAllowed."""
    with acting(db.read(), actor, "see_worklist") as (connection, person):
        found = _as_found_by(connection, person, study_rows(connection, in_worklist()))
    wanted = search.strip().casefold()
    # Here and not in SQL: the databases fold the case of letters beyond ASCII in different ways.
    return [row for row in found if wanted in row.study.display_name.casefold()]


def worklist_row(db: Database, actor: Actor, study_id: str) -> WorklistRow:
    """One study as this reader finds it. Raises NotAllowed, NotFound."""
    with acting(db.read(), actor, "see_worklist") as (connection, person):
        find_study(connection, study_id)
        return _as_found_by(connection, person, study_rows(connection, tables.study.c.id == study_id))[0]


def n_open(rows: Iterable[WorklistRow]) -> Open:
    """What waits for the reader whose rows these are."""
    waiting = [row for row in rows if row.is_open]
    n_to_arbitrate = sum(row.needs_arbitration for row in waiting)
    n_begun = sum(row.my_state == STATES[1] for row in waiting)
    return Open(len(waiting) - n_to_arbitrate - n_begun, n_begun, n_to_arbitrate)


def next_study(rows: Sequence[WorklistRow], study_id: str = "") -> WorklistRow | None:
    """What to read after this study: begun ones first, then those assigned to the reader, then the oldest.

    Nothing that is assigned to somebody else or being read now. The AI has no part in it.
    """
    waiting = [
        row for row in rows
        if row.is_open and not row.held_by and row.study.id != study_id and (row.is_mine or not row.assigned_to)
    ]  # fmt: skip
    return min(
        waiting,
        key=lambda row: (row.my_state != STATES[1], not (row.assigned_to and row.is_mine), row.study.created_at),
        default=None,
    )


def readers(db: Database, actor: Actor) -> dict[int, str]:
    """Who can be assigned a study: id -> name, by name. Raises NotAllowed."""
    person = tables.person
    with acting(db.read(), actor, "assign_study") as (connection, _):
        rows = connection.execute(select(person).where(person.c.disabled.is_(False)).order_by(person.c.name)).all()
    return {row.id: row.name for row in rows if ACTIONS["record_first_read"] & set(row.roles)}


def assign(db: Database, actor: Actor, study_id: str, *, reader: int | None, is_double_read: bool = False) -> None:
    """Whose study it is to read (None: nobody's), and whether two are to read it, blinded to each other; audited.

    Raises NotAllowed, NotFound; InvalidInput for somebody who reads nothing; Conflict where double reading is begun or
    ended once a read is saved.
    """
    plan = tables.assignment
    if reader is not None and reader not in readers(db, actor):
        raise InvalidInput("A study is assigned to somebody who reads.")
    with acting(db.begin(), actor, "assign_study") as (connection, person):
        find_study(connection, study_id, is_for_change=True)
        before = connection.execute(select(plan).where(plan.c.study_id == study_id)).one_or_none()
        was_double = before is not None and before.is_double_read
        if is_double_read != was_double and has_read(connection, study_id):
            raise Conflict("A read of this study is saved already, so the number of its readers stays as it is.")
        values = {"person_id": reader, "is_double_read": is_double_read}
        if before is None:
            connection.execute(insert(plan).values(study_id=study_id, **values))
        else:
            connection.execute(update(plan).where(plan.c.study_id == study_id).values(**values))
        trail.record(
            connection, person.id, "assign study", f"study {study_id}", reader=reader, is_double_read=is_double_read
        )


def _as_found_by(connection: Connection, person: Person, rows: Sequence[StudyRow]) -> list[WorklistRow]:
    states: dict[str, dict[int, str]] = {}
    newest: dict[str, dict[int, Mapping[str, str]]] = {}
    for read in connection.execute(_reads()):
        known = states.setdefault(read.study_id, {})
        if read.kind == "final" or read.person_id not in known:
            known[read.person_id] = STATES[2] if read.kind == "final" else STATES[1]
            given = {breast: impression["birads"] for breast, impression in read.impressions.items()}
            newest.setdefault(read.study_id, {})[read.person_id] = given
    names = {row.id: row.name for row in connection.execute(select(tables.person.c.id, tables.person.c.name))}
    plans = {row.study_id: row for row in connection.execute(select(tables.assignment))}
    held, drafts, priors = _held(connection), _drafts(connection, person), _priors(connection)
    visible, disputed = studies_with_others_visible(connection, person, rows), to_arbitrate(connection)
    found = []
    for row in rows:
        of_readers, plan = states.get(row.id, {}), plans.get(row.id)
        assigned, is_double = (plan.person_id, plan.is_double_read) if plan else (None, False)
        holder = held.get(row.id)
        is_uploader = row.created_by == person.id and assigned is None
        needs_arbitration = row.id in disputed
        found.append(
            WorklistRow(
                study=row,
                my_state=of_readers.get(person.id, STATES[0]) if _reads_at_all(person) else row.state,
                others={names[one]: state for one, state in of_readers.items() if one != person.id},
                disagreement=disagreement_of(newest.get(row.id, {}).values()) if row.id in visible else {},
                assigned_to=names.get(assigned, "") if assigned else "",
                held_by=names[holder] if holder is not None and holder != person.id else "",
                has_draft=row.id in drafts,
                is_double_read=is_double,
                needs_arbitration=needs_arbitration,
                is_mine=assigned == person.id or person.id in of_readers or is_uploader,
                is_open=_reads_at_all(person)
                and _is_open(person, of_readers, is_double, needs_arbitration)
                and (row.id not in priors or bool(of_readers) or assigned is not None),
            )
        )
    return found


def _is_open(person: Person, of_readers: Mapping[int, str], is_double: bool, needs_arbitration: bool) -> bool:
    """Whether something is left to do for this reader: their own unfinished read, or one that nobody has taken on."""
    own = of_readers.get(person.id)
    if own is not None:
        return own != STATES[2]
    return needs_arbitration or len(of_readers) < (2 if is_double else 1)


def _reads_at_all(person: Person) -> bool:
    return allowed(person, "record_first_read")


def _held(connection: Connection) -> dict[str, int]:
    lease = tables.reading_lease.c
    rows = connection.execute(select(lease.study_id, lease.person_id).where(reading_leases.is_alive()))
    return {row.study_id: row.person_id for row in rows}


def _drafts(connection: Connection, person: Person) -> set[str]:
    draft = tables.read_draft.c
    return set(connection.execute(select(draft.study_id).where(draft.person_id == person.id)).scalars())


def _priors(connection: Connection) -> set[str]:
    """Studies that came only to be compared with another: as earlier exams that nobody asked for."""
    arrival = tables.arrival.c
    rows = connection.execute(select(arrival.study_id, arrival.prior_of).where(arrival.study_id.is_not(None)))
    asked: dict[str, bool] = {}
    for row in rows:
        asked[row.study_id] = asked.get(row.study_id, False) or row.prior_of is None
    return {study_id for study_id, is_asked_for in asked.items() if not is_asked_for}


def _reads() -> Any:
    read = tables.read.c
    return select(read.study_id, read.person_id, read.kind, read.impressions).order_by(read.id)
