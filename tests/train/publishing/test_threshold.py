"""What a threshold promises it holds, and a card says where its heat map is no place."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from made_images import encoded, ultrasound
from PIL import Image as Raster

from core.evaluation.statistics.operating_points import threshold_at_sensitivity
from core.evaluation.statistics.ranked import SENSITIVITY_TARGET
from core.evaluation.tables.of_cards import headline
from core.models import cards
from core.models.calibration import fit_calibration, log_odds
from core.models.cards import (
    WEAK,
    Card,
    LocalisationOnCard,
    read_card,
    read_test_scores,
    read_validation_scores,
    shipped_cards,
    spread_text,
    weak_texts,
)
from core.settings import REPOSITORY, Settings
from train.__main__ import main
from train.publishing import threshold as level
from train.publishing.backfill import amend, measure_maps, name_the_better
from train.publishing.publish import PLAIN_RULE, THRESHOLD_RULE, write_card
from train.publishing.threshold import (
    branch_on_card,
    choose_threshold,
    fold_areas,
    map_limits,
    threshold_interval,
)

SHIPPED = shipped_cards(REPOSITORY / "weights")
IN_FOLDS_BEFORE = (
    *(f"mammography-{name}" for name in ("cnn", "efficientnet_lite0", "ensemble", "fusion", "residual25")),
    *(f"ultrasound-efficientnet_lite0-{name}" for name in ("by-image", "by-group")),
)
NO_PLACE = "Its map finds lesions no more often"


def positives(card: Card) -> tuple[np.ndarray, np.ndarray]:
    scores = read_validation_scores(card)
    assert scores is not None
    return (scores["label"] == card.positive).to_numpy(), scores[card.positive].to_numpy()


@pytest.mark.parametrize("card", SHIPPED, ids=lambda card: card.model_id)
def test_every_sensitivity_that_can_be_asked_for_is_found_and_by_the_highest_threshold(card: Card) -> None:
    is_positive, scores = positives(card)
    found = np.sort(scores[is_positive])[::-1]
    for per_cent in range(1, 101):
        threshold = threshold_at_sensitivity(is_positive, scores, per_cent / 100)
        n_found = int((found >= threshold).sum())
        assert 100 * n_found >= per_cent * len(found), per_cent
        # Only cases with the very score of the last one needed may come on top of what was asked for.
        needed = max(1, -(-per_cent * len(found) // 100))
        assert n_found == (found >= found[needed - 1]).sum(), per_cent


@pytest.mark.parametrize("card", SHIPPED, ids=lambda card: card.model_id)
def test_the_threshold_of_a_shipped_card_holds_what_its_rule_promises(card: Card) -> None:
    is_positive, scores = positives(card)
    # Models in folds among earlier cards have the rule without an allowance for chance.
    assert card.threshold.rule == (PLAIN_RULE if card.model_id in IN_FOLDS_BEFORE else THRESHOLD_RULE)
    assert (scores[is_positive] >= card.threshold.value).mean() >= SENSITIVITY_TARGET


def test_a_threshold_keeps_its_promise_on_39_of_40_samples_of_the_patients() -> None:
    """The lower end of the interval, never above the one that finds so many of just these cases."""
    rng = np.random.default_rng(5)
    is_positive = np.repeat([True, False], [32, 80])
    scores = np.concatenate([rng.random(32), rng.random(80) / 2]).round(6)
    patients = np.arange(112).astype(str)
    chosen = choose_threshold(is_positive, scores, patients)
    plain = threshold_at_sensitivity(is_positive, scores, SENSITIVITY_TARGET)
    assert chosen < plain and chosen == threshold_interval(is_positive, scores, patients)[0]
    drawn = rng.integers(0, 32, (4000, 32))
    is_found = (scores[:32] >= chosen)[drawn].mean(1) >= SENSITIVITY_TARGET
    assert 0.965 <= is_found.mean() <= 1.0
    assert (scores[:32] >= plain)[drawn].mean(1).mean() < (scores[:32] >= chosen)[drawn].mean(1).mean()
    alike = np.full(112, 0.25)  # an interval without width: the plain threshold and no other
    assert choose_threshold(is_positive, alike, patients) == threshold_at_sensitivity(is_positive, alike, 0.869)


def test_the_interval_of_a_threshold_is_that_of_the_rule_on_resampled_patients() -> None:
    """Three cases of each of 30 positive women, alike: drawn together, they make it wider than single cases do."""
    rng = np.random.default_rng(7)
    scores = np.repeat(rng.random(30), 3).round(6)
    others = rng.random(50) * 0.5
    is_positive = np.repeat([True, False], [90, 50])
    patients = np.concatenate([np.repeat(np.arange(30), 3), np.arange(30, 80)]).astype(str)
    everything = np.concatenate([scores, others])
    low, high = threshold_interval(is_positive, everything, patients)

    drawn = []
    for _ in range(2000):
        women = rng.integers(0, 30, 30)
        found = np.sort(np.repeat(scores[::3][women], 3))[::-1]
        drawn.append(found[int(np.ceil(SENSITIVITY_TARGET * 90)) - 1])
    assert (low, high) == pytest.approx(np.percentile(drawn, (2.5, 97.5)), abs=0.03)
    alone = threshold_interval(is_positive, everything, np.arange(140).astype(str))
    assert high - low > 1.2 * (alone[1] - alone[0])


@pytest.mark.parametrize("card", SHIPPED, ids=lambda card: card.model_id)
def test_a_shipped_card_says_the_interval_of_its_threshold_and_what_became_of_its_promise(card: Card) -> None:
    assert card.threshold.low is not None and card.threshold.high is not None
    assert card.threshold.value <= card.threshold.high
    if card.threshold.rule == THRESHOLD_RULE:
        assert card.threshold.value == pytest.approx(card.threshold.low, abs=2e-6)
    tested = headline(card)["sensitivity_at_threshold"]
    promise = card.promise
    assert promise is not None and promise.promised == SENSITIVITY_TARGET and promise.n == tested.n
    found = (promise.tested, promise.promised + promise.low, promise.promised + promise.high)
    assert found == pytest.approx((tested.value, tested.low, tested.high), abs=1.1e-4)
    assert promise.difference == pytest.approx(promise.tested - promise.promised, abs=1.1e-4)


@pytest.mark.parametrize(("per_cent", "n_found"), [(55, 55), (7, 7), (29, 29), (100, 100), (0, 1)])
def test_a_share_that_binary_fractions_miss_asks_for_no_case_more(per_cent: int, n_found: int) -> None:
    scores = np.arange(1, 101) / 200
    threshold = threshold_at_sensitivity(np.ones(100, bool), scores, per_cent / 100)
    assert (scores >= threshold).sum() == n_found


def test_scores_one_millionth_apart_are_told_apart() -> None:
    scores = np.array([0.314156, 0.314155, 0.314154, 0.9])
    assert threshold_at_sensitivity(np.array([True, False, False, True]), scores, 1.0) == 0.3141555
    assert threshold_at_sensitivity(np.array([True, True, False, True]), scores, 1.0) == 0.3141545


def test_scores_nearer_than_the_stored_decimals_leave_the_threshold_at_the_case() -> None:
    last, below = 0.30000001, 0.30000000
    assert threshold_at_sensitivity(np.array([True, False]), np.array([last, below]), 1.0) == last
    assert threshold_at_sensitivity(np.array([True]), np.array([0.0]), 1.0) == 0.0


def of(n: int, fused: int, centre: int, **branches: float) -> dict[str, LocalisationOnCard]:
    game = {**branches, "fused": fused / n}
    return {"own class, all lesions": LocalisationOnCard(n=n, pointing_game=game, image_centre=centre / n)}


def test_a_map_must_beat_the_centre_by_more_than_a_twentieth_of_the_lesions() -> None:
    assert map_limits(of(100, 35, 30))[0].startswith(NO_PLACE)  # .35 - .30 is a little less than .05 in binary
    assert map_limits(of(100, 36, 30)) == ()
    assert map_limits(of(20, 14, 13))[0].startswith(NO_PLACE) and map_limits(of(20, 15, 13)) == ()
    assert map_limits({}) == map_limits({"own class, all lesions": LocalisationOnCard()}) == ()


def test_a_map_that_is_a_place_at_home_and_none_elsewhere_names_the_collection() -> None:
    (home,), (there,) = of(100, 36, 30).values(), of(100, 35, 30, vgg16=0.0).values()
    assert map_limits({"own class, all lesions": home, "own class, all lesions of A": home}) == ()
    (limit,) = map_limits({"own class, all lesions": home, "own class, all lesions of A": there})
    assert limit.startswith("On pictures of A its map " + NO_PLACE.removeprefix("Its map "))
    assert map_limits({"positive class, positive cases": there}) == ()


def test_a_card_says_how_often_its_map_finds_the_lesions_of_another_collection(tmp_path: Path) -> None:
    weights, data = tmp_path / "weights", tmp_path / "data"
    for name in ("ultrasound-efficientnet_lite0", "ultrasound-ensemble", "ultrasound-fusion"):
        source = read_card(REPOSITORY / "weights" / name)
        shutil.copytree(source.folder, weights / name)
        games = {key: one.model_dump() for key, one in source.localisation.items() if " of " not in key}
        limits = [limit for limit in source.limits if not limit.startswith("On pictures of")]
        write_card(weights / name, {**source.content(), "localisation": games, "limits": limits})
        for path in (weights / name).glob("*.on-*.csv"):
            path.unlink()
    folder = weights / "ultrasound-efficientnet_lite0"
    cases = of_two_hospitals(data)
    cases.to_csv(folder / f"{read_card(folder).weights_sha256[:8]}.on-12345678.test_scores.csv", index=False)

    (change, *_) = measure_maps(folder, data)
    assert change.startswith("Map on 3 lesions, own class, all lesions of Elsewhere: ")
    found = read_card(folder).localisation["own class, all lesions of Elsewhere"]
    assert found.n == 3 and found.image_centre == pytest.approx(2 / 3) and set(found.pointing_game) >= {"fused"}
    assert set(map_limits(read_card(folder).localisation)) <= set(read_card(folder).limits)
    assert measure_maps(folder, data) == [], "it is said"
    assert measure_maps(weights / "ultrasound-fusion", data) == [], "it has no scores of another collection"
    assert measure_maps(weights / "ultrasound-ensemble", data)[0] == change, "its maps are those of this member"
    assert measure_maps(weights / "ultrasound-ensemble", data) == []


def of_two_hospitals(data: Path) -> pd.DataFrame:
    """Scored cases, of which three have an outline in a manifest below `data`: twice over the middle, once not."""
    (data / "there").mkdir(parents=True)
    rows = []
    for number, (label, masked) in enumerate([("malignant", 1), ("benign", 1), ("malignant", 2), ("normal", 0)]):
        (data / "there" / f"{number}.png").write_bytes(encoded(ultrasound(seed=number)))
        mask = np.zeros((300, 400), np.uint8)
        mask[(slice(100, 200) if masked == 1 else slice(0, 60)), 150:250] = 255
        Raster.fromarray(mask).save(data / "there" / f"{number}_mask.png")
        rows.append({"file": f"there/{number}.png", "label": label, "mask": f"there/{number}_mask.png" * bool(masked)})
    manifest = pd.DataFrame(rows)
    manifest.to_csv(data / "there" / "manifest.csv", index=False)
    scores = {"patient": manifest["file"], "benign": 0.5, "malignant": 0.5, "normal": 0.0, "source": "Elsewhere"}
    return manifest.rename(columns={"file": "case"}).drop(columns="mask").assign(**scores)


def test_a_branch_that_never_points_at_a_lesion_is_named_and_one_that_did_once_is_not() -> None:
    (limit,) = map_limits(of(100, 90, 30, vgg16=0.0, resnet50=0.01))
    assert "branch vgg16 never" in limit


@pytest.mark.parametrize("card", SHIPPED, ids=lambda card: card.model_id)
def test_a_shipped_card_says_where_its_map_is_no_place(card: Card) -> None:
    assert set(map_limits(card.localisation)) <= set(card.limits)
    assert any(limit.startswith(NO_PLACE) for limit in card.limits) is any(
        limit.startswith(NO_PLACE) for limit in map_limits(card.localisation)
    )


def test_what_a_branch_adds_is_the_area_that_is_lost_without_it() -> None:
    labels = ["malignant", "benign"] * 20
    patients = [f"p{number}" for number in range(40)]
    sure = [0.9 - number / 1000 if label == "malignant" else number / 1000 for number, label in enumerate(labels)]
    scores = pd.DataFrame({"patient": patients, "label": labels, "malignant": sure})
    found = branch_on_card(scores, scores.assign(malignant=0.5), "malignant")
    assert found["auc_without"] == 0.5 and found["adds"] == 0.5 and found["n"] == 40
    assert found["low"] == found["high"] == 0.5
    nothing = branch_on_card(scores, scores, "malignant")
    assert nothing["auc_without"] == 1.0 and nothing["adds"] == nothing["low"] == nothing["high"] == 0.0
    assert branch_on_card(scores.assign(malignant=0.5), scores, "malignant")["adds"] == -0.5


def test_each_fold_has_an_area_of_its_own_where_it_has_both_classes() -> None:
    folds, labels = [0, 0, 0, 0, 1, 1, 2, 2], ["benign", "malignant"] * 3 + ["benign"] * 2
    scores = pd.DataFrame({"fold": folds, "label": labels, "malignant": [0.1, 0.9, 0.9, 0.8, 0.2, 0.7, 0.1, 0.2]})
    assert fold_areas(scores, "malignant") == [0.625, 1.0, None]


@pytest.mark.parametrize(
    ("areas", "said"), [((), False), ((0.8,), False), ((0.8, None), False), ((0.8, 0.7, None), True)]
)
def test_a_card_says_between_which_areas_its_folds_lie(areas: tuple[float | None, ...], said: bool) -> None:
    card = next(card for card in SHIPPED if card.folds)
    assert card.folds is not None
    folded = card.model_copy(update={"folds": card.folds.model_copy(update={"areas": areas})})
    assert ("Fitted 2 times" in spread_text(folded) and "0.700 to 0.800" in spread_text(folded)) is said
    assert spread_text(card.model_copy(update={"folds": None})) == ""


@pytest.mark.parametrize("card", [card for card in SHIPPED if card.folds], ids=lambda card: card.model_id)
def test_a_shipped_card_says_the_area_of_each_of_its_folds(card: Card) -> None:
    scores = read_test_scores(card)
    assert card.folds is not None and scores is not None
    assert list(card.folds.areas) == fold_areas(scores, card.positive)
    assert len(card.folds.areas) == len(card.folds.thresholds)


def test_cards_of_before_are_amended_once_and_keep_their_weights(tmp_path: Path) -> None:
    source = REPOSITORY / "weights" / "ultrasound-plain25"
    folder = tmp_path / source.name
    shutil.copytree(source, folder)
    before = json.loads((folder / "card.json").read_text())
    before["limits"] = [limit for limit in before["limits"] if "map" not in limit]
    before["threshold"] = {"value": 0.2766285, "rule": PLAIN_RULE}
    (folder / "card.json").write_text(json.dumps(before))

    assert main(["amend", "--weights", str(tmp_path)]) == 0
    after = read_card(folder)
    assert after.limits[: len(before["limits"])] == tuple(before["limits"])
    assert [limit[:10] for limit in after.limits[len(before["limits"]) :]] == ["The map of", "Its map fi"]
    scores = read_validation_scores(after)
    assert scores is not None
    assert after.threshold.value == choose_threshold(*positives(after), scores["patient"].astype(str).to_numpy())
    assert after.threshold.value < 0.2766285 and "0.2766285 was chosen without" in after.threshold.corrected
    assert after.threshold.rule == THRESHOLD_RULE
    changed = {"limits", "threshold", "promise"}
    assert {k: v for k, v in after.content().items() if k not in changed} == {
        k: v for k, v in before.items() if k not in changed
    }

    content = (folder / "card.json").read_bytes()
    assert main(["amend", "--weights", str(tmp_path)]) == 0
    assert (folder / "card.json").read_bytes() == content


@pytest.mark.parametrize(("level_off", "is_weak"), [(0.0, True), (-0.0001, False)])
def test_a_card_calls_a_model_weak_at_the_level_that_the_pages_mark(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, level_off: float, is_weak: bool
) -> None:
    source = read_card(REPOSITORY / "weights" / "ultrasound-plain25")
    folder = tmp_path / source.model_id
    shutil.copytree(source.folder, folder)
    assert source.measured is not None
    for module in (level, cards):
        monkeypatch.setattr(module, "WEAK_AUC", source.measured.low + level_off)
    others = [limit for limit in source.limits if not limit.startswith(WEAK)]
    earlier = f"{WEAK} the interval of its AUC on the test cases reaches below 0.75. Do not lean on it."
    write_card(folder, {**source.content(), "limits": [earlier, *others]})

    changes = amend(folder)
    after = read_card(folder)
    sentence = f"{WEAK} the interval of its AUC on the test cases reaches 0.57 or lower. Do not lean on it."
    assert list(after.limits) == [*others, *([sentence] if is_weak else [])]
    assert changes == [sentence if is_weak else "No longer called weak."]
    assert bool(weak_texts(Settings(weights_dir=tmp_path, state_dir=tmp_path / "state"), after)) is is_weak
    assert amend(folder) == []


def test_a_fusion_names_who_did_better_on_its_own_cases_and_nobody_who_did_not(tmp_path: Path) -> None:
    elsewhere = "histology-vgg19-breakhis"
    for name in ("histology-fusion", "histology-efficientnet_lite0", elsewhere):
        shutil.copytree(REPOSITORY / "weights" / name, tmp_path / name, ignore=shutil.ignore_patterns("*.safetensors"))
    better = json.loads((tmp_path / elsewhere / "card.json").read_text())
    better["measured"]["auc"] = 0.99  # on other cases, whatever it reaches
    (tmp_path / elsewhere / "card.json").write_text(json.dumps(better))
    path = tmp_path / "histology-fusion" / "card.json"
    said = "{} did better on the same test cases; its card has the figures."

    def amended(**measured: object) -> list[str]:
        raw = json.loads(path.read_text())
        raw["limits"] = ["A limit.", said.format("Nobody")]
        raw["measured"] |= measured
        path.write_text(json.dumps(raw))
        card = read_card(path.parent)
        name_the_better(card, [read_card(tmp_path / one) for one in ("histology-efficientnet_lite0", elsewhere)])
        return list(json.loads(path.read_text())["limits"])

    other = read_card(tmp_path / "histology-efficientnet_lite0").measured
    assert other is not None
    assert amended(auc=other.auc - 0.0001) == ["A limit.", said.format("EfficientNet-Lite0")]
    assert amended(auc=other.auc) == ["A limit."]

    assert main(["amend", "--weights", str(tmp_path)]) == 0  # measures what its scores say
    assert said.format("EfficientNet-Lite0") in read_card(path.parent).limits
    content = path.read_bytes()
    assert main(["amend", "--weights", str(tmp_path)]) == 0
    assert path.read_bytes() == content


@pytest.mark.parametrize(
    "card", [card for card in SHIPPED if card.folds and not card.members], ids=lambda c: c.model_id
)
def test_the_threshold_of_each_fold_holds_too(card: Card) -> None:
    """A fold's calibration is not stored: it is fitted again, on the logits that the stored scores came from.

    A fold knows the validation scores of all cases but its own test cases; in earlier models those of its own network.
    """
    scores, folds, tested = read_validation_scores(card), card.folds, read_test_scores(card)
    assert scores is not None and folds is not None and len(folds.thresholds) == folds.n and tested is not None
    fold_of = tested.set_index("case")["fold"]
    logits = log_odds(scores[list(card.classes)].to_numpy())
    if len(card.classes) == 2:
        logits = (logits - card.calibration.biases[1]) / card.calibration.slope
    else:
        logits = (logits - np.asarray(card.calibration.biases)) / card.calibration.slope
    labels = scores["label"].map({name: index for index, name in enumerate(card.classes)}).to_numpy(int)
    for number, threshold in enumerate(folds.thresholds):
        own = (
            scores["fold"] == number if card.threshold.rule == PLAIN_RULE else scores["case"].map(fold_of) != number
        ).to_numpy()
        fitted = fit_calibration(logits[own], labels[own], scores["patient"][own].tolist(), samples=0)
        found = fitted.probabilities(logits[own])[labels[own] == card.positive_index, card.positive_index].round(6)
        assert (found >= threshold).mean() >= SENSITIVITY_TARGET, number
