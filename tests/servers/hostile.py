"""A server whose replies have no end: `python hostile.py KIND` prints its address and goes on until it is killed."""

from __future__ import annotations

import contextlib
import gzip
import json
import sys
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

MIB = 2**20
SIZE = 500
"""Mebibytes of what is large."""
BLOCK = b" " * MIB
LISTED = {"data": [{"id": "m", "object": "model", "owned_by": "someone"}]}


def event(**said: object) -> bytes:
    return b"data: %b\n\n" % json.dumps({"choices": [{"index": 0, "delta": said, "finish_reason": None}]}).encode()


class Hostile(BaseHTTPRequestHandler):
    """Plays one kind of reply."""

    kind = ""

    def log_message(self, *_: object) -> None:
        pass

    def begin(self, status: int = 200, **headers: object) -> None:
        self.send_response(status)
        for name, value in headers.items():
            self.send_header(name.replace("_", "-"), str(value))
        self.end_headers()

    def do_GET(self) -> None:
        if self.kind != "models":
            listed = json.dumps(LISTED).encode()
            self.begin(Content_Type="application/json", Content_Length=len(listed))
            self.wfile.write(listed)
            return
        self.begin(Content_Type="application/json")
        self.wfile.write(b'{"data": [')
        entry = json.dumps({"id": "m" * 200, "object": "model"}).encode() + b","
        for _ in range(300 * MIB // (len(entry) * 4096)):
            self.wfile.write(entry * 4096)
        self.wfile.write(b'{"id": "m"}]}')

    def do_POST(self) -> None:
        self.rfile.read(int(self.headers["Content-Length"]))
        getattr(self, self.kind)()

    def json(self) -> None:
        self.begin(Content_Type="application/json", Content_Length=SIZE * MIB)
        self.many(BLOCK, SIZE)

    def untold(self) -> None:
        self.begin(Content_Type="application/json")
        self.wfile.write(b'{"choices": "')
        self.many(BLOCK, SIZE)

    def bomb(self) -> None:
        packed = gzip.compress(b'{"a": "' + b"a" * (SIZE * MIB), 9)
        self.begin(Content_Type="application/json", Content_Encoding="gzip", Content_Length=len(packed))
        self.wfile.write(packed)

    def event(self) -> None:
        self.begin(Content_Type="text/event-stream")
        self.wfile.write(b'data: {"choices": [{"index": 0, "delta": {"content": "')
        self.many(b"a" * MIB, SIZE)

    def comments(self) -> None:
        self.forever(b": wait\n\n" * 1000)

    def empty(self) -> None:
        self.forever(event(content="") * 1000)

    def words(self) -> None:
        self.forever(event(content=" on") * 1000)

    def blocks(self) -> None:
        self.forever(event(content="on and " * 100_000))

    def complaint(self) -> None:
        self.begin(400, Content_Type="application/json")
        self.many(b"a" * MIB, SIZE)

    def forever(self, block: bytes) -> None:
        self.begin(Content_Type="text/event-stream")
        self.many(block, SIZE * MIB // len(block))

    def many(self, block: bytes, times: int) -> None:
        for _ in range(times):
            self.wfile.write(block)

    def handle(self) -> None:
        with contextlib.suppress(ConnectionError):
            super().handle()


if __name__ == "__main__":
    Hostile.kind = sys.argv[1]
    server = ThreadingHTTPServer(("127.0.0.1", 0), Hostile)
    server.daemon_threads = True
    sys.stdout.write(f"http://127.0.0.1:{server.server_address[1]}/v1\n")
    sys.stdout.flush()
    server.serve_forever()
