"""What somebody meets who uses a page without a mouse or without good eyes, as axe-core finds it."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from axe_playwright_python.sync_playwright import Axe

_RULES = ["wcag2a", "wcag2aa", "wcag21a", "wcag21aa"]
"""A name for every control, contrast of 4.5, and what else WCAG 2.1 asks at level AA that a program can see."""
_NOT_FOCUSED = """element => {
  const shown = (one) => {
    const style = getComputedStyle(one)
    return (style.outlineStyle !== "none" && parseFloat(style.outlineWidth) > 0) || style.boxShadow !== "none"
  }
  let one = element
  for (let up = 0; one && up < 4; up++, one = one.parentElement) if (shown(one)) return true
  return false
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
    """What has the focus after each of so many presses of Tab, and shows nothing of it."""
    lost = []
    for _ in range(steps):
        page.keyboard.press("Tab")
        at = page.evaluate_handle(
            "() => { let at = document.activeElement; "
            "while (at?.shadowRoot?.activeElement) at = at.shadowRoot.activeElement; return at }"
        ).as_element()
        if at is not None and at.evaluate("one => one !== document.body") and not at.evaluate(_NOT_FOCUSED):
            lost.append(at.evaluate("one => one.outerHTML.slice(0, 160)"))
    return lost
