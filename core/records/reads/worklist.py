"""The worklist of one reader: where each study stands for them and for others, and where two readers disagree.

State is the reader's: that another has finished a study finishes nothing of one's own. Nothing of the AI is in anything
this module returns, and nothing of another's read that its reader may not see yet.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

from sqlalchemy import Connection, select

from core.records.database import tables
from core.records.database.db import Database
from core.records.people.permissions import Actor, Person, allowed, require_permission
from core.records.reads.reads import studies_with_others_visible
from core.records.reads.rows import BIRADS, STATES, StudyRow, study_rows, undeleted

MANAGEMENT: Mapping[str, str] = {
    "0": "more imaging", "1": "routine", "2": "routine", "3": "short-interval follow-up",
    **dict.fromkeys(("4A", "4B", "4C", "5", "6"), "tissue diagnosis"),
}  # fmt: skip
"""What a category asks for (ACR BI-RADS Atlas, 5th edition, table of concordance between categories and management)."""


@dataclass(frozen=True, slots=True)
class WorklistRow:
    """A study as one reader finds it. my_state: one of `STATES`, of this reader's own reads. others: name -> state of
    everybody else who read it. disagreement: of which breasts readers' categories ask for different things, breast ->
    their categories in the order of severity; empty while this reader may not see others' reads.
    """

    study: StudyRow
    my_state: str
    others: Mapping[str, str]
    disagreement: Mapping[str, tuple[str, ...]]


def worklist(db: Database, actor: Actor, *, search: str = "") -> list[WorklistRow]:
    """Every study, newest first. search: part of the name, any case. Raises NotAllowed."""
    with db.read() as connection:
        person = require_permission(connection, actor, "see_worklist")
        rows = study_rows(connection, undeleted())
        found = _with_readers(connection, person, rows)
    wanted = search.strip().casefold()
    # Here and not in SQL: the databases fold the case of letters beyond ASCII in different ways.
    return [row for row in found if wanted in row.study.display_name.casefold()]


def disagreement_of(newest: Iterable[Mapping[str, str]]) -> dict[str, tuple[str, ...]]:
    """Breast -> the categories that readers gave it, where they ask for different things.

    newest: of each reader the last assessment, breast -> BI-RADS category.
    """
    given: dict[str, set[str]] = {}
    for read in newest:
        for breast, category in read.items():
            given.setdefault(breast, set()).add(category)
    return {
        breast: tuple(sorted(categories, key=BIRADS.index, reverse=True))
        for breast, categories in given.items()
        if len({MANAGEMENT[category] for category in categories}) > 1
    }


def _with_readers(connection: Connection, person: Person, rows: Iterable[StudyRow]) -> list[WorklistRow]:
    states: dict[str, dict[int, str]] = {}
    newest: dict[str, dict[int, Mapping[str, str]]] = {}
    names: dict[int, str] = {}
    for read in connection.execute(_reads()):
        names[read.person_id] = read.name
        state = STATES[2] if read.kind == "final" else STATES[1]
        known = states.setdefault(read.study_id, {})
        if state == STATES[2] or read.person_id not in known:
            known[read.person_id] = state
            given = {breast: impression["birads"] for breast, impression in read.impressions.items()}
            newest.setdefault(read.study_id, {})[read.person_id] = given
    rows = list(rows)
    visible = studies_with_others_visible(connection, person, rows)
    return [
        WorklistRow(
            study=row,
            my_state=_own(person, row, states.get(row.id, {})),
            others={names[one]: state for one, state in states.get(row.id, {}).items() if one != person.id},
            disagreement=disagreement_of(newest.get(row.id, {}).values()) if row.id in visible else {},
        )
        for row in rows
    ]


def _own(person: Person, row: StudyRow, states: Mapping[int, str]) -> str:
    """For somebody who reads nothing, the study's own state."""
    return states.get(person.id, STATES[0]) if allowed(person, "record_first_read") else row.state


def _reads() -> Any:
    read, author = tables.read.c, tables.person.c
    return (
        select(read.study_id, read.person_id, read.kind, read.impressions, author.name)
        .join_from(tables.read, tables.person, read.person_id == author.id)
        .order_by(read.id)
    )
