"""The language of `chat/completions`, with the words that vLLM, SGLang, llama.cpp and Ollama add to it."""

from __future__ import annotations

from collections.abc import Sequence

from thinkscale.engines.dialects import Habits, Json, News, Piece, Prefill
from thinkscale.engines.dialects.fields import given, merged, sampled_fields, written
from thinkscale.engines.dialects.parts import Choice, news_of
from thinkscale.engines.protocol import Request
from thinkscale.errors import CapabilityError
from thinkscale.types import Message


class Chat:
    """Messages in, messages out; the server applies the model's chat template."""

    path = "chat/completions"
    shares = True

    def body(self, request: Request, model: str, n: int, habits: Habits) -> dict[str, object]:
        """The streamed request for n choices; the first of the request's seeds goes with it.

        Raises:
            CapabilityError: the server cannot continue a partial turn, or has no field for something to obey.
        """
        if request.continuation is not None:
            raise CapabilityError(
                "a chat endpoint cannot tell the likelihood of a given text: ask through `api=completions`"
            )
        sampling = request.sampling
        body = sampled_fields(request, model, n, habits, habits.cap)
        messages = [_message(message) for message in request.messages]
        if begun := written(request.prefix):
            messages.append(_begun(begun, body, habits.prefill))
        body["messages"] = messages
        if sampling.logprobs is not None:
            body["logprobs"] = True
            if sampling.logprobs > 0:
                body["top_logprobs"] = sampling.logprobs
        body |= given(reasoning_effort=sampling.effort, tools=list(request.tools) or None)
        return merged(body, sampling.extra)

    def news(self, event: Json) -> News:
        """What one chunk says; chunks of another kind say nothing."""
        return news_of(event, _hear_delta)

    def whole(self, reply: Json, request: Request) -> News:
        """What a reply to the request says that came in one piece.

        llama.cpp begins such a text with the turn that it was to continue, which it does not do when it streams.
        """
        news = news_of(reply, _hear_message)
        begun = written(request.prefix)
        for piece in news.pieces:
            piece.text = piece.text.removeprefix(begun)
        return news


def _message(message: Message) -> dict[str, object]:
    content = message.content if isinstance(message.content, str) else list(message.content)
    return {"role": message.role, "content": content, **message.extra}


def _begun(text: str, body: dict[str, object], prefill: Prefill) -> dict[str, object]:
    """The partial turn as last message, and in the body what makes the server continue it."""
    turn: dict[str, object] = {"role": "assistant", "content": text}
    match prefill:
        case Prefill.no:
            raise CapabilityError(
                "this server cannot continue a partial turn: ask through `api=completions`, or use another engine"
            )
        case Prefill.flag:
            body |= {"continue_final_message": True, "add_generation_prompt": False}
        case Prefill.mark:
            turn["prefix"] = True
    return turn


def _hear_delta(piece: Piece, choice: Choice) -> None:
    _hear(piece, choice.get("delta"))


def _hear_message(piece: Piece, choice: Choice) -> None:
    # Some servers that were asked to stream, and could not, put their one event into the streamed shape.
    _hear(piece, choice.get("message") or choice.get("delta"))


def _hear(piece: Piece, said: object) -> None:
    """Take over what a delta or a message says."""
    if not isinstance(said, dict):
        return
    content = said.get("content")
    if len(said) == 1 and isinstance(content, str):
        piece.text = content
        return
    if isinstance(content, str):
        piece.text = content
    elif isinstance(content, list):
        piece.text, piece.thought = _parts(content)
    # Servers that send both names send the same words under both.
    thought = said.get("reasoning") or said.get("reasoning_content")
    if isinstance(thought, str) and thought:
        piece.thought = thought
    if isinstance(refusal := said.get("refusal"), str):
        piece.text += refusal
    if calls := said.get("tool_calls"):
        piece.calls = _calls(calls)


def _parts(content: Sequence[object]) -> tuple[str, str]:
    """Text and thinking of a content that is a list of parts."""
    text = thought = ""
    for part in content:
        if not isinstance(part, dict):
            continue
        kind = part.get("type")
        if kind in ("thinking", "reasoning"):
            inner = part.get("thinking") or part.get("text") or ""
            thought += inner if isinstance(inner, str) else _parts(inner)[0]
        else:
            text += str(part.get("text") or part.get("refusal") or "")
    return text, thought


def _calls(calls: object) -> list[Json]:
    if not isinstance(calls, list):
        return []
    return [
        call if isinstance(call.get("index"), int) else {**call, "index": at}
        for at, call in enumerate(calls)
        if isinstance(call, dict)
    ]
