from __future__ import annotations

from fractions import Fraction

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from clocks import busy
from thinkscale.answers.canonical import MAX_LENGTH, canonical, is_expression, is_number, latex
from thinkscale.types import AnswerKind

ATOMS = [
    "\\frac",
    "\\sqrt",
    "{",
    "}",
    "(",
    ")",
    "[",
    "]",
    ",",
    ";",
    "$",
    "\\",
    "^",
    "=",
    "x",
    "1",
    "2",
    "0.5",
    "/",
    "-",
]
WORDS = [
    " and ",
    " or ",
    "\\text{",
    "\\boxed{",
    " cm",
    "\\%",
    " ",
    "\\{",
    "\\}",
    "the",
    "pi",
    "inf",
    "million",
    "\\in ",
]
latexish = st.lists(st.sampled_from(ATOMS + WORDS), max_size=25).map("".join)


@pytest.mark.parametrize("kind", list(AnswerKind))
@given(text=st.one_of(st.text(max_size=60), latexish))
@settings(max_examples=150, deadline=None)
def test_a_key_is_its_own_key(kind: AnswerKind, text: str):
    key = canonical(text, kind)
    assert canonical(key, kind) == key


@given(st.fractions(max_denominator=10**6))
def test_every_fraction_has_one_key_however_it_is_written(value: Fraction):
    top, bottom = value.numerator, value.denominator
    forms = [
        f"{top}/{bottom}",
        rf"\frac{{{top}}}{{{bottom}}}",
        rf"$\dfrac{{{3 * top}}}{{{3 * bottom}}}$",
        rf"x = \tfrac{{{top}}}{{{bottom}}}",
    ]
    assert {canonical(form) for form in forms} == {str(value)}


@given(st.integers(min_value=-(10**15), max_value=10**15))
def test_thousands_separators_do_not_matter(value: int):
    assert canonical(f"{value:,}") == canonical(f"{value:,}".replace(",", "{,}")) == str(value)


@given(st.integers(-999, 999), st.integers(-999, 999))
def test_sets_tuples_lists_and_intervals_of_the_same_numbers_are_four_things(a: int, b: int):
    keys = [canonical(form) for form in (f"\\{{{a},{b}\\}}", f"({a},{b})", f"{a}, {b}", f"[{a},{b})")]
    assert len(set(keys)) == 4
    assert not any(is_number(key) for key in keys[1:])


@pytest.mark.parametrize(
    ("key", "forms"),
    [
        (
            "1/2",
            ["0.5", ".5", "1/2", r"\frac12", r"\frac{1}{2}", r"\dfrac{1}{2}", r"\tfrac 12", "0.50", r"\(\frac{1}{2}\)"],
        ),
        ("-1/2", [r"-\frac{1}{2}", r"\frac{-1}{2}", "-.5", "−0.5", "- 1/2"]),
        ("7/2", [r"3\frac{1}{2}", "3 1/2", "3.5", r"\frac72"]),
        ("0", ["-0", "0.0", "+0", "-0.00"]),
        ("5", ["+5", "5.", "x = 5", "f(x) = 5", "(5)", r"\boxed{5}", "**5**", r"\theta = 5", "|AB| = 5"]),
        ("1234", ["1,234", r"1{,}234", r"1,\!234", "1234.0", "1 234", "1'234", "１，２３４"]),
        ("1234 USD", [r"\$1,234", "$1,234.00", "1234 dollars", "1,234 USD"]),
        ("1500", [r"1.5 \times 10^3", r"1.5\cdot 10^{3}", "1.5e3", "1.5E+3"]),
        ("3/2000", [r"1.5 \times 10^{-3}", "1.5e-3"]),
        ("10%", [r"10\%", "10%", "10 percent", "10 %"]),
        ("10", [r"10\text{ units}", "10 apples", "10 eggs left"]),
        ("10 cm", ["10 cm", r"10\text{ cm}", r"10\,\mathrm{cm}", "10 centimeters", "10 см"]),
        ("90 °", [r"90^\circ", r"90^{\circ}", "90°", "90 degrees"]),
        ("1.4142", ["1.4142", "1.4142", "+1.4142"]),
        ("2021-05-01", ["May 1, 2021", "1 May 2021", "2021年5月1日", "1 de mayo de 2021"]),
        ("3:30 pm", ["3:30 PM", "15:30", "3:30 p.m."]),
        ("5000000", ["5 million", "5,000,000"]),
        ("1, 2, 3", ["1, 2, 3", "1,2,3", "1; 2; 3", "1, 2, and 3", r"1, 2 \text{ and } 3"]),
        ("1, -1", ["x = 1 or x = -1", r"1 \text{ or } -1", "x=1, x=-1"]),
        ("(1,2)", ["(1, 2)", r"\left(1, 2\right)", r"\left( 1 ,\; 2 \right)", "(x,y) = (1,2)"]),
        ("{1,2}", [r"\{2, 1\}", "{1,2}", r"\left\{1, 2, 2\right\}"]),
        ("[1,2)", ["[1, 2)", r"x \in [1,2)"]),
        (r"10\sqrt{3}+\sqrt{4}", [r"10\sqrt3 + \sqrt{4}", r"10\sqrt{3} + \sqrt4", "10sqrt(3) + sqrt(4)"]),
        (r"\frac{3}{4}i", [r"\frac34i", r"\dfrac{3}{4} i"]),
        (r"\infty", ["∞", "infinity", r"\infty", "inf"]),
        ("even", [r"\text{Even}", "even", "EVEN.", r"\mathrm{even}"]),
        ("C", ["(C)", r"\text{(C)}", "C", r"\textbf{C}"]),
        ("new york", ["New York", "the new  york."]),
    ],
)
def test_spellings_of_one_answer_share_a_key(key: str, forms: list[str]):
    assert {form: canonical(form) for form in forms} == dict.fromkeys(forms, key)


@pytest.mark.parametrize(
    ("a", "b"),
    [
        (r"\frac12", "frac12"),
        ("[1,2)", "(1,2]"),
        ("(1,234)", "1,234"),
        ("1, 234", "1,234"),
        ("12 34", "1234"),
        ("3x", "3"),
        (r"2\pi", "2"),
        ("2 and 3", "2"),
        ("1/3", "0.3333333333"),
        ("2^3", "23"),
        ("2**3", "23"),
        ("5²", "52"),
        ("A", "B"),
        (r"\begin{pmatrix} 1 \\ 2 \end{pmatrix}", r"\begin{pmatrix} 1 2 \end{pmatrix}"),
    ],
)
def test_different_answers_keep_different_keys(a: str, b: str):
    assert canonical(a) != canonical(b)


def test_the_pair_of_1_and_234_is_not_a_number():
    assert not is_number(canonical("(1,234)"))
    assert not is_number(canonical("1, 234"))
    assert is_number(canonical("1,234"))


@pytest.mark.parametrize(
    ("text", "formula"),
    [
        (r"\sqrt{2}", True),
        ("(1,2)", True),
        (r"\sin x", True),
        (r"\begin{pmatrix}1\\2\end{pmatrix}", True),
        ("17", False),
        ("3/4", False),
        ("listen", False),
        ("the hexagon has 6 sides", False),
        ("9" * 300, False),
        ("", False),
    ],
)
def test_only_formulas_may_be_handed_to_a_parser_of_formulas(text: str, formula: bool):
    assert is_expression(canonical(text)) is formula


def test_the_latex_of_a_set_has_visible_braces():
    assert latex(canonical(r"\{2,1\}")) == r"\{1,2\}"
    assert latex(canonical(r"\sqrt{2}")) == r"\sqrt{2}"


@pytest.mark.parametrize(
    "text",
    ["9" * 201, "(" * 30 + "1" + ")" * 30, "x" * (MAX_LENGTH + 1), "{" * 500, "1" * 10**6],
)
def test_what_is_too_large_is_keyed_by_a_digest_and_never_parsed(text: str):
    key = canonical(text)
    assert key.startswith("#")
    assert len(key) == 33
    assert key != canonical(text + "1")


@pytest.mark.parametrize("text", ["10^{10^{10}}", "10^(10^10)", "9**9**9**9", "1e999999", r"1 \times 10^{99999}"])
def test_no_power_is_ever_evaluated(text: str):
    assert busy(lambda: canonical(text), below=0.1) < 0.1
    assert not is_number(canonical(text))


@pytest.mark.parametrize(
    "unit", ["(", "{", "\\text{", " ", "and ", "1,111", "^2", "\\frac", "1/", "x=", "sqrt(", "5 cm "]
)
def test_hostile_repetition_takes_milliseconds(unit: str):
    text = (unit * MAX_LENGTH)[:MAX_LENGTH]
    assert busy(lambda: [canonical(text, kind) for kind in AnswerKind], below=0.25) < 0.25


def test_words_are_compared_without_case_articles_punctuation_and_width():
    forms = ["The  Eiffel Tower!", "eiffel tower", "Eiffel Tower", "Ｅｉｆｆｅｌ tower"]
    assert {canonical(form, AnswerKind.text) for form in forms} == {"eiffel tower"}
    assert canonical("The", AnswerKind.text) == "the"
    assert canonical("?", AnswerKind.text) == "?"


def test_choices_are_one_upper_case_letter():
    assert {canonical(form, AnswerKind.choice) for form in ("b", "|b", "(B)", "B.", "**B) Paris**", r"\text{(B)}")} == {
        "B"
    }


def test_json_ignores_order_of_keys_blanks_and_the_type_of_a_number():
    assert canonical('{"b": 1.0, "a": [2, 3.5]}', AnswerKind.json) == canonical(
        '{"a":[2.0,3.5],"b":1}', AnswerKind.json
    )
    assert canonical("[1,2]", AnswerKind.json) != canonical("[2,1]", AnswerKind.json)
    assert canonical("true", AnswerKind.json) != canonical("1", AnswerKind.json)
