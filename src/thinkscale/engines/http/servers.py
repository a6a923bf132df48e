"""What is known of each kind of server before it is asked: how it is told apart, what it can do and how it wants it.

Data only. `thinkscale doctor` finds out what a particular server really does; what it verified goes before this table.
"""

from __future__ import annotations

from dataclasses import dataclass

from thinkscale.engines.dialects import Habits, Prefill
from thinkscale.engines.protocol import Capability

_ONE_BILL = {"stream_options": {"include_usage": True}}
_RUNNING_COUNTS = {"stream_options": {"include_usage": True, "continuous_usage_stats": True}}
_LOGPROBS = frozenset({Capability.logprobs, Capability.top_logprobs})


@dataclass(frozen=True, slots=True, kw_only=True)
class Server:
    """One kind of server."""

    name: str
    owners: frozenset[str] = frozenset()
    """Values of `owned_by` in its list of models."""
    habits: Habits
    can: frozenset[Capability] = frozenset()
    most: int | None = None
    """Most choices that one request may ask for; `None` if any number."""
    ending: int | None = 0
    """Tokens that end a text without a piece of their own, to begin with; the first bill corrects it. `None` where a
    piece may stand for anything, such as thinking that is not shown: then nothing is complete before the bill."""


VLLM = Server(
    name="vllm",
    owners=frozenset({"vllm"}),
    habits=Habits(
        prefill=Prefill.flag,
        always=_RUNNING_COUNTS,
        tells_stop=True,
        sampling={
            "top_k": "top_k",
            "min_p": "min_p",
            "min_tokens": "min_tokens",
            "banned": "bad_words",
            "grammar": "structured_outputs.grammar",
            "thinking_budget": "thinking_token_budget",
        },
    ),
    can=_LOGPROBS
    | {
        Capability.prefill,
        Capability.logit_bias,
        Capability.min_tokens,
        Capability.seed,
        Capability.grammar,
        Capability.json_schema,
    },
)
SGLANG = Server(
    name="sglang",
    owners=frozenset({"sglang"}),
    habits=Habits(
        prefill=Prefill.flag,
        always=_RUNNING_COUNTS,
        tells_stop=True,
        sampling={
            "top_k": "top_k",
            "min_p": "min_p",
            "min_tokens": "min_tokens",
            "grammar": "ebnf",
            "thinking_budget": "custom_params.thinking_budget",
        },
    ),
    can=_LOGPROBS
    | {
        Capability.prefill,
        Capability.logit_bias,
        Capability.min_tokens,
        Capability.grammar,
        Capability.json_schema,
    },
    ending=1,
)
LLAMACPP = Server(
    name="llama.cpp",
    owners=frozenset({"llamacpp"}),
    habits=Habits(
        prefill=Prefill.flag,
        # Not `stream_options`: with it every choice sends a bill that does not say whose it is.
        always={"timings_per_token": True},
        sampling={
            "top_k": "top_k",
            "min_p": "min_p",
            "grammar": "grammar",
            "thinking_budget": "thinking_budget_tokens",
        },
    ),
    can=_LOGPROBS
    | {
        Capability.prefill,
        Capability.logit_bias,
        Capability.seed,
        Capability.grammar,
        Capability.json_schema,
    },
)
OLLAMA = Server(
    name="ollama",
    owners=frozenset({"library"}),
    habits=Habits(prefill=Prefill.trailing, always=_ONE_BILL),
    can=frozenset({Capability.prefill, Capability.seed, Capability.json_schema}),
    most=1,
)
OPENAI = Server(
    name="openai",
    owners=frozenset({"openai", "openai-internal", "system"}),
    habits=Habits(cap="max_completion_tokens", always=_ONE_BILL),
    can=_LOGPROBS | {Capability.logit_bias, Capability.json_schema},
    ending=None,
)
UNKNOWN = Server(name="unknown", habits=Habits(always=_ONE_BILL))

SERVERS = (VLLM, SGLANG, LLAMACPP, OLLAMA, OPENAI)


def server_of(owner: str) -> Server:
    """The kind whose models are owned by `owner`."""
    return next((s for s in SERVERS if owner in s.owners), UNKNOWN)
