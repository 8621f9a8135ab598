"""Recent pictures and answers against the live models' test cases and against earlier ones, and the rows of it.

What the drift page looks at: recent images and answers, and those before them, without anything of a patient.

How many files were read and how many refused: a number at a time, and nothing of the files or of who chose them.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any

import pandas as pd
from sqlalchemy import Connection, Row, insert, select

from core.errors import ModelUnavailable
from core.evaluation.charts.drift import NamedShift
from core.evaluation.statistics.drift import LEAST, shift_of_numbers, shift_of_text
from core.models.aggregate import breast_scores
from core.models.card_cases import measured_cases, read_cases
from core.models.cards import Card, read_test_scores
from core.models.training_distance import SHARE_WITHIN
from core.records.database import tables
from core.records.database.db import Database
from core.records.database.tables import now
from core.records.people.permissions import Actor, acting, require_permission_now
from core.records.reads.rows import image_score
from core.types import is_unlike

SUSPICIOUS = ("4A", "4B", "4C", "5", "6")
"""BI-RADS categories that count as the reader's positive call."""
NO_VENDOR = "not stated"


@dataclass(frozen=True, slots=True)
class SeenImage:
    """at: when its study was stored, UTC. megapixels, brightness (mean, 0 to 1): None where they were not kept yet."""

    at: datetime
    modality: str
    vendor: str
    megapixels: float | None
    brightness: float | None


@dataclass(frozen=True, slots=True)
class Answered:
    """One answer of some weights to one image. at: UTC. score: the probability of the positive class.

    is_unlike: whether the image lay beyond what the model learnt from; None where the model could not tell.
    """

    at: datetime
    weights_sha256: str
    score: float
    is_unlike: bool | None = None


@dataclass(frozen=True, slots=True)
class Call:
    """A reader's first impression of a breast beside one model's. agrees: both are positive, or neither is."""

    at: datetime
    weights_sha256: str
    agrees: bool


@dataclass(frozen=True, slots=True)
class Seen:
    """Everything from `since` on. refused: (day, files read, files refused)."""

    images: tuple[SeenImage, ...]
    answers: tuple[Answered, ...]
    calls: tuple[Call, ...]
    refused: tuple[tuple[datetime, int, int], ...]


def seen(db: Database, actor: Actor, *, since: timedelta) -> Seen:
    """What came in during the time before now. Synthetic studies count in a demonstration only. Raises NotAllowed."""
    with acting(db.read(), actor, "see_drift") as (connection, _):
        start = tables.now() - since
        study, image, retained = tables.study.c, tables.image.c, tables.prediction.c
        counts = [study.deleted_at.is_(None), study.is_reader_study_case.is_(False), study.created_at >= start]
        if not db.settings.demo:
            counts.append(study.is_synthetic.is_(False))
        images = connection.execute(
            select(tables.image, study.created_at).join_from(tables.image, tables.study).where(*counts)
        ).all()
        answers = connection.execute(
            select(
                retained.id, retained.study_id, retained.image_id, retained.model_id, retained.weights_sha256,
                retained.payload,
                study.created_at,
                image.laterality, image.modality, image.meta,
            )
            .join_from(tables.prediction, tables.study)
            .join(tables.image, retained.image_id == image.id)
            .where(*counts)
            .order_by(retained.id)
        ).all()  # fmt: skip
        reads = connection.execute(
            select(tables.read.c.study_id, tables.read.c.impressions, study.created_at)
            .join_from(tables.read, tables.study)
            .where(tables.read.c.kind == "first", *counts)
        ).all()
        refused = _refused(connection, start)
    return Seen(
        tuple(_image(row) for row in images),
        tuple(_answered(row) for row in answers),
        tuple(_calls(answers, reads)),
        refused,
    )


def _image(row: Row[Any]) -> SeenImage:
    size = row.n_rows * row.n_columns / 1e6 if row.n_rows and row.n_columns else None
    vendor = str(row.meta.get("tags", {}).get("Manufacturer", "")).strip() or NO_VENDOR
    return SeenImage(row.created_at, row.modality or "", vendor, size, row.brightness)


def _answered(row: Any) -> Answered:
    distance = row.payload.get("training_distance")
    unlike = None if distance is None else is_unlike(distance)
    return Answered(row.created_at, row.weights_sha256, float(row.payload["malignant"]), unlike)


def _calls(answers: Iterable[Any], reads: Iterable[Any]) -> list[Call]:
    """Each reader's first impression against each model's newest answer about that breast, at the threshold it was
    given; not where a breast's images were answered by different weights, which is no one answer, nor where one of them
    was unlike what the model learnt from, which counts for neither side.
    """
    newest: dict[str, dict[tuple[str, str], Any]] = {}
    for row in answers:
        newest.setdefault(row.study_id, {})[row.image_id, row.model_id] = row
    scores = {
        study_id: [
            score
            for score in breast_scores(image_score(row, row) for row in rows.values())
            if score.is_whole and not score.is_unlike_training
        ]
        for study_id, rows in newest.items()
    }
    return [
        Call(
            read.created_at,
            score.weights_sha256,
            (read.impressions[score.breast]["birads"] in SUSPICIOUS) == score.is_above_threshold,
        )
        for read in reads
        for score in scores.get(read.study_id, ())
        if score.breast in read.impressions
    ]


def _refused(connection: Connection, start: datetime) -> tuple[tuple[datetime, int, int], ...]:
    row = tables.intake.c
    by_day: dict[datetime, tuple[int, int]] = {}
    for at, n_read, n_refused in connection.execute(select(row.at, row.n_read, row.n_refused).where(row.at >= start)):
        day = at.replace(hour=0, minute=0, second=0, microsecond=0)
        before = by_day.get(day, (0, 0))
        by_day[day] = (before[0] + n_read, before[1] + n_refused)
    return tuple((day, *by_day[day]) for day in sorted(by_day))


BEFORE = timedelta(days=365)
_PAST = "this site, the year before"
_LIKE, _UNLIKE = "like", "unlike"
_MEASURES = (("Size", "megapixels"), ("Brightness", "brightness"))


@dataclass(frozen=True, slots=True)
class Comparison:
    """The last weeks, twice. with_tests: against the live models' test cases. with_past: against this site's own past.

    notes: sentences on what cannot be compared.
    """

    with_tests: tuple[NamedShift, ...]
    with_past: tuple[NamedShift, ...]
    notes: tuple[str, ...]


def compared(db: Database, actor: Actor, cards: Sequence[Card], *, weeks: int) -> Comparison:
    """Pictures and answers of the last weeks against the test cases of these live models and the year before.

    Raises NotAllowed.
    """
    require_permission_now(db, actor, "see_drift")
    start = now() - timedelta(weeks=weeks)
    everything = seen(db, actor, since=BEFORE + timedelta(weeks=weeks))
    inputs, notes = _of_inputs([image for image in everything.images if image.at >= start], cards)
    return Comparison(
        (*inputs, *_of_scores(everything, start, cards), *_of_distances(everything, start, cards)),
        tuple(_of_past(everything, start)),
        tuple(notes),
    )


def _of_inputs(recent: Sequence[SeenImage], cards: Sequence[Card]) -> tuple[list[NamedShift], list[str]]:
    """Recent pictures of each kind against the test cases of the models that read it; shared ones once."""
    kinds = {image.modality for image in recent}
    tests, notes = _test_cases([card for card in cards if card.modality.value in kinds])
    shifts = []
    for kind in sorted({kind for kind, _, _ in tests}):
        images = [image for image in recent if image.modality == kind]
        sets = [(names, table) for of, names, table in tests if of == kind]
        for names, table in sets:
            what = kind if len(sets) == 1 else f"{kind} ({names[0]})"
            against = f"test cases of {names[0]}" + (f" and {len(names) - 1} more" if len(names) > 1 else "")
            measures = {"megapixels": table["width"] * table["height"] / 1e6, "brightness": table["brightness"]}
            for name, field in _MEASURES:
                shift = shift_of_numbers(measures[field].tolist(), _values(images, field))
                shifts.append(NamedShift(f"{name}, {what}", against, shift))
            if (table["vendor"] != "").any():
                vendors = table["vendor"].replace("", NO_VENDOR).tolist()
                shift = shift_of_text(vendors, [image.vendor for image in images])
                shifts.append(NamedShift(f"Vendor, {what}", against, shift))
            else:
                notes.append(f"Vendors, {what}: none is stated for the {against}.")
    return shifts, notes


def _test_cases(cards: Sequence[Card]) -> tuple[list[tuple[str, list[str], pd.DataFrame]], list[str]]:
    """(kind, models, test cases), each set of test cases once; and whose are not known."""
    found: dict[tuple[str, frozenset[str]], tuple[list[str], pd.DataFrame]] = {}
    notes = []
    for card in cards:
        try:
            cases = read_cases(card)
        except ModelUnavailable as damaged:
            notes.append(str(damaged))
            continue
        if cases is None:
            notes.append(
                f"{card.model_id} was made before models listed their cases, so pictures cannot be compared with its "
                "test cases. The command python -m train cases makes the list from its data."
            )
            continue
        table = measured_cases(cases)
        key = (card.modality.value, frozenset(table["sha256"]))
        found.setdefault(key, ([], table))[0].append(card.model_id)
    return [(kind, names, table) for (kind, _), (names, table) in found.items()], notes


def _of_past(found: Seen, start: datetime) -> list[NamedShift]:
    old = [image for image in found.images if image.at < start]
    new = [image for image in found.images if image.at >= start]
    kinds = shift_of_text([i.modality for i in old], [i.modality for i in new])
    shifts = [NamedShift("Kind of picture", _PAST, kinds)]
    for kind in sorted({image.modality for image in new if image.modality}):
        one, other = ([image for image in part if image.modality == kind] for part in (old, new))
        vendors = shift_of_text([image.vendor for image in one], [image.vendor for image in other])
        shifts.append(NamedShift(f"Vendor, {kind}", _PAST, vendors))
        for name, field in _MEASURES:
            shift = shift_of_numbers(_values(one, field), _values(other, field))
            shifts.append(NamedShift(f"{name}, {kind}", _PAST, shift))
    days = [(day < start, n_read, n_refused) for day, n_read, n_refused in found.refused]
    words = [
        ["read"] * sum(d[1] for d in days if d[0] is is_old) + ["refused"] * sum(d[2] for d in days if d[0] is is_old)
        for is_old in (True, False)
    ]
    return [*shifts, NamedShift("Refused files", _PAST, shift_of_text(words[0], words[1]))]


def _values(images: Sequence[SeenImage], field: str) -> list[float]:
    return [value for image in images if (value := getattr(image, field)) is not None]


def _of_scores(found: Seen, start: datetime, cards: Sequence[Card]) -> list[NamedShift]:
    shifts = []
    for card in cards:
        scores = read_test_scores(card)
        if scores is None:
            continue
        reference = scores[card.positive].tolist()
        recent = [a.score for a in found.answers if a.weights_sha256 == card.weights_sha256 and a.at >= start]
        shift = shift_of_numbers(reference, recent)
        shifts.append(NamedShift(f"Scores of {card.model_id}", "its test cases", shift, (reference, recent)))
    return shifts


def _of_distances(found: Seen, start: datetime, cards: Sequence[Card]) -> list[NamedShift]:
    """How many recent images lay beyond what each model learnt from, against those that gave its level."""
    shifts = []
    for card in cards:
        told = [a.is_unlike for a in found.answers if a.weights_sha256 == card.weights_sha256 and a.at >= start]
        recent = [_UNLIKE if one else _LIKE for one in told if one is not None]
        if card.training_distance is not None and recent:
            n = card.training_distance.n_level
            beyond = n - round(SHARE_WITHIN * n)
            shift = shift_of_text([_UNLIKE] * beyond + [_LIKE] * (n - beyond), recent)
            name = f"Unlike the training images of {card.model_id}"
            shifts.append(NamedShift(name, "images like those, held out", shift))
    return shifts


def shift_rows(found: Sequence[NamedShift]) -> list[dict[str, str | int]]:
    """One row a quantity, alarms first and too few values last; cells that few values cannot fill are empty."""
    found = sorted(found, key=lambda one: (not one.shift.is_alarm, not one.shift.is_enough))
    return [
        {
            "Quantity": one.name,
            "Verdict": "beyond the alarm line" if one.shift.is_alarm else "" if one.shift.is_enough else "too few",
            "Against": one.against,
            "n then": one.shift.n_reference,
            "n now": one.shift.n_recent,
            "PSI": _decimals(one.shift.psi),
            "Alarm line": _decimals(one.shift.alarm_line),
            "KS": _decimals(one.shift.ks),
            "p (KS)": "< 0.001" if one.shift.p is not None and one.shift.p < 0.001 else _decimals(one.shift.p, 3),
        }
        for one in found
    ]


def weekly_rows(found: Seen, cards: Sequence[Card]) -> list[dict[str, str | int]]:
    """Week by week, the newest first: images, the share of refused files, for each live model the share of images that
    lay beyond what it learnt from, and agreement with each that has answered about a breast with a first impression.
    """
    telling = {answer.weights_sha256 for answer in found.answers if answer.is_unlike is not None}
    tellers = [card for card in cards if card.weights_sha256 in telling]
    cards = [card for card in cards if any(call.weights_sha256 == card.weights_sha256 for call in found.calls)]
    weeks = sorted({_monday(image.at) for image in found.images} | {_monday(day) for day, _, _ in found.refused})
    rows = []
    for week in reversed(weeks):
        counts = [(n_read, n_refused) for day, n_read, n_refused in found.refused if _monday(day) == week]
        row: dict[str, str | int] = {
            "Week from": week,
            "Images": sum(_monday(image.at) == week for image in found.images),
            "Refused files": _share(sum(n for _, n in counts), sum(a + b for a, b in counts)),
        }
        for card in tellers:
            told = [
                answer.is_unlike
                for answer in found.answers
                if answer.weights_sha256 == card.weights_sha256
                and answer.is_unlike is not None
                and _monday(answer.at) == week
            ]
            row[f"Unlike the training images of {card.model_id}"] = _share(sum(told), len(told))
        for card in cards:
            calls = [
                call.agrees
                for call in found.calls
                if call.weights_sha256 == card.weights_sha256 and _monday(call.at) == week
            ]
            row[f"Agrees with {card.model_id}"] = _share(sum(calls), len(calls))
        rows.append(row)
    return rows


def _share(part: int, of: int) -> str:
    if not of:
        return ""
    few = ", few" if of < LEAST else ""
    return f"{100 * part / of:.0f} % (n = {of}{few})"


def _monday(at: datetime) -> str:
    return (at - timedelta(days=at.weekday())).strftime("%Y-%m-%d")


def _decimals(value: float | None, places: int = 2) -> str:
    return "" if value is None else f"{value:.{places}f}"


def record_intake(db: Database, actor: Actor, *, n_read: int, n_refused: int) -> None:
    """Counts files that were just opened. Raises NotAllowed."""
    with acting(db.begin(), actor, "create_study") as (connection, _):
        connection.execute(insert(tables.intake).values(at=tables.now(), n_read=n_read, n_refused=n_refused))
