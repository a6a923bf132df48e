"""How an answer came about: why drawing stopped, who voted and when, what was needed, paid and cut."""

from __future__ import annotations

from rich.console import Console
from rich.table import Table
from rich.text import Text

from thinkscale.cli.report import WHY, clipped
from thinkscale.stopping.certificate import certificate
from thinkscale.types import Finish, Outcome, Stopped, Trace

CUT = {
    Finish.length: "cut by its cap",
    Finish.budget: "cut by the budget",
    Finish.aborted: "ended early by the method",
}


def print_explanation(outcome: Outcome, replayed: int = 0) -> None:
    """Print it behind the report of an outcome; so many of its calls were found in the store."""
    console = Console(soft_wrap=True, highlight=False)
    console.print(Text(f"\nwhy it stopped: {WHY[outcome.stopped]}"))
    needed = "" if outcome.needed is None else f"needed {outcome.needed:,} tokens, "
    known = f", {replayed} of them found in the store" if replayed else ""
    console.print(Text(f"{needed}paid {outcome.usage.output_tokens:,} in {outcome.usage.calls} calls{known}"))
    table = Table(box=None, padding=(0, 2), header_style="bold")
    for name in ("order", "attempt", "tokens", "answer", ""):
        table.add_column(name, justify="left" if name in ("answer", "") else "right")
    for told in attempts_of(outcome):
        order, answer = told["order"], told["answer"]
        cells = ("–" if order is None else str(order), str(told["attempt"]), f"{told['tokens']:,}")
        table.add_row(*cells, Text("–" if answer is None else clipped(str(answer), 40)), Text(str(told["why"])))
    console.print(table)
    if outcome.votes:
        console.print(Text(_certified(outcome)))


def attempts_of(outcome: Outcome) -> list[dict[str, object]]:
    """Every attempt: its place in the order in which attempts counted, its number, tokens, answer and what befell it.

    `order` is `None` for what was paid and did not count.
    """
    told: list[dict[str, object]] = []
    counted = 0
    for trace in outcome.traces:
        counts = not (trace.pruned or trace.finish is Finish.error or (trace.finish is Finish.aborted and trace.error))
        counted += counts
        told.append(
            {
                "order": counted if counts else None,
                "attempt": ".".join(str(step + 1) for step in trace.path) or "1",
                "tokens": trace.tokens,
                "answer": trace.answer.text if trace.answer else None,
                "why": _fate(trace, outcome),
            }
        )
    return told


def _fate(trace: Trace, outcome: Outcome) -> str:
    if trace.pruned:
        return "a branch that was not followed"
    if trace.finish is Finish.error:
        return f"failed: {trace.error or 'the engine gave no reason'}"
    if trace.finish is Finish.aborted and trace.error:
        return trace.error
    ended = CUT.get(trace.finish, "")
    if trace.finish is Finish.budget and outcome.stopped is Stopped.cancelled:
        ended = "cut by the interrupt"
    voice = "voted" if trace.answer and outcome.votes else "" if trace.answer else "no answer"
    return ", ".join(filter(None, [voice, ended]))


def _certified(outcome: Outcome) -> str:
    """What complete waves certify, as attempts count there whatever their lengths."""
    drawn = sorted(outcome.traces[: sum(outcome.waves)], key=lambda t: t.path)
    found = certificate([t.answer.key if t.answer else None for t in drawn])
    if found is None:
        return "certificate: none yet, because it takes at least four attempts in complete waves"
    words = next(t.answer.text for t in drawn if t.answer and t.answer.key == found.answer)
    behind = f"after {len(drawn)} attempts in complete waves"
    if found.error >= 1:
        return f"certificate: nothing is certified of {clipped(words, 40)} {behind}"
    level = f"error at most {found.error:.1%}"
    return f"certificate: {clipped(words, 40)} is this model's likeliest answer {behind}, {level}"
