"""`thinkscale import`: recorded attempts from a file into the store, for `select` and `list pools`."""

from __future__ import annotations

import json
import sys
from dataclasses import asdict
from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console

from thinkscale.api import run
from thinkscale.bench.library import Imported, Reading, import_file
from thinkscale.cli.pools import opened
from thinkscale.errors import BenchError
from thinkscale.types import AnswerKind


def command(
    file: Annotated[
        Path, typer.Argument(help="JSON lines, gzipped or not: a question with its samples, or one attempt, per line.")
    ],
    name: Annotated[str, typer.Option(help="Of the pool; the file's when absent.")] = "",
    answers: Annotated[Reading, typer.Option(help="Where answers come from.")] = Reading.auto,
    kind: Annotated[AnswerKind, typer.Option(help="Of all answers; told from each question.")] = AnswerKind.auto,
    by: Annotated[
        list[str] | None, typer.Option(help="A field that tells pools apart, such as `temperature`; may be repeated.")
    ] = None,
    store: Annotated[str | None, typer.Option(help="File of the run store.")] = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print one JSON array, an object for each pool.")] = False,
) -> None:
    """Import recorded attempts as a pool."""
    found: dict[str, Imported] = {}
    with opened(store) as kept, Console(stderr=True).status(f"reading `{file}`") as status:

        def heard(told: Imported) -> None:
            found[told.pool] = told
            questions, attempts = (sum(getattr(t, of) for t in found.values()) for of in ("questions", "attempts"))
            status.update(f"{questions:,} questions, {attempts:,} attempts")

        told_kind = None if kind is AnswerKind.auto else kind
        try:
            run(import_file(file, kept, name=name, reading=answers, kind=told_kind, by=by or (), heard=heard))
        except KeyboardInterrupt:
            print("interrupted: no pool was made or changed; the same command starts again", file=sys.stderr)
            raise
    if not found:
        raise BenchError(f"there is no recording in `{file}`: give one question with its samples per line")
    if as_json:
        print(json.dumps([{**asdict(told), "differ": told.differ} for told in found.values()], ensure_ascii=False))
        return
    for told in found.values():
        print(told.pool)
        for line in _notes(told):
            print(f"  {line}")


def _notes(told: Imported) -> list[str]:
    kinds = ", ".join(f"{count:,} {kind}" for kind, count in sorted(told.kinds.items(), key=lambda of: -of[1]))
    lines = [
        f"{told.questions:,} questions ({kinds}), {told.attempts:,} attempts, {told.answered:,} with an answer",
        f"scores: {', '.join(told.scores) or 'none'}",
    ]
    if told.verdicts_only:
        lines.append("only verdicts are known: all wrong attempts at a question vote as one answer")
    if told.compared:
        lines.append(
            f"the source's verdict and ours differ on {told.differ:,} of {told.compared:,} attempts "
            f"({100 * told.differ / told.compared:.1f} %): {told.theirs_alone:,} right by the source's alone, "
            f"{told.ours_alone:,} by ours alone" + (f"; first on {', '.join(told.disputed)}" if told.disputed else "")
        )
    return lines
