"""The same weights in another layout: 4-bit blocks unpacked into 8-bit ones, which batches multiply faster.

The runtime has kernels that multiply many rows at once for Q8_0 and not for Q4_1, and drawing many samples of one
prompt is what this package does. An 8-bit block holds a 4-bit one to within 0.5 % of its largest weight, a small part
of what quantising to 4 bits had rounded away. It knows nothing of models or runtimes.
"""

from __future__ import annotations

import mmap
import struct
from dataclasses import replace
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from thinkscale.engines.gguf import Reader, Tensor

Q4_1, Q8_0 = 3, 8
_ALIGNMENT = 32
_AT_ONCE = 1 << 16
"""Blocks converted at a time, which keeps the working memory at some ten megabytes."""


def unpack_to_q8(source: Path, target: Path) -> None:
    """Copy a GGUF file with every Q4_1 tensor turned into Q8_0; all else stays as it is."""
    with source.open("rb") as file, mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as view:
        reader = Reader(view)
        metadata = reader.header()
        head = reader.at
        tensors = reader.tensors()
        data = reader.data(metadata)
        with target.open("wb") as out:
            out.write(view[:head])
            out.write(_table(tensors))
            for tensor in tensors:
                out.write(bytes(-out.tell() % _ALIGNMENT))
                start = data + tensor.offset
                if tensor.kind == Q4_1:
                    for at in range(0, tensor.size, 20 * _AT_ONCE):
                        end = min(tensor.size, at + 20 * _AT_ONCE)
                        out.write(q8_blocks(np.frombuffer(view[start + at : start + end], np.uint8)).tobytes())
                else:
                    out.write(view[start : start + tensor.size])


def q8_blocks(q4: NDArray[np.uint8]) -> NDArray[np.uint8]:
    """Blocks of 32 weights, 20 bytes each (scale, minimum, nibbles), as blocks of 34 (scale, signed bytes)."""
    blocks = q4.reshape(-1, 20)
    scale, least = (blocks[:, a:b].copy().view(np.float16).astype(np.float32) for a, b in ((0, 2), (2, 4)))
    nibbles = np.concatenate([blocks[:, 4:] & 15, blocks[:, 4:] >> 4], axis=1)
    weights = nibbles.astype(np.float32) * scale + least
    unit = np.abs(weights).max(axis=1, keepdims=True) / np.float32(127)
    whole = np.rint(np.divide(weights, unit, out=np.zeros_like(weights), where=unit > 0)).astype(np.int8)
    return np.concatenate([unit.astype(np.float16).view(np.uint8), whole.view(np.uint8)], axis=1)


def _table(tensors: list[Tensor]) -> bytes:
    """The table of tensors of the copy, padded to where its data starts."""
    table, offset = bytearray(), 0
    for tensor in tensors:
        copy = replace(tensor, kind=Q8_0 if tensor.kind == Q4_1 else tensor.kind, offset=offset)
        table += struct.pack("<Q", len(copy.name)) + copy.name + struct.pack("<I", len(copy.shape))
        table += struct.pack(f"<{len(copy.shape)}Q", *copy.shape) + struct.pack("<IQ", copy.kind, copy.offset)
        offset += -(-copy.size // _ALIGNMENT) * _ALIGNMENT
    return bytes(table)
