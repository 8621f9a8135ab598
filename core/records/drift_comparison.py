"""Recent pictures and answers against earlier ones and against the live models' test cases, and the rows of it."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime, timedelta

from core.evaluation.charts_drift import NamedShift
from core.evaluation.drift import LEAST, shift_of_numbers, shift_of_words
from core.models.cards import Card, read_test_scores
from core.records.db import Database
from core.records.drift_records import Seen, seen
from core.records.permissions import Person, demand
from core.records.tables import now

BEFORE = timedelta(days=365)


def compared(db: Database, actor: Person, cards: Sequence[Card], *, weeks: int) -> list[NamedShift]:
    """Pictures of the last weeks against the year before them, and each live model's answers against its test cases.

    Raises NotAllowed.
    """
    demand(actor, "see_drift")
    start = now() - timedelta(weeks=weeks)
    everything = seen(db, actor, since=BEFORE + timedelta(weeks=weeks))
    return [*_of_pictures(everything, start), *_of_scores(everything, start, cards)]


def _of_pictures(found: Seen, start: datetime) -> list[NamedShift]:
    old = [image for image in found.images if image.at < start]
    new = [image for image in found.images if image.at >= start]
    against = "this site, the year before"
    shifts = [
        NamedShift("Kind of picture", against, shift_of_words([i.modality for i in old], [i.modality for i in new]))
    ]
    for kind in sorted({image.modality for image in new if image.modality}):
        one, other = ([image for image in part if image.modality == kind] for part in (old, new))
        vendors = shift_of_words([image.vendor for image in one], [image.vendor for image in other])
        shifts.append(NamedShift(f"Vendor, {kind}", against, vendors))
        for name, field in (("Size", "megapixels"), ("Brightness", "brightness")):
            values = [
                [value for image in part if (value := getattr(image, field)) is not None] for part in (one, other)
            ]
            shifts.append(NamedShift(f"{name}, {kind}", against, shift_of_numbers(values[0], values[1])))
    days = [(day < start, n_read, n_refused) for day, n_read, n_refused in found.refused]
    words = [
        ["read"] * sum(d[1] for d in days if d[0] is is_old) + ["refused"] * sum(d[2] for d in days if d[0] is is_old)
        for is_old in (True, False)
    ]
    return [*shifts, NamedShift("Refused files", against, shift_of_words(words[0], words[1]))]


def _of_scores(found: Seen, start: datetime, cards: Sequence[Card]) -> list[NamedShift]:
    shifts = []
    for card in cards:
        scores = read_test_scores(card)
        if scores is None:
            continue
        reference = scores[card.positive].tolist()
        recent = [a.score for a in found.answers if a.weights_sha256 == card.weights_sha256 and a.at >= start]
        name = f"Scores of {card.model_id}"
        shift = shift_of_numbers(reference, recent)
        shifts.append(NamedShift(name, "the model's test cases", shift, (reference, recent)))
    return shifts


def shift_rows(found: Sequence[NamedShift]) -> list[dict[str, str | int]]:
    """One row a quantity; cells that few values cannot fill are empty."""
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
    """Week by week, the newest first: images, the share of refused files, and agreement with each live model."""
    weeks = sorted({_monday(image.at) for image in found.images} | {_monday(day) for day, _, _ in found.refused})
    rows = []
    for week in reversed(weeks):
        counts = [(n_read, n_refused) for day, n_read, n_refused in found.refused if _monday(day) == week]
        row: dict[str, str | int] = {
            "Week from": week,
            "Images": sum(_monday(image.at) == week for image in found.images),
            "Refused files": _share(sum(n for _, n in counts), sum(a + b for a, b in counts)),
        }
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
