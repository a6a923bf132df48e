r"""Formulas as trees: a small parser of LaTeX and of plain typing, exact and without any algebra.

What it cannot read it refuses (`ReadError`); it never guesses. Reading is linear in a capped length, and depth is
capped, so that no text is expensive. Juxtaposition is a product, `f(x)` of a letter among `f`, `g`, `h` an application,
and `3\frac{1}{2}` a mixed number. `log` is the natural one unless it has a base.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from fractions import Fraction

from thinkscale.answers.tokens import ALIASES, FUNCTIONS, ReadError, tokens

_MAX_DEPTH = 40
_MAX_DIGITS = 200

_GREEK = re.compile(
    "alpha|beta|gamma|delta|epsilon|varepsilon|zeta|eta|theta|vartheta|iota|kappa|lambda|mu|nu|xi|rho|sigma|tau|upsilon"
    "|phi|varphi|chi|psi|omega|Gamma|Delta|Theta|Lambda|Xi|Sigma|Upsilon|Phi|Psi|Omega|hbar|ell"
)
_STARTS = frozenset({"number", "word", "(", "{", "|", "[", "\\"})
_CLOSERS = frozenset(
    {"\\rfloor", "\\rceil", "\\rvert", "\\right", "\\cdot", "\\times", "\\div", "\\pm", "\\mp", "\\ast"}
)


@dataclass(frozen=True, slots=True)
class Node:
    """A number, a name, or an operation on other nodes."""

    op: str
    """`number`, `name`, `+`, `-`, `*`, `/`, `^`, `neg`, `!`, `pm`, `call` or the name of a function."""
    parts: tuple[Node, ...] = ()
    value: Fraction = Fraction(0)
    name: str = ""


def parse(text: str) -> Node:
    """The tree of one formula without relation signs or separators.

    Raises:
        ReadError: the text is something else, or longer or deeper than is read.
    """
    reader = _Reader(tokens(text))
    node = reader.sum()
    if reader.at < len(reader.tokens):
        raise ReadError(f"`{reader.tokens[reader.at][1]}` was not expected")
    return node


def number(value: int | Fraction) -> Node:
    """A number as a tree."""
    return Node("number", value=Fraction(value))


def names(node: Node) -> frozenset[str]:
    """The variables of a formula."""
    if node.op == "name":
        return frozenset({node.name})
    return frozenset().union(*map(names, node.parts))


class _Reader:
    """Recursive descent over the tokens of one formula."""

    def __init__(self, tokens: list[tuple[str, str]]) -> None:
        self.tokens, self.at, self.depth, self.bars = tokens, 0, 0, 0

    def peek(self) -> str:
        return self.tokens[self.at][1] if self.at < len(self.tokens) else ""

    def kind(self) -> str:
        kind = self.tokens[self.at][0] if self.at < len(self.tokens) else ""
        return "\\" if kind.startswith("\\") and len(kind) > 1 else kind

    def take(self) -> str:
        if self.at >= len(self.tokens):
            raise ReadError("the formula breaks off")
        self.at += 1
        return self.tokens[self.at - 1][1]

    def expect(self, *wanted: str) -> None:
        if self.take() not in wanted:
            raise ReadError(f"`{wanted[0]}` is missing")

    def sum(self) -> Node:
        self.depth += 1
        if self.depth > _MAX_DEPTH:
            raise ReadError("the formula is too deep")
        node = self._signed()
        while self.peek() in ("+", "-", "\\pm", "\\mp"):
            sign, right = self.take(), self._product()
            node = Node({"\\pm": "pm", "\\mp": "pm"}.get(sign, sign), (node, right))
        self.depth -= 1
        return node

    def _signed(self) -> Node:
        if self.peek() in ("\\pm", "\\mp"):
            self.take()
            return Node("pm", (number(0), self._product()))
        return self._product()

    def _product(self) -> Node:
        node = self._unary()
        while True:
            sign = self.peek()
            if sign in ("*", "\\cdot", "\\times", "\\ast"):
                self.take()
                node = Node("*", (node, self._unary()))
            elif sign in ("/", "\\div"):
                self.take()
                node = Node("/", (node, self._unary()))
            elif self._goes_on():
                node = self._beside(node)
            else:
                return node

    def _goes_on(self) -> bool:
        kind, sign = self.kind(), self.peek()
        if kind not in _STARTS or (sign == "|" and self.bars):
            return False
        return sign not in _CLOSERS

    def _beside(self, node: Node) -> Node:
        # Two numbers side by side are no product: `2 3` is a typing error, `3 1/2` a mixed number.
        start = self.at
        right = self._unary()
        if node.op == "number" and self.tokens[start][0] == "number":
            if self._is_mixed(node, right) and self.peek() == "/":
                self.take()
                under = self._unary()
                if self._is_mixed(node, under):
                    return Node("+", (node, Node("/", (right, under))))
            raise ReadError("two numbers stand side by side")
        if node.op == "number" and self.tokens[start][1] in ("\\frac",) and right.op == "/":
            above, below = right.parts
            if self._is_mixed(node, above) and self._is_mixed(node, below) and above.value < below.value:
                return Node("+", (node, right))
        return Node("*", (node, right))

    @staticmethod
    def _is_mixed(whole: Node, part: Node) -> bool:
        return part.op == "number" and part.value.denominator == whole.value.denominator == 1

    def _unary(self) -> Node:
        negative = False
        while self.peek() in ("+", "-"):
            negative ^= self.take() == "-"
        node = self._power()
        return Node("neg", (node,)) if negative else node

    def _power(self) -> Node:
        node = self._postfix(self._atom())
        if self.peek() in ("^", "**"):
            self.take()
            if self.peek() in ("\\circ", "°") or self._is_circle():
                self._skip_circle()
                return self._postfix(Node("*", (node, Node("/", (Node("name", name="\\pi"), number(180))))))
            return self._postfix(Node("^", (node, self._exponent())))
        return node

    def _is_circle(self) -> bool:
        return [t for _, t in self.tokens[self.at : self.at + 3]] == ["{", "\\circ", "}"]

    def _skip_circle(self) -> None:
        self.at += 3 if self._is_circle() else 1

    def _exponent(self) -> Node:
        # A sign belongs to the exponent, and powers of powers lean to the right.
        self.depth += 1
        if self.depth > _MAX_DEPTH:
            raise ReadError("the formula is too deep")
        if self.peek() == "-":
            self.take()
            node = Node("neg", (self._exponent(),))
        else:
            node = self._power()
        self.depth -= 1
        return node

    def _postfix(self, node: Node) -> Node:
        while self.peek() in ("!", "°", "%", "\\%", "\\circ", "\\degree"):
            sign = self.take()
            if sign == "!":
                node = Node("!", (node,))
            elif sign in ("%", "\\%"):
                node = Node("/", (node, number(100)))
            else:
                node = Node("*", (node, Node("/", (Node("name", name="\\pi"), number(180)))))
        return node

    def _atom(self) -> Node:
        kind, text = self.kind(), self.take()
        if kind == "number":
            return self._number(text)
        if kind == "word":
            return self._name(text)
        if text in ("(", "{", "["):
            bars, self.bars = self.bars, 0
            node = self.sum()
            self.bars = bars
            self.expect({"(": ")", "{": "}", "[": "]"}[text])
            return node
        if text == "|":
            self.bars += 1
            node = self.sum()
            self.bars -= 1
            self.expect("|")
            return Node("abs", (node,))
        if text[0] == "\\":
            return self._command(text[1:])
        raise ReadError(f"`{text}` was not expected")

    @staticmethod
    def _number(text: str) -> Node:
        if len(text) > _MAX_DIGITS:
            raise ReadError("the number has too many digits")
        return Node("number", value=Fraction(text.rstrip(".")))

    def _command(self, name: str) -> Node:
        if name in ("frac", "dfrac", "tfrac", "cfrac"):
            above = self._argument()
            return Node("/", (above, self._argument()))
        if name in ("binom", "dbinom", "tbinom"):
            above = self._argument()
            return Node("binom", (above, self._argument()))
        if name == "sqrt":
            return self._root()
        closers = {"lfloor": "\\rfloor", "lceil": "\\rceil", "lvert": "\\rvert", "{": "\\}"}
        if name in closers:
            node = self.sum()
            self.expect(closers[name])
            return {"lfloor": Node("floor", (node,)), "lceil": Node("ceil", (node,)), "{": node}.get(
                name, Node("abs", (node,))
            )
        if name in FUNCTIONS or name in ALIASES:
            return self._function(ALIASES.get(name, name))
        if name in (
            "text",
            "mathrm",
            "mathbf",
            "mathit",
            "operatorname",
            "textbf",
            "mathcal",
            "mathbb",
            "vec",
            "overline",
        ):
            return self._styled(name)
        if name in ("dot", "ddot", "hat", "bar", "tilde"):
            inner = self._argument()
            if inner.op != "name":
                raise ReadError(f"`\\{name}` is read on names only")
            return self._name(f"\\{name} {inner.name}")
        if name in ("pi", "infty"):
            return Node("name", name="\\" + name)
        if _GREEK.fullmatch(name):
            return self._name("\\" + name)
        raise ReadError(f"`\\{name}` is not read")

    def _styled(self, name: str) -> Node:
        self.expect("{")
        inner = ""
        while self.peek() not in ("}", ""):
            inner += self.take()
        self.expect("}")
        if name == "overline" or not inner.isalnum() or len(inner) > 12:
            raise ReadError(f"`\\{name}` is not read")
        if inner in FUNCTIONS:
            return self._function(inner)
        return self._name(inner if name not in ("vec", "mathcal", "mathbb") else f"\\{name} {inner}")

    def _root(self) -> Node:
        if self.peek() == "[":
            self.take()
            degree = self.sum()
            self.expect("]")
            return Node("^", (self._argument(), Node("/", (number(1), degree))))
        return Node("sqrt", (self._argument(),))

    def _argument(self) -> Node:
        # What follows a command: a group, or one sign; `\frac12` has two arguments of one digit.
        if self.kind() == "number" and len(self.peek()) > 1 and self.peek().isdigit():
            text = self.tokens[self.at][1]
            self.tokens[self.at] = ("number", text[1:])
            return number(int(text[0]))
        return self._atom()

    def _function(self, name: str) -> Node:
        power: Node | None = None
        base: Node | None = None
        while self.peek() in ("^", "_"):
            if self.take() == "^":
                power = self._exponent_of_function()
            else:
                base = self._argument()
        node = Node(name, (self._operand(), *([base] if base else [])))
        if power is None:
            return node
        if power.op == "neg" and name in ("sin", "cos", "tan"):
            return Node("arc" + name, node.parts)
        return Node("^", (node, power))

    def _exponent_of_function(self) -> Node:
        if self.peek() == "-":
            raise ReadError("the exponent of a function is not closed")
        return self._argument()

    def _operand(self) -> Node:
        # `\sin 2x \cos x` is a product of two: an operand without brackets ends at the next function or sign.
        if self.peek() in ("(", "{", "["):
            return self._power_free()
        if self.peek() == "-":
            self.take()
            return Node("neg", (self._operand(),))
        node = self._power()
        while self.kind() in ("number", "word", "\\") and self._goes_on() and self.peek()[1:] not in FUNCTIONS:
            node = Node("*", (node, self._power()))
        return node

    def _power_free(self) -> Node:
        return self._atom()

    def _name(self, name: str) -> Node:
        primes = ""
        if self.peek() == "_":
            self.take()
            name += "_" + self._subscript()
        while self.peek() == "'":
            primes += self.take()
        name += primes
        if name in ("f", "g", "h") and self.peek() == "(" and self._closes():
            return Node("call", (self._atom(),), name=name)
        return Node("name", name=name)

    def _closes(self) -> bool:
        return any(t == ")" for _, t in self.tokens[self.at :])

    def _subscript(self) -> str:
        text = self.take()
        if text != "{":
            return text
        inner = ""
        while self.peek() not in ("}", ""):
            inner += self.take()
        self.expect("}")
        return inner
