"""The outlines that a reader drew on an image: a binary Segmentation (PS3.3 A.51), made with highdicom.

Only outlines: an ellipse says where something is, not which pixels belong to it.
"""

from __future__ import annotations

import warnings
from typing import TYPE_CHECKING, Any

import numpy as np

from core.archive.results.content import ResultContent, ResultImage
from core.archive.results.dicom_object import (
    BREAST,
    LESION,
    Coded,
    MarkedPlace,
    code,
    equipment,
    marked_places,
    person_name,
    read_kind_text,
    replaced_instances,
    settle,
    source_dataset,
)
from core.findings.marks import mask_of
from core.version import version

if TYPE_CHECKING:
    from pydicom.dataset import Dataset

SEGMENTATION = "1.2.840.10008.5.1.4.1.1.66.4"
ABNORMAL: Coded = ("49755003", "SCT", "Morphologically Abnormal Structure")
_OF_ONE_FRAME = "1.2.840.10008.5.1.4.1.1.6.1"
INTELLIGENCE: Coded = ("123109", "DCM", "Artificial Intelligence")


def segmentation(content: ResultContent, image: ResultImage, site_key: bytes, *, series_uid: str, uid: str) -> Dataset:
    """The object (explicit VR little endian), with its file meta information: a segment for each outline, in the pixel
    matrix of the image. Without an outline, where one is taken back, a single segment that is empty.
    """
    import highdicom as hd

    source = source_dataset(content, image)
    places = [place for place in marked_places(content, image) if place.mark.kind == "outline"]
    masks = [mask_of(place.mark, source.Rows, source.Columns) for place in places]
    pixels = np.zeros((1, source.Rows, source.Columns, max(1, len(masks))), np.uint8)
    for number, mask in enumerate(masks):
        pixels[0, ..., number] = mask
    if image.n_frames > 1:  # one frame is meant; without a frame of reference highdicom takes images of one alone
        source.SOPClassUID = _OF_ONE_FRAME
        del source.NumberOfFrames
    segments = [_segment(hd, content, site_key, number, place) for number, place in enumerate(places or [None], 1)]
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # they repeat names of people
        found = hd.seg.Segmentation(
            source_images=[source], pixel_array=pixels, segmentation_type="BINARY",
            segment_descriptions=segments, series_instance_uid=series_uid, series_number=9005, sop_instance_uid=uid,
            instance_number=image.position + 1,
            content_label="FINDINGS" if content.is_verified else "PRELIMINARY",
            content_description=f"Outlines of the {read_kind_text(content)}" if places else
            f"No outline{' any more' if content.predecessors else ''}",
            content_creator_name=person_name(content.reader), omit_empty_frames=False, **equipment(content),
        )  # fmt: skip
    if image.n_frames > 1:
        _name_frame(found, image)
    found.PatientOrientation = image.display.get("orientation") or ""
    if content.predecessors:
        found.ReferencedInstanceSequence = replaced_instances(content, SEGMENTATION)
    settle(found, content)
    return found


def _segment(hd: Any, content: ResultContent, site_key: bytes, number: int, place: MarkedPlace | None) -> Any:
    said: dict[str, Any] = {"segment_label": "No outline", "algorithm_type": "MANUAL"}
    if place is not None:
        said["segment_label"] = f"{place.label}: {place.finding.type}"[:64]
        said |= {"tracking_id": place.label, "tracking_uid": place.tracking_uid(content, site_key)}
        proposed = next((one for one in content.accepted if one.mark == place.mark), None)
        if proposed is not None:
            said |= {
                "algorithm_type": "SEMIAUTOMATIC",
                "algorithm_identification": hd.AlgorithmIdentificationSequence(
                    name=proposed.model_id, family=code(hd, INTELLIGENCE),
                    version=f"{version()} with weights {proposed.weights_sha256[:8]}",
                ),
            }  # fmt: skip
    return hd.seg.SegmentDescription(
        segment_number=number, segmented_property_category=code(hd, ABNORMAL), segmented_property_type=code(hd, LESION),
        anatomic_regions=[code(hd, BREAST)], **said,
    )  # fmt: skip


def _name_frame(found: Dataset, image: ResultImage) -> None:
    """Say of what class the source really is, and which frame of it is meant."""
    series = found.ReferencedSeriesSequence[0].ReferencedInstanceSequence
    frames = [
        source
        for frame in found.PerFrameFunctionalGroupsSequence
        for derived in frame.get("DerivationImageSequence", ())
        for source in derived.SourceImageSequence
    ]
    for item in (*series, *frames):
        item.ReferencedSOPClassUID = image.tags["SOPClassUID"]
    for item in frames:
        item.ReferencedFrameNumber = image.frame + 1
