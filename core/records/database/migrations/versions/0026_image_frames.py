"""Every frame of a clip or a stack."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0026"
down_revision = "0024"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.create_table(
        "image_frame",
        sa.Column("image_id", sa.String(32), nullable=False),
        sa.Column("frame", sa.Integer, nullable=False),
        sa.Column("stored", sa.String(80), nullable=False),
        sa.ForeignKeyConstraint(["image_id"], ["image.id"], name="fk_image_frame_image_id_image"),
        sa.PrimaryKeyConstraint("image_id", "frame", name="pk_image_frame"),
    )
    op.create_index("ix_image_frame_stored", "image_frame", ["stored"])
