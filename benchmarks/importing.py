"""How fast `thinkscale import` is and what memory it takes, on made-up files of a growing number of attempts.

    python benchmarks/importing.py                 # 20,000 and 200,000 attempts of each shape
    python benchmarks/importing.py 1000000         # this many of each shape

Every import is a process of its own. `json` is what Python takes to parse the same lines and do nothing with them.
"""

from __future__ import annotations

import json
import random
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from tempfile import TemporaryDirectory

ATTEMPTS = 100
"""At one question."""
SIZES = (20_000, 200_000)
PROGRAM = """
import json, resource, sys, time
from thinkscale.cli import main
sys.argv = ["thinkscale", "import", sys.argv[1], "--store", sys.argv[2]]
begun = time.perf_counter()
try:
    main()
except SystemExit as left:
    assert not left.code, left
seconds, used = time.perf_counter() - begun, resource.getrusage(resource.RUSAGE_SELF)
# Not `ru_maxrss`, which knows of the process that this one was started by.
[highest] = [line.split()[1] for line in open("/proc/self/status") if line.startswith("VmHWM")]
print(json.dumps([seconds, used.ru_utime + used.ru_stime, int(highest) / 1024]))
"""
Row = dict[str, object]


def question(number: int, source: random.Random) -> Row:
    """What stands on every line of a question."""
    return {"question_id": f"q{number}", "question": f"How many pears are in {number} baskets of {source.random()}?"}


def answers(attempts: int) -> Iterator[Row]:
    """Answers with verdicts, all of a question on one line."""
    source = random.Random(0)
    for number in range(attempts // ATTEMPTS):
        said = [source.choice((7, 7, 7, 8, source.randrange(1000))) for _ in range(ATTEMPTS)]
        samples = [{"answer": str(a), "correct": a == 7, "n_tokens": source.randrange(5000)} for a in said]
        yield {**question(number, source), "gold": "7", "samples": samples}


def texts(attempts: int) -> Iterator[Row]:
    """Texts in which an answer has to be found, all of a question on one line."""
    for row in answers(attempts):
        samples = [
            {"text": f"Each of the {at} baskets has some, so we add them up.\n\nThe answer is {sample['answer']}."}
            for at, sample in enumerate(row["samples"])  # type: ignore[arg-type]
        ]
        yield {**row, "samples": samples}


def single(attempts: int) -> Iterator[Row]:
    """One attempt per line, the first of every question before the second of any."""
    rows = [*answers(attempts)]
    for at in range(ATTEMPTS):
        for row in rows:
            yield {**row, **row["samples"][at], "samples": None}  # type: ignore[index]


def formulas(_: int) -> Iterator[Row]:
    """Three questions with 256 attempts each, of 100 different formulas."""
    source = random.Random(0)
    for number in range(3):
        said = [rf"\\frac{{{a + 2}}}{{\\sqrt{{{number + 3}}}}} + x^{{{a % 7 + 2}}}" for a in range(100)]
        samples = [{"text": f"So it is \\boxed{{{source.choice(said)}}}."} for _ in range(256)]
        yield {**question(number, source), "gold": said[0], "samples": samples}


def measured(rows: Callable[[int], Iterator[Row]], attempts: int, folder: Path) -> list[object]:
    """A row of the table: shape, attempts, seconds, processor seconds, its ratio to parsing, megabytes."""
    path = folder / "rows.jsonl"
    with path.open("w", encoding="utf-8") as file:
        file.writelines(json.dumps(row) + "\n" for row in rows(attempts))
    begun = time.process_time()
    with path.open("rb") as lines:
        for line in lines:
            json.loads(line)
    parsed = time.process_time() - begun
    (folder / "runs.db").unlink(missing_ok=True)
    told = subprocess.run(
        [sys.executable, "-c", PROGRAM, path, folder / "runs.db"], check=True, stdout=subprocess.PIPE, text=True
    )
    seconds, cpu, memory = json.loads(told.stdout.splitlines()[-1])
    return [rows.__name__, attempts, seconds, cpu, cpu / parsed, memory]


def main(sizes: tuple[int, ...]) -> None:
    """Print the table."""
    print(f"{'shape':10} {'attempts':>10} {'seconds':>8} {'CPU s':>8} {'× json':>8} {'MB':>6}")
    with TemporaryDirectory() as folder:
        jobs = [(shape, size) for shape in (answers, texts, single) for size in sizes]
        for shape, size in [*jobs, (formulas, 768)]:
            name, attempts, *figures = measured(shape, size, Path(folder))
            print("{:10} {:>10,} {:>8.1f} {:>8.1f} {:>8.1f} {:>6.0f}".format(name, attempts, *figures), flush=True)


if __name__ == "__main__":
    main(tuple(map(int, sys.argv[1:])) or SIZES)
