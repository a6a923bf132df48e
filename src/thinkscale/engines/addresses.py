"""What settings say of a server: its address, the key, certificates and proxies. It opens no connection."""

from __future__ import annotations

import os
import re
import ssl
import urllib.request

from yarl import URL

from thinkscale.errors import SettingsError


def url_of(base_url: str) -> URL:
    """The base URL; without a path, `/v1` is meant.

    Raises:
        SettingsError: it is none.
    """
    try:
        url = URL(base_url.strip())
    except ValueError:
        url = URL()
    if url.scheme not in ("http", "https") or not url.host:
        raise SettingsError(f"`{bare(base_url)}` is no address of a server: write it like `http://127.0.0.1:8000/v1`")
    path = url.raw_path.rstrip("/") or "/v1"
    return url.with_path(path, encoded=True, keep_query=True)


def bare(address: str) -> str:
    """An address, or what was meant as one, without credentials and query."""
    return re.sub(r"^(\w+:?/+)?.*@", r"\1", address.partition("?")[0])


def sendable(key: str | None) -> str | None:
    """The key without the line's end that files bring along; `None` where nothing is left.

    Raises:
        SettingsError: it does not fit into a header.
    """
    key = (key or "").strip() or None
    if key and not key.isprintable():
        raise SettingsError("the key has characters in it that cannot be sent: set OPENAI_API_KEY to one line of text")
    return key


def trust_for(url: URL) -> ssl.SSLContext | bool:
    """The certificates to trust: those of the environment's bundle, or the system's. It is slow.

    Raises:
        SettingsError: the bundle cannot be read.
    """
    if url.scheme != "https":
        return True
    names = ("SSL_CERT_FILE", "REQUESTS_CA_BUNDLE", "CURL_CA_BUNDLE")
    bundle = next((found for name in names if (found := os.environ.get(name))), None)
    try:
        return ssl.create_default_context(cafile=bundle)
    except OSError as error:
        why = error.strerror or type(error).__name__
        raise SettingsError(
            f"the certificates in `{bundle}` cannot be read ({why.lower()}): correct {' or '.join(names)}"
        ) from None


def proxy_for(url: URL) -> str | None:
    """The proxy that the environment names for a server, if any."""
    if urllib.request.proxy_bypass(f"{url.host}:{url.port}"):
        return None
    return urllib.request.getproxies().get(url.scheme)
