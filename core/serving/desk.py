"""Where prepared images wait for a model: who waits goes before background work, what fits together goes together.

One thread computes on a processor, since one forward pass takes all cores; of several GPUs each has its own. An answer
that nobody has come for yet, because it was computed ahead, lies here in memory and nowhere else. Loads no TensorFlow
by itself.
"""

from __future__ import annotations

import hashlib
import logging
import threading
from collections import OrderedDict
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import Future
from contextvars import ContextVar
from dataclasses import dataclass, field
from enum import IntEnum
from typing import Any

from core.errors import AppError, ModelUnavailable, traceback_of
from core.models.loaded import Weighted
from core.models.prepared import Prepared

log = logging.getLogger(__name__)


class Urgency(IntEnum):
    """Who waits: the lower goes first."""

    READER = 0
    BACKGROUND = 1
    AHEAD = 2


URGENCY: ContextVar[Urgency] = ContextVar("urgency", default=Urgency.READER)
"""How urgent what a desk's thread has in hand is: for an answer that somebody else computes."""
WAITING_MOST = 256
"""Of readers and background work together; what is computed ahead gives up its place at a quarter of it."""
TOGETHER_MOST = {Urgency.READER: 4, Urgency.BACKGROUND: 8, Urgency.AHEAD: 4}
"""Images in one forward pass: where somebody waits, more of them make the first wait longer than all of them faster."""
ANSWERS_MOST = 512
"""Held for whoever asks again: a few tens of kilobytes each."""
TOO_MANY = "Too many images wait for the models. What was answered is saved; ask again in a minute."


@dataclass(eq=False, slots=True)
class _Waiting:
    """Images wait under their key once, however many ask. n_waiting: who would be told."""

    key: str
    card: Weighted
    image: Prepared
    urgency: Urgency
    number: int
    n_waiting: int = 1
    answer: Future[Any] = field(default_factory=Future)


@dataclass(frozen=True, slots=True)
class Ticket:
    """What whoever asked holds until the answer is there or they leave."""

    entry: _Waiting

    @property
    def key(self) -> str:
        """How `Desk.standing` knows what was asked."""
        return self.entry.key

    def answer(self, seconds: float) -> Any:
        """What the model said. Raises TimeoutError after so long, else what the model raised."""
        return self.entry.answer.result(seconds)


@dataclass(frozen=True, slots=True)
class Standing:
    """What became of images that were asked for: how many of them are answered, being computed, or wait; how many of
    others go before the first that waits. is_warming: networks are still being loaded ahead.
    """

    n_answered: int = 0
    n_computing: int = 0
    n_waiting: int = 0
    n_before: int = 0
    is_warming: bool = False


class Desk:
    """A queue before a computing thread, or several.

    answer: what a card's model says of several images, in their order; for one that it refuses it may raise for all,
    who are then asked about one by one. An answer lies here for whoever asks the same weights about the same prepared
    image; what else it has of a card (name, threshold) is that of whoever asked first.
    """

    def __init__(
        self,
        answer: Callable[[Weighted, Sequence[Prepared]], Sequence[Any]],
        *,
        waiting_most: int = WAITING_MOST,
        together_most: Mapping[Urgency, int] = TOGETHER_MOST,
        answers_most: int = ANSWERS_MOST,
    ) -> None:
        self._answer = answer
        self._waiting_most, self._together_most, self._answers_most = waiting_most, together_most, answers_most
        self._changed = threading.Condition()
        self._waiting: dict[str, _Waiting] = {}
        self._computing: dict[str, _Waiting] = {}
        self._answers: OrderedDict[str, Future[Any]] = OrderedDict()
        self._number = 0
        self._is_over = False

    def ask(self, card: Weighted, image: Prepared, urgency: Urgency = Urgency.READER) -> Ticket:
        """A place in the queue, or at once the answer that is there. Raises ModelUnavailable when too many wait."""
        key = _key(card, image)
        with self._changed:
            known = self._answers.get(key)
            if known is not None:
                self._answers.move_to_end(key)
                return Ticket(_Waiting(key, card, image, urgency, 0, answer=known))
            entry = self._waiting.get(key) or self._computing.get(key)
            if entry is not None:
                entry.urgency = min(entry.urgency, urgency)
                entry.n_waiting += 1
                self._changed.notify_all()
                return Ticket(entry)
            most = self._waiting_most // 4 if urgency is Urgency.AHEAD else self._waiting_most
            if len(self._waiting) >= most:
                raise ModelUnavailable(TOO_MANY)
            self._number += 1
            entry = self._waiting[key] = _Waiting(key, card, image, urgency, self._number)
            self._changed.notify_all()  # not each thread takes everything
            return Ticket(entry)

    def held(self, card: Weighted, image: Prepared) -> Any | None:
        """The answer that lies here, or None."""
        with self._changed:
            known = self._answers.get(_key(card, image))
        return None if known is None else known.result()

    def hold(self, card: Weighted, image: Prepared, answer: Any) -> None:
        """Have an answer lie here that nobody asked for by itself."""
        found: Future[Any] = Future()
        found.set_result(answer)
        with self._changed:
            self._hold(_key(card, image), found)

    def place(self, ticket: Ticket) -> int:
        """How many go before this one: 0 for what is being computed, and for what is answered."""
        with self._changed:
            if ticket.entry.key not in self._waiting:
                return 0
            mine = _order(ticket.entry)
            return len(self._computing) + sum(_order(other) < mine for other in self._waiting.values())

    def standing(self, keys: Sequence[str]) -> Standing:
        """Where what was asked for under these keys stands, without anything of an answer."""
        with self._changed:
            mine = [self._waiting[key] for key in keys if key in self._waiting]
            first = min(map(_order, mine), default=None)
            n_computing = sum(key in self._computing for key in keys)
            n_before = 0
            if first is not None:
                n_before = len(self._computing) - n_computing
                n_before += sum(_order(other) < first for other in self._waiting.values())
            return Standing(sum(key in self._answers for key in keys), n_computing, len(mine), n_before)

    def leave(self, ticket: Ticket) -> None:
        """Whoever held the ticket does not wait any more; what nobody waits for is not computed."""
        entry = ticket.entry
        with self._changed:
            entry.n_waiting -= 1
            if entry.n_waiting < 1 and self._waiting.get(entry.key) is entry:
                del self._waiting[entry.key]
                entry.answer.cancel()

    @property
    def n_waiting(self) -> int:
        """Images in the queue, without those being computed."""
        with self._changed:
            return len(self._waiting)

    def work(self, idle: Iterator[object], least: Urgency = Urgency.AHEAD) -> None:
        """Answer until `end`; for the thread of one device. idle: is asked for its next where nobody waits, such as a
        network loaded ahead; whoever comes meanwhile waits for that one step. least: what is less urgent is left to
        other threads."""
        while (batch := self._next(idle, least)) is not None:
            URGENCY.set(batch[0].urgency)
            try:
                self._settle(batch)
            finally:
                with self._changed:
                    for entry in batch:
                        del self._computing[entry.key]

    def end(self) -> None:
        """Let `work` return after what it has in hand; who still waits is told so."""
        with self._changed:
            self._is_over = True
            for entry in self._waiting.values():
                entry.answer.set_exception(ModelUnavailable("SecondRead is being stopped. Ask again after its start."))
            self._waiting.clear()
            self._changed.notify_all()

    def _next(self, idle: Iterator[object], least: Urgency) -> list[_Waiting] | None:
        while self._is_idle and next(idle, None) is not None:
            pass
        with self._changed:
            while not (mine := [one for one in self._waiting.values() if one.urgency <= least]) and not self._is_over:
                self._changed.wait()
            if self._is_over:
                return None
            first = min(mine, key=_order)
            alike = [one for one in self._waiting.values() if _goes_with(one, first)]
            batch = sorted(alike, key=_order)[: self._together_most[first.urgency]]
            for entry in batch:
                self._computing[entry.key] = self._waiting.pop(entry.key)
            return batch

    @property
    def _is_idle(self) -> bool:
        with self._changed:
            return not self._waiting and not self._is_over

    def _settle(self, batch: Sequence[_Waiting]) -> None:
        try:
            answers = self._answer(batch[0].card, [entry.image for entry in batch])
            for entry, answer in zip(batch, answers, strict=True):
                self._store(entry, answer)
        except Exception as error:  # a thread's outermost loop: who waits is told, and the next is answered
            if len(batch) > 1:
                for entry in batch:
                    if not entry.answer.done():
                        self._settle([entry])
                return
            if not isinstance(error, AppError):
                log.error("a model failed:\n%s", traceback_of(error))
            batch[0].answer.set_exception(error)

    def _store(self, entry: _Waiting, answer: Any) -> None:
        with self._changed:
            entry.answer.set_result(answer)
            self._hold(entry.key, entry.answer)

    def _hold(self, key: str, answer: Future[Any]) -> None:
        self._answers[key] = answer
        while len(self._answers) > self._answers_most:
            self._answers.popitem(last=False)


def _order(entry: _Waiting) -> tuple[int, int]:
    return entry.urgency, entry.number


def _goes_with(one: _Waiting, first: _Waiting) -> bool:
    return one.urgency == first.urgency and one.card.weights_sha256 == first.card.weights_sha256


def _key(card: Weighted, image: Prepared) -> str:
    """Of what the answer depends on: the weights, and every value that the graph is given."""
    digest = hashlib.sha256(f"{card.weights_sha256} {image.image_sha256} {image.fits}".encode())
    for one in image.inputs:
        digest.update(str(one.shape).encode())
        digest.update(one.tobytes())
    return digest.hexdigest()
