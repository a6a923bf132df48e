"""One HTTP server: connections, time-outs, the key, and what its failures mean. It knows no prompts and no choices."""

from __future__ import annotations

import asyncio
import re
from collections.abc import AsyncGenerator, AsyncIterator, Mapping
from contextlib import AbstractAsyncContextManager, asynccontextmanager, suppress
from types import SimpleNamespace
from weakref import WeakKeyDictionary

import aiohttp
import orjson
from yarl import URL

from thinkscale.engines import guard
from thinkscale.engines.addresses import proxy_for, sendable, trust_for, url_of
from thinkscale.engines.breakages import CONNECT, explained
from thinkscale.engines.refusals import cleaned, refusal
from thinkscale.errors import EngineError

IDLE = 300.0
"""Seconds that a server may be silent, before its first byte or between two."""
FAREWELL = 0.02
"""Seconds for a server to end a reply after its last event."""
_EVENTS = re.compile(rb"(data|event|id|retry|error)?:")
_BOM = b"\xef\xbb\xbf"


class Transport:
    """Connections to one server, as many as are asked for and kept alive between requests.

    Args:
        base_url: such as `http://127.0.0.1:8000/v1`; without a path, `/v1` is meant.
        key: sent as a bearer token; it never appears in a message.
        idle: most seconds of silence.
        total: most seconds for a whole reply; `None` lets a model think for as long as it says something.

    Raises:
        SettingsError: the address is not one, or the key cannot be sent.
    """

    def __init__(
        self, base_url: str, key: str | None = None, *, idle: float = IDLE, total: float | None = None
    ) -> None:
        url = url_of(base_url)
        self.url = url.with_user(None) if key else url
        self._below: dict[tuple[str, bool], URL] = {}
        self._key = sendable(key)
        self.idle = idle
        self._timeout = aiohttp.ClientTimeout(total=total, sock_connect=CONNECT, sock_read=idle)
        self._open: WeakKeyDictionary[asyncio.AbstractEventLoop, tuple[aiohttp.ClientSession, object]] = (
            WeakKeyDictionary()
        )

    @property
    def shown(self) -> str:
        """The address as people may see it: no credentials, no query."""
        return str(self.url.with_user(None).with_query(None)).rstrip("/")

    async def get(self, path: str, *, root: bool = False) -> object:
        """A JSON document below the base URL, or below the server's root.

        Raises:
            EngineError: it could not be had; `status` says more.
        """
        return await self._json("GET", path, None, root=root)

    async def post(self, path: str, body: Mapping[str, object], *, root: bool = False) -> object:
        """The JSON reply to a JSON request.

        Raises:
            EngineError: there was none; `status` says more.
        """
        return await self._json("POST", path, body, root=root)

    def streamed(self, path: str, body: Mapping[str, object]) -> AbstractAsyncContextManager[Reply]:
        """The reply to a request while it comes in. Leaving the context early closes the connection.

        Raises:
            EngineError: the server refused, failed or fell silent, here or inside the context.
        """
        return self._request("POST", self._at(path), body)

    async def aclose(self) -> None:
        """Close the connections of the running loop."""
        kept = self._open.pop(asyncio.get_running_loop(), None)
        if kept:
            await kept[0].close()

    def clean(self, text: str) -> str:
        """A server's words on one line, shortened, without anything that looks like a key."""
        return cleaned(text, self._key)

    def failure(self, status: int, reply: object, headers: Mapping[str, str] | None = None) -> EngineError:
        """What an error reply means, in one sentence with the next step."""
        return refusal(self.shown, status, reply, headers or {}, self.clean)

    async def _json(self, method: str, path: str, body: Mapping[str, object] | None, *, root: bool) -> object:
        async with self._request(method, self._at(path, root=root), body) as reply:
            return await reply.whole(guard.LISTING if method == "GET" else guard.REPLY)

    def decoded(self, raw: bytes | bytearray, response: aiohttp.ClientResponse | None = None) -> object:
        """JSON as an object.

        Raises:
            EngineError: it is something else, such as a web page.
        """
        try:
            return guard.loads(raw)
        except ValueError:
            kind = response.content_type if response is not None else ""
            if kind == "text/html" or raw.lstrip()[:1] == b"<":
                raise EngineError(
                    f"`{self.shown}` answered with a web page instead of JSON: it is no OpenAI-compatible server, or "
                    "the base URL lacks its `/v1`"
                ) from None
            said = self.clean(raw[: guard.COMPLAINT].decode("utf-8", "replace"))
            raise EngineError(
                f"`{self.shown}` sent what is not JSON (`{said}`): check that the base URL is that of an "
                "OpenAI-compatible server",
                retryable=True,
            ) from None

    @asynccontextmanager
    async def _request(self, method: str, url: URL, body: Mapping[str, object] | None) -> AsyncIterator[Reply]:
        try:
            data = None if body is None else orjson.dumps(body, default=_plain)
        except orjson.JSONEncodeError as error:
            raise EngineError(f"the request cannot be written as JSON ({error}): correct its texts") from None
        with self._translated():
            # aiohttp's timers begin anew with every byte of the headers.
            async with asyncio.timeout(CONNECT + self.idle):
                response = await self._answered(method, url, data)
        reply = Reply(self, response)
        try:
            if response.status >= 300:
                raise self.failure(response.status, _loaded(await reply.beginning(guard.COMPLAINT)), response.headers)
            yield reply
        except BaseException:
            response.close()
            raise
        finally:
            reply.end()
            response.release()

    async def _answered(self, method: str, url: URL, data: bytes | None) -> aiohttp.ClientResponse:
        """The beginning of a reply, asked for once again where the server had just given up a connection it kept."""
        kept: list[bool] = []
        try:
            return await self._sent(method, url, data, kept)
        except (aiohttp.ServerDisconnectedError, aiohttp.ClientOSError):
            if not kept:
                raise
        return await self._sent(method, url, data, kept)

    async def _sent(self, method: str, url: URL, data: bytes | None, kept: list[bool]) -> aiohttp.ClientResponse:
        # Wherever a server points to, neither the prompt nor the key was meant for that place.
        return await self._session().request(
            method, url, data=data, proxy=self._proxy, allow_redirects=False, trace_request_ctx=kept
        )

    def _translated(self) -> _Translated:
        return _Translated(self)

    def _session(self) -> aiohttp.ClientSession:
        loop = asyncio.get_running_loop()
        kept = self._open.get(loop)
        if kept is None or kept[0].closed:
            for ended in [other for other in self._open if other.is_closed()]:
                del self._open[ended]
            kept = self._connected()
            self._open[loop] = kept
        return kept[0]

    def _connected(self) -> tuple[aiohttp.ClientSession, object]:
        headers = {"Content-Type": "application/json", "User-Agent": "thinkscale"}
        if self._key:
            headers["Authorization"] = f"Bearer {self._key}"
        session = aiohttp.ClientSession(
            connector=aiohttp.TCPConnector(limit=0, ttl_dns_cache=300, keepalive_timeout=60, ssl=trust_for(self.url)),
            timeout=self._timeout,
            headers=headers,
            read_bufsize=2**18,
            trace_configs=[_tracing()],
        )
        self._proxy = proxy_for(self.url)
        # A loop closes its asynchronous generators before it ends, which is the moment to close the connections.
        keeper = _closing(session)
        begun = keeper.asend(None)
        with suppress(StopIteration):
            begun.send(None)
        return session, keeper

    def _at(self, path: str, *, root: bool = False) -> URL:
        if (path, root) not in self._below:
            below = (self.url.with_path("/") if root else self.url) / path
            self._below[path, root] = below.with_query(self.url.query) if self.url.query else below
        return self._below[path, root]


class Reply:
    """A reply while it comes in."""

    def __init__(self, transport: Transport, response: aiohttp.ClientResponse) -> None:
        self._transport, self._response = transport, response
        self._left = self._most = guard.STREAM
        self._first = b""
        self._silence = guard.Silence(response, transport.idle)

    def allow(self, most: int) -> None:
        """Give the reply up after so many bytes."""
        self._left = self._most = most

    async def streams(self) -> bool:
        """Whether events come; otherwise the server answers in one piece. What comes tells, and not what it is called.

        Raises:
            EngineError: nothing came.
        """
        self._first = await self.beginning(8)
        begun = self._first.removeprefix(_BOM).lstrip()
        if self._response.content_type == "text/event-stream":
            return begun[:1] not in (b"{", b"[", b"<")
        return _EVENTS.match(begun) is not None

    async def beginning(self, most: int) -> bytes:
        """About as many bytes from the beginning, or all where there are fewer; they are not read again."""
        raw = b""
        while len(raw) < most and (block := await self._block()):
            raw += block
        return raw

    async def blocks(self) -> AsyncGenerator[bytes, None]:
        """The bytes as they arrive.

        Raises:
            EngineError: they are too many, or end before their time.
        """
        block, self._first = self._first, b""
        while block or (block := await self._block()):
            self._left -= len(block)
            if self._left < 0:
                raise guard.too_much(self._transport.shown, self._most)
            yield block
            block = b""

    async def finish(self) -> None:
        """Wait a moment for the end of a reply that has said everything: then its connection can be used again."""
        content = self._response.content
        if not content.at_eof():
            with suppress(TimeoutError, EngineError):
                async with asyncio.timeout(FAREWELL):
                    async for _ in self.blocks():
                        pass

    async def whole(self, most: int = guard.REPLY) -> object:
        """The reply as one JSON document.

        Raises:
            EngineError: it is none, or has more than `most` bytes.
        """
        raw = bytearray()
        self.allow(most)
        if (self._response.content_length or 0) > most:
            raise guard.too_much(self._transport.shown, most)
        async for block in self.blocks():
            raw += block
        return self._transport.decoded(raw, self._response)

    def end(self) -> None:
        """Nothing more is read."""
        self._silence.end()

    async def _block(self) -> bytes:
        self._silence.heard()
        with self._transport._translated():
            return await self._response.content.readany()


class _Translated:
    """A context in which what aiohttp raises becomes an `EngineError` with one sentence."""

    __slots__ = ("_transport",)

    def __init__(self, transport: Transport) -> None:
        self._transport = transport

    def __enter__(self) -> None:
        return None

    def __exit__(self, kind: object, error: BaseException | None, trace: object) -> None:
        if isinstance(error, aiohttp.ClientError | asyncio.TimeoutError | OSError | UnicodeError):
            at = self._transport
            raise explained(error, at.shown, at.url, at.clean) from None


def _tracing() -> aiohttp.TraceConfig:
    """Has the list that goes with a request tell whether its connection had been used before."""

    async def note(_: object, about: SimpleNamespace, __: object) -> None:
        about.trace_request_ctx.append(True)

    tracing = aiohttp.TraceConfig()
    tracing.on_connection_reuseconn.append(note)
    return tracing


async def _closing(session: aiohttp.ClientSession) -> AsyncGenerator[None, None]:
    try:
        yield
    finally:
        await session.close()


def _loaded(raw: bytes) -> object:
    try:
        return guard.loads(raw)
    except ValueError:
        return raw.decode("utf-8", "replace")


def _plain(value: object) -> object:
    if isinstance(value, Mapping):
        return dict(value)
    raise TypeError(f"`{type(value).__name__}` is no JSON")
