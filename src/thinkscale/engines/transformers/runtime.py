"""A loaded model: forward passes over its cache, and what turns requests into tokens. It knows no draws."""

from __future__ import annotations

import inspect
from collections.abc import Sequence
from typing import TYPE_CHECKING

import torch
from torch import Tensor
from transformers import DynamicCache

from thinkscale.engines.checkpoints import Checkpoint
from thinkscale.engines.spelling import Speller
from thinkscale.engines.template import Prompts
from thinkscale.engines.transformers.hooks import Hooks, Pass
from thinkscale.engines.transformers.vocabulary import Tokens, ends_of
from thinkscale.errors import ModelError

if TYPE_CHECKING:
    from transformers import Cache


class Runtime:
    """Weights, tokenizer and chat template of one checkpoint.

    Args:
        checkpoint: what to load.
        template: a chat template that replaces the model's own.
        dtype: a floating-point type of torch, or `auto`.
        device: where the weights go; `None` chooses.
        hooks: what callers want to see of the layers.

    Raises:
        ModelError: something of it cannot be loaded, or there is no chat template.
    """

    def __init__(
        self, checkpoint: Checkpoint, *, template: str | None, dtype: str, device: str | None, hooks: Hooks
    ) -> None:
        tokenizer = checkpoint.tokenizer()
        written = template or tokenizer.chat_template
        if not written:
            raise ModelError(
                f"`{checkpoint.name}` has no chat template, so messages cannot be put to it: use a model that was"
                " trained on chats, or give the engine a `template`"
            )
        self.model = checkpoint.load("AutoModelForCausalLM", dtype=dtype, device=device)
        self.hooks = hooks
        self.vocabulary = Tokens(tokenizer, self.model.get_output_embeddings().weight.shape[0])
        self.speller = Speller(self.vocabulary)
        self.prompts = Prompts(
            self.vocabulary,
            self.speller,
            lambda messages, tools: str(
                tokenizer.apply_chat_template(
                    messages, tools=tools, chat_template=template, add_generation_prompt=True, tokenize=False
                )
            ),
        )
        self.ends = ends_of(self.model.generation_config, self.model.config.get_text_config(), tokenizer)
        self._takes = inspect.signature(self.model.forward).parameters
        self.whole = bool(getattr(self.model, "_is_stateful", False))
        """Whether a prompt has to be read in one pass: some recurrent layers begin anew whenever they read several."""

    def forward(
        self, tokens: Sequence[Sequence[int]], cache: Cache | None, keep: int, about: Pass
    ) -> tuple[Tensor, Cache]:
        """Read the next tokens of every row.

        Args:
            tokens: as many for every row.
            cache: what the rows have read before; it is changed in place.
            keep: for how many of the last positions logits are wanted, 1 at least.
            about: what hooks are told.

        Returns:
            Logits, shape (rows, keep, vocabulary), float32, and the cache.
        """
        ids = torch.tensor(tokens, device=self.model.device)
        places = torch.arange(about.start, about.start + ids.shape[1], device=ids.device)
        # Not every model finds out by itself how much its cache holds.
        wishes = {"logits_to_keep": keep, "position_ids": places.expand_as(ids)}
        given = {name: wish for name, wish in wishes.items() if name in self._takes}
        with torch.inference_mode(), self.hooks.during(self.model, about):
            found = self.model(input_ids=ids, past_key_values=cache, use_cache=True, **given)
        # A cache of another kind may hold states that `reorder_cache` does not move.
        if type(found.get("past_key_values")) is not DynamicCache:
            raise ModelError("this model keeps no cache that draws could share: use another model")
        return found.logits[:, -keep:].float(), found.past_key_values
