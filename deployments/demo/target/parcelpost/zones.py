"""A zone is what a country costs: 0 at home, 3 at the other end of the world."""

from parcelpost.countries import EUROPE, EUROPEAN_UNION, HOME, NEIGHBOURS, is_code


class UnknownCountry(ValueError):
    """The text is no country code."""


def zone(country: str) -> int:
    """The zone of a country."""
    if not is_code(country):
        raise UnknownCountry(country)
    if country == HOME:
        return 0
    if country in NEIGHBOURS:
        return 1
    return 2 if country in EUROPE else 3


def flies(country: str) -> bool:
    """Whether a parcel goes by air: beyond Europe, and to its islands."""
    return not country in EUROPE or country in ("CY", "IS", "MT")
