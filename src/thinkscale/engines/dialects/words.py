"""Streamed events that say a piece of text, or that there is no more, as nearly all do: read without parsing.

A server writes them all alike: one differs from the next in its choice, its text and its counts, and those of one reply
from those of another in names, times and the counts of the prompt. What stands around these is learned from the first
such event; an event that has anything else is left to a dialect, and so are the first of every reply, and the first
that counts, which tells of the prompt.
"""

from __future__ import annotations

import re
from dataclasses import dataclass, replace

import orjson

from thinkscale.engines.dialects import Dialect, News, Piece

KINDS = 6
"""Kinds of events that are known at once: beginnings, thinking, answers, ends."""
TRIES = 16
"""Events that are learned from before one is found that is like them; then as many again."""
_STRING = rb'"[^"\\]*+(?:\\.[^"\\]*+)*+"'
_NAME = rb'"[ !#-\[\]-~]*"'
_NUMBER = rb"-?(?:0|[1-9][0-9]{0,15})(?:\.[0-9]{1,20})?(?:[eE][-+]?[0-9]{1,3})?"
_VARIES = re.compile(
    rb'"(index|content|text|reasoning|reasoning_content|completion_tokens|predicted_n|total_tokens|reasoning_tokens'
    rb"|prompt_tokens|cached_tokens|prompt_n|cache_n|(?:prompt|predicted)_(?:ms|per_second|per_token_ms)|created"
    rb'|id|obfuscation)": ?(%b|%b(?![-+.0-9A-Za-z]))' % (_STRING, _NUMBER),
    re.DOTALL,
)
"""The fields by which events differ: choice, text, number of tokens so far, and what tells nothing of a piece."""
_TEXTS = frozenset({b"content", b"text", b"reasoning", b"reasoning_content"})
_COUNTS = frozenset({b"completion_tokens", b"predicted_n"})
_NAMES = frozenset({b"id", b"obfuscation"})
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

    @property
    def piece(self) -> Piece:
        """The same as a dialect says it."""
        said, thought = ("", self.text) if self.thought else (self.text, "")
        return Piece(self.index, said, thought, total=self.total)


@dataclass(frozen=True, slots=True)
class _Kind:
    """Events that are alike."""

    pattern: re.Pattern[bytes]
    like: Piece
    """What the one says that was learned from."""
    says: bool
    """Whether they say a text."""
    counts: bool
    """Whether they count the tokens of their choice."""
    thinks: bool
    """Whether the text is thinking."""


class Words:
    """What the events of one server have in common.

    Args:
        dialect: says what an event means.
    """

    def __init__(self, dialect: Dialect) -> None:
        self._dialect = dialect
        self._kinds: list[_Kind] = []
        self._tries = TRIES

    def read(self, event: bytes, *, counted: bool = True) -> Word | Piece | None:
        """What an event says that is like one before; `None` leaves it to the dialect.

        Args:
            event: as it came.
            counted: whether the reply has told of its prompt, so that events with counts need not any more.
        """
        for at, kind in enumerate(self._kinds):
            found = kind.pattern.fullmatch(event)
            if found is None:
                continue
            self._tries = TRIES
            if at:  # events of a kind come one after the other
                self._kinds.insert(0, self._kinds.pop(at))
            if not kind.says:
                return Piece(int(found["index"]), finish=kind.like.finish, stop_string=kind.like.stop_string)
            if kind.counts and not counted:
                return None
            try:
                text = orjson.loads(found["text"])
            except orjson.JSONDecodeError:
                return None
            return Word(int(found["index"]), text, int(found["total"]) if kind.counts else None, kind.thinks)
        return None

    def learn(self, event: bytes, news: News) -> None:
        """Take an event as the model of others, if it says nothing but a piece of text, or that there is no more.

        It is one if the dialect reads it as it should with another choice, another text and another count put in.
        """
        if len(news.pieces) != 1 or news.usage is not None or not self._tries:
            return
        [piece] = news.pieces
        if not _plain(piece) or any(kind.pattern.fullmatch(event) for kind in self._kinds):
            return
        self._tries -= 1
        alike = _alike(event, bool(piece.text or piece.thought))
        if alike is None:
            return
        pattern, other = alike
        varied = replace(
            piece,
            index=_OTHER.index,
            text=piece.text and _OTHER.text,
            thought=piece.thought and _OTHER.text,
            total=piece.total and _OTHER.total,
        )
        told = self._dialect.news(orjson.loads(other))
        if replace(told, prompt=None) == News([varied]) and (told.prompt is None) == (news.prompt is None):
            kind = _Kind(pattern, piece, bool(piece.text or piece.thought), bool(piece.total), bool(piece.thought))
            self._kinds = [kind, *self._kinds[: KINDS - 1]]


def _plain(piece: Piece) -> bool:
    """Whether a piece is either a text, as answer or as thinking, with or without its count; or an end, or nothing."""
    if piece.text:
        return piece == Piece(piece.index, piece.text, total=piece.total)
    if piece.thought:
        return piece == Piece(piece.index, thought=piece.thought, total=piece.total)
    return piece == Piece(piece.index, finish=piece.finish, stop_string=piece.stop_string)


def _alike(event: bytes, says: bool) -> tuple[re.Pattern[bytes], bytes] | None:
    """The pattern of the events that are like this one, which `says` a text or none, and one of them.

    There is no such pattern where something varies twice.
    """
    pattern: list[bytes] = []
    other: list[bytes] = []
    end, known = 0, set()
    for found in _VARIES.finditer(event):
        name, value = found.groups()
        if (value[:1] == b'"') is not (name in _TEXTS or name in _NAMES) or (name in _TEXTS and value == b'""'):
            continue
        group, varies, put = _varying(name)
        if group and group in known:
            return None
        known.add(group)
        fixed = event[end : found.start(2)]
        end = found.end()
        pattern += [re.escape(fixed), b"(?P<%b>%b)" % (group, varies) if group else varies]
        other += [fixed, put]
    if b"index" not in known or (b"text" in known) is not says:
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
    return (b"", _NAME, b'"other"') if name in _NAMES else (b"", _NUMBER, b"1")
