"""Logs: one line per event, and no secret in any of them, whoever says it."""

import json
import logging

import pytest
from hypothesis import given
from hypothesis import strategies as st

from clocks import busy
from thinkscale.serve.keys import Keyring
from thinkscale.serve.logs import STRUCK, Access, JsonFormatter, PlainFormatter, access, configure, event, redacted
from thinkscale.serve.records import Api

ALPHABET = "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789-_"
SECRET = st.text(ALPHABET, min_size=43, max_size=43)
TOKEN = "sk-ts-0a1b2c3d-" + "Zx9_-" * 8 + "abc"


@pytest.fixture
def lines(capsys):
    """What was logged since the last call, and the state of all loggers put back afterwards."""
    loggers = [logging.getLogger(name) for name in (None, "thinkscale", "uvicorn")]
    before = [(log, log.level, [*log.handlers]) for log in loggers]

    def said():
        return capsys.readouterr().err.splitlines()

    yield said
    for log, level, handlers in before:
        log.setLevel(level)
        log.handlers[:] = handlers


def test_a_request_is_one_line_of_json_with_what_was_spent(lines):
    configure("info")
    entry = Access(
        request="r1", key="0a1b2c3d", api=Api.chat, method="self-consistency", status=200, tokens=42, seconds=0.5
    )
    access(entry)
    [line] = lines()
    said = json.loads(line)
    assert said.pop("time").endswith("+00:00")
    assert said == {
        "level": "info", "logger": "thinkscale.access", "message": "request", "request": "r1", "key": "0a1b2c3d",
        "api": "chat", "method": "self-consistency", "status": 200, "tokens": 42, "seconds": 0.5, "joined": False,
    }  # fmt: skip


SAID = [
    f"the client sent {TOKEN}",
    f"Authorization: Bearer {TOKEN}",
    f"headers: {{'authorization': 'Bearer {TOKEN}'}}",
    f"api_key={TOKEN}, url=http://h/v1?key={TOKEN}&x=1",
    f"http://user:{TOKEN}@host/v1",
    f"({TOKEN})\n{TOKEN}",
    f"x{TOKEN}",
]


@pytest.mark.parametrize("plain", [False, True], ids=["json", "plain"])
@pytest.mark.parametrize("said", SAID)
def test_a_key_is_struck_out_wherever_it_stands(lines, said, plain):
    configure("debug", json=not plain)
    log = logging.getLogger("thinkscale.anything")
    log.info("said: %s", said)
    event(log, "odd", headers={"x": said, said: 1}, parts=[said, (said,)], api_key="plain", thing=Exception(said))
    try:
        raise ValueError(said)
    except ValueError:
        log.exception("failed")
    logging.getLogger("some.library").warning(said)
    found = lines()
    assert len(found) == 4
    assert TOKEN not in "".join(found)
    assert TOKEN[-20:] not in "".join(found)


@given(SECRET)
def test_no_key_of_ours_survives_whatever_its_secret_is(secret):
    token = f"sk-ts-0a1b2c3d-{secret}"
    assert redacted(f"key {token}.") == f"key {STRUCK}."


def test_a_real_key_is_struck_out_and_its_id_is_not(tmp_path):
    ring = Keyring(tmp_path / "runs.db")
    key, token = ring.add("ada")
    ring.close()
    assert redacted(f"{key.id} {token}") == f"{key.id} {STRUCK}"


@pytest.mark.parametrize(
    "text",
    [
        "sk-proj-abcdefghijkl",
        "hf_abcdefghijklmnop",
        "Bearer abc.def",
        "Basic dXNlcjpwYXNz",
        "eyJhbGciOi.eyJzdWIiOi.c2lnbmF0dXJl",
        "password=hunter2",
        'x-api-key: "hunter 2"',
        "cookie: session=1234",
        "OPENAI_API_KEY=abc",
        "access_token: abc",
    ],
)
def test_secrets_of_others_are_struck_out_too(text):
    assert STRUCK in redacted(f"it said {text}, then left")
    for part in ("hunter", "abc", "1234", "eyJ", "dXN"):
        assert part not in redacted(text)


@pytest.mark.parametrize(
    "text",
    [
        "12 tokens generated in 0.4 s",
        "tokens: 12, max_tokens: 5",
        "the method self-consistency(n=16) with the key `0a1b2c3d`",
        "http://127.0.0.1:8000/v1/chat/completions?a=1",
        "task-force and risk-averse words keep their letters",
    ],
)
def test_what_is_no_secret_stays(text):
    assert redacted(text) == text


@pytest.mark.parametrize("plain", [False, True], ids=["json", "plain"])
def test_nobody_can_forge_a_line(lines, plain):
    configure(json=not plain)
    logging.getLogger("thinkscale").warning("one\ntwo\r\x1b[2J\u2028three")
    assert len(lines()) == 1


def test_libraries_are_heard_from_warnings_on(lines):
    configure("debug")
    logging.getLogger("aiohttp").debug("body of a request")
    logging.getLogger("aiohttp").warning("trouble")
    logging.getLogger("thinkscale.serve").debug("detail")
    assert [json.loads(line)["message"] for line in lines()] == ["trouble", "detail"]


def test_configuring_again_replaces_and_does_not_double(lines):
    configure(json=False)
    configure()
    logging.getLogger("thinkscale").warning("once")
    [line] = lines()
    assert json.loads(line)["message"] == "once"


def test_records_of_others_are_formatted_as_well():
    record = logging.LogRecord("uvicorn.error", logging.INFO, "f", 1, "listening on %s", ("x",), None)
    assert json.loads(JsonFormatter().format(record))["message"] == "listening on x"
    assert PlainFormatter().format(record).endswith("info uvicorn.error listening on x")


@pytest.mark.parametrize("piece", ["a", "ey-", "token=", "token ", "sk-", "://", "bearer ", "a_", "key=", '"', "ey-a."])
def test_no_text_takes_long_to_look_through(piece):
    assert busy(lambda: redacted(piece * 20_000), below=1.0) < 1
