"""What is decided about rounds: questions, limits of accounts and money, judgements, people."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import pytest

from flows.decisions import CancelAttempts, Finish, MakePlan, Rest
from flows.judging.rounds import AskAgent, figures_in_words, remaining
from flows.landing.steps import Decide
from flows.ledger.events import (
    AskEnded,
    AskStarted,
    AttemptEnded,
    Landed,
    LandingIntended,
    MissionInterrupted,
    MissionResumed,
    Outcome,
    PlanMade,
    ProbeEnded,
    ProbeStarted,
    Purpose,
    ReplanWanted,
    ReviewAnswered,
    ReviewRequested,
    RoundEnded,
    RoundJudged,
    RoundStarted,
    StopReason,
    StopRequested,
    UnitEnded,
)
from flows.planning.plan import unit_to_dict
from tests.stories import BASE, TREE, Story, begun, green, planned, settings, unit

OF_CLAUDE = settings(agents={"default": {"profile": "claude"}})
AGENTS = {"default": {}, "planner": {"profile": "codex"}, "judge": {"profile": "claude"}}


def asking(**tables: Mapping[str, Any]) -> Story:
    """The first round of a mission that an agent plans, and another judges."""
    plan = {"planner": "agent", "agent": "planner", "slots": 2, **tables.pop("plan", {})}
    story = green(
        settings=settings(plan=plan, agents=AGENTS, evaluate={"agent": "judge"}, **tables)
    )
    return story.tell(RoundStarted(round=1, green=BASE))


def ask(story: Story, **ended: Any) -> Story:
    """Ask the next thing, and tell what came of it."""
    action = next(a for a in story.decide() if isinstance(a, AskAgent))
    number = story.state.inquiry.n_asks + 1
    story.tell(
        AskStarted(
            ask=number,
            purpose=action.purpose.value,
            round=story.state.round,
            agent=action.agent,
            place=action.place,
            slot=action.slot,
            green=BASE,
            node=action.node,
        )
    )
    return story.tell(AskEnded(ask=number, **ended)) if ended else story


def answered(**answer: Any) -> dict[str, Any]:
    return {"outcome": "answered", "answer": answer}


def divided(*names: str) -> dict[str, Any]:
    parts = [{"id": n, "title": n, "scope": n, "depends_on": []} for n in names]
    return answered(units=[], parts=parts)


def with_units(*names: str) -> dict[str, Any]:
    return answered(units=[unit_to_dict(unit(name)) for name in names], parts=[])


def judged(score: float | None = 0.5, *remains: str, met: bool = False) -> dict[str, Any]:
    return answered(score=score, met=met, remains=[*remains], summary="")


def made(story: Story, *names: str) -> Story:
    """Tell that the round's plan was made of these."""
    state, dicts = story.state, [unit_to_dict(unit(name)) for name in names]
    replan = state.inquiry.replan
    return story.tell(PlanMade(round=state.round, planner="agent", units=dicts, replan=replan))


# -- questions --------------------------------------------------------------------------------


def test_the_whole_is_asked_first_then_its_parts_at_once_as_far_as_slots_go() -> None:
    story = asking()
    (first,) = story.decide()
    assert (first.purpose, first.agent, first.node, first.slot) == (Purpose.PLAN, "planner", "0", 0)
    ask(story, **divided("a", "b", "c"))
    assert [(a.node, a.slot) for a in story.decide()] == [("0.1", 0), ("0.2", 1)]
    ask(story)
    assert [(a.node, a.slot) for a in story.decide()] == [("0.2", 1)]


def test_the_plan_is_made_when_every_part_is_answered() -> None:
    story = ask(asking(), **divided("a", "b"))
    ask(story, **with_units("x"))
    assert story.decide() != [MakePlan(round=1)]
    ask(story, **with_units("y"))
    assert story.decide() == [MakePlan(round=1)]


def test_an_unusable_answer_is_asked_again_at_once_and_a_lost_question_after_a_rest() -> None:
    story = ask(asking(), outcome="unusable", problem="no JSON")
    (again,) = story.decide()
    assert again.node == "0"
    ask(story, outcome="infrastructure", problem="no host")
    assert story.decide() == []
    story.at = story.wake() or 0.0
    assert [a.node for a in story.decide()] == ["0"]
    ask(story, outcome="unusable", problem="still no JSON")
    assert story.decide() == [MakePlan(round=1)], "it is one unit now"


def test_questions_that_are_lost_again_and_again_end_the_mission() -> None:
    story = asking()
    for _ in range(3):
        ask(story, outcome="infrastructure", problem="no host")
        story.at = story.wake() or story.at
    (finish,) = story.decide()
    assert (finish.stop_reason, finish.exit_code) == (StopReason.INFRASTRUCTURE, 3)
    assert "plan by planner: no host" in finish.detail


def test_after_the_deadline_nothing_more_is_asked_and_what_runs_ends_first() -> None:
    story = ask(ask(asking(), **divided("a", "b")))
    story.at += story.settings.limits.deadline
    assert story.decide() == []
    story.tell(AskEnded(ask=2, **with_units("x")))
    (finish,) = story.decide()
    assert (finish.stop_reason, finish.exit_code) == (StopReason.DEADLINE, 1)


def test_a_stop_ends_questions_too() -> None:
    story = ask(asking()).tell(StopRequested(by="me"))
    assert story.decide() == [CancelAttempts()]
    story.tell(AskEnded(ask=1, outcome="stopped"))
    (finish,) = story.decide()
    assert finish.stop_reason == StopReason.STOPPED


def test_one_limit_that_all_questions_meet_at_once_is_one_fault() -> None:
    """`max_faults` is 2 here: three lost at once are not three times in a row."""
    story = asking(plan={"slots": 16, "max_children": 3})
    ask(story, **divided("a", "b", "c"))
    for _ in range(3):
        ask(story)
    until = story.at + 600.0
    for number in (2, 3, 4):
        story.tell(AskEnded(ask=number, outcome="rate limited", limited_until=until))
    assert story.decide() == []
    story.at = story.wake() or 0.0
    assert [a.node for a in story.decide()] == ["0.1", "0.2", "0.3"]


# -- quota and money --------------------------------------------------------------------------


def test_a_limit_of_an_account_parks_all_units_of_that_agent_and_no_other() -> None:
    story = planned(unit("a"), unit("b"), unit("c", agent="other"), settings=OF_CLAUDE)
    until = story.at + 600.0
    story.attempt("a", Outcome.RATE_LIMITED, limited_until=until)
    assert story.starts() == ["c"]
    story.attempt("c")
    wake = story.wake()
    assert wake is not None
    assert until <= wake <= until + 30.0
    story.at = wake
    assert story.starts() == ["a", "b"]
    assert story.state.units["a"].failures == 0


def test_any_commands_word_of_a_limit_keeps_only_its_own_unit_waiting() -> None:
    story = planned(unit("a"), unit("b"))
    story.attempt("a", Outcome.RATE_LIMITED, limited_until=story.at + 1e6)
    assert story.starts() == ["a", "b"], "the first time at once, as after any fault"
    for_claude = planned(unit("a", command=("x",)), unit("b"), settings=OF_CLAUDE)
    for_claude.attempt("a", Outcome.RATE_LIMITED, limited_until=story.at + 1e6)
    assert "b" in for_claude.starts()


def test_a_limit_that_another_mission_met_parks_this_one_as_well() -> None:
    story = planned(unit("a"), unit("c", agent="other"))
    limited = {"default": story.at + 60.0}
    starts = [a.unit for a in story.decide(limited=limited)]
    assert starts == ["c"]


def test_a_planner_without_quota_is_asked_again_when_it_has_some() -> None:
    story = asking()
    until = story.at + 600.0
    ask(story, outcome="rate limited", problem="used up", limited_until=until)
    assert story.decide() == []
    story.at = story.wake() or 0.0
    assert until <= story.at <= until + 30.0
    assert [a.node for a in story.decide()] == ["0"]


@pytest.mark.parametrize(
    ("limits", "around"),
    [
        ({"budget_usd": 1.0}, {}),
        ({"budget_tokens": 1_000}, {}),
        ({"budget_usd_per_day": 5.0}, {"spent_today_usd": 5.0}),
    ],
)
def test_a_spent_budget_starts_nothing_more_and_lets_what_runs_land(
    limits: Mapping[str, Any], around: Mapping[str, Any]
) -> None:
    story = planned(unit("a"), unit("b"), unit("c"), settings=settings(limits=limits))
    story.attempt("a").attempt(
        "b", Outcome.FAILED, cost_usd=1.0, input_tokens=900, output_tokens=100
    )
    assert [*story.decide(**around)] == []
    story.tell(_collected(story, "a"))
    story.landed("a")
    story.settle()
    (finish,) = story.decide(**around)
    assert (finish.stop_reason, finish.exit_code) == (StopReason.BUDGET, 1)


def _collected(story: Story, name: str) -> AttemptEnded:
    number = story.state.units[name].tries
    return AttemptEnded(
        unit=name, attempt=number, outcome="collected", head="h", tree="t", files=("x",)
    )


# -- judgements -------------------------------------------------------------------------------


def over(story: Story, *names: str) -> Story:
    """Tell that all units of these names landed and the round ended."""
    for name in names:
        story.collected(name).landed(name)
    (ended,) = story.decide()
    assert isinstance(ended.event, RoundEnded)
    return story.tell(ended.event)


def first_round(**tables: Mapping[str, Any]) -> Story:
    """A mission in which the one unit of round 1 landed, and the round ended."""
    story = made(ask(asking(**tables), **with_units("x")), "x")
    return over(story, "x")


def test_after_a_round_the_evaluator_is_asked_and_its_word_stands_beside_the_score() -> None:
    story = first_round()
    (question,) = story.decide()
    assert (question.purpose, question.agent) == (Purpose.EVALUATE, "judge")
    ask(story, **judged(0.25, "docs", "tests"))
    (decision,) = story.decide()
    verdict = decision.event
    assert isinstance(verdict, RoundJudged)
    assert (verdict.met, verdict.judged, [*verdict.remains]) == (False, 0.25, ["docs", "tests"])
    assert verdict.score is not None
    assert {*verdict.signals} == {"units", "remaining"}


def test_an_evaluator_without_a_usable_answer_is_no_zero() -> None:
    story = ask(first_round(), outcome="unusable", problem="no JSON")
    (decision,) = story.decide()
    assert (decision.event.judged, decision.event.score) == (None, 1.0)


def test_an_objective_is_met_when_the_judge_says_so_and_nothing_remains() -> None:
    story = ask(first_round(), **judged(1.0, met=True))
    story.settle()
    assert story.decide() == [Finish(stop_reason=StopReason.OBJECTIVE_MET, exit_code=0)]


def test_a_flag_alone_does_not_meet_an_objective() -> None:
    story = ask(first_round(), **judged(1.0, "but for the docs", met=True))
    (decision,) = story.decide()
    assert not decision.event.met


def test_a_judge_that_sees_more_to_do_where_nothing_is_planned_ends_with_exit_code_1() -> None:
    story = ask(first_round(), **judged(0.5, "docs"))
    (decision,) = story.decide()
    story.tell(decision.event, RoundStarted(round=2, green=BASE))
    ask(story, **with_units())
    made(story)
    story = ask(over(story), **judged(0.5, "docs"))
    story.tell(story.decide()[0].event)
    (finish,) = story.decide()
    assert (finish.stop_reason, finish.exit_code) == (StopReason.NOTHING_LEFT, 1)


def test_scores_that_stand_still_end_the_mission() -> None:
    story = ask(first_round(), **judged(0.5, "all"))
    for number in (2, 3):
        story.tell(story.decide()[0].event)
        (begin,) = story.decide()
        assert begin == Decide(event=RoundStarted(round=number, green=story.state.green or ""))
        story.tell(begin.event)
        ask(story, **with_units(f"u{number}"))
        ask(over(made(story, f"u{number}"), f"u{number}"), **judged(0.5, "all"))
    story.tell(story.decide()[0].event)
    (finish,) = story.decide()
    assert (finish.stop_reason, finish.exit_code) == (StopReason.NO_PROGRESS, 1)


# -- plans that do not hold -------------------------------------------------------------------


def test_a_failed_unit_has_the_rest_planned_anew_three_times_at_most() -> None:
    story = asking(limits={"max_attempts": 1, "max_failures_in_a_row": 50})
    for number in range(1, 5):
        ask(story, **with_units(f"u{number}"))
        made(story, f"u{number}").attempt(f"u{number}", Outcome.FAILED, detail="no way")
        story.tell(UnitEnded(unit=f"u{number}", status="failed", reason="no way"))
        (decision,) = story.decide()
        if number == 4:
            assert isinstance(decision.event, RoundEnded)
            return
        assert decision.event == ReplanWanted(
            round=1, replan=number, trigger="units failed", units=[f"u{number}"]
        )
        story.tell(decision.event)


def test_an_agent_that_says_it_is_blocked_names_the_trigger() -> None:
    story = made(ask(asking(limits={"max_attempts": 1}), **with_units("x")), "x")
    story.attempt("x", Outcome.NO_CHANGE, report={"status": "blocked"})
    story.tell(story.decide()[0].event)
    (decision,) = story.decide()
    assert decision.event.trigger == "agent blocked"


def test_the_plan_of_a_file_is_not_made_anew() -> None:
    story = planned(unit("a"), settings=settings(limits={"max_attempts": 1}))
    story.attempt("a", Outcome.FAILED)
    story.tell(story.decide()[0].event)
    assert isinstance(story.decide()[0].event, RoundEnded)


# -- people -----------------------------------------------------------------------------------


def test_canaries_run_first_and_the_others_when_a_person_approves() -> None:
    story = planned(unit("a"), unit("b"), unit("c"), settings=settings(review={"canary": 2}))
    assert story.starts() == ["a", "b"]
    story.collected("a").landed("a").attempt("b")
    assert story.decide() == []
    story.tell(_collected(story, "b"))
    story.landed("b")
    (decision,) = story.decide()
    assert isinstance(decision.event, ReviewRequested)
    assert [*decision.event.units] == ["a", "b"]
    story.tell(decision.event)
    assert story.decide() == [Rest(review="canary")]
    story.tell(ReviewAnswered(review="canary", answer="approved", by="me"))
    assert story.starts() == ["c"]


def test_the_repair_of_a_red_base_is_no_canary() -> None:
    agents = {"default": {}, "fixer": {"argv": ["true"]}}
    fixer: dict[str, Any] = {"fixup": {"agent": "fixer"}, "agents": agents}
    story = begun(settings=settings(review={"canary": 1}, **fixer))
    story.probed("base", BASE, "red").probed("base", BASE, "red").settle()
    (start,) = story.decide()
    story.mended(start.unit).settle()
    (land,) = story.decide()
    what: dict[str, Any] = {"tree": land.tree, "probe": land.probe, "units": land.units}
    story.tell(
        LandingIntended(old=None, new=land.new, **what),
        Landed(old=None, new=land.new, **what),
        UnitEnded(unit="repair-base", status="landed"),
        RoundStarted(round=1, green=land.new),
        PlanMade(round=1, planner="file", units=[unit_to_dict(unit(name)) for name in "ab"]),
    )
    assert story.starts() == ["a"]


def test_the_deadline_does_not_count_the_time_in_which_a_mission_waits_for_a_person() -> None:
    story = planned(unit("a"), unit("b"), settings=settings(review={"canary": 1}))
    story.collected("a").landed("a")
    story.tell(story.decide()[0].event, MissionInterrupted(reason="waits for a review"))
    story.at += 2 * story.settings.limits.deadline
    story.tell(MissionResumed(pid=1, settings=story.state.settings))
    story.tell(ReviewAnswered(review="canary", answer="approved", by="me"))
    assert story.starts() == ["b"]
    story.attempt("b")
    wake = story.wake()
    assert wake == story.at + story.settings.limits.deadline


def test_a_canary_that_has_to_be_tried_again_is_no_other_unit() -> None:
    story = planned(unit("a"), unit("b"), settings=settings(review={"canary": 1}))
    story.attempt("a", Outcome.FAILED)
    assert story.starts() == ["a"]
    story.attempt("a", Outcome.FAILED)
    story.tell(story.decide()[0].event)
    (decision,) = story.decide()
    assert isinstance(decision.event, ReviewRequested)


def test_a_rejected_canary_ends_the_mission() -> None:
    story = planned(unit("a"), unit("b"), settings=settings(review={"canary": 1}))
    story.collected("a").landed("a")
    story.tell(story.decide()[0].event)
    story.tell(ReviewAnswered(review="canary", answer="rejected", by="me"))
    (finish,) = story.decide()
    assert (finish.stop_reason, finish.exit_code) == (StopReason.REJECTED, 1)


# -- what was measured ------------------------------------------------------------------------


def measured(tests: Mapping[str, int], findings: Mapping[str, int], coverage: float) -> Any:
    return {"tests": tests, "findings": findings, "coverage": coverage}


def test_a_score_is_made_of_what_the_verification_of_green_measured_now_and_at_first() -> None:
    first = measured({"passed": 6, "failed": 2, "skipped": 1}, {"lint": 8, "types": 4}, 0.5)
    now = measured({"passed": 6, "failed": 1, "errors": 1, "skipped": 3}, {"lint": 2}, 0.75)
    story = begun().tell(
        ProbeStarted(probe=1, kind="base", commit=BASE, tree=TREE),
        ProbeEnded(probe=1, verdict="passed", **first),
        Landed(old=None, new=BASE, tree=TREE, probe=1),
        RoundStarted(round=1, green=BASE),
        PlanMade(round=1, planner="file", units=[unit_to_dict(unit("a"))]),
    )
    assert figures_in_words(story.state) == {
        "tests": "6 passed, 2 failed, 1 skipped",
        "findings": "8 lint, 4 types",
        "coverage": "50.0%",
    }
    commit = story.collected("a").stacked("a")
    which: dict[str, Any] = {"tree": commit, "units": ("a",), "probe": 2}
    story.tell(
        ProbeStarted(kind="stack", commit=commit, **which),
        ProbeEnded(probe=2, verdict="passed", **now),
        LandingIntended(old=BASE, new=commit, **which),
        Landed(old=BASE, new=commit, **which),
        UnitEnded(unit="a", status="landed"),
    )
    story.tell(story.decide()[0].event)
    (decision,) = story.decide()
    assert decision.event.findings == {"lint": 2, "types": 0}, "what is not found any more is none"
    assert decision.event.signals == {
        "units": 1.0,
        "tests": 0.6,  # 6 of 8 that ran and of 2 that are skipped since
        "lint": 0.75,
        "types": 1.0,
        "coverage": 0.75,
    }


def test_nothing_measured_is_told_as_nothing() -> None:
    assert figures_in_words(begun().state) == {}


def test_what_remains_is_what_did_not_land_and_what_the_judge_said() -> None:
    story = asking(limits={"max_attempts": 1})
    made(ask(story, **with_units("x", "y")), "x", "y")
    story.attempt("x", Outcome.FAILED, detail="no way").collected("y").landed("y")
    story.tell(UnitEnded(unit="x", status="failed", reason="no way"))
    assert remaining(story.state) == ("x (unit x failed: no way)",)
    (again,) = story.decide()
    story.tell(again.event)
    made(ask(story, **with_units("z")), "z").collected("z").landed("z")
    story.tell(story.decide()[0].event)
    ask(story, **judged(0.5, "docs"))
    (decision,) = story.decide()
    assert [*decision.event.remains] == ["docs"], "what a later plan made good does not remain"
    story.tell(decision.event, RoundStarted(round=2, green=BASE))
    assert remaining(story.state) == ("docs",)


def test_questions_of_all_places_together_are_no_more_than_the_slots() -> None:
    story = asking(plan={"slots": 3})
    story.slots = {"here": 1, "there": 1}
    ask(story, **divided("a", "b", "c", "d"))
    wanted = [(a.place, a.slot) for a in story.decide() if isinstance(a, AskAgent)]
    assert wanted == [("here", 0), ("there", 0), ("here", 1)]
    ask(ask(story))
    assert [(a.place, a.slot) for a in story.decide()] == [("here", 1)]
    ask(story)
    assert story.decide() == []


def unjudged(**tables: Mapping[str, Any]) -> Story:
    """The first round of a mission that an agent plans and nobody judges."""
    story = green(settings=settings(plan={"planner": "agent"}, **tables))
    return story.tell(RoundStarted(round=1, green=BASE))


def empty_round(story: Story) -> Story:
    """Tell of a round for which nothing was planned, and its judgement."""
    made(ask(story, **with_units()))
    for _ in range(2):
        story.tell(story.decide()[0].event)
    return story


def test_without_a_judge_an_objective_is_met_when_nothing_is_left_to_plan_and_all_landed() -> None:
    story = over(made(ask(unjudged(), **with_units("x")), "x"), "x")
    story.tell(story.decide()[0].event, RoundStarted(round=2, green=BASE))
    (finish,) = empty_round(story).decide()
    assert (finish.stop_reason, finish.exit_code) == (StopReason.OBJECTIVE_MET, 0)


def test_without_a_judge_nothing_left_to_plan_meets_nothing_when_work_failed() -> None:
    story = made(
        ask(unjudged(limits={"max_attempts": 1, "max_replans": 0}), **with_units("x")), "x"
    )
    story.attempt("x", Outcome.FAILED).tell(UnitEnded(unit="x", status="failed"))
    for _ in range(2):
        story.tell(story.decide()[0].event)
    story.tell(RoundStarted(round=2, green=BASE))
    (finish,) = empty_round(story).decide()
    assert (finish.stop_reason, finish.exit_code) == (StopReason.NOTHING_LEFT, 1)
