"""The replicas on the site's cluster from the other side: a desk here, whose threads have them answer over HTTP.

Who goes first, who is refused, what waits ahead and what was answered is known here as beside a service of one's own
(`core.serving.desk`); Ray is not imported. Where no replica answers, a service of this machine does.
"""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager, ExitStack
from typing import Any

from core.errors import ModelUnavailable
from core.models.cards import Card
from core.models.loaded import Weighted
from core.models.prepared import Prepared, prepared
from core.serving import wire
from core.serving.address import serving_key
from core.serving.desk import URGENCY, Desk, Standing, Urgency
from core.serving.inference import AtDesk, OnWait, waited
from core.settings import Settings
from core.types import Image

log = logging.getLogger(__name__)

ROUTE = "/secondread"
THREADS_A_REPLICA = 8
"""Images on their way to it: half of them also for what is computed ahead, half for those who wait alone."""
CONNECT_SECONDS = 2.0
ANSWER_SECONDS = 60.0
"""As long as a replica may take to be started and to load its first network; for longer, the cluster has no room."""
AWAY_SECONDS = 30.0
"""Where the replicas were not reached, they are tried again after this."""
ONE = dict.fromkeys(Urgency, 1)
AWAY = (
    "The replicas at SECONDREAD_SERVE_URL do not answer, or have another key, and this machine has no room for a "
    "service of its own. Ask again, or tell an administrator."
)
GONE = "Two replicas, one after the other, ended at this image, so this model did not answer. Tell an administrator."
OTHER = "A replica answered with other weights than were asked for, and its answer was dropped. Ask again."
ON_OWN = "The replicas at SECONDREAD_SERVE_URL do not answer; models answer on this machine."

OwnService = Callable[[], AbstractContextManager[AtDesk]]
"""Starts what answers where no replica does. Raises ModelUnavailable where there is no room for it."""


class _Away(Exception):
    """No replica has the request: nothing listens, or nobody there knows the site or its key."""


class OnReplicas(AtDesk):
    """Asks the replicas; safe for threads."""

    def __init__(self, settings: Settings, own: OwnService) -> None:
        import httpx  # some tenths of a second

        self._settings, self._own_service = settings, own
        self._known: list[str] = []
        self.n_answers = {"replicas": 0, "own service": 0}
        """Who answered how often since the start; refusals are answers, too."""
        self._desk = Desk(self._said, together_most=ONE)
        self._own: AtDesk | None = None
        self._opening, self._starting = ExitStack(), threading.Lock()
        self._away_until = 0.0
        n_threads = settings.serve_replicas_most * THREADS_A_REPLICA
        self._http = httpx.Client(
            base_url=settings.serve_url,
            timeout=httpx.Timeout(ANSWER_SECONDS, connect=CONNECT_SECONDS),
            limits=httpx.Limits(max_connections=n_threads + 4, max_keepalive_connections=n_threads),
            trust_env=False,  # pictures go to no proxy of the environment
        )
        self._threads = [
            threading.Thread(
                target=self._desk.work, args=(iter(()), Urgency.AHEAD if number % 2 else Urgency.BACKGROUND),
                name=f"replicas {number}", daemon=True,
            )
            for number in range(n_threads)
        ]  # fmt: skip

    def __enter__(self) -> OnReplicas:
        for thread in self._threads:
            thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._desk.end()
        self._http.close()
        self._opening.close()

    def ahead(self, card: Card, image: Image) -> str:
        """As `Inference.ahead`."""
        return self._desk.ask(card, prepared(card, image), Urgency.AHEAD).key

    def standing(self, keys: Sequence[str]) -> Standing | None:
        """As `Inference.standing`."""
        return self._desk.standing(keys)

    def forget_all_but(self, weights_sha256s: frozenset[str]) -> None:
        """As `Inference.forget_all_but`; each replica hears of it with the next request that it gets."""
        self._known = sorted(weights_sha256s)
        if self._own is not None:
            self._own.forget_all_but(weights_sha256s)

    def are_there(self) -> bool:
        """Whether somebody at the address knows the replicas; takes two seconds at most, and waits for none."""
        import httpx

        try:
            found = self._http.get("/-/routes", timeout=CONNECT_SECONDS)
            return found.status_code == 200 and ROUTE in found.json()
        except (httpx.HTTPError, ValueError, TypeError):
            return False

    def _asked(self, card: Weighted, image: Prepared, urgency: Urgency, on_wait: OnWait) -> Any:
        return waited(self._desk, self._desk.ask(card, image, urgency), on_wait)

    def _said(self, card: Weighted, batch: Sequence[Prepared]) -> Sequence[Any]:
        """What the desk's thread answers; `_twice` or, where no replica is reached, this machine's own service."""
        (image,) = batch
        urgency = URGENCY.get()
        if time.monotonic() >= self._away_until:
            try:
                answer = self._twice(card, image, urgency)
                self.n_answers["replicas"] += 1
                return [answer]
            except _Away as away:
                self._away_until = time.monotonic() + AWAY_SECONDS
                log.warning("The replicas at SECONDREAD_SERVE_URL are not reached: %s", away)
        answer = self._at_own()._asked(card, image, urgency, lambda place: None)
        self.n_answers["own service"] += 1
        return [answer]

    def _twice(self, card: Weighted, image: Prepared, urgency: Urgency) -> Any:
        """A replica that ends with the request, or because of it, is followed by another once."""
        for attempt in (1, 2):
            try:
                head, arrays = self._once(card, image, urgency)
            except ConnectionError as gone:
                log.warning("a replica broke off (attempt %d): %s", attempt, gone)
                continue
            if "refused" in head:
                raise wire.refusal(head)
            if head.get("answered_by") != card.weights_sha256:
                raise ModelUnavailable(OTHER)
            return wire.to_found((head, arrays))
        raise ModelUnavailable(GONE)

    def _once(self, card: Weighted, image: Prepared, urgency: Urgency) -> wire.Message:
        """Raises _Away where no replica can have begun, ConnectionError where one may have ended meanwhile."""
        import httpx

        key = serving_key(self._settings)
        content = wire.sealed(key, wire.of_request("read", card, image, urgency=int(urgency), known=self._known))
        try:
            found = self._http.post(ROUTE, content=content)
        except (httpx.ConnectError, httpx.TimeoutException) as error:
            raise _Away(type(error).__name__) from error
        except httpx.HTTPError as error:
            raise ConnectionError(type(error).__name__) from error
        if found.status_code in (401, 404, 503):
            raise _Away(f"status {found.status_code}")
        if found.status_code != 200:
            raise ConnectionError(f"status {found.status_code}")
        try:
            return wire.opened(key, found.content, content)
        except wire.BrokenMessage as error:
            raise _Away(f"the answer is {error}") from error

    def _at_own(self) -> AtDesk:
        with self._starting:
            if self._own is None:
                self._own = self._opening.enter_context(self._own_service())
                log.warning(ON_OWN)
            return self._own
