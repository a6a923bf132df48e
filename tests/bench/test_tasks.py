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
