"""Exit code and readings, weighed: one table of cases a rule."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from blocks.readings import Finding, Reading
from blocks.readings.reading import OUTCOMES
from blocks.verifier import MAX_REASON_CHARACTERS, Judgement, Verdict, judge, regression

PASSED, RED, NOT_A_RUN = Judgement.PASSED, Judgement.RED, Judgement.NOT_A_RUN


def reading(**tests: str) -> Reading:
    return Reading(tests={f"t::{name}": outcome for name, outcome in tests.items()})


GREEN = reading(a="passed", b="passed")
ACCEPT = ": a unit needs may_remove_tests for this"
GONE = f"of green no longer collected (deleted, renamed or moved){ACCEPT}"


def verdict(found: Reading = GREEN, **said: Any) -> Verdict:
    defaults: dict[str, Any] = {
        "exit_code": 0,
        "signal": None,
        "ending": "exited",
        "detail": "",
        "timeout_seconds": 300.0,
        "output": b"",
        "expects_junit": False,
        "baseline": None,
        "may_remove_tests": False,
    }
    return judge(reading=found, **{**defaults, **said})


def finding(rule: str, path: str, line: int = 1, kind: Any = "security") -> Finding:
    return Finding(rule=rule, path=path, line=line, level="error", kind=kind, message="no")


def with_findings(*findings: Finding) -> Reading:
    return Reading(tests=GREEN.tests, findings=findings)


def test_exit_code_zero_and_a_green_report_pass() -> None:
    found = verdict()
    assert found.judgement is PASSED
    assert found.reason == "2 tests passed"
    assert found.reading == GREEN
    assert found.failing == ()


def test_a_command_without_tests_is_judged_by_its_exit_code() -> None:
    assert verdict(Reading()).judgement is PASSED
    assert verdict(Reading(), exit_code=1).judgement is RED


@pytest.mark.parametrize("ending", ["lost", "killed", "lease_expired"])
@pytest.mark.parametrize("exit_code", [None, 0, 1])
def test_infrastructure_blames_nobody_whatever_else_is_there(
    ending: str, exit_code: int | None
) -> None:
    found = verdict(ending=ending, exit_code=exit_code, signal=9, detail="host went away")
    assert found.judgement is NOT_A_RUN
    assert found.reason.endswith("host went away")


def test_an_ending_without_exit_code_or_signal_is_no_run() -> None:
    found = verdict(exit_code=None)
    assert found.judgement is NOT_A_RUN


NO_EXIT_CODE = {
    "timeout": (
        {"ending": "timed_out", "exit_code": None, "signal": 9, "output": b"a\nstill here\n"},
        "timed out after 300 s; last line of output: still here",
    ),
    "signal": ({"exit_code": None, "signal": 11}, "ended by signal 11 (SIGSEGV)"),
    "unknown signal": ({"exit_code": None, "signal": 99}, "ended by signal 99"),
    "signal as subprocess says it": ({"exit_code": -9}, "ended by signal 9 (SIGKILL)"),
    "signal as a shell says it": (
        {"exit_code": 137},
        "exit code 137: a process of it was ended by signal 9 (SIGKILL)",
    ),
    "not started": (
        {"ending": "not_started", "exit_code": None, "detail": "uv: No such file or directory"},
        "command not found: uv; put its folder into [environment] path",
    ),
    "folder is gone": (
        {"ending": "not_started", "exit_code": None, "detail": "/w/3: No such file or directory"},
        "could not be started: /w/3: No such file or directory",
    ),
    "not started for another reason": (
        {"ending": "not_started", "exit_code": None, "detail": "Resource temporarily unavailable"},
        "could not be started: Resource temporarily unavailable",
    ),
    "not executable": (
        {"exit_code": 126, "output": b"sh: c: Permission denied\n"},
        "command cannot be executed (exit code 126); last line of output: sh: c: Permission denied",
    ),
}


@pytest.mark.parametrize(("said", "reason"), NO_EXIT_CODE.values(), ids=NO_EXIT_CODE.keys())
def test_what_did_not_come_to_its_end_is_red(said: dict[str, Any], reason: str) -> None:
    found = verdict(**said)
    assert (found.judgement, found.reason) == (RED, reason)


NOT_FOUND = {
    "dash": (127, "sh: 1: pytest: not found"),
    "dash in a file": (127, "./run.sh: 12: pytest: not found"),
    "bash": (127, "bash: line 1: pytest: command not found"),
    "bash in a file": (127, "ci/run.sh: line 3: pytest: command not found"),
    "busybox": (127, "sh: pytest: not found"),
    "env": (127, "/usr/bin/env: \u2018pytest\u2019: No such file or directory"),
    "make": (2, "make: pytest: No such file or directory\nmake: *** [Makefile:2: test] Error 127"),
    "make by a shell": (2, "/bin/sh: 1: pytest: not found\nmake[1]: *** [m:2: test] Error 127"),
}


@pytest.mark.parametrize(("code", "output"), NOT_FOUND.values(), ids=NOT_FOUND.keys())
def test_a_missing_command_is_named_with_its_mend(code: int, output: str) -> None:
    found = verdict(Reading(), exit_code=code, output=f"hello\n{output}\n".encode())
    assert found.judgement is RED
    assert found.reason == "command not found: pytest; put its folder into [environment] path"


FAILED: dict[str, tuple[Reading, int, bytes, str]] = {
    "green report": (GREEN, 1, b"boom\n", "exit code 1: boom"),
    "failures": (
        reading(a="failed", b="error", c="passed"), 1, b"",
        "exit code 1: 2 tests (t::a, t::b) failing",
    ),
    "many failures": (
        reading(**{f"n{n}": "failed" for n in range(7)}), 1, b"",
        "exit code 1: 7 tests (t::n0, t::n1, t::n2, t::n3, t::n4 and 2 more) failing",
    ),
    "failures by text": (
        Reading(counts={"failed": 1, "passed": 2}), 1, b"F..\n1 failed, 2 passed in 1s\n",
        "exit code 1: 1 test failing; last line of output: 1 failed, 2 passed in 1s",
    ),
    "findings": (
        with_findings(finding("F401", "m.py", 3, "lint")), 1, b"",
        "exit code 1: 1 finding: F401 in m.py:3",
    ),
    "silence": (Reading(), 3, b"\n\n", "exit code 3: no output"),
    "nothing collected": (
        reading(), 5, b"15 deselected in 0.1s\n",
        "no tests were collected (exit code 5); last line of output: 15 deselected in 0.1s",
    ),
    "no signal": (Reading(), 255, b"", "exit code 255: no output"),
}  # fmt: skip


@pytest.mark.parametrize(
    ("found", "exit_code", "output", "reason"), FAILED.values(), ids=FAILED.keys()
)
def test_an_exit_code_other_than_zero_is_red_and_says_what_failed(
    found: Reading, exit_code: int, output: bytes, reason: str
) -> None:
    seen = verdict(found, exit_code=exit_code, output=output)
    assert (seen.judgement, seen.reason) == (RED, reason)
    assert seen.failing == found.failing


HOLLOW: dict[str, tuple[Reading, str]] = {
    "swallowed exit code": (
        reading(a="failed", b="passed"),
        "exit code 0 although the report shows 1 test (t::a) failing: the code was swallowed",
    ),
    "swallowed by text": (
        Reading(counts={"failed": 2, "passed": 1}),
        "exit code 0 although the report shows 2 tests failing: the code was swallowed",
    ),
    "swallowed in an earlier run of the command": (
        Reading(tests=GREEN.tests, counts={"passed": 4, "failed": 1}),
        "exit code 0 although the report shows 1 test failing: the code was swallowed",
    ),
    "empty report": (
        reading(),
        "no tests were collected: a run without tests is not a pass",
    ),
    "no tests ran": (
        Reading(counts=dict.fromkeys(OUTCOMES, 0)),
        "no tests were collected: a run without tests is not a pass",
    ),
    "all skipped": (
        reading(a="skipped", b="skipped"),
        "all 2 tests skipped: nothing was verified",
    ),
    "all skipped by text": (
        Reading(counts={"skipped": 1}),
        "all 1 test skipped: nothing was verified",
    ),
}


@pytest.mark.parametrize(("found", "reason"), HOLLOW.values(), ids=HOLLOW.keys())
def test_exit_code_zero_alone_is_not_a_pass(found: Reading, reason: str) -> None:
    seen = verdict(found)
    assert (seen.judgement, seen.reason) == (RED, reason)


def test_expected_failures_and_skips_beside_passes_are_fine() -> None:
    assert verdict(reading(a="passed", b="xfailed", c="skipped")).judgement is PASSED
    assert verdict(reading(a="xfailed")).judgement is PASSED


def test_a_second_run_of_skips_does_not_hide_the_passes_of_the_first() -> None:
    found = Reading(tests={"t::a": "skipped"}, counts={"passed": 3, "skipped": 1})
    assert verdict(found).judgement is PASSED


def test_a_missing_report_is_red_where_one_was_promised() -> None:
    assert verdict(Reading()).judgement is PASSED
    seen = verdict(Reading(counts={"passed": 3}), expects_junit=True)
    assert (seen.judgement, seen.reason) == (
        RED,
        "missing report: no readable file matches [verify] junit",
    )
    assert verdict(expects_junit=True).judgement is PASSED


def test_a_damaged_report_is_a_missing_report_and_the_reason_says_so() -> None:
    damaged = Reading(tests=GREEN.tests, sources=("junit", "unreadable junit: not well-formed XML"))
    seen = verdict(damaged, expects_junit=True)
    assert seen.judgement is RED
    assert seen.reason.endswith("(junit: not well-formed XML)")


REGRESSED: dict[str, tuple[Reading, Reading, str]] = {
    "fewer ids": (
        GREEN,
        reading(a="passed"),
        f"1 test (t::b) {GONE}",
    ),
    "renamed": (
        GREEN,
        reading(a="passed", c="passed", d="passed"),
        f"1 test (t::b) {GONE}",
    ),
    "many": (
        reading(**{f"n{n}": "passed" for n in range(50)}),
        reading(n0="passed"),
        f"49 tests (t::n1, t::n10, t::n11, t::n12, t::n13 and 44 more) {GONE}",
    ),
    "newly skipped": (
        GREEN,
        reading(a="passed", b="skipped"),
        f"1 test (t::b) skipped now that ran on green{ACCEPT}",
    ),
    "an expected failure skipped": (
        reading(a="passed", b="xfailed"),
        reading(a="passed", b="skipped"),
        f"1 test (t::b) skipped now that ran on green{ACCEPT}",
    ),
    "newly expected to fail": (
        GREEN,
        reading(a="passed", b="xfailed"),
        f"1 test (t::b) expected to fail now that passed on green{ACCEPT}",
    ),
    "the report is gone": (
        GREEN,
        Reading(),
        "missing report: green shows 2 tests, this run none" + ACCEPT.replace(":", ";", 1),
    ),
    "ids became figures": (
        GREEN,
        Reading(counts={"passed": 1}),
        f"1 test collected where green has 2{ACCEPT}",
    ),
    "fewer by figures": (
        Reading(counts={"passed": 5}),
        Reading(counts={"passed": 4}),
        f"4 tests collected where green has 5{ACCEPT}",
    ),
    "skipped by figures": (
        Reading(counts={"passed": 5}),
        Reading(counts={"passed": 5, "skipped": 1}),
        f"1 test skipped where green skips 0{ACCEPT}",
    ),
    "fewer in a run whose report was overwritten": (
        Reading(tests=GREEN.tests, counts={"passed": 10}),
        Reading(tests=GREEN.tests, counts={"passed": 3}),
        f"3 tests collected where green has 10{ACCEPT}",
    ),
}


@pytest.mark.parametrize(("baseline", "found", "reason"), REGRESSED.values(), ids=REGRESSED.keys())
def test_what_passes_and_shows_less_than_green_is_red_unless_the_unit_may(
    baseline: Reading, found: Reading, reason: str
) -> None:
    seen = verdict(found, baseline=baseline)
    assert (seen.judgement, seen.reason) == (RED, reason)
    assert verdict(found, baseline=baseline, may_remove_tests=True).judgement is PASSED


NO_WORSE: dict[str, tuple[Reading, Reading]] = {
    "the same": (GREEN, GREEN),
    "more tests": (GREEN, reading(a="passed", b="passed", c="passed")),
    "a new test that is skipped": (GREEN, reading(a="passed", b="passed", c="skipped")),
    "still skipped": (reading(a="passed", b="skipped"), reading(a="passed", b="skipped")),
    "no longer skipped": (reading(a="passed", b="skipped"), GREEN),
    "figures became ids": (Reading(counts={"passed": 2}), GREEN),
    "green had no tests": (Reading(), GREEN),
    "a module that was skipped whole is collected": (
        Reading(tests={"t::a": "passed", "::test_m": "skipped"}),
        Reading(tests={"t::a": "passed", "test_m::b": "passed"}),
    ),
    "text and report differ alike": (
        Reading(tests=GREEN.tests, counts={"passed": 10}),
        Reading(tests=GREEN.tests, counts={"passed": 11}),
    ),
}


@pytest.mark.parametrize(("baseline", "found"), NO_WORSE.values(), ids=NO_WORSE.keys())
def test_what_is_no_worse_than_green_passes(baseline: Reading, found: Reading) -> None:
    assert verdict(found, baseline=baseline).judgement is PASSED


SECURITY: dict[str, tuple[list[Finding], list[Finding], str]] = {
    "none": ([], [], ""),
    "a new one": ([], [finding("B1", "m.py")], "B1 in m.py"),
    "the same": ([finding("B1", "m.py")], [finding("B1", "m.py")], ""),
    "moved to another line": ([finding("B1", "m.py", 3)], [finding("B1", "m.py", 9)], ""),
    "twice in one file": (
        [finding("B1", "m.py", 3)], [finding("B1", "m.py", 3), finding("B1", "m.py", 9)],
        "B1 in m.py",
    ),
    "one gone, another come": ([finding("B1", "m.py")], [finding("B2", "m.py")], "B2 in m.py"),
    "fewer": ([finding("B1", "m.py"), finding("B1", "m.py")], [finding("B1", "m.py")], ""),
    "lint does not count": ([], [finding("F401", "m.py", 1, "lint")], ""),
    "another workspace": ([finding("B1", "/w/1/m.py")], [finding("B1", "/w/2/m.py")], ""),
    "without a file": ([], [finding("B1", "")], "B1 in (no file)"),
}  # fmt: skip


@pytest.mark.parametrize(("before", "after", "named"), SECURITY.values(), ids=SECURITY.keys())
@pytest.mark.parametrize("may_remove_tests", [False, True])
def test_more_security_findings_than_green_are_red(
    before: list[Finding], after: list[Finding], named: str, may_remove_tests: bool
) -> None:
    seen = verdict(
        with_findings(*after),
        baseline=with_findings(*before),
        may_remove_tests=may_remove_tests,
    )
    assert seen.judgement is (RED if named else PASSED)
    if named:
        assert seen.reason == f"1 more security finding than on green: {named}"
    assert verdict(with_findings(*after)).judgement is PASSED


BASE = Reading(tests={"t::a": "passed", "t::bad": "failed", "::test_m": "error"})
ALLOWED = frozenset({"t::bad", "::test_m"})
RED_BASE: dict[str, tuple[Reading, int, Judgement, str]] = {
    "as red as the base": (BASE, 1, PASSED, "2 failures that the red base has too"),
    "one repaired": (reading(a="passed", bad="passed"), 0, PASSED, "2 tests passed"),
    "a module repaired": (
        Reading(tests={"t::a": "passed", "t::bad": "failed", "test_m::x": "passed"}),
        1, PASSED, "1 failure that the red base has too",
    ),
    "exit code swallowed as on the base": (BASE, 0, PASSED, "2 failures"),
    "make's own exit code": (BASE, 2, PASSED, "2 failures"),
    "a new failure": (
        reading(a="failed", bad="failed"), 1, RED, "1 test (t::a) failing that the red base"
    ),
    "a new failure, exit code 0": (
        reading(a="failed", bad="passed"), 0, RED, "1 test (t::a) failing that the red base"
    ),
    "all repaired and something else red": (
        reading(a="passed", bad="passed"), 1, RED, "exit code 1 although no test failed"
    ),
    "nothing passes": (reading(bad="failed"), 1, RED, "no test passed at all"),
    "no report": (Reading(), 1, RED, "a red base needs test ids to compare by"),
    "no report, exit code 0": (Reading(), 0, RED, "a red base needs test ids to compare by"),
    "figures alone": (Reading(counts={"passed": 3}), 1, RED, "a red base needs test ids"),
    "fewer collected": (reading(bad="failed", c="passed"), 1, RED, "1 test (t::a) of green no"),
    "the failing one deleted": (reading(a="passed"), 0, RED, "1 test (t::bad) of green no longer"),
    "the failing one skipped": (
        reading(a="passed", bad="skipped"), 0, RED, "1 test (t::bad) skipped now that ran"
    ),
    "crashed": (BASE, 139, RED, "exit code 139: a process of it was ended by signal 11"),
    "command not found": (BASE, 127, RED, "command not found"),
}  # fmt: skip


@pytest.mark.parametrize(
    ("found", "exit_code", "judgement", "reason"), RED_BASE.values(), ids=RED_BASE.keys()
)
def test_on_a_red_base_a_pass_is_relative_to_it(
    found: Reading, exit_code: int, judgement: Judgement, reason: str
) -> None:
    seen = verdict(found, exit_code=exit_code, baseline=BASE, allowed_failures=ALLOWED)
    assert seen.judgement is judgement
    assert reason in seen.reason
    assert seen.failing == found.failing


def test_a_tear_down_that_pytest_counts_twice_does_not_make_the_repair_of_it_look_smaller() -> None:
    base = Reading(tests={"t::a": "passed", "t::b": "error"}, counts={"passed": 1, "error": 2})
    repaired = Reading(tests={"t::a": "passed", "t::b": "passed"}, counts={"passed": 2})
    seen = verdict(repaired, baseline=base, allowed_failures=frozenset({"t::b"}))
    assert seen.judgement is PASSED


def test_no_failure_is_allowed_where_the_set_is_empty() -> None:
    assert verdict(reading(a="failed"), exit_code=1, allowed_failures=frozenset()).judgement is RED
    assert verdict(allowed_failures=frozenset()).judgement is PASSED


def test_a_reason_is_one_bounded_line_whatever_the_tests_are_called() -> None:
    names = Reading(tests={f"t::{'x' * 5_000}\n{n}": "failed" for n in range(9)})
    seen = verdict(names, exit_code=1, output=b"y" * 100_000, detail="z\n" * 10_000)
    assert "\n" not in seen.reason
    assert len(seen.reason) <= MAX_REASON_CHARACTERS
    assert len(seen.failing) == 9


outcomes = st.dictionaries(st.sampled_from("abcdef"), st.sampled_from(OUTCOMES))
readings = st.one_of(
    st.just(Reading()),
    outcomes.map(lambda tests: Reading(tests=tests)),
    st.dictionaries(st.sampled_from([*map(str, OUTCOMES)]), st.integers(0, 5)).map(
        lambda counts: Reading(counts=counts)
    ),
)


@given(
    found=readings,
    baseline=st.none() | readings,
    exit_code=st.none() | st.integers(-64, 300),
    signal=st.none() | st.integers(1, 64),
    ending=st.sampled_from(
        ["exited", "timed_out", "lease_expired", "killed", "not_started", "lost"]
    ),
    expects_junit=st.booleans(),
    allowed=st.none() | st.frozensets(st.sampled_from("abcdef")),
    output=st.binary(max_size=200),
)
def test_a_pass_always_has_what_a_pass_needs(
    *,
    found: Reading,
    baseline: Reading | None,
    exit_code: int | None,
    signal: int | None,
    ending: str,
    expects_junit: bool,
    allowed: frozenset[str] | None,
    output: bytes,
) -> None:
    seen = verdict(
        found, baseline=baseline, exit_code=exit_code, signal=signal, ending=ending,
        expects_junit=expects_junit, allowed_failures=allowed, output=output,
    )  # fmt: skip
    if seen.judgement is not PASSED:
        assert seen.reason
        return
    assert (ending, signal) == ("exited", None)
    assert exit_code == 0 or (allowed is not None and set(found.failing) & allowed)
    assert set(found.failing) <= (allowed or set())
    assert not found.has_tests or found.n_collected > found.n_skipped
    assert found.tests is not None or not expects_junit
    if baseline is not None and found.tests is not None:
        assert _ran(baseline) <= _ran(found)


def _ran(one: Reading) -> set[str]:
    tests: Iterable[tuple[str, str]] = (one.tests or {}).items()
    return {test for test, outcome in tests if outcome != "skipped"}


@given(
    found=readings,
    before=st.none() | readings,
    now=st.none() | readings,
    may_remove_tests=st.booleans(),
    allowed=st.none() | st.frozensets(st.sampled_from("abcdef")),
)
def test_a_pass_against_one_green_holds_against_another_when_nothing_regressed(
    *,
    found: Reading,
    before: Reading | None,
    now: Reading | None,
    may_remove_tests: bool,
    allowed: frozenset[str] | None,
) -> None:
    rules: dict[str, Any] = {"may_remove_tests": may_remove_tests, "allowed_failures": allowed}
    if verdict(found, baseline=before, **rules).judgement is not PASSED:
        return
    again = verdict(found, baseline=now, **rules)
    worse = regression(found, now, may_remove_tests)
    assert (again.judgement is PASSED) == (not worse)
    assert not worse or again.reason == worse
