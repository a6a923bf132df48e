"""From what a store holds to an engine that serves it again: the one place that knows both.

The store knows no engine and an engine no store, so what joins them stands above both.
"""

from __future__ import annotations

import sys
from collections.abc import Iterator
from functools import reduce
from operator import add

from thinkscale.engines.protocol import Completion
from thinkscale.engines.replay import Recording, Replay
from thinkscale.errors import StoreError
from thinkscale.identity import prompt_name
from thinkscale.store import RunRow, Store
from thinkscale.types import Finish, Logprobs, Message, Origin, Trace, Usage


def replay_of(store: Store, *, run: str = "", model: str = "") -> Replay:
    """An engine that serves the draws of earlier runs, each prompt's in the order of runs and of draws.

    Whole draws are served: what failed, was cancelled, was cut by a budget or holds injected text is left out, and so
    the numbers of the others close up. A draw that two runs share is served once.

    Args:
        store: where the runs are.
        run: only runs whose name starts so.
        model: only draws of the model with this name.

    Raises:
        StoreError: nothing is left to serve, or draws of several models are.
    """
    prompts: dict[str, tuple[Message, ...]] = {}
    pools: dict[str, list[Completion]] = {}
    seen: set[object] = set()
    writers: set[str] = set()
    for record in reversed(store.runs(run, sys.maxsize)):
        for trace in _whole(store, record):
            name = prompt_name(trace.prompt)
            draw = (record.seed, name, trace.path, trace.text)
            if draw in seen or model not in ("", trace.segments[0].model):
                continue
            seen.add(draw)
            writers |= {s.model for s in trace.segments}
            prompts.setdefault(name, trace.prompt)
            pools.setdefault(name, []).append(_completion(trace))
    if not pools:
        which = f" of the model `{model}`" if model else ""
        raise StoreError(f"`{store.path}` holds no whole draws{which} to replay: `thinkscale show` lists its runs")
    if len(writers) > 1:
        listed = ", ".join(f"`{w}`" for w in sorted(writers))
        raise StoreError(f"`{store.path}` holds draws of several models to replay: choose one of {listed}")
    recordings = [Recording(prompt=prompts[name], samples=tuple(pool)) for name, pool in pools.items()]
    return Replay(recordings=recordings, name=f"{writers.pop()} (replayed)")


def _whole(store: Store, record: RunRow) -> Iterator[Trace]:
    """The whole draws of a run: of its problem those of the pool, because others may be steps, and all further ones."""
    further = (t for t in store.traces(record.id) if t.prompt != record.problem.messages)
    for trace in (*store.pool(record.id), *further):
        if (
            (trace.finish.ended or trace.finish is Finish.length)
            and trace.tokens
            and all(s.origin is Origin.sampled for s in trace.segments)
        ):
            yield trace


def _completion(trace: Trace) -> Completion:
    signals = [s.logprobs for s in trace.segments]
    known: list[Logprobs] = [p for p in signals if p is not None]
    return Completion(
        text=trace.text,
        finish=trace.finish,
        tokens=trace.tokens,
        stop_string=trace.stop_string,
        logprobs=reduce(add, known) if known and len(known) == len(signals) else None,
        usage=Usage(calls=1, output_tokens=trace.tokens),
        tool_calls=tuple(call for s in trace.segments for call in s.tool_calls),
    )
