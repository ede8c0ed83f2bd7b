"""Bandit: its JSON and its text. Exit code 1 with findings is findings.

Source: https://bandit.readthedocs.io/en/latest/formatters/index.html
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence

from blocks.readings.documents import as_list, as_mapping, as_number, as_path, as_text
from blocks.readings.reading import Finding, Level

_ISSUE = re.compile(r">> Issue: \[(?P<rule>[A-Z]\d+)(?::[^\]]*)?\] (?P<message>.*)")
_SEVERITY = re.compile(r"\s+Severity: (?P<level>\w+)\s+Confidence: \w+")
_LOCATION = re.compile(r"\s+Location: (?P<path>[^:]+):(?P<line>\d+)(?::\d+)?")
_CLEAN = "No issues identified."
_LEVELS: Mapping[str, Level] = {"HIGH": "error", "MEDIUM": "warning"}


def read_json(value: object, *, root: str = "") -> tuple[Finding, ...] | None:
    """Return the findings in `-f json`; None: not from bandit."""
    report = as_mapping(value)
    if not isinstance(report.get("results"), list) or "metrics" not in report:
        return None
    return tuple(_from_entry(entry, root) for entry in map(as_mapping, as_list(report["results"])))


def _from_entry(entry: Mapping[str, object], root: str) -> Finding:
    return Finding(
        rule=as_text(entry.get("test_id")) or "bandit",
        path=as_path(entry.get("filename"), root),
        line=as_number(entry.get("line_number")),
        level=_LEVELS.get(as_text(entry.get("issue_severity")).upper(), "note"),
        kind="security",
        message=as_text(entry.get("issue_text")),
    )


def read_lines(lines: Sequence[str], *, root: str = "") -> tuple[Finding, ...] | None:
    """Return the findings in bandit's text; None: bandit did not speak."""
    found: list[Finding] = []
    issue: re.Match[str] | None = None
    level: Level = "note"
    for line in lines:
        if match := _ISSUE.fullmatch(line):
            issue, level = match, "note"
        elif match := _SEVERITY.fullmatch(line):
            level = _LEVELS.get(match["level"].upper(), "note")
        elif issue and (match := _LOCATION.fullmatch(line)):
            found.append(_from_matches(issue, match, level, root))
            issue = None
    clean = any(line.strip() == _CLEAN for line in lines)
    return tuple(found) if found or clean else None


def _from_matches(
    issue: re.Match[str], location: re.Match[str], level: Level, root: str
) -> Finding:
    return Finding(
        rule=as_text(issue["rule"]),
        path=as_path(location["path"], root),
        line=int(location["line"][:9]),
        level=level,
        kind="security",
        message=as_text(issue["message"]),
    )
