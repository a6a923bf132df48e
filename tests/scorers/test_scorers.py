import math
from dataclasses import replace

import pytest

from thinkscale.budget import Budget, Ledger
from thinkscale.engines.protocol import Capability
from thinkscale.engines.scripted import Line, Scripted
from thinkscale.engines.tabular import Tabular
from thinkscale.errors import SpecError
from thinkscale.scorers import sampled_logprobs
from thinkscale.scorers.length import Length
from thinkscale.scorers.mean_logprob import MeanLogprob
from thinkscale.scorers.self_certainty import SelfCertainty
from thinkscale.session import Place, Run, Session
from thinkscale.types import Finish, Message, Origin, Problem, Sampling, Segment, Trace

PROBLEM = Problem.of("2 + 2?")
SCORERS = [SelfCertainty(), MeanLogprob(), Length(), Length(prefer="longest")]
DIE = {"": {"a": 0.6, "b": 0.2, "c": 0.1, "d": 0.05, "e": 0.03, "<end>": 0.02}}


def session(engine):
    return Session(
        Place(engine=engine, ledger=Ledger(Budget()), run=Run(), sampling=Sampling(logprobs=0, max_tokens=7))
    )


@pytest.fixture
def llm():
    return session(Scripted())


async def test_self_certainty_of_the_worked_example_is_exact():
    llm = session(Tabular(DIE))
    traces = await llm.sample(PROBLEM, 3)
    scores = await SelfCertainty().score(PROBLEM, traces, llm)
    assert [round(s.value, 6) for s in scores] == [0.681101] * 3
    assert Tabular(DIE).self_certainty("") == pytest.approx(0.681101, abs=1e-6)


@pytest.mark.parametrize(
    ("p", "expected"), [([0.7, 0.1, 0.1, 0.1], 0.429813), ([0.97, 0.01, 0.01, 0.01], 2.075198), ([0.25] * 4, 0.0)]
)
async def test_self_certainty_is_the_divergence_from_the_uniform_distribution(p, expected):
    row = dict(zip(["a", "b", "c", "<end>"], p, strict=True))
    llm = session(Tabular({"": row}))
    [score] = await SelfCertainty().score(PROBLEM, await llm.sample(PROBLEM), llm)
    assert score.value == pytest.approx(expected, abs=1e-6)


async def test_self_certainty_does_not_move_with_the_temperature_of_the_draw():
    llm = session(Tabular(DIE))
    for temperature in (0.0, 0.5, 2.0):
        [score] = await SelfCertainty().score(PROBLEM, await llm.sample(PROBLEM, temperature=temperature), llm)
        assert score.value == pytest.approx(0.681101, abs=1e-6)


async def test_mean_logprob_is_the_log_of_the_geometric_mean_probability():
    llm = session(Tabular())
    for trace in await llm.sample(PROBLEM, 6):
        [score] = await MeanLogprob().score(PROBLEM, [trace], llm)
        assert score.value == pytest.approx(math.log(Tabular().probability(trace.text)) / trace.tokens)


async def test_length_counts_the_sampled_tokens(llm):
    traces = [Trace(prompt=(), segments=(Segment(text="x", origin=Origin.sampled, tokens=n),)) for n in (3, 9)]
    assert [s.value for s in await Length().score(PROBLEM, traces, llm)] == [-3, -9]
    assert [s.value for s in await Length(prefer="longest").score(PROBLEM, traces, llm)] == [3, 9]
    with pytest.raises(SpecError):
        Length(prefer="loudest")


@pytest.mark.parametrize("scorer", SCORERS, ids=repr)
async def test_injected_text_never_changes_a_score(scorer):
    llm = session(Scripted([Line(says="a b c", logprob=-0.2), Line(says=" d", logprob=-0.9)]))
    [first] = await llm.sample(PROBLEM)
    [second] = await llm.extend([first], inject="Wait, this is ours.")
    bare = replace(second, segments=tuple(s for s in second.segments if s.origin is Origin.sampled))
    with_end = second.inject("</think> Final Answer:")
    scores = await scorer.score(PROBLEM, [bare, second, with_end], llm)
    assert len({s.value for s in scores}) == 1
    assert math.isfinite(scores[0].value)


@pytest.mark.parametrize("scorer", [SelfCertainty(), MeanLogprob()], ids=repr)
async def test_what_cannot_be_judged_scores_minus_infinity(scorer, llm):
    said = Segment(text="a", origin=Origin.sampled, tokens=1)
    prompt = (Message("user", "?"),)
    traces = [Trace(prompt=prompt), Trace(prompt=prompt, segments=(said,)), Trace(prompt=prompt, finish=Finish.error)]
    assert [s.value for s in await scorer.score(PROBLEM, traces, llm)] == [-math.inf] * 3


@pytest.mark.parametrize("scorer", SCORERS, ids=repr)
async def test_there_is_one_score_per_trace_in_order_under_the_scorers_name(scorer, llm):
    assert await scorer.score(PROBLEM, [], llm) == []
    traces = await session(Scripted(["a b", "c"])).sample(PROBLEM, 2)
    alone = [(await scorer.score(PROBLEM, [t], llm))[0] for t in traces]
    together = await scorer.score(PROBLEM, traces, llm)
    assert together == alone
    assert {s.kind for s in together} == {repr(scorer).split("(")[0]}


def test_a_scorer_says_what_it_needs():
    assert MeanLogprob.needs.can == {Capability.logprobs}
    assert SelfCertainty.needs.can == {Capability.logprobs, Capability.token_moments}


async def test_a_part_without_signals_leaves_the_whole_without():
    [signed] = await session(Scripted(["a b"])).sample(PROBLEM)
    mute = Segment(text=" c", origin=Origin.sampled, tokens=1)
    assert sampled_logprobs(replace(signed, segments=(*signed.segments, mute))) is None
    assert sampled_logprobs(signed).chosen == (-0.5, -0.5)
