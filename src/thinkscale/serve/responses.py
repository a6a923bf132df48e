"""Responses that can be asked for again by their id: begun in the background, retrieved, cancelled, deleted.

Whose they are, what is told of them and how long they are kept, all in the memory of this process.
"""

from __future__ import annotations

import asyncio
import time
from collections import OrderedDict
from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Protocol

from starlette.requests import Request
from starlette.responses import Response

from thinkscale.errors import ServeError, ThinkscaleError
from thinkscale.serve.fields import unsupported
from thinkscale.serve.keys import Keyring
from thinkscale.serve.logs import Access, access
from thinkscale.serve.metrics import Metrics
from thinkscale.serve.replies import failed, response, response_frame
from thinkscale.serve.runs import KEPT, MOST_BYTES, MOST_KEPT, Running, Runs
from thinkscale.serve.wire import error_reply, json_reply, refusal_of


@dataclass(frozen=True, slots=True, kw_only=True)
class Kept:
    """One response, whatever has become of its run by now."""

    id: str
    key: str
    """Id of the API key that it was made with; no other gets to see it."""
    created: int
    """Seconds since 1970."""
    running: Running

    @property
    def background(self) -> bool:
        """Whether its run goes on when nobody waits for it."""
        return self.running.order.asked.background

    def told(self, names: Sequence[str]) -> dict[str, object]:
        """The response as it stands.

        Args:
            names: fields of chat messages that carry the thinking; none leaves it out here too.
        """
        running = self.running
        begun = response_frame(running.order, self.id, self.created)
        if not running.task.done():
            return begun if running.begun else {**begun, "status": "queued"}
        if running.task.cancelled():
            return {**begun, "status": "cancelled"}
        try:
            return response(running.order, running.task.result(), id=self.id, created=self.created, names=names)
        except ThinkscaleError as failure:
            return {**begun, **failed(refusal_of(failure))}


class Shelf:
    """Where responses are kept: in the memory of this process.

    For processes that share their responses another class has these three methods.

    Args:
        most: background responses that are kept, and as many others beside them. Beyond that the oldest whose run is
            over goes first, of the key that takes up most; runs that are not over are bounded by whoever admits them,
            and none is lost.
        seconds: how long one is kept once its run is over.
        size: bytes that either of the two lines may take.
    """

    def __init__(self, most: int = MOST_KEPT, seconds: float = KEPT, size: int = MOST_BYTES) -> None:
        self._most, self._seconds, self._size = most, seconds, size
        # Nobody has seen the end of a background response yet, so that others must not crowd it out.
        self._lines: dict[bool, OrderedDict[str, Kept]] = {True: OrderedDict(), False: OrderedDict()}

    def __len__(self) -> int:
        return sum(map(len, self._lines.values()))

    def put(self, kept: Kept) -> None:
        """Keep a response."""
        line = self._lines[kept.background]
        line[kept.id] = kept
        while line and self._stale(next(iter(line.values()))):
            line.popitem(last=False)
        held = sum(k.running.size for k in line.values())
        while (len(line) > self._most or held > self._size) and (old := self._next(line)):
            del line[old.id]
            held -= old.running.size

    def _next(self, line: Mapping[str, Kept]) -> Kept | None:
        """What goes first: the oldest that is over, of the key that has the largest share of the line."""
        shares: dict[str, float] = {}
        oldest: dict[str, Kept] = {}
        for kept in line.values():
            share = max(1 / max(1, self._most), kept.running.size / self._size)
            shares[kept.key] = shares.get(kept.key, 0.0) + share
            if _over(kept):
                oldest.setdefault(kept.key, kept)
        return oldest[max(oldest, key=shares.__getitem__)] if oldest else None

    def get(self, id: str, key: str) -> Kept:
        """The response with an id, for the API key that it was made with.

        Raises:
            ServeError: there is none, or no more, or it is another key's (404).
        """
        kept = next((line[id] for line in self._lines.values() if id in line), None)
        if kept is None or kept.key != key or self._stale(kept):
            said = f"Response with id '{id[:100]}' not found: it was never made with this key, or is not kept any more."
            raise ServeError(said, status=404, param="response_id", code="response_not_found")
        return kept

    def remove(self, kept: Kept) -> None:
        """Forget a response."""
        self._lines[kept.background].pop(kept.id, None)

    def _stale(self, kept: Kept) -> bool:
        ended = kept.running.ended
        return ended is not None and time.monotonic() - ended > self._seconds


def _over(kept: Kept) -> bool:
    return kept.running.ended is not None


class Keeper(Protocol):
    """What of the gateway the endpoints here use."""

    @property
    def shelf(self) -> Shelf:
        """Where responses are kept."""
        ...

    @property
    def keyring(self) -> Keyring:
        """Who may ask."""
        ...

    @property
    def runs(self) -> Runs:
        """The runs behind responses."""
        ...

    @property
    def metrics(self) -> Metrics:
        """What is counted."""
        ...

    @property
    def reasoning(self) -> tuple[str, ...]:
        """Fields that carry thinking."""
        ...


Answer = Callable[[Keeper, Kept, Request], Awaitable[dict[str, object]]]


def keep(gateway: Keeper, kept: Kept) -> None:
    """Keep a response that its client wants kept; a background one wants its run from now on, as a client does."""
    if kept.running.order.asked.store:
        gateway.shelf.put(kept)
        kept.running.waiting += kept.background


async def begun(gateway: Keeper, kept: Kept) -> dict[str, object]:
    """Keep a background response; what is told of it at once.

    Raises:
        ThinkscaleError: the run was refused, by the queue or because it cannot be made, before it took a step.
    """
    await asyncio.sleep(0)
    if kept.running.task.done():
        await kept.running.outcome()
    keep(gateway, kept)
    return kept.told(gateway.reasoning)


def _endpoint(answer: Answer) -> Callable[[Keeper, Request], Awaitable[Response]]:
    """An endpoint for one response, which is found for the key that made it; counted and logged as any other."""
    api = f"responses.{answer.__name__}"

    async def endpoint(gateway: Keeper, request: Request) -> Response:
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
async def retrieve(gateway: Keeper, kept: Kept, request: Request) -> dict[str, object]:
    """The response as it stands."""
    if request.query_params.get("stream", "false").lower() not in ("false", "0", ""):
        raise unsupported("stream", "A response is retrieved whole: ask again until its 'status' says that it is over.")
    return kept.told(gateway.reasoning)


@_endpoint
async def cancel(gateway: Keeper, kept: Kept, _: Request) -> dict[str, object]:
    """The response, which is over: with the best answer so far if it was not."""
    if not kept.background:
        said = f"The response '{kept.id}' was not made with 'background': close its connection to end it."
        raise ServeError(said, param="response_id", code="not_in_background")
    await gateway.runs.conclude(kept.running)
    return kept.told(gateway.reasoning)


@_endpoint
async def delete(gateway: Keeper, kept: Kept, _: Request) -> dict[str, object]:
    """Confirmation that the response is forgotten; a run in the background that nobody else wants is cancelled."""
    gateway.shelf.remove(kept)
    if kept.background:
        await gateway.runs.leave(kept.running)
    return {"id": kept.id, "object": "response", "deleted": True}
