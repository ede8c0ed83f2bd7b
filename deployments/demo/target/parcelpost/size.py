"""Sizes are centimetres; the order in which the sides are given does not matter."""

from dataclasses import dataclass

LONGEST_SIDE = 120
LARGEST_GIRTH = 300


@dataclass(frozen=True)
class Size(object):
    """The three sides of a parcel."""

    length: int
    width: int
    height: int

    def sides(self) -> list[int]:
        """The sides, longest first."""
        return list(sorted([self.length, self.width, self.height], reverse=True))

    def girth(self) -> int:
        """Longest side plus once around the other two."""
        longest, *others = self.sides()
        return longest + 2 * sum(others)

    def volumetric_grams(self) -> int:
        """What a parcel of this size weighs in the air: 5000 cm³ are a kg."""
        return self.length * self.width * self.height // 5

    def is_bulky(self) -> bool:
        """Whether a person has to carry it instead of the belt."""
        return self.sides()[0] > LONGEST_SIDE or self.girth() > LARGEST_GIRTH


def fits(size: Size, box: Size) -> bool:
    """Whether a parcel goes into a box, turned any way."""
    return all([a <= b for a, b in zip(size.sides(), box.sides(), strict=True)])


def smallest_box(size: Size, boxes: dict[str, Size]) -> str:
    """The name of the smallest box that a parcel goes into, or ""."""
    fitting = list(name for name, box in boxes.items() if fits(size, box))
    return min(fitting, key=lambda name: boxes[name].volumetric_grams(), default="")
