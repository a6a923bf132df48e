import pytest

from thinkscale.budget import Budget, Ledger
from thinkscale.engines.scripted import Line, Scripted
from thinkscale.errors import EngineError
from thinkscale.policy import Cut, End, drive, go, probe
from thinkscale.session import Place, Run, Session
from thinkscale.types import Finish, Problem, Sampling

PROBLEM = Problem.of("2 + 2?")


async def driven(policy, script, budget=None):
    engine = Scripted(script)
    llm = Session(Place(engine=engine, ledger=Ledger(budget or Budget()), run=Run(), sampling=Sampling(max_tokens=9)))
    start = llm.open(PROBLEM)
    return await drive(llm, start, policy(start), temperature=0.5), llm, engine


async def test_a_policy_is_sent_the_trace_that_came_of_its_step():
    seen = []

    async def policy(trace):
        seen.append((yield go("<")))
        seen.append((yield go("|", max_tokens=3, temperature=0.0)))

    trace, _, engine = await driven(policy, ["a b", " c d e f"])
    assert [t.text for t in seen] == ["<a b", "<a b| c d e"]
    assert trace == seen[-1]
    assert [(c.sampling.max_tokens, c.sampling.temperature) for c in engine.cues] == [(9, 0.5), (3, 0.0)]


async def test_a_probe_is_charged_and_leaves_no_mark_on_the_trace():
    async def policy(trace):
        yield go()
        seen = yield probe(" so:", max_tokens=1)
        assert seen.text == "a b so: 7"
        yield go(" on")

    trace, llm, engine = await driven(policy, ["a b", " 7", " c"])
    assert trace.text == "a b on c"
    assert trace.tokens == 3
    assert llm.place.ledger.spent.output_tokens == engine.spent.output_tokens == 4


async def test_probing_twice_gives_two_draws():
    async def policy(trace):
        yield go()
        for _ in range(2):
            yield probe(" so:")

    _, _, engine = await driven(policy, lambda cue: str(cue.seed))
    assert len({c.seed for c in engine.cues}) == 3


async def test_a_trace_that_is_cut_back_goes_on_from_there_and_stays_paid_for():
    async def policy(trace):
        assert (yield go()).text == "a b c d"
        assert (yield Cut(2)).tokens == 2
        yield go("|")

    trace, llm, _ = await driven(policy, ["a b c d", " e"])
    assert (trace.text.replace(" ", ""), trace.tokens) == ("ab|e", 3)
    assert llm.place.ledger.spent.output_tokens == 5


async def test_an_end_closes_the_text_without_a_call():
    async def policy(trace):
        yield go()
        yield End("</done>")
        raise AssertionError("a policy is not asked again after its end")

    trace, _, engine = await driven(policy, ["a"])
    assert trace.text == "a</done>"
    assert len(engine.cues) == 1


async def test_a_policy_without_a_step_returns_what_it_started_from():
    async def policy(trace):
        return
        yield

    trace, _, engine = await driven(policy, [])
    assert (trace.text, engine.cues) == ("", [])


@pytest.mark.parametrize("tokens", [0, 1, 4, 6])
async def test_the_end_of_the_budget_ends_the_loop_and_closes_the_policy(tokens):
    closed = []

    async def policy(trace):
        try:
            while True:
                yield go()
        finally:
            closed.append(True)

    trace, llm, _ = await driven(policy, lambda _: " x y", Budget(tokens=tokens))
    assert (trace.tokens, trace.finish, closed) == (tokens, Finish.budget, [True])
    assert llm.place.ledger.spent.output_tokens == tokens


async def test_a_probe_that_the_budget_cuts_short_leaves_the_trace_as_it_was():
    async def policy(trace):
        yield go()
        yield probe(" so:")
        yield go()

    trace, _, _ = await driven(policy, lambda _: " x y", Budget(tokens=3))
    assert (trace.text, trace.finish) == (" x y", Finish.eos)


async def test_a_failure_ends_the_loop_with_what_there_is():
    async def policy(trace):
        yield go()
        yield go("!")

    def script(cue):
        return "a b" if cue.number == 0 else Line(fails=EngineError("gone"))

    trace, _, _ = await driven(policy, script)
    assert (trace.text, trace.finish, trace.error) == ("a b!", Finish.error, "gone")
