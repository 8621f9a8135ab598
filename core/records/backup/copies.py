"""The backups of a site in one folder: made when somebody asks or by the site's schedule, looked at, and restored.

Each is a file of `core.records.backup.site_backup`, named by its moment (UTC). Restoring is into a new folder beside
them, never over a site that works: whoever starts the product on that folder has the site as it was.
"""

from __future__ import annotations

import logging
import re
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path

from core.errors import AppError, Conflict, InvalidInput, NotFound
from core.files import temporary_folder, temporary_parent
from core.periodic import repeated
from core.records import site_settings
from core.records.audit import trail
from core.records.backup.database_copy import Report
from core.records.backup.site_backup import Summary, back_up, check_backup, restore
from core.records.database.db import Database, put_site_value, site_value
from core.records.database.locks import AdvisoryLock, hold
from core.records.database.tables import CLOCK_STEP, now
from core.records.people.permissions import Actor, acting, require_permission_now
from core.settings import Settings

log = logging.getLogger(__name__)

LOOK_SECONDS = 3600
BEGUN_HOURS = 6
"""After so long whoever began a scheduled backup has died over it."""
_BEGUN = "backup_begun"
"""In the table `site`: when a process began the scheduled backup that it is making."""
_FAILED = "backup_failed"
"""In the table `site`: why the last scheduled backup was not made, as a sentence; nothing where it was."""
_NAME = re.compile(r"secondread-(\d{8}T\d{6}Z)(-scheduled)?\.backup")
_FOLDER = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,59}")
_MOMENT = "%Y%m%dT%H%M%SZ"


@dataclass(frozen=True, slots=True)
class BackupRow:
    """One backup in the site's folder. made_at: UTC."""

    name: str
    made_at: datetime
    n_bytes: int
    is_scheduled: bool


def backups_dir(settings: Settings) -> Path:
    """Where the backups of the site lie: the folder that the site names, else one in the state folder."""
    return Path(settings.backup_dir).expanduser() if settings.backup_dir else settings.state_dir / "backups"


def list_backups(db: Database, actor: Actor) -> list[BackupRow]:
    """All of them, the newest first. Raises NotAllowed."""
    require_permission_now(db, actor, "manage_backups")
    return _rows(db.settings)


def _rows(settings: Settings) -> list[BackupRow]:
    """Raises Conflict where the folder cannot be read."""
    folder = backups_dir(settings)
    rows = []
    try:
        for path in folder.iterdir() if folder.is_dir() else ():
            found = _NAME.fullmatch(path.name)
            if found and path.is_file() and not path.is_symlink():
                made_at = datetime.strptime(found[1], _MOMENT).replace(tzinfo=UTC)
                rows.append(BackupRow(path.name, made_at, path.stat().st_size, bool(found[2])))
    except OSError as error:
        raise Conflict(f"The folder for backups cannot be read ({error.strerror}). Look after its disk.") from error
    return sorted(rows, key=lambda row: row.name, reverse=True)


def _scheduled_rows(settings: Settings) -> list[BackupRow]:
    """Those that the schedule made, the newest first; last those that a clock that was ahead has dated."""
    rows = [row for row in _rows(settings) if row.is_scheduled]
    return sorted(rows, key=lambda row: row.made_at > now() + CLOCK_STEP)


def make_backup(db: Database, actor: Actor, report: Report = lambda _: None) -> Summary:
    """Write one now, and verify it. Raises NotAllowed; Conflict where there is no space or another of this second."""
    require_permission_now(db, actor, "manage_backups")
    path = _new_path(db.settings, now(), "")
    summary = back_up(db, path, report)
    with acting(db.begin(), actor, "manage_backups") as (connection, person):
        trail.record(
            connection, person.id, "backup", "site", file=path.name, files=summary.n_files, bytes=summary.n_bytes
        )
    return summary


def _new_path(settings: Settings, moment: datetime, kind: str) -> Path:
    """Where the next one is written, whose folder is made. Raises Conflict where that cannot be."""
    folder = backups_dir(settings)
    try:
        folder.mkdir(mode=0o700, parents=True, exist_ok=True)
    except OSError as error:
        raise Conflict(
            f"The folder for backups cannot be made ({error.strerror}). No backup was made; whoever runs the server "
            "lets SecondRead write there, or names another folder in SECONDREAD_BACKUP_DIR."
        ) from error
    return folder / f"secondread-{moment.strftime(_MOMENT)}{kind}.backup"


def verify_backup(db: Database, actor: Actor, name: str, report: Report = lambda _: None) -> None:
    """Read it again whole: each file's hash, its database, its audit trail.

    Raises NotAllowed, NotFound; Conflict with the reason where it cannot be restored.
    """
    require_permission_now(db, actor, "manage_backups")
    path, problem = _path_of(db.settings, name), ""
    try:
        with temporary_folder(temporary_parent(db.settings.state_dir)) as folder:
            check_backup(path, folder, report)
    except Conflict as refused:
        problem = str(refused.__cause__ or refused)
    with acting(db.begin(), actor, "manage_backups") as (connection, person):
        trail.record(connection, person.id, "verify backup", "site", file=name, is_whole=not problem)
    if problem:
        raise Conflict(f"This backup cannot be restored ({problem}). Make another one, and look after the disk.")


def restore_into(db: Database, actor: Actor, name: str, folder: str, report: Report = lambda _: None) -> Path:
    """Make a new state folder of a backup, beside the backups; where it is. folder: its name, no path.

    Raises NotAllowed, NotFound, InvalidInput; Conflict where there is such a folder.
    """
    require_permission_now(db, actor, "manage_backups")
    if not _FOLDER.fullmatch(folder):
        raise InvalidInput("Name the new folder with letters, digits, dots, hyphens and underscores, 60 at most.")
    path, target = _path_of(db.settings, name), backups_dir(db.settings) / folder
    if target.exists():
        raise Conflict("There is a folder of this name among the backups already. Choose another name.")
    restore(Settings(state_dir=target), path, report)
    with acting(db.begin(), actor, "manage_backups") as (connection, person):
        trail.record(connection, person.id, "restore beside", "site", file=name, folder=folder)
    return target


def delete_backup(db: Database, actor: Actor, name: str) -> None:
    """Raises NotAllowed, NotFound."""
    with acting(db.begin(), actor, "manage_backups") as (connection, person):
        path = _path_of(db.settings, name)
        trail.record(connection, person.id, "delete backup", "site", file=name)
        path.unlink(missing_ok=True)


def backup_to_send(db: Database, actor: Actor, name: str) -> Path:
    """The file, for somebody who takes it out of the house; that they did is recorded. Raises NotAllowed, NotFound."""
    with acting(db.begin(), actor, "manage_backups") as (connection, person):
        path = _path_of(db.settings, name)
        trail.record(connection, person.id, "download backup", "site", file=name)
    return path


def _path_of(settings: Settings, name: str) -> Path:
    path = backups_dir(settings) / name
    if not _NAME.fullmatch(name) or not path.is_file() or path.is_symlink():
        raise NotFound("This backup is here no more. Reload the page.")
    return path


# ---- by the site's schedule --------------------------------------------------------------------------------------


def make_due(db: Database) -> Summary | None:
    """A backup where the site's schedule says that it is time for one; then the oldest scheduled ones go.

    What somebody made by hand neither counts nor goes. Of several applications of the site one makes it. Why one was
    not made is retained for `schedule`.
    """
    settings = site_settings.current(db)
    if not _is_due(settings) or not _begin(db, settings):
        return None
    failed = "The log of the server says why."
    try:
        path = _new_path(db.settings, now(), "-scheduled")
        summary = back_up(db, path)
        failed = ""
    except AppError as refused:
        failed = str(refused)
        raise
    finally:
        with db.begin() as connection:
            put_site_value(connection, _BEGUN, None)
            put_site_value(connection, _FAILED, failed or None)
    with db.begin() as connection:
        trail.record(connection, None, "backup", "site", file=path.name, files=summary.n_files, bytes=summary.n_bytes)
    for row in _scheduled_rows(db.settings)[settings.backups_most :]:
        (backups_dir(db.settings) / row.name).unlink(missing_ok=True)
    return summary


def _last_scheduled(settings: Settings) -> datetime | None:
    """When the schedule made its last one. A name from the future was given by a clock that was wrong: it says nothing,
    or a backup that was made a year ahead would be the last one for a year."""
    made = [row.made_at for row in _scheduled_rows(settings) if row.made_at <= now() + CLOCK_STEP]
    return made[0] if made else None


def _is_due(settings: Settings) -> bool:
    """An hour's grace: it is looked at every hour, and a daily backup must not wander through the day."""
    if not settings.backup_days:
        return False
    last = _last_scheduled(settings)
    return last is None or now() - last >= timedelta(days=settings.backup_days, hours=-1)


@dataclass(frozen=True, slots=True)
class Schedule:
    """How the site's schedule does. days: between two; 0 for none. last_at: of its last backup (UTC). is_overdue: one
    should be there and is not. failed: why the last try made none, as a sentence; "" where it did."""

    days: int
    last_at: datetime | None
    is_overdue: bool
    failed: str


def schedule(db: Database) -> Schedule:
    """As it is now. Raises Conflict where the folder cannot be read."""
    settings = site_settings.current(db)
    if not settings.backup_days:
        return Schedule(0, None, False, "")
    with db.read() as connection:
        failed = site_value(connection, _FAILED) or ""
    last = _last_scheduled(settings)
    late = timedelta(days=settings.backup_days, hours=BEGUN_HOURS)
    return Schedule(settings.backup_days, last, last is None or now() - last > late, failed)


def _begin(db: Database, settings: Settings) -> bool:
    """Whether this process is the one that makes the backup: no other has begun, or one that did died hours ago."""
    with db.begin() as connection:
        hold(connection, AdvisoryLock.BACKUPS)
        begun = site_value(connection, _BEGUN)
        is_on_its_way = begun is not None and abs(now() - datetime.fromisoformat(begun)) < timedelta(hours=BEGUN_HOURS)
        if is_on_its_way or not _is_due(settings):  # another has finished it since this one looked
            return False
        put_site_value(connection, _BEGUN, now().isoformat())
    return True


@contextmanager
def scheduled(db: Database) -> Iterator[None]:
    """Looks now, then every hour until the block ends, whether a backup is due."""

    def look() -> None:
        summary = make_due(db)
        if summary is not None:
            log.info("A scheduled backup was made (%d files)", summary.n_files)

    with repeated("backups", look, lambda: LOOK_SECONDS):
        yield
