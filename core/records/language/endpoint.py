"""The language model of a site: who it is, whether pictures may go there, and what opens it.

Off until an administrator turned it on, named it, and permitted that pictures go there. The permission is a row of its
address: another address or another model has none. It is asked of the database before every single call
(`require_permitted`), so that it ends with the next picture once it is revoked. The key lies outside the database.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from sqlalchemy import Connection, Row, insert, select, update

from core.errors import Conflict, InvalidInput, NotAllowed, NotFound
from core.records.audit import trail
from core.records.database import tables
from core.records.database.db import Database, stored_choices
from core.records.people.permissions import Actor, acting
from core.records.queue import FAILED, QUEUED
from core.settings import Settings, is_on_this_machine
from core.wording import tidy_text

PROTOCOLS: Mapping[str, str] = {
    "openai": "OpenAI-compatible (/chat/completions)",
    "gemini": "Gemini-compatible (:generateContent)",
}
"""How it is asked, with its name on screen."""
REASON_LENGTH_MOST = 400
KEY_LENGTH_MOST = 4096
_MODEL = re.compile(r"[A-Za-z0-9][A-Za-z0-9._:/@+\-]{0,119}")
_KEY = re.compile(r"[!-~]+")


@dataclass(frozen=True, slots=True)
class Endpoint:
    """The language model that the site has named. url: up to before "/chat/completions" or "/models/".

    permitted_by, permitted_at, reason: who permitted that pictures go there, when and why; None and "" while nobody
    has, or once it was revoked.
    """

    id: int
    protocol: str
    url: str
    model: str
    permitted_by: str | None = None
    permitted_at: datetime | None = None
    reason: str = ""

    @property
    def is_permitted(self) -> bool:
        return self.permitted_at is not None

    @property
    def host(self) -> str:
        """Where pictures go, for sentences."""
        return urlsplit(self.url).netloc

    @property
    def is_here(self) -> bool:
        """Whether it runs on this machine, so that what goes there leaves it not."""
        return is_on_this_machine(self.url)


def endpoint_now(db: Database) -> Endpoint | None:
    """The one that is named now; None for none."""
    with db.read() as connection:
        return _now(connection)


def endpoint_to_manage(db: Database, actor: Actor) -> Endpoint | None:
    """The same for whoever names it. Raises NotAllowed."""
    with acting(db.read(), actor, "manage_settings") as (connection, _):
        return _now(connection)


def name_endpoint(db: Database, actor: Actor, *, protocol: str, url: str, model: str) -> int:
    """The site's language model from now on, in place of one that was named before; its id. Nothing goes there yet.

    Raises NotAllowed, InvalidInput; Conflict where it is this one already.
    """
    table = tables.language_endpoint
    with acting(db.begin(), actor, "manage_settings") as (connection, person):
        values = _checked(db.settings, protocol, url, model)
        trail.lock_trail(connection)
        before = _now(connection)
        if before is not None and (before.protocol, before.url, before.model) == tuple(values.values()):
            raise Conflict("This language model is named already.")
        _remove(connection)
        row = insert(table).values(**values, created_by=person.id, created_at=tables.now()).returning(table.c.id)
        endpoint_id: int = connection.execute(row).scalar_one()
        trail.record(connection, person.id, "name language model", f"language model {endpoint_id}", **values)
    return endpoint_id


def remove_endpoint(db: Database, actor: Actor, endpoint_id: int) -> None:
    """Forget it: nothing goes there any more; what it said stays. Raises NotAllowed, NotFound."""
    with acting(db.begin(), actor, "manage_settings") as (connection, person):
        _of(connection, endpoint_id)
        _remove(connection)
        trail.record(connection, person.id, "remove language model", f"language model {endpoint_id}")


def permit(db: Database, actor: Actor, endpoint_id: int, *, reason: str) -> None:
    """Pictures of studies that are read from now on may go there. Raises NotAllowed, NotFound, InvalidInput without a
    reason; Conflict where they may already."""
    table = tables.language_endpoint
    with acting(db.begin(), actor, "manage_settings") as (connection, person):
        words = tidy_text(reason, REASON_LENGTH_MOST, "reason")
        if not words:
            raise InvalidInput("Say why pictures may go there; the reason goes into the audit trail.")
        trail.lock_trail(connection)
        one = _endpoint(_of(connection, endpoint_id))
        if one.is_permitted:
            raise Conflict("It is permitted already.")
        given = {"permitted_by": person.id, "permitted_at": tables.now(), "reason": words}
        connection.execute(
            update(table).where(table.c.id == endpoint_id).values(**given, revoked_by=None, revoked_at=None)
        )
        trail.record(
            connection, person.id, "permit language model", f"language model {endpoint_id}",
            reason=words, protocol=one.protocol, url=one.url, model=one.model,
        )  # fmt: skip


def end_permission(db: Database, actor: Actor, endpoint_id: int) -> None:
    """From the next picture on nothing goes there. Raises NotAllowed, NotFound; Conflict where nothing may."""
    table = tables.language_endpoint
    with acting(db.begin(), actor, "manage_settings") as (connection, person):
        trail.lock_trail(connection)
        if not _endpoint(_of(connection, endpoint_id)).is_permitted:
            raise Conflict("It is not permitted.")
        given = {"revoked_by": person.id, "revoked_at": tables.now()}
        connection.execute(update(table).where(table.c.id == endpoint_id).values(**given))
        _end_waiting(connection, endpoint_id)
        trail.record(connection, person.id, "end permission", f"language model {endpoint_id}")


def end_with_restore(connection: Connection) -> Endpoint | None:
    """A restored site sends no picture before somebody permits it there: the permission was given to the site that the
    backup is of, and this may be another machine. The endpoint whose permission ended; None where none had one."""
    endpoint = _now(connection)
    if endpoint is None or not endpoint.is_permitted:
        return None
    table = tables.language_endpoint
    connection.execute(update(table).where(table.c.id == endpoint.id).values(revoked_at=tables.now()))
    _end_waiting(connection, endpoint.id)
    trail.record(connection, None, "end permission", f"language model {endpoint.id}", by="restore")
    return endpoint


def permitted_id(connection: Connection, settings: Settings) -> int | None:
    """Of the endpoint that pictures may go to at this moment; None where they may go to none."""
    row = _row(connection)
    try:
        return None if row is None else require_permitted(connection, settings, row.id).id
    except NotAllowed:
        return None


def record_test(db: Database, actor: Actor, endpoint_id: int, *, sent_sha256: str, prompt_sha256: str) -> Endpoint:
    """Audits that a made picture, which shows nobody, goes there now, and says where that is. Raises NotAllowed,
    NotFound."""
    with acting(db.begin(), actor, "manage_settings") as (connection, person):
        found = _endpoint(_of(connection, endpoint_id))
        trail.record(
            connection, person.id, "test language model", f"language model {endpoint_id}",
            sent_sha256=sent_sha256, prompt_sha256=prompt_sha256,
        )  # fmt: skip
    return found


def require_permitted(connection: Connection, settings: Settings, endpoint_id: int) -> Endpoint:
    """The endpoint, if the site has it turned on and pictures may go there at this moment. Raises NotAllowed."""
    chosen = stored_choices(connection).get("language_model", {}).get("value", settings.language_model)
    row = _row(connection, endpoint_id)
    if not chosen or row is None or not (found := _endpoint(row)).is_permitted:
        raise NotAllowed("No picture goes to this language model: an administrator has not permitted it, or ended it.")
    return found


def key_of(settings: Settings) -> str:
    """What opens the language model; "" for nothing. Raises InvalidInput where it cannot be read or is none."""
    key = settings.language_model_key
    if settings.language_model_key_file:
        try:
            with Path(settings.language_model_key_file).expanduser().open(encoding="utf-8") as file:
                key = file.read(KEY_LENGTH_MOST + 1)
        except (OSError, UnicodeDecodeError):
            raise InvalidInput(
                "The file that SECONDREAD_LANGUAGE_MODEL_KEY_FILE names cannot be read. Check its place and rights."
            ) from None
    key = key.strip()
    if key and (not _KEY.fullmatch(key) or len(key) > KEY_LENGTH_MOST):
        raise InvalidInput("The key of the language model is one word of letters, digits and signs.")
    return key


def require_safe(settings: Settings, url: str) -> None:
    """Raises InvalidInput for an address that pictures, or the key, would go to without TLS."""
    if urlsplit(url).scheme == "https" or is_on_this_machine(url):
        return
    if not settings.language_model_http:
        raise InvalidInput(
            "Pictures go to another machine over TLS alone: use an https:// address, or set "
            "SECONDREAD_LANGUAGE_MODEL_HTTP=1 where the network between is the site's own."
        )
    if key_of(settings):
        raise InvalidInput("The key is not sent without TLS to another machine: use an https:// address.")


def _checked(settings: Settings, protocol: str, url: str, model: str) -> dict[str, str]:
    if protocol not in PROTOCOLS:
        raise InvalidInput(f"The protocol can be {' or '.join(PROTOCOLS)}.")
    clean = url.strip().rstrip("/")
    try:
        parts = urlsplit(clean)
        is_right = parts.scheme in ("http", "https") and bool(parts.hostname) and (parts.port or 1) > 0
    except ValueError:
        is_right = False
    if not is_right or len(clean) > 400 or not clean.isascii() or re.search(r"[\s<>\"\\]", clean):
        raise InvalidInput("The address begins with https:// and ends before /chat/completions, or before /models/.")
    if parts.username or parts.password or parts.query or parts.fragment:
        raise InvalidInput(
            "The address holds neither a key nor a question. The key is given in SECONDREAD_LANGUAGE_MODEL_KEY or the "
            "file of SECONDREAD_LANGUAGE_MODEL_KEY_FILE."
        )
    require_safe(settings, clean)
    if not _MODEL.fullmatch(model.strip()):
        raise InvalidInput("Name the model by letters, digits, dots, colons, slashes and hyphens, 120 at most.")
    return {"protocol": protocol, "url": clean, "model": model.strip()}


def _end_waiting(connection: Connection, endpoint_id: int) -> None:
    """What waits to be asked is not asked later, under a permission that was not given for it."""
    row = tables.language_answer.c
    ended = {"state": FAILED, "message": "The permission ended before it was asked.", "ended_at": tables.now()}
    waits = (row.endpoint_id == endpoint_id, row.state == QUEUED)
    connection.execute(update(tables.language_answer).where(*waits).values(**ended, result=None))


def _remove(connection: Connection) -> None:
    table = tables.language_endpoint
    if (before := _row(connection)) is not None:
        _end_waiting(connection, before.id)
    connection.execute(update(table).where(table.c.removed_at.is_(None)).values(removed_at=tables.now()))


def _now(connection: Connection) -> Endpoint | None:
    row = _row(connection)
    return None if row is None else _endpoint(row)


def _of(connection: Connection, endpoint_id: int) -> Row[Any]:
    row = _row(connection, endpoint_id)
    if row is None:
        raise NotFound("This language model is not named any more. Reload the page.")
    return row


def _row(connection: Connection, endpoint_id: int | None = None) -> Row[Any] | None:
    table, person = tables.language_endpoint, tables.person.c
    query = (
        select(table, person.name.label("permitted_by_name"))
        .join_from(table, tables.person, table.c.permitted_by == person.id, isouter=True)
        .where(table.c.removed_at.is_(None))
        .order_by(table.c.id.desc())
        .limit(1)
    )
    if endpoint_id is not None:
        query = query.where(table.c.id == endpoint_id)
    return connection.execute(query).one_or_none()


def _endpoint(row: Row[Any]) -> Endpoint:
    where = {"id": row.id, "protocol": row.protocol, "url": row.url, "model": row.model}
    if row.permitted_at is None or row.revoked_at is not None:
        return Endpoint(**where)
    return Endpoint(**where, permitted_by=row.permitted_by_name, permitted_at=row.permitted_at, reason=row.reason or "")
