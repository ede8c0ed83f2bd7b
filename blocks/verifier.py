"""Judging a tree by what its verification left behind: a pass needs exit code *and* readings.

Pure: a probe was run elsewhere, here its ending is weighed. Three judgements: passed, red (the
tree is to blame, or the command), and not a run (lost, killed by us, its lease expired), which
blames nobody.
"""

from __future__ import annotations

import re
import signal as signals
from collections.abc import Collection, Iterator
from dataclasses import dataclass
from enum import StrEnum

from blocks.readings import Reading, describe
from blocks.readings.documents import as_text, lines_of, text_of
from blocks.readings.junit import COLLECTION
from blocks.readings.reading import added, plural

MAX_NAMED = 5
"""How many tests or findings a reason names."""
MAX_REASON_CHARACTERS = 1_200
TAIL_BYTES = 64 << 10

CANNOT_EXECUTE, NOT_FOUND, NOTHING_COLLECTED = 126, 127, 5
SIGNAL_BASE = 128
"""A shell reports a child that a signal ended by this plus the signal's number."""

_BLAMELESS = {
    "lost": "the probe was lost",
    "killed": "the probe was killed by us",
    "lease_expired": "the probe's lease expired",
}
_QUOTE = "['\"`\u2018\u2019]?"
_NAME = rf"{_QUOTE}(?P<name>[^\s:'\"`\u2018\u2019]+){_QUOTE}"
_NOT_FOUND = (
    re.compile(rf"\S*(?:sh|env)(?:: (?:line )?\d+)?: {_NAME}: .*not found"),
    re.compile(rf"\S*(?:make(?:\[\d+\])?|env): {_NAME}: No such file .*"),
)
_ABSENT = re.compile(r"(?P<name>[^/:][^:]*): No such file or directory")
_MAKE_NOT_FOUND = re.compile(r"\S*make(?:\[\d+\])?: \*\*\* .* Error 127")
_PERSON_ACCEPTS = "a unit needs may_remove_tests for this"


class Judgement(StrEnum):
    """What a verification run says about the tree it ran on."""

    PASSED = "passed"
    RED = "red"
    NOT_A_RUN = "not a run"


@dataclass(frozen=True, slots=True, kw_only=True)
class Verdict:
    """A judgement, why in one line that a person can act on, and what it rests on.

    `failing` holds the ids of all failing tests, also of those that an allowance forgives.
    """

    judgement: Judgement
    reason: str
    failing: tuple[str, ...] = ()
    reading: Reading


@dataclass(frozen=True, slots=True, kw_only=True)
class _Run:
    """One probe's end and the rules that it is judged by."""

    exit_code: int | None
    signal: int | None
    ending: str
    detail: str
    timeout_seconds: float
    output: bytes
    reading: Reading
    expects_junit: bool
    baseline: Reading | None
    may_remove_tests: bool
    allowed_failures: frozenset[str] | None


def judge(
    *,
    exit_code: int | None,
    signal: int | None,
    ending: str,
    detail: str,
    timeout_seconds: float,
    output: bytes,
    reading: Reading,
    expects_junit: bool,
    baseline: Reading | None,
    may_remove_tests: bool,
    allowed_failures: frozenset[str] | None = None,
) -> Verdict:
    """Judge one verification run of one tree.

    A pass needs exit code 0 and a reading that agrees with it: tests were collected, not all of
    them skipped, none failed, every expected report is there. Against `baseline`, the reading of
    `green`: no test id is missing or newly skipped (unless `may_remove_tests`), and there are not
    more security findings by rule and file. A renamed or moved test is a missing id.

    `allowed_failures` (a mission on a red base) forgives exactly these test ids, and with them the
    exit code; it needs test ids, something that passed, and failing tests that explain the code.
    """
    run = _Run(
        exit_code=exit_code,
        signal=signal,
        ending=ending,
        detail=detail,
        timeout_seconds=timeout_seconds,
        output=output,
        reading=reading,
        expects_junit=expects_junit,
        baseline=baseline,
        may_remove_tests=may_remove_tests,
        allowed_failures=allowed_failures,
    )
    if why := _blameless(run):
        return _verdict(run, Judgement.NOT_A_RUN, f"{why}{_after_colon(detail)}")
    # The first rule that has something to say is the reason; order is from cause to consequence.
    for rule in (_did_not_end, _not_runnable, _failed, _without_tests, _regressed):
        if reason := next(rule(run), None):
            return _verdict(run, Judgement.RED, reason)
    return _verdict(run, Judgement.PASSED, _pass_reason(run))


def regression(reading: Reading, baseline: Reading | None, may_remove_tests: bool) -> str:
    """Return why a tree that passes by itself is worse than `green`; empty when it is not.

    This is all of a verdict that depends on what `green` is: a pass from another day holds against
    today's `green` when this finds nothing. Without a baseline nothing can be worse.
    """
    return _one_line(next(_worse(reading, baseline, may_remove_tests), ""))


def _verdict(run: _Run, judgement: Judgement, reason: str) -> Verdict:
    return Verdict(
        judgement=judgement,
        reason=_one_line(reason),
        failing=run.reading.failing,
        reading=run.reading,
    )


def _one_line(reason: str) -> str:
    line = " ".join(reason.split())
    is_long = len(line) > MAX_REASON_CHARACTERS
    return line[: MAX_REASON_CHARACTERS - 1] + "…" if is_long else line


def _pass_reason(run: _Run) -> str:
    if run.reading.failing:
        allowed = plural(len(run.reading.failing), "failure")
        return f"{describe(run.reading)}; {allowed} that the red base has too"
    return describe(run.reading)


def _blameless(run: _Run) -> str:
    if run.ending in _BLAMELESS:
        return _BLAMELESS[run.ending]
    if run.ending in {"timed_out", "not_started"} or run.signal or run.exit_code is not None:
        return ""
    return f"the probe left no exit code ({run.ending})"


def _did_not_end(run: _Run) -> Iterator[str]:
    """It did not come to an exit code of its own."""
    number = run.signal or -min(0, run.exit_code or 0)
    if run.ending == "not_started":
        yield _not_started(run.detail)
    elif run.ending == "timed_out":
        yield f"timed out after {run.timeout_seconds:g} s{_last_words(run)}"
    elif number:
        yield f"ended by {_signal_name(number) or f'signal {number}'}{_last_words(run)}"


def _not_started(detail: str) -> str:
    """Tell a command that is not on the path from a missing folder, or a machine that is full."""
    if match := _ABSENT.fullmatch(detail):
        return _not_found(match["name"])
    return f"could not be started{_after_colon(detail)}"


def _not_runnable(run: _Run) -> Iterator[str]:
    """The command, or one that it calls, is not there."""
    code = run.exit_code or 0
    if code == NOT_FOUND or (code and any(map(_MAKE_NOT_FOUND.fullmatch, _tail(run)))):
        yield _command_not_found(run)
    elif code == CANNOT_EXECUTE:
        yield f"command cannot be executed (exit code 126){_last_words(run)}"
    elif name := _signal_name(code - SIGNAL_BASE):
        yield f"exit code {code}: a process of it was ended by {name}{_last_words(run)}"


def _failed(run: _Run) -> Iterator[str]:
    """It says that something failed, by its exit code or in its report."""
    if run.allowed_failures is not None:
        yield from _failed_beyond_allowed(run, run.allowed_failures)
    elif run.exit_code == NOTHING_COLLECTED and not run.reading.n_collected:
        yield f"no tests were collected (exit code {NOTHING_COLLECTED}){_last_words(run)}"
    elif run.exit_code:
        yield f"exit code {run.exit_code}: {_what_failed(run)}"
    elif n_failing := _n_failing(run.reading):
        what = _named_tests(run.reading.failing, "test") or plural(n_failing, "test")
        yield f"exit code 0 although the report shows {what} failing: the code was swallowed"


def _failed_beyond_allowed(run: _Run, allowed: frozenset[str]) -> Iterator[str]:
    reading = run.reading
    if reading.tests is None:
        yield (
            "a red base needs test ids to compare by, and there is no test report"
            f"{_problems(run)}: let the command write JUnit XML and set [verify] junit"
        )
    elif new := sorted(set(reading.failing) - allowed):
        yield f"{_named_tests(new, 'test')} failing that the red base does not have"
    elif run.exit_code and not reading.failing:
        yield (
            f"exit code {run.exit_code} although no test failed: what failed is no test and "
            f"cannot be allowed{_last_words(run)}"
        )
    elif run.exit_code and not reading.n_passed:
        yield f"no test passed at all ({describe(reading)}): nothing was verified"


def _without_tests(run: _Run) -> Iterator[str]:
    """Exit code 0, and nothing behind it."""
    reading = run.reading
    if run.expects_junit and (reading.tests is None or _problems(run)):
        yield f"missing report: no readable file matches [verify] junit{_problems(run)}"
    elif reading.has_tests and not reading.n_collected:
        yield "no tests were collected: a run without tests is not a pass"
    elif reading.n_skipped == reading.n_collected > 0 and not (reading.counts or {}).get("passed"):
        yield f"all {plural(reading.n_skipped, 'test')} skipped: nothing was verified"


def _regressed(run: _Run) -> Iterator[str]:
    """It passes by itself and is worse than `green`."""
    if worse := regression(run.reading, run.baseline, run.may_remove_tests):
        yield worse


def _worse(reading: Reading, baseline: Reading | None, may_remove_tests: bool) -> Iterator[str]:
    if baseline is None:
        return
    if not may_remove_tests:
        yield from _fewer_tests(reading, baseline)
        yield from _newly_skipped(reading, baseline)
    if more := added(baseline.security, reading.security):
        named = _listed([f"{rule} in {path or '(no file)'}" for rule, path in more])
        yield f"{plural(len(more), 'more security finding')} than on green: {named}"


def _fewer_tests(reading: Reading, baseline: Reading) -> Iterator[str]:
    if baseline.has_tests and not reading.has_tests:
        yield (
            f"missing report: green shows {plural(baseline.n_collected, 'test')}, this run none; "
            f"{_PERSON_ACCEPTS}"
        )
    if reading.tests is not None and baseline.tests is not None:
        gone = [
            test
            for test in baseline.tests.keys() - reading.tests.keys()
            if _is_test(baseline, test)
        ]
        if gone:
            yield (
                f"{_named_tests(sorted(gone), 'test')} of green no longer collected (deleted, "
                f"renamed or moved): {_PERSON_ACCEPTS}"
            )
    before, after = _by_counts(baseline, reading)
    if after < before:
        yield f"{plural(after, 'test')} collected where green has {before}: {_PERSON_ACCEPTS}"


def _is_test(baseline: Reading, test: str) -> bool:
    """Whether an id stands for a test, not for a module that pytest did not collect."""
    outcome = (baseline.tests or {})[test]
    return not (test.startswith(COLLECTION) and outcome in {"error", "skipped"})


def _by_counts(baseline: Reading, reading: Reading) -> tuple[int, int]:
    """Return collected tests before and after by summary lines, where reports do not cover all.

    Several pytest runs in one command leave one report, and one summary line each.
    """
    before, after = (sum((one.counts or {}).values()) for one in (baseline, reading))
    if reading.tests is None or baseline.tests is None:
        # One side has ids, the other figures: what each knows best.
        return max(before, baseline.n_collected), max(after, reading.n_collected)
    # pytest counts a test twice that fails and whose tear-down breaks: only green figures compare.
    is_green = not baseline.failing and reading.counts is not None
    covers_more = is_green and before > len(baseline.tests)
    return (before, after) if covers_more else (0, 0)


def _newly_skipped(reading: Reading, baseline: Reading) -> Iterator[str]:
    if reading.tests is None or baseline.tests is None:
        before, after = baseline.n_skipped, reading.n_skipped
        if baseline.has_tests and after > before:
            yield f"{plural(after, 'test')} skipped where green skips {before}: {_PERSON_ACCEPTS}"
        return
    before_and_after = [
        (test, baseline.tests.get(test), outcome) for test, outcome in reading.tests.items()
    ]
    skipped = [t for t, old, new in before_and_after if new == "skipped" and old not in {None, new}]
    if skipped:
        what = _named_tests(sorted(skipped), "test")
        yield f"{what} skipped now that ran on green: {_PERSON_ACCEPTS}"
    forgiven = [t for t, old, new in before_and_after if (old, new) == ("passed", "xfailed")]
    if forgiven:
        what = _named_tests(sorted(forgiven), "test")
        yield f"{what} expected to fail now that passed on green: {_PERSON_ACCEPTS}"


def _n_failing(reading: Reading) -> int:
    """Return failing tests by report or, where summary lines cover more runs than it, by those."""
    counts = reading.counts or {}
    in_report = reading.n_failed + reading.n_errors
    if sum(counts.values()) > reading.n_collected:
        return max(in_report, counts.get("failed", 0) + counts.get("error", 0))
    return in_report


def _what_failed(run: _Run) -> str:
    reading = run.reading
    if reading.failing:
        return f"{_named_tests(reading.failing, 'test')} failing"
    if n_failing := _n_failing(reading):
        return f"{plural(n_failing, 'test')} failing{_last_words(run)}"
    if serious := [f for f in reading.findings if f.level != "note" or f.kind == "security"]:
        named = [f"{f.rule} in {f.path}:{f.line}" if f.path else f.message for f in serious]
        return f"{plural(len(serious), 'finding')}: {_listed(named)}"
    return (_last_line(run) or "no output") + _problems(run)


def _named_tests(tests: Collection[str], noun: str) -> str:
    """Return `2 tests (a::b, a::c)`, or nothing for no tests."""
    return f"{plural(len(tests), noun)} ({_listed(tests)})" if tests else ""


def _listed(names: Collection[str]) -> str:
    shown = [as_text(name) for name in list(names)[:MAX_NAMED]]
    more = len(names) - len(shown)
    return ", ".join(shown) + (f" and {more} more" if more else "")


def _command_not_found(run: _Run) -> str:
    matches = [m for line in _tail(run) for rule in _NOT_FOUND if (m := rule.fullmatch(line))]
    return _not_found(matches[-1]["name"] if matches else _last_line(run) or "unknown")


def _not_found(name: str) -> str:
    return f"command not found: {as_text(name)}; put its folder into [environment] path"


def _signal_name(number: int) -> str:
    """Return `signal 9 (SIGKILL)`, or nothing for a number that is no signal."""
    try:
        return f"signal {number} ({signals.Signals(number).name})"
    except ValueError:
        return ""


def _problems(run: _Run) -> str:
    broken = [problem for problem in run.reading.unreadable if problem.startswith("junit")]
    return f" ({'; '.join(broken[:MAX_NAMED])})" if broken else ""


def _last_words(run: _Run) -> str:
    line = _last_line(run)
    return f"; last line of output: {line}" if line else ""


def _last_line(run: _Run) -> str:
    return next((as_text(line) for line in reversed(_tail(run)) if line.strip()), "")


def _tail(run: _Run) -> list[str]:
    return lines_of(text_of(run.output[-TAIL_BYTES:]))


def _after_colon(detail: str) -> str:
    return f": {as_text(detail)}" if detail else ""
