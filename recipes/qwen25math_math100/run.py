"""Mean, pass@k, majority@k and best-of-8 by a reward model, on 100 MATH problems with 8 recorded answers each."""

from __future__ import annotations

import asyncio
import os
import sys
from collections import Counter
from pathlib import Path

import numpy as np

from thinkscale.bench.library import import_file, load_pool
from thinkscale.bench.majority import majority_at_k, votes_of
from thinkscale.bench.metrics import pass_at_k
from thinkscale.bench.pools import PoolLine, read_pool
from thinkscale.bench.stats import mean_se
from thinkscale.selection.best import Best
from thinkscale.store import Store

DATA = Path(os.environ.get("THINKSCALE_DATA") or Path(__file__).resolve().parents[3] / "shared" / "data")
FILE = DATA / "recorded" / "qwen25math_math100_n8_rm72b.jsonl.gz"


def first_seen(line: PoolLine) -> bool:
    """Whether the most frequent answer is right, ties to the one seen first."""
    winner = Counter(line.answers).most_common(1)[0][0]
    return line.verdicts[line.answers.index(winner)]


async def best_of(path: Path) -> list[float]:
    """What the answer with the highest reward is worth, by question."""
    store, rule = Store(":memory:"), Best(kind="outcome-reward")
    [pool] = await import_file(path, store)
    chosen = [(q, rule(q.traces).best) for q in load_pool(store, pool)]
    store.close()
    return [q.credits[best.answer.key] if best and best.answer else 0.0 for q, best in chosen]


def main() -> None:
    """Print the table."""
    if not FILE.exists():
        sys.exit(f"the recorded set `{FILE}` is not there: set THINKSCALE_DATA to the folder that holds `recorded/`")
    lines = list(read_pool(FILE))
    correct = np.array([sum(line.verdicts) for line in lines])
    votes = [votes_of(line.answers, line.verdicts) for line in lines]
    print("percent ± standard error over questions")
    print(f"{'k':>2} {'pass@k':>14} {'majority@k':>14}")
    for k in range(1, 9):
        solved, voted = mean_se(pass_at_k(correct, 8, k)), mean_se([majority_at_k(v, k) for v in votes])
        print(f"{k:2} {100 * solved.mean:7.2f} ± {100 * solved.se:.2f} {100 * voted.mean:7.2f} ± {100 * voted.se:.2f}")
    best = mean_se(asyncio.run(best_of(FILE)))
    print(f"best of 8 by reward: {100 * best.mean:.2f} ± {100 * best.se:.2f}")
    print(f"majority@8, ties to the answer seen first: {100 * np.mean([first_seen(line) for line in lines]):.2f}")


if __name__ == "__main__":
    main()
