"""The door of the DICOM reader: transfer syntax first, then the header, then how large the picture says it is.

For a picture only the elements in `HEADER_TAGS` are ever parsed into values, so names and numbers of the patient (but
for PatientID and StudyInstanceUID, which are hashed) never exist in its process, unless whose picture it is was asked
for (`core.imaging.dicom.source`). A deflated file is refused before pydicom could inflate it.
"""

from __future__ import annotations

import struct
from collections.abc import Sequence
from dataclasses import dataclass
from io import BytesIO
from typing import TYPE_CHECKING, Any, BinaryIO

from core.errors import UnreadableImage
from core.imaging.decoded import Limits

if TYPE_CHECKING:
    from pydicom.dataset import Dataset

NATIVE = {
    "1.2.840.10008.1.2": "implicit little endian",
    "1.2.840.10008.1.2.1": "explicit little endian",
    "1.2.840.10008.1.2.2": "explicit big endian",
}
JPEG = {
    "1.2.840.10008.1.2.4.50": "JPEG baseline",
    "1.2.840.10008.1.2.4.51": "JPEG extended",
    "1.2.840.10008.1.2.4.57": "JPEG lossless",
    "1.2.840.10008.1.2.4.70": "JPEG lossless, first-order prediction",
    "1.2.840.10008.1.2.4.80": "JPEG-LS lossless",
    "1.2.840.10008.1.2.4.81": "JPEG-LS near-lossless",
}
JPEG_2000 = {
    "1.2.840.10008.1.2.4.90": "JPEG 2000 lossless",
    "1.2.840.10008.1.2.4.91": "JPEG 2000",
}
RLE = "1.2.840.10008.1.2.5"
DEFLATED = {"1.2.840.10008.1.2.1.99", "1.2.840.10008.1.2.8.1", "1.2.840.10008.1.2.4.95"}
TRANSFER_SYNTAXES = {**NATIVE, **JPEG, **JPEG_2000, RLE: "RLE lossless"}

# fmt: off
HEADER_TAGS = (
    "SOPClassUID", "Modality", "ImageType", "PresentationIntentType", "BodyPartExamined", "ViewPosition",
    "ImageLaterality", "Laterality", "PatientOrientation", "ViewCodeSequence", "AnatomicRegionSequence",
    "PixelSpacing", "ImagerPixelSpacing", "NominalScannedPixelSpacing", "EstimatedRadiographicMagnificationFactor",
    "SequenceOfUltrasoundRegions", "Manufacturer", "ManufacturerModelName", "KVP", "Exposure", "ExposureInuAs",
    "BodyPartThickness", "CompressionForce", "AnodeTargetMaterial", "FilterMaterial", "DetectorType",
    "AcquisitionDeviceProcessingDescription", "BurnedInAnnotation", "LossyImageCompression",
    "LossyImageCompressionRatio", "BreastImplantPresent", "PartialView", "TransducerData", "TransducerType",
    "ConversionType", "SamplesPerPixel", "PhotometricInterpretation", "PlanarConfiguration", "NumberOfFrames", "Rows",
    "Columns", "BitsAllocated", "BitsStored", "HighBit", "PixelRepresentation", "PixelPaddingValue",
    "PixelPaddingRangeLimit", "RescaleSlope", "RescaleIntercept", "ModalityLUTSequence", "WindowCenter",
    "WindowWidth", "WindowCenterWidthExplanation", "VOILUTFunction", "VOILUTSequence", "PresentationLUTShape",
    "RedPaletteColorLookupTableDescriptor", "GreenPaletteColorLookupTableDescriptor",
    "BluePaletteColorLookupTableDescriptor", "RedPaletteColorLookupTableData", "GreenPaletteColorLookupTableData",
    "BluePaletteColorLookupTableData", "SegmentedRedPaletteColorLookupTableData",
    "SegmentedGreenPaletteColorLookupTableData", "SegmentedBluePaletteColorLookupTableData",
    "SharedFunctionalGroupsSequence", "PerFrameFunctionalGroupsSequence", "PatientID", "IssuerOfPatientID",
    "PixelAspectRatio", "QualityControlImage", "QualityControlSubject", "CalibrationImage", "MaskSubtractionSequence",
    "SpecimenDescriptionSequence", "DerivationCodeSequence", "ViewModifierCodeSequence", "StudyInstanceUID",
    "StudyDate", "AcquisitionDate", "FrameTime", "CineRate", "RecommendedDisplayFrameRate", "AcquisitionTime",
    "ContentTime",
)
# fmt: on
_OVERLAYS = range(0x6000, 0x6020, 2)
_OVERLAY_BITS_ALLOCATED, _OVERLAY_BIT_POSITION = 0x0100, 0x0102
OVERLAY_TAGS = tuple(
    (group << 16) + element for group in _OVERLAYS for element in (_OVERLAY_BITS_ALLOCATED, _OVERLAY_BIT_POSITION)
)
"""Where graphics may lie in the unused bits of the pixels (PS3.5 8.1.2, PS3.3 C.9.2); they have no keywords."""
PIXEL_TAGS = ["PixelData", "BitsAllocated", "PixelRepresentation"]
"""PixelData, and what pydicom asks before it gives an implicit one its value representation."""

_LONG_FORM = {b"OB", b"OD", b"OF", b"OL", b"OV", b"OW", b"SQ", b"SV", b"UC", b"UN", b"UR", b"UT", b"UV"}
_META_LIMIT = 1 << 20
_MIN_SIDE = 32
_GREY = {"MONOCHROME1", "MONOCHROME2", "PALETTE COLOR"}
_COLOUR = {"RGB", "YBR_FULL", "YBR_FULL_422", "YBR_RCT", "YBR_ICT"}
_DELIMITER = b"\xfe\xff\xdd\xe0\0\0\0\0"


@dataclass(frozen=True, slots=True)
class Geometry:
    """How the pixels are stored, as the header says, checked against the limits. warnings: what had to be assumed.

    overlay_bits: the bits of a container that the header says to hold graphics, as a mask.
    """

    rows: int
    columns: int
    samples: int
    frames: int
    bits_allocated: int
    bits_stored: int
    high_bit: int
    is_signed: bool
    photometric: str
    planar: int = 0
    warnings: tuple[str, ...] = ()
    overlay_bits: int = 0

    @property
    def frame_bytes(self) -> int:
        pixels = self.rows * self.columns * (self.bits_allocated // 8)
        return pixels * 2 if self.photometric == "YBR_FULL_422" else pixels * self.samples


def read_transfer_syntax(stream: BinaryIO) -> str | None:
    """TransferSyntaxUID from the file meta group alone; None for a file that has no meta group at all.

    Reads group 0002 by hand (always explicit little endian, PS3.10 7.1) and refuses deflated and unknown syntaxes, so
    that nothing else of such a file is parsed.
    """
    stream.seek(0)
    head = stream.read(_META_LIMIT)
    has_preamble = head[128:132] == b"DICM"
    position = 132 if has_preamble else 0
    found: list[str] = []
    while head[position : position + 2] == b"\x02\x00" and position + 8 <= len(head):
        element = head[position + 2 : position + 4]
        if head[position + 4 : position + 6] in _LONG_FORM:
            length, start = int.from_bytes(head[position + 8 : position + 12], "little"), position + 12
        else:
            length, start = int.from_bytes(head[position + 6 : position + 8], "little"), position + 8
        if element == b"\x10\x00":
            found.append(head[start : start + min(length, 64)].rstrip(b"\0 ").decode("ascii", "replace"))
        position = start + length
    if not found and not has_preamble and position == 0:
        return None
    if len(found) != 1:
        raise UnreadableImage("This DICOM file does not say how it is encoded (no transfer syntax). Export it again.")
    _require_known(found[0])
    return found[0]


def _require_known(syntax: str) -> None:
    if syntax in DEFLATED:
        raise UnreadableImage(
            "This DICOM file uses a deflated transfer syntax, which is not read here. "
            "Export it as explicit little endian or lossless JPEG."
        )
    if syntax not in TRANSFER_SYNTAXES:
        raise UnreadableImage(
            "This DICOM file uses a transfer syntax that is not read here. Read are uncompressed files, JPEG baseline, "
            "JPEG lossless, JPEG-LS, JPEG 2000 and RLE; export it as one of these."
        )


def read_header(stream: BinaryIO, keywords: Sequence[str] = HEADER_TAGS) -> tuple[Dataset, str]:
    """The elements of `keywords` and the transfer syntax; `UnreadableImage` when a DICOM file cannot be one."""
    from pydicom import dcmread

    syntax = read_transfer_syntax(stream)
    stream.seek(0)
    wanted: list[Any] = [*keywords, *OVERLAY_TAGS]
    try:
        header = dcmread(stream, stop_before_pixels=True, specific_tags=wanted, force=True)
    except RecursionError:
        raise UnreadableImage("This DICOM file nests its elements too deeply to be a picture.") from None
    except (struct.error, EOFError, ValueError, KeyError, TypeError, AttributeError, NotImplementedError):
        raise UnreadableImage(
            "This DICOM file is damaged or cut short. Export it again from where it came from."
        ) from (None)
    if syntax is None:
        implicit, little = header.original_encoding
        syntax = "1.2.840.10008.1.2" + ("" if implicit else ".1" if little else ".2")
    return header, syntax


def read_pixels(stream: BinaryIO, syntax: str) -> tuple[bytes, str, list[str]]:
    """PixelData, its value representation, and warnings; refuses a file whose pixels are missing or cut off."""
    pixels = _pixel_elements(stream)
    warnings = []
    if not pixels.get("PixelData") and syntax not in NATIVE:
        stream.seek(0)
        pixels = _pixel_elements(BytesIO(stream.read() + _DELIMITER))
        warnings.append("The file ends without the mark that its pixel data end; it was read as if it had one.")
    data = pixels.get("PixelData")
    if not data or not isinstance(data, bytes):
        raise UnreadableImage("This DICOM file holds no picture (no pixel data).")
    return data, str(pixels["PixelData"].VR), warnings


def _pixel_elements(stream: BinaryIO) -> Dataset:
    from pydicom import dcmread

    stream.seek(0)
    try:
        return dcmread(stream, specific_tags=list(PIXEL_TAGS), force=True)
    except (struct.error, EOFError, ValueError, KeyError, TypeError, AttributeError, NotImplementedError):
        raise UnreadableImage("The pixel data of this DICOM file are damaged or cut short. Export it again.") from None


def read_geometry(header: Dataset, limits: Limits) -> Geometry:
    """Rows, columns, samples, frames and bits, each believable and within `limits`.

    Elements that are missing take the value that the others leave them; where that could be wrong, a warning says so.
    """
    if "Rows" not in header or "Columns" not in header:
        raise UnreadableImage("This DICOM file holds no picture (no rows and columns); it may be a report or an index.")
    rows, columns = whole_number(header, "Rows"), whole_number(header, "Columns")
    photometric, warnings = _photometric(header)
    samples = whole_number(header, "SamplesPerPixel", 3 if photometric in _COLOUR else 1)
    frames = whole_number(header, "NumberOfFrames", 1) or 1
    bits_allocated = whole_number(header, "BitsAllocated")
    bits_stored = whole_number(header, "BitsStored", bits_allocated)
    high_bit = whole_number(header, "HighBit", bits_stored - 1)
    if rows < _MIN_SIDE or columns < _MIN_SIDE:
        raise UnreadableImage(
            f"The picture in this file has fewer than {_MIN_SIDE} rows or columns, too few for an image of a breast."
        )
    if bits_allocated in (8, 16) and not 0 < bits_stored <= bits_allocated:
        raise UnreadableImage(
            f"The header of this DICOM file says that {bits_stored} bits are stored in {bits_allocated}, so its pixels "
            "cannot be read. Export it again."
        )
    if bits_allocated not in (8, 16) or bits_stored == 1:
        held = bits_stored if bits_allocated in (8, 16) else bits_allocated
        raise UnreadableImage(
            f"This DICOM file stores its samples in {held} {'bit' if held == 1 else 'bits'}; 8 or 16 bits are read. "
            "Export it in one of these."
        )
    if high_bit >= bits_allocated or samples not in (1, 3) or frames < 1:
        raise UnreadableImage("The header of this DICOM file contradicts itself, so its pixels cannot be read.")
    if high_bit < bits_stored - 1:
        warnings.append("The header's highest bit leaves no room for its bits; the lowest bits were read. Check it.")
        high_bit = bits_stored - 1
    geometry = Geometry(
        rows,
        columns,
        samples,
        frames,
        bits_allocated,
        bits_stored,
        high_bit,
        whole_number(header, "PixelRepresentation", 0) == 1,
        photometric or ("RGB" if samples == 3 else "MONOCHROME2"),
        int(whole_number(header, "PlanarConfiguration", 0) == 1),
        tuple(warnings),
        _overlay_bits(header, bits_allocated, range(high_bit + 1 - bits_stored, high_bit + 1)),
    )
    if rows * columns > limits.pixels or geometry.frame_bytes * frames > limits.unpacked_bytes:
        raise UnreadableImage(
            "The header of this DICOM file announces a picture larger than this site reads "
            f"({limits.pixels // 1_000_000} megapixels a frame, {limits.unpacked_bytes >> 20} MiB in all)."
        )
    return geometry


def _overlay_bits(header: Dataset, bits_allocated: int, stored: range) -> int:
    """The bits of a container that overlays lie in, as a mask: outside the stored ones, or it is no overlay."""
    mask = 0
    for group in _OVERLAYS:
        allocated, position = (
            header[group, element].value if (group, element) in header else None
            for element in (_OVERLAY_BITS_ALLOCATED, _OVERLAY_BIT_POSITION)
        )
        if allocated == bits_allocated and isinstance(position, int) and 0 <= position < bits_allocated:
            mask |= 0 if position in stored else 1 << position
    return mask


def _photometric(header: Dataset) -> tuple[str, list[str]]:
    """PhotometricInterpretation in the standard's spelling; "" where only the number of samples can say it."""
    value = header.get("PhotometricInterpretation") or ""
    values = {value} if isinstance(value, str) else set(value)  # written twice it says the same
    text = "_".join(str(next(iter(values))).strip("\0 ").upper().split()) if len(values) == 1 else "_OR_".join(values)
    if text:
        return text.replace("PALETTE_COLOR", "PALETTE COLOR").replace("MONOCHROME_", "MONOCHROME"), []
    if "RedPaletteColorLookupTableDescriptor" in header:
        return "PALETTE COLOR", []
    if whole_number(header, "SamplesPerPixel", 1) == 3:
        return "", []
    shape = str(header.get("PresentationLUTShape") or "").strip().upper()
    if shape in ("IDENTITY", "INVERSE"):
        return "MONOCHROME1" if shape == "INVERSE" else "MONOCHROME2", []
    return "", [
        "The file does not say whether high values are white (photometric interpretation); they are shown white. "
        "Check that the background is black."
    ]


def require_photometric(geometry: Geometry) -> None:
    """Raises `UnreadableImage` where nothing says how so many samples become grey or colour."""
    if geometry.photometric not in (_GREY if geometry.samples == 1 else _COLOUR):
        raise UnreadableImage(
            "This DICOM file does not say in a way this product reads how its samples become grey or colour "
            "(photometric interpretation). Export the grey-scale original instead."
        )


def whole_number(header: Dataset, keyword: str, default: int | None = None) -> int:
    value = header.get(keyword)
    if value is None or value == "":
        if default is None:
            raise UnreadableImage(f"The header of this DICOM file lacks {keyword}, so its pixels cannot be read.")
        return default
    try:
        return int(value)
    except (TypeError, ValueError, OverflowError):
        raise UnreadableImage(f"The header of this DICOM file holds no usable number as {keyword}.") from None
