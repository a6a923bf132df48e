"""What every engine promises: the protocol, and every capability that it declares."""

from __future__ import annotations

import asyncio
from collections.abc import Coroutine
from contextlib import aclosing
from dataclasses import replace

from thinkscale.engines.protocol import Abort, Capability, Completion, Engine, Request, complete
from thinkscale.testing.guarantees import Guarantee, Told, keep, made_here
from thinkscale.types import Finish, Logprobs, Message, Origin, Sampling, Trace


def check_engine(
    engine: Engine, *, prompt: str = "Count from 1 to 5.", told: Told | None = None
) -> Coroutine[None, None, None]:
    """Check that an engine keeps the protocol; every capability it declares is put to use.

    Where an event loop is running the check must be awaited, as an engine may be tied to it.

    Args:
        engine: ready to use; it is left open.
        prompt: something that the model answers with more than a few tokens.
        told: called with the words of every guarantee that is kept.

    Raises:
        AssertionError: a guarantee is broken.
    """
    return made_here(_check(engine, prompt, told))


async def _check(engine: Engine, prompt: str, told: Told | None) -> None:
    greedy = Sampling(temperature=0.0, max_tokens=12)
    request = Request(messages=(Message("user", prompt),), sampling=greedy, seeds=(1,))
    await keep(engine, [Guarantee("it opens, twice as well as once", lambda: _check_open(engine))], told)
    guarantees = (
        Guarantee("draws are counted, and greedy ones repeat", lambda: _check_draws(engine, request)),
        Guarantee("every draw ends once, as it was streamed", lambda: _check_stream(engine, request)),
        Guarantee("stop strings and aborts end a draw", lambda: _check_endings(engine, request)),
    )
    can = engine.capabilities.can
    capable = (
        (Capability.prefill, Guarantee("a turn is continued", lambda: _check_prefill(engine, request))),
        (Capability.logprobs, Guarantee("log-probabilities are complete", lambda: _check_logprobs(engine, request))),
        (Capability.likelihood, Guarantee("a given text is scored", lambda: _check_likelihood(engine, request))),
        (Capability.min_tokens, Guarantee("`min_tokens` is kept", lambda: _check_min_tokens(engine, request))),
    )
    await keep(engine, [*guarantees, *(guarantee for needed, guarantee in capable if needed in can)], told)


async def _check_open(engine: Engine) -> None:
    assert callable(getattr(engine, "open", None)), "an engine has `async def open(self)`, which is awaited before use"
    await engine.open()
    await engine.open()


async def _one(engine: Engine, request: Request) -> Completion:
    [completion] = await complete(engine, request)
    return completion


async def _check_draws(engine: Engine, request: Request) -> None:
    assert engine.capabilities == engine.capabilities, "capabilities change"
    assert engine.capabilities.model, "the engine does not say which weights it runs"
    assert engine.count(request) > 0, "the prompt counts no tokens"
    first, second = await _one(engine, request), await _one(engine, request)
    assert first.text == second.text, "greedy decoding of one prompt alone does not repeat"
    hot = replace(request, sampling=replace(request.sampling, temperature=1.0), seeds=(5, 6, 7))
    draws = await complete(engine, hot)
    assert len(draws) == 3, f"3 draws were asked for, {len(draws)} came"
    for draw in draws:
        assert 0 < draw.tokens <= 12, f"a draw of at most 12 tokens has {draw.tokens}"
        assert draw.usage.calls == 1, "a draw is one call"
        assert draw.usage.output_tokens == draw.tokens, "the usage of a draw disagrees with its tokens"
    if engine.capabilities.exact:
        again = await complete(engine, hot)
        assert [d.text for d in again] == [d.text for d in draws], "the same seeds give other draws"


async def _check_stream(engine: Engine, request: Request) -> None:
    many = replace(request, sampling=replace(request.sampling, temperature=1.0), seeds=(1, 2, 3, 4))
    texts, tokens, ended = [""] * 4, [0] * 4, [0] * 4
    async with aclosing(engine.stream(many)) as chunks:
        async for chunk in chunks:
            assert not ended[chunk.index], "a draw goes on after its completion"
            texts[chunk.index] += chunk.text
            tokens[chunk.index] += chunk.tokens
            if chunk.completion is not None:
                ended[chunk.index] += 1
                assert texts[chunk.index] == chunk.completion.text, "the streamed text is not the completion's"
                assert tokens[chunk.index] == chunk.completion.tokens, "the streamed tokens are not the completion's"
    assert ended == [1] * 4, "a draw did not end with exactly one completion"
    async with aclosing(engine.stream(many)) as chunks:
        async for _ in chunks:
            break
    assert (await _one(engine, request)).tokens > 0, "after a stream was closed the engine is of no more use"


async def _check_endings(engine: Engine, request: Request) -> None:
    whole = await _one(engine, request)
    word = next((w for w in whole.text.split()[1:] if w not in whole.text.split()[0]), None)
    if word is not None:
        cut = await _one(engine, replace(request, sampling=replace(request.sampling, stop=(word,))))
        assert cut.finish is Finish.stop, f"the stop string {word!r} did not end the draw"
        assert cut.stop_string == word, "the completion does not say which stop string fired"
        assert cut.text == whole.text[: whole.text.index(word)], "the text does not end right before the stop string"
    abort = Abort(everything=True)
    long = replace(request, sampling=replace(request.sampling, max_tokens=200), seeds=(1, 2))
    ended = await asyncio.wait_for(complete(engine, long, abort), timeout=60)
    assert len(ended) == 2, "an aborted draw has no completion"
    assert all(c.tokens <= 200 for c in ended), "an aborted draw ran past its cap"


async def _check_prefill(engine: Engine, request: Request) -> None:
    whole = await _one(engine, request)
    half = await _one(engine, replace(request, sampling=replace(request.sampling, max_tokens=6)))
    if half.finish is not Finish.length:
        return
    said = Trace(prompt=request.messages).inject(half.text).segments[0]
    said = replace(said, origin=Origin.sampled, token_ids=half.token_ids)
    rest = await _one(engine, replace(request, prefix=(said,), sampling=replace(request.sampling, max_tokens=6)))
    assert half.text + rest.text == whole.text, "continuing a turn says something else than going on would have"


async def _check_logprobs(engine: Engine, request: Request) -> None:
    draw = await _one(engine, replace(request, sampling=replace(request.sampling, logprobs=0)))
    signals = draw.logprobs
    assert signals is not None, "log-probabilities were asked for and did not come"
    assert len(signals.chosen) == draw.tokens, f"{draw.tokens} tokens have {len(signals.chosen)} log-probabilities"
    assert all(p <= 1e-6 for p in signals.chosen), "a log-probability is positive"
    await _check_growth(engine, request)
    if Capability.token_moments in engine.capabilities.can:
        assert len(signals.logsumexp) == len(signals.mean_logit) == draw.tokens, "a token has no moments"
        assert signals.vocab > 0, "the vocabulary behind the moments is not given"
    if Capability.token_entropy in engine.capabilities.can:
        assert len(signals.entropy) == draw.tokens, "a token has no entropy"
        assert all(h > -1e-6 for h in signals.entropy), "an entropy is negative"
    if Capability.top_logprobs in engine.capabilities.can:
        top = (await _one(engine, replace(request, sampling=replace(request.sampling, logprobs=2)))).logprobs
        assert top is not None, "top log-probabilities did not come"
        assert all(len(t) == 2 and t[0][1] >= t[1][1] for t in top.top), "the two likeliest tokens are not in order"


async def _check_growth(engine: Engine, request: Request) -> None:
    """Log-probabilities come with the chunks of a draw that is watched, and with those of no other."""
    sampling = replace(request.sampling, logprobs=0)
    for watched in (True, False):
        told: list[Logprobs] = []
        async with aclosing(engine.stream(replace(request, sampling=sampling, apart=watched))) as chunks:
            async for chunk in chunks:
                if chunk.completion is None and chunk.logprobs is not None:
                    told.append(chunk.logprobs)
                whole = chunk.completion.logprobs if chunk.completion is not None else None
        assert watched or not told, "log-probabilities came on the way to nobody who watches"
        if told and whole is not None:
            grown = Logprobs.joined(told).chosen
            assert grown == whole.chosen[: len(grown)], "the log-probabilities on the way are not the completion's"


async def _check_likelihood(engine: Engine, request: Request) -> None:
    draw = await _one(engine, replace(request, sampling=replace(request.sampling, logprobs=0)))
    scored = await _one(engine, replace(request, continuation=draw.text))
    assert scored.tokens == 0, "scoring a given text generated tokens"
    assert scored.logprobs is not None, "a likelihood request brought no log-probabilities"
    assert draw.logprobs is not None, "log-probabilities were asked for and did not come"
    both = list(zip(scored.logprobs.chosen, draw.logprobs.chosen, strict=False))
    assert both, "a likelihood request brought no log-probabilities"
    gap = max(abs(a - b) for a, b in both)
    assert gap < 0.05, f"the likelihood of a text differs by {gap:.3f} from what it was sampled with"


async def _check_min_tokens(engine: Engine, request: Request) -> None:
    long = replace(request, sampling=replace(request.sampling, min_tokens=12))
    assert (await _one(engine, long)).tokens == 12, "the turn ended before `min_tokens`"
