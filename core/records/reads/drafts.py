"""What a reader has filled in and not saved yet: of each reader and study one first read and one final read.

Whoever may save a read may keep a draft of it. A draft is seen by its reader alone, is no read, and says nothing to
anybody else. It goes when the read is saved, or the study is deleted. Nothing of it is audited: nothing was decided.
"""

from __future__ import annotations

import logging
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from sqlalchemy import Connection, delete, func, insert, select

from core.errors import AppError, InvalidInput
from core.findings.proposals import Proposal
from core.findings.sketches import Sketch, from_json, to_json
from core.records.database import tables
from core.records.database.db import Database
from core.records.people.permissions import Actor, acting
from core.records.reads.rows import BIRADS, DENSITIES, find_study
from core.types import LATERALITIES, SIDE_NOT_STATED

DRAFT_COMMENT_MOST = 20_000
DRAFT_MARKS_MOST = 200
KINDS = ("first", "final")


log = logging.getLogger(__name__)


class DamagedDraft(AppError):
    """The stored draft is none; the form it belongs to begins as if there were none."""


@dataclass(frozen=True, slots=True)
class ReadDraft:
    """A read as far as it was filled in. breasts: breast -> (BI-RADS category or None, suspicion 0 to 100).

    sentence: None where the form has none, or it was not written yet. density: one of `DENSITIES`. sketches: what is
    marked on the pictures. rejected: ids of the models' proposals that the reader rejected. start: id of the read that
    the form begins with, 0 for none. sides: the side of each picture as the reader saw it. proposals: those that the
    reader has answered, by the ids of their marks. None of the three is in older drafts.
    """

    breasts: Mapping[str, tuple[str | None, int]] = field(default_factory=dict)
    comment: str = ""
    sentence: str | None = None
    density: str | None = None
    sketches: tuple[Sketch, ...] = ()
    rejected: tuple[str, ...] = ()
    start: int | None = None
    sides: Mapping[str, str] = field(default_factory=dict)
    proposals: Mapping[str, Proposal] = field(default_factory=dict)

    @property
    def is_empty(self) -> bool:
        return (
            self.density is None
            and not self.sketches
            and not self.rejected
            and not self.comment.strip()
            and all(category is None for category, _ in self.breasts.values())
        )


def store_draft(db: Database, actor: Actor, study_id: str, kind: str, draft: ReadDraft) -> None:
    """Keep this in place of the person's earlier draft; an empty one keeps nothing.

    Nor does one of a form that is behind: whose reader has saved a read since it was begun, in another tab or browser.

    Raises NotAllowed, NotFound; InvalidInput for what no form gives.
    """
    with acting(db.begin(), actor, "record_first_read") as (connection, person):
        _require_kind(kind)
        content = _checked(draft)
        find_study(connection, study_id, is_for_change=True)
        read = tables.read.c
        last = select(func.max(read.id)).where(read.study_id == study_id, read.person_id == person.id)
        if draft.start is not None and draft.start != (connection.execute(last).scalar() or 0):
            return
        drop_draft(connection, study_id, person.id, kind)
        if not draft.is_empty:
            values = {
                "study_id": study_id,
                "person_id": person.id,
                "kind": kind,
                "content": content,
                "at": tables.now(),
            }
            connection.execute(insert(tables.read_draft).values(**values))


def draft_of(db: Database, actor: Actor, study_id: str, kind: str) -> ReadDraft | None:
    """The person's own draft, None where there is none.

    Raises NotAllowed, NotFound; DamagedDraft where what is stored is no draft. It stays until another is stored.
    """
    draft = tables.read_draft.c
    with acting(db.read(), actor, "record_first_read") as (connection, person):
        _require_kind(kind)
        find_study(connection, study_id)
        query = select(draft.content).where(
            draft.study_id == study_id, draft.person_id == person.id, draft.kind == kind
        )
        try:
            content = connection.execute(query).scalar_one_or_none()
            return None if content is None else _from_content(content)
        except (InvalidInput, KeyError, TypeError, ValueError, AttributeError, IndexError) as error:
            log.warning("A draft of a read cannot be used (study %s): %s", study_id, type(error).__name__)
            raise DamagedDraft(
                "What you had filled in here and not saved cannot be read any more, so the form begins anew. "
                "What is saved is not touched."
            ) from error


def _from_content(content: Any) -> ReadDraft:
    """Raises what `draft_of` catches for anything that no form has stored."""
    draft = ReadDraft(
        {str(breast): (given[0], given[1]) for breast, given in content["breasts"].items()},
        content["comment"],
        content.get("sentence"),
        content.get("density"),
        from_json(content.get("sketches", ())),
        tuple(str(one) for one in content.get("rejected", ())),
        content.get("start"),
        {str(picture): str(side) for picture, side in content.get("sides", {}).items()},
        {str(uid): Proposal.from_json(one) for uid, one in content.get("proposals", {}).items()},
    )
    _checked(draft)
    return draft


def drop_draft(connection: Connection, study_id: str, person_id: int | None = None, kind: str = "") -> None:
    """Forget drafts of a study: all of them, or a person's, or a person's of one kind."""
    draft = tables.read_draft.c
    query = delete(tables.read_draft).where(draft.study_id == study_id)
    if person_id is not None:
        query = query.where(draft.person_id == person_id)
    if kind:
        query = query.where(draft.kind == kind)
    connection.execute(query)


def _require_kind(kind: str) -> None:
    if kind not in KINDS:
        raise InvalidInput(f"A draft is of a {' or '.join(KINDS)} read.")


def _checked(draft: ReadDraft) -> dict[str, Any]:
    for breast, (category, suspicion) in draft.breasts.items():
        is_known = breast in (*LATERALITIES, SIDE_NOT_STATED) and category in (None, *BIRADS)
        if not is_known or not 0 <= suspicion <= 100:
            raise InvalidInput("A draft holds BI-RADS categories and suspicions from 0 to 100 of breasts.")
    if max(len(draft.comment), len(draft.sentence or "")) > DRAFT_COMMENT_MOST:
        raise InvalidInput("The comment is too long to be kept.")
    if draft.density not in (None, *DENSITIES):
        raise InvalidInput(f"The density can be {', '.join(DENSITIES)}.")
    if sum(len(sketch.marks) for sketch in draft.sketches) > DRAFT_MARKS_MOST:
        raise InvalidInput(f"A draft holds at most {DRAFT_MARKS_MOST} marks. Remove some.")
    breasts = {breast: [category, int(suspicion)] for breast, (category, suspicion) in draft.breasts.items()}
    return {
        "breasts": breasts,
        "comment": draft.comment,
        "sentence": draft.sentence,
        "density": draft.density,
        "sketches": to_json(draft.sketches),
        "rejected": [str(one)[:60] for one in draft.rejected[:DRAFT_MARKS_MOST]],
        "start": draft.start,
        "sides": dict(draft.sides),
        "proposals": {uid: one.to_json() for uid, one in list(draft.proposals.items())[:DRAFT_MARKS_MOST]},
    }
