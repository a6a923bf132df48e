"""What a person reads when a run is over: the answer, the votes, the bill."""

from __future__ import annotations

import math
import sys
from collections.abc import Mapping
from dataclasses import dataclass

from rich.console import Console
from rich.table import Table
from rich.text import Text

from thinkscale.engines.protocol import ThinkFormat
from thinkscale.engines.think_formats import divided
from thinkscale.types import Finish, Outcome, Stopped, Usage

WHY = {
    Stopped.done: "every attempt was made",
    Stopped.enough: "the vote was clear",
    Stopped.budget: "the budget ran out",
    Stopped.error: "every attempt failed",
    Stopped.cancelled: "it was told to",
}


NOTHING = "the budget was over before there was anything to show"


def outcome_report(outcome: Outcome, think: ThinkFormat | None = None, *, quiet: bool) -> None:
    """Print an outcome: the answer on stdout, warnings on stderr; `think` are the thinking markers of the model."""
    console = Console(soft_wrap=True, highlight=False)
    for warning in outcome.warnings:
        print(f"warning: {warning}", file=sys.stderr)
    if outcome.answer is not None:
        console.print(Text(outcome.answer) if quiet else _headline(outcome))
    elif said := _said(outcome, think):
        console.print(Text(said))
        if not quiet:
            print("note: no short answer to vote on was found; this is the first attempt", file=sys.stderr)
    else:
        print(f"no answer: {_why_none(outcome)}", file=sys.stderr)
    if quiet:
        return
    if cut := sum(t.finish is Finish.length and t.answer is None for t in outcome.traces):
        print(
            f"note: {cut} of {len(outcome.traces)} attempts were cut off before they answered: raise `--max-tokens`",
            file=sys.stderr,
        )
    if outcome.votes:
        console.print(votes_table(outcome))
    console.print(f"{spend(outcome.usage)}; stopped because {WHY[outcome.stopped]}", style="dim")
    if outcome.run:
        console.print(f"traces: thinkscale show {outcome.run}", style="dim")


def votes_table(outcome: Outcome) -> Table:
    """The classes of answers, heaviest first, and the attempts without an answer; with the scores that decided."""
    weighed = any(vote.weight != vote.count for vote in outcome.votes)
    scores = _best_scores(outcome)
    names = ["answer", "votes", *(["weight"] if weighed else []), *([f"best {scores.kind}"] if scores else []), ""]
    table = Table(box=None, padding=(0, 2), header_style="bold")
    for name in names:
        table.add_column(name, justify="left" if name in ("answer", "") else "right")
    most = max(v.weight for v in outcome.votes)
    for vote in outcome.votes[:10]:
        bar = "█" * max(1, round(24 * vote.weight / most)) if vote.weight > 0 and most > 0 else ""
        row: list[str | Text] = [Text(clipped(vote.answer, 60)), str(vote.count)]
        row += [f"{vote.weight:.4g}"] if weighed else []
        row += [_told(scores.by_key.get(vote.key, -math.inf))] if scores else []
        table.add_row(*row, Text(bar, style="cyan"))
    if len(outcome.votes) > 10:
        table.add_row(Text(f"… {len(outcome.votes) - 10} more", style="dim"))
    if silent := sum(t.answer is None and t.finish is not Finish.aborted for t in outcome.traces):
        table.add_row(Text("without an answer", style="dim"), Text(str(silent), style="dim"))
    return table


@dataclass(frozen=True, slots=True)
class _Scores:
    """The highest score of each answer."""

    kind: str
    by_key: Mapping[str, float]


def _best_scores(outcome: Outcome) -> _Scores | None:
    """By the scorer that judged the chosen attempt last; `None` where none did."""
    if outcome.best is None or not outcome.best.scores:
        return None
    kind, found = outcome.best.scores[-1].kind, dict[str, float]()
    for answer, scores in ((t.answer, t.scores) for t in outcome.traces if t.answer):
        highest = max((s.value for s in scores if s.kind == kind), default=-math.inf)
        found[answer.key] = max(highest, found.get(answer.key, -math.inf))
    return _Scores(kind, found)


def _told(score: float) -> str:
    return "–" if score == -math.inf else f"{score:.4g}"


def spend(usage: Usage) -> str:
    """The bill in one line."""
    parts = [f"{usage.calls} calls", f"{usage.output_tokens:,} tokens generated"]
    if usage.input_tokens is not None:
        cached = f" ({usage.cached_tokens:,} cached)" if usage.cached_tokens else ""
        parts.append(f"{usage.input_tokens:,} read{cached}")
    parts.append(f"{usage.seconds:.1f} s")
    if usage.usd is not None:
        parts.append(f"${usage.usd:.4f}")
    return ", ".join(parts)


def clipped(text: str, width: int) -> str:
    """One line of at most `width` characters."""
    line = " ".join(text.split())
    return line if len(line) <= width else line[: width - 1] + "…"


def _headline(outcome: Outcome) -> Text:
    line = Text(outcome.answer or "", style="bold green")
    if outcome.confidence is not None:
        line.append(f"   confidence {outcome.confidence:.0%}", style="not bold default")
    return line


def _said(outcome: Outcome, think: ThinkFormat | None) -> str:
    """The words of the best attempt, without its thinking; none of one that an interrupt cut."""
    best = outcome.best
    if best is None or not best.own_text.strip() or (outcome.stopped is Stopped.cancelled and not best.finish.ended):
        return ""
    return divided(best.text, think, ended=best.finish is Finish.eos)[1].strip()


def _why_none(outcome: Outcome) -> str:
    if outcome.stopped is Stopped.cancelled:
        return "no attempt was done"
    if outcome.stopped is Stopped.budget and not outcome.spoke:
        return f"{NOTHING}; allow more with `--budget`"
    if outcome.stopped is Stopped.budget:
        return "the budget bought no attempt that answers; allow more with `--budget`"
    if outcome.stopped is Stopped.error:
        return "every attempt failed"
    return "no attempt answers"
