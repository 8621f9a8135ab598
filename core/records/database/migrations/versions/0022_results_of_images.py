"""Results of single images, and what of a first impression goes to an archive."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0022"
down_revision = "0021"
branch_labels = None
depends_on = None


def upgrade() -> None:
    with op.batch_alter_table("archive") as archive:
        archive.add_column(sa.Column("sends_preliminary", sa.JSON, nullable=False, server_default="[]"))
    with op.batch_alter_table("archive") as archive:
        archive.alter_column("sends_preliminary", server_default=None)
    with op.batch_alter_table("outbox") as outbox:
        outbox.add_column(sa.Column("image", sa.Integer, nullable=False, server_default="0"))
        outbox.drop_constraint("uq_outbox_read_id_kind_archive_id", type_="unique")
        outbox.create_unique_constraint(
            "uq_outbox_read_id_kind_archive_id_image", ["read_id", "kind", "archive_id", "image"]
        )
    with op.batch_alter_table("outbox") as outbox:
        outbox.alter_column("image", server_default=None)
