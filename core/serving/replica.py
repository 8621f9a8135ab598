"""The inference service as replicas on the site's cluster: what Ray Serve runs on a node, and how it is told to.

A replica is the desk of `core.serving.service` behind HTTP: one request is one image for one model, sealed with the
site's serving key, which lies in the state folder that all machines share. Whoever reaches the port without the key
learns nothing and is answered nothing. Ray is imported only by who deploys.
"""

from __future__ import annotations

import asyncio
import hashlib
import logging
import sys
import time
from collections.abc import Callable
from typing import Any
from urllib.parse import urlsplit

from starlette.requests import Request
from starlette.responses import PlainTextResponse, Response

from core.errors import AppError, Conflict, InvalidSettings, ModelUnavailable
from core.files import own_temporary_folder
from core.models.loaded import MODELS
from core.serving import wire
from core.serving.address import serving_key
from core.serving.cluster import ray_of
from core.serving.desk import WAITING_MOST, Ticket, Urgency
from core.serving.inference import Computing
from core.serving.service import FAILED, asked_card, faster_engines, warmed
from core.settings import REPOSITORY, Settings
from core.version import version

log = logging.getLogger(__name__)

NAME = "secondread"
ROUTE = f"/{NAME}"
BODY_BYTES_MOST = wire.ARRAY_BYTES_MOST
WAITING_AIM = 4
"""Requests in hand of a replica that have Ray start another one: as many readers' images as go together."""
UP_SECONDS = 10.0
"""How long more is asked than that before a replica is added: a study comes at once, and is over soon."""
DOWN_SECONDS = 600.0
"""The same for one that is taken away: it takes its networks with it."""
LOOK_SECONDS = 2.0
_NO_SERVE = "Ray Serve is not installed here. Install requirements-cluster.txt."
_LOST = "Ray Serve was ended, or the head of the cluster is lost. Start this again."
_NO_URL = "Say where the replicas shall answer: SECONDREAD_SERVE_URL, as in http://10.1.0.5:8000."


class Replica:
    """One replica; its methods run on the event loop of its process, its networks on threads of their own."""

    def __init__(self, settings: Settings) -> None:
        self._settings = settings
        self._known: frozenset[str] | None = None
        self._computing = Computing(lambda: warmed(settings), lambda: faster_engines(settings))
        self._temporary = own_temporary_folder(settings.state_dir)
        self._temporary.__enter__()
        self._computing.start()

    async def __call__(self, request: Request) -> Response:
        """POST: a sealed request of `wire.of_request`, answered sealed."""
        try:
            is_small = 0 < int(request.headers.get("content-length", "0")) <= BODY_BYTES_MOST
        except ValueError:
            is_small = False
        if request.method != "POST" or not is_small:
            return PlainTextResponse("This answers SecondRead alone.", 400)
        content = await request.body()
        key = serving_key(self._settings)
        try:
            head, arrays = wire.opened(key, content)
            answer = await self._answered(head, arrays)
        except wire.BrokenMessage as refused:
            log.warning("a request was not answered: %s", refused)
            return PlainTextResponse("This answers SecondRead alone, with the key of its site.", 401)
        return Response(wire.sealed(key, answer, content), media_type="application/octet-stream")

    async def _answered(self, head: dict[str, Any], arrays: list[Any]) -> wire.Message:
        """Raises BrokenMessage."""
        image = wire.to_prepared(head, arrays)
        self._forget(head)
        ticket = None
        try:
            card = await asyncio.to_thread(asked_card, self._settings, head)
            ticket = self._computing.desk.ask(card, image, Urgency(int(head.get("urgency", 0))))
            found, more = wire.of_found(await _answer_of(ticket))
            return {**found, "answered_by": card.weights_sha256}, more
        except AppError as refused:
            return wire.of_refusal(refused)
        except ValueError as error:
            raise wire.BrokenMessage("urgency") from error
        except Exception:  # already in the log, without anything of the image
            return wire.of_refusal(ModelUnavailable(FAILED))
        finally:
            if ticket is not None:
                self._computing.desk.leave(ticket)

    def _forget(self, head: dict[str, Any]) -> None:
        """What nobody can ask any more leaves the memory; whoever asks says what can be asked."""
        known = frozenset(map(str, head.get("known") or ()))
        if known and known != self._known:
            self._known = known
            MODELS.forget_all_but(known)


async def _answer_of(ticket: Ticket) -> Any:
    """A request that is cancelled leaves the answer to the others who wait for it."""
    return await asyncio.shield(asyncio.wrap_future(ticket.entry.answer))


def deploy(settings: Settings) -> None:
    """Have the site's replicas run, as its settings say, also after this process; does not wait for them.

    Those that run so already stay as they are. Raises InvalidSettings, Conflict (the cluster is away).
    """
    serve = _serve_of(settings)
    least, most = settings.serve_replicas_least, settings.serve_replicas_most
    asked = f"{version()} {least} {most} {settings.serve_cpus} {settings.serve_gpus}"
    name = f"inference-{hashlib.sha256(asked.encode()).hexdigest()[:8]}"
    found = serve.status().applications.get(NAME)
    if found is not None and name in found.deployments:
        return
    port = urlsplit(settings.serve_url).port
    # A cluster without this keeps the port it has: `remove` first to move it.
    serve.start(proxy_location="EveryNode", http_options={"host": "0.0.0.0", "port": port})
    deployment = serve.deployment(
        _on_node(),
        name=name,
        # The desk of a replica refuses what is too much, and knows who goes first; Serve's own queue does not.
        max_ongoing_requests=WAITING_MOST,
        autoscaling_config={
            "min_replicas": least,
            "max_replicas": most,
            "target_ongoing_requests": WAITING_AIM,
            "upscale_delay_s": UP_SECONDS,
            "downscale_delay_s": DOWN_SECONDS,
        },
        ray_actor_options={"num_cpus": settings.serve_cpus, "num_gpus": settings.serve_gpus},
        logging_config={"enable_access_log": False},
    )
    target = serve.RunTarget(deployment.bind(str(REPOSITORY)), name=NAME, route_prefix=ROUTE)
    serve.run_many([target], wait_for_ingress_deployment_creation=False, wait_for_applications_running=False)


def standing_of(settings: Settings) -> tuple[str, int]:
    """What Serve says of the replicas: a word, "" where it knows none, and how many answer. Raises as `deploy`."""
    found = _serve_of(settings).status().applications.get(NAME)
    if found is None:
        return "", 0
    return str(found.status.value), sum(one.replica_states.get("RUNNING", 0) for one in found.deployments.values())


def remove(settings: Settings) -> None:
    """End all replicas and close their port. Raises as `deploy`."""
    _serve_of(settings).shutdown()


def supervised_replicas(settings: Settings, is_wanted: Callable[[], bool], say: Callable[[str], object]) -> None:
    """Deploy, and deploy again when the cluster has forgotten it, because its head was started anew.

    is_wanted: whether to go on looking; the replicas stay in any case.
    say: is told the standing whenever it changes. Raises as `deploy`, and Conflict where Serve itself is
    lost or was ended: whoever starts this process again has it started anew.
    """
    from_ray = ray_of(settings).exceptions.RayError
    deploy(settings)
    said = ("", -1)
    while is_wanted():
        try:
            now = standing_of(settings)
            if not now[0]:
                deploy(settings)
        except from_ray as error:
            raise Conflict(_LOST) from error
        if now[0] and now != said:
            said = now
            say(f"{now[0].lower()}, replicas that answer at {settings.serve_url}: {now[1]}")
        time.sleep(LOOK_SECONDS)


def _serve_of(settings: Settings) -> Any:
    if not settings.serve_url:
        raise InvalidSettings(_NO_URL)
    ray_of(settings)
    try:
        from ray import serve
    except ImportError:
        raise InvalidSettings(_NO_SERVE) from None
    return serve


def _on_node() -> type:
    """What a node runs. Made here, so that Ray sends its code along and its process needs no module of ours."""

    class OnNode:
        def __init__(self, repository: str) -> None:
            sys.path.insert(0, repository)
            from core.serving.replica import Replica
            from core.settings import Settings

            self.replica = Replica(Settings.from_environment())

        async def __call__(self, request: Request) -> Response:
            return await self.replica(request)

    return OnNode
