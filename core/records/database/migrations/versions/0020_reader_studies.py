"""Reader studies: their protocols, when a reader began with a case, and what was said of it."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0020"
down_revision = "0018"
branch_labels = None
depends_on = None

MOMENT = sa.DateTime(timezone=True)


def upgrade() -> None:
    op.create_table(
        "reader_study",
        sa.Column("id", sa.String(32), nullable=False),
        sa.Column("protocol", sa.JSON, nullable=False),
        sa.Column("created_by", sa.Integer, nullable=False),
        sa.Column("created_at", MOMENT, nullable=False),
        sa.Column("locked_at", MOMENT),
        sa.Column("protocol_sha256", sa.String(64)),
        sa.Column("closed_at", MOMENT),
        sa.PrimaryKeyConstraint("id", name="pk_reader_study"),
        sa.ForeignKeyConstraint(["created_by"], ["person.id"], name="fk_reader_study_created_by_person"),
    )
    for table, columns, unique in (
        ("reader_study_start", (sa.Column("started_at", MOMENT, nullable=False),), ()),
        (
            "reader_study_read",
            (
                sa.Column("breast", sa.String(1), nullable=False),
                sa.Column("birads", sa.String(2), nullable=False),
                sa.Column("suspicion", sa.Integer, nullable=False),
                sa.Column("seconds", sa.Float, nullable=False),
                sa.Column("interruptions", sa.Integer, nullable=False),
                sa.Column("is_training", sa.Boolean, nullable=False),
                sa.Column("had_seen_answer", sa.Boolean, nullable=False),
                sa.Column("answers", sa.JSON, nullable=False),
                sa.Column("created_at", MOMENT, nullable=False),
            ),
            ("reader_study_id", "person_id", "study_id", "modality", "breast"),
        ),
    ):
        op.create_table(
            table,
            sa.Column("id", sa.Integer, nullable=False),
            sa.Column("reader_study_id", sa.String(32), nullable=False),
            sa.Column("person_id", sa.Integer, nullable=False),
            sa.Column("study_id", sa.String(32), nullable=False),
            sa.Column("modality", sa.String(16), nullable=False),
            *columns,
            sa.PrimaryKeyConstraint("id", name=f"pk_{table}"),
            sa.ForeignKeyConstraint(
                ["reader_study_id"], ["reader_study.id"], name=f"fk_{table}_reader_study_id_reader_study"
            ),
            sa.ForeignKeyConstraint(["person_id"], ["person.id"], name=f"fk_{table}_person_id_person"),
            sa.ForeignKeyConstraint(["study_id"], ["study.id"], name=f"fk_{table}_study_id_study"),
            *([sa.UniqueConstraint(*unique, name=f"uq_{table}_once")] if unique else []),
        )
        op.create_index(f"ix_{table}_reader_study_id", table, ["reader_study_id"])
    _only_add("reader_study_read")
    _stay_locked()


def _only_add(table: str) -> None:
    """From now on the database itself refuses to change or remove rows of the table."""
    words = f"rows of {table} can only be added"
    if op.get_bind().dialect.name == "sqlite":
        for act in ("UPDATE", "DELETE"):
            op.execute(
                f'CREATE TRIGGER {table}_refuses_{act.lower()} BEFORE {act} ON "{table}" '
                f"BEGIN SELECT RAISE(ABORT, '{words}'); END"
            )
        return
    op.execute(
        f"CREATE FUNCTION {table}_refuses() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN "
        f"RAISE EXCEPTION '{words}'; END $$"
    )
    for name, when, each in (("change", "UPDATE OR DELETE", "ROW"), ("truncate", "TRUNCATE", "STATEMENT")):
        op.execute(
            f'CREATE TRIGGER {table}_refuses_{name} BEFORE {when} ON "{table}" '
            f"FOR EACH {each} EXECUTE FUNCTION {table}_refuses()"
        )


def _stay_locked() -> None:
    """A reader study may change until it is locked; being closed, once, is all that may happen afterwards."""
    words = "a locked reader study stays as it is"
    locked = "OLD.locked_at IS NOT NULL"
    changed = (
        f"{locked} AND (CAST(NEW.protocol AS TEXT) <> CAST(OLD.protocol AS TEXT) OR NEW.locked_at IS NULL "
        "OR NEW.locked_at <> OLD.locked_at OR NEW.protocol_sha256 <> OLD.protocol_sha256 "
        "OR OLD.closed_at IS NOT NULL)"
    )
    if op.get_bind().dialect.name == "sqlite":
        for act, when in (("UPDATE", changed), ("DELETE", locked)):
            op.execute(
                f"CREATE TRIGGER reader_study_refuses_{act.lower()} BEFORE {act} ON reader_study WHEN {when} "
                f"BEGIN SELECT RAISE(ABORT, '{words}'); END"
            )
        return
    op.execute(
        "CREATE FUNCTION reader_study_refuses() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN "
        f"IF TG_OP = 'DELETE' THEN IF {locked} THEN RAISE EXCEPTION '{words}'; END IF; RETURN OLD; END IF; "
        f"IF {changed} THEN RAISE EXCEPTION '{words}'; END IF; RETURN NEW; END $$"
    )
    op.execute(
        "CREATE TRIGGER reader_study_refuses_change BEFORE UPDATE OR DELETE ON reader_study "
        "FOR EACH ROW EXECUTE FUNCTION reader_study_refuses()"
    )
