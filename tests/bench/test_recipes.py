"""Recipes: each says what it needs when its data are not there, has a page, and computes on the committed slices."""

import asyncio
import json
import runpy
from pathlib import Path

import numpy as np
import pytest

from thinkscale.bench.pools import read_pool
from thinkscale.bench.stats import Paired
from thinkscale.bench.tasks import load
from thinkscale.engines.replay import recorded_rows

RECIPES = Path(__file__).parents[2] / "recipes"
RECORDED = Path(__file__).parents[1] / "data" / "recorded"
ALL = sorted(RECIPES.glob("*/run.py"))
READERS = [p for p in ALL if "THINKSCALE_DATA" in p.read_text(encoding="utf-8")]


def recipe(name, script="run"):
    return runpy.run_path(str(RECIPES / name / f"{script}.py"))


@pytest.mark.parametrize("path", ALL, ids=lambda p: p.parent.name)
def test_a_recipe_has_a_page_that_names_its_command(path):
    page = (path.parent / "README.md").read_text(encoding="utf-8")
    assert f"python recipes/{path.parent.name}/run.py" in page


@pytest.mark.parametrize("path", READERS, ids=lambda p: p.parent.name)
def test_a_recipe_without_its_data_says_what_to_set(path, tmp_path, monkeypatch):
    monkeypatch.setenv("THINKSCALE_DATA", str(tmp_path))
    with pytest.raises(SystemExit, match="THINKSCALE_DATA"):
        runpy.run_path(str(path), run_name="__main__")


def test_the_toy_recipe_chooses_by_the_recorded_signals():
    path = RECORDED / "smollm2_toy_6x8.jsonl.gz"
    lines = list(read_pool(path))
    highest = {
        "best mean-logprob": lambda s: s.mean_logprob,
        "best self-certainty": lambda s: np.mean(s.token_self_certainty),
    }
    found = recipe("smollm2_toy")["table"](path)
    for name, reading in highest.items():
        chosen = [max((s for s in line.samples if s.answer), key=reading) for line in lines]
        assert found[name][0] == pytest.approx(np.mean([s.correct for s in chosen]))
    assert found["mean"][0] == pytest.approx(np.mean([line.verdicts for line in lines]))
    assert found["pass@8"][0] == pytest.approx(np.mean([any(line.verdicts) for line in lines]))


async def test_the_recipe_of_a_process_reward_model_grades_the_sources_choices_and_ours(tmp_path):
    rows = [row for _, row in recorded_rows(RECORDED / "llama32_3b_beam_2x4.jsonl.gz")]
    for row in rows:
        best = max(row["samples"], key=lambda s: s["step_scores"][-1])
        row["source_pred"] = {f"pred_{kind}@4": best["text"] for kind in ("naive", "weighted", "maj")}
    path = tmp_path / "pool.jsonl"
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    found = await recipe("specs_llama32_3b")["table"](path, 4)
    assert found["the source"]["naive"] == found["here, first seen"]["naive"]
    assert all(0 <= right <= 2 for row in found.values() for right in row.values())


def test_an_answer_that_is_not_pointed_out_can_be_taken_for_none():
    tools = recipe("specs_llama32_3b")
    questions = asyncio.run(tools["imported"](RECORDED / "llama32_3b_beam_2x4.jsonl.gz"))
    strict = [tools["pointed"](q) for q in questions]
    kept = [t.answer for q in strict for t in q.traces]
    assert all(answer is None or "boxed" in t.text for q in strict for answer, t in zip(kept, q.traces, strict=False))


async def test_the_least_perplexed_attempt_is_found_by_its_judged_turns(tmp_path):
    pytest.importorskip("math_verify")
    path = tmp_path / "pool.jsonl"
    turns = {"1": [1.5, 1.1], "2": [1.2, 1.2], "3": []}
    samples = [
        {"answer": answer, "turns": [{"output": "…"}, *({"ppl": p} for p in judged)]}
        for answer, judged in turns.items()
    ]
    path.write_text(json.dumps({"question_id": "q", "question": "?", "gold": "2", "samples": samples}))
    alone, here = await recipe("atts_r1distill_llama8b")["table"](path)
    assert here["lowest mean log-perplexity, or none"] == here["pass@16"] == 1
    assert here["majority@16"] == here["mean"] == pytest.approx(1 / 3)
    assert alone == pytest.approx(here)


def test_the_slice_of_a_release_gives_its_published_counts_where_it_says_so(capsys):
    recipe("best_of_infinity")["main"]([])
    rows = capsys.readouterr().out.splitlines()[1:]
    assert len(rows) == 14
    assert [row.split("  ")[0] for row in rows if not row.endswith("same")] == ["SC@80"]
    assert "not exact" in next(row for row in rows if row.startswith("SC@80"))


def test_a_file_of_the_release_is_compared_in_full(tmp_path, capsys):
    path = tmp_path / "file.jsonl"
    path.write_text(json.dumps({"problem_num": 1, "gold_answer": "7", "all_answers": [["7", 10]] * 100}))
    recipe("best_of_infinity")["main"]([str(path)])
    [fixed] = [row for row in capsys.readouterr().out.splitlines() if row.startswith("SC@5")]
    assert fixed.split()[1:4] == ["1", "5", "50"]
    with pytest.raises(SystemExit, match="there is no"):
        recipe("best_of_infinity")["main"]([str(tmp_path / "none.jsonl")])


def test_the_word_problems_are_a_task_with_worked_examples_and_the_same_every_time(tmp_path):
    rows = list(recipe("ahead_by_4_vs_fixed", "problems")["problems"]())
    assert rows == list(recipe("ahead_by_4_vs_fixed", "problems")["problems"]())
    assert len({row["question"] for row in rows}) == 100
    (tmp_path / "words.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    items = load(str(tmp_path / "words.jsonl"))
    assert [m.role for m in items[0].problem.messages] == ["user", "assistant"] * 4 + ["user"]
    assert items[0].problem.question == rows[0]["question"]
    assert all(0 <= int(row["gold"]) <= 81 for row in rows)


def test_what_a_stop_rule_saves_is_paired_by_question():
    report = {
        "results": {
            "all": [{"needed": 100, "credit": 1.0}, {"needed": 80, "credit": 0.0}],
            "early": [{"needed": 40, "credit": 1.0}, {"needed": 60, "credit": 0.0}],
        }
    }
    found = recipe("ahead_by_4_vs_fixed")["against_all"](report)
    assert isinstance(found["needed"], Paired)
    assert (found["needed"].difference, found["credit"].difference) == (-40, 0)
    with pytest.raises(SystemExit, match=r"README\.md"):
        recipe("ahead_by_4_vs_fixed")["main"]([])


def test_rules_are_compared_with_all_attempts_and_chosen_on_other_models():
    tools = recipe("stop_rules")
    some = [q for q in tools["lengths"]() if q.id in ("aime2025/0", "aime2025/23")]
    assert [(q.model, len(q.attempts.tokens)) for q in some[::2]] == [("Phi-4-reasoning", 160), ("Qwen3-14B", 80)]
    lines = tools["table"](some, 40, (16, 40), orders=3)
    [full] = [x for x in lines if (x.rule, x.n) == ("fixed", 40)]
    assert (full.needed, full.time, full.lost.difference) == (1, 1, 0)
    early = {x.pace.value: x for x in lines if (x.rule, x.n) == ("ahead-by-4", 40)}
    assert early["thrift"].needed < early["steady"].needed < early["swift"].needed < 1
    assert early["thrift"].time > early["steady"].time > early["swift"].time
    assert tools["cheapest"](lines, ["Qwen3-14B"]).needed < 0.4
    assert "`ahead-by-4` | 40 | thrift |" in tools["told"](early["thrift"])
