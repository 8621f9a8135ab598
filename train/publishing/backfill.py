"""What models lack that were made by an earlier version: their table of cases, and what their cards must own up to.

The table is made from their data, without training anew; the card from what stands in the model's folder.

Which case was in which split is read from the model's own scores and held against the hash of the split on its card.
Loads TensorFlow only when pictures are read.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import pandas as pd

from core.errors import InvalidInput, ModelUnavailable, NotFound
from core.models.card_cases import read_cases
from core.models.cards import (
    WEAK,
    Card,
    LocalisationOnCard,
    members_of,
    read_card,
    read_test_scores,
    read_validation_scores,
)
from core.models.registry import architecture
from core.settings import Settings
from train.datasets.cases import split_sha256, with_subgroups
from train.datasets.leakage import find_manifest, split_of
from train.datasets.manifest import Manifest
from train.publishing.ensembles import cases_of_members, ensemble_title, leading
from train.publishing.publish import (
    PLAIN_RULE,
    THRESHOLD_RULE,
    cases_table,
    judged,
    put_cases,
    put_test_scores,
    trace_of,
    write_card,
)
from train.publishing.threshold import branch_on_card, choose_threshold, map_limits, own_class_of, weakness

Traces = dict[str, dict[str, Any]]

_DID_BETTER = "did better on the same test cases; its card has the figures."


class Lister:
    """Lists the cases of one model after the other; a picture that several were made from is read once."""

    def __init__(self, data: Path, progress: Callable[[int, int], None] = lambda done, of: None) -> None:
        """data: holds the manifests, itself or in folders below. progress: is told (pictures read, of how many)."""
        self._settings = replace(Settings.from_environment(), data_root=str(data.resolve()))
        self._progress = progress
        self._traces: dict[tuple[str, Path], Traces] = {}

    def list_cases(self, folder: Path) -> bool:
        """Write the table and name it on the card; False if a right one is there. An ensemble needs its members' first.

        Raises NotFound where the data is not below `data`, InvalidInput where it is not what the card names,
        ModelUnavailable for an ensemble whose members have no table yet.
        """
        card = read_card(folder)
        try:
            if read_cases(card) is not None:
                return False
        except ModelUnavailable:
            pass  # missing or damaged: made again
        table = self._of_ensemble(card) if card.members else self._of_network(card)
        write_card(folder, {**card.content(), "cases": put_cases(folder, card.weights_sha256, table)})
        return True

    def group_cases(self, folder: Path) -> bool:
        """Write what the test cases can be grouped by beside their scores; False if nothing is to be added.

        Raises NotFound and InvalidInput as `list_cases`.
        """
        card = read_card(folder)
        path = folder / f"{card.weights_sha256[:8]}.test_scores.csv"
        scores = pd.read_csv(path, dtype=str, keep_default_na=False)
        known = members_of(card)[0] if card.members else card
        manifest = self.manifest_of(known)
        grouped = with_subgroups(scores, same_cases(known, manifest), manifest.root)
        if list(grouped.columns) == list(scores.columns):
            return False
        put_test_scores(folder, card.weights_sha256, grouped)
        return True

    def _of_ensemble(self, card: Card) -> pd.DataFrame:
        table = cases_of_members(members_of(card))
        if table is None:
            raise ModelUnavailable(f"A member of {card.model_id} has no list of cases yet. List the members' first.")
        return table

    def _of_network(self, card: Card) -> pd.DataFrame:
        manifest = self.manifest_of(card)
        cases = same_cases(card, manifest)
        traces = self._traces_of(card, manifest, list(cases["file"]))
        return cases_table(cases, [traces[file] for file in cases["file"]])

    def manifest_of(self, card: Card) -> Manifest:
        """The manifest that the card names. Raises NotFound where it is not below `data`."""
        data = card.data
        manifest = find_manifest(self._settings, data.sha256, data.name.split(", "))
        if manifest is None:
            raise NotFound(
                f"The cases of {card.model_id} ({data.name}, data {data.sha256[:8]}) were not found. Give with "
                "--data the folder that holds their manifest.csv and files."
            )
        return manifest

    def _traces_of(self, card: Card, manifest: Manifest, files: Sequence[str]) -> Traces:
        from train.fitting.squares import read_case

        known = self._traces.setdefault((card.modality.value, manifest.root), {})
        for done, file in enumerate(files, start=1):
            if file not in known:
                known[file] = trace_of(read_case(manifest.root / file, card.modality))
            self._progress(done, len(files))
        return known


def same_cases(card: Card, manifest: Manifest) -> pd.DataFrame:
    """The manifest's cases with the `split` or `fold` that the model's scores and its card agree on.

    Raises InvalidInput where they do not: other cases than it was trained and measured on must not be listed as its.
    """
    cases = split_of(manifest, card).cases
    if card.folds:
        cases = cases.drop(columns=["split", "fold"], errors="ignore").assign(
            fold=cases["split"].str.removeprefix("fold ")
        )
    else:
        cases = cases.drop(columns="fold", errors="ignore")
    scores = pd.read_csv(card.folder / f"{card.weights_sha256[:8]}.test_scores.csv", dtype=str, keep_default_na=False)
    measured = set(cases["file"]) if "fold" in cases else set(cases.loc[cases["split"] == "test", "file"])
    if measured != set(scores["case"]) or split_sha256(cases) != card.data.split_sha256:
        raise InvalidInput(
            f"The cases of {card.model_id} in this data are divided otherwise than its card and its scores say, so "
            "they are not listed. Give the data set as it was when the model was trained."
        )
    return cases


def amend(folder: Path) -> list[str]:
    """Let a published card say what this version would have it say; the changes in words, none where it does already.

    Limits of its heat map that it does not state are added, an ensemble's title says what tells it from others, whether
    it is weak is said by its scores and the level of this version, and what its scores give of its area under the ROC
    curve (also fold by fold), its threshold's interval and its sensitivity at it, where it names none or others. A
    threshold that was chosen without an allowance for chance is replaced, and the card says what it was; weights and
    scores stay as they are.
    """
    card = read_card(folder)
    scores, tested = read_validation_scores(card), read_test_scores(card)
    limits, changes = _limits(card, tested)
    update: dict[str, Any] = {"limits": limits} if changes else {}
    if scores is not None and card.threshold.rule == PLAIN_RULE and not card.folds:
        is_positive, values = (scores["label"] == card.positive).to_numpy(), scores[card.positive].to_numpy()
        chosen = choose_threshold(is_positive, values, scores["patient"].astype(str).to_numpy())
        why = f"{card.threshold.value} was chosen without the allowance for chance"
        update["threshold"] = {**card.threshold.model_dump(), "value": chosen, "rule": THRESHOLD_RULE, "corrected": why}
        changes.append(f"Threshold {chosen}: {why}.")
    if card.ensemble is not None:
        title = ensemble_title(card.model_id, card.modality.value, len(card.members), card.ensemble.method)
        if card.title != title:
            update["title"] = title
            changes.append(f"Title: {title}.")
    if tested is not None:
        content = {**card.content(), **update}
        found = {key: value for key, value in judged(content, tested, scores).items() if content.get(key) != value}
        update |= found
        if "measured" in found:
            changes.append("AUC on the test cases: {auc} ({low} to {high}).".format_map(found["measured"]))
        if "folds" in found:
            changes.append(f"AUC of each fold: {', '.join(map(str, found['folds']['areas']))}.")
        if "threshold" in found:
            changes.append("Threshold on resampled patients: {low} to {high}.".format_map(found["threshold"]))
        if "promise" in found:
            changes.append("Sensitivity {promised} promised, {tested} tested.".format_map(found["promise"]))
    if changes:
        write_card(folder, {**card.content(), **update})
    return changes


def _limits(card: Card, tested: pd.DataFrame | None) -> tuple[list[str], list[str]]:
    """(the limits that a card should state, what changes by them in words)."""
    limits = [*card.limits, *(limit for limit in map_limits(card.localisation) if limit not in card.limits)]
    changes = limits[len(card.limits) :]
    if tested is not None:
        said, weak = [limit for limit in limits if limit.startswith(WEAK)], list(weakness(tested, card.positive))
        if said != weak:
            limits = [*(limit for limit in limits if limit not in said), *weak]
            changes += weak or ["No longer called weak."]
    return limits, changes


def name_the_better(card: Card, others: Sequence[Card]) -> list[str]:
    """Let a published card name which of `others` have the larger area under the ROC curve on its own test cases, and
    no other any longer; the changes in words."""
    area = card.measured.auc if card.measured is not None else 1.0
    better = [
        f"{other.title} {_DID_BETTER}"
        for other in others
        if other.data.split_sha256 == card.data.split_sha256 and other.measured and other.measured.auc > area
    ]
    said = [limit for limit in card.limits if limit.endswith(_DID_BETTER)]
    if said == better:
        return []
    write_card(card.folder, {**card.content(), "limits": [*(one for one in card.limits if one not in said), *better]})
    return [*better, *(f"No longer: {limit}" for limit in said if limit not in better)]


def measure_maps(folder: Path, data: Path) -> list[str]:
    """Let a published card say how often its heat map finds the lesions of the other collections that it was measured
    on, and where it is no place there; the changes in words, none where it does already or nothing is outlined. An
    ensemble says what its leading member says, whose maps it shows, which comes before it.

    data: holds the manifests that name the outlines, itself or in folders below, and their files.
    """
    card = read_card(folder)
    if card.members:
        weights = card.ensemble.weights if card.ensemble is not None else ()
        found = dict(leading(members_of(card), weights).localisation)
    elif card.has_weights:
        found = {**card.localisation, **_maps_elsewhere(card, data)}
    else:
        return []
    new = [name for name in found if name not in card.localisation]
    if not new:
        return []
    limits = [*card.limits, *(limit for limit in map_limits(found) if limit not in card.limits)]
    games = {name: one.model_dump() for name, one in found.items()}
    write_card(folder, {**card.content(), "localisation": games, "limits": limits})
    return [
        f"Map on {found[name].n} lesions, {name}: {found[name].pointing_game['fused']:.3f}, centre of the image "
        f"{found[name].image_centre:.3f}."
        for name in new
    ] + limits[len(card.limits) :]


def _maps_elsewhere(card: Card, data: Path) -> dict[str, LocalisationOnCard]:
    """The pointing game on the outlined cases of each collection that stands in scores beside the card."""
    tables = sorted(card.folder.glob(f"{card.weights_sha256[:8]}.on-*.test_scores.csv"))
    if not tables:
        return {}
    from train.fitting.folds import pointing_game
    from train.fitting.squares import load_squares
    from train.publishing.evaluate import graph_of

    masks = _outlines_below(data)
    found = {}
    for path in tables:
        scores = pd.read_csv(path, dtype=str, keep_default_na=False)
        scores = scores[scores["case"].isin(masks) & scores["label"].isin(card.classes)]
        collections = sorted(set(scores.get("source", ())))
        name = own_class_of(", ".join(collections) or "another collection")
        if scores.empty or name in card.localisation:
            continue
        cases = scores.assign(file=scores["case"], mask=scores["case"].map(masks), split="test")
        squares = load_squares(
            cases, data, modality=card.modality, side=card.side, classes=card.classes, positive=card.positive,
            columns=card.input.columns, chest_wall=card.input.chest_wall, channels=card.channels,
        )  # fmt: skip
        game = pointing_game(graph_of(card), squares, only_positive=False)
        if game.n:
            found[name] = LocalisationOnCard(n=game.n, pointing_game=game.hits, image_centre=game.centre)
    return found


def _outlines_below(data: Path) -> dict[str, str]:
    """picture -> its outline, both relative to `data`, of every manifest in or below it that names outlines."""
    found: dict[str, str] = {}
    for path in sorted(data.rglob("manifest.csv")):
        rows = pd.read_csv(path, dtype=str, keep_default_na=False)
        if {"file", "mask"} <= set(rows.columns):
            rows = rows[rows["mask"] != ""]
            found |= dict(zip(rows["file"], rows["mask"], strict=True))
    return {file: mask for file, mask in found.items() if (data / file).is_file() and (data / mask).is_file()}


def measure_branches(folder: Path, data: Path) -> list[str]:
    """Let a published card say what each branch of its network adds; the changes in words, none where it does already
    or where it cannot be measured: of one branch, without weights or test cases of both classes, or in folds, whose
    networks are not kept.

    data: holds the manifests, itself or in folders below. Raises NotFound where the model's own is not there.
    """
    card = read_card(folder)
    if card.members or card.folds or card.branches or not card.has_weights:
        return []
    if len(architecture(card.architecture).branches) < 2:
        return []
    from train.fitting.folds import logits_without, scores_table
    from train.fitting.squares import load_squares
    from train.publishing.evaluate import graph_of

    manifest = Lister(data).manifest_of(card)
    scores = read_test_scores(card)
    if scores is None or len(set(scores["label"] == card.positive)) < 2:
        return []  # an area needs both classes
    cases = same_cases(card, manifest).set_index("file", drop=False).loc[scores["case"]].reset_index(drop=True)
    squares = load_squares(
        cases.assign(mask=""), manifest.root,
        modality=card.modality, side=card.side, classes=card.classes, positive=card.positive,
        columns=card.input.columns, chest_wall=card.input.chest_wall, channels=card.channels,
    )  # fmt: skip
    found = {
        branch: branch_on_card(scores, scores_table(squares, logits, card.calibration), card.positive)
        for branch, logits in logits_without(graph_of(card), squares.pixels).items()
    }
    if found:
        write_card(folder, {**card.content(), "branches": found})
    return [
        f"AUC without {branch}: {one['auc_without']} (the whole adds {one['adds']})." for branch, one in found.items()
    ]
