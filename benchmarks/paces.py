"""What a stop rule needs, pays and waits for at each pace, on recorded lengths of two models that think.

Run: `python benchmarks/paces.py [--rule ahead-by-4] [--orders 50] [--json]`. Every question's attempts are put into
random orders, and each order is run by the token clock, with places for `all` attempts, with 8 places that are known,
and with 8 that are not, at which attempts `queue`. Columns, over all questions and orders:

- needed: tokens that the law needs, in % of all n attempts' tokens. It is a function of the draws alone. `mean` is the
  same share averaged over questions, in which long questions weigh no more than short ones.
- paid: tokens that have been written by the time the rule can fire, likewise, if every running attempt writes one token
  a step and the engine stops at once.
- time: steps until then, in multiples of what `swift` takes.
"""

from __future__ import annotations

import argparse
import gzip
import json
from collections import defaultdict
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from heapq import heapify, heapreplace
from pathlib import Path

import numpy as np

from thinkscale.bench.clock import Attempts, Law
from thinkscale.pace import Pace
from thinkscale.registry import parse
from thinkscale.stopping import StopRule

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


def measured(
    rule: StopRule, n: int, pace: Pace, *, known: int | None, places: int, orders: int
) -> dict[str, list[Lived]]:
    """All questions of each model in random orders.

    Args:
        rule: shown the attempts one by one.
        n: attempts of a question.
        pace: how large waves are.
        known: places that the law knows of; `None` for as many as there are attempts.
        places: places that there are.
        orders: random orders of each question.
    """
    found = {}
    for model, questions in sets().items():
        law, rows = Law(rule, n=n, pace=pace, places=known), []
        for number, attempts in enumerate(questions):
            source = np.random.default_rng(number)
            drawn = (source.permutation(len(attempts.tokens))[:n].tolist() for _ in range(orders))
            rows += [lived(law, attempts, order, places) for order in drawn]
        found[model] = rows
    return found


def table(rule: StopRule, *, orders: int) -> list[Line]:
    """Every row."""
    lines = []
    for n, where, known, places in ((16, "all", None, 16), (40, "all", None, 40), (40, "8 places", 8, 8)):
        ways = [(pace, where, known) for pace in (Pace.swift, Pace.steady, Pace.thrift)]
        if known:
            ways = [(Pace.swift, "queue", None), *ways]
        base = 0
        for pace, label, told in ways:
            found = measured(rule, n, pace, known=told, places=places, orders=orders)
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
    options.add_argument("--json", action="store_true")
    asked = options.parse_args()
    lines = table(parse(asked.rule, "stop-rule"), orders=asked.orders)
    if asked.json:
        print(json.dumps([asdict(line) for line in lines]))
        return
    print(f"{'n':>3}  {'places':9} {'pace':7} {'needed':>8} {'mean':>8} {'paid':>8} {'time':>6} {'waves':>6}")
    for line in lines:
        shares = " ".join(f"{100 * share:7.1f}%" for share in (line.needed, line.mean, line.paid))
        print(f"{line.n:3}  {line.places:9} {line.pace:7} {shares} {line.time:6.2f} {line.waves:6.2f}")


if __name__ == "__main__":
    main()
