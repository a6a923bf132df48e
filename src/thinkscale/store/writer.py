"""The one thread that writes. Whoever hands it something goes on at once; who must know that it is kept waits.

While the file takes nothing, what waits is kept in memory up to `MOST` bytes and written as soon as it can be; what is
beyond is let go and counted.
"""

from __future__ import annotations

import asyncio
import logging
import sqlite3
import threading
from collections import deque
from collections.abc import Callable, Sequence
from contextlib import suppress
from pathlib import Path

from thinkscale.errors import StoreError
from thinkscale.store.batch import Act, Bought, Job, commit
from thinkscale.store.schema import MEMORY, opened, unwritable

MOST = 2**27
"""Bytes that may wait to be written."""
GATHER = 0.0005
"""Seconds for which the first of several waits for the others, unless somebody waits for it."""
LOCKED = 5.0
"""Seconds that another process may have the file before it counts as trouble."""
AGAIN = 0.25
"""Seconds between two tries while there is trouble."""
_AT_ONCE, _BYTES_AT_ONCE = 2048, 2**20
"""Jobs in one transaction, and bytes, but for a single job: what is put into words at once keeps others from Python."""
_PROBE = 16
"""Jobs with which a file is tried that has just refused some."""

log = logging.getLogger("thinkscale.store")
log.addHandler(logging.NullHandler())


class Writer:
    """What waits to be written to one file, and who writes it.

    Args:
        path: the file.
        db: a connection to it that writes; `None` when it could not be opened, which is tried again.
        trouble: why it could not.
    """

    def __init__(self, path: Path | str, db: sqlite3.Connection | None, trouble: str | None = None) -> None:
        self.path = path
        self.db = db
        self.trouble = trouble
        """Why nothing is written at the moment; `None` while all is well."""
        self.lost = 0
        """Records that were let go, because too much waited or they could not be written at all."""
        self.opened = 0
        """How often the file was opened again."""
        self.unsaved: dict[str, Bought] = {}
        """Completions that wait, by key."""
        self.chore: Callable[[sqlite3.Connection], object] | None = None
        """What is to be done about every `period` seconds as long as it is set."""
        self.period = 60.0
        self._jobs: deque[Job] = deque()
        self._size = self._put = self._settled = 0
        self._urgent = self._closing = self._failing = False
        self._backlog = 0
        """How much was put by the time that the file was written again, after trouble."""
        self._waiting: list[tuple[int, Callable[[], object]]] = []
        self._changed = threading.Condition()
        self._thread: threading.Thread | None = None
        if db:
            db.execute(f"PRAGMA busy_timeout = {round(1000 * LOCKED)}")

    @property
    def size(self) -> int:
        """Bytes that wait, about."""
        return self._size

    def put(self, job: Job) -> None:
        """Have something written. With too much that waits already, or when closed, it is let go, and counted."""
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
        """Have `call` called, by another thread, once all that was put is written, or cannot be at the moment.

        Returns false, and never calls, when that is so already.
        """
        with self._changed:
            if self.trouble or self._settled == self._put:
                return False
            self._waiting.append((self._put, call))
            self._urgent = True
            self._wake()
            return True

    def flush(self) -> None:
        """Wait until all that was put is written, or cannot be at the moment."""
        settled = threading.Event()
        if self.when_settled(settled.set):
            settled.wait()

    async def settled(self) -> None:
        """Wait likewise, while the event loop goes on."""
        loop = asyncio.get_running_loop()
        over: asyncio.Future[None] = loop.create_future()

        def end() -> None:
            if not over.done():
                over.set_result(None)

        if self.when_settled(lambda: loop.call_soon_threadsafe(end)):
            await over

    def close(self) -> None:
        """Write what waits, or let it go if that fails, and let go of the file."""
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
                self._write(jobs)
            except Exception as error:
                self._mark_failed(error, jobs)
            else:
                self._mark_written(jobs)

    def _next(self) -> list[Job]:
        """What to write now, once there is something and it is time; nothing when all is over."""
        with self._changed:
            if self._failing and self._jobs:
                self._changed.wait_for(lambda: self._closing, AGAIN)
            while not self._jobs and not self._closing:
                if not self._changed.wait(self.period if self.chore else None) and self.chore:
                    self._put += 1
                    return [Act(self.chore, 0)]
            if not self._urgent:
                self._changed.wait_for(lambda: self._urgent or self._closing, GATHER)
            self._urgent = False
            return self._take(_PROBE if self._failing else _AT_ONCE)

    def _take(self, most: int) -> list[Job]:
        """The jobs that have waited longest."""
        taken: list[Job] = []
        size = 0
        while self._jobs and len(taken) < most and (not taken or size + self._jobs[0].size <= _BYTES_AT_ONCE):
            taken.append(self._jobs.popleft())
            size += taken[-1].size
        return taken

    def _write(self, jobs: Sequence[Job]) -> None:
        """Write jobs together; where one of them makes that impossible, each by itself.

        Raises:
            OSError, sqlite3.Error, StoreError: the file takes nothing.
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
    """Whether a failure says something of the file and not of what was to be written."""
    return isinstance(error, OSError) or type(error) in (sqlite3.OperationalError, sqlite3.DatabaseError)
