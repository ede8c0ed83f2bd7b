"""Mypy: its text, and `-O json` (one object a line)."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence

from blocks.readings.documents import as_mapping, as_number, as_path, as_text
from blocks.readings.reading import Finding, Level
from blocks.readings.ruff import unnamed

_LINE = re.compile(
    r"(?P<path>[^:\s][^:]*\.pyi?)(?::(?P<line>\d+)(?::\d+){0,3})?: "
    r"(?P<level>error|warning|note): (?P<message>.*?)(?:  \[(?P<rule>[a-z0-9-]+)\])?"
)
_FOUND = re.compile(r"Found (\d+) errors? in \d+ files? \(.*\)")
_SUCCESS = re.compile(r"Success: no issues found in \d+ source files?")
_LEVELS: Mapping[object, Level] = {"error": "error", "warning": "warning", "note": "note"}


def read_json(value: object, *, root: str = "") -> tuple[Finding, ...] | None:
    """Return the finding in one line of `-O json`; None: not from mypy."""
    fields = as_mapping(value)
    if not {"file", "line", "message", "code", "severity"} <= fields.keys():
        return None
    severity = fields["severity"]
    finding = Finding(
        rule=as_text(fields["code"]) or "mypy",
        path=as_path(fields["file"], root),
        line=as_number(fields["line"]),
        level=_LEVELS.get(severity if isinstance(severity, str) else None, "error"),
        kind="types",
        message=as_text(fields["message"]),
    )
    return (finding,)


def read_lines(lines: Sequence[str], *, root: str = "") -> tuple[Finding, ...] | None:
    """Return the findings in mypy's text; None: mypy did not speak."""
    found = tuple(_from_match(match, root) for line in lines if (match := _LINE.fullmatch(line)))
    totals = [int(match[1]) for line in lines if (match := _FOUND.fullmatch(line))]
    if not found and not totals and not any(map(_SUCCESS.fullmatch, lines)):
        return None
    n_errors = sum(1 for finding in found if finding.level == "error")
    return found + unnamed("mypy", "types", sum(totals) - n_errors)


def _from_match(match: re.Match[str], root: str) -> Finding:
    return Finding(
        rule=as_text(match["rule"]) or "mypy",
        path=as_path(match["path"], root),
        line=int((match["line"] or "0")[:9]),
        level=_LEVELS[match["level"]],
        kind="types",
        message=as_text(match["message"]),
    )
