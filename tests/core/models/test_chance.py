"""No chance-level opinion: which models answer, which are measured only, and who may decide otherwise."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import pytest
from made_cards import card_content, made_card

from core.errors import ModelUnavailable
from core.evaluation.tables.of_cards import headline
from core.models.cards import (
    Card,
    chance_text,
    live_card,
    live_cards,
    no_opinion_text,
    override_text,
    promise_text,
    read_card,
    remarks_of,
    shipped_cards,
    withheld_cards,
    withheld_text,
)
from core.models.live import Live, write_live
from core.settings import REPOSITORY, Settings
from core.types import Modality

SHIPPED = shipped_cards(REPOSITORY / "weights")
MEMBERS = ("one", "two")


def measured(low: float) -> dict[str, Any]:
    return {"auc": max(low, 0.62), "low": low, "high": 0.9, "n": 40}


@pytest.mark.parametrize("card", SHIPPED, ids=lambda card: card.model_id)
def test_a_shipped_card_says_the_auc_that_its_test_scores_give(card: Card) -> None:
    area = headline(card)["auc"]
    assert card.measured is not None
    found = (card.measured.auc, card.measured.low, card.measured.high)
    assert found == pytest.approx((area.value, area.low, area.high), abs=6e-5) and card.measured.n == area.n


@pytest.mark.parametrize(("low", "is_chance"), [(0.59, True), (0.6, True), (0.6001, False), (0.9, False)])
def test_an_interval_that_reaches_the_bound_is_chance(tmp_path: Path, low: float, is_chance: bool) -> None:
    assert bool(chance_text(made_card(tmp_path, measured=measured(low)))) is is_chance


def test_a_card_that_does_not_say_its_auc_answers_as_before(tmp_path: Path) -> None:
    assert chance_text(made_card(tmp_path)) == ""


@pytest.fixture
def site(tmp_path: Path) -> Settings:
    """Two models of which the first may be no better than chance, and an ensemble of both that is."""
    weights = tmp_path / "weights"
    for number, (model_id, low) in enumerate([("one", 0.5), ("two", 0.7)]):
        put(weights, model_id, number, measured=measured(low))
    put(weights, "both", 7, measured=measured(0.75), members=MEMBERS)
    return Settings(weights_dir=weights, state_dir=tmp_path / "state")


def put(weights: Path, model_id: str, number: int, members: tuple[str, ...] = (), **keys: Any) -> None:
    folder = weights / model_id
    folder.mkdir(parents=True)
    keys["weights"] = {"sha256": f"{number}" * 64, "files": [] if members else ["w"]}
    if members:
        keys["members"] = [{"model_id": name, "weights_sha256": f"{at}" * 64} for at, name in enumerate(members)]
    else:
        (folder / "w").write_bytes(b"")
    (folder / "card.json").write_text(json.dumps(card_content(model_id=model_id, **keys)))


def names(cards: tuple[Card, ...]) -> list[str]:
    return [card.model_id for card in cards]


def test_a_model_at_chance_is_measured_only_and_still_a_member_of_an_ensemble(site: Settings) -> None:
    assert names(live_cards(site)) == ["both", "two"] and names(withheld_cards(site)) == ["one"]
    with pytest.raises(ModelUnavailable, match=r"one does not answer\. Measured only: its AUC on 40 test cases"):
        live_card(site, "one")


def test_the_rule_counts_for_the_ensemble_too(site: Settings) -> None:
    shutil.rmtree(site.weights_dir / "both")
    put(site.weights_dir, "both", 7, measured=measured(0.6), members=MEMBERS)
    assert names(live_cards(site)) == ["two"]


def test_an_ensemble_whose_member_is_gone_is_not_withheld_but_gone(site: Settings) -> None:
    (site.weights_dir / "two" / "w").unlink()
    assert names(live_cards(site)) == [] and names(withheld_cards(site)) == ["one"]


def test_what_was_let_answer_answers_and_says_by_whose_decision(site: Settings) -> None:
    one = read_card(site.weights_dir / "one")
    assert override_text(site, one) == ""
    site.state_dir.mkdir()
    write_live(site, Live(chosen={}, shadows={}, allowed={one.weights_sha256: "Ada (2026-01-02): A <study>."}))
    assert names(live_cards(site)) == ["both", "one", "two"] and withheld_cards(site) == ()
    words = override_text(site, one)
    assert words.startswith("May be no better than chance (AUC 0.620, 95 % interval 0.500 to 0.900).")
    assert words.endswith("It answers by decision of Ada (2026-01-02): A <study>.")
    assert override_text(site, read_card(site.weights_dir / "two")) == ""
    assert live_card(site, "one").model_id == "one"


@pytest.mark.parametrize(
    ("low", "high", "is_fulfilled"), [(-0.2, -0.0001, False), (-0.2, 0.0, True), (0.0, 0.1, True), (0.0001, 0.1, True)]
)
def test_a_threshold_that_misses_what_it_was_chosen_for_is_remarked_on(
    site: Settings, tmp_path: Path, low: float, high: float, is_fulfilled: bool
) -> None:
    promise = {"promised": 0.869, "tested": 0.7, "difference": -0.169, "low": low, "high": high, "n": 33}
    card = made_card(tmp_path, promise=promise)
    assert (promise_text(card) == "") is is_fulfilled
    assert remarks_of(site, card) == (() if is_fulfilled else (promise_text(card),))
    if (low, high) == (-0.2, -0.0001):
        assert "found 70.0 % of 33 in its test (95 % interval 66.9 to 86.9)" in promise_text(card)
    assert promise_text(made_card(tmp_path / "old")) == ""


def test_a_model_that_breaks_its_promise_is_withheld_until_somebody_lets_it_answer(site: Settings) -> None:
    two = read_card(site.weights_dir / "two")
    broken = {"promised": 0.869, "tested": 0.7, "difference": -0.169, "low": -0.3, "high": -0.01, "n": 33}
    (two.folder / "card.json").write_text(json.dumps({**two.content(), "promise": broken}))
    assert "two" not in names(live_cards(site)) and "two" in names(withheld_cards(site))
    two = read_card(site.weights_dir / "two")
    assert withheld_text(two).startswith("Measured only: its threshold was chosen to find 86.9 %")
    with pytest.raises(ModelUnavailable, match="Measured only"):
        live_card(site, "two")
    assert "find fewer cancers than their thresholds promise" in no_opinion_text(two.modality, [two])
    site.state_dir.mkdir()
    write_live(site, Live(chosen={}, shadows={}, allowed={two.weights_sha256: "Ada (2026-01-02): A study."}))
    assert "two" in names(live_cards(site))
    (remark,) = remarks_of(site, two)
    assert remark.startswith("Its threshold was chosen") and remark.endswith(
        "by decision of Ada (2026-01-02): A study."
    )


def test_only_weak_models_have_remarks_and_their_card_s_own_words(site: Settings, tmp_path: Path) -> None:
    weak, other = "Weak: the interval reaches below 0.75.", "Measured on 40 cases."
    assert remarks_of(site, made_card(tmp_path, limits=[other, weak])) == (weak,)
    assert remarks_of(site, made_card(tmp_path, limits=[other])) == ()


def test_why_no_model_answers_tells_none_released_from_all_at_chance(site: Settings) -> None:
    withheld = withheld_cards(site)
    assert "No model released" in no_opinion_text(Modality.MAMMOGRAPHY, withheld)
    words = no_opinion_text(Modality.ULTRASOUND, withheld)
    assert words.startswith("No second opinion is offered for ultrasound") and "1 model here" in words
    assert "(AUC 0.62, the 95 %" in words
