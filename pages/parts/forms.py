"""Plain HTML forms inside a page, posted to the server's own routes."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from html import escape
from urllib.parse import urlencode

import streamlit as st

from core.records.people import passwords
from core.records.people.accounts import REASONS
from core.server.going_on import FIELD_CHOICES, FIELD_PAGE, SAID
from pages.parts.session import ASKED_PAGE


@dataclass(frozen=True, slots=True)
class Field:
    """One input of a plain form. kind: the HTML input type.

    name: not one that a form has a property for, such as "name" or "action": Streamlit's sanitiser takes those away.
    """

    name: str
    label: str
    kind: str = "text"
    autocomplete: str = "off"
    hint: str = ""
    placeholder: str = ""


PASSWORD_HINT = f"At least {passwords.LENGTH} characters. Several words are easier to remember than signs."


def post_form(action: str, fields: Sequence[Field], *, button: str, hidden: Mapping[str, str] | None = None) -> None:
    """A form whose labels, hints and values are escaped here; `action` is a route of `core.server.routes`.

    hidden: values that travel with the form without being shown.
    """
    rows = "".join(_row(field) for field in fields)
    rows += "".join(
        f'<input type="hidden" name="{escape(name)}" value="{escape(value)}">' for name, value in (hidden or {}).items()
    )
    st.html(
        f'<form class="sr-form" method="post" action="{escape(action)}">{rows}'
        f'<button type="submit">{escape(button)}</button></form>'
    )


def going_on() -> dict[str, str]:
    """Hidden fields of a form that signs in: where the address points, so that one arrives there afterwards."""
    asked = {name: st.query_params.get_all(name) for name in st.query_params if name != SAID}
    if FIELD_PAGE in asked:  # the second step of signing in: the first one handed them over
        return {name: asked[name][-1] for name in (FIELD_PAGE, FIELD_CHOICES) if name in asked}
    if not ASKED_PAGE.get():
        return {}
    return {FIELD_PAGE: ASKED_PAGE.get(), FIELD_CHOICES: urlencode(asked, doseq=True)}


def refusal() -> None:
    """The sentence that belongs to the reason in the address, if there is one that we know."""
    sentence = REASONS.get(st.query_params.get(SAID, ""))
    if sentence:
        st.error(sentence, icon=":material/block:")


def _row(field: Field) -> str:
    hint = f'<small id="{field.name}-hint">{escape(field.hint)}</small>' if field.hint else ""
    described = f' aria-describedby="{field.name}-hint"' if field.hint else ""
    return (
        f'<label for="sr-{field.name}">{escape(field.label)}</label>'
        f'<input id="sr-{field.name}" name="{field.name}" type="{field.kind}" required maxlength="256" '
        f'autocomplete="{field.autocomplete}" placeholder="{escape(field.placeholder)}" '
        f'spellcheck="false" autocapitalize="off"{described}>{hint}'
    )
