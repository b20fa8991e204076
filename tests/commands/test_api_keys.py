import pytest

from face_lightning.commands.api_keys import read_api_key
from face_lightning.errors import ConfigurationError


def test_a_key_is_read_if_a_variable_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MY_KEY", "k-1")
    assert read_api_key("MY_KEY") == "k-1"
    assert read_api_key(None) is None


@pytest.mark.parametrize(
    ("key", "message"),
    [("", "in the variable MY_KEY, got none; set it"), ("k\n", "printable ASCII"), ("schlüssel", "printable ASCII")],
)
def test_keys_that_cannot_be_sent_are_rejected_without_quoting_them(
    monkeypatch: pytest.MonkeyPatch, key: str, message: str
) -> None:
    monkeypatch.setenv("MY_KEY", key)
    with pytest.raises(ConfigurationError, match=f"api_key_env: expected a key .*{message}") as caught:
        read_api_key("MY_KEY")
    assert not key or key not in str(caught.value)
