"""What linters, type checkers and security scanners print and write."""

from __future__ import annotations

import json
from typing import Any

import pytest

from blocks.readings import Finding, Reading, describe, read_reports

Seen = tuple[str, str, int, str, str]


def seen(reading: Reading) -> list[Seen]:
    return [(f.rule, f.path, f.line, f.level, f.kind) for f in reading.findings]


RUFF_OLD = """m.py:1:8: F401 [*] `os` imported but unused
  |
1 | import os
  |        ^^ F401
  |
  = help: Remove unused import: `os`

m.py:5:3: S307 Use of possibly insecure function
Found 2 errors.
[*] 1 fixable with the `--fix` option.
"""
RUFF_FULL = """F401 [*] `os` imported but unused
 --> m.py:1:8
  |
1 | import os
  |        ^^
help: Remove unused import: `os`

S307 Use of possibly insecure function
 --> m.py:5:3
  |
Found 2 errors.
"""
RUFF_GROUPED = """m.py:
  1:8  F401 [*] `os` imported but unused
  5:3  S307 Use of possibly insecure function

Found 2 errors.
"""
RUFF_PYLINT = """m.py:1: [F401] `os` imported but unused
m.py:5: [S307] Use of possibly insecure function
"""
RUFF_GITHUB = """::error title=ruff (F401),file=/w/m.py,line=1,col=8,endLine=1,endColumn=10::F401 os
::error title=ruff (S307),file=/w/m.py,line=5,col=3,endLine=5,endColumn=10::m.py:5:3: S307 Use
"""


def ruff_entry(code: str | None, row: int, **more: object) -> dict[str, object]:
    place = {"row": row, "column": 1}
    return {
        "code": code,
        "filename": "/w/m.py",
        "location": place,
        "message": "no",
        "url": "",
        **more,
    }


RUFF_ENTRIES = [ruff_entry("F401", 1), ruff_entry("S307", 5)]
RUFF_OUTPUTS = {
    "full, old": RUFF_OLD,
    "full, new": RUFF_FULL,
    "coloured": RUFF_FULL.replace("F401", "\x1b[1;31mF401\x1b[0m").replace(
        "-->", "\x1b[34m-->\x1b[0m"
    ),
    "windows lines": RUFF_FULL.replace("\n", "\r\n"),
    "grouped": RUFF_GROUPED,
    "pylint": RUFF_PYLINT,
    "github": RUFF_GITHUB,
    "json": json.dumps(RUFF_ENTRIES, indent=2),
    "json in one line after text": "warning: old settings\n" + json.dumps(RUFF_ENTRIES),
    "json lines": "\n".join(map(json.dumps, RUFF_ENTRIES)),
}


@pytest.mark.parametrize("output", RUFF_OUTPUTS.values(), ids=RUFF_OUTPUTS.keys())
def test_ruff_is_read_in_every_format(output: str) -> None:
    reading = read_reports(output=output.encode(), command="ruff check .", root="/w")
    assert seen(reading) == [
        ("S307", "m.py", 5, "error", "security"),
        ("F401", "m.py", 1, "error", "lint"),
    ]
    assert (reading.n_lint, reading.n_security) == (1, 1)
    assert reading.tests is None
    assert reading.counts is None


def test_found_n_errors_of_ruff_is_not_n_failed_tests() -> None:
    reading = read_reports(output=b"....\n4 passed in 0.02s\n" + RUFF_OLD.encode(), command="make")
    assert reading.n_failed == reading.n_errors == 0
    assert reading.n_passed == 4
    assert len(reading.findings) == 2


UNKNOWN_FORMATS = {
    "a format of the future": ("~~ F401 in m.py ~~\nFound 3 errors.\n", 3),
    "statistics": ("3\tF401\t[*] unused-import\nFound 3 errors.\n", 3),
    "after fixing": ("Found 5 errors (3 fixed, 2 remaining).\n", 2),
    "one of two read": ("m.py:1:8: F401 unused\nFound 2 errors.\n", 2),
    "two runs": ("Found 1 error.\nFound 2 errors.\n", 3),
    "absurd": ("Found 999999999 errors.\n", 1_000),
}


@pytest.mark.parametrize(("output", "count"), UNKNOWN_FORMATS.values(), ids=UNKNOWN_FORMATS.keys())
def test_a_ruff_format_that_nobody_knows_is_not_clean(output: str, count: int) -> None:
    assert read_reports(output=output.encode(), command="ruff").n_lint == count


def test_a_clean_ruff_is_told_from_a_silent_one() -> None:
    clean = read_reports(output=b"All checks passed!\n", command="ruff check")
    assert clean.sources == ("ruff text",)
    assert describe(clean) == "no test report; 0 lint findings"
    assert read_reports(output=b"", command="ruff check").sources == ()


def test_syntax_errors_of_every_ruff_version_are_findings() -> None:
    lines = [
        "a.py:1:7: E999 SyntaxError: Expected",
        "b.py:1:7: SyntaxError: Expected",
        "c.py:1:7: invalid-syntax: Expected",
        "d.py:1:7: unused-import: [*] `os` imported but unused",
        "e.ipynb:cell 3:1:7: F401 [*] `os` imported but unused",
    ]
    reading = read_reports(output="\n".join(lines).encode(), command="ruff")
    assert [f.rule for f in reading.findings] == [
        "E999",
        "SyntaxError",
        "invalid-syntax",
        "unused-import",
        "F401",
    ]
    assert reading.findings[-1].path == "e.ipynb"


def test_a_ruff_json_entry_without_a_code_is_a_syntax_error() -> None:
    reading = read_reports(output=json.dumps([ruff_entry(None, 3)]).encode(), command="ruff")
    assert seen(reading) == [("invalid-syntax", "/w/m.py", 3, "error", "lint")]


def test_flake8_and_pylint_are_called_by_their_names() -> None:
    output = b"m.py:1:1: F401 'os' imported but unused\n"
    assert read_reports(output=output, command="flake8 src").sources == ("flake8 text",)
    line = b"m.py:1:0: C0114: Missing module docstring (missing-module-docstring)\n"
    reading = read_reports(output=line, command="pylint src")
    assert seen(reading) == [("C0114", "m.py", 1, "error", "lint")]


MYPY_TEXT = """m.py:3: error: Incompatible types in assignment  [assignment]
m.py:4: note: See https://mypy.readthedocs.io
m.py:9:3:9:7: error: Name "x" is not defined  [name-defined]
pkg/n.pyi: error: Source file found twice
Found 3 errors in 2 files (checked 5 source files)
"""


def test_mypy_text_is_read() -> None:
    reading = read_reports(output=MYPY_TEXT.encode(), command="mypy .")
    assert seen(reading) == [
        ("assignment", "m.py", 3, "error", "types"),
        ("mypy", "m.py", 4, "note", "types"),
        ("name-defined", "m.py", 9, "error", "types"),
        ("mypy", "pkg/n.pyi", 0, "error", "types"),
    ]
    assert reading.n_types == 3
    assert reading.n_failed == 0


def test_mypy_json_is_read() -> None:
    entry = {
        "file": "m.py",
        "line": 3,
        "column": 9,
        "message": "no",
        "hint": None,
        "code": "assignment",
        "severity": "error",
    }
    output = "\n".join(map(json.dumps, [entry, {**entry, "severity": "note", "code": None}]))
    reading = read_reports(
        output=(output + "\nFound 1 error in 1 file (checked 1 source file)\n").encode(),
        command="mypy -O json",
    )
    assert seen(reading) == [
        ("assignment", "m.py", 3, "error", "types"),
        ("mypy", "m.py", 3, "note", "types"),
    ]


def test_a_clean_mypy_has_spoken() -> None:
    reading = read_reports(output=b"Success: no issues found in 4 source files\n", command="make")
    assert describe(reading) == "no test report; 0 type findings"


def test_a_c_compiler_is_not_mypy() -> None:
    assert not read_reports(output=b"foo.c:3:5: error: expected ';'\n", command="make").findings


def test_pyright_is_read_as_json_and_text() -> None:
    entry = {
        "file": "/w/m.py",
        "severity": "error",
        "message": "no",
        "range": {"start": {"line": 2, "character": 4}},
        "rule": "reportCallIssue",
    }
    hint = {**entry, "severity": "information", "rule": ""}
    report = json.dumps({"version": "1", "generalDiagnostics": [entry, hint], "summary": {}})
    text = (
        "/w/m.py\n  /w/m.py:3:5 - error: no (reportCallIssue)\n"
        "  /w/m.py:3:5 - information: no\n1 error, 0 warnings, 1 information\n"
    )
    for output in (report, text):
        reading = read_reports(output=output.encode(), command="pyright", root="/w/")
        assert seen(reading) == [
            ("reportCallIssue", "m.py", 3, "error", "types"),
            ("pyright", "m.py", 3, "note", "types"),
        ]


BANDIT_TEXT = """Run started:2026-01-01
Test results:
>> Issue: [B307:blacklist] Use of possibly insecure function.
   Severity: Medium   Confidence: High
   CWE: CWE-78 (https://cwe.mitre.org/data/definitions/78.html)
   More Info: https://bandit.readthedocs.io
   Location: ./m.py:5:2
4\tdef f(x):
5\t  eval(x)

--------------------------------------------------
>> Issue: [B101:assert_used] Use of assert detected.
   Severity: Low   Confidence: High
   Location: m.py:6
--------------------------------------------------
"""


def test_bandit_is_read_as_json_and_text_whatever_its_exit_code() -> None:
    def entry(rule: str, severity: str, line: int) -> dict[str, object]:
        return {
            "filename": "./m.py",
            "issue_severity": severity,
            "issue_text": "no",
            "line_number": line,
            "test_id": rule,
        }

    results = [entry("B307", "MEDIUM", 5), entry("B101", "LOW", 6)]
    report = json.dumps({"errors": [], "metrics": {}, "results": results}, indent=2)
    for output in (report, BANDIT_TEXT):
        reading = read_reports(output=output.encode(), command="bandit -r .")
        assert seen(reading) == [
            ("B307", "m.py", 5, "warning", "security"),
            ("B101", "m.py", 6, "note", "security"),
        ]
        assert reading.n_security == 2


def test_a_clean_bandit_has_spoken() -> None:
    output = b"Test results:\n\tNo issues identified.\n"
    assert describe(read_reports(output=output, command="bandit")) == (
        "no test report; 0 security findings"
    )


def sarif(results: list[Any], *, tool: str = "acme", rules: list[Any] | None = None) -> bytes:
    driver = {"name": tool, "rules": rules or []}
    run = {"tool": {"driver": driver}, "results": results}
    return json.dumps({"version": "2.1.0", "runs": [run]}).encode()


def result(rule: str | None = "R1", **more: object) -> dict[str, object]:
    place = {"artifactLocation": {"uri": "file:///w/src/a%20b.py"}, "region": {"startLine": 7}}
    named = {"ruleId": rule} if rule else {}
    return {
        **named,
        "message": {"text": "no"},
        "locations": [{"physicalLocation": place}],
        **more,
    }


TAGGED = {"id": "R1", "properties": {"tags": ["security", "external/cwe/cwe-078"]}}
SCORED = {"id": "R1", "properties": {"security-severity": "8.1"}}
QUIET = {"id": "R1", "defaultConfiguration": {"level": "note"}}
SARIF: dict[str, tuple[bytes, list[tuple[str, str, str]]]] = {
    "plain": (sarif([result()]), [("R1", "warning", "lint")]),
    "level of the result": (sarif([result(level="error")]), [("R1", "error", "lint")]),
    "level of the rule": (sarif([result()], rules=[QUIET]), [("R1", "note", "lint")]),
    "level none": (sarif([result(level="none")]), []),
    "rule by index": (
        sarif([result(None, ruleIndex=0)], rules=[TAGGED]),
        [("R1", "warning", "security")],
    ),
    "tagged": (sarif([result()], rules=[TAGGED]), [("R1", "warning", "security")]),
    "scored": (sarif([result()], rules=[SCORED]), [("R1", "warning", "security")]),
    "sub-rule": (sarif([result("R1/2")], rules=[SCORED]), [("R1/2", "warning", "security")]),
    "bandit": (sarif([result()], tool="Bandit"), [("R1", "warning", "security")]),
    "semgrep": (sarif([result()], tool="Semgrep OSS"), [("R1", "warning", "security")]),
    "ruff": (sarif([result("S307"), result("F401")], tool="ruff"),
             [("S307", "warning", "security"), ("F401", "warning", "lint")]),
    "mypy": (sarif([result()], tool="mypy"), [("R1", "warning", "types")]),
    "suppressed": (sarif([result(suppressions=[{"kind": "inSource"}])]), []),
    "suppression refused": (
        sarif([result(suppressions=[{"kind": "external", "status": "rejected"}])]),
        [("R1", "warning", "lint")],
    ),
    "a pass": (sarif([result(kind="pass")]), []),
    "gone": (sarif([result(baselineState="absent")]), []),
    "nothing": (sarif([]), []),
}  # fmt: skip


@pytest.mark.parametrize(("document", "expected"), SARIF.values(), ids=SARIF.keys())
def test_sarif_is_read_from_a_file_and_from_the_output(
    document: bytes, expected: list[tuple[str, str, str]]
) -> None:
    for reading in (
        read_reports(output=b"", sarif=[document], root="/w"),
        read_reports(output=b"scanning\n" + document, root="/w"),
    ):
        assert [(f.rule, f.level, f.kind) for f in reading.findings] == expected
        assert all((f.path, f.line) == ("src/a b.py", 7) for f in reading.findings)
        assert reading.sources[0].startswith("sarif")


def test_sarif_with_everything_of_the_wrong_type_is_harmless() -> None:
    wrong: list[Any] = [None, 1, "x", [], {}, True, 1e999]
    for value in wrong:
        broken = [result(ruleIndex=value, locations=value, message=value, level=value, kind=value)]
        reading = read_reports(
            output=b"",
            sarif=[
                sarif([value, *broken], rules=[value]),
                json.dumps({"version": "2.1.0", "runs": [value, {"tool": value}]}).encode(),
            ],
        )
        assert not reading.unreadable


@pytest.mark.parametrize("document", [b"", b"[]", b'{"runs": 3}', b"[" * 100_000, b"\xff\xfe{"])
def test_a_sarif_report_that_cannot_be_read_is_named(document: bytes) -> None:
    reading = read_reports(output=b"", sarif=[document])
    assert reading.unreadable
    assert reading.unreadable[0].startswith("sarif: ")


def test_half_a_surrogate_pair_cannot_break_what_is_stored() -> None:
    entry = json.dumps([ruff_entry("F401", 1)]).replace('"no"', '"\\ud800 \\n x"')
    (finding,) = read_reports(output=entry.encode(), command="ruff").findings
    assert finding.message.encode()
    assert "\n" not in finding.message


def test_a_command_that_runs_a_tool_twice_shows_both() -> None:
    output = (
        json.dumps([ruff_entry("F401", 1)]) + "\nn.py:2:1: E501 Line too long\nFound 1 error.\n"
    )
    rules = [f.rule for f in read_reports(output=output.encode(), command="make").findings]
    assert rules == ["F401", "E501"]


def test_lint_findings_are_bounded_and_security_findings_are_all_kept() -> None:
    lines = [f"m.py:{n}:1: E501 long" for n in range(6_000)]
    lines += [f"m.py:{n}:1: S101 assert" for n in range(100)]
    reading = read_reports(output="\n".join(lines).encode(), command="ruff")
    assert (reading.n_lint, reading.n_security) == (5_000, 100)
    assert "1000 more findings, not kept" in reading.sources


def test_a_finding_is_plain_data() -> None:
    finding = Finding(rule="a", path="b", line=1, level="error", kind="lint", message="c")
    reading = Reading(findings=(finding,))
    assert Reading.from_json(json.loads(json.dumps(reading.to_json()))) == reading
