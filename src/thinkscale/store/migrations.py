"""How older files become what `schema.sql` says, one step per version. Nothing that was recorded is left behind.

A step changes how things are written and never what was found: answers, seeds and keys stay those of the rules that a
run was made under.
"""

from __future__ import annotations

import json
import sqlite3
from collections.abc import Callable, Iterator, Mapping
from importlib.resources import files

from thinkscale.identity import digest

_TABLES = """
    ALTER TABLE runs ADD COLUMN rules TEXT NOT NULL DEFAULT '{"seeds": 1, "keys": 1, "classes": 1}';
    ALTER TABLE traces RENAME TO former
"""
_FORMER = "SELECT id, run, role, path, prompt, finish, stop_string, answer, answer_key, error, pool FROM former"


def create(db: sqlite3.Connection) -> None:
    """Make the tables of a new file."""
    for _, statement in _statements():
        db.execute(statement)


def add_pools_and_keys(db: sqlite3.Connection) -> None:
    """From version 1 to 2."""
    for name, statement in _statements():
        if name in ("pools", "keys", "spending"):
            db.execute(statement.replace("CREATE TABLE", "CREATE TABLE IF NOT EXISTS", 1))


def write_traces_whole(db: sqlite3.Connection) -> None:
    """From version 2 to 3: a trace is one row instead of one per segment and score, and runs know their rules."""
    for statement in _TABLES.split(";"):
        db.execute(statement)
    for name, statement in _statements():
        if name in ("meta", "prompts", "traces", "claims", "verdicts"):
            db.execute(statement)
    for id, run, role, path, prompt, finish, stop_string, answer, key, error, pool in db.execute(_FORMER):
        body = {
            "segments": list(_segments(db, id)),
            "finish": finish,
            "stop_string": stop_string,
            "answer": None if key is None else {"text": answer, "key": key},
            "scores": list(_scores(db, id)),
            "error": error,
        }
        name = digest(prompt)
        db.execute("INSERT OR IGNORE INTO prompts VALUES (?, ?, ?)", (run, name, prompt))
        row = (run, role, name, path, pool, json.dumps(body))
        db.execute("INSERT OR IGNORE INTO traces VALUES (?, ?, ?, ?, ?, ?)", row)
    for name in ("scores", "segments", "former"):
        db.execute(f"DROP TABLE {name}")


STEPS: Mapping[int, Callable[[sqlite3.Connection], None]] = {1: add_pools_and_keys, 2: write_traces_whole}
"""What makes a file of one version one of the next."""


def _statements() -> Iterator[tuple[str, str]]:
    """The names of the tables and the statements that make them."""
    whole = files(__package__).joinpath("schema.sql").read_text(encoding="utf-8")
    plain = "\n".join(line.partition("-- ")[0] for line in whole.splitlines())
    for statement in plain.split(";"):
        if statement := statement.strip():
            yield statement.split()[2], statement


def _segments(db: sqlite3.Connection, trace: int) -> Iterator[Mapping[str, object]]:
    found = "SELECT origin, text, tokens, model, detail FROM segments WHERE trace = ? ORDER BY position"
    for origin, text, tokens, model, detail in db.execute(found, (trace,)):
        # A file written before there were tool calls has two parts.
        ids, logprobs, calls = [*_load(detail, [[], None]), []][:3]  # type: ignore[misc]
        said = {"origin": origin, "text": text, "tokens": tokens, "model": model}
        yield said | {"token_ids": ids, "logprobs": logprobs, "tool_calls": calls}


def _scores(db: sqlite3.Connection, trace: int) -> Iterator[object]:
    found = "SELECT kind, value, detail FROM scores WHERE trace = ? ORDER BY position"
    for kind, value, detail in db.execute(found, (trace,)):
        yield _load(detail, {"kind": kind, "value": float("-inf") if value is None else value})


def _load(text: str | None, otherwise: object) -> object:
    """What a text says, or something else where there is none or it is damaged."""
    try:
        return json.loads(text) if text else otherwise
    except ValueError:
        return otherwise
