"""What a radiologist sees and may do on each page, without a browser: the real app with real records."""

from __future__ import annotations

import sys
from dataclasses import replace
from datetime import date, timedelta
from pathlib import Path

import numpy as np
import pytest
from page_site import PASSWORD, REPOSITORY, FakeModel, PageSite, Tab, first_read, picture, release, store
from record_site import signed_in

from core.models.cards import Card
from core.reading import second_read
from core.reading.second_read import Readiness, Stage
from core.records import site_settings
from core.records.archives.identity import identity_of
from core.records.database import tables
from core.records.database.db import open_database
from core.records.people import accounts
from core.records.reads import predictions, reads, retention, studies, truths, worklist
from core.records.reads.drafts import draft_of
from core.records.reads.reads import COMMENT_LENGTH_MOST, Impression
from core.reports.html import build_html
from core.reports.pdf import build_pdf
from core.reports.study import study_document
from core.server.inbox import InboxFile
from core.serving import inference
from core.settings import Settings
from core.types import SIDE_NOT_STATED, Image, Modality, Window
from pages.parts.markdown import plain

OF_THE_AI = ("Probability", "AI-generated", "42 %", "threshold", "Fusion", "model looked", "attention")


def test_the_worklist_shows_name_state_and_kind_newest_first_and_nothing_of_the_ai(opened_site: PageSite, tab: Tab):
    release(opened_site.weights, "ultrasound-fusion")
    finished = store(opened_site, "Older *one*")
    first_read(opened_site, finished)
    reads.reveal(opened_site.db, opened_site.one, finished)
    answer = FakeModel(second_read.live_cards(Settings.from_environment())[0]).read(picture(laterality="L"))
    image_id = studies.load_study(opened_site.db, opened_site.one, finished).images[0].id
    predictions.record_predictions(opened_site.db, finished, image_id, *answer)
    store(opened_site, "Newer", images=[picture(1), picture(2)])
    words = tab.open("reader/worklist").text
    assert words.index("Newer") < words.index("Older *one*")
    assert "First read saved" in words
    assert "ultrasound · 2 images" in words
    assert not [word for word in OF_THE_AI if word in words]


def test_the_worklist_is_searched_by_name_and_filtered_by_state(opened_site: PageSite, tab: Tab):
    first_read(opened_site, store(opened_site, "Alpha"))
    store(opened_site, "Beta")
    tab.open("reader/worklist")
    tab.app.text_input[0].set_value("alp")
    assert "Alpha" in tab.settled().text
    assert "Beta" not in tab.text
    tab.app.text_input[0].set_value("")
    tab.choose("State", "new")
    assert "Beta" in tab.text
    assert "Alpha" not in tab.text
    tab.app.text_input[0].set_value("nothing like it")
    assert "No study fits this search." in tab.settled().text


def test_before_the_first_impression_nothing_of_the_ai_can_be_seen_or_asked_for(opened_site: PageSite, tab: Tab):
    release(opened_site.weights, "ultrasound-fusion")
    words = tab.open("reader/read", store(opened_site)).text
    assert "Your first impression" in words
    assert not tab.has("Show second read")
    assert not [word for word in OF_THE_AI if word in words]


@pytest.mark.parametrize(
    ("found", "words"),
    [
        (Readiness(Stage.WARMING), "models warming up"), (Readiness(Stage.QUEUED, 3), "place 3 in the queue"),
        (Readiness(Stage.COMPUTING), "being computed"), (Readiness(Stage.SEALED), "ready"),
        (Readiness(Stage.ON_REQUEST), "models ready"),
    ],
)  # fmt: skip
def test_how_far_the_second_read_is_stands_beside_its_button_until_it_is_shown(
    opened_site: PageSite, tab: Tab, monkeypatch: pytest.MonkeyPatch, found: Readiness, words: str
):
    release(opened_site.weights, "ultrasound-fusion")
    monkeypatch.setattr(second_read, "readiness", lambda study_id, tasks: found)
    study = store(opened_site)
    shown = f"Second read: {words}</p>"
    before = tab.open("reader/read", study).text
    assert shown in before and not [word for word in OF_THE_AI if word in before]
    first_read(opened_site, study)
    assert shown in tab.settled().text
    assert "Second read:" not in tab.press("Show second read").text
    assert "Second read:" not in tab.open("reader/read", store(opened_site, images=[picture(modality=None)])).text


def test_the_suspicion_follows_the_category_until_the_reader_moves_it(opened_site: PageSite, tab: Tab):
    study = store(opened_site)
    tab.open("reader/read", study)
    slider = tab.app.slider[0]
    assert slider.disabled
    assert next(b for b in tab.app.button if b.label == "Save first impression").disabled
    tab.choose("Left breast: BI-RADS", "4B")
    assert tab.app.slider[0].value == 30
    tab.app.slider[0].set_value(44)
    tab.settled().press("Save first impression")
    saved = reads.reads_of(opened_site.db, opened_site.one, study)
    assert saved[0].impressions == {"L": Impression("4B", 44)}


def test_two_clicks_a_breast_save_a_first_impression_and_only_then_the_second_read_is_offered(
    opened_site: PageSite, tab: Tab
):
    release(opened_site.weights, "ultrasound-fusion")
    study = store(opened_site, images=[picture(1, laterality="R"), picture(2, laterality="L")])
    tab.open("reader/read", study)
    tab.choose("Right breast: BI-RADS", "2").choose("Left breast: BI-RADS", "5").press("Save first impression")
    assert tab.has("Show second read")
    assert not [word for word in OF_THE_AI if word in tab.text]
    assert not reads.ai_visible(opened_site.db, opened_site.one, study)


def test_the_second_read_says_probability_interval_threshold_agreement_device_and_time(opened_site: PageSite, tab: Tab):
    release(opened_site.weights, "ultrasound-fusion")
    folds = {"n": 2, "thresholds": [0.6, 0.6], "areas": [0.71, 0.83]}
    release(opened_site.weights, "ultrasound-cnn", sha256="cd" * 32, threshold=0.6, folds=folds)
    study = store(opened_site)
    first_read(opened_site, study)
    words = tab.open("reader/read", study).press("Show second read").text
    assert words.count("happened to learn from") == words.count("each time without a part") == 1
    for expected in (
        "AI-generated",
        "Cnn: fitted 2 times, each time without a part of the patients, it has an AUC of 0.710 to 0.830 on that part.",
        "Left breast",
        "42 %",
        "35 % to 50 %",
        "Above the threshold of 30 %",
        "Below the threshold of 60 %",
        "The models disagree: 1 of 2",
        "| 20 of 20 | 0 of 40 |",
        "a test's processor",
        "benign 50 %, malignant 42 %, normal 8.0 %",
        "does not rule cancer out",
    ):
        assert expected in words, expected
    assert words.index("Fusion") < words.index("Cnn")
    retained = predictions.predictions_of(opened_site.db, opened_site.one, study)
    assert sorted(prediction.model_id for _, prediction, _ in retained) == ["ultrasound-cnn", "ultrasound-fusion"]


def test_by_image_the_threshold_stands_before_what_is_to_be_kept_in_mind_of_model_and_picture(
    opened_site: PageSite, tab: Tab
):
    release(opened_site.weights, "ultrasound-fusion", auc_low=0.65)
    alone = "It is a spot view and stays out of the breast's number."
    both = "It is said under the pictures."
    images = [picture(1, laterality="L", warnings=(both,)), picture(2, laterality="L", warnings=(both, alone))]
    study = store(opened_site, images=images)
    first_read(opened_site, study)
    tab.open("reader/read", study).press("Show second read")
    table = next(frame.value for frame in tab.app.dataframe if "Malignant" in frame.value)
    assert list(table)[2:6] == ["Malignant", "95 % interval", "Threshold", "Mind"]
    assert [mind.startswith(alone) for mind in table["Mind"]] == [False, True] and all(
        table["Mind"].str.contains("Weak")
    )


def test_a_model_from_a_leaking_split_is_marked_beside_its_probability_on_its_card_and_in_the_report(
    opened_site: PageSite, tab: Tab
):
    from pages.reader.parts import study_report

    release(opened_site.weights, "ultrasound-fusion")
    release(opened_site.weights, "ultrasound-cnn", sha256="cd" * 32, leaks=["3 patients lie in two splits."])
    study = store(opened_site)
    first_read(opened_site, study)
    tab.open("reader/read", study).press("Show second read")
    mark = "Leaking split: 3 patients lie in two splits. It has not been tested on patients it never saw."
    assert [error.value.replace("\\", "") for error in tab.app.error] == [f"Cnn: {mark}"]
    tab.open("reader/models")
    assert mark in tab.text
    stored = studies.load_study(opened_site.db, opened_site.one, study)
    answers = predictions.predictions_of(opened_site.db, opened_site.one, study)
    report = study_report.gather(opened_site.one, stored, answers, [], Settings.from_environment())
    assert {model.model_id: model.leaks for model in report.models} == {
        "ultrasound-fusion": (), "ultrasound-cnn": (mark,),
    }  # fmt: skip


def test_the_heat_map_is_off_until_asked_and_offers_branch_class_and_opacity(opened_site: PageSite, tab: Tab):
    release(opened_site.weights, "ultrasound-fusion")
    study = store(opened_site)
    first_read(opened_site, study)
    tab.open("reader/read", study).press("Show second read")
    toggle = next(toggle for toggle in tab.app.toggle if toggle.label == "Show where a model looked")
    assert not toggle.value
    assert "not a lesion outline" not in tab.text
    toggle.set_value(True)
    tab.settled()
    assert "Model attention, not a lesion outline" in tab.text
    labels = [group.label for group in tab.app.button_group]
    assert "Branch" in labels
    assert "Evidence for" in labels
    assert "Opacity, percent" in [slider.label for slider in tab.app.slider]
    tab.choose("Evidence for", "benign").choose("Branch", "vgg16")


def test_of_models_for_two_kinds_of_images_the_list_says_whose_each_is_and_offers_none_of_the_other_beside_it(
    opened_site: PageSite, tab: Tab
):
    for number, model_id in enumerate(("ultrasound-fusion", "ultrasound-cnn", "histology-fusion"), start=1):
        release(opened_site.weights, model_id, sha256=f"{number:02x}" * 32)
    images = [picture(1, laterality="L"), picture(2, laterality="L", modality=Modality.HISTOLOGY)]
    study = store(opened_site, images=images)
    first_read(opened_site, study)
    tab.open("reader/read", study).press("Show second read")
    tab.app.toggle[0].set_value(True)
    tab.settled()
    models, beside = (box for box in tab.app.selectbox if "odel" in box.label)
    assert sorted(models.options) == ["Cnn, ultrasound", "Fusion, histology", "Fusion, ultrasound"]
    models.set_value("ultrasound-fusion")
    tab.settled()
    _, beside = (box for box in tab.app.selectbox if "odel" in box.label)
    assert beside.options == ["Cnn, ultrasound"]


def test_models_are_asked_once_and_not_again_after_the_final_read(
    opened_site: PageSite, tab: Tab, monkeypatch: pytest.MonkeyPatch
):
    release(opened_site.weights, "ultrasound-fusion")
    asked: list[str] = []

    def counting(card: Card) -> FakeModel:
        asked.append(card.model_id)
        return FakeModel(card)

    monkeypatch.setattr(inference, "load_model", counting)
    study = store(opened_site)
    first_read(opened_site, study)
    tab.open("reader/read", study).press("Show second read").settled()
    assert asked == ["ultrasound-fusion"]
    tab.press("Save final assessment")
    release(opened_site.weights, "ultrasound-cnn", sha256="cd" * 32)
    tab.settled()
    assert asked == ["ultrasound-fusion"]


def test_what_came_while_the_reader_wrote_is_neither_drawn_nor_said_to_be_known_by_the_run_that_saves(
    opened_site: PageSite, tab: Tab
):
    release(opened_site.weights, "ultrasound-fusion")
    study = store(opened_site)
    first_read(opened_site, study)
    tab.open("reader/read", study).press("Show second read").settled()
    stored = studies.load_study(opened_site.db, opened_site.one, study).images[0]
    (card,) = second_read.live_cards(Settings.from_environment())
    said, explanation = FakeModel(card).read(stored.image)
    late = replace(said, model_id="late", weights_sha256="f" * 64)
    predictions.record_predictions(opened_site.db, study, stored.id, late, explanation)
    tab.press("Save final assessment")
    final = reads.reads_of(opened_site.db, opened_site.one, study)[-1]
    assert [one["model_id"] for one in final.predictions_seen] == ["ultrasound-fusion"]


def test_a_modality_without_a_model_is_said_and_the_study_can_still_be_finished(opened_site: PageSite, tab: Tab):
    study = store(opened_site)
    first_read(opened_site, study)
    words = tab.open("reader/read", study).press("Show second read").text
    assert "No model released for this modality yet: ultrasound." in words
    tab.press("Save final assessment")
    assert [read.kind for read in reads.reads_of(opened_site.db, opened_site.one, study)] == ["first", "final"]


def test_a_picture_that_no_model_reads_says_why_and_one_that_stands_alone_is_no_breast_s_number(
    opened_site: PageSite, tab: Tab, monkeypatch: pytest.MonkeyPatch
):
    release(opened_site.weights, "ultrasound-fusion")
    asked: list[str] = []

    class Counting(FakeModel):
        def read(self, image: Image) -> object:
            asked.append(image.sha256)
            return super().read(image)

    monkeypatch.setattr(inference, "load_model", Counting)
    images = [
        picture(1, laterality="L", not_scored="This is a specimen, so no model reads it."),
        picture(2, laterality="L", is_scored_alone=True),
    ]
    study = store(opened_site, images=images)
    first_read(opened_site, study)
    words = tab.open("reader/read", study).press("Show second read").settled().text
    assert asked == [images[1].sha256]
    assert "This is a specimen, so no model reads it." in words
    assert "None of these pictures is a full view" in words


def test_a_model_that_cannot_answer_says_why_and_the_others_still_answer(
    opened_site: PageSite, tab: Tab, monkeypatch: pytest.MonkeyPatch
):
    from core.errors import ModelUnavailable

    release(opened_site.weights, "ultrasound-fusion")
    release(opened_site.weights, "ultrasound-cnn", sha256="cd" * 32)

    def broken(card: Card) -> FakeModel:
        if card.model_id == "ultrasound-fusion":
            raise ModelUnavailable("The weights are damaged. Fetch them again.")
        return FakeModel(card)

    monkeypatch.setattr(inference, "load_model", broken)
    study = store(opened_site)
    first_read(opened_site, study)
    words = tab.open("reader/read", study).press("Show second read").text
    assert "The weights are damaged. Fetch them again." in words
    assert "42 %" in words


def test_the_final_assessment_starts_from_the_first_and_is_added_to_never_replaced(opened_site: PageSite, tab: Tab):
    study = store(opened_site)
    first_read(opened_site, study)
    tab.open("reader/read", study).press("Show second read")
    tab.app.text_area[0].set_value("Biopsy *advised*")
    tab.settled().press("Save final assessment")
    assert "BI-RADS 4A" in tab.text
    tab.choose("Left breast: BI-RADS", "5").press("Save the correction")
    saved = reads.reads_of(opened_site.db, opened_site.one, study)
    assert [(read.kind, read.impressions["L"].birads) for read in saved] == [
        ("first", "4A"), ("final", "4A"), ("final", "5"),
    ]  # fmt: skip
    assert saved[1].comment == "Biopsy *advised*"


def test_reports_are_offered_after_the_final_read_only_and_the_name_of_the_file_tells_nothing(
    opened_site: PageSite, tab: Tab
):
    study = store(opened_site, "Mrs Nobody")
    first_read(opened_site, study)
    tab.open("reader/read", study).press("Show second read")
    assert not tab.app.get("download_button")
    tab.press("Save final assessment")
    labels = [button.proto.label for button in tab.app.get("download_button")]
    assert labels == ["Report as PDF", "Report as HTML"]


def test_another_reader_sees_no_read_before_the_own_first_impression(
    opened_site: PageSite, monkeypatch: pytest.MonkeyPatch
):
    study = store(opened_site)
    first_read(opened_site, study)
    other = Tab(opened_site, opened_site.two, monkeypatch).open("reader/read", study)
    assert "seen first" not in other.text
    assert "Dr One" not in other.text
    other.choose("Left breast: BI-RADS", "1").press("Save first impression").press("Show second read")
    assert "seen first" in other.text


def test_after_a_final_read_another_reader_may_look_without_reading(
    opened_site: PageSite, monkeypatch: pytest.MonkeyPatch
):
    study = store(opened_site)
    first_read(opened_site, study)
    reads.reveal(opened_site.db, opened_site.one, study)
    reads.record_final_read(opened_site.db, opened_site.one, study, {"L": Impression("5", 90)}, "at last")
    other = Tab(opened_site, opened_site.two, monkeypatch).open("reader/read", study)
    assert "at last" not in other.text
    other.press("Look without reading")
    assert "at last" in other.text
    assert not other.has("Save final assessment")


def test_a_concurrent_study_shows_the_answer_at_once_and_needs_no_first_impression(
    opened_site: PageSite, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setenv("SECONDREAD_READING_MODE", "concurrent")
    release(opened_site.weights, "ultrasound-fusion")
    db = open_database(Settings.from_environment())
    study = studies.create_study(db, opened_site.one, display_name="Both", images=[picture(laterality="L")])
    db.close()
    shown = Tab(opened_site, opened_site.one, monkeypatch).open("reader/read", study)
    assert "42 %" in shown.text
    shown.choose("Left breast: BI-RADS", "2").press("Save final assessment")
    assert [read.kind for read in reads.reads_of(opened_site.db, opened_site.one, study)] == ["final"]


def test_an_impression_that_was_not_saved_is_there_again_after_another_page_and_another_sign_in(
    opened_site: PageSite, tab: Tab, monkeypatch: pytest.MonkeyPatch
):
    study = store(opened_site)
    tab.open("reader/read", study).choose("Left breast: BI-RADS", "4A")
    tab.app.slider[0].set_value(9)
    tab.settled()
    tab.app.text_area[0].set_value("a mass")
    tab.settled().open("reader/worklist")
    tab.open("reader/read", study)
    assert (tab.app.slider[0].value, tab.app.text_area[0].value) == (9, "a mass")

    again = Tab(opened_site, opened_site.one, monkeypatch).open("reader/read", study)
    assert (again.app.slider[0].value, again.app.text_area[0].value) == (9, "a mass")
    again.press("Save first impression")
    (saved,) = reads.reads_of(opened_site.db, opened_site.one, study)
    assert (saved.impressions, saved.comment) == ({"L": Impression("4A", 9)}, "a mass")

    other = Tab(opened_site, opened_site.two, monkeypatch).open("reader/read", study).press("Take over")
    assert other.app.text_area[0].value == "" and other.app.slider[0].disabled


def test_what_was_filled_in_here_while_another_tab_saved_is_said_not_to_be_saved(
    opened_site: PageSite, monkeypatch: pytest.MonkeyPatch
):
    elsewhere = "saved in another tab or browser"
    study = store(opened_site)
    one = Tab(opened_site, opened_site.one, monkeypatch).open("reader/read", study)
    two = Tab(opened_site, opened_site.one, monkeypatch).open("reader/read", study)
    one.choose("Left breast: BI-RADS", "4C")
    two.choose("Left breast: BI-RADS", "2").press("Save first impression")
    assert elsewhere not in two.text
    one.press("Save first impression")
    assert elsewhere in one.text and [read.impressions["L"].birads for read in _reads(opened_site, study)] == ["2"]
    assert elsewhere not in one.press("Show second read").text
    assert elsewhere not in two.settled().text
    two.press("Save final assessment")
    assert elsewhere not in two.text
    one.choose("Left breast: BI-RADS", "5")  # in the form of a final read that is saved by now
    assert elsewhere in one.text and len(_reads(opened_site, study)) == 2
    assert draft_of(opened_site.db, opened_site.one, study, "final") is None, "it was not saved, nor kept"
    for tab in (one, Tab(opened_site, opened_site.one, monkeypatch).open("reader/read", study)):
        assert {group.value for group in tab.app.button_group if group.label == "Left breast: BI-RADS"} == {"2"}


def test_what_was_chosen_of_a_breast_is_asked_for_anew_where_the_sides_were_corrected_since(
    opened_site: PageSite, monkeypatch: pytest.MonkeyPatch
):
    def swap() -> None:
        for stored in studies.load_study(opened_site.db, opened_site.one, study).images:
            other = {"L": "R", "R": "L"}[stored.image.laterality]
            studies.correct_image(
                opened_site.db, opened_site.one, stored.id, laterality=other, view=None, modality=Modality.ULTRASOUND
            )

    study = store(opened_site, images=[picture(1, laterality="L"), picture(2, laterality="R")])
    tab = Tab(opened_site, opened_site.one, monkeypatch).open("reader/read", study)
    tab.choose("Left breast: BI-RADS", "5").choose("Right breast: BI-RADS", "1")
    swap()
    tab.press("Save first impression")
    assert "The side of a picture was corrected since you began" in tab.text and not _reads(opened_site, study)
    assert "The side of a picture was corrected" in tab.choose("Left breast: BI-RADS", "1").text
    assert "The side of a picture was corrected" not in tab.choose("Right breast: BI-RADS", "1").text
    swap()
    later = Tab(opened_site, opened_site.one, monkeypatch).open("reader/read", study)
    assert "The side of a picture was corrected since you began" in later.text, "also of what a draft has kept"
    later.choose("Left breast: BI-RADS", "5").choose("Right breast: BI-RADS", "1").press("Save first impression")
    (read,) = _reads(opened_site, study)
    assert {breast: one.birads for breast, one in read.impressions.items()} == {"L": "5", "R": "1"}


def _reads(opened_site: PageSite, study: str) -> list[reads.Read]:
    return reads.reads_of(opened_site.db, opened_site.one, study)


def test_a_study_that_somebody_reads_is_locked_until_it_is_taken_over_and_then_it_is_theirs(
    opened_site: PageSite, monkeypatch: pytest.MonkeyPatch
):
    study = store(opened_site)
    Tab(opened_site, opened_site.one, monkeypatch).open("reader/read", study)
    other = Tab(opened_site, opened_site.two, monkeypatch).open("reader/read", study)
    assert "Dr One is reading this study since" in other.text and not other.has("Save first impression")
    assert other.press("Take over").has("Save first impression")
    first = Tab(opened_site, opened_site.one, monkeypatch).open("reader/read", study)
    assert "Dr Two is reading this study since" in first.text


def test_the_arbiter_of_a_double_reading_has_both_last_reads_in_sight_and_decides(
    opened_site: PageSite, monkeypatch: pytest.MonkeyPatch
):
    db, study = opened_site.db, store(opened_site)
    worklist.assign(db, opened_site.one, study, reader=None, is_double_read=True)
    for person, category in ((opened_site.one, "4A"), (opened_site.two, "2")):
        first_read(opened_site, study, person)
        reads.record_final_read(db, person, study, {"L": Impression(category, 20)}, f"lastly {category}")
    three = accounts.create_person(db, opened_site.one, name="Dr Three", password=PASSWORD, roles=["radiologist"])
    arbiter = Tab(opened_site, signed_in(db, three), monkeypatch).open("reader/read", study)
    assert "lastly" not in arbiter.text and not arbiter.has("Save final assessment")
    arbiter.press("See both reads and decide")
    (earlier,) = (one for one in arbiter.app.get("popover") if one.proto.popover.label == "Earlier reads: 2")
    folded = " ".join(one.proto.body for one in earlier.get("html"))
    assert folded.count("seen first") == 2 and "lastly" not in folded
    assert all(f"lastly {category}" in arbiter.text for category in ("4A", "2"))
    assert "readers disagree, 4A against 2" in arbiter.text
    arbiter.choose("Left breast: BI-RADS", "4A").press("Save final assessment")
    assert [read.person_name for read in reads.reads_of(db, opened_site.one, study)].count("Dr Three") == 1


def test_after_the_final_read_the_next_open_study_is_one_key_away(opened_site: PageSite, tab: Tab):
    study, following = store(opened_site), store(opened_site, "Following")
    first_read(opened_site, study)
    reads.reveal(opened_site.db, opened_site.one, study)
    reads.record_final_read(opened_site.db, opened_site.one, study, {"L": Impression("1", 0)}, "")
    assert "Open for you: **1 new · 0 begun**" in tab.open("reader/worklist").text
    tab.open("reader/read", study).press("Next study")
    assert tab.app.query_params["study"] in (following, [following])


def test_a_comment_that_is_too_long_is_said_so_and_not_cut_or_swallowed_by_the_field(opened_site: PageSite, tab: Tab):
    study = store(opened_site)
    tab.open("reader/read", study).choose("Left breast: BI-RADS", "2")
    comment = next(area for area in tab.app.text_area if area.label == "Comment")
    assert not comment.proto.max_chars, "a browser would refuse to take what is longer, without a word"
    comment.set_value("x" * (COMMENT_LENGTH_MOST + 1))
    tab.settled().press("Save first impression")
    assert f"The comment has {COMMENT_LENGTH_MOST + 1} characters; at most {COMMENT_LENGTH_MOST} are kept" in tab.text
    next(area for area in tab.app.text_area if area.label == "Comment").set_value("x" * COMMENT_LENGTH_MOST)
    tab.settled().press("Save first impression")
    (read,) = _reads(opened_site, study)
    assert len(read.comment) == COMMENT_LENGTH_MOST


def test_a_correction_begins_with_the_comment_that_it_corrects(opened_site: PageSite, tab: Tab):
    study = store(opened_site)
    first_read(opened_site, study)
    reads.record_final_read(opened_site.db, opened_site.one, study, {"L": Impression("4A", 20)}, "biopsy advised")
    reads.reveal(opened_site.db, opened_site.one, study)
    assert tab.open("reader/read", study).app.text_area[0].value == "biopsy advised"


def test_an_idle_end_is_warned_of_and_can_be_put_off(opened_site: PageSite, tab: Tab, monkeypatch: pytest.MonkeyPatch):
    from pages.parts import frame

    left = {"seconds": 151.0}
    monkeypatch.setattr(frame, "seconds_until_idle_end", lambda *_: left["seconds"])
    assert "signed out in about" not in tab.open("reader/worklist").text
    left["seconds"] = 119.0
    assert "signed out in about 2 min" in tab.settled().text
    tab.press("Stay signed in")
    left["seconds"] = 900.0
    assert not tab.settled().has("Stay signed in")


def test_names_that_are_markup_are_shown_letter_by_letter(opened_site: PageSite, tab: Tab):
    name = "![x](http://evil.example/p.png) $a$ :smile:"
    tab.open("reader/read", store(opened_site, name))
    shown = tab.app.subheader[0].value
    assert shown == plain(name)
    assert "![x](" not in shown
    assert shown.replace("\\", "") == name


def test_a_study_that_is_gone_gives_a_sentence(opened_site: PageSite, tab: Tab):
    study = store(opened_site)
    studies.delete_study(opened_site.db, opened_site.one, study, reason="wrong upload")
    assert "This study does not exist" in tab.open("reader/read", study).text


def test_a_wrong_upload_is_deleted_from_its_page_until_it_is_final(opened_site: PageSite, tab: Tab):
    study = store(opened_site)
    tab.open("reader/read", study)
    assert next(button for button in tab.app.button if button.label == "Delete this study").disabled
    tab.app.text_input(key=f"delete_reason_{study}").set_value("another patient's")
    tab.settled().press("Delete this study")
    assert studies.list_studies(opened_site.db, opened_site.one) == []
    study = store(opened_site)
    first_read(opened_site, study)
    reads.reveal(opened_site.db, opened_site.one, study)
    reads.record_final_read(opened_site.db, opened_site.one, study, {"L": Impression("1", 0)}, "")
    assert not tab.open("reader/read", study).has("Delete this study")


def test_a_reason_typed_to_delete_one_study_deletes_no_other(opened_site: PageSite, tab: Tab):
    wrong, right = store(opened_site, "Wrong"), store(opened_site, "Right")
    tab.open("reader/read", wrong)
    next(field for field in tab.app.text_input if field.label == "Reason").set_value("another patient's")
    assert not next(button for button in tab.settled().app.button if button.label == "Delete this study").disabled
    tab.open("reader/read", right)
    assert not next(field for field in tab.app.text_input if field.label == "Reason").value
    assert next(button for button in tab.app.button if button.label == "Delete this study").disabled


def test_sides_are_corrected_until_the_first_read_and_not_after(opened_site: PageSite, tab: Tab):
    study = store(opened_site, images=[picture()])
    tab.open("reader/read", study)
    next(group for group in tab.app.button_group if group.label == "Side").select("R")
    tab.press("Save correction")
    assert studies.load_study(opened_site.db, opened_site.one, study).breasts == ("R",)
    reads.record_first_read(opened_site.db, opened_site.one, study, {"R": Impression("1", 0)})
    assert not tab.settled().has("Save correction")


def test_a_picture_to_correct_is_named_as_it_hangs_and_its_side_may_be_taken_back(opened_site: PageSite, tab: Tab):
    images = [picture(1, modality=Modality.MAMMOGRAPHY, laterality="R", view="MLO"), picture(2, laterality="L")]
    study = store(opened_site, images=images)
    words = tab.open("reader/read", study).text
    assert "**Image 1** · R MLO" in words and "**Image 2** · L ultrasound" in words
    side = next(group for group in tab.app.button_group if group.label == "Side")
    assert "Cannot be told" in side.options
    side.select(SIDE_NOT_STATED)
    tab.press("Save correction")
    stored = studies.load_study(opened_site.db, opened_site.one, study)
    assert [one.image.laterality for one in stored.images] == [None, "L"]


def test_new_files_become_a_study_with_what_the_reader_states_and_refusals_lose_nothing(
    opened_site: PageSite, tab: Tab, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
):
    from PIL import Image as Raster

    from pages.reader.parts import new_study

    good, bad = tmp_path / "good", tmp_path / "bad"
    for path in (good, bad):
        path.mkdir()
    rng = np.random.default_rng(3)
    speckle = np.clip(rng.gamma(2.0, 30.0, (300, 400)), 0, 255).astype(np.uint8)
    Raster.fromarray(speckle).save(good / "data", "PNG")
    (bad / "data").write_bytes(b"<html>no picture</html>")
    files = [InboxFile(good / "data", "left*scan*.png"), InboxFile(bad / "data", "bad.png")]
    monkeypatch.setattr(new_study, "upload_files", lambda key: files)
    monkeypatch.setattr(new_study, "read_upload", FakeIntake())
    tab.open("reader/read")
    words = tab.text
    assert "1 file was refused. The other one stays." in words
    assert "bad.png**: Not a picture." in words
    tab.choose("Side", "R")
    next(box for box in tab.app.selectbox if box.label == "Kind of picture").set_value(Modality.ULTRASOUND)
    tab.settled()
    tab.app.text_input(key="new_name").set_value("Teaching case")
    tab.settled().press("Save the study")
    [row] = studies.list_studies(opened_site.db, opened_site.one)
    assert row.display_name == "Teaching case"
    retained = studies.load_study(opened_site.db, opened_site.one, row.id).images[0].image
    assert (retained.laterality, retained.modality, retained.modality_source) == ("R", Modality.ULTRASOUND, "reader")
    assert not good.exists()
    with opened_site.db.read() as connection:
        known = identity_of(connection, opened_site.db.site_key, row.id)
    assert known is not None and known.study["StudyInstanceUID"] == "1.2.3", (
        "what the file calls itself, also read again"
    )


def test_files_of_two_patients_become_two_studies_and_mixing_them_is_refused_before_a_picture_is_drawn(
    opened_site: PageSite, tab: Tab, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
):
    from core.imaging.intake import Intake
    from pages.parts import viewer
    from pages.reader.parts import new_study

    drawn: list[str] = []
    monkeypatch.setattr(viewer, "show", lambda pictures, stages, *, key, **_: drawn.append(key))
    patients = {"a1.dcm": "a" * 64, "b1.dcm": "b" * 64, "a2.dcm": "a" * 64}
    intakes = tuple(
        Intake(name, f"{number:064x}", picture(number, laterality="L", patient_hash=patient), None)
        for number, (name, patient) in enumerate(patients.items())
    )
    upload = tmp_path / "upload" / "data"
    upload.parent.mkdir()
    upload.write_bytes(b"")
    monkeypatch.setattr(new_study, "upload_files", lambda key: [InboxFile(upload, "all.zip")])
    monkeypatch.setattr(new_study, "read_upload", lambda *_, **__: intakes)
    words = tab.open("reader/read").text
    assert "These 3 pictures are 2 studies." in words and "together by their tags" in words
    tab.app.text_input(key="new_name").set_value("Teaching")
    tab.settled()
    for toggle in tab.app.toggle:
        toggle.set_value(True)
    tab.settled()
    assert len(drawn) == 3

    tab.app.selectbox(key="new_2_study_0").set_value(1)
    assert "2 pictures · together by hand" in tab.settled().text
    tab.app.selectbox(key="new_2_study_1").set_value(0)
    tab.settled()

    drawn.clear()
    tab.app.selectbox(key="new_1_study_1").set_value(0)
    words = tab.settled().text
    assert "belong to 2 patients by their tags" in words and drawn == []
    assert next(button for button in tab.app.button if button.label.startswith("Save")).disabled

    tab.app.selectbox(key="new_1_study_0").set_value(1)
    tab.settled().press("Save 2 studies")
    rows = studies.list_studies(opened_site.db, opened_site.one)
    assert {(row.display_name, row.n_images) for row in rows} == {("Teaching 1", 2), ("Teaching 2", 1)}
    assert not upload.exists()


@pytest.fixture
def three_patients(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> list[InboxFile]:
    """What is uploaded: a file each of three patients, and the page reads a fourth as another's."""
    from core.imaging.intake import Intake
    from pages.parts import viewer
    from pages.reader.parts import new_study

    def read(path: Path, name: str, **_: object) -> tuple[Intake, ...]:
        number = int(name[0])
        return (Intake(name, f"{number:064x}", picture(number, laterality="L", patient_hash=f"{number:064x}"), None),)

    files = []
    for number in range(1, 5):
        path = tmp_path / f"upload{number}" / "data"
        path.parent.mkdir()
        path.write_bytes(b"")
        files.append(InboxFile(path, f"{number}.dcm"))
    monkeypatch.setattr(viewer, "show", lambda *_, **__: None)
    monkeypatch.setattr(new_study, "read_upload", read)
    monkeypatch.setattr(new_study, "upload_files", lambda key: files[:3])
    return files


def test_a_typed_name_stays_with_its_pictures_when_another_file_goes(
    opened_site: PageSite, tab: Tab, monkeypatch: pytest.MonkeyPatch, three_patients: list[InboxFile]
):
    from pages.reader.parts import new_study

    _, two, three, four = three_patients
    tab.open("reader/read")
    for number, name in enumerate(("Anna", "Berta", "Carla")):
        tab.app.text_input(key=f"new_name_{number}").set_value(name)
    tab.settled()
    monkeypatch.setattr(new_study, "upload_files", lambda key: [two, three])
    names = [box.value for box in tab.settled().app.text_input if box.key != "new_name"]
    assert names == ["Berta", "Carla"]
    # The last goes and another comes at once: it is a study of its own, whatever its number is.
    monkeypatch.setattr(new_study, "upload_files", lambda key: [two, four])
    assert [box.value for box in tab.settled().app.text_input if box.key != "new_name"] == ["Berta", ""]
    tab.app.text_input(key="new_name_2").set_value("Dora")
    tab.settled().press("Save 2 studies")
    rows = studies.list_studies(opened_site.db, opened_site.one)
    shown = {
        row.display_name: studies.load_study(opened_site.db, opened_site.one, row.id).images[0].image.patient_hash
        for row in rows
    }
    assert shown == {"Berta": f"{2:064x}", "Dora": f"{4:064x}"}


def test_what_was_ticked_of_one_file_does_not_stand_at_the_file_that_comes_in_its_place(
    opened_site: PageSite, tab: Tab, monkeypatch: pytest.MonkeyPatch, three_patients: list[InboxFile]
):
    from core.imaging.intake import Intake
    from pages.reader.parts import new_study

    def untagged(path: Path, name: str, **_: object) -> tuple[Intake, ...]:
        number = int(name[0])
        return (Intake("scan.png", f"{number:064x}", picture(number, laterality="L"), None),)

    one, two, three, _ = three_patients
    monkeypatch.setattr(new_study, "read_upload", untagged)
    monkeypatch.setattr(new_study, "upload_files", lambda key: [one, two])
    tab.open("reader/read")
    tab.app.checkbox[0].check()
    assert tab.settled().app.checkbox[0].value
    monkeypatch.setattr(new_study, "upload_files", lambda key: [one, three])
    assert not tab.settled().app.checkbox[0].value


def test_what_could_not_be_saved_keeps_the_number_and_the_name_that_it_was_shown_with(
    opened_site: PageSite, tab: Tab, monkeypatch: pytest.MonkeyPatch, three_patients: list[InboxFile]
):
    from core.errors import NotSaved
    from core.reading import new_studies

    tab.open("reader/read")
    tab.app.text_input(key="new_name").set_value("Case")
    tab.app.text_input(key="new_name_2").set_value("Carla")
    tab.settled()

    def full(db, person, new):
        yield from saved(db, person, new[:2])
        raise NotSaved("The disk with the database is full.")

    saved = new_studies.save
    monkeypatch.setattr(new_studies, "save", full)
    assert "is full" in tab.press("Save 3 studies").text
    monkeypatch.setattr(new_studies, "save", saved)
    words = tab.settled().text
    assert "**Study 3**" in words and "**Study 1**" not in words
    assert tab.app.text_input(key="new_name_2").value == "Carla"
    tab.app.text_input(key="new_name_2").set_value("")
    tab.settled().press("Save the study")
    rows = studies.list_studies(opened_site.db, opened_site.one)
    assert {row.display_name for row in rows} == {"Case 1", "Case 2", "Case 3"}


def test_files_that_say_nothing_of_their_patient_are_drawn_and_saved_once_somebody_says_whose_they_are(
    opened_site: PageSite, tab: Tab, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
):
    from core.imaging.intake import Intake
    from pages.parts import viewer
    from pages.reader.parts import new_study

    drawn: list[str] = []
    monkeypatch.setattr(viewer, "show", lambda pictures, stages, **_: drawn.append(pictures[0].label))
    intakes = tuple(
        Intake(name, f"{number:064x}", picture(number, modality=Modality.MAMMOGRAPHY), None)
        for number, name in enumerate(("L_CC.png", "scan.png"))
    )
    monkeypatch.setattr(new_study, "upload_files", lambda key: [InboxFile(tmp_path / "upload" / "x", "all.zip")])
    monkeypatch.setattr(new_study, "read_upload", lambda *_, **__: intakes)
    words = tab.open("reader/read").text
    assert "Nothing in these files says whose pictures they are." in words and drawn == []

    tab.app.checkbox[0].check()
    words = tab.settled().text
    assert drawn == ["L CC", "side not stated, view not stated"]  # a suggested side is not "not stated"
    assert "Choose the side of scan.png" in words

    next(group for group in tab.app.button_group if group.key == "new_1_side").select("U")
    tab.settled()
    tab.app.text_input(key="new_name").set_value("Case")
    tab.settled().press("Save the study")
    (row,) = studies.list_studies(opened_site.db, opened_site.one)
    assert studies.load_study(opened_site.db, opened_site.one, row.id).breasts == ("L", "U")


def test_of_several_new_studies_the_one_that_waits_for_a_choice_is_open(
    opened_site: PageSite, tab: Tab, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
):
    from core.imaging.intake import Intake
    from pages.parts import viewer
    from pages.reader.parts import new_study

    monkeypatch.setattr(viewer, "show", lambda *_, **__: None)
    patients = {"a.dcm": "L", "b.dcm": None, "c.dcm": None}
    intakes = tuple(
        Intake(name, f"{number:064x}", picture(number, laterality=side, patient_hash=name[0] * 64), None)
        for number, (name, side) in enumerate(patients.items())
    )
    monkeypatch.setattr(new_study, "upload_files", lambda key: [InboxFile(tmp_path / "x", "all.zip")])
    monkeypatch.setattr(new_study, "read_upload", lambda *_, **__: intakes)
    tab.open("reader/read")
    assert [toggle.value for toggle in tab.app.toggle] == [False, True, False]
    assert "Choose the side of b.dcm" in tab.text and "together" not in tab.text
    tab.choose("Side", "L")
    assert [toggle.value for toggle in tab.app.toggle] == [False, True, True]
    tab.app.toggle[1].set_value(False)
    tab.settled()
    assert [toggle.value for toggle in tab.app.toggle] == [False, False, True]


def test_a_lookup_table_of_the_file_counts_until_a_window_is_chosen_of_just_that_file(
    opened_site: PageSite, tab: Tab, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
):
    from core.imaging.intake import Intake
    from pages.parts import viewer
    from pages.reader.parts import new_study

    windows = (Window(100, 50), Window(200, 80))
    asked: list[int | None] = []

    def read(*_: object, window: int | None = None, **__: object) -> tuple[Intake, ...]:
        asked.append(window)
        images = [
            replace(picture(number, laterality="L", patient_hash="a" * 64), windows=windows, window_index=window)
            for number in range(2)
        ]
        # Names of members are cut: these two had different ends.
        return tuple(Intake("all.zip/long", f"{number:064x}", image, None) for number, image in enumerate(images))

    shown: list[Image] = []
    monkeypatch.setattr(viewer, "show", lambda pictures, *_, **__: shown.extend(one.image for one in pictures))
    monkeypatch.setattr(new_study, "upload_files", lambda key: [InboxFile(tmp_path / "x", "all.zip")])
    monkeypatch.setattr(new_study, "read_upload", read)
    tab.open("reader/read")
    assert asked == [None], "nothing is read again before anybody chooses"
    first, second = (image.pixels.tobytes() for image in shown[-2:])
    assert first != second
    tab.app.selectbox(key="new_1_window").set_value(1)
    tab.settled()
    assert asked == [None, 1]
    assert [image.pixels.tobytes() for image in shown[-2:]] == [first, second]
    assert [image.window_index for image in shown[-2:]] == [None, 1]
    tab.app.selectbox(key="new_1_window").set_value(-1)
    tab.settled()
    assert asked == [None, 1, None] and [image.window_index for image in shown[-2:]] == [None, None]


class FakeIntake:
    """Reads any file named *.png but "bad.png" as a picture whose kind nobody knows until somebody says."""

    def __call__(self, data: Path, name: str, *, modality: Modality | None = None, **rest: object) -> tuple:
        from core.imaging.intake import Intake

        if name == "bad.png":
            return (Intake(name, "", None, "Not a picture."),)
        pixels = np.random.default_rng(1).random((48, 64), dtype=np.float32)
        source = "argument" if modality else "unknown"
        image = Image(pixels, "1" * 64, modality=modality, modality_source=source)
        return (Intake(name, "1" * 64, image, None, {"StudyInstanceUID": "1.2.3"} if rest["with_source"] else {}),)


def test_a_study_is_not_saved_while_the_kind_of_a_picture_is_unknown(
    opened_site: PageSite, tab: Tab, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
):
    from pages.reader.parts import new_study

    monkeypatch.setattr(new_study, "upload_files", lambda key: [InboxFile(tmp_path / "x", "scan.png")])
    monkeypatch.setattr(new_study, "read_upload", FakeIntake())
    words = tab.open("reader/read").text
    assert "Choose the kind of picture of scan.png" in words
    assert next(button for button in tab.app.button if button.label == "Save the study").disabled


def test_truth_is_entered_after_the_final_read_and_kept_beside_earlier_entries(opened_site: PageSite, tab: Tab):
    study = store(opened_site, "Followed")
    first_read(opened_site, study)
    assert "No study has a final read yet" in tab.open("reader/truth").text
    reads.reveal(opened_site.db, opened_site.one, study)
    reads.record_final_read(opened_site.db, opened_site.one, study, {"L": Impression("5", 90)}, "")
    tab.open("reader/truth")
    tab.app.selectbox(key="truth_study").set_value(study)
    tab.settled()
    assert "Nothing has been entered yet." in tab.text
    next(group for group in tab.app.button_group if group.label == "Pathology").select("malignant")
    tab.app.date_input[0].set_value(date(2026, 1, 2))
    tab.app.text_input[0].set_value("core biopsy")
    tab.press("Save")
    [truth] = truths.truths_of(opened_site.db, opened_site.one, study)
    assert (truth.breast, truth.pathology, truth.happened_on) == ("L", "malignant", date(2026, 1, 2))
    assert "core biopsy" in tab.text
    tab.press("Save")
    assert "Give the breast, the pathology, the date and the source." in tab.text


def test_what_became_of_one_study_does_not_stand_in_the_form_of_another(opened_site: PageSite, tab: Tab):
    for name in ("This one", "Another"):
        study = store(opened_site, name)
        first_read(opened_site, study)
        reads.reveal(opened_site.db, opened_site.one, study)
        reads.record_final_read(opened_site.db, opened_site.one, study, {"L": Impression("5", 90)}, "")
        tab.open("reader/truth")
        tab.app.selectbox(key="truth_study").set_value(study)
        tab.settled()
        assert not tab.app.text_input[0].value and tab.app.date_input[0].value is None
        tab.app.text_input[0].set_value("core biopsy")
        tab.press("Save")
        assert "Give the breast" in tab.text and tab.app.text_input[0].value == "core biopsy"
    next(group for group in tab.app.button_group if group.label == "Pathology").select("malignant")
    tab.app.date_input[0].set_value(date(2026, 1, 2))
    tab.press("Save")
    [truth] = truths.truths_of(opened_site.db, opened_site.one, study)
    assert truth.source == "core biopsy" and not tab.app.text_input[0].value


def test_cards_show_measured_numbers_with_intervals_and_their_limits_as_text(opened_site: PageSite, tab: Tab):
    release(opened_site.weights, "ultrasound-fusion")
    words = tab.open("reader/models").text
    for expected in ("Fusion, ultrasound", "Area under the ROC curve", "60", "Made <b>up</b>.", "Only 60 test cases"):
        assert expected in words, expected
    assert "Not trained yet" in words


def test_a_card_says_what_each_branch_adds_and_how_far_its_folds_differ(opened_site: PageSite, tab: Tab):
    branches = {"vgg16": {"auc_without": 0.614, "adds": 0.25, "low": 0.1, "high": 0.4, "n": 60}}
    folds = {"n": 2, "thresholds": [0.3, 0.3], "areas": [0.71, 0.83]}
    release(opened_site.weights, "ultrasound-fusion", branches=branches, folds=folds)
    release(opened_site.weights, "ultrasound-cnn", sha256="cd" * 32)
    words = tab.open("reader/models").text
    assert words.count("AUC of 0.710 to 0.830") == 1 and words.count("What each branch adds") == 1
    assert "+0.250 (+0.100 to +0.400)" not in words
    tab.app.session_state["branches_ultrasound-fusion"] = True
    words = tab.settled().text
    assert "+0.250 (+0.100 to +0.400)" in words and "0.614" in words


def test_without_any_model_the_page_says_so(opened_site: PageSite, tab: Tab):
    assert "No model has been released yet" in tab.open("reader/models").text


def test_models_that_were_only_measured_are_shown_when_asked_for(opened_site: PageSite, tab: Tab):
    release(opened_site.weights, "ultrasound-fusion")
    release(opened_site.weights, "mammography-cnn", sha256="cd" * 32)
    (opened_site.weights / "mammography-cnn" / "weights.safetensors").unlink()
    words = tab.open("reader/models").text
    assert "ultrasound-fusion" in words and "mammography-cnn" not in words
    toggle = next(toggle for toggle in tab.app.toggle if toggle.label.startswith("Also those"))
    assert toggle.label.endswith("measured only (1)")
    toggle.set_value(True)
    assert "mammography-cnn" in tab.settled().text
    words = tab.choose("Kind of image", "mammography").text
    assert "mammography-cnn" in words and "ultrasound-fusion" not in words


def test_everybody_can_read_what_it_is_not_for(opened_site: PageSite, tab: Tab):
    words = tab.open("public/about").text
    assert "not a medical device" in words
    assert "Apache License" in words


def test_pages_that_need_no_model_load_no_tensorflow(opened_site: PageSite):
    """In a process of its own: other tests of this one may have loaded it."""
    import subprocess

    code = (
        "import sys\n"
        "import pages.reader.parts.scores, pages.reader.parts.pictures\n"
        "import pages.reader.parts.new_study, pages.reader.parts.study_report\n"
        "import core.evaluation.charts.curves, pages.parts.card_rows, pages.parts.attention\n"
        "sys.exit(any(name in sys.modules for name in ('tensorflow', 'keras')))"
    )
    assert subprocess.run([sys.executable, "-c", code], cwd=REPOSITORY, check=False).returncode == 0


def test_plain_words_lose_line_breaks_controls_and_direction_changes():
    assert plain("a\n# b\x00\u202ec").replace("\\", "") == "a # b c"
    assert plain("Öztürk 12") == "Öztürk 12"


def test_the_bars_escape_names_and_say_aloud_what_they_draw():
    from pages.reader.parts.scores import Bar, bars_html

    html = bars_html([Bar("<script>", 0.42, (0.3, 0.5), 0.3)]).replace("\u00a0", " ")
    assert "<script>" not in html
    assert 'aria-label="&lt;script&gt;: 42 %, 95 % interval 30 % to 50 %. Above the threshold of 30 %"' in html
    weak = bars_html([Bar("Fusion", 0.42, (0.3, 0.5), 0.3, ("Weak: <b>do not lean on it</b>.",))]).replace(
        "\u00a0", " "
    )
    words = "Weak: &lt;b&gt;do not lean on it&lt;/b&gt;."
    assert f'Above the threshold of 30 %. {words}"' in weak and f">{words}</div>" in weak and "<b>do" not in weak


def test_what_the_site_chose_is_seen_where_it_counts_thresholds_and_pictures_that_were_removed(
    opened_site: PageSite, tab: Tab, monkeypatch: pytest.MonkeyPatch
):
    from pages.reader.parts import study_report

    release(opened_site.weights, "ultrasound-fusion")
    site_settings.choose(opened_site.db, opened_site.one, "thresholds", "sensitivity")
    study = store(opened_site)
    first_read(opened_site, study)
    tab.open("reader/read", study).press("Show second read")
    assert "By the choice of this site: the highest that finds 90 % of the positive validation cases" in tab.text
    tab.open("reader/models")
    assert "At this site" in tab.text and "Sensitivity at the threshold" in tab.text

    reads.record_final_read(opened_site.db, opened_site.one, study, {"L": Impression("5", 90)}, "at last")
    site_settings.choose(opened_site.db, opened_site.one, "keep_pixels_days", 1)
    monkeypatch.setattr(retention, "now", lambda: tables.now() + timedelta(days=2))
    assert retention.apply_policy(opened_site.db) == 1
    tab.open("reader/read", study)
    assert "The pictures were removed on" in tab.text and "42 %" in tab.text and "at last" in tab.text
    loaded = studies.load_study(opened_site.db, opened_site.one, study)
    known = reads.reads_of(opened_site.db, opened_site.one, study)
    report = study_report.gather(
        opened_site.one,
        loaded,
        second_read.answers_of(opened_site.db, opened_site.one, loaded),
        known,
        site_settings.current(opened_site.db),
    )
    html = build_html(study_document(report))
    assert "The pictures were removed on" in html and "data:image/jpeg" not in html and "finds 90 %" in html
    assert build_pdf(study_document(report)).startswith(b"%PDF")


def test_computing_ahead_is_switched_off_for_the_site_on_the_page_settings(opened_site: PageSite, tab: Tab):
    tab.open("admin/site_settings")
    assert "Default: on" in tab.text
    next(one for one in tab.app.toggle if one.label.startswith("The second read is computed")).set_value(False)
    tab.settled()
    next(one for one in tab.app.button if one.key == "save_compute_ahead").click()
    tab.settled()
    assert site_settings.current(opened_site.db).compute_ahead is False
    assert next(one for one in tab.app.toggle if one.label.startswith("The second read is computed")).value is False


def test_the_page_settings_shows_what_the_environment_says_however_large_or_small(
    opened_site: PageSite, tab: Tab, monkeypatch: pytest.MonkeyPatch
):
    import streamlit as st

    said = {"THRESHOLD_SENSITIVITY": 30, "BACKUP_DAYS": 500, "BACKUPS_MOST": 2000}
    for name, value in said.items():
        monkeypatch.setenv(f"SECONDREAD_{name}", str(value))
    st.cache_resource.clear()  # as a server that was started with it
    tab.open("admin/site_settings")
    for name, value in said.items():
        assert tab.app.number_input(key=f"setting_{name.lower()}_{value}").value == value
