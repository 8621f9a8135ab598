"""A finding while it is filled in: marks from the browser, and a description that may still have gaps.

A mark begins as a sketch of its own without a type. With a type it is a finding; without one it is only a measurement.
Two sketches of one finding in two views are joined. Everything here is pure: the pages hold sketches in their forms,
and drafts hold them as JSON.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from typing import Any

from core.errors import InvalidInput
from core.findings.finding import MARKS_MOST, Annotations, Finding, Measurement
from core.findings.lexicon import finding_type
from core.findings.marks import SHOWING, Mark, Measured
from core.findings.proposals import Proposal
from core.types import SIDE_NOT_STATED, Modality

Drawn = tuple[str, Mark]
"""A mark and the id that the browser gave it."""


@dataclass(frozen=True, slots=True)
class Place:
    """What a mark's picture is: breast, modality, and the label that stands on it."""

    breast: str
    modality: Modality | None
    label: str


Places = Mapping[tuple[str, int], Place]
"""(SHA-256 of the file, frame) of each picture of a study."""


@dataclass(frozen=True, slots=True)
class Sketch:
    """Marks and what was said of them so far; type None: nothing, it measures only."""

    marks: tuple[Drawn, ...]
    type: str | None = None
    descriptors: Mapping[str, str] = field(default_factory=dict)
    quadrant: str | None = None
    clock: int | None = None
    depth: str | None = None
    comment: str = ""

    @property
    def key(self) -> str:
        """What names the sketch while it is edited: its first mark."""
        return self.marks[0][0]

    @property
    def can_be_finding(self) -> bool:
        return all(mark.kind in SHOWING for _, mark in self.marks)


def place_of(sketch: Sketch, places: Places) -> Place | None:
    """Of its first mark; None where its picture is not here any more."""
    mark = sketch.marks[0][1]
    return places.get((mark.image_sha256, mark.frame))


def sketches_of(annotations: Annotations, prefix: str) -> tuple[Sketch, ...]:
    """What was saved with a read, to be changed in a form. prefix: of the ids of marks, which no other read has."""
    numbers = iter(range(10_000))

    def drawn(mark: Mark) -> Drawn:
        return f"{prefix}-{next(numbers)}", mark

    return (
        *(
            Sketch(tuple(drawn(mark) for mark in one.marks), one.type, dict(one.descriptors), one.quadrant, one.clock,
                   one.depth, one.comment)
            for one in annotations.findings
        ),
        *(Sketch((drawn(one.mark),)) for one in annotations.measurements),
    )  # fmt: skip


def redrawn(sketches: Sequence[Sketch], drawn: Sequence[Drawn], added: Collection[str] = ()) -> tuple[Sketch, ...]:
    """The sketches after marks were drawn, moved or taken away: a new mark is a sketch of its own, at the end.

    added: ids of marks that whoever drew did not have on the screen yet; they stay.
    """
    now = dict(drawn)
    found = []
    for sketch in sketches:
        marks = tuple((uid, now.pop(uid, mark)) for uid, mark in sketch.marks if uid in now or uid in added)
        if marks:
            found.append(replace(sketch, marks=marks))
    return (*found, *(Sketch((one,)) for one in now.items()))


def joined(sketches: Sequence[Sketch], key: str, into: str, places: Places) -> tuple[Sketch, ...]:
    """The sketches with the marks of `key` given to `into`: the same finding in another view.

    Raises InvalidInput where the two lie in different breasts or kinds of pictures.
    """
    by_key = {sketch.key: sketch for sketch in sketches}
    one, other = by_key[key], by_key[into]
    first, second = place_of(one, places), place_of(other, places)
    if first is None or second is None or (first.breast, first.modality) != (second.breast, second.modality):
        raise InvalidInput("The same finding lies in one breast, on pictures of one kind.")
    if not one.can_be_finding or len(one.marks) + len(other.marks) > MARKS_MOST:
        raise InvalidInput(f"A finding is marked by points, ellipses and outlines, at most {MARKS_MOST}.")
    whole = replace(other, marks=(*other.marks, *one.marks))
    return tuple(whole if sketch is other else sketch for sketch in sketches if sketch is not one)


def without(sketches: Sequence[Sketch], key: str) -> tuple[Sketch, ...]:
    return tuple(sketch for sketch in sketches if sketch.key != key)


def of_type(sketch: Sketch, name: str | None, modality: Modality | None) -> Sketch:
    """The sketch with another type; descriptors that this type does not have are dropped."""
    known = finding_type(modality, name) if modality and name else None
    if known is None:
        return replace(sketch, type=None, descriptors={})
    values = {one.name: one.values for one in known.descriptors}
    fitting = {key: value for key, value in sketch.descriptors.items() if value in values.get(key, ())}
    return replace(sketch, type=known.name, descriptors=fitting)


def annotations_of(sketches: Sequence[Sketch], places: Places) -> Annotations:
    """What is saved: sketches with a type as findings, every mark of the others as a measurement.

    What the marks measure is empty here; saving fills it in. Raises InvalidInput for what no form gives.
    """
    findings, measurements = [], []
    for sketch in sketches:
        place = place_of(sketch, places)
        if place is None:
            raise InvalidInput("A mark lies on a picture that is not in this study. Reload the page.")
        if sketch.type is None or place.modality is None:
            measurements += [Measurement(mark, Measured(is_mm=False)) for _, mark in sketch.marks]
            continue
        findings.append(
            Finding(
                place.breast or SIDE_NOT_STATED, place.modality, sketch.type, tuple(mark for _, mark in sketch.marks),
                sketch.descriptors, sketch.quadrant, sketch.clock, sketch.depth, sketch.comment,
            )
        )  # fmt: skip
    return Annotations(tuple(findings), tuple(measurements))


def proposal_uid(kind: str, weights_sha256: str, image_sha256: str, frame: int, number: int) -> str:
    """What names the mark of a proposal in a form: the same for the same network and picture, and for no other, so that
    what a reader answered stays with what was shown. kind: of the mark. number: within the picture, from 0."""
    name = "outline" if kind == "outline" else "proposal"
    return f"{name}-{weights_sha256[:8]}-{image_sha256[:16]}-{frame}-{number}"


def answered(
    proposals: Mapping[str, Proposal], sketches: Sequence[Sketch], rejected: Collection[str]
) -> tuple[Proposal, ...]:
    """The proposals (id of the mark -> proposal) with what the reader did with each: a finding on it counts, a bare
    mark does not."""
    drawn = {uid: mark for sketch in sketches if sketch.type for uid, mark in sketch.marks}
    found = []
    for uid, proposal in proposals.items():
        answer = "rejected" if uid in rejected else "open"
        if uid in drawn:
            answer = "accepted" if drawn[uid].to_json() == proposal.mark.to_json() else "edited"
        found.append(replace(proposal, answer=answer))
    return tuple(found)


def still_answered(
    saved: Sequence[Proposal], begun: Sequence[Sketch], sketches: Sequence[Sketch]
) -> tuple[Proposal, ...]:
    """The proposals that were saved with a read, with what the reader does with each in a correction of it.

    begun: the sketches that the correction began with. A finding on an accepted proposal is still the model's where it
    is left as it is, edited where it is moved, and rejected where it is taken away; every other answer stays.
    """
    left = {uid: mark.to_json() for sketch in begun if sketch.type for uid, mark in sketch.marks}
    drawn = {uid for sketch in sketches if sketch.type for uid, _ in sketch.marks}
    found: list[Proposal] = []
    for one in saved:
        uid = next((uid for uid, mark in left.items() if mark == one.mark.to_json()), None)
        if one.answer == "accepted" and uid is not None:
            del left[uid]
            found += answered({uid: one}, sketches, () if uid in drawn else (uid,))
        else:
            found.append(one)
    return tuple(found)


def to_json(sketches: Sequence[Sketch]) -> list[dict[str, Any]]:
    return [
        {**asdict(replace(sketch, marks=())), "marks": [[uid, mark.to_json()] for uid, mark in sketch.marks]}
        for sketch in sketches
    ]


def from_json(stored: object) -> tuple[Sketch, ...]:
    """Raises InvalidInput for what are no sketches."""
    try:
        return tuple(_sketch(dict(one)) for one in stored)  # type: ignore[attr-defined]
    except (KeyError, TypeError, ValueError) as error:
        raise InvalidInput("These are no marks of a draft.") from error


def _sketch(one: dict[str, Any]) -> Sketch:
    marks = tuple((str(uid), Mark.from_json(mark)) for uid, mark in one.pop("marks"))
    found = Sketch(marks, **one)
    texts = (found.type, found.quadrant, found.depth, found.comment, *found.descriptors.items())
    are_words = all(isinstance(text, str | tuple | None) for text in texts) and isinstance(found.comment, str)
    if not marks or not are_words or not isinstance(found.clock, int | None):
        raise ValueError
    return found
