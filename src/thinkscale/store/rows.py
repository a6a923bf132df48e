"""The records of the store, and their form as text. It knows no file.

All text is JSON in ASCII, or in UTF-8 without control characters, so that whole batches pass unchanged through SQLite's
JSON functions, whatever a model wrote.
"""

from __future__ import annotations

import json
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from pydantic import TypeAdapter
from pydantic_core import PydanticSerializationError

from thinkscale.engines.protocol import Completion
from thinkscale.identity import RULES, digest
from thinkscale.types import Message, Problem, Score, Segment, Trace

_completion = TypeAdapter(Completion)
_messages = TypeAdapter(tuple[Message, ...])
_problem = TypeAdapter(Problem)
_trace = TypeAdapter(Trace)


@dataclass(frozen=True, slots=True, kw_only=True)
class RunRow:
    """The record of one run."""

    id: str
    started: float
    """Seconds since 1970."""
    status: str = "running"
    """`running`, `done` or `interrupted`; a run that was killed stays `running`."""
    method: str
    model: str
    seed: int
    budget: str
    problem: Problem
    summary: Mapping[str, object] = field(default_factory=dict)
    """What `thinkscale ask --json` printed; empty until the run is done."""
    rules: Mapping[str, int] = field(default_factory=lambda: dict(RULES))
    """The version of each set of rules that the run was made under, as in `identity.RULES`."""


@dataclass(frozen=True, slots=True, kw_only=True)
class PoolEntry:
    """The recorded attempts at one question of a task, and the credit of its answers."""

    run: str
    """The run that holds the attempts."""
    gold: tuple[str, ...]
    credits: Mapping[str, float]
    """Credit of each answer key, in [0, 1]."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Prompt:
    """Messages as they are written."""

    name: str
    messages: str


def completion_text(completion: Completion) -> str:
    """A completion as it is written."""
    plain = completion.logprobs is None and not (completion.tool_calls or completion.rewards)
    return _text(_completion, completion, plain and _finite(completion.usage.usd))


def completion_of(text: str) -> Completion | None:
    """A completion as it was written; `None` for a text that is none."""
    try:
        return _completion.validate_python(json.loads(text))
    except (ValueError, RecursionError):
        return None


def prompt_of(messages: tuple[Message, ...]) -> Prompt:
    """Messages as they are written, and their name."""
    text = json.dumps(_messages.dump_python(messages), default=str)
    return Prompt(name=digest(text), messages=text)


def path_text(path: Sequence[int]) -> str:
    """A path as it is written."""
    return "/".join(map(str, path))


def trace_text(trace: Trace) -> str:
    """A trace as it is written, without its prompt, its tools and its path."""
    plain = all(map(_plain, trace.segments)) and all(map(_bounded, trace.scores))
    return _text(_trace, trace, plain, exclude={"prompt", "path", "tools"})


def trace_of(prompt: str, path: str, text: str) -> Trace:
    """A trace as it was written.

    Raises:
        ValueError: the text is no trace.
    """
    place = tuple(int(step) for step in path.split("/") if step)
    return _trace.validate_python({**json.loads(text), "prompt": json.loads(prompt), "path": place})


def problem_text(problem: Problem) -> str:
    """A problem as it is written."""
    return json.dumps(_problem.dump_python(problem), default=str)


def run_of(row: Sequence[object]) -> RunRow:
    """A run from its columns.

    Raises:
        ValueError: they are no run.
    """
    id, started, status, method, model, seed, budget, problem, outcome, rules = row
    return RunRow(
        id=str(id),
        started=float(str(started)),
        status=str(status),
        method=str(method),
        model=str(model),
        seed=int(str(seed)),
        budget=str(budget),
        problem=_problem.validate_python(json.loads(str(problem))),
        summary=json.loads(str(outcome)) if outcome else {},
        rules=json.loads(str(rules)),
    )


def _text(adapter: TypeAdapter, value: object, plain: bool, **left_out: object) -> str:  # type: ignore[type-arg]
    """A value as JSON: fast through pydantic, which knows neither infinity nor lone surrogates, or slowly."""
    if plain:
        try:
            return adapter.dump_json(value, exclude_defaults=True, **left_out).decode()  # type: ignore[arg-type]
        except PydanticSerializationError:
            pass
    return json.dumps(adapter.dump_python(value, exclude_defaults=True, **left_out), default=str)  # type: ignore[arg-type]


def _plain(segment: Segment) -> bool:
    return segment.logprobs is None and not segment.tool_calls


def _bounded(score: Score) -> bool:
    numbers = (score.value, *score.steps, *score.votes)
    return all(map(math.isfinite, numbers)) and _finite(score.usage.usd)


def _finite(usd: float | None) -> bool:
    return usd is None or math.isfinite(usd)
