"""The marks of a read over an image: a Softcopy Presentation State (PS3.3 A.33.1 of grey, A.33.2 of colour images).

A presentation state takes the place of all that the image says of how it is shown, so its modality transform, window or
table and polarity are those of the file, the ones that SecondRead shows it with.
"""

from __future__ import annotations

import warnings
from base64 import b64decode
from collections.abc import Mapping
from fractions import Fraction
from typing import TYPE_CHECKING, Any

import numpy as np

from core.archive.results.content import ResultContent, ResultImage
from core.archive.results.dicom_object import (
    RESEARCH_ONLY,
    UNVERIFIED,
    equipment,
    marked_places,
    person_name,
    read_kind_text,
    replaced_series,
    settle,
    source_dataset,
)
from core.archive.results.structured_report import region_of
from core.errors import NotFound
from core.types import LATERALITIES

if TYPE_CHECKING:
    from pydicom.dataset import Dataset

GREY_STATE = "1.2.840.10008.5.1.4.1.1.11.1"
COLOUR_STATE = "1.2.840.10008.5.1.4.1.1.11.2"
LAYER = "FINDINGS"
NOTE_LAYER = "NOTE"


def presentation_state(
    content: ResultContent, image: ResultImage, site_key: bytes, *, series_uid: str, uid: str
) -> Dataset:
    """The object (explicit VR little endian), with its file meta information; graphics in pixels of the file.

    Raises NotFound for an image that came before its way of display was stored with it.
    """
    import highdicom as hd

    display = image.display
    if not display:
        raise NotFound(
            "This image came before SecondRead stored how a file is shown, so its marks go in the other forms only."
        )
    source = _source(content, image, display)
    is_grey = display["samples"] == 1 and display["photometric"] != "PALETTE COLOR"
    layers = [
        hd.pr.GraphicLayer(LAYER, 1, "Findings that the reader marked or accepted"),
        hd.pr.GraphicLayer(NOTE_LAYER, 2, "What this is"),
    ]
    state = hd.pr.GrayscaleSoftcopyPresentationState if is_grey else hd.pr.ColorSoftcopyPresentationState
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # they repeat names of people
        found = state(
            referenced_images=[source], series_instance_uid=series_uid, series_number=9004, sop_instance_uid=uid,
            instance_number=image.position + 1, content_label="FINDINGS" if content.is_verified else "PRELIMINARY",
            content_description=f"Marks of the {read_kind_text(content)}",
            content_creator_name=person_name(content.reader),
            graphic_layers=layers, graphic_annotations=_annotations(hd, content, image, site_key, source, layers),
            **equipment(content), **(_grey_display(hd, display) if is_grey else {"icc_profile": _icc_profile()}),
        )  # fmt: skip
    aspect = Fraction(image.aspect).limit_denominator(1000)
    found.DisplayedAreaSelectionSequence[0].PresentationPixelAspectRatio = [aspect.numerator, aspect.denominator]
    found.Laterality = image.breast if image.breast in LATERALITIES else ""
    if content.predecessors:
        found.RelatedSeriesSequence = replaced_series(content)
    settle(found, content)
    return found


def _source(content: ResultContent, image: ResultImage, display: Mapping[str, Any]) -> Dataset:
    source = source_dataset(content, image)
    source.SamplesPerPixel, source.PhotometricInterpretation = display["samples"], display["photometric"]
    return source


def _annotations(
    hd: Any, content: ResultContent, image: ResultImage, site_key: bytes, source: Dataset, layers: list[Any]
) -> list[Any]:
    """The graphics of each finding with its number and type beside it, and the model that drew it where the reader took
    a proposal as it was; and what the whole is."""
    drawn_by = {one.mark: one.model_id for one in content.accepted}
    on: dict[str, Any] = {"referenced_images": [source]}
    if image.n_frames > 1:
        on |= {"referenced_frame_number": image.frame + 1}
    found = []
    for place in marked_places(content, image):
        kind, points = region_of(place.mark)
        array = np.array(points, float)
        uid = place.tracking_uid(content, site_key)
        shape = hd.pr.GraphicObject(kind, array, "PIXEL", tracking_id=place.label, tracking_uid=uid)
        drawn = f", drawn by {drawn_by[place.mark]}" if place.mark in drawn_by else ""
        text = hd.pr.TextObject(
            f"{place.number} {place.finding.type}{drawn}", units="PIXEL",
            anchor_point=(float(array[:, 0].max()), float(array[:, 1].min())), anchor_point_visible=False,
            tracking_id=place.label, tracking_uid=uid,
        )  # fmt: skip
        found.append(
            hd.pr.GraphicAnnotation(**on, graphic_layer=layers[0], graphic_objects=[shape], text_objects=[text])
        )
    parts = [f"{RESEARCH_ONLY}.", "" if content.is_verified else f"{UNVERIFIED}."]
    parts += ["" if found else "No finding is marked on this image."]
    note = hd.pr.TextObject(
        " ".join(part for part in parts if part), units="DISPLAY", bounding_box=(0.0, 0.95, 1.0, 1.0),
        text_justification="LEFT",
    )  # fmt: skip
    return [*found, hd.pr.GraphicAnnotation(**on, graphic_layer=layers[1], text_objects=[note])]


def _grey_display(hd: Any, display: Mapping[str, Any]) -> dict[str, Any]:
    """Modality transform, VOI and polarity as highdicom takes them."""
    if display["modality_table"]:
        modality = hd.ModalityLUTTransformation(
            modality_lut=_table(hd.ModalityLUT, display["modality_table"], lut_type="US")
        )
    else:
        modality = hd.ModalityLUTTransformation(
            rescale_slope=display["slope"], rescale_intercept=display["intercept"], rescale_type="US"
        )
    found = {
        "modality_lut_transformation": modality,
        "presentation_lut_transformation": hd.PresentationLUTTransformation(
            presentation_lut_shape="INVERSE" if display["photometric"] == "MONOCHROME1" else "IDENTITY"
        ),
    }
    if display["voi_table"]:
        voi = hd.pr.SoftcopyVOILUTTransformation(
            voi_luts=[_table(hd.VOILUT, display["voi_table"], top=(1 << display["voi_table"]["bits"]) - 1)]
        )
    elif display["window"]:
        center, width, function = display["window"]
        voi = hd.pr.SoftcopyVOILUTTransformation(window_center=center, window_width=width, voi_lut_function=function)
    else:
        return found
    return found | {"voi_lut_transformations": [voi]}


def _table(kind: Any, table: Mapping[str, Any], *, top: int = 0xFFFF, **more: Any) -> Any:
    """top: the entry that is white, or as it is, of tables without one. A softcopy VOI table has entries of 16 bits
    (PS3.3 C.11.8), a file's own often 12, so they are spread over those."""
    entries = np.frombuffer(b64decode(table["entries"]), "<u2")
    spread = np.round(entries * (0xFFFF / top)).astype("<u2")
    item = kind(first_mapped_value=max(table["first"], 0), lut_data=spread, **more)
    if table["first"] < 0:  # highdicom makes no such table; what it begins with is signed then (C.11.2.1.1)
        item.add_new("LUTDescriptor", "SS", [len(spread) & 0xFFFF, table["first"], 16])
    return item


def _icc_profile() -> bytes:
    """sRGB, as an input profile, which is what an image has (PS3.3 C.11.15), and without the time it was made at."""
    from PIL import ImageCms

    profile = bytearray(ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")).tobytes())
    profile[12:16] = b"scnr"  # ICC.1:2022 7.2.5
    profile[24:36] = b"\x07\xea\0\x01\0\x01" + bytes(6)  # 7.2.8: 2026-01-01
    return bytes(profile)
