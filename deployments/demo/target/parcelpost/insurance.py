"""Cover above the 500 euros that every parcel has."""

from decimal import Decimal
from math import ceil

INCLUDED = 50_000
HIGHEST = 2_500_000
STEP = 50_000
PER_STEP = 350


class NotInsurable(ValueError):
    """The contents are worth more than the post office covers."""


def premium(value: int) -> int:
    """What cover for a value costs: 3.50 euros for each started 500 above the first."""
    if value > HIGHEST:
        raise NotInsurable(value)
    return max(0, ceil((value - INCLUDED) / STEP)) * PER_STEP


def payout(value: int, paid: int) -> int:
    """What is paid for a lost parcel: its value, up to what the premium covered."""
    steps = paid / PER_STEP
    covered: int = INCLUDED + steps * STEP
    return min(value, int(covered))
