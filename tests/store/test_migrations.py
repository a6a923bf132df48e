"""Files of earlier releases: opened, brought up to date, and shown as what they were."""

import contextlib
import json
import math
import os
import random
import shutil
import sqlite3
import stat
import subprocess
import sys
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from thinkscale import identity
from thinkscale.api import solve
from thinkscale.budget import Budget
from thinkscale.cli import main
from thinkscale.engines.tabular import Tabular
from thinkscale.errors import StoreError
from thinkscale.methods.self_consistency import SelfConsistency
from thinkscale.recordings import replay_of
from thinkscale.serve.keys import Keyring
from thinkscale.session import Run
from thinkscale.stopping.fixed import Fixed
from thinkscale.store import SCHEMA, PoolEntry, Store, migrations, schema
from thinkscale.types import Answer, Finish, Problem, Stopped

OLD = Path(__file__).parent / "data" / "schema2.sqlite"
VOTED = "0d80c5548128"
FIRST = {"seeds": 1, "keys": 1, "classes": 1}


@pytest.fixture
def old(tmp_path):
    path = tmp_path / "runs.db"
    shutil.copy(OLD, path)
    path.chmod(0o644)
    return path


def read(path, sql):
    with contextlib.closing(sqlite3.connect(path)) as db:
        return db.execute(sql).fetchall()


def columns(path):
    names = [name for (name,) in read(path, "SELECT name FROM sqlite_master WHERE type = 'table' ORDER BY name")]
    return {name: read(path, f"PRAGMA table_info({name})") for name in names}


def test_an_old_file_is_shown_as_it_was(old):
    store = Store(old)
    assert {run.id: run.rules for run in store.runs()} == {"abc": FIRST, VOTED: FIRST}
    [odd] = store.runs("abc")
    assert (odd.seed, odd.summary, odd.problem.metadata) == (2**63, {"answer": "4"}, {"level": 3})
    first, failed = store.pool("abc")
    assert (first.path, first.answer, first.stop_string) == ((3, 0, 12), Answer("so 4", "4"), "</think>")
    assert first.segments[1].logprobs.chosen == (-0.1, -math.inf)
    assert first.segments[1].token_ids == (1, 2)
    assert [score.value for score in first.scores] == [-math.inf, 0.1]
    assert (failed.finish, failed.error) == (Finish.error, "gone")
    third = store.traces("abc")[-1]
    assert third.segments[0].text == 'é 😀 "quoted" \\ \x00 nul\x07'
    assert [trace.answer.key for trace in store.pool(VOTED)] == ["5", "4", "4", "4"]
    assert store.recall(["k"])["k"].text == "a"
    assert store.named_pool("p") == [PoolEntry(run="abc", gold=("4",), credits={"4": 1.0})]
    store.close()
    assert read(old, "PRAGMA user_version") == [(SCHEMA,)]


async def test_what_an_old_file_paid_for_is_not_paid_for_again(old):
    store = Store(old)
    engine = Tabular()
    before = store.pool(VOTED)
    asked = Problem.of("2 + 2?"), SelfConsistency(n=4, stop=Fixed()), engine
    outcome = await solve(*asked, budget=Budget(), run=Run(seed=3), store=store)
    assert outcome.run == VOTED
    assert [trace.text for trace in outcome.traces] == [trace.text for trace in before]
    assert store.pool(VOTED) == before
    replayed = await solve(asked[0], asked[1], replay_of(store, run=VOTED), budget=Budget(), store=store)
    assert replayed.stopped is Stopped.done
    store.close()


def test_a_file_that_is_made_and_one_that_was_brought_up_to_date_are_the_same(old, tmp_path):
    Store(old).close()
    Store(tmp_path / "new.db").close()
    assert columns(old) == columns(tmp_path / "new.db")


def test_a_file_of_the_first_release_gets_what_came_later(tmp_path, old):
    with contextlib.closing(sqlite3.connect(old)) as db, db:
        for table in ("pools", "spending", "keys"):
            db.execute(f"DROP TABLE {table}")
        db.execute("UPDATE segments SET detail = json_remove(detail, '$[2]') WHERE detail NOT LIKE '%Infinity%'")
        db.execute("PRAGMA user_version = 1")
    Store(tmp_path / "new.db").close()
    store = Store(old)
    assert len(store.traces("abc")) == 3
    store.close()
    assert columns(old) == columns(tmp_path / "new.db")


def test_keys_of_an_old_file_are_still_good(old):
    ring = Keyring(old)
    [key] = ring.listed()
    assert (key.name, key.limits.requests_per_minute) == ("ann", 3)
    ring.close()


def test_a_migration_that_breaks_off_leaves_the_file_as_it_was(old, monkeypatch):
    def torn(db):
        monkeypatch.undo()
        db.execute("PRAGMA max_page_count = 1")
        migrations.write_traces_whole(db)

    monkeypatch.setitem(migrations.STEPS, 2, torn)
    before = read(old, "SELECT * FROM segments"), columns(old)
    store = Store(old)
    assert "disk is full" in store.trouble
    assert len(store.traces("abc")) == 3  # from a copy
    store.close()
    assert (read(old, "SELECT * FROM segments"), columns(old)) == before
    store = Store(old)
    assert store.trouble is None
    assert len(store.traces("abc")) == 3
    store.close()


def test_a_record_that_was_damaged_before_does_not_keep_the_rest_from_being_read(old):
    with contextlib.closing(sqlite3.connect(old)) as db, db:
        db.execute("UPDATE segments SET detail = '{' WHERE text = 'so 4'")
        db.execute("UPDATE scores SET detail = '' WHERE kind = 'a'")
    store = Store(old)
    first = store.pool("abc")[0]
    assert first.segments[1].text == "so 4"
    assert (first.scores[0].kind, first.scores[0].value) == ("a", -math.inf)
    store.close()


OPENER = """
import sys
from thinkscale.store import Store
sys.stdin.read(1)
store = Store(sys.argv[1])
print(store.trouble, len(store.traces("abc")), len(store.runs()))
store.close()
"""


def test_processes_that_bring_a_file_up_to_date_at_once_do_it_once(old):
    command = [sys.executable, "-c", OPENER, str(old)]
    processes = [subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) for _ in range(4)]
    for process in processes:
        process.stdin.write("x")
        process.stdin.flush()
    assert [process.communicate(timeout=60)[0] for process in processes] == ["None 3 2\n"] * 4


def test_a_store_is_its_owners_alone(tmp_path):
    os.umask(before := os.umask(0))
    path = tmp_path / "runs.db"
    os.umask(0)
    try:
        store = Store(path)
        store.end("x", "done")
        store.flush()
        modes = {each.name: stat.S_IMODE(each.stat().st_mode) for each in tmp_path.iterdir()}
        assert modes == {"runs.db": 0o600, "runs.db-wal": 0o600, "runs.db-shm": 0o600}
        store.close()
        Keyring(tmp_path / "keys.db").close()
        assert stat.S_IMODE((tmp_path / "keys.db").stat().st_mode) == 0o600
    finally:
        os.umask(before)


def test_an_old_file_that_everybody_could_read_is_closed_to_others_once(old):
    Store(old).close()
    assert stat.S_IMODE(old.stat().st_mode) == 0o600
    old.chmod(0o640)
    Store(old).close()
    assert stat.S_IMODE(old.stat().st_mode) == 0o640


async def test_runs_under_other_rules_are_other_runs(tmp_path, monkeypatch, capsys):
    path = tmp_path / "runs.db"
    store = Store(path)

    async def asked():
        method = SelfConsistency(n=4, stop=Fixed())
        return await solve(Problem.of("2 + 2?"), method, Tabular(), budget=Budget(), store=store)

    first = await asked()
    before = store.pool(first.run)
    monkeypatch.setitem(identity.RULES, "classes", 2)
    second = await asked()
    assert second.run != first.run
    assert store.pool(first.run) == before
    assert [run.rules for run in store.runs()] == [FIRST | {"classes": 2}, FIRST]
    store.close()
    assert json.loads(read(path, "SELECT value FROM meta WHERE name = 'rules'")[0][0]) == FIRST | {"classes": 2}


def test_show_says_of_a_run_that_it_was_made_under_other_rules(old, monkeypatch, capsys):
    monkeypatch.setattr(sys, "argv", ["thinkscale", "show", "abc", "--store", str(old)])
    with contextlib.suppress(SystemExit):
        main()
    assert "under the rules" not in capsys.readouterr().out
    monkeypatch.setitem(identity.RULES, "classes", 2)
    with contextlib.suppress(SystemExit):
        main()
    said = capsys.readouterr().out
    assert "under the rules classes 1 (now 2)" in said
    assert "answer: 4" in said


def test_a_truncated_file_is_called_damaged(old):
    whole = old.read_bytes()
    old.write_bytes(whole[: len(whole) // 2])
    with pytest.raises(StoreError, match="is damaged") as refused:
        Store(old)
    assert str(old) in str(refused.value)
    assert len(str(refused.value).splitlines()) == 1


@settings(max_examples=60)
@given(st.randoms(use_true_random=False), st.booleans())
def test_whatever_is_wrong_with_a_file_one_sentence_says_so(tmp_path_factory, rng: random.Random, old):
    path = tmp_path_factory.mktemp("damaged") / "runs.db"
    shutil.copy(OLD, path)
    if not old:
        Store(path).close()
    raw = bytearray(path.read_bytes())
    for _ in range(rng.choice((1, 8, 200))):
        raw[rng.randrange(len(raw))] = rng.randrange(256)
    path.write_bytes(raw[: rng.choice((len(raw), rng.randrange(len(raw))))])
    said = ""
    try:
        with contextlib.closing(Store(path)) as store:
            store.recall(["k"])
            for run in store.runs():
                store.traces(run.id)
                store.pool(run.id)
                store.begin(run)
            store.named_pool("p")
            said = store.flush() or ""
    except StoreError as error:
        said = str(error)
    assert not said or str(path) in said
    assert len(said) < 1000


def test_every_version_has_its_step():
    assert sorted(migrations.STEPS) == [*range(1, schema.SCHEMA)]
