"""The models in `weights/`: complete, honest, and on real images what their cards say."""

from __future__ import annotations

from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import pandas as pd
import pytest
from made_images import mammogram
from PIL import Image as Raster

from core.evaluation.tables import of_cards
from core.imaging.decoded import Limits
from core.imaging.intake import read_upload
from core.imaging.picture import read_picture
from core.imaging.preprocess import heat_map
from core.models import cards
from core.settings import REPOSITORY, Settings
from core.types import Image, Modality

if TYPE_CHECKING:
    from core.models.inference import LoadedModel

SHIPPED = cards.shipped_cards(REPOSITORY / "weights")
MIB = 1024 * 1024


def ids(card: cards.Card) -> str:
    return card.model_id


@cache
def upload(path: Path, modality: Modality) -> Image:
    """The image that an upload of the file is; the models share their cases, and each upload costs a process."""
    (found,) = read_upload(path.read_bytes(), "x.png", settings=Settings(), modality=modality)
    assert found.image is not None, found.refused
    return found.image


def test_the_models_a_reader_needs_are_shipped_and_small_enough() -> None:
    live = {card.model_id for card in SHIPPED if card.has_weights}
    assert {"ultrasound-fusion", "ultrasound-cnn", "ultrasound-efficientnet_lite0", "mammography-fusion"} <= live
    sizes = [path.stat().st_size for path in (REPOSITORY / "weights").rglob("*") if path.is_file()]
    assert max(sizes) <= 50 * MIB and sum(sizes) <= 350 * MIB


@pytest.mark.parametrize("card", SHIPPED, ids=ids)
def test_a_card_says_what_a_reader_must_know(card: cards.Card) -> None:
    assert card.initialisation and card.limits and card.data_licence
    assert len(card.data.sha256) == 64
    assert card.reported_as == "malignant" and card.positive in card.classes
    assert 0 < card.threshold.value < 1
    headline = of_cards.headline(card)
    scores = cards.read_test_scores(card)
    assert scores is not None and headline["auc"].n == len(scores)
    assert headline["auc"].low < headline["auc"].value < headline["auc"].high
    counts = card.data.cases_in("test")
    assert scores["label"].value_counts().to_dict() == counts


@pytest.mark.parametrize("card", SHIPPED, ids=ids)
def test_no_patient_is_in_two_splits(card: cards.Card) -> None:
    scores = cards.read_test_scores(card)
    validation = pd.read_csv(card.folder / f"{card.weights_sha256[:8]}.validation_scores.csv", dtype={"patient": str})
    assert scores is not None
    if card.data.leaks:  # shown for what a leak is worth, and never to read with
        assert not card.has_weights and card.limits[0].startswith("Its split leaks")
    elif "fold" in scores:  # then each case is tested in one fold and validates in another
        pairs = scores.merge(validation, on="patient", suffixes=("", "_validated"))
        assert (pairs["fold"] != pairs["fold_validated"]).all()
    else:
        assert not set(scores["patient"]) & set(validation["patient"])


@pytest.mark.parametrize("card", SHIPPED, ids=ids)
def test_a_weak_model_says_so(card: cards.Card) -> None:
    is_weak = of_cards.headline(card)["auc"].low <= cards.WEAK_AUC
    assert any(limit.startswith("Weak") for limit in card.limits) is is_weak
    assert bool(cards.weak_texts(Settings(), card)) is is_weak, "what the pages mark is what its card says"


@pytest.mark.parametrize("card", SHIPPED, ids=ids)
def test_a_small_data_set_calls_itself_a_demonstration(card: cards.Card) -> None:
    is_small = card.data.n < 300
    assert any("emonstration" in limit for limit in card.limits) is is_small


def test_the_exam_model_reads_the_view_and_a_breast_is_answered_without_the_other() -> None:
    from dataclasses import replace

    from core.models.aggregate import per_breast
    from core.models.loaded import load_model

    (card,) = (card for card in SHIPPED if card.model_id == "mammography-exam-rsna")
    model = load_model(card)
    pixels = mammogram(320, 240)
    cc = Image(pixels=pixels, sha256="0" * 64, modality=Modality.MAMMOGRAPHY, laterality="R", view="CC")
    mlo, other = replace(cc, view="MLO"), replace(cc, laterality="L", pixels=1 - pixels)
    said = {name: model.read(one)[0] for name, one in (("cc", cc), ("mlo", mlo), ("other", other))}
    assert said["cc"].malignant != said["mlo"].malignant
    alone = per_breast([cc, mlo], [[said["cc"]], [said["mlo"]]])
    both = per_breast([cc, mlo, other], [[said["cc"]], [said["mlo"]], [said["other"]]])
    assert [one.breast for one in both] == ["R", "L"] and alone == both[:1]
    assert alone[0].malignant == pytest.approx((said["cc"].malignant + said["mlo"].malignant) / 2)


def elsewhere(card: cards.Card) -> Path | None:
    """Its scores on another collection. Those of its own test cases are, in folds, those of other networks."""
    return next(iter(card.folder.glob(f"{card.weights_sha256[:8]}.on-*.test_scores.csv")), None)


TRAVELLED = [card for card in SHIPPED if card.has_weights and not card.members and elsewhere(card)]


@pytest.mark.real_data("scores of shipped models on the cases of other collections")
@pytest.mark.parametrize("card", TRAVELLED, ids=ids)
def test_a_case_read_as_an_upload_scores_what_the_table_says(
    card: cards.Card, test_data: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from core.models import inference, loaded
    from core.models.inference import LoadedModel
    from core.models.loaded import load_model

    scores = pd.read_csv(elsewhere(card))
    live = load_model(card)
    monkeypatch.setattr(loaded, "MODELS", loaded.LoadedModels(LoadedModel))
    monkeypatch.setattr(inference, "compute_policy", lambda: "float32")
    exact = load_model(card)
    for row in scores.sample(4, random_state=1).itertuples():
        image = upload(test_data / "data" / row.case, card.modality)
        wanted = getattr(row, card.positive)
        assert exact.read(image)[0].malignant == pytest.approx(wanted, abs=2e-3)
        # With bfloat16, whose mantissa has eight bits, a steep calibration may move the second decimal.
        assert live.read(image)[0].malignant == pytest.approx(wanted, abs=3e-2)


def test_models_of_two_modalities_are_tried_on_other_collections() -> None:
    assert {card.modality for card in TRAVELLED} == {Modality.ULTRASOUND, Modality.HISTOLOGY}


@pytest.mark.real_data("where the heat maps of shipped models peak on another hospital's images with outlines")
@pytest.mark.parametrize("card", [card for card in TRAVELLED if card.modality is Modality.ULTRASOUND], ids=ids)
def test_maps_find_the_lesion_in_another_hospital_as_often_as_the_card_says_or_the_card_warns(
    card: cards.Card, test_data: Path
) -> None:
    """The pointing game through the image's own geometry, and the card's figures of it on more pictures."""
    from core.models.inference import LoadedModel
    from core.models.loaded import load_model

    stated = card.localisation["own class, all lesions of BUS-BRA"]
    model = load_model(card)
    assert isinstance(model, LoadedModel)
    hits, centre = play(model, card, test_data / "data")
    assert len(hits) == 90 < stated.n
    assert np.mean(hits) == pytest.approx(stated.pointing_game["fused"], abs=0.1)  # two standard errors of 90
    assert np.mean(centre) == pytest.approx(stated.image_centre, abs=0.1)
    is_place = stated.pointing_game["fused"] > stated.image_centre + 0.05
    assert is_place is not any("On pictures of BUS-BRA its map" in limit for limit in card.limits)


def play(model: LoadedModel, card: cards.Card, root: Path) -> tuple[list[bool], list[bool]]:
    manifest = pd.read_csv(root / "ultrasound/bus_bra/manifest.csv", keep_default_na=False).set_index("file")
    scores = pd.read_csv(elsewhere(card))
    hits, centre = [], []
    for case in scores["case"].sample(90, random_state=1):
        row = manifest.loc[case]
        outline = np.asarray(Raster.open(root / row["mask"]).convert("L")) > 127
        _, explanation = model.read(
            read_picture((root / case).read_bytes(), card.modality, limits=Limits.of(Settings()))
        )
        heat = heat_map(explanation, "fused", card.classes.index(row["label"]))
        assert heat.shape == outline.shape
        hits.append(bool(heat.max() > 0 and outline[np.unravel_index(heat.argmax(), heat.shape)]))
        centre.append(bool(outline[outline.shape[0] // 2, outline.shape[1] // 2]))
    return hits, centre


def test_where_another_model_did_better_on_the_same_cases_the_fusion_says_so() -> None:
    for modality in Modality:
        fusions = [card for card in SHIPPED if card.modality is modality and card.architecture == "fusion"]
        others = [card for card in SHIPPED if card.modality is modality and card.architecture != "fusion"]
        for card in fusions:
            own = of_cards.headline(card)["auc"].value
            for other in others:
                is_same = other.data.split_sha256 == card.data.split_sha256
                if is_same and of_cards.headline(other)["auc"].value > own:
                    assert any(other.title in limit for limit in card.limits), other.model_id
