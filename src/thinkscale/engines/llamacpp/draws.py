"""A request on its way through the worker (`Job`) and each of its draws (`Draw`). They know tokens, not cells."""

from __future__ import annotations

import asyncio
import json
from array import array
from collections import deque
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from sys import intern

import numpy as np

from thinkscale.engines.llamacpp.binding import library, quiet
from thinkscale.engines.llamacpp.cells import Strand
from thinkscale.engines.llamacpp.runtime import Grammar, Weights
from thinkscale.engines.llamacpp.sampling import NOTHING, Drawn, Rule, Signals
from thinkscale.engines.protocol import Abort, Chunk, Completion, Request
from thinkscale.engines.spelling import Speller
from thinkscale.engines.tail import Tail
from thinkscale.errors import EngineError
from thinkscale.types import Finish, Logprobs, LogprobSpace, Sampling, Usage

DEFAULT_TOKENS = 1024
"""Cap on a draw whose sampling sets none."""

Item = Chunk | EngineError | None
"""What a stream receives: news, the failure of the whole request, or the end."""


@dataclass(slots=True, eq=False)
class Job:
    """One request, from its arrival to the end of its last draw."""

    request: Request
    abort: Abort | None
    loop: asyncio.AbstractEventLoop
    mailbox: asyncio.Queue[list[Item]]
    closed: bool = False
    """Set from the event loop when nobody reads any more."""
    prompt: array[int] = field(default_factory=lambda: array("i"))
    continuation: list[int] = field(default_factory=list)
    limit: int = 0
    """Most tokens that one draw may sample."""
    plain: Rule = field(default_factory=Rule)
    early: Rule = field(default_factory=Rule)
    """The rule before `min_tokens`: ends of generation are banned as well."""
    gbnf: str | None = None
    queued: deque[Draw] = field(default_factory=deque)
    granted: list[Draw] = field(default_factory=list)
    """Draws with room set aside, waiting for the prompt to be read."""
    reading: Strand | None = None
    """The strand the prompt is being read into."""
    source: Strand | None = None
    """The strand that holds the whole prompt, if it is still cached."""
    cached: int | None = None
    """Prompt tokens that were in the cache when the request was let in."""
    left: int = 0
    """Draws without a completion."""
    scored: list[Signals] = field(default_factory=list)

    @property
    def scores(self) -> bool:
        """Whether it asks for the likelihood of a given text instead of draws."""
        return self.request.continuation is not None

    @property
    def waits(self) -> bool:
        """Whether something of it has no room yet."""
        return bool(self.queued) or (self.scores and self.reading is None)

    @property
    def most(self) -> int:
        """Tokens that one sequence of it may come to hold."""
        return len(self.prompt) + len(self.continuation) + self.limit

    def aborts(self, index: int) -> bool:
        """Whether somebody wants one of its draws ended."""
        return self.abort is not None and index in self.abort

    def bill(self, index: int, tokens: int) -> Usage:
        """The usage of a draw: the first one carries the prompt."""
        first = index == 0
        total = len(self.prompt) + len(self.continuation)
        return Usage(
            calls=1,
            input_tokens=total if first else 0,
            cached_tokens=(self.cached or 0) if first else 0,
            output_tokens=tokens,
        )


@dataclass(slots=True, eq=False)
class Draw:
    """One attempt at a request: its random stream, its text so far and the token that goes in next."""

    job: Job
    index: int
    random: np.random.Generator
    tail: Tail
    grammar: Grammar | None = None
    strand: Strand | None = None
    tokens: list[int] = field(default_factory=list)
    signals: list[Signals] = field(default_factory=list)
    finish: Finish = Finish.open
    error: str | None = None
    ended: bool = False
    """Whether the last token is an end of generation, which spells nothing."""

    @property
    def held(self) -> Strand:
        """The strand of a running draw."""
        assert self.strand is not None
        return self.strand

    @property
    def rule(self) -> Rule:
        """How its next token is drawn."""
        early = len(self.tokens) < self.job.request.sampling.min_tokens
        return self.job.early if early else self.job.plain

    def take(self, drawn: Drawn, speller: Speller, ends: frozenset[int]) -> str:
        """Take in a sampled token and return the text that is certain by now; sets `finish` when it ended the draw."""
        token = drawn.token
        if token == NOTHING:
            self.finish = Finish.error
            self.error = "no token has any probability left: the grammar, the bans and the bias exclude each other"
            return ""
        self.tokens.append(token)
        if drawn.signals is not None:
            self.signals.append(drawn.signals)
        if token in ends:
            self.finish, self.ended = Finish.eos, True
            return ""
        if self.grammar is not None:
            self.grammar.accept(token)
        news = self.tail.add(speller.piece(token))
        if self.tail.stopped is not None:
            self.finish = Finish.stop
        elif len(self.tokens) >= self.job.limit:
            self.finish = Finish.length
        return news

    def latest(self, vocabulary: int) -> Logprobs | None:
        """Signals of the token that was sampled last, for those who watch."""
        request = self.job.request
        if not request.apart or request.sampling.logprobs is None:
            return None
        return pack(self.signals[-1:], request.sampling, request.sampling.logprob_space, vocabulary)

    def complete(self, speller: Speller, vocabulary: int) -> tuple[str, Completion]:
        """The text still held back, and the completion."""
        rest = self.tail.finish()
        text = self.tail.text
        ids = self.tokens[:-1] if self.ended else self.tokens
        if self.tail.stopped is not None:
            ids = speller.cut(ids, text)
        self.close()
        sampling = self.job.request.sampling
        return rest, Completion(
            text=text,
            finish=self.finish,
            tokens=len(self.tokens),
            stop_string=self.tail.stopped,
            token_ids=tuple(ids),
            logprobs=None
            if sampling.logprobs is None
            else spelled(pack(self.signals, sampling, sampling.logprob_space, vocabulary), self.tokens, speller),
            usage=self.job.bill(self.index, len(self.tokens)),
            error=self.error,
        )

    def close(self) -> None:
        """Free the grammar state."""
        if self.grammar is not None:
            self.grammar.close()


def pack(signals: Sequence[Signals], sampling: Sampling, space: LogprobSpace, vocabulary: int) -> Logprobs:
    """Per-token signals as one record; `vocab` is 0 where a truncation left fewer tokens behind the mean."""
    whole = all(s.survivors == vocabulary for s in signals)
    return Logprobs(
        space=space,
        chosen=tuple(s.chosen for s in signals),
        logsumexp=tuple(s.logsumexp for s in signals),
        mean_logit=tuple(s.mean for s in signals),
        vocab=vocabulary if whole else 0,
        top=tuple(s.top for s in signals) if sampling.logprobs else (),
        entropy=tuple(s.entropy for s in signals),
    )


def spelled(told: Logprobs, tokens: Sequence[int], speller: Speller) -> Logprobs:
    """The record with the text of every token; a token that is a part of a character spells U+FFFD."""
    return replace(
        told,
        texts=tuple([intern(speller.spell([token])) for token in tokens]),
        top_texts=tuple([tuple([intern(speller.spell([token])) for token, _ in row]) for row in told.top]),
    )


def prepare(job: Job, weights: Weights, speller: Speller) -> None:
    """Fill in a job's rules, grammar and draws from its sampling.

    Raises:
        EngineError: for a banned text that is not one token, a bias outside the vocabulary, or a bad grammar.
    """
    sampling = job.request.sampling
    bias = dict(sampling.logit_bias)
    for token in bias:
        if not 0 <= token < weights.vocab_size:
            raise EngineError(
                f"`logit_bias` names token {token}, but the model has tokens 0 to {weights.vocab_size - 1}", status=400
            )
    bias.update((_single(text, speller), -np.inf) for text in sampling.banned)
    job.plain = _rule(sampling, bias)
    job.early = (
        _rule(sampling, bias | dict.fromkeys(weights.ends.tolist(), -np.inf)) if sampling.min_tokens else job.plain
    )
    job.gbnf = _gbnf(sampling)
    for index, seed in enumerate(job.request.seeds):
        random = np.random.Generator(np.random.Philox(key=seed & (2**64 - 1)))
        grammar = Grammar(weights, job.gbnf, checked=index > 0) if job.gbnf is not None else None
        job.queued.append(Draw(job, index, random, Tail(sampling.stop), grammar))
    job.left = len(job.queued)


def _rule(sampling: Sampling, bias: dict[int, float]) -> Rule:
    return Rule(
        temperature=1.0 if sampling.temperature is None else max(0.0, sampling.temperature),
        top_k=max(0, sampling.top_k or 0),
        top_p=1.0 if sampling.top_p is None else sampling.top_p,
        min_p=sampling.min_p or 0.0,
        bias=tuple(sorted(bias.items())),
        logprobs=sampling.logprobs,
        space=sampling.logprob_space,
    )


def _single(text: str, speller: Speller) -> int:
    ids = speller.continue_with(text, special=True)
    if len(ids) != 1 or speller.spell(ids) != text:
        raise EngineError(
            f"cannot ban {text!r}: this model spells it with {len(ids)} tokens, and a ban needs one token", status=400
        )
    return ids[0]


def _gbnf(sampling: Sampling) -> str | None:
    """The grammar of a request: its own, or one made from the JSON schema that it asks for."""
    wanted = sampling.response_format or {}
    if sampling.grammar is not None or wanted.get("type", "text") == "text":
        return sampling.grammar
    schema: object = {"type": "object"}
    if wanted.get("type") == "json_schema":
        outer = wanted.get("json_schema")
        schema = outer.get("schema", outer) if isinstance(outer, dict) else None
    elif wanted.get("type") != "json_object":
        schema = None
    if not isinstance(schema, dict):
        raise EngineError(
            f"cannot follow `response_format` {dict(wanted)}: pass `json_object`, or `json_schema` with a schema",
            status=400,
        )
    import xllamacpp  # noqa: PLC0415 — loads a second half of the runtime that few requests need

    quiet(library())
    try:
        return str(xllamacpp.json_schema_to_grammar(json.dumps(schema)))
    except (RuntimeError, ValueError, TypeError) as error:
        raise EngineError(f"the JSON schema cannot be turned into a grammar: {error}", status=400) from error
