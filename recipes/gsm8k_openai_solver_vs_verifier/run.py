"""Accuracy of a fine-tuned solver and of the solution that a verifier picked, at two sizes, paired by question."""

from __future__ import annotations

import os
import sys
from pathlib import Path

from thinkscale.bench.pools import by_source, read_pool
from thinkscale.bench.stats import mean_se, paired_difference, wilson

DATA = Path(os.environ.get("THINKSCALE_DATA") or Path(__file__).resolve().parents[3] / "shared" / "data")
FILE = DATA / "recorded" / "gsm8k_openai_solver_vs_verifier.jsonl.gz"


def main() -> None:
    """Print the table."""
    if not FILE.exists():
        sys.exit(f"the recorded set `{FILE}` is not there: set THINKSCALE_DATA to the folder that holds `recorded/`")
    verdicts = {
        (model, method): {line.question_id: line.verdicts[0] for line in lines}
        for (model, method, _), lines in by_source(read_pool(FILE)).items()
    }
    print(f"{'model':10} {'method':14} {'percent':>8}   95 % (Wilson)")
    for (model, method), right in verdicts.items():
        reach = wilson(sum(right.values()), len(right))
        percent = 100 * mean_se(list(right.values())).mean
        print(f"{model:10} {method:14} {percent:8.2f}   {100 * reach.low:.2f} to {100 * reach.high:.2f}")
    for model in dict.fromkeys(model for model, _ in verdicts):
        plain, picked = verdicts[model, "finetuning"], verdicts[model, "verification"]
        found = paired_difference([picked[q] for q in plain], list(plain.values()))
        low, high = 100 * found.low, 100 * found.high
        print(f"{model:10} gain of verification: {100 * found.difference:.2f} points, 95 % {low:.2f} to {high:.2f}")


if __name__ == "__main__":
    main()
