"""Choices that stand in a page's address, and there alone: what is drawn and computed follows from the address.

Streamlit's own binding leaves out of the address what equals a widget's default, and keeps the old value where a
default changes with the data: what a page shows, what it computes and what its address says then come apart. Here
every run reads the address first (a choice that is not in it, or cannot be, counts as its default), puts that into the
widget, and returns it. A change writes the address before the page runs. Addresses read as Streamlit's binding wrote
them.

The value is the widget's default, too: where somebody changes one control while the page is still being drawn for the
first time, that run ends, and the browser may never hear what it put into the others. They would then stand at their
defaults (a slider at its lowest) beside numbers that were computed by the address.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import Any

import streamlit as st

_TRUE, _FALSE = "true", "false"


def select(
    label: str, options: Sequence[str], *, key: str, default: str | None = None, at: Any = st, **more: Any
) -> str:
    """One of `options`, which must not be empty, from a list; `default` or else the first where none was chosen."""
    value = _one_of(options, key, default)
    at.selectbox(label, list(options), list(options).index(value), key=key, on_change=_write, args=(key, str), **more)
    return value


def segments(
    label: str, options: Sequence[str], *, key: str, default: str | None = None, at: Any = st, **more: Any
) -> str:
    """One of `options` side by side; clicking the chosen one leaves it chosen."""
    value = _one_of(options, key, default)
    at.segmented_control(
        label, list(options), default=value, required=True, key=key, on_change=_write, args=(key, str), **more
    )
    return value


def several(
    label: str, options: Sequence[str], *, key: str, default: Sequence[str], is_whole: bool = False, **more: Any
) -> tuple[str, ...]:
    """Some of `options` in their order. What the address names and is not among them is left out.

    is_whole: the address counts only where all that it names is there, else the default does.
    """
    value, asked = list(default), _asked(key)
    if asked is not None:
        found = [name for name in options if name in set(asked)]
        is_right = len(found) == len(set(asked)) if is_whole else bool(found)
        if is_right or asked == [""]:
            value = found
    _put(key, value)
    st.multiselect(label, list(options), value, key=key, on_change=_write, args=(key, _listed), **more)
    return tuple(name for name in options if name in set(value))


def toggle(label: str, *, key: str, default: bool = False, at: Any = st, **more: Any) -> bool:
    asked = _asked(key)
    value = {_TRUE: True, _FALSE: False}.get(asked[-1].lower(), default) if asked else default
    _put(key, value)
    at.toggle(label, value, key=key, on_change=_write, args=(key, _truth), **more)
    return value


def slider(
    label: str, low: float, high: float, *, step: float, key: str, default: float, at: Any = st, **more: Any
) -> float:
    """A number from `low` to `high` in steps, so that what is computed with is what is shown."""
    value = _number(key, low, high, default, step)
    at.slider(label, low, high, value, step=step, key=key, on_change=_write, args=(key, _plain), **more)
    return value


def number(
    label: str, low: float, high: float, *, step: float, key: str, default: float, at: Any = st, **more: Any
) -> float:
    value = _number(key, low, high, default, 0.01)
    at.number_input(label, low, high, value, step=step, key=key, on_change=_write, args=(key, _plain), **more)
    return value


def tabs(labels: Sequence[str], *, key: str) -> Sequence[Any]:
    """Tabs of which the page draws the open one only."""
    value = _one_of(labels, key, None)
    return st.tabs(list(labels), default=value, key=key, on_change=_write, args=(key, str))


def _asked(key: str) -> list[str] | None:
    return st.query_params.get_all(key) if key in st.query_params else None


def _put(key: str, value: object) -> None:
    if key not in st.session_state or st.session_state[key] != value:
        st.session_state[key] = value


def one_of(options: Sequence[str], *, key: str, default: str | None = None) -> str:
    """What the address says, without a widget."""
    asked = _asked(key)
    value = asked[-1] if asked else ""
    if value in options:
        return value
    return default if default is not None and default in options else options[0]


def names_another(options: Sequence[str], *, key: str) -> bool:
    """Whether the address names something that is none of `options`."""
    asked = _asked(key)
    return bool(asked and asked[-1] not in options)


def _one_of(options: Sequence[str], key: str, default: str | None) -> str:
    value = one_of(options, key=key, default=default)
    _put(key, value)
    return value


def _number(key: str, low: float, high: float, default: float, step: float) -> float:
    asked, value = _asked(key), default
    if asked:
        try:
            value = float(asked[-1])
        except ValueError:
            value = default
        if not math.isfinite(value):
            value = default
    value = min(max(value, low), high)
    value = round(min(max(round(value / step) * step, low), high), 9)
    _put(key, value)
    return value


def _write(key: str, text: Callable[[Any], str | list[str]]) -> None:
    st.query_params[key] = text(st.session_state[key])


def _listed(names: Sequence[str]) -> list[str]:
    return list(names) or [""]  # that nothing is chosen is a choice


def _truth(value: bool) -> str:
    return _TRUE if value else _FALSE


def _plain(value: float) -> str:
    return f"{value:g}"
