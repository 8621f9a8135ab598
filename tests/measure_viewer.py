"""The viewer's speed and memory in headless Chromium, written into docs/reading.md.

`python tests/measure_viewer.py [--write] [PICTURE ...]` shows four views at 1440 x 900, made mammograms of 14 megapixels
or the given files, through a server of this process, and measures the first picture at 100 Mbit/s, frames a second while
the window is dragged, and what the tab holds.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import re
import statistics
import sys
import threading
import time
from collections.abc import Sequence
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import numpy as np

# Run as a script, this folder comes first, and its folder `core` of tests before the product's.
sys.path = [str(Path(__file__).parent.parent), *sys.path]

from made_images import mammogram  # noqa: E402
from running_app import REPOSITORY, chromium  # noqa: E402

from core.imaging.hanging import hang, label_of, stages  # noqa: E402
from core.imaging.intake import read_upload  # noqa: E402
from core.settings import Settings  # noqa: E402
from core.types import Image, Modality  # noqa: E402
from pages.parts import viewer  # noqa: E402

DOCUMENT = REPOSITORY / "docs" / "reading.md"
VIEWS = (("R", "CC"), ("L", "CC"), ("R", "MLO"), ("L", "MLO"))
LARGE = (4096, 3328)
MEGABIT = 100
DRAG_SECONDS = 4
CELL = "calc((100vh - 130px) / 2)"
_DRAG = """async (seconds) => {
  const canvas = document.querySelector(".cell canvas"), box = canvas.getBoundingClientRect()
  const frame = () => new Promise((done) => requestAnimationFrame(done))
  const moved = (x) => canvas.dispatchEvent(new PointerEvent("pointermove",
    { pointerId: 1, clientX: box.left + x, clientY: box.top + 200, bubbles: true }))
  for (let warm = 0; warm < 5; warm++) { moved(200 + warm); await frame() }
  const begun = performance.now(), times = []
  for (let last = begun, turn = 0; last - begun < 1000 * seconds; turn++) {
    moved(200 + 60 * Math.sin(turn / 9))
    await frame()
    const now = performance.now()
    times.push(now - last)
    last = now
  }
  return times
}"""


class Files(BaseHTTPRequestHandler):
    """What the tab asks for; the page itself is nothing but a place for the viewer."""

    files: dict[str, bytes] = {}
    protocol_version = "HTTP/1.1"

    def do_GET(self) -> None:  # noqa: N802
        name = self.path.lstrip("/")
        content = self.files.get(name)
        kind = {"": "text/html", "viewer.js": "text/javascript"}.get(name, "application/octet-stream")
        self.send_response(200 if content is not None else 404)
        self.send_header("Content-Type", kind)
        self.send_header("Content-Length", str(len(content or b"")))
        self.end_headers()
        self.wfile.write(content or b"")

    def log_message(self, *_: object) -> None:
        """The terminal is for the figures."""


def exam(files: Sequence[Path]) -> list[Image]:
    """Four views: of the files in the order R CC, L CC, R MLO, L MLO, else made ones."""
    facts: dict[str, Any] = {
        "modality": Modality.MAMMOGRAPHY,
        "modality_source": "argument",
        "spacing_mm": (0.07, 0.07),
    }
    if files:
        found = [read_upload(path, path.name, settings=Settings(), modality=Modality.MAMMOGRAPHY)[0] for path in files]
        pixels = [one.image.pixels for one in found if one.image is not None]
    else:
        left = np.ascontiguousarray(mammogram(*LARGE))
        pixels = [left[:, ::-1] if side == "R" else left for side, _ in VIEWS]
    return [
        Image(np.ascontiguousarray(one), f"{number:064x}", laterality=side, view=view, **facts)
        for number, ((side, view), one) in enumerate(zip(VIEWS, pixels, strict=True))
    ]


def workplace_of(images: Sequence[Image]) -> dict[str, object]:
    """What the browser is sent, and the files that it then asks for in `Files.files`."""
    layout = hang(images)
    places = {place.index: place for place in layout.places}
    shown = [
        viewer.Picture(image, label_of(images, index), places[index].label, places[index].is_mirrored)
        for index, image in enumerate(images)
    ]

    def address(content: bytes, coordinates: str) -> str:
        Files.files[coordinates] = content
        return coordinates

    return viewer.workplace(
        shown, stages(layout), key="exam", same_scale=True, cell_height=(CELL, CELL), address=address
    )


def measured(browser: Any, url: str, data: dict[str, Any]) -> dict[str, float]:
    tab = browser.new_page(viewport={"width": 1440, "height": 900})
    session = tab.context.new_cdp_session(tab)
    tab.goto(url)
    tab.evaluate("import('/viewer.js')")
    session.send("Network.enable")
    speed = MEGABIT * 1_000_000 / 8
    limits = {"offline": False, "latency": 0, "downloadThroughput": speed, "uploadThroughput": speed}
    session.send("Network.emulateNetworkConditions", limits)
    first_bytes = sum(len(Files.files[picture["levels"][0]["url"]]) for picture in data["pictures"])
    whole_bytes = sum(len(Files.files[level["url"]]) for picture in data["pictures"] for level in picture["levels"])
    begun = time.perf_counter()
    tab.evaluate(
        """async (sent) => {
          const { default: draw } = await import("/viewer.js")
          const parentElement = document.getElementById("root"), data = JSON.parse(sent)
          window.leave = draw({ data, parentElement, setStateValue: () => {} })
        }""",
        json.dumps(data),
    )
    tab.locator(".grid[data-ready=yes]").wait_for()
    first = time.perf_counter() - begun
    tab.locator(".grid[data-whole=yes]").wait_for(timeout=180_000)
    whole = time.perf_counter() - begun
    box = tab.locator(".cell canvas").first.bounding_box()
    tab.mouse.move(box["x"] + 200, box["y"] + 200)
    tab.mouse.down()
    times = tab.evaluate(_DRAG, DRAG_SECONDS)
    tab.mouse.up()
    session.send("HeapProfiler.collectGarbage")
    heap = session.send("Runtime.getHeapUsage")
    textures = tab.evaluate("window.performance.memory?.usedJSHeapSize || 0")
    found = {
        "first": first, "first_bytes": first_bytes, "whole": whole, "whole_bytes": whole_bytes,
        "frames": 1000 * len(times) / sum(times), "slow": statistics.quantiles(times, n=20)[-1],
        "heap": heap["usedSize"] / 2**20, "buffers": heap.get("backingStorageSize", 0) / 2**20,
        "used": textures / 2**20,
    }  # fmt: skip
    found["drawn_by"] = tab.evaluate("document.querySelector('.grid').dataset.drawnBy || ''")
    tab.close()
    return found


def main(arguments: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("pictures", nargs="*", type=Path)
    parser.add_argument("--write", action="store_true", help=f"into {DOCUMENT.name}")
    wanted = parser.parse_args(arguments)
    images = exam(wanted.pictures)
    data = workplace_of(images)
    css = (viewer._HERE / "viewer.css").read_text(encoding="utf-8")
    page = f"<!doctype html><style>body{{margin:0;background:#121416}}{css}</style><div id=root><div class=viewer></div></div>"
    Files.files |= {"": page.encode(), "viewer.js": viewer.javascript().encode()}
    server = ThreadingHTTPServer(("127.0.0.1", 0), Files)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    with chromium() as browser:
        found = measured(browser, f"http://127.0.0.1:{server.server_address[1]}/", data)
    print(json.dumps(found, indent=1))
    print(os.getloadavg())
    return 0


if __name__ == "__main__":
    sys.exit(main())
