"""Recorded samples with their verdicts, as an experiment reads them: one line per question of one source.

The same files feed the `replay` engine, which serves texts and must not see a reference answer or a verdict. Here both
are read and nothing is served. Nothing is filled in: what a file does not say is `None` or empty.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path

from thinkscale.engines.protocol import Completion
from thinkscale.engines.replay import recorded_rows, recorded_sample, recorded_text
from thinkscale.errors import BenchError


@dataclass(frozen=True, slots=True, kw_only=True)
class PoolSample:
    """One recorded attempt."""

    text: str | None
    """What was said; that of turns is joined."""
    answer: str | None
    """As the source extracted it, trimmed; `None` where it found none."""
    correct: bool | None
    """The source's verdict."""
    tokens: int | None
    """Generated tokens."""
    reward: float | None
    """Of the whole answer, by a reward model; larger is better."""
    step_scores: tuple[float, ...]
    """Of every step, by a process reward model."""
    mean_logprob: float | None
    """Mean log-probability of the tokens at temperature 1, in nats."""
    token_logprobs: tuple[float, ...]
    """Of each token, in nats."""
    token_self_certainty: tuple[float, ...]
    """KL from uniform to the next-token distribution at each token, in nats."""
    completion: Completion
    """The same as the engine served it, as far as it was recorded."""
    rest: Mapping[str, object]
    """Every other field, as recorded."""


@dataclass(frozen=True, slots=True, kw_only=True)
class PoolLine:
    """All recorded attempts of one source at one question."""

    question_id: str
    question: str
    gold: tuple[str, ...]
    """The reference answers; several where any of them, or all together, are asked for."""
    model: str = ""
    method: str = ""
    run: str = ""
    samples: tuple[PoolSample, ...]
    """In draw order."""
    rest: Mapping[str, object] = field(default_factory=dict)
    """Every other field of the line, as recorded: the source's own results among them."""

    @property
    def source(self) -> tuple[str, str, str]:
        """Who drew it: model, method and run."""
        return (self.model, self.method, self.run)

    @property
    def answers(self) -> tuple[str | None, ...]:
        """The answer of each sample."""
        return tuple(s.answer for s in self.samples)

    @property
    def verdicts(self) -> tuple[bool, ...]:
        """Whether each sample is correct.

        Raises:
            BenchError: the source judged no answers.
        """
        found = tuple(s.correct for s in self.samples if s.correct is not None)
        if len(found) != len(self.samples):
            raise BenchError(f"question `{self.question_id}` was recorded without verdicts: grade its answers first")
        return found


NO_ANSWER = frozenset({"", "None", "invalid"})
"""What sources write where they found no answer."""


def read_pool(path: Path | str) -> Iterator[PoolLine]:
    """The lines of a file of JSON lines, gzipped or not, in the format of `docs/engines.md`.

    Beside the fields named there, a line has `question_id` and `gold` (one answer or a list), and a sample `answer`,
    `correct` and `mean_logprob`, each where the source has it. Files of the Best-of-infinity release are read as well.

    Raises:
        BenchError: a line lacks its question or samples, or a field is not of its kind.
        ModelError: the file cannot be read, or a line is not JSON.
    """
    for number, row in recorded_rows(Path(path)):
        try:
            yield _line(row)
        except (KeyError, TypeError, ValueError, AttributeError) as error:
            raise BenchError(
                f"line {number} of the pool `{path}` is not as expected ({error!r}): compare it with `docs/engines.md`"
            ) from None


def by_source(lines: Iterator[PoolLine]) -> dict[tuple[str, str, str], list[PoolLine]]:
    """The lines of each source (model, method, run), in the order in which they were first seen.

    Raises:
        BenchError: a source has two lines for one question.
    """
    found: dict[tuple[str, str, str], dict[tuple[str, str], PoolLine]] = {}
    for line in lines:
        known = found.setdefault(line.source, {})
        if (line.question_id, line.question) in known:
            raise BenchError(
                f"question `{line.question_id or line.question}` was recorded twice by one source: put all its samples "
                "on one line, or tell the lines apart by `run`"
            )
        known[line.question_id, line.question] = line
    return {source: [*known.values()] for source, known in found.items()}


def _line(row: Mapping[str, object]) -> PoolLine:
    rest = _released(row) if "gold_answer" in row else dict(row)
    samples: list[dict[str, object]] = rest.pop("samples")  # type: ignore[assignment]
    prompt, gold = rest.pop("prompt", None), rest.pop("gold", None)
    asked = rest.pop("question", None) or prompt
    if not asked:
        raise KeyError("question")
    return PoolLine(
        question_id=str(rest.pop("question_id", "")),
        question=str(asked),
        gold=() if gold is None else tuple(map(str, gold if isinstance(gold, list) else [gold])),
        model=str(rest.pop("model", "")),
        method=str(rest.pop("method", "")),
        run=str(rest.pop("run", "")),
        samples=tuple(map(_sample, samples)),
        rest=rest,
    )


def _released(row: Mapping[str, object]) -> dict[str, object]:
    """A line of the Best-of-infinity release (Komiyama et al. 2025): answers with their tokens, and no question."""
    pairs: list[tuple[object, int]] = row.get("all_answers", ())  # type: ignore[assignment]
    alone: list[object] = row.get("answers", ())  # type: ignore[assignment]
    samples = [{"answer": a, "n_tokens": t} for a, t in pairs] or [{"answer": a} for a in alone]
    name = f"problem {row['problem_num']}"
    return {"question_id": name, "question": name, "gold": row["gold_answer"], "samples": samples}


def _sample(row: Mapping[str, object]) -> PoolSample:
    rest = dict(row)
    text, correct, tokens = recorded_text(row), rest.pop("correct", None), rest.pop("n_tokens", None)
    if not isinstance(correct, bool | None):
        raise TypeError(f"the verdict {correct!r} is neither true nor false")
    rest.pop("text", None)
    return PoolSample(
        text=text,
        answer=_answer(rest.pop("answer", None)),
        correct=correct,
        tokens=None if tokens is None else int(str(tokens)),
        reward=_number(rest.pop("reward", None)),
        step_scores=_numbers(rest.pop("step_scores", None)),
        mean_logprob=_number(rest.pop("mean_logprob", None)),
        token_logprobs=_numbers(rest.pop("token_logprobs", None)),
        token_self_certainty=_numbers(rest.pop("token_self_certainty", None)),
        completion=recorded_sample(row),
        rest=rest,
    )


def _answer(given: object) -> str | None:
    said = "" if given is None else str(given).strip()
    return None if said in NO_ANSWER else said


def _number(given: object) -> float | None:
    return None if given is None else float(str(given))


def _numbers(given: object) -> tuple[float, ...]:
    return tuple(float(v) for v in given or ())  # type: ignore[attr-defined]
