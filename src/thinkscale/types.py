"""The nouns: frozen records that every other module speaks in. They know nothing of engines, budgets or files.

Data flows one way: `Problem → Method → Session → Engine → Completion → Trace → Score → Ranking → Outcome`.
Usage numbers are inclusive buckets, not disjoint ones: `reasoning_tokens` is part of `output_tokens`, `cached_tokens`
is part of `input_tokens`. `None` means "the engine did not say" and is not 0.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from enum import StrEnum
from itertools import chain

Path = tuple[int, ...]
"""Where a trace sits in the tree of forks; `(3,)` is the fourth draw, `(3, 1)` its second continuation."""


class Origin(StrEnum):
    """Who wrote a segment."""

    sampled = "sampled"
    """The model."""
    injected = "injected"
    """We did: a nudge, a closing marker, a hint. It never counts as generated and confidence skips it."""


class Finish(StrEnum):
    """Why a trace ended. `length` and `budget` are different things and are never merged."""

    open = "open"
    """It has not ended: nothing was sampled since the last injection."""
    stop = "stop"
    """A stop string fired; `stop_string` says which one."""
    eos = "eos"
    """The model ended its turn."""
    length = "length"
    """The cap that the method set for this call was reached."""
    budget = "budget"
    """Our budget ran out before the cap."""
    aborted = "aborted"
    """We cancelled it; the tokens generated until then are charged."""
    error = "error"
    """The engine failed; `error` says how."""


class Stopped(StrEnum):
    """Why a run ended."""

    done = "done"
    """The method did everything it set out to do."""
    enough = "enough"
    """A stop rule was satisfied before all draws were spent."""
    budget = "budget"
    """The budget ran out first; the answer is the best one it bought."""
    error = "error"
    """No attempt could be made: the engine failed every time."""
    cancelled = "cancelled"
    """It was told to; the answer is the best one there was by then."""


class AnswerKind(StrEnum):
    """What an answer is: how it is found in a text and compared with another.

    `auto` and `math` are wishes, the others also what a single answer turns out to be. A wish says what to look for
    first; an answer that is not of that kind is read by its look.
    """

    auto = "auto"
    """Decide from the question, and where it says nothing from each answer's look; words are the last resort."""
    math = "math"
    """Any mathematical answer: a number, an expression, a relation, a list, a matrix or a quantity."""
    number = "number"
    expression = "expression"
    relation = "relation"
    quantity = "quantity"
    """A number with a unit or a currency."""
    list = "list"
    """A bare list, a set, a tuple or an interval."""
    matrix = "matrix"
    choice = "choice"
    yes_no = "yes-no"
    date = "date"
    time = "time"
    """A time of day."""
    code = "code"
    json = "json"
    tool_calls = "tool-calls"
    text = "text"


class LogprobSpace(StrEnum):
    """Which distribution log-probabilities were read from."""

    raw = "raw"
    """The model's own output, before temperature, bias and truncation."""
    processed = "processed"
    """What was sampled from: after bias, bans, temperature, top-k, top-p and min-p."""


@dataclass(frozen=True, slots=True)
class Message:
    """One chat message; `content` is text, or a tuple of OpenAI-style parts when it carries images."""

    role: str
    content: str | tuple[Mapping[str, object], ...]
    extra: Mapping[str, object] = field(default_factory=dict)
    """Any further field of the wire format (`name`, `tool_calls`, `tool_call_id`), passed on untouched."""

    @property
    def text(self) -> str:
        """The content, or the text among its parts, one paragraph each."""
        if isinstance(self.content, str):
            return self.content
        return "\n\n".join(str(part.get("text") or "") for part in self.content if part.get("type") == "text")


@dataclass(frozen=True, slots=True, kw_only=True)
class Problem:
    """What is asked. Reference answers are not part of it, so no method can read them."""

    messages: tuple[Message, ...]
    id: str = ""
    answer_kind: AnswerKind = AnswerKind.auto
    tools: tuple[Mapping[str, object], ...] = ()
    metadata: Mapping[str, object] = field(default_factory=dict)

    @classmethod
    def of(cls, question: str, answer_kind: AnswerKind = AnswerKind.auto) -> Problem:
        """A problem of one user message."""
        return cls(messages=(Message("user", question),), answer_kind=answer_kind)

    @property
    def question(self) -> str:
        """The text of the last user message that has any, or the empty string."""
        return next((text for m in reversed(self.messages) if m.role == "user" and (text := m.text)), "")


@dataclass(frozen=True, slots=True, kw_only=True)
class Sampling:
    """How tokens are drawn. A field left at `None` is the engine's own default."""

    temperature: float | None = None
    top_p: float | None = None
    top_k: int | None = None
    min_p: float | None = None
    max_tokens: int | None = None
    """Cap on the tokens generated by one call."""
    min_tokens: int = 0
    """The model may not end its turn before this many tokens."""
    stop: tuple[str, ...] = ()
    """Strings that end a call; the string itself is not part of the text."""
    seed: int | None = None
    logprobs: int | None = None
    """`None`: none; 0: of the sampled tokens; k: of the k likeliest as well."""
    logprob_space: LogprobSpace = LogprobSpace.raw
    logit_bias: Mapping[int, float] = field(default_factory=dict)
    """Added to the logits of these token ids before sampling; minus infinity bans a token."""
    banned: tuple[str, ...] = ()
    """Texts that must not be produced; each is one token in the model's vocabulary."""
    grammar: str | None = None
    """A GBNF grammar that the text must follow."""
    thinking_budget: int | None = None
    """Native cap on thinking tokens, for engines that have one."""
    effort: str | None = None
    response_format: Mapping[str, object] | None = None
    """OpenAI's field: `{"type": "json_object"}` or `{"type": "json_schema", "json_schema": {"schema": …}}`."""
    extra: Mapping[str, object] = field(default_factory=dict)
    """Unknown fields of a caller's request, passed on untouched."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Usage:
    """What was spent. Adding two keeps `None` only where both sides did not know."""

    calls: int = 0
    """Completions asked for: a request for n draws is n calls."""
    input_tokens: int | None = None
    """Prompt tokens, summed over calls; a prefix shared by n draws counts once."""
    cached_tokens: int | None = None
    """The part of `input_tokens` that the engine served from its cache."""
    output_tokens: int = 0
    """Tokens generated on the user's behalf, in every attempt, shown or not."""
    reasoning_tokens: int | None = None
    """The part of `output_tokens` that the engine reported as thinking."""
    seconds: float = 0.0
    """Time from the first call to the last answer as the clock on the wall saw it; not additive over parallel calls."""
    usd: float | None = None

    def __add__(self, other: Usage) -> Usage:
        return Usage(
            calls=self.calls + other.calls,
            input_tokens=_plus(self.input_tokens, other.input_tokens),
            cached_tokens=_plus(self.cached_tokens, other.cached_tokens),
            output_tokens=self.output_tokens + other.output_tokens,
            reasoning_tokens=_plus(self.reasoning_tokens, other.reasoning_tokens),
            seconds=self.seconds + other.seconds,
            usd=self.usd if other.usd is None else other.usd + (self.usd or 0.0),
        )


def _plus(a: int | None, b: int | None) -> int | None:
    if a is None or b is None:
        return b if a is None else a
    return a + b


@dataclass(frozen=True, slots=True, kw_only=True)
class Logprobs:
    """Per-token signals of one segment; every non-empty tuple has one entry per sampled token, in nats."""

    space: LogprobSpace
    chosen: tuple[float, ...]
    """Log-probability of each sampled token, the one that ended the text included."""
    logsumexp: tuple[float, ...] = ()
    """log Σ exp(z) over the vocabulary, for logits z in `space`."""
    mean_logit: tuple[float, ...] = ()
    """Mean of z over the vocabulary; with `logsumexp` it gives exact self-certainty (Kang et al. 2025)."""
    vocab: int = 0
    """Vocabulary size V behind `mean_logit`; 0 when unknown."""
    top: tuple[tuple[tuple[int, float], ...], ...] = ()
    """The k likeliest (token id, log-probability) pairs at each position, best first."""
    entropy: tuple[float, ...] = ()
    """Entropy of the whole next-token distribution in `space`, never of its k likeliest tokens alone."""
    texts: tuple[str, ...] = ()
    """How each sampled token is spelled, where the engine says so."""
    top_texts: tuple[tuple[str, ...], ...] = ()
    """The same of the tokens in `top`."""

    def __add__(self, other: Logprobs) -> Logprobs:
        return Logprobs.joined((self, other))

    @staticmethod
    def joined(parts: Sequence[Logprobs]) -> Logprobs:
        """One record of one or more that follow each other, in time linear in their tokens."""
        if len(parts) == 1:
            return parts[0]
        return Logprobs(
            space=parts[0].space,
            chosen=tuple(chain.from_iterable(p.chosen for p in parts)),
            logsumexp=tuple(chain.from_iterable(p.logsumexp for p in parts)),
            mean_logit=tuple(chain.from_iterable(p.mean_logit for p in parts)),
            vocab=next((p.vocab for p in parts if p.vocab), 0),
            top=tuple(chain.from_iterable(p.top for p in parts)),
            entropy=tuple(chain.from_iterable(p.entropy for p in parts)),
            texts=tuple(chain.from_iterable(p.texts for p in parts)),
            top_texts=tuple(chain.from_iterable(p.top_texts for p in parts)),
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class Segment:
    """A run of text from one hand."""

    text: str
    origin: Origin
    tokens: int = 0
    """Tokens the model generated for it (0 when injected); the token that ended the text is counted."""
    token_ids: tuple[int, ...] = ()
    """Ids that spell exactly `text`, when the engine gives them: a continuation by ids re-tokenises nothing."""
    logprobs: Logprobs | None = None
    model: str = ""
    tool_calls: tuple[Mapping[str, object], ...] = ()
    """Calls of tools that the model wants made, in OpenAI's form; they follow the text."""


@dataclass(frozen=True, slots=True)
class Answer:
    """What an attempt says: the words it used, and the canonical key under which it votes."""

    text: str
    key: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Score:
    """What a scorer thinks of one trace. Raw votes are kept, because pessimistic and Beta rules need the counts."""

    value: float
    """Larger is better; `-inf` when the trace cannot be judged."""
    kind: str
    """Name of the scorer."""
    steps: tuple[float, ...] = ()
    votes: tuple[float, ...] = ()
    note: str = ""
    usage: Usage = Usage()


@dataclass(frozen=True, slots=True, kw_only=True)
class Trace:
    """One attempt, partial or finished. A search tree is just traces with longer paths."""

    prompt: tuple[Message, ...]
    segments: tuple[Segment, ...] = ()
    finish: Finish = Finish.open
    stop_string: str | None = None
    path: Path = ()
    answer: Answer | None = None
    scores: tuple[Score, ...] = ()
    error: str | None = None

    @property
    def text(self) -> str:
        """Everything after the prompt, injected text included."""
        return "".join(s.text for s in self.segments)

    @property
    def tokens(self) -> int:
        """Tokens sampled, in all segments."""
        return sum(s.tokens for s in self.segments)

    @property
    def done(self) -> bool:
        """Whether nothing more can be sampled from it without a new decision."""
        return self.finish not in (Finish.open, Finish.stop)

    def inject(self, text: str) -> Trace:
        """The same trace with our own text appended, open again."""
        if not text:
            return self
        added = Segment(text=text, origin=Origin.injected)
        return replace(self, segments=(*self.segments, added), finish=Finish.open, stop_string=None)

    def scored(self, score: Score) -> Trace:
        """The same trace with one more score."""
        return replace(self, scores=(*self.scores, score))


@dataclass(frozen=True, slots=True, kw_only=True)
class Vote:
    """One answer class in a ranking."""

    answer: str
    """The words of the first trace of the class."""
    key: str
    count: int
    weight: float


@dataclass(frozen=True, slots=True, kw_only=True)
class Ranking:
    """What a selection rule returns: the winner and how the votes fell, heaviest first."""

    best: Trace | None
    votes: tuple[Vote, ...] = ()
    confidence: float | None = None
    """In [0, 1]: the winner's share of the votes unless the rule says otherwise; `None` without an opinion."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Outcome:
    """What a method returns. The whole pool is kept, so another rule can be applied later without a new call."""

    best: Trace | None
    answer: str | None
    confidence: float | None = None
    votes: tuple[Vote, ...] = ()
    traces: tuple[Trace, ...] = ()
    stopped: Stopped = Stopped.done
    usage: Usage = Usage()
    warnings: tuple[str, ...] = ()
    run: str = ""
    """Name under which the store keeps the run; empty when it was not recorded."""
    needed: int | None = None
    """Tokens that the stop rule needed, as against those that were paid for; `None` where no rule was asked."""

    @classmethod
    def of(cls, ranking: Ranking, traces: Sequence[Trace]) -> Outcome:
        """The outcome of applying a selection rule to a pool."""
        best = ranking.best
        answer = best.answer.text if best is not None and best.answer is not None else None
        return cls(
            best=best,
            answer=answer,
            confidence=ranking.confidence,
            votes=ranking.votes,
            traces=tuple(traces),
        )
