"""Answers of agents: a JSON object after a mark, somewhere in all that an agent printed.

    MISSION_RESULT: {"status": "done", …}

Which marks there are and what the objects mean is the business of others.
"""

from __future__ import annotations

import json
import re
from collections import deque
from collections.abc import Iterator, Mapping, Sequence
from functools import lru_cache
from typing import Any

READ_CHARACTERS = 2**18
TEXT_CHARACTERS = 4_000
ITEM_CHARACTERS = 2_000
MOST_ITEMS = 200
MOST_MARKS = 64  # each that is broken costs a look at the text before it
_DEEPEST = 32

_TO_BRACE = re.compile(r"(?:[\s:*`=]|(?i:json)){1,64}(?=\{)")
_DECODER = json.JSONDecoder(parse_constant=lambda _: None)


def find_marked(text: str, marks: Sequence[str]) -> Mapping[str, Any] | None:
    """Find the last whole JSON object after one of the marks; None when there is none.

    Bare, fenced, over several lines, or inside a line of JSON; marks inside an object belong to it.
    Linear in the text; its last 256 Ki characters and the last 64 marks in them are looked at. The
    values can be stored: no lone surrogates, zeros, infinities or endless nesting.
    """
    text = text[-READ_CHARACTERS:]
    mark = _any_of(*marks)
    found = _last_object(text, mark)
    if found is None and _is_named(text, marks):
        found = _last_object("\n".join(_texts_in_json(text, marks)), mark)
    return None if found is None else {_clean(key): _clean(found[key], 1) for key in found}


def why_unmarked(text: str, marks: Sequence[str]) -> str:
    """Say, for whoever wrote a text, why `find_marked` finds nothing in it."""
    text = text[-READ_CHARACTERS:]
    wanted = f'{marks[0]}: {{"…": …}}'
    last = deque(_any_of(*marks).finditer(text), maxlen=1)
    if not last:
        return f"there is no line `{wanted}`"
    brace = _TO_BRACE.match(text, last[0].end())
    if brace is None:
        return f"no JSON object follows the last {last[0][0]}; write `{wanted}`"
    try:
        _DECODER.raw_decode(text, brace.end())
    except json.JSONDecodeError as error:
        line = text.count("\n", brace.end(), error.pos) + 1
        return f"what follows the last {last[0][0]} is no JSON: {error.msg} in its line {line}"
    except (ValueError, RecursionError):
        pass
    return f"what follows the last {last[0][0]} is no JSON object that can be read"


def as_words(value: object) -> str:
    """A bounded text; what is no text is an empty one."""
    return value[:TEXT_CHARACTERS] if isinstance(value, str) else ""


def as_items(value: object) -> tuple[str, ...]:
    """Texts as they are, tables and numbers as JSON, bounded; what is no list is an empty one."""
    if not isinstance(value, list | tuple):
        return ()
    texts = (each if isinstance(each, str) else _as_json(each) for each in value[:MOST_ITEMS])
    return tuple(text[:ITEM_CHARACTERS] for text in map(str.strip, texts) if text)


def _as_json(value: object) -> str:
    return "" if value is None else json.dumps(value, ensure_ascii=False)


@lru_cache(maxsize=16)
def _any_of(*marks: str) -> re.Pattern[str]:
    return re.compile(rf"\b(?:{'|'.join(map(re.escape, marks))})\b")


def _is_named(text: str, marks: Sequence[str]) -> bool:
    """Whether a mark stands there, be it just after the end of an escape."""
    return any(mark in text for mark in marks)


def _last_object(text: str, marks: re.Pattern[str]) -> Mapping[str, Any] | None:
    found: Mapping[str, Any] | None = None
    position = 0
    for mark in deque(marks.finditer(text), maxlen=MOST_MARKS):
        brace = _TO_BRACE.match(text, mark.end()) if mark.start() >= position else None
        if brace:
            value, position = _object_at(text, brace.end())
            found = found if value is None else value
    return found


def _object_at(text: str, start: int) -> tuple[Mapping[str, Any] | None, int]:
    """The JSON object at a brace and where it ends; None and just after the brace without one."""
    try:
        value, end = _DECODER.raw_decode(text, start)
    except (ValueError, RecursionError):
        return None, start + 1
    return (value, end) if isinstance(value, dict) else (None, end)


def _texts_in_json(text: str, marks: Sequence[str]) -> Iterator[str]:
    """The texts with a mark in lines that are JSON: events of a stream that nobody has read."""
    for line in text.splitlines():
        if line.lstrip().startswith("{") and _is_named(line, marks):
            try:
                yield from _marked_texts(json.loads(line), _any_of(*marks))
            except (ValueError, RecursionError):
                continue


def _marked_texts(value: Any, marks: re.Pattern[str]) -> Iterator[str]:
    if isinstance(value, str):
        if marks.search(value):
            yield value
    elif isinstance(value, dict | list):
        for each in value.values() if isinstance(value, dict) else value:
            yield from _marked_texts(each, marks)


def _clean(value: Any, depth: int = 0) -> Any:
    """Take out what no file or database holds: lone surrogates, zeros, endless nesting."""
    if depth > _DEEPEST:
        return None
    if isinstance(value, str):
        return value.encode("utf-8", "replace").decode().replace("\0", "\N{REPLACEMENT CHARACTER}")
    if isinstance(value, dict):
        return {_clean(key): _clean(each, depth + 1) for key, each in value.items()}
    if isinstance(value, list):
        return [_clean(each, depth + 1) for each in value]
    if isinstance(value, float) and value in {float("inf"), float("-inf")}:  # 1e999
        return None
    return value
