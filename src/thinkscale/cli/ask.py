"""`thinkscale ask`: one question, one method, one budget."""

from __future__ import annotations

import json
import sys
from contextlib import nullcontext
from typing import Annotated, cast

import typer

from thinkscale.api import aask, run, summary
from thinkscale.budget import Budget, ceiling_text
from thinkscale.cli.explain import attempts_of, print_explanation
from thinkscale.cli.live import Live
from thinkscale.cli.pull import fetch
from thinkscale.cli.report import outcome_report
from thinkscale.cli.signals import KEPT, until_told
from thinkscale.engines.opening import EMBEDDED, engines_for
from thinkscale.engines.protocol import Engine
from thinkscale.errors import SettingsError
from thinkscale.registry import parse
from thinkscale.session import Method, Run
from thinkscale.settings import Settings, load
from thinkscale.types import AnswerKind, Outcome, Problem, Stopped


def command(
    question: Annotated[str, typer.Argument(help="The question; `-` reads it from standard input.")],
    method: Annotated[
        str | None,
        typer.Option("--method", "-m", help="Spec, such as `best-of-n(n=8)`; `self-consistency` when absent."),
    ] = None,
    model: Annotated[
        str | None, typer.Option(help="`embedded`, a GGUF file, an address, an engine; or `small=…,large=…,judge=…`.")
    ] = None,
    base_url: Annotated[
        str | None, typer.Option(help="Address of an OpenAI-compatible server; `--model` is then a name there.")
    ] = None,
    budget: Annotated[
        str | None, typer.Option("--budget", "-b", help="Such as `tokens=2000,seconds=30`; `calls`, `usd`.")
    ] = None,
    seed: Annotated[int | None, typer.Option(help="The same seed repeats the same run.")] = None,
    max_tokens: Annotated[int | None, typer.Option(help="Cap of one call; 512 when absent.", min=1)] = None,
    concurrency: Annotated[int | None, typer.Option(help="Draws in flight at once; 1 is serial.", min=1)] = None,
    kind: Annotated[AnswerKind, typer.Option(help="How answers are found and compared.")] = AnswerKind.auto,
    prompts: Annotated[str | None, typer.Option(help="Folder of prompt templates that go before ours.")] = None,
    store: Annotated[str | None, typer.Option(help="File of the run store; `none` keeps no record.")] = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print one JSON object.")] = False,
    quiet: Annotated[bool, typer.Option("--quiet", "-q", help="No progress, and only the answer.")] = False,
    explain: Annotated[
        bool, typer.Option("--explain", help="Also why it stopped, who voted and when, what was needed, paid and cut.")
    ] = False,
    continue_partials: Annotated[
        bool, typer.Option("--continue-partials", help="Go on with attempts that an interrupt cut, not draw them anew.")
    ] = False,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Print the worst-case cost and ask nothing.")] = False,
) -> None:
    """Answer a question within a budget."""
    where = {"model": model, "base_url": base_url, "prompts": prompts, "store": store}
    how = {"method": method, "budget": budget, "seed": seed, "max_tokens": max_tokens, "concurrency": concurrency}
    settings = load({**where, **how})
    chosen = cast(Method, parse(settings.method, "method"))
    limit = Budget.parse(settings.budget)
    if dry_run:
        _print_ceiling(chosen, limit, settings, as_json=as_json)
        return
    problem = Problem.of(_question(question), kind)
    shared = Run(seed=settings.seed, concurrency=settings.concurrency, continues=continue_partials)
    engine, outcome, told = _answered(problem, chosen, limit, settings, shared, quiet=quiet)
    if as_json:
        found = summary(outcome, chosen, engine, settings.seed, limit)
        print(json.dumps({**found, **({"attempts": attempts_of(outcome)} if explain else {})}, ensure_ascii=False))
    else:
        outcome_report(outcome, engine.capabilities.think, quiet=quiet)
        if explain:
            print_explanation(outcome, shared.replayed)
    if told and settings.store_path:
        print(KEPT, file=sys.stderr)
    raise typer.Exit(128 + told if told else _code(outcome))


def _answered(
    problem: Problem, method: Method, budget: Budget, settings: Settings, shared: Run, *, quiet: bool
) -> tuple[Engine, Outcome, int]:
    """Run the method, showing how it goes where somebody watches; the last is the signal that ended it, or 0."""
    engine, shared.roles = engines_for(settings.model, settings.base_url)
    if settings.model == EMBEDDED and not settings.base_url:
        fetch(quiet=quiet)
    live = Live(budget, settings.max_tokens)
    shown = live if not quiet and live.console.is_terminal else None
    shared.observe = shown.observe if shown else None
    asking = aask(problem, method=method, model=engine, budget=budget, settings=settings, shared=shared)
    try:
        with shown or nullcontext():
            return engine, *run(until_told(asking, shared))
    except KeyboardInterrupt:
        if settings.store_path:
            print(KEPT, file=sys.stderr)
        raise


def _question(argument: str) -> str:
    try:
        text = sys.stdin.read() if argument == "-" else argument
    except UnicodeDecodeError as error:
        raise SettingsError(f"standard input is not text: {error}") from None
    if not text.strip():
        raise SettingsError("the question is empty: pass it as text, or `-` to read standard input")
    return text.strip()


def _code(outcome: Outcome) -> int:
    return 0 if outcome.spoke and outcome.stopped is not Stopped.error else 1


def _print_ceiling(method: Method, budget: Budget, settings: Settings, *, as_json: bool) -> None:
    most = budget.clip(method.ceiling(settings.max_tokens))
    if as_json:
        print(
            json.dumps({"method": repr(method), "calls": most.calls, "tokens": most.tokens, "budget": budget.limits()})
        )
    else:
        print(f"{method!r} would make at most {ceiling_text(most)}")
