"""The outline network from manifests to a folder of weights, measured on test patients of its own collections.

What a network of one hospital finds in another hospital's pictures is measured by fitting one on one collection alone
(`add_collection`); what it proposes in every picture, by fitting some of which each leaves a part out (`out_of_fold`).
These others are measured as the first one is and not kept.
"""

from __future__ import annotations

import json
import logging
import math
import time
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd
from PIL import Image as Raster
from scipy import ndimage

from core.errors import InvalidInput
from core.files import write_whole
from core.findings.outlines import Outline, dice, hausdorff_95, iou, outlines_of
from core.imaging.masks import lesion_grey
from core.imaging.preprocess import unfit
from core.models.architectures.outline import OutlineGraph, outline_network
from core.models.outline_card import FILE, OWN_TEST_CASES, OutlineCard, OutlineCardFile, OutlineMeasure
from core.models.weights import load_state, read_shards, state_of, to_float16, write_shards
from core.types import Modality
from core.version import versions
from train.datasets.cases import Prepared, data_of, patient_keys, split_for_training, split_sha256
from train.datasets.leakage import LEAK, check_leakage
from train.datasets.manifest import Manifest, joined, read_manifest
from train.datasets.split import SPLITS, fold_cases
from train.fitting import pretrained
from train.fitting.outline import OutlineFitted, OutlineViews, fit_outline, outline_probabilities, starting_graph
from train.fitting.squares import Squares, load_squares
from train.publishing.outline_table import summary
from train.publishing.pipeline import feature_cache
from train.publishing.proposed_descriptors import Proposed
from train.publishing.publish import publishing
from train.recipe.outline import OutlineRequest

if TYPE_CHECKING:
    import keras

log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class OutlineCases:
    """manifest: all collections together. squares: every case; its `cases` have `source`, `split`, `patient_key`."""

    manifest: Manifest
    squares: Squares

    def truth(self, case: int) -> np.ndarray:
        """bool (H, W): every lesion of the picture at this place."""
        return true_outline(
            self.manifest.root, self.squares.cases["mask"].iloc[case], self.squares.fits[case].image_shape
        )


def load_outline_cases(request: OutlineRequest) -> OutlineCases:
    """Pictures with an outline, and normal ones, which have none; split by patient and group.

    Raises InvalidInput where a split has no outline: nothing would choose an epoch, or say what the network finds.
    """
    manifest = joined([read_manifest(path, root=request.root, where=request.where)
                       for path in (request.data, *request.also)])  # fmt: skip
    cases = manifest.cases
    for column in ("mask", "source"):
        if column not in cases:
            cases = cases.assign(**{column: ""})
    if not (cases["mask"] != "").any():
        raise InvalidInput(
            "No picture of this data set has the outline of its lesion, so there is nothing to learn from. Give masks."
        )
    cases = cases[(cases["mask"] != "") | (cases["label"] == "normal")].reset_index(drop=True)
    cases, _ = split_for_training(cases, request.config.seed)
    _require_outlines(cases, {name: (cases["split"] == name).to_numpy() for name in SPLITS})
    cases["patient_key"] = patient_keys(cases)
    classes = tuple(sorted(cases["label"].unique()))
    squares = load_squares(cases, manifest.root, modality=Modality.ULTRASOUND, side=request.config.side,
                           classes=classes, positive=classes[-1])  # fmt: skip
    return OutlineCases(manifest, squares)


def _require_outlines(cases: pd.DataFrame, parts: Mapping[str, np.ndarray]) -> None:
    """parts: name -> which cases, bool (n,). Raises InvalidInput for one without an outlined lesion."""
    lacking = [name for name, part in parts.items() if not (cases["mask"] != "")[part].any()]
    if lacking:
        raise InvalidInput(
            f"No picture of the part {lacking[0]!r} has the outline of its lesion. Every part needs some: put other "
            "patients there, or leave the split out so that a new one is made."
        )


class _Fits:
    """Fits of the same recipe on parts of the same cases, which share what the frozen layers give."""

    def __init__(self, request: OutlineRequest, loaded: OutlineCases) -> None:
        self.request, self.loaded = request, loaded
        _, _, stem = starting_graph(request.config, self._start)
        self.views = OutlineViews(stem, loaded.squares, request.config, feature_cache())

    def _start(self, backbone: keras.Model) -> str:
        if self.request.init == "offline":
            return pretrained.start_offline(backbone, "efficientnet_lite0")
        return "random"

    def fit(self, train: np.ndarray, validation: np.ndarray, folder: Path) -> OutlineFitted:
        """A network with the weights as they would be stored. train, validation: bool (n,), which cases."""
        _require_outlines(self.loaded.squares.cases, {"train": train, "validation": validation})
        minutes = self.request.budget_minutes
        began = time.monotonic()
        fitted = fit_outline(
            self.request.config, self.loaded.squares, self.views, np.flatnonzero(train), np.flatnonzero(validation),
            start=self._start, folder=folder, seconds_most=math.inf if minutes is None else 60 * minutes,
        )  # fmt: skip
        stored = to_float16(state_of(fitted.graph.model))
        load_state(fitted.graph.model, {path: values.astype(np.float32) for path, values in stored.items()})
        log.info("%s fitted in %.0f s", folder.name, time.monotonic() - began)
        return fitted


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
    splits = loaded.squares.splits
    fitted = _Fits(request, loaded).fit(splits == "train", splits == "validation", folder)
    least_peak = _least_peak(fitted, loaded, np.flatnonzero(splits == "validation"))
    rows = _rows(fitted, loaded, np.flatnonzero(splits == "test"), least_peak, "all")
    minutes = sum(row["seconds"] for row in fitted.history) / 60
    with publishing(request.out):
        return _publish(request, loaded, fitted, rows, least_peak, minutes)


def add_collection(card: OutlineCard, request: OutlineRequest, source: str, folder: Path) -> Path:
    """Fit a network of the card's recipe on one of its collections alone, and add what it finds to the card's table.

    request: with the card's side and seed, on the card's pictures. Measured on the collection's own test cases and on
    every picture of the others, at the card's demand on a peak. Raises InvalidInput for other pictures or a collection
    that is not among them.
    """
    loaded = load_outline_cases(request)
    _require_of_card(card, loaded)
    cases = loaded.squares.cases
    within = (cases["source"] == source).to_numpy()
    if not within.any() or within.all():
        known = ", ".join(sorted(cases["source"].unique()))
        raise InvalidInput(f"{source!r} is not one of several collections of this network. They are: {known}.")
    splits = loaded.squares.splits
    fits = _Fits(request, loaded)
    fitted = fits.fit(within & (splits == "train"), within & (splits == "validation"), folder / f"alone-{source}")
    chosen = np.flatnonzero(~within | (splits == "test"))
    path = card.folder / Path(card.cases).name
    known_rows = pd.read_csv(path, dtype={"case": str, "patient": str, "label": str})
    if "epochs" not in known_rows:
        own = known_rows["fitted_on"] == "all"
        known_rows["epochs"] = np.where(own, len(card.training.history), np.nan)
    rows = pd.concat([known_rows[known_rows["fitted_on"] != source],
                      _rows(fitted, loaded, chosen, card.least_peak, source)])  # fmt: skip
    raw = json.loads((card.folder / FILE).read_text(encoding="utf-8"))
    raw["measured"] = _measured(rows)
    OutlineCardFile.model_validate(raw)
    write_whole(path, rows.round(6).to_csv(index=False))
    write_whole(card.folder / FILE, json.dumps(raw, indent=1) + "\n")
    return path


def out_of_fold(request: OutlineRequest, folds: int, folder: Path) -> dict[str, Proposed]:
    """Case -> what a network proposes that was fitted without the case's fold; no patient lies in two folds.

    Fold k is outlined by a network that learnt from all others but k + 1, on which its epoch and its demand on a peak
    were chosen. Raises InvalidInput for fewer than three folds.
    """
    if folds < 3:
        raise InvalidInput("--folds must be 3 or more: one part is outlined, one validates, the rest train.")
    loaded = load_outline_cases(request)
    numbers = fold_cases(loaded.squares.cases, folds, request.config.seed).to_numpy().astype(int)
    fits = _Fits(request, loaded)
    found: dict[str, Proposed] = {}
    for number in range(folds):
        beside = numbers == (number + 1) % folds
        fitted = fits.fit((numbers != number) & ~beside, beside, folder / f"fold{number}")
        least_peak = _least_peak(fitted, loaded, np.flatnonzero(beside))
        found |= _proposed(fitted.graph, loaded, np.flatnonzero(numbers == number), least_peak)
    return found


def by_shipped(card: OutlineCard, request: OutlineRequest) -> dict[str, Proposed]:
    """Case -> what the network of the card proposes, of its own test cases alone."""
    loaded = load_outline_cases(request)
    _require_of_card(card, loaded)
    graph = outline_network(side=card.input.side)
    load_state(graph.model, read_shards(card.folder, card.weights.files, card.weights_sha256))
    return _proposed(graph, loaded, np.flatnonzero(loaded.squares.splits == "test"), card.least_peak)


def _require_of_card(card: OutlineCard, loaded: OutlineCases) -> None:
    if split_sha256(loaded.squares.cases) != card.data.split_sha256:
        raise InvalidInput(
            "These are not the pictures, or not the split, that the outline network was made from. Give the same "
            "manifests: its card names them."
        )


def _rows(
    fitted: OutlineFitted, loaded: OutlineCases, chosen: np.ndarray, least_peak: float, fitted_on: str
) -> pd.DataFrame:
    """The table of some pictures: what they are, what the network was fitted on for how long, and `outcome`."""
    rows = []
    for case, answer in zip(chosen, _answers(fitted.graph, loaded, chosen), strict=True):
        row = loaded.squares.cases.iloc[case]
        found = outlines_of(answer, level=LEVEL, least_peak=least_peak)
        about = {"case": row["file"], "patient": row["patient_key"], "label": row["label"], "source": row["source"]}
        rows.append(about | {"fitted_on": fitted_on} | outcome(loaded.truth(case), found))
    log.info("%s: %d pictures measured", fitted_on, len(chosen))
    return pd.DataFrame(rows).assign(epochs=len(fitted.history))


def _proposed(graph: OutlineGraph, loaded: OutlineCases, chosen: np.ndarray, least_peak: float) -> dict[str, Proposed]:
    found = {}
    for case, answer in zip(chosen, _answers(graph, loaded, chosen), strict=True):
        proposals, truth = outlines_of(answer, level=LEVEL, least_peak=least_peak), loaded.truth(case)
        hits = [number for number, one in enumerate(proposals, 1) if iou(truth, one.mask) >= FOUND_IOU]
        file = loaded.squares.cases["file"].iloc[case]
        found[file] = Proposed(proposals[0].mask if proposals else None, hits[0] if hits else 0)
    return found


def true_outline(root: Path, masks: str, shape: tuple[int, int]) -> np.ndarray:
    """bool (H, W): every lesion that the files (relative to root, "|" between them) outline."""
    whole = np.zeros(shape, bool)
    for name in filter(None, masks.split("|")):
        with Raster.open(root / name) as raster:
            whole |= np.asarray(lesion_grey(raster).resize((shape[1], shape[0]), Raster.Resampling.NEAREST)) > 127
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


def _answers(graph: OutlineGraph, loaded: OutlineCases, chosen: np.ndarray) -> list[np.ndarray]:
    cells = outline_probabilities(graph, loaded.squares.pixels[chosen])
    return [unfit(answer, loaded.squares.fits[case]) for answer, case in zip(cells, chosen, strict=True)]


def _least_peak(fitted: OutlineFitted, loaded: OutlineCases, chosen: np.ndarray) -> float:
    """The highest demand on a proposal's peak that leaves `_RETAINED` of the lesions that are found in these cases."""
    found = np.zeros(len(_PEAKS))
    for case, answer in zip(chosen, _answers(fitted.graph, loaded, chosen), strict=True):
        proposals, lesions = outlines_of(answer, level=LEVEL, least_peak=LEVEL), loaded.truth(case)
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
        "training": {"command": request.portable().to_command(), "architecture": "outline", "init": request.init,
                     "side": request.config.side, "minutes": round(minutes, 1), "best_epoch": fitted.best_epoch,
                     "history": list(fitted.history), "epochs": request.config.epochs, "seed": request.config.seed,
                     "views": request.config.views, "batch": request.config.batch,
                     "learning_rate": request.config.learning_rate, "average": request.config.average,
                     "ended_by_budget": ended, "budget_minutes": request.budget_minutes},
        "cases": table_name,
        "measured": _measured(cases),
        "limits": _limits(request, fitted, cases),
        "software": versions(),
    }  # fmt: skip
    OutlineCardFile.model_validate(card)  # never a card that cannot be read again
    before = set(folder.glob("*.safetensors")) | set(folder.glob("*.outlines.csv"))
    write_whole(folder / FILE, json.dumps(card, indent=1) + "\n")
    for old in before - {folder / name for name in (*files, table_name)}:
        old.unlink()
    return folder / FILE


def _measured(cases: pd.DataFrame) -> Mapping[str, Mapping[str, Any]]:
    """What the card says: on the test cases of the network, and of networks of one collection on the others."""
    own = cases[cases["fitted_on"] == "all"]
    across = cases[(cases["fitted_on"] != "all") & (cases["fitted_on"] != cases["source"])]
    parts = ((OWN_TEST_CASES, own), ("other hospitals", across))
    return {name: _on_card(part) for name, part in parts if len(part)}


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
