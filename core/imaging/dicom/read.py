"""DICOM bytes to a picture: header, caps, codec header, decode one frame, modality transform, window, polarity.

Runs inside the decoding process (`core.imaging.decode_process`); nothing here is safe against a hostile file without
that process's limits.
"""

from __future__ import annotations

from typing import Any, BinaryIO

import numpy as np
from pydicom.dataset import Dataset
from pydicom.encaps import get_frame
from pydicom.multival import MultiValue
from pydicom.pixels import apply_color_lut, convert_color_space, get_decoder

from core.errors import UnreadableImage
from core.imaging.decoded import Decoded, Limits, clean_text, frame_words
from core.imaging.dicom import tags
from core.imaging.dicom.codestream import (
    CodecHeader,
    decode_rle,
    demand_end_marker,
    read_jpeg2000_header,
    read_jpeg_header,
)
from core.imaging.dicom.grey_scale import (
    FUNCTIONS,
    LookupTable,
    apply_window,
    is_usable,
    rescale,
    robust_window,
    through_table,
)
from core.imaging.dicom.header import (
    JPEG,
    JPEG_2000,
    JPEG_EXTENDED,
    NATIVE,
    RLE,
    Geometry,
    read_geometry,
    read_header,
    read_pixel_elements,
)
from core.types import Modality, Window

_PLUGINS = {
    "1.2.840.10008.1.2.4.50": "pillow",
    JPEG_EXTENDED: "pillow",
    "1.2.840.10008.1.2.4.57": "gdcm",
    "1.2.840.10008.1.2.4.70": "gdcm",
    "1.2.840.10008.1.2.4.80": "pyjpegls",
    "1.2.840.10008.1.2.4.81": "pyjpegls",
    "1.2.840.10008.1.2.4.90": "pylibjpeg",
    "1.2.840.10008.1.2.4.91": "pylibjpeg",
}
_TRUNCATED = "The pixel data of this DICOM file are cut short. Export it again from where it came from."


def read_dicom(stream: BinaryIO, *, limits: Limits, frame: int = 0, window: int | None = None) -> Decoded:
    """One frame of a DICOM file as a picture, with what its tags say.

    frame: which of several, from 0; ignored for a file with one. window: which of the file's windows, from 0; None
    takes the VOI LUT, else the first window, else the range of the picture.
    """
    header, syntax = read_header(stream)
    modality, warnings = tags.read_modality(header)
    geometry = read_geometry(header, limits)
    if geometry.frames == 1:
        frame = 0
    elif not 0 <= frame < geometry.frames:
        raise UnreadableImage(f"This file has {geometry.frames} frames; choose one from 0 to {geometry.frames - 1}.")
    header = tags.with_functional_groups(header, frame)
    decoded = Decoded(
        np.zeros((1, 1), np.float32),
        modality=modality,
        modality_source="tags" if modality else "unknown",
        frame=frame,
        n_frames=geometry.frames,
        warnings=warnings,
        tags=tags.kept_tags(header),
        patient=tags.read_patient(header),
        is_dicom=True,
    )
    _add_place(decoded, header)
    if geometry.frames > 1:
        decoded.warnings.append(frame_words(frame, geometry.frames))
    stored = decode_frame(read_pixel_elements(stream, header, syntax), syntax, geometry, frame)
    decoded.notes.append(f"decoded {syntax}")
    if geometry.photometric in ("MONOCHROME1", "MONOCHROME2"):
        _show_grey(decoded, header, stored, geometry, window)
    else:
        decoded.pixels = _show_colour(header, stored, geometry)
    return decoded


def _add_place(decoded: Decoded, header: Dataset) -> None:
    """Side, view, spacing and general warnings."""
    decoded.laterality, side_warnings = tags.read_laterality(header)
    decoded.spacing_mm, spacing_warnings = tags.read_spacing(header)
    decoded.warnings += [
        *side_warnings,
        *spacing_warnings,
        *tags.general_warnings(header, decoded.modality),
    ]
    if decoded.modality is Modality.MAMMOGRAPHY or decoded.modality is None:
        decoded.view = tags.read_view(header)


def decode_frame(dataset: Dataset, syntax: str, geometry: Geometry, frame: int) -> np.ndarray:
    """Stored values of one frame: integers, (H, W) or (H, W, 3) RGB, polarity and window untouched.

    Native data are measured and codestreams asked for their own size before anything is decoded.
    """
    if syntax in NATIVE:
        if len(dataset.PixelData) < geometry.frame_bytes * geometry.frames:
            raise UnreadableImage(_TRUNCATED)
    else:
        codestream = _codestream(dataset, geometry, frame)
        if syntax == RLE:
            return _decode_rle(codestream, geometry)
        _demand_same_size(codestream, syntax, geometry)
    shift = geometry.high_bit + 1 - geometry.bits_stored
    if shift and syntax in NATIVE:
        dataset.BitsStored = geometry.high_bit + 1
    options: dict[str, Any] = {} if syntax in NATIVE else {"decoding_plugin": _PLUGINS[syntax]}
    array, _ = get_decoder(syntax).as_array(dataset, index=frame, **options)
    return array >> shift if shift and syntax in NATIVE else array


def _codestream(dataset: Dataset, geometry: Geometry, frame: int) -> bytes:
    offsets = None
    if dataset.get("ExtendedOffsetTable") and dataset.get("ExtendedOffsetTableLengths"):
        offsets = (dataset.ExtendedOffsetTable, dataset.ExtendedOffsetTableLengths)
    return get_frame(dataset.PixelData, frame, number_of_frames=geometry.frames, extended_offsets=offsets)


def _demand_same_size(codestream: bytes, syntax: str, geometry: Geometry) -> None:
    header: CodecHeader
    if syntax in JPEG_2000:
        header = read_jpeg2000_header(codestream)
    else:
        assert syntax in JPEG
        header = read_jpeg_header(codestream)
    if syntax == JPEG_EXTENDED and header.precision != 8:
        raise UnreadableImage(
            "This DICOM file is compressed as 12-bit JPEG extended, which this product does not read. "
            "Export it uncompressed, or as lossless JPEG or JPEG 2000."
        )
    promised = (geometry.rows, geometry.columns, geometry.samples)
    if (header.rows, header.columns, header.samples) != promised or header.precision > geometry.bits_allocated:
        raise UnreadableImage(
            "The compressed picture in this file has another size than its header announces, so it is not decoded."
        )
    demand_end_marker(codestream)


def _decode_rle(codestream: bytes, geometry: Geometry) -> np.ndarray:
    """RLE byte planes to (H, W) or (H, W, 3) RGB (PS3.5 G.2: most significant byte of the first sample first)."""
    depth = geometry.bits_allocated // 8
    shape = (geometry.rows, geometry.columns)
    planes = decode_rle(codestream, planes=geometry.samples * depth, plane_bytes=shape[0] * shape[1])
    samples: list[Any] = []
    for first in range(0, len(planes), depth):
        values: Any = np.frombuffer(planes[first], np.uint8).astype(np.uint16 if depth == 2 else np.uint8)
        if depth == 2:
            values = (values << 8) | np.frombuffer(planes[first + 1], np.uint8)
        samples.append(values.reshape(shape))
    if geometry.samples == 3:
        colour = np.stack(samples, -1)
        return convert_color_space(colour, "YBR_FULL", "RGB") if geometry.photometric == "YBR_FULL" else colour
    unused = geometry.bits_allocated - geometry.bits_stored
    above = geometry.bits_allocated - 1 - geometry.high_bit
    grey = samples[0] << above
    if geometry.is_signed:
        grey = grey.view(np.int16 if depth == 2 else np.int8)
    return grey >> unused


def _show_grey(decoded: Decoded, header: Dataset, stored: np.ndarray, geometry: Geometry, index: int | None) -> None:
    """Modality transform, VOI, polarity: fills pixels, windows, notes and warnings of `decoded`."""
    to_units, unit_note = _modality_transform(header, geometry)
    is_padding = _padding(header, stored)
    decoded.windows, window_warnings = read_windows(header)
    decoded.warnings += window_warnings
    if index is not None and decoded.windows and not 0 <= index < len(decoded.windows):
        raise UnreadableImage(f"This file offers {len(decoded.windows)} windows; choose one from 0.")
    table = _voi_table(header, geometry) if index is None else None
    if table is not None:
        top = float((1 << table.bits) - 1)
        pixels = through_table(stored, lambda values: np.clip(table.apply(to_units(values)) / top, 0, 1))
        voi_note = "VOI LUT of the file"
    elif decoded.windows:
        decoded.window_index = index or 0
        chosen = decoded.windows[decoded.window_index]
        pixels = through_table(stored, lambda values: apply_window(to_units(values), chosen))
        voi_note = f"window {decoded.window_index + 1} of {len(decoded.windows)} ({chosen.function})"
    if (table is None and not decoded.windows) or (pixels.min() == pixels.max() and stored.min() < stored.max()):
        if table is not None or decoded.windows:
            decoded.warnings.append("The window in this file shows nothing of the picture; its full range is shown.")
        decoded.window_index = None
        units = to_units(stored)
        whole = robust_window(units, is_padding)
        pixels = apply_window(units, whole).astype(np.float32)
        voi_note = "no usable window in the file: range of the picture"
    decoded.notes += [unit_note, voi_note] if unit_note else [voi_note]
    if geometry.photometric == "MONOCHROME1":
        pixels = 1 - pixels
        decoded.notes.append("MONOCHROME1 inverted")
    if is_padding is not None:
        pixels[is_padding] = 0
        decoded.notes.append("padding shown black")
    decoded.pixels = np.clip(pixels, 0, 1)


def _modality_transform(header: Dataset, geometry: Geometry) -> tuple[Any, str]:
    luts = header.get("ModalityLUTSequence") or []
    if luts:
        table = _lookup_table(luts[0], is_signed=geometry.is_signed)
        return table.apply, "modality LUT"
    slope, intercept = (_number(header, "RescaleSlope", 1.0), _number(header, "RescaleIntercept", 0.0))
    rescale(np.zeros(1), slope, intercept)  # refuses before anything is multiplied
    note = "" if (slope, intercept) == (1.0, 0.0) else "rescale slope and intercept"
    return lambda values: rescale(values, slope, intercept), note


def _voi_table(header: Dataset, geometry: Geometry) -> LookupTable | None:
    luts = header.get("VOILUTSequence") or []
    return _lookup_table(luts[0], is_signed=geometry.is_signed) if luts else None


def _lookup_table(item: Dataset, *, is_signed: bool) -> LookupTable:
    descriptor = item.get("LUTDescriptor")
    if descriptor is None or len(descriptor) != 3 or item.get("LUTData") is None:
        raise UnreadableImage("A lookup table in this file is damaged. Export the picture again.")
    return LookupTable(descriptor, item.get("LUTData"), is_signed=is_signed)


def _number(header: Dataset, keyword: str, default: float) -> float:
    value = header.get(keyword)
    if value is None or value == "":
        return default
    try:
        return float(value)
    except (TypeError, ValueError):
        return float("nan")


def read_windows(header: Dataset) -> tuple[tuple[Window, ...], list[str]]:
    """The usable windows of the header in their order, and a warning where one was left out."""
    centers, widths = (_list(header.get(keyword)) for keyword in ("WindowCenter", "WindowWidth"))
    names = _list(header.get("WindowCenterWidthExplanation"))
    function = tags.text_of(header, "VOILUTFunction") or "LINEAR"
    warnings = []
    if function not in FUNCTIONS:
        warnings.append("The file asks for a VOI function that DICOM does not define; LINEAR is used.")
        function = "LINEAR"
    windows = []
    for position, (center, width) in enumerate(zip(centers, widths, strict=False)):
        try:
            window = Window(float(center), float(width), function, "")
        except (TypeError, ValueError):
            continue
        if is_usable(window):
            name = clean_text(names[position], 32) if position < len(names) else ""
            windows.append(Window(window.center, window.width, function, name))
    if len(windows) < max(len(centers), len(widths)):
        warnings.append("A window in this file cannot be used (its width or center is no usable number).")
    return tuple(windows[:16]), warnings


def _list(value: Any) -> list[Any]:
    if value is None or value == "":
        return []
    return list(value) if isinstance(value, (list, tuple, MultiValue)) else [value]


def _padding(header: Dataset, stored: np.ndarray) -> np.ndarray | None:
    """Where pixels are padding (PS3.3 C.7.5.1.1.2), or None; a value that covers everything is not believed."""
    low = _number(header, "PixelPaddingValue", float("nan"))
    if not np.isfinite(low):
        return None
    high = _number(header, "PixelPaddingRangeLimit", low)
    high = high if np.isfinite(high) else low
    is_padding = (stored >= min(low, high)) & (stored <= max(low, high))
    return is_padding if 0 < np.count_nonzero(is_padding) < 0.98 * stored.size else None


def _show_colour(header: Dataset, stored: np.ndarray, geometry: Geometry) -> np.ndarray:
    """RGB float32 (H, W, 3) in [0, 1] from RGB, YBR (already RGB here) or a palette."""
    if geometry.photometric != "PALETTE COLOR":
        return stored.astype(np.float32) / float((1 << geometry.bits_stored) - 1)
    has_palette = "RedPaletteColorLookupTableDescriptor" in header and (
        "RedPaletteColorLookupTableData" in header or "SegmentedRedPaletteColorLookupTableData" in header
    )
    if not has_palette:
        raise UnreadableImage("This DICOM file says that its colours come from a palette, but it holds no palette.")
    rgb = apply_color_lut(stored, header)
    return rgb.astype(np.float32) / float(np.iinfo(rgb.dtype).max)
