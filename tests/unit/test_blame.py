"""Whose fault a red tree is, question by question."""

from __future__ import annotations

from flows.landing.blame import (
    LANDING,
    Again,
    Alone,
    Aside,
    Found,
    History,
    Trial,
    inquire,
)
from flows.landing.steps import Candidate, Stacked
from flows.ledger.events import CandidateEjected, CulpritCleared, ProbeEnded

SCREEN = 1
OWN_TEST = "tests.test_a::test_x"


def culprit(*, line: int, failing: tuple[str, ...] = ()) -> Aside:
    """A candidate that was made from `g0` and was red on top of another one."""
    candidate = Candidate(unit="a", attempt=1, head="h", base="g0", files=("tests/test_a.py",))
    stacked = Stacked(candidate=candidate, onto="g0+b", commit="g0+b+a", tree="t")
    red = ProbeEnded(probe=1, verdict="red", failing=failing)
    return Aside(stacked=stacked, line=line, below="g0", red=red, cleared=False)


def alone(aside: Aside, verdict: str) -> Aside:
    """What is known after it was merged on its base by itself."""
    stacked = Stacked(candidate=aside.candidate, onto="g0", commit="g0+a", tree="u")
    aside.trials["g0"] = Trial(stacked=stacked, verdict=ProbeEnded(probe=2, verdict=verdict))
    return aside


def again(aside: Aside, verdict: str) -> Aside:
    """What is known after its own red tree was verified once more."""
    aside.again = ProbeEnded(probe=3, verdict=verdict)
    return aside


def event_of(aside: Aside) -> object:
    answer = inquire(aside, History(), 0)
    assert isinstance(answer, Found), answer
    return answer.event


def test_it_is_first_asked_whether_it_is_good_alone() -> None:
    assert inquire(culprit(line=LANDING), History(), 0) == Alone("g0")


def test_a_screened_culprit_that_is_good_alone_is_cleared() -> None:
    assert isinstance(event_of(alone(culprit(line=SCREEN), "passed")), CulpritCleared)


def test_a_screened_culprit_whose_own_test_failed_in_company_must_pass_there_too() -> None:
    aside = alone(culprit(line=SCREEN, failing=(OWN_TEST,)), "passed")
    assert inquire(aside, History(), 0) == Again()
    ejected = event_of(again(aside, "passed"))
    assert isinstance(ejected, CandidateEjected)
    assert OWN_TEST in ejected.reason


def test_a_screened_culprit_that_is_red_only_in_company_is_left_to_the_landing_line() -> None:
    aside = alone(culprit(line=SCREEN, failing=(OWN_TEST,)), "passed")
    assert isinstance(event_of(again(aside, "red")), CulpritCleared)
