"""The marks of models that a reader accepted, as a Mammography CAD SR (PS3.3 A.35.5, template TID 4000 of PS3.16).

Marks only: no certainty and no probability, which the structured report has. Only what the reader took as it was
proposed. It was written by the template, and its content tree is checked row by row against TID 4000 and what that
includes (1204, 4001, 4003, 4006, 4013, 4015, 4017, 4019, 4020, 4021); no workplace has shown it yet.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from core.archive.results.content import ResultContent, ResultImage
from core.archive.results.dicom_object import (
    MANUFACTURER,
    SELECTED_REGION,
    Coded,
    MarkedPlace,
    as_file,
    dataset_of,
    marked_places,
    plain_code,
    predecessor_documents,
    settle,
    source_dataset,
    with_values,
)
from core.archive.results.structured_report import region_of
from core.errors import NotFound
from core.findings.proposals import Proposal
from core.types import Modality
from core.version import version

if TYPE_CHECKING:
    from pydicom.dataset import Dataset

MAMMOGRAPHY_CAD_SR = "1.2.840.10008.5.1.4.1.1.88.50"
SINGLE_IMAGE_FINDINGS: Mapping[str, Coded] = {
    "mass": ("129793001", "SCT", "Mammography breast density"),
    "asymmetry": ("129793001", "SCT", "Mammography breast density"),
    "calcifications": ("129769006", "SCT", "Calcification Cluster"),
    "architectural distortion": ("129792006", "SCT", "Architectural distortion of breast"),
}
"""Type of finding -> PS3.16 CID 6014, which marks every mass as a density; others are a `SELECTED_REGION`, with what it
is of in words beside it (TID 4013)."""
BREASTS: Mapping[str, Coded] = {
    "R": ("73056007", "SCT", "Right breast"), "L": ("80248007", "SCT", "Left breast"),
}  # fmt: skip
"""PS3.16 CID 6022."""
VIEWS: Mapping[str, Coded] = {
    "CC": ("399162004", "SCT", "cranio-caudal"), "MLO": ("399368009", "SCT", "medio-lateral oblique"),
    "ML": ("399260004", "SCT", "medial-lateral"), "LM": ("399352003", "SCT", "latero-medial"),
    "LMO": ("399099002", "SCT", "latero-medial oblique"), "FB": ("399196006", "SCT", "caudo-cranial"),
    "XCCL": ("399192008", "SCT", "cranio-caudal exaggerated laterally"),
    "XCCM": ("399101009", "SCT", "cranio-caudal exaggerated medially"),
    "SIO": ("399188001", "SCT", "superolateral to inferomedial oblique"),
    "ISO": ("441555000", "SCT", "inferomedial to superolateral oblique"),
    "RCC": ("399162004", "SCT", "cranio-caudal"),
}  # fmt: skip
"""PS3.16 CID 4014. A rolled view is one with a modifier (CID 4015), of which the file did not say which way; the
axillary tail is a modifier alone, and has no view."""
_NAMES: Mapping[str, str] = {
    "111036": "Mammography CAD Report", "111028": "Image Library", "111027": "Image Laterality", "111031": "Image View",
    "111060": "Study Date", "111061": "Study Time", "111058": "Selected Region Description",
    "111017": "CAD Processing and Findings Summary",
    "111034": "Individual Impression/Recommendation", "111056": "Rendering Intent", "111059": "Single Image Finding",
    "111001": "Algorithm Name", "111003": "Algorithm Version", "111010": "Center", "111041": "Outline",
    "111064": "Summary of Detections", "111063": "Successful Detections", "111022": "Detection Performed",
    "111065": "Summary of Analyses", "111044": "Patient Orientation Row", "111043": "Patient Orientation Column",
    "121049": "Language of Content Item and Descendants",
}  # fmt: skip
_ENGLISH: Coded = ("en", "RFC5646", "English")
_PRESENT: Coded = ("111150", "DCM", "Presentation Required: Rendering device is expected to present")
_WITH: Coded = ("111242", "DCM", "All algorithms succeeded; with findings")
_WITHOUT: Coded = ("111241", "DCM", "All algorithms succeeded; without findings")
_SUCCEEDED: Coded = ("111222", "DCM", "Succeeded")
_NOT_ATTEMPTED: Coded = ("111225", "DCM", "Not Attempted")


def cad_report(content: ResultContent, *, series_uid: str, uid: str) -> Dataset:
    """The object (explicit VR little endian), with its file meta information. Without a mark that was accepted, where
    one is taken back, it says that there are none. Raises NotFound where no mammogram came from the archive."""
    images = [image for image in content.images if image.modality is Modality.MAMMOGRAPHY]
    if not images:
        raise NotFound(
            "None of the mammograms came from the archive, so what is marked on them has nothing to refer to."
        )
    found = source_dataset(content, images[0])
    for keyword in ("Rows", "Columns", "NumberOfFrames"):
        found.pop(keyword, None)
    values: dict[str, Any] = {
        "SOPClassUID": MAMMOGRAPHY_CAD_SR, "SOPInstanceUID": uid, "SeriesInstanceUID": series_uid, "Modality": "SR",
        "SeriesNumber": 9006, "InstanceNumber": 1, "Manufacturer": MANUFACTURER, "CompletionFlag": "COMPLETE",
        "VerificationFlag": "UNVERIFIED", "ContentDate": "", "ContentTime": "", "PerformedProcedureCodeSequence": [],
        "ReferencedPerformedProcedureStepSequence": [],
        "CurrentRequestedProcedureEvidenceSequence": [_evidence(content)],
        "ContentTemplateSequence": [dataset_of(MappingResource="DCMR", TemplateIdentifier="4000")],
    }  # fmt: skip
    with_values(found, values)
    if content.predecessors:
        found.PredecessorDocumentsSequence = predecessor_documents(content, MAMMOGRAPHY_CAD_SR)
    found.update(_item("", "CONTAINER", "111036", children=_tree(content, images)))
    settle(found, content)
    return as_file(found, MAMMOGRAPHY_CAD_SR, uid)


def accepted_places(content: ResultContent) -> list[tuple[MarkedPlace, Proposal]]:
    """The marks of findings that lie where a model proposed them, on mammograms."""
    proposed = {one.mark: one for one in content.accepted}
    return [
        (place, proposed[place.mark])
        for place in marked_places(content)
        if place.mark in proposed and place.image.modality is Modality.MAMMOGRAPHY
    ]


def _evidence(content: ResultContent) -> Dataset:
    """The images, by study and series (PS3.3 C.17.2)."""
    of_series: dict[str, dict[str, str]] = {}
    for image in content.images:
        objects = of_series.setdefault(image.tags["SeriesInstanceUID"], {})
        objects[image.tags["SOPInstanceUID"]] = image.tags["SOPClassUID"]
    series = [
        dataset_of(
            SeriesInstanceUID=series_uid,
            ReferencedSOPSequence=[
                dataset_of(ReferencedSOPClassUID=sop_class, ReferencedSOPInstanceUID=uid)
                for uid, sop_class in objects.items()
            ],
        )
        for series_uid, objects in of_series.items()
    ]
    return dataset_of(StudyInstanceUID=content.study["StudyInstanceUID"], ReferencedSeriesSequence=series)


def _tree(content: ResultContent, images: Sequence[ResultImage]) -> Iterator[Dataset]:
    """What the root contains, in the order of TID 4000. Images are referred to by their place in it."""
    places = {image.id: [1, 2, number] for number, image in enumerate(images, start=1)}
    accepted = accepted_places(content)
    yield _item("HAS CONCEPT MOD", "CODE", "121049", code=_ENGLISH)
    yield _item("CONTAINS", "CONTAINER", "111028", children=[_library_entry(content, image) for image in images])
    impression = [
        _item("HAS CONCEPT MOD", "CODE", "111056", code=_PRESENT),
        *(_finding(place, proposal, places[place.image.id]) for place, proposal in accepted),
    ]
    individual = [_item("INFERRED FROM", "CONTAINER", "111034", children=impression)] if accepted else []
    yield _item("CONTAINS", "CODE", "111017", code=_WITH if accepted else _WITHOUT, children=individual)
    performed = [_item("INFERRED FROM", "CONTAINER", "111063", children=list(_performed(accepted, places)))]
    state = _SUCCEEDED if accepted else _NOT_ATTEMPTED
    yield _item("CONTAINS", "CODE", "111064", code=state, children=performed if accepted else [])
    yield _item("CONTAINS", "CODE", "111065", code=_NOT_ATTEMPTED)


def _library_entry(content: ResultContent, image: ResultImage) -> Dataset:
    """TID 4020."""
    children = []
    if image.breast in BREASTS:
        children.append(_item("HAS ACQ CONTEXT", "CODE", "111027", code=BREASTS[image.breast]))
    if image.view is not None and image.view in VIEWS:
        children.append(_item("HAS ACQ CONTEXT", "CODE", "111031", code=VIEWS[image.view]))
    for name, oriented in zip(("111044", "111043"), image.display.get("orientation") or (), strict=False):
        children.append(_item("HAS ACQ CONTEXT", "TEXT", name, TextValue=oriented))
    if content.study["StudyDate"]:
        children.append(_item("HAS ACQ CONTEXT", "DATE", "111060", Date=content.study["StudyDate"]))
    if content.study["StudyTime"]:
        children.append(_item("HAS ACQ CONTEXT", "TIME", "111061", Time=content.study["StudyTime"]))
    reference = dataset_of(
        ReferencedSOPClassUID=image.tags["SOPClassUID"], ReferencedSOPInstanceUID=image.tags["SOPInstanceUID"]
    )
    return _item("CONTAINS", "IMAGE", "", children=children, ReferencedSOPSequence=[reference])


def _finding(place: MarkedPlace, proposal: Proposal, image: list[int]) -> Dataset:
    """TID 4006, with the geometry of TID 4021 and, of a region without a code of its own, the words of TID 4013."""
    kind, points = region_of(place.mark)
    corners = np.array(points, float)
    middle = (corners.min(0) + corners.max(0)) / 2
    children = [
        _item("HAS CONCEPT MOD", "CODE", "111056", code=_PRESENT),
        *_algorithm(proposal),
        _shape("111010", "POINT", [tuple(middle)], image),
    ]
    if kind != "POINT":
        children.append(_shape("111041", kind, points, image))
    code = SINGLE_IMAGE_FINDINGS.get(place.finding.type, SELECTED_REGION)
    if code == SELECTED_REGION:
        children.append(_item("HAS PROPERTIES", "TEXT", "111058", TextValue=place.finding.type))
    return _item("CONTAINS", "CODE", "111059", code=code, children=children)


def _performed(accepted: Sequence[tuple[MarkedPlace, Proposal]], places: Mapping[str, list[int]]) -> Iterator[Dataset]:
    """TID 4017: what each model looked for, in which images, each once."""
    done: dict[tuple[str, str], tuple[Proposal, Coded, dict[str, None]]] = {}
    for place, proposal in accepted:
        code = SINGLE_IMAGE_FINDINGS.get(place.finding.type, SELECTED_REGION)
        entry = done.setdefault((proposal.weights_sha256, code[0]), (proposal, code, {}))
        entry[2][place.image.id] = None
    for proposal, code, images in done.values():
        references = [_by_reference("HAS PROPERTIES", places[image_id]) for image_id in images]
        yield _item("CONTAINS", "CODE", "111022", code=code, children=[*_algorithm(proposal), *references])


def _algorithm(proposal: Proposal) -> list[Dataset]:
    """TID 4019."""
    weights = f"{version()} with weights {proposal.weights_sha256[:8]}"
    return [
        _item("HAS PROPERTIES", "TEXT", "111001", TextValue=proposal.model_id),
        _item("HAS PROPERTIES", "TEXT", "111003", TextValue=weights),
    ]


def _shape(name: str, kind: str, points: Sequence[tuple[float, float]], image: list[int]) -> Dataset:
    data = [float(part) for point in points for part in point]
    children = [_by_reference("SELECTED FROM", image)]
    return _item("HAS PROPERTIES", "SCOORD", name, children=children, GraphicType=kind, GraphicData=data)


def _by_reference(relationship: str, place: list[int]) -> Dataset:
    return dataset_of(RelationshipType=relationship, ReferencedContentItemIdentifier=place)


def _item(
    relationship: str, kind: str, name: str, *, code: Coded | None = None, children: Any = (), **values: Any
) -> Dataset:
    """A content item. name: a key of `_NAMES`, or "" for none."""
    said: dict[str, Any] = {"RelationshipType": relationship} if relationship else {}
    said |= {"ValueType": kind, **({"ContinuityOfContent": "SEPARATE"} if kind == "CONTAINER" else {})}
    if name:
        said["ConceptNameCodeSequence"] = [plain_code((name, "DCM", _NAMES[name]))]
    if code is not None:
        said["ConceptCodeSequence"] = [plain_code(code)]
    inner = list(children)
    return dataset_of(**said, **values, **({"ContentSequence": inner} if inner else {}))
