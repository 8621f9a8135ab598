"""The viewer alone in a real browser: what Python sends it, without a server and without Streamlit around it."""

from __future__ import annotations

import base64
import io
import json
from typing import TYPE_CHECKING, Any

import numpy as np
from PIL import Image

if TYPE_CHECKING:
    from pages.parts.viewer import Picture

ORIGIN = "http://viewer.test"
_NO_WEBGL = """HTMLCanvasElement.prototype.getContext = (get => function (kind, options) {
  return kind === "webgl2" ? null : get.call(this, kind, options) })(HTMLCanvasElement.prototype.getContext)"""


NO_NAME = """WebGL2RenderingContext.prototype.getExtension = (get => function (name) {
  return name === "WEBGL_debug_renderer_info" ? null : get.call(this, name)
})(WebGL2RenderingContext.prototype.getExtension)"""
"""The tests' browsers have no graphics card; one that does not say so is drawn in by the shader."""


class ViewerPage:
    """A tab with one workplace. `draw` is a run of the page; a second one brings new data to the same place."""

    def __init__(self, tab: Any, *, has_webgl: bool = True) -> None:
        from pages.parts import viewer

        self.viewer = viewer
        self.tab = tab
        self.files: dict[str, bytes] = {}
        self.failures: list[str] = []
        self.fetched: list[str] = []
        self.sent: list[tuple[str, Any]] = []
        tab.expose_function("sendState", lambda name, value: self.sent.append((name, value)))
        tab.on("pageerror", lambda error: self.failures.append(str(error)))
        css = (viewer._HERE / "viewer.css").read_text(encoding="utf-8")
        script = f"<script>{NO_NAME if has_webgl else _NO_WEBGL}</script>"
        self.html = (
            f"<!doctype html><style>body{{margin:0}}{css}</style>{script}<div id=root><div class=viewer></div></div>"
        )
        tab.route(f"{ORIGIN}/**", self._answer)
        tab.goto(f"{ORIGIN}/")

    def _answer(self, route: Any) -> None:
        name = route.request.url.removeprefix(f"{ORIGIN}/")
        if not name:
            route.fulfill(body=self.html, content_type="text/html")
        elif name == "viewer.js":
            route.fulfill(body=self.viewer.javascript(), content_type="text/javascript")
        elif name in self.files:
            self.fetched.append(name)
            route.fulfill(body=self.files[name], content_type="application/octet-stream")
        else:
            route.fulfill(status=404)

    def address(self, content: bytes, coordinates: str) -> str:
        self.files[coordinates] = content
        return coordinates

    def draw(self, pictures: list[Picture], stages: Any, *, key: str = "study", **options: Any) -> None:
        data = self.viewer.workplace(pictures, stages, key=key, address=self.address, **options)
        self.tab.evaluate(
            """async (sent) => {
              const { default: draw } = await import("/viewer.js")
              const parentElement = document.getElementById("root")
              window.leave = draw({ data: JSON.parse(sent), parentElement, setStateValue: window.sendState })
            }""",
            json.dumps(data),
        )
        self.tab.locator(".grid[data-whole=yes]").first.wait_for()
        self.painted()

    def shown(self, index: int = 0, of: str = ".cell canvas") -> np.ndarray:
        """uint8 (H, W, 3) of one canvas, once it has been painted and stays as it is."""
        canvas, sent, before = self.tab.locator(of).nth(index), "", None
        while sent != before:
            before = sent
            self.painted()
            sent = canvas.evaluate("canvas => canvas.toDataURL('image/png')")
        with Image.open(io.BytesIO(base64.b64decode(sent.partition(",")[2]))) as png:
            return np.asarray(png.convert("RGB"))

    def painted(self) -> None:
        """Wait until what was asked for is on the screen, however slow the machine is."""
        self.tab.wait_for_timeout(120)
        self.tab.evaluate("() => new Promise(done => requestAnimationFrame(() => requestAnimationFrame(done)))")

    def size(self, index: int = 0) -> tuple[int, int]:
        box = self.tab.locator(".cell canvas").nth(index).bounding_box()
        return int(box["width"]), int(box["height"])

    def key(self, key: str) -> None:
        self.tab.keyboard.press(key)
        self.painted()
