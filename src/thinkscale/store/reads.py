"""What is read of a store: what was paid for, runs and their traces, pools."""

from __future__ import annotations

import json
import sqlite3
import time
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import TypeVar

from thinkscale.engines.protocol import Completion
from thinkscale.errors import StoreError
from thinkscale.store.rows import PoolEntry, RunRow, completion_of, run_of, trace_of
from thinkscale.store.schema import FAULTS, MEMORY, PATIENCE, busy, reading, readonly
from thinkscale.store.writer import Writer
from thinkscale.types import Trace

T = TypeVar("T")

AT_ONCE = 500
"""Keys per query, below SQLite's limit on parameters."""
_RUNS = """
    SELECT id, started, status, method, model, seed, budget, problem, outcome, rules FROM runs
    WHERE substr(id, 1, ?) = ? ORDER BY started DESC, rowid DESC LIMIT ?
"""
_TRACES = """
    SELECT messages, path, body FROM traces JOIN prompts ON prompts.run = traces.run AND prompts.name = traces.prompt
    WHERE traces.run = ?
"""


class Reader:
    """A connection of its own beside the writer's, so that no read waits for a write.

    Args:
        path: the file.
        writer: who writes it, and may have it opened again.

    Raises:
        StoreError: the file is damaged, or no store of this version.
    """

    def __init__(self, path: Path | str, writer: Writer) -> None:
        self.trouble: str | None = None
        """Why what is known was not found the last time; `None` while all is well."""
        self._path, self._writer, self._opened = path, writer, 0
        if writer.db is None:
            self._db = readonly(path)
        else:
            self._db = writer.db if str(path) == MEMORY else reading(path)

    def recall(self, keys: Sequence[str]) -> dict[str, Completion]:
        """The completions known under these keys; those that cannot be read are not known."""
        unsaved = self._writer.unsaved
        found = {key: job.completion for key in keys if (job := unsaved.get(key))}
        missing = [key for key in keys if key not in found]
        try:
            for key, body in self.among("SELECT key, body FROM completions WHERE key IN ({})", missing):
                if completion := completion_of(str(body)):
                    found[str(key)] = completion
        except FAULTS as error:
            self.trouble = (
                f"the store `{self._path}` cannot be read ({error}), so what it holds may be paid for again: name "
                "another file with `--store` or THINKSCALE_STORE"
            )
        else:
            self.trouble = None
        return found

    def runs(self, like: str, limit: int) -> list[RunRow]:
        """The latest runs whose name starts with `like`, newest first."""
        return self._parse(run_of(row) for row in self.rows(_RUNS, (len(like), like, limit)))

    def traces(self, run: str) -> list[Trace]:
        """Every trace of a run, in the order of paths."""
        found = self._parse(trace_of(str(m), str(p), str(b)) for m, p, b in self.rows(_TRACES, (run,)))
        return sorted(found, key=lambda t: t.path)

    def pool(self, run: str) -> list[Trace]:
        """The pool that a run's answer was selected from, in draw order."""
        rows = self.rows(f"{_TRACES} AND pool IS NOT NULL ORDER BY pool", (run,))
        return self._parse(trace_of(str(m), str(p), str(b)) for m, p, b in rows)

    def named_pool(self, name: str) -> list[PoolEntry]:
        """What was kept under a name, in order."""
        rows = self.rows("SELECT run, gold, credits FROM pools WHERE name = ? ORDER BY position", (name,))
        return self._parse(
            PoolEntry(run=str(r), gold=tuple(json.loads(str(g))), credits=json.loads(str(c))) for r, g, c in rows
        )

    def among(self, sql: str, keys: Sequence[object]) -> Iterator[tuple[object, ...]]:
        """The rows of a query with a list of keys where it has braces; never waits for another process.

        Raises:
            sqlite3.Error: they cannot be had.
        """
        db = self._connect()
        for at in range(0, len(keys), AT_ONCE):
            some = keys[at : at + AT_ONCE]
            yield from db.execute(sql.format(",".join("?" * len(some))), some).fetchall()

    def rows(self, sql: str, values: Sequence[object] = ()) -> list[tuple[object, ...]]:
        """The rows of a query; waits for another process that keeps the file from being read.

        Raises:
            StoreError: they cannot be had.
        """
        given_up = time.monotonic() + PATIENCE
        while True:
            try:
                return self._connect().execute(sql, values).fetchall()
            except FAULTS as error:
                if not busy(error) or time.monotonic() > given_up:
                    raise StoreError(f"the store `{self._path}` cannot be read: {error}") from None
                time.sleep(0.01)

    def close(self) -> None:
        """Let go of the file."""
        self._db.close()

    def _connect(self) -> sqlite3.Connection:
        """The connection; another one to a file that has been opened again."""
        if self._opened != self._writer.opened:
            opened = self._writer.opened
            db = reading(self._path)
            self._db.close()
            self._db, self._opened = db, opened
        return self._db

    def _parse(self, records: Iterator[T]) -> list[T]:
        try:
            return list(records)
        except FAULTS as error:
            raise StoreError(f"the store `{self._path}` is damaged, a record in it makes no sense: {error}") from None
