"""How well and how fast answers are found in recorded attempts, beside math-verify on the same texts.

Run: `THINKSCALE_DATA=… python benchmarks/answers.py [--sample 2000] [--rival 300] [--json]`. Needs the recorded pools
under `recorded/` and, for the second column, the extra `math`.

For pools with verdicts an answer is right when it is the reference answer; "found" is the share of the attempts called
right by the source whose answer is found right, "accepted" the share of the others that are taken for right. For pools
without verdicts "found" is how often the answer is the reference answer at all. Both extractors are judged by the same
comparison of theirs: keys here, `verify` there. Seconds are those of the processor.
"""

from __future__ import annotations

import argparse
import asyncio
import gzip
import json
import os
import random
import sys
import time
from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass
from pathlib import Path

from thinkscale.answers import extract, same
from thinkscale.types import AnswerKind

POOLS = {
    "OTIS mock AIME, 8 models": "epoch_otis_mock_aime_n16_8models",
    "MATH, Qwen2.5-Math": "qwen25math_math100_n8_rm72b",
    "MATH, Llama-3.2-3B, best of n": "specs_llama32_3b_math100_bon_n16_prm",
    "MATH, Llama-3.2-3B, beams": "specs_llama32_3b_math100_beam_n16_prm",
    "MATH, R1-distilled 8B": "atts_r1distill_llama8b_math100_n16_turnppl",
}
Right = Callable[[str, str, str], bool]
"""Of a question, its reference answer and an attempt, whether the attempt is right."""


@dataclass(frozen=True, slots=True)
class Attempt:
    """One recorded text."""

    question: str
    gold: str
    text: str
    correct: bool | None


@dataclass(frozen=True, slots=True)
class Line:
    """What was measured on one pool."""

    pool: str
    texts: int
    found: float
    accepted: float | None
    per_second: float


def attempts(folder: Path, name: str) -> Iterator[Attempt]:
    with gzip.open(folder / f"{name}.jsonl.gz", "rt", encoding="utf-8") as lines:
        for line in lines:
            row = json.loads(line)
            for sample in row["samples"]:
                text = sample.get("text") or "".join(turn.get("output", "") for turn in sample.get("turns", ()))
                yield Attempt(row.get("question", ""), str(row["gold"]), text, sample.get("correct"))


def measured(pool: str, texts: list[Attempt], right: Right, extracted: Callable[[str, str], object]) -> Line:
    for attempt in texts[:50]:
        extracted(attempt.text, attempt.question)  # patterns are compiled at their first use
    start = time.process_time()
    for attempt in texts:
        extracted(attempt.text, attempt.question)
    seconds = time.process_time() - start
    verdicts = [(right(a.question, a.gold, a.text), a.correct) for a in texts]
    judged = [v for v in verdicts if v[1] is not None]
    called_right = [ours for ours, theirs in judged if theirs] or [ours for ours, _ in verdicts]
    called_wrong = [ours for ours, theirs in judged if theirs is False]
    return Line(
        pool=pool,
        texts=len(texts),
        found=sum(called_right) / len(called_right),
        accepted=sum(called_wrong) / len(called_wrong) if called_wrong else None,
        per_second=len(texts) / seconds,
    )


def ours(question: str, gold: str, text: str) -> bool:
    answer = extract(text, AnswerKind.math, question)
    if answer is None:
        return False
    return asyncio.run(same(rf"\boxed{{{gold}}}", rf"\boxed{{{answer.text}}}", AnswerKind.math))


def rival() -> tuple[Right, Callable[[str, str], object]] | None:
    try:
        from math_verify import parse, verify
    except ImportError:
        return None

    def right(question: str, gold: str, text: str) -> bool:
        return bool(verify(parse(f"${gold}$"), parse(text)))

    return right, lambda text, question: parse(text)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--sample", type=int, default=2000, help="attempts per pool")
    parser.add_argument("--rival", type=int, default=200, help="attempts per pool for math-verify; 0 leaves it out")
    parser.add_argument("--json", action="store_true")
    given = parser.parse_args()
    folder = Path(os.environ.get("THINKSCALE_DATA", "")) / "recorded"
    if not folder.is_dir():
        sys.exit("set THINKSCALE_DATA to the folder that has `recorded/`")
    other = rival() if given.rival else None
    lines: dict[str, list[Line]] = {"thinkscale": [], "thinkscale, the same texts": [], "math-verify": []}
    for title, name in POOLS.items():
        every = list(attempts(folder, name))
        random.Random(0).shuffle(every)
        plain = lambda text, question: extract(text, AnswerKind.math, question)  # noqa: E731
        lines["thinkscale"].append(measured(title, every[: given.sample], ours, plain))
        if other is not None:
            few = every[: given.rival]
            lines["thinkscale, the same texts"].append(measured(title, few, ours, plain))
            lines["math-verify"].append(measured(title, few, *other))
    if given.json:
        print(json.dumps({name: [asdict(line) for line in told] for name, told in lines.items()}))
        return
    for name, told in lines.items():
        for line in told:
            accepted = "     –" if line.accepted is None else f"{100 * line.accepted:6.2f}"
            print(
                f"{name:<28}{line.pool:<34}{line.texts:>6} texts  right found {100 * line.found:6.2f} %"
                f"  wrong accepted {accepted} %  {line.per_second:>9,.0f} texts a CPU second"
            )


if __name__ == "__main__":
    main()
