"""The form that starts a training: what, on which data, for how long, and the command that does the same."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import streamlit as st

from core.models.registry import ARCHITECTURES, OUTLINE
from core.records import data_sets
from core.records.data_sets import VersionRow
from core.records.people.permissions import Actor
from core.types import Modality
from pages.parts.markdown import plain
from pages.parts.messages import refusals_shown
from pages.parts.session import database, settings
from pages.parts.training_tables import duration_text
from train.queue import duration, trainings
from train.recipe.outline import STARTS, OutlineConfig, OutlineRequest, Request
from train.recipe.recipes import CHOICES, SETTABLE
from train.recipe.request import INITS, FitRequest, seeds_of, with_seeds

PRESETS = {
    "Quick look": "5 epochs: shows in minutes whether the data can be learned at all.",
    "As recommended": "Epochs and side of the architecture's own recipe.",
    "In 5 folds": "The recipe, measured in 5 folds: the most honest numbers of a small data set.",
    "Search": "12 trainings with other settings, hopeless ones ended early; the best is fitted again with 3 seeds.",
}
_OF_OUTLINES = ("Quick look", "As recommended")
"""Presets of the outline network, which is measured on one split and has no settings to search."""
_INIT_WORDS = {
    "offline": "what was installed with it (no internet)",
    "imagenet": "ImageNet weights (downloaded at first use)",
    "random": "nothing: learn everything here",
}


_REGIMES = {
    "recipe": "As the recipe says",
    "features": "Features of a frozen backbone",
    "blocks": "Fine-tune the last blocks",
    "all": "Train everything",
}


def begin_training(actor: Actor, versions: list[VersionRow]) -> list[int]:
    """The numbers of the jobs once they are in the queue: one a seed."""
    by_id = {version.id: version for version in versions}
    left, right = st.columns(2)
    version_id = left.selectbox(
        "Data set",
        list(by_id),
        format_func=lambda one: f"{by_id[one].name}, version {by_id[one].number}",
        key="job_data",
    )
    modality = Modality(by_id[version_id].modality)
    titles = {entry.id: entry.title for entry in ARCHITECTURES if entry.reads(modality)}
    titles |= {OUTLINE: "Outline network"} if modality is OutlineRequest.modality else {}
    architecture = right.selectbox("Architecture", list(titles), format_func=titles.__getitem__, key="job_architecture")
    is_outline = architecture == OUTLINE
    presets = {name: PRESETS[name] for name in (_OF_OUTLINES if is_outline else PRESETS)}
    key = "job_preset_outline" if is_outline else "job_preset"
    preset = st.segmented_control("Preset", list(presets), default="As recommended", required=True, key=key)
    st.caption(f"{presets[preset]} What is chosen below counts instead.")
    version = by_id[version_id]
    with refusals_shown():
        requests: Sequence[Request] = (
            _outline_requests(preset) if is_outline else _requests(version, architecture, preset)
        )
        _show_cost(actor, requests, version)
        if version.is_leaking:
            st.error(
                "This version leaks. The card will say so, and promoting the network needs a reason."
                if is_outline
                else "This version leaks, so training refuses it. Make a new split on the page Data sets."
            )
        label = "Start the training" if len(requests) == 1 else f"Start {len(requests)} trainings"
        if st.button(label, type="primary", icon=":material/play_arrow:", key="job_start"):
            return trainings.enqueue_all(database(), actor, requests, version.id)
    return []


def _requests(version: VersionRow, architecture: str, preset: str) -> list[FitRequest]:
    """What the form says, once a seed; a field that is left empty is the recipe's."""
    epochs = 5 if preset == "Quick look" else None
    folds = version.folds or (5 if preset == "In 5 folds" else 0)
    with st.expander("Advanced settings", key="job_advanced"):
        init = st.selectbox("Start from", INITS, format_func=_INIT_WORDS.__getitem__, key=f"job_init_{architecture}")
        unfreeze = _unfreeze()
        columns = st.columns(4)
        chosen = columns[0].number_input("Epochs", 1, 500, epochs, key=f"job_epochs_{preset}", placeholder="recipe")
        side = columns[1].number_input("Side in pixels", 32, 1024, None, key="job_side", placeholder="recipe")
        words = columns[2].text_input(
            "Seeds", "0", key="job_seeds", help="Several, with commas between: one training each, to see the spread"
        )
        parts = columns[3].number_input(
            "Folds", 0, 10, folds, key=f"job_folds_{preset}_{version.folds}", help="0: a plain split"
        )
        trials = 12 if preset == "Search" else 0
        left, right = st.columns(2)
        n_trials = left.number_input(
            "Trials", 0, 200, trials, key=f"job_trials_{preset}", help="Settings that a search tries; 0: no search"
        )
        refits = right.number_input("Refits", 1, 10, 3, key="job_refits", help="Seeds for the best of them")
        workers = _n_workers()
        labels = sorted({label for row in version.counts.values() for label in row})
        known = "malignant" in labels or "idc" in labels
        positive = "" if known else st.selectbox("The label that counts as positive", labels, key="job_positive")
        name = st.text_input("Name of the model", key="job_name", placeholder=f"{version.modality}-{architecture}")
        settings = st.text_input(
            "Other settings",
            key="job_settings",
            placeholder="mixup=0.2 optimizer=sgd",
            help="name=value, with spaces between: " + ", ".join((*SETTABLE, *CHOICES)),
        )
        why = st.text_input("Why this training, for the card", key="job_why")
    asked = FitRequest(
        architecture,
        Modality(version.modality),
        init=init,
        epochs=int(chosen) if chosen else None,
        side=int(side) if side else None,
        folds=int(parts),
        name=name.strip(),
        positive=positive or "",
        why=why.strip(),
        unfreeze=unfreeze,
        settings=tuple(settings.split()),
        trials=int(n_trials),
        refits=int(refits),
        workers=workers,
    )
    return with_seeds(asked, words)


def _outline_requests(preset: str) -> list[OutlineRequest]:
    """What the form says of the outline network, once a seed; a field that is left empty is the recipe's."""
    st.caption(
        "It learns from the outlines of lesions (masks) in the data set, and from normal pictures that nothing is to "
        "be outlined there."
    )
    usual = OutlineConfig()
    with st.expander("Advanced settings", key="job_advanced"):
        init = st.selectbox("Start from", STARTS, format_func=_INIT_WORDS.__getitem__, key="job_init_outline")
        left, middle, right = st.columns(3)
        epochs = left.number_input(
            "Epochs", 1, 500, 5 if preset == "Quick look" else None, key=f"job_epochs_outline_{preset}",
            placeholder=str(usual.epochs),
        )  # fmt: skip
        side = middle.number_input(
            "Side in pixels", 64, 1024, None, step=32, key="job_side_outline", placeholder=str(usual.side),
            help="A multiple of 32",
        )  # fmt: skip
        words = right.text_input(
            "Seeds", "0", key="job_seeds_outline", help="Several, with commas between: one training each"
        )
    config = OutlineConfig(side=int(side) if side else usual.side, epochs=int(epochs) if epochs else usual.epochs)
    return [OutlineRequest(replace(config, seed=seed), init=init) for seed in seeds_of(words)]


def _n_workers() -> int:
    """Machines of the site's cluster that fit the one network together; 1, unasked, where it has none."""
    if not settings().ray_address:
        return 1
    number = st.number_input(
        "Workers", 1, 64, 1, key="job_workers",
        help="Machines of the cluster that fit one network together: each takes its part of every batch. Worth it "
        "where a step takes much longer than sending all learned weights from machine to machine.",
    )  # fmt: skip
    return int(number)


def _unfreeze() -> str:
    """The regime in the words of `--unfreeze`; "" for the recipe's."""
    left, right = st.columns([3, 1], vertical_alignment="bottom")
    regime = left.selectbox("Regime", list(_REGIMES), format_func=_REGIMES.__getitem__, key="job_regime")
    blocks = right.number_input(
        "Blocks",
        1,
        20,
        1,
        key="job_blocks",
        disabled=regime != "blocks",
        help=None if regime == "blocks" else "Counts for fine-tuning the last blocks.",
    )
    return {"recipe": "", "features": "0", "blocks": str(int(blocks)), "all": "all"}[regime]


def _show_cost(actor: Actor, requests: Sequence[Request], version: VersionRow) -> None:
    """How long it will take, and the same thing as a command."""
    request = requests[0]
    took = duration.estimate(database(), actor, request, version.n_training)
    if took is None:
        st.caption("No training of this architecture was timed yet; the first epoch will tell how long it takes.")
    else:
        minutes = took.minutes * len(requests)
        rest = "" if took.is_whole else ", and the time to read the cases and to score the model, which comes on top"
        st.caption(f"About {duration_text(60 * minutes)} at most, by {plain(took.source)}{rest}.")
    manifest = data_sets.manifest_path(settings(), version.manifest_sha256)
    st.caption("The same from a terminal on this machine:")
    here: Request = replace(request, data=manifest, root=data_sets.files_dir(settings()))
    if isinstance(here, FitRequest):
        here = replace(here, workers=1)  # on one machine
    st.code(here.to_command(), language="bash", wrap_lines=True)
