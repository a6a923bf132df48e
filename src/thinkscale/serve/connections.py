"""The server around the application: which connections it keeps, and how it ends when it is told to.

What belongs to a request has limits of its own, in the endpoints. Here is what comes before it: somebody who connects
and says nothing, or who says his headers one letter at a time. It knows uvicorn's protocols and no endpoint.
"""

from __future__ import annotations

import asyncio
import sys
from collections import OrderedDict
from collections.abc import Awaitable, Callable
from socket import socket
from types import FrameType

import uvicorn
from uvicorn.protocols.http.auto import AutoHTTPProtocol
from uvicorn.server import ServerState

if sys.platform != "win32":
    import resource

HEADERS = 20.0
"""Seconds within which the headers of a request have to arrive, from the connection or their first byte on."""
HEADER_BYTES = 2**16
"""Most bytes of headers that are not complete; one of uvicorn's two parsers has no limit of its own."""
MOST, MOST_FILES = 2**14, 2**16
"""Most connections, and most files that the process asks to be allowed, whatever the system would grant."""


class Connections(ServerState):
    """All connections of a server, and which of them wait for a request.

    Args:
        most: how many there may be; the one that has waited longest for a request makes room for a new one.
    """

    def __init__(self, most: int) -> None:
        super().__init__()
        self.waiting: OrderedDict[Connection, None] = OrderedDict()
        """Those without a request, the longest waiting first."""
        self._most = most

    def wait(self, connection: Connection) -> None:
        """Count a connection among those without a request."""
        self.waiting[connection] = None
        if len(self.connections) > self._most:
            longest, _ = self.waiting.popitem(last=False)
            longest.transport.abort()


class Connection(AutoHTTPProtocol):  # type: ignore[misc, valid-type]
    """A connection that is closed when the headers of its next request do not arrive in time.

    One that has answered a request and hears nothing more is left to uvicorn's own limit.
    """

    server_state: Connections
    transport: asyncio.Transport
    loop: asyncio.AbstractEventLoop
    _overdue: asyncio.TimerHandle | None = None
    _heard = 0
    """Bytes of headers that are not complete."""

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Somebody has connected."""
        super().connection_made(transport)
        self.server_state.wait(self)
        self._expect()

    def connection_lost(self, exc: Exception | None) -> None:
        """The connection is over."""
        self._begun()
        super().connection_lost(exc)

    def data_received(self, data: bytes) -> None:
        """Something of a request has arrived."""
        super().data_received(data)
        if not self._idle:
            self._begun()
            return
        self._expect()
        self._heard += len(data)
        if self._heard > HEADER_BYTES:
            self.transport.close()

    def on_response_complete(self) -> None:
        """A request has been answered; the next one may be there already."""
        super().on_response_complete()
        if self._idle and not self.transport.is_closing():
            self.server_state.wait(self)

    @property
    def _idle(self) -> bool:
        return self.cycle is None or self.cycle.response_complete

    def _expect(self) -> None:
        if self._overdue is None:
            self._overdue = self.loop.call_later(HEADERS, self.transport.close)

    def _begun(self) -> None:
        """No headers are waited for any more."""
        self.server_state.waiting.pop(self, None)
        self._heard = 0
        if self._overdue is not None:
            self._overdue.cancel()
            self._overdue = None


def room() -> int:
    """How many connections there are files for, once the process may open as many as the system lets it.

    The other half of the files is for the connections to upstreams and for whatever else is opened.
    """
    if sys.platform == "win32":
        return MOST
    allowed, most = resource.getrlimit(resource.RLIMIT_NOFILE)
    wanted = MOST_FILES if most == resource.RLIM_INFINITY else min(most, MOST_FILES)
    if allowed != resource.RLIM_INFINITY and allowed < wanted:
        try:
            resource.setrlimit(resource.RLIMIT_NOFILE, (wanted, most))
            allowed = wanted
        except (OSError, ValueError):
            pass
    return MOST if allowed == resource.RLIM_INFINITY else max(1, min(MOST, allowed // 2))


class Server(uvicorn.Server):
    """A server that goes on answering while it drains: who asks whether it is ready hears that it is not.

    A second signal ends it at once.

    Args:
        config: of uvicorn; how HTTP is spoken is decided here.
        drain: awaited after the first signal; the server ends when it returns.
        most: connections at once.
    """

    def __init__(self, config: uvicorn.Config, drain: Callable[[], Awaitable[None]], *, most: int = MOST) -> None:
        config.http = Connection
        super().__init__(config)
        self.server_state = Connections(most)
        self._drain = drain
        self._told = asyncio.Event()

    async def serve(self, sockets: list[socket] | None = None) -> None:
        """Answer until told to end."""
        ending = asyncio.create_task(self._ended())
        try:
            await super().serve(sockets)
        finally:
            ending.cancel()

    def handle_exit(self, sig: int, frame: FrameType | None) -> None:
        """Begin to end, or end."""
        if self._told.is_set() or not self.started:
            super().handle_exit(sig, frame)
        self._told.set()

    async def _ended(self) -> None:
        await self._told.wait()
        try:
            await self._drain()
        finally:
            self.should_exit = True
