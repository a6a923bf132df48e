"""One HTTP server: connections, time-outs, the key, and what its failures mean. It knows no prompts and no choices."""

from __future__ import annotations

import asyncio
import os
import re
from collections.abc import AsyncGenerator, AsyncIterator, Mapping
from contextlib import AbstractAsyncContextManager, asynccontextmanager, suppress
from types import SimpleNamespace
from weakref import WeakKeyDictionary

import aiohttp
import orjson
from yarl import URL

from thinkscale.engines.addresses import proxy_for, sendable, trust_for, url_of
from thinkscale.engines.refusals import refusal
from thinkscale.errors import EngineError

CONNECT = 10.0
"""Seconds to reach a server."""
IDLE = 300.0
"""Seconds that a server may be silent, before its first byte or between two."""
FAREWELL = 0.02
"""Seconds for a server to end a reply after its last event."""
_QUOTED = 240
"""Characters of a server's own words that are passed on."""
_KEY = re.compile(r"\b(sk|key|hf|gsk|Bearer)[-_ ][\w-]{6,}[\w*-]*")
_LONGEST_ERROR = 65536
"""Bytes of an error reply that are read."""


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
        if self._key:
            text = text.replace(self._key, "…")
        text = " ".join(_KEY.sub("…", text).split())
        return text if len(text) <= _QUOTED else text[:_QUOTED] + "…"

    def failure(self, status: int, reply: object, headers: Mapping[str, str] | None = None) -> EngineError:
        """What an error reply means, in one sentence with the next step."""
        return refusal(self.shown, status, reply, headers or {}, self.clean)

    async def _json(self, method: str, path: str, body: Mapping[str, object] | None, *, root: bool) -> object:
        async with self._request(method, self._at(path, root=root), body) as reply:
            return await reply.whole()

    def decoded(self, raw: bytes, response: aiohttp.ClientResponse | None = None) -> object:
        """JSON as an object.

        Raises:
            EngineError: it is something else, such as a web page.
        """
        try:
            return orjson.loads(raw)
        except orjson.JSONDecodeError:
            kind = response.content_type if response is not None else ""
            if kind == "text/html" or raw.lstrip()[:1] == b"<":
                raise EngineError(
                    f"`{self.shown}` answered with a web page instead of JSON: it is no OpenAI-compatible server, or "
                    "the base URL lacks its `/v1`"
                ) from None
            said = self.clean(raw[:_LONGEST_ERROR].decode("utf-8", "replace"))
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
            response = await self._answered(method, url, data)
        try:
            if response.status >= 300:
                raise self.failure(response.status, _loaded(await self._told(response)), response.headers)
            yield Reply(self, response)
        except BaseException:
            response.close()
            raise
        finally:
            response.release()

    async def _answered(self, method: str, url: URL, data: bytes | None) -> aiohttp.ClientResponse:
        """The beginning of a reply, asked for again where the server had just given up a connection that was kept."""
        while True:
            kept: list[bool] = []
            try:
                # Wherever a server points to, neither the prompt nor the key was meant for that place.
                return await self._session().request(
                    method, url, data=data, proxy=self._proxy, allow_redirects=False, trace_request_ctx=kept
                )
            except (aiohttp.ServerDisconnectedError, aiohttp.ClientOSError):
                if not kept:
                    raise

    async def _told(self, response: aiohttp.ClientResponse) -> bytes:
        """The beginning of an error reply."""
        raw = b""
        with self._translated():
            while len(raw) < _LONGEST_ERROR and (block := await response.content.read(_LONGEST_ERROR)):
                raw += block
        return raw

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

    @property
    def streams(self) -> bool:
        """Whether the server says that events will come; otherwise it answers in one piece."""
        return self._response.content_type == "text/event-stream"

    async def blocks(self) -> AsyncGenerator[bytes, None]:
        """The bytes as they arrive."""
        content = self._response.content
        while True:
            with self._transport._translated():
                block = await content.readany()
            if not block:
                return
            yield block

    async def finish(self) -> None:
        """Wait a moment for the end of a reply that has said everything: then its connection can be used again."""
        content = self._response.content
        if not content.at_eof():
            with suppress(TimeoutError, EngineError):
                async with asyncio.timeout(FAREWELL):
                    async for _ in self.blocks():
                        pass

    async def whole(self) -> object:
        """The reply as one JSON document."""
        with self._transport._translated():
            raw = await self._response.read()
        return self._transport.decoded(raw, self._response)


class _Translated:
    """A context in which what aiohttp raises becomes an `EngineError` with one sentence."""

    __slots__ = ("_transport",)

    def __init__(self, transport: Transport) -> None:
        self._transport = transport

    def __enter__(self) -> None:
        return None

    def __exit__(self, kind: object, error: BaseException | None, trace: object) -> None:
        if isinstance(error, aiohttp.ClientError | asyncio.TimeoutError | OSError | UnicodeError):
            raise self._explained(error) from None

    def _explained(self, error: BaseException) -> EngineError:
        at, host = self._transport.shown, self._transport.url.host
        match error:
            case aiohttp.ClientConnectorDNSError() if proxy_for(self._transport.url):
                return EngineError("the proxy named by the environment cannot be found: check HTTPS_PROXY and NO_PROXY")
            case aiohttp.ClientConnectorDNSError() | UnicodeError():
                return EngineError(f"the host `{host}` of `{at}` cannot be found: check the address", retryable=True)
            case aiohttp.ClientConnectorCertificateError():
                why = self._transport.clean(str(error.certificate_error))
                return EngineError(
                    f"the certificate of `{host}` is not trusted ({why}): "
                    "set SSL_CERT_FILE to the bundle of certificates that you trust"
                )
            case aiohttp.ClientSSLError():
                return EngineError(f"`{at}` does not speak TLS: check whether the address starts with `http://`")
            case aiohttp.ClientProxyConnectionError():
                return EngineError("the proxy named by the environment does not answer: check HTTPS_PROXY and NO_PROXY")
            case aiohttp.ConnectionTimeoutError():
                hint = ": does it speak TLS, or is it `http://`?" if at.startswith("https:") else ""
                return EngineError(f"`{at}` could not be reached within {CONNECT:g} s{hint}", retryable=True)
            case aiohttp.ClientConnectorError():
                return EngineError(
                    f"no server answers at `{at}` ({_reason(error)}): start it, or correct the base URL", retryable=True
                )
            case asyncio.TimeoutError():
                return EngineError(
                    f"`{at}` kept silent or took longer than allowed: see what keeps it, or raise `idle` or `total`",
                    retryable=True,
                )
        why = type(error).__name__
        if isinstance(error, aiohttp.ServerDisconnectedError) and at.startswith("http:"):
            return EngineError(
                f"`{at}` hung up without a word ({why}): see its log, or write `https://` if it wants TLS",
                retryable=True,
            )
        return EngineError(
            f"the connection to `{at}` broke ({why}): ask again, or see the server's log", retryable=True
        )


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
        return orjson.loads(raw)
    except orjson.JSONDecodeError:
        return raw.decode("utf-8", "replace")


def _reason(error: aiohttp.ClientConnectorError) -> str:
    number = error.os_error.errno
    return os.strerror(number).lower() if number else type(error.os_error).__name__


def _plain(value: object) -> object:
    if isinstance(value, Mapping):
        return dict(value)
    raise TypeError(f"`{type(value).__name__}` is no JSON")
