"""Text that is passed on while it is drawn: which choice it belongs to, and what of it is thinking."""

from __future__ import annotations

from dataclasses import dataclass, field

from thinkscale.engines.protocol import ThinkFormat
from thinkscale.engines.think_formats import THINK_TAGS
from thinkscale.methods.single import Single
from thinkscale.serve.fitting import Passthrough
from thinkscale.serve.records import Order
from thinkscale.session import Event


@dataclass(slots=True)
class _Growing:
    """One choice while it grows."""

    heard: int = 0
    """Characters that were taken in."""
    broken: bool = False
    """Whether something is missing, or nothing more is to come: then the rest comes at the end."""
    held: str = ""
    """Taken in, and not yet known to be thinking or answer."""
    thinking: bool | None = None
    """`None` until the beginning tells."""
    thought: list[str] = field(default_factory=list)
    text: list[str] = field(default_factory=list)


class LiveText:
    """The text of every choice as far as it was passed on.

    Args:
        think: how the model marks its thinking; `None` takes all for the answer.
    """

    def __init__(self, think: ThinkFormat | None) -> None:
        self._think = think
        self._growing: dict[int, _Growing] = {}

    @classmethod
    def of(cls, order: Order, *, divided: bool = True) -> LiveText | None:
        """For an order whose draws are the choices; `None` where attempts are judged before one is shown.

        Log-probabilities go with the text they belong to, so with them all comes at the end.
        """
        single = isinstance(order.method, Passthrough | Single)
        if not single or order.asked.sampling.logprobs is not None:
            return None
        return cls((order.engine.capabilities.think or THINK_TAGS) if divided else None)

    def heard(self, event: Event) -> tuple[int, str, str]:
        """The choice that an event is about, and what it adds to its thinking and to its answer."""
        at = event.path[0] if event.path else 0
        growing = self._growing.setdefault(at, _Growing())
        growing.broken |= event.trace is not None  # what may still be added to it is another call's
        beyond = growing.heard - event.at
        if event.role != "main" or not event.text or beyond >= len(event.text):
            return at, "", ""
        # A gap: the listener came late or was too slow. A call made again repeats itself, and is heard from where it is
        # new; should it say something else, the end of the stream shows nothing further.
        growing.broken |= beyond < 0
        if growing.broken:
            return at, "", ""
        growing.held += event.text[beyond:]
        growing.heard = event.at + len(event.text)
        thought, text = self._told_apart(growing)
        growing.thought.append(thought)
        growing.text.append(text)
        return at, thought, text

    def sent(self, at: int) -> tuple[str, str]:
        """The thinking and the answer of a choice that were passed on."""
        growing = self._growing.get(at, _Growing())
        return "".join(growing.thought), "".join(growing.text)

    def _told_apart(self, growing: _Growing) -> tuple[str, str]:
        """What has become certain of the text that is held."""
        if self._think is None:
            held, growing.held = growing.held, ""
            return "", held
        begin, end = self._think.open.strip(), self._think.close.strip()
        if growing.thinking is None:
            held = growing.held.lstrip()
            if begin and not held.startswith(begin) and begin.startswith(held):
                return "", ""
            growing.thinking = held.startswith(begin)
            growing.held = held.removeprefix(begin).lstrip() if growing.thinking else growing.held
        if not growing.thinking:
            held, growing.held = growing.held, ""
            return "", _trimmed(growing, held) if any(growing.thought) else held
        if not any(growing.thought):
            growing.held = growing.held.lstrip()
        thought, found, answer = growing.held.partition(end)
        if found:
            growing.thinking, growing.held = False, ""
            return thought.rstrip(), _trimmed(growing, answer)
        certain = len(growing.held) - _overlap(growing.held, end)
        thought, growing.held = growing.held[:certain], growing.held[certain:]
        return thought, ""


def _trimmed(growing: _Growing, said: str) -> str:
    """More of an answer behind a thought, without the space around it; what may be its end is held back."""
    if not any(growing.text):
        said = said.lstrip()
    certain = said.rstrip()
    growing.held = said[len(certain) :]
    return certain


def _overlap(text: str, mark: str) -> int:
    """Characters at the end of a text that may be the beginning of a mark, space before it included."""
    longest = next((n for n in range(min(len(text), len(mark) - 1), 0, -1) if text.endswith(mark[:n])), 0)
    kept = text[: len(text) - longest]
    return longest + len(kept) - len(kept.rstrip())
