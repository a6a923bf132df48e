"""What an attempt says in its own words: nothing of a thinking that is not over, and nothing of what we injected."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from itertools import groupby

from thinkscale.engines.protocol import ThinkFormat
from thinkscale.engines.think_formats import think_format_in
from thinkscale.types import Answer, Finish, Origin, Trace

_LEADS = re.compile(r"(?:[:：={(\[]|\b(?:is|are|be))\s*$")
"""Text of ours that points at what follows, such as `Final Answer:`."""


Read = Callable[[str, bool], Answer | None]
"""Finds the answer in a text, of which it is said whether the model came to its end."""


def answer_in(trace: Trace, think: ThinkFormat | None, read: Read, before: Answer | None = None) -> Answer | None:
    """The answer of a trace, read from what the model wrote since we last injected anything.

    Args:
        trace: whose last segment was sampled.
        think: the model's thinking markers, if they are known.
        read: how answers are found.
        before: the answer that the trace had before that was injected; it stands where nothing was added to it.
    """
    if is_unclosed(trace, think):
        return None
    written = [s for s in trace.segments if s.text]
    if not written or written[-1].origin is Origin.injected:
        return before
    *_, (own, lead) = _words(trace)
    marks = think_format_in(own, think)
    if marks.ends and (closed := marks.close.strip()) in own:
        own, lead = own.rpartition(closed)[2], ""
    found = read(lead + own, trace.finish.ended) if own.strip() else None
    return found or (before if any(s.origin is Origin.injected for s in written) else None)


def answer_in_thinking(trace: Trace, think: ThinkFormat | None, read: Read) -> Answer | None:
    """What a thinking that is not over points out as its answer so far; the last of several."""
    written = [s for s in trace.segments if s.text]
    ended = trace.finish.ended or bool(written and written[-1].origin is Origin.injected)
    for own, lead in reversed([*_words(trace)]):
        opened = think_format_in(own, think).open.strip()
        text = own.rpartition(opened)[2] if opened else own
        if text.strip() and (found := read(lead + text, ended)):
            return found
        ended = True  # what stands before an injection was not cut off
    return None


def is_unclosed(trace: Trace, think: ThinkFormat | None) -> bool:
    """Whether a trace breaks off in its thinking."""
    return think_format_in(trace.text, think).unclosed(trace.text, ended=trace.finish is Finish.eos)


def _words(trace: Trace) -> Iterator[tuple[str, str]]:
    """Every run of sampled text, with what injected text before it points at it."""
    lead = ""
    for origin, segments in groupby((s for s in trace.segments if s.text), key=lambda s: s.origin):
        text = "".join(s.text for s in segments)
        if origin is Origin.sampled:
            yield text, lead
        line = text.rpartition("\n")[2]
        lead = line if origin is Origin.injected and _LEADS.search(line) else ""
