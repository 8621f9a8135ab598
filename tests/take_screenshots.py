"""The pictures of docs/screenshots, taken anew from the demonstration's synthetic studies.

`python tests/take_screenshots.py` starts the demonstration with an empty state folder and the models of `weights/`
(or of SECONDREAD_WEIGHTS_DIR), reads the synthetic ultrasound to its second read as a person does, and writes PNG
files.
"""

from __future__ import annotations

import os
import re
import sys
import tempfile
from pathlib import Path
from typing import Any

from PIL import Image

# Run as a script, this folder comes first, and its folder `core` of tests before the product's.
sys.path = [str(Path(__file__).parent.parent), *sys.path]

from running_app import REPOSITORY, RunningApp, chromium, running_app, sign_in  # noqa: E402

FOLDER = REPOSITORY / "docs" / "screenshots"
PATIENCE_MS = 400_000
"""The first answer imports TensorFlow and builds the graphs."""


def take(page: Any, name: str) -> None:
    """One screenshot of what the window shows, in 256 colours: the repository keeps every version."""
    page.mouse.move(720, 5)
    settled(page)
    target = FOLDER / f"{name}.png"
    page.screenshot(path=target)
    with Image.open(target) as taken:
        taken.convert("RGB").quantize(256, dither=Image.Dither.NONE).save(target, optimize=True)


def settled(page: Any) -> None:
    """Wait until the script has run to its end and what it sent is painted."""
    page.wait_for_timeout(400)
    page.locator('[data-testid="stApp"][data-test-script-state="notRunning"]').wait_for()
    page.wait_for_timeout(800)


def open_study(page: Any, name: str) -> None:
    page.get_by_role("link", name="Worklist").first.click()
    page.get_by_role("button", name=name).click()
    page.locator(".st-key-sr-pictures .grid[data-ready=yes]").wait_for()
    settled(page)


def impress(page: Any, birads: dict[str, str]) -> None:
    for breast, category in birads.items():
        group = page.locator('[data-testid="stButtonGroup"]', has_text=f"{breast}: BI-RADS")
        group.get_by_role("radio", name=category, exact=True).click()
        settled(page)


def show_second_read(page: Any) -> None:
    """From the chosen impression to the models' answers, with the heat map on."""
    page.get_by_role("button", name="Save first impression").click()
    page.get_by_role("button", name="Show second read").click()
    page.get_by_text("Probability of malignancy").first.wait_for()
    page.get_by_text("Show where a model looked").click()
    settled(page)


def take_all(page: Any, app: RunningApp) -> None:
    """Every page of the README, in the order a reader meets them."""
    terminal = app.output.read_text(errors="replace")
    found = re.search(r"demo administrator +password (\S+)", terminal)
    if found is None:
        raise SystemExit(f"The demonstration printed no password:\n{terminal}")
    sign_in(page, app, name="demo administrator", password=found[1])
    page.get_by_role("button", name="New study").wait_for()
    open_study(page, "SYNTHETIC mammogram, four views")
    impress(page, {"Right breast": "1", "Left breast": "4C"})
    take(page, "first_impression")
    open_study(page, "SYNTHETIC ultrasound")
    page.locator('[data-testid="stButtonGroup"]').get_by_role("radio", name="4C", exact=True).click()
    settled(page)
    show_second_read(page)
    take(page, "second_read")
    page.get_by_role("link", name="Models").first.click()
    page.get_by_text("Measured on its test cases").first.wait_for()
    take(page, "models")


def main() -> int:
    """Take them all; 0 when every picture is written."""
    FOLDER.mkdir(parents=True, exist_ok=True)
    weights = os.environ.get("SECONDREAD_WEIGHTS_DIR", str(REPOSITORY / "weights"))
    with (
        tempfile.TemporaryDirectory() as folder,
        running_app(Path(folder) / "state", demo=1, weights_dir=weights) as app,
        chromium() as browser,
    ):
        page = browser.new_page(viewport={"width": 1440, "height": 900})
        page.set_default_timeout(PATIENCE_MS)
        take_all(page, app)
    return 0


if __name__ == "__main__":
    sys.exit(main())
