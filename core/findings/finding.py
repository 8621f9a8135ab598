"""A finding: what a reader marks on one or more pictures of a breast and describes; and measurements without one."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from core.errors import InvalidInput
from core.findings.lexicon import (
    CLOCK_HOURS,
    DEPTHS,
    QUADRANTS,
    SUSPICIOUS_TYPES,
    TYPES,
    finding_type,
    hours_of,
)
from core.findings.marks import SHOWING, Mark, Measured, measured_text, size_text
from core.findings.proposals import Proposal
from core.types import LATERALITIES, SIDE_NOT_STATED, Modality

COMMENT_MOST = 500
FINDINGS_MOST = 50
"""Findings of one read, and measurements of one read, at most."""
MARKS_MOST = 12
NO_SPACING = "size in pixels: the file states no spacing"


@dataclass(frozen=True, slots=True)
class Finding:
    """One finding of a read. marks: at least one, on pictures of one modality and one breast; the same finding seen in
    two views has a mark on each. descriptors: name -> value, of `core.findings.lexicon`. clock: hour, 1 to 12.

    sizes: what is measured on each mark, in their order; filled in when the read is saved.
    Raises InvalidInput for what the lexicon does not have.
    """

    breast: str
    modality: Modality
    type: str
    marks: tuple[Mark, ...]
    descriptors: Mapping[str, str] = field(default_factory=dict)
    quadrant: str | None = None
    clock: int | None = None
    depth: str | None = None
    comment: str = ""
    sizes: tuple[Measured, ...] = ()

    def __post_init__(self) -> None:
        if self.breast not in (*LATERALITIES, SIDE_NOT_STATED):
            raise InvalidInput("A finding is in one breast.")
        known = finding_type(self.modality, self.type)
        if known is None:
            names = ", ".join(one.name for one in TYPES[self.modality])
            raise InvalidInput(f"A finding in {self.modality} can be: {names}.")
        values = {one.name: one.values for one in known.descriptors}
        for name, value in self.descriptors.items():
            if value not in values.get(name, ()):
                raise InvalidInput(f"A finding of the type {self.type} is not described by {name} {value}.")
        if self.quadrant not in (None, *QUADRANTS) or self.depth not in (None, *DEPTHS):
            raise InvalidInput("Quadrant and depth of a finding are those of BI-RADS.")
        if self.clock not in (None, *CLOCK_HOURS):
            raise InvalidInput("The clock face has the hours 1 to 12.")
        if not 1 <= len(self.marks) <= MARKS_MOST:
            raise InvalidInput(f"A finding has 1 to {MARKS_MOST} marks on the pictures.")
        if any(mark.kind not in SHOWING for mark in self.marks):
            raise InvalidInput("A finding is marked by a point, an ellipse or an outline.")
        if len(self.comment) > COMMENT_MOST:
            raise InvalidInput(f"The comment on a finding has at most {COMMENT_MOST} characters. Shorten it.")

    @property
    def size(self) -> Measured | None:
        """The largest of the sizes that its marks have; None where only points mark it."""
        with_size = [one for one in self.sizes if one.length is not None]
        return max(with_size, key=lambda one: one.length or 0.0, default=None)

    @property
    def is_suspicious(self) -> bool:
        """Whether its type or what describes it asks for more than routine (BI-RADS 5th edition, lexicon)."""
        known = finding_type(self.modality, self.type)
        of_value = known is not None and any(
            self.descriptors.get(one.name) in one.suspicious for one in known.descriptors
        )
        return self.type in SUSPICIOUS_TYPES or of_value


@dataclass(frozen=True, slots=True)
class Measurement:
    """A mark that only measures, and what it gave."""

    mark: Mark
    measured: Measured


@dataclass(frozen=True, slots=True)
class Annotations:
    """What a read has on its pictures. proposals: of models, with what the reader did with each."""

    findings: tuple[Finding, ...] = ()
    measurements: tuple[Measurement, ...] = ()
    proposals: tuple[Proposal, ...] = ()

    def require_few(self) -> None:
        """Raises InvalidInput for more than a reader can mean."""
        if max(len(self.findings), len(self.measurements), len(self.proposals)) > FINDINGS_MOST:
            raise InvalidInput(f"A read has at most {FINDINGS_MOST} findings and as many measurements.")

    @property
    def marks(self) -> tuple[Mark, ...]:
        """All of them: findings first."""
        own = [mark for finding in self.findings for mark in finding.marks]
        return (*own, *(one.mark for one in self.measurements), *(one.mark for one in self.proposals))


NO_ANNOTATIONS = Annotations()


def detail_of(finding: Finding) -> dict[str, Any]:
    """What describes a finding, as plain JSON values; marks and sizes are beside it."""
    return {
        "modality": finding.modality.value,
        "descriptors": dict(finding.descriptors),
        "quadrant": finding.quadrant,
        "clock": finding.clock,
        "depth": finding.depth,
        "comment": finding.comment,
    }


def location_text(finding: Finding) -> str:
    """Quadrant, clock face and depth in words, as far as they were given."""
    parts = [
        f"{finding.quadrant} quadrant" if (finding.quadrant or "").count(" ") else finding.quadrant,
        f"{finding.clock} o'clock" if finding.clock else None,
        f"{finding.depth} depth" if finding.depth else None,
    ]
    if finding.quadrant == "axillary tail":
        parts[0] = finding.quadrant
    return ", ".join(part for part in parts if part)


def description_of(finding: Finding) -> str:
    """Type, descriptors, location and size as one sentence without its full stop."""
    known = finding_type(finding.modality, finding.type)
    values = [_described(one.name, finding.descriptors[one.name]) for one in (known.descriptors if known else ())
              if one.name in finding.descriptors]  # fmt: skip
    size = finding.size
    size_words = ""
    if size is not None:
        size_words = size_text(size) + ("" if size.is_mm else f" ({NO_SPACING})")
    head = ", ".join([f"{finding.type[0].upper()}{finding.type[1:]}", *values])
    return "; ".join(part for part in (head, location_text(finding), size_words) if part)


def _described(name: str, value: str) -> str:
    """A value that does not say by itself what it is about says it."""
    return value if name not in ("margin", "distribution", "orientation") else f"{value} {name}"


def measurement_text(one: Measurement) -> str:
    return measured_text(one.mark, one.measured)


def location_doubts(findings: Sequence[Finding]) -> dict[int, str]:
    """Number of a finding, from 1 -> the sentence on it whose clock face does not lie in its quadrant; asked, never
    refused."""
    return {
        number: f"Finding {number}: {finding.clock} o'clock does not lie in the {finding.quadrant} quadrant of the "
        f"{'right' if finding.breast == 'R' else 'left'} breast."
        for number, finding in enumerate(findings, start=1)
        if finding.quadrant and finding.clock and (hours := hours_of(finding.breast, finding.quadrant))
        and finding.clock not in hours
    }  # fmt: skip


def assessment_doubts(findings: Sequence[Finding], categories: Mapping[str, str]) -> list[str]:
    """Sentences on breasts whose category (breast -> BI-RADS) contradicts the findings; asked, never refused.

    BI-RADS 1 is "nothing to comment on", so any finding contradicts it; 2 is benign, so a suspicious descriptor does;
    4 and 5 ask for tissue of something that must be somewhere (ACR BI-RADS Atlas, 5th edition, assessment categories).
    """
    names = {"R": "Right breast", "L": "Left breast", SIDE_NOT_STATED: "Side not stated"}
    doubts = []
    for breast, category in categories.items():
        own = [(number, one) for number, one in enumerate(findings, start=1) if one.breast == breast]
        suspicious = [f"{number} ({one.type})" for number, one in own if one.is_suspicious]
        if category == "1" and own:
            doubts.append(f"{names[breast]}: BI-RADS 1 is nothing to comment on, and a finding is marked.")
        elif category in ("2", "3") and suspicious:
            meaning = "benign" if category == "2" else "probably benign"
            which = ", ".join(suspicious)
            doubts.append(
                f"{names[breast]}: BI-RADS {category} is {meaning}, and finding {which} is described as suspicious."
            )
        elif category in ("4A", "4B", "4C", "5") and findings and not own:
            doubts.append(
                f"{names[breast]}: BI-RADS {category} asks for tissue, and no finding is marked in this breast."
            )
    return doubts
