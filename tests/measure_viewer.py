"""The viewer's speed and memory in headless Chromium, written into docs/reading.md.

`python tests/measure_viewer.py [--write] [PICTURE ...]` shows four views at 1440 x 900, made mammograms of 14
megapixels or the given files, through a server of this process, and measures the first picture at 100 Mbit/s, frames a
second while the window is dragged, and what the tab holds. Beside it stands what WebGL by software does, which
the viewer leaves alone.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import re
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
from viewer_page import NO_NAME  # noqa: E402

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
BEGIN, END = "<!-- measured -->", "<!-- end of measured -->"
CELL = "calc((100vh - 130px) / 2)"
_DRAW = """async (sent) => {
  const { default: draw } = await import("/viewer.js")
  const parentElement = document.getElementById("root"), data = JSON.parse(sent)
  window.leave = draw({ data, parentElement, setStateValue: () => {} })
}"""
_DRAG = """async (seconds) => {
  const canvas = document.querySelector(".cell canvas"), box = canvas.getBoundingClientRect()
  const frame = () => new Promise((done) => frames(done)), drawn = []
  const frames = window.requestAnimationFrame.bind(window)
  window.requestAnimationFrame = (draw) => frames((now) => {
    const begun = performance.now()
    draw(now)
    drawn.push(performance.now() - begun)
  })
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
  window.requestAnimationFrame = frames
  return [times, drawn]
}"""


class Files(BaseHTTPRequestHandler):
    """What the tab asks for; the page itself is nothing but a place for the viewer."""

    files: dict[str, bytes] = {}
    protocol_version = "HTTP/1.1"

    def do_GET(self) -> None:
        name = self.path.lstrip("/")
        content = self.files.get(name)
        kind = {"": "text/html", "shader": "text/html", "viewer.js": "text/javascript"}.get(
            name, "application/octet-stream"
        )
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


def measured(tab: Any, url: str, data: dict[str, Any]) -> dict[str, float]:
    """Seconds, bytes, frames a second, milliseconds to draw one, and MiB."""
    session = tab.context.new_cdp_session(tab)
    tab.goto(url)
    tab.evaluate("import('/viewer.js')")
    session.send("Network.enable")
    speed = MEGABIT * 1_000_000 / 8
    limits = {"offline": False, "latency": 0, "downloadThroughput": speed, "uploadThroughput": speed}
    session.send("Network.emulateNetworkConditions", limits)
    levels = [picture["levels"] for picture in data["pictures"]]
    found = {
        "first_bytes": sum(len(Files.files[of_one[0]["url"]]) for of_one in levels),
        "whole_bytes": sum(len(Files.files[level["url"]]) for of_one in levels for level in of_one),
    }
    begun = time.perf_counter()
    tab.evaluate(_DRAW, json.dumps(data))
    tab.locator(".grid[data-ready=yes]").wait_for()
    found["first"] = time.perf_counter() - begun
    tab.locator(".grid[data-whole=yes]").wait_for(timeout=180_000)
    found["whole"] = time.perf_counter() - begun
    box = tab.locator(".cell canvas").first.bounding_box()
    tab.mouse.move(box["x"] + 200, box["y"] + 200)
    tab.mouse.down()
    times, drawn = tab.evaluate(_DRAG, DRAG_SECONDS)
    found["draw"] = sorted(drawn)[len(drawn) // 10]
    tab.mouse.up()
    session.send("HeapProfiler.collectGarbage")
    heap = session.send("Runtime.getHeapUsage")
    found["frames"] = 1000 * len(times) / sum(times)
    found["heap"] = (heap["usedSize"] + heap.get("backingStorageSize", 0)) / 2**20
    return found


def table_of(found: dict[str, float], shader: dict[str, float], browser: Any) -> str:
    """What stands in the document between the markers. shader: the same by WebGL, on the same machine in turn."""
    first, whole = (found[f"{name}_bytes"] * 8 / (MEGABIT * 1_000_000) for name in ("first", "whole"))
    rows = [
        f"| first picture of four views of {LARGE[0] * LARGE[1] / 1e6:.0f} megapixels at {MEGABIT} Mbit/s "
        f"(its bytes need {first:.2f} s, half as much again is {1.5 * first:.2f} s; those of the whole exam need "
        f"{whole:.2f} s, half as much again is {1.5 * whole:.2f} s) "
        f"| {found['first']:.2f} s | {shader['first']:.2f} s |",
        f"| all pixels of it | {found['whole']:.2f} s | {shader['whole']:.2f} s |",
        "| window dragged over four views: to draw them, fastest tenth "
        f"| {found['draw']:.1f} ms | {shader['draw']:.1f} ms |",
        f"| frames a second while other work has the processors | {found['frames']:.0f} | {shader['frames']:.0f} |",
        f"| JavaScript heap and pixels | {found['heap']:.0f} MiB | {shader['heap']:.0f} MiB |",
    ]
    machine = (
        f"Measured on {os.cpu_count()} cores ({platform.machine()}) under a load of {os.getloadavg()[0]:.0f}, Chromium "
        f"{browser.version} headless at 1440 x 900, without a graphics card:"
    )
    return "\n".join([machine, "", "| | drawn so | by WebGL without a card |", "|---|---|---|", *rows])


def main(arguments: Sequence[str] | None = None) -> int:
    """Measure, and write the table where it is asked for; 0."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("pictures", nargs="*", type=Path)
    parser.add_argument("--write", action="store_true", help=f"into {DOCUMENT.name}")
    wanted = parser.parse_args(arguments)
    data = workplace_of(exam(wanted.pictures))
    css = (viewer._HERE / "viewer.css").read_text(encoding="utf-8")
    style = f"<style>body{{margin:0;background:#121416}}{css}</style>"
    place = "<div id=root><div class=viewer></div></div>"
    Files.files |= {
        "": f"<!doctype html>{style}{place}".encode(),
        "shader": f"<!doctype html>{style}<script>{NO_NAME}</script>{place}".encode(),
        "viewer.js": viewer.javascript().encode(),
    }
    server = ThreadingHTTPServer(("127.0.0.1", 0), Files)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    with chromium() as browser:
        found = []
        for name in ("", "shader"):
            tab = browser.new_page(viewport={"width": 1440, "height": 900})
            found.append(measured(tab, f"http://127.0.0.1:{server.server_address[1]}/{name}", data))
            tab.close()
        table = table_of(found[0], found[1], browser)
    server.shutdown()
    sys.stdout.write(f"{table}\n")
    if wanted.write:
        text = DOCUMENT.read_text(encoding="utf-8")
        made = re.sub(f"{BEGIN}.*{END}", lambda _: f"{BEGIN}\n{table}\n{END}", text, flags=re.DOTALL)
        DOCUMENT.write_text(made, encoding="utf-8")
    return 0


if __name__ == "__main__":
    sys.exit(main())
