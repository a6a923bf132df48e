from __future__ import annotations

import pytest

from thinkscale.answers import kind_of
from thinkscale.types import AnswerKind


@pytest.mark.parametrize(
    ("question", "kind"),
    [
        ("Which is a fruit?\n(A) stone (B) apple", AnswerKind.choice),
        ("Is 17 a prime number?", AnswerKind.yes_no),
        ("Consider x. Does the series converge?", AnswerKind.yes_no),
        ("Tell me yes or no: is water wet?", AnswerKind.yes_no),
        ("Is the argument valid?\nOptions:\n- valid \n- invalid", AnswerKind.yes_no),
        ("Ist 17 eine Primzahl?", AnswerKind.yes_no),
        ("Est-ce que 17 est premier ?", AnswerKind.yes_no),
        ("17是质数吗？", AnswerKind.yes_no),
        ("17は素数ですか？", AnswerKind.yes_no),
        ("Верно ли, что 17 простое?", AnswerKind.yes_no),
        ("At what time does the train arrive?", AnswerKind.time),
        ("Um wie viel Uhr kommt der Zug an?", AnswerKind.time),
        ("What date is ten days after May 1?", AnswerKind.date),
        ("Write a function that adds two numbers.", AnswerKind.code),
        ("Give the result as JSON.", AnswerKind.json),
        ("How many sides does a hexagon have?", AnswerKind.math),
        ("Is he right, and how many apples are left?", AnswerKind.math),
        ("Is it red or blue?", AnswerKind.math),
        ("What is the capital of France?", AnswerKind.math),
        ("Can you find the value of x?", AnswerKind.math),
        ("", AnswerKind.math),
    ],
)
def test_a_question_says_which_kind_of_answer_it_wants(question: str, kind: AnswerKind):
    assert kind_of(question) is kind


@pytest.mark.parametrize(
    ("answers", "kind"),
    [
        (["3:30 PM", "15:30", "4 PM"], AnswerKind.time),
        (["May 1, 2021", "2021-05-01"], AnswerKind.date),
        (["Yes", "No, it is not.", "Yes"], AnswerKind.yes_no),
        (['{"a": 1}', '{"a": 2}'], AnswerKind.json),
        (["12", "Yes", "13"], AnswerKind.math),
        (["12", "13"], AnswerKind.math),
        ([], AnswerKind.math),
    ],
)
def test_where_the_question_is_silent_most_answers_say(answers: list[str], kind: AnswerKind):
    assert kind_of("", answers) is kind


def test_old_and_new_names_of_kinds_are_valid():
    assert {"auto", "math", "choice", "text", "json"} <= {kind.value for kind in AnswerKind}
    assert AnswerKind("yes-no") is AnswerKind.yes_no
    assert AnswerKind("tool-calls") is AnswerKind.tool_calls
