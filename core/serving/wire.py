"""What goes between a page and the inference service: a line of JSON, then arrays of float32, never a pickle.

Over a connection of `multiprocessing.connection` (HMAC with the site's serving key), of which only the calls for
bytes are used; or as one body of HTTP, sealed with that key (`sealed`). A message is its JSON object, in which `arrays`
gives the shapes of the float32 arrays that follow.
"""

from __future__ import annotations

import hashlib
import hmac
import io
import json
import os
import time
from collections.abc import Sequence
from dataclasses import asdict
from multiprocessing.connection import Connection
from typing import Any

import numpy as np
from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import AESGCM

from core.errors import AppError, InvalidInput, ModelUnavailable
from core.models.cards import Card
from core.models.loaded import Weighted
from core.models.outline_card import OutlineCard
from core.models.prepared import Prepared
from core.serving.desk import Standing
from core.types import Explanation, Fit, Prediction

HEAD_BYTES_MOST = 1 << 20
ARRAYS_MOST = 256
ARRAY_BYTES_MOST = 256 << 20
NONCE_BYTES = 12
"""As NIST SP 800-38D recommends for GCM; a random one for each message."""
OLD_SECONDS = 300.0
"""A request that is older, by the clocks of both machines, is no request: somebody sends it again."""
Message = tuple[dict[str, Any], list[np.ndarray]]


class BrokenMessage(Exception):
    """The other side does not speak as it should; its connection is closed."""


class Body:
    """Stands where a connection does and holds what was sent: each part after its length, 8 bytes."""

    def __init__(self, content: bytes = b"") -> None:
        self._stream = io.BytesIO(content)

    def send_bytes(self, part: bytes) -> None:
        """One part more."""
        raw = memoryview(part).cast("B")
        self._stream.write(len(raw).to_bytes(8, "little"))
        self._stream.write(raw)

    def recv_bytes(self, most: int) -> bytes:
        """The next part. Raises EOFError where there is none, or a longer one."""
        length = self._stream.read(8)
        size = int.from_bytes(length, "little")
        part = self._stream.read(size) if size <= most else b""
        if len(length) != 8 or len(part) != size:
            raise EOFError
        return part

    @property
    def content(self) -> bytes:
        return self._stream.getvalue()


def sealed(key: bytes, message: Message, answered: bytes = b"") -> bytes:
    """A message as nobody without the key can read, change or make it (AES-256-GCM): its nonce, then the rest.

    answered: the request (as it came) that this answers, and no other; b"" for a request.
    """
    body, nonce = Body(), os.urandom(NONCE_BYTES)
    head, arrays = message
    send(body, {**head, "at": time.time()}, arrays)
    return nonce + AESGCM(_derived(key)).encrypt(nonce, body.content, answered[:NONCE_BYTES])


def opened(key: bytes, content: bytes, answered: bytes = b"") -> Message:
    """What `sealed` was given. Raises BrokenMessage for what was not sealed so with this key, or long ago."""
    try:
        plain = AESGCM(_derived(key)).decrypt(content[:NONCE_BYTES], content[NONCE_BYTES:], answered[:NONCE_BYTES])
        head, arrays = receive(Body(plain))
        if abs(time.time() - float(head["at"])) > OLD_SECONDS:
            raise BrokenMessage("old, or the clocks of two machines differ")
    except InvalidTag as error:
        raise BrokenMessage("not sealed with this key") from error
    except (EOFError, ValueError, TypeError, KeyError) as error:
        raise BrokenMessage(type(error).__name__) from error
    return head, arrays


def _derived(key: bytes) -> bytes:
    return hmac.new(key, b"messages over HTTP", hashlib.sha256).digest()


def send(connection: Connection | Body, head: dict[str, Any], arrays: Sequence[np.ndarray] = ()) -> None:
    """Raises OSError where the other side is gone."""
    plain = [np.ascontiguousarray(one, "<f4") for one in arrays]
    connection.send_bytes(json.dumps({**head, "arrays": [one.shape for one in plain]}).encode())
    for one in plain:
        connection.send_bytes(one.reshape(-1).view(np.uint8))  # type: ignore[arg-type]


def receive(connection: Connection | Body) -> tuple[dict[str, Any], list[np.ndarray]]:
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


def of_request(what: str, card: Weighted, image: Prepared, **more: Any) -> Message:
    """A request about a model and an image. what: "read", or "ahead" for later."""
    assert isinstance(card, Card | OutlineCard)
    head, arrays = of_prepared(image)
    return {"do": what, "folder": str(card.folder), "weights": card.weights_sha256, **more, **head}, arrays


def of_refusal(refused: AppError) -> Message:
    """What says that it cannot be answered, and why."""
    return {"refused": str(refused), "kind": type(refused).__name__}, []


def of_found(answer: Any) -> Message:
    """What a desk answered: of a model, or of an outline network."""
    return of_answer(*answer) if isinstance(answer, tuple) else ({"cells": True}, [answer])


def refusal(head: dict[str, Any]) -> AppError:
    """What `of_refusal` made it from."""
    kind = InvalidInput if head.get("kind") == InvalidInput.__name__ else ModelUnavailable
    return kind(str(head["refused"]))


def to_found(message: Message) -> Any:
    """What `of_found` made it from. Raises BrokenMessage."""
    head, arrays = message
    if not head.get("cells"):
        return to_answer(head, arrays)
    if len(arrays) != 1:
        raise BrokenMessage("cells")
    return arrays[0]


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
