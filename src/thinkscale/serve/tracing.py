"""Whether runs leave traces.

Tracing is on where the environment names an exporter in OpenTelemetry's variables and the extra `otel` is installed;
only then is `serve/spans.py` imported, and with it OpenTelemetry.
"""

from __future__ import annotations

import logging
import os
from collections.abc import Mapping
from importlib import import_module
from importlib.util import find_spec

from thinkscale.serve.untraced import Tracing

_ON = ("OTEL_TRACES_EXPORTER", "OTEL_EXPORTER_OTLP_TRACES_ENDPOINT", "OTEL_EXPORTER_OTLP_ENDPOINT")
_log = logging.getLogger(__name__)


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
