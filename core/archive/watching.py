"""Archives that are watched: studies that fit an administrator's rules are fetched without a reader asking for each.

Every archive is asked for the studies of the last days (QIDO-RS). One of them is fetched once the archive has listed
the same number of objects in two looks, or twice no number, so that an exam that is still arriving is not taken by
half. Orthanc itself says which studies got complete, whatever their day. What was asked for once, whoever asked and
whatever became of it, is not asked for again by a rule. Of what is listed nothing is stored but keyed hashes.
"""

from __future__ import annotations

import logging
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from datetime import date, datetime, timedelta
from typing import Any

from sqlalchemy import Row, or_, select, update

from core.archive.archives import archive_of, credentials_of
from core.archive.arrivals import BY_RULE, fetch_by_rule
from core.archive.dicomweb import Criteria, DicomWeb, FoundSeries, FoundStudy
from core.errors import CHANGED_BY_ANOTHER, AppError, ArchiveRefused, Conflict, InvalidInput
from core.imaging.intake import keyed_hash
from core.records.audit import trail
from core.records.database import tables
from core.records.database.db import Database
from core.records.people.permissions import Actor, ProcessActor, acting, require_permission

log = logging.getLogger(__name__)

WATCH_SECONDS = 60.0
MODALITIES: Mapping[str, str] = {"MG": "Mammography", "US": "Ultrasound"}
"""What can be watched for, with its name on screen."""
DAYS_MOST = 30
PAGES_MOST = 50
"""Of the studies of one day."""
WORDS = ("breast", "mamma", "mammo")


@dataclass(frozen=True, slots=True)
class WatchRules:
    """Which studies are fetched. modalities: one of them must be in the study.

    words: one of them must be in a description or the body part of a study without mammograms, in any case of letters;
    () for every such study. stations: names of devices; () for all. days: how far back by the day of the study.
    """

    modalities: tuple[str, ...] = ("MG",)
    words: tuple[str, ...] = WORDS
    stations: tuple[str, ...] = ()
    days: int = 1


ANY_RULES = WatchRules(modalities=())
"""Rules that nobody can store, for a change whatever the rules are now."""


@dataclass(frozen=True, slots=True)
class Watch:
    """A watched archive. sentence: what the last look brought, "" before the first."""

    archive_id: int
    archive_name: str
    rules: WatchRules
    sentence: str
    looked_at: datetime | None


def watch_archive(
    db: Database, actor: Actor, archive_id: int, rules: WatchRules | None, *, seen: WatchRules | None = ANY_RULES
) -> None:
    """Begin to watch it by these rules, or change them; None: end. Who says so answers for the studies that come.

    seen: the rules that whoever changes them had before them, None for none. Raises NotAllowed, NotFound, InvalidInput;
    Conflict where the rules are others than `seen` by now.
    """
    archive = tables.archive
    with acting(db.begin(), actor, "manage_settings") as (connection, person):
        archive_of(connection, archive_id)
        query = select(archive.c.watch).where(archive.c.id == archive_id).with_for_update()
        stored = connection.execute(query).scalar_one()
        if seen is not ANY_RULES and seen != (_rules(stored) if stored else None):
            raise Conflict(CHANGED_BY_ANOTHER)
        values: dict[str, Any] = {"watch": None, "watch_by": None, "watch_state": None, "looked_at": None}
        if rules is not None:
            values |= {"watch": _as_json(_checked(rules)), "watch_by": person.id}
        connection.execute(update(archive).where(archive.c.id == archive_id).values(**values))
        action = "watch archive" if rules is not None else "end watch"
        trail.record(connection, person.id, action, f"archive {archive_id}", rules=values["watch"])


def watches(db: Database, actor: Actor) -> list[Watch]:
    """The watched archives by name, for whoever may search them. Raises NotAllowed."""
    with acting(db.read(), actor, "query_archive") as (connection, _):
        return [_watch(row) for row in connection.execute(_watched().order_by(tables.archive.c.name))]


def watches_to_manage(db: Database, actor: Actor) -> dict[int, Watch]:
    """The same by the archive's number, for whoever sets the rules. Raises NotAllowed."""
    with acting(db.read(), actor, "manage_settings") as (connection, _):
        return {row.id: _watch(row) for row in connection.execute(_watched())}


def fits(rules: WatchRules, description: str, series: Sequence[FoundSeries]) -> bool:
    """Whether a study with this description and these series is to be fetched."""
    own = [one for one in series if one.modality in rules.modalities]
    stations = {name.casefold() for name in rules.stations}
    if not own or (stations and not any(one.station.strip().casefold() in stations for one in own)):
        return False
    if not rules.words or any(one.modality == "MG" for one in own):
        return True
    said = " ".join([description, *(f"{one.description} {one.body_part}" for one in own)]).casefold()
    return any(word.casefold() in said for word in rules.words)


def look_at_next(db: Database) -> bool:
    """Look at the watched archive whose turn it is; False when it is none's. Of several processes one does."""
    archive = tables.archive
    now = tables.now()
    is_due = or_(archive.c.looked_at.is_(None), archive.c.looked_at < now - timedelta(seconds=WATCH_SECONDS))
    with db.begin() as connection:
        row = connection.execute(_watched().where(is_due).order_by(archive.c.looked_at).limit(1)).one_or_none()
        if row is None:
            return False
        taken = update(archive).where(archive.c.id == row.id, is_due)
        if not connection.execute(taken.values(looked_at=now)).rowcount:
            return True  # another process did; who asks looks for the next one
    state = dict(row.watch_state or {})
    try:
        state |= _look(db, row, state)
    except AppError as refused:
        state["sentence"] = str(refused)
    with db.begin() as connection:  # not over rules that were changed since
        same = update(archive).where(archive.c.id == row.id, archive.c.looked_at == now)
        connection.execute(same.values(watch_state=state))
    return True


def _look(db: Database, row: Row[Any], state: Mapping[str, Any]) -> dict[str, Any]:
    """What the state is after one look. Raises ArchiveAway, ArchiveRefused, KeysUnreadable; NotAllowed while whoever
    answers for the rules may not have studies fetched; then the next look sees all of it again."""
    rules = _rules(row.watch)
    with db.read() as connection:
        archive = archive_of(connection, row.id)
        # Else each study would be asked for, fail, and never be asked for again.
        require_permission(connection, ProcessActor(BY_RULE, row.watch_by), "create_study")
    web = DicomWeb(archive, credentials_of(db.settings, archive.name))
    is_orthanc = state.get("is_orthanc")
    if is_orthanc is None:
        is_orthanc = web.is_orthanc()
    complete: list[str] = []
    last, is_closed = state.get("last"), False
    if is_orthanc:
        try:
            complete, last = web.stable_since(last)
        except ArchiveRefused:  # its own interface alone is closed by now: the days are listed all the same
            is_closed = True
    judged = [_judge(db, row, rules, web, study) for uid in complete for study in web.search(Criteria(study_uid=uid))]
    if None in judged:
        last = state.get("last")  # they are listed again at the next look
    sizes: dict[str, tuple[int | None, bool]] = {}  # None: the archive lists no number
    for study in _of_days(web, rules):
        exam = keyed_hash(study.uid, db.site_key) or ""
        size, was_judged = state.get("sizes", {}).get(exam, (-1, False))
        is_same = size == study.n_instances
        if is_same and not was_judged:
            judged.append(_judge(db, row, rules, web, study))
            was_judged = judged[-1] is not None
        sizes[exam] = (study.n_instances, is_same and was_judged)
    asked, unknown = judged.count(True), judged.count(None)
    sentence = f"{len(sizes)} listed in the days that are watched; {asked or 'none'} to be fetched now."
    if unknown:
        sentence += f" Of {unknown} the archive does not say what they are; they are asked for again."
    if is_closed:
        sentence += " Its list of changes is closed to SecondRead: what is of other days has to be fetched by hand."
    return {"is_orthanc": is_orthanc, "last": last, "sizes": sizes, "sentence": sentence}


def _judge(db: Database, row: Row[Any], rules: WatchRules, web: DicomWeb, study: FoundStudy) -> bool | None:
    """Have a study fetched if it fits; whether it will be. None where the archive does not say what it is."""
    try:
        is_fitting = fits(rules, study.description, web.series(study.uid))
    except AppError:
        return None
    return is_fitting and fetch_by_rule(db, row.id, study.uid, row.watch_by) is not None


def _of_days(web: DicomWeb, rules: WatchRules) -> list[FoundStudy]:
    """The studies of the days that are watched, each once, page by page until there is nothing new.

    The archive is not asked for a modality: Orthanc 1.10 answers the second page of such a search with nothing. Nor is
    a short page the last one: archives have limits of their own (PS3.18 8.3.4.4).
    """
    found: dict[str, FoundStudy] = {}
    today = date.today()
    for before in range(rules.days + 1):
        day = today - timedelta(days=before)
        offset = 0
        for _ in range(PAGES_MOST):
            listed = web.search(Criteria(since=day, until=day), offset=offset)
            offset += len(listed)
            if not {study.uid for study in listed} - found.keys():
                break
            found |= {study.uid: study for study in listed}
    return [study for study in found.values() if not study.modalities or set(study.modalities) & set(rules.modalities)]


def _checked(rules: WatchRules) -> WatchRules:
    clean = replace(rules, words=_tidy(rules.words), stations=_tidy(rules.stations))
    if not clean.modalities or set(clean.modalities) - set(MODALITIES):
        raise InvalidInput(f"Choose what is watched for: {' or '.join(MODALITIES.values())}.")
    if not 0 <= clean.days <= DAYS_MOST:
        raise InvalidInput(f"The days to look back can be 0 to {DAYS_MOST}.")
    return clean


def _tidy(words: Sequence[str]) -> tuple[str, ...]:
    found = tuple(dict.fromkeys(word.strip() for word in words if word.strip()))
    if len(found) > 20 or any(len(word) > 64 for word in found):
        raise InvalidInput("Give at most 20 words or names, of at most 64 characters each.")
    return found


def _as_json(rules: WatchRules) -> dict[str, Any]:
    return {key: list(value) if isinstance(value, tuple) else value for key, value in asdict(rules).items()}


def _rules(stored: Mapping[str, Any]) -> WatchRules:
    return WatchRules(
        tuple(stored["modalities"]), tuple(stored["words"]), tuple(stored["stations"]), int(stored["days"])
    )


def _watched() -> Any:
    archive = tables.archive
    return select(archive).where(archive.c.watch_by.is_not(None), archive.c.removed_at.is_(None))


def _watch(row: Row[Any]) -> Watch:
    sentence = str((row.watch_state or {}).get("sentence", ""))
    return Watch(row.id, row.name, _rules(row.watch), sentence, row.looked_at)
