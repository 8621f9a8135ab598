"""Side and view that a file's name suggests, for pictures whose content cannot say: only ever a suggestion."""

from __future__ import annotations

import re

_HINT = re.compile(r"(?<![A-Za-z])(left|right|l|r)?[ _.\-]?(cc|mlo)?(?![A-Za-z])", re.IGNORECASE)


def hinted(name: str) -> tuple[str | None, str | None]:
    """(laterality, view) from the last part of a name like "exam/L_CC.png", "RMLO.dcm" or "left-mlo 2.png".

    Nothing is suggested where a name says two different sides or views.
    """
    stem = name.replace("\\", "/").rsplit("/", 1)[-1].rsplit(".", 1)[0]
    sides, views = set(), set()
    for side, view in _HINT.findall(stem):
        if side:
            sides.add(side[0].upper())
        if view:
            views.add(view.upper())
    return (sides.pop() if len(sides) == 1 else None), (views.pop() if len(views) == 1 else None)
