"""The outline and its measured words on the page of a study: after the second read, on demand, on a copy."""

from __future__ import annotations

import json
import shutil
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from made_lesions import SHAPE, ellipse, outlined
from made_lesions import picture as lesion_picture
from page_site import PageSite, Tab, first_read, picture, release, store
from release_site import SHIPPED_OUTLINE, add_outline_network, worse_outlines

from core.errors import ModelUnavailable
from core.models.outline_card import FILE, FOLDER, live_outline_card
from core.reading import outlines
from core.records.reads import drafts, reads
from core.records.reads.studies import load_study
from core.reports.html import build_html
from core.reports.study import study_document
from core.serving import inference
from core.settings import Settings

SWITCH = "Outline and measure the lesion"


def network(weights: Path, monkeypatch: pytest.MonkeyPatch, masks: list[np.ndarray]) -> None:
    """A site's outline network that sees just these lesions."""
    (weights / FOLDER).mkdir(parents=True)
    (weights / FOLDER / FILE).write_text(json.dumps({
        "model_id": FOLDER, "title": "Outline", "modality": "ultrasound", "level": 0.5, "least_peak": 0.6,
        "weights": {"sha256": "ab" * 32}, "input": {"side": 64, "channels": 1},
        "measured": {"own test cases": {
            "dice": {"value": 0.8, "low": 0.7, "high": 0.9, "n": 99},
            "false_in_normal": {"value": 0.25, "low": 0.1, "high": 0.4, "n": 20},
        }},
    }))  # fmt: skip
    answer = np.zeros(SHAPE, np.float32)
    for place, mask in enumerate(masks):
        answer[mask] = 0.9 - place / 10
    monkeypatch.setattr(inference.Here, "outline", lambda self, card, image, on_wait: answer)
    monkeypatch.setattr(outlines, "_HELD", type(outlines._HELD)())


def opened(site: PageSite, tab: Tab, **facts: object) -> str:
    """A revealed study of one ultrasound image with a hypoechoic oval."""
    release(site.weights, "ultrasound-fusion", auc_low=0.8)
    image = replace(picture(1, laterality="L", **facts), pixels=lesion_picture(ellipse()))
    study = store(site, images=[image])
    first_read(site, study)
    tab.open("reader/read", study)
    assert SWITCH not in tab.text, "nothing of it before the second read is shown"
    tab.press("Show second read")
    return study


def switched(tab: Tab) -> Tab:
    next(one for one in tab.app.toggle if one.label == SWITCH).set_value(True)
    return tab.settled()


def test_the_outline_is_drawn_on_demand_and_accepted_words_go_to_the_comment(
    opened_site: PageSite, tab: Tab, monkeypatch: pytest.MonkeyPatch
) -> None:
    network(opened_site.weights, monkeypatch, [ellipse()])
    study = opened(opened_site, tab, spacing_mm=(0.1, 0.1))
    assert "hypoechoic" not in tab.text
    switched(tab)
    assert "| shape | oval |" in tab.text and "| echo pattern | hypoechoic |" in tab.text
    assert (
        "weights abababab" in tab.text
        and "AI-generated" in tab.text
        and "Dice of 0.80" in tab.text
        and "In 25% of normal" in tab.text
    )
    assert "calcifications" not in tab.text and "echogenic rim" not in tab.text
    assert not tab.has("Add to my comment"), "nothing is accepted unasked"
    group = next(one for one in tab.app.button_group if one.label == "What you accept")
    group.set_value(["shape", "size"])
    tab.settled()
    sentence = next(area for area in tab.app.text_area if area.label == "Sentence of what you accepted")
    assert sentence.value == "Oval mass, 8 x 5 mm."
    sentence.set_value("Oval mass, 8 mm.")
    tab.settled().press("Add to my comment")
    assert next(area for area in tab.app.text_area if area.label == "Comment").value == "Oval mass, 8 mm."
    draft = drafts.draft_of(opened_site.db, opened_site.one, study, "final")
    assert draft is not None and draft.comment == "Oval mass, 8 mm."


def ask(tab: Tab, sentence: str) -> Tab:
    assert sentence in tab.text
    return tab


def test_an_accepted_outline_is_a_finding_of_the_report_and_a_rejected_one_is_counted_only(
    opened_site: PageSite, tab: Tab, monkeypatch: pytest.MonkeyPatch
) -> None:
    from pages.reader.parts import study_report

    star = outlined(lambda angle: np.where(np.abs(angle) < 1.0, 6.0, 18.0), (160, 60))
    network(opened_site.weights, monkeypatch, [ellipse(), star])
    study = opened(opened_site, tab, spacing_mm=(0.1, 0.1))
    assert not tab.has("Accept outline")
    switched(tab)
    assert "No word is chosen: accepted, it is a mass without descriptors." in tab.text
    next(one for one in tab.app.button_group if one.label == "What you accept").set_value(["shape", "size"])
    assert "No word is chosen" not in tab.settled().text
    tab.press("Accept outline")
    assert "it is a finding of the form below" in tab.text
    next(one for one in tab.app.button_group if one.label == "Outline").set_value(1)
    ask(tab.settled(), "Dashed on the picture until you accept or reject it").press("Reject outline")
    assert "Rejected: it is not on the picture any more" in tab.text
    draft = drafts.draft_of(opened_site.db, opened_site.one, study, "final")
    assert draft is not None and len(draft.rejected) == 1 and draft.sketches[0].descriptors == {"shape": "oval"}
    tab.open("reader/read", study)  # the switch is off again, and what was answered counts all the same
    tab.choose("Left breast: BI-RADS", "4A")
    tab.press("Save final assessment")
    assert "| shape | " in switched(tab).text
    assert "What you accept" not in [one.label for one in tab.app.button_group], "nothing is asked of a saved read"
    final = reads.reads_of(opened_site.db, opened_site.one, study)[-1]
    assert [(one.answer, one.mark.kind, one.model_id) for one in final.annotations.proposals] == [
        ("accepted", "outline", FOLDER),
        ("rejected", "outline", FOLDER),
    ]
    (finding,) = final.annotations.findings
    assert (finding.type, finding.marks) == ("mass", (final.annotations.proposals[0].mark,))
    assert finding.size is not None and finding.size.length == pytest.approx(8, abs=0.2)
    stored = load_study(opened_site.db, opened_site.one, study)
    report = study_report.gather(opened_site.one, stored, [], [final], Settings.from_environment())
    html = build_html(study_document(report))
    assert "Mass, oval; 8." in html and "1 accepted, 1 rejected" in html
    assert html.count("Proposed by a model (AI-generated), accepted") == 1  # at the finding that it became
    assert "1 accepted, 0 edited, 1 rejected, 0 open" in tab.open("reader/models").text


@pytest.mark.parametrize("is_from_draft", [False, True])
def test_an_accepted_outline_is_the_network_s_also_where_that_answers_no_more_by_the_time_it_is_saved(
    opened_site: PageSite, tab: Tab, monkeypatch: pytest.MonkeyPatch, is_from_draft: bool
) -> None:
    from pages.reader.parts import measured_findings

    network(opened_site.weights, monkeypatch, [ellipse()])
    study = opened(opened_site, tab, spacing_mm=(0.1, 0.1))
    switched(tab).press("Accept outline")
    tab.choose("Left breast: BI-RADS", "4A")

    def refuse(*_: object) -> None:
        raise ModelUnavailable("The outline network is away.")

    monkeypatch.setattr(measured_findings, "outlined_lesions", refuse)
    if is_from_draft:
        tab.open("reader/read", store(opened_site, "Another"))  # which takes the form out of the tab
        tab.open("reader/read", study)
    tab.press("Save final assessment")
    final = reads.reads_of(opened_site.db, opened_site.one, study)[-1]
    (made,) = final.annotations.proposals
    assert (made.answer, made.mark.kind, made.model_id) == ("accepted", "outline", FOLDER)
    assert [one.marks for one in final.annotations.findings] == [(made.mark,)]


def test_two_outlines_are_chosen_between_and_none_is_no_all_clear(
    opened_site: PageSite, tab: Tab, monkeypatch: pytest.MonkeyPatch
) -> None:
    star = outlined(lambda angle: np.where(np.abs(angle) < 1.0, 6.0, 18.0), (160, 60))
    network(opened_site.weights, monkeypatch, [ellipse(), star])
    opened(opened_site, tab)
    assert "| shape | oval |" in switched(tab).text and "the file states no millimetres" in tab.text.lower()
    group = next(one for one in tab.app.button_group if one.label == "Outline")
    group.set_value(1)
    assert "| shape | irregular |" in tab.settled().text


def test_a_site_without_a_network_shows_no_switch_and_one_that_sees_nothing_says_so(
    opened_site: PageSite, tab: Tab, monkeypatch: pytest.MonkeyPatch
) -> None:
    study = opened(opened_site, tab)
    assert SWITCH not in tab.text
    network(opened_site.weights, monkeypatch, [])
    tab.open("reader/read", study)
    assert "does not mean that there is none" in switched(tab).text
    (opened_site.weights / FOLDER / FILE).write_text("{")
    assert "no usable outline network" in tab.settled().text


def test_an_administrator_promotes_an_outline_network_that_was_trained_here_and_goes_back(
    opened_site: PageSite, tab: Tab
) -> None:
    assert "Outline network" not in tab.open("admin/releases").text, "there is none"
    shutil.copytree(SHIPPED_OUTLINE.folder, opened_site.weights / FOLDER)
    sha256 = add_outline_network(opened_site.db, "<b>December", worse_outlines)
    tab.open("admin/releases")
    (label,) = [one.label for one in tab.app.expander if "outline" in one.label]
    assert f"weights {SHIPPED_OUTLINE.weights_sha256[:8]} · as it is shipped · test Dice 0.833 (0.809 to" in label
    assert "Measured on 396 test pictures that both were tested on" in tab.text.replace("**", "")
    assert "Its Dice is clearly worse" in tab.text and "No red line" not in tab.text
    tab.press("Promote this outline network")
    assert "needs a written reason" in tab.text
    for key in ("dice", "found", "false in normal"):
        tab.app.text_input(key=f"pass_outline_{sha256[:8]}_{key}").set_value("<i>tested</i>")
    tab.app.text_area(key=f"promote_reason_outline_{sha256[:8]}").set_value("A test.")
    tab.press("Promote this outline network")
    live = live_outline_card(Settings.from_environment())
    assert live is not None and live.weights_sha256 == sha256
    assert f"is live with the weights {sha256[:8]}" in tab.app.success[0].value
    tab.app.text_input(key=f"why_{FOLDER}").set_value("Back.")
    tab.app.button(key=f"roll_back_{FOLDER}").click()
    assert f"answers with the weights {SHIPPED_OUTLINE.weights_sha256[:8]}" in tab.settled().app.success[0].value
    again = live_outline_card(Settings.from_environment())
    assert again is not None and again.weights_sha256 == SHIPPED_OUTLINE.weights_sha256
