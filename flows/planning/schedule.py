"""Which units may start now, and which of them first.

The first is the one with the longest remaining path: what waits for it takes longest.
Units whose write sets may meet never run at once.
"""

from __future__ import annotations

import heapq
from bisect import bisect_left, insort
from collections.abc import Collection, Iterable, Iterator, Mapping
from itertools import islice

from blocks.errors import PlanInvalid
from flows.planning.globs import exact_path, may_meet
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


def ready(
    plan: Plan,
    *,
    satisfied: Collection[UnitId],
    started: Collection[UnitId],
    busy_writes: Collection[Unit],
    priority: Mapping[UnitId, float],
) -> list[Unit]:
    """Find the units that may start beside the running ones, most urgent first.

    Two units of the answer may still meet each other: start the first, then ask again. Looks at
    the whole plan; a `Schedule` answers the same question event by event.
    """
    satisfied, started = frozenset(satisfied), frozenset(started)
    taken = _Claims(busy_writes)
    startable = [
        unit
        for unit in plan.units
        if unit.id not in started and satisfied.issuperset(unit.depends_on) and taken.allow(unit)
    ]
    return sorted(startable, key=lambda unit: -priority[unit.id])


class Schedule:
    """The ready units of one plan, kept up to date event by event.

    `satisfy` and `start` cost what a unit's dependents are; `pick` costs what it looks at.
    """

    def __init__(
        self,
        plan: Plan,
        *,
        satisfied: Collection[UnitId] = (),
        started: Collection[UnitId] = (),
        seconds: Mapping[UnitId, float] | None = None,
    ) -> None:
        self.plan = plan
        self.priority = longest_paths(plan, seconds)
        self._dependents = plan.dependents()
        self._place = {unit.id: place for place, unit in enumerate(plan.units)}
        self._missing = {unit.id: len(set(unit.depends_on)) for unit in plan.units}
        self._satisfied: set[UnitId] = set()
        self._started = set(started)
        self._open: list[tuple[float, int]] = []
        for unit in plan.units:
            self._open_if_free(unit.id)
        for unit_id in satisfied:
            self.satisfy(unit_id)

    def satisfy(self, unit_id: UnitId) -> tuple[UnitId, ...]:
        """Note that others may build on a unit; return those that this set free."""
        if unit_id in self._satisfied:
            return ()
        self._satisfied.add(unit_id)
        for dependent in self._dependents[unit_id]:
            self._missing[dependent] -= 1
        return tuple(each for each in self._dependents[unit_id] if self._open_if_free(each))

    def start(self, unit_id: UnitId) -> None:
        """Note that a unit runs, or that it is never to run: it is not offered any more."""
        self._started.add(unit_id)
        key = self._key(unit_id)
        place = bisect_left(self._open, key)
        if self._open[place : place + 1] == [key]:
            del self._open[place]

    def put_back(self, unit_id: UnitId) -> None:
        """Offer a unit that was started once more, such as after a failed attempt."""
        if unit_id in self._started:
            self._started.remove(unit_id)
            self._open_if_free(unit_id)

    def ready(self, busy_writes: Collection[Unit] = ()) -> list[Unit]:
        """Find the units that may start beside the running ones, as the function `ready` does."""
        return list(self._startable(_Claims(busy_writes)))

    def pick(self, count: int, busy_writes: Collection[Unit] = ()) -> list[Unit]:
        """Find at most `count` units that may all start now, none of them meeting another."""
        taken = _Claims(busy_writes)
        return list(islice(self._disjoint(taken), max(count, 0)))

    def _disjoint(self, taken: _Claims) -> Iterator[Unit]:
        for unit in self._startable(taken):
            taken.add(unit)
            yield unit

    def _startable(self, taken: _Claims) -> Iterator[Unit]:
        units = (self.plan.units[place] for _, place in self._open)
        return (unit for unit in units if taken.allow(unit))

    def _open_if_free(self, unit_id: UnitId) -> bool:
        free = self._missing[unit_id] == 0 and unit_id not in self._started
        if free:
            insort(self._open, self._key(unit_id))
        return free

    def _key(self, unit_id: UnitId) -> tuple[float, int]:
        return (-self.priority[unit_id], self._place[unit_id])


class _Claims:
    """The write sets of running units, so that exact paths are looked up, not compared."""

    def __init__(self, units: Iterable[Unit]) -> None:
        self._paths: set[str] = set()
        self._folders: set[str] = set()
        self._patterns: set[str] = set()
        self._globs: set[str] = set()
        for unit in units:
            self.add(unit)

    def add(self, unit: Unit) -> None:
        """Claim what a unit writes."""
        for pattern in unit.writes or ():
            self._patterns.add(pattern)
            path = exact_path(pattern)
            if path is None:
                self._globs.add(pattern)
            else:
                self._paths.add(path)
                self._folders.update(_folders(path))

    def allow(self, unit: Unit) -> bool:
        """Say whether a unit meets none of the claims; the same as `overlap` with each."""
        return not any(self._meets(pattern) for pattern in unit.writes or ())

    def _meets(self, pattern: str) -> bool:
        path = exact_path(pattern)
        if path is None:
            return any(may_meet(pattern, each) for each in self._patterns)
        return (
            path in self._paths
            or path in self._folders
            or not self._paths.isdisjoint(_folders(path))
            or any(may_meet(pattern, each) for each in self._globs)
        )


def _folders(path: str) -> Iterator[str]:
    """Yield the folders that a path lies in, the nearest first."""
    while folder := path.rpartition("/")[0]:
        yield folder
        path = folder
