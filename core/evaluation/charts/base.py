"""What every figure shares: colours, the empty figure on the page's ground, lines, and the caption under it.

Figures compute nothing and look right on a dark page. Names come from files and may hold markup that Plotly would
interpret, so every one is escaped.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from html import escape

import pandas as pd
import plotly.graph_objects as go

COLOURS = ("#56b4e9", "#e69f00", "#2fbf9b", "#cc79a7", "#f0e442", "#d55e00", "#8fa8ff", "#b7b7b7")
"""Okabe & Ito's palette, told apart by colour-blind readers, with its two darkest lightened for a dark page."""
DASHES = ("solid", "dash", "dot", "dashdot")
INK, FAINT, GREYED = "#d9dcdf", "#34393e", "#767d85"
ALARM = "#ff6b5e"
"""Numbers that must not be believed: those of a leaking split."""
PAPER = "#121416"
"""The page's own ground: a saved picture with light ink must not stand on nothing."""
CAPTION_LETTERS = 48
STATED = ("data_set", "split", "data_sha256", "weights_sha256", "leaking_split")
"""Columns of a download that say what it was computed from."""


@dataclass(frozen=True, slots=True)
class Provenance:
    """What a figure was computed from; its caption stands under every figure. weights: scorer -> sha256.

    leaking: the scorers whose numbers come from a leaking split.
    """

    dataset: str
    split: str
    n: int
    positives: int | None
    data_sha256: str
    weights: Mapping[str, str] = field(default_factory=dict)
    leaking: tuple[str, ...] = ()

    @property
    def parts(self) -> tuple[str, ...]:
        """What is stated, one by one, as it is."""
        parts = [self.dataset, self.split, f"{self.n} cases"]
        if self.positives is not None:
            parts.append(f"{self.positives} positive")
        parts.append(f"data {self.data_sha256[:8]}")
        parts += [f"{name} {sha256[:8]}" for name, sha256 in self.weights.items()]
        return tuple(part for part in parts if part)

    @property
    def text(self) -> str:
        """One line, as it is: not escaped."""
        return ", ".join([*self.parts, *self._alarms])

    def stated_in(self, table: pd.DataFrame) -> pd.DataFrame:
        """The table with columns that say what it was computed from; by scorer where it has such a column. A column of
        the table that is called as one of these keeps its values under "… in the table"."""
        table = table.rename(columns={name: f"{name} in the table" for name in STATED})
        stated = table.assign(data_set=self.dataset, split=self.split, data_sha256=self.data_sha256)
        if "scorer" in table:
            stated["weights_sha256"] = table["scorer"].map(dict(self.weights)).fillna("")
            stated["leaking_split"] = table["scorer"].isin(self.leaking)
        else:
            stated["weights_sha256"] = " ".join(f"{name}={sha256}" for name, sha256 in self.weights.items())
            stated["leaking_split"] = " ".join(self.leaking)
        return stated

    @property
    def _alarms(self) -> tuple[str, ...]:
        return tuple(f"LEAKING SPLIT: {name}" for name in self.leaking)

    @property
    def caption(self) -> str:
        """Escaped, in lines of at most `CAPTION_LETTERS` unless one part is longer."""
        lines: list[str] = []
        for part in self.parts:
            if lines and len(f"{lines[-1]}, {part},") <= CAPTION_LETTERS:
                lines[-1] += f", {part}"
            else:
                lines.append(part)
        alarms = [f'<span style="color:{ALARM}">{escape(alarm)}</span>' for alarm in self._alarms]
        return ",<br>".join([*(escape(line) for line in lines), *alarms])


def blank_figure(x_title: str, y_title: str, provenance: Provenance | None) -> go.Figure:
    """An empty figure in the page's colours, with the provenance as its caption."""
    lines = provenance.caption.count("<br>") + 1 if provenance else 0
    figure = go.Figure()
    figure.update_layout(
        template="plotly_dark",
        paper_bgcolor=PAPER,
        plot_bgcolor=PAPER,
        font={"color": INK},
        xaxis={"title": {"text": x_title}, "gridcolor": FAINT, "zerolinecolor": FAINT},
        yaxis={"title": {"text": y_title}, "gridcolor": FAINT, "zerolinecolor": FAINT},
        margin={"l": 60, "r": 45, "t": 20, "b": 80 + 14 * lines if provenance else 60},
        legend={"orientation": "h", "yanchor": "bottom", "y": 1.02, "x": 0, "bgcolor": "rgba(0,0,0,0)"},
        hoverlabel={"align": "left"},
        modebar={"orientation": "v", "bgcolor": PAPER},
    )
    if provenance is not None:
        figure.add_annotation(
            text=provenance.caption,
            xref="paper",
            yref="paper",
            x=0,
            y=0,
            yshift=-60,
            xanchor="left",
            yanchor="top",
            align="left",
            showarrow=False,
            font={"size": 11, "color": GREYED},
        )
    return figure


def line_of(index: int) -> dict[str, object]:
    """Colour and dash of the scorer of this number."""
    return {
        "color": COLOURS[index % len(COLOURS)],
        "dash": DASHES[index // len(COLOURS) % len(DASHES)],
        "width": 2,
    }


def unit_axes(figure: go.Figure) -> None:
    """Both axes from 0 to 1, square."""
    figure.update_xaxes(range=[-0.01, 1.01], constrain="domain")
    figure.update_yaxes(range=[-0.01, 1.02], scaleanchor="x", constrain="domain")
