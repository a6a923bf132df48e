"""`thinkscale same`: whether two answers are one, of which kind each is, and how that was found."""

from __future__ import annotations

import asyncio
import json
import sys
from typing import Annotated

import typer

from thinkscale.answers import kind_of
from thinkscale.answers.algebra import Verdict
from thinkscale.answers.compare import Comparison, compare
from thinkscale.answers.equivalence import whole
from thinkscale.answers.reading import Reading
from thinkscale.types import AnswerKind

EXIT_CODES = {Verdict.same: 0, Verdict.different: 1, Verdict.unknown: 1}


def command(
    first: Annotated[str, typer.Argument(help="An answer, or a text that gives one.")],
    second: Annotated[str, typer.Argument(help="Another one.")],
    kind: Annotated[AnswerKind, typer.Option(help="What kind of answer they are; `auto` goes by their look.")] = (
        AnswerKind.auto
    ),
    question: Annotated[str, typer.Option(help="The question, which may say the kind.")] = "",
    as_json: Annotated[bool, typer.Option("--json", help="Print one JSON object.")] = False,
) -> None:
    """Say whether two answers are the same, different, or not known to be either; exit with 0 where they are."""
    wanted = kind_of(question) if kind is AnswerKind.auto and question else kind
    keys = [whole(text, wanted) for text in (first, second)]
    if keys[0] is None or keys[1] is None:
        silent = first if keys[0] is None else second
        print(f"unknown: no answer was found in `{silent[:60]}`", file=sys.stderr)
        raise typer.Exit(1)
    found = asyncio.run(compare(keys[0], keys[1], wanted))
    print(json.dumps(_object(found, keys[0], keys[1]), ensure_ascii=False) if as_json else _lines(found, *keys))
    raise typer.Exit(EXIT_CODES[found.verdict])


def _lines(found: Comparison, first: str | None, second: str | None) -> str:
    shown = [f"{found.verdict}: {found.reason}"]
    for key, reading in ((first, found.first), (second, found.second)):
        shown.append(f"  {key}  {reading.kind}, {reading.standing}: {reading.form}")
    return "\n".join(shown)


def _object(found: Comparison, first: str, second: str) -> dict[str, object]:
    answers = [_answer(key, reading) for key, reading in ((first, found.first), (second, found.second))]
    return {"verdict": found.verdict, "reason": found.reason, "answers": answers}


def _answer(key: str, reading: Reading) -> dict[str, object]:
    return {"key": key, "kind": reading.kind, "standing": reading.standing, "form": reading.form}
