"""Whether runs leave traces, and the form they have where they do not: everything here does nothing and costs nothing.

Tracing is on where the environment names an exporter in OpenTelemetry's variables and the extra `otel` is installed;
only then is `serve/spans.py` imported, and with it OpenTelemetry.
"""

from __future__ import annotations

import logging
import os
from collections.abc import Mapping
from contextlib import AbstractContextManager, nullcontext
from importlib import import_module
from importlib.util import find_spec

from thinkscale.engines.protocol import Engine
from thinkscale.serve.records import Order
from thinkscale.types import Outcome

_ON = ("OTEL_TRACES_EXPORTER", "OTEL_EXPORTER_OTLP_TRACES_ENDPOINT", "OTEL_EXPORTER_OTLP_ENDPOINT")
_log = logging.getLogger(__name__)


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


def tracing(environment: Mapping[str, str] = os.environ) -> Tracing:
    """Tracing as the environment wants it.

    Raises:
        SettingsError: an exporter that no installed package has.
    """
    if environment.get("OTEL_SDK_DISABLED", "").lower() == "true" or environment.get("OTEL_TRACES_EXPORTER") == "none":
        return Tracing()
    named = next((name for name in _ON if environment.get(name)), None)
    if named is None:
        return Tracing()
    if find_spec("opentelemetry") is None or find_spec("opentelemetry.sdk") is None:
        _log.warning("%s asks for traces, and OpenTelemetry is not installed: install `thinkscale[otel]`", named)
        return Tracing()
    spans: Tracing = import_module("thinkscale.serve.spans").from_environment(environment)
    return spans
