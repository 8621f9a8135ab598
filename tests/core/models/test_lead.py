"""Which model speaks first, and which ones are too weak to be counted."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from made_cards import card_content, made_card

from core.models.aggregate import BreastScore
from core.models.cards import remarks_of, weak_texts
from core.models.lead import Lead, lead_of
from core.models.live import Live, write_live
from core.reading.opinions import ALL_WEAK, opinions_of
from core.settings import Settings
from core.types import Modality

US = Modality.ULTRASOUND


def measured(low: float) -> dict[str, Any]:
    return {"auc": 0.9, "low": low, "high": 0.95, "n": 40}


@pytest.fixture
def site(tmp_path: Path) -> Settings:
    (tmp_path / "state").mkdir()
    return Settings(weights_dir=tmp_path / "weights", state_dir=tmp_path / "state")


def put(site: Settings, model_id: str, low: float = 0.8, *, members: tuple[str, ...] = (), **keys: Any) -> str:
    """A live model; its weights' sha256. `members` must have been put before."""
    folder = site.weights_dir / model_id
    folder.mkdir(parents=True)
    sha256 = f"{len(list(site.weights_dir.iterdir())):x}" * 64
    keys["weights"] = {"sha256": sha256, "files": [] if members else ["w"]}
    if members:
        keys["members"] = [{"model_id": one, "weights_sha256": _sha256(site, one)} for one in members]
    else:
        (folder / "w").write_bytes(b"")
    content = card_content(model_id=model_id, measured=measured(low), **keys)
    (folder / "card.json").write_text(json.dumps(content))
    return sha256


def _sha256(site: Settings, model_id: str) -> str:
    return str(json.loads((site.weights_dir / model_id / "card.json").read_text())["weights"]["sha256"])


def name(site: Settings, model_id: str) -> None:
    write_live(site, Live(chosen={}, shadows={}, leads={"ultrasound": model_id}))


@pytest.mark.parametrize(("low", "is_weak"), [(0.69, True), (0.7, True), (0.7001, False), (0.9, False)])
def test_a_model_whose_interval_reaches_the_bound_is_weak(
    site: Settings, tmp_path: Path, low: float, is_weak: bool
) -> None:
    card = made_card(tmp_path, measured=measured(low), limits=["Weak: an older bound."])
    assert bool(weak_texts(site, card)) is bool(remarks_of(site, card)) is is_weak
    if is_weak:
        assert f"95 % interval {low:.3f} to 0.950) on 40 test cases" in weak_texts(site, card)[0]


def test_an_ensemble_leads_unless_the_site_names_another(site: Settings) -> None:
    put(site, "a"), put(site, "b"), put(site, "z", members=("a", "b"))
    put(site, "other", modality="histology")
    assert lead_of(site, US) == Lead("z")
    name(site, "b")
    assert lead_of(site, US) == Lead("b")
    assert lead_of(site, Modality.HISTOLOGY) == Lead("other")
    assert lead_of(site, Modality.MAMMOGRAPHY) is None


def test_of_two_ensembles_the_one_tested_on_more_cases_leads(site: Settings) -> None:
    put(site, "a"), put(site, "b"), put(site, "y", members=("a", "b")), put(site, "z", members=("a", "b"))
    assert lead_of(site, US) == Lead("y")  # as many: the order of the cards
    path = site.weights_dir / "z" / "card.json"
    card = json.loads(path.read_text())
    path.write_text(json.dumps({**card, "measured": {**measured(0.8), "n": 41}}))
    assert lead_of(site, US) == Lead("z")


def test_a_weak_or_leaking_model_leads_by_default_only_where_there_is_no_other(site: Settings) -> None:
    put(site, "a", 0.7), put(site, "b", 0.65), put(site, "z", 0.7, members=("a", "b"))
    assert lead_of(site, US) == Lead("z")
    put(site, "leaking", data={"name": "made", "leaks": [{"check": "c", "sentence": "Two splits."}]})
    assert lead_of(site, US) == Lead("z")
    put(site, "sound")
    assert lead_of(site, US) == Lead("sound")


def test_a_named_lead_that_does_not_answer_falls_back_and_it_is_said(site: Settings) -> None:
    put(site, "a"), put(site, "chance", 0.5)
    name(site, "chance")
    found = lead_of(site, US)
    assert found is not None and found.model_id == "a"
    assert found.note == "chance, which this site named to lead, is withheld: see the page Models."
    name(site, "gone")
    found = lead_of(site, US)
    assert found == Lead("a", "gone, which this site named to lead, is not live.")
    put(site, "late")
    name(site, "late")
    assert lead_of(site, US, ["a"]) == Lead("a", "late, which this site named to lead, has not answered.")


def test_it_is_said_what_made_the_lead_the_first(site: Settings) -> None:
    put(site, "a"), put(site, "b")
    assert (lead_of(site, US) or Lead("")).why == "", "nothing of their cards did"
    put(site, "both", members=("a", "b"))
    assert (lead_of(site, US) or Lead("")).why == "it is an ensemble"
    name(site, "b")
    assert (lead_of(site, US) or Lead("")).why == "it was named by this site"
    name(site, "gone")
    assert (lead_of(site, US, ["a", "both"]) or Lead("")).why == "it is an ensemble"
    name(site, "")
    put(site, "weak", 0.7)
    assert (lead_of(site, US, ["a", "weak"]) or Lead("")).why == "the others are weak or leak"
    assert (lead_of(site, US, ["a"]) or Lead("")).why == ""


def test_what_has_answered_leads_though_it_is_not_live_any_more(site: Settings) -> None:
    put(site, "a")
    name(site, "retired")
    assert lead_of(site, US, ["a", "retired"]) == Lead("retired")
    assert lead_of(site, Modality.MAMMOGRAPHY, ["y", "x"]) == Lead("x")


def score(model_id: str, sha256: str, malignant: float, **keys: Any) -> BreastScore:
    keys = {"modality": US} | keys
    return BreastScore("L", model_id, malignant, (), 0.5, 1, "a rule", sha256, **keys)


def test_a_weak_model_is_marked_and_not_counted_when_the_models_disagree(site: Settings) -> None:
    sound, weak, other = put(site, "sound"), put(site, "weak", 0.7), put(site, "third")
    said = [score("weak", weak, 0.9), score("sound", sound, 0.2), score("third", other, 0.1)]
    (opinion,) = opinions_of(site, said)
    assert [one.model_id for one in opinion.scores] == ["sound", "third", "weak"] and opinion.notes == ()
    assert [opinion.is_weak(one) for one in opinion.scores] == [False, False, True] and opinion.n_weak == 1
    said_so = "Both models are below their thresholds; their probabilities lie 10 points apart. Not counted: 1 weak."
    assert opinion.agreement == said_so
    (opinion,) = opinions_of(site, said[:2])
    assert opinion.agreement == ""


def test_where_all_are_weak_it_is_said_above_the_lead_and_nothing_on_agreement(site: Settings) -> None:
    one, two = put(site, "one", 0.7), put(site, "two", 0.65)
    (opinion,) = opinions_of(site, [score("one", one, 0.9), score("two", two, 0.2)])
    assert (opinion.notes, opinion.agreement, opinion.n_weak) == ((ALL_WEAK,), "", 2)


def test_breasts_and_modalities_have_an_opinion_each(site: Settings) -> None:
    one = put(site, "one")
    film = score("film", "f" * 64, 0.4, modality=Modality.MAMMOGRAPHY)
    found = opinions_of(site, [score("one", one, 0.9), film])
    assert [(opinion.lead.model_id, opinion.modality) for opinion in found] == [("one", US), ("film", film.modality)]


def test_a_lead_with_several_scores_keeps_them_in_front_and_counts_as_one(site: Settings) -> None:
    one, two = put(site, "one"), put(site, "two", members=("one",))
    said = [score("one", one, 0.9), score("two", two, 0.2, is_whole=False), score("two", "9" * 64, 0.3, is_whole=False)]
    (opinion,) = opinions_of(site, said)
    assert [value.malignant for value in opinion.scores] == [0.2, 0.3, 0.9] and opinion.agreement == ""
