"""Reads: what a person decided, in which order, and what they could see of the AI and of others when they did.

Rows are only ever added; the database refuses anything else. What holds, in the mode "read_first":

- A person sees the AI's answer after their own `reveal`, and may reveal after their own first read. Once a study has a
  final read, somebody who did not read it may reveal as well; from then on they cannot record a first read of it.
- Others' reads are seen after the own first read or the own reveal.
- A final read needs the own first read; a later one by the same person is an amendment, beside the first.
- In a double reading two people read, blinded: each sees the other's reads after the own final read. Where what they
  ask for differs, a third arbitrates: sees both reads, which is recorded, and saves a final read without a first.
- A first read by somebody who has seen an answer about the same pictures before is marked
  (`core.records.reads.answers_seen`).

In the mode "concurrent" the AI's answer is always visible and a first read is possible but not needed. A study keeps
the mode that the site had when it was made. What became of a study is never returned before its final read.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass
from datetime import datetime
from types import MappingProxyType
from typing import Any

from sqlalchemy import Connection, Row, insert, select

from core.errors import Conflict, InvalidInput
from core.findings.finding import NO_ANNOTATIONS, Annotations
from core.records.archives.outbox import enqueue_results
from core.records.audit import trail
from core.records.database import tables
from core.records.database.db import Database
from core.records.people.permissions import (
    Actor,
    Person,
    acting,
    allowed,
    person_now,
    require_permission_now,
)
from core.records.reads import answers_seen
from core.records.reads.annotations import annotations_of, insert_annotations, measured_here
from core.records.reads.drafts import drop_draft
from core.records.reads.reading_leases import end_lease, is_double_read, require_free
from core.records.reads.rows import BIRADS, DENSITIES, arbiters_of, breasts_of, find_study, newest_predictions
from core.types import SIDE_NOT_STATED, Modality
from core.wording import tidy_text

MANAGEMENT: Mapping[str, str] = {
    "0": "more imaging", "1": "routine", "2": "routine", "3": "short-interval follow-up",
    **dict.fromkeys(("4A", "4B", "4C", "5", "6"), "tissue diagnosis"),
}  # fmt: skip
"""What a category asks for (ACR BI-RADS Atlas, 5th edition, table of concordance between categories and management)."""
COMMENT_LENGTH_MOST = 4000
SENTENCE_LENGTH_MOST = 2000
READ_FIRST = "read_first"
AnswerKey = tuple[str, str]
"""Image id and weights: which answer of a model."""


@dataclass(frozen=True, slots=True)
class Impression:
    """What a reader thinks of one breast. birads: one of `BIRADS`. suspicion: whole, 0 (none) to 100 (certain)."""

    birads: str
    suspicion: int

    def __post_init__(self) -> None:
        if self.birads not in BIRADS:
            raise InvalidInput(f"The BI-RADS category can be {', '.join(BIRADS)}.")
        if isinstance(self.suspicion, bool) or not 0 <= self.suspicion <= 100 or self.suspicion != int(self.suspicion):
            raise InvalidInput("The suspicion is a whole number from 0 to 100.")
        object.__setattr__(self, "suspicion", int(self.suspicion))


@dataclass(frozen=True, slots=True)
class Read:
    """One saved read. kind: "first" or "final". impressions: breast -> Impression. is_amendment: the same person had
    saved a final read before. predictions_seen: what of the AI was visible then (prediction, image_id, model_id,
    weights_sha256, malignant), and of a first read the pictures of which an answer had been seen in another study
    or as a test case (image_id, seen_in, correlation, way). sentence: the reader's text for the report, of a final
    read. density: of the breasts, one of `DENSITIES`, where the reader gave one. annotations: what it has on
    its pictures. is_decision: a third reader decides with it between two.
    """

    id: int
    study_id: str
    person_id: int
    person_name: str
    kind: str
    impressions: Mapping[str, Impression]
    comment: str
    reading_mode: str
    created_at: datetime
    is_amendment: bool
    predictions_seen: tuple[Mapping[str, Any], ...]
    sentence: str = ""
    density: str | None = None
    annotations: Annotations = NO_ANNOTATIONS
    is_decision: bool = False

    @property
    def has_seen_answer(self) -> bool:
        """Whether its reader had seen an answer of the AI about the same picture before."""
        return has_seen_answer(self.predictions_seen)

    @property
    def answers_seen(self) -> tuple[str, ...]:
        """In which ways they had: "study" (in another one), "test case" (given a model's scores of it)."""
        return tuple(sorted({one.get("way", "study") for one in self.predictions_seen if "seen_in" in one}))


def has_seen_answer(predictions_seen: Sequence[Mapping[str, Any]]) -> bool:
    """As `Read.has_seen_answer`, of what a row keeps."""
    return any("seen_in" in one for one in predictions_seen)


def record_first_read(
    db: Database,
    actor: Actor,
    study_id: str,
    impressions: Mapping[str, Impression],
    comment: str = "",
    *,
    annotations: Annotations = NO_ANNOTATIONS,
) -> int:
    """Save the first impression of every breast, with what is marked on the pictures; the id of the read.

    Raises NotAllowed, NotFound, InvalidInput; Conflict if the person has one already, or has seen what a first
    impression must not know. One that knew an answer from another study is saved with a mark.
    """
    require_permission_now(db, actor, "record_first_read")
    before = answers_seen.seen_before(db, actor, study_id)
    annotations = measured_here(db, study_id, annotations)
    with acting(db.begin(), actor, "record_first_read") as (connection, person):
        study = find_study(connection, study_id, is_for_change=True)
        if study.is_reader_study_case:
            raise Conflict("This is a case of a reader study. Read it on the page Study reading.")
        _refuse_late_first_read(connection, person, study)
        require_free(connection, study_id, person.id)
        answers_seen.require_unchanged(connection, person, study_id, before)
        read_id = _insert_read(connection, person, study, "first", impressions, comment, annotations, before.marks)
        marked: dict[str, Any] = dict(insert_annotations(connection, study_id, read_id, annotations))
        for key, way in (("answers_seen_in", "study"), ("answers_seen_as_test_cases_of", "test case")):
            seen_in = sorted({mark.seen_in for mark in before.marks if mark.way == way})
            marked |= {key: seen_in} if seen_in else {}
        if before.n_not_compared:
            marked["pictures_not_compared"] = before.n_not_compared
        enqueue_results(connection, study_id, read_id)
        trail.record(connection, person.id, "first read", f"study {study_id}", read=read_id, **marked)
    return read_id


def ai_visible(db: Database, actor: Actor, study_id: str) -> bool:
    """Whether this person may see the AI's answer on this study now. Raises SignedOut, NotFound."""
    with db.read() as connection:
        person = person_now(connection, actor)
        return is_ai_visible(connection, person, find_study(connection, study_id))


def reveal(db: Database, actor: Actor, study_id: str) -> None:
    """Show the AI's answer to this person from now on; audited. A second time changes nothing.

    Raises NotAllowed, NotFound; Conflict before the own first read, unless the study is final already.
    """
    require_permission_now(db, actor, "reveal_ai")
    answers_seen.hash_newest(db, [study_id])
    with acting(db.begin(), actor, "reveal_ai") as (connection, person):
        study = find_study(connection, study_id, is_for_change=True)
        if is_ai_visible(connection, person, study):
            return
        is_over = has_read(connection, study_id, "final") and not is_double_read(connection, study_id)
        is_arbiter = _has_done(connection, person, study_id, "arbitrate")
        # A case of reader studies alone is shown by the page that reads it, as its protocol says.
        is_case = study.is_reader_study_case
        if not (has_read(connection, study_id, "first", person) or is_over or is_arbiter or is_case):
            raise Conflict("Save your first impression before the AI's answer is shown.")
        pictures = answers_seen.pictures_for_trail(connection, study_id)
        trail.record(connection, person.id, "reveal", f"study {study_id}", pictures=pictures)


def record_final_read(
    db: Database,
    actor: Actor,
    study_id: str,
    impressions: Mapping[str, Impression],
    comment: str = "",
    *,
    sentence: str = "",
    density: str | None = None,
    annotations: Annotations = NO_ANNOTATIONS,
    seen: Collection[AnswerKey] | None = None,
) -> int:
    """Save the final assessment, or an amendment to the person's own; the id of the read.

    sentence, density, annotations: as in `Read`; a density only of a study with a mammogram. seen: the models' answers
    that stood before the reader, None for all there are; those that came later are not said to be known.
    Raises NotAllowed, NotFound, InvalidInput; Conflict before the own first read.
    """
    with acting(db.read(), actor, "record_final_read") as (connection, _):
        find_study(connection, study_id)
    annotations = measured_here(db, study_id, annotations)
    with acting(db.begin(), actor, "record_final_read") as (connection, person):
        study = find_study(connection, study_id, is_for_change=True)
        is_due = study.reading_mode != READ_FIRST or has_read(connection, study_id, "first", person)
        is_arbiter = _has_done(connection, person, study_id, "arbitrate")
        if not is_due and not is_arbiter:
            raise Conflict("Save your first impression before the final assessment.")
        if not is_arbiter:
            _refuse_third_reader(connection, person, study_id)
        is_amendment = has_read(connection, study_id, "final", person)
        if not is_amendment:
            require_free(connection, study_id, person.id)
            end_lease(connection, study_id)
        details = _checked_details(connection, study_id, sentence, density)
        read_id = _insert_read(
            connection, person, study, "final", impressions, comment, annotations, seen=seen, details=details
        )
        marked = insert_annotations(connection, study_id, read_id, annotations)
        enqueue_results(connection, study_id, read_id)  # before the trail is locked, as the queue does it
        trail.record(
            connection, person.id, "final read", f"study {study_id}", read=read_id, is_amendment=is_amendment, **marked
        )
    return read_id


def reads_of(db: Database, actor: Actor, study_id: str) -> list[Read]:
    """The reads that this person may see, oldest first. Raises NotAllowed, NotFound."""
    with acting(db.read(), actor, "see_reads") as (connection, person):
        read, author = tables.read.c, tables.person.c
        query = (
            select(tables.read, author.name.label("person_name"))
            .join_from(tables.read, tables.person, read.person_id == author.id)
            .where(read.study_id == study_id)
            .order_by(read.id)
        )
        study = find_study(connection, study_id)
        if not _others_visible(connection, person, study):
            query = query.where(read.person_id == person.id)
        rows = connection.execute(query).all()
        annotations = annotations_of(connection, [row.id for row in rows])
        arbiters = arbiters_of(connection, study_id)
    finals: set[int] = set()
    found = []
    for row in rows:
        is_amendment = row.kind == "final" and row.person_id in finals
        is_decision = row.kind == "final" and row.person_id in arbiters
        marked = annotations.get(row.id, NO_ANNOTATIONS)
        found.append(_read_of(row, marked, is_amendment=is_amendment, is_decision=is_decision))
        if row.kind == "final":
            finals.add(row.person_id)
    return found


def arbitrate(db: Database, actor: Actor, study_id: str) -> None:
    """Show both reads of a double reading to a third reader, who decides between them; audited, and not to be undone.

    Raises NotAllowed, NotFound; Conflict unless two readers have finished and disagree, or for one of the two.
    """
    with acting(db.begin(), actor, "arbitrate") as (connection, person):
        find_study(connection, study_id, is_for_change=True)
        if _has_done(connection, person, study_id, "arbitrate"):
            return
        if has_read(connection, study_id, person=person):
            raise Conflict("You have read this study yourself; a third reader arbitrates.")
        if study_id not in to_arbitrate(connection):
            raise Conflict("Only a double reading whose two readers have finished and disagree is arbitrated, once.")
        trail.record(connection, person.id, "arbitrate", f"study {study_id}")


def to_arbitrate(connection: Connection) -> set[str]:
    """Studies of double reading whose two readers have finished and disagree, and that no third has decided yet."""
    read, plan = tables.read.c, tables.assignment.c
    finals: dict[str, dict[int, dict[str, str]]] = {}
    rows = connection.execute(
        select(read.study_id, read.person_id, read.impressions)
        .join_from(tables.read, tables.assignment, plan.study_id == read.study_id)
        .where(plan.is_double_read, read.kind == "final")
        .order_by(read.id)
    )
    for row in rows:
        given = {breast: impression["birads"] for breast, impression in row.impressions.items()}
        finals.setdefault(row.study_id, {})[row.person_id] = given
    return {study for study, given in finals.items() if len(given) == 2 and disagreement_of(given.values())}


def disagreement_of(newest: Iterable[Mapping[str, str]]) -> dict[str, tuple[str, ...]]:
    """Breast -> the categories that readers gave it, the highest first, where they ask for different things.

    newest: of each reader the last assessment, breast -> BI-RADS category.
    """
    given: dict[str, set[str]] = {}
    for read in newest:
        for breast, category in read.items():
            given.setdefault(breast, set()).add(category)
    return {
        breast: tuple(sorted(categories, key=BIRADS.index, reverse=True))
        for breast, categories in given.items()
        if len({MANAGEMENT[category] for category in categories}) > 1
    }


def record_export(db: Database, actor: Actor, study_id: str, *, what: str) -> None:
    """Audit that a report left the house. what: "html", "pdf" or "fhir". Raises NotAllowed, NotFound."""
    with acting(db.begin(), actor, "export_report") as (connection, person):
        find_study(connection, study_id)
        trail.record(connection, person.id, "export report", f"study {study_id}", what=what)


def _refuse_late_first_read(connection: Connection, person: Person, study: Row[Any]) -> None:
    if has_read(connection, study.id, "first", person):
        raise Conflict("Your first impression of this study is saved already. What changed goes into the final read.")
    if has_read(connection, study.id, "final", person):
        raise Conflict("Your final read of this study is saved already.")
    _refuse_third_reader(connection, person, study.id)
    if study.reading_mode != READ_FIRST:
        return
    if _has_done(connection, person, study.id, "reveal"):
        raise Conflict("You have seen the AI's answer to this study, so this would not be a first impression.")
    has_truth = select(tables.truth.c.id).where(tables.truth.c.study_id == study.id).limit(1)
    if has_read(connection, study.id, "final") and connection.execute(has_truth).first():
        raise Conflict("What became of this study is known already, so it is closed for new first reads.")


def _insert_read(
    connection: Connection,
    person: Person,
    study: Row[Any],
    kind: str,
    impressions: Mapping[str, Impression],
    comment: str,
    annotations: Annotations,
    marks: Sequence[answers_seen.Mark] = (),
    seen: Collection[AnswerKey] | None = None,
    details: Mapping[str, str | None] = MappingProxyType({}),
) -> int:
    breasts = breasts_shown(connection, study.id)
    if annotations.proposals and not is_ai_visible(connection, person, study):
        raise Conflict("A model proposes findings only to who may see its answer.")
    if set(impressions) != set(breasts):
        raise InvalidInput(f"Give an impression of each breast that the study shows: {_as_text(breasts)}.")
    known: list[dict[str, Any]] = [asdict(mark) for mark in marks]
    if is_ai_visible(connection, person, study):
        known += [
            {
                "prediction": row.id,
                "image_id": row.image_id,
                "model_id": row.model_id,
                "weights_sha256": row.weights_sha256,
                "malignant": row.payload["malignant"],
            }
            for row in newest_predictions(connection, study.id)
            if seen is None or (row.image_id, row.weights_sha256) in seen
        ]
    read_id: int = connection.execute(
        insert(tables.read)
        .values(
            study_id=study.id,
            person_id=person.id,
            kind=kind,
            impressions={breast: asdict(impressions[breast]) for breast in breasts},
            comment=tidy_text(comment, COMMENT_LENGTH_MOST, "comment"),
            reading_mode=study.reading_mode,
            created_at=tables.now(),
            predictions_seen=known,
            **details,
        )
        .returning(tables.read.c.id)
    ).scalar_one()
    drop_draft(connection, study.id, person.id, kind)
    return read_id


def _checked_details(
    connection: Connection, study_id: str, sentence: str, density: str | None
) -> dict[str, str | None]:
    image = tables.image.c
    of_breast = select(image.id).where(image.study_id == study_id, image.modality == Modality.MAMMOGRAPHY.value)
    if density is not None and density not in DENSITIES:
        raise InvalidInput(f"The density can be {', '.join(DENSITIES)}.")
    if density is not None and connection.execute(of_breast.limit(1)).first() is None:
        raise InvalidInput("The density is read from a mammogram, and this study has none.")
    return {"sentence": tidy_text(sentence, SENTENCE_LENGTH_MOST, "sentence for the report"), "density": density}


def _read_of(row: Row[Any], annotations: Annotations, *, is_amendment: bool, is_decision: bool) -> Read:
    return Read(
        id=row.id,
        study_id=row.study_id,
        person_id=row.person_id,
        person_name=row.person_name,
        kind=row.kind,
        impressions={breast: Impression(**given) for breast, given in row.impressions.items()},
        comment=row.comment,
        reading_mode=row.reading_mode,
        created_at=row.created_at,
        is_amendment=is_amendment,
        predictions_seen=tuple(row.predictions_seen),
        sentence=row.sentence or "",
        density=row.density,
        annotations=annotations,
        is_decision=is_decision,
    )


def is_ai_visible(connection: Connection, person: Person, study: Row[Any]) -> bool:
    """As `ai_visible`, in the caller's transaction."""
    if not allowed(person, "see_ai"):
        return False
    return study.reading_mode != READ_FIRST or _has_done(connection, person, study.id, "reveal")


def _others_visible(connection: Connection, person: Person, study: Row[Any]) -> bool:
    """Somebody who may still form a first impression must not be told another's."""
    return study.id in studies_with_others_visible(connection, person, [study])


def studies_with_others_visible(connection: Connection, person: Person, rows: Iterable[Any]) -> set[str]:
    """Ids of those studies among these of which the person may see others' reads. rows: with id and reading_mode."""
    if not allowed(person, "record_first_read"):
        return {one.id for one in rows}
    read, row, plan = tables.read.c, tables.audit.c, tables.assignment.c
    kinds = connection.execute(select(read.study_id, read.kind).where(read.person_id == person.id)).all()
    done = select(row.action, row.subject).where(row.person_id == person.id, row.action.in_(("reveal", "arbitrate")))
    acts = {(act, subject.removeprefix("study ")) for act, subject in connection.execute(done).all()}
    blinded = set(connection.execute(select(plan.study_id).where(plan.is_double_read)).scalars())
    own, finished = {study for study, _ in kinds}, {study for study, kind in kinds if kind == "final"}

    def is_visible(one: Any) -> bool:
        if one.id in blinded:
            return one.id in finished or ("arbitrate", one.id) in acts
        return one.reading_mode != READ_FIRST or one.id in own or ("reveal", one.id) in acts

    return {one.id for one in rows if is_visible(one)}


def has_read(connection: Connection, study_id: str, kind: str = "", person: Person | None = None) -> bool:
    """Whether there is a read, of this kind and person where they are named."""
    read = tables.read.c
    query = select(read.id).where(read.study_id == study_id).limit(1)
    if kind:
        query = query.where(read.kind == kind)
    if person is not None:
        query = query.where(read.person_id == person.id)
    return connection.execute(query).first() is not None


def _refuse_third_reader(connection: Connection, person: Person, study_id: str) -> None:
    read = tables.read.c
    readers = set(connection.execute(select(read.person_id).where(read.study_id == study_id)).scalars())
    if is_double_read(connection, study_id) and len(readers - {person.id}) > 1:
        raise Conflict("This study has its two readers. Where they disagree, a third arbitrates.")


def _has_done(connection: Connection, person: Person, study_id: str, action: str) -> bool:
    """The audit trail is where a reveal or an arbitration is kept: it cannot be taken back."""
    row = tables.audit.c
    query = select(row.id).where(row.subject == f"study {study_id}", row.action == action, row.person_id == person.id)
    return connection.execute(query.limit(1)).first() is not None


def breasts_shown(connection: Connection, study_id: str) -> tuple[str, ...]:
    """The breasts of a stored study that are assessed."""
    image = tables.image.c
    return breasts_of(connection.execute(select(image.laterality).where(image.study_id == study_id)).scalars())


def _as_text(breasts: Sequence[str]) -> str:
    words = {"R": "right", "L": "left", SIDE_NOT_STATED: "side not stated"}
    return ", ".join(words[breast] for breast in breasts)
