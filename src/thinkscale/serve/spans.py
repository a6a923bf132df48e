"""OpenTelemetry spans: one per run of a method and, in it, one per engine call. Imported only where they are wanted.

Attributes follow the semantic conventions for generative AI, those of our own start with `thinkscale.`. What was asked
and answered is left out unless it is asked for; an error is known by its class alone, because its words may quote what
was asked.
"""

from __future__ import annotations

import asyncio
import json
import time
from collections.abc import AsyncGenerator, Iterator, Mapping
from contextlib import aclosing, contextmanager
from importlib.metadata import entry_points

from opentelemetry import context, propagate, trace
from opentelemetry.sdk.resources import Resource
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.export import BatchSpanProcessor
from opentelemetry.trace import Span, SpanKind, StatusCode

from thinkscale.engines.protocol import Abort, Capabilities, Chunk, Completion, Engine, Request
from thinkscale.errors import SettingsError
from thinkscale.registry import kebab
from thinkscale.serve.records import Order
from thinkscale.serve.untraced import RunSpan, Tracing
from thinkscale.types import Message, Outcome, Stopped, Usage

Attribute = str | bool | int | float | tuple[str, ...]

CAPTURE = "OTEL_INSTRUMENTATION_GENAI_CAPTURE_MESSAGE_CONTENT"
_EXPORTERS = "opentelemetry_traces_exporter"
_PROVIDER = "thinkscale"


def from_environment(environment: Mapping[str, str]) -> Spans:
    """Spans by the provider that the process has already, or by one made from OpenTelemetry's variables.

    Raises:
        SettingsError: an exporter that no installed package has.
    """
    content = environment.get(CAPTURE, "").lower() in ("true", "span_only", "span_and_event")
    provider = trace.get_tracer_provider()
    if isinstance(provider, TracerProvider):
        return Spans(provider, content=content)
    name = environment.get("OTEL_TRACES_EXPORTER", "otlp").split(",")[0].strip()
    if name == "otlp":
        protocol = environment.get("OTEL_EXPORTER_OTLP_TRACES_PROTOCOL") or environment.get(
            "OTEL_EXPORTER_OTLP_PROTOCOL"
        )
        name = "otlp_proto_grpc" if protocol == "grpc" else "otlp_proto_http"
    found = next(iter(entry_points(group=_EXPORTERS, name=name)), None)
    if found is None:
        raise SettingsError(
            f"no installed package has the exporter of traces `{name}`: install `opentelemetry-exporter-otlp`, or set "
            "OTEL_TRACES_EXPORTER to `console` or `none`"
        )
    named = "OTEL_SERVICE_NAME" in environment or "service.name=" in environment.get("OTEL_RESOURCE_ATTRIBUTES", "")
    own = TracerProvider(resource=Resource.create({} if named else {"service.name": "thinkscale"}))
    own.add_span_processor(BatchSpanProcessor(found.load()()))
    return Spans(own, content=content, owned=True)


class Spans(Tracing):
    """Tracing by a tracer provider.

    Args:
        provider: makes and exports the spans.
        content: whether spans carry what was asked and answered.
        owned: whether closing shuts the provider down.
    """

    def __init__(self, provider: TracerProvider, *, content: bool = False, owned: bool = False) -> None:
        self._provider = provider
        self._tracer = provider.get_tracer("thinkscale")
        self._content = content
        self._owned = owned

    def traced(self, engine: Engine, role: str = "main") -> Engine:
        """The engine with a span around each of its calls."""
        return Traced(engine, self._tracer, role=role, content=self._content)

    @contextmanager
    def received(self, headers: Mapping[str, str]) -> Iterator[None]:
        """Around a request: what runs within belongs to the trace that its headers name."""
        token = context.attach(propagate.extract(headers))
        try:
            yield
        finally:
            context.detach(token)

    @contextmanager
    def run(self, order: Order) -> Iterator[RunSpan]:
        """Around one run of a method."""
        method = kebab(type(order.method).__name__)
        span = self._tracer.start_span(f"invoke_workflow {method}", attributes=_of_order(order, method))
        with _kept(span), trace.use_span(span, record_exception=False, set_status_on_exception=False):
            yield _Run(span)

    def close(self) -> None:
        """Hand over what was not exported yet."""
        if self._owned:
            self._provider.shutdown()


class _Run(RunSpan):
    """The span of one run while it lasts."""

    def __init__(self, span: Span) -> None:
        self._span = span

    def ended(self, outcome: Outcome) -> None:
        """The run came to this outcome."""
        self._span.set_attributes(_of_outcome(outcome))
        if outcome.stopped is Stopped.error:
            self._span.set_status(StatusCode.ERROR)
            self._span.set_attribute("error.type", "_OTHER")


class Traced:
    """An engine with a span around each of its calls; it passes everything on.

    The span is that of the task that asks: it ends with the last chunk, or when the stream is closed.

    Args:
        engine: who writes the tokens.
        tracer: of some tracer provider; the one of the process when absent.
        role: what the engine is for.
        content: whether spans carry what was asked and answered.
    """

    def __init__(
        self, engine: Engine, tracer: trace.Tracer | None = None, *, role: str = "main", content: bool = False
    ) -> None:
        self._engine = engine
        self._tracer = tracer or trace.get_tracer("thinkscale")
        self._role = role
        self._content = content

    @property
    def capabilities(self) -> Capabilities:
        """Those of the engine."""
        return self._engine.capabilities

    async def open(self) -> None:
        """Open the engine."""
        await self._engine.open()

    def count(self, request: Request) -> int:
        """Prompt tokens as the engine counts them."""
        return self._engine.count(request)

    async def aclose(self) -> None:
        """Close the engine."""
        await self._engine.aclose()

    async def stream(self, request: Request, abort: Abort | None = None) -> AsyncGenerator[Chunk, None]:
        """Have the engine draw, within a span."""
        operation = _operation(request)
        attributes = _of_request(request, self.capabilities, operation) | {"thinkscale.role": self._role}
        name = f"{operation} {attributes['gen_ai.request.model']}"
        span = self._tracer.start_span(name, kind=SpanKind.CLIENT, attributes=attributes)
        if self._content and span.is_recording():
            span.set_attribute("gen_ai.input.messages", _asked(request))
        done: dict[int, Completion] = {}
        began, heard = time.monotonic(), False
        with _kept(span):
            try:
                async with aclosing(self._engine.stream(request, abort)) as chunks:
                    async for chunk in chunks:
                        if chunk.tokens and not heard:
                            heard = True
                            span.set_attribute("gen_ai.response.time_to_first_chunk", time.monotonic() - began)
                        if chunk.completion is not None:
                            done[chunk.index] = chunk.completion
                        yield chunk
            finally:
                self._end(span, [done[i] for i in sorted(done)], request.n)

    def _end(self, span: Span, done: list[Completion], n: int) -> None:
        usage = sum((c.usage for c in done), Usage())
        span.set_attributes(_of_usage(usage) | {"gen_ai.response.finish_reasons": tuple(_reason(c) for c in done)})
        if len(done) < n:
            span.set_attribute("thinkscale.draws.unfinished", n - len(done))
        if self._content and span.is_recording():
            span.set_attribute("gen_ai.output.messages", _answered(done))


@contextmanager
def _kept(span: Span) -> Iterator[None]:
    """End a span however what it is about ends; leaving early is no error."""
    try:
        yield
    except (asyncio.CancelledError, GeneratorExit):
        span.set_attribute("thinkscale.cancelled", True)
        raise
    except BaseException as error:
        span.set_status(StatusCode.ERROR)
        span.set_attribute("error.type", type(error).__name__)
        raise
    finally:
        span.end()


def _operation(request: Request) -> str:
    if request.continuation is not None:
        return "likelihood"
    return "judge" if request.steps else "chat"


def _known(values: Mapping[str, Attribute | None]) -> dict[str, Attribute]:
    return {name: value for name, value in values.items() if value is not None}


def _double(value: float | None) -> float | None:
    """A number of the type that the conventions give it, whatever a client wrote."""
    return None if value is None else float(value)


def _of_request(request: Request, can: Capabilities, operation: str) -> dict[str, Attribute]:
    sampling = request.sampling
    return _known({
        "gen_ai.operation.name": operation,
        "gen_ai.provider.name": _PROVIDER,
        "gen_ai.request.model": can.name or can.model,
        "gen_ai.request.stream": True if operation == "chat" else None,
        "gen_ai.request.choice.count": request.n if request.n > 1 else None,
        "gen_ai.request.max_tokens": sampling.max_tokens,
        "gen_ai.request.temperature": _double(sampling.temperature),
        "gen_ai.request.top_p": _double(sampling.top_p),
        "gen_ai.request.top_k": _double(sampling.top_k),
        "gen_ai.request.seed": request.seeds[0] if request.n == 1 else None,
        "gen_ai.request.stop_sequences": sampling.stop or None,
        "thinkscale.continued": bool(request.prefix),
    })  # fmt: skip


def _of_order(order: Order, method: str) -> dict[str, Attribute]:
    can = order.engine.capabilities
    return _known({
        "gen_ai.operation.name": "invoke_workflow",
        "gen_ai.workflow.name": method,
        "gen_ai.provider.name": _PROVIDER,
        "gen_ai.request.model": can.name or can.model,
        "thinkscale.api": order.asked.api.value,
        "thinkscale.method": repr(order.method),
        "thinkscale.profile": order.profile or None,
        "thinkscale.budget": str(order.budget) or None,
        "thinkscale.seed": str(order.seed),
    })  # fmt: skip


def _of_outcome(outcome: Outcome) -> dict[str, Attribute]:
    """How a run ended and its bill, in words of our own: who adds up the convention's would count every call twice."""
    spent = outcome.usage
    return _known({
        "thinkscale.usage.input_tokens": spent.input_tokens,
        "thinkscale.usage.output_tokens": spent.output_tokens,
        "thinkscale.usage.calls": spent.calls,
        "thinkscale.usage.usd": spent.usd,
        "thinkscale.stopped": outcome.stopped.value,
        "thinkscale.samples": len(outcome.traces),
        "thinkscale.answered": outcome.answer is not None,
        "thinkscale.confidence": outcome.confidence,
        "thinkscale.warnings": len(outcome.warnings),
        "thinkscale.run": outcome.run or None,
    })  # fmt: skip


def _of_usage(usage: Usage) -> dict[str, Attribute]:
    return _known({
        "gen_ai.usage.input_tokens": usage.input_tokens,
        "gen_ai.usage.cache_read.input_tokens": usage.cached_tokens,
        "gen_ai.usage.output_tokens": usage.output_tokens,
        "gen_ai.usage.reasoning.output_tokens": usage.reasoning_tokens,
        "thinkscale.usage.calls": usage.calls,
        "thinkscale.usage.usd": usage.usd,
    })  # fmt: skip


def _reason(completion: Completion) -> str:
    return "stop" if completion.finish.ended else completion.finish.value


def _asked(request: Request) -> str:
    said = [{"role": m.role, "parts": _parts(m)} for m in request.messages]
    if request.prefix:
        text = "".join(segment.text for segment in request.prefix)
        said.append({"role": "assistant", "parts": [{"type": "text", "content": text}]})
    return json.dumps(said, ensure_ascii=False)


def _parts(message: Message) -> list[dict[str, object]]:
    """The text of a message; of an image or a sound only that it was there."""
    if isinstance(message.content, str):
        return [{"type": "text", "content": message.content}]
    kinds = [(str(part.get("type")), part.get("text")) for part in message.content]
    return [{"type": kind, **({"content": text} if isinstance(text, str) else {})} for kind, text in kinds]


def _answered(done: list[Completion]) -> str:
    return json.dumps(
        [
            {"role": "assistant", "parts": [{"type": "text", "content": c.text}], "finish_reason": _reason(c)}
            for c in done
        ],
        ensure_ascii=False,
    )
