"""What a model writes: attempts, who wrote which part of them, their signals, answers and scores."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, fields, replace
from enum import StrEnum
from itertools import chain

from thinkscale.types.prompts import LogprobSpace, Message
from thinkscale.types.usage import Usage

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

    @property
    def ended(self) -> bool:
        """Whether the model came to an end that it chose."""
        return self in (Finish.eos, Finish.stop)

    @property
    def cut(self) -> bool:
        """Whether a limit came before the model's own end."""
        return self in (Finish.length, Finish.budget)

    @property
    def lost(self) -> bool:
        """Whether it was cancelled or failed, so that its text answers nothing."""
        return self in (Finish.aborted, Finish.error)


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

    def split(self, tokens: int) -> tuple[Logprobs, Logprobs]:
        """The signals of the first tokens, and those of the rest."""
        return self._part(slice(None, tokens)), self._part(slice(tokens, None))

    def _part(self, part: slice) -> Logprobs:
        lists = {f.name: getattr(self, f.name) for f in fields(self) if f.name not in ("space", "vocab")}
        return replace(self, **{name: tuple(values[part]) for name, values in lists.items()})  # type: ignore[arg-type]

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

    def split(self, tokens: int) -> tuple[Segment, Segment]:
        """The first sampled tokens, and the rest; where they meet is exact if `logprobs` has the tokens' texts."""
        known = self.logprobs.texts if self.logprobs else ()
        spelled = len(known) == self.tokens and "".join(known).startswith(self.text)
        at = len("".join(known[:tokens])) if spelled else len(self.text) * tokens // max(1, self.tokens)
        head, tail = self.logprobs.split(tokens) if self.logprobs else (None, None)
        return (
            replace(self, text=self.text[:at], tokens=tokens, token_ids=(), logprobs=head, tool_calls=()),
            replace(self, text=self.text[at:], tokens=self.tokens - tokens, token_ids=(), logprobs=tail),
        )


@dataclass(frozen=True, slots=True)
class Answer:
    """What an attempt says: the words it used, and the key under which it votes."""

    text: str
    key: str
    """The label of its class, once it is in a vote; its own key before."""
    own: str = ""
    """Its own key, where `key` is another one."""

    def labelled(self, label: str) -> Answer:
        """The same answer as a member of a class."""
        own = self.own or self.key
        return Answer(self.text, label, "" if label == own else own)


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
    tools: tuple[Mapping[str, object], ...] = ()
    """The tools of its problem."""
    parents: tuple[Path, ...] = ()
    """Paths of the traces that its prompt was made from: what it refines, aggregates or debates."""
    pruned: bool = False
    """Whether it was left behind: a branch of a search that was not followed, or a probe. It never has an answer."""

    @property
    def text(self) -> str:
        """Everything after the prompt, injected text included."""
        return self.segments[0].text if len(self.segments) == 1 else "".join(s.text for s in self.segments)

    @property
    def own_text(self) -> str:
        """What the model wrote of it, without what was injected."""
        return "".join(s.text for s in self.segments if s.origin is Origin.sampled)

    @property
    def tokens(self) -> int:
        """Tokens sampled, in all segments."""
        return self.segments[0].tokens if len(self.segments) == 1 else sum(s.tokens for s in self.segments)

    @property
    def growing(self) -> bool:
        """Whether its turn goes on: what was sampled last was a step, or nothing."""
        return self.finish in (Finish.open, Finish.length)

    def inject(self, text: str) -> Trace:
        """The same trace with our own text appended, open again."""
        if not text:
            return self
        added = Segment(text=text, origin=Origin.injected)
        return replace(self, segments=(*self.segments, added), finish=Finish.open, stop_string=None)

    def up_to_its_last_word(self) -> Trace:
        """The same trace without what was injected behind the model's last word; empty where it has none."""
        own = [i for i, s in enumerate(self.segments) if s.origin is Origin.sampled and s.text.strip()]
        return replace(self, segments=self.segments[: own[-1] + 1 if own else 0])

    def prune(self) -> Trace:
        """The same trace as one that is not followed any further: it keeps its cost and loses its answer."""
        return replace(self, pruned=True, answer=None)

    def split(self, tokens: int) -> tuple[Trace, Trace]:
        """The trace up to its first sampled tokens, and a trace of the rest.

        Exact where segments have their token's texts or end there; elsewhere a segment is cut at the character that is
        as far into it as the token is.

        Args:
            tokens: how many sampled tokens the first part has, 0 or more.

        Returns:
            The head, which is open and has no answer, and the tail, which ends as the whole does.
        """
        head: list[Segment] = []
        tail: list[Segment] = []
        for segment in self.segments:
            room = tokens - sum(s.tokens for s in head)
            if tail or (room <= 0 and segment.tokens):
                tail.append(segment)
            elif segment.tokens <= room:
                head.append(segment)
            else:
                first, rest = segment.split(room)
                head.append(first)
                tail.append(rest)
        if not tail:
            return self, replace(self, segments=())
        cut = replace(self, segments=tuple(head), finish=Finish.open, stop_string=None, answer=None, scores=())
        return cut, replace(self, segments=tuple(tail))

    def scored(self, score: Score) -> Trace:
        """The same trace with one more score."""
        return replace(self, scores=(*self.scores, score))
