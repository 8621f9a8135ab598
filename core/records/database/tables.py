"""Every table, on one `metadata`. What exists in a database is made by `migrations/`; a test holds the two together."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import Any

from sqlalchemy import (
    JSON,
    Boolean,
    Column,
    ColumnElement,
    Connection,
    Date,
    DateTime,
    Dialect,
    Float,
    ForeignKey,
    Index,
    Integer,
    MetaData,
    String,
    Table,
    Text,
    UniqueConstraint,
    and_,
    false,
    func,
)
from sqlalchemy.types import TypeDecorator

# Names for everything: SQLite can only change a constraint later if it has one.
metadata = MetaData(
    naming_convention={
        "ix": "ix_%(column_0_N_label)s",
        "uq": "uq_%(table_name)s_%(column_0_N_name)s",
        "fk": "fk_%(table_name)s_%(column_0_name)s_%(referred_table_name)s",
        "pk": "pk_%(table_name)s",
    }
)

ID = String(32)
"""uuid4 as 32 hexadecimal digits: such an id may stand in an address, it tells nothing and cannot be guessed."""
SHA256 = String(64)


class Moment(TypeDecorator[datetime]):
    """A point in time: goes in with its zone, comes back in UTC, with its zone, on both databases."""

    impl = DateTime(timezone=True)
    cache_ok = True

    def process_bind_param(self, value: datetime | None, dialect: Dialect) -> datetime | None:
        if value is None:
            return None
        if value.tzinfo is None:
            raise ValueError("a time without its zone cannot be kept")
        return value.astimezone(UTC)

    def process_result_value(self, value: datetime | None, dialect: Dialect) -> datetime | None:
        if value is None:
            return None
        return value.astimezone(UTC) if value.tzinfo else value.replace(tzinfo=UTC)


def now() -> datetime:
    """The present, in UTC."""
    return datetime.now(UTC)


def present(connection: Connection) -> datetime | ColumnElement[datetime]:
    """The present by a clock that all machines share, for what one writes and another compares within seconds: that of
    PostgreSQL, at the moment of the statement. SQLite's file has the one of its machine.
    """
    if connection.dialect.name == "postgresql":
        return func.clock_timestamp(type_=DateTime(timezone=True))
    return now()


def _numbered(name: str, *columns: Any) -> Table:
    """A table whose rows have a number as their id. columns: beside the id; constraints, too."""
    return Table(name, metadata, Column("id", Integer, primary_key=True), *columns)


def _made() -> list[Column[Any]]:
    """Who made a row, and when."""
    return [
        Column("created_by", ForeignKey("person.id"), nullable=False),
        Column("created_at", Moment, nullable=False),
    ]


def _leased(*, is_due_again: bool = False) -> list[Column[Any]]:
    """Of a row of a queue (`core.records.queue`): its state, in a sentence too, who works at it, until when, whether
    somebody asked to stop, and what came of it.

    attempts: how often it was begun. is_due_again: also how often another side did not take it, and when it is tried
    again.
    """
    tries: list[Column[Any]] = [Column("tries", Integer, nullable=False), Column("due_at", Moment)]
    return [
        Column("state", String(16), nullable=False, index=True),
        Column("message", Text, nullable=False),
        Column("attempts", Integer, nullable=False),
        *(tries if is_due_again else []),
        Column("worker", String(120)),
        Column("machine", String(80)),
        Column("lease_until", Moment),
        Column("cancel_asked_at", Moment),
        Column("result", JSON),
        Column("ended_at", Moment),
    ]


CLOCK_STEP = timedelta(minutes=5)
"""By how much a clock may be set back in the usual course (NTP). A moment that lies further ahead than that was written
by a clock that was wrong: what it would have ended counts as over, and what it opened as closed."""


def is_ahead(until: ColumnElement[datetime], most: timedelta) -> ColumnElement[bool]:
    """Whether `until`, written as the present and at most `most`, is still to come, and no clock was wrong."""
    return and_(until > now(), until <= now() + most + CLOCK_STEP)


person = _numbered(
    "person",
    Column("name", String(200), nullable=False, unique=True),
    Column("password_hash", Text, nullable=False),
    Column("roles", JSON, nullable=False),
    Column("disabled", Boolean, nullable=False, default=False),
    # Of version 0.1.0, which locked a name for everybody; `sign_in_attempt` counts since. Nothing reads these.
    Column("failed_count", Integer, nullable=False, default=0),
    Column("locked_until", Moment),
    Column("created_at", Moment, nullable=False),
    # Who comes by single sign-on, as the provider knows them; both None for somebody with a password of ours.
    Column("issuer", String(400)),
    Column("subject", String(255)),
)
Index("uq_person_issuer_subject", person.c.issuer, person.c.subject, unique=True)

# Failed sign-ins in a row, by name and origin: an address or a browser, as a digest under the site's key.
sign_in_attempt = Table(
    "sign_in_attempt",
    metadata,
    Column("person_id", ForeignKey("person.id"), primary_key=True),
    Column("origin", SHA256, primary_key=True),
    Column("n_failed", Integer, nullable=False),
    Column("last_at", Moment, nullable=False),
    Column("locked_until", Moment),
)

# secret: sealed under the site's key. confirmed_at: None until a first code was right. last_step: of the last code.
second_factor = Table(
    "second_factor",
    metadata,
    Column("person_id", ForeignKey("person.id"), primary_key=True),
    Column("secret", Text, nullable=False),
    Column("confirmed_at", Moment),
    Column("last_step", Integer, nullable=False),
    Column("recovery", JSON, nullable=False),
)

session = Table(
    "session",
    metadata,
    Column("token_sha256", SHA256, primary_key=True),
    Column("person_id", ForeignKey("person.id"), nullable=False, index=True),
    Column("created_at", Moment, nullable=False),
    Column("last_seen_at", Moment, nullable=False),
    Column("revoked_at", Moment),
)

study = Table(
    "study",
    metadata,
    Column("id", ID, primary_key=True),
    Column("display_name", String(80), nullable=False),
    Column("created_by", ForeignKey("person.id"), nullable=False),
    Column("created_at", Moment, nullable=False, index=True),
    Column("reading_mode", String(16), nullable=False),
    Column("patient_hash", SHA256, index=True),
    Column("taken_on", Date),  # by the files; None where they do not say it, and for studies from before it was kept
    Column("is_synthetic", Boolean, nullable=False),
    # Made of a picture of a data set: in no worklist, and read in reader studies alone.
    Column("is_reader_study_case", Boolean, nullable=False, server_default=false()),
    Column("deleted_at", Moment),
    Column("deleted_by", ForeignKey("person.id")),
)

image = Table(
    "image",
    metadata,
    Column("id", ID, primary_key=True),
    Column("study_id", ForeignKey("study.id"), nullable=False),
    Column("position", Integer, nullable=False),
    Column("sha256", SHA256, nullable=False, index=True),
    Column("stored", String(80), nullable=False, index=True),  # "" once the pixels were removed
    Column("modality", String(16)),
    Column("modality_source", String(16), nullable=False),
    Column("laterality", String(1)),
    Column("view", String(8)),
    Column("spacing_row_mm", Float),
    Column("spacing_column_mm", Float),
    Column("frame", Integer, nullable=False),
    Column("n_frames", Integer, nullable=False),
    Column("meta", JSON, nullable=False),
    Column("pixels_removed_at", Moment),
    # What drift is measured on; None for images from before it was.
    Column("n_rows", Integer),
    Column("n_columns", Integer),
    Column("brightness", Float),
    UniqueConstraint("study_id", "position"),
)

# Every frame of an image that is a clip or a stack; `image.stored` is one of them.
image_frame = Table(
    "image_frame",
    metadata,
    Column("image_id", ForeignKey("image.id"), primary_key=True),
    Column("frame", Integer, primary_key=True),
    Column("stored", String(80), nullable=False, index=True),
)

intake = _numbered(
    "intake",
    Column("at", Moment, nullable=False, index=True),
    Column("n_read", Integer, nullable=False),
    Column("n_refused", Integer, nullable=False),
)

prediction = _numbered(
    "prediction",
    Column("study_id", ForeignKey("study.id"), nullable=False, index=True),
    Column("image_id", ForeignKey("image.id"), nullable=False),
    Column("model_id", String(120), nullable=False),
    Column("weights_sha256", SHA256, nullable=False),
    Column("created_at", Moment, nullable=False),
    Column("payload", JSON, nullable=False),
    Column("maps", String(80), nullable=False, index=True),
    UniqueConstraint("image_id", "model_id", "weights_sha256"),
)

# What models said that run silently: never shown to who reads, so apart from the predictions.
shadow_answer = _numbered(
    "shadow_answer",
    Column("study_id", ForeignKey("study.id"), nullable=False, index=True),
    Column("image_id", ForeignKey("image.id"), nullable=False),
    Column("model_id", String(120), nullable=False),
    Column("weights_sha256", SHA256, nullable=False),
    Column("malignant", Float, nullable=False),
    Column("threshold", Float, nullable=False),
    Column("created_at", Moment, nullable=False),
    UniqueConstraint("image_id", "model_id", "weights_sha256"),
)

read = _numbered(
    "read",
    Column("study_id", ForeignKey("study.id"), nullable=False),
    Column("person_id", ForeignKey("person.id"), nullable=False),
    Column("kind", String(8), nullable=False),
    Column("impressions", JSON, nullable=False),
    Column("comment", Text, nullable=False),
    Column("reading_mode", String(16), nullable=False),
    Column("created_at", Moment, nullable=False),
    Column("predictions_seen", JSON, nullable=False),
    Column("sentence", Text),
    Column("density", String(1)),
)
Index("ix_read_study_id_kind", read.c.study_id, read.c.kind)
Index(
    "uq_read_one_first",
    read.c.study_id,
    read.c.person_id,
    unique=True,
    sqlite_where=read.c.kind == "first",
    postgresql_where=read.c.kind == "first",
)

# What a reader marked and described on the pictures, saved with a read; removed only when the study is deleted.
finding = _numbered(
    "finding",
    Column("study_id", ForeignKey("study.id"), nullable=False, index=True),
    Column("read_id", ForeignKey("read.id"), nullable=False),
    Column("number", Integer, nullable=False),
    Column("breast", String(1), nullable=False),
    Column("type", String(40), nullable=False),
    Column("detail", JSON, nullable=False),
    Column("marks", JSON, nullable=False),
    Column("sizes", JSON, nullable=False),
    UniqueConstraint("read_id", "number"),
)

measurement = _numbered(
    "measurement",
    Column("study_id", ForeignKey("study.id"), nullable=False, index=True),
    Column("read_id", ForeignKey("read.id"), nullable=False),
    Column("number", Integer, nullable=False),
    Column("mark", JSON, nullable=False),
    Column("measured", JSON, nullable=False),
    UniqueConstraint("read_id", "number"),
)

# Where a model's heat map peaked, as it was proposed, and what the reader of that read did with it.
proposal = _numbered(
    "proposal",
    Column("study_id", ForeignKey("study.id"), nullable=False, index=True),
    Column("read_id", ForeignKey("read.id"), nullable=False),
    Column("number", Integer, nullable=False),
    Column("model_id", String(120), nullable=False, index=True),
    Column("weights_sha256", SHA256, nullable=False),
    Column("mark", JSON, nullable=False),
    Column("strength", Float, nullable=False),
    Column("level", Float, nullable=False),
    Column("answer", String(8), nullable=False),
    UniqueConstraint("read_id", "number"),
)

# What a reader filled in and did not save yet; seen by nobody else.
read_draft = Table(
    "read_draft",
    metadata,
    Column("study_id", ForeignKey("study.id"), primary_key=True),
    Column("person_id", ForeignKey("person.id"), primary_key=True),
    Column("kind", String(8), primary_key=True),
    Column("content", JSON, nullable=False),
    Column("at", Moment, nullable=False),
)

# person_id: whose study it is to read. is_double_read: two readers, blinded to each other. No row: nobody, one reader.
assignment = Table(
    "assignment",
    metadata,
    Column("study_id", ForeignKey("study.id"), primary_key=True),
    Column("person_id", ForeignKey("person.id")),
    Column("is_double_read", Boolean, nullable=False),
)

# Who has a study open to read it; renewed by the page.
reading_lease = Table(
    "reading_lease",
    metadata,
    Column("study_id", ForeignKey("study.id"), primary_key=True),
    Column("person_id", ForeignKey("person.id"), nullable=False),
    Column("begun_at", Moment, nullable=False),
    Column("lease_until", Moment, nullable=False),
)

truth = _numbered(
    "truth",
    Column("study_id", ForeignKey("study.id"), nullable=False, index=True),
    Column("breast", String(1), nullable=False),
    Column("pathology", String(40), nullable=False),
    Column("happened_on", Date, nullable=False),
    Column("source", Text, nullable=False),
    Column("person_id", ForeignKey("person.id"), nullable=False),
    Column("created_at", Moment, nullable=False),
)

audit = Table(
    "audit",
    metadata,
    # Numbered by the chain itself, without gaps: a missing number is a missing row.
    Column("id", Integer, primary_key=True, autoincrement=False),
    Column("at", Moment, nullable=False, index=True),
    # No foreign key: the trail must be readable whatever becomes of the other tables.
    Column("person_id", Integer),
    Column("action", String(60), nullable=False),
    Column("subject", String(200), nullable=False),
    Column("detail", JSON, nullable=False),
    Column("previous", SHA256, nullable=False),
    Column("mac", SHA256, nullable=False),
)
Index("ix_audit_subject_action", audit.c.subject, audit.c.action)

site = Table(
    "site",
    metadata,
    Column("key", String(60), primary_key=True),
    Column("value", Text, nullable=False),
)

data_set = Table(
    "data_set",
    metadata,
    Column("id", ID, primary_key=True),
    Column("name", String(80), nullable=False, unique=True),
    Column("modality", String(16), nullable=False),
    *_made(),
    Column("removed_at", Moment),
    Column("removed_by", ForeignKey("person.id")),
)

# A version never changes, whether a job used it or not: another split is another version.
data_set_version = _numbered(
    "data_set_version",
    Column("data_set_id", ForeignKey("data_set.id"), nullable=False),
    Column("number", Integer, nullable=False),
    Column("manifest_sha256", SHA256, nullable=False),
    Column("split", JSON, nullable=False),
    Column("counts", JSON, nullable=False),
    Column("audit", JSON, nullable=False),
    *_made(),
    UniqueConstraint("data_set_id", "number"),
)

# The row is what a job is now; `job_event` is how it came to it. Rows of all three are never deleted.
job = _numbered(
    "job",
    Column("kind", String(16), nullable=False),
    Column("version_id", ForeignKey("data_set_version.id"), nullable=False),
    Column("request", JSON, nullable=False),
    *_leased(),
    Column("memory_mib", Integer),
    Column("device", String(200)),
    Column("progress", JSON),
    *_made(),
    Column("started_at", Moment),
)

job_event = _numbered(
    "job_event",
    Column("job_id", ForeignKey("job.id"), nullable=False, index=True),
    Column("at", Moment, nullable=False),
    Column("attempt", Integer, nullable=False),
    Column("sentence", Text, nullable=False),
)

# part: "" for a plain run, else the fold it belongs to ("fold0", "all").
job_epoch = _numbered(
    "job_epoch",
    Column("job_id", ForeignKey("job.id"), nullable=False),
    Column("part", String(16), nullable=False),
    Column("epoch", Integer, nullable=False),
    Column("attempt", Integer, nullable=False),
    Column("at", Moment, nullable=False),
    Column("measures", JSON, nullable=False),
    UniqueConstraint("job_id", "part", "epoch"),
)

# What is to become a data set. The row is what it is now; its files lie in the state folder until it is over.
# closed_at: when somebody closed the message of how it ended.
data_import = _numbered(
    "data_import",
    Column("request", JSON, nullable=False),
    Column("done", Float, nullable=False),
    *_leased(),
    *_made(),
    Column("closed_at", Moment),
)

# A row is removed when its link is used, replaced or void; what happened is in the audit trail.
invitation = Table(
    "invitation",
    metadata,
    Column("token_sha256", SHA256, primary_key=True),
    Column("person_id", ForeignKey("person.id"), nullable=False, index=True),
    *_made(),
    Column("expires_at", Moment, nullable=False),
)

# Every decision about what is live, by whom and why. `live.json` is made from the last ones of each model.
release = _numbered(
    "release",
    Column("decision", String(16), nullable=False),
    Column("model_id", String(100), nullable=False, index=True),
    Column("weights_sha256", SHA256, nullable=False),
    Column("previous_sha256", SHA256),
    Column("job_id", ForeignKey("job.id")),
    Column("reason", Text, nullable=False),
    Column("passed", JSON, nullable=False),
    Column("evidence", JSON, nullable=False),
    Column("person_id", ForeignKey("person.id"), nullable=False),
    Column("created_at", Moment, nullable=False),
)

# A reader study: its protocol, which nothing changes once it is locked.
reader_study = Table(
    "reader_study",
    metadata,
    Column("id", ID, primary_key=True),
    Column("protocol", JSON, nullable=False),
    *_made(),
    Column("locked_at", Moment),
    Column("protocol_sha256", SHA256),
    Column("closed_at", Moment),
)

# When a reader opened a case; each time it is opened anew is an interruption of what began before.
reader_study_start = _numbered(
    "reader_study_start",
    Column("reader_study_id", ForeignKey("reader_study.id"), nullable=False, index=True),
    Column("person_id", ForeignKey("person.id"), nullable=False),
    Column("study_id", ForeignKey("study.id"), nullable=False),
    Column("modality", String(16), nullable=False),
    Column("started_at", Moment, nullable=False),
)

# What a reader said of one breast. answers: [model id, weights, probability] that was before him, of an aided read.
reader_study_read = _numbered(
    "reader_study_read",
    Column("reader_study_id", ForeignKey("reader_study.id"), nullable=False, index=True),
    Column("person_id", ForeignKey("person.id"), nullable=False),
    Column("study_id", ForeignKey("study.id"), nullable=False),
    Column("modality", String(16), nullable=False),
    Column("breast", String(1), nullable=False),
    Column("birads", String(2), nullable=False),
    Column("suspicion", Integer, nullable=False),
    Column("seconds", Float, nullable=False),
    Column("interruptions", Integer, nullable=False),
    Column("is_training", Boolean, nullable=False),
    Column("had_seen_answer", Boolean, nullable=False),
    Column("answers", JSON, nullable=False),
    Column("created_at", Moment, nullable=False),
    UniqueConstraint(
        "reader_study_id", "person_id", "study_id", "modality", "breast", name="uq_reader_study_read_once"
    ),
)

# An archive that studies come from and results go to. What signs in there is named, and lies outside (`credentials`).
# sends: the kinds of results that go there. removed_at: its rows stay for what came and went. watch, watch_by: rules by
# which its studies are fetched, and who answers for them; watch_state, looked_at: of the last look (keyed hashes).
# pushes, pushes_by: whether it may send studies, and who answers for these.
archive = _numbered(
    "archive",
    Column("name", String(60), nullable=False),
    Column("dicomweb_url", String(400), nullable=False),
    Column("ae_title", String(16), nullable=False),
    Column("host", String(255), nullable=False),
    Column("port", Integer),
    Column("sends", JSON, nullable=False),
    Column("sends_preliminary", JSON, nullable=False),
    Column("pushes", Boolean, nullable=False),
    Column("pushes_by", ForeignKey("person.id")),
    Column("has_tls", Boolean),
    Column("commits", Boolean),
    Column("priors", Integer),
    Column("priors_mib", Integer),
    Column("watch", JSON),
    Column("watch_by", ForeignKey("person.id")),
    Column("watch_state", JSON),
    Column("looked_at", Moment),
    *_made(),
    Column("removed_at", Moment),
)

# What a study is called where it came from, and whose it is there, sealed under the site's key. archive_id: None for an
# upload. exam_hash: keyed, finds it again.
source_identity = Table(
    "source_identity",
    metadata,
    Column("study_id", ForeignKey("study.id"), primary_key=True),
    Column("archive_id", ForeignKey("archive.id")),
    Column("exam_hash", SHA256, nullable=False, index=True),
    Column("sealed", Text, nullable=False),
)

back_read = _numbered(
    "back_read",
    Column("models", JSON, nullable=False),
    *_made(),
)

back_read_study = _numbered(
    "back_read_study",
    Column("back_read_id", ForeignKey("back_read.id"), nullable=False),
    Column("study_id", ForeignKey("study.id"), nullable=False, index=True),
    *_leased(),
    UniqueConstraint("back_read_id", "study_id"),
)

# A study that is to be fetched. The row is what it is now; sealed: what it is called in its archive, until it is here
# or nobody fetches it again. asked_by: the process that makes the study (`PROCESS_ACTIONS`). prior_of: the study whose
# patient's earlier exam this is, fetched with it. priors_due_at: when the archive is asked for earlier ones.
arrival = _numbered(
    "arrival",
    Column("archive_id", ForeignKey("archive.id"), nullable=False),
    Column("exam_hash", SHA256, nullable=False, index=True),
    Column("sealed", Text, nullable=False),
    Column("study_id", ForeignKey("study.id")),
    Column("asked_by", String(16), nullable=False),
    Column("prior_of", String(32), index=True),
    Column("priors_due_at", Moment, index=True),
    *_leased(is_due_again=True),
    *_made(),
)

# A result on its way to an archive, one for each read, kind, archive and image. image: from 1, or 0 for an object of
# the whole read. payload: the object, sealed; the same bytes whenever it is sent again. tries: how often the archive
# did not take it. commitment: None before the archive was asked to answer for it, "asked", "committed", or the reason
# of its refusal; commitment_uid: of what was asked last.
outbox = _numbered(
    "outbox",
    Column("study_id", ForeignKey("study.id"), nullable=False, index=True),
    Column("read_id", ForeignKey("read.id"), nullable=False),
    Column("archive_id", ForeignKey("archive.id"), nullable=False),
    Column("kind", String(16), nullable=False),
    Column("image", Integer, nullable=False),
    Column("sop_instance_uid", String(64), nullable=False),
    Column("payload", Text),
    Column("commitment", String(80)),
    Column("commitment_uid", String(64), index=True),
    Column("commitment_asked_at", Moment),
    *_leased(is_due_again=True),
    Column("created_at", Moment, nullable=False),
    UniqueConstraint("read_id", "kind", "archive_id", "image"),
)

# A language model that this site may ask; another address or model is another row, which nobody has permitted yet.
# permitted_*: that pictures may go there, by whom, when and why; revoked_*: that they may not any more.
language_endpoint = _numbered(
    "language_endpoint",
    Column("protocol", String(16), nullable=False),
    Column("url", String(400), nullable=False),
    Column("model", String(120), nullable=False),
    Column("permitted_by", ForeignKey("person.id")),
    Column("permitted_at", Moment),
    Column("reason", Text),
    Column("revoked_by", ForeignKey("person.id")),
    Column("revoked_at", Moment),
    *_made(),
    Column("removed_at", Moment),
)

# What it said of one outlined lesion, and before that the row of a queue. number: of the outline, from 0, the surest
# first. mark, measured: the outline, and what was measured within it (descriptor -> word). words: what the model said,
# by the lexicon alone. served_model: as the server calls it. prompt_sha256: of the question; sent_sha256: of the part
# of the picture that left, or was looked at. looked_by: who looked that no text is in it, where no file says so.
language_answer = _numbered(
    "language_answer",
    Column("endpoint_id", ForeignKey("language_endpoint.id"), nullable=False),
    Column("study_id", ForeignKey("study.id"), nullable=False, index=True),
    Column("image_id", ForeignKey("image.id"), nullable=False),
    Column("number", Integer, nullable=False),
    Column("mark", JSON),
    Column("measured", JSON),
    Column("words", JSON),
    Column("served_model", String(120)),
    Column("prompt_sha256", SHA256),
    Column("sent_sha256", SHA256),
    Column("looked_by", ForeignKey("person.id")),
    *_leased(is_due_again=True),
    Column("created_at", Moment, nullable=False),
    UniqueConstraint("image_id", "endpoint_id", "number"),
)

APPEND_ONLY = ("read", "truth", "audit", "data_set_version", "job_event", "job_epoch", "release", "reader_study_read")
"""Triggers of the migrations refuse UPDATE and DELETE on these."""
