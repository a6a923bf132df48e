"""Templates of the questions that methods put to models: plain files, one per use, with `{field}` placeholders."""

from __future__ import annotations

from importlib.resources import files

from thinkscale.errors import SettingsError
from thinkscale.types import Message


def ask(template: str, **fields: object) -> tuple[Message, ...]:
    """A question of one message, made from `prompts/<template>.txt`: to a critic, a judge, an aggregator.

    Raises:
        SettingsError: there is no such template, or a field is missing.
    """
    return (Message("user", render(template, **fields)),)


def render(template: str, **fields: object) -> str:
    """The text of `prompts/<template>.txt` with its fields filled in.

    Raises:
        SettingsError: there is no such template, or a field is missing.
    """
    try:
        text = files(__name__).joinpath(f"{template}.txt").read_text(encoding="utf-8")
    except FileNotFoundError:
        raise SettingsError(f"there is no prompt template `{template}`") from None
    try:
        return text.format(**fields)
    except (KeyError, IndexError, ValueError) as missing:
        raise SettingsError(f"the prompt template `{template}` needs the field {missing}") from None
