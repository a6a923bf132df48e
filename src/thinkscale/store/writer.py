"""The thread that writes. `put` returns at once; `settled` and `flush` wait until the records are written.

While the file cannot be written, up to `MOST` bytes wait in memory and are written as soon as possible; records beyond
that are dropped and counted.
"""

from __future__ import annotations

import asyncio
import logging
import sqlite3
import threading
import time
from collections import deque
from collections.abc import Callable, Sequence
from contextlib import suppress
from pathlib import Path

from thinkscale.errors import StoreError
from thinkscale.store.batch import Act, Bought, Job, commit
from thinkscale.store.schema import MEMORY, opened, unwritable

MOST = 2**27
"""Most bytes that wait to be written."""
GATHER = 0.0005
"""Seconds that the first job of a batch waits for more, unless a caller waits for it."""
LOCKED = 5.0
"""Seconds that another process may lock the file before it counts as trouble."""
AGAIN = 0.25
"""Seconds between two attempts to write while there is trouble."""
_AT_ONCE, _BYTES_AT_ONCE = 2048, 2**20
"""Most jobs and bytes of one transaction, single jobs aside: encoding them holds Python's lock."""
_PROBE = 16
"""Jobs of the first transaction after one that failed."""

log = logging.getLogger("thinkscale.store")
log.addHandler(logging.NullHandler())


class Writer:
    """The queue of jobs for one file, and the thread that writes them.

    Args:
        path: the file.
        db: a connection that writes; `None` if the file could not be opened, which is retried.
        trouble: why it could not be opened.
    """

    def __init__(self, path: Path | str, db: sqlite3.Connection | None, trouble: str | None = None) -> None:
        self.path = path
        self.db = db
        self.trouble = trouble
        """Why nothing is written at the moment; `None` while all is well."""
        self.lost = 0
        """Records that were dropped, because too many waited or they could never be written."""
        self.opened = 0
        """How often the file was reopened."""
        self.unsaved: dict[str, Bought] = {}
        """Completions that wait to be written, by key."""
        self.chore: Callable[[sqlite3.Connection], object] | None = None
        """A job that is run about every `period` seconds while it is set."""
        self.period = 60.0
        self._tended = 0.0
        self._jobs: deque[Job] = deque()
        self._size = self._put = self._settled = 0
        self._urgent = self._closing = self._failing = False
        self._backlog = 0
        """Jobs put by the time of the first successful write after trouble."""
        self._waiting: list[tuple[int, Callable[[], object]]] = []
        self._changed = threading.Condition()
        self._thread: threading.Thread | None = None
        if db:
            db.execute(f"PRAGMA busy_timeout = {round(1000 * LOCKED)}")

    @property
    def size(self) -> int:
        """About how many bytes wait."""
        return self._size

    def put(self, job: Job) -> None:
        """Queue a job; if too much waits, or the writer is closed, the job is dropped and counted."""
        with self._changed:
            if self._closing or self._size + job.size > MOST:
                self.lost += 1
                self.trouble = self.trouble or unwritable(self.path, "more waits to be written than there is room for")
                return
            if isinstance(job, Bought):
                self.unsaved[job.key] = job
            self._jobs.append(job)
            self._size += job.size
            self._put += 1
            if len(self._jobs) == 1:
                self._wake()

    def when_settled(self, call: Callable[[], object]) -> bool:
        """Call `call` from the writing thread once every job so far is written, or writing has failed.

        Returns false, without calling, if that is so already.
        """
        with self._changed:
            if self.trouble or self._settled == self._put:
                return False
            self._waiting.append((self._put, call))
            self._urgent = True
            self._wake()
            return True

    def flush(self) -> None:
        """Block until every job so far is written, or writing has failed."""
        settled = threading.Event()
        if self.when_settled(settled.set):
            settled.wait()

    async def settled(self) -> None:
        """Wait likewise without blocking the event loop."""
        loop = asyncio.get_running_loop()
        over: asyncio.Future[None] = loop.create_future()

        def end() -> None:
            if not over.done():
                over.set_result(None)

        if self.when_settled(lambda: loop.call_soon_threadsafe(end)):
            await over

    def close(self) -> None:
        """Write waiting jobs, or drop them if that fails, and close the file."""
        with self._changed:
            self._closing = True
            self._changed.notify_all()
        if self._thread and self._thread is not threading.current_thread():
            self._thread.join()
        if self.db:
            self.db.close()

    def _wake(self) -> None:
        if self._thread is None:
            self._thread = threading.Thread(target=self._work, name="thinkscale store", daemon=True)
            self._thread.start()
        self._changed.notify_all()

    def _work(self) -> None:
        while jobs := self._next():
            try:
                self._write([*jobs, *self._chore_due()])
            except Exception as error:
                self._mark_failed(error, jobs)
            else:
                self._mark_written(jobs)

    def _next(self) -> list[Job]:
        """Wait for the jobs to write next; empty once the writer is closed and nothing waits."""
        with self._changed:
            if self._failing and self._jobs:
                self._changed.wait_for(lambda: self._closing, AGAIN)
            while not self._jobs and not self._closing:
                if not self._changed.wait(self.period if self.chore else None) and self.chore:
                    self._put += 1
                    self._tended = time.monotonic()
                    return [Act(self.chore, 0)]
            if not self._urgent:
                self._changed.wait_for(lambda: self._urgent or self._closing, GATHER)
            self._urgent = False
            return self._take(_PROBE if self._failing else _AT_ONCE)

    def _chore_due(self) -> list[Job]:
        """Return the chore if its period has passed: a writer that is never idle runs it beside its jobs."""
        chore, now = self.chore, time.monotonic()
        if chore is None or now < self._tended + self.period:
            return []
        self._tended = now
        return [Act(chore, 0)]

    def _take(self, most: int) -> list[Job]:
        """Remove the oldest jobs from the queue, within the limits of one transaction."""
        taken: list[Job] = []
        size = 0
        while self._jobs and len(taken) < most and (not taken or size + self._jobs[0].size <= _BYTES_AT_ONCE):
            taken.append(self._jobs.popleft())
            size += taken[-1].size
        return taken

    def _write(self, jobs: Sequence[Job]) -> None:
        """Write jobs together, or one by one if one of them cannot be written.

        Raises:
            OSError, sqlite3.Error, StoreError: the file cannot be written.
        """
        if self.db is None:
            self.db = opened(self.path, LOCKED)
            self.opened += 1
        try:
            commit(self.db, jobs)
        except Exception as error:
            if _about_the_file(error):
                raise
            for job in jobs:
                self._write_alone(self.db, job)

    def _write_alone(self, db: sqlite3.Connection, job: Job) -> None:
        try:
            commit(db, [job])
        except Exception as error:
            if _about_the_file(error):
                raise
            self.lost += 1
            log.warning("a record cannot be written to the store `%s`: %s", self.path, error)

    def _mark_failed(self, error: Exception, jobs: Sequence[Job]) -> None:
        if not self.trouble:
            log.warning(unwritable(self.path, error))
        if self.db and str(self.path) != MEMORY:
            self.db.close()
            self.db = None
        with self._changed:
            self._failing, self._backlog = True, 0
            self.trouble = str(error) if isinstance(error, StoreError) else unwritable(self.path, error)
            self._jobs.extendleft(reversed(jobs))
            if self._closing:
                self.lost += len(self._jobs)
                self._jobs.clear()
            waiting, self._waiting = self._waiting, []
        _tell([call for _, call in waiting])

    def _mark_written(self, jobs: Sequence[Job]) -> None:
        with self._changed:
            self._failing = False
            self._settled += len(jobs)
            if self.trouble:
                self._backlog = self._backlog or self._put
                if self._settled >= self._backlog:
                    self.trouble, self._backlog = None, 0
                    log.warning("the store `%s` is written again; %d records were let go", self.path, self.lost)
            self._size -= sum(job.size for job in jobs)
            for job in jobs:
                if isinstance(job, Bought) and self.unsaved.get(job.key) is job:
                    del self.unsaved[job.key]
            over = [call for target, call in self._waiting if target <= self._settled]
            self._waiting = [each for each in self._waiting if each[0] > self._settled]
            self._urgent = bool(self._waiting)
        _tell(over)


def _tell(calls: Sequence[Callable[[], object]]) -> None:
    for call in calls:
        with suppress(RuntimeError):  # whoever waited is gone, and its event loop closed
            call()


def _about_the_file(error: Exception) -> bool:
    """Whether an error is about the file and not about the job."""
    return isinstance(error, OSError) or type(error) in (sqlite3.OperationalError, sqlite3.DatabaseError)
