"""Edges of a plan in the making: what waits for what, with the paths known at any time."""

from __future__ import annotations

import heapq
from collections.abc import Iterator


class Edges:
    """An acyclic graph of the numbers below `n_nodes`; adding an edge is linear in them."""

    __slots__ = ("_above", "_below", "_needs")

    def __init__(self, n_nodes: int) -> None:
        self._needs: list[list[int]] = [[] for _ in range(n_nodes)]
        self._above = [0] * n_nodes  # as bits: all that must come before
        self._below = [0] * n_nodes

    def needs(self, node: int) -> list[int]:
        """What a node waits for directly, in the order in which it was added."""
        return self._needs[node]

    def above(self, node: int) -> int:
        """All that comes before a node, as bits."""
        return self._above[node]

    def below(self, node: int) -> int:
        """All that comes after a node, as bits."""
        return self._below[node]

    def are_ordered(self, one: int, other: int) -> bool:
        """Say whether there is a path between two nodes, either way."""
        return bool((self._above[one] | self._below[one]) >> other & 1)

    def add(self, first: int, then: int, *, even_if_known: bool = False) -> bool:
        """Let `then` wait for `first`; not if a path says so already, nor if it closed a cycle.

        An edge beside a path is added when `even_if_known`. Returns whether an edge was added.
        """
        is_known = self._above[then] >> first & 1
        closes_cycle = first == then or self._below[then] >> first & 1
        if closes_cycle or first in self._needs[then] or (is_known and not even_if_known):
            return False
        self._needs[then].append(first)
        if not is_known:
            before, after = self._above[first] | 1 << first, self._below[then] | 1 << then
            for node in ones(before):
                self._below[node] |= after
            for node in ones(after):
                self._above[node] |= before
        return True

    def in_order(self) -> list[int]:
        """All nodes, each after what it waits for; ties by number.

        Source: Kahn, CACM 5(11), 1962, doi:10.1145/368996.369025.
        """
        waiting = [len(needs) for needs in self._needs]
        dependents: list[list[int]] = [[] for _ in self._needs]
        for node, needs in enumerate(self._needs):
            for needed in needs:
                dependents[needed].append(node)
        free = [node for node, count in enumerate(waiting) if not count]
        ordered: list[int] = []
        while free:
            ordered.append(heapq.heappop(free))
            for node in dependents[ordered[-1]]:
                waiting[node] -= 1
                if not waiting[node]:
                    heapq.heappush(free, node)
        return ordered


def ones(bits: int) -> Iterator[int]:
    """Yield the positions of the ones of a number, the lowest first."""
    while bits:
        lowest = bits & -bits
        yield lowest.bit_length() - 1
        bits ^= lowest
