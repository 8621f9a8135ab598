"""Hyper-parameter search: short fits with other settings, the best of them fitted again with several seeds.

Optuna proposes (tree-structured Parzen estimators, Bergstra et al. 2011) and ends what lies below the median of earlier
trials. A trial is judged by the validation AUC of its kept epoch; test cases are not looked at before the refits.

Settings are proposed for `TOGETHER` trials at a time, from the results of all before these and the number of the trial
alone. So the trials are the same whether one process tries them one after the other or several share them
(`train.fitting.parts`), and a search that was killed proposes again what it had proposed. What a trial came to is in
its folder.
"""

from __future__ import annotations

import json
import logging
import shutil
import time
import warnings
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import optuna
from optuna.trial import TrialState
from sklearn.metrics import roc_auc_score

from core.errors import InvalidInput
from core.files import write_whole
from train.fitting.feature_cache import key_of
from train.fitting.fit import fit
from train.fitting.loop import Diverged
from train.fitting.parts import Parts
from train.publishing import mlflow
from train.publishing.pipeline import Loaded, Made, feature_cache, fit_alone, load_cases, make, run_key, starter
from train.publishing.publish import publish
from train.recipe.recipes import FitConfig, with_settings
from train.recipe.request import FitRequest

log = logging.getLogger(__name__)

TRIALS_FILE = "trials.json"
TOGETHER = 4
"""Trials of which none knows what the others come to: so many processes can share them."""
_RESULT = "trial.json"


@dataclass(frozen=True, slots=True)
class Trial:
    """One short fit. state: "running", "complete" or "pruned". validation_auc: of its kept epoch; None before."""

    number: int
    settings: tuple[str, ...]
    state: str
    epochs: int
    validation_auc: float | None


@dataclass(frozen=True, slots=True)
class _Proposal:
    """Settings of trial `number` (from 1); given: Optuna's values, and the spaces that they are from."""

    number: int
    settings: tuple[str, ...]
    given: Mapping[str, Any]
    spaces: Mapping[str, optuna.distributions.BaseDistribution]

    @property
    def part(self) -> str:
        return f"trial-{self.number}"


@dataclass(frozen=True, slots=True)
class _Result:
    """aucs: of the validation cases, an epoch each. auc: of the kept epoch; None where the trial was pruned."""

    aucs: tuple[float, ...]
    auc: float | None


def search_model(request: FitRequest, folder: Path) -> Path:
    """Run what `python -m train search` was asked for; returns the card's path. `folder` is for working files."""
    began = time.monotonic()
    search = _Search(request, folder, load_cases(request, request.config))
    folder.mkdir(parents=True, exist_ok=True)
    parts = Parts(folder, search.key)
    with mlflow.tracked(request.model_id, search.config, search.loaded.prepared.manifest.sha256) as track:
        with parts.led():
            search.begin()
            while proposals := search.proposals():
                parts.do_all([one.part for one in proposals], search.do, meanwhile=search.write_trials)
                search.write_trials()
                for one in proposals:
                    if (result := search.result(one)) and result.auc is not None:
                        track.epoch("trials", {"epoch": one.number, "validation_auc": result.auc})
            chosen = search.best()
            log.info("the best of %d trials: %s", request.trials, " ".join(chosen.settings))
            made = search.refitted(parts, began)
        retained = min(made, key=_validation_loss)
        found = {"search": _on_card(search.trials(), made, retained)}
        limits = (*retained.candidate.limits, _spread_limit(made, retained, request.trials))
        candidate = replace(retained.candidate, run={**retained.candidate.run, **found}, limits=limits)
        path = publish(candidate, retained.state, request.out, with_weights=not request.no_weights)
        track.end({"best_validation_auc": search.best_auc()}, path.parent)
    return path


def join_search(request: FitRequest, folder: Path) -> None:
    """Try settings and fit seeds of a search that another process leads in the same folder."""
    search = _Search(request, folder, load_cases(request, request.config))
    Parts(folder, search.key).join(search.do)


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


class _Search:
    """What is tried, and what it came to: all of it from files in `folder`, so that every process sees the same."""

    def __init__(self, request: FitRequest, folder: Path, loaded: Loaded) -> None:
        self.request, self.config, self.folder, self.loaded = request, request.config, folder, loaded
        self._groups: list[list[_Proposal]] = []
        unlimited = replace(request, budget_minutes=None)  # which ends the fits of the seeds, not the trials
        self._marker = key_of([], run_key(unlimited, self.config, loaded), TOGETHER)
        self.key = key_of([], self._marker, request.trials, request.refits)

    def begin(self) -> None:
        """Clear the folder of a search with another configuration or other cases."""
        marker = self.folder / "study"
        if not marker.is_file() or marker.read_text() != self._marker:
            for old in (*self.folder.glob("trial-*"), *self.folder.glob("seed*")):
                shutil.rmtree(old, ignore_errors=True)
            (self.folder / TRIALS_FILE).unlink(missing_ok=True)
            write_whole(marker, self._marker)

    def proposals(self) -> list[_Proposal]:
        """The trials that come next, of which some may be over; empty when enough were tried."""
        return next((group for group in self._proposed() if any(self.result(one) is None for one in group)), [])

    def _proposed(self) -> list[list[_Proposal]]:
        """The trials, as many as belong together, as far as they can be proposed; some of the last may be open."""
        groups = self._groups
        while (n_proposed := sum(map(len, groups))) < self.request.trials:
            earlier = [one for group in groups for one in group]
            if any(self.result(one) is None for one in earlier[-TOGETHER:]):
                break
            study = self._study(earlier)
            group = []
            for number in range(n_proposed + 1, min(n_proposed + TOGETHER, self.request.trials) + 1):
                study.sampler = _sampler(1000 * self.config.seed + number)
                trial = study.ask()
                group.append(_Proposal(number, suggested(trial, self.config), trial.params, trial.distributions))
            groups.append(group)
        return groups

    def _study(self, earlier: Sequence[_Proposal]) -> optuna.Study:
        """In memory, with these trials and what they came to."""
        optuna.logging.set_verbosity(optuna.logging.WARNING)
        warm_up = max(1, self.config.epochs // 4)
        study = optuna.create_study(
            direction="maximize", pruner=optuna.pruners.MedianPruner(n_startup_trials=3, n_warmup_steps=warm_up)
        )
        for one in earlier:
            result = self.result(one)
            assert result is not None
            study.add_trial(
                optuna.trial.create_trial(
                    state=TrialState.PRUNED if result.auc is None else TrialState.COMPLETE,
                    value=result.auc,
                    params=dict(one.given),
                    distributions=dict(one.spaces),
                    intermediate_values=dict(enumerate(result.aucs, 1)),
                )
            )
        return study

    def result(self, one: _Proposal) -> _Result | None:
        """What a trial came to; None while it is not over."""
        try:
            said = json.loads((self.folder / one.part / _RESULT).read_text())
        except (OSError, ValueError):
            return None
        return _Result(tuple(said["aucs"]), said["auc"]) if said["settings"] == list(one.settings) else None

    def do(self, part: str) -> None:
        """Try the settings of "trial-N", or fit the best ones again for "seedN"."""
        if part.startswith("trial-"):
            for group in self._proposed():
                for one in group:
                    if one.part == part and self.result(one) is None:
                        self._try(one)
            return
        config = self._with_seed(int(part.removeprefix("seed")))
        fit_alone(self.request, config, self.loaded, self.folder / part)

    def _try(self, one: _Proposal) -> None:
        work = self.folder / one.part
        work.mkdir(exist_ok=True)
        self.write_trials()
        n_before = (one.number - 1) // TOGETHER
        study = self._study([other for group in self._proposed()[:n_before] for other in group])
        study.enqueue_trial(dict(one.given))
        trial = study.ask()
        suggested(trial, self.config)
        seen: list[float] = []

        def after_epoch(row: Mapping[str, float]) -> None:
            seen.append(float(row["validation_auc"]))
            trial.report(seen[-1], int(row["epoch"]))
            self.write_trials()
            if trial.should_prune():
                raise optuna.TrialPruned

        auc: float | None = None
        try:
            fitted = fit(
                with_settings(self.config, one.settings), self.loaded.squares, start=starter(self.request), folder=work,
                cache=feature_cache(), on_epoch=after_epoch,
            )  # fmt: skip
            auc = float(fitted.history[fitted.best_epoch - 1]["validation_auc"])
        except optuna.TrialPruned:
            log.info("%s is below the median of earlier ones", one.part)
        except Diverged:
            log.info("%s diverged", one.part)
        write_whole(work / _RESULT, json.dumps({"settings": one.settings, "aucs": seen, "auc": auc}))
        for path in work.glob("*.safetensors"):
            path.unlink()  # a trial's weights are not needed again; its epochs stay to be looked at

    def trials(self) -> list[Trial]:
        """All that were begun, in the order of their proposal."""
        found = []
        for one in (one for group in self._proposed() for one in group):
            result = self.result(one)
            if result is not None:
                state, auc = "complete", result.auc
                if auc is None:  # of one that diverged in its first epoch there is no AUC
                    state, auc = "pruned", result.aucs[-1] if result.aucs else None
                found.append(Trial(one.number, one.settings, state, len(result.aucs), auc))
            elif (self.folder / one.part).is_dir():
                aucs = _aucs_in(self.folder / one.part)
                found.append(Trial(one.number, one.settings, "running", len(aucs), aucs[-1] if aucs else None))
        return found

    def write_trials(self) -> None:
        """For who watches."""
        write_whole(self.folder / TRIALS_FILE, json.dumps([asdict(trial) for trial in self.trials()]))

    def best(self) -> Trial:
        """The complete trial of the highest validation AUC, the first of several. Raises InvalidInput where there is
        none: the first ones have no median to lie below, so all of them have diverged.
        """
        complete = [one for one in self.trials() if one.state == "complete"]
        if not complete:
            raise InvalidInput("Every trial diverged. Begin from a lower learning rate with --set learning_rate=….")
        return max(complete, key=lambda one: one.validation_auc or 0.0)

    def best_auc(self) -> float:
        return self.best().validation_auc or 0.0

    def _with_seed(self, seed: int) -> FitConfig:
        return replace(with_settings(self.config, self.best().settings), seed=seed)

    def refitted(self, parts: Parts, began: float) -> list[Made]:
        """The best settings with every seed, measured. Where there is a budget of minutes, by this process alone."""
        made: dict[str, Made] = {}

        def measured(part: str) -> None:
            log.info("%s", part)
            config = self._with_seed(int(part.removeprefix("seed")))
            folder = self.folder / part
            made[part] = make(self.request, config, self.loaded, folder, began=began, track=mlflow.Tracked())

        names = [f"seed{self.request.seed + number}" for number in range(self.request.refits)]
        parts.do_all(names, measured, is_shared=self.request.budget_minutes is None)
        for part in names:
            if part not in made:  # another process has fitted it
                measured(part)
        return [made[part] for part in names]


def _aucs_in(work: Path) -> list[float]:
    try:
        lines = (work / "epochs.jsonl").read_text().split("\n")[:-1]
    except OSError:
        return []
    return [float(json.loads(line)["validation_auc"]) for line in lines if line]


def _sampler(seed: int) -> optuna.samplers.TPESampler:
    """constant_liar: of the trials that are proposed together, each keeps its distance from the ones before it."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", optuna.exceptions.ExperimentalWarning)
        return optuna.samplers.TPESampler(seed=seed, n_startup_trials=TOGETHER, constant_liar=True)


def _validation_loss(made: Made) -> float:
    return float(made.candidate.history[made.candidate.best_epoch - 1]["validation_loss"])


def _on_card(trials: Sequence[Trial], made: list[Made], retained: Made) -> dict[str, Any]:
    return {
        "trials": [asdict(trial) for trial in trials],
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
