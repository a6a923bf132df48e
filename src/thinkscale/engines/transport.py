"""One HTTP server: connections, time-outs, the key, and what its failures mean. It knows no prompts and no choices."""

from __future__ import annotations

import asyncio
import os
import re
import ssl
import time
import urllib.request
from collections.abc import AsyncGenerator, AsyncIterator, Mapping
from contextlib import asynccontextmanager, suppress
from email.utils import parsedate_to_datetime
from weakref import WeakKeyDictionary

import aiohttp
import orjson
from yarl import URL

from thinkscale.errors import ContextError, EngineError, ModelError, SettingsError

CONNECT = 10.0
"""Seconds to reach a server."""
IDLE = 300.0
"""Seconds that a server may be silent, before its first byte or between two."""
FAREWELL = 0.02
"""Seconds for a server to end a reply after its last event."""
_QUOTED = 240
"""Characters of a server's own words that are passed on."""
_KEY = re.compile(r"\b(sk|key|hf|gsk|Bearer)[-_ ][\w-]{6,}[\w*-]*")
_CONTEXT = re.compile(
    r"context (length|size|window)|maximum context|too (long|many tokens)|exceeds? the (max|avail)", re.I
)
_PASSING = frozenset({408, 409, 425, 429, 500, 502, 503, 504, 529})
"""Statuses after which the same request may succeed."""
_FIXED_QUOTA = re.compile(r"insufficient_quota|exceeded your current quota|billing", re.I)


class Transport:
    """Connections to one server, as many as are asked for and kept alive between requests.

    Args:
        base_url: such as `http://127.0.0.1:8000/v1`; without a path, `/v1` is meant.
        key: sent as a bearer token; it never appears in a message.
        idle: most seconds of silence.
        total: most seconds for a whole reply; `None` lets a model think for as long as it says something.

    Raises:
        SettingsError: the address is not one.
    """

    def __init__(
        self, base_url: str, key: str | None = None, *, idle: float = IDLE, total: float | None = None
    ) -> None:
        url = _url(base_url)
        self.url = url.with_user(None) if key else url
        self._key = key
        self._timeout = aiohttp.ClientTimeout(total=total, sock_connect=CONNECT, sock_read=idle)
        self._idle = idle
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

    @asynccontextmanager
    async def streamed(self, path: str, body: Mapping[str, object]) -> AsyncIterator[Reply]:
        """The reply to a request while it comes in. Leaving the context early closes the connection.

        Raises:
            EngineError: the server refused, failed or fell silent, here or inside the context.
        """
        async with self._request("POST", self._at(path), body) as response:
            yield Reply(self, response)

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
        said = self.clean(_words(reply))
        whole = _words(reply)
        told = f" (`{said}`)" if said else ""
        if status in (401, 403):
            return EngineError(
                f"`{self.shown}` refused the key with status {status}{told}: set OPENAI_API_KEY to one it accepts",
                status=status,
            )
        if status in (400, 413, 422, 500) and _CONTEXT.search(whole):
            return ContextError(
                f"the prompt and the tokens asked for do not fit the model's context{told}: shorten the prompt or "
                "lower `--max-tokens`",
                status=status,
            )
        if status == 404 and "model" in whole.lower():
            return ModelError(f"`{self.shown}` does not serve this model{told}: name one that it lists", status=status)
        if status in (404, 405):
            return EngineError(
                f"`{self.shown}` has no such endpoint (status {status}): check the base URL, which usually ends in "
                "`/v1`",
                status=status,
            )
        if "chat template" in whole.lower():
            return EngineError(
                f"the model at `{self.shown}` has no chat template{told}: ask through `api=completions`", status=status
            )
        passing = status in _PASSING and not (status == 429 and _FIXED_QUOTA.search(whole))
        wait = _retry_after(headers or {}) if passing else None
        return EngineError(
            f"`{self.shown}` answered with status {status}{told}", retryable=passing, retry_after=wait, status=status
        )

    async def _json(self, method: str, path: str, body: Mapping[str, object] | None, *, root: bool) -> object:
        async with self._request(method, self._at(path, root=root), body) as response:
            with self._translated():
                return self.decoded(await response.read(), response)

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
            said = self.clean(raw[:_QUOTED].decode("utf-8", "replace"))
            raise EngineError(f"`{self.shown}` sent what is not JSON (`{said}`)", retryable=True) from None

    @asynccontextmanager
    async def _request(
        self, method: str, url: URL, body: Mapping[str, object] | None
    ) -> AsyncIterator[aiohttp.ClientResponse]:
        data = None if body is None else orjson.dumps(body, default=_plain)
        with self._translated():
            response = await self._session().request(method, url, data=data, proxy=self._proxy)
        try:
            if response.status >= 400:
                with self._translated():
                    raw = await response.content.read(65536)
                raise self.failure(response.status, _loaded(raw), response.headers)
            yield response
        except BaseException:
            response.close()
            raise
        finally:
            response.release()

    def _translated(self) -> _Translated:
        return _Translated(self)

    def _session(self) -> aiohttp.ClientSession:
        loop = asyncio.get_running_loop()
        kept = self._open.get(loop)
        if kept is None or kept[0].closed:
            kept = self._connected()
            self._open[loop] = kept
        return kept[0]

    def _connected(self) -> tuple[aiohttp.ClientSession, object]:
        headers = {"Content-Type": "application/json", "User-Agent": "thinkscale"}
        if self._key:
            headers["Authorization"] = f"Bearer {self._key}"
        session = aiohttp.ClientSession(
            connector=aiohttp.TCPConnector(limit=0, ttl_dns_cache=300, keepalive_timeout=60, ssl=_trust(self.url)),
            timeout=self._timeout,
            headers=headers,
            read_bufsize=2**18,
        )
        self._proxy = _proxy_for(self.url)
        # A loop closes its asynchronous generators before it ends, which is the moment to close the connections.
        keeper = _closing(session)
        begun = keeper.asend(None)
        with suppress(StopIteration):
            begun.send(None)
        return session, keeper

    def _at(self, path: str, *, root: bool = False) -> URL:
        return (self.url.with_path("/") if root else self.url) / path


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
        if isinstance(error, aiohttp.ClientError | asyncio.TimeoutError | OSError):
            raise self._explained(error) from None

    def _explained(self, error: BaseException) -> EngineError:
        at, host = self._transport.shown, self._transport.url.host
        match error:
            case aiohttp.ClientConnectorDNSError():
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
                return EngineError(f"`{at}` kept silent or took longer than allowed", retryable=True)
        return EngineError(f"the connection to `{at}` broke ({type(error).__name__})", retryable=True)


async def _closing(session: aiohttp.ClientSession) -> AsyncGenerator[None, None]:
    try:
        yield
    finally:
        await session.close()


def _url(base_url: str) -> URL:
    try:
        url = URL(base_url.strip())
    except ValueError:
        url = URL()
    if url.scheme not in ("http", "https") or not url.host:
        raise SettingsError(f"`{base_url}` is no address of a server: write it like `http://127.0.0.1:8000/v1`")
    return url.with_path(url.path.rstrip("/")) if url.path.strip("/") else url.with_path("/v1")


def _trust(url: URL) -> ssl.SSLContext | bool:
    """The certificates to trust: those of the environment's bundle, or the system's. Made late, as it is slow."""
    if url.scheme != "https":
        return True
    names = ("SSL_CERT_FILE", "REQUESTS_CA_BUNDLE", "CURL_CA_BUNDLE")
    bundle = next((found for name in names if (found := os.environ.get(name))), None)
    return ssl.create_default_context(cafile=bundle)


def _proxy_for(url: URL) -> str | None:
    if urllib.request.proxy_bypass(url.host or ""):
        return None
    return urllib.request.getproxies().get(url.scheme)


def _loaded(raw: bytes) -> object:
    try:
        return orjson.loads(raw)
    except orjson.JSONDecodeError:
        return raw.decode("utf-8", "replace")


def _words(reply: object) -> str:
    """The message in an error reply, of whichever shape."""
    if isinstance(reply, Mapping):
        for name in ("error", "message", "detail"):
            if reply.get(name):
                inner = reply[name]
                code = reply.get("code") or reply.get("type") or ""
                return _words(inner) if isinstance(inner, Mapping | list) else f"{inner} {code}".strip()
        return orjson.dumps(reply, default=str).decode()
    if isinstance(reply, list):
        return "; ".join(_words(item) for item in reply[:3])
    text = str(reply)
    return "" if text.lstrip().startswith("<") else text


def _retry_after(headers: Mapping[str, str]) -> float | None:
    """The wait that a server asks for, in seconds."""
    for name, unit in (("retry-after-ms", 1e-3), ("retry-after", 1.0)):
        value = headers.get(name)
        if value is None:
            continue
        try:
            return max(0.0, float(value) * unit)
        except ValueError:
            pass
        try:
            return max(0.0, parsedate_to_datetime(value).timestamp() - time.time())
        except ValueError:
            continue
    return None


def _reason(error: aiohttp.ClientConnectorError) -> str:
    number = error.os_error.errno
    return os.strerror(number).lower() if number else type(error.os_error).__name__


def _plain(value: object) -> object:
    if isinstance(value, Mapping):
        return dict(value)
    raise TypeError(f"`{type(value).__name__}` is no JSON")
