"""The order of work: which units come first, and what holds up the plan the longest."""

from __future__ import annotations

import heapq
from collections.abc import Collection, Mapping

from blocks.errors import PlanInvalid
from flows.planning.plan import Plan, Unit, UnitId, find_cycles


def order_units(plan: Plan) -> tuple[Unit, ...]:
    """Order units so that each follows all it depends on; ties by plan order, so runs repeat.

    Linear in units + dependencies, but for the heap that keeps the ties.
    Source: Kahn, CACM 5(11), 1962, doi:10.1145/368996.369025.

    Raises:
        PlanInvalid: a cycle exists (its ids are in the message).
    """
    dependents = plan.dependents()
    position = {unit.id: place for place, unit in enumerate(plan.units)}
    missing = {unit.id: len(set(unit.depends_on)) for unit in plan.units}
    free = [position[unit_id] for unit_id, count in missing.items() if count == 0]
    ordered: list[Unit] = []
    while free:
        unit = plan.units[heapq.heappop(free)]
        ordered.append(unit)
        for dependent in dependents[unit.id]:
            missing[dependent] -= 1
            if missing[dependent] == 0:
                heapq.heappush(free, position[dependent])
    if len(ordered) < len(plan.units):
        chains = "; ".join(" → ".join((*each, each[0])) for each in find_cycles(plan.units))
        raise PlanInvalid(f"units wait for each other: {chains}")
    return tuple(ordered)


def longest_paths(plan: Plan, seconds: Mapping[UnitId, float] | None = None) -> dict[UnitId, float]:
    """Map each unit to the longest way from its start to the end of what waits for it.

    Weights are `seconds`, or 1 for a unit that has none there. Linear.

    Raises:
        PlanInvalid: a cycle exists.
    """
    weights = seconds or {}
    dependents = plan.dependents()
    lengths: dict[UnitId, float] = {}
    for unit in reversed(order_units(plan)):
        behind = max((lengths[each] for each in dependents[unit.id]), default=0.0)
        lengths[unit.id] = weights.get(unit.id, 1.0) + behind
    return lengths


def critical_path(plan: Plan, seconds: Mapping[UnitId, float] | None = None) -> tuple[UnitId, ...]:
    """Return the longest chain of units, first to last; ties by plan order.

    Raises:
        PlanInvalid: a cycle exists.
    """
    lengths = longest_paths(plan, seconds)
    dependents = plan.dependents()
    path: list[UnitId] = []
    choices: Collection[UnitId] = [unit.id for unit in plan.units if not unit.depends_on]
    while choices:
        path.append(max(choices, key=lengths.__getitem__))
        choices = dependents[path[-1]]
    return tuple(path)
