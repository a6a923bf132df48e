"""`thinkscale list`: what can be named in a spec, and what was run."""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Callable
from datetime import datetime
from enum import StrEnum
from typing import Annotated

import typer
from rich.console import Console
from rich.table import Table
from rich.text import Text

from thinkscale.built_in import BUILT_IN
from thinkscale.cli.report import clipped
from thinkscale.errors import SettingsError
from thinkscale.registry import lookup, names, nearest, spec_of
from thinkscale.settings import load
from thinkscale.store import Store


def command(
    what: Annotated[
        str, typer.Argument(help="methods, scorers, selectors, stop-rules, engines, runs or pools.")
    ] = "methods",
    store: Annotated[str | None, typer.Option(help="File of the run store.")] = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print one JSON array.")] = False,
) -> None:
    """List methods, scorers, rules, engines, past runs or pools."""
    kinds = {f"{kind}s": kind for kind in BUILT_IN}
    if what in KEPT:
        rows = _kept(KEPT[what], store)
    elif what in kinds or what in BUILT_IN:
        rows = _components(kinds.get(what, what))
    else:
        raise SettingsError(f"there is no list of `{what}`{nearest(what, [*kinds, *KEPT])}")
    if as_json:
        print(json.dumps(rows, ensure_ascii=False))
        return
    table = Table(box=None, padding=(0, 2), header_style="bold")
    for column in rows[0] if rows else ("nothing yet",):
        table.add_column(column, no_wrap=column == "name")
    for row in rows:
        table.add_row(*(Text(clipped(str(cell), 200)) for cell in row.values()))
    Console().print(table)


def _components(kind: str) -> list[dict[str, str]]:
    return [{"name": name, "what": _first_sentence(cls), "fields": _fields(cls)} for name, cls in _classes(kind)]


def _classes(kind: str) -> list[tuple[str, type]]:
    return [(name, lookup(kind, name)) for name in sorted(names(kind))]


def _first_sentence(cls: type) -> str:
    return (cls.__doc__ or "").strip().split("\n\n")[0].replace("\n", " ")


def _fields(cls: type) -> str:
    if not dataclasses.is_dataclass(cls):
        return ""
    defaults = {f.name: f.default_factory for f in dataclasses.fields(cls)}
    made = {name: make() for name, make in defaults.items() if make is not dataclasses.MISSING}
    return ", ".join(f"{f.name}={_shown(made.get(f.name, f.default))}" for f in dataclasses.fields(cls))


def _shown(default: object) -> str:
    if dataclasses.is_dataclass(default) and not isinstance(default, type):
        return spec_of(default)
    if isinstance(default, StrEnum):
        return default.value
    return "none" if default is None else repr(default)


def _kept(rows_of: Callable[[Store], list[dict[str, str]]], store: str | None) -> list[dict[str, str]]:
    path = load({"store": store}).store_path
    if path is None or not path.exists():
        return []
    opened = Store(path)
    try:
        return rows_of(opened)
    finally:
        opened.close()


def _runs(store: Store) -> list[dict[str, str]]:
    return [
        {
            "run": run.id,
            "when": datetime.fromtimestamp(run.started).astimezone().strftime("%Y-%m-%d %H:%M:%S"),
            "status": run.status,
            "method": run.method,
            "answer": str(run.summary.get("answer") or ""),
            "question": clipped(run.problem.question, 60),
        }
        for run in store.runs()
    ]


def _pools(store: Store) -> list[dict[str, str]]:
    return [{"pool": name, "questions": str(len(store.named_pool(name)))} for name in store.pool_names()]


KEPT = {"runs": _runs, "pools": _pools}
"""What is read from the store."""
