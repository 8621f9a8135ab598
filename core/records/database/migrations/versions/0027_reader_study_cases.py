"""Studies that are cases of reader studies alone, made of pictures of a data set."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0027"
down_revision = "0026"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.add_column("study", sa.Column("is_reader_study_case", sa.Boolean, nullable=False, server_default=sa.false()))
