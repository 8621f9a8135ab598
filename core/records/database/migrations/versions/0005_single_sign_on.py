"""People whom the site's identity provider vouches for."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0005"
down_revision = "0004"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.add_column("person", sa.Column("issuer", sa.String(400)))
    op.add_column("person", sa.Column("subject", sa.String(255)))
    # An index and not a constraint: SQLite could only get a constraint with a new table, which others refer to.
    op.create_index("uq_person_issuer_subject", "person", ["issuer", "subject"], unique=True)
