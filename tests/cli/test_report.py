"""What a person reads of an outcome: every attempt is counted, and what decided is shown."""

import math

from rich.console import Console

from thinkscale.bench.experiment import Result
from thinkscale.bench.majority import votes_of
from thinkscale.bench.tasks import Item
from thinkscale.cli.bench import _print_partly
from thinkscale.cli.report import votes_table
from thinkscale.registry import parse
from thinkscale.types import Answer, Finish, Outcome, Problem, Score, Trace


def attempt(answer, score=None, finish=Finish.eos):
    scores = () if score is None else (Score(value=score, kind="judge"),)
    return Trace(prompt=(), finish=finish, answer=None if answer is None else Answer(answer, answer), scores=scores)


def table(spec, *traces):
    console = Console(width=100)
    with console.capture() as captured:
        console.print(votes_table(Outcome.of(parse(spec, "selector")(traces), traces)))
    return [line.replace("█", " ").split() for line in captured.get().splitlines()]


def test_attempts_without_an_answer_have_a_row_and_cancelled_ones_have_none():
    found = table(
        "majority", attempt("4"), attempt("4"), attempt(None), attempt(None, finish=Finish.aborted), attempt("5")
    )
    assert found == [["answer", "votes"], ["4", "2"], ["5", "1"], ["without", "an", "answer", "1"]]


def test_the_scores_that_decided_stand_beside_the_votes():
    traces = (attempt("4", 0.25), attempt("5", 0.75), attempt("4", 0.5), attempt("6", -math.inf))
    assert table("best", *traces) == [
        ["answer", "votes", "best", "judge"],
        ["4", "2", "0.5"],
        ["5", "1", "0.75"],
        ["6", "1", "–"],
    ]


def test_weights_are_shown_where_they_are_no_votes():
    found = table("weighted-vote", attempt("4", 0.25), attempt("5", 0.75), attempt("4", 0.25))
    assert found[0] == ["answer", "votes", "weight", "best", "judge"]
    assert found[1:] == [["5", "1", "0.75", "0.75"], ["4", "2", "0.5", "0.25"]]


def told(item, answer):
    return Result(
        item=item, answer=answer, right=True, calls=1, needed=5, paid=5, seconds=1.0, stopped="done", run="",
        credit=1.0, attempts=1, votes=votes_of([answer], [1.0]), drawn=5,
    )  # fmt: skip


def test_after_an_interrupt_the_problems_that_all_methods_have_done_are_a_table(capsys):
    items = [Item(id=str(i), problem=Problem.of("?"), gold=("4",)) for i in range(3)]
    grid = [parse(spec, "method") for spec in ("self-consistency(n=4, stop=fixed)", "single", "best-of-n")]
    heard = [{str(i): told(str(i), "4") for i in range(3)}, {"0": told("0", "4"), "2": told("2", "4")}, {}]
    _print_partly("sums", items, grid, heard, n=4, whom="best-of-n")
    said = capsys.readouterr().out
    assert "2 problems of sums, the 2 of 3 problems that" in said
    assert "single" in said
    assert "best-of-n" not in said
    _print_partly("sums", items, grid, [{}, {}, {}], n=4, whom="single")
    assert not capsys.readouterr().out
