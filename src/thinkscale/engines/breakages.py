"""What it means when a connection cannot be made, or breaks, in one sentence with the next step. It opens none."""

from __future__ import annotations

import asyncio
import os
from collections.abc import Callable

import aiohttp
from yarl import URL

from thinkscale.engines.addresses import proxy_for
from thinkscale.errors import EngineError

CONNECT = 10.0
"""Seconds to reach a server."""


def explained(error: BaseException, at: str, url: URL, clean: Callable[[str], str]) -> EngineError:
    """The failure that one of aiohttp or of the system is.

    Args:
        error: what was raised.
        at: the address, as people may see it.
        url: the address.
        clean: makes words fit to be shown.
    """
    match error:
        case aiohttp.ClientConnectorDNSError() if proxy_for(url):
            return EngineError("the proxy named by the environment cannot be found: check HTTPS_PROXY and NO_PROXY")
        case aiohttp.ClientConnectorDNSError() | UnicodeError():
            return EngineError(f"the host `{url.host}` of `{at}` cannot be found: check the address", retryable=True)
        case aiohttp.ClientConnectorCertificateError():
            why = clean(str(error.certificate_error))
            return EngineError(
                f"the certificate of `{url.host}` is not trusted ({why}): "
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
    return EngineError(f"the connection to `{at}` broke ({why}): ask again, or see the server's log", retryable=True)


def _reason(error: aiohttp.ClientConnectorError) -> str:
    number = error.os_error.errno
    return os.strerror(number).lower() if number else type(error.os_error).__name__
