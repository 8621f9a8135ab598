"""Every function that acts for somebody asks first whether they may, in its own transaction; found by reading the code.

A new function is tested from the day it is written: it either asks `require_permission` before it touches anything,
or it stands below with the reason why it need not. `acting` and `require_permission_now` ask it too.
"""

from __future__ import annotations

import ast
import importlib
import inspect
from collections.abc import Callable, Iterator
from contextlib import contextmanager
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
    "core.records.people.second_factor.begin": "one's own second factor",
    "core.records.people.second_factor.confirm": "one's own second factor, proved by a code of it",
    "core.records.people.second_factor.is_set_up": "says something about oneself",
    "core.records.people.second_factor.remove": "one's own second factor, proved by a code of it",
    "core.reading.new_studies.save": "is create_study for several",
    "core.archive.probe.probe_archive": "asks archive_to_manage, which demands the role",
    "core.language.asking.probe": "asks record_test, which demands the role, before anything is sent",
    "core.records.reads.reads.ai_visible": "answers False for whoever may not see the AI",
    "train.queue.trainings.enqueue": "is enqueue_all for one",
    "train.queue.duration.estimate": "asks list_jobs, which demands the role",
}
"""Public functions that are given an actor and ask for no role themselves."""

OF_A_PERSON = {
    "core.records.people.permissions": "is where the question is answered",
    "core.records.people.accounts.enter": "of somebody who has just set a password with a link",
    "core.records.people.sessions.start_session": "of somebody who has just proved who they are",
    "core.server.inbox": "one's own inbox; the route asks for the role",
}
"""Public functions that are given a person and no transaction to ask in."""

ASKS = ("require_permission", "person_now")
DEMANDS = ("require_permission", "require_permission_now", "acting")
WRITING = ("db.begin()", "_alone(db)")


@dataclass(frozen=True)
class Acting:
    """A top-level function that is given an actor. asks: the actions it demands, in the order of the code."""

    module: str
    name: str
    asks: tuple[str, ...]
    is_public: bool

    @property
    def path(self) -> str:
        return f"{self.module}.{self.name}"

    def function(self) -> Callable[..., Any]:
        return getattr(importlib.import_module(self.module), self.name)


def functions() -> Iterator[tuple[str, ast.FunctionDef]]:
    """Every top-level function with its module."""
    for package in ("core", "train"):
        for file in sorted((ROOT / package).rglob("*.py")):
            module = ".".join(file.relative_to(ROOT).with_suffix("").parts)
            for node in ast.parse(file.read_text(encoding="utf-8")).body:
                if isinstance(node, ast.FunctionDef):
                    yield module, node


def acting_functions() -> Iterator[Acting]:
    for module, node in functions():
        if _is_given(node, "Actor") and module != "core.records.people.permissions":
            yield Acting(module, node.name, tuple(_asked(node, module)), not node.name.startswith("_"))


def _is_given(node: ast.FunctionDef, kind: str) -> bool:
    given = [*node.args.posonlyargs, *node.args.args, *node.args.kwonlyargs]
    return any(kind in ast.unparse(arg.annotation).split(" | ") for arg in given if arg.annotation is not None)


def _asked(node: ast.FunctionDef, module: str) -> Iterator[str]:
    """The actions that a function demands itself, or by a private function of its file that it gives the actor to."""
    for call in ast.walk(node):
        if not isinstance(call, ast.Call) or not isinstance(call.func, ast.Name):
            continue
        if call.func.id in DEMANDS:
            assert isinstance(call.args[2], ast.Constant), f"{node.name} demands something that is no word"
            yield str(call.args[2].value)
        helper = HELPERS.get((module, call.func.id))
        if helper is not None and "actor" in [ast.unparse(one) for one in call.args]:
            yield from _asked(helper, module)


HELPERS = {(module, node.name): node for module, node in functions() if node.name.startswith("_")}
ACTOR = permissions.SessionActor("0" * 64)
FOUND = tuple(acting_functions())
ASKING = tuple(found for found in FOUND if found.asks and found.is_public)


class Untouched:
    """Stands for every argument but the actor: a function that looks at it before asking fails."""

    def __getattr__(self, name: str) -> Any:
        raise AssertionError(f"{name} was touched before the role was asked for")


class Transactions(Untouched):
    """A database that only begins transactions; open_now: the one that is open."""

    def __init__(self) -> None:
        self.open_now: object = None

    @contextmanager
    def begin(self) -> Iterator[object]:
        self.open_now = Untouched()
        yield self.open_now
        self.open_now = None

    read = begin


class Passed(Exception):
    """Raised right after the role was found good, so that nothing happens in the test."""


def call(acting: Acting, db: Transactions) -> None:
    function = acting.function()
    positional, named = [], {}
    for parameter in inspect.signature(function).parameters.values():
        value = {"actor": ACTOR, "db": db}.get(parameter.name, Untouched())
        if parameter.kind is parameter.KEYWORD_ONLY:
            named[parameter.name] = value
        else:
            positional.append(value)
    made = function(*positional, **named)
    if inspect.isgenerator(made):
        next(made)


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
    db = Transactions()

    def pass_or_refuse(connection: object, actor: object, action: str) -> None:
        assert connection is db.open_now is not None, "asked outside its own transaction"
        assert actor is ACTOR
        permissions.require_role_for(Person(1, "A", () if role == "nobody" else [role]), action)
        raise Passed

    monkeypatch.setattr(permissions, "require_permission", pass_or_refuse)
    if hasattr(importlib.import_module(acting.module), "require_permission"):
        monkeypatch.setattr(f"{acting.module}.require_permission", pass_or_refuse)
    with pytest.raises(Passed if role in ACTIONS[acting.asks[0]] else NotAllowed):
        call(acting, db)


def test_who_is_given_an_actor_asks_for_the_role_or_says_why_not() -> None:
    is_silent = {found.path for found in FOUND if found.is_public and not found.asks}
    assert is_silent == set(WITHOUT_A_ROLE), "ask `require_permission` first, or give the reason in WITHOUT_A_ROLE"


def test_every_transaction_that_writes_for_an_actor_begins_with_asking() -> None:
    """Also the second one of an act: what was true in the first may be over. `acting` begins one with it."""
    n, silent = 0, []
    for module, node in functions():
        if not _is_given(node, "Actor"):
            continue
        for block in ast.walk(node):
            if not isinstance(block, ast.With):
                continue
            begun = [ast.unparse(item.context_expr) for item in block.items]
            n += sum(one.startswith(tuple(f"acting({kind}, actor, " for kind in WRITING)) for one in begun)
            if set(begun) & set(WRITING):
                n += 1
                if not _is_asking(block.body[0]):
                    silent.append(f"{module}.{node.name}")
    assert silent == [] and n >= 30


def _is_asking(statement: ast.stmt) -> bool:
    """`person = require_permission(connection, actor, ...)`, with a person or without."""
    value = statement.value if isinstance(statement, (ast.Assign, ast.Expr)) else None
    if not isinstance(value, ast.Call) or ast.unparse(value.func) not in ASKS:
        return False
    return [ast.unparse(argument) for argument in value.args[:2]] == ["connection", "actor"]


def test_nobody_acts_as_a_remembered_person() -> None:
    """Who is given a person is given the transaction, too, in which it was asked who that is."""
    remembered = {
        f"{module}.{node.name}"
        for module, node in functions()
        if _is_given(node, "Person") and not (node.args.args and node.args.args[0].arg == "connection")
        if not node.name.startswith("_")
    }
    excused = {path for path in remembered if any(path.startswith(known) for known in OF_A_PERSON)}
    assert remembered - excused == set()


def test_every_action_of_the_table_is_asked_for_somewhere() -> None:
    words = {action for found in ASKING for action in found.asks}
    text = "".join(
        file.read_text(encoding="utf-8") for file in [ROOT / "app.py", *sorted((ROOT / "pages").rglob("*.py"))]
    )
    unused = {action for action in ACTIONS if action not in words and f'"{action}"' not in text}
    assert unused == set()
