"""Server-sent events, from bytes in any portions to the payloads of whole events. It knows nothing of what they say."""

from __future__ import annotations

import orjson

from thinkscale.errors import EngineError

LIMIT = 8 * 2**20
"""Most bytes of one event."""
_BOM = b"\xef\xbb\xbf"


class Events:
    r"""The events of one reply, as they arrive.

    Lines may end in LF, CRLF or CR. Characters are not decoded here, so a portion may end in the middle of one.
    """

    __slots__ = ("_after_cr", "_begun", "_rest", "_size")

    def __init__(self) -> None:
        self._rest: list[bytes] = []
        self._size = 0
        self._begun = False
        self._after_cr = False

    def feed(self, data: bytes) -> list[bytes]:
        """The payloads of the events that `data` completes, in order; `[DONE]` is one like any other.

        Raises:
            EngineError: one event is larger than `LIMIT`.
        """
        if not data:
            return []
        if self._after_cr or b"\r" in data:
            data = self._with_plain_ends(data)
        if self._rest:
            # A long event comes in many portions without a line's end: joining them one by one would be quadratic.
            if b"\n" not in data:
                self._keep(data)
                return []
            data = b"".join((*self._rest, data))
            self._rest.clear()
            self._size = 0
        end = data.rfind(b"\n\n")
        if end < 0:
            self._keep(data)
            return []
        if end + 2 < len(data):
            self._keep(data[end + 2 :])
        return self._payloads(data[:end])

    def end(self) -> list[bytes]:
        """What is left when the reply has ended: the last event of a server that leaves out the final blank line.

        Of a connection that broke it is the beginning of an event, and then no JSON.
        """
        data = b"".join(self._rest)
        self._rest.clear()
        self._size = 0
        return self._payloads(data)

    def _payloads(self, data: bytes) -> list[bytes]:
        if not self._begun and data:
            self._begun = True
            data = data.removeprefix(_BOM)
        payloads = []
        for block in data.split(b"\n\n"):
            simple = block[:6] == b"data: " and b"\n" not in block
            if payload := block[6:] if simple else _payload(block):
                payloads.append(payload)
        return payloads

    def _keep(self, data: bytes) -> None:
        if not data:
            return
        self._rest.append(data)
        self._size += len(data)
        if self._size > LIMIT:
            raise EngineError(
                f"the server sent one event of more than {LIMIT // 2**20} MiB, so its reply was given up: check that "
                "the base URL is that of an OpenAI-compatible server"
            )

    def _with_plain_ends(self, data: bytes) -> bytes:
        """The data with LF at the end of every line, whatever portion the halves of a CRLF come in."""
        if self._after_cr:
            data = data.removeprefix(b"\n")
        self._after_cr = data.endswith(b"\r")
        return data.replace(b"\r\n", b"\n").replace(b"\r", b"\n")


def _payload(block: bytes) -> bytes:
    """The `data` of an event's lines, joined; comments and other fields say nothing to us, but for errors.

    These come in several ways: under a field of their own, as an event of that name, and as bare JSON.
    """
    if block.lstrip()[:1] == b"{":
        return block.strip()
    said = []
    failed = False
    for line in block.split(b"\n"):
        name, _, value = line.partition(b":")
        value = value.removeprefix(b" ")
        if name in (b"data", b"error"):
            said.append(value)
        failed |= name == b"error" or (name == b"event" and value.strip() == b"error")
    payload = b"\n".join(said)
    return _complaint(payload) if failed and payload else payload


def _complaint(payload: bytes) -> bytes:
    """What an event that is an error says, as an object that has it as its `error`."""
    try:
        told = orjson.loads(payload)
    except orjson.JSONDecodeError:
        told = payload.decode("utf-8", "replace")
    return payload if isinstance(told, dict) and "error" in told else orjson.dumps({"error": told})
