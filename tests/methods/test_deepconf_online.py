"""DeepConf online: threshold, aborts, who votes, consensus."""

import math

import numpy as np
import pytest

from thinkscale.api import aask, solve
from thinkscale.budget import Budget, Cost
from thinkscale.confidence import GrowingGroups, group_confidence, token_confidence, trace_confidence, window_of
from thinkscale.engines.protocol import Capability
from thinkscale.engines.scripted import EVERYTHING, Line, Scripted
from thinkscale.errors import CapabilityError, SpecError
from thinkscale.methods.deepconf_online import DeepconfOnline
from thinkscale.session import Run
from thinkscale.settings import load
from thinkscale.store import Store
from thinkscale.types import Finish, Logprobs, LogprobSpace, Problem, Sampling, Stopped

PROBLEM = Problem.of("2 + 2?")
PAIRS = [(0.9, 0.05), (0.5, 0.3), (0.8, 0.1), (0.4, 0.35), (0.95, 0.02), (0.85, 0.1)]


def line(answer, *probabilities, pace=0.0):
    """An answer whose words have these probabilities, the last of which stays."""
    return Line(says=f"a b c d e f The answer is {answer}.", logprob=tuple(map(math.log, probabilities)), pace=pace)


def confidence(*probabilities):
    """Confidence of two-token distributions: minus the mean of both logarithms."""
    return [-(math.log(p) + math.log(1 - p)) / 2 for p in probabilities]


async def run(method, script, budget=None, store=None, concurrency=None, **engine):
    fake = Scripted(script, **engine)
    sampling, run = Sampling(max_tokens=50), Run(concurrency=concurrency)
    return fake, await solve(PROBLEM, method, fake, budget=budget or Budget(), sampling=sampling, run=run, store=store)


def method(**fields):
    return DeepconfOnline(**{"n": 4, "warmup": 2, "window": 3, "top": 2, "consensus": None, **fields})


def test_the_worked_example_has_its_digits_however_it_is_read():
    top = tuple(tuple((i, math.log(p)) for i, p in enumerate(pair)) for pair in PAIRS)
    signals = Logprobs(space=LogprobSpace.raw, chosen=tuple(row[0][1] for row in top), top=top)
    tokens = token_confidence(signals, 2)
    assert tokens == pytest.approx([1.550546, 0.948560, 1.262864, 0.983056, 1.981658, 1.232552], abs=5e-7)
    groups = [1.253990, 1.064827, 1.409193, 1.399089]
    growing = GrowingGroups(3)
    lowest = [growing.grow(tokens[i : i + 1]) for i in range(6)]
    assert lowest[:2] == [math.inf] * 2
    assert lowest[2:] == pytest.approx(groups, abs=5e-7)
    assert lowest[2:] == group_confidence(tokens, 3).tolist()
    assert GrowingGroups(3).grow(tokens) == trace_confidence(tokens, 3, "lowest") == min(lowest)


@pytest.mark.parametrize(("keep", "threshold"), [(10, 23.5), (90, 11.5)])
def test_percentiles_interpolate_linearly(keep, threshold):
    assert np.percentile(range(10, 26), 100 - keep) == threshold


@pytest.mark.parametrize("concurrency", [1, None])
async def test_a_draw_is_aborted_at_the_token_at_which_a_full_window_is_too_unsure(concurrency):
    sure, unsure = line(4, 0.9), line(5, 0.9, 0.9, 0.9, 0.9, 0.5)
    engine, outcome = await run(method(), lambda cue: sure if cue.number < 3 else unsure, concurrency=concurrency)
    last = outcome.traces[3]
    # Windows end at words 3, 4, 5, …: the fifth word is the first unsure one, and its window is below all of the rest.
    assert (last.finish, last.tokens, last.text, last.answer) == (Finish.aborted, 5, "a b c d e", None)
    assert outcome.usage.output_tokens == engine.spent.output_tokens == 3 * 10 + 5
    assert (outcome.answer, outcome.votes[0].count, len(outcome.votes)) == ("4", 3, 1)


async def test_a_draw_that_is_as_sure_as_the_threshold_is_drawn_to_its_end():
    _, outcome = await run(method(keep=10), [line(4, 0.8)] * 2 + [line(5, 0.8)] * 2)
    assert [t.finish for t in outcome.traces] == [Finish.eos] * 4
    assert [t.scores[-1].value for t in outcome.traces] == pytest.approx([confidence(0.8)[0]] * 4)


async def test_the_threshold_is_a_percentile_of_the_warm_up():
    levels = [0.6, 0.7, 0.8, 0.9, 0.95]
    lowest = confidence(*levels)
    for keep in (10, 50, 90):
        script = [line(i, p) for i, p in enumerate(levels)]
        _, outcome = await run(method(n=5, warmup=5, keep=keep), script)
        kept = [t.scores[-1].value > -math.inf for t in outcome.traces]
        assert kept == [c >= np.percentile(lowest, 100 - keep) for c in lowest]


async def test_votes_weigh_as_much_as_their_confidence_and_those_below_the_threshold_nothing():
    script = [line(4, 0.6), line(5, 0.95), line(4, 0.7), line(4, 0.8)]
    _, outcome = await run(method(warmup=4, keep=75), script)
    assert outcome.answer == "4"
    four, five = sum(confidence(0.7, 0.8)), confidence(0.95)[0]
    assert {v.answer: v.weight for v in outcome.votes} == pytest.approx({"4": four, "5": five})
    _, outcome = await run(method(warmup=4, keep=25), script)
    assert outcome.answer == "5"


@pytest.mark.parametrize(("cap", "window"), [(4, 1), (16, 2), (512, 64), (16384, 2048), (10**6, 2048)])
def test_the_window_follows_the_cap_so_that_the_default_can_abort(cap, window):
    assert window_of(cap) == window


async def test_the_default_window_aborts_what_a_window_of_an_eighth_of_the_cap_aborts():
    def script(cue):
        words = 30 if cue.number < 2 else 40
        sure = [0.9] * words if cue.number < 2 else [0.9] * 10 + [0.5] * 30
        return Line(says="a " * (words - 1) + "4", logprob=tuple(map(math.log, sure)), pace=0.0)

    _, told = await run(method(window=6), script)
    _, found = await run(method(window=None), script)
    assert [t.finish for t in found.traces] == [t.finish for t in told.traces]
    assert Finish.aborted in {t.finish for t in found.traces}


async def test_a_trace_shorter_than_the_window_is_never_aborted_but_may_lose_its_vote():
    script = [line(4, 0.9), line(4, 0.9), line(5, 0.5), line(4, 0.9)]
    _, outcome = await run(method(window=100), script)
    assert [t.finish for t in outcome.traces] == [Finish.eos] * 4
    assert outcome.traces[2].scores[-1].value == -math.inf
    assert [v.answer for v in outcome.votes if v.weight] == ["4"]


async def test_drawing_ends_with_a_consensus():
    engine, outcome = await run(method(n=9, warmup=3, consensus=0.95), [line(4, 0.9)] * 3)
    assert (outcome.stopped, len(engine.cues), outcome.answer) == (Stopped.enough, 3, "4")
    script = [line(5, 0.9)] + [line(4, 0.9)] * 8
    engine, outcome = await run(method(n=9, warmup=2, consensus=0.8, pace="thrift"), script)
    assert (outcome.stopped, len(engine.cues), outcome.answer) == (Stopped.enough, 5, "4")
    engine, outcome = await run(method(n=9, warmup=2, consensus=None), script)
    assert (outcome.stopped, len(engine.cues)) == (Stopped.done, 9)


async def test_where_the_engine_tells_too_little_everybody_votes_and_the_reader_is_told():
    script = [line(a, 0.9) for a in (5, 4, 4, 4)]
    _, outcome = await run(method(top=20), script)
    assert outcome.answer == "4"
    assert [t.finish for t in outcome.traces] == [Finish.eos] * 4
    assert "20 likeliest tokens" in outcome.warnings[0]


async def test_an_engine_that_speaks_in_one_piece_is_not_cut_but_judged_all_the_same():
    script = [line(4, 0.9, pace=None)] * 3 + [line(5, 0.5, pace=None)]
    _, outcome = await run(method(), script)
    assert [t.finish for t in outcome.traces] == [Finish.eos] * 4
    assert outcome.traces[3].scores[-1].value == -math.inf


async def test_replayed_from_the_store_the_same_draws_are_aborted():
    store = Store(":memory:")
    script = [*[line(4, 0.9)] * 3, line(5, 0.9, 0.9, 0.9, 0.9, 0.5)]
    _, first = await run(method(), script, store=store, concurrency=1)
    silent, second = await run(method(), script, store=store, concurrency=1)
    assert silent.cues == []
    assert [t.text for t in second.traces] == [t.text for t in first.traces]
    assert second.traces[3].finish is Finish.aborted


async def test_an_engine_without_the_likeliest_tokens_is_refused():
    with pytest.raises(CapabilityError, match="`top-logprobs`"):
        await run(method(), [], can=EVERYTHING - {Capability.top_logprobs})


@pytest.mark.parametrize("fields", [{"n": 0}, {"warmup": 0}, {"keep": 0}, {"keep": 101}, {"consensus": 1.5}])
def test_numbers_that_make_no_sense_are_refused(fields):
    with pytest.raises(SpecError):
        DeepconfOnline(**fields)


def test_its_ceiling_is_that_of_attempts_which_are_never_aborted():
    assert DeepconfOnline(n=7).ceiling(100) == Cost(tokens=700, calls=7)


@pytest.mark.model
async def test_the_embedded_model_is_cut_in_the_middle_and_charged_for_what_it_wrote():
    deepconf = DeepconfOnline(n=10, warmup=4, keep=1, window=8, top=5, consensus=None, temperature=1.0)
    question = "How many prime numbers are below 30? Think step by step."
    outcome = await aask(question, method=deepconf, seed=3, settings=load({"max_tokens": 64}))
    warm, cut = outcome.traces[:4], [t for t in outcome.traces if t.finish is Finish.aborted]
    assert cut
    most = max(lowest(t) for t in warm)
    for trace in cut:
        assert trace not in warm
        assert 8 <= trace.tokens < 64
        assert len(trace.segments[-1].logprobs.chosen) == trace.tokens
        assert lowest(trace) < most
    assert outcome.usage.output_tokens >= sum(t.tokens for t in outcome.traces)


def lowest(trace):
    return trace_confidence(token_confidence(trace.segments[-1].logprobs, 5), 8, "lowest")
