"""Two who ask the same share the draw: between processes, within one, and when one of them dies."""

import asyncio
import contextlib
import signal
import sqlite3
import subprocess
import sys
import time

import pytest

from thinkscale.engines.protocol import Completion
from thinkscale.store import Store, claims
from thinkscale.types import Finish, Usage

KEYS = [f"{number:02}" for number in range(16)]


def drawn(key):
    return Completion(text=f"so {key}", finish=Finish.eos, tokens=2, usage=Usage(calls=1, output_tokens=2))


async def draws(store, keys, pay, seconds=0.0):
    """What whoever draws has to do: claim, draw what is granted, and take the rest from those who draw it."""
    known = store.recall(keys)
    mine = []
    try:
        while missing := [key for key in keys if key not in known]:
            granted = await store.claims.claim(missing)
            mine += granted
            for key in granted:
                pay(key)
                await asyncio.sleep(seconds)
                known[key] = drawn(key)
                store.remember(key, known[key])
            store.claims.release([*granted])
            if rest := [key for key in missing if key not in granted]:
                known |= await store.claims.arrive(rest)
    finally:
        store.claims.release(mine)
    return known


@pytest.fixture
def path(tmp_path):
    return tmp_path / "runs.db"


async def test_two_stores_on_one_file_pay_once_for_each_draw(path):
    one, two = Store(path), Store(path)
    paid = []
    async with asyncio.TaskGroup() as tasks:
        found = [tasks.create_task(draws(store, KEYS, paid.append, 0.002)) for store in (one, two)]
    assert sorted(paid) == KEYS
    assert found[0].result() == found[1].result() == {key: drawn(key) for key in KEYS}
    for store in (one, two):
        store.close()


async def test_two_runs_of_one_process_pay_once_for_each_draw(path):
    store = Store(path)
    paid = []
    async with asyncio.TaskGroup() as tasks:
        for keys in (KEYS, KEYS[::-1], KEYS[4:9]):
            tasks.create_task(draws(store, keys, paid.append, 0.002))
    assert sorted(paid) == KEYS
    store.close()


async def test_what_is_known_is_not_granted_and_what_is_released_is(path):
    one, two = Store(path), Store(path)
    one.remember("a", drawn("a"))
    one.flush()
    assert await two.claims.claim(["a", "b"]) == {"b"}
    assert await one.claims.claim(["a", "b", "c"]) == {"c"}
    two.claims.release(["b", "no claim"])
    assert await asyncio.wait_for(one.claims.arrive(["b"]), 5) == {}
    assert await one.claims.claim(["b"]) == {"b"}
    assert await asyncio.wait_for(two.claims.arrive(["a", "b"]), 5) == {"a": drawn("a")}
    for store in (one, two):
        store.close()


async def test_a_claim_is_renewed_as_long_as_its_holder_lives_and_then_runs_out(path, monkeypatch):
    monkeypatch.setattr(claims, "SECONDS", 0.4)
    one, two = Store(path), Store(path)
    assert await one.claims.claim(["a"]) == {"a"}
    await asyncio.sleep(1.0)
    assert await two.claims.claim(["a"]) == frozenset()
    one._writer.chore = None  # as if it were dead
    assert await asyncio.wait_for(two.claims.arrive(["a"]), 5) == {}
    assert await two.claims.claim(["a"]) == {"a"}
    for store in (one, two):
        store.close()


async def test_a_claim_is_renewed_while_there_is_always_something_to_write(path, monkeypatch):
    monkeypatch.setattr(claims, "SECONDS", 0.4)
    one, two = Store(path), Store(path)
    assert await one.claims.claim(["a"]) == {"a"}
    for number in range(60):
        one.remember(f"other {number}", drawn("other"))
        await asyncio.sleep(0.02)
    assert await two.claims.claim(["a"]) == frozenset()
    for store in (one, two):
        store.close()


async def test_a_store_that_takes_no_claims_keeps_nobody_from_drawing(path, monkeypatch):
    monkeypatch.setattr(claims, "MOST_WAIT", 0.1)
    store = Store(path)
    with contextlib.closing(sqlite3.connect(path, isolation_level=None)) as db:
        db.execute("BEGIN IMMEDIATE")
        assert await store.claims.claim(["a", "b"]) == {"a", "b"}
    store.claims.release(["a", "b"])
    store.close()
    other = Store(path)
    assert await other.claims.claim(["a", "b"]) == {"a", "b"}
    other.close()


async def test_whoever_is_cancelled_while_asking_holds_nothing(path):
    one, two = Store(path), Store(path)
    with contextlib.closing(sqlite3.connect(path, isolation_level=None)) as db:
        db.execute("BEGIN IMMEDIATE")
        asking = asyncio.ensure_future(one.claims.claim(["a"]))
        await asyncio.sleep(0.05)
        asking.cancel()
        await asyncio.wait({asking})
    one.flush()
    assert await two.claims.claim(["a"]) == {"a"}
    for store in (one, two):
        store.close()


DRAWER = """
import asyncio, sys
from tests_claims import KEYS, draws
from thinkscale.store import Store, claims

claims.SECONDS = 1.0
path, paid, seconds = sys.argv[1], sys.argv[2], float(sys.argv[3])

def pay(key):
    with open(paid, "a") as bill:
        print(key, file=bill)

async def main():
    store = Store(path)
    sys.stdin.readline()
    found = await draws(store, KEYS, pay, seconds)
    print(sorted(c.text for c in found.values()))
    assert await store.settled() is None
    store.close()

asyncio.run(main())
"""


def drawer(path, paid, seconds):
    """A process that draws all keys once it is told to, with the module of these tests at hand."""
    loading = "import importlib.util as u; m = u.module_from_spec(s := u.spec_from_file_location('tests_claims', "
    loading += f"{__file__!r})); import sys; sys.modules['tests_claims'] = m; s.loader.exec_module(m)\n"
    command = [sys.executable, "-c", loading + DRAWER, str(path), str(paid), str(seconds)]
    return subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)


def begin(process):
    process.stdin.write("\n")
    process.stdin.flush()


ALL = f"{[f'so {key}' for key in KEYS]}\n"


def test_processes_that_ask_the_same_pay_once_for_each_draw(path, tmp_path):
    paid = tmp_path / "paid"
    processes = [drawer(path, paid, 0.01) for _ in range(3)]
    for process in processes:
        begin(process)
    assert [process.communicate(timeout=60)[0] for process in processes] == [ALL] * 3
    assert sorted(paid.read_text().split()) == KEYS


def test_what_a_process_that_died_had_claimed_is_drawn_by_another(path, tmp_path):
    paid = tmp_path / "paid"
    victim, heir = drawer(path, paid, 0.2), drawer(path, paid, 0.0)
    begin(victim)
    while not paid.exists() or len(paid.read_text().split()) < 4:
        time.sleep(0.01)
    begin(heir)
    victim.send_signal(signal.SIGKILL)
    victim.communicate()
    before = paid.read_text().split()
    assert heir.communicate(timeout=60)[0] == ALL
    again = paid.read_text().split()[len(before) :]
    assert len(again) <= len(KEYS) - len(before) + 1  # what was in flight
    assert {*before, *again} == {*KEYS}
