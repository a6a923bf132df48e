"""What of an outcome a client is shown: choices, usage, and the object that says how the answer came about.

It knows records and no endpoint: shapes are made of it in `replies` and `streams`.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from thinkscale.engines.protocol import ThinkFormat
from thinkscale.engines.think_formats import divided
from thinkscale.errors import ServeError
from thinkscale.serve.fields import Json
from thinkscale.serve.fitting import Passthrough
from thinkscale.serve.records import Api, Order
from thinkscale.types import Finish, Logprobs, Origin, Outcome, Stopped, Trace, Usage

REASONING_FIELDS = ("reasoning_content", "reasoning")
"""Both names under which clients look for thinking."""
_HALF = frozenset({Finish.budget, Finish.aborted, Finish.error})


@dataclass(frozen=True, slots=True, kw_only=True)
class Choice:
    """One attempt as a client sees it."""

    at: int = 0
    """Its index: that of the draw, also where draws before it failed."""
    text: str
    """Without the thinking."""
    thought: str = ""
    whole: str = ""
    """As the model wrote it, markers and thinking included."""
    calls: tuple[Json, ...] = ()
    """Calls of tools in OpenAI's form, each with an id."""
    finish: str = "stop"
    """`stop`, `length` or `tool_calls`."""
    logprobs: Logprobs | None = None
    tokens: float = 0
    """Tokens behind `text` and `calls`. With thinking in the same turn an estimate by length."""


def choices_of(order: Order, outcome: Outcome) -> list[Choice]:
    """What the client gets: every draw where no method judged them, else the best attempt.

    Of a run that was cancelled nothing half done is shown, so that there may be nothing, which only a response can say.

    Raises:
        ServeError: there is nothing to show: 502 when every attempt failed, 503 when the gateway shut down before one
            was done, 504 when the budget bought none.
    """
    cancelled = outcome.stopped is Stopped.cancelled
    unfit = _HALF if cancelled else {Finish.error}
    whole = [t for t in outcome.traces if t.finish not in unfit]
    if isinstance(order.method, Passthrough):
        silent = outcome.stopped is Stopped.budget and not any(map(_speaks, whole))
        traces = [] if silent else whole[: order.asked.n]
    else:
        traces = [t for t in (outcome.best,) if t is not None and (t.finish not in unfit or t.answer is not None)]
    traces = traces or [t for t in whole if _speaks(t)][:1]
    if not traces and not (cancelled and order.asked.api is Api.responses):
        raise shutting_down() if cancelled else _nothing(outcome)
    think, several = order.engine.capabilities.think, isinstance(order.method, Passthrough)
    return [choice_of(trace, think, at=trace.path[0] if several and trace.path else 0) for trace in traces]


def choice_of(trace: Trace, think: ThinkFormat | None, *, at: int = 0) -> Choice:
    """An attempt, its thinking told apart by the markers of the model's family."""
    whole = trace.text
    thought, text = divided(whole, think, ended=trace.finish is Finish.eos)
    calls = tuple(_call(c, trace, i) for i, c in enumerate(c for s in trace.segments for c in s.tool_calls))
    share = len(text) / len(whole) if thought and not calls else 1.0
    return Choice(
        at=at,
        text=text,
        thought=thought,
        whole=whole,
        calls=calls,
        finish="length" if trace.finish.cut or trace.finish.lost else "tool_calls" if calls else "stop",
        logprobs=_signals(trace),
        tokens=trace.tokens * share,
    )


def _speaks(trace: Trace) -> bool:
    return bool(trace.own_text.strip()) or any(s.tool_calls for s in trace.segments)


def bill(outcome: Outcome, choices: Sequence[Choice]) -> Usage:
    """The run's usage; `reasoning_tokens` is whatever was generated and is not shown, in any attempt."""
    usage = outcome.usage
    told = usage.reasoning_tokens
    alone = len(choices) == 1 and usage.calls == 1 and told is not None
    unseen = (told or 0) if alone else round(usage.output_tokens - sum(choice.tokens for choice in choices))
    return Usage(
        calls=usage.calls,
        input_tokens=usage.input_tokens or 0,
        cached_tokens=usage.cached_tokens or 0,
        output_tokens=usage.output_tokens,
        reasoning_tokens=max(0, min(unseen, usage.output_tokens)),
        seconds=usage.seconds,
        usd=usage.usd,
    )


def report(order: Order, outcome: Outcome) -> dict[str, object]:
    """The `thinkscale` object of a reply."""
    usage, spent = outcome.usage, ("calls", "input_tokens", "cached_tokens", "output_tokens", "reasoning_tokens", "usd")
    told: dict[str, object] = {
        "method": method_name(order),
        "profile": order.profile or None,
        "answer": outcome.answer,
        "confidence": outcome.confidence,
        "votes": [{"answer": v.answer, "count": v.count, "weight": v.weight} for v in outcome.votes],
        "samples": len(outcome.traces),
        "stopped": outcome.stopped.value,
        "run": outcome.run or None,
        "seed": order.seed,
        "seconds": round(usage.seconds, 3),
        "spend": {name: getattr(usage, name) for name in spent},
        "budget": order.budget.limits(),
        "warnings": list(outcome.warnings),
    }
    if order.asked.trace:
        told["traces"] = [_told(trace) for trace in outcome.traces]
    return told


def method_name(order: Order) -> str:
    """The spec of what was run, in words that a client can ask for."""
    method = order.method
    return repr(method.by or "single").strip("'") if isinstance(method, Passthrough) else repr(method)


def _told(trace: Trace) -> dict[str, object]:
    return {
        "path": list(trace.path),
        "text": trace.text,
        "injected": [s.text for s in trace.segments if s.origin is Origin.injected],
        "tool_calls": [dict(call) for s in trace.segments for call in s.tool_calls],
        "finish": trace.finish.value,
        "answer": trace.answer.text if trace.answer else None,
        "tokens": trace.tokens,
        "scores": [{"kind": s.kind, "value": s.value if abs(s.value) < float("inf") else None} for s in trace.scores],
        "error": trace.error,
    }


def _call(call: Mapping[str, object], trace: Trace, at: int) -> Json:
    """A call in the form that clients check: with an id, and with arguments that are a string."""
    function = call.get("function")
    named = function if isinstance(function, Mapping) else {}
    place = "_".join(map(str, (*trace.path, at)))
    made = {"name": str(named.get("name") or ""), "arguments": str(named.get("arguments") or "{}")}
    return {"id": str(call.get("id") or f"call_{place}"), "type": "function", "function": made}


def _signals(trace: Trace) -> Logprobs | None:
    """Log-probabilities of an attempt that was sampled in one go."""
    sampled = [s for s in trace.segments if s.origin is Origin.sampled]
    return sampled[0].logprobs if len(sampled) == 1 else None


def shutting_down() -> ServeError:
    """The refusal of a request that came too late, or came to nothing in time (503)."""
    return ServeError(
        "the gateway is shutting down: try again in a few seconds",
        status=503,
        type="server_error",
        code="shutting_down",
        retry_after=5.0,
    )


def _nothing(outcome: Outcome) -> ServeError:
    failed = next((t.error for t in outcome.traces if t.error), None)
    if outcome.stopped is Stopped.budget and not failed:
        said = "The budget was over before there was anything to show: allow more tokens, calls or seconds."
        return ServeError(said, status=504, type="server_error", code="budget_exhausted")
    said = f"The model gave no answer: {failed or 'every attempt came back empty'}."
    return ServeError(said, status=502, type="server_error", code="upstream_error")
