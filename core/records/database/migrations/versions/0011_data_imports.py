"""Imports of data sets that outlive the page which asked for them."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0011"
down_revision = "0010"
branch_labels = None
depends_on = None

MOMENT = sa.DateTime(timezone=True)


def upgrade() -> None:
    op.create_table(
        "data_import",
        sa.Column("id", sa.Integer, nullable=False),
        sa.Column("request", sa.JSON, nullable=False),
        sa.Column("state", sa.String(16), nullable=False),
        sa.Column("message", sa.Text, nullable=False),
        sa.Column("done", sa.Float, nullable=False),
        sa.Column("attempts", sa.Integer, nullable=False),
        sa.Column("worker", sa.String(120)),
        sa.Column("machine", sa.String(80)),
        sa.Column("lease_until", MOMENT),
        sa.Column("cancel_asked_at", MOMENT),
        sa.Column("result", sa.JSON),
        sa.Column("created_by", sa.Integer, nullable=False),
        sa.Column("created_at", MOMENT, nullable=False),
        sa.Column("ended_at", MOMENT),
        sa.Column("closed_at", MOMENT),
        sa.PrimaryKeyConstraint("id", name="pk_data_import"),
        sa.ForeignKeyConstraint(["created_by"], ["person.id"], name="fk_data_import_created_by_person"),
    )
    op.create_index("ix_data_import_state", "data_import", ["state"])
