"""Data sets with versions that never change, and training jobs with what happened to them."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0002"
down_revision = "0001"
branch_labels = None
depends_on = None

APPEND_ONLY = ("data_set_version", "job_event", "job_epoch")
MOMENT = sa.DateTime(timezone=True)
ID = sa.String(32)
SHA256 = sa.String(64)


def upgrade() -> None:
    _data_sets()
    _jobs()
    _what_happened()
    for table in APPEND_ONLY:
        _only_append(table)


def _data_sets() -> None:
    op.create_table(
        "data_set",
        sa.Column("id", ID, nullable=False),
        sa.Column("name", sa.String(80), nullable=False),
        sa.Column("modality", sa.String(16), nullable=False),
        sa.Column("created_by", sa.Integer, nullable=False),
        sa.Column("created_at", MOMENT, nullable=False),
        sa.Column("removed_at", MOMENT),
        sa.Column("removed_by", sa.Integer),
        sa.PrimaryKeyConstraint("id", name="pk_data_set"),
        sa.UniqueConstraint("name", name="uq_data_set_name"),
        sa.ForeignKeyConstraint(["created_by"], ["person.id"], name="fk_data_set_created_by_person"),
        sa.ForeignKeyConstraint(["removed_by"], ["person.id"], name="fk_data_set_removed_by_person"),
    )
    op.create_table(
        "data_set_version",
        sa.Column("id", sa.Integer, nullable=False),
        sa.Column("data_set_id", ID, nullable=False),
        sa.Column("number", sa.Integer, nullable=False),
        sa.Column("manifest_sha256", SHA256, nullable=False),
        sa.Column("split", sa.JSON, nullable=False),
        sa.Column("counts", sa.JSON, nullable=False),
        sa.Column("audit", sa.JSON, nullable=False),
        sa.Column("created_by", sa.Integer, nullable=False),
        sa.Column("created_at", MOMENT, nullable=False),
        sa.PrimaryKeyConstraint("id", name="pk_data_set_version"),
        sa.ForeignKeyConstraint(["data_set_id"], ["data_set.id"], name="fk_data_set_version_data_set_id_data_set"),
        sa.ForeignKeyConstraint(["created_by"], ["person.id"], name="fk_data_set_version_created_by_person"),
        sa.UniqueConstraint("data_set_id", "number", name="uq_data_set_version_data_set_id_number"),
    )


def _jobs() -> None:
    op.create_table(
        "job",
        sa.Column("id", sa.Integer, nullable=False),
        sa.Column("kind", sa.String(16), nullable=False),
        sa.Column("version_id", sa.Integer, nullable=False),
        sa.Column("request", sa.JSON, nullable=False),
        sa.Column("state", sa.String(16), nullable=False),
        sa.Column("message", sa.Text, nullable=False),
        sa.Column("attempts", sa.Integer, nullable=False),
        sa.Column("worker", sa.String(120)),
        sa.Column("machine", sa.String(80)),
        sa.Column("lease_until", MOMENT),
        sa.Column("cancel_asked_at", MOMENT),
        sa.Column("memory_mib", sa.Integer),
        sa.Column("result", sa.JSON),
        sa.Column("created_by", sa.Integer, nullable=False),
        sa.Column("created_at", MOMENT, nullable=False),
        sa.Column("started_at", MOMENT),
        sa.Column("ended_at", MOMENT),
        sa.PrimaryKeyConstraint("id", name="pk_job"),
        sa.ForeignKeyConstraint(["version_id"], ["data_set_version.id"], name="fk_job_version_id_data_set_version"),
        sa.ForeignKeyConstraint(["created_by"], ["person.id"], name="fk_job_created_by_person"),
    )
    op.create_index("ix_job_state", "job", ["state"])


def _what_happened() -> None:
    op.create_table(
        "job_event",
        sa.Column("id", sa.Integer, nullable=False),
        sa.Column("job_id", sa.Integer, nullable=False),
        sa.Column("at", MOMENT, nullable=False),
        sa.Column("attempt", sa.Integer, nullable=False),
        sa.Column("sentence", sa.Text, nullable=False),
        sa.PrimaryKeyConstraint("id", name="pk_job_event"),
        sa.ForeignKeyConstraint(["job_id"], ["job.id"], name="fk_job_event_job_id_job"),
    )
    op.create_index("ix_job_event_job_id", "job_event", ["job_id"])
    op.create_table(
        "job_epoch",
        sa.Column("id", sa.Integer, nullable=False),
        sa.Column("job_id", sa.Integer, nullable=False),
        sa.Column("part", sa.String(16), nullable=False),
        sa.Column("epoch", sa.Integer, nullable=False),
        sa.Column("attempt", sa.Integer, nullable=False),
        sa.Column("at", MOMENT, nullable=False),
        sa.Column("measures", sa.JSON, nullable=False),
        sa.PrimaryKeyConstraint("id", name="pk_job_epoch"),
        sa.UniqueConstraint("job_id", "part", "epoch", name="uq_job_epoch_job_id_part_epoch"),
        sa.ForeignKeyConstraint(["job_id"], ["job.id"], name="fk_job_epoch_job_id_job"),
    )


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
