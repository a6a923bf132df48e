"""Components from files that belong to no package: `FILE.py:Class` stands wherever a name does.

A file is loaded again when its text has changed, so that a notebook sees what was just edited; the digest of its text
is part of what names a run. It knows neither kinds nor specs.
"""

from __future__ import annotations

import re
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from hashlib import blake2b
from pathlib import Path
from types import ModuleType

from thinkscale.errors import SpecError, nearest

_FILED = re.compile(r".+\.py:[A-Za-z_]\w*")


@dataclass(frozen=True, slots=True)
class _Loaded:
    """A file as it was when it was loaded."""

    path: Path
    digest: str
    module: ModuleType


_files: dict[Path, _Loaded] = {}
_modules: dict[str, _Loaded] = {}
"""Every version that was ever loaded, by the name of its module: its objects live on."""


def is_filed(name: str) -> bool:
    """Whether a name is that of a class in a file, `FILE.py:Class`."""
    return _FILED.fullmatch(name) is not None


def load(name: str) -> type:
    """The class that `FILE.py:Class` names, from the file as it is now.

    Raises:
        SpecError: there is no such file, it does not import, or it has no such class.
    """
    path, _, wanted = name.rpartition(":")
    found = vars(_module(path)).get(wanted)
    if isinstance(found, type):
        return found
    module = _module(path)
    known = [n for n, each in vars(module).items() if isinstance(each, type) and each.__module__ == module.__name__]
    raise SpecError(f"`{path}` has no class `{wanted}`{nearest(wanted, known) if known else ', nor any other'}")


def name_of(cls: type) -> str | None:
    """`FILE.py:Class` of a class that came from a file, relative to the current folder; `None` for all others."""
    loaded = _modules.get(cls.__module__)
    return f"{shown(loaded.path)}:{cls.__name__}" if loaded else None


def digest_of(cls: type) -> str | None:
    """The digest of the file that a class came from; `None` for classes of packages."""
    loaded = _modules.get(cls.__module__)
    return loaded.digest if loaded else None


def line_of(error: BaseException, path: str) -> int | None:
    """The last line of a file that an error came by."""
    line = error.lineno if isinstance(error, SyntaxError) and error.filename == path else None
    trail = error.__traceback__
    while trail is not None:
        if trail.tb_frame.f_code.co_filename == path:
            line = trail.tb_lineno
        trail = trail.tb_next
    return line


def shown(path: str | Path) -> str:
    """A path as it can be typed in the current folder."""
    try:
        return f"./{Path(path).relative_to(Path.cwd()).as_posix()}"
    except (ValueError, OSError):
        return Path(path).as_posix()


def told(error: BaseException) -> str:
    """An error in one line: its class and its words."""
    words = " ".join(str(error).split())
    return f"{type(error).__name__}: {words}" if words else type(error).__name__


def _module(path: str) -> ModuleType:
    try:
        at = Path(path).expanduser().resolve()
        source = at.read_bytes()
    except (OSError, RuntimeError, ValueError):
        raise SpecError(_missing(path)) from None
    digest = blake2b(source, digest_size=8).hexdigest()
    kept = _files.get(at)
    return kept.module if kept is not None and kept.digest == digest else _import(path, at, source, digest)


def _import(path: str, at: Path, source: bytes, digest: str) -> ModuleType:
    place = blake2b(str(at).encode(), digest_size=4).hexdigest()
    module = ModuleType(f"{re.sub(r'[^A-Za-z0-9_]', '_', at.stem)}_{place}_{digest}")
    module.__file__ = str(at)
    sys.modules[module.__name__] = module
    before = _files.get(at)
    _files[at] = _modules[module.__name__] = _Loaded(at, digest, module)
    try:
        with _neighbours(at.parent):
            exec(compile(source, str(at), "exec"), vars(module))
    except (Exception, SystemExit) as error:
        del sys.modules[module.__name__], _modules[module.__name__], _files[at]
        if before is not None:
            _files[at] = before
        line = line_of(error, str(at))
        where = f" in line {line}" if line else ""
        raise SpecError(f"`{path}` does not import: {told(error)}{where}") from error
    return module


@contextmanager
def _neighbours(folder: Path) -> Iterator[None]:
    """A file finds the modules beside it, after all others."""
    sys.path.append(str(folder))
    try:
        yield
    finally:
        sys.path.remove(str(folder))


def _missing(path: str) -> str:
    folder = Path(path).parent
    beside = sorted(p.name for p in folder.glob("*.py")) if folder.is_dir() else []
    close = nearest(Path(path).name, beside) if beside else ""
    hint = close if close.startswith(": did you mean") else f": paths start at `{Path.cwd()}`"
    return f"there is no file `{path}`{hint}"
