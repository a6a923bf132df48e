"""The shapes in which people keep recorded attempts, each brought into one: a question, and its attempts as objects.

A line holds all attempts at a question as objects (`samples`) or as one list for each property (`texts`, `answers`,
`correct`), or a single attempt of a question that stands on several lines, or counts of right attempts alone. This
module knows the names that fields go by and nothing of what their values mean.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from thinkscale.bench.fields import Misread, items, shown, whole

QUESTIONS = ("question", "problem", "prompt")
IDS = ("question_id", "problem_id", "task_id")
GOLDS = ("gold", "gold_answer", "ground_truth", "target", "reference")
OPTIONS = ("options", "choices")
TEXTS = ("text", "response", "output", "completion", "generation")
VERDICTS = ("correct", "is_correct", "passed")
GRADING = ("golds", "is_multiple_answer", "tolerance", "error", "unit")
SOURCES = ("model", "method", "run")
KINDS = ("answer_kind", "kind")
_OF_THE_LINE = frozenset({*QUESTIONS, *IDS, *GOLDS, *OPTIONS, *GRADING, *SOURCES, *KINDS, "vocab", "set", "dataset"})
"""What belongs to the question where a line holds one attempt."""
_COLUMNS = {
    **dict.fromkeys(("texts", "responses", "outputs", "completions", "generations"), "text"),
    **dict.fromkeys(("answers", "predictions", "preds"), "answer"),
    **dict.fromkeys(("correct", "is_correct", "is_corrects", "corrects"), "correct"),
    "rewards": "reward",
    "n_tokens": "n_tokens",
}
"""Lists of what attempts have, and what one of them has."""
_TOTALS = ("n", "num_samples", "total", "attempts", "samples")
_RIGHTS = ("correct", "num_correct")
_ALONE = (*TEXTS, "turns", "answer", *VERDICTS, "reward")
_MOST = 1_000_000
"""Attempts that counts may stand for."""


@dataclass(frozen=True, slots=True)
class Shaped:
    """One line of a file."""

    line: dict[str, object]
    """What it says of the question."""
    samples: Sequence[object]
    """What it says of each attempt."""
    alone: bool = False
    """Whether it is one attempt at a question, of which other lines may hold others."""


def shaped(row: Mapping[str, object]) -> Shaped:
    """A line, brought into the common shape.

    Raises:
        Misread: it has no attempts, or lists of them that differ in length.
    """
    if isinstance(row.get("samples"), list):
        rest = dict(row)
        return Shaped(rest, rest.pop("samples"))  # type: ignore[arg-type]
    if isinstance(row.get("all_answers"), list):
        return _released(row)
    if columns := [name for name in _COLUMNS if isinstance(row.get(name), list)]:
        return _columns(row, columns)
    if counted := _counted(row):
        return counted
    if row.get("samples") is None and any(row.get(name) is not None for name in _ALONE):
        line = {name: value for name, value in row.items() if name in _OF_THE_LINE}
        return Shaped(line, [{n: v for n, v in row.items() if n not in _OF_THE_LINE}], alone=True)
    if row.get("samples") is not None:
        raise Misread("samples", f"is {shown(row['samples'])}, and a list of attempts is expected")
    found = ", ".join(f"`{name[:40]}`" for name in list(row)[:8]) or "nothing"
    raise Misread(
        "",
        f"there are no attempts, only {found}: give all attempts at a question in a list `samples`, or one per line "
        "(`text`, `answer` or `correct`), or how many of `n` are `correct`",
    )


def _released(row: Mapping[str, object]) -> Shaped:
    """A line of the Best-of-infinity release (Komiyama et al. 2025): answers with their tokens, and no question."""
    samples = []
    for at, pair in enumerate(items(row["all_answers"], "all_answers", lambda entry, _: entry)):
        if not isinstance(pair, list) or len(pair) != 2:
            raise Misread(f"all_answers[{at}]", f"is {shown(pair)}, and a list of an answer and its tokens is expected")
        samples.append({"answer": pair[0], "n_tokens": pair[1]})
    line = {name: value for name, value in row.items() if name not in ("all_answers", "answers", "problem_num")}
    return Shaped(_named(row, line), samples)


def _named(row: Mapping[str, object], line: dict[str, object]) -> dict[str, object]:
    if row.get("problem_num") is not None:
        name = f"problem {whole(row['problem_num'], 'problem_num')}"
        line = {"question_id": name, **line}
    return line


def _columns(row: Mapping[str, object], names: Sequence[str]) -> Shaped:
    lists: dict[str, list[object]] = {name: row[name] for name in names}  # type: ignore[misc]
    size = len(lists[names[0]])
    for name, column in lists.items():
        if len(column) != size:
            raise Misread(name, f"has {len(column)} entries where `{names[0]}` has {size}: give one for each attempt")
    line = {name: value for name, value in row.items() if name not in lists and name != "problem_num"}
    fields = [_COLUMNS[name] for name in names]
    return Shaped(_named(row, line), [dict(zip(fields, of, strict=True)) for of in zip(*lists.values(), strict=True)])


def _counted(row: Mapping[str, object]) -> Shaped | None:
    """Counts of right attempts, as so many verdicts."""
    total = next((name for name in _TOTALS if _is_count(row.get(name))), "")
    right = next((name for name in _RIGHTS if _is_count(row.get(name))), "")
    if not total or not right:
        return None
    n, correct = whole(row[total], total) or 0, whole(row[right], right) or 0
    if n > _MOST:
        raise Misread(total, f"is {n}, and at most {_MOST:,} attempts at a question can be kept")
    if correct > n:
        raise Misread(right, f"is {correct}, which is more than the {n} attempts of `{total}`")
    line = {name: value for name, value in row.items() if name not in (total, right)}
    return Shaped(line, [{"correct": True}] * correct + [{"correct": False}] * (n - correct))


def _is_count(value: object) -> bool:
    return isinstance(value, int) and not isinstance(value, bool)
