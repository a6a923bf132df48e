"""One choice of a streamed reply while it grows: its text, tokens, calls and end. It knows no other choice."""

from __future__ import annotations

from dataclasses import dataclass, field, replace

from thinkscale.engines import guard
from thinkscale.engines.dialects import Piece
from thinkscale.engines.dialects.words import Word
from thinkscale.engines.http.calls import Calls
from thinkscale.engines.protocol import Completion, ThinkFormat
from thinkscale.engines.tail import Tail
from thinkscale.types import Finish, Logprobs, Usage

FILTERED = "the server's content filter ended the text"
ENDS = frozenset({Finish.eos, Finish.stop})
_GRAVE = (Finish.eos, Finish.stop, Finish.length, Finish.aborted, Finish.error)
"""Where a server gives several reasons, the last of these holds."""
UNBILLED = Usage()


@dataclass(slots=True)
class Choice:
    """One choice of a reply while it grows."""

    draw: int
    """Number of the draw that it is."""
    tail: Tail
    think: ThinkFormat
    cap: int = guard.DRAW
    """Most tokens that were asked for."""
    most: int = guard.longest(guard.DRAW)
    """Characters that no text of so many tokens has."""
    opened: bool = False
    """Whether the turn that it continues stands inside a thinking."""
    closed: bool = False
    """Whether that turn has a thinking behind it: what comes as thinking alone is then the answer."""
    alone: bool = False
    """Whether a thinking after which nothing comes is to be taken for the answer."""
    tokens: int = 0
    pieces: int = 0
    """Pieces that said something, each of at least a token."""
    characters: int = 0
    thought_tokens: int = 0
    certain: bool = False
    """Whether the server itself gave the number of tokens with the end."""
    thinking: bool = False
    careful: bool = False
    """Whether text that comes now is more than text: the end of a thinking, or the second half of a character."""
    logprobs: list[Logprobs] = field(default_factory=list)
    calls: Calls | None = None
    finish: Finish | None = None
    stop_string: str | None = None
    over_cap: bool = False
    """Whether it was ended here because it is longer than was asked for."""
    down: bool = False
    """Whether its completion has been given out."""
    ends: int = 0
    """Pieces that gave a reason for the end."""
    late: bool = False
    """Whether text came after a reason for the end."""
    fresh: list[str] = field(default_factory=list)
    """Text that came since it was last shown."""
    ready: str = ""
    """Text before that which was looked through for stop strings, where there are some, or need not be."""
    held: str = ""
    """Thinking of which it is not known whether it is the answer."""
    halves: guard.Halves | None = None
    """Puts characters together, where some came in halves."""
    shown: int = 0
    """Tokens that were passed on."""
    told: int = 0
    """Pieces with log-probabilities that were passed on."""

    @property
    def seen(self) -> bool:
        """Whether the server has said anything about it."""
        return self.tokens > 0 or self.finish is not None

    @property
    def growing(self) -> bool:
        """Whether more of it may come, although a reason for its end may have been given."""
        return not (self.down or self.over_cap or self.tail.stopped is not None)

    def grow(self, piece: Piece, ending: int) -> None:
        """Take in a piece; a text that ends without saying its tokens has `ending` more than it has pieces."""
        if self.halves is not None:
            piece = _mended(piece, self.halves)
        if (piece.text or piece.thought or piece.calls) and piece.sampled != 0:
            self.pieces += 1
            self.characters += len(piece.text) + len(piece.thought)
            self.late |= self.finish is not None
        self.tokens = max(self.tokens + self._new(piece, ending), self.pieces)
        if piece.thought or self.careful:
            self._mark(piece)
            self.careful = self.thinking or self.held != "" or self.halves is not None
        elif piece.text:
            self.fresh.append(piece.text)
        if piece.logprobs is not None:
            self.logprobs.append(piece.logprobs)
        if piece.calls:
            self.calls = self.calls or Calls()
            self.characters += sum(map(self.calls.add, piece.calls))
        if piece.finish is not None:
            self._end(piece)
        if self.tokens > self.cap or self.characters > self.most:
            self.cut()

    def say(self, word: Word) -> None:
        """Take in a piece that is nothing but text."""
        if word.thought or self.careful:
            self.grow(word.piece, 0)
            return
        text, total = word.text, word.total
        self.fresh.append(text)
        self.characters += len(text)
        self.pieces += text != ""
        if total is None:
            self.tokens += text != ""
        elif total > self.tokens:
            believed = total <= self.cap or total <= guard.possible(self.cap, self.characters)
            self.tokens = total if believed else self.tokens + (text != "")
        if self.tokens > self.cap or self.characters > self.most:
            self.cut()

    def cut(self) -> None:
        """End it here, because it is longer than was asked for, and count what was seen of it."""
        self.over_cap, self.finish, self.stop_string = True, Finish.length, None
        self.tokens = max(self.tokens, guard.estimated(self.pieces, self.characters))

    def show(self) -> str:
        """The text that has become certain since the last time."""
        text = "".join(self.fresh)
        self.fresh.clear()
        shown = self.tail.add(text, last=self.finish is not None)
        if self.ready:
            shown, self.ready = self.ready + shown, ""
        if self.tail.stopped is not None:
            self.finish, self.stop_string = Finish.stop, self.tail.stopped
        return shown

    def settle(self) -> str:
        """The end of the text: what was held back, and the answer where it came as thinking."""
        if self.halves is not None:
            self.fresh.append(self.halves.mend("", last=True))
        if self.held:
            self.fresh.append(self.held)
            self.held, self.thought_tokens = "", 0
        elif self.alone and self.thinking and self.finish is Finish.eos and self.calls is None:
            text, close = self.tail.text, self.think.close
            if close not in text:
                self.fresh += [close, text.removeprefix(self.think.open)]
        return (self.show() if self.fresh else "") + self.tail.finish()

    def signals(self) -> Logprobs | None:
        """The log-probabilities that came since they were last passed on."""
        new, self.told = self.logprobs[self.told :], len(self.logprobs)
        return Logprobs.joined(new) if new else None

    def completion(self, bill: Usage = UNBILLED) -> Completion:
        """What the choice has become; `bill` says what is known of its prompt and its thinking."""
        self.down = True
        thought = self.thought_tokens or None if bill.reasoning_tokens is None else bill.reasoning_tokens
        return Completion(
            text=self.tail.text,
            finish=self.finish or Finish.aborted,
            tokens=self.tokens,
            stop_string=self.stop_string,
            logprobs=Logprobs.joined(self.logprobs) if self.logprobs else None,
            error=FILTERED if self.finish is Finish.error else None,
            tool_calls=() if self.calls is None else self.calls.all(),
            usage=Usage(
                calls=1,
                input_tokens=bill.input_tokens,
                cached_tokens=bill.cached_tokens,
                output_tokens=self.tokens,
                reasoning_tokens=None if thought is None else min(thought, self.tokens),
            ),
        )

    def _new(self, piece: Piece, ending: int) -> int:
        if piece.total is not None and piece.total <= guard.possible(self.cap, self.characters):
            new = max(0, piece.total - self.tokens)
        elif piece.sampled is not None:
            new = piece.sampled
        else:
            new = 1 if piece.text or piece.thought or piece.calls else 0
        if piece.finish is not None and piece.total is None and piece.finish in ENDS and self.finish is None:
            new += ending
        if piece.thought and not piece.text:
            self.thought_tokens += new
        return new

    def _end(self, piece: Piece) -> None:
        self.ends += 1
        if self.finish is None or _GRAVE.index(piece.finish or Finish.eos) > _GRAVE.index(self.finish):
            self.finish, self.stop_string = piece.finish, piece.stop_string
        self.certain = piece.total is not None

    def _mark(self, piece: Piece) -> None:
        """Take over the piece as the model's family writes it, thinking between its markers."""
        answers = bool(piece.text or piece.calls)
        thought = piece.thought
        if self.closed:
            self.held += thought
            if not answers:
                return
            thought, self.held = self.held, ""
        if thought and not self.thinking:
            thought = ("" if self.opened else self.think.open) + thought
            self.thinking, self.opened = True, False
        if answers and self.thinking:
            self.thinking, self.closed = False, False
            thought += self.think.close
        if self.tail.stops and thought:
            # A stop string is the client's word for the end of an answer, and no word of the thinking.
            before = "".join(self.fresh)
            self.fresh.clear()
            self.ready += self.tail.add(before) + self.tail.skip(thought)
        elif thought:
            self.fresh.append(thought)
        if piece.text:
            self.fresh.append(piece.text)


def _mended(piece: Piece, halves: guard.Halves) -> Piece:
    """The piece with whole characters, and with spellings of tokens that can be written down."""
    signals = piece.logprobs
    if signals is not None:
        top = tuple(tuple(map(guard.writable, row)) for row in signals.top_texts)
        signals = replace(signals, texts=tuple(map(guard.writable, signals.texts)), top_texts=top)
    return replace(piece, text=halves.mend(piece.text), thought=halves.mend(piece.thought), logprobs=signals)
