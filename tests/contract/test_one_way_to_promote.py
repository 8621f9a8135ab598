"""One way leads to a promotion, and it goes through the promotion check."""

from __future__ import annotations

import ast
from collections.abc import Callable
from types import ModuleType

import pytest

from core.records.releases import decisions, outline_check, promotion_check
from core.settings import REPOSITORY


@pytest.mark.parametrize(
    ("act", "gate"), [(decisions._promote, promotion_check), (decisions._promote_outline, outline_check)]
)
def test_only_the_promotion_check_promotes(act: Callable[..., None], gate: ModuleType) -> None:
    callers = {
        path.relative_to(REPOSITORY).as_posix()
        for folder in ("core", "pages", "train")
        for path in (REPOSITORY / folder).rglob("*.py")
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8")))
        if isinstance(node, ast.Attribute | ast.Name | ast.alias)
        and act.__name__ in (getattr(node, "attr", ""), getattr(node, "id", ""), getattr(node, "name", ""))
    }
    assert callers == {f"{gate.__name__.replace('.', '/')}.py"}
    acts = [name for name in vars(decisions) if "promote" in name.lower() and not name.startswith("_")]
    assert acts == ["PROMOTE"] and callable(promotion_check.promote)
