"""A file of recorded attempts, looked at twice: once to see that all of it can be read, once question by question.

What is held in memory beside one question is a few bytes for each line and each question, so a file may be larger than
the memory. The attempts at one question may stand on lines that are far apart.
"""

from __future__ import annotations

import hashlib
from array import array
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from types import TracebackType

import numpy as np

from thinkscale.bench.fields import Misread
from thinkscale.bench.rows import Row, Rows
from thinkscale.bench.samples import PoolLine, PoolSample, lines_of
from thinkscale.bench.shapes import shaped
from thinkscale.errors import BenchError

__all__ = ["PoolFile", "PoolLine", "PoolSample", "Source", "by_source", "read_pool"]

_BINARY = ({0.0, 1.0}, {-1.0, 1.0})
"""Rewards that are verdicts."""


@dataclass(slots=True)
class Source:
    """What the attempts of one source have."""

    questions: int = 0
    attempts: int = 0
    answered: bool = False
    """Whether any has an answer that the source extracted."""
    spoken: bool = False
    """Whether any has a text."""
    judged: bool = False
    """Whether any has a verdict."""
    rewards: set[float] = field(default_factory=set)
    """The first few different ones."""

    @property
    def rewards_judge(self) -> bool:
        """Whether the rewards are the verdicts: there are no others, and these are 1 for right and one other number."""
        return not self.judged and bool(self.rewards) and any(self.rewards <= pair for pair in _BINARY)

    @property
    def bare(self) -> bool:
        """Whether nothing but verdicts is known of its attempts."""
        return not (self.answered or self.spoken)

    def see(self, line: PoolLine) -> None:
        """Take in a line."""
        self.attempts += len(line.samples)
        for sample in line.samples:
            self.answered = self.answered or sample.answer is not None
            self.spoken = self.spoken or sample.text is not None
            self.judged = self.judged or sample.correct is not None
            if sample.reward is not None and len(self.rewards) < 4:
                self.rewards.add(sample.reward)


class PoolFile:
    """The questions of a file of JSON lines, each with all attempts of one source, in the order of the file.

    Args:
        path: the file, gzipped or not.
        by: fields of which each value is a source of its own, such as `temperature`.

    Raises:
        BenchError: a line is not as expected, or a question was recorded twice by one source.
        ModelError: the file cannot be read, or a line is not a JSON object.
    """

    def __init__(self, path: Path | str, by: Sequence[str] = ()) -> None:
        self.path, self.by = Path(path), tuple(by)
        self.sources: dict[tuple[str, str, str], Source] = {}
        self._numbers, self._starts, self._questions = array("q"), array("q"), array("q")
        self._known: dict[bytes, int] = {}
        self._alone = bytearray()
        self._rows = Rows(self.path)
        try:
            for row in self._rows:
                self._look_at(row)
        except BaseException:
            self._rows.__exit__(None, None, None)
            raise

    def __enter__(self) -> PoolFile:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._rows.__exit__(kind, error, trace)

    def __iter__(self) -> Iterator[PoolLine]:
        """Every question with its attempts."""
        if not self._questions:
            return
        questions = np.frombuffer(self._questions, np.int64)
        order = np.argsort(questions, kind="stable")
        bounds = np.flatnonzero(np.diff(questions[order], prepend=-1)).tolist()
        for first, end in zip(bounds, [*bounds[1:], len(order)], strict=True):
            yield self._merged(order[first:end].tolist())

    def _look_at(self, row: Row) -> None:
        for line, alone in self._lines(row):
            source = self.sources.setdefault(line.source, Source())
            key = _key(line)
            question = self._known.setdefault(key, len(self._known))
            if question == len(self._alone):
                self._alone.append(alone)
                source.questions += 1
            elif not (alone and self._alone[question]):
                raise self._twice(row, line, question)
            source.see(line)
            self._numbers.append(row.number)
            self._starts.append(row.at)
            self._questions.append(question)

    def _lines(self, row: Row) -> Iterator[tuple[PoolLine, bool]]:
        try:
            shape = shaped(row.fields)
            for line in lines_of(shape, self.by):
                yield line, shape.alone
        except Misread as error:
            raise BenchError(f"line {row.number} of the pool `{self.path}`: {error}") from None

    def _merged(self, places: Sequence[int]) -> PoolLine:
        lines, content = [], hashlib.blake2b(digest_size=16)
        for place in places:
            row = self._rows.look_up(self._numbers[place], self._starts[place])
            content.update(row.line)
            lines += [line for line, _ in self._lines(row) if self._known[_key(line)] == self._questions[place]]
        first = lines[0]
        if other := next((line for line in lines if line.reference != first.reference), None):
            raise BenchError(
                f"the attempts at question `{first.question_id or first.question}` have different references in "
                f"`{self.path}` ({first.gold} and {other.gold}): give different questions a `question_id` of their own"
            )
        samples = first.samples if len(lines) == 1 else tuple(s for line in lines for s in line.samples)
        return replace(first, samples=samples, content=content.hexdigest())

    def _twice(self, row: Row, line: PoolLine, question: int) -> BenchError:
        place = self._questions.index(question)
        before = self._rows.look_up(self._numbers[place], self._starts[place])
        apart = [
            f"`--by {name}`"
            for name, value in row.fields.items()
            if isinstance(value, str | int | float) and name in before.fields and before.fields[name] != value
        ]
        advice = (
            f"tell the lines apart by `run` or by {' or '.join(apart)}" if apart else "tell the lines apart by `run`"
        )
        name = line.question_id or line.question
        return BenchError(
            f"question `{name}` was recorded twice by one source, on lines {before.number} and {row.number} of the "
            f"pool `{self.path}`: put all its samples on one line, or {advice}"
        )


def read_pool(path: Path | str, by: Sequence[str] = ()) -> Iterator[PoolLine]:
    """The questions of a file with their attempts; its formats are in `docs/guides/bench.md`.

    Raises:
        BenchError: a line is not as expected, or a question was recorded twice by one source.
        ModelError: the file cannot be read, or a line is not a JSON object.
    """
    with PoolFile(path, by) as file:
        yield from file


def by_source(lines: Iterable[PoolLine]) -> dict[tuple[str, str, str], list[PoolLine]]:
    """The lines of each source (model, method, run), in the order in which they were first seen."""
    found: dict[tuple[str, str, str], list[PoolLine]] = {}
    for line in lines:
        found.setdefault(line.source, []).append(line)
    return found


def _key(line: PoolLine) -> bytes:
    said = repr((line.source, line.question_id, line.question)).encode()
    return hashlib.blake2b(said, digest_size=16).digest()
