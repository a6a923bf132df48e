"""How long thinkscale takes to start, beside the interpreter itself.

Run: `python benchmarks/start.py [--json]`. Goals: `import thinkscale` within 0.3 s, `thinkscale --help` within 0.5 s.
Each command is run 9 times in turn, in a process of its own; medians are compared.
"""

from __future__ import annotations

import json
import statistics
import subprocess
import sys
import time

COMMANDS = {
    "python -c pass": "pass",
    "import thinkscale": "import thinkscale",
    "thinkscale --help": "import sys; sys.argv = ['thinkscale', '--help']; from thinkscale.cli import main; main()",
}


def seconds(code: str) -> float:
    start = time.perf_counter()
    subprocess.run([sys.executable, "-c", code], check=True, capture_output=True)
    return time.perf_counter() - start


def main() -> None:
    times: dict[str, list[float]] = {name: [] for name in COMMANDS}
    for _ in range(9):
        for name, code in COMMANDS.items():
            times[name].append(seconds(code))
    medians = {name: statistics.median(all_times) for name, all_times in times.items()}
    floor = medians["python -c pass"]
    if "--json" in sys.argv:
        print(json.dumps(medians))
        return
    for name, median in medians.items():
        print(f"{name:<22}{median * 1000:>8.0f} ms{median / floor:>8.1f} x the interpreter")


if __name__ == "__main__":
    main()
