"""Archives, what studies are called there, studies that are to be fetched, and results on their way."""

from __future__ import annotations

from typing import Any

import sqlalchemy as sa
from alembic import op

revision = "0021"
down_revision = "0020"
branch_labels = None
depends_on = None

MOMENT = sa.DateTime(timezone=True)


def _of_a_queue() -> list[sa.Column[Any]]:
    return [
        sa.Column("state", sa.String(16), nullable=False),
        sa.Column("message", sa.Text, nullable=False),
        sa.Column("attempts", sa.Integer, nullable=False),
        sa.Column("tries", sa.Integer, nullable=False),
        sa.Column("due_at", MOMENT),
        sa.Column("worker", sa.String(120)),
        sa.Column("machine", sa.String(80)),
        sa.Column("lease_until", MOMENT),
        sa.Column("cancel_asked_at", MOMENT),
        sa.Column("result", sa.JSON),
        sa.Column("created_at", MOMENT, nullable=False),
        sa.Column("ended_at", MOMENT),
    ]


def _refers(table: str, column: str, to: str) -> sa.ForeignKeyConstraint:
    return sa.ForeignKeyConstraint([column], [f"{to}.id"], name=f"fk_{table}_{column}_{to}")


def upgrade() -> None:
    _add_archives()
    _add_source_identities()
    _add_arrivals()
    _add_outbox()


def _add_archives() -> None:
    op.create_table(
        "archive",
        sa.Column("id", sa.Integer, nullable=False),
        sa.Column("name", sa.String(60), nullable=False),
        sa.Column("dicomweb_url", sa.String(400), nullable=False),
        sa.Column("ae_title", sa.String(16), nullable=False),
        sa.Column("host", sa.String(255), nullable=False),
        sa.Column("port", sa.Integer),
        sa.Column("sends", sa.JSON, nullable=False),
        sa.Column("pushes", sa.Boolean, nullable=False),
        sa.Column("pushes_by", sa.Integer),
        sa.Column("watch", sa.JSON),
        sa.Column("watch_by", sa.Integer),
        sa.Column("watch_state", sa.JSON),
        sa.Column("looked_at", MOMENT),
        sa.Column("created_by", sa.Integer, nullable=False),
        sa.Column("created_at", MOMENT, nullable=False),
        sa.Column("removed_at", MOMENT),
        sa.PrimaryKeyConstraint("id", name="pk_archive"),
        _refers("archive", "created_by", "person"),
        _refers("archive", "watch_by", "person"),
        _refers("archive", "pushes_by", "person"),
    )


def _add_source_identities() -> None:
    op.create_table(
        "source_identity",
        sa.Column("study_id", sa.String(32), nullable=False),
        sa.Column("archive_id", sa.Integer),
        sa.Column("exam_hash", sa.String(64), nullable=False),
        sa.Column("sealed", sa.Text, nullable=False),
        sa.PrimaryKeyConstraint("study_id", name="pk_source_identity"),
        _refers("source_identity", "study_id", "study"),
        _refers("source_identity", "archive_id", "archive"),
    )
    op.create_index("ix_source_identity_exam_hash", "source_identity", ["exam_hash"])


def _add_arrivals() -> None:
    op.create_table(
        "arrival",
        sa.Column("id", sa.Integer, nullable=False),
        sa.Column("archive_id", sa.Integer, nullable=False),
        sa.Column("exam_hash", sa.String(64), nullable=False),
        sa.Column("sealed", sa.Text, nullable=False),
        sa.Column("study_id", sa.String(32)),
        sa.Column("asked_by", sa.String(16), nullable=False),
        sa.Column("created_by", sa.Integer, nullable=False),
        *_of_a_queue(),
        sa.PrimaryKeyConstraint("id", name="pk_arrival"),
        _refers("arrival", "archive_id", "archive"),
        _refers("arrival", "study_id", "study"),
        _refers("arrival", "created_by", "person"),
    )
    op.create_index("ix_arrival_state", "arrival", ["state"])
    op.create_index("ix_arrival_exam_hash", "arrival", ["exam_hash"])


def _add_outbox() -> None:
    op.create_table(
        "outbox",
        sa.Column("id", sa.Integer, nullable=False),
        sa.Column("study_id", sa.String(32), nullable=False),
        sa.Column("read_id", sa.Integer, nullable=False),
        sa.Column("archive_id", sa.Integer, nullable=False),
        sa.Column("kind", sa.String(16), nullable=False),
        sa.Column("sop_instance_uid", sa.String(64), nullable=False),
        sa.Column("payload", sa.Text),
        *_of_a_queue(),
        sa.PrimaryKeyConstraint("id", name="pk_outbox"),
        sa.UniqueConstraint("read_id", "kind", "archive_id", name="uq_outbox_read_id_kind_archive_id"),
        _refers("outbox", "study_id", "study"),
        _refers("outbox", "read_id", "read"),
        _refers("outbox", "archive_id", "archive"),
    )
    op.create_index("ix_outbox_state", "outbox", ["state"])
    op.create_index("ix_outbox_study_id", "outbox", ["study_id"])
