"""Reader studies as rows: designed, locked before the first read, closed after the last.

The protocol that was locked is the one that is read by: its sha256 stands in its row and in the audit trail, and the
database refuses to change either. Cases are studies of the worklist whose final read and truth are known, or pictures
or exams of a data set (`data_set_cases`).
"""

from __future__ import annotations

import random
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any
from uuid import uuid4

from sqlalchemy import Connection, Row, func, insert, select, update

from core.errors import Conflict, InvalidInput, NotFound
from core.models.cards import live_cards
from core.records.audit import trail
from core.records.database import tables
from core.records.database.db import Database
from core.records.people.permissions import Actor, acting, require_permission_now
from core.records.reader_studies.data_set_cases import CasesOf, drop_cases, require_there, store_cases
from core.records.reader_studies.learnt_cases import learnt_by_answering, learnt_sentences, unlisted_sentences
from core.records.reader_studies.protocol import (
    ONE_SESSION,
    QUESTION_LENGTH_MOST,
    TITLE_LENGTH_MOST,
    Protocol,
    StudyCase,
    protocol_from,
    tasks_of,
)
from core.records.reads.reader_scores import MALIGNANT, finished, is_reading
from core.records.reads.reading_leases import is_double_read
from core.records.reads.rows import newest_predictions
from core.records.reads.studies import delete_files
from core.types import SIDE_NOT_STATED, Modality
from core.wording import tidy_text

DESIGNED, READING, CLOSED = "being designed", "being read", "closed"
_DESIGN_AGAIN = "Discard this reader study and design it again."


@dataclass(frozen=True, slots=True)
class ReaderProgress:
    """How far one reader is: reads saved, and how many there will be."""

    person_id: int
    name: str
    n_done: int
    n_tasks: int


@dataclass(frozen=True, slots=True)
class ReaderStudyRow:
    """One reader study. state: one of `DESIGNED`, `READING`, `CLOSED`. sha256: of the locked protocol."""

    id: str
    protocol: Protocol
    state: str
    created_at: datetime
    created_by_name: str
    locked_at: datetime | None
    closed_at: datetime | None
    sha256: str
    progress: tuple[ReaderProgress, ...]

    @property
    def is_complete(self) -> bool:
        """Whether every reader has read everything."""
        return self.state != DESIGNED and all(one.n_done == one.n_tasks for one in self.progress)


@dataclass(frozen=True, slots=True)
class CasesAtHand:
    """Studies that a reader study can be made of. left_out: sentence -> how many studies."""

    cases: tuple[StudyCase, ...]
    left_out: Mapping[str, int]


def cases_at_hand(db: Database, actor: Actor, modality: Modality) -> CasesAtHand:
    """The finished studies of this kind whose breasts all have a truth. Raises NotAllowed.

    "not biopsied, stable" counts as not malignant, as in `core.records.reads.reader_scores`.
    """
    with acting(db.read(), actor, "design_reader_study") as (connection, person):
        return _cases(connection, db, person.id, modality)


def _cases(connection: Connection, db: Database, person_id: int, modality: Modality) -> CasesAtHand:
    found: list[StudyCase] = []
    left_out: Counter[str] = Counter()
    patients: dict[str, int] = {}
    image, truth, read = tables.image.c, tables.truth.c, tables.read.c
    for study in connection.execute(finished(db)).all():
        images = connection.execute(
            select(image.laterality, image.modality, image.pixels_removed_at).where(image.study_id == study.id)
        ).all()
        if {one.modality for one in images} != {modality.value}:
            continue
        if any(one.pixels_removed_at for one in images):
            left_out["Its pixels were removed by the site's policy for keeping pictures."] += 1
            continue
        if is_reading(connection.execute(select(tables.read).where(read.study_id == study.id)).all(), person_id):
            left_out["You are in the middle of reading it."] += 1
            continue
        if is_double_read(connection, study.id):
            left_out["Two people read it, blinded, and its answer is shown to them alone."] += 1
            continue
        rows = connection.execute(
            select(truth.breast, truth.pathology).where(truth.study_id == study.id).order_by(truth.id)
        )
        known = {row.breast: row.pathology == MALIGNANT for row in rows}
        shown = {one.laterality or SIDE_NOT_STATED for one in images}
        if shown - set(known):
            left_out["A breast that it shows has no truth."] += 1
            continue
        patient = patients.setdefault(study.patient_hash or study.id, len(patients) + 1)
        found.append(StudyCase(study_id=study.id, truth={one: known[one] for one in sorted(shown)}, patient=patient))
    return CasesAtHand(tuple(found), dict(left_out))


def draw_cases(
    cases: Sequence[StudyCase], *, positive: int, negative: int, seed: int
) -> tuple[tuple[StudyCase, ...], tuple[StudyCase, ...]]:
    """So many studies with and without a malignant breast, drawn by the seed; and those left over, for training.

    Raises InvalidInput where there are not so many.
    """
    drawn = list(cases)
    random.Random(f"{seed}:cases").shuffle(drawn)
    kinds = {kind: [one for one in drawn if any(one.truth.values()) is kind] for kind in (True, False)}
    for kind, wanted, words in ((True, positive, "with a malignant breast"), (False, negative, "without one")):
        if not 0 <= wanted <= len(kinds[kind]):
            raise InvalidInput(f"There are {len(kinds[kind])} studies {words}; {wanted} were asked for.")
    chosen = kinds[True][:positive] + kinds[False][:negative]
    return tuple(chosen), tuple(kinds[True][positive:] + kinds[False][negative:])


def possible_readers(db: Database, actor: Actor) -> dict[int, str]:
    """Everybody who may read: person id -> name. Raises NotAllowed."""
    with acting(db.read(), actor, "design_reader_study") as (connection, _):
        rows = connection.execute(
            select(tables.person).where(tables.person.c.disabled.is_(False)).order_by(tables.person.c.name)
        ).all()
    return {row.id: row.name for row in rows if "radiologist" in row.roles}


def create_reader_study(
    db: Database, actor: Actor, values: Mapping[str, object], *, of_data_set: CasesOf | None = None
) -> str:
    """A reader study that is being designed. values: the fields of a `Protocol`. Its id.

    of_data_set: where the cases are pictures or exams of a data set; None where they are studies of this site. Raises
    NotAllowed; InvalidInput where it could never be locked as it is, with all reasons.
    """
    require_permission_now(db, actor, "design_reader_study")
    protocol = _checked(values)
    wanted = (*protocol.cases, *protocol.training)
    if of_data_set is not None:
        store_cases(db, actor, of_data_set, wanted, protocol.modality)
    with acting(db.begin(), actor, "design_reader_study") as (connection, person):
        _require_models(db, protocol)
        if of_data_set is not None:
            require_there(connection, db, of_data_set, wanted)
        else:
            _require_as_known(connection, db, person.id, protocol.modality, wanted, "Choose the cases again.")
            _require_answers(connection, protocol)
        _require_readers(connection, protocol)
        study_id = uuid4().hex
        connection.execute(
            insert(tables.reader_study).values(
                id=study_id, protocol=protocol.model_dump(mode="json"), created_by=person.id, created_at=tables.now()
            )
        )
        trail.record(connection, person.id, "design reader study", f"reader study {study_id}")
    return study_id


def _checked(values: Mapping[str, object]) -> Protocol:
    limits = {"title": TITLE_LENGTH_MOST, "question": QUESTION_LENGTH_MOST}
    words = {name: tidy_text(str(values.get(name, "")), most, name) for name, most in limits.items()}
    if not words["title"]:
        raise InvalidInput("Give the reader study a title.")
    protocol = protocol_from({**values, **words})
    if refusals := protocol.refusals():
        raise InvalidInput(" ".join(refusals))
    return protocol.model_copy(update={"halves_in_groups": protocol.groups > 1 and protocol.design != ONE_SESSION})


def _require_as_known(
    connection: Connection, db: Database, person_id: int, modality: Modality, wanted: Sequence[StudyCase], then: str
) -> None:
    """Raises Conflict where one of these studies of the site is no case now, or another one. then: what to do about it.

    Patients are numbered anew each time: what must hold is who is the same one.
    """
    known = {case.study_id: case for case in _cases(connection, db, person_id, modality).cases} if wanted else {}
    now = [known.get(case.study_id) for case in wanted]
    same = all(one is not None and one.truth == case.truth for one, case in zip(now, wanted, strict=True))
    pairs = {(case.patient, one.patient) for one, case in zip(now, wanted, strict=True) if one is not None}
    if not same or any(len(set(numbers)) != len(pairs) for numbers in zip(*pairs, strict=True)):
        raise Conflict(f"A case is here no more, or its truth was changed meanwhile. {then}")


def _require_readers(connection: Connection, protocol: Protocol) -> None:
    rows = connection.execute(select(tables.person).where(tables.person.c.id.in_(protocol.readers))).all()
    able = {row.id for row in rows if not row.disabled and "radiologist" in row.roles}
    if able != set(protocol.readers):
        raise Conflict("One of the readers may not read any more. Choose the readers again.")


def _require_models(db: Database, protocol: Protocol) -> None:
    answering = {card.model_id for card in live_cards(db.settings) if card.modality == protocol.modality}
    if not set(protocol.aids) <= answering:
        raise Conflict("One of the two models does not answer here any more. Choose models that are live.")


def _require_answers(connection: Connection, protocol: Protocol) -> None:
    """Models are not asked about studies any more that were read to the end with an answer."""
    image, n_without = tables.image.c, 0
    for case in (*protocol.cases, *protocol.training) if protocol.aids else ():
        images = set(connection.execute(select(image.id).where(image.study_id == case.study_id)).scalars())
        answered = {(row.image_id, row.model_id) for row in newest_predictions(connection, case.study_id)}
        n_without += not {(one, model_id) for one in images for model_id in protocol.aids} <= answered
    if n_without:
        raise InvalidInput(
            f"Of {n_without} of these studies one of the two models has given no answer, and none is asked about a "
            "study that was read to the end. Take cases of a data set, which both are asked about."
        )


def _require_unlearnt(connection: Connection, db: Database, protocol: Protocol) -> None:
    if said := learnt_sentences(learnt_by_answering(connection, db, protocol)):
        raise Conflict(
            f"{' '.join(said)} {_DESIGN_AGAIN} Choose cases that no model has learnt from which answers about them, or "
            "leave such a model out: compare two others, or have it retired on the page Releases before it is asked."
        )


def remarks_on_models(db: Database, actor: Actor, study_id: str) -> list[str]:
    """Sentences on what the models that would answer have learnt from of these cases, and of which it cannot be told.

    Raises NotAllowed, NotFound, ModelUnavailable.
    """
    with acting(db.read(), actor, "design_reader_study") as (connection, _):
        protocol = Protocol.model_validate(find_reader_study(connection, study_id).protocol)
        learnt = learnt_by_answering(connection, db, protocol)
    return [*learnt_sentences(learnt), *unlisted_sentences(learnt)]


def lock_reader_study(db: Database, actor: Actor, study_id: str) -> str:
    """From now on it is read by this protocol, and nothing of it changes; the protocol's sha256.

    Raises NotAllowed, NotFound; Conflict where it is locked already, a reader, a case or a case's pictures are gone,
    what became of a case was corrected, or a model that answers has learnt from cases; ModelUnavailable.
    """
    with acting(db.begin(), actor, "design_reader_study") as (connection, person):
        row = find_reader_study(connection, study_id, is_for_change=True)
        if row.locked_at is not None:
            raise Conflict("This reader study is locked already.")
        protocol = Protocol.model_validate(row.protocol)
        _require_readers(connection, protocol)
        _require_models(db, protocol)
        cases = {case.study_id: case for case in (*protocol.cases, *protocol.training)}
        study = tables.study.c
        here = connection.execute(
            select(study.id, study.is_reader_study_case).where(study.id.in_(cases), study.deleted_at.is_(None))
        ).all()
        if len(here) != len(cases):
            raise Conflict(f"A case was deleted meanwhile. {_DESIGN_AGAIN}")
        if n := n_without_pictures(connection, list(cases)):
            raise Conflict(f"Of {n} of the cases pictures were removed by the site's policy. {_DESIGN_AGAIN}")
        own = [cases[row.id] for row in here if not row.is_reader_study_case]
        _require_as_known(connection, db, person.id, protocol.modality, own, _DESIGN_AGAIN)
        _require_unlearnt(connection, db, protocol)
        connection.execute(
            update(tables.reader_study)
            .where(tables.reader_study.c.id == study_id)
            .values(locked_at=tables.now(), protocol_sha256=protocol.sha256)
        )
        trail.record(
            connection, person.id, "lock reader study", f"reader study {study_id}", protocol_sha256=protocol.sha256
        )
    return protocol.sha256


def n_without_pictures(connection: Connection, study_ids: Sequence[str]) -> int:
    """Of how many of these studies the site's policy for keeping pictures has removed pixels."""
    image = tables.image.c
    query = select(func.count(image.study_id.distinct()))
    return connection.execute(
        query.where(image.study_id.in_(study_ids), image.pixels_removed_at.is_not(None))
    ).scalar_one()


def discard_reader_study(db: Database, actor: Actor, study_id: str) -> None:
    """Removes one that nobody has locked. Raises NotAllowed, NotFound, Conflict."""
    with acting(db.begin(), actor, "design_reader_study") as (connection, person):
        if find_reader_study(connection, study_id, is_for_change=True).locked_at is not None:
            raise Conflict("This reader study is locked: what was read by it stays.")
        protocol = Protocol.model_validate(find_reader_study(connection, study_id).protocol)
        connection.execute(tables.reader_study.delete().where(tables.reader_study.c.id == study_id))
        freed = drop_cases(connection, [case.study_id for case in (*protocol.cases, *protocol.training)])
        trail.record(connection, person.id, "discard reader study", f"reader study {study_id}")
    delete_files(db, freed)


def close_reader_study(db: Database, actor: Actor, study_id: str, *, reason: str = "") -> None:
    """Ends the reading, so that the results can be seen. reason: needed while reads are missing; audited.

    Raises NotAllowed, NotFound, Conflict, InvalidInput.
    """
    with acting(db.begin(), actor, "design_reader_study") as (connection, person):
        row = find_reader_study(connection, study_id, is_for_change=True)
        if row.locked_at is None or row.closed_at is not None:
            raise Conflict("Only a reader study that is being read can be closed.")
        words = tidy_text(reason, 500, "reason")
        protocol = Protocol.model_validate(row.protocol)
        n_missing = sum(one.n_tasks - one.n_done for one in _progress(connection, study_id, protocol))
        if n_missing and not words:
            raise InvalidInput(f"{n_missing} reads are missing. Say why it is closed without them.")
        connection.execute(
            update(tables.reader_study).where(tables.reader_study.c.id == study_id).values(closed_at=tables.now())
        )
        trail.record(
            connection, person.id, "close reader study", f"reader study {study_id}", missing=n_missing, reason=words
        )


def list_reader_studies(db: Database, actor: Actor) -> list[ReaderStudyRow]:
    """All of them, the newest first. Raises NotAllowed."""
    with acting(db.read(), actor, "design_reader_study") as (connection, _):
        query = select(tables.reader_study.c.id).order_by(tables.reader_study.c.created_at.desc())
        return [reader_study_row(connection, study_id) for study_id in connection.execute(query).scalars().all()]


def load_reader_study(db: Database, actor: Actor, study_id: str) -> ReaderStudyRow:
    """Raises NotAllowed, NotFound."""
    with acting(db.read(), actor, "design_reader_study") as (connection, _):
        return reader_study_row(connection, study_id)


def reader_study_row(connection: Connection, study_id: str) -> ReaderStudyRow:
    """Raises NotFound."""
    row = find_reader_study(connection, study_id)
    author = connection.execute(select(tables.person.c.name).where(tables.person.c.id == row.created_by)).scalar_one()
    protocol = Protocol.model_validate(row.protocol)
    state = DESIGNED if row.locked_at is None else CLOSED if row.closed_at else READING
    return ReaderStudyRow(
        row.id, protocol, state, row.created_at, author, row.locked_at, row.closed_at, row.protocol_sha256 or "",
        tuple(_progress(connection, study_id, protocol)),
    )  # fmt: skip


def find_reader_study(connection: Connection, study_id: str, *, is_for_change: bool = False) -> Row[Any]:
    """Raises NotFound."""
    query = select(tables.reader_study).where(tables.reader_study.c.id == study_id)
    row = connection.execute(query.with_for_update() if is_for_change else query).one_or_none()
    if row is None:
        raise NotFound("This reader study does not exist. Choose one from the list.")
    return row


def _progress(connection: Connection, study_id: str, protocol: Protocol) -> list[ReaderProgress]:
    read = tables.reader_study_read.c
    done = Counter(
        person_id
        for person_id, _, _ in connection.execute(
            select(read.person_id, read.study_id, read.modality).where(read.reader_study_id == study_id).distinct()
        )
    )
    person = tables.person.c
    rows = connection.execute(select(person.id, person.name).where(person.id.in_(protocol.readers)))
    names = {row.id: row.name for row in rows}
    return [
        ReaderProgress(person_id, names[person_id], done[person_id], len(tasks_of(protocol, person_id)))
        for person_id in protocol.readers
    ]
