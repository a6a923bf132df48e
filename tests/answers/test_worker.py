from __future__ import annotations

import asyncio
import gc
import json
import os
import signal
import subprocess
import sys
import warnings

import pytest

from servers.mock import until
from thinkscale.answers import worker as module
from thinkscale.answers.worker import MAX_CHARACTERS, Worker, Workers, shared

pytest.importorskip("math_verify")

EQUAL = (r"$\frac{1}{2}$", "$0.5$")
DIFFERENT = ("$x$", "$y$")


def alive(pid: int | None) -> bool:
    try:
        os.kill(pid or 0, 0)
    except ProcessLookupError:
        return False
    return True


async def test_verdicts_come_back_in_the_order_asked():
    assert await shared()([EQUAL, DIFFERENT, EQUAL]) == [True, False, True]
    assert await shared()([]) == []


async def test_many_tasks_share_the_children_and_none_gets_the_reply_of_another():
    async def ask(i: int) -> bool:
        pairs = [(f"${i}x$", f"${i + j}x$") for j in range(3)]
        return await shared()(pairs) == [True, False, False]

    async with asyncio.TaskGroup() as group:
        tasks = [group.create_task(ask(i)) for i in range(1, 30)]
    assert all(task.result() for task in tasks)


def test_event_loops_that_follow_each_other_each_have_a_child_that_ends_with_its_loop():
    async def ask() -> int:
        assert await shared()([EQUAL]) == [True]
        (pid,) = shared().pids
        return pid

    with warnings.catch_warnings():
        warnings.simplefilter("error")
        pids = [asyncio.run(ask()) for _ in range(2)]
        gc.collect()
    assert len(set(pids)) == 2
    assert not any(alive(pid) for pid in pids)


async def test_a_closed_worker_leaves_no_process_and_starts_again_when_asked():
    worker = Worker()
    assert await worker([EQUAL]) == [True]
    pid = worker.pid
    await worker.aclose()
    assert not alive(pid)
    assert worker.pid is None
    assert await worker([EQUAL]) == [True]
    await worker.aclose()


async def test_of_a_pair_that_takes_too_long_nothing_is_known_and_it_costs_only_itself(
    monkeypatch: pytest.MonkeyPatch, tmp_path
):
    program = tmp_path / "slow.py"
    program.write_text(
        "import json, sys, time\n"
        "print('{\"ready\": true}', flush=True)\n"
        "for line in sys.stdin:\n"
        "    a, b = json.loads(line)\n"
        "    time.sleep(60 if a == 'slow' else 0)\n"
        "    print(json.dumps({'equal': a == b}), flush=True)\n"
    )
    monkeypatch.setattr(module, "_PROGRAM", str(program))
    worker = Worker(seconds=0.5)
    assert await worker([("a", "a"), ("slow", "slow"), ("b", "b"), ("b", "c")]) == [True, None, True, False]
    await worker.aclose()


async def test_a_child_that_dies_is_replaced():
    worker = Worker()
    assert await worker([EQUAL]) == [True]
    assert worker.pid is not None
    os.kill(worker.pid, signal.SIGKILL)
    await asyncio.sleep(0.1)
    await worker([EQUAL])
    assert await worker([EQUAL]) == [True]
    await worker.aclose()


async def test_a_cancelled_question_does_not_shift_the_replies(monkeypatch: pytest.MonkeyPatch, tmp_path):
    asked, gone = tmp_path / "asked", tmp_path / "gone"
    program = tmp_path / "held.py"
    program.write_text(
        "import json, pathlib, sys, time\n"
        "print('{\"ready\": true}', flush=True)\n"
        "for line in sys.stdin:\n"
        "    a, b = json.loads(line)\n"
        f"    while a == 'held' and not pathlib.Path({str(gone)!r}).exists():\n"
        f"        pathlib.Path({str(asked)!r}).touch()\n"
        "        time.sleep(0.001)\n"
        "    print(json.dumps({'equal': a == b}), flush=True)\n"
    )
    monkeypatch.setattr(module, "_PROGRAM", str(program))
    worker = Worker(seconds=60)
    task = asyncio.create_task(worker([("held", "held")]))
    assert await until(asked.exists)
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    pid = worker.pid
    gone.touch()
    assert await worker([("a", "b"), ("a", "a")]) == [False, True]
    assert worker.pid == pid
    await worker.aclose()


async def test_a_slow_pair_holds_up_no_other(monkeypatch: pytest.MonkeyPatch, tmp_path):
    answered = tmp_path / "answered"
    program = tmp_path / "slow.py"
    program.write_text(
        "import json, pathlib, sys, time\n"
        "print('{\"ready\": true}', flush=True)\n"
        "for line in sys.stdin:\n"
        "    a, b = json.loads(line)\n"
        f"    while a == 'slow' and not pathlib.Path({str(answered)!r}).exists():\n"
        "        time.sleep(0.001)\n"
        "    print(json.dumps({'equal': a == b}), flush=True)\n"
    )
    monkeypatch.setattr(module, "_PROGRAM", str(program))
    workers = Workers(2, seconds=60)
    slow = asyncio.create_task(workers([("slow", "slow")]))
    await asyncio.sleep(0)
    assert await workers([("a", "a"), ("b", "c"), ("d", "d")]) == [True, False, True]
    assert not slow.done()
    answered.touch()
    assert await slow == [True]
    await workers.aclose()


async def test_a_text_that_is_too_long_never_reaches_the_child():
    worker = Worker()
    assert await worker([("1" * (MAX_CHARACTERS + 1), "1")]) == [None]
    assert worker.pid is None


async def test_hostile_formulas_are_survived():
    worker = Worker()
    hostile = [
        ("$" + "(" * 1500 + "$", "$1$"),
        ("\ud800", "$1$"),
        ("$\\frac{1}{0}$", "$\\infty$"),
        ("", ""),
        ("\n", "$2$"),
    ]
    assert len(await worker(hostile)) == len(hostile)
    assert await worker([EQUAL]) == [True]
    await worker.aclose()


def test_the_child_ends_when_its_input_does():
    lines = json.dumps(list(EQUAL)) + "\n"
    done = subprocess.run(
        [sys.executable, "-P", module._PROGRAM], input=lines, capture_output=True, text=True, timeout=120, check=True
    )
    assert done.stdout.splitlines() == ['{"ready": true}', '{"equal": true}']


async def test_without_math_verify_nothing_is_known_and_no_process_starts(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(module, "find_spec", lambda name: None)
    worker = Worker()
    assert await worker([EQUAL]) == [None]
    assert worker.pid is None


@pytest.mark.skipif(not hasattr(signal, "setitimer"), reason="alarms are those of POSIX")
def test_the_alarm_of_a_comparison_goes_by_processor_time():
    program = """
import signal, time
from thinkscale.answers.verdicts import _alarm_by_processor_time

rung = []
_alarm_by_processor_time()
signal.signal(signal.SIGALRM, lambda *_: rung.append(True))
signal.alarm(1)
time.sleep(1.2)
assert not rung
while not rung and time.process_time() < 30:
    pass
assert rung
"""
    subprocess.run([sys.executable, "-c", program], check=True, timeout=120)
