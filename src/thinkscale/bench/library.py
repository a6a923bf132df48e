"""Pools of recorded attempts in the store: imported from files, or drawn by an experiment; select as often as you like.

A pool is one run per question with its traces, and beside them what every answer is worth. Methods and rules see the
traces alone.
"""

from __future__ import annotations

import asyncio
import json
import time
from array import array
from collections.abc import Callable, Collection, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, field
from io import SEEK_END
from pathlib import Path
from tempfile import TemporaryFile

from thinkscale.bench.attempts import Attempts, Reading, attempts_of
from thinkscale.bench.pools import PoolFile, PoolLine
from thinkscale.errors import BenchError, StoreError
from thinkscale.identity import digest
from thinkscale.registry import nearest
from thinkscale.store import PoolEntry, RunRow, Store
from thinkscale.types import AnswerKind, Trace

__all__ = ["Imported", "Question", "Reading", "import_file", "load_pool"]

BACKLOG = 1 << 20
"""Bytes that may wait for the disk before the next question is read."""
SHOWN = 3
"""Questions on which verdicts differ that are named."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Question:
    """All recorded attempts at one question."""

    id: str
    traces: tuple[Trace, ...]
    """In draw order."""
    credits: Mapping[str, float]
    """Worth of each answer's key, from 0 to 1; other keys are worth nothing."""


@dataclass(slots=True, kw_only=True)
class Imported:
    """What became of one source of a file."""

    pool: str
    """Its name."""
    questions: int = 0
    attempts: int = 0
    answered: int = 0
    """Attempts with an answer."""
    verdicts_only: bool = False
    """Whether nothing but verdicts is known, so that all wrong attempts count as one answer."""
    kinds: dict[str, int] = field(default_factory=dict)
    """Questions by kind of answer."""
    scores: list[str] = field(default_factory=list)
    """Kinds of scores that attempts have."""
    compared: int = 0
    """Attempts on which both the source and we have a verdict."""
    theirs_alone: int = 0
    """Of these, right by the source's verdict alone."""
    ours_alone: int = 0
    """Of these, right by ours alone."""
    disputed: list[str] = field(default_factory=list)
    """The first few questions on which the two differ."""

    @property
    def differ(self) -> int:
        """Of these, right by one verdict and wrong by the other."""
        return self.theirs_alone + self.ours_alone

    def see(self, attempts: Attempts) -> None:
        """Take in a question."""
        kind = str(attempts.problem.answer_kind)
        self.questions += 1
        self.attempts += len(attempts.traces)
        self.answered += sum(t.answer is not None for t in attempts.traces)
        self.kinds[kind] = self.kinds.get(kind, 0) + 1
        self.scores = sorted({*self.scores, *(score.kind for t in attempts.traces for score in t.scores)})
        pairs = [(t, o) for t, o in zip(attempts.theirs, attempts.ours, strict=False) if t is not None]
        self.compared += len(pairs)
        self.theirs_alone += pairs.count((True, False))
        self.ours_alone += pairs.count((False, True))
        if any(t is not o for t, o in pairs) and len(self.disputed) < SHOWN:
            self.disputed.append(attempts.problem.id or attempts.problem.question)


class _Waiting(Sequence[PoolEntry]):
    """The entries of a pool until all of them are there: on disk, since a pool may have millions."""

    def __init__(self, files: ExitStack) -> None:
        self._file = files.enter_context(TemporaryFile())  # noqa: SIM115 - the stack closes it
        self._starts = array("q")

    def add(self, entry: PoolEntry) -> None:
        """Put one behind the others."""
        self._starts.append(self._file.seek(0, SEEK_END))
        self._file.write(json.dumps([entry.run, entry.gold, dict(entry.credits)]).encode() + b"\n")

    def __len__(self) -> int:
        return len(self._starts)

    def __getitem__(self, at: int) -> PoolEntry:  # type: ignore[override]
        self._file.seek(self._starts[at])
        run, gold, credits = json.loads(self._file.readline())
        return PoolEntry(run=run, gold=tuple(gold), credits=credits)


async def import_file(
    path: Path,
    store: Store,
    *,
    name: str = "",
    reading: Reading = Reading.auto,
    kind: AnswerKind | None = None,
    by: Sequence[str] = (),
    heard: Callable[[Imported], None] = lambda _: None,
) -> list[str]:
    """Keep the pools of a file in the store, one for every source in it; returns their names.

    An answer is worth the mean verdict of the source on the attempts that gave it, or, where there is none or the texts
    are read by wish, what it is worth when graded here by kind. A pool is there when all of it is, or as it was before.

    Args:
        path: JSON lines, gzipped or not.
        store: where they are kept.
        name: of the pool; the file's when empty.
        reading: where answers come from.
        kind: of all answers; what the file says, or what each question suggests, when absent.
        by: fields of which each value is a pool of its own.
        heard: told after every question what has been read of its source so far.

    Raises:
        BenchError: the file is no recording, or has no reference answers and no verdicts.
        ModelError: the file cannot be read.
        StoreError: the store cannot be written.
    """
    kept: dict[tuple[str, str, str], tuple[Imported, _Waiting]] = {}
    with ExitStack() as files:
        file = files.enter_context(PoolFile(path, by))
        for at, source in enumerate(file.sources):
            parts = [name or path.name.split(".")[0], *(part for part in source if part)]
            pool = "/".join(parts[:1] if not at and len(file.sources) == 1 else parts)
            kept[source] = (Imported(pool=pool, verdicts_only=file.sources[source].bare), _Waiting(files))
        before = {told.pool: {e.run for e in store.named_pool(told.pool)} for told, _ in kept.values()}
        for line in file:
            told, entries = kept[line.source]
            attempts = await attempts_of(line, file.sources[line.source], reading, kind)
            known = before[told.pool]
            entries.add(_kept(told.pool, line, attempts, store, known, judged=reading is not Reading.text))
            told.see(attempts)
            heard(told)
            await asyncio.sleep(0)  # so that an interrupt is heard between two questions
            if store.waiting > BACKLOG:
                await store.settled()
        if store.trouble:
            raise StoreError(store.trouble)
        for told, entries in kept.values():
            store.keep_pool(told.pool, entries)
    return [told.pool for told, _ in kept.values()]


def load_pool(store: Store, name: str) -> list[Question]:
    """The questions of a pool.

    Raises:
        BenchError: there is no pool of that name.
    """
    entries = store.named_pool(name)
    if not entries:
        known = store.pool_names()
        tail = nearest(name, known) if known else ": `thinkscale import FILE` makes one"
        raise BenchError(f"no pool in `{store.path}` is called `{name}`{tail}")
    return [
        Question(id=run.problem.id, traces=tuple(store.pool(run.id)), credits=entry.credits)
        for entry in entries
        for run in store.runs(entry.run, 1)
    ]


def _kept(
    pool: str, line: PoolLine, attempts: Attempts, store: Store, before: Collection[str], *, judged: bool
) -> PoolEntry:
    """One question of a file as a run of the store, unless it is one of those that the pool consists of already.

    What the run holds is part of its name, so the pool that is to be replaced stays whole until it is.
    """
    name = line.question_id or line.question
    if not line.samples:
        raise BenchError(f"question `{name}` has no attempts: leave it out of the file")
    if not attempts.gradable(judged=judged):
        raise BenchError(f"question `{name}` has neither a reference answer nor verdicts: it is not gradable")
    keys = [trace.answer.key if trace.answer else "" for trace in attempts.traces]
    run = digest(pool, line.question_id, line.question, line.content, attempts.problem.answer_kind, *keys)[:12]
    entry = PoolEntry(run=run, gold=attempts.reference.gold, credits=attempts.credits(judged=judged))
    if run in before:
        return entry
    store.begin(
        RunRow(
            id=run,
            started=time.time(),
            method=line.method or "imported",
            model=line.model,
            seed=0,
            budget="",
            problem=attempts.problem,
        )
    )
    for place, trace in enumerate(attempts.traces):
        store.record(run, trace, "main", place)
    store.end(run, "done", {"answer": None, "verdicts": {"source": attempts.theirs, "ours": attempts.ours}})
    return entry
