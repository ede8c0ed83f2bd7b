"""What the clerk at the counter asks for: one quote for one parcel."""

from parcelpost.zones import flies, zone
from parcelpost.weight import checked, grams
from parcelpost.size import Size
from parcelpost import insurance, surcharges, tariff
from dataclasses import dataclass


@dataclass(frozen=True)
class Quote:
    """What a parcel costs, position by position."""

    positions: dict[str, int]

    @property
    def total(self) -> int:
        """All of it, in cents."""
        return sum(self.positions.values())


def quote(
    weight: str,
    size: Size,
    destination: str,
    postcode: str = "",
    value: int = 0,
    saturday: bool = False,
) -> Quote:
    """Price a parcel; by air the larger of real and volumetric weight counts."""
    real = checked(grams(weight))
    counted = max(real, size.volumetric_grams()) if flies(destination) else real
    where = zone(destination)
    return Quote(
        {
            "parcel": tariff.price(where, counted),
            "bulky": surcharges.bulky(size),
            "island": surcharges.island(destination, postcode),
            "Saturday": surcharges.saturday(saturday, where),
            "insurance": insurance.premium(value),
        }
    )
