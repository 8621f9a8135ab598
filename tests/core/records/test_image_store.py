"""The image store: nothing is lost, nothing is half there, nothing stays that nothing refers to."""

from __future__ import annotations

import errno
import os
import time
from pathlib import Path

import numpy as np
import pytest
from record_site import add_person, explanation, picture, sqlite_only, stored_files

from core.errors import Conflict, NotFound
from core.records.database import image_store
from core.records.database.blobs import FolderBlobs
from core.records.database.db import Database
from core.records.database.image_store import ImageStore, maps_blob, pixels_blob
from core.records.people.permissions import Person
from core.records.reads.studies import create_study, delete_study, list_studies, load_study


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return tmp_path / "store"


@pytest.fixture
def ann(records: Database) -> Person:
    return add_person(records, "Ann", "radiologist")


def test_grey_pixels_come_back_within_one_part_in_65535(folder: Path) -> None:
    pixels = np.random.default_rng(1).random((37, 53)).astype(np.float32)
    pixels[0, :2] = 0, 1
    images = ImageStore(FolderBlobs(folder))
    blob = pixels_blob(pixels)
    images.put(blob)

    retained = images.pixels(blob.key)

    assert retained.dtype == np.float32 and retained.shape == pixels.shape
    assert np.abs(retained.astype(np.float64) - pixels).max() <= 1 / 65535
    assert retained[0, 0] == 0 and retained[0, 1] == 1


@pytest.mark.parametrize("shape", [(16, 16), (16, 16, 3)])
def test_eight_bit_pixels_come_back_exactly(folder: Path, shape: tuple[int, ...]) -> None:
    whole = np.resize(np.arange(256, dtype=np.uint8), shape)
    images = ImageStore(FolderBlobs(folder))
    blob = pixels_blob(whole.astype(np.float32) / np.float32(255))
    images.put(blob)

    assert np.array_equal(np.rint(images.pixels(blob.key) * 255).astype(np.uint8), whole)
    assert np.array_equal(images.pixels(blob.key), whole.astype(np.float32) / np.float32(255))


def test_maps_come_back_however_large_or_small_their_values_are(folder: Path) -> None:
    maps = {"fused": np.random.default_rng(2).random((3, 7, 5)).astype(np.float32) * 1e7, "vgg16": np.zeros((3, 2, 2))}
    maps["fused"][1] *= 1e-16
    maps["fused"][2] = 0
    images = ImageStore(FolderBlobs(folder))
    blob = maps_blob(maps)
    images.put(blob)

    retained = images.maps(blob.key)

    assert sorted(retained) == ["fused", "vgg16"] and retained["fused"].dtype == np.float32
    for index in range(3):
        scale = maps["fused"][index].max()
        assert np.abs(retained["fused"][index] - maps["fused"][index]).max() <= 0.0005 * scale
    assert not retained["vgg16"].any()


def test_the_same_content_has_one_key_and_one_file(folder: Path) -> None:
    images = ImageStore(FolderBlobs(folder))
    for _ in range(2):
        images.put(pixels_blob(picture(3).pixels))
        images.put(maps_blob(explanation().maps))

    assert len(images.blobs.keys()) == 2


def test_pixels_in_memory_cannot_be_written_to(folder: Path) -> None:
    images = ImageStore(FolderBlobs(folder))
    blob = pixels_blob(picture().pixels)
    images.put(blob)

    with pytest.raises(ValueError, match="read-only"):
        images.pixels(blob.key)[0, 0] = 0.5


def test_remembered_pixels_stay_within_the_memory_they_may_take(folder: Path) -> None:
    images = ImageStore(FolderBlobs(folder), memory_mib=1)
    keys = []
    for shade in range(4):
        blob = pixels_blob(np.full((400, 400), shade / 4, np.float32))  # 0.6 MiB each
        images.put(blob)
        keys.append(blob.key)
        images.pixels(blob.key)

    assert list(images._decoded) == keys[-1:]
    assert images.pixels(keys[0]).max() == 0


def test_a_damaged_or_missing_file_is_said_so_and_never_shown(folder: Path) -> None:
    images = ImageStore(FolderBlobs(folder))
    blob, other = pixels_blob(picture(1).pixels), pixels_blob(picture(2).pixels)
    images.put(blob)
    path = folder / blob.key[:2] / blob.key
    path.write_bytes(other.content)

    with pytest.raises(NotFound, match="damaged"):
        images.pixels(blob.key)
    with pytest.raises(NotFound, match="missing"):
        images.pixels(other.key)


@pytest.mark.parametrize("key", ["../../etc/passwd", "site.key", "", "A" * 64 + ".png", "0" * 64 + ".png/../x"])
def test_only_a_key_of_the_store_opens_a_file(folder: Path, key: str) -> None:
    with pytest.raises(ValueError, match="not a key"):
        ImageStore(FolderBlobs(folder)).pixels(key)


def test_a_disk_that_is_full_is_a_sentence_and_leaves_no_half_file(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(_descriptor: int) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    images = ImageStore(FolderBlobs(folder))
    monkeypatch.setattr(os, "fsync", full)

    with pytest.raises(Conflict, match="no space left"):
        images.put(pixels_blob(picture().pixels))
    assert [path for path in folder.rglob("*") if path.is_file()] == []


def test_what_a_row_refers_to_is_never_released(records: Database) -> None:
    reader = add_person(records, "Reader", "radiologist")
    create_study(records, reader, display_name="x", images=[picture(1)])
    used, unused = pixels_blob(picture(1).pixels), pixels_blob(picture(2).pixels)
    records.store.put(unused)

    with records.begin() as connection:
        image_store.delete_unused(connection, records.store, [used.key, unused.key])

    assert records.store.blobs.keys() == [used.key]


def test_a_sweep_removes_old_files_that_nothing_refers_to_and_only_those(records: Database) -> None:
    reader = add_person(records, "Reader", "radiologist")
    study_id = create_study(records, reader, display_name="x", images=[picture(1)])
    old, new = pixels_blob(picture(2).pixels), pixels_blob(picture(3).pixels)
    records.store.put(old)
    records.store.put(new)
    two_days_ago = time.time() - 2 * 24 * 3600
    for path in [*records.store.blobs.folder.glob("??/*")]:
        if path.name != new.key:
            os.utime(path, (two_days_ago, two_days_ago))

    with records.begin() as connection:
        assert image_store.sweep(connection, records.store, image_store.old_keys(records.store)) == 1

    assert records.store.blobs.keys() == sorted([new.key, pixels_blob(picture(1).pixels).key])
    assert load_study(records, reader, study_id).images


@sqlite_only
def test_deleting_keeps_pixels_that_another_study_shows(records: Database, ann: Person) -> None:
    retained = create_study(records, ann, display_name="kept", images=[picture(1)])
    wrong = create_study(records, ann, display_name="wrong", images=[picture(1), picture(2)])

    delete_study(records, ann, wrong, reason="wrong upload")

    assert len(stored_files(records)) == 1
    assert load_study(records, ann, retained).images[0].image.sha256 == picture(1).sha256


@sqlite_only
def test_files_that_cannot_be_removed_now_do_not_bring_the_study_back(
    records: Database, ann: Person, monkeypatch: pytest.MonkeyPatch
) -> None:
    def locked(*_: object) -> None:
        raise PermissionError("in use")

    study_id = create_study(records, ann, display_name="x", images=[picture()])
    monkeypatch.setattr(ImageStore, "remove", locked)

    delete_study(records, ann, study_id, reason="wrong upload")

    assert list_studies(records, ann) == [] and len(stored_files(records)) == 1
