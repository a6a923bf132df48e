"""What vLLM is asked and how its answers are read. None of it needs vLLM; `test_vllm_package.py` does."""

import math
from dataclasses import dataclass, field
from types import MappingProxyType

import pytest

from thinkscale.engines.protocol import Request
from thinkscale.engines.vllm import Vllm
from thinkscale.engines.vllm.asking import MOST_BIASES, Plan, Tokens, sampling_settings, structure
from thinkscale.engines.vllm.reply import Draw, signals
from thinkscale.errors import CapabilityError, EngineError, SettingsError
from thinkscale.types import Finish, LogprobSpace, Message, Origin, Sampling, Segment

END = 0
PIECES = ["", "<user>", "<bot>", "a", "b", "ab", " ", "c\n", "\n"]
SCHEMA = {"type": "object", "properties": {"n": {"type": "integer"}}}


class Pieces:
    """A tokenizer of a few pieces, the longest first; as some do, it drops a space at the very start."""

    chat_template = "<user>…<bot>"

    def encode(self, text, *, add_special_tokens):
        assert not add_special_tokens
        ids = []
        while text:
            ids.append(max((i for i, p in enumerate(PIECES) if text.startswith(p)), key=lambda i: len(PIECES[i])))
            text = text[len(PIECES[ids[-1]]) :]
        return ids

    def decode(self, ids, *, skip_special_tokens):
        assert not skip_special_tokens
        return "".join(PIECES[i] for i in ids).removeprefix(" ")

    def apply_chat_template(self, messages, *, tools, add_generation_prompt, tokenize, return_dict, **settings):
        assert (tools, add_generation_prompt, tokenize, return_dict) == (None, True, True, False)
        if messages[-1]["role"] == "nobody":
            raise TypeError("roles must be user or assistant")
        said = "".join(f"<user>{m['content']}" for m in messages) + ("b" * bool(settings.get("enable_thinking")))
        return self.encode(said + "<bot>", add_special_tokens=False)


@dataclass
class Logprob:
    logprob: float


@dataclass
class Delta:
    text: str
    token_ids: list
    logprobs: list | None = None
    finish_reason: str | None = None
    stop_reason: int | str | None = None


@dataclass
class News:
    outputs: list
    prompt_logprobs: list | None = None
    num_cached_tokens: int | None = 2


@dataclass
class Asked:
    sampling: Sampling = Sampling()
    content: object = "a b"
    role: str = "user"
    given: dict = field(default_factory=dict)

    def plan(self):
        request = Request(messages=(Message(self.role, self.content),), sampling=self.sampling, **self.given)
        return Plan.of(request, Tokens(Pieces()))


def heard(*deltas, index=0, cached=2, places=None, **asked):
    draw = Draw(Asked(**asked).plan(), index)
    return [draw.take(News([d], places, cached)) for d in deltas]


def test_log_probabilities_come_on_the_way_to_those_who_watch():
    pieces = [Delta("a", [3], [{3: Logprob(-1.0)}]), Delta("b", [4], [{4: Logprob(-2.0)}], "stop")]
    watched, ended = heard(*pieces, sampling=Sampling(logprobs=0), given={"apart": True})
    assert (watched.logprobs.chosen, ended.completion.logprobs.chosen) == ((-1.0,), (-1.0, -2.0))
    assert heard(*pieces, sampling=Sampling(logprobs=0))[0].logprobs is None
    assert heard(*pieces, given={"apart": True})[0].logprobs is None


def test_a_prefix_goes_in_by_its_ids_where_it_has_them_and_by_its_text_otherwise():
    whole = Segment(text="ab", origin=Origin.sampled)
    split = Segment(text="ab", origin=Origin.sampled, token_ids=(3, 4))
    prompt = Asked().plan().prompt
    assert prompt == [1, 3, 6, 4, 2]
    assert Asked(given={"prefix": (split, whole)}).plan().prompt == [*prompt, 3, 4, 5]


def test_settings_of_the_chat_template_pass_through():
    thinking = Sampling(extra={"chat_template_kwargs": {"enable_thinking": True}})
    assert Asked(sampling=thinking).plan().prompt == [1, 3, 6, 4, 4, 2]
    assert "chat_template_kwargs" not in sampling_settings(thinking, 1)


def test_messages_in_parts_are_read_as_text_and_images_are_refused():
    assert Asked(content=({"type": "text", "text": "a"}, {"type": "text", "text": "b"})).plan().prompt == [1, 5, 2]
    with pytest.raises(CapabilityError, match="reads text only"):
        Asked(content=({"type": "image_url", "image_url": {}},)).plan()


def test_what_a_chat_template_raises_is_an_engine_error():
    with pytest.raises(EngineError, match="refused the messages: roles must be"):
        Asked(role="nobody").plan()


def test_what_sampling_leaves_open_is_left_to_vllm():
    assert sampling_settings(Sampling(), 7) == {
        "seed": 7, "max_tokens": None, "min_tokens": 0, "stop": [], "skip_special_tokens": False,
    }  # fmt: skip


def test_every_field_of_sampling_has_its_parameter():
    asked = Sampling(
        temperature=0.5, top_p=0.9, top_k=5, min_p=0.1, max_tokens=9, min_tokens=20, stop=("x", ""), logprobs=0,
        logit_bias=MappingProxyType({3: 1.5}), thinking_budget=4, extra={"repetition_penalty": 1.1}, grammar="g",
    )  # fmt: skip
    assert sampling_settings(asked, 1, banned=[5]) == {
        "temperature": 0.5, "top_p": 0.9, "top_k": 5, "min_p": 0.1, "max_tokens": 9, "min_tokens": 9, "stop": ["x"],
        "logprobs": 0, "logit_bias": {3: 1.5, 5: -math.inf}, "thinking_token_budget": 4, "repetition_penalty": 1.1,
        "structured_outputs": {"grammar": "g"}, "seed": 1, "skip_special_tokens": False,
    }  # fmt: skip


def test_a_banned_text_is_one_token_or_refused():
    assert Asked(sampling=Sampling(banned=("ab",))).plan().settings(0)["logit_bias"] == {5: -math.inf}
    with pytest.raises(EngineError, match="with 2 tokens"):
        Asked(sampling=Sampling(banned=("ba",))).plan().settings(0)


def test_more_biases_than_vllm_survives_are_refused():
    with pytest.raises(EngineError, match="1025 tokens are biased"):
        sampling_settings(Sampling(logit_bias=dict.fromkeys(range(MOST_BIASES + 1), 1.0)), 1)


@pytest.mark.parametrize(
    ("asked", "expected"),
    [
        ({}, None),
        ({"response_format": {"type": "text"}}, None),
        ({"grammar": 'root ::= "a"', "response_format": {"type": "json_object"}}, {"grammar": 'root ::= "a"'}),
        ({"response_format": {"type": "json_object"}}, {"json_object": True}),
        ({"response_format": {"type": "json_schema", "json_schema": {"schema": SCHEMA}}}, {"json": SCHEMA}),
    ],
)
def test_what_the_text_must_follow(asked, expected):
    assert structure(Sampling(**asked)) == expected


def test_an_unknown_response_format_is_refused():
    with pytest.raises(EngineError, match="cannot follow"):
        structure(Sampling(response_format={"type": "xml"}))


def test_a_draw_streams_and_its_end_counts_as_a_token_but_is_no_text():
    first, last = heard(Delta("a", [3]), Delta("b", [4, END], finish_reason="stop"))
    assert (first.text, first.tokens, first.completion) == ("a", 1, None)
    done = last.completion
    assert (last.text, last.tokens) == ("b", 2)
    assert (done.text, done.finish, done.tokens, done.token_ids) == ("ab", Finish.eos, 3, (3, 4))
    usage = done.usage
    assert (usage.calls, usage.input_tokens, usage.cached_tokens, usage.output_tokens) == (1, 5, 2, 3)


def test_the_prompt_is_charged_to_the_first_draw_alone():
    [chunk] = heard(Delta("a", [3], finish_reason="length"), index=1)
    usage = chunk.completion.usage
    assert (usage.input_tokens, usage.cached_tokens, usage.output_tokens) == (0, 0, 1)


def test_a_token_id_that_ends_a_turn_is_no_stop_string():
    [chunk] = heard(Delta("a", [3, 1], finish_reason="stop", stop_reason=1))
    assert (chunk.completion.finish, chunk.completion.stop_string) == (Finish.eos, None)
    assert chunk.completion.token_ids == (3,)


@pytest.mark.parametrize(
    ("ids", "text", "spelled"), [([3, 5], "aa", (3, 3)), ([3, 4, 8], "ab", (3, 4)), ([3, 8, 3], "a", (3,))]
)
def test_ids_spell_the_text_before_a_stop_string_also_where_it_cuts_a_token(ids, text, spelled):
    [chunk] = heard(Delta(text, ids, finish_reason="stop", stop_reason="\n"))
    done = chunk.completion
    assert (done.finish, done.stop_string, done.tokens, done.token_ids) == (Finish.stop, "\n", len(ids), spelled)


def test_ids_spell_a_text_that_begins_with_a_space():
    [chunk] = heard(Delta(" a", [6, 3], finish_reason="length"))
    assert chunk.completion.token_ids == (6, 3)


def test_an_aborted_draw_keeps_what_arrived():
    *_, last = heard(Delta("a", [3]), Delta("", [], finish_reason="abort"))
    assert (last.completion.text, last.completion.finish, last.completion.tokens) == ("a", Finish.aborted, 1)


def test_a_draw_that_vllm_gives_up_may_be_asked_for_again():
    [chunk] = heard(Delta("", [], finish_reason="error"))
    assert chunk.completion is None
    assert chunk.failure.retryable


def test_log_probabilities_are_of_the_tokens_drawn_and_of_the_likeliest_best_first():
    place = {3: Logprob(-2.5), 4: Logprob(-0.5), 5: Logprob(-1.0)}
    assert signals([place], [3], 0, LogprobSpace.raw).top == ()
    found = signals([place, place], [3, 4], 2, LogprobSpace.processed)
    assert found.chosen == (-2.5, -0.5)
    assert found.top == (((4, -0.5), (5, -1.0)),) * 2
    assert found.space is LogprobSpace.processed


def test_log_probabilities_come_with_the_token_that_ended_the_text():
    places = [{3: Logprob(-1.0)}, {END: Logprob(-2.0)}]
    [chunk] = heard(Delta("a", [3, END], places, "stop"), sampling=Sampling(logprobs=0))
    assert chunk.completion.logprobs.chosen == (-1.0, -2.0)


def test_a_likelihood_drops_the_token_that_vllm_insists_on_drawing():
    places = [None, *({i: Logprob(-float(i))} for i in (3, 6, 4, 2)), {5: Logprob(-0.25), 3: Logprob(-0.1)}]
    asked = {"given": {"continuation": "ab"}, "sampling": Sampling(logprobs=1)}
    plan = Asked(**asked).plan()
    assert plan.settings(0) == {"max_tokens": 1, "temperature": 0.0, "prompt_logprobs": 1}
    [chunk] = heard(Delta("c", [7], finish_reason="length"), places=places, **asked)
    done = chunk.completion
    assert (done.text, done.tokens, done.usage.output_tokens, done.usage.input_tokens) == ("ab", 0, 0, 6)
    assert (done.logprobs.chosen, done.logprobs.top) == ((-0.25,), (((3, -0.1),),))


def test_a_draw_of_no_tokens_and_the_likelihood_of_no_text_ask_nothing_of_vllm():
    for asked in ({"sampling": Sampling(max_tokens=0, logprobs=0)}, {"given": {"continuation": ""}}):
        plan = Asked(**asked).plan()
        assert plan.empty
        done = Draw(plan, 0).nothing().completion
        assert (done.text, done.tokens, done.finish, done.logprobs.chosen) == ("", 0, Finish.length, ())


def test_only_a_reasoning_parser_brings_a_thinking_budget():
    assert "thinking-budget" not in Vllm(model="owner/name").capabilities.can
    assert "thinking-budget" in Vllm(model="owner/name", reasoning_parser="qwen3").capabilities.can


def test_an_engine_that_is_not_open_says_so():
    with pytest.raises(EngineError, match="not open"):
        Vllm(model="owner/name").count(Request(messages=(Message("user", "a"),)))


@pytest.mark.parametrize("wrong", [{"model": ""}, {"gpus": 0}, {"memory": 0.0}, {"context": 3}])
def test_settings_out_of_range_are_refused(wrong):
    with pytest.raises(SettingsError):
        Vllm(**{"model": "owner/name", **wrong})
