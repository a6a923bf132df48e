"""Votes across configurations, and the configurations that one call can have."""

import pytest

from thinkscale.api import solve
from thinkscale.budget import Budget, Cost
from thinkscale.engines.scripted import Scripted
from thinkscale.errors import SettingsError, SpecError
from thinkscale.methods.best_of_n import BestOfN
from thinkscale.methods.decoding_ensemble import DecodingEnsemble
from thinkscale.methods.on import On
from thinkscale.methods.single import Single
from thinkscale.registry import parse
from thinkscale.session import Run
from thinkscale.types import Message, Problem, Sampling

PROBLEM = Problem.of("2 + 2?")
BLOCKS = tuple(Single(system=f"Blocks of {size}.") for size in (8, 16, 32, 64, 128))


async def run(method, script, problem=PROBLEM, budget=None, **roles):
    engine = script if isinstance(script, Scripted) else Scripted(script)
    run = Run(roles=roles, concurrency=1)
    return await solve(problem, method, engine, budget=budget or Budget(), run=run, sampling=Sampling(max_tokens=10))


async def test_the_worked_example_is_a_tie_that_goes_to_the_first_seen():
    lines = [f"The answer is {a}" for a in (7, 5, 5, 7)]
    outcome = await run(DecodingEnsemble(configs=BLOCKS), [*lines, "I do not know"])
    assert outcome.answer == "7"
    assert [(v.answer, v.count) for v in outcome.votes] == [("7", 2), ("5", 2)]
    assert outcome.confidence == pytest.approx(0.4)


async def test_configurations_take_turns_and_every_trace_names_its_own():
    engine = Scripted(lambda _: "The answer is 4")
    configs = (Single(temperature=0.2), Single(temperature=0.8, top_p=0.9))
    outcome = await run(DecodingEnsemble(configs=configs, per_config=2), engine)
    assert [(c.sampling.temperature, c.sampling.top_p) for c in engine.cues] == [(0.2, None), (0.8, 0.9)] * 2
    assert [t.scores[-1].note for t in outcome.traces] == [repr(c) for c in configs] * 2
    assert len({t.path for t in outcome.traces}) == 4


async def test_a_budget_that_ends_early_has_served_all_configurations_alike():
    method = DecodingEnsemble(configs=BLOCKS[:2], per_config=4)
    outcome = await run(method, lambda _: "The answer is 4", budget=Budget(calls=3))
    assert [t.scores[-1].note for t in outcome.traces] == [repr(BLOCKS[i]) for i in (0, 1, 0)]


async def test_a_configuration_may_be_another_model_or_another_method():
    small = Scripted(lambda _: "The answer is 5")
    method = DecodingEnsemble(configs=(On(role="small"), BestOfN(n=2)))
    outcome = await run(method, lambda _: "The answer is 4", small=small)
    assert ([v.answer for v in outcome.votes], len(small.cues), outcome.usage.calls) == (["5", "4"], 1, 3)
    assert method.ceiling(10) == Cost(tokens=30, calls=3)


async def test_a_configuration_for_a_model_that_is_not_there_is_refused_before_anything_is_spent():
    engine = Scripted([])
    with pytest.raises(SettingsError, match="`small`"):
        await run(DecodingEnsemble(configs=(On(role="small"),)), engine)
    assert engine.cues == []


def test_it_can_be_written_as_a_spec():
    text = 'decoding-ensemble(configs=[single(temperature=0.2), single(system="Think in French.")], per_config=3)'
    made = parse(text, "method")
    assert made.configs == (Single(temperature=0.2), Single(system="Think in French."))
    assert repr(made) == text
    assert parse("decoding-ensemble", "method").configs == tuple(Single(temperature=t) for t in (0.2, 0.6, 1.0))


def test_a_list_of_nothing_is_refused():
    for fields in ({"configs": ()}, {"per_config": 0}):
        with pytest.raises(SpecError):
            DecodingEnsemble(**fields)


async def heard(method, problem):
    """The messages and tools that reach an engine."""
    asked = []

    class Listening(Scripted):
        def stream(self, request, abort=None):
            asked.append((request.messages, request.tools))
            return super().stream(request, abort)

    await run(method, Listening(lambda _: "4"), problem)
    return asked


TOOLS = ({"type": "function", "function": {"name": "add"}},)


async def test_a_system_message_takes_the_place_of_the_problems_own():
    told = (Message("system", "old"), Message("user", "2 + 2?"))
    for messages in (told, told[1:]):
        [(sent, tools)] = await heard(Single(system="new"), Problem(messages=messages, tools=TOOLS))
        assert sent == (Message("system", "new"), told[1])
        assert tools == TOOLS


async def test_the_question_may_be_put_in_other_words_and_keeps_its_tools():
    told = (Message("user", "hi"), Message("assistant", "hello"), Message("user", "2 + 2 = {x}?", {"name": "ann"}))
    method = Single(prompt="Work backwards. {question} Check it.")
    [(sent, tools)] = await heard(method, Problem(messages=told, tools=TOOLS))
    assert sent == (*told[:2], Message("user", "Work backwards. 2 + 2 = {x}? Check it.", {"name": "ann"}))
    assert tools == TOOLS


async def test_tools_do_not_go_with_what_is_no_variant_of_the_problem():
    method = DecodingEnsemble(configs=(Single(), Single(system="new")))
    sent = await heard(method, Problem.of("2 + 2?"))
    assert [tools for _, tools in sent] == [(), ()]


def test_a_prompt_that_leaves_out_the_question_is_refused():
    with pytest.raises(SpecError, match="where the question stands"):
        Single(prompt="Think.")


@pytest.mark.parametrize(
    "wrong", [{"max_tokens": 0}, {"max_tokens": -5}, {"prompt": "{question}" * 9}, {"prompt": "Hi"}]
)
def test_a_configuration_that_nothing_can_be_reserved_for_is_refused(wrong):
    with pytest.raises(SpecError):
        Single(**wrong)
