"""Language models that a site may ask for descriptors, and what they said."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0030"
down_revision = "0029"
branch_labels = None
depends_on = None

MOMENT = sa.DateTime(timezone=True)


def upgrade() -> None:
    op.create_table(
        "language_endpoint",
        sa.Column("id", sa.Integer, nullable=False),
        sa.Column("protocol", sa.String(16), nullable=False),
        sa.Column("url", sa.String(400), nullable=False),
        sa.Column("model", sa.String(120), nullable=False),
        sa.Column("permitted_by", sa.Integer),
        sa.Column("permitted_at", MOMENT),
        sa.Column("reason", sa.Text),
        sa.Column("revoked_by", sa.Integer),
        sa.Column("revoked_at", MOMENT),
        sa.Column("created_by", sa.Integer, nullable=False),
        sa.Column("created_at", MOMENT, nullable=False),
        sa.Column("removed_at", MOMENT),
        sa.PrimaryKeyConstraint("id", name="pk_language_endpoint"),
        *(
            sa.ForeignKeyConstraint([column], ["person.id"], name=f"fk_language_endpoint_{column}_person")
            for column in ("permitted_by", "revoked_by", "created_by")
        ),
    )
    op.create_table(
        "language_answer",
        sa.Column("id", sa.Integer, nullable=False),
        sa.Column("endpoint_id", sa.Integer, nullable=False),
        sa.Column("study_id", sa.String(32), nullable=False),
        sa.Column("image_id", sa.String(32), nullable=False),
        sa.Column("number", sa.Integer, nullable=False),
        sa.Column("mark", sa.JSON),
        sa.Column("measured", sa.JSON),
        sa.Column("words", sa.JSON),
        sa.Column("served_model", sa.String(120)),
        sa.Column("prompt_sha256", sa.String(64)),
        sa.Column("sent_sha256", sa.String(64)),
        sa.Column("looked_by", sa.Integer),
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
        sa.PrimaryKeyConstraint("id", name="pk_language_answer"),
        sa.UniqueConstraint("image_id", "endpoint_id", "number", name="uq_language_answer_image_id_endpoint_id_number"),
        sa.ForeignKeyConstraint(
            ["endpoint_id"], ["language_endpoint.id"], name="fk_language_answer_endpoint_id_language_endpoint"
        ),
        sa.ForeignKeyConstraint(["study_id"], ["study.id"], name="fk_language_answer_study_id_study"),
        sa.ForeignKeyConstraint(["image_id"], ["image.id"], name="fk_language_answer_image_id_image"),
        sa.ForeignKeyConstraint(["looked_by"], ["person.id"], name="fk_language_answer_looked_by_person"),
    )
    op.create_index("ix_language_answer_state", "language_answer", ["state"])
    op.create_index("ix_language_answer_study_id", "language_answer", ["study_id"])
