import pytest
from hypothesis import given
from hypothesis import strategies as st

from serve.orders import menu, ran, request
from thinkscale.budget import Budget
from thinkscale.built_in import BUILT_IN
from thinkscale.engines.protocol import Capability
from thinkscale.engines.scripted import Scripted
from thinkscale.errors import ServeError, SettingsError
from thinkscale.methods.self_consistency import SelfConsistency
from thinkscale.methods.single import Single
from thinkscale.serve.fitting import Passthrough
from thinkscale.serve.profiles import Menu
from thinkscale.serve.records import Api
from thinkscale.settings import Profile

IMAGE = {"type": "image_url", "image_url": {"url": "data:x"}}
TOOL = {"type": "function", "function": {"name": "add"}}
SHAPE = {"type": "json_object"}


def refused(asked, **options):
    with pytest.raises(ServeError) as caught:
        menu(**options).order(asked)
    return caught.value


def method(**body):
    return menu().order(request(**body)).method


def test_models_are_those_upstream_and_the_profiles():
    small, fast = menu(created=7).models()
    assert small == {"id": "small", "object": "model", "created": 7, "owned_by": "upstream"}
    assert fast["thinkscale"]["method"] == "self-consistency(n=4)"
    assert fast["thinkscale"]["model"] == "small"


def test_one_model_is_found_also_with_a_method_behind_it():
    assert menu().model("small+self-consistency")["id"] == "small+self-consistency"
    with pytest.raises(ServeError) as caught:
        menu().model("smal")
    assert (caught.value.status, caught.value.code) == (404, "model_not_found")


def test_a_model_alone_is_passed_through():
    order = menu().order(request())
    assert order.method == Passthrough()
    assert order.sampling.temperature is None
    assert order.profile == ""


def test_a_method_stands_in_a_profile_behind_the_model_or_in_our_own_object():
    assert menu().order(request(model="fast")).profile == "fast"
    assert method(model="fast") == SelfConsistency(n=4)
    assert method(model="small+self-consistency(n=8)") == SelfConsistency(n=8)
    assert method(model="fast+self-consistency(n=8)") == SelfConsistency(n=8)
    assert method(thinkscale={"method": "self-consistency(n=2)"}) == SelfConsistency(n=2)
    assert method(model="fast+single") == Passthrough()


def test_a_model_may_have_a_plus_in_its_name():
    served = Menu({"command-r+": Scripted(), "command": Scripted()})
    assert served.order(request(model="command-r+")).method == Passthrough()
    assert served.order(request(model="command-r++self-consistency(n=3)")).method == SelfConsistency(n=3)


def test_what_is_unknown_is_told_with_what_is_near():
    wrong = refused(request(model="smal"))
    assert (wrong.status, wrong.code, wrong.param) == (404, "model_not_found", "model")
    assert "did you mean `small`" in str(wrong)
    assert "did you mean `self-consistency`" in str(refused(request(model="small+self-consistancy")))
    wrong = refused(request(thinkscale={"method": "self-consistency(m=3)"}))
    assert (wrong.status, wrong.param) == (400, "thinkscale.method")
    assert "no field `m`" in str(wrong)
    assert refused(request(model="small+")).status == 400
    assert refused(request(model="small+single", thinkscale={"method": "single"})).param == "thinkscale.method"
    assert refused(request(reasoning_effort="extreme")).param == "reasoning_effort"


@pytest.mark.parametrize(
    ("effort", "n", "tokens"),
    [("none", 1, 100), ("minimal", 4, 25), ("low", 8, 50), ("medium", 16, 100), ("high", 32, 200), ("xhigh", 64, 400)],
)
def test_effort_scales_attempts_and_budget(effort, n, tokens):
    profiles = {"fast": Profile(method="self-consistency(n=16)", budget="tokens=100")}
    order = menu(profiles=profiles).order(request(model="fast", reasoning_effort=effort))
    assert order.method == SelfConsistency(n=n)
    assert order.budget == Budget(tokens=tokens)
    assert order.sampling.effort is None


def test_effort_reaches_methods_within_and_the_model_that_is_passed_through():
    made = method(model="small+cascade(levels=[self-consistency(n=2), self-consistency(n=4)])", reasoning_effort="high")
    assert [level.n for level in made.levels] == [4, 8]
    assert menu().order(request(reasoning_effort="high")).sampling.effort == "high"


def test_the_clients_temperature_replaces_the_methods_own():
    made = method(model="small+self-consistency(n=4, by=single)", temperature=0.2, top_p=0.5)
    assert (made.temperature, made.by.temperature, made.by.top_p) == (0.2, 0.2, 0.5)
    various = method(model="small+decoding-ensemble", temperature=0.2)
    assert len({each.temperature for each in various.configs}) > 1
    plain = menu().order(request(temperature=0.2))
    assert (plain.method, plain.sampling.temperature) == (Passthrough(), 0.2)


def test_a_profile_says_what_a_request_leaves_out():
    profiles = {"fast": Profile(method="self-consistency(n=4)", temperature=0.5, max_tokens=99)}
    order = menu(profiles=profiles).order(request(model="fast"))
    assert (order.method.temperature, order.sampling.max_tokens) == (0.5, 99)
    order = menu(profiles=profiles).order(request(model="fast", temperature=0.9, max_tokens=3))
    assert (order.method.temperature, order.sampling.max_tokens) == (0.9, 3)
    assert menu(max_tokens=50).order(request()).sampling.max_tokens == 50
    narrow = Menu({"small": Scripted(context=12)}, max_tokens=50)
    assert narrow.order(request()).sampling.max_tokens == 12 - 5


def test_the_smallest_budget_holds():
    profiles = {"fast": Profile(budget="tokens=100,seconds=9")}
    asked = request(model="fast", thinkscale={"budget": {"tokens": 50, "calls": 7}})
    assert menu(profiles=profiles).order(asked, Budget(calls=2, usd=1)).budget == Budget(
        tokens=50, calls=2, seconds=9, usd=1
    )


def test_seeds_are_the_clients_or_new_ones():
    other = {"messages": [{"role": "user", "content": "And 3 + 3?"}]}
    seeds = [menu().order(request(**body)).seed for body in ({}, {}, other, {"seed": 7}, {"seed": -1})]
    assert len({*seeds[:3]}) == 3
    assert seeds[3:] == [7, 2**63 - 1]


def test_several_choices_are_of_the_model_alone():
    assert method(n=3) == Passthrough(n=3)
    assert method(n=2, model='small+single(system="Be brief.")') == Passthrough(n=2, by=Single(system="Be brief."))
    wrong = refused(request(model="fast", n=2))
    assert (wrong.param, wrong.code) == ("n", "unsupported_feature")
    assert "without a method" in str(wrong)


CARRIED = [
    ("self-consistency", {"tools": [TOOL], "response_format": SHAPE, "stop": "x", "logprobs": True}, None),
    ("best-of-n(scorer=length)", {"tools": [TOOL], "response_format": SHAPE, "stop": "x", "logprobs": True}, None),
    ("cascade", {"tools": [TOOL], "response_format": SHAPE, "stop": "x"}, None),
    ("budget-forcing", {"tools": [TOOL]}, "tools"),
    ("budget-forcing", {"response_format": SHAPE}, "response_format"),
    ("self-consistency(n=2, by=budget-forcing)", {"stop": "x"}, "stop"),
    ("cascade(carry=prefill)", {"tools": [TOOL]}, "tools"),
    ("universal-self-consistency", {"response_format": SHAPE}, "response_format"),
    ("semantic-consistency", {"tools": [TOOL]}, "tools"),
    ("best-of-n(scorer=outcome-reward)", {"tools": [TOOL]}, "tools"),
    ("tool-call-best-of-n(judge=outcome-reward)", {"tools": [TOOL]}, None),
]


@pytest.mark.parametrize(("spec", "body", "param"), CARRIED)
def test_what_a_method_would_lose_is_refused_before_anything_is_spent(spec, body, param):
    asked = request(model=f"small+{spec}", **body)
    if param is None:
        assert menu().order(asked).method is not None
        return
    wrong = refused(asked)
    assert (wrong.status, wrong.param, wrong.code) == (400, param, "unsupported_feature")


def test_images_are_refused_where_a_question_about_the_attempts_would_leave_them_out():
    messages = [{"role": "user", "content": [{"type": "text", "text": "What?"}, IMAGE]}]
    assert refused(request(model="small+universal-self-consistency", messages=messages)).param == "messages"
    assert menu().order(request(model="fast", messages=messages)).asked.problem.messages[0].content[1] == IMAGE


def test_log_probabilities_that_the_model_does_not_tell_are_refused():
    mute = Menu({"small": Scripted(can=frozenset({Capability.prefill}))})
    with pytest.raises(ServeError, match="does not tell log-probabilities"):
        mute.order(request(logprobs=True))


def test_a_method_that_would_cost_too_much_or_needs_a_role_nobody_plays_is_refused():
    assert refused(request(model="small+self-consistency(n=5000)")).code == "too_many_calls"
    vast = "self-consistency(n=9000000000000000, by=" * 25 + "single" + ")" * 25
    assert refused(request(model=f"small+{vast}")).code == "too_many_calls"
    for spec in ("single(max_tokens={})", "self-consistency(n={})", "on(method=budget-forcing(waits={}))"):
        assert "too large" in str(refused(request(model=f"small+{spec.format('9' * 399)}")))
    wrong = refused(request(model="small+on(role=large)"))
    assert "the role `large`" in str(wrong)
    assert menu(roles={"large": Scripted()}).order(request(model="small+on(role=large)")).roles.keys() == {"large"}


def test_completions_go_to_the_engine_that_continues_a_text():
    continuing = Scripted()
    served = menu(plain={"small": continuing})
    assert served.order(request(Api.completions)).engine is continuing
    assert served.order(request()).engine is not continuing


@pytest.mark.parametrize(
    ("name", "profile", "says"),
    [
        ("fast", Profile(method="metod"), "profile `fast` cannot be served: unknown method"),
        ("fast", Profile(budget="x=1"), "unknown budget"),
        ("fast", Profile(model="smal"), "names the model `smal`, which is not served: did you mean `small`"),
        ("small", Profile(), "has the name of a model"),
    ],
)
def test_a_profile_that_cannot_be_served_is_refused_at_once(name, profile, says):
    with pytest.raises(SettingsError, match=says):
        menu(profiles={name: profile})


def test_a_menu_without_models_is_none():
    with pytest.raises(SettingsError, match="no model"):
        Menu({})


def test_passing_through_draws_every_choice_and_judges_none():
    served = menu(["one", "two", "three"])
    outcome, _ = ran(served.order(request(n=3, temperature=0.4, stop="x", user="u")))
    assert [t.text for t in outcome.traces] == ["one", "two", "three"]
    assert outcome.votes == ()
    assert outcome.best is outcome.traces[0]


def test_what_the_client_set_reaches_every_draw():
    engine = Scripted(lambda _: '{"a": 1}')
    served = Menu({"small": engine}, {"fast": Profile(method="self-consistency(n=3, stop=fixed)")})
    ran(
        served.order(
            request(model="fast", response_format=SHAPE, stop="END", max_tokens=9, logit_bias={"1": 2}, user="u")
        )
    )
    assert len(engine.cues) == 3
    for cue in engine.cues:
        seen = cue.sampling
        assert (seen.response_format, seen.stop, seen.max_tokens) == (SHAPE, ("END",), 9)
        assert (seen.logit_bias, seen.extra) == ({1: 2}, {"user": "u"})


SPECS = st.text('on()=,+[]"1.-sigleu ', max_size=12) | st.sampled_from(
    [f"{name}{tail}" for name in BUILT_IN["method"] for tail in ("", "(n=99999999999999999999)", "(by=", "(n=[1])")]
)


@given(SPECS, st.sampled_from(["small", "fast", "x"]), st.sampled_from([{}, {"tools": [TOOL]}, {"n": 3, "top_p": 0.1}]))
def test_any_method_is_run_or_refused(spec, model, body):
    for asked in (request(model=f"{model}+{spec}", **body), request(thinkscale={"method": spec}, **body)):
        try:
            told = menu().order(asked)
        except ServeError as error:
            told = error
        assert not isinstance(told, ServeError) or told.status in (400, 404)
