"""The models in memory: each network once a device, the least recently used given up beyond a bound.

Loads TensorFlow only when a network is loaded.
"""

from __future__ import annotations

import logging
import threading
from collections import OrderedDict
from collections.abc import Callable, Collection, Iterable
from concurrent.futures import Future
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Protocol

from core.models.cards import Card, members_of
from core.models.outline_card import OutlineCard
from core.models.prepared import DEVICE

if TYPE_CHECKING:
    from core.models.inference import LoadedModel, LoadedOutline, Reader

log = logging.getLogger(__name__)
BYTES_MOST = 1 << 30
"""Of the networks' weights on one device, float32: twice what the shipped models need together."""


class Weighted(Protocol):
    """As much of a card, of a model or of an outline network, as the networks in memory need."""

    @property
    def weights_sha256(self) -> str: ...

    @property
    def has_weights(self) -> bool: ...


@dataclass(frozen=True, slots=True)
class _Entry:
    card: Weighted
    network: Future[Any]

    @property
    def n_bytes(self) -> int:
        """0 while it is being loaded; what failed is no entry any more."""
        return int(self.network.result().n_bytes) if self.network.done() else 0


class LoadedModels:
    """Networks by the device of the thread that asks and the sha256 of their weights, shared by all its threads.

    load: makes the network of a card, with its size as `n_bytes`. Two threads that ask for one network load it once,
    and nobody waits for a network that somebody else is loading. The one that was asked for last always stays.
    """

    def __init__(self, load: Callable[[Any], Any], bytes_most: int = BYTES_MOST) -> None:
        self._load, self._bytes_most = load, bytes_most
        self._lock = threading.Lock()
        self._entries: OrderedDict[tuple[int, str], _Entry] = OrderedDict()

    def get(self, card: Weighted) -> Any:
        """The network of these weights. Raises what loading raises, for everybody who waited; the next one may try."""
        key = DEVICE.get(), card.weights_sha256
        with self._lock:
            self._forget(key for key, entry in self._entries.items() if not entry.card.has_weights)
            entry = self._entries.get(key)
            is_first = entry is None
            if entry is None:
                entry = self._entries[key] = _Entry(card, Future())
            self._entries.move_to_end(key)
        if is_first:
            try:
                entry.network.set_result(self._built(card))
            except BaseException as error:
                with self._lock:
                    if self._entries.get(key) is entry:
                        del self._entries[key]
                entry.network.set_exception(error)
            with self._lock:
                self._trim()
        return entry.network.result()

    def forget_all_but(self, weights_sha256s: Collection[str]) -> None:
        """Forget all other networks, such as those of a release that is no longer live."""
        with self._lock:
            self._forget(key for key in self._entries if key[1] not in weights_sha256s)

    @property
    def held(self) -> tuple[str, ...]:
        """The weights in memory, the least recently asked for first."""
        with self._lock:
            return tuple(sha256 for _, sha256 in self._entries)

    @property
    def loaded(self) -> tuple[Any, ...]:
        """The networks in memory on this thread's device, without those that are being loaded."""
        with self._lock:
            here = [entry.network for (device, _), entry in self._entries.items() if device == DEVICE.get()]
        return tuple(network.result() for network in here if network.done())

    @property
    def is_full(self) -> bool:
        """Whether another network as large as the largest in memory would push one out."""
        with self._lock:
            sizes = [entry.n_bytes for key, entry in self._entries.items() if key[0] == DEVICE.get()]
        return sum(sizes) + max(sizes, default=0) > self._bytes_most

    def _built(self, card: Weighted) -> Any:
        try:
            return self._load(card)
        except TypeError as error:
            # Seen under load: Keras traced a mixed-precision layer without its cast. Built anew it was right; where it
            # is wrong again, what is raised says where.
            log.warning("network %s is built once more: its graph was traced wrongly", card.weights_sha256[:8])
            log.debug("it was traced wrongly here", exc_info=error)
            return self._load(card)

    def _forget(self, keys: Iterable[tuple[int, str]]) -> None:
        for key in list(keys):
            del self._entries[key]

    def _trim(self) -> None:
        here = [key for key in self._entries if key[0] == DEVICE.get()]
        held = sum(self._entries[key].n_bytes for key in here)
        for key in here[:-1]:
            if held > self._bytes_most and self._entries[key].network.done():
                held -= self._entries.pop(key).n_bytes


def _network(card: Weighted) -> LoadedModel | LoadedOutline:
    if isinstance(card, OutlineCard):
        from core.models.inference import LoadedOutline

        return LoadedOutline(card)
    from core.models.inference import LoadedModel

    assert isinstance(card, Card)
    return LoadedModel(card)


MODELS = LoadedModels(_network)
"""The one of this process."""


def load_model(card: Card) -> Reader:
    """The model of these weights, loaded and warmed up at the first call (seconds) and shared after it.

    An ensemble is put together from its members, which it shares with those who read with them alone. Raises
    ModelUnavailable.
    """
    members = members_of(card)
    if not members:
        found: LoadedModel = MODELS.get(card)
        return found
    from core.models.inference import LoadedEnsemble

    return LoadedEnsemble(card, [MODELS.get(member) for member in members])


def load_outline(card: OutlineCard) -> LoadedOutline:
    """The outline network of these weights, as `load_model`. Raises ModelUnavailable."""
    found: LoadedOutline = MODELS.get(card)
    return found
