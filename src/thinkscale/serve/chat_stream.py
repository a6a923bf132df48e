"""The chunks of chat completions and of completions, from the events of a run and then from its outcome.

What is drawn once for every choice is passed on as it comes; where attempts are judged, progress comes as thinking and
the answer at the end. Pure: nothing is sent here.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from thinkscale.errors import ServeError
from thinkscale.serve.fitting import Passthrough
from thinkscale.serve.frames import DONE, Progress, beyond, frame
from thinkscale.serve.live import LiveText
from thinkscale.serve.records import Api, Order
from thinkscale.serve.replies import chat_logprobs, completion_choice, error, usage_of
from thinkscale.serve.shown import REASONING_FIELDS, Choice, bill, choices_of, report
from thinkscale.session import Event
from thinkscale.types import Outcome


class ChatStream:
    """The chunks of chat completions and of completions.

    Args:
        order: what is run.
        id: that of every chunk.
        created: seconds since 1970.
        names: fields that carry thinking and progress; none leaves both out.
    """

    def __init__(self, order: Order, *, id: str, created: int, names: Sequence[str] = REASONING_FIELDS) -> None:
        self._order, self._names = order, names
        self._chat = order.asked.api is Api.chat
        kind = "chat.completion.chunk" if self._chat else "text_completion"
        self._same = {"id": id, "object": kind, "created": created, "model": order.asked.model}
        self._progress = Progress()
        self._live = LiveText.of(order, divided=self._chat)
        self._open: set[int] = set()
        """Choices of which something was said, and not yet why they ended."""

    def begin(self) -> Iterator[bytes]:
        """The role of every choice that is certain to come."""
        if self._chat:
            wanted = self._order.asked.n if isinstance(self._order.method, Passthrough) else 1
            for at in range(wanted):
                yield self._delta({"role": "assistant", "content": "", "refusal": None}, at)

    def news(self, event: Event) -> Iterator[bytes]:
        """Text of a choice as it comes, or how the attempts stand."""
        if self._live is not None:
            at, thought, text = self._live.heard(event)
            yield from self._thought(thought, at)
            yield from self._text(text, at)
        elif self._chat and not isinstance(self._order.method, Passthrough):
            yield from self._thought(self._progress.line(event))

    def end(self, outcome: Outcome) -> Iterator[bytes]:
        """What was not sent yet, why each choice ended, the usage where it was asked for, and the last words."""
        choices = choices_of(self._order, outcome)
        for choice in choices:
            yield from self._rest(choice)
        told: dict[str, object] = {"thinkscale": report(self._order, outcome)}
        for at in sorted(self._open - {choice.at for choice in choices}):
            yield self._finish(Choice(at=at, text="", finish="length"), {})  # its draw broke off
        for choice in choices:
            yield self._finish(choice, told if choice is choices[-1] else {})
        if self._order.asked.include_usage:
            yield frame({**self._same, "choices": [], "usage": usage_of(bill(outcome, choices))})
        yield DONE

    def fail(self, refused: ServeError) -> Iterator[bytes]:
        """OpenAI's error object as the last event."""
        yield frame(error(refused))
        yield DONE

    def _rest(self, choice: Choice) -> Iterator[bytes]:
        at = choice.at
        sent = self._live.sent(at) if self._live is not None else ("", "")
        if not self._chat:
            yield from self._text(beyond(choice.whole, sent[1]), at, choice)
            return
        if not sent[0]:
            yield from self._thought(choice.thought, at)
        yield from self._text(beyond(choice.text, sent[1]), at, choice)
        if choice.calls:
            yield self._delta({"tool_calls": [{"index": i, **call} for i, call in enumerate(choice.calls)]}, at)

    def _finish(self, choice: Choice, told: dict[str, object]) -> bytes:
        if self._chat:
            last: dict[str, object] = {"index": choice.at, "delta": {}, "finish_reason": choice.finish}
        else:
            last = {**completion_choice(choice, self._order), "text": "", "logprobs": None}
        return frame({**self._same, "choices": [last], **told})

    def _thought(self, thought: str, at: int = 0) -> Iterator[bytes]:
        if thought and self._names:
            yield self._delta(dict.fromkeys(self._names, thought), at)

    def _text(self, text: str, at: int, choice: Choice | None = None) -> Iterator[bytes]:
        if not text:
            return
        if self._chat:
            logprobs = chat_logprobs(choice, self._order) if choice else None
            yield self._delta({"content": text}, at, {"logprobs": logprobs} if logprobs else {})
            return
        self._open.add(at)
        if choice is not None:
            said = completion_choice(choice, self._order)
            yield frame({**self._same, "choices": [{**said, "text": text, "finish_reason": None}]})
        else:
            said = {"index": at, "text": text, "logprobs": None, "finish_reason": None}
            yield frame({**self._same, "choices": [said]})

    def _delta(self, delta: dict[str, object], at: int, more: dict[str, object] | None = None) -> bytes:
        self._open.add(at)
        said = {"index": at, "delta": delta, "finish_reason": None, **(more or {})}
        return frame({**self._same, "choices": [said]})
