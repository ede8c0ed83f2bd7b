"""SARIF 2.1.0, the standard report of linters and security scanners.

Source: https://docs.oasis-open.org/sarif/sarif/v2.1.0/sarif-v2.1.0.html
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from typing import Any

from blocks.readings.documents import (
    Unreadable,
    as_list,
    as_mapping,
    as_number,
    as_path,
    as_text,
    load_json,
)
from blocks.readings.reading import Finding, Kind, Level
from blocks.readings.ruff import kind_of_rule

_SECURITY_TOOL = re.compile(
    r"bandit|semgrep|opengrep|codeql|gosec|brakeman|trivy|grype|snyk|gitleaks|trufflehog|checkov|"
    r"njsscan|spotbugs.*sec|cargo.?audit|govulncheck|osv.?scanner|zizmor|kics|tfsec|security",
    re.IGNORECASE,
)
_TYPES_TOOL = re.compile(r"mypy|pyright|\bty\b|\bpyre|\btsc\b", re.IGNORECASE)
_LEVELS: Mapping[object, Level] = {"error": "error", "warning": "warning", "note": "note"}


def read(document: bytes, *, root: str = "") -> tuple[tuple[Finding, ...], tuple[str, ...]]:
    """Return the findings of a SARIF report, and the names of the tools that made it.

    Suppressed results, passes and results that are gone since an earlier scan are left out.

    Raises:
        Unreadable: this is no SARIF report.
    """
    value = load_json(document)
    if not is_sarif(value):
        raise Unreadable("no SARIF report: it has no list of runs")
    return findings_of(value, root=root), tools_of(value)


def is_sarif(value: object) -> bool:
    """Whether a JSON value looks like a SARIF report."""
    report = as_mapping(value)
    return isinstance(report.get("runs"), list) and ("version" in report or "$schema" in report)


def tools_of(value: object) -> tuple[str, ...]:
    """Return the names of the tools, one for each run."""
    runs = map(as_mapping, as_list(as_mapping(value).get("runs")))
    return tuple(as_text(_driver(run).get("name"), "unnamed tool") for run in runs)


def findings_of(value: object, *, root: str = "") -> tuple[Finding, ...]:
    """Return the findings in a loaded SARIF report."""
    runs = as_list(as_mapping(value).get("runs"))
    return tuple(finding for run in runs for finding in _findings(as_mapping(run), root))


def _driver(run: Mapping[str, Any]) -> Mapping[str, Any]:
    return as_mapping(as_mapping(run.get("tool")).get("driver"))


def _findings(run: Mapping[str, Any], root: str) -> Iterator[Finding]:
    tool = as_text(_driver(run).get("name"))
    ordered = [as_mapping(rule) for rule in as_list(_driver(run).get("rules"))]
    by_id = {as_text(rule.get("id")): rule for rule in [*_rules_of_extensions(run), *ordered]}
    for result in map(as_mapping, as_list(run.get("results"))):
        if not _counts(result):
            continue
        rule_id, rule = _rule(result, ordered, by_id)
        path, line = _place(result, root)
        level = result.get("level") or as_mapping(rule.get("defaultConfiguration")).get("level")
        if level == "none":
            continue
        yield Finding(
            rule=rule_id or tool,
            path=path,
            line=line,
            level=_LEVELS.get(level if isinstance(level, str) else None, "warning"),
            kind=_kind(tool, rule_id, rule, result),
            message=as_text(as_mapping(result.get("message")).get("text")),
        )


def _rules_of_extensions(run: Mapping[str, Any]) -> list[Mapping[str, Any]]:
    extensions = as_list(as_mapping(run.get("tool")).get("extensions"))
    return [
        as_mapping(rule) for one in extensions for rule in as_list(as_mapping(one).get("rules"))
    ]


def _counts(result: Mapping[str, Any]) -> bool:
    suppressed = any(
        as_mapping(one).get("status", "accepted") == "accepted"
        for one in as_list(result.get("suppressions"))
    )
    is_failure = result.get("kind", "fail") == "fail"
    return is_failure and not suppressed and result.get("baselineState") != "absent"


def _rule(
    result: Mapping[str, Any],
    ordered: list[Mapping[str, Any]],
    by_id: Mapping[str, Mapping[str, Any]],
) -> tuple[str, Mapping[str, Any]]:
    reference = as_mapping(result.get("rule"))
    rule_id = as_text(result.get("ruleId")) or as_text(reference.get("id"))
    if rule_id:
        # A result may name a sub-rule, `CA1000/1`, of a rule that is described as `CA1000`.
        return rule_id, by_id.get(rule_id) or by_id.get(rule_id.rpartition("/")[0], {})
    index = result.get("ruleIndex", reference.get("index"))
    if isinstance(index, int) and 0 <= index < len(ordered):
        return as_text(ordered[index].get("id")), ordered[index]
    return "", {}


def _place(result: Mapping[str, Any], root: str) -> tuple[str, int]:
    locations = as_list(result.get("locations")) or [{}]
    physical = as_mapping(as_mapping(locations[0]).get("physicalLocation"))
    path = as_path(as_mapping(physical.get("artifactLocation")).get("uri"), root)
    return path, as_number(as_mapping(physical.get("region")).get("startLine"))


def _kind(tool: str, rule_id: str, rule: Mapping[str, Any], result: Mapping[str, Any]) -> Kind:
    if _SECURITY_TOOL.search(tool) or _is_tagged(rule) or _is_tagged(result):
        return "security"
    if _TYPES_TOOL.search(tool):
        return "types"
    return kind_of_rule(rule_id) if tool.lower() in {"ruff", "flake8"} else "lint"


def _is_tagged(described: Mapping[str, Any]) -> bool:
    properties = as_mapping(described.get("properties"))
    tags = [as_text(tag).lower() for tag in as_list(properties.get("tags"))]
    return "security-severity" in properties or any(
        tag == "security" or tag.startswith(("external/cwe", "cwe-", "owasp")) for tag in tags
    )
