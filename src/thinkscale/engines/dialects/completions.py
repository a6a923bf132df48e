"""The language of `completions`: text in, text out. It continues a text exactly and can tell likelihoods."""

from __future__ import annotations

from dataclasses import replace

from thinkscale.engines.dialects import Habits, Json, News, Piece
from thinkscale.engines.dialects.fields import merged, sampled_fields, written
from thinkscale.engines.dialects.parts import Choice, count, legacy_logprobs, news_of
from thinkscale.engines.protocol import Request
from thinkscale.errors import CapabilityError, EngineError
from thinkscale.types import Finish, Logprobs, LogprobSpace, Message


class Completions:
    """A text and its continuation, without a chat template; the texts of several messages are paragraphs."""

    path = "completions"
    shares = True

    def body(self, request: Request, model: str, n: int, habits: Habits) -> dict[str, object]:
        """The streamed request for n choices; the first of the request's seeds goes with it.

        For a likelihood nothing is sampled, so that request has no seed and is not streamed.

        Raises:
            CapabilityError: the request has images or tools, or the server has no field for something to obey.
        """
        if request.tools:
            raise CapabilityError("`completions` has no tools: ask through `api=chat`")
        text = "\n\n".join(_text(message) for message in request.messages) + written(request.prefix)
        sampling = request.sampling
        if request.continuation is not None:
            # A k of 0 would do for most servers; SGLang takes it for not asked.
            asked = {"max_tokens": 0, "echo": True, "logprobs": max(sampling.logprobs or 0, 1), "stream": False}
            return merged({"model": model, "prompt": text + request.continuation, **asked}, sampling.extra)
        body = sampled_fields(request, model, n, habits, "max_tokens")
        body["prompt"] = text
        if sampling.logprobs is not None:
            # Some servers take 0 for "none at all" instead of "of the sampled tokens".
            body["logprobs"] = max(1, sampling.logprobs)
        return merged(body, sampling.extra)

    def news(self, event: Json) -> News:
        """What one chunk says; chunks of another kind say nothing."""
        return news_of(event, _hear)

    def whole(self, reply: Json, request: Request) -> News:
        """What a reply to the request says that came in one piece.

        Raises:
            EngineError: the request is for a likelihood, and the reply has no log-probabilities of what was shown.
        """
        news = news_of(reply, _hear)
        if request.continuation is None or news.error is not None:
            return news
        logprobs = _likelihood(reply, request.continuation)
        if not request.sampling.logprobs:
            logprobs = replace(logprobs, top=())
        pieces = [
            Piece(i, request.continuation, sampled=0, logprobs=logprobs, finish=Finish.length) for i in range(request.n)
        ]
        return News(pieces, news.usage)


def _likelihood(reply: Json, continuation: str) -> Logprobs:
    """Log-probabilities of the last tokens of an echoed text, those that spell the continuation.

    A token that reaches from the prompt into the continuation belongs to the continuation. The boundary is found from
    the end, because servers put tokens of their own in front.
    """
    choices = reply.get("choices")
    told = choices[0].get("logprobs") if isinstance(choices, list) and choices else None
    tokens = told.get("tokens") if isinstance(told, dict) else None
    if not isinstance(told, dict) or not isinstance(tokens, list) or not tokens:
        raise EngineError(
            "the server gave no log-probabilities of the text it was shown, which a likelihood needs: use a server "
            "that can `echo` them, such as vLLM, or another engine"
        )
    end = len(tokens) - (count(reply.get("usage"), "completion_tokens") or 0)
    begin, missing = end, len(continuation)
    while begin > 0 and missing > 0:
        begin -= 1
        missing -= len(str(tokens[begin]))
    kept = {name: values[begin:end] for name, values in told.items() if isinstance(values, list)}
    return legacy_logprobs(kept) or Logprobs(space=LogprobSpace.raw, chosen=())


def _hear(piece: Piece, choice: Choice) -> None:
    text = choice.get("text")
    if isinstance(text, str):
        piece.text = text


def _text(message: Message) -> str:
    """The words of a message.

    Raises:
        CapabilityError: it has a part that is not text.
    """
    if isinstance(message.content, str):
        return message.content
    words = []
    for part in message.content:
        if part.get("type") != "text":
            raise CapabilityError(
                f"a message has a part of type `{part.get('type')}`, and `completions` takes text alone: ask through "
                "`api=chat`"
            )
        words.append(str(part.get("text", "")))
    return "".join(words)
