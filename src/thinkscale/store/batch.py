"""Writing of records in whole batches, with one statement per kind of record.

One statement per kind and not per row, because SQLite works outside Python's lock, and every return into it waits for
the event loop.
"""

from __future__ import annotations

import json
import sqlite3
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from itertools import groupby

from thinkscale.engines.protocol import Completion
from thinkscale.store.rows import Prompt, completion_text, path_text, prompt_of, trace_text
from thinkscale.types import Trace

_COMPLETIONS = "INSERT OR REPLACE INTO completions SELECT key, value FROM json_each(?)"
# A run that somebody has deleted in the meantime gets no traces.
_PROMPT = "INSERT OR IGNORE INTO prompts SELECT ?1, ?2, ?3 WHERE ?1 IN (SELECT id FROM runs)"
_TRACES = """
    INSERT INTO traces SELECT ?1, ?2, ?3, key, json_extract(value, '$[0]'), json_extract(value, '$[1]')
    FROM json_each(?4) WHERE ?1 IN (SELECT id FROM runs)
    ON CONFLICT DO UPDATE SET pool = excluded.pool, body = excluded.body
"""
OVERHEAD = 512
"""About how many bytes a record takes beside its text."""


@dataclass(slots=True, eq=False)
class Bought:
    """A completion to be kept."""

    key: str
    completion: Completion
    size: int
    """Bytes, about."""


@dataclass(slots=True, eq=False)
class Recorded:
    """A trace to be kept."""

    run: str
    trace: Trace
    role: str
    pool: int | None
    size: int


@dataclass(slots=True, eq=False)
class Act:
    """Any other job; it may run more than once, if the file could not be written."""

    do: Callable[[sqlite3.Connection], object]
    size: int = OVERHEAD


Job = Bought | Recorded | Act


def commit(db: sqlite3.Connection, jobs: Sequence[Job]) -> None:
    """Write jobs in one transaction, all or none.

    Raises:
        sqlite3.Error: the file cannot be written.
        ValueError: a job can never be written.
    """
    if all(isinstance(job, Bought) for job in jobs):
        # One statement is a transaction by itself: what was paid for is safe with a single call.
        _write(db, jobs)
        return
    db.execute("BEGIN IMMEDIATE")
    try:
        _write(db, jobs)
        db.execute("COMMIT")
    except BaseException:
        if db.in_transaction:
            db.execute("ROLLBACK")
        raise


def _write(db: sqlite3.Connection, jobs: Sequence[Job]) -> None:
    bought = {job.key: job.completion for job in jobs if isinstance(job, Bought)}
    if bought:
        texts = {key: completion_text(completion) for key, completion in bought.items()}
        db.execute(_COMPLETIONS, (json.dumps(texts),))
    others = (job for job in jobs if not isinstance(job, Bought))
    for kind, some in groupby(others, key=type):
        if kind is Recorded:
            _write_traces(db, some)  # type: ignore[arg-type]
        else:
            for act in some:
                act.do(db)  # type: ignore[union-attr]


def _write_traces(db: sqlite3.Connection, records: Iterable[Recorded]) -> None:
    """Write traces; the last of those with the same run, role, prompt and path wins."""
    prompts: dict[int, Prompt] = {}
    groups: dict[tuple[str, str, int], dict[str, Recorded]] = {}
    for record in records:
        messages = record.trace.prompt
        if id(messages) not in prompts:
            prompts[id(messages)] = prompt_of(messages)
        group = groups.setdefault((record.run, record.role, id(messages)), {})
        group[path_text(record.trace.path)] = record
    for (run, role, messages_id), group in groups.items():
        prompt = prompts[messages_id]
        db.execute(_PROMPT, (run, prompt.name, prompt.messages))
        texts = {path: (record.pool, trace_text(record.trace)) for path, record in group.items()}
        db.execute(_TRACES, (run, role, prompt.name, json.dumps(texts)))
