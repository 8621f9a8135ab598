"""What descriptors are worth within the outlines that a network proposes, of lesions that it did not learn from.

A site has outlines of this kind, not those that readers drew. The shipped network's own test cases are measured within
its first outline; where networks were fitted that each leave a part out (`train.publishing.outline.out_of_fold`), every
lesion is. Loads no TensorFlow.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
import pandas as pd

from core.evaluation.statistics.intervals import share
from core.models.cards import Card
from train.datasets.manifest import Manifest
from train.publishing.descriptors import (
    POSITIVE,
    QUALITY_HEAD,
    added,
    association,
    lesions_of,
    logistic,
    measure_cases,
    models,
    numbers_of,
    quality_rows,
    squeezed,
    with_image_scores,
)
from train.publishing.results import as_text, table

OUT_OF_FOLD, SHIPPED = "a network fitted without them", "the shipped network, its own test cases"


@dataclass(frozen=True, slots=True)
class Proposed:
    """What the network proposes first in a picture. mask: bool (H, W), None where it proposes nothing. rank: the place
    of the first outline that finds the lesion (IoU of `FOUND_IOU`), from 1; 0 where none does."""

    mask: np.ndarray | None
    rank: int


@dataclass(frozen=True, slots=True)
class MeasuredProposals:
    """Lesions and what one network proposed in each.

    lesions: case, patient, label, source, is_outlined, is_lesion (the first outline overlaps the lesion by an IoU of
    .5), a row a lesion. measured: as of `measure_cases`, of those with an outline.
    """

    lesions: pd.DataFrame
    measured: pd.DataFrame


def measure_proposals(manifest: Manifest, proposed: Mapping[str, Proposed]) -> MeasuredProposals:
    """Measure within the first outline of each benign or malignant lesion that `proposed` speaks of."""
    cases = lesions_of(manifest.cases)
    cases = cases[cases["file"].isin(proposed.keys())]
    lesions = pd.DataFrame({
        "case": cases["file"], "patient": cases["patient_key"], "label": cases["label"], "source": cases["source"],
        "is_outlined": [proposed[file].mask is not None for file in cases["file"]],
        "is_lesion": [proposed[file].rank == 1 for file in cases["file"]],
    })  # fmt: skip
    outlines = {file: one.mask for file, one in proposed.items() if one.mask is not None}
    return MeasuredProposals(lesions.reset_index(drop=True), measure_cases(manifest, outlines))


def proposed_page(
    own: MeasuredProposals, readers: pd.DataFrame, card: Card, unseen: MeasuredProposals | None = None
) -> list[str]:
    """The measured part of docs/findings.md, lines of Markdown.

    own: the shipped network's own test cases. readers: as of `measure_cases`, within what readers drew. card: of the
    image model to compare with. unseen: every lesion, outlined by networks that were fitted without it.
    """
    outlined = {SHIPPED: own} | ({OUT_OF_FOLD: unseen} if unseen is not None else {})
    main = own if unseen is None else unseen
    cases, scores = transferred(readers, own, card)
    return [
        "#### How many lesions have an outline", "",
        "By label, with 95 % intervals over patients. *Is the lesion*: the first outline overlaps it by an IoU of .5.",
        "", *_found(outlined), "",
        "#### Words and malignancy, in the network's outlines", "",
        "Share of malignant lesions among those with a word, with its 95 % interval over patients.", "",
        *association(main.measured), "",
        "#### Models on the numbers, in the network's outlines", "",
        *models(main.measured, card), "",
        "What was fitted within readers' outlines, on lesions of other patients, within those of the shipped network:",
        "", *table(QUALITY_HEAD, quality_rows(cases, scores, card)), "", *added(cases, scores),
    ]  # fmt: skip


def _found(outlined: Mapping[str, MeasuredProposals]) -> list[str]:
    rows = []
    for by, found in outlined.items():
        for (source, label), part in found.lesions.groupby(["source", "label"]):
            patients = part["patient"].to_numpy()
            without = share(~part["is_outlined"].to_numpy(bool), patients)
            right = share(part["is_lesion"].to_numpy(bool), patients)
            rows.append([by, str(source), str(label), str(len(part)), as_text(without), as_text(right)])
    return table(["outlined by", "collection", "label", "lesions", "without an outline", "is the lesion"], rows)


def transferred(
    readers: pd.DataFrame, own: MeasuredProposals, card: Card
) -> tuple[pd.DataFrame, dict[str, np.ndarray]]:
    """The outlined test cases of the shipped network, and scorer -> what is said of them.

    "image model": its log odds out of fold. "descriptors", "both": probabilities by models that were fitted within
    readers' outlines, on lesions of other patients.
    """
    others = with_image_scores(readers, card)
    others = others[~others["patient"].isin(set(own.lesions["patient"]))]
    names = numbers_of(others)
    cases = with_image_scores(own.measured.reindex(columns=readers.columns), card)
    labels = (others["label"] == POSITIVE).to_numpy()
    scores = {"image model": cases["image"].to_numpy()}
    for name, has_image in (("descriptors", False), ("both", True)):
        fitted_on, asked = (
            np.column_stack([squeezed(one, names), *([one["image"]] if has_image else [])]) for one in (others, cases)
        )
        scores[name] = logistic().fit(fitted_on, labels).predict_proba(asked)[:, 1]
    return cases, scores
