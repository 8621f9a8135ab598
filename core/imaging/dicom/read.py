"""DICOM bytes to a picture: header, caps, one frame as stored values, grey scale or colour, and what the tags say.

Runs inside the decoding process (`core.imaging.decode_process`); nothing here is safe against a hostile file without
that process's limits.
"""

from __future__ import annotations

import logging
import struct
from collections.abc import Callable, Iterator
from typing import BinaryIO
from warnings import catch_warnings, simplefilter

import numpy as np
from pydicom.dataset import Dataset
from pydicom.errors import BytesLengthException, InvalidDicomError

from core.errors import UnreadableImage
from core.imaging.decoded import Decoded, Limits, frame_warning
from core.imaging.dicom import tags
from core.imaging.dicom.frame import read_frame
from core.imaging.dicom.grey_scale import lookup_table, segmented_table, show_grey
from core.imaging.dicom.header import Geometry, read_geometry, read_header, read_pixels
from core.imaging.dicom.views import labelled_side, read_view
from core.types import Modality

_OF_LIBRARIES = (
    ArithmeticError,
    AssertionError,
    AttributeError,
    BufferError,
    BytesLengthException,
    EOFError,
    InvalidDicomError,
    LookupError,
    NotImplementedError,
    OSError,
    RuntimeError,
    SyntaxError,
    TypeError,
    ValueError,
    struct.error,
)
"""What pydicom and the decoders raise on data that their authors did not expect."""
logging.getLogger("pydicom").setLevel(logging.CRITICAL + 1)
_DAMAGED = "This DICOM file is damaged, or not written as DICOM asks, so it cannot be read. Export it again."
_COLOURS = ("Red", "Green", "Blue")
_REGIONS_MOST = 32
"""A file that names more than any machine draws: the others count as outside."""


def read_dicom(stream: BinaryIO, *, limits: Limits, frame: int = 0, window: int | None = None) -> Decoded:
    """One frame of a DICOM file as a picture, with what its tags say. Raises `UnreadableImage` and nothing else.

    frame: which of several, from 0; ignored for a file with one. window: which of the file's windows, from 0; None
    takes the VOI LUT, else the first window, else 8 bits as stored, else the range of the picture.
    """
    try:
        with catch_warnings():
            simplefilter("ignore")  # they, and pydicom's log, repeat what stands in the file
            return _read(stream, limits, frame, window)
    except _OF_LIBRARIES as error:
        raise UnreadableImage(_DAMAGED) from error


def read_frames(stream: BinaryIO, *, limits: Limits, window: int | None = None) -> Iterator[np.ndarray]:
    """Every frame of a DICOM file in its order, as `read_dicom` gives the pixels of one. Raises `UnreadableImage`."""
    try:
        with catch_warnings():
            simplefilter("ignore")
            header, syntax = read_header(stream)
            geometry = read_geometry(header, limits)
            pixel_data = read_pixels(stream, syntax)
            for frame in range(geometry.frames):
                yield _decoded(header, syntax, geometry, lambda: pixel_data, frame, window).pixels
    except _OF_LIBRARIES as error:
        raise UnreadableImage(_DAMAGED) from error


def _read(stream: BinaryIO, limits: Limits, frame: int, window: int | None) -> Decoded:
    header, syntax = read_header(stream)
    geometry = read_geometry(header, limits)
    if geometry.frames == 1:
        frame = 0
    elif not 0 <= frame < geometry.frames:
        raise UnreadableImage(f"This file has {geometry.frames} frames; choose one from 0 to {geometry.frames - 1}.")
    return _decoded(header, syntax, geometry, lambda: read_pixels(stream, syntax), frame, window)


def _decoded(
    header: Dataset,
    syntax: str,
    geometry: Geometry,
    read: Callable[[], tuple[bytes, str, list[str]]],
    frame: int,
    window: int | None,
) -> Decoded:
    modality, warnings = tags.read_modality(header)
    header = tags.with_functional_groups(header, frame)
    decoded = Decoded(
        np.zeros((1, 1), np.float32),
        modality=modality,
        modality_source="tags" if modality else "unknown",
        frame=frame,
        n_frames=geometry.frames,
        warnings=[*warnings, *geometry.warnings],
        tags=tags.allowed_tags(header),
        patient=tags.read_patient(header),
        exam=tags.read_exam(header),
        taken_on=tags.read_taken_on(header),
        regions=tags.calibrated_regions(header, geometry.rows, geometry.columns)[:_REGIONS_MOST],
    )
    _add_place(decoded, header)
    if geometry.frames > 1:
        decoded.warnings.append(frame_warning(frame, geometry.frames))
    data, vr, pixel_warnings = read()
    stored = read_frame(data, vr, syntax, geometry, frame)
    decoded.warnings += [*pixel_warnings, *stored.warnings]
    decoded.pixels_unknown = stored.not_scored
    decoded.notes.append(f"decoded {syntax}")
    if stored.geometry.samples == 1 and stored.geometry.photometric != "PALETTE COLOR":
        show_grey(decoded, header, stored.values, stored.geometry, window)
    else:
        decoded.pixels = _show_colour(header, stored.values, stored.geometry)
    return decoded


def _add_place(decoded: Decoded, header: Dataset) -> None:
    """Side, view, spacing and general warnings."""
    side = tags.read_laterality(header, labelled_side(header), decoded.frame)
    decoded.laterality, decoded.needs_side = side.name, side.is_open
    decoded.spacing_mm, spacing_warnings = tags.read_spacing(header, decoded.frame)
    decoded.pixel_aspect, aspect_warnings = tags.read_aspect(header)
    decoded.warnings += [
        *side.warnings,
        *spacing_warnings,
        *(tags.strip_warnings(header) if decoded.spacing_mm else []),
        *aspect_warnings,
        *tags.grey_scale_warnings(header, decoded.frame),
        *tags.general_warnings(header, decoded.modality),
    ]
    if decoded.modality is Modality.MAMMOGRAPHY or decoded.modality is None:
        view = read_view(header, is_stack=decoded.n_frames > 1)
        decoded.view, decoded.view_modifiers = view.name, view.modifiers
        decoded.not_scored, decoded.is_scored_alone = view.not_scored, view.is_alone
        decoded.warnings += view.warnings


def _show_colour(header: Dataset, stored: np.ndarray, geometry: Geometry) -> np.ndarray:
    """RGB float32 (H, W, 3) in [0, 1] from RGB or a palette."""
    if geometry.samples == 3:
        return stored.astype(np.float32) / float((1 << geometry.bits_stored) - 1)
    is_segmented = "SegmentedRedPaletteColorLookupTableData" in header
    has_data = is_segmented or "RedPaletteColorLookupTableData" in header
    if "RedPaletteColorLookupTableDescriptor" not in header or not has_data:
        raise UnreadableImage("This DICOM file says that its colours come from a palette, but it holds no palette.")
    signed = geometry.is_signed
    if is_segmented:
        tables = [segmented_table(header, colour, is_signed=signed) for colour in _COLOURS]
    else:
        tables = [lookup_table(header, f"{colour}PaletteColorLookupTable", is_signed=signed) for colour in _COLOURS]
    for table in tables:
        table.settle_depth(8)  # entries of 8 bits may lie in words, whatever the descriptor says
    top = float((1 << max(table.bits for table in tables)) - 1)
    return np.stack([table.apply(stored) / top for table in tables], axis=-1).astype(np.float32)
