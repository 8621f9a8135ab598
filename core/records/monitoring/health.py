"""Whether the site can work, and its numbers for a monitoring system. Nothing here names a person or a study."""

from __future__ import annotations

import logging
import shutil
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass

from sqlalchemy import func, select, text
from sqlalchemy.exc import SQLAlchemyError

from core.errors import AppError, Conflict
from core.models.cards import live_cards
from core.records.backup import copies
from core.records.database import tables
from core.records.database.db import Database
from core.records.database.tables import now
from core.records.queue import QUEUED
from core.settings import MIB
from core.version import versions

log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class Part:
    """One thing that must work. problem: a sentence, "" when it works."""

    name: str
    problem: str

    @property
    def is_ready(self) -> bool:
        return not self.problem


def readiness(db: Database) -> tuple[Part, ...]:
    """Database, store, disk and models, each looked at now."""
    checks: tuple[tuple[str, Callable[[Database], str]], ...] = (
        ("database", _database), ("store", _store), ("disk", _disk), ("models", _models),
    )  # fmt: skip
    return tuple(Part(name, check(db)) for name, check in checks)


def _database(db: Database) -> str:
    try:
        with db.read() as connection:
            connection.execute(text("SELECT 1"))
    except Conflict as refused:
        return str(refused)
    except SQLAlchemyError as error:
        log.warning("The database does not answer: %s", type(error).__name__)
        return "The database does not answer."
    return ""


def _store(db: Database) -> str:
    """The folder may have been moved, its disk unmounted, or the bucket be away, under the running server."""
    if not (db.settings.state_dir / "site.key").is_file():
        return "The state folder is not where it was."
    return db.store.blobs.problem()


def _disk(db: Database) -> str:
    try:
        free = shutil.disk_usage(db.settings.state_dir).free
    except OSError:
        return "The disk of the state folder does not answer."
    least = db.settings.upload_mib * MIB
    return (
        "" if free >= least else f"Less than {db.settings.upload_mib} MiB are free: the largest upload would not fit."
    )


def _models(db: Database) -> str:
    try:
        return "" if live_cards(db.settings) else "No model can answer: none is live with its weights here."
    except AppError:
        return "The list of live models cannot be read."


@dataclass(frozen=True, slots=True)
class Metric:
    """One number of the exposition. kind: "gauge" or "counter". labels: in the order they are printed."""

    name: str
    kind: str
    sentence: str
    value: float
    labels: tuple[tuple[str, str], ...] = ()


def metrics(db: Database) -> Iterator[Metric]:
    """Version, queues, reads, refusals, scheduled backups and disk, as they are now."""
    yield Metric("build_info", "gauge", "The version that runs.", 1, tuple(versions().items()))
    with db.read() as connection:
        queues = (("trainings", tables.job), ("imports", tables.data_import))
        waiting = {
            name: connection.execute(
                select(func.count(), func.min(table.c.created_at)).where(table.c.state == QUEUED)
            ).one()
            for name, table in queues
        }
        reads = connection.execute(select(tables.read.c.kind, func.count()).group_by(tables.read.c.kind)).all()
        n_files = connection.execute(select(func.sum(tables.intake.c.n_refused))).scalar_one() or 0
        refused = tables.audit.c.action == "sign-in refused"
        n_sign_ins = connection.execute(select(func.count()).select_from(tables.audit).where(refused)).scalar_one()
    for name, (length, _) in waiting.items():
        yield Metric("queue_length", "gauge", "Jobs that wait for a worker.", length, (("queue", name),))
    for name, (_, oldest) in waiting.items():
        age = max(0.0, (now() - oldest).total_seconds()) if oldest is not None else 0.0
        yield Metric("queue_oldest_seconds", "gauge", "How long the oldest of them waits.", age, (("queue", name),))
    n_reads = {"first": 0, "final": 0} | {row[0]: row[1] for row in reads}
    for kind, count in n_reads.items():
        yield Metric("reads_total", "counter", "Reads that were saved.", count, (("kind", kind),))
    for what, count in (("files", n_files), ("sign_ins", n_sign_ins)):
        yield Metric("refusals_total", "counter", "Files and sign-ins that were refused.", count, (("what", what),))
    yield from _of_backups(db)
    try:
        yield Metric("free_disk_bytes", "gauge", "Free on the disk of the state folder.",
                     shutil.disk_usage(db.settings.state_dir).free)  # fmt: skip
    except OSError:
        log.warning("The disk of the state folder does not answer")


def _of_backups(db: Database) -> Iterator[Metric]:
    """Nothing where the site has no schedule."""
    age = "Since the last backup that the schedule made."
    overdue = "Whether a scheduled backup is late, none was made yet, or their folder cannot be read."
    try:
        found = copies.schedule(db)
    except Conflict as refused:
        log.warning("%s", refused)
        yield Metric("backup_overdue", "gauge", overdue, 1)
        return
    if found.last_at is not None:
        yield Metric("backup_age_seconds", "gauge", age, max(0.0, (now() - found.last_at).total_seconds()))
    if found.days:
        yield Metric("backup_overdue", "gauge", overdue, found.is_overdue)


def exposition(found: Iterable[Metric]) -> str:
    """Prometheus' text format 0.0.4: https://prometheus.io/docs/instrumenting/exposition_formats/"""
    lines: list[str] = []
    headed: set[str] = set()
    for metric in found:
        name = f"secondread_{metric.name}"
        if name not in headed:
            headed.add(name)
            lines += [f"# HELP {name} {metric.sentence}", f"# TYPE {name} {metric.kind}"]
        labels = ",".join(f'{key}="{_escaped(value)}"' for key, value in metric.labels)
        lines.append(f"{name}{{{labels}}} {metric.value:.15g}" if labels else f"{name} {metric.value:.15g}")
    return "\n".join(lines) + "\n"


def _escaped(value: str) -> str:
    return value.replace("\\", "\\\\").replace("\n", "\\n").replace('"', '\\"')
