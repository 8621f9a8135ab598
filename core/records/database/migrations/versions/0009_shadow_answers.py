"""What models that run silently said of new images."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0009"
down_revision = "0008"
branch_labels = None
depends_on = None

MOMENT = sa.DateTime(timezone=True)
ID = sa.String(32)
SHA256 = sa.String(64)


def upgrade() -> None:
    op.create_table(
        "shadow_answer",
        sa.Column("id", sa.Integer, nullable=False),
        sa.Column("study_id", ID, nullable=False),
        sa.Column("image_id", ID, nullable=False),
        sa.Column("model_id", sa.String(120), nullable=False),
        sa.Column("weights_sha256", SHA256, nullable=False),
        sa.Column("malignant", sa.Float, nullable=False),
        sa.Column("threshold", sa.Float, nullable=False),
        sa.Column("created_at", MOMENT, nullable=False),
        sa.PrimaryKeyConstraint("id", name="pk_shadow_answer"),
        sa.ForeignKeyConstraint(["study_id"], ["study.id"], name="fk_shadow_answer_study_id_study"),
        sa.ForeignKeyConstraint(["image_id"], ["image.id"], name="fk_shadow_answer_image_id_image"),
        sa.UniqueConstraint(
            "image_id", "model_id", "weights_sha256", name="uq_shadow_answer_image_id_model_id_weights_sha256"
        ),
    )
    op.create_index("ix_shadow_answer_study_id", "shadow_answer", ["study_id"])
