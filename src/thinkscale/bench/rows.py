"""A file of JSON lines that is read row by row, as often as one likes, without being held in memory."""

from __future__ import annotations

import gzip
import json
import shutil
import zlib
from collections.abc import Iterator, Mapping
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryFile
from types import TracebackType
from typing import BinaryIO

from thinkscale.errors import ModelError

_PIECE = 1 << 20
"""Bytes that are unpacked at once."""


@dataclass(frozen=True, slots=True)
class Row:
    """One line."""

    number: int
    """From 1, blank lines counted."""
    at: int
    """Bytes before it."""
    line: bytes
    """As it stands in the file."""
    fields: Mapping[str, object]


class Rows:
    """The objects of a file of JSON lines; one that is gzipped is unpacked to a temporary file first.

    Raises:
        ModelError: the file cannot be read, or a line of it is not a JSON object.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self._stack = ExitStack()
        try:
            self._file = self._opened(path)
        except (OSError, EOFError, zlib.error) as error:
            self._stack.close()
            raise ModelError(f"the recording `{path}` cannot be read: {error}") from None

    def __enter__(self) -> Rows:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._stack.close()

    def __iter__(self) -> Iterator[Row]:
        """All rows in order; another look at the file in between is allowed."""
        at = number = 0
        while line := self._line(at):
            number += 1
            if line.strip():
                yield self._row(line, number, at)
            at += len(line)

    def look_up(self, number: int, at: int) -> Row:
        """A row that was seen before."""
        return self._row(self._line(at), number, at)

    def _opened(self, path: Path) -> BinaryIO:
        file = self._stack.enter_context(path.open("rb"))
        packed = file.read(2) == b"\x1f\x8b"
        file.seek(0)
        if not packed:
            return file
        unpacked: BinaryIO = self._stack.enter_context(TemporaryFile())  # noqa: SIM115 - the stack closes it
        with gzip.open(file) as read:
            shutil.copyfileobj(read, unpacked, _PIECE)
        unpacked.seek(0)
        return unpacked

    def _line(self, at: int) -> bytes:
        try:
            if self._file.tell() != at:
                self._file.seek(at)
            return self._file.readline()
        except OSError as error:
            raise ModelError(f"the recording `{self.path}` cannot be read: {error}") from None

    def _row(self, line: bytes, number: int, at: int) -> Row:
        try:
            fields = json.loads(line)  # which, unlike faster ones, takes the NaN of numbers that nobody reads
            if b"\\ud" in line or b"\\uD" in line:
                fields = _spelled(fields)
        except (ValueError, RecursionError) as error:
            raise ModelError(f"line {number} of the recording `{self.path}` is not JSON: {error}") from None
        if not isinstance(fields, dict):
            raise ModelError(
                f"line {number} of the recording `{self.path}` is not a JSON object: give one object per line"
            )
        return Row(number, at, line, fields)


def _spelled(value: object) -> object:
    """The same without halves of surrogate pairs, which no file can hold."""
    return json.loads(json.dumps(value, ensure_ascii=False).encode("utf-8", "replace"))
