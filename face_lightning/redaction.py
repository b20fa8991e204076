"""Secrets: values that look like one by their name, and removal of known ones from text."""

import re
from collections.abc import Iterator, Mapping
from typing import Any

_NAMES = (
    r"(api|access|secret|private|auth|account|encryption|signing)_?keys?(_id)?|token|(secret|password|passwd)s?"
    r"|passphrase|passwort|pwd|credentials?|authorization|bearer|auth|jwt|pat|cookies?"
)
_SECRET_NAME = re.compile(rf"(.*_)?({_NAMES})")
_USERINFO = re.compile(r"(\b[a-z][a-z0-9+.-]*://)[^/\s@'\"]+@", re.IGNORECASE)
_SCHEME = re.compile(r"\s*(bearer|basic)\s+\S{6,}\s*", re.IGNORECASE)  # what stands in the header Authorization
_HEADER = re.compile(r"\s*([a-z-]+)\s*:\s*\S", re.IGNORECASE)
_SETTING = re.compile(r"(?:^|[?&;\s])([\w.-]+)=[^\s&;]")  # of addresses and connection strings
_NAMED_VALUE = re.compile(r"(['\"]?)([\w.-]+)\1(\s*[:=]\s*)('[^']*'|\"[^\"]*\"|\[[^]]*\]|[^\s,;(){}\[\]]+)")
_LEAST_LETTERS = 6  # of a key that is removed from text: shorter ones are dummies, and parts of words


def is_secret_name(name: str) -> bool:
    """Whether a value of this name is a secret: any case, with `-`, `_` or capitals between words."""
    words = re.sub(r"(?<=[a-z0-9])(?=[A-Z])", "_", name.rpartition(".")[2])
    return _SECRET_NAME.fullmatch(re.sub(r"[\s-]", "_", words).lower()) is not None


def secret_paths(value: Any, path: str = "") -> Iterator[str]:  # noqa: ANN401
    """Paths of the secrets in a configuration: by their names, at any depth, and users and passwords in addresses."""
    if isinstance(value, list | tuple):
        if len(value) == 2 and isinstance(value[0], str) and is_secret_name(value[0]) and _holds_value(value[1]):
            yield path  # a pair of name and value
        for item in value:
            yield from secret_paths(item, path)
    elif isinstance(value, Mapping) or hasattr(value, "items"):
        for key, item in value.items():
            where = f"{path}.{key}".lstrip(".")
            if is_secret_name(str(key)) and _holds_value(item):
                yield where
            yield from secret_paths(item, where)
    elif isinstance(value, str) and _holds_secret(value):
        yield path


def _holds_secret(text: str) -> bool:
    """Whether a text is an address with a password, a header with a secret, or sets something of a secret name."""
    header = _HEADER.match(text)
    names = _SETTING.findall(text) + ([header[1]] if header and "{" not in text else [])
    return bool(_USERINFO.search(text) or _SCHEME.fullmatch(text)) or any(map(is_secret_name, names))


def _holds_value(value: Any) -> bool:  # noqa: ANN401
    """Whether a text or number is in `value`, itself or in a list."""
    if isinstance(value, list | tuple):
        return any(map(_holds_value, value))
    return value != "" and isinstance(value, str | int | float) and not isinstance(value, bool)


def redact_key(text: str, key: str | None) -> str:
    """`text` without a known key."""
    return text if key is None or len(key) < _LEAST_LETTERS else text.replace(key, "***")


def redact(text: str, key: str | None = None) -> str:
    """`text` without a known key, values whose name is that of a secret, and users and passwords in addresses."""
    text = _USERINFO.sub(r"\1***@", redact_key(text, key))
    return _NAMED_VALUE.sub(
        lambda found: f"{found[1]}{found[2]}{found[1]}{found[3]}***" if is_secret_name(found[2]) else found[0], text
    )
