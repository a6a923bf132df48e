"""What the error replies of servers mean, in one sentence with the next step. It opens no connection."""

from __future__ import annotations

import json
import math
import re
import time
from collections.abc import Callable, Mapping
from email.utils import parsedate_to_datetime

from thinkscale.engines.addresses import bare
from thinkscale.engines.guard import WAIT
from thinkscale.errors import ContextError, EngineError, ModelError

_CONTEXT = re.compile(
    r"context (length|size|window)|maximum context|(?<!took )too (long|many tokens)|exceeds? the (max|avail)", re.I
)
_PASSING = frozenset({408, 409, 425, 429, 500, 502, 503, 504, 529})
"""Statuses after which the same request may succeed."""
_MODEL = re.compile(r"\bmodel(?!s\b)", re.I)
"""The word, and not the name of the endpoint that lists models."""
_FIXED_QUOTA = re.compile(r"insufficient_quota|exceeded your current quota|billing", re.I)
_STATUSES = (
    (re.compile(r"insufficient.?(quota|funds|balance)|rate.?limit|resource.?exhausted|too.?many.?requests", re.I), 429),
    (re.compile(r"(in|un)?valid.*(api.?)?key|authentication|unauthenticated|unauthori[sz]ed", re.I), 401),
    (re.compile(r"permission|forbidden|access.?denied", re.I), 403),
    (re.compile(r"not.?found", re.I), 404),
    (re.compile(r"overloaded|unavailable|capacity", re.I), 503),
    (re.compile(r"time.?d?.?out|deadline", re.I), 504),
    (re.compile(r"bad.?request|invalid|context.?(length|window)|unsupported|content.?(filter|policy)", re.I), 400),
)
"""Statuses that servers write as words, where an error comes in a reply that began well."""
_VALUE = re.compile(
    r"\b(?:sk|pk|rk|gsk|hf|xai|nvapi|key)[-_](?=[\w*-]*[\dA-Z*])[\w-]{6,}[\w*-]*"
    r"|\bAIza[\w-]{8,}"
    r"|(?<=\bBearer )(?=\S*\d)[^\s\"',;]{8,}"
    r"|(?<=\bkey[:=])\s*(?=\S*\d)[^\s\"',;]{8,}",
)
"""What a key looks like: a value and never a word."""
_QUOTED = 240
"""Characters of a server's own words that are passed on."""
PATIENCE = 4
"""How often such a wait may follow the other before whoever asks gives up; a longer one is not begun."""


def cleaned(text: str, key: str | None = None) -> str:
    """A server's words on one line, shortened, without anything that looks like a key."""
    if key:
        text = text.replace(key, "…")
    text = " ".join(_VALUE.sub("…", text).split())
    return text if len(text) <= _QUOTED else text[:_QUOTED] + "…"


def status_of(error: Mapping[str, object]) -> int:
    """The status of HTTP that an error inside a reply stands for, by its number or its words; 500 where it has none."""
    told = [error.get(name) for name in ("code", "status_code", "status", "type")]
    for code in told:
        if isinstance(code, str) and code.isdecimal():
            code = int(code)  # noqa: PLW2901
        if isinstance(code, int) and 400 <= code <= 599:
            return code
    words = [code for code in told if isinstance(code, str)]
    return next((status for word in words for known, status in _STATUSES if known.search(word)), 500)


def refusal(
    at: str, status: int, reply: object, headers: Mapping[str, str], clean: Callable[[str], str]
) -> EngineError:
    """The error that an error reply is, which keeps the server's `words` as well.

    Args:
        at: the address, as people may see it.
        status: that of HTTP, 300 or above.
        reply: what came, as JSON or text.
        headers: those of the reply.
        clean: makes a server's words fit to be shown.
    """
    whole = words_of(reply)
    error = _meaning(at, status, whole, headers, clean)
    error.words = whole
    return error


def _meaning(at: str, status: int, whole: str, headers: Mapping[str, str], clean: Callable[[str], str]) -> EngineError:
    said = clean(whole)
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
    if wait is not None and wait > WAIT:
        step = f"it wants to be asked again in {wait:,.0f} s, and at most {WAIT:.0f} s are waited at a time"
        # A quota that comes back tomorrow: no number of our waits reaches that.
        passing, wait = wait <= PATIENCE * WAIT, WAIT
    return EngineError(
        f"`{at}` answered with status {status}{told}: {step}", retryable=passing, retry_after=wait, status=status
    )


def words_of(reply: object, depth: int = 8) -> str:
    """The message in an error reply, of whichever shape; what lies deeper than `depth` says nothing."""
    if depth and isinstance(reply, Mapping):
        for name in ("error", "message", "detail"):
            if reply.get(name):
                inner = reply[name]
                code = reply.get("code") or reply.get("type") or ""
                return words_of(inner, depth - 1) if isinstance(inner, Mapping | list) else f"{inner} {code}".strip()
        return json.dumps(reply, default=str, ensure_ascii=False, separators=(",", ":"))
    if depth and isinstance(reply, list):
        return "; ".join(words_of(item, depth - 1) for item in reply[:3])
    text = str(reply) if isinstance(reply, str) else ""
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
        except (ValueError, OverflowError):
            continue
    return None
