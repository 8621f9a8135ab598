"""The key of a site's services: made once, whole on the disk, and refused where it is damaged."""

from __future__ import annotations

import os
import stat
from pathlib import Path

import pytest

from core import files
from core.errors import InvalidSettings
from core.serving.address import serving_dir, serving_key
from core.settings import Settings


def test_the_key_is_on_the_disk_before_it_has_its_name_and_stays(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    settings, synced = Settings(state_dir=tmp_path), []
    fsync = os.fsync

    def watched(descriptor: int) -> None:
        synced.append((serving_dir(settings) / "key").exists())
        fsync(descriptor)

    monkeypatch.setattr(files.os, "fsync", watched)
    key = serving_key(settings)
    assert len(key) == 32 and key == serving_key(settings)
    assert synced[0] is False, "the file was synchronized under another name"
    assert stat.S_IMODE((serving_dir(settings) / "key").stat().st_mode) == 0o600
    assert [path.name for path in serving_dir(settings).iterdir()] == ["key"]


def test_of_two_processes_that_make_a_key_at_once_the_first_ones_counts(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    settings = Settings(state_dir=tmp_path)
    key = serving_key(settings)
    monkeypatch.setattr(Path, "is_file", lambda path: False)
    assert serving_key(settings) == key


@pytest.mark.parametrize("length", [0, 31, 33])
def test_a_key_of_another_length_is_refused_with_what_to_do(tmp_path: Path, length: int) -> None:
    settings = Settings(state_dir=tmp_path)
    serving_dir(settings).mkdir()
    (serving_dir(settings) / "key").write_bytes(bytes(length))
    with pytest.raises(InvalidSettings, match="Remove it"):
        serving_key(settings)
    assert (serving_dir(settings) / "key").stat().st_size == length
