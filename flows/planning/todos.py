"""To-do notes in Python sources: real comments only, never the text of a string."""

from __future__ import annotations

import re
import tokenize
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

_MARK = re.compile(r"#+\s*(?:TODO|FIXME|XXX)\b(?:\([^)]*\))?[:\s-]*(?P<text>.*)")


@dataclass(frozen=True, slots=True, kw_only=True)
class Todo:
    """One to-do note: where it stands (`line` counts from 1) and what it asks for."""

    path: str
    line: int
    text: str


def find_todos(folder: Path, paths: Iterable[str]) -> tuple[Todo, ...]:
    """Find the to-do comments of Python files, given relative to `folder`, in their order.

    A file that Python cannot read is skipped: that is a syntax finding, not a to-do.
    """
    return tuple(todo for path in paths for todo in _todos_of(folder, path))


def _todos_of(folder: Path, path: str) -> list[Todo]:
    found = []
    try:
        with (folder / path).open("rb") as file:
            for token in tokenize.tokenize(file.readline):
                mark = token.type == tokenize.COMMENT and _MARK.match(token.string)
                if mark:
                    text = mark["text"].strip()
                    found.append(Todo(path=path, line=token.start[0], text=text))
    except (SyntaxError, tokenize.TokenError, UnicodeDecodeError):
        return []
    return found
