"""Repairs of refused work, told by what the fix-up agents made and what its probes said."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import pytest

from flows.landing.repair import REPAIR, Attempted, Repair, names_of
from flows.landing.steps import Candidate, Decide, Merge, Probe, ProbeTree, Step
from flows.ledger.events import CandidateStacked, ProbeEnded, ProbeKind, RepairEnded

GREEN = "green"


def repair(*names: str) -> Repair:
    """A repair of unit `u`, its third, by agents that have not started."""
    return Repair(unit="u", number=3, base="base", attempted={n: Attempted() for n in names})


def made(name: str) -> Candidate:
    return Candidate(unit=name, attempt=1, head=f"head-{name}")


def merged(name: str, changed_lines: int | None = 1) -> CandidateStacked:
    commit = f"commit-{name}"
    return CandidateStacked(
        unit=name,
        attempt=1,
        onto=GREEN,
        commit=commit,
        tree=f"tree-{name}",
        line=REPAIR,
        changed_lines=changed_lines,
    )


def tried(verdict: str = "passed", *, name: str = "a", lines: int = 1, **values: Any) -> Attempted:
    """What an agent made, as it was verified."""
    ended = ProbeEnded(probe=1, verdict=verdict, **values)
    return Attempted(candidate=made(name), stacked=merged(name, lines), verdict=ended)


def steps(
    repair: Repair, *, free: int = 9, probes: Sequence[Probe] = (), **more: Any
) -> list[Step]:
    return [*repair.steps(onto=GREEN, probes=probes, free=free, next_attempt=7, **more)]


def end_of(repair: Repair, **more: Any) -> RepairEnded:
    (decision,) = steps(repair, **more)
    assert isinstance(decision, Decide)
    assert isinstance(decision.event, RepairEnded)
    return decision.event


def test_each_agent_of_each_repair_has_a_name_of_its_own() -> None:
    assert names_of("u", 2, 3, 2) == ("u@2.3.1", "u@2.3.2")
    assert names_of("u", 2, 3, 1) == ("u@2.3.1",)


def test_nothing_is_done_before_an_agent_made_something() -> None:
    assert steps(repair("a", "b")) == []


def test_what_was_made_is_merged_on_green_by_itself() -> None:
    fixing = repair("a", "b")
    fixing.attempted["a"].candidate = made("a")
    assert steps(fixing) == [Merge(candidate=made("a"), onto=GREEN, line=REPAIR)]


def test_what_was_merged_is_verified_above_the_green_it_stands_on() -> None:
    fixing = repair("a", "b")
    fixing.attempted["a"] = Attempted(candidate=made("a"), stacked=merged("a"))
    (probe,) = steps(fixing)
    assert probe == ProbeTree(
        kind=ProbeKind.REPAIR, commit="commit-a", tree="tree-a", units=("a",), below=GREEN
    )


def test_no_more_probes_start_than_are_free_and_none_twice() -> None:
    fixing = repair("a", "b", "c")
    for name in "abc":
        fixing.attempted[name] = Attempted(candidate=made(name), stacked=merged(name))
    under_way = Probe(number=1, kind=ProbeKind.REPAIR, commit="commit-a")
    assert steps(fixing, free=0) == []
    (probe,) = steps(fixing, free=1, probes=[under_way])
    assert isinstance(probe, ProbeTree)
    assert probe.commit == "commit-b"
    assert len(steps(fixing, free=2)) == 2


@pytest.mark.parametrize("verdict", ["passed", "red"])
def test_a_verdict_is_of_the_one_whose_commit_was_probed(verdict: str) -> None:
    fixing = repair("a", "b")
    for name in "ab":
        fixing.attempted[name] = Attempted(candidate=made(name), stacked=merged(name))
    ended = ProbeEnded(probe=1, verdict=verdict)
    fixing.learn("commit-b", ended)
    assert fixing.attempted["b"].verdict == ended
    assert not fixing.attempted["a"].is_settled


@pytest.mark.parametrize("verdict", ["not a run", "cancelled"])
def test_what_was_no_run_is_verified_again(verdict: str) -> None:
    fixing = repair("a")
    fixing.attempted["a"] = Attempted(candidate=made("a"), stacked=merged("a"))
    fixing.learn("commit-a", ProbeEnded(probe=1, verdict=verdict))
    (probe,) = steps(fixing)
    assert isinstance(probe, ProbeTree)


def test_all_are_awaited_before_the_best_is_chosen() -> None:
    fixing = repair("a", "b")
    fixing.attempted["a"] = tried()
    assert steps(fixing) == []


def test_the_winner_goes_on_as_the_next_attempt() -> None:
    fixing = repair("a", "b")
    fixing.attempted = {"a": Attempted(is_lost=True), "b": tried(tests={"passed": 4})}
    ended = end_of(fixing)
    assert (ended.unit, ended.repair, ended.winner, ended.attempt) == ("u", 3, "b", 7)
    assert ended.reason == "1 of 2 pass; 4 tests passed"


@pytest.mark.parametrize(
    ("better", "worse"),
    [
        (
            tried(tests={"passed": 2}, findings={"lint": 9}, lines=9),
            tried(tests={"passed": 1}, findings={}, lines=1),
        ),
        (tried(findings={"lint": 1}, lines=9), tried(findings={"lint": 1, "type": 1}, lines=1)),
        (tried(lines=1), tried(lines=2)),
        (tried(), tried("red", tests={"passed": 9})),
        (tried(tests={"passed": 1}, lines=2), tried(tests={}, lines=1)),
        (tried(tests={}, lines=1), tried(tests={"passed": 0}, lines=2)),
    ],
    ids=[
        "more tests passed",
        "fewer findings",
        "fewer changed lines",
        "it passes",
        "what counts no tests passed none",
        "and is no worse than none",
    ],
)
def test_the_better_repair_wins_in_whatever_order(better: Attempted, worse: Attempted) -> None:
    for attempted in ({"x": better, "y": worse}, {"y": worse, "x": better}):
        fixing = repair()
        fixing.attempted = attempted
        assert end_of(fixing).winner == "x"


def test_a_change_of_unknown_size_counts_as_the_smallest() -> None:
    fixing = repair()
    unknown = tried()
    unknown.stacked = merged("a", None)
    fixing.attempted = {"a": tried(lines=1), "b": unknown}
    assert end_of(fixing).winner == "b"


def test_without_a_pass_the_reds_are_told_once_each() -> None:
    fixing = repair()
    fixing.attempted = {
        "a": tried("red", reason="2 failing"),
        "b": tried("red", reason="timed out"),
        "c": tried("red", reason="2 failing"),
        "d": Attempted(is_lost=True),
    }
    ended = end_of(fixing)
    assert (ended.winner, ended.reason) == ("", "2 failing; timed out")


def test_agents_that_made_nothing_mended_nothing() -> None:
    fixing = repair()
    fixing.attempted = {"a": Attempted(is_lost=True)}
    ended = end_of(fixing)
    assert (ended.unit, ended.repair, ended.winner) == ("u", 3, "")
    assert ended.reason == "nothing was mended"


def test_who_may_not_start_any_more_is_not_awaited_once_something_passes() -> None:
    fixing = repair("b", "c")
    fixing.attempted["a"] = tried()
    assert steps(fixing, given_up=["b"]) == [], "c still runs"
    assert end_of(fixing, given_up=["b", "c"]).winner == "a"


def test_who_may_not_start_any_more_refuses_no_work() -> None:
    fixing = repair("b")
    fixing.attempted["a"] = tried("red")
    assert steps(fixing, given_up=["b"]) == []


def test_only_what_was_verified_is_ranked() -> None:
    with pytest.raises(RuntimeError, match="verified"):
        _ = Attempted(candidate=made("a"), stacked=merged("a")).rank
    with pytest.raises(RuntimeError, match="verified"):
        _ = Attempted(verdict=ProbeEnded(probe=1, verdict="passed")).rank
