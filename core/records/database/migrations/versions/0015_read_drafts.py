"""What a reader has filled in and not saved yet."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0015"
down_revision = "0014"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.create_table(
        "read_draft",
        sa.Column("study_id", sa.String(32), nullable=False),
        sa.Column("person_id", sa.Integer, nullable=False),
        sa.Column("kind", sa.String(8), nullable=False),
        sa.Column("content", sa.JSON, nullable=False),
        sa.Column("at", sa.DateTime(timezone=True), nullable=False),
        sa.PrimaryKeyConstraint("study_id", "person_id", "kind", name="pk_read_draft"),
        sa.ForeignKeyConstraint(["study_id"], ["study.id"], name="fk_read_draft_study_id_study"),
        sa.ForeignKeyConstraint(["person_id"], ["person.id"], name="fk_read_draft_person_id_person"),
    )
