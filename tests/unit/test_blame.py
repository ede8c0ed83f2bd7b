"""Whose fault a red is: which verification is asked for next, and what is found in the end."""

from __future__ import annotations

from typing import Any

import pytest

from flows.landing.blame import (
    LANDING,
    MAX_FLAKES,
    Again,
    Alone,
    Aside,
    Company,
    Found,
    History,
    Trial,
    inquire,
)
from flows.landing.steps import BASE, Candidate, Stacked
from flows.ledger.events import (
    BaseRefused,
    CandidateClashed,
    CandidateEjected,
    CulpritCleared,
    FlakeSeen,
    ProbeEnded,
)

SCREEN = 3


def stacked(unit: str, onto: str, commit: str, **values: Any) -> Stacked:
    candidate = Candidate(unit=unit, attempt=1, head=f"head-{unit}", **values)
    return Stacked(candidate=candidate, onto=onto, commit=commit, tree=f"tree-{commit}")


def history(*units: str) -> History:
    """`green` was `start`, then each of these units landed by itself as a commit of its name."""
    made = History()
    made.land((), "start")
    for unit in units:
        made.land([stacked(unit, "", unit)], unit)
    return made


def ended(verdict: str, probe: int = 2, **values: Any) -> ProbeEnded:
    return ProbeEnded(probe=probe, verdict=verdict, **values)


def culprit(
    *, base: str = "start", onto: str = "start", line: int = LANDING, **values: Any
) -> Aside:
    """Unit `u`, made from `base`, red in probe 1 on top of `onto`."""
    keys = ("again", "cleared", "failing")
    known = {key: values.pop(key) for key in keys if key in values}
    return Aside(
        stacked=stacked(values.pop("unit", "u"), onto, "its-own", base=base, **values),
        line=line,
        below="start",
        red=ended("red", 1, failing=known.pop("failing", ())),
        cleared=known.get("cleared", False),
        again=known.get("again"),
    )


def tried(aside: Aside, onto: str, verdict: str) -> None:
    """Tell what came of the culprit on another commit."""
    if verdict == "conflict":
        aside.trials[onto] = Trial(stacked=None)
        return
    merged = stacked("u", onto, f"on-{onto}")
    aside.trials[onto] = Trial(stacked=merged, verdict=ended(verdict, 9) if verdict else None)


def found(aside: Aside, past: History, n_flakes: int = 0) -> Any:
    answer = inquire(aside, past, n_flakes)
    assert isinstance(answer, Found)
    return answer.event


# -- what landed ----------------------------------------------------------------------------------


def test_the_past_between_two_commits_is_what_landed_after_the_first_up_to_the_second() -> None:
    past = history("a", "b", "c")
    assert past.between("a", "c") == [("b", "b"), ("c", "c")]
    assert past.between("start", "a") == [("a", "a")]
    assert past.between("b", "b") == []


def test_nothing_is_between_commits_that_did_not_land() -> None:
    past = history("a")
    assert not past.between("elsewhere", "a")
    assert not past.between("start", "elsewhere")


def test_below_a_commit_is_the_newest_green_that_it_holds() -> None:
    past = history("a")
    past.land([stacked("b", "a", "b"), stacked("c", "b", "c")], "c")
    assert [past.below(commit) for commit in ("start", "a", "b", "c")] == ["start", "a", "a", "c"]
    assert past.below("elsewhere") == ""


# -- is it good by itself? ------------------------------------------------------------------------


def test_who_was_red_on_its_own_base_is_only_asked_again() -> None:
    assert inquire(culprit(), history(), 0) == Again()


def test_who_was_red_in_company_is_first_asked_alone() -> None:
    aside = culprit(onto="a")
    assert inquire(aside, history("a"), 0) == Alone("start")
    tried(aside, "start", "")
    assert inquire(aside, history("a"), 0) == Alone("start"), "it was merged, not verified"


def test_who_is_red_alone_is_at_fault_and_told_what_was_red_there() -> None:
    aside = culprit(onto="a")
    tried(aside, "start", "red")
    trial = aside.trials["start"]
    trial.verdict = ended("red", 9, reason="2 failing", output="E assert 0", failing=("t::x",))
    event = found(aside, history("a"))
    assert event == CandidateEjected(
        unit="u", attempt=1, probe=9, reason="2 failing\nE assert 0", failing=("t::x",)
    )


def test_who_passes_alone_after_a_screening_is_cleared() -> None:
    aside = culprit(onto="elsewhere", line=SCREEN)
    tried(aside, "start", "passed")
    assert found(aside, history()) == CulpritCleared(unit="u", attempt=1, probe=9)


@pytest.mark.parametrize(
    ("verdict", "outcome"), [("passed", CandidateEjected), ("red", CulpritCleared)]
)
def test_who_passes_alone_after_its_own_test_failed_in_a_screening_is_asked_again(
    verdict: str, outcome: type
) -> None:
    """A flaky test of its own must not land; what is red only in company goes on."""
    own: dict[str, Any] = {"failing": ("tests.test_u::test_x",), "files": ("tests/test_u.py",)}
    aside = culprit(onto="a", line=SCREEN, **own)
    tried(aside, "start", "passed")
    assert inquire(aside, history("a"), 0) == Again()
    aside.again = ended(verdict, 3)
    assert isinstance(found(aside, history("a")), outcome)


def test_who_passes_alone_after_a_red_landing_is_asked_again() -> None:
    aside = culprit(onto="a")
    tried(aside, "start", "passed")
    assert inquire(aside, history("a"), 0) == Again()


def test_who_does_not_merge_on_its_own_base_is_asked_again() -> None:
    aside = culprit(onto="a", line=SCREEN)
    tried(aside, "start", "conflict")
    assert inquire(aside, history("a"), 0) == Again()


@pytest.mark.parametrize("known", [{"cleared": True}, {"base": ""}, {"unit": BASE}])
def test_some_are_never_asked_alone(known: dict[str, Any]) -> None:
    """What passed in other company, has no known base, or is the base branch."""
    assert inquire(culprit(onto="a", **known), history("a"), 0) == Again()


# -- red, then green ------------------------------------------------------------------------------


def test_red_then_green_on_the_same_tree_is_a_flake() -> None:
    event = found(culprit(again=ended("passed", 5), failing=("t::x",)), history())
    assert event == FlakeSeen(
        unit="u", attempt=1, tree="tree-its-own", red_probe=1, green_probe=5, failing=("t::x",)
    )


def test_a_flake_of_its_own_tests_is_its_fault() -> None:
    aside = culprit(
        again=ended("passed", 5),
        failing=("tests.test_u::x", "tests.test_v::y"),
        files=("tests/test_u.py",),
    )
    event = found(aside, history())
    assert isinstance(event, CandidateEjected)
    assert event.failing == ("tests.test_u::x",)
    assert "pass only sometimes: tests.test_u::x" in event.reason
    assert event.probe == 5


def test_who_flakes_too_often_is_refused_but_never_the_base_branch() -> None:
    again = ended("passed", 5)
    assert isinstance(found(culprit(again=again), history(), MAX_FLAKES - 1), FlakeSeen)
    event = found(culprit(again=again, failing=("t::x",)), history(), MAX_FLAKES)
    assert isinstance(event, CandidateEjected)
    assert event.reason == "its own tree was red, then green, 4 times"
    assert event.failing == ("t::x",)
    assert isinstance(found(culprit(again=again, unit=BASE), history(), MAX_FLAKES), FlakeSeen)


# -- red twice ------------------------------------------------------------------------------------


def test_red_twice_on_its_own_base_is_its_fault() -> None:
    again = ended("red", 5, reason="2 failing", failing=("t::x",))
    event = found(culprit(again=again), history())
    assert event == CandidateEjected(
        unit="u", attempt=1, probe=5, reason="2 failing", failing=("t::x",)
    )


def test_a_base_branch_that_is_red_twice_is_refused_whatever_landed() -> None:
    again = ended("red", 5, reason="2 failing")
    event = found(culprit(unit=BASE, onto="a", again=again), history("a"))
    assert event == BaseRefused(commit="head-@base", probe=5, reason="2 failing")


def test_with_one_commit_since_its_base_that_one_is_the_partner() -> None:
    aside = culprit(onto="a", again=ended("red", 5, reason="2 failing", failing=("t::x",)))
    tried(aside, "start", "passed")
    event = found(aside, history("a"))
    assert event == CandidateClashed(
        unit="u", attempt=1, partner="a", probe=5, reason="2 failing", failing=("t::x",)
    )


def test_the_partner_is_searched_by_halves() -> None:
    past = history("a", "b", "c", "d", "e")
    aside = culprit(onto="e", again=ended("red", 5))
    tried(aside, "start", "passed")
    assert inquire(aside, past, 0) == Company("c")
    tried(aside, "c", "passed")
    assert inquire(aside, past, 0) == Company("d")
    tried(aside, "d", "red")
    event = found(aside, past)
    assert isinstance(event, CandidateClashed)
    assert event.partner == "d"


def test_a_red_half_leaves_only_what_landed_before() -> None:
    past = history("a", "b", "c", "d", "e")
    aside = culprit(onto="e", again=ended("red", 5))
    tried(aside, "start", "passed")
    tried(aside, "c", "red")
    assert inquire(aside, past, 0) == Company("b")
    tried(aside, "b", "passed")
    assert found(aside, past).partner == "c"


def test_a_commit_on_which_it_does_not_merge_is_passed_over() -> None:
    past = history("a", "b", "c", "d")
    aside = culprit(onto="d", again=ended("red", 5))
    tried(aside, "start", "passed")
    assert inquire(aside, past, 0) == Company("b")
    tried(aside, "b", "conflict")
    assert inquire(aside, past, 0) == Company("c")
    tried(aside, "c", "red")
    assert inquire(aside, past, 0) == Company("a")
    tried(aside, "a", "passed")
    assert found(aside, past).partner == "c"


# -- verdicts -------------------------------------------------------------------------------------


def test_a_verdict_goes_to_the_tree_that_was_probed() -> None:
    aside = culprit(onto="a")
    tried(aside, "start", "")
    tried(aside, "b", "conflict")
    aside.learn("on-start", ended("passed", 7))
    assert aside.trials["start"].verdict_is == "passed"
    assert aside.trials["b"].verdict_is == "conflict"
    assert aside.again is None
    aside.learn("its-own", ended("red", 8))
    assert aside.again == ended("red", 8)
    assert aside.trials["start"].verdict_is == "passed"


@pytest.mark.parametrize("verdict", ["not a run", "cancelled"])
def test_what_was_no_run_answers_nothing(verdict: str) -> None:
    aside = culprit(onto="a")
    tried(aside, "start", "")
    aside.learn("its-own", ended(verdict))
    aside.learn("on-start", ended(verdict))
    assert aside.again is None
    assert aside.trials["start"].verdict_is == ""
