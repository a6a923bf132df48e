"""`thinkscale extract`: what answer a text holds, of which kind, by which evidence, and where it stands."""

from __future__ import annotations

import json
import sys
from dataclasses import asdict
from pathlib import Path
from typing import Annotated

import typer

from thinkscale.answers import Found, find
from thinkscale.errors import SettingsError
from thinkscale.types import AnswerKind


def command(
    file: Annotated[Path | None, typer.Argument(help="A text; standard input where there is none.")] = None,
    question: Annotated[str, typer.Option(help="What was asked: it decides the kind, and lists the options.")] = "",
    kind: Annotated[AnswerKind, typer.Option(help="What to look for first.")] = AnswerKind.auto,
    truncated: Annotated[bool, typer.Option("--truncated", help="The text was cut off.")] = False,
    as_json: Annotated[bool, typer.Option("--json", help="Print one JSON object.")] = False,
) -> None:
    """Find the answer in a text."""
    text = _read(file)
    found = find(text, kind, question, truncated=truncated)
    if as_json:
        print(json.dumps(None if found is None else asdict(found), ensure_ascii=False))
    elif found is None:
        print("no answer: the text points at none, abstains, or was cut off before one", file=sys.stderr)
    else:
        print(_shown(text, found))
    if found is None:
        raise typer.Exit(1)


def _read(file: Path | None) -> str:
    if file is None:
        return sys.stdin.read()
    try:
        return file.read_text(encoding="utf-8", errors="replace")
    except OSError as error:
        raise SettingsError(f"`{file}` cannot be read: {error.strerror or error}") from None


def _shown(text: str, found: Found) -> str:
    line = text.count("\n", 0, found.start) + 1
    column = found.start - (text.rfind("\n", 0, found.start) + 1) + 1
    rows = {
        "answer": found.answer.text,
        "key": found.answer.key,
        "kind": found.kind.value,
        "evidence": found.evidence.value,
        "where": f"line {line}, column {column} (characters {found.start} to {found.end})",
    }
    return "\n".join(f"{name:<9} {value}" for name, value in rows.items())
