"""The state that all sessions of a run share: seed, memory, roles, journal, warnings, clock. It makes no decisions."""

from __future__ import annotations

import asyncio
import math
import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass, field, replace
from typing import Protocol

from thinkscale.answers import extract
from thinkscale.answers.algebra import Memory as Verdicts
from thinkscale.answers.partition import Vote
from thinkscale.budget import Ledger
from thinkscale.engines.protocol import Engine, Price
from thinkscale.errors import EngineError
from thinkscale.identity import prompt_name, sampling_name, text_name
from thinkscale.session.flight import Memory
from thinkscale.session.landing import Landing, Slots
from thinkscale.types import Answer, AnswerKind, Finish, Message, Path, Problem, Sampling, Trace, Usage


class Journal(Protocol):
    """Where finished traces are written down."""

    def record(self, trace: Trace, role: str) -> None:
        """Keep a trace; one with the same prompt, role and path is replaced."""
        ...


@dataclass(frozen=True, slots=True, kw_only=True)
class Event:
    """News for whoever watches a run."""

    path: Path
    role: str
    text: str = ""
    """What was just generated."""
    at: int = 0
    """Characters of this call before `text`. A call that broke off and is made again begins at 0 again."""
    tokens: int = 0
    """How many tokens that was."""
    trace: Trace | None = None
    """Set when the call ended."""
    replayed: bool = False


@dataclass(slots=True, kw_only=True)
class Run:
    """One run: its problem and settings, its memory and observer, and what it has produced so far."""

    problem: Problem | None = None
    seed: int = 0
    roles: Mapping[str, Engine] = field(default_factory=dict)
    concurrency: int | None = None
    """Draws in flight at once; `None` leaves it to each engine. 1 makes the run serial."""
    memory: Memory | None = None
    frugal: bool = False
    """Whether only those known draws are charged that are needed one by one, or all that were once in flight."""
    continues: bool = False
    """Whether draws in which an earlier run was cut off go on from there instead of being made anew."""
    journal: Journal | None = None
    observe: Callable[[Event], None] | None = None
    pieces: bool = True
    """Whether `observe` is called for every piece of a text, or only for calls that ended."""
    closes: bool = True
    """Whether an attempt that its cap cut off is asked for its answer if no other attempt has one."""
    account: Ledger | None = None
    """The account of the run, once it is open; it has what was spent even if the run fails."""
    votes: dict[Path, Vote] = field(default_factory=dict)
    """The classes of answers, for every place in the tree of draws."""
    verdicts: Verdicts | None = None
    """Memory of algebra's verdicts on pairs of answers; `None` keeps them for one vote only."""
    warnings: dict[str, None] = field(default_factory=dict)
    failure: EngineError | None = None
    """The error of the last draw that failed; its trace has only the message."""
    replayed: int = 0
    """Calls that were answered from memory."""
    surplus: list[Trace] = field(default_factory=list)
    """Paid-for traces that the result does not rest on."""
    landings: set[Landing[Trace | None]] = field(default_factory=set)
    """The queues of draws in flight."""
    effects: set[asyncio.Future[object]] = field(default_factory=set)
    """Effects that are running."""
    leaves: dict[Path, Trace] = field(default_factory=dict)
    """The end of every branch that was grown step by step."""
    cancelled: bool = False
    """Whether the run was cancelled, and so ends with what it has."""
    turns: dict[tuple[str, str, str, Path], int] = field(default_factory=dict)
    """Number of draws from every start: (role, name of the prompt, name of the text, path)."""
    branches: dict[Path, int] = field(default_factory=dict)
    """Number of branches below every path."""
    _slots: dict[int, Slots] = field(default_factory=dict)
    _places: dict[int, int] = field(default_factory=dict)
    _prompt: tuple[Message, ...] = ()
    _question: str = ""
    _found: dict[tuple[str, AnswerKind, bool], Answer | None] = field(default_factory=dict)
    _named: tuple[tuple[Message, ...], str] | None = None
    _sampled: tuple[Sampling, str] | None = None

    def warn(self, message: str) -> None:
        """Keep a warning for the outcome, once."""
        self.warnings.setdefault(message)

    def fail(self, failure: EngineError) -> None:
        """Keep the error of a draw that failed."""
        self.failure = failure

    def places(self, engine: Engine) -> int:
        """How many draws an engine makes at once: read once, since the sizes of waves follow from it."""
        return self._places.setdefault(id(engine), engine.capabilities.concurrency)

    def slots(self, engine: Engine) -> Slots:
        """The places of an engine that this run may take."""
        if (slots := self._slots.get(id(engine))) is None:
            slots = self._slots[id(engine)] = Slots(self.concurrency or self.places(engine))
        return slots

    def record(self, trace: Trace, role: str, *, replayed: bool) -> None:
        """Record a finished call and report it to the observer."""
        self.replayed += replayed
        if self.journal:
            self.journal.record(trace, role)
        if self.observe:
            self.observe(Event(path=trace.path, role=role, trace=trace, replayed=replayed))

    def drop(self, trace: Trace, role: str) -> None:
        """Keep a trace that came too late to count: it was paid for, it never votes."""
        if trace.finish is not Finish.error:
            late = trace.error or "not needed: the stop rule was satisfied without it"
            trace = replace(trace, finish=Finish.aborted, answer=None, error=late)
        self.surplus.append(trace)
        if self.journal:
            self.journal.record(trace, role)

    def cancel(self) -> None:
        """End the run, whose account is open, as at its deadline, but without a closing question."""
        assert self.account is not None
        self.cancelled = True
        self.account.end()
        for landing in [*self.landings]:
            _expire(landing)
        for effect in [*self.effects]:
            effect.cancel()

    def watched(self, landing: Landing[Trace | None], ledger: Ledger) -> AbstractContextManager[None]:
        """A context in which what is in flight is aborted when the time of an account is up."""
        return nullcontext() if math.isinf(ledger.deadline) else _Alarm(landing, ledger)

    def name_of(self, messages: tuple[Message, ...], tools: tuple[Mapping[str, object], ...] = ()) -> str:
        """The name of a prompt with its tools; the last one is memoised."""
        if self._named is None or self._named[0] is not messages:
            self._named = (messages, prompt_name(messages, tools))
        return self._named[1]

    def sampling_of(self, sampling: Sampling) -> str:
        """The name of a sampling; the last one is memoised."""
        if self._sampled is None or self._sampled[0] is not sampling:
            self._sampled = (sampling, sampling_name(sampling))
        return self._sampled[1]

    def find(self, prompt: tuple[Message, ...], kind: AnswerKind, text: str, ended: bool) -> Answer | None:
        """The answer in a text, whole or cut off; equal texts behind one prompt are read once."""
        if self._prompt is not prompt:
            self._prompt, self._question, self._found = prompt, Problem(messages=prompt).question, {}
        asked = (text, kind, ended)
        if asked not in self._found:
            self._found[asked] = extract(text, kind, self._question, truncated=not ended)
        return self._found[asked]

    def vote(self, path: Path, kind: AnswerKind) -> Vote:
        """The classes of the answers at one place of the tree, which are one vote."""
        if path not in self.votes:
            self.votes[path] = Vote(kind, memory=self.verdicts)
        return self.votes[path]

    def number(self, role: str, start: Trace, n: int) -> int:
        """Number of the first of n new draws from a start: asking twice for the same thing gives other draws."""
        place = (role, self.name_of(start.prompt, start.tools), text_name(start.segments), start.path)
        turn = self.turns.get(place, 0)
        self.turns[place] = turn + n
        return turn

    def grow(self, old: Trace, new: Sequence[Trace]) -> None:
        """Note what a branch has grown into."""
        self.leaves.pop(old.path, None)
        self.leaves.update((trace.path, trace) for trace in new)

    def left_behind(self, traces: Sequence[Trace]) -> list[Trace]:
        """Branches that none of some traces continues: they were paid for, and are pruned."""
        followed = {trace.path[:i] for trace in traces for i in range(len(trace.path) + 1)}
        return [leaf.prune() for path, leaf in sorted(self.leaves.items()) if path not in followed]

    def branch(self, path: Path, n: int) -> list[Path]:
        """Paths of n new branches below a path."""
        first = self.branches.get(path, 0)
        self.branches[path] = first + n
        return [(*path, first + j) for j in range(n)]


@dataclass(slots=True)
class _Alarm:
    """Aborts draws in flight at the deadline of an account; a deadline that has moved is checked again."""

    landing: Landing[Trace | None]
    ledger: Ledger
    timer: asyncio.TimerHandle | None = None

    def __enter__(self) -> None:
        self._set(max(0.0, self._left))

    def __exit__(self, *_: object) -> None:
        if self.timer is not None:
            self.timer.cancel()

    @property
    def _left(self) -> float:
        return self.ledger.deadline - time.monotonic()

    def _look(self) -> None:
        if (left := self._left) > 0:
            self._set(left)
        else:
            _expire(self.landing)

    def _set(self, seconds: float) -> None:
        self.timer = asyncio.get_running_loop().call_later(seconds, self._look)


def _expire(landing: Landing[Trace | None]) -> None:
    landing.timed_out = True
    landing.abort.end()


def price_of(usage: Usage, price: Price | None) -> Usage:
    """A usage with its money worked out from list prices, where the engine did not say."""
    if price is None or usage.usd is not None:
        return usage
    spent = price.of(usage.input_tokens or 0, usage.output_tokens)
    return replace(usage, usd=spent)
