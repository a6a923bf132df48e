"""Metrics: what Prometheus reads is what happened, and no client can make a label."""

import pytest
from prometheus_client.openmetrics.parser import text_string_to_metric_families as openmetrics
from prometheus_client.parser import text_string_to_metric_families as plain

from thinkscale.api import solve
from thinkscale.budget import Budget
from thinkscale.engines.protocol import Completion
from thinkscale.engines.scripted import Scripted
from thinkscale.engines.tabular import Tabular
from thinkscale.errors import EngineError
from thinkscale.methods.self_consistency import SelfConsistency
from thinkscale.methods.single import Single
from thinkscale.serve.metrics import Metrics
from thinkscale.serve.records import Api, Asked, Order
from thinkscale.session import Event, Run
from thinkscale.stopping.fixed import Fixed
from thinkscale.store import Store
from thinkscale.types import Finish, Origin, Outcome, Problem, Sampling, Segment, Stopped, Trace, Usage


def ordered(method, engine=None, *, model="m", profile="deep", max_tokens=10, budget=None):
    problem = Problem.of("What is 2 + 2?")
    return Order(
        asked=Asked(api=Api.chat, model=model, problem=problem, sampling=Sampling()),
        method=method,
        engine=engine or Tabular(),
        sampling=Sampling(max_tokens=max_tokens),
        budget=budget or Budget(),
        seed=0,
        profile=profile,
    )


def read(metrics, parse=plain, accept=""):
    text, _ = metrics.render(accept)
    return {
        (sample.name.removeprefix("thinkscale_"), *sorted(sample.labels.values())): sample.value
        for family in parse(text.decode())
        for sample in family.samples
        if sample.name.startswith("thinkscale_") and not sample.name.endswith("_created")
    }


async def run(order, metrics, concurrency=None):
    run = Run(seed=0, observe=metrics.heard, concurrency=concurrency)
    return await solve(
        order.asked.problem, order.method, order.engine, budget=order.budget, run=run, sampling=order.sampling
    )


async def test_a_run_is_counted_as_it_was_billed():
    metrics, order = Metrics(), ordered(SelfConsistency(n=5, stop=Fixed()))
    outcome = await run(order, metrics)
    metrics.ran(order, outcome.usage, outcome)
    metrics.finished(order, 0.3, 200)
    seen = read(metrics)
    assert seen["requests_total", "200", "chat", "deep", "self-consistency"] == 1
    assert seen["calls_total", "chat", "deep", "self-consistency"] == 5
    kinds = {
        kind: seen["tokens_total", *sorted(("chat", "deep", "self-consistency", kind))] for kind in ("shown", "hidden")
    }
    assert kinds == {"shown": outcome.best.tokens, "hidden": outcome.usage.output_tokens - outcome.best.tokens}
    assert seen["generated_tokens_total", "main"] == outcome.usage.output_tokens
    assert seen["runs_total", "done", "self-consistency"] == 1
    assert seen["request_seconds_sum", "chat", "self-consistency"] == pytest.approx(0.3)
    assert not any(name[0].startswith("saved") for name in seen)


async def test_what_a_stop_rule_saved_is_counted_under_its_name():
    order = ordered(SelfConsistency(n=16), Scripted(lambda _: "The answer is 4."))
    metrics = Metrics()
    outcome = await run(order, metrics, concurrency=1)
    assert outcome.stopped is Stopped.enough
    metrics.ran(order, outcome.usage, outcome)
    metrics.finished(order, 0.1, 200)
    seen = read(metrics)
    assert seen["saved_calls_total", "ahead-by-k", "self-consistency"] == 16 - outcome.usage.calls
    assert seen["saved_tokens_total", "ahead-by-k", "self-consistency"] == 160 - outcome.usage.output_tokens


def test_what_the_budget_would_not_have_allowed_is_no_saving():
    outcome = Outcome(best=None, answer=None, stopped=Stopped.enough, usage=Usage(calls=4, output_tokens=20))
    metrics = Metrics()
    metrics.ran(ordered(SelfConsistency(n=16), budget=Budget(tokens=25, calls=4)), outcome.usage, outcome)
    metrics.ran(ordered(SelfConsistency(n=16), max_tokens=None), outcome.usage, outcome)
    seen = read(metrics)
    assert seen["saved_tokens_total", "ahead-by-k", "self-consistency"] == 5
    assert seen["saved_calls_total", "ahead-by-k", "self-consistency"] == 12


def test_money_failures_joins_and_departures_are_counted():
    metrics, order = Metrics(), ordered(Single())
    failed = Trace(prompt=(), finish=Finish.error, error="no")
    metrics.ran(order, Usage(usd=0.25), Outcome(best=None, answer=None, traces=(failed,)))
    metrics.finished(order, 0.1, 200)
    metrics.finished(order, 0.1, 502)
    metrics.ran(order, Usage(calls=2, output_tokens=7, usd=0.5), None)
    metrics.upstream_failed(EngineError("busy", status=503))
    metrics.upstream_failed(EngineError("gone"))
    metrics.joined()
    metrics.disconnected(Api.responses)
    metrics.without_run(Api.chat, 401)
    metrics.without_run("none", 404)
    metrics.answered(order, 0.02)
    seen = read(metrics)
    assert seen["usd_total", "chat", "deep", "single"] == 0.75
    assert seen["failed_draws_total", "single"] == 1
    assert seen["requests_total", "502", "chat", "deep", "single"] == 1
    assert seen["requests_total", "", "", "401", "chat"] == 1
    assert (seen["upstream_errors_total", "503"], seen["upstream_errors_total", "none"]) == (1, 1)
    assert (seen["joins_total",], seen["disconnects_total", "responses"]) == (1, 1)
    assert seen["first_byte_seconds_count", "chat", "single"] == 1


@pytest.mark.parametrize(("act", "gauge"), [("queued", "queue_length"), ("begun", "runs_in_flight")])
def test_gauges_return_to_zero_however_it_ends(act, gauge):
    metrics, seen = Metrics(), []

    def fail():
        with getattr(metrics, act)():
            seen.append(read(metrics)[gauge,])
            raise RuntimeError

    with pytest.raises(RuntimeError):
        fail()
    assert seen == [1]
    assert read(metrics)[gauge,] == 0
    assert read(metrics)["queue_wait_seconds_count",] == (act == "queued")


def test_clients_cannot_make_labels():
    metrics = Metrics()
    outcome = Outcome(best=None, answer=None)
    before = None
    for n in range(1, 30):
        metrics.ran(ordered(SelfConsistency(n=n), model=f"model-{n}"), outcome.usage, outcome)
        before = before or len(read(metrics))
    assert len(read(metrics)) == before


def test_roles_are_told_apart():
    metrics = Metrics()
    said = {n: Trace(prompt=(), segments=(Segment(text="so", origin=Origin.sampled, tokens=n),)) for n in (3, 4)}
    metrics.heard(Event(path=(0,), role="judge", trace=said[3]))
    metrics.heard(Event(path=(0,), role="main", trace=said[4]))
    metrics.heard(Event(path=(0,), role="main", trace=said[4], replayed=True))
    metrics.heard(Event(path=(0,), role="main", tokens=2))
    metrics.heard(Event(path=(0,), role="main", trace=Trace(prompt=())))
    seen = read(metrics)
    assert (seen["generated_tokens_total", "judge"], seen["generated_tokens_total", "main"]) == (3, 4)


@pytest.mark.parametrize(
    ("accept", "parse", "content_type"),
    [
        ("", plain, "text/plain"),
        ("application/openmetrics-text; version=1.0.0", openmetrics, "application/openmetrics"),
    ],
)
def test_every_form_that_a_scraper_may_ask_for_parses(accept, parse, content_type):
    metrics = Metrics()
    metrics.finished(ordered(Single()), 0.1, 200)
    assert read(metrics, parse, accept)["requests_total", "200", "chat", "deep", "single"] == 1
    assert metrics.render(accept)[1].startswith(content_type)


def test_two_gateways_in_one_process_do_not_share_counters():
    one, other = Metrics(), Metrics()
    one.joined()
    assert (read(one)["joins_total",], read(other)["joins_total",]) == (1, 0)


def test_whether_runs_are_recorded_is_told(tmp_path):
    metrics = Metrics()
    assert (read(metrics)["recording",], read(metrics)["unrecorded_bytes",], read(metrics)["lost_records",]) == (
        1,
        0,
        0,
    )
    (tmp_path / "file").write_text("")
    for path, recording in ((tmp_path / "runs.db", 1), (tmp_path / "file" / "runs.db", 0)):
        store = Store(path)
        metrics.watch(store)
        store.remember("k", Completion(text="a", finish=Finish.eos, tokens=1))
        store.flush()
        assert read(metrics)["recording",] == recording
        assert (read(metrics)["unrecorded_bytes",] == 0) == bool(recording)
        store.close()
    assert read(metrics)["lost_records",] == 1
