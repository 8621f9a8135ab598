"""Which role may do what, and who is asking: one table that pages, action functions and `docs/security.md` read.

What acts is an actor: a session, the machine's own terminal, or a named process. An actor says nothing about roles:
`require_permission` reads them anew in the transaction of each act, so that nobody acts on what they once were.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any, TypeAlias

from sqlalchemy import Connection, Row, select

from core.errors import NotAllowed, SignedOut
from core.records.database import tables
from core.records.database.db import Database, may_write, settings_of, stored_choices

ROLES = ("radiologist", "researcher", "administrator")

_RADIOLOGIST = ("radiologist",)
_READERS = ("radiologist", "administrator")
_RESEARCH = ("researcher", "administrator")
_ADMINISTRATOR = ("administrator",)


@dataclass(frozen=True, slots=True)
class Person:
    """Somebody who is signed in. roles: a subset of `ROLES`; any iterable is accepted and kept as a frozenset."""

    id: int
    name: str
    roles: frozenset[str]

    def __init__(self, id: int, name: str, roles: Iterable[str]) -> None:
        held = frozenset(roles)
        if held - set(ROLES):
            raise ValueError(f"roles can be {ROLES}, not {sorted(held - set(ROLES))}")
        object.__setattr__(self, "id", id)
        object.__setattr__(self, "name", name)
        object.__setattr__(self, "roles", held)


@dataclass(frozen=True, slots=True)
class SessionActor:
    """Whoever holds this session. token_sha256: of the token in the cookie, 64 hex digits."""

    token_sha256: str


@dataclass(frozen=True, slots=True)
class SignedIn(SessionActor):
    """A session with what pages draw of its person; it acts as any session does. Roles are not remembered."""

    id: int
    name: str


@dataclass(frozen=True, slots=True)
class LocalTerminal:
    """Whoever starts programs of this product on its machine, where they may read and write everything anyway.

    person_id: the person under whom the acts are recorded, who need not be signed in.
    """

    person_id: int


@dataclass(frozen=True, slots=True)
class ProcessActor:
    """A process of the product that finishes what somebody asked for. name: a key of `PROCESS_ACTIONS`.

    person_id: who asked. Their roles and their account count as they are when the process acts.
    """

    name: str
    person_id: int


Actor: TypeAlias = SessionActor | LocalTerminal | ProcessActor

PROCESS_ACTIONS: Mapping[str, Mapping[str, str]] = {
    "worker": {"manage_data": "manage_data"},
    "archive": {"create_study": "query_archive"},
    "watch": {"create_study": "manage_settings"},
    "push": {"create_study": "manage_settings"},
}
"""What each process may do at all, and the action that whoever asked for it must be allowed: the worker makes data sets
of imports, the archive's makes studies of what a reader fetched, the watch's of what came by an administrator's rules,
the push's of what was sent by an archive that an administrator lets send.
"""


@dataclass(frozen=True, slots=True)
class Action:
    """One thing somebody may want to do. sentence: what it means, as it is printed in `docs/security.md`."""

    name: str
    roles: tuple[str, ...]
    sentence: str


ACTION_TABLE = (
    Action("see_worklist", _READERS, "See the list of studies and open one of them, without anything of the AI."),
    Action("create_study", _RADIOLOGIST, "Upload images and make a study of them."),
    Action("assign_study", _READERS, "Say who reads a study, and have two read it before anybody did."),
    Action(
        "arbitrate", _RADIOLOGIST, "See both reads of a double reading that disagree, and decide as a third reader."
    ),
    Action("correct_image", _RADIOLOGIST, "Correct side, view or kind of an image until the first read is saved."),
    Action("record_first_read", _RADIOLOGIST, "Save the first impression of a study, before the AI is shown."),
    Action("reveal_ai", _RADIOLOGIST, "Have the AI's answer shown, once the own first impression is saved."),
    Action("see_ai", _RADIOLOGIST, "See predictions and heat maps of a study once they are revealed."),
    Action("record_final_read", _RADIOLOGIST, "Save the final assessment of a study, or an amendment to it."),
    Action("see_reads", _READERS, "See what was read, never another's read before the own first impression."),
    Action("record_truth", _READERS, "Enter what became of a study: pathology, date and source."),
    Action("see_truth", _READERS, "See what became of a study, once its final read is saved."),
    Action("export_report", _RADIOLOGIST, "Download the report of a study as HTML or PDF."),
    Action("export_deidentified", _READERS, "Download the files of a study without what says whose they are."),
    Action(
        "delete_study",
        _READERS,
        "Delete one's own wrong upload, an administrator any, with no final and no other's read.",
    ),
    Action("query_archive", _RADIOLOGIST, "Search an archive of the site, and fetch studies from it."),
    Action("see_identity", _RADIOLOGIST, "See what a study is called in the archive it came from; recorded."),
    Action("send_result", _RADIOLOGIST, "See which results went to an archive, and send one again."),
    Action("see_models", ROLES, "Read the model cards."),
    Action("compare_models", _RESEARCH, "Compare models on held-back test cases."),
    Action("see_cases", _RESEARCH, "Look at the single test cases behind a comparison."),
    Action("check_leaks", _RESEARCH, "See what the audit finds in a data set, beside the numbers measured on it."),
    Action("see_reader_scores", _RESEARCH, "Compare readers' first impressions, numbered, once their truth is known."),
    Action(
        "design_reader_study", _RESEARCH, "Design, lock and close reader studies, and see the results of closed ones."
    ),
    Action("read_in_reader_study", _RADIOLOGIST, "Read the cases of a reader study that one is a reader of."),
    Action("manage_data", _ADMINISTRATOR, "Add, split and remove data sets for training."),
    Action("manage_training", _ADMINISTRATOR, "Start, watch and cancel training jobs."),
    Action("manage_releases", _ADMINISTRATOR, "Decide which weights of a model are live."),
    Action("manage_people", _ADMINISTRATOR, "Add people, change their roles, disable them, reset their passwords."),
    Action("manage_settings", _ADMINISTRATOR, "Change what a site may choose."),
    Action(
        "manage_backups", _ADMINISTRATOR, "Make, download, verify and delete backups, and restore one beside the site."
    ),
    Action("see_drift", _ADMINISTRATOR, "See whether pictures and answers drift from what they were."),
    Action("see_audit", _ADMINISTRATOR, "Read the audit trail and verify its chain."),
)

ACTIONS: Mapping[str, frozenset[str]] = {action.name: frozenset(action.roles) for action in ACTION_TABLE}
_SENTENCES: Mapping[str, str] = {action.name: action.sentence for action in ACTION_TABLE}


def allowed(person: Person, action: str) -> bool:
    """Whether one of the person's roles may do this. An action that is not in the table is a bug: KeyError."""
    return bool(ACTIONS[action] & person.roles)


def require_role_for(person: Person, action: str) -> None:
    """Raises NotAllowed, with a sentence that names the roles, unless the person has a role for this.

    For what is drawn or received; an act asks `require_permission`.
    """
    if allowed(person, action):
        return
    roles = [role for role in ROLES if role in ACTIONS[action]]
    what = _SENTENCES[action].rstrip(".")
    what = what[0].lower() + what[1:]
    raise NotAllowed(
        f"Your account may not do this ({what}). It needs the role {' or '.join(roles)}; ask an administrator."
    )


def require_permission(connection: Connection, actor: Actor, action: str) -> Person:
    """Who acts, as they are in this transaction, once it is certain that they may do this.

    In a transaction that writes, their session and roles stay as they are until it ends: who takes them away waits
    (on PostgreSQL for the locked rows, on SQLite for the only write lock). Raises SignedOut, NotAllowed.
    """
    if isinstance(actor, ProcessActor):
        if action not in PROCESS_ACTIONS[actor.name]:
            raise NotAllowed(f"The process {actor.name} may not do this.")
        action = PROCESS_ACTIONS[actor.name][action]
    person = person_now(connection, actor)
    if not isinstance(actor, LocalTerminal):
        require_role_for(person, action)
    return person


@contextmanager
def acting(
    transaction: AbstractContextManager[Connection], actor: Actor, action: str
) -> Iterator[tuple[Connection, Person]]:
    """A transaction that begins with the question whether the actor may do this, and who they are in it.

    transaction: `db.begin()` or `db.read()`. Raises as `require_permission`.
    """
    with transaction as connection:
        yield connection, require_permission(connection, actor, action)


def require_permission_now(db: Database, actor: Actor, action: str) -> Person:
    """As `require_permission`, in a transaction of its own: for what is done before the one that acts, which asks
    again."""
    with acting(db.read(), actor, action) as (_, person):
        return person


def person_now(connection: Connection, actor: Actor) -> Person:
    """Who acts, with the roles of this moment; for what needs no role. Raises SignedOut, NotAllowed."""
    person = tables.person.c
    if isinstance(actor, SessionActor):
        return _of_session(connection, actor)
    query = select(person.id, person.name, person.roles, person.disabled).where(person.id == actor.person_id)
    row = connection.execute(query.with_for_update(read=True) if may_write(connection) else query).one_or_none()
    if row is None:
        raise NotAllowed("The account that this is done for does not exist.")
    if isinstance(actor, LocalTerminal):
        return Person(row.id, row.name, ROLES)
    if row.disabled:
        raise NotAllowed("The account of whoever started this is disabled, so nothing was done.")
    return Person(row.id, row.name, row.roles)


def _of_session(connection: Connection, actor: SessionActor) -> Person:
    query = session_query(actor.token_sha256)
    row = connection.execute(query.with_for_update(read=True) if may_write(connection) else query).one_or_none()
    settings, chosen = settings_of(connection), stored_choices(connection)
    limits = [
        min(int(chosen.get(key, {}).get("value", most)), most)  # a choice beyond the environment's value is cut to it
        for key, most in (
            ("session_idle_minutes", settings.session_idle_minutes), ("session_hours", settings.session_hours),
        )
    ]  # fmt: skip
    if row is None or not is_living(row, tables.now(), idle_minutes=limits[0], hours=limits[1]):
        raise SignedOut
    demand = str(chosen.get("second_factor", {}).get("value", settings.second_factor))
    return Person(row.id, row.name, counted_roles(row, demand))


def counted_roles(row: Row[Any], demand: str) -> list[str]:
    """The roles of a row of `session_query` that count now. demand: `Settings.second_factor`."""
    is_demanded = demand == "administrators" and row.issuer is None and row.factor_at is None
    return [role for role in row.roles if role != "administrator" or not is_demanded]


def session_query(token_sha256: str) -> Any:
    """A session with its person: what `is_living` looks at, and id, name, roles."""
    session, person, factor = tables.session.c, tables.person.c, tables.second_factor.c
    # Not a join: PostgreSQL locks no rows on the outer side of one.
    factor_at = select(factor.confirmed_at).where(factor.person_id == person.id).scalar_subquery()
    return (
        select(
            person.id, person.name, person.roles, person.disabled, person.issuer,
            factor_at.label("factor_at"), session.created_at, session.last_seen_at, session.revoked_at,
        )
        .join_from(tables.session, tables.person, session.person_id == person.id)
        .where(session.token_sha256 == token_sha256)
    )  # fmt: skip


def is_living(row: Row[Any], moment: datetime, *, idle_minutes: int, hours: int) -> bool:
    """Whether a session is neither ended, nor idle too long, nor too old at this moment, nor of somebody disabled.

    One from the future, of a clock that was ahead, would have no end until then: it is over, too.
    """
    if row.revoked_at is not None or row.disabled:
        return False
    idle, age = moment - row.last_seen_at, moment - row.created_at
    if min(idle, age) < -tables.CLOCK_STEP:
        return False
    return bool(idle <= timedelta(minutes=idle_minutes) and age <= timedelta(hours=hours))
