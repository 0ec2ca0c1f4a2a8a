import json

import pytest

from deployment.session_settings import SessionSettings
from records import BadInputError, UnknownNameError


@pytest.mark.parametrize(
    ("wrong", "error", "words"),
    [
        ({"optimisation": "most"}, UnknownNameError, "optimisation level 'most'"),
        ({"threads": 0}, BadInputError, "threads must be >= 1, got 0"),
        ({"provider": "gpu"}, UnknownNameError, "provider 'gpu'"),
        ({"provider_options": {"device_id": "0"}}, UnknownNameError, "option of provider cpu"),
    ],
)  # fmt: skip
def test_what_cannot_be_is_refused(wrong, error, words):
    with pytest.raises(error, match=words):
        SessionSettings(**wrong)


def test_threads_are_those_of_the_target_unless_they_are_said():
    assert SessionSettings().threads_of(4) == 4
    assert SessionSettings(threads=1).threads_of(4) == 1


@pytest.mark.parametrize(
    ("settings", "allowed", "alone"),
    [
        (SessionSettings(), 4, False),
        (SessionSettings(spinning=True), 4, True),
        (SessionSettings(spinning=True), 1, False),
        (SessionSettings(spinning=True, threads=1), 4, False),
        (SessionSettings(spinning=True, threads=2), 1, True),
    ],
)
def test_only_several_spinning_threads_disturb_others(settings, allowed, alone):
    assert settings.must_be_alone(allowed) is alone


def test_settings_are_json_ready():
    settings = SessionSettings(provider="cuda", provider_options={"device_id": "1"})
    back = json.loads(json.dumps(settings.to_json()))
    assert SessionSettings(**back) == settings
