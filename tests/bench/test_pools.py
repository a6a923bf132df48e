"""Recorded pools: what a file says is read, what it does not say stays unsaid."""

import json
from pathlib import Path

import numpy as np
import pytest

from thinkscale.bench.majority import majority_at_k, votes_of
from thinkscale.bench.metrics import pass_at_k
from thinkscale.bench.pools import by_source, read_pool
from thinkscale.errors import BenchError, ModelError

RECORDED = Path(__file__).parents[1] / "data" / "recorded"


def written(tmp_path, *rows):
    path = tmp_path / "pool.jsonl"
    path.write_text("\n".join(json.dumps(row) for row in rows), encoding="utf-8")
    return path


def test_a_recorded_set_gives_its_estimates():
    lines = list(read_pool(RECORDED / "smollm2_toy_6x8.jsonl.gz"))
    assert [len(line.samples) for line in lines] == [8] * 6
    verdicts = np.array([line.verdicts for line in lines])
    assert pass_at_k(verdicts.sum(axis=1), 8, 1).mean() == pytest.approx(verdicts.mean())
    for line in lines:
        graded = {a for a, right in zip(line.answers, line.verdicts, strict=True) if right}
        assert graded <= {line.gold[0]}
        assert 0 <= majority_at_k(votes_of(line.answers, line.verdicts), 8) <= 1
    sample = lines[0].samples[0]
    assert sample.tokens == len(sample.token_logprobs) == len(sample.token_self_certainty)
    assert sample.mean_logprob == pytest.approx(np.mean(sample.token_logprobs), abs=1e-4)
    assert "token_ids" in sample.rest or "finish_reason" in sample.rest


def test_step_scores_are_kept_and_missing_verdicts_are_missed():
    line = next(read_pool(RECORDED / "llama32_3b_beam_2x4.jsonl.gz"))
    assert all(s.step_scores and s.tokens is None and s.correct is None for s in line.samples)
    with pytest.raises(BenchError, match="grade its answers first"):
        _ = line.verdicts


def test_what_is_not_said_stays_unsaid_and_no_answer_is_none(tmp_path):
    row = {
        "question": "2 + 2?",
        "gold": ["4", "four"],
        "source_pred": 1,
        "samples": [{"answer": " 4 ", "correct": True}, {"answer": "None"}, {"answer": "invalid"}, {"answer": ""}],
    }
    (line,) = read_pool(written(tmp_path, row))
    assert line.answers == ("4", None, None, None)
    assert (line.gold, line.rest, line.source) == (("4", "four"), {"source_pred": 1}, ("", "", ""))
    assert (line.samples[0].text, line.samples[0].tokens, line.samples[0].reward) == (None, None, None)


def test_turns_are_one_text(tmp_path):
    row = {"prompt": "q", "samples": [{"turns": [{"output": "a "}, {"output": None}, {"output": "b"}]}]}
    (line,) = read_pool(written(tmp_path, row))
    assert (line.question, line.gold, line.samples[0].text) == ("q", (), "a b")


def test_sources_are_kept_apart(tmp_path):
    rows = [{"question": q, "model": m, "run": r, "samples": []} for q in "xy" for m, r in ("a1", "b1", "b2")]
    found = by_source(read_pool(written(tmp_path, *rows)))
    assert {s: [line.question for line in lines] for s, lines in found.items()} == {
        ("a", "", "1"): ["x", "y"],
        ("b", "", "1"): ["x", "y"],
        ("b", "", "2"): ["x", "y"],
    }


def test_one_question_on_two_lines_of_a_source_is_refused(tmp_path):
    row = {"question_id": "q1", "question": "x", "samples": []}
    with pytest.raises(BenchError, match="`q1` was recorded twice"):
        by_source(read_pool(written(tmp_path, row, row)))
    assert len(by_source(read_pool(written(tmp_path, row, {**row, "run": "2"}, {**row, "question_id": "q2"})))) == 2


@pytest.mark.parametrize(
    "row",
    [
        {"samples": []},
        {"question": "q"},
        {"question": "q", "samples": [{"correct": "yes"}]},
        {"question": "q", "samples": [{"n_tokens": "x"}]},
    ],
)
def test_a_line_that_is_not_as_expected_is_named(tmp_path, row):
    with pytest.raises(BenchError, match="line 1 of the pool"):
        list(read_pool(written(tmp_path, row)))


def test_a_file_that_is_not_there_is_named(tmp_path):
    with pytest.raises(ModelError, match=r"gone\.jsonl"):
        list(read_pool(tmp_path / "gone.jsonl"))
