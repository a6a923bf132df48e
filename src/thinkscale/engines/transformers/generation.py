"""A request on its way (`Generation`) and each of its draws (`Draw`).

The prompt is read once, in pieces; its cache is copied once per draw, and all draws are decoded as one batch, one token
each per pass. A draw that ends leaves the batch.
"""

from __future__ import annotations

import copy
from collections import deque
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

import numpy as np
import torch

from thinkscale.engines.protocol import Chunk, Completion
from thinkscale.engines.tail import Tail
from thinkscale.engines.transformers.hooks import Pass
from thinkscale.engines.transformers.runtime import Runtime
from thinkscale.engines.transformers.sampling import NOTHING, Signals, draw, pack, processed, signals
from thinkscale.engines.transformers.worker import Job
from thinkscale.errors import CapabilityError, ContextError, EngineError
from thinkscale.types import Finish, Logprobs, LogprobSpace, Usage

if TYPE_CHECKING:
    from transformers import Cache

DEFAULT_TOKENS = 1024
"""Cap on a draw whose sampling sets none."""
PIECE = 512
"""Prompt tokens read in one pass where a model allows it, so that an abort is heard in a long prompt too."""


@dataclass(slots=True, eq=False)
class Draw:
    """One attempt at a request: its random stream and what it has said so far."""

    index: int
    random: np.random.Generator
    tail: Tail
    tokens: list[int] = field(default_factory=list)
    signals: list[Signals] = field(default_factory=list)
    finish: Finish = Finish.open
    error: str | None = None
    ended: bool = False
    """Whether the last token is an end of generation, which spells nothing."""


class Generation:
    """Draws of one request, or the likelihood of a given text.

    Args:
        job: the request, who waits for it and who wants it ended.
        runtime: the loaded model.
        context: most tokens of prompt and answer; `None` is no limit.
        slots: most draws in one batch; more take their turn after them.

    Raises:
        EngineError: the request cannot be served.
    """

    def __init__(self, job: Job, runtime: Runtime, *, context: int | None, slots: int) -> None:
        request, self._job, self._runtime = job.request, job, runtime
        _refuse_what_is_missing(job)
        self._bias = self._biases()
        self._prompt = runtime.prompts.encode(request)
        given = request.continuation
        self._given = runtime.speller.continue_with(given, special=False) if given else []
        self._limit = self._room(context)
        self._text = deque([*self._prompt, *self._given])
        """What has not been read yet."""
        self._cache: Cache | None = None
        self._first: torch.Tensor | None = None
        """Logits after the prompt, shape (1, vocabulary)."""
        self._scores: list[Signals] = []
        self._waiting = deque(
            Draw(i, np.random.Generator(np.random.Philox(key=seed & (2**64 - 1))), Tail(request.sampling.stop))
            for i, seed in enumerate(request.seeds)
        )
        self._running: list[Draw] = []
        self._batch: Cache | None = None
        """Cache of the running draws, one row each."""
        self._slots = slots

    @property
    def rows(self) -> int:
        """See `Generating.rows`."""
        return min(self._job.request.n, self._slots)

    def step(self) -> bool:
        """See `Generating.step`."""
        self._sweep()
        scores = self._job.request.continuation is not None
        if self._running:
            self._decode()
        elif not self._waiting or (not self._text if scores else self._limit == 0):
            self._end(self._waiting, Finish.length)
        elif self._text:
            self._read()
        else:
            self._open()
        going = bool(self._waiting or self._running)
        if not going:
            self._job.news.append(None)
        return going

    def fail(self, error: EngineError) -> None:
        """See `Generating.fail`: every draw that is left keeps what it has said."""
        left = [*self._running, *self._waiting]
        for one in left:
            one.error = str(error)
        self._end(left, Finish.error)
        self._job.news.append(None)

    # What is asked for.

    def _room(self, context: int | None) -> int:
        """Tokens that a draw may sample."""
        asked = self._job.request.sampling.max_tokens
        asked = DEFAULT_TOKENS if asked is None else max(0, asked)
        length = len(self._prompt) + len(self._given)
        if context is None:
            return asked
        if length >= context:
            raise ContextError(f"the prompt has {length} tokens and the context holds {context}: shorten the prompt")
        return min(asked, context - length)

    def _biases(self) -> dict[int, float]:
        sampling, size = self._job.request.sampling, self._runtime.vocabulary.vocab_size
        for token in sampling.logit_bias:
            if not 0 <= token < size:
                raise EngineError(
                    f"`logit_bias` names token {token}, but the model has tokens 0 to {size - 1}", status=400
                )
        return {**sampling.logit_bias, **{self._single(text): -torch.inf for text in sampling.banned}}

    def _single(self, text: str) -> int:
        speller = self._runtime.speller
        ids = speller.continue_with(text, special=True)
        if len(ids) != 1 or speller.spell(ids) != text:
            raise EngineError(
                f"cannot ban {text!r}: this model spells it with {len(ids)} tokens, and a ban needs one token",
                status=400,
            )
        return ids[0]

    # One pass.

    def _sweep(self) -> None:
        """End the draws that somebody wants ended."""
        over = [d for d in [*self._running, *self._waiting] if d.index in self._job.abort]
        self._end(over, Finish.aborted)

    def _read(self) -> None:
        """Read a piece of the prompt, and of the text to be scored."""
        start = len(self._prompt) + len(self._given) - len(self._text)
        most = len(self._text) if self._runtime.whole else PIECE
        tokens = [self._text.popleft() for _ in range(min(most, len(self._text)))]
        # The logits that judge the given text are those from the prompt's last token on.
        wanted = min(len(tokens), start + len(tokens) - len(self._prompt) + 1) if self._given else 1
        about = self._about(range(self._job.request.n), start, reading=True)
        logits, self._cache = self._runtime.forward([tokens], self._cache, max(1, wanted), about)
        if self._given and wanted > 0:
            judged = self._given[len(self._scores) : len(self._scores) + wanted]
            self._scores += signals(logits[0, : len(judged)], judged, self._job.request.sampling.logprobs or 0)
        self._first = logits[:, -1]

    def _open(self) -> None:
        """Let the next draws grow out of the prompt: each samples its first token from the same logits."""
        draws = [self._waiting.popleft() for _ in range(min(self._slots, len(self._waiting)))]
        assert self._cache is not None
        assert self._first is not None
        # Whoever waits behind this batch needs the prompt's cache again.
        self._batch = copy.deepcopy(self._cache) if self._waiting else self._cache
        self._select(self._batch, [0] * len(draws))
        self._running = draws
        self._sample(self._first.expand(len(draws), -1))

    def _decode(self) -> None:
        """Go on by one token in every running draw."""
        said = len(self._running[0].tokens)
        about = self._about([d.index for d in self._running], len(self._prompt) + said - 1, reading=False)
        logits, self._batch = self._runtime.forward([[d.tokens[-1]] for d in self._running], self._batch, 1, about)
        self._sample(logits[:, -1])

    def _about(self, draws: Sequence[int], start: int, *, reading: bool) -> Pass:
        return Pass(request=self._job.request, draws=tuple(draws), start=start, reading=reading)

    def _sample(self, logits: torch.Tensor) -> None:
        """Sample a token for each running draw from its row, and pass on the news."""
        sampling, draws = self._job.request.sampling, self._running
        bias = dict(self._bias)
        if len(draws[0].tokens) < sampling.min_tokens:
            bias |= dict.fromkeys(self._runtime.ends, -torch.inf)
        z = processed(logits, sampling, bias)
        tokens = draw(z, sampling, [d.random.random() for d in draws])
        found: Sequence[Signals | None] = [None] * len(draws)
        if sampling.logprobs is not None:
            space = logits if sampling.logprob_space is LogprobSpace.raw else z
            found = signals(space, tokens, sampling.logprobs)
        for one, token, said in zip(list(draws), tokens, found, strict=True):
            self._take(one, token, said)

    def _take(self, one: Draw, token: int, said: Signals | None) -> None:
        """Take in a sampled token and tell what is certain of its text."""
        if token == NOTHING:
            one.error = "no token has any probability left: the bans and the bias exclude all of them"
            self._end([one], Finish.error)
            return
        one.tokens.append(token)
        if said is not None:
            one.signals.append(said)
        one.ended = token in self._runtime.ends
        news = "" if one.ended else one.tail.add(self._runtime.speller.piece(token))
        if one.ended:
            self._end([one], Finish.eos, tokens=1)
        elif one.tail.stopped is not None:
            self._end([one], Finish.stop, news, 1)
        elif len(one.tokens) >= self._limit:
            self._end([one], Finish.length, news, 1)
        else:
            self._job.news.append(Chunk(one.index, news, 1, logprobs=self._packed([said]) if said else None))

    def _packed(self, said: Sequence[Signals]) -> Logprobs | None:
        """Signals of the latest token, for those who watch."""
        request = self._job.request
        if not request.apart:
            return None
        size = self._runtime.vocabulary.vocab_size
        return pack(said, request.sampling.logprob_space, size, request.sampling.logprobs or 0)

    def _select(self, cache: Cache, rows: Sequence[int]) -> None:
        """Make `rows` of a cache its rows; a row may be taken more than once."""
        with torch.inference_mode():
            cache.reorder_cache(torch.tensor(rows, device=self._runtime.model.device))

    # Ends.

    def _end(self, draws: Sequence[Draw] | deque[Draw], finish: Finish, news: str = "", tokens: int = 0) -> None:
        """Deliver the completions of draws, wherever they stand."""
        over = list(draws)
        for one in over:
            one.finish = finish
            rest, completion = self._completed(one)
            self._job.news.append(Chunk(one.index, news + rest, tokens, completion))
        kept = [row for row, d in enumerate(self._running) if d not in over]
        if len(kept) < len(self._running) and kept and self._batch is not None:
            self._select(self._batch, kept)
        self._running = [self._running[row] for row in kept]
        self._waiting = deque(d for d in self._waiting if d not in over)

    def _completed(self, one: Draw) -> tuple[str, Completion]:
        """The text still held back, and the completion."""
        if self._job.request.continuation is not None:
            return "", self._scored(one)
        sampling, speller = self._job.request.sampling, self._runtime.speller
        rest = one.tail.finish()
        ids = one.tokens[:-1] if one.ended else one.tokens
        if one.tail.stopped is not None:
            ids = speller.cut(ids, one.tail.text)
        size = self._runtime.vocabulary.vocab_size
        return rest, Completion(
            text=one.tail.text,
            finish=one.finish,
            tokens=len(one.tokens),
            stop_string=one.tail.stopped,
            token_ids=tuple(ids),
            logprobs=None
            if sampling.logprobs is None
            else pack(one.signals, sampling.logprob_space, size, sampling.logprobs),
            usage=self._bill(one),
            error=one.error,
        )

    def _scored(self, one: Draw) -> Completion:
        whole, request = one.finish is Finish.length, self._job.request
        size, top = self._runtime.vocabulary.vocab_size, request.sampling.logprobs or 0
        return Completion(
            text=request.continuation or "" if whole else "",
            finish=one.finish,
            tokens=0,
            token_ids=tuple(self._given) if whole else (),
            logprobs=pack(self._scores, LogprobSpace.raw, size, top),
            usage=self._bill(one),
            error=one.error,
        )

    def _bill(self, one: Draw) -> Usage:
        """The usage of a draw: the first one carries the prompt."""
        read = len(self._prompt) + len(self._given) if one.index == 0 else 0
        return Usage(calls=1, input_tokens=read, cached_tokens=0, output_tokens=len(one.tokens))


def _refuse_what_is_missing(job: Job) -> None:
    sampling = job.request.sampling
    form = (sampling.response_format or {}).get("type", "text")
    if sampling.grammar is not None or form != "text":
        raise CapabilityError(
            "the transformers engine follows no grammar and no JSON schema: use the embedded engine for these"
        )
    if job.request.steps:
        raise CapabilityError("the transformers engine is no reward model: use `transformers-reward` for that")
