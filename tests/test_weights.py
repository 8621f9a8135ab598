"""Weights on disk: what comes back, and what is refused."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from core.errors import ModelUnavailable
from core.models import weights
from core.models.registry import ARCHITECTURES, Architecture, architecture
from core.models.weights import load_state, read_shards, state_of, to_float16, write_shards


@pytest.mark.parametrize("entry", ARCHITECTURES, ids=lambda entry: entry.id)
def test_every_architecture_builds_stores_and_comes_back(entry: Architecture, tmp_path: Path) -> None:
    first = entry.build(side=64, channels=1, outputs=3)
    assert set(first.maps) == set(entry.branches)
    sha256, files = write_shards(to_float16(state_of(first.model)), tmp_path)
    assert all(path.stat().st_size <= 50 * 1024 * 1024 for path in tmp_path.iterdir())
    second = entry.build(side=64, channels=1, outputs=3)
    load_state(second.model, read_shards(tmp_path, files, sha256))
    square = np.random.default_rng(0).random((1, 64, 64, 1)).astype(np.float32)
    np.testing.assert_allclose(first.model(square), second.model(square), atol=0.02)


def test_a_large_variable_is_split_over_shards_and_joined(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(weights, "SHARD_BYTES", 1000)
    state = {"a": np.arange(900, dtype=np.float32).reshape(300, 3), "b": np.ones(4, np.float16)}
    sha256, files = write_shards(state, tmp_path)
    assert len(files) > 3
    back = read_shards(tmp_path, files, sha256)
    assert set(back) == {"a", "b"}
    np.testing.assert_array_equal(back["a"], state["a"])


def test_a_changed_byte_is_noticed(tmp_path: Path) -> None:
    sha256, files = write_shards({"a": np.ones(8, np.float32)}, tmp_path)
    path = tmp_path / files[0]
    data = bytearray(path.read_bytes())
    data[-1] ^= 1
    path.write_bytes(bytes(data))
    with pytest.raises(ModelUnavailable, match="not the ones its card describes"):
        read_shards(tmp_path, files, sha256)


def test_a_missing_file_is_named(tmp_path: Path) -> None:
    sha256, files = write_shards({"a": np.ones(8, np.float32)}, tmp_path)
    (tmp_path / files[0]).unlink()
    with pytest.raises(ModelUnavailable, match=files[0]):
        read_shards(tmp_path, files, sha256)


def test_weights_of_another_graph_change_nothing() -> None:
    graph = architecture("cnn").build(side=64, channels=1, outputs=3)
    before = state_of(graph.model)
    other = state_of(architecture("cnn").build(side=64, channels=3, outputs=3).model)
    with pytest.raises(ModelUnavailable, match="do not fit"):
        load_state(graph.model, other)
    with pytest.raises(ModelUnavailable, match="do not belong"):
        load_state(graph.model, {"x": np.zeros(1, np.float32)})
    after = state_of(graph.model)
    assert all(np.array_equal(before[path], after[path]) for path in before)
