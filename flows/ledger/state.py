"""Mission state: the fold of its events, and nothing else.

A driver that starts anew reads the ledger, folds it, and knows all that its predecessor knew.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from enum import StrEnum
from functools import singledispatchmethod
from typing import Any

from flows.landing.blame import LANDING
from flows.landing.repair import REPAIR, Attempted, Repair
from flows.landing.steps import BASE, Candidate
from flows.landing.train import TRIAL, Train
from flows.ledger.backoff import rest_seconds, spread
from flows.ledger.events import (
    AskEnded,
    AttemptEnded,
    AttemptStarted,
    BaseMoved,
    BaseRefused,
    CandidateClashed,
    CandidateConflicted,
    CandidateEjected,
    CandidateEmpty,
    CandidateStacked,
    Delivered,
    Event,
    GreenAdopted,
    Landed,
    MissionFinished,
    MissionInterrupted,
    MissionResumed,
    MissionStarted,
    Outcome,
    PlanMade,
    ProbeEnded,
    ProbeKind,
    ProbeStarted,
    RepairEnded,
    RepairStarted,
    ReplanWanted,
    RevertMade,
    RevertRequested,
    ReviewAnswered,
    ReviewRequested,
    RoundEnded,
    RoundStarted,
    StopRequested,
    UnitEnded,
)
from flows.ledger.inquiry import Inquiry
from flows.ledger.log import Record
from flows.planning.plan import Plan, Unit, UnitId, unit_from_dict
from flows.planning.schedule import longest_paths

LONGEST_JITTER_SECONDS = 30.0
MOST_DISCOVERIES = 200


class Status(StrEnum):
    """Where a unit stands."""

    WAITING = "waiting"  # for its dependencies, a slot, or its back-off
    RUNNING = "running"
    LANDING = "landing"  # collected; in the train's hands
    LANDED = "landed"
    NO_CHANGE = "no change"  # nothing to do, and its own verification passes
    FAILED = "failed"
    BLOCKED = "blocked"


NOT_OF_THE_STACK = frozenset({TRIAL, REPAIR})
"""Lines of the train in which a conflict is no verdict on the unit."""

BASE_REPAIR = "repair-base"
"""The unit that mends a red base, before all others."""

SATISFIED = frozenset({Status.LANDED, Status.NO_CHANGE})
ENDED = SATISFIED | {Status.FAILED, Status.BLOCKED}


@dataclass(slots=True, kw_only=True)
class UnitState:
    """A unit and what became of it so far."""

    unit: Unit
    round: int
    order: int
    replan: int = 0  # which of the round's plans it is of
    priority: float = 0.0
    status: Status = Status.WAITING
    tries: int = 0  # attempts started: the number of the last one
    failures: int = 0  # attempts used up
    conflicts: int = 0
    faults: int = 0
    faulty_since: int = 0  # the record of the first of these faults
    in_a_row: int = 0  # times put back since the last success, for the back-off
    cause: str = ""  # why the last attempt did not land; goes into the next prompt
    touched: tuple[str, ...] = ()
    not_before: float = 0.0
    base: str = ""
    slot: int = -1
    place: str = ""
    task_run_id: str | None = None
    waits_for: int = 0  # dependencies that are not satisfied
    commit: str = ""
    head: str = ""
    tree: str | None = None
    proven_no_change: bool = False
    has_landed: bool = False  # what follows in the ledger may have been torn off
    cost_usd: float = 0.0
    repair_of: str = ""  # of an attempt to repair a unit's refused work: that unit
    repairs: int = 0  # made of the work at hand
    refused: Candidate | None = None  # work that a fix-up agent may mend
    says_blocked: bool = False  # its agent, of the last attempt
    reverts: str = ""  # of what takes a landed commit out: that commit; no agent works on it

    @property
    def writes(self) -> tuple[str, ...] | None:
        """The write set: the plan's, or after a conflict what the unit really touched."""
        if self.unit.writes is None and self.conflicts and self.touched:
            return self.touched
        return self.unit.writes


@dataclass(slots=True, kw_only=True)
class BaseProbe:
    """What the probe of the starting tree said."""

    verdict: str
    reason: str
    reading: str | None
    output: str = ""


@dataclass(slots=True)
class MissionState:
    """Everything that a driver knows of a mission."""

    started: MissionStarted | None = None
    started_at: float = 0.0
    settings: Mapping[str, Any] = field(default_factory=dict)
    base_probe: BaseProbe | None = None
    base_reds: int = 0
    base_resumes: int = 0  # before `green` began: repairs of the base go by other names each time
    green: str | None = None
    base_tip: str = ""  # the newest commit of the base branch that was seen
    base_conflict: tuple[str, ...] = ()  # the files in which it does not merge
    base_refusal: str = ""  # why what it holds is left out
    delivered: str | None = None
    delivered_branch: str | None = None  # `green`, or the fallback when that was not to be had
    round: int = 0
    round_open: bool = False
    planned: bool = False
    round_landed: list[int] = field(default_factory=list)
    units: dict[str, UnitState] = field(default_factory=dict)
    train: Train = field(default_factory=Train)
    inquiry: Inquiry = field(default_factory=Inquiry)
    discoveries: list[str] = field(default_factory=list)  # what agents reported, oldest first
    limited: dict[str, float] = field(default_factory=dict)  # agent -> when it has quota again
    reviews: dict[str, str] = field(default_factory=dict)  # what a person was asked -> the answer
    first_figures: ProbeEnded | None = None  # of what the mission started from
    green_figures: ProbeEnded | None = None
    repairs: dict[str, Repair] = field(default_factory=dict)  # under way, by unit
    reverts_wanted: list[str] = field(default_factory=list)
    reverts_refused: list[str] = field(default_factory=list)
    repaired_base: tuple[CandidateStacked, int] | None = None  # and the probe that passed
    probes: dict[int, ProbeStarted] = field(default_factory=dict)
    n_probes: int = 0
    probe_faults: int = 0  # in a row
    probe_not_before: float = 0.0
    probe_trouble: str = ""
    failures_in_a_row: int = 0
    stop: StopRequested | None = None
    finished: MissionFinished | None = None
    interrupted: bool = False
    cost_usd: float | None = None
    tokens: int = 0
    undriven_seconds: float = 0.0  # in which nobody drove it: the deadline does not count them
    worked_at: dict[tuple[str, str], int] = field(default_factory=dict)  # agent, place -> record
    last_at: float = 0.0
    seq: int = 0
    ready: dict[str, tuple[float, int]] = field(default_factory=dict)  # unit -> order of dispatch
    _dependents: dict[str, list[str]] = field(default_factory=dict)
    _readings: dict[int, str] = field(default_factory=dict)  # probe -> its reading's file
    _green_readings: dict[str, str] = field(default_factory=dict)  # value of green -> the same
    _figures: dict[int, ProbeEnded] = field(default_factory=dict)  # of probes that passed

    # -- questions ----------------------------------------------------------------------------

    def by_status(self, *statuses: Status) -> list[UnitState]:
        """The units that stand so, in plan order."""
        return [u for u in self.units.values() if u.status in statuses]

    @property
    def planned_units(self) -> list[UnitState]:
        """The units in plan order, without attempts to repair one."""
        return [u for u in self.units.values() if not u.repair_of]

    @property
    def counts(self) -> dict[str, int]:
        """How many units stand where."""
        counts: dict[str, int] = {}
        for unit in self.planned_units:
            counts[unit.status.value] = counts.get(unit.status.value, 0) + 1
        return counts

    def generation_of(self, unit: str) -> int:
        """What tells the repairs of a unit from those that went by the same numbers before."""
        return self.base_resumes if unit == BASE_REPAIR else 0

    def reading_of(self, green: str) -> str | None:
        """The file with the reading of a value that `green` took."""
        return self._green_readings.get(green)

    def dependents(self, unit: str) -> Sequence[str]:
        """The ids of the units that directly depend on this one."""
        return self._dependents.get(unit, ())

    # -- the fold -----------------------------------------------------------------------------

    def apply(self, record: Record) -> None:
        """Take in one record; records come in order, each once."""
        event = record.event
        if isinstance(event, MissionResumed):
            self.undriven_seconds += max(record.at - self.last_at, 0.0)
        self.seq, self.last_at = record.seq, record.at
        self._on(event)
        self.train.apply(event)
        self.inquiry.apply(event, record.at)
        if isinstance(event, Landed | GreenAdopted):
            self.green = event.new

    @singledispatchmethod
    def _on(self, event: Event) -> None:
        """Pass over what changes nothing here."""

    @_on.register
    def _(self, event: MissionStarted) -> None:
        self.started, self.started_at, self.settings = event, self.last_at, event.settings
        self.base_tip = event.base
        self.reverts_wanted = [*event.reverts]

    @_on.register
    def _(self, event: MissionResumed) -> None:
        self.settings = event.settings
        self.interrupted, self.finished, self.stop = False, None, None
        self.failures_in_a_row = self.probe_faults = 0
        self.probe_not_before = 0.0
        if self.base_conflict:
            self.base_conflict, self.base_tip = (), ""  # merged by now, or told once more
        if self.green is None and not self._is_base_in_repair():
            self.base_probe, self.base_reds = None, 0
            self.base_resumes += 1
            repair = self.repairs.pop(BASE_REPAIR, None)
            for name in (BASE_REPAIR, *(repair.attempted if repair else ())):
                self.units.pop(name, None)
                self.ready.pop(name, None)
        for unit in self.units.values():  # whoever resumes has mended what was broken
            unit.faults, unit.in_a_row, unit.not_before = 0, 0, 0.0

    def _is_base_in_repair(self) -> bool:
        """Whether anything is at work on a red base, or done: a resume goes on with that."""
        attempted = self.repairs[BASE_REPAIR].attempted if BASE_REPAIR in self.repairs else ()
        at_work = any(self.units[name].status != Status.WAITING for name in attempted)
        return at_work or self.repaired_base is not None

    @_on.register
    def _(self, _event: MissionInterrupted) -> None:
        self.interrupted = True

    @_on.register
    def _(self, event: MissionFinished) -> None:
        self.finished = event

    @_on.register
    def _(self, event: RoundStarted) -> None:
        self.round, self.round_open, self.planned = event.round, True, False

    @_on.register
    def _(self, event: PlanMade) -> None:
        self.planned = True
        units = [unit_from_dict(u) for u in event.units]
        paths = longest_paths(Plan(units=tuple(units)))
        for unit in units:
            waits = [d for d in unit.depends_on if not self._is_satisfied(d)]
            state = UnitState(unit=unit, round=event.round, order=len(self.units))
            state.replan = event.replan
            state.priority, state.waits_for = paths[unit.id], len(waits)
            self.units[unit.id] = state
            for dependency in waits:
                self._dependents.setdefault(dependency, []).append(unit.id)
            self._offer(state)

    def _is_satisfied(self, unit: str) -> bool:
        return unit in self.units and self.units[unit].status in SATISFIED

    def _offer(self, state: UnitState) -> None:
        if state.waits_for == 0 and state.status == Status.WAITING and not state.reverts:
            self.ready[state.unit.id] = (-state.priority, state.order)

    @_on.register
    def _(self, event: RoundEnded) -> None:
        self.round_open = False
        self.round_landed.append(event.landed)

    @_on.register
    def _(self, _event: ReplanWanted) -> None:
        self.planned = False

    @_on.register
    def _(self, event: AskEnded) -> None:
        asked = self.inquiry.asks.get(event.ask)
        if asked is not None:
            self._spend(event)
            if event.limited_until is not None:
                self._rest(asked.agent, event.limited_until)

    @_on.register
    def _(self, event: ReviewRequested) -> None:
        self.reviews[event.review] = ""

    @_on.register
    def _(self, event: ReviewAnswered) -> None:
        self.reviews[event.review] = event.answer

    @_on.register
    def _(self, event: AttemptStarted) -> None:
        unit = self.units[event.unit]
        unit.status, unit.tries, unit.base = Status.RUNNING, event.attempt, event.base
        unit.slot, unit.place = event.slot, event.place
        self.ready.pop(event.unit, None)

    @_on.register
    def _(self, event: AttemptEnded) -> None:
        unit = self.units[event.unit]
        if unit.status != Status.RUNNING or unit.tries != event.attempt:
            return  # a stale attempt can write nothing
        unit.task_run_id, unit.touched = event.task_run_id, tuple(event.files)
        unit.cost_usd += event.cost_usd or 0.0
        self._spend(event)
        if event.limited_until is not None:
            self._limit(unit, event.limited_until)
        self._discover(event.report)
        unit.says_blocked = event.report.get("status") == "blocked"
        match Outcome(event.outcome):
            case Outcome.INFRASTRUCTURE | Outcome.RATE_LIMITED:
                unit.faulty_since = unit.faulty_since if unit.faults else self.seq
                unit.faults += 1
                self._put_back(unit, event.detail)
                return
            case Outcome.STOPPED:
                unit.status = Status.WAITING
                self._offer(unit)
            case _ if unit.repair_of:
                self._repair_attempted(unit, event)
            case Outcome.COLLECTED:
                unit.status, unit.head, unit.tree = Status.LANDING, event.head or "", event.tree
                self.train.enqueue(self._candidate(unit))
            case Outcome.NO_CHANGE if event.proven:
                unit.status, unit.proven_no_change = Status.LANDING, True
            case _:
                self._use_up(unit, f"{event.outcome}: {event.detail}")
        if event.outcome != Outcome.STOPPED:
            self.worked_at[unit.unit.agent, unit.place] = self.seq

    def is_faulty_alone(self, unit: UnitState) -> bool:
        """Whether its agent did well on others at the same place since this unit's first fault."""
        worked_at = self.worked_at.get((unit.unit.agent, unit.place), 0)
        return bool(unit.faults) and worked_at > unit.faulty_since

    def _spend(self, event: AttemptEnded | AskEnded) -> None:
        if event.cost_usd is not None:
            self.cost_usd = (self.cost_usd or 0.0) + event.cost_usd
        self.tokens += (event.input_tokens or 0) + (event.output_tokens or 0)

    def _limit(self, unit: UnitState, until: float) -> None:
        """All work of an agent waits whose account is used up; any command's word is its own."""
        agent = self.settings.get("agents", {}).get(unit.unit.agent, {})
        if agent.get("profile", "command") != "command" and unit.unit.command is None:
            self._rest(unit.unit.agent, until)

    def _rest(self, agent: str, until: float) -> None:
        """Let an agent wait until its account has quota again, and a little longer."""
        mission = self.started.mission if self.started else ""
        part = spread(f"{mission}/{agent}")  # missions do not all come back at once
        longer = min(max(until - self.last_at, 0.0) * 0.1, LONGEST_JITTER_SECONDS)
        self.limited[agent] = max(until + longer * part, self.limited.get(agent, 0.0))

    def _discover(self, report: Mapping[str, Any]) -> None:
        """Keep what an agent found beside its work, each thing once, the newest last."""
        told = (*report.get("discoveries", ()), *report.get("concerns", ()))
        for text in told:
            if text in self.discoveries:
                self.discoveries.remove(text)
            self.discoveries.append(text)
        del self.discoveries[:-MOST_DISCOVERIES]

    def _candidate(self, unit: UnitState) -> Candidate:
        return Candidate(
            unit=unit.unit.id,
            attempt=unit.tries,
            head=unit.head,
            base=unit.base,
            tree=unit.tree,
            files=unit.touched,
            weight=max(unit.priority - 1.0, 0.0),  # the path behind it; nothing waits for the last
            apart=unit.unit.may_remove_tests,
        )

    def _repair_attempted(self, unit: UnitState, event: AttemptEnded) -> None:
        repair = self.repairs[unit.repair_of]
        unit.status = Status.LANDING
        unit.head, unit.tree = event.head or "", event.tree
        attempted = repair.attempted[unit.unit.id]
        attempted.is_lost = event.outcome != Outcome.COLLECTED
        refused = self.units[unit.repair_of].refused
        off_its_line = refused is not None and refused.tree is None
        attempted.candidate = replace(
            self._candidate(unit), base=repair.base, tree=None if off_its_line else event.tree
        )

    def _use_up(self, unit: UnitState, cause: str) -> None:
        unit.failures += 1
        self._put_back(unit, cause)

    def _put_back(self, unit: UnitState, cause: str) -> None:
        """Let it be done anew: what was refused before is not mended any more."""
        unit.status, unit.cause = Status.WAITING, cause
        unit.repairs, unit.refused = 0, None
        jitter = 0.75 + spread(f"{unit.unit.id}/{unit.tries}") / 2
        unit.not_before = self.last_at + rest_seconds(unit.in_a_row) * jitter
        unit.in_a_row += 1
        self._offer(unit)

    @_on.register
    def _(self, event: CandidateStacked) -> None:
        if event.line == REPAIR:
            self._attempted(event.unit).stacked = event
        elif event.unit != BASE and event.line == LANDING:
            self.units[event.unit].commit = event.commit

    @_on.register
    def _(self, event: CandidateConflicted) -> None:
        if event.line == REPAIR:
            self._attempted(event.unit).is_lost = True
        if event.line in NOT_OF_THE_STACK or event.onto != self.train.green:
            return  # a clash with what is not landed yet; the train tries it again on green
        if event.unit == BASE:
            self.base_conflict = tuple(event.files)
            return
        files = ", ".join(event.files)
        self._collided(event.unit, f"conflicts with what landed in {files}:\n{event.detail}")

    @_on.register
    def _(self, event: CandidateClashed) -> None:
        why = f"good by itself, but red together with `{event.partner}`, which landed meanwhile"
        self._collided(event.unit, f"{why}: {event.reason}")

    def _collided(self, unit: str, cause: str) -> None:
        self.units[unit].conflicts += 1
        self._put_back(self.units[unit], cause)

    @_on.register
    def _(self, event: CandidateEmpty) -> None:
        if event.line == REPAIR:
            self._attempted(event.unit).is_lost = True
        elif event.unit != BASE and event.line != TRIAL and event.onto == self.train.green:
            self.units[event.unit].proven_no_change = True

    def _attempted(self, name: str) -> Attempted:
        return self.repairs[self.units[name].repair_of].attempted[name]

    @_on.register
    def _(self, event: CandidateEjected) -> None:
        unit = self.units[event.unit]
        cause = f"rejected: {event.reason}"
        self._refuse(unit, unit.refused or self._candidate(unit), cause)

    def _refuse(self, unit: UnitState, work: Candidate, cause: str) -> None:
        """Give refused work to be mended as long as it may be; then an attempt is used up."""
        fixup = self.settings.get("fixup", {})
        if fixup.get("agent") and unit.repairs < fixup["attempts"] and not unit.reverts:
            unit.status, unit.cause, unit.refused = Status.WAITING, cause, work
        else:
            self._use_up(unit, cause)

    @_on.register
    def _(self, event: RepairStarted) -> None:
        parent = self.units.get(event.unit) or self._base_repair(event)
        parent.status = Status.LANDING
        attempted = {name: Attempted() for name in event.candidates}
        self.repairs[event.unit] = Repair(
            unit=event.unit, number=event.repair, base=event.base, attempted=attempted
        )
        agent = self.settings["fixup"]["agent"]
        for name in event.candidates:
            unit = replace(parent.unit, id=UnitId(name), agent=agent, command=None, depends_on=())
            state = UnitState(unit=unit, round=parent.round, order=parent.order)
            state.priority, state.repair_of = parent.priority, event.unit
            state.base, state.cause = event.head, event.reason
            self.units[name] = state
            self._offer(state)

    def _base_repair(self, event: RepairStarted) -> UnitState:
        """The unit that is not planned: what to begin with does not pass."""
        branch = self.started.base_branch if self.started else "the base"
        title = f"Make the verification pass on {branch}"
        unit = Unit(id=UnitId(event.unit), title=title)
        self.units[event.unit] = UnitState(unit=unit, round=0, order=-1)
        return self.units[event.unit]

    @_on.register
    def _(self, event: RepairEnded) -> None:
        repair, unit = self.repairs.pop(event.unit), self.units[event.unit]
        for name in repair.attempted:
            self.units.pop(name)
            self.ready.pop(name, None)
        unit.repairs = event.repair
        if not event.winner:
            work = unit.refused or Candidate(unit=event.unit, attempt=unit.tries, head=repair.base)
            self._refuse(unit, work, f"{unit.cause}\n\nRepaired in vain: {event.reason}")
            return
        winner = repair.attempted[event.winner]
        if winner.candidate is None or winner.stacked is None or winner.verdict is None:
            raise RuntimeError(f"{event.winner} won, but was not verified")
        unit.tries, unit.head, unit.tree = event.attempt, winner.candidate.head, None
        unit.base = repair.base
        if self.green is None:
            unit.commit = winner.stacked.commit
            self.repaired_base = (winner.stacked, winner.verdict.probe)
            return
        files = dict.fromkeys((*unit.touched, *winner.candidate.files))
        unit.touched = tuple(files)
        self.train.enqueue(replace(self._candidate(unit), tree=winner.candidate.tree))

    @_on.register
    def _(self, event: RevertRequested) -> None:
        self.reverts_wanted.append(event.unit)

    @_on.register
    def _(self, event: RevertMade) -> None:
        self.reverts_wanted.remove(event.unit)
        if not event.revert:
            self.reverts_refused.append(f"{event.unit}: {event.reason}")
            return
        # Whoever takes work out takes its tests out.
        title = f"Revert {event.unit}"
        unit = Unit(id=UnitId(event.revert), title=title, may_remove_tests=True)
        state = UnitState(unit=unit, round=self.round, order=len(self.units))
        state.status, state.tries, state.head = Status.LANDING, 1, event.head
        state.reverts = event.commit
        self.units[event.revert] = state
        self.train.enqueue(self._candidate(state))

    @_on.register
    def _(self, event: BaseMoved) -> None:
        self.base_tip, self.base_conflict, self.base_refusal = event.commit, (), ""

    @_on.register
    def _(self, event: BaseRefused) -> None:
        self.base_refusal = event.reason

    @_on.register
    def _(self, event: Landed) -> None:
        ours = [unit for unit in event.units if unit != BASE]
        for unit in ours:
            self.units[unit].in_a_row, self.units[unit].has_landed = 0, True
        if ours:
            self.failures_in_a_row = 0
        if event.probe in self._figures:
            self.green_figures = self._figures[event.probe]
            self.first_figures = self.first_figures or self.green_figures
        reading = self._readings.get(event.probe) or self._green_readings.get(event.old or "")
        if reading is not None:
            self._green_readings[event.new] = reading

    @_on.register
    def _(self, event: UnitEnded) -> None:
        unit = self.units[event.unit]
        unit.status, unit.cause = Status(event.status), event.reason or unit.cause
        self.ready.pop(event.unit, None)
        if unit.status == Status.FAILED:
            self.failures_in_a_row += 1
        if unit.status not in SATISFIED:
            return
        for dependent in self._dependents.get(event.unit, ()):
            state = self.units[dependent]
            state.waits_for -= 1
            self._offer(state)

    @_on.register
    def _(self, event: ProbeStarted) -> None:
        self.probes[event.probe] = event
        self.n_probes = max(self.n_probes, event.probe)

    @_on.register
    def _(self, event: ProbeEnded) -> None:
        started = self.probes.pop(event.probe, None)
        if event.reading:
            self._readings[event.probe] = event.reading
        if event.verdict == "passed":
            self._figures[event.probe] = event
        is_believed = event.verdict == "passed" or not self.train.control_reds
        if started is not None and started.kind == ProbeKind.REPAIR and is_believed:
            for repair in self.repairs.values():
                repair.learn(started.commit, event)
        drifted = started is not None and started.kind == ProbeKind.CONTROL
        if event.verdict == "not a run" or (drifted and event.verdict == "red"):
            self.probe_faults += 1
            self.probe_not_before = self.last_at + rest_seconds(self.probe_faults)
            what = "green itself is red" if drifted else "verification could not be run"
            self.probe_trouble = f"{what}: {event.reason}\n{event.output}".strip()
        elif started is not None and event.verdict in {"passed", "red"}:
            self.probe_faults, self.probe_not_before = 0, 0.0
            if drifted and event.reading and self.green:
                self._green_readings.setdefault(self.green, event.reading)
            if started.kind == ProbeKind.BASE:
                self.base_reds += event.verdict == "red"
                self.base_probe = BaseProbe(
                    verdict=event.verdict,
                    reason=event.reason,
                    reading=event.reading,
                    output=event.output,
                )

    @_on.register
    def _(self, event: Delivered) -> None:
        self.delivered, self.delivered_branch = event.commit, event.branch

    @_on.register
    def _(self, event: StopRequested) -> None:
        self.stop = event


def fold(records: Iterable[Record]) -> MissionState:
    """Make the state that a ledger describes."""
    state = MissionState()
    for record in records:
        state.apply(record)
    return state
