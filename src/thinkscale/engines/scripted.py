"""A fake that says what it is told and checks what it is asked. Words are its tokens. Public, for tests and docs.

A script is either a list, whose lines are spoken in the order in which draws are asked for, or a function from a `Cue`
to a line, which does not depend on that order and so suits concurrent tests.
"""

from __future__ import annotations

import asyncio
import math
import re
from collections.abc import AsyncGenerator, Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from types import CellType, CodeType

from thinkscale.engines.protocol import Abort, Capabilities, Capability, Chunk, Completion, Price, Request, ThinkFormat
from thinkscale.errors import EngineError
from thinkscale.identity import digest
from thinkscale.types import Finish, Logprobs, LogprobSpace, Sampling, Usage

EVERYTHING = frozenset(Capability) - {Capability.thinking_budget}
NAME = "scripted"
_WORD = re.compile(r"\s*\S+|\s+$")


@dataclass(frozen=True, slots=True, kw_only=True)
class Cue:
    """What the engine was asked for one draw."""

    prompt: str
    """Content of the last message."""
    prefix: str
    """The partial assistant turn, injected text included."""
    sampling: Sampling
    seed: int
    number: int
    """How many draws were asked for before this one."""
    continuation: str | None = None
    steps: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class Line:
    """What to say at one cue, and what the cue must be; a field left at `None` is not checked."""

    says: str = ""
    finish: Finish = Finish.eos
    """How it ends, unless a stop string or the cap comes first."""
    logprob: float | tuple[float, ...] = -0.5
    """Log-probability of every word, below 0, or of one word after the other, of which the last stays."""
    rewards: tuple[float, ...] | None = None
    """What a reward model says of the steps it is shown; `None` is 0.5 each."""
    calls: tuple[Mapping[str, object], ...] = ()
    """Calls of tools that follow the words, in OpenAI's form; they cost no tokens, and a capped draw makes none."""
    reasoning: int | None = None
    """Words that the engine reports as thinking."""
    pace: float | None = None
    """Seconds per word; `None` says everything at once."""
    fails: EngineError | None = None
    """Raised instead of speaking."""
    prompt: str | None = None
    prefix: str | None = None
    max_tokens: int | None = None
    stop: tuple[str, ...] | None = None


class Scripted:
    """An engine that speaks lines.

    Args:
        script: lines or bare texts, or a function that gives one for a cue. Without one it says that it has no script.
            What one script said is not replayed for another, as far as two scripts can be told apart.
        can: its capabilities; all but a native thinking budget unless said otherwise.
        context: most words of prompt and answer.
        think: how it marks its thinking.
        price: what it pretends to cost.

    Raises:
        AssertionError: a cue is not what its line expects, or there are no lines left. It ends the run: unlike an
            engine's failure, a broken expectation is not data.
    """

    def __init__(
        self,
        script: Sequence[Line | str] | Callable[[Cue], Line | str] | None = None,
        *,
        can: frozenset[Capability] = EVERYTHING,
        context: int | None = None,
        concurrency: int = 1024,
        think: ThinkFormat | None = None,
        price: Price | None = None,
    ) -> None:
        self.script = (lambda _: "I have no script.") if script is None else script
        self.cues: list[Cue] = []
        self.spent = Usage()
        """Everything that was ever generated here, for checking bills."""
        self._capabilities = Capabilities(
            model=_identity(script),
            name=NAME,
            can=can,
            context=context,
            concurrency=concurrency,
            think=think,
            price=price,
        )

    @property
    def capabilities(self) -> Capabilities:
        """What this engine pretends to be."""
        return self._capabilities

    def count(self, request: Request) -> int:
        """Words of the prompt and the prefix."""
        spoken = [str(m.content) for m in request.messages] + [s.text for s in request.prefix]
        return sum(len(_WORD.findall(text)) for text in spoken)

    async def open(self) -> None:
        """Nothing to ask."""

    async def stream(self, request: Request, abort: Abort | None = None) -> AsyncGenerator[Chunk, None]:
        """Speak one line per draw."""
        abort = abort or Abort()
        speeches = [
            _Speech(self._line(request, seed), request, i, self.count(request)) for i, seed in enumerate(request.seeds)
        ]
        for speech in speeches:
            if speech.line.fails:
                raise speech.line.fails
        while speeches:
            for speech in speeches:
                if speech.index in abort or speech.over or speech.line.pace is None:
                    chunk = speech.end(aborted=speech.index in abort and speech.line.pace is not None)
                else:
                    chunk = speech.word()
                self.spent += chunk.completion.usage if chunk.completion else Usage()
                yield chunk
            speeches = [s for s in speeches if not s.ended]
            if speeches:
                await asyncio.sleep(min(s.line.pace or 0.0 for s in speeches))

    async def aclose(self) -> None:
        """Nothing to release."""

    def _line(self, request: Request, seed: int) -> Line:
        cue = Cue(
            prompt=str(request.messages[-1].content),
            prefix="".join(s.text for s in request.prefix),
            sampling=request.sampling,
            seed=seed,
            number=len(self.cues),
            continuation=request.continuation,
            steps=request.steps,
        )
        self.cues.append(cue)
        if callable(self.script):
            said = self.script(cue)
        else:
            assert cue.number < len(self.script), f"the script has {len(self.script)} lines, asked for one more: {cue}"
            said = self.script[cue.number]
        line = Line(says=said) if isinstance(said, str) else said
        _check(line, cue)
        return line


def _identity(script: Sequence[Line | str] | Callable[[Cue], Line | str] | None) -> str:
    """The name of a script: of its lines, or of what a function does and the plain values that it holds on to."""
    if script is not None and not callable(script):
        return f"{NAME}-{digest(*map(repr, script))[:16]}"
    code = getattr(script, "__code__", None)
    if code is None:
        return NAME
    return f"{NAME}-{digest(*_instructions(code), *map(_plain, getattr(script, '__closure__', None) or ()))[:16]}"


def _plain(held: CellType) -> str:
    """A value that a function holds on to, where that tells more than who made it; nothing where it has none yet."""
    try:
        value = held.cell_contents
    except ValueError:
        return ""
    return repr(value) if isinstance(value, str | int | float | None) else ""


def _instructions(code: CodeType) -> Iterator[str | bytes]:
    """What a function does, wherever it is written."""
    yield code.co_code
    yield repr(code.co_names)
    for value in code.co_consts:
        if isinstance(value, CodeType):
            yield from _instructions(value)
        elif not isinstance(value, frozenset):  # which has no order
            yield repr(value)


def _check(line: Line, cue: Cue) -> None:
    expected = (
        ("prompt", line.prompt, cue.prompt),
        ("prefix", line.prefix, cue.prefix),
        ("max_tokens", line.max_tokens, cue.sampling.max_tokens),
        ("stop", line.stop, cue.sampling.stop),
    )
    for name, wanted, seen in expected:
        assert wanted is None or wanted == seen, f"draw {cue.number}: expected {name}={wanted!r}, was asked {seen!r}"


@dataclass(slots=True)
class _Speech:
    """One draw while it is spoken."""

    line: Line
    request: Request
    index: int
    prompt_words: int
    words: list[str] = field(init=False)
    finish: Finish = field(init=False)
    stop_string: str | None = field(init=False, default=None)
    said: int = 0
    ended: bool = False

    def __post_init__(self) -> None:
        text, self.finish = "" if self.request.steps else self.line.says, self.line.finish
        if self.request.continuation is not None:
            text = self.request.continuation
        cuts = [(text.find(s), s) for s in self.request.sampling.stop if s in text]
        if cuts and self.request.continuation is None:
            at, self.stop_string = min(cuts)
            text, self.finish = text[:at], Finish.stop
        self.words = _WORD.findall(text)
        cap = self.request.sampling.max_tokens
        if self.request.continuation is None and cap is not None and len(self.words) > cap:
            self.words, self.finish, self.stop_string = self.words[:cap], Finish.length, None

    @property
    def over(self) -> bool:
        return self.said >= len(self.words)

    def word(self) -> Chunk:
        self.said += 1
        signals = self._logprobs(self.said - 1, self.said) if self.request.apart else None
        return Chunk(self.index, self.words[self.said - 1], 1, logprobs=signals)

    def end(self, *, aborted: bool) -> Chunk:
        """The last chunk, with whatever has not been said yet unless the speech is cut short here."""
        rest = [] if aborted else self.words[self.said :]
        self.said += len(rest)
        self.ended = True
        spoken = self.words[: self.said]
        scored = self.request.continuation is not None
        completion = Completion(
            text="".join(spoken),
            finish=Finish.aborted if aborted and not self.over else self.finish,
            tokens=0 if scored else len(spoken),
            stop_string=self.stop_string,
            logprobs=self._logprobs(0, len(spoken)),
            usage=Usage(
                calls=1,
                input_tokens=self.prompt_words if self.index == 0 else 0,
                output_tokens=0 if scored else len(spoken),
                reasoning_tokens=self.line.reasoning,
            ),
            tool_calls=self.line.calls if self.finish is self.line.finish and not (aborted or scored) else (),
            rewards=self._rewards(),
        )
        return Chunk(self.index, "".join(rest), 0 if scored else len(rest), completion)

    def _rewards(self) -> tuple[float, ...]:
        given = self.line.rewards
        return (0.5,) * len(self.request.steps) if given is None else given

    def _logprobs(self, start: int, stop: int) -> Logprobs | None:
        """Signals of some of the words; each is one of two tokens, the other of which has what is left."""
        wanted = self.request.sampling.logprobs
        if wanted is None and self.request.continuation is None:
            return None
        given = self.line.logprob
        each = given if isinstance(given, tuple) else (given,)
        chosen = tuple(each[min(i, len(each) - 1)] for i in range(start, stop))
        pairs = [((0, p), (1, math.log(-math.expm1(p)) if p < 0 else -math.inf)) for p in chosen]
        return Logprobs(
            space=LogprobSpace.raw,
            chosen=chosen,
            logsumexp=(0.0,) * len(chosen),
            mean_logit=chosen,
            vocab=2,
            top=tuple(tuple(sorted(pair, key=lambda it: -it[1]))[:wanted] for pair in pairs) if wanted else (),
            entropy=tuple(-math.fsum(math.exp(x) * x for _, x in pair if x > -math.inf) for pair in pairs),
            texts=tuple(self.words[start:stop]),
            top_texts=tuple(
                tuple(word if i == 0 else "…" for i, _ in sorted(pair, key=lambda it: -it[1])[:wanted])
                for word, pair in zip(self.words[start:stop], pairs, strict=True)
            )
            if wanted
            else (),
        )
