"""Cascades: which level answers, what it is told, and methods on other models."""

import pytest

from thinkscale.api import solve
from thinkscale.budget import Budget, Cost
from thinkscale.engines.protocol import Capability, ThinkFormat
from thinkscale.engines.scripted import Scripted
from thinkscale.errors import CapabilityError, SettingsError, SpecError
from thinkscale.methods.best_of_n import BestOfN
from thinkscale.methods.cascade import Cascade
from thinkscale.methods.on import On
from thinkscale.methods.self_consistency import SelfConsistency
from thinkscale.methods.single import Single
from thinkscale.needs import needs_of
from thinkscale.registry import parse
from thinkscale.scorers.mean_logprob import MeanLogprob
from thinkscale.session import Run
from thinkscale.stopping.fixed import Fixed
from thinkscale.types import Origin, Problem, Sampling, Stopped

PROBLEM = Problem.of("2 + 2?")
THINKS = ThinkFormat(close="</think>\n")


def vote(n):
    return SelfConsistency(n=n, stop=Fixed())


def says(*answers, **more):
    return Scripted([f"Let me see.\n\nThe answer is {a}." for a in answers], **more)


async def run(method, engine, budget=None, problem=PROBLEM, **roles):
    run = Run(roles=roles, concurrency=1)
    return await solve(problem, method, engine, budget=budget or Budget(), sampling=Sampling(max_tokens=30), run=run)


async def test_an_answer_that_is_agreed_on_is_not_asked_for_again():
    engine = says(4, 4, 4, 5)
    outcome = await run(Cascade(levels=(vote(4), vote(8)), accept=0.75), engine)
    assert (outcome.answer, outcome.confidence, len(engine.cues), outcome.stopped) == ("4", 0.75, 4, Stopped.enough)


async def test_one_that_is_not_goes_to_the_next_level_and_the_pool_holds_both():
    engine = says(4, 5, 5, 5, 6)
    outcome = await run(Cascade(levels=(vote(2), vote(3)), accept=0.75), engine)
    assert (outcome.answer, len(outcome.traces), outcome.stopped) == ("5", 5, Stopped.done)
    assert [v.count for v in outcome.votes] == [2, 1]
    assert len({t.path for t in outcome.traces}) == 5
    assert [t.scores[-1].value for t in outcome.traces] == [0, 0, 1, 0, 0]
    assert outcome.best in outcome.traces


async def test_every_level_may_have_a_threshold_of_its_own():
    levels = (vote(2), vote(2), vote(1))
    engine = says(4, 5, 6, 7, 8)
    assert (await run(Cascade(levels=levels, accept=(0.9, 0.5)), engine)).answer == "6"
    engine = says(4, 5, 6, 7, 8)
    assert (await run(Cascade(levels=levels, accept=(0.9, 0.6)), engine)).answer == "8"


async def test_a_margin_is_the_lead_over_the_runner_up():
    levels = (vote(4), vote(1))
    assert (await run(Cascade(levels=levels, accept=0.5, measure="margin"), says(4, 4, 4, 5))).answer == "4"
    assert (await run(Cascade(levels=levels, accept=0.6, measure="margin"), says(4, 4, 4, 5, 6))).answer == "6"


async def test_a_threshold_of_nothing_accepts_any_answer_but_none():
    levels = (vote(2), vote(1))
    assert (await run(Cascade(levels=levels, accept=0.0), says(4, 5))).answer == "4"
    engine = Scripted(["I do not know", "I do not know", "The answer is 6"])
    assert (await run(Cascade(levels=levels, accept=0.0), engine)).answer == "6"


async def test_an_earlier_answer_stands_where_a_later_level_has_none():
    engine = Scripted(["The answer is 4", "The answer is 5", "I do not know"])
    outcome = await run(Cascade(levels=(vote(2), vote(1))), engine)
    assert (outcome.answer, outcome.stopped) == ("4", Stopped.done)


@pytest.mark.parametrize(("calls", "answer"), [(1, "4"), (2, "4"), (3, "6"), (5, "6")])
async def test_the_best_answer_so_far_stands_when_the_budget_ends(calls, answer):
    outcome = await run(Cascade(levels=(vote(2), vote(3))), says(4, 5, 6, 6, 7), budget=Budget(calls=calls))
    assert (outcome.answer, outcome.usage.calls) == (answer, calls)
    assert (outcome.stopped is Stopped.budget) == (calls < 5)


async def test_a_hint_tells_the_next_level_the_answer_before():
    engine = says(4, 5, 6)
    await run(Cascade(levels=(vote(2), vote(1)), carry="hint"), engine)
    assert engine.cues[1].prompt == "2 + 2?"
    assert engine.cues[2].prompt.startswith("2 + 2?\n\n")
    assert "answer: 4\n" in engine.cues[2].prompt


async def test_a_hint_leaves_the_parts_of_a_message_alone():
    picture = {"type": "image_url", "image_url": {"url": "data:,"}}
    message = Problem.of("x").messages[0]
    problem = Problem(messages=(type(message)("user", ({"type": "text", "text": "2 + 2?"}, picture)),))
    engine = says(4, 5, 6)
    await run(Cascade(levels=(vote(2), vote(1)), carry="hint"), engine, problem=problem)
    assert "image_url" in engine.cues[2].prompt
    assert "answer: 4" in engine.cues[2].prompt


async def test_prefill_goes_on_from_the_best_attempt_without_its_end():
    engine = says(4, 5, 6, 6)
    outcome = await run(Cascade(levels=(vote(2), vote(2)), carry="prefill"), engine)
    assert [c.prefix for c in engine.cues] == ["", "", *["Let me see.\n\n"] * 2]
    last = outcome.traces[-1]
    assert (last.segments[0].origin, last.segments[0].text) == (Origin.injected, "Let me see.\n\n")
    assert last.tokens == 7


async def test_prefill_goes_on_thinking_where_the_model_marks_its_thinking():
    engine = Scripted(
        ["hm</think>\nThe answer is 4", "oh</think>\nThe answer is 5", " no</think>\nThe answer is 6"], think=THINKS
    )
    outcome = await run(Cascade(levels=(vote(2), vote(1)), carry="prefill"), engine)
    assert (engine.cues[2].prefix, outcome.answer) == ("hm", "6")


async def test_prefill_takes_all_of_an_attempt_that_did_not_end():
    engine = Scripted(["a b c " * 20, "The answer is 4"])
    await run(Cascade(levels=(vote(1), vote(1)), carry="prefill"), engine)
    assert engine.cues[1].prefix == ("a b c " * 10).rstrip()


async def test_a_level_may_run_on_another_model():
    small, large = says(4, 5), says(6, 6)
    cascade = parse(
        "cascade(levels=[self-consistency(n=2), on(role=large, method=best-of-n(n=2, scorer=length))])", "method"
    )
    outcome = await run(cascade, small, large=large)
    assert (outcome.answer, len(small.cues), len(large.cues)) == ("6", 2, 2)
    assert len({t.path for t in outcome.traces}) == 4


def test_levels_are_written_as_a_spec_that_reads_back():
    text = "cascade(levels=[self-consistency(n=4), best-of-n], accept=[0.8], carry=hint)"
    cascade = parse(text, "method")
    assert cascade.levels == (SelfConsistency(n=4), BestOfN())
    assert parse(repr(cascade), "method") == cascade


def test_ceilings_add_up():
    cascade = Cascade(levels=(vote(4), BestOfN(n=16), On(role="large")))
    assert cascade.ceiling(100) == Cost(tokens=2100, calls=21)


def test_what_a_level_on_another_model_needs_is_needed_of_that_model():
    cascade = Cascade(levels=(BestOfN(scorer=MeanLogprob()), On(role="large", method=BestOfN())))
    needs = needs_of(cascade).served(lambda _: frozenset(Capability))
    assert needs.can == {Capability.logprobs}
    assert needs.roles == {"large": {Capability.logprobs, Capability.token_moments}}


async def test_a_model_that_cannot_do_what_its_role_asks_is_refused_and_the_main_one_need_not():
    level = On(role="large", method=BestOfN(n=2))
    with pytest.raises(CapabilityError, match="role `large`"):
        await run(level, says(), large=says(can=frozenset()))
    mute = Scripted(["The answer is 4", "The answer is 5"], can=frozenset())
    outcome = await run(Cascade(levels=(vote(2), level)), mute, large=says(6, 6))
    assert outcome.answer == "6"
    assert [c.sampling.logprobs for c in mute.cues] == [None, None]


async def test_a_role_that_nobody_plays_is_refused():
    with pytest.raises(SettingsError, match="`large`"):
        await run(On(role="large"), says(4))


async def test_on_is_the_method_on_another_model():
    outcome = await run(On(role="large", method=SelfConsistency(n=9)), Scripted([]), large=says(*[4] * 9))
    assert (outcome.answer, outcome.stopped) == ("4", Stopped.enough)
    assert (await run(On(role="large"), Scripted([]), large=says(7))).answer == "7"


async def test_the_main_model_is_the_main_one_in_an_attempt_by_another_too():
    nested = On(role="large", method=On(role="main"))
    assert (await run(nested, says(4), large=Scripted([]))).answer == "4"


async def test_a_judge_that_nobody_plays_is_the_main_model_whoever_asks():
    judged = parse("on(role=large, method=semantic-consistency(n=2))", "method")
    outcome = await run(judged, Scripted(["yes"]), large=says(4, 5))
    assert [v.count for v in outcome.votes] == [2]


@pytest.mark.parametrize("fields", [{"levels": ()}, {"accept": ()}, {"measure": "mood"}, {"carry": "everything"}])
def test_what_makes_no_sense_is_refused(fields):
    with pytest.raises(SpecError):
        Cascade(**{"levels": (Single(), Single()), **fields})


async def test_levels_nest():
    inner = Cascade(levels=(vote(2), vote(1)), accept=0.9)
    outcome = await run(SelfConsistency(n=2, by=inner, stop=Fixed()), says(4, 4, 5, 6, 4))
    assert outcome.usage.calls == 5
    assert outcome.answer == "4"
