"""ATTS: who writes which chunk, what is judged, and what is refused."""

import math

import pytest

from thinkscale.api import solve
from thinkscale.budget import Budget, Cost, Ledger
from thinkscale.engines.scripted import Line, Scripted
from thinkscale.engines.tabular import Tabular
from thinkscale.errors import CapabilityError, EngineError, SpecError
from thinkscale.methods.atts import Atts, perplexity
from thinkscale.session import Place, Run, Session
from thinkscale.types import Finish, Problem, Sampling

PROBLEM = Problem.of("2 + 2?")
CALIBRATION = (1.2, 1.5, 1.1, 2.0, 1.7, 1.3, 1.9, 1.4, 1.6)
BAD, GOOD = 2.5, 1.25


def target(*turns):
    """A target that finds the draft of each turn as surprising as said, and writes a chunk of its own when asked."""
    surprises = iter(turns)

    def script(cue):
        if cue.continuation is not None:
            return Line(logprob=-math.log(next(surprises)))
        return " target says so"

    return Scripted(script)


def drafter(*chunks):
    return Scripted(list(chunks))


async def run(method, draft, judge, budget=None, problem=PROBLEM):
    run = Run(roles={"draft": draft, "target": judge}, concurrency=1)
    sampling = Sampling(max_tokens=30)
    return await solve(problem, method, Scripted([]), budget=budget or Budget(), sampling=sampling, run=run)


def method(**fields):
    return Atts(**{"calibration": (CALIBRATION,) * 3, "chunk": 3, "turns": 3, "alpha": 0.4, **fields})


@pytest.mark.parametrize(("surprise", "accepted"), [(1.25, True), (1.75, False), (2.5, False)])
async def test_a_chunk_is_accepted_by_its_p_value(surprise, accepted):
    draft, judge = drafter("a b c"), target(surprise)
    outcome = await run(method(turns=1), draft, judge)
    assert len(judge.cues) == (1 if accepted else 2)
    assert outcome.best.text == ("a b c" if accepted else "a b c target says so")


async def test_a_rejected_chunk_stays_unless_it_is_to_be_drawn_anew():
    kept = await run(method(turns=2), drafter("a b c", " d e f"), target(BAD, GOOD))
    assert kept.best.text == "a b c target says so"
    replaced = await run(method(turns=1, resample=True), drafter("a b c"), target(BAD))
    assert replaced.best.text == " target says so"


async def test_the_target_reads_only_the_new_chunk_behind_everything_before_it():
    judge = target(GOOD, GOOD)
    await run(method(turns=2, chunk=2), Scripted(["a b c", " c d"]), judge)
    first, second = judge.cues
    assert (first.prefix, first.continuation) == ("", "a b")
    assert (second.prefix, second.continuation) == ("a b", " c d")


async def test_it_ends_with_the_writer_or_with_a_whole_answer():
    ended = await run(method(), drafter("a b"), target(GOOD))
    assert (ended.best.text, ended.best.finish) == ("a b", Finish.eos)
    draft = Scripted(["The answer is 4. So there", " never"])
    answered = await run(method(chunk=5), draft, target(GOOD, GOOD))
    assert (answered.answer, len(draft.cues)) == ("4", 1)


async def test_an_answer_at_the_very_end_of_a_chunk_may_go_on():
    draft = Scripted(["The answer is 4 and", "2 and no more"])
    outcome = await run(method(chunk=4), draft, target(GOOD, GOOD))
    assert (outcome.answer, len(draft.cues)) == ("42", 2)


async def test_turns_without_calibration_are_the_targets_own_and_the_reader_is_told():
    draft, judge = drafter("a b c d"), target(GOOD)
    outcome = await run(method(calibration=(CALIBRATION,), turns=2), draft, judge)
    assert (len(draft.cues), [c.continuation for c in judge.cues]) == (1, ["a b c", None])
    assert "calibrated for 1 turns" in outcome.warnings[0]
    alone = await run(Atts(chunk=3, turns=1), drafter(), target())
    assert alone.best.text == " target says so"


async def test_a_draft_that_fails_leaves_the_turn_to_the_target():
    draft = Scripted(lambda _: Line(fails=EngineError("gone")))
    outcome = await run(method(turns=1), draft, target())
    assert outcome.best.text == " target says so"


async def test_a_chunk_that_cannot_be_judged_is_not_trusted():
    judge = target(GOOD)
    outcome = await run(method(turns=1), drafter("4"), judge)
    assert outcome.best.text == "4 target says so"


async def test_perplexity_leaves_out_the_first_token():
    table = {"": {"a": 1.0}, "a": {" b": 0.5, " c": 0.5}, " b": {" c": 0.125, " b": 0.875}, " c": {"<end>": 1.0}}
    llm = Session(Place(engine=Tabular(table), ledger=Ledger(Budget()), run=Run()))
    assert await perplexity(llm, llm.open(PROBLEM), "a b c") == pytest.approx(math.sqrt(2 * 8))
    assert await perplexity(llm, llm.open(PROBLEM), "a") == math.inf
    assert await perplexity(llm, llm.open(PROBLEM), "") == math.inf


async def test_token_ids_of_the_draft_never_reach_the_target():
    class Attentive(Scripted):
        seen: list = []  # noqa: RUF012

        async def stream(self, request, abort=None):
            self.seen.extend(s.token_ids for s in request.prefix)
            async for chunk in super().stream(request, abort):
                yield chunk

    judge = Attentive(lambda cue: Line(says=" ok", logprob=-math.log(BAD)))
    draft = Tabular({"": {"a": 1.0}, "a": {" b": 1.0}, " b": {"a": 1.0}})
    await run(method(turns=2), draft, judge)
    assert judge.seen
    assert not any(judge.seen)


async def test_questions_of_the_calibration_are_refused():
    problem = Problem(messages=PROBLEM.messages, id="q1")
    with pytest.raises(SpecError, match="`q1` calibrated"):
        await run(method(calibrated_on=("q1",)), drafter(), target(), problem=problem)


@pytest.mark.parametrize(
    "fields",
    [
        {"chunk": 0},
        {"turns": 0},
        {"alpha": 0.0},
        {"alpha": 0.05},
        {"alpha": 1.5, "calibration": ()},
        {"calibration": ((math.nan,) * 9,)},
    ],
)
def test_what_cannot_work_is_refused(fields):
    with pytest.raises(SpecError):
        method(**fields)


async def test_a_target_that_cannot_judge_is_refused_by_name():
    with pytest.raises(CapabilityError, match="role `target` needs `likelihood`"):
        await run(method(), drafter(), Scripted(can=frozenset({"prefill"})))


@pytest.mark.parametrize("budget", [Budget(calls=1), Budget(calls=2), Budget(tokens=4), Budget(tokens=11)])
async def test_a_budget_ends_it_with_what_was_written(budget):
    wordy = Scripted(lambda _: Line(says=" 7" * 9, logprob=-math.log(BAD)))
    run = Run(roles={"draft": wordy, "target": wordy})
    outcome = await solve(PROBLEM, method(), wordy, budget=budget, sampling=Sampling(max_tokens=30), run=run)
    assert outcome.usage.calls <= (budget.calls or 99)
    assert outcome.usage.output_tokens <= (budget.tokens or 99)
    assert outcome.stopped == "budget"


def test_its_ceiling_is_that_of_drafts_which_are_all_rejected():
    assert method().ceiling(100) == Cost(tokens=18, calls=9)
