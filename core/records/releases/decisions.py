"""Releases: which weights of a model answer, decided by a named administrator and never forgotten.

Every decision is a row of `release`, which the database refuses to change. What follows from the rows is written to
`live.json` (`core.models.live`) before the row is committed and under the same lock, so both change in one order; where
a process dies in between, `project` makes the file anew from the rows. A decision names the weights that its maker saw
as live: where they are not live any more, somebody else decided meanwhile, and it is refused. Which model of a modality
speaks first is no release: the table `site` holds it, and `live.json` too.

Weights that were decided about, kept in the state folder: put there whole or not at all, and never changed.
"""

from __future__ import annotations

import contextlib
import json
import os
import shutil
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any

from sqlalchemy import Connection, insert, select

from core.errors import AppError, Conflict, InvalidInput, ModelUnavailable, NotFound
from core.files import temporary_parent, whole_folder
from core.models.card_cases import cases_name
from core.models.cards import CHANCE, PROMISE, Card, known_cards, live_cards, read_card, shipped_cards, withheld_text
from core.models.live import OUTLINE_NETWORK, Live, candidate_dir, read_live, release_dir, write_live
from core.models.outline_card import (
    FILE,
    OutlineCard,
    candidate_outline_cards,
    released_outline_cards,
    shipped_outline_cards,
)
from core.models.weights import check_shards
from core.records.audit import trail
from core.records.database import tables
from core.records.database.db import Database, put_site_value, site_objects
from core.records.database.locks import AdvisoryLock, hold
from core.records.people.permissions import Actor, Person, acting, require_permission_now
from core.settings import Settings
from core.types import Modality
from core.wording import tidy_text

if TYPE_CHECKING:
    from core.evaluation.promotion import FailedCheck

PROMOTE, ROLL_BACK, RETIRE, SHADOW, END_SHADOW = "promote", "roll back", "retire", "shadow", "end shadow"
ALLOW, END_ALLOW = "allow chance", "withhold"
"""That weights answer although they would be withheld (`core.models.cards.withheld_text`), and no more."""
LEAD_PREFIX = "lead_"
"""How the keys of the table `site` begin that name a modality's lead."""
REASON_LENGTH_MOST = 2000
Released = Card | OutlineCard
"""What can be released: a model, or the outline network."""


@dataclass(frozen=True, slots=True)
class Decision:
    """One row. previous_sha256: what was live before, None for nothing. job_id: the training of a candidate.

    passed: red line -> the written reason to pass it. evidence: the numbers that were there when it was decided.
    """

    id: int
    decision: str
    model_id: str
    weights_sha256: str
    previous_sha256: str | None
    job_id: int | None
    reason: str
    passed: Mapping[str, str]
    evidence: Mapping[str, Any]
    person_name: str
    created_at: datetime


def _promote(
    db: Database,
    actor: Actor,
    candidate: int | str,
    *,
    live_sha256: str | None,
    reason: str,
    passed: Mapping[str, str],
    evidence: Mapping[str, Any],
) -> None:
    """Let a candidate answer. Only the promotion checks of this folder call this: they examine it first.

    candidate: the number of a training, or the sha256 of the weights of an outline network. live_sha256: what the actor
    saw as live, None for nothing. Raises NotAllowed, NotFound, InvalidInput, Conflict, ModelUnavailable.
    """
    job_id: int | None
    card: Released
    with _deciding(db, actor, reason) as act:
        if isinstance(candidate, int):
            job_id, card = candidate, _candidate(act, candidate)
        else:
            job_id, card = _outline_candidate(act, candidate)
        previous = act.live_as_seen(card.model_id, live_sha256)
        if previous == card.weights_sha256:
            raise Conflict("These weights are live already.")
        if isinstance(card, Card):
            _require_same_kind(db, card)
        _store_shipped(db, card.model_id)
        store_release(db.settings, card)
        act.decide(
            PROMOTE, card.model_id, card.weights_sha256, previous, job_id=job_id, passed=passed, evidence=evidence
        )


def find_outline_candidate(settings: Settings, weights_sha256: str) -> OutlineCard:
    """The card of a trained outline network in the state folder, with its weights. Raises NotFound."""
    for card in candidate_outline_cards(settings):
        if card.weights_sha256 == weights_sha256 and card.has_weights:
            return card
    raise NotFound("This outline network is missing or damaged. Put it there again.")


def roll_back(
    db: Database, actor: Actor, model_id: str, weights_sha256: str, *, live_sha256: str | None, reason: str
) -> None:
    """Let earlier weights of a model answer again: some that were live before, or the shipped ones, which are kept.

    Raises NotAllowed, NotFound, InvalidInput, Conflict, ModelUnavailable.
    """
    with _deciding(db, actor, reason) as act:
        previous = act.live_as_seen(model_id, live_sha256)
        if weights_sha256 == previous:
            raise Conflict("These weights are live already.")
        found = [card for card in _releases_of(db, act.connection, model_id) if card.weights_sha256 == weights_sha256]
        if not found:
            raise NotFound("These weights were never live or are not kept any more. Choose an earlier release.")
        _store(db, found[0])
        act.decide(ROLL_BACK, model_id, weights_sha256, previous)


def retire(db: Database, actor: Actor, model_id: str, *, live_sha256: str | None, reason: str) -> None:
    """Let a model answer no more, until somebody rolls back to a release of it or promotes a new one.

    Raises NotAllowed, InvalidInput, Conflict.
    """
    with _deciding(db, actor, reason) as act:
        previous = act.live_as_seen(model_id, live_sha256)
        if previous is None:
            raise Conflict("This model does not answer anyway.")
        _store_shipped(db, model_id)
        act.decide(RETIRE, model_id, previous, previous)


def start_shadow(db: Database, actor: Actor, job_id: int, *, reason: str) -> None:
    """Let a candidate read new images silently beside the live model. Raises NotAllowed, NotFound, Conflict."""
    with _deciding(db, actor, reason) as act:
        card = _candidate(act, job_id)
        previous = _live_now(db, act.connection, card.model_id)
        if previous == card.weights_sha256:
            raise Conflict("These weights are live already.")
        if _live_of(act.connection).shadows.get(card.model_id) == card.weights_sha256:
            raise Conflict("These weights run silently already.")
        _require_same_kind(db, card)
        store_release(db.settings, card)
        act.decide(SHADOW, card.model_id, card.weights_sha256, previous, job_id=job_id)


def end_shadow(db: Database, actor: Actor, model_id: str, weights_sha256: str, *, reason: str) -> None:
    """Let weights run silently no more; what they said stays. Raises NotAllowed, InvalidInput, Conflict."""
    with _deciding(db, actor, reason) as act:
        if _live_of(act.connection).shadows.get(model_id) != weights_sha256:
            raise Conflict("These weights do not run silently any more. Reload the page.")
        previous = _live_now(db, act.connection, model_id)
        act.decide(END_SHADOW, model_id, weights_sha256, previous)


def allow(db: Database, actor: Actor, model_id: str, *, live_sha256: str | None, reason: str) -> None:
    """Let a model answer that may be no better than chance; every read then says by whose decision and why.

    It counts for these weights alone. Raises NotAllowed, InvalidInput, Conflict.
    """
    with _deciding(db, actor, reason) as act:
        previous = act.live_as_seen(model_id, live_sha256)
        if previous is None:
            raise Conflict("This model was retired. Roll back to a release of it first.")
        card = next((one for one in known_cards(db.settings) if one.weights_sha256 == previous), None)
        if card is None or not withheld_text(card):
            raise Conflict("This model answers anyway: nothing withholds it.")
        if previous in _live_of(act.connection).allowed:
            raise Conflict("This model was let answer already. Reload the page.")
        evidence = card.measured.model_dump() if card.measured is not None else {}
        act.decide(ALLOW, model_id, previous, previous, evidence=evidence)


def end_allow(db: Database, actor: Actor, model_id: str, *, live_sha256: str | None, reason: str) -> None:
    """Let a model that may be no better than chance answer no more. Raises NotAllowed, InvalidInput, Conflict."""
    with _deciding(db, actor, reason) as act:
        previous = act.live_as_seen(model_id, live_sha256)
        if previous is None or previous not in _live_of(act.connection).allowed:
            raise Conflict("This model is not let answer any more. Reload the page.")
        act.decide(END_ALLOW, model_id, previous, previous)


def name_lead(db: Database, actor: Actor, modality: Modality, model_id: str | None) -> None:
    """Let a live model speak first on this modality's breasts, from the next page on; None lets the default decide.

    Raises NotAllowed; NotFound for a model of this modality that does not answer.
    """
    require_permission_now(db, actor, "manage_releases")
    with acting(_alone(db), actor, "manage_releases") as (connection, person):
        answering = {card.model_id for card in live_cards(db.settings) if card.modality is modality}
        if model_id is not None and model_id not in answering:
            raise NotFound(f"{model_id} does not answer for {modality}, so it cannot lead. Choose a live model.")
        before = _leads(connection).get(modality.value)
        content = {"model_id": model_id, "by": person.id, "at": tables.now().isoformat()}
        put_site_value(connection, LEAD_PREFIX + modality.value, json.dumps(content) if model_id is not None else None)
        trail.record(connection, person.id, "name lead", f"modality {modality}", before=before, after=model_id)


def decisions(db: Database, actor: Actor) -> list[Decision]:
    """What was decided, the newest first. Raises NotAllowed."""
    with acting(db.read(), actor, "manage_releases") as (connection, _):
        table = tables.release
        query = select(table, tables.person.c.name.label("person_name")).join_from(table, tables.person)
        fields = Decision.__dataclass_fields__
        rows = connection.execute(query.order_by(table.c.id.desc())).mappings()
        return [Decision(**{name: row[name] for name in fields}) for row in rows]


def releases_of(db: Database, actor: Actor, model_id: str) -> list[Released]:
    """The weights of a model that can be rolled back to: shipped or once live, and still here. Raises NotAllowed."""
    with acting(db.read(), actor, "manage_releases") as (connection, _):
        return _releases_of(db, connection, model_id)


def live_now(db: Database, actor: Actor, model_id: str) -> str | None:
    """The sha256 of a model's live weights, None where none answer. Raises NotAllowed."""
    with acting(db.read(), actor, "manage_releases") as (connection, _):
        return _live_now(db, connection, model_id)


def find_candidate(db: Database, connection: Connection, job_id: int) -> Card:
    """The card of a finished training in the caller's transaction. Raises NotFound, Conflict."""
    table = tables.job
    job = connection.execute(select(table.c.state, table.c.result).where(table.c.id == job_id)).one_or_none()
    if job is None:
        raise NotFound(f"There is no training {job_id}.")
    if job.state != "done" or not job.result:
        raise Conflict(f"Training {job_id} has no candidate: it is {job.state}.")
    return candidate_card(db.settings, job_id, job.result["model_id"], job.result["weights_sha256"])


def _require_data_set(connection: Connection, job_id: int) -> None:
    """The data set of a training is still there, and nobody removes it before the transaction ends."""
    job, version, data_set = tables.job, tables.data_set_version, tables.data_set
    query = (
        select(data_set.c.removed_at)
        .join_from(data_set, version, version.c.data_set_id == data_set.c.id)
        .join(job, job.c.version_id == version.c.id)
        .where(job.c.id == job_id)
        .with_for_update(of=data_set)
    )
    if connection.execute(query).scalar_one() is not None:
        raise Conflict(f"The data set of training {job_id} was removed, so nobody can compare its candidate any more.")


def project(db: Database) -> None:
    """Make `live.json` anew from the decisions where it differs."""
    with db.begin() as connection:
        hold(connection, AdvisoryLock.RELEASES)
        decided = _live_of(connection)
        try:
            is_right = read_live(db.settings) == decided
        except AppError:
            is_right = False
        if not is_right:
            write_live(db.settings, decided)


def reason_of(text: str) -> str:
    """A written reason as it is kept. Raises InvalidInput where it is empty or too long."""
    words = tidy_text(text, REASON_LENGTH_MOST, "reason")
    if not words:
        raise InvalidInput("Write down why: the reason is kept with the decision.")
    return words


def require_unchanged(live: str | None, seen: str | None) -> None:
    """Refuse with Conflict a decision about other weights than those that are live."""
    if live != seen:
        raise Conflict("What is live has changed meanwhile, so nothing was decided. Reload the page and compare again.")


def reasons_to_pass(lines: Sequence[FailedCheck], passed: Mapping[str, str]) -> dict[str, str]:
    """The written reason for each line that is crossed, as it is kept. Raises InvalidInput where one is missing."""
    missing = [line for line in lines if not passed.get(line.key, "").strip()]
    if missing:
        raise InvalidInput(f"This needs a written reason to be passed: {missing[0].sentence}")
    return {line.key: reason_of(passed[line.key]) for line in lines}


@contextlib.contextmanager
def _alone(db: Database) -> Iterator[Connection]:
    """A transaction that nobody else decides in; at its end `live.json` says what follows from it."""
    try:
        with db.begin() as connection:
            hold(connection, AdvisoryLock.RELEASES)
            yield connection
            write_live(db.settings, _live_of(connection))
    except BaseException as error:
        with contextlib.suppress(Exception):
            project(db)
        if isinstance(error, OSError):
            raise Conflict("The state folder cannot be written to, so nothing was decided. Make room in it.") from error
        raise


@dataclass(frozen=True, slots=True)
class _Deciding:
    """A decision in the making: its transaction, who decides, and the reason as it is kept."""

    db: Database
    connection: Connection
    person: Person
    reason: str

    def live_as_seen(self, model_id: str, seen: str | None) -> str | None:
        """The live weights of a model. Raises Conflict where they are not those that were seen as live."""
        live = _live_now(self.db, self.connection, model_id)
        require_unchanged(live, seen)
        return live

    def decide(
        self,
        decision: str,
        model_id: str,
        weights_sha256: str,
        previous_sha256: str | None,
        *,
        job_id: int | None = None,
        passed: Mapping[str, str] | None = None,
        evidence: Mapping[str, Any] | None = None,
    ) -> None:
        """Write the row, and into the audit trail."""
        reasons, numbers, person_id = dict(passed or {}), dict(evidence or {}), self.person.id
        row = insert(tables.release).values(
            decision=decision, model_id=model_id, weights_sha256=weights_sha256, previous_sha256=previous_sha256,
            job_id=job_id, reason=self.reason, passed=reasons, evidence=numbers, person_id=person_id,
            created_at=tables.now(),
        )  # fmt: skip
        self.connection.execute(row)
        trail.record(
            self.connection, person_id, f"{decision} model", f"model {model_id}",
            weights_sha256=weights_sha256, previous_sha256=previous_sha256, job=job_id, reason=self.reason,
            passed=reasons, compared_with=numbers.get("compared_with"),
        )  # fmt: skip


@contextlib.contextmanager
def _deciding(db: Database, actor: Actor, reason: str) -> Iterator[_Deciding]:
    """A decision that `actor` makes. Raises NotAllowed, InvalidInput without a reason."""
    require_permission_now(db, actor, "manage_releases")
    words = reason_of(reason)
    with acting(_alone(db), actor, "manage_releases") as (connection, person):
        yield _Deciding(db, connection, person, words)


def _candidate(act: _Deciding, job_id: int) -> Card:
    """The card of a finished training whose data set is still there, and stays until the decision is made."""
    card = find_candidate(act.db, act.connection, job_id)
    _require_data_set(act.connection, job_id)
    return card


def _outline_candidate(act: _Deciding, weights_sha256: str) -> tuple[int | None, OutlineCard]:
    """The training that made an outline network, whose data set stays as `_candidate` says, and its card.

    None for one that was put there by hand.
    """
    card = find_outline_candidate(act.db.settings, weights_sha256)
    done = select(tables.job.c.id, tables.job.c.result).where(tables.job.c.state == "done").order_by(tables.job.c.id)
    rows = act.connection.execute(done).all()
    made = [row.id for row in rows if row.result and row.result.get("weights_sha256") == weights_sha256]
    if not made:
        return None, card
    _require_data_set(act.connection, made[-1])
    return made[-1], card


def _rows(connection: Connection, model_id: str | None = None) -> Sequence[Any]:
    table = tables.release
    columns = ("decision", "model_id", "weights_sha256", "previous_sha256", "passed", "reason", "created_at")
    query = select(*(table.c[name] for name in columns), tables.person.c.name.label("person_name"))
    query = query.join_from(table, tables.person, table.c.person_id == tables.person.c.id).order_by(table.c.id)
    return connection.execute(query if model_id is None else query.where(table.c.model_id == model_id)).all()


def _live_of(connection: Connection) -> Live:
    chosen: dict[str, str | None] = {}
    shadows: dict[str, str] = {}
    allowed: dict[str, str] = {}
    for row in _rows(connection):
        passed = row.passed.get(CHANCE) or row.passed.get(PROMISE)
        if row.decision in (ALLOW, END_ALLOW) or passed:
            allowed.pop(row.weights_sha256, None)
            if row.decision != END_ALLOW:
                why = passed or row.reason
                allowed[row.weights_sha256] = f"{row.person_name} ({row.created_at:%Y-%m-%d}): {why}"
        if row.decision in (ALLOW, END_ALLOW):
            continue
        if row.decision == SHADOW:
            shadows[row.model_id] = row.weights_sha256
            continue
        if row.decision != END_SHADOW:
            chosen[row.model_id] = None if row.decision == RETIRE else row.weights_sha256
        if row.decision == END_SHADOW or shadows.get(row.model_id) == chosen.get(row.model_id):
            shadows.pop(row.model_id, None)
    return Live(chosen=chosen, shadows=shadows, allowed=allowed, leads=_leads(connection))


def _leads(connection: Connection) -> dict[str, str]:
    """Modality -> the model that the site named to speak first."""
    return {modality: row["model_id"] for modality, row in site_objects(connection, LEAD_PREFIX).items()}


def _live_now(db: Database, connection: Connection, model_id: str) -> str | None:
    chosen = _live_of(connection).chosen
    if model_id in chosen:
        return chosen[model_id]
    return next((card.weights_sha256 for card in _shipped(db, model_id)), None)


def _shipped(db: Database, model_id: str) -> list[Released]:
    if model_id == OUTLINE_NETWORK:
        return [card for card in shipped_outline_cards(db.settings) if card.has_weights]
    return [card for card in shipped_cards(db.settings.weights_dir) if card.model_id == model_id and card.has_weights]


def _releases_of(db: Database, connection: Connection, model_id: str) -> list[Released]:
    shipped = {card.weights_sha256 for card in _shipped(db, model_id)}
    rows = [row for row in _rows(connection, model_id) if row.decision in (PROMOTE, ROLL_BACK, RETIRE)]
    decided = {row.weights_sha256 for row in rows} | {row.previous_sha256 for row in rows}
    known: Sequence[Released] = known_cards(db.settings)
    if model_id == OUTLINE_NETWORK:
        both = (*shipped_outline_cards(db.settings), *released_outline_cards(db.settings))
        known = list({card.weights_sha256: card for card in both}.values())
    return [
        card
        for card in known
        if card.model_id == model_id and card.weights_sha256 in shipped | decided and card.has_weights
    ]


def _store_shipped(db: Database, model_id: str) -> None:
    """Shipped weights that a decision puts away are kept too: the next version of the product may ship others."""
    for card in _shipped(db, model_id):
        _store(db, card)


def _store(db: Database, card: Released) -> None:
    """As `store_release`; of an ensemble nothing, which answers by its members' weights."""
    if isinstance(card, OutlineCard) or not card.members:
        store_release(db.settings, card)


def _require_same_kind(db: Database, card: Card) -> None:
    """One model id must go on meaning one thing to who reads with it."""
    for other in known_cards(db.settings):
        if other.model_id == card.model_id and other.modality is not card.modality:
            raise Conflict(
                f"{card.model_id} reads {other.modality}, and this candidate reads {card.modality}. Train it under "
                "another name."
            )


def candidate_card(settings: Settings, job_id: int, model_id: str, weights_sha256: str) -> Card:
    """The card of a finished training, with the weights that its job names. Raises NotFound."""
    folder = candidate_dir(settings, job_id) / Path(model_id).name
    try:
        card = read_card(folder)
    except ModelUnavailable as error:
        raise NotFound(
            f"The candidate of training {job_id} is missing or damaged. Restore the state folder."
        ) from error
    if card.weights_sha256 != weights_sha256 or not card.has_weights:
        raise NotFound(f"The candidate of training {job_id} has other weights than the training made. Train anew.")
    return card


def store_release(settings: Settings, card: Released) -> None:
    """Put card, weights and scores of a model where releases lie; nothing happens if they are there.

    A candidate's files are linked (they are never written to again), shipped ones copied. The weights are checked
    against their hash first. Raises ModelUnavailable for damaged weights, Conflict when the disk is full.
    """
    target = release_dir(settings, card.model_id, card.weights_sha256)
    if target.is_dir():
        return
    names = _files_of(card)
    full = "The disk is full, so nothing was released. Make room and try again."
    with whole_folder(target, within=temporary_parent(settings.state_dir), full=full) as half:
        for name in names:
            if (card.folder / name).is_file():
                _put(card.folder / name, half / name, settings)


def _files_of(card: Released) -> list[str]:
    """What of a model's folder is kept with a release. Raises ModelUnavailable for damaged weights."""
    if isinstance(card, OutlineCard):
        weights = [Path(name).name for name in card.weights.files]
        check_shards(card.folder, weights, card.weights_sha256)
        return [FILE, *weights, Path(card.cases).name]
    check_shards(card.folder, card.weights_files, card.weights_sha256)
    short = card.weights_sha256[:8]
    tables = (f"{short}.test_scores.csv", f"{short}.validation_scores.csv", cases_name(card.weights_sha256))
    distance = (card.training_distance.file,) if card.training_distance else ()
    return ["card.json", *card.weights_files, *tables, *(Path(name).name for name in distance)]


def _put(source: Path, target: Path, settings: Settings) -> None:
    if source.is_relative_to(settings.state_dir):
        try:
            os.link(source, target)
            return
        except OSError:
            pass  # a file system without links
    shutil.copyfile(source, target)
