"""Detection of secrets by the names of values, and their removal from text."""

import re
from collections.abc import Iterator, Mapping
from typing import Any

_NAMES = (
    r"(api|access|secret|private|auth|account|encryption|signing)_?keys?(_id)?|token|(secret|password|passwd)s?"
    r"|passphrase|passwort|pwd|credentials?|authorization|bearer|auth|jwt|pat|cookies?"
)
_SECRET_NAME = re.compile(rf"(.*_)?({_NAMES})")
_USERINFO = re.compile(r"(\b[a-z][a-z0-9+.-]*://)[^/\s@'\"]+@", re.IGNORECASE)
_SCHEME = re.compile(r"\s*(bearer|basic)\s+\S{6,}\s*", re.IGNORECASE)  # value of an Authorization header
_HEADER = re.compile(r"\s*([a-z-]+)\s*:\s*\S", re.IGNORECASE)
_SETTING = re.compile(r"(?:^|[?&;\s])([\w.-]+)=[^\s&;]")  # in URLs and connection strings
_NAMED_VALUE = re.compile(r"(['\"]?)([\w.-]+)\1(\s*[:=]\s*)('[^']*'|\"[^\"]*\"|\[[^]]*\]|[^\s,;(){}\[\]]+)")
_MIN_KEY_LENGTH = 6  # shorter keys are placeholders, which may occur within words, and are not removed


def is_secret_name(name: str) -> bool:
    """Whether a value of this name is a secret; accepts snake_case, kebab-case and camelCase."""
    words = re.sub(r"(?<=[a-z0-9])(?=[A-Z])", "_", name.rpartition(".")[2])
    return _SECRET_NAME.fullmatch(re.sub(r"[\s-]", "_", words).lower()) is not None


def secret_paths(value: Any, path: str = "") -> Iterator[str]:  # noqa: ANN401
    """Find the paths of secrets in a configuration, by their names, or as credentials in a URL, at any depth."""
    if isinstance(value, list | tuple):
        if len(value) == 2 and isinstance(value[0], str) and is_secret_name(value[0]) and _holds_value(value[1]):
            yield path  # a pair (name, value)
        for item in value:
            yield from secret_paths(item, path)
    elif isinstance(value, Mapping) or hasattr(value, "items"):
        for key, item in value.items():
            item_path = f"{path}.{key}".lstrip(".")
            if is_secret_name(str(key)) and _holds_value(item):
                yield item_path
            yield from secret_paths(item, item_path)
    elif isinstance(value, str) and _holds_secret(value):
        yield path


def _holds_secret(text: str) -> bool:
    """Whether a text is a URL with credentials, a header with a secret, or assigns a value to a secret name."""
    header = _HEADER.match(text)
    names = _SETTING.findall(text) + ([header[1]] if header and "{" not in text else [])
    return bool(_USERINFO.search(text) or _SCHEME.fullmatch(text)) or any(map(is_secret_name, names))


def _holds_value(value: Any) -> bool:  # noqa: ANN401
    """Whether `value` is a non-empty text or a number, or a list that contains one."""
    if isinstance(value, list | tuple):
        return any(map(_holds_value, value))
    return value != "" and isinstance(value, str | int | float) and not isinstance(value, bool)


def redact_key(text: str, key: str | None) -> str:
    """Replace a known key in `text` by asterisks."""
    return text if key is None or len(key) < _MIN_KEY_LENGTH else text.replace(key, "***")


def redact(text: str, key: str | None = None) -> str:
    """Replace a known key, values with the name of a secret, and credentials in URLs by asterisks."""
    text = _USERINFO.sub(r"\1***@", redact_key(text, key))
    return _NAMED_VALUE.sub(
        lambda found: f"{found[1]}{found[2]}{found[1]}{found[3]}***" if is_secret_name(found[2]) else found[0], text
    )
