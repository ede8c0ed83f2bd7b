"""Pyright and basedpyright: `--outputjson`, and their text.

Source: https://microsoft.github.io/pyright/#/command-line (JSON output; lines count from 0).
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence

from blocks.readings.documents import as_list, as_mapping, as_number, as_path, as_text
from blocks.readings.reading import Finding, Level

_LINE = re.compile(
    r"\s*(?P<path>[^:\s][^:]*):(?P<line>\d+):\d+ - (?P<level>error|warning|information): "
    r"(?P<message>.*?)(?: \((?P<rule>report\w+)\))?"
)
_SUMMARY = re.compile(r"\d+ errors?, \d+ warnings?, \d+ (?:informations?|notes?)\s*")
_LEVELS: Mapping[object, Level] = {"error": "error", "warning": "warning", "information": "note"}


def read_json(value: object, *, root: str = "") -> tuple[Finding, ...] | None:
    """Return the findings in `--outputjson`; None: not from pyright."""
    diagnostics = as_mapping(value).get("generalDiagnostics")
    if not isinstance(diagnostics, list):
        return None
    return tuple(_from_entry(entry, root) for entry in map(as_mapping, as_list(diagnostics)))


def _from_entry(entry: Mapping[str, object], root: str) -> Finding:
    start = as_mapping(as_mapping(entry.get("range")).get("start"))
    severity = entry.get("severity")
    return Finding(
        rule=as_text(entry.get("rule")) or "pyright",
        path=as_path(entry.get("file"), root),
        line=as_number(start.get("line")) + 1,
        level=_LEVELS.get(severity if isinstance(severity, str) else None, "error"),
        kind="types",
        message=as_text(entry.get("message")),
    )


def read_lines(lines: Sequence[str], *, root: str = "") -> tuple[Finding, ...] | None:
    """Return the findings in pyright's text; None: pyright did not speak."""
    if not any(map(_SUMMARY.fullmatch, lines)):
        return None
    matches = [match for line in lines if (match := _LINE.fullmatch(line))]
    return tuple(
        Finding(
            rule=as_text(match["rule"]) or "pyright",
            path=as_path(match["path"], root),
            line=int(match["line"][:9]),
            level=_LEVELS[match["level"]],
            kind="types",
            message=as_text(match["message"]),
        )
        for match in matches
    )
