"""The words of a finding as codes: those of PS3.16 where it has one that means the same, else private ones.

The context groups are of BI-RADS before its fifth edition, so some words of the lexicon have no code there ("rim",
"coarse heterogeneous"), and what only resembles one is no code of it.
"""

from __future__ import annotations

from collections.abc import Mapping

from core.archive.results.dicom_object import Coded
from core.types import Modality

OWN_SCHEME = "99SECONDREAD"
"""Private codes (PS3.16 8.2) whose value and meaning are words of the BI-RADS lexicon, as the page has them."""

_DISTORTION: Coded = ("129792006", "SCT", "Architectural distortion of breast")
_CALCIFIED: Coded = ("309587003", "SCT", "Calcification of breast")
TYPE_CODES: Mapping[Modality, Mapping[str, Coded]] = {
    Modality.MAMMOGRAPHY: {
        "mass": ("129788004", "SCT", "Mammographic breast mass"), "calcifications": _CALCIFIED,
        "asymmetry": ("129790003", "SCT", "Asymmetric breast tissue"), "architectural distortion": _DISTORTION,
    },
    Modality.ULTRASOUND: {"calcifications": _CALCIFIED, "architectural distortion": _DISTORTION},
    Modality.HISTOLOGY: {},
}  # fmt: skip
"""PS3.16 CID 6054 "Breast Imaging Finding"."""
DESCRIPTOR_CODES: Mapping[str, Coded] = {
    "shape": ("107644003", "SCT", "Shape"), "margin": ("111037", "DCM", "Margins"),
    "density": ("111035", "DCM", "Lesion Density"), "morphology": ("111009", "DCM", "Calcification Type"),
    "distribution": ("111008", "DCM", "Calcification Distribution"), "orientation": ("111354", "DCM", "Orientation"),
    "echo pattern": ("111360", "DCM", "Echo pattern"),
    "posterior features": ("111366", "DCM", "Posterior acoustic features"),
    "quadrant": ("111048", "DCM", "Quadrant location"), "depth": ("111020", "DCM", "Depth"),
    "clock face": ("111014", "DCM", "Clockface or region"),
}  # fmt: skip
"""Name of a descriptor -> the concept that TID 4011, 4206 and those beside them have for it (PS3.16)."""
VALUE_CODES: Mapping[str, Mapping[str, Coded]] = {
    "shape": {
        "oval": ("84360004", "SCT", "Ovoid shape (Oval)"), "round": ("42700002", "SCT", "Round shape"),
        "irregular": ("49608001", "SCT", "Irregular"),
    },
    "margin": {
        "circumscribed": ("129738007", "SCT", "Circumscribed lesion"),
        "obscured": ("129740002", "SCT", "Obscured lesion"),
        "microlobulated": ("129739004", "SCT", "Microlobulated lesion"),
        "indistinct": ("129741003", "SCT", "Indistinct lesion"),
        "spiculated": ("129742005", "SCT", "Spiculated lesion"), "angular": ("111343", "DCM", "Angular margins"),
    },
    "density": {
        "high density": ("129744006", "SCT", "High density lesion"),
        "equal density": ("129745007", "SCT", "Equal density (isodense) lesion"),
        "low density": ("129746008", "SCT", "Low density (not containing fat) lesion"),
        "fat-containing": ("129747004", "SCT", "Fat containing (radiolucent) lesion"),
    },
    "morphology": {
        "skin": ("129757003", "SCT", "Calcified skin of breast"),
        "vascular": ("129759000", "SCT", "Vascular calcification"),
        "coarse or popcorn-like": ("129749001", "SCT", "Coarse (popcorn-like) calcification"),
        "large rod-like": ("129752009", "SCT", "Large rod-like calcification"),
        "round": ("129756007", "SCT", "Round shaped calcification"),
        "dystrophic": ("129750001", "SCT", "Dystrophic calcification"),
        "milk of calcium": ("129753004", "SCT", "Milk of calcium calcification"),
        "suture": ("129758008", "SCT", "Calcified suture material"),
        "amorphous": ("129760005", "SCT", "Amorphous calcification"),
        "fine pleomorphic": ("111344", "DCM", "Fine pleomorphic calcification"),
    },
    "distribution": {
        "diffuse": ("129764001", "SCT", "Diffuse calcification distribution"),
        "regional": ("129767008", "SCT", "Regional calcification distribution"),
        "grouped": ("129766004", "SCT", "Grouped calcification distribution"),
        "linear": ("129765000", "SCT", "Linear calcification distribution"),
        "segmental": ("129768003", "SCT", "Segmental calcification distribution"),
    },
    "orientation": {"parallel": ("111355", "DCM", "Parallel"), "not parallel": ("111356", "DCM", "Not parallel")},
    "echo pattern": {
        "anechoic": ("111361", "DCM", "Anechoic"), "hyperechoic": ("111362", "DCM", "Hyperechoic"),
        "hypoechoic": ("111364", "DCM", "Hypoechoic"), "isoechoic": ("111365", "DCM", "Isoechoic"),
    },
    "posterior features": {
        "no posterior features": ("111367", "DCM", "No posterior acoustic features"),
        "enhancement": ("111368", "DCM", "Posterior enhancement"),
        "shadowing": ("111369", "DCM", "Posterior shadowing"),
        "combined pattern": ("111370", "DCM", "Combined posterior enhancement and shadowing"),
    },
    "quadrant": {
        "upper outer": ("76365002", "SCT", "Upper outer quadrant of breast"),
        "upper inner": ("77831004", "SCT", "Upper inner quadrant of breast"),
        "lower outer": ("33564002", "SCT", "Lower outer quadrant of breast"),
        "lower inner": ("19100000", "SCT", "Lower inner quadrant of breast"),
        "central": ("129786000", "SCT", "Central region of breast"),
        "retroareolar": ("129784002", "SCT", "Subareolar region"),
        "axillary tail": ("129785001", "SCT", "Axillary tail region"),
    },
    "depth": {"anterior": ("255549009", "SCT", "Anterior"), "posterior": ("255551008", "SCT", "Posterior")},
    "clock face": {
        f"{hour} o'clock": (value, "SCT", f"{hour} o'clock position")
        for hour, value in enumerate(
            ("129772004", "129773009", "129774003", "129775002", "129776001", "129777005", "129778000", "129779008",
             "129780006", "129781005", "129782003", "129783008"), 1,
        )
    },
}  # fmt: skip
"""Descriptor -> value -> code, of PS3.16 CID 6004, 6006, 6008, 6010, 6012, 6018, 6020, 6024 and those of ultrasound."""


def type_code(modality: Modality, words: str) -> Coded:
    """What a finding of this type is called in a report."""
    return TYPE_CODES[modality].get(words) or _own(words)


def descriptor_codes(name: str, value: str) -> tuple[Coded, Coded]:
    """What a descriptor and its value are called in a report."""
    return DESCRIPTOR_CODES.get(name) or _own(name), VALUE_CODES.get(name, {}).get(value) or _own(value)


def _own(words: str) -> Coded:
    return words, OWN_SCHEME, words[:64]
