"""Writing off the event loop: nothing waits for the disk but a run that ends, and nothing that was paid for is lost."""

import asyncio
import contextlib
import signal
import sqlite3
import subprocess
import sys
import time
from dataclasses import replace

import pytest

from thinkscale.api import solve
from thinkscale.budget import Budget
from thinkscale.engines.protocol import Completion
from thinkscale.engines.tabular import Tabular
from thinkscale.methods.self_consistency import SelfConsistency
from thinkscale.stopping.fixed import Fixed
from thinkscale.store import RunRow, Store, writer
from thinkscale.store.schema import opened
from thinkscale.types import Finish, Message, Origin, Problem, Segment, Trace, Usage

PROBLEM = Problem.of("?")
RUN = RunRow(id="abc", started=12.5, method="single", model="toy", seed=1, budget="", problem=PROBLEM)
TRACE = Trace(
    prompt=PROBLEM.messages,
    segments=(Segment(text="4", origin=Origin.sampled, tokens=1, model="toy"),),
    finish=Finish.eos,
    path=(0,),
)


def said(text):
    return Completion(text=text, finish=Finish.eos, tokens=2, usage=Usage(calls=1, output_tokens=2))


@pytest.fixture
def path(tmp_path):
    return tmp_path / "runs.db"


@contextlib.contextmanager
def kept_by_another(path):
    """The file while another connection is about to change it."""
    with contextlib.closing(sqlite3.connect(path, isolation_level=None)) as db:
        db.execute("BEGIN IMMEDIATE")
        yield
        db.execute("ROLLBACK")


@contextlib.contextmanager
def full(monkeypatch, store):
    """A disk on which there is no room for another page."""

    def small(db):
        db.execute("PRAGMA max_page_count = 1")
        return db

    monkeypatch.setattr(writer, "opened", lambda *given: small(opened(*given)))
    small(store._writer.db)
    yield
    monkeypatch.setattr(writer, "opened", opened)


def elsewhere(path):
    """What another process finds: completions, and the traces of the run."""
    store = Store(path)
    found = store._reader.rows("SELECT key FROM completions ORDER BY key")
    traces = store.traces(RUN.id)
    store.close()
    return [key for (key,) in found], traces


async def longest_pause(work):
    """The longest time in seconds for which the event loop stood still while something was going on."""
    longest, task = 0.0, asyncio.ensure_future(work)
    while not task.done():
        began = time.perf_counter()
        await asyncio.sleep(0.001)
        longest = max(longest, time.perf_counter() - began - 0.001)
    await task
    return longest


def wait_for(store):
    """Wait until a store is written again."""
    deadline = time.monotonic() + 20
    while store.trouble and time.monotonic() < deadline:
        time.sleep(0.01)


async def well_again(store):
    await asyncio.to_thread(wait_for, store)


async def test_the_event_loop_goes_on_while_another_process_keeps_the_file(path, monkeypatch):
    monkeypatch.setattr(writer, "LOCKED", 0.5)
    store = Store(path)

    async def runs():
        for seed in range(4):
            problem = Problem.of(f"{seed} + 2?")
            await solve(problem, SelfConsistency(n=4, stop=Fixed()), Tabular(), budget=Budget(), store=store)

    await runs()
    with kept_by_another(path):
        pause = min([await longest_pause(runs()) for _ in range(3)])
        assert "locked" in store.trouble
    assert pause < 0.05
    await well_again(store)
    assert {run.status for run in store.runs()} == {"done"}
    assert (store.lost, store.waiting) == (0, 0)
    store.close()


async def test_what_waited_for_another_process_is_written_when_that_is_done(path, monkeypatch):
    monkeypatch.setattr(writer, "LOCKED", 0.05)
    store = Store(path)
    with kept_by_another(path):
        store.begin(RUN)
        store.remember("k", said("a"))
        store.record(RUN.id, TRACE, "main", 0)
        assert "locked" in await store.settled()
        store.remember("l", said("b"))
        assert store.recall(["k", "l"]) == {"k": said("a"), "l": said("b")}
    await well_again(store)
    assert await store.settled() is None
    assert elsewhere(path) == (["k", "l"], [TRACE])
    store.close()


async def test_a_disk_that_has_room_again_is_written_again(path, monkeypatch):
    store = Store(path)
    store.begin(RUN)
    with full(monkeypatch, store):
        store.remember("k", said("a" * 9000))
        assert "full" in await store.settled()
        store.record(RUN.id, TRACE, "main", 0)
        began = time.monotonic()
        assert "full" in await store.settled()
        assert time.monotonic() - began < 0.1
    await well_again(store)
    assert await store.settled() is None
    assert elsewhere(path) == (["k"], [TRACE])
    store.close()


async def test_a_store_that_could_not_be_opened_is_tried_again(tmp_path):
    (tmp_path / "folder").write_text("")
    path = tmp_path / "folder" / "runs.db"
    store = Store(path)
    store.begin(RUN)
    store.record(RUN.id, TRACE, "main", 0)
    assert "cannot be written" in store.trouble
    (tmp_path / "folder").unlink()
    await well_again(store)
    assert store.pool(RUN.id) == [TRACE]
    store.close()


def test_no_more_waits_in_memory_than_there_is_room_for_and_that_is_told(path, monkeypatch):
    monkeypatch.setattr(writer, "MOST", 100_000)
    store = Store(path)
    with full(monkeypatch, store):
        for number in range(30):
            store.remember(f"{number:02}", said("a" * 9000))
        assert store.flush()
        assert store.waiting <= 100_000
        assert store.lost == 30 - len(store._writer.unsaved) > 15
    wait_for(store)
    assert f"{store.lost} records could not be written" in store.flush()
    assert store.flush() is None
    assert elsewhere(path)[0] == [f"{number:02}" for number in range(30 - store.lost)]
    store.close()


async def test_a_new_run_waits_where_the_disk_falls_behind(path, monkeypatch):
    monkeypatch.setattr("thinkscale.store.MOST", 2000)
    store = Store(path)
    with kept_by_another(path):
        store.remember("k", said("a" * 2000))
        waiting = asyncio.ensure_future(store.room())
        await asyncio.sleep(0.05)
        assert not waiting.done()
    await waiting
    assert store.waiting == 0
    await store.room()
    store.close()


def test_one_record_that_cannot_be_written_keeps_no_other_from_it(path):
    store = Store(path)
    store.begin(RUN)
    odd = replace(TRACE.segments[0], tool_calls=({(1, 2): 3},))
    store.record(RUN.id, replace(TRACE, segments=(odd,), path=(1,)), "main", 1)
    store.record(RUN.id, TRACE, "main", 0)
    store.remember("k", said("a"))
    assert "1 records could not be written" in store.flush()
    assert store.flush() is None
    assert elsewhere(path) == (["k"], [TRACE])
    store.close()


def test_text_that_is_not_unicode_is_kept(path):
    store = Store(path)
    store.begin(RUN)
    trace = replace(TRACE, segments=(replace(TRACE.segments[0], text="half \ud83d, nul \x00, quote ' \" \\u0041"),))
    store.record(RUN.id, trace, "main", 0)
    store.remember("k", said("half \ud83d"))
    assert store.flush() is None
    assert elsewhere(path) == (["k"], [trace])
    assert store.recall(["k"]) == {"k": said("half \ud83d")}
    store.close()


def test_traces_of_a_run_that_somebody_deletes_are_let_go_and_nothing_else(path):
    store = Store(path)
    store.begin(RUN)
    store.flush()
    with contextlib.closing(sqlite3.connect(path)) as db, db:
        db.execute("PRAGMA foreign_keys = ON")
        db.execute("DELETE FROM runs")
    store.record(RUN.id, TRACE, "main", 0)
    store.remember("k", said("a"))
    store.end(RUN.id, "done")
    assert store.flush() is None
    assert elsewhere(path) == (["k"], [])
    store.close()


def test_prompts_of_a_run_are_kept_once_and_go_with_it(path):
    store = Store(path)
    store.begin(RUN)
    long = (Message("user", "x" * 1000),)
    for number in range(8):
        store.record(RUN.id, replace(TRACE, prompt=(*long,), path=(number,)), "main", number)
        store.flush()
    assert len(store.pool(RUN.id)) == 8
    assert store._reader.rows("SELECT count(*) FROM prompts") == [(1,)]
    store.begin(RUN)
    store.flush()
    assert store._reader.rows("SELECT count(*) FROM prompts") == [(0,)]
    store.close()


def test_a_store_in_memory_needs_no_file():
    store = Store(":memory:")
    store.begin(RUN)
    store.record(RUN.id, TRACE, "main", 0)
    assert store.pool(RUN.id) == [TRACE]
    store.close()


def test_what_is_given_to_a_store_that_is_closed_does_no_harm(path):
    store = Store(path)
    store.close()
    store.remember("k", said("a"))
    assert store.lost == 1
    store.close()


UNCLOSED = """
import sys
from tests_store import said
from thinkscale.store import Store
store = Store(sys.argv[1])
for number in range(500):
    store.remember(f"{number:03}", said("a"))
"""

PAYING = """
import asyncio, sys
from tests_store import said
from thinkscale.store import Store

async def main():
    store = Store(sys.argv[1])
    for number in range(100_000):
        store.remember(f"{number:06}", said("a"))
        if number % 7 == 0 and await store.settled() is None:
            print(number, flush=True)

asyncio.run(main())
"""


def started(script, path, **options):
    """A process that runs a script, with the module of these tests under the name `tests_store`."""
    loading = "import importlib.util as u; m = u.module_from_spec(s := u.spec_from_file_location('tests_store', "
    loading += f"{__file__!r})); import sys; sys.modules['tests_store'] = m; s.loader.exec_module(m)\n"
    return subprocess.Popen([sys.executable, "-c", loading + script, str(path)], **options)


def test_a_process_that_ends_without_closing_its_store_loses_nothing(path):
    assert started(UNCLOSED, path).wait(timeout=60) == 0
    assert len(elsewhere(path)[0]) == 500


def test_what_was_said_to_be_safe_survives_a_kill(path):
    process = started(PAYING, path, stdout=subprocess.PIPE, text=True)
    last = next(int(line) for line in process.stdout if int(line) >= 700)
    process.send_signal(signal.SIGKILL)
    rest = process.communicate(timeout=60)[0].split("\n")
    last = max([last, *(int(line) for line in rest[:-1])])
    keys = elsewhere(path)[0]
    assert keys[: last + 1] == [f"{number:06}" for number in range(last + 1)]
    assert len(keys) <= last + 8
