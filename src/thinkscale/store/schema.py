"""The store's file: created for its owner alone; checked and migrated to the present version when it is opened."""

from __future__ import annotations

import os
import sqlite3
import time
from contextlib import suppress
from pathlib import Path

from thinkscale.errors import StoreError
from thinkscale.store.migrations import STEPS, create

SCHEMA = 3
PATIENCE = 10.0
"""Longest wait in seconds for a process that has locked the file."""
MEMORY = ":memory:"
_GLANCE = 0.01
"""Seconds that a read waits. With a write-ahead log only the recovery of a file makes it wait."""
FAULTS = (sqlite3.Error, ValueError, TypeError, LookupError, AttributeError, RecursionError)
"""Errors that a damaged file or a disk raises: SQLite's own, and those of values that were never written."""
_DISK = frozenset(
    {
        sqlite3.SQLITE_BUSY,
        sqlite3.SQLITE_CANTOPEN,
        sqlite3.SQLITE_FULL,
        sqlite3.SQLITE_IOERR,
        sqlite3.SQLITE_LOCKED,
        sqlite3.SQLITE_NOMEM,
        sqlite3.SQLITE_PERM,
        sqlite3.SQLITE_PROTOCOL,
        sqlite3.SQLITE_READONLY,
    }
)
_OWN = 0o600
"""File mode: only the owner may read questions and answers."""


def opened(path: Path | str, patience: float = PATIENCE) -> sqlite3.Connection:
    """A connection that writes. The file and its folders are created if absent, and an older file is migrated.

    Raises:
        StoreError: the file was written by a newer thinkscale, is damaged, or is no store.
        OSError: the file or its folders cannot be made.
        sqlite3.OperationalError: the file cannot be written.
    """
    if str(path) != MEMORY:
        Path(path).parent.mkdir(parents=True, exist_ok=True)
        with suppress(FileExistsError):
            os.close(os.open(path, os.O_CREAT | os.O_EXCL | os.O_RDWR, _OWN))
    db = sqlite3.connect(path, timeout=patience, isolation_level=None, check_same_thread=False)
    try:
        if 0 < _prepare(db, path, patience) < SCHEMA:
            _restrict(path)
    except BaseException as error:
        db.close()
        if isinstance(error, FAULTS) and not _refuses(error):
            raise _unreadable(path, error) from None
        raise
    return db


def reading(path: Path | str) -> sqlite3.Connection:
    """A connection that only reads and never waits, to a file that was opened for writing before.

    Raises:
        sqlite3.Error: the file cannot be read.
    """
    db = sqlite3.connect(path, timeout=_GLANCE, isolation_level=None, check_same_thread=False)
    db.execute("PRAGMA query_only = ON")
    return db


def readonly(path: Path | str) -> sqlite3.Connection:
    """A read-only connection to a file that cannot be written; an older file is copied to memory and migrated there.

    If the disk does not let it be read either, the connection is to an empty store in memory.

    Raises:
        StoreError: the file was written by a newer thinkscale, is damaged, or is no store.
    """
    # In a folder that cannot be written there is no place for SQLite's own files: then it must be told to need none.
    for options in ("mode=ro", "mode=ro&immutable=1"):
        try:
            db = sqlite3.connect(f"{Path(path).absolute().as_uri()}?{options}", uri=True, check_same_thread=False)
            return _update_copy(db, path)
        except FAULTS as error:
            if not _refuses(error):
                raise _unreadable(path, error) from None
    return opened(MEMORY)


def _update_copy(db: sqlite3.Connection, path: Path | str) -> sqlite3.Connection:
    """The connection itself if its file has the present version, else one to a migrated copy in memory."""
    try:
        if _version(db, path) == SCHEMA:
            return db
        copy = sqlite3.connect(MEMORY, isolation_level=None, check_same_thread=False)
        db.backup(copy)
        _prepare(copy, path, 0.0)
    except BaseException:
        db.close()
        raise
    db.close()
    return copy


def unwritable(path: Path | str, error: object) -> str:
    """The message about a file that cannot be written."""
    return (
        f"the store `{path}` cannot be written ({error}), so what is run now is not recorded until it can: free some "
        "space, or name another file with `--store` or THINKSCALE_STORE"
    )


def busy(error: Exception) -> bool:
    """Whether another process has locked the file."""
    return _code(error) in (sqlite3.SQLITE_BUSY, sqlite3.SQLITE_LOCKED)


def _refuses(error: Exception) -> bool:
    """Whether an error is about the disk or a lock, and not about the content of the file."""
    return _code(error) in _DISK


def _unreadable(path: Path | str, error: Exception) -> StoreError:
    if _code(error) == sqlite3.SQLITE_NOTADB:
        return _foreign(path)
    return StoreError(
        f"the store `{path}` is damaged ({error}): restore a copy, rescue what is left by `sqlite3 FILE .recover`, "
        "or name another file with `--store` or THINKSCALE_STORE"
    )


def _foreign(path: Path | str) -> StoreError:
    return StoreError(f"`{path}` is not a store of thinkscale: name another file with `--store` or THINKSCALE_STORE")


def _code(error: Exception) -> int:
    """SQLite's primary result code of an error, 0 for other errors."""
    return int(getattr(error, "sqlite_errorcode", 0)) & 0xFF


def _prepare(db: sqlite3.Connection, path: Path | str, patience: float) -> int:
    """Check a file and migrate it; returns the version that it had."""
    version = _version(db, path)
    _enable_wal(db, patience)
    db.execute("PRAGMA synchronous = NORMAL")
    db.execute("PRAGMA foreign_keys = ON")
    if version < SCHEMA:
        _migrate(db, path)
    return version


def _version(db: sqlite3.Connection, path: Path | str) -> int:
    """The schema version of a file, 0 for a new one.

    Raises:
        StoreError: it was written by a newer thinkscale, or is no store.
    """
    version, tables = _kind(db)
    if version > SCHEMA:
        raise StoreError(
            f"the store `{path}` was written by a newer thinkscale (schema {version}, this one reads up to {SCHEMA}): "
            "upgrade thinkscale, or name another file with `--store` or THINKSCALE_STORE"
        )
    if version < 0 or (tables and not version) or (version and "runs" not in tables):
        raise _foreign(path)
    return version


def _kind(db: sqlite3.Connection) -> tuple[int, set[str]]:
    """The schema version of a file and its tables, as of one moment: another process may be making them."""
    alone = not db.in_transaction
    if alone:
        db.execute("BEGIN")
    try:
        tables = {name for (name,) in db.execute("SELECT name FROM sqlite_master WHERE type = 'table'")}
        return int(db.execute("PRAGMA user_version").fetchone()[0]), tables
    finally:
        if alone:
            db.rollback()


def _migrate(db: sqlite3.Connection, path: Path | str) -> None:
    """Migrate a file in one transaction; of several processes that try, one does it."""
    db.execute("BEGIN IMMEDIATE")
    try:
        version = _version(db, path)
        if version == 0:
            create(db)
        else:
            for step in range(version, SCHEMA):
                STEPS[step](db)
        db.execute(f"PRAGMA user_version = {SCHEMA}")
        db.execute("COMMIT")
    except BaseException:
        if db.in_transaction:
            db.execute("ROLLBACK")
        raise


def _restrict(path: Path | str) -> None:
    """Make a file of an older version readable by its owner alone, once; a mode that is set later stays."""
    for name in (path, f"{path}-wal", f"{path}-shm"):
        with suppress(OSError):
            os.chmod(name, _OWN)


def _enable_wal(db: sqlite3.Connection, patience: float) -> None:
    """Turn on the write-ahead log; retried, because SQLite does not wait while another process opens the file."""
    given_up = time.monotonic() + patience
    while True:
        try:
            db.execute("PRAGMA journal_mode = WAL")
            return
        except sqlite3.OperationalError as error:
            if not busy(error) or time.monotonic() > given_up:
                raise
            time.sleep(0.002)
