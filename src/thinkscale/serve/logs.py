"""Logs of the gateway: one line per event on standard error, and no secret in any of them.

Secrets are kept out twice. What is logged of a request is a record that has no field for one. And whatever else is
said, by whichever library, passes a formatter that strikes out everything that looks like a secret. What it cannot know
is a secret that looks like a word.
"""

from __future__ import annotations

import json
import logging
import re
import sys
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from datetime import UTC, datetime

STRUCK = "[secret]"
_SECRET = re.compile(
    r"""
      sk-ts-[\w-]+                                      # keys of this gateway
    | \b(?:sk|pk|rk|hf|gsk|xai|ghp)[-_][\w-]{8,}     # keys of others that say what they are
    | (?<![\w-])ey[\w-]{8,999}\.[\w-]{4,9999}\.[\w-]*            # signed tokens
    | (?<=://)[^/\s"'@]+(?=@)                            # user and password in an address
    | \b(?:bearer|basic)\s+[^\s"',;]+
    | (?<=[?&]key=)[^\s&"']+
    """,
    re.IGNORECASE | re.VERBOSE,
)
_NAMED = re.compile(
    r"""((?:authorization|(?:proxy|set)?[-_]?cookie|(?:\w{1,40}[-_])?(?:api[-_]?key|token|secret|password))
        ["']?\s*[:=]\s*)(b?"[^"]*"|b?'[^']*'|[^\s,;&)}\]]+)""",
    re.IGNORECASE | re.VERBOSE,
)
_SECRET_NAME = re.compile(r"authorization|cookie|api[-_]?key|(^|[-_])token$|secret|password", re.IGNORECASE)
_CONTROL = re.compile(r"[\x00-\x1f\x7f-\x9f\u2028\u2029]")

access_log = logging.getLogger("thinkscale.access")


@dataclass(frozen=True, slots=True, kw_only=True)
class Access:
    """What is logged of a request that was answered."""

    request: str
    """Its id."""
    key: str = ""
    """Id of the key; empty without one."""
    api: str = ""
    """One of `Api`, or what is done to a kept response, such as `responses.retrieve`."""
    method: str = ""
    """Class of the method, or empty where it never came to one."""
    profile: str = ""
    status: int
    tokens: int = 0
    """Generated."""
    seconds: float
    run: str = ""
    joined: bool = False
    """Whether it shared the run of an earlier request, which has the tokens."""


def access(entry: Access) -> None:
    """Log a request that was answered."""
    event(access_log, "request", **asdict(entry))


def event(log: logging.Logger, name: str, /, level: int = logging.INFO, **fields: object) -> None:
    """Log something with fields of its own."""
    if log.isEnabledFor(level):
        log.log(level, name, extra={"fields": fields})


def redacted(text: str) -> str:
    """A text without what looks like a secret."""
    return _SECRET.sub(STRUCK, _NAMED.sub(lambda found: found[1] + STRUCK, text))


def configure(level: str = "INFO", *, json: bool = True) -> None:
    """Send all logs to standard error, formatted here; calling it again replaces what it did before.

    Below warnings only the gateway and its server are heard: what libraries say to those who debug them may quote what
    was asked.

    Args:
        level: least level of the gateway's own logs.
        json: one JSON object per line, or plain text.
    """
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(JsonFormatter() if json else PlainFormatter())
    root = logging.getLogger()
    for old in [*root.handlers]:
        if isinstance(old.formatter, PlainFormatter):
            root.removeHandler(old)
    root.addHandler(handler)
    root.setLevel(max(logging.WARNING, logging.getLevelName(level.upper())))
    for name in ("thinkscale", "uvicorn"):
        logging.getLogger(name).setLevel(level.upper())


class PlainFormatter(logging.Formatter):
    """A record as one line of text for people: time, level, logger, message, fields."""

    def format(self, record: logging.LogRecord) -> str:
        """The line."""
        told = self.told(record)
        head = " ".join(str(told.pop(name)) for name in ("time", "level", "logger", "message"))
        return _CONTROL.sub(" ", " ".join([head, *(f"{name}={value}" for name, value in told.items())]))

    def told(self, record: logging.LogRecord) -> dict[str, object]:
        """What a record says, without secrets."""
        fields = getattr(record, "fields", {})
        told: dict[str, object] = {
            "time": datetime.fromtimestamp(record.created, UTC).isoformat(timespec="milliseconds"),
            "level": record.levelname.lower(),
            "logger": record.name,
            "message": redacted(record.getMessage()),
        }
        told |= {name: _clean(name, value) for name, value in fields.items() if value not in ("", None)}
        if record.exc_info:
            told["exception"] = redacted(self.formatException(record.exc_info))
        return told


class JsonFormatter(PlainFormatter):
    """A record as one JSON object in one line."""

    def format(self, record: logging.LogRecord) -> str:
        """The line."""
        line = json.dumps(self.told(record), ensure_ascii=False)
        return _CONTROL.sub(lambda found: f"\\u{ord(found[0]):04x}", line)


def _clean(name: str, value: object) -> object:
    """A field's value in JSON's types, without secrets."""
    if _SECRET_NAME.search(name):
        return STRUCK
    if value is None or isinstance(value, bool | int | float):
        return value
    if isinstance(value, Mapping):
        return {redacted(str(k)): _clean(str(k), v) for k, v in value.items()}
    if isinstance(value, list | tuple | set | frozenset):
        return [_clean("", item) for item in value]
    return redacted(str(value))
