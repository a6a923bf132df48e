import json
import math
from dataclasses import replace

import pytest

from serve.orders import FIVE, FOUR, menu, ran, request
from serve.shapes import valid
from thinkscale.engines.scripted import Line
from thinkscale.engines.think_formats import OPENED_TAGS, THINK_TAGS
from thinkscale.errors import EngineError, ServeError
from thinkscale.serve.records import Api
from thinkscale.serve.replies import error, reply
from thinkscale.types import Finish, Outcome, Stopped, Trace

THOUGHT = "<think>\nTwo and two.\n</think>\n\nThe answer is 4."
CALL = {"index": 0, "id": "c1", "type": "function", "function": {"name": "add", "arguments": '{"a": 2}'}}
SCHEMAS = {Api.chat: "CreateChatCompletionResponse", Api.completions: "CreateCompletionResponse"}


def replied(asked, script=(FOUR,), think=None, names=("reasoning_content", "reasoning")):
    order = menu(script, think=think).order(asked)
    outcome, _ = ran(order)
    told = reply(order, outcome, id="x-1", created=1700000000, names=names)
    assert json.loads(json.dumps(told, allow_nan=False)) == told
    return valid(told, SCHEMAS[asked.api]) if asked.api in SCHEMAS else told


def test_a_chat_has_every_field_that_clients_look_for():
    told = replied(request())
    [choice] = told["choices"]
    assert choice["message"] == {"role": "assistant", "content": FOUR, "refusal": None}
    assert (choice["finish_reason"], told["model"], told["id"]) == ("stop", "small", "x-1")
    assert told["usage"] == {
        "prompt_tokens": 5,
        "completion_tokens": 9,
        "total_tokens": 14,
        "prompt_tokens_details": {"cached_tokens": 0},
        "completion_tokens_details": {"reasoning_tokens": 0},
    }


def test_a_vote_is_told_in_one_object_of_our_own():
    told = replied(request(model="fast"), [FOUR, FIVE, FOUR, FOUR])["thinkscale"]
    assert (told["method"], told["profile"], told["answer"]) == ("self-consistency(n=4)", "fast", "4")
    assert told["votes"] == [{"answer": "4", "count": 3, "weight": 3.0}, {"answer": "5", "count": 1, "weight": 1.0}]
    assert (told["confidence"], told["samples"], told["stopped"], told["run"]) == (0.75, 4, "done", None)
    assert told["spend"]["calls"] == 4
    assert told["seconds"] >= 0
    assert "traces" not in told


def test_attempts_that_are_not_shown_count_as_reasoning():
    usage = replied(request(model="fast"), [FOUR, FIVE, FOUR, FOUR])["usage"]
    assert usage["completion_tokens"] == 3 * 9 + 4
    assert usage["completion_tokens_details"]["reasoning_tokens"] == 2 * 9 + 4


def test_every_attempt_is_told_when_asked_for():
    told = replied(request(model="fast", thinkscale={"trace": True}), [FOUR, FIVE, FOUR, FOUR])["thinkscale"]
    assert [t["answer"] for t in told["traces"]] == ["4", "5", "4", "4"]
    assert told["traces"][1]["text"] == FIVE


def test_thinking_goes_into_fields_of_its_own():
    message = replied(request(), [THOUGHT], THINK_TAGS)["choices"][0]["message"]
    assert message["content"] == "The answer is 4."
    assert message["reasoning_content"] == message["reasoning"] == "Two and two."
    assert (
        "reasoning"
        not in replied(request(), [THOUGHT], THINK_TAGS, names=["reasoning_content"])["choices"][0]["message"]
    )
    assert replied(request(Api.completions), [THOUGHT], THINK_TAGS)["choices"][0]["text"] == THOUGHT


def test_thinking_that_was_cut_off_is_no_answer():
    told = replied(request(max_tokens=3), [THOUGHT], THINK_TAGS)["choices"][0]
    assert told["message"]["content"] == ""
    assert told["message"]["reasoning"] == "Two and"
    assert told["finish_reason"] == "length"


def test_thinking_that_the_template_opened_and_a_cap_cut_is_no_answer_either():
    told = replied(request(max_tokens=6), ["So the answer is 5. Wait, let me"], OPENED_TAGS)
    assert told["choices"][0]["message"]["content"] == ""
    assert told["choices"][0]["message"]["reasoning"] == "So the answer is 5. Wait,"
    assert told["thinkscale"]["answer"] is None
    whole = replied(request(), ["The answer is 5."], OPENED_TAGS)["choices"][0]["message"]
    assert whole["content"] == "The answer is 5.", "a turn that ended without a marker is all answer"


@pytest.mark.parametrize("model", ["small", "fast"])
def test_what_only_we_wrote_is_never_shown(model):
    order = menu([FOUR]).order(request(model=model))
    trace = Trace(prompt=order.asked.problem.messages, finish=Finish.budget).inject("Final Answer:")
    nothing = Outcome(best=None, answer=None, traces=(replace(trace, finish=Finish.budget),), stopped=Stopped.budget)
    with pytest.raises(ServeError, match="over before there was anything to show") as caught:
        reply(order, nothing, id="x-1", created=1)
    assert caught.value.status == 504


def test_thinking_that_the_engine_counted_is_counted_so():
    usage = replied(request(), [Line(says=THOUGHT, reasoning=4)], THINK_TAGS)["usage"]
    assert usage["completion_tokens_details"]["reasoning_tokens"] == 4


def test_calls_of_tools_come_in_the_form_that_clients_check():
    told = replied(request(), [Line(says="", calls=(CALL, {"function": {"name": "now"}}))])["choices"][0]
    first, second = told["message"]["tool_calls"]
    assert first == {"id": "c1", "type": "function", "function": {"name": "add", "arguments": '{"a": 2}'}}
    assert second == {"id": "call_0_1", "type": "function", "function": {"name": "now", "arguments": "{}"}}
    assert (told["finish_reason"], told["message"]["content"]) == ("tool_calls", None)


def test_calls_of_tools_are_voted_on_by_their_meaning():
    other = {**CALL, "function": {"name": "add", "arguments": '{"a":2.0}'}}
    wrong = {**CALL, "function": {"name": "add", "arguments": '{"a":3}'}}
    script = [Line(calls=(wrong,)), Line(calls=(CALL,)), Line(calls=(other,)), Line(calls=(CALL,))]
    told = replied(request(model="fast"), script)
    assert told["choices"][0]["message"]["tool_calls"][0]["function"]["arguments"] == '{"a": 2}'
    assert told["thinkscale"]["votes"][0]["count"] == 3


def test_several_choices_are_all_there_but_for_those_that_failed():
    failing = Line(fails=EngineError("out of order"))
    told = replied(request(n=3), [FOUR, FIVE, FOUR])
    assert [(c["index"], c["message"]["content"]) for c in told["choices"]] == [(0, FOUR), (1, FIVE), (2, FOUR)]
    assert told["usage"]["completion_tokens_details"]["reasoning_tokens"] == 0
    with pytest.raises(ServeError, match="out of order") as caught:
        replied(request(), [failing])
    assert (caught.value.status, caught.value.type) == (502, "server_error")


def test_log_probabilities_are_those_of_the_attempt_that_is_shown():
    script = [Line(says="5", logprob=-9.0), *[Line(says="4 ok", logprob=(-0.5, -1.0))] * 3]
    told = replied(request(model="fast", logprobs=True, top_logprobs=2), script)["choices"][0]["logprobs"]
    first, second = told["content"]
    assert (first["token"], first["logprob"], first["bytes"]) == ("4", -0.5, [52])
    assert (second["token"], second["logprob"]) == (" ok", -1.0)
    assert [top["token"] for top in first["top_logprobs"]] == ["4", "…"]
    assert replied(request(), ["4"])["choices"][0]["logprobs"] is None


def test_completions_tell_log_probabilities_in_lists():
    told = replied(request(Api.completions, logprobs=1), [Line(says="4 ok", logprob=-0.5)])["choices"][0]["logprobs"]
    assert (told["tokens"], told["token_logprobs"], told["text_offset"]) == (["4", " ok"], [-0.5, -0.5], [0, 1])
    assert told["top_logprobs"][0] == {"4": -0.5}


def test_minus_infinity_is_a_number_in_json():
    script = [Line(says="4", logprob=-1e-300)]
    told = replied(request(logprobs=True, top_logprobs=2), script)["choices"][0]["logprobs"]
    assert min(top["logprob"] for top in told["content"][0]["top_logprobs"]) >= -9999
    assert math.isfinite(told["content"][0]["logprob"])


def test_a_budget_that_ran_out_still_gives_an_answer():
    told = replied(request(model="fast", thinkscale={"budget": {"tokens": 9}}), lambda _: FOUR)
    assert told["choices"][0]["finish_reason"] in ("stop", "length")
    assert told["choices"][0]["message"]["content"]
    assert (told["thinkscale"]["stopped"], told["thinkscale"]["budget"]) == ("budget", {"tokens": 9})


def test_a_completion_is_all_that_was_written():
    told = replied(request(Api.completions, n=2), [FOUR, FIVE])
    assert [(c["text"], c["finish_reason"]) for c in told["choices"]] == [(FOUR, "stop"), (FIVE, "stop")]
    assert told["object"] == "text_completion"


def test_a_response_has_its_items_in_order():
    asked = request(Api.responses, instructions="Be brief.", text={"format": {"type": "json_object"}}, user="u")
    told = replied(asked, [Line(says=THOUGHT, calls=(CALL,))], THINK_TAGS)
    assert [item["type"] for item in told["output"]] == ["reasoning", "message", "function_call"]
    assert told["output"][0]["content"] == [{"type": "reasoning_text", "text": "Two and two."}]
    assert told["output"][1]["content"][0]["text"] == "The answer is 4."
    assert told["output"][2]["arguments"] == '{"a": 2}'
    assert (told["status"], told["instructions"], told["user"]) == ("completed", "Be brief.", "u")
    assert told["text"] == {"format": {"type": "json_object"}}
    assert told["usage"]["total_tokens"] == told["usage"]["input_tokens"] + told["usage"]["output_tokens"]


def test_a_response_that_was_cut_is_incomplete():
    told = replied(request(Api.responses, max_output_tokens=2))
    assert (told["status"], told["incomplete_details"]) == ("incomplete", {"reason": "max_output_tokens"})


@pytest.mark.parametrize(
    ("finish", "shown"), [(Finish.eos, True), (Finish.length, True), (Finish.budget, False), (Finish.error, False)]
)
@pytest.mark.parametrize("model", ["small", "fast"])
def test_a_response_that_was_cancelled_shows_only_what_was_over(model, finish, shown):
    order = menu(lambda _: "Two and two.").order(request(Api.responses, model=model))
    outcome, _ = ran(order)
    traces = tuple(replace(trace, finish=finish, answer=None) for trace in outcome.traces)
    half = replace(outcome, best=traces[0], traces=traces, stopped=Stopped.cancelled)
    told = reply(order, half, id="resp_1", created=1700000000)
    assert (told["status"], told["incomplete_details"], bool(told["output"])) == ("cancelled", None, shown)
    assert told["usage"]["output_tokens"] == outcome.usage.output_tokens


def test_a_filtered_answer_is_an_upstream_error():
    with pytest.raises(ServeError, match="gave no answer") as caught:
        replied(request(), [Line(says="no", finish=Finish.error)])
    assert caught.value.code == "upstream_error"


def test_models_and_errors_have_their_shapes():
    for entry in menu().models():
        valid(entry, "Model")
    told = error(ServeError("no", status=404, param="model", code="model_not_found"))
    assert valid(told, "ErrorResponse")["error"]["type"] == "invalid_request_error"
