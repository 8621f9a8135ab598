"""Probabilities side by side on one scale from 0 to 100 %: value, interval, threshold. One hue, no red, no green."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from html import escape

from core.reports.content import percent, percent_range, threshold_verdict


@dataclass(frozen=True, slots=True)
class Bar:
    """One line of the figure; all but the name in [0, 1]."""

    name: str
    malignant: float
    interval: tuple[float, float]
    threshold: float


def bars_html(bars: Sequence[Bar]) -> str:
    """The figure as HTML without scripts; every word in it is escaped. It also reads well aloud."""
    lines = "".join(_line(bar) for bar in bars)
    return f'<div role="list" style="display:grid;gap:.8rem;margin:.25rem 0;font-size:.95rem">{lines}</div>'


def _line(bar: Bar) -> str:
    low, high = bar.interval
    verdict = threshold_verdict(bar.malignant, bar.threshold)
    said = f"{bar.name}: {percent(bar.malignant)}, 95 % interval {percent_range(bar.interval)}. {verdict}"
    track = (
        '<div style="position:relative;height:.75rem;margin-top:.2rem;background:#20262b;border-radius:2px">'
        f'<div style="position:absolute;top:0;bottom:0;left:{100 * low:.2f}%;width:{max(0.5, 100 * (high - low)):.2f}%;'
        'background:#5f7f8f"></div>'
        f'<div style="position:absolute;top:-.1rem;bottom:-.1rem;left:calc({100 * bar.malignant:.2f}% - 2px);width:4px;'
        'background:#e8f1f5"></div>'
        f'<div title="threshold {percent(bar.threshold)}" style="position:absolute;top:-.3rem;bottom:-.3rem;'
        f'left:{100 * bar.threshold:.2f}%;border-left:2px dashed #ffd479"></div></div>'
    )
    return (
        f'<div role="listitem" aria-label="{escape(said)}">'
        '<div style="display:flex;justify-content:space-between;gap:1rem">'
        f"<span>{escape(bar.name)}</span><span><b>{percent(bar.malignant)}</b> "
        f'<span style="opacity:.7">({percent_range(bar.interval)})</span></span></div>{track}'
        f'<div style="opacity:.7;font-size:.87rem;margin-top:.25rem">{verdict}</div></div>'
    )
