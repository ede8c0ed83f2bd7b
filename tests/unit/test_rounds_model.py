"""Whole missions that agents plan and judge, by chance: answers, limits, people, drivers that die.

The real fold, decisions, train, reading of answers and assembly of plans; agents, git and
verifications are made up. Whatever happens, the mission ends within its bounds.
"""

from __future__ import annotations

import json
from dataclasses import dataclass, field, replace
from typing import Any

from hypothesis import given, settings
from hypothesis import strategies as st

from blocks.errors import PlanInvalid
from flows.decisions import (
    Action,
    CancelAttempts,
    Circumstances,
    Finish,
    MakePlan,
    Rest,
    StartAttempt,
    next_wake,
)
from flows.judging.rounds import AskAgent
from flows.ledger.events import (
    AskEnded,
    AskOutcome,
    AskStarted,
    AttemptEnded,
    Event,
    MissionFinished,
    MissionInterrupted,
    Outcome,
    PlanMade,
    ProbeEnded,
    Purpose,
    ReplanWanted,
    ReviewAnswered,
    RoundStarted,
    StopRequested,
)
from flows.ledger.state import ENDED, Status, fold
from flows.planning.answers import read_plan_answer
from flows.planning.assembly import assemble
from flows.planning.plan import unit_to_dict
from flows.settings import MissionSettings
from tests.unit.test_mission_model import World

TRACKED = ("a.py", "b.py", "docs/index.md", "src/x.py")
WRITES: tuple[list[str] | None, ...] = (
    [],
    ["a.py"],
    ["a.py", "b.py"],
    ["src/**"],
    ["new.py"],
    ["docs/*.md"],
    None,
)
MOST_USD = 1.0
"""Of one run of an agent."""

MOST_RESUMES = 3


@dataclass
class Rounds(World):
    """A mission whose objective an agent plans; maybe another judges, and a person is asked."""

    plan_due: PlanMade | None = None
    limited: dict[str, float] = field(default_factory=dict)  # by what other missions met
    asked: dict[tuple[int, int, str], int] = field(default_factory=dict)  # answers to a part
    resumes: int = 0

    def __post_init__(self) -> None:
        World.__post_init__(self)
        draw = self.random
        self.unusable = draw.choice([0.0, 0.2, 1.0])
        self.limits = draw.choice([0.0, 0.1, 0.5])
        self.stops = draw.choice([0.0, 0.01])
        self.is_content = draw.choice([0.0, 0.3])
        self.approves = draw.choice([0.5, 1.0])

    def _settings(self) -> MissionSettings:
        draw = self.random
        usual = World._settings(self).model_dump(mode="json", by_alias=True)
        usual["plan"] = {
            "planner": "agent",
            "agent": "planner",
            "max_depth": draw.choice([0, 1, 2]),
            "max_children": draw.choice([1, 3]),
            "slots": draw.choice([1, 2, 16]),
        }
        usual["agents"] = {"default": {}, "planner": {}, "judge": {}, "fixer": {"argv": ["true"]}}
        usual["evaluate"] = {"agent": draw.choice(["", "judge"])}
        usual["review"] = {"canary": draw.choice([0, 0, 1, 3])}
        usual["limits"] |= {
            "max_rounds": draw.choice([1, 2, 4]),
            "max_replans": draw.choice([0, 1, 3]),
            "budget_usd": draw.choice([3.0, 10.0, 1_000.0]),
            "budget_tokens": draw.choice([None, 1_000]),
            "stall_window": draw.choice([2, 3]),
        }
        return MissionSettings.model_validate(usual)

    # -- a driver's life --------------------------------------------------------------------------

    @property
    def _around(self) -> Circumstances:
        return Circumstances(
            now=self.now,
            slots=self.places,
            start_tree="start",
            planning=self.plan_due is not None,
            limited={name: until for name, until in self.limited.items() if until > self.now},
        )

    def tell(self, *events: Event) -> None:
        for event in events:
            if isinstance(event, AttemptEnded | AskEnded):
                usd = self.random.choice([None, 0.1, MOST_USD])
                World.tell(self, replace(event, cost_usd=usd, output_tokens=1))
                continue
            World.tell(self, event)
            assert self.state.round <= self.settings.limits.max_rounds
            assert self.state.inquiry.replan <= self.settings.limits.max_replans
            if isinstance(event, RoundStarted | ReplanWanted):
                assert not self.state.inquiry.asks, "a question is left behind"

    def _step(self) -> None:
        World._step(self)
        if self.state.finished is None and self.state.stop is None and self.happens(self.stops):
            self.tell(StopRequested(by="me"))

    def _resume(self) -> None:
        self.plan_due = None
        if self.state.interrupted or self.state.finished:
            assert not self.state.inquiry.asks
        asks = {*self.state.inquiry.asks}
        World._resume(self)
        assert {*self.state.inquiry.asks} == asks

    def _wait(self) -> None:
        if self.plan_due is not None and self.happens(0.7):
            made, self.plan_due = self.plan_due, None
            self.tell(made)
            return
        under_way = [*self.state.probes, *self.agents, *self.state.inquiry.asks]
        asks = [*self.state.inquiry.asks]
        if asks and self.random.randrange(len(under_way)) < len(asks):
            self.now += self.random.random() * 3
            self._end_ask(self.random.choice(asks))
            return
        if self.plan_due is not None and not under_way:
            return
        if under_way:
            World._wait(self)
            return
        wake = next_wake(self.state, self.settings, self._around)
        assert wake is not None, "nothing runs and nothing will"
        assert wake > self.now
        self.now = wake

    # -- what happens meanwhile -------------------------------------------------------------------

    def _limit(self, agent: str) -> float:
        until = self.now + self.random.choice([1.0, 60.0])
        if self.happens(0.3):
            self.limited[agent] = until
        return until

    def _end_attempt(self, name: str, number: int) -> None:
        if not self.happens(self.limits / 5):
            World._end_attempt(self, name, number)
            return
        self.agents.discard((name, number))
        until = self._limit(self.state.units[name].unit.agent)
        outcome = Outcome.RATE_LIMITED.value
        self.tell(AttemptEnded(unit=name, attempt=number, outcome=outcome, limited_until=until))

    def _end_ask(self, number: int) -> None:
        asked = self.state.inquiry.asks[number]
        ended: dict[str, Any] = {"ask": number, "outcome": AskOutcome.ANSWERED.value}
        if self.happens(self.limits / 3):
            ended |= {"outcome": AskOutcome.RATE_LIMITED.value}
            ended |= {"limited_until": self._limit(asked.agent)}
        elif self.happens(self.faults / 3):
            ended |= {"outcome": AskOutcome.INFRASTRUCTURE.value}
        elif self.happens(self.unusable):
            ended |= {"outcome": self.random.choice(["unusable", "timed out"]), "problem": "no"}
        elif asked.purpose == Purpose.EVALUATE:
            met = self.happens(self.is_content)
            remains = [] if met else ["more"]
            ended["answer"] = {"score": 0.5, "met": met, "remains": remains, "summary": ""}
        else:
            ended |= self._plan_answer(asked)
        if ended["outcome"] in {"answered", "unusable", "timed out"}:
            key = (asked.round, asked.replan, asked.purpose + asked.node)
            self.asked[key] = self.asked.get(key, 0) + 1
            assert self.asked[key] <= 2, "asked for ever"
        self.tell(AskEnded(**ended))

    def _plan_answer(self, asked: AskStarted) -> dict[str, Any]:
        tree = self.state.inquiry.tree
        assert tree is not None
        said = f"MISSION_PLAN: {json.dumps(self._plan())}"
        try:
            answer = read_plan_answer(
                said,
                agent=self.settings.worker,
                max_children=self.settings.plan.max_children,
                may_split=tree.question(asked.node).may_split,
            )
        except PlanInvalid as unusable:
            return {"outcome": AskOutcome.UNUSABLE.value, "problem": str(unusable)}
        return {"answer": json.loads(json.dumps(answer.as_dict()))}

    def _plan(self) -> dict[str, Any]:
        draw, key = self.random, self.random.choice(["units", "parts"])
        names = [draw.choice(["x", "y", "z", "base", "repair-base", "asks"]) for _ in range(3)]
        entries = [
            {
                "id": name,
                "title": name,
                "prompt": draw.choice(["do `a.py`", "make `new.py`", "x" * 2_000]),
                "scope": "all of it",
                "depends_on": [n for n in names if n != name and draw.random() < 0.2],
                **({} if (writes := draw.choice(WRITES)) is None else {"writes": writes}),
            }
            for name in names[: draw.randint(0, 3)]
        ]
        return {key: entries}

    # -- what the driver does ---------------------------------------------------------------------

    def _perform(self, action: Action) -> None:
        match action:
            case AskAgent():
                self._ask(action)
            case MakePlan():
                self._make_plan(action.round)
            case CancelAttempts():
                self._cancel()
            case Rest():
                self._rest(action.review)
            case _:
                World._perform(self, action)

    def _within_budget(self) -> None:
        limits = self.settings.limits
        assert (self.state.cost_usd or 0.0) < limits.budget_usd
        assert limits.budget_tokens is None or self.state.tokens < limits.budget_tokens
        assert self.state.stop is None

    def _start(self, action: StartAttempt) -> None:
        self._within_budget()
        agent = self.state.units[action.unit].unit.agent
        known = (self.state.limited, self.limited)
        assert all(each.get(agent, 0.0) <= self.now for each in known), "its account is used up"
        World._start(self, action)

    def _ask(self, action: AskAgent) -> None:
        self._within_budget()
        inquiry = self.state.inquiry
        assert self.state.limited.get(action.agent, 0.0) <= self.now
        assert not (self.agents and action.purpose == Purpose.EVALUATE)
        under_way = [*inquiry.asks.values()]
        assert len(under_way) < self.settings.plan.slots
        assert (action.place, action.slot) not in {(a.place, a.slot) for a in under_way}
        assert action.node not in {a.node for a in under_way}, "asked twice at once"
        self.tell(
            AskStarted(
                ask=inquiry.n_asks + 1,
                purpose=action.purpose.value,
                round=self.state.round,
                agent=action.agent,
                place=action.place,
                slot=action.slot,
                green=self.state.green or "",
                node=action.node,
                replan=inquiry.replan,
            )
        )

    def _make_plan(self, number: int) -> None:
        inquiry = self.state.inquiry
        assert self.plan_due is None, "planned twice at once"
        assert inquiry.tree is not None
        made = assemble(
            inquiry.tree, round_number=number, tracked=TRACKED, known=frozenset(self.state.units)
        )
        assert not {unit.id for unit in made.units} & {*self.state.units}
        units = [unit_to_dict(unit) for unit in made.units]
        self.plan_due = PlanMade(round=number, planner="agent", units=units, replan=inquiry.replan)

    def _cancel(self) -> None:
        assert self.state.stop is not None
        for number in [*self.state.probes]:
            self.tell(ProbeEnded(probe=number, verdict="cancelled"))
        for name, number in sorted(self.agents):
            self.tell(AttemptEnded(unit=name, attempt=number, outcome=Outcome.STOPPED.value))
        for number in [*self.state.inquiry.asks]:
            self.tell(AskEnded(ask=number, outcome=AskOutcome.STOPPED.value))
        self.agents.clear()

    def _rest(self, review: str) -> None:
        assert not self.agents
        assert not self.state.probes
        self.tell(MissionInterrupted(reason="waits for a review"))
        self._resume()
        if self.happens(0.8):
            said = "approved" if self.happens(self.approves) else "rejected"
            self.tell(ReviewAnswered(review=review, answer=said, by="me"))

    def _finish(self, action: Finish) -> None:
        assert not self.state.inquiry.asks, "questions are left behind"
        World._finish(self, action)
        self.plan_due = None
        over = self.state.finished
        if over and self.resumes < MOST_RESUMES and self.happens(0.5):
            self.resumes += 1
            wanted = self.settings.model_dump(mode="json", by_alias=True)
            wanted["limits"] |= {"budget_usd": 1e6, "budget_tokens": None, "max_rounds": 5}
            self.settings = MissionSettings.model_validate(wanted)
            self._resume()


CUT_SHORT = {
    "infrastructure",
    "red green",
    "failures in a row",
    "red base",
    "base conflict",
    "budget spent",
    "deadline passed",
    "stopped",
    "rejected",
}


def run(seed: int) -> tuple[Rounds, MissionFinished]:
    world = Rounds(seed)
    return world, world.run()


@settings(max_examples=60, deadline=None)
@given(st.integers(0, 2**32))
def test_every_planned_mission_ends_within_its_bounds(seed: int) -> None:
    world, finished = run(seed)
    state = world.state
    again = fold(world.records)
    for name in ("counts", "cost_usd", "tokens", "round", "limited", "reviews", "ready"):
        assert getattr(again, name) == getattr(state, name)
    assert again.inquiry == state.inquiry
    assert not state.by_status(Status.RUNNING)
    if finished.stop_reason in CUT_SHORT:
        return
    assert {unit.status for unit in state.planned_units} <= ENDED
    assert not state.round_open
    assert state.inquiry.is_judged(state.round)
    if finished.stop_reason == "objective met":
        assert finished.exit_code == 0
    if finished.stop_reason == "max rounds":
        assert state.round == world.settings.limits.max_rounds
