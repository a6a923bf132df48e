r"""The parts of written keys: items of lists, sides of relations, cells of matrices. It splits; it computes nothing."""

from __future__ import annotations

import re
from itertools import permutations

from thinkscale.answers.canonical import is_expression
from thinkscale.answers.formula import Node, number
from thinkscale.answers.tokens import ReadError
from thinkscale.types import AnswerKind

_MAX_CELLS = 64
_MAX_DETERMINANT = 4
_BRACKET = re.compile(r"\\(?:begin|end)\{[a-z]+\*?\}|[()\[\]{}]")
_SIGNS = {
    "=": "=",
    "<": "<",
    ">": ">",
    r"\le": "<=",
    r"\ge": ">=",
    r"\ne": "!=",
    r"\lt": "<",
    r"\gt": ">",
    "<=": "<=",
    ">=": ">=",
}
_RELATION = re.compile(r"<=|>=|[=<>]|\\(?:le|ge|ne|lt|gt)(?![A-Za-z])")
_STRANGE = re.compile(
    r"\\(?:equiv|approx|sim|mid|subset|subseteq|implies|iff|Rightarrow|to|mapsto|in|notin)(?![A-Za-z])|(?<![0-9A-Za-z]):="
)
_MATRIX = re.compile(
    r"[\[(]?\\begin\{([pbvBV]?matrix|array|smallmatrix)\}(?:\{[clr|]*\})?(.*?)\\end\{\1\}[\])]?", re.DOTALL
)
_NAME = re.compile(r"(?:[A-Za-z]|\\[a-zA-Z]+)(?:_(?:[0-9A-Za-z]|\{[^{}]*\}))?'*")
_VARIABLE = re.compile(_NAME.pattern + r"(?:\([A-Za-z]\))?")
_ASSIGNED = re.compile(
    r"((?:[A-Za-z]{1,3}|\\[a-zA-Z]+)(?:_(?:[0-9A-Za-z]|\{[^{}]*\}))?'*(?:\([A-Za-z0-9]\))?)=([^=<>]+)"
)
_FORMAL = re.compile(r"\\[A-Za-z]+|[\^_=<>]")


def split(text: str, separator: str) -> list[str]:
    """The parts between separators that stand outside every bracket; empty parts are dropped."""
    parts, depth, start = [], 0, 0
    for m in re.finditer(_BRACKET.pattern + "|" + re.escape(separator), text):
        if m[0] == separator:
            if depth <= 0:
                parts.append(text[start : m.start()])
                start = m.end()
        else:
            depth += 1 if m[0] in "([{" or m[0].startswith(r"\begin") else -1
    parts.append(text[start:])
    return [part.strip() for part in parts if part.strip()]


def split_at(text: str, command: str) -> list[str]:
    """The parts between a command that stands outside every bracket."""
    return split(text, command) if command in text else [text]


def is_closed(text: str) -> bool:
    """Whether the first bracket is closed by the last character; `[1,2)` counts, `(1)(2)` does not."""
    if len(text) < 2 or text[0] not in "([{" or text[-1] not in ")]}" or (text[0] == "{") != (text[-1] == "}"):
        return False
    depth = 0
    for m in re.finditer(r"[()\[\]{}]", text):
        depth += 1 if m[0] in "([{" else -1
        if depth == 0:
            return m.end() == len(text)
    return False


def relation(text: str) -> tuple[list[str], list[str]] | None:
    """The sides of a relation and the signs between them, or `None` where there is no sign outside brackets.

    Raises:
        ReadError: it has a sign that is not read.
    """
    if _STRANGE.search(text):
        raise ReadError("a relation that is not read")
    sides, signs, depth, start = [], [], 0, 0
    for m in re.finditer(_BRACKET.pattern + "|" + _RELATION.pattern, text):
        if m[0] in _SIGNS:
            if depth <= 0:
                sides.append(text[start : m.start()])
                signs.append(_SIGNS[m[0]])
                start = m.end()
        else:
            depth += 1 if m[0] in "([{" or m[0].startswith(r"\begin") else -1
    if not signs:
        return None
    sides.append(text[start:])
    if len(signs) > 4 or not all(side.strip() for side in sides):
        raise ReadError("a side of a relation is missing")
    return [side.strip() for side in sides], signs


def matrix(text: str) -> tuple[str, list[list[str]]] | None:
    """The environment of a matrix and its cells, row by row, or `None`."""
    m = _MATRIX.fullmatch(text)
    if m is None:
        return None
    rows = [[cell.strip() for cell in row.split("&")] for row in m[2].split("\\\\") if row.strip(" \\")]
    if (
        not rows
        or len({len(row) for row in rows}) != 1
        or len(rows) * len(rows[0]) > _MAX_CELLS
        or not all(map(all, rows))
    ):
        raise ReadError("a matrix without a cell")
    return m[1], rows


def determinant(cells: list[list[Node]]) -> Node:
    """The determinant of a small square matrix.

    Raises:
        ReadError: it is not square, or larger than four by four.
    """
    size = len(cells)
    if size > _MAX_DETERMINANT or any(len(row) != size for row in cells):
        raise ReadError("a determinant that is not computed")
    total = number(0)
    for order in permutations(range(size)):
        odd = sum(order[i] > order[j] for i in range(size) for j in range(i + 1, size)) % 2
        term = cells[0][order[0]]
        for row in range(1, size):
            term = Node("*", (term, cells[row][order[row]]))
        total = Node("-" if odd else "+", (total, term))
    return total


def both_signs(node: Node) -> list[Node]:
    r"""The formula with plus and with minus for every `\pm` in it, or the formula itself where there is none."""
    if not _has_sign(node):
        return [node]
    return [_put_sign(node, "+"), _put_sign(node, "-")]


def _has_sign(node: Node) -> bool:
    return node.op == "pm" or any(map(_has_sign, node.parts))


def _put_sign(node: Node, sign: str) -> Node:
    parts = tuple(_put_sign(part, sign) for part in node.parts)
    return Node(sign if node.op == "pm" else node.op, parts, node.value, node.name)


def assignment(text: str) -> tuple[str, str] | None:
    """The name and the value of `x=5`, or `None`."""
    m = _ASSIGNED.fullmatch(text)
    return (m[1], m[2]) if m else None


def is_name(text: str) -> bool:
    """Whether a side of an equation is a bare name."""
    return _NAME.fullmatch(text) is not None and text not in ("e", "i", r"\pi")


def is_variable(text: str) -> bool:
    """Whether a text is a variable or a function of one."""
    return _VARIABLE.fullmatch(text) is not None


def is_argument(text: str) -> bool:
    r"""Whether a text ends within a function, as `\\sin 15`, whose degrees belong to the argument."""
    return re.search(r"\\(?:sin|cos|tan|cot|sec|csc)(?![a-z])[^+\-=]*$", text) is not None


def is_inequality(text: str) -> bool:
    """Whether a text has a sign of order: it bounds something."""
    return re.search(r"[<>]|\\(?:le|ge|lt|gt)(?![A-Za-z])", text) is not None


def is_distance(text: str) -> bool:
    """Whether a side of a relation is the distance of a variable from 0, `|x|`."""
    return len(text) > 2 and text[0] == text[-1] == "|" and _NAME.fullmatch(text[1:-1]) is not None


def infinite(text: str) -> str | None:
    """`inf` or `-inf` where a text is infinity."""
    return {r"\infty": "inf", r"+\infty": "inf", r"-\infty": "-inf"}.get(text)


def is_formal(text: str) -> bool:
    """Whether a text that was not read is a formula all the same."""
    return _FORMAL.search(text) is not None and is_expression(text)


def kind_of_signs(text: str) -> AnswerKind:
    """The kind of a formula that was not computed, by its signs."""
    if _RELATION.search(text) or _STRANGE.search(text):
        return AnswerKind.relation
    return AnswerKind.list if len(split(text, ",")) > 1 or is_closed(text) else AnswerKind.expression
