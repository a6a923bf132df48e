"""DeepPrune: what is compared, what is finished, and how the vote keeps its weights."""

import pytest

from thinkscale.api import solve
from thinkscale.budget import Budget, Cost
from thinkscale.engines.protocol import ThinkFormat
from thinkscale.engines.scripted import Line, Scripted
from thinkscale.errors import SpecError
from thinkscale.methods.deepprune import Deepprune
from thinkscale.session import Run
from thinkscale.types import Finish, Problem, Sampling

PROBLEM = Problem.of("2 + 2?")
TAGS = ThinkFormat(open="<think>\n", close="</think>\n", ends=("</think>",), answer_prefix="\nFinal Answer:")
BEGUN = "one two three four"


def heading_for(*answers, ends=None):
    """A model whose attempts head for these answers, and give `ends` where they are finished."""
    begun = iter(answers)

    def script(cue):
        if not cue.prefix:
            return f"{BEGUN} {next(begun)} and more"
        if cue.prefix.endswith(":"):
            return f" {cue.prefix.split()[4]}"
        answer = cue.prefix.split()[4]
        return f" The answer is {(ends or {}).get(answer, answer)}."

    return script


async def run(method, script, budget=None):
    engine = Scripted(script, think=TAGS)
    sampling = Sampling(max_tokens=20)
    outcome = await solve(PROBLEM, method, engine, budget=budget or Budget(), sampling=sampling, run=Run(seed=1))
    return engine, outcome


def method(**fields):
    return Deepprune(**{"n": 5, "probe_tokens": 5, "answer_tokens": 3, **fields})


async def test_one_attempt_of_each_answer_is_finished_and_votes_for_all_of_them():
    engine, outcome = await run(method(), heading_for(7, 4, 4, 7, 4))
    assert [t.finish for t in outcome.traces] == [
        Finish.eos, Finish.eos, Finish.aborted, Finish.aborted, Finish.aborted,
    ]  # fmt: skip
    assert {v.answer: v.weight for v in outcome.votes} == {"4": 3.0, "7": 2.0}
    assert outcome.answer == "4"
    assert outcome.usage.calls == len(engine.cues) == 5 + 5 + 2
    assert outcome.usage.output_tokens == engine.spent.output_tokens == 5 * 5 + 5 + 2 * 4


async def test_a_minority_is_not_lost_to_the_largest_cluster():
    _, outcome = await run(method(), heading_for(4, 4, 4, 7, 8, ends={"7": 9, "8": 9, "4": 9}))
    assert outcome.answer == "9"
    assert outcome.votes[0].weight == 5.0


async def test_every_beginning_is_closed_as_its_model_closes_thinking_that_was_cut_short():
    engine, _ = await run(method(n=1), heading_for(4))
    begun, asked, finished = engine.cues
    assert (begun.sampling.max_tokens, begun.prefix) == (5, "")
    assert (asked.sampling.max_tokens, asked.sampling.temperature) == (3, 0.0)
    assert asked.prefix == f"{BEGUN} 4\n</think>\nFinal Answer:"
    assert (finished.prefix, finished.sampling.max_tokens) == (f"{BEGUN} 4", 15)


async def test_several_of_a_cluster_share_its_weight():
    _, outcome = await run(method(per_cluster=2), heading_for(4, 4, 4, 7, 4))
    assert [t.scores[-1].value if t.scores else None for t in outcome.traces] == [2.0, 2.0, None, 1.0, None]


async def test_attempts_that_end_by_themselves_are_not_asked_and_stand_for_their_cluster():
    script = heading_for(4, 4, 4)

    def short(cue):
        return "The answer is 4." if cue.number == 2 else script(cue)

    engine, outcome = await run(method(n=3), short)
    assert [t.finish for t in outcome.traces] == [Finish.aborted, Finish.aborted, Finish.eos]
    assert (outcome.answer, outcome.votes[0].weight, len(engine.cues)) == ("4", 3.0, 5)


async def test_an_answer_that_was_asked_for_stands_where_the_attempt_cannot_be_finished():
    _, outcome = await run(method(n=2), heading_for(4, 4, ends={"4": "unknown"}))
    assert outcome.answer == "4"
    _, outcome = await run(method(n=2), heading_for(4, 4), budget=Budget(calls=4))
    assert outcome.answer == "4"


async def test_attempts_without_an_answer_yet_are_all_finished():
    def script(cue):
        return " I do not know" if cue.prefix.endswith(":") else "a b c d e f g" if not cue.prefix else " Answer: 3"

    _, outcome = await run(method(n=3, answer_tokens=9), script)
    assert [t.finish for t in outcome.traces] == [Finish.eos] * 3
    assert outcome.votes[0].weight == 3.0


async def test_failed_attempts_stay_in_the_pool_and_are_not_clustered():
    script = heading_for(4, 4)

    def flaky(cue):
        return Line(says="gone", finish=Finish.error) if cue.number == 0 else script(cue)

    _, outcome = await run(method(n=3), flaky)
    assert [t.finish for t in outcome.traces] == [Finish.error, Finish.eos, Finish.aborted]
    assert outcome.votes[0].weight == 2.0


async def test_a_judge_of_ones_own_compares_without_asking():
    class SameStart:
        async def similarity(self, problem, traces, llm):
            return [[float(a.text[-1] == b.text[-1]) for b in traces] for a in traces]

        def ceiling(self, cap):
            return Cost(calls=1)

    pruning = method(judge=SameStart())
    engine, outcome = await run(pruning, heading_for(7, 4, 4, 7, 4))
    assert not any(c.prefix.endswith(":") for c in engine.cues)
    assert {v.answer: v.weight for v in outcome.votes} == {"4": 3.0, "7": 2.0}
    assert pruning.ceiling(20) == Cost(tokens=100, calls=15)


def test_its_ceiling_is_that_of_attempts_which_all_differ():
    assert method().ceiling(20) == Cost(tokens=5 * 23, calls=15)


@pytest.mark.parametrize("name", ["n", "probe_tokens", "answer_tokens", "per_cluster", "max_clusters", "compared"])
def test_numbers_that_make_no_sense_are_refused(name):
    with pytest.raises(SpecError):
        Deepprune(**{name: 0})
