"""The second read at a glance: who leads, what is folded and marked, and the text and density of a final read."""

from __future__ import annotations

import io
from dataclasses import replace
from datetime import date

import pytest
from page_site import PASSWORD, FakeModel, PageSite, Tab, first_read, picture, release, store
from pypdf import PdfReader
from record_site import signed_in

from core.imaging.decoded import RAW
from core.reading import second_read
from core.reading.opinions import ALL_WEAK
from core.records.people import accounts
from core.records.reads import predictions, reads, studies
from core.records.reads.reads import Impression
from core.records.reads.worklist import assign
from core.records.releases import decisions
from core.reports.content import measured as measured_text
from core.reports.html import build_html
from core.reports.pdf import build_pdf
from core.reports.study import study_document
from core.settings import REPOSITORY, Settings
from core.types import Modality


def revealed(opened_site: PageSite, tab: Tab) -> str:
    study = store(opened_site)
    first_read(opened_site, study)
    tab.open("reader/read", study).press("Show second read")
    return study


def lead_lines(tab: Tab) -> list[str]:
    """The figures outside the folded part: one a breast."""
    bodies = [element.proto.body for element in tab.app.get("html") if 'class="sr-bars"' in element.proto.body]
    return [body.replace("\u00a0", " ") for body in bodies if "Left breast" in body]


def test_a_weak_model_is_folded_and_marked_and_not_counted(opened_site: PageSite, tab: Tab) -> None:
    release(opened_site.weights, "ultrasound-aaa", sha256="cd" * 32, threshold=0.6, auc_low=0.7)
    release(opened_site.weights, "ultrasound-fusion", auc_low=0.8)
    revealed(opened_site, tab)
    (line,) = lead_lines(tab)
    assert "Fusion" in line and "Above the threshold of 30 %" in line and "Aaa" not in line
    assert "1 other model, 1 weak" in tab.text and "Weak: AUC 0.900 (95 % interval 0.700 to 0.950)" in tab.text
    assert "disagree: " not in tab.text and ALL_WEAK not in tab.text
    assert "malignant\\*\\*" not in tab.text and "a cancer, as the collection's pathology says" in tab.text


def test_where_every_model_is_weak_it_stands_above_the_number(opened_site: PageSite, tab: Tab) -> None:
    release(opened_site.weights, "ultrasound-aaa", sha256="cd" * 32, threshold=0.6, auc_low=0.65)
    release(opened_site.weights, "ultrasound-fusion", auc_low=0.7)
    revealed(opened_site, tab)
    (line,) = lead_lines(tab)
    bodies = [element.proto.body for element in tab.app.get("html")]
    above = next(place for place, body in enumerate(bodies) if ALL_WEAK in body.replace("\u00a0", " "))
    assert above < bodies.index(next(body for body in bodies if "Left breast" in body and "sr-bars" in body))
    assert "Fusion, weak" in line and "The models disagree" not in tab.text


def test_the_lead_that_the_site_named_stands_first_and_one_that_is_gone_is_said(
    opened_site: PageSite, tab: Tab
) -> None:
    release(opened_site.weights, "ultrasound-fusion", auc_low=0.8)
    release(opened_site.weights, "ultrasound-cnn", sha256="cd" * 32, threshold=0.6, auc_low=0.8)
    decisions.name_lead(opened_site.db, opened_site.one, Modality.ULTRASOUND, "ultrasound-cnn")
    study = revealed(opened_site, tab)
    assert "Cnn" in lead_lines(tab)[0] and "The models disagree: 1 of 2" in lead_lines(tab)[0]
    assert tab.text.count("stands first: it was named by this site.") == 2, "among the others, and in what it all means"
    other = store(opened_site, "Other", images=[picture(3, laterality="L")])
    first_read(opened_site, other)
    (opened_site.weights / "ultrasound-cnn" / "weights.safetensors").unlink()
    tab.open("reader/read", other).press("Show second read")
    assert "Fusion" in lead_lines(tab)[0]
    assert "ultrasound-cnn, which this site named to lead, is not live." in tab.text
    tab.open("reader/read", study)
    assert "Cnn" in lead_lines(tab)[0] and "which this site named" not in tab.text


def test_a_read_is_saved_by_the_click_also_where_a_model_has_become_live_since_the_form_was_drawn(
    opened_site: PageSite, tab: Tab
) -> None:
    release(opened_site.weights, "ultrasound-fusion", auc_low=0.8)
    study = revealed(opened_site, tab)
    release(opened_site.weights, "ultrasound-cnn", sha256="cd" * 32, auc_low=0.8)
    tab.press("Save final assessment")
    assert [read.kind for read in reads.reads_of(opened_site.db, opened_site.one, study)] == ["first", "final"]
    assert "Cnn" not in tab.text, "what nobody saw before the final read is no part of it"


def test_another_number_that_stands_first_while_a_study_is_open_is_said(opened_site: PageSite, tab: Tab) -> None:
    release(opened_site.weights, "ultrasound-fusion", auc_low=0.8)
    study = revealed(opened_site, tab)
    tab.choose("Left breast: BI-RADS", "2")
    assert "Fusion" in lead_lines(tab)[0] and "stands first now" not in tab.text
    release(opened_site.weights, "ultrasound-cnn", sha256="cd" * 32, auc_low=0.8)
    decisions.name_lead(opened_site.db, opened_site.one, Modality.ULTRASOUND, "ultrasound-cnn")
    tab.choose("Left breast: BI-RADS", "3")
    assert "Cnn" in lead_lines(tab)[0]
    assert "Left breast (ultrasound): Cnn stands first now." in tab.text and "it was Fusion, with 42" in tab.text
    tab.choose("Left breast: BI-RADS", "4A")
    assert "it was Fusion, with" in tab.text, "it stays as long as the study is open"
    tab.press("Save final assessment")
    assert "it was Fusion, with" not in tab.text
    tab.open("reader/worklist").open("reader/read", study)
    assert "it was Fusion, with" not in tab.text


def test_a_view_that_does_not_count_is_named_under_the_number_of_its_breast_and_in_what_it_means(
    opened_site: PageSite, tab: Tab
) -> None:
    release(opened_site.weights, "mammography-fusion", auc_low=0.8)
    views = [(side, view) for side in ("R", "L") for view in ("CC", "MLO")]
    images = [
        picture(number, modality=Modality.MAMMOGRAPHY, laterality=side, view=view)
        for number, (side, view) in enumerate(views)
    ]
    images[1] = replace(images[1], is_scored_alone=True, warnings=(RAW,))
    study = store(opened_site, images=images)
    given = {"R": Impression("2", 1), "L": Impression("2", 1)}
    reads.record_first_read(opened_site.db, opened_site.one, study, given, "seen first")
    tab.open("reader/read", study).press("Show second read")
    (right,) = [element.proto.body for element in tab.app.get("html") if "sr-bars" in element.proto.body
                and "Right breast" in element.proto.body]  # fmt: skip
    rule = "R CC alone; not counted: R MLO (raw image)."
    assert rule in right and "not counted" not in lead_lines(tab)[0]
    assert f"Number of Right breast: {rule} Number of Left breast: mean over the views of the breast." in tab.text


def test_an_administrator_names_the_lead_on_the_page_releases(opened_site: PageSite, tab: Tab) -> None:
    release(opened_site.weights, "ultrasound-fusion", auc_low=0.8)
    release(opened_site.weights, "ultrasound-cnn", sha256="cd" * 32, auc_low=0.8)
    tab.open("admin/releases")
    choice = next(box for box in tab.app.selectbox if box.label == "Leads on ultrasound")
    assert choice.value == "" and choice.options[0] == "by default: ultrasound-fusion"
    choice.set_value("ultrasound-cnn")
    tab.settled().press("Name the lead")
    assert "leads on ultrasound from the next page on" in tab.app.success[0].value
    assert second_read.lead_of(Settings.from_environment(), Modality.ULTRASOUND).model_id == "ultrasound-cnn"


def sentence_of(tab: Tab) -> str:
    return str(next(area for area in tab.app.text_area if area.label == "Text for the report").value)


def test_the_text_for_the_report_follows_the_assessment_until_it_is_edited_and_is_kept_with_the_read(
    opened_site: PageSite, tab: Tab, monkeypatch: pytest.MonkeyPatch
) -> None:
    study = revealed(opened_site, tab)
    made = "Left breast (ultrasound): BI-RADS {}. Recommended: {}."
    assert sentence_of(tab) == made.format("4A, low suspicion", "tissue diagnosis")
    tab.choose("Left breast: BI-RADS", "2")
    assert sentence_of(tab) == made.format("2, benign", "routine screening")
    next(area for area in tab.app.text_area if area.label == "Text for the report").set_value("A simple cyst.")
    tab.settled()
    assert "The assessment has changed since" not in tab.text
    tab.choose("Left breast: BI-RADS", "4B")
    assert sentence_of(tab) == "A simple cyst." and "The assessment has changed since you edited" in tab.text

    again = Tab(opened_site, opened_site.one, monkeypatch).open("reader/read", study)
    assert sentence_of(again) == "A simple cyst."
    tab.press("Write it anew")
    assert sentence_of(tab) == made.format("4B, moderate suspicion", "tissue diagnosis")
    next(area for area in tab.app.text_area if area.label == "Text for the report").set_value("A mass.")
    tab.settled().press("Save final assessment")
    assert "A mass." in tab.text
    saved = reads.reads_of(opened_site.db, opened_site.one, study)[-1]
    assert (saved.sentence, saved.density) == ("A mass.", None)
    assert sentence_of(tab) == "A mass."  # the correction begins with it


def test_the_density_is_asked_of_a_mammogram_alone(opened_site: PageSite, tab: Tab) -> None:
    images = [picture(laterality="L", modality=Modality.MAMMOGRAPHY, view="CC")]
    study = store(opened_site, images=images)
    first_read(opened_site, study)
    tab.open("reader/read", study).press("Show second read")
    tab.choose("Breast composition", "C")
    assert sentence_of(tab).startswith("Breast composition C: heterogeneously dense")
    tab.press("Save final assessment")
    assert reads.reads_of(opened_site.db, opened_site.one, study)[-1].density == "C"
    revealed(opened_site, tab)
    assert "Breast composition" not in [group.label for group in tab.app.button_group]


def test_the_report_of_one_ultrasound_image_takes_at_most_three_pages(opened_site: PageSite) -> None:
    from pages.reader.parts import study_report

    site = Settings(state_dir=opened_site.db.settings.state_dir, weights_dir=REPOSITORY / "weights")
    study = store(opened_site)
    first_read(opened_site, study)
    reads.reveal(opened_site.db, opened_site.one, study)
    given = {"L": Impression("4A", 20)}
    reads.record_final_read(opened_site.db, opened_site.one, study, given, "As before.", sentence="A mass.")
    stored = studies.load_study(opened_site.db, opened_site.one, study)
    cards = [card for card in second_read.live_cards(site) if card.modality is Modality.ULTRASOUND]
    assert len(cards) >= 5
    for card in cards:
        answer = FakeModel(card).read(stored.images[0].image)
        predictions.record_predictions(opened_site.db, study, stored.images[0].id, *answer)
    answers = predictions.predictions_of(opened_site.db, opened_site.one, study)
    known = reads.reads_of(opened_site.db, opened_site.one, study)
    report = study_report.gather(opened_site.one, stored, answers, known, site)
    assert report.opinions[0].lead.model_id == "ultrasound-ensemble-two-collections"
    assert (
        report.images[0].attention is not None
        and "Ensemble of 2 (weighted voting, two collections)" in report.images[0].attention.words
    )
    pages = PdfReader(io.BytesIO(build_pdf(study_document(report)))).pages
    assert 2 <= len(pages) <= 3


def test_the_report_has_the_day_of_the_exam_from_its_files(opened_site: PageSite) -> None:
    from pages.reader.parts import study_report

    def taken(study: str) -> date | None:
        stored = studies.load_study(opened_site.db, opened_site.one, study)
        return study_report.gather(opened_site.one, stored, [], [], Settings.from_environment()).taken_on

    assert taken(store(opened_site, images=[picture(laterality="L", taken_on=date(2025, 3, 4))])) == date(2025, 3, 4)
    assert taken(store(opened_site, "Other")) is None


def test_the_report_says_that_a_third_reader_decides_and_between_whom(opened_site: PageSite) -> None:
    from pages.reader.parts import study_report

    db, one, two = opened_site.db, opened_site.one, opened_site.two
    added = accounts.create_person(db, one, name="Dr Three", password=PASSWORD, roles=["radiologist"])
    three, study = signed_in(db, added), store(opened_site)
    assign(db, one, study, reader=None, is_double_read=True)
    for reader, category in ((one, "4A"), (two, "2")):
        first_read(opened_site, study, reader)
        reads.record_final_read(db, reader, study, {"L": Impression(category, 20)})
    site, stored = Settings.from_environment(), studies.load_study(db, one, study)

    def words() -> str:
        known = reads.reads_of(db, one, study)
        return build_html(study_document(study_report.gather(one, stored, [], known, site)))

    assert "decides" not in words() and "decided between" not in words()
    reads.arbitrate(db, three, study)
    reads.record_final_read(db, three, study, {"L": Impression("4B", 30)})
    said = words()
    assert said.count("Dr Three decides between the readers. Decided between: Dr One and Dr Two.") == 1
    assert said.count("decides between the readers") == 1 and said.count("Decision between the readers") == 1
    rows = said[said.index("Recommendation</th>") :]
    assert rows.index("BI-RADS 4B") < rows.index("BI-RADS 4A") and rows.count("decided between") == 2
    reads.record_final_read(db, three, study, {"L": Impression("4A", 40)})
    assert words().count("decides between the readers") == 1
    assert [read.is_decision for read in reads.reads_of(db, two, study)] == [False] * 4 + [True, True]


def test_the_report_measures_a_model_at_the_threshold_that_stands_beside_it(opened_site: PageSite) -> None:
    from pages.reader.parts import study_report

    release(opened_site.weights, "ultrasound-fusion")
    site, study = Settings.from_environment(), store(opened_site)
    stored = studies.load_study(opened_site.db, opened_site.one, study)
    prediction, explanation = FakeModel(second_read.live_cards(site)[0]).read(stored.images[0].image)

    def measured(**changes: object) -> str:
        answers = [(stored.images[0].id, replace(prediction, **changes), explanation)]
        (model,) = study_report.gather(opened_site.one, stored, answers, [], site).models
        return measured_text(model.headline)

    own = measured()
    assert "sensitivity 1.000" in own and "specificity 1.000" in own
    everybody = measured(threshold=0.0, threshold_rule="a value that this site has set itself")
    assert "sensitivity 1.000" in everybody and "specificity 0.000" in everybody


def test_the_report_says_which_numbers_of_a_model_in_folds_are_at_each_fold_s_own_threshold(
    opened_site: PageSite,
) -> None:
    from pages.reader.parts import study_report

    release(opened_site.weights, "ultrasound-fusion", folds={"n": 2, "thresholds": [0.5, 0.7]})
    path = opened_site.weights / "ultrasound-fusion" / "abababab.test_scores.csv"
    head, *rows = path.read_text().splitlines()
    path.write_text("\n".join([f"{head},fold", *(f"{row},{number // 30}" for number, row in enumerate(rows))]))
    site, study = Settings.from_environment(), store(opened_site)
    stored = studies.load_study(opened_site.db, opened_site.one, study)
    prediction, explanation = FakeModel(second_read.live_cards(site)[0]).read(stored.images[0].image)

    def measured(**changes: object) -> list[str]:
        answers = [(stored.images[0].id, replace(prediction, **changes), explanation)]
        (model,) = study_report.gather(opened_site.one, stored, answers, [], site).models
        return measured_text(model.headline).splitlines()[1:]

    assert [line.split(" (")[0] for line in measured()] == [
        "AUC 1.000", "sensitivity at each fold's own threshold 0.500", "specificity at each fold's own threshold 1.000",
    ]  # fmt: skip
    everybody = measured(threshold=0.5, threshold_rule="a value that this site has set itself")
    assert [line.split(" (")[0] for line in everybody] == ["AUC 1.000", "sensitivity 1.000", "specificity 1.000"]
