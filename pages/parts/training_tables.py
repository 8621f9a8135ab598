"""Words and small tables of the pages Data sets and Training."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import datetime
from typing import Any

from core.models.cards import Card
from core.models.outline_card import OWN_TEST_CASES, OutlineCard
from core.wording import how_many
from pages.parts.markdown import plain
from train.queue.trainings import Epoch, JobRow

_MARKS = {"leak": ":material/dangerous:", "warning": ":material/warning:", "note": ":material/info:"}


def split_text(split: Mapping[str, Any]) -> str:
    """How a version was made."""
    words = [str(split.get("kind", "unknown"))]
    words += [f"seed {split['seed']}"] if "seed" in split else []
    words += [f"{split['per_class']} of each class"] if "per_class" in split else []
    words += [f"{how_many(split['together'], 'near-duplicate')} kept together"] if split.get("together") else []
    words += [f"{how_many(split['dropped'], 'picture')} dropped"] if split.get("dropped") else []
    words += [f"from version {split['from']}"] if "from" in split else []
    return ", ".join(words)


def counts_table(counts: Mapping[str, Mapping[str, int]]) -> list[dict[str, Any]]:
    """A row a split, a column a label."""
    labels = sorted({label for row in counts.values() for label in row})
    return [{"split": split, **{label: row.get(label, 0) for label in labels}} for split, row in counts.items()]


def leakage_lines(found: Mapping[str, Any]) -> list[str]:
    """Markdown, a line a finding."""
    return [f"{_MARKS[one['severity']]} {plain(one['sentence'])}" for one in found.get("findings", [])]


def job_title(job: JobRow) -> str:
    """One line for the list: number, model, data, state."""
    state = "being cancelled" if job.is_stopping else "comparing" if job.is_comparing else job.state
    return f"{job.id} · {plain(job.request.model_id)} · {plain(job.data_set)} v{job.version} · {state}"


def device_text(job: JobRow) -> str:
    """Where a training computes: "on ward3: AMD EPYC, 2 cores, float32 · 812 MiB of memory in use"."""
    words = f"on {plain(job.machine)}" + (f": {plain(job.device)}" if job.device else "")
    return f"{words} · {job.memory_mib} MiB of memory in use" if job.memory_mib and job.is_open else words


def progress_text(job: JobRow, n_epochs: int, total: int) -> str:
    """What a running training does now: "fold1: epoch 3, step 12 of 40 · 13 of at most 90 epochs are over"."""
    over = f"{n_epochs} of at most {total} epochs are over"
    if not job.progress:
        return over
    part = f"{plain(str(job.progress['part']))}: " if job.progress.get("part") else ""
    now = f"{part}epoch {job.progress['epoch']}, step {job.progress['step']} of {job.progress['steps']}"
    return f"{now[0].upper()}{now[1:]} · {over}"


def trials_table(job: JobRow) -> list[dict[str, Any]]:
    """A row a trial of a search, a column a setting."""
    return [
        {
            "trial": trial["number"],
            **dict(setting.split("=", 1) for setting in trial["settings"]),
            "state": trial["state"],
            "epochs": trial["epochs"],
            "validation AUC": trial["validation_auc"],
        }
        for trial in job.trials
    ]


def outcome_text(job: JobRow, epochs: Sequence[Epoch], card: Card | OutlineCard | None) -> str:
    """What a finished training came to: how long, its test AUC or Dice, its seed, and what was resumed."""
    parts = []
    if job.started_at and job.ended_at:
        parts.append(f"took {duration_text((job.ended_at - job.started_at).total_seconds())}")
    if isinstance(card, OutlineCard):
        dice = card.measured.get(OWN_TEST_CASES, {}).get("dice")
        if dice is not None:
            parts.append(f"test Dice {dice.value:.3f} ({dice.low:.3f} to {dice.high:.3f}, {dice.n} pictures)")
    elif card is not None and card.measured is not None:
        area = card.measured
        parts.append(f"test AUC {area.auc:.3f} ({area.low:.3f} to {area.high:.3f}, {area.n} cases)")
    parts.append(f"seed {job.request.seed}")
    retained = sum(1 for epoch in epochs if epoch.attempt < job.attempts)
    if job.attempts > 1:
        parts.append(f"attempt {job.attempts}, resumed after {retained} of {len(epochs)} epochs")
    return " · ".join(parts)


def duration_text(seconds: float) -> str:
    """Rounded up, as people say it."""
    if seconds < 90:
        return how_many(max(1, round(seconds)), "second")
    return f"{round(seconds / 60)} minutes" if seconds < 5400 else f"{seconds / 3600:.1f} hours"


def when(moment: datetime | None) -> str:
    """UTC, to the second."""
    return moment.strftime("%Y-%m-%d %H:%M:%S UTC") if moment else ""
