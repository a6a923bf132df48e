"""A request in vLLM's terms: token ids and sampling parameters. Nothing here runs a model or imports vLLM."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Protocol

from thinkscale.engines.protocol import Request
from thinkscale.errors import CapabilityError, EngineError
from thinkscale.types import Message, Sampling

MOST_BIASES = 1024
"""Tokens that one request may bias; more than that ends vLLM's worker process."""


class Tokenizer(Protocol):
    """vLLM's `TokenizerLike`."""

    def encode(self, text: str, *, add_special_tokens: bool) -> list[int]:
        """Ids of a text."""
        ...

    def decode(self, ids: Sequence[int], *, skip_special_tokens: bool) -> str:
        """Text of ids."""
        ...

    def apply_chat_template(self, messages: list[dict[str, object]], **settings: object) -> list[int]:
        """Ids of a conversation."""
        ...


class Tokens:
    """The tokenizer, as a request needs it. Safe from any thread."""

    def __init__(self, tokenizer: Tokenizer) -> None:
        self._tokenizer = tokenizer

    @property
    def template(self) -> tuple[str, str]:
        """The chat template, and the prompt that it makes of one message."""
        ids = self._rendered([Message("user", "Hello")], (), {})
        return str(getattr(self._tokenizer, "chat_template", None) or ""), self.decode(ids)

    def prompt(self, request: Request) -> list[int]:
        """Ids of the rendered messages and of the partial assistant turn behind them."""
        sampling = request.sampling
        settings = dict(_mapping(sampling.extra.get("chat_template_kwargs")))
        if sampling.effort is not None:
            settings["reasoning_effort"] = sampling.effort
        ids = self._rendered(request.messages, request.tools, settings)
        return ids + [i for segment in request.prefix for i in segment.token_ids or self.encode(segment.text)]

    def encode(self, text: str) -> list[int]:
        """Ids of a text that stands in the middle of another; the spelling of a special token becomes that token."""
        return list(self._tokenizer.encode(text, add_special_tokens=False)) if text else []

    def decode(self, ids: Sequence[int]) -> str:
        """The text of tokens, special ones included."""
        return self._tokenizer.decode(ids, skip_special_tokens=False)

    def single(self, text: str) -> int:
        """The one token that spells a text.

        Raises:
            EngineError: there is none.
        """
        ids = self.encode(text)
        if len(ids) != 1:
            raise EngineError(
                f"cannot ban {text!r}: this model spells it with {len(ids)} tokens, and a ban needs one", status=400
            )
        return ids[0]

    def spelling(self, text: str, ids: Sequence[int], before: int) -> tuple[int, ...]:
        """Ids that spell exactly `text`, a beginning of what `ids` spell behind the token `before`; empty if none do.

        Whole tokens are kept, and only the rest of one that the cut went through is tokenised.
        """
        head = self.decode([before])

        def spelled(some: Sequence[int]) -> str:
            return self.decode([before, *some]).removeprefix(head)

        # A stop string or an unfinished character cuts off the last few tokens, never more.
        for kept in range(len(ids), max(-1, len(ids) - 64), -1):
            start = spelled(ids[:kept])
            if text.startswith(start):
                found = (*ids[:kept], *self.encode(text[len(start) :]))
                return found if spelled(found) == text else ()
        return ()

    def _rendered(
        self, messages: Sequence[Message], tools: Sequence[object], settings: Mapping[str, object]
    ) -> list[int]:
        spoken = [{**m.extra, "role": m.role, "content": _text_of(m)} for m in messages]
        fixed = {"add_generation_prompt": True, "tokenize": True, "return_dict": False}
        try:
            return list(self._tokenizer.apply_chat_template(spoken, tools=list(tools) or None, **{**settings, **fixed}))
        except Exception as error:  # templates raise whatever their authors wrote
            raise EngineError(f"the model's chat template refused the messages: {error}", status=400) from error


def _text_of(message: Message) -> str:
    if isinstance(message.content, str):
        return message.content
    texts = [part.get("text") for part in message.content]
    if not all(isinstance(text, str) for text in texts):
        raise CapabilityError("this engine reads text only: take images and other parts out of the messages")
    return "".join(str(text) for text in texts)


def _mapping(value: object) -> Mapping[str, object]:
    return value if isinstance(value, Mapping) else {}


@dataclass(frozen=True, slots=True)
class Plan:
    """A request in token ids."""

    request: Request
    tokens: Tokens
    prompt: list[int]
    given: list[int]
    """Ids of the text to be scored."""

    @classmethod
    def of(cls, request: Request, tokens: Tokens) -> Plan:
        """The plan of a request.

        Raises:
            EngineError: the chat template refuses the messages or makes nothing of them.
        """
        prompt = tokens.prompt(request)
        if not prompt:
            raise EngineError("the request renders to no tokens at all: put some text into its messages", status=400)
        return cls(request, tokens, prompt, tokens.encode(request.continuation or ""))

    @property
    def empty(self) -> bool:
        """Whether there is nothing for vLLM to do: it always draws one token at least."""
        request = self.request
        return not self.given if request.continuation is not None else request.sampling.max_tokens == 0

    def settings(self, index: int) -> dict[str, object]:
        """Arguments of `vllm.SamplingParams` for one draw; what is left out is vLLM's own default."""
        sampling = self.request.sampling
        if self.request.continuation is not None:
            return {"max_tokens": 1, "temperature": 0.0, "prompt_logprobs": sampling.logprobs or 0}
        banned = [self.tokens.single(text) for text in sampling.banned]
        return sampling_settings(sampling, self.request.seeds[index], banned)


def sampling_settings(sampling: Sampling, seed: int, banned: Sequence[int] = ()) -> dict[str, object]:
    """Arguments of `vllm.SamplingParams`, with those of `StructuredOutputsParams` as a mapping.

    Bans are biases of minus infinity: vLLM's `bad_words` would ban a word with and without a space before it.

    Raises:
        EngineError: more tokens are biased than vLLM survives, or the `response_format` is unknown.
    """
    bias = {**sampling.logit_bias, **dict.fromkeys(banned, -math.inf)}
    if len(bias) > MOST_BIASES:
        raise EngineError(
            f"{len(bias)} tokens are biased or banned and vLLM takes {MOST_BIASES}: name fewer", status=400
        )
    cap = sampling.max_tokens
    wanted = {
        "temperature": sampling.temperature,
        "top_p": sampling.top_p,
        "top_k": sampling.top_k,
        "min_p": sampling.min_p,
        "logprobs": sampling.logprobs,
        "thinking_token_budget": sampling.thinking_budget,
        "logit_bias": bias or None,
        "structured_outputs": structure(sampling),
    }
    return {
        **{name: value for name, value in sampling.extra.items() if name != "chat_template_kwargs"},
        **{name: value for name, value in wanted.items() if value is not None},
        "seed": seed,
        "max_tokens": cap,
        "min_tokens": sampling.min_tokens if cap is None else min(sampling.min_tokens, cap),
        "stop": [text for text in sampling.stop if text],
        "skip_special_tokens": False,
    }


def structure(sampling: Sampling) -> dict[str, object] | None:
    """What the text must follow, as arguments of `vllm.StructuredOutputsParams`."""
    if sampling.grammar is not None:
        return {"grammar": sampling.grammar}
    wanted = sampling.response_format or {}
    kind, outer = wanted.get("type", "text"), _mapping(wanted.get("json_schema"))
    if kind == "text":
        return None
    if kind == "json_object":
        return {"json_object": True}
    schema = outer.get("schema", outer)
    if kind != "json_schema" or not isinstance(schema, Mapping) or not schema:
        raise EngineError(
            f"cannot follow `response_format` {dict(wanted)}: pass `json_object`, or `json_schema` with a schema",
            status=400,
        )
    return {"json": dict(schema)}
