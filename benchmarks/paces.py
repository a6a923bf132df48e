"""What a stop rule needs, pays and waits for at each pace, on recorded lengths of two models that think.

Run: `python benchmarks/paces.py [--rule ahead-by-4] [--orders 50] [--live] [--json]`. Every question's attempts are put
into random orders, and each order is run by the token clock, with places for `all` attempts, with 8 places that are
known, and with 8 that are not, at which attempts `queue`. With `--live` each order is a run of `self-consistency` on an
engine that writes the recorded lengths, `--step` tokens at a time, on a clock of its own, and `needed` of every run is
compared with the law. Columns, over all questions and orders:

- needed: tokens that the law needs, in % of all n attempts' tokens. It is a function of the draws alone. `mean` is the
  same share averaged over questions, in which long questions weigh no more than short ones.
- paid: tokens that have been written by the time the rule can fire, likewise, if every running attempt writes one token
  a step and the engine stops at once; live, what the bill says.
- time: steps until then, in multiples of what `swift` takes.
"""

from __future__ import annotations

import argparse
import asyncio
import gzip
import json
from collections import defaultdict
from collections.abc import AsyncGenerator, Sequence
from contextlib import suppress
from dataclasses import asdict, dataclass
from heapq import heapify, heapreplace
from pathlib import Path
from selectors import DefaultSelector, SelectorKey

import numpy as np

from thinkscale.api import solve
from thinkscale.bench.clock import Attempts, Law
from thinkscale.budget import Budget
from thinkscale.engines.protocol import Abort, Capabilities, Chunk, Completion, Request
from thinkscale.methods.self_consistency import SelfConsistency
from thinkscale.pace import Pace
from thinkscale.registry import parse
from thinkscale.stopping import StopRule
from thinkscale.types import AnswerKind, Finish, Problem, Sampling, Usage

LENGTHS = Path(__file__).parent / "data" / "boinf_aime25_lengths.jsonl.gz"


@dataclass(frozen=True, slots=True)
class Line:
    """One row of the table."""

    n: int
    places: str
    pace: str
    needed: float
    """Share of the tokens of all n attempts; so is `paid`."""
    mean: float
    """The mean of that share over questions."""
    paid: float
    time: float
    """Multiples of the time at the pace `swift`."""
    waves: float


@dataclass(frozen=True, slots=True)
class Lived:
    """One question, one order, at equal speed."""

    needed: int
    paid: int
    steps: int
    waves: int
    all: int
    """Tokens of all n attempts."""


def sets(path: Path = LENGTHS) -> dict[str, list[Attempts]]:
    """The recorded attempts at every question, by model."""
    found = defaultdict(list)
    with gzip.open(path, "rt", encoding="utf-8") as lines:
        for row in map(json.loads, lines):
            found[row["model"]].append(Attempts.told(row["answers"], row["tokens"]))
    return dict(found)


def begun(lengths: Sequence[int], places: int) -> list[int]:
    """The step at which each attempt begins, if a place is taken as soon as it is free, in draw order."""
    free, steps = [0] * max(1, places), []
    heapify(free)
    for length in lengths:
        steps.append(free[0])
        heapreplace(free, free[0] + length)
    return steps


def lived(law: Law, attempts: Attempts, order: Sequence[int], places: int) -> Lived:
    """What a run pays whose attempts write one token a step each, `places` of them at once.

    An attempt that the rule waits for has written as much as the one at which it fires, and one more token if it is the
    earlier of two with as many; until then nothing is cut off, so when every attempt begins is known.
    """
    run = law.run(attempts, order)
    lengths = [attempts.tokens[i] for i in order]
    first = paid = steps = 0
    for size in run.sizes:
        wave = lengths[first : first + size]
        starts = begun(wave, places)
        last = run.fired and first + size == sum(run.sizes)
        end = max(at + length for at, length in zip(starts, wave, strict=True))
        if last:
            at = list(order).index(run.voters[-1]) - first
            waits = [wave[at] + (j < at) for j in range(size)]
            end = max(start + min(own, wait) for start, own, wait in zip(starts, wave, waits, strict=True))
        paid += sum(min(own, max(0, end - start)) for own, start in zip(wave, starts, strict=True))
        steps, first = steps + end, first + size
    return Lived(needed=run.needed, paid=paid, steps=steps, waves=len(run.sizes), all=sum(lengths))


class _Clock(DefaultSelector):
    """Waits for nothing that has a time: the time has passed as soon as nothing else is to be done."""

    now = 0.0

    def select(self, timeout: float | None = None) -> list[tuple[SelectorKey, int]]:
        found = super().select(0 if timeout else timeout)
        self.now += timeout if timeout and not found else 0.0
        return found


class _Loop(asyncio.SelectorEventLoop):
    def __init__(self) -> None:
        super().__init__(clock := _Clock())
        self.time = lambda: clock.now  # type: ignore[method-assign]


class Recorded:
    """Writes attempts of recorded lengths, a token a second each.

    Args:
        attempts: at one question.
        order: number of the attempt that is drawn first, second, …
        known: draws at once that it says it makes.
        places: draws that it makes at once.
        step: tokens of a piece.
    """

    def __init__(self, attempts: Attempts, order: Sequence[int], *, known: int, places: int, step: int) -> None:
        self.lengths = [attempts.tokens[i] for i in order]
        self.classes = [attempts.classes[i] for i in order]
        self.places, self.step = places, step
        self.capabilities = Capabilities(model="recorded", concurrency=known)

    def count(self, request: Request) -> int:
        return 0

    async def open(self) -> None:
        """Nothing has to be found out."""

    async def aclose(self) -> None:
        pass

    async def stream(self, request: Request, abort: Abort | None = None) -> AsyncGenerator[Chunk, None]:
        ended, told = abort or Abort(), asyncio.Event()
        with ended.watched(told.set):
            async for chunk in self._written(request, ended, told):
                yield chunk

    async def _written(self, request: Request, ended: Abort, told: asyncio.Event) -> AsyncGenerator[Chunk, None]:
        wrote = dict.fromkeys(range(request.n), 0)
        while wrote:
            running = [i for i in wrote if i not in ended][: self.places]
            with suppress(TimeoutError):
                await asyncio.wait_for(told.wait(), self.step)
            for index in [*wrote]:
                length, before = self._length(request, index), wrote[index]
                if index in running and index not in ended:
                    wrote[index] = min(before + self.step, length)
                over = wrote[index] == length
                if over or index in ended:
                    yield Chunk(index, "", 0, self._whole(request, index, wrote.pop(index), over=over))
                elif wrote[index] > before:
                    yield Chunk(index, "", wrote[index] - before)

    def _length(self, request: Request, index: int) -> int:
        return self.lengths[request.paths[index][-1]]

    def _whole(self, request: Request, index: int, tokens: int, *, over: bool) -> Completion:
        answer = self.classes[request.paths[index][-1]]
        text = rf"\boxed{{{answer + 1}}}" if over and answer >= 0 else ""
        finish, usage = Finish.eos if over else Finish.aborted, Usage(calls=1, input_tokens=0, output_tokens=tokens)
        return Completion(text=text, finish=finish, tokens=tokens, usage=usage)


def live(law: Law, attempts: Attempts, order: Sequence[int], places: int, step: int) -> Lived:
    """The same by a run.

    Raises:
        AssertionError: the run did not need what the law says.
    """
    said = law.run(attempts, order)
    engine = Recorded(attempts, order, known=law.places or len(order), places=places, step=step)
    method = SelfConsistency(n=law.n, stop=law.rule, pace=law.pace)  # type: ignore[arg-type]
    cap = Sampling(max_tokens=max(engine.lengths) + 1)
    with asyncio.Runner(loop_factory=_Loop) as runner:
        problem = Problem.of("What is it?", AnswerKind.math)
        outcome = runner.run(solve(problem, method, engine, budget=Budget(), sampling=cap))
        steps = runner.get_loop().time()
    assert outcome.needed == said.needed, f"the run needed {outcome.needed} tokens, the law {said.needed}"
    paid, waves = outcome.usage.output_tokens, len(said.sizes)
    return Lived(needed=said.needed, paid=paid, steps=round(steps), waves=waves, all=sum(engine.lengths))


def measured(
    rule: StopRule, n: int, pace: Pace, *, known: int | None, places: int, orders: int, step: int | None = None
) -> dict[str, list[Lived]]:
    """All questions of each model in random orders.

    Args:
        rule: shown the attempts one by one.
        n: attempts of a question.
        pace: how large waves are.
        known: places that the law knows of; `None` for as many as there are attempts.
        places: places that there are.
        orders: random orders of each question.
        step: for live runs, the tokens of a piece.
    """
    found = {}
    for model, questions in sets().items():
        law, rows = Law(rule, n=n, pace=pace, places=known), []
        for number, attempts in enumerate(questions):
            source = np.random.default_rng(number)
            drawn = (source.permutation(len(attempts.tokens))[:n].tolist() for _ in range(orders))
            rows += [
                live(law, attempts, order, places, step) if step else lived(law, attempts, order, places)
                for order in drawn
            ]
        found[model] = rows
    return found


def table(rule: StopRule, *, orders: int, step: int | None = None) -> list[Line]:
    """Every row."""
    lines = []
    for n, where, known, places in ((16, "all", None, 16), (40, "all", None, 40), (40, "8 places", 8, 8)):
        ways = [(pace, where, known) for pace in (Pace.swift, Pace.steady, Pace.thrift)]
        if known:
            ways = [(Pace.swift, "queue", None), *ways]
        base = 0
        for pace, label, told in ways:
            found = measured(rule, n, pace, known=told, places=places, orders=orders, step=step)
            rows = [row for rows in found.values() for row in rows]
            sums = np.sum([(r.needed, r.paid, r.steps, r.waves, r.all) for r in rows], axis=0).tolist()
            needed, paid, steps, waves, full = sums
            base = base or steps
            lines.append(
                Line(
                    n=n,
                    places=label,
                    pace=pace.value,
                    needed=needed / full,
                    mean=float(np.mean([row.needed / row.all for row in rows])),
                    paid=paid / full,
                    time=steps / base,
                    waves=waves / len(rows),
                )
            )
    return lines


def main() -> None:
    options = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    options.add_argument("--rule", default="ahead-by-4")
    options.add_argument("--orders", type=int, default=50)
    options.add_argument("--live", action="store_true")
    options.add_argument("--step", type=int, default=32)
    options.add_argument("--json", action="store_true")
    asked = options.parse_args()
    lines = table(parse(asked.rule, "stop-rule"), orders=asked.orders, step=asked.step if asked.live else None)
    if asked.json:
        print(json.dumps([asdict(line) for line in lines]))
        return
    print(f"{'n':>3}  {'places':9} {'pace':7} {'needed':>8} {'mean':>8} {'paid':>8} {'time':>6} {'waves':>6}")
    for line in lines:
        shares = " ".join(f"{100 * share:7.1f}%" for share in (line.needed, line.mean, line.paid))
        print(f"{line.n:3}  {line.places:9} {line.pace:7} {shares} {line.time:6.2f} {line.waves:6.2f}")


if __name__ == "__main__":
    main()
