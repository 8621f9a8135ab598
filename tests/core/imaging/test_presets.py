"""Windows at one key: dense tissue is never black, and the file's own windows are what DICOM says."""

from __future__ import annotations

import numpy as np
import pytest
from made_images import mammogram

from core.imaging.dicom.grey_scale import apply_window, invert_monochrome1
from core.imaging.overlay import to_uint8
from core.imaging.presets import AS_IN_FILE, Preset, presets, windows_of_file
from core.types import Image, Modality, Window


def exam(scale: float, veil: float = 0.0) -> tuple[np.ndarray, np.ndarray]:
    """A phantom whose tissue fills `scale` of the range over `veil`, and where its densest quarter lies."""
    phantom = mammogram()
    tissue = phantom > 0.05
    dense = phantom > np.percentile(phantom[tissue], 75)
    return (veil + phantom * scale).astype(np.float32), dense


def chosen(pixels: np.ndarray, name: str) -> Preset:
    return next(preset for preset in presets(pixels) if preset.name == name)


@pytest.mark.parametrize(("scale", "veil"), [(0.3, 0.0), (0.6, 0.0), (1.0, 0.0), (0.5, 0.3)])
def test_dense_tissue_is_bright_and_has_contrast_on_digital_exams_and_on_film(scale: float, veil: float) -> None:
    pixels, dense = exam(scale, veil)
    preset = chosen(pixels, "Dense tissue")
    shown = to_uint8(pixels, preset.center, preset.width)[dense]
    assert np.median(shown) > 90
    assert np.percentile(shown, 5) > 40
    assert (shown == 255).mean() < 0.05
    as_in_file = to_uint8(pixels)[dense]
    assert shown.std() > as_in_file.std()


@pytest.mark.parametrize(("scale", "veil"), [(0.3, 0.0), (1.0, 0.0), (0.5, 0.3)])
def test_all_tissue_uses_the_whole_grey_scale(scale: float, veil: float) -> None:
    pixels, _ = exam(scale, veil)
    preset = chosen(pixels, "All tissue")
    shown = to_uint8(pixels, preset.center, preset.width)
    assert shown.max() == 255 and np.percentile(shown[pixels > veil + 0.05 * scale], 2) < 60


def test_key_one_changes_nothing_and_every_preset_is_usable_on_a_flat_picture() -> None:
    for pixels in (np.zeros((8, 8), np.float32), np.full((8, 8, 3), 0.4, np.float32), exam(1)[0]):
        found = presets(pixels)
        assert found[0] == Preset(AS_IN_FILE, 0.5, 1.0)
        assert len(found) == 5
        assert all(preset.width > 0 and np.isfinite(preset.center) for preset in found)


@pytest.mark.parametrize("photometric", ["MONOCHROME1", "MONOCHROME2"])
@pytest.mark.parametrize("function", ["LINEAR", "LINEAR_EXACT"])
def test_another_window_of_the_file_is_what_dicom_would_have_made_of_the_stored_values(
    photometric: str, function: str
) -> None:
    stored = np.arange(4096, dtype=np.float64).reshape(64, 64)
    windows = (Window(2048, 4096, function, "NORMAL"), Window(1500, 900, function, "HARDER"))

    def shown(window: Window) -> np.ndarray:
        values = apply_window(stored, window)
        return (invert_monochrome1(values) if photometric == "MONOCHROME1" else values).astype(np.float32)

    image = Image(
        shown(windows[0]), "0" * 64, Modality.MAMMOGRAPHY, windows=windows, window_index=0,
        tags={"PhotometricInterpretation": photometric},
    )  # fmt: skip
    [preset] = windows_of_file(image)
    assert preset.name == "HARDER"
    expected = np.round(shown(windows[1]) * 255)
    assert np.abs(to_uint8(image.pixels, preset.center, preset.width) - expected).max() <= 1


@pytest.mark.parametrize(
    "other", [Window(2048, 9000, "LINEAR"), Window(4000, 1000, "LINEAR"), Window(1500, 900, "SIGMOID")]
)
def test_a_window_that_the_kept_picture_cannot_show_right_is_not_offered(other: Window) -> None:
    windows = (Window(2048, 4096, "LINEAR"), other)
    image = Image(np.zeros((4, 4), np.float32), "0" * 64, windows=windows, window_index=0)
    assert windows_of_file(image) == ()
    assert windows_of_file(Image(np.zeros((4, 4), np.float32), "0" * 64, windows=windows)) == ()
