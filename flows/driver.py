"""The driver: futures, inbox and timer come in, decisions are made, actions carried out.

`decide` is pure; this loop is the only place where a mission's ledger is written and its refs move.
The driver is disposable: another one folds the ledger and goes on.
"""

from __future__ import annotations

import logging
import queue
import time
from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass, field, replace
from typing import Protocol

from blocks.errors import CannotMerge, MissionError, ServerUnavailable, TargetMoved
from flows.decisions import (
    EXIT_BROKEN,
    Action,
    CancelAttempts,
    Circumstances,
    Finish,
    MakePlan,
    MakeRevert,
    Rest,
    StartAttempt,
    decide,
    next_wake,
)
from flows.judging.rounds import AskAgent, remaining
from flows.landing.delivery import Deliverer, notes_ref
from flows.landing.probing import ProbeOrder
from flows.landing.repair import REPAIR
from flows.landing.reverting import find_landing
from flows.landing.steps import BASE, CancelProbe, Candidate, Decide, Land, Merge, ProbeTree
from flows.ledger.events import (
    AskEnded,
    AskStarted,
    AttemptEnded,
    AttemptStarted,
    BaseMoved,
    CandidateConflicted,
    CandidateEmpty,
    CandidateStacked,
    Event,
    GreenAdopted,
    Landed,
    LandingIntended,
    MissionFinished,
    MissionInterrupted,
    Outcome,
    PlanMade,
    ProbeEnded,
    ProbeKind,
    ProbeStarted,
    Purpose,
    RevertMade,
    ReviewAnswered,
    UnitEnded,
)
from flows.ledger.log import Ledger
from flows.ledger.state import MissionState, Status
from flows.planning.plan import matches
from flows.prompts.prompts import LandedDependency
from flows.running.asking import AskOrder, context_of
from flows.running.attempt import AttemptOrder
from flows.running.bench import ASK_JOBS, PROBE_JOBS, Bench
from flows.running.purse import Purse
from flows.settings import MissionSettings

logger = logging.getLogger(__name__)

UNDELIVERED = "what landed is not at the target yet; `mission resume` delivers it"

ENDED_RUNS = AskEnded | AttemptEnded
"""What tells that an agent ran, and what it used."""

STOPPING_SECONDS = 1.0
"""How often a stop is repeated to what was just about to start."""


@dataclass(frozen=True, slots=True)
class Interrupt:
    """The process was asked to end (Ctrl-C, SIGTERM); the mission can be resumed."""

    reason: str


@dataclass(frozen=True, slots=True)
class PlanLost:
    """The planning of a round ended; when no plan was handed in before, it is lost."""

    round: int
    replan: int


Happening = Event | Interrupt | PlanLost | MissionError


class Hands(Protocol):
    """What carries out the long actions; each posts its outcome to the driver when it is known."""

    def attempt(self, order: AttemptOrder, after: Collection[str]) -> None:
        """Run an attempt; `after` are the units that it depends on."""

    def probe(self, order: ProbeOrder, kind: str, units: Collection[str]) -> None:
        """Verify a tree."""

    def ask(self, order: AskOrder, after: int | None) -> None:
        """Ask an agent something; `after` is the question whose answer led to this one."""

    def plan(self, number: int) -> None:
        """Plan a round."""


@dataclass(slots=True, kw_only=True)
class Driver:
    """Drives one mission to its end, or until it is interrupted."""

    ledger: Ledger
    state: MissionState
    settings: MissionSettings
    bench: Bench
    deliverer: Deliverer
    hands: Hands
    slots: Mapping[str, int]
    green_ref: str
    green_before: str | None
    start_tree: str
    purse: Purse
    clock: Callable[[], float] = time.time
    inbox: queue.SimpleQueue[Happening] = field(default_factory=queue.SimpleQueue)
    _planning: bool = False
    _interrupt: Interrupt | None = None
    _rest: Rest | None = None
    _probes: dict[int, tuple[str, int]] = field(default_factory=dict)  # number -> place, slot
    _trees: dict[str, str] = field(default_factory=dict)
    _cancelled: set[int] = field(default_factory=set)
    _asked_at: float = 0.0
    _answered: dict[str, int] = field(default_factory=dict)  # node of the plan -> question

    def post(self, event: Happening) -> None:
        """Hand in what happened; from any thread."""
        self.inbox.put(event)

    def run(self) -> None:
        """Go on until the mission is finished or interrupted.

        Raises:
            MissionError: planning failed, or something of ours is broken; the ledger stays whole.
        """
        try:
            self._take_up()
            self._take_in_all()  # what was asked for while nobody drove
            while self.state.finished is None:
                self._settle()
                if self.state.finished is not None or self._is_interrupted():
                    return
                self._wait()
        except BaseException:
            self._cancel_all()
            raise

    # -- waiting ------------------------------------------------------------------------------

    def _wait(self) -> None:
        """Sleep until something happens or becomes due, then take in all that is there."""
        try:
            self._take_in(self.inbox.get(timeout=self._patience()))
        except queue.Empty:
            return
        self._take_in_all()

    def _take_in_all(self) -> None:
        """Take in all that has happened by now."""
        while not self.inbox.empty():
            self._take_in(self.inbox.get_nowait())

    def _patience(self) -> float | None:
        if self.state.stop is not None or self._interrupt is not None:
            return STOPPING_SECONDS
        wake = next_wake(self.state, self.settings, self._circumstances())
        return None if wake is None else max(wake - self.clock(), 0.0) + 0.001

    def _take_in(self, happened: Happening) -> None:
        if isinstance(happened, Interrupt):
            self._interrupt = happened
            return
        if isinstance(happened, MissionError):
            raise happened
        if isinstance(happened, PlanLost):
            current = PlanLost(self.state.round, self.state.inquiry.replan)
            if self._planning and happened == current:
                raise ServerUnavailable("planning ended without a plan; `mission run` goes on")
            return
        if self._is_stale(happened):
            return
        if isinstance(happened, PlanMade):
            self._planning = False
        if isinstance(happened, ProbeEnded):
            self._probes.pop(happened.probe, None)
            if happened.probe in self._cancelled:
                happened = replace(happened, verdict="cancelled")
        self._record(happened)

    def _is_stale(self, event: Event) -> bool:
        """Whether this was said before, or says nothing new."""
        match event:
            case ProbeEnded():
                return event.probe not in self.state.probes
            case AttemptEnded():
                return not self._is_current(event)
            case AskEnded():
                return event.ask not in self.state.inquiry.asks
            case ReviewAnswered():
                return self.state.reviews.get(event.review) != ""
            case BaseMoved():
                return not self._is_news(event)
            case _:
                return False

    def _is_news(self, moved: BaseMoved) -> bool:
        """Whether the base branch holds anything that `green` does not."""
        green, repository = self.state.green, self.bench.repository
        if green is None or moved.commit == self.state.base_tip:
            return False
        return not repository.is_ancestor(moved.commit, green)

    def _is_current(self, ended: AttemptEnded) -> bool:
        """Attempt numbers fence: a stale attempt can write nothing."""
        unit = self.state.units.get(ended.unit)
        return unit is not None and unit.status == Status.RUNNING and unit.tries == ended.attempt

    def _record(self, *events: Event) -> None:
        first = len(self.ledger.records)
        self.ledger.append(*events)
        for record in self.ledger.records[first:]:
            if isinstance(record.event, ENDED_RUNS):
                self.purse.take_in(record, self._agent_of(record.event))
            self.state.apply(record)

    def _agent_of(self, ended: AskEnded | AttemptEnded) -> str:
        if isinstance(ended, AskEnded):
            return self.state.inquiry.asks[ended.ask].agent
        return self.state.units[ended.unit].unit.agent

    def _is_interrupted(self) -> bool:
        """Whether all work is put down after an interrupt, so that this driver may end."""
        if self._interrupt is None:
            return False
        state = self.state
        if state.by_status(Status.RUNNING) or state.probes or state.inquiry.asks:
            self._cancel_all()
            return False
        rest, self._rest = self._rest, None
        if rest and state.reviews.get(rest.review):  # answered in the last moment
            self._interrupt = None
            return False
        self._record(MissionInterrupted(reason=self._interrupt.reason))
        return True

    # -- acting -------------------------------------------------------------------------------

    def _settle(self) -> None:
        """Carry out what is decided until there is nothing left to do but wait."""
        while self._interrupt is None and (actions := self._decide()):
            for action in actions:
                self._perform(action)
            self._take_in_all()

    def _decide(self) -> list[Action]:
        """What is decided and not under way already."""
        actions = decide(self.state, self.settings, self._circumstances())
        return [a for a in actions if not self._is_asked_for(a)]

    def _is_asked_for(self, action: Action) -> bool:
        if isinstance(action, CancelAttempts):
            asked, self._asked_at = self._asked_at, self.clock()
            if self._asked_at - asked >= STOPPING_SECONDS:
                return False
            self._asked_at = asked
            return True
        return isinstance(action, CancelProbe) and action.number in self._cancelled

    def _circumstances(self) -> Circumstances:
        return Circumstances(
            now=self.clock(),
            slots=self.slots,
            start_tree=self.start_tree,
            planning=self._planning,
            spent_today_usd=self.purse.spent_today(self.clock()),
            limited=self.purse.limited(self.clock()),
        )

    def _perform(self, action: Action) -> None:
        match action:
            case Decide() | Merge() | MakeRevert():
                self._record(self._outcome_of(action))
            case StartAttempt() | AskAgent() | ProbeTree():
                self._start(action)
            case CancelProbe():
                self._cancel_probe(action.number)
            case Land():
                self._land(action)
            case MakePlan():
                self._planning = True
                self.hands.plan(action.round)
            case CancelAttempts():
                self._cancel_all()
            case Rest():
                self._rest = action
                self._interrupt = Interrupt(f"waits for a review ({action.review})")
            case Finish():
                self._finish(action)

    def _start(self, action: StartAttempt | AskAgent | ProbeTree) -> None:
        match action:
            case StartAttempt():
                self._start_attempt(action)
            case AskAgent():
                self._ask(action)
            case ProbeTree():
                self._start_probe(action)

    def _outcome_of(self, action: Decide | Merge | MakeRevert) -> Event:
        match action:
            case Decide():
                return action.event
            case Merge():
                return self._merge(action)
            case MakeRevert():
                return self._revert(action.unit)

    def _start_attempt(self, action: StartAttempt) -> None:
        unit = self.state.units[action.unit]
        base = unit.base if unit.repair_of else self.state.green or ""
        self._record(
            AttemptStarted(
                unit=action.unit,
                attempt=action.attempt,
                base=base,
                agent=unit.unit.agent,
                place=action.place,
                slot=action.slot,
            )
        )
        self._submit_attempt(action.unit)

    def _submit_attempt(self, name: str) -> None:
        unit = self.state.units[name]
        order = AttemptOrder(
            unit=unit.unit,
            attempt=unit.tries,
            base=unit.base,
            place=unit.place,
            slot=unit.slot,
            cause=unit.cause,
            is_repair=bool(unit.repair_of),
            dependencies=self._landed_dependencies(unit.repair_of or name),
        )
        after = (unit.repair_of,) if unit.repair_of else unit.unit.depends_on
        self.hands.attempt(order, after)

    def _ask(self, action: AskAgent) -> None:
        state = self.state
        self._record(
            AskStarted(
                ask=state.inquiry.n_asks + 1,
                purpose=action.purpose.value,
                round=state.round,
                agent=action.agent,
                place=action.place,
                slot=action.slot,
                green=state.green or "",
                node=action.node,
                replan=state.inquiry.replan,
            )
        )
        self._submit_ask(state.inquiry.n_asks)

    def _submit_ask(self, number: int) -> None:
        state, inquiry = self.state, self.state.inquiry
        asked = inquiry.asks[number]
        tree = inquiry.tree if asked.purpose == Purpose.PLAN else None
        order = AskOrder(
            asked=asked,
            question=tree.question(asked.node) if tree else None,
            context=context_of(state, remaining(state)),
        )
        parent = asked.node.rpartition(".")[0]  # none of the whole, nor of a judgement
        self.hands.ask(order, self._answered.get(parent) if parent else None)
        self._answered[asked.node] = number

    def _landed_dependencies(self, name: str) -> tuple[LandedDependency, ...]:
        """What a unit builds on, as its agent is told."""
        units = self.state.units
        before = (units[each] for each in units[name].unit.depends_on)
        return tuple(
            LandedDependency(
                unit=each.unit.id,
                title=each.unit.title,
                commit=each.commit if each.has_landed else "",
                files=each.touched,
            )
            for each in before
        )

    def _merge(self, action: Merge) -> Event:
        candidate, onto, line = action.candidate, action.onto, action.line
        unit, attempt = candidate.unit, candidate.attempt
        if candidate.is_base and self.bench.repository.is_ancestor(candidate.head, onto):
            return CandidateEmpty(unit=unit, attempt=attempt, onto=onto, line=line)
        try:
            merged = self.bench.repository.merge(
                onto,
                candidate.head,
                self._message(candidate),
                base=candidate.base,
                tree=candidate.tree,
                keep_history=self._keeps_history(candidate),
                union=self._keeps_both_sides if self.settings.landing.union else None,
            )
        except CannotMerge as clash:
            return CandidateConflicted(
                unit=unit,
                attempt=attempt,
                onto=onto,
                files=clash.files,
                detail=clash.hunks,
                line=line,
            )
        if merged.tree == self._tree_of(onto) and not candidate.is_base:
            return CandidateEmpty(unit=unit, attempt=attempt, onto=onto, line=line)
        self._trees[merged.commit] = merged.tree
        return CandidateStacked(
            unit=unit,
            attempt=attempt,
            onto=onto,
            commit=merged.commit,
            tree=merged.tree,
            line=line,
            changed_lines=self._size(onto, merged.commit) if line == REPAIR else None,
        )

    def _revert(self, unit: str) -> Event:
        """Make what takes a unit out, or say why not; a ref keeps it as it keeps agents' work."""
        repository, green = self.bench.repository, self.state.green or ""
        branch = self.settings.repository.green
        landing = find_landing(repository, unit, green)
        if landing is None:
            return RevertMade(unit=unit, reason=f"no unit of this name landed on {branch}")
        if landing.taken_out_by:
            by = landing.taken_out_by[:12]
            return RevertMade(unit=unit, reason=f"{by} took it out of {branch} already")
        n_before = sum(u.unit.id.startswith(f"revert-{unit}") for u in self.state.planned_units)
        name = f"revert-{unit}-{n_before + 1}" if n_before else f"revert-{unit}"
        head = repository.undoing(landing.commit)
        repository.save_ref(f"refs/missions/{self.bench.mission}/{name}/1", head)
        return RevertMade(unit=unit, revert=name, commit=landing.commit, head=head)

    def _keeps_history(self, candidate: Candidate) -> bool:
        """Whether the merge has two parents; repaired work would bring in what was refused."""
        if candidate.is_base:
            return True
        unit = self.state.units[candidate.unit]
        return self.settings.landing.commit == "merge" and not (unit.repairs or unit.reverts)

    def _keeps_both_sides(self, path: str) -> bool:
        return matches(path, self.settings.landing.union)

    def _size(self, onto: str, commit: str) -> int:
        return self.bench.repository.n_changed_lines(onto, commit)

    def _message(self, candidate: Candidate) -> str:
        mission = f"Mission: {self.bench.mission}"
        if candidate.is_base:
            base, green = self.settings.repository.base, self.settings.repository.green
            return f"Merge {base} into {green}\n\n{mission}\n"
        state = self.state.units[candidate.unit]
        trailers = [mission, f"Unit: {state.unit.id}", f"Attempt: {candidate.attempt}"]
        by = f"Reverts: {state.reverts}" if state.reverts else f"Agent: {state.unit.agent}"
        return f"{state.unit.title}\n\n" + "\n".join((*trailers, by, ""))

    def _tree_of(self, commit: str) -> str:
        if commit not in self._trees:
            self._trees[commit] = self.bench.repository.tree_of(commit)
        return self._trees[commit]

    def _start_probe(self, action: ProbeTree) -> None:
        number = self.state.n_probes + 1
        place, slot = self._probe_slot(action.place)
        tree = action.tree or self._tree_of(action.commit)
        self._probes[number] = (place, slot)
        self._record(
            ProbeStarted(
                probe=number,
                kind=action.kind.value,
                commit=action.commit,
                tree=tree,
                units=action.units,
            )
        )
        units = [self.state.units[u].unit for u in action.units if u != BASE]
        order = ProbeOrder(
            probe=number,
            commit=action.commit,
            tree=tree,
            fresh=action.kind in {ProbeKind.CONFIRM, ProbeKind.CONTROL},
            place=place,
            slot=slot,
            baseline=self._baseline(action),
            is_base=action.kind == ProbeKind.BASE,
            may_remove_tests=any(u.may_remove_tests for u in units),  # then it is the only one
        )
        self.hands.probe(order, action.kind.value, action.units)

    def _baseline(self, action: ProbeTree) -> str | None:
        """The reading of the `green` below a tree: tests that landed since cannot be in it."""
        if self.state.green is None and action.kind == ProbeKind.REPAIR and self.state.base_probe:
            return self.state.base_probe.reading
        return self.state.reading_of(action.below)

    def _probe_slot(self, wanted: str) -> tuple[str, int]:
        taken = set(self._probes.values())
        load = {place: sum(p == place for p, _ in taken) for place in self.slots}
        places = sorted(self.slots, key=lambda place: (place != wanted, load[place]))
        return next(
            (place, slot)
            for place in places
            for slot in range(self.settings.verify.slots)
            if (place, slot) not in taken
        )

    def _land(self, action: Land) -> None:
        """Move `green` to a commit whose exact tree passed: intent, effect, confirmation."""
        repository = self.bench.repository
        if repository.tree_of(action.new) != action.tree:
            raise RuntimeError(f"{action.new} does not hold the tree that was probed")
        old, units = action.old or None, action.units
        intent = LandingIntended(
            old=old, new=action.new, tree=action.tree, probe=action.probe, units=units
        )
        self._record(intent)
        repository.move_ref(self.green_ref, action.new, old or self.green_before)
        self._annotate(action)
        landed = Landed(old=old, new=action.new, tree=action.tree, probe=action.probe, units=units)
        ended = (UnitEnded(unit=u, status=Status.LANDED.value) for u in units if u != BASE)
        self._record(landed, *ended)
        self.deliverer.deliver(action.new)

    def _annotate(self, landing: Land) -> None:
        """Commits between two values of `green` were not verified by themselves: say with which."""
        told = {
            s.commit for s in self.state.train.landing.stack if s.candidate.unit in landing.units
        }
        between = told - {landing.new}
        if between:
            text = f"Verified as part of {landing.new} (probe {landing.probe}).\n"
            self.bench.repository.annotate(
                notes_ref(self.bench.mission), dict.fromkeys(between, text)
            )

    def _finish(self, action: Finish) -> None:
        self.deliverer.close()
        self._take_in_all()
        state, exit_code, detail = self.state, action.exit_code, action.detail
        if state.delivered != state.green:
            detail = f"{detail}\n{UNDELIVERED}".strip()
            exit_code = EXIT_BROKEN
        self._record(
            MissionFinished(
                stop_reason=action.stop_reason.value,
                exit_code=exit_code,
                green=state.green,
                counts=state.counts,
                seconds=self.clock() - state.started_at,
                cost_usd=state.cost_usd,
                detail=detail,
            )
        )

    # -- taking up and putting down -----------------------------------------------------------

    def _take_up(self) -> None:
        """Go on where an earlier driver left off: agents are found again, probes run anew."""
        spent = (r for r in reversed(self.ledger.records) if isinstance(r.event, ENDED_RUNS))
        if last := next(spent, None):  # it may have been recorded and not told any more
            self.purse.take_in(last, "")
        for number in [*self.state.probes]:
            for place in self.bench.places:
                self._kill(place, PROBE_JOBS, str(number))
            self._record(ProbeEnded(probe=number, verdict="cancelled", reason="the driver ended"))
        self._adopt_green()
        for unit in self.state.by_status(Status.RUNNING):
            self._submit_attempt(unit.unit.id)
        for ask in [*self.state.inquiry.asks]:
            self._submit_ask(ask)
        if self.state.green is not None and self.state.delivered != self.state.green:
            self.deliverer.deliver(self.state.green)

    def _adopt_green(self) -> None:
        """Go on from where other missions moved `green` to while this one rested.

        Raises:
            TargetMoved: it left its line, so that what landed here is not in it any more.
        """
        known, now = self.state.green, self.bench.repository.resolve(self.green_ref)
        intent = self.state.train.intent
        if known is None or now in {None, known} or (intent and intent.new == now):
            return
        if not self.bench.repository.is_ancestor(known, now or ""):
            branch = self.settings.repository.green
            raise TargetMoved(f"{branch} was started anew since; start another mission with --new")
        self._record(GreenAdopted(old=known, new=now or ""))

    def _cancel_probe(self, number: int) -> None:
        self._cancelled.add(number)
        name, _ = self._probes[number]
        self._kill(name, PROBE_JOBS, str(number))

    def _cancel_all(self) -> None:
        for number in [*self._probes]:
            self._cancel_probe(number)
        for unit in self.state.by_status(Status.RUNNING):
            self._kill(unit.place, unit.unit.id, str(unit.tries))
        for ask in self.state.inquiry.asks.values():
            self._kill(ask.place, ASK_JOBS, str(ask.ask))

    def _kill(self, name: str, *parts: str) -> None:
        """End a job; where that cannot be said now, its lease ends it."""
        place = self.bench.places.get(name)
        if place is None:
            return
        try:
            self.bench.kill(place, *parts)
        except (MissionError, OSError) as error:
            logger.warning("%s on %s could not be ended: %s", "/".join(parts), name, error)

    @property
    def is_stopping(self) -> bool:
        """Whether running work is to be put down."""
        return self._interrupt is not None or self.state.stop is not None


def crashed_attempt(order: AttemptOrder, why: str) -> AttemptEnded:
    """What is recorded of an attempt whose task ended without saying how."""
    return AttemptEnded(
        unit=order.unit.id,
        attempt=order.attempt,
        outcome=Outcome.INFRASTRUCTURE.value,
        detail=why,
    )
