"""People, studies, reads, truth and the audit trail; reads, truth and audit can only be added to."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0001"
down_revision = None
branch_labels = None
depends_on = None

APPEND_ONLY = ("read", "truth", "audit")
MOMENT = sa.DateTime(timezone=True)
ID = sa.String(32)
SHA256 = sa.String(64)


def upgrade() -> None:
    _people()
    _studies()
    _predictions()
    _what_people_said()
    _trail()
    for table in APPEND_ONLY:
        _only_append(table)


def _people() -> None:
    op.create_table(
        "person",
        sa.Column("id", sa.Integer, nullable=False),
        sa.Column("name", sa.String(200), nullable=False),
        sa.Column("password_hash", sa.Text, nullable=False),
        sa.Column("roles", sa.JSON, nullable=False),
        sa.Column("disabled", sa.Boolean, nullable=False),
        sa.Column("failed_count", sa.Integer, nullable=False),
        sa.Column("locked_until", MOMENT),
        sa.Column("created_at", MOMENT, nullable=False),
        sa.PrimaryKeyConstraint("id", name="pk_person"),
        sa.UniqueConstraint("name", name="uq_person_name"),
    )
    op.create_table(
        "session",
        sa.Column("token_sha256", SHA256, nullable=False),
        sa.Column("person_id", sa.Integer, nullable=False),
        sa.Column("created_at", MOMENT, nullable=False),
        sa.Column("last_seen_at", MOMENT, nullable=False),
        sa.Column("revoked_at", MOMENT),
        sa.PrimaryKeyConstraint("token_sha256", name="pk_session"),
        sa.ForeignKeyConstraint(["person_id"], ["person.id"], name="fk_session_person_id_person"),
    )
    op.create_index("ix_session_person_id", "session", ["person_id"])


def _studies() -> None:
    op.create_table(
        "study",
        sa.Column("id", ID, nullable=False),
        sa.Column("display_name", sa.String(80), nullable=False),
        sa.Column("created_by", sa.Integer, nullable=False),
        sa.Column("created_at", MOMENT, nullable=False),
        sa.Column("reading_mode", sa.String(16), nullable=False),
        sa.Column("patient_hash", SHA256),
        sa.Column("is_synthetic", sa.Boolean, nullable=False),
        sa.Column("deleted_at", MOMENT),
        sa.Column("deleted_by", sa.Integer),
        sa.PrimaryKeyConstraint("id", name="pk_study"),
        sa.ForeignKeyConstraint(["created_by"], ["person.id"], name="fk_study_created_by_person"),
        sa.ForeignKeyConstraint(["deleted_by"], ["person.id"], name="fk_study_deleted_by_person"),
    )
    op.create_index("ix_study_created_at", "study", ["created_at"])
    op.create_index("ix_study_patient_hash", "study", ["patient_hash"])
    op.create_table(
        "image",
        sa.Column("id", ID, nullable=False),
        sa.Column("study_id", ID, nullable=False),
        sa.Column("position", sa.Integer, nullable=False),
        sa.Column("sha256", SHA256, nullable=False),
        sa.Column("stored", sa.String(80), nullable=False),
        sa.Column("modality", sa.String(16)),
        sa.Column("modality_source", sa.String(16), nullable=False),
        sa.Column("laterality", sa.String(1)),
        sa.Column("view", sa.String(8)),
        sa.Column("spacing_row_mm", sa.Float),
        sa.Column("spacing_column_mm", sa.Float),
        sa.Column("frame", sa.Integer, nullable=False),
        sa.Column("n_frames", sa.Integer, nullable=False),
        sa.Column("meta", sa.JSON, nullable=False),
        sa.PrimaryKeyConstraint("id", name="pk_image"),
        sa.ForeignKeyConstraint(["study_id"], ["study.id"], name="fk_image_study_id_study"),
        sa.UniqueConstraint("study_id", "position", name="uq_image_study_id_position"),
    )
    op.create_index("ix_image_sha256", "image", ["sha256"])
    op.create_index("ix_image_stored", "image", ["stored"])


def _predictions() -> None:
    op.create_table(
        "prediction",
        sa.Column("id", sa.Integer, nullable=False),
        sa.Column("study_id", ID, nullable=False),
        sa.Column("image_id", ID, nullable=False),
        sa.Column("model_id", sa.String(120), nullable=False),
        sa.Column("weights_sha256", SHA256, nullable=False),
        sa.Column("created_at", MOMENT, nullable=False),
        sa.Column("payload", sa.JSON, nullable=False),
        sa.Column("maps", sa.String(80), nullable=False),
        sa.PrimaryKeyConstraint("id", name="pk_prediction"),
        sa.ForeignKeyConstraint(["study_id"], ["study.id"], name="fk_prediction_study_id_study"),
        sa.ForeignKeyConstraint(["image_id"], ["image.id"], name="fk_prediction_image_id_image"),
        sa.UniqueConstraint(
            "image_id", "model_id", "weights_sha256", name="uq_prediction_image_id_model_id_weights_sha256"
        ),
    )
    op.create_index("ix_prediction_study_id", "prediction", ["study_id"])
    op.create_index("ix_prediction_maps", "prediction", ["maps"])


def _what_people_said() -> None:
    op.create_table(
        "read",
        sa.Column("id", sa.Integer, nullable=False),
        sa.Column("study_id", ID, nullable=False),
        sa.Column("person_id", sa.Integer, nullable=False),
        sa.Column("kind", sa.String(8), nullable=False),
        sa.Column("impressions", sa.JSON, nullable=False),
        sa.Column("comment", sa.Text, nullable=False),
        sa.Column("reading_mode", sa.String(16), nullable=False),
        sa.Column("created_at", MOMENT, nullable=False),
        sa.Column("predictions_seen", sa.JSON, nullable=False),
        sa.PrimaryKeyConstraint("id", name="pk_read"),
        sa.ForeignKeyConstraint(["study_id"], ["study.id"], name="fk_read_study_id_study"),
        sa.ForeignKeyConstraint(["person_id"], ["person.id"], name="fk_read_person_id_person"),
    )
    op.create_index("ix_read_study_id_kind", "read", ["study_id", "kind"])
    is_first = sa.text("kind = 'first'")
    op.create_index(
        "uq_read_one_first",
        "read",
        ["study_id", "person_id"],
        unique=True,
        sqlite_where=is_first,
        postgresql_where=is_first,
    )
    op.create_table(
        "truth",
        sa.Column("id", sa.Integer, nullable=False),
        sa.Column("study_id", ID, nullable=False),
        sa.Column("breast", sa.String(1), nullable=False),
        sa.Column("pathology", sa.String(40), nullable=False),
        sa.Column("happened_on", sa.Date, nullable=False),
        sa.Column("source", sa.Text, nullable=False),
        sa.Column("person_id", sa.Integer, nullable=False),
        sa.Column("created_at", MOMENT, nullable=False),
        sa.PrimaryKeyConstraint("id", name="pk_truth"),
        sa.ForeignKeyConstraint(["study_id"], ["study.id"], name="fk_truth_study_id_study"),
        sa.ForeignKeyConstraint(["person_id"], ["person.id"], name="fk_truth_person_id_person"),
    )
    op.create_index("ix_truth_study_id", "truth", ["study_id"])


def _trail() -> None:
    op.create_table(
        "audit",
        sa.Column("id", sa.Integer, nullable=False, autoincrement=False),
        sa.Column("at", MOMENT, nullable=False),
        sa.Column("person_id", sa.Integer),
        sa.Column("action", sa.String(60), nullable=False),
        sa.Column("subject", sa.String(200), nullable=False),
        sa.Column("detail", sa.JSON, nullable=False),
        sa.Column("previous", SHA256, nullable=False),
        sa.Column("mac", SHA256, nullable=False),
        sa.PrimaryKeyConstraint("id", name="pk_audit"),
    )
    op.create_index("ix_audit_at", "audit", ["at"])
    op.create_index("ix_audit_subject_action", "audit", ["subject", "action"])
    op.create_table(
        "site",
        sa.Column("key", sa.String(60), nullable=False),
        sa.Column("value", sa.Text, nullable=False),
        sa.PrimaryKeyConstraint("key", name="pk_site"),
    )


def _only_append(table: str) -> None:
    """From now on the database itself refuses to change or remove a row of this table."""
    words = f"rows of {table} can only be added"
    if op.get_bind().dialect.name == "sqlite":
        for change in ("UPDATE", "DELETE"):
            op.execute(
                f'CREATE TRIGGER {table}_refuses_{change.lower()} BEFORE {change} ON "{table}" '
                f"BEGIN SELECT RAISE(ABORT, '{words}'); END"
            )
        return
    op.execute(
        f"CREATE FUNCTION {table}_refuses() RETURNS trigger LANGUAGE plpgsql AS "
        f"$$ BEGIN RAISE EXCEPTION '{words}'; END $$"
    )
    op.execute(
        f'CREATE TRIGGER {table}_refuses_change BEFORE UPDATE OR DELETE ON "{table}" '
        f"FOR EACH ROW EXECUTE FUNCTION {table}_refuses()"
    )
    op.execute(
        f'CREATE TRIGGER {table}_refuses_truncate BEFORE TRUNCATE ON "{table}" '
        f"FOR EACH STATEMENT EXECUTE FUNCTION {table}_refuses()"
    )
