"""Stop rules on recorded samples, and the counts of a published recording."""

import json
from collections import Counter
from pathlib import Path

import numpy as np
import pytest

from thinkscale.bench.stopping import RULES, Recorded, canonical, comparison, recorded, spent
from thinkscale.errors import BenchError
from thinkscale.stopping.ahead_by_k import AheadByK
from thinkscale.stopping.fixed import Fixed
from thinkscale.types import Answer, Trace

AIME25 = Path(__file__).parents[1] / "data" / "recorded" / "boinf_aime25_30x40.jsonl"
PUBLISHED = {
    "SC@1": (21, 30),
    "SC@5": (25, 150),
    "SC@16": (27, 480),
    "SC@40": (27, 1200),
    "ahead-by-2": (26, 109),
    "ahead-by-3": (27, 254),
    "ahead-by-4": (27, 308),
    "AC .95": (27, 380),
    "ESC w=5": (27, 580),
    "BF code, B=10": (28, 181),
    "BF code, B=100": (27, 517),
    "BF paper, B=10": (26, 114),
    "BF paper, B=100": (27, 479),
}
"""Correct answers and samples drawn in the order of the file, of 30 questions."""


def slowly(rule, row):
    pool = [Trace(prompt=(), answer=None if c < 0 else Answer(str(c), str(c))) for c in row]
    return next((n for n in range(1, len(pool) + 1) if rule(pool[:n])), len(pool))


def pools(count, size, seed):
    source = np.random.default_rng(seed)
    for _ in range(count):
        answers = source.choice(["1", "2", "3", "4", None], size, p=[0.5, 0.2, 0.1, 0.1, 0.1])
        tokens = source.integers(1, 500, size)
        yield Recorded(answers=tuple(answers), tokens=tuple(map(int, tokens)), gold=str(source.integers(1, 3)))


def plainly(rule, cap, questions):
    """Correct, samples and tokens, one trace at a time."""
    correct = samples = tokens = 0
    for question in questions:
        names = question.answers[:cap]
        n = slowly(rule, [-1 if a is None else int(a) for a in names])
        votes = Counter(a for a in names[:n] if a is not None).most_common(1)
        correct += bool(votes) and votes[0][0] == question.gold
        samples, tokens = samples + n, tokens + sum(question.tokens[:n])
    return correct, samples, tokens


def test_the_comparison_of_a_file_is_what_one_trace_at_a_time_gives(tmp_path):
    questions = list(pools(12, 110, seed=1))
    lines = [
        json.dumps({"gold_answer": f" {q.gold}", "all_answers": [*zip(q.answers, q.tokens, strict=True)]})
        for q in questions
    ]
    (tmp_path / "file.jsonl").write_text("\n".join(lines))
    assert recorded(tmp_path / "file.jsonl") == questions
    for name, found in comparison(recorded(tmp_path / "file.jsonl")).items():
        rule, cap = RULES[name]
        assert (found.first_seen, found.samples, found.tokens) == plainly(rule, cap, questions)
        assert found.samples <= cap * len(questions)


def test_random_orders_are_averaged_and_repeat():
    questions = list(pools(3, 12, seed=2))
    some = spent(AheadByK(k=2), 8, questions, orders=50, seed=1)
    assert some == spent(AheadByK(k=2), 8, questions, orders=50, seed=1)
    assert some != spent(AheadByK(k=2), 8, questions, orders=50, seed=2)
    all_drawn = spent(Fixed(), 12, questions, orders=20)
    assert (all_drawn.samples, all_drawn.tokens) == (36, pytest.approx(sum(sum(q.tokens) for q in questions)))


def test_a_published_recording_gives_its_published_counts():
    rows = [json.loads(line) for line in AIME25.read_text().splitlines()]
    questions = [
        Recorded(
            answers=tuple(canonical(a) for a in row["answers"]),
            tokens=(0,) * len(row["answers"]),
            gold=row["gold_answer"],
        )
        for row in rows
    ]
    found = comparison(questions)
    assert {name: (found[name].first_seen, found[name].samples) for name in PUBLISHED} == PUBLISHED


def test_tied_answers_share_the_credit_unless_the_first_one_is_asked_for():
    tied = [Recorded(answers=("1", "2"), tokens=(5, 7), gold="2"), Recorded(answers=(None,), tokens=(1,), gold="")]
    found = spent(Fixed(), 2, tied)
    assert (found.correct, found.first_seen, found.samples, found.tokens, found.depth) == (0.5, 0, 3, 13, 13)


def test_spellings_of_one_answer_are_one_answer():
    assert canonical(r" \dfrac{1}{2} ") == r"\frac{1}{2}"
    assert canonical("30°") == canonical(r"30^\circ") == canonical(r"30^{\circ}") == "30"
    assert canonical("  ") is None


def test_a_file_of_something_else_is_refused_by_its_line(tmp_path):
    (tmp_path / "file.jsonl").write_text('{"gold_answer": "1", "all_answers": [["1", 2]]}\n{"gold_answer": "1"}')
    with pytest.raises(BenchError, match="line 2"):
        recorded(tmp_path / "file.jsonl")
