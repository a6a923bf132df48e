"""`thinkscale show`: a past run as a tree of traces, read from the store without any model."""

from __future__ import annotations

import json
from dataclasses import asdict
from typing import Annotated

import typer
from rich.console import Console
from rich.text import Text
from rich.tree import Tree

from thinkscale.cli.report import clipped
from thinkscale.errors import StoreError
from thinkscale.selection.majority import Majority
from thinkscale.settings import load
from thinkscale.store import Run, Store
from thinkscale.types import Finish, Origin, Path, Trace

STYLES = {Finish.error: "red", Finish.aborted: "yellow", Finish.budget: "yellow", Finish.length: "yellow"}


def command(
    run: Annotated[str, typer.Argument(help="Name of the run or its beginning; `last` is the newest.")] = "last",
    store: Annotated[str | None, typer.Option(help="File of the run store.")] = None,
    full: Annotated[bool, typer.Option("--full", help="Whole texts instead of their beginnings.")] = False,
    as_json: Annotated[bool, typer.Option("--json", help="Print one JSON object.")] = False,
) -> None:
    """Replay a past run: its traces as a tree."""
    path = load({"store": store}).store_path
    if path is None or not path.exists():
        raise StoreError(f"there is no store at `{path}`: ask something first, or name the file with `--store`")
    opened = Store(path)
    try:
        found = _the_run(opened, run)
        traces = opened.traces(found.id)
    finally:
        opened.close()
    if as_json:
        print(json.dumps({**asdict(found), "traces": [asdict(t) for t in traces]}, ensure_ascii=False, default=str))
    else:
        Console(soft_wrap=full).print(_tree(found, traces, full=full))


def _the_run(store: Store, name: str) -> Run:
    found = store.runs("" if name == "last" else name)
    if not found:
        raise StoreError(f"no run in `{store.path}` starts with `{name}`: see `thinkscale list runs`")
    if len(found) > 1 and name not in ("last", found[0].id):
        raise StoreError(f"several runs start with `{name}`: {', '.join(f'`{r.id}`' for r in found[:5])}")
    return found[0]


def _tree(run: Run, traces: list[Trace], *, full: bool) -> Tree:
    head = Text(f"{run.id}  {run.method}  {run.model}  seed {run.seed}", style="bold")
    head.append(f"\n{clipped(run.problem.question, 400)}\n", style="default")
    head.append(f"{run.status}, {_answer(run, traces)}", style="green")
    root = Tree(head)
    branches: dict[Path, Tree] = {(): root}
    for trace in traces:
        parent = next(trace.path[:i] for i in range(len(trace.path) - 1, -1, -1) if trace.path[:i] in branches)
        branches[trace.path] = branches[parent].add(_branch(trace, full=full)) if trace.path else root
    return root


def _answer(run: Run, traces: list[Trace]) -> str:
    """The answer, or the best there is of a run that did not come to its end."""
    if run.status == "done":
        return f"answer: {run.summary.get('answer')}"
    best = Majority()([t for t in traces if not t.finish.lost]).best
    found = run.summary.get("answer") or (best.answer.text if best and best.answer else None)
    return f"best answer so far: {found}"


def _branch(trace: Trace, *, full: bool) -> Text:
    number = ".".join(str(step + 1) for step in trace.path)
    line = Text(f"{number}  {trace.finish}", style=STYLES.get(trace.finish, "default"))
    line.append(f"  {trace.tokens} tokens", style="dim")
    for score in trace.scores:
        line.append(f"  {score.kind} {score.value:.4g}", style="magenta")
    if trace.answer:
        line.append(f"  → {clipped(trace.answer.text, 60)}", style="bold green")
    if trace.error:
        line.append(f"  {trace.error}", style="red")
    line.append("\n")
    for segment in trace.segments:
        gap = " " if segment.text[:1].isspace() else ""
        text = segment.text if full else gap + clipped(segment.text, 240)
        line.append(text, style="reverse" if segment.origin is Origin.injected else "dim")
    return line
