"""What a mission would do, without doing it: the DAG, its critical path, each agent's command."""

from __future__ import annotations

import logging
import shlex
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import asdict, dataclass, field, replace
from typing import Any

from blocks.errors import MissionError
from flows.home import METRICS_FILE, home_path
from flows.human_input import format_duration
from flows.planning.dialogue import plan_by_asking
from flows.planning.history import Estimate, estimate, read_history
from flows.planning.plan import Plan, Unit, UnitId, unit_from_dict
from flows.planning.rounds import PlanOrder, file_units, plan_round
from flows.planning.schedule import critical_path, order_units
from flows.planning.tree import PlanTree
from flows.reporting.narration import count
from flows.reporting.tables import table
from flows.running.agents import Phase, command_of, environment_of
from flows.running.attempt import expand
from flows.running.calling import profile_of, told_to
from flows.running.rehearsal import Rehearsal, rehearsed
from flows.settings import Agent, MissionSettings

logger = logging.getLogger(__name__)

PHASE_VERBS = {"plan": "plan", "work": "work", "fixup": "repair", "review": "judge"}

SHOWN_WRITES = 1
"""How many of a unit's paths a table has room for; JSON has them all."""


@dataclass(frozen=True, slots=True, kw_only=True)
class AgentCall:
    """How an agent is called in a phase, and what it may do then.

    Without `is_enforced` that is the agent's word alone; our checks after the fact hold all the
    same. `env` holds no secret: those are fetched when a mission begins.
    """

    agent: str
    phase: str
    profile: str
    argv: tuple[str, ...]
    env: Mapping[str, str]
    may: str
    is_enforced: bool
    network: bool
    sandbox: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Preview:
    """A plan as a mission would make it now; `units` are in an order that respects the edges.

    `argv` is each unit's exact command; what is only known when it runs stays a `{placeholder}`.
    """

    settings: MissionSettings
    units: tuple[Unit, ...]
    path: tuple[UnitId, ...]
    argv: Mapping[UnitId, tuple[str, ...]]
    agents: tuple[AgentCall, ...] = ()
    estimate: Estimate = field(default_factory=Estimate)
    notes: tuple[str, ...] = ()
    warnings: tuple[str, ...] = ()

    def timeout_seconds(self, unit: Unit) -> float:
        """The time limit of an attempt at a unit."""
        return unit.timeout_seconds or self.settings.limits.unit_timeout

    @property
    def overshoot_usd(self) -> float | None:
        """The most that may be spent beyond the budget; None without `max_usd` of each agent.

        No attempt starts when the budget is spent, but those that run go on; planning agents run
        only when no others do.
        """
        worst = [None if usd is None else at_once * usd for _, at_once, usd in _most_at_once(self)]
        known = [usd for usd in worst if usd is not None]
        return max(known) if known and len(known) == len(worst) else None

    def as_text(self) -> str:
        """Tell the plan to people."""
        return "\n".join(_lines(self))

    def as_json(self) -> dict[str, Any]:
        """Give the plan to programs; ranges are from earlier missions, null is not known."""
        settings = self.settings
        return {
            "name": settings.name,
            "objective": settings.objective,
            "repository": settings.repository.model_dump(mode="json"),
            "planner": settings.plan.planner,
            "units": [self._unit_json(unit) for unit in self.units],
            "critical_path": list(self.path),
            "verify": settings.verify.model_dump(mode="json"),
            "backend": settings.backend.model_dump(mode="json"),
            "agents": [{**asdict(call), "argv": list(call.argv)} for call in self.agents],
            "seconds_low": self.estimate.seconds_low,
            "seconds_high": self.estimate.seconds_high,
            "cost_usd_low": self.estimate.usd_low,
            "cost_usd_high": self.estimate.usd_high,
            "overshoot_usd": self.overshoot_usd,
            "notes": list(self.notes),
            "warnings": list(self.warnings),
        }

    def _unit_json(self, unit: Unit) -> dict[str, Any]:
        return {
            "id": unit.id,
            "title": unit.title,
            "kind": unit.kind,
            "depends_on": list(unit.depends_on),
            "writes": None if unit.writes is None else list(unit.writes),
            "agent": unit.agent,
            "timeout_seconds": self.timeout_seconds(unit),
            "verify": unit.verify or self.settings.verify.unit or None,
            "argv": list(self.argv[unit.id]),
            "critical": unit.id in self.path,
        }


def preview(settings: MissionSettings, *, ask: bool = False) -> Preview:
    """Plan as the mission would now; the target is only read. Agents run only to plan, with `ask`.

    Raises:
        PlanInvalid: the plan has problems; every one of them is named.
        RepositoryUnusable, CannotMerge: the target cannot be worked on.
        BackendUnreachable, OutOfQuota: a planning agent could not be asked.
    """
    with ExitStack() as stack:
        stage = _Stage(settings, stack)
        units, notes = _planned(settings, stage, ask=ask)
        plan = Plan(units=tuple(units))
        return Preview(
            settings=settings,
            units=order_units(plan),
            path=critical_path(plan),
            argv={unit.id: _argv(unit, settings, stage) for unit in units},
            agents=tuple(_calls(settings, units)),
            estimate=_estimate(settings, plan),
            notes=(*notes, *_place_notes(settings)),
            warnings=stage.warnings,
        )


class _Stage:
    """The rehearsal, opened only when something asks for it."""

    def __init__(self, settings: MissionSettings, stack: ExitStack) -> None:
        self._settings, self._stack = settings, stack
        self._opened: Rehearsal | None = None

    @property
    def rehearsal(self) -> Rehearsal:
        """The opened target."""
        if self._opened is None:
            self._opened = self._stack.enter_context(rehearsed(self._settings))
        return self._opened

    @property
    def warnings(self) -> tuple[str, ...]:
        """What is to be said about the target, if it was looked at."""
        return self._opened.target.warnings if self._opened else ()

    def files(self) -> Mapping[str, str]:
        """The files of the commit that the mission would start from."""
        return self.rehearsal.repository.files(self.rehearsal.target.start)


def _planned(
    settings: MissionSettings, stage: _Stage, *, ask: bool
) -> tuple[Sequence[Unit], Sequence[str]]:
    planner = settings.plan.planner
    if planner == "file":
        return file_units(settings), ()
    if planner == "agent" and not ask:
        return (), (f"agent '{settings.plan.agent}' plans when the mission starts; --ask asks now",)
    start = stage.rehearsal.target.start
    bench = stage.rehearsal.bench(settings, runs_agents=planner == "agent")
    order = PlanOrder(round=1, green=start, known=frozenset(), given_up=frozenset())
    if planner == "agent":
        order = replace(order, tree=plan_by_asking(bench, start))
    made = plan_round(order, bench)
    unusable = _unusable(order.tree) if order.tree else ()
    return [unit_from_dict(unit) for unit in made.units], (*unusable, *made.notes)


def _unusable(tree: PlanTree) -> Iterator[str]:
    """Say where a planning agent's answer could not be used, and what was made of it."""
    for node in tree.nodes:
        if node.refused:
            became = "it is one unit now" if node.is_leaf_by_default else "it was asked again"
            yield f"an answer about '{node.title}' was unusable, {became}: {node.refused.strip()}"


def _calls(settings: MissionSettings, units: Sequence[Unit]) -> Iterator[AgentCall]:
    """How each agent is called, once for all that it is asked for in a phase."""
    works = {unit.agent for unit in units if unit.command is None}
    named = [*settings.roles, *((name, "work") for name in sorted(works))]
    for name, phase in dict.fromkeys(named):
        agent = settings.agents.get(name) or Agent()
        profile, told = profile_of(agent), told_to(settings, name, Phase(phase), {})
        if not profile.argv:
            continue
        permission = profile.permissions[told.phase]
        yield AgentCall(
            agent=name,
            phase=phase,
            profile=profile.name,
            argv=command_of(profile, told, files=("{files}",)),
            env=environment_of(profile, told),
            may=permission.says,
            is_enforced=permission.is_enforced,
            network=told.network,
            sandbox="none",
        )


def _estimate(settings: MissionSettings, plan: Plan) -> Estimate:
    """What earlier missions say; a plan never fails for its figures."""
    if not plan.units and settings.plan.planner == "agent":
        return Estimate(seconds_unknown="not planned yet", usd_unknown="not planned yet")
    home = home_path()
    try:
        history = read_history(home / METRICS_FILE, home / "missions", settings.repository.url)
    except MissionError as error:
        logger.warning("earlier missions could not be read: %s", error)
        return Estimate(seconds_unknown=str(error), usd_unknown=str(error))
    path = critical_path(plan)
    return estimate(history, plan.units, path, _slots(settings), settings.verify.slots)


def _slots(settings: MissionSettings) -> int:
    return settings.backend.slots * max(len(settings.backend.hosts), 1)


def _most_at_once(shown: Preview) -> Iterator[tuple[str, int, float | None]]:
    """For each agent that may run: its name, how many of it at once, what one may cost in USD."""
    settings = shown.settings
    works = {(unit.agent, "work") for unit in shown.units if unit.command is None}
    at_once = {"plan": settings.plan.slots, "review": 1}
    for name, phase in sorted({*settings.roles, *works}):
        agent = settings.agents.get(name) or Agent()
        yield name, at_once.get(phase, _slots(settings)), agent.max_usd


def _argv(unit: Unit, settings: MissionSettings, stage: _Stage) -> tuple[str, ...]:
    agent = settings.agents.get(unit.agent) or Agent()
    profile = profile_of(agent, unit.command)
    wanted = any("{files}" in argument for argument in profile.argv)
    files = expand(unit.writes, stage.files) if wanted else ()
    values = {"MISSION_UNIT_ID": unit.id, "MISSION_ATTEMPT": "1"}
    return command_of(profile, told_to(settings, unit.agent, Phase.WORK, values), files=files)


def _place_notes(settings: MissionSettings) -> Iterator[str]:
    if settings.plan.planner == "tidy" and (settings.backend.kind != "local"):
        yield "planned with the tools of this machine; the mission asks those of its first host"


# -- as text ----------------------------------------------------------------------------------


def _lines(shown: Preview) -> Iterator[str]:
    settings = shown.settings
    for warning in shown.warnings:
        yield f"warning: {warning}"
    yield table((), [*_head(shown)])
    if shown.units:
        heads = ("unit", "depends on", "writes", "agent", "timeout")
        yield f"\n{table(heads, [_row(unit, shown) for unit in shown.units])}"
        yield "\ncommands"
        for unit in shown.units:
            yield f"  {unit.id}: {shlex.join(shown.argv[unit.id])}"
    elif settings.plan.planner != "agent":
        yield "\nno units: nothing to tidy" if settings.plan.planner == "tidy" else "\nno units"
    if shown.agents:
        yield "\nagents"
        for call in shown.agents:
            yield from _call_lines(call)
    for note in shown.notes:
        yield f"note: {note}"


def _call_lines(call: AgentCall) -> Iterator[str]:
    held = "held to it by the command" if call.is_enforced else "nothing holds it to that"
    network = "with network tools" if call.network else "no network tools"
    yield f"  {call.agent}, to {PHASE_VERBS[call.phase]} ({call.profile}; sandbox {call.sandbox})"
    yield f"    {shlex.join(call.argv)}"
    for name, value in call.env.items():
        yield f"    {name}={shlex.quote(value)}"
    yield f"    {call.may}; {network}; {held}"


def _head(shown: Preview) -> Iterator[tuple[str, str]]:
    settings = shown.settings
    repository, verify = settings.repository, settings.verify
    yield "mission", f"{settings.name}: {settings.objective}".rstrip(": ")
    yield "target", f"{repository.url or repository.block}, {repository.base} → {repository.green}"
    is_known = shown.units or settings.plan.planner != "agent"
    how_many = count(len(shown.units), "unit") if is_known else "not made yet"
    yield "plan", f"{how_many} ({settings.plan.planner})"
    if shown.path:
        yield "critical path", f"{' → '.join(shown.path)} ({len(shown.path)} in a row)"
    yield "verify", f"{verify.command} ({format_duration(verify.timeout)}, {verify.slots} at once)"
    if verify.setup:
        yield "setup", verify.setup
    yield "backend", _backend(settings)
    if settings.fixup.agent:
        yield "fix-up", _fixup(settings)
    told = shown.estimate
    yield "time", _range(told.seconds_low, told.seconds_high, told.seconds_unknown, _rounded)
    yield "cost", _range(told.usd_low, told.usd_high, told.usd_unknown, "${:.2f}".format)
    limits = {name: usd for name, _, usd in _most_at_once(shown)}
    if any(usd is not None for usd in limits.values()):
        unlimited = ", ".join(name for name, usd in limits.items() if usd is None)
        no_limit = f"no limit: no max_usd for {unlimited}"
        worst = shown.overshoot_usd
        yield "worst overshoot of the budget", no_limit if worst is None else f"${worst:.2f}"


def _range(low: float | None, high: float | None, unknown: str, say: Callable[[float], str]) -> str:
    if low is None:
        return f"unknown ({unknown})"
    if high is None:
        return f"at least {say(low)} ({unknown})"
    return say(low) if say(low) == say(high) else f"{say(low)} to {say(high)}"


def _rounded(seconds: float) -> str:
    return format_duration(round(seconds))


def _fixup(settings: MissionSettings) -> str:
    fixup = settings.fixup
    at_once = f", {fixup.candidates} at once" if fixup.candidates > 1 else ""
    return f"{fixup.agent}, at most {count(fixup.attempts, 'repair')}{at_once}"


def _backend(settings: MissionSettings) -> str:
    backend = settings.backend
    slots = count(backend.slots, "slot")
    if backend.block:
        return f"block {backend.block}"
    if backend.kind == "ssh":
        return f"ssh, {slots} on each of {', '.join(backend.hosts)}"
    return f"{backend.kind}, {slots}"


def _some(patterns: Sequence[str]) -> str:
    rest = len(patterns) - SHOWN_WRITES
    shown = ", ".join(patterns[:SHOWN_WRITES])
    return f"{shown} and {rest} more" if rest > 0 else shown or "nothing"


def _row(unit: Unit, shown: Preview) -> tuple[str, ...]:
    return (
        unit.id,
        ", ".join(unit.depends_on) or "-",
        "anywhere" if unit.writes is None else _some(unit.writes),
        unit.agent if unit.command is None else "-",
        format_duration(shown.timeout_seconds(unit)),
    )
