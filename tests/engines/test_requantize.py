"""Unpacking 4-bit weights loses next to nothing, and leaves everything else as it was."""

import struct

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from thinkscale.engines.gguf import read_gguf
from thinkscale.engines.requantize import q8_blocks, unpack_to_q8


def q4_weights(blocks):
    """The slow obvious reading of Q4_1: weight = nibble · scale + minimum, low nibbles first."""
    rows = []
    for block in blocks.reshape(-1, 20):
        scale, least = np.frombuffer(block[:4].tobytes(), np.float16).astype(float)
        rows.append([(b & 15) * scale + least for b in block[4:]] + [(b >> 4) * scale + least for b in block[4:]])
    return np.array(rows)


def q8_weights(blocks):
    """The slow obvious reading of Q8_0: weight = byte · scale."""
    rows = []
    for block in blocks.reshape(-1, 34):
        (scale,) = np.frombuffer(block[:2].tobytes(), np.float16).astype(float)
        rows.append(np.frombuffer(block[2:].tobytes(), np.int8) * scale)
    return np.array(rows)


def q4_block(scale, least, nibbles):
    packed = [low | high << 4 for low, high in zip(nibbles[:16], nibbles[16:], strict=True)]
    return np.frombuffer(np.array([scale, least], np.float16).tobytes() + bytes(packed), np.uint8)


@given(
    st.floats(0, 4, width=16),
    st.floats(-8, 8, width=16),
    st.lists(st.integers(0, 15), min_size=32, max_size=32),
)
def test_a_block_is_kept_to_half_a_percent_of_its_largest_weight(scale, least, nibbles):
    block = q4_block(scale, least, nibbles)
    before, after = q4_weights(block), q8_weights(q8_blocks(block))
    # Below this the scale itself is no longer a normal half-precision number.
    largest = max(np.abs(before).max(), 127 * 6.2e-5)
    assert np.abs(before - after).max() <= 0.005 * largest


def gguf(tensors, *, version=3):
    """A file with two metadata entries and these (name, kind, elements, bytes)."""
    text = lambda s: struct.pack("<Q", len(s)) + s  # noqa: E731
    head = b"GGUF" + struct.pack("<IQQ", version, len(tensors), 2)
    head += text(b"general.architecture") + struct.pack("<I", 8) + text(b"llama")
    head += text(b"llama.context_length") + struct.pack("<II", 4, 2048)
    body = b""
    for name, kind, elements, data in tensors:
        head += text(name) + struct.pack("<IQIQ", 1, elements, kind, len(body))
        body += data + bytes(-len(data) % 32)
    return head + bytes(-len(head) % 32) + body


@pytest.mark.parametrize("order", [0, 1])
def test_only_four_bit_tensors_change(tmp_path, order):
    floats = np.arange(5, dtype=np.float32).tobytes()
    blocks = np.concatenate([q4_block(0.5, -1, [i % 16] * 32) for i in range(3)])
    tensors = [(b"norm", 0, 5, floats), (b"weight", 3, 96, blocks.tobytes())]
    source, target = tmp_path / "a.gguf", tmp_path / "b.gguf"
    source.write_bytes(gguf(tensors[::-1] if order else tensors))
    unpack_to_q8(source, target)
    wanted = [(b"norm", 0, 5, floats), (b"weight", 8, 96, q8_blocks(blocks).tobytes())]
    body = target.read_bytes()
    assert body.rstrip(b"\0") == gguf(wanted[::-1] if order else wanted).rstrip(b"\0")
    assert read_gguf(target).context == 2048
