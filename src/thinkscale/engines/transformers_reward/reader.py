"""A loaded reward model: requests to texts, texts to rewards. It knows no queue."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import accumulate

import torch
from jinja2 import TemplateError
from torch import Tensor

from thinkscale.engines.checkpoints import Checkpoint
from thinkscale.engines.protocol import Request
from thinkscale.engines.reward_shapes import Layout, RewardShape, Verdict
from thinkscale.engines.template import text_of
from thinkscale.errors import ContextError, EngineError, ModelError

_LOADERS = {
    Verdict.score: "AutoModelForSequenceClassification",
    Verdict.label: "AutoModelForTokenClassification",
    Verdict.word: "AutoModelForCausalLM",
}

Turns = list[dict[str, str]]


@dataclass(frozen=True, slots=True)
class Text:
    """Tokens that are read in one row, and the positions at which rewards stand."""

    ids: list[int]
    at: list[int]
    """-1 is the end."""


class Reader:
    """Weights, tokenizer and shape of one reward model; used from one thread, but for `texts`.

    Args:
        checkpoint: what to load.
        shape: how it reads and judges.
        context: most tokens of one text; `None` is no limit.
        dtype: a floating-point type of torch, or `auto`.
        device: where the weights go; `None` chooses.
        trust_remote_code: run the Python code that comes with the checkpoint.

    Raises:
        ModelError: something of it cannot be loaded.
    """

    def __init__(
        self,
        checkpoint: Checkpoint,
        shape: RewardShape,
        *,
        context: int | None,
        dtype: str,
        device: str | None,
        trust_remote_code: bool,
    ) -> None:
        self._shape, self._context, self._name = shape, context, checkpoint.name
        self._tokenizer = checkpoint.tokenizer(trust_remote_code=trust_remote_code)
        if shape.layout is not Layout.marked_text and not self._tokenizer.chat_template:
            raise ModelError(f"`{self._name}` has no chat template: pass a `shape` that needs none")
        # A checkpoint's own code registers its classes under the plain `AutoModel`.
        loader = "AutoModel" if trust_remote_code and shape.verdict is Verdict.label else _LOADERS[shape.verdict]
        self._model = checkpoint.load(loader, dtype=dtype, device=device, trust_remote_code=trust_remote_code)
        if shape.verdict is Verdict.score and self._model.config.num_labels != 1:
            raise ModelError(
                f"the head of `{self._name}` has {self._model.config.num_labels} labels and its `shape` reads one"
                " number: choose a model with one label"
            )
        self._words = [self._last(word) for word in (shape.bad, shape.good)] if shape.verdict is Verdict.word else []
        self._mark = self._last(shape.mark) if shape.mark else -1

    def texts(self, request: Request) -> list[Text]:
        """What is read for a request.

        Raises:
            ContextError: one of them is longer than the context.
            EngineError: the chat template refuses the answer, or the marks behind its steps get lost.
        """
        made = self._made(request)
        longest = max(len(text.ids) for text in made)
        if self._context is not None and longest > self._context:
            raise ContextError(
                f"the question and its answer have {longest} tokens and the reward model reads {self._context}: judge"
                " shorter answers"
            )
        return made

    def read(self, texts: Sequence[Text]) -> list[list[float]]:
        """The rewards at the positions of each text, in one forward pass."""
        pad = self._model.config.get_text_config().pad_token_id
        if pad is None and self._shape.verdict is Verdict.score and len(texts) > 1:
            # Without a padding token a classification head cannot tell where a text of a batch ends.
            return [rewards for text in texts for rewards in self.read([text])]
        longest = max(len(text.ids) for text in texts)
        ids = torch.tensor([t.ids + [pad or 0] * (longest - len(t.ids)) for t in texts])
        mask = (torch.arange(longest) < torch.tensor([[len(t.ids)] for t in texts])).long()
        with torch.inference_mode():
            device = self._model.device
            logits = self._model(input_ids=ids.to(device), attention_mask=mask.to(device))[0]
            values: list[list[float]] = self._verdicts(logits).tolist()
        if self._shape.verdict is Verdict.score:
            return values
        return [[row[at % len(text.ids)] for at in text.at] for row, text in zip(values, texts, strict=True)]

    def _verdicts(self, logits: Tensor) -> Tensor:
        """Rewards, shape (rows, tokens), or (rows, 1) of a score; logits have a last axis of labels or of words."""
        match self._shape.verdict:
            case Verdict.score:
                return logits.float()
            case Verdict.label:
                return logits.float().softmax(-1)[..., -1]
            case Verdict.word:
                return logits[..., self._words].float().softmax(-1)[..., -1]

    def _made(self, request: Request) -> list[Text]:
        steps, shape = [step.strip() for step in request.steps], self._shape
        turns: Turns = [{"role": m.role, "content": text_of(m)} for m in request.messages]
        if shape.system and not any(turn["role"] == "system" for turn in turns):
            turns.insert(0, {"role": "system", "content": shape.system})
        match shape.layout:
            case Layout.prefixes:
                answers = ["".join(request.steps[: k + 1]) for k in range(len(steps))]
                return [Text(self._chat([*turns, {"role": "assistant", "content": a}]), [-1]) for a in answers]
            case Layout.turns:
                return [Text(self._chat(self._talk(turns, steps[: k + 1]), open=True), [-1]) for k in range(len(steps))]
            case Layout.marked_chat:
                marked = [step + shape.mark for step in steps]
                text = self._written([*turns, {"role": "assistant", "content": "".join(marked)}])
                return [self._marked(text, marked, special=False)]
            case Layout.marked_text:
                asked = "\n".join(turn["content"] for turn in turns)
                marked = [("\n" if at else " ") + step + shape.mark for at, step in enumerate(steps)]
                return [self._marked(asked + "".join(marked), marked, special=True)]

    def _talk(self, turns: Turns, steps: Sequence[str]) -> Turns:
        """The steps as turns of the user; the first stands behind the question."""
        asked, talk = turns[-1], list(turns[:-1])
        for number, step in enumerate(steps):
            said = step if number else f"{asked['content']} {step}"
            talk += [{"role": "user", "content": said}, {"role": "assistant", "content": self._shape.good}]
        return talk[:-1]

    def _marked(self, text: str, marked: Sequence[str], *, special: bool) -> Text:
        """A text with the positions of the marks that end `marked`, which follow one another in it."""
        at = text.rfind("".join(marked))
        read = self._tokenizer(text, add_special_tokens=special, return_offsets_mapping=True)
        ids, spans = read["input_ids"], read["offset_mapping"]
        # Offsets come from the text as it is: a mark that a step spells itself is not taken for ours.
        ends = [at + length for length in accumulate(map(len, marked))] if at >= 0 else []
        found = [max((i for i, (start, end) in enumerate(spans) if start < e <= end), default=-1) for e in ends]
        if not found or any(i < 0 or ids[i] != self._mark for i in found):
            raise EngineError(
                f"the marks `{self._shape.mark}` behind the steps got lost in the template or the tokenizer of"
                f" `{self._name}`: pass the `shape` that the model was trained with"
            )
        return Text(ids, found)

    def _chat(self, turns: Turns, *, open: bool = False) -> list[int]:
        ids: list[int] = self._tokenizer.encode(self._written(turns, open=open), add_special_tokens=False)
        return ids

    def _written(self, turns: Turns, *, open: bool = False) -> str:
        try:
            return str(self._tokenizer.apply_chat_template(turns, add_generation_prompt=open, tokenize=False))
        except (TemplateError, TypeError, ValueError, KeyError) as error:
            raise EngineError(f"the reward model's chat template refused the messages: {error}") from error

    def _last(self, text: str) -> int:
        ids: list[int] = self._tokenizer.encode(text, add_special_tokens=False)
        if not ids:
            raise ModelError(f"the tokenizer of `{self._name}` has no token for `{text}`: pass another `shape`")
        return ids[-1]
