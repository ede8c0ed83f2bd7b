"""What can be measured of a round, made one score, and when the scores stand still.

Nothing here asks anybody: the same signals give the same score. What was not measured is left
out; it never counts as nothing reached.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field

FINDINGS = ("security", "types", "lint")
"""The kinds of findings that count; others do not."""

WEIGHTS: Mapping[str, float] = {
    "units": 3.0,  # the share of the round's units that are satisfied: the work that was planned
    "tests": 3.0,  # the share of tests that pass: what works
    "remaining": 2.0,  # what remains by the last word: an opinion, so less than what is measured
    "coverage": 1.0,  # against the first round: how far the tests can be believed
    **dict.fromkeys(FINDINGS, 1.0),  # each against the first round
}
"""What each value counts in a score."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Signals:
    """What was measured at the end of a round; what is None or not in `findings` was not.

    `n_planned` units were planned in the round, `n_satisfied` of them landed or had nothing to
    change. The figures of the tests are all 0 where none were read. `coverage` is a share.
    `n_remaining` is how much remains by the last word of whoever judged.
    """

    n_planned: int = 0
    n_satisfied: int = 0
    tests_passed: int = 0
    tests_failed: int = 0
    tests_skipped: int = 0
    findings: Mapping[str, int] = field(default_factory=dict)
    coverage: float | None = None
    n_remaining: int | None = None


def score(now: Signals, first: Signals | None) -> float | None:
    """Give the weighted mean, in [0, 1], of what was measured; None when nothing was.

    `first` are the signals of the first round, against which findings, skipped tests and coverage
    are held; without them it is as if this were the first.
    """
    parts = [(WEIGHTS[name], value) for name, value in values_of(now, first).items()]
    total = sum(weight for weight, _ in parts)
    return sum(weight * value for weight, value in parts) / total if total else None


def values_of(now: Signals, first: Signals | None) -> dict[str, float]:
    """Give what was measured by name, each in [0, 1]: what a score is made of."""
    return dict(_values(now, first or now))


def is_standstill(scores: Sequence[Mapping[str, float]], window: int, epsilon: float) -> bool:
    """Say whether the last rounds made no difference.

    A round has a score by the name of each series (`signals`, perhaps `judged`). A series speaks
    when each of the last `window` rounds has it; all that speak must spread less than `epsilon`.
    """
    if window < 1 or len(scores) < window:
        return False
    last = scores[-window:]
    complete = [name for name in last[0] if all(name in each for each in last)]
    spreads = [
        max(each[name] for each in last) - min(each[name] for each in last) for name in complete
    ]
    return bool(spreads) and all(spread < epsilon for spread in spreads)


def _values(now: Signals, first: Signals) -> Iterator[tuple[str, float]]:
    if now.n_planned > 0:
        yield "units", _share(now.n_satisfied, now.n_planned)
    # A test that is skipped since the first round is one that no longer passes.
    n_muted = max(now.tests_skipped - first.tests_skipped, 0)
    if n_tests := now.tests_passed + now.tests_failed + n_muted:
        yield "tests", _share(now.tests_passed, n_tests)
    if now.n_remaining is not None:
        yield "remaining", 1 / (1 + max(now.n_remaining, 0))
    for kind in FINDINGS:
        if kind in now.findings:
            n_findings = max(now.findings[kind], 0)
            yield kind, 1 - n_findings / max(n_findings, first.findings.get(kind, 0), 1)
    if now.coverage is not None and first.coverage is not None:
        yield "coverage", _covered(_within(now.coverage), _within(first.coverage))


def _covered(now: float, first: float) -> float:
    """One half for the coverage of the first round, 1 for full, 0 for none; straight between."""
    if now < first:
        return 0.5 * now / first
    return 0.5 + 0.5 * (now - first) / (1 - first) if first < 1 else 1.0


def _share(part: int, whole: int) -> float:
    return _within(part / whole)


def _within(value: float) -> float:
    return min(max(value, 0.0), 1.0)
