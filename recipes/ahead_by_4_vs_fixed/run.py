"""What a stop rule saves and costs against all draws, paired by question, as `thinkscale bench --json` reports it."""

from __future__ import annotations

import json
import sys
from pathlib import Path

from thinkscale.bench.stats import Paired, paired_difference

WORDS = {"needed": "tokens needed", "credit": "right answers"}


def against_all(report: dict[str, dict[str, list[dict[str, float]]]]) -> dict[str, Paired]:
    """Differences of the last method of the report to the first, in tokens needed per problem and in right answers."""
    results = list(report["results"].values())
    early, full = results[-1], results[0]
    return {field: paired_difference([r[field] for r in early], [r[field] for r in full]) for field in WORDS}


def main(arguments: list[str]) -> None:
    """Print both differences."""
    if not arguments or not Path(arguments[0]).exists():
        sys.exit("give the file that `thinkscale bench … --json` wrote, as this folder's README.md says")
    report = json.loads(Path(arguments[0]).read_text(encoding="utf-8"))
    for row in report["rows"]:
        low, high = (100 * row["interval"][end] for end in ("low", "high"))
        figures = f"{100 * row['accuracy']:.1f} % ({low:.1f} to {high:.1f}), {row['needed']:.1f} tokens needed"
        print(f"{row['method']}: {figures}, {row['calls']:.2f} attempts")
    for field, found in against_all(report).items():
        unit = 100 if field == "credit" else 1
        difference, low, high = (unit * value for value in (found.difference, found.low, found.high))
        print(f"difference in {WORDS[field]}: {difference:+.1f}, 95 % {low:+.1f} to {high:+.1f}, p = {found.p:.4f}")


if __name__ == "__main__":
    main(sys.argv[1:])
