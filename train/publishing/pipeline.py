"""One training run from what was asked to a published model: cases, split, fit, calibration, measures, card."""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from core.errors import InvalidInput
from core.evaluation.tables.of_cards import headline
from core.models.architectures import Graph
from core.models.calibration import Calibration
from core.models.cards import LocalisationOnCard, read_card, read_test_scores
from core.models.registry import architecture
from core.models.training_distance import fit_training_distance
from core.models.weights import state_of
from core.settings import Settings
from core.types import Modality
from train.datasets.cases import Prepared, data_of, prepare, split_for_training, split_sha256, with_subgroups
from train.datasets.duplicates import sha256_of
from train.datasets.manifest import joined, read_manifest
from train.datasets.split import model_of_split, split_of_model
from train.fitting import pretrained
from train.fitting.distil import distil_resnet50v2, start_resnet50v2_from
from train.fitting.feature_cache import FeatureCache, key_of
from train.fitting.fit import Fitted, fit, logits_of
from train.fitting.folds import (
    FitOne,
    Folds,
    Localisation,
    calibrated,
    cross_validate,
    localisations,
    logits_without,
    pooled_features,
    scores_table,
    stored,
)
from train.fitting.parts import Parts
from train.fitting.squares import Squares, load_squares
from train.fitting.workers import ALONE, Workers
from train.publishing import mlflow
from train.publishing.evaluate import IN_FOLDS, known_splits
from train.publishing.publish import Candidate, FittedDistance, cases_table, publish, trace_of
from train.publishing.threshold import branch_on_card, choose_threshold, map_limits, weakness
from train.recipe.recipes import FitConfig
from train.recipe.request import FitRequest

log = logging.getLogger(__name__)

FEWEST_FITTED = 20
"""Training images without which no distance from them can be told."""


@dataclass(frozen=True, slots=True)
class Measured:
    """A fitted model with what was measured of it; `folds` is what the card says of them. test_without: branch -> the
    test scores where that branch is left out."""

    fitted: Fitted
    calibration: Calibration
    threshold: float
    test_scores: pd.DataFrame
    validation_scores: pd.DataFrame
    localisation: Mapping[str, Localisation]
    test_without: Mapping[str, pd.DataFrame]
    folds: Mapping[str, Any] | None = None


@dataclass(frozen=True, slots=True)
class Loaded:
    """The cases of a run, decided and read. table: as it will lie beside the weights (`core.models.card_cases`)."""

    prepared: Prepared
    squares: Squares
    table: pd.DataFrame


@dataclass(frozen=True, slots=True)
class Made:
    """A measured model that is not published yet: what its card says, and its weights."""

    candidate: Candidate
    state: Mapping[str, Any]


def train_model(request: FitRequest, folder: Path, workers: Workers = ALONE) -> Path:
    """Run what `python -m train fit` was asked for; returns the card's path. `folder` is for working files.

    workers: whose first process this is; the others `help_to_train`.
    """
    began = time.monotonic()
    config = request.config
    loaded = load_cases(request, config)
    with mlflow.tracked(request.model_id, config, loaded.prepared.manifest.sha256) as track:
        made = make(request, config, loaded, folder, began=began, track=track, workers=workers)
        path = publish(made.candidate, made.state, request.out, with_weights=not request.no_weights)
        track.end({name: one.value for name, one in headline(read_card(path.parent)).items()}, path.parent)
    return path


def load_cases(request: FitRequest, config: FitConfig) -> Loaded:
    """Read the manifest, split it and bring every case into the configuration's square."""
    manifest = joined(
        [read_manifest(path, root=request.root, where=request.where) for path in (request.data, *request.also)]
    )
    if config.balance_by and config.balance_by not in manifest.cases:
        raise InvalidInput(f"The manifest has no column {config.balance_by!r} to balance by.")
    prepared = prepare(
        manifest,
        request.modality,
        positive=request.positive or None,
        seed=request.seed,
        folds=request.folds,
        by=request.split_by or None,
        like=model_of_split(request.split_like, request.out) if request.split_like else None,
        allow_leaks=request.allow_leaks,
    )
    if request.cnn:
        _require_unseen(request.out / request.cnn, prepared)
    cases = prepared.cases if "split" in prepared.cases else prepared.cases.assign(split="")
    traces: list[dict[str, Any]] = []
    squares = load_squares(
        cases,
        prepared.manifest.root,
        modality=request.modality,
        side=config.side,
        columns=config.columns,
        chest_wall=config.chest_wall,
        channels=architecture(config.architecture).channels(request.modality),
        classes=prepared.classes,
        positive=prepared.positive,
        seen=lambda image: traces.append(trace_of(image)),
    )
    log.info("%s", pd.crosstab(cases["fold" if prepared.folds else "split"], cases["label"]).to_string())
    return Loaded(prepared, squares, cases_table(prepared.cases, traces))


def _require_unseen(start: Path, prepared: Prepared) -> None:
    """That the fitted network a run begins with has learnt from no case that this run is measured or chosen on."""
    card = read_card(start)
    tested = read_test_scores(card)
    known = known_splits(card, prepared.manifest, () if tested is None else set(tested["case"]))
    learnt = prepared.cases["file"].map(known).isin(["train", IN_FOLDS])
    chosen = prepared.cases["file"].map(known) == "validation"
    if prepared.folds:
        is_seen = learnt | chosen
    else:
        split = prepared.cases["split"]
        is_seen = learnt & (split != "train") | chosen & (split == "test")
    if is_seen.any():
        raise InvalidInput(
            f"{card.model_id} has learnt from {is_seen.sum()} of the cases that this network would be measured or "
            f"chosen on: its numbers would be too good. Begin with a network of other cases"
            f"{'' if card.data.folds else f', or take its split: --split-like {card.model_id}'}."
        )


def make(
    request: FitRequest,
    config: FitConfig,
    loaded: Loaded,
    folder: Path,
    *,
    began: float,
    track: mlflow.Tracked,
    workers: Workers = ALONE,
) -> Made:
    """Fit, calibrate and measure one model. began: `time.monotonic()` of when its minutes are counted from."""
    prepared, squares = loaded.prepared, loaded.squares
    budget = Budget(request.budget_minutes, request.folds + 1 if request.folds else 1, folder)
    key = run_key(request, config, loaded)
    fit_one = _fit_one(config, starter(request), budget, track, folder, workers)
    measured = _measured(squares, prepared, fit_one, folder, key, is_shared=request.budget_minutes is None)
    minutes = (time.monotonic() - began) / 60
    localisation = _on_card(measured.localisation)
    limits = (
        *_leak_limits(prepared),
        *_limits(squares, prepared, request.modality),
        *map_limits(localisation),
        *weakness(measured.test_scores, prepared.positive),
        *budget.limits,
        *request.limits,
    )
    candidate = Candidate(
        model_id=request.model_id,
        config=config,
        classes=prepared.classes,
        positive=prepared.positive,
        data=data_of(prepared),
        started_from=measured.fitted.started_from,
        history=measured.fitted.history,
        best_epoch=measured.fitted.best_epoch,
        calibration=measured.calibration,
        threshold=measured.threshold,
        validation_n=len(measured.validation_scores),
        localisation=localisation,
        branches={
            name: branch_on_card(measured.test_scores, without, prepared.positive)
            for name, without in measured.test_without.items()
        },
        limits=tuple(dict.fromkeys(limits)),
        test_scores=with_subgroups(measured.test_scores, prepared.cases, prepared.manifest.root),
        validation_scores=measured.validation_scores,
        cases=loaded.table,
        folds=measured.folds,
        run={
            "minutes": round(minutes, 1),
            "command": request.portable().to_command(),
            "why": request.why,
            **budget.on_card,
        },
        distance=None if request.no_weights else fitted_distance(measured.fitted.graph, squares),
    )
    return Made(candidate, state_of(measured.fitted.graph.model))


def run_key(request: FitRequest, config: FitConfig, loaded: Loaded) -> str:
    """Names what a run learns from and how: with another key nothing of it is gone on with."""
    prepared, squares = loaded.prepared, loaded.squares
    start = (
        sha256_of(request.backbone) if request.backbone is not None else "",
        read_card(request.out / request.cnn).weights_sha256 if request.cnn else "",
    )
    return key_of(
        [squares.pixels, squares.labels, squares.masks], asdict(config), start, prepared.folds, prepared.positive,
        split_sha256(prepared.cases), request.budget_minutes,
    )  # fmt: skip


def help_to_train(request: FitRequest, folder: Path, workers: Workers) -> None:
    """The part of a process that is not the first of `workers`: the same fit, of which nothing is written."""
    config = request.config
    budget = Budget(request.budget_minutes, 1, folder)
    fit_one = _fit_one(config, starter(request), budget, mlflow.Tracked(), folder, workers)
    fit_one(load_cases(request, config).squares, folder, lambda: False, None)


def fit_alone(request: FitRequest, config: FitConfig, loaded: Loaded, folder: Path) -> None:
    """The fit of `make` and nothing else: with the same folder, `make` goes on from the end of it."""
    fit_one = _fit_one(config, starter(request), Budget(None, 1, folder), mlflow.Tracked(), folder)
    fit_one(loaded.squares, folder, lambda: False, None)


def join_folds(request: FitRequest, folder: Path) -> None:
    """Fit folds of a model that another process trains in the same folder."""
    if not request.folds:
        raise InvalidInput("Only folds and the trials of a search can be shared: leave out --join.")
    config = request.config
    loaded = load_cases(request, config)
    fit_one = _fit_one(config, starter(request), Budget(None, 1, folder), mlflow.Tracked(), folder)
    key = run_key(request, config, loaded)
    Parts(folder, key).join(Folds(loaded.squares, request.folds, fit_one, folder, key).do)


def fitted_distance(graph: Graph, squares: Squares) -> FittedDistance | None:
    """How far an image lies from the training images; None where there are too few to tell.

    Fitted on the training cases, the level on the validation cases. Where cases were in folds the weights have seen
    them all in the end: the level comes from the first fold's cases and the rest from the others, so that at least not
    the same pictures give both.
    """
    if "fold" in squares.cases:
        is_level = squares.cases["fold"].to_numpy() == 0
        is_fitted = ~is_level
    else:
        is_level, is_fitted = squares.splits == "validation", squares.splits == "train"
    if is_fitted.sum() < FEWEST_FITTED or not is_level.any():
        return None
    features = pooled_features(graph, squares.pixels[is_fitted | is_level])
    level = is_level[is_fitted | is_level]
    distance = fit_training_distance(features[~level], features[level])
    return FittedDistance(distance, int(is_fitted.sum()), int(is_level.sum()))


class Budget:
    """How long the runs of one model may take together, each an equal part. It ends a run only between epochs.

    That it ended one is kept in the working `folder`, because the same command may go on in another process.
    """

    def __init__(self, minutes: float | None, runs: int, folder: Path) -> None:
        self.minutes, self.runs = minutes, runs
        self._mark = folder / f"ended_by_{minutes:g}_minutes" if minutes is not None else None

    def stop(self) -> Callable[[], bool]:
        """For one run that begins now."""
        if self.minutes is None:
            return lambda: False
        end = time.monotonic() + 60 * self.minutes / self.runs

        def is_over() -> bool:
            over = time.monotonic() >= end
            if over and self._mark is not None:
                self._mark.touch()
            return over

        return is_over

    @property
    def ran_out(self) -> bool:
        return self._mark is not None and self._mark.exists()

    @property
    def limits(self) -> tuple[str, ...]:
        return (f"Its training was ended by a budget of {self.minutes:g} minutes.",) if self.ran_out else ()

    @property
    def on_card(self) -> dict[str, Any]:
        return {"budget_minutes": self.minutes, "ended_by_budget": self.ran_out} if self.minutes is not None else {}


def feature_cache() -> FeatureCache:
    """Where what frozen layers give is kept on this machine."""
    return FeatureCache(Settings.from_environment().state_dir / "features")


def _fit_one(
    config: FitConfig, start: Callable[[Graph], str], budget: Budget, track: mlflow.Tracked, work: Path,
    workers: Workers = ALONE,
) -> FitOne:  # fmt: skip
    cache = feature_cache()

    def fit_one(squares: Squares, folder: Path, stop: Callable[[], bool], head_epochs: int | None) -> Fitted:
        is_over = budget.stop()
        return fit(
            config,
            squares,
            start=start,
            folder=folder,
            stop=lambda: stop() | is_over(),
            cache=cache,
            head_epochs=head_epochs,
            on_epoch=lambda row: track.epoch("" if folder == work else folder.name, row),
            workers=workers,
        )

    return fit_one


def _measured(
    squares: Squares,
    prepared: Prepared,
    fit_one: FitOne,
    folder: Path,
    key: str,
    *,
    is_shared: bool,
) -> Measured:
    if prepared.folds:
        crossed = cross_validate(squares, prepared.folds, fit_one, folder, key=key, is_shared=is_shared)
        return Measured(
            crossed.fitted,
            crossed.calibration,
            crossed.threshold,
            crossed.test_scores,
            crossed.validation_scores,
            crossed.localisation,
            crossed.test_without,
            {"n": prepared.folds, "thresholds": list(crossed.thresholds), "best_epochs": list(crossed.best_epochs)},
        )
    fitted = fit_one(squares, folder, lambda: False, None)
    forward = stored(fitted.graph)
    validation, test = squares.split("validation"), squares.split("test")
    logits = logits_of(forward, validation.pixels)
    calibration = calibrated(validation, logits)
    validation_scores = scores_table(validation, logits, calibration)
    threshold = choose_threshold(
        validation.labels == validation.positive,
        validation_scores[prepared.positive].to_numpy(),
        validation_scores["patient"].astype(str).to_numpy(),
    )
    return Measured(
        fitted,
        calibration,
        threshold,
        scores_table(test, logits_of(forward, test.pixels), calibration),
        validation_scores,
        localisations(fitted.graph, validation),
        {
            branch: scores_table(test, values, calibration)
            for branch, values in logits_without(fitted.graph, test.pixels).items()
        },
    )


def starter(request: FitRequest) -> Callable[[Graph], str]:
    """What puts the starting weights that were asked for into a graph, and says what they are."""

    def start(graph: Graph) -> str:
        if request.cnn:
            return pretrained.start_from_cnn(graph.model, request.out / request.cnn)
        if request.init == "imagenet":
            return pretrained.start_from_imagenet(graph.model, request.architecture)
        if request.init == "offline" and request.backbone is not None:
            vgg = pretrained.start_vgg16_from_hed(graph.model)
            return f"{vgg}; {start_resnet50v2_from(graph.model, request.backbone)}"
        return pretrained.start_offline(graph.model, request.architecture) if request.init == "offline" else "random"

    return start


def _on_card(localisation: Mapping[str, Localisation]) -> dict[str, LocalisationOnCard]:
    return {
        name: LocalisationOnCard(n=result.n, pointing_game=result.hits, image_centre=result.centre)
        for name, result in localisation.items()
    }


def _leak_limits(prepared: Prepared) -> tuple[str, ...]:
    if not prepared.leaks:
        return ()
    found = "; ".join(f"{leak.check} ({leak.n})" for leak in prepared.leaks)
    return (f"Its split leaks: {found}. Its numbers are too good and say nothing of new patients.",)


def population_limit(cases: pd.DataFrame, n_trained: int) -> str:
    """Whose cases a model learnt from: a published collection names its licence in every row, a site's own does not."""
    if "licence" in cases and (cases["licence"].str.strip() != "").all():
        return f"Trained on {n_trained} cases of a public collection, not on a screening population."
    return (
        f"Trained on {n_trained} cases of a data set that names no public collection; whether they are those of a "
        "screening population is not known."
    )


def _limits(squares: Squares, prepared: Prepared, modality: Modality) -> tuple[str, ...]:
    positive = prepared.positive
    tested = prepared.cases if prepared.folds else prepared.cases[prepared.cases["split"] == "test"]
    n_trained = len(squares) if prepared.folds else int((prepared.cases["split"] == "train").sum())
    n_positive = int((tested["label"] == positive).sum())
    what = "cases" if prepared.folds else "test cases"
    limits = [
        f"Measured on {len(tested)} {what} ({n_positive} {positive}) of the same collection; "
        "other scanners and hospitals may differ.",
        population_limit(prepared.cases, n_trained),
    ]
    if prepared.folds:
        limits.append(
            f"Measured in {prepared.folds} folds, each case by a network that was not trained on it. The weights were "
            "fitted on all cases afterwards, so nothing measures just them; calibration and threshold are the folds'."
        )
    if len(squares) < 300:
        limits.append("Demonstration: the collection is too small for a claim.")
    if modality is Modality.ULTRASOUND:
        limits.append(
            "Doppler colour, callipers and text in the picture may mislead it; it was not trained to see past them."
        )
    if modality is Modality.MAMMOGRAPHY:
        limits.append("Single views; it does not compare breasts, views or earlier studies.")
    return tuple(limits)


def distil(
    manifests: Sequence[Path],
    out: Path,
    *,
    modality: Modality,
    root: Path | None,
    where: Sequence[str],
    split_like: str | None,
    seed: int,
    side: int,
    steps: int,
) -> None:
    """What `python -m train distil` does: grey squares of the manifests' training cases, labels unused.

    Validation and test cases are left out: those of the model that `split_like` names where the manifest holds them,
    else of the split that `fit` makes with the same seed.
    """
    like = model_of_split(split_like) if split_like else None
    tested = read_test_scores(like) if like else None
    parts = []
    for path in manifests:
        manifest = read_manifest(path, root=root, where=where)
        cases = manifest.cases
        if like is not None and tested is not None and set(tested["case"]) <= set(cases["file"]):
            cases = cases.assign(split=split_of_model(cases, like))
        else:
            cases, _ = split_for_training(cases, seed)
        cases = cases[cases["split"] == "train"].assign(label="any", mask="")
        squares = load_squares(cases, manifest.root, modality=modality, side=side, classes=("", "any"), positive="any")
        grey = squares.pixels.astype(np.float32).mean(axis=3, keepdims=True)
        parts.append(grey.astype(np.float16))
    pixels = np.concatenate(parts)
    log.info("%d images", len(pixels))
    distil_resnet50v2(pixels, out, steps=steps, seed=seed)
