"""From an answered plan tree to the units of a round, with what is to be said of them.

Planners that see one part each cannot know each other's ids, files and order. Here ids become
unique, parts wait for parts, and no two units that may write the same files are left without an
order.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import combinations, count, islice

from flows.planning.answers import TITLE_CHARACTERS, Part
from flows.planning.edges import Edges, ones
from flows.planning.globs import has_wildcards
from flows.planning.plan import Unit, UnitId
from flows.planning.tree import Node, PlanTree
from flows.planning.writesets import WriteSets, is_anything
from flows.prompts.quoting import on_one_line

HOT_UNITS = 4
BIG_FILES = 20
SHORT_CHARACTERS = 1_500
"""Prompts up to this length may share a unit."""

MOST_MERGED = 4
MOST_NOTES = 50

MOST_PATHS = 300
"""Looked up of those that a prompt names."""

_ID_CHARACTERS = 64
_QUOTED = re.compile(r"`([^`\s]{1,300})`")
_WORD = re.compile(r"[\w./@+-]{2,}")
_FILE = re.compile(r"[^./]\.[A-Za-z]\w{0,9}$")


@dataclass(frozen=True, slots=True, kw_only=True)
class Assembled:
    """Units in plan order, and what people should know of them, a line each."""

    units: tuple[Unit, ...]
    notes: tuple[str, ...] = ()


def assemble(
    tree: PlanTree, *, round_number: int, tracked: Collection[str], known: Collection[str]
) -> Assembled:
    """Make one plan of all units of a tree; `tracked` are the repository's files.

    `known` are the ids of earlier rounds, which no unit gets again. The same tree gives the same
    plan. Quadratic in the units.

    Raises:
        ValueError: the tree is not done.
    """
    if not tree.is_done:
        raise ValueError("questions of the plan tree are open")
    making = _Making(tree, frozenset(tracked))
    making.name_units(round_number, known)
    making.order_parts()
    making.mend_missing_edges()
    making.order_overlapping()
    making.criticise()
    notes = making.notes
    if len(notes) > MOST_NOTES:
        notes = [*notes[:MOST_NOTES], f"and {len(notes) - MOST_NOTES} more notes"]
    return Assembled(units=tuple(making.finished()), notes=tuple(notes))


class _Making:
    """A plan on its way; units are known by their places in it."""

    def __init__(self, tree: PlanTree, tracked: frozenset[str]) -> None:
        self.nodes = tree.nodes
        self.tracked = tracked
        self.notes: list[str] = []
        self.units: list[Unit] = []
        local: list[Sequence[Unit]] = []
        self.within: dict[str, int] = {}  # path of a node -> places of all units at or below it
        for node in self.nodes:
            merged, notes = merge_units(node.answer.units if node.answer else ())
            self.notes += notes
            self._place(node.path, range(len(self.units), len(self.units) + len(merged)))
            self.units += merged
            local.append(merged)
        self.edges = Edges(len(self.units))
        start = 0
        for units in local:
            _add_edges(self.edges, units, start)
            start += len(units)
        self.sets = WriteSets(self.units)

    def _place(self, path: str, places: range) -> None:
        mine = sum(1 << place for place in places)
        while path:
            self.within[path] = self.within.get(path, 0) | mine
            path = path.rpartition(".")[0]

    def name_units(self, round_number: int, known: Collection[str]) -> None:
        """Give every unit an id of its own, in this plan and among those of earlier rounds."""
        taken = set(known)
        for place, unit in enumerate(self.units):
            name = _unused(unit.id, taken, known, round_number)
            taken.add(name)
            self.units[place] = replace(unit, id=name)

    def order_parts(self) -> None:
        """Let the first units of a part wait for the last ones of the parts that it depends on."""
        for node in reversed(self.nodes):  # the parts of a part come before the part itself
            paths = {part.id: path for part, path in zip(_parts(node), node.children, strict=True)}
            for part in _parts(node):
                sources = self._ends(self.within[paths[part.id]], self.edges.above)
                for first in self._last_units(part, node, paths):
                    for then in sources:
                        self.edges.add(first, then)

    def _last_units(self, part: Part, node: Node, paths: Mapping[str, str]) -> list[int]:
        """The last units before a part; where a part has none, those of what it waits for."""
        needs = {each.id: each.depends_on for each in _parts(node)}
        found: dict[int, None] = {}
        waiting, seen = [*part.depends_on], {part.id}
        for name in waiting:
            if name in seen or name not in paths:
                continue
            seen.add(name)
            if units := self.within[paths[name]]:
                found |= dict.fromkeys(self._ends(units, self.edges.below))
            else:
                waiting += needs[name]
        return list(found)

    @staticmethod
    def _ends(units: int, beyond: Callable[[int], int]) -> list[int]:
        return [place for place in ones(units) if not beyond(place) & units]

    def mend_missing_edges(self) -> None:
        """Let a unit wait for the one unit that makes a file which it names."""
        folders = _folders(self.tracked)
        for place, unit in enumerate(self.units):
            for path in paths_named(unit.prompt):
                if path not in self.tracked and path not in folders:
                    self._mend(place, path)

    def _mend(self, place: int, path: str) -> None:
        exactly = self.units[place].writes is None or "/" not in path
        owners = list(ones(self.sets.owners(path, exactly=exactly)))
        if len(owners) != 1 or owners == [place]:
            return
        here, maker = self._name(place), self._name(owners[0])
        if self.edges.above(owners[0]) >> place & 1:
            said = f"{here} names `{path}`, which only {maker} makes, and {maker} waits for {here}"
            self.notes.append(said)
        elif self.edges.add(owners[0], place):
            self.notes.append(f"{here} names `{path}`, which only {maker} makes: it waits for it")

    def order_overlapping(self) -> None:
        """Let units wait for those before them that may write the same files.

        Taken in an order that follows all edges, and the nearest first, none of the edges is made
        superfluous by another, and none can close a cycle.
        """
        meeting = self.sets.meeting(len(self.units))
        before: list[int] = []
        for place in self.edges.in_order():
            for other in reversed(before):
                if meeting[place] >> other & 1:
                    self.edges.add(other, place)
            before.append(place)

    def criticise(self) -> None:
        """Note what makes the plan slower or riskier than it need be."""
        n_files = [0] * len(self.units)
        hot: dict[int, list[str]] = {}
        new = {each for unit in self.units for each in unit.writes or ()} - self.tracked
        for path in sorted(self.tracked | {each for each in new if not has_wildcards(each)}):
            owners = self.sets.owners(path)
            for place in ones(owners) if path in self.tracked else ():
                n_files[place] += 1
            if owners.bit_count() >= HOT_UNITS:
                hot.setdefault(owners, []).append(path)
        for owners, paths in hot.items():
            more = f" and {len(paths) - 1} more" if len(paths) > 1 else ""
            names = ", ".join(map(self._name, ones(owners)))
            self.notes.append(f"`{paths[0]}`{more}: written by {names}, one after the other")
        for place, unit in enumerate(self.units):
            if any(map(is_anything, unit.writes or ())):
                self.notes.append(f"{self._name(place)} may write anything: nothing runs beside it")
            elif n_files[place] > BIG_FILES:
                said = f"{self._name(place)} may write {n_files[place]} files; it may be too big"
                self.notes.append(said)

    def finished(self) -> Iterator[Unit]:
        """The units with all that they wait for."""
        for place, unit in enumerate(self.units):
            needs = tuple(self.units[each].id for each in self.edges.needs(place))
            yield replace(unit, depends_on=needs)

    def _name(self, place: int) -> str:
        return f"`{self.units[place].id}`"


def merge_units(units: Sequence[Unit]) -> tuple[list[Unit], list[str]]:
    """Make one unit of small ones with the very same write set, and say so.

    Not where a third unit must come between them: it would wait for what waits for it.
    """
    merged = list(units)
    members = {unit.id: [unit] for unit in units}
    while pair := _mergeable(merged, members):
        first, second = pair
        members[first.id] += members.pop(second.id)
        merged = [_with_merged(unit, first, second) for unit in merged if unit is not second]
    notes = [
        f"{', '.join(f'“{each.title}”' for each in group)} write the same files and are one unit"
        for group in members.values()
        if len(group) > 1
    ]
    return [_joined(unit, members[unit.id]) for unit in merged], notes


def paths_named(prompt: str) -> tuple[str, ...]:
    """Find what a prompt names as paths, in backticks or plainly, in the order of the text."""
    quoted = _QUOTED.findall(prompt)
    plain = (word.rstrip(".") for word in _WORD.findall(prompt))
    found = (*quoted, *(word for word in plain if "/" in word.strip("/") or _FILE.search(word)))
    paths = (each.removeprefix("./").rstrip("/") for each in found if not each.startswith("/"))
    return tuple(islice(dict.fromkeys(paths), MOST_PATHS))


def _mergeable(
    units: Sequence[Unit], members: Mapping[UnitId, Sequence[Unit]]
) -> tuple[Unit, Unit] | None:
    """Two units that can be one, that first which may have to be done first."""
    edges = _add_edges(Edges(len(units)), units)
    for first, then in combinations(edges.in_order(), 2):
        one, other = units[first], units[then]
        both = [*members[one.id], *members[other.id]]
        if (
            one.writes is not None
            and other.writes is not None
            and set(one.writes) == set(other.writes)
            and (one.kind, one.agent) == (other.kind, other.agent)
            and len(both) <= MOST_MERGED
            and all(len(each.prompt) <= SHORT_CHARACTERS for each in both)
            and not edges.below(first) & edges.above(then)
        ):
            return one, other
    return None


def _add_edges(edges: Edges, units: Sequence[Unit], start: int = 0) -> Edges:
    """Take over what units say that they depend on; they are the nodes from `start` on."""
    places = {unit.id: place for place, unit in enumerate(units, start)}
    for unit in units:
        for needed in unit.depends_on:
            edges.add(places[needed], places[unit.id], even_if_known=True)
    return edges


def _with_merged(unit: Unit, first: Unit, second: Unit) -> Unit:
    """The unit after two became one, be it one of them or what depends on them."""
    needs = (*unit.depends_on, *second.depends_on) if unit is first else unit.depends_on
    renamed = dict.fromkeys(first.id if need == second.id else need for need in needs)
    return replace(unit, depends_on=tuple(need for need in renamed if need != unit.id))


def _joined(unit: Unit, members: Sequence[Unit]) -> Unit:
    if len(members) == 1:
        return unit
    title = on_one_line("; ".join(each.title for each in members), TITLE_CHARACTERS)
    sections = (
        f"## {number}. {each.title}\n\n{each.prompt}"
        for number, each in enumerate(members, start=1)
    )
    return replace(unit, title=title, prompt="\n\n".join(sections))


def _unused(name: str, taken: Collection[str], known: Collection[str], round_number: int) -> UnitId:
    for number in count(1):
        suffix = f"-{number}" if number > 1 else ""
        if _suffixed(name, suffix) in known:
            suffix += f".r{round_number}"
        if (found := _suffixed(name, suffix)) not in taken:
            return UnitId(found)
    raise AssertionError  # there are more numbers than names


def _suffixed(name: str, suffix: str) -> str:
    return name[: _ID_CHARACTERS - len(suffix)].rstrip(".") + suffix if suffix else name


def _parts(node: Node) -> Sequence[Part]:
    return node.answer.parts if node.answer else ()


def _folders(paths: Collection[str]) -> set[str]:
    folders: set[str] = set()
    for path in paths:
        folder = path.rpartition("/")[0]
        while folder and folder not in folders:
            folders.add(folder)
            folder = folder.rpartition("/")[0]
    return folders
