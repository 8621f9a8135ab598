"""docs/security.md says what the code does."""

from __future__ import annotations

import re

import pytest

from core.records.people import accounts, invitations, passwords, throttle
from core.records.people.permissions import ACTION_TABLE, ROLES
from core.server import connections, guards, inbox, routes
from core.settings import REPOSITORY, Settings

TEXT = (REPOSITORY / "docs" / "security.md").read_text(encoding="utf-8")


def permission_table() -> str:
    """The Markdown table between the two markers of docs/security.md; copy it from a failing test."""
    rows = [f"| Action | {' | '.join(ROLES)} |", f"|---|{':-:|' * len(ROLES)}"]
    for action in ACTION_TABLE:
        marks = " | ".join("yes" if role in action.roles else "" for role in ROLES)
        rows.append(f"| {action.sentence} (`{action.name}`) | {marks} |")
    return "\n".join(rows)


def test_the_permission_table_is_that_of_the_code() -> None:
    printed = TEXT.split("<!-- permissions -->\n")[1].split("\n<!-- end of permissions -->")[0]
    assert printed == permission_table(), f"docs/security.md should hold:\n{permission_table()}"


@pytest.mark.parametrize(
    "sentence",
    [
        f"after {accounts.FAILURES_BEFORE_LOCK} failures in a row it is locked for {accounts.LOCK_MINUTES} minutes",
        f"After {throttle.NAME_FAILURES} failures of one name within {throttle.LOCK_MINUTES} minutes",
        f"at most {guards.FORMS_AT_ONCE} unanswered requests",
        f"{guards.NOBODYS_SOCKETS} websockets without a session",
        f"has {connections.HEAD_SECONDS:g} seconds until the head",
        f"and {connections.BODY_SECONDS:g} until the body",
        f"not stand still for {connections.STALL_SECONDS:g}.",
        f"at most {connections.PER_ADDRESS} connections",
        f"less {connections.RESERVED_DESCRIPTORS}.",
        f"at most {routes.FORM_BYTES // 1024} KiB and {routes.FORM_FIELDS} fields and {routes.FORM_SECONDS} seconds",
        f"`{routes.DEVICE_COOKIE}`",
        f"valid for {invitations.VALID_HOURS} hours and for one use",
        f"at least {passwords.LENGTH} characters",
        f"after {Settings().session_idle_minutes} minutes without work and after {Settings().session_hours} hours",
        f"`{guards.SESSION_COOKIE}`",
        f"after {inbox.LIFETIME_SECONDS // 3600} hours",
    ],
)
def test_the_numbers_are_those_of_the_code(sentence: str) -> None:
    assert sentence in " ".join(TEXT.split())


def test_every_closed_route_is_named() -> None:
    for path in (*guards.CLOSED_PATHS, *guards.SSO_PATHS):
        assert f"`{path}`" in TEXT


def test_every_test_that_the_table_of_threats_names_is_there() -> None:
    named = re.findall(r"`(tests/[\w/]+\.py)`", TEXT.split("## Threats")[1])
    assert named and all((REPOSITORY / path).is_file() for path in named)
