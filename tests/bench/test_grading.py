"""An answer is right by its kind, against one reference or several, within the tolerance that a task states."""

import json

import pytest

from thinkscale.bench.fields import Misread
from thinkscale.bench.grading import Grader
from thinkscale.bench.references import kind_told, reference_of
from thinkscale.bench.tasks import load
from thinkscale.errors import BenchError
from thinkscale.types import AnswerKind, Problem


async def right(row, answer, question="?", kind=AnswerKind.math):
    return await Grader(Problem.of(question, kind), reference_of(row)).right(answer)


async def test_each_of_several_references_or_all_parts_of_one_are_right():
    assert await right({"golds": ["4", "four"]}, "The answer is 4.")
    assert not await right({"golds": ["4", "5"]}, "4, 5")
    assert await right({"gold": ["4", "5"]}, "4, 5")
    assert not await right({"gold": ["4", "5"]}, "4")
    assert await right({"gold": ["4", "5"], "is_multiple_answer": False}, "5")
    assert not await right({"gold": ["4", "5"], "is_multiple_answer": True}, "5")
    assert not await right({}, "5")
    assert not await right({"gold": "5"}, None)


@pytest.mark.parametrize(
    ("tolerance", "answer", "near"),
    [
        (0.1, "2.6", True),
        ("0.1", "2.4", True),
        ("1e-1", "2.601", False),
        ("4%", "2.6", True),
        ("4 %", "2.61", False),
        (0.1, "2.45 km", True),
        (0.1, "2.45 m", False),
        (0.1, "2450 m", True),
        (None, "2500 m", True),
        (None, "2.5 m", False),
        (None, "2.5 km", True),
        (None, "2.5000", True),
        (0, "2.6", False),
    ],
)
async def test_a_number_may_be_as_far_off_as_the_task_says(tolerance, answer, near):
    assert await right({"gold": "2.5", "unit": "km", "tolerance": tolerance}, answer) is near
    assert await right({"gold": "2.5", "unit": "km", "error": tolerance}, answer) is near


async def test_a_number_is_right_however_it_is_written():
    assert await right({"gold": ".35625"}, "0.35625")
    assert await right({"gold": "1/3"}, "0.33333")
    assert not await right({"gold": "1/3"}, "0.33334")


async def test_every_part_of_an_answer_may_be_off_in_any_order():
    row = {"gold": ["1", "2"], "tolerance": 0.1}
    assert await right(row, "(2.05, 0.95)")
    assert not await right(row, "2.05, 0.8")
    assert not await right(row, "2.05")


async def test_what_is_no_number_is_compared_as_without_a_tolerance():
    assert await right({"gold": "x+1", "tolerance": 0.1}, "x+1")
    assert not await right({"gold": "x+1", "tolerance": 0.1}, "x+1.05")


async def test_a_letter_is_compared_with_the_option_that_it_stands_for():
    question = "Which is even?\n(A) three\n(B) four"
    for gold in ("B", "four"):
        assert await right({"gold": gold}, "The answer is (B).", question, AnswerKind.choice)
        assert not await right({"gold": gold}, "The answer is (A).", question, AnswerKind.choice)


def test_a_kind_is_one_of_those_that_there_are():
    assert kind_told({"answer_kind": "yes_no"}) is kind_told({"kind": "yes-no"}) is AnswerKind.yes_no
    assert kind_told({"kind": "geometry"}) is None
    with pytest.raises(
        Misread, match=r"`answer_kind` is `\"geometry\"`, which is no kind of answer: choose one of `auto`"
    ):
        kind_told({"answer_kind": "geometry"})


@pytest.mark.parametrize(
    "wrong", [{"tolerance": "far"}, {"error": -1}, {"tolerance": True}, {"unit": {}}, {"gold": {}}]
)
def test_a_reference_that_cannot_be_read_is_refused(tmp_path, wrong):
    path = tmp_path / "t.jsonl"
    path.write_text(json.dumps({"question": "?", "gold": "1", **wrong}))
    with pytest.raises(BenchError, match=rf"problem 1 of `.*t\.jsonl`: `{next(iter(wrong))}` is "):
        load(str(path))


async def test_a_task_with_options_asks_for_a_letter(tmp_path):
    path = tmp_path / "t.jsonl"
    path.write_text(json.dumps({"question": "2 + 2?", "options": ["3", "4"], "gold": 1}))
    [item] = load(str(path))
    assert item.problem.answer_kind is AnswerKind.choice
    assert "2 + 2?\n(A) 3\n(B) 4\nThink step by step" in item.problem.question
    assert "(<letter>)" in item.problem.question
    assert (item.gold, await item.right("The answer is (B).")) == (("B",), True)
