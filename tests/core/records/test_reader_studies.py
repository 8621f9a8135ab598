"""A reader study from its design to its scores: who reads what when, and what nobody can change."""

from __future__ import annotations

import hashlib
import io
import json
from collections import Counter
from collections.abc import Iterable
from dataclasses import replace
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from made_cards import made_card
from PIL import Image as Raster
from record_site import (
    CALM,
    WORRIED,
    Somebody,
    add_person,
    answer,
    at_terminal,
    explanation,
    finish,
    picture,
    sqlite_only,
    stored_files,
)
from sqlalchemy import insert, select, text, update
from sqlalchemy.exc import DBAPIError

from core.errors import Conflict, InvalidInput, NotAllowed, NotFound
from core.models.card_cases import COLUMNS
from core.records import data_sets, site_settings
from core.records.audit import trail
from core.records.database import tables
from core.records.database.db import Database
from core.records.people.permissions import Actor
from core.records.reader_studies import data_set_cases, designs, learnt_cases, readings
from core.records.reader_studies.data_set_cases import MOST_PICTURES, CasesOf
from core.records.reader_studies.protocol import AIDED, UNAIDED, Protocol, StudyCase, Task, tasks_of
from core.records.reads import answers_seen, predictions, reads, retention, studies, truths, worklist
from core.records.reads.reads import Impression
from core.types import SIDE_NOT_STATED, Modality
from train.publishing.publish import put_cases


def cases(n_positive: int, n_negative: int) -> tuple[StudyCase, ...]:
    return tuple(
        StudyCase(study_id=f"{number:032x}", truth={"R": number < n_positive}, patient=number + 1)
        for number in range(n_positive + n_negative)
    )


def protocol(**fields: Any) -> Protocol:
    asked = {"title": "t", "question": "", "modality": "ultrasound", "cases": cases(6, 6), "readers": (1, 2, 3, 4)}
    return Protocol.model_validate(asked | fields)


# ---- the protocol ------------------------------------------------------------------------------------------------


def test_in_one_session_each_case_is_read_unaided_and_then_aided_in_an_order_of_each_readers_own() -> None:
    asked = protocol(training=(StudyCase(study_id="f" * 32, truth={"L": True}, patient=99),))
    first, second = (tasks_of(asked, reader) for reader in (1, 2))
    assert [task.number for task in first] == list(range(1, 27))
    assert [task.is_training for task in first] == [True, True] + [False] * 24
    pairs = list(zip(first[::2], first[1::2], strict=True))
    assert all((a.case, a.modality, b.modality) == (b.case, UNAIDED, AIDED) for a, b in pairs)
    assert [task.case for task in first] != [task.case for task in second] and first == tasks_of(asked, 1)
    assert tasks_of(protocol(seed=1), 1)[2:] != tasks_of(protocol(), 1)[2:]


def test_in_two_sessions_every_case_is_met_both_ways_and_half_of_each_kind_aided_first() -> None:
    asked = protocol(design="two sessions", pause_days=28)
    for reader in asked.readers:
        tasks = tasks_of(asked, reader)
        assert [task.session for task in tasks] == [1] * 12 + [2] * 12
        assert Counter((task.case.study_id, task.modality) for task in tasks).most_common(1)[0][1] == 1
        aided = [task for task in tasks if task.session == 1 and task.modality == AIDED]
        assert len(aided) == 6 and sum(task.case.truth["R"] for task in aided) == 3
    starts = [{t.case.study_id for t in tasks_of(asked, reader)[:12] if t.modality == AIDED} for reader in (1, 2, 3)]
    assert starts[0] == starts[2] and not starts[0] & starts[1]


@pytest.mark.parametrize(("groups", "shared", "n_readers"), [(2, 0, 4), (2, 0, 6), (2, 8, 4), (3, 0, 6), (4, 0, 8)])
def test_in_two_sessions_of_groups_every_case_is_met_both_ways_first(groups: int, shared: int, n_readers: int) -> None:
    fields = {"design": "two sessions", "cases": cases(12, 12), "readers": tuple(range(1, n_readers + 1))}
    asked = protocol(**fields, groups=groups, shared=shared, halves_in_groups=True)
    ways: dict[str, set[str]] = {}
    for reader in asked.readers:
        for task in tasks_of(asked, reader):
            if task.session == 1:
                ways.setdefault(task.case.study_id, set()).add(task.modality)
    assert len(ways) == 24 and all(one == {AIDED, UNAIDED} for one in ways.values())
    of_before = protocol(**fields, groups=groups, shared=shared)  # locked by an earlier version: its orders stay
    assert of_before.sha256 != asked.sha256
    assert groups % 2 == 1 or [tasks_of(of_before, one) for one in asked.readers] != [
        tasks_of(asked, one) for one in asked.readers
    ]


def test_groups_share_out_readers_and_cases_with_both_kinds_in_each() -> None:
    asked = protocol(groups=2)
    own = [{task.case.study_id for task in tasks_of(asked, reader)} for reader in (1, 2, 3, 4)]
    assert own[0] == own[2] and own[1] == own[3] and not own[0] & own[1] and len(own[0] | own[1]) == 12
    assert all(sum(int(one, 16) < 6 for one in group) == 3 for group in own)


def test_in_a_hybrid_design_some_cases_of_both_kinds_are_read_by_all_groups_and_the_others_by_one() -> None:
    asked = protocol(groups=2, shared=4)
    own = [{task.case.study_id for task in tasks_of(asked, reader)} for reader in (1, 2, 3, 4)]
    shared = own[0] & own[1]
    assert len(shared) == 4 and sum(int(one, 16) < 6 for one in shared) == 2
    assert own[0] == own[2] and own[1] == own[3] and len(own[0]) == len(own[1]) == 8 and len(own[0] | own[1]) == 12
    assert all(sum(int(one, 16) < 6 for one in group - shared) == 2 for group in own)
    assert protocol(groups=2, shared=8).refusals() == [] and protocol(groups=2, shared=9).refusals() != []


def test_two_models_are_met_in_two_sessions_each_first_by_half_of_the_cases() -> None:
    asked = protocol(design="two sessions", aids=("one", "other"))
    assert (asked.aid_of("aided by A"), asked.aid_of("aided by B")) == ("one", "other")
    tasks = tasks_of(asked, 1)
    assert Counter((task.session, task.modality) for task in tasks) == {
        (session, modality): 6 for session in (1, 2) for modality in ("aided by A", "aided by B")
    }
    assert protocol().aid_of(AIDED) is None and asked.refusals() == []


def test_a_protocol_of_before_there_were_hybrid_designs_has_the_hash_that_was_locked() -> None:
    text = protocol().model_dump(mode="json")
    del text["shared"], text["aids"], text["halves_in_groups"]
    canonical = json.dumps(text, sort_keys=True, separators=(",", ":"))
    assert protocol().sha256 == hashlib.sha256(canonical.encode()).hexdigest() != protocol(groups=2, shared=2).sha256


@pytest.mark.parametrize(
    ("fields", "sentence"),
    [
        ({"cases": cases(1, 6)}, "two or more malignant"),
        ({"cases": cases(6, 1)}, "two or more malignant"),
        ({"readers": (1,)}, "two readers or more"),
        ({"readers": (1, 1)}, "each once"),
        ({"training": cases(1, 0)}, "stands twice"),
        ({"groups": 3}, "fewer groups"),
        ({"pause_days": 1}, "two sessions"),
        ({"shared": 1}, "two groups or more"),
        ({"aids": ("a", "b")}, "in two sessions"),
        ({"aids": ("a", "a"), "design": "two sessions"}, "Two different models"),
    ],
)
def test_what_could_never_be_analysed_is_refused(fields: dict[str, Any], sentence: str) -> None:
    assert sentence in " ".join(protocol(**fields).refusals())
    assert protocol(cases=cases(2, 2), readers=(1, 2)).refusals() == []


# ---- the records -------------------------------------------------------------------------------------------------


@pytest.fixture
def people(records: Database) -> list[Somebody]:
    return [
        add_person(records, "Ada", "researcher"),
        *(add_person(records, name, "radiologist") for name in ("Ann", "Bea", "Cleo")),
    ]  # fmt: skip


def design(records: Database, people: list[Somebody], n: int = 2, **fields: Any) -> str:
    ada, ann, bea, cleo = people
    for number in range(2 * n):
        finish(records, cleo, number + 1, "malignant" if number < n else "benign", suspicion=WORRIED)
    found = designs.cases_at_hand(records, ada, Modality.ULTRASOUND)
    assert len(found.cases) == 2 * n
    asked = {"title": "Does it help", "modality": "ultrasound", "cases": found.cases, "readers": (ann.id, bea.id)}
    return designs.create_reader_study(records, ada, asked | fields)


def read_all(records: Database, reader: Actor, *, at_most: int = 99) -> Iterable[Task]:
    while at_most and (turn := readings.turns(records, reader)[0]).task is not None:
        at_most -= 1
        task = turn.task
        readings.begin_task(records, reader, turn.id, task)
        if task.modality == AIDED:
            reads.reveal(records, reader, task.case.study_id)
        sick = task.case.truth["R"]
        readings.save_read(
            records, reader, turn.id, task, {"R": Impression("4C" if sick else "2", 70 + task.number if sick else 5)}
        )
        yield task


def test_two_readers_read_everything_and_the_scores_are_numbered_and_shown_once_it_is_closed(
    records: Database, people: list[Somebody]
) -> None:
    ada, ann, bea, cleo = people
    study_id = design(records, people)
    assert readings.turns(records, ann) == []
    sha256 = designs.lock_reader_study(records, ada, study_id)
    with pytest.raises(Conflict, match="locked already"):
        designs.lock_reader_study(records, ada, study_id)
    assert readings.turns(records, cleo) == []
    turn = readings.turns(records, ann)[0]
    assert (turn.n_done, turn.n_tasks) == (0, 8) and turn.task is not None
    assert len(list(read_all(records, ann))) == 8 == len(list(read_all(records, bea)))
    row = designs.load_reader_study(records, ada, study_id)
    assert row.is_complete and row.state == designs.READING and row.sha256 == sha256 == row.protocol.sha256
    with pytest.raises(Conflict, match="once it is closed"):
        readings.results_of(records, ada, study_id)
    designs.close_reader_study(records, ada, study_id)
    found = readings.results_of(records, ada, study_id)
    assert found.study.fully_crossed and found.study.readers == ("reader 1", "reader 2")
    assert found.study.is_positive.sum() == 2 and found.n_missing == found.n_marked == 0
    assert found.models.keys() == {("model", "e" * 64)} and (found.models["model", "e" * 64] == 0.25).all()
    assert not {"Ann", "Bea", ann.name} & set(str(found.table).replace("'", " ").split())
    assert readings.turns(records, ann) == []
    actions = [entry.action for entry in trail.entries(records, add_person(records, "Root", "administrator"))]
    assert Counter(actions)["read in reader study"] == 16 and "lock reader study" in actions
    assert trail.verify(records).is_intact


@sqlite_only
def test_answers_of_several_weights_are_never_one_column(records: Database, people: list[Somebody]) -> None:
    ada, ann, bea, _ = people
    of = CasesOf(data_set(records, add_person(records, "Eve", "administrator")), "malignant")
    found = data_set_cases.cases_of_version(records, ada, of)
    asked = {"title": "t", "modality": "ultrasound", "readers": (ann.id, bea.id), "cases": found}
    study_id = designs.create_reader_study(records, ada, asked, of_data_set=of)
    designs.lock_reader_study(records, ada, study_id)
    for number, case in enumerate(found):  # "model" is promoted after three of the cases
        (stored,) = studies.load_study(records, ann, case.study_id).images
        for model_id, weights in (("model", "ab"[number >= 3] * 64), ("other", "c" * 64)):
            said = answer(stored.image, model_id=model_id, weights=weights, malignant=0.25)
            predictions.record_predictions(records, case.study_id, stored.id, said, explanation())
    for reader in (ann, bea):
        while (turn := readings.turns(records, reader)[0]).task is not None:
            readings.begin_task(records, reader, turn.id, turn.task)
            if turn.task.modality == AIDED:
                reads.reveal(records, reader, turn.task.case.study_id)
            readings.save_read(records, reader, turn.id, turn.task, dict.fromkeys(turn.task.case.truth, CALM))
    designs.close_reader_study(records, ada, study_id)
    results = readings.results_of(records, ada, study_id)
    n_answered = {key: int((scores == 0.25).sum()) for key, scores in results.models.items()}
    assert n_answered == {("model", "a" * 64): 3, ("model", "b" * 64): 5, ("other", "c" * 64): 8}
    assert results.learnt == dict.fromkeys(results.models), "weights that are not here list no cases"
    by = Counter(row["answered_by"] for row in results.table)
    assert by == {"": 16, "model aaaaaaaa; other cccccccc": 6, "model bbbbbbbb; other cccccccc": 10}


@sqlite_only
@pytest.mark.parametrize("is_known_by", ["file", "what it shows"])
def test_a_study_is_not_locked_whose_cases_a_model_that_answers_has_learnt_from(
    records: Database, people: list[Somebody], tmp_path: Path, monkeypatch: pytest.MonkeyPatch, is_known_by: str
) -> None:
    ada, ann, bea, _ = people
    of = CasesOf(data_set(records, add_person(records, "Eve", "administrator")), "malignant")
    found = data_set_cases.cases_of_version(records, ada, of)
    asked = {"title": "t", "modality": "ultrasound", "readers": (ann.id, bea.id), "cases": found}
    study_id = designs.create_reader_study(records, ada, asked, of_data_set=of)
    splits = dict(zip((case.study_id for case in found), ["fold 0", "train", "validation", *["test"] * 5], strict=True))
    image = tables.image.c
    with records.read() as connection:
        rows = connection.execute(select(image.study_id, image.sha256, image.meta)).all()
    listed = pd.DataFrame(
        [
            {
                **dict.fromkeys(COLUMNS, ""), "split": splits[row.study_id],
                **({"sha256": row.sha256} if is_known_by == "file" else {"perceptual_hash": row.meta["look"]}),
            }
            for row in rows
        ]
    )  # fmt: skip
    model = made_card(tmp_path, model_id="model", weights={"sha256": "a" * 64, "files": []},
                      cases=put_cases(tmp_path, "a" * 64, listed))  # fmt: skip
    other = made_card(tmp_path, model_id="other", weights={"sha256": "b" * 64, "files": []})
    for name in ("live_cards", "known_cards"):
        monkeypatch.setattr(learnt_cases, name, lambda _: [model, other])
    kind = "the same picture" if is_known_by == "file" else "nearly the same picture"
    learnt = f"model was trained or chosen on 3 of the 8 pictures of these cases that it answers about (3 {kind})"
    remarks = designs.remarks_on_models(records, ada, study_id)
    assert learnt in remarks[0] and "cannot be told whether other was trained" in remarks[1] and len(remarks) == 2
    with pytest.raises(Conflict, match="Choose cases that no model has learnt from") as refused:
        designs.lock_reader_study(records, ada, study_id)
    assert learnt in str(refused.value) and "other was" not in str(refused.value)
    spared = designs.create_reader_study(records, ada, asked | {"cases": found[3:]}, of_data_set=of)
    designs.lock_reader_study(records, ada, spared)
    earlier = "d" * 64  # answered about the three before "model" was promoted, and goes on doing so
    for case in found[:3]:
        (stored,) = studies.load_study(records, ann, case.study_id).images
        said = answer(stored.image, weights=earlier)
        predictions.record_predictions(records, case.study_id, stored.id, said, explanation())
    remarks = designs.remarks_on_models(records, ada, study_id)
    assert not any("trained or chosen" in one for one in remarks) and f"model ({earlier[:8]})" in str(remarks)
    designs.lock_reader_study(records, ada, study_id)


@sqlite_only
def test_of_the_sites_own_studies_the_weights_count_that_answered_and_not_those_that_are_live_since(
    records: Database, people: list[Somebody], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    ada = people[0]
    study_id = design(records, people)
    with records.read() as connection:
        hashes = connection.execute(select(tables.image.c.sha256)).scalars().all()
    listed = pd.DataFrame([{**dict.fromkeys(COLUMNS, ""), "sha256": one, "split": "train"} for one in hashes])
    earlier, later, other = (
        made_card(
            tmp_path, model_id=model_id, weights={"sha256": sha256, "files": []},
            cases=put_cases(tmp_path, sha256, listed),
        )
        for model_id, sha256 in (("model", "e" * 64), ("model", "f" * 64), ("other", "d" * 64))
    )  # fmt: skip
    monkeypatch.setattr(learnt_cases, "live_cards", lambda _: [later, other])
    monkeypatch.setattr(learnt_cases, "known_cards", lambda _: [earlier, later, other])
    with pytest.raises(Conflict, match="model was trained or chosen on 4 of the 4 pictures"):
        designs.lock_reader_study(records, ada, study_id)
    monkeypatch.setattr(learnt_cases, "known_cards", lambda _: [later, other])
    designs.lock_reader_study(records, ada, study_id)


@sqlite_only
def test_a_data_set_in_folds_says_so_where_its_pictures_are_cases(records: Database) -> None:
    eve = add_person(records, "Eve", "administrator")
    rows = "".join(f"{stored_picture(records, n)},{('malignant', 'benign')[n % 2]},{n // 2}\n" for n in range(4))
    data_sets.create_data_set(
        records, eve, name="Set", modality=Modality.ULTRASOUND, split={"folds": 2}, found={"leaking": False},
        manifest=f"file,label,fold\n{rows}".encode(),
        counts={f"fold {n}": {"malignant": 1, "benign": 1} for n in range(2)},
    )  # fmt: skip
    (at_hand,) = data_set_cases.data_sets_at_hand(records, eve, Modality.ULTRASOUND)
    assert at_hand.source == "data set Set, version 1, all pictures, in folds"
    assert len(data_set_cases.cases_of_version(records, eve, CasesOf(at_hand.version_id, "malignant"))) == 4


@sqlite_only
def test_of_two_models_each_read_keeps_the_answer_of_its_own_alone(
    records: Database, people: list[Somebody], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    ada, ann, bea, _ = people
    fields: dict[str, Any] = {"design": "two sessions", "aids": ("model", "other")}
    with pytest.raises(Conflict, match="does not answer here"):
        design(records, people, **fields)
    cards = [made_card(tmp_path, model_id=name) for name in fields["aids"]]
    for module in (designs, learnt_cases):
        monkeypatch.setattr(module, "live_cards", lambda _: cards)
    asked = {"title": "t", "modality": "ultrasound", "readers": (ann.id, bea.id)} | fields
    own = designs.cases_at_hand(records, ada, Modality.ULTRASOUND).cases
    with pytest.raises(InvalidInput, match="Of 4 of these studies one of the two models has given no answer"):
        designs.create_reader_study(records, ada, asked | {"cases": own})
    of = CasesOf(data_set(records, add_person(records, "Eve", "administrator")), "malignant")
    found = data_set_cases.cases_of_version(records, ada, of)
    study_id = designs.create_reader_study(records, ada, asked | {"cases": found}, of_data_set=of)
    for case in found:
        (stored,) = studies.load_study(records, ann, case.study_id).images
        for model_id in fields["aids"]:
            said = replace(answer(stored.image, malignant=0.25), model_id=model_id)
            predictions.record_predictions(records, case.study_id, stored.id, said, explanation())
    designs.lock_reader_study(records, ada, study_id)
    for reader in (ann, bea):
        while (turn := readings.turns(records, reader)[0]).task is not None:
            assert turn.aid == ("model" if turn.task.modality == "aided by A" else "other")
            readings.begin_task(records, reader, turn.id, turn.task)
            reads.reveal(records, reader, turn.task.case.study_id)
            readings.save_read(records, reader, turn.id, turn.task, dict.fromkeys(turn.task.case.truth, CALM))
    designs.close_reader_study(records, ada, study_id)
    results = readings.results_of(records, ada, study_id)
    assert results.study.modalities == ("aided by A", "aided by B") and results.study.fully_crossed
    with records.read() as connection:
        rows = connection.execute(select(tables.reader_study_read)).all()
    assert {(row.modality, *(one[0] for one in row.answers)) for row in rows} == {
        ("aided by A", "model"), ("aided by B", "other"),
    }  # fmt: skip


@sqlite_only
def test_only_the_next_case_can_be_read_once_by_a_reader_and_completely(
    records: Database, people: list[Somebody]
) -> None:
    ada, ann, _, cleo = people
    study_id = design(records, people)
    designs.lock_reader_study(records, ada, study_id)
    task = readings.turns(records, ann)[0].task
    assert task is not None
    later = tasks_of(designs.load_reader_study(records, ada, study_id).protocol, ann.id)[1]
    with pytest.raises(Conflict, match="not opened"):
        readings.save_read(records, ann, study_id, task, {"R": CALM})
    readings.begin_task(records, ann, study_id, task)
    for wrong, given, what in (
        (later, {"R": CALM}, Conflict),
        (task, {}, InvalidInput),
        (task, {"L": CALM}, InvalidInput),
    ):
        with pytest.raises(what):
            readings.save_read(records, ann, study_id, wrong, given)
    with pytest.raises(Conflict, match="not a reader"):
        readings.begin_task(records, cleo, study_id, task)
    with pytest.raises(NotAllowed):
        readings.begin_task(records, ada, study_id, task)
    with pytest.raises(NotAllowed):
        designs.load_reader_study(records, ann, study_id)
    readings.save_read(records, ann, study_id, task, {"R": CALM})
    with pytest.raises(Conflict, match="read already"):
        readings.save_read(records, ann, study_id, task, {"R": WORRIED})
    assert readings.turns(records, ann)[0].task == later


@sqlite_only
def test_a_case_that_was_opened_again_counts_as_interrupted_and_its_time_from_then(
    records: Database, people: list[Somebody], monkeypatch: pytest.MonkeyPatch
) -> None:
    ada, ann, *_ = people
    study_id = design(records, people)
    designs.lock_reader_study(records, ada, study_id)
    task = readings.turns(records, ann)[0].task
    assert task is not None
    now = tables.now()
    for seconds in (0, 100):
        monkeypatch.setattr(tables, "now", lambda at=now + timedelta(seconds=seconds): at)
        readings.begin_task(records, ann, study_id, task)
    monkeypatch.setattr(tables, "now", lambda: now + timedelta(seconds=130))
    readings.save_read(records, ann, study_id, task, {"R": CALM})
    designs.close_reader_study(records, ada, study_id, reason="pilot")
    (row,) = readings.results_of(records, ada, study_id).table
    assert (row["seconds"], row["interruptions"]) == (30.0, 1)


@sqlite_only
def test_the_second_session_waits_for_the_pause_to_the_day(
    records: Database, people: list[Somebody], monkeypatch: pytest.MonkeyPatch
) -> None:
    ada, ann, *_ = people
    study_id = design(records, people, design="two sessions", pause_days=28)
    designs.lock_reader_study(records, ada, study_id)
    ann = at_terminal(ann)  # whose sessions do not end meanwhile
    assert {task.session for task in read_all(records, ann)} == {1}
    turn = readings.turns(records, ann)[0]
    now = tables.now()
    assert turn.task is None and turn.not_before is not None
    assert timedelta(days=27, hours=23) < turn.not_before - now <= timedelta(days=28)
    due = turn.not_before
    monkeypatch.setattr(tables, "now", lambda: due - timedelta(seconds=1))  # whole days, and not the next date
    assert readings.turns(records, ann)[0].task is None
    monkeypatch.setattr(tables, "now", lambda: due)
    again = list(read_all(records, ann))
    assert len(again) == 4 and {task.session for task in again} == {2}


@sqlite_only
def test_who_had_seen_the_answer_before_an_unaided_read_is_marked_and_aided_reads_count_as_seen(
    records: Database, people: list[Somebody]
) -> None:
    ada, ann, *_ = people
    study_id = design(records, people)
    designs.lock_reader_study(records, ada, study_id)
    tasks = tasks_of(designs.load_reader_study(records, ada, study_id).protocol, ann.id)
    reads.reveal(records, ann, tasks[0].case.study_id)
    list(read_all(records, ann))
    with records.read() as connection:
        from core.records.people.permissions import person_now

        assert answers_seen.was_shown(connection, person_now(connection, ann), tasks[2].case.study_id)
    designs.close_reader_study(records, ada, study_id, reason="one reader is ill")
    found = readings.results_of(records, ada, study_id)
    assert found.n_marked == 1 and found.n_missing == 8 and np.isnan(found.study.scores[:, 1]).all()
    marked = [row for row in found.table if row["had_seen_answer"]]
    assert [(row["reader"], row["modality"]) for row in marked] == [("reader 1", UNAIDED)]


def test_the_database_refuses_to_change_a_locked_protocol_and_to_close_twice(
    records: Database, people: list[Somebody]
) -> None:
    ada = people[0]
    study_id = design(records, people)
    designs.discard_reader_study(records, ada, study_id)
    asked = designs.cases_at_hand(records, ada, Modality.ULTRASOUND).cases
    values = {"title": "t", "modality": "ultrasound", "cases": asked, "readers": (people[1].id, people[2].id)}
    study_id = designs.create_reader_study(records, ada, values)
    designs.lock_reader_study(records, ada, study_id)
    with pytest.raises(Conflict, match="stays"):
        designs.discard_reader_study(records, ada, study_id)
    for change in ("UPDATE reader_study SET protocol = '{}'", "UPDATE reader_study SET locked_at = NULL",
                   "UPDATE reader_study SET protocol_sha256 = 'x'", "DELETE FROM reader_study"):  # fmt: skip
        with pytest.raises(DBAPIError, match="stays as it is"), records.begin() as connection:
            connection.execute(text(change))
    with pytest.raises(InvalidInput, match="16 reads are missing"):
        designs.close_reader_study(records, ada, study_id)
    designs.close_reader_study(records, ada, study_id, reason="no readers")
    with pytest.raises(Conflict, match="being read"):
        designs.close_reader_study(records, ada, study_id, reason="again")
    with pytest.raises(DBAPIError, match="stays as it is"), records.begin() as connection:
        connection.execute(text("UPDATE reader_study SET closed_at = NULL"))


@sqlite_only
def test_a_truth_that_was_corrected_meanwhile_is_noticed_before_the_design_is_kept(
    records: Database, people: list[Somebody]
) -> None:
    ada, ann, bea, _ = people
    design(records, people, 3)
    found = list(designs.cases_at_hand(records, ada, Modality.ULTRASOUND).cases)
    turned = found[0].model_copy(update={"truth": {"R": not found[0].truth["R"]}})
    values = {"title": "t", "modality": "ultrasound", "readers": (ann.id, bea.id), "cases": (turned, *found[1:])}
    with pytest.raises(Conflict, match="truth was changed"):
        designs.create_reader_study(records, ada, values)
    assert designs.cases_at_hand(records, ada, Modality.MAMMOGRAPHY).cases == ()
    chosen, left = designs.draw_cases(found, positive=1, negative=2, seed=3)
    assert [any(one.truth.values()) for one in chosen] == [True, False, False] and len(left) == 3
    with pytest.raises(InvalidInput, match="There are 3 studies with"):
        designs.draw_cases(found, positive=4, negative=0, seed=0)


@sqlite_only
def test_a_truth_that_was_corrected_after_the_design_keeps_it_from_being_locked(
    records: Database, people: list[Somebody]
) -> None:
    ada, ann, bea, cleo = people
    design(records, people, 3)
    found = designs.cases_at_hand(records, ada, Modality.ULTRASOUND).cases
    values = {"title": "t", "modality": "ultrasound", "readers": (ann.id, bea.id), "cases": found[1:]}
    first, second = (designs.create_reader_study(records, ada, values) for _ in range(2))

    def enter(place: int, pathology: str) -> None:
        truths.record_truth(
            records, cleo, found[place].study_id, breast="R", pathology=pathology, happened_on=tables.now().date(),
            source="biopsy",
        )  # fmt: skip

    image = tables.image
    with records.begin() as connection:  # no case any more: the patients of the others are numbered without it
        gone = update(image).where(image.c.study_id == found[0].study_id)
        connection.execute(gone.values(pixels_removed_at=tables.now()))
    designs.lock_reader_study(records, ada, first)
    enter(1, "benign")
    with pytest.raises(Conflict, match="its truth was changed meanwhile"):
        designs.lock_reader_study(records, ada, second)
    enter(1, "malignant")
    with records.begin() as connection:  # two of the cases are one woman's after all
        ids = [found[1].study_id, found[2].study_id]
        connection.execute(update(tables.study).where(tables.study.c.id.in_(ids)).values(patient_hash="f" * 64))
    with pytest.raises(Conflict, match="is here no more"):
        designs.lock_reader_study(records, ada, second)


@sqlite_only
def test_the_pictures_of_a_reader_studys_cases_stay_until_it_is_closed(
    records: Database, people: list[Somebody], monkeypatch: pytest.MonkeyPatch
) -> None:
    ada, ann, *_ = people
    root = add_person(records, "Root", "administrator")
    study_id = design(records, people)
    site_settings.choose(records, root, "keep_pixels_days", 30)
    monkeypatch.setattr(retention, "now", lambda: tables.now() + timedelta(days=31))
    assert retention.n_due(records, root, 30) == retention.apply_policy(records) == 0
    designs.lock_reader_study(records, ada, study_id)
    list(read_all(records, ann))
    assert retention.n_due(records, root, 30) == retention.apply_policy(records) == 0
    designs.close_reader_study(records, ada, study_id, reason="pilot")
    assert retention.n_due(records, root, 30) == retention.apply_policy(records) == 4


@sqlite_only
def test_a_case_without_its_pictures_is_neither_locked_nor_read(records: Database, people: list[Somebody]) -> None:
    ada, ann, *_ = people

    def removed_at(moment: datetime | None) -> None:
        with records.begin() as connection:
            connection.execute(update(tables.image).values(pixels_removed_at=moment))

    study_id = design(records, people)
    removed_at(tables.now())
    with pytest.raises(Conflict, match="Of 4 of the cases pictures were removed by the site's policy"):
        designs.lock_reader_study(records, ada, study_id)
    removed_at(None)
    designs.lock_reader_study(records, ada, study_id)
    task = readings.turns(records, ann)[0].task
    assert task is not None
    readings.begin_task(records, ann, study_id, task)
    removed_at(tables.now())
    with pytest.raises(Conflict, match="so it cannot be read"):
        readings.begin_task(records, ann, study_id, task)
    with pytest.raises(Conflict, match="so it cannot be read"):
        readings.save_read(records, ann, study_id, task, {"R": CALM})


@sqlite_only
def test_a_double_reading_is_no_case_because_its_answer_is_shown_to_its_readers_alone(
    records: Database, people: list[Somebody]
) -> None:
    ada, _, _, cleo = people
    study = studies.create_study(records, cleo, display_name="x", images=[picture(30)])
    worklist.assign(records, cleo, study, reader=None, is_double_read=True)
    reads.record_first_read(records, cleo, study, {"R": CALM})
    reads.record_final_read(records, cleo, study, {"R": CALM})
    entered = {"pathology": "benign", "happened_on": tables.now().date(), "source": "biopsy"}
    truths.record_truth(records, cleo, study, breast="R", **entered)  # type: ignore[arg-type]
    found = designs.cases_at_hand(records, ada, Modality.ULTRASOUND)
    assert found.cases == () and [n for words, n in found.left_out.items() if "blinded" in words] == [1]


# ---- cases from a data set ---------------------------------------------------------------------------------------


def stored_picture(db: Database, seed: int) -> str:
    """What a manifest calls it."""
    out = io.BytesIO()
    Raster.fromarray(np.random.default_rng(seed).integers(0, 255, (40, 36)).astype(np.uint8)).save(out, "PNG")
    return data_sets.store_file(db.settings, out.getvalue(), "png")


def data_set(db: Database, eve: Somebody) -> int:
    """12 pictures of 6 patients: 8 held back, 4 of them malignant; the others in the training part."""
    rows = []
    for number in range(12):
        name = stored_picture(db, number)
        part, label = ("test" if number < 8 else "train"), ("malignant", "benign")[number % 2]
        rows.append(f"{name},{label},p{number // 2},{part},{'L' if number == 0 else ''}")
    return data_sets.create_data_set(
        db, eve, name="Set", modality=Modality.ULTRASOUND, split={}, found={"leaking": False},
        manifest=("file,label,patient,split,laterality\n" + "\n".join(rows) + "\n").encode(),
        counts={"test": {"malignant": 4, "benign": 4}, "train": {"malignant": 2, "benign": 2}},
    )  # fmt: skip


@sqlite_only
def test_a_label_that_names_the_malignant_one_is_no_benign_case(records: Database) -> None:
    eve = add_person(records, "Eve", "administrator")
    names = stored_picture(records, 1), stored_picture(records, 2)
    rows = f"file,label,patient,split\n{names[0]},malignant,1,test\n{names[1]},DCIS,2,test\n"
    version_id = data_sets.create_data_set(
        records, eve, name="Set", modality=Modality.ULTRASOUND, split={}, found={"leaking": False},
        manifest=rows.encode(),
        counts={"test": {"malignant": 1, "DCIS": 1}},
    )  # fmt: skip
    with pytest.raises(InvalidInput, match="'DCIS' names the positive class 'malignant' or a part of it"):
        data_set_cases.cases_of_version(records, eve, CasesOf(version_id, "malignant"))


@sqlite_only
def test_pictures_that_are_held_back_become_cases_that_only_the_study_shows(records: Database) -> None:
    eve, ann = add_person(records, "Eve", "administrator"), add_person(records, "Ann", "radiologist")
    bob = add_person(records, "Bob", "radiologist")
    version_id = data_set(records, eve)
    (at_hand,) = data_set_cases.data_sets_at_hand(records, eve, Modality.ULTRASOUND)
    assert at_hand.labels == {"malignant": 4, "benign": 4}
    assert data_set_cases.data_sets_at_hand(records, eve, Modality.MAMMOGRAPHY) == []
    found = data_set_cases.cases_of_version(records, eve, CasesOf(version_id, "malignant"))
    assert [case.patient for case in found] == [1, 1, 2, 2, 3, 3, 4, 4]
    assert set(found[0].truth) == {"L"} and set(found[1].truth) == {SIDE_NOT_STATED}
    assert sum(any(case.truth.values()) for case in found) == 4
    values = {"title": "t", "modality": "ultrasound", "cases": found[:6], "readers": (ann.id, bob.id)}
    with pytest.raises(Conflict, match="not in this data set"):
        designs.create_reader_study(records, eve, values, of_data_set=CasesOf(version_id, "benign"))
    made = [
        designs.create_reader_study(
            records, eve, values | {"source": at_hand.source}, of_data_set=CasesOf(version_id, "malignant")
        )
        for _ in range(2)
    ]
    assert studies.list_studies(records, ann) == [] and worklist.worklist(records, ann) == []
    stored = studies.load_study(records, ann, found[0].study_id)
    assert stored.images[0].image.pixels.shape == (40, 36) and stored.breasts == ("L",)
    assert "Set" not in stored.row.display_name
    with pytest.raises(Conflict, match="Study reading"):
        reads.record_first_read(records, ann, found[0].study_id, {"L": CALM})
    with pytest.raises(Conflict, match="goes with the design"):
        studies.delete_study(records, eve, found[0].study_id, reason="x")

    designs.discard_reader_study(records, eve, made[0])
    assert studies.load_study(records, ann, found[0].study_id), "the other design names it"
    designs.lock_reader_study(records, eve, made[1])
    (turn,) = readings.turns(records, ann)
    for _ in range(2):
        task = readings.turns(records, ann)[0].task
        assert task is not None
        readings.begin_task(records, ann, turn.id, task)
        if task.modality == AIDED:
            reads.reveal(records, ann, task.case.study_id)
        readings.save_read(records, ann, turn.id, task, dict.fromkeys(task.case.truth, CALM))
    designs.close_reader_study(records, eve, made[1], reason="enough")
    assert not any(row["had_seen_answer"] for row in readings.results_of(records, eve, made[1]).table)


@sqlite_only
def test_a_discarded_design_takes_its_cases_with_it_and_leaves_the_studies_of_the_site(records: Database) -> None:
    eve, ann = add_person(records, "Eve", "administrator"), add_person(records, "Ann", "radiologist")
    bob = add_person(records, "Bob", "radiologist")
    version_id = data_set(records, eve)
    own = studies.create_study(records, ann, display_name="own", images=[picture()])
    found = data_set_cases.cases_of_version(records, eve, CasesOf(version_id, "malignant"))
    before = stored_files(records)
    made = designs.create_reader_study(
        records, eve, {"title": "t", "modality": "ultrasound", "cases": found, "readers": (ann.id, bob.id)},
        of_data_set=CasesOf(version_id, "malignant"),
    )  # fmt: skip
    assert len(stored_files(records)) == len(before) + 8
    with records.begin() as connection:  # a back-read of an earlier version, which took such cases, too
        values = {"models": [], "created_by": eve.id, "created_at": tables.now()}
        number = connection.execute(insert(tables.back_read).values(**values).returning(tables.back_read.c.id)).scalar()
        row = {"back_read_id": number, "study_id": found[0].study_id, "state": "queued", "message": "", "attempts": 0}
        connection.execute(insert(tables.back_read_study).values(**row))
    designs.discard_reader_study(records, eve, made)
    assert stored_files(records) == before
    with pytest.raises(NotFound):
        studies.load_study(records, ann, found[0].study_id)
    assert [row.id for row in studies.list_studies(records, ann)] == [own]


def exams(db: Database, eve: Somebody) -> int:
    """Four exams of three patients, two mammogram views of each breast; p0 has two exams, and p9 too many pictures."""
    rows, number = [], 0
    for patient, exam, malignant in (("p0", "a", "L"), ("p0", "b", ""), ("p1", "", "R"), ("p2", "", "")):
        for view in ("MLO", "CC"):
            for side in ("L", "R"):
                number += 1
                name = stored_picture(db, number)
                label = "malignant" if side == malignant and view == "CC" else "benign"
                rows.append(f"{name},{label},{patient},{exam},test,{side},{view}")
    rows += [f"{stored_picture(db, 100 + n)},malignant,p9,,test,L,CC" for n in range(MOST_PICTURES + 1)]
    return data_sets.create_data_set(
        db, eve, name="Exams", modality=Modality.MAMMOGRAPHY, split={}, found={"leaking": False},
        manifest=("file,label,patient,exam,split,laterality,view\n" + "\n".join(rows) + "\n").encode(),
        counts={"test": {"malignant": 2, "benign": 14}},
    )  # fmt: skip


@sqlite_only
def test_a_patients_pictures_are_one_exam_whose_breasts_are_malignant_where_one_picture_is(records: Database) -> None:
    eve, ann = add_person(records, "Eve", "administrator"), add_person(records, "Ann", "radiologist")
    bob = add_person(records, "Bob", "radiologist")
    asked = CasesOf(exams(records, eve), "malignant", is_by_exam=True)
    found = data_set_cases.cases_of_version(records, eve, asked)
    truths_of = [(case.patient, dict(case.truth)) for case in found]
    assert truths_of == [
        (1, {"L": True, "R": False}), (1, {"L": False, "R": False}),
        (2, {"L": False, "R": True}), (3, {"L": False, "R": False}),
    ]  # fmt: skip
    by_picture = data_set_cases.cases_of_version(records, eve, CasesOf(asked.version_id, "malignant"))
    assert len(by_picture) == 16 + MOST_PICTURES + 1
    assert not {one.study_id for one in by_picture} & {one.study_id for one in found}
    before = stored_files(records)
    values = {"title": "t", "modality": "mammography", "cases": found, "readers": (ann.id, bob.id)}
    with pytest.raises(Conflict, match="not in this data set"):
        designs.create_reader_study(records, eve, values, of_data_set=CasesOf(asked.version_id, "malignant"))
    made = designs.create_reader_study(records, eve, values, of_data_set=asked)
    stored = studies.load_study(records, ann, found[0].study_id)
    shown = {(one.image.laterality, one.image.view) for one in stored.images}
    assert shown == {("L", "CC"), ("L", "MLO"), ("R", "CC"), ("R", "MLO")} and set(stored.breasts) == {"L", "R"}
    assert len(stored_files(records)) == len(before) + 16
    designs.discard_reader_study(records, eve, made)
    assert stored_files(records) == before


@sqlite_only
def test_two_breasts_of_an_exam_are_two_cases_and_one_time(records: Database, monkeypatch: pytest.MonkeyPatch) -> None:
    eve, ann = add_person(records, "Eve", "administrator"), add_person(records, "Ann", "radiologist")
    bob = add_person(records, "Bob", "radiologist")
    asked = CasesOf(exams(records, eve), "malignant", is_by_exam=True)
    found = data_set_cases.cases_of_version(records, eve, asked)
    values = {"title": "t", "modality": "mammography", "cases": found, "readers": (ann.id, bob.id)}
    made = designs.create_reader_study(records, eve, values, of_data_set=asked)
    designs.lock_reader_study(records, eve, made)
    task = readings.turns(records, ann)[0].task
    assert task is not None
    reads.reveal(records, ann, task.case.study_id)
    now = tables.now()
    monkeypatch.setattr(tables, "now", lambda: now)
    readings.begin_task(records, ann, made, task)
    monkeypatch.setattr(tables, "now", lambda: now + timedelta(seconds=40))
    readings.save_read(records, ann, made, task, dict.fromkeys(task.case.truth, CALM))
    designs.close_reader_study(records, eve, made, reason="pilot")
    results = readings.results_of(records, eve, made)
    assert len(results.table) == 2 and len({row["case"] for row in results.table}) == 2
    (exam,) = {row["exam"] for row in results.table}
    assert results.study.scores.shape == (2, 2, 8) and results.seconds.scores.shape == (2, 2, 4)
    assert results.seconds.scores[0, 0, exam - 1] == 40 and np.isnan(results.seconds.scores).sum() == 15
    assert results.n_marked == 1, "one read, of two breasts"


@sqlite_only
def test_an_exam_is_stored_with_all_of_its_pictures_or_not_at_all(
    records: Database, monkeypatch: pytest.MonkeyPatch
) -> None:
    eve, ann = add_person(records, "Eve", "administrator"), add_person(records, "Ann", "radiologist")
    bob = add_person(records, "Bob", "radiologist")
    asked = CasesOf(exams(records, eve), "malignant", is_by_exam=True)
    found = data_set_cases.cases_of_version(records, eve, asked)
    before, put, puts = stored_files(records), type(records.store).put, []

    def fails_once_in_the_middle(store: Any, blob: Any) -> None:
        puts.append(blob.key)
        if len(puts) == 3:
            raise Conflict("The disk is full.")
        put(store, blob)

    monkeypatch.setattr(type(records.store), "put", fails_once_in_the_middle)
    values = {"title": "t", "modality": "mammography", "cases": found, "readers": (ann.id, bob.id)}
    with pytest.raises(Conflict, match="disk is full"):
        designs.create_reader_study(records, eve, values, of_data_set=asked)
    assert stored_files(records) == before and designs.list_reader_studies(records, eve) == []
    designs.create_reader_study(records, eve, values, of_data_set=asked)
    assert len(stored_files(records)) == len(before) + 16
