"""How `show` prints a search: steps below what they continue, refinements below what they refine."""

import io

from rich.console import Console

from thinkscale.cli.show import _tree
from thinkscale.store import RunRow
from thinkscale.types import Finish, Message, Origin, Problem, Score, Segment, Trace

PROBLEM = Problem.of("How many?")
RUN = RunRow(id="r", started=0.0, method="m", model="m", seed=0, budget="", problem=PROBLEM, status="done")


def trace(path, *texts, prompt=PROBLEM.messages, **more):
    return Trace(
        prompt=prompt,
        path=path,
        segments=tuple(Segment(text=t, origin=Origin.sampled, tokens=1) for t in texts),
        **more,
    )


def printed(*traces):
    console = Console(file=io.StringIO(), width=100)
    console.print(_tree(RUN, list(traces), full=True))
    return console.file.getvalue()


def test_a_step_stands_below_what_it_continues_and_shows_what_it_adds():
    shown = printed(
        trace((0,), "alpha "), trace((0, 0), "alpha ", "two"), trace((0, 1), "alpha ", "other", pruned=True)
    )
    assert "1.1  open" in shown
    assert "1.2  open  pruned" in shown
    assert shown.count("alpha") == 1


def test_a_refinement_names_what_it_was_made_from_and_what_was_asked():
    other = (Message("user", "Improve this."),)
    made = trace((0, 0), "better", prompt=other, parents=((0,), (1,)))
    shown = printed(trace((0,), "good"), made, trace((1,), "bad"))
    assert "1.1  open  made from 1, 2" in shown
    assert "asked: Improve this." in shown
    assert shown.index("good") < shown.index("better") < shown.index("bad")


def test_a_reward_stands_beside_the_step_that_it_judges():
    score = Score(value=0.25, kind="reward")
    reward = Trace(prompt=PROBLEM.messages, path=(0,), finish=Finish.eos, scores=(score,))
    shown = printed(reward, trace((0,), "step"))
    assert shown.count("\n├") + shown.count("\n└") == 1
    assert "reward 0.25" in shown
