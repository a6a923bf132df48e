"""The ways in which servers are asked for a reward, and how their replies read. No connections, no queue: data in, data
out.

vLLM's `/classify`, `/pooling`, `/score` and `/v1/decisions`, and SGLang's own `/classify` and `/v1/decisions`.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import cast

from thinkscale.engines.dialects import Json

Rows = list[list[float]]
"""Per place in a text that the model judged, its numbers: one per label."""

INSTRUCTION = "The answer to the question is correct."
_CHAT = {"add_generation_prompt": False}


@dataclass(frozen=True, slots=True, kw_only=True)
class Item:
    """What is judged in one go: an answer, or its beginning, to a question."""

    turns: tuple[Mapping[str, object], ...]
    """The question, as messages of a chat."""
    answer: str
    """With marks behind its steps where the model wants them."""
    text: str = ""
    """Question and answer as one text; empty where the server's chat template makes it."""
    ids: tuple[int, ...] = ()
    """The same as tokens, where the server has been asked for them."""
    wanted: int = 1
    """Rewards that are to come of it."""

    @property
    def chat(self) -> list[Mapping[str, object]]:
        """Question and answer as messages."""
        return [*self.turns, {"role": "assistant", "content": self.answer}]

    @property
    def question(self) -> str:
        """The question as one text."""
        return "\n\n".join(str(turn["content"]) for turn in self.turns)

    @property
    def size(self) -> int:
        """Bytes of question and answer."""
        return len(self.question.encode()) + len(self.answer.encode())


@dataclass(frozen=True, slots=True, kw_only=True)
class Endpoint:
    """One way in which a kind of server is asked for rewards."""

    api: str
    paths: tuple[str, ...]
    """Where it may be; a leading slash counts from the server's root, the others from the base URL."""
    body: Callable[[Sequence[Item]], dict[str, object]]
    """What is sent, but for the model's name."""
    rows: Callable[[object], list[Rows]]
    """What the reply says of each item, in order."""
    lists: Callable[[Item], bool] = field(default=lambda item: bool(item.text))
    """Whether an item may share its request with others."""
    by_ids: bool = False
    """Whether chats have to be turned into tokens first."""
    counts: Callable[[object], list[int]] = field(default=lambda _: [])
    """Prompt tokens of each item, where the reply tells them apart."""


def _input(items: Sequence[Item]) -> dict[str, object]:
    """VLLM's `input` takes many texts, its `messages` one chat. Numbers are asked for as the model gives them."""
    raw = {"use_activation": False}
    if items[0].text:
        return {"input": [item.text for item in items], **raw}
    [item] = items
    return {"messages": item.chat, **_CHAT, **raw}


def _entries(reply: object) -> list[Json]:
    entries = cast(list[Json], cast(Json, reply)["data"])
    return sorted(entries, key=lambda entry: cast(int, entry["index"]))


def _row(numbers: object) -> list[float]:
    return [float(number) for number in cast(list[float], numbers)]


def _classified(reply: object) -> list[Rows]:
    return [[_row(entry["probs"])] for entry in _entries(reply)]


def _pooled(reply: object) -> list[Rows]:
    return [_rows(entry["data"]) for entry in _entries(reply)]


def _rows(data: object) -> Rows:
    """One row per place; a flat list is one row."""
    rows = cast(list[object], data)
    return [_row(row) for row in rows] if rows and isinstance(rows[0], list) else [_row(rows)]


def _scored(reply: object) -> list[Rows]:
    return [[_row([entry["score"]])] for entry in _entries(reply)]


def _pairs(items: Sequence[Item]) -> dict[str, object]:
    return {"text_1": [item.question for item in items], "text_2": [item.answer for item in items]}


def _native(items: Sequence[Item]) -> dict[str, object]:
    if items[0].text:
        return {"text": [item.text for item in items]}
    return {"input_ids": [list(item.ids) for item in items]}


def _embedded(reply: object) -> list[Rows]:
    return [[_row(entry["embedding"])] for entry in cast(list[Json], reply)]


def _told(reply: object) -> list[int]:
    entries = cast(list[Mapping[str, Json]], reply)
    return [cast(int, entry["meta_info"]["prompt_tokens"]) for entry in entries]


def _claim(items: Sequence[Item]) -> str:
    [item] = items
    return f"Question:\n{item.question}\n\nAnswer:\n{item.answer}"


def _predicate(items: Sequence[Item]) -> dict[str, object]:
    return {"input": _claim(items), "questions": [{"type": "predicate", "instructions": INSTRUCTION}]}


def _predicated(reply: object) -> list[Rows]:
    answers = cast(list[Json], cast(Json, reply)["answers"])
    return [[_row([answers[0]["probability"]])]]


def _yes_no(items: Sequence[Item]) -> dict[str, object]:
    asked = {"id": "correct", "type": "yes_no", "question": INSTRUCTION}
    return {"input": _claim(items), "questions": [asked]}


def _said_yes(reply: object) -> list[Rows]:
    answers = cast(Mapping[str, Json], cast(Json, reply)["answers"])
    return [[_row([cast(Json, answers["correct"]["probabilities"])["yes"]])]]


CLASSIFY = Endpoint(api="classify", paths=("/classify", "classify"), body=_input, rows=_classified)
POOLING = Endpoint(api="pooling", paths=("/pooling", "pooling"), body=_input, rows=_pooled)
SCORE = Endpoint(api="score", paths=("/score", "score"), body=_pairs, rows=_scored, lists=lambda _: True)
DECISIONS = Endpoint(
    api="decisions",
    paths=("decisions", "/decisions"),
    body=_predicate,
    rows=_predicated,
    lists=lambda _: False,
)
SGLANG_CLASSIFY = Endpoint(
    api="classify",
    # Not `/v1/classify`: its softmax makes 1.0 of every reward that stands alone.
    paths=("/classify",),
    body=_native,
    rows=_embedded,
    lists=lambda _: True,
    by_ids=True,
    counts=_told,
)
SGLANG_DECISIONS = Endpoint(
    api="decisions",
    paths=("decisions", "/decisions"),
    body=_yes_no,
    rows=_said_yes,
    lists=lambda _: False,
)
VLLM = (CLASSIFY, POOLING, SCORE, DECISIONS)
SGLANG = (SGLANG_CLASSIFY, SGLANG_DECISIONS)
APIS = ("auto", "classify", "pooling", "score", "decisions")


def endpoints_of(owner: str) -> tuple[Endpoint, ...]:
    """What a server may have, by the `owned_by` of its models; everything where that says nothing."""
    return {"vllm": VLLM, "sglang": SGLANG}.get(owner, (*VLLM, *SGLANG))
