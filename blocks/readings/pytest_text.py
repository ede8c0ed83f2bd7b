"""The summary lines of pytest and unittest, where no report says it better. Counts alone."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Mapping, Sequence

from blocks.readings.reading import OUTCOMES, Outcome

_PYTEST = re.compile(r"(?P<said>\S.*) in \d+(?:\.\d+)?(?:s| seconds)(?: \([\d:, a-z]+\))?")
_COUNT = re.compile(r"(\d{1,9}) ([a-z][a-z ]*)")
_RAN = re.compile(r"Ran (\d{1,9}) tests? in \d+(?:\.\d+)?s")
_UNITTEST = re.compile(r"(?:OK|FAILED|NO TESTS RAN)(?: \((?P<said>[^)]*)\))?")
_UNITTEST_COUNT = re.compile(r"([a-z ]+)=(\d{1,9})")
_NOTHING = "no tests ran"
_PYTEST_WORDS: Mapping[str, Outcome | None] = {
    "passed": "passed",
    "xpassed": "passed",
    "failed": "failed",
    "error": "error",
    "errors": "error",
    "skipped": "skipped",
    "xfailed": "xfailed",
    # These speak of no test that was collected and run, but make a line a summary line.
    "deselected": None,
    "warning": None,
    "warnings": None,
    "rerun": None,
}
_UNITTEST_WORDS: Mapping[str, Outcome] = {
    "failures": "failed",
    "errors": "error",
    "skipped": "skipped",
    "expected failures": "xfailed",
    "unexpected successes": "failed",
}


def read_lines(lines: Sequence[str]) -> dict[str, int] | None:
    """Return tests by outcome, summed over all runs in the output; None: no summary line."""
    runs = [*_pytest_runs(lines), *_unittest_runs(lines)]
    if not runs:
        return None
    total: Counter[str] = Counter()
    for run in runs:
        total.update(run)
    return {outcome: total[outcome] for outcome in OUTCOMES}


def _pytest_runs(lines: Sequence[str]) -> list[Counter[str]]:
    found = (_PYTEST.fullmatch(line.strip("= ")) for line in lines)
    runs = [_pytest_run(match["said"]) for match in found if match]
    return [run for run in runs if run is not None]


def _pytest_run(said: str) -> Counter[str] | None:
    if said == _NOTHING:
        return Counter()
    run: Counter[str] = Counter()
    known = False
    for part in said.split(", "):
        match = _COUNT.fullmatch(part)
        if not match:
            return None
        if match[2] in _PYTEST_WORDS:
            known = True
            run[_PYTEST_WORDS[match[2]] or ""] += int(match[1])
    del run[""]
    return run if known else None


def _unittest_runs(lines: Sequence[str]) -> list[Counter[str]]:
    runs: list[Counter[str]] = []
    n_ran: int | None = None
    for line in lines:
        if match := _RAN.fullmatch(line):
            n_ran = int(match[1])
        elif n_ran is not None and (match := _UNITTEST.fullmatch(line)):
            runs.append(_unittest_run(n_ran, match["said"] or ""))
            n_ran = None
    return runs


def _unittest_run(n_ran: int, said: str) -> Counter[str]:
    run: Counter[str] = Counter()
    for part in said.split(", "):
        if (match := _UNITTEST_COUNT.fullmatch(part)) and match[1] in _UNITTEST_WORDS:
            run[_UNITTEST_WORDS[match[1]]] += int(match[2])
    run["passed"] = max(0, n_ran - run.total())
    return run
