"""Decode one file in a short-lived child process with memory, processor and time limits.

Parent: `decode`, `decode_frames`. Child: `python -m core.imaging.decode_process '<request as JSON>'`, the file on
standard input, the answer on standard output: 8 bytes of length, JSON, then the pixels as raw float32; of all frames
one answer after another. Nothing touches the disk, nothing is pickled, and the child sees neither the parent's
environment nor the site's key. On Windows and macOS, where RLIMIT_AS is missing or not kept, only the time limit holds.
"""

from __future__ import annotations

import contextlib
import io
import json
import logging
import os
import signal
import struct
import subprocess
import sys
import threading
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, replace
from pathlib import Path
from typing import IO, Any, BinaryIO, TypeVar

import numpy as np

from core.errors import AppError, UnreadableImage
from core.imaging.decoded import Decoded, Limits
from core.imaging.picture import decode_here, frames_here
from core.types import Modality, Window

_LOG = logging.getLogger(__name__)
Answer = TypeVar("Answer")
_ANSWER_LIMIT = 1 << 20
_AT_ONCE = threading.BoundedSemaphore(2)
"""Two children at a time in one server process: each may use the whole memory limit."""
_SECRET = "CHILD_SECRET"
_WALL_FACTOR = 2
"""Wall time allowed for a second of processor time: a busy machine is no reason to refuse a picture."""
_FRAMES_FACTOR = 4
"""All frames of a file may take so many times the seconds of one picture."""
_PASSED_VARIABLES = ("PATH", "SYSTEMROOT", "SystemRoot", "LD_LIBRARY_PATH", "VIRTUAL_ENV", "TZ")
_CRASHES = {-int(getattr(signal, name)) for name in ("SIGSEGV", "SIGBUS", "SIGFPE", "SIGILL") if hasattr(signal, name)}
"""How a child ends whose decoder broke on the file; memory that ran out ends it with SIGABRT or SIGKILL."""
_FAILED = "This file is damaged, or not written as its format asks, so it cannot be read. Export it again."
_TOO_COSTLY = (
    "This file needs more memory or time than one picture may use here, so it was not read. "
    "Export it smaller or uncompressed, or ask the administrator to raise the limits."
)


def decode(
    source: bytes | Path,
    kind: str,
    *,
    limits: Limits,
    frame: int,
    window: int | None,
    source_tags: Sequence[str] = (),
) -> Decoded:
    """The picture in `source`; raises `UnreadableImage` with the child's sentence, or ours when the child was stopped.

    kind: "DICOM", "PNG", "JPEG", "TIFF" or "WebP", as found in the content. source_tags: keywords that `Decoded.source`
    is to have, which only a DICOM file that names its object fills.
    """
    request = {"kind": kind, "frame": frame, "window": window, "limits": asdict(limits)}
    request["source_tags"] = [*source_tags]
    (answer, pixels), ended = ask_child(
        "core.imaging.decode_process", request, source, limits, lambda pipe: _receive(pipe, limits)
    )
    if answer is None or (pixels is None and "refused" not in answer):
        raise refusal_of(ended)
    if "trouble" in answer:
        _LOG.warning("decoding failed: %s", answer["trouble"])
    if "refused" in answer:
        raise UnreadableImage(answer["refused"])
    return _decoded_from(answer, pixels)


def decode_frames(
    source: bytes | Path, kind: str, *, limits: Limits, window: int | None, take: Callable[[np.ndarray], bool]
) -> None:
    """Gives `take` the pixels of every frame of `source` in its order, as `decode` gives one, until it says False.

    limits: of one frame; all of them together may take `_FRAMES_FACTOR` times its seconds. Raises `UnreadableImage`.
    """
    limits = replace(limits, seconds=_FRAMES_FACTOR * limits.seconds)
    request = {"kind": kind, "window": window, "limits": asdict(limits), "is_all": True}

    def receive(pipe: IO[bytes]) -> dict[str, Any] | None:
        while True:
            answer, pixels = _receive(pipe, limits)
            if answer is None or pixels is None or not take(pixels.astype(np.float32, copy=False)):
                return answer

    answer, ended = ask_child("core.imaging.decode_process", request, source, limits, receive)
    if answer is None:
        raise refusal_of(ended)
    if "refused" in answer:
        raise UnreadableImage(answer["refused"])


def ask_child(
    module: str,
    request: Mapping[str, Any],
    source: bytes | Path,
    limits: Limits,
    receive: Callable[[IO[bytes]], Answer],
    secret: bytes = b"",
) -> tuple[Answer, int]:
    """What `receive` makes of the answer of one short-lived process that reads a file, and how the process ended.

    secret: goes by its environment, which nobody else on the machine can read, unlike its command line.
    """
    from core.settings import REPOSITORY  # the child has no use for settings, and would wait longest for pydantic

    with _AT_ONCE, _opened(source) as stdin:
        child = subprocess.Popen(
            [sys.executable, "-m", module, json.dumps(request)],
            stdin=stdin if stdin is not None else subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,  # decoders write what they meet in the file
            cwd=REPOSITORY,
            env=_child_environment() | {_SECRET: secret.hex()},
        )
        timer = threading.Timer(_WALL_FACTOR * limits.seconds, child.kill)
        timer.start()
        try:
            if stdin is None:
                threading.Thread(target=_feed, args=(child.stdin, source), daemon=True).start()
            assert child.stdout is not None
            answer = receive(child.stdout)
        finally:
            timer.cancel()
            child.kill()
            ended = child.wait()
            for stream in (child.stdin, child.stdout):
                if stream is not None:
                    _close(stream)
    return answer, ended


def refusal_of(ended: int) -> UnreadableImage:
    """Of a file whose process gave no answer, by how that ended."""
    return UnreadableImage(_FAILED if ended in _CRASHES else _TOO_COSTLY)


def _opened(source: bytes | Path) -> Any:
    """A context manager with the open file of a path, or with None for bytes, which go through a pipe."""
    return source.open("rb") if isinstance(source, Path) else _Nothing()


class _Nothing:
    def __enter__(self) -> None:
        return None

    def __exit__(self, *_: object) -> None:
        return None


def _child_environment() -> dict[str, str]:
    kept = {name: os.environ[name] for name in _PASSED_VARIABLES if name in os.environ}
    return kept | {
        "OPENBLAS_NUM_THREADS": "1",
        "OMP_NUM_THREADS": "1",
        "PYTHONUTF8": "1",
        "PYTHONPATH": os.pathsep.join(path for path in sys.path if path),
    }


def _feed(pipe: IO[bytes], data: bytes) -> None:
    try:
        pipe.write(data)
        pipe.close()
    except OSError:  # the child refused before it had read everything
        pass


def _close(stream: IO[bytes]) -> None:
    with contextlib.suppress(OSError):
        stream.close()


def _receive(pipe: IO[bytes], limits: Limits) -> tuple[dict[str, Any] | None, np.ndarray | None]:
    """The child's answer, never more of it than a picture within the limits needs."""
    head = pipe.read(8)
    length = struct.unpack("<Q", head)[0] if len(head) == 8 else 0
    if not 0 < length <= _ANSWER_LIMIT:
        return None, None
    text = pipe.read(length)
    if len(text) < length:
        return None, None
    answer = json.loads(text)
    shape = answer.get("shape")
    if shape is None:
        return answer, None
    size = int(np.prod(shape))
    if len(shape) not in (2, 3) or size > 3 * limits.pixels:
        return None, None
    raw = pipe.read(4 * size)
    if len(raw) < 4 * size:
        return None, None
    return answer, np.frombuffer(raw, "<f4").reshape(shape)


def _decoded_from(answer: dict[str, Any], pixels: np.ndarray | None) -> Decoded:
    assert pixels is not None
    facts = dict(answer["decoded"])
    facts["modality"] = Modality(facts["modality"]) if facts["modality"] else None
    facts["windows"] = tuple(Window(**window) for window in facts["windows"])
    facts["view_modifiers"] = tuple(facts["view_modifiers"])
    facts["regions"] = tuple(tuple(region) for region in facts["regions"])
    facts["spacing_mm"] = tuple(facts["spacing_mm"]) if facts["spacing_mm"] else None
    return Decoded(pixels.astype(np.float32, copy=False), **facts)


# What follows runs in the child.


def limit_this_process(limits: Limits) -> None:
    """Memory, processor time and file sizes, where the system knows such limits."""
    try:
        import resource  # absent on Windows
    except ImportError:
        return
    wanted = [(resource.RLIMIT_CPU, limits.seconds), (resource.RLIMIT_CORE, 0), (resource.RLIMIT_FSIZE, 16 << 20)]
    if sys.platform.startswith("linux"):
        wanted.append((resource.RLIMIT_AS, limits.memory_bytes))
    for which, amount in wanted:
        try:
            resource.setrlimit(which, (amount, amount))
        except (ValueError, OSError):  # a lower hard limit is already set: it holds
            continue


def _decode_here(request: dict[str, Any], stream: BinaryIO) -> Decoded:
    limits = Limits(**request["limits"])
    return decode_here(stream, request["kind"], limits=limits, frame=request["frame"], window=request["window"])


def answer_here(request: dict[str, Any], stream: BinaryIO) -> tuple[dict[str, Any], bytes]:
    """The picture in the file, as `decode` takes it; or the next of all frames, as `decode_frames` does."""
    if request.get("is_all"):
        return _next_frame(request, stream)
    decoded = _decode_here(request, stream)
    if request["source_tags"]:
        from core.imaging.dicom.source import source_of  # pydicom loads only where needed

        decoded.source = source_of(stream, request["source_tags"], is_voi_signed=decoded.is_voi_signed)
    pixels = np.ascontiguousarray(decoded.pixels, "<f4")
    facts = {name: getattr(decoded, name) for name in Decoded.__slots__ if name != "pixels"}
    facts["windows"] = [asdict(window) for window in decoded.windows]
    return {"shape": pixels.shape, "decoded": facts}, pixels.tobytes()


def _next_frame(request: dict[str, Any], stream: BinaryIO) -> tuple[dict[str, Any], bytes]:
    limits = Limits(**request["limits"])
    frames = request.setdefault("frames", frames_here(stream, request["kind"], limits=limits, window=request["window"]))
    pixels = next(frames, None)
    if pixels is None:
        return {}, b""
    return {"shape": pixels.shape, "has_more": True}, np.ascontiguousarray(pixels, "<f4").tobytes()


Work = Callable[[dict[str, Any], BinaryIO], tuple[dict[str, Any], bytes]]


def answered(work: Work, request: dict[str, Any], stream: BinaryIO) -> tuple[dict[str, Any], bytes]:
    """What `work` makes of the file, or {"refused": sentence} and nothing."""
    try:
        return work(request, stream)
    except AppError as refusal:
        return {"refused": str(refusal)}, b""
    except MemoryError:
        return {"refused": _TOO_COSTLY}, b""
    except Exception as error:  # the outermost loop: a library met what its authors did not expect in a hostile file
        last = error.__traceback__
        while last is not None and last.tb_next is not None:
            last = last.tb_next
        where = f"{Path(last.tb_frame.f_code.co_filename).name}:{last.tb_lineno}" if last else "?"
        return {"refused": _FAILED, "trouble": f"{type(error).__name__} at {where}"}, b""


def answer_in_child(work: Work) -> None:
    """Read the request from the command line and the file from standard input; answer on standard output: 8 bytes of
    length, JSON, then the bytes that `work` made; again as long as it says that it "has_more"."""
    request = json.loads(sys.argv[1]) | {"secret": os.environ.get(_SECRET, "")}
    answers = os.fdopen(os.dup(sys.stdout.fileno()), "wb")
    os.dup2(sys.stderr.fileno(), sys.stdout.fileno())  # C libraries print to descriptor 1
    limit_this_process(Limits(**request["limits"]))
    source = sys.stdin.buffer
    stream = source if source.seekable() else io.BytesIO(source.read())
    has_more = True
    while has_more:
        answer, content = answered(work, request, stream)
        text = json.dumps(answer).encode()
        answers.write(struct.pack("<Q", len(text)) + text)
        answers.write(content)
        has_more = answer.get("has_more", False)
    answers.close()


if __name__ == "__main__":
    answer_in_child(answer_here)
