"""What a mission would take if nothing but agents and verifications took time.

An event simulation: the real fold (`MissionState`), the real decisions and the real train, with a
clock that jumps. Merging, landing, planning, recording and starting things take no time at all, so
what a measured mission takes longer is overhead, and none of it is the policy's.
"""

from __future__ import annotations

import heapq
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import assert_never

from flows.decisions import (
    Action,
    CancelAttempts,
    Circumstances,
    Finish,
    MakePlan,
    MakeRevert,
    Rest,
    StartAttempt,
    decide,
)
from flows.judging.rounds import AskAgent
from flows.landing.steps import CancelProbe, Decide, Land, Merge, ProbeTree
from flows.ledger.events import (
    AttemptEnded,
    AttemptStarted,
    CandidateStacked,
    Event,
    Landed,
    LandingIntended,
    MissionFinished,
    MissionStarted,
    Outcome,
    PlanMade,
    ProbeEnded,
    ProbeStarted,
    UnitEnded,
)
from flows.ledger.log import Record
from flows.ledger.state import MissionState, Status
from flows.planning.plan import Plan, Unit, UnitId, unit_to_dict
from flows.planning.schedule import longest_paths
from flows.settings import MissionSettings

PLACE = "local"
START = "start"


@dataclass(frozen=True, slots=True, kw_only=True)
class Simulated:
    """What came of it; seconds from the first dispatch to the last landing."""

    seconds: float
    n_attempts: int
    n_probes: int
    counts: Mapping[str, int]
    landed_at: Mapping[str, float]  # seconds after the first dispatch


def simulate(
    units: Sequence[Unit],
    settings: MissionSettings,
    *,
    agent_seconds: Mapping[UnitId, float],
    verification_seconds: float,
    is_red: Callable[[frozenset[str]], bool] = lambda _: False,
) -> Simulated:
    """Simulate a mission of these units with the slots that the settings give.

    `is_red` judges a tree by the units that it holds. Every attempt makes a change that merges.

    Raises:
        RuntimeError: the mission neither ended nor had anything to wait for.
    """
    world = _World(
        units=units,
        settings=settings,
        agent_seconds=agent_seconds,
        verification_seconds=verification_seconds,
        is_red=is_red,
    )
    return world.run()


def plain_bound(
    plan: Plan, agent_seconds: Mapping[UnitId, float], *, slots: int, verification_seconds: float
) -> float:
    """No schedule is shorter: the longest chain or all work over all slots, and one verification.

    Each link of a chain waits for the landing of the one before it, hence for a verification.
    """
    links = {unit: seconds + verification_seconds for unit, seconds in agent_seconds.items()}
    chain = max(longest_paths(plan, links).values(), default=0.0)
    return max(chain, sum(agent_seconds.values()) / slots + verification_seconds)


@dataclass(slots=True, kw_only=True)
class _World:
    """State and clock of one simulated mission."""

    units: Sequence[Unit]
    settings: MissionSettings
    agent_seconds: Mapping[UnitId, float]
    verification_seconds: float
    is_red: Callable[[frozenset[str]], bool]
    state: MissionState = field(default_factory=MissionState)
    now: float = 0.0
    began: float | None = None
    landed_at: dict[str, float] = field(default_factory=dict)
    n_attempts: int = 0
    _due: list[tuple[float, int, Event]] = field(default_factory=list)
    _n_scheduled: int = 0
    _trees: dict[str, frozenset[str]] = field(default_factory=lambda: {START: frozenset()})

    def run(self) -> Simulated:
        self._record(_started(self.settings))
        while self.state.finished is None:
            self._settle()
            if self.state.finished is None:
                self._wait()
        began = self.began or 0.0
        landed_at = {unit: at - began for unit, at in self.landed_at.items()}
        return Simulated(
            seconds=max(landed_at.values(), default=0.0),
            n_attempts=self.n_attempts,
            n_probes=self.state.n_probes,
            counts=self.state.counts,
            landed_at=landed_at,
        )

    def _settle(self) -> None:
        around = Circumstances(
            now=self.now, slots={PLACE: self.settings.backend.slots}, start_tree=START
        )
        while actions := decide(self.state, self.settings, around):
            for action in actions:
                self._perform(action)

    def _wait(self) -> None:
        """Let the clock jump to what is due next, and take in all that is due then."""
        rests = [self.state.units[u].not_before for u in self.state.ready]
        wakes = [*(at for at, _, _ in self._due[:1]), *(at for at in rests if at > self.now)]
        if not wakes:
            raise RuntimeError(f"stuck at {self.now:.3f} s: {self.state.counts}")
        self.now = min(wakes)
        while self._due and self._due[0][0] <= self.now:
            _, _, event = heapq.heappop(self._due)
            if not isinstance(event, ProbeEnded) or event.probe in self.state.probes:
                self._record(event)

    def _record(self, *events: Event) -> None:
        for event in events:
            self.state.apply(Record(self.state.seq + 1, self.now, event))

    def _later(self, seconds: float, event: Event) -> None:
        self._n_scheduled += 1
        heapq.heappush(self._due, (self.now + seconds, self._n_scheduled, event))

    def _perform(self, action: Action) -> None:
        match action:
            case Decide():
                self._record(action.event)
            case StartAttempt():
                self._start_attempt(action)
            case Merge():
                self._merge(action)
            case ProbeTree():
                self._probe(action)
            case CancelProbe():
                self._record(ProbeEnded(probe=action.number, verdict="cancelled"))
            case Land():
                self._land(action)
            case MakePlan():
                units = [unit_to_dict(unit) for unit in self.units]
                self._record(PlanMade(round=action.round, planner="file", units=units))
            case Finish():
                self._finish(action)
            case CancelAttempts() | MakeRevert() | AskAgent() | Rest():
                raise RuntimeError("nobody interferes with a simulated mission")
            case _:
                assert_never(action)

    def _start_attempt(self, action: StartAttempt) -> None:
        self.began = self.now if self.began is None else self.began
        self.n_attempts += 1
        unit, attempt = action.unit, action.attempt
        base, agent = self.state.green or START, self.state.units[unit].unit.agent
        self._record(
            AttemptStarted(
                unit=unit,
                attempt=attempt,
                base=base,
                agent=agent,
                place=action.place,
                slot=action.slot,
            )
        )
        head = f"{unit}/{attempt}"
        ended = AttemptEnded(
            unit=unit, attempt=attempt, outcome=Outcome.COLLECTED.value, head=head, tree=head
        )
        self._later(self.agent_seconds[UnitId(unit)], ended)

    def _merge(self, action: Merge) -> None:
        unit, attempt, onto = action.candidate.unit, action.candidate.attempt, action.onto
        commit = f"c{len(self._trees)}"
        self._trees[commit] = self._trees[onto] | {unit}
        self._record(
            CandidateStacked(
                unit=unit, attempt=attempt, onto=onto, commit=commit, tree=commit, line=action.line
            )
        )

    def _probe(self, action: ProbeTree) -> None:
        number = self.state.n_probes + 1
        started = ProbeStarted(
            probe=number,
            kind=action.kind.value,
            commit=action.commit,
            tree=action.tree,
            units=action.units,
        )
        self._record(started)
        verdict = "red" if self.is_red(self._trees[action.commit]) else "passed"
        self._later(self.verification_seconds, ProbeEnded(probe=number, verdict=verdict))

    def _land(self, action: Land) -> None:
        old, new, tree, probe = action.old or None, action.new, action.tree, action.probe
        units = action.units
        ended = (UnitEnded(unit=unit, status=Status.LANDED.value) for unit in units)
        self._record(
            LandingIntended(old=old, new=new, tree=tree, probe=probe, units=units),
            Landed(old=old, new=new, tree=tree, probe=probe, units=units),
            *ended,
        )
        self.landed_at.update(dict.fromkeys(units, self.now))

    def _finish(self, action: Finish) -> None:
        self._record(
            MissionFinished(
                stop_reason=action.stop_reason.value,
                exit_code=action.exit_code,
                green=self.state.green,
                counts=self.state.counts,
                seconds=self.now,
            )
        )


def _started(settings: MissionSettings) -> MissionStarted:
    return MissionStarted(
        mission="simulated",
        name=settings.name,
        objective=settings.objective,
        repository=settings.repository.url,
        base_branch=settings.repository.base,
        base=START,
        green_branch=settings.repository.green,
        start=START,
        settings={},
        version="",
    )
