"""Problems are read with their reference answers, and graded by meaning."""

import gzip
import json

import pytest

from thinkscale.bench.tasks import TASKS, load
from thinkscale.errors import BenchError
from thinkscale.types import AnswerKind


def written(path, *rows):
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return str(path)


async def test_a_file_of_json_lines_is_a_task(tmp_path):
    items = load(written(tmp_path / "t.jsonl", {"question": "1 + 1?", "gold": "2"}, {"question": "2 + 2?", "gold": 4}))
    assert [i.id for i in items] == ["0", "1"]
    assert items[0].problem.question.startswith("1 + 1?\nThink step by step")
    assert await items[0].right("2.0")
    assert not await items[0].right("3")
    assert not await items[0].right(None)
    assert await items[1].right("The answer is 4")


def test_a_problem_does_not_hold_its_reference_answer(tmp_path):
    [item] = load(written(tmp_path / "t.jsonl", {"question": "?", "gold": "a-secret"}))
    assert "a-secret" not in repr(item.problem)


async def test_a_tolerance_and_several_parts_are_kept_to(tmp_path):
    rows = [{"question": "?", "gold": ["2.5"], "error": "1e-1", "unit": "km"}, {"question": "?", "gold": ["3", "5"]}]
    near, parts = load(written(tmp_path / "t.jsonl", *rows))
    assert "Give the answer in km." in near.problem.question
    assert await near.right("2.58")
    assert not await near.right("2.62")
    assert await parts.right("3, 5")


@pytest.mark.parametrize("said", ["1e999999999", "1e500", "9" * 2000])
async def test_a_number_that_no_float_holds_is_wrong_and_is_not_worked_out(tmp_path, said):
    [item] = load(written(tmp_path / "t.jsonl", {"question": "?", "gold": "2.5", "error": "0.5"}))
    assert not await item.right(said)
    assert await item.right("3")


async def test_earlier_turns_stand_before_the_question_as_it_is(tmp_path):
    turns = [{"role": "user", "content": "1 + 1?"}, {"role": "assistant", "content": "The answer is 2."}]
    [item] = load(written(tmp_path / "t.jsonl", {"question": "2 + 3?", "gold": "5", "messages": turns}))
    assert [(m.role, m.content) for m in item.problem.messages] == [
        ("user", "1 + 1?"),
        ("assistant", "The answer is 2."),
        ("user", "2 + 3?"),
    ]
    assert await item.right("5")


@pytest.mark.parametrize("turns", ["1 + 1?", [["user", "1 + 1?"]], [{"role": "user"}], 7])
def test_earlier_turns_that_are_none_are_said(tmp_path, turns):
    with pytest.raises(BenchError, match=r"`messages` of problem 1 .* objects with `role` and `content`"):
        load(written(tmp_path / "t.jsonl", {"question": "?", "gold": "5", "messages": turns}))


def test_a_limit_takes_the_first(tmp_path):
    path = tmp_path / "t.jsonl.gz"
    with gzip.open(path, "wt") as out:
        out.writelines(json.dumps({"question": f"{i}?", "gold": i}) + "\n" for i in range(9))
    assert [i.problem.question[0] for i in load(str(path), 3)] == ["0", "1", "2"]


def test_what_is_wrong_with_a_task_is_said(tmp_path, monkeypatch):
    monkeypatch.setenv("THINKSCALE_DATA", str(tmp_path / "nowhere"))
    with pytest.raises(BenchError, match="set THINKSCALE_DATA to the folder that has `problems/gsm8k_test"):
        load("gsm8k")
    with pytest.raises(BenchError, match="did you mean `gsm8k`"):
        load("gsm8")
    with pytest.raises(BenchError, match=r"line 1 of .* has no `question` and `gold`"):
        load(written(tmp_path / "a.jsonl", {"question": "?"}))
    (tmp_path / "b.jsonl").write_text("nonsense")
    with pytest.raises(BenchError, match=r"line 1 of .* is no JSON"):
        load(str(tmp_path / "b.jsonl"))


def test_every_task_says_what_it_is():
    assert all(task.about and task.file and task.kind in AnswerKind for task in TASKS.values())
