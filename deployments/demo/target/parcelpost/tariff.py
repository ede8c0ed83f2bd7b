"""The price list: by zone and weight step, in cents."""

from bisect import bisect_left
from typing import Dict, List, Optional, Tuple

STEPS: List[int] = [1_000, 2_000, 5_000, 10_000, 20_000, 31_500]

PRICES: Dict[int, Tuple[int, ...]] = {
    0: (495, 599, 699, 999, 1_549, 1_999),
    1: (899, 1_149, 1_499, 2_099, 3_249, 4_499),
    2: (1_149, 1_399, 1_849, 2_549, 3_999, 5_499),
    3: (1_599, 2_149, 3_249, 4_999, 8_499, 12_499),
}


class NoPrice(LookupError):
    """The price list has no entry for this."""


def step(weight: int) -> int:
    """The index of the weight step that a parcel falls into."""
    index = bisect_left(STEPS, weight)
    if index == len(STEPS):
        raise NoPrice(f"{weight} g")
    return index


def price(zone: int, weight: int) -> int:
    """What a parcel costs, without extras."""
    row = PRICES.get(zone)
    if row is None:
        raise NoPrice(f"zone {zone}")
    return row[step(weight)]


def next_step(weight: int) -> Optional[int]:
    """How many grams may be added before the price changes; None in the last step."""
    index = step(weight)
    return None if index == len(STEPS) - 1 else STEPS[index] - weight
