"""Votes and best-of-32 by what a small model's own probabilities say, on 48 word problems with recorded signals."""

from __future__ import annotations

import asyncio
import os
import sys
from dataclasses import replace
from pathlib import Path

import numpy as np

from thinkscale.bench.library import Question, import_file, load_pool
from thinkscale.bench.metrics import pass_at_k
from thinkscale.bench.pools import PoolLine, read_pool
from thinkscale.bench.stats import mean_se
from thinkscale.budget import Budget, Ledger
from thinkscale.confidence import trace_confidence
from thinkscale.engines.replay import Replay
from thinkscale.scorers.mean_logprob import MeanLogprob
from thinkscale.scorers.self_certainty import SelfCertainty
from thinkscale.selection.best import Best
from thinkscale.selection.majority import Majority
from thinkscale.selection.voting import Voting
from thinkscale.selection.weighted_vote import WeightedVote
from thinkscale.session import Place, Run, Session
from thinkscale.store import Store
from thinkscale.types import Problem, Score, Trace

DATA = Path(os.environ.get("THINKSCALE_DATA") or Path(__file__).resolve().parents[3] / "shared" / "data")
FILE = DATA / "recorded" / "smollm2_toy_n32_logprobs.jsonl.gz"
WINDOW = 2048
"""Tokens of a group of DeepConf: every text here is one group."""
RULES: dict[str, Voting] = {
    "majority": Majority(),
    "best mean-logprob": Best(kind="mean-logprob"),
    "vote weighted by exp(mean-logprob)": WeightedVote(kind="mean-logprob", transform="exp"),
    "best self-certainty": Best(kind="self-certainty"),
    "best mean top-20 confidence": Best(kind="group-confidence"),
}


async def scored(path: Path) -> list[Question]:
    """The pool, every attempt with three scores: two by scorers, one from the recorded confidence of each token."""
    store = Store(":memory:")
    [pool] = await import_file(path, store)
    session = Session(Place(engine=Replay(path), ledger=Ledger(Budget()), run=Run()))
    questions = []
    for question, line in zip(load_pool(store, pool), read_pool(path), strict=True):
        traces, problem = question.traces, Problem.of(line.question)
        for scorer in (MeanLogprob(), SelfCertainty()):
            scores = await scorer.score(problem, traces, session)
            traces = tuple(trace.scored(score) for trace, score in zip(traces, scores, strict=True))
        traces = tuple(_confident(t, line, i) for i, t in enumerate(traces))
        questions.append(replace(question, traces=traces))
    store.close()
    return questions


def _confident(trace: Trace, line: PoolLine, number: int) -> Trace:
    tokens = line.samples[number].rest.get("token_neg_mean_top20_logprob")
    if not isinstance(tokens, list):
        return trace
    return trace.scored(Score(value=trace_confidence(tokens, WINDOW, "mean"), kind="group-confidence"))


def first_seen(questions: list[Question], rule: Voting) -> float:
    """Share of questions that a rule gets right as it decides live: ties to the answer seen first."""
    chosen = [(q, rule(q.traces).best) for q in questions]
    return float(np.mean([q.credits.get(b.answer.key, 0.0) if b and b.answer else 0.0 for q, b in chosen]))


def split(questions: list[Question], rule: Voting) -> float:
    """The same, ties split."""
    ballots = [rule.ballots(q.traces) for q in questions]
    worth = [np.array([q.credits.get(key, 0.0) for key in b.keys]) for q, b in zip(questions, ballots, strict=True)]
    return float(np.mean([rule.shares(b) @ w for b, w in zip(ballots, worth, strict=True)]))


def table(path: Path) -> dict[str, tuple[float, float]]:
    """Shares of right answers by rule, ties to the answer seen first and ties split."""
    verdicts = np.array([line.verdicts for line in read_pool(path)])
    correct, n = verdicts.sum(axis=1), verdicts.shape[1]
    mean, solved = mean_se(verdicts).mean, mean_se(pass_at_k(correct, n, n)).mean
    questions = asyncio.run(scored(path))
    found = {name: (first_seen(questions, rule), split(questions, rule)) for name, rule in RULES.items()}
    return {"mean": (mean, mean), **found, f"pass@{n}": (solved, solved)}


def main() -> None:
    """Print the table."""
    if not FILE.exists():
        sys.exit(f"the recorded set `{FILE}` is not there: set THINKSCALE_DATA to the folder that holds `recorded/`")
    print(f"{'percent right':36} {'first seen':>10} {'ties split':>10}")
    for name, (first, shared) in table(FILE).items():
        print(f"{name:36} {100 * first:10.2f} {100 * shared:10.2f}")


if __name__ == "__main__":
    main()
