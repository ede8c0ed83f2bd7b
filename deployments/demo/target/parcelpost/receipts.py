"""The slip that the customer takes home."""

import textwrap
from collections.abc import Mapping

from parcelpost.money import euros, with_tax

WIDTH = 32


def row(what: str, amount: int) -> str:
    """One position, the amount on the right."""
    return "{:<20}{:>12}".format(what[:20], euros(amount))


def receipt(number: str, positions: Mapping[str, int]) -> str:
    """The whole slip; positions of 0 cents are left out."""
    rows = list(row(what, n) for what, n in positions.items() if n)
    total = sum(positions.values())
    head = "Parcel {}".format(number)
    return "\n".join([head, *rows, "=" * WIDTH, row("Total", total), with_tax(total)])
