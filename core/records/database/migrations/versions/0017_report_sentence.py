"""The sentence for the report and the breast density that a reader saves with a read; older reads have neither."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0017"
down_revision = "0016"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.add_column("read", sa.Column("sentence", sa.Text))
    op.add_column("read", sa.Column("density", sa.String(1)))
