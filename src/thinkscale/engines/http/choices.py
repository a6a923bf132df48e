"""What has arrived of one streamed reply, choice by choice, and what it adds up to. It opens no connection."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field, replace

from thinkscale.engines.dialects import Json, News, Piece
from thinkscale.engines.dialects.words import Word
from thinkscale.engines.protocol import Abort, Chunk, Completion, ThinkFormat
from thinkscale.engines.tail import Tail
from thinkscale.types import Finish, Logprobs, Usage

FILTERED = "the server's content filter ended the text"
ENDS = frozenset({Finish.eos, Finish.stop})
_UNBILLED = Usage()


@dataclass(slots=True)
class Choice:
    """One choice of a reply while it grows."""

    draw: int
    """Number of the draw that it is."""
    tail: Tail
    think: ThinkFormat
    opened: bool = False
    """Whether the turn that it continues stands inside a thinking."""
    tokens: int = 0
    thought_tokens: int = 0
    certain: bool = False
    """Whether the server itself gave the number of tokens with the end."""
    thinking: bool = False
    logprobs: list[Logprobs] = field(default_factory=list)
    calls: dict[int, dict[str, object]] = field(default_factory=dict)
    finish: Finish | None = None
    stop_string: str | None = None
    down: bool = False
    """Whether its completion has been given out."""
    fresh: list[str] = field(default_factory=list)
    """Text that came since it was last shown."""
    shown: int = 0
    """Tokens that were passed on."""
    told: int = 0
    """Pieces with log-probabilities that were passed on."""

    @property
    def seen(self) -> bool:
        """Whether the server has said anything about it."""
        return self.tokens > 0 or self.finish is not None

    def grow(self, piece: Piece, ending: int) -> None:
        """Take in a piece; a text that ends without saying its tokens has `ending` more than it has pieces."""
        self.tokens += self._new(piece, ending)
        if piece.thought or self.thinking:
            self.fresh.append(self._marked(piece))
        elif piece.text:
            self.fresh.append(piece.text)
        if piece.logprobs is not None:
            self.logprobs.append(piece.logprobs)
        for call in piece.calls:
            self._merge(call)
        if piece.finish is not None:
            self.finish, self.stop_string, self.certain = piece.finish, piece.stop_string, piece.total is not None

    def say(self, word: Word) -> None:
        """Take in a piece that is nothing but text."""
        if word.thought:
            self.grow(Piece(self.draw, thought=word.text, total=word.total), 0)
        elif self.thinking:
            self.grow(Piece(self.draw, word.text, total=word.total), 0)
        else:
            self.tokens = self.tokens + (word.text != "") if word.total is None else max(self.tokens, word.total)
            self.fresh.append(word.text)

    def show(self) -> str:
        """The text that has become certain since the last time."""
        shown = self.tail.add("".join(self.fresh), last=self.finish is not None)
        self.fresh.clear()
        if self.tail.stopped is not None:
            self.finish, self.stop_string = Finish.stop, self.tail.stopped
        return shown

    def signals(self) -> Logprobs | None:
        """The log-probabilities that came since they were last passed on."""
        new, self.told = self.logprobs[self.told :], len(self.logprobs)
        return Logprobs.joined(new) if new else None

    def completion(self, bill: Usage = _UNBILLED) -> Completion:
        """What the choice has become; `bill` says what is known of its prompt and its thinking."""
        self.down = True
        thought = self.thought_tokens or None
        return Completion(
            text=self.tail.text,
            finish=self.finish or Finish.aborted,
            tokens=self.tokens,
            stop_string=self.stop_string,
            logprobs=Logprobs.joined(self.logprobs) if self.logprobs else None,
            error=FILTERED if self.finish is Finish.error else None,
            tool_calls=tuple(self.calls[i] for i in sorted(self.calls)),
            usage=Usage(
                calls=1,
                input_tokens=bill.input_tokens,
                cached_tokens=bill.cached_tokens,
                output_tokens=self.tokens,
                reasoning_tokens=thought if bill.reasoning_tokens is None else bill.reasoning_tokens,
            ),
        )

    def _new(self, piece: Piece, ending: int) -> int:
        if piece.total is not None:
            new = max(0, piece.total - self.tokens)
        elif piece.sampled is not None:
            new = piece.sampled
        else:
            new = 1 if piece.text or piece.thought or piece.calls else 0
        if piece.finish is not None and piece.total is None and piece.finish in ENDS:
            new += ending
        if piece.thought and not piece.text:
            self.thought_tokens += new
        return new

    def _marked(self, piece: Piece) -> str:
        """The piece as the model's family writes it, thinking between its markers."""
        marked = piece.thought
        if piece.thought and not self.thinking:
            marked = ("" if self.opened else self.think.open) + piece.thought
            self.thinking, self.opened = True, False
        if piece.text or piece.calls:
            self.thinking = False
            marked += self.think.close + piece.text
        return marked

    def _merge(self, call: Json) -> None:
        at = call.get("index", 0)
        known = self.calls.setdefault(at if isinstance(at, int) else 0, {})
        for name, value in call.items():
            old = known.get(name)
            if name == "function" and isinstance(value, dict) and isinstance(old, dict):
                known[name] = {**old, **{k: _joined(old.get(k), v, k) for k, v in value.items()}}
            elif name != "index" and (value not in (None, "") or name not in known):
                known[name] = dict(value) if isinstance(value, dict) else value


class Choices:
    """The choices of one reply, for the draws they stand for.

    A completion is given out as soon as its choice has ended, if its tokens are known by then; the last one, and all
    whose tokens were guessed, wait for the bill.

    Args:
        stops: stop strings that are looked for here, because the server does not say which one fired.
        draws: the numbers of the draws that the choices 0, 1, … are.
        abort: the draws that are to end early.
        think: how thinking is written when it comes in a field of its own.
        ending: tokens that end a text on this server without a piece of their own; `None` while that is unknown.
        opened: whether the turn that is continued stands inside a thinking.
        watched: whether log-probabilities are passed on as they come.
    """

    def __init__(
        self,
        stops: Sequence[str],
        draws: Sequence[int],
        abort: Abort,
        think: ThinkFormat,
        ending: int | None,
        *,
        opened: bool = False,
        watched: bool = False,
    ) -> None:
        self._choices = [Choice(draw, Tail(stops), think, opened) for draw in draws]
        self._abort = abort
        self._usage: Usage | None = None
        self._prompt = _UNBILLED
        self.ending = ending
        """The same as far as this reply has taught it."""
        self.watched = watched
        self.begun = False
        """Whether an event has been heard."""
        self.miscounted = False
        """Whether the bill cannot be explained by what was counted on the way."""

    @property
    def counted(self) -> bool:
        """Whether it is known what the prompt costs."""
        return self._prompt is not _UNBILLED

    @property
    def over(self) -> bool:
        """Whether every choice has ended."""
        return all(c.finish is not None for c in self._choices)

    @property
    def unseen(self) -> list[int]:
        """Draws that the server said nothing about."""
        return [c.draw for c in self._choices if not c.seen]

    @property
    def broken(self) -> bool:
        """Whether a reply that is over left a text without its end, or said nothing at all."""
        return all(not c.seen for c in self._choices) or any(c.seen and c.finish is None for c in self._choices)

    @property
    def unwanted(self) -> bool:
        """Whether some choice is still growing, at the server, and none of those that are is wanted."""
        growing = [c for c in self._choices if c.finish is None or c.tail.stopped is not None]
        return bool(growing) and all(c.draw in self._abort or c.tail.stopped is not None for c in growing)

    def take(self, heard: Iterable[News | Piece | Word]) -> list[Chunk]:
        """Let the choices grow by what the server said; the news of one choice are passed on as one."""
        growing = {at: choice for at, choice in enumerate(self._choices) if choice.finish is None}
        grown: dict[int, Choice] = {}
        for news in heard:
            self.begun = True
            if isinstance(news, Word):
                if choice := growing.get(news.index):
                    choice.say(news)
                    grown[news.index] = choice
                continue
            for piece in (news,) if isinstance(news, Piece) else news.pieces:
                if choice := growing.get(piece.index):
                    choice.grow(piece, self.ending or 0)
                    grown[piece.index] = choice
                    if choice.finish is not None:
                        del growing[piece.index]
            if isinstance(news, News):
                self._prompt = news.prompt or self._prompt
                if news.usage is not None:
                    self._note(news)
        shown = [(choice, self._fresh(choice)) for choice in grown.values()]
        over = self.over
        return [chunk for choice, text in shown for chunk in self._told(choice, text, over)]

    def _note(self, news: News) -> None:
        assert news.usage is not None
        if len(self._choices) == 1 or not news.pieces:
            self._usage = news.usage
        else:
            self._prompt = replace(news.usage, output_tokens=0, reasoning_tokens=None)

    def _fresh(self, choice: Choice) -> str:
        """The text by which a choice has grown; that of a draw that was cut does not count."""
        if choice.draw in self._abort:
            choice.fresh.clear()
            choice.finish = Finish.aborted if choice.finish else None
            return ""
        return choice.show()

    def _told(self, choice: Choice, text: str, over: bool) -> Iterator[Chunk]:
        """What there is to tell of a choice that has grown; once all are `over`, they wait for the bill."""
        new, choice.shown = choice.tokens - choice.shown, choice.tokens
        known = choice.certain or self.ending is not None
        complete = choice.completion() if choice.finish is not None and known and not over else None
        if text or new or complete is not None:
            yield Chunk(choice.draw, text, new, complete, logprobs=choice.signals() if self.watched else None)

    def end(self, *, cut: bool = False) -> list[Chunk]:
        """The completions that waited for the bill; with `cut`, those of choices that never ended as well."""
        held = [c for c in self._choices if not c.down and (c.finish is not None or cut)]
        more, bill = [0] * len(held), self._usage
        if bill is not None and self.over:
            unbilled = bill.output_tokens - sum(c.tokens for c in self._choices)
            self._learn(unbilled)
            more = _apportioned(unbilled, [c.tokens for c in held])
        if bill is not None and len(self._choices) > 1:
            bill = replace(bill, reasoning_tokens=None)
        bills = [bill or self._prompt, *(_UNBILLED for _ in held)]
        return [self._closed(*parts) for parts in zip(held, more, bills, strict=False)]

    def _learn(self, unbilled: int) -> None:
        ends = sum(not c.certain and c.finish in ENDS for c in self._choices)
        uncounted = unbilled + ends * (self.ending or 0)
        if ends and uncounted in (0, ends):
            self.ending = uncounted // ends
        else:
            self.miscounted = unbilled != 0

    def _closed(self, choice: Choice, more: int, bill: Usage) -> Chunk:
        """The last chunk of a choice, with the tokens that the bill adds to those that were counted."""
        choice.tokens += more
        return Chunk(choice.draw, choice.show() + choice.tail.finish(), more, choice.completion(bill))


def _apportioned(total: int, weights: Sequence[int]) -> list[int]:
    """Whole numbers that sum to `total`, in proportion to the weights as far as possible."""
    whole = sum(weights) or len(weights)
    shares = [total * w // whole for w in weights] if sum(weights) else [total // whole] * len(weights)
    if shares:
        shares[-1] += total - sum(shares)
    return shares


def _joined(old: object, new: object, name: str) -> object:
    if name == "arguments" and isinstance(old, str) and isinstance(new, str):
        return old + new
    return old if new is None or new == "" else new
