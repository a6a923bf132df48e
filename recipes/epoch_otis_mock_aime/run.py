"""Accuracy and clustered standard error of 8 models on 45 competition problems, beside the source's own figures."""

from __future__ import annotations

import os
import sys
from pathlib import Path

import numpy as np

from thinkscale.bench.metrics import pass_at_k
from thinkscale.bench.pools import PoolLine, by_source, read_pool
from thinkscale.bench.stats import mean_se

DATA = Path(os.environ.get("THINKSCALE_DATA") or Path(__file__).resolve().parents[3] / "shared" / "data")
FILE = DATA / "recorded" / "epoch_otis_mock_aime_n16_8models.jsonl.gz"


def ours(lines: list[PoolLine]) -> dict[str, tuple[float, float]]:
    """Accuracy and standard error over questions, by the name of the source's reducer."""
    verdicts = np.array([line.verdicts for line in lines])
    solved = mean_se(pass_at_k(verdicts.sum(axis=1), 16, 16))
    mean = mean_se(verdicts)
    return {"mean": (mean.mean, mean.se), "pass_at_16": (solved.mean, solved.se)}


def theirs(lines: list[PoolLine]) -> dict[str, tuple[float, float]]:
    """The same as the source reports it, on one line of each run."""
    scores = next(line.rest["source_run_scores"] for line in lines if "source_run_scores" in line.rest)
    return {s["reducer"]: (s["metrics"]["accuracy"], s["metrics"]["stderr"]) for s in scores}


def main() -> None:
    """Print the table and fail where a figure differs."""
    if not FILE.exists():
        sys.exit(f"the recorded set `{FILE}` is not there: set THINKSCALE_DATA to the folder that holds `recorded/`")
    worst = 0.0
    print(f"{'model':42} {'figure':10} {'here':>17} {'source':>17}")
    for (model, _, _), lines in by_source(read_pool(FILE)).items():
        source = theirs(lines)
        for figure, (mean, se) in ours(lines).items():
            their_mean, their_se = source[figure]
            worst = max(worst, abs(mean - their_mean), abs(se - their_se))
            print(f"{model:42} {figure:10} {mean:.5f} ± {se:.5f} {their_mean:.5f} ± {their_se:.5f}")
    print(f"largest difference: {worst:.1e}")
    if worst > 1e-12:
        sys.exit("a figure differs from the source's")


if __name__ == "__main__":
    main()
