"""Failed sign-ins are counted by name and by where they come from; no name is locked for everybody any more."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0012"
down_revision = "0011"
branch_labels = None
depends_on = None

MOMENT = sa.DateTime(timezone=True)


def upgrade() -> None:
    op.create_table(
        "sign_in_attempt",
        sa.Column("person_id", sa.Integer, nullable=False),
        sa.Column("origin", sa.String(64), nullable=False),
        sa.Column("n_failed", sa.Integer, nullable=False),
        sa.Column("last_at", MOMENT, nullable=False),
        sa.Column("locked_until", MOMENT),
        sa.PrimaryKeyConstraint("person_id", "origin", name="pk_sign_in_attempt"),
        sa.ForeignKeyConstraint(["person_id"], ["person.id"], name="fk_sign_in_attempt_person_id_person"),
    )
