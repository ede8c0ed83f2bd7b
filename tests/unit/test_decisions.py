"""What a driver does next, told by a ledger and a clock: no process, no file, no Prefect."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import replace
from typing import Any

import pytest
from hypothesis import given
from hypothesis import settings as hypothesis_settings
from hypothesis import strategies as st

from flows.decisions import (
    CancelAttempts,
    Circumstances,
    Finish,
    MakePlan,
    StartAttempt,
    why_wind_down,
)
from flows.landing.repair import REPAIR
from flows.landing.steps import Decide, Land, Merge, ProbeTree
from flows.ledger.events import (
    AttemptEnded,
    AttemptStarted,
    BaseMoved,
    CandidateConflicted,
    CandidateEmpty,
    CandidateStacked,
    Landed,
    LandingIntended,
    MissionFinished,
    MissionResumed,
    Outcome,
    PlanMade,
    ProbeEnded,
    ProbeStarted,
    RoundEnded,
    RoundStarted,
    StopReason,
    StopRequested,
    UnitEnded,
)
from flows.ledger.state import fold
from flows.planning.plan import Unit, UnitId, unit_to_dict
from tests.stories import (
    BASE,
    START,
    TREE,
    Story,
    begun,
    green,
    planned,
    settings,
    unit,
)

# -- the first value of green ---------------------------------------------------------------------


def test_nothing_is_done_before_the_start_or_after_the_end() -> None:
    assert Story().decide() == []
    finished = MissionFinished(stop_reason="x", exit_code=0, green=None, counts={}, seconds=1.0)
    assert planned(unit("a")).tell(finished).decide() == []


def test_first_of_all_the_base_is_probed() -> None:
    (probe,) = begun().decide()
    assert isinstance(probe, ProbeTree)
    assert (probe.kind, probe.commit, probe.tree) == ("base", BASE, TREE)


def test_while_the_base_is_probed_nothing_else_is_done() -> None:
    story = begun().tell(ProbeStarted(probe=1, kind="base", commit=BASE, tree=TREE))
    assert story.decide() == []


def test_a_base_that_passed_becomes_green() -> None:
    story = begun().tell(
        ProbeStarted(probe=1, kind="base", commit=BASE, tree=TREE),
        ProbeEnded(probe=1, verdict="passed"),
    )
    assert story.decide() == [Land(old="", new=BASE, tree=TREE, probe=1, units=())]


def test_a_red_base_ends_the_mission_as_wrong_input() -> None:
    story = begun().tell(
        ProbeStarted(probe=1, kind="base", commit=BASE, tree=TREE),
        ProbeEnded(probe=1, verdict="red", reason="2 tests failing", output="E assert 0"),
    )
    (once_more,) = story.decide()
    assert isinstance(once_more, ProbeTree), "one red may be a flake"
    story.tell(
        ProbeStarted(probe=2, kind="base", commit=BASE, tree=TREE),
        ProbeEnded(probe=2, verdict="red", reason="2 tests failing", output="E assert 0"),
    )
    (finish,) = story.decide()
    assert (finish.stop_reason, finish.exit_code) == (StopReason.RED_BASE, 2)
    assert "2 tests failing" in finish.detail
    assert "E assert 0" in finish.detail


def test_a_base_whose_probe_was_no_run_is_probed_again_until_there_were_too_many() -> None:
    story = begun()
    for number in (1, 2, 3):
        assert isinstance(story.decide()[0], ProbeTree)
        story.tell(
            ProbeStarted(probe=number, kind="base", commit=BASE, tree=TREE),
            ProbeEnded(probe=number, verdict="not a run", reason="no host"),
        )
        assert number == 3 or story.decide() == []  # it rests before the next
        story.at = story.wake() or story.at
    (finish,) = story.decide()
    assert (finish.stop_reason, finish.exit_code) == (StopReason.INFRASTRUCTURE, 3)
    assert "no host" in finish.detail


def test_a_base_probe_that_was_cut_short_is_no_verdict() -> None:
    story = begun().tell(
        ProbeStarted(probe=1, kind="base", commit=BASE, tree=TREE),
        ProbeEnded(probe=1, verdict="cancelled", reason="the driver ended"),
    )
    assert isinstance(story.decide()[0], ProbeTree)


def test_a_resume_looks_at_a_red_base_again() -> None:
    story = begun().tell(
        ProbeStarted(probe=1, kind="base", commit=BASE, tree=TREE),
        ProbeEnded(probe=1, verdict="red", reason="no python"),
        MissionResumed(pid=1, settings=begun().state.settings),
    )
    assert isinstance(story.decide()[0], ProbeTree)


def test_a_verification_that_never_runs_ends_the_mission_and_keeps_the_train() -> None:
    story = planned(Unit(id=UnitId("a"), title="a")).attempt("a", Outcome.COLLECTED, head="h")
    story.tell(CandidateStacked(unit="a", attempt=1, onto=BASE, commit="c", tree="t"))
    for number in range(2, 20):
        if not isinstance(story.decide()[0], ProbeTree):
            break
        story.tell(
            ProbeStarted(probe=number, kind="stack", commit="c", tree="t", units=("a",)),
            ProbeEnded(probe=number, verdict="not a run", reason="disk full"),
        )
        story.at = story.wake() or story.at
    (finish,) = story.decide()
    assert (finish.stop_reason, finish.exit_code) == (StopReason.INFRASTRUCTURE, 3)
    assert "disk full" in finish.detail
    assert not story.state.train.is_empty


def test_a_deadline_before_anything_was_planned_is_no_success() -> None:
    story = green()
    (finish,) = story.decide(now=story.at + 10 * 24 * 3600)
    assert (finish.stop_reason, finish.exit_code) == (StopReason.DEADLINE, 1)


# -- rounds ---------------------------------------------------------------------------------------


def test_a_round_starts_is_planned_once_and_its_units_start() -> None:
    story = green()
    assert story.decide() == [Decide(event=RoundStarted(round=1, green=BASE))]
    story.tell(RoundStarted(round=1, green=BASE))
    assert story.decide() == [MakePlan(round=1)]
    story.planning = True
    assert story.decide() == []
    story.planning = False
    story.tell(PlanMade(round=1, planner="file", units=[unit_to_dict(unit("a"))]))
    (start,) = story.decide()
    assert start == StartAttempt(unit="a", attempt=1, place="local", slot=0)


def test_a_plan_of_a_file_is_one_round_and_meets_its_objective_when_all_landed() -> None:
    story = planned(unit("a")).collected("a").landed("a")
    (ended,) = story.decide()
    assert isinstance(ended, Decide)
    assert isinstance(ended.event, RoundEnded)
    assert (ended.event.landed, ended.event.not_landed) == (1, 0)
    assert story.judged().decide() == [Finish(stop_reason=StopReason.OBJECTIVE_MET, exit_code=0)]


def test_units_that_did_not_land_make_exit_code_1() -> None:
    story = planned(unit("a"), unit("b")).collected("a").landed("a")
    story.attempt("b", Outcome.FAILED).attempt("b", Outcome.FAILED)
    (ended,) = story.decide()
    assert ended.event == UnitEnded(unit="b", status="failed", reason="failed: ")
    story.tell(ended.event)
    assert story.judged().decide() == [Finish(stop_reason=StopReason.NOTHING_LEFT, exit_code=1)]


def test_a_tidy_mission_goes_on_in_rounds_until_nothing_is_found_or_they_are_used_up() -> None:
    tidy = settings(plan={"planner": "tidy"}, limits={"max_rounds": 2})
    story = planned(unit("a"), settings=tidy).collected("a").landed("a")
    assert story.judged().decide() == [Decide(event=RoundStarted(round=2, green=f"{BASE}+a"))]
    nothing = PlanMade(round=2, planner="tidy", units=[])
    story.tell(RoundStarted(round=2, green=BASE), nothing)
    (finish,) = story.judged().decide()
    assert (finish.stop_reason, finish.exit_code) == (StopReason.OBJECTIVE_MET, 0)


def test_the_last_round_ends_the_mission() -> None:
    tidy = settings(plan={"planner": "tidy"}, limits={"max_rounds": 1})
    story = planned(unit("a"), settings=tidy).collected("a").landed("a")
    (finish,) = story.judged().decide()
    assert finish.stop_reason == StopReason.MAX_ROUNDS


# -- dispatch -------------------------------------------------------------------------------------


def test_the_longest_remaining_path_goes_first_then_the_order_of_the_plan() -> None:
    units = [unit("x"), unit("c", "b"), unit("b", "a"), unit("a"), unit("y")]
    assert planned(*units).starts() == ["a", "x", "y"]


def test_a_dependent_waits_until_what_it_needs_has_landed_not_only_been_collected() -> None:
    story = planned(unit("a"), unit("b", "a")).collected("a")
    assert story.starts() == []
    assert isinstance(story.decide()[0], Merge)
    assert story.landed("a").starts() == ["b"]


def test_slots_are_filled_least_loaded_place_first_and_never_twice() -> None:
    units = [unit(name) for name in "abcdefgh"]
    story = planned(*units, slots={"local": 2, "other": 3})
    story.attempt("a", elsewhere=True)
    found = [a for a in story.decide() if isinstance(a, StartAttempt)]
    where = [(a.place, a.slot) for a in found]
    assert sorted(where) == [("local", 0), ("local", 1), ("other", 1), ("other", 2)]
    assert where[0] == ("local", 0)


def test_overlapping_write_sets_never_run_at_once() -> None:
    one, two, three = (
        unit(name, writes=(glob,)) for name, glob in (("a", "src/*"), ("b", "src/x"), ("c", "doc"))
    )
    story = planned(one, two, three)
    assert story.starts() == ["a", "c"]
    assert story.attempt("a").starts() == ["c"]


def test_a_unit_does_not_start_while_one_it_overlaps_is_still_landing() -> None:
    story = planned(unit("a", writes=("x",)), unit("b", writes=("x",))).collected("a", "x")
    assert story.starts() == []
    assert story.landed("a").starts() == ["b"]


def test_after_a_conflict_the_touched_files_are_the_write_set() -> None:
    story = planned(unit("a"), unit("b"), settings=settings(limits={"max_conflicts": 9}))
    story.collected("a", "x.txt").collected("b", "x.txt").landed("a")
    onto = story.state.green or ""
    story.tell(CandidateConflicted(unit="b", attempt=1, onto=onto, files=("x.txt",)))
    assert story.state.units["b"].writes == ("x.txt",)
    assert story.starts() == ["b"]


def test_a_unit_that_was_put_back_rests_and_the_driver_wakes_for_it() -> None:
    story = planned(unit("a")).attempt("a", Outcome.INFRASTRUCTURE)
    assert story.starts() == ["a"], "the first time at once"
    story.attempt("a", Outcome.INFRASTRUCTURE)
    assert story.starts() == []
    wake = story.wake()
    assert wake is not None
    assert 1.0 < wake - story.at < 3.0
    story.at = wake
    assert story.starts() == ["a"]


def test_the_driver_wakes_for_the_deadline() -> None:
    story = planned(unit("a")).attempt("a")
    wake = story.wake()
    assert wake == START + story.settings.limits.deadline


# -- outcomes -------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "outcome",
    [Outcome.FAILED, Outcome.TIMED_OUT, Outcome.REFUSED, Outcome.NO_CHANGE],
)
def test_what_uses_up_an_attempt_fails_the_unit_when_none_is_left(outcome: Outcome) -> None:
    story = planned(unit("a")).attempt("a", outcome, detail="why")
    story.at += 100
    assert story.starts() == ["a"]
    (ended,) = story.attempt("a", outcome, detail="why").decide()
    assert ended.event == UnitEnded(unit="a", status="failed", reason=f"{outcome.value}: why")


@pytest.mark.parametrize("outcome", [Outcome.INFRASTRUCTURE, Outcome.RATE_LIMITED, Outcome.STOPPED])
def test_what_is_not_the_units_fault_uses_up_nothing(outcome: Outcome) -> None:
    story = planned(unit("a")).attempt("a", outcome).attempt("a", outcome)
    story.at += 100
    assert story.starts() == ["a"]
    assert story.state.units["a"].failures == 0


def test_too_many_conflicts_fail_a_unit() -> None:
    story = planned(unit("a"))
    for _ in range(2):
        story.collected("a", "x")
        number = story.state.units["a"].tries
        story.tell(
            CandidateConflicted(unit="a", attempt=number, onto=BASE, files=("x",), detail="in x")
        )
    (ended,) = story.decide()
    assert ended.event.status == "failed"
    assert "in x" in ended.event.reason


def test_no_change_satisfies_only_when_it_is_proven() -> None:
    story = planned(unit("a"), unit("b", "a")).attempt("a", Outcome.NO_CHANGE, proven=True)
    (ended,) = story.decide()
    assert (ended.event.unit, ended.event.status) == ("a", "no change")
    assert story.tell(ended.event).starts() == ["b"]


def test_what_is_on_green_already_is_no_change() -> None:
    story = planned(unit("a")).collected("a")
    story.tell(CandidateEmpty(unit="a", attempt=1, onto=BASE))
    (ended,) = story.decide()
    assert ended.event.status == "no change"


def test_a_failed_unit_blocks_all_that_depends_on_it_and_they_use_up_nothing() -> None:
    story = planned(unit("a"), unit("b", "a"), unit("c", "b"), unit("d"))
    story.attempt("a", Outcome.FAILED).attempt("a", Outcome.FAILED)
    for _ in range(3):
        story.tell(*(a.event for a in story.decide() if isinstance(a, Decide)))
    ends = {u.unit.id: u.status.value for u in story.state.units.values()}
    assert ends == {"a": "failed", "b": "blocked", "c": "blocked", "d": "waiting"}
    assert story.state.units["b"].cause == "depends on a"
    assert story.state.units["b"].tries == story.state.units["c"].tries == 0
    assert story.starts() == ["d"]


def test_a_stale_attempt_can_write_nothing() -> None:
    story = planned(unit("a")).attempt("a", Outcome.INFRASTRUCTURE).attempt("a")
    before = story.state.units["a"].status
    story.tell(AttemptEnded(unit="a", attempt=1, outcome="collected", head="stale"))
    assert story.state.units["a"].status == before
    assert story.state.train.is_empty


def test_a_landing_whose_last_lines_are_lost_still_satisfies_what_waits_for_it() -> None:
    story = planned(unit("a"), unit("b", "a")).collected("a").landed("a")
    torn = Story(events=story.events[:-1], state=fold(story.events[:-1]))
    assert torn.state.units["a"].status == "landing"
    torn.settle()
    assert torn.state.units["a"].status == "landed"
    assert torn.starts() == ["b"]


# -- enough ---------------------------------------------------------------------------------------


def enough(story: Story, **changes: Any) -> StopReason | None:
    around = Circumstances(now=story.at, slots=story.slots, start_tree=TREE)
    return why_wind_down(story.state, story.settings, replace(around, **changes))


def test_the_deadline_lets_running_units_land_and_starts_no_more() -> None:
    story = planned(unit("a"), unit("b")).attempt("a")
    story.at = START + story.settings.limits.deadline
    assert enough(story) == StopReason.DEADLINE
    assert story.decide() == [], "the running agent goes on"
    story.tell(AttemptEnded(unit="a", attempt=1, outcome="collected", head="h", tree="t"))
    assert isinstance(story.decide()[0], Merge)
    (finish,) = story.landed("a").decide()
    assert (finish.stop_reason, finish.exit_code) == (StopReason.DEADLINE, 1)


@pytest.mark.parametrize("spent", ["in the mission", "today"])
def test_a_spent_budget_starts_no_more(spent: str) -> None:
    story = planned(unit("a"), unit("b")).attempt("a", Outcome.FAILED, cost_usd=50.0)
    if spent == "today":
        story = planned(unit("a"))
        assert enough(story) is None
        assert enough(story, spent_today_usd=200.0) == StopReason.BUDGET
    else:
        assert enough(story) == StopReason.BUDGET
        assert story.starts() == []


def test_failures_in_a_row_stop_the_mission_and_a_landing_starts_the_count_again() -> None:
    few = settings(limits={"max_attempts": 1, "max_failures_in_a_row": 2})
    story = planned(*(unit(name) for name in "abcde"), settings=few)
    for name in "ab":
        story.attempt(name, Outcome.FAILED).tell(UnitEnded(unit=name, status="failed"))
        if name == "a":
            story.collected("c").landed("c")
    assert enough(story) is None
    story.attempt("d", Outcome.FAILED).tell(UnitEnded(unit="d", status="failed"))
    (finish,) = story.decide()
    assert (finish.stop_reason, finish.exit_code) == (StopReason.FAILURES_IN_A_ROW, 1)


def test_too_many_faults_end_the_mission_as_ours_with_the_unit_and_cause_named() -> None:
    story = planned(unit("a"), unit("b"))
    for _ in range(3):
        story.attempt("b", Outcome.INFRASTRUCTURE, detail="no space")
    (finish,) = story.decide()
    assert (finish.stop_reason, finish.exit_code) == (StopReason.INFRASTRUCTURE, 3)
    assert finish.detail == "b: no space"


def test_a_unit_whose_faults_are_its_own_fails_and_the_others_go_on() -> None:
    story = planned(unit("a"), unit("b"), unit("c"))
    story.attempt("b", Outcome.INFRASTRUCTURE)
    story.collected("a").landed("a")
    story.attempt("b", Outcome.RATE_LIMITED).attempt("b", Outcome.INFRASTRUCTURE, detail="gone")
    (ended,) = story.decide()
    assert (ended.event.unit, ended.event.status) == ("b", "failed")
    assert "3 faults, and others went well meanwhile: gone" in ended.event.reason
    story.tell(ended.event)
    assert story.starts() == ["c"]
    assert enough(story) is None


def test_whoever_resumes_has_mended_what_was_broken() -> None:
    story = planned(unit("a"))
    for _ in range(3):
        story.attempt("a", Outcome.INFRASTRUCTURE)
    finished = MissionFinished(stop_reason="x", exit_code=3, green=BASE, counts={}, seconds=1.0)
    story.tell(finished, MissionResumed(pid=1, settings=story.state.settings))
    assert enough(story) is None
    assert story.starts() == ["a"], "at once, whatever its back-off was"


def test_whoever_resumes_may_have_mended_a_base_that_conflicts() -> None:
    story = planned(unit("a")).tell(
        BaseMoved(branch="main", commit="pushed"),
        CandidateConflicted(unit="@base", attempt=1, onto=BASE, files=("x",)),
    )
    (finish,) = story.decide()
    assert finish.stop_reason == StopReason.BASE_CONFLICT
    story.tell(MissionResumed(pid=1, settings=story.state.settings))
    assert enough(story) is None
    assert story.starts() == ["a"]
    assert story.state.base_tip != "pushed", "should it conflict still, that is news again"


def test_a_stop_ends_running_agents_first_and_then_the_mission() -> None:
    story = planned(unit("a"), unit("b")).attempt("a").tell(StopRequested(by="x", reason="lunch"))
    assert story.decide() == [CancelAttempts()]
    story.tell(AttemptEnded(unit="a", attempt=1, outcome="stopped"))
    finish = Finish(stop_reason=StopReason.STOPPED, exit_code=130, detail="lunch")
    assert story.decide() == [finish]


# -- repairs --------------------------------------------------------------------------------------

FIXER: dict[str, Any] = {
    "agents": {"fixer": {"argv": ["true"]}},
    "fixup": {"agent": "fixer", "attempts": 1},
}


def test_refused_work_is_given_to_the_fixer_and_to_nobody_else() -> None:
    story = planned(unit("a"), settings=settings(**FIXER)).collected("a").rejected("a")
    (start,) = story.settle()
    assert isinstance(start, StartAttempt)
    assert (start.unit, story.state.units[start.unit].repair_of) == ("a@1.1.1", "a")


def test_a_repair_that_does_not_merge_is_lost_and_nothing_else_happens() -> None:
    story = planned(unit("a"), settings=settings(**FIXER)).collected("a").rejected("a")
    story.settle()
    story.collected("a@1.1.1")
    clash = CandidateConflicted(unit="a@1.1.1", attempt=1, onto=BASE, files=("x",), line=REPAIR)
    (start,) = story.tell(clash).settle()
    assert start == StartAttempt(unit="a", attempt=2, place="local", slot=0)
    assert story.state.train.is_empty
    assert (story.state.units["a"].failures, story.state.units["a"].conflicts) == (1, 0)


def test_mended_work_that_conflicts_is_done_anew_and_not_repaired_besides() -> None:
    story = planned(unit("a"), settings=settings(**FIXER)).collected("a").rejected("a")
    (start,) = story.settle()
    story.mended(start.unit).settle()
    story.tell(CandidateConflicted(unit="a", attempt=2, onto=BASE, files=("x",)))
    assert story.settle() == [StartAttempt(unit="a", attempt=3, place="local", slot=0)]


def test_repairs_of_overlapping_units_never_wait_for_each_other() -> None:
    story = planned(unit("a", writes=("x",)), unit("b", writes=("x",)), settings=settings(**FIXER))
    story.collected("a", "x").rejected("a").settle()
    story.collected("b", "x").rejected("b").settle()
    assert story.starts() == ["a@1.1.1"], "one after the other"
    story.attempt("a@1.1.1", Outcome.NO_CHANGE).settle()
    assert story.starts()[-1:] == ["b@1.1.1"]


def test_nothing_that_overlaps_refused_work_starts_before_it_is_mended() -> None:
    story = planned(unit("a", writes=("x",)), unit("b", writes=("x",)), settings=settings(**FIXER))
    story.collected("a", "x").rejected("a")
    assert story.starts() == []
    story.settle()
    assert story.starts() == ["a@1.1.1"]
    story.mended("a@1.1.1", tests={"passed": 1}).settle()
    assert story.landed("a").starts() == ["b"]


def test_a_fixer_that_never_runs_ends_the_mission_and_blames_nobody() -> None:
    story = planned(unit("a"), settings=settings(**FIXER)).collected("a").rejected("a")
    story.settle()
    for _ in range(3):
        story.attempt("a@1.1.1", Outcome.INFRASTRUCTURE, detail="no space")
    story.at += 1_000
    (finish,) = story.settle()
    assert (finish.stop_reason, finish.exit_code) == (StopReason.INFRASTRUCTURE, 3)
    assert finish.detail == "a@1.1.1: no space"
    assert story.state.units["a"].failures == 0
    story.tell(MissionResumed(pid=1, settings=story.state.settings))
    assert story.starts() == ["a@1.1.1"]


def test_at_the_deadline_the_best_repair_so_far_goes_on() -> None:
    two = {**FIXER, "fixup": {"agent": "fixer", "candidates": 2}}
    story = planned(unit("a"), settings=settings(**two), slots={"local": 1})
    story.collected("a").rejected("a").settle()
    story.mended("a@1.1.1")
    story.at = START + story.settings.limits.deadline
    (merge,) = story.settle()
    assert isinstance(merge, Merge)
    assert merge.candidate.head == "head-a@1.1.1"


def test_the_deadline_waits_for_the_probe_of_a_repair_and_for_nothing_else() -> None:
    story = planned(unit("a"), settings=settings(**FIXER)).collected("a").rejected("a")
    story.settle()
    story.mended("a@1.1.1", "not a run")
    story.at = START + story.settings.limits.deadline
    story.probed("repair", "made-by-a@1.1.1", "not a run")
    assert story.settle() == [], "it rests"
    story.at = story.state.probe_not_before
    (probe,) = story.settle()
    assert (probe.kind, probe.commit) == ("repair", "made-by-a@1.1.1")


def test_while_green_is_red_no_repair_is_judged() -> None:
    story = planned(unit("a"), settings=settings(**FIXER, verify={"slots": 2}))
    story.collected("a").rejected("a").settle()
    story.mended("a@1.1.1", "not a run").at += 1_000
    commit, probe = "made-by-a@1.1.1", story.state.n_probes + 1
    story.tell(ProbeStarted(probe=probe, kind="repair", commit=commit, tree=commit))
    story.probed("control", BASE, "red").tell(ProbeEnded(probe=probe, verdict="red"))
    story.at += 1_000
    assert [(a.kind, a.commit) for a in story.settle()] == [("control", BASE)]
    story.probed("control", BASE, "passed")
    assert [(a.kind, a.commit) for a in story.settle()] == [("repair", commit)]


# -- repairs of the base --------------------------------------------------------------------------

MENDER = "repair-base@0.1.1"


def red_base(**changes: Any) -> Story:
    """A mission whose base was red twice and is given to the fixer."""
    story = begun(settings=settings(**FIXER), **changes)
    story.probed("base", BASE, "red").probed("base", BASE, "red")
    (start,) = story.settle()
    assert start == StartAttempt(unit=MENDER, attempt=1, place="local", slot=0)
    return story


def not_run(story: Story, kind: str, commit: str) -> list[Any]:
    """Tell of probes that were no run until no more are asked for; returns what is done then."""
    for _ in range(9):
        story.at = max(story.at, story.state.probe_not_before)
        actions = story.decide()
        if not any(isinstance(action, ProbeTree) for action in actions):
            return actions
        story.probed(kind, commit, "not a run", reason="no host")
    raise AssertionError("it is probed for ever")


def test_a_red_base_that_cannot_be_probed_again_is_no_wrong_input() -> None:
    (finish,) = not_run(begun().probed("base", BASE, "red"), "base", BASE)
    assert (finish.stop_reason, finish.exit_code) == (StopReason.INFRASTRUCTURE, 3)


def test_a_mended_base_that_cannot_be_probed_ends_the_mission() -> None:
    story = red_base().mended(MENDER, "not a run")
    (finish,) = not_run(story, "repair", f"made-by-{MENDER}")
    assert (finish.stop_reason, finish.exit_code) == (StopReason.INFRASTRUCTURE, 3)
    assert "no host" in finish.detail


def test_a_fixer_that_never_runs_ends_a_mission_with_a_red_base() -> None:
    story = red_base()
    for _ in range(3):
        story.attempt(MENDER, Outcome.INFRASTRUCTURE, detail="no space")
    story.at += 1_000
    (finish,) = story.decide()
    assert (finish.stop_reason, finish.exit_code) == (StopReason.INFRASTRUCTURE, 3)
    assert "no space" in finish.detail


def test_the_deadline_ends_the_repair_of_a_base_once_its_agent_has_ended() -> None:
    story = red_base().attempt(MENDER)
    story.at = START + story.settings.limits.deadline
    assert story.decide() == []
    story.tell(AttemptEnded(unit=MENDER, attempt=1, outcome="infrastructure"))
    (finish,) = story.decide()
    assert (finish.stop_reason, finish.exit_code) == (StopReason.DEADLINE, 1)


def test_a_mended_base_lands_after_a_resume_without_being_mended_again() -> None:
    story = red_base().mended(MENDER)
    story.settle()
    story.tell(MissionResumed(pid=1, settings=story.state.settings))
    (land,) = story.decide()
    made = f"made-by-{MENDER}"
    assert land == Land(old="", new=made, tree=made, probe=3, units=("repair-base",))
    what: dict[str, Any] = {"old": None, "new": made, "tree": made, "probe": 3}
    story.tell(Landed(units=land.units, **what), UnitEnded(unit="repair-base", status="landed"))
    assert story.state.green == made


# -- any plan, any luck ---------------------------------------------------------------------------


@st.composite
def plans(draw: st.DrawFn) -> list[Unit]:
    n = draw(st.integers(1, 8))
    globs = st.sampled_from([None, ("a",), ("b",), ("a", "b"), ("*",)])
    return [
        unit(
            f"u{i}",
            *(
                f"u{j}"
                for j in sorted(draw(st.sets(st.integers(0, i - 1), max_size=3)) if i else ())
            ),
            writes=draw(globs),
        )
        for i in range(n)
    ]


def assert_sound(story: Story, actions: Iterable[Any]) -> None:
    """No more agents than slots, no dependency unmet, no two in one slot."""
    state = story.state
    running = [(u.place, u.slot) for u in state.units.values() if u.status == "running"]
    for action in actions:
        if isinstance(action, StartAttempt):
            needs = state.units[action.unit].unit.depends_on
            assert all(state.units[n].status in {"landed", "no change"} for n in needs)
            running.append((action.place, action.slot))
    assert len(running) == len({*running}) <= sum(story.slots.values())


@hypothesis_settings(max_examples=60, deadline=None)
@given(plans(), st.randoms(use_true_random=False))
def test_every_mission_ends_with_each_unit_accounted_for(units: Sequence[Unit], luck: Any) -> None:
    """Drive the decisions as the driver does, with outcomes by chance; no landing goes wrong."""
    story = planned(*units, slots={"local": 2, "other": 1})
    for _ in range(500):
        actions = story.decide()
        assert_sound(story, actions)
        if any(isinstance(a, Finish) for a in actions):
            break
        if not actions:
            advance(story, luck)
        for action in actions:
            perform(story, action)
    else:
        raise AssertionError("the mission does not end")
    ends = {u.unit.id: u.status.value for u in story.state.units.values()}
    assert fold(story.events).counts == story.state.counts
    blocked = {u.id for u in units if any(ends[d] in {"failed", "blocked"} for d in u.depends_on)}
    assert {name for name, status in ends.items() if status == "blocked"} == blocked
    assert {*ends.values()} <= {"landed", "no change", "failed", "blocked"}


def advance(story: Story, luck: Any) -> None:
    """Something that runs ends, or time passes until something is due."""
    state = story.state
    if state.probes:
        (number,) = state.probes
        story.tell(ProbeEnded(probe=number, verdict="passed"))
        return
    running = [u for u in state.units.values() if u.status == "running"]
    if not running:
        wake = story.wake()
        assert wake is not None, "nothing runs and nothing will"
        story.at = wake
        return
    chosen = luck.choice(running)
    outcome = luck.choice([Outcome.COLLECTED, Outcome.COLLECTED, Outcome.FAILED, Outcome.NO_CHANGE])
    name = chosen.unit.id
    story.tell(
        AttemptEnded(
            unit=name,
            attempt=chosen.tries,
            outcome=outcome.value,
            head=f"h-{name}-{chosen.tries}",
            tree="t",
            proven=luck.random() < 0.5,
        )
    )


def perform(story: Story, action: Any) -> None:
    """Record what the driver would."""
    match action:
        case Decide():
            story.tell(action.event)
        case StartAttempt():
            story.tell(
                AttemptStarted(
                    unit=action.unit,
                    attempt=action.attempt,
                    base=BASE,
                    agent="default",
                    place=action.place,
                    slot=action.slot,
                )
            )
        case Merge():
            candidate = action.candidate
            story.tell(
                CandidateStacked(
                    unit=candidate.unit,
                    attempt=candidate.attempt,
                    onto=action.onto,
                    commit=f"{action.onto}+{candidate.unit}",
                    tree=f"{action.onto}+{candidate.unit}",
                )
            )
        case ProbeTree():
            story.tell(
                ProbeStarted(
                    probe=story.state.n_probes + 1,
                    kind=action.kind.value,
                    commit=action.commit,
                    tree=action.tree,
                    units=action.units,
                )
            )
        case Land():
            what: dict[str, Any] = {"new": action.new, "tree": action.tree, "probe": action.probe}
            ended = (UnitEnded(unit=u, status="landed") for u in action.units)
            story.tell(
                LandingIntended(old=action.old, units=action.units, **what),
                Landed(old=action.old, units=action.units, **what),
                *ended,
            )
        case _:
            raise AssertionError(action)
