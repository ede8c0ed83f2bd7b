"""What a driver does next: pure functions of the mission's state, its settings and the clock.

The driver performs the actions, records what came of them, and asks again until nothing is left to
do but wait. Nothing here starts a process or reads a file.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace

from flows.judging.rounds import AskAgent, judge, questions, replan, waiting_agent, why_end
from flows.landing.dispatch import begun_landing, next_steps
from flows.landing.repair import Repair, names_of
from flows.landing.steps import CancelProbe, Candidate, Decide, Land, ProbeTree, Step
from flows.ledger.events import (
    ProbeKind,
    RepairStarted,
    ReviewRequested,
    RoundEnded,
    RoundStarted,
    StopReason,
    UnitEnded,
)
from flows.ledger.state import BASE_REPAIR, ENDED, SATISFIED, MissionState, Status, UnitState
from flows.planning.plan import Unit, UnitId, overlap
from flows.reporting.narration import count
from flows.settings import MissionSettings

REDS_TO_BLAME = 2
"""One red may be a flake, of the base's tree as of any other."""

CUT_SHORT = frozenset(
    {
        StopReason.DEADLINE,
        StopReason.BUDGET,
        StopReason.FAILURES_IN_A_ROW,
        StopReason.BASE_CONFLICT,
        StopReason.REJECTED,
    }
)
"""Reasons to end at which work may be left that was not even planned."""


@dataclass(frozen=True, slots=True, kw_only=True)
class StartAttempt:
    """Run an agent on a unit, in this slot of this place."""

    unit: str
    attempt: int
    place: str
    slot: int


@dataclass(frozen=True, slots=True, kw_only=True)
class MakePlan:
    """Ask the planner for the round's units."""

    round: int


@dataclass(frozen=True, slots=True, kw_only=True)
class MakeRevert:
    """Make the change that takes a landed unit out again."""

    unit: str


@dataclass(frozen=True, slots=True, kw_only=True)
class CancelAttempts:
    """End all running agents; what they did so far is not collected."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Finish:
    """End the mission."""

    stop_reason: StopReason
    exit_code: int
    detail: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class Rest:
    """End this driver; the mission goes on when a person has answered."""

    review: str


Action = Step | StartAttempt | AskAgent | MakePlan | MakeRevert | CancelAttempts | Rest | Finish

CANARY, APPROVED = "canary", "approved"

EXIT_OK, EXIT_NOT_ALL, EXIT_INPUT, EXIT_BROKEN, EXIT_WAITS, EXIT_INTERRUPTED = 0, 1, 2, 3, 4, 130


@dataclass(frozen=True, slots=True, kw_only=True)
class Circumstances:
    """What the driver knows that the ledger does not: the clock, the slots, work under way."""

    now: float
    slots: Mapping[str, int]  # place -> how many agents at once
    start_tree: str
    planning: bool = False
    spent_today_usd: float = 0.0
    limited: Mapping[str, float] = field(default_factory=dict)  # by other missions' agents, too


def decide(
    state: MissionState, settings: MissionSettings, around: Circumstances
) -> Sequence[Action]:
    """Say what to do now; perform and record all of it in order, then ask again."""
    if state.finished is not None or state.started is None:
        return ()
    if state.stop is not None:
        return _stopping(state)
    if state.green is None:
        begun = begun_landing(state.train)
        return [begun] if begun else _first_green(state, settings, around)
    if state.reverts_wanted:
        return [MakeRevert(unit=state.reverts_wanted[0])]
    return [*_unit_endings(state, settings)] or _onward(state, settings, around)


def _are_agents_idle(state: MissionState, around: Circumstances) -> bool:
    """Whether a slot is free and no unit could take it."""
    is_free = len(state.by_status(Status.RUNNING)) < sum(around.slots.values())
    return is_free and not state.ready and not around.planning


def _free_probes(state: MissionState, settings: MissionSettings, around: Circumstances) -> int:
    rests = state.probe_not_before > around.now
    is_lost = state.probe_faults > settings.limits.max_faults
    return 0 if rests or is_lost else settings.verify.slots - len(state.probes)


def _onward(
    state: MissionState, settings: MissionSettings, around: Circumstances
) -> Sequence[Action]:
    winding_down = why_wind_down(state, settings, around)
    unprobed = state.probe_faults > settings.limits.max_faults
    free = _free_probes(state, settings, around)
    steps = next_steps(
        state.train,
        free_probes=free,
        slots=settings.verify.slots,
        agents_idle=_are_agents_idle(state, around),
    )
    if all(isinstance(step, ProbeTree | CancelProbe) for step in steps):
        free -= sum(isinstance(step, ProbeTree) for step in steps)
        steps = [*steps, *_repairs(state, settings, free, winding_down=winding_down is not None)]
    attempts = () if winding_down else tuple(_attempts(state, settings, around))
    asks = () if winding_down else tuple(_asks(state, settings, around))
    if steps or attempts or asks:
        return (*attempts, *asks, *steps)  # an idle slot costs more than a merge that waits
    if state.by_status(Status.RUNNING) or state.probes or state.inquiry.asks:
        return ()
    if unprobed:  # what is on the train stays there for a resume
        is_red = state.train.control_reds > 0
        return [
            _finish(state, settings, StopReason.RED_GREEN if is_red else StopReason.INFRASTRUCTURE)
        ]
    held = [unit for unit, repair in state.repairs.items() if _is_held(state, repair)]
    landing = (_family(unit) for unit in state.by_status(Status.LANDING))
    if any(not winding_down or unit not in held for unit in landing) or not state.train.is_empty:
        return ()
    if winding_down:
        return [_finish(state, settings, winding_down)]
    return _rounds(state, settings, around)


def _repairs(
    state: MissionState, settings: MissionSettings, free: int, *, winding_down: bool
) -> Iterator[Step]:
    """Start repairs of refused work, and carry those on that are under way."""
    for unit in state.planned_units:
        if unit.refused and unit.status == Status.WAITING and not winding_down:
            yield _repair_of(state, unit, unit.refused, settings)
    free = 0 if state.train.control_reds else free  # where `green` is red, all is
    for repair in state.repairs.values():
        waiting = (name for name in repair.attempted if state.units[name].status == Status.WAITING)
        steps = [
            *repair.steps(
                onto=state.green or repair.base,
                probes=state.train.probes.values(),
                free=free,
                next_attempt=state.units[repair.unit].tries + 1,
                given_up=[*waiting] if winding_down else (),
            )
        ]
        free -= sum(isinstance(step, ProbeTree) for step in steps)
        yield from steps


def _is_held(state: MissionState, repair: Repair) -> bool:
    """Whether only an agent that has not started can carry a repair on."""
    return all(
        each.is_settled or state.units[name].status == Status.WAITING
        for name, each in repair.attempted.items()
    )


def _repair_of(
    state: MissionState, unit: UnitState, work: Candidate, settings: MissionSettings
) -> Decide:
    number = unit.repairs + 1
    started = RepairStarted(
        unit=unit.unit.id,
        repair=number,
        head=work.head,
        base=work.base,
        reason=unit.cause,
        candidates=names_of(
            unit.unit.id,
            unit.tries + state.generation_of(unit.unit.id),
            number,
            settings.fixup.candidates,
        ),
    )
    return Decide(event=started)


def _asks(
    state: MissionState, settings: MissionSettings, around: Circumstances
) -> Iterator[AskAgent]:
    places, limited = [*around.slots], limited_agents(state, around)
    return questions(state, settings, places=places, limited=limited, now=around.now)


def limited_agents(state: MissionState, around: Circumstances) -> Mapping[str, float]:
    """Agents whose account is out of quota, by this mission's word or another's, and until when."""
    names = {*state.limited, *around.limited}
    known = (state.limited, around.limited)
    return {name: max(each.get(name, 0.0) for each in known) for name in names}


def next_wake(
    state: MissionState, settings: MissionSettings, around: Circumstances
) -> float | None:
    """When something becomes due by itself, in seconds since the epoch; `None`: never."""
    limited = limited_agents(state, around)
    ready = (state.units[u] for u in state.ready)
    rests = [max(u.not_before, limited.get(u.unit.agent, 0.0)) for u in ready]
    if agent := waiting_agent(state, settings):
        rests.append(max(state.inquiry.not_before, limited.get(agent, 0.0)))
    due_at = (*rests, state.probe_not_before, _deadline(state, settings))
    due = [t for t in due_at if t > around.now]
    return min(due, default=None)


def _deadline(state: MissionState, settings: MissionSettings) -> float:
    """When the time of the mission is over; time in which nobody drove it does not count."""
    return state.started_at + state.undriven_seconds + settings.limits.deadline


def why_wind_down(
    state: MissionState, settings: MissionSettings, around: Circumstances
) -> StopReason | None:
    """Why no more agents may be started; running ones still finish and land."""
    limits = settings.limits
    open_units = (u for u in state.units.values() if u.status not in ENDED)
    worst_faults = max((u.faults for u in open_units), default=0)
    most_faults = max(state.probe_faults, worst_faults, state.inquiry.faults)
    reasons = (
        (most_faults > limits.max_faults, StopReason.INFRASTRUCTURE),
        (bool(state.base_conflict), StopReason.BASE_CONFLICT),
        (around.now >= _deadline(state, settings), StopReason.DEADLINE),
        (_is_budget_spent(state, settings, around), StopReason.BUDGET),
        (state.failures_in_a_row >= limits.max_failures_in_a_row, StopReason.FAILURES_IN_A_ROW),
    )
    return next((reason for is_so, reason in reasons if is_so), None)


def _is_budget_spent(state: MissionState, settings: MissionSettings, around: Circumstances) -> bool:
    limits, tokens = settings.limits, settings.limits.budget_tokens
    return (
        (state.cost_usd or 0.0) >= limits.budget_usd
        or around.spent_today_usd >= limits.budget_usd_per_day
        or (tokens is not None and state.tokens >= tokens)
    )


def _stopping(state: MissionState) -> Sequence[Action]:
    if state.by_status(Status.RUNNING) or state.probes or state.inquiry.asks:
        return [CancelAttempts()]
    detail = state.stop.reason if state.stop else ""
    return [Finish(stop_reason=StopReason.STOPPED, exit_code=EXIT_INTERRUPTED, detail=detail)]


def _first_green(
    state: MissionState, settings: MissionSettings, around: Circumstances
) -> Sequence[Action]:
    """`green` does not exist until the tree that the mission starts from has passed."""
    start = state.started.start if state.started else ""
    probe = state.base_probe
    if state.probes:
        return ()
    if state.repaired_base is not None:
        made, number = state.repaired_base
        units = (BASE_REPAIR,)
        return [Land(old="", new=made.commit, tree=made.tree, probe=number, units=units)]
    if probe is None or (probe.verdict == "red" and state.base_reds < REDS_TO_BLAME):
        return _probe_base(state, settings, around)
    if probe.verdict != "passed":
        return _mend_base(state, settings, around) if state.repairs else _red_base(state, settings)
    return [Land(old="", new=start, tree=around.start_tree, probe=state.n_probes, units=())]


def _probe_base(
    state: MissionState, settings: MissionSettings, around: Circumstances
) -> Sequence[Action]:
    start = state.started.start if state.started else ""
    if state.probe_faults > settings.limits.max_faults:
        is_over = not state.by_status(Status.RUNNING)
        return [_finish(state, settings, StopReason.INFRASTRUCTURE)] if is_over else ()
    if state.probe_not_before > around.now:
        return ()
    return [ProbeTree(kind=ProbeKind.BASE, commit=start, tree=around.start_tree)]


def _mend_base(
    state: MissionState, settings: MissionSettings, around: Circumstances
) -> Sequence[Action]:
    """Carry the repair of the base on while anything may be started."""
    winding_down = why_wind_down(state, settings, around)
    free = _free_probes(state, settings, around)
    steps = [*_repairs(state, settings, free, winding_down=winding_down is not None)]
    attempts = () if winding_down else tuple(_attempts(state, settings, around))
    is_under_way = state.by_status(Status.RUNNING) or state.probe_not_before > around.now
    if winding_down and not steps and not is_under_way:
        return [_finish(state, settings, winding_down)]
    return (*attempts, *steps)


def _red_base(state: MissionState, settings: MissionSettings) -> Sequence[Action]:
    """The first unit is the repair, for which all others wait; without an agent: the end."""
    start = state.started.start if state.started else ""
    probe = state.base_probe
    why = f"{probe.reason}\n{probe.output}".strip() if probe else ""
    unit = state.units.get(BASE_REPAIR)
    number = unit.repairs + 1 if unit else 1
    if not settings.fixup.agent or (unit and unit.failures):
        in_vain = "\nit could not be repaired" if unit else ""
        detail = why + in_vain
        return [Finish(stop_reason=StopReason.RED_BASE, exit_code=EXIT_INPUT, detail=detail)]
    work = Candidate(unit=BASE_REPAIR, attempt=0, head=start, base=start)
    first = UnitState(unit=Unit(id=UnitId(BASE_REPAIR), title=""), round=0, order=-1, cause=why)
    first.repairs = number - 1
    return [_repair_of(state, unit or first, work, settings)]


def _unit_endings(state: MissionState, settings: MissionSettings) -> Iterator[Decide]:
    for unit in state.planned_units:
        if unit.status in ENDED:
            continue
        if unit.has_landed:
            yield _ended(unit, Status.LANDED, "")
        elif unit.proven_no_change:
            yield _ended(unit, Status.NO_CHANGE, "nothing to change; its verification passes")
        elif unit.status == Status.WAITING:
            if lost := [d for d in unit.unit.depends_on if _never_satisfied(state, d)]:
                yield _ended(unit, Status.BLOCKED, f"depends on {', '.join(lost)}")
            elif unit.reverts or _is_used_up(unit, settings):
                yield _ended(unit, Status.FAILED, unit.cause)
            elif unit.faults > settings.limits.max_faults and state.is_faulty_alone(unit):
                why = f"{unit.faults} faults, and others went well meanwhile: {unit.cause}"
                yield _ended(unit, Status.FAILED, why)


def _is_used_up(unit: UnitState, settings: MissionSettings) -> bool:
    limits = settings.limits
    return unit.failures >= limits.max_attempts or unit.conflicts > limits.max_conflicts


def _never_satisfied(state: MissionState, unit: str) -> bool:
    return unit in state.units and state.units[unit].status in {Status.FAILED, Status.BLOCKED}


def _ended(unit: UnitState, status: Status, reason: str) -> Decide:
    return Decide(event=UnitEnded(unit=unit.unit.id, status=status.value, reason=reason))


def _attempts(
    state: MissionState, settings: MissionSettings, around: Circumstances
) -> Iterator[StartAttempt]:
    """Fill free slots: longest remaining path first, never two overlapping write sets at once.

    A collected unit counts as busy until it has landed: a unit started meanwhile would not see it.
    An attempt to repair one sees nothing of others however long it waits, so it waits only for
    agents: two of them would else wait for each other's units.
    """
    running = state.by_status(Status.RUNNING)
    taken = {(u.place, u.slot) for u in running}
    agents = [(_family(u), _with_writes(u)) for u in running]
    busy = [(_family(u), _with_writes(u)) for u in state.units.values() if _is_on_its_way(u)]
    free = _free_slots(around.slots, taken)
    limited = limited_agents(state, around)
    unseen = _unseen_units(state, settings)
    for name in sorted(state.ready, key=state.ready.__getitem__):
        unit = state.units[name]
        if max(unit.not_before, limited.get(unit.unit.agent, 0.0)) > around.now:
            continue
        if unit.tries == 0 and not unit.repair_of and unseen <= 0:
            continue
        if _is_in_the_way(unit, agents) or (not unit.repair_of and _is_in_the_way(unit, busy)):
            continue
        if (where := next(free, None)) is None:
            return
        agents.append((_family(unit), _with_writes(unit)))
        unseen -= unit.tries == 0
        place, slot = where
        yield StartAttempt(unit=name, attempt=unit.tries + 1, place=place, slot=slot)


def _unseen_units(state: MissionState, settings: MissionSettings) -> float:
    """How many units may begin before a person has looked at the first ones."""
    wanted = settings.review.canary
    if not wanted or state.reviews.get(CANARY) == APPROVED:
        return math.inf
    return wanted - len(_canaries(state))


def _canaries(state: MissionState) -> list[str]:
    """The units of plans that have begun; what mended the base is of none."""
    planned = (u for u in state.planned_units if u.round > 0 and not u.reverts)
    return [u.unit.id for u in planned if u.tries > 0]


def _is_on_its_way(unit: UnitState) -> bool:
    """Whether there is work of it that may still land as it is, or mended."""
    is_refused = unit.status == Status.WAITING and unit.refused is not None
    return unit.status == Status.LANDING or is_refused


def _family(unit: UnitState) -> str:
    """A unit and the attempts to repair its work go by one name: they may overlap."""
    return unit.repair_of or unit.unit.id


def _is_in_the_way(unit: UnitState, busy: Sequence[tuple[str, Unit]]) -> bool:
    family, mine = _family(unit), _with_writes(unit)
    return any(name != family and overlap(mine, other) for name, other in busy)


def _with_writes(unit: UnitState) -> Unit:
    return unit.unit if unit.writes == unit.unit.writes else replace(unit.unit, writes=unit.writes)


def _free_slots(slots: Mapping[str, int], taken: set[tuple[str, int]]) -> Iterator[tuple[str, int]]:
    """Free (place, slot) pairs, least loaded place first."""
    load = Counter(place for place, _ in taken)
    free = {p: [i for i in range(n) if (p, i) not in taken] for p, n in slots.items()}
    while any(free.values()):
        place = min((p for p in free if free[p]), key=lambda p: (load[p] / slots[p], p))
        load[place] += 1
        yield place, free[place].pop(0)


def _rounds(
    state: MissionState, settings: MissionSettings, around: Circumstances
) -> Sequence[Action]:
    if around.planning:
        return ()
    if state.round_open:
        return _round(state, settings)
    if state.started and state.started.reverts:
        return [_finish(state, settings, _why_end_reverts(state))]
    if state.round and not state.inquiry.is_judged(state.round):
        return [Decide(event=judge(state, settings))] if not waiting_agent(state, settings) else ()
    if state.round and (reason := why_end(state, settings)):
        return [_finish(state, settings, reason)]
    return [Decide(event=RoundStarted(round=state.round + 1, green=state.green or ""))]


def _round(state: MissionState, settings: MissionSettings) -> Sequence[Action]:
    """Carry an open round on, in which nothing runs now."""
    if not state.planned:
        return [MakePlan(round=state.round)] if not waiting_agent(state, settings) else ()
    if state.ready:
        return _canary(state, settings)
    again = replan(state, settings)
    return [Decide(event=again)] if again else [_end_round(state)]


def _end_round(state: MissionState) -> Decide:
    ours = [u for u in state.planned_units if u.round == state.round]
    landed = sum(u.status in SATISFIED for u in ours)
    return Decide(
        event=RoundEnded(
            round=state.round,
            landed=landed,
            not_landed=len(ours) - landed,
            green=state.green or "",
        )
    )


def _canary(state: MissionState, settings: MissionSettings) -> Sequence[Action]:
    """When the first units have ended, a person looks at them before the others begin."""
    canaries = _canaries(state)
    is_over = all(state.units[name].status in ENDED for name in canaries)
    if _unseen_units(state, settings) > 0 or not is_over:
        return ()
    if CANARY not in state.reviews:
        about = f"{count(len(canaries), 'unit')} of {len(state.planned_units)} ran first"
        return [Decide(event=ReviewRequested(review=CANARY, about=about, units=canaries))]
    if not state.reviews[CANARY]:
        return [Rest(review=CANARY)]
    return [_finish(state, settings, StopReason.REJECTED)]


def _why_end_reverts(state: MissionState) -> StopReason:
    is_done = all(u.status in SATISFIED for u in state.planned_units)
    is_done = is_done and not state.reverts_refused
    return StopReason.OBJECTIVE_MET if is_done else StopReason.NOTHING_LEFT


def _finish(state: MissionState, settings: MissionSettings, reason: StopReason) -> Finish:
    if state.started and state.started.reverts and state.reverts_refused:
        why = "\n".join(state.reverts_refused)
        return Finish(stop_reason=reason, exit_code=EXIT_INPUT, detail=why)
    if reason == StopReason.RED_GREEN:
        return Finish(stop_reason=reason, exit_code=EXIT_BROKEN, detail=state.probe_trouble)
    if reason == StopReason.INFRASTRUCTURE:
        others = max(state.probe_faults, state.inquiry.faults)
        units = (u for u in state.units.values() if u.status not in ENDED)
        faulty = (u for u in units if u.faults > others)
        worst = max(faulty, key=lambda u: u.faults, default=None)
        is_asking = state.inquiry.faults > state.probe_faults
        trouble = state.inquiry.trouble if is_asking else state.probe_trouble
        cause = f"{worst.unit.id}: {worst.cause}" if worst else trouble
        return Finish(stop_reason=reason, exit_code=EXIT_BROKEN, detail=cause)
    all_done = all(u.status in SATISFIED for u in state.planned_units)
    cut_short = reason in CUT_SHORT and not state.units
    judged = state.inquiry.judged
    is_denied = bool(judged) and judged[-1].judged is not None and not judged[-1].met
    good = reason == StopReason.OBJECTIVE_MET or (all_done and not cut_short and not is_denied)
    code = EXIT_OK if good else EXIT_NOT_ALL
    return Finish(stop_reason=reason, exit_code=code, detail=_about_base(state, settings))


def _about_base(state: MissionState, settings: MissionSettings) -> str:
    """What a person has to know when the base branch moved and could not be merged."""
    base, green = settings.repository.base, settings.repository.green
    moved = f"{base} moved to {state.base_tip[:12]}"
    if state.base_conflict:
        files = ", ".join(state.base_conflict)
        return f"{moved}, which conflicts with {green} in {files}; merge the two and run again"
    if state.base_refusal:
        why = state.base_refusal.partition("\n")[0]
        return f"{moved}, which is red together with {green} and was left out: {why}"
    return ""
