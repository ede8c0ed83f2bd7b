"""What a mission would do, without doing it: the DAG, its critical path, each agent's command."""

from __future__ import annotations

import shlex
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import asdict, dataclass, replace
from typing import Any

from flows.human_input import format_duration
from flows.planning.dialogue import plan_by_asking
from flows.planning.plan import Plan, Unit, UnitId, unit_from_dict
from flows.planning.rounds import PlanOrder, file_units, plan_round
from flows.planning.schedule import critical_path, order_units
from flows.reporting.narration import count
from flows.reporting.tables import table
from flows.running.agents import Phase, command_of, environment_of
from flows.running.attempt import expand
from flows.running.calling import profile_of, told_to
from flows.running.rehearsal import Rehearsal, rehearsed
from flows.settings import Agent, MissionSettings

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
    notes: tuple[str, ...] = ()
    warnings: tuple[str, ...] = ()

    def timeout_seconds(self, unit: Unit) -> float:
        """The time limit of an attempt at a unit."""
        return unit.timeout_seconds or self.settings.limits.unit_timeout

    def as_text(self) -> str:
        """Tell the plan to people."""
        return "\n".join(_lines(self))

    def as_json(self) -> dict[str, Any]:
        """Give the plan to programs; the cost of agents is not known beforehand: null."""
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
            "cost_usd": None,
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
    return [unit_from_dict(unit) for unit in made.units], made.notes


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
    yield "cost", "unknown"


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
