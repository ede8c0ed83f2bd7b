"""The result line: what an agent says of its own work, on a line that it is asked for.

    MISSION_RESULT: {"status": "done", "summary": "…", "discoveries": ["…"]}

Never trusted over git; read as tolerantly as possible, and whatever is broken is as if absent.
"""

from __future__ import annotations

import json
import re
from collections import deque
from collections.abc import Iterator, Mapping
from typing import Annotated, Any

from pydantic import AliasChoices, BaseModel, BeforeValidator, ConfigDict, Field

READ_CHARACTERS = 2**18
TEXT_CHARACTERS = 4_000
ITEM_CHARACTERS = 2_000
MOST_ITEMS = 200
MOST_MARKS = 64  # each that is broken costs a look at the text before it
_DEEPEST = 32

_NAME = "_RESULT"  # inside JSON what stands before it may be the end of an escape
_MARK = re.compile(r"\b(?:MISSION|MC)_RESULT\b")
_TO_BRACE = re.compile(r"(?:[\s:*`=]|(?i:json)){1,64}(?=\{)")
_DECODER = json.JSONDecoder(parse_constant=lambda _: None)


def _words(value: Any) -> str:
    return value[:TEXT_CHARACTERS] if isinstance(value, str) else ""


def _items(value: Any) -> tuple[str, ...]:
    """Texts as they are, tables and numbers as JSON; what is no list is an empty one."""
    if not isinstance(value, list | tuple):
        return ()
    texts = (each if isinstance(each, str) else _as_json(each) for each in value[:MOST_ITEMS])
    return tuple(text[:ITEM_CHARACTERS] for text in map(str.strip, texts) if text)


def _as_json(value: Any) -> str:
    return "" if value is None else json.dumps(value, ensure_ascii=False)


_Words = Annotated[str, BeforeValidator(_words)]
_Items = Annotated[tuple[str, ...], BeforeValidator(_items)]


def _list(*names: str) -> Any:
    return Field(default=(), validation_alias=AliasChoices(*names))


class MissionResult(BaseModel):
    """What an agent says that it did; fields of other names are kept as they came."""

    model_config = ConfigDict(frozen=True, extra="allow")

    status: _Words = ""
    summary: _Words = Field(default="", validation_alias=AliasChoices("summary", "message"))
    commits: _Items = _list("commits", "commit_shas", "commitShas")
    files_changed: _Items = _list("files_changed", "filesChanged", "changed_files", "files")
    discoveries: _Items = _list("discoveries", "discovered", "findings")
    concerns: _Items = _list("concerns", "warnings", "risks")
    decisions: _Items = _list("decisions", "decided")
    gotchas: _Items = _list("gotchas", "pitfalls")
    learnings: _Items = _list("learnings", "learned", "lessons")

    def __bool__(self) -> bool:
        """Whether anything was said."""
        return any(self.as_dict().values())

    def as_dict(self) -> dict[str, Any]:
        """Give all fields to the ledger, the unknown ones too."""
        return self.model_dump(mode="json")


def find_result(text: str) -> MissionResult:
    """Find the last whole result in what an agent said; an empty one when there is none.

    Bare, fenced, over several lines, or inside a line of JSON; marks inside a result belong to it.
    Linear in the text; its last 256 Ki characters and the last 64 marks in them are looked at.
    """
    text = text[-READ_CHARACTERS:]
    found = _last_object(text)
    if found is None and _NAME in text:
        found = _last_object("\n".join(_texts_in_json(text)))
    return MissionResult.model_validate(_clean(found or {}))


def _last_object(text: str) -> Mapping[str, Any] | None:
    found: Mapping[str, Any] | None = None
    position = 0
    for mark in deque(_MARK.finditer(text), maxlen=MOST_MARKS):
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


def _texts_in_json(text: str) -> Iterator[str]:
    """The texts with a mark in lines that are JSON: events of a stream that nobody has read."""
    for line in text.splitlines():
        if line.lstrip().startswith("{") and _NAME in line:
            try:
                yield from _marked_texts(json.loads(line))
            except (ValueError, RecursionError):
                continue


def _marked_texts(value: Any) -> Iterator[str]:
    if isinstance(value, str):
        if _MARK.search(value):
            yield value
    elif isinstance(value, dict | list):
        for each in value.values() if isinstance(value, dict) else value:
            yield from _marked_texts(each)


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
