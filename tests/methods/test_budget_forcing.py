import pytest

import thinkscale as ts
from thinkscale.api import solve
from thinkscale.budget import Budget, Ledger
from thinkscale.engines.protocol import Capability, ThinkFormat
from thinkscale.engines.scripted import EVERYTHING, Line, Scripted
from thinkscale.errors import CapabilityError, EngineError, SpecError
from thinkscale.methods.budget_forcing import BudgetForcing
from thinkscale.session import Place, Run, Session
from thinkscale.types import Finish, Origin, Sampling

PROBLEM = ts.Problem.of("2 + 3?")
TAGS = ThinkFormat(open="<think>\n", close="</think>\n", ends=("</think>",), answer_prefix="\nFinal Answer:")
NATIVE = EVERYTHING | {Capability.thinking_budget}


async def forced(method, script, *, budget=None, **engine):
    engine = Scripted(script, **{"think": TAGS, **engine})
    outcome = await solve(PROBLEM, method, engine, budget=budget or Budget(), sampling=Sampling(max_tokens=50))
    return outcome, engine


async def test_the_worked_example_of_the_paper_comes_out_with_nudges_on_lines_of_their_own():
    script = [
        Line(says="a b c", prefix="<think>\n", max_tokens=100, stop=("</think>",)),
        Line(says=" check again ok</think> never seen", prefix="<think>\na b c\nWait", max_tokens=97),
        Line(says="Answer: 5", prefix="<think>\na b c\nWait check again ok</think>\n", max_tokens=50, stop=()),
    ]
    outcome, engine = await forced(BudgetForcing(waits=1, max_thinking=100), script)
    assert outcome.best.text == "<think>\na b c\nWait check again ok</think>\nAnswer: 5"
    assert (outcome.answer, outcome.usage.calls, outcome.usage.output_tokens) == ("5", 3, 8)
    assert [(s.text, s.tokens) for s in outcome.best.segments if s.origin is Origin.sampled] == [
        ("a b c", 3), (" check again ok", 3), ("Answer: 5", 2),
    ]  # fmt: skip
    assert engine.spent.output_tokens == 8


async def test_with_four_thinking_tokens_the_second_segment_is_cut_and_the_answer_is_asked_for():
    script = [
        Line(says="a b c", max_tokens=4),
        Line(says=" check again ok", max_tokens=1),
        Line(says=" 5", prefix="<think>\na b c\nWait check\n</think>\nFinal Answer:"),
    ]
    outcome, _ = await forced(BudgetForcing(waits=1, max_thinking=4), script)
    assert outcome.best.text == "<think>\na b c\nWait check\n</think>\nFinal Answer: 5"
    assert (outcome.answer, outcome.usage.calls, outcome.usage.output_tokens) == ("5", 3, 5)


async def test_thinking_that_ends_exactly_at_its_budget_is_not_nudged():
    outcome, _ = await forced(BudgetForcing(waits=3, max_thinking=3), ["a b c", " 5"])
    assert outcome.best.text == "<think>\na b c\n</think>\nFinal Answer: 5"


async def test_a_line_that_is_already_ended_gets_no_second_end():
    outcome, _ = await forced(BudgetForcing(waits=0, max_thinking=3), ["a b c\nd", " 5"])
    assert outcome.best.text == "<think>\na b c\n</think>\nFinal Answer: 5"
    outcome, _ = await forced(BudgetForcing(waits=0, max_thinking=3), ["a b \n", "5"])
    assert outcome.best.text == "<think>\na b \n</think>\nFinal Answer:5"


async def test_without_waits_the_end_of_thinking_is_the_end():
    outcome, _ = await forced(BudgetForcing(waits=0), ["a b</think>", "Answer: 5"])
    assert outcome.best.text == "<think>\na b</think>\nAnswer: 5"


async def test_thinking_is_nudged_on_until_it_is_long_enough_and_waits_come_on_top():
    script = ["a b", " c d", " e f", " g h", "Answer: 5"]
    outcome, engine = await forced(BudgetForcing(waits=1, min_thinking=5), script)
    assert outcome.best.text == "<think>\na b\nWait c d\nWait e f\nWait g h</think>\nAnswer: 5"
    assert [c.sampling.min_tokens for c in engine.cues] == [5, 3, 1, 1, 0]


async def test_an_empty_nudge_appends_nothing():
    outcome, _ = await forced(BudgetForcing(waits=1, nudge=""), ["a b", " c", "Answer: 5"])
    assert outcome.best.text == "<think>\na b c</think>\nAnswer: 5"


async def test_a_model_that_says_nothing_is_not_nudged_for_ever():
    method = BudgetForcing(waits=1, min_thinking=5)
    outcome, engine = await forced(method, lambda _: "")
    assert outcome.answer is None
    assert len(engine.cues) <= method.ceiling(50).calls


async def test_a_model_without_markers_thinks_until_the_words_that_ask_for_the_answer():
    outcome, _ = await forced(BudgetForcing(waits=1), ["a b c", " d", " 5"], think=None)
    assert outcome.best.text == "a b c\nWait d\nFinal Answer: 5"
    assert outcome.answer == "5"


async def test_the_thinking_cap_is_that_of_the_session_when_the_method_names_none():
    _, engine = await forced(BudgetForcing(waits=0), ["a", "5"])
    assert [c.sampling.max_tokens for c in engine.cues] == [50, 50]


async def test_the_answer_may_have_a_cap_of_its_own():
    outcome, _ = await forced(BudgetForcing(waits=0, max_answer=2), ["a", "Answer: 5 or so", "5"])
    assert "</think>\nAnswer: 5" in outcome.best.text
    assert outcome.answer == "5", "an answer that its cap cut may go on, so that it is asked for again"


@pytest.mark.parametrize("tokens", range(30))
async def test_a_budget_of_any_size_ends_it_in_time_and_buys_an_answer_when_it_can(tokens):
    method = BudgetForcing(waits=2, max_thinking=20)
    outcome, engine = await forced(method, lambda _: " 7" * 12, budget=Budget(tokens=tokens))
    assert engine.spent.output_tokens == outcome.usage.output_tokens <= tokens
    assert (outcome.answer is not None) == (tokens > 1)  # the first is thought, and a thought is no answer


async def test_a_native_budget_is_used_in_one_call_when_the_engine_keeps_to_it():
    script = [Line(says="a b </think>\nAnswer: 5", max_tokens=53, prefix="<think>\n")]
    outcome, engine = await forced(BudgetForcing(waits=0, max_thinking=3), script, can=NATIVE)
    assert engine.cues[0].sampling.thinking_budget == 3
    assert (outcome.answer, outcome.warnings) == ("5", ())


async def test_a_native_budget_that_is_not_kept_is_enforced_here_and_reported():
    script = [Line(says="a b c d e f g h", pace=0.0), Line(says=" 5")]
    outcome, _ = await forced(BudgetForcing(waits=0, max_thinking=3), script, can=NATIVE)
    assert outcome.answer == "5"
    assert outcome.best.text.endswith("\n</think>\nFinal Answer: 5")
    assert outcome.best.segments[1].tokens < 8
    assert "native budget of 3" in outcome.warnings[0]


async def test_where_something_must_be_ignored_the_native_budget_is_not_used():
    _, engine = await forced(BudgetForcing(waits=1, max_thinking=9), ["a", " b", "5"], can=NATIVE)
    assert [c.sampling.thinking_budget for c in engine.cues] == [None] * 3


async def test_an_engine_that_cannot_continue_a_turn_is_refused_before_anything_is_spent():
    engine = Scripted(can=frozenset())
    with pytest.raises(CapabilityError, match="`prefill`"):
        await solve(PROBLEM, BudgetForcing(), engine, budget=Budget())
    assert engine.cues == []


async def test_a_failure_half_way_keeps_what_was_thought():
    def script(cue):
        return Line(says="a b") if cue.number == 0 else Line(fails=EngineError("gone"))

    outcome, _ = await forced(BudgetForcing(waits=1), script)
    assert outcome.best is None or outcome.best.finish is Finish.error
    assert (outcome.answer, outcome.stopped) == (None, "error")
    assert outcome.traces[0].text == "<think>\na b\nWait"
    assert outcome.usage.output_tokens == 2


@pytest.mark.parametrize("fields", [{"waits": -1}, {"min_thinking": -1}, {"max_thinking": 0}, {"max_answer": 0}])
def test_numbers_that_make_no_sense_are_refused(fields):
    with pytest.raises(SpecError):
        BudgetForcing(**fields)


@pytest.mark.parametrize("method", [BudgetForcing(waits=3), BudgetForcing(min_thinking=20, max_thinking=9, waits=0)])
async def test_it_never_costs_more_than_its_ceiling(method):
    for says in ("a", "a b c d e f", " x" * 60):
        engine = Scripted(lambda _, says=says: says, think=TAGS)
        llm = Session(Place(engine=engine, ledger=Ledger(Budget()), run=Run(), sampling=Sampling(max_tokens=50)))
        await method.solve(PROBLEM, llm)
        assert engine.spent.output_tokens <= method.ceiling(50).tokens
        assert engine.spent.calls <= method.ceiling(50).calls
