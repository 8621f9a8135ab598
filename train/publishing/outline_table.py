"""How well an outline network outlines: measures of its table of cases, and the table of docs/findings.md from them.

Loads no TensorFlow.
"""

from __future__ import annotations

import numpy as np
import pandas as pd

from core.evaluation.statistics.intervals import Bootstrap, percentile, share
from core.types import Estimate
from core.wording import how_many
from train.publishing.results import as_text, table


def summary(cases: pd.DataFrame) -> dict[str, Estimate]:
    """The measures of some rows of the table of cases, with intervals over patients; those that there are cases for."""
    found = {}
    ill = cases[cases["lesions"] > 0]
    for name in ("dice", "iou", "hd95"):
        there = ill[ill[name].notna()]
        if len(there):
            found[name] = _mean(there[name].to_numpy(), there["patient"].to_numpy())
    if len(ill):
        hits = np.concatenate([np.arange(int(n)) < int(k) for n, k in zip(ill["lesions"], ill["found"], strict=True)])
        found["found"] = share(hits, np.repeat(ill["patient"].to_numpy(), ill["lesions"].astype(int)))
        found["false_in_abnormal"] = share((ill["false"] > 0).to_numpy(), ill["patient"].to_numpy())
    normal = cases[cases["label"] == "normal"]
    if len(normal):
        found["false_in_normal"] = share((normal["false"] > 0).to_numpy(), normal["patient"].to_numpy())
    return found


def _mean(values: np.ndarray, patients: np.ndarray) -> Estimate:
    samples = [values @ weights / weights.sum(0) for weights in Bootstrap(patients, len(values)).blocks()]
    return percentile(float(values.mean()), np.concatenate(samples), len(values))


def outline_page(cases: pd.DataFrame) -> list[str]:
    """The measured table of an outline network for docs/findings.md, lines of Markdown."""
    rows = []
    for (fitted_on, source), part in cases.groupby(["fitted_on", "source"], sort=False):
        found = summary(part)
        texts = [as_text(found.get(name)) for name in
                 ("dice", "iou", "hd95", "found", "false_in_abnormal", "false_in_normal")]  # fmt: skip
        epochs = part["epochs"].iloc[0] if "epochs" in part else np.nan  # older tables do not say
        fitted = str(fitted_on) if np.isnan(epochs) else f"{fitted_on}, {how_many(int(epochs), 'epoch')}"
        rows.append([fitted, str(source), str(len(part)), *texts])
    head = ["fitted on", "measured on", "pictures", "Dice", "IoU", "HD95, share of the diagonal", "lesions found",
            "false outline, abnormal", "false outline, normal"]  # fmt: skip
    return table(head, rows)
