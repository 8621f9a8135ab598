"""Marks, what is measured on them, findings by the lexicon, and sketches on their way to findings."""

from __future__ import annotations

import json
import math
import re
from dataclasses import replace
from typing import Any

import numpy as np
import pytest

from core.commands.peak_levels import cases_of, is_in_folds, unseen_cases
from core.errors import InvalidInput
from core.findings import sketches
from core.findings.finding import (
    COMMENT_MOST,
    FINDINGS_MOST,
    Annotations,
    Finding,
    assessment_doubts,
    description_of,
    location_doubts,
)
from core.findings.lexicon import TYPES
from core.findings.marks import Mark, lies_over, measured, measured_text, place_text, size_text, sizes
from core.findings.proposals import LEVELS, SHARE_WANTED, Proposal, hits, level_for, measured_levels, peaks_of
from core.findings.sketches import Place, Sketch
from core.models.cards import all_cards, live_cards
from core.settings import Settings
from core.types import Image, Modality

SHA, OTHER = "a" * 64, "b" * 64


def mark(kind: str, *points: tuple[float, float], sha: str = SHA, frame: int = 0) -> Mark:
    return Mark(sha, frame, kind, points)


def image(spacing: tuple[float, float] | None = (0.2, 0.1), **more: Any) -> Image:
    pixels = np.random.default_rng(3).random((60, 80), dtype=np.float32)
    return Image(pixels, SHA, Modality.MAMMOGRAPHY, "tags", "R", "CC", spacing, **more)


@pytest.mark.parametrize(
    ("kind", "points"),
    [
        ("circle", [(1, 1), (2, 2)]),
        ("point", []),
        ("point", [(1, 1), (2, 2)]),
        ("ellipse", [(1, 1)]),
        ("outline", [(1, 1), (2, 2)]),
        ("outline", [(1, 1)] * 513),
        ("angle", [(1, 1), (2, 2)]),
        ("point", [(-0.1, 1)]),
        ("point", [(math.nan, 1)]),
        ("point", [(math.inf, 1)]),
        ("point", [(1, 1_000_000.5)]),
    ],
)
def test_what_is_no_mark_is_refused(kind: str, points: list[tuple[float, float]]) -> None:
    with pytest.raises(InvalidInput):
        mark(kind, *points)


@pytest.mark.parametrize(
    "stored",
    [
        {},
        {"image": SHA, "frame": 0, "kind": "point", "points": [[1, 1]]},
        {"image": "../x", "frame": 1, "kind": "point", "points": [[1, 1]]},
        {"image": SHA, "frame": 1, "kind": "point", "points": [[1]]},
        {"image": SHA, "frame": 1, "kind": "point", "points": "ab"},
        {"image": SHA, "frame": 1, "kind": ["point"], "points": [[1, 1]]},
        {"image": SHA, "frame": 1, "kind": "point", "points": 5},
        {"image": SHA, "frame": 1, "kind": "point", "points": ["12"]},
        {"image": SHA, "frame": 1, "kind": "point", "points": [[True, 1]]},
        {"image": SHA, "frame": 1, "kind": "point", "points": [["1", 1]]},
        {"image": SHA, "frame": 1.9, "kind": "point", "points": [[1, 1]]},
        {"image": SHA, "frame": True, "kind": "point", "points": [[1, 1]]},
        {"image": SHA, "frame": 1_000_001, "kind": "point", "points": [[1, 1]]},
    ],
)
def test_what_is_stored_as_no_mark_is_refused(stored: dict[str, Any]) -> None:
    with pytest.raises(InvalidInput):
        Mark.from_json(stored)


def test_a_mark_comes_back_with_its_frame_counted_from_one() -> None:
    one = mark("outline", (1.25, 2.5), (3, 4), (5, 1), frame=2)
    assert one.to_json() == {"image": SHA, "frame": 3, "kind": "outline", "points": [[1.25, 2.5], [3, 4], [5, 1]]}
    assert Mark.from_json(json.loads(json.dumps(one.to_json()))) == one


def test_lengths_are_in_mm_by_the_spacing_of_rows_and_columns_and_else_in_pixels() -> None:
    """3 columns of 0.1 mm and 2 rows of 0.2 mm."""
    one = mark("distance", (10, 10), (13, 12))
    assert measured(one, image()).length == pytest.approx(0.5)
    assert size_text(measured(one, image())) == "0.50 mm"
    without = measured(one, image(None))
    assert (without.length, without.is_mm) == (pytest.approx(math.hypot(3, 2)), False)
    assert measured(one, image(None, pixel_aspect=2.0)).length == pytest.approx(5)
    angle = mark("angle", (20, 10), (10, 10), (10, 40))
    assert measured(angle, image()).degrees == pytest.approx(90)


def test_an_ellipse_has_its_axes_its_area_and_the_grey_of_the_pixels_inside() -> None:
    shown = image()
    found = measured(mark("ellipse", (50, 40), (10, 20)), shown)
    assert (found.length, found.across) == (pytest.approx(4), pytest.approx(4))
    assert found.area == pytest.approx(math.pi * 4)
    rows, columns = np.mgrid[:60, :80] + 0.5
    inside = shown.pixels[((columns - 30) / 20) ** 2 + ((rows - 30) / 10) ** 2 <= 1]
    assert (found.mean_grey, found.n_pixels) == (pytest.approx(inside.mean()), inside.size)


def test_what_is_measured_does_not_change_by_saving() -> None:
    drawn = mark("ellipse", (10.004, 20.004), (90.0049, 80.0049))
    saved = Mark.from_json(json.loads(json.dumps(drawn.to_json())))
    assert sizes(saved, None) == sizes(drawn, None) and saved == drawn


def test_an_outline_has_its_longest_diameter_its_area_and_the_grey_of_the_pixels_inside() -> None:
    """A square of 10 x 10 columns and rows, then the same with a notch that the even-odd rule leaves out."""
    shown = image((0.1, 0.1))
    square = ((20.0, 10.0), (30.0, 10.0), (30.0, 20.0), (20.0, 20.0))
    found = measured(mark("outline", *square), shown)
    assert (found.length, found.across) == (pytest.approx(math.sqrt(2)), pytest.approx(math.sqrt(2)))
    assert (found.area, found.n_pixels) == (pytest.approx(1), 100)
    assert found.mean_grey == pytest.approx(shown.pixels[10:20, 20:30].mean())
    notched = (*square, (20.0, 17.0), (25.0, 17.0), (25.0, 13.0), (20.0, 13.0))
    found = measured(mark("outline", *notched), shown)
    assert (found.area, found.n_pixels) == (pytest.approx(0.8), 80)


def test_an_outline_that_crosses_itself_encloses_what_its_grey_is_taken_of() -> None:
    """An hourglass: two triangles of 25, which the shoelace formula takes from each other."""
    hourglass = ((0.0, 0.0), (10.0, 10.0), (10.0, 0.0), (0.0, 10.0))
    found = measured(mark("outline", *hourglass), image(None))
    assert found.area == pytest.approx(50, rel=0.01) and found.n_pixels == pytest.approx(50, abs=10)
    rng = np.random.default_rng(4)
    for _ in range(20):  # of outlines that do not cross themselves it is the shoelace formula
        angles = np.sort(rng.uniform(0, 2 * np.pi, 40))
        x, y = 50 + rng.uniform(5, 30, 40) * np.stack([np.cos(angles), np.sin(angles)])
        x, y = x.round(2), y.round(2)
        shoelace = abs(float(x @ np.roll(y, -1) - y @ np.roll(x, -1))) / 2
        area = sizes(mark("outline", *zip(x.tolist(), y.tolist(), strict=True)), None).area
        assert area == pytest.approx(shoelace)
    assert sizes(mark("outline", (1, 1), (1, 1), (1, 1)), None).area == 0


def test_a_mark_as_large_as_the_picture_is_measured_and_one_beyond_it_has_no_grey() -> None:
    whole = mark("ellipse", (0, 0), (80, 60))
    assert whole.is_inside(60, 80) and measured(whole, image()).mean_grey is not None
    beyond = mark("ellipse", (0, 0), (80.1, 60))
    assert not beyond.is_inside(60, 80) and measured(beyond, image()).mean_grey is None
    assert place_text(whole) == "column 40, row 30, frame 1"
    assert measured_text(mark("point", (3.9, 4.2)), measured(mark("point", (3.9, 4.2)), image())) == (
        "point, at column 3, row 4, frame 1"
    )


def mass(**more: Any) -> Finding:
    facts = {"breast": "R", "modality": Modality.MAMMOGRAPHY, "type": "mass", "marks": (mark("point", (5, 5)),), **more}
    return Finding(**facts)


@pytest.mark.parametrize(
    "wrong",
    [
        {"type": "special case"},
        {"modality": Modality.HISTOLOGY},
        {"breast": "X"},
        {"descriptors": {"margin": "angular"}},
        {"descriptors": {"echo pattern": "anechoic"}},
        {"quadrant": "middle"},
        {"clock": 0},
        {"clock": 13},
        {"depth": "deep"},
        {"marks": ()},
        {"marks": (mark("distance", (1, 1), (2, 2)),)},
        {"marks": (mark("point", (1, 1)),) * 13},
        {"comment": "x" * (COMMENT_MOST + 1)},
    ],
)
def test_a_finding_is_what_the_lexicon_of_its_modality_has(wrong: dict[str, Any]) -> None:
    with pytest.raises(InvalidInput):
        mass(**wrong)
    mass(comment="x" * COMMENT_MOST, clock=12, marks=(mark("point", (1, 1)),) * 12)


def test_a_read_has_a_bounded_number_of_findings() -> None:
    Annotations((mass(),) * FINDINGS_MOST).require_few()
    with pytest.raises(InvalidInput):
        Annotations((mass(),) * (FINDINGS_MOST + 1)).require_few()


def test_every_descriptor_of_every_type_can_be_given_and_is_in_the_description() -> None:
    for modality, types in TYPES.items():
        for one in types:
            given = {descriptor.name: descriptor.values[-1] for descriptor in one.descriptors}
            for descriptor in one.descriptors:
                assert set(descriptor.suspicious) <= set(descriptor.values)
            text = description_of(mass(modality=modality, type=one.name, descriptors=given))
            assert text.lower().startswith(one.name) and all(value in text for value in given.values())


def test_a_description_says_type_descriptors_place_and_the_largest_size() -> None:
    small, large = mark("ellipse", (10, 10), (20, 20)), mark("ellipse", (10, 10), (40, 20))
    given = {"shape": "irregular", "margin": "spiculated", "density": "high density"}
    one = mass(
        marks=(small, large), descriptors=given, quadrant="upper outer", clock=10, depth="middle",
        sizes=(measured(small, image((0.1, 0.1))), measured(large, image((0.1, 0.1)))),
    )  # fmt: skip
    place = "upper outer quadrant, 10 o'clock, middle depth"
    assert description_of(one) == (
        f"Mass, irregular, spiculated margin, high density; {place}; 3.0 x 1.0 mm, area 2.4 mm²"
    )
    assert "size in pixels" in description_of(replace(one, sizes=(measured(small, image(None)),)))
    assert description_of(mass()) == "Mass"


@pytest.mark.parametrize(
    ("breast", "quadrant", "clock", "fits"),
    [
        ("R", "upper outer", 10, True), ("R", "upper outer", 2, False), ("L", "upper outer", 2, True),
        ("L", "upper outer", 10, False), ("R", "lower inner", 4, True), ("L", "lower inner", 8, True),
        ("R", "lower inner", 8, False), ("R", "upper outer", 12, True), ("R", "upper outer", 9, True),
        ("R", "central", 3, True), ("U", "upper outer", 3, True),
    ],
)  # fmt: skip
def test_a_clock_face_outside_of_its_quadrant_is_asked_about(
    breast: str, quadrant: str, clock: int, fits: bool
) -> None:
    doubts = location_doubts([mass(breast=breast, quadrant=quadrant, clock=clock)])
    assert (list(doubts) == []) == fits and set(doubts) <= {1}


@pytest.mark.parametrize(
    ("category", "findings", "is_asked"),
    [
        ("1", [mass()], True),
        ("1", [], False),
        ("1", [mass(breast="L")], False),
        ("2", [mass()], False),
        ("2", [mass(descriptors={"margin": "circumscribed"})], False),
        ("2", [mass(descriptors={"margin": "spiculated"})], True),
        ("3", [mass(type="architectural distortion")], True),
        ("4A", [mass(descriptors={"margin": "spiculated"})], False),
        ("4A", [mass(breast="L")], True),
        ("5", [], False),
        ("0", [mass(descriptors={"margin": "spiculated"})], False),
    ],
)
def test_an_assessment_that_contradicts_the_findings_is_asked_about(
    category: str, findings: list[Finding], is_asked: bool
) -> None:
    assert bool(assessment_doubts(findings, {"R": category})) == is_asked


PLACES = {
    (SHA, 0): Place("R", Modality.MAMMOGRAPHY, "R CC"),
    (OTHER, 0): Place("R", Modality.MAMMOGRAPHY, "R MLO"),
    ("c" * 64, 0): Place("L", Modality.MAMMOGRAPHY, "L CC"),
}
A, B = mark("point", (1, 1)), mark("ellipse", (1, 1), (9, 9), sha=OTHER)
C, D = mark("point", (2, 2), sha="c" * 64), mark("distance", (1, 1), (3, 3))


def test_marks_that_are_drawn_moved_and_taken_away_leave_the_descriptions_of_the_others() -> None:
    now = sketches.redrawn((), [("a", A), ("b", B)])
    assert now == (Sketch((("a", A),)), Sketch((("b", B),)))
    described = (replace(now[0], type="mass", clock=3), now[1])
    moved = replace(A, points=((7.0, 7.0),))
    assert sketches.redrawn(described, [("a", moved), ("d", D)]) == (
        replace(described[0], marks=(("a", moved),)), Sketch((("d", D),)),
    )  # fmt: skip


def test_what_the_page_added_stays_though_the_browser_did_not_have_it_yet() -> None:
    here = (Sketch((("a", A),)), Sketch((("c", C),), "mass", clock=3), Sketch((("b", B),)))
    assert sketches.redrawn(here, [("b", B), ("d", D)], {"c"}) == (here[1], here[2], Sketch((("d", D),)))


def test_two_views_of_one_finding_are_joined_and_two_breasts_are_not() -> None:
    one, other = Sketch((("a", A),), "mass", clock=3), Sketch((("b", B),))
    left, measure = Sketch((("c", C),)), Sketch((("d", D),))
    whole = sketches.joined((one, other, left), "b", "a", PLACES)
    assert whole == (Sketch((("a", A), ("b", B)), "mass", clock=3), left)
    found = sketches.annotations_of((*whole, measure), PLACES)
    assert [(one.type, one.marks, one.clock) for one in found.findings] == [("mass", (A, B), 3)]
    assert [one.mark for one in found.measurements] == [C, D]
    for wrong in ("c", "d"):
        with pytest.raises(InvalidInput):
            sketches.joined((one, left, measure), wrong, "a", PLACES)


def test_another_type_drops_the_descriptors_that_it_does_not_have() -> None:
    one = Sketch((("a", A),), "mass", {"shape": "oval", "margin": "angular"})
    ultrasound = sketches.of_type(one, "mass", Modality.ULTRASOUND)
    assert ultrasound.descriptors == {"shape": "oval", "margin": "angular"}
    assert sketches.of_type(one, "mass", Modality.MAMMOGRAPHY).descriptors == {"shape": "oval"}
    assert sketches.of_type(one, None, Modality.MAMMOGRAPHY) == Sketch((("a", A),))
    assert sketches.of_type(one, "no such type", Modality.MAMMOGRAPHY).type is None


def test_sketches_come_back_from_json_and_begin_with_what_was_saved() -> None:
    given = (
        Sketch((("a", A), ("b", B)), "mass", {"shape": "oval"}, "upper outer", 10, "middle", "x"),
        Sketch((("d", D),)),
    )
    assert sketches.from_json(json.loads(json.dumps(sketches.to_json(given)))) == given
    begun = sketches.sketches_of(sketches.annotations_of(given, PLACES), "read7")
    assert [uid for one in begun for uid, _ in one.marks] == ["read7-0", "read7-1", "read7-2"]
    assert sketches.annotations_of(begun, PLACES) == sketches.annotations_of(given, PLACES)


@pytest.mark.parametrize(
    "stored",
    [
        None, 5, "x", [None], [{}], [{"marks": []}], [{"marks": [["a", {}]]}],
        [{"marks": [["a", A.to_json()]], "type": 5}], [{"marks": [["a", A.to_json()]], "clock": "x"}],
        [{"marks": [["a", A.to_json()]], "comment": None}], [{"marks": [["a", A.to_json()]], "more": 1}],
    ],
)  # fmt: skip
def test_what_are_no_sketches_is_refused(stored: object) -> None:
    with pytest.raises(InvalidInput):
        sketches.from_json(stored)


def bumps(*tops: tuple[int, int, float]) -> np.ndarray:
    rows, columns = np.mgrid[:64, :80]
    heat = np.zeros((64, 80), np.float32)
    for row, column, height in tops:
        heat = np.maximum(heat, height * np.exp(-((rows - row) ** 2 + (columns - column) ** 2) / 30))
    return heat.astype(np.float32)


def test_peaks_are_the_local_maxima_that_reach_the_level_the_strongest_first() -> None:
    heat = bumps((10, 12, 0.8), (40, 60, 1.0), (50, 20, 0.55), (12, 15, 0.5))
    found = peaks_of(heat, 0.6)
    assert [(one.row, one.column) for one in found] == [(40.5, 60.5), (10.5, 12.5)]
    assert len(peaks_of(heat, 0.5)) == 3  # the fourth lies on the slope of another
    assert [one.strength for one in peaks_of(heat, 1.0)] == [1.0]
    assert peaks_of(np.zeros((9, 9), np.float32), 0.5) == ()
    assert len(peaks_of(bumps((5, 5, 1), (5, 40, 1), (5, 75, 1), (60, 5, 1), (60, 75, 1)), 0.5)) == 3


def test_the_level_is_the_lowest_at_which_half_of_the_peaks_lie_inside() -> None:
    mask = bumps((40, 60, 1.0)) > 0.5
    low = bumps((40, 60, 1.0), (10, 12, 0.55), (12, 60, 0.55))
    assert hits([(low, mask)], 0.5) == (3, 1) and hits([(low, mask)], 0.6) == (1, 1)
    assert level_for([(low, mask)]) == 0.6
    assert level_for([(bumps((40, 60, 1.0), (10, 12, 0.55)), mask)]) == 0.5
    assert level_for([(bumps((10, 12, 1.0)), mask)]) is None
    assert level_for([]) is None


def test_a_proposal_is_accepted_edited_or_rejected_by_what_became_of_its_mark() -> None:
    made = tuple(Proposal(mark("point", (n, n)), "m", "e" * 64, 0.9, 0.5) for n in range(1, 6))
    moved = mark("point", (9, 9))
    held = (
        Sketch((("proposal-0", made[0].mark),), "mass"),
        Sketch((("proposal-1", moved), ("b", B)), "mass"),
        Sketch((("proposal-2", made[2].mark),)),
    )
    named = {f"proposal-{number}": one for number, one in enumerate(made)}
    found = sketches.answered(named, held, ("proposal-3",))
    assert [one.answer for one in found] == ["accepted", "edited", "open", "rejected", "open"]
    with pytest.raises(InvalidInput):
        replace(made[0], answer="perhaps")


def test_a_correction_keeps_what_became_of_each_proposal_until_its_finding_is_moved_or_taken_away() -> None:
    first, second, refused = (mark("point", (10 * n, 10)) for n in (1, 2, 3))
    saved = (
        Proposal(first, "one", "a" * 64, 1.0, 0.5, "accepted"),
        Proposal(second, "one", "a" * 64, 0.9, 0.5, "accepted"),
        Proposal(refused, "one", "a" * 64, 0.8, 0.5, "rejected"),
    )
    begun = (sketches.Sketch((("read1-0", first),), "mass"), sketches.Sketch((("read1-1", second),), "mass"))

    def answers(*now: sketches.Sketch) -> list[str]:
        return [one.answer for one in sketches.still_answered(saved, begun, now)]

    assert sketches.still_answered(saved, begun, begun) == saved
    moved = sketches.Sketch((("read1-1", mark("point", (21, 10))),), "mass")
    assert answers(begun[0], moved) == ["accepted", "edited", "rejected"]
    assert answers(moved) == ["rejected", "edited", "rejected"]
    assert answers(sketches.Sketch(begun[0].marks), begun[1]) == ["rejected", "accepted", "rejected"], "only a mark"


def test_what_a_reader_answered_to_one_network_or_picture_is_no_answer_to_another() -> None:
    shown = [
        ("point", "e" * 64, "a" * 64, 0, 0),
        ("point", "f" * 64, "a" * 64, 0, 0),
        ("point", "e" * 64, "b" * 64, 0, 0),
    ]
    shown += [
        ("point", "e" * 64, "a" * 64, 1, 0),
        ("point", "e" * 64, "a" * 64, 0, 1),
        ("outline", "e" * 64, "a" * 64, 0, 0),
    ]
    uids = [sketches.proposal_uid(*one) for one in shown]
    assert len(set(uids)) == len(shown) and all(re.fullmatch("[0-9a-z-]{1,60}", uid) for uid in uids)
    proposed = Proposal(mark("point", (1, 1)), "m", "e" * 64, 0.9, 0.5)
    answers = [sketches.answered({uid: proposed}, (), uids[:1])[0].answer for uid in uids]
    assert answers == ["rejected"] + ["open"] * 5


@pytest.mark.parametrize(
    ("other", "is_same"),
    [
        (mark("outline", (12, 12), (18, 12), (15, 18)), True),  # within
        (
            mark("ellipse", (0, 15), (14, 15)),
            False,
        ),  # its box ends before the middle of the outline, which it only touches
        (mark("point", (15, 15)), True),
        (mark("outline", (10, 10), (40, 10), (40, 40)), True),  # its middle lies outside, but it holds the other's
        (mark("point", (15, 15), sha=OTHER), False),
        (mark("point", (15, 15), frame=1), False),
        (mark("point", (21, 15)), False),
    ],
)
def test_marks_of_one_lesion_are_known_by_the_middle_of_either(other: Mark, is_same: bool) -> None:
    outline = mark("outline", (10, 10), (20, 10), (20, 20), (10, 20))
    assert lies_over(outline, other) == lies_over(other, outline) == is_same


def test_the_levels_that_are_shipped_were_measured_and_have_half_of_their_peaks_inside() -> None:
    for sha256, one in measured_levels().items():
        assert len(sha256) == 64 and one.level in LEVELS
        assert one.n_images >= 15 and one.n_inside >= SHARE_WANTED * one.n_peaks


def test_no_shipped_level_was_measured_on_cases_that_the_weights_were_fitted_to() -> None:
    """A model measured in folds has scores of every case by networks that are not the shipped one."""
    measured = [card for card in all_cards(Settings()) if card.weights_sha256 in measured_levels()]
    assert measured
    for card in measured:
        assert measured_levels()[card.weights_sha256].is_external == is_in_folds(card), card.model_id


def test_weights_that_have_seen_every_case_are_measured_on_other_collections() -> None:
    cards = {card.model_id: card for card in all_cards(Settings())}
    masks = dict.fromkeys(
        ("ultrasound/busi/benign/new.png", "ultrasound/bus_bra/images/new.png", "ultrasound/bus_uc/1.png"), ""
    )
    assert unseen_cases(cards["ultrasound-ensemble-two-collections"], masks) == ["ultrasound/bus_uc/1.png"]
    others = ["ultrasound/bus_bra/images/new.png", "ultrasound/bus_uc/1.png"]
    assert unseen_cases(cards["ultrasound-fusion"], masks) == others
    own = unseen_cases(cards["ultrasound-cnn4"], masks)
    assert own and not set(own) & (set(masks) | set(cases_of(cards["ultrasound-cnn4"], "validation")))


def test_the_lead_that_is_shipped_for_ultrasound_proposes_places() -> None:
    leads = [card for card in live_cards(Settings()) if card.model_id == "ultrasound-ensemble-two-collections"]
    assert leads and leads[0].weights_sha256 in measured_levels()
