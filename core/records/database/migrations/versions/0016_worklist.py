"""Whose study it is, whether two readers read it, and who is reading it now."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0016"
down_revision = "0015"
branch_labels = None
depends_on = None

MOMENT = sa.DateTime(timezone=True)


def upgrade() -> None:
    op.create_table(
        "assignment",
        sa.Column("study_id", sa.String(32), nullable=False),
        sa.Column("person_id", sa.Integer),
        sa.Column("is_double_read", sa.Boolean, nullable=False),
        sa.PrimaryKeyConstraint("study_id", name="pk_assignment"),
        sa.ForeignKeyConstraint(["study_id"], ["study.id"], name="fk_assignment_study_id_study"),
        sa.ForeignKeyConstraint(["person_id"], ["person.id"], name="fk_assignment_person_id_person"),
    )
    op.create_table(
        "reading_lease",
        sa.Column("study_id", sa.String(32), nullable=False),
        sa.Column("person_id", sa.Integer, nullable=False),
        sa.Column("begun_at", MOMENT, nullable=False),
        sa.Column("lease_until", MOMENT, nullable=False),
        sa.PrimaryKeyConstraint("study_id", name="pk_reading_lease"),
        sa.ForeignKeyConstraint(["study_id"], ["study.id"], name="fk_reading_lease_study_id_study"),
        sa.ForeignKeyConstraint(["person_id"], ["person.id"], name="fk_reading_lease_person_id_person"),
    )
