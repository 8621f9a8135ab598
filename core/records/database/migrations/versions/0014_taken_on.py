"""The day on which a study was taken, as its files say it."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0014"
down_revision = "0013"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.add_column("study", sa.Column("taken_on", sa.Date))
