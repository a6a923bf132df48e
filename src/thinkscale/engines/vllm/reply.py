"""What vLLM answers, as our records. The protocols say all that is known of its output."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial
from typing import Protocol

from thinkscale.engines.protocol import Chunk, Completion
from thinkscale.engines.vllm.asking import Plan
from thinkscale.errors import EngineError
from thinkscale.types import Finish, Logprobs, LogprobSpace, Usage

_ENDINGS = {"length": Finish.length, "abort": Finish.aborted}


class Likely(Protocol):
    """vLLM's `Logprob`."""

    logprob: float


Place = Mapping[int, Likely]
"""Log-probabilities at one position by token id: of the token that stands there and of the likeliest."""


class Delta(Protocol):
    """vLLM's `CompletionOutput`: what was drawn since the last one."""

    text: str
    token_ids: Sequence[int]
    logprobs: Sequence[Place] | None
    finish_reason: str | None
    stop_reason: int | str | None


class News(Protocol):
    """vLLM's `RequestOutput`."""

    outputs: Sequence[Delta]
    prompt_logprobs: Sequence[Place | None] | None
    num_cached_tokens: int | None


@dataclass(slots=True)
class Draw:
    """One draw as it grows: what vLLM has said of it so far."""

    plan: Plan
    index: int
    text: str = ""
    ids: list[int] = field(default_factory=list)
    places: list[Place] = field(default_factory=list)

    def take(self, news: News) -> Chunk:
        """Take in what came and pass it on; the last news makes the completion, or the failure.

        The token that vLLM draws behind a text to be scored comes from logits that reading the text gave anyway: no
        step is run for it, it is dropped, and it is not counted.
        """
        [delta] = news.outputs
        if self.plan.request.continuation is not None and delta.finish_reason != "abort":
            return self._scored(news.prompt_logprobs or (), news.num_cached_tokens)
        self.text += delta.text
        self.ids += delta.token_ids
        self.places += delta.logprobs or ()
        chunk = partial(Chunk, self.index, delta.text, len(delta.token_ids), logprobs=self._latest(delta))
        if delta.finish_reason is None:
            return chunk()
        finish = _finish(delta)
        if finish is None:
            said = f"vLLM gave up on the draw with `{delta.finish_reason}`"
            return chunk(failure=EngineError(said, retryable=True))
        stop = delta.stop_reason if finish is Finish.stop else None
        return chunk(
            completion=self.end(finish, stop_string=str(stop) if stop else None, cached=news.num_cached_tokens)
        )

    def _latest(self, delta: Delta) -> Logprobs | None:
        """Signals of what was just drawn, for those who watch."""
        request = self.plan.request
        if not request.apart or request.sampling.logprobs is None:
            return None
        sampling = request.sampling
        return signals(delta.logprobs or (), delta.token_ids, sampling.logprobs or 0, sampling.logprob_space)

    def end(self, finish: Finish, *, stop_string: str | None = None, cached: int | None = None) -> Completion:
        """The completion of what there is."""
        sampling = self.plan.request.sampling
        spelled = self.ids[:-1] if finish is Finish.eos else self.ids
        return Completion(
            text=self.text,
            finish=finish,
            tokens=len(self.ids),
            stop_string=stop_string,
            token_ids=self.plan.tokens.spelling(self.text, spelled, self.plan.prompt[-1]),
            logprobs=None
            if sampling.logprobs is None
            else signals(self.places, self.ids, sampling.logprobs, sampling.logprob_space),
            usage=self._bill(len(self.ids), cached),
        )

    def _scored(self, places: Sequence[Place | None], cached: int | None) -> Chunk:
        plan, k = self.plan, self.plan.request.sampling.logprobs or 0
        known = [place or {} for place in places[len(plan.prompt) :]]
        done = Completion(
            text=plan.request.continuation or "",
            finish=Finish.length,
            tokens=0,
            logprobs=signals(known, plan.given, k, LogprobSpace.raw),
            usage=self._bill(0, cached),
        )
        return Chunk(self.index, completion=done)

    def nothing(self) -> Chunk:
        """The end of a draw for which vLLM has nothing to do."""
        if self.plan.request.continuation is not None:
            return self._scored((), None)
        return Chunk(self.index, completion=self.end(Finish.length))

    def _bill(self, tokens: int, cached: int | None) -> Usage:
        first = self.index == 0
        read = len(self.plan.prompt) + len(self.plan.given)
        return Usage(
            calls=1,
            input_tokens=read if first else 0,
            cached_tokens=cached if first else 0,
            output_tokens=tokens,
        )


def _finish(delta: Delta) -> Finish | None:
    if delta.finish_reason == "stop":
        return Finish.stop if isinstance(delta.stop_reason, str) else Finish.eos
    return _ENDINGS.get(delta.finish_reason or "")


def signals(places: Sequence[Place], ids: Sequence[int], k: int, space: LogprobSpace) -> Logprobs:
    """Log-probabilities of the tokens that stand at some places, and of the k likeliest there."""
    best = [sorted(((i, p.logprob) for i, p in place.items()), key=lambda it: -it[1])[:k] for place in places if k]
    chosen = tuple(place[i].logprob for place, i in zip(places, ids, strict=True))
    return Logprobs(space=space, chosen=chosen, top=tuple(map(tuple, best)))
