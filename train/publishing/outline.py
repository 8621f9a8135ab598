"""The outline network from manifests to a folder of weights: fitted on all collections, and on each one for the others.

Measured on test patients of its own collections; what a network of one hospital finds in another hospital's pictures is
measured by fitting it on one collection alone.
"""

from __future__ import annotations

import json
import logging
import math
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd
from PIL import Image as Raster
from scipy import ndimage

from core.files import write_whole
from core.findings.outlines import Outline, dice, hausdorff_95, iou, outlines_of
from core.imaging.preprocess import unfit
from core.models.outline_card import FILE, OutlineCardFile, OutlineMeasure
from core.models.weights import load_state, state_of, to_float16, write_shards
from core.types import Modality
from core.version import versions
from train.datasets.cases import Prepared, data_of, patient_keys, split_for_training
from train.datasets.leakage import LEAK, check_leakage
from train.datasets.manifest import Manifest, joined, read_manifest
from train.fitting import pretrained
from train.fitting.outline import OutlineFitted, OutlineViews, fit_outline, outline_probabilities, starting_graph
from train.fitting.squares import Squares, load_squares
from train.publishing.outline_table import summary
from train.publishing.pipeline import feature_cache
from train.recipe.outline import OutlineRequest

if TYPE_CHECKING:
    import keras

log = logging.getLogger(__name__)

FEWEST_OF_A_COLLECTION = 500
"""Outlined training cases without which a collection is too small to say what one hospital teaches of another."""


@dataclass(frozen=True, slots=True)
class OutlineCases:
    """manifest: all collections together. squares: every case; its `cases` have `source`, `split`, `patient_key`."""

    manifest: Manifest
    squares: Squares

    def alone(self) -> tuple[str, ...]:
        """The collections that are large enough to be fitted alone, where there are several."""
        cases = self.squares.cases
        counts = cases[(cases["split"] == "train") & (cases["mask"] != "")]["source"].value_counts()
        found = sorted(name for name, n in counts.items() if n >= FEWEST_OF_A_COLLECTION)
        return tuple(found) if cases["source"].nunique() > 1 else ()


def load_outline_cases(request: OutlineRequest) -> OutlineCases:
    """Pictures with an outline, and normal ones, which have none; split by patient and group."""
    manifest = joined([read_manifest(path, root=request.root, where=request.where)
                       for path in (request.data, *request.also)])  # fmt: skip
    cases = manifest.cases
    for column in ("mask", "source"):
        if column not in cases:
            cases = cases.assign(**{column: ""})
    cases = cases[(cases["mask"] != "") | (cases["label"] == "normal")].reset_index(drop=True)
    cases, _ = split_for_training(cases, request.config.seed)
    cases["patient_key"] = patient_keys(cases)
    classes = tuple(sorted(cases["label"].unique()))
    squares = load_squares(cases, manifest.root, modality=Modality.ULTRASOUND, side=request.config.side,
                           classes=classes, positive=classes[-1])  # fmt: skip
    return OutlineCases(manifest, squares)


def fit_all(request: OutlineRequest, loaded: OutlineCases, folder: Path) -> dict[str, OutlineFitted]:
    """ "" -> fitted on the training cases of all collections; name of a collection -> on its own alone."""
    squares, cases = loaded.squares, loaded.squares.cases
    runs = (*loaded.alone(), "")
    seconds = math.inf if request.budget_minutes is None else 60 * request.budget_minutes / len(runs)
    start = _starter(request)
    _, _, stem = starting_graph(request.config.side, start)
    views = OutlineViews(stem, squares, request.config, feature_cache())
    fitted = {}
    for source in runs:
        within = np.ones(len(cases), bool) if not source else (cases["source"] == source).to_numpy()
        began = time.monotonic()
        fitted[source] = fit_outline(
            request.config,
            squares,
            views,
            np.flatnonzero(within & (cases["split"] == "train").to_numpy()),
            np.flatnonzero(within & (cases["split"] == "validation").to_numpy()),
            start=start,
            folder=folder / (f"alone-{source}" if source else "all"),
            seconds_most=seconds,
        )
        log.info("%s fitted in %.0f s", source or "all collections", time.monotonic() - began)
    return fitted


def _starter(request: OutlineRequest) -> Callable[[keras.Model], str]:
    def start(backbone: keras.Model) -> str:
        return pretrained.start_offline(backbone, "efficientnet_lite0") if request.init == "offline" else "random"

    return start


LEVEL = 0.5
FOUND_IOU = 0.5
"""Overlap with a lesion from which an outline has found it."""
FALSE_IOU = 0.1
"""Overlap with all lesions of a picture below which an outline is false."""
_PEAKS = np.arange(0.5, 0.96, 0.025)
_RETAINED = 0.98
"""Of the lesions found on the validation cases without any demand on the peak, the share that the demand must leave."""
_LEAST_LESION = 20


def train_outline(request: OutlineRequest, folder: Path) -> Path:
    """Run what `python -m train fit outline` was asked for; returns the card's path. `folder` is for working files."""
    loaded = load_outline_cases(request)
    fitted = fit_all(request, loaded, folder)
    for one in fitted.values():  # what is measured is what is stored
        load_state(one.graph.model, {path: values.astype(np.float32) for path, values in
                                     to_float16(state_of(one.graph.model)).items()})  # fmt: skip
    truth = [
        true_outline(loaded.manifest.root, mask, fit.image_shape)
        for mask, fit in zip(loaded.squares.cases["mask"], loaded.squares.fits, strict=True)
    ]
    validation = np.flatnonzero(loaded.squares.splits == "validation")
    least_peak = _least_peak(_answers(fitted[""], loaded, validation), [truth[case] for case in validation])
    rows = []
    for source, one in fitted.items():
        chosen = _tested(loaded, source)
        for case, answer in zip(chosen, _answers(one, loaded, chosen), strict=True):
            row = loaded.squares.cases.iloc[case]
            found = outlines_of(answer, level=LEVEL, least_peak=least_peak)
            about = {"case": row["file"], "patient": row["patient_key"], "label": row["label"]}
            rows.append(about | {"source": row["source"], "fitted_on": source or "all"} | outcome(truth[case], found))
        log.info("%s: %d pictures measured", source or "all collections", len(chosen))
    minutes = sum(row["seconds"] for row in fitted[""].history) / 60
    return _publish(request, loaded, fitted[""], pd.DataFrame(rows), least_peak, minutes)


def true_outline(root: Path, masks: str, shape: tuple[int, int]) -> np.ndarray:
    """bool (H, W): every lesion that the files (relative to root, "|" between them) outline."""
    whole = np.zeros(shape, bool)
    for name in filter(None, masks.split("|")):
        with Raster.open(root / name) as raster:
            whole |= np.asarray(raster.convert("L").resize((shape[1], shape[0]), Raster.Resampling.NEAREST)) > 127
    return whole


def outcome(truth: np.ndarray, proposals: tuple[Outline, ...]) -> dict[str, float]:
    """How proposals agree with the true lesions of one picture, bool (H, W).

    dice, iou, hd95: of all proposals together, NaN for a normal picture (hd95 also where nothing is proposed). lesions:
    connected ones; found: how many a proposal overlaps by `FOUND_IOU`; false: proposals that miss all of them.
    """
    whole = np.zeros(truth.shape, bool)
    for one in proposals:
        whole |= one.mask
    labels, count = ndimage.label(truth)
    lesions = [labels == number for number in range(1, count + 1)]
    lesions = [one for one in lesions if one.sum() >= _LEAST_LESION]
    has_lesion = bool(truth.any())
    return {
        "dice": dice(truth, whole) if has_lesion else math.nan,
        "iou": iou(truth, whole) if has_lesion else math.nan,
        "hd95": hausdorff_95(truth, whole) if has_lesion else math.nan,
        "lesions": len(lesions),
        "found": sum(any(iou(lesion, one.mask) >= FOUND_IOU for one in proposals) for lesion in lesions),
        "false": sum(not has_lesion or iou(truth, one.mask) < FALSE_IOU for one in proposals),
    }


def _answers(one: OutlineFitted, loaded: OutlineCases, chosen: np.ndarray) -> list[np.ndarray]:
    cells = outline_probabilities(one.graph, loaded.squares.pixels[chosen])
    return [unfit(answer, loaded.squares.fits[case]) for answer, case in zip(cells, chosen, strict=True)]


def _tested(loaded: OutlineCases, source: str) -> np.ndarray:
    """The test cases of all collections; for a network of one, its own test cases and everything of the others."""
    cases = loaded.squares.cases
    is_test = cases["split"] == "test"
    return np.flatnonzero(is_test | (cases["source"] != source) if source else is_test)


def _least_peak(answers: list[np.ndarray], truth: list[np.ndarray]) -> float:
    """The highest demand on a proposal's peak that leaves `_RETAINED` of the validation lesions that are found."""
    found = np.zeros(len(_PEAKS))
    for answer, lesions in zip(answers, truth, strict=True):
        proposals = outlines_of(answer, level=LEVEL, least_peak=LEVEL)
        for number, peak in enumerate(_PEAKS):
            left = tuple(one for one in proposals if one.peak >= peak)
            found[number] += outcome(lesions, left)["found"] if lesions.any() else 0
    return float(round(_PEAKS[np.flatnonzero(found >= _RETAINED * found[0])[-1]], 3))


def _publish(
    request: OutlineRequest,
    loaded: OutlineCases,
    fitted: OutlineFitted,
    cases: pd.DataFrame,
    least_peak: float,
    minutes: float,
) -> Path:
    folder = request.out / request.name
    folder.mkdir(parents=True, exist_ok=True)
    sha256, files = write_shards(to_float16(state_of(fitted.graph.model)), folder)
    table_name = f"{sha256[:8]}.outlines.csv"
    write_whole(folder / table_name, cases.round(6).to_csv(index=False))
    ended = len(fitted.history) < request.config.epochs
    own = cases[cases["fitted_on"] == "all"]
    across = cases[(cases["fitted_on"] != "all") & (cases["fitted_on"] != cases["source"])]
    card: dict[str, Any] = {
        "model_id": request.name,
        "title": "Outline (EfficientNet-Lite0 with a decoder)",
        "description": "Says for each cell of a breast ultrasound image how likely a lesion covers it.",
        "modality": Modality.ULTRASOUND.value,
        "created": datetime.now(UTC).date().isoformat(),
        "weights": {"sha256": sha256, "files": list(files), "storage": "safetensors, float16",
                    "bytes": sum((folder / name).stat().st_size for name in files)},
        "input": {"side": request.config.side, "channels": 1,
                  "preprocessing": "black margins cut, scaled to the square, centred on black; intensities scaled in "
                                   "the graph"},
        "level": LEVEL,
        "least_peak": least_peak,
        "data": _data_of(loaded),
        "initialisation": fitted.started_from,
        "training": {"command": request.to_command(), "architecture": "outline", "init": request.init,
                     "side": request.config.side, "minutes": round(minutes, 1), "best_epoch": fitted.best_epoch,
                     "history": list(fitted.history), "epochs": request.config.epochs, "seed": request.config.seed,
                     "views": request.config.views, "batch": request.config.batch,
                     "learning_rate": request.config.learning_rate, "average": request.config.average,
                     "ended_by_budget": ended, "budget_minutes": request.budget_minutes},
        "cases": table_name,
        "measured": {name: _on_card(part) for name, part in (("own test cases", own), ("other hospitals", across))
                     if len(part)},
        "limits": _limits(request, fitted, own),
        "software": versions(),
    }  # fmt: skip
    OutlineCardFile.model_validate(card)  # never a card that cannot be read again
    before = set(folder.glob("*.safetensors")) | set(folder.glob("*.outlines.csv"))
    write_whole(folder / FILE, json.dumps(card, indent=1) + "\n")
    for old in before - {folder / name for name in (*files, table_name)}:
        old.unlink()
    return folder / FILE


def _on_card(cases: pd.DataFrame) -> Mapping[str, Any]:
    return {
        name: OutlineMeasure(value=one.value, low=one.low, high=one.high, n=one.n).model_dump()
        for name, one in summary(cases).items()
    }


def _data_of(loaded: OutlineCases) -> Mapping[str, Any]:
    """What the card says of the data, as a model's card does."""
    cases = loaded.squares.cases
    findings = check_leakage(Manifest(cases, loaded.manifest.root, loaded.manifest.left_out, loaded.manifest.sha256))
    leaks = tuple(one for one in findings.findings if one.severity == LEAK)
    classes = loaded.squares.classes
    return data_of(
        Prepared(loaded.manifest, cases, classes, classes[-1], 0, "group of near-duplicates, patient", leaks)
    )


def _limits(request: OutlineRequest, fitted: OutlineFitted, own: pd.DataFrame) -> list[str]:
    cell = 4 * 100 / request.config.side
    limits = [
        "A proposal for a reader to judge, not a diagnosis: it outlines benign and malignant lesions alike.",
        f"It sees cells of {cell:.1f} % of the picture's longer side, so lobules and spikes finer than that are not in "
        "its outline.",
        "Doppler colour, callipers and text in the picture may mislead it.",
    ]
    normal = summary(own).get("false_in_normal")
    if normal is not None:
        limits.append(f"It outlined something in {normal.value:.0%} of {normal.n} normal test pictures.")
    if len(fitted.history) < request.config.epochs:
        limits.append(
            f"Its training was ended by a budget after {len(fitted.history)} of {request.config.epochs} epochs."
        )
    return limits
