"""Where vLLM lives: one thread with an event loop of its own, and all that touches the package itself.

vLLM belongs to the loop that first used it and takes a while to start, while an engine outlives many loops.
"""

from __future__ import annotations

import asyncio
import copy
import os
import threading
from collections.abc import AsyncGenerator, Callable, Coroutine, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from typing import Protocol, TypeVar

from thinkscale.engines.protocol import ThinkFormat
from thinkscale.engines.think_formats import think_format_for
from thinkscale.engines.vllm.asking import Tokens
from thinkscale.engines.vllm.reply import News
from thinkscale.errors import EngineError, ModelError

T = TypeVar("T")


class Runtime(Protocol):
    """vLLM's `AsyncLLM`."""

    def generate(self, prompt: object, sampling_params: object, request_id: str) -> AsyncGenerator[News, None]:
        """News of one request until its end."""
        ...

    async def abort(self, request_id: list[str]) -> None:
        """End requests; each still brings its last news."""
        ...

    def shutdown(self) -> None:
        """End vLLM's processes."""
        ...


@dataclass(frozen=True, slots=True)
class Started:
    """A runtime that is ready for requests."""

    runtime: Runtime
    tokens: Tokens
    context: int
    """Most tokens of prompt and answer together."""
    slots: int
    """Draws that it decodes at once."""
    think: ThinkFormat | None = None


class Host:
    """The thread and the event loop where vLLM lives.

    Args:
        start: makes the runtime; it may take its time, for only this thread waits.
    """

    def __init__(self, start: Callable[[], Coroutine[None, None, Started]]) -> None:
        self._start = start
        self.started: Started | None = None
        self.loop: asyncio.AbstractEventLoop
        running = threading.Event()
        # A daemon, so that a forgotten engine cannot hang the interpreter; the engine's finalizer joins it.
        self._thread = threading.Thread(
            target=lambda: asyncio.run(self._live(running)), name="thinkscale-vllm", daemon=True
        )
        self._thread.start()
        running.wait()

    async def open(self) -> Started:
        """Start vLLM unless it runs. From any loop."""
        return await asyncio.wrap_future(asyncio.run_coroutine_threadsafe(self._open(), self.loop))

    def close(self) -> None:
        """End vLLM and the thread; harmless when repeated."""
        with suppress(RuntimeError):  # the loop has ended already
            self.loop.call_soon_threadsafe(self._closing.set)
        if self._thread is not threading.current_thread():
            self._thread.join()

    async def _live(self, running: threading.Event) -> None:
        self.loop, self._closing, self._opening = asyncio.get_running_loop(), asyncio.Event(), asyncio.Lock()
        running.set()
        await self._closing.wait()
        if self.started is not None:
            self.started.runtime.shutdown()
            self.started = None

    async def _open(self) -> Started:
        async with self._opening:
            if self.started is None:
                self.started = await self._start()
            return self.started


async def start(settings: Mapping[str, object]) -> Started:
    """Start vLLM with some of its `AsyncEngineArgs`.

    Raises:
        ModelError: vLLM is not installed, finds no processor that it can use, or cannot run the model.
    """
    # Standard output is for data.
    os.environ.setdefault("VLLM_LOGGING_STREAM", "ext://sys.stderr")
    try:
        from vllm.engine.arg_utils import AsyncEngineArgs  # noqa: PLC0415
        from vllm.v1.engine.async_llm import AsyncLLM  # noqa: PLC0415
    except ImportError as error:
        raise ModelError(
            f"vLLM cannot be imported ({error}): install it with `pip install 'thinkscale[vllm]'`"
        ) from error
    runtime = None
    try:
        runtime = AsyncLLM.from_engine_args(AsyncEngineArgs(**settings))
        # Asked for now, so that later requests are entered without waiting and an abort always finds them.
        await runtime.get_supported_tasks()
        # A copy, because it is used from other threads than vLLM's own.
        tokens = Tokens(copy.deepcopy(runtime.get_tokenizer()))
        config = runtime.vllm_config
        return Started(
            runtime=runtime,
            tokens=tokens,
            context=config.model_config.max_model_len,
            slots=config.scheduler_config.max_num_seqs,
            think=think_format_for(*tokens.template),
        )
    except BaseException as error:
        # Whoever waits may have left meanwhile, and the processes and their memory would stay.
        if runtime is not None:
            runtime.shutdown()
        if not isinstance(error, Exception):
            raise
        raise ModelError(
            f"vLLM cannot run `{settings['model']}`: {error}; its log on standard error says more"
        ) from error


def prompt_of(ids: Sequence[int]) -> object:
    """A prompt as vLLM takes it."""
    from vllm.inputs import tokens_input  # noqa: PLC0415

    return tokens_input(list(ids))


def sampling_params(settings: Mapping[str, object]) -> object:
    """`vllm.SamplingParams` that bring news as it happens, from `Plan.settings`.

    Raises:
        EngineError: vLLM refuses a value or does not know a name.
    """
    from vllm.sampling_params import RequestOutputKind, SamplingParams, StructuredOutputsParams  # noqa: PLC0415

    known = dict(settings)
    structure = known.pop("structured_outputs", None)
    try:
        if isinstance(structure, Mapping):
            known["structured_outputs"] = StructuredOutputsParams(**structure)
        return SamplingParams(**known, output_kind=RequestOutputKind.DELTA)
    except Exception as error:
        raise EngineError(f"vLLM refused the sampling parameters: {error}", status=400) from error


def failure_of(error: Exception) -> EngineError:
    """What vLLM raised for one request, as ours; retryable where vLLM calls it passing."""
    from vllm.exceptions import GracefulHTTPError, RetryableRequestError  # noqa: PLC0415
    from vllm.v1.engine.exceptions import EngineDeadError, EngineGenerateError  # noqa: PLC0415

    if isinstance(error, EngineError):
        return error
    if isinstance(error, EngineDeadError):
        return EngineError("vLLM's processes have ended: read its log on standard error, and make a new engine")
    passing = isinstance(error, GracefulHTTPError | RetryableRequestError | EngineGenerateError)
    cause = error.__cause__ or error
    return EngineError(f"vLLM failed on a draw: {cause}", retryable=passing)
