"""What a finding can be, by the kind of picture, and the words that describe it.

Mammography and ultrasound: ACR BI-RADS Atlas, 5th edition (D'Orsi et al. 2013), its lexicons of mammography and
ultrasound; location as in its sections on quadrant, clock face and depth. Histology has no such lexicon; its list names
what a pathologist marks on a section of the breast.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from core.types import LATERALITIES, Modality


@dataclass(frozen=True, slots=True)
class Descriptor:
    """One property of a finding and its values. suspicious: values that the atlas calls suspicious."""

    name: str
    values: tuple[str, ...]
    suspicious: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class FindingType:
    """A kind of finding and the properties that describe it."""

    name: str
    descriptors: tuple[Descriptor, ...] = ()


_SHAPE = Descriptor("shape", ("oval", "round", "irregular"), ("irregular",))

TYPES: Mapping[Modality, tuple[FindingType, ...]] = {
    Modality.MAMMOGRAPHY: (
        FindingType(
            "mass",
            (
                _SHAPE,
                Descriptor(
                    "margin", ("circumscribed", "obscured", "microlobulated", "indistinct", "spiculated"),
                    ("microlobulated", "indistinct", "spiculated"),
                ),
                Descriptor("density", ("high density", "equal density", "low density", "fat-containing")),
            ),
        ),
        FindingType(
            "calcifications",
            (
                Descriptor(
                    "morphology",
                    ("skin", "vascular", "coarse or popcorn-like", "large rod-like", "round", "rim", "dystrophic",
                     "milk of calcium", "suture", "amorphous", "coarse heterogeneous", "fine pleomorphic",
                     "fine linear or fine-linear branching"),
                    ("amorphous", "coarse heterogeneous", "fine pleomorphic", "fine linear or fine-linear branching"),
                ),
                Descriptor(
                    "distribution", ("diffuse", "regional", "grouped", "linear", "segmental"), ("linear", "segmental")
                ),
            ),
        ),
        FindingType(
            "asymmetry",
            (
                Descriptor(
                    "kind", ("one view", "global", "focal", "developing"), ("developing",)
                ),
            ),
        ),
        FindingType("architectural distortion"),
        FindingType(
            "other finding",
            (Descriptor("kind", ("intramammary lymph node", "skin lesion", "solitary dilated duct", "skin thickening",
                                 "skin retraction", "nipple retraction", "axillary adenopathy")),),
        ),
    ),
    Modality.ULTRASOUND: (
        FindingType(
            "mass",
            (
                _SHAPE,
                Descriptor("orientation", ("parallel", "not parallel"), ("not parallel",)),
                Descriptor(
                    "margin", ("circumscribed", "indistinct", "angular", "microlobulated", "spiculated"),
                    ("indistinct", "angular", "microlobulated", "spiculated"),
                ),
                Descriptor(
                    "echo pattern",
                    ("anechoic", "hyperechoic", "complex cystic and solid", "hypoechoic", "isoechoic", "heterogeneous"),
                    ("complex cystic and solid",),
                ),
                Descriptor(
                    "posterior features",
                    ("no posterior features", "enhancement", "shadowing", "combined pattern"),
                ),
            ),
        ),
        FindingType(
            "calcifications", (Descriptor("place", ("in a mass", "outside of a mass", "intraductal")),)
        ),
        FindingType("architectural distortion"),
        FindingType(
            "special case",
            (Descriptor("kind", ("simple cyst", "clustered microcysts", "complicated cyst", "mass in or on skin",
                                 "foreign body", "intramammary lymph node", "axillary lymph node",
                                 "vascular abnormality", "postsurgical fluid collection", "fat necrosis")),),
        ),
    ),
    Modality.HISTOLOGY: (
        FindingType("invasive carcinoma"),
        FindingType("carcinoma in situ"),
        FindingType("atypical hyperplasia"),
        FindingType("benign lesion"),
        FindingType("necrosis"),
        FindingType("calcifications"),
        FindingType("other finding"),
    ),
}  # fmt: skip
"""Kind of picture -> the types of finding on it, in the order of the list that a reader sees."""

SUSPICIOUS_TYPES = ("architectural distortion", "invasive carcinoma", "carcinoma in situ")
"""Types that ask for more than routine by themselves, whatever describes them."""

QUADRANTS = (
    "upper outer", "upper inner", "lower outer", "lower inner", "central", "retroareolar", "axillary tail",
)  # fmt: skip
CLOCK_HOURS = tuple(range(1, 13))
DEPTHS = ("anterior", "middle", "posterior")
"""Thirds of the breast, from the nipple, as BI-RADS has them for mammography (5th edition, location of lesion). In
ultrasound a depth is a length under the skin, and a place is given by clock face and distance from the nipple."""


def depths_of(modality: Modality) -> tuple[str, ...]:
    """The depths that a finding on such pictures can be given; none where the words mean nothing."""
    return DEPTHS if modality is Modality.MAMMOGRAPHY else ()


def finding_type(modality: Modality, name: str) -> FindingType | None:
    """The type of this name on such pictures, or None."""
    return next((one for one in TYPES[modality] if one.name == name), None)


def hours_of(breast: str, quadrant: str) -> Sequence[int]:
    """The hours of the clock face that lie in a quadrant, borders included; none where clock and quadrant are free of
    each other. The clock is read facing the patient, so that outer is 9 o'clock on the right and 3 on the left."""
    halves = quadrant.split()
    if breast not in LATERALITIES or len(halves) != 2 or halves[0] not in ("upper", "lower"):
        return ()
    is_outer, is_upper = halves[1] == "outer", halves[0] == "upper"
    is_at_nine = (breast == "R") == is_outer
    if is_upper:
        return (9, 10, 11, 12) if is_at_nine else (12, 1, 2, 3)
    return (6, 7, 8, 9) if is_at_nine else (3, 4, 5, 6)
