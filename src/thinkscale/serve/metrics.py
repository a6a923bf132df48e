"""What the gateway counts, for Prometheus. It is told what happened and knows neither requests nor how runs work.

Every label has few values: APIs, profiles, classes of methods and rules, roles, statuses. What a client may choose
freely, such as the name of a model or the whole spec of a method, is no label.
"""

from __future__ import annotations

import math
import time
from collections.abc import Iterator
from contextlib import contextmanager

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, ProcessCollector
from prometheus_client.exposition import choose_encoder

from thinkscale.errors import EngineError
from thinkscale.registry import components, kebab, names
from thinkscale.serve.records import Api, Order
from thinkscale.session import Event
from thinkscale.store import Store
from thinkscale.types import Finish, Outcome, Stopped, Usage

SECONDS = (0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0, 60.0, 120.0, 300.0, 600.0)
"""Upper ends of the buckets of every histogram."""


class Metrics:
    """Counters of one gateway, in a registry of its own; one event loop."""

    def __init__(self) -> None:
        self._registry = own = CollectorRegistry()
        ProcessCollector(registry=own)
        self._rules = frozenset(names("stop-rule"))
        where = ("api", "profile", "method")

        def count(name: str, what: str, *labels: str) -> Counter:
            return Counter(f"thinkscale_{name}", what, labels, registry=own)

        def timing(name: str, what: str, *labels: str) -> Histogram:
            return Histogram(f"thinkscale_{name}_seconds", what, labels, buckets=SECONDS, registry=own)

        self._requests = count("requests", "Requests answered, refusals included.", *where, "status")
        self._first_byte = timing("first_byte", "From the request to the first byte of its reply.", "api", "method")
        self._total = timing("request", "From the request to the end of its reply.", "api", "method")
        self._stopped = count("runs", "Runs that came to an end, by why.", "method", "stopped")
        self._generated = count("generated_tokens", "Tokens of calls that ended, by the role of the model.", "role")
        self._roles: dict[str, Counter] = {}
        self._tokens = count(
            "tokens", "Tokens of runs by kind: shown in the reply, hidden, prompt, cached.", *where, "kind"
        )
        self._calls = count("calls", "Completions asked for.", *where)
        self._usd = count("usd", "Money spent in US dollars, as far as prices are known.", *where)
        self._saved_calls = count("saved_calls", "Completions that a stop rule made unnecessary.", "method", "rule")
        self._saved = count(
            "saved_tokens",
            "Tokens that a stop rule left undrawn, had every attempt used its whole cap: an upper bound.",
            "method",
            "rule",
        )
        self._queue = Gauge("thinkscale_queue_length", "Requests that wait for a place.", registry=own)
        self._wait = timing("queue_wait", "How long a request waited for a place.")
        self._running = Gauge("thinkscale_runs_in_flight", "Runs in flight.", registry=own)
        self._failed = count("upstream_errors", "Runs that engines left without an answer, by HTTP status.", "status")
        self._failed.labels("none")  # rates see the first one, too
        self._failed_draws = count("failed_draws", "Attempts that failed, in runs that ended well or not.", "method")
        self._joins = count("joins", "Requests that joined the run of an earlier one.")
        self._disconnects = count("disconnects", "Clients that left before their reply was complete.", "api")
        self._recording = Gauge(
            "thinkscale_recording", "Whether runs that are to be recorded are, 1 or 0.", registry=own
        )
        self._recording.set(1)
        self._unrecorded = Gauge("thinkscale_unrecorded_bytes", "Records that wait to be written.", registry=own)
        self._lost = Gauge("thinkscale_lost_records", "Records that were let go for lack of room.", registry=own)

    def watch(self, store: Store) -> None:
        """Tell from now on how recording goes."""
        self._recording.set_function(lambda: not store.trouble)
        self._unrecorded.set_function(lambda: store.waiting)
        self._lost.set_function(lambda: store.lost)

    @contextmanager
    def queued(self) -> Iterator[None]:
        """Around the wait for a place."""
        began = time.monotonic()
        with self._queue.track_inprogress():
            try:
                yield
            finally:
                self._wait.observe(time.monotonic() - began)

    @contextmanager
    def begun(self) -> Iterator[None]:
        """Around a run."""
        with self._running.track_inprogress():
            yield

    def heard(self, event: Event) -> None:
        """News of a run, for the tokens of each role."""
        if event.trace is not None and event.trace.segments and not event.replayed:
            if event.role not in self._roles:
                self._roles[event.role] = self._generated.labels(event.role)
            self._roles[event.role].inc(event.trace.segments[-1].tokens)

    def answered(self, order: Order, seconds: float) -> None:
        """The first byte of a reply was sent, so many seconds after the request came."""
        self._first_byte.labels(order.asked.api, _method(order)).observe(seconds)

    def without_run(self, api: str, status: int) -> None:
        """A request was answered that runs nothing: refused before that was decided, or about a kept response."""
        self._requests.labels(api, "", "", status).inc()

    def finished(self, order: Order, seconds: float, status: int) -> None:
        """A reply is complete, so many seconds after the request came."""
        api, method = order.asked.api, _method(order)
        self._requests.labels(api, order.profile, method, status).inc()
        self._total.labels(api, method).observe(seconds)

    def ran(self, order: Order, usage: Usage, outcome: Outcome | None) -> None:
        """A run is over, and spent so much; there is no outcome where it failed or was cancelled."""
        self._spent(order, usage, outcome.best.tokens if outcome and outcome.best else 0)
        if outcome is None:
            return
        method = _method(order)
        self._stopped.labels(method, outcome.stopped).inc()
        failed = sum(trace.finish is Finish.error for trace in outcome.traces)
        if failed:
            self._failed_draws.labels(method).inc(failed)
        if outcome.stopped is Stopped.enough:
            self._count_savings(order, method, outcome.usage)

    def upstream_failed(self, error: EngineError) -> None:
        """An engine failed so that a run came to nothing."""
        self._failed.labels(error.status or "none").inc()

    def joined(self) -> None:
        """A request joined the run of an earlier one."""
        self._joins.inc()

    def disconnected(self, api: Api) -> None:
        """A client left before its reply was complete."""
        self._disconnects.labels(api).inc()

    def render(self, accept: str = "") -> tuple[bytes, str]:
        """Everything as text, and its content type: the form that an `Accept` header asks for."""
        encode, content_type = choose_encoder(accept)
        return encode(self._registry), content_type

    def _spent(self, order: Order, usage: Usage, shown: int) -> None:
        """Count what a run cost, of which `shown` tokens are those of the attempt in the reply, thinking included."""
        where = (order.asked.api, order.profile, _method(order))
        shown = min(shown, usage.output_tokens)
        for kind, tokens in (
            ("shown", shown),
            ("hidden", usage.output_tokens - shown),
            ("prompt", usage.input_tokens or 0),
            ("cached", usage.cached_tokens or 0),
        ):
            self._tokens.labels(*where, kind).inc(tokens)
        self._calls.labels(*where).inc(usage.calls)
        if usage.usd:
            self._usd.labels(*where).inc(usage.usd)

    def _count_savings(self, order: Order, method: str, usage: Usage) -> None:
        cap = order.sampling.max_tokens
        ceiling = order.budget.clip(order.method.ceiling(cap or 0))
        rule = next((r for part in components(order.method) if (r := _name(part)) in self._rules), "own")
        if usage.calls < ceiling.calls < math.inf:
            self._saved_calls.labels(method, rule).inc(ceiling.calls - usage.calls)
        if cap and usage.output_tokens < ceiling.tokens < math.inf:
            self._saved.labels(method, rule).inc(ceiling.tokens - usage.output_tokens)


def _method(order: Order) -> str:
    return _name(order.method)


def _name(component: object) -> str:
    return kebab(type(component).__name__)
