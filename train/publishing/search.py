"""Hyper-parameter search: short fits with other settings, the best of them fitted again with several seeds.

Optuna proposes (tree-structured Parzen estimators, Bergstra et al. 2011) and ends what lies below the median of earlier
trials. A trial is judged by the validation AUC of its kept epoch; test cases are not looked at before the refits. What
was tried is in the working folder, so a search that was killed goes on with its next trial.
"""

from __future__ import annotations

import hashlib
import json
import logging
import shutil
import time
import warnings
from collections.abc import Mapping
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import optuna
from optuna.storages import JournalStorage
from optuna.storages.journal import JournalFileBackend
from optuna.trial import TrialState
from sklearn.metrics import roc_auc_score

from core.files import write_whole
from train.fitting.fit import fit
from train.publishing import mlflow
from train.publishing.pipeline import Loaded, Made, feature_cache, load_cases, make, starter
from train.publishing.publish import publish
from train.recipe.config import FitConfig, with_settings
from train.recipe.request import FitRequest

log = logging.getLogger(__name__)

TRIALS_FILE = "trials.json"
_JOURNAL = "optuna.log"


@dataclass(frozen=True, slots=True)
class Trial:
    """One short fit. state: "running", "complete" or "pruned". validation_auc: of its kept epoch; None before."""

    number: int
    settings: tuple[str, ...]
    state: str
    epochs: int
    validation_auc: float | None


def search_model(request: FitRequest, folder: Path) -> Path:
    """Run what `python -m train search` was asked for; returns the card's path. `folder` is for working files."""
    began = time.monotonic()
    config = request.config
    loaded = load_cases(request, config)
    folder.mkdir(parents=True, exist_ok=True)
    study = _study(folder, config, loaded)
    with mlflow.tracked(request.model_id, config, loaded.prepared.manifest.sha256) as track:
        _run_trials(study, request, config, loaded, folder, track)
        best = study.best_trial
        chosen = with_settings(config, best.user_attrs["settings"])
        log.info("the best of %d trials: %s", len(study.trials), " ".join(best.user_attrs["settings"]))
        made = []
        for seed in range(request.seed, request.seed + request.refits):
            log.info("seed %d", seed)
            part = replace(chosen, seed=seed)
            is_silent = mlflow.Tracked()
            made.append(make(request, part, loaded, folder / f"seed{seed}", began=began, track=is_silent))
        retained = min(made, key=_validation_loss)
        found = {"search": _on_card(study, made, retained)}
        limits = (*retained.candidate.limits, _spread_limit(made, retained, len(study.trials)))
        candidate = replace(retained.candidate, run={**retained.candidate.run, **found}, limits=limits)
        path = publish(candidate, retained.state, request.out, with_weights=not request.no_weights)
        track.end({"best_validation_auc": study.best_value}, path.parent)
    return path


def suggested(trial: optuna.trial.Trial, config: FitConfig) -> tuple[str, ...]:
    """The space: a third to three times the recipe's learning rate, and what holds a network back from memorising."""
    rate = trial.suggest_float("learning_rate", config.learning_rate / 3, 3 * config.learning_rate, log=True)
    decay = trial.suggest_float("weight_decay", 1e-5, 3e-2, log=True)
    dropout = trial.suggest_float("dropout", 0.1, 0.6, step=0.1)
    smoothing = trial.suggest_categorical("label_smoothing", [0.0, 0.05, 0.1])
    mixup = trial.suggest_categorical("mixup", [0.0, 0.2, 0.4])
    return (
        f"learning_rate={rate:.3g}",
        f"weight_decay={decay:.3g}",
        f"dropout={dropout:g}",
        f"label_smoothing={smoothing:g}",
        f"mixup={mixup:g}",
    )


def _study(folder: Path, config: FitConfig, loaded: Loaded) -> optuna.Study:
    """The study in this folder; one of another configuration or other cases begins anew."""
    about = json.dumps({**asdict(config), "data": loaded.prepared.manifest.sha256}, sort_keys=True)
    name = hashlib.sha256(about.encode()).hexdigest()[:16]
    marker = folder / "study"
    if not marker.is_file() or marker.read_text() != name:
        for old in (*folder.glob("trial-*"), *folder.glob("seed*")):
            shutil.rmtree(old, ignore_errors=True)
        for old in (folder / _JOURNAL, folder / TRIALS_FILE):
            old.unlink(missing_ok=True)
        write_whole(marker, name)
    optuna.logging.set_verbosity(optuna.logging.WARNING)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", optuna.exceptions.ExperimentalWarning)
        storage = JournalStorage(JournalFileBackend(str(folder / _JOURNAL)))
    study = optuna.create_study(
        study_name=name,
        storage=storage,
        load_if_exists=True,
        direction="maximize",
        pruner=optuna.pruners.MedianPruner(n_startup_trials=3, n_warmup_steps=max(1, config.epochs // 4)),
    )
    # Seeded by what was tried too, or a search that goes on would propose its first settings again.
    seed = config.seed + 1000 * len(study.get_trials(deepcopy=False))
    study.sampler = optuna.samplers.TPESampler(seed=seed, n_startup_trials=5)
    for trial in study.get_trials(deepcopy=False, states=(TrialState.RUNNING,)):
        study.tell(trial.number, state=TrialState.FAIL)  # the search was killed in the middle of it
        study.enqueue_trial(trial.params)
    return study


def _run_trials(
    study: optuna.Study,
    request: FitRequest,
    config: FitConfig,
    loaded: Loaded,
    folder: Path,
    track: mlflow.Tracked,
) -> None:
    cache, start = feature_cache(), starter(request)

    def objective(trial: optuna.trial.Trial) -> float:
        settings = suggested(trial, config)
        trial.set_user_attr("settings", list(settings))
        _write_trials(study, folder)
        seen: list[float] = []

        def after_epoch(row: Mapping[str, float]) -> None:
            seen.append(float(row["validation_auc"]))
            trial.report(seen[-1], int(row["epoch"]))
            trial.set_user_attr("epochs", len(seen))
            if trial.should_prune():
                raise optuna.TrialPruned

        work = folder / ("trial-" + hashlib.sha256(" ".join(settings).encode()).hexdigest()[:8])
        part = with_settings(config, settings)
        fitted = fit(part, loaded.squares, start=start, folder=work, cache=cache, on_epoch=after_epoch)
        auc = float(fitted.history[fitted.best_epoch - 1]["validation_auc"])
        trial.set_user_attr("auc", auc)
        return auc

    def after(_study: optuna.Study, done: optuna.trial.FrozenTrial) -> None:
        for path in folder.glob("trial-*/*.safetensors"):
            path.unlink()  # a trial's weights are not needed again; its epochs stay to be looked at
        _write_trials(study, folder)
        if done.value is not None:
            track.epoch("trials", {"epoch": done.number, "validation_auc": done.value})

    over = (TrialState.COMPLETE, TrialState.PRUNED)
    while (missing := request.trials - len(study.get_trials(deepcopy=False, states=over))) > 0:
        study.optimize(objective, n_trials=missing, callbacks=[after])


def trials_of(study: optuna.Study) -> list[Trial]:
    """All trials but those that a killed search left, in the order of their beginning."""
    words = {TrialState.RUNNING: "running", TrialState.COMPLETE: "complete", TrialState.PRUNED: "pruned"}
    found: list[Trial] = []
    for trial in study.get_trials(deepcopy=False):
        if trial.state in words and "settings" in trial.user_attrs:
            seen = trial.intermediate_values
            auc = trial.user_attrs.get("auc", seen[max(seen)] if seen else None)
            settings = tuple(trial.user_attrs["settings"])
            found.append(Trial(len(found) + 1, settings, words[trial.state], trial.user_attrs.get("epochs", 0), auc))
    return found


def _write_trials(study: optuna.Study, folder: Path) -> None:
    write_whole(folder / TRIALS_FILE, json.dumps([asdict(trial) for trial in trials_of(study)]))


def _validation_loss(made: Made) -> float:
    return float(made.candidate.history[made.candidate.best_epoch - 1]["validation_loss"])


def _on_card(study: optuna.Study, made: list[Made], retained: Made) -> dict[str, Any]:
    return {
        "trials": [asdict(trial) for trial in trials_of(study)],
        "refits": [
            {
                "seed": one.candidate.config.seed,
                "validation_loss": round(_validation_loss(one), 5),
                "test_auc": round(_test_auc(one), 5),
                "kept": one is retained,
            }
            for one in made
        ],
    }


def _test_auc(made: Made) -> float:
    scores = made.candidate.test_scores
    is_positive = (scores["label"] == made.candidate.positive).to_numpy()
    return float(roc_auc_score(is_positive, scores[made.candidate.positive]))


def _spread_limit(made: list[Made], retained: Made, n_trials: int) -> str:
    areas = np.array([_test_auc(one) for one in made])
    spread = f" to within {areas.std(ddof=1):.3f} (standard deviation)" if len(areas) > 1 else ""
    return (
        f"Its settings are the best of {n_trials} on the validation cases, which flatters these. Fitted with "
        f"{len(areas)} seeds, the test AUC was {areas.mean():.3f} on average{spread}; the seed of the lowest "
        f"validation loss was kept ({_test_auc(retained):.3f})."
    )
