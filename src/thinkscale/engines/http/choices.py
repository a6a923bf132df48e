"""What has arrived of one streamed reply, choice by choice, and what it adds up to. It opens no connection."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import replace

from thinkscale.engines import guard
from thinkscale.engines.dialects import News, Piece
from thinkscale.engines.dialects.words import Word
from thinkscale.engines.http.choice import ENDS, UNBILLED, Choice
from thinkscale.engines.protocol import Abort, Chunk, ThinkFormat
from thinkscale.engines.tail import Tail
from thinkscale.types import Finish, Usage

_NOBODY: dict[int, Choice] = {}


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
        bounds: what can have been produced; nothing is bounded without them.
        opened: whether the turn that is continued stands inside a thinking.
        closed: whether it has a thinking behind it.
        begun: whether there is such a turn at all.
        watched: whether log-probabilities are passed on as they come.
        trusted: whether the server was seen to give so many choices; otherwise one alone may be several, woven.
    """

    def __init__(
        self,
        stops: Sequence[str],
        draws: Sequence[int],
        abort: Abort,
        think: ThinkFormat,
        ending: int | None,
        *,
        bounds: guard.Bounds | None = None,
        opened: bool = False,
        closed: bool = False,
        begun: bool = False,
        watched: bool = False,
        trusted: bool = True,
    ) -> None:
        cap = bounds.cap if bounds else guard.DRAW
        alone = not begun and not (stops and set(stops) & {*think.ends, think.close.strip()})
        most = guard.longest(cap)
        self._choices = [Choice(draw, Tail(stops), think, cap, most, opened, closed, alone) for draw in draws]
        self._abort, self._bounds, self._trusted = abort, bounds, trusted or len(draws) == 1
        self._usage: Usage | None = None
        self._prompt = UNBILLED
        self._only: int | None = None
        """The number that the server gives the only choice."""
        self.unbounded = False
        """Whether the server goes on with choices that are longer than was asked for, so that all have to end."""
        self._stray = 0
        """Pieces of choices that nobody asked for, or that had been ended here."""
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
        return self._prompt is not UNBILLED

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
    def woven(self) -> bool:
        """Whether the texts of several choices may stand in one, because the server gave all of them one number."""
        alone = [c for c in self._choices if c.seen]
        return len(alone) == 1 < len(self._choices) and (alone[0].ends > 1 or alone[0].late) and not alone[0].down

    @property
    def unwanted(self) -> bool:
        """Whether some choice is still growing, at the server, and none of those that are is wanted."""
        if self.unbounded:
            return True
        growing = [c for c in self._choices if c.finish is None or not (c.growing or c.down)]
        return bool(growing) and all(c.draw in self._abort or not c.growing for c in growing)

    def mend(self) -> None:
        """From now on characters may come in halves."""
        for choice in self._choices:
            choice.halves, choice.careful = choice.halves or guard.Halves(), True

    def take(self, heard: Sequence[News | Piece | Word]) -> list[Chunk]:
        """Let the choices grow by what the server said; the news of one choice are passed on as one."""
        growing = {at: choice for at, choice in enumerate(self._choices) if choice.finish is None or choice.growing}
        grown: dict[int, Choice] = {}
        several, ending = len(self._choices) > 1, self.ending or 0
        numbered = growing.get if several or not self._only else _NOBODY.get
        self.begun = self.begun or bool(heard)
        for news in heard:
            if isinstance(news, Word):
                choice = numbered(news.index)
                if choice is not None and choice.finish is None:
                    choice.say(news)
                    grown[news.index] = choice
                    if choice.over_cap:
                        del growing[news.index]
                    continue
                news = news.piece  # noqa: PLW2901
            for piece in (news,) if isinstance(news, Piece) else news.pieces:
                choice = growing.get(piece.index) if several else None
                if choice is None or choice.finish is not None:
                    self._grow(piece, growing, grown)
                    continue
                choice.grow(piece, ending)
                grown[piece.index] = choice
                if choice.over_cap:
                    del growing[piece.index]
            if isinstance(news, News) and (news.prompt is not None or news.usage is not None):
                self._note(news)
        shown = [(choice, self._fresh(choice)) for choice in grown.values()]
        over = self.over
        return [chunk for choice, text in shown for chunk in self._told(choice, text, over)]

    def _grow(self, piece: Piece, growing: dict[int, Choice], grown: dict[int, Choice]) -> None:
        at = piece.index
        if len(self._choices) == 1:
            # Whatever number the only choice has: what has another one was never asked for.
            if self._only is None:
                self._only = at
            at = 0 if at == self._only else -1
        choice, says = growing.get(at), bool(piece.text or piece.thought or piece.calls)
        if choice is None:
            self._stray += says and not self.unbounded
            if self._stray > len(self._choices) and any(c.over_cap for c in self._choices):
                self.unbounded = True
                growing.clear()
        elif says or choice.finish is None or piece.finish is not None:
            choice.grow(piece, self.ending or 0)
            grown[at] = choice
            if choice.over_cap:
                del growing[at]

    def _note(self, news: News) -> None:
        """Take in what a bill says, or what is said of the prompt before there is one."""
        usage = news.usage or news.prompt or UNBILLED
        if self._bounds is not None:
            most = sum(guard.possible(c.cap, c.characters) for c in self._choices)
            usage = self._bounds.believed(usage, most)
        if news.usage is None:
            self._prompt = usage
            return
        prompt = replace(usage, output_tokens=0, reasoning_tokens=None)
        if usage.output_tokens == 0 and any(c.tokens for c in self._choices):
            self._prompt = prompt  # a bill of nothing for what was seen is none
        elif len(self._choices) == 1 or not news.pieces:
            self._usage = usage
        else:
            self._prompt = prompt

    def close(self, *, done: bool) -> None:
        """The reply ended in order: a text without a reason for its end has one where the bill came behind it.

        Args:
            done: whether the server said itself that this is all.
        """
        if self._usage is None and not (done and self.counted):
            return
        for choice in self._choices:
            if choice.seen and choice.finish is None:
                tokens = choice.tokens if self._usage is None else self._usage.output_tokens // len(self._choices)
                choice.finish = Finish.length if tokens >= choice.cap else Finish.eos

    def _fresh(self, choice: Choice) -> str:
        """The text by which a choice has grown; that of a draw that was cut does not count."""
        if choice.draw in self._abort:
            choice.fresh.clear()
            choice.ready = choice.held = ""
            choice.finish = Finish.aborted if choice.finish else None
            return ""
        return choice.show()

    def _told(self, choice: Choice, text: str, over: bool) -> Iterator[Chunk]:
        """What there is to tell of a choice that has grown; once all are `over`, they wait for the bill."""
        known = (choice.certain or self.ending is not None) and (self._trusted or not self.unseen)
        complete = None
        if choice.finish is not None and known and not over:
            text += choice.settle()
            complete = choice.completion()
        new, choice.shown = choice.tokens - choice.shown, choice.tokens
        if text or new or complete is not None:
            yield Chunk(choice.draw, text, new, complete, logprobs=choice.signals() if self.watched else None)

    def end(self, *, cut: bool = False) -> list[Chunk]:
        """The completions that waited for the bill; with `cut`, those of choices that never ended as well."""
        if self.unbounded:
            for choice in self._choices:
                if choice.seen and choice.finish is None:
                    choice.cut()
        held = [c for c in self._choices if not c.down and (c.finish is not None or (cut and not self.unbounded))]
        more, bill = [0] * len(held), self._usage
        if bill is not None and self.over:
            unbilled = bill.output_tokens - sum(c.tokens for c in self._choices)
            self._learn(unbilled)
            more = _apportioned(unbilled, [c.tokens for c in held])
        elif held and len(self._choices) > 1:
            more[-1] = self._stray
        if bill is not None and len(self._choices) > 1:
            bill = replace(bill, reasoning_tokens=None)
        bills = [bill or self._prompt, *(UNBILLED for _ in held)]
        return [self._closed(*parts) for parts in zip(held, more, bills, strict=False)]

    def _learn(self, unbilled: int) -> None:
        ends = sum(not c.certain and c.finish in ENDS for c in self._choices)
        uncounted = unbilled + ends * (self.ending or 0)
        if ends and uncounted in (0, ends):
            self.ending = uncounted // ends
        else:
            self.miscounted = unbilled != 0

    def _closed(self, choice: Choice, more: int, bill: Usage) -> Chunk:
        """The last chunk of a choice, with the tokens that the bill adds to those that were counted.

        However little is billed, every piece that was seen was a token.
        """
        before, choice.tokens = choice.shown, max(choice.tokens + more, choice.pieces)
        text = choice.show() + choice.settle()
        return Chunk(choice.draw, text, choice.tokens - before, choice.completion(bill))


def _apportioned(total: int, weights: Sequence[int]) -> list[int]:
    """Whole numbers that sum to `total`, in proportion to the weights as far as possible."""
    whole = sum(weights) or len(weights)
    shares = [total * w // whole for w in weights] if sum(weights) else [total // whole] * len(weights)
    if shares:
        shares[-1] += total - sum(shares)
    return shares
