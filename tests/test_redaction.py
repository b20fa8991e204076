import pytest

from face_lightning.redaction import is_secret_name, redact, secret_paths

SECRETS = [
    *(
        "token",
        "hf_token",
        "HF_TOKEN",
        "secret",
        "secret_key",
        "access_key",
        "private_key",
        "passwd",
        "pwd",
        "password",
    ),
    *(
        "x-api-key",
        "X-API-Key",
        "apiKey",
        "api_key",
        "credentials",
        "Authorization",
        "accessToken",
        "aws_secret_access_key",
    ),
]


@pytest.mark.parametrize("name", SECRETS)
def test_secrets_are_recognised_by_name_at_any_depth(name: str) -> None:
    assert is_secret_name(name)
    for value in ("hunter2", 42, ["hunter2"], ["", 7]):
        assert list(secret_paths({"a": [{"b": {name: value}}]})) == [f"a.b.{name}"]
    for value in (None, "", True, [], {}):
        assert not list(secret_paths({name: value}))


@pytest.mark.parametrize(
    "name", ["token_gradient", "num_tokens_kept", "monitor", "keys", "monkey", "key", "tokenizer", "compwd"]
)
def test_other_names_are_no_secrets(name: str) -> None:
    assert not is_secret_name(name)


def test_addresses_with_a_password_are_secrets() -> None:
    config = {"urls": ["https://example.org/a@b", "https://me:pw@example.org"], "mail": "me@example.org"}
    assert list(secret_paths(config)) == ["urls"]


@pytest.mark.parametrize(
    "value",
    [
        [["X-Api-Key", "hunter2"]],
        ["Authorization: Bearer hunter2"],
        "Bearer hunter2",
        "https://host/?x=1&token=hunter2",
        "Server=host;Password=hunter2",
        ("cookie", 7),
    ],
)
def test_secrets_within_texts_and_pairs(value: object) -> None:
    assert list(secret_paths({"a": value})) == ["a"]


@pytest.mark.parametrize(
    "value", [["token", ""], "Token: {words}", "bearer", "https://host/?x=1", "a=b;c=d", ["a", "b"]]
)
def test_other_texts_and_pairs_are_no_secrets(value: object) -> None:
    assert not list(secret_paths({"a": value}))


def test_text_is_redacted() -> None:
    text = (
        "Given value: {'api_key': 'hunter2', 'token': [1, 2], 'lr': 0.1} from https://me:hunter2@host/a, pwd=hunter2; x"
    )
    assert redact(text) == "Given value: {'api_key': ***, 'token': ***, 'lr': 0.1} from https://***@host/a, pwd=***; x"
    assert redact("the key sk-123456 is wrong", "sk-123456") == "the key *** is wrong"
    assert redact("an EMPTY answer", "x") == "an EMPTY answer"
