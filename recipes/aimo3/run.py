"""Mean and majority of 8 attempts at 10 olympiad problems by gpt-oss models, with the ties shown."""

from __future__ import annotations

import os
import sys
from collections import Counter
from pathlib import Path

import numpy as np

from thinkscale.bench.majority import majority_at_k, votes_of
from thinkscale.bench.pools import PoolLine, by_source, read_pool
from thinkscale.bench.stats import mean_se

DATA = Path(os.environ.get("THINKSCALE_DATA") or Path(__file__).resolve().parents[3] / "shared" / "data")
FILE = DATA / "recorded" / "aimo3_gptoss_math10_n8_tokens.jsonl.gz"


def leaders(line: PoolLine) -> list[str]:
    """The most frequent answers, in the order in which they were first seen."""
    counts = Counter(a for a in line.answers if a is not None)
    return [a for a in counts if counts[a] == max(counts.values())]


def main() -> None:
    """Print the table."""
    if not FILE.exists():
        sys.exit(f"the recorded set `{FILE}` is not there: set THINKSCALE_DATA to the folder that holds `recorded/`")
    print(f"{'run':34} {'mean ± SE':>13} {'split':>6} {'first seen':>10} {'no tie':>6}  tied on the right answer")
    for (_, _, run), lines in by_source(read_pool(FILE)).items():
        mean = mean_se(np.array([line.verdicts for line in lines]))
        split = sum(majority_at_k(votes_of(line.answers, line.verdicts), 8) for line in lines)
        led = {line.question_id: leaders(line) for line in lines}
        gold = {line.question_id: line.gold[0] for line in lines}
        first = sum(bool(led[q]) and led[q][0] == gold[q] for q in led)
        alone = sum(led[q] == [gold[q]] for q in led)
        tied = [f"{q} ({len(led[q])} ways)" for q in led if len(led[q]) > 1 and gold[q] in led[q]]
        figures = f"{100 * mean.mean:6.2f} ± {100 * mean.se:.1f} {split:6.2f} {first:10} {alone:6}"
        print(f"{run:34} {figures}  {', '.join(tied)}")


if __name__ == "__main__":
    main()
