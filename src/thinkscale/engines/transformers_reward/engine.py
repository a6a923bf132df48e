"""Reward models in this process: how good an answer is, or each of its steps, through the `transformers` library.

It knows nothing of who asks or of what is done with the numbers.
"""

from __future__ import annotations

import asyncio
import threading
import weakref
from collections.abc import AsyncGenerator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING

from thinkscale.engines.checkpoints import EXTRA, Checkpoint, find_checkpoint
from thinkscale.engines.protocol import Abort, Capabilities, Capability, Chunk, Completion, Request
from thinkscale.engines.reward_shapes import SHAPES, RewardShape, shape_of
from thinkscale.errors import CapabilityError, EngineError, ModelError, SettingsError
from thinkscale.types import Finish, Usage

if TYPE_CHECKING:
    from thinkscale.engines.transformers_reward.reader import Reader, Text


_CLOSED = "this engine was closed: make a new one"


@dataclass(slots=True, eq=False)
class _Job:
    """One request, its rows and what came of them."""

    abort: Abort
    n: int
    texts: list[Text]
    rewards: dict[int, list[float]] = field(default_factory=dict)
    """Per row, once it was read."""
    error: EngineError | None = None

    @property
    def open(self) -> bool:
        """Whether somebody still wants to know."""
        return self.error is None and any(index not in self.abort for index in range(self.n))


class TransformersReward:
    """A reward model of the `transformers` library.

    It generates nothing: a request with `steps` comes back with one reward per step, and one step is the whole answer.
    Requests that wait at the same time are read in common batches.

    Args:
        model: a folder that transformers can read, a .gguf file, or `owner/name` of a model hub.
        shape: how the model reads and judges: a name in `SHAPES`, a shape of your own, or `None` to go by the model's
            name and architecture.
        context: most tokens of one text; `None` is what the model was trained on.
        batch: most texts in one forward pass.
        dtype: a floating-point type of torch, such as `bfloat16`, or `auto` for the checkpoint's own.
        device: `cpu`, `cuda`, `cuda:1` and so on; `None` is the first GPU, or the processor where there is none.
        trust_remote_code: run the Python code that comes with the checkpoint, as Qwen2.5-Math-PRM asks for.

    Raises:
        SettingsError: no such shape, or a size that makes no sense.
    """

    def __init__(
        self,
        *,
        model: str | Path,
        shape: str | RewardShape | None = None,
        context: int | None = None,
        batch: int = 16,
        dtype: str = "float32",
        device: str | None = None,
        trust_remote_code: bool = False,
    ) -> None:
        if isinstance(shape, str) and shape not in SHAPES:
            raise SettingsError(f"no shape of reward model is called `{shape}`: choose one of {', '.join(SHAPES)}")
        if batch < 1 or (context is not None and context < 2):
            raise SettingsError("`batch` must be at least 1 and `context` at least 2")
        self._source, self._asked, self._context, self._batch = model, shape, context, batch
        self._dtype, self._device, self._trust = dtype, device, trust_remote_code
        self._lock = threading.RLock()
        self._waiting: list[_Job] = []
        self._loaded: Reader | None = None
        self._closed = False
        self._thread = ThreadPoolExecutor(1, "thinkscale-reward")
        weakref.finalize(self, self._thread.shutdown, wait=False)

    @property
    def capabilities(self) -> Capabilities:
        """Read from the checkpoint's own description; nothing is loaded for it."""
        found = self._checkpoint
        return Capabilities(
            model=f"{found.identity}-{self._dtype}",
            name=found.name,
            can=frozenset({Capability.rewards}),
            context=self._longest,
            exact=False,
        )

    async def open(self) -> None:
        """Load the model, away from the event loop.

        Raises:
            ModelError: the extra is not installed, or the model cannot be found, loaded or read as a reward model.
        """
        await asyncio.get_running_loop().run_in_executor(self._thread, lambda: self._reader)

    async def stream(self, request: Request, abort: Abort | None = None) -> AsyncGenerator[Chunk, None]:
        """Judge the steps of a request; see `Engine.stream`."""
        if not request.steps:
            raise CapabilityError("a reward model writes nothing: send it a request with `steps` to judge")
        if self._closed:
            raise EngineError(_CLOSED)
        # Ended when nobody waits any more, whatever the reason.
        wish, loop = Abort(parent=abort, renumbered=tuple(range(request.n))), asyncio.get_running_loop()
        try:
            job = await loop.run_in_executor(self._thread, self._enter, request, wish)
            await loop.run_in_executor(self._thread, self._serve)
        except RuntimeError as error:
            if self._closed:
                raise EngineError(_CLOSED) from error
            raise
        finally:
            wish.end()
        if job.error is not None:
            raise job.error
        for index in range(request.n):
            yield Chunk(index, completion=_completion(request, job, index))

    def count(self, request: Request) -> int:
        """Exact tokens that are read for the request; loads the model at first use."""
        return sum(len(text.ids) for text in self._reader.texts(request))

    async def aclose(self) -> None:
        """Free the model when the work in progress is over."""
        self._closed = True
        await asyncio.to_thread(self._thread.shutdown)
        self._loaded = None

    @cached_property
    def _checkpoint(self) -> Checkpoint:
        return find_checkpoint(self._source)

    @property
    def _longest(self) -> int | None:
        return min((n for n in (self._checkpoint.context, self._context) if n is not None), default=None)

    @property
    def _reader(self) -> Reader:
        with self._lock:
            if self._closed:
                raise EngineError(_CLOSED)
            if self._loaded is None:
                self._loaded = self._load()
            return self._loaded

    def _load(self) -> Reader:
        try:
            from thinkscale.engines.transformers_reward.reader import Reader  # noqa: PLC0415 — needs an extra
        except ImportError as error:
            raise ModelError(f"a reward model needs more than is installed ({error}): {EXTRA}") from error
        found = self._checkpoint
        return Reader(
            found,
            SHAPES[self._asked] if isinstance(self._asked, str) else self._asked or _shape_for(found),
            context=self._longest,
            dtype=self._dtype,
            device=self._device,
            trust_remote_code=self._trust,
        )

    # In the one thread.

    def _enter(self, request: Request, abort: Abort) -> _Job:
        job = _Job(abort, request.n, self._reader.texts(request))
        self._waiting.append(job)
        return job

    def _serve(self) -> None:
        """Read everything that waits, the longest texts first, and whoever comes later finds it done."""
        jobs, self._waiting = self._waiting, []
        rows = [(job, at) for job in jobs for at in range(len(job.texts))]
        rows.sort(key=lambda row: -len(row[0].texts[row[1]].ids))
        while rows := [(job, at) for job, at in rows if job.open]:
            batch, rows = rows[: self._batch], rows[self._batch :]
            self._read(batch)

    def _read(self, batch: Sequence[tuple[_Job, int]]) -> None:
        """Read some texts at once, or each alone where that fails: the fault of one is not that of all."""
        try:
            found = self._reader.read([job.texts[at] for job, at in batch])
        except Exception as error:
            if len(batch) > 1:
                for row in batch:
                    self._read([row])
            else:
                told = f"the reward model could not be run: {type(error).__name__}: {str(error)[:300]}"
                batch[0][0].error = EngineError(told)
            return
        for (job, at), rewards in zip(batch, found, strict=True):
            job.rewards[at] = rewards


def _shape_for(checkpoint: Checkpoint) -> RewardShape:
    shape = shape_of(checkpoint.name, checkpoint.architecture)
    if shape is None:
        raise ModelError(
            f"nothing says how `{checkpoint.name}` ({checkpoint.architecture or 'a GGUF file'}) gives rewards: pass a"
            f" `shape`, one of {', '.join(f'`{s}`' for s in SHAPES)} or a `RewardShape` of your own"
        )
    return shape


def _completion(request: Request, job: _Job, index: int) -> Completion:
    whole = len(job.rewards) == len(job.texts)
    read = sum(len(text.ids) for text in job.texts) if index == 0 else 0
    return Completion(
        text="",
        finish=Finish.eos if whole else Finish.aborted,
        tokens=0,
        usage=Usage(calls=1, input_tokens=read),
        rewards=tuple(reward for at in range(len(job.texts)) for reward in job.rewards[at]) if whole else (),
    )
