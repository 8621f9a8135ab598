"""What an archive is asked besides: to answer for results, for earlier exams, and over TLS."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0024"
down_revision = "0022"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.add_column("archive", sa.Column("has_tls", sa.Boolean))
    op.add_column("archive", sa.Column("commits", sa.Boolean))
    op.add_column("archive", sa.Column("priors", sa.Integer))
    op.add_column("archive", sa.Column("priors_mib", sa.Integer))
    op.add_column("outbox", sa.Column("commitment", sa.String(80)))
    op.add_column("outbox", sa.Column("commitment_uid", sa.String(64)))
    op.add_column("outbox", sa.Column("commitment_asked_at", sa.DateTime(timezone=True)))
    op.add_column("arrival", sa.Column("prior_of", sa.String(32)))
    op.add_column("arrival", sa.Column("priors_due_at", sa.DateTime(timezone=True)))
    op.create_index("ix_arrival_prior_of", "arrival", ["prior_of"])
    op.create_index("ix_arrival_priors_due_at", "arrival", ["priors_due_at"])
    op.create_index("ix_outbox_commitment_uid", "outbox", ["commitment_uid"])
