"""The form that traces of runs have where there are none: everything here does nothing and costs nothing."""

from __future__ import annotations

from collections.abc import Mapping
from contextlib import AbstractContextManager, nullcontext

from thinkscale.engines.protocol import Engine
from thinkscale.serve.records import Order
from thinkscale.types import Outcome


class RunSpan:
    """The trace of one run while it lasts; this one keeps nothing."""

    def ended(self, outcome: Outcome) -> None:
        """The run came to this outcome."""


class Tracing:
    """Traces of runs and engine calls; this one makes none."""

    def traced(self, engine: Engine, role: str = "main") -> Engine:
        """The engine, or one that passes everything on to it and traces its calls. Once per engine, not per run."""
        return engine

    def received(self, headers: Mapping[str, str]) -> AbstractContextManager[None]:
        """Around a request: what runs within belongs to the trace that its headers name."""
        return nullcontext()

    def run(self, order: Order) -> AbstractContextManager[RunSpan]:
        """Around one run of a method."""
        return nullcontext(RunSpan())

    def close(self) -> None:
        """Hand over what was not exported yet."""
