"""What Compare shows belongs to what its controls show, and both follow from the address alone: the real page."""

from __future__ import annotations

import json
import random
import re
from collections.abc import Mapping
from html import unescape
from typing import Any

import numpy as np
import pytest
from page_site import CLASSES, PageSite, Tab, release

THRESHOLDS = {"ultrasound-a": 0.555, "ultrasound-b": 0.53, "ultrasound-c": 0.14, "mammography-a": 0.14}
MADE = {"ultrasound": "1a" * 32, "mammography": "2b" * 32}
STEPS, FRESH_EVERY = 14, 5
Scores = Mapping[str, tuple[np.ndarray, np.ndarray]]


@pytest.fixture
def scores(opened_site: PageSite) -> Scores:
    """Model -> labels (60,) bool and scores (60,) of its test cases; two data sets of three models and of one."""
    found = {}
    for place, (name, threshold) in enumerate(THRESHOLDS.items()):
        release(opened_site.weights, name, sha256=f"{place + 1:02d}" * 32, threshold=threshold)
        folder = opened_site.weights / name
        raw = json.loads((folder / "card.json").read_text())
        raw["data"] |= {"sha256": MADE[raw["modality"]]}
        (folder / "card.json").write_text(json.dumps(raw))
        rng = np.random.default_rng(place)
        labels = np.array([CLASSES[number % 3] == "malignant" for number in range(60)])
        malignant = np.round(np.clip(rng.normal(0.35 + 0.2 * labels, 0.2), 0.01, 0.98), 6)
        lines = ["case,patient,label,benign,malignant,normal"]
        for number, score in enumerate(malignant):
            lines.append(
                f"c{number},p{number},{CLASSES[number % 3]},{(1 - score) / 2:.6f},{score},{(1 - score) / 2:.6f}"
            )
        (folder / f"{raw['weights']['sha256'][:8]}.test_scores.csv").write_text("\n".join(lines))
        found[name] = (labels, malignant)
    return found


def of_address(asked: Mapping[str, Any], scores: Scores) -> dict[str, tuple[str, tuple[int, int, int, int]]]:
    """Scorer -> threshold as people read it, and its four counts, from an address and the score files alone."""
    kind = "mammography" if "mammography" in asked.get("data", "") else "ultrasound"
    there = [name for name in THRESHOLDS if name.startswith(kind)]
    names = [name for name in there if name in np.atleast_1d(asked.get("scorers", []))] or there
    own = [THRESHOLDS[name] for name in names]
    found = {}
    for name in names:
        labels, values = scores[name]
        mode = asked.get("mode", "One score")
        if mode == "Each its own":
            at = THRESHOLDS[name]
        elif mode == "Same specificity":
            wanted = float(asked.get("specificity", 0.889))
            at = next(one for one in sorted({*values, np.inf}) if np.mean(values[~labels] < one) >= wanted - 1e-12)
        else:
            at = float(asked.get("at", round(round(float(np.median(own)) / 0.005) * 0.005, 9)))
        called = values >= at
        counts = (called & labels, ~called & labels, called & ~labels, ~called & ~labels)
        found[name] = ("above every score" if np.isinf(at) else f"{at:.4g}", tuple(int(one.sum()) for one in counts))
    return found


def of_page(tab: Tab) -> dict[str, tuple[str, tuple[int, ...]]]:
    """The same, read off the confusion matrices."""
    (drawn,) = [one.proto.body for one in tab.app.get("html") if one.proto.body.startswith('<div class="sr-matrices')]
    found = {}
    for figure in re.findall(r"<figure>(.*?)</figure>", drawn):
        name, threshold = re.search(r"</i>(.*?)<span>threshold (.*?)</span>", figure).groups()  # type: ignore[union-attr]
        found[unescape(name)] = (threshold, tuple(int(count) for count in re.findall(r"<b>(\d+)</b>", figure)))
    return found


def change(tab: Tab, chance: random.Random) -> str:
    """One control, chosen by chance, set to something that it offers."""
    app = tab.app
    kind = chance.choice(["data", "scorers", "mode", "number", "bands", "prevalence", "show"])
    if kind == "data":
        app.selectbox(key="data").set_value(chance.choice(app.selectbox(key="data").options[:2]))
    elif kind == "scorers":
        options = app.multiselect(key="scorers").options
        app.multiselect(key="scorers").set_value(chance.sample(options, chance.randint(1, len(options))))
    elif kind == "mode":
        modes = app.button_group(key="mode")
        modes.set_value(chance.choice(modes.options))
    elif kind == "number" and app.slider:
        low, high = (0.1, 0.9) if app.slider[0].key == "at" else (0.5, 1.0)
        app.slider[0].set_value(round(chance.uniform(low, high), 2))
    elif kind == "bands":
        app.toggle(key="bands").set_value(chance.random() < 0.5)
    elif kind == "prevalence":
        app.number_input(key="prevalence").set_value(round(chance.uniform(1, 60), 2))
    return kind


def bands_of(tab: Tab) -> int:
    """How many bands lie under the ROC curves."""
    roc = next(json.loads(one.proto.spec) for one in tab.app.get("plotly_chart") if "sensitivity" in one.proto.spec)
    return sum(1 for trace in roc["data"] if trace.get("fill"))


def require_same(tab: Tab, scores: Scores, did: str) -> None:
    asked = tab.app.query_params
    expected = of_address(asked, scores)
    assert of_page(tab) == expected, (did, asked)
    assert list(tab.app.multiselect(key="scorers").value) == list(expected)
    (table,) = [one.proto.body for one in tab.app.get("html") if "Scorers and their measures" in one.proto.body]
    for threshold, _ in expected.values():
        assert f"<td>{threshold}</td>" in table
    if tab.app.slider:
        shown = tab.app.slider[0]
        assert f"score of {shown.value:.3f}" in tab.text or f"at least {shown.value:.3f}" in tab.text, (did, asked)
    assert (bands_of(tab) > 0) is tab.app.toggle(key="bands").value, (did, asked)


@pytest.mark.parametrize("seed", [1])
def test_every_number_follows_from_the_address_whatever_is_changed_in_which_order(
    opened_site: PageSite, tab: Tab, scores: Scores, monkeypatch: pytest.MonkeyPatch, seed: int
) -> None:
    from core.evaluation import cache

    monkeypatch.setattr(cache, "resamples_for", lambda n: 200)
    chance = random.Random(seed)
    tab.open("research/compare")
    require_same(tab, scores, "arrived")
    for step in range(STEPS):
        did = change(tab, chance)
        tab.settled()
        require_same(tab, scores, did)
        if step % FRESH_EVERY == 0:
            fresh = Tab(opened_site, opened_site.one, monkeypatch)
            fresh.app.query_params.update(tab.app.query_params)
            fresh.open("research/compare")
            assert of_page(fresh) == of_page(tab) and bands_of(fresh) == bands_of(tab), tab.app.query_params


def test_another_data_set_moves_a_threshold_that_nobody_chose_and_leaves_a_chosen_one(tab: Tab, scores: Scores) -> None:
    tab.open("research/compare")
    first, second = tab.app.selectbox(key="data").options[:2]
    assert tab.app.slider[0].value == pytest.approx(0.53) and "at" not in tab.app.query_params
    tab.app.selectbox(key="data").set_value(second)
    tab.settled()
    assert tab.app.slider[0].value == pytest.approx(0.14)
    assert {threshold for threshold, _ in of_page(tab).values()} == {"0.14"}
    tab.app.slider[0].set_value(0.3)
    tab.app.selectbox(key="data").set_value(first)
    tab.settled()
    assert tab.app.query_params["at"] == "0.3" and {one for one, _ in of_page(tab).values()} == {"0.3"}


def test_an_address_that_cannot_be_counts_as_the_default(tab: Tab, scores: Scores) -> None:
    tab.app.query_params.update(
        {"at": "nan", "mode": "Nonsense", "scorers": ["gone"], "bands": "perhaps", "data": "no"}
    )
    tab.open("research/compare")
    assert tab.app.slider[0].value == pytest.approx(0.53) and len(of_page(tab)) == 3
    tab.app.query_params.update({"at": "1e308"})  # a step of it is more than a number holds
    tab.settled()
    assert tab.app.slider[0].value == 1.0 and {one for one, _ in of_page(tab).values()} == {"1"}


def test_scorers_that_both_data_sets_have_stay_chosen(tab: Tab, scores: Scores) -> None:
    tab.app.query_params.update({"scorers": ["ultrasound-c", "elsewhere"]})
    tab.open("research/compare")
    assert list(of_page(tab)) == ["ultrasound-c"]
    tab.app.query_params["scorers"] = ""
    tab.settled()
    assert "Choose one scorer" in tab.text
