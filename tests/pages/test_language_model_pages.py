"""A language model on the pages: its part of Settings, and its words beside the measured ones and the reader's."""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import replace
from typing import Any

import pytest
from language_server import RIGHT, Stub, answer, said, stub_server
from made_lesions import ellipse
from made_lesions import picture as lesion_picture
from page_site import PageSite, Tab, picture, release, store
from test_measured_findings import network, opened, switched

from core.findings.finding import Annotations, Finding
from core.findings.marks import Mark
from core.language import asking
from core.records import site_settings
from core.records.language import endpoint
from core.records.reads import reads, studies
from core.reports.html import build_html
from core.reports.study import study_document
from core.types import Modality

HEADING = "Language model, unverified"
STATED = {"tags": {"BurnedInAnnotation": "NO"}, "spacing_mm": (0.1, 0.1)}


@pytest.fixture
def stub(opened_site: PageSite, monkeypatch: pytest.MonkeyPatch) -> Iterator[Stub]:
    """The server that the site has turned on and named; pictures may go there. It finds an irregular shape."""
    network(opened_site.weights, monkeypatch, [ellipse()])
    with stub_server() as one:
        one.behaves = lambda handler: answer(handler, said(json.dumps({**RIGHT, "shape": "irregular"})))
        yield one


def permitted(site: PageSite, stub: Stub) -> None:
    site_settings.choose(site.db, site.one, "language_model", True)
    named = endpoint.name_endpoint(site.db, site.one, protocol="openai", url=stub.url, model="stub")
    endpoint.permit(site.db, site.one, named, reason="Compared for a month.")


def work(site: PageSite) -> None:
    asking.ask_what_is_due(site.db, worker="w", machine="m", is_ending=lambda: False)


def test_an_administrator_names_it_tests_it_permits_pictures_and_ends_that(
    opened_site: PageSite, tab: Tab, stub: Stub
) -> None:
    assert "Address" not in [one.label for one in tab.open("admin/site_settings").app.text_input]
    site_settings.choose(opened_site.db, opened_site.one, "language_model", True)
    tab.open("admin/site_settings")
    tab.app.text_input(key="language_url").set_value(stub.url)
    tab.app.text_input(key="language_name").set_value("stub")
    tab.app.button(key="save_language_endpoint").click()
    tab.settled()
    assert "No picture goes to stub at 127.0.0.1" in tab.text and "on this machine" in tab.text
    tab.app.button(key="test_language_model").click()
    assert "It answered as stub-1, within the lexicon: shape irregular" in tab.settled().text
    tab.app.button(key="permit_language_model").click()
    assert "Say why" in tab.settled().text
    why(tab).set_value("<b>Compared</b> for a month.")
    tab.app.button(key="permit_language_model").click()
    assert "Permitted by Dr One" in tab.settled().text and "<b>Compared</b>" in tab.text
    tab.app.button(key="end_language_permission").click()
    assert "No picture goes to stub" in tab.settled().text
    tab.app.button(key="remove_language_model").click()
    tab.settled()
    assert endpoint.endpoint_now(opened_site.db) is None


def test_a_reason_typed_for_one_language_model_does_not_stand_for_another(opened_site: PageSite, tab: Tab) -> None:
    site_settings.choose(opened_site.db, opened_site.one, "language_model", True)
    for name in ("one", "another"):
        endpoint.name_endpoint(opened_site.db, opened_site.one, protocol="openai", url="http://127.0.0.1:9", model=name)
        tab.open("admin/site_settings")
        assert f"No picture goes to {name} " in tab.text and not why(tab).value
        why(tab).set_value("Compared for a month.")
        tab.settled()


def why(tab: Tab) -> Any:
    """The field for the reason."""
    return next(field for field in tab.app.text_input if field.label == "Why pictures may go there")


def test_its_words_stand_beside_the_measured_ones_and_the_readers_with_what_differs(
    opened_site: PageSite, tab: Tab, stub: Stub
) -> None:
    from pages.reader.parts import study_report

    permitted(opened_site, stub)
    study = opened(opened_site, tab, **STATED)
    work(opened_site)
    assert HEADING not in tab.open("reader/read", study).text, "not before the lesion is outlined"
    switched(tab)
    assert HEADING in tab.text and "stub-1" in tab.text and "can be made up" in tab.text
    assert "| shape | oval | :orange[:material/difference: **irregular**, differs] |  |" in tab.text
    assert "| orientation | parallel | parallel |  |" in tab.text and "| posterior features |" in tab.text
    next(one for one in tab.app.button_group if one.label == "What you accept").set_value(["shape", "margin"])
    tab.settled().press("Accept outline")
    assert "**irregular**, differs] | oval |" in tab.text
    tab.choose("Left breast: BI-RADS", "4A").press("Save final assessment")
    final = reads.reads_of(opened_site.db, opened_site.one, study)[-1]
    assert final.annotations.findings[0].descriptors["shape"] == "oval"
    switched(tab)
    assert "**irregular**, differs] | oval |" in tab.text
    stored = studies.load_study(opened_site.db, opened_site.one, study)
    for is_in_report in (False, True):
        site_settings.choose(opened_site.db, opened_site.one, "language_model_in_report", is_in_report)
        site = site_settings.current(opened_site.db)
        report = study_report.gather(opened_site.one, stored, [], [final], site)
        html = build_html(study_document(report))
        assert ("shape: irregular" in html) == ("Nobody verified them" in html) == is_in_report
        assert "Mass, oval" in html and "irregular" not in html.split("Words of a language model")[0]


def test_who_may_not_see_the_answer_sees_no_word_and_a_site_without_one_nothing(
    opened_site: PageSite, tab: Tab, stub: Stub
) -> None:
    opened(opened_site, tab, **STATED)
    assert HEADING not in switched(tab).text and not stub.asked


def test_a_reader_looks_at_the_part_before_it_goes_where_nothing_says_where_text_is(
    opened_site: PageSite, tab: Tab, stub: Stub
) -> None:
    permitted(opened_site, stub)
    study = opened(opened_site, tab)
    work(opened_site)
    assert "Look at the part that would be sent" in switched(tab).text and not stub.asked
    tab.press("I see no text in it: send it")
    assert "Waits to be asked" in tab.text
    work(opened_site)
    assert len(stub.asked) == 1
    tab.open("reader/read", study)
    assert "**irregular**, differs]" in switched(tab).text
    studies.load_study(opened_site.db, opened_site.two, study)
    assert HEADING not in tab.open("reader/worklist").text


def test_words_on_a_mass_that_the_reader_drew_stand_with_it_and_are_asked_for_again(
    opened_site: PageSite, tab: Tab, stub: Stub
) -> None:
    from pages.reader.parts import study_report

    permitted(opened_site, stub)
    release(opened_site.weights, "ultrasound-fusion", auc_low=0.8)
    image = replace(picture(1, laterality="L", **STATED), pixels=lesion_picture(ellipse()))
    study = store(opened_site, images=[image])
    own = Mark(image.sha256, 0, "ellipse", ((20.0, 150.0), (90.0, 200.0)))
    over = Mark(image.sha256, 0, "outline", ((90.0, 60.0), (210.0, 60.0), (210.0, 140.0), (90.0, 140.0)))
    marks = tuple(Finding("L", Modality.ULTRASOUND, "mass", (mark,), {"shape": "round"}) for mark in (own, over))
    calm = reads.Impression("2", 5)
    reads.record_first_read(opened_site.db, opened_site.one, study, {"L": calm}, annotations=Annotations(marks))
    answers_right, said_so = stub.behaves, iter(["no JSON", "no JSON"])
    stub.behaves = lambda handler: answer(handler, said(next(said_so)))
    work(opened_site)
    text = tab.open("reader/read", study).press("Show second read").text
    assert "Your ellipse on" in text and "text that is no JSON" in text, "without the network's outline being shown"
    assert "Your outline on" in text and "asked about within another outline" in text
    assert "| shape |" not in text and len(stub.asked) == 2
    stub.behaves = answers_right
    for button in ("Ask again", "Ask within this outline"):
        tab.press(button)
        assert "Waits to be asked" in tab.text
        work(opened_site)
        tab.open("reader/read", study)
    assert len(stub.asked) == 4 and tab.text.count(":material/difference: **irregular**, differs] | round |") == 2
    assert "Ask again" not in [one.label for one in tab.app.button]
    site_settings.choose(opened_site.db, opened_site.one, "language_model_in_report", True)
    stored = studies.load_study(opened_site.db, opened_site.one, study)
    known = reads.reads_of(opened_site.db, opened_site.one, study)
    report = study_report.gather(opened_site.one, stored, [], known, site_settings.current(opened_site.db))
    assert build_html(study_document(report)).count("drawn by a reader") == 2


def test_compare_says_how_far_the_three_agree(opened_site: PageSite, tab: Tab, stub: Stub) -> None:
    assert "Descriptors in words" not in str(tab.open("research/compare").app.selectbox(key="data").options)
    permitted(opened_site, stub)
    tab.open("research/compare").app.selectbox(key="data").select("Descriptors in words, of this site")
    assert "No language model has described a lesion" in tab.settled().text
    study = opened(opened_site, tab, **STATED)
    work(opened_site)
    switched(tab)
    next(one for one in tab.app.button_group if one.label == "What you accept").set_value(["shape", "margin"])
    tab.settled().press("Accept outline")
    tab.choose("Left breast: BI-RADS", "4A").press("Save final assessment")
    assert study
    tab.app.query_params.clear()
    tab.app.query_params["data"] = "Descriptors in words, of this site"
    tab.app.query_params["read"] = "final read"
    tab.app.switch_page("pages/research/compare.py")
    text = tab.settled().text
    assert "described: 1, patients: 1." in text and "agreement is not being right" in text
    assert "language model and reader, final read" in text and "measured and language model" in text
    assert text.count('scope="row">shape<') == 3 and text.count('scope="row">posterior features<') == 0
