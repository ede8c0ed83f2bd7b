"""Whole missions by chance: bad work, clashes, faults, repairs, a moving base, drivers that die.

The real fold, the real decisions and the real train; only agents, git and verifications are made
up. Whatever happens, the mission ends, no agent's work is lost to another's, and nothing bad lands.
"""

from __future__ import annotations

import random
from dataclasses import dataclass, field
from typing import Any

from hypothesis import given, settings
from hypothesis import strategies as st

from flows.decisions import (
    Action,
    CancelAttempts,
    Circumstances,
    Finish,
    MakePlan,
    StartAttempt,
    decide,
    next_wake,
)
from flows.landing.steps import BASE, CancelProbe, Decide, Land, Merge, ProbeTree
from flows.ledger.events import (
    AttemptEnded,
    AttemptStarted,
    BaseMoved,
    CandidateConflicted,
    CandidateEmpty,
    CandidateStacked,
    Event,
    Landed,
    LandingIntended,
    MissionFinished,
    MissionResumed,
    MissionStarted,
    Outcome,
    PlanMade,
    ProbeEnded,
    ProbeStarted,
    UnitEnded,
)
from flows.ledger.log import Record
from flows.ledger.state import BASE_REPAIR, ENDED, MissionState, Status, fold
from flows.planning.plan import Unit, UnitId, unit_to_dict
from flows.settings import MissionSettings

MAX_STEPS = 3_000
START = "start"
BAD_BASE = "a bad base"

WRITES: list[tuple[str, ...] | None] = [None, None, ("x",), ("y",), ("x", "y"), ("z",)]


class DriverDies(BaseException):
    """The process ends here; the ledger stays as it is."""


@dataclass
class World:
    """A mission and what it meets, all of it drawn from one seed. Trees are sets of marks."""

    seed: int
    state: MissionState = field(default_factory=MissionState)
    records: list[Record] = field(default_factory=list)
    now: float = 1e6
    agents: set[tuple[str, int]] = field(default_factory=set)
    heads: dict[str, str] = field(default_factory=dict)  # head -> its mark
    bad: set[str] = field(default_factory=lambda: {BAD_BASE})
    n_bases: int = 0
    n_commits: int = 0

    def __post_init__(self) -> None:
        draw = self.random = random.Random(self.seed)
        self.places = {"a": draw.choice([1, 2, 4]), "b": draw.choice([1, 4])}
        self.is_bad = draw.choice([0.0, 0.1, 0.4])
        self.faults = draw.choice([0.0, 0.1, 0.6])
        self.is_no_run = draw.choice([0.0, 0.05])
        self.clashes = draw.choice([0.0, 0.05, 0.3])
        self.dies = draw.choice([0.0, 0.02, 0.1])
        self.base_moves = draw.choice([0.0, 0.05])
        self.outage_comes, self.outage = draw.choice([0.0, 0.02]), 0
        is_red = draw.random() < 0.15
        self.trees = {START: frozenset({BAD_BASE} if is_red else ())}
        self.units = [self._unit(i) for i in range(draw.randint(1, 20))]
        self.settings = self._settings()

    def _unit(self, i: int) -> Unit:
        draw = self.random
        needs = tuple(UnitId(f"u{j}") for j in range(i) if draw.random() < 0.1)
        writes, apart = draw.choice(WRITES), draw.random() < 0.05
        name = UnitId(f"u{i}")
        return Unit(id=name, title=name, depends_on=needs, writes=writes, may_remove_tests=apart)

    def _settings(self) -> MissionSettings:
        draw = self.random
        fixup = {
            "agent": "fixer" if draw.random() < 0.6 else "",
            "attempts": draw.choice([1, 2]),
            "candidates": draw.choice([1, 2, 3]),
        }
        limits = {
            "max_attempts": draw.choice([1, 2]),
            "max_conflicts": draw.choice([1, 5]),
            "max_faults": draw.choice([2, 10]),
            "max_failures_in_a_row": draw.choice([3, 50]),
        }
        verify = {"command": "true", "slots": draw.choice([1, 2, 4, 8, 16])}
        return MissionSettings.model_validate(
            {
                "name": "m",
                "repository": {"url": "/target"},
                "verify": verify,
                "plan": {"planner": "file", "file": "/plan.toml"},
                "agents": {"fixer": {"argv": ["true"]}},
                "fixup": fixup,
                "limits": limits,
            }
        )

    def happens(self, chance: float) -> bool:
        return self.random.random() < chance

    # -- a driver's life --------------------------------------------------------------------------

    def tell(self, *events: Event) -> None:
        for event in events:
            self.records.append(Record(len(self.records) + 1, self.now, event))
            self.state.apply(self.records[-1])

    def run(self) -> MissionFinished:
        self.tell(
            MissionStarted(
                mission="m",
                name="m",
                objective="",
                repository="/target",
                base_branch="main",
                base=START,
                green_branch="green",
                start=START,
                settings=self.settings.model_dump(mode="json", by_alias=True),
                version="0",
            )
        )
        for _ in range(MAX_STEPS):
            try:
                self._step()
            except DriverDies:
                self._resume()
            if self.state.finished is not None:
                return self.state.finished
        raise AssertionError("the mission does not end")

    @property
    def _around(self) -> Circumstances:
        return Circumstances(now=self.now, slots=self.places, start_tree=START)

    def _step(self) -> None:
        actions = decide(self.state, self.settings, self._around)
        for action in actions:
            self._perform(action)
            self._may_die()
        if not actions:
            self._wait()
        is_open = self.state.green is not None and self.state.finished is None
        if is_open and self.n_bases < 4 and self.happens(self.base_moves):
            self._move_base()
        self._may_die()

    def _may_die(self) -> None:
        if self.happens(self.dies / 3):
            raise DriverDies

    def _resume(self) -> None:
        """Another driver folds the ledger, maybe with other slots and in other places."""
        before, self.state = self.state, fold(self.records)
        assert self.state.counts == before.counts
        wanted = self.settings.model_dump(mode="json", by_alias=True)
        wanted["verify"]["slots"] = self.random.choice([1, 2, 4, 8])
        self.settings = MissionSettings.model_validate(wanted)
        if self.happens(0.2):
            self.places = {"c": 2}
        self.tell(MissionResumed(pid=1, settings=wanted))
        for number in [*self.state.probes]:
            self.tell(ProbeEnded(probe=number, verdict="cancelled"))
        self.agents = {(u.unit.id, u.tries) for u in self.state.by_status(Status.RUNNING)}

    # -- what happens meanwhile -------------------------------------------------------------------

    def _wait(self) -> None:
        """Something that runs ends, or time passes until something is due."""
        under_way: list[int | tuple[str, int]] = [*self.state.probes, *sorted(self.agents)]
        if under_way:
            self.now += self.random.random() * 3
            ends = self.random.choice(under_way)
            if isinstance(ends, int):
                self._end_probe(ends)
            else:
                self._end_attempt(*ends)
            return
        wake = next_wake(self.state, self.settings, self._around)
        deadline = self.state.started_at + self.settings.limits.deadline
        assert wake is not None, "nothing runs and nothing will"
        assert wake < deadline, "nothing happens before the deadline"
        self.now = wake

    def _end_probe(self, number: int) -> None:
        started = self.state.probes[number]
        if self.happens(self.is_no_run):
            self.tell(ProbeEnded(probe=number, verdict="not a run"))
            return
        if not self.outage and self.happens(self.outage_comes):
            self.outage, self.outage_comes = self.random.randint(1, 10), 0.0
        passes = not self.trees[started.commit] & self.bad and not self.outage
        self.outage = max(0, self.outage - 1)
        verdict, place = "passed" if passes else "red", self.random.choice(sorted(self.places))
        self.tell(ProbeEnded(probe=number, verdict=verdict, reason="r", place=place))

    def _end_attempt(self, name: str, number: int) -> None:
        self.agents.discard((name, number))
        unit = self.state.units[name]
        which: dict[str, Any] = {"unit": name, "attempt": number}
        assert (unit.status, unit.tries) == (Status.RUNNING, number), "its work would be lost"
        if self.happens(self.faults):
            outcome = Outcome.INFRASTRUCTURE
        else:
            kinds = [Outcome.FAILED, Outcome.NO_CHANGE, Outcome.COLLECTED]
            (outcome,) = self.random.choices(kinds, [1, 1, 18])
        if outcome != Outcome.COLLECTED:
            proven = outcome == Outcome.NO_CHANGE and self.happens(0.5)
            self.tell(AttemptEnded(outcome=outcome.value, proven=proven, **which))
            return
        mark = f"{name} #{number}"
        self.heads[head := f"head of {mark} at {self.now}"] = mark
        if self.happens(0.5 if unit.repair_of else self.is_bad):
            self.bad.add(mark)
        files = unit.writes or (self.random.choice("xyzvw"),)
        made: dict[str, Any] = {"head": head, "tree": "t", "files": files}
        self.tell(AttemptEnded(outcome=outcome.value, **which, **made))

    def _move_base(self) -> None:
        self.n_bases += 1
        commit, mark = f"base-{self.n_bases}", f"pushed-{self.n_bases}"
        before = self.trees.get(f"base-{self.n_bases - 1}", self.trees[START])
        self.trees[commit] = before | {mark}
        if self.happens(0.3):
            self.bad.add(mark)
        self.tell(BaseMoved(branch="main", commit=commit))

    # -- what the driver does ---------------------------------------------------------------------

    def _perform(self, action: Action) -> None:
        match action:
            case Decide():
                self.tell(action.event)
            case StartAttempt():
                self._start(action)
            case Merge():
                self.tell(self._merge(action))
            case ProbeTree():
                self._probe(action)
            case CancelProbe():
                self.tell(ProbeEnded(probe=action.number, verdict="cancelled"))
            case Land():
                self._land(action)
            case MakePlan():
                units = [unit_to_dict(unit) for unit in self.units]
                self.tell(PlanMade(round=action.round, planner="file", units=units))
            case Finish():
                self._finish(action)
            case CancelAttempts():
                raise AssertionError("nobody asked for a stop")

    def _start(self, action: StartAttempt) -> None:
        unit = self.state.units[action.unit]
        running = [self.state.units[name] for name, _ in self.agents]
        assert action.unit not in {u.unit.id for u in running}, "two agents at one unit"
        where = action.place, action.slot
        assert where not in {(u.place, u.slot) for u in running}, "two agents in one slot"
        assert unit.status == Status.WAITING
        base = unit.base if unit.repair_of else self.state.green or ""
        keys: dict[str, Any] = {"unit": action.unit, "attempt": action.attempt}
        self.tell(AttemptStarted(base=base, agent="default", place=where[0], slot=where[1], **keys))
        self.agents.add((action.unit, action.attempt))

    def _merge(self, action: Merge) -> Event:
        candidate, onto = action.candidate, action.onto
        there = self.trees[onto]
        keys: dict[str, Any] = {
            "unit": candidate.unit,
            "attempt": candidate.attempt,
            "onto": onto,
            "line": action.line,
        }
        if candidate.is_base:
            new = self.trees[candidate.head]
        else:
            new = frozenset({self.heads[candidate.head]})
            there -= {BAD_BASE} if candidate.unit.startswith(BASE_REPAIR) else set()
        if new <= there:
            return CandidateEmpty(**keys)
        if candidate.base != onto and self.happens(self.clashes):
            return CandidateConflicted(files=candidate.files[:1], **keys)
        self.n_commits += 1
        commit = f"c{self.n_commits}"
        self.trees[commit] = there | new
        size = self.random.randint(1, 9)
        return CandidateStacked(commit=commit, tree=commit, changed_lines=size, **keys)

    def _probe(self, action: ProbeTree) -> None:
        assert len(self.state.probes) < self.settings.verify.slots, "more probes than slots"
        assert all(unit == BASE or unit in self.state.units for unit in action.units)
        number, tree = self.state.n_probes + 1, action.tree or action.commit
        kind, commit = action.kind.value, action.commit
        units = action.units
        self.tell(ProbeStarted(probe=number, kind=kind, commit=commit, tree=tree, units=units))

    def _land(self, action: Land) -> None:
        what: dict[str, Any] = {"new": action.new, "tree": action.tree, "probe": action.probe}
        what |= {"old": action.old or None, "units": action.units}
        assert not self.trees[action.new] & self.bad, "what is bad lands"
        self.tell(LandingIntended(**what))
        self._may_die()
        self.tell(Landed(**what))
        self._may_die()  # between two lines of one append
        self.tell(*(UnitEnded(unit=u, status="landed") for u in action.units if u != BASE))

    def _finish(self, action: Finish) -> None:
        assert not self.agents, "agents are left behind"
        self.tell(
            MissionFinished(
                stop_reason=action.stop_reason.value,
                exit_code=action.exit_code,
                green=self.state.green,
                counts=self.state.counts,
                seconds=1.0,
                detail=action.detail,
            )
        )


GIVEN_UP = {"infrastructure", "red green", "failures in a row", "red base", "base conflict"}


@settings(max_examples=60, deadline=None)
@given(st.integers(0, 2**32))
def test_every_mission_ends_and_only_what_is_good_lands(seed: int) -> None:
    world = World(seed)
    finished = world.run()
    state = world.state
    assert fold(world.records).counts == state.counts
    if finished.stop_reason not in GIVEN_UP:
        assert {unit.status for unit in state.planned_units} <= ENDED
        assert state.train.is_empty
