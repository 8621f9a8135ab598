"""What a run tells MLflow, where `MLFLOW_TRACKING_URI` is set: parameters, a row an epoch, at the end card and scores.

MLflow is an optional extra (`requirements-mlflow.txt`). A server that cannot be reached, or a missing package, costs
the run nothing but a line in the log: what counts is what the run writes itself. Pixels and names of files or patients
are not sent.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import asdict
from pathlib import Path
from typing import Any

import pandas as pd

from core.settings import Settings
from train.recipe.recipes import FitConfig

log = logging.getLogger(__name__)

EXPERIMENT = "SecondRead"


@contextmanager
def tracked(model_id: str, config: FitConfig, data_sha256: str) -> Iterator[Tracked]:
    """A run at MLflow around the block; one that raises is marked as failed there."""
    track = Tracked()
    track.begin(model_id, config, {"data_sha256": data_sha256})
    try:
        yield track
    except BaseException:
        track.fail()
        raise


class Tracked:
    """One run at MLflow; does nothing where none was asked for or none can be reached."""

    def __init__(self) -> None:
        self._client: Any = None
        self._run_id = ""

    def begin(self, model_id: str, config: FitConfig, tags: Mapping[str, str]) -> None:
        """Begin a run there, if one was asked for."""
        if not Settings.mlflow_tracking_uri():
            return
        try:
            from mlflow import MlflowClient
            from mlflow.environment_variables import MLFLOW_HTTP_REQUEST_MAX_RETRIES, MLFLOW_HTTP_REQUEST_TIMEOUT
        except ImportError:
            log.warning(
                "MLFLOW_TRACKING_URI is set, but MLflow is not installed: pip install -r requirements-mlflow.txt"
            )
            return

        # A server that is away must not hold the training up for MLflow's many minutes of trying again.
        for variable, value in ((MLFLOW_HTTP_REQUEST_MAX_RETRIES, 1), (MLFLOW_HTTP_REQUEST_TIMEOUT, 10)):
            if not variable.is_set():  # type: ignore[no-untyped-call]
                variable.set(value)  # type: ignore[no-untyped-call]

        def begin() -> None:
            client = MlflowClient()
            found = client.get_experiment_by_name(EXPERIMENT)
            experiment = found.experiment_id if found else client.create_experiment(EXPERIMENT)
            self._run_id = client.create_run(experiment, run_name=model_id, tags=dict(tags)).info.run_id
            self._client = client
            for name, value in asdict(config).items():
                client.log_param(self._run_id, name, value)

        self._guarded(begin)

    @property
    def is_on(self) -> bool:
        """Whether there is a run that is told."""
        return self._client is not None

    def epoch(self, part: str, row: Mapping[str, float]) -> None:
        """A finished epoch; `part` names the fold."""
        if not self.is_on:
            return

        def report() -> None:
            prefix = f"{part}." if part else ""
            for name, value in row.items():
                if name != "epoch":
                    self._client.log_metric(self._run_id, f"{prefix}{name}", float(value), step=int(row["epoch"]))

        self._guarded(report)

    def end(self, measures: Mapping[str, float], folder: Path) -> None:
        """What was measured on the test cases, and of the model's folder the card, the weights and the bare scores."""
        if not self.is_on:
            return

        def report() -> None:
            for name, value in measures.items():
                self._client.log_metric(self._run_id, f"test.{name}", value)
            for path in (folder / "card.json", *sorted(folder.glob("*.safetensors"))):
                self._client.log_artifact(self._run_id, str(path))
            for path in sorted(folder.glob("*_scores.csv")):
                scores = pd.read_csv(path).drop(columns=["case", "patient"])  # which may name files and people
                self._client.log_text(self._run_id, scores.to_csv(index=False), path.name)
            self._client.set_terminated(self._run_id)

        self._guarded(report)

    def fail(self) -> None:
        """Mark the run as failed."""
        if self.is_on:
            self._guarded(lambda: self._client.set_terminated(self._run_id, "FAILED"))

    def _guarded(self, report: Callable[[], None]) -> None:
        try:
            report()
        except Exception as error:  # whatever a tracking server does, the training goes on
            log.warning("MLflow was not told (%s); the training goes on without it.", type(error).__name__)
            self._client, self._run_id = None, ""
