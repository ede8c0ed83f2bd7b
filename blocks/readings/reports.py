"""From what a probe left behind, bytes alone, to a `Reading`."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from typing import NamedTuple, Protocol

from blocks.readings import bandit, coverage, junit, mypy, pyright, pytest_text, ruff, sarif
from blocks.readings.documents import Unreadable, json_values, lines_of, text_of
from blocks.readings.reading import UNREADABLE, Finding, Reading

MAX_FINDINGS = 5_000
"""How many lint and type findings a reading keeps; security findings are all kept."""


class _FromJson(Protocol):
    def __call__(self, value: object, *, root: str) -> tuple[Finding, ...] | None: ...


class _FromLines(Protocol):
    def __call__(self, lines: Sequence[str], *, root: str) -> tuple[Finding, ...] | None: ...


class _Tool(NamedTuple):
    name: str
    from_json: _FromJson
    from_lines: _FromLines


_TOOLS = (
    _Tool("ruff", ruff.read_json, ruff.read_lines),
    _Tool("mypy", mypy.read_json, mypy.read_lines),
    _Tool("pyright", pyright.read_json, pyright.read_lines),
    _Tool("bandit", bandit.read_json, bandit.read_lines),
)


@dataclass(slots=True, kw_only=True)
class _Gathered:
    """What was read so far, and from where."""

    findings: list[Finding] = field(default_factory=list)
    sources: dict[str, None] = field(default_factory=dict)

    def add(self, source: str, findings: Iterable[Finding] = ()) -> None:
        self.sources[source] = None
        self.findings.extend(findings)


def read_reports(
    *,
    output: bytes,
    junit: Iterable[bytes] = (),
    sarif: Iterable[bytes] = (),
    coverage: Iterable[bytes] = (),
    command: str = "",
    root: str = "",
) -> Reading:
    """Read everything that a verification run left behind; never raises on what is in it.

    `output` is both streams of the command (its last 16 MiB are read), the others are the contents
    of report files. Paths below `root`, the workspace, become relative, so that readings of two
    workspaces compare. A report that cannot be read counts as missing; `Reading.unreadable` has
    the reason. `command` only tells apart tools that print the same lines.
    """
    gathered = _Gathered()
    text = text_of(output)
    lines = lines_of(text)
    tests = _read_junit(junit, gathered, root)
    _read_sarif(sarif, gathered, root)
    _read_tools(text, lines, gathered, command=command, root=root)
    counts = pytest_text.read_lines(lines)
    if counts is not None and tests is None:
        gathered.add("test summary text")
    covered = _read_coverage(coverage, lines, gathered)
    return Reading(
        tests=tests,
        findings=_bounded(gathered),
        coverage=covered,
        sources=tuple(gathered.sources),
        counts=counts,
    )


def _read_junit(
    documents: Iterable[bytes], gathered: _Gathered, root: str
) -> dict[str, str] | None:
    tests, problems = junit.read(documents, root=root)
    if tests is not None:
        gathered.add("junit")
    for problem in problems:
        gathered.add(f"{UNREADABLE}junit: {problem}")
    return tests


def _read_sarif(documents: Iterable[bytes], gathered: _Gathered, root: str) -> None:
    for document in dict.fromkeys(documents):
        try:
            findings, tools = sarif.read(document, root=root)
        except Unreadable as error:
            gathered.add(f"{UNREADABLE}sarif: {error}")
        else:
            gathered.add(_sarif_source(tools), findings)


def _sarif_source(tools: Iterable[str]) -> str:
    return " ".join(["sarif", *dict.fromkeys(tools)])[:200]


def _read_tools(
    text: str, lines: Sequence[str], gathered: _Gathered, *, command: str, root: str
) -> None:
    """Read what tools printed, as JSON and as text: one command may run a tool twice."""
    spoke: set[str] = set()
    for value in json_values(text):
        for name, findings in _from_json(value, root):
            spoke.add(name.split()[0])
            gathered.add(name, findings)
    for tool in _TOOLS:
        found = tool.from_lines(lines, root=root)
        if found is not None and tool.name in spoke:
            # What the text only counts, the JSON has named.
            found = tuple(finding for finding in found if finding.path)
        if found is not None:
            gathered.add(f"{_named(tool.name, command)} text", found)


def _from_json(value: object, root: str) -> Iterator[tuple[str, tuple[Finding, ...]]]:
    if sarif.is_sarif(value):
        yield _sarif_source(sarif.tools_of(value)), sarif.findings_of(value, root=root)
        return
    for tool in _TOOLS:
        found = tool.from_json(value, root=root)
        if found is not None:
            yield f"{tool.name} json", found
            return


def _named(tool: str, command: str) -> str:
    if tool == "ruff" and "ruff" not in command:
        return next((other for other in ("flake8", "pylint") if other in command), tool)
    return tool


def _read_coverage(
    documents: Iterable[bytes], lines: Sequence[str], gathered: _Gathered
) -> float | None:
    parts: list[coverage.Lines] = []
    for document in dict.fromkeys(documents):
        try:
            parts.append(coverage.read(document))
        except Unreadable as error:
            gathered.add(f"{UNREADABLE}coverage: {error}")
        else:
            gathered.add("coverage")
    if not parts and (printed := coverage.read_lines(lines)):
        parts.append(printed)
        gathered.add("coverage text")
    return coverage.rate(parts)


def _bounded(gathered: _Gathered) -> tuple[Finding, ...]:
    security = [finding for finding in gathered.findings if finding.kind == "security"]
    others = [finding for finding in gathered.findings if finding.kind != "security"]
    if len(others) > MAX_FINDINGS:
        gathered.add(f"{len(others) - MAX_FINDINGS} more findings, not kept")
    return (*security, *others[:MAX_FINDINGS])
