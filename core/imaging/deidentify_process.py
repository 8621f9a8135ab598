"""De-identify one DICOM file in a short-lived child process, within the limits of `core.imaging.decode_process`.

The child is given a key that is derived from the site's for this purpose alone, in its environment.
"""

from __future__ import annotations

import hashlib
import hmac
import json
import logging
import struct
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import IO, Any, BinaryIO

from core.errors import UnreadableImage
from core.imaging.decode_process import answer_in_child, ask_child, refusal_of
from core.imaging.decoded import Limits

log = logging.getLogger(__name__)

_ANSWER_LIMIT = 1 << 20
_HEADER_ROOM = 64 << 20
"""Of a file, beside its pixels."""


@dataclass(frozen=True, slots=True)
class Deidentified:
    """content: of a DICOM file. facts: of `core.imaging.dicom.confidentiality.Facts`, as a manifest has them."""

    content: bytes
    facts: dict[str, Any]


def export_key(site_key: bytes) -> bytes:
    """What pseudonyms, UIDs and dates of an export are made with: the same at this site each time."""
    return hmac.new(site_key, b"de-identified export", hashlib.sha256).digest()


def deidentify(source: Path, *, site_key: bytes, limits: Limits) -> Deidentified:
    """Raises UnreadableImage with the sentence why a file is left out."""
    (answer, content), ended = ask_child(
        "core.imaging.deidentify_process", {"limits": asdict(limits)}, source, limits,
        lambda pipe: _receive(pipe, limits), secret=export_key(site_key),
    )  # fmt: skip
    if answer is None:
        raise refusal_of(ended)
    if "trouble" in answer:
        log.warning("de-identification failed: %s", answer["trouble"])
    if "refused" in answer:
        raise UnreadableImage(answer["refused"])
    if len(content) != answer["size"]:
        raise refusal_of(ended)
    return Deidentified(content, answer["facts"])


def _receive(pipe: IO[bytes], limits: Limits) -> tuple[dict[str, Any] | None, bytes]:
    head = pipe.read(8)
    length = struct.unpack("<Q", head)[0] if len(head) == 8 else 0
    if not 0 < length <= _ANSWER_LIMIT:
        return None, b""
    text = pipe.read(length)
    if len(text) < length:
        return None, b""
    answer = json.loads(text)
    size = int(answer.get("size", 0))
    return answer, pipe.read(size) if 0 < size <= limits.unpacked_bytes + _HEADER_ROOM else b""


def _answer(request: dict[str, Any], stream: BinaryIO) -> tuple[dict[str, Any], bytes]:
    from core.imaging.dicom.confidentiality import deidentified  # pydicom loads only where needed

    content, facts = deidentified(stream, bytes.fromhex(request["secret"]), Limits(**request["limits"]))
    return {"size": len(content), "facts": facts.as_json}, content


if __name__ == "__main__":
    answer_in_child(_answer)
