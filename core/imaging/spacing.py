"""What a distance measured on a picture means: which spacing of the file it stands on."""

from __future__ import annotations

from core.types import Image, Modality

_CLOSE = 0.005


def spacing_statement(image: Image) -> str:
    """One sentence for the reader who measures; `core.imaging.dicom.tags.read_spacing` chose (PS3.3 10.7.1.3)."""
    if image.spacing_mm is None:
        return "The file states no spacing that can be used, so distances are in pixels."
    imager, patient = _pair(image, "ImagerPixelSpacing"), _pair(image, "PixelSpacing")
    is_at_detector = imager is not None and (patient is None or _is_close(patient, imager))
    if imager is not None and is_at_detector and not _is_close(image.spacing_mm, imager):
        factor = imager[0] / image.spacing_mm[0]
        return f"Millimetres in the breast: ImagerPixelSpacing divided by the file's magnification of {factor:.3g}."
    if is_at_detector:
        return (
            "Millimetres at the detector (ImagerPixelSpacing); the file states no magnification, so sizes in the "
            "breast are somewhat smaller."
        )
    if patient is not None:
        return "Millimetres by the file's PixelSpacing."
    if image.modality is Modality.ULTRASOUND:
        return "Millimetres by the calibrated region of the ultrasound image."
    return "Millimetres by the spacing that the file states."


def _pair(image: Image, keyword: str) -> tuple[float, float] | None:
    try:
        row, column = (float(part) for part in image.tags.get(keyword, "").split("\\"))
    except ValueError:
        return None
    return row, column


def _is_close(one: tuple[float, float], other: tuple[float, float]) -> bool:
    return all(abs(a - b) <= _CLOSE * max(abs(a), abs(b)) for a, b in zip(one, other, strict=True))
