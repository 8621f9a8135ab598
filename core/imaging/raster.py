"""PNG, JPEG, TIFF and WebP bytes to a picture: header and caps first, then pixels, range by content, upright.

Runs inside the decoding process (`core.imaging.decode_process`).
"""

from __future__ import annotations

import warnings
from typing import BinaryIO

import numpy as np
from PIL import Image as Raster
from PIL import ImageOps, UnidentifiedImageError

from core.errors import UnreadableImage
from core.imaging.decoded import BITS_GUESSED, Decoded, Limits, frame_warning
from core.imaging.dicom.codestream import read_jpeg_header

_MIN_SIDE = 32
_DAMAGED = "This {kind} file is damaged or cut short, so it cannot be read. Export it again from where it came from."
_UNKNOWN_LAYOUT = (
    "This TIFF file is damaged, or it stores its samples in a way this product does not read. Save it again as 8 or "
    "16 bits of grey without transparency, or send the DICOM file."
)
_UNREAD_JPEG = (
    "This is a JPEG of a kind that is not read here ({coding}). Save it as a PNG or an ordinary JPEG, or send the "
    "DICOM file."
)
_CODINGS = {
    0xC3: "lossless", 0xC7: "lossless", 0xCB: "lossless", 0xCF: "lossless", 0xF7: "JPEG-LS", 0xC9: "arithmetic coding",
    0xCA: "arithmetic coding", 0xC5: "hierarchical", 0xC6: "hierarchical",
}  # fmt: skip
_SIXTEEN_BIT = ("I;16", "I;16B", "I;16L", "I;16N", "I")
_WHITE_OF_SIXTEEN = (1 << 16) - 1
_BIT_DEPTHS = (8, 10, 12, 14, 16)
_PHOTOMETRIC = 262  # TIFF tag; 0 is "white is zero"
_BITS, _PLANAR, _PALETTE = 258, 284, 320  # TIFF tags
_JPEG_HEAD = 1 << 20  # profiles and previews lie before the start of the frame
_RED_PNG_DEPTH = 24  # offset of IHDR's bit depth in a PNG file


def read_raster(stream: BinaryIO, kind: str, *, limits: Limits, frame: int = 0) -> Decoded:
    """`kind` ("PNG", "JPEG", "TIFF", "WebP") as found in the content; grey (H, W) or RGB (H, W, 3) float32 in [0, 1].

    frame: the page of a TIFF with several; ignored for a file with one picture.
    """
    head = stream.read(64)
    stream.seek(0)
    if kind == "JPEG":
        _require_jpeg_coding(stream)
    Raster.MAX_IMAGE_PIXELS = None  # the cap below is the site's own and an error, not a warning
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # Pillow's remarks on odd EXIF; nobody reads them in this process
            return _read_opened(Raster.open(stream, formats=[kind]), kind, head, limits, frame)
    except UnidentifiedImageError:
        raise UnreadableImage(_UNKNOWN_LAYOUT if kind == "TIFF" else _DAMAGED.format(kind=kind)) from None
    except (OSError, SyntaxError, ValueError, EOFError, KeyError, TypeError, IndexError):
        raise UnreadableImage(_DAMAGED.format(kind=kind)) from None


def _require_jpeg_coding(stream: BinaryIO) -> None:
    """Refuses the kinds of JPEG that Pillow calls damaged, or decodes as something else, under their own name."""
    try:
        header = read_jpeg_header(stream.read(_JPEG_HEAD))
    except UnreadableImage:  # what Pillow says of it is right
        return
    finally:
        stream.seek(0)
    coding = _CODINGS.get(header.coding, "" if header.precision == 8 else f"{header.precision} bits")
    if coding:
        raise UnreadableImage(_UNREAD_JPEG.format(coding=coding))


def _read_opened(raster: Raster.Image, kind: str, head: bytes, limits: Limits, frame: int) -> Decoded:
    n_frames = getattr(raster, "n_frames", 1) if kind != "JPEG" else 1
    if kind in ("PNG", "WebP") and n_frames > 1:
        raise UnreadableImage(
            f"This {kind} is animated. Save the one picture that should be read as a {kind} of its own."
        )
    if n_frames > 1 and not 0 <= frame < n_frames:
        raise UnreadableImage(f"This file has {n_frames} frames; choose one from 0 to {n_frames - 1}.")
    if n_frames > 1:
        raster.seek(frame)
    _require_size(raster, limits)
    _require_mode(raster, kind)
    is_white_zero = kind == "TIFF" and raster.mode in (*_SIXTEEN_BIT, "F") and _tiff_tag(raster, _PHOTOMETRIC) == 0
    orientation = raster.getexif().get(0x0112, 1)
    raster.load()
    upright = ImageOps.exif_transpose(raster) or raster
    decoded = Decoded(np.zeros((1, 1), np.float32), frame=frame if n_frames > 1 else 0, n_frames=n_frames)
    decoded.notes.append(f"decoded {kind}")
    if orientation not in (1, None) and 1 < orientation <= 8:
        decoded.notes.append("turned upright as the file's EXIF orientation says")
    if n_frames > 1:
        decoded.warnings.append(frame_warning(decoded.frame, n_frames))
    decoded.pixel_aspect = _aspect(raster, orientation)
    if decoded.pixel_aspect != 1:
        decoded.notes.append("pixels that are not square, as the file's resolution says")
    pixels = _to_float(upright, decoded, is_white_zero=is_white_zero)
    if _is_deep_colour(raster, kind, head) and pixels.max() < 64 / 255:
        raise UnreadableImage(
            f"This {kind} holds a dark grey picture as 16-bit colour, of which only the upper 8 bits are read. "
            f"Save it as a 16-bit grey {kind}."
        )
    decoded.pixels = 1 - pixels if is_white_zero else pixels
    return decoded


def _is_deep_colour(raster: Raster.Image, kind: str, head: bytes) -> bool:
    """Whether more than 8 bits a colour lie in the file, of which Pillow hands on the upper 8."""
    if raster.mode in ("I;16", "I;16B", "I"):
        return False
    if kind == "TIFF":
        return raster.mode.startswith("RGB") and max(_tiff_numbers(raster, _BITS), default=8) > 8
    return kind == "PNG" and head[_RED_PNG_DEPTH : _RED_PNG_DEPTH + 1] == b"\x10"


def _tiff_numbers(raster: Raster.Image, tag: int) -> tuple[int, ...]:
    value = _tiff_tag(raster, tag)
    return tuple(value) if isinstance(value, tuple) else (value,) if isinstance(value, int) else ()


def _aspect(raster: Raster.Image, orientation: int | None) -> float:
    """Distance between rows by distance between columns of the upright picture, from the file's resolution."""
    resolution = raster.info.get("dpi") or raster.info.get("aspect")
    if raster.format == "JPEG" and raster.info.get("jfif_unit") == 0:
        resolution = raster.info.get("jfif_density")
    try:
        across, down = (float(number) for number in resolution or (1, 1))
        aspect = across / down
    except (TypeError, ValueError, ZeroDivisionError):
        return 1.0
    aspect = 1 / aspect if aspect and orientation in (5, 6, 7, 8) else aspect
    return aspect if 0.2 <= aspect <= 5 and abs(aspect - 1) >= 0.005 else 1.0


def _require_size(raster: Raster.Image, limits: Limits) -> None:
    if raster.width * raster.height > limits.pixels:
        raise UnreadableImage(
            f"This picture is larger than this site reads ({limits.pixels // 1_000_000} megapixels). "
            "Export it smaller, or ask the administrator to raise the limit."
        )
    if raster.width < _MIN_SIDE or raster.height < _MIN_SIDE:
        raise UnreadableImage(
            f"This picture has fewer than {_MIN_SIDE} rows or columns, too few for an image of a breast."
        )


def _require_mode(raster: Raster.Image, kind: str) -> None:
    if raster.mode == "1":
        raise UnreadableImage(
            "This picture is black and white without grey (1 bit); it may be a mask or a scan of text."
        )
    if raster.mode in ("CMYK", "LAB", "HSV"):
        raise UnreadableImage(
            f"This {kind} holds colours for printing ({raster.mode}). Export the original as grey or RGB."
        )
    if kind == "TIFF" and _tiff_tag(raster, _PLANAR) == 2 and max(_tiff_numbers(raster, _BITS), default=8) > 8:
        raise UnreadableImage(  # Pillow reads the planes as if they held 8 bits
            "This TIFF stores 16-bit colours plane by plane, which is not read here. Save it as a 16-bit grey TIFF."
        )
    if raster.mode == "P" and 0 < max(_tiff_numbers(raster, _PALETTE), default=0) < 256:
        raise UnreadableImage(  # Pillow takes the upper 8 of 16 bits
            "This TIFF holds a palette of 8 bits where the format has 16, so it would be shown black. Save it as grey."
        )
    if raster.mode not in ("L", "LA", "P", "PA", "RGB", "RGBA", "RGBX", "YCbCr", "F", *_SIXTEEN_BIT):
        raise UnreadableImage(f"This {kind} stores its samples in a way this product does not read.")


def _tiff_tag(raster: Raster.Image, tag: int) -> object:
    return getattr(raster, "tag_v2", {}).get(tag)


def _to_float(raster: Raster.Image, decoded: Decoded, *, is_white_zero: bool) -> np.ndarray:
    """In [0, 1]; of a picture whose white is zero 1 is black."""
    if raster.mode in _SIXTEEN_BIT:
        values = np.asarray(raster).astype(np.int64)
        if is_white_zero and _WHITE_OF_SIXTEEN - values.max() >= 0 and _WHITE_OF_SIXTEEN - values.min() < 1 << 14:
            return 1 - _from_integers(_WHITE_OF_SIXTEEN - values, decoded)  # fewer bits, counted down from 16
        return _from_integers(values, decoded)
    if raster.mode == "F":
        return _from_floats(np.asarray(raster), decoded)
    if raster.mode == "P" or raster.mode == "PA" or "transparency" in raster.info:
        raster = raster.convert("RGBA")
    if raster.mode in ("LA", "RGBA"):
        return _over_black(np.asarray(raster), decoded)
    if raster.mode in ("YCbCr", "RGBX"):
        raster = raster.convert("RGB")
    return _as_grey_if_grey(np.asarray(raster, np.float32) / 255)


def _from_integers(values: np.ndarray, decoded: Decoded) -> np.ndarray:
    """Whole numbers by the smallest usual bit depth that holds them: 12 bits live in 16-bit files.

    What needs the whole 16 bits is known to have them; less is a guess, which the pictures of a study make together.
    """
    values = values.astype(np.int64, copy=False)
    if values.min() < 0:
        values = values - values.min()
        decoded.notes.append("signed values shifted to start at 0")
    top = int(values.max())
    depth = next((bits for bits in _BIT_DEPTHS if top < 1 << bits), None)
    if depth is None:
        raise UnreadableImage(
            "The grey values of this picture lie further apart than 16 bits hold (65,536 steps), and no more are read. "
            "Save it as a 16-bit grey picture, or send the DICOM file."
        )
    decoded.notes.append(f"{depth} bits recognised by range")
    decoded.guessed_bits = depth
    if depth < _BIT_DEPTHS[-1]:
        decoded.warnings.append(BITS_GUESSED)
    return values.astype(np.float32) / np.float32((1 << depth) - 1)


def _from_floats(values: np.ndarray, decoded: Decoded) -> np.ndarray:
    if not np.isfinite(values).all():
        raise UnreadableImage("This TIFF holds values that are not numbers (NaN or infinite), so it cannot be shown.")
    values = values.astype(np.float64)
    low, high = values.min(), values.max()
    if low >= 0 and high <= 1:
        return values.astype(np.float32)
    decoded.notes.append("decimal values scaled to their own range")
    decoded.warnings.append(
        "The file holds decimal numbers and does not say which are black and white; its own range is shown, so its "
        "brightness is a guess. Send the DICOM file."
    )
    stretched: np.ndarray = ((values - low) / max(high - low, 1e-12)).astype(np.float32)
    return stretched


def _over_black(values: np.ndarray, decoded: Decoded) -> np.ndarray:
    colour, alpha = values[..., :-1].astype(np.float32) / 255, values[..., -1:].astype(np.float32) / 255
    if alpha.max() == 0:
        raise UnreadableImage("This picture is fully transparent; there is nothing to see in it.")
    if alpha.min() < 1:
        decoded.notes.append("transparent parts shown black")
    return _as_grey_if_grey((colour * alpha)[..., 0] if colour.shape[-1] == 1 else colour * alpha)


def _as_grey_if_grey(pixels: np.ndarray) -> np.ndarray:
    """(H, W) where the three channels are the same; JPEG and palettes blur them by a few steps."""
    if pixels.ndim == 2:
        return pixels
    spread = pixels.max(axis=-1) - pixels.min(axis=-1)
    return np.ascontiguousarray(pixels[..., 1]) if spread.max() <= 3 / 255 else pixels
