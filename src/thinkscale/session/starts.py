"""The starts of draws: empty traces of prompts, forks of traces, and the labels that answers get."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace

from thinkscale.answers.partition import Vote
from thinkscale.session.place import Place
from thinkscale.types import Finish, Message, Problem, Sampling, Trace


def problem_of(place: Place, what: Problem | Sequence[Message]) -> Problem:
    """A problem, or bare messages as one."""
    return what if isinstance(what, Problem) else Problem(messages=tuple(what), answer_kind=place.kind)


def start_of(place: Place, what: Problem | Sequence[Message]) -> Trace:
    """An empty trace of a prompt, without a path of its own; only attempts at a problem continue `place.before`."""
    if isinstance(what, Problem):
        return Trace(prompt=what.messages, segments=place.before, path=place.path, tools=what.tools)
    return Trace(prompt=tuple(what), path=place.path)


def root(place: Place, what: Problem | Sequence[Message], n: int, parents: Sequence[Trace] = ()) -> list[Trace]:
    """Empty traces of n draws of a prompt: below its first parent, or the next ones of this prompt."""
    start = start_of(place, what)
    if parents:
        above = tuple(parent.path for parent in parents)
        return [replace(start, path=path, parents=above) for path in place.run.branch(above[0], n)]
    first = place.run.number(place.role, start, n)
    # The prompt and the segments are shared, by which calls see that these draws continue the same text.
    prompt, segments, tools = start.prompt, start.segments, start.tools
    return [Trace(prompt=prompt, segments=segments, path=(*place.path, first + j), tools=tools) for j in range(n)]


def forks(place: Place, trace: Trace, n: int) -> list[Trace]:
    """A trace as the start of n continuations; the first and only one keeps its path."""
    turn = place.run.number(place.role, trace, n)
    paths = [trace.path] if n == 1 and turn == 0 else place.run.branch(trace.path, n)
    return [replace(trace, path=path, finish=Finish.open) for path in paths]


def sampling_with(place: Place, given: Mapping[str, object]) -> Sampling:
    """The sampling of a place with some fields changed; `None` leaves one as it is."""
    changed = {name: value for name, value in given.items() if value is not None}
    return replace(place.sampling, **changed) if changed else place.sampling  # type: ignore[arg-type]


def end_step(trace: Trace, mark: str | None) -> Trace:
    """A trace after a step: the mark becomes sampled text, and the turn goes on."""
    if mark is None or trace.stop_string != mark:
        return trace
    *before, last = trace.segments
    if not last.tokens:
        # An engine that says nothing at all would be asked for ever.
        return replace(trace, finish=Finish.eos, stop_string=None)
    own = replace(last, text=last.text + mark, token_ids=())
    return replace(trace, segments=(*before, own), finish=Finish.open, stop_string=None)


async def agree(place: Place, traces: list[Trace], new: Trace) -> None:
    """Append a trace, and update the labels of all answers to the present classes of the vote at this place."""
    traces.append(new)
    if new.answer is None:
        return
    vote = place.run.vote(place.path, place.kind)
    before, own = vote.version, new.answer.own or new.answer.key
    if own not in vote and not vote.settled([own]):
        await vote.add(())
    if vote.version == before:
        traces[-1] = label(vote, new)
    else:
        traces[:] = [label(vote, trace) for trace in traces]


def label(vote: Vote, trace: Trace) -> Trace:
    """A trace with its answer under the label of its class."""
    answer = trace.answer
    if answer is None or (key := vote.label(answer.own or answer.key)) == answer.key:
        return trace
    return replace(trace, answer=answer.labelled(key))
