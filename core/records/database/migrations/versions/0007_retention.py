"""When the pixels of an image were removed by the site's policy."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0007"
down_revision = "0006"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.add_column("image", sa.Column("pixels_removed_at", sa.DateTime(timezone=True)))
