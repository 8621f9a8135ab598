"""Recipes, regimes and the knobs that can be set: what a configuration becomes before anything is trained."""

from __future__ import annotations

from dataclasses import fields

import pytest

from core.errors import InvalidInput
from core.types import Modality
from train.recipe.recipes import CHOICES, SETTABLE, FitConfig, in_regime, recipe, with_settings


def fusion(init: str = "offline", modality: Modality = Modality.ULTRASOUND) -> FitConfig:
    return recipe("fusion", modality, init, 0)


def test_every_regime_freezes_what_it_says() -> None:
    assert fusion().frozen == "nothing"
    assert in_regime(fusion(), "0").frozen == "backbone"
    assert in_regime(fusion(), "2").frozen == "blocks" and in_regime(fusion(), "2").unfreeze == 2
    gap = recipe("vgg16_gap", Modality.ULTRASOUND, "offline", 0)
    assert gap.frozen == "backbone" and in_regime(gap, "0") == gap
    tuned = in_regime(gap, "all")
    assert tuned.frozen == "nothing" and tuned.learning_rate <= 1e-4 and tuned.head_epochs > 0
    assert in_regime(fusion(), "all") == fusion()


def test_a_classifier_by_regression_is_of_a_frozen_backbone_alone() -> None:
    lite = recipe("efficientnet_lite2", Modality.MAMMOGRAPHY, "offline", 0)
    assert (lite.classifier, lite.frozen, lite.epochs, lite.columns) == ("regression", "backbone", 1, 192)
    assert in_regime(lite, "0") == lite
    whole = in_regime(lite, "all")
    assert (whole.classifier, whole.frozen) == ("steps", "nothing") and whole.epochs > 1
    assert recipe("efficientnet_lite2", Modality.MAMMOGRAPHY, "random", 0).classifier == "steps"
    assert with_settings(
        in_regime(recipe("vgg16_gap", Modality.ULTRASOUND, "offline", 0), "0"), ["classifier=regression"]
    )
    for config in (fusion(), whole):
        with pytest.raises(InvalidInput, match="--unfreeze 0"):
            with_settings(config, ["classifier=regression"])


def test_what_is_random_cannot_be_frozen() -> None:
    cnn = recipe("cnn", Modality.ULTRASOUND, "offline", 0)
    for config in (cnn, fusion("random")):
        for blocks in ("0", "1"):
            with pytest.raises(InvalidInput, match="random weights"):
                in_regime(config, blocks)
        assert in_regime(config, "all") == config


@pytest.mark.parametrize("words", ["", "-1", "1.5", "some", "²", "ALL"])
def test_a_regime_that_is_none_is_refused(words: str) -> None:
    with pytest.raises(InvalidInput, match="number of last blocks or the word all"):
        in_regime(fusion(), words)


def test_settings_change_the_configuration_and_nothing_else() -> None:
    config = with_settings(fusion(), ["mixup=0.2", " optimizer = sgd ", "batch=8", "keep=accuracy"])
    assert (config.mixup, config.optimizer, config.batch, config.keep) == (0.2, "sgd", 8, "accuracy")
    changed = {one.name for one in fields(FitConfig) if getattr(config, one.name) != getattr(fusion(), one.name)}
    assert changed == {"mixup", "optimizer", "batch", "keep"}


@pytest.mark.parametrize(
    ("setting", "sentence"),
    [
        ("mixup", "mixup can be 0 to 10, not ''"),
        ("mixup=-1", "mixup can be 0 to 10"),
        ("batch=8.5", "batch can be 2 to 256"),
        ("learning_rate=nan", "learning_rate can be"),
        ("learning_rate=inf", "learning_rate can be"),
        ("optimizer=adam", "adamw or sgd, not 'adam'"),
        ("chest_wall=left", "Only a mammogram has a chest wall"),
        ("chest_wall=right", "chest_wall can be left"),
        ("architecture=cnn", "No setting is called 'architecture'"),
        ("frozen=nothing", "No setting is called 'frozen'"),
    ],
)
def test_a_setting_that_cannot_be_is_refused_with_what_can(setting: str, sentence: str) -> None:
    with pytest.raises(InvalidInput, match=sentence):
        with_settings(fusion(), [setting])


def test_a_mammograms_chest_wall_may_be_turned_and_classes_balanced_by_a_column() -> None:
    mammogram = fusion(modality=Modality.MAMMOGRAPHY)
    config = with_settings(
        mammogram, ["chest_wall=left", "columns=192", "balance_by=machine", "depthwise=fixed", "views=0"]
    )
    assert (config.chest_wall, config.columns, config.balance_by) == ("left", 192, "machine")
    assert (config.depthwise, config.views) == ("fixed", 0)


def test_every_default_is_one_that_can_be_set() -> None:
    for name, words in CHOICES.items():
        assert next(one.default for one in fields(FitConfig) if one.name == name) in words
    for name in {one.name for one in fields(FitConfig)} & set(SETTABLE):
        kind, low, high = SETTABLE[name]
        value = next(one.default for one in fields(FitConfig) if one.name == name)
        assert value is None or (isinstance(value, kind) and low <= value <= high)
    assert set(SETTABLE) | set(CHOICES) <= {one.name for one in fields(FitConfig)}
