"""Accuracy of the methods on one model, with intervals paired by problem.

Run: `python benchmarks/accuracy.py [--data toy|gsm8k] [--problems 50] [--model embedded] [--n 16] [--json]`. The data
come from `THINKSCALE_DATA` (default `../shared/data`): `gsm8k` is the test split of GSM8K with an instruction, `toy`
the 48 one- and two-step word problems of the recorded set, asked after its four worked examples as earlier turns of a
chat. The difference of every method to majority vote is paired; its interval is a bootstrap over problems, the unit
that was sampled. Draws are kept in `--store`, so an interrupted run continues where it stopped, and methods share their
draws; a method that stops early is charged for every draw of the first request that is already known.
"""

from __future__ import annotations

import argparse
import gzip
import json
import os
import random
import sys
from collections import Counter
from pathlib import Path

import numpy as np

from thinkscale.answers import same
from thinkscale.api import run, solve
from thinkscale.budget import Budget
from thinkscale.engines.opening import engine_for
from thinkscale.methods.best_of_n import BestOfN
from thinkscale.methods.self_consistency import SelfConsistency
from thinkscale.methods.single import Single
from thinkscale.session import Method, Run
from thinkscale.stopping.fixed import Fixed
from thinkscale.store import Store
from thinkscale.types import AnswerKind, Message, Problem, Sampling

INSTRUCTION = "\nThink step by step, then end with `The answer is <number>.`"


def lines(path: Path, limit: int) -> list[dict[str, str]]:
    if not path.exists():
        sys.exit(f"there are no problems at `{path}`: point THINKSCALE_DATA at the folder that has `problems/`")
    with gzip.open(path, "rt", encoding="utf-8") as found:
        return [json.loads(line) for _, line in zip(range(limit), found, strict=False)]


def problems(data: str, limit: int) -> list[tuple[Problem, str]]:
    """Problems with their reference answers."""
    folder = Path(os.environ.get("THINKSCALE_DATA", "../shared/data"))
    if data == "gsm8k":
        rows = lines(folder / "problems" / "gsm8k_test.jsonl.gz", limit)
        return [(Problem.of(row["question"] + INSTRUCTION, AnswerKind.math), row["gold"]) for row in rows]
    rows = lines(folder / "recorded" / "smollm2_toy_n32_logprobs.jsonl.gz", limit)
    shots = [turn.split("\nAnswer:") for turn in rows[0]["prompt"].split("Question:")[1:-1]]
    examples = [
        Message(role, text.strip()) for shot in shots for role, text in zip(("user", "assistant"), shot, strict=True)
    ]
    return [
        (Problem(messages=(*examples, Message("user", row["question"])), answer_kind=AnswerKind.math), row["gold"])
        for row in rows
    ]


Pool = tuple[list[str | None], set[str]]
"""The answers of one problem's attempts, by key, and the keys that are right."""


async def graded(
    method: Method, model: str, rows: list[tuple[Problem, str]], max_tokens: int, store: Store
) -> tuple[list[bool], int, float, list[Pool]]:
    right, tokens, seconds, pools = [], 0, 0.0, []
    for number, (problem, gold) in enumerate(rows):
        # Log-probabilities are asked for throughout, so that all methods share the same recorded draws.
        sampling = Sampling(max_tokens=max_tokens, logprobs=0)
        outcome = await solve(
            problem, method, engine_for(model), budget=Budget(), run=Run(seed=0), sampling=sampling, store=store
        )
        right.append(outcome.answer is not None and await same(gold, outcome.answer))
        answers = {t.answer.key: t.answer.text for t in outcome.traces if t.answer}
        pools.append(
            (
                [t.answer.key if t.answer else None for t in outcome.traces],
                {key for key, text in answers.items() if await same(gold, text)},
            )
        )
        tokens += outcome.usage.output_tokens
        seconds += outcome.usage.seconds
        print(f"\r{method!r}: {number + 1} of {len(rows)}, {sum(right)} right", end="", file=sys.stderr)
    print(file=sys.stderr)
    return right, tokens, seconds, pools


def voted(pools: list[Pool], n: int, resamples: int = 500) -> np.ndarray:
    """Accuracy of a majority of n per problem: mean over random subsets of the pool, ties shared out."""
    rng = random.Random(0)
    accuracy = []
    for keys, right in pools:
        hits = 0.0
        for _ in range(resamples):
            counts = Counter(key for key in rng.sample(keys, n) if key is not None)
            leaders = [key for key, count in counts.items() if count == max(counts.values())]
            hits += sum(key in right for key in leaders) / max(1, len(leaders))
        accuracy.append(hits / resamples)
    return np.array(accuracy)


def interval(difference: np.ndarray, resamples: int = 10_000) -> tuple[float, float]:
    """95 % bootstrap interval of the mean of paired differences, resampling problems."""
    rng = np.random.default_rng(0)
    means = rng.choice(difference, size=(resamples, len(difference))).mean(axis=1)
    low, high = np.quantile(means, (0.025, 0.975))
    return float(low), float(high)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", choices=("toy", "gsm8k"), default="toy")
    parser.add_argument("--problems", type=int, default=50)
    parser.add_argument("--model", default="embedded")
    parser.add_argument("--n", type=int, default=16)
    parser.add_argument("--max-tokens", type=int, default=256)
    parser.add_argument("--store", default="accuracy-runs.db")
    parser.add_argument("--json", action="store_true")
    options = parser.parse_args()
    rows = problems(options.data, options.problems)
    majority = SelfConsistency(n=options.n, stop=Fixed())
    methods: list[Method] = [majority, Single(), SelfConsistency(n=options.n), BestOfN(n=options.n)]
    store = Store(options.store)
    table = []
    try:
        baseline: list[bool] = []
        pools: list[Pool] = []
        for method in methods:
            right, tokens, seconds, drawn = run(graded(method, options.model, rows, options.max_tokens, store))
            baseline, pools = baseline or right, pools or drawn
            low, high = interval(np.array(right, float) - np.array(baseline, float))
            table.append(
                {
                    "method": repr(method),
                    "right": sum(right),
                    "problems": len(right),
                    "accuracy": sum(right) / len(right),
                    "minus_majority": (sum(right) - sum(baseline)) / len(right),
                    "interval": [low, high],
                    "tokens": tokens,
                    "seconds": round(seconds, 1),
                }
            )
    finally:
        store.close()
    one = voted(pools, 1)
    sizes = [n for n in (1, 2, 4, 8, 16, 32) if n <= options.n]
    curve = [
        {"votes": n, "accuracy": float(found.mean()), "minus_one_vote": interval(found - one)}
        for n in sizes
        for found in [voted(pools, n)]
    ]
    if options.json:
        print(json.dumps({"methods": table, "curve": curve}))
        return
    print(f"{'method':<42}{'right':>10}{'accuracy':>10}{'minus majority (95 %)':>32}{'tokens':>10}{'s':>8}")
    for row in table:
        low, high = row["interval"]
        gap = f"{row['minus_majority']:+.1%} [{low:+.1%}, {high:+.1%}]"
        share = f"{row['right']}/{row['problems']}"
        print(f"{row['method']:<42}{share:>10}{row['accuracy']:>10.1%}{gap:>32}{row['tokens']:>10,}{row['seconds']:>8}")
    print("\nmajority of n attempts, over random subsets of the pool, ties shared out")
    for point in curve:
        low, high = point["minus_one_vote"]
        print(f"  n = {point['votes']:<4}{point['accuracy']:>8.1%}   minus n = 1: [{low:+.1%}, {high:+.1%}]")


if __name__ == "__main__":
    main()
