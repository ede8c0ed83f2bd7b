"""What people write by hand: durations, misspelt names, and the lines of a TOML text."""

from __future__ import annotations

import difflib
import json
import math
import re
import tomllib
from collections.abc import Iterable, Iterator, Mapping

KeyPath = tuple[str | int, ...]
"""Where a value stands in nested tables: keys, and positions in arrays of tables."""

_NUMBER = r"([0-9]+(?:\.[0-9]+)?)"
_DURATION = re.compile(rf"(?:{_NUMBER}d)?(?:{_NUMBER}h)?(?:{_NUMBER}m)?(?:{_NUMBER}s)?")
_SECONDS_EACH = (86_400, 3_600, 60, 1)
_WHOLE_SECONDS_SHOWN = 1e9

_TOML_TOKEN = re.compile(
    r'"""(?:\\.|[^\\])*?"{3,5}'
    r"|'''.*?'{3,5}"
    r'|"(?:\\.|[^"\\\n])*"'
    r"|'[^'\n]*'"
    r"|\#[^\n]*|\n|[\[\]{}]|[^\n\"'\#\[\]{}]+",
    re.DOTALL,
)
_TOML_KEY = re.compile(r"""\s*([A-Za-z0-9_-]+|"(?:\\.|[^"\\])*"|'[^']*')\s*(\.)?""")
_TOML_PLACE = re.compile(r" \(at (?:line (\d+), column \d+|end of document)\)$")


def parse_duration(value: object) -> float:
    """Seconds of `"45s"`, `"10m"`, `"1h30m"`, `"2d"`, or of a number, which is seconds already.

    Raises:
        ValueError: it is no duration, or not more than zero.
    """
    seconds = _seconds(value)
    if seconds is None:
        raise ValueError(f'{value!r} is no duration; write e.g. "5m" or "1h30m"')
    if not 0 < seconds < math.inf:
        raise ValueError(f"{value!r} is not more than zero seconds")
    return seconds


def format_duration(seconds: float) -> str:
    """Write seconds so that `parse_duration` reads exactly the same figure again."""
    if seconds != int(seconds) or seconds >= _WHOLE_SECONDS_SHOWN:
        return repr(seconds)
    hours, rest = divmod(int(seconds), 3_600)
    parts = ((hours, "h"), (rest // 60, "m"), (rest % 60, "s"))
    return "".join(f"{amount}{unit}" for amount, unit in parts if amount) or "0s"


def did_you_mean(word: str, known: Iterable[str]) -> str:
    """Return `; did you mean 'x'?` for the known word that is closest, or nothing."""
    close = difflib.get_close_matches(word, list(known), n=1)
    return f"; did you mean '{close[0]}'?" if close else ""


def one_of(known: Iterable[str]) -> str:
    """List known words for a message: `'a', 'b' or 'c'`."""
    *most, last = [f"'{word}'" for word in known]
    return f"{', '.join(most)} or {last}" if most else last


def toml_lines(text: str) -> dict[KeyPath, int]:
    """Find the line of every table, array element and key of a valid TOML text.

    `tomllib` tells no lines of what it has read, and people need them to mend a value.
    """
    lines: dict[KeyPath, int] = {}
    last_element: dict[KeyPath, int] = {}
    table: KeyPath = ()
    for line, statement in _toml_statements(text):
        keys = _toml_keys(statement.lstrip("["))
        if statement.startswith("["):
            path = table = _toml_table(keys, last_element, new=statement.startswith("[["))
        else:
            path = (*table, *keys)
        for length in range(1, len(path) + 1):
            lines.setdefault(path[:length], line)
    return lines


def line_of(lines: Mapping[KeyPath, int], path: KeyPath) -> int | None:
    """Return the line of a key, or of the nearest table around it that has one."""
    while path and path not in lines:
        path = path[:-1]
    return lines.get(path)


def toml_syntax_problem(error: tomllib.TOMLDecodeError, text: str) -> tuple[int, str]:
    """Split `tomllib`'s message into the line and what is wrong there."""
    message = str(error)
    place = _TOML_PLACE.search(message)
    if place is None:
        return 1, message
    line = int(place[1]) if place[1] else text.rstrip().count("\n") + 1
    return line, message[: place.start()]


def toml_text(value: str) -> str:
    """Write a TOML string on one line; JSON's escapes are TOML's, but for the delete character."""
    return json.dumps(value, ensure_ascii=False).replace("\x7f", "\\u007F")


def _seconds(value: object) -> float | None:
    if isinstance(value, bool) or not isinstance(value, int | float | str):
        return None
    compact = value.replace(" ", "") if isinstance(value, str) else ""
    if compact and (parts := _DURATION.fullmatch(compact)):
        amounts = zip(parts.groups("0"), _SECONDS_EACH, strict=True)
        return math.fsum(float(amount) * each for amount, each in amounts)
    try:
        seconds = float(value)
    except (ValueError, OverflowError):
        return None
    return seconds if math.isfinite(seconds) else None


def _toml_statements(text: str) -> Iterator[tuple[int, str]]:
    """Yield table headers and assignments with the lines where they begin, comments left out."""
    line = start = 1
    depth = 0
    parts: list[str] = []
    for piece in _TOML_TOKEN.findall(text + "\n"):
        if piece == "\n" and depth == 0:
            if statement := "".join(parts).strip():
                yield start, statement
            parts, start = [], line + 1
        elif not piece.startswith("#"):
            depth += {"[": 1, "{": 1, "]": -1, "}": -1}.get(piece, 0)
            parts.append(piece)
        line += piece.count("\n")


def _toml_keys(statement: str) -> tuple[str, ...]:
    keys: list[str] = []
    position = 0
    while found := _TOML_KEY.match(statement, position):
        key = found[1]
        keys.append(tomllib.loads(f"key = {key}")["key"] if key[0] in "\"'" else key)
        position = found.end()
        if not found[2]:
            break
    return tuple(keys)


def _toml_table(keys: tuple[str, ...], last_element: dict[KeyPath, int], *, new: bool) -> KeyPath:
    """Resolve a header's keys, going into the last element of each array of tables."""
    path: KeyPath = ()
    for position, key in enumerate(keys, start=1):
        path = (*path, key)
        if new and position == len(keys):
            last_element[path] = last_element.get(path, -1) + 1
        if path in last_element:
            path = (*path, last_element[path])
    return path
