"""Parsing of metadata values: lists and mappings as text, dates, numbers, markup, and missing values."""

import ast
import csv
import html
import json
import math
import re
from collections.abc import Iterator, Mapping
from typing import Any

from face_lightning.plain_text import whole

MISSING = ("", "NaN", "nan", "NULL", "null", "None", "NA", "N/A", "#N/A", "<NA>")
# Missing values in metadata, compared regardless of case; `MISSING` for ids is stricter.
_MISSING_TAGS = {*(text.casefold() for text in MISSING), "nat", "\\n", "-", "--", "(no genres listed)"}
_NAME_KEYS = ("name", "title", "label", "description", "value")  # keys that hold the name of an object, best first
_MAX_LITERAL = 1 << 16  # maximum characters of a list or mapping as text
_YEAR = re.compile(r"(?<!\d)(1[5-9]\d\d|20\d\d)(?!\d)")
_COMPACT_DATE = re.compile(r"\s*(1[5-9]\d\d|20\d\d)[01]\d[0-3]\d\s*")
_WHOLE = re.compile(r"\s*([-+]?\d{1,15})\.0+\s*")

_INLINE = "a|abbr|b|big|cite|code|del|em|font|i|ins|kbd|mark|q|s|small|span|strike|strong|sub|sup|tt|u|var"
_BLOCK = (
    "address|article|aside|blockquote|body|br|button|caption|center|dd|div|dl|dt|figcaption|figure|footer|form|h[1-6]|"
    "head|header|hr|html|iframe|img|input|label|li|link|main|meta|nav|ol|option|p|pre|section|select|source|table|"
    "tbody|td|tfoot|th|thead|tr|ul|video|audio|script|style"
)
_INLINE_TAG = re.compile(rf"</?(?:{_INLINE})(?=[\s/>])[^<>]*>", re.IGNORECASE)
_BLOCK_TAG = re.compile(rf"</?(?:{_BLOCK})(?=[\s/>])[^<>]*>", re.IGNORECASE)
# An incomplete tag at the end of a truncated text.
_CUT_TAG = re.compile(rf"<(?:/?(?:{_BLOCK})|(?:{_INLINE})(?=\s))(?:\s[^<>]*)?$", re.IGNORECASE)
_CDATA = re.compile(r"<!\[CDATA\[(.*?)\]\]>", re.DOTALL)
_ENTITY = re.compile(r"&(?:#\d{1,7}|#[xX][0-9a-fA-F]{1,6}|[A-Za-z][A-Za-z0-9]{1,31});")
_HIDDEN = (("<!--", "-->"), ("<script", "</script"), ("<style", "</style"))  # parts that browsers do not display


def without_markup(text: str) -> str:
    """Return the text that a browser would display: without HTML tags, comments and scripts, entities decoded."""
    text = whole(text)
    for _ in range(2):  # markup is often escaped twice
        if "<" in text:
            for begin, end in _HIDDEN:
                text = _cut(text, begin, end)
            text = _CUT_TAG.sub("", _BLOCK_TAG.sub(" ", _INLINE_TAG.sub("", _CDATA.sub(r"\1", text))))
        if "&" in text:
            text = _ENTITY.sub(lambda found: html.unescape(found[0]), text)
    return text


def _cut(text: str, begin: str, end: str) -> str:
    """Remove the parts of a text between two marks, including the marks."""
    lowered, parts, position = text.lower(), [], 0
    if len(lowered) != len(text):  # positions differ if lower-casing changes the length of a character
        return text
    while (start := lowered.find(begin, position)) >= 0:
        stop = lowered.find(end, start + len(begin))
        stop = lowered.find(">", stop) if stop >= 0 else stop
        if stop < 0:
            break
        parts.append(text[position:start])
        position = stop + 1
    return " ".join([*parts, text[position:]])


def is_missing(value: object) -> bool:
    """Whether a value denotes a missing one, such as `nan`, `N/A` or `(no genres listed)`."""
    if isinstance(value, float):
        return not math.isfinite(value)
    return value is None or (isinstance(value, str) and value.strip().casefold() in _MISSING_TAGS)


def parsed(value: object) -> object:
    """Parse a list or mapping in JSON, Python, NumPy or PostgreSQL notation; return other values unchanged."""
    if not isinstance(value, str) or len(value) > _MAX_LITERAL:
        return value
    text = value.strip()
    if (text[:1], text[-1:]) not in (("[", "]"), ("{", "}"), ("(", ")")):
        return value
    text = re.sub(r"(?<=['\"])\s+(?=['\"])", ", ", text)  # NumPy omits commas; Python would concatenate the strings
    for read in (json.loads, ast.literal_eval, _postgres_array):
        try:
            found = read(text)
        except (ValueError, SyntaxError, RecursionError, MemoryError):
            continue
        return found if isinstance(found, list | tuple | dict | set) else value
    return value


def _postgres_array(text: str) -> list[str]:
    """Parse an array such as `{War,"Science Fiction"}`.

    Raises:
        ValueError: If the text is not an array.
    """
    if text[0] != "{" or ":" in text:
        raise ValueError(text)
    try:
        return next(csv.reader([text[1:-1]]))
    except csv.Error as error:
        raise ValueError(text) from error


def names_in(value: object) -> list[str]:
    """Return the distinct names in a list or mapping: for objects their name, for other mappings keys with a value."""
    return list(dict.fromkeys(name for name in _names(value, 0) if not is_missing(name)))


def _names(value: object, depth: int) -> Iterator[str]:
    if depth > 8 or is_missing(value) or isinstance(value, bool):
        return
    if isinstance(value, Mapping):
        keys = {str(key).lower(): key for key in value}
        name = next((keys[key] for key in _NAME_KEYS if isinstance(value.get(keys.get(key)), str)), None)
        if name is not None:
            yield from _names(value[name], depth + 1)
            return
        for key, held in value.items():
            if not is_missing(held) and held is not False and held != 0:
                yield from _names(str(key), depth + 1)
    elif isinstance(value, list | tuple | set):
        if value and all(isinstance(part, tuple) and len(part) == 2 for part in value):  # a Parquet map
            value = list(dict(value))
        for part in value:
            yield from _names(part, depth + 1)
    else:
        yield " ".join(without_markup(str(whole_number(value))).split())


def whole_number(value: Any) -> Any:  # noqa: ANN401
    """Return 1990 for 1990.0, as a number or as text; other values unchanged."""
    if isinstance(value, float) and math.isfinite(value) and value == int(value) and abs(value) < 1e15:
        return int(value)
    found = _WHOLE.fullmatch(value) if isinstance(value, str) else None
    return value if found is None else found[1]


def year_in(text: str) -> str:
    """Return the first year from 1500 to 2099 in a date of any format; "" if there is none."""
    compact = _COMPACT_DATE.fullmatch(text)
    found = compact or _YEAR.search(text)
    return "" if found is None else found[1]
