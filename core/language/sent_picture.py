"""What of a picture goes to a language model: the part around one outlined lesion, as grey values and nothing else.

Text that a machine writes into a picture (a name, a date, a hospital) stands outside the calibrated regions of an
ultrasound picture, so the part ends at the border of the region that the outline lies in. Where a file names no region,
or one that is the whole picture, nothing says where text stands. Then a part is sent only if the file states that no
text is burnt in, if the picture was made in code, or once a reader has looked at this very part and found none. What
may be written inside a region (a body mark, a side) is not looked for.

The part is encoded anew, in 8 bits of grey: no tag, no name, no time and no number of the file goes along.
"""

from __future__ import annotations

import hashlib
import io

import numpy as np
from PIL import Image as Raster

from core.errors import PictureNotSent
from core.imaging.preprocess import resize
from core.types import Image

REACH = 0.85
"""Diameters of surroundings on every side: as far as the measured descriptors look (`ultrasound_descriptors`)."""
SIDE_MOST = 1024
SIDE_LEAST = 32
_NO_REGION = (
    "Nothing says where text may be burnt into this picture, so it was not sent. Look at the part that would be sent: "
    "where no text is in it, it can be."
)
_ACROSS_REGIONS = "The outline does not lie within one calibrated region of the picture, so it was not sent."
_TOO_SMALL = "The part around the outline is too small to be described, so it was not sent."


def part_around(image: Image, mask: np.ndarray, *, looked_sha256: str = "", is_synthetic: bool = False) -> bytes:
    """The part around an outline, bool (H, W), as an 8-bit grey PNG with square pixels.

    looked_sha256: of the part in which a reader has found no text. is_synthetic: the picture was made in code. Raises
    PictureNotSent.
    """
    png = shown_part(image, mask)
    is_known = bool(_telling_regions(image)) or image.tags.get("BurnedInAnnotation") == "NO" or is_synthetic
    if not is_known and sha256_of(png) != looked_sha256:
        raise PictureNotSent(_NO_REGION, needs_look=True)
    return png


def sha256_of(png: bytes) -> str:
    """What names a part in the trail."""
    return hashlib.sha256(png).hexdigest()


def shown_part(image: Image, mask: np.ndarray) -> bytes:
    """The same for the eyes of a reader, who may see it anyway. Raises PictureNotSent."""
    row0, row1, column0, column1 = _region_of(image, mask)
    rows, columns = np.flatnonzero(mask.any(1)), np.flatnonzero(mask.any(0))
    diameter = float(np.sqrt(4 * mask.sum() * image.aspect / np.pi))  # in columns
    across, down = int(np.ceil(REACH * diameter)), int(np.ceil(REACH * diameter / image.aspect))
    row0, row1 = max(row0, int(rows[0]) - down), min(row1, int(rows[-1]) + 1 + down)
    column0, column1 = max(column0, int(columns[0]) - across), min(column1, int(columns[-1]) + 1 + across)
    part = image.pixels[row0:row1, column0:column1]
    part = part if part.ndim == 2 else part.mean(axis=2)
    height, width = (row1 - row0) * max(image.aspect, 1.0), (column1 - column0) * max(1 / image.aspect, 1.0)
    scale = min(1.0, SIDE_MOST / max(height, width))
    shape = max(1, round(height * scale)), max(1, round(width * scale))
    if min(shape) < SIDE_LEAST:
        raise PictureNotSent(_TOO_SMALL)
    square = part if shape == part.shape else resize(part, shape)
    grey = np.rint(np.clip(square, 0, 1) * 255).astype(np.uint8)
    content = io.BytesIO()
    Raster.fromarray(grey).save(content, "PNG")
    return content.getvalue()


def _telling_regions(image: Image) -> list[tuple[int, int, int, int]]:
    """The calibrated regions; none of one that is the whole picture, whose text stands inside it then."""
    whole = (0, image.height - 1, 0, image.width - 1)
    return [region for region in image.regions if region != whole]


def _region_of(image: Image, mask: np.ndarray) -> tuple[int, int, int, int]:
    """(row0, row1, column0, column1), half-open, beyond which nothing goes. Raises PictureNotSent."""
    if mask.shape != image.pixels.shape[:2] or not mask.any():
        raise PictureNotSent("The outline belongs to another picture, so nothing was sent.")
    regions = _telling_regions(image)
    if not regions:
        return 0, image.height, 0, image.width
    for top, bottom, left, right in regions:
        inside = mask[top : bottom + 1, left : right + 1]
        if inside.sum() == mask.sum():
            return top, bottom + 1, left, right + 1
    raise PictureNotSent(_ACROSS_REGIONS)
