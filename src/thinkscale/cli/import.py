"""`thinkscale import`: recorded attempts from a file into the store, for `select` and `list pools`."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console

from thinkscale.api import run
from thinkscale.bench.library import Reading, import_file
from thinkscale.cli.pools import opened
from thinkscale.errors import BenchError


def command(
    file: Annotated[Path, typer.Argument(help="JSON lines, gzipped or not: one question with its samples per line.")],
    name: Annotated[str, typer.Option(help="Of the pool; the file's when absent.")] = "",
    answers: Annotated[Reading, typer.Option(help="Where answers come from.")] = Reading.auto,
    store: Annotated[str | None, typer.Option(help="File of the run store.")] = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print one JSON array.")] = False,
) -> None:
    """Import recorded attempts as a pool."""
    done = 0
    with opened(store) as kept, Console(stderr=True).status("reading") as status:

        def heard(_: object) -> None:
            nonlocal done
            done += 1
            status.update(f"{done} questions")

        names = run(import_file(file, kept, name=name, reading=answers, heard=heard))
    if not names:
        raise BenchError(f"there is no recording in `{file}`: give one question with its samples per line")
    print(json.dumps(names) if as_json else "\n".join(names))
