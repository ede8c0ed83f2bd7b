"""JUnit XML: pytest, surefire, jest-junit, gotestsum, cargo-nextest, node, vitest, googletest.

A test's id is its class name, `::` and its name. Where the class name says nothing (node writes
`test` everywhere) the enclosing suites stand in for it. What differs from run to run (addresses in
memory, the workspace's path) is taken out, so that the same test has the same id on every tree.

One report is what one test runner wrote last: a second pytest in the same command overwrites the
first one's file. `Reading.counts`, from the output, tells when that happened.
Source: https://github.com/testmoapp/junitxml
"""

from __future__ import annotations

import hashlib
import re
from collections import Counter
from collections.abc import Iterable, Mapping

from blocks.readings.documents import Unreadable, walk_xml
from blocks.readings.reading import Outcome

MAX_ID_CHARACTERS = 300
MAX_SUITES = 8
COLLECTION = "::"
"""How ids of pytest's pseudo-tests begin that stand for a module which could not be collected."""

_ADDRESS = re.compile(r"0x[0-9a-fA-F]{6,}")
_NOT_RUN = frozenset({"notrun", "disabled", "skipped", "ignored"})
_RESULTS = frozenset({"failure", "error", "skipped"})
_SEVERITY = {"passed": 0, "skipped": 1, "xfailed": 2, "failed": 3, "error": 4}


def read(documents: Iterable[bytes], *, root: str = "") -> tuple[dict[str, str] | None, list[str]]:
    """Return outcomes by test id (None: no readable report), and why others were not readable."""
    found: list[tuple[str, Outcome]] = []
    n_read, problems = 0, list[str]()
    for document in dict.fromkeys(documents):
        report = _Report(root)
        try:
            walk_xml(document, start=report.start, end=report.end)
            report.check()
        except Unreadable as error:
            problems.append(str(error))
        else:
            n_read += 1
            found.extend(report.results)
    return (_by_id(found) if n_read else None), problems


class _Report:
    """Listens to one document and keeps what each test case came to."""

    def __init__(self, root: str) -> None:
        self.results: list[tuple[str, Outcome]] = []
        self._root = root.rstrip("/") + "/" if root else ""
        self._open: list[str] = []
        self._suites: list[str] = []
        self._case: Mapping[str, str] | None = None
        self._case_depth = 0
        self._marks: list[tuple[str, Mapping[str, str]]] = []
        self._is_report = False

    def start(self, tag: str, attributes: Mapping[str, str]) -> None:
        tag = tag.rpartition(":")[2]
        if not self._open:
            self._is_report = tag in {"testsuites", "testsuite"}
        if tag == "testsuite":
            self._suites.append(attributes.get("name", "")[:MAX_ID_CHARACTERS])
        elif tag == "testcase" and self._case is None:
            self._case, self._case_depth, self._marks = attributes, len(self._open), []
        elif tag in _RESULTS and self._case is not None and len(self._open) == self._case_depth + 1:
            self._marks.append((tag, attributes))
        elif tag in _RESULTS and self._open[-1:] == ["testsuite"]:
            # The suite itself failed: node's parent tests, hooks.
            self._keep({"name": "(suite)"}, [(tag, attributes)])
        self._open.append(tag)

    def end(self, tag: str) -> None:
        tag = tag.rpartition(":")[2]
        self._open.pop()
        if tag == "testsuite":
            self._suites.pop()
        elif self._case is not None and len(self._open) == self._case_depth:
            self._keep(self._case, self._marks)
            self._case = None

    def check(self) -> None:
        if not self._is_report:
            raise Unreadable("no test report: its root is neither testsuites nor testsuite")

    def _keep(self, case: Mapping[str, str], marks: list[tuple[str, Mapping[str, str]]]) -> None:
        test, outcome = self._id(case, marks), _outcome(case, marks)
        if marks and _is_teardown(marks) and self.results and self.results[-1][0] == test:
            # pytest opens a second case for a test that failed and whose tear-down broke.
            self.results[-1] = (test, max(self.results[-1][1], outcome, key=_SEVERITY.__getitem__))
        else:
            self.results.append((test, outcome))

    def _id(self, case: Mapping[str, str], marks: list[tuple[str, Mapping[str, str]]]) -> str:
        group = case.get("classname", "")
        if group in {"", "test"} and not _is_collection(marks):
            group = " > ".join(filter(None, self._suites[-MAX_SUITES:])) or group
        return _short(self._stable(group) + "::" + self._stable(case.get("name", "")))

    def _stable(self, text: str) -> str:
        if self._root:
            text = text.replace(self._root, "")
        return " ".join(_ADDRESS.sub("0x…", text).split())


def _outcome(case: Mapping[str, str], marks: list[tuple[str, Mapping[str, str]]]) -> Outcome:
    tags = {tag for tag, _ in marks}
    kinds = {attributes.get("type", "") for tag, attributes in marks if tag == "skipped"}
    if "todo" in kinds:
        return "xfailed"  # node runs a test marked so and forgives what it does
    if "error" in tags:
        return "error"
    if "failure" in tags:
        return "failed"
    if "pytest.xfail" in kinds:
        return "xfailed"
    not_run = case.get("status", "").lower() in _NOT_RUN
    return "skipped" if "skipped" in tags or not_run else "passed"


def _is_teardown(marks: list[tuple[str, Mapping[str, str]]]) -> bool:
    tag, attributes = marks[0]
    return tag == "error" and attributes.get("message", "").startswith("failed on teardown")


def _is_collection(marks: list[tuple[str, Mapping[str, str]]]) -> bool:
    said = {attributes.get("message", "") for _, attributes in marks}
    return bool(said & {"collection failure", "collection skipped"})


def _short(test: str) -> str:
    if len(test) <= MAX_ID_CHARACTERS:
        return test
    digest = hashlib.sha256(test.encode(errors="replace")).hexdigest()[:12]
    return f"{test[: MAX_ID_CHARACTERS - 13]}…{digest}"


def _by_id(results: list[tuple[str, Outcome]]) -> dict[str, str]:
    """Name equal ids apart by `#2`, `#3`, the better outcomes first: order differs between runs."""
    results.sort(key=lambda result: _SEVERITY[result[1]])
    named: dict[str, str] = {}
    again: list[tuple[str, Outcome]] = []
    for test, outcome in results:
        if test in named:
            again.append((test, outcome))
        else:
            named[test] = outcome
    seen: Counter[str] = Counter()
    for test, outcome in again:
        seen[test] += 1
        while (name := f"{test}#{seen[test] + 1}") in named:
            seen[test] += 1
        named[name] = outcome
    return named
