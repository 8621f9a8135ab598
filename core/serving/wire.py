"""What goes between a page and the inference service: a line of JSON, then arrays of float32, never a pickle.

Over a connection of `multiprocessing.connection` (HMAC with the site's serving key), of which only the calls for
bytes are used. A message is its JSON object, in which `arrays` gives the shapes of the float32 arrays that follow.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import asdict
from multiprocessing.connection import Connection
from typing import Any

import numpy as np

from core.models.prepared import Prepared
from core.serving.desk import Standing
from core.types import Explanation, Fit, Prediction

HEAD_BYTES_MOST = 1 << 20
ARRAYS_MOST = 256
ARRAY_BYTES_MOST = 256 << 20


class BrokenMessage(Exception):
    """The other side does not speak as it should; its connection is closed."""


def send(connection: Connection, head: dict[str, Any], arrays: Sequence[np.ndarray] = ()) -> None:
    """Raises OSError where the other side is gone."""
    plain = [np.ascontiguousarray(one, "<f4") for one in arrays]
    connection.send_bytes(json.dumps({**head, "arrays": [one.shape for one in plain]}).encode())
    for one in plain:
        connection.send_bytes(one.reshape(-1).view(np.uint8))  # type: ignore[arg-type]


def receive(connection: Connection) -> tuple[dict[str, Any], list[np.ndarray]]:
    """Raises EOFError or OSError where the other side is gone, BrokenMessage for what is no message."""
    try:
        head = json.loads(connection.recv_bytes(HEAD_BYTES_MOST))
        shapes = [tuple(map(int, shape)) for shape in head["arrays"]]
    except (ValueError, TypeError, KeyError, RecursionError) as error:
        raise BrokenMessage(type(error).__name__) from error
    if len(shapes) > ARRAYS_MOST or any(len(shape) > 4 or min(shape, default=1) < 0 for shape in shapes):
        raise BrokenMessage("shapes")
    arrays = []
    for shape in shapes:
        n_bytes = 4 * int(np.prod(shape, dtype=object))
        if n_bytes > ARRAY_BYTES_MOST:
            raise BrokenMessage("size")
        raw = connection.recv_bytes(ARRAY_BYTES_MOST)
        if len(raw) != n_bytes:
            raise BrokenMessage("size")
        arrays.append(np.frombuffer(raw, "<f4").reshape(shape))
    return head, arrays


def of_prepared(image: Prepared) -> tuple[dict[str, Any], list[np.ndarray]]:
    """The head and the arrays of a prepared image."""
    return {"image": image.image_sha256, "fits": [asdict(fit) for fit in image.fits]}, list(image.inputs)


def to_prepared(head: dict[str, Any], arrays: Sequence[np.ndarray]) -> Prepared:
    """What `of_prepared` made it from. Raises BrokenMessage."""
    try:
        fits = tuple(_fit(fit) for fit in head["fits"])
        if not fits or len(fits) != len(arrays) or any(one.ndim != 3 for one in arrays):
            raise ValueError("as many fits as inputs")
        return Prepared(str(head["image"]), tuple(arrays), fits)
    except (ValueError, TypeError, KeyError) as error:
        raise BrokenMessage(type(error).__name__) from error


def of_answer(prediction: Prediction, explanation: Explanation) -> tuple[dict[str, Any], list[np.ndarray]]:
    """The head and the arrays of an answer."""
    head = {
        "prediction": asdict(prediction),
        "classes": explanation.classes,
        "positive_index": explanation.positive_index,
        "maps": list(explanation.maps),
        "fit": asdict(explanation.fit),
    }
    return head, list(explanation.maps.values())


def to_answer(head: dict[str, Any], arrays: Sequence[np.ndarray]) -> tuple[Prediction, Explanation]:
    """What `of_answer` made it from. Raises BrokenMessage."""
    try:
        said: dict[str, Any] = {
            name: tuple(value) if isinstance(value, list) else value for name, value in head["prediction"].items()
        }
        maps = dict(zip(head["maps"], arrays, strict=True))
        explanation = Explanation(tuple(head["classes"]), int(head["positive_index"]), maps, _fit(head["fit"]))
        return Prediction(**said), explanation
    except (ValueError, TypeError, KeyError, AttributeError) as error:
        raise BrokenMessage(type(error).__name__) from error


def to_keys(head: dict[str, Any]) -> list[str]:
    """What somebody asks the standing of. Raises BrokenMessage."""
    keys = head.get("keys")
    if not isinstance(keys, list):
        raise BrokenMessage("keys")
    return [str(key) for key in keys]


def of_standing(standing: Standing) -> dict[str, Any]:
    """The head that says it."""
    return {"standing": asdict(standing)}


def to_standing(head: dict[str, Any]) -> Standing:
    """What `of_standing` made it from. Raises BrokenMessage."""
    try:
        return Standing(**head["standing"])
    except (TypeError, KeyError) as error:
        raise BrokenMessage(type(error).__name__) from error


def _fit(fields: dict[str, Any]) -> Fit:
    plain: dict[str, Any] = {name: tuple(value) if isinstance(value, list) else value for name, value in fields.items()}
    return Fit(**plain)
