"""Back-reads: many studies that models read without anybody waiting, a row a study."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0029"
down_revision = "0027"
branch_labels = None
depends_on = None

MOMENT = sa.DateTime(timezone=True)


def upgrade() -> None:
    op.create_table(
        "back_read",
        sa.Column("id", sa.Integer, nullable=False),
        sa.Column("models", sa.JSON, nullable=False),
        sa.Column("created_by", sa.Integer, nullable=False),
        sa.Column("created_at", MOMENT, nullable=False),
        sa.PrimaryKeyConstraint("id", name="pk_back_read"),
        sa.ForeignKeyConstraint(["created_by"], ["person.id"], name="fk_back_read_created_by_person"),
    )
    op.create_table(
        "back_read_study",
        sa.Column("id", sa.Integer, nullable=False),
        sa.Column("back_read_id", sa.Integer, nullable=False),
        sa.Column("study_id", sa.String(32), nullable=False),
        sa.Column("state", sa.String(16), nullable=False),
        sa.Column("message", sa.Text, nullable=False),
        sa.Column("attempts", sa.Integer, nullable=False),
        sa.Column("worker", sa.String(120)),
        sa.Column("machine", sa.String(80)),
        sa.Column("lease_until", MOMENT),
        sa.Column("cancel_asked_at", MOMENT),
        sa.Column("result", sa.JSON),
        sa.Column("ended_at", MOMENT),
        sa.PrimaryKeyConstraint("id", name="pk_back_read_study"),
        sa.UniqueConstraint("back_read_id", "study_id", name="uq_back_read_study_back_read_id_study_id"),
        sa.ForeignKeyConstraint(["back_read_id"], ["back_read.id"], name="fk_back_read_study_back_read_id_back_read"),
        sa.ForeignKeyConstraint(["study_id"], ["study.id"], name="fk_back_read_study_study_id_study"),
    )
    op.create_index("ix_back_read_study_state", "back_read_study", ["state"])
    op.create_index("ix_back_read_study_study_id", "back_read_study", ["study_id"])
