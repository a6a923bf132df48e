"""Which stop rule, cap and pace keep the accuracy of every attempt at the fewest tokens, on recorded attempts."""

from __future__ import annotations

import asyncio
import gzip
import json
import os
import sys
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from thinkscale.bench.clock import Attempts, Law, plurality
from thinkscale.bench.library import import_file, load_pool
from thinkscale.bench.stats import Paired, paired_difference
from thinkscale.pace import Pace
from thinkscale.registry import parse
from thinkscale.store import Store

HERE = Path(__file__).resolve()
LENGTHS = HERE.parents[2] / "benchmarks" / "data" / "boinf_aime25_lengths.jsonl.gz"
DATA = Path(os.environ.get("THINKSCALE_DATA") or HERE.parents[3] / "shared" / "data")
OTIS = DATA / "recorded" / "epoch_otis_mock_aime_n16_8models.jsonl.gz"
RULES = (
    "fixed",
    *(f"ahead-by-{k}" for k in (3, 4, 5, 6, 8)),
    *("adaptive-consistency", "adaptive-consistency(threshold=0.99)", "best-of-infinity(factor=50)", "esc(w=8)"),
)
WITHIN = 0.001
"""Accuracy that may be lost."""
NAMED = (("ahead-by-4", 16), ("ahead-by-4", 40), ("ahead-by-6", 40), ("fixed", 16))
"""Rules whose rows are printed whatever they lose."""
ORDERS = 50
"""Random orders of each question's attempts."""


@dataclass(frozen=True, slots=True)
class Question:
    """All recorded attempts of one model at one question."""

    model: str
    id: str
    attempts: Attempts
    credits: tuple[float, ...]
    """Of each class of answers."""


@dataclass(frozen=True, slots=True)
class Line:
    """What a rule needs and loses against all attempts."""

    rule: str
    n: int
    pace: Pace
    needed: float
    """Share of the tokens of all attempts."""
    time: float
    """Tokens one after another, in multiples of all attempts at once."""
    lost: Paired
    """Accuracy minus that of all attempts; the same question of several models is one cluster."""
    by_model: dict[str, float]
    """The same difference of each model."""


def lengths() -> list[Question]:
    """AIME 2025 by two models that think, which is in this repository."""
    found = []
    with gzip.open(LENGTHS, "rt", encoding="utf-8") as lines:
        for row in map(json.loads, lines):
            keys = dict.fromkeys(a for a in row["answers"] if a is not None)
            attempts = Attempts.told(row["answers"], row["tokens"])
            found.append(
                Question(row["model"], row["question"], attempts, tuple(float(k == row["gold"]) for k in keys))
            )
    return found


async def otis() -> list[Question]:
    """OTIS Mock AIME by eight models: answers are read from the texts, a token is four characters."""
    store, found = Store(":memory:"), []
    for name in await import_file(OTIS, store):
        for question in load_pool(store, name):
            keys = dict.fromkeys(t.answer.key for t in question.traces if t.answer)
            credits = tuple(question.credits.get(key, 0.0) for key in keys)
            found.append(Question(name.split("/")[-2], question.id, Attempts.of(question.traces), credits))
    store.close()
    return found


def measured(law: Law, questions: Sequence[Question], most: int, orders: int) -> NDArray[np.float64]:
    """Credit, tokens needed and depth, shape [questions, orders, 3], in the same random orders for every law."""
    found = np.empty((len(questions), orders, 3))
    for number, question in enumerate(questions):
        source, size = np.random.default_rng(number), len(question.attempts.tokens)
        for at in range(orders):
            run = law.run(question.attempts, source.permutation(size)[:most].tolist())
            classes = (question.attempts.classes[i] for i in run.voters)
            won = [question.credits[c] for c in plurality([c if c >= 0 else None for c in classes])]
            found[number, at] = sum(won) / max(1, len(won)), run.needed, run.depth
    return found


def table(questions: Sequence[Question], most: int, caps: Iterable[int], *, orders: int) -> list[Line]:
    """Every rule at every cap and pace against all `most` attempts at once."""
    full = measured(Law(None, n=most), questions, most, orders)
    ids = [q.id for q in questions]
    numbers = [sorted(set(ids)).index(i) for i in ids]
    lines = []
    for spec in RULES:
        for n in caps:
            for pace in Pace if spec != "fixed" else (Pace.swift,):
                got = measured(Law(parse(spec, "stop-rule"), n=n, pace=pace), questions, most, orders)
                credit, base = got[..., 0].mean(axis=1), full[..., 0].mean(axis=1)
                needed, depth = (got[..., i].sum() / full[..., i].sum() for i in (1, 2))
                by_model = {
                    m: float(np.mean([c - b for c, b, q in zip(credit, base, questions, strict=True) if q.model == m]))
                    for m in dict.fromkeys(q.model for q in questions)
                }
                lost = paired_difference(credit, base, numbers)
                lines.append(Line(spec, n, pace, float(needed), float(depth), lost, by_model))
    return lines


def cheapest(lines: Sequence[Line], models: Sequence[str]) -> Line | None:
    """The line that needs least among those that lose little on some models."""
    kept = [x for x in lines if np.mean([x.by_model[m] for m in models]) >= -WITHIN]
    return min(kept, key=lambda x: x.needed, default=None)


def told(line: Line) -> str:
    """A row of a table in Markdown."""
    difference, low, high = (100 * value for value in (line.lost.difference, line.lost.low, line.lost.high))
    each = ", ".join(f"{100 * value:+.2f}" for value in line.by_model.values())
    return (
        f"| `{line.rule}` | {line.n} | {line.pace} | {100 * line.needed:.0f} % | {line.time:.2f} | "
        f"{difference:+.2f}, {low:+.2f} to {high:+.2f} | {each} |"
    )


def show(name: str, questions: Sequence[Question], most: int, caps: Sequence[int], orders: int) -> None:
    """Print the table of a set."""
    models = list(dict.fromkeys(q.model for q in questions))
    lines = table(questions, most, caps, orders=orders)
    print(f"\n{name}: {len(questions)} questions of {', '.join(models)}; against all {most} attempts at once\n")
    print("| rule | n | pace | needed | time | points won or lost, 95 % | by model |\n|---|---|---|---|---|---|---|")
    for pace in Pace:
        own = [x for x in lines if x.pace is pace]
        kept = sorted((x for x in own if x.lost.difference >= -WITHIN), key=lambda x: x.needed)[:3]
        for line in kept + [x for x in own if (x.rule, x.n) in NAMED and x not in kept]:
            print(told(line))
    print("\nchosen on the other models, and what it wins or loses on this one:\n")
    for pace in Pace:
        for model in models:
            found = cheapest([x for x in lines if x.pace is pace], [m for m in models if m != model])
            if found:
                print(f"{pace} {model}: `{found.rule}`, n = {found.n}: {100 * found.by_model[model]:+.2f} points")


def main(arguments: list[str]) -> None:
    """Print the tables of both sets, or with `lengths` that of the committed one."""
    if arguments != ["lengths"] and not OTIS.exists():
        sys.exit(f"there is no `{OTIS}`: set THINKSCALE_DATA to the folder that holds `recorded/`, or say `lengths`")
    show("AIME 2025", lengths(), 40, (16, 24, 32, 40), ORDERS)
    if arguments != ["lengths"]:
        show("OTIS Mock AIME", asyncio.run(otis()), 16, (8, 12, 16), ORDERS // 2)


if __name__ == "__main__":
    main(sys.argv[1:])
