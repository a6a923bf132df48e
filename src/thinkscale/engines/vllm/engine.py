"""vLLM in this process, for graphics processors: prompts go in as token ids, draws come out as they grow."""

from __future__ import annotations

import asyncio
import itertools
import weakref
from collections.abc import AsyncGenerator, Callable, Sequence
from contextlib import aclosing, suppress
from dataclasses import replace
from functools import partial

from thinkscale.engines.protocol import GENERATES, Abort, Capabilities, Capability, Chunk, Request
from thinkscale.engines.vllm.asking import Plan
from thinkscale.engines.vllm.host import Host, Runtime, Started, failure_of, prompt_of, sampling_params, start
from thinkscale.engines.vllm.reply import Draw
from thinkscale.errors import CapabilityError, ContextError, EngineError, SettingsError
from thinkscale.types import Finish, LogprobSpace

_CLOSED = "this engine was closed: make a new one"
_NUMBERS = itertools.count()


class Vllm:
    """A model of a hub or a folder, run by vLLM inside this process.

    Every draw is a request of its own: the n children of one vLLM request get the seeds s, s+1, …, not ours, and
    would be n separate sequences all the same, which share the prompt through the prefix cache. Text keeps every
    special token but the one that ends a turn, so the ids of a draw spell its text.

    Args:
        model: `owner/name` of a model hub, or a folder that holds such a model.
        context: most tokens of prompt and answer together; `None` is what the model was trained for.
        gpus: processors that share the weights (tensor parallelism).
        memory: share of each processor's memory for weights and cache, in (0, 1].
        space: which log-probabilities the engine computes; vLLM fixes this when it starts.
        reasoning_parser: vLLM's name for the model's way of thinking, such as `qwen3`; with it there is a native
            thinking budget.

    Raises:
        SettingsError: no model, or an argument outside its range.
    """

    def __init__(
        self,
        *,
        model: str = "",
        context: int | None = None,
        gpus: int = 1,
        memory: float = 0.9,
        space: LogprobSpace = LogprobSpace.raw,
        reasoning_parser: str = "",
    ) -> None:
        if not model:
            raise SettingsError('vLLM was asked for without a model: name one, as in `vllm(model="owner/name")`')
        if (context is not None and context < 64) or gpus < 1 or not 0 < memory <= 1:
            raise SettingsError("`context` must be at least 64, `gpus` at least 1 and `memory` in (0, 1]")
        self._model, self._space = model, LogprobSpace(space)
        self._settings: dict[str, object] = {
            "model": model,
            **({} if context is None else {"max_model_len": context}),
            "tensor_parallel_size": gpus,
            "gpu_memory_utilization": memory,
            "logprobs_mode": f"{self._space}_logprobs",
            "reasoning_parser": reasoning_parser,
            "max_logprobs": -1,
            "enable_prefix_caching": True,
            "disable_log_stats": True,
        }
        can = GENERATES - {Capability.token_moments, Capability.token_entropy}
        if reasoning_parser:
            can |= {Capability.thinking_budget}
        self._capabilities = Capabilities(
            model=f"vllm/{model}", name=model, can=can, context=context, concurrency=256, exact=False
        )
        self._host: Host | None = None
        self._closed = False

    def __repr__(self) -> str:
        return f"Vllm(model={self._model!r}, context={self._capabilities.context})"

    @property
    def capabilities(self) -> Capabilities:
        """What the engine can do; context, concurrency and thinking markers are known once it is open."""
        return self._capabilities

    async def open(self) -> None:
        """Start vLLM and load the weights, at the first call.

        Raises:
            ModelError: vLLM is not installed, finds no processor that it can use, or cannot run the model.
        """
        if self._closed:
            raise EngineError(_CLOSED)
        if self._host is None:
            self._host = Host(partial(start, self._settings))
            weakref.finalize(self, self._host.close)
        if self._host.started is None:
            found = await self._host.open()
            self._capabilities = replace(
                self._capabilities, context=found.context, concurrency=found.slots, think=found.think
            )

    def count(self, request: Request) -> int:
        """Exact prompt tokens of the request, a text to be scored included.

        Raises:
            EngineError: the engine is not open, or the chat template refuses the messages.
        """
        plan = Plan.of(request, self._running.tokens)
        return len(plan.prompt) + len(plan.given)

    async def stream(self, request: Request, abort: Abort | None = None) -> AsyncGenerator[Chunk, None]:
        """See `Engine.stream`. An aborted draw delivers and counts what had arrived of it.

        Raises:
            ContextError: the prompt leaves no room for a token.
            EngineError: the request asks for something that this engine does not do.
        """
        await self.open()
        assert self._host is not None
        self._check(request)
        plan = Plan.of(request, self._running.tokens)
        self._fit(plan)
        mailbox: asyncio.Queue[Chunk | None] = asyncio.Queue()
        loop, left = asyncio.get_running_loop(), request.n

        def post(item: Chunk | None) -> None:
            with suppress(RuntimeError):  # the reader's loop has ended
                loop.call_soon_threadsafe(mailbox.put_nowait, item)

        work = _serve(self._running.runtime, plan, abort or Abort(), post)
        serving = asyncio.run_coroutine_threadsafe(work, self._host.loop)
        serving.add_done_callback(lambda _: post(None))
        try:
            while (chunk := await mailbox.get()) is not None:
                left -= chunk.completion is not None or chunk.failure is not None
                yield chunk
        finally:
            serving.cancel()
        if left:
            raise EngineError(_CLOSED)

    async def aclose(self) -> None:
        """End vLLM and its processes; streams still open raise `EngineError`."""
        self._closed = True
        if self._host is not None:
            await asyncio.to_thread(self._host.close)

    @property
    def _running(self) -> Started:
        if self._host is None or self._host.started is None:
            raise EngineError("the engine is not open: await its `open()` first")
        return self._host.started

    def _check(self, request: Request) -> None:
        sampling = request.sampling
        if sampling.logprobs is not None and request.continuation is None and sampling.logprob_space != self._space:
            raise CapabilityError(
                f"the engine was started for {self._space} log-probabilities and was asked for"
                f" {sampling.logprob_space} ones: make it with `space={sampling.logprob_space}`"
            )
        if sampling.thinking_budget is not None and Capability.thinking_budget not in self._capabilities.can:
            raise CapabilityError(
                "a thinking budget was asked for and the engine cannot tell thinking: make it with a `reasoning_parser`"
            )

    def _fit(self, plan: Plan) -> None:
        length, context = len(plan.prompt) + len(plan.given), self._running.context
        if length >= context:
            raise ContextError(
                f"the prompt has {length} tokens and the context holds {context}: shorten the prompt, or give the"
                " engine a larger `context`"
            )


async def _serve(runtime: Runtime, plan: Plan, abort: Abort, post: Callable[[Chunk], None]) -> None:
    """Run the draws of a request on vLLM's loop and post what becomes of them."""
    draws = [Draw(plan, index) for index in range(plan.request.n)]
    if plan.empty:
        for draw in draws:
            post(draw.nothing())
        return
    names = [f"thinkscale-{next(_NUMBERS)}" for _ in draws]
    loop, wish = asyncio.get_running_loop(), asyncio.Event()

    def wake() -> None:
        with suppress(RuntimeError):  # vLLM's loop has ended, and every draw with it
            loop.call_soon_threadsafe(wish.set)

    with abort.watched(wake):
        async with asyncio.TaskGroup() as group:
            ending = group.create_task(_end_on(wish, runtime, names, abort))
            following = [
                group.create_task(_follow(runtime, draw, name, abort, post))
                for draw, name in zip(draws, names, strict=True)
            ]
            await asyncio.wait(following)
            ending.cancel()


async def _end_on(wish: asyncio.Event, runtime: Runtime, names: Sequence[str], abort: Abort) -> None:
    """Whenever more draws are to end, tell vLLM; it ignores those that have ended."""
    while True:
        await wish.wait()
        wish.clear()
        await runtime.abort([name for index, name in enumerate(names) if index in abort])


async def _follow(runtime: Runtime, draw: Draw, name: str, abort: Abort, post: Callable[[Chunk], None]) -> None:
    """Bring one draw to its end."""
    if draw.index in abort:
        post(Chunk(draw.index, completion=draw.end(Finish.aborted)))
        return
    try:
        plan = draw.plan
        prompt, settings = prompt_of(plan.prompt + plan.given), sampling_params(plan.settings(draw.index))
        async with aclosing(runtime.generate(prompt, settings, name)) as arriving:
            async for news in arriving:
                post(draw.take(news))
    except Exception as error:
        post(Chunk(draw.index, failure=failure_of(error)))
