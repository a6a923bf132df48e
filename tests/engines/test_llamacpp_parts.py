"""Guarantees of the embedded engine's parts that need no weights: sampling, text, GGUF headers."""

import struct

import numpy as np
import pytest

from thinkscale.engines.gguf import read_gguf
from thinkscale.engines.llamacpp.sampling import NOTHING, Rule, Sampler
from thinkscale.engines.tail import Tail
from thinkscale.engines.template import beginning
from thinkscale.engines.think_formats import OPENED_TAGS, S1, THINK_TAGS, think_format_for
from thinkscale.errors import ModelError
from thinkscale.types import LogprobSpace

VOCABULARY = 1000


def logits(rows=1, seed=0, size=VOCABULARY):
    return (np.random.default_rng(seed).standard_normal((rows, size)) * 3).astype(np.float32)


def slow(z, rule):
    """The distribution a rule defines, spelled out with full sorts in float64."""
    z = z.astype(np.float64)
    for token, amount in rule.bias:
        z[token] += amount
    p = np.exp((z - z.max()) / rule.temperature)
    order = np.argsort(-p, kind="stable")
    if rule.top_k:
        p[order[rule.top_k :]] = 0
    if rule.top_p < 1:
        cumulative = np.cumsum(p[order]) / p.sum()
        p[order[int(np.searchsorted(cumulative, rule.top_p)) + 1 :]] = 0
    p[p < rule.min_p * p.max()] = 0
    return p / p.sum()


RULES = [
    Rule(),
    Rule(temperature=0.7),
    Rule(top_k=5),
    Rule(top_k=900),
    Rule(top_p=0.9),
    Rule(top_p=0.3, temperature=1.5),
    Rule(min_p=0.1),
    Rule(top_k=50, top_p=0.8, min_p=0.02, temperature=0.9),
    Rule(bias=((3, 20.0), (4, float("-inf")))),
]


@pytest.mark.parametrize("rule", RULES, ids=str)
def test_draws_follow_the_slow_distribution(rule):
    z = logits(seed=1)
    p = slow(z[0], rule)
    grid = (np.arange(4000) + 0.5) / 4000
    sampler = Sampler(VOCABULARY)
    drawn = [sampler.draw(z, rule, [u])[0].token for u in grid]
    seen = np.bincount(drawn, minlength=VOCABULARY) / len(grid)
    # A regular grid through an exact inverse visits every token in proportion, up to one grid step.
    assert np.abs(seen - p).max() < 1.01 / len(grid) + 1e-6
    assert not seen[p == 0].any()


def test_rows_are_drawn_independently_of_their_company():
    z, sampler = logits(rows=16, seed=2, size=49152), Sampler(49152)
    uniforms = np.random.default_rng(3).random(16)
    together = [d.token for d in sampler.draw(z, Rule(temperature=0.8), uniforms)]
    alone = [sampler.draw(z[i : i + 1], Rule(temperature=0.8), uniforms[i : i + 1])[0].token for i in range(16)]
    assert together == alone


def test_greedy_takes_the_first_of_equals():
    z = np.zeros((1, VOCABULARY), np.float32)
    assert Sampler(VOCABULARY).draw(z, Rule(temperature=0.0), [0.5])[0].token == 0


def test_nothing_left_is_said_and_not_drawn():
    z = np.full((1, VOCABULARY), -np.inf, np.float32)
    for rule in (Rule(), Rule(temperature=0.0), Rule(top_p=0.5), Rule(top_k=3)):
        assert Sampler(VOCABULARY).draw(z, rule, [0.5])[0].token == NOTHING


@pytest.mark.parametrize("uniform", [0.0, np.nextafter(1.0, 0.0)])
def test_the_ends_of_the_unit_interval_draw_possible_tokens(uniform):
    z = logits(size=49152)
    z[0, :100] = z[0, -100:] = -np.inf
    token = Sampler(49152).draw(z, Rule(), [uniform])[0].token
    assert 100 <= token < 49052


def test_a_veto_redraws_from_the_masked_distribution():
    z, sampler = logits(seed=4), Sampler(VOCABULARY)
    allowed = np.zeros(VOCABULARY, bool)
    allowed[[5, 6, 7]] = True
    p = np.where(allowed, slow(z[0], Rule()), 0)
    p /= p.sum()
    random, counts = np.random.default_rng(0), np.zeros(VOCABULARY)
    for u, v in random.random((4000, 2)):
        drawn = sampler.draw(z, Rule(), [u], lambda _, token: None if allowed[token] else allowed, [v])
        counts[drawn[0].token] += 1
    np.testing.assert_allclose(counts / 4000, p, atol=0.03)


def test_raw_signals_equal_a_float64_softmax():
    z, sampler = logits(rows=3, size=49152), Sampler(49152)
    tokens = [5, 6, 7]
    for row, signals in enumerate(sampler.moments(z, tokens, 4)):
        exact = z[row].astype(np.float64)
        total = np.log(np.exp(exact - exact.max()).sum()) + exact.max()
        assert signals.logsumexp == pytest.approx(total, abs=1e-5)
        assert signals.mean == pytest.approx(exact.mean(), abs=1e-5)
        assert signals.chosen == pytest.approx(exact[tokens[row]] - total, abs=1e-5)
        p = np.exp(exact - total)
        assert signals.entropy == pytest.approx(-(p * np.log(p)).sum(), abs=1e-5)
        assert [i for i, _ in signals.top] == np.argsort(-exact)[:4].tolist()


def test_the_entropy_of_far_away_and_of_impossible_logits_is_exact():
    z = np.full((2, 49152), -np.inf, np.float32)
    z[0, :4] = 30.0
    z[1] = np.random.default_rng(3).normal(25, 2.5, 49152)
    four, many = Sampler(49152).moments(z, [0, 0])
    assert four.entropy == pytest.approx(np.log(4), abs=1e-6)
    p = np.exp(z[1].astype(np.float64) - many.logsumexp)
    assert many.entropy == pytest.approx(-(p * np.log(p)).sum(), abs=1e-5)


@pytest.mark.parametrize("rule", [r for r in RULES if r != RULES[-1]], ids=str)
def test_processed_signals_are_of_the_slow_distribution(rule):
    z = logits(seed=5)
    asked = Rule(
        **{n: getattr(rule, n) for n in ("temperature", "top_k", "top_p", "min_p", "bias")},
        logprobs=3,
        space=LogprobSpace.processed,
    )
    p = slow(z[0], rule)
    drawn = Sampler(VOCABULARY).draw(z, asked, [0.4])[0]
    assert drawn.signals.chosen == pytest.approx(np.log(p[drawn.token]), abs=1e-4)
    assert drawn.signals.survivors == (p > 0).sum()
    assert drawn.signals.entropy == pytest.approx(-(p[p > 0] * np.log(p[p > 0])).sum(), abs=1e-4)
    assert [i for i, _ in drawn.signals.top] == np.argsort(-p, kind="stable")[: min(3, (p > 0).sum())].tolist()


def feed(tail, pieces):
    return "".join([tail.add(p) for p in pieces if tail.stopped is None]) + tail.finish()


@pytest.mark.parametrize("cuts", [(1,), (3,), (2, 5), (4, 6, 7)])
def test_a_stop_string_is_found_wherever_tokens_cut_it(cuts):
    data = b"Yes. STOP it"
    pieces = [data[a:b] for a, b in zip((0, *cuts), (*cuts, len(data)), strict=True)]
    tail = Tail(["STOP", "never"])
    assert feed(tail, pieces) == "Yes. " == tail.text
    assert tail.stopped == "STOP"


def test_the_first_stop_string_in_the_text_wins():
    tail = Tail(["later", "soon"])
    assert feed(tail, [b"now soon and later"]) == "now "
    assert tail.stopped == "soon"


def test_held_back_text_is_given_out_in_the_end():
    tail = Tail(["<end>"])
    assert tail.add(b"a <e") == "a "
    assert tail.add(b"n") == ""
    assert tail.finish() == "<en"
    assert tail.text == "a <en"


def test_characters_split_over_tokens_come_whole():
    tail = Tail([])
    data = "é🙂".encode()
    assert [tail.add(data[i : i + 1]) for i in range(len(data))] == ["", "é", "", "", "", "🙂"]
    broken = Tail([])
    assert feed(broken, [data[:4]]) == "é\ufffd"


def test_think_formats_are_found_by_template():
    assert think_format_for("plain {{ messages }}") is None
    assert think_format_for("... <think> ...") is THINK_TAGS
    assert think_format_for("... <think> ...", "<|assistant|><think>\n") is OPENED_TAGS
    assert think_format_for("<|im_start|>think and <think>") is S1


@pytest.mark.parametrize(
    ("template", "format"),
    [
        ("{{ messages[0].content }}{% if add_generation_prompt %}<|assistant|><think>\n{% endif %}", OPENED_TAGS),
        ("{{ messages[0].content }}<|assistant|>{# the model writes <think> itself #}", THINK_TAGS),
        ("{{ raise_exception('no') }} <think>", THINK_TAGS),
        ("{{ messages[0].content + 1 }} <think>", THINK_TAGS),
        ("{% broken <think>", THINK_TAGS),
        ("", None),
    ],
)
def test_a_template_that_opens_the_thinking_is_recognised_by_the_prompt_that_it_makes(template, format):
    assert think_format_for(template, beginning(template)) is format


def string(text):
    return struct.pack("<Q", len(text)) + text.encode()


def header(version=3, tensors=1):
    entries = [
        string("general.architecture") + struct.pack("<I", 8) + string("toy"),
        string("toy.context_length") + struct.pack("<II", 4, 77),
        string("names") + struct.pack("<IIQ", 9, 8, 2) + string("a") + string("b"),
        string("numbers") + struct.pack("<IIQ3f", 9, 6, 3, 1, 2, 3),
    ]
    tensor = string("w") + struct.pack("<IQQIQ", 2, 32, 4, 8, 0)
    body = b"GGUF" + struct.pack("<IQQ", version, tensors, len(entries)) + b"".join(entries) + tensor * tensors
    return body + b"\0" * (-len(body) % 32)


def test_a_header_is_read_and_the_extent_of_tensors_checked(tmp_path):
    path = tmp_path / "toy.gguf"
    path.write_bytes(header() + b"x" * 4 * 34)
    found = read_gguf(path)
    assert (found.architecture, found.context, found.template, found.name) == ("toy", 77, "", "toy")
    path.write_bytes(header() + b"x" * (4 * 34 - 1))
    with pytest.raises(ModelError, match="cut short"):
        read_gguf(path)


@pytest.mark.parametrize("size", [0, 3, 10, 30, 100])
def test_a_header_cut_anywhere_is_refused(tmp_path, size):
    path = tmp_path / "toy.gguf"
    path.write_bytes(header()[:size])
    with pytest.raises(ModelError):
        read_gguf(path)


def test_an_unknown_version_and_a_folder_are_refused(tmp_path):
    path = tmp_path / "toy.gguf"
    path.write_bytes(header(version=9))
    with pytest.raises(ModelError, match="version 9"):
        read_gguf(path)
    with pytest.raises(ModelError, match="folder"):
        read_gguf(tmp_path)
