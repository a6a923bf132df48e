"""The server that `benchmarks/over_http.py` measures against, in a process of its own.

    python benchmarks/upstream.py [--port 0] [--delay-ms 0] [--pace-ms 0] [--most N] [--beyond ignores] [--uneven]

It prints its base URL and serves until its standard input ends.
"""

from __future__ import annotations

import argparse
import asyncio
import re
import sys
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from pathlib import Path

import orjson

sys.path.insert(0, str(Path(__file__).parents[1] / "tests"))

from servers.mock import Beyond, Mock, Tokens, answer, serving

LONG = (" on",) * 2000
LENGTH = re.compile(rb"content-length: *(\d+)")
STREAM = b"HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\nTransfer-Encoding: chunked\r\n\r\n"


class Uneven(Mock):
    """Even choices answer at once, odd ones go on and on."""

    def texts(self, body: dict[str, object], n: int) -> Sequence[tuple[Tokens, str, int]]:
        return [(LONG, "length", len(LONG)) if i % 2 else (answer(0), "stop", len(answer(0))) for i in range(n)]


class Lean(asyncio.Protocol):
    """One connection to a mock, served without a framework, so that the upstream is not what is measured.

    It answers a whole reply at a time and reads well-formed requests only.
    """

    def __init__(self, mock: Mock) -> None:
        self.mock, self.pending = mock, b""

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        assert isinstance(transport, asyncio.Transport)
        self.transport = transport

    def data_received(self, data: bytes) -> None:
        self.pending += data
        while (end := self.pending.find(b"\r\n\r\n")) >= 0:
            head = self.pending[:end].lower()
            found = LENGTH.search(head)
            over = end + 4 + (int(found[1]) if found else 0)
            if len(self.pending) < over:
                return
            body, self.pending = self.pending[end + 4 : over], self.pending[over:]
            reply = self.chat(orjson.loads(body)) if head.startswith(b"post") else self.models()
            asyncio.get_running_loop().call_later(self.mock.delay, self.transport.write, reply)

    def models(self) -> bytes:
        listed = {"object": "list", "data": [{"id": self.mock.model, "object": "model", "owned_by": "mock"}]}
        return framed(b"200 OK", orjson.dumps(listed))

    def chat(self, body: dict[str, object]) -> bytes:
        n = self.mock.granted(body)
        if n is None:
            return framed(b"400 Bad Request", b'{"error": {"message": "`n` is too large", "code": 400}}')
        if not body.get("stream"):
            return framed(b"200 OK", self.mock.whole(body, n))
        events = self.mock.joined(body, n)
        return STREAM + b"%x\r\n%b\r\n0\r\n\r\n" % (len(events), events)


def framed(status: bytes, body: bytes) -> bytes:
    return b"HTTP/1.1 %b\r\nContent-Type: application/json\r\nContent-Length: %d\r\n\r\n%b" % (status, len(body), body)


@asynccontextmanager
async def serving_lean(mock: Mock, port: int) -> AsyncIterator[Mock]:
    server = await asyncio.get_running_loop().create_server(lambda: Lean(mock), "127.0.0.1", port, backlog=1024)
    mock.url = f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}/v1"
    async with server:
        yield mock


async def serve(mock: Mock, port: int) -> None:
    async with serving(mock, port) if mock.pace else serving_lean(mock, port):
        print(mock.url, flush=True)
        await asyncio.to_thread(sys.stdin.read)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--port", type=int, default=0)
    parser.add_argument("--delay-ms", type=float, default=0.0, help="before the first byte of a reply")
    parser.add_argument("--pace-ms", type=float, default=0.0, help="between one token of every choice and the next")
    parser.add_argument("--most", type=int, help="the largest `n` it takes")
    parser.add_argument("--beyond", type=Beyond, default=Beyond.refuses, help="what it does with a larger one")
    parser.add_argument("--uneven", action="store_true", help="half of the choices go on and on")
    chosen = parser.parse_args()
    kind = Uneven if chosen.uneven else Mock
    mock = kind(
        delay=chosen.delay_ms / 1e3, pace=chosen.pace_ms / 1e3, most=chosen.most, beyond=chosen.beyond, kept=1000
    )
    asyncio.run(serve(mock, chosen.port))


if __name__ == "__main__":
    main()
