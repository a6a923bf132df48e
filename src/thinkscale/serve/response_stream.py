"""The events of a streamed response, from the events of a run and then from its outcome. Pure: nothing is sent here."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from thinkscale.errors import ServeError
from thinkscale.serve.fields import Json
from thinkscale.serve.frames import Progress, beyond, frame
from thinkscale.serve.live import LiveText
from thinkscale.serve.records import Order
from thinkscale.serve.replies import call_item, failed, message_item, reasoning_item, response_end, response_frame
from thinkscale.serve.shown import REASONING_FIELDS, choices_of
from thinkscale.session import Event
from thinkscale.types import Outcome


class ResponseStream:
    """Items that open, grow and close, one after the other: thinking with all progress, the answer, calls of tools.

    Args:
        order: what is run.
        id: of the response.
        created: seconds since 1970.
        names: no names leave thinking and progress out.
    """

    def __init__(self, order: Order, *, id: str, created: int, names: Sequence[str] = REASONING_FIELDS) -> None:
        self._order, self._id, self._names = order, id, names
        self._begun = response_frame(order, id, created)
        self._output: list[dict[str, object]] = []
        self._sent = 0
        self._progress = Progress()
        self._live = LiveText.of(order)
        self._thought: list[str] = []
        self._text: list[str] = []

    def begin(self) -> Iterator[bytes]:
        """The response before there is anything in it."""
        for kind in ("response.created", "response.in_progress"):
            yield self._event(kind, response=self._begun)

    def news(self, event: Event) -> Iterator[bytes]:
        """Text as it comes, or how the attempts stand."""
        if self._live is not None:
            _, thought, text = self._live.heard(event)
            yield from self._think(thought)
            yield from self._say(text)
        else:
            yield from self._think(self._progress.line(event))

    def end(self, outcome: Outcome) -> Iterator[bytes]:
        """What was not sent yet, and the whole response."""
        choice = next(iter(choices_of(self._order, outcome)), None)
        if choice is None:
            yield self._over(response_end(self._order, outcome, choice))
            return
        if self._live is None or not self._thought:
            yield from self._think(choice.thought)
        told = message_item(self._id, choice, self._order)
        yield from self._say(beyond(choice.text, "".join(self._text)), _part(told))
        if choice.text or not choice.calls:
            yield from self._said(told)
        else:
            yield from self._thinking_over()
        for at, call in enumerate(choice.calls):
            yield from self._called(call_item(self._id, call, at))
        yield self._over(response_end(self._order, outcome, choice))

    def fail(self, refused: ServeError) -> Iterator[bytes]:
        """The response that failed."""
        yield self._over(failed(refused))

    def _over(self, end: Json) -> bytes:
        """The last event, whose kind is the status. Clients know none for a response that was cancelled."""
        kind = "incomplete" if end["status"] == "cancelled" else end["status"]
        return self._event(f"response.{kind}", response={**self._begun, **end, "output": self._output})

    def _think(self, thought: str) -> Iterator[bytes]:
        if not thought or not self._names or self._text:
            return
        item = reasoning_item(self._id, "")
        if not self._thought:
            yield from self._opened({**item, "content": []}, {"type": "reasoning_text", "text": ""})
        self._thought.append(thought)
        yield self._inside("response.reasoning_text.delta", item, delta=thought)

    def _thinking_over(self) -> Iterator[bytes]:
        if self._thought and not self._output:
            item = reasoning_item(self._id, "".join(self._thought))
            yield self._inside("response.reasoning_text.done", item, text="".join(self._thought))
            yield from self._closed(item)

    def _say(self, text: str, told: Json | None = None) -> Iterator[bytes]:
        if not text:
            return
        item = {"id": f"msg_{self._id}"}
        if not self._text:
            yield from self._message_begun()
        self._text.append(text)
        logprobs = told["logprobs"] if told else []
        yield self._inside("response.output_text.delta", item, delta=text, logprobs=logprobs)

    def _message_begun(self) -> Iterator[bytes]:
        yield from self._thinking_over()
        empty = {"type": "output_text", "text": "", "annotations": [], "logprobs": []}
        item: dict[str, object] = {"id": f"msg_{self._id}", "type": "message", "role": "assistant", "content": []}
        yield from self._opened(item, empty)

    def _said(self, item: dict[str, object]) -> Iterator[bytes]:
        if not self._text:
            yield from self._message_begun()
        part = _part(item)
        yield self._inside("response.output_text.done", item, text=part["text"], logprobs=part["logprobs"])
        yield from self._closed(item)

    def _called(self, item: dict[str, object]) -> Iterator[bytes]:
        begun = {**item, "status": "in_progress", "arguments": ""}
        at, words = len(self._output), {"item_id": item["id"]}
        yield self._event("response.output_item.added", output_index=at, item=begun)
        kind = "response.function_call_arguments"
        yield self._event(f"{kind}.delta", output_index=at, **words, delta=item["arguments"])
        yield self._event(f"{kind}.done", output_index=at, **words, name=item["name"], arguments=item["arguments"])
        yield self._event("response.output_item.done", output_index=at, item=item)
        self._output.append(item)

    def _opened(self, item: dict[str, object], part: Json) -> Iterator[bytes]:
        begun = {**item, "status": "in_progress"}
        yield self._event("response.output_item.added", output_index=len(self._output), item=begun)
        yield self._inside("response.content_part.added", item, part=part)

    def _closed(self, item: dict[str, object]) -> Iterator[bytes]:
        yield self._inside("response.content_part.done", item, part=_part(item))
        yield self._event("response.output_item.done", output_index=len(self._output), item=item)
        self._output.append(item)

    def _inside(self, kind: str, item: Json, **told: object) -> bytes:
        """An event of the only part of the item that is open."""
        return self._event(kind, item_id=item["id"], output_index=len(self._output), content_index=0, **told)

    def _event(self, kind: str, **told: object) -> bytes:
        number, self._sent = self._sent, self._sent + 1
        return frame({"type": kind, "sequence_number": number, **told}, kind)


def _part(item: Json) -> Json:
    content = item["content"]
    assert isinstance(content, list)
    part: Json = content[0]
    return part
