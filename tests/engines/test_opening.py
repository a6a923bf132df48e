"""What a user calls a model becomes an engine, or an error that repeats no key."""

import pytest

from thinkscale.engines.opening import engines_for
from thinkscale.errors import SettingsError, SpecError

WRONG = [
    (
        'http(base_url="http://127.0.0.1:1/v1", key="top-secret"',
        SpecError,
        r"`http\(…\)` at character 56",
    ),
    ('judge=http(base_url="http://127.0.0.1:1", key="top-secret"x)', SpecError, r"`http\(…\)` at character"),
    ('http("http://127.0.0.1:1", "top-secret")', SpecError, "expected `field=value`"),
    ('http("top-secret")', SpecError, "expected `field=value`"),
    ('http(base_url="http://127.0.0.1:1/v1", kee="top-secret")', SettingsError, "did you mean `key`"),
    ("ftp://me:top-secret@host/v1", SettingsError, "`ftp://host/v1` is no address"),
    ("https//me:top-secret@host/v1", SettingsError, "is no address"),
    ("http:/me:top-secret@host/v1", SettingsError, "is no address"),
    ('http(base_url="me:top-secret@host/v1")', SettingsError, "`host/v1` is no address"),
]


@pytest.mark.parametrize(("model", "error", "said"), WRONG)
def test_a_model_that_is_written_wrong_is_refused_without_its_key(model, error, said):
    with pytest.raises(error, match=said) as refusal:
        engines_for(model)
    assert "secret" not in str(refusal.value)


def test_an_argument_of_the_wrong_type_is_an_error_of_settings():
    with pytest.raises(SettingsError, match="`http` cannot be made"):
        engines_for('http(base_url="http://127.0.0.1:1/v1", key=7)')
