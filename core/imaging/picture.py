"""The bytes of one file to a picture, in this process, in one way for reading and for training.

An upload is decoded in a child process (`core.imaging.decode_process`, which calls `decode_here`); a data set's own
files are decoded where they are needed (`read_picture`). Colours and grey scales are settled by the same functions.
"""

from __future__ import annotations

import hashlib
import io
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from typing import BinaryIO

import numpy as np
from PIL import Image as Raster

from core.errors import UnreadableImage
from core.imaging.decoded import BITS_GUESSED, Decoded, Limits
from core.imaging.sniff import HEAD_BYTES, READ, kind_of
from core.types import Image, Modality

GREY_MOST, COLOUR_MOST = 65535, 255
_COLOURED = 0.2
_PNG_DEPTH = 24
"""Where a PNG's first chunk says the bits of a sample."""


def decode_here(stream: BinaryIO, kind: str, *, limits: Limits, frame: int = 0, window: int | None = None) -> Decoded:
    """One picture of a file, decoded in this process. Raises `UnreadableImage`.

    kind: "DICOM", "PNG", "JPEG", "TIFF" or "WebP", as found in the content. frame, window: as in `read_dicom`.
    """
    if kind == "DICOM":
        from core.imaging.dicom.read import read_dicom  # pydicom loads only where needed

        return read_dicom(stream, limits=limits, frame=frame, window=window)
    from core.imaging.raster import read_raster

    return read_raster(stream, kind, limits=limits, frame=frame)


def frames_here(stream: BinaryIO, kind: str, *, limits: Limits, window: int | None = None) -> Iterator[np.ndarray]:
    """The pixels of every frame of a file in its order, decoded in this process. Raises `UnreadableImage`."""
    if kind == "DICOM":
        from core.imaging.dicom.read import read_frames  # pydicom loads only where needed

        yield from read_frames(stream, limits=limits, window=window)
        return
    n_frames = 1
    frame = 0
    while frame < n_frames:
        stream.seek(0)
        decoded = decode_here(stream, kind, limits=limits, frame=frame)
        n_frames = decoded.n_frames
        yield decoded.pixels
        frame += 1


def png_of(pixels: np.ndarray) -> bytes:
    """float32 [0, 1], (H, W) or (H, W, 3) -> PNG, 16 bits grey or 8 bits RGB.

    Grey comes back within 1/65535, 8-bit colour exactly.
    """
    most, kind = (COLOUR_MOST, np.uint8) if pixels.ndim == 3 else (GREY_MOST, np.uint16)
    whole = np.rint(pixels * np.float32(most)).astype(kind)
    content = io.BytesIO()
    # Level 1: a 13-megapixel view is written in half a second; level 6 saves 5 % more and takes four times as long.
    Raster.fromarray(whole).save(content, "PNG", compress_level=1)
    return content.getvalue()


def read_picture(data: bytes, modality: Modality, *, limits: Limits, bits: int | None = None) -> Image:
    """A file of a data set as the `Image` that an upload of it would give, without side, view and warnings.

    bits: of the study the file belongs to, where they were settled (`settled_bits`). Raises `UnreadableImage`.
    """
    kind = kind_of(data[:HEAD_BYTES])
    if kind not in READ or kind == "ZIP":
        raise UnreadableImage(f"This is {kind or 'not a file this product knows'} and no picture that is read here.")
    decoded = decode_here(io.BytesIO(data), kind, limits=limits)
    image = Image(
        in_colours_of(modality, decoded.pixels),
        hashlib.sha256(data).hexdigest(),
        modality,
        "argument",
        spacing_mm=decoded.spacing_mm,
        pixel_aspect=decoded.pixel_aspect,
        guessed_bits=decoded.guessed_bits,
        not_scored=decoded.pixels_unknown,
        colour_share=colour_share(decoded.pixels),
    )
    return _at_bits(image, bits) if bits is not None else image


def in_colours_of(modality: Modality | None, pixels: np.ndarray) -> np.ndarray:
    """Histology as RGB (H, W, 3), everything else grey (H, W); float32 in [0, 1]."""
    if modality is Modality.HISTOLOGY:
        return pixels if pixels.ndim == 3 else np.repeat(pixels[..., None], 3, axis=2)
    clipped: np.ndarray = np.clip(to_grey(pixels), 0, 1)
    return clipped


def to_grey(pixels: np.ndarray) -> np.ndarray:
    """RGB (H, W, 3) to luma (H, W), float32 (ITU-R BT.601)."""
    if pixels.ndim == 2:
        return pixels
    return (pixels @ np.array([0.299, 0.587, 0.114], np.float32)).astype(np.float32)


def colour_share(pixels: np.ndarray) -> float:
    """Share of the pixels, float32 (H, W) or (H, W, 3) in [0, 1], that are clearly coloured: 0 for a grey picture.

    A pixel whose channels lie closer than `_COLOURED` together is a grey one that lossy compression tinted.
    """
    return float((np.ptp(pixels, axis=2) > _COLOURED).mean()) if pixels.ndim == 3 else 0.0


def bits_of_studies(files: Iterable[tuple[Path, str]]) -> dict[str, int]:
    """Study -> bits that `read_picture` needs, for files of which at least one had to guess its own.

    files: (file, study); of a study "" nothing is known but the file. Reads only PNG and TIFF files of 16 bits; what
    cannot be read guesses nothing.
    """
    guesses: dict[str, list[int | None]] = {}
    from core.settings import Settings  # the child, which never comes here, would wait longest for pydantic

    limits = Limits.of(Settings())
    for path, study in files:
        if study and path.is_file() and _may_guess(path):
            try:
                with path.open("rb") as stream:
                    kind = kind_of(stream.read(HEAD_BYTES))
                    stream.seek(0)
                    guesses.setdefault(study, []).append(decode_here(stream, kind, limits=limits).guessed_bits)
            except UnreadableImage:
                continue
    found = {study: settled_bits(bits) for study, bits in guesses.items()}
    return {study: bits for study, bits in found.items() if bits is not None}


def _may_guess(path: Path) -> bool:
    with path.open("rb") as stream:
        head = stream.read(HEAD_BYTES)
    kind = kind_of(head)
    return kind == "TIFF" or (kind == "PNG" and head[_PNG_DEPTH : _PNG_DEPTH + 1] == b"\x10")


def settled_bits(guesses: Sequence[int | None]) -> int | None:
    """The bits of one study's pictures: the most that any of them was guessed to have; None where none was guessed."""
    return max((bits for bits in guesses if bits is not None), default=None)


def on_one_scale(images: Sequence[Image]) -> tuple[Image, ...]:
    """The pictures of one study, those whose bits were guessed on one grey scale; doing it twice changes nothing.

    A single picture keeps the warning that its bits are a guess.
    """
    guessed = [image for image in images if image.guessed_bits is not None]
    bits = settled_bits([image.guessed_bits for image in guessed])
    if bits is None or len(guessed) == 1:
        return tuple(images)
    return tuple(_at_bits(image, bits) if image.guessed_bits is not None else image for image in images)


def _at_bits(image: Image, bits: int) -> Image:
    """The picture on the scale of `bits`, or of its own where those are more."""
    if image.guessed_bits is None:
        return image
    bits = max(bits, image.guessed_bits)
    note = f"{bits} bits, as the pictures of this study have together"
    scale = np.float32(((1 << image.guessed_bits) - 1) / ((1 << bits) - 1))
    return replace(
        image,
        pixels=image.pixels if image.guessed_bits == bits else image.pixels * scale,
        guessed_bits=bits,
        notes=image.notes if note in image.notes else (*image.notes, note),
        warnings=tuple(sentence for sentence in image.warnings if sentence != BITS_GUESSED),
    )
