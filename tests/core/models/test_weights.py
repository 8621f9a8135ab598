"""Weights on disk: what comes back, and what is refused."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from core.errors import ModelUnavailable
from core.models import weights
from core.models.registry import architecture
from core.models.weights import load_state, read_shards, state_of, write_shards


def test_a_large_variable_is_split_over_shards_and_joined(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(weights, "SHARD_BYTES", 1000)
    state = {"a": np.arange(900, dtype=np.float32).reshape(300, 3), "b": np.ones(4, np.float16)}
    sha256, files = write_shards(state, tmp_path)
    assert len(files) > 3
    back = read_shards(tmp_path, files, sha256)
    assert set(back) == {"a", "b"}
    np.testing.assert_array_equal(back["a"], state["a"])


@pytest.mark.parametrize(("most", "rows"), [(80, [10]), (79, [9, 1]), (24, [3, 3, 3, 1]), (23, [2] * 5), (1, [1] * 10)])
def test_a_piece_has_as_many_rows_as_fit_into_a_shard(
    most: int, rows: list[int], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(weights, "SHARD_BYTES", most)
    pieces = weights._pieces("a", np.zeros((10, 2), np.float32))  # 8 bytes a row
    assert [len(values) for _, values in pieces] == rows


def test_what_fits_is_stored_in_half_the_bytes_and_variances_whole() -> None:
    most = float(np.finfo(np.float16).max)
    state = {
        "small": np.array([1.5, -most + 32]),
        "most": np.array([-most]),
        "a/moving_variance": np.ones(2),
        "none": np.ones(0),
    }
    stored = weights.to_float16({path: values.astype(np.float32) for path, values in state.items()})
    assert {path: values.dtype.name for path, values in stored.items()} == {
        "small": "float16", "most": "float32", "a/moving_variance": "float32", "none": "float16",
    }  # fmt: skip


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
