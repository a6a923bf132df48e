"""Best, weighted and majority choices of 16 or 256 attempts that a process reward model scored step by step."""

from __future__ import annotations

import asyncio
import os
import sys
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path

from thinkscale.answers import same
from thinkscale.answers.extract import marked
from thinkscale.bench.library import Question, Reading, import_file, load_pool
from thinkscale.bench.offline import select
from thinkscale.bench.pools import read_pool
from thinkscale.selection.ballots import Invalid
from thinkscale.selection.best import Best
from thinkscale.selection.majority import Majority
from thinkscale.selection.voting import Voting
from thinkscale.selection.weighted_vote import WeightedVote
from thinkscale.store import Store

DATA = Path(os.environ.get("THINKSCALE_DATA") or Path(__file__).resolve().parents[3] / "shared" / "data")
FILES = {
    f"{name}, n={n}": (DATA / "recorded" / f"specs_llama32_3b_{file}_prm.jsonl.gz", n)
    for name, file, n in (
        ("best-of-n", "math100_bon_n16", 16),
        ("beam search", "math100_beam_n16", 16),
        ("best-of-n", "math10_bon_n256", 256),
    )
}
KINDS = ("naive", "weighted", "maj")
"""What the source calls the three choices."""


async def theirs(path: Path, n: int) -> dict[str, int]:
    """How many of the source's own choices are right, by meaning."""
    lines = list(read_pool(path))
    return {k: sum([await same(line.gold[0], predicted(line.rest, f"pred_{k}@{n}")) for line in lines]) for k in KINDS}


def predicted(rest: Mapping[str, object], name: str) -> str:
    """What the source chose."""
    chosen = rest["source_pred"]
    return str(chosen[name]) if isinstance(chosen, Mapping) else ""


async def imported(path: Path) -> list[Question]:
    """The attempts with the answers that are read from their texts here."""
    store = Store(":memory:")
    [pool] = await import_file(path, store, reading=Reading.text)
    questions = load_pool(store, pool)
    store.close()
    return questions


def pointed(question: Question) -> Question:
    """The same, with an answer only where a text points at one by a box or in words."""
    traces = (t if marked(t.text) else replace(t, answer=None) for t in question.traces)
    return replace(question, traces=tuple(traces))


def rules(invalid: Invalid = Invalid.ignore) -> tuple[Voting, ...]:
    """Ours, in the order of `KINDS`."""
    return (
        Best(kind="process-reward", invalid=invalid),
        WeightedVote(kind="process-reward", invalid=invalid),
        Majority(invalid=invalid),
    )


def ours(questions: list[Question], invalid: Invalid) -> dict[str, float]:
    """How many choices of our rules are right, as they choose live: ties go to the answer seen first."""
    return {kind: sum(_worth(q, rule) for q in questions) for kind, rule in zip(KINDS, rules(invalid), strict=True)}


def _worth(question: Question, rule: Voting) -> float:
    best = rule(question.traces).best
    return question.credits.get(best.answer.key, 0.0) if best and best.answer else 0.0


def split(questions: list[Question], n: int) -> dict[str, float]:
    """The same, ties split."""
    found = select(questions, rules(), [n], resamples=1)
    return {kind: len(questions) * curve.accuracy[0] for kind, curve in zip(KINDS, found, strict=True)}


async def table(path: Path, n: int) -> dict[str, dict[str, float]]:
    """Right answers by who chose, and how."""
    questions = await imported(path)
    strict = [pointed(q) for q in questions]
    return {
        "the source": {**await theirs(path, n)},
        "here, first seen": ours(questions, Invalid.ignore),
        "here, ties split": split(questions, n),
        "here, pointed out, invalid=ignore": ours(strict, Invalid.ignore),
        "here, pointed out, invalid=vote": ours(strict, Invalid.vote),
    }


def main() -> None:
    """Print the table."""
    if missing := [path for path, _ in FILES.values() if not path.exists()]:
        sys.exit(f"the recorded set `{missing[0]}` is not there: set THINKSCALE_DATA to the folder of `recorded/`")
    print(f"{'set':18} {'chosen by':34} {'naive':>6} {'weighted':>9} {'maj':>6}")
    for name, (path, n) in FILES.items():
        for who, right in asyncio.run(table(path, n)).items():
            print(f"{name:18} {who:34} {right['naive']:6.1f} {right['weighted']:9.1f} {right['maj']:6.1f}")


if __name__ == "__main__":
    main()
