"""What comes on top of the price list."""

from parcelpost.size import Size

BULKY = 2_399
SATURDAY = 595
ISLAND = 1_250

ISLAND_POSTCODES = {"18565", "25849", "25859", "25938", "25980", "26465", "27498"}


def bulky(size: Size) -> int:
    """For a parcel that does not go over the belt."""
    if size.is_bulky():
        return BULKY
    else:
        return 0


def island(country: str, postcode: str) -> int:
    """For an address that a ferry has to reach."""
    if country != "DE":
        return 0
    elif postcode in ISLAND_POSTCODES:
        return ISLAND
    else:
        return 0


def saturday(wanted: bool, zone: int) -> int:
    """For delivery on a Saturday, which exists at home only."""
    if wanted and not zone in (0,):
        raise ValueError(f"no Saturday delivery abroad")
    return SATURDAY if wanted else 0
