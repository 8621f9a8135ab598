"""A picture with its marks burnt in: a Secondary Capture image (PS3.3 A.8.1), for workplaces that show no overlay.

Under the picture stands what the marks are, what kind of read it is, and that it is for research only; nothing is drawn
over the breast but the marks and the label. It is smaller than the image and has no spacing, so nothing is measured on
it by mistake.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np
from PIL import Image as Raster
from PIL import ImageDraw, ImageFont

from core.archive.results.content import ResultContent, ResultImage
from core.archive.results.dicom_object import (
    MANUFACTURER,
    RESEARCH_ONLY,
    UNVERIFIED,
    MarkedPlace,
    marked_places,
    read_kind_text,
    reference,
    replaced_instances,
    settle,
    source_dataset,
)
from core.findings.finding import description_of
from core.reports import content as words
from core.reports.content import ReportImage
from core.reports.fonts import FONTS
from core.reports.pictures import marked_picture
from core.types import LATERALITIES, SIDE_NOT_STATED, Image

if TYPE_CHECKING:
    from pydicom.dataset import Dataset

SECONDARY_CAPTURE = "1.2.840.10008.5.1.4.1.1.7"
LONGEST_PX = 2048
"""Longest side of the picture: enough to see which structure is meant; the image itself is beside it."""
NOTHING_MARKED = "No finding is marked on this image."


def secondary_capture(
    content: ResultContent, image: ResultImage, picture: Image, *, series_uid: str, uid: str
) -> Dataset:
    """The object (explicit VR little endian, 8 bits, grey or RGB as the picture is), with its file meta information.

    picture: the image itself, with its pixels.
    """
    import highdicom as hd

    shown = _with_caption(content, image, picture)
    study = content.study
    found = hd.sc.SCImage(
        pixel_array=shown, photometric_interpretation="RGB" if shown.ndim == 3 else "MONOCHROME2", bits_allocated=8,
        coordinate_system="PATIENT", patient_orientation=("L", "F"), study_instance_uid=study["StudyInstanceUID"],
        series_instance_uid=series_uid, series_number=9003, sop_instance_uid=uid, instance_number=image.position + 1,
        manufacturer=MANUFACTURER, patient_id=study["PatientID"],
    )  # fmt: skip
    source = source_dataset(content, image)
    for keyword in content.study:
        setattr(found, keyword, source.get(keyword))
    found.PatientOrientation = image.display.get("orientation") or []  # highdicom takes no "not known"
    found.Laterality = image.breast if image.breast in LATERALITIES else ""
    found.ImageType = ["DERIVED", "SECONDARY"]
    found.DerivationDescription = f"Marks of the {read_kind_text(content)} burnt in. {RESEARCH_ONLY}."
    found.SourceImageSequence = [_reference(image)]
    if "BurnedInAnnotation" in picture.tags:
        found.BurnedInAnnotation = picture.tags["BurnedInAnnotation"]
    if content.predecessors:
        found.ReferencedInstanceSequence = replaced_instances(content, SECONDARY_CAPTURE)
    settle(found, content)
    return found


def _reference(image: ResultImage) -> Dataset:
    frame = {"ReferencedFrameNumber": image.frame + 1} if image.n_frames > 1 else {}
    return reference(image.tags["SOPClassUID"], image.tags["SOPInstanceUID"], **frame)


def _with_caption(content: ResultContent, image: ResultImage, picture: Image) -> np.ndarray:
    """uint8 (H, W) or (H, W, 3): the marked picture above its caption."""
    places = marked_places(content, image)
    side = "" if image.breast == SIDE_NOT_STATED else image.breast
    item = ReportImage(label=" ".join(part for part in (side, image.view) if part), image=picture)
    raster = marked_picture(item, [(str(place.number), place.mark) for place in places], LONGEST_PX)
    size = max(14, round(max(raster.size) / 60))
    font = ImageFont.truetype(str(FONTS / "DejaVuSansCondensed.ttf"), size)
    lines = [line for text in _caption(content, places) for line in _wrapped(text, font, raster.width - 2 * size)]
    whole = Raster.new("RGB", (raster.width, raster.height + round(1.4 * size * len(lines)) + size), "black")
    whole.paste(raster)
    draw = ImageDraw.Draw(whole)
    for number, line in enumerate(lines):
        draw.text((size, raster.height + size // 2 + round(1.4 * size * number)), line, font=font, fill="white")
    return np.asarray(whole if picture.is_colour else whole.convert("L"))


def _caption(content: ResultContent, places: Sequence[MarkedPlace]) -> list[str]:
    read = "Final read" if content.is_verified else f"{UNVERIFIED}: first impression"
    found = [f"{RESEARCH_ONLY}.", f"{MANUFACTURER}. {read} of {words.when(content.read_at)}."]
    if content.predecessors:
        found.append("Replaces an earlier picture of this image with marks.")
    findings = {place.number: place.finding for place in places}
    found += [f"{number}  {description_of(finding)}" for number, finding in findings.items()]
    return found if findings else [*found, NOTHING_MARKED]


def _wrapped(text: str, font: ImageFont.FreeTypeFont, width: float) -> list[str]:
    """Lines no wider than `width`, broken at blanks; a word that is wider stands alone."""
    lines = [""]
    for word in text.split():
        longer = f"{lines[-1]} {word}".strip()
        if lines[-1] and font.getlength(longer) > width:
            lines.append(word)
        else:
            lines[-1] = longer
    return lines
