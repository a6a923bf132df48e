"""The endpoints: from a request on the wire to a reply on the wire. What is decided and run is decided elsewhere."""

from __future__ import annotations

import asyncio
import logging
import secrets
import time
from collections.abc import AsyncGenerator, AsyncIterator, Awaitable, Callable
from contextlib import aclosing, asynccontextmanager
from dataclasses import dataclass, field, replace

from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Match, Route

from thinkscale.engines.protocol import Engine
from thinkscale.errors import EngineError, ServeError, ThinkscaleError
from thinkscale.identity import digest
from thinkscale.serve.asking import Limits, asked, repeats, tighter
from thinkscale.serve.ceilings import most, refuse_vast
from thinkscale.serve.frames import ALIVE
from thinkscale.serve.keys import OPEN, Key, Keyring
from thinkscale.serve.logs import Access, access, access_log, event
from thinkscale.serve.metrics import Metrics
from thinkscale.serve.profiles import Menu
from thinkscale.serve.records import Api, Order
from thinkscale.serve.replies import PREFIXES, reply
from thinkscale.serve.responses import Kept, Shelf, begun, cancel, delete, keep, retrieve
from thinkscale.serve.runs import Running, Runs
from thinkscale.serve.shown import REASONING_FIELDS, method_name
from thinkscale.serve.streams import Stream, stream
from thinkscale.serve.untraced import Tracing
from thinkscale.serve.wire import (
    LEFT,
    SECURITY,
    SILENCE,
    FrameReply,
    Gone,
    body_of,
    error_reply,
    json_reply,
    loaded,
    refusal_of,
    refuse_strange_pages,
    unless_gone,
)
from thinkscale.types import Outcome


@dataclass(frozen=True, slots=True, kw_only=True)
class Gateway:
    """Everything that the endpoints use."""

    menu: Menu
    engines: tuple[Engine, ...]
    """All engines, to see whether they are ready and to close them."""
    runs: Runs
    keyring: Keyring
    shelf: Shelf = field(default_factory=Shelf)
    limits: Limits = field(default_factory=Limits)
    tracing: Tracing = field(default_factory=Tracing)
    reasoning: tuple[str, ...] = REASONING_FIELDS
    """Fields of chat messages that carry thinking and progress; none leaves both out."""
    patience: float = 30.0
    """Seconds for runs in flight when the gateway shuts down."""

    @property
    def metrics(self) -> Metrics:
        """What is counted, of runs and of requests."""
        return self.runs.metrics


@dataclass(slots=True, kw_only=True)
class Exchange:
    """One request while it is served."""

    gateway: Gateway
    api: Api
    id: str
    began: float = field(default_factory=time.monotonic)
    created: int = field(default_factory=lambda: int(time.time()))
    """Seconds since 1970."""
    key: Key | None = None
    order: Order | None = None
    joined: bool = False
    """Whether it shares the run of an earlier request."""
    outcome: Outcome | None = None
    over: bool = False
    """Whether it has been counted and logged."""

    def kept(self, running: Running) -> Kept:
        """The response that its run is for, as it is kept."""
        assert self.key is not None
        return Kept(id=self.id, key=self.key.id, created=self.created, running=running)

    def begun(self, response: Response) -> Response:
        """The response with the headers that every reply has."""
        response.headers.update({**SECURITY, "x-request-id": self.id})
        return response

    def done(self, response: Response) -> Response:
        """The response of a request that is complete with it."""
        self.closed(response.status_code)
        return self.begun(response)

    def refused(self, failure: ThinkscaleError) -> Response:
        """The response to a request that comes to nothing."""
        return self.done(error_reply(refusal_of(failure)))

    def closed(self, status: int) -> None:
        """Count and log the request, which is over."""
        self.over = True
        if status == LEFT:
            self.gateway.metrics.disconnected(self.api)
        seconds = time.monotonic() - self.began
        if self.order is None:
            self.gateway.metrics.without_run(self.api, status)
        else:
            self.gateway.metrics.finished(self.order, seconds, status)
        outcome = self.outcome
        if not access_log.isEnabledFor(logging.INFO):
            return
        access(
            Access(
                request=self.id,
                key=self.key.id if self.key else "",
                api=self.api,
                method=method_name(self.order) if self.order else "",
                profile=self.order.profile if self.order else "",
                status=status,
                tokens=outcome.usage.output_tokens if outcome else 0,
                seconds=round(seconds, 4),
                run=outcome.run if outcome else "",
                joined=self.joined,
            )
        )

    def ended(self, running: Running) -> None:
        """Log what the run of a request that was answered long before has come to."""
        task = running.task
        outcome = task.result() if not task.cancelled() and not task.exception() else None
        event(
            access_log,
            "background response over",
            request=self.id,
            key=self.key.id if self.key else "",
            method=method_name(running.order),
            profile=running.order.profile,
            stopped=outcome.stopped if outcome else "cancelled" if task.cancelled() else "failed",
            tokens=running.spent.output_tokens,
            seconds=round(time.monotonic() - self.began, 4),
            run=outcome.run if outcome else "",
        )


def application(gateway: Gateway) -> Starlette:
    """The gateway as an ASGI application."""

    @asynccontextmanager
    async def life(_: Starlette) -> AsyncIterator[None]:
        try:
            yield
        finally:
            await gateway.runs.drain(gateway.patience)
            for engine in gateway.engines:
                await engine.aclose()
            gateway.tracing.close()

    def serving(api: Api) -> Callable[[Request], Awaitable[Response]]:
        async def endpoint(request: Request) -> Response:
            return await _served(gateway, api, request)

        return endpoint

    def bound(answer: Callable[[Gateway, Request], Awaitable[Response]]) -> Callable[[Request], Awaitable[Response]]:
        async def endpoint(request: Request) -> Response:
            return await answer(gateway, request)

        return endpoint

    routes = [
        Route("/v1/chat/completions", serving(Api.chat), methods=["POST"]),
        Route("/v1/completions", serving(Api.completions), methods=["POST"]),
        Route("/v1/responses", serving(Api.responses), methods=["POST"]),
        Route("/v1/responses/{id}", bound(retrieve), methods=["GET"]),
        Route("/v1/responses/{id}", bound(delete), methods=["DELETE"]),
        Route("/v1/responses/{id}/cancel", bound(cancel), methods=["POST"]),
        Route("/v1/models", bound(_models)),
        Route("/v1/models/{name:path}", bound(_model)),
        Route("/health", bound(_health)),
        Route("/ready", bound(_ready)),
        Route("/metrics", bound(_metrics)),
    ]
    handlers = {404: _unknown, 405: _unknown, Exception: _unforeseen}
    return Starlette(routes=routes, lifespan=life, exception_handlers=handlers)


async def _served(gateway: Gateway, api: Api, request: Request) -> Response:
    """Answer a request, or refuse it in OpenAI's shape; either is counted and logged."""
    exchange = Exchange(gateway=gateway, api=api, id=PREFIXES[api] + secrets.token_hex(12))
    with gateway.tracing.received(request.headers):
        try:
            exchange.key = gateway.keyring.check(request.headers.get("authorization"))
            if exchange.key is OPEN:
                refuse_strange_pages(request.headers.get("origin"))
            raw = await body_of(request, gateway.limits.body)
            wish = asked(api, loaded(raw), request.headers, gateway.limits)
            exchange.order = gateway.menu.order(wish, gateway.keyring.left(exchange.key))
            refuse_vast(exchange.order, len(raw), gateway.limits.sent)
            if wish.stream:
                return await _streamed(exchange, request, raw)
            async with _wanted(exchange, request, raw) as running:
                if running.order.asked.background:
                    return exchange.done(json_reply(await begun(gateway, exchange.kept(running))))
                await unless_gone(request.receive, running.task)
                exchange.outcome = await running.outcome()
            id, created = exchange.id, exchange.created
            told = reply(exchange.order, exchange.outcome, id=id, created=created, names=gateway.reasoning)
            if api is Api.responses:
                keep(gateway, exchange.kept(running))
            return exchange.done(json_reply(told))
        except ThinkscaleError as failure:
            return exchange.refused(failure)
        except Gone:
            return exchange.done(json_reply({}, status=LEFT))


@asynccontextmanager
async def _wanted(exchange: Exchange, request: Request, raw: bytes) -> AsyncIterator[Running]:
    """The run of a request: its own, on the account of its key, or that of an earlier request that it repeats."""
    gateway, order, key = exchange.gateway, exchange.order, exchange.key
    assert order is not None
    assert key is not None
    given = request.headers.get("idempotency-key")
    again = request.headers.get("x-stainless-retry-count", "0") != "0"
    name = digest(key.id, exchange.api, *(("", given) if given else (raw,)))
    if (given or again) and gateway.runs.known(name):
        async with gateway.runs.wanted(order, who=key.id, name=name) as running:
            if not repeats(order.asked, running.order.asked):
                said = "The 'Idempotency-Key' is that of another request: give every request a key of its own."
                raise ServeError(said, status=422, code="idempotency_key_reused")
            gateway.metrics.joined()
            exchange.joined, exchange.order = True, replace(running.order, asked=order.asked)
            yield running
        return
    admission = await gateway.keyring.admitted(key, most(order))
    exchange.order = order = replace(order, budget=tighter(order.budget, admission.budget))

    def ended(running: Running) -> None:
        gateway.keyring.charge(admission, running.spent)
        if order.asked.background:
            exchange.ended(running)

    async with gateway.runs.wanted(order, who=key.id, name=name, joins=False, size=len(raw), ended=ended) as running:
        yield running


async def _streamed(exchange: Exchange, request: Request, raw: bytes) -> Response:
    """A reply that begins at once and ends with the run. What is refused before it begins is refused as usual."""
    wanted = _wanted(exchange, request, raw)
    running = await wanted.__aenter__()
    assert exchange.order is not None
    if exchange.api is Api.responses:
        keep(exchange.gateway, exchange.kept(running))
    told = stream(exchange.order, id=exchange.id, created=exchange.created, names=exchange.gateway.reasoning)

    async def over() -> None:
        if not exchange.over:
            exchange.closed(LEFT)
        await wanted.__aexit__(None, None, None)

    return exchange.begun(FrameReply(_frames(exchange, told, running), over))


async def _frames(exchange: Exchange, told: Stream, running: Running) -> AsyncGenerator[bytes, None]:
    """The frames of a stream, and comments where there is nothing to say for long."""
    async with aclosing(running.events(SILENCE)) as events:
        for frame in told.begin():
            yield frame
        exchange.gateway.metrics.answered(running.order, time.monotonic() - exchange.began)
        async for event in events:
            for frame in told.news(event) if event else (ALIVE,):
                yield frame
    try:
        exchange.outcome = await running.outcome()
        last, status = b"".join(told.end(exchange.outcome)), 200
    except ThinkscaleError as failure:
        refusal = refusal_of(failure)
        last, status = b"".join(told.fail(refusal)), refusal.status
    exchange.closed(status)
    yield last


async def _health(_: Gateway, __: Request) -> Response:
    return json_reply({"status": "ok"})


async def _models(gateway: Gateway, request: Request) -> Response:
    return _checked(gateway, request, lambda: {"object": "list", "data": gateway.menu.models()})


async def _model(gateway: Gateway, request: Request) -> Response:
    return _checked(gateway, request, lambda: gateway.menu.model(request.path_params["name"]))


def _checked(gateway: Gateway, request: Request, told: Callable[[], object]) -> Response:
    try:
        gateway.keyring.check(request.headers.get("authorization"))
        return json_reply(told())
    except ThinkscaleError as failure:
        return error_reply(refusal_of(failure))


async def _metrics(gateway: Gateway, request: Request) -> Response:
    text, media_type = gateway.metrics.render(request.headers.get("accept", ""))
    return Response(text, headers=SECURITY, media_type=media_type)


async def _ready(gateway: Gateway, _: Request) -> Response:
    """Whether requests will be answered: the upstream speaks, and the gateway is not shutting down."""
    if gateway.runs.draining:
        return json_reply({"status": "shutting down"}, status=503)
    try:
        async with asyncio.timeout(5):
            for engine in gateway.engines:
                await engine.open()
    except (EngineError, TimeoutError) as failure:
        return json_reply({"status": "not ready", "why": str(failure) or "the upstream does not answer"}, status=503)
    runs = gateway.runs
    told = {"runs": runs.alive, "waiting": runs.queue.waiting, "recording": runs.recording}
    return json_reply({"status": "ready", **told})


def _unknown(request: Request, failure: Exception) -> Response:
    status = getattr(failure, "status_code", 404)
    said = f"{request.method} {request.url.path} is no endpoint of this gateway"
    refused = ServeError(f"{said}: see /v1/models, /v1/chat/completions.", status=status, code="unknown_url")
    reply = error_reply(refused)
    if status == 405:
        fit = [r for r in request.app.routes if isinstance(r, Route) and r.matches(request.scope)[0] is not Match.NONE]
        reply.headers["allow"] = ", ".join(sorted({method for route in fit for method in route.methods or ()}))
    return reply


def _unforeseen(_: Request, failure: Exception) -> Response:
    logging.getLogger(__name__).error("a request failed unforeseen", exc_info=failure)
    return error_reply(ServeError("The gateway failed; its log says how.", status=500, type="server_error"))
