"""What a verification run showed: tests, findings and coverage, in any language."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any, Literal, get_args

Outcome = Literal["passed", "failed", "error", "skipped", "xfailed"]
Level = Literal["error", "warning", "note"]
Kind = Literal["lint", "types", "security"]

OUTCOMES: tuple[Outcome, ...] = get_args(Outcome)
FAILING = frozenset({"failed", "error"})
UNREADABLE = "unreadable "
"""How an entry of `Reading.sources` begins that names a report which could not be read."""

_KIND_OF_TOOL: Mapping[str, Kind] = {
    **dict.fromkeys(("ruff", "flake8", "pylint", "eslint", "clippy"), "lint"),
    **dict.fromkeys(("mypy", "pyright", "basedpyright"), "types"),
    **dict.fromkeys(("bandit", "semgrep", "codeql", "gosec", "brakeman", "trivy"), "security"),
}
_SEPARATOR = "::"


@dataclass(frozen=True, slots=True, kw_only=True)
class Finding:
    """One thing that a linter, a type checker or a security scanner complains about."""

    rule: str
    path: str
    line: int
    level: Level
    kind: Kind
    message: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Reading:
    """What a verification run showed, in any language.

    `tests` maps test ids to outcomes; None when no test report was found. `counts` holds the
    figures of the summary lines in the output (summed over all runs in it), which may cover more
    than the report does: a second pytest in one command overwrites the first one's report.
    """

    tests: Mapping[str, str] | None = None
    findings: tuple[Finding, ...] = ()
    coverage: float | None = None
    sources: tuple[str, ...] = ()
    counts: Mapping[str, int] | None = None

    @property
    def has_tests(self) -> bool:
        """Whether anything is known about tests: a report, or figures in the output."""
        return self.tests is not None or self.counts is not None

    @property
    def n_collected(self) -> int:
        """Tests that were found, skipped ones included."""
        return len(self.tests) if self.tests is not None else sum((self.counts or {}).values())

    @property
    def n_passed(self) -> int:
        """Tests that passed."""
        return self._count("passed")

    @property
    def n_failed(self) -> int:
        """Tests that failed."""
        return self._count("failed")

    @property
    def n_errors(self) -> int:
        """Tests that broke outside their own body: set-up, tear-down, collection."""
        return self._count("error")

    @property
    def n_skipped(self) -> int:
        """Tests that did not run."""
        return self._count("skipped")

    @property
    def n_xfailed(self) -> int:
        """Tests that failed and were expected to."""
        return self._count("xfailed")

    @property
    def failing(self) -> tuple[str, ...]:
        """Ids of the tests that failed or broke, sorted."""
        return self._ids(FAILING)

    @property
    def skipped(self) -> tuple[str, ...]:
        """Ids of the tests that did not run, sorted."""
        return self._ids({"skipped"})

    @property
    def n_lint(self) -> int:
        """Lint findings, notes left out."""
        return self._findings("lint")

    @property
    def n_types(self) -> int:
        """Type findings, notes left out."""
        return self._findings("types")

    @property
    def n_security(self) -> int:
        """Security findings of every level: a scanner's low severity is a finding too."""
        return len(self.security)

    @property
    def security(self) -> tuple[Finding, ...]:
        """The security findings."""
        return tuple(finding for finding in self.findings if finding.kind == "security")

    @property
    def unreadable(self) -> tuple[str, ...]:
        """Reports that were there and could not be read, with the reason."""
        return tuple(s.removeprefix(UNREADABLE) for s in self.sources if s.startswith(UNREADABLE))

    def to_json(self) -> dict[str, Any]:
        """Return plain values; test ids are grouped by outcome and prefix, to stay small."""
        return {
            "tests": None if self.tests is None else _grouped(self.tests),
            "findings": [
                [f.rule, f.path, f.line, f.level, f.kind, f.message] for f in self.findings
            ],
            "coverage": self.coverage,
            "sources": list(self.sources),
            "counts": None if self.counts is None else dict(self.counts),
        }

    @classmethod
    def from_json(cls, value: Mapping[str, Any]) -> Reading:
        """Return the reading that `to_json` gave these values for."""
        tests = value["tests"]
        return cls(
            tests=None if tests is None else dict(_ungrouped(tests)),
            findings=tuple(
                Finding(rule=rule, path=path, line=line, level=level, kind=kind, message=message)
                for rule, path, line, level, kind, message in value["findings"]
            ),
            coverage=value["coverage"],
            sources=tuple(value["sources"]),
            counts=value["counts"],
        )

    def _count(self, outcome: str) -> int:
        if self.tests is None:
            return (self.counts or {}).get(outcome, 0)
        return sum(1 for found in self.tests.values() if found == outcome)

    def _ids(self, outcomes: Iterable[str]) -> tuple[str, ...]:
        wanted = frozenset(outcomes)
        return tuple(sorted(test for test, found in (self.tests or {}).items() if found in wanted))

    def _findings(self, kind: Kind) -> int:
        return sum(1 for f in self.findings if f.kind == kind and f.level != "note")


def describe(reading: Reading) -> str:
    """Say in one line what was seen: `128 tests passed, 2 skipped; 0 security findings`.

    Kinds of findings that no tool looked for are left out: nothing found is not nothing there.
    """
    parts = [_describe_tests(reading), *_describe_findings(reading)]
    if reading.coverage is not None:
        parts.append(f"coverage {reading.coverage * 100:.0f} %")
    return "; ".join(parts)


def plural(count: int, noun: str) -> str:
    """Return `1 test`, `2 tests`."""
    return f"{count} {noun}" if count == 1 else f"{count} {noun}s"


def _describe_tests(reading: Reading) -> str:
    if not reading.has_tests:
        return "no test report"
    if not reading.n_collected:
        return "no tests collected"
    others = (
        (reading.n_failed, "failed"),
        (reading.n_errors, "broken"),
        (reading.n_skipped, "skipped"),
        (reading.n_xfailed, "failed as expected"),
    )
    said = [f"{count} {word}" for count, word in others if count]
    return ", ".join([f"{plural(reading.n_passed, 'test')} passed", *said])


def _describe_findings(reading: Reading) -> list[str]:
    words = (word for source in reading.sources for word in source.lower().split())
    looked_for = {_KIND_OF_TOOL.get(word) for word in words}
    said: tuple[tuple[Kind, int, str], ...] = (
        ("lint", reading.n_lint, "lint finding"),
        ("types", reading.n_types, "type finding"),
        ("security", reading.n_security, "security finding"),
    )
    return [plural(count, noun) for kind, count, noun in said if count or kind in looked_for]


def _grouped(tests: Mapping[str, str]) -> dict[str, dict[str, list[str]]]:
    grouped: dict[str, dict[str, list[str]]] = {}
    for test, outcome in tests.items():
        cut = test.find(_SEPARATOR)
        cut = 0 if cut < 0 else cut + len(_SEPARATOR)
        grouped.setdefault(outcome, {}).setdefault(test[:cut], []).append(test[cut:])
    return grouped


def _ungrouped(grouped: Mapping[str, Mapping[str, list[str]]]) -> Iterable[tuple[str, str]]:
    for outcome, prefixes in grouped.items():
        for prefix, names in prefixes.items():
            yield from ((prefix + name, outcome) for name in names)


def added(before: Iterable[Finding], after: Iterable[Finding]) -> tuple[tuple[str, str], ...]:
    """Return (rule, path) of findings in `after` beyond those in `before`, counted, not by line.

    A path that is still absolute names another workspace in every run: its file name stands for it.
    """
    more = Counter(map(_place, after)) - Counter(map(_place, before))
    return tuple(sorted(more.elements()))


def _place(finding: Finding) -> tuple[str, str]:
    path = finding.path
    return finding.rule, path.rpartition("/")[2] if path.startswith("/") else path
