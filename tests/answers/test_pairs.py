"""Pairs of answers that are one (`~`) and that are not (`≠`), by the kind of fault that each guards against."""

from __future__ import annotations

import json
import os
from pathlib import Path

import pytest

from thinkscale.answers.algebra import Verdict
from thinkscale.answers.canonical import canonical
from thinkscale.answers.compare import compare
from thinkscale.types import AnswerKind

PROXY = Path(__file__).with_name("proxy_pairs.jsonl")

MERGES = r"""
x^2+y^2=1 ≠ 1
x-y=1 ≠ 1
x^2+y^2=1 ≠ x-y=1
(3,1) ≠ (1,3)
(3,1) ≠ \{1,3\}
(1,3) ≠ \{1,3\}
[1,3] ≠ (1,3)
[1,3) ≠ (1,3]
x=1, y=2 ≠ x=2, y=1
x=1, y=2 ~ y=2, x=1
x=1, x=2 ~ 1, 2
1000-400=600 ≠ 1000-390=610
1000-400=600 ~ 600
12*5=60 ~ 30+30=60
2+2=5 ≠ 5
2+2=5 ≠ 4
\frac{1}{2^{90}} ≠ \frac{1}{2^{89}}
10^{-40} ≠ 0
10^{-40} ≠ 10^{-41}
2^{200} ≠ 2^{200}+1
x=5 ~ 5
a_n=2n+1 ~ 2n+1
y=2x+1 ~ 2x+1
y=2x+1 ≠ y=2x-1
y=x+3 ~ y-x=3
2x=10 ≠ 10
|x|=3 ≠ x=3
\sqrt{x^2} ≠ x
\sqrt{x^2} ~ |x|
e^{-40} ≠ 0
2x+4y=6 ~ x+2y=3
x<3 ≠ x>3
x<3 ~ 3>x
(1,2),(3,4) ≠ (1,2,3,4)
\{1,2\},\{3\} ≠ \{1,2,3\}
"""
SIGNS = r"""
-5 ≠ 5 @ text
3.14 ≠ 314 @ text
C++ ≠ C @ text
C# ≠ C @ text
F# ≠ F @ text
x>5 ≠ x<5 @ text
1/12/2020 ≠ 11/2/2020 @ text
vitamin A ≠ vitamin @ text
vitamin A ≠ vitamin B @ text
plan B ≠ plan @ text
.NET ≠ NET @ text
AC/DC ≠ ACDC @ text
A+ ≠ A @ text
A- ≠ A+ @ text
H2O ≠ H2O2 @ text
50% ≠ 50 @ text
$5 ≠ 5 @ text
@home ≠ home @ text
#1 ≠ 1 @ text
R&D ≠ RD @ text
no. 7 ≠ no. 8 @ text
re-cover ≠ recover @ text
Jean-Luc ≠ Jean Luc @ text
C++ ~ c++. @ text
The Eiffel Tower ~ eiffel tower! @ text
"Paris" ~ Paris @ text
« Paris » ~ Paris @ text
„Berlin“ ~ Berlin @ text
東京。 ~ 東京 @ text
¿Madrid? ≠ Barcelona @ text
Straße ~ STRASSE @ text
Кошка ~ кошка. @ text
Paris, France ~ Paris France @ text
a cat ~ cat @ text
an apple ~ Apple @ text
"""
SENTENCES = r"""
Yes, 17 is prime. ≠ No, 17 is not prime.
Yes, 17 is prime. ~ Yes
Yes ~ yes!
No, because 12 is even. ~ No
Yes, 17 is prime. ≠ 17
True ~ true
False ≠ True
Ja, 17 ist eine Primzahl. ~ Ja @ yes-no
Nein, 17 ist keine. ≠ Ja @ yes-no
Oui, 17 est premier. ~ Yes @ yes-no
Non ≠ Oui @ yes-no
Sí, es primo. ~ Sí @ yes-no
Да, это так. ~ Да @ yes-no
Нет ≠ Да @ yes-no
是的 ~ 是 @ yes-no
不是 ≠ 是 @ yes-no
はい、そうです ~ はい @ yes-no
いいえ ≠ はい @ yes-no
네 ≠ 아니요 @ yes-no
نعم ≠ لا @ yes-no
हाँ ≠ नहीं @ yes-no
Sim ≠ Não @ yes-no
3:30 PM ≠ 30
3:30 PM ~ 15:30
three ~ 3
twenty-one ~ 21
two hundred and six ~ 206
sechs ~ 6
cinquenta ~ 50
сорок ~ 40
二十一 ~ 21
一千零五 ~ 1005
18 eggs left ~ 18
two thirds ~ 2/3
a half ~ 0.5
three and a half ~ 3.5
three quarters ≠ 3
7 apples ≠ 8 apples
thirty ≠ thirteen
"""
FORMULAS = r"""
(7,6) ≠ 6
x \geq 5 ≠ 5
x \geq 5 ~ x≥5
x \geq 5 ~ [5,\infty)
x>5 ~ (5,\infty)
-1<x\le 4 ~ (-1,4]
4\ge x>-1 ~ (-1,4]
|x|<2 ~ (-2,2)
2x-6>0 ~ x>3
x<1 or x>2 ~ (-\infty,1)\cup(2,\infty)
x<1 or x>2 ≠ 1<x<2
|x|>2 ~ (-\infty,-2)\cup(2,\infty)
\{x \mid x > 3\} ~ x>3
\mathbb{R} ~ (-\infty,\infty)
\langle 1,2\rangle ~ (1,2)
{7 \choose 2} ~ 21
\frac{\sqrt{6}-\sqrt{2}}{4} ~ \sin 15^\circ
52_8 ≠ 42
52_8 ~ 52_{8}
\begin{pmatrix}1&2\\3&4\end{pmatrix} ≠ 4
\begin{pmatrix}1\\2\end{pmatrix} ~ \begin{bmatrix} 1 \\ 2 \end{bmatrix}
\begin{pmatrix}1\\2\end{pmatrix} ≠ \begin{pmatrix}2\\1\end{pmatrix}
\begin{pmatrix}\frac12&0\\0&\sqrt4\end{pmatrix} ~ \begin{pmatrix}0.5&0\\0&2\end{pmatrix}
\begin{vmatrix}2&1\\1&3\end{vmatrix} ~ 5
(x+1)^3 ~ x^3+3x^2+3x+1
(x+1)^3 ≠ x^3+1
\frac{x^3-1}{x-1} ~ x^2+x+1
\sin(a+b) ~ \sin a\cos b+\cos a\sin b
\sin(a+b) ≠ \sin a+\sin b
\cos 2t ~ 1-2\sin^2 t
\tan^2 x+1 ~ \sec^2 x
\ln(xy) ~ \ln x+\ln y
\ln(x+y) ≠ \ln x+\ln y
\sqrt{xy} ~ \sqrt{x}\sqrt{y}
\sqrt{x+y} ≠ \sqrt{x}+\sqrt{y}
2^{n+3} ~ 8\cdot 2^n
n! ≠ (n-1)!
(n+1)! ~ (n+1)n!
\binom{n}{1} ~ n
\frac{1}{1+\sqrt2} ~ \sqrt2-1
\sqrt{3+2\sqrt2} ~ 1+\sqrt2
(1+i)^2 ~ 2i
e^{i\pi} ~ -1
3+4i ≠ 3-4i
x_1+x_2 ≠ x_1+x_3
\alpha\beta ~ \beta\alpha
A ≠ B
\pm\sqrt{2} ~ \sqrt2, -\sqrt2
3 \pm 1 ~ 4, 2
(-\infty,0)\cup(0,\infty) ~ (0,\infty)\cup(-\infty,0)
"""
DECIMALS = r"""
\sqrt{2} ~ 1.41421356
\sqrt{2} ~ 1.4142
\sqrt{2} ≠ 1.4143
\sqrt{2} ≠ 1.4
\frac{1}{12} ~ 0.0833333333333333
\frac{1}{12} ~ 0.08333
\frac{1}{12} ≠ 0.08
\frac{1}{12} ≠ 0.08334
\frac{2}{3} ~ 0.66667
\frac{2}{3} ≠ 0.66666
\frac{2}{3} ≠ 0.67
\pi ~ 3.14159
\pi ≠ 3.14
\pi ≠ 3.15
\frac{22}{7} ≠ \pi
\ln 2 ~ 0.693147
e^2 ~ 7.389056
100\pi ~ 314.159265
1.5 ~ \frac{3}{2}
1.50 ~ 1.5
1.5000 ~ 1.5
0.125 ~ \frac18
0.33 ≠ 0.333
0.3333 ≠ 0.33333
1.41421 ≠ 1.41422
2.0 ~ 2
2.000001 ≠ 2
19.99 ≠ 20
3333.33 ≠ 3333.34
\frac{10000}{3} ~ 3333.3333
0.\overline{6} ~ \frac23
0.1\overline{3} ~ \frac{2}{15}
"""
LOCALES = r"""
1 234 567 ~ 1234567
1'234 ~ 1234
1’234’567 ~ 1234567
12,34,567 ~ 1234567
1.234.567 ~ 1234567
1.234,5 ~ 1234.5
1 234,5 ~ 1234.5
1,234.5 ~ 1234.5
1.5k ~ 1500
¼ ~ 0.25
2¾ ~ 2.75
6.02×10²³ ~ 6.02e23
10⁻³ ~ 0.001
١٢٣ ~ 123
१२३ ~ 123
１２３ ~ 123
3 million ~ 3000000
3 万 ~ 30000
5 km ~ 5000 m
5 km ≠ 5 m
$5 ≠ 5 cents
$5 ~ 500 cents
$5 ~ 5 dollars
€5 ≠ $5
50% ~ 0.5
50% ≠ 0.05
50\% ~ \frac12
12.5% ~ 1/8
90° ~ 90 degrees
\frac{\pi}{6} ~ 30^\circ
25^\circ\text{C} ~ 25 degrees Celsius
10 cm ~ 10
10 cm ≠ 11
2 hours ~ 120 min
2 Stunden ~ 120 Minuten
5 километров ~ 5 km
3米 ~ 3 m
10 cm^2 ≠ 10 cm
1 m^2 ~ 10000 cm^2
60 km/h ~ 1 km/min
36 km/h ~ 10 m/s
2 hours 30 minutes ~ 150 minutes
2 hours and 30 minutes ~ 2.5 hours
1 m 20 cm ~ 120 cm
2 hours 30 minutes ≠ 2 hours
3\pi cm^2 ~ 3\pi
3\pi \text{ cm}^2 ≠ 3\pi \text{ cm}
3 \text{ kg} ~ 3000 g
1,234 ≠ 1, 234
1.234 ≠ 1234
"""
DATES = r"""
05/01/2021 ≠ 10/02/2021
05/01/2021 ≠ 5/2021
05/01/2021 ~ May 1, 2021
05/01/2021 ~ January 5, 2021
05/01/2021 ≠ June 1, 2021
25/12/2020 ~ December 25, 2020
12/25/2020 ~ 25 December 2020
May 1, 2021 ~ 1 May 2021
May 1, 2021 ≠ May 1, 2020
May 1, 2021 ≠ May 11, 2021
May 1st, 2021 ~ 2021-05-01
2021/5/1 ~ 2021-05-01
1. Mai 2021 ~ 2021-05-01
1er mai 2021 ~ 2021-05-01
1 de mayo de 2021 ~ 2021-05-01
1 de maio de 2021 ~ 2021-05-01
1 мая 2021 ~ 2021-05-01
2021年5月1日 ~ 2021-05-01
2021년 5월 1일 ~ 2021-05-01
Saturday, May 1, 2021 ~ 1 May 2021
31.12.1999 ~ December 31, 1999
March 3 ~ 3 March
March 3 ≠ March 4
March 3 ~ March 3, 1999
3 PM ~ 15:00
3 PM ≠ 3 AM
3:05 ≠ 3:50
noon ~ 12:00 PM
midnight ~ 00:00
15h30 ~ 3:30 pm
下午3点30分 ~ 15:30
午後3時30分 ~ 15:30
12:00 AM ≠ noon
3:30 ~ 3:30 PM
"""
SMALL = r"""
{"answer": 42} ~ {"answer":42}
{"answer": 42} ≠ 42
{'a': 1} ~ {"a": 1} @ json
{"a":1,} ~ {"a":1} @ json
{"a":1,"b":[1,2]} ~ {"b":[1.0,2],"a":1} @ json
{"a":1,"b":[1,2]} ≠ {"b":[2,1],"a":1} @ json
{'a': True} ~ {"a": true} @ json
{"a": "1"} ≠ {"a": 1} @ json
{"a": "x y"} ≠ {"a": "xy"} @ json
[1, 2] ~ [1,2,] @ json
{"a": null} ≠ {"a": 0} @ json
{"ä": 1} ~ {"\u00e4": 1} @ json
{"a": {"b": 1}} ≠ {"a": {"c": 1}} @ json
x = 1 ~ x=1 @ code
x = 1  # one ~ x = 1 @ code
f(a, b) ~ f( a,b ) @ code
f(a, b) ≠ f(b, a) @ code
return x+1 ≠ return x-1 @ code
print('a') ~ print("a") @ code
x = "a b" ≠ x = "ab" @ code
if a: b() ≠ if a: c() @ code
a // b ≠ a / b @ code
a == b ≠ a = b @ code
x = 10 ≠ x = 1 @ code
int x = 1; // one ~ int x=1; @ code
SELECT a FROM t ≠ SELECT b FROM t @ code
(B) ~ B @ choice
B. Market penetration ~ B @ choice
B ≠ D @ choice
A, C ~ C and A @ choice
A, C ≠ A @ choice
b ~ B @ choice
None ≠ 0
\emptyset ~ \{\}
\text{Even} ~ even
"""
TABLES = {
    "a verdict never spreads": MERGES,
    "signs that matter stay in words": SIGNS,
    "a sentence is not its last number": SENTENCES,
    "a formula is what it says": FORMULAS,
    "a decimal is a rounding of what it rounds": DECIMALS,
    "numbers and units of the world": LOCALES,
    "dates and times": DATES,
    "structured answers": SMALL,
}


def rows(table: str) -> list[tuple[AnswerKind, str, str, bool]]:
    found = []
    for line in filter(None, table.splitlines()):
        pair, _, kind = line.partition(" @ ")
        same = " ~ " in pair
        first, second = pair.split(" ~ " if same else " ≠ ")
        found.append((AnswerKind(kind or "auto"), first, second, same))
    return found


@pytest.mark.parametrize("guarantee", TABLES)
async def test_pairs_come_out_as_a_reader_expects_in_both_directions(guarantee: str):
    wrong = []
    for kind, first, second, same in rows(TABLES[guarantee]):
        keys = canonical(first, kind), canonical(second, kind)
        for a, b in (keys, keys[::-1]):
            if ((await compare(a, b, kind)).verdict is Verdict.same) != same:
                wrong.append((first, second, keys))
    assert not wrong
    assert len(rows(TABLES[guarantee])) >= 25


async def test_the_open_proxy_comes_out_as_expected():
    lines = [json.loads(line) for line in PROXY.read_text(encoding="utf-8").splitlines()]
    right = {0: 0, 1: 0}
    for line in lines:
        kind = AnswerKind(line["kind"])
        found = await compare(canonical(line["a"], kind), canonical(line["b"], kind), kind)
        right[line["half"]] += (found.verdict is Verdict.same) == (line["expected"] == "same")
    assert len(lines) >= 300
    assert right[0] >= 204
    assert right[1] >= 195


@pytest.mark.skipif("THINKSCALE_DATA" not in os.environ, reason="needs the development data")
def test_the_published_cases_in_the_tests_are_those_of_the_development_data():
    theirs = Path(os.environ["THINKSCALE_DATA"]) / "equivalence"
    ours = Path(__file__).parents[1] / "data" / "equivalence"
    assert {p.name for p in theirs.glob("*.gz")} <= {p.name for p in ours.glob("*.gz")}
