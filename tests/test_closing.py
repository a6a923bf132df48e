"""Thinking that is not over answers nothing as long as the question that closes it can be paid."""

import asyncio

import pytest

import thinkscale as ts
from thinkscale.api import solve
from thinkscale.budget import Budget
from thinkscale.engines.protocol import Capability, Chunk, Completion
from thinkscale.engines.scripted import EVERYTHING, Line, Scripted
from thinkscale.engines.think_formats import HARMONY, MISTRAL, OPENED_TAGS, S1, SEED, THINK_TAGS
from thinkscale.methods.budget_forcing import BudgetForcing
from thinkscale.methods.self_consistency import SelfConsistency
from thinkscale.methods.single import Single
from thinkscale.stopping.fixed import Fixed
from thinkscale.types import Finish, Origin, Sampling, Usage

PROBLEM = ts.Problem.of("How many rolls are left?")
FORMATS = [None, THINK_TAGS, OPENED_TAGS, S1, HARMONY, MISTRAL, SEED]
FOUND = "There are 12 trays and 96 rolls less 71. So the answer is 25."
DOUBT = " maybe the answer is 12 or is it 96 or 71 and then"


def names(formats):
    return [next((k for k, v in globals().items() if v is f), "no-format") for f in formats]


each_format = pytest.mark.parametrize("think", FORMATS, ids=names(FORMATS))


def forcing(cue):
    """Finds 25, doubts it for ever after a nudge, and says what it had found when it is asked; 7 before it has."""
    if cue.prefix.endswith("Final Answer:"):
        return " 25" if FOUND in cue.prefix else " 7"
    if any(cue.prefix.endswith(f.close) for f in FORMATS if f):
        return "The answer is 25."
    return DOUBT * 9 if "Wait" in cue.prefix else FOUND


class Stalled(Scripted):
    """An engine that says nothing until it is told to stop."""

    async def stream(self, request, abort=None):
        told = asyncio.Event()
        with abort.watched(told.set):
            await told.wait()
        for i in range(request.n):
            yield Chunk(i, "", 0, Completion(text="", finish=Finish.aborted, tokens=0, usage=Usage(calls=1)))


async def asked(method, script, *, tokens=None, cap=60, **fields):
    engine = Scripted(script, **fields)
    budget = Budget(tokens=tokens) if tokens is not None else Budget()
    return await solve(PROBLEM, method, engine, budget=budget, sampling=Sampling(max_tokens=cap)), engine


@each_format
@pytest.mark.parametrize("waits", [1, 2])
async def test_any_budget_through_budget_forcing_gives_the_answer_that_was_reached(think, waits):
    for tokens in range(101):
        outcome, engine = await asked(BudgetForcing(waits=waits), forcing, tokens=tokens, think=think)
        reached = any(FOUND in trace.own_text for trace in outcome.traces)
        assert outcome.answer == ("25" if reached else "7" if tokens else None), tokens
        assert reached or tokens < 30, tokens
        assert engine.spent.output_tokens == outcome.usage.output_tokens <= tokens


@each_format
async def test_any_budget_through_a_vote_gives_an_answer_that_an_attempt_gave(think):
    method = SelfConsistency(n=3, stop=Fixed(), by=BudgetForcing(waits=1))
    for tokens in range(101):
        outcome, engine = await asked(method, forcing, tokens=tokens, think=think, cap=30)
        reached = any(FOUND in trace.own_text for trace in outcome.traces)
        assert outcome.answer == ("25" if reached else "7" if tokens else None), tokens
        assert all(t.answer.text in ("25", "7") for t in outcome.traces if t.answer)
        assert engine.spent.output_tokens == outcome.usage.output_tokens <= tokens


@pytest.mark.parametrize("think", [THINK_TAGS, OPENED_TAGS], ids=["marker", "template"])
async def test_thinking_that_its_cap_cuts_does_not_vote(think):
    thought = f"{think.open}Maybe the answer is 5. Wait, let me"

    def script(cue):
        return Line(says=f"{think.close}It is 8." if cue.number == 3 else thought + " see" * 90)

    outcome, _ = await asked(SelfConsistency(n=4, stop=Fixed()), script, think=think, cap=9)
    assert [(v.answer, v.count) for v in outcome.votes] == [("8", 1)]
    assert [t.answer for t in outcome.traces if t.finish is Finish.length] == [None] * 3


@each_format
async def test_where_every_attempt_is_cut_in_its_thinking_one_is_closed_as_its_model_closes(think):
    def script(cue):
        opened = think.open if think else ""
        return " 25" if cue.prefix.endswith("Final Answer:") else f"{opened}So maybe 5 or 6" + " or 7" * 90

    outcome, engine = await asked(SelfConsistency(n=3, stop=Fixed()), script, think=think, cap=9)
    assert outcome.answer == "25"
    ours = [s.text for t in outcome.traces for s in t.segments if s.origin is Origin.injected]
    assert [text.strip() for text in ours] == [f"{think.close.strip()}\nFinal Answer:" if think else "Final Answer:"]
    assert engine.cues[-1].prefix.count("Final Answer:") == 1


async def test_a_nudge_is_never_part_of_an_answer():
    def script(cue):
        return " w w w w" if "Wait" in cue.prefix else "4"

    for tokens in range(60):
        outcome, _ = await asked(BudgetForcing(waits=3), script, tokens=tokens)
        assert all("Wait" not in t.answer.text for t in outcome.traces if t.answer)


async def test_what_was_answered_before_a_nudge_stands_when_nothing_is_added():
    class Nudged:
        async def solve(self, problem, llm):
            [first] = await llm.sample(problem)
            [second] = await llm.extend([first], inject=" Are you sure about 99?")
            return ts.Outcome.of(ts.Majority()([second]), [second])

    outcome, _ = await asked(Nudged(), lambda cue: " Yes, I am" if "sure" in cue.prefix else "It is 4.")
    assert outcome.answer != "99"
    outcome, _ = await asked(Nudged(), lambda cue: "" if "sure" in cue.prefix else "It is 4.")
    assert outcome.answer == "4"


async def test_what_we_write_in_front_of_an_answer_points_at_it():
    class Boxed:
        async def solve(self, problem, llm):
            [first] = await llm.sample(problem, max_tokens=3)
            [second] = await llm.extend([first], inject="\n\nSo it is \\boxed{")
            return ts.Outcome.of(ts.Majority()([second]), [second])

    outcome, _ = await asked(Boxed(), lambda cue: "25} and 8 more" if "boxed" in cue.prefix else "There are 8 and")
    assert outcome.answer == "25"


async def test_where_no_call_can_be_paid_the_answer_is_what_the_thinking_points_out():
    engine = Scripted(lambda _: f"{FOUND}</think>", think=THINK_TAGS)
    outcome = await solve(PROBLEM, BudgetForcing(), engine, budget=Budget(calls=1))
    assert (outcome.answer, outcome.usage.calls) == ("25", 1)
    assert "had found so far" in outcome.warnings[-1]


@pytest.mark.parametrize("method", [Single(), SelfConsistency(n=3), BudgetForcing()], ids=repr)
@each_format
async def test_with_nothing_sampled_there_is_no_answer_and_no_attempt_to_show(method, think):
    engine = Stalled(think=think)
    outcome = await solve(PROBLEM, method, engine, budget=Budget(seconds=0.2))
    assert (outcome.answer, outcome.best, outcome.stopped) == (None, None, "budget")


@pytest.mark.parametrize(
    ("said", "cut"),
    [("a " * 42, True), ("a " * 40 + "</think> It is 5.", False), ("a " * 60 + "</think> It is 5.", True)],
)
async def test_a_native_budget_that_was_not_kept_is_cut_after_a_call_that_came_in_one_piece(said, cut):
    def script(cue):
        return " 6" if cue.prefix.endswith("Final Answer:") else said

    can = EVERYTHING | {Capability.thinking_budget}
    outcome, engine = await asked(BudgetForcing(waits=0, max_thinking=40), script, can=can, think=THINK_TAGS)
    assert outcome.answer == ("6" if cut else "5")
    assert ["native budget of 40" in w for w in outcome.warnings] == [True] * cut
    assert outcome.usage.output_tokens == engine.spent.output_tokens


async def test_a_native_thinking_that_the_model_leaves_open_is_closed():
    def script(cue):
        return " 6" if cue.prefix.endswith("Final Answer:") else "a b"

    can = EVERYTHING | {Capability.thinking_budget}
    outcome, _ = await asked(BudgetForcing(waits=0, max_thinking=3), script, can=can, think=THINK_TAGS)
    assert (outcome.answer, outcome.best.text) == ("6", "<think>\na b\n</think>\nFinal Answer: 6")
