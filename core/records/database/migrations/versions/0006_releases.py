"""Decisions about which weights are live; they can only be added to."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0006"
down_revision = "0005"
branch_labels = None
depends_on = None

MOMENT = sa.DateTime(timezone=True)
SHA256 = sa.String(64)


def upgrade() -> None:
    op.create_table(
        "release",
        sa.Column("id", sa.Integer, nullable=False),
        sa.Column("decision", sa.String(16), nullable=False),
        sa.Column("model_id", sa.String(100), nullable=False),
        sa.Column("weights_sha256", SHA256, nullable=False),
        sa.Column("previous_sha256", SHA256),
        sa.Column("job_id", sa.Integer),
        sa.Column("reason", sa.Text, nullable=False),
        sa.Column("passed", sa.JSON, nullable=False),
        sa.Column("evidence", sa.JSON, nullable=False),
        sa.Column("person_id", sa.Integer, nullable=False),
        sa.Column("created_at", MOMENT, nullable=False),
        sa.PrimaryKeyConstraint("id", name="pk_release"),
        sa.ForeignKeyConstraint(["job_id"], ["job.id"], name="fk_release_job_id_job"),
        sa.ForeignKeyConstraint(["person_id"], ["person.id"], name="fk_release_person_id_person"),
    )
    op.create_index("ix_release_model_id", "release", ["model_id"])
    _only_append("release")


def _only_append(table: str) -> None:
    """From now on the database itself refuses to change or remove a row of this table."""
    words = f"rows of {table} can only be added"
    if op.get_bind().dialect.name == "sqlite":
        for change in ("UPDATE", "DELETE"):
            op.execute(
                f'CREATE TRIGGER {table}_refuses_{change.lower()} BEFORE {change} ON "{table}" '
                f"BEGIN SELECT RAISE(ABORT, '{words}'); END"
            )
        return
    op.execute(
        f"CREATE FUNCTION {table}_refuses() RETURNS trigger LANGUAGE plpgsql AS "
        f"$$ BEGIN RAISE EXCEPTION '{words}'; END $$"
    )
    op.execute(
        f'CREATE TRIGGER {table}_refuses_change BEFORE UPDATE OR DELETE ON "{table}" '
        f"FOR EACH ROW EXECUTE FUNCTION {table}_refuses()"
    )
    op.execute(
        f'CREATE TRIGGER {table}_refuses_truncate BEFORE TRUNCATE ON "{table}" '
        f"FOR EACH STATEMENT EXECUTE FUNCTION {table}_refuses()"
    )
