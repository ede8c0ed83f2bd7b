"""The way from depot to depot that takes the fewest minutes."""

from heapq import heappop, heappush
from typing import Dict, List, Mapping, Tuple

Roads = Mapping[str, Mapping[str, int]]

ROADS: Roads = {
    "Hamburg": {"Bremen": 95, "Berlin": 175, "Hannover": 100},
    "Bremen": {"Hamburg": 95, "Hannover": 85, "Köln": 190},
    "Hannover": {"Hamburg": 100, "Bremen": 85, "Berlin": 170, "Frankfurt": 210},
    "Berlin": {"Hamburg": 175, "Hannover": 170, "Leipzig": 115},
    "Leipzig": {"Berlin": 115, "Nürnberg": 165},
    "Köln": {"Bremen": 190, "Frankfurt": 115},
    "Frankfurt": {"Köln": 115, "Hannover": 210, "Nürnberg": 140},
    "Nürnberg": {"Frankfurt": 140, "Leipzig": 165, "München": 105},
    "München": {"Nürnberg": 105},
}


class NoWay(LookupError):
    """No road leads there."""


def route(start: str, goal: str, roads: Roads = ROADS) -> Tuple[int, List[str]]:
    """Minutes and depots of the fastest way (Dijkstra, 1959)."""
    heap: List[Tuple[int, List[str]]] = [(0, [start])]
    done: Dict[str, int] = {}
    while heap:
        minutes, way = heappop(heap)
        if way[-1] == goal:
            return minutes, way
        if way[-1] in done:
            continue
        done[way[-1]] = minutes
        for depot, more in roads.get(way[-1], {}).items():
            heappush(heap, (minutes + more, [*way, depot]))
    raise NoWay(f"{start} to {goal}")


def depots(roads: Roads = ROADS) -> List[str]:
    """All depots, by name."""
    return sorted(set([*roads.keys(), *[b for way in roads.values() for b in way]]))
