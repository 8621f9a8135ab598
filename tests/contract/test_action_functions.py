"""Every function that acts for a person asks first whether that person may; found by reading the code, not by a list.

A new function is tested from the day it is written: it either asks `require_permission` before it touches anything,
or it stands below with the reason why it need not.
"""

from __future__ import annotations

import ast
import importlib
import inspect
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

import pytest

from core.errors import NotAllowed
from core.records.people import permissions
from core.records.people.permissions import ACTIONS, ROLES, Person
from core.settings import REPOSITORY

ROOT = REPOSITORY

WITHOUT_A_ROLE = {
    "core.records.people.accounts.change_password": "one's own password, proved by the old one",
    "core.records.people.accounts.has_password": "says something about oneself",
    "core.records.reads.reads.ai_visible": "answers False for whoever may not see the AI",
    "core.records.reads.reads.is_ai_visible": "the same, in the transaction of an act that asks",
    "core.records.people.sessions.start_session": "of somebody who has just proved who they are",
    "core.records.people.permissions": "is where the question is answered",
    "core.server.inbox": "one's own inbox; the route asks for the role",
    "train.queue.trainings.enqueue": "is enqueue_all for one",
    "train.queue.duration.estimate": "asks list_jobs, which demands the role",
}
"""Public functions that are given a person and ask for no role themselves."""


@dataclass(frozen=True)
class Acting:
    """A top-level function that is given a person. asks: the actions it demands, in the order of the code."""

    module: str
    name: str
    asks: tuple[str, ...]
    is_public: bool

    @property
    def path(self) -> str:
        return f"{self.module}.{self.name}"

    def function(self) -> Callable[..., Any]:
        return getattr(importlib.import_module(self.module), self.name)


def acting_functions() -> Iterator[Acting]:
    for package in ("core", "train"):
        for file in sorted((ROOT / package).rglob("*.py")):
            module = ".".join(file.relative_to(ROOT).with_suffix("").parts)
            for node in ast.parse(file.read_text(encoding="utf-8")).body:
                if isinstance(node, ast.FunctionDef) and _takes_a_person(node):
                    yield Acting(module, node.name, tuple(_asked(node)), not node.name.startswith("_"))


def _takes_a_person(node: ast.FunctionDef) -> bool:
    given = [*node.args.posonlyargs, *node.args.args, *node.args.kwonlyargs]
    return any(isinstance(arg.annotation, ast.Name) and arg.annotation.id == "Person" for arg in given)


def _asked(node: ast.FunctionDef) -> Iterator[str]:
    for call in ast.walk(node):
        if isinstance(call, ast.Call) and isinstance(call.func, ast.Name) and call.func.id == "require_permission":
            assert isinstance(call.args[1], ast.Constant), f"{node.name} demands something that is no word"
            yield str(call.args[1].value)


FOUND = tuple(acting_functions())
ASKING = tuple(found for found in FOUND if found.asks and found.module != "core.records.people.permissions")


class Untouched:
    """Stands for every argument but the person: a function that looks at it before asking fails."""

    def __getattr__(self, name: str) -> Any:
        raise AssertionError(f"{name} was touched before the role was asked for")


class Passed(Exception):
    """Raised right after the role was found good, so that nothing happens in the test."""


def call(acting: Acting, person: Person) -> None:
    function = acting.function()
    positional, named = [], {}
    for parameter in inspect.signature(function).parameters.values():
        value = person if parameter.annotation in ("Person", Person) else Untouched()
        if parameter.kind is parameter.KEYWORD_ONLY:
            named[parameter.name] = value
        else:
            positional.append(value)
    function(*positional, **named)


def test_the_functions_are_found() -> None:
    assert len(ASKING) >= 40
    assert {"core.records.reads.studies.create_study", "train.queue.trainings.cancel"} <= {
        found.path for found in ASKING
    }


@pytest.mark.parametrize("acting", ASKING, ids=lambda acting: acting.path)
@pytest.mark.parametrize("role", [*ROLES, "nobody"])
def test_the_whole_table_of_roles_holds_before_anything_is_touched(
    acting: Acting, role: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    person = Person(1, "A", () if role == "nobody" else [role])

    def pass_or_refuse(who: Person, action: str) -> None:
        permissions.require_permission(who, action)
        raise Passed

    monkeypatch.setattr(f"{acting.module}.require_permission", pass_or_refuse)
    with pytest.raises(Passed if role in ACTIONS[acting.asks[0]] else NotAllowed):
        call(acting, person)


def test_who_is_given_a_person_asks_for_the_role_or_says_why_not() -> None:
    is_silent = {found.path for found in FOUND if found.is_public and not found.asks}
    excused = {path for path in is_silent if any(path.startswith(known) for known in WITHOUT_A_ROLE)}
    assert is_silent - excused == set(), "ask `require_permission` first, or give the reason in WITHOUT_A_ROLE"


def test_every_action_of_the_table_is_asked_for_somewhere() -> None:
    words = {action for found in ASKING for action in found.asks}
    text = "".join(
        file.read_text(encoding="utf-8") for file in [ROOT / "app.py", *sorted((ROOT / "pages").rglob("*.py"))]
    )
    unused = {action for action in ACTIONS if action not in words and f'"{action}"' not in text}
    assert unused == set()
