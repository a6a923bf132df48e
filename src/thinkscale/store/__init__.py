"""Runs on disk: one SQLite file holding runs, traces, and every completion ever paid for. It knows no engine or method.

Writing never stops a run. What arrives within one turn of the event loop is committed together at its end, so a crash
loses at most what had not arrived; when the disk refuses, the run goes on in memory and `trouble` says why.
"""

from __future__ import annotations

import asyncio
import json
import math
import sqlite3
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from importlib.resources import files
from pathlib import Path

from pydantic import TypeAdapter

from thinkscale.engines.protocol import Completion
from thinkscale.errors import StoreError
from thinkscale.types import Answer, Finish, Logprobs, Message, Origin, Problem, Score, Segment, Trace

SCHEMA = 2
PATIENCE = 10.0
"""Most seconds to wait for another process that has the file."""
_RECALLED_AT_ONCE = 500
"""Keys per query, below SQLite's limit on parameters."""

_completion = TypeAdapter(Completion)
_messages = TypeAdapter(tuple[Message, ...])
_problem = TypeAdapter(Problem)
_score = TypeAdapter(Score)
_detail = TypeAdapter(tuple[tuple[int, ...], Logprobs | None, tuple[Mapping[str, object], ...]])


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


@dataclass(frozen=True, slots=True, kw_only=True)
class PoolEntry:
    """The recorded attempts at one question of a task, and what its answers are worth."""

    run: str
    """The run that holds the attempts."""
    gold: tuple[str, ...]
    credits: Mapping[str, float]
    """Worth of each answer's key, from 0 to 1."""


class Store:
    """One store file, open for reading and, where the disk allows it, for writing.

    Args:
        path: the file; made with its folders when absent. `":memory:"` keeps everything in this process.

    Raises:
        StoreError: the file is not a store, or was written by a newer thinkscale.
    """

    def __init__(self, path: Path | str) -> None:
        self.path = Path(path)
        self.trouble: str | None = None
        """Why nothing is written any more; `None` while all is well."""
        self._completions: dict[str, str] = {}
        self._traces: list[tuple[str, Trace, str, int | None]] = []
        self._flushing = False
        self._db = self._open(str(path))

    def recall(self, keys: Sequence[str]) -> dict[str, Completion]:
        """The completions known under these keys."""
        found = {key: self._completions[key] for key in keys if key in self._completions}
        for at in range(0, len(keys), _RECALLED_AT_ONCE):
            some = keys[at : at + _RECALLED_AT_ONCE]
            marks = ",".join("?" * len(some))
            try:
                found.update(self._db.execute(f"SELECT key, body FROM completions WHERE key IN ({marks})", some))
            except sqlite3.Error as error:
                self._give_up(error)
                break
        return dict(_readable(found))

    def remember(self, key: str, completion: Completion) -> None:
        """Keep a completion for good."""
        self._completions[key] = _json(_completion, completion)
        self._soon()

    def record(self, run: str, trace: Trace, role: str, pool: int | None = None) -> None:
        """Keep a trace of a run; one with the same prompt, role and path is replaced."""
        self._traces.append((run, trace, role, pool))
        self._soon()

    def begin(self, run: RunRow) -> None:
        """Enter a run, or enter it again: the same run continues where it stopped."""
        self.flush()
        self._write(
            "INSERT INTO runs (id, started, status, method, model, seed, budget, problem) "
            "VALUES (?, ?, ?, ?, ?, ?, ?, ?) "
            "ON CONFLICT (id) DO UPDATE SET started = excluded.started, status = excluded.status, outcome = NULL",
            (
                run.id,
                run.started,
                "running",
                run.method,
                run.model,
                str(run.seed),
                run.budget,
                _json(_problem, run.problem),
            ),
        )
        self._write("DELETE FROM traces WHERE run = ?", (run.id,))

    def end(self, run: str, status: str, summary: Mapping[str, object] | None = None) -> None:
        """Close a run."""
        self.flush()
        body = json.dumps(summary) if summary is not None else None
        self._write("UPDATE runs SET status = ?, outcome = ? WHERE id = ?", (status, body, run))

    def runs(self, like: str = "", limit: int = 20) -> list[RunRow]:
        """The latest runs whose name starts with `like`, newest first."""
        rows = self._read(
            "SELECT id, started, status, method, model, seed, budget, problem, outcome FROM runs "
            "WHERE substr(id, 1, ?) = ? ORDER BY started DESC, rowid DESC LIMIT ?",
            (len(like), like, limit),
        )
        return [_run(row) for row in rows]

    def traces(self, run: str) -> list[Trace]:
        """Every trace of a run, in the order of paths: its tree, steps and surplus included."""
        rows = self._read("SELECT * FROM traces WHERE run = ?", (run,))
        return sorted((self._trace(row) for row in rows), key=lambda t: t.path)

    def pool(self, run: str) -> list[Trace]:
        """The pool that the run's answer was selected from, in draw order."""
        rows = self._read("SELECT * FROM traces WHERE run = ? AND pool IS NOT NULL ORDER BY pool", (run,))
        return [self._trace(row) for row in rows]

    def keep_pool(self, name: str, entries: Sequence[PoolEntry]) -> None:
        """Give a name to the pools of some runs; a pool of that name is replaced."""
        self.flush()
        self._write("DELETE FROM pools WHERE name = ?", (name,))
        for position, entry in enumerate(entries):
            self._write(
                "INSERT INTO pools VALUES (?, ?, ?, ?, ?)",
                (name, position, entry.run, json.dumps(entry.gold), json.dumps(dict(entry.credits))),
            )

    def named_pool(self, name: str) -> list[PoolEntry]:
        """What was kept under a name, in order; nothing when nothing was."""
        rows = self._read("SELECT run, gold, credits FROM pools WHERE name = ? ORDER BY position", (name,))
        return [PoolEntry(run=str(r), gold=tuple(json.loads(str(g))), credits=json.loads(str(c))) for r, g, c in rows]

    def pool_names(self) -> list[str]:
        """All names of pools."""
        return [str(name) for (name,) in self._read("SELECT DISTINCT name FROM pools ORDER BY name", ())]

    def flush(self) -> None:
        """Commit everything that is waiting, in one transaction."""
        self._flushing = False
        if self.trouble or not (self._completions or self._traces):
            return
        try:
            with self._db:
                self._db.executemany("INSERT OR REPLACE INTO completions VALUES (?, ?)", self._completions.items())
                for run, trace, role, pool in self._traces:
                    self._insert(run, trace, role, pool)
        except (sqlite3.Error, ValueError) as error:
            self._give_up(error)
            return
        self._completions.clear()
        self._traces.clear()

    def close(self) -> None:
        """Commit and let go of the file."""
        self.flush()
        self._db.close()

    def _open(self, path: str) -> sqlite3.Connection:
        try:
            if path != ":memory:":
                self.path.parent.mkdir(parents=True, exist_ok=True)
            db = sqlite3.connect(path, timeout=PATIENCE, isolation_level="IMMEDIATE", check_same_thread=False)
        except (OSError, sqlite3.Error) as error:
            self.trouble = _unwritable(path, error)
            return prepared(sqlite3.connect(":memory:"))
        try:
            return prepared(db)
        except sqlite3.OperationalError as error:
            db.close()
            self.trouble = _unwritable(path, error)
            return _readonly(path) or prepared(sqlite3.connect(":memory:"))
        except sqlite3.DatabaseError:
            db.close()
            raise StoreError(
                f"`{path}` is not a store of thinkscale: name another file with `--store` or THINKSCALE_STORE"
            ) from None
        except StoreError:
            db.close()
            raise

    def _write(self, sql: str, values: Sequence[object]) -> None:
        if self.trouble:
            return
        try:
            with self._db:
                self._db.execute(sql, values)
        except (sqlite3.Error, ValueError) as error:
            self._give_up(error)

    def _read(self, sql: str, values: Sequence[object]) -> list[tuple[object, ...]]:
        try:
            return self._db.execute(sql, values).fetchall()
        except sqlite3.Error as error:
            raise StoreError(f"the store `{self.path}` cannot be read: {error}") from None

    def _give_up(self, error: Exception) -> None:
        self.trouble = _unwritable(str(self.path), error)

    def _soon(self) -> None:
        if self._flushing or self.trouble:
            return
        try:
            asyncio.get_running_loop().call_soon(self.flush)
            self._flushing = True
        except RuntimeError:
            self.flush()

    def _insert(self, run: str, trace: Trace, role: str, pool: int | None) -> None:
        prompt, path = _json(_messages, trace.prompt), "/".join(map(str, trace.path))
        answer, key = (trace.answer.text, trace.answer.key) if trace.answer else (None, None)
        self._db.execute(
            "DELETE FROM traces WHERE run = ? AND role = ? AND prompt = ? AND path = ?", (run, role, prompt, path)
        )
        row = self._db.execute(
            "INSERT INTO traces (run, role, path, prompt, finish, stop_string, answer, answer_key, error, pool) "
            "VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?)",
            (run, role, path, prompt, trace.finish, trace.stop_string, answer, key, trace.error, pool),
        ).lastrowid
        for at, s in enumerate(trace.segments):
            detail = _details(s)
            values = (row, at, s.origin, s.text, s.tokens, s.model, detail)
            self._db.execute("INSERT INTO segments VALUES (?, ?, ?, ?, ?, ?, ?)", values)
        for at, score in enumerate(trace.scores):
            value = score.value if math.isfinite(score.value) else None
            self._db.execute(
                "INSERT INTO scores VALUES (?, ?, ?, ?, ?)", (row, at, score.kind, value, _json(_score, score))
            )

    def _trace(self, row: Sequence[object]) -> Trace:
        id, _, _, path, prompt, finish, stop_string, answer, key, error, _ = row
        segments = self._read(
            "SELECT origin, text, tokens, model, detail FROM segments WHERE trace = ? ORDER BY position", (id,)
        )
        scores = self._read("SELECT detail FROM scores WHERE trace = ? ORDER BY position", (id,))
        return Trace(
            prompt=_messages.validate_python(json.loads(str(prompt))),
            segments=tuple(_segment(s) for s in segments),
            finish=Finish(str(finish)),
            stop_string=None if stop_string is None else str(stop_string),
            path=tuple(int(step) for step in str(path).split("/") if step),
            answer=None if key is None else Answer(str(answer), str(key)),
            scores=tuple(_restored(str(detail)) for (detail,) in scores),
            error=None if error is None else str(error),
        )


def prepared(db: sqlite3.Connection) -> sqlite3.Connection:
    """A connection whose schema version was checked and whose missing tables were made.

    Raises:
        StoreError: the file was written by a newer thinkscale.
        sqlite3.DatabaseError: it is no store.
    """
    version = db.execute("PRAGMA user_version").fetchone()[0]
    if version > SCHEMA:
        raise StoreError(
            f"the store was written by a newer thinkscale (schema {version}, this one reads up to {SCHEMA}): upgrade "
            "thinkscale, or name another file with `--store` or THINKSCALE_STORE"
        )
    tables = {name for (name,) in db.execute("SELECT name FROM sqlite_master WHERE type = 'table'")}
    if (tables or version) and "runs" not in tables:
        raise sqlite3.DatabaseError("the database of another program")
    _log_ahead(db)
    db.execute("PRAGMA synchronous = NORMAL")
    db.execute("PRAGMA foreign_keys = ON")
    if version < SCHEMA:
        db.executescript(files(__name__).joinpath("schema.sql").read_text() + f"PRAGMA user_version = {SCHEMA};")
    return db


def _log_ahead(db: sqlite3.Connection) -> None:
    """Turn on the write-ahead log. SQLite does not wait for this while another process opens the file as well."""
    given_up = time.monotonic() + PATIENCE
    while True:
        try:
            db.execute("PRAGMA journal_mode = WAL")
            return
        except sqlite3.OperationalError as error:
            if error.sqlite_errorcode & 0xFF != sqlite3.SQLITE_BUSY or time.monotonic() > given_up:
                raise
            time.sleep(0.002)


def _readonly(path: str) -> sqlite3.Connection | None:
    """A connection that only reads, so that what was paid for is still found; `None` when even that fails."""
    # In a folder that cannot be written there is no place for SQLite's own files: then it must be told to need none.
    for options in ("mode=ro", "mode=ro&immutable=1"):
        try:
            db = sqlite3.connect(f"{Path(path).absolute().as_uri()}?{options}", uri=True, check_same_thread=False)
        except sqlite3.Error:
            continue
        try:
            db.execute("SELECT key FROM completions LIMIT 1")
        except sqlite3.Error:
            db.close()
        else:
            return db
    return None


def _unwritable(path: str, error: Exception) -> str:
    return (
        f"the store `{path}` cannot be written ({error}), so this run is not recorded from here on: free some space or "
        "name another file with `--store` or THINKSCALE_STORE"
    )


def _json(adapter: TypeAdapter, value: object) -> str:  # type: ignore[type-arg]
    # Not by `dump_json`, which has no form for infinity and none for text that is not Unicode.
    return json.dumps(adapter.dump_python(value), default=str)


def _readable(found: Mapping[str, str]) -> Iterator[tuple[str, Completion]]:
    """The completions among cached bodies; one that does not parse is treated as not known."""
    for key, body in found.items():
        try:
            yield key, _completion.validate_python(json.loads(body))
        except ValueError:
            continue


def _details(segment: Segment) -> str | None:
    parts = (segment.token_ids, segment.logprobs, segment.tool_calls)
    return _json(_detail, parts) if any(parts) else None


def _segment(row: Sequence[object]) -> Segment:
    origin, text, tokens, model, detail = row
    # A file written before there were tool calls has two parts.
    parts = [*json.loads(str(detail)), []][:3] if detail else [[], None, []]
    ids, logprobs, calls = _detail.validate_python(parts)
    return Segment(
        text=str(text),
        origin=Origin(str(origin)),
        tokens=int(str(tokens)),
        model=str(model),
        token_ids=ids,
        logprobs=logprobs,
        tool_calls=calls,
    )


def _restored(detail: str) -> Score:
    return _score.validate_python(json.loads(detail))


def _run(row: Sequence[object]) -> RunRow:
    id, started, status, method, model, seed, budget, problem, outcome = row
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
    )
