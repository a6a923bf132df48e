"""Templates of the questions that methods put to models: plain files, one per use, with `{field}` placeholders.

`critic` is `critic.txt` here; `package.module:critic` is `critic.txt` beside that module, in a plug-in's own package or
next to a file (`f"{__name__}:critic"` in either). A folder of the user's, `use(folder)`, goes before ours: a template
there replaces the one of its name or adds a new one. A template without fields serves as a list of criteria.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass
from hashlib import blake2b
from importlib import import_module
from importlib.resources import files
from importlib.resources.abc import Traversable
from pathlib import Path
from string import Formatter

from thinkscale.errors import SettingsError, nearest
from thinkscale.types import Message

_NAME = re.compile(r"[\w-]+")


@dataclass(frozen=True, slots=True)
class _Template:
    """The text of a template, and where it stands for a person."""

    name: str
    text: str
    place: str = ""

    @property
    def fields(self) -> list[str]:
        """The fields that it names, in order.

        Raises:
            SettingsError: a brace is left open or stands alone.
        """
        try:
            parsed = [field for _, field, _, _ in Formatter().parse(self.text) if field is not None]
        except ValueError as error:
            raise SettingsError(f"{self} cannot be read: {error}; a brace of the text itself is `{{{{`") from None
        return [*dict.fromkeys(parsed)]

    def __str__(self) -> str:
        return f"the prompt template `{self.name}`{f' in `{self.place}`' if self.place else ''}"


_folder: ContextVar[tuple[str, dict[str, _Template]]] = ContextVar("prompts", default=("", {}))
"""The user's folder and its templates, as they were when it was named."""


def ask(template: str, **fields: object) -> tuple[Message, ...]:
    """A question of one message, made from a template: to a critic, a judge, an aggregator.

    Raises:
        SettingsError: as `render` does.
    """
    return (Message("user", render(template, **fields)),)


def render(template: str, **fields: object) -> str:
    """The text of a template with its fields filled in.

    Args:
        template: `name`, or `package.module:name`.
        **fields: what the template may say.

    Raises:
        SettingsError: there is no such template, it names a field that is not given, or is given one that it does not
            name; a template of the user's may leave out what the one that it replaces has.
    """
    ours = _shipped(template)
    chosen = _folder.get()[1].get(template, ours)
    if chosen is None:
        known = [*_names(Path(str(files(__name__)))), *_folder.get()[1]]
        raise SettingsError(f"there is no prompt template `{template}`{nearest(template, known)}")
    named = chosen.fields
    for field in named:
        if field not in fields:
            raise SettingsError(f"{chosen} has the field `{{{field}}}`, which is not given{_hint(field, [*fields])}")
    known = ours.fields if ours else named
    for field in fields:
        if field not in named and field not in known:
            raise SettingsError(f"{chosen} has no field `{{{field}}}`{_hint(field, known)}")
    try:
        return chosen.text.format(**fields)
    except (KeyError, IndexError, ValueError, TypeError) as error:
        raise SettingsError(f"{chosen} cannot be filled in: {error}") from None


def use(folder: str | Path) -> None:
    """Put a folder of templates before ours, in this context and those that follow from it; an empty name puts none.

    Raises:
        SettingsError: it is no folder, a template in it cannot be read, or one that replaces ours names a field that
            ours does not have.
    """
    _folder.set((str(folder), _read(Path(folder)) if folder else {}))


@contextmanager
def using(folder: str | Path) -> Iterator[None]:
    """The same for as long as the context lasts; an empty name leaves everything as it is."""
    before = _folder.get()
    try:
        if folder:
            use(folder)
        yield
    finally:
        _folder.set(before)


def digest() -> str:
    """The digest of the user's templates, which is part of what names a run; empty where there are none."""
    texts = sorted((t.name, t.text) for t in _folder.get()[1].values())
    return blake2b(repr(texts).encode(), digest_size=8).hexdigest() if texts else ""


def _read(folder: Path) -> dict[str, _Template]:
    if not folder.is_dir():
        raise SettingsError(f"there is no folder `{folder}` of prompts: name one that has files such as `p_true.txt`")
    found = {}
    for name in _names(folder):
        template = found[name] = _Template(name, _text(folder / f"{name}.txt"), str(folder))
        ours = _shipped(name)
        for field in template.fields:
            if ours and field not in ours.fields:
                raise SettingsError(
                    f"{template} has the field `{{{field}}}`, which is not given{_hint(field, ours.fields)}"
                )
    return found


def _shipped(template: str) -> _Template | None:
    """The template of a name as a package has it; `None` where it is one of ours and there is none."""
    module, _, name = template.rpartition(":")
    if not _NAME.fullmatch(name):
        raise SettingsError(f"`{template}` names no prompt template: write `name`, or `package.module:name`")
    beside = _beside(module, template) if module else files(__name__)
    file = beside / f"{name}.txt"
    if file.is_file():
        return _Template(template, _text(file))
    if not module:
        return None
    known = _names(beside)
    tail = nearest(name, known) if known else f": put `{name}.txt` beside that module"
    raise SettingsError(f"there is no prompt template `{template}`{tail}")


def _beside(module: str, template: str) -> Traversable:
    try:
        found = import_module(module)
    except (ImportError, TypeError, ValueError) as error:
        raise SettingsError(f"there is no prompt template `{template}`: `{module}` does not import: {error}") from None
    return files(found.__package__) if found.__package__ else Path(str(found.__file__)).parent


def _names(folder: Traversable) -> list[str]:
    stems = (each.name.removesuffix(".txt") for each in folder.iterdir() if each.name.endswith(".txt"))
    return sorted(stem for stem in stems if _NAME.fullmatch(stem))


def _text(file: Traversable) -> str:
    try:
        return file.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise SettingsError(f"the prompt template `{file}` cannot be read: {error}") from None


def _hint(field: str, known: list[str]) -> str:
    return nearest(field, known) if known else ": it has none"
