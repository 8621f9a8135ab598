"""Where content lies: a folder or a bucket, the same promises; what is damaged or away is said."""

from __future__ import annotations

import hashlib
import os
import signal
import sqlite3
import sys
import time
from collections.abc import Iterator
from contextlib import closing
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from bucket import KEYS, Bucket, served_bucket
from record_site import add_person, picture, remove_by_policy

from core.__main__ import main
from core.errors import Conflict, InvalidSettings, NotFound
from core.records.audit import heads
from core.records.backup import site_backup
from core.records.database import blobs as blobs_module
from core.records.database import image_store
from core.records.database.blobs import BucketBlobs, Cache, FolderBlobs, blobs_of
from core.records.database.db import open_database
from core.records.database.image_store import pixels_blob
from core.records.monitoring import health
from core.records.people.permissions import LocalTerminal
from core.records.reads.studies import create_study, delete_study, load_study
from core.settings import Settings


@pytest.fixture(scope="module")
def service() -> Iterator[Bucket]:
    pytest.importorskip("s3fs", reason="requirements-cluster.txt is not installed")
    pytest.importorskip("moto", reason="moto is not installed")
    with served_bucket() as bucket:
        yield bucket


@pytest.fixture
def bucket(service: Bucket, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Settings:
    """Settings of a site whose content lies in the bucket, below a prefix of its own."""
    for name, value in KEYS.items():
        monkeypatch.setenv(name, value)
    url = f"{service.url}/{hashlib.sha256(str(tmp_path).encode()).hexdigest()[:8]}"
    return Settings(state_dir=tmp_path / "one", store_url=url, store_endpoint=service.endpoint)


def key_of(content: bytes, kind: str = "png") -> str:
    return f"{hashlib.sha256(content).hexdigest()}.{kind}"


def object_of(settings: Settings, key: str) -> tuple[Any, str]:
    """The client behind the store, and where it puts the content of a key."""
    store = blobs_of(settings)
    assert isinstance(store, BucketBlobs)
    return store._files, store._address(key)


def test_a_folder_has_the_layout_of_sites_that_were_there_before(tmp_path: Path) -> None:
    store, key = blobs_of(Settings(state_dir=tmp_path)), key_of(b"one")
    store.put(key, b"one")
    assert (tmp_path / "store" / key[:2] / key).read_bytes() == b"one"
    assert store.get(key) == b"one" and store.keys() == [key]


def test_what_one_machine_puts_into_the_bucket_the_other_reads(bucket: Settings, tmp_path: Path) -> None:
    one, other = blobs_of(bucket), blobs_of(replace(bucket, state_dir=tmp_path / "other"))
    key = key_of(b"content")
    assert not other.has(key)
    one.put(key, b"content")
    assert other.has(key) and other.get(key) == b"content" and other.keys() == [key]
    assert other.keys(older_than_seconds=60) == []
    one.remove(key)
    assert not other.has(key) and not other.keys()
    with pytest.raises(NotFound, match="missing"):
        one.get(key)


def test_what_was_changed_in_the_bucket_is_refused_and_not_copied(bucket: Settings, tmp_path: Path) -> None:
    key = key_of(b"content")
    blobs_of(bucket).put(key, b"content")
    files, address = object_of(bucket, key)
    files.pipe_file(address, b"another")
    other = replace(bucket, state_dir=tmp_path / "other")
    with pytest.raises(NotFound, match="damaged"):
        blobs_of(other).get(key)
    assert not list((other.state_dir / "cache").rglob("*.png"))


def test_a_copy_is_read_without_the_bucket_and_a_damaged_copy_is_fetched_anew(bucket: Settings) -> None:
    store, key = blobs_of(bucket), key_of(b"content")
    store.put(key, b"content")
    copy = bucket.state_dir / "cache" / key[:2] / key
    copy.write_bytes(b"torn")
    assert store.get(key) == b"content" and copy.read_bytes() == b"content"
    files, address = object_of(bucket, key)
    files.rm_file(address)
    assert store.get(key) == b"content"


def test_copies_stay_within_their_bytes_and_the_last_read_ones_stay(tmp_path: Path) -> None:
    cache, contents = Cache(tmp_path, 8000), [bytes([number]) * 1000 for number in range(20)]
    for number, content in enumerate(contents):
        cache.put(key_of(content), content)
        path = tmp_path / key_of(content)[:2] / key_of(content)
        if path.exists():
            os.utime(path, (number, number))
        cache.get(key_of(contents[0]))  # is read all the time
    held = [number for number, content in enumerate(contents) if cache.get(key_of(content)) is not None]
    assert held[0] == 0 and held[-1] == 19 and len(held) <= 8
    cache.put(key_of(b"x" * 8001), b"x" * 8001)
    assert cache.get(key_of(b"x" * 8001)) is None


def test_a_copy_that_nobody_reads_for_a_week_goes(tmp_path: Path) -> None:
    cache = Cache(tmp_path, 8000)
    for content, days in ((b"old", blobs_module.CACHE_DAYS + 0.1), (b"new", blobs_module.CACHE_DAYS - 0.1)):
        cache.put(key_of(content), content)
        at = time.time() - days * 24 * 3600
        os.utime(tmp_path / key_of(content)[:2] / key_of(content), (at, at))
    assert cache.forget_old() == 1
    assert cache.get(key_of(b"old")) is None and cache.get(key_of(b"new")) == b"new"


def test_a_site_that_gets_a_bucket_loses_nothing_it_had_in_its_folder(bucket: Settings) -> None:
    before, key = FolderBlobs(bucket.state_dir / "store"), key_of(b"from before")
    before.put(key, b"from before")
    store = blobs_of(bucket)
    assert isinstance(store, BucketBlobs)
    assert store.has(key) and store.get(key) == b"from before" and store.keys() == [key]
    assert store.take_in() == 1 and store.take_in() == 1
    before.remove(key)
    assert store.get(key) == b"from before"
    before.put(key_of(b"bad"), b"worse")
    with pytest.raises(NotFound, match="damaged"):
        store.take_in()


def test_a_study_lies_in_the_bucket_is_read_on_another_machine_backed_up_and_deleted(
    bucket: Settings, tmp_path: Path
) -> None:
    db = open_database(bucket)
    ann = add_person(db, "Ann", "radiologist", "administrator")
    study_id = create_study(db, ann, display_name="x", images=[picture()])
    key = pixels_blob(picture().pixels).key
    assert not (bucket.state_dir / "store" / key[:2]).exists() and db.store.blobs.keys() == [key]

    site_backup.back_up(db, tmp_path / "backup.tar")
    assert f"store/{key[:2]}/{key}" in site_backup.names_in(tmp_path / "backup.tar")
    restored = replace(bucket, state_dir=tmp_path / "restored", store_url="", store_endpoint="")
    site_backup.restore(restored, tmp_path / "backup.tar")
    assert FolderBlobs(restored.state_dir / "store").keys() == [key]

    assert load_study(db, ann, study_id).images[0].image.pixels.shape == picture().pixels.shape
    delete_study(db, ann, study_id, reason="wrong upload")
    assert db.store.blobs.keys() == []
    db.close()


def test_a_restored_copy_takes_no_picture_from_the_bucket_and_gets_a_place_of_its_own(
    bucket: Settings, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(image_store, "_ORPHAN_SECONDS", 0)
    db = open_database(bucket)
    ann = add_person(db, "Ann", "radiologist")
    first = create_study(db, ann, display_name="before the backup", images=[picture()])
    site_backup.back_up(db, tmp_path / "backup.tar")
    create_study(db, ann, display_name="after it", images=[picture(1)])
    before = db.store.blobs.keys()
    assert len(before) == 2
    copy = replace(bucket, state_dir=tmp_path / "copy")
    site_backup.restore(copy, tmp_path / "backup.tar")
    with closing(sqlite3.connect(copy.state_dir / "secondread.sqlite3")) as rows:
        rows.execute("DELETE FROM site WHERE key = 'store_swept'")  # the day after
        rows.commit()
    with pytest.raises(InvalidSettings, match=r"restored from a backup.*store take-in"):
        open_database(copy).close()
    assert db.store.blobs.keys() == before
    assert take_in(copy, monkeypatch) == 1 and db.store.blobs.keys() == before, "the live site's prefix is not empty"

    own = replace(copy, store_url=f"{copy.store_url}-restored")
    with pytest.raises(InvalidSettings):
        open_database(own).close()
    with monkeypatch.context() as patched:
        patched.setattr(BucketBlobs, "take_in", ended)
        with pytest.raises(KeyboardInterrupt):
            take_in(own, monkeypatch)
    assert take_in(copy, monkeypatch) == 1, "another than the one it began with"
    blobs_of(own).put(key_of(b"half done"), b"half done")
    assert take_in(own, monkeypatch) == 0, "goes on with what it began"
    again = open_database(own)
    assert load_study(again, LocalTerminal(ann.id), first).images[0].image.pixels.shape == picture().pixels.shape
    again.close()
    assert db.store.blobs.keys() == before
    db.close()


def ended(*_: object) -> int:
    raise KeyboardInterrupt


def take_in(settings: Settings, monkeypatch: pytest.MonkeyPatch) -> int:
    """Status of `python -m core store take-in`."""
    monkeypatch.setattr(Settings, "from_environment", lambda *_: settings)
    return main(["store", "take-in"])


def test_a_site_with_a_bucket_is_backed_up_after_its_policy_removed_a_picture(
    bucket: Settings, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    db = open_database(bucket)
    ann = add_person(db, "Ann", "radiologist", "administrator")
    remove_by_policy(db, ann, create_study(db, ann, display_name="x", images=[picture()]), monkeypatch)
    heads.write_head(db)
    told: list[str] = []
    site_backup.back_up(db, tmp_path / "backup.tar", told.append)
    assert told == [] and not any(name.startswith("store/") for name in site_backup.names_in(tmp_path / "backup.tar"))
    db.close()


def test_a_bucket_that_is_away_is_said_and_nothing_is_saved(
    service: Bucket, bucket: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(blobs_module, "_CONNECT_SECONDS", 1)
    monkeypatch.setattr(blobs_module, "_READ_SECONDS", 1)
    monkeypatch.setattr(blobs_module, "_TRIES", 1)
    db = open_database(bucket)
    ann = add_person(db, "Ann", "radiologist")
    assert not {part.name: part.problem for part in health.readiness(db)}["store"]
    os.kill(service.process.pid, signal.SIGSTOP)
    try:
        with pytest.raises(Conflict, match="bucket"):
            create_study(db, ann, display_name="x", images=[picture()])
        assert "bucket" in {part.name: part.problem for part in health.readiness(db)}["store"]
    finally:
        os.kill(service.process.pid, signal.SIGCONT)
    assert create_study(db, ann, display_name="x", images=[picture()])
    db.close()


def test_wrong_keys_and_a_bucket_that_is_not_there_are_said(bucket: Settings, service: Bucket) -> None:
    absent = replace(bucket, store_url="s3://nobody-made-this-one")
    with pytest.raises(Conflict, match="bucket"):
        blobs_of(absent).put(key_of(b"x"), b"x")


def test_a_bucket_without_its_library_is_said_at_the_start(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "s3fs", None)
    with pytest.raises(InvalidSettings, match="requirements-cluster"):
        open_database(Settings(state_dir=tmp_path, store_url="s3://pictures"))


@pytest.mark.parametrize("url", ["http://x", "s3://", "s3://UPPER", "s3://a b", "s3://ab"])
def test_what_is_no_bucket_is_refused(url: str) -> None:
    with pytest.raises(InvalidSettings, match="s3://bucket/prefix"):
        Settings(store_url=url)
