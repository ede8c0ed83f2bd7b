"""Write sets of many units at once: which may meet, and whose a path is.

Sets of units are bits of their places in the plan. Patterns are kept by the folder that they
begin with, so that only those are compared that can meet at all.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Iterator, Sequence
from functools import reduce
from operator import or_

from flows.planning.edges import ones
from flows.planning.globs import fixed_folder, has_wildcards, matches, may_meet
from flows.planning.plan import Unit

Folder = tuple[str, ...]

MOST_COMPARISONS = 300_000
"""Of patterns; in a plan with more, patterns meet if the folders do that they begin with."""

MOST_WILD = 8_000
"""Of patterns with wildcards, likewise: as many as are kept compiled."""

MOST_LOOKS = 2_000_000
"""At whether a pattern matches a path; after that only patterns without wildcards name paths."""


class WriteSets:
    """The write sets of units; those without one have no part in it."""

    __slots__ = ("_by_folder", "_by_name", "_is_coarse", "_looks_left", "_owners", "_wild")

    def __init__(self, units: Sequence[Unit]) -> None:
        self._owners: defaultdict[str, int] = defaultdict(int)
        for place, unit in enumerate(units):
            for pattern in unit.writes or ():
                self._owners[pattern] |= 1 << place
        by_folder: defaultdict[Folder, list[str]] = defaultdict(list)
        for pattern in self._owners:
            by_folder[fixed_folder(pattern)].append(pattern)
        self._by_folder = dict(by_folder)
        self._by_name: dict[Folder, int] = {}
        self._wild: dict[Folder, list[str]] = {}
        for folder, patterns in by_folder.items():
            self._by_name[folder] = self._union(p for p in patterns if not has_wildcards(p))
            self._wild[folder] = [p for p in patterns if has_wildcards(p) and not is_anything(p)]
        n_wild = sum(map(has_wildcards, self._owners))
        self._is_coarse = n_wild > MOST_WILD or self._n_comparisons() > MOST_COMPARISONS
        self._looks_left = 0 if n_wild > MOST_WILD else MOST_LOOKS

    def meeting(self, n_units: int) -> list[int]:
        """For each unit those whose write set may meet its own; when in doubt, they do."""
        meets = [0] * n_units
        for units, others in self._folders_meeting() if self._is_coarse else self._meeting():
            for place in ones(units):
                meets[place] |= others
            for place in ones(others):
                meets[place] |= units
        return [others & ~(1 << place) for place, others in enumerate(meets)]

    def owners(self, path: str, *, exactly: bool = False) -> int:
        """The units whose write sets name a path; `exactly`: not by a pattern with wildcards.

        A pattern of wildcards alone names nothing. In a plan with more patterns than can be looked
        at, those with wildcards are passed over from some path on.
        """
        found = 0
        for folder in self._around(tuple(path.split("/"))):
            found |= self._by_name.get(folder, 0)
            wild = () if exactly else self._wild.get(folder, ())
            if wild and self._looks_left >= len(wild):
                self._looks_left -= len(wild)
                found |= self._union(each for each in wild if matches(path, (each,)))
        return found

    def _meeting(self) -> Iterator[tuple[int, int]]:
        for folder, patterns in self._by_folder.items():
            around = [each for at in self._around(folder) for each in self._by_folder[at]]
            for pattern in patterns:
                met = self._union(each for each in around if _meet(pattern, each))
                yield self._owners[pattern], met

    def _folders_meeting(self) -> Iterator[tuple[int, int]]:
        within = {folder: self._union(patterns) for folder, patterns in self._by_folder.items()}
        for folder, units in within.items():
            for at in self._around(folder):
                yield units, within[at]

    def _n_comparisons(self) -> int:
        n_all = {folder: len(patterns) for folder, patterns in self._by_folder.items()}
        n_wild = {at: sum(map(has_wildcards, each)) for at, each in self._by_folder.items()}
        return sum(
            n_all[folder] * n_wild[at] + n_wild[folder] * (n_all[at] - n_wild[at])
            for folder in n_all
            for at in self._around(folder)
        )

    def _union(self, patterns: Iterable[str]) -> int:
        return reduce(or_, map(self._owners.__getitem__, patterns), 0)

    def _around(self, folder: Folder) -> Iterator[Folder]:
        """The folders at and above one at which patterns begin."""
        for depth in range(len(folder) + 1):
            if folder[:depth] in self._by_folder:
                yield folder[:depth]


def is_anything(pattern: str) -> bool:
    """Say whether a pattern is made of wildcards alone."""
    return not pattern.strip("*?/.")


def _meet(left: str, right: str) -> bool:
    """Compare two patterns of which one begins at or above the other's folder."""
    return not (has_wildcards(left) or has_wildcards(right)) or may_meet(left, right)
