"""What goes out to `chat/completions`, and the finer points of what comes back."""

import gzip
import math
from pathlib import Path

import orjson
import pytest

from thinkscale.engines.dialects import Habits, Prefill
from thinkscale.engines.dialects.chat import Chat
from thinkscale.engines.dialects.parts import token_logprobs
from thinkscale.engines.protocol import Request
from thinkscale.errors import CapabilityError
from thinkscale.types import Finish, Message, Origin, Sampling, Segment

ASK = (Message("user", "What is 2+2?"),)
BEGUN = (Segment(text="The ans", origin=Origin.sampled), Segment(text="wer is", origin=Origin.injected))
SCHEMA = {"type": "json_schema", "json_schema": {"name": "answer", "schema": {"type": "object"}}}
TOOL = {"type": "function", "function": {"name": "add", "parameters": {"type": "object", "properties": {}}}}
PUBLISHED = Path(__file__).parents[2] / "data" / "specs" / "openai_chat_completions_subset.openapi.json.gz"


def body(request, n=1, **habits):
    return Chat().body(request, "m", n, Habits(**habits))


def asked(**sampling):
    return Request(messages=ASK, sampling=Sampling(**sampling), seeds=(7,))


def test_a_plain_request_says_no_more_than_it_must():
    assert body(asked()) == {
        "model": "m",
        "stream": True,
        "seed": 7,
        "messages": [{"role": "user", "content": "What is 2+2?"}],
    }


def test_every_wish_has_its_field():
    sampling = Sampling(
        temperature=0.5,
        top_p=0.9,
        max_tokens=64,
        stop=("\n\n",),
        logprobs=3,
        logit_bias={5: -math.inf, 6: 1.5, 7: 3.0},
        effort="low",
        response_format=SCHEMA,
        extra={"user": "u1", "presence_penalty": 0.1},
    )
    request = Request(messages=ASK, sampling=sampling, seeds=(2**62 + 11, 2), tools=(TOOL,))
    assert body(request, 2, tells_stop=True, cap="max_completion_tokens") == {
        "model": "m",
        "stream": True,
        "messages": [{"role": "user", "content": "What is 2+2?"}],
        "seed": 11,
        "n": 2,
        "temperature": 0.5,
        "top_p": 0.9,
        "max_completion_tokens": 64,
        "stop": ["\n\n"],
        "logprobs": True,
        "top_logprobs": 3,
        "logit_bias": {"5": -100, "6": 1.5, "7": 3},
        "reasoning_effort": "low",
        "response_format": SCHEMA,
        "tools": [TOOL],
        "user": "u1",
        "presence_penalty": 0.1,
    }


def test_logprobs_of_the_sampled_tokens_alone_ask_for_no_others():
    sent = body(asked(logprobs=0))
    assert sent["logprobs"] is True
    assert "top_logprobs" not in sent


def test_stop_strings_stay_here_when_the_server_would_not_say_which_fired():
    assert "stop" not in body(asked(stop=("x",)))


def test_messages_keep_their_parts_and_further_fields():
    parts = ({"type": "text", "text": "See"}, {"type": "image_url", "image_url": {"url": "data:image/png;base64,AA=="}})
    call = {"id": "c1", "type": "function", "function": {"name": "add", "arguments": "{}"}}
    messages = (
        Message("system", "Be brief."),
        Message("user", parts, {"name": "ann"}),
        Message("assistant", "", {"tool_calls": [call], "content": None}),
        Message("tool", "4", {"tool_call_id": "c1"}),
    )
    assert body(Request(messages=messages))["messages"] == [
        {"role": "system", "content": "Be brief."},
        {"role": "user", "content": [*parts], "name": "ann"},
        {"role": "assistant", "content": None, "tool_calls": [call]},
        {"role": "tool", "content": "4", "tool_call_id": "c1"},
    ]


@pytest.mark.parametrize(
    ("prefill", "of_turn", "of_body"),
    [
        (Prefill.flag, {}, {"continue_final_message": True, "add_generation_prompt": False}),
        (Prefill.trailing, {}, {}),
        (Prefill.mark, {"prefix": True}, {}),
    ],
)
def test_a_partial_turn_is_continued_as_the_server_wants_it(prefill, of_turn, of_body):
    sent = body(Request(messages=ASK, prefix=BEGUN), prefill=prefill)
    assert sent["messages"][-1] == {"role": "assistant", "content": "The answer is", **of_turn}
    flags = ("continue_final_message", "add_generation_prompt")
    assert {name: sent[name] for name in flags if name in sent} == of_body


def test_an_empty_prefix_is_no_turn():
    empty = (Segment(text="", origin=Origin.injected),)
    assert len(body(Request(messages=ASK, prefix=empty))["messages"]) == 1


@pytest.mark.parametrize(
    "request_",
    [
        Request(messages=ASK, prefix=BEGUN),
        Request(messages=ASK, continuation="4"),
        asked(grammar='root ::= "4"'),
        asked(banned=("five",)),
    ],
    ids=["prefix", "likelihood", "grammar", "ban"],
)
def test_what_cannot_be_asked_for_is_refused_and_not_dropped(request_):
    with pytest.raises(CapabilityError):
        body(request_)


def test_uncommon_wishes_go_into_the_servers_own_fields_however_deep():
    sampling = {
        "min_tokens": "min_tokens",
        "grammar": "structured_outputs.grammar",
        "thinking_budget": "a.b.budget",
        "banned": "bad_words",
        "top_k": "top_k",
    }
    always = {"stream_options": {"include_usage": True}, "a": {"b": {"kept": 1}}}
    wishes = {"min_tokens": 4, "grammar": "g", "thinking_budget": 9, "banned": ("x",), "top_k": 0, "min_p": 0.1}
    sent = body(asked(**wishes), sampling=sampling, always=always)
    assert sent["min_tokens"] == 4
    assert sent["structured_outputs"] == {"grammar": "g"}
    assert sent["a"] == {"b": {"kept": 1, "budget": 9}}
    assert sent["bad_words"] == ["x"]
    assert sent["top_k"] == 0
    assert "min_p" not in sent, "a field that the server does not know"
    assert always["a"] == {"b": {"kept": 1}}, "the habits are not written to"


def test_unknown_fields_of_a_caller_win_and_keep_what_is_beside_them():
    always = {"stream_options": {"include_usage": True}}
    extra = {"stream_options": {"include_obfuscation": False}, "seed": 5, "metadata": {"a": 1}}
    sent = body(asked(extra=extra), always=always)
    assert sent["stream_options"] == {"include_usage": True, "include_obfuscation": False}
    assert sent["seed"] == 5
    assert sent["metadata"] == {"a": 1}


def choice(**said):
    return {"choices": [{"index": 0, **said}]}


@pytest.mark.parametrize(
    ("said", "finish", "fired"),
    [
        ({"finish_reason": "stop"}, Finish.eos, None),
        ({"finish_reason": "stop", "stop_reason": 151645}, Finish.eos, None),
        ({"finish_reason": "stop", "matched_stop": [151645]}, Finish.eos, None),
        ({"finish_reason": "stop", "matched_stop": "##"}, Finish.stop, "##"),
        ({"finish_reason": "repetition", "stop_reason": "repetition_detected"}, Finish.length, None),
        ({"finish_reason": "tool_calls"}, Finish.eos, None),
        ({"finish_reason": "function_call"}, Finish.eos, None),
        ({"finish_reason": "content_filter"}, Finish.error, None),
        ({"finish_reason": "abort"}, Finish.aborted, None),
        ({"finish_reason": "something new"}, Finish.eos, None),
        ({"finish_reason": None}, None, None),
    ],
)
def test_the_reasons_of_servers_become_ours(said, finish, fired):
    [piece] = Chat().news(choice(delta={}, **said)).pieces
    assert (piece.finish, piece.stop_string) == (finish, fired)


def test_thinking_under_two_names_is_heard_once():
    [piece] = Chat().news(choice(delta={"reasoning": "hm", "reasoning_content": "hm"})).pieces
    assert (piece.thought, piece.text) == ("hm", "")


def test_content_in_parts_is_text_and_thinking():
    parts = [{"type": "thinking", "thinking": [{"type": "text", "text": "hm"}]}, {"type": "text", "text": "4"}]
    [piece] = Chat().news(choice(delta={"content": parts})).pieces
    assert (piece.thought, piece.text) == ("hm", "4")


def test_calls_without_an_index_are_numbered():
    calls = [{"id": "a", "function": {"name": "f"}}, {"id": "b", "function": {"name": "g"}}]
    [piece] = Chat().whole(choice(message={"tool_calls": calls}), asked()).pieces
    assert [call["index"] for call in piece.calls] == [0, 1]


def test_a_reply_asked_for_in_a_stream_may_come_whole():
    [piece] = Chat().whole(choice(message={"content": "4"}, finish_reason="stop"), asked()).pieces
    assert (piece.text, piece.finish) == ("4", Finish.eos)


def test_an_error_beside_choices_is_one():
    event = {**choice(delta={"content": ""}, finish_reason="error"), "error": {"code": 502, "message": "gone"}}
    assert Chat().news(event).error == {"code": 502, "message": "gone"}
    assert Chat().news({**choice(delta={"content": "4"}), "error": None}).pieces[0].text == "4"


@pytest.mark.parametrize(
    "event",
    [{}, {"choices": None}, {"choices": []}, {"choices": ["?"]}, {"object": "other"}, {"usage": None, "choices": []}],
)
def test_unknown_events_say_nothing(event):
    news = Chat().news(event)
    assert not news.pieces
    assert news.usage is None
    assert news.error is None


@pytest.mark.parametrize(
    "delta",
    [None, "?", {}, {"content": None}, {"content": 3}, {"tool_calls": "?"}, {"content": ["?", {}]}, {"refusal": 1}],
)
def test_nonsense_in_a_choice_is_silence(delta):
    [piece] = Chat().news({"choices": [{"index": "?", "delta": delta, "logprobs": "?", "token_ids": ["?"]}]}).pieces
    assert (piece.index, piece.text, piece.thought, list(piece.calls)) == (0, "", "", [])
    assert (piece.logprobs, piece.token_ids, piece.sampled) == (None, (), None)


class Published:
    """As much of OpenAPI as says whether a body is one that the endpoint publishes."""

    def __init__(self):
        self.schemas = orjson.loads(gzip.decompress(PUBLISHED.read_bytes()))["components"]["schemas"]

    def resolved(self, schema):
        while "$ref" in schema:
            schema = self.schemas[schema["$ref"].rpartition("/")[2]]
        return schema

    def names(self, schema):
        schema = self.resolved(schema)
        inner = [n for part in schema.get("allOf", ()) for n in self.names(part)]
        return {*schema.get("properties", ()), *inner}

    def fits(self, value, schema):
        schema = self.resolved(schema)
        if value is None and schema.get("nullable"):
            return True
        for kind, wanted in (("oneOf", any), ("anyOf", any), ("allOf", all)):
            if kind in schema and not wanted(self.fits(value, part) for part in schema[kind]):
                return False
        types = {"object": dict, "array": list, "string": str, "boolean": bool, "integer": int, "number": (int, float)}
        if "type" in schema and not isinstance(value, types.get(schema["type"], type(None))):
            return False
        if "enum" in schema and value not in schema["enum"]:
            return False
        if isinstance(value, list):
            return all(self.fits(item, schema.get("items", {})) for item in value)
        if isinstance(value, dict):
            inside = schema.get("properties", {})
            known = all(self.fits(item, inside[name]) for name, item in value.items() if name in inside)
            return known and set(schema.get("required", ())) <= set(value)
        return True


def test_bodies_are_what_the_endpoint_publishes():
    published = Published()
    schema = {"$ref": "CreateChatCompletionRequest"}
    assert not published.fits({"model": "m", "messages": [{"role": "nobody", "content": ""}]}, schema)
    assert not published.fits({"model": "m", "messages": [{"role": "user", "content": ""}], "n": "two"}, schema)
    call = {"id": "c1", "type": "function", "function": {"name": "add", "arguments": "{}"}}
    image = {"type": "image_url", "image_url": {"url": "data:image/png;base64,AA=="}}
    messages = (
        Message("developer", "Be brief."),
        Message("user", ({"type": "text", "text": "See"}, image)),
        Message("assistant", "", {"tool_calls": [call]}),
        Message("tool", "4", {"tool_call_id": "c1"}),
    )
    sampling = Sampling(
        temperature=1.0,
        top_p=0.9,
        max_tokens=9,
        stop=("x",),
        logprobs=2,
        logit_bias={5: -math.inf},
        effort="low",
        response_format=SCHEMA,
    )
    full = Request(messages=messages, sampling=sampling, seeds=(1, 2), tools=(TOOL,))
    always = {"stream_options": {"include_usage": True}}
    for request, n in ((asked(), 1), (full, 2)):
        sent = body(request, n, tells_stop=True, cap="max_completion_tokens", always=always)
        assert set(sent) <= published.names(schema)
        assert published.fits(sent, schema)


def test_tokens_are_spelled_where_the_server_spells_them():
    likely = [{"token": " b", "logprob": -2.0}, {"token": "a", "logprob": -0.1}]
    content = [{"token": "a", "logprob": -0.1, "top_logprobs": likely}, {"token": " b", "logprob": -1.0}]
    told = token_logprobs({"content": content})
    assert (told.texts, told.top_texts) == (("a", " b"), (("a", " b"), ()))
    assert token_logprobs({"content": [{"token": "token_id:7", "logprob": -0.1}]}).texts == ()
