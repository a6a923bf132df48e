"""What a GGUF file says of itself, and whether all of it is there. It loads nothing and needs no runtime.

llama.cpp reports a damaged file in a log line, or reads past its end through the memory map; here the extents of all
tensors are compared with the size of the file first, so that a half-finished download is named as one.
"""

from __future__ import annotations

import hashlib
import math
import mmap
import struct
from dataclasses import dataclass
from pathlib import Path

from thinkscale.errors import ModelError

Value = str | int | float | bool

_STRING, _ARRAY = 8, 9
_SCALARS = {0: "B", 1: "b", 2: "H", 3: "h", 4: "I", 5: "i", 6: "f", 7: "?", 10: "Q", 11: "q", 12: "d"}
# Tensor type -> (elements in a block, bytes of a block). A type that is not listed is left to llama.cpp to judge.
_BLOCKS = {
    **{0: (1, 4), 1: (1, 2), 30: (1, 2), 24: (1, 1), 25: (1, 2), 26: (1, 4), 27: (1, 8), 28: (1, 8)},
    **{2: (32, 18), 3: (32, 20), 6: (32, 22), 7: (32, 24), 8: (32, 34), 9: (32, 36), 20: (32, 18), 39: (32, 17)},
    **{10: (256, 84), 11: (256, 110), 12: (256, 144), 13: (256, 176), 14: (256, 210), 15: (256, 292)},
    **{16: (256, 66), 17: (256, 74), 18: (256, 98), 19: (256, 50), 21: (256, 110), 22: (256, 82), 23: (256, 136)},
    **{29: (256, 56), 34: (256, 54), 35: (256, 66)},
}
_MIB = 1 << 20


@dataclass(frozen=True, slots=True)
class Gguf:
    """The header of a complete model file."""

    path: Path
    metadata: dict[str, Value]
    """Scalar and string entries; arrays are left out."""
    identity: str
    """`<file name>@<hash of the size and of the first and last MiB>`."""

    @property
    def architecture(self) -> str:
        """The model family as llama.cpp names it."""
        return str(self.metadata.get("general.architecture", ""))

    @property
    def name(self) -> str:
        """How a person would name the model: the file, which tells the quantisation too, unlike the name it carries."""
        return self.path.stem

    @property
    def context(self) -> int:
        """Tokens of context the model was trained on; 0 when the file does not say."""
        found = self.metadata.get(f"{self.architecture}.context_length", 0)
        return int(found)

    @property
    def template(self) -> str:
        """The Jinja chat template, or the empty string."""
        return str(self.metadata.get("tokenizer.chat_template", ""))


@dataclass(frozen=True, slots=True)
class Tensor:
    """One entry of the table of tensors."""

    name: bytes
    shape: tuple[int, ...]
    kind: int
    """Number of the tensor type, as GGUF assigns them."""
    offset: int
    """Bytes from the start of the data."""

    @property
    def size(self) -> int:
        """Bytes of the data; 0 for a type that is not known here."""
        block, width = _BLOCKS.get(self.kind, (1, 0))
        return math.prod(self.shape) // block * width


def read_gguf(path: Path) -> Gguf:
    """Read the header and check that the file holds every tensor it announces.

    Raises:
        ModelError: when the file is missing, unreadable, not a GGUF, or shorter than its header says.
    """
    advice = "pull it again (`thinkscale pull`) or pass another file (`--model path.gguf`)"
    try:
        if path.is_dir():
            raise ModelError(f"`{path}` is a folder, not a model: name the .gguf file inside it")
        size = path.stat().st_size
        with path.open("rb") as file:
            if file.read(4) != b"GGUF":
                raise ModelError(f"`{path}` is not a GGUF file (it does not start with `GGUF`): {advice}")
            identity = f"{path.name}@{_digest(path, size)}"
            with mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as view:
                reader = Reader(view)
                metadata = reader.header()
                needed = max((t.offset + t.size for t in reader.tensors()), default=0) + reader.data(metadata)
    except FileNotFoundError as error:
        raise ModelError(f"no model file at `{path}`: {advice}") from error
    except OSError as error:
        raise ModelError(f"cannot read the model file `{path}` ({error.strerror}): check its permissions") from error
    except (struct.error, IndexError, UnicodeDecodeError, OverflowError) as error:
        raise ModelError(f"the model file `{path}` is cut short or damaged inside its header: {advice}") from error
    if needed > size:
        raise ModelError(f"the model file `{path}` is cut short: {size} bytes of at least {needed}; {advice}")
    return Gguf(path, metadata, identity)


def _digest(path: Path, size: int) -> str:
    with path.open("rb") as file:
        digest = hashlib.sha256(str(size).encode() + file.read(_MIB))
        file.seek(max(0, size - _MIB))
        digest.update(file.read(_MIB))
    return digest.hexdigest()[:16]


class Reader:
    """A cursor over the header; running off the end raises `struct.error` or `IndexError`."""

    def __init__(self, view: mmap.mmap) -> None:
        self._view, self._at = view, 4

    @property
    def at(self) -> int:
        """Bytes read so far."""
        return self._at

    def _take(self, code: str) -> int | float | bool:
        value: int | float | bool
        (value,) = struct.unpack_from("<" + code, self._view, self._at)
        self._at += struct.calcsize("<" + code)
        return value

    def _count(self, code: str = "Q") -> int:
        return int(self._take(code))

    def _bytes(self) -> bytes:
        n = self._count()
        self._skip(n)
        return self._view[self._at - n : self._at]

    def _skip(self, n: int) -> None:
        self._at += n
        if self._at > len(self._view):
            raise IndexError

    def _value(self, kind: int) -> Value | None:
        if kind == _STRING:
            return self._bytes().decode("utf-8", "replace")
        if kind != _ARRAY:
            return self._take(_code(kind))
        element, n = self._count("I"), self._count()
        if element in _SCALARS:
            self._skip(n * struct.calcsize("<" + _SCALARS[element]))
            return None
        for _ in range(n):
            if element == _STRING:
                self._skip(self._count())
            else:
                self._value(element)
        return None

    def header(self) -> dict[str, Value]:
        """The metadata."""
        version = self._count("I")
        if version not in (2, 3):
            raise ModelError(f"GGUF version {version} is not supported (2 and 3 are): convert the model again")
        self._tensors, entries = self._count(), self._count()
        found: dict[str, Value] = {}
        for _ in range(entries):
            key = self._bytes().decode("utf-8", "replace")
            value = self._value(self._count("I"))
            if value is not None:
                found[key] = value
        return found

    def tensors(self) -> list[Tensor]:
        """The table of tensors, which follows the metadata."""
        found = []
        for _ in range(self._tensors):
            name = self._bytes()
            shape = tuple(self._count() for _ in range(self._count("I")))
            found.append(Tensor(name, shape, self._count("I"), self._count()))
        return found

    def data(self, metadata: dict[str, Value]) -> int:
        """Where the data starts, once the table was read."""
        alignment = int(metadata.get("general.alignment", 32)) or 32
        return -(-self._at // alignment) * alignment


def _code(kind: int) -> str:
    if kind not in _SCALARS:
        raise IndexError(kind)
    return _SCALARS[kind]
