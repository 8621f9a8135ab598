"""Releases: who decides what is live, that a reader sees a whole decision at once, and the way back."""

from __future__ import annotations

import json
import re
import shutil
import threading
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from record_site import add_person, sqlite_only
from release_site import MODEL, SHIPPED, add_candidate, candidate, promote

from core.commands import read as read_command
from core.errors import Conflict, InvalidInput, ModelUnavailable, NotAllowed, NotFound
from core.models import live
from core.models.cards import all_cards, known_cards, live_card, live_cards, override_text, withheld_cards
from core.models.lead import Lead, lead_of
from core.models.live import read_live, release_dir
from core.models.training_distance import read_training_distance
from core.records.audit import trail
from core.records.database.db import Database, open_database
from core.records.people.permissions import ROLES, Person
from core.records.releases import decisions, promotion_check
from core.settings import Settings
from core.types import Modality

WHY = "It finds more on the same cases."


@pytest.fixture
def admin(records: Database) -> Person:
    return add_person(records, "Ada", "administrator")


def live_sha(db: Database) -> str:
    return live_card(db.settings, MODEL).weights_sha256


def test_shipped_weights_are_the_first_release(records: Database, admin: Person) -> None:
    assert live_sha(records) == decisions.live_now(records, admin, MODEL) == SHIPPED.weights_sha256
    assert [card.weights_sha256 for card in decisions.releases_of(records, admin, MODEL)] == [SHIPPED.weights_sha256]
    decisions.project(records)
    assert not (records.settings.state_dir / "live.json").exists()  # nothing was decided


def test_a_promoted_model_answers_the_next_read_and_the_audit_names_who_and_why(
    records: Database, admin: Person
) -> None:
    job_id = add_candidate(records, admin, 1)
    made = candidate(records, job_id)
    promote(records, admin, job_id)

    card = live_card(records.settings, MODEL)
    assert card.weights_sha256 == made.weights_sha256 != SHIPPED.weights_sha256
    assert card.folder == release_dir(records.settings, MODEL, made.weights_sha256) and card.has_weights
    assert (card.folder / f"{made.weights_sha256[:8]}.test_scores.csv").is_file()
    (decision,) = decisions.decisions(records, admin)
    assert (decision.decision, decision.reason, decision.job_id) == (decisions.PROMOTE, WHY, job_id)
    assert (decision.person_name, decision.previous_sha256) == ("Ada", SHIPPED.weights_sha256)
    entry = trail.entries(records, admin)[0]
    assert (entry.action, entry.subject, entry.person_name) == ("promote model", f"model {MODEL}", "Ada")
    assert entry.detail["weights_sha256"] == made.weights_sha256 and entry.detail["reason"] == WHY
    assert trail.verify(records).is_intact


def test_a_decision_is_listed_once_with_who_made_it(records: Database, admin: Person) -> None:
    bea, _ = (add_person(records, name, "administrator") for name in ("Bea", "Cleo"))
    promote(records, bea, add_candidate(records, admin, 1))
    promote(records, admin, add_candidate(records, admin, 2, model_id="ours"), live_sha256=None)
    found = [(one.model_id, one.person_name) for one in decisions.decisions(records, admin)]
    assert found == [("ours", "Ada"), (MODEL, "Bea")]


@sqlite_only
def test_cards_are_read_without_a_database_by_the_command_too(records: Database, admin: Person) -> None:
    job_id = add_candidate(records, admin, 1)
    promote(records, admin, job_id)
    elsewhere = Settings(state_dir=records.settings.state_dir, database_url="postgresql://nobody@nowhere/none")
    assert read_command.live_card(elsewhere, MODEL).weights_sha256 == candidate(records, job_id).weights_sha256


def test_rolling_back_to_the_shipped_weights_and_forth_again(records: Database, admin: Person) -> None:
    job_id = add_candidate(records, admin, 1)
    new = candidate(records, job_id).weights_sha256
    promote(records, admin, job_id)
    decisions.roll_back(records, admin, MODEL, SHIPPED.weights_sha256, live_sha256=new, reason="More misses.")
    assert live_sha(records) == SHIPPED.weights_sha256
    assert {card.weights_sha256 for card in known_cards(records.settings) if card.model_id == MODEL} == {
        SHIPPED.weights_sha256, new,
    }  # fmt: skip
    decisions.roll_back(records, admin, MODEL, new, live_sha256=SHIPPED.weights_sha256, reason="A mistake.")
    assert live_sha(records) == new
    assert [one.decision for one in decisions.decisions(records, admin)] == ["roll back", "roll back", "promote"]


def test_what_is_live_is_not_rolled_back_to(records: Database, admin: Person) -> None:
    live = live_sha(records)
    again = live[:32] + live[32:]  # as a form sends it, no text of the program's own
    with pytest.raises(Conflict, match="live already"):
        decisions.roll_back(records, admin, MODEL, again, live_sha256=live, reason=WHY)
    assert decisions.decisions(records, admin) == []


def test_a_retired_model_does_not_answer_until_it_is_brought_back(records: Database, admin: Person) -> None:
    decisions.retire(records, admin, MODEL, live_sha256=SHIPPED.weights_sha256, reason="Too weak.")
    assert MODEL not in {card.model_id for card in all_cards(records.settings)}
    with pytest.raises(ModelUnavailable):
        live_card(records.settings, MODEL)
    with pytest.raises(Conflict, match="does not answer anyway"):
        decisions.retire(records, admin, MODEL, live_sha256=None, reason="Again.")
    decisions.roll_back(records, admin, MODEL, SHIPPED.weights_sha256, live_sha256=None, reason="Needed.")
    assert live_sha(records) == SHIPPED.weights_sha256


def test_an_ensemble_answers_only_with_the_members_it_was_made_from(records: Database, admin: Person) -> None:
    member = "ultrasound-efficientnet_lite0"
    shipped = live_card(records.settings, member).weights_sha256

    def is_live() -> bool:
        return "ultrasound-ensemble" in {card.model_id for card in live_cards(records.settings)}

    assert is_live()
    promote(records, admin, add_candidate(records, admin, 1, model_id=member), live_sha256=shipped)
    assert not is_live()
    now = live_card(records.settings, member).weights_sha256
    decisions.roll_back(records, admin, member, shipped, live_sha256=now, reason="Back.")
    assert is_live()
    decisions.retire(records, admin, member, live_sha256=shipped, reason="Weak.")
    assert not is_live()


def test_a_candidate_under_a_new_name_becomes_a_new_model(records: Database, admin: Person) -> None:
    job_id = add_candidate(records, admin, 1, model_id="ours")
    promote(records, admin, job_id, live_sha256=None)
    assert {"ours", MODEL} <= {card.model_id for card in live_cards(records.settings)}


ACTIONS: dict[str, Callable[[Database, Person], object]] = {
    "promote": lambda db, who: promote(db, who, 1),
    "roll_back": lambda db, who: decisions.roll_back(db, who, MODEL, "a" * 64, live_sha256=None, reason=WHY),
    "retire": lambda db, who: decisions.retire(db, who, MODEL, live_sha256=SHIPPED.weights_sha256, reason=WHY),
    "decisions": lambda db, who: decisions.decisions(db, who),
    "releases_of": lambda db, who: decisions.releases_of(db, who, MODEL),
    "live_now": lambda db, who: decisions.live_now(db, who, MODEL),
    "name_lead": lambda db, who: decisions.name_lead(db, who, Modality.ULTRASOUND, MODEL),
}


@sqlite_only
@pytest.mark.parametrize("action", ACTIONS)
def test_only_an_administrator_decides_about_releases(records: Database, admin: Person, action: str) -> None:
    others = add_person(records, "Otto", *(role for role in ROLES if role != "administrator"))
    with pytest.raises(NotAllowed):
        ACTIONS[action](records, others)
    assert decisions.decisions(records, admin) == [] and read_live(records.settings) == live.Live(chosen={}, shadows={})


def test_a_decision_about_something_that_changed_meanwhile_is_refused(records: Database, admin: Person) -> None:
    first, second = add_candidate(records, admin, 1), add_candidate(records, admin, 2)
    promote(records, admin, first)
    for act in (
        lambda: promote(records, admin, second),
        lambda: decisions.retire(records, admin, MODEL, live_sha256=SHIPPED.weights_sha256, reason=WHY),
    ):
        with pytest.raises(Conflict, match="compare again"):
            act()
    assert live_sha(records) == candidate(records, first).weights_sha256


def test_of_two_administrators_who_promote_at_once_one_is_told_to_compare_again(
    records: Database, admin: Person
) -> None:
    people = [admin, add_person(records, "Bea", "administrator")]
    jobs = [add_candidate(records, admin, number) for number in (1, 2)]
    start = threading.Barrier(2)
    said: list[str] = []

    def decide(number: int) -> None:
        start.wait()
        try:
            promote(records, people[number], jobs[number])
            said.append("promoted")
        except Conflict as refused:
            said.append(str(refused))

    threads = [threading.Thread(target=decide, args=(number,)) for number in range(2)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(60)
    assert sorted(word if word == "promoted" else "refused" for word in said) == ["promoted", "refused"]
    assert "compare again" in next(word for word in said if word != "promoted")
    (decision,) = decisions.decisions(records, admin)
    assert live_sha(records) == decision.weights_sha256 == read_live(records.settings).chosen[MODEL]
    assert trail.verify(records).is_intact


def test_a_reader_never_sees_half_a_release(records: Database, admin: Person) -> None:
    """Cards are read all the time while decisions are made: each time one whole model answers."""
    jobs = [add_candidate(records, admin, number) for number in (1, 2, 3)]
    expected = {SHIPPED.weights_sha256, *(candidate(records, job).weights_sha256 for job in jobs)}
    is_over, seen, problems = threading.Event(), set(), []

    def look() -> None:
        while not is_over.is_set():
            try:
                card = live_card(records.settings, MODEL)
                assert card.has_weights and card.weights_sha256 in expected
                seen.add(card.weights_sha256)
            except BaseException as error:
                problems.append(error)
                return

    reader = threading.Thread(target=look)
    reader.start()
    for job_id in jobs:
        promote(records, admin, job_id, live_sha256=live_sha(records))
    is_over.set()
    reader.join(60)
    assert not problems and len(seen) >= 2


def test_what_fails_in_the_middle_changes_nothing(
    records: Database, admin: Person, monkeypatch: pytest.MonkeyPatch
) -> None:
    job_id = add_candidate(records, admin, 1)
    shipped = sorted((SHIPPED.folder).iterdir())

    def full(*_: object) -> None:
        raise OSError(28, "No space left on device")

    with monkeypatch.context() as broken:
        broken.setattr(decisions, "write_live", full)
        with pytest.raises(Conflict, match="nothing was decided"):
            promote(records, admin, job_id)
    assert decisions.decisions(records, admin) == [] and live_sha(records) == SHIPPED.weights_sha256
    with monkeypatch.context() as broken:
        broken.setattr(decisions.trail, "record", lambda *_, **__: 1 / 0)
        with pytest.raises(ZeroDivisionError):
            promote(records, admin, job_id)
    assert decisions.decisions(records, admin) == [] and live_sha(records) == SHIPPED.weights_sha256
    assert sorted((SHIPPED.folder).iterdir()) == shipped
    assert not any((records.settings.state_dir / "tmp").iterdir())
    promote(records, admin, job_id)
    assert live_sha(records) == candidate(records, job_id).weights_sha256


def test_the_list_is_made_anew_at_start_where_a_process_died_before_or_after_the_commit(
    records: Database, admin: Person
) -> None:
    promote(records, admin, add_candidate(records, admin, 1))
    path = records.settings.state_dir / "live.json"
    right = path.read_text()
    for wrong in ('{"chosen": {}, "shadows": {}}', "{", None):
        path.unlink() if wrong is None else path.write_text(wrong)
        again = open_database(records.settings)
        decisions.project(again)
        again.close()
        assert path.read_text() == right


@pytest.mark.parametrize("damaged", ["{", "{}", '{"chosen": {"a": 1}, "shadows": {}}', "[" * 100_000])
def test_a_damaged_list_makes_no_model_answer_and_says_what_to_do(tmp_path: Path, damaged: str) -> None:
    settings = Settings(state_dir=tmp_path)
    (tmp_path / "live.json").write_text(damaged)
    with pytest.raises(ModelUnavailable, match="Restart SecondRead"):
        live_cards(settings)


def test_chosen_weights_that_are_gone_are_not_replaced_by_others(records: Database, admin: Person) -> None:
    promote(records, admin, add_candidate(records, admin, 1))
    (release_dir(records.settings, MODEL, live_sha(records)) / "card.json").unlink()
    assert MODEL not in {card.model_id for card in all_cards(records.settings)}


def test_shipped_weights_that_were_put_away_outlive_the_next_version_of_the_product(
    records: Database, admin: Person, tmp_path: Path
) -> None:
    job_id = add_candidate(records, admin, 1)
    promote(records, admin, job_id)
    (tmp_path / "no weights").mkdir()
    records.settings = replace(records.settings, weights_dir=tmp_path / "no weights")
    new = live_sha(records)
    decisions.roll_back(records, admin, MODEL, SHIPPED.weights_sha256, live_sha256=new, reason="Back.")
    assert live_sha(records) == SHIPPED.weights_sha256


def test_shipped_weights_that_were_rolled_back_to_outlive_the_next_version_of_the_product(
    records: Database, admin: Person, tmp_path: Path
) -> None:
    decisions.retire(records, admin, MODEL, live_sha256=SHIPPED.weights_sha256, reason="Too weak.")
    next_version = tmp_path / "next version"
    next_version.mkdir()
    made = candidate(records, add_candidate(records, admin, 1))
    shutil.copytree(made.folder, next_version / MODEL)
    records.settings = replace(records.settings, weights_dir=next_version)
    decisions.roll_back(records, admin, MODEL, made.weights_sha256, live_sha256=None, reason="The new one is good.")
    assert live_sha(records) == made.weights_sha256
    (tmp_path / "the version after").mkdir()
    records.settings = replace(records.settings, weights_dir=tmp_path / "the version after")
    assert live_sha(records) == made.weights_sha256
    assert live_card(records.settings, MODEL).has_weights


@sqlite_only
def test_what_cannot_be_decided_is_refused_with_a_sentence(records: Database, admin: Person) -> None:
    job_id = add_candidate(records, admin, 1)
    seen = SHIPPED.weights_sha256
    with pytest.raises(InvalidInput, match="Write down why"):
        promote(records, admin, job_id, live_sha256=seen, reason="  \n")
    with pytest.raises(NotFound):
        promote(records, admin, 99)
    with pytest.raises(NotFound, match="never live"):
        decisions.roll_back(
            records, admin, MODEL, candidate(records, job_id).weights_sha256, live_sha256=seen, reason=WHY
        )
    with pytest.raises(Conflict, match="live already"):
        decisions.roll_back(records, admin, MODEL, seen, live_sha256=seen, reason=WHY)
    other_kind = add_candidate(records, admin, 2, fields={"modality": "histology"})
    with pytest.raises(Conflict, match="another name"):
        promote(records, admin, other_kind)
    shard = next(candidate(records, job_id).folder.glob("*-00001.safetensors"))
    shard.write_bytes(shard.read_bytes()[:-1] + b"x")
    with pytest.raises(ModelUnavailable, match="not the ones"):
        promote(records, admin, job_id)
    card = candidate(records, job_id).folder / "card.json"
    card.write_text(json.dumps({**json.loads(card.read_text()), "weights": {"sha256": "b" * 64, "files": []}}))
    with pytest.raises(NotFound, match="other weights"):
        promote(records, admin, job_id)
    assert decisions.decisions(records, admin) == []


AT_CHANCE = "mammography-fusion"


def test_a_model_at_chance_answers_only_while_an_administrator_lets_it_and_the_trail_knows_why(
    records: Database, admin: Person
) -> None:
    def is_live() -> bool:
        return AT_CHANCE in {card.model_id for card in live_cards(records.settings)}

    (card,) = (one for one in withheld_cards(records.settings) if one.model_id == AT_CHANCE)
    live_sha256 = decisions.live_now(records, admin, AT_CHANCE)
    assert live_sha256 == card.weights_sha256 and not is_live()
    with pytest.raises(InvalidInput, match="Write down why"):
        decisions.allow(records, admin, AT_CHANCE, live_sha256=live_sha256, reason=" ")
    with pytest.raises(Conflict, match="has changed"):
        decisions.allow(records, admin, AT_CHANCE, live_sha256="0" * 64, reason=WHY)
    with pytest.raises(Conflict, match="answers anyway"):
        decisions.allow(records, admin, MODEL, live_sha256=SHIPPED.weights_sha256, reason=WHY)
    reader = add_person(records, "Rea", "radiologist")
    with pytest.raises(NotAllowed):
        decisions.allow(records, reader, AT_CHANCE, live_sha256=live_sha256, reason=WHY)
    assert not is_live() and decisions.decisions(records, admin) == []

    decisions.allow(records, admin, AT_CHANCE, live_sha256=live_sha256, reason="For our study.")
    assert is_live() and re.search(r"by decision of Ada \(\d{4}-\d\d-\d\d\): For our study\.", override_text(
        records.settings, card
    ))  # fmt: skip
    entry = trail.entries(records, admin)[0]
    assert (entry.action, entry.subject, entry.person_name) == ("allow chance model", f"model {AT_CHANCE}", "Ada")
    assert entry.detail["reason"] == "For our study." and entry.detail["weights_sha256"] == live_sha256
    with pytest.raises(Conflict, match="let answer already"):
        decisions.allow(records, admin, AT_CHANCE, live_sha256=live_sha256, reason=WHY)
    before = read_live(records.settings)
    (records.settings.state_dir / "live.json").unlink()
    decisions.project(records)
    assert read_live(records.settings) == before and before.chosen == {}  # made anew from the rows

    decisions.end_allow(records, admin, AT_CHANCE, live_sha256=live_sha256, reason="The study is over.")
    assert not is_live() and override_text(records.settings, card) == ""
    assert trail.entries(records, admin)[0].action == "withhold model"
    with pytest.raises(Conflict, match="not let answer"):
        decisions.end_allow(records, admin, AT_CHANCE, live_sha256=live_sha256, reason=WHY)


@pytest.mark.parametrize(
    ("key", "fields", "sentence"),
    [
        ("chance", {"measured": {"auc": 0.63, "low": 0.55, "high": 0.7, "n": 117}}, "no better than chance"),
        (
            "promise",
            {"promise": {"promised": 0.869, "tested": 0.6, "difference": -0.269, "low": -0.4, "high": -0.1, "n": 33}},
            "do not rely on its verdict",
        ),
    ],
)
def test_a_candidate_that_would_be_withheld_needs_a_reason_and_then_answers_by_that_decision(
    records: Database, admin: Person, key: str, fields: dict[str, Any], sentence: str
) -> None:
    job_id = add_candidate(records, admin, 1, fields=fields)
    found = promotion_check.examine(records, admin, job_id)
    assert key in {line.key for line in found.lines}
    others = {line.key: "For a test." for line in found.lines if line.key != key}
    with pytest.raises(InvalidInput, match=sentence):
        promotion_check.promote(
            records, admin, job_id, live_sha256=SHIPPED.weights_sha256, reason=WHY, passed=others
        )  # fmt: skip
    promotion_check.promote(
        records, admin, job_id, live_sha256=SHIPPED.weights_sha256, reason=WHY,
        passed=others | {key: "To watch it."},
    )  # fmt: skip
    card = live_card(records.settings, MODEL)
    assert card.weights_sha256 == candidate(records, job_id).weights_sha256
    assert override_text(records.settings, card).endswith(": To watch it.")
    decisions.end_allow(records, admin, MODEL, live_sha256=card.weights_sha256, reason="Enough.")
    assert MODEL not in {one.model_id for one in live_cards(records.settings)}


def test_a_live_list_of_an_earlier_version_is_read(tmp_path: Path) -> None:
    (tmp_path / "live.json").write_text('{"chosen": {"a": null}, "shadows": {}}')
    assert read_live(Settings(state_dir=tmp_path)).allowed == {}


def test_the_site_names_a_lead_which_is_audited_and_projected_and_goes_back_to_the_default(
    records: Database, admin: Person
) -> None:
    assert lead_of(records.settings, Modality.ULTRASOUND) == Lead("ultrasound-ensemble-two-collections")
    decisions.name_lead(records, admin, Modality.ULTRASOUND, MODEL)
    assert lead_of(records.settings, Modality.ULTRASOUND) == Lead(MODEL)
    entry = trail.entries(records, admin)[0]
    assert (entry.action, entry.subject) == ("name lead", "modality ultrasound")
    assert (entry.detail["before"], entry.detail["after"]) == (None, MODEL)
    (records.settings.state_dir / "live.json").unlink()
    decisions.project(records)
    assert lead_of(records.settings, Modality.ULTRASOUND) == Lead(MODEL)

    decisions.retire(records, admin, MODEL, live_sha256=SHIPPED.weights_sha256, reason="A trial.")
    found = lead_of(records.settings, Modality.ULTRASOUND)
    assert found is not None and found.note == f"{MODEL}, which this site named to lead, is not live."
    decisions.name_lead(records, admin, Modality.ULTRASOUND, None)
    found = lead_of(records.settings, Modality.ULTRASOUND)
    assert found is not None and found.note == "" and trail.entries(records, admin)[0].detail["before"] == MODEL


@pytest.mark.parametrize("model_id", ["mammography-fusion", "histology-fusion", "nobody", ""])
def test_only_a_live_model_of_the_modality_can_lead(records: Database, admin: Person, model_id: str) -> None:
    modality = Modality.MAMMOGRAPHY if model_id.startswith("mammo") else Modality.ULTRASOUND
    with pytest.raises(NotFound, match="does not answer for"):
        decisions.name_lead(records, admin, modality, model_id)
    assert read_live(records.settings).leads == {}


def test_a_release_keeps_what_its_model_knows_of_its_training_images(records: Database, admin: Person) -> None:
    promote(records, admin, add_candidate(records, admin, 1))
    (card,) = (one for one in all_cards(records.settings) if one.model_id == MODEL)
    assert card.folder.is_relative_to(records.settings.state_dir / "releases")
    assert read_training_distance(card) is not None


def test_no_two_models_that_answer_for_a_kind_of_image_are_called_the_same(records: Database, admin: Person) -> None:
    for number, name in ((1, "ultrasound-cnn"), (2, "ours"), (3, "theirs")):
        live = live_sha(records) if name == "ultrasound-cnn" else None
        promote(records, admin, add_candidate(records, admin, number, model_id=name), live_sha256=live)
    cards = [card for card in live_cards(records.settings) if card.modality is Modality.ULTRASOUND]
    titles = {card.model_id: card.title for card in cards}
    assert len(set(titles.values())) == len(titles) > 3
    for card in cards:
        is_here = card.model_id in ("ultrasound-cnn", "ours", "theirs")
        assert (card.title.endswith(f", this site, weights {card.weights_sha256[:8]}")) is is_here
