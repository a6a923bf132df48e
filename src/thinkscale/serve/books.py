"""The file in which keys and their accounts are. Reads wait for nobody; a write waits as long as it is told to."""

from __future__ import annotations

import sqlite3
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

from thinkscale.errors import ServeError, StoreError
from thinkscale.store.schema import MEMORY, busy, opened, reading

MINUTE = 60
DAY = 86_400
PATIENCE = 2.0
"""Most seconds to wait for another process that writes."""
BUSY = "keys_busy"
"""Code of the refusal when somebody else is writing, and that is all that is wrong."""
_SOON = 1.0
"""Advised wait in seconds."""


class Books:
    """Two connections to the store's file: one that reads and one that writes. Any thread may call.

    Raises:
        StoreError: the file cannot be opened, or is no store.
    """

    def __init__(self, path: Path | str) -> None:
        self._eye, self._pen = threading.Lock(), threading.Lock()
        try:
            self._written = opened(path, PATIENCE)
            self._read = self._written if str(path) == MEMORY else reading(path)
        except (OSError, sqlite3.Error) as error:
            raise StoreError(
                f"the store `{path}`, where keys are kept, cannot be opened ({error}): name another file with "
                "`--store` or THINKSCALE_STORE"
            ) from None

    @contextmanager
    def reading(self) -> Iterator[sqlite3.Connection]:
        """The file as it is, for one caller at a time.

        Raises:
            ServeError: it cannot be read (503).
        """
        with self._eye:
            try:
                yield self._read
            except sqlite3.Error as error:
                raise _unavailable(error) from None

    @contextmanager
    def writing(
        self, patience: float = PATIENCE, kept: Callable[[], object] = lambda: None
    ) -> Iterator[sqlite3.Connection]:
        """The file while nobody else changes it; all or nothing is kept.

        Args:
            patience: seconds to wait for others; with 0 this is safe on an event loop.
            kept: called when everything is, before anybody else may write.

        Raises:
            ServeError: it cannot be written (503), with the code `BUSY` where others kept it for too long.
        """
        if not self._pen.acquire(timeout=patience):
            raise _unavailable("others are writing", BUSY)
        try:
            db = self._written
            db.execute(f"PRAGMA busy_timeout = {round(1000 * patience)}")
            with db:
                db.execute("BEGIN IMMEDIATE")
                yield db
            kept()
        except sqlite3.Error as error:
            raise _unavailable(error, BUSY if busy(error) else "keys_unavailable") from None
        finally:
            self._pen.release()

    def close(self) -> None:
        """Let go of the file."""
        with self._pen, self._eye:
            self._read.close()
            self._written.close()


def book(db: sqlite3.Connection, id: str, when: int, *, requests: int = 0, tokens: int = 0, nanousd: int = 0) -> None:
    """Book something in its minute and its day; minutes are forgotten after a day."""
    rows = [(id, span, start_of(when, span), requests, tokens, nanousd) for span in (MINUTE, DAY)]
    db.executemany(
        "INSERT INTO spending VALUES (?, ?, ?, ?, ?, ?) ON CONFLICT DO UPDATE SET requests = requests + "
        "excluded.requests, tokens = tokens + excluded.tokens, nanousd = nanousd + excluded.nanousd",
        rows,
    )
    db.execute("DELETE FROM spending WHERE key = ? AND span = ? AND start < ?", (id, MINUTE, when - DAY))


def start_of(when: float, span: int) -> int:
    """The beginning of the minute or the day in which a time lies, in seconds since 1970."""
    return int(when) // span * span


def _unavailable(error: object, code: str = "keys_unavailable") -> ServeError:
    return ServeError(
        f"the accounts of the keys cannot be read or written ({error}): tell whoever runs this gateway",
        status=503,
        type="server_error",
        code=code,
        retry_after=_SOON,
    )
