"""One-time links with which somebody sets their password."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0003"
down_revision = "0002"
branch_labels = None
depends_on = None

MOMENT = sa.DateTime(timezone=True)
SHA256 = sa.String(64)


def upgrade() -> None:
    op.create_table(
        "invitation",
        sa.Column("token_sha256", SHA256, nullable=False),
        sa.Column("person_id", sa.Integer, nullable=False),
        sa.Column("created_by", sa.Integer, nullable=False),
        sa.Column("created_at", MOMENT, nullable=False),
        sa.Column("expires_at", MOMENT, nullable=False),
        sa.PrimaryKeyConstraint("token_sha256", name="pk_invitation"),
        sa.ForeignKeyConstraint(["person_id"], ["person.id"], name="fk_invitation_person_id_person"),
        sa.ForeignKeyConstraint(["created_by"], ["person.id"], name="fk_invitation_created_by_person"),
    )
    op.create_index("ix_invitation_person_id", "invitation", ["person_id"])
