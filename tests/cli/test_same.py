from __future__ import annotations

import json

import pytest
from typer.testing import CliRunner

from thinkscale.cli import app

RUN = CliRunner()


@pytest.mark.parametrize(
    ("first", "second", "verdict", "code"),
    [
        ("1/2", "0.5", "same", 0),
        ("A hexagon has six sides.", "It has 6.", "same", 0),
        ("Yes, 17 is prime.", "No, 17 is not prime.", "different", 1),
        ("3:30 PM", "15:30", "same", 0),
        ("05/01/2021", "10/02/2021", "different", 1),
        ("5 km", "5000 m", "same", 0),
        ("x+1", "Paris", "different", 1),
    ],
)
def test_same_says_the_verdict_and_exits_by_it(first: str, second: str, verdict: str, code: int):
    done = RUN.invoke(app, ["same", first, second])
    assert done.stdout.startswith(f"{verdict}: ")
    assert done.exit_code == code


def test_same_prints_one_object_with_the_keys_and_their_kinds():
    done = RUN.invoke(app, ["same", "--json", "50%", r"\frac{1}{2}"])
    found = json.loads(done.stdout)
    assert found["verdict"] == "same"
    assert [answer["key"] for answer in found["answers"]] == ["50%", "1/2"]
    assert {answer["kind"] for answer in found["answers"]} == {"number"}


def test_the_question_says_of_which_kind_the_answers_are():
    question = "Which is right? (A) Paris (B) Rome"
    assert RUN.invoke(app, ["same", "--question", question, "B", "The answer is (B)."]).exit_code == 0
    assert RUN.invoke(app, ["same", "--kind", "text", "x>5", "5<x"]).exit_code == 1


def test_a_text_without_an_answer_is_compared_with_nothing():
    done = RUN.invoke(app, ["same", "5", "I do not know."])
    assert done.exit_code == 1
    assert "no answer was found" in done.stderr
