"""Readings as a whole: text where there is no report, bounds, storage, one line for people."""

from __future__ import annotations

import json
import time

import pytest
from hypothesis import given
from hypothesis import strategies as st

from blocks.readings import Reading, describe, read_reports
from blocks.readings.reading import OUTCOMES

SUMMARIES: dict[str, tuple[str, dict[str, int] | None]] = {
    "quiet": (
        "3 failed, 10 passed, 2 skipped, 1 xfailed, 1 error in 0.12s",
        {"passed": 10, "failed": 3, "error": 1, "skipped": 2, "xfailed": 1},
    ),
    "framed": ("===== 2 passed, 1 warning in 75.30s (0:01:15) =====", {"passed": 2}),
    "green": ("\x1b[32m\x1b[1m2 passed\x1b[0m\x1b[32m in 0.01s\x1b[0m", {"passed": 2}),
    "old": ("1 passed in 0.10 seconds", {"passed": 1}),
    "xpassed": ("1 xpassed, 3 errors in 0.1s", {"passed": 1, "error": 3}),
    "plugins": ("2 passed, 4 rerun, 3 subtests passed in 0.1s", {"passed": 2}),
    "nothing": ("no tests ran in 0.01s", {}),
    "all deselected": ("15 deselected in 0.69s", {}),
    "two runs": ("2 passed in 0.1s\n1 failed, 1 passed in 0.1s", {"passed": 3, "failed": 1}),
    "unittest": ("Ran 5 tests in 0.001s\n\nOK (skipped=1, expected failures=1)",
                 {"passed": 3, "skipped": 1, "xfailed": 1}),
    "unittest red": ("Ran 4 tests in 0.1s\n\nFAILED (failures=1, errors=2)",
                     {"passed": 1, "failed": 1, "error": 2}),
    "unittest of nothing": ("Ran 0 tests in 0.000s\n\nOK", {}),
    "ruff": ("Found 4 errors.", None),
    "mypy": ("Found 4 errors in 2 files (checked 9 source files)", None),
    "a sentence": ("3 failed attempts in 2 hours", None),
    "jest": ("Tests:       1 failed, 2 passed, 3 total", None),
    "typescript": ("Found 3 errors in 2s", None),
    "files": ("4 files in 2.0s", None),
    "silence": ("", None),
}  # fmt: skip


@pytest.mark.parametrize(("output", "expected"), SUMMARIES.values(), ids=SUMMARIES.keys())
def test_summary_lines_give_counts_and_no_test_ids(
    output: str, expected: dict[str, int] | None
) -> None:
    reading = read_reports(output=output.encode(), command="make test")
    assert reading.tests is None
    filled = None if expected is None else {name: expected.get(name, 0) for name in OUTCOMES}
    assert reading.counts == filled
    assert reading.n_collected == sum((expected or {}).values())


def test_a_report_is_believed_before_the_text() -> None:
    report = b'<testsuite><testcase classname="a" name="b"/></testsuite>'
    reading = read_reports(output=b"7 failed in 1.0s\n", junit=[report], command="pytest")
    assert (reading.n_collected, reading.n_failed) == (1, 0)
    assert reading.sources == ("junit",)


def test_only_the_end_of_a_huge_output_is_read() -> None:
    output = b"9 failed in 1.0s\n" + (b"x" * 1_023 + b"\n") * (17 << 10) + b"3 passed in 0.1s\n"
    began = time.process_time()
    reading = read_reports(output=output, command="pytest")
    assert reading.counts == {"passed": 3, "failed": 0, "error": 0, "skipped": 0, "xfailed": 0}
    assert time.process_time() - began < 5


@pytest.mark.parametrize(
    "line",
    [
        b"[",
        b'{"a":',
        b'[{"a":',
        b'{"a": "',
        b"[{",
        b"[1" + b"1" * 5_000,
        b"a.py:1:" * 500,
        b" in " * 900,
        b"   Location: ",
    ],
)
def test_output_made_to_be_slow_is_read_in_linear_time(line: bytes) -> None:
    began = time.process_time()
    read_reports(output=(line + b"\n") * (400_000 // len(line)), command="make")
    assert time.process_time() - began < 3


def reading(**tests: str) -> Reading:
    return Reading(tests={f"t::{name}": outcome for name, outcome in tests.items()})


DESCRIPTIONS = {
    "128 tests passed, 2 skipped; 0 security findings; coverage 91 %": Reading(
        tests={f"t::{n}": "skipped" if n < 2 else "passed" for n in range(130)},
        coverage=0.912,
        sources=("junit", "bandit json"),
    ),
    "1 test passed, 1 failed, 1 broken, 1 failed as expected": reading(
        a="passed", b="failed", c="error", d="xfailed"
    ),
    "no test report": Reading(),
    "no tests collected": Reading(tests={}),
    "3 tests passed; 0 lint findings": Reading(
        counts={"passed": 3}, sources=("test summary text", "ruff text")
    ),
    "no test report; 0 security findings": Reading(sources=("sarif Semgrep OSS",)),
}


@pytest.mark.parametrize(("line", "described"), DESCRIPTIONS.items())
def test_a_reading_is_said_in_one_line(line: str, described: Reading) -> None:
    assert describe(described) == line


def test_twenty_thousand_tests_are_stored_compactly() -> None:
    tests = {f"tests.unit.test_module_{n % 100}::test_{n}": "passed" for n in range(20_000)}
    stored = json.dumps(Reading(tests=tests).to_json())
    assert len(stored) < 20 * len(tests)
    assert Reading.from_json(json.loads(stored)).tests == tests


@given(
    tests=st.none() | st.dictionaries(st.text(), st.sampled_from(OUTCOMES)),
    counts=st.none() | st.dictionaries(st.sampled_from(OUTCOMES), st.integers(0, 99)),
    coverage=st.none() | st.floats(0, 1),
)
def test_storing_and_loading_changes_nothing(
    tests: dict[str, str] | None, counts: dict[str, int] | None, coverage: float | None
) -> None:
    before = Reading(tests=tests, counts=counts, coverage=coverage, sources=("junit",))
    assert Reading.from_json(json.loads(json.dumps(before.to_json()))) == before


FRAGMENTS = [
    b"<testsuite>", b"</testsuite>", b'<testcase name="a">', b"</testcase>", b"<failure/>", b"<!--",
    b'<?xml version="1.0" encoding="', b"utf-16", b"<!DOCTYPE a", b'[<!ENTITY a "b">]>', b"&a;",
    b'{"runs": [', b'"version": ', b"[", b"{", b"]", b"}", b'"results": ', b'"tool": ', b"null",
    b",",
    b'"ruleId": "x"', b"1e999", b"NaN", b'"\\ud800"', b"\xff", b"\x00", b"\x1b[", b"\r", b"\n",
    b"m.py:1:2: ", b"F401 ", b" --> m.py:1:2\n", b"Found 3 errors.\n", b"3 passed in 1s\n", b"Ran ",
    b"99999999999999999999", b"LF:", b"TOTAL 1 1 1%\n", b'{"code":1,"filename":2,"location":3,',
    b'"message":4}', b'{"file":1,"line":2,"message":3,"code":4,"severity":5}\n',
    b">> Issue: [B1] x\n",
    b'{"generalDiagnostics":[1,{"range":2}]}\n', b'{"results":[1,{}],"metrics":0}\n', b"<coverage ",
    b'line-rate="', b'"/>', b"::error title=x (y),file=a,line=1::b\n", b"   Location: a:1\n",
]  # fmt: skip
hostile = st.binary() | st.lists(st.sampled_from(FRAGMENTS)).map(b"".join)


@given(output=hostile, junit=hostile, sarif=hostile, coverage=hostile, root=st.text())
def test_no_bytes_crash_a_reader_and_what_is_read_can_be_stored(
    output: bytes, junit: bytes, sarif: bytes, coverage: bytes, root: str
) -> None:
    found = read_reports(
        output=output, junit=[junit], sarif=[sarif], coverage=[coverage], command="x", root=root
    )
    stored = json.dumps(found.to_json(), ensure_ascii=False, allow_nan=False).encode()
    assert Reading.from_json(json.loads(stored)) == found
    assert "\n" not in describe(found)
