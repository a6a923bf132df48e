"""Settings: a file, the environment and flags, merged into one frozen record. Later sources win.

File: `thinkscale.toml`, or the table `[tool.thinkscale]` of `pyproject.toml`, in the current folder. Environment:
`THINKSCALE_MODEL`, `THINKSCALE_METHOD` and so on, one variable per field. Profiles are tables of a file alone.
"""

from __future__ import annotations

import os
import tomllib
from collections.abc import Mapping
from dataclasses import dataclass, field, fields
from pathlib import Path
from typing import Annotated

from platformdirs import user_data_path
from pydantic import Field, TypeAdapter, ValidationError

from thinkscale.errors import SettingsError
from thinkscale.registry import nearest


def home() -> Path:
    """Folder of weights and runs: `THINKSCALE_HOME`, or the user's data folder."""
    return Path(os.environ.get("THINKSCALE_HOME") or user_data_path("thinkscale")).expanduser()


@dataclass(frozen=True, slots=True, kw_only=True)
class Profile:
    """A way of answering that has a name: the table `[profiles.NAME]`, which the gateway lists as a model."""

    method: str = "single"
    """Spec string of the method; `single` is the model as it is."""
    model: str = ""
    """Which of the models that are served; the first when empty."""
    budget: str = ""
    """Such as `tokens=2000,seconds=30`, for one request at medium effort; empty means no limit."""
    max_tokens: Annotated[int | None, Field(ge=1)] = None
    """Cap of one call where a request names none."""
    temperature: Annotated[float | None, Field(ge=0)] = None
    """In place of the method's own, where a request names none."""
    top_p: Annotated[float | None, Field(ge=0, le=1)] = None
    """The same."""
    description: str = ""
    """For people."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Settings:
    """Everything a user may set once instead of saying it with every question."""

    model: str = "embedded"
    """`embedded`, a GGUF file, a hub repository, the address of a server, an engine, or several with roles."""
    base_url: str = ""
    """Address of an OpenAI-compatible server, such as `http://127.0.0.1:8000/v1`; `model` is then a name there."""
    method: str = "self-consistency"
    """Spec string of the method."""
    budget: str = ""
    """Such as `tokens=2000,seconds=30`; empty means no limit."""
    seed: int = 0
    max_tokens: Annotated[int, Field(ge=1)] = 512
    """Cap of one call."""
    concurrency: Annotated[int | None, Field(ge=1)] = None
    """Draws in flight at once; `None` leaves it to the engine, 1 is serial."""
    store: str = ""
    """File of the run store; empty means `runs.db` in the data folder, `none` keeps no record."""
    prompts: str = ""
    """Folder of prompt templates that go before ours; empty means none."""
    profiles: Mapping[str, Profile] = field(default_factory=dict)
    """By name."""

    @property
    def store_path(self) -> Path | None:
        """Where runs are kept; `None` when they are not."""
        if self.store == "none":
            return None
        return Path(self.store) if self.store else home() / "runs.db"


_settings = TypeAdapter(Settings)


def load(flags: Mapping[str, object] | None = None, folder: Path | None = None) -> Settings:
    """Merge file, environment and flags; a flag that is `None` was not given.

    Raises:
        SettingsError: a file that does not parse, an unknown name, or a value of the wrong type.
    """
    merged: dict[str, object] = {}
    for source, values in (
        _file(folder or Path.cwd()),
        ("the environment", _environment()),
        ("the flags", {k: v for k, v in (flags or {}).items() if v is not None}),
    ):
        _known(source, values, Settings)
        profiles = values.get("profiles")
        for name, profile in profiles.items() if isinstance(profiles, dict) else ():
            _known(source, profile if isinstance(profile, dict) else {}, Profile, f"profiles.{name}.")
        try:
            _settings.validate_python({**merged, **values})
        except ValidationError as error:
            first = error.errors()[0]
            wrong = ".".join(map(str, first["loc"]))
            raise SettingsError(f"{source} sets `{wrong}` to `{first['input']}`: {first['msg'].lower()}") from None
        merged |= values
    return _settings.validate_python(merged)


def _known(source: str, values: Mapping[str, object], record: type[Settings | Profile], where: str = "") -> None:
    known = [f.name for f in fields(record)]
    for name in values:
        if name not in known:
            raise SettingsError(f"{source} sets `{where}{name}`, which is no setting{nearest(name, known)}")


def _environment() -> dict[str, object]:
    names = (f.name for f in fields(Settings) if f.name != "profiles")
    known = ((name, os.environ.get(f"THINKSCALE_{name.upper()}")) for name in names)
    return {name: value for name, value in known if value is not None}


def _file(folder: Path) -> tuple[str, dict[str, object]]:
    for name, table in (("thinkscale.toml", ()), ("pyproject.toml", ("tool", "thinkscale"))):
        path = folder / name
        if not path.is_file():
            continue
        try:
            found: object = tomllib.loads(path.read_text(encoding="utf-8"))
        except (ValueError, OSError) as error:
            if name == "pyproject.toml":
                continue
            raise SettingsError(f"`{path}` cannot be read: {error}") from None
        for key in table:
            found = found.get(key, {}) if isinstance(found, dict) else {}
        if isinstance(found, dict) and found:
            return f"`{path}`", found
    return "no file", {}
