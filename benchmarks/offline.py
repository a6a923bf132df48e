"""How fast selection rules are evaluated offline, and how much faster than by calling them on each subset.

Run: `python benchmarks/offline.py [--problems 500] [--samples 40] [--resamples 1000] [--json]`. The pools are made up:
a correct class and others with falling probabilities, some attempts without an answer, scores that are a little higher
for correct ones, all from a fixed seed. Every rule is evaluated at every number of attempts up to the pool's size, on
the same nested random subsets. Goals, on one core: majority within 1 s, all other rules together within 5 s.

`rpc` fits a mixture to every subset, so it is evaluated on fewer of them and is not in that sum; its line says
how many.
The slow way is the rule called on the traces of a subset; it is timed on a few subsets and multiplied. Seconds are
those of the processor, so that what else runs on the machine counts as little as it can.
"""

from __future__ import annotations

import argparse
import json
import time
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from thinkscale.bench.resample import curves, estimates
from thinkscale.bench.subsets import Graded, random_orders, shuffle, subsets
from thinkscale.registry import parse
from thinkscale.selection.voting import Voting
from thinkscale.types import Answer, Finish, Logprobs, LogprobSpace, Message, Origin, Score, Segment, Trace

FAST = (
    "majority",
    "weighted-vote",
    "best",
    "borda",
    "perplexity-consistency",
    "confidence-filtered-vote",
    "soft-self-consistency",
    "cisc",
    "shortest",
    "random",
    "minimum-bayes-risk",
)
NUMERIC = ("mean", "median")
TOGETHER = 50
"""Problems whose estimates are held at once: 20 million of them are 160 MB."""
SIZES_OF_RPC, RESAMPLES_OF_RPC = (5, 10, 20, 40), 5


@dataclass(frozen=True, slots=True)
class Line:
    """What was measured of one rule."""

    rule: str
    seconds: float
    """Evaluation alone."""
    reading: float
    """Seconds to read the pools' scores into arrays."""
    slow: float
    """Seconds of the slow way, extrapolated."""
    accuracy: float
    """At the largest size."""
    evaluations: int


def pool(rng: np.random.Generator, n: int) -> list[Trace]:
    """Attempts of one problem; class 0 is the right one."""
    hard = rng.beta(2, 1.5)
    wrong = rng.dirichlet(np.full(11, 0.4)) * (1 - hard)
    classes = rng.choice(12, n, p=[hard, *wrong])
    traces = []
    for i, c in enumerate(classes):
        chosen = tuple(-rng.gamma(1.0, 0.3 + 0.1 * (c > 0), 8))
        said = Segment(
            text=f"attempt {i} says {c}",
            origin=Origin.sampled,
            tokens=int(rng.gamma(3, 100 + 30 * (c > 0))) + 1,
            logprobs=Logprobs(space=LogprobSpace.raw, chosen=chosen),
        )
        answer = None if rng.random() < 0.04 else Answer(words(c), f"{100 + c}")
        score = Score(value=float(rng.beta(3 + (c == 0), 3)), kind="synthetic")
        traces.append(
            Trace(prompt=(Message("user", "?"),), segments=(said,), finish=Finish.eos, answer=answer, scores=(score,))
        )
    return traces


def words(c: int) -> str:
    """Answers that share words with some others, and that are no numbers for rules which compare texts."""
    return f"the {('red', 'green', 'blue')[c % 3]} {('box', 'ball', 'cart', 'lamp')[c % 4]}"


def graded(rule: Voting, pools: Sequence[list[Trace]]) -> list[Graded]:
    made = []
    for traces in pools:
        ballots = rule.ballots(traces)
        made.append(Graded(ballots, np.array([float(key == "100") for key in ballots.keys])))
    return made


def slow(rule: Voting, traces: list[Trace], order: np.ndarray, sizes: Sequence[int]) -> float:
    """Seconds per call of the rule on subsets of one pool, over all sizes."""
    began = time.process_time()
    for row in order:
        for k in sizes:
            rule([traces[i] for i in row[:k]])
    return (time.process_time() - began) / (len(order) * len(sizes))


def line(spec: str, pools: list[list[Trace]], resamples: int, sizes: tuple[int, ...] | None) -> Line:
    rule = parse(spec, "selector")
    assert isinstance(rule, Voting)
    n = len(pools[0])
    began = time.process_time()
    read = graded(rule, pools)
    reading = time.process_time() - began
    orders = random_orders(n, sizes, resamples)
    began = time.process_time()
    if spec in NUMERIC:
        errors = []
        for at in range(0, len(read), TOGETHER):
            values = [g.ballots.scores for g in read[at : at + TOGETHER]]
            rows = [shuffle(orders, at + p) for p in range(len(values))]
            errors.append(np.abs(estimates(rule, values, orders, rows)[:, -1] - 100))
        accuracy = float(np.nanmean(errors))
    else:
        accuracy = float(curves(rule, read, orders)[:, -1].mean())
    seconds = time.process_time() - began
    evaluations = len(pools) * len(orders.sizes) * resamples
    each = slow(rule, pools[0], subsets(orders, shuffle(orders, 0))[:3], orders.sizes)
    return Line(spec, seconds, reading, each * evaluations, accuracy, evaluations)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--problems", type=int, default=500)
    parser.add_argument("--samples", type=int, default=40)
    parser.add_argument("--resamples", type=int, default=1000)
    parser.add_argument("--json", action="store_true")
    options = parser.parse_args()
    rng = np.random.default_rng(0)
    pools = [pool(rng, options.samples) for _ in range(options.problems)]
    random_orders(options.samples, None, options.resamples)
    lines = [line(spec, pools, options.resamples, None) for spec in (*FAST, *NUMERIC)]
    sizes = tuple(k for k in SIZES_OF_RPC if k <= options.samples)
    rpc = line("rpc", pools, RESAMPLES_OF_RPC, sizes)
    others = sum(found.seconds for found in lines if found.rule != "majority")
    if options.json:
        rows = [{name: getattr(found, name) for name in Line.__slots__} for found in (*lines, rpc)]
        print(json.dumps({"rules": rows, "others_seconds": others}))
        return
    print(f"{'rule':<28}{'subsets':>12}{'s':>8}{'reading, s':>12}{'one by one, s':>15}{'times':>9}{'at the end':>12}")
    for found in (*lines, rpc):
        gain = found.slow / found.seconds
        print(
            f"{found.rule:<28}{found.evaluations:>12,}{found.seconds:>8.2f}{found.reading:>12.2f}{found.slow:>15,.0f}"
            f"{gain:>9,.0f}{found.accuracy:>12.4f}"
        )
    print(f"\nall but majority and rpc: {others:.2f} s; `at the end` is accuracy, for mean and median the mean error")


if __name__ == "__main__":
    main()
