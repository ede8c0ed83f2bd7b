"""Scores of rounds: bounded, monotone, and silent of what was not measured."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from flows.judging.signals import Signals, is_standstill, score

numbers = st.integers(0, 50)
shares = st.floats(0, 1)
kinds = st.sampled_from(["security", "types", "lint", "todo"])
signals = st.builds(
    Signals,
    n_planned=numbers,
    n_satisfied=numbers,
    tests_passed=numbers,
    tests_failed=numbers,
    tests_skipped=numbers,
    findings=st.dictionaries(kinds, numbers),
    coverage=st.none() | shares,
    n_remaining=st.none() | numbers,
)


@pytest.mark.parametrize(
    ("now", "expected"),
    [
        (Signals(n_planned=4, n_satisfied=1), 0.25),
        (Signals(tests_passed=3, tests_failed=1), 0.75),
        (Signals(tests_passed=3, tests_skipped=5), 0.75),  # one more is skipped than at first
        (Signals(findings={"lint": 2}), 0.8),
        (Signals(findings={"lint": 11}), 0.0),
        (Signals(findings={"types": 0}), 1.0),
        (Signals(coverage=0.6), 0.5),
        (Signals(coverage=0.8), 0.75),
        (Signals(coverage=0.3), 0.25),
        (Signals(n_remaining=0), 1.0),
        (Signals(n_remaining=3), 0.25),
        (Signals(n_planned=2, n_satisfied=2, tests_failed=1, n_remaining=1), 0.5),
        (Signals(n_planned=1, n_satisfied=1, findings={"lint": 10}), 0.75),
        (Signals(), None),
        (Signals(findings={"todo": 3}), None),
    ],
)
def test_each_signal_counts_by_its_weight(now: Signals, expected: float | None) -> None:
    first = Signals(tests_skipped=4, findings={"lint": 10}, coverage=0.6)
    assert score(now, first) == (expected if expected is None else pytest.approx(expected))


def test_the_first_round_is_held_against_itself() -> None:
    now = Signals(tests_passed=1, tests_skipped=9, findings={"lint": 4}, coverage=1.0)
    assert score(now, None) == score(now, now) == pytest.approx((3 + 0 + 1) / 5)


@given(signals, st.none() | signals)
def test_a_score_is_a_share_and_the_same_each_time(now: Signals, first: Signals | None) -> None:
    found = score(now, first)
    assert found is None or 0 <= found <= 1
    assert found == score(now, first)


def less(number: int | None) -> int | None:
    return number and number - 1


def mended(now: Signals) -> Signals:
    n_mended = min(now.tests_failed, 1)
    failed, passed = now.tests_failed - n_mended, now.tests_passed + n_mended
    return replace(now, tests_failed=failed, tests_passed=passed)


IMPROVEMENTS: dict[str, Callable[[Signals], Signals]] = {
    "failed": lambda now: replace(now, tests_failed=less(now.tests_failed) or 0),
    "mended": mended,
    "skipped": lambda now: replace(now, tests_skipped=less(now.tests_skipped) or 0),
    "satisfied": lambda now: replace(now, n_satisfied=now.n_satisfied + 1),
    "remaining": lambda now: replace(now, n_remaining=less(now.n_remaining)),
    "covered": lambda now: replace(now, coverage=now.coverage and min(now.coverage + 0.01, 1)),
    "findings": lambda now: replace(
        now, findings={kind: less(n) or 0 for kind, n in now.findings.items()}
    ),
}


@given(signals, signals, st.sampled_from(sorted(IMPROVEMENTS)))
def test_what_gets_better_never_lowers_the_score(now: Signals, first: Signals, kind: str) -> None:
    before, after = score(now, first), score(IMPROVEMENTS[kind](now), first)
    assert before is None or after is None or after >= before - 1e-12


absences: dict[str, dict[str, Any]] = {
    "units": {"n_planned": 0, "n_satisfied": 0},
    "tests": {"tests_passed": 0, "tests_failed": 0, "tests_skipped": 0},
    "findings": {"findings": {}},
    "coverage": {"coverage": None},
    "remaining": {"n_remaining": None},
}


@given(signals, signals, st.sampled_from(sorted(absences)))
def test_what_is_absent_never_counts_as_nothing(now: Signals, first: Signals, name: str) -> None:
    """A score without a signal lies where the others are: it is not below all of them."""
    without = score(replace(now, **absences[name]), first)
    others = (score(only(now, each), first) for each in absences if each != name)
    alone = [each for each in others if each is not None]
    if without is None:
        assert not alone
    else:
        assert min(alone) - 1e-9 <= without <= max(alone) + 1e-9


def only(now: Signals, name: str) -> Signals:
    gone: dict[str, Any] = {}
    for each, values in absences.items():
        if each != name:
            gone |= values
    return replace(now, **gone)


@pytest.mark.parametrize(
    ("series", "window", "expected"),
    [
        ([0.5, 0.625, 0.5], 3, True),
        ([0.5, 0.75, 0.5], 3, False),  # a spread of epsilon is a difference
        ([0.1, 0.5, 0.5, 0.5], 3, True),
        ([0.5, 0.5, 0.5, 0.8], 3, False),
        ([0.5, 0.5], 3, False),
        ([], 0, False),
        ([0.5], 0, False),
    ],
)
def test_a_standstill_is_a_window_without_a_difference(
    series: list[float], window: int, expected: bool
) -> None:
    assert is_standstill([{"signals": each} for each in series], window, 0.25) is expected


@pytest.mark.parametrize(
    ("judged", "expected"),
    [
        ([0.5, 0.5, 0.5], True),
        ([0.5, 0.6, 0.7], False),  # the agent sees what the figures do not
        ([0.1, None, 0.9], True),  # no answer is no difference
        ([None, 0.1, 0.9], True),
        ([None, None, None], True),
    ],
)
def test_every_complete_series_must_stand_still(judged: list[float | None], expected: bool) -> None:
    rounds = [
        {"signals": 0.5} if each is None else {"signals": 0.5, "judged": each} for each in judged
    ]
    assert is_standstill(rounds, 3, 0.01) is expected


def test_rounds_without_any_score_are_no_standstill() -> None:
    assert not is_standstill([{}, {}, {"signals": 0.5}], 3, 0.01)
