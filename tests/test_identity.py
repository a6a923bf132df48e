import math

from hypothesis import given
from hypothesis import strategies as st

from thinkscale.identity import digest, prompt_name, request_name, sampling_name, seed_of, text_name
from thinkscale.types import LogprobSpace, Message, Origin, Sampling, Segment

PARTS = st.lists(st.one_of(st.text(), st.binary(), st.integers()), max_size=5)


@given(PARTS, PARTS)
def test_two_lists_of_texts_share_a_name_only_when_they_are_the_same_list(a, b):
    same = [x if isinstance(x, bytes) else str(x).encode("utf-8", "surrogatepass") for x in a] == [
        x if isinstance(x, bytes) else str(x).encode("utf-8", "surrogatepass") for x in b
    ]
    assert (digest(*a) == digest(*b)) == same


def test_a_name_is_the_same_on_every_machine_and_in_every_release():
    assert digest("a", 1, b"b") == "be35a628d82e13f94a5a0822cd1471bf"
    assert seed_of(0, "main", "p", "t", (0,)) == 4611968770371081572


@given(st.integers(), st.text(max_size=5), st.lists(st.integers(0, 99), max_size=4))
def test_a_seed_has_63_bits(run_seed, text, path):
    assert 0 <= seed_of(run_seed, "main", "p", text, tuple(path)) < 2**63


def test_every_part_of_a_draws_identity_changes_its_seed():
    base = (0, "main", "prompt", "text", (0, 1))
    others = [(1, *base[1:]), (0, "judge", *base[2:]), (0, "main", "q", "text", (0, 1)), (*base[:3], "u", (0, 1)),
              (*base[:4], (0,)), (*base[:4], (1, 0))]  # fmt: skip
    assert len({seed_of(*b) for b in [base, *others]}) == 7


def test_the_text_so_far_is_named_by_its_words_and_authors_not_by_its_tokens():
    said = Segment(text="a b", origin=Origin.sampled, tokens=2, token_ids=(1, 2))
    assert text_name([said]) == text_name([Segment(text="a b", origin=Origin.sampled)])
    assert text_name([said]) != text_name([Segment(text="a b", origin=Origin.injected)])
    assert text_name([said]) != text_name([])


def test_prompts_are_named_by_everything_that_is_sent():
    plain = (Message("user", "hi"),)
    others = [
        (Message("system", "hi"),),
        (Message("user", "hi "),),
        (Message("user", "hi", {"name": "x"}),),
        (Message("user", ({"type": "text", "text": "hi"},)),),
        (*plain, *plain),
    ]
    assert len({prompt_name(p) for p in [plain, *others]}) == 6
    assert prompt_name(plain) != prompt_name(plain, tools=[{"name": "f"}])
    assert prompt_name((Message("user", "lone \ud800"),))


def test_every_setting_that_can_change_a_draw_changes_its_name():
    changed = [
        {"temperature": 0.0}, {"temperature": 1.0}, {"top_p": 0.9}, {"top_k": 3}, {"min_p": 0.1}, {"max_tokens": 5},
        {"min_tokens": 2}, {"stop": ("a",)}, {"stop": ("a", "b")}, {"logprobs": 0}, {"logprobs": 5},
        {"logprob_space": LogprobSpace.processed}, {"logit_bias": {3: -math.inf}}, {"banned": ("x",)},
        {"grammar": "root ::= x"}, {"thinking_budget": 4}, {"effort": "low"}, {"extra": {"a": 1}},
        {"response_format": {"type": "json_object"}},
    ]  # fmt: skip
    names = {request_name("m", "p", "t", sampling_name(Sampling(**c))) for c in [{}, *changed]}
    assert len(names) == len(changed) + 1


def test_a_likelihood_is_never_mistaken_for_a_sample():
    asked = {request_name("m", "p", "t", sampling_name(Sampling()), c) for c in (None, "", "None", "a")}
    assert len(asked) == 4
