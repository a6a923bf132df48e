import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from thinkscale.budget import Budget
from thinkscale.errors import ServeError
from thinkscale.serve.asking import Limits, asked, tighter
from thinkscale.serve.records import Api
from thinkscale.types import AnswerKind, Message

LIMITS = Limits(seconds=None)
HELLO = [{"role": "user", "content": "Hello"}]
TOOL = {"type": "function", "function": {"name": "add", "parameters": {"type": "object"}}}
IMAGE = {"type": "image_url", "image_url": {"url": "data:image/png;base64,AAAA", "detail": "low"}}


def chat(headers=None, limits=LIMITS, **body):
    return asked(Api.chat, {"model": "m", "messages": HELLO, **body}, headers or {}, limits)


def responses(**body):
    return asked(Api.responses, {"model": "m", "input": "Hello", **body}, {}, LIMITS)


def completions(**body):
    return asked(Api.completions, {"model": "m", "prompt": "Once", **body}, {}, LIMITS)


def refused(api, body, headers=None, limits=LIMITS):
    with pytest.raises(ServeError) as caught:
        asked(api, body, headers or {}, limits)
    assert caught.value.status == 400
    assert caught.value.type == "invalid_request_error"
    return caught.value


def test_turns_images_tool_calls_and_their_results_survive():
    call = {"id": "c1", "type": "function", "function": {"name": "add", "arguments": "{}"}}
    messages = [
        {"role": "system", "content": "Be brief.", "name": "boss"},
        {"role": "user", "content": [{"type": "text", "text": "What is this?"}, IMAGE]},
        {"role": "assistant", "content": None, "tool_calls": [call]},
        {"role": "tool", "tool_call_id": "c1", "content": "4"},
    ]
    problem = chat(messages=messages, tools=[TOOL]).problem
    assert problem.messages == (
        Message("system", "Be brief.", {"name": "boss"}),
        Message("user", ({"type": "text", "text": "What is this?"}, IMAGE)),
        Message("assistant", "", {"tool_calls": [call], "content": None}),
        Message("tool", "4", {"tool_call_id": "c1"}),
    )
    assert problem.tools == (TOOL,)


def test_how_tokens_are_drawn_is_read_and_named_as_given():
    read = chat(
        temperature=0.3,
        top_p=0.9,
        max_tokens=7,
        stop="END",
        logprobs=True,
        top_logprobs=3,
        logit_bias={"5": -100},
        seed=11,
        n=2,
        reasoning_effort="high",
    )
    sampling = read.sampling
    assert (sampling.temperature, sampling.top_p, sampling.max_tokens, sampling.stop) == (0.3, 0.9, 7, ("END",))
    assert (sampling.logprobs, sampling.logit_bias, read.seed, read.n, read.effort) == (3, {5: -100}, 11, 2, "high")
    assert read.given == {"temperature", "top_p", "max_tokens", "stop", "logprobs", "logit_bias"}
    assert (sampling.seed, sampling.effort) == (None, None)


def test_unknown_fields_go_on_as_they_came_and_ours_do_not():
    read = chat(
        user="u",
        metadata={"a": "b"},
        tool_choice="auto",
        parallel_tool_calls=False,
        guided_choice=["a"],
        text=1,
        thinkscale={"method": "single"},
        stream=True,
        stream_options={"include_usage": True},
    )
    assert read.sampling.extra == {
        "user": "u",
        "metadata": {"a": "b"},
        "tool_choice": "auto",
        "parallel_tool_calls": False,
        "guided_choice": ["a"],
        "text": 1,
    }
    assert (read.stream, read.include_usage, read.method) == (True, True, "single")


def test_fields_of_open_servers_reach_engines_in_this_process_as_well():
    sampling = chat(top_k=20, min_p=0.1, min_tokens=3).sampling
    assert (sampling.top_k, sampling.min_p, sampling.min_tokens) == (20, 0.1, 3)
    assert sampling.extra == {"top_k": 20, "min_p": 0.1, "min_tokens": 3}


def test_the_newer_name_of_the_cap_counts():
    assert chat(max_tokens=5, max_completion_tokens=6).sampling.max_tokens == 6


def test_an_answer_in_json_is_compared_as_json():
    form = {"type": "json_schema", "json_schema": {"name": "a", "schema": {"type": "object"}}}
    assert chat(response_format=form).problem.answer_kind is AnswerKind.json
    assert chat(response_format=form).sampling.response_format == form
    assert chat(response_format={"type": "text"}).problem.answer_kind is AnswerKind.auto
    assert chat(response_format={"type": "text"}).sampling.response_format is None


def test_a_single_part_of_text_is_plain_text():
    messages = [{"role": "user", "content": [{"type": "text", "text": "Hi"}]}]
    assert chat(messages=messages).problem.question == "Hi"


def test_responses_become_a_chat():
    call = {"type": "function_call", "call_id": "c1", "name": "add", "arguments": '{"a":1}'}
    read = responses(
        instructions="Be brief.",
        input=[
            {
                "role": "user",
                "content": [
                    {"type": "input_text", "text": "What is this?"},
                    {"type": "input_image", "image_url": "data:x"},
                ],
            },
            {"type": "reasoning", "summary": []},
            {"type": "message", "role": "assistant", "content": [{"type": "output_text", "text": "I add."}]},
            call,
            {**call, "call_id": "c2"},
            {"type": "function_call_output", "call_id": "c1", "output": "4"},
        ],
        tools=[{"type": "function", "name": "add", "parameters": {"type": "object"}, "strict": True}],
        tool_choice={"type": "function", "name": "add"},
        text={"format": {"type": "json_schema", "name": "a", "schema": {}}, "verbosity": "low"},
        reasoning={"effort": "low"},
        max_output_tokens=9,
        include=["message.output_text.logprobs"],
    )
    made = [{"id": c, "type": "function", "function": {"name": "add", "arguments": '{"a":1}'}} for c in ("c1", "c2")]
    assert read.problem.messages == (
        Message("system", "Be brief."),
        Message(
            "user", ({"type": "text", "text": "What is this?"}, {"type": "image_url", "image_url": {"url": "data:x"}})
        ),
        Message("assistant", "I add.", {"tool_calls": made}),
        Message("tool", "4", {"tool_call_id": "c1"}),
    )
    assert read.problem.tools == (
        {"type": "function", "function": {"name": "add", "parameters": {"type": "object"}, "strict": True}},
    )
    assert read.sampling.extra == {"tool_choice": {"type": "function", "function": {"name": "add"}}, "verbosity": "low"}
    assert read.sampling.response_format == {"type": "json_schema", "json_schema": {"name": "a", "schema": {}}}
    assert (read.effort, read.sampling.max_tokens, read.sampling.logprobs) == ("low", 9, 0)


def test_a_prompt_is_one_text():
    read = completions(logprobs=2, suffix="end", n=3, best_of=3)
    assert read.problem.messages == (Message("user", "Once"),)
    assert (read.sampling.logprobs, read.sampling.extra, read.n) == (2, {"suffix": "end"}, 3)
    assert completions(prompt=["Once"]).problem.messages == (Message("user", "Once"),)


def test_budgets_of_body_headers_and_limits_all_hold():
    headers = {"x-thinkscale-budget": "tokens=100,seconds=30", "x-thinkscale-deadline": "20"}
    own = {"budget": {"tokens": 200, "calls": 3}}
    assert chat(headers, thinkscale=own).budget == Budget(tokens=100, calls=3, seconds=20)
    assert chat(headers, Limits(seconds=5)).budget.seconds == 5
    assert chat(thinkscale={"budget": "tokens=7"}).budget == Budget(tokens=7)
    assert tighter(Budget(tokens=3), Budget(usd=1), Budget(tokens=2)) == Budget(tokens=2, usd=1)


def test_a_client_that_says_how_long_it_waits_gets_its_plain_reply_in_time():
    assert chat({"x-stainless-read-timeout": "600"}).budget.seconds == 598
    assert chat({"x-stainless-timeout": "5"}).budget.seconds == 4.5
    assert chat({"x-stainless-read-timeout": "600"}, stream=True).budget.seconds is None
    assert chat({"x-stainless-read-timeout": "soon"}).budget.seconds is None


WRONG = [
    ({"messages": HELLO}, "model", "missing_required_parameter", "Missing required parameter: 'model'."),
    ({"model": 1, "messages": HELLO}, "model", "invalid_type", "expected a string, but got an integer"),
    ({"model": "m"}, "messages", "missing_required_parameter", "Missing required parameter: 'messages'."),
    ({"messages": []}, "messages", "empty_array", "minimum length 1"),
    ({"messages": "hi"}, "messages", "invalid_type", "expected an array of objects, but got a string"),
    ({"messages": [1]}, "messages[0]", "invalid_type", "expected an object"),
    ({"messages": [{"content": "x"}]}, "messages[0].role", "missing_required_parameter", "Missing"),
    ({"messages": [{"role": "asistant", "content": "x"}]}, "messages[0].role", "invalid_value", "'assistant'"),
    ({"messages": [{"role": "user"}]}, "messages[0].content", "missing_required_parameter", "Missing"),
    ({"messages": [{"role": "user", "content": None}]}, "messages[0].content", "invalid_type", "got null"),
    ({"messages": [{"role": "user", "content": [{"text": "x"}]}]}, "messages[0].content[0].type", None, "Missing"),
    ({"messages": [{"role": "tool", "content": "x"}]}, "messages[0].tool_call_id", None, "Missing"),
    ({"messages": HELLO * 3000}, "messages", "array_above_max_length", "maximum length 2048"),
    ({"n": 10_000}, "n", "integer_above_max_value", "Expected a value <= 128, but got 10000 instead."),
    ({"n": 0}, "n", "integer_below_min_value", "Expected a value >= 1"),
    ({"n": True}, "n", "invalid_type", "got a boolean"),
    ({"temperature": "hot"}, "temperature", "invalid_type", "expected a decimal, but got a string instead."),
    ({"temperature": 3}, "temperature", "decimal_above_max_value", "<= 2"),
    ({"temperature": float("nan")}, "temperature", "invalid_value", "finite"),
    ({"max_tokens": 0}, "max_tokens", "integer_below_min_value", ">= 1"),
    ({"stop": [1]}, "stop", "invalid_type", "array of strings"),
    ({"stop": ""}, "stop", "invalid_value", "between 1 and"),
    ({"top_logprobs": 3}, "top_logprobs", "invalid_value", "'logprobs' to be true"),
    ({"logprobs": True, "top_logprobs": 21}, "top_logprobs", "integer_above_max_value", "<= 20"),
    ({"logit_bias": {"the": 1}}, "logit_bias", "invalid_value", "ids of tokens"),
    ({"logit_bias": {"1": 101}}, "logit_bias.1", "decimal_above_max_value", "<= 100"),
    ({"response_format": {"type": "json_schema"}}, "response_format.json_schema", None, "Missing"),
    ({"tools": [{"type": "function"}]}, "tools[0].function.name", None, "Missing"),
    ({"functions": [{}]}, "functions", "unsupported_parameter", "Use 'tools'"),
    ({"thinkscale": {"metod": "x"}}, "thinkscale.metod", "unknown_parameter", "did you mean `method`"),
    ({"thinkscale": {"budget": {"token": 1}}}, "thinkscale.budget.token", "unknown_parameter", "`tokens`"),
    ({"thinkscale": {"budget": {"tokens": "1"}}}, "thinkscale.budget.tokens", "invalid_type", "a decimal"),
    ({"thinkscale": {"budget": "tokens"}}, "thinkscale.budget", "invalid_value", "needs a number"),
    ({"thinkscale": {"budget": {"calls": 0}}}, "thinkscale.budget", "invalid_value", "does not pay for one call"),
    ({"thinkscale": {"budget": {"usd": -1}}}, "thinkscale.budget", "invalid_value", "0 or more"),
]


@pytest.mark.parametrize(("changes", "param", "code", "says"), WRONG)
def test_what_is_wrong_is_named_in_the_words_of_the_api(changes, param, code, says):
    whole = (
        changes
        if ("messages" in changes and "model" in changes) or param in ("model",) or changes == {"model": "m"}
        else {"model": "m", "messages": HELLO, **changes}
    )
    error = refused(Api.chat, whole)
    assert error.param == param
    assert says in str(error)
    assert code is None or error.code == code


def test_a_bad_header_is_named():
    assert (
        refused(Api.chat, {"model": "m", "messages": HELLO}, {"x-thinkscale-deadline": "soon"}).param
        == "x-thinkscale-deadline"
    )
    assert (
        refused(Api.chat, {"model": "m", "messages": HELLO}, {"x-thinkscale-budget": "0"}).param
        == "x-thinkscale-budget"
    )


@pytest.mark.parametrize("budget", [f"tokens={10**22}", f"calls={10**22}", {"tokens": 1e300}, "seconds=1e300"])
def test_a_budget_that_no_reply_could_tell_is_refused(budget):
    error = refused(Api.chat, {"model": "m", "messages": HELLO, "thinkscale": {"budget": budget}})
    assert error.param == "thinkscale.budget"
    if isinstance(budget, str):
        headers = {"x-thinkscale-budget": budget}
        assert refused(Api.chat, {"model": "m", "messages": HELLO}, headers).param == "x-thinkscale-budget"


def test_depth_width_and_tokens_have_limits():
    deep = {}
    for _ in range(100):
        deep = {"a": [deep]}
    assert "64 levels" in str(refused(Api.chat, {"model": "m", "messages": HELLO, "x": deep}))
    for wide in ([[]] * 300_000, [[0] * 300] * 1000, {str(i): 0 for i in range(300_000)}):
        assert "more than 262144 values" in str(refused(Api.chat, {"model": "m", "messages": HELLO, "x": wide}))
    capped = Limits(tokens=100)
    error = refused(Api.chat, {"model": "m", "messages": HELLO, "max_completion_tokens": 101}, limits=capped)
    assert error.param == "max_completion_tokens"


@pytest.mark.parametrize(
    ("body", "param"),
    [
        ({"previous_response_id": "r"}, "previous_response_id"),
        ({"background": True, "store": False}, "store"),
        ({"background": "yes"}, "background"),
        ({"n": 2}, "n"),
        ({"input": []}, "input"),
        ({"input": [{"type": "item_reference", "id": "x"}]}, "input[0].type"),
        ({"tools": [{"type": "web_search"}]}, "tools[0].type"),
    ],
)
def test_what_a_response_cannot_be_here_is_refused(body, param):
    assert refused(Api.responses, {"model": "m", "input": "Hi", **body}).param == param


@pytest.mark.parametrize(
    ("body", "param"),
    [
        ({"prompt": ["a", "b"]}, "prompt"),
        ({"prompt": [1]}, "prompt"),
        ({"echo": True}, "echo"),
        ({"best_of": 5}, "best_of"),
    ],
)
def test_what_a_completion_cannot_be_here_is_refused(body, param):
    assert refused(Api.completions, {"model": "m", "prompt": "Hi", **body}).param == param


STRANGERS = [
    (Api.chat, "max_output_tokens", "max_completion_tokens"),
    (Api.chat, "n_predict", "max_completion_tokens"),
    (Api.chat, "prompt", "messages"),
    (Api.chat, "n_cmpl", "n"),
    (Api.completions, "n_predict", "max_tokens"),
    (Api.completions, "messages", "prompt"),
    (Api.responses, "max_tokens", "max_output_tokens"),
    (Api.responses, "max_completion_tokens", "max_output_tokens"),
    (Api.responses, "messages", "input"),
    (Api.responses, "response_format", "text.format"),
]


@pytest.mark.parametrize(("api", "name", "instead"), STRANGERS)
def test_no_field_gets_past_what_was_reserved_by_another_name(api, name, instead):
    body = {
        "model": "m",
        **{Api.chat: {"messages": HELLO}, Api.completions: {"prompt": "Hi"}}.get(api, {"input": "Hi"}),
    }
    error = refused(api, {**body, name: 100})
    assert error.param == name
    assert f"Use '{instead}' instead" in str(error)
    assert asked(api, {**body, name: None}, {}, Limits()).sampling.extra == {}


NAMES = st.sampled_from(
    [
        "model",
        "messages",
        "prompt",
        "input",
        "instructions",
        "n",
        "seed",
        "stop",
        "logprobs",
        "top_logprobs",
        "logit_bias",
        "temperature",
        "top_p",
        "max_tokens",
        "max_completion_tokens",
        "max_output_tokens",
        "response_format",
        "text",
        "reasoning_effort",
        "reasoning",
        "stream",
        "stream_options",
        "tools",
        "thinkscale",
        "include",
        "background",
        "echo",
        "best_of",
        "role",
        "content",
        "type",
        "function",
        "name",
        "arguments",
        "tool_calls",
        "budget",
        "method",
        "tokens",
        "seconds",
        "calls",
        "usd",
        "format",
        "json_schema",
        "effort",
        "call_id",
        "output",
        "image_url",
        "top_k",
        "min_p",
        "store",
    ]
)
WORDS = st.sampled_from(
    [
        "user",
        "assistant",
        "tool",
        "message",
        "function",
        "function_call",
        "function_call_output",
        "text",
        "input_text",
        "json_schema",
        "json_object",
        "tokens=1",
        "seconds=x",
        "1",
        "m",
    ]
)
HOSTILE = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=5) | WORDS | st.characters(),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(NAMES | st.text(max_size=3), inner, max_size=5),
    max_leaves=12,
)
HEADERS = st.dictionaries(
    st.sampled_from(["x-thinkscale-budget", "x-thinkscale-deadline", "x-stainless-timeout"]),
    st.text(max_size=5) | WORDS,
)


@given(st.sampled_from(Api), st.dictionaries(NAMES, HOSTILE, max_size=8), HEADERS)
def test_any_body_is_read_or_refused(api, body, headers):
    readable = {"model": "m", "messages": HELLO, "prompt": "Hi", "input": "Hi"}
    for whole in (body, {**readable, **body}):
        try:
            read = asked(api, whole, headers, LIMITS)
        except ServeError as error:
            read = error
        assert not isinstance(read, ServeError) or read.status == 400
        assert isinstance(read, ServeError) or json.dumps(read.sampling.extra)
