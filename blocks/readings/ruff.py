"""Ruff: its JSON, and the text of any version; flake8 and pylint print the same lines.

Formats: `full` (old with the place first, new with the rule first), `concise`, `grouped`,
`pylint`, `github`. Where the closing `Found N errors.` tells of more than could be read, the
missing ones are findings without a place: an unknown format never counts as clean.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence

from blocks.readings.documents import as_mapping, as_number, as_path, as_text
from blocks.readings.reading import Finding, Kind

MAX_UNNAMED = 1_000

_RULE = r"(?:[A-Z]{1,8}\d{1,5}|SyntaxError|[a-z][a-z0-9]*(?:-[a-z0-9]+)*(?=:))"
_PATH = r"(?P<path>[^:\s][^:]*\.(?:py|pyi|pyw|ipynb|toml))(?::cell \d+)?"
_MESSAGE = r":? (?:\[\*\] |\[-\*\] )?(?P<message>.+)"
_CONCISE = re.compile(rf"{_PATH}:(?P<line>\d+):\d+: (?P<rule>{_RULE}){_MESSAGE}")
_PYLINT = re.compile(rf"{_PATH}:(?P<line>\d+): \[(?P<rule>[^\]]+)\] (?P<message>.+)")
_GITHUB = re.compile(
    r"::(?:error|warning|notice) title=[^,(]*\((?P<rule>[^)]+)\),file=(?P<path>[^,]+),"
    r"line=(?P<line>\d+)[^:]*::(?P<message>.+)"
)
_HEADLINE = re.compile(rf"(?:(?:error|warning)\[)?(?P<rule>{_RULE})\]?{_MESSAGE}")
_ARROW = re.compile(rf"\s*--> {_PATH}:(?P<line>\d+):\d+")
_GROUP = re.compile(rf"{_PATH}:")
_GROUPED = re.compile(rf"\s+(?P<line>\d+):\d+\s+(?P<rule>{_RULE}){_MESSAGE}")
_FOUND = re.compile(r"Found (\d+) errors?(?: \(\d+ fixed, (\d+) remaining\))?\.")
_SECURITY = re.compile(r"S\d{3}")
_LEVEL_WORDS = frozenset({"error", "warning", "note", "info", "help"})


def kind_of_rule(rule: str) -> Kind:
    """Return the kind of a rule: flake8-bandit's `S…` are security, all else is lint."""
    return "security" if _SECURITY.fullmatch(rule) else "lint"


def read_json(value: object, *, root: str = "") -> tuple[Finding, ...] | None:
    """Return the findings in `--output-format json` or `json-lines`; None: not from ruff."""
    entries = value if isinstance(value, list) else [value]
    if not entries or not all(map(_is_entry, entries)):
        return None
    return tuple(_from_entry(entry, root) for entry in entries)


def _is_entry(entry: object) -> bool:
    return {"code", "filename", "location", "message"} <= as_mapping(entry).keys()


def _from_entry(entry: object, root: str) -> Finding:
    fields = as_mapping(entry)
    rule = as_text(fields["code"]) or as_text(fields.get("name"), "invalid-syntax")
    return Finding(
        rule=rule,
        path=as_path(fields["filename"], root),
        line=as_number(as_mapping(fields["location"]).get("row")),
        level="warning" if fields.get("severity") == "warning" else "error",
        kind=kind_of_rule(rule),
        message=as_text(fields["message"]),
    )


def read_lines(lines: Sequence[str], *, root: str = "") -> tuple[Finding, ...] | None:
    """Return the findings in ruff's text; None: ruff did not speak."""
    found = tuple(_from_lines(lines, root))
    totals = [match for line in lines if (match := _FOUND.fullmatch(line))]
    if not found and not totals and "All checks passed!" not in lines:
        return None
    total = sum(int(remaining or count) for count, remaining in (m.groups() for m in totals))
    return found + unnamed("ruff", "lint", total - len(found))


def unnamed(tool: str, kind: Kind, count: int) -> tuple[Finding, ...]:
    """Return findings without a place, for those that a tool counted and nobody could read."""
    finding = Finding(
        rule=tool,
        path="",
        line=0,
        level="error",
        kind=kind,
        message=f"counted by {tool}, in a format that is not read",
    )
    return (finding,) * max(0, min(count, MAX_UNNAMED))


def _from_lines(lines: Sequence[str], root: str) -> Iterator[Finding]:
    group, previous = "", ""
    for line in lines:
        if match := _CONCISE.fullmatch(line) or _PYLINT.fullmatch(line) or _GITHUB.fullmatch(line):
            if match["rule"] not in _LEVEL_WORDS:
                yield _from_match(match, match["path"], match["line"], root)
        elif (arrow := _ARROW.fullmatch(line)) and (head := _HEADLINE.fullmatch(previous)):
            yield _from_match(head, arrow["path"], arrow["line"], root)
        elif header := _GROUP.fullmatch(line):
            group = header["path"]
        elif group and (match := _GROUPED.fullmatch(line)):
            yield _from_match(match, group, match["line"], root)
        previous = line


def _from_match(match: re.Match[str], path: str, line: str, root: str) -> Finding:
    rule = as_text(match["rule"])
    return Finding(
        rule=rule,
        path=as_path(path, root),
        line=int(line[:9]),
        level="error",
        kind=kind_of_rule(rule),
        message=as_text(match["message"]),
    )
