"""A streamed reply, whichever endpoint it is for: what whoever sends it sees."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Protocol

from thinkscale.errors import ServeError
from thinkscale.serve.chat_stream import ChatStream
from thinkscale.serve.records import Api, Order
from thinkscale.serve.response_stream import ResponseStream
from thinkscale.serve.shown import REASONING_FIELDS
from thinkscale.session import Event
from thinkscale.types import Outcome


class Stream(Protocol):
    """One streamed reply. Each method gives the frames to be sent next, ready for the wire."""

    def begin(self) -> Iterator[bytes]:
        """What is sent at once."""
        ...

    def news(self, event: Event) -> Iterator[bytes]:
        """What an event of the run gives to say."""
        ...

    def end(self, outcome: Outcome) -> Iterator[bytes]:
        """The answer, as far as it was not sent yet, and the end.

        Raises:
            ServeError: there is nothing to show; pass it to `fail`.
        """
        ...

    def fail(self, refused: ServeError) -> Iterator[bytes]:
        """The end of a reply that comes to nothing."""
        ...


def stream(order: Order, *, id: str, created: int, names: Sequence[str] = REASONING_FIELDS) -> Stream:
    """The reply to a request that is streamed, in the shape of its endpoint.

    Args:
        order: what is run.
        id: unique, beginning as `replies.PREFIXES` says.
        created: seconds since 1970.
        names: fields that carry thinking and progress in chat; none leaves both out, for responses too.
    """
    make = ResponseStream if order.asked.api is Api.responses else ChatStream
    return make(order, id=id, created=created, names=names)
