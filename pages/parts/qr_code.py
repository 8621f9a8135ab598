"""A QR code as an SVG picture."""

from __future__ import annotations

from reportlab.graphics import renderSVG
from reportlab.graphics.barcode.qr import QrCodeWidget
from reportlab.graphics.shapes import Drawing, Rect
from reportlab.lib.colors import white


def qr_code(text: str, *, side: float = 240) -> str:
    """Black on white with its quiet zone, so that a telephone reads it off a dark page. side: in points."""
    widget = QrCodeWidget(text, barLevel="M", barWidth=side, barHeight=side)
    ground = Rect(0, 0, side, side, fillColor=white, strokeColor=None)
    text = str(renderSVG.drawToString(Drawing(side, side, ground, widget)))
    return text[text.index("<svg") :]  # without the prologue, by which Streamlit would not know it
