"""A final read as a DICOM structured report: TID 1500 "Measurement Report" (PS3.16), made with highdicom.

Of each model, breast by breast and image by image: the probability of cancer, with the algorithm's name, version and
the sha256 of its weights. Of the reader: the BI-RADS assessment of each breast and the density, coded, verified by
whom and when, and each finding, where it is and in which words. Each group names its own observer (TID 1002), device or
person, and a length says what measured it. The same read gives the same object, byte by byte, whenever it is made
while the cards of its models say the same.
"""

from __future__ import annotations

import warnings
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from core.archive.results.content import ImageAnswer, ResultContent, ResultImage, uid_of
from core.archive.results.dicom_object import (
    BREAST,
    LESION,
    MANUFACTURER,
    RESEARCH_ONLY,
    SELECTED_REGION,
    Coded,
    MarkedPlace,
    code,
    dataset_of,
    marked_places,
    person_name,
    predecessor_documents,
    settle,
    source_dataset,
)
from core.archive.results.finding_codes import OWN_SCHEME, descriptor_codes, type_code
from core.findings.finding import description_of
from core.findings.marks import Mark
from core.findings.proposals import Proposal
from core.models.aggregate import BreastScore
from core.types import Modality
from core.version import version

if TYPE_CHECKING:
    from pydicom.dataset import Dataset

ASSESSMENT: Coded = ("111005", "DCM", "Assessment Category")
ASSESSMENTS: Mapping[str, Coded] = {
    "0": ("397138000", "SCT", "0 - Incomplete - Need additional imaging evaluation +/- priors"),
    "1": ("397140005", "SCT", "1 - Negative"),
    "2": ("397141009", "SCT", "2 - Benign"),
    "3": ("397143007", "SCT", "3 - Probably Benign"),
    "4A": ("MA.II.A.5.4A", "BI", "4A - Low suspicion"),
    "4B": ("MA.II.A.5.4B", "BI", "4B - Intermediate suspicion"),
    "4C": ("MA.II.A.5.4C", "BI", "4C - Moderate suspicion"),
    "5": ("397145000", "SCT", "5 - Highly suggestive of malignancy"),
    "6": ("MA.II.A.5.6", "BI", "6 - Known biopsy proven malignancy"),
}
"""PS3.16 CID 6027 "Assessment from BI-RADS"; the codes of BI are of version 4.0."""
COMPOSITION: Coded = ("111006", "DCM", "Breast composition")
COMPOSITIONS: Mapping[str, Coded] = {
    "A": ("129716005", "SCT", "Almost entirely fat"),
    "B": ("129717001", "SCT", "Scattered fibroglandular densities"),
    "C": ("129718006", "SCT", "Heterogeneously dense"),
    "D": ("129719003", "SCT", "Extremely dense"),
}
"""PS3.16 CID 6000 "Overall Breast Composition"."""
PROBABILITY: Coded = ("111047", "DCM", "Probability of cancer")
PERCENT: Coded = ("%", "UCUM", "Percent")
MILLIMETRE: Coded = ("mm", "UCUM", "millimeter")
AXES: Mapping[str, Coded] = {
    "length": ("103339001", "SCT", "Long Axis"), "across": ("103340004", "SCT", "Short Axis"),
}  # fmt: skip
SIDES: Mapping[str, Coded] = {"R": ("24028007", "SCT", "Right"), "L": ("7771000", "SCT", "Left")}
PROCEDURES: Mapping[Modality, Coded] = {
    Modality.MAMMOGRAPHY: ("71651007", "SCT", "Mammography"),
    Modality.ULTRASOUND: ("47079000", "SCT", "Ultrasonography of breast"),
    Modality.HISTOLOGY: ("252416005", "SCT", "Histopathology test"),
}
PERSON: Coded = ("121006", "DCM", "Person")
DEVICE: Coded = ("121007", "DCM", "Device")
COMMENT: Coded = ("121106", "DCM", "Comment")
COMPREHENSIVE_SR = "1.2.840.10008.5.1.4.1.1.88.33"


def structured_report(content: ResultContent, site_key: bytes, *, series_uid: str, uid: str) -> Dataset:
    """The object (Comprehensive SR Storage, explicit VR little endian), with its file meta information."""
    import highdicom as hd

    is_final = content.is_verified
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # they repeat names of people
        evidence = _evidence(content)
        report = hd.sr.MeasurementReport(
            observation_context=_observers(hd, content),
            procedure_reported=_procedures(hd, content),
            imaging_measurements=[
                *_of_models(hd, content, site_key),
                *_of_reader(hd, content, site_key),
                *_of_findings(hd, content, site_key),
            ],
            title=code(hd, ("126000", "DCM", "Imaging Measurement Report")),
        )
        found = hd.sr.ComprehensiveSR(
            evidence=evidence, content=report, series_instance_uid=series_uid, series_number=9001,
            sop_instance_uid=uid, instance_number=1, manufacturer=MANUFACTURER, is_complete=is_final, is_final=is_final,
            is_verified=is_final, institution_name=content.site_name or None,
            verifying_observer_name=person_name(content.reader) if is_final else None,
            verifying_organization=content.site_name or "not stated" if is_final else None,
        )  # fmt: skip
    if content.predecessors:
        found.PredecessorDocumentsSequence = predecessor_documents(content, COMPREHENSIVE_SR)
    _settle(found, content)
    return found


def _evidence(content: ResultContent) -> list[Dataset]:
    """Each object of the study once."""
    found: dict[str, Dataset] = {}
    for image in content.images:
        found.setdefault(image.tags["SOPInstanceUID"], source_dataset(content, image))
    return list(found.values())


def _observers(hd: Any, content: ResultContent) -> Any:
    return hd.sr.ObservationContext(
        observer_person_context=_reader(hd, content), observer_device_context=_device(hd, content)
    )


def _reader(hd: Any, content: ResultContent) -> Any:
    return hd.sr.ObserverContext(
        observer_type=code(hd, PERSON),
        observer_identifying_attributes=hd.sr.PersonObserverIdentifyingAttributes(name=person_name(content.reader)),
    )


def _device(hd: Any, content: ResultContent) -> Any:
    who = hd.sr.DeviceObserverIdentifyingAttributes(
        uid=content.device_uid, name=MANUFACTURER, manufacturer_name=MANUFACTURER,
        model_name=f"{MANUFACTURER} {version()}: {RESEARCH_ONLY}",
    )  # fmt: skip
    return hd.sr.ObserverContext(observer_type=code(hd, DEVICE), observer_identifying_attributes=who)


def _observed_by(observer: Any, group: Any) -> Any:
    """The group with its own observer, in the place of the report's two (PS3.3 C.17.5), behind what it tracks."""
    inside = group[0].ContentSequence
    for place, item in enumerate(observer, start=2):
        inside.insert(place, item)
    return group


def _procedures(hd: Any, content: ResultContent) -> list[Any]:
    kinds = dict.fromkeys(image.modality for image in content.images if image.modality)
    return [code(hd, PROCEDURES[kind]) for kind in kinds]


def _of_models(hd: Any, content: ResultContent, site_key: bytes) -> list[Any]:
    """A measurement group for each model and breast, and one for each model and image."""
    by_id = {image.id: image for image in content.images}
    groups = []
    for score in content.breasts:
        sha256 = score.weights_sha256
        label = f"{score.model_id}, breast {score.breast}, {sha256[:8]}, {score.threshold:.5f}"
        groups.append(
            _group(
                hd, content, site_key, label, _device(hd, content), breast=score.breast,
                measurements=[_probability(hd, score.malignant)],
                algorithm=_algorithm(hd, content, score, f"the breast: {score.rule}"),
                images=[by_id[one.image_id] for one in content.answers if _is_part(one, score, by_id)],
            )
        )  # fmt: skip
    for answer in content.answers:
        if answer.image_id in by_id:
            image = by_id[answer.image_id]
            groups.append(
                _group(
                    hd, content, site_key, f"{answer.model_id}, image {answer.image_id}, {answer.weights_sha256[:8]}",
                    _device(hd, content),
                    breast=image.breast, measurements=[_probability(hd, answer.malignant)], images=[image],
                    algorithm=_algorithm(hd, content, answer, "one image"),
                )
            )  # fmt: skip
    return groups


def _is_part(answer: Any, score: Any, by_id: Mapping[str, ResultImage]) -> bool:
    return (
        answer.image_id in by_id
        and by_id[answer.image_id].breast == score.breast
        and answer.model_id == score.model_id
        and answer.weights_sha256 == score.weights_sha256
        and answer.threshold == score.threshold
        and not answer.is_alone
    )


def _of_reader(hd: Any, content: ResultContent, site_key: bytes) -> list[Any]:
    """A group for each breast with its assessment; the density stands with each, as it is of both."""
    groups = []
    for breast, category in content.birads.items():
        said = [(ASSESSMENT, ASSESSMENTS[category])]
        if content.density is not None:
            said.append((COMPOSITION, COMPOSITIONS[content.density]))
        groups.append(
            _group(
                hd, content, site_key, f"reader, breast {breast}", _reader(hd, content), breast=breast,
                evaluations=[
                    hd.sr.QualitativeEvaluation(name=code(hd, name), value=code(hd, value)) for name, value in said
                ],
                images=[image for image in content.images if image.breast == breast],
            )
        )  # fmt: skip
    return groups


def _of_findings(hd: Any, content: ResultContent, site_key: bytes) -> list[Any]:
    """TID 1410 for each mark of each finding: the region, what describes it, and its size where it is known in mm.

    A mark that a model drew and the reader took as it was is in two groups with one tracking UID: what the device drew
    and measured, and the reader's finding at that place, in the reader's words.
    """
    proposed = {one.mark: one for one in content.accepted}
    groups = []
    for place in marked_places(content):
        drawn_by = proposed.get(place.mark)
        if drawn_by is not None:
            groups.append(_proposed_group(hd, content, site_key, place, drawn_by))
        groups.append(_region_group(hd, content, site_key, place, drawn_by))
    return groups


def _proposed_group(hd: Any, content: ResultContent, site_key: bytes, place: MarkedPlace, drawn_by: Proposal) -> Any:
    """What a model drew, without a word of the reader's. A peak is where it looked, so no lesion."""
    is_outline = place.mark.kind == "outline"
    group = hd.sr.PlanarROIMeasurementsAndQualitativeEvaluations(
        tracking_identifier=hd.sr.TrackingIdentifier(
            uid=place.tracking_uid(content, site_key),
            identifier=f"{place.label}: proposed by {drawn_by.model_id}, accepted as it was",
        ),
        referenced_region=_region(hd, place),
        finding_type=code(hd, LESION if is_outline else SELECTED_REGION),
        finding_sites=[_site(hd, place.finding.breast)],
        algorithm_id=hd.sr.AlgorithmIdentification(
            name=drawn_by.model_id, version=f"{version()} with weights {drawn_by.weights_sha256[:8]}",
            manufacturer=MANUFACTURER,
            parameters=[
                f"weights sha256 {drawn_by.weights_sha256}",
                f"proposed from {drawn_by.level:.4f} of its answer on, which is no probability", RESEARCH_ONLY,
            ],
        ),
        measurements=_lengths(hd, place),
    )  # fmt: skip
    return _observed_by(_device(hd, content), group)


def _region_group(
    hd: Any, content: ResultContent, site_key: bytes, place: MarkedPlace, drawn_by: Proposal | None
) -> Any:
    finding = place.finding
    descriptors = {**finding.descriptors, "quadrant": finding.quadrant, "depth": finding.depth}
    if finding.clock:
        descriptors["clock face"] = f"{finding.clock} o'clock"
    group = hd.sr.PlanarROIMeasurementsAndQualitativeEvaluations(
        tracking_identifier=hd.sr.TrackingIdentifier(
            uid=place.tracking_uid(content, site_key), identifier=f"{place.label}: {description_of(finding)}"
        ),
        referenced_region=_region(hd, place),
        finding_type=code(hd, type_code(finding.modality, finding.type)),
        finding_sites=[_site(hd, finding.breast)],
        measurements=_lengths(hd, place),
        qualitative_evaluations=[
            hd.sr.QualitativeEvaluation(*(code(hd, one) for one in descriptor_codes(name, value)))
            for name, value in descriptors.items()
            if value
        ]
        or None,
    )
    if drawn_by is not None:
        said = f"Proposed by {drawn_by.model_id}, accepted by the reader as it was."
        group[0].ContentSequence.append(
            hd.sr.TextContentItem(
                name=code(hd, COMMENT), value=said, relationship_type=hd.sr.RelationshipTypeValues.CONTAINS
            )
        )
    return _observed_by(_reader(hd, content), group)


def _region(hd: Any, place: MarkedPlace) -> Any:
    kind, points = region_of(place.mark)
    return hd.sr.ImageRegion(
        graphic_type=kind, graphic_data=np.array(points, float),
        source_image=hd.sr.SourceImageForRegion(**_of_image(place.image)),
    )  # fmt: skip


def _of_image(image: ResultImage) -> dict[str, Any]:
    """An image and, of several, its frame, as highdicom's source images take them."""
    return {
        "referenced_sop_class_uid": image.tags["SOPClassUID"],
        "referenced_sop_instance_uid": image.tags["SOPInstanceUID"],
        "referenced_frame_numbers": [image.frame + 1] if image.n_frames > 1 else None,
    }


def _site(hd: Any, breast: str) -> Any:
    side = SIDES.get(breast)
    return hd.sr.FindingSite(anatomic_location=code(hd, BREAST), laterality=None if side is None else code(hd, side))


def _lengths(hd: Any, place: MarkedPlace) -> list[Any] | None:
    """The axes of a mark in mm, each with what measured it (TID 4019): whoever drew the mark, a program did."""
    size = place.size
    if size is None or not size.is_mm:
        return None
    measured_by = hd.sr.AlgorithmIdentification(
        name=f"Diameters of an {place.mark.kind}", version=version(), manufacturer=MANUFACTURER
    )
    return [
        hd.sr.Measurement(
            name=code(hd, name), value=round(value, 1), unit=code(hd, MILLIMETRE), algorithm_id=measured_by
        )
        for axis, name in AXES.items()
        if (value := getattr(size, axis)) is not None
    ] or None


def region_of(mark: Mark) -> tuple[str, list[tuple[float, float]]]:
    """(graphic type, points) of a mark as SCOORD has them (PS3.3 C.18.6.1.2), on the same columns and rows.

    An ellipse by the ends of its long, then of its short axis; an outline by a polyline that ends where it began.
    """
    if mark.kind == "point":
        return "POINT", list(mark.points)
    if mark.kind == "outline":
        closed = mark.points[0] != mark.points[-1]
        return "POLYLINE", [*mark.points, *mark.points[:1]] if closed else list(mark.points)
    if mark.kind != "ellipse":
        raise ValueError(f"a {mark.kind} is no region")
    (left, top), (right, bottom) = mark.points
    column, row = (left + right) / 2, (top + bottom) / 2
    across, down = [(left, row), (right, row)], [(column, top), (column, bottom)]
    return "ELLIPSE", [*across, *down] if abs(right - left) >= abs(bottom - top) else [*down, *across]


def _own_scheme() -> Dataset:
    """What the private codes are (PS3.3 C.12.1.1)."""
    return dataset_of(
        CodingSchemeDesignator=OWN_SCHEME,
        CodingSchemeName="Words of the BI-RADS lexicon, 5th edition, as SecondRead has them",
        CodingSchemeResponsibleOrganization=MANUFACTURER,
    )


def _has_own_codes(item: Dataset) -> bool:
    coded = [*item.get("ConceptNameCodeSequence", ()), *item.get("ConceptCodeSequence", ())]
    return any(one.CodingSchemeDesignator == OWN_SCHEME for one in coded) or any(
        map(_has_own_codes, item.get("ContentSequence", ()))
    )


def _group(
    hd: Any,
    content: ResultContent,
    site_key: bytes,
    label: str,
    observer: Any,
    *,
    breast: str,
    images: Sequence[ResultImage],
    measurements: Sequence[Any] = (),
    evaluations: Sequence[Any] = (),
    algorithm: Any = None,
) -> Any:
    """TID 1501 of a breast, without a region: what is said of a whole image or breast."""
    sources = [hd.sr.SourceImageForMeasurementGroup(**_of_image(image)) for image in images]
    group = hd.sr.MeasurementsAndQualitativeEvaluations(
        tracking_identifier=hd.sr.TrackingIdentifier(
            uid=uid_of(site_key, "tracking", content.read_id, label), identifier=label
        ),
        finding_sites=[_site(hd, breast)],
        algorithm_id=algorithm,
        measurements=measurements or None,
        qualitative_evaluations=evaluations or None,
        source_images=sources or None,
    )
    return _observed_by(observer, group)


def _probability(hd: Any, value: float) -> Any:
    return hd.sr.Measurement(name=code(hd, PROBABILITY), value=round(100 * value, 2), unit=code(hd, PERCENT))


def _algorithm(hd: Any, content: ResultContent, score: BreastScore | ImageAnswer, rule: str) -> Any:
    """TID 4019; what stands beside every number of the model is among its parameters."""
    return hd.sr.AlgorithmIdentification(
        name=score.model_id, version=f"{version()} with weights {score.weights_sha256[:8]}", manufacturer=MANUFACTURER,
        parameters=[
            f"weights sha256 {score.weights_sha256}", f"threshold {100 * score.threshold:.2f} %", f"number of {rule}",
            *content.remarks_on(score), RESEARCH_ONLY,
        ],
    )  # fmt: skip


def _settle(found: Dataset, content: ResultContent) -> None:
    settle(found, content)
    at = content.read_at.astimezone()
    if _has_own_codes(found):
        found.CodingSchemeIdentificationSequence = [_own_scheme()]
    for verifying in found.get("VerifyingObserverSequence", ()):
        verifying.VerificationDateTime = at.strftime("%Y%m%d%H%M%S%z")
    _settle_item(found, at.strftime("%Y%m%d%H%M%S"))


def _settle_item(item: Dataset, moment: str) -> None:
    if "ObservationDateTime" in item:
        item.ObservationDateTime = moment
    if "ContinuityOfContent" in item:
        item.ContinuityOfContent = "SEPARATE"  # viewers leave out what a value is of within a continuous text
    for inner in item.get("ContentSequence", ()):
        _settle_item(inner, moment)
