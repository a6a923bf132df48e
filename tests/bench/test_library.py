"""Recorded attempts become pools and are read as what they are, with the source's verdicts beside ours; all or none."""

import json
import tracemalloc

import pytest

from thinkscale.bench.library import Reading, import_file, load_pool
from thinkscale.errors import BenchError, StoreError
from thinkscale.store import Store
from thinkscale.types import AnswerKind


def written(folder, *rows):
    path = folder / "pool.jsonl"
    path.write_text("\n".join(map(json.dumps, rows)), encoding="utf-8")
    return path


@pytest.fixture
def store():
    kept = Store(":memory:")
    yield kept
    kept.close()


async def told(path, store, **how):
    """What an import says of its only source."""
    found = []
    await import_file(path, store, heard=found.append, **how)
    assert len({id(one) for one in found}) == 1
    return found[-1]


def right(question):
    """Which attempts are right."""
    return [question.credits.get(t.answer.key, 0.0) if t.answer else None for t in question.traces]


async def test_multiple_choice_is_read_as_letters_from_its_options(tmp_path, store):
    said = ["The answer is (B).", "So it must be 17, that is the answer: B", "The answer is (A).", r"\boxed{B}"]
    row = {"question": "9 + 8 = ?", "options": ["16", "17", "18"], "gold": "B", "samples": [{"text": t} for t in said]}
    await import_file(written(tmp_path, row), store)
    [question] = load_pool(store, "pool")
    assert right(question) == [1, 1, 0, 1]
    assert question.traces[0].prompt[0].content == "9 + 8 = ?\n(A) 16\n(B) 17\n(C) 18"


@pytest.mark.parametrize("gold", ["B", "17", 1])
async def test_the_right_option_may_be_named_by_letter_words_or_number(tmp_path, store, gold):
    row = {"question": "9 + 8 = ?", "options": ["16", "17", "18"], "gold": gold}
    samples = [{"answer": "B"}, {"answer": "C"}, {"answer": "17"}]
    await import_file(written(tmp_path, {**row, "samples": samples}), store)
    [question] = load_pool(store, "pool")
    assert right(question) == [1, 0, 1]


async def test_a_question_of_parts_with_a_number_for_an_answer_is_no_multiple_choice(tmp_path, store):
    question = "(A) One pipe fills 3. (B) The other fills 4. How much do both fill?"
    row = {"question": question, "gold": "7", "samples": [{"text": "The answer is 7."}, {"text": "The answer is 8."}]}
    found = await told(written(tmp_path, row), store)
    assert found.kinds == {"math": 1}
    [question] = load_pool(store, "pool")
    assert right(question) == [1, 0]


async def test_the_kind_is_what_the_caller_says_then_what_the_line_says(tmp_path, store):
    row = {"question": "?", "gold": "B", "answer_kind": "text", "samples": [{"answer": "B"}]}
    path = written(tmp_path, row)
    assert (await told(path, store)).kinds == {"text": 1}
    assert (await told(path, store, kind=AnswerKind.choice)).kinds == {"choice": 1}


async def test_the_sources_verdict_is_kept_beside_ours_and_differences_are_counted(tmp_path, store):
    samples = [
        {"answer": "2", "correct": True},
        {"answer": "2.0", "correct": False},
        {"answer": "3", "correct": True},
        {"answer": None, "correct": False},
        {"answer": "2"},
    ]
    path = written(tmp_path, {"question_id": "q", "question": "1 + 1?", "gold": "2", "samples": samples})
    found = await told(path, store)
    assert (found.compared, found.theirs_alone, found.ours_alone, found.disputed) == (4, 1, 1, ["q"])
    [entry] = store.named_pool("pool")
    assert entry.credits == {"2": 0.5, "3": 1.0}
    [run] = store.runs(entry.run)
    assert run.summary["verdicts"] == {
        "source": [True, False, True, False, None],
        "ours": [True, True, False, False, True],
    }
    await import_file(path, store, name="ours", reading=Reading.text)
    assert store.named_pool("ours")[0].credits == {}


async def test_attempts_of_which_only_verdicts_are_known_are_right_or_wrong(tmp_path, store):
    found = await told(written(tmp_path, {"question_id": "q", "n": 4, "correct": 3, "gold": "7"}), store)
    assert (found.verdicts_only, found.answered, found.compared) == (True, 4, 0)
    [question] = load_pool(store, "pool")
    assert sorted(right(question)) == [0, 1, 1, 1]


async def test_rewards_that_are_verdicts_judge_and_are_no_scores(tmp_path, store):
    samples = [{"answer": "5", "reward": 1}, {"answer": "6", "reward": 0}]
    found = await told(written(tmp_path, {"question": "?", "samples": samples}), store)
    assert found.scores == []
    [question] = load_pool(store, "pool")
    assert right(question) == [1, 0]


async def test_scores_keep_their_names_and_the_reward_is_the_latest(tmp_path, store):
    sample = {
        "answer": "5",
        "reward": 2.5,
        "mean_logprob": -0.5,
        "scores": {"skywork": 0.7, "shepherd": [0.1, 0.9]},
        "perplexities": [2, 8],
        "step_scores": [0.3, 0.4],
    }
    await import_file(written(tmp_path, {"question": "?", "gold": "5", "samples": [sample]}), store)
    [question] = load_pool(store, "pool")
    found = {score.kind: score for score in question.traces[0].scores}
    assert [*found] == ["perplexity", "mean-logprob", "skywork", "shepherd", "process-reward", "outcome-reward"]
    assert found["perplexity"].value == pytest.approx(-4)
    assert (found["shepherd"].value, found["shepherd"].steps) == (0.9, (0.1, 0.9))


async def test_settings_are_pools_of_their_own(tmp_path, store):
    rows = [
        {"question": "?", "gold": "1", "t": t, "model": "m", "samples": [{"answer": a}]} for t, a in ((0.5, 1), (1, 2))
    ]
    names = await import_file(written(tmp_path, *rows), store, by=["t"])
    assert names == ["pool/m/t=0.5", "pool/m/t=1"]
    assert [right(load_pool(store, name)[0]) for name in names] == [[1], [0]]


async def test_an_import_that_fails_or_is_stopped_changes_no_pool(tmp_path, store):
    rows = [{"question_id": i, "gold": str(i), "samples": [{"answer": str(i)}]} for i in range(3)]
    path = written(tmp_path, *rows)
    await import_file(path, store)
    before = load_pool(store, "pool")

    def stop(told):
        if told.questions == 2:
            raise KeyboardInterrupt

    written(tmp_path, *({**row, "samples": [{"answer": "9"}]} for row in rows))
    with pytest.raises(KeyboardInterrupt):
        await import_file(path, store, heard=stop)
    written(tmp_path, *rows, {"question_id": "new", "samples": [{"answer": "9"}]})
    with pytest.raises(BenchError, match="question `new` has neither a reference answer nor verdicts"):
        await import_file(path, store)
    written(tmp_path, *rows, {"question_id": "new", "gold": "1", "samples": []})
    with pytest.raises(BenchError, match="question `new` has no attempts"):
        await import_file(path, store)
    assert load_pool(store, "pool") == before
    written(tmp_path, *rows[:2])
    await import_file(path, store)
    assert load_pool(store, "pool") == before[:2]


async def test_a_store_that_cannot_be_written_is_an_error(tmp_path):
    path = written(tmp_path, {"question": "?", "gold": "1", "samples": [{"answer": "1"}]})
    (tmp_path / "file").write_text("")
    store = Store(tmp_path / "file" / "runs.db")
    with pytest.raises(StoreError, match="cannot be written"):
        await import_file(path, store)
    store.close()


async def test_memory_does_not_grow_with_the_file(tmp_path, store):
    def rows(count):
        return (
            {
                "question_id": f"q{i}",
                "gold": "7",
                "samples": [{"text": f"{'x' * 4000} The answer is {j}."} for j in range(8)],
            }
            for i in range(count)
        )

    peaks = []
    for count in (5, 500):
        path = written(tmp_path, *rows(count))
        disk = Store(tmp_path / f"{count}.db")
        tracemalloc.start()
        await import_file(path, disk)
        peaks.append(tracemalloc.get_traced_memory()[1])
        tracemalloc.stop()
        disk.close()
    assert peaks[1] - peaks[0] < 500 * 8 * 4000 / 4


async def test_what_says_that_there_is_no_answer_casts_no_vote(tmp_path, store):
    samples = [{"answer": said} for said in ("1", "N/A", "unknown", "No answer!", "", None, "invalid")]
    found = await told(written(tmp_path, {"question": "?", "gold": "1", "samples": samples}), store)
    assert (found.attempts, found.answered) == (7, 1)


@pytest.mark.parametrize(
    ("question", "gold", "said", "rights"),
    [
        ("Is 17 prime?", "yes", ["Yes, 17 is prime.", "No, 17 is not prime.", "The answer is yes."], [1, 0, 1]),
        ("Is the moon a star?", False, ["No.", "Yes, it is."], [1, 0]),
        (
            "What is the capital of France?",
            "Paris",
            ["The capital of France is Paris.", "Paris", "It is Lyon."],
            [1, 1, 0],
        ),
        ("Which?\nA. Pricing\nB. Skimming", "B", ["So it must be B.", "**A** is correct, unlike (B)."], [1, 0]),
        ("How many sides has a hexagon?", 6, ["A hexagon has six sides.", "It has 6.", "It has 5."], [1, 1, 0]),
    ],
)
async def test_texts_are_read_as_what_the_question_asks_for(tmp_path, store, question, gold, said, rights):
    path = written(tmp_path, {"question": question, "gold": gold, "samples": [{"text": text} for text in said]})
    await import_file(path, store)
    assert right(load_pool(store, "pool")[0]) == rights


async def test_a_question_of_which_only_texts_are_known_is_read_beside_one_whose_answers_are(tmp_path, store):
    rows = [
        {
            "question_id": "a",
            "gold": "1",
            "samples": [{"text": "so 1", "answer": "1"}, {"text": "1?", "answer": "invalid"}],
        },
        {"question_id": "b", "gold": "2", "samples": [{"text": "The answer is 2."}]},
    ]
    await import_file(written(tmp_path, *rows), store)
    assert [right(question) for question in load_pool(store, "pool")] == [[1, None], [1]]
