"""Mean, majority, coverage and the least perplexed of 16 attempts, whose turns another model's perplexity judged."""

from __future__ import annotations

import asyncio
import os
import sys
from dataclasses import replace
from pathlib import Path

import numpy as np

from thinkscale.answers.equivalence import default_judge
from thinkscale.bench.library import Question, import_file, load_pool
from thinkscale.bench.pools import read_pool
from thinkscale.selection.best import Best
from thinkscale.selection.majority import Majority
from thinkscale.selection.voting import Voting
from thinkscale.store import Store

DATA = Path(os.environ.get("THINKSCALE_DATA") or Path(__file__).resolve().parents[3] / "shared" / "data")
FILE = DATA / "recorded" / "atts_r1distill_llama8b_math100_n16_turnppl.jsonl.gz"


async def scored(path: Path) -> list[Question]:
    """The pool, every attempt that has one with the perplexity of its turns: the exp of their mean logarithm."""
    store = Store(":memory:")
    [pool] = await import_file(path, store)
    questions = load_pool(store, pool)
    store.close()
    return questions


async def regraded(questions: list[Question], golds: list[str]) -> list[Question]:
    """The same, graded by Math-Verify alone, which compares numbers to six decimals."""
    judge, found = default_judge(), []
    for question, gold in zip(questions, golds, strict=True):
        texts = {t.answer.key: t.answer.text for t in reversed(question.traces) if t.answer}
        verdicts = await judge([(f"${gold}$", f"${said}$") for said in texts.values()])
        found.append(replace(question, credits=dict(zip(texts, map(float, verdicts), strict=True))))
    return found


def split(questions: list[Question], rule: Voting) -> float:
    """Share of questions that a rule gets right, ties split."""
    ballots = [rule.ballots(q.traces) for q in questions]
    worth = [np.array([q.credits.get(key, 0.0) for key in b.keys]) for q, b in zip(questions, ballots, strict=True)]
    return float(np.mean([rule.shares(b) @ w for b, w in zip(ballots, worth, strict=True)]))


def judged(question: Question) -> Question:
    """The same, where only an attempt that was judged may be chosen."""
    return replace(question, traces=tuple(t if t.scores else replace(t, answer=None) for t in question.traces))


def shares(questions: list[Question]) -> dict[str, float]:
    """Shares of right answers."""
    right = np.array([[q.credits.get(t.answer.key, 0.0) if t.answer else 0.0 for t in q.traces] for q in questions])
    least = Best(kind="perplexity")
    return {
        "mean": float(right.mean()),
        "majority@16": split(questions, Majority()),
        "lowest mean log-perplexity, or none": split([judged(q) for q in questions], least),
        "lowest mean log-perplexity, or majority": split(questions, least),
        "pass@16": float(right.max(axis=1).mean()),
    }


async def table(path: Path) -> tuple[dict[str, float], dict[str, float]]:
    """Shares of right answers, graded by Math-Verify alone and graded here."""
    questions = await scored(path)
    golds = [line.gold[0] for line in read_pool(path)]
    return shares(await regraded(questions, golds)), shares(questions)


def main() -> None:
    """Print the table."""
    if not FILE.exists():
        sys.exit(f"the recorded set `{FILE}` is not there: set THINKSCALE_DATA to the folder that holds `recorded/`")
    alone, here = asyncio.run(table(FILE))
    print(f"{'percent right':40} {'Math-Verify':>11} {'here':>7}")
    for name in alone:
        print(f"{name:40} {100 * alone[name]:11.2f} {100 * here[name]:7.2f}")


if __name__ == "__main__":
    main()
