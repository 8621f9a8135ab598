"""The outline of a lesion as a file beside a picture: black and white, grey, or a label image."""

from __future__ import annotations

import numpy as np
from PIL import Image as Raster

_HALF = 127


def lesion_grey(raster: Raster.Image) -> Raster.Image:
    """A mask as grey of 8 bits: above 127 is lesion, whatever programs write for it.

    Grey levels stay as they are, so that a smoothed edge is cut at one half. A label image, which counts lesions from 1
    on a ground of 0, is 255 wherever it is not 0: a palette with colours, or values of which none is above 127. Raises
    what Pillow does of a damaged file.
    """
    grey = np.asarray(raster.convert("L"))
    is_seen = grey.size > 0 and int(grey.max()) > _HALF
    if raster.mode == "P" and not (is_seen and _is_grey(raster)):
        grey, is_seen = np.asarray(raster), False  # what the colours are says nothing, and all may be black
    if not is_seen:
        grey = np.where(grey > 0, 255, 0).astype(np.uint8)
    return Raster.fromarray(grey)


def _is_grey(raster: Raster.Image) -> bool:
    colours = np.asarray(raster.convert("RGB"))
    return bool((colours == colours[..., :1]).all())
