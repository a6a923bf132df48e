"""Runs on disk: one SQLite file with runs, traces, and every completion ever paid for. It knows no engine or method.

Recording never blocks the event loop: a thread writes, and only a run that ends waits for its records. If the file
cannot be written, the run goes on, `trouble` says why, and waiting records are written once it can be written again.
"""

from __future__ import annotations

import json
import sqlite3
import weakref
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

from thinkscale.engines.protocol import Completion
from thinkscale.store.batch import OVERHEAD, Act, Bought, Recorded
from thinkscale.store.claims import FileClaims
from thinkscale.store.reads import Reader
from thinkscale.store.rows import PoolEntry as PoolEntry
from thinkscale.store.rows import RunRow as RunRow
from thinkscale.store.rows import problem_text
from thinkscale.store.schema import SCHEMA as SCHEMA
from thinkscale.store.schema import opened, unwritable
from thinkscale.store.writer import MOST, Writer
from thinkscale.types import Segment, Trace

_SIGNALS = 200
"""About how many bytes the log-probabilities of a token take."""
_BEGIN = """
    INSERT INTO runs (id, started, status, method, model, seed, budget, problem, rules)
    VALUES (?, ?, 'running', ?, ?, ?, ?, ?, ?)
    ON CONFLICT (id) DO UPDATE SET
        started = excluded.started, status = excluded.status, outcome = NULL, rules = excluded.rules
"""
_RULES = "INSERT INTO meta VALUES ('rules', ?) ON CONFLICT DO UPDATE SET value = excluded.value"


class Store:
    """One store file, open for reading and, where the disk allows it, for writing.

    Args:
        path: the file; created with its folders if absent, readable by its owner alone. `":memory:"` keeps everything
            in this process.

    Raises:
        StoreError: the file is damaged or no store, or was written by a newer thinkscale.
    """

    def __init__(self, path: Path | str) -> None:
        self.path = Path(path)
        try:
            self._writer = Writer(path, opened(path))
        except (OSError, sqlite3.OperationalError) as error:
            self._writer = Writer(path, None, unwritable(path, error))
        self._reader = Reader(path, self._writer)
        self._told = 0
        self.claims = FileClaims(self._writer, self._reader)
        """Claims on draws, shared with everybody who uses the file."""
        self._closed = weakref.finalize(self, _close, self._writer, self._reader)

    @property
    def trouble(self) -> str | None:
        """Why the file cannot be written, or could not be read, at the moment; `None` while all is well."""
        return self._writer.trouble or self._reader.trouble

    @property
    def lost(self) -> int:
        """Records that were dropped, because too many waited or because they could not be written."""
        return self._writer.lost

    @property
    def waiting(self) -> int:
        """About how many bytes wait to be written."""
        return self._writer.size

    def recall(self, keys: Sequence[str]) -> dict[str, Completion]:
        """The completions known under these keys."""
        return self._reader.recall(keys)

    def remember(self, key: str, completion: Completion) -> None:
        """Keep a completion for good."""
        signals = completion.tokens * _SIGNALS if completion.logprobs else 0
        self._writer.put(Bought(key, completion, OVERHEAD + len(completion.text) + signals))

    def record(self, run: str, trace: Trace, role: str, pool: int | None = None) -> None:
        """Keep a trace of a run; one with the same prompt, role and path is replaced."""
        self._writer.put(Recorded(run, trace, role, pool, OVERHEAD + sum(map(_size, trace.segments))))

    def begin(self, run: RunRow) -> None:
        """Enter a run; entering the same run again continues it where it stopped."""
        problem, rules = problem_text(run.problem), json.dumps(dict(run.rules))
        row = (run.id, run.started, run.method, run.model, str(run.seed), run.budget, problem, rules)

        def enter(db: sqlite3.Connection) -> None:
            db.execute(_BEGIN, row)
            db.execute("DELETE FROM traces WHERE run = ?", (run.id,))
            db.execute("DELETE FROM prompts WHERE run = ?", (run.id,))
            db.execute(_RULES, (rules,))

        self._do(enter, len(problem))

    def end(self, run: str, status: str, summary: Mapping[str, object] | None = None) -> None:
        """Close a run."""
        body = json.dumps(summary) if summary is not None else None
        sql = "UPDATE runs SET status = ?, outcome = ? WHERE id = ?"
        self._do(lambda db: db.execute(sql, (status, body, run)), len(body or ""))

    def runs(self, like: str = "", limit: int = 20) -> list[RunRow]:
        """The latest runs whose name starts with `like`, newest first."""
        self.flush()
        return self._reader.runs(like, limit)

    def traces(self, run: str) -> list[Trace]:
        """Every trace of a run, in the order of paths: its tree, steps and surplus included."""
        self.flush()
        return self._reader.traces(run)

    def pool(self, run: str) -> list[Trace]:
        """The pool that the run's answer was selected from, in draw order."""
        self.flush()
        return self._reader.pool(run)

    def keep_pool(self, name: str, entries: Sequence[PoolEntry]) -> None:
        """Give a name to the pools of some runs; a pool of that name is replaced."""
        rows = [(name, at, e.run, json.dumps(e.gold), json.dumps(dict(e.credits))) for at, e in enumerate(entries)]

        def replace(db: sqlite3.Connection) -> None:
            db.execute("DELETE FROM pools WHERE name = ?", (name,))
            db.executemany("INSERT INTO pools VALUES (?, ?, ?, ?, ?)", rows)

        self._do(replace, OVERHEAD * len(rows))

    def named_pool(self, name: str) -> list[PoolEntry]:
        """The entries of a named pool, in order; empty if there is none of that name."""
        self.flush()
        return self._reader.named_pool(name)

    def pool_names(self) -> list[str]:
        """All names of pools."""
        self.flush()
        return [str(name) for (name,) in self._reader.rows("SELECT DISTINCT name FROM pools ORDER BY name")]

    def verdicts_recall(self, kind: str, version: int, pairs: Sequence[tuple[str, str]]) -> dict[tuple[str, str], str]:
        """Known verdicts on pairs of answer keys, for one kind of answer and one version of the comparison."""
        sql = "SELECT verdict FROM verdicts WHERE kind = ? AND version = ? AND one = ? AND other = ?"
        found = {pair: self._reader.rows(sql, (kind, version, *pair)) for pair in dict.fromkeys(pairs)}
        return {pair: str(rows[0][0]) for pair, rows in found.items() if rows}

    def verdicts_keep(self, kind: str, version: int, verdicts: Mapping[tuple[str, str], str]) -> None:
        """Keep verdicts on pairs of answer keys; each pair is looked up in the order given here."""
        rows = [(kind, version, *pair, verdict) for pair, verdict in verdicts.items()]
        sql = "INSERT OR REPLACE INTO verdicts VALUES (?, ?, ?, ?, ?)"
        self._do(lambda db: db.executemany(sql, rows), OVERHEAD * len(rows))

    async def room(self) -> None:
        """Wait until the disk has caught up, if so much waits to be written that it has fallen behind."""
        if self._writer.size > MOST / 2:
            await self._writer.settled()

    async def settled(self) -> str | None:
        """Wait until every record survives the end of this process; returns why one does not, or `None`."""
        await self._writer.settled()
        return self._complaint()

    def flush(self) -> str | None:
        """The same, blocking the calling thread."""
        self._writer.flush()
        return self._complaint()

    def close(self) -> None:
        """Write waiting records and close the file."""
        self._closed()

    def _do(self, act: Callable[[sqlite3.Connection], object], size: int) -> None:
        self._writer.put(Act(act, OVERHEAD + size))

    def _complaint(self) -> str | None:
        if self.trouble or self.lost == self._told:
            return self.trouble
        lost, self._told = self.lost - self._told, self.lost
        return f"{lost} records could not be written to the store `{self.path}`, and were let go"


def _close(writer: Writer, reader: Reader) -> None:
    writer.flush()
    reader.close()
    writer.close()


def _size(segment: Segment) -> int:
    return len(segment.text) + (segment.tokens * _SIGNALS if segment.logprobs else 0)
