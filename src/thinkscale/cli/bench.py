"""`thinkscale bench`: methods over a task, in one table against majority vote at equal tokens."""

from __future__ import annotations

import json
import math
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import asdict
from pathlib import Path
from typing import Annotated, cast

import typer
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TaskID, TextColumn, TimeRemainingColumn
from rich.table import Table

from thinkscale.api import run
from thinkscale.bench.compare import Pair, Row, pair, rows
from thinkscale.bench.experiment import Plan, Result, logprobs_for, require_all, run_method
from thinkscale.bench.tasks import TASKS, Item, load
from thinkscale.budget import Budget
from thinkscale.cli.pull import fetch
from thinkscale.cli.signals import KEPT
from thinkscale.engines.opening import EMBEDDED, engines_for
from thinkscale.errors import BenchError
from thinkscale.methods.self_consistency import SelfConsistency
from thinkscale.prompts import using
from thinkscale.registry import parse
from thinkscale.session import Method
from thinkscale.settings import Settings
from thinkscale.settings import load as settings_of
from thinkscale.stopping.fixed import Fixed
from thinkscale.store import PoolEntry, Store

Named = tuple[str, Sequence[Result]]
"""The spec of a method, and what it did on every problem."""


def command(
    task: Annotated[str, typer.Argument(help=f"One of {', '.join(TASKS)}, or a file of JSON lines.")],
    method: Annotated[
        list[str] | None, typer.Option("--method", "-m", help="Spec; give it once for every method.")
    ] = None,
    against: Annotated[
        str | None, typer.Option(help="Spec of the method that the others are compared with one by one.")
    ] = None,
    limit: Annotated[int | None, typer.Option(help="The first so many problems.", min=1)] = None,
    n: Annotated[int, typer.Option(help="Attempts of the majority vote that everything is compared with.", min=1)] = 16,
    model: Annotated[str | None, typer.Option(help="As for `ask`.")] = None,
    base_url: Annotated[str | None, typer.Option(help="As for `ask`.")] = None,
    budget: Annotated[str | None, typer.Option("--budget", "-b", help="For every method on every problem.")] = None,
    seed: Annotated[int | None, typer.Option(help="The same seed repeats the same experiment.")] = None,
    max_tokens: Annotated[int | None, typer.Option(help="Cap of one call; 512 when absent.", min=1)] = None,
    concurrency: Annotated[int | None, typer.Option(help="Draws of a problem in flight at once.", min=1)] = None,
    jobs: Annotated[int, typer.Option(help="Problems in flight at once.", min=1)] = 1,
    prompts: Annotated[str | None, typer.Option(help="As for `ask`.")] = None,
    store: Annotated[str | None, typer.Option(help="File of the run store; an experiment resumes from it.")] = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print one JSON object.")] = False,
) -> None:
    """Compare methods on a task, majority vote at equal tokens being the baseline."""
    flags = {
        "model": model,
        "base_url": base_url,
        "budget": budget,
        "seed": seed,
        "max_tokens": max_tokens,
        "concurrency": concurrency,
        "prompts": prompts,
        "store": store,
    }
    settings = settings_of(flags)
    items = load(task, limit)
    if not items:
        raise BenchError(f"there is no problem in `{task}`: give one JSON object with `question` and `gold` per line")
    baseline = SelfConsistency(n=n, stop=Fixed())
    specs = [*(method or [settings.method]), *([against] if against else [])]
    asked = [cast(Method, parse(spec, "method")) for spec in specs]
    grid = [baseline, *(m for i, m in enumerate(asked) if m != baseline and m not in asked[:i])]
    heard: list[dict[str, Result]] = [{} for _ in grid]
    whom = repr(asked[-1] if against else baseline)
    try:
        with using(settings.prompts), _planned(settings, jobs=jobs, quiet=as_json) as plan:
            found = run(_all(grid, items, plan, heard))
            name = _kept(task, plan, found[0])
    except KeyboardInterrupt:
        _print_partly(task, items, grid, heard, n=n, whom=whom)
        raise
    methods = [(repr(m), results) for m, results in zip(grid, found, strict=True)]
    if name:
        print(f"the attempts of the majority vote are the pool `{name}`", file=sys.stderr)
    if as_json:
        print(json.dumps(_told(task, plan, methods), ensure_ascii=False))
    else:
        _print(task, methods, n=n, whom=whom)


@contextmanager
def _planned(settings: Settings, *, jobs: int, quiet: bool) -> Iterator[Plan]:
    """The experiment's plan, with its store open; an interrupt says how to go on."""
    engine, roles = engines_for(settings.model, settings.base_url)
    if settings.model == EMBEDDED and not settings.base_url:
        fetch(quiet=quiet)
    path = settings.store_path
    opened = Store(path) if path else None
    try:
        yield Plan(
            engine=engine,
            roles=roles,
            store=opened,
            budget=Budget.parse(settings.budget),
            seed=settings.seed,
            max_tokens=settings.max_tokens,
            concurrency=settings.concurrency,
            jobs=jobs,
        )
    except KeyboardInterrupt:
        print(KEPT, file=sys.stderr)
        raise
    finally:
        if opened:
            opened.close()


def _kept(task: str, plan: Plan, found: Sequence[Result]) -> str:
    """Keep the attempts of the baseline as a pool, for `thinkscale select`; its name, empty where nothing is kept."""
    if plan.store is None or plan.store.trouble:
        return ""
    told = plan.engine.capabilities
    name = f"{Path(task).name.split('.')[0]}/{Path(told.name or told.model).name}"
    plan.store.keep_pool(name, [PoolEntry(run=r.run, gold=r.gold, credits=r.credits) for r in found])
    return name


async def _all(
    grid: Sequence[Method], items: Sequence[Item], plan: Plan, told: Sequence[dict[str, Result]]
) -> list[list[Result]]:
    """Every method over every problem, with a line of progress for each; `told` has what there is on the way."""
    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn())
    await require_all(grid, plan)
    logprobs = logprobs_for(grid, plan)
    found = []
    with Progress(*columns, TextColumn("{task.fields[right]} right"), console=Console(stderr=True)) as progress:
        lines = [progress.add_task(repr(method), total=len(items), right=0, start=False) for method in grid]
        for method, line, own in zip(grid, lines, told, strict=True):
            progress.start_task(line)

            def heard(result: Result, line: TaskID = line, own: dict[str, Result] = own) -> None:
                own[result.item] = result
                progress.update(line, advance=1, right=sum(r.right for r in own.values()))

            found.append(await run_method(method, items, plan, logprobs=logprobs, heard=heard))
    return found


def _told(task: str, plan: Plan, methods: Sequence[Named]) -> dict[str, object]:
    hidden = ("votes", "drawn", "credits")
    return {
        "task": task,
        "model": plan.engine.capabilities.name or plan.engine.capabilities.model,
        "seed": plan.seed,
        "rows": [_plain(row) for row in rows(methods, methods[0][1])],
        "pairs": [_plain(pair(one, other)) for i, one in enumerate(methods) for other in methods[:i]],
        "results": {
            name: [{k: v for k, v in asdict(r).items() if k not in hidden} for r in some] for name, some in methods
        },
    }


def _plain(row: Row | Pair) -> dict[str, object]:
    """A row as JSON can hold it."""
    told = asdict(row).items()
    return {k: None if isinstance(v, float) and not math.isfinite(v) else v for k, v in told}


def _print_partly(
    task: str, items: Sequence[Item], grid: Sequence[Method], heard: Sequence[dict[str, Result]], *, n: int, whom: str
) -> None:
    """The table of the problems that every method which was begun has done; none where there is no such problem."""
    begun = [(repr(method), own) for method, own in zip(grid, heard, strict=True) if own]
    done = [item.id for item in items if begun and all(item.id in own for _, own in begun)]
    if done:
        methods = [(name, [own[i] for i in done]) for name, own in begun]
        told = f"{task}, the {len(done)} of {len(items)} problems that all methods so far have done"
        _print(told, methods, n=n, whom=whom if any(name == whom for name, _ in methods) else methods[0][0])


def _print(task: str, methods: Sequence[Named], *, n: int, whom: str) -> None:
    console = Console(width=None if sys.stdout.isatty() else 200)
    table = rows(methods, methods[0][1])
    console.print(_rows(table))
    [other] = [m for m in methods if m[0] == whom]
    pairs = [pair(one, other) for one in methods if one[0] != whom]
    if pairs:
        print()
        console.print(_pairs(pairs))
    print(
        f"\n{table[0].questions} problems of {task}; tied answers count in equal parts. “needed”: generated tokens\n"
        "per problem that the method needed, at which it is compared; “paid”: those that it was charged; seconds in\n"
        "all, – where draws were found in the store; “no answer” and “cut off”: shares of the attempts. “− majority”:\n"
        "“right” minus “majority”, a vote of as many attempts as cost the same tokens (“votes”), exact over subsets\n"
        f"of {n}."
    )


def _rows(table: Sequence[Row]) -> Table:
    shown = Table(box=None, padding=(0, 1), header_style="bold")
    names = ("right", "95 %", "needed", "paid", "seconds", "no answer", "cut off")
    for name in ("method", *names, "majority", "votes", "− majority", "95 %, paired"):
        shown.add_column(name, justify="left" if name == "method" else "right", no_wrap=name != "method")
    for row in table:
        shown.add_row(
            row.method,
            f"{100 * row.accuracy:.1f} %",
            f"{100 * row.interval.low:.1f} to {100 * row.interval.high:.1f}",
            f"{row.needed:,.0f}",
            f"{row.paid:,.0f}",
            "–" if row.seconds is None else f"{row.seconds:.1f}",
            f"{100 * row.silent:.0f} %",
            f"{100 * row.cut:.0f} %",
            f"{100 * row.majority:.1f} %",
            f"{'> ' if row.capped else ''}{row.votes:.1f}",
            f"{100 * row.difference:+.1f}",
            _interval(row),
        )
    return shown


def _pairs(pairs: Sequence[Pair]) -> Table:
    shown = Table(box=None, padding=(0, 1), header_style="bold")
    for name in ("method", f"− {pairs[0].against}", "95 %, paired", "p", "needed ×"):
        shown.add_column(name, justify="left" if name == "method" else "right", no_wrap=name != "method")
    for row in pairs:
        p = "" if math.isnan(row.p) else f"{row.p:.3f}"
        shown.add_row(row.method, f"{100 * row.difference:+.1f}", _interval(row), p, f"{row.tokens:.2f}")
    return shown


def _interval(row: Row | Pair) -> str:
    return "" if math.isnan(row.low) else f"{100 * row.low:+.1f} to {100 * row.high:+.1f}"
