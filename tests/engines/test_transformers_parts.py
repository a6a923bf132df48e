"""Guarantees of the transformers engine's parts: drawing, spelling."""

import math

import numpy as np
import pytest

torch = pytest.importorskip("torch")
pytest.importorskip("transformers")

from tokenizers import Tokenizer, decoders, models, normalizers  # noqa: E402
from transformers import PreTrainedTokenizerFast  # noqa: E402

import tiny_checkpoints as tiny  # noqa: E402
from thinkscale.engines.llamacpp.sampling import Rule, Sampler  # noqa: E402
from thinkscale.engines.tabular import processed_logits  # noqa: E402
from thinkscale.engines.transformers.sampling import NOTHING, draw, processed, signals  # noqa: E402
from thinkscale.engines.transformers.vocabulary import Tokens  # noqa: E402
from thinkscale.types import Sampling  # noqa: E402

SAMPLINGS = [
    Sampling(),
    Sampling(temperature=0.7),
    Sampling(temperature=0.0),
    Sampling(top_k=5),
    Sampling(top_p=0.9),
    Sampling(top_p=0.3, temperature=1.5),
    Sampling(top_p=1e-9),
    Sampling(min_p=0.1),
    Sampling(top_k=50, top_p=0.8, min_p=0.02, temperature=0.9),
    Sampling(logit_bias={3: 20.0, 4: -math.inf}),
]


def logits(rows=1, size=300):
    return (np.random.default_rng(1).standard_normal((rows, size)) * 3).astype(np.float32)


@pytest.mark.parametrize("sampling", SAMPLINGS, ids=str)
def test_the_distribution_drawn_from_is_the_one_spelled_out(sampling):
    z = logits(rows=3)
    found = processed(torch.from_numpy(z), sampling, dict(sampling.logit_bias)).log_softmax(1)
    for row in range(3):
        expected = processed_logits(z[row].tolist(), sampling, set())
        np.testing.assert_allclose(found[row], expected, atol=1e-9)


@pytest.mark.parametrize("sampling", SAMPLINGS, ids=str)
def test_a_uniform_number_draws_what_it_draws_in_the_embedded_engine(sampling):
    z, grid = logits(rows=500), (np.arange(500) + 0.5) / 500
    rule = Rule(
        temperature=1.0 if sampling.temperature is None else sampling.temperature,
        top_k=sampling.top_k or 0,
        top_p=sampling.top_p or 1.0,
        min_p=sampling.min_p or 0.0,
        bias=tuple(sampling.logit_bias.items()),
    )
    fast = [d.token for d in Sampler(300).draw(z, rule, grid)]
    plain = draw(processed(torch.from_numpy(z), sampling, dict(sampling.logit_bias)), sampling, grid.tolist())
    # Single precision there and double precision here: a number that falls on an edge may go either way.
    assert np.mean(np.array(fast) == np.array(plain)) > 0.99


def test_nothing_left_is_said_and_not_drawn():
    for sampling in (Sampling(), Sampling(temperature=0.0), Sampling(top_p=0.5), Sampling(top_k=3)):
        z = processed(torch.full((2, 9), -math.inf), sampling, {})
        assert draw(z, sampling, [0.0, 0.9]) == [NOTHING, NOTHING]


def test_the_last_token_with_probability_is_the_last_that_can_be_drawn():
    z = processed(torch.zeros(1, 9), Sampling(), {8: -math.inf, 0: -math.inf})
    assert draw(z, Sampling(), [0.0]) == [1]
    assert draw(z, Sampling(), [1.0]) == [7]


def test_of_equals_the_lowest_id_is_likeliest():
    (found,) = signals(torch.zeros(1, 9), [4], 3)
    assert [i for i, _ in found.top] == [0, 1, 2]
    assert draw(torch.zeros(1, 9), Sampling(temperature=0.0), [0.5]) == [0]


def test_byte_level_pieces_spell_any_text():
    words = Tokens(tiny.tokenizer(), 400)
    text = "naïve é 漢字 \n\t<|im_end|> fox"
    assert b"".join(map(words.piece, words.tokenize(text, special=False))).decode() == text
    assert words.control["<|im_end|>"] in words.tokenize(text, special=True)
    assert words.control["<|im_end|>"] not in words.tokenize(text, special=False)
    assert words.piece(399) == b""


def test_pieces_with_byte_fallback_spell_any_text():
    letters = ["<unk>", *(f"<0x{b:02X}>" for b in range(256)), "▁", *"abcdefox"]
    made = Tokenizer(models.BPE(vocab={t: i for i, t in enumerate(letters)}, merges=[], byte_fallback=True))
    made.normalizer = normalizers.Sequence([normalizers.Replace(" ", "▁")])
    made.decoder = decoders.Sequence([decoders.Replace("▁", " "), decoders.ByteFallback(), decoders.Fuse()])
    words = Tokens(PreTrainedTokenizerFast(tokenizer_object=made), len(letters))
    text = "a fox é 漢"
    assert b"".join(map(words.piece, words.tokenize(text, special=False))).decode() == text


def test_pieces_of_other_decoders_are_found_by_decoding():
    made = Tokenizer(models.WordPiece(vocab={"[UNK]": 0, "fox": 1, "##es": 2}, unk_token="[UNK]"))
    made.decoder = decoders.WordPiece()
    words = Tokens(PreTrainedTokenizerFast(tokenizer_object=made), 3)
    assert [words.piece(1), words.piece(2)] == [b" fox", b"es"]
