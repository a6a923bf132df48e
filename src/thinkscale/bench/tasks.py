"""Problems with their reference answers: read from files, asked with an instruction, graded by meaning.

This is the only place where a reference answer stands beside a problem. What a method gets is the `Problem` alone.
"""

from __future__ import annotations

import gzip
import json
import os
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

from thinkscale.bench.fields import Misread, text
from thinkscale.bench.grading import Grader
from thinkscale.bench.options import lettered, options_of, with_options
from thinkscale.bench.references import Reference, kind_told, reference_of
from thinkscale.errors import BenchError
from thinkscale.registry import nearest
from thinkscale.types import AnswerKind, Message, Problem

MATH = "\nThink step by step, then end with `The answer is <answer>.`"
CHOICE = "\nThink step by step, then end with `The answer is (<letter>).`"


@dataclass(frozen=True, slots=True, kw_only=True)
class Task:
    """A named set of problems, and how it is asked."""

    file: str
    """Below the data folder."""
    instruction: str = MATH
    kind: AnswerKind = AnswerKind.math
    about: str = ""


TASKS: Mapping[str, Task] = {
    "gsm8k": Task(file="problems/gsm8k_test.jsonl.gz", about="1,319 word problems of grade school"),
    "math500": Task(file="problems/math500.jsonl.gz", about="500 competition problems of MATH"),
    "aime2024": Task(file="problems/aime2024.jsonl.gz", about="30 competition problems"),
    "aime2025": Task(file="problems/aime2025.jsonl.gz", about="30 competition problems"),
    "amc23": Task(file="problems/amc23.jsonl.gz", about="40 competition problems"),
    "olympiadbench": Task(file="problems/olympiadbench_en_math.jsonl.gz", about="675 olympiad problems"),
    "minerva": Task(file="problems/minerva_math_ocw.jsonl.gz", about="272 problems of university courses"),
    "bbh": Task(
        file="problems/bbh_8tasks.jsonl.gz", instruction=CHOICE, kind=AnswerKind.auto, about="2,000 reasoning problems"
    ),
    "toy": Task(
        file="recorded/smollm2_toy_n32_logprobs.jsonl.gz",
        instruction="",
        about="48 one- and two-step word problems, after four worked examples",
    ),
}


@dataclass(frozen=True, slots=True, kw_only=True)
class Item(Reference):
    """One problem, and what counts as right."""

    id: str
    problem: Problem

    async def right(self, answer: str | None) -> bool:
        """Whether an answer means the same as the reference."""
        return await Grader(self.problem, self).right(answer)


def data_folder() -> Path:
    """Where the problem files are: `THINKSCALE_DATA`, or `../shared/data`."""
    return Path(os.environ.get("THINKSCALE_DATA", "../shared/data"))


def load(task: str, limit: int | None = None) -> list[Item]:
    """The first problems of a task, or of a file of JSON lines with `question` and `gold`.

    A line may also have `question_id`, `options`, `answer_kind`, `unit`, `tolerance` (how far a number may be off) and
    `messages`: earlier turns of a chat, such as worked examples, after which the question is asked as it stands,
    without an instruction.

    Raises:
        BenchError: neither a task nor a file is called so, or the data are absent.
    """
    known = TASKS.get(task)
    path = data_folder() / known.file if known else Path(task)
    if not path.is_file():
        if known:
            raise BenchError(f"there is no `{path}`: set THINKSCALE_DATA to the folder that has `{known.file}`")
        raise BenchError(f"no task and no file is called `{task}`{nearest(task, [*TASKS])}")
    rows = list(_rows(path, limit))
    if task == "toy" and rows:
        earlier = _shots(str(rows[0]["prompt"]))
        rows = [{**row, "messages": earlier} for row in rows]
    told = known or Task(file=task, kind=AnswerKind.auto)
    return [_checked(row, number, told, path) for number, row in enumerate(rows)]


def _rows(path: Path, limit: int | None) -> Iterator[Mapping[str, object]]:
    read = gzip.open if path.suffix == ".gz" else open
    with read(path, "rt", encoding="utf-8") as lines:
        for number, line in enumerate(lines, 1):
            if limit is not None and number > limit:
                return
            try:
                row = json.loads(line)
            except ValueError as error:
                raise BenchError(f"line {number} of `{path}` is no JSON ({error}): give one object per line") from None
            if not isinstance(row, dict) or "question" not in row or not ("gold" in row or "golds" in row):
                raise BenchError(f"line {number} of `{path}` has no `question` and `gold`: this task cannot be graded")
            yield row


def _checked(row: Mapping[str, object], number: int, task: Task, path: Path) -> Item:
    try:
        return _item(row, number, task)
    except Misread as error:
        raise BenchError(f"problem {number + 1} of `{path}`: {error}") from None


def _item(row: Mapping[str, object], number: int, task: Task) -> Item:
    unit, earlier, listed = row.get("unit"), row.get("messages"), options_of(row)
    question = with_options(text(row["question"], "question"), listed)
    kind = kind_told(row) or (AnswerKind.choice if listed else task.kind)
    instruction = CHOICE if task.instruction and kind is AnswerKind.choice else task.instruction
    full = f"{question}\nGive the answer in {unit}." if unit else question
    # Worked examples say how an answer looks.
    asked = Message("user", full if earlier else full + instruction)
    name = text(row.get("question_id", number), "question_id")
    problem = Problem(id=name, messages=(*_turns(earlier, number), asked), answer_kind=kind)
    told = lettered(reference_of(row), listed, kind)
    return Item(id=name, problem=problem, gold=told.gold, any=told.any, tolerance=told.tolerance, unit=told.unit)


def _turns(earlier: object, number: int) -> list[Message]:
    """The turns of a chat before the question."""
    try:
        return [Message(str(turn["role"]), str(turn["content"])) for turn in earlier or ()]  # type: ignore[attr-defined]
    except (TypeError, KeyError, AttributeError):
        raise BenchError(
            f"`messages` of problem {number + 1} were read as earlier turns of a chat and are none: give a list of "
            "objects with `role` and `content`"
        ) from None


def _shots(prompt: str) -> list[dict[str, str]]:
    """The worked examples of the recorded set's prompt as earlier turns of a chat."""
    shots = [turn.split("\nAnswer:") for turn in prompt.split("Question:")[1:-1]]
    return [
        {"role": role, "content": text.strip()}
        for shot in shots
        for role, text in zip(("user", "assistant"), shot, strict=True)
    ]
