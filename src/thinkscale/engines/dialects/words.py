"""The events of one streamed reply that say nothing but a piece of text, which nearly all do: read without parsing.

A server writes them all alike: one differs from the next in the number of its choice, in its text and in some counts.
What stands around these is learned from the first such event; an event that has anything else is left to a dialect.
"""

from __future__ import annotations

import re
from dataclasses import dataclass, replace

import orjson

from thinkscale.engines.dialects import Dialect, News, Piece

KINDS = 4
"""Kinds of events that are known at once, such as thinking and answer."""
TRIES = 16
"""Events that are learned from, in vain or not."""
_STRING = rb'"[^"\\]*+(?:\\.[^"\\]*+)*+"'
_NUMBER = rb"-?(?:0|[1-9][0-9]{0,15})(?:\.[0-9]{1,20})?(?:[eE][-+]?[0-9]{1,3})?"
_VARIES = re.compile(
    rb'"(index|content|text|reasoning|reasoning_content|completion_tokens|predicted_n|total_tokens|reasoning_tokens'
    rb'|(?:prompt|predicted)_(?:ms|per_second|per_token_ms))": ?(%b|%b(?![-+.0-9A-Za-z]))' % (_STRING, _NUMBER),
    re.DOTALL,
)
"""The fields by which events differ: choice, text, number of tokens so far, and what tells us nothing."""
_TEXTS = frozenset({b"content", b"text", b"reasoning", b"reasoning_content"})
_COUNTS = frozenset({b"completion_tokens", b"predicted_n"})
_OTHER = Piece(7531, 'é"\n', total=86420)


@dataclass(slots=True)
class Word:
    """A piece of the text of one choice."""

    index: int
    text: str
    total: int | None
    """Tokens of the choice up to here, where the server counts along."""
    thought: bool
    """Whether it is thinking, which came in a field of its own."""


@dataclass(frozen=True, slots=True)
class _Kind:
    """Events that are alike."""

    pattern: re.Pattern[bytes]
    counts: bool
    thought: bool


class Words:
    """What the events of one reply have in common.

    Args:
        dialect: says what an event means.
    """

    def __init__(self, dialect: Dialect) -> None:
        self._dialect = dialect
        self._kinds: list[_Kind] = []
        self._tries = TRIES

    def read(self, event: bytes) -> Word | None:
        """What an event says that is like one before; `None` leaves it to the dialect."""
        for kind in self._kinds:
            if found := kind.pattern.fullmatch(event):
                try:
                    text = orjson.loads(found["text"])
                except orjson.JSONDecodeError:
                    return None
                return Word(int(found["index"]), text, int(found["total"]) if kind.counts else None, kind.thought)
        return None

    def learn(self, event: bytes, news: News) -> None:
        """Take an event as the model of others, if it says nothing but a piece of text.

        It is one if the dialect reads it as it should with another choice, another text and another count put in.
        """
        if len(news.pieces) != 1 or not self._tries:
            return
        [piece] = news.pieces
        said, thought = piece.text or piece.thought, bool(piece.thought)
        if not said or piece != _saying(replace(piece, text=said), thought):
            return
        self._tries -= 1
        alike = _alike(event)
        if alike is None:
            return
        pattern, other = alike
        expected = _saying(replace(_OTHER, total=piece.total and _OTHER.total), thought)
        if self._dialect.news(orjson.loads(other)) == replace(news, pieces=[expected]):
            self._kinds = [_Kind(pattern, piece.total is not None, thought), *self._kinds[: KINDS - 1]]


def _saying(said: Piece, thought: bool) -> Piece:
    """A piece that says the text of another as answer or as thinking, and nothing else."""
    if thought:
        return Piece(said.index, thought=said.text, total=said.total)
    return Piece(said.index, said.text, total=said.total)


def _alike(event: bytes) -> tuple[re.Pattern[bytes], bytes] | None:
    """The pattern of the events that are like this one, and one of them; `None` where something varies twice."""
    pattern: list[bytes] = []
    other: list[bytes] = []
    end, known = 0, set()
    for found in _VARIES.finditer(event):
        name, value = found.groups()
        if value == b'""' or (value[:1] == b'"') is not (name in _TEXTS):
            continue
        group, varies, put = _varying(name)
        if group and group in known:
            return None
        known.add(group)
        fixed = event[end : found.start(2)]
        end = found.end()
        pattern += [re.escape(fixed), b"(?P<%b>%b)" % (group, varies) if group else varies]
        other += [fixed, put]
    if not {b"index", b"text"} <= known:
        return None
    pattern.append(re.escape(event[end:]))
    other.append(event[end:])
    return re.compile(b"".join(pattern), re.DOTALL), b"".join(other)


def _varying(name: bytes) -> tuple[bytes, bytes, bytes]:
    """Of a field that varies: its group, if it says something, the pattern of its values, and one of them."""
    if name == b"index":
        return b"index", rb"0|[1-9][0-9]{0,3}", b"%d" % _OTHER.index
    if name in _TEXTS:
        return b"text", _STRING, orjson.dumps(_OTHER.text)
    if name in _COUNTS:
        return b"total", rb"[1-9][0-9]{0,8}", b"%d" % (_OTHER.total or 0)
    return b"", _NUMBER, b"1"
