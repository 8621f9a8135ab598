"""The desk: who goes first, what goes together, who leaves, what is refused, and what was computed ahead."""

from __future__ import annotations

import threading
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import pytest

from core.errors import InvalidInput, ModelUnavailable
from core.models.prepared import Prepared
from core.serving.desk import URGENCY, Desk, Standing, Urgency
from core.serving.inference import waited
from core.types import Fit

FIT = Fit((4, 4), (0, 4, 0, 4), 4, 0, 0, 4, 4)


@dataclass(frozen=True)
class SmallCard:
    """As much of a card as the desk looks at."""

    weights_sha256: str
    has_weights: bool = True


A, B = SmallCard("a"), SmallCard("b")


def image(value: int) -> Prepared:
    return Prepared(f"{value:064x}", (np.full((4, 4, 1), value / 100, np.float32),), (FIT,))


@dataclass
class Model:
    """Answers the image's number; the first batch waits until it is let go. batches: what came together, in order."""

    batches: list[list[str]] = field(default_factory=list)
    began: threading.Event = field(default_factory=threading.Event)
    go_on: threading.Event = field(default_factory=threading.Event)

    def __call__(self, card: Any, batch: Sequence[Prepared]) -> list[str]:
        self.began.set()
        assert self.go_on.wait(30)
        said = [f"{card.weights_sha256}{int(one.image_sha256, 16)}" for one in batch]
        self.batches.append(said)
        if "a13" in said:
            raise InvalidInput("Not this one.")
        return said


@contextmanager
def busy(**limits: Any) -> Iterator[tuple[Desk, Model]]:
    """A desk whose thread computes the image 0 until the model is let go."""
    model = Model()
    desk = Desk(model, **limits)
    thread = threading.Thread(target=desk.work, args=(iter(()),), daemon=True)
    thread.start()
    desk.ask(A, image(0))
    assert model.began.wait(30)
    try:
        yield desk, model
    finally:
        model.go_on.set()
        desk.end()
        thread.join(30)
    assert not thread.is_alive()


def test_a_reader_goes_before_background_work_and_that_before_what_is_computed_ahead() -> None:
    with busy() as (desk, model):
        ahead = desk.ask(A, image(1), Urgency.AHEAD)
        background = desk.ask(A, image(2), Urgency.BACKGROUND)
        reader = desk.ask(B, image(3))
        assert [desk.place(one) for one in (reader, background, ahead)] == [1, 2, 3]
        model.go_on.set()
        assert ahead.answer(30) == "a1" and desk.place(ahead) == 0
    assert model.batches == [["a0"], ["b3"], ["a2"], ["a1"]]


def test_images_for_one_model_go_together_up_to_the_most_and_a_refused_one_keeps_nobody_from_an_answer() -> None:
    with busy() as (desk, model):
        tickets = [desk.ask(A, image(number)) for number in (11, 12, 13, 14, 15)]
        other = desk.ask(B, image(11))
        model.go_on.set()
        with pytest.raises(InvalidInput, match="Not this one"):
            tickets[2].answer(30)
        assert [one.answer(30) for one in (*tickets[:2], *tickets[3:], other)] == ["a11", "a12", "a14", "a15", "b11"]
    assert model.batches[1] == ["a11", "a12", "a13", "a14"]
    assert model.batches[2:] == [["a11"], ["a12"], ["a13"], ["a14"], ["a15"], ["b11"]]


def test_who_leaves_is_not_computed_for_unless_somebody_else_waits_for_the_same() -> None:
    class LeftError(BaseException):
        """As the page's script is ended."""

    def leave(place: int) -> None:
        raise LeftError

    with busy() as (desk, model):
        shared, _ = desk.ask(A, image(1)), desk.ask(A, image(1))
        with pytest.raises(LeftError):
            waited(desk, desk.ask(A, image(2)), leave)
        desk.leave(shared)
        assert desk.n_waiting == 1
        model.go_on.set()
        assert shared.answer(30) == "a1"
    assert model.batches == [["a0"], ["a1"]]


def test_more_than_the_most_are_refused_and_ahead_already_at_a_quarter() -> None:
    with busy(waiting_most=4) as (desk, _):
        desk.ask(A, image(1), Urgency.AHEAD)
        with pytest.raises(ModelUnavailable, match="Too many"):
            desk.ask(A, image(2), Urgency.AHEAD)
        for number in (2, 3, 4):
            desk.ask(A, image(number))
        with pytest.raises(ModelUnavailable, match="Too many"):
            desk.ask(A, image(5))
        desk.ask(A, image(4))  # which waits already


def test_what_was_computed_ahead_is_there_at_once_and_a_waiting_one_goes_forward_when_its_reader_asks() -> None:
    with busy(answers_most=2) as (desk, model):
        early, late = desk.ask(A, image(1), Urgency.AHEAD), desk.ask(B, image(2), Urgency.AHEAD)
        again = desk.ask(B, image(2))
        assert desk.place(again) == 1
        model.go_on.set()
        assert (late.answer(30), early.answer(30)) == ("b2", "a1")
        assert desk.ask(A, image(1)).answer(0) == "a1", "without waiting"
        changed = Prepared(image(1).image_sha256, (image(1).inputs[0] + 0.5,), (FIT,))
        assert desk.ask(A, changed).answer(30) == "a1", "other pixels are another image"
        assert desk.ask(A, image(0)).answer(30) == "a0", "the oldest answer was given up"
    assert model.batches == [["a0"], ["b2"], ["a1"], ["a1"], ["a0"]]


def test_where_what_was_asked_ahead_stands_is_known_without_its_answer() -> None:
    with busy() as (desk, model):
        desk.ask(B, image(9))
        keys = [desk.ask(A, image(number), Urgency.AHEAD).key for number in (0, 1, 2)]
        assert desk.standing(keys) == Standing(n_computing=1, n_waiting=2, n_before=1)
        assert desk.standing(keys[1:]) == Standing(n_waiting=2, n_before=2), "what is computed goes before too"
        assert desk.standing(["unknown"]) == desk.standing([]) == Standing()
        model.go_on.set()
        assert desk.ask(A, image(2)).answer(30) == "a2"
        assert desk.standing(keys[:2]) == Standing(n_answered=2), "those before it are answered too"


def test_who_waits_when_the_desk_ends_is_told() -> None:
    with busy() as (desk, model):
        ticket = desk.ask(A, image(1))
        desk.end()
        with pytest.raises(ModelUnavailable, match="being stopped"):
            ticket.answer(0)
        model.go_on.set()


def test_idle_steps_end_where_somebody_waits() -> None:
    model, steps = Model(), []
    model.go_on.set()
    desk = Desk(model)

    def idle() -> Iterator[str]:
        for step in range(3):
            steps.append((step, len(model.batches)))
            if step == 0:
                desk.ask(A, image(1))
            yield str(step)

    thread = threading.Thread(target=desk.work, args=(idle(),), daemon=True)
    thread.start()
    desk.ask(A, image(1)).answer(30)
    while len(steps) < 3:
        threading.Event().wait(0.01)
    desk.end()
    thread.join(30)
    assert steps == [(0, 0), (1, 1), (2, 1)]


def test_a_thread_for_who_waits_leaves_what_is_ahead_to_others_until_somebody_asks_for_it() -> None:
    model = Model()
    model.go_on.set()
    desk = Desk(model)
    threading.Thread(target=desk.work, args=(iter(()), Urgency.BACKGROUND), daemon=True).start()
    ahead = desk.ask(A, image(1), Urgency.AHEAD)
    assert desk.ask(A, image(2), Urgency.BACKGROUND).answer(30) == "a2"
    with pytest.raises(TimeoutError):
        ahead.answer(0.3)
    assert desk.ask(A, image(1), Urgency.READER).answer(30) == "a1" and ahead.answer(0) == "a1"
    other = desk.ask(A, image(3), Urgency.AHEAD)
    threading.Thread(target=desk.work, args=(iter(()),), daemon=True).start()
    assert other.answer(30) == "a3"
    desk.end()


def test_a_thread_knows_how_urgent_what_it_answers_is() -> None:
    seen: list[Urgency] = []

    def answer(card: Any, batch: Sequence[Prepared]) -> list[str]:
        seen.append(URGENCY.get())
        return ["said"]

    desk = Desk(answer)
    threading.Thread(target=desk.work, args=(iter(()),), daemon=True).start()
    for number, urgency in enumerate(Urgency):
        desk.ask(A, image(number), urgency).answer(30)
    desk.end()
    assert seen == list(Urgency)
