"""What the endpoints share on the wire: bodies with limits, clients that leave, silence in streams, errors in OpenAI's
shape. It knows no runs.
"""

from __future__ import annotations

import asyncio
import logging
import math
from collections.abc import AsyncGenerator, Awaitable, Callable, Mapping
from contextlib import suppress
from typing import TypeVar
from urllib.parse import urlsplit

import orjson
from starlette.requests import ClientDisconnect, Request
from starlette.responses import Response, StreamingResponse
from starlette.types import Receive, Scope, Send

from thinkscale.errors import (
    BudgetError,
    CapabilityError,
    ContextError,
    ContractError,
    EngineError,
    ModelError,
    ServeError,
    SettingsError,
    ThinkscaleError,
)
from thinkscale.serve.fields import Json
from thinkscale.serve.keys import must_have_keys
from thinkscale.serve.replies import error

T = TypeVar("T")

RECEIVING = 30.0
"""Seconds within which a body has to arrive."""
SILENCE = 10.0
"""Seconds of silence in a stream after which a comment is sent, so that nobody on the way hangs up."""
LEFT = 499
"""Status in the log and the metrics of a request whose client has left."""
SECURITY = {
    "cache-control": "no-store",
    "content-security-policy": "default-src 'none'; frame-ancestors 'none'",
    "referrer-policy": "no-referrer",
    "x-content-type-options": "nosniff",
}


class FrameReply(StreamingResponse):
    """A reply that is sent frame by frame; once it has ended, or its client has left, `over` is awaited."""

    def __init__(self, frames: AsyncGenerator[bytes, None], over: Callable[[], Awaitable[object]]) -> None:
        super().__init__(frames, media_type="text/event-stream", headers={"x-accel-buffering": "no"})
        self._frames, self._over = frames, over

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Send it."""
        sending = asyncio.ensure_future(self.stream_response(send))
        try:
            with suppress(Gone):
                await unless_gone(receive, sending)
        finally:
            sending.cancel()
            await asyncio.wait({sending})
            await self._frames.aclose()
            await self._over()
        if not sending.cancelled():
            sending.result()  # a failure of our own, which is logged like any other


async def unless_gone(receive: Receive, work: asyncio.Future[T]) -> None:
    """Wait for some work, which stays as it is, for as long as the client does.

    Raises:
        Gone: the client has left.
    """
    if work.done():
        return
    gone = asyncio.ensure_future(_gone(receive))
    either: set[asyncio.Future[T] | asyncio.Future[None]] = {work, gone}
    try:
        await asyncio.wait(either, return_when=asyncio.FIRST_COMPLETED)
        if not work.done():
            raise Gone
    finally:
        gone.cancel()


class Gone(Exception):
    """The client has left."""


async def _gone(receive: Receive) -> None:
    while (await receive())["type"] != "http.disconnect":
        pass


async def body_of(request: Request, most: int) -> bytes:
    """The bytes of a request, as long as they are not too many and do not take for ever.

    Raises:
        ServeError: 413 or 408.
    """
    parts: list[bytes] = []
    size = 0
    try:
        async with asyncio.timeout(RECEIVING):
            async for part in request.stream():
                size += len(part)
                if size > most:
                    raise ServeError(
                        f"The request has more than {most} bytes: send less.", status=413, code="too_large"
                    )
                parts.append(part)
    except TimeoutError:
        raise ServeError(f"The request did not arrive within {RECEIVING:g} s.", status=408, code="timeout") from None
    except ClientDisconnect:
        raise Gone from None
    return b"".join(parts)


def refuse_strange_pages(origin: str | None) -> None:
    """Refuse, where there are no keys, what a page of another site has the browser of somebody on this machine ask.

    Args:
        origin: the header, which browsers send with every request that is not a mere look.

    Raises:
        ServeError: the page is not of this machine (403).
    """
    if origin is None:
        return
    try:
        host = urlsplit(origin).hostname or ""
    except ValueError:
        host = ""
    if must_have_keys(host):
        raise ServeError(
            "a gateway without keys answers no web pages but those of its own machine: make a key with `thinkscale "
            "keys add NAME`, and ask with it from the server of the page",
            status=403,
            code="origin_not_allowed",
        )


def loaded(raw: bytes) -> Json:
    """The JSON object of a body.

    Raises:
        ServeError: it is none.
    """
    try:
        body = orjson.loads(raw)
    except orjson.JSONDecodeError as error:
        raise ServeError(f"The request is no JSON: {error}.", code="invalid_json") from None
    if not isinstance(body, dict):
        raise ServeError("The request must be a JSON object.", code="invalid_json")
    return body


def refusal_of(failure: ThinkscaleError) -> ServeError:
    """Any failure of ours as what OpenAI's clients understand."""
    match failure:
        case ServeError():
            return failure
        case ContextError():
            return ServeError(str(failure), code="context_length_exceeded")
        case CapabilityError() | SettingsError() | BudgetError():
            return ServeError(str(failure), code="unsupported")
        case ModelError():
            return ServeError(str(failure), status=502, type="server_error", code="upstream_model")
        case EngineError():
            if failure.status in (400, 413, 422):
                return ServeError(str(failure), code="upstream_refused")
            status = 429 if failure.overloaded else 502
            wait = failure.retry_after or 1.0 if failure.overloaded else None
            return ServeError(str(failure), status=status, type="server_error", code="upstream_error", retry_after=wait)
        case ContractError():  # of the owner's own component: its paths are no business of a client's
            logging.getLogger(__name__).error("a component failed: %s", failure)
            said = "The method that was asked for failed; the gateway's log says how."
            return ServeError(said, status=500, type="server_error")
    return ServeError(str(failure), status=500, type="server_error")


def error_reply(refused: ServeError) -> Response:
    """A refusal in OpenAI's shape, with advice on trying again."""
    headers = {"x-should-retry": "true" if refused.retryable else "false"}
    if refused.retry_after is not None:
        headers["retry-after"] = str(math.ceil(refused.retry_after))
    if refused.status == 401:
        headers["www-authenticate"] = "Bearer"
    return json_reply(error(refused), status=refused.status, headers=headers)


def json_reply(told: object, *, status: int = 200, headers: Mapping[str, str] | None = None) -> Response:
    """A JSON reply with the headers that all have."""
    return Response(
        orjson.dumps(told, default=str),
        status_code=status,
        headers={**SECURITY, **(headers or {})},
        media_type="application/json",
    )
