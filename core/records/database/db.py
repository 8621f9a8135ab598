"""The database: opened once a process, migrated at start, and the two ways of talking to it.

What a database refuses because somebody else was faster, told apart from what is a bug of ours.

The drivers call it by different names: SQLite's by the name of its error code, pg8000's by SQLSTATE, under an exception
that depends on its version. https://www.postgresql.org/docs/current/errcodes-appendix.html,
https://www.sqlite.org/rescode.html

What a site has chosen in place of its environment, as rows of the table `site`.
"""

from __future__ import annotations

import hashlib
import json
import logging
import os
import sqlite3
import time
from collections.abc import Iterator, Mapping
from contextlib import closing, contextmanager
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any

from sqlalchemy import (
    URL,
    Connection,
    Engine,
    ExceptionContext,
    create_engine,
    event,
    insert,
    inspect,
    make_url,
    select,
    text,
)
from sqlalchemy.exc import ArgumentError, DBAPIError, InterfaceError

from core.errors import Conflict, DatabaseAway, InvalidInput, InvalidSettings, NotFound, NotSaved, StateMoved
from core.files import sweep, undone_by, whole_file, write_whole
from core.records.database.blobs import FolderBlobs, blobs_of
from core.records.database.image_store import ImageStore, old_keys
from core.records.database.image_store import sweep as sweep_store
from core.records.database.locks import AdvisoryLock, hold
from core.records.database.tables import site
from core.settings import Settings

if TYPE_CHECKING:
    from alembic.config import Config

log = logging.getLogger(__name__)

_CONFLICT_SENTENCE = (
    "Somebody else changed this at the same moment, so nothing was saved. Reload the page and try again."
)
_MOVED = (
    "The state folder is not where it was when SecondRead started, so nothing was saved. Put it back, or restart "
    "SecondRead."
)
_AWAY = "The database was restarted or cannot be reached. Look whether your last step was saved, and try again."
_NO_SPACE = "The disk with the database is full, so nothing was saved. Make room, or ask an administrator to."
_READ_ONLY = "The database cannot be written to, so nothing was saved. Ask an administrator to look at its disk."
_NUL = "A text here holds a character that cannot be stored (NUL). Remove it and try again."
_CONTRADICTS = {
    "SQLITE_CONSTRAINT_UNIQUE", "SQLITE_CONSTRAINT_PRIMARYKEY", "SQLITE_CONSTRAINT_FOREIGNKEY", "23505", "23503",
}  # fmt: skip
"""Unique and foreign key violation: what another transaction has saved stands against this one, also later."""
_IN_THE_WAY = {"SQLITE_BUSY", "SQLITE_BUSY_SNAPSHOT", "40001", "40P01", "55P03"}
"""Another transaction is in the way now. Of PostgreSQL serialization failure, deadlock, lock not available."""


def _code_of(error: DBAPIError) -> str:
    """SQLite's name of the error, or PostgreSQL's SQLSTATE; "" where the driver says neither."""
    driver = error.orig
    name = getattr(driver, "sqlite_errorname", None)
    if name is not None:
        return str(name)
    told = driver.args[0] if driver is not None and driver.args else None
    return str(told.get("C", "")) if isinstance(told, Mapping) else ""


def _refusal_of(error: DBAPIError) -> Conflict | None:
    """Why nothing was saved, where that is no bug of ours: somebody was faster, or disk, rights or server say no."""
    code = _code_of(error)
    if code in _CONTRADICTS:
        return Conflict(_CONFLICT_SENTENCE)
    if code in _IN_THE_WAY:
        return NotSaved(_CONFLICT_SENTENCE)
    if code in ("SQLITE_FULL", "53100"):
        return NotSaved(_NO_SPACE)
    if code.startswith(("SQLITE_READONLY", "SQLITE_IOERR", "SQLITE_CANTOPEN")) or code in ("25006", "58030"):
        return NotSaved(_READ_ONLY)
    return DatabaseAway(_AWAY) if _is_away(error) else None


def _is_away(error: DBAPIError) -> bool:
    """Whether the server went away in the middle (class 57P: by its operator; 08: the connection is broken), or has no
    room for us now (class 53: too many connections, out of memory; but not its disk).
    """
    code = _code_of(error)
    is_broken = isinstance(error, InterfaceError) and type(error.orig).__module__.startswith("pg8000")
    return is_broken or error.connection_invalidated or (code.startswith(("57P", "08", "53")) and code != "53100")


MIGRATIONS = Path(__file__).with_name("migrations")
KEY_BYTES = 32
BUSY_SECONDS = 30
_ALIVE = {
    "tcp_keepalives_idle": 5, "tcp_keepalives_interval": 3, "tcp_keepalives_count": 3, "tcp_user_timeout": 14_000,
}  # fmt: skip
"""Seconds of silence, between two questions, and questions without an answer; milliseconds until what was sent must be
acknowledged. Together less than `BUSY_SECONDS`, after which whoever waits for a lock gives up."""
_WRITES = "secondread_writes"
_PATIENCE = "secondread_patience"
_SWEPT = "store_swept"
"""In the table `site`: the day (UTC) on which a process last looked through the bucket."""
RESTORED = "restored"
"""In the table `site`, of one that came out of a backup: the bucket that `store take-in` has begun to fill for it, ""
before; nothing once it has one of its own. Until then it has the site it is a copy of for a neighbour in any bucket."""
_NOT_ITS_BUCKET = (
    "This site was restored from a backup, and what lies in the bucket may be another site's, whose pictures it would "
    "delete. Unset SECONDREAD_STORE_URL, or name an empty prefix there and run `python -m core store take-in` first."
)


class Database:
    """The engine with what belongs to it: the settings, the site's key and the image store."""

    def __init__(self, engine: Engine, settings: Settings, site_key: bytes, store: ImageStore) -> None:
        self.engine = engine
        self.settings = settings
        self.site_key = site_key
        self.store = store
        is_file = engine.dialect.name == "sqlite"
        self._file = Path(str(engine.url.database)).stat() if is_file else None

    @contextmanager
    def begin(self, *, patience: float | None = None) -> Iterator[Connection]:
        """A transaction that may write: committed at the end of the block, undone whole if the block raises.

        On SQLite it takes the write lock at once: a transaction that reads, then writes, would otherwise fail when
        another one wrote in between. patience: seconds that it waits there for that lock, `BUSY_SECONDS` by default;
        PostgreSQL, which locks rows only, takes no notice of it. Raises Conflict where the database refuses because of
        what another transaction saved, NotSaved where trying again later may help.
        """
        self.require_state_dir()
        try:
            with self._connected() as connection:
                connection = connection.execution_options(**{_WRITES: True, _PATIENCE: patience})
                with connection.begin():
                    yield connection
                    self.require_state_dir()  # before the commit: moved away meanwhile, nothing is acknowledged
        except DBAPIError as error:
            refusal = _refusal_of(error)
            if refusal is None:
                raise
            log.warning("The database refused: %s", _code_of(error) or type(error.orig).__name__)
            raise refusal from error

    @contextmanager
    def read(self) -> Iterator[Connection]:
        """A transaction that only looks, at one moment, never waits for writers, and is undone at the end.

        Raises NotSaved where the state folder is not the one that was opened, DatabaseAway.
        """
        self.require_state_dir()
        try:
            with self._connected() as connection:
                if connection.dialect.name == "postgresql":  # SQLite sees one moment by itself
                    connection.execute(text("SET TRANSACTION ISOLATION LEVEL REPEATABLE READ, READ ONLY"))
                yield connection
        except DBAPIError as error:
            if not _is_away(error):
                raise
            raise DatabaseAway(_AWAY) from error

    def _connected(self) -> Connection:
        """As `_say_that_it_is_away`, of the question whether a connection that was used before still lives."""
        try:
            return self.engine.connect()
        except OSError as error:
            raise DatabaseAway(_AWAY) from error

    def require_state_dir(self) -> None:
        """Raises NotSaved unless the state folder is the one that was opened: SQLite's open file would go on taking
        writes that nobody finds again, and uploads would make a new, empty folder in its place. Raises StateMoved where
        it is another one, which no waiting mends.
        """
        try:
            is_same = (self.settings.state_dir / "site.key").read_bytes() == self.site_key
            if is_same and self._file is not None:
                is_same = os.path.samestat(Path(str(self.engine.url.database)).stat(), self._file)
        except OSError:
            raise NotSaved(_MOVED) from None
        if not is_same:
            raise StateMoved(_MOVED)

    def close(self) -> None:
        self.engine.dispose()


def may_write(connection: Connection) -> bool:
    """Whether this transaction comes from `Database.begin`."""
    return bool(connection.get_execution_options().get(_WRITES, False))


def settings_of(connection: Connection) -> Settings:
    """The settings of the environment that the connection was opened with."""
    settings: Settings = connection.info["settings"]
    return settings


def open_database(settings: Settings) -> Database:
    """Make the state folder, the key and the tables as far as they are missing, and bring the tables up to date.

    Two processes may do this at once. Raises InvalidSettings when the database cannot be used as it is.
    """
    _make_state_dir(settings.state_dir)
    site_key = _site_key(settings.state_dir)
    engine = reachable_engine(settings, site_key)
    with undone_by(engine.dispose):
        _migrate(engine, settings)
        db = Database(engine, settings, site_key, ImageStore(blobs_of(settings), memory_mib=settings.pictures_mib))
        with db.begin() as connection:
            hold(connection, AdvisoryLock.START)
            _check_key(connection, site_key)
            if not isinstance(db.store.blobs, FolderBlobs) and site_value(connection, RESTORED) is not None:
                raise InvalidSettings(_NOT_ITS_BUCKET)
            is_due = isinstance(db.store.blobs, FolderBlobs) or _is_sweep_due(connection)
        # In no transaction, which would keep everybody else from writing to SQLite: these look at every file.
        sweep(settings.state_dir)
        removed = 0
        if is_due:
            old = old_keys(db.store)
            with db.begin() as connection:
                removed = sweep_store(connection, db.store, old)
    if removed:
        log.info("Removed %d files that nothing refers to from the image store", removed)
    return db


def require_site(settings: Settings) -> None:
    """Raises NotFound where the state folder holds no site: opening would make an empty one of a mistyped folder."""
    if not (settings.state_dir / "site.key").is_file():
        raise NotFound("There is no SecondRead in this state folder. Check SECONDREAD_STATE_DIR.")


@contextmanager
def existing_database(settings: Settings) -> Iterator[Database]:
    """The database of a site that is there, for one command: closed at the end. Raises NotFound, InvalidSettings."""
    require_site(settings)
    db = open_database(settings)
    try:
        yield db
    finally:
        db.close()


def reachable_engine(settings: Settings, site_key: bytes) -> Engine:
    """An engine that has been connected once. Raises InvalidSettings."""
    engine = _engine(settings, site_key)
    with undone_by(engine.dispose):
        _check_connection(engine)
    return engine


def make_tables(connection: Connection) -> None:
    """The tables of the newest revision, in an empty database or an older one, in the caller's transaction."""
    from alembic import command

    config = _migrations()
    config.attributes["connection"] = connection
    command.upgrade(config, "head")


def revisions() -> list[str]:
    """Of all migrations, whose files begin with them: `0001_first.py`, in their order."""
    return sorted(path.name.partition("_")[0] for path in (MIGRATIONS / "versions").glob("[0-9]*_*.py"))


def _migrations() -> Config:
    from alembic.config import Config

    config = Config()
    config.set_main_option("script_location", str(MIGRATIONS).replace("%", "%%"))
    return config


def _revision(connection: Connection) -> str | None:
    """The revision of these tables; None for an empty database."""
    if not inspect(connection).has_table("alembic_version"):
        return None
    found: str | None = connection.execute(text("SELECT version_num FROM alembic_version")).scalar_one_or_none()
    return found


def _make_state_dir(folder: Path) -> None:
    if not folder.is_dir():
        folder.mkdir(parents=True, exist_ok=True)
        folder.chmod(0o700)
    elif os.name == "posix" and folder.stat().st_mode & 0o077:
        log.warning("Other users of this machine can look into the state folder; chmod 700 closes it")


def _site_key(folder: Path) -> bytes:
    """The site's key, made on the first start. Of two processes that start at once, both get the first one's."""
    path = folder / "site.key"
    if not path.exists():
        try:
            write_whole(path, os.urandom(KEY_BYTES), mode=0o600, replaces=False)
        except FileExistsError:
            log.info("Another process has just made the site's key")
    key = path.read_bytes()
    if len(key) != KEY_BYTES:
        raise InvalidSettings("The file site.key in the state folder is damaged. Restore it from a backup.")
    return key


def _engine(settings: Settings, site_key: bytes) -> Engine:
    """hide_parameters: an error of the database must not carry names and comments into the log."""
    try:
        url = make_url(settings.resolved_database_url)
    except ArgumentError as error:
        raise InvalidSettings("SECONDREAD_DATABASE_URL is not a database URL.") from error
    if url.drivername not in ("sqlite", "postgresql+pg8000"):
        raise InvalidSettings(
            "SECONDREAD_DATABASE_URL must begin with postgresql:// (or be empty, for SQLite in the state folder)."
        )
    if url.get_backend_name() == "sqlite":
        engine = create_engine(url, hide_parameters=True, connect_args={"timeout": BUSY_SECONDS})
        event.listen(engine, "connect", _set_up_sqlite)
        event.listen(engine, "begin", _begin_sqlite)
    else:
        engine = create_engine(url, hide_parameters=True, pool_pre_ping=True, connect_args={"timeout": BUSY_SECONDS})
        event.listen(engine, "handle_error", _forget_the_row)
        event.listen(engine, "handle_error", _say_that_it_is_away)
        event.listen(engine, "connect", _have_it_notice_our_end)

    event.listen(engine, "before_cursor_execute", _refuse_nul)

    @event.listens_for(engine, "connect")
    def _attach_key(_connection: Any, record: Any) -> None:
        record.info["site_key"] = site_key
        record.info["settings"] = settings

    return engine


def _refuse_nul(
    _connection: Connection, _cursor: Any, _statement: str, parameters: Any, _context: Any, is_many: bool
) -> None:
    """PostgreSQL stores no NUL in a text and would fail; so neither kind of database takes one, also in a search."""
    for one in parameters if is_many else (parameters,):
        values = one.values() if isinstance(one, Mapping) else one or ()
        if any(isinstance(value, str) and "\x00" in value for value in values):
            raise InvalidInput(_NUL)


def _forget_the_row(context: ExceptionContext) -> None:
    """PostgreSQL adds to a refusal the row that it refuses; `hide_parameters` does not know of that."""
    error: BaseException | None = context.original_exception
    while error is not None:
        if error.args and isinstance(error.args[0], dict):
            error.args[0].pop("D", None)
        error = error.__cause__ or error.__context__
    if context.sqlalchemy_exception is not None:
        driver = context.original_exception
        context.sqlalchemy_exception.args = (f"({type(driver).__module__}.{type(driver).__name__}) {driver}",)


def _say_that_it_is_away(context: ExceptionContext) -> None:
    """The driver lets pass what the socket raises when no answer comes in time (pg8000's `_read`), which SQLAlchemy
    does not know as the end of the connection.
    """
    error = context.original_exception
    if isinstance(error, OSError):
        context.is_disconnect = True
        raise InterfaceError(None, None, error, hide_parameters=True, connection_invalidated=True) from error


def _have_it_notice_our_end(connection: Any, _record: Any) -> None:
    """The server asks every few seconds whether this machine is still there. It ends the session of one that was cut
    off or lost its power, with all locks; by itself it asks after two hours, and everybody else would wait for that.
    """
    is_automatic, connection.autocommit = connection.autocommit, True
    cursor = connection.cursor()
    cursor.execute("SELECT " + ", ".join(f"set_config('{name}', '{value}', false)" for name, value in _ALIVE.items()))
    cursor.close()
    connection.autocommit = is_automatic


def _set_up_sqlite(connection: sqlite3.Connection, _record: Any) -> None:
    connection.isolation_level = None  # no hidden BEGIN or COMMIT by the driver: `_begin_sqlite` says when
    connection.execute("PRAGMA foreign_keys = ON")
    connection.execute("PRAGMA recursive_triggers = ON")  # or INSERT OR REPLACE would slip past append-only triggers
    connection.execute("PRAGMA synchronous = FULL")  # what the reader was told is saved outlives a power cut


def _begin_sqlite(connection: Connection) -> None:
    options = connection.get_execution_options()
    patience = options.get(_PATIENCE)
    if patience is None:
        connection.exec_driver_sql("BEGIN IMMEDIATE" if options.get(_WRITES, False) else "BEGIN")
        return
    connection.exec_driver_sql(f"PRAGMA busy_timeout = {round(1000 * patience)}")
    try:
        connection.exec_driver_sql("BEGIN IMMEDIATE")
    finally:
        connection.exec_driver_sql(f"PRAGMA busy_timeout = {round(1000 * BUSY_SECONDS)}")


def _check_connection(engine: Engine) -> None:
    url = engine.url
    try:
        with engine.connect() as connection:
            connection.execute(text("SELECT 1"))
        if url.get_backend_name() == "sqlite":
            _use_wal(url)
    except (DBAPIError, sqlite3.Error) as error:
        # The driver's own words may repeat the password of the URL: the type has to do.
        log.error("The database at %s cannot be opened: %s", url.render_as_string(hide_password=True), type(error))
        raise InvalidSettings(
            "The database cannot be reached. Check that it runs, and SECONDREAD_DATABASE_URL."
            if url.get_backend_name() != "sqlite"
            else "The database file cannot be opened. Check that the state folder exists and may be written."
        ) from None


def _use_wal(url: URL) -> None:
    """Readers and one writer side by side; it stays with the file. Changing it does not wait for others by itself."""
    deadline = time.monotonic() + BUSY_SECONDS
    with closing(sqlite3.connect(str(url.database), timeout=BUSY_SECONDS)) as connection:
        while True:
            try:
                connection.execute("PRAGMA journal_mode = WAL")
                return
            except sqlite3.OperationalError:
                if time.monotonic() > deadline:
                    raise
                time.sleep(0.05)


def _migrate(engine: Engine, settings: Settings) -> None:
    """Bring the tables to the newest revision, in one transaction that other starting processes wait for.

    Alembic is loaded only where there is something to do: a start would wait a third of a second for it.
    """
    newest = revisions()[-1]
    with engine.connect() as connection:
        connection = connection.execution_options(**{_WRITES: True})
        with connection.begin():
            hold(connection, AdvisoryLock.START)
            current = _revision(connection)
            if current == newest:
                return
            if current is not None and current not in revisions():
                raise InvalidSettings(
                    "This database was made by a newer SecondRead. Install that version, or restore the copy that "
                    "was kept in the folder backups."
                )
            if current is not None and engine.dialect.name == "sqlite":
                _copy_sqlite(engine.url, settings.state_dir / "backups", current)
            make_tables(connection)
            log.info("Database migrated from %s to %s", current, newest)


def _copy_sqlite(url: URL, folder: Path, revision: str) -> None:
    """A copy of the file as it is before the migration. The caller holds the write lock: nothing comes between."""
    folder.mkdir(mode=0o700, exist_ok=True)
    stamp = datetime.now(UTC).strftime("%Y%m%dT%H%M%S%fZ")
    copy = folder / f"secondread-{revision}-{stamp}.sqlite3"
    with (
        whole_file(copy, mode=0o600) as half,
        closing(sqlite3.connect(str(url.database))) as source,
        closing(sqlite3.connect(str(half))) as target,
    ):
        source.backup(target)
    log.info("Kept a copy of the database before its migration in %s", folder)


def _is_sweep_due(connection: Connection) -> bool:
    """Whether nobody has looked through the bucket for a day; whoever is told so does it. It takes a while."""
    day = datetime.now(UTC).date().isoformat()
    found = site_value(connection, _SWEPT)
    if found != day:
        put_site_value(connection, _SWEPT, day)
    return found != day


def _check_key(connection: Connection, site_key: bytes) -> None:
    """The audit chain and the patient hashes stand on the key: another key must not go on unnoticed."""
    fingerprint = hashlib.sha256(b"site key fingerprint\n" + site_key).hexdigest()
    retained = site_value(connection, "site_key_sha256")
    if retained is None:
        put_site_value(connection, "site_key_sha256", fingerprint)
    elif retained != fingerprint:
        raise InvalidSettings(
            "The file site.key does not belong to this database. Put the site.key of its state folder back."
        )


def site_value(connection: Connection, key: str) -> str | None:
    """What the table `site` has under this key; None for nothing."""
    return connection.execute(select(site.c.value).where(site.c.key == key)).scalar_one_or_none()


def put_site_value(connection: Connection, key: str, value: str | None) -> None:
    """Keep this under the key, in place of what is there; None: nothing any more."""
    row = site.c.key == key
    if value is None:
        connection.execute(site.delete().where(row))
    elif connection.execute(site.update().where(row).values(value=value)).rowcount == 0:
        connection.execute(insert(site).values(key=key, value=value))


def site_objects(connection: Connection, prefix: str) -> dict[str, dict[str, Any]]:
    """The JSON objects whose keys begin so, by the rest of their keys."""
    rows = connection.execute(select(site.c.key, site.c.value).where(site.c.key.like(f"{prefix}%")))
    return {key.removeprefix(prefix): json.loads(value) for key, value in rows}


PREFIX = "choice_"


def stored_choices(connection: Connection) -> dict[str, dict[str, Any]]:
    """Key of the choice -> its row: value, by (id of the person) and at (ISO 8601)."""
    return site_objects(connection, PREFIX)
