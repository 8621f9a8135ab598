"""The gate: a candidate beside the live model on the same cases, and the red lines that need a written reason."""

from __future__ import annotations

import hashlib
import io
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from made_images import encoded, mammogram, ultrasound
from PIL import Image as Raster
from record_site import add_person, sqlite_only
from release_site import MODEL, SHIPPED, add_candidate, candidate
from sklearn.metrics import roc_auc_score

from core.errors import Conflict, InvalidInput, NotAllowed
from core.evaluation.promotion import CANDIDATE, LIVE, Overlap
from core.models.card_cases import read_cases
from core.models.cards import live_card, read_card, read_test_scores
from core.records import data_sets, site_settings
from core.records.audit import trail
from core.records.database.db import Database
from core.records.people.permissions import Person
from core.records.releases import decisions, promotion_check
from core.settings import REPOSITORY
from core.types import Modality
from train.publishing import score_live
from train.publishing.publish import cases_table, trace_of

pytestmark = sqlite_only
WHY = "It was looked at closely."
SEEN = SHIPPED.weights_sha256
N = len(pd.read_csv(SHIPPED.folder / f"{SEEN[:8]}.test_scores.csv"))


@pytest.fixture
def admin(records: Database) -> Person:
    return add_person(records, "Ada", "administrator")


def shipped_scores() -> pd.DataFrame:
    scores = read_test_scores(SHIPPED)
    assert scores is not None
    return scores


def with_lower(scores: pd.DataFrame, chosen: np.ndarray) -> pd.DataFrame:
    """The chosen cases get a malignant probability of 0.01."""
    changed = scores.copy()
    changed.loc[chosen, ["benign", "malignant", "normal"]] = [0.98, 0.01, 0.01]
    return changed


def keys(found: promotion_check.Examination) -> list[str]:
    return [line.key for line in found.lines]


def test_a_candidate_stands_beside_the_live_model_on_the_same_cases(records: Database, admin: Person) -> None:
    scores = shipped_scores()
    better = scores.copy()
    is_positive = (scores["label"] == "malignant").to_numpy()
    better["malignant"] = np.where(is_positive, better["malignant"] / 2 + 0.5, better["malignant"])
    found = promotion_check.examine(records, admin, add_candidate(records, admin, 1, scores=better))

    assert found.is_replaced and found.is_scored and found.live_sha256 == SEEN
    assert found.numbers.cohort.table.n == N
    (pair,) = found.numbers.pairs((CANDIDATE, LIVE))
    expected = roc_auc_score(is_positive, better["malignant"]) - roc_auc_score(is_positive, scores["malignant"])
    assert pair.difference == pytest.approx(expected, abs=1e-9) and expected > 0.05
    assert keys(found) == ["calibration"]  # it finds more, and is surer of all it finds than it may be
    assert found.seen == {CANDIDATE: None, LIVE: None}  # these test cases are not this site's: who has seen them?
    assert any(f"{N} of the {N} test cases do not lie in this site's store" in note for note in found.notes)
    assert not [note for note in found.notes if "the live model has no scores of the others" in note]


def test_less_sensitivity_than_the_margin_needs_a_written_reason_that_is_kept(records: Database, admin: Person) -> None:
    scores = shipped_scores()
    called = (scores["label"] == "malignant") & (scores["malignant"] >= SHIPPED.threshold.value)
    lost = called[called].index[:22]  # of 152 positives: 14.5 percentage points
    job_id = add_candidate(records, admin, 1, scores=with_lower(scores, np.asarray(lost)))
    found = promotion_check.examine(records, admin, job_id)
    assert "sensitivity" in keys(found) and "14.5 percentage points less" in found.lines[0].sentence

    reasons = {line.key: f"Because of {line.key}." for line in found.lines}
    for passed in ({}, dict.fromkeys(reasons, " ")):
        with pytest.raises(InvalidInput, match="written reason"):
            promotion_check.promote(records, admin, job_id, live_sha256=SEEN, reason=WHY, passed=passed)
    assert live_card(records.settings, MODEL).weights_sha256 == SEEN
    promotion_check.promote(records, admin, job_id, live_sha256=SEEN, reason=WHY, passed=reasons)
    (decision,) = decisions.decisions(records, admin)
    assert decision.passed == reasons and decision.evidence["cases"] == N
    assert decision.evidence["live"]["sensitivity"] - decision.evidence["candidate"]["sensitivity"] > 0.14
    assert live_card(records.settings, MODEL).weights_sha256 == candidate(records, job_id).weights_sha256


def test_a_site_may_choose_a_smaller_margin(records: Database, admin: Person) -> None:
    scores = shipped_scores()
    called = (scores["label"] == "malignant") & (scores["malignant"] >= SHIPPED.threshold.value)
    job_id = add_candidate(records, admin, 1, scores=with_lower(scores, np.asarray(called[called].index[:4])))  # 2.6
    assert "sensitivity" not in keys(promotion_check.examine(records, admin, job_id))
    site_settings.choose(records, admin, "sensitivity_margin_percent", 2)
    assert "sensitivity" in keys(promotion_check.examine(records, admin, job_id))


def test_a_clearly_lower_area_and_a_leaking_split_are_red_lines(records: Database, admin: Person) -> None:
    scores = shipped_scores()
    rng = np.random.default_rng(0)
    noise = scores.assign(malignant=rng.random(len(scores)))
    data = {**SHIPPED.content()["data"], "leaks": [{"check": "patient", "sentence": "3 patients are in two splits."}]}
    found = promotion_check.examine(
        records, admin, add_candidate(records, admin, 1, scores=noise, fields={"data": data})
    )
    assert {"area", "leak"} <= set(keys(found))
    assert "3 patients are in two splits" in next(line.sentence for line in found.lines if line.key == "leak")


def pictures(db: Database, numbers: range) -> list[str]:
    return [data_sets.store_file(db.settings, encoded(ultrasound(seed=number)), "png") for number in numbers]


def own_scores(files: list[str]) -> pd.DataFrame:
    malignant = np.linspace(0.1, 0.9, len(files))
    labels = np.where(np.arange(len(files)) % 2, "malignant", "benign")
    patients = [f"p{number}" for number in range(len(files))]
    return pd.DataFrame(
        {
            "case": files, "patient": patients, "label": labels, "benign": 1 - malignant, "malignant": malignant,
            "normal": 0.0,
        }
    )  # fmt: skip


def manifest(*parts: tuple[str, list[str], str]) -> bytes:
    """parts: split, files, prefix of the patients."""
    rows = [
        f"{file},{'malignant' if number % 2 else 'benign'},{prefix}{number},{split}"
        for split, files, prefix in parts
        for number, file in enumerate(files)
    ]
    return ("\n".join(["file,label,patient,split", *rows]) + "\n").encode()


def test_test_cases_that_either_was_trained_on_are_a_red_line_by_content_and_by_patient(
    records: Database, admin: Person
) -> None:
    files = pictures(records, range(10))
    first = add_candidate(records, admin, 1, manifest=manifest(("train", files[:3], "a"), ("test", files[6:], "b")))
    sha256 = candidate(records, first).weights_sha256
    gate_free = {"not compared": WHY, "too small": WHY}
    promotion_check.promote(records, admin, first, live_sha256=SEEN, reason=WHY, passed=gate_free)

    # Its test cases: one that the live model trained on, one of a patient of its own training, two of nobody.
    tested = [files[0], *files[3:6]]
    mixed = manifest(("train", files[7:], "x"), ("test", tested, "x"))
    second = add_candidate(records, admin, 2, manifest=mixed, scores=own_scores(tested))
    out = promotion_check.reference_dir(records, second)
    out.mkdir()
    own_scores(tested).to_csv(out / f"{sha256[:8]}.test_scores.csv", index=False)
    (out / f"{sha256[:8]}.json").write_text('{"candidate": 0.1, "live": 0.1}')
    found = promotion_check.examine(records, admin, second)
    said = {line.key: line.sentence for line in found.lines}
    assert said["seen by live"].startswith("1 of the 4 test cases")
    assert said["seen by candidate"].startswith("3 of the 4 test cases")  # x0, x1 and x2 are in its training too
    assert "(1 the same picture)" in said["seen by live"] and "(3 the same patient)" in said["seen by candidate"]
    assert sum("made before models listed their cases" in note for note in found.notes) == 2
    assert "2 positive of 2 patients and 2 other ones of 2 patients" in said["too small"]


def with_live_scores(db: Database, job_id: int, live_sha256: str, scores: pd.DataFrame) -> None:
    """As the scoring of the live model leaves them."""
    out = promotion_check.reference_dir(db, job_id)
    out.mkdir()
    scores.to_csv(out / f"{live_sha256[:8]}.test_scores.csv", index=False)
    (out / f"{live_sha256[:8]}.json").write_text('{"candidate": 0.1, "live": 0.1}')


def listed(db: Database, split: dict[str, str]) -> pd.DataFrame:
    """What a model lists of these stored files: name -> split."""
    from train.fitting.squares import read_case

    read = [read_case(data_sets.files_dir(db.settings) / name, Modality.ULTRASOUND) for name in split]
    return cases_table(pd.DataFrame({"split": list(split.values())}), [trace_of(image) for image in read])


def copies_of(db: Database, content: bytes) -> tuple[str, str]:
    """The same pixels in another file, and a larger copy in JPEG, both kept as pictures of data sets."""
    picture = Raster.open(io.BytesIO(content)).convert("L")
    same, alike = io.BytesIO(), io.BytesIO()
    picture.save(same, "PNG", compress_level=0)
    picture.resize((int(1.4 * picture.width), int(1.4 * picture.height))).save(alike, "JPEG", quality=75)
    return (
        data_sets.store_file(db.settings, same.getvalue(), "png"),
        data_sets.store_file(db.settings, alike.getvalue(), "jpg"),
    )


@pytest.mark.real_data("whether the lists of shipped models know the images they were trained on")
def test_what_a_shipped_model_was_trained_on_is_known_from_its_list_whatever_file_holds_it(
    records: Database, admin: Person, test_data: Path
) -> None:
    files = sorted((test_data / "data/ultrasound/busi/malignant").glob("*.png"))
    cases = read_cases(SHIPPED)
    assert cases is not None
    trained = set(cases["sha256"])  # in folds: each case by the networks of all folds but one
    content = {hashlib.sha256(path.read_bytes()).hexdigest(): path.read_bytes() for path in files}
    known = next(content[sha256] for sha256 in content if sha256 in trained)
    fresh = encoded(ultrasound(seed=99))
    names = [data_sets.store_file(records.settings, one, "png") for one in (known, fresh)] + list(
        copies_of(records, known)
    )
    job_id = add_candidate(
        records, admin, 1, scores=own_scores(names), manifest=manifest(("test", names, "p")),
        cases=listed(records, dict.fromkeys(names, "test")),
    )  # fmt: skip
    with_live_scores(records, job_id, SEEN, own_scores(names))
    found = promotion_check.examine(records, admin, job_id)
    assert found.seen[LIVE] == Overlap(same=2, patients=0, alike=1, of=4) and found.seen[CANDIDATE] == Overlap(
        0, 0, 0, 4
    )
    said = next(line.sentence for line in found.lines if line.key == "seen by live")
    assert said.startswith("3 of the 4 test cases") and "(2 the same picture, 1 nearly the same picture)" in said
    assert promotion_check.evidence_of(found)["seen"] == {
        "candidate": "none of 4", "live": "3 of 4: 2 the same picture, 1 nearly the same picture",
    }  # fmt: skip
    assert [note for note in found.notes if note.startswith("The live model's list of cases names no patients")]


def test_patients_come_from_this_sites_data_sets_and_a_damaged_list_is_told(records: Database, admin: Person) -> None:
    files = pictures(records, range(6))
    first = add_candidate(
        records, admin, 1, manifest=manifest(("train", files[:3], "a")),
        cases=listed(records, dict.fromkeys(files[:3], "train")),
    )  # fmt: skip
    live = candidate(records, first)
    promotion_check.promote(
        records, admin, first, live_sha256=SEEN, reason=WHY, passed={"not compared": WHY, "too small": WHY}
    )
    assert read_cases(live_card(records.settings, MODEL)) is not None  # a release keeps the list
    second = add_candidate(
        records, admin, 2, manifest=manifest(("test", files[3:5], "a"), ("train", files[5:], "b")),
        scores=own_scores(files[3:5]), cases=listed(records, {files[3]: "test", files[4]: "test", files[5]: "train"}),
    )  # fmt: skip
    with_live_scores(records, second, live.weights_sha256, own_scores(files[3:5]))
    seen = promotion_check.examine(records, admin, second).seen[LIVE]
    assert seen is not None and (seen.patients, seen.of) == (2, 2)

    next(candidate(records, second).folder.glob("*.cases.csv")).write_text("")
    found = promotion_check.examine(records, admin, second)
    assert any("is not the one its card names" in note for note in found.notes)
    assert found.seen[LIVE] == seen  # by patient it is known all the same


def test_in_folds_a_case_is_held_against_the_other_folds_only(records: Database, admin: Person) -> None:
    files = pictures(records, range(4))
    again = copies_of(records, (data_sets.files_dir(records.settings) / files[0]).read_bytes())[0]
    folds = {files[0]: 0, files[1]: 0, files[2]: 1, files[3]: 2, again: 1}
    scores = own_scores(list(folds)).assign(fold=list(folds.values()))
    rows = [f"{file},benign,p{number},{fold}" for number, (file, fold) in enumerate(folds.items())]
    job_id = add_candidate(
        records, admin, 1, scores=scores, manifest=("\n".join(["file,label,patient,fold", *rows]) + "\n").encode(),
        cases=listed(records, {file: f"fold {fold}" for file, fold in folds.items()}),
        fields={"folds": {"n": 3, "thresholds": [0.5, 0.5, 0.5]}},
    )  # fmt: skip
    seen = promotion_check.examine(records, admin, job_id).seen[CANDIDATE]
    assert seen is not None and seen.same == 2  # the picture and its copy, which is in another fold


def test_a_live_model_in_folds_is_compared_by_the_scores_of_the_networks_that_had_not_seen_the_case(
    records: Database, admin: Person
) -> None:
    assert "fold" in shipped_scores()
    fair = shipped_scores()
    job_id = add_candidate(records, admin, 1, scores=fair)
    learnt = fair.drop(columns="fold").assign(malignant=np.where(fair["label"] == "malignant", 0.99, 0.01))
    with_live_scores(records, job_id, SEEN, learnt)
    found = promotion_check.examine(records, admin, job_id)
    table = found.numbers.cohort.table
    assert table.scorers[LIVE].tolist() == table.scorers[CANDIDATE].tolist()  # not surer, as of cases it learnt from
    assert found.is_scored and found.speeds == {"candidate": 0.1, "live": 0.1}

    files = pictures(records, range(4))
    part = pd.concat([fair.drop(columns="fold"), own_scores(files)], ignore_index=True)
    more = add_candidate(records, admin, 2, scores=part)
    with_live_scores(records, more, SEEN, part.assign(malignant=0.5))
    table = promotion_check.examine(records, admin, more).numbers.cohort.table
    assert table.n == len(part) and set(table.scorers[LIVE]) == {0.5}  # its own scores are not of all these cases


def test_without_scores_of_the_same_cases_nothing_is_compared_and_that_is_a_red_line(
    records: Database, admin: Person
) -> None:
    files = pictures(records, range(4))
    job_id = add_candidate(records, admin, 1, scores=own_scores(files))
    found = promotion_check.examine(records, admin, job_id)
    assert not found.is_compared and set(keys(found)) == {"not compared", "too small"}
    new_name = add_candidate(records, admin, 2, model_id="ours", scores=own_scores(files))
    found = promotion_check.examine(records, admin, new_name)
    assert found.live is not None and not found.is_replaced
    assert keys(found) == ["not compared", "too small"]  # it would answer the same readers


def test_the_live_model_is_scored_on_the_candidates_cases_in_a_process_of_its_own(
    records: Database, admin: Person
) -> None:
    files = pictures(records, range(6))
    job_id = add_candidate(records, admin, 1, scores=own_scores(files))
    said = list(score_live.score_live(records, admin, job_id))
    assert any("6 of 6 cases scored" in sentence for sentence in said)
    found = promotion_check.examine(records, admin, job_id)
    assert found.is_scored and found.numbers.cohort.table.n == 6 and "not compared" not in keys(found)
    assert found.speeds["candidate"] > 0 and found.speeds["live"] > 0
    # The candidate's weights differ by a hundredth: the live ones give other scores than the made-up ones.
    live = found.numbers.cohort.table.scorers[LIVE]
    assert np.isfinite(live).all() and len(set(live.round(6))) > 1 and ((live > 0) & (live < 1)).all()

    (data_sets.files_dir(records.settings) / files[0]).unlink()
    again = add_candidate(records, admin, 2, scores=own_scores(files))
    with pytest.raises(Conflict, match="1 of 6 files are not there"):
        list(score_live.score_live(records, admin, again))
    assert not promotion_check.examine(records, admin, again).is_compared


def test_the_live_model_is_scored_with_what_it_knows_of_a_picture_when_it_reads(
    records: Database, admin: Person, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The grey scale of all the patient's pictures, also where they are read in parts, and the view."""
    from train.fitting import squares
    from train.publishing import evaluate

    picture, files = mammogram(120, 90), []
    for highest in (4000, 900):
        stream = io.BytesIO()
        Raster.fromarray(np.round(picture * highest / picture.max()).astype(np.uint16)).save(stream, "PNG")
        files.append(data_sets.store_file(records.settings, stream.getvalue(), "png"))
    rows = [f"{files[0]},benign,p,CC,test", f"{files[1]},malignant,p,MLO,test"]
    job_id = add_candidate(
        records, admin, 1, scores=own_scores(files).assign(patient="p"),
        manifest=("\n".join(["file,label,patient,view,split", *rows]) + "\n").encode(),
    )  # fmt: skip
    exam = read_card(REPOSITORY / "weights" / "mammography-exam-rsna")
    read, load_squares = [], squares.load_squares
    monkeypatch.setattr(squares, "load_squares", lambda *a, **b: read.append(load_squares(*a, **b)) or read[-1])
    monkeypatch.setattr(evaluate, "CHUNK", 1)
    monkeypatch.setattr(evaluate.log, "handlers", [])  # what a process of its own says stays in this test
    monkeypatch.setattr(evaluate.log, "level", evaluate.log.level)
    monkeypatch.setattr(score_live, "_seconds", lambda card: 0.1)
    folders = score_live.folders_of(records, job_id, candidate(records, job_id), exam)
    score_live.main(*folders)
    assert len(pd.read_csv(next(folders[-1].glob("*.test_scores.csv")))) == 2
    grey, views = zip(*((one.pixels[..., 0].max(), one.pixels[..., 1]) for one in read), strict=True)
    assert np.allclose(grey, [4000 / 4095, 900 / 4095], atol=0.02)
    assert [np.unique(view).tolist() for view in views] == [[0.0], [1.0]]


def test_a_listener_that_goes_away_ends_the_scoring(records: Database, admin: Person) -> None:
    job_id = add_candidate(records, admin, 1, scores=own_scores(pictures(records, range(4))))
    telling = score_live.score_live(records, admin, job_id)
    assert next(telling) == "Starting"
    telling.close()  # type: ignore[attr-defined]
    assert not promotion_check.examine(records, admin, job_id).is_compared


def test_labels_that_disagree_are_told(records: Database, admin: Person) -> None:
    scores = shipped_scores()
    scores.loc[0, "label"] = "malignant" if scores.loc[0, "label"] != "malignant" else "benign"
    with pytest.raises(InvalidInput, match="disagree about the truth of 1 shared"):
        promotion_check.examine(records, admin, add_candidate(records, admin, 1, scores=scores))


def test_a_candidate_of_a_new_name_stands_beside_the_live_model_that_is_chosen_and_the_trail_names_it(
    records: Database, admin: Person
) -> None:
    job_id = add_candidate(records, admin, 1, model_id="ours")
    choices = {card.model_id: card.weights_sha256 for card in promotion_check.reference_choices(records, admin, job_id)}
    assert len(choices) > 2 and all(name.startswith("ultrasound-") for name in choices)
    fusion = choices["ultrasound-fusion"]
    found = promotion_check.examine(records, admin, job_id, reference=fusion)
    assert found.live is not None and found.live.weights_sha256 == fusion and not found.is_replaced
    assert found.numbers.cohort.weights[LIVE] == fusion and found.numbers.cohort.table.n == N

    assert "specificity" in keys(found)
    with pytest.raises(InvalidInput, match="Its specificity at its threshold is"):
        promotion_check.promote(records, admin, job_id, live_sha256=None, reason=WHY, passed={}, reference=fusion)
    passed = dict.fromkeys(keys(found), "It is to be looked at.")
    promotion_check.promote(records, admin, job_id, live_sha256=None, reason=WHY, passed=passed, reference=fusion)
    compared = {"model": "ultrasound-fusion", "weights_sha256": fusion}
    assert decisions.decisions(records, admin)[0].evidence["compared_with"] == compared
    (row,) = trail.entries(records, admin, action="promote model")
    assert row.detail["compared_with"] == compared


def test_what_would_be_replaced_stands_beside_and_nothing_that_is_not_live(records: Database, admin: Person) -> None:
    own, new = add_candidate(records, admin, 1), add_candidate(records, admin, 2, model_id="ours")
    fusion = live_card(records.settings, "ultrasound-fusion").weights_sha256
    assert promotion_check.reference_choices(records, admin, own) == []
    with pytest.raises(Conflict, match="that it would replace"):
        promotion_check.examine(records, admin, own, reference=fusion)
    decisions.retire(records, admin, "ultrasound-fusion", live_sha256=fusion, reason=WHY)
    with pytest.raises(Conflict, match="other weights by now"):
        promotion_check.promote(records, admin, new, live_sha256=None, reason=WHY, passed={}, reference=fusion)
    assert [one.decision for one in decisions.decisions(records, admin)] == [decisions.RETIRE]


ACTIONS: dict[str, Callable[[Database, Person, int], object]] = {
    "reference_choices": lambda db, who, job: promotion_check.reference_choices(db, who, job),
    "examine": lambda db, who, job: promotion_check.examine(db, who, job),
    "promote": lambda db, who, job: promotion_check.promote(db, who, job, live_sha256=SEEN, reason=WHY, passed={}),
    "score_live": lambda db, who, job: list(score_live.score_live(db, who, job)),
}


@pytest.mark.parametrize("action", ACTIONS)
def test_only_an_administrator_stands_at_the_gate(records: Database, admin: Person, action: str) -> None:
    job_id = add_candidate(records, admin, 1)
    other = add_person(records, "Rita", "researcher", "radiologist")
    with pytest.raises(NotAllowed):
        ACTIONS[action](records, other, job_id)
    assert decisions.decisions(records, admin) == []


def test_what_changed_since_the_page_was_drawn_is_refused(records: Database, admin: Person) -> None:
    job_id = add_candidate(records, admin, 1)
    with pytest.raises(Conflict, match="compare again"):
        promotion_check.promote(records, admin, job_id, live_sha256="a" * 64, reason=WHY, passed={})
