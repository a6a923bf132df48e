"""What the error replies of servers mean, in one sentence with the next step. It opens no connection."""

from __future__ import annotations

import math
import re
import time
from collections.abc import Callable, Mapping
from email.utils import parsedate_to_datetime

import orjson

from thinkscale.engines.addresses import bare
from thinkscale.errors import ContextError, EngineError, ModelError

_CONTEXT = re.compile(
    r"context (length|size|window)|maximum context|(?<!took )too (long|many tokens)|exceeds? the (max|avail)", re.I
)
_PASSING = frozenset({408, 409, 425, 429, 500, 502, 503, 504, 529})
"""Statuses after which the same request may succeed."""
_MODEL = re.compile(r"\bmodel(?!s\b)", re.I)
"""The word, and not the name of the endpoint that lists models."""
_FIXED_QUOTA = re.compile(r"insufficient_quota|exceeded your current quota|billing", re.I)


def refusal(
    at: str, status: int, reply: object, headers: Mapping[str, str], clean: Callable[[str], str]
) -> EngineError:
    """The error that an error reply is.

    Args:
        at: the address, as people may see it.
        status: that of HTTP, 300 or above.
        reply: what came, as JSON or text.
        headers: those of the reply.
        clean: makes a server's words fit to be shown.
    """
    said = clean(_words(reply))
    whole = _words(reply)
    told = f" (`{said}`)" if said else ""
    if 300 <= status < 400:
        place = clean(bare(headers.get("Location", "nowhere")))
        return EngineError(
            f"`{at}` points to `{place}` (status {status}) and is not followed there: make that the base "
            "URL if it is meant",
            status=status,
        )
    if status in (401, 403):
        return EngineError(
            f"`{at}` refused the key with status {status}{told}: set OPENAI_API_KEY to one it accepts",
            status=status,
        )
    if status in (400, 413, 422, 500) and _CONTEXT.search(whole):
        return ContextError(
            f"the prompt and the tokens asked for do not fit the model's context{told}: shorten the prompt or "
            "lower `--max-tokens`",
            status=status,
        )
    if status == 404 and _MODEL.search(whole):
        return ModelError(f"`{at}` does not serve this model{told}: name one that it lists", status=status)
    if status in (404, 405):
        return EngineError(
            f"`{at}` has no such endpoint (status {status}): check the base URL, which usually ends in `/v1`",
            status=status,
        )
    if "chat template" in whole.lower():
        return EngineError(
            f"the model at `{at}` has no chat template{told}: ask through `api=completions`", status=status
        )
    passing = status in _PASSING and not (status == 429 and _FIXED_QUOTA.search(whole))
    wait = _retry_after(headers) if passing else None
    step = "ask again later, or see its log" if passing else "change what it complains of"
    return EngineError(
        f"`{at}` answered with status {status}{told}: {step}", retryable=passing, retry_after=wait, status=status
    )


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
            seconds = float(value) * unit
        except ValueError:
            pass
        else:
            return max(0.0, seconds) if math.isfinite(seconds) else None
        try:
            return max(0.0, parsedate_to_datetime(value).timestamp() - time.time())
        except ValueError:
            continue
    return None
