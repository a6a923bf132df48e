"""What streamed replies have in common: frames on the wire, and the progress of a vote in words."""

from __future__ import annotations

from collections import Counter

import orjson

from thinkscale.session import Event
from thinkscale.types import Finish, Trace

DONE = b"data: [DONE]\n\n"
"""The last words of a stream of chat or completions."""
ALIVE = b": still thinking\n\n"
"""A comment that keeps a connection open."""


def frame(told: object, event: str = "") -> bytes:
    """One event of a stream."""
    named = f"event: {event}\n".encode() if event else b""
    return b"%sdata: %s\n\n" % (named, orjson.dumps(told))


class Progress:
    """How a vote stands, in words, as attempts come in."""

    def __init__(self) -> None:
        self._votes: Counter[str] = Counter()
        self._words: dict[str, str] = {}
        self._seen = 0

    def line(self, event: Event) -> str:
        """What to say of an event; nothing of those that end no attempt."""
        trace = event.trace
        if trace is None or event.role != "main":
            return ""
        self._seen += 1
        if trace.answer is not None:
            self._votes[trace.answer.key] += 1
            self._words.setdefault(trace.answer.key, _short(trace.answer.text))
        return f"Sample {self._seen}: {_ending(trace)}.{self._standing()}\n"

    def _standing(self) -> str:
        if self._seen < 2 or not self._votes:
            return ""
        return " Votes: " + ", ".join(f"{self._words[key]} ×{n}" for key, n in self._votes.most_common(4)) + "."


def beyond(text: str, sent: str) -> str:
    """What is left to send; nothing where something else was sent, which cannot be taken back."""
    return text[len(sent) :] if text.startswith(sent) else ""


def _ending(trace: Trace) -> str:
    if trace.finish is Finish.error:
        return f"failed ({_short(trace.error or 'no reason was given')})"
    return _short(trace.answer.text) if trace.answer is not None else "no answer"


def _short(text: str) -> str:
    line = " ".join(text.split())
    return line if len(line) <= 80 else f"{line[:79]}…"
