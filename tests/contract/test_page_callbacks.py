"""Whatever of a page runs later on its own asks first who is there now; found by reading the pages, not by a list.

A dialog or a fragment runs again without its page, a callback before it, and a download without any of them: what the
page had found out when it was drawn may be over by then.
"""

from __future__ import annotations

import ast
from collections.abc import Iterator

from core.settings import REPOSITORY

LATER = ("st.dialog", "st.fragment")
CALLBACKS = ("on_click", "on_change", "on_select", "on_submit", "on_dismiss")
ASKED_FOR_DOWNLOADS = ("deferred", "with_audit")

LOOKING_ONLY = {
    "pages/parts/frame.py:_watch_session": "is what looks whether the session has ended",
    "pages/parts/address.py:_write": "puts a control's value into this tab's address; the page that follows asks",
}
BYTES = {"pages/admin/audit.py": "made in the run that draws the button, which has asked"}
"""Downloads that are no functions."""


def trees() -> Iterator[tuple[str, ast.Module]]:
    for file in [REPOSITORY / "app.py", *sorted((REPOSITORY / "pages").rglob("*.py"))]:
        yield str(file.relative_to(REPOSITORY)), ast.parse(file.read_text(encoding="utf-8"))


def test_a_button_that_can_be_grey_says_why() -> None:
    """Whatever greys it has words for it in its tooltip, which Streamlit shows over a disabled button, too."""
    without = []
    for path, tree in trees():
        for call in (node for node in ast.walk(tree) if isinstance(node, ast.Call)):
            given = {one.arg for one in call.keywords}
            name = call.func.attr if isinstance(call.func, ast.Attribute) else ""
            if name.endswith("button") and "disabled" in given and "help" not in given:
                without.append(f"{path}:{call.lineno}")
    assert not without, f"no help says why they are grey: {without}"


def begins_with_asking(node: ast.FunctionDef) -> bool:
    """`require(...)`, with what it gives kept or not, is the first statement after the docstring."""
    body = node.body[1:] if ast.get_docstring(node) is not None else node.body
    first = body[0] if body else None
    value = first.value if isinstance(first, (ast.Assign, ast.Expr)) else None
    return isinstance(value, ast.Call) and ast.unparse(value.func) == "require"


def run_later() -> Iterator[tuple[str, ast.FunctionDef]]:
    """Dialogs and fragments, and functions of the same file that are called when something is clicked or changed."""
    for path, tree in trees():
        functions = {node.name: node for node in ast.walk(tree) if isinstance(node, ast.FunctionDef)}
        for node in functions.values():
            names = {ast.unparse(one.func if isinstance(one, ast.Call) else one) for one in node.decorator_list}
            if names & set(LATER):
                yield f"{path}:{node.name}", node
        for call in (node for node in ast.walk(tree) if isinstance(node, ast.Call)):
            for given in call.keywords:
                is_callback = given.arg in CALLBACKS or (given.arg or "").startswith("on_")
                if not is_callback or isinstance(given.value, ast.Constant):
                    continue
                if ast.unparse(given.value) == "lambda: None":
                    continue
                name = ast.unparse(given.value)
                if path == "app.py" and name == "show_failure":
                    continue
                assert name in functions, f"{path}:{call.lineno}: give {given.arg} a function of this file that asks"
                yield f"{path}:{name}", functions[name]


def test_the_functions_are_found() -> None:
    found = {path for path, _ in run_later()}
    assert {"pages/admin/people.py:change", "pages/reader/parts/impressions.py:_follow"} <= found
    assert len(found) >= 6 and set(LOOKING_ONLY) <= found


def test_what_runs_later_begins_with_asking() -> None:
    silent = {path for path, node in run_later() if not begins_with_asking(node)}
    assert silent == set(LOOKING_ONLY), "begin with `require`, as `pages.parts.session` says"


def test_downloads_that_are_made_later_ask_when_they_are_made() -> None:
    """The data of each download button comes from what asks, or is bytes already."""
    n, silent = 0, set()
    for path, tree in trees():
        for call in ast.walk(tree):
            if not isinstance(call, ast.Call) or not ast.unparse(call.func).endswith("download_button"):
                continue
            n += 1
            data = next((one.value for one in call.keywords if one.arg == "data"), None) or call.args[1]
            choices = [data.body, data.orelse] if isinstance(data, ast.IfExp) else [data]
            asked = [isinstance(one, ast.Call) and ast.unparse(one.func) in ASKED_FOR_DOWNLOADS for one in choices]
            if not all(asked):
                silent.add(path)
    assert silent == set(BYTES) and n >= 6


def test_what_a_box_offers_is_not_escaped_as_markdown() -> None:
    """`plain` is for Markdown; the options of these show its backslashes."""
    escaped = []
    for path, tree in trees():
        for call in (node for node in ast.walk(tree) if isinstance(node, ast.Call)):
            if isinstance(call.func, ast.Attribute) and call.func.attr in ("selectbox", "multiselect"):
                shown = [one.value for one in call.keywords if one.arg == "format_func"]
                escaped += [f"{path}:{call.lineno}" for one in shown if "plain(" in ast.unparse(one)]
    assert not escaped, f"use pages.parts.markdown.without_controls: {escaped}"
