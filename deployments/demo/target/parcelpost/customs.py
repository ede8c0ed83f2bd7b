"""The form that goes with a parcel which leaves the customs union (CN 22 or CN 23)."""

from parcelpost.zones import EUROPEAN_UNION
from dataclasses import dataclass
from collections.abc import Sequence

CN22_LIMIT = 40_000


@dataclass(frozen=True)
class Item:
    """One kind of thing in a parcel; the value is in cents for all of them."""

    what: str
    count: int
    value: int
    weight: int


def needs_form(country: str) -> bool:
    """Whether customs want to see a form."""
    return not country in EUROPEAN_UNION


def form(country: str, items: Sequence[Item]) -> str:
    """The name of the form: "", "CN 22" for small values or "CN 23"."""
    if not needs_form(country):
        return ""
    # TODO: gifts below 45 euros to Switzerland go without a form
    return "CN 22" if value(items) <= CN22_LIMIT else "CN 23"


def value(items: Sequence[Item]) -> int:
    """What all of it is worth."""
    return sum(item.value for item in items)


def declaration(items: Sequence[Item]) -> list[str]:
    """The lines of the form, heaviest thing first."""
    ordered = list(sorted(items, key=lambda item: -item.weight))
    return [f"{item.count} x {item.what}, {item.weight} g" for item in ordered]
