"""One interface to whatever answers: images in; predictions, heat maps and the distance from the training images out.

A process asks `inference()`. By default it computes where it stands, one image after the other; an application puts a
desk of its own behind it (`inside`), the service in another process (`core.serving.client`), or replicas on the site's
cluster (`core.serving.replicas`).
"""

from __future__ import annotations

import sys
import threading
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace
from typing import TYPE_CHECKING, Any, Protocol, cast

import numpy as np

from core.imaging.preprocess import unfit
from core.models.cards import Card
from core.models.loaded import MODELS, Weighted, load_model, load_outline
from core.models.outline_card import OutlineCard
from core.models.prepared import DEVICE, Prepared, prepared, prepared_for_outline
from core.serving.desk import Desk, Standing, Ticket, Urgency
from core.types import Explanation, Image, Prediction

if TYPE_CHECKING:
    from core.models.inference import Answer, LoadedEnsemble, LoadedModel

PLACE_SECONDS = 0.5
"""How often whoever waits is told their place, and can leave."""

OnWait = Callable[[int], object]
"""Is told the place in the queue every `PLACE_SECONDS`; 0 is next or being computed. What it raises ends the wait."""


class Inference(Protocol):
    """Whatever answers. What `on_wait` raises gives up the place and is passed on."""

    def read(self, card: Card, image: Image, urgency: Urgency, on_wait: OnWait) -> tuple[Prediction, Explanation]:
        """What a model says of an image and where it looked. Raises as `prepared`, and ModelUnavailable."""

    def outline(self, card: OutlineCard, image: Image, on_wait: OnWait) -> np.ndarray:
        """float32 (H, W) of the image, in [0, 1]: how likely a lesion covers the pixel. Raises ModelUnavailable."""

    def ahead(self, card: Card, image: Image) -> str:
        """Have it computed when nobody waits, for whoever asks later; nothing of it is told now but the key under which
        `standing` knows it. Raises as `read`."""

    def standing(self, keys: Sequence[str]) -> Standing | None:
        """Where what was asked for ahead stands; None while whatever answers is being started. Never waits long."""

    def forget_all_but(self, weights_sha256s: frozenset[str]) -> None:
        """Leave no other network in memory."""


class Here:
    """Computes on the thread that asks, when it asks: for commands and tests."""

    def read(self, card: Card, image: Image, urgency: Urgency, on_wait: OnWait) -> tuple[Prediction, Explanation]:
        """As `Inference.read`; the first call loads the network (seconds)."""
        prediction, explanation = load_model(card).read(image)
        return _of_card(prediction, card), explanation

    def outline(self, card: OutlineCard, image: Image, on_wait: OnWait) -> np.ndarray:
        """As `Inference.outline`."""
        asked = prepared_for_outline(card, image)
        return unfit(load_outline(card).cells([asked])[0], asked.fits[0])

    def ahead(self, card: Card, image: Image) -> str:
        """Nothing: on this thread somebody would wait for it."""
        return ""

    def standing(self, keys: Sequence[str]) -> Standing | None:
        """As `Inference.standing`: nothing is ever asked for ahead."""
        return Standing()

    def forget_all_but(self, weights_sha256s: frozenset[str]) -> None:
        """As `Inference.forget_all_but`."""
        MODELS.forget_all_but(weights_sha256s)


class AtDesk:
    """Prepares images on the thread that asks and leaves the networks to a desk, here or elsewhere."""

    def read(self, card: Card, image: Image, urgency: Urgency, on_wait: OnWait) -> tuple[Prediction, Explanation]:
        """As `Inference.read`."""
        prediction, explanation = self._asked(card, prepared(card, image), urgency, on_wait)
        return _of_card(prediction, card), explanation

    def outline(self, card: OutlineCard, image: Image, on_wait: OnWait) -> np.ndarray:
        """As `Inference.outline`."""
        asked = prepared_for_outline(card, image)
        return unfit(self._asked(card, asked, Urgency.READER, on_wait), asked.fits[0])

    def forget_all_but(self, weights_sha256s: frozenset[str]) -> None:
        """As `Inference.forget_all_but`."""
        raise NotImplementedError

    def _asked(self, card: Weighted, image: Prepared, urgency: Urgency, on_wait: OnWait) -> Any:
        raise NotImplementedError


class Inside(AtDesk):
    """A desk in this process: the queue without a process of its own."""

    def __init__(self, computing: Computing) -> None:
        self.computing, self.desk = computing, computing.desk

    def ahead(self, card: Card, image: Image) -> str:
        """As `Inference.ahead`."""
        return self.desk.ask(card, prepared(card, image), Urgency.AHEAD).key

    def standing(self, keys: Sequence[str]) -> Standing | None:
        """As `Inference.standing`."""
        return self.computing.standing(keys)

    def forget_all_but(self, weights_sha256s: frozenset[str]) -> None:
        """As `Inference.forget_all_but`."""
        MODELS.forget_all_but(weights_sha256s)

    def _asked(self, card: Weighted, image: Prepared, urgency: Urgency, on_wait: OnWait) -> Any:
        return waited(self.desk, self.desk.ask(card, image, urgency), on_wait)


def _of_card(prediction: Prediction, card: Card) -> Prediction:
    """What these weights said, as this card has it: they may answer under two names (a candidate's, and that of the
    model it became), and the threshold may be amended while the network and its answers are in memory.
    """
    return replace(prediction, model_id=card.model_id, threshold=card.threshold.value)


def compute(card: Weighted, batch: Sequence[Prepared], desk: Desk) -> Sequence[Any]:
    """What a desk answers: of a model the predictions and explanations, of an outline network its cells.

    What an ensemble's members said of an image is taken from the desk or left there: they are asked by themselves, too.
    """
    if isinstance(card, OutlineCard):
        return load_outline(card).cells(batch)
    assert isinstance(card, Card)
    model = load_model(card)
    if not model.members:
        return model.read_prepared(batch)
    return cast("LoadedEnsemble", model).combined(
        [_of_member(member, [one.of_member(n) for one in batch], desk) for n, member in enumerate(model.members)]
    )


def _of_member(member: LoadedModel, batch: Sequence[Prepared], desk: Desk) -> list[Answer]:
    found: list[Answer | None] = [desk.held(member.card, one) for one in batch]
    missing = [one for one, known in zip(batch, found, strict=True) if known is None]
    computed = iter(member.read_prepared(missing) if missing else ())
    answers = []
    for one, known in zip(batch, found, strict=True):
        answers.append(known if known is not None else next(computed))
        if known is None:
            desk.hold(member.card, one, answers[-1])
    return answers


def waited(desk: Desk, ticket: Ticket, on_wait: OnWait) -> Any:
    """The answer to a ticket; whoever does not wait to the end gives it back."""
    try:
        while True:
            try:
                return ticket.answer(PLACE_SECONDS)
            except TimeoutError:
                on_wait(desk.place(ticket))
    finally:
        desk.leave(ticket)


class Computing:
    """A desk with a thread for each device that computes.

    ahead: steps that each thread takes while nobody waits, such as loading a network; warm is who has taken them.
    afterwards: the same for what a warm one may still better. How many devices there are is known once TensorFlow is
    loaded; the first thread does that with its first answer or step, and starts the others.
    """

    def __init__(
        self,
        ahead: Callable[[], Iterator[object]] = lambda: iter(()),
        afterwards: Callable[[], Iterator[object]] = lambda: iter(()),
    ) -> None:
        self.desk = Desk(self._answer)
        self._ahead, self._afterwards = ahead, afterwards
        self._starting = threading.Lock()
        self._threads: list[threading.Thread] = []
        self._is_warm = False

    def standing(self, keys: Sequence[str]) -> Standing:
        """As `Inference.standing`; warming until a thread has taken all its steps ahead."""
        return replace(self.desk.standing(keys), is_warming=not self._is_warm)

    def start(self) -> None:
        """Begin to answer."""
        with self._starting:
            self._start(0)

    def end(self) -> None:
        """Stop after what is in hand."""
        self.desk.end()
        for thread in self._threads:
            thread.join(10)

    def _start(self, device: int) -> None:
        thread = threading.Thread(target=self._work, args=(device,), name=f"models {device}", daemon=True)
        self._threads.append(thread)
        thread.start()

    def _work(self, device: int) -> None:
        DEVICE.set(device)
        self.desk.work(self._steps())

    def _steps(self) -> Iterator[object]:
        for step in self._ahead():
            self._start_others()
            yield step
        self._is_warm = True
        yield from self._afterwards()

    def _answer(self, card: Weighted, batch: Sequence[Prepared]) -> Sequence[Any]:
        answers = compute(card, batch, self.desk)
        self._start_others()
        return answers

    def _start_others(self) -> None:
        if "core.models.inference" not in sys.modules:
            return  # in a test whose models need no TensorFlow
        from core.models.inference import computing_devices

        with self._starting:
            for device in range(len(self._threads), len(computing_devices())):
                self._start(device)


@contextmanager
def inside(ahead: Callable[[], Iterator[object]] = lambda: iter(())) -> Iterator[None]:
    """In the block this process answers at a desk, on threads of its own. ahead: as of `Computing`."""
    computing = Computing(ahead)
    computing.start()
    try:
        with answered_by(Inside(computing)):
            yield
    finally:
        computing.end()


_CURRENT: list[Inference] = [Here()]


@contextmanager
def answered_by(one: Inference) -> Iterator[None]:
    """In the block everybody in this process is answered by this one."""
    _CURRENT.append(one)
    try:
        yield
    finally:
        _CURRENT.remove(one)


def inference() -> Inference:
    """Whatever answers in this process now."""
    return _CURRENT[-1]
