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
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn
from rich.table import Table

from thinkscale.api import run
from thinkscale.bench.compare import Row, rows
from thinkscale.bench.experiment import Plan, Result, logprobs_for, require_all, run_method
from thinkscale.bench.tasks import TASKS, Item, load
from thinkscale.budget import Budget
from thinkscale.cli.pull import fetch
from thinkscale.engines.opening import EMBEDDED, engines_for
from thinkscale.errors import BenchError
from thinkscale.methods.self_consistency import SelfConsistency
from thinkscale.registry import parse
from thinkscale.session import Method
from thinkscale.settings import Settings
from thinkscale.settings import load as settings_of
from thinkscale.stopping.fixed import Fixed
from thinkscale.store import PoolEntry, Store


def command(
    task: Annotated[str, typer.Argument(help=f"One of {', '.join(TASKS)}, or a file of JSON lines.")],
    method: Annotated[
        list[str] | None, typer.Option("--method", "-m", help="Spec; give it once for every method.")
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
        "store": store,
    }
    settings = settings_of(flags)
    baseline = SelfConsistency(n=n, stop=Fixed())
    methods = [cast(Method, parse(spec, "method")) for spec in method or [settings.method]]
    grid = [baseline, *(m for m in methods if m != baseline)]
    items = load(task, limit)
    if not items:
        raise BenchError(f"there is no problem in `{task}`: give one JSON object with `question` and `gold` per line")
    with _planned(settings, jobs=jobs, quiet=as_json) as plan:
        found = run(_all(grid, items, plan))
        name = _kept(task, plan, found[0])
    table = rows([(repr(m), results) for m, results in zip(grid, found, strict=True)], found[0])
    if name:
        print(f"the attempts of the majority vote are the pool `{name}`", file=sys.stderr)
    if as_json:
        print(json.dumps(_told(task, plan, table, grid, found), ensure_ascii=False))
    else:
        _print(task, table, n)


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
        print("interrupted: what was drawn is kept; the same command continues from it", file=sys.stderr)
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


async def _all(grid: Sequence[Method], items: Sequence[Item], plan: Plan) -> list[list[Result]]:
    """Every method over every problem, with a line of progress for each."""
    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn())
    await require_all(grid, plan)
    logprobs = logprobs_for(grid, plan)
    found = []
    with Progress(*columns, TextColumn("{task.fields[right]} right"), console=Console(stderr=True)) as progress:
        lines = [progress.add_task(repr(method), total=len(items), right=0, start=False) for method in grid]
        for method, line in zip(grid, lines, strict=True):
            progress.start_task(line)
            right = 0

            def heard(result: Result, line: object = line) -> None:
                nonlocal right
                right += result.right
                progress.update(line, advance=1, right=right)  # type: ignore[arg-type]

            found.append(await run_method(method, items, plan, logprobs=logprobs, heard=heard))
    return found


def _told(
    task: str, plan: Plan, table: Sequence[Row], grid: Sequence[Method], found: Sequence[Sequence[Result]]
) -> dict[str, object]:
    model = plan.engine.capabilities.name or plan.engine.capabilities.model
    results = {
        repr(method): [{k: v for k, v in asdict(r).items() if k not in ("votes", "drawn", "credits")} for r in some]
        for method, some in zip(grid, found, strict=True)
    }
    shown = [{k: None if isinstance(v, float) and math.isnan(v) else v for k, v in asdict(r).items()} for r in table]
    return {"task": task, "model": model, "seed": plan.seed, "rows": shown, "results": results}


def _print(task: str, table: Sequence[Row], n: int) -> None:
    shown = Table(box=None, padding=(0, 1), header_style="bold")
    for name in ("method", "right", "95 %", "tokens", "seconds", "− majority", "95 %, paired", "votes"):
        shown.add_column(name, justify="left" if name == "method" else "right", no_wrap=name != "method")
    for at, row in enumerate(table):
        against = ("baseline", "", "")
        if at:
            interval = "" if math.isnan(row.low) else f"{100 * row.low:+.1f} to {100 * row.high:+.1f}"
            against = (f"{100 * row.difference:+.1f}", interval, f"{'> ' if row.capped else ''}{row.votes:.1f}")
        shown.add_row(
            row.method,
            f"{100 * row.accuracy:.1f} %",
            f"{100 * row.interval.low:.1f} to {100 * row.interval.high:.1f}",
            f"{row.tokens:,.0f}",
            f"{row.seconds:.1f}",
            *against,
        )
    Console(width=None if sys.stdout.isatty() else 200).print(shown)
    print(
        f"\n{table[0].questions} problems of {task}; generated tokens per problem, counted as if drawn one by one\n"
        "until the method had enough; seconds in all, of which draws found in the store take none. “− majority” is\n"
        f"against a majority vote of as many attempts as cost the same tokens (“votes”), exact over subsets of {n}."
    )
