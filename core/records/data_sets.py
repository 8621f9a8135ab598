"""Data sets for training: pictures kept once by content, and versions whose cases and split never change.

`state_dir/data_sets/files/<ab>/<sha256>.<kind>` holds the pictures, `state_dir/data_sets/manifests/<sha256>.csv` the
cases of each version, with `file` relative to the first folder. Names of files and patients are not among them:
whoever makes a manifest (`train.datasets.ingest`) writes hashes in their place.
"""

from __future__ import annotations

import csv
import hashlib
import io
import os
import re
import time
import unicodedata
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Any
from uuid import uuid4

from sqlalchemy import Connection, Row, Select, func, insert, select, update

from core.errors import Conflict, InvalidInput, NotFound
from core.files import write_whole
from core.records.audit import trail
from core.records.database import tables
from core.records.database.db import Database
from core.records.database.locks import AdvisoryLock, hold
from core.records.people.permissions import Actor, Person, acting
from core.settings import Settings
from core.types import Modality

NAME_LENGTH_MOST = 60
_KIND = re.compile(r"[a-z0-9]{1,8}")
_ORPHAN_SECONDS = 24 * 3600
_FULL = "There is no space left for pictures in the state folder. Nothing was added; make room first."


@dataclass(frozen=True, slots=True)
class VersionRow:
    """One version of a data set. split: how it was made (kind, seed). counts: split -> label -> cases. audit: what
    `train.datasets.leakage` found, as JSON. n_jobs: trainings that used it."""

    id: int
    data_set_id: str
    name: str
    modality: str
    number: int
    manifest_sha256: str
    split: Mapping[str, Any]
    counts: Mapping[str, Mapping[str, int]]
    audit: Mapping[str, Any]
    created_at: datetime
    removed_at: datetime | None
    n_jobs: int

    @property
    def n_cases(self) -> int:
        return sum(sum(labels.values()) for labels in self.counts.values())

    @property
    def folds(self) -> int:
        """How many folds this version is in; 0 for a split into train, validation and test."""
        return int(self.split.get("folds", 0))

    @property
    def n_training(self) -> int:
        """Cases that one run trains on: in folds, all but the tested and the validating part."""
        if self.folds:
            return round(self.n_cases * (self.folds - 2) / self.folds)
        return sum(self.counts.get("train", {}).values())

    @property
    def is_leaking(self) -> bool:
        return bool(self.audit.get("leaking"))


def files_dir(settings: Settings) -> Path:
    """The folder that `file` and `mask` of every version's manifest are relative to."""
    return settings.state_dir / "data_sets" / "files"


def manifest_path(settings: Settings, manifest_sha256: str) -> Path:
    return settings.state_dir / "data_sets" / "manifests" / f"{manifest_sha256}.csv"


def pairs_path(settings: Settings, manifest_sha256: str) -> Path:
    """Where the near-duplicates among the cases of a version are listed; the list can be made again from the files."""
    return settings.state_dir / "data_sets" / "pairs" / f"{manifest_sha256}.csv"


def store_file(settings: Settings, content: bytes, kind: str) -> str:
    """Keep a picture once, whole or not at all; what a manifest calls it. kind: "png". Raises Conflict (disk full)."""
    if not _KIND.fullmatch(kind):
        raise ValueError(f"{kind!r} is not a kind of file")
    sha256 = hashlib.sha256(content).hexdigest()
    name = f"{sha256[:2]}/{sha256}.{kind}"
    path = files_dir(settings) / name
    if path.is_file():
        os.utime(path)  # young again: `sweep` leaves it to whoever is about to name it
    write_once(path, content)
    return name


def require_free_name(db: Database, actor: Actor, name: str) -> str:
    """The name as it would be kept, asked before a long import. Raises NotAllowed, InvalidInput, Conflict."""
    with acting(db.read(), actor, "manage_data") as (connection, _):
        name = _tidy(name)
        _require_free(connection, name)
    return name


def create_data_set(
    db: Database,
    actor: Actor,
    *,
    name: str,
    modality: Modality,
    manifest: bytes,
    split: Mapping[str, Any],
    counts: Mapping[str, Mapping[str, int]],
    found: Mapping[str, Any],
    origin: str = "",
) -> int:
    """A new data set and its version 1; the version's id. manifest: CSV whose files were kept with `store_file`.

    found: the audit of the cases. origin: where they come from, for the trail. Raises NotAllowed, InvalidInput,
    Conflict.
    """
    data_set_id = uuid4().hex
    with acting(db.begin(), actor, "manage_data") as (connection, person):
        name = _tidy(name)
        hold(connection, AdvisoryLock.DATA_SETS)
        _require_free(connection, name)
        values = {"id": data_set_id, "name": name, "modality": modality.value, "created_by": person.id}
        connection.execute(insert(tables.data_set).values(**values, created_at=tables.now()))
        version_id = _add(connection, db.settings, person, data_set_id, 1, manifest, split, counts, found)
        trail.record(
            connection, person.id, "add data set", f"data set {data_set_id}", origin=origin,
            version=version_id, manifest_sha256=hashlib.sha256(manifest).hexdigest(), leaking=found.get("leaking"),
        )  # fmt: skip
    return version_id


def add_version(
    db: Database,
    actor: Actor,
    data_set_id: str,
    *,
    manifest: bytes,
    split: Mapping[str, Any],
    counts: Mapping[str, Mapping[str, int]],
    found: Mapping[str, Any],
) -> int:
    """One more version, after the last; its id. Raises NotAllowed, NotFound, InvalidInput, Conflict."""
    version = tables.data_set_version
    with acting(db.begin(), actor, "manage_data") as (connection, person):
        hold(connection, AdvisoryLock.DATA_SETS)
        _find_data_set(connection, data_set_id)
        last = connection.execute(
            select(func.max(version.c.number)).where(version.c.data_set_id == data_set_id)
        ).scalar_one()
        version_id = _add(connection, db.settings, person, data_set_id, last + 1, manifest, split, counts, found)
        trail.record(
            connection, person.id, "add data set version", f"data set {data_set_id}",
            version=version_id, manifest_sha256=hashlib.sha256(manifest).hexdigest(), leaking=found.get("leaking"),
        )  # fmt: skip
    return version_id


def remove_data_set(db: Database, actor: Actor, data_set_id: str) -> None:
    """Remove a data set that no release refers to, with the pictures that no other one has.

    The trainings on it stay as rows; their candidates cannot be released any more. Raises NotAllowed, NotFound,
    Conflict (a release, or a training that is not over, uses it).
    """
    with acting(db.begin(), actor, "manage_data") as (connection, person):
        hold(connection, AdvisoryLock.DATA_SETS)
        data_set = _find_data_set(connection, data_set_id)
        _require_unused(connection, data_set_id, data_set.name)
        # The name becomes free again.
        gone = {"removed_at": tables.now(), "removed_by": person.id, "name": f"{data_set.name} {data_set_id[:12]}"}
        connection.execute(update(tables.data_set).where(tables.data_set.c.id == data_set_id).values(**gone))
        trail.record(connection, person.id, "remove data set", f"data set {data_set_id}")
    _delete_data_set_files(db, data_set_id)


def list_versions(db: Database, actor: Actor) -> list[VersionRow]:
    """Every version of every data set that was not removed, by name, the newest version first. Raises NotAllowed."""
    with acting(db.read(), actor, "manage_data") as (connection, _):
        return _versions(connection, tables.data_set.c.removed_at.is_(None))


def list_checked(db: Database, actor: Actor) -> list[VersionRow]:
    """As `list_versions`, for whoever judges numbers instead of data sets. Raises NotAllowed."""
    with acting(db.read(), actor, "check_leaks") as (connection, _):
        return _versions(connection, tables.data_set.c.removed_at.is_(None))


def load_version(db: Database, actor: Actor, version_id: int) -> VersionRow:
    """Raises NotAllowed, NotFound."""
    with acting(db.read(), actor, "manage_data") as (connection, _):
        return find_version(connection, version_id)


def find_version(connection: Connection, version_id: int) -> VersionRow:
    """A version in the caller's transaction, removed or not. Raises NotFound."""
    found = _versions(connection, tables.data_set_version.c.id == version_id)
    if not found:
        raise NotFound("There is no such version of a data set.")
    return found[0]


def checked_manifest(settings: Settings, manifest_sha256: str) -> Path:
    """The manifest of a version, still as it was written. Raises NotFound."""
    path = manifest_path(settings, manifest_sha256)
    if not path.is_file() or hashlib.sha256(path.read_bytes()).hexdigest() != manifest_sha256:
        raise NotFound("The list of cases of this data set is missing or damaged. Restore the state folder.")
    return path


def files_of(manifest: bytes) -> set[str]:
    """Every picture and mask that a manifest names."""
    rows = csv.DictReader(io.StringIO(manifest.decode("utf-8")))
    return {name for row in rows for name in (row["file"], *(row.get("mask") or "").split("|")) if name}


def _add(
    connection: Connection,
    settings: Settings,
    person: Person,
    data_set_id: str,
    number: int,
    manifest: bytes,
    split: Mapping[str, Any],
    counts: Mapping[str, Mapping[str, int]],
    found: Mapping[str, Any],
) -> int:
    folder = files_dir(settings)
    missing = sum(not (folder / name).is_file() for name in files_of(manifest))
    if missing:
        raise InvalidInput(f"{missing} pictures of this data set are not there any more. Add it once more.")
    sha256 = hashlib.sha256(manifest).hexdigest()
    write_once(manifest_path(settings, sha256), manifest)
    values = {"data_set_id": data_set_id, "number": number, "manifest_sha256": sha256, "split": dict(split)}
    values |= {"counts": {name: dict(labels) for name, labels in counts.items()}, "audit": dict(found)}
    values |= {"created_by": person.id, "created_at": tables.now()}
    version = tables.data_set_version
    return int(connection.execute(insert(version).values(**values).returning(version.c.id)).scalar_one())


def _versions(connection: Connection, *conditions: Any) -> list[VersionRow]:
    query = _query().where(*conditions)
    fields = VersionRow.__dataclass_fields__
    return [VersionRow(**{name: row[name] for name in fields}) for row in connection.execute(query).mappings()]


def _query() -> Select[Any]:
    version, data_set, job = tables.data_set_version, tables.data_set, tables.job
    n_jobs = select(func.count()).where(job.c.version_id == version.c.id).scalar_subquery().label("n_jobs")
    return (
        select(version, data_set.c.name, data_set.c.modality, data_set.c.removed_at, n_jobs)
        .join_from(version, data_set, version.c.data_set_id == data_set.c.id)
        .order_by(data_set.c.name, version.c.number.desc())
    )


def _require_unused(connection: Connection, data_set_id: str, name: str) -> None:
    """No release, now or ever, and no training that is not over, came from any of its versions."""
    job, version, release = tables.job, tables.data_set_version, tables.release
    trained = select(job.c.id).join(version).where(version.c.data_set_id == data_set_id)
    results = connection.execute(select(job.c.result).where(job.c.id.in_(trained))).scalars()
    weights = [result["weights_sha256"] for result in results if result and "weights_sha256" in result]
    # An outline network that an earlier version released is a row without the number of its training.
    came_from = release.c.job_id.in_(trained) | release.c.weights_sha256.in_(weights)
    released = select(release.c.model_id).where(came_from).order_by(release.c.id)
    models = list(dict.fromkeys(connection.execute(released).scalars()))
    if models:
        raise Conflict(
            f"{', '.join(models)} was released from a training on {name!r}, so the data set stays: it is the evidence."
        )
    open_jobs = connection.execute(trained.where(job.c.state.in_(("queued", "running")))).scalars().all()
    if open_jobs:
        raise Conflict(f"Training {open_jobs[0]} on {name!r} is not over. Cancel it, or wait for its end.")


def _require_free(connection: Connection, name: str) -> None:
    if connection.execute(select(tables.data_set.c.id).where(tables.data_set.c.name == name)).first():
        raise Conflict(f"There is a data set called {name!r} already. Choose another name.")


def _find_data_set(connection: Connection, data_set_id: str) -> Row[Any]:
    table = tables.data_set
    query = select(table).where(table.c.id == data_set_id, table.c.removed_at.is_(None)).with_for_update()
    found = connection.execute(query).one_or_none()
    if found is None:
        raise NotFound("There is no such data set (any more).")
    return found


def delete_unused(db: Database, names: Iterable[str], manifests: Iterable[str] = ()) -> None:
    """Remove those of these pictures and manifests that no data set names, while nobody can add another one."""
    with db.begin() as connection:
        hold(connection, AdvisoryLock.DATA_SETS)
        retained = {row.manifest_sha256 for row in _versions(connection, tables.data_set.c.removed_at.is_(None))}
        for name in set(names) - _named(db.settings, retained):
            (files_dir(db.settings) / name).unlink(missing_ok=True)
        for sha256 in set(manifests) - retained:
            manifest_path(db.settings, sha256).unlink(missing_ok=True)
            pairs_path(db.settings, sha256).unlink(missing_ok=True)


def sweep(db: Database) -> None:
    """Remove what an import that was killed left behind a day ago or earlier."""
    before = time.time() - _ORPHAN_SECONDS
    folder = files_dir(db.settings)
    old = {f"{path.parent.name}/{path.name}" for path in folder.glob("??/*") if path.stat().st_mtime < before}
    manifests = {path.stem for path in (db.settings.state_dir / "data_sets" / "manifests").glob("*.csv")}
    delete_unused(db, old, manifests)


def _delete_data_set_files(db: Database, data_set_id: str) -> None:
    """Remove what only this data set had."""
    with db.read() as connection:
        own = {row.manifest_sha256 for row in _versions(connection, tables.data_set.c.id == data_set_id)}
    delete_unused(db, _named(db.settings, own), own)


def _named(settings: Settings, manifests: Iterable[str]) -> set[str]:
    paths = [manifest_path(settings, sha256) for sha256 in manifests]
    return set().union(*(files_of(path.read_bytes()) for path in paths if path.is_file()))


def write_once(path: Path, content: bytes) -> None:
    """A file below the state folder, whole or not at all; one that is there stays. Raises Conflict (disk full)."""
    if path.is_file():
        return
    path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
    write_whole(path, content, full=_FULL)


def _tidy(name: str) -> str:
    name = " ".join("".join(c for c in name if unicodedata.category(c)[0] != "C" or c == " ").split())
    if not name or len(name) > NAME_LENGTH_MOST:
        raise InvalidInput(f"A data set needs a name of at most {NAME_LENGTH_MOST} letters.")
    return name
