"""An engine that says the question back, word by word."""

from collections.abc import AsyncGenerator

from thinkscale.engines.protocol import Abort, Capabilities, Chunk, Completion, Request
from thinkscale.types import Finish, Usage


class Parrot:
    """Repeats the last message."""

    @property
    def capabilities(self) -> Capabilities:
        """Nothing but sampling."""
        return Capabilities(model="parrot")

    async def open(self) -> None:
        """Nothing to ask."""

    def count(self, request: Request) -> int:
        """Words of the last message."""
        return len(str(request.messages[-1].content).split())

    async def stream(self, request: Request, abort: Abort | None = None) -> AsyncGenerator[Chunk, None]:
        """Say it back."""
        words = str(request.messages[-1].content).split()[: request.sampling.max_tokens]
        for index in range(request.n):
            text = " ".join(words)
            cuts = [(text.find(stop), stop) for stop in request.sampling.stop if stop in text]
            at, fired = min(cuts, default=(len(text), None))
            spoken = len(text[:at].split())
            asked = self.count(request)
            cut_short = asked > len(words)
            completion = Completion(
                text=text[:at],
                finish=Finish.stop if fired else Finish.length if cut_short else Finish.eos,
                tokens=spoken,
                stop_string=fired,
                usage=Usage(calls=1, input_tokens=asked if index == 0 else 0, output_tokens=spoken),
            )
            yield Chunk(index, completion.text, spoken, completion)

    async def aclose(self) -> None:
        """Nothing to release."""
