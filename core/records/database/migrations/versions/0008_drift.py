"""What drift is measured on: size and brightness of each image, and how many files were refused."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0008"
down_revision = "0007"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.add_column("image", sa.Column("n_rows", sa.Integer))
    op.add_column("image", sa.Column("n_columns", sa.Integer))
    op.add_column("image", sa.Column("brightness", sa.Float))
    op.create_table(
        "intake",
        sa.Column("id", sa.Integer, nullable=False),
        sa.Column("at", sa.DateTime(timezone=True), nullable=False),
        sa.Column("n_read", sa.Integer, nullable=False),
        sa.Column("n_refused", sa.Integer, nullable=False),
        sa.PrimaryKeyConstraint("id", name="pk_intake"),
    )
    op.create_index("ix_intake_at", "intake", ["at"])
