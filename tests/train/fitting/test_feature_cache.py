"""Features of frozen layers are computed once, found again, never mistaken, and do not fill the disk."""

from __future__ import annotations

import os
from pathlib import Path

import numpy as np
import pytest

from train.fitting.feature_cache import FeatureCache, key_of


def test_the_second_call_reads_what_the_first_one_made(tmp_path: Path) -> None:
    calls: list[int] = []
    cache = FeatureCache(tmp_path)

    def make() -> list[np.ndarray]:
        calls.append(1)
        return [np.arange(6, dtype=np.float16).reshape(2, 3), np.ones(2, np.float16)]

    first = cache.get("a", make)
    second = cache.get("a", make)
    assert len(calls) == 1
    for one, other in zip(first, second, strict=True):
        np.testing.assert_array_equal(one, other)
    assert second[0].shape == (2, 3)


def test_an_entry_that_was_interrupted_is_made_again(tmp_path: Path) -> None:
    cache = FeatureCache(tmp_path)

    def fails() -> list[np.ndarray]:
        raise OSError("disk full")

    with pytest.raises(OSError):
        cache.get("a", fails)
    (tmp_path / "b").mkdir()
    np.save(tmp_path / "b" / "00.npy", np.zeros(1))  # no mark that it is complete
    assert cache.get("b", lambda: [np.ones(3)])[0].tolist() == [1, 1, 1]
    assert cache.get("a", lambda: [np.ones(2)])[0].tolist() == [1, 1]


def test_the_key_changes_with_values_shape_type_and_words() -> None:
    values = np.zeros((2, 3), np.float32)
    changed = values.copy()
    changed[1, 2] = 1
    keys = {
        key_of([values], "plain"),
        key_of([changed], "plain"),
        key_of([values.reshape(3, 2)], "plain"),
        key_of([values.astype(np.float16)], "plain"),
        key_of([values], "seed 1"),
    }
    assert len(keys) == 5
    assert key_of([values.copy()], "plain") in keys


def test_the_entry_not_used_for_longest_goes_first(tmp_path: Path) -> None:
    array = [np.zeros(1000, np.float16)]
    cache = FeatureCache(tmp_path, limit_bytes=5000)
    for number, name in enumerate(["old", "older but used", "new"]):
        cache.get(name, lambda: array)
        os.utime(tmp_path / name / "complete", (number, number))
    cache.get("older but used", lambda: array)
    cache.get("newest", lambda: array)
    assert sorted(path.name for path in tmp_path.iterdir() if path.is_dir()) == ["newest", "older but used"]
