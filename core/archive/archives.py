"""The archives of a site: their names and addresses as rows, and what signs in to them from outside the database."""

from __future__ import annotations

import re
import socket
from collections.abc import Collection, Mapping
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from sqlalchemy import Connection, Row, insert, select, update

from core.errors import CHANGED_BY_ANOTHER, Conflict, InvalidInput, KeysUnreadable, NotFound
from core.records.archives.outbox import RESULT_KINDS
from core.records.audit import trail
from core.records.database import tables
from core.records.database.db import Database
from core.records.people.permissions import Actor, acting
from core.settings import Settings, is_on_this_machine

_NAME = re.compile(r"[^\W_](?:[\w .\-]{0,58}[\w.\-])?")
_AE_TITLE = re.compile(r"[!-\[\]-~](?:[ -\[\]-~]{0,14}[!-\[\]-~])?")
PRIORS_MOST, PRIORS_MIB_MOST, PRIORS_MIB = 20, 100_000, 1024
_HOST = re.compile(r"[A-Za-z0-9._\-]{1,253}|[0-9A-Fa-f:.]{2,45}")


@dataclass(frozen=True, slots=True)
class ArchiveAddress:
    """What an administrator says of an archive. dicomweb_url: up to before "/studies".

    ae_title, host, port: for DICOM messages; "" and None where the archive is reached by DICOMweb alone.
    sends: kinds of `RESULT_KINDS` that go there after a final read; sends_preliminary: after a first impression, marked
    as unverified. pushes: whether what it sends by DICOM messages is taken (`core.archive.listener`). has_tls: DICOM
    messages go to it by TLS (`core.archive.association`). commits: it is asked to answer for each result before that
    counts as delivered (`core.archive.commitment`). priors, priors_mib: how many earlier exams of a patient are fetched
    with a new one, and how large they may be together.
    """

    name: str
    dicomweb_url: str
    ae_title: str = ""
    host: str = ""
    port: int | None = None
    sends: tuple[str, ...] = ()
    sends_preliminary: tuple[str, ...] = ()
    pushes: bool = False
    has_tls: bool = False
    commits: bool = False
    priors: int = 0
    priors_mib: int = PRIORS_MIB

    @property
    def has_dimse(self) -> bool:
        """Whether it can be reached by DICOM messages."""
        return bool(self.ae_title and self.host and self.port)


@dataclass(frozen=True, slots=True)
class Archive(ArchiveAddress):
    """An archive that the site has named."""

    id: int = 0


@dataclass(frozen=True, slots=True, repr=False)
class Credentials:
    """What signs in to an archive by HTTP: a user with a password, or a bearer token. Its `repr` shows nothing."""

    user: str = ""
    password: str = ""
    token: str = ""


def archives(db: Database, actor: Actor) -> list[Archive]:
    """The site's archives by name, for whoever may search them. Raises NotAllowed."""
    with acting(db.read(), actor, "query_archive") as (connection, _):
        return _all(connection)


def archives_to_manage(db: Database, actor: Actor) -> list[Archive]:
    """The same for whoever names them. Raises NotAllowed."""
    with acting(db.read(), actor, "manage_settings") as (connection, _):
        return _all(connection)


def archive_to_manage(db: Database, actor: Actor, archive_id: int) -> Archive:
    """One archive, to be tested. Raises NotAllowed, NotFound."""
    with acting(db.read(), actor, "manage_settings") as (connection, _):
        return archive_of(connection, archive_id)


def name_archive(db: Database, actor: Actor, address: ArchiveAddress) -> int:
    """Adds an archive; its id. Raises NotAllowed, InvalidInput, Conflict for a name that is taken."""
    with acting(db.begin(), actor, "manage_settings") as (connection, person):
        values = _checked(address, db.settings)
        trail.lock_trail(connection)
        _require_free(connection, values["name"])
        row = insert(tables.archive).values(
            **values, pushes_by=person.id if values["pushes"] else None, created_by=person.id, created_at=tables.now()
        )
        archive_id: int = connection.execute(row.returning(tables.archive.c.id)).scalar_one()
        trail.record(connection, person.id, "name archive", f"archive {archive_id}", **values)
    return archive_id


def change_archive(
    db: Database, actor: Actor, archive_id: int, address: ArchiveAddress, *, seen: ArchiveAddress | None = None
) -> None:
    """Raises NotAllowed, NotFound, InvalidInput, Conflict for a name that is taken.

    seen: what whoever changes it had before them; a Conflict too where its address is another by now. What is sent
    there has a table of its own (`choose_results`) and is not compared.
    """
    archive = tables.archive
    with acting(db.begin(), actor, "manage_settings") as (connection, person):
        values = _checked(address, db.settings)
        trail.lock_trail(connection)
        archive_now = archive_of(connection, archive_id)
        before = asdict(archive_now)
        if seen is not None and _address_of(seen) != _address_of(archive_now):
            raise Conflict(CHANGED_BY_ANOTHER)
        _require_free(connection, values["name"], except_id=archive_id)
        changed = {key: value for key, value in values.items() if value != _as_json(before[key])}
        if not changed:
            return
        who = {"pushes_by": person.id if values["pushes"] else None} if "pushes" in changed else {}
        connection.execute(update(archive).where(archive.c.id == archive_id).values(**values, **who))
        trail.record(
            connection, person.id, "change archive", f"archive {archive_id}",
            before={key: _as_json(before[key]) for key in changed}, after=changed,
        )  # fmt: skip


def _address_of(archive: ArchiveAddress) -> dict[str, Any]:
    """Of an archive what its own form shows."""
    apart = ("id", "sends", "sends_preliminary")
    return {name: value for name, value in asdict(archive).items() if name not in apart}


def choose_results(
    db: Database, actor: Actor, final: Mapping[str, Collection[int]], preliminary: Mapping[str, Collection[int]]
) -> None:
    """What goes back to which archive from the next read on, for all archives at once.

    final, preliminary: kind of `RESULT_KINDS` -> ids of the archives that get it after a final read, and after a first
    impression. Raises NotAllowed, NotFound, InvalidInput.
    """
    archive = tables.archive
    with acting(db.begin(), actor, "manage_settings") as (connection, person):
        trail.lock_trail(connection)
        known = {one.id: one for one in _all(connection)}
        for archive_id in {one for ids in (*final.values(), *preliminary.values()) for one in ids} - known.keys():
            archive_of(connection, archive_id)  # says that it is not named any more
        _checked_kinds([*final], [*preliminary])
        for one in known.values():
            after = _checked_kinds(
                [kind for kind, ids in final.items() if one.id in ids],
                [kind for kind, ids in preliminary.items() if one.id in ids],
            )
            before = {"sends": [*one.sends], "sends_preliminary": [*one.sends_preliminary]}
            changed = {key: value for key, value in after.items() if value != before[key]}
            if changed:
                connection.execute(update(archive).where(archive.c.id == one.id).values(**changed))
                trail.record(
                    connection, person.id, "change archive", f"archive {one.id}",
                    before={key: before[key] for key in changed}, after=changed,
                )  # fmt: skip


def remove_archive(db: Database, actor: Actor, archive_id: int) -> None:
    """Forget it: nothing comes from it or goes to it any more. Raises NotAllowed, NotFound."""
    archive = tables.archive
    with acting(db.begin(), actor, "manage_settings") as (connection, person):
        archive_of(connection, archive_id)
        connection.execute(update(archive).where(archive.c.id == archive_id).values(removed_at=tables.now()))
        trail.record(connection, person.id, "remove archive", f"archive {archive_id}")


def archive_of(connection: Connection, archive_id: int) -> Archive:
    """In the caller's transaction. Raises NotFound for one that was removed."""
    archive = tables.archive
    query = select(archive).where(archive.c.id == archive_id, archive.c.removed_at.is_(None))
    row = connection.execute(query).one_or_none()
    if row is None:
        raise NotFound("This archive is not named any more. Ask an administrator to name it on the page Settings.")
    return _archive(row)


def caller_of(db: Database, ae_title: str, address: str) -> Archive | None:
    """The archive that calls itself so from this network address and may send studies, or say that it answers for
    results; None where there is none."""
    with db.read() as connection:
        known = [one for one in _all(connection) if (one.pushes or one.commits) and one.ae_title == ae_title]
    return next((one for one in known if address in _addresses(one.host)), None)


def _addresses(host: str) -> set[str]:
    try:
        return {str(found[4][0]) for found in socket.getaddrinfo(host, None)}
    except OSError:  # a name that nobody knows now
        return set()


def credentials_of(settings: Settings, name: str) -> Credentials | None:
    """What signs in to the archive of this name; None for nothing. Raises KeysUnreadable."""
    lines = settings.archive_credentials.splitlines()
    if settings.archive_credentials_file:
        try:
            lines += Path(settings.archive_credentials_file).expanduser().read_text(encoding="utf-8").splitlines()
        except (OSError, UnicodeDecodeError):
            raise KeysUnreadable(
                "The file that SECONDREAD_ARCHIVE_CREDENTIALS_FILE names cannot be read. Check its place and rights."
            ) from None
    for line in lines:
        key, is_there, value = line.partition("=")
        if is_there and not line.lstrip().startswith("#") and key.strip() == name:
            return _credentials(value.strip(), name)
    return None


def _credentials(value: str, name: str) -> Credentials:
    if value.startswith("Bearer "):
        return Credentials(token=value.removeprefix("Bearer ").strip())
    user, is_there, password = value.partition(":")
    if not is_there or not user:
        raise KeysUnreadable(f"The credentials of {name} are neither user:password nor Bearer and a token.")
    return Credentials(user, password)


def _all(connection: Connection) -> list[Archive]:
    archive = tables.archive
    rows = connection.execute(select(archive).where(archive.c.removed_at.is_(None)).order_by(archive.c.name))
    return [_archive(row) for row in rows]


def _archive(row: Row[Any]) -> Archive:
    return Archive(
        name=row.name, dicomweb_url=row.dicomweb_url, ae_title=row.ae_title, host=row.host, port=row.port,
        sends=tuple(row.sends), sends_preliminary=tuple(row.sends_preliminary), pushes=row.pushes,
        has_tls=bool(row.has_tls), commits=bool(row.commits), priors=row.priors or 0,
        priors_mib=row.priors_mib or PRIORS_MIB, id=row.id,
    )  # fmt: skip


def _checked(address: ArchiveAddress, settings: Settings) -> Mapping[str, Any]:
    """The columns of a row. Raises InvalidInput with what is wrong."""
    clean = replace(
        address,
        name=address.name.strip(), dicomweb_url=address.dicomweb_url.strip().rstrip("/"),
        ae_title=address.ae_title.strip(), host=address.host.strip(),
    )  # fmt: skip
    if not _NAME.fullmatch(clean.name):
        raise InvalidInput("Give the archive a name of letters, digits, blanks, dots and hyphens, 60 at most.")
    _check_url(clean, settings)
    if any((clean.ae_title, clean.host, clean.port)) and not clean.has_dimse:
        raise InvalidInput("For DICOM messages all of AE title, host and port are needed, or none of them.")
    if clean.pushes and not clean.has_dimse:
        raise InvalidInput("What an archive may send is told by its AE title and host: give both, and the port.")
    if (clean.commits or clean.has_tls) and not clean.has_dimse:
        raise InvalidInput("Storage commitment and TLS are of DICOM messages: give AE title, host and port.")
    if not 0 <= clean.priors <= PRIORS_MOST or not 1 <= clean.priors_mib <= PRIORS_MIB_MOST:
        raise InvalidInput(f"Earlier exams can be 0 to {PRIORS_MOST}, and 1 to {PRIORS_MIB_MOST} MiB together.")
    if clean.has_dimse and not _AE_TITLE.fullmatch(clean.ae_title):
        raise InvalidInput("An AE title has 1 to 16 printable ASCII characters without backslash.")
    if clean.has_dimse and not _HOST.fullmatch(clean.host):
        raise InvalidInput("The host is a name or an address, without http:// and port.")
    if clean.port is not None and not 1 <= clean.port <= 65535:
        raise InvalidInput("The port can be 1 to 65535.")
    values = {key: _as_json(value) for key, value in asdict(clean).items() if key != "id"}
    return values | _checked_kinds(clean.sends, clean.sends_preliminary)


def _checked_kinds(sends: Collection[str], sends_preliminary: Collection[str]) -> dict[str, list[str]]:
    """Both columns in the order of the kinds. Raises InvalidInput for a kind that there is not."""
    if unknown := {*sends, *sends_preliminary} - set(RESULT_KINDS):
        raise InvalidInput(f"There is no result {sorted(unknown)[0]}; there are {', '.join(RESULT_KINDS)}.")
    return {
        "sends": [kind for kind in RESULT_KINDS if kind in sends],
        "sends_preliminary": [kind for kind in RESULT_KINDS if kind in sends_preliminary],
    }


def _check_url(address: ArchiveAddress, settings: Settings) -> None:
    try:
        parts = urlsplit(address.dicomweb_url)
        is_right = parts.scheme in ("http", "https") and bool(parts.hostname) and (parts.port or 1) > 0
    except ValueError:
        is_right = False
    if not is_right or len(address.dicomweb_url) > 400 or re.search(r"[\s<>\"\\]", address.dicomweb_url):
        raise InvalidInput("The DICOMweb address begins with http:// or https:// and ends before /studies.")
    if parts.username or parts.password or parts.query or parts.fragment:
        raise InvalidInput(
            "The DICOMweb address holds neither a password nor a question. What signs in is given in "
            "SECONDREAD_ARCHIVE_CREDENTIALS or the file of SECONDREAD_ARCHIVE_CREDENTIALS_FILE."
        )
    is_open = parts.scheme == "http" and not is_on_this_machine(address.dicomweb_url)
    if is_open and credentials_of(settings, address.name) is not None:
        raise InvalidInput(
            "Credentials are not sent without TLS to another machine: use the archive's https:// address."
        )


def _as_json(value: Any) -> Any:
    return list(value) if isinstance(value, tuple) else value


def _require_free(connection: Connection, name: str, *, except_id: int = 0) -> None:
    if any(one.name.casefold() == name.casefold() and one.id != except_id for one in _all(connection)):
        raise Conflict("There is an archive of this name already. Change that one, or choose another name.")
