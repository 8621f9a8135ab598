"""Which view of a breast a mammogram is, and whether it is one at all: what a model may read, and what it may count.

Codes come before ViewPosition, ViewPosition before PatientOrientation. A view that is stated and not known is not
known: nothing coarser overrules it. Sources: PS3.16 CID 4014 (views) and 4015 (modifiers), PS3.3 C.8.11.7.1.4 (image
types of stereotactic, tomosynthesis and contrast mammograms).
"""

from __future__ import annotations

import re
from dataclasses import dataclass, field

from pydicom.dataset import Dataset

from core.imaging.decoded import VIEW_UNKNOWN
from core.imaging.dicom.tags import codes, is_for_processing, numbers, sop_class, text_of
from core.types import CRANIOCAUDAL_VIEWS, IMPLANT_DISPLACED, VIEWS

VIEW_CODES = {
    **dict.fromkeys(("399162004", "R-10242"), "CC"),
    **dict.fromkeys(("399368009", "R-10226"), "MLO"),
    **dict.fromkeys(("399260004", "R-10224"), "ML"),
    **dict.fromkeys(("399352003", "R-10228"), "LM"),
    **dict.fromkeys(("399099002", "R-10230"), "LMO"),
    **dict.fromkeys(("399192008", "R-1024A", "Y-X1770"), "XCCL"),
    **dict.fromkeys(("399101009", "R-1024B", "Y-X1771"), "XCCM"),
    **dict.fromkeys(("399188001", "R-102D0"), "SIO"),
    **dict.fromkeys(("441555000", "R-40AAA"), "ISO"),
    **dict.fromkeys(("399196006", "R-10244"), "FB"),
}
"""ViewCodeSequence (0054,0220), as SNOMED CT and as the older SNOMED-RT codes."""
_SPECIMEN_CODES = {"127457009", "G-8310"}

SPOT, MAGNIFICATION, PARTIAL = "spot compression", "magnification", "partial view"
SYNTHESIZED = "synthesized"
"""Said like a modifier, at the picture itself: beside the view that was taken as such the two look alike."""
MODIFIER_CODES = {
    **dict.fromkeys(("399055006", "R-102D7"), SPOT),
    **dict.fromkeys(("399163009", "R-102D6"), MAGNIFICATION),
    **dict.fromkeys(("399209000", "R-102D5"), IMPLANT_DISPLACED),
    **dict.fromkeys(("399011000", "R-102D1"), "axillary tail"),
    **dict.fromkeys(("442580003", "R-40AB2"), "axillary tissue"),
    **dict.fromkeys(("399161006", "R-102D2"), "cleavage"),
    **dict.fromkeys(("399110001", "R-102C2"), "tangential"),
    **dict.fromkeys(("442593008", "R-40ABE"), "infra-mammary fold"),
    **dict.fromkeys(("441752004", "P2-00161"), "anterior compression"),
    **dict.fromkeys(("442581004", "R-40AB3"), "nipple in profile"),
    **dict.fromkeys(("399197002", "R-102D3"), "rolled laterally"),
    **dict.fromkeys(("399226006", "R-102D4"), "rolled medially"),
    **dict.fromkeys(("414493004", "R-102CA"), "rolled inferiorly"),
    **dict.fromkeys(("415670009", "R-102C9"), "rolled superiorly"),
}
"""ViewModifierCodeSequence (0054,0222)."""
_WHOLE_BREAST = {
    IMPLANT_DISPLACED, "nipple in profile", "rolled laterally", "rolled medially", "rolled inferiorly",
    "rolled superiorly", SYNTHESIZED,
}  # fmt: skip
"""Modifiers of a view that still shows the whole breast and counts for it."""
_MAGNIFIED_FROM = 1.3
"""Contact views lie a few centimetres above the detector (factor to 1.1), magnification stands give 1.4 and more."""

_POSITION = re.compile(
    r"(?P<side>RIGHT|LEFT|[RL]|)(?P<before>SM|MS|M|S)?(?P<view>XCCL|XCCM|CC|MLO|LMO|ML|LM|SIO|ISO|FB)"
    r"(?P<after>ID|TAN|CV|AT|NP|RL|RM|RI|RS|SPOT|MAG)?"
)
"""ViewPosition as the ACR's labels write it: "RMLO", "LMCC" (magnified), "CCID" (implant displaced)."""
_LABELS = {
    "M": (MAGNIFICATION,), "S": (SPOT,), "SM": (SPOT, MAGNIFICATION), "MS": (SPOT, MAGNIFICATION), "SPOT": (SPOT,),
    "MAG": (MAGNIFICATION,), "ID": (IMPLANT_DISPLACED,), "TAN": ("tangential",), "CV": ("cleavage",),
    "AT": ("axillary tail",), "NP": ("nipple in profile",), "RL": ("rolled laterally",), "RM": ("rolled medially",),
    "RI": ("rolled inferiorly",), "RS": ("rolled superiorly",),
}  # fmt: skip
_SEPARATORS = str.maketrans("", "", " -_")
CONTRADICTING_VIEWS = "The tags of this file contradict each other on the view; check on the image which one it is."
_UNKNOWN_MODIFIER = "a modifier that is not known here"
_SYNTHETIC = (
    "This mammogram was computed from tomosynthesis; most models were made for mammograms that were taken as such."
)
_NO_MODEL = "so no model reads it."
SPECIMEN = f"This is the picture of a specimen and no view of the breast, {_NO_MODEL}"
PHANTOM = f"This is the picture of a phantom or a test of the machine and not of a breast, {_NO_MODEL}"
SUBTRACTED = f"This picture was computed from several exposures (contrast mammography, subtracted), {_NO_MODEL}"
HIGH_ENERGY = (
    f"This is the high-energy exposure of a contrast mammogram, which is not meant to be looked at, {_NO_MODEL}"
)
STEREOTACTIC = f"This picture was taken to aim or to check a biopsy needle (stereotactic), {_NO_MODEL}"
TOMOSYNTHESIS = f"This is a stack or projection of a tomosynthesis and not a mammogram, {_NO_MODEL}"
STACK = f"This mammogram has several frames, as the stacks and projections of a tomosynthesis have, {_NO_MODEL}"


@dataclass(slots=True)
class View:
    """What a mammogram shows.

    name: one of `core.types.VIEWS` or None. modifiers: as in `MODIFIER_CODES`. not_scored: why no model reads it, or
    "". is_alone: models read it, but it shows part of the breast and stays out of the breast's number.
    """

    name: str | None = None
    modifiers: tuple[str, ...] = ()
    not_scored: str = ""
    is_alone: bool = False
    warnings: list[str] = field(default_factory=list)


def read_view(header: Dataset, *, is_stack: bool = False) -> View:
    """The view of a mammogram, from the header alone. is_stack: the file has several frames."""
    view = View()
    view.name, labels, is_unknown = _name_of(header)
    view.not_scored = _not_scored(header, is_stack=is_stack)
    view.modifiers = tuple(dict.fromkeys([*_coded_modifiers(header), *labels]))
    factor = next(iter(numbers(header, "EstimatedRadiographicMagnificationFactor")), 1.0)
    if factor >= _MAGNIFIED_FROM and MAGNIFICATION not in view.modifiers:
        view.modifiers += (MAGNIFICATION,)
    if text_of(header, "PartialView") == "YES":
        view.modifiers += (PARTIAL,)
    is_synthesized = "GENERATED_2D" in _image_type(header)
    if is_synthesized:
        view.modifiers += (SYNTHESIZED,)
    partial = [modifier for modifier in view.modifiers if modifier not in _WHOLE_BREAST]
    is_raw = is_for_processing(header)
    view.is_alone = bool(partial) or is_raw
    if view.not_scored:
        view.warnings.append(view.not_scored)
    elif partial:
        view.warnings.append(
            f"This is no full view of the breast ({', '.join(partial)}); its score stands alone and is not part of "
            "the breast's number."
        )
    if is_unknown and not view.not_scored:
        view.warnings.append(VIEW_UNKNOWN)
    if _is_contradicting(header):
        view.warnings.append(CONTRADICTING_VIEWS)
    if is_synthesized:
        view.warnings.append(_SYNTHETIC)
    return view


def _name_of(header: Dataset) -> tuple[str | None, tuple[str, ...], bool]:
    """(view, modifiers that its label names, whether a view is stated that is not known)."""
    coded = codes(header, "ViewCodeSequence")
    if coded:
        known = [VIEW_CODES[code] for code in coded if code in VIEW_CODES]
        return (known[0] if known else None), (), not known and not _SPECIMEN_CODES & set(coded)
    position = _position(header)
    if position:
        label = _label(position)
        if label is None:
            return (position, (), False) if position in VIEWS else (None, (), True)
        modifiers = [*_LABELS.get(label["before"] or "", ()), *_LABELS.get(label["after"] or "", ())]
        return label["view"], tuple(modifiers), False
    return _view_by_orientation(header), (), False


def _position(header: Dataset) -> str:
    return text_of(header, "ViewPosition").translate(_SEPARATORS)


def _label(position: str) -> re.Match[str] | None:
    """The parts of a label that is no plain view; "RCC" is the CC of the right breast, as "LCC" is that of the left."""
    return None if position in VIEWS and position != "RCC" else _POSITION.fullmatch(position)


def labelled_side(header: Dataset) -> str:
    """ "L" or "R" where ViewPosition names the side with the view ("RMLO"), else ""."""
    label = _label(_position(header))
    return label["side"][:1] if label else ""


def _is_contradicting(header: Dataset) -> bool:
    """Whether codes and ViewPosition name different views; "CC" beside the code of a view of its kind is coarser."""
    coded = {VIEW_CODES[code] for code in codes(header, "ViewCodeSequence") if code in VIEW_CODES}
    position = _position(header)
    label = _label(position)
    named = label["view"] if label else position if position in VIEWS else ""
    if named == "CC" and coded & set(CRANIOCAUDAL_VIEWS):
        return len(coded) > 1
    return len(coded | ({named} if coded and named else set())) > 1


def _view_by_orientation(header: Dataset) -> str | None:
    orientation = text_of(header, "PatientOrientation").split("\\")
    if orientation[0] in ("CC", "MLO", "ML"):  # CBIS-DDSM writes the view here
        return orientation[0]
    if len(orientation) == 2 and orientation[0] in ("A", "P"):
        if orientation[1] in ("L", "R"):
            return "CC"
        if orientation[1] in ("FL", "FR", "LF", "RF"):
            return "MLO"
    return None


def _coded_modifiers(header: Dataset) -> list[str]:
    """Of the view's items, where they belong, and of the file itself, where some write them."""
    items = [item for item in header.get("ViewCodeSequence") or [] if isinstance(item, Dataset)]
    found = [code for place in (*items, header) for code in codes(place, "ViewModifierCodeSequence")]
    return [MODIFIER_CODES.get(code, _UNKNOWN_MODIFIER) for code in found]


def _image_type(header: Dataset) -> list[str]:
    return text_of(header, "ImageType").split("\\")


def _meanings(header: Dataset) -> list[str]:
    """What the codes of view and region mean in words: a specimen or phantom by a code of another list is one too."""
    items = [*(header.get("ViewCodeSequence") or []), *(header.get("AnatomicRegionSequence") or [])]
    return [text_of(item, "CodeMeaning") for item in items if isinstance(item, Dataset)]


def _not_scored(header: Dataset, *, is_stack: bool) -> str:
    kinds = _image_type(header)
    named = " ".join([text_of(header, "BodyPartExamined"), text_of(header, "ViewPosition"), *kinds, *_meanings(header)])
    coded = {*codes(header, "ViewCodeSequence"), *codes(header, "AnatomicRegionSequence")}
    if coded & _SPECIMEN_CODES or header.get("SpecimenDescriptionSequence") or "SPECIMEN" in named:
        return SPECIMEN
    is_test = any(text_of(header, keyword) == "YES" for keyword in ("QualityControlSubject", "CalibrationImage"))
    if is_test or text_of(header, "QualityControlImage") == "YES" or "PHANTOM" in named:
        return PHANTOM
    if any(kind.startswith(("STEREO", "PREFIRE", "POSTFIRE")) or "BIOPSY" in kind for kind in kinds):
        return STEREOTACTIC
    is_subtracted = any(word in kind for kind in kinds for word in ("SUBTRACT", "RECOMBIN"))
    if is_subtracted or "ADDITION" in kinds or header.get("MaskSubtractionSequence"):
        return SUBTRACTED
    if {"113062", "113042"} & set(codes(header, "DerivationCodeSequence")):
        return SUBTRACTED
    if "HIGH_ENERGY" in kinds:
        return HIGH_ENERGY
    is_tomosynthesis = sop_class(header) == "13.1.3" or any(kind.startswith("TOMO") for kind in kinds)
    if is_tomosynthesis and "GENERATED_2D" not in kinds:
        return TOMOSYNTHESIS
    return STACK if is_stack else ""
