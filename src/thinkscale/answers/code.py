"""Code compared as code: by its tokens and its blocks, not by its blanks, its quotes and its comments.

It is a reader of tokens for most languages at once. It knows no grammar, so `x + 1` and `1 + x` are two answers.
"""

from __future__ import annotations

import re

_FENCE = re.compile(r"\s*```[^\n`]*\n(.*?)\n?[ \t]*```\s*", re.DOTALL)
_TOKEN = re.compile(
    r"(?P<string>\"\"\".*?\"\"\"|'''.*?'''|\"(?:[^\"\\\n]|\\.)*\"|'(?:[^'\\\n]|\\.)*'|`(?:[^`\\]|\\.)*`)"
    r"|(?P<hash>\#(?!include|define|if|endif|else|pragma)[^\n]*)|(?P<slashes>//[^\n]*)|(?P<block>/\*.*?\*/)"
    r"|(?P<word>[^\W\d]\w*)|(?P<number>[0-9][\w.]*)|(?P<line>\n)|(?P<blank>[ \t\r\f\v]+)"
    r"|(?P<sign>===|!==|\*\*=|//=|<<=|>>=|->|=>|==|!=|<=|>=|\+\+|--|\+=|-=|\*=|/=|%=|\|\||&&|::|:=|\*\*|//|<<|>>|.)",
    re.DOTALL,
)
_LOOK = re.compile(
    r"^\s*(?:def|class|import|from|for|while|if|return|print|function|const|let|var|public|private|static|int|void"
    r"|\#include|using|package|func|fn|SELECT|select|struct|elif|else|try|with|async|assert)\b.*[:;({)]|^\s*[\w.\[\]]+\s*[-+*/]?=\s*\S"
    r"|[;{}]\s*$|^```",
    re.MULTILINE,
)
_INDENT = "    "


def is_code(text: str) -> bool:
    """Whether a text of several lines looks like code: most of its lines do, or it is a fenced block."""
    if _FENCE.fullmatch(text):
        return True
    lines = [line for line in text.splitlines() if line.strip()]
    if len(lines) < 2 or "\\" in lines[0]:
        return False
    blocks = any(line.rstrip().endswith((":", "{")) for line in lines[:-1]) and any(line[:1] in " \t" for line in lines)
    return blocks and 3 * sum(_LOOK.search(line) is not None for line in lines) >= len(lines)


def code_key(text: str) -> str:
    """The tokens of each line with one blank between them, indented by the depth of their block."""
    if m := _FENCE.fullmatch(text):
        text = m[1]
    c_like = ";" in text or ("{" in text and "//" in text)
    lines: list[tuple[int, list[str]]] = []
    tokens: list[str] = []
    column, fresh = 0, True
    for m in _TOKEN.finditer(text.expandtabs(4)):
        kind, token = m.lastgroup, m[0]
        if kind == "line":
            lines.append((column, tokens))
            column, tokens, fresh = 0, [], True
        elif kind == "blank":
            column += len(token) if fresh else 0
        elif kind in ("hash", "block") or (kind == "slashes" and c_like):
            continue
        else:
            fresh = False
            tokens += (
                ["//", *token[2:].split()] if kind == "slashes" else [_quote(token) if kind == "string" else token]
            )
    lines.append((column, tokens))
    return _render([line for line in lines if line[1]])


def _render(lines: list[tuple[int, list[str]]]) -> str:
    stack, shown = [lines[0][0] if lines else 0], []
    for column, tokens in lines:
        while len(stack) > 1 and column < stack[-1]:
            stack.pop()
        if column > stack[-1]:
            stack.append(column)
        shown.append(_INDENT * (len(stack) - 1) + " ".join(tokens))
    return "\n".join(shown)


def _quote(token: str) -> str:
    # 'a' and "a" are one string where no quote stands within.
    inner = token[1:-1]
    plain = token[0] == "'" and not token.startswith("'''") and '"' not in inner and "\\" not in inner
    return f'"{inner}"' if plain and len(inner) != 1 else token if len(inner) != 1 or '"' in inner else f'"{inner}"'
