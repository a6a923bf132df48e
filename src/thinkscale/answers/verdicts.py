"""The child process that runs math-verify: one JSON line in, one JSON line out, until its input ends.

It is started by file name, imports nothing of thinkscale and knows nothing of voting. It exists because math-verify
stops itself with SIGALRM, which only a main thread may use, and because hostile input can defeat that alarm: a process
can be limited in memory and in processor time, and killed. `worker` holds the other end.

Line in: `[gold, answer]`; line out: `{"equal": true}`, or `null` where it could not say: one of the two is not read, or
the time was up. The first line out says whether math-verify could be imported:
`{"ready": true}`.
"""

from __future__ import annotations

import cmath
import contextlib
import io
import json
import logging
import math
import os
import signal
import sys
import time
import zlib
from collections.abc import Callable, Iterator
from functools import lru_cache
from importlib import import_module

_SOFT_SECONDS = 1
"""What math-verify is told; its alarm is set to what is left of the pair's time."""
_PAIR_SECONDS = 0.4
"""Processor time of one pair in one direction."""
_WARM = (r"$\sum_{k=0}^{n-1} a_k$", r"$\frac{x}{2}+\int_0^1 x dx = (1, \sqrt{2}]$")
"""Formulas of many kinds: the first of each kind is slow, and no answer is to pay for it."""
_CPU_SECONDS = 2
"""Processor time of one pair, so that a child whose parent was killed ends too."""
_MEMORY_BYTES = 2 * 1024**3

Judge = Callable[[str, str], bool | None]

_rung: list[bool] = []
"""The alarms that rang during a pair."""
_ends: list[float] = []
"""When the time of the pair is up, by the process's own clock."""


def main() -> None:
    """Answer pairs until the input ends."""
    replies = os.fdopen(os.dup(1), "w", encoding="ascii", buffering=1)
    os.dup2(2, 1)  # whatever a parser prints must not be taken for a reply
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    _limit_memory()
    _alarm_by_processor_time()
    try:
        judge = _math_verify()
    except ImportError:
        replies.write('{"ready": false}\n')
        return
    for formula in _WARM:
        judge(formula, formula)
    replies.write('{"ready": true}\n')
    for gold, answer in _questions():
        _limit_processor()
        replies.write(json.dumps({"equal": _verdict(judge, gold, answer)}) + "\n")


def _questions() -> Iterator[tuple[str, str]]:
    for line in io.TextIOWrapper(sys.stdin.buffer, encoding="ascii"):
        gold, answer = json.loads(line)
        yield gold, answer


def _verdict(judge: Judge, gold: str, answer: str) -> bool | None:
    _rung.clear()
    _ends[:] = [time.process_time() + _PAIR_SECONDS]
    signal.alarm(_SOFT_SECONDS)
    try:
        return judge(gold, answer)
    except Exception:  # whatever a parser stumbles over, nothing is known of the pair
        return None
    finally:
        _ends.clear()
        signal.alarm(0)


def _math_verify() -> Judge:
    from math_verify import parse, verify  # noqa: PLC0415 - an extra, and its absence is a reply of its own

    logging.disable(logging.CRITICAL)

    @lru_cache(maxsize=4096)
    def read(text: str) -> tuple[object, ...]:
        return tuple(parse(text, parsing_timeout=_SOFT_SECONDS))

    @lru_cache(maxsize=4096)
    def value(text: str) -> complex | None:
        return _value(read(text)[0]) if read(text) else None

    @lru_cache(maxsize=65536)
    def judge(gold: str, answer: str) -> bool | None:
        if not read(gold) or not read(answer):
            return None
        if _far_apart(value(gold), value(answer)):
            return False
        equal = bool(verify(list(read(gold)), list(read(answer)), timeout_seconds=_SOFT_SECONDS))
        return equal or (None if _rung else False)

    return judge


def _value(formula: object) -> complex | None:
    # Where a formula leads at one arbitrary point. Equal formulas lead to the same place, so a difference settles in
    # microseconds what simplification needs milliseconds for; agreement settles nothing.
    sympy = import_module("sympy")
    slow = (sympy.Sum, sympy.Product, sympy.Integral, sympy.Limit, sympy.Derivative, sympy.factorial)
    if not isinstance(formula, sympy.Expr) or formula.has(*slow):
        return None
    try:
        point = {s: 1 + zlib.crc32(str(s).encode()) / 2**33 for s in formula.free_symbols}
        value = complex(formula.evalf(15, subs=point))
    except Exception:  # not every expression has a value; then the formula itself is compared
        return None
    return value if cmath.isfinite(value) else None


def _far_apart(a: complex | None, b: complex | None) -> bool:
    # The margin is wider than the six decimals to which math-verify compares numbers.
    return a is not None and b is not None and abs(a - b) > 1e-4 + 1e-9 * max(abs(a), abs(b))


def _alarm_by_processor_time() -> None:
    """What else the machine does must not change a verdict, so math-verify's alarm goes by the processor's clock."""
    if not hasattr(signal, "setitimer"):
        return

    def alarm(seconds: int) -> int:
        # During a pair its own end stays set whatever math-verify sets and unsets.
        left = max(_ends[0] - time.process_time(), 0.01) if _ends else seconds
        return math.ceil(signal.setitimer(signal.ITIMER_PROF, left)[0])

    def ring(*_: object) -> None:
        _rung.append(True)
        signal.raise_signal(signal.SIGALRM)

    def late(*_: object) -> None:
        raise TimeoutError("the time of the pair is up")

    signal.alarm = alarm
    signal.signal(signal.SIGPROF, ring)
    signal.signal(signal.SIGALRM, late)


def _limit_memory() -> None:
    with contextlib.suppress(ImportError, OSError, ValueError):
        import resource  # noqa: PLC0415 - not on every platform

        resource.setrlimit(resource.RLIMIT_AS, (_MEMORY_BYTES, _MEMORY_BYTES))
        resource.setrlimit(resource.RLIMIT_CORE, (0, 0))


def _limit_processor() -> None:
    with contextlib.suppress(ImportError, OSError, ValueError):
        import resource  # noqa: PLC0415 - not on every platform

        used = resource.getrusage(resource.RUSAGE_SELF)
        limit = int(used.ru_utime + used.ru_stime) + _CPU_SECONDS
        resource.setrlimit(resource.RLIMIT_CPU, (limit, resource.getrlimit(resource.RLIMIT_CPU)[1]))


if __name__ == "__main__":
    main()
