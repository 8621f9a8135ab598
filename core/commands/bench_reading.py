"""What a read costs beside decoding and a plain forward pass, and what images together save. Read the ratios."""

from __future__ import annotations

import tempfile
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
from PIL import Image as Raster

from core.demo.phantoms import mammogram_exam, ultrasound_image
from core.imaging.decode_process import decode
from core.imaging.decoded import Limits
from core.imaging.intake import read_study
from core.models.cards import Card, read_card
from core.models.loaded import load_model
from core.models.prepared import prepared
from core.settings import Settings
from core.timing import interleaved
from core.types import Image, Modality

READS = {
    "an ultrasound image": (Modality.ULTRASOUND, "ultrasound-fusion"),
    "an exam of four 16-bit mammograms": (Modality.MAMMOGRAPHY, "mammography-efficientnet_lite0-rsna"),
}
"""What is read -> its kind and the model."""
TOGETHER = {"ultrasound-cnn": 1.5, "ultrasound-efficientnet_lite0": 1.5, "ultrasound-fusion": 1.15}
"""Model -> how many times as many images a second it should read when eight go together."""
N_TOGETHER = 8
READ_AIM = 1.25


Forward = Callable[[np.ndarray], object]


def run(rounds: int, plain_forward: Callable[[Card], Forward]) -> list[str]:
    """Lines for the terminal. plain_forward: makes a card's forward pass as anybody would write it."""
    settings = Settings()
    lines = [f"A read: decoding, checks, prediction, maps; median of {rounds} interleaved rounds:"]
    with tempfile.TemporaryDirectory() as folder:
        for what, (modality, model_id) in READS.items():
            paths = _files(Path(folder), modality)
            card = read_card(settings.weights_dir / model_id)
            lines += _read_lines(what, paths, modality, card, plain_forward(card), settings, rounds)
    lines += ["", f"{N_TOGETHER} images one by one and together, prediction and maps, median of {rounds} rounds:"]
    for model_id, aim in TOGETHER.items():
        lines.append(_together_line(read_card(settings.weights_dir / model_id), aim, rounds))
    return lines


def _read_lines(
    what: str, paths: Sequence[Path], modality: Modality, card: Card, forward: Forward, settings: Settings, rounds: int
) -> list[str]:
    model = load_model(card)
    limits = Limits.of(settings)

    def plain() -> None:
        with ThreadPoolExecutor(2) as pool:  # as many decoders as the product has
            found = list(pool.map(lambda path: decode(path, "PNG", limits=limits, frame=0, window=None), paths))
        squares = [prepared(card, Image(one.pixels, "", modality)).inputs[0] for one in found]
        for square in squares:
            forward(square[None])

    def whole() -> None:
        for intake in read_study(paths, settings=settings, modality=modality):
            assert intake.image is not None, intake.refused
            model.read(intake.image)

    seconds = interleaved({"plain": plain, "whole": whole}, rounds)
    ratio = seconds["whole"] / seconds["plain"]
    return [
        f"  {what + ', decoder and forward pass':<60}{1000 * seconds['plain']:8.0f} ms   x  1.00",
        f"  {what + ', a second read':<60}{1000 * seconds['whole']:8.0f} ms   x {ratio:5.2f}   {_aim(ratio, READ_AIM)}",
    ]


def _together_line(card: Card, aim: float, rounds: int) -> str:
    model = load_model(card)
    image = ultrasound_image()
    batch = [
        prepared(card, Image(np.roll(image.pixels, 8 * number, axis=1), image.sha256, image.modality))
        for number in range(N_TOGETHER)
    ]
    ways: dict[str, Callable[[], object]] = {
        "one by one": lambda: [model.read_prepared([one]) for one in batch],
        "together": lambda: model.read_prepared(batch),
    }
    seconds = interleaved(ways, rounds)
    ratio = seconds["one by one"] / seconds["together"]
    one, many = (N_TOGETHER / seconds[name] for name in ways)
    met = "met" if ratio >= aim else "missed"
    return f"  {card.model_id:<36}{one:7.1f} and {many:7.1f} images a second   x {ratio:5.2f}   aim {aim:g} x: {met}"


def _files(folder: Path, modality: Modality) -> list[Path]:
    """Pictures made in code: 8 bits for ultrasound, four of a detector's size with 16 bits for mammography."""
    if modality is Modality.ULTRASOUND:
        stored = [(ultrasound_image().pixels * 255).astype(np.uint8)]
    else:
        large = [np.repeat(np.repeat(one.pixels, 3, axis=0), 3, axis=1) for one in mammogram_exam()]
        stored = [(one * 65535).astype(np.uint16) for one in large]
    paths = [folder / f"{modality.value}-{number}.png" for number in range(len(stored))]
    for path, pixels in zip(paths, stored, strict=True):
        Raster.fromarray(pixels).save(path)
    return paths


def _aim(value: float, most: float) -> str:
    return f"aim {most:g} x: {'met' if value <= most else 'missed'}"
