"""Every shape in which people keep recorded attempts is read as what it is, or refused by line and field."""

import gzip
import json
import math
from contextlib import suppress

import pytest
from hypothesis import given
from hypothesis import strategies as st

from thinkscale.bench.pools import PoolFile, read_pool
from thinkscale.errors import BenchError, ModelError, ThinkscaleError
from thinkscale.types import AnswerKind


def written(folder, *rows):
    path = folder / "pool.jsonl"
    path.write_text("\n".join(row if isinstance(row, str) else json.dumps(row) for row in rows), encoding="utf-8")
    return path


def read(folder, *rows, by=()):
    return list(read_pool(written(folder, *rows), by))


def test_a_question_without_words_goes_by_its_name(tmp_path):
    (line,) = read(tmp_path, {"question_id": "q7", "gold": 4, "samples": [{"answer": 4}]})
    assert (line.question_id, line.question, line.gold, line.answers) == ("q7", "q7", ("4",), ("4",))


def test_counts_are_so_many_verdicts(tmp_path):
    rows = [
        {"question_id": "a", "n": 5, "correct": 2},
        {"question_id": "b", "num_samples": 3, "num_correct": 0},
        {"question_id": "c", "samples": 2, "correct": 2},
    ]
    assert [sum(line.verdicts) for line in read(tmp_path, *rows)] == [2, 0, 2]
    assert [len(line.samples) for line in read(tmp_path, *rows)] == [5, 3, 2]


def test_one_attempt_per_line_is_grouped_by_question_wherever_it_stands(tmp_path):
    rows = [
        {"question": q, "gold": "1", "response": f"{q} {i}", "is_correct": i % 2, "seed": i}
        for i in range(3)
        for q in ("x", "y")
    ]
    lines = read(tmp_path, *rows)
    assert [line.question for line in lines] == ["x", "y"]
    assert [s.text for s in lines[1].samples] == ["y 0", "y 1", "y 2"]
    assert lines[0].verdicts == (False, True, False)
    assert [s.rest for s in lines[0].samples] == [{"seed": i} for i in range(3)]


def test_attempts_at_one_question_with_different_references_are_refused(tmp_path):
    rows = [{"question_id": "q", "gold": gold, "answer": "1"} for gold in ("1", "2")]
    with pytest.raises(BenchError, match=r"attempts at question `q` have different references"):
        read(tmp_path, *rows)


def test_one_question_at_several_settings_is_several_sources(tmp_path):
    rows = [
        {"question_id": q, "temperature": t, "gold": "1", "samples": [{"answer": "1"}]} for t in (0.2, 1) for q in "ab"
    ]
    with pytest.raises(
        BenchError, match=r"`a` was recorded twice by one source, on lines 1 and 3 .* `--by temperature`"
    ):
        read(tmp_path, *rows)
    lines = read(tmp_path, *rows, by=("temperature",))
    assert [line.run for line in lines] == ["temperature=0.2"] * 2 + ["temperature=1"] * 2
    samples = [{"answer": "1", "effort": e} for e in ("low", "high", "low")]
    low, high = read(tmp_path, {"question_id": "a", "gold": "1", "samples": samples}, by=("effort",))
    assert (low.run, len(low.samples), high.run) == ("effort=low", 2, "effort=high")
    with pytest.raises(BenchError, match=r"line 1 of the pool .*: `effort` is missing"):
        read(tmp_path, rows[0], by=("effort",))


def test_a_list_for_each_property_is_read_as_attempts(tmp_path):
    row = {"question": "?", "gold": "2", "texts": ["so 2", "so 3"], "answers": ["2", "3"], "is_corrects": [True, False]}
    (line,) = read(tmp_path, row)
    assert [(s.text, s.answer, s.correct) for s in line.samples] == [("so 2", "2", True), ("so 3", "3", False)]
    with pytest.raises(BenchError, match=r"`answers` has 1 entries where `texts` has 2"):
        read(tmp_path, {**row, "answers": ["2"]})
    (line,) = read(tmp_path, {"question": "?", "answer": "2", "samples": ["so 2", "so 3"]})
    assert (line.gold, [s.text for s in line.samples]) == (("2",), ["so 2", "so 3"])


@pytest.mark.parametrize(
    ("rewards", "judge"),
    [([1, 0, 1.0], True), ([True, False], True), ([1, -1], True), ([0.5, 1], False), ([1, 0, -1], False)],
)
def test_rewards_of_two_values_are_verdicts(tmp_path, rewards, judge):
    path = written(tmp_path, {"question": "?", "gold": "2", "samples": [{"answer": "2", "reward": r} for r in rewards]})
    with PoolFile(path) as file:
        [source] = file.sources.values()
        [line] = file
    assert (source.rewards_judge or line.samples[0].correct is not None) == judge


def test_several_scores_perplexities_and_likely_tokens_are_kept_by_name(tmp_path):
    sample = {
        "turns": [{"output": "a", "ppl": 1.5}, {"output": "b"}, {"output": "c", "ppl": 2}],
        "scores": {"skywork": 0.5, "math-shepherd": [0.1, 0.9], "absent": None},
        "token_logprobs": [-0.1, -0.2],
        "top_logprobs": [{"a": -0.1, "b": -3}, [["c", -0.2], [17, -2.5]]],
        "n_tokens": 2,
    }
    (line,) = read(tmp_path, {"question": "?", "gold": "2", "samples": [sample]})
    (found,) = line.samples
    assert (found.text, found.perplexities) == ("abc", (1.5, 2.0))
    assert found.scores == {"skywork": (0.5,), "math-shepherd": (0.1, 0.9)}
    assert found.completion.logprobs.top == (((-1, -0.1), (-1, -3.0)), ((-1, -0.2), (17, -2.5)))


def test_log_probabilities_as_chat_completions_write_them_are_read(tmp_path):
    content = [
        {"token": t, "logprob": p, "top_logprobs": [{"token": t, "logprob": p}, {"token": "x", "logprob": -5}]}
        for t, p in (("4", -0.5), (".", -0.1))
    ]
    sample = {"text": "4.", "logprobs": {"content": content}}
    (line,) = read(tmp_path, {"question": "?", "gold": "4", "samples": [sample]})
    told = line.samples[0].completion.logprobs
    assert (told.chosen, told.texts, len(told.top)) == ((-0.5, -0.1), ("4", "."), 2)


def test_options_and_kinds_are_read_and_a_kind_of_something_else_is_left_alone(tmp_path):
    base = {"gold": "B", "samples": []}
    rows = [
        {"question_id": "a", "options": ["A) 3", "B) 4"], **base},
        {"question_id": "b", "choices": {"A": "3", "B": "4"}, "answer_kind": "yes_no", **base},
        {
            "question_id": "c",
            "options": [{"label": "A", "text": "3"}, {"label": "B", "text": "4"}],
            "kind": "date",
            **base,
        },
        {"question_id": "d", "kind": "geometry", **base},
    ]
    lines = read(tmp_path, *rows)
    assert [line.options for line in lines] == [("3", "4")] * 3 + [()]
    assert [line.kind for line in lines] == [None, AnswerKind.yes_no, AnswerKind.date, None]
    assert lines[3].rest["kind"] == "geometry"


def test_what_cannot_be_stored_is_not_read(tmp_path):
    (line,) = read(tmp_path, r'{"question": "\ud800?", "gold": "2", "samples": [{"text": "a\udfffb"}]}')
    assert line.question.encode()
    assert line.samples[0].text.encode()


def test_a_file_may_be_packed_and_have_blank_lines(tmp_path):
    path = tmp_path / "pool.jsonl.gz"
    row = json.dumps({"question": "?", "gold": "2", "samples": []})
    path.write_bytes(gzip.compress(f"\n{row}\n\n".encode()))
    assert len(list(read_pool(path))) == 1
    path.write_bytes(gzip.compress(f"\n{row}\n\n[]".encode()))
    with pytest.raises(ModelError, match="line 4 of the recording"):
        list(read_pool(path))
    path.write_bytes(path.read_bytes()[:-12])
    with pytest.raises(ModelError, match="cannot be read"):
        list(read_pool(path))


@pytest.mark.parametrize(
    ("row", "told"),
    [
        ({"question": "?"}, r"there are no attempts, only `question`: give"),
        ({"question": "?", "samples": 5}, r"`samples` is `5`, and a list"),
        ({"question": "?", "samples": [5]}, r"`samples\[0\]` is `5`, and an object"),
        (
            {"question": "?", "samples": [{"answer": "1"}, {"reward": "x"}]},
            r"`samples\[1\].reward` is `\"x\"`, and a number",
        ),
        ({"question": "?", "samples": [{"n_tokens": -1}]}, r"`samples\[0\].n_tokens` is `-1`, and a whole number"),
        ({"question": "?", "samples": [{"n_tokens": 1e300}]}, r"n_tokens` is `1e\+300`"),
        ({"question": "?", "samples": [{"correct": 0.5}]}, r"correct` is `0.5`, which is neither true nor false"),
        ({"question": "?", "samples": [{"text": ["a"]}]}, r"text` is `\[\"a\"\]`, and a text"),
        ({"question": "?", "samples": [{"step_scores": [1, None]}]}, "step_scores` has an entry that is no number"),
        ({"question": "?", "samples": [{"scores": [1]}]}, "name each score"),
        ({"question": "?", "samples": [{"turns": [{"output": "a", "ppl": 0}]}]}, "not above 0"),
        (
            {"question": "?", "samples": [{"n_tokens": 1, "token_logprobs": [-1, -2]}]},
            "2 log-probabilities for 1 tokens",
        ),
        ({"question": ["?"], "samples": []}, r"`question` is `\[\"\?\"\]`"),
        ({"samples": []}, "`question` is missing, and so is `question_id`"),
        ({"question": "?", "gold": {"a": 1}, "samples": []}, "`gold` is"),
        ({"question": "?", "answer_kind": "colour", "samples": []}, "which is no kind of answer: choose one of"),
        ({"question": "?", "tolerance": "far", "samples": []}, '`tolerance` is `"far"`'),
        ({"question": "?", "n": 3, "correct": 4}, "`correct` is 4, which is more than the 3 attempts of `n`"),
        ({"question": "?", "n": 10**9, "correct": 4}, "at most 1,000,000 attempts"),
        ({"question": "?", "all_answers": [["1"]]}, r"`all_answers\[0\]` is `\[\"1\"\]`"),
    ],
)
def test_a_line_that_cannot_be_read_is_refused_by_line_and_field(tmp_path, row, told):
    with pytest.raises(BenchError, match=r"line 2 of the pool `.*`: .*" + told) as error:
        read(tmp_path, "", row)
    assert "\n" not in str(error.value)


WORDS = st.sampled_from(["", "1", "2", "x", "yes", "A", "None", "nan", "-inf", "5%", "temperature"])
VALUES = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | WORDS,
    lambda inner: (
        st.lists(inner, max_size=3)
        | st.dictionaries(
            st.sampled_from(["text", "output", "ppl", "token", "logprob", "content", "a"]), inner, max_size=3
        )
    ),
    max_leaves=6,
)
OF_A_SAMPLE = (
    "text answer correct n_tokens reward scores step_scores mean_logprob turns perplexities token_logprobs logprobs "
    "token_self_certainty token_entropy top_logprobs finish_reason response"
)
OF_A_LINE = (
    "question question_id gold golds options model run kind answer_kind tolerance unit all_answers answers texts n "
    "correct problem_num temperature is_multiple_answer"
)
SAMPLE_FIELDS, LINE_FIELDS = (st.sampled_from(names.split()) for names in (OF_A_SAMPLE, OF_A_LINE))
SAMPLES = st.lists(st.dictionaries(SAMPLE_FIELDS, VALUES, max_size=4) | VALUES, max_size=3)
ROWS = st.builds(
    lambda line, sample, samples: (
        {**line, **sample} if samples is None else {"question": "?", **line, "samples": samples}
    ),
    st.dictionaries(LINE_FIELDS, VALUES, max_size=4),
    st.dictionaries(SAMPLE_FIELDS, VALUES, max_size=3),
    st.none() | SAMPLES,
)


def refusal(folder, *rows, by=()):
    """What is said of rows that cannot be read; the empty string where they can."""
    try:
        lines = read(folder, *rows, by=by)
    except ThinkscaleError as error:
        return str(error)
    for line in lines:
        assert line.question
        for sample in line.samples:
            assert sample.completion.tokens >= 0
            assert sample.reward is None or not math.isnan(sample.reward)
    return ""


@given(st.lists(ROWS, min_size=1, max_size=3), st.sampled_from([(), ("temperature",)]))
def test_whatever_a_line_holds_it_is_read_or_refused_in_one_sentence(tmp_path_factory, rows, by):
    told = refusal(tmp_path_factory.getbasetemp(), *rows, by=by)
    assert not told or "`" in told
    assert "\n" not in told
    assert "Error" not in told


@given(st.binary(max_size=60), st.booleans())
def test_bytes_that_are_no_recording_are_refused_in_one_sentence(tmp_path_factory, raw, packed):
    path = tmp_path_factory.getbasetemp() / "raw.jsonl"
    path.write_bytes(gzip.compress(raw) if packed else raw)
    with suppress(ThinkscaleError):
        list(read_pool(path))
