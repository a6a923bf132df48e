"""Messages to prompt tokens through the model's own chat template, so that no message can forge a turn.

The template's text is tokenised with control tokens, the text of messages without them. A message that spells a
control token (`<|im_end|>`) therefore stays words. Where a template rewrites messages in a way that cannot be
followed, such a message is refused instead of guessed at.
"""

from __future__ import annotations

import json
import re
import secrets
from collections.abc import Callable, Mapping, Sequence
from datetime import datetime
from functools import lru_cache
from typing import NoReturn

from jinja2 import TemplateError
from jinja2.ext import loopcontrols
from jinja2.sandbox import ImmutableSandboxedEnvironment

from thinkscale.engines.protocol import Request
from thinkscale.engines.spelling import Speller, Vocabulary
from thinkscale.errors import CapabilityError, EngineError
from thinkscale.types import Message, Origin

Render = Callable[[list[Mapping[str, object]], list[object] | None], str]
"""Writes messages and tools as the text of a prompt that waits for the assistant."""

FALLBACK = (
    "{% for message in messages %}{{ message['role'] + ': ' + message['content'] + '\n' }}{% endfor %}"
    "{% if add_generation_prompt %}{{ 'assistant: ' }}{% endif %}"
)
"""For models whose file carries no chat template."""


class Prompts:
    """Turns requests into token ids. Safe from any thread."""

    def __init__(self, vocabulary: Vocabulary, speller: Speller, render: Render) -> None:
        self._vocabulary, self._speller, self._render = vocabulary, speller, render
        spelled = sorted(filter(None, vocabulary.control), key=len, reverse=True)
        self._control = re.compile("|".join(map(re.escape, spelled))) if spelled else None
        # The session counts a request before it sends it: the second look-up of the same text should cost nothing.
        self._plain = lru_cache(maxsize=64)(lambda text: tuple(vocabulary.tokenize(text, special=True)))

    def encode(self, request: Request) -> list[int]:
        """Ids of the rendered messages and of the partial assistant turn behind them."""
        ids = self._messages(request)
        for segment in request.prefix:
            injected = segment.origin is Origin.injected
            ids += segment.token_ids or self._speller.continue_with(segment.text, special=injected)
        if not ids:
            raise EngineError("the request renders to no tokens at all: put some text into its messages", status=400)
        if min(ids) < 0 or max(ids) >= self._vocabulary.vocab_size:
            raise EngineError(
                "a prefix segment has token ids of another model: drop its `token_ids` and pass its text", status=400
            )
        return ids

    def render(self, messages: Sequence[Mapping[str, object]], tools: Sequence[object] = ()) -> str:
        """The prompt as text."""
        try:
            return self._render(list(messages), list(tools) or None)
        except (TemplateError, TypeError, ValueError, KeyError) as error:
            raise EngineError(f"the model's chat template refused the messages: {error}", status=400) from error

    def _messages(self, request: Request) -> list[int]:
        fields = [{**m.extra, "role": m.role, "content": text_of(m)} for m in request.messages]
        plain = self.render(fields, request.tools)
        texts = [text for m, f in zip(request.messages, fields, strict=True) for text in (m.role, str(f["content"]))]
        if self._control is None or not any(self._control.search(text) for text in texts):
            ids = list(self._plain(plain))
        else:
            ids = self._apart(fields, plain, request.tools)
        if self._vocabulary.adds_bos and self._vocabulary.bos >= 0 and ids[:1] != [self._vocabulary.bos]:
            ids.insert(0, self._vocabulary.bos)
        return ids

    def _apart(self, fields: Sequence[dict[str, object]], plain: str, tools: Sequence[object]) -> list[int]:
        """Tokenise with the messages kept apart from the template: render marks in their place and put them back."""
        nonce = secrets.token_hex(8)
        marked = [{**f, "content": f"{nonce}{i}x"} for i, f in enumerate(fields)]
        parts = re.split(f"{nonce}([0-9]+)x", self.render(marked, tools))
        for form in (str, str.strip):
            contents = [form(str(f["content"])) for f in fields]
            pieces = [contents[int(p)] if at % 2 else p for at, p in enumerate(parts)]
            if "".join(pieces) == plain and not any(self._forges(str(f["role"])) for f in fields):
                return self._join(pieces)
        raise EngineError(
            "a message spells one of the model's control tokens, and this chat template rewrites messages so that the"
            " two cannot be kept apart: take the control token out of the message",
            status=400,
        )

    def _forges(self, text: str) -> bool:
        return self._control is not None and self._control.search(text) is not None

    def _join(self, pieces: Sequence[str]) -> list[int]:
        """Ids of alternating template and message texts; only the template's control tokens become tokens."""
        ids: list[int] = []
        words = ""
        for at, piece in enumerate(pieces):
            start = 0
            for match in self._control.finditer(piece) if self._control and at % 2 == 0 else ():
                words += piece[start : match.start()]
                ids += self._vocabulary.tokenize(words, special=False) if words else []
                ids.append(self._vocabulary.control[match.group()])
                words, start = "", match.end()
            words += piece[start:]
        return ids + (self._vocabulary.tokenize(words, special=False) if words else [])


def text_of(message: Message) -> str:
    """The text of a message.

    Raises:
        CapabilityError: it has parts that are not text.
    """
    if isinstance(message.content, str):
        return message.content
    texts = [part.get("text") for part in message.content]
    if not all(isinstance(text, str) for text in texts):
        raise CapabilityError("this engine reads text only: take images and other parts out of the messages")
    return "".join(str(text) for text in texts)


def jinja(source: str, *, bos: str, eos: str) -> Render:
    """What renders a chat template; the empty one is a plain listing of the messages."""
    environment = ImmutableSandboxedEnvironment(trim_blocks=True, lstrip_blocks=True, extensions=[loopcontrols])
    environment.filters["tojson"] = _to_json
    environment.globals["raise_exception"] = _refuse
    environment.globals["strftime_now"] = lambda form: datetime.now().astimezone().strftime(form)
    try:
        template = environment.from_string(source or FALLBACK)
    except TemplateError as error:
        raise EngineError(f"the model's chat template does not compile: {error}") from error
    return lambda messages, tools: template.render(
        messages=messages, tools=tools, add_generation_prompt=True, bos_token=bos, eos_token=eos
    )


def beginning(source: str) -> str:
    """The prompt that a chat template makes of one message, as far as the assistant; empty where it makes none."""
    try:
        return jinja(source, bos="", eos="")([{"role": "user", "content": "Hello"}], []) if source else ""
    except (TemplateError, EngineError, ArithmeticError, AttributeError, LookupError, TypeError, ValueError):
        return ""


def _refuse(message: str) -> NoReturn:
    raise TemplateError(message)


def _to_json(value: object, indent: int | None = None, ensure_ascii: bool = False) -> str:
    return json.dumps(value, indent=indent, ensure_ascii=ensure_ascii)
