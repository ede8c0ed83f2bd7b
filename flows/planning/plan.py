"""Units and plans: what is to be done, by which agent, where it may write, and in which order."""

from __future__ import annotations

import re
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import MISSING, dataclass, field, fields
from typing import Any, NewType

from blocks.errors import PlanInvalid
from flows.human_input import did_you_mean, one_of
from flows.planning.globs import matches, may_meet, names_a_place

__all__ = [
    "DEFAULT_AGENT",
    "KINDS",
    "Plan",
    "Problem",
    "Unit",
    "UnitId",
    "check_plan",
    "find_cycles",
    "is_unit_id",
    "matches",
    "overlap",
    "plan_problems",
    "unit_from_dict",
    "unit_to_dict",
]

UnitId = NewType("UnitId", str)

KINDS = ("regression", "test", "security", "types", "lint", "objective")
"""What a unit is about, the most urgent first."""

DEFAULT_AGENT = "default"

_UNIT_ID = re.compile(r"[a-z0-9][a-z0-9._-]{0,63}")


@dataclass(frozen=True, slots=True, kw_only=True)
class Unit:
    """One piece of work for one agent; `writes` are globs (see `matches`), None is anywhere."""

    id: UnitId
    title: str
    prompt: str = ""
    depends_on: tuple[UnitId, ...] = ()
    writes: tuple[str, ...] | None = None
    agent: str = DEFAULT_AGENT
    timeout_seconds: float | None = None
    verify: str | None = None
    checkpoint: bool = False
    may_remove_tests: bool = False
    command: tuple[str, ...] | None = None  # replaces the agent's own argv
    kind: str = "objective"


@dataclass(frozen=True, slots=True, kw_only=True)
class Plan:
    """Units in plan order; `check_plan` makes one whose ids are unique and edges acyclic."""

    units: tuple[Unit, ...]
    _by_id: Mapping[UnitId, Unit] = field(init=False, repr=False, compare=False)

    def __post_init__(self) -> None:
        object.__setattr__(self, "_by_id", {unit.id: unit for unit in self.units})

    def unit(self, unit_id: UnitId) -> Unit:
        """Return the unit with this id.

        Raises:
            KeyError: the plan has no such unit.
        """
        return self._by_id[unit_id]

    def dependents(self) -> Mapping[UnitId, tuple[UnitId, ...]]:
        """Map every id to the units that depend on it directly, in plan order."""
        found: dict[UnitId, list[UnitId]] = {unit.id: [] for unit in self.units}
        for unit in self.units:
            for needed in dict.fromkeys(unit.depends_on):
                found[needed].append(unit.id)
        return {unit_id: tuple(ids) for unit_id, ids in found.items()}


@dataclass(frozen=True, slots=True, kw_only=True)
class Problem:
    """What is wrong with one key of the unit at `position`; position -1 is the plan itself."""

    position: int
    unit: str
    key: str
    text: str

    def __str__(self) -> str:
        """Say unit, key and mend on one line."""
        return ": ".join(
            part for part in (self.unit and f"unit '{self.unit}'", self.key, self.text) if part
        )


def is_unit_id(text: str) -> bool:
    """Say whether a text may be part of a git ref and a folder's name."""
    return bool(_UNIT_ID.fullmatch(text)) and ".." not in text and not text.endswith(".lock")


def check_plan(
    units: Iterable[Unit],
    *,
    agents: Collection[str],
    source: str,
    commandless: Collection[str] = (),
) -> Plan:
    """Make a plan of units; agents named in `commandless` only take units with a `command`.

    Raises:
        PlanInvalid: every problem on a line of its own, with source, unit, key and mend.
    """
    units = tuple(units)
    if problems := plan_problems(units, agents=agents, commandless=commandless):
        raise PlanInvalid("".join(f"\n{source}: {problem}" for problem in problems))
    return Plan(units=units)


def plan_problems(
    units: Sequence[Unit], *, agents: Collection[str], commandless: Collection[str] = ()
) -> tuple[Problem, ...]:
    """Find all that keeps these units from being a plan, in plan order, cycles last."""
    if not units:
        return (Problem(position=-1, unit="", key="", text="the plan has no units"),)
    known = {unit.id: None for unit in units}
    first: dict[str, int] = {}
    problems: list[Problem] = []
    for position, unit in enumerate(units):
        found = [*_id_problems(unit, first), *_edge_problems(unit, known)]
        found += [*_agent_problems(unit, agents, commandless), *_value_problems(unit)]
        problems += [
            Problem(position=position, unit=unit.id, key=key, text=text) for key, text in found
        ]
        first.setdefault(unit.id, position)
    for cycle in find_cycles(units):
        chain = " → ".join((*cycle, cycle[0]))
        text = f"units wait for each other: {chain}; take one of these away"
        problems.append(
            Problem(position=first[cycle[0]], unit=cycle[0], key="depends_on", text=text)
        )
    return tuple(problems)


def find_cycles(units: Sequence[Unit]) -> tuple[tuple[UnitId, ...], ...]:
    """Find circular dependencies, each from its first unit in plan order along `depends_on`.

    One cycle for each edge that closes one, none left out that must be broken; linear.
    Self-dependencies and unknown ids are no business of this function.
    """
    edges = {unit.id: unit.depends_on for unit in units}
    order = {unit_id: position for position, unit_id in enumerate(edges)}
    done: set[UnitId] = set()
    cycles: dict[tuple[UnitId, ...], None] = {}
    for unit_id in edges:
        for path in _closing_paths(unit_id, edges, done):
            start = path.index(min(path, key=order.__getitem__))
            cycles[(*path[start:], *path[:start])] = None
    return tuple(cycles)


def overlap(left: Unit, right: Unit) -> bool:
    """Say whether the write sets may meet; never for a unit that promises no write set."""
    if left.writes is None or right.writes is None:
        return False
    return any(may_meet(one, other) for one in left.writes for other in right.writes)


def unit_to_dict(unit: Unit) -> dict[str, Any]:
    """Turn a unit into plain JSON values, every field by its name."""
    values = {each.name: getattr(unit, each.name) for each in fields(unit)}
    return {
        key: list(value) if isinstance(value, tuple) else value for key, value in values.items()
    }


def unit_from_dict(record: Mapping[str, Any]) -> Unit:
    """Turn what `unit_to_dict` made back into the unit; absent fields get their defaults."""
    values: dict[str, Any] = {
        each.name: tuple(value) if isinstance(value, list) else value
        for each in fields(Unit)
        if (value := record.get(each.name, each.default)) is not MISSING
    }
    return Unit(**values)


def _id_problems(unit: Unit, first: Mapping[str, int]) -> Iterator[tuple[str, str]]:
    if not is_unit_id(unit.id):
        rule = "use at most 64 of a-z, 0-9, '.', '_' and '-', not '..' and no '.lock' at the end"
        yield "id", f"it becomes part of a branch and a folder: {rule}"
    if unit.id in first:
        yield "id", f"unit {first[unit.id] + 1} of the plan has this id already; rename one"


def _edge_problems(unit: Unit, known: Collection[str]) -> Iterator[tuple[str, str]]:
    for needed in dict.fromkeys(unit.depends_on):
        if needed == unit.id:
            yield "depends_on", "the unit depends on itself; take its id out"
        elif needed not in known:
            yield "depends_on", f"there is no unit '{needed}'{did_you_mean(needed, known)}"


def _agent_problems(
    unit: Unit, agents: Collection[str], commandless: Collection[str]
) -> Iterator[tuple[str, str]]:
    if unit.agent not in agents:
        mend = (
            did_you_mean(unit.agent, agents) or f"; add [agents.{unit.agent}] to the mission file"
        )
        yield "agent", f"there is no agent '{unit.agent}'{mend}"
    elif unit.agent in commandless and unit.command is None:
        yield "agent", f"agent '{unit.agent}' has no argv; give it one, or the unit a command"


def _value_problems(unit: Unit) -> Iterator[tuple[str, str]]:
    for pattern in unit.writes or ():
        if not names_a_place(pattern):
            yield "writes", f"'{pattern}' names nothing inside the repository"
    if unit.kind not in KINDS:
        yield "kind", f"'{unit.kind}' is not {one_of(KINDS)}{did_you_mean(unit.kind, KINDS)}"
    if unit.timeout_seconds is not None and not unit.timeout_seconds > 0:
        yield "timeout", f"{unit.timeout_seconds} is not more than zero seconds"
    if unit.command is not None and not unit.command:
        yield "command", "it is empty; leave it out to use the agent's own"


def _closing_paths(
    start: UnitId, edges: Mapping[UnitId, Sequence[UnitId]], done: set[UnitId]
) -> Iterator[list[UnitId]]:
    """Walk depth first without recursion and yield each path that returns into itself."""
    if start in done:
        return
    path, waiting = [start], [iter(edges[start])]
    on_path = {start: 0}
    while path:
        here = path[-1]
        following = next(waiting[-1], None)
        if following is None:
            done.add(here)
            del on_path[path.pop()]
            waiting.pop()
        elif following in on_path and following != here:
            yield path[on_path[following] :]
        elif following in edges and following not in done and following != here:
            on_path[following] = len(path)
            path.append(following)
            waiting.append(iter(edges[following]))
