"""`thinkscale show`: a past run as a tree of traces, read from the store without any model."""

from __future__ import annotations

import json
from dataclasses import asdict, replace
from typing import Annotated

import typer
from rich.console import Console
from rich.text import Text
from rich.tree import Tree

from thinkscale.cli.report import clipped
from thinkscale.errors import StoreError
from thinkscale.identity import RULES
from thinkscale.settings import load
from thinkscale.store import RunRow, Store
from thinkscale.types import Finish, Origin, Path, Problem, Trace

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


def _the_run(store: Store, name: str) -> RunRow:
    found = store.runs("" if name == "last" else name)
    if not found:
        raise StoreError(f"no run in `{store.path}` starts with `{name}`: see `thinkscale list runs`")
    if len(found) > 1 and name not in ("last", found[0].id):
        raise StoreError(f"several runs start with `{name}`: {', '.join(f'`{r.id}`' for r in found[:5])}")
    return found[0]


def _tree(run: RunRow, traces: list[Trace], *, full: bool) -> Tree:
    head = Text(f"{run.id}  {run.method}  {run.model}  seed {run.seed}", style="bold")
    head.append(f"\n{clipped(run.problem.question, 400)}\n", style="default")
    head.append(f"{run.status}, answer: {run.summary.get('answer')}", style="green")
    former = ((name, was) for name, was in run.rules.items() if was != RULES.get(name, was))
    if others := [f"{name} {was} (now {RULES[name]})" for name, was in former]:
        head.append(f"\nunder the rules {', '.join(others)}; what is shown is what was found then", style="yellow")
    root = Tree(head)
    branches: dict[Path, Tree] = {(): root}
    above: dict[Path, Trace] = {}
    rewards = {trace.path: trace.scores for trace in traces if trace.scores and not trace.text}
    for trace in (t for t in traces if t.text or not t.scores):
        parent = next(trace.path[:i] for i in range(len(trace.path) - 1, -1, -1) if trace.path[:i] in branches)
        continued = above.get(parent)
        shown = trace if trace.scores else replace(trace, scores=rewards.get(trace.path, ()))
        added = branches[parent].add(_branch(shown, run, continued, full=full)) if trace.path else root
        if trace.path not in above or trace.prompt == run.problem.messages:
            branches[trace.path], above[trace.path] = added, trace
    return root


def _branch(trace: Trace, run: RunRow, above: Trace | None, *, full: bool) -> Text:
    """One trace: what became of it, and what it says beyond the trace that it continues."""
    line = Text(f"{_number(trace.path)}  {trace.finish}", style=STYLES.get(trace.finish, "default"))
    if trace.pruned:
        line.append("  pruned", style="yellow")
    if trace.parents:
        line.append(f"  made from {', '.join(map(_number, trace.parents))}", style="cyan")
    line.append(f"  {trace.tokens} tokens", style="dim")
    for score in trace.scores:
        line.append(f"  {score.kind} {score.value:.4g}", style="magenta")
    if trace.answer:
        line.append(f"  → {clipped(trace.answer.text, 60)}", style="bold green")
    if trace.error:
        line.append(f"  {trace.error}", style="red")
    line.append("\n")
    if trace.prompt != run.problem.messages:
        asked = Problem(messages=trace.prompt).question
        line.append(f"asked: {asked if full else clipped(asked, 120)}\n", style="italic")
    said = len(above.text) if above and trace.prompt == above.prompt and trace.text.startswith(above.text) else 0
    for segment in trace.segments:
        rest, said = segment.text[said:], max(0, said - len(segment.text))
        if rest:
            gap = " " if rest[:1].isspace() else ""
            text = rest if full else gap + clipped(rest, 240)
            line.append(text, style="reverse" if segment.origin is Origin.injected else "dim")
    return line


def _number(path: Path) -> str:
    return ".".join(str(step + 1) for step in path)
