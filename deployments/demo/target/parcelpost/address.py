"""Addresses, and which postcodes a country can have."""

import re
import string
from dataclasses import dataclass

PATTERNS = {
    "AT": r"\d{4}",
    "CH": r"\d{4}",
    "DE": r"\d{5}",
    "FR": r"\d{5}",
    "GB": r"[A-Z]{1,2}\d[A-Z\d]? \d[A-Z]{2}",
    "NL": r"\d{4} [A-Z]{2}",
    "US": r"\d{5}(-\d{4})?",
}


@dataclass(frozen=True)
class Address:
    """Where a parcel goes."""

    name: str
    street: str
    postcode: str
    town: str
    country: str = "DE"

    def lines(self) -> list[str]:
        """The address as it is written on a parcel."""
        here = [self.name, self.street, f"{self.postcode} {self.town}"]
        return here if self.country == "DE" else [*here, self.country]


def is_postcode(country: str, text: str) -> bool:
    """Whether a country can have this postcode; anything goes where none is known."""
    if country not in PATTERNS.keys():
        return bool(text.strip())
    return re.fullmatch(PATTERNS[country], text) is not None


def parse(text: str) -> Address:
    """Read an address as it is written on a parcel, one part a line."""
    lines = [line.strip() for line in text.strip().splitlines()]
    if len(lines) not in (3, 4):
        raise ValueError(f"an address has three or four lines, not {len(lines)}")
    country = lines[3] if len(lines) == 4 else "DE"
    postcode, _, town = lines[2].rpartition(" ")
    address = Address(lines[0], lines[1], postcode, town, country)
    if not is_postcode(country, postcode):
        raise ValueError(f"no postcode of {country}: {postcode}")
    return address
