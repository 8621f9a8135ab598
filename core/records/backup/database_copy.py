"""Every row of one database into an empty one, of either kind.

A PostgreSQL database is copied table by table, in one REPEATABLE READ transaction, into an SQLite file, and such a file
into PostgreSQL. So a backup has one form, which a site can restore into whichever database it uses then; `pg_dump`
would tie it to PostgreSQL, and to client programs of a version that suits the server's.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

from sqlalchemy import JSON, Connection, Engine, Insert, Table, bindparam, create_engine, func, insert, inspect, select
from sqlalchemy import text as sql

from core.records.database.db import make_tables
from core.records.database.tables import metadata

BATCH = 500
Report = Callable[[str], None]
"""Is told what is done now, as a sentence, when something takes longer."""


def to_sqlite(engine: Engine, path: Path, report: Report) -> None:
    """Everything in `engine`'s database, as it is at one moment, into a new SQLite file. Writers go on meanwhile."""
    target_engine = create_engine(f"sqlite:///{path}", hide_parameters=True)
    try:
        one_moment = engine.connect().execution_options(isolation_level="REPEATABLE READ")
        with one_moment as source, target_engine.begin() as target:
            make_tables(target)
            copy_rows(source, target, report)
    finally:
        target_engine.dispose()


def from_sqlite(path: Path, target: Connection, report: Report) -> None:
    """Everything in an SQLite file of the newest revision into an empty database, in the caller's transaction."""
    engine = create_engine(f"sqlite:///{path}", hide_parameters=True)
    try:
        with engine.connect() as source:
            make_tables(target)
            copy_rows(source, target, report)
    finally:
        engine.dispose()


def is_empty(connection: Connection) -> bool:
    """Whether there is no table at all."""
    return not inspect(connection).get_table_names()


def copy_rows(source: Connection, target: Connection, report: Report) -> None:
    """All rows of all tables, in an order in which what is referred to comes first; new rows are numbered on."""
    for table in metadata.sorted_tables:
        n = 0
        found = source.execution_options(yield_per=BATCH).execute(select(table)).mappings()
        for rows in found.partitions(BATCH):
            target.execute(_insert(table), [dict(row) for row in rows])
            n += len(rows)
            report(f"Copies the database: {n} rows of {table.name}.")
        if target.dialect.name == "postgresql":
            _number_on(target, table)


def _insert(table: Table) -> Insert:
    """As the rows are: None in a JSON column stays the database's NULL, where SQLAlchemy would write JSON's null."""
    kinds = {
        column.name: JSON(none_as_null=True) if isinstance(column.type, JSON) else column.type for column in table.c
    }
    return insert(table).values({name: bindparam(name, type_=kind) for name, kind in kinds.items()})


def _number_on(connection: Connection, table: Table) -> None:
    column = table.autoincrement_column
    if column is None or column.name not in table.c:
        return
    last = connection.execute(select(func.max(column))).scalar_one()
    if last is not None:
        quoted = connection.dialect.identifier_preparer.format_table(table)
        sequence = sql("SELECT setval(pg_get_serial_sequence(:table, :column), :last)")
        connection.execute(sequence, {"table": quoted, "column": column.name, "last": last})
