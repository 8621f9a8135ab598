"""What somebody meets who uses a page without a mouse or without good eyes, as axe-core finds it."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from axe_playwright_python.sync_playwright import Axe

_RULES = ["wcag2a", "wcag2aa", "wcag21a", "wcag21aa"]
"""A name for every control, contrast of 4.5, and what else WCAG 2.1 asks at level AA that a program can see."""
_LOOK = """element => {
  const parts = []
  for (let one = element, up = 0; one && up < 7; up++, one = one.parentElement) {
    const { outline, boxShadow, borderColor, backgroundColor } = getComputedStyle(one)
    parts.push(outline, boxShadow, borderColor, backgroundColor)
  }
  return parts.join("|")
}"""


def violations(page: Any, *, but: Sequence[str] = ()) -> list[str]:
    """Each rule that the page breaks, with where. but: parts of selectors that are Streamlit's own doing."""
    found = Axe().run(page, options={"runOnly": _RULES}).response["violations"]
    lines = []
    for rule in found:
        for node in rule["nodes"]:
            where = " ".join(map(str, node["target"]))
            if not any(part in node["html"] or part in where for part in but):
                lines.append(f"{rule['id']}: {node['html'][:160]} ({where})")
    return lines


def unseen_focus(page: Any, *, steps: int) -> list[str]:
    """What has the focus after each of so many presses of Tab and looks the same without it."""
    lost, before, look = [], None, ""
    for _ in range(steps):
        page.keyboard.press("Tab")
        page.wait_for_timeout(250)  # colours fade in
        if before is not None and before.evaluate("one => one.isConnected") and before.evaluate(_LOOK) == look:
            lost.append(before.evaluate("one => one.outerHTML.slice(0, 160)"))
        at = page.evaluate_handle(
            "() => { let at = document.activeElement; "
            "while (at?.shadowRoot?.activeElement) at = at.shadowRoot.activeElement; return at }"
        ).as_element()
        before = at if at is not None and at.evaluate("one => one !== document.body") else None
        look = before.evaluate(_LOOK) if before is not None else ""
    return lost
