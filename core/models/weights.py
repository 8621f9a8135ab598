"""Weights as safetensors shards named by their hash: no code is ever read from a file.

The hash of a set of weights is the sha256 over the sha256 of its shards, in order. Values are stored as float16 (half
the size; probabilities move by less than 1e-3, which the publishing step checks) and computed in float32.
"""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from safetensors.numpy import load_file, save

from core.errors import ModelUnavailable
from core.files import write_whole

if TYPE_CHECKING:
    import keras

SHARD_BYTES = 48 * 1024 * 1024


def state_of(model: keras.Model) -> dict[str, np.ndarray]:
    """Every variable of a flat model by its path, float32."""
    return {
        variable.path: np.asarray(variable, np.float32) for variable in model.variables if _is_stored(variable.path)
    }


def load_state(model: keras.Model, state: dict[str, np.ndarray]) -> None:
    """Assign `state`; refuses when a name or a shape differs from the code-built graph."""
    variables = {variable.path: variable for variable in model.variables if _is_stored(variable.path)}
    if set(variables) != set(state):
        odd = sorted(set(variables) ^ set(state))[:3]
        raise ModelUnavailable(f"The weights do not belong to this architecture: {', '.join(odd)} on one side only.")
    for path, variable in variables.items():
        if tuple(variable.shape) != state[path].shape:
            raise ModelUnavailable(
                f"The weights do not fit: {path} is {state[path].shape}, the graph has {tuple(variable.shape)}."
            )
    for path, variable in variables.items():
        variable.assign(state[path].astype(np.float32))


def to_float16(state: dict[str, np.ndarray]) -> dict[str, np.ndarray]:
    """The stored form: float16 where the values fit its range, float32 otherwise (a batch norm's variances)."""
    limit = float(np.finfo(np.float16).max)
    return {
        path: values.astype(np.float16) if np.abs(values).max(initial=0) < limit and "variance" not in path else values
        for path, values in state.items()
    }


def write_shards(state: dict[str, np.ndarray], folder: Path) -> tuple[str, tuple[str, ...]]:
    """Write `<sha8>-00001.safetensors`… into `folder`; returns the weights' sha256 and the file names."""
    groups: list[dict[str, np.ndarray]] = [{}]
    size = 0
    for path in sorted(state):
        values = np.ascontiguousarray(state[path])
        for part, piece in _pieces(path, values):
            if size + piece.nbytes > SHARD_BYTES and groups[-1]:
                groups.append({})
                size = 0
            groups[-1][part] = piece
            size += piece.nbytes
    blobs = [save(group) for group in groups]
    sha256 = _combined([hashlib.sha256(blob).hexdigest() for blob in blobs])
    names = tuple(f"{sha256[:8]}-{number:05d}.safetensors" for number in range(1, len(blobs) + 1))
    for name, blob in zip(names, blobs, strict=True):
        write_whole(folder / name, blob)
    return sha256, names


def check_shards(folder: Path, names: Sequence[str], sha256: str) -> None:
    """Raises ModelUnavailable unless the shards are all there and are those the card names."""
    missing = [name for name in names if not (folder / name).is_file()]
    if missing or not names:
        raise ModelUnavailable(f"The weights of {folder.name} are not complete: {', '.join(missing) or 'no file'}.")
    if _combined([hashlib.sha256((folder / name).read_bytes()).hexdigest() for name in names]) != sha256:
        raise ModelUnavailable(f"The weights of {folder.name} are not the ones its card describes. Restore the files.")


def read_shards(folder: Path, names: Sequence[str], sha256: str) -> dict[str, np.ndarray]:
    """The variables in the shards, checked against the hash the card names."""
    check_shards(folder, names, sha256)
    pieces: dict[str, np.ndarray] = {}
    for name in names:
        pieces.update(load_file(folder / name))
    return _joined(pieces)


def _is_stored(path: str) -> bool:
    return "seed_generator" not in path


def _combined(hashes: Sequence[str]) -> str:
    return hashlib.sha256("\n".join(hashes).encode()).hexdigest()


def _pieces(path: str, values: np.ndarray) -> list[tuple[str, np.ndarray]]:
    if values.nbytes <= SHARD_BYTES:
        return [(path, values)]
    rows = max(1, SHARD_BYTES // max(1, values[:1].nbytes))
    starts = range(0, len(values), rows)
    return [(f"{path}#{number:04d}", values[start : start + rows]) for number, start in enumerate(starts)]


def _joined(pieces: dict[str, np.ndarray]) -> dict[str, np.ndarray]:
    whole = {path: values for path, values in pieces.items() if "#" not in path}
    parts: dict[str, list[str]] = {}
    for key in sorted(key for key in pieces if "#" in key):
        parts.setdefault(key.rpartition("#")[0], []).append(key)
    for path, keys in parts.items():
        whole[path] = np.concatenate([pieces[key] for key in keys])
    return whole
