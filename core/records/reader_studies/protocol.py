"""What a reader study is before anybody reads: cases with their truth, readers, design, and each reader's order.

A protocol is locked before the first read: its canonical JSON has a sha256 that the audit trail names, and everything
that is random in it follows from its seed. Loads neither the database nor TensorFlow.
"""

from __future__ import annotations

import hashlib
import json
import random
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Literal, Self

from pydantic import BaseModel, ConfigDict, Field, ValidationError, model_validator

from core.errors import InvalidInput
from core.types import LATERALITIES, SIDE_NOT_STATED, Modality

UNAIDED, AIDED = "unaided", "aided"
AIDED_BY = ("aided by A", "aided by B")
"""With the answer of the first and of the second of two models before the reader."""
ONE_SESSION, TWO_SESSIONS = "one session", "two sessions"
DESIGNS: Mapping[str, str] = {
    ONE_SESSION: "Each case is read unaided and, with what was said saved, at once again with the AI's answer.",
    TWO_SESSIONS: "Half of a reader's cases are read aided first and half unaided; the other way round after a pause.",
}
"""Design -> what it means where aided reading is compared with unaided. The first is quicker, the second keeps the
unaided read from anchoring the aided one."""
OF_TWO_MODELS = (
    "Half of a reader's cases are read with the answer of model A first and half with that of model B; the other way "
    "round after a pause."
)
"""What two sessions mean where two models are compared."""
MOST_CASES, MOST_READERS, MOST_GROUPS = 2000, 50, 10
TITLE_LENGTH_MOST, QUESTION_LENGTH_MOST = 120, 1000


class _Part(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")


class StudyCase(_Part):
    """One study of the worklist, or one made of a picture or an exam of a data set.

    truth: breast -> whether it is malignant. patient: number, equal for one patient.
    """

    study_id: str = Field(pattern="^[0-9a-f]{32}$")
    truth: Mapping[str, bool] = Field(min_length=1)
    patient: int = Field(ge=1)

    @model_validator(mode="after")
    def _known_breasts(self) -> Self:
        if set(self.truth) - {*LATERALITIES, SIDE_NOT_STATED}:
            raise ValueError("a case has breasts that do not exist")
        return self


_LATER = ("shared", "aids", "halves_in_groups")
"""Fields that protocols of earlier versions do not have."""


class Protocol(_Part):
    """What is locked. training: cases that are read first and count for nothing. readers: person ids.

    pause_days: at least so many days between the sessions of one reader. groups: 1 where everybody reads everything
    (fully crossed), else readers and cases are dealt into so many groups, each reading its own (split-plot). shared: so
    many cases every group reads besides its own (hybrid: they crossed, others split-plot). halves_in_groups: of two
    sessions, every second reader of each group begins with the other half, not every second of all. aids: none,
    or the ids of two models that are compared with one another instead of with no answer. cut: from
    this suspicion (0 to 100) on a breast is called; margin: of non-inferiority in area, 0 for none. source: where the
    cases come from, "" for this site's own studies.
    """

    title: str = Field(min_length=1, max_length=TITLE_LENGTH_MOST)
    question: str = Field(max_length=QUESTION_LENGTH_MOST)
    modality: Modality
    cases: tuple[StudyCase, ...] = Field(max_length=MOST_CASES)
    training: tuple[StudyCase, ...] = Field(default=(), max_length=20)
    readers: tuple[int, ...] = Field(max_length=MOST_READERS)
    design: Literal["one session", "two sessions"] = "one session"
    pause_days: int = Field(default=0, ge=0, le=365)
    groups: int = Field(default=1, ge=1, le=MOST_GROUPS)
    shared: int = Field(default=0, ge=0, le=MOST_CASES)
    halves_in_groups: bool = False
    aids: tuple[str, ...] = Field(default=(), max_length=2)
    seed: int = Field(default=0, ge=0, lt=2**31)
    cut: int = Field(default=3, ge=1, le=100)
    margin: float = Field(default=0.0, ge=0.0, le=0.5)
    source: str = Field(default="", max_length=200)

    @property
    def modalities(self) -> tuple[str, str]:
        """What is compared, the first with the second."""
        return AIDED_BY if self.aids else (UNAIDED, AIDED)

    def aid_of(self, modality: str) -> str | None:
        """The only model whose answer may be before the reader; None where it is unaided or any model's may."""
        return self.aids[AIDED_BY.index(modality)] if self.aids else None

    @property
    def n_positive(self) -> int:
        """Malignant breasts among those that count."""
        return sum(sum(case.truth.values()) for case in self.cases)

    @property
    def n_breasts(self) -> int:
        return sum(len(case.truth) for case in self.cases)

    @property
    def sha256(self) -> str:
        """Of the canonical JSON: sorted keys, no spaces. What came later stands in it only where it is used."""
        told = self.model_dump(mode="json", exclude={name for name in _LATER if not getattr(self, name)})
        text = json.dumps(told, sort_keys=True, separators=(",", ":"), ensure_ascii=True)
        return hashlib.sha256(text.encode()).hexdigest()

    def refusals(self) -> list[str]:
        """What keeps the protocol from being locked, a sentence each."""
        studies = [case.study_id for case in (*self.cases, *self.training)]
        found = []
        if len(set(studies)) != len(studies):
            found.append("A study stands twice among the cases.")
        if len(set(self.readers)) != len(self.readers) or len(self.readers) < 2:
            found.append("A reader study needs two readers or more, each once.")
        if min(self.n_positive, self.n_breasts - self.n_positive) < 2:
            found.append("Among the cases two or more malignant and two or more other breasts are needed.")
        own = len(self.cases) - self.shared
        if self.groups > 1 and (len(self.readers) < 2 * self.groups or own < 2 * self.groups):
            found.append(f"{self.groups} groups need two readers and two cases each. Make fewer groups.")
        if self.groups == 1 and self.shared:
            found.append("Cases that every group reads belong to two groups or more. Set them to 0, or make groups.")
        if self.aids and (len(set(self.aids)) != 2 or self.design == ONE_SESSION):
            found.append("Two different models are compared, in two sessions: who has seen one answer knows it.")
        if self.design == ONE_SESSION and self.pause_days:
            found.append("A pause belongs to two sessions. Set it to 0 days, or choose two sessions.")
        return found


@dataclass(frozen=True, slots=True)
class Task:
    """One case that a reader reads once. session: 1 or 2. number: of the task in the reader's order, from 1."""

    case: StudyCase
    modality: str
    session: int
    is_training: bool
    number: int


def protocol_from(values: Mapping[str, object]) -> Protocol:
    """A protocol of these fields. Raises InvalidInput with a sentence."""
    try:
        return Protocol.model_validate(values)
    except ValidationError as error:
        first = error.errors()[0]
        raise InvalidInput(f"The protocol's {first['loc'][0]} cannot be used: {first['msg'].lower()}.") from error


def group_of(protocol: Protocol, reader: int) -> int:
    """Which group a reader is in, from 0: readers are dealt out in the order of the protocol."""
    return protocol.readers.index(reader) % protocol.groups


def cases_of(protocol: Protocol, reader: int) -> tuple[StudyCase, ...]:
    """The cases that this reader reads, in the protocol's order; malignant and other ones are dealt out apart, so that
    each group, and what all groups read, has its share of both."""
    if protocol.groups == 1:
        return protocol.cases
    drawn = list(protocol.cases)
    random.Random(f"{protocol.seed}:groups").shuffle(drawn)
    drawn.sort(key=lambda case: not any(case.truth.values()))  # stable: shuffled within both kinds
    shared = {drawn[number * len(drawn) // protocol.shared].study_id for number in range(protocol.shared)}
    dealt = [case for case in drawn if case.study_id not in shared]
    own = {case.study_id for case in dealt[group_of(protocol, reader) :: protocol.groups]} | shared
    return tuple(case for case in protocol.cases if case.study_id in own)


def tasks_of(protocol: Protocol, reader: int) -> tuple[Task, ...]:
    """Everything that this reader does, in order: training, then the cases in an order of their own from the seed."""
    drawn = random.Random(f"{protocol.seed}:{reader}")
    cases = list(cases_of(protocol, reader))
    drawn.shuffle(cases)
    base, other = protocol.modalities
    plan = [(case, modality, 1, True) for case in protocol.training for modality in (base, other)]
    if protocol.design == ONE_SESSION:
        plan += [(case, modality, 1, False) for case in cases for modality in (base, other)]
    else:
        # Every second reader begins with the other half, so that over readers each case is met both ways first: every
        # second of a group, because an even number of groups would part the readers of each by the same halves.
        place = protocol.readers.index(reader)
        other_first = _half(cases, (place // protocol.groups if protocol.halves_in_groups else place) % 2)
        first = [(case, other if case.study_id in other_first else base, 1, False) for case in cases]
        again = list(first)
        drawn.shuffle(again)
        plan += first + [(case, base if modality == other else other, 2, False) for case, modality, _, _ in again]
    return tuple(Task(*one, number) for number, one in enumerate(plan, start=1))


def _half(cases: Sequence[StudyCase], parity: int) -> set[str]:
    """Half of the cases, the same for every reader of this parity, with half of the malignant ones."""
    in_order = sorted(cases, key=lambda case: (not any(case.truth.values()), case.study_id))
    return {case.study_id for place, case in enumerate(in_order) if place % 2 == parity}
