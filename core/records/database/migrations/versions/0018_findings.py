"""Findings, measurements and answers to proposals that a reader saves with a read; older reads have none.

The database refuses to change them, and to remove them while their study is there: they go when it is deleted.
"""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0018"
down_revision = "0017"
branch_labels = None
depends_on = None


def upgrade() -> None:
    for table, columns in {
        "finding": (
            sa.Column("breast", sa.String(1), nullable=False),
            sa.Column("type", sa.String(40), nullable=False),
            sa.Column("detail", sa.JSON, nullable=False),
            sa.Column("marks", sa.JSON, nullable=False),
            sa.Column("sizes", sa.JSON, nullable=False),
        ),
        "measurement": (
            sa.Column("mark", sa.JSON, nullable=False),
            sa.Column("measured", sa.JSON, nullable=False),
        ),
        "proposal": (
            sa.Column("model_id", sa.String(120), nullable=False),
            sa.Column("weights_sha256", sa.String(64), nullable=False),
            sa.Column("mark", sa.JSON, nullable=False),
            sa.Column("strength", sa.Float, nullable=False),
            sa.Column("level", sa.Float, nullable=False),
            sa.Column("answer", sa.String(8), nullable=False),
        ),
    }.items():
        op.create_table(
            table,
            sa.Column("id", sa.Integer, nullable=False),
            sa.Column("study_id", sa.String(32), nullable=False),
            sa.Column("read_id", sa.Integer, nullable=False),
            sa.Column("number", sa.Integer, nullable=False),
            *columns,
            sa.PrimaryKeyConstraint("id", name=f"pk_{table}"),
            sa.ForeignKeyConstraint(["study_id"], ["study.id"], name=f"fk_{table}_study_id_study"),
            sa.ForeignKeyConstraint(["read_id"], ["read.id"], name=f"fk_{table}_read_id_read"),
            sa.UniqueConstraint("read_id", "number", name=f"uq_{table}_read_id_number"),
        )
        op.create_index(f"ix_{table}_study_id", table, ["study_id"])
        _stay_with_study(table)
    op.create_index("ix_proposal_model_id", "proposal", ["model_id"])


def _stay_with_study(table: str) -> None:
    """From now on the database itself refuses to change a row, and to remove it before its study is deleted."""
    words = f"rows of {table} stay as they are while their study does"
    is_there = "EXISTS (SELECT 1 FROM study WHERE id = OLD.study_id AND deleted_at IS NULL)"
    if op.get_bind().dialect.name == "sqlite":
        op.execute(
            f'CREATE TRIGGER {table}_refuses_update BEFORE UPDATE ON "{table}" '
            f"BEGIN SELECT RAISE(ABORT, '{words}'); END"
        )
        op.execute(
            f'CREATE TRIGGER {table}_refuses_delete BEFORE DELETE ON "{table}" WHEN {is_there} '
            f"BEGIN SELECT RAISE(ABORT, '{words}'); END"
        )
        return
    op.execute(
        f"CREATE FUNCTION {table}_refuses() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN "
        f"IF TG_OP = 'DELETE' THEN IF {is_there} THEN RAISE EXCEPTION '{words}'; END IF; RETURN OLD; END IF; "
        f"RAISE EXCEPTION '{words}'; END $$"
    )
    op.execute(
        f'CREATE TRIGGER {table}_refuses_change BEFORE UPDATE OR DELETE ON "{table}" '
        f"FOR EACH ROW EXECUTE FUNCTION {table}_refuses()"
    )
    op.execute(
        f'CREATE TRIGGER {table}_refuses_truncate BEFORE TRUNCATE ON "{table}" '
        f"FOR EACH STATEMENT EXECUTE FUNCTION {table}_refuses()"
    )
