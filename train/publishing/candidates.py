"""Are the places where mammography models look worth showing? FROC on drawn lesions, beside places without a model.

A model is measured only on collections that it learnt nothing from, by the source that its card names. Its candidates
are the peaks of its heat map as the product takes them (`core.findings.proposals`), rated by the image's probability
times the peak's height: a high peak of an image that the model does not call is no strong candidate.
"""

from __future__ import annotations

import logging
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from PIL import Image as Raster
from PIL import ImageDraw
from scipy.spatial import ConvexHull, QhullError

from core.errors import InvalidInput
from core.evaluation.statistics.free_response import RATES, FreeResponse, froc, jafroc
from core.evaluation.statistics.intervals import Bootstrap
from core.findings.proposals import peak_distance, peaks_of
from core.imaging.decoded import Limits
from core.imaging.masks import lesion_grey
from core.imaging.picture import read_picture
from core.imaging.preprocess import bright_region, heat_map
from core.models.cards import Card
from core.reading.second_read import read_image
from core.settings import Settings
from core.types import VIEWS, Estimate, Image, Modality
from train.datasets.cases import patient_keys
from train.datasets.manifest import Manifest
from train.publishing.results import as_text, table

log = logging.getLogger(__name__)

CENTRE, RANDOM = "the middle outwards", "places at random"
REPEATS = 20
CANDIDATES_MOST = 8
LEAST_LESIONS = 10
"""Of fewer lesions no table is made."""
_LEVEL = 0.01
_NORMAL = ("normal", "no finding", "no_finding_in_benign_case")
_CIRCLES, _CIRCLES_SIDE = "lesions_class_sev_x_ytop_r", 1024
RULES = {"inside": "inside the outline", "near": "near its centre"}
_NEAR = 0.04


@dataclass(frozen=True, slots=True)
class Lesion:
    """One drawn lesion. outline: bool (H, W) of the picture. centre: (row, column) of its middle. reach: how far from
    there a mark counts as near; both in pixels."""

    outline: np.ndarray
    is_malignant: bool
    centre: tuple[float, float]
    reach: float


def lesion_in(outline: np.ndarray, *, is_malignant: bool) -> Lesion:
    """The lesion with this outline, bool (H, W), not empty.

    Its reach is the rule of the DBTex challenge (Konz et al. 2023, JAMA Netw Open 6:e230524): half the diagonal of its
    box, or 100 pixels of a tomosynthesis (8.5 mm) where that is more: here a twenty-fifth of the picture's longer side,
    8 mm of a film of mini-MIAS.
    """
    rows, columns = np.nonzero(outline)
    diagonal = float(np.hypot(np.ptp(rows) + 1, np.ptp(columns) + 1))
    centre = float(rows.mean()), float(columns.mean())
    return Lesion(outline, is_malignant, centre, max(diagonal / 2, _NEAR * max(outline.shape)))


@dataclass(frozen=True, slots=True)
class Measured:
    """images: a row a picture (case, patient, source, is_normal). lesions: a row a lesion (image, is_malignant).
    marks: a row a candidate (scorer, image, row, column, rating, and for each of `RULES` the lesion it hits, or -1).
    left_out: pictures with a lesion that nobody drew.
    """

    images: pd.DataFrame
    lesions: pd.DataFrame
    marks: pd.DataFrame
    left_out: int


def measure_marks(manifest: Manifest, cards: Sequence[Card], seed: int = 0) -> Measured:
    """The candidates of every model and of every place without a model on the manifest's pictures."""
    cases = manifest.cases.assign(patient_key=patient_keys(manifest.cases))
    if "source" not in cases or (cases["source"] == "").any():
        raise InvalidInput(
            "The manifest needs a source for each case: it says which models learnt from its collection."
        )
    limits, rng = Limits.of(Settings()), np.random.default_rng(seed)
    images: list[dict[str, object]] = []
    lesions: list[dict[str, object]] = []
    marks: list[dict[str, object]] = []
    left_out = 0
    for row in cases.to_dict("records"):
        image = read_picture((manifest.root / row["file"]).read_bytes(), Modality.MAMMOGRAPHY, limits=limits)
        image = replace(image, view=row.get("view") if row.get("view") in VIEWS else None)
        drawn = lesions_of(row, manifest.root, image.pixels.shape)
        if drawn is None:
            left_out += row["label"] not in _NORMAL
            continue
        number = len(images)
        own = {"case": row["file"], "patient": row["patient_key"], "source": row["source"], "is_normal": not drawn}
        for mark in _marks_on(image, [card for card in cards if not has_seen(card, row["source"])], rng):
            hits = {rule: hit_lesion(mark["row"], mark["column"], drawn, rule) for rule in RULES}
            numbered = {rule: len(lesions) + hit if hit >= 0 else -1 for rule, hit in hits.items()}
            marks.append({"image": number, **mark, **numbered})
        lesions += [{"image": number, "is_malignant": one.is_malignant} for one in drawn]
        images.append(own)
        if number % 20 == 19:
            log.info("%d pictures measured", number + 1)
    return Measured(pd.DataFrame(images), pd.DataFrame(lesions), pd.DataFrame(marks), left_out)


def has_seen(card: Card, source: str) -> bool:
    """Whether the card names this collection among those that the model learnt from."""
    return not card.data.name or source in card.data.name.split(", ")


def lesions_of(row: Mapping[str, str], root: Path, shape: tuple[int, ...]) -> list[Lesion] | None:
    """The lesions of a row of a manifest, drawn as outlines or circles; [] of a normal picture, None where nobody
    drew them or not all of them.

    Files of outlines (`mask`) are relative to root, one a lesion. Circles as in `_CIRCLES`: class, severity, column,
    row, radius in a picture of 1,024 pixels a side.
    """
    if row.get("mask"):
        found = []
        for name in row["mask"].split("|"):
            with Raster.open(root / name) as raster:
                outline = filled(np.asarray(lesion_grey(raster)) > 127)
            scaled = Raster.fromarray(outline).resize((shape[1], shape[0]), Raster.Resampling.NEAREST)
            if not np.asarray(scaled).any():
                return None
            found.append(lesion_in(np.asarray(scaled), is_malignant=row["label"] == "malignant"))
        return found
    if not row.get(_CIRCLES):
        return [] if row["label"] in _NORMAL else None
    circles = [one.split(":") for one in row[_CIRCLES].split("|")]
    if not all(len(one) == 5 and all(part.isdigit() for part in one[2:]) for one in circles):
        return None
    rows, columns = np.ogrid[: shape[0], : shape[1]]
    scale = max(shape) / _CIRCLES_SIDE
    found = []
    for _, severity, x, y, radius in circles:
        squared = (rows + 0.5 - int(y) * scale) ** 2 + (columns + 0.5 - int(x) * scale) ** 2
        outline = squared <= max(1.0, int(radius) * scale) ** 2
        if not outline.any():
            return None
        found.append(lesion_in(outline, is_malignant=severity == "M"))
    return found


def filled(drawn: np.ndarray) -> np.ndarray:
    """bool (H, W): what a drawn outline encloses. An area stays as it is; a line, which may have gaps (mini-DDSM draws
    such), is one where less than half of its convex hull is drawn, and the hull counts."""
    rows, columns = np.nonzero(drawn)
    if len(rows) < 3 or not np.ptp(rows) or not np.ptp(columns):
        return drawn
    corners = np.column_stack([columns, rows])
    try:
        hull = corners[ConvexHull(corners).vertices]
    except QhullError:  # all on one slanted line
        return drawn
    whole = Raster.new("1", (drawn.shape[1], drawn.shape[0]))
    ImageDraw.Draw(whole).polygon([tuple(corner) for corner in hull.tolist()], fill=1, outline=1)
    enclosed = np.asarray(whole)
    return drawn if drawn.sum() >= enclosed.sum() / 2 else enclosed


def hit_lesion(row: float, column: float, lesions: Sequence[Lesion], rule: str) -> int:
    """The number of the lesion that a mark there hits by one of `RULES`, of several the one with the nearer centre; -1
    where it hits none."""
    best, nearest = -1, np.inf
    for number, one in enumerate(lesions):
        away = float(np.hypot(one.centre[0] - row, one.centre[1] - column))
        is_hit = one.outline[int(row), int(column)] if rule == "inside" else away < one.reach
        if is_hit and away < nearest:
            best, nearest = number, away
    return best


def _marks_on(image: Image, cards: Sequence[Card], rng: np.random.Generator) -> Iterator[dict[str, Any]]:
    region = breast_of(image)
    for card in cards:
        prediction, explanation = read_image(card, image)
        for peak in peaks_of(heat_map(explanation, "fused", explanation.positive_index), _LEVEL, CANDIDATES_MOST):
            # Letters and the film's edges draw attention; nobody would be shown a place in the air.
            if region[int(peak.row), int(peak.column)]:
                rating = prediction.malignant * peak.strength
                yield {"scorer": card.model_id, "row": peak.row, "column": peak.column, "rating": rating}
    for place, (row, column) in enumerate(central_places(region)[:CANDIDATES_MOST]):
        yield {"scorer": CENTRE, "row": row, "column": column, "rating": -float(place)}
    rows, columns = np.nonzero(region)
    for repeat in range(REPEATS):
        for one in rng.integers(0, len(rows), CANDIDATES_MOST):
            scorer = f"{RANDOM} {repeat}"
            yield {"scorer": scorer, "row": int(rows[one]), "column": int(columns[one]), "rating": rng.random()}


def breast_of(image: Image) -> np.ndarray:
    """bool (H, W): the breast in the picture's own pixels; all of the picture where none is found."""
    region = bright_region(image.pixels, image.aspect)
    if region is None:
        return np.ones(image.pixels.shape, bool)
    small = Raster.fromarray(region.astype(np.uint8) * 255)
    return np.asarray(small.resize((image.width, image.height), Raster.Resampling.NEAREST)) > 127


def central_places(region: np.ndarray) -> list[tuple[float, float]]:
    """(row, column) of places in a breast (H, W) bool that no model chose: its middle, then those of a hexagonal grid
    around it, the nearer first, as far apart as peaks of a map are at least."""
    rows, columns = np.nonzero(region)
    middle, apart = (float(rows.mean()), float(columns.mean())), peak_distance(region.shape)
    n = 2 * max(region.shape) // apart + 2
    grid = [(row * apart * np.sqrt(3) / 2, (column + row % 2 / 2) * apart)
            for row in range(-n, n + 1) for column in range(-n, n + 1)]  # fmt: skip
    found = []
    for down, across in sorted(grid, key=lambda one: (round(float(np.hypot(*one)), 6), one)):
        row, column = middle[0] + down, middle[1] + across
        is_middle = down == across == 0
        inside = 0 <= row < region.shape[0] and 0 <= column < region.shape[1] and region[int(row), int(column)]
        if is_middle or inside:
            found.append((row, column))
    return found


def responses(
    measured: Measured, source: str, rule: str
) -> tuple[dict[str, list[FreeResponse]], Bootstrap, np.ndarray]:
    """Scorer -> its marks on one collection (the random one's repetitions together), the draws over its pictures, and
    which of those are normal."""
    images = measured.images[measured.images["source"] == source]
    place = pd.Series(np.arange(len(images)), index=images.index)
    lesions = measured.lesions[measured.lesions["image"].isin(place.index)]
    marks = measured.marks[measured.marks["image"].isin(place.index)]
    found: dict[str, list[FreeResponse]] = {}
    for scorer, own in marks.groupby("scorer", sort=False):
        on_lesions, others = own[own[rule] >= 0], own[own[rule] < 0]
        best = on_lesions.groupby(rule)["rating"].max().reindex(lesions.index, fill_value=-np.inf)
        one = FreeResponse(
            best.to_numpy(np.float64), place[lesions["image"]].to_numpy(),
            others["rating"].to_numpy(np.float64), place[others["image"]].to_numpy(),
        )  # fmt: skip
        name = RANDOM if str(scorer).startswith(RANDOM) else str(scorer)
        found.setdefault(name, []).append(one)
    return found, Bootstrap(images["patient"].to_numpy(), len(images)), images["is_normal"].to_numpy()


def candidates_page(measured: Measured) -> list[str]:
    """The measured part of docs/findings.md, lines of Markdown."""
    lines = [f"Left out: {measured.left_out} pictures with a lesion of which nobody drew the place.", ""]
    for source in sorted(measured.images["source"].unique()):
        images = measured.images[measured.images["source"] == source]
        lesions = measured.lesions[measured.lesions["image"].isin(images.index)]
        if len(lesions) < LEAST_LESIONS:
            continue
        malignant = lesions["is_malignant"].to_numpy()
        lines += [
            f"### {source}",
            "",
            f"{len(lesions)} lesions, {int(malignant.sum())} of them malignant, on {len(images)} pictures of "
            f"{images['patient'].nunique()} women; {int(images['is_normal'].sum())} of these pictures are without a "
            "lesion.",
            "",
        ]
        for of, chosen in (("Every lesion", np.ones(len(lesions), bool)), ("Malignant lesions", malignant)):
            if chosen.sum() < LEAST_LESIONS:
                lines += [f"{of}: {int(chosen.sum())}, too few for a table.", ""]
                continue
            for rule, text in RULES.items():
                lines += [f"{of}, a hit lies {text}:", "", *_table(measured, source, rule, chosen), ""]
    return lines[:-1]


def _table(measured: Measured, source: str, rule: str, chosen: np.ndarray) -> list[str]:
    scorers, bootstrap, normal = responses(measured, source, rule)
    only = {name: [one.only(chosen) for one in marks] for name, marks in scorers.items()}
    curves = {name: froc(marks, bootstrap) for name, marks in only.items()}
    without_model = [name for name in (CENTRE, RANDOM) if name in curves]
    rows, better = [], []
    for name in [*sorted(set(curves) - {CENTRE, RANDOM}), *without_model]:
        is_model = name not in without_model
        above = [curves[name].above(curves[other]) for other in without_model] if is_model else []
        if above and all(one.low > 0 for one in above):
            better.append(f"`{name}`")
        merit = as_text(jafroc(only[name][0], normal, bootstrap)) if is_model and normal.any() else ""
        differences = [signed_text(one) for one in above] or [""] * len(without_model)
        sensitivities = map(as_text, (*curves[name].at_rates, curves[name].mean))
        rows.append([f"`{name}`" if is_model else name, *sensitivities, *differences, merit])
    head = ["candidates of", *(f"{rate:g}" for rate in RATES), "mean", *(f"less {name}" for name in without_model)]
    verdict = f"Better than either kind of place without a model: {', '.join(better) or 'none'}."
    return [*table([*head, "JAFROC"], rows), "", verdict]


def signed_text(difference: Estimate) -> str:
    """ "+.030 (-.010 to +.070)"."""
    numbers = (difference.value, difference.low, difference.high)
    value, low, high = (f"{number:+.3f}".replace("0.", ".") for number in numbers)
    return f"{value} ({low} to {high})"
