"""Tables of texts by kind of fault, positives and near misses, in several languages; and extraction as properties."""

from __future__ import annotations

import asyncio
import json
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from thinkscale.answers import Evidence, canonical, extract, find
from thinkscale.answers.compare import compare
from thinkscale.types import AnswerKind

Kind = AnswerKind
MARKETS = "Which is it?\nA) Market segmentation\nB) Market penetration\nC) Product development\nD) Diversification"
NUMBERS = "What is 6 times 7?\n(A) 36\n(B) 42\n(C) 48\n(D) 54\n(E) 13"
PROXY = Path(__file__).with_name("proxy_texts.jsonl")


async def _nobody(pairs):
    return [False] * len(pairs)


def agree(key: str, expected: str) -> bool:
    """Whether a key and a spelling are one answer, without asking algebra."""
    if key == canonical(expected):
        return True
    return asyncio.run(compare(key, canonical(expected), judge=_nobody)).verdict.value == "same"


def check(text, expected, kind=Kind.auto, question="", truncated=False):
    answer = extract(text, kind, question, truncated=truncated)
    if expected is None:
        assert answer is None
    else:
        assert answer is not None
        assert agree(answer.key, expected) or answer.text == expected


def table(*rows):
    return pytest.mark.parametrize(("text", "expected"), rows)


@table(
    ("#### 12\nWait, I forgot the tax.\n#### 14", "14"),
    (r"So $\boxed{6}$ for case 1." + "\n\n**Answer: 352**", "352"),
    (r"**Answer: 352**" + "\n\nor in a box: \\boxed{353}", "353"),
    ("The answer is 5. No, the answer is 7.", "7"),
    ("Answer: 3\nAnswer: 4", "4"),
    ("<answer>8</answer> no, <answer>9</answer>", "9"),
    (r"\boxed{1} was wrong. #### 2", "2"),
    ("Die Antwort ist 3. Nein, die Antwort ist 4.", "4"),
    ("Ответ: 5\nИсправление. Ответ: 6", "6"),
    ("答案是5。更正:答案是6。", "6"),
    ("La respuesta es 5. Corrijo: la respuesta es 6.", "6"),
    ("The total is 12.\n\nAnswer:", "12"),
    (r"So we get \boxed{9}. \boxed{}", "9"),
    (r"\boxed{9} \boxed{ }", "9"),
    ("#### 5\n####", "5"),
    ("<answer>14</answer><answer></answer>", "14"),
    ("<answer>14</answer><answer>  </answer>", "14"),
    ("The answer is 31.\n\nFinal answer:\n", "31"),
    ("**Answer:**\n\n**42**", "42"),
    ("Ответ: 7\n\nОтвет:", "7"),
    ("Antwort: 8\nAntwort:", "8"),
    (r"\boxed{}", None),
    (r"$\boxed{ }$", None),
    ("Answer:", None),
    ("#### ", None),
    ("<answer></answer>", None),
    ("The final answer is", None),
    (r"\boxed{1} and \boxed{2}", "1, 2"),
)
def test_the_last_thing_pointed_out_wins_and_an_empty_pointer_points_at_nothing(text, expected):
    check(text, expected)


@table(
    ("#### Step 3\nTherefore the total is 12.", "12"),
    ("#### Step 3: Multiply\nWe get 12.", "12"),
    ("#### Conclusion\nThe box holds 24 pens.", "24"),
    ("#### Solution 2\nThe area equals 36.", "36"),
    ("#### 3. Add them up\nThe sum is 15.", "15"),
    ("#### 3) Add them up\nThe sum is 15.", "15"),
    ("#### Part (b)\nThe length is 6.", "6"),
    ("#### Case 1: x > 0\nThen x = 4.", "4"),
    ("#### Final Answer\n\n77", "77"),
    ("#### Final Answer: 77", "77"),
    ("#### **Answer**\n77", "77"),
    ("## Answer\n64", "64"),
    ("### Final answer\n$x = 9$", "9"),
    ("#### Schritt 3\nAlso ist die Summe 12.", "12"),
    ("#### Étape 2\nDonc le total est 8.", "8"),
    ("#### Paso 2\nPor lo tanto, el total es 8.", "8"),
    ("#### Find the range of n\n\nANSWER: 199", "199"),
    ("#### Überlegung\nDie Antwort ist 5.", "5"),
    ("#### 1,234", "1234"),
    ("#### -5", "-5"),
    ("#### $18", "$18"),
    ("#### 5 apples", "5"),
    ("####7", "7"),
    (r"#### \frac{1}{2}", "1/2"),
    (r"#### $\frac{3}{4}$", "3/4"),
    ("# Step 1\n2 + 2 = 4\n# Step 2\n4 * 2 = 8", "8"),
    ("## Step 9: Write down the answer\n$p - q$", "p-q"),
)
def test_a_heading_is_no_answer(text, expected):
    check(text, expected)


@table(
    (r"\[\text{ANSWER: 434}\]", "434"),
    (r"\[" + "\n" + r"\text{ANSWER: } 26." + "\n" + r"\]", "26"),
    (r"\boxed{ANSWER: 112}", "112"),
    (r"\boxed{\text{Answer: }56}", "56"),
    (r"$\boxed{\text{ANSWER: } 204}$", "204"),
    (r"\[ \textbf{Answer: } 19 \]", "19"),
    (r"\[\text{The answer is } \frac{5}{6}.\]", "5/6"),
    (r"$\text{Final answer: } 3\sqrt{2}$", r"3\sqrt{2}"),
    (r"\boxed{\text{Answer} = 71}", "71"),
    (r"$$\textbf{ANSWER: 013}$$", "13"),
    (r"\(\text{Answer: } (2, 3)\)", "(2,3)"),
    (r"$\mathbf{Answer:}\ 8$", "8"),
    (r"\[\text{Ответ: } 15\]", "15"),
    (r"\[\text{Antwort: } 15\]", "15"),
    (r"\[\text{答案:} 15\]", "15"),
    (r"\boxed{\text{Respuesta: } 7}", "7"),
    (r"\boxed{\text{Evelyn}}", "Evelyn"),
    (r"\boxed{\textbf{42}}", "42"),
    (r"\boxed{\mathrm{42}}", "42"),
    (r"\fbox{7}", "7"),
    (r"\boxed {7}", "7"),
    (r"\boxed{\frac{1}{2}}", "1/2"),
    (r"\boxed{\{1, 2\}}", r"\{1,2\}"),
    (r"\[\boxed{x = 3}\]", "3"),
    (r"**Final answer:** $\boxed{45}$ degrees", "45"),
    (r"\text{ANSWER: 7} \\", "7"),
)
def test_a_marker_inside_latex_ends_where_the_latex_does(text, expected):
    check(text, expected)


@table(
    ("#### 6\n\nQuestion: Tom has 4.\nAnswer: 4+5 = 9\n#### 9", "6"),
    ("The answer is 12.\n\nQ: How many wheels?\nA: The answer is 13.", "12"),
    ("#### 18\n\nProblem: A train.\nSolution: #### 120", "18"),
    (" 8 + 9 = 17. The answer is 17.\n\nQuestion: Mia has 5 nuts.\n", "17"),
    ("The answer is \\boxed{4}.\n\nProblem:\nFind 3+3.\n\n\\boxed{6}", "4"),
    ("The answer is 5.\n\nUser: And 4+4?\nAssistant: The answer is 8.", "5"),
    ("#### 30\n\n### Question 2:\nHow many?\n#### 44", "30"),
    ("#### 30\n\n**Problem 2.** How many?\n#### 44", "30"),
    ("The answer is 50.<|im_end|>\n<|im_start|>user\nWhat?<|im_end|>\n<|im_start|>assistant\nThe answer is 2.", "50"),
    ("The answer is 50.<|eot_id|><|start_header_id|>user<|end_header_id|>\n\nThe answer is 2.", "50"),
    ("The answer is 50.</s> The answer is 2.", "50"),
    ("The answer is 50.<|endoftext|>The answer is 2.", "50"),
    ("The answer is 50.<end_of_turn>\nThe answer is 2.", "50"),
    ("\\boxed{7}\n\nHuman: what about 9?\n\nAssistant: \\boxed{9}", "7"),
    ("Die Antwort ist 5.\n\nFrage: Und 4+4?\nDie Antwort ist 8.", "5"),
    ("Ответ: 5\n\nВопрос: А 4+4?\nОтвет: 8", "5"),
    ("答案是5。\n\n问题:4+4?\n答案是8。", "5"),
    ("La respuesta es 5.\n\nPregunta: ¿4+4?\nLa respuesta es 8.", "5"),
    ("Réponse : 5\n\nQuestion : 4+4 ?\nRéponse : 8", "5"),
    ("She has 6 left.\n\nQ: Tom has 4.\nA: 9 left.", "6"),
    ("Question: how many?\nShe has 3+2.\n#### 5", "5"),
    ("Problem: restated.\nSo \\boxed{5}", "5"),
    ("The question: is it 5? The answer is 6.", "6"),
    ("The answer is 5.\nThe problem is solved. The answer is 6.", "6"),
    ("<|start_header_id|>assistant<|end_header_id|>\n\nThe answer is 5.", "5"),
    ("<|im_start|>assistant\nThe answer is 5.<|im_end|>", "5"),
)
def test_what_runs_on_after_the_first_answer_is_cut(text, expected):
    check(text, expected)


MARKED = {
    "de": ["Die Antwort ist {}.", "Antwort: {}", "**Endergebnis:** {}", "Daher lautet die Antwort {}."],
    "ru": ["Ответ: {}", "**Ответ:** {}.", "Правильный ответ — {}.", "Окончательный ответ: {}"],
    "ar": ["الإجابة هي {}.", "الجواب: {}", "الإجابة النهائية: {}", "إذن الجواب النهائي هو {}"],
    "hi": ["उत्तर: {}", "अंतिम उत्तर {} है।", "इसलिए उत्तर है {}।", "**उत्तर:** {}"],
    "ko": ["답: {}", "정답은 {}입니다.", "따라서 답은 {}이다.", "최종 답: {}"],
    "zh": ["答案是{}。", "答案:{}", "因此,最终答案为 {}。", "所以正确答案是 {}。"],
    "ja": ["答えは{}です。", "答え:{}", "したがって、答えは {} です。", "正解は {} である。"],
    "fr": ["La réponse est {}.", "Réponse : {}", "Réponse finale : {}", "Donc la bonne réponse est {}."],
    "es": [
        "La respuesta es {}.",
        "Respuesta: {}",
        "**Respuesta final:** {}",
        "Por lo tanto, la respuesta correcta es {}.",
    ],
    "pt": ["A resposta é {}.", "Resposta: {}", "**Resposta final:** {}", "Portanto, a resposta correta é {}."],
    "en": ["The answer is {}.", "Answer: {}", "**Final Answer:** {}", "So the final answer is **{}**.", "#### {}"],
}
TEMPLATES = [template for templates in MARKED.values() for template in templates]
BOXES = [r"So \boxed{{{}}}.", r"$\boxed{{{}}}$", "<answer>{}</answer>", '{{"answer": "{}"}}']


@pytest.mark.parametrize("template", TEMPLATES + BOXES)
@pytest.mark.parametrize("value", ["42", "-7", "3/4", "0.25", "1,234", r"$\frac{3}{4}$", "$(2,3)$"])
def test_a_rendered_value_is_found_in_every_language(template, value):
    if "answer" in template and "{{" in template:
        value = value.strip("$").replace("\\", "\\\\")
    check("2 + 2 = 4. " + template.format(value), value.strip("$").replace("\\\\", "\\"))


@pytest.mark.parametrize("template", TEMPLATES + BOXES)
@pytest.mark.parametrize("letter", ["B", "(C)", "**D**"])
def test_a_rendered_letter_is_found_in_every_language(template, letter):
    bare = letter.strip("()*")
    if bare == letter or "{{" not in template:
        check("Both A and B sound right. " + template.format(letter), bare, Kind.choice, MARKETS)


@table(
    ("La risposta è 42.", "42"),
    ("Risposta: 42", "42"),
    ("Het antwoord is 42.", "42"),
    ("Odpowiedź: 42", "42"),
    ("Odpověď je 42.", "42"),
    ("Svaret är 42.", "42"),
    ("Vastaus on 42.", "42"),
    ("Cevap: 42", "42"),
    ("Đáp án là 42.", "42"),
    ("Câu trả lời: 42", "42"),
    ("Jawabannya adalah 42.", "42"),
    ("Jibu ni 42.", "42"),
    ("Відповідь: 42", "42"),
    ("Η απάντηση είναι 42.", "42"),
    ("Răspunsul este 42.", "42"),
    ("התשובה היא 42.", "42"),
    ("คำตอบคือ 42", "42"),
    ("উত্তর: 42", "42"),
    ("సమాధానం: 42", "42"),
)
def test_further_languages_point_too(text, expected):
    check("2 + 2 = 4. " + text, expected)


@table(
    ("La risposta è B.", "B"),
    ("Het antwoord is B.", "B"),
    ("Odpowiedź: B", "B"),
    ("Đáp án là B.", "B"),
    ("Cevap: B", "B"),
    ("Відповідь: B", "B"),
    ("คำตอบคือ B", "B"),
    ("Jawabannya adalah B.", "B"),
    ("It's B.", "B"),
    ("Response: B", "B"),
    ("None of A, C, or D is right, leaving B.", "B"),
    ("It could be A or C. Considering the market, I'd say B.", "B"),
    ("Not A. Not C. So we go for B!", "B"),
    ("B seems the most plausible.", "B"),
)
def test_further_ways_to_choose_a_letter(text, expected):
    check(text, expected, Kind.choice, MARKETS)


@table(
    ("The answer is 1.5 million.", "1500000"),
    ("The ratio is 3 : 2.", "3:2"),
    ("Therefore the area is 25π.", r"25\\pi"),
    ("The answer is √2.", r"\\sqrt{2}"),
    ("The answer is 2 1/2.", "5/2"),
    ("The solutions are x = 1, x = 2.", "1, 2"),
    ("x = 3 and y = 4", "x = 3, y = 4"),
    ("So, the value is 7, for n=3.", "7"),
    ("There are 365 days in 2023.", "365 days"),
    ("In 1969, man landed on the moon.", "1969"),
    ("The answer is 1 000 000.", "1000000"),
    (r"The answer is \$18.90.", "$18.90"),
    ("The answer is approximately 3.14.", "3.14"),
    ("The answer is 3 or 4.", "3, 4"),
    ("The answer is x = -3.", "-3"),
    ("The answer is 3x + 2.", "3x+2"),
    ("The answer is 10 - 3 = 7.", "7"),
    ("The answer is both 3 and -3.", "3, -3"),
    ("The number of ways is 7! = 5040.", "5040"),
    ("7 is the answer.", "7"),
    ("Final answer: 2/3 (approximately 0.667)", "2/3"),
    ("So the answer is 5, not 6.", "5"),
)
def test_values_are_found_as_people_write_them(text, expected):
    check(text, expected)


rendered = st.one_of(
    st.integers(-(10**9), 10**9).map(str),
    st.fractions(max_denominator=999).map(lambda f: rf"\frac{{{f.numerator}}}{{{f.denominator}}}"),
    st.decimals(-(10**6), 10**6, places=2).map(str),
    st.tuples(st.integers(0, 99), st.integers(0, 99)).map(lambda p: f"({p[0]}, {p[1]})"),
    st.tuples(st.integers(2, 9), st.integers(2, 9)).map(lambda p: rf"{p[0]}\sqrt{{{p[1]}}}"),
)
before = st.sampled_from(["", "First 2 + 2 = 4.\n\n", "Let x = 3. Then we see.\n", r"\[ x^2 = 9 \]" + "\n"])


@given(
    value=rendered,
    template=st.sampled_from(TEMPLATES + BOXES[:3]),
    first=before,
    kind=st.sampled_from(["auto", "math"]),
)
@settings(max_examples=400, deadline=None)
def test_extraction_of_a_rendered_answer_gives_it_back(value, template, first, kind):
    shown = f"${value}$" if "\\" in value and "boxed" not in template else value
    found = find(first + template.format(shown), AnswerKind(kind))
    assert found is not None
    assert found.answer.key == canonical(value)


@given(value=rendered, template=st.sampled_from(TEMPLATES + BOXES[:3]), first=before)
@settings(max_examples=200, deadline=None)
def test_what_is_found_stands_where_it_is_said_to_stand(value, template, first):
    shown = f"${value}$" if "\\" in value and "boxed" not in template else value
    text = first + template.format(shown)
    found = find(text)
    assert found is not None
    assert value.strip() in text[found.start : found.end] or text[found.start : found.end] in value


@given(text=st.text(alphabet=st.sampled_from("<think>/5 answer is.\n\\boxed{}7"), max_size=80))
@settings(max_examples=300, deadline=None)
def test_what_is_said_inside_an_unclosed_thought_is_never_found(text):
    if "</think>" not in text:
        assert extract("<think>" + text, Kind.math) is None


@table(
    ("The concept is:\n\nB. Market penetration\n\nThis is about sales.", "B"),
    ("So it must be B.", "B"),
    ("Option B is correct.", "B"),
    ("**B** is the correct answer, unlike (A) or (D).", "B"),
    ("<answer>B</answer>", "B"),
    ("B", "B"),
    ("(c)", "C"),
    ("**C**", "C"),
    ("I would choose D here.", "D"),
    ("The best choice is C because it creates goods.", "C"),
    ("This rules out A and B. Only D remains.", "D"),
    ("Correct option: B", "B"),
    (r"\boxed{\text{C}}", "C"),
    (r"$\boxed{\textbf{(C)}\ Product}$", "C"),
    ("A) wrong.\nB) wrong.\nC) right: new goods.\nD) wrong.\n\nHence C.", "C"),
    ("B) Market penetration", "B"),
    ("B: Market penetration is when a firm sells more.", "B"),
    ("A is incorrect. B is incorrect. C is correct. D is incorrect.", "C"),
    ("I pick option (B), not option (C).", "B"),
    ('{"answer": "C"}', "C"),
    ("Answer: (B) Market penetration", "B"),
    ("Therefore, the correct letter is D", "D"),
    ("New markets with new goods, i.e. diversification (D).", "D"),
    ("Selling more of the same in the same market is market penetration.", "B"),
    ("The strategy described is Product development.", "C"),
    ("The answer is market penetration.", "B"),
    ("The answer is (A). No, wait, the answer is (B).", "B"),
    ("Die Antwort ist B", "B"),
    ("La respuesta correcta es la B.", "B"),
    ("A resposta correta é a letra B.", "B"),
    ("सही उत्तर B है।", "B"),
    ("故选D。", "D"),
    ("A company may grow in many ways.", None),
    ("I cannot tell.", None),
    ("I am not sure which one it is.", None),
    ("A firm sells. It grows.", None),
    ("The answer is (F)", None),
)
def test_a_letter_is_found_where_a_text_points_at_it_or_says_the_words_behind_it(text, expected):
    check(text, expected, Kind.choice, MARKETS)
    check(text, expected, Kind.auto, MARKETS)


@table(
    ("6 times 7 is 42.", "B"),
    ("The answer is 42.", "B"),
    (r"\boxed{42}", "B"),
    ("**42**", "B"),
    ("6*7 = 42, so the answer is (B).", "B"),
    ("The answer is 36.", "A"),
    ("The answer is 99.", None),
    (r"\boxed{E}", "E"),
    (r"$\boxed{\textbf{(C)}\ 48}$", "C"),
    ("It is 54 (D).", "D"),
)
def test_the_value_behind_a_letter_is_evidence_for_it(text, expected):
    check(text, expected, Kind.choice, NUMBERS)


def test_options_may_be_given_apart_from_the_question():
    answer = extract("It is Rome.", Kind.auto, "Which city?", options=["Paris", "Rome"])
    assert answer is not None
    assert answer.text == "B"


@table(
    ("Yes, 17 is prime.", "yes"),
    ("No, 17 is not prime.", "no"),
    ("The answer is yes.", "yes"),
    ("The answer is no.", "no"),
    ("**No**, because 17 = 17 × 1.", "no"),
    ("17 has only two divisors, so yes.", "yes"),
    ("True", "yes"),
    ("False.", "no"),
    (r"\boxed{\text{No}}", "no"),
    (r"\boxed{Yes}", "yes"),
    ("Answer: Yes, it is prime", "yes"),
    ("Yes.", "yes"),
    ("I checked 2, 3 and 5. Hence the answer is no.", "no"),
    ("It has no divisors but 1 and itself. Yes, it is prime.", "yes"),
    ("Final answer: **Yes**", "yes"),
    ("Ja, 17 ist eine Primzahl.", "yes"),
    ("Nein, 15 ist keine Primzahl.", "no"),
    ("Да, 17 — простое число.", "yes"),
    ("Нет, 15 не простое число.", "no"),
    ("是的,17是质数。", "yes"),
    ("Oui, 17 est premier.", "yes"),
    ("Non, 15 n'est pas premier.", "no"),
    ("Sí, 17 es primo.", "yes"),
    ("No, 15 no es primo.", "no"),
    ("Sim, 17 é primo.", "yes"),
    ("Não, 15 não é primo.", "no"),
    ("아니요, 15는 소수가 아닙니다.", "no"),
    ("いいえ、15は素数ではありません。", "no"),
    ("हाँ, 17 अभाज्य है।", "yes"),
    ("نعم، 17 عدد أولي.", "yes"),
)
def test_a_yes_or_no_is_not_the_number_in_its_sentence(text, expected):
    answer = extract(text, Kind.yes_no)
    assert answer is not None
    assert answer.key == expected


@table(
    ("17 is prime.", "yes"),
    ("17 is not prime.", "no"),
    ("17 isn't prime.", "no"),
    ("Since 17 has no divisors, it is a prime number.", "yes"),
    ("We test 2 and 3. So 17 is a prime number.", "yes"),
)
def test_who_repeats_the_question_agrees_and_who_negates_it_does_not(text, expected):
    assert extract(text, Kind.yes_no, "Is 17 a prime number?").key == expected
    assert extract(text, Kind.auto, "Is 17 a prime number?").key == expected


@pytest.mark.parametrize("text", ["Yes, 17 is prime.", "Oui, 17 est premier.", "Ja, 17 ist prim.", "是的,17是质数。"])
def test_a_short_text_that_opens_with_yes_says_yes_without_a_question(text):
    assert extract(text).key == "yes"


@table(
    ("No, wait, the total is 12.", "12"),
    ("Yes, the answer is 12.", "12"),
    ("No numbers fit but 12.", "12"),
    ("Si x = 3, entonces el total es 6.", "6"),
)
def test_a_number_that_was_asked_for_is_not_hidden_by_a_yes_or_no(text, expected):
    check(text, expected, Kind.number)


@table(
    ("It starts at 3:30 PM.", "3:30 PM"),
    ("The train leaves at 14:05.", "14:05"),
    ("The answer is 9:15 a.m.", "9:15 AM"),
    ("So she arrives at 8 PM.", "8 PM"),
    ("Answer: 11:59", "11:59"),
    ("The meeting ends at 16:20, 80 minutes after it began.", "16:20"),
    (r"\boxed{7:45 \text{ PM}}", "7:45 PM"),
    ("**10:30 AM**", "10:30 AM"),
    ("La respuesta es 10:45.", "10:45"),
    ("Die Antwort ist 14:30.", "14:30"),
    ("答案是14:30。", "14:30"),
    ("<answer>6:05 pm</answer>", "6:05 PM"),
    ("#### 12:15", "12:15"),
)
def test_a_time_is_found_whole(text, expected):
    check(text, expected, Kind.time)


@table(
    ("It was signed on May 1, 2021.", "May 1, 2021"),
    ("The answer is 05/01/2021.", "05/01/2021"),
    ("So the date is 12/25/1999.", "12/25/1999"),
    ("The deadline is 2024-03-15.", "2024-03-15"),
    ("It happened on 4 July 1776.", "4 July 1776"),
    ("Answer: March 3, 2020", "March 3, 2020"),
    ("Die Antwort ist 3. Oktober 1990.", "3. Oktober 1990"),
    ("La respuesta es 1 de mayo de 2021.", "1 de mayo de 2021"),
    ("答案是2021年5月1日。", "2021年5月1日"),
    (r"\boxed{2024-03-15}", "2024-03-15"),
    ("<answer>03/05/2020</answer>", "03/05/2020"),
    ("It took place on 3rd March 2020, a Tuesday.", "3rd March 2020"),
)
def test_a_date_is_found_whole(text, expected):
    check(text, expected, Kind.date)


@table(
    ("The mass is 5 kg.", "5 kg"),
    ("It travels at 60 km/h.", "60 km/h"),
    ("The answer is 12 cm.", "12 cm"),
    ("So she pays $18.50.", "$18.50"),
    ("The box weighs 2.5 kg, so four of them weigh 10 kg.", "10 kg"),
    (r"The force is $9.8 \text{ N}$.", "9.8 N"),
    (r"\boxed{3\ \text{hours}}", "3 hours"),
    ("The answer is 25%.", "25%"),
    ("Réponse : 220 $ dans 12 mois", "$220"),
    ("It costs 5 cents.", "5 cents"),
    ("The answer is 45 degrees.", "45 degrees"),
    ("That takes 3 hours in total.", "3 hours"),
    ("It takes 2 hours and 30 minutes.", "150 minutes"),
)
def test_a_quantity_keeps_its_unit(text, expected):
    check(text, expected, Kind.quantity)


@table(
    ("So the point is $(7,6)$.", "(7,6)"),
    ("So the point is (7,6).", "(7,6)"),
    (r"Therefore $x \geq 5$ is the solution.", r"x \geq 5"),
    (r"The matrix is $\begin{pmatrix} 1 & 2 \\ 3 & 4 \end{pmatrix}$.", r"\begin{pmatrix} 1 & 2 \\ 3 & 4 \end{pmatrix}"),
    ("Hence the interval is $[2, 5)$.", "[2,5)"),
    (r"So we obtain $\frac{\sqrt{3}}{2}$.", r"\frac{\sqrt{3}}{2}"),
    (r"The vertex is at \((-1, 4)\).", "(-1,4)"),
    (r"Thus the set is $\{1, 2, 3\}$.", r"\{1,2,3\}"),
    ("The equation is $y = 2x + 3$.", "y = 2x+3"),
    ("Therefore\n\\[ x^2 - 4x + 3 \\]", "x^2-4x+3"),
    ("So $f(x) = 3x^2$.", "3x^2"),
    (r"Therefore the distance is $2\sqrt{5}$.", r"2\sqrt{5}"),
    ("The roots are $2$ and $3$.", "2, 3"),
    ("So $x = 4$.", "4"),
    ("We conclude that $n = 12$ is the smallest.", "12"),
    ("The value is $2 + 3 = 5$.", "5"),
    ("So the answer is $1000-400=600$.", "600"),
    (r"It lies in $(-\infty, 3]$.", r"(-\infty, 3]"),
    (r"The polar form is $\left(3, \frac{\pi}{2}\right)$.", r"(3,\frac{\pi}{2})"),
    ("The ratio of $ACB$ to $ABCD$ is\n\\[\n\\frac{5}{8}\n\\]", "5/8"),
    (r"\[ P = \frac{10}{16} = \frac{5}{8}. \]", "5/8"),
    ("$$x = 7$$", "7"),
    ("It costs $5 and $6 more, so $11.", "$11"),
    ("So, the resulting number after the rotation is $-2 + 7i.$", "-2+7i"),
    ("Il punto finale: el punto es $(1,2)$.", "(1,2)"),
    ("Damit ist der Punkt $(3,4)$.", "(3,4)"),
)
def test_the_last_formula_of_a_sentence_is_found_whole(text, expected):
    check(text, expected)


@table(
    ("the answer is 4 and", "4"),
    (r"\boxed{5} and so", "5"),
    (r"\boxed{12", None),
    ("So 3 + 4 = 7 and", None),
    ("The answer is", None),
    ("The answer is the", None),
    (r"The final answer is $\frac{3}{", None),
    ("The answer is 25. Let me check", "25"),
    ("The answer is $x + ", None),
    ("<answer>4</answer> because", "4"),
    ("<answer>4", None),
    ("The answer is New", None),
    ("The answer is 12", None),
    ("Answer: 3.", None),
    ("#### 1", None),
    ("#### 12\nNow", "12"),
    ("**Answer: 1", None),
    ("**Answer: 12** because", "12"),
    ("Die Antwort ist 4", None),
    ("Die Antwort ist 4, weil", "4"),
    ("Ответ: 1", None),
    ("答案是1", None),
    ("答案是12。因为", "12"),
    ("Therefore **7**", None),
    ("The answer is Paris. It", "Paris"),
    ("So the probability is 1/", None),
    ("The answer is 1/", None),
    ("The answer is -", None),
)
def test_a_truncated_text_never_gives_half_a_value(text, expected):
    check(text, expected, truncated=True)


@table(
    ("<think>\nMaybe the answer is 5. Wait, let me", None),
    (r"<think>so \boxed{3}", None),
    ("<think>x</think>The answer is 6.", "6"),
    ("<think>The answer is 5.</think>\n\n<think>no, the answer is 6", None),
    (r"so \boxed{3}</think> Thus 4.", "4"),
    ("<think>\nthe answer is 9\n</think>\n\n**9**", "9"),
    ("<thinking>the answer is 3", None),
    ("<think></think>The answer is 12.", "12"),
    (r"<think>so \boxed{3}</think>", None),
    ("[THINK]the answer is 3", None),
    ("[THINK]3[/THINK]The answer is 4.", "4"),
    ("<seed:think>the answer is 3", None),
    ("<seed:think>3</seed:think>The answer is 4.", "4"),
    ("<|channel|>analysis<|message|>the answer is 3", None),
    ("<|channel|>analysis<|message|>3<|end|><|start|>assistant<|channel|>final<|message|>The answer is 4.", "4"),
    ("<|im_start|>think\nthe answer is 3", None),
    ("<|im_start|>think\n3\n<|im_start|>answer\nThe answer is 4.", "4"),
    ("I think the answer is 5.", "5"),
    ("Let me think. 2 + 2 = 4.", "4"),
    ("<thought>the answer is 3", None),
    ("<reasoning>the answer is 3</reasoning> The answer is 4.", "4"),
    (r"<think>The answer is \boxed{27648}.</think> Given the problem of finding the", "27648"),
    (r"<think>The answer is \boxed{3}.</think> The value is 4.", "4"),
    ("If x < 3 then x > 2. The answer is 5.", "5"),
    ("◁think▷the answer is 3", None),
    ("◁think▷3◁/think▷The answer is 4.", "4"),
)
def test_an_unclosed_thought_holds_no_answer(text, expected):
    check(text, expected)


@pytest.mark.parametrize(
    "text",
    [
        "There is not enough information to answer question 7.",
        "No answer!",
        "N/A",
        "n/a.",
        "unknown",
        "Unknown.",
        "The answer is N/A.",
        "The answer is unknown.",
        "I don't know.",
        "I don’t know.",
        r"\boxed{\text{unknown}}",
        r"\boxed{?}",
        "Answer: no answer",
        "None of this can be determined from the 3 clues; I cannot answer.",
        "I'm sorry, but I can't help with that.",
        "As an AI language model, I cannot answer question 12.",
        "#### N/A",
        "<answer>unknown</answer>",
        "<answer>N/A</answer>",
        "Final answer: I am not sure.",
        "Ich weiß es nicht.",
        "Je ne sais pas.",
        "No lo sé.",
        "Não sei.",
        "Я не знаю.",
        "我不知道。",
        "わかりません。",
        "모르겠습니다.",
        "मुझे नहीं पता",
        "لا أعرف",
        "null",
        "...",
        "",
    ],
)
@pytest.mark.parametrize("kind", [Kind.auto, Kind.math, Kind.text, Kind.number, Kind.choice])
def test_an_abstention_never_votes(text, kind):
    check(text, None, kind)


SIX = {
    "en": "A hexagon has six sides.",
    "en digit": "A hexagon has 6 sides.",
    "en it": "It has 6.",
    "en marker": "The answer is six.",
    "de": "Ein Sechseck hat sechs Seiten.",
    "fr": "Un hexagone a six côtés.",
    "es": "Un hexágono tiene seis lados.",
    "pt": "Um hexágono tem seis lados.",
    "ru": "У шестиугольника шесть сторон.",
    "zh": "六边形有六条边。",
    "ja": "六角形には六つの辺があります。",
    "ko": "육각형의 변은 여섯 개입니다.",
    "ar": "للمسدس ستة أضلاع.",
    "hi": "षट्भुज की छह भुजाएँ होती हैं।",
}


@pytest.mark.parametrize("language", list(SIX))
def test_a_number_in_words_is_that_number_in_ten_languages(language):
    assert extract(SIX[language], Kind.number).key == "6"
    assert extract(SIX[language]).key == "6"


@table(
    ("12 is 15% of 80.", "12"),
    ("There are twelve months in a year.", "12"),
    ("She has twenty-five marbles.", "25"),
    ("There are one hundred and five of them.", "105"),
    ("So 18 eggs are left for her to sell.", "18"),
    ("Tom has 5 apples left after giving 3 away.", "5"),
    ("There are 7 days in a week, so 3 weeks have 21 days.", "21"),
    ("The answer is 25.Hmm", "25"),
    ("The answer is 25.Wait, let me check", "25"),
    ("The final answer is 7.I hope it is correct.", "7"),
    ("The answer is 35, in total.", "35"),
    ("The answer is 4!", "4"),
    ("The answer is 3...", "3"),
    ("The answer is 2.5.", "2.5"),
    ("The answer to question 3 is 12.", "12"),
    (r"The answer to part (b) is $\pi$.", r"\pi"),
    ("My answer of 5 was wrong; the total is 6.", "6"),
    ("The answer isn't 5, it's 6.", "6"),
    ("The answer should be an integer. 14/2 = 7.", "7"),
    ("We want the answer in meters: 300 cm = 3 m.", "3 m"),
    ("The final answer is not 4 but 5.", "5"),
    ("If the answer is 5, then x = 2, a contradiction. Hence x = 3.", "3"),
    ("The answer is less than 10. Counting gives 7.", "7"),
    ("Is the answer 5? No. It equals 6.", "6"),
    ("ANSWER: 5\n\n(Any answer written as 005 is acceptable.)", "5"),
    ("The answer is an integer between 000 and 999. The value is 12.", "12"),
    ("She earns $20 + $12 = $32.\nShe needs $70, so 42/70 = 0.6 times.", "0.6"),
    ("She makes $105 - $90 = $15 more by hiring an accountant.", "$15"),
    ("The total is 720 minutes / 4 = 180 minutes", "180 minutes"),
    ("A: 19", "19"),
    ("After simplification we get **17**.\n\nThis uses rule 3.", "17"),
    ("The total comes to **$45**, as shown in step 2.", "$45"),
    ("**Result: 64**\n\nNote 1: rounding.", "64"),
    ("Final Answer: The final answer is $4$. I hope it is correct.", "4"),
    ("[ANSWER] 5", "5"),
    ("answer → 12", "12"),
    ("Ans. 3", "3"),
    ("x = 7 ✅", "7"),
)
def test_a_sentence_around_a_number_is_that_number(text, expected):
    check(text, expected)


@table(
    ("Ответ: 3,5", "3.5"),
    ("Die Antwort ist 3,5.", "3.5"),
    ("La respuesta es 1.234,5.", "1234.5"),
    ("The answer is 1,234.", "1234"),
    ("Réponse : 2,75 m", "2.75"),
)
def test_a_decimal_comma_is_read_by_the_language_that_points(text, expected):
    check(text, expected)


CAPITAL = "What is the capital of France?"


@pytest.mark.parametrize(
    ("text", "expected", "question"),
    [
        ("The capital of France is Paris.", "Paris", CAPITAL),
        ("Paris", "Paris", CAPITAL),
        ("It is Paris.", "Paris", CAPITAL),
        ("**Paris** is the capital of France.", "Paris", CAPITAL),
        ("The answer is Paris.", "Paris", CAPITAL),
        ("The capital of France is **Paris**.", "Paris", CAPITAL),
        ("Paris is the capital of France.", "Paris", CAPITAL),
        ("The capital of France is Paris.", "Paris", ""),
        ("The capital of France, as everybody knows, is Paris.", "Paris", CAPITAL),
        ("The book was written by Jane Austen.", "Jane Austen", "Who wrote the book?"),
        ("Jane Austen wrote the book.", "Jane Austen", "Who wrote the book?"),
        ("Answer: Jane Austen", "Jane Austen", "Who wrote the book?"),
        ("Die Hauptstadt von Frankreich ist Paris.", "Paris", "Was ist die Hauptstadt von Frankreich?"),
        ("Die Antwort ist Paris.", "Paris", "Was ist die Hauptstadt von Frankreich?"),
        ("La capitale de la France est Paris.", "Paris", "Quelle est la capitale de la France ?"),
        ("La capital de Francia es París.", "París", "¿Cuál es la capital de Francia?"),
        ("A capital da França é Paris.", "Paris", "Qual é a capital da França?"),
        ("法国的首都是巴黎。", "巴黎", "法国的首都是哪里?"),
        ("答案是巴黎。", "巴黎", "法国的首都是哪里?"),
        ("Столица Франции — Париж.", "Париж", "Какой город столица Франции?"),
        ("Ответ: Париж", "Париж", "Какой город столица Франции?"),
        ("The largest planet is Jupiter, which is a gas giant.", "Jupiter", "What is the largest planet?"),
        ("The answer is blue because of scattering.", "blue", "What colour is the sky?"),
        (r"\boxed{\text{Paris}}", "Paris", CAPITAL),
        ("<answer>Paris</answer>", "Paris", CAPITAL),
        ("I don't know the capital of France.", None, CAPITAL),
        ("The capital is Canberra, not Sydney.", "Canberra", "What is the capital of Australia?"),
        ("The sky appears blue.", "blue", "What colour is the sky?"),
        ("The Pacific Ocean is the largest ocean on Earth.", "Pacific Ocean", "What is the largest ocean?"),
        ("The author is J. K. Rowling.", "J. K. Rowling", "Who is the author?"),
        ("The winner was Dr. Smith.", "Dr. Smith", "Who won?"),
        ("The games were hosted by Rio de Janeiro in 2016.", "Rio de Janeiro", "Which city hosted the games?"),
    ],
)
def test_a_name_is_what_the_sentence_adds_to_the_question(text, expected, question):
    kind = Kind.text if question else Kind.auto
    answer = extract(text, kind, question)
    if expected is None:
        assert answer is None
    else:
        assert answer is not None
        assert answer.key == canonical(expected, Kind.text)


@table(
    ('{"answer": 42}', "42"),
    ("{'answer': 42}", "42"),
    ('```json\n{"answer": "Paris"}\n```', "Paris"),
    ('I computed it. {"reasoning": "2+2", "answer": 4}', "4"),
    ('{"final_answer": "7/8"}', "7/8"),
    ('{"answer": "42",}', "42"),
    ('{"answer": [1, 2]}', "[1,2]"),
    ('{"answer": "\\\\frac{1}{2}"}', "1/2"),
    ('{"answer": -3.5}', "-3.5"),
    ('{"answer": "(2, 3)"}', "(2,3)"),
    ('{"Answer": 5}', "5"),
    ('{"answer": 1}\n{"answer": 2}', "2"),
    ('{"answer": ""}', None),
    ('{"answer": "N/A"}', None),
)
def test_the_field_of_an_object_is_an_answer(text, expected):
    check(text, expected)


@table(
    ("{'a': 1}", '{"a":1}'),
    ('{"a":1,}', '{"a":1}'),
    ('Here: ```json\n{"a": [1, 2]}\n```', '{"a":[1,2]}'),
    ("{\"a\": true, 'b': None}", '{"a":true,"b":null}'),
    ("no json here", None),
    ("[1, 2,]", "[1,2]"),
    ("{'it': \"it's\"}", '{"it":"it\'s"}'),
    ("{a: 1}", None),
    ("so {'x': [1, 'two', False]} it is", '{"x":[1,"two",false]}'),
)
def test_json_is_read_as_people_write_it(text, expected):
    answer = extract(text, Kind.json)
    assert (answer and json.loads(answer.key)) == (None if expected is None else json.loads(expected))


@table(
    ("```python\ndef f(x):\n    return x + 1\n```", "def f(x):\n    return x + 1"),
    ("Here it is:\n```python\nprint(7)\n```\nIt prints 7.", "print(7)"),
    ("First:\n```python\nx = 1\n```\nBetter:\n```python\nx = 2\n```", "x = 2"),
    ("```\nprint(7)\n```", "print(7)"),
    ("def f(x):\n    return x", "def f(x):\n    return x"),
)
def test_code_is_its_last_block(text, expected):
    answer = extract(text, Kind.code)
    assert answer is not None
    assert answer.text == expected


@pytest.mark.parametrize(
    "text",
    ["print(sum(range(10)))", "def f(x):\n    return x + 1", "```python\nprint(3)\n```", "for i in x: print(i)\n"],
)
def test_a_text_that_is_nothing_but_code_does_not_vote_its_last_digit(text):
    assert find(text).kind is Kind.code


def test_evidence_and_place_are_told():
    found = find("So 2 + 2 = 4.\nDie Antwort ist **42**.")
    assert found is not None
    assert (found.evidence, found.kind, found.answer.text) == (Evidence.marker, Kind.number, "42")
    assert "So 2 + 2 = 4.\nDie Antwort ist **42**."[found.start : found.end] == "42"
    assert find("It starts at 3:30 PM.").kind is Kind.time
    assert find(r"\boxed{x}").evidence is Evidence.box
    assert find("nothing of note here, or is there anything at all that one could call an answer in it; no") is None


def test_positions_count_from_the_start_of_the_whole_text():
    text = "<think>" + "long " * 5000 + r"</think> So \boxed{7}."
    found = find(text)
    assert text[found.start : found.end] == "7"


def cases():
    return [json.loads(line) for line in PROXY.read_text(encoding="utf-8").splitlines()]


def holds(case) -> bool:
    kind = AnswerKind(case["kind"])
    answer = extract(case["text"], kind, case["question"], truncated=case["truncated"])
    expected = case["expected"]
    if answer is None or expected is None:
        return answer is None and (expected is None or case.get("or_none", False))
    keys = {canonical(expected, each) for each in (kind, Kind.text, Kind.yes_no, Kind.json, Kind.code)}
    return answer.key in keys or agree(answer.key, expected)


def test_the_open_cases_hold():
    held = [case for case in cases() if holds(case)]
    assert len(held) >= 0.95 * len(cases())
