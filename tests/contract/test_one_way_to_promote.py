"""One way leads to a promotion, and it goes through the promotion check."""

from __future__ import annotations

import ast

from core.records.releases import decisions, outline_check, promotion_check
from core.settings import REPOSITORY


def test_only_the_promotion_checks_promote() -> None:
    callers = {
        path.relative_to(REPOSITORY).as_posix()
        for folder in ("core", "pages", "train")
        for path in (REPOSITORY / folder).rglob("*.py")
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8")))
        if isinstance(node, ast.Attribute | ast.Name | ast.alias)
        and "_promote" in (getattr(node, "attr", ""), getattr(node, "id", ""), getattr(node, "name", ""))
    }
    assert callers == {f"{gate.__name__.replace('.', '/')}.py" for gate in (promotion_check, outline_check)}
    acts = [name for name in vars(decisions) if "promote" in name.lower()]
    assert acts == ["PROMOTE", "_promote"]
    assert callable(promotion_check.promote) and callable(outline_check.promote_outline)
