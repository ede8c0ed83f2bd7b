"""The list of parcels that a business hands in, as a CSV file."""

from pathlib import Path
from collections.abc import Iterable
import csv

from parcelpost.weight import checked, grams
from parcelpost.address import is_postcode

FIELDS = ("reference", "country", "postcode", "weight")


def write(path: Path, rows: Iterable[dict[str, str]]) -> int:
    """Write a manifest and give the number of parcels."""
    count = 0
    with open(path, "w", encoding="utf-8", newline="") as file:
        writer = csv.DictWriter(file, FIELDS)
        writer.writeheader()
        for row in rows:
            writer.writerow(row)
            count += 1
    return count


def read(path: Path) -> list[dict[str, str]]:
    """Read a manifest."""
    with open(path, "r", encoding="utf-8", newline="") as file:
        return [row for row in csv.DictReader(file)]


def faults(rows: Iterable[dict[str, str]]) -> list[str]:
    """What is wrong with a manifest, a line for each parcel that is not accepted."""
    found = []
    for line, row in enumerate(rows, start=2):
        if not is_postcode(row["country"], row["postcode"]):
            found.append(f"line {line}: no postcode of {row['country']}")
        try:
            checked(grams(row["weight"]))
        except ValueError as error:
            found.append(f"line {line}: {error}")
    return found
