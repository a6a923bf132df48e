"""`thinkscale show`: a past run as a tree of traces, read from the store without any model."""

from __future__ import annotations

import asyncio
import json
from dataclasses import asdict, replace
from typing import Annotated

import typer
from rich.console import Console
from rich.text import Text
from rich.tree import Tree

from thinkscale.answers import canonical, kind_of
from thinkscale.answers.partition import AnswerClass, partition
from thinkscale.cli.report import clipped
from thinkscale.errors import StoreError
from thinkscale.identity import RULES
from thinkscale.selection.majority import Majority
from thinkscale.settings import load
from thinkscale.store import RunRow, Store
from thinkscale.types import AnswerKind, Finish, Origin, Path, Problem, Trace

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
    classes = asyncio.run(_classes(found, traces))
    if as_json:
        shown = {"traces": [asdict(t) for t in traces], "classes": [asdict(c) for c in classes]}
        print(json.dumps({**asdict(found), **shown}, ensure_ascii=False, default=str))
    else:
        console = Console(soft_wrap=full)
        console.print(_tree(found, traces, full=full))
        for each in classes:
            console.print(_evidence(each))


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
    head.append(f"{run.status}, {_answer(run, traces)}", style="green")
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


def _answer(run: RunRow, traces: list[Trace]) -> str:
    """The answer, or the best there is of a run that did not come to its end."""
    if run.status == "done":
        return f"answer: {run.summary.get('answer')}"
    best = Majority()([t for t in traces if not t.finish.lost]).best
    found = run.summary.get("answer") or (best.answer.text if best and best.answer else None)
    return f"best answer so far: {found}"


async def _classes(run: RunRow, traces: list[Trace]) -> tuple[AnswerClass, ...]:
    """The classes of the answers as they were written, those that unite several spellings only."""
    kind = run.problem.answer_kind
    kind = kind_of(run.problem.question) if kind is AnswerKind.auto else kind
    keys = [canonical(trace.answer.text, kind) for trace in traces if trace.answer]
    return tuple(each for each in (await partition(keys, kind)).classes if len(each.members) > 1)


def _evidence(found: AnswerClass) -> Text:
    line = Text(f"one answer, {clipped(found.label, 40)}:", style="green")
    for member in found.members[1:]:
        line.append(f"  {clipped(member.key, 40)} ({member.how})", style="dim")
    return line


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
