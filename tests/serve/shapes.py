"""OpenAI's schemas as JSON Schema, and the events of a stream read back."""

import gzip
import json
from functools import cache
from pathlib import Path

from jsonschema import Draft202012Validator

SPEC = Path(__file__).parents[1] / "data" / "specs" / "openai_chat_completions_subset.openapi.json.gz"


def _readable(schema):
    """The schema with `nullable` in words that JSON Schema knows."""
    if isinstance(schema, list):
        return [_readable(each) for each in schema]
    if not isinstance(schema, dict):
        return schema
    made = {name: _readable(each) for name, each in schema.items() if name != "nullable"}
    return {"anyOf": [made, {"type": "null"}]} if schema.get("nullable") is True else made


@cache
def validator(name):
    components = _readable(json.loads(gzip.decompress(SPEC.read_bytes()))["components"])
    # A chunk of a completion has no reason to end yet, which the schema forgets and its own example has.
    reason = components["schemas"]["CreateCompletionResponse"]["properties"]["choices"]["items"]["properties"]
    reason["finish_reason"] = {"anyOf": [reason["finish_reason"], {"type": "null"}]}
    return Draft202012Validator({"$ref": f"#/components/schemas/{name}", "components": components})


def valid(told, name):
    """The object, if it has the shape of that name."""
    validator(name).validate(told)
    return told


def frames(stream):
    """The JSON of every event of a stream, and whether it ended with the last words."""
    raw = b"".join(stream).decode()
    assert raw.endswith("\n\n")
    events = [part for part in raw.split("\n\n") if part]
    data = [dict(line.split(": ", 1) for line in event.split("\n")) for event in events]
    done = data[-1]["data"] == "[DONE]"
    told = [json.loads(event["data"]) for event in (data[:-1] if done else data)]
    assert all(event.get("event", it.get("type")) == it.get("type") for event, it in zip(data, told, strict=False))
    return told, done
