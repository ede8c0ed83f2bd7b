"""What is planned for a round: the mission's planner asked, its answer made this mission's own."""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from blocks.commands import Finished
from blocks.errors import PlanInvalid
from flows.ledger.events import PlanMade
from flows.planning.assembly import assemble
from flows.planning.documents import read_plan
from flows.planning.plan import Unit, UnitId, unit_to_dict
from flows.planning.tidy import plan_tidy
from flows.planning.tree import Node, PlanTree
from flows.running.bench import Bench
from flows.settings import MissionSettings

TOOL_SECONDS = 1_800.0


@dataclass(frozen=True, slots=True, kw_only=True)
class PlanOrder:
    """What is asked of a planner: `known` are the units so far, `given_up` those that failed."""

    round: int
    green: str
    known: frozenset[str]
    given_up: frozenset[str]
    replan: int = 0
    tree: PlanTree | None = None  # what agents answered, when they plan


def plan_round(order: PlanOrder, bench: Bench) -> PlanMade:
    """Ask the mission's planner for a round's units.

    Raises:
        PlanInvalid: the plan has problems; every one of them is named.
    """
    began = time.monotonic()
    units: Sequence[Unit]
    notes: Sequence[str] = ()
    if order.tree is not None:
        made = assemble(
            order.tree,
            tracked=bench.repository.files(order.green),
            known=order.known,
            round_number=order.round,
        )
        units, notes = made.units, made.notes
    elif bench.settings.plan.planner == "file":
        units = file_units(bench.settings)
    else:
        found = _tidy(order, bench)
        units, notes = _fresh(found[0], order), found[1]
    return PlanMade(
        round=order.round,
        planner=bench.settings.plan.planner,
        units=[unit_to_dict(unit) for unit in units],
        notes=tuple(notes),
        seconds=time.monotonic() - began,
        replan=order.replan,
        nodes=[_node(node) for node in order.tree.nodes] if order.tree else (),
    )


def _node(node: Node) -> dict[str, Any]:
    return {
        "path": node.path,
        "parent": node.parent,
        "depth": node.depth,
        "title": node.title,
        "kind": node.kind,
        "n_units": node.n_units,
    }


def file_units(settings: MissionSettings) -> tuple[Unit, ...]:
    """The units of the plan file that a mission names.

    Raises:
        PlanInvalid: it is not there, or has problems.
    """
    if settings.plan.file is None:
        raise PlanInvalid("[plan] file names no plan")
    path = Path(settings.plan.file)
    commandless = settings.commandless_agents
    return read_plan(path, agents=settings.agents, commandless=commandless).units


def _tidy(order: PlanOrder, bench: Bench) -> tuple[tuple[Unit, ...], tuple[str, ...]]:
    place = next(iter(bench.places.values()))
    workspace = bench.workspace(place, "planner", 0)
    bench.provide(place, order.green)
    workspace.reset(order.green)
    environment = bench.environment(workspace, {})

    def run(argv: Sequence[str]) -> Finished:
        return place.run(
            argv, cwd=workspace.tree, env=environment, timeout_seconds=TOOL_SECONDS, check=False
        )

    settings = bench.settings
    plan = plan_tidy(
        Path(workspace.tree),
        run,
        verify_command=settings.verify.command,
        agent_available=any(a.profile != "command" for a in settings.agents.values()),
        protected=settings.review.protected,
    )
    return plan.units, plan.notes


def _fresh(units: Sequence[Unit], order: PlanOrder) -> list[Unit]:
    """Leave out what was given up; give new ids to what has an old one's name."""
    wanted = [unit for unit in units if _stem(unit.id) not in map(_stem, order.given_up)]
    names = {unit.id: _unused(unit.id, order) for unit in wanted}
    return [
        replace(
            unit,
            id=UnitId(names[unit.id]),
            depends_on=tuple(UnitId(names[d]) for d in unit.depends_on if d in names),
        )
        for unit in wanted
    ]


def _unused(name: str, order: PlanOrder) -> str:
    return f"{name}.r{order.round}" if name in order.known else name


def _stem(name: str) -> str:
    stem, _, round_number = name.rpartition(".r")
    return stem if stem and round_number.isdigit() else name
