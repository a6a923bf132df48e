"""The server around the application: how it ends when it is told to. It knows no requests, and can drain runs."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from socket import socket
from types import FrameType

import uvicorn

from thinkscale.serve.connections import MOST, Connection, Connections


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
