"""Pools of recorded attempts in the store: imported from files, or drawn by an experiment; select as often as you like.

A pool is one run per question with its traces, and beside them what every answer is worth. Methods and rules see the
traces alone.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from enum import StrEnum
from pathlib import Path

from thinkscale.answers import Classes, canonical, extract
from thinkscale.bench.pools import PoolLine, PoolSample, by_source, read_pool
from thinkscale.bench.tasks import Item
from thinkscale.errors import BenchError
from thinkscale.identity import digest
from thinkscale.registry import nearest
from thinkscale.store import PoolEntry, RunRow, Store
from thinkscale.types import Answer, AnswerKind, Origin, Problem, Score, Segment, Trace


class Reading(StrEnum):
    """Where the answers of imported samples come from."""

    auto = "auto"
    """The source's where it recorded any, otherwise the text; the source's verdicts where it has them."""
    source = "source"
    """The source's alone."""
    text = "text"
    """The text; verdicts are ours as well."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Question:
    """All recorded attempts at one question."""

    id: str
    traces: tuple[Trace, ...]
    """In draw order."""
    credits: Mapping[str, float]
    """Worth of each answer's key, from 0 to 1; other keys are worth nothing."""


async def import_file(
    path: Path,
    store: Store,
    *,
    name: str = "",
    reading: Reading = Reading.auto,
    heard: Callable[[PoolLine], None] = lambda _: None,
) -> list[str]:
    """Keep the pools of a file in the store, one for every source in it; returns their names.

    An answer is worth the mean verdict of the source on the attempts that gave it, or, where there is none or the texts
    are read by wish, what it is worth when graded here by meaning.

    Raises:
        BenchError: the file is no recording, or has no reference answers and no verdicts.
    """
    kept: list[str] = []
    for source, lines in by_source(read_pool(path)).items():
        parts = [name or path.name.split(".")[0], *(part for part in source if part)]
        pool = "/".join(parts[:1] if not kept and _single(path) else parts)
        entries, said = [], _told(lines) if reading is Reading.auto else reading
        for line in lines:
            entries.append(await _kept(pool, line, store, said, judged=reading is not Reading.text))
            heard(line)
        store.keep_pool(pool, entries)
        kept.append(pool)
    return kept


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


def _single(path: Path) -> bool:
    return len(by_source(read_pool(path))) == 1


def _told(lines: Sequence[PoolLine]) -> Reading:
    """Where the answers of a source are: one that gave any said of every other attempt that it has none."""
    given = any(s.answer is not None or s.text is None for line in lines for s in line.samples)
    return Reading.source if given else Reading.text


async def _kept(pool: str, line: PoolLine, store: Store, reading: Reading, *, judged: bool) -> PoolEntry:
    """One question of a file as a run of the store."""
    problem = replace(Problem.of(line.question, AnswerKind.auto), id=line.question_id)
    traces = [_trace(problem, sample, number, reading) for number, sample in enumerate(line.samples)]
    traces = await _classed(traces)
    run = digest(pool, line.question_id, line.question)[:12]
    store.begin(
        RunRow(
            id=run,
            started=time.time(),
            method=line.method or "imported",
            model=line.model,
            seed=0,
            budget="",
            problem=problem,
        )
    )
    for place, trace in enumerate(traces):
        store.record(run, trace, "main", place)
    store.end(run, "done", {"answer": None})
    return PoolEntry(run=run, gold=line.gold, credits=await _credits(problem, line, traces, judged))


def _trace(problem: Problem, sample: PoolSample, number: int, reading: Reading) -> Trace:
    said = sample.completion
    segment = Segment(text=said.text, origin=Origin.sampled, tokens=said.tokens, logprobs=said.logprobs)
    return Trace(
        prompt=problem.messages,
        segments=(segment,),
        finish=said.finish,
        path=(number,),
        answer=_answer(sample, reading),
        scores=tuple(_scores(sample)),
    )


def _answer(sample: PoolSample, reading: Reading) -> Answer | None:
    if reading is Reading.text:
        return extract(sample.text or "", AnswerKind.math)
    return None if sample.answer is None else Answer(sample.answer, canonical(sample.answer) or sample.answer)


def _scores(sample: PoolSample) -> list[Score]:
    scores = []
    if sample.mean_logprob is not None:
        scores.append(Score(value=sample.mean_logprob, kind="mean-logprob"))
    if sample.step_scores:
        scores.append(Score(value=sample.step_scores[-1], kind="process-reward", steps=sample.step_scores))
    if sample.reward is not None:
        scores.append(Score(value=sample.reward, kind="outcome-reward"))
    return scores


async def _classed(traces: Sequence[Trace]) -> list[Trace]:
    """The traces with equal answers under one key."""
    classes = Classes()
    await classes.add([t.answer for t in traces if t.answer is not None], AnswerKind.math)
    return [
        t if t.answer is None else replace(t, answer=replace(t.answer, key=classes.label(t.answer.key))) for t in traces
    ]


async def _credits(problem: Problem, line: PoolLine, traces: Sequence[Trace], judged: bool) -> dict[str, float]:
    """What every answer is worth: the mean verdict of the source on it, or ours where it gave none."""
    item = Item(id=line.question_id, problem=replace(problem, answer_kind=AnswerKind.math), gold=line.gold)
    verdicts: dict[str, list[float]] = {}
    for trace, sample in zip(traces, line.samples, strict=True):
        if trace.answer is None:
            continue
        known = verdicts.setdefault(trace.answer.key, [])
        if sample.correct is not None and judged:
            known.append(float(sample.correct))
    if not line.gold and not all(verdicts.values()):
        raise BenchError(
            f"question `{line.question_id}` has neither a reference answer nor verdicts: it is not gradable"
        )
    texts = {t.answer.key: t.answer.text for t in reversed(traces) if t.answer}
    return {
        key: sum(found) / len(found) if found else float(await item.right(texts[key]))
        for key, found in verdicts.items()
    }
