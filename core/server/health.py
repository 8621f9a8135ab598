"""For whoever watches the server: `/healthz` says that it lives, `/readyz` whether it can work, `/metrics` its numbers.

The first two are open, as load balancers need them, and name nobody. The numbers are for this machine itself and for
whoever has the site's token.
"""

from __future__ import annotations

import hmac
import time
from collections.abc import Callable, Iterator, Sequence
from itertools import chain

import anyio
from starlette.concurrency import run_in_threadpool
from starlette.requests import Request
from starlette.responses import JSONResponse, PlainTextResponse, Response
from starlette.routing import Route

from core.records.database.db import Database
from core.records.monitoring import health
from core.records.monitoring.health import Metric, Part
from core.server.addresses import is_loopback, peer_of
from core.serving.inference import inference
from core.serving.replicas import ON_OWN, OnReplicas
from core.settings import Settings

ANSWER_SECONDS = 5.0
"""What takes longer to be looked at does not work."""
REMEMBERED_SECONDS = 2.0
"""However often somebody asks, the site is looked at once in this time."""
PROXY_HEADERS = ("forwarded", "x-forwarded-for", "x-forwarded-host", "x-forwarded-proto", "x-real-ip", "via")
NO_STORE = {"Cache-Control": "no-store"}


def health_routes(database: Callable[[], Database], settings: Settings) -> list[Route]:
    """GET and HEAD."""
    looked_at: list[tuple[float, Sequence[Part], dict[str, str]]] = []
    one_at_a_time = anyio.Lock()

    async def alive(_: Request) -> Response:
        return PlainTextResponse("alive", headers=NO_STORE)

    async def ready(_: Request) -> Response:
        async with one_at_a_time:
            if not looked_at or time.monotonic() - looked_at[0][0] > REMEMBERED_SECONDS:
                looked_at[:] = [(time.monotonic(), await _looked(database), await run_in_threadpool(_replicas))]
        parts, replicas = looked_at[0][1:]
        is_ready = all(part.is_ready for part in parts)
        content = {"ready": is_ready, **{part.name: part.problem or "works" for part in parts}, **replicas}
        return JSONResponse(content, 200 if is_ready else 503, headers=NO_STORE)

    async def metrics(request: Request) -> Response:
        if not _may_see_metrics(request, settings.metrics_token):
            sentence = "For this machine itself, or with the bearer token of SECONDREAD_METRICS_TOKEN."
            return PlainTextResponse(sentence, 403, headers=NO_STORE)
        text = await run_in_threadpool(lambda: health.exposition(chain(health.metrics(database()), _of_replicas())))
        return Response(text, media_type="text/plain; version=0.0.4; charset=utf-8", headers=NO_STORE)

    return [Route("/healthz", alive), Route("/readyz", ready), Route("/metrics", metrics)]


async def _looked(database: Callable[[], Database]) -> Sequence[Part]:
    with anyio.move_on_after(ANSWER_SECONDS):
        return await anyio.to_thread.run_sync(lambda: health.readiness(database()), abandon_on_cancel=True)
    return (Part("database", f"Nothing answered within {ANSWER_SECONDS:g} seconds."),)


def _replicas() -> dict[str, str]:
    """Whether they are there, where the site has them: for this machine does their work while they are not."""
    one = inference()
    return {"replicas": "works" if one.are_there() else ON_OWN} if isinstance(one, OnReplicas) else {}


def _of_replicas() -> Iterator[Metric]:
    one = inference()
    if isinstance(one, OnReplicas):
        yield Metric("replicas_reached", "gauge", "Whether replicas answer.", one.are_there())
        for who, count in one.n_answers.items():
            yield Metric("answers_total", "counter", "Images that models answered.", count, (("by", who),))


def _may_see_metrics(request: Request, token: str) -> bool:
    kind, _, given = request.headers.get("authorization", "").partition(" ")
    if token and kind.lower() == "bearer" and hmac.compare_digest(given.strip().encode(), token.encode()):
        return True
    address, _ = peer_of(request.scope)
    return is_loopback(address) and not any(name in request.headers for name in PROXY_HEADERS)
