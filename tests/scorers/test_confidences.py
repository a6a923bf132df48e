"""Guarantees of scorers that read log-probabilities."""

import math
from dataclasses import replace

import numpy as np
import pytest

from thinkscale.api import solve
from thinkscale.budget import Budget, Ledger
from thinkscale.confidence import token_confidence
from thinkscale.engines.opening import engine_for
from thinkscale.engines.protocol import Capability, Request, complete
from thinkscale.engines.scripted import Line, Scripted
from thinkscale.engines.tabular import Tabular
from thinkscale.errors import SpecError
from thinkscale.needs import needs_of
from thinkscale.registry import parse
from thinkscale.scorers.entropy import Entropy
from thinkscale.scorers.group_confidence import GroupConfidence
from thinkscale.scorers.mean_logprob import MeanLogprob
from thinkscale.scorers.perplexity import Perplexity
from thinkscale.scorers.self_certainty import SelfCertainty
from thinkscale.scorers.self_certainty_top_k import SelfCertaintyTopK
from thinkscale.scorers.sum_logprob import SumLogprob
from thinkscale.session import Place, Run, Session
from thinkscale.types import Finish, Logprobs, LogprobSpace, Message, Origin, Problem, Sampling, Segment, Trace

PROBLEM = Problem.of("2 + 2?")
DIE = {"": {"a": 0.6, "b": 0.2, "c": 0.1, "d": 0.05, "e": 0.03, "<end>": 0.02}}
CHAIN = {"": {"a": 0.5, "b": 0.3, "<end>": 0.2}, "a": {"a": 0.1, "b": 0.2, "<end>": 0.7}, "b": {"a": 0.9, "b": 0.1}}
READS = [SumLogprob(), Perplexity(), Entropy(), SelfCertaintyTopK(k=2), GroupConfidence(k=2, window=2)]


def session(engine, top=20):
    return Session(
        Place(engine=engine, ledger=Ledger(Budget()), run=Run(), sampling=Sampling(logprobs=top, max_tokens=7))
    )


def attempt(*chosen, finish=Finish.eos, **signals):
    logprobs = Logprobs(space=LogprobSpace.raw, chosen=chosen, **signals)
    said = Segment(text="a", origin=Origin.sampled, tokens=len(chosen), logprobs=logprobs)
    return Trace(prompt=PROBLEM.messages, segments=(said,), finish=finish)


async def values(scorer, *traces, llm=None):
    return [s.value for s in await scorer.score(PROBLEM, traces, llm or session(Scripted()))]


async def test_sum_logprob_is_the_probability_of_the_text():
    llm = session(Tabular())
    traces = await llm.sample(PROBLEM, 6)
    expected = [math.log(Tabular().probability(t.text)) for t in traces]
    assert await values(SumLogprob(), *traces) == pytest.approx(expected)


async def test_perplexity_is_negated_and_ranks_as_the_mean_log_probability():
    traces = [attempt(-0.5, -1.5), attempt(-0.1), attempt(-3.0, -3.0, 0.0)]
    assert await values(Perplexity(), *traces) == pytest.approx([-math.exp(p) for p in (1.0, 0.1, 2.0)])
    assert np.argsort(await values(Perplexity(), *traces)).tolist() == [2, 0, 1]
    assert np.argsort(await values(MeanLogprob(), *traces)).tolist() == [2, 0, 1]
    assert await values(Perplexity(), attempt(-1e5)) == [-math.inf]


async def test_entropy_is_that_of_the_whole_distribution():
    model = Tabular(CHAIN)
    llm = session(model, top=1)
    for trace in await llm.sample(PROBLEM, 8):
        before = ["", *model.tokens(trace.text)][: trace.tokens]
        expected = -math.fsum(model.entropy(token) for token in before) / trace.tokens
        assert await values(Entropy(), trace) == [pytest.approx(expected)]
    assert model.entropy("a") == pytest.approx(-(0.1 * math.log(0.1) + 0.2 * math.log(0.2) + 0.7 * math.log(0.7)))


async def test_entropy_of_what_was_sampled_from_follows_the_settings():
    llm = session(Tabular(DIE))
    [cut] = await llm.sample(PROBLEM, top_k=2, logprob_space=LogprobSpace.processed)
    expected = -(0.75 * math.log(0.75) + 0.25 * math.log(0.25))
    assert await values(Entropy(), cut) == [pytest.approx(-expected)]


async def test_an_entropy_of_the_likeliest_tokens_never_stands_in_for_that_of_all():
    top = (((0, -0.5), (1, -1.0)),)
    assert await values(Entropy(), attempt(-0.5, top=top), attempt(-0.5, -0.5, entropy=(1.0,))) == [-math.inf] * 2


@pytest.mark.parametrize(("temperature", "expected"), [(0.5, 2.271589), (1.0, 0.681101), (2.0, 0.175244)])
async def test_self_certainty_of_what_was_sampled_from_moves_with_the_temperature(temperature, expected):
    llm = session(Tabular(DIE))
    [trace] = await llm.sample(PROBLEM, temperature=temperature, logprob_space=LogprobSpace.processed)
    assert await values(SelfCertainty(), trace) == [pytest.approx(expected, abs=1e-6)]


@pytest.mark.parametrize(
    ("k", "expected"), [(1, 0.398152), (2, 0.558773), (3, 0.645981), (4, 0.674297), (5, 0.681101), (9, 0.681101)]
)
async def test_the_bound_of_the_worked_example_has_a_name_of_its_own(k, expected):
    llm = session(Tabular(DIE))
    [score] = await SelfCertaintyTopK(k=k).score(PROBLEM, await llm.sample(PROBLEM), llm)
    assert (score.kind, score.value) == ("self-certainty-top-k", pytest.approx(expected, abs=1e-6))


async def test_the_bound_needs_the_size_of_the_vocabulary_and_says_so():
    trace = attempt(-0.5, top=(((0, -0.5), (1, -1.5)),))
    llm = session(Scripted())
    assert await values(SelfCertaintyTopK(k=2), trace, llm=llm) == [-math.inf]
    assert any("`vocab=`" in warning for warning in llm.place.run.warnings)
    [bound] = await values(SelfCertaintyTopK(k=2, vocab=1000), trace)
    assert 0 < bound < math.inf


@pytest.mark.parametrize(
    ("reduce", "expected"), [("lowest", 1.064827), ("tail", 1.399089), ("mean", 1.326540), ("bottom", 1.064827)]
)
async def test_group_confidence_of_the_worked_example(reduce, expected):
    pairs = [[0.9, 0.05], [0.5, 0.3], [0.8, 0.1], [0.4, 0.35], [0.95, 0.02], [0.85, 0.1]]
    top = tuple(tuple((i, math.log(p)) for i, p in enumerate(row)) for row in pairs)
    trace = attempt(*(row[0][1] for row in top), top=top)
    scorer = GroupConfidence(reduce=reduce, window=3, k=2)
    assert await values(scorer, trace) == [pytest.approx(expected, abs=1e-6)]


async def test_a_sampled_token_that_is_not_among_the_likeliest_does_not_count():
    top = (((0, -0.1), (1, -3.0)),)
    assert await values(GroupConfidence(k=2), attempt(-0.1, top=top), attempt(-9.0, top=top)) == [1.55, 1.55]


async def test_too_few_likeliest_tokens_leave_no_score_and_a_warning():
    llm = session(Scripted())
    for scorer in (GroupConfidence(), SelfCertaintyTopK(vocab=99)):
        assert await values(scorer, attempt(-0.1, top=(((0, -0.1),),)), llm=llm) == [-math.inf]
    assert len([w for w in llm.place.run.warnings if "20 likeliest" in w]) == 2


@pytest.mark.parametrize("scorer", READS, ids=repr)
async def test_what_has_no_signals_is_not_judged(scorer):
    bare = replace(attempt(-1.0), segments=(Segment(text="a", origin=Origin.sampled, tokens=1),))
    empty = Trace(prompt=PROBLEM.messages, finish=Finish.error)
    assert await values(scorer, bare, empty) == [-math.inf] * 2


@pytest.mark.parametrize("scorer", READS, ids=repr)
async def test_injected_text_changes_nothing(scorer):
    llm = session(Scripted([Line(says="a b c", logprob=-0.2), Line(says=" d", logprob=-0.9)]))
    [first] = await llm.sample(PROBLEM)
    [second] = await llm.extend([first], inject=" Wait,")
    bare = replace(second, segments=tuple(s for s in second.segments if s.origin is Origin.sampled))
    scores = await values(scorer, bare, second, second.inject("</think>"))
    assert len(set(scores)) == 1
    assert math.isfinite(scores[0])


@pytest.mark.parametrize(
    "spec",
    [
        "group-confidence(reduce=lowst)",
        "group-confidence(window=0)",
        "self-certainty-top-k(k=0)",
        "group-confidence(k=0)",
    ],
)
def test_settings_that_make_no_sense_are_refused(spec):
    with pytest.raises(SpecError):
        parse(spec, "scorer")


async def test_a_run_asks_for_as_many_of_the_likeliest_tokens_as_its_scorers_read():
    method = parse("self-consistency(n=2, by=best-of-n(n=2, scorer=group-confidence(k=7)))", "method")
    assert needs_of(method).top_logprobs == 7
    assert needs_of(parse("best-of-n(n=2, scorer=self-certainty-top-12)", "method")).top_logprobs == 12
    engine = Scripted()
    await solve(PROBLEM, method, engine, budget=Budget())
    assert {cue.sampling.logprobs for cue in engine.cues} == {7}
    await solve(PROBLEM, parse("best-of-n(n=1)", "method"), engine, budget=Budget())
    assert engine.cues[-1].sampling.logprobs == 0


def test_a_scorer_says_what_it_needs():
    assert Entropy.needs.can == {Capability.logprobs, Capability.token_entropy}
    for scorer in (GroupConfidence(), SelfCertaintyTopK()):
        assert scorer.needs.can == {Capability.logprobs, Capability.top_logprobs}


@pytest.mark.model
async def test_the_embedded_engines_signals_are_those_of_a_dense_softmax():
    engine = engine_for("embedded")
    everything = Sampling(temperature=0.8, max_tokens=12, logprobs=10**6)
    asked = Request(messages=(Message("user", "Name three colours."),), sampling=everything, seeds=(3,))
    [draw] = await complete(engine, asked)
    signals = draw.logprobs
    log_p = np.array([[p for _, p in row] for row in signals.top])
    assert log_p.shape[1] == signals.vocab
    assert np.exp(log_p).sum(axis=1) == pytest.approx(1.0, abs=1e-5)
    entropy = -(np.exp(log_p) * log_p).sum(axis=1)
    certainty = -log_p.mean(axis=1) - math.log(signals.vocab)
    assert signals.entropy == pytest.approx(entropy, abs=1e-4)
    trace = attempt(*signals.chosen)
    trace = replace(trace, segments=(replace(trace.segments[0], logprobs=signals),))
    assert await values(SelfCertainty(), trace) == [pytest.approx(certainty.mean(), abs=1e-4)]
    assert await values(Entropy(), trace) == [pytest.approx(-entropy.mean(), abs=1e-4)]
    bounds = [(await values(SelfCertaintyTopK(k=k), trace))[0] for k in (1, 5, 20, 100, signals.vocab - 1)]
    assert bounds == sorted(bounds)
    assert bounds[-1] == pytest.approx(certainty.mean(), abs=1e-3)
    whole = token_confidence(signals, signals.vocab) - math.log(signals.vocab)
    assert whole == pytest.approx(certainty, abs=1e-6)
