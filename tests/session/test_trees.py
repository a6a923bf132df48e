"""The verbs that hold trees: steps, prompts of their own, probes, likelihoods, effects, and what they leave behind."""

import asyncio
import time

import pytest

from thinkscale.api import solve
from thinkscale.budget import Budget, Cost, Ledger
from thinkscale.engines.scripted import Line, Scripted
from thinkscale.methods.single import Single
from thinkscale.prompts import ask
from thinkscale.selection.majority import Majority
from thinkscale.session import Place, Run, Session
from thinkscale.store import Store
from thinkscale.types import Finish, Message, Origin, Outcome, Problem, Sampling, Segment, Stopped, Trace

PROBLEM = Problem.of("A baker makes 3 trays of 4 rolls. How many rolls?")
STEPS = ("Step 1: 3 trays of 4 rolls.", "Step 2: 3 times 4.", "The answer is 12.")


def session(engine, budget=None, *, max_tokens=50, closing=False, **run):
    ledger = Ledger(budget or Budget(), closing=closing)
    return Session(Place(engine=engine, ledger=ledger, run=Run(**run), sampling=Sampling(max_tokens=max_tokens)))


def steps(cue):
    """The rest of the three steps, whichever were said before."""
    said = cue.prefix.count("\n\n")
    return Line(says="\n\n".join(STEPS[said:]), pace=0.0)


async def test_a_step_is_no_answer_and_its_mark_is_the_models_own():
    llm = session(Scripted(steps), closing=True, budget=Budget(tokens=100))
    [[first]] = await llm.step([llm.open(PROBLEM)])
    assert (first.text, first.finish, first.answer) == (STEPS[0] + "\n\n", Finish.open, None)
    assert {s.origin for s in first.segments} == {Origin.sampled}
    kept = llm.place.ledger.left.tokens
    [[second]] = await llm.step([first])
    assert llm.place.ledger.left.tokens == kept - second.segments[-1].tokens, "a step frees no closing reserve"
    [[third]] = await llm.step([second])
    assert (third.finish, third.answer.text) == (Finish.eos, "12")
    assert await llm.step([third]) == [[third]]


async def test_a_stop_that_the_method_names_ends_a_step_and_not_an_answer():
    llm = session(Scripted(steps))
    [trace] = await llm.sample(PROBLEM, stop=("\n\n",))
    assert (trace.text, trace.finish, trace.answer) == (STEPS[0], Finish.stop, None)


async def test_a_stop_that_the_user_sets_ends_an_answer():
    llm = Session(
        Place(engine=Scripted(steps), ledger=Ledger(Budget()), run=Run(), sampling=Sampling(stop=("Step 2",)))
    )
    [trace] = await llm.sample(PROBLEM)
    assert trace.answer is not None


async def test_every_trace_of_a_frontier_has_its_group_and_ended_ones_stand_alone():
    llm = session(Scripted(steps))
    root = llm.open(PROBLEM)
    [children] = await llm.step([root], 3)
    ended = Trace(prompt=PROBLEM.messages, path=(9,), finish=Finish.eos)
    groups = await llm.step([children[0], ended, children[2]], 2)
    assert [len(group) for group in groups] == [2, 1, 2]
    assert [[t.path for t in group] for group in groups] == [[(0, 0, 0), (0, 0, 1)], [(9,)], [(0, 2, 0), (0, 2, 1)]]


async def test_a_step_without_a_mark_ends_at_its_cap():
    llm = session(Scripted(steps))
    [[first]] = await llm.step([llm.open(PROBLEM)], mark=None, max_tokens=3)
    assert (first.text, first.growing, first.answer) == ("Step 1: 3", True, None)


async def test_an_engine_that_says_nothing_ends_the_turn():
    llm = session(Scripted(lambda _: "\n\n"))
    [[first]] = await llm.step([llm.open(PROBLEM)])
    assert (first.finish, first.tokens) == (Finish.eos, 0)


@pytest.mark.parametrize("copies", [8, 500])
async def test_equal_texts_of_a_frontier_share_a_request(copies):
    asked = []

    class Counting(Scripted):
        def stream(self, request, abort=None):
            asked.append(request.n)
            return super().stream(request, abort)

    llm = session(Counting(steps))
    one = Trace(prompt=PROBLEM.messages)
    frontier = [Trace(prompt=(Message("user", PROBLEM.question),), path=(i,)) for i in range(copies)]
    await llm.step([one, *frontier], 2)
    assert asked == [2 * (copies + 1)]


async def test_equal_prompts_share_a_request_and_replies_stand_in_their_groups():
    asked = []

    class Counting(Scripted):
        def stream(self, request, abort=None):
            asked.append(request.n)
            return super().stream(request, abort)

    llm = session(Counting(lambda cue: cue.prompt))
    groups = await llm.each([Problem.of("a"), Problem.of("b"), Problem.of("a")], 2)
    assert [[t.text for t in group] for group in groups] == [["a", "a"], ["b", "b"], ["a", "a"]]
    assert sorted(asked) == [2, 4]
    assert len({(t.text, t.path) for group in groups for t in group}) == 6


async def test_a_draw_below_others_names_them():
    llm = session(Scripted(lambda _: "The answer is 12."))
    pool = await llm.sample(PROBLEM, 3)
    [[refined]] = await llm.each([PROBLEM.saying("Reconsider.")], under=[pool])
    assert refined.parents == ((0,), (1,), (2,))
    assert refined.path == (0, 0), "it stands below the first of them"
    [[again]] = await llm.each([PROBLEM.saying("Reconsider.")], under=[pool[:1]])
    assert again.path == (0, 1)


async def test_what_a_judge_says_answers_nothing_whatever_it_is_drawn_through():
    for by in (None, Single()):
        llm = session(Scripted(lambda _: "The answer is 4"), Budget(calls=10, tokens=100), closing=True)
        before = llm.place.ledger.left
        await llm.each([ask("same_meaning", question="?", first="a", second="b")], by=by, final=False)
        assert llm.place.ledger.left == before - Cost(tokens=4, calls=1)


async def test_a_temperature_reaches_the_engine_and_not_the_template():
    engine = Scripted(lambda _: "yes")
    await session(engine).each([ask("same_meaning", question="?", first="a", second="b")], temperature=0.25)
    assert engine.cues[0].sampling.temperature == 0.25


async def test_a_probe_is_charged_shown_and_pruned():
    engine = Scripted(lambda cue: " 12" if cue.prefix.endswith("so:") else steps(cue))
    llm = session(engine)
    [[first]] = await llm.step([llm.open(PROBLEM)])
    [seen] = await llm.probe([first], "so:", max_tokens=1)
    assert (seen.text, seen.answer.text) == (first.text + "so: 12", "12")
    [shown] = llm.place.run.surplus
    assert (shown.pruned, shown.answer, shown.path) == (True, None, seen.path)
    assert llm.place.ledger.spent.output_tokens == engine.spent.output_tokens
    [[second]] = await llm.step([first])
    assert second.path == first.path, "a probe takes no place from what goes on"


async def test_likelihoods_of_many_texts_are_asked_for_at_once_and_in_order():
    llm = session(Scripted(lambda cue: Line(logprob=-float(len(cue.continuation)))))
    found = await llm.likelihoods([(PROBLEM, "a"), (PROBLEM, "bbb"), (PROBLEM, "a")])
    assert [f.chosen for f in found] == [(-1.0,), (-3.0,), (-1.0,)]
    assert await session(Scripted(), Budget(calls=0)).likelihoods([(PROBLEM, "a")] * 2) == [None, None]


class Search:
    """Keep two of four at every step, by nothing; the loop is as open as a loop can be."""

    def __init__(self, depth=100):
        self.depth = depth

    async def solve(self, problem, llm):
        frontier = [llm.open(problem)]
        for _ in range(self.depth):
            if llm.exhausted or not any(t.growing for t in frontier):
                break
            frontier = [t for group in await llm.step(frontier, 2) for t in group][:2]
        return Outcome.of(Majority()(frontier), frontier)

    def ceiling(self, cap):
        return Cost(tokens=cap * 4 * self.depth, calls=4 * self.depth)


def closing(cue):
    return " 12" if cue.prefix.endswith("Final Answer:") else steps(cue)


@pytest.mark.parametrize(
    "budget", [Budget(calls=4), Budget(tokens=64), *(Budget(tokens=n) for n in range(9, 40))], ids=str
)
async def test_an_open_loop_ends_with_an_answer_under_every_budget(budget):
    engine = Scripted(closing)
    outcome = await solve(PROBLEM, Search(), engine, budget=budget)
    assert outcome.answer == "12"
    assert outcome.usage.output_tokens == engine.spent.output_tokens <= (budget.tokens or 1000)
    assert outcome.usage.calls == engine.spent.calls <= (budget.calls or 1000)
    assert outcome.stopped is (Stopped.done if budget.tokens == 64 else Stopped.budget)


async def test_branches_that_were_left_stay_in_the_pool_with_their_cost_and_without_an_answer():
    engine = Scripted(steps)
    outcome = await solve(PROBLEM, Search(), engine, budget=Budget())
    left = [t for t in outcome.traces if t.pruned]
    assert left
    assert {t.answer for t in left} == {None}
    assert Majority()(outcome.traces).best == outcome.best
    followed = {t.path for t in outcome.traces if not t.pruned}
    assert not any(f[: len(t.path)] == t.path for t in left for f in followed)


async def test_a_question_about_a_snapshot_that_takes_long_changes_no_result():
    async def slowly(trace):
        await asyncio.sleep(0.01)
        return trace.tokens >= 6

    words = Line(says=" ".join(f"w{i}" for i in range(30)), pace=0.0)
    texts, bills = set(), []
    for until in (slowly, lambda t: t.tokens >= 6):
        for concurrency in (1, 2, None):
            engine = Scripted(lambda _: words)
            llm = session(engine, concurrency=concurrency)
            traces = await llm.sample(PROBLEM, 3, until=until, every=3)
            texts |= {t.text for t in traces}
            assert {t.finish for t in traces} == {Finish.aborted}
            assert {t.tokens for t in traces} == {6}
            assert llm.place.ledger.spent.output_tokens == engine.spent.output_tokens
            bills.append(engine.spent.output_tokens)
    assert texts == {"w0 w1 w2 w3 w4 w5"}
    assert max(bills) > min(bills), "what was written meanwhile is charged"


async def test_a_cut_draw_is_replayed_as_it_was():
    async def slowly(trace):
        await asyncio.sleep(0.005)
        return trace.tokens >= 4

    store = Store(":memory:")

    def script(_):
        return Line(says=" ".join(f"w{i}" for i in range(30)), pace=0.0)

    first = await session(Scripted(script), memory=store).sample(PROBLEM, 2, until=slowly, every=2)
    silent = Scripted(script)
    again = await session(silent, memory=store).sample(PROBLEM, 2, until=slowly, every=2)
    assert [t.text for t in again] == [t.text for t in first]
    assert not silent.cues
    store.close()


async def test_a_question_that_itself_needs_the_engine_never_waits_for_its_own_draw():
    engine = Scripted(lambda cue: Line(says="yes" if cue.prompt == "judge" else "w " * 20, pace=0.0))
    llm = session(engine, Budget(tokens=60), concurrency=1, max_tokens=25)

    async def judged(trace):
        [group] = await llm.each([(Message("user", "judge"),)], final=False, max_tokens=2)
        return bool(group) and trace.tokens >= 8

    async with asyncio.timeout(5):
        [trace] = await llm.sample(PROBLEM, until=judged, every=8)
    assert trace.tokens == 8


async def test_an_effect_is_run_once_and_replayed():
    runs = []

    def grade(text, least=1):
        runs.append(text)
        return {"ok": len(text) >= least}

    store = Store(":memory:")
    assert await session(Scripted(), memory=store).outside(grade, "abc", 2) == {"ok": True}
    llm = session(Scripted(), memory=store)
    assert await llm.outside(grade, "abc", 2) == {"ok": True}
    assert (runs, llm.place.run.replayed) == (["abc"], 1)
    store.close()


async def test_an_effect_that_raises_or_hangs_loses_nothing_and_says_so():
    def broken(_):
        raise ValueError("no such file")

    llm = session(Scripted())
    assert await llm.outside(broken, 1) is None
    assert any("`test_an_effect" in w and "no such file" in w for w in llm.place.run.warnings)

    async def hangs():
        await asyncio.sleep(60)

    began = time.monotonic()
    hurried = session(Scripted(), Budget(seconds=0.2))
    assert await hurried.outside(hangs) is None
    assert await hurried.outside(lambda: time.sleep(2)) is None
    assert time.monotonic() - began < 1.5
    assert hurried.exhausted
    assert any("did not end within" in w for w in hurried.place.run.warnings)


async def test_a_cancelled_run_leaves_no_effect_running():
    llm = session(Scripted())
    llm.place.run.account = llm.place.ledger
    ended = []

    async def hangs():
        try:
            await asyncio.sleep(60)
        finally:
            ended.append(True)

    task = asyncio.create_task(llm.outside(hangs))
    await asyncio.sleep(0.01)
    llm.place.run.cancel()
    assert await task is None
    assert ended == [True]


def test_a_trace_splits_where_its_tokens_are():
    words = Segment(text="a b c d", origin=Origin.sampled, tokens=4)
    trace = Trace(prompt=PROBLEM.messages, segments=(words, Segment(text="!", origin=Origin.injected), words))
    head, tail = trace.split(4)
    assert (head.text, tail.text, head.tokens, tail.tokens) == ("a b c d!", "a b c d", 4, 4)
    head, tail = trace.split(6)
    assert (head.tokens, tail.tokens, head.text + tail.text) == (6, 2, trace.text)
    assert trace.split(99)[1].segments == ()
    assert trace.split(0)[0].text == ""


async def test_a_trace_with_known_tokens_splits_between_them():
    llm = Session(
        Place(engine=Scripted(["a bb ccc"]), ledger=Ledger(Budget()), run=Run(), sampling=Sampling(logprobs=0))
    )
    [trace] = await llm.sample(PROBLEM)
    head, tail = trace.split(2)
    assert (head.text, tail.text) == ("a bb", " ccc")
    assert (len(head.segments[0].logprobs.chosen), len(tail.segments[0].logprobs.chosen)) == (2, 1)


def test_a_problem_is_put_in_other_words_with_its_tools():
    tools = ({"type": "function"},)
    problem = Problem(messages=(Message("system", "s"), Message("user", "q")), tools=tools)
    assert problem.saying("hint").messages[1].content == "q\n\nhint"
    assert problem.saying("first", at="start").messages[1].content == "first\n\nq"
    assert problem.saying("new", at="instead").messages == (Message("system", "s"), Message("user", "new"))
    assert problem.saying("hint").tools == tools
    picture = Problem(messages=(Message("user", ({"type": "image_url"}, {"type": "text", "text": "q"})),))
    assert [p["type"] for p in picture.saying("new", at="instead").messages[0].content] == ["image_url", "text"]
    with pytest.raises(ValueError, match="none of"):
        problem.saying("x", at="middle")
