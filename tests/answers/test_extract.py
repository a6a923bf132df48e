from __future__ import annotations

import subprocess
import sys

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from clocks import busy
from thinkscale.answers import canonical, extract, kind_of
from thinkscale.types import AnswerKind

PIECES = [
    "\\boxed{",
    "}",
    "{",
    "$",
    "the answer is",
    "Answer:",
    "####",
    "(A)",
    "B)",
    "I",
    "\n",
    ".",
    "1",
    "-2.5",
    "**",
    "[",
]
MORE = [
    "</think>",
    "\\(",
    "\\)",
    '{"a":',
    "]",
    "\\frac{1}{2}",
    " ",
    "I don't know",
    "```json\n",
    "```",
    "\\text{",
    "word",
]
ramble = st.lists(st.sampled_from(PIECES + MORE), max_size=40).map("".join)
QUESTION = "Which city is the capital of France?\nA) 12\nB) Paris\nC) Rome"


def key(text: str, kind: AnswerKind = AnswerKind.math, question: str = "") -> str | None:
    answer = extract(text, kind, question)
    return None if answer is None else answer.key


@pytest.mark.parametrize("kind", list(AnswerKind))
@given(text=st.one_of(st.text(max_size=200), ramble), question=st.one_of(st.just(""), ramble))
@settings(max_examples=150, deadline=None)
def test_extraction_never_raises_and_never_gives_an_empty_vote(kind: AnswerKind, text: str, question: str):
    answer = extract(text, kind, question)
    assert answer is None or (answer.key and answer.text)


@pytest.mark.parametrize(
    "unit",
    [
        *[
            "\\boxed{",
            "{",
            "}",
            " ",
            "9",
            "1,111",
            "answer ",
            "the answer is ",
            "$",
            "\\",
            "[",
            "\\frac",
            "-",
            "\n",
            "1/",
        ],
        *["\\boxed{1},", "(A) ", '{"a":', "answer **", "answer is:", "1e", "\\(", "\\text{", "```"],
    ],
)
def test_a_million_hostile_characters_take_milliseconds(unit: str):
    text = (unit * (10**6 // len(unit) + 1))[: 10**6]
    for kind in AnswerKind:
        assert busy(lambda kind=kind: extract(text, kind), below=0.25) < 0.25
    kind_of(text)


@pytest.mark.parametrize("text", ["answer is x" + " " * 8000 + "y", ("[" + "1," * 127) * 256, "[1,2" * 16_000])
def test_what_is_looked_for_in_vain_is_not_looked_for_again_and_again(text: str):
    for kind in AnswerKind:
        assert busy(lambda kind=kind: extract(text, kind), below=0.05) < 0.05


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        (r"so \boxed{\frac{1}{2}} it is", "1/2"),
        (r"first \boxed{3}, but then \boxed{4}. Sure: \boxed{5}", "5"),
        (r"\boxed{\text{Evelyn}}", "evelyn"),
        (r"\fbox{7}", "7"),
        (r"\boxed{1} and \boxed{-2}.", "1, -2"),
        (r"\boxed{143} **Final Answer** \boxed{143}", "143"),
        (r"#### 3 but \boxed{4}", "4"),
        ("2 + 2 = 4\n#### 1,234", "1234"),
        ("The answer is **18**.", "18"),
        (r"The final answer is: $\frac{3}{4}$. I hope it is correct.", "3/4"),
        ("**Final Answer**\n\n42", "42"),
        ("Answer: 3.5 dollars", "3.5 dollars"),
        ("The answer is 5 because 2 + 3 = 5.", "5"),
        ("The answer is that she has 18 eggs left.", "18"),
        ("The answer is $5$ and $6$.", "5, 6"),
        ("the final answer (in cm) is 7 cm", "7 cm"),
        ("The answer is Monday.", "monday"),
        ("She has 18 eggs left.", "18"),
        ("so x is -3", "-3"),
        ("from 10-3", "3"),
        ("We get 3/4 of it", "3/4"),
        (r"We get \frac{3}{4} of it", "3/4"),
        ("It costs $1,234.50.", "$1,234.50"),
        ("That is 50%", "50%"),
        (r"$\frac{\sqrt{3}}{2}$", r"\frac{\sqrt{3}}{2}"),
        ("x^2 + 1", "x^2+1"),
    ],
)
def test_the_first_usable_of_box_hashes_marker_formula_and_last_number_wins(text: str, expected: str):
    assert key(text) == canonical(expected)


@pytest.mark.parametrize("text", [r"it is \boxed{3} or \boxed{4", r"\boxed{3} then \boxed{\frac{1}{2"])
def test_a_box_that_was_cut_off_is_ignored(text: str):
    assert key(text) == "3"


def test_a_marker_followed_by_nothing_falls_through_to_what_comes_next():
    assert key("There are 12 of them. The answer is") == "12"
    assert key("The answer is 4.\n####") == "4"


@pytest.mark.parametrize(
    "text",
    [
        "I don't know.",
        "The answer is unknown.",
        r"\boxed{}",
        r"\boxed{\text{N/A}}",
        "Answer: I cannot answer this.",
        "",
    ],
)
@pytest.mark.parametrize("kind", [AnswerKind.auto, AnswerKind.math, AnswerKind.choice, AnswerKind.text])
def test_an_abstention_is_not_an_answer(text: str, kind: AnswerKind):
    assert extract(text, kind, QUESTION if kind is AnswerKind.choice else "") is None


def test_undetermined_is_an_answer():
    assert key("The answer is cannot be determined.") == "cannot be determined"


def test_only_what_follows_the_last_thought_counts():
    assert key(r"<think>so \boxed{3}</think> The value is 4.") == "4"
    assert key(r"<think>so \boxed{3}</think>") is None


def test_of_a_truncated_text_only_what_it_points_out_counts():
    assert extract("So far 3 + 4 = 7 and", AnswerKind.math, truncated=True) is None
    assert extract("Perhaps (B), or", AnswerKind.choice, truncated=True) is None
    pointed = extract(r"\boxed{7} and now", AnswerKind.math, truncated=True)
    assert pointed is not None
    assert pointed.key == "7"


def test_auto_takes_a_short_free_text_as_words_and_a_long_one_as_nothing():
    assert key("Paris", AnswerKind.auto) == "paris"
    assert key("hello " * 30, AnswerKind.auto) is None
    assert key("Paris", AnswerKind.math) is None


@pytest.mark.parametrize(
    ("text", "letter"),
    [
        ("the answer is (B)", "B"),
        ("Answer: b", "B"),
        (r"\boxed{B}", "B"),
        (r"\boxed{\text{(B)}}", "B"),
        ("I think so.\nB", "B"),
        ("The answer is (A)..., see step 3", "A"),
        ("The correct answer is **C. Rome**", "C"),
        ("The answer is A.", "A"),
        ("So option (C) is right", "C"),
        ("B) Paris", "B"),
        ("The answer is Paris.", "B"),
        (r"\boxed{12}", "A"),
        ("The answer is (A). No, wait, the answer is (B).", "B"),
        ("A city in France has many streets", None),
        ("The answer is A city", None),
        ("The answer is (F)", None),
        ("I like it", None),
    ],
)
def test_a_choice_is_a_letter_that_the_text_points_at(text: str, letter: str | None):
    assert key(text, AnswerKind.choice, QUESTION) == letter
    assert key(text, AnswerKind.auto, QUESTION) == letter


@pytest.mark.parametrize(
    "question",
    [
        QUESTION,
        "Pick one: (A) 12 (B) Paris (C) Rome",
        "Pick one.\nA. 12\nB. Paris\nC. Rome",
        r"$\textbf{(A)}\ 12 \qquad \textbf{(B)}\ Paris \qquad \textbf{(C)}\ Rome$",
        "Options:\n(A) 12\n(B) Paris\n(C) Rome",
    ],
)
def test_lettered_options_make_a_choice_in_every_usual_style(question: str):
    assert kind_of(question) is AnswerKind.choice
    assert key("The answer is Paris.", AnswerKind.auto, question) == "B"


@pytest.mark.parametrize(
    "question",
    [
        "",
        "What is 2 + 2?",
        r"\draw (A) circle (1); \draw (O) -- (C); \draw (B) -- (D);",
        "A man walks. B. Smith waits.",
    ],
)
def test_a_question_without_options_is_mathematics(question: str):
    assert kind_of(question) is AnswerKind.math


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ('Here:\n```json\n{"a": 1.0}\n```\ndone', '{"a":1}'),
        ('[1, 2] then {"b": [1, {"c": 2}]} and {"d": ', '{"b":[1,{"c":2}]}'),
        ("42", "42"),
        ("[[[[", None),
        ("nothing here", None),
    ],
)
def test_json_is_the_last_complete_value(text: str, expected: str | None):
    assert key(text, AnswerKind.json) == expected


def test_free_text_is_what_follows_the_marker_or_else_everything():
    assert key("I think the answer is New York.", AnswerKind.text) == "new york"
    assert key("The  Eiffel Tower!", AnswerKind.text) == "eiffel tower"


@pytest.mark.parametrize("end", [r"\boxed{18}", "\n#### 18", "The answer is 18.", "She makes $18."])
def test_a_typical_text_takes_microseconds(end: str):
    text = "Janet eats 3 duck eggs and bakes 4 muffins so she uses 3+4 = 7 eggs. " * 4 + end
    enough = 200 * 150e-6  # 5 to 16 µs each when measured alone
    assert busy(lambda: [extract(text, AnswerKind.math) for _ in range(200)], below=enough) < enough


def test_importing_the_package_loads_neither_a_solver_nor_an_event_loop():
    heavy = ("sympy", "asyncio", "multiprocessing")
    program = f"import sys, thinkscale.answers; print([m for m in {heavy} if m in sys.modules])"
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"
