import contextlib
import json
import math
import os
import signal
import sqlite3
import subprocess
import sys
import tempfile
import time
import traceback
from concurrent.futures import ThreadPoolExecutor, wait
from dataclasses import replace
from pathlib import Path

import pytest

from thinkscale.api import solve
from thinkscale.budget import Budget
from thinkscale.engines.protocol import Completion
from thinkscale.engines.tabular import Tabular
from thinkscale.errors import StoreError
from thinkscale.methods.best_of_n import BestOfN
from thinkscale.methods.self_consistency import SelfConsistency
from thinkscale.stopping.fixed import Fixed
from thinkscale.store import SCHEMA, RunRow, Store, schema, writer
from thinkscale.store.schema import opened
from thinkscale.types import (
    Answer,
    AnswerKind,
    Finish,
    Logprobs,
    LogprobSpace,
    Message,
    Origin,
    Problem,
    Score,
    Segment,
    Trace,
    Usage,
)

PROBLEM = Problem(
    messages=(
        Message("system", "Be brief."),
        Message("user", ({"type": "text", "text": "é 😀 \x00"},), {"name": "me"}),
    ),
    id="q1",
    answer_kind=AnswerKind.text,
    metadata={"level": 3},
)
RUN = RunRow(id="abc", started=12.5, method="single", model="toy", seed=2**63, budget="tokens=5", problem=PROBLEM)
LOGPROBS = Logprobs(
    space=LogprobSpace.processed,
    chosen=(-0.1, -math.inf),
    logsumexp=(1.5, 2.5),
    mean_logit=(-math.inf, 0.25),
    vocab=7,
    top=(((3, -0.1), (4, -2.0)), ((5, -math.inf),)),
)
TRACE = Trace(
    prompt=PROBLEM.messages,
    segments=(
        Segment(text="<think>\n", origin=Origin.injected),
        Segment(text="so 4", origin=Origin.sampled, tokens=2, token_ids=(1, 2), logprobs=LOGPROBS, model="toy"),
        Segment(text="", origin=Origin.sampled, tokens=1),
    ),
    finish=Finish.stop,
    stop_string="</think>",
    path=(3, 0, 12),
    answer=Answer("so 4", "4"),
    scores=(
        Score(value=-math.inf, kind="a"),
        Score(value=0.1, kind="b", steps=(0.1, -math.inf), votes=(1.0, 0.0), note="ok", usage=Usage(calls=1, usd=0.5)),
    ),
)
FAILED = Trace(prompt=PROBLEM.messages, path=(1,), finish=Finish.error, error="gone")
COMPLETION = Completion(
    text="a", finish=Finish.stop, tokens=2, stop_string="x", token_ids=(9,), logprobs=LOGPROBS, usage=Usage(calls=1)
)


@pytest.fixture
def path(tmp_path):
    return tmp_path / "deep" / "runs.db"


def limited(monkeypatch, store, pragma):
    """Have this pragma hold for every connection through which a store writes from now on; returns what ends that."""

    def restricted(db):
        db.execute(pragma)
        return db

    monkeypatch.setattr(writer, "opened", lambda *given: restricted(opened(*given)))
    restricted(store._writer.db)
    return lambda: monkeypatch.setattr(writer, "opened", opened)


@contextlib.contextmanager
def other(path):
    """The file as another program sees it."""
    with contextlib.closing(sqlite3.connect(path)) as db, db:
        yield db


def reopened(path, *traces):
    store = Store(path)
    store.begin(RUN)
    for place, trace in enumerate(traces):
        store.record(RUN.id, trace, "main", place)
    store.close()
    return Store(path)


def test_a_trace_comes_back_as_it_was(path):
    store = reopened(path, TRACE, FAILED)
    assert store.pool(RUN.id) == [TRACE, FAILED]
    assert store.traces(RUN.id) == [FAILED, TRACE]
    store.close()


def test_a_completion_comes_back_as_it_was(path):
    store = Store(path)
    store.remember("k", COMPLETION)
    assert store.recall(["k", "other"]) == {"k": COMPLETION}
    store.close()
    store = Store(path)
    assert store.recall([*(f"no-{i}" for i in range(1200)), "k"]) == {"k": COMPLETION}
    store.close()


def test_a_run_comes_back_as_it_was_with_its_summary(path):
    store = reopened(path, TRACE)
    store.end(RUN.id, "done", {"answer": "4"})
    [run] = store.runs()
    assert run == replace(RUN, status="done", summary={"answer": "4"})
    assert store.runs("ab")
    assert not store.runs("b")
    store.close()


def test_a_trace_that_goes_on_replaces_what_it_was(path):
    longer = replace(TRACE, finish=Finish.eos, segments=(*TRACE.segments, TRACE.segments[1]))
    store = reopened(path, TRACE, longer)
    assert store.traces(RUN.id) == [longer]
    store.close()


def test_entering_a_run_again_forgets_its_traces_and_keeps_its_completions(path):
    store = reopened(path, TRACE)
    store.remember("k", COMPLETION)
    store.begin(RUN)
    assert store.traces(RUN.id) == []
    assert store.recall(["k"])
    store.close()


def test_a_damaged_completion_is_as_good_as_none(path):
    store = Store(path)
    store.remember("k", COMPLETION)
    store.flush()
    with other(path) as db:
        db.execute("UPDATE completions SET body = '{\"text\": 3}'")
    assert store.recall(["k"]) == {}
    store.close()


def test_a_store_of_a_newer_release_is_refused_and_left_alone(path):
    Store(path).close()
    with sqlite3.connect(path) as db:
        db.execute(f"PRAGMA user_version = {SCHEMA + 1}")
    db.close()
    before = path.read_bytes()
    with pytest.raises(StoreError, match="newer thinkscale"):
        Store(path)
    assert path.read_bytes() == before


def test_a_file_that_is_no_store_is_refused_and_left_alone(tmp_path):
    path = tmp_path / "notes.txt"
    path.write_text("dear diary " * 100)
    with pytest.raises(StoreError, match="not a store"):
        Store(path)
    assert path.read_text() == "dear diary " * 100


@pytest.mark.parametrize("version", [0, SCHEMA])
def test_the_database_of_another_program_is_refused_and_left_alone(tmp_path, version):
    path = tmp_path / "browser.db"
    with sqlite3.connect(path) as db:
        db.execute("CREATE TABLE cookies (name TEXT)")
        db.execute(f"PRAGMA user_version = {version}")
    db.close()
    before = path.read_bytes()
    with pytest.raises(StoreError, match="not a store"):
        Store(path)
    assert path.read_bytes() == before


async def test_a_place_that_cannot_be_written_costs_the_record_and_not_the_run(tmp_path):
    (tmp_path / "file").write_text("")
    for path in (tmp_path, tmp_path / "file" / "runs.db"):
        store = Store(path)
        outcome = await solve(Problem.of("?"), SelfConsistency(n=2), Tabular(), budget=Budget(), store=store)
        assert outcome.answer is not None
        assert "cannot be written" in outcome.warnings[-1]
        store.close()


async def test_a_disk_that_turns_read_only_costs_the_record_and_not_the_run(path, monkeypatch):
    store = Store(path)
    await solve(Problem.of("?"), SelfConsistency(n=2), Tabular(), budget=Budget(), store=store)
    limited(monkeypatch, store, "PRAGMA query_only = 1")
    outcome = await solve(Problem.of("?"), SelfConsistency(n=4), Tabular(), budget=Budget(), store=store)
    assert outcome.answer is not None
    assert outcome.run == ""
    assert "readonly" in outcome.warnings[-1]
    waiting = [*store._writer.unsaved]
    assert store.recall(waiting).keys() == {*waiting} != set()
    store.close()


def as_somebody_else(check):
    """Run a check in a fork without the rights of root, which may write everywhere."""
    child = os.fork()
    if child == 0:
        if os.getuid() == 0:
            os.setuid(65534)
        try:
            check()
        except BaseException:
            traceback.print_exc()
            os._exit(1)
        os._exit(0)
    return os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])


def test_a_read_only_file_is_still_read():
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "runs.db"
        reopened(path, TRACE).close()
        path.chmod(0o444)
        path.parent.chmod(0o555)

        def check():
            store = Store(path)
            assert store.trouble
            assert store.pool(RUN.id) == [TRACE]

        assert as_somebody_else(check) == 0
        path.parent.chmod(0o755)


async def test_a_full_disk_costs_the_record_and_not_the_run(path, monkeypatch):
    store = Store(path)
    limited(monkeypatch, store, "PRAGMA max_page_count = 1")
    outcome = await solve(Problem.of("? " * 9000), SelfConsistency(n=9), Tabular(), budget=Budget(), store=store)
    assert outcome.answer is not None
    assert "full" in outcome.warnings[-1]
    store.close()


def test_a_store_that_cannot_be_read_any_more_says_so_and_recalls_nothing(path):
    store = Store(path)
    store.remember("k", COMPLETION)
    store.flush()
    with other(path) as db:
        for table in ("completions", "prompts", "traces", "pools", "runs"):
            db.execute(f"DROP TABLE {table}")
    assert store.recall(["k"]) == {}
    assert store.trouble
    with pytest.raises(StoreError, match="cannot be read"):
        store.runs()
    store.close()


async def test_two_stores_on_one_file_see_each_others_draws(path):
    one, two = Store(path), Store(path)
    method, problem = SelfConsistency(n=6, stop=Fixed()), Problem.of("?")
    first = await solve(problem, method, Tabular(), budget=Budget(), store=one)
    second = await solve(problem, BestOfN(n=6), Tabular(), budget=Budget(), store=two)
    assert {r.id for r in one.runs()} == {first.run, second.run} == {r.id for r in two.runs()}
    assert one.trouble is two.trouble is None
    for store in (one, two):
        store.close()


WRITER = """
import sys
import tempfile
import thinkscale as ts
out = ts.ask("What is 2 + 2?", method=f"self-consistency(n={sys.argv[2]}, stop=fixed)", model=ts.Tabular(),
             seed=int(sys.argv[3]), settings=ts.Settings(store=sys.argv[1]))
assert not out.warnings, out.warnings
"""


def test_processes_that_write_at_once_lose_nothing(path):
    commands = [[sys.executable, "-c", WRITER, str(path), "40", str(seed)] for seed in range(3)]
    processes = [subprocess.Popen(c, stderr=subprocess.PIPE) for c in commands]
    for process in processes:
        _, said = process.communicate(timeout=120)
        assert process.returncode == 0, said.decode()
    store = Store(path)
    assert [len(store.pool(run.id)) for run in store.runs()] == [40] * 3
    assert {run.status for run in store.runs()} == {"done"}
    store.close()


def test_a_store_that_another_process_is_making_is_waited_for(tmp_path):
    path = tmp_path / "runs.db"
    other = sqlite3.connect(path, isolation_level=None)
    other.execute("BEGIN IMMEDIATE")
    with ThreadPoolExecutor(1) as elsewhere:
        opening = elsewhere.submit(Store, path)
        assert not wait([opening], timeout=0.1).done
        other.execute("COMMIT")
        assert opening.result().trouble is None
    opening.result().close()
    other.close()


def test_a_store_that_is_made_while_it_is_looked_at_is_no_foreign_file(tmp_path):
    path = tmp_path / "runs.db"
    looking = sqlite3.connect(path, isolation_level=None)
    made = []

    def make(statement):
        if "user_version" in statement and not made:
            made.append(Store(path))

    looking.execute("PRAGMA journal_mode = WAL")
    looking.set_trace_callback(make)
    assert schema._version(looking, path) == 0
    looking.set_trace_callback(None)
    assert schema._version(looking, path) == SCHEMA
    looking.close()
    made[0].close()


VICTIM = """
import sys
import tempfile
import thinkscale as ts
from thinkscale.engines.scripted import Line
def script(cue):
    with open(sys.argv[2], "a") as paid:
        print(cue.seed, file=paid)
    stuck = cue.number >= int(sys.argv[3])
    return Line(says=f"so The answer is {cue.seed % 3}", pace=1000.0 if stuck else 0.0)
out = ts.ask("?", method="self-consistency(n=12, stop=fixed)", model=ts.Scripted(script),
             settings=ts.Settings(store=sys.argv[1], concurrency=2))
print(out.answer, len(out.traces), out.usage.calls)
"""


def test_after_a_kill_the_same_run_pays_only_for_what_is_missing(path, tmp_path):
    paid = tmp_path / "paid"
    victim = subprocess.Popen([sys.executable, "-c", VICTIM, str(path), str(paid), "6"])
    deadline = time.monotonic() + 120
    while time.monotonic() < deadline and (not paid.exists() or len(paid.read_text().split()) < 8):
        time.sleep(0.01)
    time.sleep(0.2)  # what arrived in the last milliseconds may be lost
    os.kill(victim.pid, signal.SIGKILL)
    victim.wait()
    store = Store(path)
    [run] = store.runs()
    with other(path) as db:
        kept = db.execute("SELECT count(*) FROM completions").fetchone()[0]
    assert (run.status, run.summary) == ("running", {})
    assert 4 <= kept < 12
    store.close()

    before = paid.read_text().split()
    again = [sys.executable, "-c", VICTIM, str(path), str(paid), "12"]
    resumed = subprocess.run(again, capture_output=True, text=True, timeout=120, check=True)
    bought = paid.read_text().split()[len(before) :]
    assert len(bought) == 12 - kept
    assert resumed.stdout.split()[1:] == ["12", "12"]
    store = Store(path)
    assert [(r.id, r.status) for r in store.runs()] == [(run.id, "done")]
    assert len(store.pool(run.id)) == 12
    store.close()

    fresh = [sys.executable, "-c", VICTIM, str(tmp_path / "fresh.db"), str(paid), "12"]
    assert subprocess.run(fresh, capture_output=True, text=True, check=True).stdout == resumed.stdout


async def test_an_interrupted_run_is_marked_as_such(path):
    class Interrupted:
        async def solve(self, problem, llm):
            await llm.sample(problem)
            raise KeyboardInterrupt

    store = Store(path)
    with contextlib.suppress(KeyboardInterrupt):
        await solve(Problem.of("?"), Interrupted(), Tabular(), budget=Budget(), store=store)
    assert store.runs()[0].status == "interrupted"
    assert len(store.traces(store.runs()[0].id)) == 1
    store.close()


async def test_the_stored_summary_is_the_outcome(path):
    store = Store(path)
    outcome = await solve(Problem.of("?"), SelfConsistency(n=3), Tabular(), budget=Budget(calls=3), store=store)
    [run] = store.runs()
    assert run.summary["answer"] == outcome.answer
    assert run.summary["run"] == outcome.run == run.id
    assert json.loads(json.dumps(run.summary)) == run.summary
    assert [t.path for t in store.pool(run.id)] == [t.path for t in outcome.traces]
    store.close()


def test_verdicts_are_kept_between_runs_for_each_version_of_the_comparison(path):
    store = Store(path)
    pairs = [("1/2", "0.5"), ("1/2", "half \x00 é")]
    store.verdicts_keep("number", 3, {pairs[0]: "same", pairs[1]: "unknown"})
    store.verdicts_keep("number", 3, {pairs[1]: "different"})
    store.close()
    store = Store(path)
    found = {pairs[0]: "same", pairs[1]: "different"}
    assert store.verdicts_recall("number", 3, [*pairs, ("0.5", "1/2"), *(("x", str(i)) for i in range(600))]) == found
    assert store.verdicts_recall("number", 4, pairs) == store.verdicts_recall("text", 3, pairs) == {}
    store.close()
