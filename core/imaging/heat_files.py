"""Heat maps as PNG files of the image's own size."""

from __future__ import annotations

from pathlib import Path

import numpy as np
from PIL import Image as Raster

from core.imaging.preprocess import heat_map
from core.types import Explanation, Image


def write_heat_maps(image: Image, model_id: str, explanation: Explanation, folder: Path) -> list[Path]:
    """One 8-bit grey PNG a branch for the positive class, (H, W) of the image, 255 at the map's peak.

    Named `<first 8 of the image's sha256>-<model>-<branch>.png`; returns the paths in the order of the branches.
    """
    folder.mkdir(parents=True, exist_ok=True)
    name = image.sha256[:8]
    paths = []
    for branch in explanation.maps:
        heat = heat_map(explanation, branch, explanation.positive_index)
        path = folder / f"{name}-{model_id}-{branch}.png"
        Raster.fromarray(np.round(heat * 255).astype(np.uint8)).save(path)
        paths.append(path)
    return paths
