"""The life of a response after it was asked for: begun in the background, retrieved, cancelled, deleted."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable
from typing import TYPE_CHECKING

from starlette.requests import Request
from starlette.responses import Response

from thinkscale.errors import ServeError, ThinkscaleError
from thinkscale.serve.fields import unsupported
from thinkscale.serve.kept import Kept
from thinkscale.serve.logs import Access, access
from thinkscale.serve.wire import error_reply, json_reply, refusal_of

if TYPE_CHECKING:
    from thinkscale.serve.app import Gateway

Answer = Callable[["Gateway", Kept, Request], Awaitable[dict[str, object]]]


def keep(gateway: Gateway, kept: Kept) -> None:
    """Keep a response that its client wants kept; a background one wants its run from now on, as a client does."""
    if kept.running.order.asked.store:
        gateway.shelf.put(kept)
        kept.running.waiting += kept.background


async def begun(gateway: Gateway, kept: Kept) -> dict[str, object]:
    """Keep a background response; what is told of it at once.

    Raises:
        ThinkscaleError: the run was refused, by the queue or because it cannot be made, before it took a step.
    """
    await asyncio.sleep(0)
    if kept.running.task.done():
        await kept.running.outcome()
    keep(gateway, kept)
    return kept.told(gateway.reasoning)


def _endpoint(answer: Answer) -> Callable[[Gateway, Request], Awaitable[Response]]:
    """An endpoint for one response, which is found for the key that made it; counted and logged as any other."""
    api = f"responses.{answer.__name__}"

    async def endpoint(gateway: Gateway, request: Request) -> Response:
        began, key, id = time.monotonic(), "", ""
        try:
            key = gateway.keyring.check(request.headers.get("authorization")).id
            kept = gateway.shelf.get(request.path_params["id"], key)
            id = kept.id
            reply = json_reply(await answer(gateway, kept, request))
        except ThinkscaleError as failure:
            reply = error_reply(refusal_of(failure))
        gateway.metrics.without_run(api, reply.status_code)
        seconds = round(time.monotonic() - began, 4)
        access(Access(request=id, key=key, api=api, status=reply.status_code, seconds=seconds))
        return reply

    return endpoint


@_endpoint
async def retrieve(gateway: Gateway, kept: Kept, request: Request) -> dict[str, object]:
    """The response as it stands."""
    if request.query_params.get("stream", "false").lower() not in ("false", "0", ""):
        raise unsupported("stream", "A response is retrieved whole: ask again until its 'status' says that it is over.")
    return kept.told(gateway.reasoning)


@_endpoint
async def cancel(gateway: Gateway, kept: Kept, _: Request) -> dict[str, object]:
    """The response, which is over: with the best answer so far if it was not."""
    if not kept.background:
        said = f"The response '{kept.id}' was not made with 'background': close its connection to end it."
        raise ServeError(said, param="response_id", code="not_in_background")
    await gateway.runs.conclude(kept.running)
    return kept.told(gateway.reasoning)


@_endpoint
async def delete(gateway: Gateway, kept: Kept, _: Request) -> dict[str, object]:
    """Confirmation that the response is forgotten; a run in the background that nobody else wants is cancelled."""
    gateway.shelf.remove(kept)
    if kept.background:
        await gateway.runs.leave(kept.running)
    return {"id": kept.id, "object": "response", "deleted": True}
